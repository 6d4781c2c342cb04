"""Things around the hand: one that it holds, one that crosses before it, a table or wall that it rests on; as surfaces for `render`.

Everything is in camera space and in hand lengths. keypoints: (21, 3), those of a right hand (see `hand_mesh`).
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from data_tools.hands.backgrounds import random_background
from data_tools.hands.render import TEXTURE_SIZE, VERTEX_FLOATS, Surface

FLESH = 0.045  # from a finger's axis to its skin, and a little air
KINDS = ("cylinder", "box", "ball")
TRIES = 8


@functools.cache
def primitive(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3), outward normals (N, 3), texture places (N, 2) and triangles (T, 3) of a body that fills [-1, 1]^3; a cylinder's
    axis is y."""
    if kind == "box":
        side = lambda u, v, axis, sign: np.insert(
            np.stack([u, v]), axis, np.full(u.shape, sign), axis=0
        )  # noqa: E731
        faces = [
            _grid(functools.partial(side, axis=axis, sign=sign), 2, 2)
            for axis in range(3)
            for sign in (-1.0, 1.0)
        ]
    elif kind == "cylinder":
        turn = lambda u, r, y: np.stack([r * np.cos(np.pi * u), y, r * np.sin(np.pi * u)])  # noqa: E731
        faces = [_grid(lambda u, v: turn(u, np.ones_like(u), v), 25, 2)] + [
            _grid(lambda u, v, y=y: turn(u, (v + 1) / 2, np.full(u.shape, y)), 25, 2)
            for y in (-1.0, 1.0)
        ]
    else:
        faces = [
            _grid(
                lambda u, v: np.stack(
                    [
                        np.cos(np.pi / 2 * v) * np.cos(np.pi * u),
                        np.sin(np.pi / 2 * v),
                        np.cos(np.pi / 2 * v) * np.sin(np.pi * u),
                    ]
                ),
                25,
                13,
            )
        ]
    points, places, triangles, first = [], [], [], 0
    for face in faces:
        points.append(face[0]), places.append(face[1]), triangles.append(face[2] + first)
        first += len(face[0])
    points, places, triangles = (np.concatenate(part) for part in (points, places, triangles))
    a, b, c = (points[triangles[:, i]] for i in range(3))
    faced = np.cross(b - a, c - a)
    inward = (faced * (a + b + c)).sum(axis=1) < 0  # the origin lies inside
    triangles[inward] = triangles[inward, ::-1]
    faced[inward] *= -1
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], faced)
    return (
        points,
        normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9),
        places,
        triangles,
    )


def _grid(shape, columns: int, rows: int):
    """Points, texture places and triangles of a sheet: shape maps u, v in [-1, 1] to x, y, z."""
    u, v = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    corner = np.arange(columns * rows).reshape(rows, columns)
    a, b, c, d = (
        corner[y : y - 1 or None, x : x - 1 or None].ravel()
        for y, x in ((0, 0), (0, 1), (1, 1), (1, 0))
    )
    triangles = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    return (
        shape(u, v).reshape(3, -1).T,
        np.stack([u, v], axis=-1).reshape(-1, 2) / 2 + 0.5,
        triangles,
    )


def place(
    rng: np.random.Generator,
    kind: str,
    half: tuple,
    axes: np.ndarray,
    centre: np.ndarray,
    split: str,
) -> Surface:
    """A primitive of half sizes `half` (3,) along `axes` (3, 3: rows x, y, z) around `centre`, with a random surface."""
    points, normals, places, triangles = primitive(kind)
    vertices = np.zeros((len(points), VERTEX_FLOATS), np.float32)
    vertices[:, :3] = points * half @ axes + centre
    faced = normals / half @ axes
    vertices[:, 3:6] = faced / np.maximum(np.linalg.norm(faced, axis=1, keepdims=True), 1e-9)
    vertices[:, 6:9] = points * half + rng.uniform(0, 9, 3)
    textured = rng.random() < 0.6
    grey = rng.uniform(0.02, 0.9)
    plain = np.clip(grey + rng.normal(0, rng.choice([0.03, 0.25]), 3), 0.01, 1) ** 2.2
    vertices[:, 9:12], vertices[:, 12] = (1.0 if textured else plain), 1.0
    vertices[:, 13:15] = places * rng.choice([1, 2])
    vertices[:, 15] = rng.choice([0.0, rng.uniform(0.1, 1.2)])
    texture = None
    if textured:
        texture = cv2.cvtColor(
            random_background(rng, TEXTURE_SIZE, TEXTURE_SIZE, split), cv2.COLOR_BGR2RGB
        )
    return Surface(vertices, triangles, texture)


def held(rng: np.random.Generator, keypoints: np.ndarray, split: str) -> tuple[Surface, str] | None:
    """Something that lies between the fingers without running through them, as large as they leave room for; None if they leave none."""
    radial, distal = (_unit(keypoints[a] - keypoints[b]) for a, b in ((5, 17), (9, 0)))
    palmar = _unit(np.cross(radial, distal))
    chains = keypoints[1:].reshape(5, 4, 3)
    steps = np.linspace(0, 1, 5)[:, None, None, None]
    fingers = (chains[:, :3] + (chains[:, 1:] - chains[:, :3]) * steps).reshape(-1, 3)
    palm = (
        keypoints[0] + (chains[1:, 0] - keypoints[0]) * np.linspace(0.2, 1, 5)[:, None, None]
    ).reshape(-1, 3)
    flesh = np.concatenate([fingers, palm])
    for _ in range(TRIES):
        kind = KINDS[rng.choice(3, p=(0.45, 0.35, 0.2))]
        shares = rng.dirichlet((1, 1, 1, 1.5))
        centre = shares @ np.stack(
            [*keypoints[[4, 8, 12]], keypoints[[0, 5, 9, 13, 17]].mean(axis=0)]
        ) + palmar * rng.uniform(0, 0.2)
        axis = (
            _unit(radial + rng.normal(0, 0.35, 3))
            if rng.random() < 0.7
            else _unit(rng.normal(size=3))
        )
        away = flesh - centre
        if kind != "ball":
            away = away - np.outer(away @ axis, axis)
        room = np.linalg.norm(away, axis=1).min() - FLESH
        if room < 0.015:
            continue
        radius = min(room, np.exp(rng.uniform(np.log(0.03), np.log(0.5))))
        across = _unit(np.cross(axis, palmar if abs(axis @ palmar) < 0.95 else radial))
        axes = np.stack([across, axis, np.cross(across, axis)])
        length, flat = rng.uniform(0.15, 1.1), rng.uniform(0.15, 0.9)
        half = {
            "ball": (radius,) * 3,
            "cylinder": (radius, length, radius),
            "box": (radius * np.cos(flat), length, radius * np.sin(flat)),
        }[kind]
        return place(rng, kind, half, axes, centre, split), kind
    return None


def crossing(
    rng: np.random.Generator, keypoints: np.ndarray, nearest: float, split: str
) -> tuple[Surface, str]:
    """Something between the camera and the hand, before one of its joints; nearest: the hand's smallest z."""
    kind = KINDS[rng.choice(3, p=(0.45, 0.4, 0.15))]
    thickness, length = np.exp(rng.uniform(np.log(0.02), np.log(0.16))), rng.uniform(0.2, 1.5)
    half = {
        "ball": (2 * thickness,) * 3,
        "cylinder": (thickness, length, thickness),
        "box": (thickness, length, thickness * rng.uniform(0.1, 1)),
    }[kind]
    axes = _turned(_unit(rng.normal(size=3) * (1, 1, 0.15)), rng)
    reach = np.abs(np.array(half)[:, None] * axes).sum(axis=0)[2]
    joint = keypoints[rng.integers(21)]
    depth = nearest - reach - rng.uniform(0.02, 0.3)
    centre = joint * (depth / joint[2]) + axes[1] * length * rng.uniform(-0.9, 0.9)
    return place(rng, kind, half, axes, centre, split), kind


def resting(rng: np.random.Generator, points: np.ndarray, split: str) -> Surface:
    """A slab close behind the points (N, 3), more or less across the view: a table, a book, a wall that the hand's shadow falls on."""
    towards = _unit(np.array((0.0, 0.0, -1.0)) + rng.normal(0, 0.3, 3) * (1, 1, 0))
    thickness, gap = (
        np.exp(rng.uniform(np.log(0.02), np.log(0.3))),
        rng.choice([0.0, rng.uniform(0, 0.4)]),
    )
    axes = _turned(towards, rng)[[2, 0, 1]]
    half = (*np.exp(rng.uniform(np.log(0.5), np.log(4.0), 2)), thickness)
    middle = points.mean(axis=0)
    back = ((points - middle) @ towards).min() - gap - thickness
    drift = rng.normal(0, 0.5, 2) * np.array(half[:2])
    return place(rng, "box", half, axes, middle + back * towards + drift @ axes[:2], split)


def _turned(axis: np.ndarray, rng) -> np.ndarray:
    """Axes (3, 3) whose second row is `axis`, turned about it at random."""
    across = _unit(np.cross(axis, _unit(rng.normal(size=3))))
    return np.stack([across, axis, np.cross(across, axis)])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-9)
