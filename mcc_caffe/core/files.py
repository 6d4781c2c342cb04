"""Finds the files that come with the project, and writes files completely or not at all.

What comes with the project stands beside the package in a checkout, inside it when installed.
"""

from pathlib import Path

from mcc_caffe.core.errors import UserError

_PACKAGE = Path(__file__).parents[1]


def shipped(relative: str) -> Path:
    """Find a file that comes with the project.

    Args:
        relative: Its path, such as `prototxt/mini/deploy.prototxt`.

    Raises:
        UserError: It is not there.
    """
    path = find_shipped(relative)
    if path is None:
        raise UserError(
            f"{relative} was not found in {_PACKAGE.parent}: "
            "run `make prototxt` or install the package again"
        )
    return path


def find_shipped(relative: str) -> Path | None:
    """Find a file that may come with the project, such as `pretrained/mini.npz`.

    Returns:
        Its path; None where it is not there.
    """
    paths = (root / relative for root in (_PACKAGE.parent, _PACKAGE))
    return next((path for path in paths if path.is_file()), None)


def existing(path: str | Path, kind: str) -> Path:
    """Check that a file is there.

    Args:
        path: The file.
        kind: What the error calls it, such as "solver".

    Raises:
        UserError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "was not found"
        raise UserError(f"the {kind} {path} {reason}: give the path of a file")
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all.

    Raises:
        UserError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written ({error.strerror}): make room, or give another folder"
        ) from None
