"""Recall, precision and false answers, computed by hand."""

import numpy as np
import pytest

from mcc_caffe.evaluation.scene_scores import (
    KeypointMatches,
    SceneAnswer,
    complete_keypoints,
    enlarged_box,
    keypoint_similarity,
    match_hands,
    match_keypoints,
    summarise_presence,
    summarise_scenes,
)

# Typed from COCO-WholeBody's own evaluation: the wrist, then each finger from its base.
WHOLEBODY_SIGMAS = [0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024]
WHOLEBODY_SIGMAS += [0.022, 0.026, 0.017, 0.021, 0.021, 0.032, 0.02, 0.019, 0.022, 0.031]


def hand_in(left, top, right, bottom, confidence=0.9):
    """21 keypoints whose box is the given one."""
    points = np.linspace((left, top), (right, bottom), 21)
    return np.column_stack([points, np.full(21, confidence)])


def test_each_box_is_found_once_and_the_keypoints_box_is_enlarged():
    boxes = np.array([[0.0, 0, 100, 100], [200, 0, 300, 100]])
    # 62 x 62 pixels enlarged by 8 % a side are 71.9 x 71.9: IoU .517 with the first box. Without
    # the enlargement it would be .384.
    hands = [hand_in(19, 19, 81, 81), hand_in(0, 0, 100, 100), hand_in(150, 0, 250, 100)]
    is_detected, is_right = match_hands([enlarged_box(hand) for hand in hands], boxes)
    assert is_detected.tolist() == [True, False] and is_right.tolist() == [True, False, False]
    assert enlarged_box(hand_in(10, 20, 60, 120)).tolist() == [6, 12, 64, 128]
    assert [len(side) for side in match_hands([], np.zeros((0, 4)))] == [0, 0]


def test_of_two_boxes_a_hand_gets_the_one_that_it_overlaps_most():
    """The IoU with the first box is .8, with the second one 1."""
    boxes = np.array([[0.0, 0, 100, 100], [0, 0, 100, 80]])
    is_detected, _ = match_hands([boxes[1]], boxes)
    assert is_detected.tolist() == [False, True]


@pytest.mark.parametrize("keypoint", range(21))
def test_keypoint_similarity_is_cocos(keypoint):
    """The only labelled keypoint is off by sqrt(2 area) (2 sigma): exp(-1)."""
    labels = hand_in(0, 0, 100, 100, 2.0)
    assert keypoint_similarity(labels, labels, 100.0) == 1
    labels[np.arange(21) != keypoint, 2] = 0
    moved = labels + (0, np.sqrt(2 * 100) * 2 * WHOLEBODY_SIGMAS[keypoint], 0)
    assert keypoint_similarity(moved, labels, 100.0) == pytest.approx(np.exp(-1))


def test_hands_are_matched_by_their_keypoints_each_once():
    boxes = np.array([[0.0, 0, 100, 100], [200, 0, 300, 100], [400, 0, 500, 100]])
    labels = np.stack([hand_in(*box, 2.0) for box in boxes])
    labels[2, :, 2] = 0
    second, first, unlabelled = (hand_in(*boxes[index]) for index in (1, 0, 2))
    first[:, 0] += 8  # an OKS of .15 at an area of 100 x 100
    elsewhere = hand_in(600, 0, 700, 100)
    matches = match_keypoints(
        [second, first, unlabelled, second, unlabelled, elsewhere], boxes, labels
    )
    assert matches.labelled_count == 2
    expected = [True, False, False, False, False, False]  # the second again: taken
    assert (matches.is_right == expected).all()
    # The unlabelled hand excuses one hand.
    assert (matches.is_counted == [True, True, False, True, True, True]).all()
    assert match_keypoints([], boxes[:0], labels[:0]).is_right.shape == (10, 0)


def test_a_missing_keypoint_lies_amid_the_others():
    points = hand_in(0, 0, 100, 100)
    points[3:5] = np.nan
    completed = complete_keypoints(points)
    others = np.delete(points, [3, 4], axis=0)
    assert (completed[3:5, :2] == others[:, :2].mean(axis=0)).all()
    assert not completed[3:5, 2].any() and (np.delete(completed, [3, 4], axis=0) == others).all()
    assert not complete_keypoints(np.full((21, 3), np.nan)).any()


NO_KEYPOINTS = match_keypoints([], np.zeros((0, 4)), np.zeros((0, 21, 3)))


def test_recall_precision_and_average_precision():
    """By falling score the hands are wrong, right, right; there are three boxes.

    The surer right one has its keypoints right at the loosest of the ten thresholds only: its
    single label, the wrist, has an OKS of exp(-(6.63 / (2 x .029 x 100))^2 / 2) = .52.
    """
    boxes = np.array([[0.0, 0, 100, 100], [200, 0, 300, 100]])
    labels = np.stack([hand_in(*box, 2.0) for box in boxes])
    elsewhere, wrist_alone = hand_in(600, 0, 700, 100), labels[:1].copy()
    wrist_alone[0, 1:, 2] = 0
    answers = [
        SceneAnswer(
            is_detected=np.array([True]),
            sizes=np.array([0.35]),
            is_right=np.array([True]),
            is_counted=np.array([True]),
            scores=np.array([0.8]),
            keypoints=match_keypoints([labels[0] + (6.63, 0, 0)], boxes[:1], wrist_alone),
            passes=1,
            seconds=1,
        ),
        SceneAnswer(
            is_detected=np.array([True, False]),
            sizes=np.array([0.1, 0.3]),
            is_right=np.array([False, True]),
            is_counted=np.array([True, True]),
            scores=np.array([0.9, 0.7]),
            keypoints=match_keypoints([elsewhere, labels[0]], boxes, labels),
            passes=1,
            seconds=1,
        ),
    ]
    numbers = summarise_scenes(answers)
    assert numbers.recall == pytest.approx(2 / 3) and numbers.precision == pytest.approx(2 / 3)
    # At both right ones the precision is 2/3, the highest that is still to come.
    assert numbers.average_precision == pytest.approx(2 * (2 / 3) / 3)
    assert numbers.loose_keypoint_precision == pytest.approx(4 / 9)
    assert numbers.keypoint_precision == pytest.approx((4 / 9 + 9 * (1 / 3) / 3) / 10)
    assert numbers.recall_by_size == [None, 1.0, 0.5, None]
    assert numbers.count_by_size == [0, 1, 2, 0]


def test_a_hand_that_does_not_count_is_left_out_at_its_own_score():
    """By falling score the hands are wrong, right, and in a crowd: the AP of one box is 1/2."""
    is_right, is_counted = np.array([False, True, False]), np.array([False, True, True])
    keypoints = KeypointMatches(
        np.tile(is_right, (10, 1)), np.tile(is_counted, (10, 1)), 1, np.ones(3, bool)
    )
    answer = SceneAnswer(
        is_detected=np.array([True]),
        sizes=np.array([0.3]),
        is_right=is_right,
        is_counted=is_counted,
        scores=np.array([0.5, 0.7, 0.9]),
        keypoints=keypoints,
        passes=1,
        seconds=1,
    )
    numbers = summarise_scenes([answer])
    assert numbers.average_precision == numbers.keypoint_precision == 0.5


def test_nothing_to_find_and_nothing_found():
    none = np.zeros(0, bool)
    empty = SceneAnswer(none, np.zeros(0), none, none, np.zeros(0), NO_KEYPOINTS, 1, 1)
    numbers = summarise_scenes([empty])
    assert numbers.recall is numbers.precision is numbers.average_precision is None
    assert numbers.keypoint_precision is numbers.loose_keypoint_precision is None


def test_what_is_said_without_a_hand():
    confidences = np.zeros((4, 21))
    confidences[0, :3] = 0.3
    confidences[1] = 0.5
    numbers = summarise_presence(confidences, confidences > 0.2, 0.5)
    assert numbers.false_share == pytest.approx(24 / 84) and numbers.image_share == 0.5
    # The scores are 0, 0, 3 x .3 / 21 = .0429 and .5.
    assert numbers.scores == pytest.approx((0.0214, 0.0429 + 0.85 * 0.4571, 0.5), abs=1e-4)
    assert numbers.hand_share == 0.25
    assert numbers.lost_share is None
    labelled = np.array([True, True, True, False])
    assert summarise_presence(confidences, confidences > 1, 0.4, labelled).lost_share == 0.25
    assert summarise_presence(confidences, confidences > 1, 0.4, labelled[:0]).lost_share is None
