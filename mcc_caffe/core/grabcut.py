"""Refines a network's mask by the image's colours, with OpenCV's GrabCut."""

import cv2
import numpy as np

from mcc_caffe.core.hand import MASK_THRESHOLD

_ROUNDS = 3


def refine_by_colours(
    image: np.ndarray, probability: np.ndarray, *, sure_hand: float, sure_background: float
) -> np.ndarray | None:
    """Move the border of a mask to where the image's colours change.

    The same image always gives the same mask.

    Args:
        image: HxWx3 uint8 BGR.
        probability: (H, W) float32, the probability of hand, 0 to 1.
        sure_hand: The probability from which on a pixel stays hand.
        sure_background: The probability below which a pixel stays background.

    Returns:
        HxW uint8 of {0, 1}; None where all pixels are rather hand, or all rather background, since
        GrabCut learns the colours of both.
    """
    labels = np.select(
        [
            probability >= sure_hand,
            probability > MASK_THRESHOLD,
            probability >= sure_background,
        ],
        [cv2.GC_FGD, cv2.GC_PR_FGD, cv2.GC_PR_BGD],
        cv2.GC_BGD,
    ).astype(np.uint8)
    is_hand = _is_hand(labels)
    if is_hand.all() or not is_hand.any():
        return None
    cv2.setRNGSeed(0)  # GrabCut's clusters start at random
    no_box = (0, 0, 0, 0)  # the labels say where the hand may be
    models = np.zeros((1, 65)), np.zeros((1, 65))  # GrabCut's own memory
    cv2.grabCut(image, labels, no_box, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return _is_hand(labels).astype(np.uint8)


def _is_hand(labels: np.ndarray) -> np.ndarray:
    """Return which of GrabCut's labels say hand, surely or probably."""
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
