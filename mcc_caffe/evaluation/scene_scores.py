"""Measures how well the hands of whole scenes are found, and what is found where no hand is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mcc_caffe.core.hand_boxes import box_areas, box_iou, covered_share
from mcc_caffe.inference.looks import keypoints_box

MATCH_IOU = 0.5
# People draw boxes around the whole hand; the keypoints' box is enlarged by so much on each side.
ENLARGEMENT = 0.08
# Classes of the hands' longer side as a share of the image's width.
SIZE_CLASSES = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, np.inf))
# Object keypoint similarity as COCO defines it: the thresholds of its average precision, and
# COCO-WholeBody's constants of the wrist and of each finger's four keypoints.
OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_OKS_SIGMAS = np.array(
    [
        *(0.029,),
        *(0.022, 0.035, 0.037, 0.047),
        *(0.026, 0.025, 0.024, 0.035),
        *(0.018, 0.024, 0.022, 0.026),
        *(0.017, 0.021, 0.021, 0.032),
        *(0.020, 0.019, 0.022, 0.031),
    ]
)


class KeypointMatches(NamedTuple):
    """Which of M found hands have the right keypoints, at each of T = 10 thresholds of OKS.

    Attributes:
        is_right: (T, M) bool.
        is_counted: (T, M) bool; a hand that takes an unlabelled one, each once, and one in a crowd
            of hands, do not count.
        labelled_count: The number of hands with labelled keypoints.
        has_keypoints: (M,) bool, whether any keypoint of the hand was predicted.
    """

    is_right: np.ndarray
    is_counted: np.ndarray
    labelled_count: int
    has_keypoints: np.ndarray


class SceneAnswer(NamedTuple):
    """What was found in one scene.

    Attributes:
        is_detected: (N,) bool for the scene's boxes.
        sizes: (N,) longer side of the boxes as a share of the image's width.
        is_right: (M,) bool for the M hands that were found, whether each has a box.
        is_counted: (M,) bool for these hands; one without a box in a crowd of hands does not count.
        scores: (M,) of these hands, which fall.
        keypoints: Whether these hands have the right keypoints.
        passes: Single passes of the net that the search cost.
        seconds: That it took.
    """

    is_detected: np.ndarray
    sizes: np.ndarray
    is_right: np.ndarray
    is_counted: np.ndarray
    scores: np.ndarray
    keypoints: KeypointMatches
    passes: float
    seconds: float


class SceneNumbers(NamedTuple):
    """Shares of found boxes and right answers; None where there is nothing to count.

    Attributes:
        recall: Share of the boxes that are found.
        precision: Share of the found hands that have a box, of those that count.
        average_precision: Area under precision over recall, by falling score.
        keypoint_precision: The same with keypoints instead of boxes, mean over OKS_THRESHOLDS; None
            also where the hands that were found have boxes alone.
        loose_keypoint_precision: The same at an OKS of 0.5.
        recall_by_size: For each of SIZE_CLASSES.
        count_by_size: Number of boxes for each of SIZE_CLASSES.
        passes: Mean of the scenes' passes; None where they are not known.
        seconds: Mean of the scenes' seconds; None where they are not known.
    """

    recall: float | None
    precision: float | None
    average_precision: float | None
    keypoint_precision: float | None
    loose_keypoint_precision: float | None
    recall_by_size: list[float | None]
    count_by_size: list[int]
    passes: float | None
    seconds: float | None


class PresenceNumbers(NamedTuple):
    """What is said of images without a hand, and of the keypoints of images with one.

    Attributes:
        false_share: Share of the keypoints that are present in images without a hand.
        image_share: Share of these images with a present keypoint.
        scores: Quantiles .5, .95 and 1 of their score, the mean confidence of 21 keypoints.
        hand_share: Share of these images whose score is a hand's.
        lost_share: Share of labelled keypoints that are not present; None without labels.
    """

    false_share: float
    image_share: float
    scores: tuple[float, float, float]
    hand_share: float
    lost_share: float | None


def match_hands(
    detected_boxes: Sequence[np.ndarray], boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Assign found hands to drawn boxes, the first hand first, each box once.

    Args:
        detected_boxes: Left, top, right, bottom of each of the M hands, the most confident first.
        boxes: (N, 4) of left, top, right, bottom.

    Returns:
        Whether each box is found, (N,) bool, and whether each hand has a box, (M,) bool.
    """
    is_detected, is_right = np.zeros(len(boxes), bool), np.zeros(len(detected_boxes), bool)
    for hand, box in enumerate(detected_boxes):
        overlaps = np.where(is_detected, 0.0, box_iou(box, boxes))
        if overlaps.max(initial=0.0) >= MATCH_IOU:
            is_detected[overlaps.argmax()] = is_right[hand] = True
    return is_detected, is_right


def find_in_crowds(detected_boxes: Sequence[np.ndarray], crowds: np.ndarray) -> np.ndarray:
    """Tell which found hands lie in a crowd of hands.

    As COCO does it, the overlap is the share of the hand's box that lies in the crowd's.

    Args:
        detected_boxes: Left, top, right, bottom of each of the M hands.
        crowds: (N, 4) of left, top, right, bottom.

    Returns:
        (M,) bool.
    """
    return np.array(
        [(covered_share(box, crowds) >= MATCH_IOU).any() for box in detected_boxes], bool
    )


def keypoint_similarity(keypoints: np.ndarray, labels: np.ndarray, area: float) -> float:
    """Return the object keypoint similarity (OKS) of a found hand, 0 to 1.

    Args:
        keypoints: (21, 2 or more) of x, y.
        labels: (21, 3) of x, y and v, above 0 where the keypoint is labelled; at least one is.
        area: The area of the hand's box in square pixels, above 0.
    """
    squares = ((keypoints[:, :2] - labels[:, :2]) ** 2).sum(axis=1)
    similarities = np.exp(-squares / (2 * area * (2 * _OKS_SIGMAS) ** 2))
    return float(similarities[labels[:, 2] > 0].mean())


def match_keypoints(
    keypoints: Sequence[np.ndarray], boxes: np.ndarray, labels: np.ndarray
) -> KeypointMatches:
    """Assign found hands to labelled ones by OKS, the first hand first, each once.

    Args:
        keypoints: (21, 3) of each of the M hands, the most confident first; zeros where there are
            none.
        boxes: (N, 4) of left, top, right, bottom around each hand of the scene.
        labels: (N, 21, 3) of x, y and v; a hand may have no labelled keypoint.
    """
    has_labels = np.array([(label[:, 2] > 0).any() for label in labels], bool)
    areas = box_areas(boxes)
    is_right = np.zeros((len(OKS_THRESHOLDS), len(keypoints)), bool)
    is_counted = np.ones_like(is_right)
    is_taken = np.zeros((len(OKS_THRESHOLDS), len(boxes)), bool)
    for hand, points in enumerate(keypoints):
        similarities = np.array(
            [
                keypoint_similarity(points, label, area) if labelled else 0.0
                for label, area, labelled in zip(labels, areas, has_labels)
            ]
        )
        overlaps = np.where(has_labels, 0.0, box_iou(enlarged_box(points), boxes))
        for index, threshold in enumerate(OKS_THRESHOLDS):
            free = np.where(is_taken[index], 0.0, similarities)
            free_unlabelled = np.where(is_taken[index], 0.0, overlaps)
            if free.max(initial=0.0) >= threshold:
                is_taken[index, free.argmax()] = is_right[index, hand] = True
            elif free_unlabelled.max(initial=0.0) >= MATCH_IOU:
                is_taken[index, free_unlabelled.argmax()] = True
                is_counted[index, hand] = False
    has_keypoints = np.array([points.any() for points in keypoints], bool)
    return KeypointMatches(is_right, is_counted, int(has_labels.sum()), has_keypoints)


def complete_keypoints(keypoints: np.ndarray) -> np.ndarray:
    """Return keypoints (21, 3) with each missing one, NaN, at the mean of the others, unsure.

    Without any others they are zeros.
    """
    missing = np.isnan(keypoints[:, :2]).any(axis=1)
    completed = np.where(missing[:, None], 0.0, keypoints)
    if missing.any() and not missing.all():
        completed[missing, :2] = keypoints[~missing, :2].mean(axis=0)
    return completed


def enlarged_box(keypoints: np.ndarray) -> np.ndarray:
    """Return the box of the keypoints (21, 3), enlarged as people draw boxes around hands."""
    box = keypoints_box(keypoints)
    margin = (box[2:] - box[:2]) * ENLARGEMENT
    return np.concatenate([box[:2] - margin, box[2:] + margin])


def summarise_scenes(answers: Sequence[SceneAnswer]) -> SceneNumbers:
    """Join what was found in all scenes."""
    is_detected = np.concatenate([answer.is_detected for answer in answers])
    sizes = np.concatenate([answer.sizes for answer in answers])
    is_right = np.concatenate([answer.is_right for answer in answers])
    scores = np.concatenate([answer.scores for answer in answers])
    order = np.argsort(-scores, kind="stable")
    has_right_keypoints = np.concatenate([a.keypoints.is_right for a in answers], axis=1)
    is_counted = np.concatenate([answer.is_counted for answer in answers])
    is_keypoint_counted = np.concatenate(
        [answer.keypoints.is_counted for answer in answers], axis=1
    )
    labelled_count = sum(answer.keypoints.labelled_count for answer in answers)
    has_keypoints = np.concatenate([answer.keypoints.has_keypoints for answer in answers])
    if len(has_keypoints) and not has_keypoints.any():
        labelled_count = 0  # a detector's boxes alone say nothing of keypoints
    keypoint_precisions = [
        _average_precision(is_right_at[order][is_counted_at[order]], labelled_count)
        for is_right_at, is_counted_at in zip(has_right_keypoints, is_keypoint_counted)
    ]
    classes = [(sizes >= low) & (sizes < high) for low, high in SIZE_CLASSES]
    return SceneNumbers(
        recall=_mean(is_detected),
        precision=_mean(is_right[is_counted]),
        average_precision=_average_precision(is_right[order][is_counted[order]], len(is_detected)),
        keypoint_precision=_mean(np.array(keypoint_precisions)) if labelled_count else None,
        loose_keypoint_precision=keypoint_precisions[0],
        recall_by_size=[_mean(is_detected[is_in]) for is_in in classes],
        count_by_size=[int(is_in.sum()) for is_in in classes],
        passes=_finite_mean([answer.passes for answer in answers]),
        seconds=_finite_mean([answer.seconds for answer in answers]),
    )


def summarise_presence(
    confidences: np.ndarray,
    is_present: np.ndarray,
    score_threshold: float,
    is_labelled_present: np.ndarray | None = None,
) -> PresenceNumbers:
    """Describe what is said of images without a hand, and of labelled keypoints.

    Args:
        confidences: (N, 21) of N images without a hand.
        is_present: (N, 21) bool, whether these keypoints are called present.
        score_threshold: The mean confidence from which it is a hand.
        is_labelled_present: (K,) bool, whether each labelled keypoint of other images is called
            present.
    """
    scores = confidences.mean(axis=1)
    middle, high, highest = np.quantile(scores, (0.5, 0.95, 1)).tolist()
    return PresenceNumbers(
        false_share=float(is_present.mean()),
        image_share=float(is_present.any(axis=1).mean()),
        scores=(middle, high, highest),
        hand_share=float((scores >= score_threshold).mean()),
        lost_share=None if is_labelled_present is None else _mean(~is_labelled_present),
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


def _finite_mean(values: Sequence[float]) -> float | None:
    """Return the mean of costs; None where a cost is not known."""
    mean = float(np.mean(values))
    return mean if np.isfinite(mean) else None
