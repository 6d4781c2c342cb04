"""How processes are started, what they share, and how they end with the one that started them."""

import concurrent.futures
import contextlib
import ctypes
import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from mcc_caffe.core.errors import UserError

Result = TypeVar("Result")

_SHARED_MEMORY = "/dev/shm"
_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask a run to end: Ctrl-C, SIGTERM and the loss of the terminal.

    Under `nohup` the loss of the terminal is ignored, and stays so.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return signal.SIGINT, signal.SIGTERM
    return signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def asks_for_end_at_once(number: int, earlier: Sequence[int]) -> bool:
    """Tell whether a stop signal that comes after earlier ones is to hasten the end.

    Those of a closed terminal hasten nothing: it sends two, and they may come beside Ctrl-C.
    """
    return number != signal.SIGHUP and any(other != signal.SIGHUP for other in earlier)


@contextlib.contextmanager
def stop_signals_handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Call a function of (number, frame) at each of `stop_signals` that comes in the block.

    Handlers of a program that embeds Python, such as `caffe`, stay: Python cannot put them back.
    """
    handlers = {number: signal.getsignal(number) for number in stop_signals()}
    old_handlers = {number: old for number, old in handlers.items() if old is not None}
    try:
        for number in old_handlers:
            signal.signal(number, handler)
        yield
    finally:
        for number, old_handler in old_handlers.items():
            signal.signal(number, old_handler)


@contextlib.contextmanager
def stop_signals_deferred() -> Iterator[None]:
    """Let `stop_signals` that come in the block act at its end.

    A process that ends while it starts another one leaves that one without its arguments; the new
    one then prints a traceback. Outside the main thread Python can defer none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    try:
        with stop_signals_handled(lambda number, frame: received.append(number)):
            yield
    finally:
        for number in received:
            signal.raise_signal(number)


@contextlib.contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Hold a signal back in this thread, and permanently in the processes that it starts."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def start_resource_tracker() -> None:
    """Start Python's resource tracker, which removes what processes share when all have ended.

    By itself it ignores Ctrl-C. Here it also outlives the loss of the terminal: where it dies, its
    successor prints tracebacks.
    """
    with _blocked(signal.SIGHUP):
        resource_tracker.ensure_running()


@contextlib.contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """Hold Ctrl-C back in this thread, and permanently in the processes that it starts.

    A terminal sends Ctrl-C to all of them. Only the process that the user started is to handle it;
    another one would end in a traceback, even while it still imports.
    """
    start_resource_tracker()  # its start lets the signal through
    with _blocked(signal.SIGINT):
        yield


@contextlib.contextmanager
def shared_memory_errors(remedy: str) -> Iterator[None]:
    """Turn the error of a system without shared memory into a UserError that says so.

    Args:
        remedy: What else the user can do, such as "take --workers 0".
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EMFILE):  # too many processes or open files
            raise
        raise UserError(
            f"{_SHARED_MEMORY} cannot be used ({error.strerror}), which the processes of a command "
            f"share: mount it writable with room, or {remedy}"
        ) from None


def terminate_with_parent(parent: int) -> None:
    """Let SIGTERM reach this process as soon as its parent ends, even if that was killed.

    The system sends it when the thread that started this process ends: let a main thread start it.

    Args:
        parent: Id of the parent, which may have ended before.
    """
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)


def end_at_ctrl_c() -> None:
    """Let Ctrl-C end this process at once and in silence, even one that came while it started."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class WorkerPool(concurrent.futures.ProcessPoolExecutor):
    """A pool of processes that end with the one that made it, even where that is killed.

    Ctrl-C does not reach them, unless `prepare` calls `end_at_ctrl_c`. Use the pool as a context
    manager: where the block ends, what runs is waited for, and what has not begun is dropped.
    """

    def __init__(self, processes: int, prepare: Callable[[], object], remedy: str) -> None:
        """Make the pool; its processes start when there is work for them.

        Args:
            processes: Their number.
            prepare: What each calls before its work.
            remedy: What the user can do where one of them ends by itself, such as "try fewer
                --processes".

        Raises:
            RuntimeError: The limit on processes and threads leaves no room for a worker.
        """
        start_resource_tracker()
        _check_thread_room()
        context = multiprocessing.get_context("spawn")
        super().__init__(processes, context, _prepare_worker, (prepare,))
        self._remedy = remedy

    def submit(
        self, function: Callable[..., Result], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Result]:
        with stop_signals_deferred(), ctrl_c_blocked():
            return super().submit(function, *args, **kwargs)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Raise UserError where a process ended by itself."""
        self.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "a worker process ended by itself, for lack of memory or of threads perhaps: "
                f"{self._remedy}"
            ) from None


def _check_thread_room() -> None:
    """Raise RuntimeError where the threads of a pool with one worker cannot all be started.

    They are four: two of the pool itself, the worker, which the limit counts as a thread, and the
    thread that `_prepare_worker` starts in it. Without room the pool would wait for ever.
    """
    is_over = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        try:
            for _ in range(4):
                threads.submit(is_over.wait)
        finally:
            is_over.set()


def _prepare_worker(prepare: Callable[[], object]) -> None:
    try:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    except RuntimeError:  # no thread is left; the pool says that this process ended
        os._exit(1)
    prepare()


def _end_with_parent() -> None:
    """End this process as soon as its parent ends, even if that was killed."""
    # `terminate_with_parent` would end it with the thread that first submitted work.
    parent = multiprocessing.parent_process()
    assert parent is not None  # only workers call this
    parent.join()
    os._exit(1)
