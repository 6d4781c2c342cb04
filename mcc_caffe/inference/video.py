"""Video files, read and written by OpenCV, and its windows and cameras."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import cv2
import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import existing
from mcc_caffe.core.hand import NAMES
from mcc_caffe.inference.images import UnreadableError

_USUAL_FPS = 30.0  # where the file does not say
_FPS = (1, 240)  # what is believed
_CODEC = "mp4v"  # MPEG-4; the wheels of opencv-python have no H.264 encoder
_ROOM = 1 << 20  # bytes that a disk must have left: the encoder does not say when there are none


class VideoFile:
    """A video to read. fps: frames a second. size: (width, height) of a frame, upright. announced: frames as the file says, 0 where it does not.

    UnreadableError where there is no frame in it.
    """

    def __init__(self, path: pathlib.Path):
        _hush()
        self.path, self._capture = existing(path, "video"), cv2.VideoCapture(str(path))
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if _FPS[0] <= fps <= _FPS[1] else _USUAL_FPS
        self.announced = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        there, self._first = self._capture.read()
        if not there:
            raise UnreadableError(
                f"{path}: not a readable video ({path.stat().st_size} bytes): damaged, empty, or of an unknown format"
            )
        self.size = self._first.shape[1::-1]

    def frames(self) -> Iterator:
        """HxWx3 uint8 BGR, one after the other, once."""
        there, frame = True, self._first
        while there:
            yield frame
            there, frame = self._capture.read()


@contextlib.contextmanager
def video_writer(path: pathlib.Path, fps: float, size: tuple) -> Iterator:
    """Gives a function that adds a frame (HxWx3 uint8 BGR) to the MP4 file `path`, which is there when all is written, or not at all.

    Of an odd width or height the last column or row is lost: the codec stores pairs.
    """
    _hush()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, written = path.with_name(f".{path.stem}.partial.mp4"), 0
    failed = UserError(
        f"{path}, {size[0]} x {size[1]}, {fps:.3g} frames a second, cannot be written: make room, or give another folder"
    )
    writer = cv2.VideoWriter(
        str(partial), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*_CODEC), fps, size
    )

    def write(frame: np.ndarray) -> None:
        nonlocal written
        if not writer.isOpened() or shutil.disk_usage(path.parent).free < _ROOM:
            raise failed
        writer.write(frame)
        written += 1

    try:
        yield write
        writer.release()
        if frames_in(partial) != written:
            raise failed
        partial.replace(path)
    finally:
        writer.release()
        partial.unlink(missing_ok=True)


def frame_line(report: dict) -> str:
    """A frame in a video's JSON, from an image's: keypoints [x, y, confidence] or null, mask_box [x, y, width, height] or null."""
    keypoints = [
        point and [point["x"], point["y"], point["confidence"]] for point in report["keypoints"]
    ]
    box = report["mask_box"] and list(report["mask_box"].values())
    return json.dumps({"keypoints": keypoints, "mask_box": box}, separators=(",", ":"))


def video_json(head: dict, frames: list) -> bytes:
    """A video's JSON: `head`, what holds for all of it, "names" of the keypoints, then "frames", a line each."""
    start = json.dumps({**head, "names": NAMES})[:-1]
    return (start + ', "frames": [\n' + ",\n".join(frames) + "\n]}\n").encode()


def frames_in(path: pathlib.Path) -> int:
    """Frames that an MP4 file says it has; 0 where it is not whole."""
    return int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))


def open_camera(number: int) -> cv2.VideoCapture:
    """A camera that gives frames, and a display to show them on; else a UserError that says which is missing."""
    _hush()
    # Where there is no display, OpenCV's window system ends the process: another one tries.
    if subprocess.run(
        [sys.executable, "-c", "import cv2; cv2.namedWindow('try')"], capture_output=True
    ).returncode:
        raise UserError(
            "no window can be opened: --camera needs a display (DISPLAY is "
            f"{os.environ.get('DISPLAY') or 'not set'}) and an OpenCV with windows, opencv-python, not opencv-python-headless"
        )
    capture = cv2.VideoCapture(number)
    if not capture.read()[0]:
        raise UserError(
            f"camera {number} gives no picture: is it connected (ls /dev/video*), and free?"
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what is shown is what is seen now
    return capture


def _hush() -> None:
    """FFmpeg's and OpenCV's own words about a damaged file are many; the UserError's line says it."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
