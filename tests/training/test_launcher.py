"""Processes that train together on one machine: a failure, a signal or a kill ends them all."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from mcc_caffe.caffe_io import snapshots
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.processes import stop_signals_handled
from mcc_caffe.core.ranks import STOP_AT_ONCE, StopSignal
from mcc_caffe.core.start import INTERRUPTED, Terminated
from mcc_caffe.training.launcher import launch
from tests.support.commands import (
    group_processes,
    hear_a_hang_up,
    start,
    wait_for,
    wait_until_ended,
)


def _write_pid(rank, folder):
    """Write the process's id to the file of its rank, which has it at once or is not there."""
    (folder / f"new{rank}").write_text(str(os.getpid()))
    (folder / f"new{rank}").rename(folder / str(rank))


def _fail_in_rank_1(rank, folder):
    _write_pid(rank, folder)
    if rank == 1:
        until = time.monotonic() + 60
        while time.monotonic() < until and not all((folder / name).exists() for name in "02"):
            time.sleep(0.01)
        sys.exit(7)
    time.sleep(300)
    (folder / f"{rank}_was_not_ended").write_text("")


def test_a_failed_rank_ends_the_others(tmp_path):
    with pytest.raises(UserError, match="rank 1 ended with exit code 7") as caught:
        launch(_fail_in_rank_1, 3, tmp_path)
    assert caught.value.code == 7 and {path.name for path in tmp_path.iterdir()} == set("012")
    for path in tmp_path.iterdir():
        assert not pathlib.Path(f"/proc/{path.read_text()}").exists()


def call_when_both_run(folder, function):
    """Call a function in a thread of its own once ranks 0 and 1 have written their ids."""

    def wait_and_call():
        until = time.monotonic() + 60
        while not all((folder / name).exists() for name in "01"):
            if time.monotonic() > until:
                return  # the function's signals would end the tests
            time.sleep(0.05)
        function()

    thread = threading.Thread(target=wait_and_call)
    thread.start()
    return thread


def _end_after_the_first_signal(rank, folder):
    """Rank 0 counts its signals for a while after the first one; the other rank dies of its own."""
    if rank == 0:
        numbers = []
        signal.signal(signal.SIGTERM, lambda number, frame: numbers.append(number))
    _write_pid(rank, folder)
    if rank:
        time.sleep(300)
    while not numbers:
        time.sleep(0.01)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        time.sleep(0.01)
    (folder / "signals").write_text(str(len(numbers)))


def test_rank_0_gets_one_signal_from_its_launcher(tmp_path):
    """A second one could kill it while it takes its snapshot and ends."""

    def send_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(int((tmp_path / "1").read_text()), signal.SIGTERM)

    sender = call_when_both_run(tmp_path, send_signals)
    launch(_end_after_the_first_signal, 2, tmp_path)
    sender.join()
    assert (tmp_path / "signals").read_text() == "1"


def _end_slowly(rank, folder):
    """Rank 0 goes on after the first signal, as one does that takes a long snapshot."""
    stop = StopSignal()
    if rank == 0:
        stop.install(at_once=STOP_AT_ONCE)
    _write_pid(rank, folder)
    try:
        while rank == 0 and not stop.received:
            time.sleep(0.01)
        (folder / f"{rank}_goes_on").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@pytest.mark.parametrize(
    "number, expected", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_second_signal_ends_the_ranks_at_once(number, expected, tmp_path):
    sent = []

    def send_signals():
        os.kill(os.getpid(), number)
        until = time.monotonic() + 60
        while time.monotonic() < until and not (tmp_path / "0_goes_on").exists():
            time.sleep(0.01)  # two at once would count as a single one
        os.kill(os.getpid(), number)
        sent.append(time.monotonic())

    sender = call_when_both_run(tmp_path, send_signals)
    with pytest.raises(KeyboardInterrupt) as caught:
        launch(_end_slowly, 2, tmp_path)
    sender.join()
    assert caught.type is expected
    assert time.monotonic() - sent[0] < 20


@pytest.mark.parametrize(
    "number, expected", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_second_signal_ends_a_rank_that_is_alone_at_once(number, expected):
    with stop_signals_handled(lambda *_: None):  # it restores the handlers
        stop = StopSignal()
        stop.install()
        signal.raise_signal(number)
        assert stop.received
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(number)
    assert caught.type is expected


def start_two_ranks(data, folder, **options):
    """Start a training of two processes as a user would, in a process group of its own."""
    command = ("mcc_caffe.train", data, "--processes", 2, "--out", folder, "--iterations", 5000)
    fast = ("--batch-size", 2, "--interval", 1, "--workers", 1)
    return start(*command, *fast, start_new_session=True, **options)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 1.0])
def test_ranks_end_with_a_launcher_that_is_killed_at_any_time(delay, drawn_set, tmp_path):
    process = start_two_ranks(drawn_set, tmp_path / "run")
    wait_for(lambda: len(group_processes(process.pid)) >= 3, process)  # also a tracker
    time.sleep(delay)
    process.kill()
    process.communicate()
    wait_until_ended(lambda: group_processes(process.pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.0, 0.5, 1.5, 4.0])
def test_a_signal_to_all_ranks_leaves_nothing_behind(number, delay, drawn_set, tmp_path):
    """As a terminal sends Ctrl-C: to the launcher, the ranks and the loaders' workers."""
    process = start_two_ranks(drawn_set, tmp_path / "run", stdout=subprocess.DEVNULL)
    wait_for(lambda: len(group_processes(process.pid)) >= 3, process)
    time.sleep(delay)
    os.killpg(process.pid, number)
    errors = process.communicate(timeout=120)[1]
    assert "leaked" not in errors and "Traceback" not in errors, errors
    wait_until_ended(lambda: group_processes(process.pid))


@pytest.fixture
def pair_of_ranks(drawn_set, tmp_path):
    """A training of two processes that has written a line of its log."""
    folder = tmp_path / "run"
    process = start_two_ranks(drawn_set, folder, preexec_fn=hear_a_hang_up)
    wait_for(lambda: (folder / "log.jsonl").read_text(), process)
    yield process, folder
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_ranks_takes_a_snapshot(number, pair_of_ranks):
    # It reaches rank 0 twice: from the user, and from the launcher, which hands it on.
    process, folder = pair_of_ranks
    os.killpg(process.pid, number)
    for _ in range(2):  # as a closed terminal sends
        time.sleep(0.005)
        os.killpg(process.pid, signal.SIGHUP)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "stopped; go on with --resume auto" in output and "error" not in errors
    assert "Traceback" not in errors and "resource_tracker" not in errors, errors
    assert snapshots.newest(folder / "snapshots")
    wait_until_ended(lambda: group_processes(process.pid))


@pytest.mark.parametrize("times", [2, 3, 5])
def test_further_signals_leave_no_rank_behind(times, pair_of_ranks):
    process, _ = pair_of_ranks
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    errors = process.communicate(timeout=60)[1]
    # 0: the first one had ended it already; -SIGINT: the last one came while Python was ending.
    assert process.returncode in (0, 130, -signal.SIGINT), errors
    assert "Traceback" not in errors and "leaked" not in errors and "error" not in errors, errors
    assert errors.count("interrupted") <= 1, errors
    wait_until_ended(lambda: group_processes(process.pid))
