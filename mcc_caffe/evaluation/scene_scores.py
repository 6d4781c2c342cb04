"""Measures how well the hands of whole scenes are found, and what is found where no hand is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mcc_caffe.inference.looks import keypoints_box
from mcc_caffe.inference.scenes import box_iou

MATCH_IOU = 0.5
# People draw boxes around the whole hand; the keypoints' box is enlarged by so much on each side.
ENLARGEMENT = 0.08
# Classes of the hands' longer side as a share of the picture's width.
SIZE_CLASSES = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, np.inf))


class SceneAnswer(NamedTuple):
    """What was found in one scene.

    Attributes:
        is_found: (N,) bool for the scene's boxes.
        sizes: (N,) longer side of the boxes as a share of the picture's width.
        is_right: (M,) bool for the M hands that were found, whether each has a box.
        scores: (M,) of these hands.
        passes: single passes of the net that the search cost.
        seconds: that it took.
    """

    is_found: np.ndarray
    sizes: np.ndarray
    is_right: np.ndarray
    scores: np.ndarray
    passes: float
    seconds: float


class SceneNumbers(NamedTuple):
    """Shares of found boxes and right answers; None where there is nothing to count.

    Attributes:
        recall: share of the boxes that are found.
        precision: share of the found hands that have a box.
        average_precision: area under precision over recall, by falling score.
        recall_by_size: for each of SIZE_CLASSES.
        count_by_size: number of boxes for each of SIZE_CLASSES.
    """

    recall: float | None
    precision: float | None
    average_precision: float | None
    recall_by_size: list[float | None]
    count_by_size: list[int]


class FalseAnswers(NamedTuple):
    """What is said of pictures without a hand.

    Attributes:
        keypoint_share: share of the keypoints that are present.
        picture_share: share of the pictures with a present keypoint.
        scores: quantiles .5, .95 and 1 of the score, the mean confidence of 21 keypoints.
        hand_share: share of the pictures whose score is a hand's.
    """

    keypoint_share: float
    picture_share: float
    scores: tuple[float, float, float]
    hand_share: float


def match_hands(
    keypoints: Sequence[np.ndarray], boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Assign found hands to drawn boxes, the first hand first, each box once.

    Args:
        keypoints: (21, 3) of each of the M hands, the surest first.
        boxes: (N, 4) of left, top, right, bottom.

    Returns:
        Whether each box is found, (N,) bool, and whether each hand has a box, (M,) bool.
    """
    is_found, is_right = np.zeros(len(boxes), bool), np.zeros(len(keypoints), bool)
    for hand, points in enumerate(keypoints):
        box = keypoints_box(points)
        margin = (box[2:] - box[:2]) * ENLARGEMENT
        enlarged = np.concatenate([box[:2] - margin, box[2:] + margin])
        overlaps = [
            -1.0 if taken else box_iou(enlarged, other) for other, taken in zip(boxes, is_found)
        ]
        if overlaps and max(overlaps) >= MATCH_IOU:
            is_found[int(np.argmax(overlaps))] = is_right[hand] = True
    return is_found, is_right


def summarise_scenes(answers: Sequence[SceneAnswer]) -> SceneNumbers:
    """Join what was found in all scenes."""
    is_found = np.concatenate([answer.is_found for answer in answers])
    sizes = np.concatenate([answer.sizes for answer in answers])
    is_right = np.concatenate([answer.is_right for answer in answers])
    scores = np.concatenate([answer.scores for answer in answers])
    classes = [(sizes >= low) & (sizes < high) for low, high in SIZE_CLASSES]
    return SceneNumbers(
        recall=_mean(is_found),
        precision=_mean(is_right),
        average_precision=_average_precision(is_right[np.argsort(-scores)], len(is_found)),
        recall_by_size=[_mean(is_found[is_in]) for is_in in classes],
        count_by_size=[int(is_in.sum()) for is_in in classes],
    )


def summarise_false_answers(
    confidences: np.ndarray, threshold: float, score_threshold: float
) -> FalseAnswers:
    """Describe the confidences of pictures without hands.

    Args:
        confidences: (N, 21) of N pictures.
        threshold: the confidence above which a keypoint is present.
        score_threshold: the mean confidence from which it is a hand.
    """
    is_present, scores = confidences > threshold, confidences.mean(axis=1)
    middle, high, highest = np.quantile(scores, (0.5, 0.95, 1)).tolist()
    return FalseAnswers(
        keypoint_share=float(is_present.mean()),
        picture_share=float(is_present.any(axis=1).mean()),
        scores=(middle, high, highest),
        hand_share=float((scores >= score_threshold).mean()),
    )


def _average_precision(is_right: np.ndarray, truth_count: int) -> float | None:
    """Return the area under the precision, made falling, over the recall."""
    if not truth_count:
        return None
    right = np.cumsum(is_right)
    precision = right / np.arange(1, len(right) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[is_right].sum() / truth_count)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
