"""Rendered clips: hands where they are said to be, in every frame."""

import numpy as np

from data_tools.hands.clip import HandPath, render_clip


def test_hands_move_as_their_paths_say():
    right = HandPath((0.25, 0.4), (0.5, 0.4))
    left = HandPath((0.75, 0.5), (0.75, 0.5), is_left=True, roll=15)
    frames = list(
        render_clip(
            np.random.default_rng(0), [right, left], frame_count=3, size=(200, 120), noise=0
        )
    )
    joints = np.stack([frame.joints for frame in frames])
    assert joints.shape == (3, 2, 21, 2) and frames[0].image.shape == (120, 200, 3)
    assert (
        np.abs(joints[0].mean(axis=1) - [(0.25 * 199, 0.4 * 119), (0.75 * 199, 0.5 * 119)]).max()
        < 3
    )
    assert np.allclose(joints[2, 0] - joints[0, 0], (0.25 * 199, 0), atol=1e-6)
    assert np.allclose(joints[2, 1], joints[0, 1], atol=1e-6)
    # The wrist is below the fingertips, a right hand's thumb to the left in the palm's view.
    wrist, thumb, middle, pinky = (joints[0, :, k] for k in (0, 4, 12, 20))
    assert (wrist[:, 1] > middle[:, 1]).all()
    assert (thumb[0, 0] - pinky[0, 0]) * (thumb[1, 0] - pinky[1, 0]) < 0
    # The middle of the palm is skin, more red than blue.
    for x, y in joints[0][:, [0, 5, 17]].mean(axis=1).round().astype(int):
        blue, _, red = frames[0].image[y, x].tolist()
        assert red > blue
    # What changes lies where the moving hand is; without a hand nothing does.
    changed = np.abs(frames[1].image.astype(int) - frames[0].image).max(axis=2) > 0
    assert changed[:, :150].any() and not changed[:50, 165:].any()
    empty = [
        frame.image
        for frame in render_clip(
            np.random.default_rng(0), [], frame_count=2, size=(64, 48), noise=0
        )
    ]
    assert (empty[0] == empty[1]).all()
