"""RHD, the Rendered Hand Pose Dataset v2 (Zimmermann and Brox 2017).

`{training,evaluation}/color/%05d.png`, `.../mask/%05d.png` and `.../anno_{training,evaluation}.pickle`, a dictionary from the
picture's number to its labels. `uv_vis`, 42 x (x, y, visible), has the left hand's 21 keypoints first: the wrist, then each
finger from TIP TO BASE, which is turned round here. A mask's values are 1 for the person, 2 to 17 for the left hand's parts
and 18 to 33 for the right one's.

Every hand with at least MIN_VISIBLE visible keypoints makes a sample: the square of 2.2 times the longer side of the
visible keypoints' box, with this hand's keypoints and mask only.

A pickle can run any program while it is read. This one is read with nothing but what numpy arrays are made of.
"""

import pathlib
import pickle
from dataclasses import dataclass

import numpy as np

from data_tools.readers.shared import (
    KEYPOINT_BOX_FACTOR,
    decoded_mask,
    framed,
    keypoint_box,
    keypoints_of,
    mask_png,
    numbers,
    read_file,
    sample_key,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleError
from mcc_caffe.paper import KEYPOINTS

SPLITS = ("training", "evaluation")
LAYOUT = "training/anno_training.pickle or evaluation/anno_evaluation.pickle, with color/ and mask/ beside"

MIN_VISIBLE = 11  # of a hand's 21 keypoints: more than half
HANDS = ("left", "right")  # in the order of uv_vis
MASK_VALUES = ((2, 17), (18, 33))  # first and last, of each hand
# Place in RHD's order of each of our keypoints: the wrist, then 4, 3, 2, 1 of every finger's four.
ORDER = (0, *(4 * finger + joint for finger in range(5) for joint in (4, 3, 2, 1)))


@dataclass(frozen=True)
class Entry:
    """One hand of one picture."""

    folder: pathlib.Path  # of the split
    number: int  # of the picture
    hand: int  # 0 left, 1 right
    uv_vis: object  # what the pickle has

    @property
    def where(self) -> str:
        """`anno_training.pickle: 12, left hand`."""
        return f"anno_{self.folder.name}.pickle: {self.number}, {HANDS[self.hand]} hand"

    def keypoints(self) -> np.ndarray:
        """(21, 3) in our order; SampleError where the pickle has something else."""
        hands = numbers(self.uv_vis, (len(HANDS), KEYPOINTS, 3), self.where, "uv_vis")
        points = hands[self.hand][list(ORDER)]
        return keypoints_of(points[:, :2], points[:, 2] == 1, self.where)

    def sample(self) -> Sample:
        """The hand's crop; SampleError names the record and what was wrong with it."""
        keypoints, name = self.keypoints(), f"{self.number:05d}.png"
        mask_folder = self.folder / "mask"
        mask = None
        if mask_folder.is_dir():
            values = decoded_mask(
                read_file(mask_folder / name, self.where), f"{self.where}: mask/{name}"
            )
            first, last = MASK_VALUES[self.hand]
            mask = mask_png((values >= first) & (values <= last))
        key = sample_key(self.folder.name, f"{self.number:05d}", HANDS[self.hand])
        sample = Sample(key, read_file(self.folder / "color" / name, self.where), mask, keypoints)
        return framed(
            sample, self.where, box=keypoint_box(keypoints, self.where), factor=KEYPOINT_BOX_FACTOR
        )


def splits(root: pathlib.Path) -> list:
    """Names of the splits that lie in `root`."""
    return [split for split in SPLITS if (root / split / f"anno_{split}.pickle").is_file()]


def entries(root: pathlib.Path, split: str) -> list:
    """The hands of a split that show enough of themselves, by the picture's number."""
    path = root / split / f"anno_{split}.pickle"
    labels = read_pickle(path)
    if not isinstance(labels, dict) or not all(
        isinstance(number, int) and isinstance(label, dict) for number, label in labels.items()
    ):
        raise UserError(
            f"{path} is no dictionary from pictures' numbers to their labels: is it RHD v2's?"
        )
    found = [
        Entry(root / split, number, hand, labels[number].get("uv_vis"))
        for number in sorted(labels)
        for hand in range(len(HANDS))
    ]
    found = [entry for entry in found if _shows_enough(entry)]
    if not found:
        raise UserError(f"{path} has no hand with {MIN_VISIBLE} visible keypoints")
    return found


def _shows_enough(entry: Entry) -> bool:
    try:
        return np.count_nonzero(entry.keypoints()[:, 2]) >= MIN_VISIBLE
    except SampleError:
        return True  # told when its sample is asked for


def read_pickle(path: pathlib.Path):
    """What a pickle of plain containers, numbers, strings and numpy arrays holds; UserError where it names anything else.

    Pickles of Python 2 and 3 and of numpy 1 and 2 are read.
    """
    try:
        with open(path, "rb") as file:
            return _ArraysOnly(file, encoding="latin1").load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises whatever it happens to run into
        raise UserError(
            f"{path} is no pickle of plain numpy arrays ({type(error).__name__}: {error}): it was not read"
        ) from None


class _ArraysOnly(pickle.Unpickler):
    """Knows the few names that pickled arrays use, and has its own harmless function for each."""

    def find_class(self, module: str, name: str):
        known = {
            "numpy.ndarray": "ndarray",  # named only to be handed to _reconstruct
            "numpy.dtype": np.dtype,
            "numpy.core.multiarray._reconstruct": lambda kind, shape, typecode: np.empty(
                0
            ),  # its state comes next
            "numpy.core.numeric._frombuffer": lambda data, dtype, shape, order: np.frombuffer(
                data, dtype
            ).reshape(shape, order=order),
            "_codecs.encode": lambda text, encoding: text.encode(
                "latin1"
            ),  # how protocol 2 spells bytes
        }
        path = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if path not in known:
            raise pickle.UnpicklingError(f"it names {path}")
        return known[path]
