"""Writes videos frame by frame, as MP4 files.

PyAV writes: unlike OpenCV it takes frames that are not equally far apart.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.video.reformatter import Colorspace

from mcc_caffe.core.errors import NO_ROOM, UserError
from mcc_caffe.core.files import atomic_write
from mcc_caffe.inference.input_files import UnreadableError
from mcc_caffe.inference.reports import PROGRAM
from mcc_caffe.inference.video_reading import BT_709, HD_LINES, Colours, VideoFile

_log = logging.getLogger(__name__)

_CODEC = "libx264"  # H.264, which browsers play
_CODEC_OPTIONS = {"crf": "18", "preset": "veryfast"}  # hardly to be told from the original
_TICKS = 90000  # a second: the usual clock of videos, in which all usual rates are whole
_LEAST_TICKS = 1000  # a second, where a longer video needs a slower clock
# Ticks that a video may last whatever its pauses are. MP4 takes fewer than 2**31 from the time at
# which a frame is decoded to the one at which it is shown, and these may be two pauses apart.
_MOST_TICKS = 2**30 - 1
_LONGEST_PAUSE = 2**31 - 2  # ticks that MP4 takes from one frame to the next
# Where a video may last longer, each frame is decoded when it is shown.
_NO_REORDERING = {"bf": "0"}
_DISK_ERRORS = (*NO_ROOM, errno.EIO, errno.EROFS)
_LARGEST_CLIP_SIDE = 16384  # pixels, of H.264
_BT_601 = Colours(Colorspace.ITU601, 6)
_LIMITED_RANGE = 1  # FFmpeg's number


def check_clip_size(video: VideoFile) -> None:
    """Raise an UnreadableError where a clip of the video's size cannot be written."""
    width, height = video.size
    if max(width - width % 2, height - height % 2) > _LARGEST_CLIP_SIDE:
        raise UnreadableError(
            f"{video.path}: frames of {width} x {height} pixels are too large for the clip that is "
            f"written of it: a side may have {_LARGEST_CLIP_SIDE} pixels (H.264): make it smaller"
        )


@contextlib.contextmanager
def video_writer(
    path: Path,
    fps: float,
    size: tuple[int, int],
    *,
    comment: str = PROGRAM,
) -> Iterator[Callable[[np.ndarray, float], None]]:
    """Open an MP4 file to write; it appears when all frames are written, or not at all.

    Args:
        path: The file, whose folder is made.
        fps: Frames a second, on average.
        size: (width, height) of a frame in pixels.
        comment: What the file says of itself; PROGRAM marks a result, which is no input.

    Yields:
        A function that adds a frame, as `video_encoder` does.

    Raises:
        UserError: The file cannot be written.
        UnreadableError: The encoder does not take such frames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(path) as (_, file),
        video_encoder(path, file, fps, size, comment=comment) as add_frame,
    ):
        yield add_frame


@contextlib.contextmanager
def video_encoder(
    path: Path,
    file: BinaryIO,
    fps: float,
    size: tuple[int, int],
    *,
    seconds: float = 0.0,
    comment: str = PROGRAM,
) -> Iterator[Callable[[np.ndarray, float], None]]:
    """Encode frames as an MP4 file, all of which is on the disk when the block ends.

    The codec stores pairs of rows and columns: of an odd side the last one is lost.

    Args:
        path: What errors call the file.
        file: The file, open for writing.
        fps: Frames a second, on average.
        size: (width, height) of a frame in pixels.
        seconds: How long the video is; 0 where that is unknown. In one of many hours the clock is
            slower, so that it can hold a pause of any length.
        comment: What the file says of itself.

    Yields:
        A function that adds a frame, HxWx3 uint8 BGR, and the second at which it is shown.
        Pauses that MP4 cannot hold are shortened, with a warning.

    Raises:
        OSError: The file cannot be written.
        UserError: There is no memory left, or no thread.
        UnreadableError: The encoder does not take such frames.
    """
    av.logging.set_level(av.logging.PANIC)
    width, height = (max(side - side % 2, 2) for side in size)
    ticks = min(max(int(_MOST_TICKS / (seconds + 1)), _LEAST_TICKS), _TICKS)
    # FFmpeg would multiply a slow clock.
    options = {"video_track_timescale": str(ticks)}
    container = av.open(file, "w", format="mp4", options=options)
    container.metadata["comment"] = comment
    rate = Fraction(min(max(fps, 1e-3), 1000.0)).limit_denominator(1001)
    is_bounded = 0 < seconds * ticks < _MOST_TICKS
    codec_options = _CODEC_OPTIONS if is_bounded else _CODEC_OPTIONS | _NO_REORDERING
    stream = container.add_stream(_CODEC, rate=rate, options=codec_options)
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = Fraction(1, ticks)
    colours = BT_709 if height >= HD_LINES else _BT_601
    stream.codec_context.colorspace = colours.number
    stream.codec_context.color_range = _LIMITED_RANGE
    last_ticks, left_out_ticks = -1, 0

    def write(pixels: np.ndarray, time: float) -> None:
        nonlocal last_ticks, left_out_ticks
        if pixels.shape[:2] != (height, width):
            padding = [(0, max(height - len(pixels), 0)), (0, max(width - pixels.shape[1], 0))]
            pixels = np.pad(pixels, [*padding, (0, 0)], mode="edge")[:height, :width]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="bgr24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=colours.matrix)
        pause_ticks = round(time * ticks) - left_out_ticks - last_ticks
        if pause_ticks > _LONGEST_PAUSE:
            if not left_out_ticks:
                _log.warning(
                    "%s: the pause of %.1f hours before %.3f s is too long for an MP4 file: in "
                    "this clip, though in no other result, a pause lasts at most %.1f hours",
                    *(path, pause_ticks / ticks / 3600, time, _LONGEST_PAUSE / ticks / 3600),
                )
            left_out_ticks += pause_ticks - _LONGEST_PAUSE
        last_ticks += min(max(pause_ticks, 1), _LONGEST_PAUSE)
        frame.pts, frame.time_base = last_ticks, Fraction(1, ticks)
        container.mux(stream.encode(frame))

    try:
        yield write
        container.mux(stream.encode(None))
        container.close()
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise
        if isinstance(error, BlockingIOError | MemoryError):  # no threads are left, or no memory
            raise UserError(
                f"{path}: the video cannot be written ({error.strerror}): end other programs, or "
                "allow this one more memory and threads"
            ) from None
        raise UnreadableError(
            f"{path}: frames of {size[0]} x {size[1]} pixels, {fps:g} a second, cannot be "
            f"written as a video ({error.strerror})"
        ) from None
    file.flush()
    os.fsync(file.fileno())
