"""Draws the samples that teach the box head: parts of images at random scales, and their labels.

A sample is a square of an image, scaled so that a hand in it has a size that the head finds, or at
random where there is no hand. It is mirrored half of the time and gets other colours.
"""

from typing import NamedTuple

import numpy as np

from mcc_caffe.core.geometry import (
    apply_to_boxes,
    compose,
    cut_for_warp,
    mirror_affine,
    resize_affine,
    translation,
)
from mcc_caffe.core.hand_boxes import (
    LARGEST_HAND,
    MAX_ENLARGEMENT,
    SMALLEST_HAND,
    BoxLabels,
    box_areas,
    encode_boxes,
)
from mcc_caffe.data.augmentation import ColourChange, network_input
from mcc_caffe.paper import STRIDE

# The longer side of an image, pixels of the input, is at least the first number. That of an image
# without a hand is at most the second.
_IMAGE_SIDES = (160.0, 640.0)
_LEAST_VISIBLE = 0.7  # share of a box inside of the square, below which it teaches nothing


class LabelledImage(NamedTuple):
    """An image with the boxes of all its hands.

    Attributes:
        image: HxWx3 uint8 BGR.
        boxes: (N, 4) of left, top, right, bottom in pixels.
        crowds: (M, 4), the boxes around crowds of hands, which teach nothing.
    """

    image: np.ndarray
    boxes: np.ndarray
    crowds: np.ndarray = np.empty((0, 4))


class BoxSample(NamedTuple):
    """A sample: the network's input (3, m, m) float32, and its labels."""

    network_input: np.ndarray
    labels: BoxLabels


def draw_sample(labelled_image: LabelledImage, size: int, rng: np.random.Generator) -> BoxSample:
    """Draw a square of an image.

    Args:
        labelled_image: The image and its boxes.
        size: m, the side of the input in pixels.
        rng: The source of randomness.
    """
    to_input = _draw_affine(labelled_image, size, rng)
    labelled = np.concatenate([labelled_image.boxes, labelled_image.crowds])
    boxes = apply_to_boxes(to_input, labelled)
    visible = boxes.clip(-0.5, size - 0.5)
    visible_areas = box_areas(visible)
    is_clear = visible_areas >= _LEAST_VISIBLE * box_areas(boxes)
    is_clear[len(labelled_image.boxes) :] = False
    in_view = visible_areas > 0  # the others are lines at the edge, which would mark cells there
    part, part_to_input = cut_for_warp(labelled_image.image, to_input, size)
    part = ColourChange.draw(rng).apply(part)
    return BoxSample(
        network_input(part, part_to_input, size),
        encode_boxes(visible[in_view], is_clear[in_view], size // STRIDE, size // STRIDE),
    )


def _draw_affine(labelled_image: LabelledImage, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the affine map of an image into an input; see `draw_sample`."""
    height, width = labelled_image.image.shape[:2]
    if len(labelled_image.boxes):
        left, top, right, bottom = labelled_image.boxes[rng.integers(len(labelled_image.boxes))]
        wanted = np.exp(rng.uniform(np.log(SMALLEST_HAND), np.log(LARGEST_HAND)))
        scale = wanted / max(right - left, bottom - top, 1)
        middle = np.array([left + right, top + bottom]) / 2
    else:
        scale = np.exp(rng.uniform(*np.log(_IMAGE_SIDES))) / max(width, height)
        middle = rng.uniform(0, (width, height))
    scale = min(max(scale, _IMAGE_SIDES[0] / max(width, height)), MAX_ENLARGEMENT)
    # The square lies inside of the image, or the image inside of the square.
    spare = np.array([width, height]) * scale - size
    corner = middle * scale - rng.uniform(0, size, 2)
    corner = corner.clip(np.minimum(spare, 0), np.maximum(spare, 0))
    to_input = compose(resize_affine(scale, scale), translation(*(-corner)))
    return compose(to_input, mirror_affine(size)) if rng.uniform() < 0.5 else to_input
