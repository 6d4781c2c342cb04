"""Finds the files that come with the project.

All stand inside the package when it is installed. In a checkout the nets and solvers stand beside
it.
"""

from pathlib import Path

from mcc_caffe.core.errors import UserError

_PACKAGE = Path(__file__).parents[1]


def require_shipped(relative: str) -> Path:
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
    # The package comes first: beside an installed one lie other packages.
    paths = (root / relative for root in (_PACKAGE, _PACKAGE.parent))
    return next((path for path in paths if path.is_file()), None)
