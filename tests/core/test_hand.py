"""Where a hand points."""

import numpy as np
import pytest

from mcc_caffe.core.hand import pointing_angle

KNUCKLES = (5, 9, 13, 17)


def angle_of(wrist, knuckles, *, unknown=()):
    keypoints = np.full((21, 3), [-1.0, -1, 0])
    for index, point in zip((0, *KNUCKLES), (wrist, *knuckles)):
        keypoints[index] = *point, 1
    known = keypoints[:, 2] > 0
    known[list(unknown)] = False
    return pointing_angle(keypoints, known)


@pytest.mark.parametrize(
    ("knuckle", "angle"),
    [((50, 20), 0), ((80, 50), 90), ((80, 20), 45), ((20, 50), -90), ((50, 90), 180)],
)
def test_the_angle_runs_clockwise_from_straight_up(knuckle, angle):
    assert angle_of((50, 50), [knuckle] * 4) == pytest.approx(angle)


def test_the_hand_points_to_the_middle_of_the_knuckles_that_are_known():
    """(60, 20) and (80, 40) have (70, 30) between them: 45 degrees from (50, 50)."""
    assert angle_of((50, 50), [(60, 20), (80, 40)]) == pytest.approx(45)
    assert angle_of((50, 50), [(60, 20), (80, 40), (0, 0)], unknown=[13]) == pytest.approx(45)


def test_without_wrist_or_knuckles_a_hand_points_nowhere():
    assert angle_of((50, 50), [(60, 20)] * 4, unknown=[0]) is None
    assert angle_of((50, 50), [(60, 20)] * 4, unknown=KNUCKLES) is None
    assert angle_of((50, 50), [(50, 50)] * 4) is None
