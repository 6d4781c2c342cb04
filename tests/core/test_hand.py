"""Where a hand points, which bones are those of a hand, and which keypoints are the same."""

import numpy as np
import pytest

from mcc_caffe.core.hand import SKELETON, are_same_keypoints, has_plausible_bones, pointing_angle
from tests.support.rendered import render_hand

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


def test_a_finger_that_reaches_across_the_image_is_no_hand():
    true_keypoints = render_hand(0).keypoints
    assert has_plausible_bones(true_keypoints)
    torn = true_keypoints.copy()
    torn[8] += 600
    assert not has_plausible_bones(torn)
    assert not has_plausible_bones(np.vstack([np.zeros((20, 2)), [[0, 50]]]))


def test_bones_are_compared_with_the_median_of_them():
    """The other bones are 1 long. The last may be 6 long, not 7, though 7 is 5.4 times the mean."""
    keypoints = np.zeros((21, 2))
    for start, end, _ in SKELETON:
        keypoints[end] = keypoints[start] + (1, 0)
    keypoints[20, 0] += 5
    assert has_plausible_bones(keypoints)
    keypoints[20, 0] += 1
    assert not has_plausible_bones(keypoints)


def test_ten_of_21_keypoints_may_differ_between_two_answers_that_are_the_same():
    keypoints = render_hand(0).keypoints
    other = keypoints.copy()
    other[:10] += 1000
    assert are_same_keypoints(keypoints, other)
    other[10] += 1000
    assert not are_same_keypoints(keypoints, other)
