"""Videos, as a user runs them: decoded again, frame by frame."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import types

import cv2
import numpy as np
import pytest

from mcc_caffe import infer
from mcc_caffe.core.drawing import MASK_COLOUR, draw_over
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.inference.video import VideoFile, open_camera, video_writer
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import ROOT, run

FPS, FRAMES = 12, 9


def hand():
    """The lower hand of docs/demo.jpg, with its skeleton."""
    return cv2.imread(str(ROOT / "docs/demo.jpg"))[300:540, 340:660]


def film(path, codec, size=(320, 240), frames=FRAMES):
    """A hand that moves to the right, 4 pixels a frame."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), FPS, size)
    assert writer.isOpened()
    for index in range(frames):
        writer.write(
            cv2.warpAffine(
                cv2.resize(hand(), size), np.array([[1.0, 0, 4 * index], [0, 1, 0]]), size
            )
        )
    writer.release()
    return path


def decoded(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while (answer := capture.read())[0]:
        frames.append(answer[1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


@pytest.mark.parametrize(
    "name, codec",
    [
        ("clip.mp4", "mp4v"),
        ("clip.avi", "MJPG"),
        ("clip.mov", "mp4v"),
        ("clip.mkv", "mp4v"),
        ("clip.webm", "VP80"),
    ],
)
def test_a_video_gives_a_video_and_a_json_of_all_frames(name, codec, tmp_path):
    source = film(tmp_path / name, codec)
    done = run("mcc_caffe.infer", source, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"{FRAMES}/{FRAMES}" in done.stderr and f"{FRAMES} frames, " in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.json", "clip.mp4"]
    report = json.loads((tmp_path / "out/clip.json").read_text())
    assert (report["width"], report["height"], report["levels"], report["names"]) == (
        320,
        240,
        1,
        list(NAMES),
    )
    frames, fps = decoded(tmp_path / "out/clip.mp4")
    assert (
        len(frames) == len(report["frames"]) == FRAMES
        and fps == report["fps"] == FPS
        and frames[0].shape == (240, 320, 3)
    )
    predictor = HandPredictor(levels=1)
    for frame, drawn, line in zip(decoded(source)[0], frames, report["frames"]):
        pose = predictor.predict(frame)
        assert len(line["keypoints"]) == len(NAMES)
        for keypoint, expected, present in zip(line["keypoints"], pose.keypoints, pose.present):
            assert (keypoint is not None) == present and (
                not present or np.allclose(keypoint, expected, atol=0.006)
            )
        assert tuple(line["mask_box"]) == pose.mask_box()
        hand = cv2.erode((pose.mask > 0.5).astype(np.uint8), np.ones((9, 9))) > 0
        assert (
            np.abs(
                drawn[hand].mean(axis=0)
                - (0.45 * frame[hand] + 0.55 * np.array(MASK_COLOUR)).mean(axis=0)
            ).max()
            < 25
        )
        far = cv2.dilate((pose.mask > 0.5).astype(np.uint8), np.ones((41, 41))) == 0
        assert (
            far.sum() > 1000 and np.abs(drawn[far].mean(axis=0) - frame[far].mean(axis=0)).max() < 8
        )


def test_a_folder_of_images_and_videos_with_a_damaged_one(tmp_path):
    folder = tmp_path / "both"
    folder.mkdir()
    film(folder / "a.mp4", "mp4v", frames=3)
    film(folder / "a.avi", "MJPG", frames=2)
    cv2.imwrite(str(folder / "a.jpg"), hand())
    (folder / "cut.mp4").write_bytes((folder / "a.mp4").read_bytes()[:2000])
    done = run("mcc_caffe.infer", folder, "--out", tmp_path / "out", "--levels", 2)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (
        done.stderr.splitlines()[-1]
        == "error: 1 of 4 files could not be read (named above); the others are done"
    )
    assert f"warning: skipped: {folder}/cut.mp4: not a readable video (2000 bytes)" in done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.mp4", "a.json", "a_mp4.mp4", "a_mp4.json", "a_jpg.png", "a_jpg.json"}
    assert json.loads((tmp_path / "out/a.json").read_text())["levels"] == 2


@pytest.mark.parametrize("content", [b"", b"no video"])
def test_the_only_video_that_is_damaged_is_one_line(content, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(content)
    done = run("mcc_caffe.infer", tmp_path / "bad.mp4", "--out", tmp_path / "out")
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert done.stderr == (
        f"error: {tmp_path}/bad.mp4: not a readable video ({len(content)} bytes): "
        "damaged, empty, or of an unknown format\n"
    )


def test_a_full_disk_leaves_no_half_video(tmp_path):
    """The encoder does not say that the disk is full; only the written file shows it."""
    source = film(tmp_path / "clip.mp4", "mp4v", frames=30)
    done = run(
        "mcc_caffe.infer",
        source,
        "--out",
        tmp_path / "out",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(
        f"error: {tmp_path}/out/clip.mp4, 320 x 240"
    )
    assert "cannot be written: make room" in done.stderr and not list((tmp_path / "out").iterdir())


def test_a_disk_that_becomes_full_ends_it_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=5))
    with (
        pytest.raises(
            UserError, match="clip.mp4, 32 x 32, 30 frames a second, cannot be written: make room"
        ),
        video_writer(tmp_path / "clip.mp4", 30, (32, 32)) as add,
    ):
        add(np.zeros((32, 32, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_ctrl_c_leaves_no_half_video_and_the_one_before(tmp_path):
    source, out = film(tmp_path / "clip.mp4", "mp4v", frames=400), tmp_path / "out"
    out.mkdir()
    (out / "clip.mp4").write_bytes(b"of an earlier run")
    process = subprocess.Popen(
        [sys.executable, "-m", "mcc_caffe.infer", source, "--out", out],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # a shell's background jobs ignore it
    end = time.monotonic() + 120
    while not list(out.glob(".*partial*")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=60)[1]
    assert (
        process.returncode == 130
        and stderr.splitlines()[-1] == "interrupted"
        and "Traceback" not in stderr
    )
    assert [path.name for path in out.iterdir()] == ["clip.mp4"] and (
        out / "clip.mp4"
    ).read_bytes() == b"of an earlier run"


def test_a_video_is_not_overwritten_by_its_result(tmp_path):
    source = film(tmp_path / "clip.mp4", "mp4v", frames=2)
    done = run("mcc_caffe.infer", source, "--out", tmp_path)
    assert (
        done.returncode == 2
        and f"error: {source} would be overwritten by its own result" in done.stderr
    )
    assert len(decoded(source)[0]) == 2


def test_a_frame_rate_that_cannot_be_is_the_usual_one(tmp_path, monkeypatch):
    source = film(tmp_path / "clip.mp4", "mp4v", frames=2)
    monkeypatch.setattr("mcc_caffe.inference.video._FPS_RANGE", (100, 240))
    assert VideoFile(source).fps == 30 and VideoFile(source).size == (320, 240)


def test_without_display_or_camera_it_says_so(tmp_path, monkeypatch):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    done = run("mcc_caffe.infer", "--camera", 0, env=environment)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(
        "error: no window can be opened: --camera needs a display (DISPLAY is not set)"
    )
    monkeypatch.setattr(
        "subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 0)
    )  # as if there were one
    with pytest.raises(UserError, match="camera 99 gives no picture: is it connected"):
        open_camera(99)


def test_the_camera_is_shown_until_q_is_pressed(tmp_path, monkeypatch):
    """A video stands for the camera, and a list for the window."""
    source, shown, keys = film(tmp_path / "clip.mp4", "mp4v"), [], iter([-1, -1, -1, ord("q")])
    monkeypatch.setattr("mcc_caffe.infer.open_camera", lambda number: cv2.VideoCapture(str(source)))
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image))
    infer.main(["--camera", "0"])
    first = decoded(source)[0][0]
    pose = HandPredictor(levels=1).predict(first)
    assert len(shown) == 3 and shown[0].shape == first.shape
    assert (shown[0][40:] == draw_over(first, pose)[40:]).all()
    assert (
        shown[0][:40, :100] != draw_over(first, pose)[:40, :100]
    ).any()  # frames a second stand there
