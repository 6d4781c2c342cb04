"""Poses of the hand: joint angles within human reach, and the bone transforms that they make.

Angles are anatomical, in degrees: a straight finger in the plane of the palm has zero flexion, flexion bends towards the
palm, spread turns away from the middle finger. The thumb's base is given by the direction of its metacarpal: `raise_` out
of the palm's plane and `open_` away from the index finger, within that plane.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data_tools.hands.hand_mesh import BONES, PARENTS, Rest, posed_keypoints

# Where the four fingers point in the palm's plane, towards the thumb, at spread 1.
FAN = np.array([13.0, 1.0, -11.0, -23.0])
MCP, PIP, DIP, SPREAD = (-25.0, 92.0), (-5.0, 108.0), (-8.0, 75.0), (-1.0, 1.3)
THUMB = np.transpose([(0.0, 65.0), (5.0, 75.0), (-15.0, 45.0), (-15.0, 60.0), (-25.0, 80.0)])
WRIST = np.transpose([(-60.0, 60.0), (-25.0, 20.0)])
# The thumb's two outer joints bend around the width of its nail, measured on the rest mesh.
THUMB_HINGE = np.array([-0.05, -0.57, 0.82])
DIP_OF_PIP = 0.62  # the two outer joints share a tendon
TOUCH = 0.072  # hand lengths: the axes of two fingers cannot come closer than their thickness
TRIES = 12


@dataclass
class Pose:
    """mcp, pip, dip: flexion of index..pinky (4,); spread: factor of FAN (4,); thumb: (raise_, open_, roll, mcp, ip);
    wrist: (flexion, deviation to the thumb's side); elbow: bend beyond the rest pose. Degrees, but for spread."""

    mcp: np.ndarray
    pip: np.ndarray
    dip: np.ndarray
    spread: np.ndarray
    thumb: np.ndarray
    wrist: np.ndarray = field(default_factory=lambda: np.zeros(2))
    elbow: float = 0.0


def _base(thumb, mcp, pip, spread):
    """A base pose; a single number stands for all four fingers."""
    mcp, pip, spread = (
        np.broadcast_to(np.asarray(value, float), 4).copy() for value in (mcp, pip, spread)
    )
    return Pose(mcp, pip, DIP_OF_PIP * pip, spread, np.asarray(thumb, float))


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
    rng: np.random.Generator,
    rest: Rest,
    names: tuple[str, ...] = tuple(BASE_POSES),
    common: float = 0.4,
) -> tuple[str, Pose]:
    """A random pose in which no finger runs through another: the first such of a few draws, or else the best of them.

    names: the base poses to draw from, this share of the time those of COMMON; the name of the one that it is closest to is
    returned as well.
    """
    best, cost = None, np.inf
    for _ in range(TRIES):
        pose = _draw(rng, names, common)
        found = collision(bone_transforms(pose[1], rest), rest)
        if found < cost:
            best, cost = pose, found
        if cost < 0.01:
            break
    return best


def _draw(rng: np.random.Generator, names: tuple[str, ...], common: float) -> tuple[str, Pose]:
    """A base pose, or two blended, or every finger for itself; then perturbed and brought back within the limits."""
    at_ease = [name for name in COMMON if name in names]
    pools = [at_ease if at_ease and rng.random() < common else names for _ in range(2)]
    chosen = [pool[rng.integers(len(pool))] for pool in pools]
    one, two = (BASE_POSES[name] for name in chosen)
    share = rng.choice([0.0, rng.uniform(0, 0.5), rng.uniform(0, 1)], p=[0.45, 0.3, 0.25])
    blend = np.full(4, share)
    if rng.random() < 0.2:  # each finger curled for itself
        blend = np.clip(share + rng.normal(0, 0.5, 4), 0, 1)
    noise = rng.uniform(3, 12)
    common = rng.normal(0, noise, 2)  # neighbouring fingers move together
    mcp = one.mcp + (two.mcp - one.mcp) * blend + common[0] + rng.normal(0, 0.7 * noise, 4)
    pip = one.pip + (two.pip - one.pip) * blend + common[1] + rng.normal(0, 0.7 * noise, 4)
    dip = DIP_OF_PIP * pip + rng.normal(0, 5, 4)
    spread = (
        one.spread
        + (two.spread - one.spread) * blend
        + rng.normal(0, 0.12)
        + rng.normal(0, 0.08, 4)
    )
    thumb = one.thumb + (two.thumb - one.thumb) * share + rng.normal(0, 0.8 * noise, 5)
    return chosen[int(share > 0.5)], Pose(
        np.clip(mcp, *MCP),
        np.clip(pip, *PIP),
        np.clip(dip, *DIP),
        np.clip(spread, *SPREAD),
        np.clip(thumb, *THUMB),
        wrist=np.clip(rng.normal(0, (22, 9)), *WRIST),
        elbow=rng.uniform(-25, 60),
    )


def bone_transforms(pose: Pose, rest: Rest) -> np.ndarray:
    """(B, 4, 4) transforms of `rest`'s space, rest to posed, in the hand's frame (the forearm moves, not the hand)."""
    turns = {
        "forearm": rotation((1, 0, 0), -pose.wrist[0]) @ rotation((0, 0, 1), pose.wrist[1]),
        "upperarm": rotation(_elbow_axis(rest), pose.elbow),
    }
    cupping = np.clip(pose.mcp[2:].mean() / 90, 0, 1) * np.array(
        [4.0, 9.0]
    )  # the palm hollows as the hand closes
    turns["metacarpal3"], turns["metacarpal4"] = (rotation((1, 0, 0), angle) for angle in cupping)
    for finger in range(4):
        joints = rest.keypoints[5 + 4 * finger : 9 + 4 * finger]
        bones = np.diff(joints, axis=0)
        axis = across(np.array([1.0, 0, 0]), bones[0])
        lifts = [np.degrees(np.arctan2(bone[2], np.hypot(bone[0], bone[1]))) for bone in bones]
        heading = np.degrees(np.arctan2(bones[0][0], bones[0][1]))
        turn = rotation((0, 0, 1), heading - FAN[finger] * pose.spread[finger])
        name = f"finger{finger + 2}"
        turns[f"{name}-1"] = turn @ rotation(axis, pose.mcp[finger] - lifts[0])
        turns[f"{name}-2"] = rotation(axis, pose.pip[finger] - (lifts[1] - lifts[0]))
        turns[f"{name}-3"] = rotation(axis, pose.dip[finger] - (lifts[2] - lifts[1]))
    turns["finger1-1"], turns["finger1-2"], turns["finger1-3"] = _thumb(
        pose.thumb, rest.keypoints[1:5]
    )

    transforms = np.empty((len(BONES), 4, 4))
    for bone, (name, parent) in enumerate(zip(BONES, PARENTS)):
        local = np.eye(4)
        if name in turns:
            local[:3, :3] = turns[name]
            local[:3, 3] = rest.heads[bone] - turns[name] @ rest.heads[bone]
        transforms[bone] = local if parent < 0 else transforms[parent] @ local
    return transforms


def collision(transforms: np.ndarray, rest: Rest) -> float:
    """How deep, in hand lengths, the axes of the fingers and of the palm come into each other; 0 where they do not."""
    joints = posed_keypoints(transforms, rest)
    chains = joints[1:].reshape(5, 4, 3)
    steps = np.linspace(0.15, 1.0, 5)[:, None]
    bones = [[chain[j] + (chain[j + 1] - chain[j]) * steps for j in range(3)] for chain in chains]
    palm = (
        joints[0] + (joints[[5, 9, 13, 17]] - joints[0]) * np.linspace(0.3, 0.95, 6)[:, None, None]
    )
    # The thumb's first bone lies in the palm, and the fingers' first bones grow out of it: neither can collide with it.
    fingers = [np.concatenate(bones[0][1:])] + [np.concatenate(finger) for finger in bones[1:]]
    outer = [np.concatenate(finger[1:]) for finger in bones]
    pairs = [(fingers[a], fingers[b]) for a in range(5) for b in range(a + 1, 5)] + [
        (part, palm.reshape(-1, 3)) for part in outer
    ]
    gaps = [np.sqrt(((one[:, None] - other) ** 2).sum(axis=-1).min()) for one, other in pairs]
    return float(np.maximum(TOUCH - np.array(gaps), 0).sum())


def _thumb(angles: np.ndarray, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotations of the thumb's three bones. angles: Pose.thumb; joints: its rest keypoints (4, 3)."""
    bones = np.diff(joints, axis=0)
    bones /= np.linalg.norm(bones, axis=1, keepdims=True)
    raise_, open_ = np.radians(angles[:2])
    aim = np.array([np.cos(raise_) * np.sin(open_), np.cos(raise_) * np.cos(open_), np.sin(raise_)])
    base = rotation(aim, angles[2]) @ _shortest_turn(bones[0], aim)
    axis = across(THUMB_HINGE, bones[1])
    middle, last = (_signed_angle(bones[i], bones[i + 1], axis) for i in range(2))
    return base, rotation(axis, angles[3] - middle), rotation(axis, angles[4] - last)


def _elbow_axis(rest: Rest) -> np.ndarray:
    """Any axis across the forearm serves: the camera looks at the hand."""
    return across(np.array([1.0, 0.0, 0.0]), rest.heads[BONES.index("upperarm")])


def across(axis: np.ndarray, along: np.ndarray) -> np.ndarray:
    """`axis` made a unit vector perpendicular to `along`."""
    along = along / np.linalg.norm(along)
    axis = axis - along * (axis @ along)
    return axis / np.linalg.norm(axis)


def _signed_angle(a: np.ndarray, b: np.ndarray, axis: np.ndarray) -> float:
    """Degrees from a to b around `axis`."""
    return float(np.degrees(np.arctan2(np.cross(a, b) @ axis, a @ b)))


def rotation(axis, degrees: float) -> np.ndarray:
    """The right-handed rotation (3, 3) around `axis` (Rodrigues)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _shortest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The rotation that takes unit vector a to unit vector b the short way."""
    axis = np.cross(a, b)
    if np.linalg.norm(axis) < 1e-9:
        return np.eye(3)
    return rotation(axis, np.degrees(np.arctan2(np.linalg.norm(axis), a @ b)))
