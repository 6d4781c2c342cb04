"""Finds every hand of a picture, of any size, with the one net.

The net is convolutional, so it passes over the whole picture at a few scales. Where its mask or its
heatmaps say hand, a square is looked at twice: around the proposed box, then around the keypoints
of the first look. What stays unsure or has bones of no hand is left out, and of answers that
overlap the surest stays.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.geometry import apply, invert, resize_affine
from mcc_caffe.core.hand import GROUPS, SKELETON
from mcc_caffe.inference.engines.base import StageMaps
from mcc_caffe.inference.looks import (
    SECOND_LOOK,
    Look,
    LookAnswer,
    Looker,
    keypoints_box,
    mirrored_window,
    square_around,
    surest,
)
from mcc_caffe.paper import GREY, PIXEL_SCALE, STRIDE

# Longer sides of the picture, in pixels, at which the net passes over all of it.
SCALES = (320, 512, 768)
_ENLARGED = 1.5  # a picture is enlarged by at most so much
# A region of the mask is a proposal, at each of these probabilities of hand.
_MASK_LEVELS = (0.5, 0.8)
_SMALLEST_REGION = 3  # cells of the mask
# A peak of the knuckles' mean heatmap is a proposal, of a square of so many pixels of the scale.
_PEAK = 0.15
_PEAK_SIDE = 96
_SAME_PROPOSAL = 0.6  # IoU of two proposals
_MOST_PROPOSALS = 12
_FIRST_LOOK = 2.0  # the square's side in sides of the proposed box
_WORTH_A_SECOND_LOOK = 0.15  # score of the first look
# Two answers are of one hand if the IoU of the boxes around their keypoints is above the first
# number, or if more than the second, as a share of the smaller box, lies in the other.
_SAME_HAND = 0.4
_INSIDE_OTHER = 0.6
# The longest bone in median bones; a hand's is at most 4.
_LONGEST_BONE = 6.0
SCORE_THRESHOLD = 0.35


class Proposal(NamedTuple):
    """A box in which a hand may be.

    Attributes:
        box: (4,) of left, top, right, bottom in pixels of the image.
        strength: how much speaks for it; the strongest proposals are looked at.
    """

    box: np.ndarray
    strength: float


def find_hands(
    image: np.ndarray,
    looker: Looker,
    network: Callable[[np.ndarray], StageMaps],
    *,
    score_threshold: float = SCORE_THRESHOLD,
    max_hands: int | None = None,
) -> list[LookAnswer]:
    """Find the hands of a picture.

    Args:
        image: HxWx3 uint8 BGR.
        looker: the Looker of the image.
        network: runs the net on a batch (N, 3, h, w).
        score_threshold: the mean confidence of 21 keypoints from which an answer is a hand.
        max_hands: the most hands to return; None for no limit.

    Returns:
        The hands, the surest first.
    """
    answers = [
        answer
        for answer in look_twice(looker, propose(image, network))
        if answer.score >= score_threshold and has_plausible_bones(answer.keypoints)
    ]
    return suppress(answers)[:max_hands]


def look_at_boxes(
    looker: Looker, boxes: np.ndarray, image_size: tuple[int, int]
) -> list[LookAnswer]:
    """Find the hand in each of the user's boxes, as it is and mirrored.

    Args:
        looker: the Looker of the image.
        boxes: (N, 4) of x, y, width, height in image pixels.
        image_size: (W, H) in pixels.

    Returns:
        The surer answer for each box, in the order of the boxes.
    """
    looks = []
    for x, y, width, height in boxes:
        square = square_around(np.array([x, y, x + width - 1, y + height - 1]), SECOND_LOOK)
        looks += [Look(square), Look(mirrored_window(square, image_size[0]), mirrored=True)]
    answers = looker.look(looks) if looks else []
    return [surest(answers[i : i + 2]) for i in range(0, len(answers), 2)]


def propose(image: np.ndarray, network: Callable[[np.ndarray], StageMaps]) -> list[Proposal]:
    """Propose boxes from the mask and heatmaps of the whole picture at several scales.

    Returns:
        At most 12 proposals, the strongest first. The first is the middle of the picture.
    """
    height, width = image.shape[:2]
    longer = max(height, width)
    proposals: list[Proposal] = []
    for side in SCALES:
        if side > SCALES[0] and side > longer * _ENLARGED:
            break
        factor = side / longer
        size = max(round(width * factor), 1), max(round(height * factor), 1)
        masks, heatmaps = network(_whole_input(image, size))
        to_image = invert(resize_affine(size[0] / width, size[1] / height))
        if masks is not None:
            proposals += _mask_regions(masks[0], to_image)
        if heatmaps is not None:
            proposals += _heatmap_peaks(heatmaps[0], to_image)
    proposals.sort(key=lambda proposal: -proposal.strength)
    whole = Proposal(np.array([width / 4, height / 4, width * 3 / 4, height * 3 / 4]), np.inf)
    return suppress_proposals([whole, *proposals])[:_MOST_PROPOSALS]


def look_twice(looker: Looker, proposals: Sequence[Proposal]) -> list[LookAnswer]:
    """Look at each proposal and, where that is promising, around the keypoints that it gives.

    Returns:
        The surer of the two answers of each promising proposal.
    """
    first = looker.look([Look(square_around(proposal.box, _FIRST_LOOK)) for proposal in proposals])
    promising = suppress(
        [answer for answer in first if answer.score >= _WORTH_A_SECOND_LOOK], 0.8, inside_other=1
    )
    if not promising:
        return []
    second = looker.look(
        [Look(square_around(keypoints_box(answer.keypoints), SECOND_LOOK)) for answer in promising]
    )
    return [surest(pair) for pair in zip(promising, second)]


def has_plausible_bones(keypoints: np.ndarray) -> bool:
    """Tell whether no bone is far longer than the others.

    Args:
        keypoints: (21, 2 or more) of x, y.
    """
    start, end = np.array([bone[:2] for bone in SKELETON]).T
    lengths = np.linalg.norm(keypoints[start, :2] - keypoints[end, :2], axis=1)
    return bool(lengths.max() <= _LONGEST_BONE * np.median(lengths))


def suppress(
    answers: Sequence[LookAnswer],
    overlap: float = _SAME_HAND,
    inside_other: float = _INSIDE_OTHER,
) -> list[LookAnswer]:
    """Return the answers, surest first, without those that overlap a surer one.

    Args:
        answers: of any looks at one image.
        overlap: IoU of the keypoints' boxes above which two answers are of one hand.
        inside_other: the share of the smaller box in the other above which they are, too.
    """
    ordered = sorted(answers, key=lambda answer: -answer.score)
    boxes = [keypoints_box(answer.keypoints) for answer in ordered]
    return [ordered[i] for i in _surviving(boxes, overlap, inside_other)]


def suppress_proposals(proposals: Sequence[Proposal]) -> list[Proposal]:
    """Return the proposals without those that are nearly an earlier one."""
    chosen = _surviving([proposal.box for proposal in proposals], _SAME_PROPOSAL, inside_other=1)
    return [proposals[i] for i in chosen]


def _surviving(boxes: Sequence[np.ndarray], overlap: float, inside_other: float) -> list[int]:
    """Return the indices of the boxes that overlap no earlier box that survives."""
    chosen: list[int] = []
    for index, box in enumerate(boxes):
        if all(
            box_iou(box, boxes[other]) <= overlap
            and _share_inside(box, boxes[other]) <= inside_other
            for other in chosen
        ):
            chosen.append(index)
    return chosen


def box_iou(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over union of two boxes of left, top, right, bottom."""
    intersection = _intersection(one, other)
    union = _area(one) + _area(other) - intersection
    return intersection / union if union > 0 else 0.0


def _share_inside(one: np.ndarray, other: np.ndarray) -> float:
    """Return which share of the smaller box lies in the other."""
    smaller = min(_area(one), _area(other))
    return _intersection(one, other) / smaller if smaller > 0 else 0.0


def _intersection(one: np.ndarray, other: np.ndarray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(sides.clip(0).prod())


def _area(box: np.ndarray) -> float:
    return float((box[2:] - box[:2]).prod())


def _whole_input(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the picture at a size as a net's input (1, 3, h, w), grey up to whole cells."""
    reduces = size[0] < image.shape[1]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if reduces else cv2.INTER_LINEAR)
    width, height = (-(-side // STRIDE) * STRIDE for side in size)
    network_input = np.zeros((1, 3, height, width), np.float32)
    pixels = (small.astype(np.float32) - GREY) / PIXEL_SCALE
    network_input[0, :, : size[1], : size[0]] = pixels.transpose(2, 0, 1)
    return network_input


def _mask_regions(mask: np.ndarray, to_image: np.ndarray) -> list[Proposal]:
    """Propose the connected regions of a mask (h, w)."""
    proposals = []
    for level in _MASK_LEVELS:
        hand = (mask > level).astype(np.uint8)
        count, labels, statistics, _ = cv2.connectedComponentsWithStats(hand, connectivity=4)
        for label in range(1, count):
            x, y, width, height, area = statistics[label].tolist()
            if area < _SMALLEST_REGION:
                continue
            corners = np.array([(x, y), (x + width, y + height)]) * STRIDE - 0.5
            strength = float(mask[labels == label].mean())
            proposals.append(Proposal(apply(to_image, corners).ravel(), strength))
    return proposals


def _heatmap_peaks(heatmaps: np.ndarray, to_image: np.ndarray) -> list[Proposal]:
    """Propose squares around the peaks of the knuckles' mean heatmap."""
    knuckles = heatmaps[list(GROUPS["knuckles"])].mean(axis=0)
    knuckles = cv2.GaussianBlur(knuckles, (0, 0), 1)
    highest = cv2.dilate(knuckles, np.ones((5, 5), np.uint8))
    rows, columns = np.nonzero((knuckles == highest) & (knuckles > _PEAK / 2))
    proposals = []
    for row, column in zip(rows, columns):
        centre = (np.array([column, row]) + 0.5) * STRIDE - 0.5
        corners = np.stack([centre - _PEAK_SIDE / 2, centre + _PEAK_SIDE / 2])
        strength = float(knuckles[row, column] / _PEAK) / 2
        proposals.append(Proposal(apply(to_image, corners).ravel(), strength))
    return proposals
