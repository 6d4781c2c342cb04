"""Numbers of labels."""

import numpy as np
import pytest

from mcc_caffe.core.errors import SampleError
from mcc_caffe.core.keypoint_labels import check_visibilities, make_keypoints, parse_numbers


@pytest.mark.parametrize("value", [np.nan, np.inf, -1, 0.5, 2, 57])
def test_a_visibility_that_its_format_does_not_have_is_told(value):
    values = np.arange(21) % 2.0
    check_visibilities(values, "here", highest=1)
    values[3] = value
    with pytest.raises(SampleError, match=f"here: the visibility of keypoint 3 is {value}: 0 or 1"):
        check_visibilities(values, "here", highest=1)
    if value in (0.5, 2):
        check_visibilities(values, "here", highest=2, may_be_scores=True)
    else:
        with pytest.raises(SampleError, match=f"keypoint 3 is {value}: 0 to 2 is needed"):
            check_visibilities(values, "here", highest=2, may_be_scores=True)


def test_complex_numbers_are_no_coordinates():
    with pytest.raises(SampleError, match="here: keypoints is no array of real numbers, 2 x 1"):
        parse_numbers(np.array([1, 2 + 3j]), (2, 1), location="here", field="keypoints")
    assert parse_numbers([1, 2], (2, 1), location="here", field="keypoints").tolist() == [[1], [2]]


def test_few_points_may_lie_in_the_second_pixel_and_no_hand_may():
    """A hand that the image's corner cuts has a few fingertips there."""
    xy, labelled = np.full((21, 2), 0.5), np.zeros(21, bool)
    xy[:2] = (1.5, 0.5), (0.5, 1.6)
    for count in (2, 4):
        labelled[:count] = True
        assert make_keypoints(xy, labelled, "here")[1, 1] == np.float32(1.6)
    labelled[4] = True
    with pytest.raises(
        SampleError,
        match="here: all keypoints lie between -2 and 2, as shares of the image's sides do: pixels",
    ):
        make_keypoints(xy, labelled, "here")
    labelled[:] = np.arange(21) < 2
    with pytest.raises(SampleError, match="here: all keypoints lie between -1 and 1, as shares of"):
        make_keypoints(xy - 0.6, labelled, "here")
    labelled[1] = False
    assert make_keypoints(xy - 0.6, labelled, "here")[0, 2] == 1
