"""Masks of hands whose keypoints are known: a network's own, refined by the image's colours.

The network says roughly where the hand is, in cells. GrabCut then moves the border to where the
colours change, at the image's own resolution. A mask is trusted where it agrees with the
keypoints: it holds them, and it does not reach far beyond their convex hull.
"""

import cv2
import numpy as np

from mcc_caffe.core.grabcut import refine_by_colours
from mcc_caffe.core.hand import MASK_THRESHOLD

# What GrabCut takes as certain: hand from this probability on, background below that one.
_SURE_HAND, _SURE_BACKGROUND = 0.85, 0.15
# Shares of the longer side of the keypoints' box.
_AT_THE_BORDER = 0.04  # a keypoint so far from the mask is still held by it
_FAR = 0.25  # what lies so far from the convex hull of the keypoints is no hand's
# A mask that is trusted holds this share of the keypoints at least, ...
_LEAST_HELD = 0.9
# ... has at most this share far from their hull, and has this IoU with the network's own.
_MOST_FAR = 0.05
_LEAST_IOU = 0.7


def make_trusted_mask(
    image: np.ndarray, probability: np.ndarray, keypoints: np.ndarray
) -> np.ndarray | None:
    """Refine the mask of a hand and return it, if it can be trusted.

    Args:
        image: HxWx3 uint8 BGR.
        probability: (H, W) float32, of hand, 0 to 1, as a network gives it.
        keypoints: (N, 2) of x, y in pixels: those of the hand that are known, at least 3; all lie
            in the image.

    Returns:
        HxW uint8 of {0, 1}; None where the mask fails one of the three checks (`agrees`).
    """
    mask = refine(image, probability)
    return mask if agrees(mask, probability > MASK_THRESHOLD, keypoints) else None


def refine(image: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Move the border of a mask to where the image's colours change (GrabCut).

    Args:
        image: HxWx3 uint8 BGR.
        probability: (H, W) float32, of hand, 0 to 1.

    Returns:
        HxW uint8 of {0, 1}: the network's own mask unless the network is sure of some pixels of
        the hand and of some of the background.
    """
    is_sure = (probability >= _SURE_HAND).any() and (probability < _SURE_BACKGROUND).any()
    if not is_sure:
        return (probability > MASK_THRESHOLD).astype(np.uint8)
    refined = refine_by_colours(
        image, probability, sure_hand=_SURE_HAND, sure_background=_SURE_BACKGROUND
    )
    assert refined is not None  # there are pixels of both
    return refined


def agrees(mask: np.ndarray, own_mask: np.ndarray, keypoints: np.ndarray) -> bool:
    """Tell whether a mask is that of the hand with these keypoints.

    Args:
        mask: HxW uint8 of {0, 1}.
        own_mask: HxW bool, the network's own.
        keypoints: (N, 2) of x, y in pixels, at least 3; all lie in the image.
    """
    if not mask.any():
        return False
    side = max(float(np.ptp(keypoints, axis=0).max()), 1.0)
    to_mask = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3)
    columns, rows = keypoints.round().astype(int).T
    held = to_mask[rows, columns] <= _AT_THE_BORDER * side
    hull = np.zeros_like(mask)
    cv2.fillConvexPoly(hull, cv2.convexHull(keypoints.round().astype(np.int32)), 1)
    far = cv2.distanceTransform(1 - hull, cv2.DIST_L2, 3) > _FAR * side
    union = (mask | own_mask).sum()
    return bool(
        held.mean() >= _LEAST_HELD
        and (mask * far).sum() <= _MOST_FAR * mask.sum()
        and (mask & own_mask).sum() >= _LEAST_IOU * union
    )
