"""Encodes keypoints as heatmaps and decodes heatmaps to keypoints (sections 3.1, 3.3).

Each of the K = 21 keypoints has a map, and so has the background: (K + 1, S, S) with S = m / 8 for
an input of m x m pixels. Keypoints are (K, 3) of x, y in input pixels and v: 1 where the keypoint
is labelled, 0 where it is missing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.geometry import apply, to_cells
from mcc_caffe.paper import BACKGROUND_INDEX, BACKGROUND_SUM, HEATMAP_COUNT, KEYPOINT_COUNT, STRIDE

# What a cell and its neighbours along an axis count in a smoothed map: a cubic B-spline's weights.
_SMOOTHING = np.array([1, 4, 1], np.float32) / 6


class LevelKeypoints(NamedTuple):
    """The keypoints that were decoded from several inputs.

    Attributes:
        keypoints: (K, 3) float64 of x, y in pixels of the level's input and confidence.
        levels: (K,) int, the level that each keypoint was taken from.
    """

    keypoints: np.ndarray
    levels: np.ndarray


def encode(
    keypoints: np.ndarray, cells: int, sigma: float, background: str = BACKGROUND_SUM
) -> np.ndarray:
    """Return the heatmaps of keypoints: a Gaussian of peak 1 at each one (section 3.1).

    Args:
        keypoints: (K, 3) of x, y in input pixels and v, 1 or 0.
        cells: S, the side of the maps.
        sigma: The Gaussians' standard deviation, cells.
        background: BACKGROUND_SUM for a background of 1 minus the sum of the other maps, which
            falls below zero where Gaussians overlap; BACKGROUND_MAX for 1 minus their maximum.

    Returns:
        (K + 1, S, S) float32; the map of a missing keypoint is zero.
    """
    centres = apply(to_cells(), keypoints[:, :2])
    grid = np.arange(cells)
    x, y = np.exp(-((grid - centres[..., None]) ** 2) / (2 * sigma**2)).transpose(1, 0, 2)
    maps = np.empty((HEATMAP_COUNT, cells, cells), np.float32)
    keypoint_maps = maps[:KEYPOINT_COUNT]
    x *= keypoints[:, 2:] > 0
    np.multiply(y[:, :, None], x[:, None, :], out=keypoint_maps, casting="same_kind")
    join_maps = np.sum if background == BACKGROUND_SUM else np.max
    maps[BACKGROUND_INDEX] = 1 - join_maps(keypoint_maps, axis=0)
    return maps


def decode_smoothed(maps: np.ndarray, content: tuple[int, int, int, int]) -> np.ndarray:
    """Find the keypoints as `decode_levels` does, but in one input's maps, smoothed first.

    The net's answer in one cell can be too high or too low, which moves the maximum. Averaged with
    its neighbours it moves less: keypoints are more accurate (docs/trials.md#smoothed-maps). The
    confidence is the value of the map itself, which is not smoothed, at the keypoint.

    Args:
        maps: (K + 1, S, S) float32.
        content: x, y, width, height in pixels of the part of the input that holds the image.

    Returns:
        (K, 3) float64 of x, y in input pixels and confidence.

    Raises:
        UserError: The maps are not finite.
    """
    _require_finite(maps)
    keypoints = np.empty((KEYPOINT_COUNT, 3))
    for keypoint, cells in zip(keypoints, maps):
        smoothed = cv2.sepFilter2D(
            cells, -1, _SMOOTHING, _SMOOTHING, borderType=cv2.BORDER_REPLICATE
        )
        x, y, _ = _find_peak(smoothed, *content)
        keypoint[:] = x, y, _value_at(cells, x, y)
    return keypoints


def decode_levels(
    levels: np.ndarray, contents: Sequence[tuple[int, int, int, int]]
) -> LevelKeypoints:
    """Decode each keypoint from the level where its maximum is highest.

    The maximum is that of the map, up-sampled by 8 bicubically (section 3.2). Where several maxima
    are equal, the first level's counts, and in that level the first one in reading order.

    Args:
        levels: (L, K + 1, S, S) float32, the heatmaps of L inputs.
        contents: For each input, x, y, width, height in pixels of the part of it that holds the
            image: only there a maximum counts.

    Raises:
        UserError: The maps are not finite.
    """
    _require_finite(levels)
    peaks = np.array(
        [
            [_find_peak(cells, *content) for cells in maps[:KEYPOINT_COUNT]]
            for maps, content in zip(levels, contents)
        ]
    )
    best_levels = peaks[..., 2].argmax(axis=0)  # of equal ones the first
    return LevelKeypoints(peaks[best_levels, np.arange(KEYPOINT_COUNT)], best_levels)


def _require_finite(maps: np.ndarray) -> None:
    if not np.isfinite(maps).all():
        raise UserError(
            "the net's heatmaps are not finite: the weights hold NaN or far too large values; "
            "give other weights, such as those of an earlier snapshot"
        )


def _find_peak(
    cells: np.ndarray, x: int, y: int, width: int, height: int
) -> tuple[int, int, float]:
    """Up-sample a map by 8; return x, y (pixels) and value of the maximum in a part of it."""
    pixels = cv2.resize(cells, None, fx=STRIDE, fy=STRIDE, interpolation=cv2.INTER_CUBIC)
    pixels = pixels[y : y + height, x : x + width]
    row, column = divmod(int(pixels.argmax()), pixels.shape[1])
    return x + column, y + row, float(pixels[row, column])


def _value_at(cells: np.ndarray, x: int, y: int) -> float:
    """Return the value of an up-sampled map at a pixel."""
    column, row = apply(to_cells(), np.array([[x, y]], float)).astype(np.float32)[0]
    value = cv2.remap(
        cells, column[None, None], row[None, None], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return float(value[0, 0])


def trivial_loss(maps: np.ndarray) -> float:
    """Compute the loss of the trivial answer "keypoints 0, background 1".

    A stage whose loss stays at this value has learnt nothing.

    Args:
        maps: (N, K + 1, S, S), the heatmaps that are to be learnt.

    Returns:
        Caffe's EuclideanLoss, the sum of squares / (2 N).
    """
    keypoint_maps, background = maps[:, :BACKGROUND_INDEX], maps[:, BACKGROUND_INDEX]
    squares = np.square(keypoint_maps).sum() + np.square(background - 1).sum()
    return float(squares / (2 * len(maps)))
