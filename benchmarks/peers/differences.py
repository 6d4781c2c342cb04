"""How far an engine's arrays are from Caffe's. A NaN is infinitely far, never an agreement."""

from collections.abc import Sequence

import numpy as np


def largest_difference(outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Return the largest absolute difference of two outputs.

    It is infinite where a shape differs or a value is no finite number.
    """
    if [array.shape for array in outputs] != [array.shape for array in expected]:
        return float("inf")
    largest = [np.abs(ours - theirs).max() for ours, theirs in zip(outputs, expected)]
    return float(np.max(largest)) if np.isfinite(largest).all() else float("inf")


def relative_difference(values: np.ndarray, expected: np.ndarray) -> float:
    """Return the norm of the difference of two arrays as a share of the expected one's norm.

    It is infinite where a value is no finite number, or where only the expected array is all zeros.
    """
    difference = float(np.linalg.norm(values - expected))
    norm = float(np.linalg.norm(expected))
    if difference == 0:
        return 0.0
    return difference / norm if np.isfinite(difference) and norm else float("inf")
