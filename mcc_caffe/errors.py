"""Errors a user can mend: one line says what was wrong, the value found and what to do."""
import logging
import sys


class UserError(Exception):
    """Bad input. Commands print its one line and exit with `code`."""

    code = 2


def run_command(main) -> None:
    """Runs a command's `main()`; a UserError, a full disk or Ctrl-C becomes one line on stderr and an exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        status = main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = error.code
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or 'no file named'}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
