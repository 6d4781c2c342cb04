"""The demo, whole, at its smallest."""

import json
import os
import signal

import cv2
import pytest

from mcc_caffe import demo
from mcc_caffe.caffe_io.default_weights import shipped_weights
from tests.support.commands import Begun, begin, run, start, wait_for


def test_the_demo_goes_from_nothing_to_drawings(tmp_path, monkeypatch):
    out = tmp_path / "demo"
    done = run("mcc_caffe.demo", "--out", out, "--images", 14, "--iterations", 2, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Look at" in done.stdout.splitlines()[-1]
    for folder, weights in (
        ("found", out / "run/snapshots/mcc_iter_2.caffemodel"),
        ("found_shipped", shipped_weights("mini")),
    ):
        drawings = sorted((out / folder).glob("*.png"))
        assert len(drawings) == 12 and all(cv2.imread(str(path)).size for path in drawings)
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
    monkeypatch.setattr(demo.synth, "main", begin)
    with pytest.raises(Begun):
        demo.main(["--out", str(out)])  # it may be run again: the folder is emptied first
    assert [path.name for path in out.iterdir()] == [".made-by-mcc-caffe"]


@pytest.mark.parametrize(
    "iterations, reached", [(500, "run/log.jsonl"), (1, "found")], ids=["training", "later"]
)
def test_ctrl_c_ends_it(tmp_path, iterations, reached):
    command = ["mcc_caffe.demo", "--out", tmp_path / "demo", "--images", 4]
    process = start(*command, "--iterations", iterations)
    wait_for((tmp_path / "demo" / reached).exists, process)
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors.splitlines()[-1] == "interrupted", errors
    assert "Traceback" not in errors and "error:" not in errors
    assert "Look at" not in output
