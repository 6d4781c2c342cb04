"""Reads FreiHAND (Zimmermann et al. 2019).

`{training,evaluation}/rgb/%08d.jpg` are the images, `{training,evaluation}/mask/%08d.jpg` the
masks, `{training,evaluation}_K.json` the 3 x 3 cameras and `{training,evaluation}_xyz.json` the
labels: 21 x [x, y, z] in our order, without visibility. The images of `training` are four versions
of the same hands one after another: image i has label and mask i modulo 32,560, also where a set
has only some of them. The labels of the evaluation came out later, without masks.

A keypoint is K xyz, divided by its third coordinate. One that falls outside the image is missing.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_tools.readers.base import Entry
from data_tools.readers.shared import (
    binarize_mask,
    frame_sample,
    make_key,
    read_file,
    read_json,
    say_passed_over,
)
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.keypoint_labels import make_keypoints, parse_numbers
from mcc_caffe.data.samples import Sample
from mcc_caffe.paper import KEYPOINT_COUNT

SPLITS = ("training", "evaluation")
LAYOUT = (
    "training_K.json and training_xyz.json (or the evaluation's), with training/rgb and "
    "training/mask"
)
HANDS = 32560  # of the training split; image i shows hand i modulo this number


@dataclass(frozen=True)
class FreihandEntry(Entry):
    """One image."""

    image_path: Path
    # What the label files have, unchecked; None where they have no label for the image.
    camera: Any = field(repr=False)
    hand: Any = field(repr=False)

    @property
    def location(self) -> str:
        """The image, such as `training/rgb/00000012.jpg`."""
        return "/".join(self.image_path.parts[-3:])

    @property
    def group(self) -> str:
        """The split and the hand's number: the versions of a hand stay together."""
        index = _label_index(self.image_path)
        return self.location if index is None else f"{self.image_path.parts[-3]}/{index}"

    def sample(self) -> Sample:
        """Read the image and its mask, and project its label; see `Entry.sample`."""
        index = _label_index(self.image_path)
        if index is None:
            raise SampleError(
                f"{self.location}: the name is no number, which would say where its label is"
            )
        if self.camera is None or self.hand is None:
            raise SampleError(
                f"{self.location}: its label is number {index}, which the label files lack: "
                "images keep FreiHAND's own numbers"
            )
        camera = parse_numbers(
            self.camera, (3, 3), location=self.location, field=f"K of label {index}"
        )
        hand = parse_numbers(
            self.hand,
            (KEYPOINT_COUNT, 3),
            location=self.location,
            field=f"xyz of label {index}",
        )
        if not (np.isfinite(camera).all() and np.isfinite(hand).all()):
            raise SampleError(
                f"{self.location}: K or xyz of label {index} has a number that is not finite: "
                "is the label file damaged?"
            )
        if not np.allclose(camera[2], (0, 0, 1)):
            raise SampleError(
                f"{self.location}: the last row of K of label {index} is {camera[2].tolist()}, "
                "0 0 1 is needed: is it transposed?"
            )
        projection = project(camera, hand)
        split_folder, mask_png = self.image_path.parent.parent, None
        if (split_folder / "mask").is_dir():
            name = f"{index:08d}.jpg"
            mask_bytes = read_file(split_folder / "mask" / name, self.location)
            mask_png = binarize_mask(mask_bytes, f"{self.location}: mask/{name}")
        sample = Sample(
            make_key(split_folder.name, self.image_path.name),
            self.read_image_bytes(self.image_path.parent, self.image_path.name),
            mask_png,
            make_keypoints(projection.xy, projection.in_front, self.location),
        )
        return frame_sample(sample, self.location)


def _label_index(image_path: Path) -> int | None:
    """Return the index of an image's label and mask; None where the image's name is no number."""
    split, stem = image_path.parts[-3], image_path.stem
    if not stem.isdecimal():
        return None
    return int(stem) % HANDS if split == SPLITS[0] else int(stem)


class Projection(NamedTuple):
    """Points in an image.

    Attributes:
        xy: (N, 2) pixels.
        in_front: (N,) bool, which points lie in front of the camera; only their xy mean something.
    """

    xy: np.ndarray
    in_front: np.ndarray


def project(camera: np.ndarray, points: np.ndarray) -> Projection:
    """Project points of camera space into the image.

    Args:
        camera: (3, 3) intrinsic matrix K.
        points: (N, 3) x, y, z.
    """
    projected = points @ camera.T
    in_front = projected[:, 2] > 0
    return Projection(projected[:, :2] / np.where(in_front, projected[:, 2], 1)[:, None], in_front)


def find_splits(root: Path) -> list[str]:
    """Return the splits in `root` whose labels are there."""
    return [
        split
        for split in SPLITS
        if all((root / f"{split}_{kind}.json").is_file() for kind in ("K", "xyz"))
    ]


def read_entries(root: Path, split: str) -> list[FreihandEntry]:
    """Return one entry for each image of a split, sorted by its number.

    Raises:
        UserError: The label files cannot be read or differ in length, or there is no image.
    """
    cameras, hands = (read_json(root / f"{split}_{kind}.json") for kind in ("K", "xyz"))
    if (
        not isinstance(cameras, list)
        or not isinstance(hands, list)
        or len(cameras) != len(hands)
        or not hands
    ):
        raise UserError(
            f"{root / f'{split}_K.json'} and {split}_xyz.json are no lists of the same length: "
            "are both complete?"
        )
    folder = root / split / "rgb"
    image_paths = sorted(folder.glob("*.jpg"))
    if not image_paths:
        raise UserError(f"{folder} holds no .jpg: unpack the images there")
    other_files = sum(1 for _ in folder.iterdir()) - len(image_paths)
    say_passed_over(folder, other_files, "files that are no .jpg")
    labels: dict[int | None, tuple[Any, Any]] = dict(enumerate(zip(cameras, hands)))
    return [
        FreihandEntry(path, *labels.get(_label_index(path), (None, None))) for path in image_paths
    ]
