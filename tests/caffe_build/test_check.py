"""What a process that failed says of the reason."""

import pytest

from caffe_build import check
from mcc_caffe.caffe_io.trial_build import reason_of_end

ABORT = """I1129 11:17:34.100000  99 net.cpp:50] Initializing net
F1129 11:17:34.123456  99 layer_factory.hpp:81] Check failed: Unknown layer type: Convolutoin
*** Check failure stack trace: ***
F1129 11:17:34.123456  99 other.hpp:1] a second one
"""
BAR = "\r 33%|###       | 1/3 [00:04<00:09,  4.90s/column]"


@pytest.mark.parametrize(
    "return_code, stderr, reason",
    [
        (-6, ABORT, "Check failed: Unknown layer type: Convolutoin"),
        (1, ABORT, "Check failed: Unknown layer type: Convolutoin"),  # of a process that it started
        (-9, "warning: something\n", "it was killed by signal 9"),
        (1, f"Traceback\nTypeError: no\n{BAR}\n", "TypeError: no"),
        (1, BAR, "it ended with status 1"),
        (1, "wait\n  ERROR: no network\n\n", "ERROR: no network"),
        (3, "", "it ended with status 3"),
    ],
)
def test_why_a_process_failed(return_code, stderr, reason):
    assert check.reason(return_code, stderr) == reason


@pytest.mark.parametrize(
    "return_code, stderr, reason",
    [
        (-6, ABORT, "Caffe refuses it (Check failed: Unknown layer type: Convolutoin)"),
        (-11, "", "Caffe refuses it (it was killed by signal 11)"),
        (-6, "ValueError: no\nterminate called\n", "Caffe refuses it (ValueError: no)"),
        (1, "Traceback\nmy.OwnError: no\n", "Caffe refuses it (my.OwnError: no)"),
        (2, "error: the net has no blob\n", "the net has no blob"),
    ],
)
def test_why_a_net_cannot_be_built(return_code, stderr, reason):
    assert reason_of_end(return_code, stderr.encode()) == reason
