"""What a figure is measured by, and how a peer is asked for one."""

import dataclasses
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from benchmarks.peers.environment import last_line

ROOT = pathlib.Path(__file__).parent.parent
CORES = len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class Job:
    """A step of a run. table: the one that its rows belong to. label: for the progress bar. run: returns the rows, dicts."""

    table: str
    label: str
    run: Callable


def threads_of(count: int) -> dict:
    """Environment variables for so many threads of every BLAS and OpenMP library."""
    return {
        name: str(count)
        for name in (
            "OPENBLAS_NUM_THREADS",
            "OMP_NUM_THREADS",
            "BLIS_NUM_THREADS",
            "MKL_NUM_THREADS",
        )
    }


def in_process(function, *args):
    """function(*args) in a new process, which leaves no memory and no thread behind."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def ask(python, module: str, *args, setting: dict = {}) -> dict:
    """The JSON that `python -m module args` prints last; {"status": "failed: why"} where it ends otherwise. setting: environment variables."""
    with tempfile.TemporaryFile("w+") as chatter:
        done = subprocess.run(
            [python, "-m", module, *map(str, args)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=chatter,
            text=True,
            env={**os.environ, **setting},
        )
        if done.returncode:
            chatter.seek(0)
            return {"status": _failed(done.returncode, chatter.read())}
    return json.loads(done.stdout.strip().splitlines()[-1])


def printed(module: str, *args) -> list:
    """The lines of the Markdown table that one of our benchmarks prints, `python -m module args`, as dicts of texts."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, args)], cwd=ROOT, capture_output=True, text=True
    )
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in done.stdout.splitlines()
        if line.startswith("|")
    ]
    if done.returncode or len(lines) < 3:
        return [{"status": _failed(done.returncode, done.stderr)}]
    columns, _, *lines = lines
    return [dict(zip(columns, line)) | {"status": ""} for line in lines]


def _failed(code: int, said: str) -> str:
    return f"failed: was killed by signal {-code}" if code < 0 else f"failed: {last_line(said)}"
