"""Encoding and decoding of keypoints."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from mcc_caffe.heatmaps import decode, encode, trivial_loss
from mcc_caffe.paper import BACKGROUND, BACKGROUND_MAX, MINI, PAPER


def keypoints_at(*points):
    """21 keypoints, the first ones at `points`, the rest missing."""
    keypoints = np.tile([-1.0, -1.0, 0.0], (21, 1))
    for k, (x, y) in enumerate(points):
        keypoints[k] = x, y, 1
    return keypoints


def test_gaussian_has_hand_computed_values():
    maps = encode(keypoints_at((3.5 + 8 * 10, 3.5 + 8 * 20)), 46, 1.5)  # the centre of cell (10, 20)
    assert maps.shape == (22, 46, 46) and maps.dtype == np.float32
    assert maps[0, 20, 10] == 1
    assert maps[0, 20, 11] == pytest.approx(np.exp(-1 / 4.5))
    assert maps[0, 22, 9] == pytest.approx(np.exp(-5 / 4.5))
    assert (maps[1:BACKGROUND] == 0).all()          # missing joints
    assert np.allclose(maps[BACKGROUND], 1 - maps[0])


def test_background_is_one_minus_the_sum():
    maps = encode(keypoints_at((100, 100), (104, 100)), 46, 1.5)
    assert np.allclose(maps[BACKGROUND], 1 - maps[:BACKGROUND].sum(axis=0), atol=1e-6)
    assert maps[BACKGROUND].min() < 0               # two Gaussians overlap


def test_background_can_be_one_minus_the_maximum():
    keypoints = keypoints_at((100, 100), (104, 100))
    maps = encode(keypoints, 46, 1.5, BACKGROUND_MAX)
    assert np.allclose(maps[BACKGROUND], 1 - maps[:BACKGROUND].max(axis=0)) and maps[BACKGROUND].min() >= 0
    np.testing.assert_array_equal(maps[:BACKGROUND], encode(keypoints, 46, 1.5)[:BACKGROUND])


@pytest.mark.parametrize("variant", [PAPER, MINI])
@given(data=st.data())
def test_decode_finds_what_was_encoded_within_half_a_cell(variant, data):
    inside = st.floats(8, variant.input_size - 9)
    point = data.draw(inside), data.draw(inside)
    found = decode(encode(keypoints_at(point), variant.cells, variant.sigma))[0]
    assert np.abs(found[:2] - point).max() <= 4
    assert 0.8 < found[2] < 1.1


def test_trivial_loss_is_caffes_euclidean_loss_of_the_trivial_answer():
    maps = np.stack([encode(keypoints_at((100, 100), (200, 150)), 46, 1.5), encode(keypoints_at(), 46, 1.5)])
    answer = np.zeros_like(maps)
    answer[:, BACKGROUND] = 1
    assert trivial_loss(maps) == pytest.approx(((maps - answer) ** 2).sum() / 4, rel=1e-5)
