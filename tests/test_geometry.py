"""Letterbox, maps, warps and pyramid windows."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from mcc_caffe.geometry import apply, compose, invert, letterbox, pyramid_windows, resize, to_cells, translation, warp

sides = st.integers(1, 5000)


def test_letterbox_is_equation_1():
    assert letterbox(736, 368, 368)[0, 0] == 0.5           # width decides
    assert letterbox(100, 200, 368)[0, 0] == 368 / 200     # height decides
    assert np.allclose(apply(letterbox(736, 368, 368), [[10, 20]]), [[5, 10]])


def test_cells_share_their_pixels_centres():
    assert np.allclose(apply(to_cells(), [[3.5, 11.5]]), [[0, 1]])  # the middle of pixels 0..7 and 8..15


@given(sides, sides, st.floats(0, 5000), st.floats(0, 5000))
def test_letterbox_maps_back_exactly(width, height, x, y):
    there = letterbox(width, height, 368)
    assert np.allclose(apply(invert(there), apply(there, [[x, y]])), [[x, y]], atol=1e-6)


def test_compose_applies_from_first_to_last():
    one = compose(translation(1, 2), resize(2, 2))
    assert np.allclose(apply(one, [[0, 0]]), apply(resize(2, 2), [[1, 2]]))


@pytest.mark.parametrize("size", [(2000, 1500), (640, 480), (97, 31), (5, 400)])
def test_warp_keeps_a_smooth_picture_where_the_map_says(size):
    """A ramp has its own coordinates as values, so that each drawn pixel must tell where it came from."""
    width, height = size
    ramp = np.tile(np.arange(width, dtype=np.float32), (height, 1))
    there = letterbox(width, height, 128)
    drawn = warp(ramp, there, 128, -1)
    inside = 1 + np.ceil(1 / there[0, 0])
    ys, xs = np.mgrid[0:128, 0:128]
    source = apply(invert(there), np.stack([xs, ys], axis=-1))
    kept = ((source >= inside) & (source <= np.array([width, height]) - 1 - inside)).all(axis=-1)
    assert np.abs(drawn - source[..., 0])[kept].max(initial=0) < 0.5 / there[0, 0] ** 0.5 + 0.05


def test_warp_does_not_alias():
    """A fine checkerboard shrunk 8-fold is its mean, grey."""
    board = np.indices((800, 800)).sum(axis=0) % 2 * 255
    drawn = warp(board.astype(np.uint8), letterbox(800, 800, 100), 100, 0)
    assert np.abs(drawn[2:-2, 2:-2].astype(int) - 127).max() <= 2


@given(st.integers(1, 1500), st.integers(1, 1500), st.integers(0, 5))
def test_pyramid_windows_shrink_inside_one_another(width, height, seed):
    windows = pyramid_windows(width, height, np.random.default_rng(seed))
    assert windows[0].tolist() == [0, 0, width, height]
    for before, after in zip(windows, windows[1:]):
        assert (after[:2] >= before[:2]).all()
        assert (after[:2] + after[2:] <= before[:2] + before[2:]).all()
        assert 1 <= before[2] - after[2] <= max(0.1 * width, 1)
        assert after[2:].min() >= 50


def test_pyramid_goes_down_to_the_smallest_and_obeys_levels():
    windows = pyramid_windows(400, 300, np.random.default_rng(0))
    assert windows[-1][2:].min() < 50 + 0.1 * 400
    assert len(pyramid_windows(400, 300, np.random.default_rng(0), 3)) == 3
    assert len(pyramid_windows(400, 300, np.random.default_rng(0), 1)) == 1
    assert (pyramid_windows(400, 300, np.random.default_rng(7)) == pyramid_windows(400, 300, np.random.default_rng(7))).all()
