"""Reads RHD, the Rendered Hand Pose Dataset v2 (Zimmermann and Brox 2017).

`{training,evaluation}/color/%05d.png` are the images, `{training,evaluation}/mask/%05d.png` the
masks, and `{training,evaluation}/anno_{training,evaluation}.pickle` is a dictionary from an image's
number to its labels. `uv_vis`, 42 x (x, y, visible), has the left hand's 21 keypoints first: the
wrist, then each finger from TIP TO BASE, which is reversed here. A mask's values are 1 for the
person, 2 to 17 for the parts of the left hand and 18 to 33 for those of the right one.

Every hand with at least MIN_VISIBLE visible keypoints makes a sample: a square whose side is 2.2
times the longer side of the visible keypoints' box, with this hand's keypoints and mask only.

A pickle can run any program while it is read. This one is read with nothing but what numpy arrays
are made of.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.readers.base import Entry
from data_tools.readers.shared import (
    KEYPOINT_BOX_FACTOR,
    bound_keypoints,
    decode_mask,
    encode_mask,
    frame_sample,
    make_key,
    read_file,
    say_passed_over,
)
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.keypoint_labels import check_visibilities, make_keypoints, parse_numbers
from mcc_caffe.data.samples import Sample
from mcc_caffe.paper import KEYPOINT_COUNT

SPLITS = ("training", "evaluation")
LAYOUT = (
    "training/anno_training.pickle or evaluation/anno_evaluation.pickle, with color/ and mask/ "
    "beside"
)

MIN_VISIBLE = 11  # of a hand's 21 keypoints: more than half
HANDS = ("left", "right")  # in the order of uv_vis
MASK_VALUES = ((2, 17), (18, 33))  # first and last, of each hand
# Index in RHD of each of our keypoints: the wrist, then 4, 3, 2, 1 of every finger's four.
ORDER = (0, *(4 * finger + joint for finger in range(5) for joint in (4, 3, 2, 1)))


@dataclass(frozen=True)
class RhdEntry(Entry):
    """One hand of one image."""

    folder: Path  # of the split
    number: int  # of the image
    hand: int  # index in HANDS
    uv_vis: Any  # what the pickle has, unchecked

    @property
    def location(self) -> str:
        """The file, the image and the hand, such as `anno_training.pickle: 12, left hand`."""
        return f"anno_{self.folder.name}.pickle: {self.number}, {HANDS[self.hand]} hand"

    @property
    def group(self) -> str:
        """The split and the image's number: both hands of an image stay together."""
        return f"{self.folder.name}/{self.number}"

    def keypoints(self) -> np.ndarray:
        """Return (21, 3) x, y, v in our order; SampleError where the pickle has something else."""
        points_of_both = parse_numbers(
            self.uv_vis, (len(HANDS) * KEYPOINT_COUNT, 3), location=self.location, field="uv_vis"
        )
        points = np.split(points_of_both, len(HANDS))[self.hand][list(ORDER)]
        check_visibilities(points[:, 2], self.location, highest=1)
        return make_keypoints(points[:, :2], points[:, 2] == 1, self.location)

    def sample(self) -> Sample:
        """Read the image and the mask, and crop this hand; see `Entry.sample`."""
        keypoints, name = self.keypoints(), f"{self.number:05d}.png"
        mask_png = None
        if (self.folder / "mask").is_dir():
            mask_bytes = read_file(self.folder / "mask" / name, self.location)
            parts = decode_mask(mask_bytes, f"{self.location}: mask/{name}")
            first, last = MASK_VALUES[self.hand]
            mask_png = encode_mask((parts >= first) & (parts <= last))
        sample = Sample(
            make_key(self.folder.name, f"{self.number:05d}", HANDS[self.hand]),
            self.read_image_bytes(self.folder / "color", name),
            mask_png,
            keypoints,
        )
        box = bound_keypoints(keypoints, self.location)
        return frame_sample(sample, self.location, box=box, factor=KEYPOINT_BOX_FACTOR)


def find_splits(root: Path) -> list[str]:
    """Return the splits in `root` that have a label file."""
    return [split for split in SPLITS if (root / split / f"anno_{split}.pickle").is_file()]


def read_entries(root: Path, split: str) -> list[RhdEntry]:
    """Return the hands of a split with MIN_VISIBLE visible keypoints, by the image's number.

    Raises:
        UserError: The label file cannot be read, or has no such hand.
    """
    path = root / split / f"anno_{split}.pickle"
    labels = read_pickle(path)
    if not isinstance(labels, dict) or not all(
        isinstance(number, int) and isinstance(label, dict) for number, label in labels.items()
    ):
        raise UserError(
            f"{path} is no dictionary from images' numbers to their labels: is it RHD v2's?"
        )
    hands = [
        RhdEntry(root / split, number, hand, labels[number].get("uv_vis"))
        for number in sorted(labels)
        for hand in range(len(HANDS))
    ]
    entries = [entry for entry in hands if _shows_enough(entry)]
    if not entries:
        raise UserError(
            f"{path} has no hand with {MIN_VISIBLE} visible keypoints: is the file complete?"
        )
    hidden = len(hands) - len(entries)
    say_passed_over(path, hidden, f"hands with less than {MIN_VISIBLE} visible keypoints")
    return entries


def _shows_enough(entry: RhdEntry) -> bool:
    """Tell whether enough keypoints are visible; a broken label is kept, `sample` reports it."""
    try:
        return int(np.count_nonzero(entry.keypoints()[:, 2])) >= MIN_VISIBLE
    except SampleError:
        return True


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain containers, numbers, strings and numpy arrays.

    Pickles of Python 2 and 3 and of numpy 1 and 2 are read.

    Raises:
        UserError: The pickle is damaged, or it names anything else; nothing of it was run.
    """
    try:
        with open(path, "rb") as file:
            return _ArraysOnly(file, encoding="latin1").load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises whatever it happens to run into
        raise UserError(
            f"{path} is no pickle of plain numpy arrays ({type(error).__name__}: {error}): "
            "it was not read"
        ) from None


class _ArraysOnly(pickle.Unpickler):
    """Knows the few names that pickled arrays use, and has its own harmless function for each."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "numpy.ndarray": "ndarray",  # named only to be handed to _reconstruct
            "numpy.dtype": np.dtype,
            # The array's state comes next in the pickle.
            "numpy.core.multiarray._reconstruct": lambda kind, shape, typecode: np.empty(0),
            "numpy.core.numeric._frombuffer": lambda data, dtype, shape, order: np.frombuffer(
                data, dtype
            ).reshape(shape, order=order),
            # This is how protocol 2 spells bytes.
            "_codecs.encode": lambda text, encoding: text.encode("latin1"),
        }
        path = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if path not in known:
            raise pickle.UnpicklingError(f"it names {path}")
        return known[path]
