"""Draws the net's coarse mask along the edges of the image, as a start for a person's brush."""

import cv2
import numpy as np

from mcc_caffe.core.grabcut import refine_by_colours
from mcc_caffe.core.hand import MASK_THRESHOLD

_SURE_HAND, _SURE_BACKGROUND = 0.9, 0.1  # probabilities of hand
_MARGIN = 0.15  # around the box of the hand, in its longer side
_MAX_PIXELS = 300_000  # that GrabCut works on: it takes about a second for each million
# A refined mask that agrees less with the net's (intersection over union) has run away, for
# instance over skin-coloured wood.
_LEAST_AGREEMENT = 0.6
# The shares of the hand's pixels that a region of the hand, and a hole in it, have at least.
_LEAST_REGION, _LEAST_HOLE = 0.02, 0.005


def refine_mask(image: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Refine the net's mask by the image's colours (GrabCut).

    Pixels of which the net is sure stay what they are, except in small regions of the hand, which
    are removed, and small holes in it, which are filled. A part of the image of more than 0.3
    million pixels around the hand is reduced for the search, and the border is then drawn at full
    resolution.

    Args:
        image: HxWx3 uint8 BGR.
        probability: (H, W) float32, the probability of hand, 0 to 1.

    Returns:
        HxW uint8 of {0, 1}: the refined mask, or the net's own where the refined one has too
        little in common with it.
    """
    hand = (probability > MASK_THRESHOLD).astype(np.uint8)
    if not hand.any():
        return hand
    window = _window(hand)
    refined = hand.copy()
    refined[window] = _refine_window(image[window], probability[window])
    union = np.count_nonzero(refined | hand)
    if np.count_nonzero(refined & hand) < _LEAST_AGREEMENT * union:
        return hand
    return refined


def _window(hand: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns around the hand, with a margin."""
    x, y, width, height = cv2.boundingRect(hand)
    margin = round(_MARGIN * max(width, height)) + 1
    return (
        slice(max(y - margin, 0), y + height + margin),
        slice(max(x - margin, 0), x + width + margin),
    )


def _refine_window(image: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Refine a part of the image; see `refine_mask`."""
    height, width = probability.shape
    scale = min(1.0, (_MAX_PIXELS / (width * height)) ** 0.5)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small_probability = cv2.resize(probability, size, interpolation=cv2.INTER_AREA)
    refined = refine_by_colours(
        small, small_probability, sure_hand=_SURE_HAND, sure_background=_SURE_BACKGROUND
    )
    if refined is None:
        return (probability > MASK_THRESHOLD).astype(np.uint8)
    refined = _drop_specks(refined)
    if scale == 1.0:
        return refined
    smooth = cv2.resize(refined.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return (smooth > MASK_THRESHOLD).astype(np.uint8)


def _drop_specks(mask: np.ndarray) -> np.ndarray:
    """Remove small regions of the hand, and fill small holes in it."""
    for value, share in ((1, _LEAST_REGION), (0, _LEAST_HOLE)):
        _, regions, statistics, _ = cv2.connectedComponentsWithStats(
            (mask == value).astype(np.uint8), connectivity=4
        )
        is_small = statistics[:, cv2.CC_STAT_AREA] < share * np.count_nonzero(mask)
        # The first of the regions is all of the other value, which the line below leaves as it is.
        mask = np.where(is_small[regions], 1 - value, mask).astype(np.uint8)
    return mask
