"""`python -m mcc_caffe.infer` with videos: every hand with a number, steady keypoints."""

import json

import numpy as np
import pytest

from data_tools.hands.clip import HandPath, render_clip
from mcc_caffe.inference.video_reading import VideoFile
from mcc_caffe.inference.video_writing import video_writer
from tests.support.commands import refusal, run

FPS, FRAMES, SIZE = 12, 10, (480, 360)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A rendered clip of two hands that move, and their keypoints (F, 2, 21, 2)."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    paths = [
        HandPath((0.2, 0.4), (0.3, 0.45)),
        HandPath((0.75, 0.4), (0.7, 0.45), is_left=True),
    ]
    true_keypoints = []
    with video_writer(path, FPS, SIZE, comment="rendered") as add_frame:
        rng = np.random.default_rng(3)
        for n, frame in enumerate(render_clip(rng, paths, frame_count=FRAMES, size=SIZE)):
            add_frame(frame.image, n / FPS)
            true_keypoints.append(frame.keypoints)
    return path, np.stack(true_keypoints)


def points_of(hand):
    """Keypoints (21, 2) of a hand of the JSON, NaN where one is null."""
    return np.array([point[:2] if point else (np.nan, np.nan) for point in hand["keypoints"]])


def test_the_hands_of_a_clip_keep_their_numbers(clip, tmp_path):
    path, true_keypoints = clip
    done = run("mcc_caffe.infer", path, "--hands", "all", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "clip.json").read_text())
    assert report["smoothing"]["min_cutoff"] > 0 and len(report["frames"]) == FRAMES
    hand_of_id = {}
    for frame, true in zip(report["frames"], true_keypoints):
        assert [hand["id"] for hand in frame["hands"]] == [1, 2]
        for hand in frame["hands"]:
            distances = np.nanmedian(np.linalg.norm(true - points_of(hand), axis=2), axis=1)
            assert distances.min() < 10
            assert hand_of_id.setdefault(hand["id"], distances.argmin()) == distances.argmin()
            assert set(hand) == {"id", "score", "box", "keypoints", "mask_box"}
            x, y, width, height = hand["box"]
            assert np.nanmin(points_of(hand)[:, 0]) == pytest.approx(x, abs=1)
    drawn = list(VideoFile(tmp_path / "clip.mp4").frames())
    assert len(drawn) == FRAMES and drawn[0].pixels.shape == (360, 480, 3)


def test_smoothing_can_be_left_out(clip, tmp_path):
    """The left part of the clip shows one hand."""
    part, points = tmp_path / "part.mp4", {}
    with video_writer(part, FPS, (240, 320), comment="rendered") as add_frame:
        for frame in VideoFile(clip[0]).frames():
            add_frame(frame.pixels[:320, :240], frame.time)
    for option in ("--smooth", "--no-smooth"):
        out = tmp_path / option
        done = run("mcc_caffe.infer", part, option, "--out", out)
        assert done.returncode == 0, done.stderr
        report = json.loads((out / "part.json").read_text())
        assert (report["smoothing"] is None) == (option == "--no-smooth")
        assert all(frame["id"] == 1 for frame in report["frames"])
        points[option] = np.stack([points_of(frame) for frame in report["frames"]])
    smooth, rough = points.values()
    assert np.array_equal(smooth[0], rough[0], equal_nan=True)
    assert (np.isnan(smooth) == np.isnan(rough)).all()
    assert 0.1 < np.nanmax(np.abs(smooth - rough)) < 30


def test_boxes_take_no_video(clip, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text("{}")
    out = tmp_path / "out"
    done = run("mcc_caffe.infer", clip[0], "--boxes", boxes, "--out", out)
    assert f"{clip[0]} is a video: --boxes takes images" in refusal(done)
    assert not out.exists()
