"""The one warp of image, mask and keypoints."""

import cv2
import numpy as np
import pytest

from mcc_caffe.core.geometry import apply, letterbox_affine, translation, warp
from mcc_caffe.data.augmentation import (
    COLOURS,
    COVER_SIDE_RANGE,
    NOISE_RANGE,
    STRETCH_RANGE,
    STRONG_COLOURS,
    TURN_RANGE,
    Augmentation,
    ColourChange,
    Stretch,
    Window,
    add_noise,
    cover_parts,
    draw_window,
    network_input,
    warp_keypoints,
    warp_mask,
)
from mcc_caffe.paper import GREY, ROTATION_RANGE, SCALE_RANGE
from tests.support.hands import keypoints_at

IDENTITY = np.array([[1.0, 0, 0], [0, 1.0, 0]])


def test_the_default_is_the_letterbox():
    assert np.allclose(
        Augmentation().image_to_input(640, 480, 368), letterbox_affine(640, 480, 368)
    )


def test_flip_mirrors_the_input():
    plain, flipped = Augmentation(), Augmentation(flip=True)
    x, y = apply(plain.image_to_input(640, 480, 368), [100, 50])
    assert np.allclose(apply(flipped.image_to_input(640, 480, 368), [100, 50]), [367 - x, y])


def test_rotation_turns_about_the_centre():
    quarter = Augmentation(rotation=90).image_to_input(368, 368, 368)
    assert np.allclose(apply(quarter, [183.5, 183.5]), [183.5, 183.5])
    assert np.allclose(
        apply(quarter, [367, 183.5]), [183.5, 0]
    )  # the right edge goes up: counter-clockwise


@pytest.mark.parametrize(
    "crop, corner", [((0, 0), (0, 0)), ((1, 1), (-73.6, -73.6)), ((0, 1), (0, -73.6))]
)
def test_crop_moves_a_larger_frame_over_its_whole_range(crop, corner):
    assert np.allclose(
        apply(Augmentation(scale=1.2, crop=crop).image_to_input(368, 368, 368), [0, 0]),
        corner,
        atol=1e-9,
    )


def test_a_smaller_frame_stays_inside():
    rng = np.random.default_rng(0)
    for _ in range(100):
        image_to_input = Augmentation(scale=0.7, crop=tuple(rng.uniform(size=2))).image_to_input(
            368, 368, 368
        )
        corners = apply(image_to_input, [[0, 0], [367, 367]])
        assert (corners >= -1e-9).all() and (corners <= 367).all()


def test_draws_stay_in_the_papers_ranges_and_fill_them():
    rng = np.random.default_rng(0)
    drawn = [Augmentation.draw(rng) for _ in range(2000)]
    for values, (low, high) in (
        ([d.scale for d in drawn], SCALE_RANGE),
        ([d.rotation for d in drawn], ROTATION_RANGE),
    ):
        assert (
            low <= min(values) < low + 0.05 * (high - low)
            and high - 0.05 * (high - low) < max(values) <= high
        )
    assert 0.45 < np.mean([d.flip for d in drawn]) < 0.55


@pytest.mark.parametrize("size", [(640, 480), (300, 900), (2000, 1500), (150, 150)])
def test_dots_are_found_again_at_the_warped_keypoints(size):
    """A black dot on white at each keypoint is where the keypoint says, after any augmentation."""
    width, height = size
    rng = np.random.default_rng(1)
    radius = max(4, min(size) // 50)
    for _ in range(20):
        image = np.full((height, width, 3), 255, np.uint8)
        grid = np.array([(x, y) for y in (0.2, 0.5, 0.8) for x in np.linspace(0.1, 0.9, 7)])
        keypoints = np.column_stack([np.round(grid * (width - 1, height - 1)), np.ones(21)])
        for x, y, _ in keypoints.astype(int).tolist():
            cv2.circle(image, (x, y), radius, (0, 0, 0), -1)
        image_to_input = Augmentation.draw(rng).image_to_input(width, height, 368)
        drawn = warp(image, image_to_input, 368, GREY)[..., 0].astype(float)
        moved = warp_keypoints(keypoints, image_to_input, 368)
        reach = radius * np.sqrt(abs(np.linalg.det(image_to_input[:, :2])))
        for x, y, v in moved:
            if v and 3 * reach < min(x, y) and max(x, y) < 367 - 3 * reach:
                left, top = (int(round(c - 1.5 * reach)) for c in (x, y))
                side = int(3 * reach) + 2
                patch = np.clip(
                    128 - drawn[top : top + side, left : left + side], 0, None
                )  # darker than the grey fill
                ys, xs = np.mgrid[0 : patch.shape[0], 0 : patch.shape[1]]
                centre = np.array([(xs * patch).sum(), (ys * patch).sum()]) / patch.sum() + (
                    left,
                    top,
                )
                assert np.abs(centre - (x, y)).max() < 0.6


def test_joints_outside_become_missing():
    keypoints = np.tile([10.0, 10.0, 1.0], (21, 1))
    keypoints[1] = 500, 10, 1
    keypoints[2] = -1, -1, 0
    moved = warp_keypoints(keypoints, Augmentation().image_to_input(368, 368, 368), 368)
    assert moved[0].tolist() == [10, 10, 1]
    assert moved[1].tolist() == moved[2].tolist() == [-1, -1, 0]


def test_a_missing_keypoint_stays_missing_where_the_map_moves_it_inside():
    keypoints = np.tile([-1.0, -1.0, 0.0], (21, 1))
    assert (warp_keypoints(keypoints, translation(20, 20), 368) == keypoints).all()


def test_what_the_image_does_not_cover_is_grey_and_no_hand():
    image_to_input = Augmentation().image_to_input(200, 100, 128)
    drawn = network_input(np.zeros((100, 200, 3), np.uint8), image_to_input, 128)
    assert (drawn[:, 80:] == 0).all() and (drawn[:, :60] == -0.5).all()
    mask = warp_mask(np.ones((100, 200), np.uint8), image_to_input, 16)
    assert mask[:8].all() and not mask[8:].any()


def test_mask_label_samples_the_mask_at_the_cells_centres():
    mask = np.zeros((368, 368), np.uint8)
    mask[:, 100:] = 1
    label = warp_mask(mask, Augmentation().image_to_input(368, 368, 368), 46)
    assert label.shape == (46, 46) and set(np.unique(label)) == {0, 1}
    assert (
        not label[:, :12].any() and label[:, 13:].all()
    )  # cell 12 covers 96..103, its centre is 99.5


def test_a_window_fills_the_input():
    """Hand-computed: 50 px of the image become 100 of the input, so pixel x is at 2 (x - left)."""
    image_to_input = Augmentation(window=Window(30.0, 20.0, 50.0)).image_to_input(200, 120, 100)
    np.testing.assert_allclose(image_to_input, [[2, 0, -60], [0, 2, -40]], atol=1e-12)
    np.testing.assert_allclose(apply(image_to_input, [[30, 20], [80, 70]]), [[0, 0], [100, 100]])


def test_a_window_is_turned_about_its_centre_and_mirrored():
    """A quarter turn of a 100 px window into 100 px: (x, y) goes to (y', 99 - x'), then mirrors."""
    window = Window(30.0, 20.0, 100.0)
    turned = Augmentation(window=window, rotation=90).image_to_input(500, 500, 100)
    np.testing.assert_allclose(apply(turned, [40, 25]), [5, 99 - 10], atol=1e-9)
    mirrored = Augmentation(window=window, rotation=90, flip=True).image_to_input(500, 500, 100)
    np.testing.assert_allclose(apply(mirrored, [40, 25]), [99 - 5, 99 - 10], atol=1e-9)


class FixedDraws:
    """Stands for a random generator whose uniform draws are given."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def uniform(self, low=0.0, high=1.0, size=None):
        draw = self.draws.pop(0)
        return low + (high - low) * np.asarray(draw, float)


def test_a_window_has_hand_computed_values():
    """The keypoints' box is 40 x 20 about (60, 50)."""
    keypoints = keypoints_at((40, 40), (80, 60), (50, 45))
    centred = draw_window(FixedDraws(0, (0.5, 0.5)), keypoints, 2.0, 4.0)
    np.testing.assert_allclose(centred, (60 - 40, 50 - 40, 80, 0))  # side 2 x 40
    # Half-way on a logarithmic scale between 2 and 4 is sqrt(8); the largest shift to the right is
    # 0.8 of the margins, (113.14 - 40) / 2 and (113.14 - 20) / 2.
    side = np.sqrt(8) * 40
    shifted = draw_window(FixedDraws(0.5, (1, 1)), keypoints, 2.0, 4.0)
    expected = (60 - side / 2 + 0.4 * (side - 40), 50 - side / 2 + 0.4 * (side - 20), side, 0)
    np.testing.assert_allclose(shifted, expected)


def test_a_window_of_a_turned_image_has_hand_computed_values():
    """A hand that points right, from (40, 50) to (80, 50), points up after a quarter turn.

    The turn about (0, 0) takes (x, y) to (y, -x), so the box goes from (50, -80) to (50, -40).
    """
    keypoints = keypoints_at((40, 50), (80, 50))
    window = draw_window(FixedDraws(0, (0.5, 0.5)), keypoints, 2.0, 2.0, 90.0)
    np.testing.assert_allclose(window, (50 - 40, -60 - 40, 80, 90))
    image_to_input = Augmentation(window=window).image_to_input(200, 120, 160)
    np.testing.assert_allclose(
        apply(image_to_input, keypoints[:2, :2]), [[80, 120], [80, 40]], atol=1e-9
    )


def test_windows_hold_the_keypoints_and_fill_the_range():
    rng = np.random.default_rng(0)
    keypoints = keypoints_at((40, 40), (80, 60), (50, 45))
    windows = np.array([draw_window(rng, keypoints, 1.1, 2.5) for _ in range(1000)])
    x, y, side, _ = windows.T
    assert (x <= 40).all() and (x + side >= 80).all()
    assert (y <= 40).all() and (y + side >= 60).all()
    factor = side / 40
    assert 1.1 <= factor.min() < 1.11 and 2.47 < factor.max() <= 2.5
    assert abs(np.median(factor) - np.sqrt(1.1 * 2.5)) < 0.05


@pytest.mark.parametrize("points", [(), [(40, 40)]])
def test_fewer_than_two_keypoints_have_no_window(points):
    assert draw_window(np.random.default_rng(0), keypoints_at(*points), 1.1, 2.5) is None


def test_two_keypoints_in_one_pixel_have_a_window():
    window = draw_window(FixedDraws(0, (0.5, 0.5)), keypoints_at((5, 5), (5, 5)), 2.0, 2.0)
    np.testing.assert_allclose(window, (4, 4, 2, 0))  # the box counts as 1 px


def test_pixels_keypoints_and_mask_land_together_in_a_window():
    """A white square of 24 px with a keypoint at its centre, which is also the mask."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        image, mask = np.zeros((300, 400, 3), np.uint8), np.zeros((300, 400), np.uint8)
        image[138:163, 188:213], mask[138:163, 188:213] = 255, 1
        keypoints = keypoints_at((200, 150), (160, 120), (230, 190))
        drawn = Augmentation.draw(rng)
        window = draw_window(rng, keypoints, 1.1, 2.5)
        image_to_input = Augmentation(
            1.0, drawn.rotation, drawn.crop, drawn.flip, window
        ).image_to_input(400, 300, 128)
        x, y, present = warp_keypoints(keypoints, image_to_input, 128)[0]
        assert present
        white = np.argwhere(warp(image, image_to_input, 128, GREY)[..., 0] > 191)
        label = np.argwhere(warp_mask(mask, image_to_input, 16))
        if white.min() > 1 and white.max() < 126:  # the square is not cut off
            assert np.abs(white.mean(axis=0) - (y, x)).max() < 0.6
            assert np.abs(8 * label.mean(axis=0) + 3.5 - (y, x)).max() < 4


def test_a_colour_change_has_hand_computed_values():
    image = np.full((8, 8, 3), (0, 64, 255), np.uint8)
    unchanged = ColourChange(gamma=1.0, gains=(1.0, 1.0, 1.0), saturation=1.0, blur=0.0)
    np.testing.assert_array_equal(unchanged.apply(image), image)
    darker = ColourChange(gamma=2.0, gains=(1.0, 1.0, 1.0), saturation=1.0, blur=0.0)
    assert darker.apply(image)[0, 0].tolist() == [0, 16, 255]  # 255 (64 / 255)^2 = 16.06
    gained = ColourChange(gamma=1.0, gains=(1.25, 0.8, 1.25), saturation=1.0, blur=0.0)
    assert gained.apply(image)[0, 0].tolist() == [0, 51, 255]  # 0.8 x 64 = 51.2; 255 is the most
    less_red = ColourChange(gamma=1.0, gains=(1.0, 1.0, 0.6), saturation=1.0, blur=0.0)
    assert less_red.apply(image)[0, 0].tolist() == [0, 64, 153]  # 0.6 x 255
    grey = ColourChange(gamma=1.0, gains=(1.0, 1.0, 1.0), saturation=0.0, blur=0.0)
    luma = round(0.587 * 64 + 0.299 * 255)
    assert grey.apply(image)[0, 0].tolist() == [luma] * 3


def test_blur_spreads_a_point_and_keeps_its_place():
    image = np.zeros((21, 21, 3), np.uint8)
    image[10, 10] = 255
    blurred = ColourChange(gamma=1.0, gains=(1.0, 1.0, 1.0), saturation=1.0, blur=1.5).apply(image)
    assert blurred[10, 10, 0] == blurred.max() == round(255 / (2 * np.pi * 1.5**2))
    np.testing.assert_array_equal(blurred, blurred[::-1, ::-1])


@pytest.mark.parametrize("reduced", [2, 4, 8])
def test_blur_of_a_reduced_image_is_that_of_the_full_size(reduced):
    """An edge between 20 and 220: blurred then reduced by means, or the other way round."""
    image = np.full((64, 160, 3), 20, np.uint8)
    image[:, 80:] = 220
    change = ColourChange(gamma=1.0, gains=(1.0, 1.0, 1.0), saturation=1.0, blur=1.6)
    size = (160 // reduced, 64 // reduced)
    expected = cv2.resize(change.apply(image), size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    error, error_of_pixels = (
        cv2.absdiff(blurred, expected).sum()
        for blurred in (change.apply(small, reduced), change.apply(small))
    )
    assert error < 0.3 * error_of_pixels


@pytest.mark.parametrize("ranges", [COLOURS, STRONG_COLOURS])
def test_draws_of_colours_stay_in_their_ranges(ranges):
    rng = np.random.default_rng(0)
    changes = [ColourChange.draw(rng, ranges) for _ in range(2000)]
    exponents = np.log2([change.gamma for change in changes])
    gains = np.array([change.gains for change in changes])
    saturations = np.array([change.saturation for change in changes])
    blurs = np.array([change.blur for change in changes])
    for values, (low, high) in (
        (exponents, ranges.gamma),
        (gains, ranges.channel_gain),
        (saturations, ranges.saturation),
        (blurs[blurs > 0], ranges.blur),
    ):
        margin = 0.05 * (high - low)
        assert low <= values.min() < low + margin and high - margin < values.max() <= high
    assert 0.45 < np.mean(saturations == 1) < 0.55
    assert abs(np.mean(blurs > 0) - ranges.blur_probability) < 0.05


@pytest.mark.parametrize(
    "stretch, expected",
    [
        (Stretch(axis=0, factor=4, turn=0), [[2, 0], [0, 0.5]]),
        (Stretch(axis=90, factor=4, turn=0), [[0.5, 0], [0, 2]]),
        (Stretch(axis=45, factor=4, turn=0), [[1.25, 0.75], [0.75, 1.25]]),
        (Stretch(axis=0, factor=1, turn=90), [[0, 1], [-1, 0]]),  # what points right points up
        (Stretch(axis=0, factor=4, turn=90), [[0, 2], [-0.5, 0]]),
    ],
)
def test_a_stretch_comes_after_its_turn(stretch, expected):
    np.testing.assert_allclose(stretch.linear(), expected, atol=1e-12)


def test_a_stretch_leaves_the_middle_of_the_hand_and_keeps_it_in_the_input():
    keypoints = np.full((21, 3), [40.0, 30, 1])
    keypoints[0, :2], keypoints[1, :2] = (30, 20), (50, 40)
    stretch = Stretch(axis=0, factor=4, turn=0)
    np.testing.assert_allclose(
        apply(stretch.apply(IDENTITY, keypoints, 80), [(30, 20), (40, 30), (50, 40)]),
        [(20, 25), (40, 30), (60, 35)],
    )
    np.testing.assert_allclose(  # 40 pixels wide: moved from 20..60 to 13..53
        apply(stretch.apply(IDENTITY, keypoints, 54), [(30, 20), (50, 40)]), [(13, 25), (53, 35)]
    )
    np.testing.assert_allclose(  # too wide for the input: only the other side counts
        apply(stretch.apply(IDENTITY, keypoints, 36), [(30, 20), (50, 40)]), [(20, 25), (60, 35)]
    )
    keypoints[:, 2] = 0
    assert stretch.apply(IDENTITY, keypoints, 80) is IDENTITY


def test_draws_of_stretches_stay_in_their_ranges():
    rng = np.random.default_rng(0)
    draws = [Stretch.draw(rng) for _ in range(3000)]
    stretches = [draw for draw in draws if draw]
    assert abs(len(stretches) / len(draws) - 0.7) < 0.03
    for values, (low, high) in (
        (np.log([stretch.factor for stretch in stretches]), np.log(STRETCH_RANGE)),
        (np.array([stretch.turn for stretch in stretches]), TURN_RANGE),
        (np.array([stretch.axis for stretch in stretches]), (0, 180)),
    ):
        margin = 0.05 * (high - low)
        assert low <= values.min() < low + margin and high - margin < values.max() <= high


def test_noise_has_a_deviation_in_its_range():
    rng, deviations = np.random.default_rng(0), []
    for _ in range(500):
        data = np.zeros((3, 40, 40), np.float32)
        add_noise(data, rng)
        deviations.append(data.std())
    noisy = np.array(deviations)[np.array(deviations) > 0]
    assert 0.22 < len(noisy) / 500 < 0.38
    assert 0.9 * NOISE_RANGE[0] < noisy.min() and noisy.max() < 1.1 * NOISE_RANGE[1]


def test_rectangles_cover_one_or_two_parts():
    rng, counts = np.random.default_rng(0), []
    for _ in range(500):
        data = np.full((3, 100, 100), 9, np.float32)
        cover_parts(data, rng)
        colours = np.unique(data[0][data[0] < 9])  # of the blue channel; no two are equal
        counts.append(len(colours))
        assert (data[:, data[0] < 9] <= 0.5).all() and (data >= -0.5).all()
        for colour in colours:
            rows, columns = np.nonzero(data[0] == colour)
            sides = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert max(sides) <= 100 * COVER_SIDE_RANGE[1]
            if len(colours) == 1:  # nothing covers it
                assert min(sides) >= 100 * COVER_SIDE_RANGE[0] - 1
    assert set(counts) == {0, 1, 2} and 0.22 < np.mean(np.array(counts) > 0) < 0.38
