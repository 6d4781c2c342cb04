"""Reads the hands of CMU's Panoptic hand database (the paper's [43]; Simon et al. 2017, its [9]).

`hand_labels/{manual_train,manual_test}` and `hand_labels_synth/{synth1,...,synth4}` hold pairs of
`X.jpg` and `X.json`. Either of those two folders is read, or the folder of one split by itself. A
label has `hand_pts`: 21 x [x, y, v] in our order; a keypoint is valid where v is 1. There are no
masks.

Most images show a whole scene in which the hand is small, and an image with two hands is there
twice. A sample is therefore the crop that Simon et al. train and test on: a square whose side is
2.2 times the longer side of the keypoints' box.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from data_tools.readers.base import Entry
from data_tools.readers.shared import (
    KEYPOINT_BOX_FACTOR,
    bound_keypoints,
    frame_sample,
    make_key,
    read_json,
    say_passed_over,
)
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.keypoint_labels import check_visibilities, make_keypoints, parse_numbers
from mcc_caffe.data.samples import Sample
from mcc_caffe.paper import KEYPOINT_COUNT

# They share their photographs. The rendered splits have images of their own, which are numbered
# from the beginning in each.
MANUAL_SPLITS = ("manual_train", "manual_test")
SPLITS = (*MANUAL_SPLITS, "synth1", "synth2", "synth3", "synth4")
LAYOUT = f"some of {', '.join(SPLITS)}, or what is in one of them: X.jpg and X.json"
# What follows an image's name: the person's number, where there is one, and the hand. A longer
# number is the image's own, such as that of a film's frame.
_HAND_ENDING = re.compile(r"(_\d{1,2})?_[lr]$")


@dataclass(frozen=True)
class CmuEntry(Entry):
    """One label file; the image lies beside it."""

    split: str
    path: Path

    @property
    def location(self) -> str:
        """The label file, such as `manual_train/X.json`."""
        return f"{self.split}/{self.path.name}"

    @property
    def group(self) -> str:
        """The image, which is there once for each hand in it, also in two splits."""
        image_name = _HAND_ENDING.sub("", self.path.stem)
        return image_name if self.split in MANUAL_SPLITS else f"{self.split}/{image_name}"

    def sample(self) -> Sample:
        """Read the label and crop the hand out of its image; see `Entry.sample`."""
        try:
            label = read_json(self.path)
        except UserError as error:
            raise SampleError(f"{self.location}: {error}") from None
        if not isinstance(label, dict):
            raise SampleError(
                f"{self.location} holds no JSON object: a label with hand_pts is needed"
            )
        points = parse_numbers(
            label.get("hand_pts"), (KEYPOINT_COUNT, 3), location=self.location, field="hand_pts"
        )
        check_visibilities(points[:, 2], self.location, highest=1)
        keypoints = make_keypoints(points[:, :2], points[:, 2] == 1, self.location)
        image_path = self.path.with_suffix(".jpg")
        sample = Sample(
            make_key(self.split, image_path.name),
            self.read_image_bytes(image_path.parent, image_path.name),
            None,
            keypoints,
        )
        box = bound_keypoints(keypoints, self.location)
        return frame_sample(sample, self.location, box=box, factor=KEYPOINT_BOX_FACTOR)


def find_splits(root: Path) -> list[str]:
    """Return the splits in `root`, or its own name where it is the folder of one split."""
    if any(path.with_suffix(".jpg").is_file() for path in root.glob("*.json")):
        return [os.path.basename(os.path.realpath(root))]
    return [split for split in SPLITS if (root / split).is_dir()]


def read_entries(root: Path, split: str) -> list[CmuEntry]:
    """Return one entry for each label file of a split, sorted by name; UserError without any."""
    folder = root / split if (root / split).is_dir() else root
    entries = [CmuEntry(split, path) for path in sorted(folder.glob("*.json"))]
    if not entries:
        raise UserError(f"{folder} holds no label file: X.json beside X.jpg is needed")
    image_names = {path.stem for path in folder.glob("*.jpg")}
    unlabelled = image_names - {entry.path.stem for entry in entries}
    say_passed_over(folder, len(unlabelled), "images without a label file")
    return entries
