"""Off-screen OpenGL renderer: one draw of a shaded, anti-aliased picture with its alpha, one of what each pixel sees and how far.

Uses `moderngl` on a standalone EGL context; Mesa's software rasteriser (llvmpipe) is enough, no display or GPU is needed.
The camera follows OpenCV: x right, y down, z away from the viewer; pixel centres are integers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

from data_tools.hands import shaders
from data_tools.hands.hand_mesh import SetupError

SAMPLES = 4  # anti-aliasing of the picture; the truth has none
SHADOW_SIZE = 512
TEXTURE_SIZE = 256
# The mask holds the skin of which the hand's bones (wrist to fingertips) carry at least this share: it ends 4 % of a hand's length
# behind the wrist joint, so that the wrist keypoint lies within it.
HAND_SHARE = 0.35
# Vertex layout. Skin: position, normal, place on the rest hand, (palm, hand, arm, openness), (joint phase, nail across, nail along).
# Plain surfaces: position, normal, place at rest, (linear RGB, openness), (texture u, v, gloss).
LAYOUT = ("3f 3f 3f 4f 3f", "position", "normal", "rest", "paint", "detail")
VERTEX_FLOATS = 16


@dataclass
class Camera:
    """Pinhole camera of a width x height picture. focal, cx, cy in pixels; near and far in scene units."""

    width: int
    height: int
    focal: float
    cx: float
    cy: float
    near: float
    far: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points in camera space to (N, 2) pixels."""
        return points[:, :2] / points[:, 2:] * self.focal + (self.cx, self.cy)

    def matrix(self) -> np.ndarray:
        """(4, 4) to clip space. Row 0 of the picture is row 0 of the frame buffer; a pixel's centre lies at +0.5 in OpenGL."""
        depth = (
            (self.far + self.near) / (self.far - self.near),
            -2 * self.far * self.near / (self.far - self.near),
        )
        return np.array(
            [
                [2 * self.focal / self.width, 0, (2 * self.cx + 1) / self.width - 1, 0],
                [0, 2 * self.focal / self.height, (2 * self.cy + 1) / self.height - 1, 0],
                [0, 0, depth[0], depth[1]],
                [0, 0, 1, 0],
            ]
        )


@dataclass
class Light:
    """direction: unit vector towards the light, in camera space; colour: linear RGB."""

    direction: np.ndarray
    colour: np.ndarray


@dataclass
class Look:
    """Colours are linear RGB. noise_offset: (3,) picks the skin's pattern; sleeve: place on the arm (0 wrist, 1 elbow, 2 shoulder)
    where cloth begins, cloth_depth hand lengths above the skin."""

    back: np.ndarray
    palm: np.ndarray
    nail: np.ndarray
    cloth: np.ndarray
    lights: list[Light]
    ambient: np.ndarray
    bounce: np.ndarray
    noise_offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    mottling: float = 0.1
    creases: float = 0.3
    veins: float = 0.3
    gloss: float = 0.2
    roughness: float = 0.5
    sleeve: float = 9.0
    cloth_depth: float = 0.03
    exposure: float = 1.0


@dataclass
class Surface:
    """Something that is not the hand nor its arm. vertices: (N, 16) as LAYOUT for plain surfaces; triangles: (T, 3), outward;
    texture: TEXTURE_SIZE square uint8 RGB, sRGB-coded, or None; casts: whether it throws a shadow."""

    vertices: np.ndarray
    triangles: np.ndarray
    texture: np.ndarray | None = None
    casts: bool = True


class Renderer:
    """One OpenGL context with its programs and buffers. Make one per process: contexts cannot be shared or forked."""

    def __init__(self):
        # The pictures are small: llvmpipe's own threads cost more than they bring.
        os.environ.setdefault("LP_NUM_THREADS", "0")
        try:
            import moderngl  # optional: the extra `synth`
        except ImportError:
            raise SetupError(
                "the package moderngl is not installed; run: pip install 'moderngl>=5.8,<6'"
            ) from None
        try:
            self.context = moderngl.create_context(
                standalone=True, backend="egl", libgl="libGL.so.1", libegl="libEGL.so.1"
            )
        except Exception as error:  # noqa: BLE001 - the back end raises plain Exceptions
            raise SetupError(
                f"no off-screen OpenGL ({error}); on Debian or Ubuntu: "
                "apt-get install libegl1 libgl1 libgl1-mesa-dri"
            ) from None
        self.context.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)  # saves half the shading
        self.context.front_face = "cw"
        program = self.context.program
        self._programs = {
            "skin": program(vertex_shader=shaders.VERTEX, fragment_shader=shaders.SKIN),
            "plain": program(vertex_shader=shaders.VERTEX, fragment_shader=shaders.PLAIN),
            "truth": program(
                vertex_shader=shaders.TRUTH_VERTEX, fragment_shader=shaders.TRUTH_FRAGMENT
            ),
            "shadow": program(
                vertex_shader=shaders.DEPTH_VERTEX, fragment_shader=shaders.DEPTH_FRAGMENT
            ),
        }
        self._hand, self._others, self._targets = None, {}, {}
        self._shadow_map = self.context.depth_texture((SHADOW_SIZE, SHADOW_SIZE))
        self._shadow_map.compare_func = "<="
        self._shadow_map.repeat_x = self._shadow_map.repeat_y = False
        self._shadow_target = self.context.framebuffer(depth_attachment=self._shadow_map)
        self._texture = self.context.texture((TEXTURE_SIZE, TEXTURE_SIZE), 3)
        self._texture.repeat_x = self._texture.repeat_y = True

    @property
    def device(self) -> str:
        """The name of the OpenGL driver, which the exact pixels depend on."""
        return self.context.info["GL_RENDERER"]

    def set_faces(self, quads: np.ndarray) -> None:
        """The (F, 4) quads that `draw` connects the hand's vertices by."""
        self._hand = _Buffers(
            self.context, self._programs, quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3), "skin"
        )

    def draw(
        self,
        vertices: np.ndarray,
        camera: Camera,
        look: Look,
        centre: np.ndarray,
        radius: float,
        surfaces: list[Surface] = (),
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draws the hand's vertices (N, 16), laid out as LAYOUT, in camera space, and the other surfaces.

        centre (3,), radius: the sphere that casts and receives the shadow of the first light. Returns the picture, HxWx4 uint8
        of sRGB-coded RGB premultiplied by coverage and that coverage; what every pixel's centre sees, HxW uint8 of
        shaders.NOTHING, HAND (skin of which the hand's bones, wrist to fingertips, carry at least HAND_SHARE), ARM or OTHER; and
        how far that is along z, HxW float32.
        """
        self._hand.vertices.write(np.ascontiguousarray(vertices, "f4").tobytes())
        drawn = [(self._hand, None)] + [
            (self._buffers(place, surface), surface) for place, surface in enumerate(surfaces)
        ]
        matrix, shadow = camera.matrix(), _light_matrix(look.lights[0].direction, centre, radius)
        self._shadow_target.use()
        self._shadow_target.clear(depth=1.0)
        self._programs["shadow"]["matrix"].write(_bytes(shadow))
        for buffers, surface in drawn:
            if surface is None or surface.casts:
                buffers.arrays["shadow"].render()

        picture, resolved, truth = self._target(camera.width, camera.height)
        picture.use()
        picture.clear(0, 0, 0, 0, depth=1.0)
        for name in ("skin", "plain"):
            self._set_light(self._programs[name], look, matrix, shadow)
        self._set_skin(look)
        self._shadow_map.use(0)
        self._texture.use(1)
        self._programs["plain"]["picture"] = 1
        for buffers, surface in drawn:
            if surface is not None:
                white = np.full((TEXTURE_SIZE, TEXTURE_SIZE, 3), 255, np.uint8)
                self._texture.write(
                    (
                        white if surface.texture is None else np.ascontiguousarray(surface.texture)
                    ).tobytes()
                )
            buffers.arrays["picture"].render()
        self.context.copy_framebuffer(resolved, picture)

        truth.use()
        truth.clear(0, 0, 0, 0, depth=1.0)
        program = self._programs["truth"]
        program["matrix"].write(_bytes(matrix))
        for buffers, surface in drawn:
            program["hand_share"], program["otherwise"] = (
                (HAND_SHARE, shaders.ARM) if surface is None else (2.0**100, shaders.OTHER)
            )
            buffers.arrays["truth"].render()
        size = camera.height, camera.width
        seen = np.frombuffer(truth.read(components=2, dtype="f4"), np.float32).reshape(*size, 2)
        return (
            np.frombuffer(resolved.read(components=4, alignment=1), np.uint8).reshape(*size, 4),
            seen[..., 0].astype(np.uint8),
            seen[..., 1],
        )

    def _buffers(self, place: int, surface: Surface) -> _Buffers:
        """The buffers of the surface at this place in the list, kept as long as the mesh is the same."""
        kept = self._others.get(place)
        if kept is None or kept.triangles is not surface.triangles:
            if kept is not None:
                kept.release()
            kept = self._others[place] = _Buffers(
                self.context, self._programs, surface.triangles, "plain"
            )
        kept.vertices.write(np.ascontiguousarray(surface.vertices, "f4").tobytes())
        return kept

    def _target(self, width: int, height: int):
        """Frame buffers of this size: multisampled picture, its resolved copy, truth. Only the last size is kept."""
        if (width, height) not in self._targets:
            for target in self._targets.pop(next(iter(self._targets), None), []):
                for attachment in (*target.color_attachments, target.depth_attachment):
                    if attachment is not None:
                        attachment.release()
                target.release()
            size, new = (width, height), self.context
            self._targets[size] = (
                new.framebuffer(
                    [new.renderbuffer(size, 4, samples=SAMPLES)],
                    new.depth_renderbuffer(size, samples=SAMPLES),
                ),
                new.framebuffer([new.renderbuffer(size, 4)]),
                new.framebuffer(
                    [new.renderbuffer(size, 2, dtype="f4")], new.depth_renderbuffer(size)
                ),
            )
        return self._targets[width, height]

    @staticmethod
    def _set_light(program, look: Look, matrix: np.ndarray, shadow: np.ndarray) -> None:
        program["matrix"].write(_bytes(matrix))
        program["shadow_matrix"].write(_bytes(shadow))
        program["texel"] = 1.0 / SHADOW_SIZE
        program["ambient"], program["bounce"], program["exposure"] = (
            tuple(look.ambient),
            tuple(look.bounce),
            float(look.exposure),
        )
        directions, colours = np.zeros((3, 3), "f4"), np.zeros((3, 3), "f4")
        for i, light in enumerate(look.lights[:3]):
            directions[i], colours[i] = light.direction, light.colour
        program["light_direction"].write(directions.tobytes())
        program["light_colour"].write(colours.tobytes())

    def _set_skin(self, look: Look) -> None:
        program = self._programs["skin"]
        for name in ("back", "palm", "nail", "cloth", "noise_offset"):
            program[name] = tuple(getattr(look, name))
        for name in ("mottling", "creases", "veins", "gloss", "roughness", "sleeve"):
            program[name] = float(getattr(look, name))


class _Buffers:
    """A mesh on the card: its triangles, room for its vertices, and how each program reads them."""

    def __init__(self, context, programs: dict, triangles: np.ndarray, look: str):
        self.triangles = triangles
        self.vertices = context.buffer(
            reserve=4 * VERTEX_FLOATS * (int(triangles.max()) + 1), dynamic=True
        )
        self._faces = context.buffer(triangles.astype("u4").tobytes())
        layouts = {
            "picture": (programs[look], LAYOUT),
            "truth": (programs["truth"], ("3f 24x 4x 1f 8x 12x", "position", "hand")),
            "shadow": (programs["shadow"], ("3f 52x", "position")),
        }
        self.arrays = {
            name: context.vertex_array(program, [(self.vertices, *layout)], self._faces)
            for name, (program, layout) in layouts.items()
        }

    def release(self) -> None:
        for thing in (*self.arrays.values(), self.vertices, self._faces):
            thing.release()


def _bytes(matrix: np.ndarray) -> bytes:
    return matrix.T.astype("f4").tobytes()  # OpenGL stores columns


def _light_matrix(direction: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Orthographic view along -direction that holds the sphere; x, y, depth in [-1, 1]."""
    side = np.cross(direction, (0.0, 1.0, 0.0) if abs(direction[1]) < 0.9 else (1.0, 0.0, 0.0))
    side = side / np.linalg.norm(side)
    axes = np.stack([side, np.cross(side, direction), -np.asarray(direction)]) / radius
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = -axes @ centre
    return matrix
