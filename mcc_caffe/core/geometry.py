"""Letterbox (Eq. 1), affine maps and pyramid windows.

An affine map is a 2x3 float64 array that takes (x, y, 1) to (x', y'). Pixel centres are integers:
an image of width w covers x in [-0.5, w - 0.5].
"""

from collections.abc import Sequence

import cv2
import numpy as np

from mcc_caffe.paper import PYRAMID_CROP, PYRAMID_SMALLEST, STRIDE


def letterbox_affine(width: float, height: float, size: int) -> np.ndarray:
    """Return the map of an image into a square input (section 3.1, Eq. 1).

    x' = tau x with tau = min(size / width, size / height): the picture starts in the left-top
    corner, and what it leaves empty is for the caller to fill.

    Args:
        width: Of the image, pixels.
        height: Of the image, pixels.
        size: The side of the input, pixels.
    """
    tau = min(size / width, size / height)
    return np.array([[tau, 0, 0], [0, tau, 0]])


def resize_affine(x_factor: float, y_factor: float) -> np.ndarray:
    """Return the map of cv2.resize, which scales an image's area: x' = f (x + 0.5) - 0.5."""
    return np.array([[x_factor, 0, 0.5 * x_factor - 0.5], [0, y_factor, 0.5 * y_factor - 0.5]])


def to_cells() -> np.ndarray:
    """Return the map of input pixels to the cells of the stride-8 maps."""
    return resize_affine(1 / STRIDE, 1 / STRIDE)


def translation(x: float, y: float) -> np.ndarray:
    """Return the map that adds (x, y)."""
    return np.array([[1.0, 0, x], [0, 1.0, y]])


def compose(*affines: np.ndarray) -> np.ndarray:
    """Return the map that applies `affines` one after the other, the first one first."""
    result = np.eye(3)
    for affine in affines:
        result = np.vstack([affine, (0, 0, 1)]) @ result
    return result[:2]


def invert(affine: np.ndarray) -> np.ndarray:
    """Return the inverse map."""
    return np.linalg.inv(np.vstack([affine, (0, 0, 1)]))[:2]


def apply(affine: np.ndarray, points: np.ndarray | Sequence) -> np.ndarray:
    """Map points.

    Args:
        affine: The map.
        points: (..., 2) of x, y.

    Returns:
        The mapped points, float64 of the same shape.
    """
    return np.asarray(points, np.float64) @ affine[:, :2].T + affine[:, 2]


def _integer_shrink(affine: np.ndarray) -> int:
    """Return by which factor the map shrinks, rounded down; 0 where it enlarges."""
    return int(1 / np.sqrt(abs(np.linalg.det(affine[:, :2]))))


def reduction(affine: np.ndarray) -> int:
    """Return how far a JPEG may be reduced while it is decoded, before it goes through the map.

    Returns:
        1, 2, 4 or 8: at 1/1, 1/2, 1/4 or 1/8 of its size the image is still large enough.
    """
    shrink = _integer_shrink(affine)
    return max((factor for factor in (2, 4, 8) if factor <= shrink), default=1)


def warp(
    image: np.ndarray,
    affine: np.ndarray,
    size: int,
    fill: float | Sequence[float],
    *,
    nearest: bool = False,
    reduced: int = 1,
) -> np.ndarray:
    """Draw an image through a map.

    Where the map shrinks by 2 or more, the image is first averaged down by that factor, rounded
    down, so that nothing is aliased.

    Args:
        image: HxW or HxWxC.
        affine: The map of image pixels to pixels of the result.
        size: The side of the result, pixels.
        fill: The value of the pixels that the image does not cover.
        nearest: Take the value of the nearest pixel instead of interpolating; for labels.
        reduced: Where above 1, the map is that of an image so many times larger, of which `image`
            holds the means of reduced x reduced pixels (see `reduction`).

    Returns:
        size x size or size x size x C, of the image's type.
    """
    shrink = _integer_shrink(affine)
    if shrink >= 2 and not nearest:
        width, height = image.shape[1] * reduced, image.shape[0] * reduced
        smaller = -(-width // shrink), -(-height // shrink)
        if smaller != image.shape[1::-1]:
            image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
        affine = compose(invert(resize_affine(smaller[0] / width, smaller[1] / height)), affine)
    return cv2.warpAffine(
        image,
        affine,
        (size, size),
        flags=cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=fill if isinstance(fill, Sequence) else (fill,) * 4,
    )


def pyramid_windows(
    width: int, height: int, rng: np.random.Generator, levels: int | None = None
) -> np.ndarray:
    """Draw the windows of the image pyramid (section 3.3).

    Each window is a random crop of the one before it: narrower by 1 px to PYRAMID_CROP of the
    image's width, and lower in the same proportion. The windows end before the smaller side would
    fall below PYRAMID_SMALLEST px.

    Args:
        width: Of the image, pixels.
        height: Of the image, pixels.
        rng: The source of the draws.
        levels: The most windows to draw; None for no limit.

    Returns:
        (L, 4) int64 of x, y, width, height in image pixels; the first is the image itself.
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
