"""Affine maps, the letterbox (Eq. 1) among them, and the windows of the pyramid.

An affine map is a 2x3 float64 array that takes (x, y, 1) to (x', y'). The centres of pixels have
integer coordinates: pixel 0 reaches from -0.5 to 0.5, and an image of width w from -0.5 to w - 0.5.
So a map that scales an image's area by f, as cv2.resize does, is x' = f (x + 0.5) - 0.5
(`resize_affine`). The paper's letterbox scales the coordinates themselves, x' = f x
(`letterbox_affine`).
"""

from collections.abc import Sequence

import cv2
import numpy as np

from mcc_caffe.paper import GREY, PYRAMID_CROP, PYRAMID_SMALLEST, STRIDE

_LONGEST_SIDE = (1 << 15) - 2  # pixels, of an image that cv2.warpAffine takes


def lie_inside(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Tell which points lie on the pixels of an image, whose centres are integers.

    Args:
        points: (N, 2) of x and y in pixels.
        width: Of the image in pixels.
        height: Likewise.

    Returns:
        (N,) bool.
    """
    is_inside = (points >= -0.5) & (points < np.array([width - 0.5, height - 0.5]))
    return np.asarray(is_inside.all(axis=1))


def letterbox_affine(width: float, height: float, size: int) -> np.ndarray:
    """Return the affine map of an image into a square input (section 3.1, Eq. 1).

    The map is x' = tau x with tau = min(size / width, size / height). It puts the image into the
    left-top corner. The caller fills the part of the square that stays empty.

    Args:
        width: The image's width in pixels.
        height: The image's height in pixels.
        size: The side of the input in pixels.
    """
    tau = min(size / width, size / height)
    return np.array([[tau, 0, 0], [0, tau, 0]])


def resize_affine(x_factor: float, y_factor: float) -> np.ndarray:
    """Return the affine map by which cv2.resize moves pixels: x' = f (x + 0.5) - 0.5.

    Args:
        x_factor: The new width divided by the old one.
        y_factor: The new height divided by the old one.
    """
    return np.array([[x_factor, 0, 0.5 * x_factor - 0.5], [0, y_factor, 0.5 * y_factor - 0.5]])


def to_cells() -> np.ndarray:
    """Return the affine map of input pixels to the cells of the net's maps, 8 x 8 pixels each."""
    return resize_affine(1 / STRIDE, 1 / STRIDE)


def translation(x: float, y: float) -> np.ndarray:
    """Return the affine map that adds (x, y)."""
    return np.array([[1.0, 0, x], [0, 1.0, y]])


def rotation(degrees: float) -> np.ndarray:
    """Return the affine map that turns about (0, 0), counter-clockwise as one sees it."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, sin, 0], [-sin, cos, 0]])


def rotation_about_centre(degrees: float, image_size: tuple[int, int]) -> np.ndarray:
    """Return the affine map that turns an image about its centre, counter-clockwise.

    Args:
        degrees: The angle.
        image_size: (W, H) in pixels.
    """
    centre = (np.array(image_size) - 1) / 2
    return compose(translation(*-centre), rotation(degrees), translation(*centre))


def mirror_affine(width: int) -> np.ndarray:
    """Return the affine map (2, 3) that mirrors an image of `width` pixels in x."""
    return np.array([[-1.0, 0, width - 1], [0, 1.0, 0]])


def compose(*affines: np.ndarray) -> np.ndarray:
    """Return the affine map that applies `affines` one after the other, the first one first."""
    result = np.eye(3)
    for affine in affines:
        result = np.vstack([affine, (0, 0, 1)]) @ result
    return result[:2]


def invert(affine: np.ndarray) -> np.ndarray:
    """Return the inverse of an affine map."""
    return np.linalg.inv(np.vstack([affine, (0, 0, 1)]))[:2]


def apply(affine: np.ndarray, points: np.ndarray | Sequence) -> np.ndarray:
    """Move points by an affine map.

    Args:
        affine: The affine map.
        points: (..., 2) of x, y.

    Returns:
        The moved points, float64 of the same shape.
    """
    return np.asarray(points, np.float64) @ affine[:, :2].T + affine[:, 2]


def apply_to_boxes(affine: np.ndarray, boxes_ltrb: np.ndarray) -> np.ndarray:
    """Move boxes by an affine map, and return the boxes around what becomes of them.

    Args:
        affine: The affine map.
        boxes_ltrb: (N, 4) of left, top, right, bottom.

    Returns:
        (N, 4) float64 of left, top, right, bottom, also where the map mirrors or turns.
    """
    all_corners = [0, 1, 2, 1, 0, 3, 2, 3]  # left top, right top, left bottom, right bottom
    corners = apply(affine, boxes_ltrb[:, all_corners].reshape(-1, 4, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def shrink_factor(affine: np.ndarray) -> float:
    """Return the factor by which an affine map shrinks; below 1 where it enlarges.

    It has six decimals, so that a map which turns and shrinks by 6 does not shrink by 5.999...
    """
    return round(float(1 / np.sqrt(abs(np.linalg.det(affine[:, :2])))), 6)


def choose_reduction(affine: np.ndarray) -> int:
    """Return how far a JPEG may be reduced while it is decoded, if `warp` draws it afterwards.

    Args:
        affine: The affine map that `warp` will draw the image by.

    Returns:
        1, 2, 4 or 8: the greatest divisor of the image's sides that leaves it at least as fine as
        the result of the warp.
    """
    shrink = int(shrink_factor(affine))
    return max((factor for factor in (2, 4, 8) if factor <= shrink), default=1)


def warp(
    image: np.ndarray,
    affine: np.ndarray,
    size: int,
    fill: float,
    *,
    nearest: bool = False,
    reduction: int = 1,
) -> np.ndarray:
    """Warp an image by an affine map into a square.

    A map that shrinks by 2 or more would skip pixels. The image is therefore reduced first: by that
    factor, rounded down, with means over the pixels.

    Args:
        image: HxW or HxWxC.
        affine: The affine map of image pixels to pixels of the result.
        size: The side of the result in pixels.
        fill: The value of the pixels that the image does not cover.
        nearest: Take the value of the nearest pixel instead of interpolating; for labels.
        reduction: The factor by which decoding has divided each side: 1, 2, 4 or 8.
            Above 1, `affine` is the map of the full-size image.

    Returns:
        The warped image, size x size or size x size x C, of the image's type.
    """
    shrink = int(shrink_factor(affine))
    if shrink >= 2 and not nearest:
        width, height = image.shape[1] * reduction, image.shape[0] * reduction
        smaller = -(-width // shrink), -(-height // shrink)
        if smaller != image.shape[1::-1]:
            image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
        affine = compose(invert(resize_affine(smaller[0] / width, smaller[1] / height)), affine)
    if max(image.shape[:2]) > _LONGEST_SIDE:
        if nearest:
            return _take_nearest(image, affine, size, fill)
        image, affine = cut_to_square(image, affine, size)
    return cv2.warpAffine(
        image,
        affine,
        (size, size),
        flags=cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(fill,) * 4,
    )


def _take_nearest(image: np.ndarray, affine: np.ndarray, size: int, fill: float) -> np.ndarray:
    """Do what `warp` does with `nearest`, for an image of any size."""
    targets = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1)
    x, y = np.moveaxis(np.rint(apply(invert(affine), targets)).astype(int), -1, 0)
    is_inside = (x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])
    result = np.full((size, size, *image.shape[2:]), fill, image.dtype)
    result[is_inside] = image[y[is_inside], x[is_inside]]
    return result


def cut_to_square(
    image: np.ndarray, affine: np.ndarray, size: int, step: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Cut an image to what a square shows of it, and a margin for the interpolation.

    Args:
        image: HxW or HxWxC, of which at least one pixel stays.
        affine: The affine map of image pixels to pixels of the square.
        size: The side of the square in pixels.
        step: The part begins at a multiple of so many pixels, and ends at one or at the image's
            edge. Where `warp` averages squares of this side, it averages the same ones if they
            divide the image, and other ones of about the same side if not.

    Returns:
        The part of the image, and the affine map of its pixels.
    """
    last = size - 1
    corners = apply(invert(affine), [(0, 0), (last, 0), (0, last), (last, last)])
    sides = np.array(image.shape[1::-1])
    first = np.floor(corners.min(axis=0) / step - 2) * step
    first = first.clip(0, (sides - 1) // step * step)
    end = (np.ceil(corners.max(axis=0) / step + 3) * step).clip(first + 1, sides)
    (left, top), (right, bottom) = first.astype(int).tolist(), end.astype(int).tolist()
    return image[top:bottom, left:right], compose(translation(left, top), affine)


def cut_for_warp(image: np.ndarray, affine: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut an image to what `warp` shows of it, in steps of the squares that `warp` averages.

    Args:
        image: As `cut_to_square` takes it.
        affine: Likewise.
        size: Likewise.

    Returns:
        As of `cut_to_square`.
    """
    return cut_to_square(image, affine, size, max(int(shrink_factor(affine)), 1))


def add_grey_borders(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image in the middle of a grey one.

    Args:
        image: HxWx3 uint8.
        size: (width, height) of the grey image in pixels, no side of it below the image's.
    """
    (height, width), (new_width, new_height) = image.shape[:2], size
    top, left = (new_height - height) // 2, (new_width - width) // 2
    framed = np.full((new_height, new_width, 3), GREY, np.uint8)
    framed[top : top + height, left : left + width] = image
    return framed


def pyramid_windows(
    width: int, height: int, rng: np.random.Generator, levels: int | None = None
) -> np.ndarray:
    """Draw the windows of the image pyramid (section 3.3).

    Each window is a random crop of the one before it. It is narrower by at least 1 pixel and at
    most PYRAMID_CROP of the image's width, and its height shrinks in proportion. The pyramid ends
    before a crop's smaller side would fall below PYRAMID_SMALLEST pixels.

    Args:
        width: The image's width in pixels.
        height: The image's height in pixels.
        rng: The source of randomness.
        levels: The most windows to draw; None for no limit.

    Returns:
        (L, 4) int64 of x, y, width, height in image pixels; the first is the whole image.
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
