"""The 21 keypoints of a hand: order (Fig. 2), names, groups (Fig. 9), bones, colours (Fig. 11)."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

Hand = TypeVar("Hand")

FINGERS = ("thumb", "index", "middle", "ring", "pinky")

# Wrist first, then each finger from its base to its tip.
NAMES = ("wrist",) + tuple(f"{finger}_{joint}" for finger in FINGERS for joint in (1, 2, 3, 4))

# The groups of Fig. 9. The thumb's four points take part as the other fingers' do, by their
# position in the chain.
GROUPS = {
    "wrist": (0,),
    "knuckles": (1, 5, 9, 13, 17),
    "PIP": (2, 6, 10, 14, 18),
    "DIP": (3, 7, 11, 15, 19),
    "fingertips": (4, 8, 12, 16, 20),
}

# Bones (from, to, finger): the wrist to every base, then along the finger.
SKELETON = tuple(
    (0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1, finger)
    for finger in range(len(FINGERS))
    for joint in range(4)
)

# BGR: thumb blue, index cyan, middle green, ring brown, pinky purple.
FINGER_COLOURS = ((230, 80, 30), (220, 210, 20), (60, 180, 40), (40, 90, 165), (190, 40, 150))
WRIST_COLOUR = (230, 230, 230)

MASK_THRESHOLD = 0.5  # the hand is where its probability is above this
ENOUGH_KEYPOINTS = 6  # confident or labelled ones; fewer do not say where the hand is

# Keypoints are the same if the median of their distances is below so much of the longer side of the
# box around them.
_SAME_DISTANCE = 0.1

# The longest bone that a hand may have, in median bones. Labelled hands of photographs have at most
# 5.7, and of renderings 1 in 100 has more than 6.
_LONGEST_BONE = 6.0

_FINGER_BASES = GROUPS["knuckles"][1:]  # of all fingers but the thumb

_HAND_WORD = re.compile(r"(?<![a-z])(left|right)?[ _-]?hands?(?![a-z])", re.IGNORECASE)


def pointing_angle(keypoints: np.ndarray, known: np.ndarray) -> float | None:
    """Return where a hand points: the direction from its wrist to the middle of its knuckles.

    Args:
        keypoints: (21, 2) or more columns, of which x and y in pixels are the first.
        known: (21,) bool, which keypoints are known.

    Returns:
        Degrees clockwise from straight up, -180 to 180; None where the wrist or all four fingers'
        knuckles are unknown, or both are at one point.
    """
    knuckles = [base for base in _FINGER_BASES if known[base]]
    if not (known[0] and knuckles):
        return None
    x, y = keypoints[knuckles, :2].mean(axis=0) - keypoints[0, :2]
    return float(np.degrees(np.arctan2(x, -y))) if x or y else None


def has_plausible_bones(keypoints: np.ndarray) -> bool:
    """Tell whether no bone is far longer than the others, as if its ends were of two hands.

    Args:
        keypoints: (21, 2) or more columns, of which x and y in pixels are the first.
    """
    start, end, _ = np.array(SKELETON).T
    lengths = np.linalg.norm(keypoints[start, :2] - keypoints[end, :2], axis=1)
    return bool(lengths.max() <= _LONGEST_BONE * np.median(lengths))


def names_a_hand(category: str) -> bool:
    """Tell whether a category's name says hand, such as "Left hand"; a "handbag" does not."""
    return _HAND_WORD.search(category) is not None


def keypoint_colour(index: int) -> tuple[int, int, int]:
    """Return the BGR colour of keypoint `index` (0..20): its finger's, or the wrist's."""
    return WRIST_COLOUR if index == 0 else FINGER_COLOURS[(index - 1) // 4]


def nms(hands: Iterable[Hand], are_same: Callable[[Hand, Hand], bool]) -> list[Hand]:
    """Return the hands, in their order, without those that are the same as an earlier one.

    This is non-maximum suppression where the most confident hand comes first.
    """
    chosen: list[Hand] = []
    for hand in hands:
        if not any(are_same(hand, other) for other in chosen):
            chosen.append(hand)
    return chosen


def are_same_keypoints(keypoints: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two answers have the same keypoints but for small differences.

    Args:
        keypoints: (21, 2) or more columns, of which x and y in pixels are the first.
        other: Likewise.
    """
    distances = np.linalg.norm(keypoints[:, :2] - other[:, :2], axis=1)
    return bool(np.median(distances) < _SAME_DISTANCE * np.ptp(keypoints[:, :2], axis=0).max())
