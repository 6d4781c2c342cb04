"""Objects around the hand: held, crossing before it, or behind it; as surfaces for `render`.

Everything is in camera space and in hand lengths. joints: (21, 3), those of a right hand (see
`hand_mesh`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from data_tools.hands import vertex_layout
from data_tools.hands.backgrounds import random_background
from data_tools.hands.hand_mesh import (
    FINGER_BASES,
    INDEX_BASE,
    MIDDLE_BASE,
    PINKY_BASE,
    WRIST,
    bone_points,
    normalize_rows,
)
from data_tools.hands.render import TEXTURE_SIZE, Surface, to_linear

FLESH = 0.045  # from a finger's axis to its skin, and a little air
KINDS = ("cylinder", "box", "ball")
TRIES = 8
LEAST_RADIUS = 0.015  # of a held object; with less room for it there is none
GRIPPING_TIPS = [4, 8, 12]  # joints: the tips of thumb, index and middle finger
PALM_CORNERS = [WRIST, *FINGER_BASES]
TURN_STEPS, TILT_STEPS = 25, 13  # of a round surface's mesh

SheetShape = Callable[[np.ndarray, np.ndarray], np.ndarray]  # u, v in [-1, 1] to (3, ...) x, y, z


class Mesh(NamedTuple):
    """A body's mesh.

    Attributes:
        points: (N, 3).
        normals: (N, 3) outward, of length 1.
        texture_coordinates: (N, 2) u, v in [0, 1].
        triangles: (T, 3) indices of points, outward.
    """

    points: np.ndarray
    normals: np.ndarray
    texture_coordinates: np.ndarray
    triangles: np.ndarray


class _Sheet(NamedTuple):
    """A bent rectangle of a mesh; the attributes are those of `Mesh`."""

    points: np.ndarray
    texture_coordinates: np.ndarray
    triangles: np.ndarray


class NamedSurface(NamedTuple):
    """A surface for `render`, and the kind of object that it is, one of KINDS."""

    surface: Surface
    kind: str


@functools.cache
def make_primitive(kind: str) -> Mesh:
    """Make the mesh of a body that fills [-1, 1]^3; a cylinder's axis is y.

    Args:
        kind: One of KINDS.
    """
    make_sheets = {"box": _box_sheets, "cylinder": _cylinder_sheets, "ball": _ball_sheets}
    sheets = make_sheets[kind]()
    first_points = np.cumsum([0] + [len(sheet.points) for sheet in sheets])
    points = np.concatenate([sheet.points for sheet in sheets])
    texture_coordinates = np.concatenate([sheet.texture_coordinates for sheet in sheets])
    triangles = np.concatenate(
        [sheet.triangles + first for sheet, first in zip(sheets, first_points)]
    )
    a, b, c = (points[triangles[:, i]] for i in range(3))
    area_vectors = np.cross(b - a, c - a)
    inward = (area_vectors * (a + b + c)).sum(axis=1) < 0  # the origin lies inside
    triangles[inward] = triangles[inward, ::-1]
    area_vectors[inward] *= -1
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], area_vectors)
    return Mesh(points, normalize_rows(normals), texture_coordinates, triangles)


def _box_sheets() -> list[_Sheet]:
    """Return the six sides of a cube."""

    def side(u: np.ndarray, v: np.ndarray, axis: int, sign: float) -> np.ndarray:
        return np.insert(np.stack([u, v]), axis, np.full(u.shape, sign), axis=0)

    return [
        _make_sheet(functools.partial(side, axis=axis, sign=sign), 2, 2)
        for axis in range(3)
        for sign in (-1.0, 1.0)
    ]


def _cylinder_sheets() -> list[_Sheet]:
    """Return the wall and the two ends of a cylinder."""

    def wall(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return _around_y(u, np.ones_like(u), v)

    def end(u: np.ndarray, v: np.ndarray, y: float) -> np.ndarray:
        return _around_y(u, (v + 1) / 2, np.full(u.shape, y))

    return [_make_sheet(wall, TURN_STEPS, 2)] + [
        _make_sheet(functools.partial(end, y=y), TURN_STEPS, 2) for y in (-1.0, 1.0)
    ]


def _ball_sheets() -> list[_Sheet]:
    """Return the single sheet of a ball, from pole to pole."""

    def globe(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return _around_y(u, np.cos(np.pi / 2 * v), np.sin(np.pi / 2 * v))

    return [_make_sheet(globe, TURN_STEPS, TILT_STEPS)]


def _around_y(turn: np.ndarray, radius: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return points at a radius around the y axis; turn: half turns, from -1 to 1."""
    return np.stack([radius * np.cos(np.pi * turn), y, radius * np.sin(np.pi * turn)])


def _make_sheet(shape: SheetShape, columns: int, rows: int) -> _Sheet:
    """Make a sheet of columns x rows points."""
    u, v = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    index = np.arange(columns * rows).reshape(rows, columns)
    a, b, c, d = (
        index[y : y - 1 or None, x : x - 1 or None].ravel()
        for y, x in ((0, 0), (0, 1), (1, 1), (1, 0))
    )
    return _Sheet(
        shape(u, v).reshape(3, -1).T,
        np.stack([u, v], axis=-1).reshape(-1, 2) / 2 + 0.5,
        np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]),
    )


def place_primitive(
    rng: np.random.Generator,
    kind: str,
    *,
    half_sizes: Sequence[float],
    axes: np.ndarray,
    centre: np.ndarray,
    split: str,
) -> Surface:
    """Place a primitive, with a random surface.

    Args:
        rng: Draws colour, texture and gloss.
        kind: One of KINDS.
        half_sizes: (3,) along its own x, y, z.
        axes: (3, 3), whose rows are its x, y and z axis.
        centre: (3,).
        split: "Train" or "Test", which share no photograph.
    """
    mesh = make_primitive(kind)
    vertices = np.zeros((len(mesh.points), vertex_layout.VERTEX_FLOATS), np.float32)
    vertices[:, vertex_layout.POSITION] = mesh.points * half_sizes @ axes + centre
    vertices[:, vertex_layout.NORMAL] = normalize_rows(mesh.normals / half_sizes @ axes)
    vertices[:, vertex_layout.REST] = mesh.points * half_sizes + rng.uniform(0, 9, 3)
    textured = rng.random() < 0.6
    grey = rng.uniform(0.02, 0.9)
    plain = to_linear(np.clip(grey + rng.normal(0, rng.choice([0.03, 0.25]), 3), 0.01, 1))
    vertices[:, vertex_layout.COLOUR] = 1.0 if textured else plain
    vertices[:, vertex_layout.OPENNESS] = 1.0
    vertices[:, vertex_layout.TEXTURE] = mesh.texture_coordinates * rng.choice([1, 2])
    vertices[:, vertex_layout.GLOSS] = rng.choice([0.0, rng.uniform(0.1, 1.2)])
    texture = None
    if textured:
        texture = cv2.cvtColor(
            random_background(rng, TEXTURE_SIZE, TEXTURE_SIZE, split), cv2.COLOR_BGR2RGB
        )
    return Surface(vertices, mesh.triangles, texture)


def make_held_object(
    rng: np.random.Generator, joints: np.ndarray, split: str
) -> NamedSurface | None:
    """Make an object between the fingers, as large as they leave room for.

    Returns:
        The object, which no finger runs through, or None where the fingers leave no room.
    """
    radial = _unit(joints[INDEX_BASE] - joints[PINKY_BASE])
    distal = _unit(joints[MIDDLE_BASE] - joints[WRIST])
    palmar = _unit(np.cross(radial, distal))
    axes = bone_points(joints, np.linspace(0, 1, 5), np.linspace(0.2, 1, 5))
    flesh = np.concatenate([points.reshape(-1, 3) for points in axes])
    for _ in range(TRIES):
        kind = KINDS[rng.choice(3, p=(0.45, 0.35, 0.2))]
        shares = rng.dirichlet((1, 1, 1, 1.5))
        grip = [*joints[GRIPPING_TIPS], joints[PALM_CORNERS].mean(axis=0)]
        centre = shares @ np.stack(grip) + palmar * rng.uniform(0, 0.2)
        axis = (
            _unit(radial + rng.normal(0, 0.35, 3))
            if rng.random() < 0.7
            else _unit(rng.normal(size=3))
        )
        to_flesh = flesh - centre
        if kind != "ball":
            to_flesh = to_flesh - np.outer(to_flesh @ axis, axis)
        room = np.linalg.norm(to_flesh, axis=1).min() - FLESH
        if room < LEAST_RADIUS:
            continue
        radius = min(room, np.exp(rng.uniform(np.log(0.03), np.log(0.5))))
        across = _unit(np.cross(axis, palmar if abs(axis @ palmar) < 0.95 else radial))
        length, flatness = rng.uniform(0.15, 1.1), rng.uniform(0.15, 0.9)
        half_sizes = {
            "ball": (radius,) * 3,
            "cylinder": (radius, length, radius),
            "box": (radius * np.cos(flatness), length, radius * np.sin(flatness)),
        }[kind]
        surface = place_primitive(
            rng,
            kind,
            half_sizes=half_sizes,
            axes=np.stack([across, axis, np.cross(across, axis)]),
            centre=centre,
            split=split,
        )
        return NamedSurface(surface, kind)
    return None


def make_crossing_object(
    rng: np.random.Generator, joints: np.ndarray, nearest: float, split: str
) -> NamedSurface:
    """Make an object between the camera and the hand, before one of the hand's joints.

    Args:
        rng: Draws the object.
        joints: (21, 3).
        nearest: The hand's smallest z.
        split: "Train" or "Test", which share no photograph.
    """
    kind = KINDS[rng.choice(3, p=(0.45, 0.4, 0.15))]
    thickness, length = np.exp(rng.uniform(np.log(0.02), np.log(0.16))), rng.uniform(0.2, 1.5)
    # The box's thickness is drawn for every kind, so that a kind changes nothing that follows.
    half_sizes = {
        "ball": (2 * thickness,) * 3,
        "cylinder": (thickness, length, thickness),
        "box": (thickness, length, thickness * rng.uniform(0.1, 1)),
    }[kind]
    axes = _axes_around(_unit(rng.normal(size=3) * (1, 1, 0.15)), rng)
    reach = np.abs(np.array(half_sizes)[:, None] * axes).sum(axis=0)[2]
    joint = joints[rng.integers(21)]
    depth = nearest - reach - rng.uniform(0.02, 0.3)
    centre = joint * (depth / joint[2]) + axes[1] * length * rng.uniform(-0.9, 0.9)
    surface = place_primitive(
        rng, kind, half_sizes=half_sizes, axes=axes, centre=centre, split=split
    )
    return NamedSurface(surface, kind)


def make_backing(rng: np.random.Generator, points: np.ndarray, split: str) -> Surface:
    """Make a slab close behind points (N, 3), more or less across the view.

    It is a table, a book or a wall that the hand's shadow falls on.
    """
    towards = _unit(np.array((0.0, 0.0, -1.0)) + rng.normal(0, 0.3, 3) * (1, 1, 0))
    thickness = np.exp(rng.uniform(np.log(0.02), np.log(0.3)))
    gap = rng.choice([0.0, rng.uniform(0, 0.4)])
    axes = _axes_around(towards, rng)[[2, 0, 1]]
    half_sizes = (*np.exp(rng.uniform(np.log(0.5), np.log(4.0), 2)), thickness)
    middle = points.mean(axis=0)
    back = ((points - middle) @ towards).min() - gap - thickness
    drift = rng.normal(0, 0.5, 2) * np.array(half_sizes[:2])
    centre = middle + back * towards + drift @ axes[:2]
    return place_primitive(rng, "box", half_sizes=half_sizes, axes=axes, centre=centre, split=split)


def _axes_around(axis: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return axes (3, 3) whose second row is `axis`, turned about it at random."""
    across = _unit(np.cross(axis, _unit(rng.normal(size=3))))
    return np.stack([across, axis, np.cross(across, axis)])


def _unit(vector: np.ndarray) -> np.ndarray:
    """Return the vector at length 1."""
    return vector / max(np.linalg.norm(vector), 1e-9)
