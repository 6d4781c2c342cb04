"""What all commands share: parser, messages, progress bars and exit codes.

Results go to stdout. Messages about the work (`logging.getLogger(__name__)`) go to stderr: INFO
without its level, DEBUG only with -v, warnings and errors always and with their level in front. A
command's `main` raises UserError for what its user can mend.
"""

import argparse
import contextlib
import errno
import io
import logging
import math
import os
import pathlib
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from mcc_caffe.core.errors import MORE_DESCRIPTORS, NO_ROOM, UserError, escape_unprintable
from mcc_caffe.core.start import (
    INTERRUPTED,
    Terminated,
    catch_stop_signals,
    end_at_next_signal,
)
from mcc_caffe.paper import MAX_INPUT_SIZE, PAPER_LEVELS, STRIDE, VARIANTS, is_input_size

if TYPE_CHECKING:
    from tqdm import tqdm

VERBOSITY_VARIABLE = (
    "MCC_CAFFE_VERBOSITY"  # in the environment, so that worker processes inherit it
)
_LEVELS = {
    "quiet": logging.WARNING,
    "normal": logging.INFO,
    "verbose": logging.DEBUG,
    "debug": logging.DEBUG,
}
OWN_LOGGERS = ("mcc_caffe", "data_tools", "benchmarks", "__main__")  # other libraries: warnings

# Python's words.
_NO_THREAD = "can't start new thread"
_NO_TEMPORARY_FOLDER = "No usable temporary directory"

# The remedy where no process or thread can be started.
_MORE_PROCESSES = (
    "end other programs, or raise the limit on processes and threads (ulimit -u; "
    "docker: --pids-limit)"
)

_BAR_LOCK = threading.RLock()  # of this process's progress bars

_log = logging.getLogger(__name__)


def add_network_options(group: argparse._ActionsContainer, *, is_subcommand: bool = False) -> None:
    """Add the options that say which network runs, --weights and --variant.

    Args:
        group: The command's parser, or a group of its options.
        is_subcommand: Whether the parser is a subcommand's, and the whole command has the options,
            too: then those before the subcommand's name count as well.
    """
    group.add_argument(
        "--weights",
        type=pathlib.Path,
        default=argparse.SUPPRESS if is_subcommand else None,
        metavar="FILE",
        help="caffemodel or packed weights (default: those that come with the package or, for a "
        "variant without, the newest of runs/VARIANT)",
    )
    add_variant_option(group, is_subcommand=is_subcommand)


def add_variant_option(
    group: argparse._ActionsContainer,
    purpose: str = "size of the network",
    *,
    is_subcommand: bool = False,
) -> None:
    """Add the option --variant.

    Args:
        group: The command's parser, or a group of its options.
        purpose: What --help says of it.
        is_subcommand: As `add_network_options` takes it.
    """
    group.add_argument(
        "--variant",
        choices=VARIANTS,
        default=argparse.SUPPRESS if is_subcommand else "mini",
        help=f"{purpose} (default: mini)",
    )


def add_levels_option(group: argparse._ActionsContainer) -> None:
    """Add the option --levels, a number of pyramid levels or "paper"."""
    group.add_argument(
        "--levels",
        type=lambda text: text if text == PAPER_LEVELS else positive_int(text),
        metavar="N",
        help="look at levels of the paper's pyramid, in place of looks: at most N of them, or "
        "`paper` for as many as the paper takes; 1 is a single pass with the paper's decoding",
    )


def add_gpu_option(group: argparse._ActionsContainer) -> None:
    """Add the option --gpu."""
    group.add_argument("--gpu", type=int, metavar="ID", help="GPU to use (default: the CPU)")


def integer(text: str) -> int:
    """Parse an option that is a whole number; an argparse `type`.

    argparse answers a ValueError with the name of the function that raised it, such as "invalid int
    value". So this function stands for `int`, and all that parse whole numbers call it.
    """
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def any_number(text: str) -> float:
    """Parse an option that is a number; an argparse `type`, as `integer` is."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def positive_int(text: str) -> int:
    """Parse an option that is a whole number above 0; an argparse `type`."""
    number = integer(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def non_negative_int(text: str) -> int:
    """Parse an option that is a whole number from 0 on; an argparse `type`."""
    number = integer(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def positive_float(text: str) -> float:
    """Parse an option that is a finite number above 0; an argparse `type`."""
    number = any_number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no finite number above 0")
    return number


def finite_number(text: str) -> float:
    """Parse an option that is a finite number; an argparse `type`."""
    number = any_number(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is no finite number")
    return number


def _named_path(text: str) -> pathlib.Path:
    """Parse an option that is a path; an argparse `type`, which stands for Path."""
    if not text.strip():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no path: is a variable of the command line not set? "
            "Give . for the current folder"
        )
    return pathlib.Path(text)


def seed_number(text: str) -> int:
    """Parse an option that is the seed of random numbers; an argparse `type`."""
    number = integer(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**32 - 1}")
    return number


def input_side(text: str) -> int:
    """Parse an option that is the side of a network's input in pixels; an argparse `type`."""
    side = integer(text)
    if not is_input_size(side):
        raise argparse.ArgumentTypeError(
            f"{text} is not a multiple of {STRIDE} up to {MAX_INPUT_SIZE}"
        )
    return side


class _SetVerbosity(argparse.Action):
    """An option without a value that sets the verbosity as soon as it is parsed."""

    def __init__(self, option_strings: list[str], const: str, **kwargs: Any) -> None:
        super().__init__(option_strings, nargs=0, const=const, **kwargs)

    def __call__(self, *_: Any) -> None:
        os.environ[VERBOSITY_VARIABLE] = self.const
        _apply_verbosity()


class _CommandParser(argparse.ArgumentParser):
    """A parser, also of a subcommand, that names what an option of a plain type needs."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register("type", pathlib.Path, _named_path)
        self.register("type", int, integer)
        self.register("type", float, any_number)

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the options; UserError where neither they nor the variable say a verbosity."""
        options = super().parse_args(*args, **kwargs)
        _check_verbosity()  # not before: --help needs none, and --quiet has set the variable
        return options


def _program_name() -> str:
    """Return the command as its user can repeat it, such as mcc-infer or `python -m MODULE`.

    Up to Python 3.13 argparse itself names a module by its file, infer.py, which no shell finds.
    """
    main = sys.modules["__main__"]
    module = getattr(main, "__spec__", None)  # None unless `python -m` started it
    if module is None or sys.argv[0] != main.__file__:  # `mcc-data` sets the name of its tool
        return os.path.basename(sys.argv[0])
    return f"python -m {module.name.removesuffix('.__main__')}"


def command_parser(description: str | None, **kwargs: Any) -> argparse.ArgumentParser:
    """Make the argument parser of a command, with the options that all commands have.

    Args:
        description: The text of --help, printed as it stands; usually the module's `__doc__`.
        **kwargs: Further options of argparse.ArgumentParser.

    Returns:
        A parser that knows --verbose, --quiet and --debug. They take effect when they are parsed,
        and the namespace has no entry for them. Its options of the types Path, int and float, and
        those of its subcommands, say in plain words what is wrong. Those of the type Path refuse
        an empty text, which Path would take for the current folder.
    """
    kwargs.setdefault("prog", _program_name())
    parser = _CommandParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **kwargs,
    )
    group = parser.add_argument_group("messages").add_mutually_exclusive_group()
    for flags, verbosity, text in (
        (("-v", "--verbose"), "verbose", "say more about the work on stderr"),
        (("--quiet",), "quiet", "say only warnings and errors on stderr, show no progress"),
        (("--debug",), "debug", "as --verbose, and show the traceback of an error"),
    ):
        group.add_argument(
            *flags,
            action=_SetVerbosity,
            const=verbosity,
            dest=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
            help=text,
        )
    return parser


class _BarOutput:
    """The stderr of a progress bar, which drops what cannot be written, as where `tee` has ended.

    tqdm itself drops it only where a terminal was closed. It asks whether its stream is sys.stderr,
    for the terminal's width.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __eq__(self, other: object) -> bool:
        return self._stream is other

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def progress_bar(
    iterable: Iterable | None = None, *, disable: bool = False, **kwargs: Any
) -> "tqdm":
    """Show the progress of an iteration on stderr, unless the command is --quiet.

    Where stderr cannot be written any more, the iteration goes on.

    Args:
        iterable: What to iterate over; None for a bar that the caller updates.
        disable: Whether to show nothing.
        **kwargs: Further options of tqdm.

    Returns:
        A tqdm; iterate over it in place of the iterable.
    """
    from tqdm import tqdm  # here, as not every command shows progress: quick start-up

    # Its own lock is a semaphore as well, which a process that is killed leaves behind.
    tqdm.set_lock(_BAR_LOCK)
    is_silent = disable or sys.stderr is None or _verbosity() == "quiet"
    return tqdm(iterable, disable=is_silent, file=_BarOutput(sys.stderr), **kwargs)


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command and exit with its status.

    A UserError, an OSError (a full disk, a missing file), a lack of memory or of threads, Ctrl-C,
    SIGTERM and SIGHUP end in one line on stderr, with --debug in a traceback as well; a warning
    becomes one line. Where nobody reads stdout any more, as behind `| head`, the command ends
    without a word.

    Args:
        main: The command. It returns its exit status, None for success.

    Raises:
        SystemExit: With the exit status. Any other exception is a fault of the program, and passes.
    """
    _set_up_logging()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not be text
            stream.reconfigure(errors="backslashreplace")
    status = 0
    try:
        catch_stop_signals()
        status = _run_main(main)
    except UserError as error:
        _log.error("%s", error, exc_info=_verbosity() == "debug")
        status = error.code
    except BrokenPipeError:
        _log.debug("nobody reads the output any more", exc_info=_verbosity() == "debug")
        status = 128 + signal.SIGPIPE
    except OSError as error:
        _log.error("%s", escape_unprintable(_describe(error)), exc_info=_verbosity() == "debug")
        status = 2
    except MemoryError as error:
        _log.error(
            "not enough memory (%s): give smaller or fewer inputs, or raise the limit (ulimit -v)",
            str(error) or "no reason given",
            exc_info=_verbosity() == "debug",
        )
        status = 2
    except RuntimeError as error:
        if str(error) != _NO_THREAD:
            raise
        _log.error("%s: %s", _NO_THREAD, _MORE_PROCESSES, exc_info=_verbosity() == "debug")
        status = 2
    except Terminated as error:
        end_at_next_signal()
        _log.info("ended by %s", error.number.name, exc_info=_verbosity() == "debug")
        status = 128 + error.number
    except KeyboardInterrupt:
        end_at_next_signal()  # or Ctrl-C during this message would print a traceback
        _log.info("interrupted", exc_info=_verbosity() == "debug")
        status = INTERRUPTED
    _drop_unwritable_output()
    sys.exit(status)


def _run_main(main: Callable[[], int | None]) -> int:
    """Run a command until its results are written; return its status.

    Raises:
        OSError: Its results cannot be written.
    """
    try:
        status = main() or 0
    except SystemExit as ending:  # argparse has printed --help, or what is wrong
        status = int(ending.code or 0)
    print(end="", flush=True)  # unlike flush(), it does nothing where stdout is closed
    return status


def _drop_unwritable_output() -> None:
    """Drop what stdout cannot take, or the interpreter would complain of it at its end."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _describe(error: OSError) -> str:
    """Return an OSError's reason, with its file where it names one and a remedy where it knows one.

    What a command writes for its user names the file itself (`mcc_caffe.core.files`).
    """
    reason = error.strerror or str(error)
    if error.filename is not None:
        reason += f": {error.filename}"
    if error.errno in NO_ROOM:
        return (
            f"{reason}: make room where this command writes; "
            f"its temporary files go to {_temporary_folder()} (TMPDIR)"
        )
    if error.errno == errno.EMFILE:
        return f"{reason}: {MORE_DESCRIPTORS}"
    if reason == os.strerror(errno.EAGAIN):  # of fork; a file that is not ready has another text
        return f"{reason}: {_MORE_PROCESSES}"
    if reason.startswith(_NO_TEMPORARY_FOLDER):
        return f"{reason}: set TMPDIR to a folder with room that you may write to"
    if error.errno == errno.ENOENT and not _working_folder_exists():
        return f"{reason}: the folder in which this command runs is gone; change to another (cd)"
    return reason


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # there is no room in any
        return os.environ.get("TMPDIR") or "/tmp"


def _working_folder_exists() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _verbosity() -> str:
    """Return the verbosity in force: quiet, normal, verbose or debug."""
    verbosity = os.environ.get(VERBOSITY_VARIABLE, "normal").lower()
    return verbosity if verbosity in _LEVELS else "normal"


def _check_verbosity() -> None:
    """Raise UserError where the variable of the environment names no verbosity."""
    verbosity = os.environ.get(VERBOSITY_VARIABLE)
    if verbosity and verbosity.lower() not in _LEVELS:
        raise UserError(f"{VERBOSITY_VARIABLE} is {verbosity!r}: give one of {', '.join(_LEVELS)}")


def _apply_verbosity() -> None:
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(_LEVELS[_verbosity()])


def _set_up_logging() -> None:
    """Send the messages and warnings of this process to stderr, a line each."""
    root = logging.getLogger()
    if not any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        handler = _StderrHandler()
        handler.setFormatter(_LineFormatter())
        root.addHandler(handler)
    logging.captureWarnings(True)
    warnings.formatwarning = lambda message, *_, **__: str(message)
    _apply_verbosity()


class _LineFormatter(logging.Formatter):
    """The bare message up to INFO, with the level in front above it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        prefix = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return prefix + record.message


class _StderrHandler(logging.Handler):
    """Writes to the stderr of the moment, above the progress bars where there are any."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is None:  # closed from the start: print would write to stdout
            return
        tqdm_module = sys.modules.get("tqdm")  # without it there are no bars
        if tqdm_module:
            tqdm_module.tqdm.set_lock(_BAR_LOCK)
        write = tqdm_module.tqdm.write if tqdm_module else print
        with contextlib.suppress(OSError):  # a terminal that was closed, or a log's full disk
            write(self.format(record), file=sys.stderr)
