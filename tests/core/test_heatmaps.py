"""Encoding and decoding of keypoints."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcc_caffe.core.heatmaps import decode, encode, surest, trivial_loss
from mcc_caffe.paper import BACKGROUND, BACKGROUND_MAX, MINI, PAPER
from tests.support.heatmaps import naively


def keypoints_at(*points):
    """21 keypoints, the first ones at `points`, the rest missing."""
    keypoints = np.tile([-1.0, -1.0, 0.0], (21, 1))
    for k, (x, y) in enumerate(points):
        keypoints[k] = x, y, 1
    return keypoints


def test_gaussian_has_hand_computed_values():
    maps = encode(
        keypoints_at((3.5 + 8 * 10, 3.5 + 8 * 20)), 46, 1.5
    )  # the centre of cell (10, 20)
    assert maps.shape == (22, 46, 46) and maps.dtype == np.float32
    assert maps[0, 20, 10] == 1
    assert maps[0, 20, 11] == pytest.approx(np.exp(-1 / 4.5))
    assert maps[0, 22, 9] == pytest.approx(np.exp(-5 / 4.5))
    assert (maps[1:BACKGROUND] == 0).all()  # missing joints
    assert np.allclose(maps[BACKGROUND], 1 - maps[0])


def test_background_is_one_minus_the_sum():
    maps = encode(keypoints_at((100, 100), (104, 100)), 46, 1.5)
    assert np.allclose(maps[BACKGROUND], 1 - maps[:BACKGROUND].sum(axis=0), atol=1e-6)
    assert maps[BACKGROUND].min() < 0  # two Gaussians overlap


def test_background_can_be_one_minus_the_maximum():
    keypoints = keypoints_at((100, 100), (104, 100))
    maps = encode(keypoints, 46, 1.5, BACKGROUND_MAX)
    assert (
        np.allclose(maps[BACKGROUND], 1 - maps[:BACKGROUND].max(axis=0))
        and maps[BACKGROUND].min() >= 0
    )
    np.testing.assert_array_equal(maps[:BACKGROUND], encode(keypoints, 46, 1.5)[:BACKGROUND])


@pytest.mark.parametrize("variant", [PAPER, MINI])
@given(data=st.data())
def test_decode_finds_what_was_encoded_within_half_a_cell(variant, data):
    inside = st.floats(8, variant.input_size - 9)
    point = data.draw(inside), data.draw(inside)
    found = decode(encode(keypoints_at(point), variant.cells, variant.sigma))[0]
    assert np.abs(found[:2] - point).max() <= 4
    assert 0.8 < found[2] < 1.1


@pytest.mark.parametrize("cells", [2, 3, 16, 46])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_surest_place_is_that_of_up_sampling_everything(cells, data):
    """To the last bit, whether the maps are rough or smooth, negative, of few values or constant, and for any part with a picture."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    levels = rng.normal(0, 1, (data.draw(st.integers(1, 4)), 22, cells, cells)).astype(np.float32)
    sigma = data.draw(st.sampled_from([0, 0.7, 1.5, 4]))
    if sigma:
        levels = np.stack(
            [[cv2.GaussianBlur(one, (0, 0), sigma) for one in maps] for maps in levels]
        )
    kind = data.draw(st.sampled_from(["plain", "plain", "negative", "few values", "constant"]))
    if kind == "negative":
        levels = -1 - np.abs(levels)
    elif kind == "few values":
        levels = np.round(2 * levels / np.abs(levels).max())
    elif kind == "constant":
        levels[:] = levels[0, 0, 0, 0]
    side = st.integers(1, 8 * cells)
    contents = [
        data.draw(st.one_of(st.just((8 * cells, 8 * cells)), st.tuples(side, side))) for _ in levels
    ]
    keypoints, chosen = surest(levels, contents)
    expected, level = naively(levels, contents)
    np.testing.assert_array_equal(chosen, level)
    np.testing.assert_array_equal(keypoints, expected)


def test_peaks_between_cells_and_at_the_edge_are_not_cut_off():
    """A Gaussian between four cells is higher there than in any cell, by the overshoot; a lower cell elsewhere must not win."""
    maps = encode(keypoints_at((8 * 5 - 0.5, 8 * 5 - 0.5), (0, 0)), 16, 1.0)
    other = 0.9 * encode(keypoints_at((8 * 12 + 3.5, 8 * 3 + 3.5), (127, 127)), 16, 1.0)
    found = surest(np.stack([other, maps]), [(128, 128)] * 2)
    assert (
        maps[0].max() < 0.8 and found[0][0, 2] > 0.93 and found[1][0] == 1
    )  # cells: exp(-1/4) = 0.78 against 0.9
    assert (found[0][1, :2] < 4).all() and found[1][1] == 1


def test_trivial_loss_is_caffes_euclidean_loss_of_the_trivial_answer():
    maps = np.stack(
        [encode(keypoints_at((100, 100), (200, 150)), 46, 1.5), encode(keypoints_at(), 46, 1.5)]
    )
    answer = np.zeros_like(maps)
    answer[:, BACKGROUND] = 1
    assert trivial_loss(maps) == pytest.approx(((maps - answer) ** 2).sum() / 4, rel=1e-5)
