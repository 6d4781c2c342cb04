"""Renders clips of hands that move before a background, and says where their keypoints are.

    paths = [HandPath((0.2, 0.5), (0.8, 0.5))]
    for frame in render_clip(np.random.default_rng(0), paths, frame_count=48):
        frame.image, frame.keypoints

The hands of a clip are one person's, and their arms come from below.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np

from data_tools.hands.appearance import random_appearance
from data_tools.hands.backgrounds import random_background
from data_tools.hands.hand_mesh import Rest, labelled_keypoints, posed_joints
from data_tools.hands.hand_pose import BASE_POSES, Pose, bone_transforms, rotation
from data_tools.hands.hand_scene import (
    DEPTH,
    PALM_TO_CAMERA,
    SHADOW_RADIUS,
    HandScene,
    Shot,
    process_scene,
)
from data_tools.hands.render import Appearance, Camera

_SPLIT = "Test"  # clips show no photograph of the sets to train on
_DISTANCE = 5.0  # hand lengths from the camera


class HandPath(NamedTuple):
    """How a hand moves through a clip: straight, at one speed.

    Attributes:
        start: x, y of the hand's middle in the first frame, as shares of the frame.
        end: The same in the last frame.
        length: Of the hand, from wrist to middle fingertip, as a share of the frame's height.
        poses: Two of BASE_POSES; the hand goes from the first to the second and back.
        roll: Degrees of the fingers from up, clockwise.
        is_left: Whether it is a left hand.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    length: float = 0.35
    poses: tuple[str, str] = ("open", "relaxed")
    roll: float = 0.0
    is_left: bool = False


class ClipFrame(NamedTuple):
    """A frame of a clip.

    Attributes:
        image: HxWx3 uint8 BGR.
        keypoints: (N, 21, 2) x, y in pixels of the N hands, in the order of their paths.
    """

    image: np.ndarray
    keypoints: np.ndarray


def render_clip(
    rng: np.random.Generator,
    paths: Sequence[HandPath],
    *,
    frame_count: int,
    size: tuple[int, int] = (640, 480),
    noise: float = 3.0,
) -> Iterator[ClipFrame]:
    """Render a clip. Of hands that overlap, the later one in `paths` is in front.

    Args:
        rng: Draws the person, the light, the background and the noise.
        paths: Of the hands; none for a clip without a hand.
        frame_count: At least 1.
        size: Width and height in pixels.
        noise: Standard deviation of the camera's noise, in grey levels.
    """
    scene, (width, height) = process_scene(), size
    rest, appearance = scene.mesh.random_shape(rng, _SPLIT), random_appearance(rng, _SPLIT)
    background = random_background(rng, height, width, _SPLIT)
    for number in range(frame_count):
        share = number / max(frame_count - 1, 1)
        image, keypoints = background.astype(np.float32), np.empty((len(paths), 21, 2))
        for index, path in enumerate(paths):
            drawn = _draw_hand(scene, rest, appearance, path, share=share, size=size)
            cover = drawn.rgba[..., 3:].astype(np.float32) / 255
            image = image * (1 - cover) + drawn.rgba[..., 2::-1]
            keypoints[index] = drawn.keypoints
        image += rng.normal(0, noise, image.shape)
        yield ClipFrame(image.clip(0, 255).round().astype(np.uint8), keypoints)


class _Drawn(NamedTuple):
    """A hand before nothing: HxWx4 uint8 as `render.Drawing` has it, and its keypoints (21, 2)."""

    rgba: np.ndarray
    keypoints: np.ndarray


def _draw_hand(
    scene: HandScene,
    rest: Rest,
    appearance: Appearance,
    path: HandPath,
    *,
    share: float,
    size: tuple[int, int],
) -> _Drawn:
    """Draw a hand where it is after a share of its path."""
    width, height = size
    first, second = (BASE_POSES[name] for name in path.poses)
    transforms = bone_transforms(_blend(first, second, (1 - np.cos(2 * np.pi * share)) / 2), rest)
    # The middle is that of the first pose: fingers that bend do not move the arm.
    middle = posed_joints(bone_transforms(first, rest), rest).mean(axis=0)
    turn = rotation((0, 0, 1), -path.roll if path.is_left else path.roll) @ PALM_TO_CAMERA
    points, joints = (
        (part - middle) @ turn.T + (0, 0, _DISTANCE)
        for part in (scene.mesh.skin(rest, transforms), posed_joints(transforms, rest))
    )
    x, y = np.array(path.start) + share * np.subtract(path.end, path.start)
    camera = Camera(
        width,
        height,
        focal=path.length * height * _DISTANCE,
        cx=(1 - x if path.is_left else x) * (width - 1),
        cy=y * (height - 1),
        near=0.05 * _DISTANCE,
        far=_DISTANCE + DEPTH,
    )
    shot = Shot(points, joints, camera, path.poses[0], {})
    rgba = scene.renderer.draw(
        scene.make_vertices(shot, appearance),
        camera,
        appearance,
        centre=joints.mean(axis=0),
        radius=SHADOW_RADIUS,
    ).rgba
    pixels = camera.project(labelled_keypoints(joints))
    if path.is_left:  # the mesh is a right hand
        rgba, pixels[:, 0] = rgba[:, ::-1], width - 1 - pixels[:, 0]
    return _Drawn(rgba, pixels)


def _blend(first: Pose, second: Pose, share: float) -> Pose:
    """Return the pose between two poses: the first at share 0, the second at 1."""
    angles = {}
    for field in fields(Pose):
        start, end = getattr(first, field.name), getattr(second, field.name)
        angles[field.name] = start + (end - start) * share
    return Pose(**angles)
