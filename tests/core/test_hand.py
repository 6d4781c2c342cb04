"""Where a hand points."""

import numpy as np
import pytest

from mcc_caffe.core.hand import pointing_angle

KNUCKLES = (5, 9, 13, 17)


def hand_with(wrist, knuckles):
    keypoints = np.full((21, 3), [-1.0, -1, 0])
    for index, point in zip((0, *KNUCKLES), (wrist, *knuckles)):
        keypoints[index] = *point, 1
    return keypoints


@pytest.mark.parametrize(
    ("knuckle", "angle"),
    [((50, 20), 0), ((80, 50), 90), ((80, 20), 45), ((20, 50), -90), ((50, 90), 180)],
)
def test_the_angle_runs_clockwise_from_straight_up(knuckle, angle):
    assert pointing_angle(hand_with((50, 50), [knuckle] * 4)) == pytest.approx(angle)


def test_the_hand_points_to_the_middle_of_the_knuckles_that_are_known():
    """(60, 20) and (80, 40) have (70, 30) between them: 45 degrees from (50, 50)."""
    keypoints = hand_with((50, 50), [(60, 20), (80, 40)])
    assert pointing_angle(keypoints) == pytest.approx(45)


def test_without_wrist_or_knuckles_a_hand_points_nowhere():
    no_wrist = hand_with((50, 50), [(60, 20)] * 4)
    no_wrist[0, 2] = 0
    for keypoints in (no_wrist, hand_with((50, 50), []), hand_with((50, 50), [(50, 50)] * 4)):
        assert pointing_angle(keypoints) is None
