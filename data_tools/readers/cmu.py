"""The hands of CMU's Panoptic hand database (Simon et al. 2017, the paper's [43]), drawn by hand or synthetic.

`hand_labels/{manual_train,manual_test}` and `hand_labels_synth/{synth1,...,synth4}` hold pairs of `X.jpg` and `X.json`;
either of those two folders is read, or one split's folder by itself. A label has `hand_pts`, 21 x [x, y, v], in our order,
valid where v is 1. There are no masks.

Most pictures show a whole scene in which the hand is small, and a picture with two hands is there twice. A sample is
therefore the crop that Simon et al. train and test on: a square of 2.2 times the longer side of the keypoints' box.
"""

import pathlib
from dataclasses import dataclass

from data_tools.readers.shared import (
    KEYPOINT_BOX_FACTOR,
    framed,
    keypoint_box,
    keypoints_of,
    numbers,
    read_file,
    read_json,
    sample_key,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleError
from mcc_caffe.paper import KEYPOINTS

SPLITS = ("manual_train", "manual_test", "synth1", "synth2", "synth3", "synth4")
LAYOUT = f"some of {', '.join(SPLITS)}, or what is in one of them: X.jpg and X.json"


@dataclass(frozen=True)
class Entry:
    """One label file; the picture lies beside it."""

    split: str
    path: pathlib.Path

    @property
    def where(self) -> str:
        """`manual_train/X.json`."""
        return f"{self.split}/{self.path.name}"

    def sample(self) -> Sample:
        """The hand's crop; SampleError names the file and what was wrong with it."""
        try:
            label = read_json(self.path)
        except UserError as error:
            raise SampleError(f"{self.where}: {error}") from None
        if not isinstance(label, dict):
            raise SampleError(f"{self.where} holds no JSON object: a label with hand_pts is needed")
        points = numbers(label.get("hand_pts"), (KEYPOINTS, 3), self.where, "hand_pts")
        keypoints = keypoints_of(points[:, :2], points[:, 2] == 1, self.where)
        picture = self.path.with_suffix(".jpg")
        sample = Sample(
            sample_key(self.split, picture.name), read_file(picture, self.where), None, keypoints
        )
        return framed(
            sample, self.where, box=keypoint_box(keypoints, self.where), factor=KEYPOINT_BOX_FACTOR
        )


def splits(root: pathlib.Path) -> list:
    """Names of the splits that lie in `root`, or its own name where it is a split's folder."""
    if any(path.with_suffix(".jpg").is_file() for path in root.glob("*.json")):
        return [root.resolve().name]
    return [split for split in SPLITS if (root / split).is_dir()]


def entries(root: pathlib.Path, split: str) -> list:
    """The label files of a split, by name."""
    folder = root / split if (root / split).is_dir() else root
    found = [Entry(split, path) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise UserError(f"{folder} holds no label file: X.json beside X.jpg is needed")
    return found
