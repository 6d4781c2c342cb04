"""Letterbox (Eq. 1), affine maps and pyramid windows.

A map is a 2x3 float64 array that takes (x, y, 1) to (x', y'). Pixel centres are integers: an image of width w covers
x in [-0.5, w - 0.5].
"""

import cv2
import numpy as np

from mcc_caffe.paper import PYRAMID_CROP, PYRAMID_SMALLEST, STRIDE


def letterbox(width: int, height: int, size: int) -> np.ndarray:
    """Map of a width x height image into a size x size input: x' = tau x, tau = min(size/w, size/h) (3.1, Eq. 1).

    The picture starts in the left-top corner; what it leaves empty is the fill's.
    """
    tau = min(size / width, size / height)
    return np.array([[tau, 0, 0], [0, tau, 0]])


def resize(x: float, y: float) -> np.ndarray:
    """Map that scales the area of an image by the factors (x, y), as cv2.resize does: x' = f (x + 0.5) - 0.5."""
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5]])


def to_cells() -> np.ndarray:
    """Map of input pixels to the cells of the stride-8 maps."""
    return resize(1 / STRIDE, 1 / STRIDE)


def translation(x: float, y: float) -> np.ndarray:
    """Map that adds (x, y)."""
    return np.array([[1.0, 0, x], [0, 1.0, y]])


def compose(*maps: np.ndarray) -> np.ndarray:
    """One map that applies `maps` from the first to the last."""
    result = np.eye(3)
    for one in maps:
        result = np.vstack([one, (0, 0, 1)]) @ result
    return result[:2]


def invert(one: np.ndarray) -> np.ndarray:
    """The inverse map."""
    return np.linalg.inv(np.vstack([one, (0, 0, 1)]))[:2]


def apply(one: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Maps points (..., 2) of x, y; returns float64 of the same shape."""
    return np.asarray(points, np.float64) @ one[:, :2].T + one[:, 2]


def _whole_shrink(one: np.ndarray) -> int:
    """The whole part of the factor by which the map shrinks; 0 where it enlarges."""
    return int(1 / np.sqrt(abs(np.linalg.det(one[:, :2]))))


def reduction(one: np.ndarray) -> int:
    """At what part of its size, 1/1, 1/2, 1/4 or 1/8, an image that goes through the map is large enough."""
    shrink = _whole_shrink(one)
    return max((part for part in (2, 4, 8) if part <= shrink), default=1)


def warp(
    image: np.ndarray, one: np.ndarray, size: int, fill, nearest: bool = False, reduced: int = 1
) -> np.ndarray:
    """Draws `image` (HxW or HxWxC) through the map into a size x size array; what it does not cover is `fill`.

    Where the map shrinks by 2 or more, the image is first averaged down by the whole part of that factor, so that
    nothing is aliased. `nearest` takes the value of the nearest pixel instead (labels). `reduced`: the map is of an image
    that many times larger, of which `image` holds the means of reduced x reduced pixels (1/`reduction` of the map, or larger).
    """
    shrink = _whole_shrink(one)
    if shrink >= 2 and not nearest:
        width, height = image.shape[1] * reduced, image.shape[0] * reduced
        smaller = -(-width // shrink), -(-height // shrink)
        if smaller != image.shape[1::-1]:
            image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
        one = compose(invert(resize(smaller[0] / width, smaller[1] / height)), one)
    if np.ndim(fill) == 0:
        fill = (fill,) * 4
    return cv2.warpAffine(
        image,
        one,
        (size, size),
        flags=cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=fill,
    )


def pyramid_windows(
    width: int, height: int, rng: np.random.Generator, levels: int = None
) -> np.ndarray:
    """Windows of the image pyramid (3.3): (L, 4) int64 of x, y, width, height in image pixels, the whole image first.

    Each window is a random crop of the one before it, narrower by 1 px to PYRAMID_CROP of the image's width and lower in
    the same proportion, until the smaller side would fall below PYRAMID_SMALLEST px. `levels` bounds their number.
    """
    x, y, w, h = 0, 0, width, height
    windows = [(x, y, w, h)]
    while levels is None or len(windows) < levels:
        cut_x = int(rng.integers(1, max(int(PYRAMID_CROP * width), 1), endpoint=True))
        cut_y = int(round(cut_x * height / width))
        if min(w - cut_x, h - cut_y) < PYRAMID_SMALLEST:
            break
        x += int(rng.integers(0, cut_x, endpoint=True))
        y += int(rng.integers(0, cut_y, endpoint=True))
        w, h = w - cut_x, h - cut_y
        windows.append((x, y, w, h))
    return np.array(windows, np.int64)
