"""Processes end with the one that started them, and in silence."""

import errno
import os
import signal
import sys
import threading

import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.processes import (
    WorkerPool,
    asks_for_end_at_once,
    end_at_ctrl_c,
    shared_memory_errors,
    stop_signals_deferred,
    stop_signals_handled,
)
from tests.support.commands import (
    SIGNAL_AT_START,
    group_processes,
    importing_this_project,
    run_code,
    start_program,
    wait_until_ended,
)

POOL = """
import time
from mcc_caffe.core.processes import WorkerPool, end_at_ctrl_c

with WorkerPool(2, end_at_ctrl_c, "try fewer") as pool:
    works = [pool.submit(time.sleep, {seconds}) for _ in range(2)]
    print("submitted", flush=True)
    works[0].result()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_deferred_signal_acts_at_the_end_of_the_block(number):
    numbers = []
    with stop_signals_handled(lambda number, frame: numbers.append(number)):
        with stop_signals_deferred():
            os.kill(os.getpid(), number)
            assert not numbers
        assert numbers == [number]


@pytest.mark.parametrize(
    "numbers, hastens",
    [
        ([signal.SIGINT], False),
        ([signal.SIGHUP, signal.SIGHUP], False),
        ([signal.SIGINT, signal.SIGHUP], False),
        ([signal.SIGHUP, signal.SIGINT], False),
        ([signal.SIGINT, signal.SIGINT], True),
        ([signal.SIGHUP, signal.SIGTERM, signal.SIGTERM], True),
    ],
)
def test_a_closed_terminal_hastens_no_end(numbers, hastens):
    *earlier, last = numbers
    assert asks_for_end_at_once(last, earlier) == hastens


def test_another_thread_defers_no_signal():
    blocks = []

    def enter():
        with stop_signals_deferred():
            blocks.append(1)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert blocks


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_worker_starts_ends_the_pool_in_silence(number):
    code = f"""{SIGNAL_AT_START}
signal.signal(int(sys.argv[1]), lambda *_: sys.exit(130))
{POOL.format(seconds=0)}
"""
    done = run_code(code, int(number), start_new_session=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "number, expected", [(errno.EMFILE, OSError), (errno.EAGAIN, OSError), (errno.EROFS, UserError)]
)
def test_shared_memory_is_not_blamed_for_other_limits(number, expected):
    with pytest.raises(expected), shared_memory_errors("take --workers 0"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("room", range(4))
def test_a_pool_without_room_for_its_threads_is_refused(room, monkeypatch):
    """The pool itself would wait for ever where there is room for one thread."""
    start, started = threading.Thread.start, []

    def start_if_there_is_room(thread):
        if len(started) == room:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_there_is_room)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        WorkerPool(1, end_at_ctrl_c, "try fewer")
    assert len(started) == room and not any(thread.is_alive() for thread in started)


def test_a_worker_without_room_for_its_thread_ends_in_silence():
    code = """
import threading
from mcc_caffe.core.processes import _prepare_worker

def start(thread):
    raise RuntimeError("can't start new thread")

threading.Thread.start = start
_prepare_worker(lambda: print("prepared"))
"""
    done = run_code(code)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_a_hang_up_of_all_processes_ends_the_pool_in_silence():
    code = f"""import os, signal, sys
signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
{POOL.format(seconds=0)}
    os.kill(0, signal.SIGHUP)
"""
    done = run_code(code, start_new_session=True)
    assert (done.returncode, done.stderr) == (129, "")


def test_workers_end_with_a_pool_that_is_killed():
    environment = importing_this_project(os.environ)
    words = (sys.executable, "-c", POOL.format(seconds=1000))
    process = start_program(*words, env=environment, start_new_session=True)
    assert process.stdout.readline() == "submitted\n"
    process.kill()
    process.communicate()
    wait_until_ended(lambda: group_processes(process.pid))
