"""Draws the augmentation of a training sample (section 3.3) and warps the sample by it.

Scale, rotation, crop and flip make up one affine map, by which image, mask and keypoints are moved.
Two changes are not the paper's: a window around the hand, and other colours.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.geometry import (
    apply,
    compose,
    letterbox_affine,
    mirror_affine,
    to_cells,
    translation,
    warp,
)
from mcc_caffe.paper import FLIP_PROBABILITY, GREY, PIXEL_SCALE, ROTATION_RANGE, SCALE_RANGE

GAMMA_RANGE = (-0.5, 0.5)  # the exponent's logarithm to base 2
CHANNEL_GAIN_RANGE = (0.8, 1.25)
SATURATION_RANGE = (0.0, 1.5)  # 0 is a grey picture
BLUR_PROBABILITY = 0.25
BLUR_RANGE = (0.4, 1.6)  # the standard deviation of a Gaussian, pixels of the picture


@dataclass(frozen=True)
class ColourChange:
    """A change of a picture's colours and sharpness, as other cameras and lights would bring.

    Attributes:
        gamma: The exponent of all channels, whose values are taken from 0 to 1.
        gains: The factor on each channel (B, G, R).
        saturation: 1 leaves the colours, 0 makes the picture grey.
        blur: The standard deviation of a Gaussian in pixels of the full-size picture; 0 leaves the
            picture sharp.
    """

    gamma: float
    gains: tuple[float, float, float]
    saturation: float
    blur: float

    @staticmethod
    def draw(rng: np.random.Generator) -> "ColourChange":
        """Draw a change; half of all pictures keep their saturation, most keep their sharpness."""
        return ColourChange(
            gamma=2 ** rng.uniform(*GAMMA_RANGE),
            gains=tuple(rng.uniform(*CHANNEL_GAIN_RANGE, size=3).tolist()),
            saturation=rng.uniform(*SATURATION_RANGE) if rng.uniform() < 0.5 else 1.0,
            blur=rng.uniform(*BLUR_RANGE) if rng.uniform() < BLUR_PROBABILITY else 0.0,
        )

    def apply(self, image: np.ndarray, reduced: int = 1) -> np.ndarray:
        """Change a picture.

        Args:
            image: HxWx3 BGR uint8.
            reduced: How many times the picture has been reduced before, in each direction.

        Returns:
            A picture of the same shape.
        """
        if self.saturation != 1:
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
            image = cv2.addWeighted(image, self.saturation, grey, 1 - self.saturation, 0)
        levels = (np.arange(256)[:, None] / 255) ** self.gamma * self.gains
        image = cv2.LUT(image, (255 * levels.clip(0, 1)).round().astype(np.uint8)[None])
        return cv2.GaussianBlur(image, (0, 0), self.blur / reduced) if self.blur else image


class Window(NamedTuple):
    """A square of an image, in its pixels; (x, y) is its left-top corner."""

    x: float
    y: float
    side: float


def draw_window(
    rng: np.random.Generator, keypoints: np.ndarray, smallest: float, largest: float
) -> Window | None:
    """Draw a square at random that holds the box of the hand's keypoints.

    Args:
        rng: The source of randomness.
        keypoints: (21, 3) of x, y in image pixels and v: 1 where the keypoint is labelled, 0 where
            it is missing.
        smallest: The least side, as a multiple of the larger side of the keypoints' box; 1 or more.
        largest: The greatest side, as such a multiple. The logarithm of the side is uniform.

    Returns:
        The square, which may reach beyond the image; None where fewer than two keypoints are
        labelled.
    """
    points = keypoints[keypoints[:, 2] > 0, :2]
    if len(points) < 2:
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    box = max((high - low).max(), 1.0)
    side = box * np.exp(rng.uniform(np.log(smallest), np.log(largest)))
    margin = (side - (high - low)) / 2
    x, y = (low + high) / 2 - side / 2 + rng.uniform(-0.8, 0.8, 2) * margin
    return Window(float(x), float(y), float(side))


@dataclass(frozen=True)
class Augmentation:
    """One random augmentation, as in section 3.3; the default only letterboxes the sample.

    Attributes:
        scale: The factor on the letterboxed frame.
        rotation: The angle in degrees, counter-clockwise as seen in the picture.
        crop: The position of the crop, from 0 (left, top) to 1 (right, bottom) in x and y.
        flip: Whether the input is mirrored in x.
        window: The square that the network sees instead of the picture; None for the picture.
    """

    scale: float = 1.0
    rotation: float = 0.0
    crop: tuple[float, float] = (0.5, 0.5)
    flip: bool = False
    window: Window | None = None

    @staticmethod
    def draw(rng: np.random.Generator) -> "Augmentation":
        """Draw scale and rotation from the paper's ranges, any crop, a flip half of the time."""
        return Augmentation(
            scale=rng.uniform(*SCALE_RANGE),
            rotation=rng.uniform(*ROTATION_RANGE),
            crop=tuple(rng.uniform(size=2).tolist()),
            flip=bool(rng.uniform() < FLIP_PROBABILITY),
        )

    def image_to_input(self, width: int, height: int, size: int) -> np.ndarray:
        """Return the affine map of an image into the network's input.

        The letterboxed frame is scaled and rotated about its centre. A square of the input's size
        is then cut out of it; a frame that has become smaller is put into that square. Last, a flip
        mirrors the square.

        Args:
            width: The image's width in pixels.
            height: The image's height in pixels.
            size: The side of the input in pixels.
        """
        frame = self.scale * size
        centre = (frame - 1) / 2
        cos, sin = np.cos(np.radians(self.rotation)), np.sin(np.radians(self.rotation))
        offset = np.multiply(self.crop, frame - size)
        if self.window is None:
            framed = letterbox_affine(width, height, size)
        else:
            x, y, side = self.window
            to_window = translation(-x, -y)
            framed = compose(to_window, letterbox_affine(side, side, size))
        steps = [
            framed,
            np.array([[self.scale, 0, 0], [0, self.scale, 0]]),
            translation(-centre, -centre),
            np.array([[cos, sin, 0], [-sin, cos, 0]]),
            translation(centre - offset[0], centre - offset[1]),
        ]
        if self.flip:
            steps.append(mirror_affine(size))
        return compose(*steps)


def warp_image(
    image: np.ndarray, image_to_input: np.ndarray, size: int, reduced: int = 1
) -> np.ndarray:
    """Warp an image into the network's input; empty pixels are grey (section 3.3).

    Args:
        image: HxWx3 BGR uint8.
        image_to_input: The affine map of image pixels to input pixels.
        size: The side of the input in pixels.
        reduced: As `geometry.warp` takes it.

    Returns:
        Size x size x 3 BGR uint8.
    """
    return warp(image, image_to_input, size, GREY, reduced=reduced)


def network_input(
    image: np.ndarray,
    image_to_input: np.ndarray,
    size: int,
    out: np.ndarray | None = None,
    *,
    reduced: int = 1,
) -> np.ndarray:
    """Warp an image into the network's input and scale its values as the network takes them.

    Args:
        image: HxWx3 BGR uint8.
        image_to_input: The affine map of image pixels to input pixels.
        size: The side of the input in pixels.
        out: A contiguous (3, size, size) float32 array to write to; None for a new one.
        reduced: As `geometry.warp` takes it.

    Returns:
        (3, size, size) float32 of (BGR - 128) / 256; empty pixels are 0.
    """
    if out is None:
        out = np.empty((3, size, size), np.float32)
    for plane, target in zip(
        cv2.split(warp_image(image, image_to_input, size, reduced)), out, strict=True
    ):
        # The fastest exact way to scale, shift and convert.
        cv2.addWeighted(
            plane, 1 / PIXEL_SCALE, plane, 0, -GREY / PIXEL_SCALE, dst=target, dtype=cv2.CV_32F
        )
    return out


def warp_mask(mask: np.ndarray, image_to_input: np.ndarray, cells: int) -> np.ndarray:
    """Warp a mask into the label of the mask head (section 3.1).

    Args:
        mask: HxW of {0, 1}.
        image_to_input: The affine map of image pixels to input pixels.
        cells: The side of the label in cells, an eighth of the input's side.

    Returns:
        Cells x cells of {0, 1}; empty cells are 0.
    """
    return warp(mask, compose(image_to_input, to_cells()), cells, 0, nearest=True)


def warp_keypoints(keypoints: np.ndarray, image_to_input: np.ndarray, size: int) -> np.ndarray:
    """Move keypoints into the network's input.

    Args:
        keypoints: (21, 3) of x, y in image pixels and v, 1 or 0.
        image_to_input: The affine map of image pixels to input pixels.
        size: The side of the input in pixels.

    Returns:
        (21, 3) of x, y in input pixels and v; a keypoint that leaves the input is missing:
        (-1, -1, 0).
    """
    xy = apply(image_to_input, keypoints[:, :2])
    inside = ((xy >= -0.5) & (xy < size - 0.5)).all(axis=1) & (keypoints[:, 2] > 0)
    return np.where(inside[:, None], np.column_stack([xy, inside]), (-1.0, -1.0, 0.0))
