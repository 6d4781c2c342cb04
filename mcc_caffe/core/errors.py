"""What every command shares: errors a user can mend, in one line with the value found and what to do, and exit codes."""

import argparse
import sys
import warnings

from mcc_caffe.paper import STRIDE


class UserError(Exception):
    """Bad input. Commands print its one line and exit with `code`."""

    code = 2


def positive(text: str) -> int:
    """An option's whole number above 0, as argparse's `type`."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def input_side(text: str) -> int:
    """An option's side of a network's input, pixels, as argparse's `type`."""
    if positive(text) % STRIDE:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of {STRIDE}")
    return int(text)


def run_command(main) -> None:
    """Runs a command's `main()`; a UserError, a full disk or Ctrl-C becomes one line on stderr and an exit code, a warning one line."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        status = main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = error.code
    except OSError as error:
        print(
            f"error: {error.strerror or error}: {error.filename or 'no file named'}",
            file=sys.stderr,
        )
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
