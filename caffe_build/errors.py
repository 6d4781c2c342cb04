"""What can go wrong on the way to a built Caffe; each kind has its exit code."""

import sys


class BuildError(Exception):
    """What the user can mend. The command prints its one line and exits with `code`."""

    code = 2


def run_command(main) -> None:
    """Run the command's `main()`; an error or Ctrl-C becomes one line on stderr and an exit code."""
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
    """The Caffe the user pointed to is none, or does not work."""

    code = 3


class SourceError(BuildError):
    """Caffe's source could not be had, or is not what it should be."""

    code = 4


class EditError(BuildError):
    """An edit of ours found no place in the source."""

    code = 5


class CompileError(BuildError):
    """A tool is missing, or cmake or the compiler failed."""

    code = 6


class CheckError(BuildError):
    """Caffe was built but does not work."""

    code = 7


class DiskError(BuildError):
    """No room left, or no right to write."""

    code = 8
