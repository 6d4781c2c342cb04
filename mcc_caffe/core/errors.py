"""The errors that a user can mend."""


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


def escape_unprintable(text: str) -> str:
    """Return a text with escapes, such as \\n, in place of characters that cannot be printed."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
