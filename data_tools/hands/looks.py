"""What a hand looks like: skin, nails, sleeve and light, and what of it is fixed to the mesh."""

from __future__ import annotations

import numpy as np

from data_tools.hands.hand_mesh import BONES, IS_HAND, HandMesh, Rest
from data_tools.hands.hand_pose import THUMB_HINGE, across
from data_tools.hands.render import VERTEX_FLOATS, Light, Look
from data_tools.hands.splits import held_out

# sRGB of the back of the hand, from light to dark; people lie between two neighbours.
TONES = (
    np.array(
        [
            (246, 218, 200),
            (236, 196, 170),
            (222, 174, 142),
            (200, 146, 110),
            (168, 114, 80),
            (134, 88, 60),
            (102, 66, 46),
            (74, 48, 36),
            (54, 36, 28),
        ]
    )
    / 255.0
)
PALM_OF_DARK = np.array([196, 146, 120]) / 255.0


def random_look(rng: np.random.Generator, split: str) -> Look:
    """Skin, sleeve and light."""
    place = held_out(rng, split) * (len(TONES) - 1.001)
    tone = TONES[int(place)] + (TONES[int(place) + 1] - TONES[int(place)]) * (place % 1)
    back = _linear(np.clip(tone + rng.normal(0, 0.025, 3), 0.02, 1)) * rng.uniform(0.85, 1.1)
    darkness = place / (len(TONES) - 1)
    pink = back * (1.06, 0.9, 0.88)
    palm = pink + (_linear(PALM_OF_DARK) - pink) * 0.75 * darkness
    nail = np.clip(palm * (1.15, 1.05, 1.08) + 0.02, 0, 1)
    if rng.random() < 0.1:
        nail = rng.uniform(0, 0.8, 3)  # painted
    warmth = lambda: np.exp(rng.normal(0, 0.16) * np.array([1, 0.1, -1]) + rng.normal(0, 0.03, 3))  # noqa: E731
    lights = []
    for strength in (
        rng.uniform(0.6, 2.2),
        *rng.uniform(0.05, 0.9, rng.integers(0, 3)),
    ):  # the key light, up to two more
        direction = rng.normal(
            (0, -0.6, -0.6), (0.8, 0.6, 0.6)
        )  # mostly from above and from the camera's side
        lights.append(Light(direction / np.linalg.norm(direction), strength * warmth()))
    ambient = rng.uniform(0.2, 0.9) * warmth()
    # Cameras expose by what they see, in front of the hand for the most part: light from behind counts little.
    level = ambient.mean() + sum(
        max(-light.direction[2], 0.15) * light.colour.mean() for light in lights
    )
    cloth = np.clip(
        0.05 + 0.9 * held_out(rng, split) + rng.normal(0, rng.choice([0.03, 0.2]), 3), 0.02, 1
    )
    return Look(
        back=back,
        palm=palm,
        nail=nail,
        cloth=_linear(cloth),
        lights=lights,
        ambient=ambient,
        bounce=ambient * rng.uniform(0.3, 0.9) * warmth(),
        noise_offset=rng.uniform(0, 50, 3),
        mottling=rng.uniform(0.02, 0.16),
        creases=rng.uniform(0.1, 0.9),
        veins=rng.choice([0.0, rng.uniform(0.1, 0.9)]),
        gloss=rng.uniform(0.1, 0.9),
        roughness=rng.uniform(0.4, 0.75),
        sleeve=rng.choice(
            [9.0, rng.uniform(0.04, 0.2), rng.uniform(0.05, 1.2)], p=(0.45, 0.3, 0.25)
        ),
        cloth_depth=rng.uniform(0.01, 0.06),
        exposure=rng.uniform(0.75, 1.5) / level,
    )


def openness(points: np.ndarray, normals: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Ambient occlusion (N,) in [0.25, 1] of surface points and normals (N, 3) by spheres along the fingers and the palm."""
    chains = keypoints[1:].reshape(5, 4, 3)
    steps = np.array([0.25, 0.6, 0.95])[:, None, None, None]
    fingers = (chains[:, :3] + (chains[:, 1:] - chains[:, :3]) * steps).reshape(-1, 3)
    palm = (
        keypoints[0] + (chains[1:, 0] - keypoints[0]) * np.array([0.35, 0.7, 0.95])[:, None, None]
    ).reshape(-1, 3)
    centres = np.concatenate([fingers, palm]).astype(np.float32)
    radii = np.repeat(np.float32([0.042, 0.065]), [len(fingers), len(palm)])
    points, normals = points.astype(np.float32), normals.astype(np.float32)
    squared = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * points @ centres.T
    squared = np.maximum(squared, radii**2)
    facing = (normals @ centres.T - (normals * points).sum(axis=1)[:, None]) / np.sqrt(squared)
    return np.maximum(np.prod(1 - np.maximum(facing, 0) * radii**2 / squared, axis=1), 0.25)


def arm_place(mesh: HandMesh, rest: Rest) -> np.ndarray:
    """(V,) place along the arm of the base vertices: 0 at the wrist, 1 at the elbow, about 2 at the shoulder; negative on the hand."""
    elbow = rest.heads[BONES.index("upperarm")]
    weights = mesh.weights[:, BONES.index("upperarm")]
    shoulder = rest.points[weights > 0.9].mean(axis=0) - elbow
    lower, upper = (
        rest.points @ elbow / (elbow @ elbow),
        (rest.points - elbow) @ shoulder / (shoulder @ shoulder) / 2,
    )
    return np.where(
        weights > 0.5, 1 + np.maximum(upper, 0), np.minimum(lower, 1 + np.maximum(upper, 0))
    )


def paint(mesh: HandMesh) -> np.ndarray:
    """(S, 16) vertices with everything that does not change with the pose; see `render.LAYOUT`."""
    rest = mesh.shape()
    smooth = mesh.subdivision
    points, weights = smooth @ rest.points, smooth @ mesh.weights
    vertices = np.zeros((len(points), VERTEX_FLOATS), np.float32)
    vertices[:, 6:9] = points
    facing = np.tile((0.0, 0.0, 1.0), (len(BONES), 1))  # the palmar direction of every bone
    vertices[:, 14:] = 9.0
    for finger in range(5):
        joints = rest.keypoints[1 + 4 * finger : 5 + 4 * finger]
        bones = [BONES.index(f"finger{finger + 1}-{j}") for j in (1, 2, 3)]
        along = np.diff(joints, axis=0)
        hinges = [
            across(THUMB_HINGE if finger == 0 else np.array([1.0, 0, 0]), bone) for bone in along
        ]
        facing[bones] = [
            np.cross(hinge, bone / np.linalg.norm(bone)) for hinge, bone in zip(hinges, along)
        ]
        here = weights[:, bones].sum(axis=1) > 0.5
        shares = np.einsum("nkj,kj->nk", points[here, None] - joints[:3], along) / (along**2).sum(
            axis=1
        )
        # 1 + bones travelled, so that the joints lie at 1, 2, 3; the thumb's base shows no crease.
        one, two, three = shares.T
        place = np.where(
            three > 0, 3 + three, np.where(two > 0, 2 + np.minimum(two, 1), 1 + np.minimum(one, 1))
        )
        vertices[here, 13] = np.where((finger == 0) & (place < 1.5), 0, np.clip(place, 0, 3.45))
        tip = here & (weights[:, bones[2]] > 0.5)
        offsets = points[tip] - (joints[2] + 0.66 * along[2])
        sideways = offsets @ hinges[2]
        vertices[tip, 14] = sideways / (0.78 * np.abs(sideways).max())
        vertices[tip, 15] = offsets @ along[2] / (along[2] @ along[2]) / 0.36
    normals = mesh.normals(points)
    inward = ((weights @ facing) * normals).sum(axis=1)
    hand = weights[:, IS_HAND].sum(axis=1)
    vertices[:, 9] = hand * (0.5 + 0.5 * inward) + (1 - hand) * (
        0.35 + 0.15 * inward
    )  # an arm differs less between its sides
    vertices[:, 10] = hand
    vertices[:, 11] = smooth @ arm_place(mesh, rest)
    vertices[:, 12] = 1.0
    return vertices


def _linear(srgb: np.ndarray) -> np.ndarray:
    return np.asarray(srgb) ** 2.2
