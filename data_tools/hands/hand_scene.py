"""Renders a random image of a hand and says where its keypoints are.

    from data_tools.hands.hand_scene import render
    rendered = render(np.random.default_rng(0), 400, "Train")
    rendered.image, rendered.mask, rendered.keypoints, rendered.states

The person, the pose, the view, the light, the surroundings and the camera are drawn at random.
`HandScene` holds what is expensive to make (meshes, OpenGL context); `process_scene` keeps one for
each process.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from data_tools.hands import objects, shaders, vertex_layout
from data_tools.hands.appearance import (
    TONES,
    arm_positions,
    compute_openness,
    paint_vertices,
    random_appearance,
)
from data_tools.hands.body import body_mesh
from data_tools.hands.hand_mesh import (
    FINGER_BASES,
    IS_HAND,
    THUMB_BASE,
    WRIST,
    hand_mesh,
    labelled_keypoints,
    posed_joints,
)
from data_tools.hands.hand_pose import BASE_POSES, bone_transforms, random_pose, rotation
from data_tools.hands.photograph import add_background, simulate_camera
from data_tools.hands.render import (
    HAND_SHARE,
    Appearance,
    Camera,
    Renderer,
    Surface,
    to_linear,
)
from mcc_caffe.core.geometry import lie_inside
from mcc_caffe.paper import KEYPOINT_COUNT

# From the frame of a hand, or of a body, to that of a camera which sees the palm, or the front,
# with the fingers, or the head, up.
PALM_TO_CAMERA = np.diag([1.0, -1.0, -1.0])
DISTANCE = (2.0, 8.0)  # hand lengths from camera to hand: strong to weak perspective
DEPTH = 22  # hand lengths that the camera sees beyond the hand
LEAST_KEYPOINTS = 10  # labelled; where objects leave fewer, the objects are left out
HIDING = ("held", "crossing")  # how the names of objects begin that may be left out
SHADOW_RADIUS = 1.3  # hand lengths around the hand within which shadows fall
TRIES = 25
PERSON_TRIES = 6
# From a keypoint to the skin over it and a little more, in hand lengths: an object that lies
# further in front of the keypoint hides it.
COVER = np.full(KEYPOINT_COUNT, 0.075)
COVER[WRIST] = 0.13
COVER[THUMB_BASE] = 0.12
COVER[[THUMB_BASE + 1, *FINGER_BASES]] = 0.1
DISC = 0.02  # radius within which a keypoint is looked for, hand lengths
DISC_DIRECTIONS = 8  # in which its rim is looked at

# The states of a keypoint, and which of them are labelled under a convention. OneHand10K labels
# what can be seen or judged from the rest of the hand (Fig. 4), so that a keypoint behind the hand
# itself counts and one behind an object does not.
VISIBLE, SELF, OBJECT, OUTSIDE = KEYPOINT_STATES = ("visible", "self", "object", "outside")
CONVENTIONS = {"paper": (VISIBLE, SELF), "visible": (VISIBLE,), "all": (VISIBLE, SELF, OBJECT)}


@dataclass(frozen=True)
class Repertoire:
    """How the images may vary. A pair is the least and the greatest value.

    Attributes:
        poses: Names of the base poses to draw from.
        common: Share of the hands drawn from `hand_pose.COMMON`; the others are drawn from all of
            `poses`.
        upright: Whether the palm is seen from the front, fingers up; else from all sides.
        max_roll: Largest angle between the fingers and straight up, degrees.
        left: Share of the images that show a left hand.
        aspects: Width / height.
        sizes: Longer side, as a share of the size asked for.
        fill: Share of the frame that the hand's box fills.
        cut: Share of the images in which the border cuts the hand.
        held: Share of the images with an object in the hand.
        crossed: Share of the images with an object before the hand.
        resting: Share of the images with a surface close behind the hand.
        people: Share of the images with a person behind the hand.
    """

    poses: tuple[str, ...] = tuple(BASE_POSES)
    common: float = 0.4
    upright: bool = False
    max_roll: float = 180.0
    left: float = 0.5
    aspects: tuple[float, float] = (0.55, 1.8)
    sizes: tuple[float, float] = (0.7, 1.0)
    fill: tuple[float, float] = (0.2, 0.95)
    cut: float = 0.2
    held: float = 0.25
    crossed: float = 0.15
    resting: float = 0.3
    people: float = 0.25


VARIED = Repertoire()
# Open right hands in full view, so alike that a net learns them in minutes.
EASY = Repertoire(
    poses=("open", "spread", "relaxed"),
    upright=True,
    left=0,
    aspects=(0.8, 1.25),
    sizes=(1.0, 1.0),
    fill=(0.6, 0.9),
    cut=0,
    held=0,
    crossed=0,
    resting=0,
    people=0,
)


@dataclass
class Shot:
    """A posed hand before the camera.

    Attributes:
        points: (V, 3) base vertices in camera space.
        joints: (21, 3) in camera space.
        camera: That sees them.
        pose: Name of the base pose.
        view: The angles, the distance and the size that were drawn, for the record.
    """

    points: np.ndarray
    joints: np.ndarray
    camera: Camera
    pose: str
    view: dict[str, float]


class RenderedHand(NamedTuple):
    """An image and all that is known of it.

    Attributes:
        image: HxWx3 uint8 BGR; of a hand before nothing, HxWx4 uint8 as `render.Drawing` has it.
        mask: HxW uint8 {0, 255}, the visible part of the hand up to the wrist.
        keypoints: (21, 2) x, y in pixels, wherever they are.
        states: (21,) of KEYPOINT_STATES.
        parameters: What was drawn, for the record.
    """

    image: np.ndarray
    mask: np.ndarray
    keypoints: np.ndarray
    states: np.ndarray
    parameters: dict[str, Any]


class SceneObject(NamedTuple):
    """A surface around the hand, in camera space, and its name in the record."""

    surface: Surface
    name: str


class HandScene:
    """Makes images. Each process has one, since it owns an OpenGL context.

    Attributes:
        mesh: The hand's.
        renderer: That draws it.
        hand: (V,) bool, the base vertices that belong to the hand and not to the arm.
    """

    def __init__(self) -> None:
        """Read the mesh and open the context; UserError where something is not installed."""
        self.mesh = hand_mesh()
        self.renderer = Renderer(self.mesh.faces)
        self._painted_vertices = paint_vertices(self.mesh)
        self.hand = self.mesh.weights[:, IS_HAND].sum(axis=1) >= HAND_SHARE
        self._arm_positions = arm_positions(self.mesh, self.mesh.shape())
        self._arm = self._arm_positions > 0.2
        self._stump = self._arm_positions > self._arm_positions.max() - 0.15

    def render(
        self, rng: np.random.Generator, size: int, split: str, repertoire: Repertoire = VARIED
    ) -> RenderedHand:
        """Render a random image; see the function `render`."""
        aspect = np.exp(rng.uniform(*np.log(repertoire.aspects)))
        longer = round(size * rng.uniform(*repertoire.sizes))
        width, height = (
            (longer, round(longer / aspect)) if aspect >= 1 else (round(longer * aspect), longer)
        )
        left = rng.random() < repertoire.left
        drawn = self.draw(rng, width, height, split, left=left, repertoire=repertoire)
        image = simulate_camera(rng, add_background(rng, drawn.image, split))
        return drawn._replace(image=image)

    def draw(
        self,
        rng: np.random.Generator,
        width: int,
        height: int,
        split: str,
        *,
        left: bool,
        repertoire: Repertoire = VARIED,
    ) -> RenderedHand:
        """Draw a random hand and the objects around it, before nothing.

        Args:
            rng: Draws everything.
            width: The image's width in pixels.
            height: The image's height in pixels.
            split: "Train" or "Test".
            left: Whether to show a left hand.
            repertoire: How the images may vary.
        """
        shot = self.choose_shot(rng, width, height, split, repertoire)
        appearance = random_appearance(rng, split)
        keypoints = labelled_keypoints(shot.joints)
        pixels = shot.camera.project(keypoints)
        surroundings = self._choose_surroundings(rng, shot, appearance, split, repertoire)
        without_hiding = [item for item in surroundings if not item.name.startswith(HIDING)]
        for scene_objects in (surroundings, without_hiding):
            rgba, labels, depth = self.renderer.draw(
                self.make_vertices(shot, appearance),
                shot.camera,
                appearance,
                centre=shot.joints.mean(axis=0),
                radius=SHADOW_RADIUS,
                surfaces=[item.surface for item in scene_objects],
            )
            states = judge_keypoints(
                pixels, keypoints[:, 2], labels=labels, depth=depth, focal=shot.camera.focal
            )
            if np.isin(states, CONVENTIONS["paper"]).sum() >= LEAST_KEYPOINTS:
                break
        mask = np.where(labels == shaders.HAND, 255, 0).astype(np.uint8)
        if left:  # the mesh is a right hand
            rgba, mask = rgba[:, ::-1], mask[:, ::-1]
            pixels[:, 0] = width - 1 - pixels[:, 0]
        tone = int(np.abs(to_linear(TONES.mean(axis=1)) - appearance.back.mean()).argmin())
        parameters = {
            "left": bool(left),
            "pose": shot.pose,
            **shot.view,
            "tone": tone,
            "sleeve": round(min(float(appearance.sleeve), 2.0), 2),
            "with": [item.name for item in scene_objects],
        }
        return RenderedHand(rgba, np.ascontiguousarray(mask), pixels, states, parameters)

    def choose_shot(
        self,
        rng: np.random.Generator,
        width: int,
        height: int,
        split: str,
        repertoire: Repertoire = VARIED,
    ) -> Shot:
        """Choose a random person, pose and view.

        They are drawn again while too little of the hand, or the end of the arm, would be visible.

        Args:
            rng: Draws everything.
            width: The image's width in pixels.
            height: The image's height in pixels.
            split: "Train" or "Test".
            repertoire: How the images may vary.
        """
        for attempt in range(TRIES):
            rest = self.mesh.random_shape(rng, split)
            name, pose = random_pose(rng, rest, repertoire.poses, repertoire.common)
            transforms = bone_transforms(pose, rest)
            points, joints = self.mesh.skin(rest, transforms), posed_joints(transforms, rest)
            # The last tries are closer and at the side that the arm points to, so that it leaves
            # the image.
            shot = self._aim(
                rng,
                points,
                joints,
                pose=name,
                frame=(width, height),
                repertoire=repertoire,
                arm_leaves=attempt > TRIES // 3,
            )
            pixels = shot.camera.project(shot.joints)
            stump = shot.camera.project(shot.points[self._stump])
            if (
                lie_inside(pixels, width, height).sum() >= LEAST_KEYPOINTS
                and not self._arm_hides(shot, pixels)
                and not lie_inside(stump, width, height).any()
            ):
                break
        return shot

    def _arm_hides(self, shot: Shot, pixels: np.ndarray) -> bool:
        """Tell whether the arm is right before the camera, or before the fingers.

        Args:
            shot: The hand before the camera.
            pixels: (21, 2) of x, y, where the joints are in the image.
        """
        arm = shot.points[self._arm]
        if (arm[:, 2] < 4 * shot.camera.near).any():
            return True
        nearer = shot.camera.project(arm[arm[:, 2] < shot.joints[1:, 2].min()])
        return bool(
            ((nearer > pixels[1:].min(axis=0)) & (nearer < pixels[1:].max(axis=0)))
            .all(axis=1)
            .any()
        )

    def _aim(
        self,
        rng: np.random.Generator,
        points: np.ndarray,
        joints: np.ndarray,
        *,
        pose: str,
        frame: tuple[int, int],
        repertoire: Repertoire,
        arm_leaves: bool,
    ) -> Shot:
        """Turn the hand before a camera and place it in the frame (width, height)."""
        angles = upright_view(rng) if repertoire.upright else random_view(rng, repertoire.max_roll)
        turn = _view_rotation(*angles)
        distance = np.exp(rng.uniform(*np.log(DISTANCE)))
        middle = joints.mean(axis=0)
        points, joints = ((part - middle) @ turn.T + (0, 0, distance) for part in (points, joints))
        flat = points[:, :2] / points[:, 2:]
        low, high = flat[self.hand].min(axis=0), flat[self.hand].max(axis=0)
        extent = high - low
        low_fill, high_fill = repertoire.fill
        # Large hands are more common.
        fill = low_fill + (high_fill - low_fill) * np.sqrt(rng.random())
        fill = max(fill, rng.uniform(0.3, 0.6)) if arm_leaves else fill
        focal = fill / (extent / frame).max()
        slack = frame - focal * extent
        corner = slack * rng.uniform(0.0, 1.0, 2)  # of the hand's box in the image
        if arm_leaves:
            away = flat[self._stump].mean(axis=0) - flat[self.hand].mean(axis=0)
            share = np.clip(0.5 + away / (2 * np.abs(away).max() + 1e-9), 0, 1)
            corner = slack * np.clip(share + rng.normal(0, 0.08, 2), 0, 1)
        elif rng.random() < repertoire.cut:
            axis = rng.integers(2)
            cut = focal * extent[axis] * rng.uniform(0.05, 0.35)
            corner[axis] = rng.choice([-cut, slack[axis] + cut])
        cx, cy = corner - focal * low - 0.5
        camera = Camera(*frame, focal, cx, cy, near=0.05 * distance, far=distance + DEPTH)
        view = {
            "azimuth": round(angles[0]),
            "elevation": round(angles[1]),
            "roll": round(angles[2]),
            "distance": round(float(distance), 2),
            "fill": round(float(fill), 2),
        }
        return Shot(points, joints, camera, pose, view)

    def _choose_surroundings(
        self,
        rng: np.random.Generator,
        shot: Shot,
        appearance: Appearance,
        split: str,
        repertoire: Repertoire,
    ) -> list[SceneObject]:
        """Choose the objects and people around the hand."""
        surroundings = []
        if rng.random() < repertoire.people:
            person = self._place_person(rng, shot, appearance, split)
            if person is not None:
                surroundings.append(SceneObject(person, "person"))
        if rng.random() < repertoire.held:
            held = objects.make_held_object(rng, shot.joints, split)
            if held is not None:
                surroundings.append(SceneObject(held.surface, f"held {held.kind}"))
        if rng.random() < repertoire.crossed:
            nearest = shot.points[self.hand, 2].min()
            crossing = objects.make_crossing_object(rng, shot.joints, nearest, split)
            surroundings.append(SceneObject(crossing.surface, f"crossing {crossing.kind}"))
        if rng.random() < repertoire.resting:
            backing = objects.make_backing(rng, shot.points[self._arm_positions < 0.8], split)
            surroundings.append(SceneObject(backing, "resting"))
        return surroundings

    def _place_person(
        self, rng: np.random.Generator, shot: Shot, appearance: Appearance, split: str
    ) -> Surface | None:
        """Place a person behind the hand, mostly its owner, or return None.

        The ends of the arms have to be out of the image; there is none where that fails.
        """
        camera = shot.camera
        owner = appearance if rng.random() < 0.75 else random_appearance(rng, split)
        body = body_mesh().random_body(
            rng, split, skin=owner.back, palm=owner.palm, cloth=owner.cloth
        )
        for _ in range(PERSON_TRIES):
            target = body.targets[
                ("face", "neck", "chest", "arm", "anywhere")[
                    rng.choice(5, p=(0.4, 0.15, 0.15, 0.15, 0.15))
                ]
            ]
            turn = _view_rotation(
                rng.normal(0, 40) if rng.random() < 0.8 else rng.uniform(0, 360),
                rng.normal(0, 15),
                rng.normal(0, 12),
            )
            points = (body.surface.vertices[:, vertex_layout.POSITION] - target) @ turn.T
            depth = shot.joints[:, 2].max() + rng.uniform(0.05, 3.0) - points[:, 2].min()
            pixel = rng.uniform(0, 1, 2) * (camera.width, camera.height)
            shift = np.append((pixel - (camera.cx, camera.cy)) / camera.focal * depth, depth)
            cut = camera.project((body.cut - target) @ turn.T + shift)
            if depth < DEPTH and not lie_inside(cut, camera.width, camera.height).any():
                vertices = body.surface.vertices.copy()
                vertices[:, vertex_layout.POSITION] = points + shift
                vertices[:, vertex_layout.NORMAL] = vertices[:, vertex_layout.NORMAL] @ turn.T
                return replace(body.surface, vertices=vertices)
        return None

    def make_vertices(self, shot: Shot, appearance: Appearance) -> np.ndarray:
        """Return the hand's vertices (S, 16) in camera space; see `vertex_layout`."""
        mesh, vertices = self.mesh, self._painted_vertices.copy()
        points = mesh.subdivision @ shot.points
        normals = mesh.normals(points)
        cloth = np.clip((vertices[:, vertex_layout.ARM] - appearance.sleeve) / 0.04 + 0.5, 0, 1)
        thickness = appearance.cloth_depth * cloth
        vertices[:, vertex_layout.POSITION] = points + normals * thickness[:, None]
        vertices[:, vertex_layout.NORMAL] = normals
        vertices[:, vertex_layout.OPENNESS] = mesh.subdivision @ compute_openness(
            shot.points, mesh.base_normals(shot.points), shot.joints
        )
        return vertices


@functools.cache
def process_scene() -> HandScene:
    """Return the process's own HandScene."""
    return HandScene()


def render(
    rng: np.random.Generator, size: int, split: str, repertoire: Repertoire = VARIED
) -> RenderedHand:
    """Render a random image; JPEG compression is left to the caller.

    Args:
        rng: Draws everything.
        size: Longer side of the image in pixels, at most.
        split: "Train" or "Test", which share no photograph.
        repertoire: How the images may vary.
    """
    return process_scene().render(rng, size, split, repertoire)


def judge_keypoints(
    keypoints: np.ndarray,
    distances: np.ndarray,
    *,
    labels: np.ndarray,
    depth: np.ndarray,
    focal: float,
) -> np.ndarray:
    """Judge which keypoints are visible, and what hides the others.

    A keypoint is hidden if a surface nearer by more than the flesh over it covers most of a small
    disc around its pixel.

    Args:
        keypoints: (21, 2) pixels.
        distances: (21,) along z, hand lengths.
        labels: HxW, see `render.Drawing`.
        depth: HxW, see `render.Drawing`.
        focal: The camera's focal length in pixels.

    Returns:
        (21,) of KEYPOINT_STATES.
    """
    height, width = labels.shape
    states = np.full(KEYPOINT_COUNT, OUTSIDE, dtype=object)
    angles = np.arange(DISC_DIRECTIONS) * (2 * np.pi / DISC_DIRECTIONS)
    disc = np.array([(0, 0)] + [(np.cos(angle), np.sin(angle)) for angle in angles])
    for index in np.nonzero(lie_inside(keypoints, width, height))[0]:
        pixels = np.round(keypoints[index] + disc * (DISC * focal / distances[index])).astype(int)
        x, y = np.clip(pixels, 0, (width - 1, height - 1)).T
        by_object = (labels[y, x] == shaders.OTHER) & (depth[y, x] < distances[index])
        by_hand = np.isin(labels[y, x], (shaders.HAND, shaders.ARM)) & (
            depth[y, x] < distances[index] - COVER[index]
        )
        if by_object.mean() > 0.5:
            states[index] = OBJECT
        elif (by_hand | by_object).mean() > 0.5:
            states[index] = SELF
        else:
            states[index] = VISIBLE
    return states


class View(NamedTuple):
    """The direction from which a hand is seen; zeros: the palm from the front, fingers up."""

    azimuth: float  # degrees
    elevation: float  # degrees
    roll: float  # degrees


def random_view(rng: np.random.Generator, max_roll: float) -> View:
    """Draw a view of the palm, the back, the sides or the tips.

    Args:
        rng: Draws the view.
        max_roll: Largest angle between the fingers and straight up, degrees.
    """
    azimuth = (rng.normal(0, 35), rng.normal(180, 35), rng.uniform(0, 360))[
        rng.choice(3, p=(0.33, 0.37, 0.3))
    ]
    elevation = rng.uniform(-85, 85) if rng.random() < 0.25 else np.clip(rng.normal(0, 28), -75, 75)
    roll = (
        np.clip(rng.normal(0, 30), -max_roll, max_roll)
        if rng.random() < 0.45
        else rng.uniform(-max_roll, max_roll)
    )
    return View(azimuth, elevation, roll)


def upright_view(rng: np.random.Generator) -> View:
    """Draw a view of the palm with the fingers up, give or take some 15 degrees."""
    return View(rng.normal(0, 15), np.clip(rng.normal(0, 12), -30, 30), rng.normal(0, 12))


def _view_rotation(azimuth: float, elevation: float, roll: float) -> np.ndarray:
    """Return the rotation (3, 3) from the hand's, or a body's, frame to the camera's."""
    return (
        rotation((0, 0, 1), roll)
        @ rotation((1, 0, 0), elevation)
        @ PALM_TO_CAMERA
        @ rotation((0, 1, 0), azimuth)
    )
