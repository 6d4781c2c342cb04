"""The shaders of `render`, in GLSL: depth, truth, skin, and plain surfaces (bodies and objects).

All take vertices laid out as `vertex_layout` says. Positions and normals are in camera space
(x right, y down, z away).
"""

# What the truth buffer holds in its first channel; in its second, the distance along z.
NOTHING, HAND, ARM, OTHER = range(4)

DEPTH_VERTEX = """
#version 330
uniform mat4 matrix;
in vec3 position;
void main() { gl_Position = matrix * vec4(position, 1.0); }
"""
DEPTH_FRAGMENT = """
#version 330
void main() {}
"""
TRUTH_VERTEX = """
#version 330
uniform mat4 matrix;
in vec3 position;
in float hand;
out float hand_part;
void main() { gl_Position = matrix * vec4(position, 1.0); hand_part = hand; }
"""
TRUTH_FRAGMENT = f"""
#version 330
uniform float hand_share;  // of the hand's bones, from which on skin is the hand's
uniform float otherwise;
in float hand_part;
out vec2 truth;
void main() {{
    truth = vec2(hand_part >= hand_share ? {HAND}.0 : otherwise, 1.0 / gl_FragCoord.w);
}}
"""
VERTEX = """
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
_COMMON = """
#version 330
uniform vec3 ambient, bounce, light_direction[3], light_colour[3];
uniform float exposure, texel;
uniform sampler2DShadow shadow_map;
in vec3 at, n, on_rest, in_shadow, mark;
in vec4 coat;
out vec4 pixel;

float hash(vec3 cell) {
    cell = fract(cell * vec3(0.1031, 0.1130, 0.0973));
    cell += dot(cell, cell.yzx + 33.33);
    return fract((cell.x + cell.y) * cell.z);
}

float noise(vec3 point) {  // value noise in [-1, 1]
    vec3 cell = floor(point), f = point - cell;
    f = f * f * (3.0 - 2.0 * f);
    float near = mix(mix(hash(cell), hash(cell + vec3(1, 0, 0)), f.x),
                     mix(hash(cell + vec3(0, 1, 0)), hash(cell + vec3(1, 1, 0)), f.x), f.y);
    float away = mix(mix(hash(cell + vec3(0, 0, 1)), hash(cell + vec3(1, 0, 1)), f.x),
                     mix(hash(cell + vec3(0, 1, 1)), hash(cell + vec3(1, 1, 1)), f.x), f.y);
    return 2.0 * mix(near, away, f.z) - 1.0;
}

float lit() {  // share of the first light that arrives, over a 2 x 2 filter
    if (any(lessThan(in_shadow.xy, vec2(0.0))) || any(greaterThan(in_shadow.xy, vec2(1.0))))
        return 1.0;
    float bias = 0.012 + 0.02 * (1.0 - abs(dot(n, light_direction[0]))), sum = 0.0;
    for (int i = 0; i < 4; ++i) {
        vec2 corner = in_shadow.xy + vec2((i & 1) * 2 - 1, (i & 2) - 1) * texel;
        sum += texture(shadow_map, vec3(corner, min(in_shadow.z, 1.0) - bias));
    }
    return 0.25 * sum;
}

vec4 developed(vec3 colour) {
    colour *= exposure;
    colour /= pow(1.0 + pow(colour, vec3(4.0)), vec3(0.25));  // linear, but for a soft shoulder
    return vec4(pow(colour, vec3(1.0 / 2.2)), 1.0);
}
"""
SKIN = (
    _COMMON
    + """
uniform vec3 back, palm, nail, cloth, noise_offset;
uniform float mottling, creases, veins, gloss, roughness, sleeve;

float line(vec2 point, vec2 a, vec2 b, float bow) {  // distance from a bowed line
    vec2 along = b - a;
    float share = clamp(dot(point - a, along) / dot(along, along), 0.0, 1.0);
    vec2 across = vec2(-along.y, along.x) * bow * 4.0 * share * (1.0 - share);
    return length(point - a - along * share - across);
}

void main() {
    vec3 normal = normalize(n), eye = normalize(-at);
    bool is_cloth = coat.z > sleeve;
    vec3 spot = on_rest + noise_offset;
    float fine = noise(spot * 70.0), broad = noise(spot * 9.0) + 0.5 * noise(spot * 23.0);
    // A slope of the fine noise roughens the surface; cloth also hangs in folds.
    float fold = is_cloth ? noise(vec3(spot.xz * 7.0, spot.y * 13.0)) : 0.0;
    vec3 rough = vec3(noise(spot * 90.0 + 7.0), noise(spot * 90.0 + 17.0), fine);
    normal = normalize(normal + (is_cloth ? 0.25 : 0.09) * rough
                       + 0.35 * fold * vec3(0.2, 1.0, 0.2));

    float back_side = 1.0 - coat.x;
    vec3 skin = mix(back, palm, smoothstep(0.25, 0.75, coat.x));
    float redness = broad * mottling;
    skin *= 1.0 + vec3(0.25, 1.0, 1.1) * redness + 0.35 * mottling * fine;
    // Knuckles: the skin over a joint is redder on the back and creased on both sides.
    float from_joint = abs(mark.x - round(mark.x));
    float at_joint = mark.x > 0.5 ? exp(-pow(from_joint / 0.13, 2.0)) : 0.0;
    skin *= 1.0 - at_joint * back_side * vec3(0.08, 0.22, 0.22) * creases * 2.0;
    float wobble = 0.015 * noise(spot * 40.0);
    float crease = exp(-pow((from_joint + wobble) / 0.018, 2.0))
        + 0.6 * exp(-pow((from_joint + wobble - 0.075) / 0.018, 2.0)) * back_side;
    skin *= 1.0 - (mark.x > 1.5 ? 0.45 * creases * crease : 0.0);
    if (coat.y > 0.5 && mark.x < 1.5) {
        // The palm's three lines, and the tendons and veins of the back, in hand lengths on the
        // rest hand (x radial, y distal).
        vec2 point = on_rest.xy + 0.012 * vec2(noise(spot * 17.0), noise(spot * 17.0 + 5.0));
        float lines = min(line(point, vec2(0.16, 0.34), vec2(0.02, 0.07), 0.28),
                          line(point, vec2(0.16, 0.35), vec2(-0.17, 0.24), -0.06));
        lines = min(lines, line(point, vec2(0.05, 0.47), vec2(-0.20, 0.36), -0.16));
        skin *= 1.0 - 0.5 * creases * smoothstep(0.6, 0.9, coat.x) * exp(-pow(lines / 0.007, 2.0))
            * vec3(0.7, 1.0, 1.0);
        float vein = abs(noise(vec3(spot.x * 11.0, spot.y * 3.5, spot.z * 2.0)));
        skin *= 1.0 - veins * back_side * (1.0 - smoothstep(0.02, 0.12, vein))
            * vec3(0.35, 0.2, 0.12);
        float tendon = cos((on_rest.x / max(0.25 + 0.5 * on_rest.y, 0.1)) * 31.0);
        normal = normalize(normal + 0.35 * veins * back_side * smoothstep(0.1, 0.3, on_rest.y)
                           * vec3(tendon, 0.0, 0.0));
    }
    float nail_edge = dot(mark.yz * mark.yz, mark.yz * mark.yz);
    float on_nail = (1.0 - smoothstep(0.8, 1.05, nail_edge)) * smoothstep(0.45, 0.7, back_side);
    skin = mix(skin, nail * (1.0 - 0.25 * smoothstep(0.5, 1.0, nail_edge)), on_nail);
    vec3 albedo = is_cloth
        ? cloth * (1.0 + 0.25 * noise(spot * 30.0) + 0.15 * fine + 0.2 * fold) : skin;

    float openness = coat.w;
    // y points down: ambient comes from above.
    vec3 light = mix(bounce, ambient, 0.5 - 0.5 * normal.y) * openness;
    vec3 shine = vec3(0.0);
    float power = 2.0 / pow(mix(roughness, 0.25, on_nail), 4.0);
    for (int i = 0; i < 3; ++i) {
        vec3 direction = light_direction[i];
        float visible = i == 0 ? lit() : openness;
        float facing = dot(normal, direction);
        // Light that travels under the skin wraps around the terminator and comes out red.
        vec3 wrap = is_cloth ? vec3(max(facing, 0.0))
            : max((facing + vec3(0.3, 0.12, 0.08)) / vec3(1.3, 1.12, 1.08), 0.0);
        light += light_colour[i] * wrap * mix(visible, 1.0, 0.06);
        float half_angle = max(dot(normal, normalize(direction + eye)), 0.0);
        shine += light_colour[i] * step(0.0, facing) * visible * (power + 8.0) / 25.0
            * pow(half_angle, power);
    }
    float fresnel = 0.04 + 0.3 * pow(1.0 - max(dot(normal, eye), 0.0), 5.0);
    pixel = developed(albedo * light + (is_cloth ? 0.0 : gloss + 0.5 * on_nail) * fresnel * shine);
}
"""
)
# Colour coat.rgb times the texture at mark.xy; mark.z is the gloss; coat.w the openness.
PLAIN = (
    _COMMON
    + """
uniform sampler2D image;
void main() {
    vec3 normal = normalize(n), eye = normalize(-at);
    float uneven = 1.0 + 0.08 * noise(on_rest * 40.0) + 0.06 * noise(on_rest * 11.0);
    vec3 albedo = coat.rgb * pow(texture(image, mark.xy).rgb, vec3(2.2)) * uneven;
    vec3 light = mix(bounce, ambient, 0.5 - 0.5 * normal.y) * coat.w;
    vec3 shine = vec3(0.0);
    for (int i = 0; i < 3; ++i) {
        float visible = i == 0 ? lit() : 1.0;
        float facing = max((dot(normal, light_direction[i]) + 0.08) / 1.08, 0.0);
        light += light_colour[i] * facing * visible;
        float half_angle = max(dot(normal, normalize(light_direction[i] + eye)), 0.0);
        shine += light_colour[i] * visible * pow(half_angle, 40.0);
    }
    float fresnel = 0.1 + 0.9 * pow(1.0 - max(dot(normal, eye), 0.0), 4.0);
    pixel = developed(albedo * light + mark.z * shine * fresnel);
}
"""
)
