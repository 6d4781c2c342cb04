"""Fixtures of the tests of the data tools."""

import numpy as np
import pytest

from tests.support.hands import drawn_sample, write_layout


@pytest.fixture
def layout(tmp_path):
    """Ten drawn hands (6 Train, 4 Test) in OneHand10K's layout."""
    rng = np.random.default_rng(0)
    splits = {
        split: [drawn_sample(rng, f"{number}.jpg") for number in range(1, count + 1)]
        for split, count in (("Train", 6), ("Test", 4))
    }
    return write_layout(tmp_path / "set", splits)
