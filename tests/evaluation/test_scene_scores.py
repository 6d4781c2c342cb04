"""Recall, precision and false answers, computed by hand."""

import numpy as np
import pytest

from mcc_caffe.evaluation.scene_scores import (
    SceneAnswer,
    match_hands,
    summarise_false_answers,
    summarise_scenes,
)


def hand_in(left, top, right, bottom, confidence=0.9):
    """21 keypoints whose box is the given one."""
    points = np.linspace((left, top), (right, bottom), 21)
    return np.column_stack([points, np.full(21, confidence)])


def test_each_box_is_found_once_and_the_keypoints_box_is_enlarged():
    boxes = np.array([[0.0, 0, 100, 100], [200, 0, 300, 100]])
    # 62 x 62 pixels enlarged by 8 % a side are 71.9 x 71.9: IoU .517 with the first box. Without
    # the enlargement it would be .384.
    hands = [hand_in(19, 19, 81, 81), hand_in(0, 0, 100, 100), hand_in(150, 0, 250, 100)]
    is_found, is_right = match_hands(hands, boxes)
    assert is_found.tolist() == [True, False] and is_right.tolist() == [True, False, False]
    assert [len(side) for side in match_hands([], np.zeros((0, 4)))] == [0, 0]


def test_recall_precision_and_average_precision():
    answers = [
        SceneAnswer(
            np.array([True, False]),
            np.array([0.05, 0.3]),
            np.array([True, False]),
            np.array([0.9, 0.6]),
            1,
            1,
        ),
        SceneAnswer(np.array([True]), np.array([0.35]), np.array([True]), np.array([0.5]), 1, 1),
    ]
    numbers = summarise_scenes(answers)
    assert numbers.recall == pytest.approx(2 / 3) and numbers.precision == pytest.approx(2 / 3)
    # By falling score: right (precision 1), wrong, right (2/3); of three boxes.
    assert numbers.average_precision == pytest.approx((1 + 2 / 3) / 3)
    assert numbers.recall_by_size == [1.0, None, 0.5, None]
    assert numbers.count_by_size == [1, 0, 2, 0]


def test_false_answers():
    confidences = np.zeros((4, 21))
    confidences[0, :3] = 0.3
    confidences[1] = 0.5
    numbers = summarise_false_answers(confidences, 0.2, 0.4)
    assert numbers.keypoint_share == pytest.approx(24 / 84) and numbers.picture_share == 0.5
    assert numbers.scores[2] == pytest.approx(0.5) and numbers.hand_share == 0.25
