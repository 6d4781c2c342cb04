"""Finds the weights that a command takes where its user gives none."""

from pathlib import Path

from mcc_caffe.caffe_io.run_folder import SNAPSHOTS
from mcc_caffe.caffe_io.snapshots import weights_files
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.shipped_files import find_shipped
from mcc_caffe.paper import VARIANTS


def shipped_weights(variant: str) -> Path | None:
    """Find the weights of a variant that come with the package; None where there are none."""
    return find_shipped(f"pretrained/{variant}.npz")


def default_weights(variant: str) -> Path:
    """Find the weights that come with the package or, for lack of them, the newest of runs/VARIANT.

    Raises:
        UserError: There are neither.
    """
    return shipped_weights(variant) or _trained_weights(variant)


def _trained_weights(variant: str) -> Path:
    """Find the newest weights of runs/VARIANT; UserError where there are none."""
    folder = Path("runs", variant, SNAPSHOTS)
    weights = weights_files(folder)
    if not weights:
        raise UserError(
            f"no weights: train first (`make train VARIANT={variant}`), "
            f"or give a caffemodel with --weights FILE; {folder} holds none"
        )
    return weights[0]


def are_shipped_weights(weights: str | Path) -> bool:
    """Tell whether a weights file is one that comes with the package."""
    shipped = [path for path in map(shipped_weights, VARIANTS) if path]
    return any(path.samefile(weights) for path in shipped)
