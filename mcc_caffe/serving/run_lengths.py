"""Masks as run lengths: the form in which the labelling page, its server and its files hold them.

The runs tell how many pixels in turn are not hand and are hand, along the rows from the left-top
corner; the first one is 0 where the first pixel is hand. COCO's run lengths are those of the
transposed mask.
"""

from collections.abc import Sequence

import numpy as np

from mcc_caffe.core.errors import UserError


def encode_runs(mask: np.ndarray) -> list[int]:
    """Return the run lengths of a mask.

    Args:
        mask: HxW with at least one pixel; hand where it is not 0.
    """
    hand = np.ravel(mask) != 0
    changes = np.flatnonzero(hand[1:] != hand[:-1]) + 1
    runs = np.diff(changes, prepend=0, append=hand.size).tolist()
    return [0, *runs] if hand[0] else runs


def check_runs(runs: Sequence[int], width: int, height: int) -> None:
    """Check that run lengths are those of a mask of this size.

    Args:
        runs: The run lengths, from 0 on.
        width: The mask's width in pixels.
        height: The mask's height in pixels.

    Raises:
        UserError: They have another number of pixels.
    """
    if sum(runs) != width * height:
        raise UserError(
            f"the mask's runs have {sum(runs)} pixels, {width} x {height} = {width * height} are "
            "needed"
        )


def decode_runs(runs: Sequence[int], width: int, height: int) -> np.ndarray:
    """Return the mask of run lengths.

    Args:
        runs: The run lengths, such as `check_runs` lets pass.
        width: The mask's width in pixels.
        height: The mask's height in pixels.

    Returns:
        HxW uint8 of {0, 1}.
    """
    values = (np.arange(len(runs)) % 2).astype(np.uint8)
    return np.repeat(values, runs).reshape(height, width)
