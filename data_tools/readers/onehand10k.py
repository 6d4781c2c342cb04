"""Reads OneHand10K in its original layout.

`{Train,Test}/source/N.jpg` are the pictures, `{Train,Test}/mask/N.png` the masks, and
`{Train,Test}/label_joint.txt` has one line for each picture.

A label line is `N.jpg,width,height,hand_number,x1,y1,...,x21,y21`: integers, no header. A missing
keypoint is -1,-1; a single -1 makes it missing too. The keypoints are in our order already and
speak of the pixels as stored, whatever the EXIF orientation. A split without a folder `mask` has
no masks; where there is one, every picture needs its own.
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from data_tools.readers.base import Entry
from data_tools.readers.shared import binarize_mask, make_key, make_keypoints, read_file
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleError
from mcc_caffe.paper import KEYPOINT_COUNT

SPLITS = ("Train", "Test")
LABELS = "label_joint.txt"
FIELDS = 4 + 2 * KEYPOINT_COUNT
LAYOUT = f"Train/{LABELS} or Test/{LABELS}, with source/ and mask/ beside"


def format_label(name: str, width: int, height: int, keypoints: np.ndarray) -> str:
    """Return the label line of a picture.

    Args:
        name: The picture's file name.
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        keypoints: (21, 3) x, y in pixels and v; they are rounded to whole pixels.
    """
    points = [(-1, -1) if v == 0 else (round(float(x)), round(float(y))) for x, y, v in keypoints]
    return ",".join(map(str, (name, width, height, 1, *np.ravel(points))))


class Label(NamedTuple):
    """A parsed label line: size is (width, height) in pixels, keypoints (21, 3) of x, y, v."""

    name: str
    size: tuple[int, int]
    keypoints: np.ndarray


@dataclass(frozen=True)
class OneHand10KEntry(Entry):
    """One label line."""

    folder: Path  # of the split
    number: int  # of the line, from 1
    line: str

    @property
    def location(self) -> str:
        """The file and the line's number, such as `Train/label_joint.txt:12`."""
        return f"{self.folder.name}/{LABELS}:{self.number}"

    def sample(self) -> Sample:
        """Parse the line and read its picture and mask; see `Entry.sample`."""
        name, size, keypoints = self._parse()
        image_bytes = read_file(self.folder / "source" / name, self.location)
        mask_png = None
        if (self.folder / "mask").is_dir():
            path = self.folder / "mask" / f"{PurePath(name).stem}.png"
            mask_bytes = read_file(path, self.location)
            mask_png = binarize_mask(mask_bytes, f"{self.location}: {path.name}")
        sample = Sample(make_key(self.folder.name, name), image_bytes, mask_png, keypoints)
        self._check_size("image", sample.image(), size)
        mask = sample.mask()
        if mask is not None:
            self._check_size("mask", mask, size)
        return sample

    def _parse(self) -> Label:
        """Return the fields of the line; SampleError names the field that is wrong."""
        fields = self.line.split(",")
        if len(fields) != FIELDS:
            raise SampleError(
                f"{self.location}: {len(fields)} fields, {FIELDS} are needed "
                "(name,width,height,hands,21 x x,y)"
            )
        numbers = []
        for position, text in enumerate(fields[1:], start=2):
            try:
                numbers.append(int(text))
            except ValueError:
                raise SampleError(
                    f"{self.location}: field {position} is {text.strip()!r}, an integer is needed"
                ) from None
        width, height = numbers[:2]
        xy = np.array(numbers[3:], np.float32).reshape(KEYPOINT_COUNT, 2)
        keypoints = make_keypoints(xy, (xy != -1).all(axis=1), self.location)
        return Label(fields[0].strip(), (width, height), keypoints)

    def _check_size(self, name: str, picture: np.ndarray, labelled: tuple[int, int]) -> None:
        """Raise SampleError where the picture's (width, height) is not the label's."""
        height, width = picture.shape[:2]
        if (width, height) != labelled:
            raise SampleError(
                f"{self.location}: the {name} is {width} x {height}, "
                f"the label says {labelled[0]} x {labelled[1]}"
            )


def find_splits(root: Path) -> list[str]:
    """Return the splits in `root` that have a label file."""
    return [split for split in SPLITS if (root / split / LABELS).is_file()]


def read_entries(root: str | os.PathLike, split: str) -> list[OneHand10KEntry]:
    """Return one entry for each label line of a split, in the file's order, without blank lines."""
    folder = Path(root) / split
    path = folder / LABELS
    if not path.is_file():
        raise UserError(
            f"{path} was not found: give the folder that holds OneHand10K's Train and Test"
        )
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    entries = [
        OneHand10KEntry(folder, number, line)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not entries:
        raise UserError(f"{path} is empty: a label line for each picture is needed")
    return entries
