"""Finds the files that come with the project (beside the package in a checkout, inside it when installed); writes files whole."""

import pathlib

from mcc_caffe.core.errors import UserError

_PACKAGE = pathlib.Path(__file__).parents[1]


def shipped(relative: str) -> pathlib.Path:
    """Path of a file such as `prototxt/mini/deploy.prototxt` or `solver/paper/solver.prototxt`."""
    path = find_shipped(relative)
    if path is None:
        raise UserError(
            f"{relative} was not found in {_PACKAGE.parent}: run `make prototxt` or install the package again"
        )
    return path


def find_shipped(relative: str) -> pathlib.Path | None:
    """As `shipped`, for a file that need not be there, such as `pretrained/mini.npz`: None where it is not."""
    return next(
        (root / relative for root in (_PACKAGE.parent, _PACKAGE) if (root / relative).is_file()),
        None,
    )


def existing(path, what: str) -> pathlib.Path:
    """`path` if it is a file; else a UserError that names it."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(
            f"the {what} {path} {'is a folder' if path.is_dir() else 'was not found'}: give the path of a file"
        )
    return path


def write_whole(path: pathlib.Path, data: bytes) -> None:
    """Writes a file whole or not at all; UserError where it cannot be written."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written ({error.strerror}): make room, or give another folder"
        ) from None
