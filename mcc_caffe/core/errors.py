"""The error that a user can mend."""


class UserError(Exception):
    """Input that the user can mend. Its text is one line: what is wrong, the value, the remedy.

    Attributes:
        code: The exit status of a command that ends with this error.
    """

    code = 2
