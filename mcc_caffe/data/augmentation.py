"""Draws the augmentation of a training sample (section 3.3) and warps the sample by it.

Scale, rotation, crop and flip make up one affine map, by which image, mask and keypoints are moved.
Four changes are not the paper's: a window around the hand, in which half of the hands may point
up, other colours, and the strong augmentation, which stretches, covers and recolours half of the
samples.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.geometry import (
    apply,
    compose,
    letterbox_affine,
    lie_inside,
    mirror_affine,
    rotation,
    to_cells,
    translation,
    warp,
)
from mcc_caffe.paper import FLIP_PROBABILITY, GREY, PIXEL_SCALE, ROTATION_RANGE, SCALE_RANGE

# How likely a hand is turned to point up, or an image without a hand by quarters of a circle; the
# paper's rotation comes after it.
UPRIGHT_PROBABILITY = 0.5
STRONG_PROBABILITY = 0.5  # of a strong sample; the next probabilities are of what changes it
STRETCH_PROBABILITY = 0.7
STRETCH_RANGE = (1 / 1.45, 1.45)
TURN_RANGE = (-25.0, 25.0)  # degrees
NOISE_PROBABILITY = 0.3
NOISE_RANGE = (0.005, 0.05)  # the standard deviation; the network's inputs are -0.5 to 0.5
COVER_PROBABILITY = 0.3
COVER_COUNTS = (1, 2)
COVER_SIDE_RANGE = (0.06, 0.25)  # as a share of the input's side


class ColourRanges(NamedTuple):
    """The ranges from which a change of colours is drawn.

    Attributes:
        gamma: Of the exponent's logarithm to base 2.
        channel_gain: Of the factor on each channel.
        saturation: 0 is a grey image.
        blur_probability: The share of the images that are blurred.
        blur: Of the standard deviation of a Gaussian, pixels of the image.
    """

    gamma: tuple[float, float]
    channel_gain: tuple[float, float]
    saturation: tuple[float, float]
    blur_probability: float
    blur: tuple[float, float]


COLOURS = ColourRanges((-0.5, 0.5), (0.8, 1.25), (0.0, 1.5), 0.25, (0.4, 1.6))
STRONG_COLOURS = ColourRanges((-0.8, 0.8), (0.75, 1.33), (0.0, 1.8), 0.3, (0.4, 2.2))


@dataclass(frozen=True)
class ColourChange:
    """A change of an image's colours and sharpness, as other cameras and lights would bring.

    Attributes:
        gamma: The exponent of all channels, whose values are taken from 0 to 1.
        gains: The factor on each channel (B, G, R).
        saturation: 1 leaves the colours, 0 makes the image grey.
        blur: The standard deviation of a Gaussian in pixels of the full-size image; 0 leaves the
            image sharp.
    """

    gamma: float
    gains: tuple[float, float, float]
    saturation: float
    blur: float

    @staticmethod
    def draw(rng: np.random.Generator, ranges: ColourRanges = COLOURS) -> "ColourChange":
        """Draw a change; half of all images keep their saturation, most keep their sharpness."""
        return ColourChange(
            gamma=2 ** rng.uniform(*ranges.gamma),
            gains=tuple(rng.uniform(*ranges.channel_gain, size=3).tolist()),
            saturation=rng.uniform(*ranges.saturation) if rng.uniform() < 0.5 else 1.0,
            blur=rng.uniform(*ranges.blur) if rng.uniform() < ranges.blur_probability else 0.0,
        )

    def apply(self, image: np.ndarray, reduction: int = 1) -> np.ndarray:
        """Change an image.

        Args:
            image: HxWx3 BGR uint8.
            reduction: The factor by which decoding has divided each side: 1, 2, 4 or 8.

        Returns:
            An image of the same shape.
        """
        if self.saturation != 1:
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
            image = cv2.addWeighted(image, self.saturation, grey, 1 - self.saturation, 0)
        levels = (np.arange(256)[:, None] / 255) ** self.gamma * self.gains
        image = cv2.LUT(image, (255 * levels.clip(0, 1)).round().astype(np.uint8)[None])
        return cv2.GaussianBlur(image, (0, 0), self.blur / reduction) if self.blur else image


@dataclass(frozen=True)
class Stretch:
    """A stretch of the hand along an axis, and a turn, as other cameras would see it.

    Attributes:
        axis: The angle of the axis, degrees clockwise from the right, as one sees it.
        factor: The stretch along the axis divided by that across it. The area stays.
        turn: The angle by which the hand is turned before, degrees counter-clockwise.
    """

    axis: float
    factor: float
    turn: float

    @staticmethod
    def draw(rng: np.random.Generator) -> "Stretch | None":
        """Draw a stretch along any axis, or none."""
        if rng.uniform() >= STRETCH_PROBABILITY:
            return None
        return Stretch(
            axis=rng.uniform(0, 180),
            factor=np.exp(rng.uniform(*np.log(STRETCH_RANGE))),
            turn=rng.uniform(*TURN_RANGE),
        )

    def linear(self) -> np.ndarray:
        """Return the 2x2 matrix that turns and then stretches."""
        to_axis = rotation(self.axis)[:, :2]
        along, across = self.factor**0.5, self.factor**-0.5
        return to_axis.T @ np.diag([along, across]) @ to_axis @ rotation(self.turn)[:, :2]

    def apply(self, image_to_input: np.ndarray, keypoints: np.ndarray, size: int) -> np.ndarray:
        """Stretch what the network sees about the middle of the hand.

        A hand that would leave the input and fits into it is moved back to the edge.

        Args:
            image_to_input: The affine map of image pixels to input pixels.
            keypoints: (21, 3) of x, y in image pixels and v, 1 or 0.
            size: The side of the input in pixels.

        Returns:
            Another affine map; the same one where no keypoint is labelled.
        """
        points = keypoints[keypoints[:, 2] > 0, :2]
        if not len(points):
            return image_to_input
        middle = np.mean(_bounds(apply(image_to_input, points)), axis=0)
        stretch = np.column_stack([self.linear(), (0, 0)])
        stretched = compose(image_to_input, translation(*-middle), stretch, translation(*middle))
        low, high = _bounds(apply(stretched, points))
        shift = np.where(high - low <= size - 1, np.clip(0, -low, size - 1 - high), 0)
        return compose(stretched, translation(*shift))


def _bounds(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest x and y of points."""
    return points.min(axis=0), points.max(axis=0)


def add_noise(data: np.ndarray, rng: np.random.Generator) -> None:
    """Add noise to some inputs of the network.

    Args:
        data: (3, m, m) float32, which is changed.
        rng: The source of randomness.
    """
    if rng.uniform() < NOISE_PROBABILITY:
        data += rng.normal(0, rng.uniform(*NOISE_RANGE), data.shape).astype(np.float32)


def cover_parts(data: np.ndarray, rng: np.random.Generator) -> None:
    """Cover parts of some inputs of the network with rectangles, each of one colour.

    Args:
        data: (3, m, m) float32, which is changed.
        rng: The source of randomness.
    """
    if rng.uniform() >= COVER_PROBABILITY:
        return
    size = data.shape[1]
    for _ in range(rng.integers(COVER_COUNTS[0], COVER_COUNTS[1] + 1)):
        width, height = (rng.uniform(*COVER_SIDE_RANGE, size=2) * size).astype(int)
        x, y = int(rng.uniform(0, size - width)), int(rng.uniform(0, size - height))
        data[:, y : y + height, x : x + width] = rng.uniform(-0.5, 0.5, 3)[:, None, None]


class Window(NamedTuple):
    """A square of a turned image.

    Attributes:
        x: Of the left-top corner in pixels of the turned image.
        y: Likewise.
        side: Pixels.
        turn: The angle by which the image is turned about its first pixel, degrees
            counter-clockwise.
    """

    x: float
    y: float
    side: float
    turn: float = 0.0


def draw_window(
    rng: np.random.Generator,
    keypoints: np.ndarray,
    smallest: float,
    largest: float,
    turn: float = 0.0,
) -> Window | None:
    """Draw a square of a turned image at random that holds the box of the hand's keypoints.

    Args:
        rng: The source of randomness.
        keypoints: (21, 3) of x, y in image pixels and v: 1 where the keypoint is labelled, 0 where
            it is missing.
        smallest: The least side, as a multiple of the larger side of the keypoints' box; 1 or more.
        largest: The greatest side, as such a multiple. The logarithm of the side is uniform.
        turn: The angle by which the image is turned, degrees counter-clockwise.

    Returns:
        The square, which may reach beyond the image; None where fewer than two keypoints are
        labelled.
    """
    points = keypoints[keypoints[:, 2] > 0, :2]
    if len(points) < 2:
        return None
    low, high = _bounds(apply(rotation(turn), points))
    box = max((high - low).max(), 1.0)
    side = box * np.exp(rng.uniform(np.log(smallest), np.log(largest)))
    margin = (side - (high - low)) / 2
    x, y = (low + high) / 2 - side / 2 + rng.uniform(-0.8, 0.8, 2) * margin
    return Window(float(x), float(y), float(side), turn)


@dataclass(frozen=True)
class Augmentation:
    """One random augmentation, as in section 3.3; the default only letterboxes the sample.

    Attributes:
        scale: The factor on the letterboxed frame.
        rotation: The angle in degrees, counter-clockwise as seen in the image.
        crop: The position of the crop, from 0 (left, top) to 1 (right, bottom) in x and y.
        flip: Whether the input is mirrored in x.
        window: The square that the network sees instead of the image; None for the image.
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
        offset = np.multiply(self.crop, frame - size)
        if self.window is None:
            framed = letterbox_affine(width, height, size)
        else:
            x, y, side, turn = self.window
            to_window = compose(rotation(turn), translation(-x, -y))
            framed = compose(to_window, letterbox_affine(side, side, size))
        steps = [
            framed,
            np.array([[self.scale, 0, 0], [0, self.scale, 0]]),
            translation(-centre, -centre),
            rotation(self.rotation),
            translation(centre - offset[0], centre - offset[1]),
        ]
        if self.flip:
            steps.append(mirror_affine(size))
        return compose(*steps)


def network_input(
    image: np.ndarray,
    image_to_input: np.ndarray,
    size: int,
    out: np.ndarray | None = None,
    *,
    reduction: int = 1,
) -> np.ndarray:
    """Warp an image into the network's input and scale its values as the network takes them.

    Args:
        image: HxWx3 BGR uint8.
        image_to_input: The affine map of image pixels to input pixels.
        size: The side of the input in pixels.
        out: A contiguous (3, size, size) float32 array to write to; None for a new one.
        reduction: The factor by which decoding has divided each side: 1, 2, 4 or 8.
            Above 1, `image_to_input` is the map of the full-size image.

    Returns:
        (3, size, size) float32 of (BGR - 128) / 256; empty pixels are grey (section 3.3), 0.
    """
    if out is None:
        out = np.empty((3, size, size), np.float32)
    warped = warp(image, image_to_input, size, GREY, reduction=reduction)
    for plane, target in zip(cv2.split(warped), out, strict=True):
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
        cells x cells of {0, 1}; empty cells are 0.
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
    inside = lie_inside(xy, size, size) & (keypoints[:, 2] > 0)
    return np.where(inside[:, None], np.column_stack([xy, inside]), (-1.0, -1.0, 0.0))
