"""Letterbox, maps, warps and pyramid windows."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcc_caffe.core.geometry import (
    apply,
    apply_to_boxes,
    choose_reduction,
    compose,
    cut_to_square,
    invert,
    letterbox_affine,
    lie_inside,
    mirror_affine,
    pyramid_windows,
    resize_affine,
    rotation,
    rotation_about_centre,
    shrink_factor,
    to_cells,
    translation,
    warp,
)

sides = st.integers(1, 5000)


def test_an_image_ends_at_the_edges_of_its_outer_pixels():
    points = [(-0.51, 0), (-0.5, -0.5), (3.49, 1.49), (3.5, 0), (0, 1.5), (np.nan, 0)]
    is_inside = lie_inside(np.array(points), width=4, height=2)
    assert is_inside.tolist() == [False, True, True, False, False, False]


def test_letterbox_is_equation_1():
    assert letterbox_affine(736, 368, 368)[0, 0] == 0.5  # width decides
    assert letterbox_affine(100, 200, 368)[0, 0] == 368 / 200  # height decides
    assert np.allclose(apply(letterbox_affine(736, 368, 368), [[10, 20]]), [[5, 10]])


def test_cells_share_their_pixels_centres():
    assert np.allclose(
        apply(to_cells(), [[3.5, 11.5]]), [[0, 1]]
    )  # the middle of pixels 0..7 and 8..15


@given(sides, sides, st.floats(0, 5000), st.floats(0, 5000))
def test_letterbox_maps_back_exactly(width, height, x, y):
    image_to_input = letterbox_affine(width, height, 368)
    assert np.allclose(
        apply(invert(image_to_input), apply(image_to_input, [[x, y]])), [[x, y]], atol=1e-6
    )


def test_compose_applies_from_first_to_last():
    moved_then_scaled = compose(translation(1, 2), resize_affine(2, 2))
    assert np.allclose(apply(moved_then_scaled, [[0, 0]]), apply(resize_affine(2, 2), [[1, 2]]))


@pytest.mark.parametrize("size", [(2000, 1500), (640, 480), (97, 31), (5, 400)])
def test_warp_keeps_a_smooth_image_where_the_map_says(size):
    """A ramp's values are its coordinates, so that each drawn pixel tells where it came from."""
    width, height = size
    ramp = np.tile(np.arange(width, dtype=np.float32), (height, 1))
    image_to_input = letterbox_affine(width, height, 128)
    drawn = warp(ramp, image_to_input, 128, -1)
    margin = 1 + np.ceil(1 / image_to_input[0, 0])
    ys, xs = np.mgrid[0:128, 0:128]
    source = apply(invert(image_to_input), np.stack([xs, ys], axis=-1))
    inside = ((source >= margin) & (source <= np.array([width, height]) - 1 - margin)).all(axis=-1)
    errors = np.abs(drawn - source[..., 0])[inside]
    assert errors.max(initial=0) < 0.5 / image_to_input[0, 0] ** 0.5 + 0.05


def test_warp_does_not_alias():
    """A fine checkerboard shrunk 8-fold is its mean, grey."""
    board = np.indices((800, 800)).sum(axis=0) % 2 * 255
    drawn = warp(board.astype(np.uint8), letterbox_affine(800, 800, 100), 100, 0)
    assert np.abs(drawn[2:-2, 2:-2].astype(int) - 127).max() <= 2


def test_boxes_keep_their_left_on_the_left_where_they_are_mirrored():
    boxes = np.array([[1, 2, 4, 8], [0, 0, 9, 3]])
    moved = apply_to_boxes(compose(resize_affine(2, 2), mirror_affine(20)), boxes)
    assert moved.tolist() == [[10.5, 4.5, 16.5, 16.5], [0.5, 0.5, 18.5, 6.5]]


@pytest.mark.parametrize(
    "shrink, expected", [(0.5, 1), (1.9, 1), (2, 2), (3.9, 2), (4, 4), (7.9, 4), (8, 8), (30, 8)]
)
def test_an_image_is_reduced_no_further_than_the_map_shrinks(shrink, expected):
    turn = np.array([[0.8, 0.6, 5], [-0.6, 0.8, 7]])
    affine = compose(turn, resize_affine(1 / shrink - 1e-9, 1 / shrink - 1e-9))
    assert choose_reduction(affine) == expected


@pytest.mark.parametrize("size", [(2000, 1500), (1999, 1501), (1205, 1203)])
@pytest.mark.parametrize("reduced", [2, 4, 8])
def test_warp_of_a_reduced_image_moves_nothing(size, reduced):
    """An image of its own coordinates, and its means of reduced x reduced pixels.

    The last means run over the image's end.
    """
    ramp = np.stack(np.meshgrid(*map(np.arange, size)), axis=-1).astype(np.float32)
    overhang = [-side % reduced for side in size]
    means = cv2.copyMakeBorder(ramp, 0, overhang[1], 0, overhang[0], cv2.BORDER_REPLICATE)
    means = means.reshape(
        means.shape[0] // reduced, reduced, means.shape[1] // reduced, reduced, 2
    ).mean(axis=(1, 3))
    for shrink in (1, 1.1, 1.5, 1.9):
        factor = 1 / (shrink * reduced) - 1e-9
        image_to_input = compose(
            resize_affine(factor, factor), np.array([[0.8, 0.6, -20], [-0.6, 0.8, 40]])
        )
        of_full_size = warp(ramp, image_to_input, 128, -1)
        of_means = warp(means, image_to_input, 128, -1, reduction=reduced)
        cells = np.stack(np.meshgrid(np.arange(128), np.arange(128)), axis=-1)
        source, margin = apply(invert(image_to_input), cells), 3 * reduced * shrink
        inside = ((source > margin) & (source < np.array(size) - margin)).all(axis=-1)
        assert inside.mean() > 0.1
        errors = np.abs(of_full_size - of_means)[inside]
        assert errors.max() < 0.1 * reduced * shrink  # 0.1 pixels of the input


@pytest.fixture(scope="module")
def wide_image():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8000, 3), np.uint8)
    return cv2.resize(pixels, (80_000, 120))


@pytest.mark.parametrize("is_tall", [False, True])
@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("scale", [0.41, 0.6, 1.7])
@pytest.mark.parametrize("position", [0, 20_000, 32_768, 80_000, 85_000])
def test_warp_draws_a_part_of_an_image_of_80000_pixels(
    wide_image, position, scale, nearest, is_tall
):
    """A turned square around a position: as of the 4,000 pixels around that position alone."""
    image = wide_image
    turn = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0]]) * scale
    to_square = compose(translation(-position, -60), turn, translation(20, 20))
    left = int(np.clip(position - 2000, 0, 76_000))
    part, part_to_square = image[:, left : left + 4000], compose(translation(left, 0), to_square)
    expected = warp(part, part_to_square, 40, 7, nearest=nearest)
    if is_tall:
        image = np.ascontiguousarray(image.swapaxes(0, 1))
        to_square = compose(np.array([[0, 1.0, 0], [1.0, 0, 0]]), to_square)
    assert (warp(image, to_square, 40, 7, nearest=nearest) == expected).all()


def test_an_image_is_cut_to_what_a_square_shows_and_a_margin():
    """A square of 10 pixels at (30, 20): two steps are left before it, and three after it."""
    image = np.arange(6000).reshape(60, 100)
    to_square = translation(-30, -20)
    part, part_to_square = cut_to_square(image, to_square, 10)
    np.testing.assert_array_equal(part, image[18:32, 28:42])
    np.testing.assert_array_equal(part_to_square, translation(-2, -2))
    part, part_to_square = cut_to_square(image, to_square, 10, 4)
    np.testing.assert_array_equal(part, image[12:44, 20:52])
    np.testing.assert_array_equal(part_to_square, translation(-10, -8))


@pytest.mark.parametrize("shrink", [0.7, 1.3, 2.5, 3.2, 4, 5.9])
@pytest.mark.parametrize("degrees", [0, 90, 17, -140])
def test_a_part_is_warped_as_all_of_the_image(shrink, degrees):
    """Squares inside, at the edges and outside of an image whose sides 1 to 5 divide."""
    width, height = 420, 360
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    for x, y in [(200, 180), (0, 0), (420, 200), (30, 355), (-2000, 100), (3000, 3000)]:
        to_square = compose(
            translation(-x, -y),
            rotation(degrees),
            resize_affine(1 / shrink, 1 / shrink),
            translation(20.3, 19.9),
        )
        part, part_to_square = cut_to_square(image, to_square, 40, max(int(shrink), 1))
        assert part.size and max(part.shape) <= 1.5 * 40 * shrink + 6 * shrink
        expected = warp(image, to_square, 40, 7)
        np.testing.assert_array_equal(warp(part, part_to_square, 40, 7), expected)


@pytest.mark.parametrize("nearest", [False, True])
def test_warp_shrinks_an_image_of_80000_pixels(nearest):
    """Its values are its columns, and pixel k of 1,600 shows column 50 k."""
    image = np.tile(np.arange(80_000, dtype=np.float32), (400, 1))
    drawn = warp(image, letterbox_affine(80_000, 400, 1600), 1600, -1, nearest=nearest)
    errors = np.abs(drawn[1:7, 1:-1] - 50 * np.arange(1, 1599))
    assert errors.max() <= (0 if nearest else 50 / 32)  # cv2 interpolates in 32 steps
    assert (drawn[9:] == -1).all()


@pytest.mark.parametrize(
    "size, count", [((224, 224), 16), ((640, 480), 19), ((1280, 960), 20), ((4000, 3000), 20)]
)
def test_the_documented_numbers_of_levels_are_the_pyramids(size, count):
    """docs/results.md, docs/inference.md and docs/differences.md name those of the default seed."""
    assert len(pyramid_windows(*size, np.random.default_rng(0))) == count


@given(st.integers(1, 1500), st.integers(1, 1500), st.integers(0, 5))
def test_pyramid_windows_shrink_inside_one_another(width, height, seed):
    windows = pyramid_windows(width, height, np.random.default_rng(seed))
    assert windows[0].tolist() == [0, 0, width, height]
    for before, after in zip(windows, windows[1:]):
        assert (after[:2] >= before[:2]).all()
        assert (after[:2] + after[2:] <= before[:2] + before[2:]).all()
        assert 1 <= before[2] - after[2] <= max(0.1 * width, 1)
        assert after[2:].min() >= 50


def test_a_pyramid_may_end_with_a_window_of_exactly_the_smallest_side():
    sides = [pyramid_windows(60, 60, np.random.default_rng(seed))[-1, 2] for seed in range(200)]
    assert min(sides) == 50


def test_pyramid_goes_down_to_the_smallest_and_obeys_levels():
    windows = pyramid_windows(400, 300, np.random.default_rng(0))
    assert windows[-1][2:].min() < 50 + 0.1 * 400
    assert len(pyramid_windows(400, 300, np.random.default_rng(0), 3)) == 3
    assert len(pyramid_windows(400, 300, np.random.default_rng(0), 1)) == 1
    assert (
        pyramid_windows(400, 300, np.random.default_rng(7))
        == pyramid_windows(400, 300, np.random.default_rng(7))
    ).all()


@pytest.mark.parametrize("degrees", [0, 17, 90, 123, -171])
@pytest.mark.parametrize("factor", [0.5, 1, 3, 6, 7])
def test_a_turned_map_shrinks_by_exactly_its_factor(degrees, factor):
    turned = compose(rotation(degrees), resize_affine(1 / factor, 1 / factor))
    assert shrink_factor(turned) == factor


@pytest.mark.parametrize(
    ("degrees", "expected"), [(90, (1.5, 6.5)), (180, (8, 5)), (-90, (6.5, -1.5))]
)
def test_an_image_is_turned_about_its_centre(degrees, expected):
    """Of 9 x 6 pixels the centre is (4, 2.5), and the left top pixel is 4 left of and 2.5 above it.

    A quarter turn counter-clockwise takes it 2.5 left of and 4 below the centre.
    """
    moved = apply(rotation_about_centre(degrees, (9, 6)), (0, 0))
    np.testing.assert_allclose(moved, expected, atol=1e-12)


def test_the_box_around_a_turned_box_has_hand_computed_values():
    """A turn by 45 degrees makes a square of 4 one that is 4 sqrt(2) across, about (3, 2)."""
    square = np.array([[1.0, 0, 5, 4]])
    turned = compose(translation(-3, -2), rotation(45), translation(3, 2))
    half = 2 * np.sqrt(2)
    expected = [[3 - half, 2 - half, 3 + half, 2 + half]]
    np.testing.assert_allclose(apply_to_boxes(turned, square), expected)
