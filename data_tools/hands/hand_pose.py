"""Draws poses of the hand: joint angles within human reach, and the bone transforms they make.

Angles are anatomical, in degrees: a straight finger in the plane of the palm has zero flexion,
flexion bends towards the palm, spread turns away from the middle finger. The thumb's base is given
by the direction of its metacarpal: `raise_` out of the palm's plane and `open_` away from the index
finger, within that plane.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from data_tools.hands.hand_mesh import (
    BONES,
    FINGER_BASES,
    PARENTS,
    THUMB_BASE,
    Rest,
    bone_points,
    normalize_rows,
    posed_joints,
)

# Where the four fingers point in the palm's plane, towards the thumb, at spread 1.
FAN = np.array([13.0, 1.0, -11.0, -23.0])
# The reach of each joint: the least and the greatest angle, as in Pose.
MCP_REACH, PIP_REACH, DIP_REACH = (-25.0, 92.0), (-5.0, 108.0), (-8.0, 75.0)
SPREAD_REACH = (-1.0, 1.3)
THUMB_REACH = np.transpose([(0.0, 65.0), (5.0, 75.0), (-15.0, 45.0), (-15.0, 60.0), (-25.0, 80.0)])
WRIST_REACH = np.transpose([(-60.0, 60.0), (-25.0, 20.0)])
# The thumb's two outer joints bend around the width of its nail, measured on the rest mesh.
THUMB_HINGE = np.array([-0.05, -0.57, 0.82])
DIP_OF_PIP = 0.62  # the two outer joints share a tendon
TOUCH = 0.072  # hand lengths: the axes of two fingers cannot come closer than their thickness
NO_COLLISION = 0.01  # hand lengths: a collision below this is none
TRIES = 12


@dataclass
class Pose:
    """The angles of a hand, in degrees.

    Attributes:
        mcp: (4,) flexion of the knuckles, index to pinky.
        pip: (4,) flexion of the middle joints.
        dip: (4,) flexion of the last joints.
        spread: (4,) factor of FAN, no angle.
        thumb: (raise_, open_, roll, mcp, ip).
        wrist: (flexion, deviation to the thumb's side).
        elbow: Bend beyond the rest pose.
    """

    mcp: np.ndarray
    pip: np.ndarray
    dip: np.ndarray
    spread: np.ndarray
    thumb: np.ndarray
    wrist: np.ndarray = field(default_factory=lambda: np.zeros(2))
    elbow: float = 0.0


class NamedPose(NamedTuple):
    """A pose, and the name of the base pose that it is closest to."""

    name: str
    pose: Pose


FingerValues = float | Sequence[float]  # of index to pinky; a single number stands for all four


def _base(
    thumb: Sequence[float], mcp: FingerValues, pip: FingerValues, spread: FingerValues
) -> Pose:
    """Return a base pose, whose last joints follow the middle ones."""
    mcps, pips, spreads = (
        np.broadcast_to(np.asarray(values, float), 4).copy() for values in (mcp, pip, spread)
    )
    return Pose(mcps, pips, DIP_OF_PIP * pips, spreads, np.asarray(thumb, float))


# thumb = (raise_, open_, roll, mcp, ip)
BASE_POSES = {
    "open": _base((20, 55, 0, 0, 0), 0, 5, 0.9),
    "spread": _base((20, 65, 0, -5, -10), -8, 0, 1.25),
    "flat": _base((15, 30, 0, 10, 0), 5, 3, 0.15),
    "thumb in palm": _base((28, 20, 25, 40, 45), 0, 5, 0.3),
    "relaxed": _base((35, 40, 5, 15, 15), (20, 25, 30, 35), (25, 30, 35, 35), 0.6),
    "cup": _base((45, 45, 10, 10, 15), 35, 30, 0.4),
    "claw": _base((35, 55, 5, 5, 40), 0, (70, 75, 75, 70), 0.9),
    "grip": _base((52, 42, 20, 15, 25), (38, 42, 42, 42), 45, 0.4),
    "fist": _base((42, 28, 25, 32, 58), (72, 75, 78, 78), (90, 92, 92, 90), 0.35),
    "thumb up": _base((15, 60, 0, -5, -10), (70, 74, 77, 78), (90, 92, 92, 90), 0.35),
    "point": _base((42, 28, 25, 32, 58), (5, 74, 77, 78), (5, 92, 92, 88), 0.4),
    "gun": _base((15, 62, 0, 0, -5), (3, 73, 75, 78), (3, 92, 92, 88), 0.4),
    "victory": _base((48, 22, 25, 35, 45), (3, 3, 72, 75), (3, 3, 92, 88), (1.2, -0.9, 0.35, 0.35)),
    "three": _base((46, 18, 25, 38, 50), (2, 2, 2, 75), (4, 4, 4, 88), (0.9, 0.9, 0.9, 0.3)),
    "four": _base((29, 20, 25, 42, 48), 2, 4, 0.9),
    "thumb index middle": _base((20, 60, 0, -3, -5), (2, 2, 73, 75), (3, 3, 92, 88), 0.9),
    "horns": _base((48, 22, 25, 35, 45), (3, 75, 77, 3), (4, 92, 92, 4), (0.6, 0.35, 0.35, 0.9)),
    "shaka": _base((15, 65, 0, -5, -10), (70, 74, 75, 5), (90, 92, 92, 5), (0.4, 0.35, 0.35, 1.0)),
    "pinky": _base((48, 24, 25, 33, 45), (70, 74, 75, 3), (90, 92, 92, 4), 0.4),
    "pinch": _base((58, 40, 25, 12, 25), (46, 20, 15, 12), (46, 25, 20, 15), 0.6),
    "ok": _base((58, 40, 25, 12, 28), (49, 8, 3, 0), (48, 8, 5, 5), (0.6, 0.8, 0.9, 1.0)),
    "pen": _base((52, 37, 20, 15, 25), (46, 53, 62, 68), (38, 48, 58, 62), 0.35),
    "hook": _base((20, 40, 0, 10, 15), 10, (85, 90, 90, 85), 0.3),
    "table top": _base((35, 35, 10, 15, 10), 75, 12, 0.3),
}

# The hand at ease is what most photographs show.
COMMON = ("open", "spread", "flat", "relaxed")


def random_pose(
    rng: np.random.Generator, rest: Rest, names: tuple[str, ...], common: float
) -> NamedPose:
    """Draw a pose in which no finger runs through another.

    It is the first such of a few draws, or else the one of them that collides least.

    Args:
        rng: Draws the pose.
        rest: The hand to be posed.
        names: The base poses to draw from.
        common: Share of the draws that take one of COMMON.
    """
    best, least_depth = None, np.inf
    for _ in range(TRIES):
        candidate = _draw(rng, names, common)
        depth = collision_depth(bone_transforms(candidate.pose, rest), rest)
        if best is None or depth < least_depth:
            best, least_depth = candidate, depth
        if least_depth < NO_COLLISION:
            break
    assert best is not None  # TRIES is at least 1
    return best


def _draw(rng: np.random.Generator, names: tuple[str, ...], common: float) -> NamedPose:
    """Draw a base pose, or two blended, or every finger for itself; perturb it, within reach."""
    at_ease = tuple(name for name in COMMON if name in names)
    pools = [at_ease if at_ease and rng.random() < common else names for _ in range(2)]
    chosen = [pool[rng.integers(len(pool))] for pool in pools]
    first, second = (BASE_POSES[name] for name in chosen)
    share = rng.choice([0.0, rng.uniform(0, 0.5), rng.uniform(0, 1)], p=[0.45, 0.3, 0.25])
    blend = np.full(4, share)
    if rng.random() < 0.2:  # each finger curled for itself
        blend = np.clip(share + rng.normal(0, 0.5, 4), 0, 1)
    noise = rng.uniform(3, 12)
    shared = rng.normal(0, noise, 2)  # neighbouring fingers move together
    mcp = first.mcp + (second.mcp - first.mcp) * blend
    mcp = mcp + shared[0] + rng.normal(0, 0.7 * noise, 4)
    pip = first.pip + (second.pip - first.pip) * blend
    pip = pip + shared[1] + rng.normal(0, 0.7 * noise, 4)
    dip = DIP_OF_PIP * pip + rng.normal(0, 5, 4)
    spread = first.spread + (second.spread - first.spread) * blend
    spread = spread + rng.normal(0, 0.12) + rng.normal(0, 0.08, 4)
    thumb = first.thumb + (second.thumb - first.thumb) * share + rng.normal(0, 0.8 * noise, 5)
    pose = Pose(
        np.clip(mcp, *MCP_REACH),
        np.clip(pip, *PIP_REACH),
        np.clip(dip, *DIP_REACH),
        np.clip(spread, *SPREAD_REACH),
        np.clip(thumb, *THUMB_REACH),
        wrist=np.clip(rng.normal(0, (22, 9)), *WRIST_REACH),
        elbow=rng.uniform(-25, 60),
    )
    return NamedPose(chosen[int(share > 0.5)], pose)


def bone_transforms(pose: Pose, rest: Rest) -> np.ndarray:
    """Return the transforms (B, 4, 4) of the bones, rest to posed, in the hand's frame.

    The wrist moves the forearm, not the hand.
    """
    turns = {
        "forearm": rotation((1, 0, 0), -pose.wrist[0]) @ rotation((0, 0, 1), pose.wrist[1]),
        "upperarm": rotation(_elbow_axis(rest), pose.elbow),
    }
    # The palm hollows as the hand closes.
    cupping = np.clip(pose.mcp[2:].mean() / 90, 0, 1) * np.array([4.0, 9.0])
    turns["metacarpal3"], turns["metacarpal4"] = (rotation((1, 0, 0), angle) for angle in cupping)
    for finger, base in enumerate(FINGER_BASES):
        bones = np.diff(rest.joints[base : base + 4], axis=0)
        axis = perpendicular(np.array([1.0, 0, 0]), bones[0])
        lifts = [np.degrees(np.arctan2(bone[2], np.hypot(bone[0], bone[1]))) for bone in bones]
        heading = np.degrees(np.arctan2(bones[0][0], bones[0][1]))
        turn = rotation((0, 0, 1), heading - FAN[finger] * pose.spread[finger])
        name = f"finger{finger + 2}"
        turns[f"{name}-1"] = turn @ rotation(axis, pose.mcp[finger] - lifts[0])
        turns[f"{name}-2"] = rotation(axis, pose.pip[finger] - (lifts[1] - lifts[0]))
        turns[f"{name}-3"] = rotation(axis, pose.dip[finger] - (lifts[2] - lifts[1]))
    turns["finger1-1"], turns["finger1-2"], turns["finger1-3"] = _thumb_rotations(
        pose.thumb, rest.joints[THUMB_BASE : THUMB_BASE + 4]
    )

    transforms = np.empty((len(BONES), 4, 4))
    for bone, (name, parent) in enumerate(zip(BONES, PARENTS)):
        local = np.eye(4)
        if name in turns:
            local[:3, :3] = turns[name]
            local[:3, 3] = rest.heads[bone] - turns[name] @ rest.heads[bone]
        transforms[bone] = local if parent < 0 else transforms[parent] @ local
    return transforms


def collision_depth(transforms: np.ndarray, rest: Rest) -> float:
    """Return how deep, in hand lengths, fingers and palm run into each other; 0: they do not.

    Args:
        transforms: (B, 4, 4) of the bones, rest to posed.
        rest: The hand at rest.
    """
    bones, palm = bone_points(
        posed_joints(transforms, rest), np.linspace(0.15, 1.0, 5), np.linspace(0.3, 0.95, 6)
    )
    # The thumb's first bone lies in the palm, and the fingers' first bones grow out of it: neither
    # can collide with it.
    outer = [bones[:, finger, 1:].reshape(-1, 3) for finger in range(5)]
    fingers = outer[:1] + [bones[:, finger].reshape(-1, 3) for finger in range(1, 5)]
    pairs = [*itertools.combinations(fingers, 2), *((part, palm.reshape(-1, 3)) for part in outer)]
    gaps = [np.sqrt(((a[:, None] - b) ** 2).sum(axis=-1).min()) for a, b in pairs]
    return float(np.maximum(TOUCH - np.array(gaps), 0).sum())


def _thumb_rotations(
    angles: np.ndarray, joints: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rotations of the thumb's three bones.

    Args:
        angles: `Pose.thumb`.
        joints: (4, 3) of the thumb at rest.
    """
    bones = normalize_rows(np.diff(joints, axis=0))
    raise_, open_ = np.radians(angles[:2])
    aim = np.array([np.cos(raise_) * np.sin(open_), np.cos(raise_) * np.cos(open_), np.sin(raise_)])
    base = rotation(aim, angles[2]) @ _shortest_turn(bones[0], aim)
    axis = perpendicular(THUMB_HINGE, bones[1])
    middle, last = (_signed_angle(bones[i], bones[i + 1], axis) for i in range(2))
    return base, rotation(axis, angles[3] - middle), rotation(axis, angles[4] - last)


def _elbow_axis(rest: Rest) -> np.ndarray:
    """Return an axis across the forearm; any serves, as the camera looks at the hand."""
    return perpendicular(np.array([1.0, 0.0, 0.0]), rest.heads[BONES.index("upperarm")])


def perpendicular(axis: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return the unit vector perpendicular to `along` that is closest to `axis`."""
    along = along / np.linalg.norm(along)
    axis = axis - along * (axis @ along)
    return axis / np.linalg.norm(axis)


def _signed_angle(a: np.ndarray, b: np.ndarray, axis: np.ndarray) -> float:
    """Return the degrees from a to b around `axis`."""
    return float(np.degrees(np.arctan2(np.cross(a, b) @ axis, a @ b)))


def rotation(axis: Sequence[float] | np.ndarray, degrees: float) -> np.ndarray:
    """Return the right-handed rotation (3, 3) around `axis` (Rodrigues)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _shortest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the rotation that takes unit vector a to unit vector b the short way."""
    axis = np.cross(a, b)
    if np.linalg.norm(axis) < 1e-9:
        return np.eye(3)
    return rotation(axis, np.degrees(np.arctan2(np.linalg.norm(axis), a @ b)))
