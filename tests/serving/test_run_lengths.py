"""Masks as the page sends and gets them: the lengths of runs of equal pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data_tools.readers.segmentation import draw_mask
from mcc_caffe.core.errors import UserError
from mcc_caffe.serving.run_lengths import check_runs, decode_runs, encode_runs

MASKS = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.integers(0, 1),
)


@given(MASKS)
def test_runs_are_the_mask(mask):
    runs = encode_runs(mask)
    height, width = mask.shape
    check_runs(runs, width, height)
    decoded = decode_runs(runs, width, height)
    assert decoded.dtype == np.uint8 and np.array_equal(decoded, mask)
    assert encode_runs(mask * 255) == runs
    segmentation = {"size": [height, width], "counts": encode_runs(mask.T)}
    assert np.array_equal(draw_mask(segmentation, (width, height), ""), mask)


@pytest.mark.parametrize("runs", [[], [5], [6, 1], [10**30]])
def test_runs_of_another_size_are_refused(runs):
    with pytest.raises(UserError, match="3 x 2 = 6 are needed"):
        check_runs(runs, 3, 2)
