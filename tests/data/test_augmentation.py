"""The one warp of image, mask and keypoints."""

import cv2
import numpy as np
import pytest

from mcc_caffe.core.geometry import apply, letterbox
from mcc_caffe.data.augmentation import Augmentation, warp_image, warp_keypoints, warp_mask
from mcc_caffe.paper import ROTATION_RANGE, SCALE_RANGE


def test_the_default_is_the_letterbox():
    assert np.allclose(Augmentation().matrix(640, 480, 368), letterbox(640, 480, 368))


def test_flip_mirrors_the_input():
    plain, flipped = Augmentation(), Augmentation(flip=True)
    x, y = apply(plain.matrix(640, 480, 368), [100, 50])
    assert np.allclose(apply(flipped.matrix(640, 480, 368), [100, 50]), [367 - x, y])


def test_rotation_turns_about_the_centre():
    quarter = Augmentation(rotation=90).matrix(368, 368, 368)
    assert np.allclose(apply(quarter, [183.5, 183.5]), [183.5, 183.5])
    assert np.allclose(
        apply(quarter, [367, 183.5]), [183.5, 0]
    )  # the right edge goes up: counter-clockwise


@pytest.mark.parametrize("crop, corner", [((0, 0), (0, 0)), ((1, 1), (-73.6, -73.6))])
def test_crop_moves_a_larger_frame_over_its_whole_range(crop, corner):
    assert np.allclose(
        apply(Augmentation(scale=1.2, crop=crop).matrix(368, 368, 368), [0, 0]), corner, atol=1e-9
    )


def test_a_smaller_frame_stays_inside():
    rng = np.random.default_rng(0)
    for _ in range(100):
        matrix = Augmentation(scale=0.7, crop=tuple(rng.uniform(size=2))).matrix(368, 368, 368)
        corners = apply(matrix, [[0, 0], [367, 367]])
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
    """A black dot on white at each keypoint: after any augmentation it is where the keypoint says."""
    width, height = size
    rng = np.random.default_rng(1)
    radius = max(4, min(size) // 50)
    for _ in range(20):
        image = np.full((height, width, 3), 255, np.uint8)
        grid = np.array([(x, y) for y in (0.2, 0.5, 0.8) for x in np.linspace(0.1, 0.9, 7)])
        keypoints = np.column_stack([np.round(grid * (width - 1, height - 1)), np.ones(21)])
        for x, y, _ in keypoints.astype(int).tolist():
            cv2.circle(image, (x, y), radius, (0, 0, 0), -1)
        matrix = Augmentation.draw(rng).matrix(width, height, 368)
        drawn = warp_image(image, matrix, 368)[..., 0].astype(float)
        moved = warp_keypoints(keypoints, matrix, 368)
        reach = radius * np.sqrt(abs(np.linalg.det(matrix[:, :2])))
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
    moved = warp_keypoints(keypoints, Augmentation().matrix(368, 368, 368), 368)
    assert moved[0].tolist() == [10, 10, 1]
    assert moved[1].tolist() == moved[2].tolist() == [-1, -1, 0]


def test_what_the_image_does_not_cover_is_grey_and_no_hand():
    matrix = Augmentation().matrix(200, 100, 128)
    drawn = warp_image(np.zeros((100, 200, 3), np.uint8), matrix, 128)
    assert (drawn[80:] == 128).all() and (drawn[:60] == 0).all()
    mask = warp_mask(np.ones((100, 200), np.uint8), matrix, 16)
    assert mask[:8].all() and not mask[8:].any()


def test_mask_label_samples_the_mask_at_the_cells_centres():
    mask = np.zeros((368, 368), np.uint8)
    mask[:, 100:] = 1
    label = warp_mask(mask, Augmentation().matrix(368, 368, 368), 46)
    assert label.shape == (46, 46) and set(np.unique(label)) == {0, 1}
    assert (
        not label[:, :12].any() and label[:, 13:].all()
    )  # cell 12 covers 96..103, its centre is 99.5
