"""The steps of a run, and how other processes are asked for a figure."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from benchmarks.timing import spread
from caffe_build import check
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.processes import WorkerPool, end_at_ctrl_c
from mcc_caffe.training.run_log import LogLine, read_log

ROOT = pathlib.Path(__file__).parent.parent
CORES = len(os.sched_getaffinity(0))
TURNS, QUICK_TURNS = 5, 2  # that `in_turns` takes in a run, and in one with --quick

Row = dict[str, Any]  # of a table; its "status" is empty, or says why there is no figure
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Job:
    """A step of a run.

    Attributes:
        table: Name of the table that its rows belong to.
        label: Description for the progress bar.
        run: Function that measures and returns the rows.
    """

    table: str
    label: str
    run: Callable[[], list[Row]]


def threads_of(count: int) -> dict[str, str]:
    """Return the environment variables that give every BLAS and OpenMP library `count` threads."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS", "MKL_NUM_THREADS")
    return {name: str(count) for name in names}


def in_process(function: Callable[..., Result], *args: Any) -> Result:
    """Call the function in a new process, which leaves no memory and no thread behind."""
    with WorkerPool(1, end_at_ctrl_c, "run it with more memory") as pool:
        return pool.submit(function, *args).result()


def run_module(
    python: str | pathlib.Path,
    module: str,
    *args: object,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run `python -m module args` and return what it prints.

    Args:
        python: The interpreter.
        module: The module to run.
        args: Its arguments.
        environment: Variables to set beside those of this process.

    Raises:
        UserError: The process fails; the message is "failed: " and the reason.
    """
    done = subprocess.run(
        [python, "-m", module, *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise UserError(f"failed: {check.reason(done.returncode, done.stderr)}")
    return done.stdout


def ask(
    python: str | pathlib.Path,
    module: str,
    *args: object,
    environment: Mapping[str, str] | None = None,
) -> Row:
    """Run a module as `run_module` does, and return the JSON of its last line.

    Returns:
        The printed JSON, or {"status": "failed: reason"} where the process fails.
    """
    try:
        output = run_module(python, module, *args, environment=environment)
    except UserError as error:
        return {"status": str(error)}
    return json.loads(output.strip().splitlines()[-1])


def run_training(
    source: pathlib.Path,
    options: Mapping[str, object],
    environment: Mapping[str, str] | None = None,
) -> list[LogLine]:
    """Run `mcc_caffe.train` and return the lines of its log, one for each iteration.

    Args:
        source: LMDB set to train on.
        options: {option: value} of the command, beside --out and --interval.
        environment: Variables to set beside those of this process.

    Raises:
        UserError: The training fails; the message says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        all_options = {**options, "--interval": 1, "--out": folder}
        words = [source, *(word for option in all_options.items() for word in option)]
        run_module(sys.executable, "mcc_caffe.train", *words, environment=environment)
        return read_log(pathlib.Path(folder))


def in_turns(measurements: Sequence[Callable[[], list[Row]]], turns: int) -> list[Row]:
    """Take each measurement `turns` times, one after the other in turn.

    So what else the machine does meanwhile, and how warm it is, counts for all of them alike.

    Args:
        measurements: Functions that each return one row, with the keys of `timing.spread`.
        turns: Number of turns.

    Returns:
        A row for each measurement, with the times of all its turns. It is the row of the turn that
        failed, where one did; that measurement takes no further turn.
    """
    turns_of_rows: list[list[Row]] = [[] for _ in measurements]
    for _ in range(turns):
        for measure, own_turns in zip(measurements, turns_of_rows):
            if not own_turns or not own_turns[-1]["status"]:
                own_turns += measure()
    rows = []
    for own_turns in turns_of_rows:
        row = own_turns[-1]
        if not row["status"]:
            row = row | spread([time for turn in own_turns for time in turn["times"]])
        rows.append(row)
    return rows


def read_printed_table(module: str, *args: object) -> list[Row]:
    """Run one of our benchmarks and return the lines of the Markdown table that it prints."""
    try:
        output = run_module(sys.executable, module, *args)
    except UserError as error:
        return [{"status": str(error)}]
    columns, _, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in output.splitlines()
        if line.startswith("|")
    )
    return [dict(zip(columns, line)) | {"status": ""} for line in lines]
