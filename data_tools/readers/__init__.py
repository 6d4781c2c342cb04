"""The data sets that can be read, and the functions that read any of them.

    readers.read_dataset("OneHand10K")        # {"Train": entries, "Test": entries}
    readers.read_dataset("hands_train.json")  # the files themselves tell the format

`base.py` says what a reader provides; `READERS` is the table of all readers.
"""

import dataclasses
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from data_tools.readers import cmu, coco, freihand, onehand10k, rhd
from data_tools.readers.base import Entry, Reader
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import LABELS_FOLDER

# A new reader is added here, under the name that `--format` takes.
READERS: dict[str, Reader] = {
    "onehand10k": onehand10k,
    "coco": coco,
    "cmu": cmu,
    "rhd": rhd,
    "freihand": freihand,
}
AUTO = "auto"


class OriginalSplits(NamedTuple):
    """The names of a data set's own splits for training and for validation."""

    training: str
    validation: str


def detect_format(root: str | os.PathLike, format: str = AUTO) -> str:
    """Return the name of the format that a data set is in.

    Args:
        root: Folder of the data set, or a JSON file.
        format: A key of READERS, to check for this format only, or AUTO.

    Returns:
        A key of READERS.

    Raises:
        UserError: `root` does not exist or is not all made, or not exactly one format fits.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(
            f"{root} was not found: give the folder of a data set, or a COCO-style .json file"
        )
    if any(root.glob(f"*/{onehand10k.PARTIAL_TRUTH}")):
        raise UserError(
            f"{root} holds synthetic hands that are not all made: run "
            f"data_tools.synth --out {root} again as before, which goes on where it was"
        )
    candidates = list(READERS) if format == AUTO else [format]
    matches = [name for name in candidates if _find_splits(root, name)]
    if len(matches) == 1:
        return matches[0]
    layouts = "; ".join(f"{name} ({READERS[name].LAYOUT})" for name in matches or candidates)
    if matches:
        raise UserError(f"{root} fits several formats, choose one with --format: {layouts}")
    _check_labelled_images(root)
    raise UserError(f"{root} holds no data set of these layouts: {layouts}")


def _check_labelled_images(root: Path) -> None:
    """Raise a UserError where a folder of images that `mcc-web label` works on was given."""
    for labels in (root / LABELS_FOLDER, root):
        if labels.name == LABELS_FOLDER and labels.is_dir():
            raise UserError(
                f"{root} holds images, whose labels are a data set of its own: give "
                f"{labels / 'coco'}"
            )
    if root.parent.name == LABELS_FOLDER:
        raise UserError(
            f"{root} holds no image whose labels are done: finish some with "
            f"mcc-web label {root.parent.parent}"
        )


def read_dataset(
    root: str | os.PathLike, format: str = AUTO, *, upright: bool = False
) -> dict[str, Sequence[Entry]]:
    """Read the labels of all splits of a data set.

    Args:
        root: Folder of the data set, or a JSON file.
        format: A key of READERS, or AUTO.
        upright: Whether labels refer to images turned as their EXIF orientation says. The tools of
            the formats' authors do not turn them.

    Returns:
        {split's name: its entries}.

    Raises:
        UserError: No reader fits, or the labels cannot be read.
    """
    format = detect_format(root, format)
    root = Path(root)
    splits = {
        split: READERS[format].read_entries(root, split) for split in _find_splits(root, format)
    }
    if not upright:
        return splits
    return {
        split: [dataclasses.replace(entry, upright=True) for entry in entries]
        for split, entries in splits.items()
    }


def _find_splits(root: Path, format: str) -> list[str]:
    """Return the names of the splits that a reader finds; UserError where it gives no names."""
    splits = READERS[format].find_splits(root)
    if (
        isinstance(splits, str)  # which would be taken for the list of its letters
        or not isinstance(splits, Collection)
        or not all(isinstance(split, str) for split in splits)
    ):
        raise UserError(
            f"{root}: find_splits of the reader {format} gives {repr(splits)[:100]}, a list of the "
            "splits' names is needed: mend the reader"
        )
    return list(splits)


def held_out_splits(names: Iterable[str]) -> list[str]:
    """Return the names that say validation or, where none does, those that say test."""
    names = list(names)
    validation = [name for name in names if "val" in name.lower()]
    return validation or [name for name in names if "test" in name.lower()]


def choose_original_splits(names: Iterable[str]) -> OriginalSplits:
    """Choose a data set's own splits for training and for validation by their names.

    Where a data set has both a validation and a test split, the validation split is taken.

    Args:
        names: The names of all splits.

    Raises:
        UserError: There is not exactly one split of each kind.
    """
    names = list(names)
    training = [name for name in names if "train" in name.lower()]
    others = [name for name in names if name not in training]
    validation = held_out_splits(others)
    if len(training) != 1 or len(validation) != 1:
        raise UserError(
            f"the set has {' and '.join(names)}, not one split to train on and one to validate: "
            "pool what it has with --split N/M"
        )
    return OriginalSplits(training[0], validation[0])
