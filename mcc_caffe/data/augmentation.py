"""Training augmentation (3.3): scale, rotation, crop and flip as one affine warp of image, mask and keypoints; the net's input."""
from dataclasses import dataclass

import cv2
import numpy as np

from mcc_caffe.core.geometry import apply, compose, letterbox, to_cells, translation, warp
from mcc_caffe.paper import FLIP_PROBABILITY, GREY, PIXEL_SCALE, ROTATION_RANGE, SCALE_RANGE


@dataclass(frozen=True)
class Augmentation:
    """One draw of 3.3. The default changes nothing: the sample is only letterboxed."""

    scale: float = 1.0
    rotation: float = 0.0              # degrees, counter-clockwise as seen in the picture
    crop: tuple = (0.5, 0.5)           # place of the crop in its range, 0..1 in x and y
    flip: bool = False

    @staticmethod
    def draw(rng: np.random.Generator) -> "Augmentation":
        """Scale and rotation uniform in the paper's ranges, any crop, a flip half of the time."""
        return Augmentation(
            scale=rng.uniform(*SCALE_RANGE),
            rotation=rng.uniform(*ROTATION_RANGE),
            crop=tuple(rng.uniform(size=2)),
            flip=bool(rng.uniform() < FLIP_PROBABILITY),
        )

    def matrix(self, width: int, height: int, size: int) -> np.ndarray:
        """Map of a width x height image into the size x size input.

        The letterboxed frame is scaled, rotated about its centre, cut (or, where it became smaller, placed) at random
        into size x size, and mirrored in x.
        """
        frame = self.scale * size
        centre = (frame - 1) / 2
        cos, sin = np.cos(np.radians(self.rotation)), np.sin(np.radians(self.rotation))
        offset = np.multiply(self.crop, frame - size)
        steps = [
            letterbox(width, height, size),
            np.array([[self.scale, 0, 0], [0, self.scale, 0]]),
            translation(-centre, -centre),
            np.array([[cos, sin, 0], [-sin, cos, 0]]),
            translation(centre - offset[0], centre - offset[1]),
        ]
        if self.flip:
            steps.append(np.array([[-1.0, 0, size - 1], [0, 1, 0]]))
        return compose(*steps)


def warp_image(image: np.ndarray, matrix: np.ndarray, size: int, reduced: int = 1) -> np.ndarray:
    """HxWx3 uint8 image through `matrix` into size x size x 3, empty pixels grey (3.3); `reduced` as geometry.warp takes it."""
    return warp(image, matrix, size, GREY, reduced=reduced)


def network_input(image: np.ndarray, matrix: np.ndarray, size: int, out: np.ndarray = None, reduced: int = 1) -> np.ndarray:
    """HxWx3 uint8 image through `matrix` as the net takes it: (3, size, size) float32 of (BGR - 128) / 256, empty pixels 0.

    out: a contiguous float32 array to write to instead of a new one. reduced: `matrix` is of an image that many times larger (geometry.warp).
    """
    if out is None:
        out = np.empty((3, size, size), np.float32)
    for plane, target in zip(cv2.split(warp_image(image, matrix, size, reduced)), out, strict=True):
        cv2.addWeighted(plane, 1 / PIXEL_SCALE, plane, 0, -GREY / PIXEL_SCALE, dst=target, dtype=cv2.CV_32F)  # the fastest exact way
    return out


def warp_mask(mask: np.ndarray, matrix: np.ndarray, cells: int) -> np.ndarray:
    """HxW mask of {0, 1} through `matrix` into the label at stride 8, cells x cells, empty cells 0 (3.1)."""
    return warp(mask, compose(matrix, to_cells()), cells, 0, nearest=True)


def warp_keypoints(keypoints: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """(21, 3) keypoints through `matrix`; one that leaves the size x size input becomes missing: (-1, -1, 0)."""
    xy = apply(matrix, keypoints[:, :2])
    inside = ((xy >= -0.5) & (xy < size - 0.5)).all(axis=1) & (keypoints[:, 2] > 0)
    return np.where(inside[:, None], np.column_stack([xy, inside]), (-1.0, -1.0, 0.0))
