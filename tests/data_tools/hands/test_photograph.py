"""A rendering becomes a photograph: the hand keeps its colours, and stays where it is."""

import numpy as np
import pytest

from data_tools.hands.photograph import add_background, lose_resolution, simulate_camera


def test_a_hand_keeps_its_colours_before_a_background():
    """What is drawn is RGB, a photograph BGR."""
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[:, :30] = 200, 120, 80, 255
    photograph = add_background(np.random.default_rng(0), rgba, "Train")
    assert (photograph[:, :30] == (80, 120, 200)).all()
    assert (photograph[:, 30:] != 0).any()


@pytest.mark.parametrize("factor", [0.35, 0.4133, 0.5, 0.667, 0.7999, 1.0])
def test_lost_resolution_moves_nothing(factor):
    image = np.zeros((150, 200, 3), np.uint8)
    image[112:131, 161:178] = 255  # its middle is (169, 121)
    blurred = lose_resolution(image, factor)
    assert blurred.shape == image.shape
    weights = blurred[..., 0].astype(float)
    y, x = (weights * np.indices(weights.shape)).sum(axis=(1, 2)) / weights.sum()
    assert (x, y) == pytest.approx((169, 121), abs=0.1)


@pytest.mark.parametrize("seed", range(40))
def test_a_camera_moves_nothing(seed):
    image = np.zeros((150, 200, 3), np.uint8)
    image[60:91, 80:121] = 255  # its middle is (100, 75)
    photograph = simulate_camera(np.random.default_rng(seed), image)
    y, x = np.argwhere(photograph[..., 1] > 100).mean(axis=0)
    assert (x, y) == pytest.approx((100, 75), abs=0.5)
