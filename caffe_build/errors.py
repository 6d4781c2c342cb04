"""What can go wrong on the way to a built Caffe; each kind has its exit code."""
from mcc_caffe.errors import UserError


class PrefixError(UserError):
    """The Caffe the user pointed to is none, or does not work."""

    code = 3


class SourceError(UserError):
    """Caffe's source could not be had, or is not what it should be."""

    code = 4


class EditError(UserError):
    """An edit of ours found no place in the source."""

    code = 5


class CompileError(UserError):
    """A tool is missing, or cmake or the compiler failed."""

    code = 6


class CheckError(UserError):
    """Caffe was built but does not work."""

    code = 7


class DiskError(UserError):
    """No room left, or no right to write."""

    code = 8
