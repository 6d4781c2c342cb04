"""Draws numbers for Train and Test of the synthetic hands, of which none is in both.

Tones of skin, builds and clothes come from these numbers. The slices of Train and Test alternate,
so what they show is alike.
"""

import numpy as np

# A range is cut into SLICES; of every CYCLE slices, the one at TEST_SLICE is Test's.
SLICES, CYCLE, TEST_SLICE = 50, 5, 2


def draw_for_split(rng: np.random.Generator, split: str) -> float:
    """Draw a number in [0, 1) that the other split never gets.

    Args:
        rng: Draws evenly, again until the number is this split's.
        split: "Train" or "Test".
    """
    while True:
        value = rng.random()
        if (int(value * SLICES) % CYCLE == TEST_SLICE) == (split == "Test"):
            return value
