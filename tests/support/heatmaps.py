"""The slow and simple way to decode heatmaps."""

from collections.abc import Sequence

import cv2
import numpy as np

from mcc_caffe.core.heatmaps import LevelKeypoints


def decode_all_upsampled(levels: np.ndarray, contents: Sequence[tuple[int, ...]]) -> LevelKeypoints:
    """Decode as `decode_levels` does, but up-sample every map by 8 (section 3.2) and search it."""
    peaks = np.empty((len(levels), 21, 3))
    for level_peaks, maps, content in zip(peaks, levels, contents):
        width, height, left, top = content if len(content) == 4 else (*content, 0, 0)
        for peak, cells in zip(level_peaks, maps):
            pixels = cv2.resize(cells, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
            pixels = pixels[top : top + height, left : left + width]
            y, x = np.unravel_index(pixels.argmax(), pixels.shape)
            peak[:] = left + x, top + y, pixels[y, x]
    best_levels = peaks[:, :, 2].argmax(axis=0)
    return LevelKeypoints(peaks[best_levels, np.arange(21)], best_levels)
