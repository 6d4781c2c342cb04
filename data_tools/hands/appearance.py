"""Draws how a hand looks: skin, nails, sleeve and light, and what of it is fixed to the mesh."""

import numpy as np

from data_tools.hands import vertex_layout
from data_tools.hands.hand_mesh import BONES, IS_HAND, HandMesh, Rest, bone_points
from data_tools.hands.hand_pose import THUMB_HINGE, perpendicular
from data_tools.hands.render import Appearance, Light, to_linear
from data_tools.hands.splits import draw_for_split

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
FAR_FROM_NAIL = 9.0  # a place across and along the nail of the skin that has none
NO_SLEEVE = 9.0  # a place beyond the shoulder, where a sleeve begins that is not there


def random_appearance(rng: np.random.Generator, split: str) -> Appearance:
    """Draw skin, sleeve and light.

    Args:
        rng: Draws everything.
        split: "Train" or "Test".
    """

    def draw_warmth() -> np.ndarray:
        """Draw a random colour (3,) of light around white."""
        return np.exp(rng.normal(0, 0.16) * np.array([1, 0.1, -1]) + rng.normal(0, 0.03, 3))

    position = draw_for_split(rng, split) * (len(TONES) - 1.001)  # between two of TONES
    index = int(position)
    tone = TONES[index] + (TONES[index + 1] - TONES[index]) * (position % 1)
    back = to_linear(np.clip(tone + rng.normal(0, 0.025, 3), 0.02, 1)) * rng.uniform(0.85, 1.1)
    darkness = position / (len(TONES) - 1)
    pink = back * (1.06, 0.9, 0.88)
    palm = pink + (to_linear(PALM_OF_DARK) - pink) * 0.75 * darkness
    nail = np.clip(palm * (1.15, 1.05, 1.08) + 0.02, 0, 1)
    if rng.random() < 0.1:
        nail = rng.uniform(0, 0.8, 3)  # painted
    lights = []
    # The key light, and up to two more.
    for strength in (rng.uniform(0.6, 2.2), *rng.uniform(0.05, 0.9, rng.integers(0, 3))):
        # Most light comes from above and from the camera's side.
        direction = rng.normal((0, -0.6, -0.6), (0.8, 0.6, 0.6))
        lights.append(Light(direction / np.linalg.norm(direction), strength * draw_warmth()))
    ambient = rng.uniform(0.2, 0.9) * draw_warmth()
    # Cameras expose by the light that they see, which falls on the front of the hand for the most
    # part: light from behind counts little.
    level = ambient.mean() + sum(
        max(-light.direction[2], 0.15) * light.colour.mean() for light in lights
    )
    cloth = np.clip(
        0.05 + 0.9 * draw_for_split(rng, split) + rng.normal(0, rng.choice([0.03, 0.2]), 3), 0.02, 1
    )
    return Appearance(
        back=back,
        palm=palm,
        nail=nail,
        cloth=to_linear(cloth),
        lights=lights,
        ambient=ambient,
        bounce=ambient * rng.uniform(0.3, 0.9) * draw_warmth(),
        noise_offset=rng.uniform(0, 50, 3),
        mottling=rng.uniform(0.02, 0.16),
        creases=rng.uniform(0.1, 0.9),
        veins=rng.choice([0.0, rng.uniform(0.1, 0.9)]),
        gloss=rng.uniform(0.1, 0.9),
        roughness=rng.uniform(0.4, 0.75),
        sleeve=rng.choice(
            [NO_SLEEVE, rng.uniform(0.04, 0.2), rng.uniform(0.05, 1.2)], p=(0.45, 0.3, 0.25)
        ),
        cloth_depth=rng.uniform(0.01, 0.06),
        exposure=rng.uniform(0.75, 1.5) / level,
    )


def compute_openness(points: np.ndarray, normals: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Compute the ambient occlusion by spheres along the fingers and the palm.

    Args:
        points: (N, 3) of the surface.
        normals: (N, 3) of the surface.
        joints: (21, 3).

    Returns:
        (N,) share of the surrounding light that arrives, in [0.25, 1].
    """
    spheres = bone_points(joints, (0.25, 0.6, 0.95), (0.35, 0.7, 0.95))
    fingers, palm = (points_of_part.reshape(-1, 3) for points_of_part in spheres)
    centres = np.concatenate([fingers, palm]).astype(np.float32)
    radii = np.repeat(np.array([0.042, 0.065], np.float32), [len(fingers), len(palm)])
    points, normals = points.astype(np.float32), normals.astype(np.float32)
    squared = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1) - 2 * points @ centres.T
    squared = np.maximum(squared, radii**2)
    facing = (normals @ centres.T - (normals * points).sum(axis=1)[:, None]) / np.sqrt(squared)
    return np.maximum(np.prod(1 - np.maximum(facing, 0) * radii**2 / squared, axis=1), 0.25)


def arm_positions(mesh: HandMesh, rest: Rest) -> np.ndarray:
    """Return the position (V,) of each base vertex along the arm.

    It is 0 at the wrist, 1 at the elbow and about 2 at the shoulder; on the hand it is negative.
    """
    elbow = rest.heads[BONES.index("upperarm")]
    weights = mesh.weights[:, BONES.index("upperarm")]
    middle = rest.points[weights > 0.9].mean(axis=0) - elbow  # of the upper arm
    lower = rest.points @ elbow / (elbow @ elbow)
    upper = (rest.points - elbow) @ middle / (middle @ middle) / 2
    return np.where(
        weights > 0.5, 1 + np.maximum(upper, 0), np.minimum(lower, 1 + np.maximum(upper, 0))
    )


def paint_vertices(mesh: HandMesh) -> np.ndarray:
    """Return the vertices (S, 16) with the columns that do not change with the pose.

    See `vertex_layout` for the columns.
    """
    rest = mesh.shape()
    smooth = mesh.subdivision
    points, weights = smooth @ rest.points, smooth @ mesh.weights
    vertices = np.zeros((len(points), vertex_layout.VERTEX_FLOATS), np.float32)
    vertices[:, vertex_layout.REST] = points
    facing = np.tile((0.0, 0.0, 1.0), (len(BONES), 1))  # the palmar direction of every bone
    vertices[:, [vertex_layout.NAIL_ACROSS, vertex_layout.NAIL_ALONG]] = FAR_FROM_NAIL
    for finger in range(5):
        joints = rest.joints[1 + 4 * finger : 5 + 4 * finger]
        bones = [BONES.index(f"finger{finger + 1}-{j}") for j in (1, 2, 3)]
        along = np.diff(joints, axis=0)
        hinges = [
            perpendicular(THUMB_HINGE if finger == 0 else np.array([1.0, 0, 0]), bone)
            for bone in along
        ]
        facing[bones] = [
            np.cross(hinge, bone / np.linalg.norm(bone)) for hinge, bone in zip(hinges, along)
        ]
        on_finger = weights[:, bones].sum(axis=1) > 0.5
        shares = np.einsum("nkj,kj->nk", points[on_finger, None] - joints[:3], along) / (
            along**2
        ).sum(axis=1)
        # 1 + bones travelled, so that the joints lie at 1, 2, 3; the thumb's base shows no crease.
        first, second, third = shares.T
        phase = np.where(
            third > 0,
            3 + third,
            np.where(second > 0, 2 + np.minimum(second, 1), 1 + np.minimum(first, 1)),
        )
        vertices[on_finger, vertex_layout.JOINT_PHASE] = np.where(
            (finger == 0) & (phase < 1.5), 0, np.clip(phase, 0, 3.45)
        )
        # A nail's middle lies two thirds along the last bone.
        on_tip = on_finger & (weights[:, bones[2]] > 0.5)
        offsets = points[on_tip] - (joints[2] + 0.66 * along[2])
        sideways = offsets @ hinges[2]
        vertices[on_tip, vertex_layout.NAIL_ACROSS] = sideways / (0.78 * np.abs(sideways).max())
        vertices[on_tip, vertex_layout.NAIL_ALONG] = (
            offsets @ along[2] / (along[2] @ along[2]) / 0.36
        )
    normals = mesh.normals(points)
    inward = ((weights @ facing) * normals).sum(axis=1)
    hand = weights[:, IS_HAND].sum(axis=1)
    # An arm differs less between its sides than a hand.
    vertices[:, vertex_layout.PALM] = hand * (0.5 + 0.5 * inward) + (1 - hand) * (
        0.35 + 0.15 * inward
    )
    vertices[:, vertex_layout.HAND] = hand
    vertices[:, vertex_layout.ARM] = smooth @ arm_positions(mesh, rest)
    vertices[:, vertex_layout.OPENNESS] = 1.0
    return vertices
