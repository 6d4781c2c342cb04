"""The refinement of the network's coarse mask along the edges of the image."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mcc_caffe.serving.mask_refinement import refine_mask


@settings(max_examples=20)
@given(
    arrays.arrays(np.float32, (9, 11), elements=st.floats(0, 1, width=32)),
    st.integers(0, 2**32 - 1),
)
def test_refining_takes_any_image(probability, seed):
    image = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    refined = refine_mask(image, probability)
    assert refined.shape == (9, 11) and refined.dtype == np.uint8
    assert set(np.unique(refined)) <= {0, 1}
    assert np.array_equal(refined, refine_mask(image, probability))


def test_refining_follows_the_edge_of_the_hand():
    """A coarse mask of a disc on another ground becomes nearly the disc itself."""
    rng = np.random.default_rng(0)
    disc = cv2.circle(np.zeros((450, 600), np.uint8), (300, 225), 150, 1, -1)
    colours = np.where(disc[..., None], (120, 160, 220), (90, 110, 60))
    image = (colours + rng.normal(0, 6, colours.shape)).clip(0, 255).astype(np.uint8)
    moved = np.roll(disc, (10, 15), (0, 1)).astype(np.float32)
    coarse = cv2.resize(cv2.resize(moved, (24, 18), interpolation=cv2.INTER_AREA), (600, 450))

    def overlap(mask):
        return np.count_nonzero(mask & disc) / np.count_nonzero(mask | disc)

    assert overlap((coarse > 0.5).astype(np.uint8)) < 0.9
    assert overlap(refine_mask(image, coarse)) > 0.97


@pytest.mark.parametrize("side, expected_count", [(24, 400), (40, 1600)])
def test_a_refined_mask_that_agrees_little_with_the_nets_is_dropped(side, expected_count):
    """The 20 x 20 pixels of skin are 0.69 of the net's 24 x 24, and 0.25 of its 40 x 40."""
    rng = np.random.default_rng(0)
    skin = np.zeros((120, 120), np.uint8)
    skin[50:70, 50:70] = 1
    colours = np.where(skin[..., None], (120, 160, 220), (90, 110, 60))
    image = (colours + rng.normal(0, 6, colours.shape)).clip(0, 255).astype(np.uint8)
    probability = np.pad(np.full((side, side), 0.6, np.float32), 60 - side // 2)
    probability[skin > 0] = 0.95
    assert abs(np.count_nonzero(refine_mask(image, probability)) - expected_count) < 40
