"""The demo, whole, at its smallest."""

import json

import cv2

from tests.support.commands import ROOT, run


def test_the_demo_goes_from_nothing_to_pictures(tmp_path):
    out = tmp_path / "demo"
    for _ in range(2):  # it may be run again
        done = run("mcc_caffe.demo", "--out", out, "--images", 14, "--iterations", 2, timeout=600)
        assert done.returncode == 0, done.stderr
    assert "Look at" in done.stdout.splitlines()[-1]
    for folder, weights in (
        ("found", out / "run/snapshots/mcc_iter_2.caffemodel"),
        ("found_shipped", ROOT / "mcc_caffe/pretrained/mini.npz"),
    ):
        pictures = sorted((out / folder).glob("*.png"))
        assert len(pictures) == 12 and all(cv2.imread(str(path)).size for path in pictures)
        assert json.loads((out / folder / "1.json").read_text())["weights"]["file"] == str(weights)
    assert cv2.imread(str(out / "curves.png")).size
    hands = {
        name: json.loads((out / f"found_scenes/{name}.json").read_text())
        for name in ("two_hands", "no_hand", "clip")
    }
    assert len(hands["two_hands"]["hands"]) == 2 and not hands["no_hand"]["hands"]
    frames = hands["clip"]["frames"]
    assert {hand["id"] for frame in frames for hand in frame["hands"]} == {1, 2}
    assert cv2.VideoCapture(str(out / "found_scenes/clip.mp4")).read()[0]
