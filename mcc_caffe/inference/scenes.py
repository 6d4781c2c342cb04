"""Finds every hand of an image, of any size.

Boxes in which a hand may be are proposed from passes over the whole image
(`inference.proposals`). At each a square is looked at twice: around the proposed box, then upright
around the keypoints of the first look. Where the box head proposes, its votes decide more than the
looks do. Without a box head, answers that stay unsure or have impossible bones are left out, and of
answers that overlap the most confident stays.
"""

from collections.abc import Sequence

import numpy as np

from mcc_caffe.core.hand import are_same_keypoints, has_plausible_bones, nms
from mcc_caffe.core.hand_boxes import are_of_same_hand, box_areas, box_iou, nms_boxes
from mcc_caffe.inference.looks import (
    SECOND_LOOK_FACTOR,
    Look,
    LookAnswer,
    Looker,
    fuse_answers,
    keypoints_box,
    look_in_all_directions,
    square_window,
    upright_look,
    with_masks_near,
)
from mcc_caffe.inference.proposals import NetworkCall, Proposal, propose_boxes, propose_regions

_FIRST_LOOK_FACTOR = 2.0  # the square's side in sides of the proposed box
_WORTH_A_SECOND_LOOK = 0.15  # score of the first look
# Two answers are of one hand if the IoU of the boxes around their keypoints is above the first
# number, or if more than the second, as a share of the smaller box, lies in the other.
_NMS_IOU = 0.4
_NMS_SHARE_INSIDE = 0.6
# Boxes with a lower IoU are apart: they are of two hands.
_LEAST_OVERLAP = 0.15
SCORE_THRESHOLD = 0.35
# The bonus of a proposal's score is 4 x (min(strength, 2) - 1). It weighs so much that the box head
# nearly decides alone: looks see little in half-hidden hands that the head is sure of.
_STRENGTH_WORTH, _MOST_STRENGTH, _NEUTRAL_STRENGTH = 4.0, 2.0, 1.0
# Subtracted from the score of the guess that a hand fills the middle of the image.
_DOUBT_OF_GUESS = 0.25


def find_hands(
    looker: Looker,
    network: NetworkCall,
    boxes_network: NetworkCall | None,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    max_hands: int | None = None,
    known: Sequence[np.ndarray] = (),
) -> list[LookAnswer]:
    """Find the hands of an image.

    Args:
        looker: The Looker of the image.
        network: Runs the net on a batch (N, 3, h, w).
        boxes_network: Runs a net that has a box head; None without one.
        score_threshold: The least sum of an answer's score (`score_of_box`) and the box head's
            votes for it (`vote_bonus`) with which it is a hand; without a box head, the least
            score.
        max_hands: The most hands to return; None for no limit.
        known: Boxes (4,) of left, top, right, bottom of hands that are known already; there is no
            look at what shows only them.

    Returns:
        The hands, the most confident first.

    Raises:
        UserError: The net's heatmaps are not finite.
    """
    if boxes_network is None:
        regions = _without_known(propose_regions(looker.octaves(), network), known)
        answers = [
            answer
            for answer in look_twice_at_regions(looker, regions)
            if answer.score >= score_threshold and has_plausible_bones(answer.keypoints)
        ]
        return nms_answers_by_box(answers)[:max_hands]
    octaves, mirrored = looker.octaves(), looker.octaves(mirrored=True)
    proposals = _without_known(propose_boxes(octaves, mirrored, boxes_network), known)
    answers = [
        answer
        for proposal, answer in zip(proposals, look_twice_at_boxes(looker, proposals))
        if score_of_box(answer) + vote_bonus(proposal) >= score_threshold
        and (not proposal.is_guess or has_plausible_bones(answer.keypoints))
    ]
    return nms_answers_by_keypoints(answers)[:max_hands]


def are_same_hand(box: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two boxes overlap so much that they are of the same hand."""
    return are_of_same_hand(box, other, _NMS_IOU, _NMS_SHARE_INSIDE)


def _without_known(proposals: Sequence[Proposal], known: Sequence[np.ndarray]) -> list[Proposal]:
    """Return the proposals that show more than a known hand or a part of it."""
    return [
        proposal
        for proposal in proposals
        if not any(
            are_same_hand(proposal.box, box)
            # A larger box may show another hand, too.
            and box_areas(proposal.box) < 2 * box_areas(box)
            for box in known
        )
    ]


def look_twice_at_boxes(looker: Looker, proposals: Sequence[Proposal]) -> list[LookAnswer]:
    """Look twice at each box that the box head proposes: around it, then around the keypoints.

    Returns:
        What the two looks agree on for each proposal, if possible of those with plausible bones,
        with the proposed box; a guess has none.
    """
    pairs = _look_again(looker, _look_at_squares(looker, proposals))
    answers = []
    for proposal, pair in zip(proposals, pairs):
        plausible = [answer for answer in pair if has_plausible_bones(answer.keypoints)]
        box = None if proposal.is_guess else proposal.box
        answers.append(fuse_answers(plausible or pair)._replace(box=box))
    return answers


def score_of_box(answer: LookAnswer) -> float:
    """Return what a look says of the box that it was for; 0 where it strayed to another hand."""
    has_strayed = _are_apart(answer.box, keypoints_box(answer.keypoints))
    return 0.0 if has_strayed else answer.score


def vote_bonus(proposal: Proposal) -> float:
    """Return what the box head's votes for a proposal add to the score of the look at it.

    What many cells take for a hand needs little of the look, and what few do needs much.
    """
    if proposal.is_guess:
        return -_DOUBT_OF_GUESS
    return _STRENGTH_WORTH * (min(proposal.strength, _MOST_STRENGTH) - _NEUTRAL_STRENGTH)


def look_at_boxes(looker: Looker, boxes_xywh: np.ndarray) -> list[LookAnswer]:
    """Look at each of the user's boxes, in all directions if need be, and around the keypoints.

    Args:
        looker: The Looker of the image.
        boxes_xywh: (N, 4) of x, y, width, height in image pixels.

    Returns:
        What the looks at each box agree on, in the order of the boxes.

    Raises:
        UserError: The net's heatmaps are not finite.
    """
    boxes = [np.array([x, y, x + w - 1, y + h - 1]) for x, y, w, h in boxes_xywh]
    squares = [Look(square_window(box, SECOND_LOOK_FACTOR)) for box in boxes]
    first = look_in_all_directions(looker, squares)
    return [fuse_answers(pair) for pair in _look_again(looker, first)]


def look_twice_at_regions(looker: Looker, proposals: Sequence[Proposal]) -> list[LookAnswer]:
    """Look at each proposal and, where that is promising, around the keypoints that it gives.

    Returns:
        What the two looks at each promising proposal agree on.
    """
    first = _look_at_squares(looker, proposals)
    promising = nms_answers_by_box(
        [answer for answer in first if answer.score >= _WORTH_A_SECOND_LOOK], 0.8, inside_other=1
    )
    return [fuse_answers(pair) for pair in _look_again(looker, promising)]


def _look_again(
    looker: Looker, answers: Sequence[LookAnswer]
) -> list[tuple[LookAnswer, LookAnswer]]:
    """Take a second look at each hand, at an upright square around its keypoints.

    Returns:
        Each answer, whose mask now ends near that square, and the second look's answer.
    """
    squares = [
        upright_look(answer.keypoints, SECOND_LOOK_FACTOR, looker.image_size) for answer in answers
    ]
    return [
        (with_masks_near(answer, again), again)
        for answer, again in zip(answers, looker.look(squares))
    ]


def _look_at_squares(looker: Looker, proposals: Sequence[Proposal]) -> list[LookAnswer]:
    """Look at a square around each proposed box."""
    return looker.look(
        [Look(square_window(proposal.box, _FIRST_LOOK_FACTOR)) for proposal in proposals]
    )


def nms_answers_by_keypoints(answers: Sequence[LookAnswer]) -> list[LookAnswer]:
    """Return the answers, most confident first, without those that see the hand of a better one.

    Two proposed boxes of one hand may overlap too little to be known as such; the looks at them
    give the same keypoints. Where the boxes hardly meet, they show two hands, of which one look has
    strayed to the other: both stay.

    Args:
        answers: The answers of any looks at one image.
    """
    return nms(sorted(answers, key=lambda answer: -answer.score), _show_same_hand)


def _show_same_hand(answer: LookAnswer, other: LookAnswer) -> bool:
    """Tell whether two answers have the same keypoints, and boxes that are not apart."""
    return not _are_apart(answer.box, other.box) and are_same_keypoints(
        answer.keypoints, other.keypoints
    )


def _are_apart(box: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Tell whether two boxes hardly meet; an answer without a box is nowhere apart."""
    return box is not None and other is not None and bool(box_iou(box, other) < _LEAST_OVERLAP)


def nms_answers_by_box(
    answers: Sequence[LookAnswer],
    overlap: float = _NMS_IOU,
    inside_other: float = _NMS_SHARE_INSIDE,
) -> list[LookAnswer]:
    """Return the answers, most confident first, without those that overlap a better one.

    Args:
        answers: The answers of any looks at one image.
        overlap: IoU of the keypoints' boxes above which two answers are of one hand.
        inside_other: The share of the smaller box in the other above which they are, too.
    """
    ordered = sorted(answers, key=lambda answer: -answer.score)
    boxes = [keypoints_box(answer.keypoints) for answer in ordered]
    return [ordered[i] for i in nms_boxes(boxes, overlap, inside_other)]
