"""FreiHAND (Zimmermann et al. 2019).

`{training,evaluation}/rgb/%08d.jpg`, `{training,evaluation}/mask/%08d.jpg`, `{training,evaluation}_K.json` (3 x 3 cameras) and
`{training,evaluation}_xyz.json` (21 x [x, y, z], in our order, no visibility). The pictures of `training` are four versions of
the same hands one after another: picture i has label and mask i modulo the number of labels, 32,560. The evaluation's
labels came out later, without masks.

A keypoint is K xyz, divided by its third coordinate; one that falls outside the picture is missing.
"""

import pathlib
from dataclasses import dataclass

import numpy as np

from data_tools.readers.shared import (
    binary_mask_png,
    framed,
    keypoints_of,
    numbers,
    read_file,
    read_json,
    sample_key,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleError
from mcc_caffe.paper import KEYPOINTS

SPLITS = ("training", "evaluation")
LAYOUT = "training_K.json and training_xyz.json (or the evaluation's), with training/rgb and training/mask"


@dataclass(frozen=True)
class Entry:
    """One picture, and the labels of its split, one a hand."""

    picture: pathlib.Path
    cameras: list
    hands: list

    @property
    def where(self) -> str:
        """`training/rgb/00000012.jpg`."""
        return "/".join(self.picture.parts[-3:])

    def sample(self) -> Sample:
        """The sample; SampleError names the picture and what was wrong with it."""
        if not self.picture.stem.isdecimal():
            raise SampleError(
                f"{self.where}: the name is no number, which would say where its label is"
            )
        index = int(self.picture.stem) % len(self.hands)
        camera = numbers(self.cameras[index], (3, 3), self.where, f"K of label {index}")
        hand = numbers(self.hands[index], (KEYPOINTS, 3), self.where, f"xyz of label {index}")
        keypoints = keypoints_of(*project(camera, hand), self.where)
        mask_folder = self.picture.parent.parent / "mask"
        mask = None
        if mask_folder.is_dir():
            name = f"{index:08d}.jpg"
            mask = binary_mask_png(
                read_file(mask_folder / name, self.where), f"{self.where}: mask/{name}"
            )
        split = self.picture.parent.parent.name
        sample = Sample(
            sample_key(split, self.picture.name),
            read_file(self.picture, self.where),
            mask,
            keypoints,
        )
        return framed(sample, self.where)


def project(camera: np.ndarray, points: np.ndarray) -> tuple:
    """(N, 2) pixels of (N, 3) points, and (N,) bool: which lie in front of the camera."""
    projected = points @ camera.T
    ahead = projected[:, 2] > 0
    return projected[:, :2] / np.where(ahead, projected[:, 2], 1)[:, None], ahead


def splits(root: pathlib.Path) -> list:
    """Names of the splits that lie in `root` with their labels."""
    return [
        split
        for split in SPLITS
        if all((root / f"{split}_{kind}.json").is_file() for kind in ("K", "xyz"))
    ]


def entries(root: pathlib.Path, split: str) -> list:
    """The pictures of a split, by number."""
    cameras, hands = (read_json(root / f"{split}_{kind}.json") for kind in ("K", "xyz"))
    if (
        not isinstance(cameras, list)
        or not isinstance(hands, list)
        or len(cameras) != len(hands)
        or not hands
    ):
        raise UserError(
            f"{root / f'{split}_K.json'} and {split}_xyz.json are no lists of the same length: are both complete?"
        )
    pictures = sorted((root / split / "rgb").glob("*.jpg"))
    if not pictures:
        raise UserError(f"{root / split / 'rgb'} holds no .jpg: unpack the pictures there")
    return [Entry(picture, cameras, hands) for picture in pictures]
