"""The errors that a user can mend."""

import errno
from collections.abc import Sequence
from pathlib import Path

# The numbers of OSErrors that say that a disk, a quota or a limit on files is reached.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

MORE_DESCRIPTORS = "raise the limit on open files (ulimit -n)"  # the remedy for EMFILE

_NAMED = 5  # of a list, the entries that a message names


class UserError(Exception):
    """Input that the user can mend. Its text is one line: what is wrong, the value, the remedy.

    What cannot be printed, such as a line break in a file's name, is written as an escape.

    Attributes:
        code: The exit status of a command that ends with this error.
    """

    code = 2

    def __init__(self, message: str) -> None:
        """Make the error of a message."""
        super().__init__(escape_unprintable(message))


class SampleError(UserError):
    """A sample that cannot be used; the message names it and says why."""


def cannot_write(path: Path, error: OSError) -> UserError:
    """Make the error that says that a path cannot be written, why, and what to do."""
    reason = error.strerror or str(error)
    if error.errno in NO_ROOM:
        remedy = "make room, or give another folder"
    elif error.errno == errno.ENAMETOOLONG:
        remedy = "give a shorter name"
    elif error.errno == errno.ENOENT:
        remedy = "make its folder, or give another"
    elif error.errno == errno.EMFILE:
        remedy = MORE_DESCRIPTORS
    else:
        remedy = "give a path that you may write to"
    return UserError(f"{path} cannot be written ({reason}): {remedy}")


def shorten_list(names: Sequence[str]) -> str:
    """Return names for a message: the first five, and how many more there are."""
    named = ", ".join(names[:_NAMED])
    return f"{named} and {len(names) - _NAMED} more" if len(names) > _NAMED else named


def escape_unprintable(text: str) -> str:
    """Return a text with escapes, such as \\n, in place of characters that cannot be printed."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
