"""Videos, as a user runs them: decoded again, frame by frame."""

import csv
import dataclasses
import errno
import functools
import gc
import io
import json
import os
import re
import resource
import signal
import struct
import subprocess
import types
from fractions import Fraction

import av
import cv2
import numpy as np
import PIL.Image
import pytest
from av.stream import Disposition
from av.video.frame import PictureType
from av.video.reformatter import Colorspace

from mcc_caffe import infer
from mcc_caffe.core.drawing import MASK_COLOUR
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.hand_tracker import HandTracker, TrackedHand
from mcc_caffe.inference.formats import open_format
from mcc_caffe.inference.input_files import UnreadableError, find_files
from mcc_caffe.inference.jobs import Job
from mcc_caffe.inference.video_reading import VideoFile, open_camera
from mcc_caffe.inference.video_reports import all_hands_line, one_hand_line, video_json
from mcc_caffe.inference.video_writing import check_clip_size, video_encoder, video_writer
from mcc_caffe.paper import GREY
from mcc_caffe.predictor import HandPredictor
from mcc_caffe.video_results import TrackerOptions, draw_hands, show_camera, write_video
from tests.support.commands import refusal, run, start, wait_for
from tests.support.images import orientation_tags
from tests.support.poses import make_pose
from tests.support.rendered import render_hand

FPS, FRAMES = 12, 9


@functools.cache
def hand():
    """A rendered hand that the shipped network finds well, at the left of 320 x 240 grey pixels."""
    image = render_hand(0, 230).image
    height, width = image.shape[:2]
    frame = np.full((240, 320, 3), 128, np.uint8)
    frame[5 : 5 + height, 5 : 5 + width] = image
    return frame


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
    "options, method, levels, looks",
    [
        ([], "tracking", None, None),
        (["--looks", 4], "looks", None, 4),
        (["--levels", 1], "single pass", 1, None),
        (["--levels", "paper"], "pyramid", "paper", None),
    ],
)
def test_a_videos_report_says_how_hands_were_looked_for(options, method, levels, looks, tmp_path):
    source = film(tmp_path / "clip.mp4", "mp4v")
    done = run("mcc_caffe.infer", source, *options, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out/clip.json").read_text())
    assert (report["method"], report["levels"], report["looks"]) == (method, levels, looks)


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
    done = run("mcc_caffe.infer", source, "--levels", 1, "--no-smooth", "--out", tmp_path / "out")
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
    assert report["smoothing"] is None
    frames, fps = decoded(tmp_path / "out/clip.mp4")
    assert (
        len(frames) == len(report["frames"]) == FRAMES
        and report["fps"] == FPS
        and abs(fps - FPS) < 0.01  # Matroska's times are milliseconds
        and frames[0].shape == (240, 320, 3)
    )
    predictor = HandPredictor(levels=1)
    for frame, drawn, line in zip(decoded(source)[0], frames, report["frames"]):
        pose = predictor.predict(frame)
        assert len(line["keypoints"]) == len(NAMES) and "id" in line
        for keypoint, expected, present in zip(line["keypoints"], pose.keypoints, pose.present):
            assert (keypoint is not None) == present and (
                not present or np.allclose(keypoint, expected, atol=0.006)
            )
        assert tuple(line["box"]) == pose.box
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


def pose_of(image, corner, confidence):
    """A pose whose keypoints lie in a square of 60 pixels; its mask is the image's left half."""
    offsets = np.random.default_rng(0).uniform(0, 60, (21, 2))
    mask_cells = np.zeros((16, 16), np.float32)
    mask_cells[:, :8] = 1
    points = np.column_stack([offsets + corner, np.full(21, confidence)])
    return dataclasses.replace(make_pose(image, points, mask_cells), shows_hand=True)


def test_a_frames_line_says_what_the_poses_say():
    """Where one hand is looked for, a pose without a present keypoint has no box."""
    image = np.zeros((240, 320, 3), np.uint8)
    pose, absent = (pose_of(image, (40.123, 90), confidence) for confidence in (0.5, 0.1))
    pose.keypoints[4, 2], pose.present[4] = 0.1, False
    line = json.loads(one_hand_line(1 / 3, pose, 7))
    assert line == {
        "time": 0.333333,
        "hand_present": True,
        "id": 7,
        "score": 0.481,
        "box": list(pose.box),
        "keypoints": [
            None if k == 4 else [round(value, 2) for value in point]
            for k, point in enumerate(pose.keypoints.tolist())
        ],
        "mask_box": list(pose.mask_box()),
    }
    assert line["box"] != line["mask_box"]
    assert json.loads(one_hand_line(1 / 3, pose, None)) == {**line, "id": None}
    hands_line = json.loads(all_hands_line(1 / 3, [(7, pose), (8, absent)]))
    hand, other = hands_line["hands"]
    assert hands_line["time"] == 0.333333 and {**line, **hand} == line
    assert set(line) - set(hand) == {"time", "hand_present"}
    nothing = {"hand_present": False, "id": None, "box": None, "mask_box": None}
    line = json.loads(one_hand_line(0, absent, None))
    assert line == {"time": 0, **other, **nothing} and other["id"] == 8
    assert other["box"] == list(absent.box) and other["mask_box"] == list(absent.mask_box())


def test_each_frame_of_the_json_has_its_own_line():
    content = video_json({"video": "clip.mp4"}, ['{"time":0}', "null"]).decode()
    assert content.splitlines()[1:] == ['{"time":0},', "null", "]}"]
    report = {"video": "clip.mp4", "names": list(NAMES), "frames": [{"time": 0}, None]}
    assert json.loads(content) == report


def test_hands_are_drawn_with_their_numbers():
    image = np.full((240, 320, 3), 128, np.uint8)
    poses = [pose_of(image, (x, 100), 0.5) for x in (30, 200)]
    hands = [TrackedHand(n, pose, pose.keypoints) for n, pose in enumerate(poses, start=1)]
    unnumbered = draw_hands(image, [hand._replace(id=None) for hand in hands])
    assert np.array_equal(unnumbered, poses[1].draw(poses[0].draw(image)))
    differs = (draw_hands(image, hands) != unnumbered).any(axis=2)
    for pose in poses:
        x, y = pose.box[:2]
        part = np.s_[y - 15 : y + 4, x - 3 : x + 15]
        assert differs[part].any()
        differs[part] = False
    assert not differs.any() and draw_hands(image, []) is image


@pytest.mark.parametrize("name", ["ours", "coco"])
def test_a_video_without_a_clip_says_the_same_of_its_hands(name, tmp_path):
    source = film(tmp_path / "clip.mp4", "mp4v", frames=3)
    arguments = [str(source), "--format", name, "--looks", "1"]
    infer.main([*arguments, "--out", str(tmp_path / "drawn")])
    infer.main([*arguments, "--out", str(tmp_path / "plain"), "--no-drawings"])
    names = {"clip.json"} if name == "ours" else {"coco_results.json", "coco_images.json"}
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == names | {"clip.mp4"}
    assert {path.name for path in (tmp_path / "plain").iterdir()} == names
    for result in names:
        drawn, plain = (
            json.loads((tmp_path / way / result).read_text()) for way in ("drawn", "plain")
        )
        if name == "ours":
            drawn, plain = drawn["frames"], plain["frames"]
        assert drawn == plain and len(plain) in (3, 5)


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
    assert refusal(done) == (
        f"error: {tmp_path}/bad.mp4: not a readable video ({len(content)} bytes): "
        "damaged, empty, or of an unknown format"
    )
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_half_video(tmp_path):
    source = film(tmp_path / "clip.mp4", "mp4v", frames=30)
    done = run(
        *("mcc_caffe.infer", source, "--out", tmp_path / "out", "--quiet"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    line = refusal(done)
    assert line.startswith(f"error: {tmp_path}/out/clip.mp4 cannot be written")
    assert "(File too large): make room" in line and not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("suffix, format_name", [(".json", "ours"), (".csv", "csv")])
def test_no_new_video_stands_beside_an_old_text(suffix, format_name, tmp_path):
    """A folder in the text's place lets it not be written."""
    source, out = film(tmp_path / "clip.mp4", "mp4v", frames=2), tmp_path / "out"
    (out / "clip").with_suffix(suffix).mkdir(parents=True)
    (out / "clip.mp4").write_bytes(b"of an earlier run")
    with pytest.raises(UserError, match=f"clip{suffix} is a folder"):
        write_video(
            TrackerOptions(HandPredictor(levels=1)),
            Job(source, out / "clip", is_video=True),
            progress=False,
            result_format=open_format(format_name),
        )
    assert (out / "clip.mp4").read_bytes() == b"of an earlier run"
    assert {path.name for path in out.iterdir()} == {"clip.mp4", f"clip{suffix}"}


def written(source, out):
    """Write the results of a video into a folder; returns what `write_video` says of them."""
    options = TrackerOptions(HandPredictor(levels=1))
    return write_video(options, Job(source, out / source.stem, is_video=True), progress=False)


def test_ctrl_c_leaves_no_half_video_and_the_one_before(tmp_path):
    source, out = film(tmp_path / "clip.mp4", "mp4v", frames=400), tmp_path / "out"
    out.mkdir()
    (out / "clip.mp4").write_bytes(b"of an earlier run of mcc_caffe.infer")
    process = start(
        *("mcc_caffe.infer", source, "--out", out),
        # A shell's background jobs ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: list(out.glob(".*partial*")), process)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=60)[1]
    assert (
        process.returncode == 130
        and stderr.splitlines()[-1] == "interrupted"
        and "Traceback" not in stderr
    )
    assert [path.name for path in out.iterdir()] == ["clip.mp4"] and (
        out / "clip.mp4"
    ).read_bytes() == b"of an earlier run of mcc_caffe.infer"


def test_a_video_is_not_overwritten_by_its_result(tmp_path):
    source = film(tmp_path / "clip.mp4", "mp4v", frames=2)
    done = run("mcc_caffe.infer", source, "--out", tmp_path)
    assert f"error: {source} would be overwritten by a result of this run" in refusal(done)
    assert len(decoded(source)[0]) == 2


def write_clip(path, times, fps, size=(320, 240)):
    """A hand that moves to the right, with frames at the given seconds."""
    with video_writer(path, fps, size) as add:
        for index, time in enumerate(times):
            shift = np.array([[1.0, 0, 4 * index], [0, 1, 0]])
            add(cv2.warpAffine(cv2.resize(hand(), size), shift, size), time)
    return path


@pytest.mark.parametrize(
    "fps, times",
    [
        (0.25, [0, 4, 8]),
        (1000, [0, 0.001, 0.002]),
        (120.1234, [index / 120.1234 for index in range(6)]),
        (30000 / 1001, [index * 1001 / 30000 for index in range(6)]),
        (7, [0, 0.1, 0.15, 0.5, 0.51, 2.25]),
    ],
)
def test_every_rate_is_kept_and_every_frame_has_its_time(fps, times, tmp_path):
    source = write_clip(tmp_path / "clip.mp4", times, fps)
    with pytest.raises(UserError, match="results of this program"):
        find_files([str(source)])
    source.write_bytes(source.read_bytes().replace(b"mcc_caffe.infer", b"another program"))
    done = run("mcc_caffe.infer", source, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out/clip.json").read_text())
    assert np.allclose([frame["time"] for frame in report["frames"]], times, atol=2e-5)
    clip = VideoFile(tmp_path / "out/clip.mp4")
    assert np.allclose([frame.time for frame in clip.frames()], times, atol=4e-5)
    if len(set(np.diff(times).round(6))) == 1:
        assert report["fps"] == pytest.approx(fps, rel=1e-3) == clip.fps


@pytest.mark.parametrize(
    "times", [[0, 25000, 50000, 75000], [0, 0.001, 60000, 60000.001], [0, 60000, 60000.1, 60000.2]]
)
def test_a_clip_may_pause_for_many_hours(times, tmp_path):
    clip = tmp_path / "clip.mp4"
    with (
        open(clip, "wb") as file,
        video_encoder(clip, file, 30, (64, 48), seconds=times[-1]) as add,
    ):
        for time in times:
            add(np.full((48, 64, 3), 90, np.uint8), time)
    assert written(clip, tmp_path / "out").startswith(f"{len(times)} frames, ")
    for path in (clip, tmp_path / "out/clip.mp4"):
        assert [frame.time for frame in VideoFile(path).frames()] == pytest.approx(times, abs=1e-3)


@pytest.mark.parametrize("is_long", [True, False])
def test_a_pause_that_mp4_cannot_hold_costs_no_result(is_long, tmp_path, caplog):
    """Of weeks, or of hours where the file does not say how long it is; two of each."""
    source, pause = tmp_path / "clip.mkv", 30 * 86400 if is_long else 7 * 3600
    times = [0, 0.04, pause, pause + 0.04, 2 * pause]
    content = io.BytesIO()
    # A file that cannot be sought gets no length.
    target = str(source) if is_long else types.SimpleNamespace(write=content.write)
    with av.open(target, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="bgr24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    if not is_long:
        source.write_bytes(content.getvalue())
    video = VideoFile(source)
    assert (video.seconds > pause) == is_long and video.expected == 0
    assert written(source, tmp_path / "out").startswith("5 frames, ")
    report = json.loads((tmp_path / "out/clip.json").read_text())
    assert [frame["time"] for frame in report["frames"]] == pytest.approx(times)
    longest = (2**31 - 2) / (1000 if is_long else 90000)
    shown = [frame.time for frame in VideoFile(tmp_path / "out/clip.mp4").frames()]
    assert np.diff(shown) == pytest.approx([0.04, longest - 0.04, 0.04, longest - 0.04], abs=0.05)
    (warning,) = caplog.messages
    assert f"the pause of {pause / 3600:.1f} hours before {pause:.3f} s is too long" in warning
    assert f"a pause lasts at most {longest / 3600:.1f} hours" in warning


def test_a_video_says_how_long_it_is(tmp_path):
    images = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=1500)
    assert VideoFile(tmp_path / "a.gif").seconds == pytest.approx(3)
    assert VideoFile(write_clip(tmp_path / "a.mp4", [0, 2], 0.5)).seconds == pytest.approx(4)


def damage(path, frames):
    """Overwrite the content of some frames with zeros, as a bad sector of a disk does."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        for packet in (packets[index] for index in frames):
            content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(content)


def film_h264(path):
    """Write a clip in H.264 that no program of this project seems to have written."""
    write_clip(path, np.arange(FRAMES) / FPS, FPS)
    path.write_bytes(path.read_bytes().replace(b"mcc_caffe.infer", b"another program"))


@pytest.mark.parametrize(
    "codec, frames",
    [
        *(("mp4v", frames) for frames in ([4, 5, 6], [0], [8])),
        *(("MJPG", frames) for frames in ([4, 5, 6], [0], [8])),
        *(("H264", frames) for frames in ([4, 5, 6], [8])),
    ],
)
def test_damaged_frames_are_null_and_the_others_are_done(codec, frames, tmp_path):
    source = tmp_path / ("clip.avi" if codec == "MJPG" else "clip.mp4")
    if codec == "H264":
        film_h264(source)
    else:
        film(source, codec)
    damage(source, frames)
    with av.open(str(source)) as container:  # frames are stored in another order than shown
        packets = [packet for packet in container.demux(video=0) if packet.size]
        lost = {sorted(packet.pts for packet in packets).index(packets[i].pts) for i in frames}
    done = run("mcc_caffe.infer", source, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"{FRAMES} frames, {len(frames)} of them damaged (null in the JSON)" in done.stdout
    report = json.loads((tmp_path / "out/clip.json").read_text())
    assert {index for index, frame in enumerate(report["frames"]) if frame is None} == lost
    assert len(report["frames"]) == FRAMES == len(decoded(tmp_path / "out/clip.mp4")[0])


def options_of(follow):
    """Options whose tracker is a function of a frame and its time, and stands for the net."""
    tracker = types.SimpleNamespace(follow=follow, one_hand=False, smoothing=None)
    return types.SimpleNamespace(open_tracker=lambda: tracker)


def test_a_clip_shows_the_frame_before_a_damaged_one(tmp_path):
    """At first it is grey. Other formats than ours have no hand there."""
    source, job = film(tmp_path / "clip.avi", "MJPG", frames=5), tmp_path / "out/clip"
    damage(source, [0, 3])
    frames = [frame.pixels for frame in VideoFile(source).frames()]
    assert [pixels is None for pixels in frames] == [True, False, False, True, False]
    pose = pose_of(frames[1], (250, 170), 0.1)
    text = write_video(
        options_of(lambda pixels, time: [TrackedHand(6, pose, pose.keypoints)]),
        Job(source, job, is_video=True),
        progress=False,
        result_format=open_format("csv"),
    )
    assert text.startswith("5 frames, 2 of them damaged (without hands), ")
    grey = np.full((240, 320, 3), GREY)
    expected_frames = (grey, frames[1], frames[2], frames[2], frames[4])
    clip = VideoFile(tmp_path / "out/clip.mp4").frames()
    for frame, expected in zip(clip, expected_frames, strict=True):
        assert np.abs(frame.pixels[:, :200].astype(int) - expected[:, :200]).mean() < 4
    with open(tmp_path / "out/clip.csv") as file:
        rows = {(row["frame"], row["time"], row["id"]) for row in csv.DictReader(file)}
    assert rows == {("1", "0.083333", "6"), ("2", "0.166667", "6"), ("4", "0.333333", "6")}


def test_where_every_hand_is_looked_for_each_frame_has_a_list_of_them(tmp_path, capsys):
    """Of whatever length. Without --progress nothing is shown on the way."""
    source = film(tmp_path / "clip.avi", "MJPG", frames=3)
    pose = pose_of(hand(), (100, 100), 0.5)
    options = options_of(
        lambda pixels, time: [
            TrackedHand(n, pose, pose.keypoints) for n in range(round(time * FPS))
        ]
    )
    engine = types.SimpleNamespace(name="caffe", precision="float32")
    options.predictor = types.SimpleNamespace(
        weights_info={}, engine=engine, levels=None, looks=None
    )
    options.method = "tracking"
    job = Job(source, tmp_path / "out/clip", is_video=True)
    write_video(options, job, progress=False, drawings=False)
    report = json.loads((tmp_path / "out/clip.json").read_text())
    assert [len(frame["hands"]) for frame in report["frames"]] == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_the_frames_that_a_damaged_file_lacks_are_counted(tmp_path, monkeypatch):
    """A decoder passes over frames that need the damaged one."""
    source = encode(tmp_path / "clip.mp4", "mp4", "mpeg4", 9, bf="2")
    damage(source, [1])
    texts = []
    for path in (source, film(tmp_path / "short.mp4", "mp4v", frames=1)):
        times = types.SimpleNamespace(perf_counter=iter([0.0, 2.0]).__next__)
        monkeypatch.setattr("mcc_caffe.video_results.time", times)
        job = Job(path, tmp_path / "out" / path.stem, is_video=True)
        form = open_format("csv")
        options = options_of(lambda pixels, time: [])
        texts.append(write_video(options, job, progress=False, drawings=False, result_format=form))
    assert texts == [
        "7 frames of the 9 that the file announces, 1 of them damaged (without hands), "
        "3.5 a second",
        "1 frame, 0.5 a second",
    ]


def test_an_h264_clip_whose_first_frame_is_damaged_is_refused_in_one_line(tmp_path):
    """Every other frame needs the first one."""
    source = tmp_path / "clip.mp4"
    film_h264(source)
    damage(source, [0])
    done = run("mcc_caffe.infer", source, "--quiet", "--out", tmp_path / "out")
    size = source.stat().st_size
    reason = f"not a readable video ({size} bytes): damaged, empty, or of an unknown format"
    assert refusal(done) == f"error: {source}: {reason}"
    assert not (tmp_path / "out").exists()


def flip_bits(path, frame):
    """Turn the bits of some bytes inside a frame, as a bad transfer does."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][frame]
    raw = bytes(packet)
    parts = [raw[start : start + 24] for start in range(len(raw) // 2, len(raw) - 24, 24)]
    part = next(part for part in parts if part in content)  # no header of the container in between
    flipped = bytes(byte ^ 0xFF for byte in part)
    content = content.replace(part, flipped)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name, muxer, codec, options",
    [
        ("clip.mp4", "mp4", "libx264", {"threads": "1", "slices": "4"}),
        ("clip.ts", "mpegts", "libx264", {"threads": "1", "slices": "4"}),
        ("clip.mkv", "matroska", "libx264", {"threads": "1", "slices": "4"}),
        ("clip.avi", "avi", "mjpeg", {"strict": "unofficial"}),
        ("clip.webm", "webm", "libvpx", {}),
    ],
)
def test_damage_inside_a_frame_is_noticed(name, muxer, codec, options, tmp_path):
    """Some decoders hand out what they made of such a frame as if it were sound."""
    source = encode(tmp_path / name, muxer, codec, 12, noise=20, **options)
    assert all(frame.pixels is not None for frame in VideoFile(source).frames())
    flip_bits(source, 6)
    frames = list(VideoFile(source).frames())
    assert len(frames) == 12
    damaged = [frame for frame in frames if frame.pixels is None]
    assert 0 < len(damaged) < 6
    if codec == "libx264":
        done = run("mcc_caffe.infer", source, "--out", tmp_path / "out")
        assert f"12 frames, {len(damaged)} of them damaged (null in the JSON)" in done.stdout


def boxes_of(content):
    """Split a part of an MP4 file into its boxes."""
    boxes = []
    while content:
        (length,) = struct.unpack_from(">I", content)
        boxes.append(content[:length])
        content = content[length:]
    return boxes


def test_a_cover_image_is_not_the_video(tmp_path):
    """An MP4 holds its cover in "udta", which may come before the video."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        film_stream = container.add_stream("ffv1", rate=25)
        film_stream.width, film_stream.height, film_stream.pix_fmt = 320, 240, "yuv420p"
        cover = container.add_stream("mjpeg", rate=25, options={"strict": "unofficial"})
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        for stream, count in ((cover, 1), (film_stream, 5)):
            image = np.full((stream.height, stream.width, 3), 90, np.uint8)
            for _ in range(count):
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    *others, moov = boxes_of(path.read_bytes())
    inner = sorted(boxes_of(moov[8:]), key=lambda box: {b"mvhd": 0, b"udta": 1}.get(box[4:8], 2))
    path.write_bytes(b"".join([*others, moov[:8], *inner]))
    with av.open(str(path)) as container:
        assert container.streams.video[0].width == 64
    video = VideoFile(path)
    assert video.size == (320, 240) and len(list(video.frames())) == 5


def write_streams(path, *sizes, **metadata):
    """Write a Matroska file of three black frames for each stream of these sizes."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata)
        streams = [container.add_stream("ffv1", rate=25) for _ in sizes]
        for stream, size in zip(streams, sizes):
            (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        for stream, (width, height) in zip(streams, sizes):
            black = np.zeros((height, width, 3), np.uint8)
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(black, format="bgr24")))
            container.mux(stream.encode(None))
    return path


def test_the_first_of_several_videos_in_a_file_is_read(tmp_path):
    video = VideoFile(write_streams(tmp_path / "two.mkv", (64, 48), (32, 24)))
    assert video.size == (64, 48) and len(list(video.frames())) == 3


def test_a_title_that_is_not_utf_8_does_no_harm(tmp_path):
    path = write_streams(tmp_path / "clip.mkv", (64, 48), title="a title")
    path.write_bytes(path.read_bytes().replace(b"a title", b"\xff\xfetitle"))
    assert len(list(VideoFile(path).frames())) == 3


def test_a_video_of_a_codec_that_nobody_knows_is_not_readable(tmp_path):
    path = write_streams(tmp_path / "clip.mkv", (64, 48))
    path.write_bytes(path.read_bytes().replace(b"V_FFV1", b"V_XXX1"))
    with pytest.raises(UnreadableError, match="clip.mkv: not a readable video .* unknown format"):
        VideoFile(path)


def test_the_pixels_of_a_videos_frame_are_bounded(tmp_path, monkeypatch):
    path = write_streams(tmp_path / "clip.mkv", (100, 60))
    monkeypatch.setenv("MCC_CAFFE_MAX_MEGAPIXELS", "0.006")
    assert VideoFile(path).size == (100, 60)
    monkeypatch.setenv("MCC_CAFFE_MAX_MEGAPIXELS", "0.005999")
    message = "frames of 100 x 60 pixels are more than 0.005999 million: make it smaller, or set M"
    with pytest.raises(UnreadableError, match=message):
        VideoFile(path)


def test_a_trimmed_video_announces_the_frames_that_it_shows(tmp_path):
    """An edit list of an MP4 leaves out frames that the file still holds."""
    source = encode(tmp_path / "clip.mp4", "mp4", "libx264", 30)
    content = source.read_bytes()
    at = content.index(b"elst") + 12  # of the milliseconds that are shown
    source.write_bytes(content[:at] + struct.pack(">I", 800) + content[at + 4 :])
    video = VideoFile(source)
    assert len(list(video.frames())) == 20 == video.announced == video.expected
    done = run("mcc_caffe.infer", source, "--out", tmp_path / "out")
    assert done.returncode == 0 and "20 frames, " in done.stdout, done.stderr


def test_a_video_that_cannot_be_opened_is_skipped(weights, tmp_path, monkeypatch, caplog):
    """It may vanish while those before it are looked at."""
    film(tmp_path / "clip.mp4", "mp4v", frames=2)
    (tmp_path / "gone.mp4").write_bytes(b"")
    check_result_paths = infer.check_result_paths

    def check_and_remove(*arguments):
        check_result_paths(*arguments)
        (tmp_path / "gone.mp4").unlink()

    monkeypatch.setattr(infer, "check_result_paths", check_and_remove)
    names = [str(tmp_path / name) for name in ("gone.mp4", "clip.mp4")]
    with pytest.raises(UserError, match="1 of 2 files could not be read"):
        infer.main([*names, "--out", str(tmp_path / "out"), "--format", "coco"])
    assert f"skipped: {names[0]}: cannot be read (No such file or directory)" in caplog.text
    assert (tmp_path / "out/coco_results.json").is_file()


def test_a_video_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    film(tmp_path / "clip.mp4", "mp4v", frames=2)
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "clip.gif")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("pathlib.Path.open", refuse)
    (tmp_path / "clip.ts").touch()
    assert [file.path.name for file in find_files([str(tmp_path)]).files if file.is_video] == [
        *("clip.mp4", "clip.ts")
    ]
    for name in ("clip.mp4", "clip.gif"):
        with pytest.raises(UnreadableError, match=rf"{name}: cannot be read \(Permission denied"):
            VideoFile(tmp_path / name)


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_animated_images_are_videos(kind, tmp_path):
    source = tmp_path / f"clip.{kind}"
    images = [PIL.Image.fromarray(np.roll(hand()[..., ::-1], 8 * i, 1)) for i in range(3)]
    images[0].save(source, save_all=True, append_images=images[1:], duration=[100, 200, 300])
    (tmp_path / "still").mkdir()
    images[0].save(tmp_path / f"still/clip.{kind}")
    assert [file.is_video for file in find_files([str(tmp_path)]).files] == [True, False]
    video = VideoFile(source)
    frames = list(video.frames())
    assert video.size == (320, 240) and video.announced == video.expected == 3
    assert video.fps == pytest.approx(3 / 0.6)
    assert [round(frame.time, 3) for frame in frames] == [0, 0.1, 0.3]
    for index, frame in enumerate(frames):
        expected = np.roll(hand(), 8 * index, 1).astype(int)
        assert np.abs(frame.pixels - expected).mean() < 12
    done = run("mcc_caffe.infer", source, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "out/clip.json").read_text())["frames"]) == 3


@pytest.mark.parametrize("milliseconds, fps", [(20, 50), (10, 10)])
def test_only_pauses_below_20_ms_become_those_of_browsers(milliseconds, fps, tmp_path):
    """Browsers show a frame of 10 ms for 100 ms."""
    first, *others = (PIL.Image.new("L", (8, 8), grey) for grey in (0, 90, 180))
    path = tmp_path / "x.gif"
    first.save(path, save_all=True, append_images=others, duration=milliseconds)
    video = VideoFile(path)
    assert video.fps == pytest.approx(fps)
    assert [frame.time for frame in video.frames()] == pytest.approx([0, 1 / fps, 2 / fps])


def test_the_frames_after_a_damaged_one_of_an_animation_keep_their_times(tmp_path):
    images = [PIL.Image.fromarray(np.roll(hand()[..., ::-1], 8 * i, 1)) for i in range(5)]
    duration = [100, 200, 300, 400, 500]
    for kind in ("gif", "png"):
        source = tmp_path / f"clip.{kind}"
        images[0].save(source, save_all=True, append_images=images[1:], duration=duration)
        content = bytearray(source.read_bytes())
        part = slice(len(content) * 3 // 10, len(content) * 3 // 10 + 60)  # of the second frame
        content[part] = bytes(byte ^ 0x5A for byte in content[part])
        source.write_bytes(content)
        frames = list(VideoFile(source).frames())
        assert [frame.pixels is None for frame in frames] == [False, True, False, False, False]
        assert [round(frame.time, 3) for frame in frames] == [0, 0.1, 0.3, 0.6, 1]


@pytest.mark.parametrize("kind", ["webp", "png"])
def test_animated_images_are_turned_as_their_exif_orientation_says(kind, tmp_path):
    """By a quarter to the right, 6: what is stored at the top is shown at the right."""
    stored = np.zeros((40, 64, 3), np.uint8)
    stored[:10] = 255
    images = [PIL.Image.fromarray(stored), PIL.Image.fromarray(stored // 2)]
    path, exif = tmp_path / f"clip.{kind}", orientation_tags(6)
    images[0].save(path, save_all=True, append_images=images[1:], exif=exif, quality=100)
    video = VideoFile(path)
    frames = list(video.frames())
    assert video.size == (40, 64) and len(frames) == 2
    for frame, brightness in zip(frames, (255, 127)):
        assert frame.pixels[:, 32:].min() > brightness - 8 and frame.pixels[:, :28].max() < 8


def test_an_image_beside_an_animation_is_no_frame_of_it(tmp_path):
    """A PNG's image for programs that show no animation, and two frames."""
    images = [PIL.Image.new("RGB", (64, 48), colour) for colour in ("red", "lime", "blue")]
    images[0].save(
        tmp_path / "clip.png",
        save_all=True,
        append_images=images[1:],
        duration=[50, 150],
        default_image=True,
    )
    video = VideoFile(tmp_path / "clip.png")
    frames = list(video.frames())
    assert video.announced == 2 and video.fps == pytest.approx(2 / 0.2)
    assert [round(frame.time, 3) for frame in frames] == [0, 0.05]
    assert [frame.pixels[9, 9].tolist() for frame in frames] == [[0, 255, 0], [255, 0, 0]]


def test_animated_images_are_bounded_like_videos(tmp_path, monkeypatch):
    images = [PIL.Image.new("RGB", (200, 100), colour) for colour in ("red", "blue")]
    images[0].save(tmp_path / "clip.gif", save_all=True, append_images=images[1:])
    assert len(list(VideoFile(tmp_path / "clip.gif").frames())) == 2
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 5)  # Pillow's own bound does not count
    assert find_files([str(tmp_path)]).files[0].is_video
    assert len(list(VideoFile(tmp_path / "clip.gif").frames())) == 2
    monkeypatch.setenv("MCC_CAFFE_MAX_MEGAPIXELS", "0.01")
    message = "20000 pixels are more than 0.01 million: .*or set MCC_CAFFE_MAX_MEGAPIXELS"
    with pytest.raises(UnreadableError, match=message):
        list(VideoFile(tmp_path / "clip.gif").frames())


MATRICES = {  # of the MP4 file format: a, b, u, c, d, v, x, y, w; and what shows it upright
    "a quarter to the right": ((0, 1, 0, -1, 0, 0), lambda image: np.rot90(image, -1)),
    "a quarter to the left": ((0, -1, 0, 1, 0, 0), lambda image: np.rot90(image)),
    "upside down": ((-1, 0, 0, 0, -1, 0), lambda image: np.rot90(image, 2)),
    "mirrored": ((-1, 0, 0, 0, 1, 0), lambda image: image[:, ::-1]),
}


@pytest.mark.parametrize("turn", MATRICES)
def test_a_turned_video_is_shown_upright(turn, tmp_path):
    source = film(tmp_path / "clip.mp4", "mp4v")
    expected = next(iter(VideoFile(source).frames())).pixels
    numbers, show = MATRICES[turn]
    content = source.read_bytes()
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = content.index(identity, content.index(b"tkhd"))
    matrix = struct.pack(">9i", *(number << 16 for number in numbers), 0, 0, 1 << 30)
    source.write_bytes(content[:at] + matrix + content[at + 36 :])
    video = VideoFile(source)
    upright = show(expected)
    assert video.size == upright.shape[1::-1]
    pixels = next(iter(video.frames())).pixels
    assert np.abs(pixels.astype(int) - upright).mean() < 2 and pixels.flags.c_contiguous


def test_a_frame_that_was_read_is_gone_without_the_garbage_collector(tmp_path):
    source = film(tmp_path / "clip.mp4", "mp4v", frames=60)
    gc.disable()
    try:
        thread_counts = [len(os.listdir("/proc/self/task")) for _ in VideoFile(source).frames()]
    finally:
        gc.enable()
    assert len(thread_counts) == 60
    assert max(thread_counts[5:]) <= thread_counts[5]  # a frame has those that convert its colours


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 160, 240, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        image = cv2.resize(hand(), (160, 240))
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    assert VideoFile(path).size == (320, 240)


def test_a_file_that_says_that_its_pixels_are_very_wide_is_not_believed(tmp_path):
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 16, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(20, 1)
        image = np.full((48, 16, 3), 90, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    assert VideoFile(path).size == (8 * 16, 48)


def encode(path, muxer, codec, frames, noise=0, rate=25, **options):
    """A hand that moves to the right, `rate` frames a second, in any container; return the path."""
    rng = np.random.default_rng(0)
    with open(path, "wb") as file, av.open(file, "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for index in range(frames):
            image = np.roll(hand(), 4 * index, 1)
            if noise:
                image = image + rng.integers(-noise, noise + 1, image.shape)
                image = image.clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    "name, muxer, codec",
    [
        *(("a.M4V", "mp4", "mpeg4"), ("a.mpg", "mpeg", "mpeg1video"), ("a.wmv", "asf", "wmv2")),
        *(("a.flv", "flv", "flv"), ("a.3gp", "3gp", "mpeg4"), ("a.ts", "mpegts", "mpeg2video")),
        *(("a:b.mp4", "mp4", "mpeg4"), ("http:b.mov", "mov", "mpeg4"), ("a.avi", "avi", "libx264")),
    ],
)
def test_other_endings_and_names(name, muxer, codec, tmp_path):
    encode(tmp_path / name, muxer, codec, 12)
    (input_file,) = find_files([str(tmp_path)]).files
    video = VideoFile(input_file.path)
    frames = list(video.frames())
    assert input_file.is_video and video.size == (320, 240) and len(frames) == 12
    assert np.allclose([frame.time for frame in frames], np.arange(12) / 25, atol=2e-3)


def test_times_begin_at_0_where_the_file_begins_between_two_microseconds(tmp_path):
    source = encode(tmp_path / "clip.ts", "mpegts", "mpeg2video", 4, rate=30)
    times = [frame.time for frame in VideoFile(source).frames()]
    assert times == pytest.approx([0, 1 / 30, 2 / 30, 3 / 30], abs=1e-12) and str(times[0]) == "0.0"


def shifts(frames):
    """How far to the right of the first frame's hand each frame's is, in pixels."""
    first = frames[0].pixels.astype(int)
    return [
        min(range(0, 160, 4), key=lambda shift: np.abs(np.roll(first, shift, 1) - pixels).mean())
        for _, pixels in frames
    ]


@pytest.mark.parametrize(
    "codec, options",
    [
        ("libx264", {}),
        ("libx264", {"x264-params": "bframes=5:b-adapt=0:keyint=12:open-gop=1"}),
        ("mpeg4", {"bf": "2"}),
        ("mpeg2video", {"bf": "2"}),
    ],
)
def test_an_avi_whose_frames_are_stored_in_another_order(codec, options, tmp_path):
    """AVI stores no times; each frame is 1/25 s after the one before it, and moved by 4 pixels."""
    source = encode(tmp_path / "clip.avi", "avi", codec, 30, **options)
    with av.open(str(source)) as container:
        assert any(frame.pict_type == PictureType.B for frame in container.decode(video=0))
    frames = list(VideoFile(source).frames())
    assert [round(frame.time * 25, 6) for frame in frames] == list(range(30))
    assert shifts(frames) == list(range(0, 120, 4))


ANNOUNCED = "that the file announces (an AVI counts empty ones, too)"


@pytest.mark.parametrize("first_number", [0, 30])
@pytest.mark.parametrize(
    "kept_share, text",
    [
        (1, "5 frames, "),
        (0.8, f"4 frames of the 10 {ANNOUNCED}, 1 of them damaged"),
        (0.5, f"2 frames of the 10 {ANNOUNCED}, 1 of them damaged"),
    ],
)
def test_the_empty_frames_of_an_avi_are_not_missing(kept_share, text, first_number, tmp_path):
    """Recorders drop frames so. Those behind the end of a cut file are missing."""
    source = tmp_path / "clip.avi"
    with open(source, "wb") as file, av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        for number in (0, 2, 5, 6, 9):
            frame = av.VideoFrame.from_ndarray(hand(), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    content = bytearray(source.read_bytes())
    struct.pack_into("<I", content, content.index(b"strh") + 36, first_number)  # dwStart
    source.write_bytes(content[: round(kept_share * len(content))])
    times = [frame.time for frame in VideoFile(source).frames()]
    assert np.allclose(times, np.array([0, 2, 5, 6, 9])[: len(times)] / 25)
    assert written(source, tmp_path / "out").startswith(text)


def test_an_avi_with_empty_frames_at_its_end_says_that_these_count(tmp_path):
    """FFmpeg passes them over, and the header alone counts them."""
    source = film(tmp_path / "clip.avi", "MJPG", frames=3)
    content = bytearray(source.read_bytes())
    for name, offset in (("strh", 40), ("avih", 24)):
        assert struct.unpack_from("<I", content, content.index(name.encode()) + offset)[0] == 3
        struct.pack_into("<I", content, content.index(name.encode()) + offset, 5)
    source.write_bytes(content)
    assert written(source, tmp_path / "out").startswith(f"3 frames of the 5 {ANNOUNCED}, ")


def test_an_avi_from_a_pipe_announces_no_frames(tmp_path):
    """FFmpeg cannot go back to its header, and leaves 2^30 there."""
    pipe, content = io.BytesIO(), tmp_path / "clip.avi"
    not_seekable = types.SimpleNamespace(write=pipe.write)
    with av.open(not_seekable, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(hand(), format="bgr24")))
        container.mux(stream.encode(None))
    content.write_bytes(pipe.getvalue())
    assert VideoFile(content).announced == 0
    assert written(content, tmp_path / "out").startswith("3 frames, ")


def test_a_damaged_frame_of_an_avi_takes_its_own_time_with_it(tmp_path):
    source = encode(tmp_path / "x264.avi", "avi", "libx264", 30)
    damage(source, [9])
    frames = list(VideoFile(source).frames())
    assert [round(frame.time * 25, 6) for frame in frames] == list(range(30))
    assert [index for index, frame in enumerate(frames) if frame.pixels is None] == [9]
    # Without the P frame the decoder passes over the B frames that need it, without an error.
    source = encode(tmp_path / "mpeg4.avi", "avi", "mpeg4", 30, bf="2")
    damage(source, [10])
    frames = list(VideoFile(source).frames())
    assert len(frames) == 28 and [round(frame.time * 25) for frame in frames[-18:]] == [
        *range(12, 30)
    ]


def test_a_file_whose_times_begin_again_goes_on(tmp_path):
    """Two clips of a transport stream, one after the other in one file."""
    source = encode(tmp_path / "clip.ts", "mpegts", "mpeg2video", 6)
    source.write_bytes(2 * source.read_bytes())
    times = [frame.time for frame in VideoFile(source).frames()]
    assert np.allclose(times, np.arange(12) / 25, atol=2e-3)


def test_frames_of_another_size_keep_their_shape(tmp_path, caplog):
    """A transport stream of three recordings; the second is upright, the third is low."""
    source, parts = tmp_path / "clip.ts", []
    for width, height in ((320, 240), (240, 320), (320, 120)):
        with open(source, "wb") as file, av.open(file, "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            white = np.full((height, width, 3), 255, np.uint8)
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(white, format="bgr24")))
            container.mux(stream.encode(None))
        parts.append(source.read_bytes())
    source.write_bytes(b"".join(parts))
    images = [frame.pixels for frame in VideoFile(source).frames()]
    assert len(images) == 9 and all(image.shape == (240, 320, 3) for image in images)
    borders = np.r_[0:70, 250:320]  # the second's 240 x 320 pixels become 180 x 240
    assert images[0].min() > 240 and images[5][:, 70:250].min() > 240
    assert (images[5][:, borders] == 128).all()
    assert images[8][60:180].min() > 240 and (images[8][np.r_[0:60, 180:240]] == 128).all()
    (warning,) = caplog.messages
    assert "clip.ts: at 0.120 s the size of the frames changes from 320 x 240 to 240 x 3" in warning


def packet_starts(content):
    """Where the headers of a transport stream's video packets begin."""
    return [match.start() for match in re.finditer(b"\0\0\1\xe0", content)]


def test_a_frame_without_time_in_a_file_whose_times_begin_again(tmp_path):
    source = encode(tmp_path / "clip.ts", "mpegts", "libx264", 6, threads="1")
    content = bytearray(source.read_bytes())
    content[packet_starts(content)[3] + 7] &= 0x3F  # the header says: no time here
    source.write_bytes(source.read_bytes() + content)
    with av.open(str(source)) as container:
        assert [frame.pts for frame in container.decode(video=0)].count(None) == 1
    times = [frame.time for frame in VideoFile(source).frames()]
    assert np.allclose(times, np.arange(12) / 25, atol=2e-3)


def test_a_damaged_frame_of_a_file_whose_times_begin_again(tmp_path):
    source = encode(tmp_path / "clip.ts", "mpegts", "mpeg4", 12)
    content = bytearray(source.read_bytes())
    start = packet_starts(content)[6] + 19
    content[start : start + 100] = bytes(100)
    source.write_bytes(source.read_bytes() + content)
    frames = list(VideoFile(source).frames())
    assert frames[18].pixels is None
    assert np.allclose([frame.time for frame in frames], np.arange(24) / 25, atol=2e-3)


def test_uneven_and_equal_times_stay_as_they_are(tmp_path):
    ticks = [0, 16, 16, 20, 24, 90, 91]  # milliseconds
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        packets = []
        for index in range(len(ticks)):
            image = av.VideoFrame.from_ndarray(np.roll(hand(), 4 * index, 1), format="bgr24")
            packets += stream.encode(image)
        packets += stream.encode(None)
        for packet, tick in zip((packet for packet in packets if packet.size), ticks):
            packet.pts = packet.dts = tick
            packet.time_base = Fraction(1, 1000)
            container.mux(packet)
    times = [frame.time for frame in VideoFile(tmp_path / "a.mkv").frames()]
    assert np.allclose(times, np.array(ticks) / 1000, atol=1e-6)


def test_frames_of_odd_sides_and_of_one_pixel_can_be_written(tmp_path):
    for size in ((33, 21), (1, 1), (2, 7)):
        with video_writer(tmp_path / "clip.mp4", 25, size) as add:
            add(np.full((size[1], size[0], 3), 200, np.uint8), 0.0)
        (frame,) = VideoFile(tmp_path / "clip.mp4").frames()
        assert np.abs(frame.pixels.astype(int) - 200).max() < 6
        width, height = (max(side // 2, 1) * 2 for side in size)
        assert frame.pixels.shape == (height, width, 3)


@pytest.mark.parametrize("size", [(16385, 2), (2, 16385)])
def test_a_clip_has_sides_of_up_to_16384_pixels(size):
    """The last row or column of an odd side is not written."""
    check_clip_size(types.SimpleNamespace(path="clip.gif", size=size))
    larger = tuple(side + (side > 2) for side in size)
    message = f"clip.gif: frames of {larger[0]} x {larger[1]} pixels are too large"
    with pytest.raises(UnreadableError, match=message):
        check_clip_size(types.SimpleNamespace(path="clip.gif", size=larger))


@pytest.mark.parametrize("fps", [1e-6, 1e7])
def test_a_rate_that_no_file_can_say_costs_no_clip(fps, tmp_path):
    with video_writer(tmp_path / "clip.mp4", fps, (64, 48)) as add:
        for time in (0.0, 0.5):
            add(np.full((48, 64, 3), 90, np.uint8), time)
    assert [frame.time for frame in VideoFile(tmp_path / "clip.mp4").frames()] == [0, 0.5]


def test_frames_that_no_clip_can_hold_are_refused_by_the_videos_name(tmp_path):
    source = tmp_path / "wide.gif"
    images = [PIL.Image.new("RGB", (16390, 2), colour) for colour in ("red", "blue")]
    images[0].save(source, save_all=True, append_images=images[1:])
    done = run("mcc_caffe.infer", source, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert refusal(done) == (
        f"error: {source}: frames of 16390 x 2 pixels are too large for the clip that is written "
        "of it: a side may have 16384 pixels (H.264): make it smaller"
    )


def test_where_no_clip_is_written_frames_may_be_larger(tmp_path):
    """Each is described with the time at which it is shown, also where pauses differ."""
    source = tmp_path / "wide.gif"
    images = [PIL.Image.new("RGB", (16390, 2), colour) for colour in ("red", "blue", "red")]
    images[0].save(source, save_all=True, append_images=images[1:], duration=[100, 300, 100])
    pose = pose_of(np.zeros((2, 16390, 3), np.uint8), (0, 0), 0.5)
    text = write_video(
        options_of(lambda pixels, time: [TrackedHand(1, pose, pose.keypoints)]),
        Job(source, tmp_path / "out/wide", is_video=True),
        progress=False,
        drawings=False,
        result_format=open_format("csv"),
    )
    assert text.startswith("3 frames, ")
    with open(tmp_path / "out/wide.csv") as file:
        times = {float(row["time"]) for row in csv.DictReader(file)}
    assert times == {0, 0.1, 0.4}


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_a_lack_of_threads_or_memory_is_not_blamed_on_the_frames(number, tmp_path):
    clip = tmp_path / "clip.mp4"
    message = f"^{re.escape(str(clip))}: the video cannot be written .{os.strerror(number)}.: end"
    with pytest.raises(UserError, match=message), video_writer(clip, 25, (96, 96)):
        av.error.err_check(-number)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "number, message",
    [
        (errno.EIO, "clip.mp4 cannot be written"),
        (errno.ENOSPC, "clip.mp4 cannot be written"),
        (errno.EINVAL, "clip.mp4: frames of 97 x 96 pixels, 25 a second, cannot be written as a"),
    ],
)
def test_a_fault_of_the_disk_is_not_blamed_on_the_frames(number, message, tmp_path):
    with pytest.raises(UserError) as error, video_writer(tmp_path / "clip.mp4", 25, (97, 96)):
        av.error.err_check(-number)
    assert message in str(error.value) and os.strerror(number) in str(error.value)
    assert isinstance(error.value, UnreadableError) == (number == errno.EINVAL)


@pytest.mark.parametrize("lines, number", [(718, 6), (720, 1)])
def test_a_clip_says_which_colours_it_has(lines, number, tmp_path):
    """Players take those of large images for others than those of small ones."""
    colour = (40, 160, 200)
    with video_writer(tmp_path / "clip.mp4", 25, (640, lines)) as add:
        add(np.full((lines, 640, 3), colour, np.uint8), 0.0)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (number, 1)
    (frame,) = VideoFile(tmp_path / "clip.mp4").frames()
    assert np.abs(frame.pixels.astype(int) - colour).max() <= 3


@pytest.mark.parametrize("lines, matrix", [(718, Colorspace.ITU601), (720, Colorspace.ITU709)])
def test_the_colours_of_a_video_that_does_not_say_them(lines, matrix, tmp_path):
    colour = (40, 160, 200)
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, lines, "yuv420p"
        image = np.full((lines, 640, 3), colour, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=matrix)))
        container.mux(stream.encode(None))
    (frame,) = VideoFile(tmp_path / "clip.mp4").frames()
    assert np.abs(frame.pixels.astype(int) - colour).max() <= 3


@pytest.mark.parametrize("lines", [240, 720])
def test_transparent_parts_of_a_video_are_white(lines, tmp_path):
    image = np.zeros((lines, 320, 4), np.uint8)
    image[:, 100:200] = (40, 160, 200, 255)
    image[:, 200:] = (40, 160, 200, 128)
    with av.open(str(tmp_path / "clip.mov"), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, lines, "rgba"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgra")))
        container.mux(stream.encode(None))
    (frame,) = VideoFile(tmp_path / "clip.mov").frames()
    expected = [(255, 255, 255), (40, 160, 200), (147, 207, 227)]
    assert np.abs(frame.pixels[9, 50::100].astype(int) - expected).max() <= 1


def test_without_display_or_camera_it_says_so(tmp_path, monkeypatch):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    done = run("mcc_caffe.infer", "--camera", 0, env=environment)
    assert refusal(done).startswith(
        "error: no window can be opened: --camera needs a display (DISPLAY is not set)"
    )
    monkeypatch.setattr(
        "subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 0)
    )  # as if there were one
    with pytest.raises(UserError, match="camera 99 gives no frame: is it connected"):
        open_camera(99)


def test_the_camera_is_shown_until_q_is_pressed(tmp_path, monkeypatch):
    """A video stands for the camera, and a list for the window."""
    source, shown, keys = film(tmp_path / "clip.mp4", "mp4v"), [], iter([-1, -1, -1, ord("q")])
    monkeypatch.setattr(
        "mcc_caffe.inference.video_reading.open_camera",
        lambda number: cv2.VideoCapture(str(source)),
    )
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image))
    infer.main(["--camera", "0"])
    first = decoded(source)[0][0]
    hands = HandTracker(HandPredictor(levels=1), one_hand=True).follow(first, 0)
    drawn = draw_hands(first, hands)
    assert len(hands) == 1 and len(shown) == 3
    assert shown[0].shape == first.shape and (shown[0][40:] == drawn[40:]).all()
    assert (shown[0][:40, :100] != drawn[:40, :100]).any()  # frames a second stand there


def test_a_camera_keeps_no_old_frame(monkeypatch):
    settings = []

    def open_capture(number):
        read, set_property = (lambda: (True, None)), (lambda *words: settings.append(words))
        return types.SimpleNamespace(number=number, read=read, set=set_property)

    monkeypatch.setattr("subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    monkeypatch.setattr(cv2, "VideoCapture", open_capture)
    assert open_camera(2).number == 2 and settings == [(cv2.CAP_PROP_BUFFERSIZE, 1)]


@pytest.mark.parametrize("end", ["Escape", "the window is closed", "the camera is unplugged"])
def test_a_camera_is_shown_until(end, monkeypatch):
    """A function stands for the tracker, and lists for the camera and the window."""
    keys, visible, received = [-1] * 3, [1.0] * 3, [True] * 3
    for ending, answers, last in (
        ("Escape", keys, 27),
        ("the window is closed", visible, 0.0),
        ("the camera is unplugged", received, False),
    ):
        answers[2:] = [last] if end == ending else answers[2:]
    shown, times, numbers = [], [], []
    capture = types.SimpleNamespace(
        read=lambda: (received.pop(0), np.zeros((48, 64, 3), np.uint8)),
    )
    monkeypatch.setattr(
        "mcc_caffe.inference.video_reading.open_camera",
        lambda number: numbers.append(number) or capture,
    )
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: visible.pop(0))
    monkeypatch.setattr(cv2, "waitKey", lambda _: keys.pop(0))
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(title))
    options = options_of(lambda frame, time: times.append(time) or [])
    if end == "the camera is unplugged":
        with pytest.raises(UserError, match="camera 3 gives no more frames: was it unplugged"):
            show_camera(options, 3)
    else:
        show_camera(options, 3)
    assert shown == 2 * ["camera 3: q ends"] and numbers == [3] and times[0] < times[1]
