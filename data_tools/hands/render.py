"""Renders off screen with OpenGL: a shaded image with its coverage, and what each pixel sees.

The renderer uses `moderngl` on a standalone EGL context. Mesa's software rasteriser (llvmpipe) is
enough; no display or GPU is needed. The camera follows OpenCV: x right, y down, z away from the
viewer; pixel centres are integers.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from data_tools.hands import shaders, vertex_layout
from data_tools.hands.hand_mesh import triangulate
from mcc_caffe.core.errors import UserError

SAMPLES = 4  # anti-aliasing of the image; the truth has none
SHADOW_SIZE = 512
TEXTURE_SIZE = 256
# The mask holds the skin of which the hand's bones (wrist to fingertips) carry at least this share.
# It ends 4 % of a hand's length behind the wrist joint, so that the wrist keypoint lies within it.
HAND_SHARE = 0.35
_WHITE = np.full((TEXTURE_SIZE, TEXTURE_SIZE, 3), 255, np.uint8)
_NEVER_HAND = 2.0**100  # a share that no skin reaches
_MOST_LIGHTS = 3  # that the shaders add up


@dataclass
class Camera:
    """Pinhole camera of a width x height image.

    Attributes:
        width: Pixels.
        height: Pixels.
        focal: Focal length, pixels.
        cx: Principal point, pixels.
        cy: Principal point, pixels.
        near: Smallest z that is drawn, scene units.
        far: Greatest z that is drawn, scene units.
    """

    width: int
    height: int
    focal: float
    cx: float
    cy: float
    near: float
    far: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return the pixels (N, 2) of points (N, 3) in camera space."""
        return points[:, :2] / points[:, 2:] * self.focal + (self.cx, self.cy)

    def matrix(self) -> np.ndarray:
        """Return the (4, 4) matrix from camera space to clip space.

        Row 0 of the image is row 0 of the frame buffer; OpenGL's pixel centres lie at +0.5.
        """
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
    """A distant light.

    Attributes:
        direction: Unit vector (3,) towards the light, in camera space.
        colour: Linear RGB (3,).
    """

    direction: np.ndarray
    colour: np.ndarray


@dataclass
class Appearance:
    """How the hand and its light look. Colours are linear RGB (3,).

    Attributes:
        back: Skin of the back of the hand.
        palm: Skin of the palm.
        nail: The nails.
        cloth: The sleeve.
        lights: One to three; the first one throws shadows.
        ambient: Light from above.
        bounce: Light from below.
        noise_offset: (3,) picks the skin's pattern.
        mottling: Strength of the skin's spots, from 0.
        creases: Strength of the lines over joints and palm, from 0.
        veins: Strength of veins and tendons, from 0.
        gloss: Strength of the skin's highlights, from 0.
        roughness: Width of the skin's highlights, 0 to 1.
        sleeve: Place on the arm (0 wrist, 1 elbow, 2 shoulder) where cloth begins.
        cloth_depth: Hand lengths that the cloth stands off the skin.
        exposure: Factor on the light that arrives.
    """

    back: np.ndarray
    palm: np.ndarray
    nail: np.ndarray
    cloth: np.ndarray
    lights: list[Light]
    ambient: np.ndarray
    bounce: np.ndarray
    noise_offset: np.ndarray
    mottling: float
    creases: float
    veins: float
    gloss: float
    roughness: float
    sleeve: float
    cloth_depth: float
    exposure: float


@dataclass
class Surface:
    """The surface of an object or a person: anything but the hand and its arm.

    Attributes:
        vertices: (N, 16), laid out as `vertex_layout` says for plain surfaces.
        triangles: (T, 3) corners, outward.
        texture: TEXTURE_SIZE square uint8 RGB, sRGB-coded, or None.
        casts: Whether it throws a shadow.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    texture: np.ndarray | None = None
    casts: bool = True


class Drawing(NamedTuple):
    """What the renderer draws.

    Attributes:
        rgba: HxWx4 uint8: sRGB-coded RGB, premultiplied by the coverage, and the coverage.
        labels: HxW uint8, what the centre of every pixel sees: shaders.NOTHING, HAND (skin of which
            the hand's bones carry at least HAND_SHARE), ARM or OTHER.
        depth: HxW float32, how far that is along z.
    """

    rgba: np.ndarray
    labels: np.ndarray
    depth: np.ndarray


class _Targets(NamedTuple):
    """Frame buffers of one size: the multisampled image, its resolved copy, and the truth."""

    multisampled: Any
    resolved: Any
    truth: Any


class _Buffers:
    """A mesh on the card: its triangles, room for its vertices, and how each program reads them."""

    def __init__(
        self, context: Any, programs: dict[str, Any], triangles: np.ndarray, program_name: str
    ):
        self.triangles = triangles
        self.vertices = context.buffer(
            reserve=4 * vertex_layout.VERTEX_FLOATS * (int(triangles.max()) + 1), dynamic=True
        )
        self._faces = context.buffer(triangles.astype("u4").tobytes())
        layouts = {
            "image": (programs[program_name], vertex_layout.LAYOUT),
            "truth": (programs["truth"], vertex_layout.TRUTH_LAYOUT),
            "shadow": (programs["shadow"], vertex_layout.SHADOW_LAYOUT),
        }
        self.arrays = {
            name: context.vertex_array(program, [(self.vertices, *layout)], self._faces)
            for name, (program, layout) in layouts.items()
        }

    def release(self) -> None:
        """Give the card's memory back."""
        for resource in (*self.arrays.values(), self.vertices, self._faces):
            resource.release()


class Renderer:
    """One OpenGL context with its programs and buffers.

    Make one in each process: contexts can neither be shared nor forked.
    """

    def __init__(self, quads: np.ndarray) -> None:
        """Open the context; UserError where moderngl or an OpenGL is missing.

        Args:
            quads: (F, 4), by which `draw` connects the hand's vertices.
        """
        # The images are small: llvmpipe's own threads cost more than they bring.
        os.environ.setdefault("LP_NUM_THREADS", "0")
        try:
            import moderngl  # optional: the extra `synth`
        except ImportError:
            raise UserError(
                "the package moderngl is not installed; run: pip install 'moderngl>=5.8,<6'"
            ) from None
        try:
            # Without the numbers the libraries of the development packages would be looked for.
            libraries: Any = {"libgl": "libGL.so.1", "libegl": "libEGL.so.1"}
            backend: Any = "egl"
            self.context: Any = moderngl.create_context(
                standalone=True, backend=backend, **libraries
            )
        except Exception as error:  # the back end raises plain Exceptions
            raise UserError(
                f"no off-screen OpenGL ({error}); on Debian or Ubuntu: "
                "apt-get install libegl1 libgl1 libgl1-mesa-dri"
            ) from None
        self.context.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)  # saves half the shading
        self.context.front_face = "cw"
        program = self.context.program
        self._programs: dict[str, Any] = {
            "skin": program(vertex_shader=shaders.VERTEX, fragment_shader=shaders.SKIN),
            "plain": program(vertex_shader=shaders.VERTEX, fragment_shader=shaders.PLAIN),
            "truth": program(
                vertex_shader=shaders.TRUTH_VERTEX, fragment_shader=shaders.TRUTH_FRAGMENT
            ),
            "shadow": program(
                vertex_shader=shaders.DEPTH_VERTEX, fragment_shader=shaders.DEPTH_FRAGMENT
            ),
        }
        self._hand = _Buffers(self.context, self._programs, triangulate(quads), "skin")
        self._surface_buffers: dict[int, _Buffers] = {}
        self._targets: dict[tuple[int, int], _Targets] = {}
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

    def draw(
        self,
        vertices: np.ndarray,
        camera: Camera,
        appearance: Appearance,
        *,
        centre: np.ndarray,
        radius: float,
        surfaces: Sequence[Surface] = (),
    ) -> Drawing:
        """Draw the hand and the surfaces around it.

        Args:
            vertices: (N, 16) of the hand in camera space, laid out as `vertex_layout` says.
            camera: Says the image's size as well.
            appearance: Skin, sleeve and light.
            centre: (3,) of the sphere that casts and receives the shadow of the first light.
            radius: The radius of that sphere.
            surfaces: In camera space.
        """
        hand, targets = self._hand, self._targets_of(camera.width, camera.height)
        hand.vertices.write(np.ascontiguousarray(vertices, "f4").tobytes())
        others = [
            (surface, self._buffers_of(index, surface)) for index, surface in enumerate(surfaces)
        ]
        matrix = camera.matrix()
        shadow = _light_matrix(appearance.lights[0].direction, centre, radius)
        self._draw_shadow(hand, others, shadow)
        for name in ("skin", "plain"):
            self._set_light(self._programs[name], appearance, matrix, shadow)
        self._set_skin(appearance)
        self._draw_image(targets, hand, others)
        self._draw_truth(targets, hand, others, matrix)
        size = camera.height, camera.width
        pixels = targets.resolved.read(components=4, alignment=1)
        truth = np.frombuffer(targets.truth.read(components=2, dtype="f4"), np.float32).reshape(
            *size, 2
        )
        return Drawing(
            np.frombuffer(pixels, np.uint8).reshape(*size, 4),
            truth[..., 0].astype(np.uint8),
            truth[..., 1],
        )

    def _draw_shadow(
        self, hand: _Buffers, others: Sequence[tuple[Surface, _Buffers]], shadow: np.ndarray
    ) -> None:
        """Draw how far the first light reaches; `shadow` is its matrix."""
        self._shadow_target.use()
        self._shadow_target.clear(depth=1.0)
        self._programs["shadow"]["matrix"].write(_bytes(shadow))
        hand.arrays["shadow"].render()
        for surface, buffers in others:
            if surface.casts:
                buffers.arrays["shadow"].render()

    def _draw_image(
        self, targets: _Targets, hand: _Buffers, others: Sequence[tuple[Surface, _Buffers]]
    ) -> None:
        """Draw what the camera sees, and resolve its samples."""
        targets.multisampled.use()
        targets.multisampled.clear(0, 0, 0, 0, depth=1.0)
        self._shadow_map.use(0)
        self._texture.use(1)
        self._programs["plain"]["image"] = 1
        hand.arrays["image"].render()
        for surface, buffers in others:
            texture = _WHITE if surface.texture is None else surface.texture
            self._texture.write(np.ascontiguousarray(texture).tobytes())
            buffers.arrays["image"].render()
        self.context.copy_framebuffer(targets.resolved, targets.multisampled)

    def _draw_truth(
        self,
        targets: _Targets,
        hand: _Buffers,
        others: Sequence[tuple[Surface, _Buffers]],
        matrix: np.ndarray,
    ) -> None:
        """Draw what is at each pixel and how far away; `matrix` is the camera's."""
        targets.truth.use()
        targets.truth.clear(0, 0, 0, 0, depth=1.0)
        program = self._programs["truth"]
        program["matrix"].write(_bytes(matrix))
        program["hand_share"], program["otherwise"] = HAND_SHARE, shaders.ARM
        hand.arrays["truth"].render()
        program["hand_share"], program["otherwise"] = _NEVER_HAND, shaders.OTHER
        for _, buffers in others:
            buffers.arrays["truth"].render()

    def _buffers_of(self, index: int, surface: Surface) -> _Buffers:
        """Return the buffers of a listed surface, the last ones as long as the mesh is the same."""
        buffers = self._surface_buffers.get(index)
        if buffers is None or buffers.triangles is not surface.triangles:
            if buffers is not None:
                buffers.release()
            buffers = self._surface_buffers[index] = _Buffers(
                self.context, self._programs, surface.triangles, "plain"
            )
        buffers.vertices.write(np.ascontiguousarray(surface.vertices, "f4").tobytes())
        return buffers

    def _targets_of(self, width: int, height: int) -> _Targets:
        """Return the frame buffers of this size; release those of another size."""
        size, new = (width, height), self.context
        if size not in self._targets:
            for targets in self._targets.values():
                for target in targets:
                    for attachment in (*target.color_attachments, target.depth_attachment):
                        if attachment is not None:
                            attachment.release()
                    target.release()
            self._targets.clear()
            self._targets[size] = _Targets(
                new.framebuffer(
                    [new.renderbuffer(size, 4, samples=SAMPLES)],
                    new.depth_renderbuffer(size, samples=SAMPLES),
                ),
                new.framebuffer([new.renderbuffer(size, 4)]),
                new.framebuffer(
                    [new.renderbuffer(size, 2, dtype="f4")], new.depth_renderbuffer(size)
                ),
            )
        return self._targets[size]

    @staticmethod
    def _set_light(
        program: Any, appearance: Appearance, matrix: np.ndarray, shadow: np.ndarray
    ) -> None:
        """Hand the camera and the light to a program."""
        program["matrix"].write(_bytes(matrix))
        program["shadow_matrix"].write(_bytes(shadow))
        program["texel"] = 1.0 / SHADOW_SIZE
        program["ambient"], program["bounce"] = tuple(appearance.ambient), tuple(appearance.bounce)
        program["exposure"] = float(appearance.exposure)
        directions, colours = (np.zeros((_MOST_LIGHTS, 3), "f4") for _ in range(2))
        for i, light in enumerate(appearance.lights):
            directions[i], colours[i] = light.direction, light.colour
        program["light_direction"].write(directions.tobytes())
        program["light_colour"].write(colours.tobytes())

    def _set_skin(self, appearance: Appearance) -> None:
        """Hand the skin's properties to its program."""
        program = self._programs["skin"]
        for name in ("back", "palm", "nail", "cloth", "noise_offset"):
            program[name] = tuple(getattr(appearance, name))
        for name in ("mottling", "creases", "veins", "gloss", "roughness", "sleeve"):
            program[name] = float(getattr(appearance, name))


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """Return the linear RGB of sRGB from 0 to 1, by the power 2.2 as in the shaders."""
    return np.asarray(srgb) ** 2.2


def _bytes(matrix: np.ndarray) -> bytes:
    """Return a matrix as OpenGL wants it."""
    return matrix.T.astype("f4").tobytes()  # OpenGL stores columns


def _light_matrix(direction: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Return the (4, 4) view along -direction, orthographic, with the sphere in [-1, 1]^3."""
    side = np.cross(direction, (0.0, 1.0, 0.0) if abs(direction[1]) < 0.9 else (1.0, 0.0, 0.0))
    side = side / np.linalg.norm(side)
    axes = np.stack([side, np.cross(side, direction), -np.asarray(direction)]) / radius
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = -axes @ centre
    return matrix
