"""Masks of hands with known keypoints: refined by the image, and checked by the keypoints."""

import cv2
import numpy as np
import pytest

from data_tools.hand_masks import agrees, refine

SIZE = 160
KEYPOINTS = np.array([(60.0, 60), (100, 60), (100, 100), (60, 100), (80, 80), (80, 60)])


def square(left=50, top=50, right=111, bottom=111):
    """A mask of {0, 1}; right and bottom do not belong to it."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def test_the_border_moves_to_where_the_colours_change():
    rng = np.random.default_rng(0)
    truth = np.zeros((SIZE, SIZE), np.uint8)
    cv2.circle(truth, (80, 80), 45, (1,), -1)
    colours = np.where(truth[..., None] == 1, (90, 120, 190), (150, 110, 60))
    image = (colours + rng.normal(0, 8, colours.shape)).clip(0, 255).astype(np.uint8)
    # As a network would have it: in cells of 8 pixels, unsure at the border, a little to the right.
    cells = cv2.resize(truth * 1.0, (20, 20), interpolation=cv2.INTER_AREA)
    probability = cv2.resize(cv2.GaussianBlur(cells, (0, 0), 1), (SIZE, SIZE)).astype(np.float32)
    probability = np.roll(probability, 4, axis=1)
    mask = refine(image, probability)
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}

    def iou(other):
        return (truth & other).sum() / (truth | other).sum()

    assert iou((probability > 0.5).astype(np.uint8)) < 0.92 < 0.98 < iou(mask)
    np.testing.assert_array_equal(mask, refine(image, probability))


@pytest.mark.parametrize("value, expected", [(0.6, 1), (0.3, 0), (0.0, 0), (1.0, 1)])
def test_without_a_sure_pixel_the_mask_is_the_networks(value, expected):
    image = np.zeros((20, 30, 3), np.uint8)
    mask = refine(image, np.full((20, 30), value, np.float32))
    np.testing.assert_array_equal(mask, np.full((20, 30), expected))


def test_a_mask_that_holds_the_keypoints_and_little_more_agrees():
    assert agrees(square(), square() > 0, KEYPOINTS)
    # 0.04 x 40 = 1.6 pixels: a keypoint so far outside is still held.
    assert agrees(square(left=61), square() > 0, KEYPOINTS)


@pytest.mark.parametrize("beside, expected", [(1, True), (2, False)])
def test_a_tenth_of_the_keypoints_may_lie_beside_the_mask(beside, expected):
    """Of ten keypoints, so many lie 6 pixels to the right of the mask; 1.6 are allowed."""
    keypoints = np.concatenate([KEYPOINTS, np.full((4, 2), 80.0)])
    keypoints[-beside:] = 116, 80
    assert agrees(square(), square() > 0, keypoints) == expected


def test_a_mask_agrees_also_where_x_is_beyond_the_images_height():
    mask = np.zeros((SIZE, 2 * SIZE), np.uint8)
    mask[:, SIZE:] = square()
    assert agrees(mask, mask > 0, KEYPOINTS + (SIZE, 0))


@pytest.mark.parametrize(
    "mask, own_mask",
    [
        (square(left=65), square(left=65)),  # two of six keypoints are 5 pixels outside
        (square(bottom=SIZE), square(bottom=SIZE)),  # a third of it is an arm, far from the hand
        (square(), square(right=85)),  # the colours led far away from the network's mask
        (square(0, 0, 0, 0), square()),
    ],
)
def test_other_masks_do_not(mask, own_mask):
    assert not agrees(mask, own_mask > 0, KEYPOINTS)
