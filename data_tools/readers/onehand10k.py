"""OneHand10K in its original layout: `{Train,Test}/source/N.jpg`, `{Train,Test}/mask/N.png`, `{Train,Test}/label_joint.txt`.

A label line is `N.jpg,width,height,hand_number,x1,y1,...,x21,y21`: integers, no header, a missing keypoint is -1,-1 (a
single -1 makes it missing too). The keypoints are in our order already and speak of the pixels as stored, whatever the
EXIF orientation. A split without a folder `mask` has no masks; where there is one, every image needs its own.
"""

import pathlib
from dataclasses import dataclass

import numpy as np

from data_tools.readers.shared import binary_mask_png, keypoints_of, read_file, sample_key
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleError
from mcc_caffe.paper import KEYPOINTS

SPLITS = ("Train", "Test")
LABELS = "label_joint.txt"
FIELDS = 4 + 2 * KEYPOINTS
LAYOUT = f"Train/{LABELS} or Test/{LABELS}, with source/ and mask/ beside"


def format_label(name: str, width: int, height: int, keypoints: np.ndarray) -> str:
    """The label line of a picture: keypoints (21, 3) of x, y, v, rounded to whole pixels."""
    points = [(-1, -1) if v == 0 else (round(float(x)), round(float(y))) for x, y, v in keypoints]
    return ",".join(map(str, (name, width, height, 1, *np.ravel(points))))


@dataclass(frozen=True)
class Entry:
    """One label line, read when asked: `sample()` loads the files it names."""

    folder: pathlib.Path  # of the split
    number: int  # of the line, from 1
    line: str

    @property
    def where(self) -> str:
        """`Train/label_joint.txt:12`."""
        return f"{self.folder.name}/{LABELS}:{self.number}"

    def sample(self) -> Sample:
        """The sample; SampleError names the line, the field and what was wrong with it."""
        name, width, height, keypoints = self._parse()
        image_bytes = read_file(self.folder / "source" / name, self.where)
        mask_folder = self.folder / "mask"
        mask = None
        if mask_folder.is_dir():
            path = mask_folder / f"{pathlib.PurePath(name).stem}.png"
            mask = binary_mask_png(read_file(path, self.where), f"{self.where}: {path.name}")
        sample = Sample(sample_key(self.folder.name, name), image_bytes, mask, keypoints)
        self._check_size("image", sample.image(), (width, height))
        if mask is not None:
            self._check_size("mask", sample.mask(), (width, height))
        return sample

    def _parse(self) -> tuple:
        fields = self.line.split(",")
        if len(fields) != FIELDS:
            raise SampleError(
                f"{self.where}: {len(fields)} fields, {FIELDS} are needed (name,width,height,hands,21 x x,y)"
            )
        numbers = []
        for place, text in enumerate(fields[1:], start=2):
            try:
                numbers.append(int(text))
            except ValueError:
                raise SampleError(
                    f"{self.where}: field {place} is {text.strip()!r}, an integer is needed"
                ) from None
        width, height = numbers[:2]
        xy = np.array(numbers[3:], np.float32).reshape(KEYPOINTS, 2)
        return (
            fields[0].strip(),
            width,
            height,
            keypoints_of(xy, (xy != -1).all(axis=1), self.where),
        )

    def _check_size(self, what: str, picture: np.ndarray, labelled: tuple) -> None:
        found = picture.shape[1::-1]
        if found != labelled:
            raise SampleError(
                f"{self.where}: the {what} is {found[0]} x {found[1]}, the label says {labelled[0]} x {labelled[1]}"
            )


def splits(root: pathlib.Path) -> list:
    """Names of the splits that lie in `root`."""
    return [split for split in SPLITS if (root / split / LABELS).is_file()]


def entries(root, split: str) -> list:
    """The label lines of `root/split` as Entries; blank lines are passed over."""
    folder = pathlib.Path(root) / split
    path = folder / LABELS
    if not path.is_file():
        raise UserError(
            f"{path} was not found: give the folder that holds OneHand10K's Train and Test"
        )
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    found = [
        Entry(folder, number, line) for number, line in enumerate(lines, start=1) if line.strip()
    ]
    if not found:
        raise UserError(f"{path} is empty")
    return found
