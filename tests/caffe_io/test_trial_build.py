"""The trial of a user's net in a process of its own."""

import pytest

from mcc_caffe.caffe_io.trial_build import DEPLOY, try_build
from tests.support.commands import ROOT


@pytest.mark.parametrize("threads", ["4096", "4096,1"])
def test_a_net_is_not_blamed_for_the_number_of_threads(threads, monkeypatch):
    """The stacks of so many threads are more than the trial's bound of memory."""
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    try_build(DEPLOY, ROOT / "prototxt/mini/deploy.prototxt", "own net")
