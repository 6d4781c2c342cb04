"""Fixtures of the tests of the data tools."""

import numpy as np
import pytest

from data_tools.readers.onehand10k import LABELS, SPLITS, format_label
from tests.support.hands import drawn_sample


@pytest.fixture
def layout(tmp_path):
    """Ten drawn hands (6 Train, 4 Test) in OneHand10K's layout."""
    rng = np.random.default_rng(0)
    for split, count in zip(SPLITS, (6, 4)):
        folder = tmp_path / "set" / split
        for name in ("source", "mask"):
            (folder / name).mkdir(parents=True)
        lines = []
        for number in range(1, count + 1):
            sample = drawn_sample(rng, f"{number}.jpg")
            (folder / "source" / f"{number}.jpg").write_bytes(sample.image_bytes)
            (folder / "mask" / f"{number}.png").write_bytes(sample.mask_png)
            lines.append(format_label(f"{number}.jpg", 160, 120, sample.keypoints))
        (folder / LABELS).write_text("\n".join(lines) + "\n")
    return tmp_path / "set"
