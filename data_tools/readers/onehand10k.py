"""Reads OneHand10K in its original layout.

`{Train,Test}/source/N.jpg` are the images, `{Train,Test}/mask/N.png` the masks (of an image in
a sub-folder of source/, in the same sub-folder of mask/), and
`{Train,Test}/label_joint.txt` has one line for each image.

A label line is `N.jpg,width,height,hand_number,x1,y1,...,x21,y21`: integers, no header. A missing
keypoint is -1,-1; a single -1 makes it missing too. The keypoints are in our order already and
refer to the pixels as stored, whatever the EXIF orientation. A split without a folder `mask` has
no masks; where there is one, every image needs its own. An image that `{Train,Test}/SHA256SUMS`
names, a file as `sha256sum` writes it, has to have the digest that stands there.
"""

import collections
import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from data_tools.readers.base import Entry
from data_tools.readers.shared import (
    binarize_mask,
    frame_sample,
    image_size,
    make_key,
    number_equal_keys,
    read_named_file,
    say_passed_over,
)
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.keypoint_labels import make_keypoints
from mcc_caffe.data.samples import Sample
from mcc_caffe.paper import KEYPOINT_COUNT

SPLITS = ("Train", "Test")
LABELS = "label_joint.txt"
SUMS = "SHA256SUMS"  # beside LABELS, in the folder of a split
PARTIAL_TRUTH = "truth.partial.jsonl"  # in the folder of a split while synthetic hands are made
FIELDS = 4 + 2 * KEYPOINT_COUNT
MAX_NUMBER = 10**6  # in a label line: more pixels no image has on a side
LAYOUT = f"Train/{LABELS} or Test/{LABELS}, with source/ and mask/ beside"

_SUM_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *]source/(?P<name>.+)")


def format_label(name: str, width: int, height: int, keypoints: np.ndarray) -> str:
    """Return the label line of an image.

    Args:
        name: The image's file name.
        width: The image's width in pixels.
        height: The image's height in pixels.
        keypoints: (21, 3) x, y in pixels and v; they are rounded to whole pixels.
    """
    points = [(-1, -1) if v == 0 else (round(float(x)), round(float(y))) for x, y, v in keypoints]
    return ",".join(map(str, (name, width, height, 1, *np.ravel(points))))


def format_sum(name: str, sha256: str) -> str:
    """Return the line of SUMS about an image.

    Args:
        name: The image's file name.
        sha256: The digest of its file, in hexadecimal digits.
    """
    return f"{sha256}  source/{name}"


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
    key: str  # of the sample
    shares_mask: bool = False  # with an image whose name differs only in its ending
    sha256: str | None = None  # of the image that was labelled, where it is known

    @property
    def location(self) -> str:
        """The file and the line's number, such as `Train/label_joint.txt:12`."""
        return f"{self.folder.name}/{LABELS}:{self.number}"

    def sample(self) -> Sample:
        """Parse the line and read its image and mask; see `Entry.sample`."""
        name, size, keypoints = self._parse()
        image_bytes = self.read_image_bytes(self.folder / "source", name, sha256=self.sha256)
        sample = Sample(self.key, image_bytes, None, keypoints)
        image_size(sample, self.location, size)
        if (self.folder / "mask").is_dir():
            mask_name = _mask_name(name)
            if self.shares_mask:
                raise SampleError(
                    f"{self.location}: mask/{mask_name} would be the mask of other images too, "
                    f"whose names differ from {name} only in their ending: rename them"
                )
            mask_bytes = read_named_file(self.folder / "mask", mask_name, self.location)
            location = f"{self.location}: mask/{mask_name}"
            sample = dataclasses.replace(sample, mask_png=binarize_mask(mask_bytes, location, size))
        return frame_sample(sample, self.location)

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
                if abs(numbers[-1]) > MAX_NUMBER:
                    raise ValueError
            except ValueError:
                raise SampleError(
                    f"{self.location}: field {position} is {text.strip()[:40]!r}, "
                    f"an integer is needed, at most {MAX_NUMBER}"
                ) from None
        width, height = numbers[:2]
        xy = np.array(numbers[3:], np.float32).reshape(KEYPOINT_COUNT, 2)
        keypoints = make_keypoints(xy, (xy != -1).all(axis=1), self.location)
        return Label(fields[0].strip(), (width, height), keypoints)


def _mask_name(name: str) -> str:
    """Return the path below mask/ of the mask of an image, given its path below source/."""
    path = PurePath(name)
    return str(path.parent / f"{path.stem}.png")


def _image_name(line: str) -> str:
    """Return the image's path below source/, normalised: the first field of a label line."""
    return os.path.normpath(line.partition(",")[0].strip())


def make_entries(folder: Path, lines: Sequence[str]) -> list[OneHand10KEntry]:
    """Return one entry for each label line that is not blank, in their order.

    Args:
        folder: Folder of the split.
        lines: All lines of its label file.
    """
    names = [_image_name(line) for line in lines]
    mask_counts = collections.Counter(map(_mask_name, set(names)))
    keys = number_equal_keys((name, make_key(folder.name, name)) for name in names)
    sums = _read_sums(folder / SUMS)
    return [
        OneHand10KEntry(
            folder,
            number,
            line,
            key,
            shares_mask=mask_counts[_mask_name(name)] > 1,
            sha256=sums.get(name),
        )
        for number, (line, name, key) in enumerate(zip(lines, names, keys), start=1)
        if line.strip()
    ]


def find_splits(root: Path) -> list[str]:
    """Return the splits in `root` that have a label file."""
    return [split for split in SPLITS if (root / split / LABELS).is_file()]


def _read_sums(path: Path) -> dict[str, str]:
    """Return {path below source/: digest of the file} as SUMS gives it; {} where there is none."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    matches = [_SUM_LINE.fullmatch(line) for line in lines]
    return {match["name"]: match["sha256"] for match in matches if match}


def read_entries(root: str | os.PathLike, split: str) -> list[OneHand10KEntry]:
    """Return one entry for each label line of a split, in the file's order, without blank lines.

    Raises:
        UserError: The label file is missing or empty.
    """
    folder = Path(root) / split
    path = folder / LABELS
    if not path.is_file():
        raise UserError(
            f"{path} was not found: give the folder that holds OneHand10K's Train and Test"
        )
    lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    entries = make_entries(folder, lines)
    if not entries:
        raise UserError(f"{path} is empty: a label line for each image is needed")
    files = {
        os.path.relpath(os.path.join(parent, name), folder / "source")
        for parent, _, names in os.walk(folder / "source")
        for name in names
    }
    unlabelled = len(files - set(map(_image_name, lines)))
    say_passed_over(path, unlabelled, "files of source/ that no line names")
    return entries
