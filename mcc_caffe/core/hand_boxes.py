"""The maps of the box head: which cells lie in the middle of a hand, and how far its sides are.

The head looks at whole images and finds hands of SMALLEST_HAND to LARGEST_HAND pixels of its
input. It gives five maps: the logit of "here is the middle of a hand", and the logarithms of the
distances to the hand's left, top, right and bottom, in units of DISTANCE_UNIT pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mcc_caffe.core.hand import nms
from mcc_caffe.paper import IGNORE_LABEL, STRIDE

BOXES_BLOB, BOX_MAPS = "hand_boxes", 5
BOX_LAYERS = ("boxes_conv1", "boxes_conv2", "boxes_conv3", BOXES_BLOB)  # those of the head
BOX_FEATURES_BLOB = "conv5_2"  # what the head sees: VGG-19's last features
# Labels of the train net: whether a cell is in the middle of a hand, the same as 1 or 0 for each of
# the four sides, and the sides' distances. Then the losses of the middles and of the sides.
IS_HAND_BLOB, IN_HANDS_BLOB, SIDES_BLOB = "is_hand", "in_hands", "sides"
MIDDLE_LOSS_BLOB, SIDES_LOSS_BLOB = "loss_middle", "loss_sides"
BOX_BATCH_SIZE, BOX_SAMPLE_SIZE = 8, 256  # of the train net: samples, the side of one in pixels
DISTANCE_UNIT = 32.0  # pixels of the input
SMALLEST_HAND, LARGEST_HAND = 24.0, 140.0  # longer side of a hand's box, pixels of the input
# The middle is this share of the box's width and height. The rest of the box teaches nothing.
_MIDDLE = 0.5
_MERGED_IOU = 0.5  # IoU above which two cells' boxes are of one hand
# IoU above which merged boxes are of one hand; and the share of the smaller box inside the other.
_NMS_IOU, _NMS_SHARE_INSIDE = 0.4, 0.5
MAX_ENLARGEMENT = 1.5  # an image is enlarged by at most so much for the head
_LONGEST_LOGARITHM = 4.0  # distances beyond 32 e^4 pixels are no hand's


class BoxLabels(NamedTuple):
    """What the box head is to learn of one input of H x W cells.

    Attributes:
        is_hand: (1, H, W) float32: 1 in the middle of a hand, 0 outside of every box, and
            IGNORE_LABEL elsewhere.
        log_distances: (4, H, W) float32, logarithms of the distances to the left, top, right and
            bottom in units of DISTANCE_UNIT; 0 where `is_hand` is not 1.
    """

    is_hand: np.ndarray
    log_distances: np.ndarray


class ScoredBoxes(NamedTuple):
    """Boxes that the head proposes.

    Attributes:
        boxes: (N, 4) float64 of left, top, right, bottom in pixels.
        scores: (N,) probability of a hand, 0 to 1.
        votes: (N,) of a cell's box: the score as a share of the cells in the middle of such a hand;
            of a merged box: the sum of its cells' votes, about 1 for each scale that shows a hand.
    """

    boxes: np.ndarray
    scores: np.ndarray
    votes: np.ndarray


def cell_centres(count: int) -> np.ndarray:
    """Return where the centres of cells lie along one side, (count,) pixels of the input."""
    return np.arange(count) * STRIDE + (STRIDE - 1) / 2


def encode_boxes(boxes: np.ndarray, is_clear: np.ndarray, height: int, width: int) -> BoxLabels:
    """Return the maps that the head is to learn.

    Args:
        boxes: (N, 4) of left, top, right, bottom in pixels of the input.
        is_clear: (N,) bool; a hand that is not clear, such as one cut by the input's edge, teaches
            nothing. Neither does one of a size that the head does not find.
        height: H, cells.
        width: W, cells.
    """
    is_hand = np.zeros((1, height, width), np.float32)
    log_distances = np.zeros((4, height, width), np.float32)
    columns, rows = cell_centres(width)[None], cell_centres(height)[:, None]
    nearest = np.full((height, width), np.inf)  # distance to the nearest hand's middle, 1: its side
    for (left, top, right, bottom), clear in zip(boxes, is_clear):
        across = _middle_distance(columns, left, right)
        down = _middle_distance(rows, top, bottom)
        distance = np.maximum(across, down)
        in_middle = (distance <= _MIDDLE) | (distance == distance.min())
        is_hand[0, (distance <= 1) & (is_hand[0] == 0)] = IGNORE_LABEL
        longer = max(right - left, bottom - top)
        if not clear or not SMALLEST_HAND <= longer <= LARGEST_HAND:
            continue
        chosen = in_middle & (distance < nearest) & (distance <= 1)
        nearest[chosen] = distance[chosen]
        is_hand[0, chosen] = 1
        distances = np.stack(
            np.broadcast_arrays(columns - left, rows - top, right - columns, bottom - rows)
        )
        log_distances[:, chosen] = np.log(np.maximum(distances[:, chosen], 1) / DISTANCE_UNIT)
    return BoxLabels(is_hand, log_distances)


def _middle_distance(centres: np.ndarray, first: float, last: float) -> np.ndarray:
    """Return how far cells are from the middle of a box along one axis; 1: at its side."""
    return np.abs(centres - (first + last) / 2) / max((last - first) / 2, STRIDE / 2)


def decode_boxes(maps: np.ndarray, threshold: float) -> ScoredBoxes:
    """Return the box of each cell that is likely in the middle of a hand, the likeliest first.

    Args:
        maps: (5, H, W) as the head gives them.
        threshold: The least probability, 0 to 1.
    """
    height, width = maps.shape[1:]
    scores = 1 / (1 + np.exp(-maps[0].astype(np.float64)))
    rows, columns = np.nonzero(scores >= threshold)
    order = np.argsort(-scores[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    distances = DISTANCE_UNIT * np.exp(np.minimum(maps[1:, rows, columns].T, _LONGEST_LOGARITHM))
    centres = np.column_stack([cell_centres(width)[columns], cell_centres(height)[rows]])
    boxes = np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1)
    middles = _MIDDLE**2 * box_areas(boxes) / STRIDE**2  # cells
    scores = scores[rows, columns]
    return ScoredBoxes(boxes, scores, scores / np.maximum(middles, 1))


def merge_boxes(cell_boxes: ScoredBoxes) -> ScoredBoxes:
    """Merge the boxes that cells of all scales give for the same hand.

    The likeliest box becomes the mean, weighted by votes, of all boxes that overlap it, also of
    those that have joined another one; then the likeliest of those that have joined none, and so
    on.

    Returns:
        The merged boxes, those of the most votes first, without those that overlap one of more
        votes.
    """
    boxes, scores, votes = cell_boxes
    is_unmerged = np.ones(len(boxes), bool)
    merged = []
    for index in np.argsort(-scores, kind="stable"):
        if is_unmerged[index]:
            is_same = box_iou(boxes[index], boxes) > _MERGED_IOU
            box = np.average(boxes[is_same], axis=0, weights=votes[is_same])
            merged.append((votes[is_same].sum(), scores[index], box))
            is_unmerged &= ~is_same
    merged.sort(key=lambda entry: -entry[0])
    chosen = [
        merged[i] for i in nms_boxes([box for *_, box in merged], _NMS_IOU, _NMS_SHARE_INSIDE)
    ]
    return ScoredBoxes(
        np.array([box for _, _, box in chosen]).reshape(-1, 4),
        np.array([score for _, score, _ in chosen]),
        np.array([vote for vote, _, _ in chosen]),
    )


def nms_boxes(boxes: Sequence[np.ndarray], overlap: float, inside_other: float) -> list[int]:
    """Return the indices of the boxes that overlap no earlier box that survives.

    Args:
        boxes: Left, top, right, bottom of each box, the most confident first.
        overlap: IoU above which two boxes are of one hand.
        inside_other: The share of the smaller box in the other above which they are, too.
    """
    return nms(
        range(len(boxes)),
        lambda index, other: are_of_same_hand(boxes[index], boxes[other], overlap, inside_other),
    )


def are_of_same_hand(
    box: np.ndarray, other: np.ndarray, overlap: float, inside_other: float
) -> bool:
    """Tell whether two boxes overlap so much that they are of the same hand; see `nms_boxes`."""
    return bool(box_iou(box, other) > overlap or smaller_covered_share(box, other) > inside_other)


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (...) of boxes (..., 4) of left, top, right, bottom."""
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).prod(axis=-1))


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union (...) of boxes (..., 4) of left, top, right, bottom."""
    intersection = _intersection(first, second)
    return _share(intersection, box_areas(first) + box_areas(second) - intersection)


def covered_share(boxes: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Return which share (...) of `boxes` (..., 4), the first of the two, lies in `cover`."""
    return _share(_intersection(boxes, cover), box_areas(boxes))


def smaller_covered_share(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return which share (...) of the smaller of two boxes (..., 4) lies in the larger one."""
    smaller_areas = np.minimum(box_areas(first), box_areas(second))
    return _share(_intersection(first, second), smaller_areas)


def _intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the areas (...) that two boxes (..., 4) share."""
    left_top = np.maximum(first[..., :2], second[..., :2])
    right_bottom = np.minimum(first[..., 2:], second[..., 2:])
    return np.asarray((right_bottom - left_top).clip(0).prod(axis=-1))


def _share(parts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return `parts` / `totals` (...), and 0 where a total is not above 0."""
    return np.divide(parts, totals, out=np.zeros(parts.shape), where=totals > 0)
