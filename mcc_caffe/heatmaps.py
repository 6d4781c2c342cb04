"""Heatmaps of keypoints: encode and decode (3.1, 3.3).

K = 21 keypoints, one map each and a background map: (K + 1, S, S) with S = input size / 8. Keypoints are (K, 3) of
x, y in input pixels and v in {0, 1}.
"""
import cv2
import numpy as np

from mcc_caffe.geometry import apply, to_cells
from mcc_caffe.paper import BACKGROUND, BACKGROUND_SUM, HEATMAPS, KEYPOINTS, STRIDE


def encode(keypoints: np.ndarray, cells: int, sigma: float, background: str = BACKGROUND_SUM) -> np.ndarray:
    """Heatmaps (K + 1, cells, cells) float32: a Gaussian of peak 1 and `sigma` cells at each keypoint with v = 1.

    A missing keypoint's map is zero; the background map is 1 minus the sum of the others (3.1), so it can fall below
    zero where Gaussians overlap, or, with BACKGROUND_MAX, 1 minus their maximum.
    """
    centres = apply(to_cells(), keypoints[:, :2])
    grid = np.arange(cells)
    x, y = np.exp(-((grid - centres[..., None]) ** 2) / (2 * sigma**2)).transpose(1, 0, 2)
    maps = np.empty((HEATMAPS, cells, cells), np.float32)
    np.multiply(y[:, :, None], (x * (keypoints[:, 2:] > 0))[:, None, :], out=maps[:KEYPOINTS], casting="same_kind")
    joints = maps[:KEYPOINTS]
    maps[BACKGROUND] = 1 - (joints.sum(axis=0) if background == BACKGROUND_SUM else joints.max(axis=0))
    return maps


def upsample(maps: np.ndarray) -> np.ndarray:
    """(N, S, S) maps by 8 with bicubic interpolation (3.2): (N, 8 S, 8 S) float32."""
    side = maps.shape[-1] * STRIDE
    return np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC) for one in maps])


def peaks(maps: np.ndarray) -> np.ndarray:
    """(N, 3) float64 of x, y (pixels of the maps) and value of each map's maximum."""
    flat = maps.reshape(len(maps), -1)
    best = flat.argmax(axis=1)
    y, x = np.divmod(best, maps.shape[-1])
    return np.stack([x, y, flat[np.arange(len(maps)), best]], axis=1).astype(np.float64)


def decode(maps: np.ndarray, content: tuple = (None, None)) -> np.ndarray:
    """Keypoints (K, 3) of x, y (input pixels) and confidence from heatmaps (K + 1, S, S): the up-sampled maps' argmax (3.2).

    content: (width, height) of the part of the input that holds the picture, where to look; by default all of it.
    """
    width, height = content
    return peaks(upsample(maps[:KEYPOINTS])[:, :height, :width])


def trivial_loss(maps: np.ndarray) -> float:
    """Caffe's EuclideanLoss, sum / (2N), of the answer "joints 0, background 1" to heatmaps (N, K + 1, S, S).

    A stage whose loss stays at this value has learnt nothing.
    """
    joints, background = maps[:, :BACKGROUND], maps[:, BACKGROUND]
    return float((np.square(joints).sum() + np.square(background - 1).sum()) / (2 * len(maps)))
