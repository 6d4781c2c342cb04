"""Starts the processes that train together on one machine, and ends them together."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess
from typing import Any

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.processes import (
    asks_for_end_at_once,
    ctrl_c_blocked,
    stop_signals,
    stop_signals_handled,
    terminate_with_parent,
)
from mcc_caffe.core.ranks import STOP_AT_ONCE
from mcc_caffe.core.start import INTERRUPTED, stop_error

GRACE_SECONDS = 30.0  # that rank 0 has for a last snapshot when another rank failed


def launch(target: Callable[..., None], rank_count: int, *args: Any) -> None:
    """Run target(rank, *args) in several processes; when rank 0 ends or another fails, all end.

    The first of the `stop_signals` is handed on to rank 0 as SIGTERM; where the user sends another,
    rank 0 gets STOP_AT_ONCE. A signal may have gone to all processes. Then it is no failure that
    other ranks end.

    Args:
        target: A function of a module, which the spawned processes can import.
        rank_count: The number of processes.
        *args: What every process gets after its rank; they are pickled.

    Raises:
        UserError: A process failed; the error has its exit code.
        KeyboardInterrupt: Rank 0 was ended by a signal: the second one, or the first if it came
            before rank 0 handled signals. Terminated: that signal was SIGTERM or SIGHUP.
    """
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_run_rank, args=(target, rank, *args), name=f"rank {rank}")
        for rank in range(rank_count)
    ]
    signals: list[int] = []

    def stop_rank_0(number: int, frame: Any) -> None:
        is_first, at_once = not signals, asks_for_end_at_once(number, signals)
        signals.append(number)
        if (is_first or at_once) and processes[0].pid and processes[0].is_alive():
            os.kill(processes[0].pid, STOP_AT_ONCE if at_once else signal.SIGTERM)

    with stop_signals_handled(stop_rank_0):
        failed = _run_all(processes, signals)
    ended_by_signal = [-number for number in stop_signals()]
    if signals and failed and failed.exitcode in ended_by_signal:
        failed = processes[0] if processes[0].exitcode else None
    # A further signal may have killed rank 0 while it already ended.
    if signals and failed and failed.exitcode in (*ended_by_signal, -STOP_AT_ONCE, INTERRUPTED):
        raise stop_error(signals[-1])
    if failed:
        raise _failure(failed)


def _run_rank(target: Callable[..., None], rank: int, *args: Any) -> None:
    """Run target(rank, *args) as a process that ends with its launcher."""
    launcher = multiprocessing.parent_process()
    assert launcher is not None and launcher.pid is not None  # only ranks call this
    terminate_with_parent(launcher.pid)
    target(rank, *args)


def _run_all(processes: Sequence[SpawnProcess], signals: Sequence[int]) -> SpawnProcess | None:
    """Start all processes, wait for the first end that counts, and end them all.

    Args:
        processes: The processes, rank 0 first.
        signals: The stop signals that have come so far.

    Returns:
        The process that failed; None where rank 0 ended well.
    """
    started = []
    try:
        with ctrl_c_blocked():
            for process in processes:
                process.start()
                started.append(process)
        if signals:
            processes[0].terminate()
        return _wait_for_the_first(processes)
    finally:
        # Rank 0 has got the signal already: another one may kill it while Python itself ends.
        _end(started, to_stop=started[1:] if signals else started)


def _wait_for_the_first(processes: Sequence[SpawnProcess]) -> SpawnProcess | None:
    """Wait until rank 0 has ended or some rank has failed; return the one that failed."""
    running, failed = list(processes), None
    while processes[0] in running and not failed:
        multiprocessing.connection.wait([process.sentinel for process in running])
        running = [process for process in running if process.is_alive()]
        failed = next((process for process in processes if process.exitcode), None)
    return failed


def _end(processes: Sequence[SpawnProcess], to_stop: Sequence[SpawnProcess]) -> None:
    """Ask processes to end, and kill all that still run after GRACE_SECONDS.

    Args:
        processes: All of them.
        to_stop: Those that do not know yet that they are to end.
    """
    for process in to_stop:
        process.terminate()
    until = time.monotonic() + GRACE_SECONDS
    for process in processes:
        process.join(max(until - time.monotonic(), 0))
        process.kill()
        process.join()


def _failure(process: SpawnProcess) -> UserError:
    """Return the error that says how a process failed."""
    code = process.exitcode or 0
    reason = (
        f"ended with exit code {code}"
        if code > 0
        else f"was killed by {signal.Signals(-code).name}"
    )
    error = UserError(f"{process.name} {reason}: the other ranks were stopped")
    error.code = code if code > 0 else 128 - code
    return error
