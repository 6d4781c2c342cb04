"""Tells which keypoints are present: those that are sure, in an image that surely shows a hand.

In an image without a hand some keypoints rise above the threshold by chance. Each further look
raises more of them, because the highest of several answers counts. The mean confidence of the
keypoints, the score, tells such images from those of a hand. Packed weights say from which score
on an image shows a hand (`calibration` in their metadata). These scores differ from weights to
weights; `python -m mcc_caffe.evaluate_scenes` measured them.

The bones count, too: looks at two hands, and levels of a pyramid, may give fingers of both as one
hand, with a high score (`HandPredictor._is_hand`).
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.core.errors import UserError

CALIBRATION = "calibration"  # in the metadata of packed weights
# The paper's pyramid has 16 to 20 levels on average, by the image's size.
_FULL_PYRAMID_LEVELS = 19


class Calibration(NamedTuple):
    """What an image must reach to show a hand, by the way in which it was looked at.

    Attributes:
        single: Score of a single pass.
        two: Score of two looks.
        four: Score of four looks.
        pyramid: Score of the paper's pyramid, whose keypoints are each the most confident of 19
            levels or more.
        pyramid_mask: The highest probability of the mask in any of the pyramid's levels.
    """

    single: float
    two: float
    four: float
    pyramid: float
    pyramid_mask: float

    def least_score(self, looks: int) -> float:
        """Return the score from which so many looks, 1, 2 or 4, show a hand."""
        return {1: self.single, 2: self.two, 4: self.four}[looks]

    def least_pyramid_score(self, levels: int) -> float:
        """Return the score from which so many levels of the pyramid show a hand.

        Between a single pass and the whole pyramid it grows with the logarithm of the levels.
        """
        share = min(math.log(levels) / math.log(_FULL_PYRAMID_LEVELS), 1)
        return self.single + share * (self.pyramid - self.single)


# Weights that were not calibrated.
UNCALIBRATED = Calibration(*[-1e9] * len(Calibration._fields))


def read_calibration(metadata: Mapping[str, Any]) -> Calibration:
    """Return the calibration of packed weights; UNCALIBRATED where they have none.

    Raises:
        UserError: A name of their calibration is unknown or missing, or a value is no number.
    """
    numbers = metadata.get(CALIBRATION)
    if numbers is None:
        return UNCALIBRATED
    try:
        return Calibration(**{name: float(number) for name, number in numbers.items()})
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise UserError(
            f"the calibration of the weights is {str(numbers)[:100]}: "
            f"numbers for {', '.join(Calibration._fields)} are needed"
        ) from None


def find_present(keypoints: np.ndarray, threshold: float, *, shows_hand: bool) -> np.ndarray:
    """Tell which keypoints are present.

    Args:
        keypoints: (21, 3) of x, y and confidence.
        threshold: The confidence above which a keypoint is present (section 3.3). One below 0 asks
            for every keypoint of every image.
        shows_hand: Whether the image surely shows a hand.

    Returns:
        (21,) bool.
    """
    return (keypoints[:, 2] > threshold) & (shows_hand | (threshold < 0))
