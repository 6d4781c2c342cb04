"""Times and memory of repeated calls. Imports nothing but Python's own: peers use it in environments of theirs."""

import statistics
import time


def timed(call, least: int, seconds: float) -> list:
    """Seconds of each call, `least` of them and more until `seconds` have passed."""
    times, start = [], time.perf_counter()
    while len(times) < least or time.perf_counter() - start < seconds:
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times


def spread(times: list) -> dict:
    """{"median", "p10", "p90", "runs"} of seconds; with few runs the percentiles are the least and the most."""
    tenths = statistics.quantiles(times, n=10, method="inclusive") if len(times) > 1 else times
    return {
        "median": statistics.median(times),
        "p10": tenths[0],
        "p90": tenths[-1],
        "runs": len(times),
    }


def peak_mib() -> float:
    """The most memory that this process ever held, MiB. (ru_maxrss would begin with what its parent held.)"""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
