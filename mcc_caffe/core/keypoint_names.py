"""Finds our order of the 21 keypoints in the names that a label file gives them.

A name says the finger and the joint, in any spelling: `thumb1`, `forefinger_4`, `INDEX_FINGER_PIP`,
`left_ring_tip`. Joints are numbered from the palm to the tip, or have the names of anatomy.
"""

import re
from collections.abc import Sequence

from mcc_caffe.core.hand import FINGERS

_FINGER_WORDS = {
    "thumb": ("thumb",),
    "index": ("index", "forefinger", "fore", "pointer", "pointing"),
    "middle": ("middle", "long"),
    "ring": ("ring",),
    "pinky": ("pinky", "pinkie", "little", "small", "baby"),
}
_FINGER_BY_WORD = {word: finger for finger, words in _FINGER_WORDS.items() for word in words}
_WRIST_WORDS = {"wrist", "root", "carpus"}
# From the palm to the tip. A finger has four of these ranks, the thumb other ones than the others.
_JOINT_RANKS = {
    **dict.fromkeys(("cmc", "tmc", "base", "metacarpal"), 0),
    **dict.fromkeys(("mcp", "knuckle", "proximal"), 1),
    **dict.fromkeys(("pip", "intermediate", "medial"), 2),
    **dict.fromkeys(("ip", "dip", "distal"), 3),
    **dict.fromkeys(("tip", "end"), 4),
}
_FILLERS = {"left", "right", "l", "r", "hand", "finger", "joint", "kpt", "keypoint", "phalanx"}
_WORD = re.compile(r"[a-z]+|[0-9]+")
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def find_order(names: Sequence[str]) -> list[int] | None:
    """Find where each of our keypoints stands in a file's list.

    Args:
        names: The file's names of the 21 keypoints, in its order.

    Returns:
        The index in `names` of each keypoint of `mcc_caffe.core.hand.NAMES`; None where the names
        are not understood.
    """
    parsed = [_parse(name) for name in names]
    if None in parsed or len(set(parsed)) != len(names):
        return None
    wrists = [index for index, name in enumerate(parsed) if name == ("wrist", 0)]
    order = wrists
    for finger in FINGERS:
        joints = sorted(
            (name[1], index) for index, name in enumerate(parsed) if name and name[0] == finger
        )
        if len(joints) != 4:
            return None
        order = order + [index for _, index in joints]
    return order if len(wrists) == 1 else None


def only_count(names: Sequence[str]) -> bool:
    """Tell whether names only count the keypoints: 0 to 20 or 1 to 21, with one word or none."""
    words = [_split(name) for name in names]
    numbers = [int(parts[-1]) if parts and parts[-1].isdecimal() else -1 for parts in words]
    prefixes = {tuple(parts[:-1]) for parts in words}
    known = {*_FINGER_BY_WORD, *_WRIST_WORDS}
    return (
        numbers in (list(range(len(names))), list(range(1, len(names) + 1)))
        and len(prefixes) == 1
        and not known & set(prefixes.pop())
    )


def _split(name: str) -> list[str]:
    """Return the words and numbers of a name, in lower case."""
    return _WORD.findall(_CAMEL_CASE.sub(" ", name).lower())


def _parse(name: str) -> tuple[str, int] | None:
    """Return the finger of a name and its joint's rank, or ("wrist", 0); None if not understood."""
    finger, rank = None, None
    for word in _split(name):
        if word in _FILLERS:
            continue
        if word in _WRIST_WORDS and finger is None and rank is None:
            finger, rank = "wrist", 0
        elif word in _FINGER_BY_WORD and finger is None:
            finger = _FINGER_BY_WORD[word]
        elif rank is None and (word.isdecimal() or word in _JOINT_RANKS):
            rank = int(word[:9]) if word.isdecimal() else _JOINT_RANKS[word]
        else:
            return None
    return None if finger is None or rank is None else (finger, rank)
