"""Drawings: skeletons, masks and heatmaps in the colours of the fingers, at any size."""

import dataclasses

import numpy as np
import pytest

from mcc_caffe.core.drawing import draw_mask, draw_number, draw_over, draw_pose, draw_skeleton
from mcc_caffe.core.hand import FINGER_COLOURS
from mcc_caffe.core.heatmaps import encode
from tests.support.poses import make_pose


def test_skeleton_is_drawn_in_finger_colours():
    """A bone has its finger's colour in its middle; a missing joint leaves its bone out."""
    image = np.zeros((400, 400, 3), np.uint8)
    keypoints = np.column_stack(
        [np.linspace(20, 380, 21), 200 + 150 * np.sin(np.arange(21)), np.ones(21)]
    )
    keypoints[20, 2] = 0.1
    drawn = draw_skeleton(image, keypoints, keypoints[:, 2] > 0.2)
    for finger in range(5):
        first = 4 * finger + 2
        x, y = keypoints[first : first + 2, :2].mean(axis=0).round().astype(int)
        assert np.abs(drawn[y, x].astype(int) - FINGER_COLOURS[finger]).max() <= 16
    x, y = (0.5 * keypoints[19, :2] + 0.5 * keypoints[20, :2]).round().astype(int)
    assert not drawn[y, x].any()


def test_mask_is_tinted_blue_inside_only():
    image = np.full((100, 100, 3), 100, np.uint8)
    mask = np.zeros((100, 100), np.float32)
    mask[:, 60:] = 0.9
    drawn = draw_mask(image, mask)
    assert (drawn[:, :58] == 100).all()
    assert (drawn[:, 62:, 0] > 150).all() and (drawn[:, 62:, 2] < 60).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (900, 30), (480, 640), (5000, 40), (4000, 1)])
def test_three_panels_for_any_image(shape):
    image = np.zeros((*shape, 3), np.uint8)
    pose = make_pose(image, np.zeros((21, 3)), np.zeros((16, 16), np.float32))
    drawn = draw_pose(image, pose)
    side = min(max(*shape, 480), 1600)
    assert max(drawn.shape[0], (drawn.shape[1] - 8) // 3) == side


def test_panels_are_as_large_as_the_photograph():
    image = np.full((700, 900, 3), 100, np.uint8)
    pose = make_pose(image, np.zeros((21, 3)), np.zeros((16, 16), np.float32))
    drawn = draw_pose(image, pose)
    assert drawn.shape == (700, 3 * 900 + 8, 3)
    assert (drawn[:, :900] == 100).all() and (drawn[:, -900:] == 45).all()


def test_the_skeleton_of_a_small_image_is_enlarged_with_it():
    """The wrist is at (10, 40) of 60 x 60 pixels, and at (83.5, 323.5) of the panel's 480 x 480."""
    image = np.zeros((60, 60, 3), np.uint8)
    keypoints = np.zeros((21, 3))
    keypoints[0] = 10, 40, 1
    pose = make_pose(image, keypoints, np.zeros((16, 16), np.float32))
    panel = draw_pose(image, pose)[:, 484:964]
    rows, columns = np.nonzero(panel.any(axis=2))
    assert abs(rows.mean() - 323.5) < 1 and abs(columns.mean() - 83.5) < 1


@pytest.mark.parametrize("peak", [1, 1.5])
def test_a_heatmap_glows_at_its_keypoint_in_the_colour_of_its_finger(peak):
    """The index finger's first keypoint, in an image of 60 pixels that is drawn 8 times as large.

    A peak above 1 glows as a peak of 1 does. The middle of cell (11, 3) of the input is its pixel
    (91.5, 27.5), the image's (42.9, 12.9) and (346.6, 106.6) of the third panel.
    """
    image = np.full((60, 60, 3), 200, np.uint8)
    keypoints = np.zeros((21, 3))
    keypoints[5] = 91.5, 27.5, 1
    pose = make_pose(image, np.zeros((21, 3)), np.zeros((16, 16), np.float32))
    heatmaps = peak * encode(keypoints, 16, 1.5)[None]
    panel = draw_pose(image, dataclasses.replace(pose, level_heatmaps=heatmaps))[:, -480:]
    colour = 0.5 * np.array(FINGER_COLOURS[1]) + 127
    assert np.abs(panel[107, 347] - colour).max() < 4
    heat = np.abs(panel - 90.0).max(axis=2)  # 90: the image, darkened
    rows, columns = np.nonzero(heat > 0.9 * heat.max())
    assert abs(rows.mean() - 106.6) < 1 and abs(columns.mean() - 346.6) < 1


@pytest.mark.parametrize("side, width", [(40, 1), (320, 4), (1600, 20)])
def test_bones_are_as_wide_as_the_hand_is_large(side, width):
    keypoints = np.column_stack([np.full(21, 400.0), np.linspace(100, 100 + side, 21), np.ones(21)])
    present = np.zeros(21, bool)
    present[[0, 17, 20]] = True  # the wrist, the first and the last of the little finger
    drawn = draw_skeleton(np.zeros((1800, 800, 3), np.uint8), keypoints, present)
    row = drawn[100 + side // 2].max(axis=1)
    assert abs(int((row > 127).sum()) - width) <= 1


def test_no_mask_is_drawn_where_there_is_no_hand():
    image = np.full((60, 90, 3), 100, np.uint8)
    keypoints, cells = np.full((21, 3), 30.0), np.ones((16, 16), np.float32)
    keypoints[:, 2] = 0.1
    pose = make_pose(image, keypoints, cells)
    assert pose.mask_box() is not None
    assert (draw_over(image, pose) == 100).all()
    assert (draw_pose(image, pose)[:, :480] == 100).all()


def test_the_number_of_a_hand_lies_at_its_corner_and_inside_of_the_image():
    """Its left end and its lowest row are at the corner, as far as the image has room."""
    image = np.full((60, 200, 3), 100, np.uint8)

    def ink(corner):
        rows, columns = np.nonzero((draw_number(image, 7, corner) > 180).all(axis=2))
        return len(rows), columns.min(), rows.max()

    count, left, bottom = ink((100, 30))
    assert abs(left - 100) <= 3 and abs(bottom - 30) <= 2
    for corner in ((-9, 30), (199, 30), (100, -9), (100, 59)):
        assert ink(corner)[0] == count
    assert ink((180, 30))[1] == left + 80
