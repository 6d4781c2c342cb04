"""Rendered clips: hands where they are said to be, in every frame."""

import numpy as np
import pytest

from data_tools.hands.clip import HandPath, render_clip
from mcc_caffe.core.hand import pointing_angle


@pytest.fixture(scope="module")
def frames() -> list:
    """Three frames of a right hand that moves to the right and of a left one that rests."""
    right = HandPath((0.25, 0.4), (0.5, 0.4))
    left = HandPath((0.75, 0.5), (0.75, 0.5), is_left=True, roll=15)
    rng = np.random.default_rng(0)
    return list(render_clip(rng, [right, left], frame_count=3, size=(200, 120), noise=0))


@pytest.fixture
def keypoints(frames) -> np.ndarray:
    """Frames x 2 hands x 21 x 2: where the keypoints are said to be."""
    return np.stack([frame.keypoints for frame in frames])


def test_hands_move_as_their_paths_say(frames, keypoints):
    assert keypoints.shape == (3, 2, 21, 2) and frames[0].image.shape == (120, 200, 3)
    middles = [(0.25 * 199, 0.4 * 119), (0.75 * 199, 0.5 * 119)]
    assert np.abs(keypoints[0].mean(axis=1) - middles).max() < 3
    assert np.allclose(keypoints[2, 0] - keypoints[0, 0], (0.25 * 199, 0), atol=1e-6)
    assert np.allclose(keypoints[2, 1], keypoints[0, 1], atol=1e-6)


def test_hands_point_up_and_show_their_palms(keypoints):
    """The wrist is below the fingertips, a right hand's thumb to the left in the palm's view."""
    wrist, thumb, middle, pinky = (keypoints[0, :, k] for k in (0, 4, 12, 20))
    assert (wrist[:, 1] > middle[:, 1]).all()
    assert (thumb[0, 0] - pinky[0, 0]) * (thumb[1, 0] - pinky[1, 0]) < 0


def test_a_left_hand_is_rolled_clockwise_too(keypoints):
    """Without its roll of 15 degrees it would point as the mirrored right hand does."""
    right, left = (pointing_angle(points, np.ones(21, bool)) for points in keypoints[0])
    assert left == pytest.approx(15 - right, abs=0.5)


def test_there_is_skin_where_the_palms_are_said_to_be(frames, keypoints):
    for x, y in keypoints[0][:, [0, 5, 17]].mean(axis=1).round().astype(int):
        blue, _, red = frames[0].image[y, x].tolist()
        assert red > blue


def test_pixels_change_only_where_a_hand_moves(frames):
    changed = np.abs(frames[1].image.astype(int) - frames[0].image).max(axis=2) > 0
    assert changed[:, :150].any() and not changed[:50, 165:].any()
    rng = np.random.default_rng(0)
    first, second = render_clip(rng, [], frame_count=2, size=(64, 48), noise=0)
    assert (first.image == second.image).all()
