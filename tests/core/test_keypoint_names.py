"""Names of the 21 keypoints, in the spellings and orders that are about."""

import numpy as np
import pytest

from mcc_caffe.core.hand import FINGERS, NAMES
from mcc_caffe.core.keypoint_names import find_order, only_count

OURS = list(range(21))
MEDIAPIPE = [
    "WRIST",
    *(f"THUMB_{joint}" for joint in ("CMC", "MCP", "IP", "TIP")),
    *(
        f"{finger}_{joint}"
        for finger in ("INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")
        for joint in ("MCP", "PIP", "DIP", "TIP")
    ),
]
WHOLE_BODY = [
    "left_hand_root",
    *(
        f"left_{finger}{joint}"
        for finger in ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
        for joint in (1, 2, 3, 4)
    ),
]
FROM_ZERO = ["wrist", *(f"{finger}{joint}" for finger in FINGERS for joint in range(4))]
CAMEL_CASE = ["Wrist", *(f"{finger.title()}Joint{k}" for finger in FINGERS for k in (1, 2, 3, 4))]
SPELLINGS = {
    "ours": list(NAMES),
    "MediaPipe": MEDIAPIPE,
    "COCO-WholeBody": WHOLE_BODY,
    "from 0": FROM_ZERO,
    "camel case": CAMEL_CASE,
}
# Where each order has our keypoints: the pinky first, tip to base, the wrist last, joint by joint.
ORDERS = {
    "ours": OURS,
    "pinky first": [0]
    + [4 * finger + joint for finger in (4, 3, 2, 1, 0) for joint in (1, 2, 3, 4)],
    "tip to base": [0] + [4 * finger + joint for finger in range(5) for joint in (4, 3, 2, 1)],
    "wrist last": [*range(1, 21), 0],
    "joint by joint": [0] + [4 * finger + joint for joint in (1, 2, 3, 4) for finger in range(5)],
    "any": np.random.default_rng(0).permutation(21).tolist(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_spelling_is_found_in_every_order(spelling, order):
    names = [SPELLINGS[spelling][index] for index in ORDERS[order]]
    assert [names[index] for index in find_order(names)] == SPELLINGS[spelling]


@pytest.mark.parametrize(
    "names",
    [
        [f"k{index}" for index in range(21)],
        ["nose", *NAMES[1:]],
        ["wrist", "wrist", *NAMES[2:]],
        [*NAMES[:20], "thumb_5"],
        [*NAMES[:20], "pinky_wrist"],
        [*NAMES[:20], "pinky"],
        [""] * 21,
    ],
)
def test_names_that_do_not_tell_are_not_guessed(names):
    assert find_order(names) is None


def test_names_that_only_count_say_nothing():
    assert only_count([str(number) for number in range(21)])
    assert only_count([f"kpt_{number}" for number in range(1, 22)])
    assert not only_count([str(number) for number in reversed(range(21))])
    assert not only_count([f"thumb{number}" for number in range(21)])
    assert not only_count([*("a" + str(n) for n in range(20)), "b20"])
