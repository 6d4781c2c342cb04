"""Encoding and decoding of keypoints."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.heatmaps import (
    decode_levels,
    decode_smoothed,
    encode,
    trivial_loss,
)
from mcc_caffe.paper import BACKGROUND_INDEX, BACKGROUND_MAX, MINI, PAPER, STRIDE
from tests.support.hands import keypoints_at


def test_gaussian_has_hand_computed_values():
    maps = encode(
        keypoints_at((3.5 + 8 * 10, 3.5 + 8 * 20)), 46, 1.5
    )  # the centre of cell (10, 20)
    assert maps.shape == (22, 46, 46) and maps.dtype == np.float32
    assert maps[0, 20, 10] == 1
    assert maps[0, 20, 11] == pytest.approx(np.exp(-1 / 4.5))
    assert maps[0, 22, 9] == pytest.approx(np.exp(-5 / 4.5))
    assert (maps[1:BACKGROUND_INDEX] == 0).all()  # missing joints
    assert np.allclose(maps[BACKGROUND_INDEX], 1 - maps[0])


def test_background_is_one_minus_the_sum():
    maps = encode(keypoints_at((100, 100), (104, 100)), 46, 1.5)
    assert np.allclose(maps[BACKGROUND_INDEX], 1 - maps[:BACKGROUND_INDEX].sum(axis=0), atol=1e-6)
    assert maps[BACKGROUND_INDEX].min() < 0  # two Gaussians overlap


def test_background_can_be_one_minus_the_maximum():
    keypoints = keypoints_at((100, 100), (104, 100))
    maps = encode(keypoints, 46, 1.5, BACKGROUND_MAX)
    assert (
        np.allclose(maps[BACKGROUND_INDEX], 1 - maps[:BACKGROUND_INDEX].max(axis=0))
        and maps[BACKGROUND_INDEX].min() >= 0
    )
    np.testing.assert_array_equal(
        maps[:BACKGROUND_INDEX], encode(keypoints, 46, 1.5)[:BACKGROUND_INDEX]
    )


def decode_input(maps):
    """The keypoints of one input, all of which the image fills."""
    side = maps.shape[-1] * STRIDE
    return decode_levels(maps[None], [(0, 0, side, side)]).keypoints


@pytest.mark.parametrize("variant", [PAPER, MINI])
@given(data=st.data())
def test_decode_finds_what_was_encoded_within_half_a_cell(variant, data):
    inside = st.floats(8, variant.input_size - 9)
    point = data.draw(inside), data.draw(inside)
    maps = encode(keypoints_at(point), variant.cells, variant.sigma)
    keypoint = decode_input(maps)[0]
    assert np.abs(keypoint[:2] - point).max() <= 4
    assert 0.8 < keypoint[2] < 1.1


def test_of_equal_maxima_the_first_counts_in_reading_order_and_by_levels():
    """A constant map is highest everywhere; 0.9 in a later level is below 1 in two earlier ones."""
    levels = np.ones((3, 22, 16, 16), np.float32)
    levels[2] *= 0.9
    keypoints, chosen = decode_levels(levels, [(24, 40, 8, 16), (0, 0, 128, 128), (0, 0, 128, 128)])
    assert (keypoints == [24, 40, 1]).all() and (chosen == 0).all()


def test_a_maximum_counts_only_in_the_part_that_holds_the_image():
    """Of three Gaussians the highest lies right of the part, and the next one below it."""
    maps = encode(keypoints_at((67.5, 27.5)), 16, 1.0)
    maps[0] *= 0.5
    maps[0] += encode(keypoints_at((107.5, 27.5)), 16, 1.0)[0]
    maps[0] += 0.8 * encode(keypoints_at((67.5, 91.5)), 16, 1.0)[0]
    part, everything = (40, 16, 48, 48), (0, 0, 128, 128)
    assert np.abs(decode_levels(maps[None], [part]).keypoints[0] - (67.5, 27.5, 0.5)).max() <= 0.5
    assert (
        np.abs(decode_levels(maps[None], [everything]).keypoints[0] - (107.5, 27.5, 1)).max() <= 0.5
    )


def test_peaks_between_cells_and_at_the_edge_are_not_cut_off():
    """A Gaussian between four cells is higher there than in any cell, by the overshoot.

    A peak that is higher in its cell, but not between the cells, must not win.
    """
    between = encode(keypoints_at((8 * 5 - 0.5, 8 * 5 - 0.5), (0, 0)), 16, 1.0)
    on_a_cell = 0.9 * encode(keypoints_at((8 * 12 + 3.5, 8 * 3 + 3.5), (127, 127)), 16, 1.0)
    keypoints, levels = decode_levels(np.stack([on_a_cell, between]), [(0, 0, 128, 128)] * 2)
    assert between[0].max() < 0.8  # exp(-1/4) = 0.78, against 0.9
    assert keypoints[0, 2] > 0.93 and levels[0] == 1
    assert (keypoints[1, :2] < 4).all() and levels[1] == 1


def test_smoothing_averages_each_cell_with_its_neighbours():
    """A cell of 1 beside one of 0.9 with high neighbours: smoothed, the second is higher."""
    maps = np.zeros((22, 16, 16), np.float32)
    maps[0, 4, 4] = 1  # smoothed: 4/6 x 4/6 = 0.44
    maps[0, 9:12, 9:12] = 0.6
    maps[0, 10, 10] = 0.9  # smoothed: 0.6 + 0.3 x 4/6 x 4/6 = 0.73
    assert decode_input(maps)[0].tolist()[:2] == [
        35,
        35,
    ]  # between 4 pixels of equal value the first
    x, y, confidence = decode_smoothed(maps, (0, 0, 128, 128))[0]
    assert (x, y) == (83, 83)
    pixels = cv2.resize(maps[0], (128, 128), interpolation=cv2.INTER_CUBIC)
    assert confidence == pytest.approx(pixels[83, 83], abs=1e-6)  # of the map that is not smoothed


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 24))
def test_smoothed_maps_are_those_of_numpy(seed, cells):
    maps = np.random.default_rng(seed).normal(0, 1, (22, cells, cells)).astype(np.float32)
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :-2] + 4 * padded[:, 1:-1] + padded[:, 2:]) / 6
    smoothed = (rows[..., :-2] + 4 * rows[..., 1:-1] + rows[..., 2:]) / 6
    side = 8 * cells
    decoded = decode_smoothed(maps, (2, 4, side - 3, side - 5))
    for keypoint, channel, raw in zip(decoded, smoothed, maps):
        x, y = keypoint[:2].astype(int)
        assert 2 <= x < side - 1 and 4 <= y < side - 1
        pixels = cv2.resize(channel, (side, side), interpolation=cv2.INTER_CUBIC)
        assert pixels[y, x] >= pixels[4 : side - 1, 2 : side - 1].max() - 1e-5
        pixels = cv2.resize(raw, (side, side), interpolation=cv2.INTER_CUBIC)
        assert keypoint[2] == pytest.approx(pixels[y, x], abs=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_heatmaps_that_are_not_finite_are_explained(value):
    maps = encode(keypoints_at((50, 50)), 16, 1.0)
    maps[3, 2, 1] = value
    for find in (decode_input, lambda maps: decode_smoothed(maps, (0, 0, 128, 128))):
        with pytest.raises(UserError, match="heatmaps are not finite: the weights hold NaN"):
            find(maps)


def test_trivial_loss_is_caffes_euclidean_loss_of_the_trivial_answer():
    maps = np.stack(
        [encode(keypoints_at((100, 100), (200, 150)), 46, 1.5), encode(keypoints_at(), 46, 1.5)]
    )
    answer = np.zeros_like(maps)
    answer[:, BACKGROUND_INDEX] = 1
    assert trivial_loss(maps) == pytest.approx(((maps - answer) ** 2).sum() / 4, rel=1e-5)
