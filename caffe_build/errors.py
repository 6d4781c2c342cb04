"""The errors on the way to a built Caffe; each kind has its exit code."""

import sys
from collections.abc import Callable


class BuildError(Exception):
    """An error that the user can mend. The command prints its line and exits with `code`."""

    code = 2


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command; an error or Ctrl-C becomes one line on stderr and an exit code."""
    try:
        status = main() or 0
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        status = error.code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


class PrefixError(BuildError):
    """The folder that the user named is no Caffe, or the Caffe does not work."""

    code = 3


class SourceError(BuildError):
    """Caffe's source could not be fetched, or is another one than expected."""

    code = 4


class EditError(BuildError):
    """An edit of ours does not fit the source."""

    code = 5


class CompileError(BuildError):
    """A tool is missing, or cmake or the compiler failed."""

    code = 6


class CheckError(BuildError):
    """Caffe was built but does not work."""

    code = 7


class DiskError(BuildError):
    """The disk is full, or may not be written to."""

    code = 8
