"""Proposes where in a whole image hands may be.

A net with a box head proposes boxes itself (`propose_boxes`). With other weights the regions of the
mask and the peaks of the heatmaps are proposed (`propose_regions`); that finds fewer and costs
more.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.geometry import (
    apply,
    apply_to_boxes,
    compose,
    invert,
    mirror_affine,
    resize_affine,
)
from mcc_caffe.core.hand import GROUPS
from mcc_caffe.core.hand_boxes import (
    MAX_ENLARGEMENT,
    ScoredBoxes,
    box_areas,
    decode_boxes,
    merge_boxes,
    nms_boxes,
)
from mcc_caffe.inference.engines.base import StageMaps
from mcc_caffe.inference.pyramid import Octaves
from mcc_caffe.paper import GREY, PIXEL_SCALE, STRIDE

NetworkCall = Callable[[np.ndarray], StageMaps]  # runs a net on a batch (N, 3, h, w)

# Longer sides of the image, in pixels, at which the box head passes over all of it.
BOX_SCALES = (160, 320, 640)
# Those at which it passes over the mirror image, too, and what share of its votes each of the two
# passes then has.
MIRRORED_SCALES = (160, 320)
_SHARE_OF_TWO = 0.5
_LEAST_PROBABILITY = 0.1
# Votes that make a hand, per unit of (longer side of its box / image width), which is clamped to
# the range that follows. More cells see a larger hand, and clothes are taken for large hands rather
# than for small ones.
_VOTES_PER_SIZE, _SIZE_RANGE = 5.25, (0.1, 0.3)
_LEAST_STRENGTH = 0.7
_MOST_BOXES = 20

# The same for the mask and the heatmaps.
REGION_SCALES = (320, 512, 768)
# A region of the mask is a proposal, at each of these probabilities of hand.
_MASK_LEVELS = (0.5, 0.8)
_SMALLEST_REGION = 3  # cells of the mask
# A peak of the knuckles' mean heatmap above the first number is a proposal, of a square of so many
# pixels of the scale. Its strength is half of its height in units of the second number.
_LEAST_PEAK, _PEAK_UNIT = 0.075, 0.15
_PEAK_SIDE = 96
_REGION_NMS_IOU = 0.6  # IoU of two proposals
_MOST_REGIONS = 12


class Proposal(NamedTuple):
    """A box in which a hand may be.

    Attributes:
        box: (4,) of left, top, right, bottom in pixels of the image.
        strength: How much speaks for it; the strongest proposals are looked at.
        is_guess: Whether nothing speaks for it: it is the middle of the image.
    """

    box: np.ndarray
    strength: float
    is_guess: bool = False


class _Pass(NamedTuple):
    """What a net says of a whole image at one scale.

    Attributes:
        maps: What the net answers to the image, a batch of 1.
        to_image: (2, 3), the affine map of pixels of the input to pixels of the image.
    """

    maps: StageMaps
    to_image: np.ndarray


def propose_boxes(octaves: Octaves, mirrored: Octaves, network: NetworkCall) -> list[Proposal]:
    """Propose the boxes that the box head gives for the whole image at several scales.

    Args:
        octaves: The image.
        mirrored: Its mirror image.
        network: Runs a net that has a box head.

    Returns:
        At most 20 proposals, the strongest first; their strength is the votes of the head's cells
        (`core.hand_boxes.ScoredBoxes`), 1 for as many as a hand of that size has. Where there is
        none, it is the middle of the image, which a hand may fill that is too large for the head.
    """
    height, width = octaves.image.shape[:2]
    cell_boxes = []
    for side, (maps, to_image) in zip(BOX_SCALES, _passes(octaves, network, BOX_SCALES)):
        votes_share = _SHARE_OF_TWO if side in MIRRORED_SCALES else 1.0
        cell_boxes.append(_boxes_in_image(maps, to_image, (width, height), votes_share))
    for maps, to_mirrored in _passes(mirrored, network, MIRRORED_SCALES):
        to_image = compose(to_mirrored, mirror_affine(width))
        cell_boxes.append(_boxes_in_image(maps, to_image, (width, height), _SHARE_OF_TWO))
    merged = merge_boxes(ScoredBoxes(*(np.concatenate(arrays) for arrays in zip(*cell_boxes))))
    shares = (merged.boxes[:, 2:] - merged.boxes[:, :2]).max(axis=1, initial=0) / width
    strengths = merged.votes / (_VOTES_PER_SIZE * shares.clip(*_SIZE_RANGE))
    proposals = [
        Proposal(merged.boxes[index], float(strengths[index]))
        for index in np.argsort(-strengths, kind="stable")
        if strengths[index] >= _LEAST_STRENGTH
    ]
    return proposals[:_MOST_BOXES] or [_middle(width, height, 0.0)]


def _boxes_in_image(
    maps: StageMaps, to_image: np.ndarray, image_size: tuple[int, int], votes_share: float
) -> ScoredBoxes:
    """Return the cells' boxes of one pass in pixels of the image, with a share of their votes."""
    assert maps.boxes is not None  # the net has a box head
    boxes, scores, votes = decode_boxes(maps.boxes[0], _LEAST_PROBABILITY)
    limits = np.array([*image_size, *image_size]) - 0.5
    boxes_in_image = apply_to_boxes(to_image, boxes).clip(-0.5, limits)
    has_area = box_areas(boxes_in_image) > 0  # the others lie in the input's grey part
    return ScoredBoxes(boxes_in_image[has_area], scores[has_area], votes[has_area] * votes_share)


def propose_regions(octaves: Octaves, network: NetworkCall) -> list[Proposal]:
    """Propose boxes from the mask and heatmaps of the whole image at several scales.

    Args:
        octaves: The image.
        network: Runs a net with a mask or a pose stage.

    Returns:
        At most 12 proposals, the strongest first. The first is the middle of the image.
    """
    height, width = octaves.image.shape[:2]
    proposals = [_middle(width, height, np.inf)]
    for maps, to_image in _passes(octaves, network, REGION_SCALES):
        if maps.masks is not None:
            proposals += _mask_regions(maps.masks[0], to_image)
        if maps.heatmaps is not None:
            proposals += _heatmap_peaks(maps.heatmaps[0], to_image)
    return nms_proposals(proposals, _REGION_NMS_IOU, _MOST_REGIONS)


def nms_proposals(proposals: Sequence[Proposal], overlap: float, count: int) -> list[Proposal]:
    """Return the strongest proposals without those that are nearly a stronger one.

    Args:
        proposals: In any order.
        overlap: IoU above which two proposals are the same.
        count: The most to return.
    """
    ordered = sorted(proposals, key=lambda proposal: -proposal.strength)
    boxes = [proposal.box for proposal in ordered]
    return [ordered[i] for i in nms_boxes(boxes, overlap, inside_other=1)[:count]]


def _middle(width: int, height: int, strength: float) -> Proposal:
    return Proposal(np.array([width, height, width * 3, height * 3]) / 4, strength, True)


def _passes(octaves: Octaves, network: NetworkCall, scales: Sequence[int]) -> list[_Pass]:
    """Pass an image through a net at several scales, given as longer sides in pixels."""
    height, width = octaves.image.shape[:2]
    longer = max(height, width)
    passes = []
    for side in scales:
        if side > scales[0] and side > longer * MAX_ENLARGEMENT:
            break
        factor = side / longer
        size = max(round(width * factor), 1), max(round(height * factor), 1)
        halvings = octaves.halvings(longer / side)
        finer = octaves.halved(halvings)
        # The halves leave an odd last row or column out.
        covered_height, covered_width = (pixels << halvings for pixels in finer.shape[:2])
        to_image = invert(resize_affine(size[0] / covered_width, size[1] / covered_height))
        passes.append(_Pass(network(_image_input(finer, size)), to_image))
    return passes


def _image_input(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the image at a size as a net's input (1, 3, h, w), grey up to whole cells."""
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
    rows, columns = np.nonzero((knuckles == highest) & (knuckles > _LEAST_PEAK))
    proposals = []
    for row, column in zip(rows, columns):
        centre = (np.array([column, row]) + 0.5) * STRIDE - 0.5
        corners = np.stack([centre - _PEAK_SIDE / 2, centre + _PEAK_SIDE / 2])
        strength = float(knuckles[row, column] / _PEAK_UNIT) / 2
        proposals.append(Proposal(apply(to_image, corners).ravel(), strength))
    return proposals
