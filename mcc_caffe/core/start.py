"""What a command does before its imports, which take a second or more.

`python -m mcc_caffe.infer` imports the package `mcc_caffe` first, and `mcc-infer` the module
`mcc_caffe.entry_points`. Both call `prepare_command`. Nothing slow may be imported here.
"""

import multiprocessing
import os
import resource
import signal
import sys
from typing import Any

# The address space that a command needs: what it maps, and the buffers and the stack of each
# thread. With less, libraries hang or end the process while they are loaded.
_BASE_MIB, _MIB_A_CORE = 1900, 80  # measured: 1800 and 55

INTERRUPTED = 130  # the exit code of a command that a KeyboardInterrupt ended

# The most pixels of an image, in millions, and the variable of the environment with another bound.
MAX_MEGAPIXELS = 200.0  # the largest that telephones take; infer needs some 2 GiB for it
MAX_MEGAPIXELS_VARIABLE = "MCC_CAFFE_MAX_MEGAPIXELS"
OPENCV_LIMIT_VARIABLE = "OPENCV_IO_MAX_IMAGE_PIXELS"  # OpenCV reads it when it is imported

# What raises Terminated: a request to end, and the loss of the terminal.
_TERMINATING = (signal.SIGTERM, signal.SIGHUP)

_OWN_PACKAGES = ("mcc_caffe", "data_tools", "benchmarks", "prototxt", "solver")


class Terminated(KeyboardInterrupt):
    """A signal asked a command to end, which finishes and cleans up as on Ctrl-C.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        """Make the exception of a signal."""
        super().__init__(number)
        self.number = signal.Signals(number)


def stop_error(number: int) -> KeyboardInterrupt:
    """Return the exception of a signal that asks a command to end."""
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


def starts_own_command() -> bool:
    """Tell whether Python is looking for a module of this project's to run it by `python -m`."""
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv:
        return False
    following = sys.orig_argv[sys.orig_argv.index("-m") + 1 :]
    return following[:1] != [] and following[0].partition(".")[0] in _OWN_PACKAGES


def prepare_command() -> None:
    """Let Ctrl-C end the process without a traceback until `run_command`, and see to its limits.

    Raises:
        SystemExit: The limit on address space is too small for the libraries; stderr says so.
    """
    _open_closed_descriptors()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _limit_image_size()
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    needed = _BASE_MIB + _MIB_A_CORE * len(os.sched_getaffinity(0))
    if limit != resource.RLIM_INFINITY and limit >> 20 < needed:
        print(
            f"error: the limit on memory (ulimit -v) is {limit >> 20} MiB, this program needs "
            f"{needed} MiB of address space: raise it (ulimit -v {needed << 10}, or unlimited)",
            file=sys.stderr,
        )
        sys.exit(2)


def _open_closed_descriptors() -> None:
    """Open /dev/null as standard input, output and error where a shell's `2>&-` has closed them.

    The next file to be opened would get their numbers, and what libraries write to stderr, such as
    libjpeg's warnings, would go into it. `sys.stdout` and `sys.stderr` stay None.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # A new descriptor has the lowest free number, which is this one; workers inherit it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _limit_image_size() -> None:
    """Set OpenCV's own size limit from MCC_CAFFE_MAX_MEGAPIXELS, before OpenCV is loaded.

    OpenCV then refuses a larger image by its header. `mcc_caffe.core.images` has the same bound,
    but knows fewer formats. A program that imports the package reads images of its own, for which
    OpenCV keeps its limit.
    """
    try:
        pixels = int(float(os.environ.get(MAX_MEGAPIXELS_VARIABLE) or MAX_MEGAPIXELS) * 1e6)
    except (ValueError, OverflowError):
        return  # reading an image says so
    if pixels > 0:
        # A larger number than fits into OpenCV's 64 bits would end the process.
        os.environ.setdefault(OPENCV_LIMIT_VARIABLE, str(min(pixels, sys.maxsize)))


def catch_stop_signals() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, and SIGTERM and SIGHUP raise Terminated.

    `prepare_command` has let Ctrl-C end the process at once. SIGTERM and SIGHUP go on ending the
    processes that a command itself has started by multiprocessing. Under `nohup` SIGHUP stays
    ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if multiprocessing.parent_process() is not None:
        return
    for number in _TERMINATING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, raise_terminated)


def raise_terminated(number: int, frame: Any) -> None:
    """Raise Terminated, as the handler of a signal."""
    # `timeout` sends SIGTERM twice; the system and the shell of a closed terminal both send SIGHUP.
    # The second signal is not to stop what the first lets finish.
    for each in _TERMINATING:
        signal.signal(each, lambda *_: None)
    raise Terminated(number)


def end_at_next_signal() -> None:
    """Let a signal that would raise KeyboardInterrupt end the process at once, without a word."""
    for number in signal.valid_signals():
        if signal.getsignal(number) in (signal.default_int_handler, raise_terminated):
            signal.signal(number, lambda *_: os._exit(INTERRUPTED))
