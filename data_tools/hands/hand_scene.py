"""One random picture of a hand with its truth: who, which pose, seen from where, in what light, before what, by what camera.

    from data_tools.hands.hand_scene import render
    shown = render(np.random.default_rng(0), 400, "Train")
    shown.image, shown.mask, shown.keypoints()

`HandScene` holds what is expensive to make (meshes, OpenGL context); `scene` keeps one per process.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np

from data_tools.hands import objects, shaders
from data_tools.hands.body import body_mesh
from data_tools.hands.hand_mesh import IS_HAND, hand_mesh, posed_keypoints
from data_tools.hands.hand_pose import BASE_POSES, bone_transforms, random_pose, rotation
from data_tools.hands.looks import TONES, arm_place, openness, paint, random_look
from data_tools.hands.photograph import compose, photograph
from data_tools.hands.render import HAND_SHARE, Camera, Look, Renderer

DISTANCE = (2.0, 8.0)  # hand lengths from camera to hand: strong to weak perspective
DEPTH = 22  # hand lengths that the camera sees beyond the hand
LEAST_KEYPOINTS = 10  # labelled; where things hide more than that, they are left out
HIDING = ("held", "crossing")
SHADOW_RADIUS = 1.3  # hand lengths around the hand within which shadows fall
TRIES = 25
# From a joint to the skin over it, and some more: what lies further in front of it hides it. Hand lengths.
COVER = np.full(21, 0.075)
COVER[[0, 1, 2, 5, 9, 13, 17]] = 0.13, 0.12, 0.1, 0.1, 0.1, 0.1, 0.1
DISC = 0.02  # radius within which a joint is looked for, hand lengths

# What may be the matter with a joint, and which of them are labelled under a convention. OneHand10K labels what can be seen or
# judged from the rest of the hand (Fig. 4), so that a joint behind the hand itself counts and one behind something else does not.
VISIBLE, SELF, OBJECT, OUTSIDE = JOINT_STATES = ("visible", "self", "object", "outside")
CONVENTIONS = {"paper": (VISIBLE, SELF), "visible": (VISIBLE,), "all": (VISIBLE, SELF, OBJECT)}


@dataclass(frozen=True)
class Repertoire:
    """What pictures there may be."""

    poses: tuple[str, ...] = tuple(BASE_POSES)
    common: float = (
        0.4  # of the poses are those of a hand at ease, beyond their share among `poses`
    )
    upright: bool = False  # the palm seen from the front, fingers up; else from all sides
    max_roll: float = 180.0  # degrees, of the fingers from up
    left: float = 0.5  # of the pictures show a left hand
    aspects: tuple = (0.55, 1.8)  # width / height
    sizes: tuple = (0.7, 1.0)  # longer side, as a share of the size asked for
    fill: tuple = (0.2, 0.95)  # of the frame, by the hand's box
    cut: float = 0.2  # of the pictures have the border through the hand
    held: float = 0.25  # of them have something in the hand
    crossed: float = 0.15  # something before it
    resting: float = 0.3  # something close behind it
    people: float = 0.25  # a person behind it


VARIED = Repertoire()
# So alike that minutes of training suffice to find them: open right hands in full view.
EASY = Repertoire(
    ("open", "spread", "relaxed"),
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
    """A posed hand before the camera. points: (V, 3) base vertices, keypoints: (21, 3), both in camera space; pose, view: what was
    drawn."""

    points: np.ndarray
    keypoints: np.ndarray
    camera: Camera
    pose: str
    view: dict


@dataclass
class Shown:
    """A picture and its truth. image: HxWx3 uint8 BGR; mask: HxW uint8 {0, 255}, the hand up to the wrist as far as it is seen;
    joints: (21, 2) x, y in pixels, wherever they are; states: (21,) of JOINT_STATES; parameters: what was drawn, for the record."""

    image: np.ndarray
    mask: np.ndarray
    joints: np.ndarray
    states: np.ndarray
    parameters: dict = field(default_factory=dict)

    def keypoints(self, convention: str = "paper") -> np.ndarray:
        """(21, 3) of x, y, v under one of CONVENTIONS; a joint that it does not label is (-1, -1, 0)."""
        labelled = np.isin(self.states, CONVENTIONS[convention])
        return np.where(labelled[:, None], np.column_stack([self.joints, labelled]), (-1, -1, 0))


class HandScene:
    """Makes pictures. One per process: it owns an OpenGL context. Raises SetupError where something is not installed.

    hand: (V,) bool, the base vertices that belong to the hand and not to the arm.
    """

    def __init__(self):
        self.mesh = hand_mesh()
        self.renderer = Renderer()
        self.renderer.set_faces(self.mesh.faces)
        self._paint = paint(self.mesh)
        self.hand = self.mesh.weights[:, IS_HAND].sum(axis=1) >= HAND_SHARE
        self._place = arm_place(self.mesh, self.mesh.shape())
        self._arm, self._stump = self._place > 0.2, self._place > self._place.max() - 0.15

    def show(
        self, rng: np.random.Generator, size: int, split: str, repertoire: Repertoire = VARIED
    ) -> Shown:
        """See `render`."""
        aspect = np.exp(rng.uniform(*np.log(repertoire.aspects)))
        longer = round(size * rng.uniform(*repertoire.sizes))
        width, height = (
            (longer, round(longer / aspect)) if aspect >= 1 else (round(longer * aspect), longer)
        )
        picture, shown = self.draw(
            rng, width, height, rng.random() < repertoire.left, split, repertoire
        )
        image = compose(rng, picture, split)
        return replace(shown, image=photograph(rng, image))

    def draw(
        self,
        rng: np.random.Generator,
        width: int,
        height: int,
        left: bool,
        split: str,
        repertoire: Repertoire = VARIED,
    ) -> tuple[np.ndarray, Shown]:
        """A random hand with what is around it, before nothing: the picture as `Renderer.draw` gives it, its truth without image."""
        shot, look = self.shot(rng, width, height, split, repertoire), random_look(rng, split)
        joints = shot.camera.project(shot.keypoints)
        around = self._surroundings(rng, shot, look, split, repertoire)
        for things in (
            around,
            [(thing, name) for thing, name in around if not name.startswith(HIDING)],
        ):
            picture, seen, depth = self.renderer.draw(
                self.vertices(shot, look),
                shot.camera,
                look,
                shot.keypoints.mean(axis=0),
                SHADOW_RADIUS,
                [thing for thing, _ in things],
            )
            states = joint_states(joints, shot.keypoints[:, 2], seen, depth, shot.camera.focal)
            if np.isin(states, CONVENTIONS["paper"]).sum() >= LEAST_KEYPOINTS:
                break
        mask = np.where(seen == shaders.HAND, 255, 0).astype(np.uint8)
        if left:  # the mesh is a right hand
            picture, mask = picture[:, ::-1], mask[:, ::-1]
            joints[:, 0] = width - 1 - joints[:, 0]
        tone = int(np.abs(TONES.mean(axis=1) ** 2.2 - look.back.mean()).argmin())
        parameters = {
            "left": bool(left),
            "pose": shot.pose,
            **shot.view,
            "tone": tone,
            "sleeve": round(min(float(look.sleeve), 2.0), 2),
            "with": [name for _, name in things],
        }
        return picture, Shown(None, np.ascontiguousarray(mask), joints, states, parameters)

    def shot(
        self,
        rng: np.random.Generator,
        width: int,
        height: int,
        split: str,
        repertoire: Repertoire = VARIED,
    ) -> Shot:
        """A random person, pose and view; again while too little of the hand or the end of the arm would be seen."""
        for attempt in range(TRIES):
            rest = self.mesh.random_shape(rng, split)
            name, pose = random_pose(rng, rest, repertoire.poses, repertoire.common)
            transforms = bone_transforms(pose, rest)
            points, keypoints = self.mesh.skin(rest, transforms), posed_keypoints(transforms, rest)
            # The last tries are closer and at the side that the arm points to, so that it leaves the picture.
            shot = self._aim(
                rng, points, keypoints, width, height, repertoire, leave=attempt > TRIES // 3
            )
            shot.pose = name
            keypoints = shot.camera.project(shot.keypoints)
            if (
                inside(keypoints, width, height).sum() >= LEAST_KEYPOINTS
                and not self._hides(shot, keypoints)
                and not inside(shot.camera.project(shot.points[self._stump]), width, height).any()
            ):
                break
        return shot

    def _hides(self, shot, keypoints) -> bool:
        """Whether the arm stands right before the camera or between it and the fingers. keypoints: (21, 2) pixels."""
        arm = shot.points[self._arm]
        if (arm[:, 2] < 4 * shot.camera.near).any():
            return True
        nearer = shot.camera.project(arm[arm[:, 2] < shot.keypoints[1:, 2].min()])
        return bool(
            ((nearer > keypoints[1:].min(axis=0)) & (nearer < keypoints[1:].max(axis=0)))
            .all(axis=1)
            .any()
        )

    def _aim(self, rng, points, keypoints, width, height, repertoire, leave: bool) -> Shot:
        """Turns the hand before a camera and places it in the frame."""
        angles = upright_view(rng) if repertoire.upright else random_view(rng, repertoire.max_roll)
        turn = _view(*angles)
        distance = np.exp(rng.uniform(*np.log(DISTANCE)))
        middle = keypoints.mean(axis=0)
        points, keypoints = (
            (part - middle) @ turn.T + (0, 0, distance) for part in (points, keypoints)
        )
        flat = points[:, :2] / points[:, 2:]
        low, high = flat[self.hand].min(axis=0), flat[self.hand].max(axis=0)
        frame, extent = np.array([width, height]), high - low
        low_fill, high_fill = repertoire.fill
        fill = low_fill + (high_fill - low_fill) * np.sqrt(
            rng.random()
        )  # large hands are more common
        fill = max(fill, rng.uniform(0.3, 0.6)) if leave else fill
        focal = fill / (extent / frame).max()
        slack = frame - focal * extent
        place = slack * rng.uniform(0.0, 1.0, 2)
        if leave:
            away = flat[self._stump].mean(axis=0) - flat[self.hand].mean(axis=0)
            share = np.clip(0.5 + away / (2 * np.abs(away).max() + 1e-9), 0, 1)
            place = slack * np.clip(share + rng.normal(0, 0.08, 2), 0, 1)
        elif rng.random() < repertoire.cut:
            axis = rng.integers(2)
            cut = focal * extent[axis] * rng.uniform(0.05, 0.35)
            place[axis] = rng.choice([-cut, slack[axis] + cut])
        cx, cy = place - focal * low - 0.5
        camera = Camera(width, height, focal, cx, cy, near=0.05 * distance, far=distance + DEPTH)
        view = {
            "azimuth": round(angles[0]),
            "elevation": round(angles[1]),
            "roll": round(angles[2]),
            "distance": round(float(distance), 2),
            "fill": round(float(fill), 2),
        }
        return Shot(points, keypoints, camera, "", view)

    def _surroundings(
        self, rng, shot: Shot, look: Look, split: str, repertoire: Repertoire
    ) -> list:
        """[(surface for the renderer, its name)]."""
        found = []
        if rng.random() < repertoire.people:
            person = self._person(rng, shot, look, split)
            found += [(person, "person")] if person is not None else []
        if rng.random() < repertoire.held:
            thing = objects.held(rng, shot.keypoints, split)
            found += [(thing[0], f"held {thing[1]}")] if thing is not None else []
        if rng.random() < repertoire.crossed:
            thing, kind = objects.crossing(
                rng, shot.keypoints, shot.points[self.hand, 2].min(), split
            )
            found.append((thing, f"crossing {kind}"))
        if rng.random() < repertoire.resting:
            found.append((objects.resting(rng, shot.points[self._place < 0.8], split), "resting"))
        return found

    def _person(self, rng, shot: Shot, look: Look, split: str):
        """Someone behind the hand, mostly its owner, with the ends of the arms out of the picture; None if that failed."""
        camera, owner = shot.camera, look if rng.random() < 0.75 else random_look(rng, split)
        body = body_mesh().random(rng, owner.back, owner.palm, owner.cloth, split)
        for _ in range(6):
            target = body.targets[
                ("face", "neck", "chest", "arm", "anywhere")[
                    rng.choice(5, p=(0.4, 0.15, 0.15, 0.15, 0.15))
                ]
            ]
            turn = _view(
                rng.normal(0, 40) if rng.random() < 0.8 else rng.uniform(0, 360),
                rng.normal(0, 15),
                rng.normal(0, 12),
            )
            points = (body.surface.vertices[:, :3] - target) @ turn.T
            depth = shot.keypoints[:, 2].max() + rng.uniform(0.05, 3.0) - points[:, 2].min()
            pixel = rng.uniform(0, 1, 2) * (camera.width, camera.height)
            shift = np.append((pixel - (camera.cx, camera.cy)) / camera.focal * depth, depth)
            cut = camera.project((body.cut - target) @ turn.T + shift)
            if depth < DEPTH and not inside(cut, camera.width, camera.height).any():
                vertices = body.surface.vertices.copy()
                vertices[:, :3], vertices[:, 3:6] = points + shift, vertices[:, 3:6] @ turn.T
                return replace(body.surface, vertices=vertices)
        return None

    def vertices(self, shot: Shot, look: Look) -> np.ndarray:
        """(S, 16) vertices as `render.LAYOUT` has them."""
        mesh, vertices = self.mesh, self._paint.copy()
        points = mesh.subdivision @ shot.points
        normals = mesh.normals(points)
        cloth = np.clip((vertices[:, 11] - look.sleeve) / 0.04 + 0.5, 0, 1)
        vertices[:, :3] = points + normals * (look.cloth_depth * cloth)[:, None]
        vertices[:, 3:6] = normals
        vertices[:, 12] = mesh.subdivision @ openness(
            shot.points, mesh.base_normals(shot.points), shot.keypoints
        )
        return vertices


@functools.lru_cache(maxsize=1)
def scene() -> HandScene:
    """The process's own HandScene."""
    return HandScene()


def render(
    rng: np.random.Generator, size: int, split: str, repertoire: Repertoire = VARIED
) -> Shown:
    """A random picture whose longer side is at most `size` pixels; JPEG compression is left to the caller.

    split: "Train" or "Test" chooses among the photographs behind the hand, the skins, builds and clothes.
    """
    return scene().show(rng, size, split, repertoire)


def joint_states(
    joints: np.ndarray, distances: np.ndarray, seen: np.ndarray, depth: np.ndarray, focal: float
) -> np.ndarray:
    """(21,) of JOINT_STATES. joints: (21, 2) pixels; distances: (21,) along z; seen, depth: HxW as `Renderer.draw` gives them.

    A joint is hidden if something nearer by more than the flesh over it covers most of a small disc around its pixel.
    """
    height, width = seen.shape
    states = np.full(21, OUTSIDE, dtype=object)
    around = np.array(
        [(0, 0)] + [(np.cos(angle), np.sin(angle)) for angle in np.arange(8) * np.pi / 4]
    )
    for joint in np.nonzero(inside(joints, width, height))[0]:
        spots = np.round(joints[joint] + around * (DISC * focal / distances[joint])).astype(int)
        x, y = np.clip(spots, 0, (width - 1, height - 1)).T
        other = (seen[y, x] == shaders.OTHER) & (depth[y, x] < distances[joint])
        hand = np.isin(seen[y, x], (shaders.HAND, shaders.ARM)) & (
            depth[y, x] < distances[joint] - COVER[joint]
        )
        states[joint] = (
            OBJECT if other.mean() > 0.5 else SELF if (hand | other).mean() > 0.5 else VISIBLE
        )
    return states


def inside(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """(N,) bool: which points' nearest whole pixels lie in the picture."""
    nearest = np.round(points[:, :2])
    return ((nearest >= 0) & (nearest < (width, height))).all(axis=1)


def random_view(rng: np.random.Generator, max_roll: float = 180.0) -> tuple[float, float, float]:
    """Azimuth, elevation, roll in degrees: palm, back, sides and tip-on; fingers up or to any side, not further than max_roll."""
    azimuth = (rng.normal(0, 35), rng.normal(180, 35), rng.uniform(0, 360))[
        rng.choice(3, p=(0.33, 0.37, 0.3))
    ]
    elevation = rng.uniform(-85, 85) if rng.random() < 0.25 else np.clip(rng.normal(0, 28), -75, 75)
    roll = (
        np.clip(rng.normal(0, 30), -max_roll, max_roll)
        if rng.random() < 0.45
        else rng.uniform(-max_roll, max_roll)
    )
    return azimuth, elevation, roll


def upright_view(rng: np.random.Generator) -> tuple[float, float, float]:
    """As random_view: the palm to the camera and the fingers up, give or take some 15 degrees."""
    return rng.normal(0, 15), np.clip(rng.normal(0, 12), -30, 30), rng.normal(0, 12)


def _view(azimuth: float, elevation: float, roll: float) -> np.ndarray:
    """(3, 3) rotation from the hand's (or a body's) frame to the camera's: at zero its palm (front) faces the camera, upright."""
    palm_to_camera = np.diag([1.0, -1.0, -1.0])
    return (
        rotation((0, 0, 1), roll)
        @ rotation((1, 0, 0), elevation)
        @ palm_to_camera
        @ rotation((0, 1, 0), azimuth)
    )
