"""The camera of a rendering changes the picture, not where the hand is in it."""

import numpy as np
import pytest

from data_tools.hands.photograph import lose_resolution


@pytest.mark.parametrize("factor", [0.35, 0.4133, 0.5, 0.667, 0.7999, 1.0])
def test_lost_resolution_moves_nothing(factor):
    image = np.zeros((150, 200, 3), np.uint8)
    image[112:131, 161:178] = 255  # its middle is (169, 121)
    blurred = lose_resolution(image, factor)
    assert blurred.shape == image.shape
    weights = blurred[..., 0].astype(float)
    y, x = (weights * np.indices(weights.shape)).sum(axis=(1, 2)) / weights.sum()
    assert (x, y) == pytest.approx((169, 121), abs=0.1)
