"""Video files, read and written by OpenCV, and cameras with a window."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import existing
from mcc_caffe.inference.input_files import UnreadableError

_USUAL_FPS = 30.0  # assumed where the file does not say
_FPS_RANGE = (1, 240)  # a file that says anything else is not believed
_CODEC = "mp4v"  # MPEG-4; the wheels of opencv-python have no H.264 encoder
_LEAST_FREE_BYTES = 1 << 20  # of the disk: the encoder does not say when it is full


class VideoFile:
    """A video to read.

    Attributes:
        path: the file.
        fps: frames a second.
        size: (width, height) of a frame in pixels, upright.
        announced: the number of frames that the file announces; 0 where it does not.
    """

    def __init__(self, path: Path):
        """Open the file.

        Raises:
            UserError: there is no such file.
            UnreadableError: the file has no frame that can be decoded.
        """
        _silence_opencv()
        self.path, self._capture = existing(path, "video"), cv2.VideoCapture(str(path))
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps: float = fps if _FPS_RANGE[0] <= fps <= _FPS_RANGE[1] else _USUAL_FPS
        self.announced = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        decoded, self._first_frame = self._capture.read()
        if not decoded:
            raise UnreadableError(
                f"{path}: not a readable video ({path.stat().st_size} bytes): damaged, empty, "
                "or of an unknown format"
            )
        height, width = self._first_frame.shape[:2]
        self.size: tuple[int, int] = (width, height)

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames, HxWx3 uint8 BGR; they can be read once."""
        decoded, frame = True, self._first_frame
        while decoded:
            yield frame
            decoded, frame = self._capture.read()


@contextlib.contextmanager
def video_writer(
    path: Path, fps: float, size: tuple[int, int]
) -> Iterator[Callable[[np.ndarray], None]]:
    """Open an MP4 file to write; it appears when all frames are written, or not at all.

    The codec stores pairs of rows and columns: of an odd side the last one is lost.

    Args:
        path: the file.
        fps: frames a second.
        size: (width, height) of a frame in pixels.

    Yields:
        A function that adds a frame, HxWx3 uint8 BGR.

    Raises:
        UserError: the file cannot be written.
    """
    _silence_opencv()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, written = path.with_name(f".{path.stem}.partial.mp4"), 0
    write_error = UserError(
        f"{path}, {size[0]} x {size[1]}, {fps:.3g} frames a second, cannot be written: make room, "
        "or give another folder"
    )
    writer = cv2.VideoWriter(
        str(partial), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*_CODEC), fps, size
    )

    def write(frame: np.ndarray) -> None:
        nonlocal written
        if not writer.isOpened() or shutil.disk_usage(path.parent).free < _LEAST_FREE_BYTES:
            raise write_error
        writer.write(frame)
        written += 1

    try:
        yield write
        writer.release()
        if count_frames(partial) != written:
            raise write_error
        partial.replace(path)
    finally:
        writer.release()
        partial.unlink(missing_ok=True)


def count_frames(path: Path) -> int:
    """Return how many frames an MP4 file says it has; 0 where the file is incomplete."""
    return int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))


def open_camera(number: int) -> cv2.VideoCapture:
    """Open a camera, after making sure that there is a display to show its frames on.

    Args:
        number: 0 for the first camera.

    Raises:
        UserError: no window can be opened, or the camera gives no picture.
    """
    _silence_opencv()
    # Without a display OpenCV's window system aborts the process, so another process tries.
    if subprocess.run(
        [sys.executable, "-c", "import cv2; cv2.namedWindow('try')"], capture_output=True
    ).returncode:
        raise UserError(
            "no window can be opened: --camera needs a display (DISPLAY is "
            f"{os.environ.get('DISPLAY') or 'not set'}) and an OpenCV with windows, "
            "opencv-python, not opencv-python-headless"
        )
    capture = cv2.VideoCapture(number)
    if not capture.read()[0]:
        raise UserError(
            f"camera {number} gives no picture: is it connected (ls /dev/video*), and free?"
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # so that no old frame is shown
    return capture


def _silence_opencv() -> None:
    """Switch off what FFmpeg and OpenCV print about a damaged file; the UserError says it."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
