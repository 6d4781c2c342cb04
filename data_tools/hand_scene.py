"""One random picture of a hand with its truth: who, which pose, seen from where, in what light, before what, by what camera.

    from data_tools.hand_scene import render_sample
    image, mask, keypoints = render_sample(np.random.default_rng(0), 400, "Train")

`HandScene` holds what is expensive to make (mesh, OpenGL context); `scene` and `render_sample` keep one per process.
"""
from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from data_tools.backgrounds import random_background
from data_tools.hand_mesh import BONES, HandMesh, IS_HAND, Rest, hand_mesh, posed_keypoints
from data_tools.hand_pose import BASE_POSES, THUMB_HINGE, across, bone_transforms, random_pose, rotation
from data_tools.render import Camera, HAND_SHARE, Light, Look, Renderer, VERTEX_FLOATS

DISTANCE = (2.0, 8.0)           # hand lengths from camera to hand: strong to weak perspective
LEAST_KEYPOINTS = 14            # inside the picture
SHADOW_RADIUS = 0.9             # hand lengths around the hand within which shadows fall
TRIES = 25

# sRGB of the back of the hand, from light to dark; people lie between two neighbours.
TONES = np.array([(246, 218, 200), (236, 196, 170), (222, 174, 142), (200, 146, 110), (168, 114, 80), (134, 88, 60),
                  (102, 66, 46), (74, 48, 36), (54, 36, 28)]) / 255.0
PALM_OF_DARK = np.array([196, 146, 120]) / 255.0


@dataclass(frozen=True)
class Repertoire:
    """What pictures there may be."""
    poses: tuple[str, ...] = tuple(BASE_POSES)
    upright: bool = False               # the palm seen from the front, fingers up; else from all sides
    left: float = 0.5                   # of the pictures show a left hand
    aspects: tuple = (0.6, 1.6)         # width / height
    fill: tuple = (0.35, 0.95)          # of the frame, by the hand's box
    cut: float = 0.2                    # of the pictures have the border through the hand
    occluded: float = 0.1               # of them something before the hand


VARIED = Repertoire()
# So alike that minutes of training suffice to find them: open right hands in full view.
EASY = Repertoire(("open", "spread", "relaxed"), upright=True, left=0, aspects=(0.8, 1.25), fill=(0.6, 0.9), cut=0, occluded=0)


@dataclass
class Shot:
    """A posed hand before the camera. points: (V, 3) base vertices, keypoints: (21, 3), both in camera space."""
    points: np.ndarray
    keypoints: np.ndarray
    camera: Camera


class HandScene:
    """Makes samples. One per process: it owns an OpenGL context. Raises SetupError where something is not installed.

    hand: (V,) bool, the base vertices that belong to the hand and not to the arm.
    """

    def __init__(self):
        self.mesh = hand_mesh()
        self.renderer = Renderer()
        self.renderer.set_faces(self.mesh.faces)
        self._paint = _paint(self.mesh)
        shares = self.mesh.weights[:, IS_HAND].sum(axis=1)
        self.hand = shares >= HAND_SHARE
        arm = _arm_place(self.mesh, self.mesh.shape())
        self._arm, self._stump = arm > 0.2, arm > arm.max() - 0.15

    def sample(self, rng: np.random.Generator, size: int, split: str, repertoire: Repertoire) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `render_sample`."""
        aspect = np.exp(rng.uniform(*np.log(repertoire.aspects)))
        width, height = (size, round(size / aspect)) if aspect >= 1 else (round(size * aspect), size)
        picture, mask, keypoints = self.draw(rng, width, height, rng.random() < repertoire.left, repertoire)
        image = compose(rng, picture, split)
        if rng.random() < repertoire.occluded:
            image, mask = occlude(rng, image, mask, split)
        return photograph(rng, image), np.ascontiguousarray(mask), keypoints

    def draw(self, rng: np.random.Generator, width: int, height: int, left: bool,
             repertoire: Repertoire = VARIED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A random hand before nothing: picture and mask as `Renderer.draw` gives them, keypoints (21, 3)."""
        shot, look = self.shot(rng, width, height, repertoire), random_look(rng)
        picture, mask = self.renderer.draw(self.vertices(shot, look), shot.camera, look, shot.keypoints.mean(axis=0), SHADOW_RADIUS)
        keypoints = np.column_stack([shot.camera.project(shot.keypoints), np.ones(21)])
        if left:                                                            # the mesh is a right hand
            picture, mask = picture[:, ::-1], mask[:, ::-1]
            keypoints[:, 0] = width - 1 - keypoints[:, 0]
        keypoints[~inside(keypoints, width, height)] = (-1, -1, 0)
        return picture, mask, keypoints

    def shot(self, rng: np.random.Generator, width: int, height: int, repertoire: Repertoire = VARIED) -> Shot:
        """A random person, pose and view; again while too little of the hand or the end of the arm would be seen."""
        for attempt in range(TRIES):
            rest = self.mesh.random_shape(rng)
            transforms = bone_transforms(random_pose(rng, rest, repertoire.poses), rest)
            points, keypoints = self.mesh.skin(rest, transforms), posed_keypoints(transforms, rest)
            shot = self._aim(rng, points, keypoints, width, height, repertoire)
            keypoints = shot.camera.project(shot.keypoints)
            if inside(keypoints, width, height).sum() < LEAST_KEYPOINTS or self._hides(shot, keypoints):
                continue
            # The last tries take a stump that is seen rather than nothing at all.
            if attempt >= TRIES - 5 or not inside(shot.camera.project(shot.points[self._stump]), width, height).any():
                break
        return shot

    def _hides(self, shot, keypoints) -> bool:
        """Whether the arm stands right before the camera or between it and the fingers. keypoints: (21, 2) pixels."""
        arm = shot.points[self._arm]
        if (arm[:, 2] < 4 * shot.camera.near).any():
            return True
        nearer = shot.camera.project(arm[arm[:, 2] < shot.keypoints[1:, 2].min()])
        return bool(((nearer > keypoints[1:].min(axis=0)) & (nearer < keypoints[1:].max(axis=0))).all(axis=1).any())

    def _aim(self, rng, points, keypoints, width, height, repertoire) -> Shot:
        """Turns the hand before a camera and places it in the frame."""
        turn = upright_view(rng) if repertoire.upright else random_view(rng)
        distance = np.exp(rng.uniform(*np.log(DISTANCE)))
        middle = keypoints.mean(axis=0)
        points, keypoints = ((part - middle) @ turn.T + (0, 0, distance) for part in (points, keypoints))
        flat = points[self.hand, :2] / points[self.hand, 2:]
        low, high = flat.min(axis=0), flat.max(axis=0)
        frame, extent = np.array([width, height]), high - low
        focal = rng.uniform(*repertoire.fill) / (extent / frame).max()
        slack = frame - focal * extent
        place = slack * rng.uniform(0.0, 1.0, 2)
        if rng.random() < repertoire.cut:
            axis = rng.integers(2)
            cut = focal * extent[axis] * rng.uniform(0.05, 0.3)
            place[axis] = rng.choice([-cut, slack[axis] + cut])
        cx, cy = place - focal * low - 0.5
        camera = Camera(width, height, focal, cx, cy, near=0.05 * distance, far=distance + 8)
        return Shot(points, keypoints, camera)

    def vertices(self, shot: Shot, look: Look) -> np.ndarray:
        """(S, 16) vertices as `render.LAYOUT` has them."""
        mesh, vertices = self.mesh, self._paint.copy()
        points = mesh.subdivision @ shot.points
        normals = mesh.normals(points)
        cloth = np.clip((vertices[:, 11] - look.sleeve) / 0.04 + 0.5, 0, 1)
        vertices[:, :3] = points + normals * (look.cloth_depth * cloth)[:, None]
        vertices[:, 3:6] = normals
        vertices[:, 12] = mesh.subdivision @ openness(shot.points, mesh.base_normals(shot.points), shot.keypoints)
        return vertices


@functools.lru_cache(maxsize=1)
def scene() -> HandScene:
    """The process's own HandScene."""
    return HandScene()


def render_sample(rng: np.random.Generator, size: int, split: str,
                  repertoire: Repertoire = VARIED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random picture whose longer side is `size` pixels; split: "Train" or "Test" chooses the background photographs.

    Returns the image, HxWx3 uint8 BGR (JPEG compression is left to the caller), the exact mask of the visible hand, HxW
    uint8 {0, 255}, and the keypoints (21, 3): x, y in pixels, v = 1; a self-occluded or covered joint is given all the same,
    one outside the image is (-1, -1, 0).
    """
    return scene().sample(rng, size, split, repertoire)


def inside(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """(N,) bool: which points' nearest whole pixels lie in the picture."""
    nearest = np.round(points[:, :2])
    return ((nearest >= 0) & (nearest < (width, height))).all(axis=1)


def random_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) rotation from the hand's frame to the camera's. Palm, back and sides; mostly fingers up, with a tail to all angles."""
    azimuth = (rng.normal(0, 35), rng.normal(180, 35), rng.uniform(0, 360))[rng.choice(3, p=(0.35, 0.35, 0.3))]
    elevation = rng.uniform(-80, 80) if rng.random() < 0.15 else np.clip(rng.normal(0, 28), -75, 75)
    roll = rng.normal(0, 30) if rng.random() < 0.7 else rng.uniform(-180, 180)
    return _view(azimuth, elevation, roll)


def upright_view(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) rotation as random_view's: the palm to the camera and the fingers up, give or take some 15 degrees."""
    return _view(rng.normal(0, 15), np.clip(rng.normal(0, 12), -30, 30), rng.normal(0, 12))


def _view(azimuth: float, elevation: float, roll: float) -> np.ndarray:
    palm_to_camera = np.diag([1.0, -1.0, -1.0])
    return rotation((0, 0, 1), roll) @ rotation((1, 0, 0), elevation) @ palm_to_camera @ rotation((0, 1, 0), azimuth)


def random_look(rng: np.random.Generator) -> Look:
    """Skin, sleeve and light."""
    place = rng.uniform(0, len(TONES) - 1.001)
    tone = TONES[int(place)] + (TONES[int(place) + 1] - TONES[int(place)]) * (place % 1)
    back = _linear(np.clip(tone + rng.normal(0, 0.025, 3), 0.02, 1)) * rng.uniform(0.85, 1.1)
    darkness = place / (len(TONES) - 1)
    pink = back * (1.06, 0.9, 0.88)
    palm = pink + (_linear(PALM_OF_DARK) - pink) * 0.75 * darkness
    nail = np.clip(palm * (1.15, 1.05, 1.08) + 0.02, 0, 1)
    if rng.random() < 0.1:
        nail = rng.uniform(0, 0.8, 3)                                       # painted
    warmth = lambda: np.exp(rng.normal(0, 0.16) * np.array([1, 0.1, -1]) + rng.normal(0, 0.03, 3))   # noqa: E731
    lights = []
    for strength in (rng.uniform(0.6, 2.2), *rng.uniform(0.05, 0.9, rng.integers(0, 3))):       # the key light, up to two more
        direction = rng.normal((0, -0.6, -0.6), (0.8, 0.6, 0.6))            # mostly from above and from the camera's side
        lights.append(Light(direction / np.linalg.norm(direction), strength * warmth()))
    ambient = rng.uniform(0.2, 0.9) * warmth()
    # Cameras expose by what they see, in front of the hand for the most part: light from behind counts little.
    level = ambient.mean() + sum(max(-light.direction[2], 0.15) * light.colour.mean() for light in lights)
    cloth = np.clip(rng.uniform(0.05, 0.95) + rng.normal(0, rng.choice([0.03, 0.2]), 3), 0.02, 1)
    return Look(back=back, palm=palm, nail=nail, cloth=_linear(cloth), lights=lights, ambient=ambient,
                bounce=ambient * rng.uniform(0.3, 0.9) * warmth(), noise_offset=rng.uniform(0, 50, 3), mottling=rng.uniform(0.02, 0.16),
                creases=rng.uniform(0.1, 0.9), gloss=rng.uniform(0.1, 0.9), roughness=rng.uniform(0.4, 0.75),
                sleeve=rng.uniform(0.06, 1.2) if rng.random() < 0.5 else 9.0, cloth_depth=rng.uniform(0.01, 0.06),
                exposure=rng.uniform(0.7, 1.2) / level)


def openness(points: np.ndarray, normals: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Ambient occlusion (N,) in [0.25, 1] of surface points and normals (N, 3) by spheres along the fingers and the palm."""
    chains = keypoints[1:].reshape(5, 4, 3)
    steps = np.array([0.25, 0.6, 0.95])[:, None, None, None]
    fingers = (chains[:, :3] + (chains[:, 1:] - chains[:, :3]) * steps).reshape(-1, 3)
    palm = (keypoints[0] + (chains[1:, 0] - keypoints[0]) * np.array([0.35, 0.7, 0.95])[:, None, None]).reshape(-1, 3)
    centres = np.concatenate([fingers, palm]).astype(np.float32)
    radii = np.repeat(np.float32([0.042, 0.065]), [len(fingers), len(palm)])
    points, normals = points.astype(np.float32), normals.astype(np.float32)
    squared = (points ** 2).sum(axis=1)[:, None] + (centres ** 2).sum(axis=1) - 2 * points @ centres.T
    squared = np.maximum(squared, radii ** 2)
    facing = (normals @ centres.T - (normals * points).sum(axis=1)[:, None]) / np.sqrt(squared)
    return np.maximum(np.prod(1 - np.maximum(facing, 0) * radii ** 2 / squared, axis=1), 0.25)


def compose(rng: np.random.Generator, picture: np.ndarray, split: str) -> np.ndarray:
    """The drawn hand (HxWx4, premultiplied RGB and coverage) before a random background, HxWx3 uint8 BGR."""
    height, width = picture.shape[:2]
    background = random_background(rng, height, width, split).astype(np.float32)
    alpha = picture[..., 3:].astype(np.float32) / 255
    if rng.random() < 0.35:                                                 # the hand's shadow on what is behind
        shift = np.float32([[1, 0, rng.normal(0, 0.06) * width], [0, 1, rng.uniform(0, 0.1) * height]])
        shade = cv2.warpAffine(alpha[..., 0], shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
        shade = cv2.GaussianBlur(shade, (0, 0), max(height, width) * rng.uniform(0.005, 0.04))
        background *= 1 - rng.uniform(0.15, 0.6) * shade[..., None]
    return (background * (1 - alpha) + picture[..., 2::-1]).clip(0, 255).astype(np.uint8)


def occlude(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Puts a textured bar or patch over a part of the hand; the mask loses what is covered."""
    height, width = mask.shape
    ys, xs = np.nonzero(mask)
    if len(xs) == 0:
        return image, mask
    pick = rng.integers(len(xs))
    size = np.sqrt(len(xs)) * rng.uniform((0.15, 0.5), (0.35, 2.5))
    corners = cv2.boxPoints(((float(xs[pick]), float(ys[pick])), size.tolist(), rng.uniform(0, 180)))
    cover = np.zeros((height, width), np.uint8)
    cv2.fillPoly(cover, [corners.astype(np.int32)], 255)
    alpha = cv2.GaussianBlur(cover, (0, 0), 0.7)[..., None] / 255.0
    texture = random_background(rng, height, width, split)
    return (image * (1 - alpha) + texture * alpha).astype(np.uint8), np.where(cover > 0, 0, mask).astype(np.uint8)


def photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What a camera adds: white balance, exposure, defocus, motion, lost resolution, noise."""
    height, width = image.shape[:2]
    curve = (np.arange(256) / 255.0) ** np.exp(rng.normal(0, 0.17)) * 255 * np.exp(rng.normal(0, 0.08))
    image = cv2.LUT(image, np.clip(curve[:, None] * np.exp(rng.normal(0, 0.04, 3)), 0, 255).astype(np.uint8).reshape(1, 256, 3))
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.6) * max(height, width) / 400)
    if rng.random() < 0.12:
        reach, angle = rng.uniform(2, 9) * max(height, width) / 400, rng.uniform(0, np.pi)
        kernel = np.zeros((21, 21), np.float32)
        step = np.array([np.cos(angle), np.sin(angle)]) * min(reach, 20) / 2
        cv2.line(kernel, np.round(10 - step).astype(int).tolist(), np.round(10 + step).astype(int).tolist(), 1.0, 1, cv2.LINE_AA)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if rng.random() < 0.2:
        factor = rng.uniform(0.35, 0.8)
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.8:
        grain = rng.standard_normal((height, width, 1 if rng.random() < 0.5 else 3), np.float32)
        if rng.random() < 0.4:
            grain = cv2.GaussianBlur(grain, (0, 0), 0.8).reshape(grain.shape) * 2
        image = np.clip(image + grain * np.float32(np.exp(rng.uniform(0, 2.3))), 0, 255).astype(np.uint8)
    return image


def _linear(srgb: np.ndarray) -> np.ndarray:
    return np.asarray(srgb) ** 2.2


def _arm_place(mesh: HandMesh, rest: Rest) -> np.ndarray:
    """(V,) place along the arm of the base vertices: 0 at the wrist, 1 at the elbow, about 2 at the shoulder; negative on the hand."""
    elbow = rest.heads[BONES.index("upperarm")]
    weights = mesh.weights[:, BONES.index("upperarm")]
    shoulder = rest.points[weights > 0.9].mean(axis=0) - elbow
    lower, upper = rest.points @ elbow / (elbow @ elbow), (rest.points - elbow) @ shoulder / (shoulder @ shoulder) / 2
    return np.where(weights > 0.5, 1 + np.maximum(upper, 0), np.minimum(lower, 1 + np.maximum(upper, 0)))


def _paint(mesh: HandMesh) -> np.ndarray:
    """(S, 16) vertices with everything that does not change with the pose; see `render.LAYOUT`."""
    rest = mesh.shape()
    smooth = mesh.subdivision
    points, weights = smooth @ rest.points, smooth @ mesh.weights
    vertices = np.zeros((len(points), VERTEX_FLOATS), np.float32)
    vertices[:, 6:9] = points
    facing = np.tile((0.0, 0.0, 1.0), (len(BONES), 1))                      # the palmar direction of every bone
    vertices[:, 14:] = 9.0
    for finger in range(5):
        joints = rest.keypoints[1 + 4 * finger:5 + 4 * finger]
        bones = [BONES.index(f"finger{finger + 1}-{j}") for j in (1, 2, 3)]
        along = np.diff(joints, axis=0)
        hinges = [across(THUMB_HINGE if finger == 0 else np.array([1.0, 0, 0]), bone) for bone in along]
        facing[bones] = [np.cross(hinge, bone / np.linalg.norm(bone)) for hinge, bone in zip(hinges, along)]
        here = weights[:, bones].sum(axis=1) > 0.5
        shares = np.einsum("nkj,kj->nk", points[here, None] - joints[:3], along) / (along ** 2).sum(axis=1)
        # 1 + bones travelled, so that the joints lie at 1, 2, 3; the thumb's base shows no crease.
        one, two, three = shares.T
        place = np.where(three > 0, 3 + three, np.where(two > 0, 2 + np.minimum(two, 1), 1 + np.minimum(one, 1)))
        vertices[here, 13] = np.where((finger == 0) & (place < 1.5), 0, np.clip(place, 0, 3.45))
        tip = here & (weights[:, bones[2]] > 0.5)
        offsets = points[tip] - (joints[2] + 0.66 * along[2])
        sideways = offsets @ hinges[2]
        vertices[tip, 14] = sideways / (0.78 * np.abs(sideways).max())
        vertices[tip, 15] = offsets @ along[2] / (along[2] @ along[2]) / 0.36
    normals = mesh.normals(points)
    inward = ((weights @ facing) * normals).sum(axis=1)
    hand = weights[:, IS_HAND].sum(axis=1)
    vertices[:, 9] = hand * (0.5 + 0.5 * inward) + (1 - hand) * (0.35 + 0.15 * inward)      # an arm differs less between its sides
    vertices[:, 10] = hand
    vertices[:, 11] = smooth @ _arm_place(mesh, rest)
    vertices[:, 12] = 1.0
    return vertices
