"""Heatmaps of keypoints: encode and decode (3.1, 3.3).

K = 21 keypoints, one map each and a background map: (K + 1, S, S) with S = input size / 8. Keypoints are (K, 3) of
x, y in input pixels and v in {0, 1}.
"""

import cv2
import numpy as np

from mcc_caffe.core.geometry import apply, to_cells
from mcc_caffe.paper import BACKGROUND, BACKGROUND_SUM, HEATMAPS, KEYPOINTS, STRIDE


def encode(
    keypoints: np.ndarray, cells: int, sigma: float, background: str = BACKGROUND_SUM
) -> np.ndarray:
    """Heatmaps (K + 1, cells, cells) float32: a Gaussian of peak 1 and `sigma` cells at each keypoint with v = 1.

    A missing keypoint's map is zero; the background map is 1 minus the sum of the others (3.1), so it can fall below
    zero where Gaussians overlap, or, with BACKGROUND_MAX, 1 minus their maximum.
    """
    centres = apply(to_cells(), keypoints[:, :2])
    grid = np.arange(cells)
    x, y = np.exp(-((grid - centres[..., None]) ** 2) / (2 * sigma**2)).transpose(1, 0, 2)
    maps = np.empty((HEATMAPS, cells, cells), np.float32)
    np.multiply(
        y[:, :, None],
        (x * (keypoints[:, 2:] > 0))[:, None, :],
        out=maps[:KEYPOINTS],
        casting="same_kind",
    )
    joints = maps[:KEYPOINTS]
    maps[BACKGROUND] = 1 - (
        joints.sum(axis=0) if background == BACKGROUND_SUM else joints.max(axis=0)
    )
    return maps


def decode(maps: np.ndarray, content: tuple = (None, None)) -> np.ndarray:
    """Keypoints (K, 3) of x, y (input pixels) and confidence from heatmaps (K + 1, S, S): the argmax of the maps, up-sampled by 8 (3.2).

    content: (width, height) of the part of the input that holds the picture, where to look; by default all of it.
    """
    return surest(maps[None], [content])[0]


def surest(levels: np.ndarray, contents: list) -> tuple:
    """(keypoints (K, 3), level (K,) of each) from the heatmaps (L, K + 1, S, S) of L inputs: each where it is surest, as `decode` has it.

    contents: of each input. Of equal maxima the first level's counts, and there the first in reading order. The result is that of
    up-sampling every map bicubically, to the last bit; but only those levels, and of them only those cells, are
    up-sampled whose bound is not below a maximum already found.
    """
    side = levels.shape[-1] * STRIDE
    contents = [(width or side, height or side) for width, height in contents]
    seen = [
        maps[:KEYPOINTS, : _cells(height) + 2, : _cells(width) + 2]
        for maps, (width, height) in zip(levels, contents)
    ]
    bounds = np.stack([_bound(maps.max(axis=(1, 2)), maps.min(axis=(1, 2))) for maps in seen])
    keypoints, chosen = np.empty((KEYPOINTS, 3)), np.empty(KEYPOINTS, int)
    for k, order in enumerate(np.argsort(-bounds, axis=0, kind="stable").T):
        best = (-np.inf, 0)  # value, minus the level
        for level in order:
            if bounds[level, k] < best[0]:
                break
            x, y, value = _peak(levels[level, k], *contents[level], best[0])
            if (value, -level) > best:
                best = value, -level
                keypoints[k], chosen[k] = (x, y, value), level
    return keypoints, chosen


_NEAR = np.ones(
    (5, 5), np.uint8
)  # the cells that the pixels of the middle one are interpolated from
# The bicubic weights of an axis are positive for the two inner cells and negative for the two outer ones, -n each way at the most.
_AXIS = cv2.resize(np.eye(5, dtype=np.float32), (5, 5 * STRIDE), interpolation=cv2.INTER_CUBIC)[
    2 * STRIDE : 3 * STRIDE
]
_NEGATIVE = -_AXIS.clip(max=0).sum(axis=1).min()
_OVERSHOOT = 2 * _NEGATIVE * (1 + _NEGATIVE)
_ROUNDING = 1e-5  # of float32 sums of 16 products, relative to the largest
_MARGIN = 3  # 2 cells matter; cv2 adds in another order where fewer than 4 are given


def _bound(high, low):
    """What no pixel exceeds that is interpolated from cells of `low` to `high`: positive weights sum to 1 + overshoot, the others to -overshoot."""
    return high + _OVERSHOOT * (high - low) + _ROUNDING * np.maximum(np.abs(high), np.abs(low))


def _cells(pixels: int) -> int:
    return -(-pixels // STRIDE)


def _peak(one: np.ndarray, width: int, height: int, floor: float) -> tuple:
    """(x, y, value) of the maximum in the first width x height pixels of a map (S, S) up-sampled by 8; value -inf where it is below `floor`."""
    rows, columns = _cells(height), _cells(width)
    near = one[: rows + 2, : columns + 2]
    bound = _bound(cv2.dilate(near, _NEAR), cv2.erode(near, _NEAR))[:rows, :columns]
    row, column = divmod(int(one[:rows, :columns].argmax()), columns)
    floor = max(
        floor,
        _upsample(one, row, row + 1, column, column + 1)[
            : height - STRIDE * row, : width - STRIDE * column
        ].max(),
    )
    possible = bound >= floor
    where = np.flatnonzero(possible.any(axis=1)), np.flatnonzero(possible.any(axis=0))
    if not len(where[0]):
        return 0, 0, -np.inf
    (top, bottom), (left, right) = ((line[0], line[-1] + 1) for line in where)
    drawn = _upsample(one, top, bottom, left, right)[
        : height - STRIDE * top, : width - STRIDE * left
    ]
    y, x = divmod(int(drawn.argmax()), drawn.shape[1])
    return STRIDE * left + x, STRIDE * top + y, float(drawn[y, x])


def _upsample(one: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """The cells [top, bottom) x [left, right) of a map up-sampled by 8 with bicubic interpolation (3.2), as in the whole map up-sampled."""
    above, before = min(top, _MARGIN), min(left, _MARGIN)
    patch = one[top - above : bottom + _MARGIN, left - before : right + _MARGIN]
    drawn = cv2.resize(patch, None, fx=STRIDE, fy=STRIDE, interpolation=cv2.INTER_CUBIC)
    return drawn[STRIDE * above :, STRIDE * before :][
        : STRIDE * (bottom - top), : STRIDE * (right - left)
    ]


def trivial_loss(maps: np.ndarray) -> float:
    """Caffe's EuclideanLoss, sum / (2N), of the answer "joints 0, background 1" to heatmaps (N, K + 1, S, S).

    A stage whose loss stays at this value has learnt nothing.
    """
    joints, background = maps[:, :BACKGROUND], maps[:, BACKGROUND]
    return float((np.square(joints).sum() + np.square(background - 1).sum()) / (2 * len(maps)))
