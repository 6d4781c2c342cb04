"""What keeps Train and Test of the synthetic hands apart, so that Test is honest: no person's build, skin or clothes are in both."""

import numpy as np

SLICES, TEST_SLICE = 50, 5  # of a range: every fifth slice is Test's


def held_out(rng: np.random.Generator, split: str) -> float:
    """A number in [0, 1) that the other split never gets, evenly spread but for that; split: "Train" or "Test"."""
    while True:
        value = rng.random()
        if (int(value * SLICES) % TEST_SLICE == 2) == (split == "Test"):
            return value
