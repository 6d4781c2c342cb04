"""Numbers of labels."""

import numpy as np
import pytest

from mcc_caffe.core.errors import SampleError
from mcc_caffe.core.keypoint_labels import check_visibilities, parse_numbers


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
