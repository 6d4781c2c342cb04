"""COCO's segmentations: polygons and run lengths, drawn as masks."""

import numpy as np
import pytest

from data_tools.readers.segmentation import draw_mask
from mcc_caffe.core.errors import SampleError


def test_run_lengths_become_masks():
    expected = np.zeros((4, 6), np.uint8)
    expected[1:3, 2] = expected[0, 3] = (
        1  # down the columns: 9 zeros, 2 ones, 1 zero, 1 one, 11 zeros
    )
    assert np.array_equal(
        draw_mask({"size": [4, 6], "counts": [9, 2, 1, 1, 11]}, (6, 4), "here"), expected
    )
    # Compressed: 9 is "9", 2 is "2", 1 is "1"; then differences from the last but one:
    # 1 - 2 = -1 is "O", 11 - 1 = 10 is ":".
    assert np.array_equal(draw_mask({"size": [4, 6], "counts": "921O:"}, (6, 4), "here"), expected)


def test_polygons_are_masks_of_the_pixels_in_them():
    """Coordinates count from the image's corner: from 1 to 4 there are the pixels 1, 2 and 3."""
    corner, square, line = (
        [1, 0, 4, 0, 4, 1, 2, 1, 2, 3, 1, 3],
        [4, 2, 6, 2, 6, 4, 4, 4],
        [0, 0, 5, 3],
    )
    assert draw_mask([corner, square, line], (6, 4), "here").tolist() == [
        [0, 1, 1, 1, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 1, 0, 0, 1, 1],
        [0, 0, 0, 0, 1, 1],
    ]


def test_a_polygon_that_leaves_the_image_is_clipped():
    assert draw_mask([[4, 2, 9, 2, 9, 7, 4, 5]], (6, 4), "here").tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("radius", [5, 10, 40])
def test_a_polygon_covers_its_own_area(radius):
    """A disc; each half pixel all round would add 1 / radius of its area."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    outline = 50 + radius * np.column_stack([np.cos(angles), np.sin(angles)])
    mask = draw_mask([outline.ravel().tolist()], (100, 100), "here")
    assert mask.sum() == pytest.approx(np.pi * radius**2, rel=0.25 / radius)


def test_an_endless_outline_is_an_error():
    """It would take gigabytes to draw."""
    there_and_back = [0, 0, 900, 900] * 1000 + [0, 5]
    with pytest.raises(SampleError, match="here: .*its outline is 3599995 pixels long"):
        draw_mask([there_and_back], (100, 100), "here")


def test_compressed_runs_as_pycocotools_writes_them():
    mask = draw_mask(
        {"size": [400, 500], "counts": "Tdc0X6X600000000000000000lh[5"}, (500, 400), "here"
    )
    expected = np.zeros((400, 500), np.uint8)
    expected[100:300, 50:60] = 1
    assert np.array_equal(mask, expected)


def test_a_box_is_no_mask():
    """MMPose's segmentations: the corners of the box and the middles of its sides."""
    box = [63, 92, 63, 188.5, 63, 285, 112, 285, 161, 285, 161, 188.5, 161, 92, 112, 92]
    outline = [63, 92, 63, 285, 161, 285, 161, 92, 112, 150]
    assert draw_mask([box, [], [1, 1, 5, 1]], (238, 358), "here") is None
    assert draw_mask([box, outline], (238, 358), "here").any()
