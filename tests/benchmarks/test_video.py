"""What the benchmark of videos computes from the hands that it follows."""

import json
from collections import Counter
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from benchmarks import video
from benchmarks.video import FPS, Clip, WayResult, cost_row, ids_of_hands, steadiness
from mcc_caffe.core.errors import UserError
from mcc_caffe.hand_tracker import TrackedHand
from tests.support.hands import hand
from tests.support.rendered import render_hand

SHAPE = hand(3).keypoints[:, :2]
ALL = np.ones((20, 21), bool)


def test_jitter_step_and_lag_are_those_of_the_movement():
    side = np.ptp(SHAPE, axis=0).max()
    velocity = np.array([60.0, 0])
    moving = SHAPE + velocity * (np.arange(20) / FPS)[:, None, None]
    still = steadiness(moving, moving, ALL, velocity)
    assert still.jitter == pytest.approx(0, abs=1e-9) and still.lag == pytest.approx(0)
    late = steadiness(moving - velocity * 0.05, moving, ALL, velocity)
    assert late.lag == pytest.approx(50) and late.step == pytest.approx(0, abs=1e-9)
    shaking = np.repeat(SHAPE[None], 20, axis=0)
    shaking[::2, :, 0] += 2
    shaken = steadiness(shaking, shaking, ALL, np.zeros(2))
    assert shaken.jitter == pytest.approx(100 / side) and np.isnan(shaken.lag)
    assert shaken.step == pytest.approx(200 / side)


def test_a_true_hand_has_the_id_of_the_nearest_tracked_one():
    keypoints = np.stack([SHAPE, SHAPE + 500])[None]
    tracked = TrackedHand(7, None, np.column_stack([SHAPE + 3, np.ones(21)]))
    assert ids_of_hands(keypoints, [[tracked]]) == [[7], [None]]
    assert ids_of_hands(keypoints, [[]]) == [[None], [None]]


def test_a_clip_that_is_too_short_to_be_measured_is_refused(capsys):
    assert video.parse_arguments(["--frames", "12"]).frames == 12
    with pytest.raises(SystemExit):
        video.parse_arguments(["--frames", "11"])
    assert "--frames 11: give 12 or more" in capsys.readouterr().err


def test_photographs_make_a_still_and_a_moving_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "rendered_clips", lambda frame_count: [])
    cv2.imwrite(str(tmp_path / "hand.jpg"), render_hand(9, 320).image)
    video.main(["--photographs", str(tmp_path), "--frames", "12", "--out", str(tmp_path / "out")])
    written = json.loads((tmp_path / "out/video.json").read_text())
    clips = ["photographs, still", "photographs, moving"]
    assert list(dict.fromkeys(row["clip"] for row in written["costs"])) == clips
    assert [row["clip"] for row in written["steadiness"]] == [clips[0]] * 2 + [clips[1]] * 2
    assert all(0 < row["jitter"] < 20 for row in written["steadiness"])  # percent of the hand


def test_the_row_of_a_way_s_costs():
    clip = Clip("a clip", [], np.stack([SHAPE, SHAPE])[:, None], None)
    tracked = TrackedHand(7, None, np.column_stack([SHAPE, np.ones(21)]))
    result = WayResult(passes=[1.0, 2.0], seconds=[0.375, 0.125], hands=[[tracked], []])
    cost = {"clip": "a clip", "passes": 1.5, "ms": 250.0, "of a search": 0.125}
    row = cost_row(clip, "single pass of every frame", result, search_seconds=2.0)
    assert row == cost | {"way": "single pass of every frame"}
    row = cost_row(clip, "followed, --hands all", result, search_seconds=2.0)
    assert row == cost | {"way": "followed, --hands all", "tracked_shares": [0.5], "ids": [[7]]}
    clip = clip._replace(keypoints=None)
    assert "ids" not in cost_row(clip, "followed, --hands all", result, search_seconds=2.0)


def test_the_first_search_and_the_first_look_at_a_hand_do_not_count(tmp_path, monkeypatch):
    """They take 100 s each in the stand-in, all others 0.01 s, and 0.1 s where all is searched."""
    clock, calls = [0.0], Counter()

    def way(name, seconds):
        def look(image, at):
            calls[name] += 1
            clock[0] += 100 if calls[name] <= 2 else seconds
            return []

        return look

    ways = {"every frame searched": way("search", 0.1), "followed, --hands all": way("all", 0.01)}
    frames = [np.zeros((8, 8, 3), np.uint8)] * 12
    clip = Clip("no hand", frames, np.zeros((12, 0, 21, 2)), None)
    monkeypatch.setattr(video, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(video, "HandPredictor", lambda levels: None)
    monkeypatch.setattr(video, "count_passes", lambda predictor: [])
    monkeypatch.setattr(video, "open_ways", lambda predictor: ways)
    monkeypatch.setattr(video, "rendered_clips", lambda frame_count: [clip])
    video.main(["--frames", "12", "--out", str(tmp_path)])
    searched, followed = json.loads((tmp_path / "video.json").read_text())["costs"]
    assert searched["ms"] == pytest.approx(100) and followed["ms"] == pytest.approx(10)
    assert followed["of a search"] == pytest.approx(0.1)


def test_a_folder_without_photographs_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} has no photograph in it"):
        video.photograph_clips(tmp_path, 12)
