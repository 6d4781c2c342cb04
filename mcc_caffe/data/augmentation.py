"""Training augmentation (3.3): scale, rotation, crop and flip as one affine warp of image, mask and keypoints; the net's input."""

from dataclasses import dataclass

import cv2
import numpy as np

from mcc_caffe.core.geometry import apply, compose, letterbox, to_cells, translation, warp
from mcc_caffe.paper import FLIP_PROBABILITY, GREY, PIXEL_SCALE, ROTATION_RANGE, SCALE_RANGE

GAMMA_RANGE = (-0.5, 0.5)  # of the exponent's logarithm to base 2
CHANNEL_GAIN_RANGE = (0.8, 1.25)
SATURATION_RANGE = (0.0, 1.5)  # 0 is a grey picture
BLUR_PROBABILITY = 0.25
BLUR_RANGE = (0.4, 1.6)  # standard deviation, pixels of the picture


@dataclass(frozen=True)
class ColourChange:
    """A change of a picture's colours and sharpness, as other cameras and lights would bring.

    Attributes:
        gamma: exponent of all channels.
        gains: factor on each channel (B, G, R).
        saturation: 1 leaves the colours, 0 makes the picture grey.
        blur: standard deviation of a Gaussian in pixels; 0 leaves the picture sharp.
    """

    gamma: float
    gains: tuple
    saturation: float
    blur: float

    @staticmethod
    def draw(rng: np.random.Generator) -> "ColourChange":
        """Draw a change; every second picture keeps its saturation, most keep their sharpness."""
        return ColourChange(
            gamma=2 ** rng.uniform(*GAMMA_RANGE),
            gains=tuple(rng.uniform(*CHANNEL_GAIN_RANGE, size=3)),
            saturation=rng.uniform(*SATURATION_RANGE) if rng.uniform() < 0.5 else 1.0,
            blur=rng.uniform(*BLUR_RANGE) if rng.uniform() < BLUR_PROBABILITY else 0.0,
        )

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return the changed picture, HxWx3 BGR uint8."""
        if self.saturation != 1:
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
            image = cv2.addWeighted(image, self.saturation, grey, 1 - self.saturation, 0)
        levels = (np.arange(256)[:, None] / 255) ** self.gamma * self.gains
        image = cv2.LUT(image, (255 * levels.clip(0, 1)).round().astype(np.uint8)[None])
        return cv2.GaussianBlur(image, (0, 0), self.blur) if self.blur else image


def draw_window(
    rng: np.random.Generator, keypoints: np.ndarray, smallest: float, largest: float
) -> tuple | None:
    """Draw a square round the hand, which holds its keypoints' box.

    Args:
        rng: source of the draw.
        keypoints: (21, 3) of x, y in image pixels and v.
        smallest: least side, as a multiple of the larger side of the keypoints' box.
        largest: greatest side, likewise; sides are uniform on a logarithmic scale.

    Returns:
        (x, y, side) in image pixels, or None where fewer than two keypoints are labelled.
    """
    points = keypoints[keypoints[:, 2] > 0, :2]
    if len(points) < 2:
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    box = max((high - low).max(), 1.0)
    side = box * np.exp(rng.uniform(np.log(smallest), np.log(largest)))
    margin = (side - (high - low)) / 2
    x, y = (low + high) / 2 - side / 2 + rng.uniform(-0.8, 0.8, 2) * margin
    return float(x), float(y), float(side)


@dataclass(frozen=True)
class Augmentation:
    """One draw of 3.3. The default changes nothing: the sample is only letterboxed."""

    scale: float = 1.0
    rotation: float = 0.0  # degrees, counter-clockwise as seen in the picture
    crop: tuple = (0.5, 0.5)  # place of the crop in its range, 0..1 in x and y
    flip: bool = False
    window: tuple | None = (
        None  # (x, y, side): the square that is looked at instead of the whole picture
    )

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
        if self.window is None:
            framed = letterbox(width, height, size)
        else:
            x, y, side = self.window
            framed = compose(translation(-x, -y), letterbox(side, side, size))
        steps = [
            framed,
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


def network_input(
    image: np.ndarray, matrix: np.ndarray, size: int, out: np.ndarray = None, reduced: int = 1
) -> np.ndarray:
    """HxWx3 uint8 image through `matrix` as the net takes it: (3, size, size) float32 of (BGR - 128) / 256, empty pixels 0.

    out: a contiguous float32 array to write to instead of a new one. reduced: `matrix` is of an image that many times larger (geometry.warp).
    """
    if out is None:
        out = np.empty((3, size, size), np.float32)
    for plane, target in zip(cv2.split(warp_image(image, matrix, size, reduced)), out, strict=True):
        cv2.addWeighted(
            plane, 1 / PIXEL_SCALE, plane, 0, -GREY / PIXEL_SCALE, dst=target, dtype=cv2.CV_32F
        )  # the fastest exact way
    return out


def warp_mask(mask: np.ndarray, matrix: np.ndarray, cells: int) -> np.ndarray:
    """HxW mask of {0, 1} through `matrix` into the label at stride 8, cells x cells, empty cells 0 (3.1)."""
    return warp(mask, compose(matrix, to_cells()), cells, 0, nearest=True)


def warp_keypoints(keypoints: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """(21, 3) keypoints through `matrix`; one that leaves the size x size input becomes missing: (-1, -1, 0)."""
    xy = apply(matrix, keypoints[:, :2])
    inside = ((xy >= -0.5) & (xy < size - 0.5)).all(axis=1) & (keypoints[:, 2] > 0)
    return np.where(inside[:, None], np.column_stack([xy, inside]), (-1.0, -1.0, 0.0))
