"""Drawings in the style of the paper's Fig. 5: mask, skeleton and heatmaps over the image."""

from typing import Protocol

import cv2
import numpy as np

from mcc_caffe.core.geometry import apply, compose, resize_affine
from mcc_caffe.core.hand import FINGER_COLOURS, MASK_THRESHOLD, SKELETON, keypoint_colour
from mcc_caffe.paper import KEYPOINT_COUNT

MASK_COLOUR = (255, 60, 0)  # BGR, blue
# Pixels, the longer side of a panel: a smaller one is hard to see, a larger one makes a file of
# more than 10 MB.
_SMALLEST_PANEL, _LARGEST_PANEL = 480, 1600
# Of a hand's longer side, the widths of bones and of the mask's outline.
_BONE_SHARE, _OUTLINE_SHARE = 1 / 80, 1 / 250
_BONE_OF_UNKNOWN_SIZE = 2  # pixels, where a single keypoint does not say how large the hand is
_SHIFT = 4  # cv2 draws with 4 fractional bits


class DrawablePose(Protocol):
    """What the drawings need of `inference.hand_pose.HandPose`, which describes the arrays."""

    @property
    def keypoints(self) -> np.ndarray | None:
        """The keypoints in image pixels."""

    @property
    def present(self) -> np.ndarray | None:
        """Whether each keypoint is present."""

    @property
    def mask(self) -> np.ndarray | None:
        """The mask at the image's size."""

    @property
    def heatmaps(self) -> np.ndarray | None:
        """The heatmaps of the look that decided, or the maximum over the levels of a pyramid."""

    @property
    def frame_to_image(self) -> np.ndarray:
        """The affine map from pixels of `heatmaps` to image pixels."""


def draw_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Tint the hand blue and outline it.

    Args:
        image: HxWx3 BGR uint8.
        mask: (H, W) float, the probability of hand; the hand is where it is above 0.5.

    Returns:
        A new image.
    """
    hand = (mask > MASK_THRESHOLD).view(np.uint8)
    drawn = image.copy()
    cv2.copyTo(cv2.addWeighted(image, 0.45, np.full_like(image, MASK_COLOUR), 0.55, 0), hand, drawn)
    contours = cv2.findContours(hand, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    width = _line_width(_OUTLINE_SHARE * max(cv2.boundingRect(hand)[2:]))
    return cv2.drawContours(drawn, contours, -1, MASK_COLOUR, width, cv2.LINE_AA)


def _line_width(pixels: float) -> int:
    """Return a width in whole pixels, at least 1."""
    return max(1, round(pixels))


def _bone_width(points: np.ndarray) -> int:
    """Return the width of the bones of a hand, in pixels.

    Args:
        points: (N, 2) of x, y of its present keypoints.
    """
    if len(points) < 2:
        return _BONE_OF_UNKNOWN_SIZE
    return _line_width(_BONE_SHARE * np.ptp(points, axis=0).max())


def draw_skeleton(image: np.ndarray, keypoints: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Draw the keypoints that are present and the bones between them, in the paper's colours.

    Args:
        image: HxWx3 BGR uint8.
        keypoints: (21, 2 or more) of x, y in image pixels.
        present: (21,) bool.

    Returns:
        A new image.
    """
    drawn = image.copy()
    width = _bone_width(keypoints[present, :2])
    points = np.round(keypoints[:, :2] * (1 << _SHIFT)).astype(int).tolist()
    for start, end, finger in SKELETON:
        if present[start] and present[end]:
            colour = FINGER_COLOURS[finger]
            cv2.line(drawn, points[start], points[end], colour, width, cv2.LINE_AA, _SHIFT)
    radius = int(width * 1.2 * (1 << _SHIFT))
    for k in range(KEYPOINT_COUNT):
        if present[k]:
            cv2.circle(drawn, points[k], radius, keypoint_colour(k), -1, cv2.LINE_AA, _SHIFT)
    return drawn


def draw_heatmaps(
    image: np.ndarray, heatmaps: np.ndarray, frame_to_image: np.ndarray
) -> np.ndarray:
    """Draw the keypoints' heatmaps over the darkened image.

    Every pixel shows the strongest map, in the colour of its finger.

    Args:
        image: HxWx3 BGR uint8.
        heatmaps: (22, m, m) float32.
        frame_to_image: The affine map of pixels of the heatmaps to image pixels.

    Returns:
        A new image.
    """
    keypoint_maps = heatmaps[:KEYPOINT_COUNT]
    palette = np.array([keypoint_colour(k) for k in range(KEYPOINT_COUNT)], np.float32)
    colours = palette[keypoint_maps.argmax(axis=0)]
    heat_and_colour = np.dstack([keypoint_maps.max(axis=0).clip(0, 1), 0.5 * colours + 127])
    drawn = cv2.warpAffine(
        heat_and_colour,
        frame_to_image,
        image.shape[1::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    heat, colours, dim = drawn[..., :1], drawn[..., 1:], image * np.float32(0.45)
    return (dim + heat * (colours - dim)).astype(np.uint8)


def draw_pose(image: np.ndarray, pose: DrawablePose) -> np.ndarray:
    """Draw mask, skeleton and heatmaps side by side (Fig. 5).

    Where no keypoint is present there is no hand to draw, and so no mask.

    Args:
        image: HxWx3 BGR uint8.
        pose: The HandPose of the image, with keypoints.

    Returns:
        A drawing of three panels, each as large as the image, but 480 to 1600 pixels on its longer
        side.
    """
    assert pose.keypoints is not None and pose.present is not None and pose.heatmaps is not None
    longer_side = max(image.shape[:2])
    scale = min(max(longer_side, _SMALLEST_PANEL), _LARGEST_PANEL) / longer_side
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    to_small = resize_affine(size[0] / image.shape[1], size[1] / image.shape[0])
    keypoints = apply(to_small, pose.keypoints[:, :2])
    mask = pose.mask if pose.present.any() else None
    panels = [
        small if mask is None else draw_mask(small, cv2.resize(mask, size)),
        draw_skeleton(small, keypoints, pose.present),
        draw_heatmaps(small, pose.heatmaps, compose(pose.frame_to_image, to_small)),
    ]
    gap = np.full((size[1], 4, 3), 255, np.uint8)
    return np.hstack([panels[0], gap, panels[1], gap, panels[2]])


def draw_over(image: np.ndarray, pose: DrawablePose) -> np.ndarray:
    """Draw mask and skeleton over an image, at its own size; no mask without a keypoint.

    Of a net without pose stages there is the mask alone.

    Args:
        image: HxWx3 BGR uint8.
        pose: The HandPose of the image.

    Returns:
        A new image.
    """
    if pose.keypoints is None or pose.present is None:
        assert pose.mask is not None  # every net has a mask head or pose stages
        return draw_mask(image, pose.mask)
    mask = pose.mask if pose.present.any() else None
    drawn = image if mask is None else draw_mask(image, mask)
    return draw_skeleton(drawn, pose.keypoints, pose.present)


def draw_number(image: np.ndarray, number: int, corner: tuple[int, int]) -> np.ndarray:
    """Draw the number of a hand at a corner of its box, moved into the image.

    Args:
        image: HxWx3 BGR uint8.
        number: The number, from 1.
        corner: x, y in image pixels.

    Returns:
        A new image.
    """
    drawn, text, font = image.copy(), str(number), cv2.FONT_HERSHEY_SIMPLEX
    scale = max(0.5, max(image.shape) / 900)
    (width, height), below = cv2.getTextSize(text, font, scale, 1)
    x = min(max(corner[0], 2), max(image.shape[1] - width - 2, 0))
    y = min(max(corner[1], height + 2), max(image.shape[0] - below - 2, 0))
    thickness = max(1, round(2 * scale))
    for colour, extra in (((0, 0, 0), 2 * thickness), ((255, 255, 255), 0)):
        cv2.putText(drawn, text, (x, y), font, scale, colour, thickness + extra, cv2.LINE_AA)
    return drawn
