"""Off-screen OpenGL renderer of skin: one draw of a shaded, anti-aliased picture with its alpha, one of the exact hand mask.

Uses `moderngl` on a standalone EGL context; Mesa's software rasteriser (llvmpipe) is enough, no display or GPU is needed.
The camera follows OpenCV: x right, y down, z away from the viewer; pixel centres are integers.
"""
from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

from data_tools.hand_mesh import SetupError

SAMPLES = 4                 # anti-aliasing of the picture; the mask has none
SHADOW_SIZE = 384
# The mask holds the skin of which the hand's bones (wrist to fingertips) carry at least this share: it ends 4 % of a hand's length
# behind the wrist joint, so that the wrist keypoint lies within it.
HAND_SHARE = 0.35
# Vertex layout: position, normal, place on the rest hand, (palm, hand, arm, openness), (joint phase, nail across, nail along).
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
        depth = (self.far + self.near) / (self.far - self.near), -2 * self.far * self.near / (self.far - self.near)
        return np.array([[2 * self.focal / self.width, 0, (2 * self.cx + 1) / self.width - 1, 0],
                         [0, 2 * self.focal / self.height, (2 * self.cy + 1) / self.height - 1, 0],
                         [0, 0, depth[0], depth[1]], [0, 0, 1, 0]])


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
    gloss: float = 0.2
    roughness: float = 0.5
    sleeve: float = 9.0
    cloth_depth: float = 0.03
    exposure: float = 1.0


class Renderer:
    """One OpenGL context with its programs and buffers. Make one per process: contexts cannot be shared or forked."""

    def __init__(self):
        # The pictures are small: llvmpipe's own threads cost more than they bring.
        os.environ.setdefault("LP_NUM_THREADS", "0")
        try:
            import moderngl
        except ImportError:
            raise SetupError("the package moderngl is not installed; run: pip install 'moderngl>=5.8,<6'") from None
        try:
            self.context = moderngl.create_context(standalone=True, backend="egl", libgl="libGL.so.1", libegl="libEGL.so.1")
        except Exception as error:  # noqa: BLE001 - the back end raises plain Exceptions
            raise SetupError(f"no off-screen OpenGL ({error}); on Debian or Ubuntu: "
                             "apt-get install libegl1 libgl1 libgl1-mesa-dri") from None
        self.context.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)     # saves half the shading
        self.context.front_face = "cw"
        self._picture = self.context.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        self._mask = self.context.program(vertex_shader=_VERTEX_FLAT, fragment_shader=_FRAGMENT_MASK)
        self._shadow = self.context.program(vertex_shader=_VERTEX_FLAT, fragment_shader=_FRAGMENT_NONE)
        self._vertices = self.context.buffer(reserve=1 << 20, dynamic=True)
        self._faces, self._arrays, self._targets = None, {}, {}
        self._shadow_map = self.context.depth_texture((SHADOW_SIZE, SHADOW_SIZE))
        self._shadow_map.compare_func = "<="
        self._shadow_map.repeat_x = self._shadow_map.repeat_y = False
        self._shadow_target = self.context.framebuffer(depth_attachment=self._shadow_map)

    @property
    def device(self) -> str:
        """The name of the OpenGL driver, which the exact pixels depend on."""
        return self.context.info["GL_RENDERER"]

    def set_faces(self, quads: np.ndarray) -> None:
        """The (F, 4) quads that `draw` connects its vertices by."""
        triangles = quads[:, [0, 1, 2, 0, 2, 3]].astype("u4")
        self._faces = self.context.buffer(triangles.tobytes())
        self._arrays = {
            "picture": self.context.vertex_array(self._picture, [(self._vertices, *LAYOUT)], self._faces),
            "mask": self.context.vertex_array(self._mask, [(self._vertices, "3f 24x 4x 1f 8x 12x", "position", "hand")], self._faces),
            "shadow": self.context.vertex_array(self._shadow, [(self._vertices, "3f 52x", "position")], self._faces)}

    def draw(self, vertices: np.ndarray, camera: Camera, look: Look, centre: np.ndarray,
             radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Draws vertices (N, 16), laid out as LAYOUT, in camera space.

        centre (3,), radius: the sphere that casts and receives the shadow of the first light. Returns the picture, HxWx4 uint8
        of sRGB-coded RGB premultiplied by coverage and that coverage, and the mask, HxW uint8 in {0, 255}, of the pixels whose
        centre sees the hand: skin of which the hand's bones (wrist to fingertips) carry at least HAND_SHARE.
        """
        self._vertices.write(np.ascontiguousarray(vertices, "f4").tobytes())
        matrix = camera.matrix()
        shadow = _light_matrix(look.lights[0].direction, centre, radius)
        self._shadow_target.use()
        self._shadow_target.clear(depth=1.0)
        self._shadow["matrix"].write(_bytes(shadow))
        self._arrays["shadow"].render()

        picture, resolved, mask = self._target(camera.width, camera.height)
        picture.use()
        picture.clear(0, 0, 0, 0, depth=1.0)
        self._set_look(look, matrix, shadow)
        self._shadow_map.use(0)
        self._arrays["picture"].render()
        self.context.copy_framebuffer(resolved, picture)

        mask.use()
        mask.clear(0, 0, 0, 0, depth=1.0)
        self._mask["matrix"].write(_bytes(matrix))
        self._arrays["mask"].render()
        size = camera.height, camera.width
        return (np.frombuffer(resolved.read(components=4, alignment=1), np.uint8).reshape(*size, 4),
                np.frombuffer(mask.read(components=1, alignment=1), np.uint8).reshape(size))

    def _target(self, width: int, height: int):
        """Frame buffers of this size: multisampled picture, its resolved copy, mask. Only the last size is kept."""
        if (width, height) not in self._targets:
            for target in self._targets.pop(next(iter(self._targets), None), []):
                for attachment in (*target.color_attachments, target.depth_attachment):
                    if attachment is not None:
                        attachment.release()
                target.release()
            size, new = (width, height), self.context
            self._targets[size] = (
                new.framebuffer([new.renderbuffer(size, 4, samples=SAMPLES)], new.depth_renderbuffer(size, samples=SAMPLES)),
                new.framebuffer([new.renderbuffer(size, 4)]),
                new.framebuffer([new.renderbuffer(size, 1)], new.depth_renderbuffer(size)))
        return self._targets[width, height]

    def _set_look(self, look: Look, matrix: np.ndarray, shadow: np.ndarray) -> None:
        program = self._picture
        program["matrix"].write(_bytes(matrix))
        program["shadow_matrix"].write(_bytes(shadow))
        program["texel"] = 1.0 / SHADOW_SIZE
        for name in ("back", "palm", "nail", "cloth", "ambient", "bounce", "noise_offset"):
            program[name] = tuple(getattr(look, name))
        for name in ("mottling", "creases", "gloss", "roughness", "sleeve", "exposure"):
            program[name] = float(getattr(look, name))
        directions, colours = np.zeros((3, 3), "f4"), np.zeros((3, 3), "f4")
        for i, light in enumerate(look.lights[:3]):
            directions[i], colours[i] = light.direction, light.colour
        program["light_direction"].write(directions.tobytes())
        program["light_colour"].write(colours.tobytes())


def _bytes(matrix: np.ndarray) -> bytes:
    return matrix.T.astype("f4").tobytes()          # OpenGL stores columns


def _light_matrix(direction: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Orthographic view along -direction that holds the sphere; x, y, depth in [-1, 1]."""
    side = np.cross(direction, (0.0, 1.0, 0.0) if abs(direction[1]) < 0.9 else (1.0, 0.0, 0.0))
    side = side / np.linalg.norm(side)
    axes = np.stack([side, np.cross(side, direction), -np.asarray(direction)]) / radius
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = -axes @ centre
    return matrix


_VERTEX_FLAT = """
#version 330
uniform mat4 matrix;
in vec3 position;
in float hand;
out float hand_part;
void main() { gl_Position = matrix * vec4(position, 1.0); hand_part = hand; }
"""
_FRAGMENT_NONE = """
#version 330
void main() {}
"""
_FRAGMENT_MASK = """
#version 330
in float hand_part;
out float value;
void main() { value = step(HAND_SHARE, hand_part); }
""".replace("HAND_SHARE", str(HAND_SHARE))
_VERTEX = """
#version 330
uniform mat4 matrix, shadow_matrix;
in vec3 position, normal, rest;
in vec4 paint;
in vec3 detail;
out vec3 at, n, on_rest, in_shadow, mark;
out vec4 coat;
void main() {
    gl_Position = matrix * vec4(position, 1.0);
    at = position; n = normal; on_rest = rest; coat = paint; mark = detail;
    in_shadow = (shadow_matrix * vec4(position, 1.0)).xyz * 0.5 + 0.5;
}
"""
_FRAGMENT = """
#version 330
uniform vec3 back, palm, nail, cloth, ambient, bounce, noise_offset;
uniform vec3 light_direction[3], light_colour[3];
uniform float mottling, creases, gloss, roughness, sleeve, exposure, texel;
uniform sampler2DShadow shadow_map;
in vec3 at, n, on_rest, in_shadow, mark;
in vec4 coat;
out vec4 pixel;

float hash(vec3 cell) {
    cell = fract(cell * vec3(0.1031, 0.1130, 0.0973));
    cell += dot(cell, cell.yzx + 33.33);
    return fract((cell.x + cell.y) * cell.z);
}

float noise(vec3 place) {                       // value noise in [-1, 1]
    vec3 cell = floor(place), f = place - cell;
    f = f * f * (3.0 - 2.0 * f);
    float near = mix(mix(hash(cell), hash(cell + vec3(1, 0, 0)), f.x),
                     mix(hash(cell + vec3(0, 1, 0)), hash(cell + vec3(1, 1, 0)), f.x), f.y);
    float away = mix(mix(hash(cell + vec3(0, 0, 1)), hash(cell + vec3(1, 0, 1)), f.x),
                     mix(hash(cell + vec3(0, 1, 1)), hash(cell + vec3(1, 1, 1)), f.x), f.y);
    return 2.0 * mix(near, away, f.z) - 1.0;
}

float lit() {                                   // share of the first light that arrives, over a 2 x 2 filter
    float bias = 0.012 + 0.02 * (1.0 - abs(dot(n, light_direction[0]))), sum = 0.0;
    for (int i = 0; i < 4; ++i)
        sum += texture(shadow_map, in_shadow + vec3((i & 1) * 2 - 1, (i & 2) - 1, 0) * vec3(texel, texel, 0) - vec3(0, 0, bias));
    return 0.25 * sum;
}

void main() {
    vec3 normal = normalize(n), eye = normalize(-at);
    bool is_cloth = coat.z > sleeve;
    vec3 spot = on_rest + noise_offset;
    float fine = noise(spot * 70.0), broad = noise(spot * 9.0) + 0.5 * noise(spot * 23.0);
    // A slope of the fine noise roughens the surface.
    normal = normalize(normal + (is_cloth ? 0.25 : 0.09) * vec3(noise(spot * 90.0 + 7.0), noise(spot * 90.0 + 17.0), fine));

    float back_side = 1.0 - coat.x;
    vec3 skin = mix(back, palm, smoothstep(0.25, 0.75, coat.x));
    float redness = broad * mottling;
    skin *= 1.0 + vec3(0.25, 1.0, 1.1) * redness + 0.35 * mottling * fine;
    // Knuckles: the skin over a joint is redder on the back and creased on both sides.
    float from_joint = abs(mark.x - round(mark.x));
    float at_joint = mark.x > 0.5 ? exp(-pow(from_joint / 0.13, 2.0)) : 0.0;
    skin *= 1.0 - at_joint * back_side * vec3(0.08, 0.22, 0.22) * creases * 2.0;
    float wobble = 0.015 * noise(spot * 40.0);
    float crease = exp(-pow((from_joint + wobble) / 0.018, 2.0)) + 0.6 * exp(-pow((from_joint + wobble - 0.075) / 0.018, 2.0)) * back_side;
    skin *= 1.0 - (mark.x > 1.5 ? 0.45 * creases * crease : 0.0);
    float nail_edge = dot(mark.yz * mark.yz, mark.yz * mark.yz);
    float on_nail = (1.0 - smoothstep(0.8, 1.05, nail_edge)) * smoothstep(0.45, 0.7, back_side);
    skin = mix(skin, nail * (1.0 - 0.25 * smoothstep(0.5, 1.0, nail_edge)), on_nail);
    vec3 albedo = is_cloth ? cloth * (1.0 + 0.25 * noise(spot * 30.0) + 0.15 * fine) : skin;

    float openness = coat.w;
    vec3 light = mix(bounce, ambient, 0.5 - 0.5 * normal.y) * openness;     // y points down: ambient comes from above
    vec3 shine = vec3(0.0);
    float power = 2.0 / pow(mix(roughness, 0.25, on_nail), 4.0);
    for (int i = 0; i < 3; ++i) {
        vec3 direction = light_direction[i];
        float visible = i == 0 ? lit() : openness;
        float facing = dot(normal, direction);
        // Light that travels under the skin wraps around the terminator and comes out red.
        vec3 wrap = is_cloth ? vec3(max(facing, 0.0)) : max((facing + vec3(0.3, 0.12, 0.08)) / vec3(1.3, 1.12, 1.08), 0.0);
        light += light_colour[i] * wrap * mix(visible, 1.0, 0.06);
        float half_angle = max(dot(normal, normalize(direction + eye)), 0.0);
        shine += light_colour[i] * step(0.0, facing) * visible * (power + 8.0) / 25.0 * pow(half_angle, power);
    }
    float fresnel = 0.04 + 0.3 * pow(1.0 - max(dot(normal, eye), 0.0), 5.0);
    vec3 colour = albedo * light + (is_cloth ? 0.0 : gloss + 0.5 * on_nail) * fresnel * shine;
    colour *= exposure;
    colour /= pow(1.0 + pow(colour, vec3(4.0)), vec3(0.25));                // linear, but for a soft shoulder
    pixel = vec4(pow(colour, vec3(1.0 / 2.2)), 1.0);
}
"""
