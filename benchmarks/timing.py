"""Times of calls, the memory of a process or a GPU, and how a process that measures starts.

This module imports only Python's own modules, since the peers use it in their own environments.
"""

import inspect
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")


def timed(call: Callable[[], object], least: int, seconds: float) -> list[float]:
    """Return the seconds of each call: `least` calls, and more until `seconds` have passed."""
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < least or time.perf_counter() - start < seconds:
        call_start = time.perf_counter()
        call()
        times.append(time.perf_counter() - call_start)
    return times


def spread(times: list[float]) -> dict[str, Any]:
    """Summarize seconds as {"median", "p10", "p90", "runs", "times"}; "times" are the seconds.

    The percentiles are interpolated between the runs.
    """
    tenths = statistics.quantiles(times, n=10, method="inclusive") if len(times) > 1 else times
    return {
        "median": statistics.median(times),
        "p10": tenths[0],
        "p90": tenths[-1],
        "runs": len(times),
        "times": times,
    }


class StepTimer:
    """Collects the seconds of each step of some work that is done again and again."""

    def __init__(self, steps: Sequence[str]) -> None:
        """Prepare the timer of the steps with these names."""
        self.seconds: dict[str, list[float]] = {step: [] for step in steps}

    def run(self, step: str, function: Callable[..., Result], *args: Any) -> Result:
        """Call function(*args) as a step and return its result."""
        start = time.perf_counter()
        result = function(*args)
        self.seconds[step].append(time.perf_counter() - start)
        return result

    def medians(self) -> dict[str, float]:
        """Return the median seconds of each step."""
        return {step: statistics.median(seconds) for step, seconds in self.seconds.items()}


def run_worker(main: Callable[..., None], description: str | None) -> None:
    """Call main with the process's arguments, or end with the description where they do not fit.

    `--help` prints the description.
    """
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(description)
        return
    try:
        inspect.signature(main).bind(*sys.argv[1:])
    except TypeError:
        sys.exit(description)
    main(*sys.argv[1:])


def peak_mib() -> float:
    """Return the most memory that this process ever held, in MiB."""
    # resource's ru_maxrss would begin with what the parent process held.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def gpu_memory_mib(gpu: int | None) -> int | None:
    """Return the MiB of a GPU's memory that all processes on it use now; None for the CPU.

    CUDA's own share is among them, which PyTorch's count of its memory lacks.
    """
    return None if gpu is None else int(query_card(gpu, "memory.used"))


def query_card(gpu: int, facts: str) -> str:
    """Return facts about a GPU, such as "name,driver_version", in nvidia-smi's words."""
    query = ["nvidia-smi", f"--id={gpu}", f"--query-gpu={facts}", "--format=csv,noheader,nounits"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
