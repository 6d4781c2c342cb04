"""The refinement of the network's coarse mask along the edges of the image."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mcc_caffe.serving import mask_refinement
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


def test_pixels_of_which_the_net_is_sure_stay_and_others_follow_the_colours():
    rng = np.random.default_rng(0)
    skin = np.zeros((100, 100), np.uint8)
    skin[20:70, 20:64] = 1
    colours = np.where(skin[..., None], (120, 160, 220), (90, 110, 60))
    image = (colours + rng.normal(0, 6, colours.shape)).clip(0, 255).astype(np.uint8)
    probability = np.full((100, 100), 0.05, np.float32)
    probability[25:70, 20:58] = 0.95
    patches = {  # rows, columns, probability, and what becomes of them
        "skin that is rather background": ((25, 70), (58, 64), 0.3, 1),
        "ground that is rather hand": ((70, 75), (20, 58), 0.6, 0),
        "ground that is surely hand": ((30, 45), (10, 20), 0.95, 1),
        "skin that is surely background": ((20, 25), (20, 64), 0.05, 0),
    }
    for rows, columns, value, _ in patches.values():
        probability[slice(*rows), slice(*columns)] = value
    refined = refine_mask(image, probability)
    for name, (rows, columns, _, expected) in patches.items():
        assert (refined[slice(*rows), slice(*columns)] == expected).all(), name


def refine_by_threshold(monkeypatch, mask=None):
    """Let the search answer a mask, or the net's own; return a list that gets its sizes."""
    sizes = []

    def refine(image, probability, **_):
        assert image.shape[:2] == probability.shape
        sizes.append(probability.shape)
        return (probability > 0.5).astype(np.uint8) if mask is None else mask

    monkeypatch.setattr(mask_refinement, "refine_by_colours", refine)
    return sizes


@pytest.mark.parametrize(
    ("size", "rows", "columns", "searched"),
    [
        ((100, 100), (3, 13), (30, 50), (17, 28)),  # a margin of 0.15 x 20 pixels and one more
        ((100, 100), (30, 50), (90, 98), (28, 14)),
        ((800, 1200), (100, 500), (200, 1000), (423, 709)),  # of 621 x 1042: 0.3 million pixels
        ((1, 1_300_000), (0, 1), (0, 1_300_000), (1, 624_500)),
    ],
)
def test_the_part_around_the_hand_is_searched_in_at_most_300_000_pixels(
    monkeypatch, size, rows, columns, searched
):
    sizes = refine_by_threshold(monkeypatch)
    probability = np.zeros(size, np.float32)
    probability[slice(*rows), slice(*columns)] = 1
    refined = refine_mask(np.zeros((*size, 3), np.uint8), probability)
    assert sizes == [searched]
    assert np.count_nonzero(refined != probability) <= 0.004 * np.count_nonzero(refined)


def test_small_regions_are_removed_and_small_holes_are_filled(monkeypatch):
    """Of about 2,600 pixels of the hand, a region has at least 51, and a hole 12.7."""
    hand = np.zeros((100, 100), np.float32)
    hand[25:75, 25:75] = 1
    expected = hand.copy()
    expected[40:44, 40:44] = 0  # 16 pixels
    expected[16:24, 30:38] = 1  # 64
    answer = expected.copy()
    answer[50:52, 50:56] = 0  # 12
    answer[75:82, 75:82] = 1  # 49, which touch the hand by a corner
    refine_by_threshold(monkeypatch, answer[16:84, 16:84].astype(np.uint8))
    refined = refine_mask(np.zeros((100, 100, 3), np.uint8), hand)
    assert np.array_equal(refined, expected)


def test_a_refined_mask_that_has_run_away_is_dropped(monkeypatch):
    """All 54 x 54 pixels that are searched are more than 40 x 40 of the net's are 0.6 of."""
    refine_by_threshold(monkeypatch, np.ones((54, 54), np.uint8))
    probability = np.zeros((100, 100), np.float32)
    probability[30:70, 30:70] = 1
    assert np.array_equal(refine_mask(np.zeros((100, 100, 3), np.uint8), probability), probability)
