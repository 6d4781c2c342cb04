"""`python -m mcc_caffe.infer` with --hands all, --boxes and --looks, as a user runs it."""

import json

import cv2
import numpy as np
import pytest

from mcc_caffe import infer
from mcc_caffe.inference.reports import CSV_COLUMNS
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import refusal, run
from tests.support.rendered import render_two_hands


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """An image of two hands, one without any, and a COCO file with a box around one hand."""
    folder = tmp_path_factory.mktemp("photos")
    image, true_keypoints = render_two_hands()
    cv2.imwrite(str(folder / "none.png"), np.full_like(image, 128))
    cv2.imwrite(str(folder / "two.png"), image)
    box = [*true_keypoints[1].min(axis=0).tolist(), *np.ptp(true_keypoints[1], axis=0).tolist()]
    content = {
        "images": [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate(("two", "none"))],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": box}],
        "categories": [{"id": 1, "name": "hand"}],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder, true_keypoints


def distance(hand, true_keypoints):
    """Median distance of a hand's present keypoints to where they are, in pixels."""
    points = [(p["x"], p["y"]) if p else (np.nan, np.nan) for p in hand["keypoints"]]
    return np.nanmedian(np.linalg.norm(np.array(points) - true_keypoints, axis=1))


def test_every_hand_of_an_image_and_none_where_there_is_none(photos, tmp_path):
    folder, true_keypoints = photos
    done = run("mcc_caffe.infer", folder, "--hands", "all", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "two.png, .json: 2 hands" in done.stdout and "none.png, .json: 0 hands" in done.stdout
    report = json.loads((tmp_path / "two.json").read_text())
    assert (report["width"], report["height"]) == (640, 480)
    for points in true_keypoints:
        assert min(distance(hand, points) for hand in report["hands"]) < 8
    assert report["hands"][0]["score"] >= report["hands"][1]["score"] > 0.3
    assert set(report["hands"][0]["box"]) == {"x", "y", "width", "height"}
    assert json.loads((tmp_path / "none.json").read_text())["hands"] == []
    drawn, plain = (cv2.imread(str(path / "two.png")) for path in (tmp_path, folder))
    assert drawn.shape == plain.shape and (drawn != plain).any()
    assert (cv2.imread(str(tmp_path / "none.png")) == 128).all()


def test_only_the_given_boxes_are_looked_at(photos, tmp_path):
    folder, true_keypoints = photos
    done = run(
        "mcc_caffe.infer", folder, "--boxes", folder / "boxes.json", "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    (hand,) = json.loads((tmp_path / "out/two.json").read_text())["hands"]
    assert distance(hand, true_keypoints[1]) < 8
    assert json.loads((tmp_path / "out/none.json").read_text())["hands"] == []


def test_looks_of_one_hand_and_its_score(photos, tmp_path):
    folder, _ = photos
    done = run("mcc_caffe.infer", folder / "two.png", "--looks", 4, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "two.json").read_text())
    assert (report["method"], report["levels"], report["looks"]) == ("looks", None, 4)
    assert report["hand_present"] is True and 0.3 < report["score"] < 1.2
    pose = HandPredictor(looks=4).predict(cv2.imread(str(folder / "two.png")))
    assert report["box"] == pose.box._asdict()


@pytest.mark.parametrize(
    "form, name, ending",
    [
        ("coco", "coco_results.json", "[]"),
        ("mmpose", "none.json", "[]"),
        ("openpose", "none_keypoints.json", '"people": []}'),
        ("csv", "none.csv", ",".join(CSV_COLUMNS)),
    ],
)
def test_no_format_lists_a_hand_that_is_not_there(form, name, ending, photos, tmp_path, capsys):
    arguments = [str(photos[0] / "none.png"), "--looks", "1", "--out", str(tmp_path)]
    infer.main([*arguments, "--format", form])
    text = (tmp_path / name).read_text()
    assert text.strip().endswith(ending)
    assert "0 of 21 keypoints, no hand" in capsys.readouterr().out
    infer.main([*arguments, "--format", form, "--threshold", "-1"])  # asks for every keypoint
    assert len((tmp_path / name).read_text()) > len(text) + 500


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--looks", 2, "--levels", 3], "--levels: not allowed with argument --looks"),
        (["--looks", 3], "invalid choice: 3"),
        (["--hands", "all", "--levels", 1], "--hands all goes without --levels, --looks"),
        (["--boxes", "absent.json"], "absent.json"),
    ],
)
def test_what_does_not_go_together_is_refused(photos, tmp_path, options, message):
    done = run("mcc_caffe.infer", photos[0] / "two.png", *options, "--out", tmp_path / "out")
    assert message in refusal(done)
    assert not (tmp_path / "out").exists()


def test_an_image_that_the_boxes_do_not_list_is_named(photos, tmp_path):
    other = tmp_path / "other.png"
    cv2.imwrite(str(other), np.zeros((50, 50, 3), np.uint8))
    done = run(
        "mcc_caffe.infer", other, "--boxes", photos[0] / "boxes.json", "--out", tmp_path / "out"
    )
    assert f"does not list {tmp_path / 'other.png'}: list it" in refusal(done)
    assert not (tmp_path / "out").exists()
