"""Reads video files and animated images frame by frame, and opens cameras.

PyAV reads videos: unlike OpenCV it tells when each frame is shown, and goes on after a damaged
frame. Pillow reads animated images, as FFmpeg has no animated WebP.
"""

import contextlib
import heapq
import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.reformatter import Colorspace

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.geometry import add_grey_borders
from mcc_caffe.core.images import (
    ImageError,
    max_megapixels,
    on_white,
    open_with_pillow,
    silence_opencv,
)
from mcc_caffe.core.start import MAX_MEGAPIXELS_VARIABLE
from mcc_caffe.inference.input_files import VIDEO_SUFFIXES, UnreadableError

_log = logging.getLogger(__name__)

_USUAL_FPS = 30.0  # assumed where the file does not say
_USUAL_PAUSE = 0.1  # seconds; what browsers make of an animation's frame that lasts under 20 ms
_SHORTEST_PAUSE = 0.02
HD_LINES = 720  # from which players take colours for those of BT.709 where a file does not say
_UNKNOWN_COLOURS = 2  # FFmpeg's number
_MOST_STRETCHED = 8  # times: a file that says that its pixels are wider is not believed
_LEAST_FRAME_BYTES = 16  # of a file, for a frame with its header
_MOST_DEMUX_ERRORS = 1000  # in a row, after which a file has ended
_NO_COUNT = 1 << 30  # frames that an AVI announces which FFmpeg has written to a pipe


class Colours(NamedTuple):
    """A matrix between the colours of pixels and those of videos, and FFmpeg's number for it."""

    matrix: Colorspace
    number: int


BT_709 = Colours(Colorspace.ITU709, 1)


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        time: When it is shown, in seconds from the start of the video.
        pixels: HxWx3 uint8 BGR, upright, in square pixels; None where it is damaged.
    """

    time: float
    pixels: np.ndarray | None


class VideoFile:
    """A video or an animated image to read.

    Attributes:
        path: The file.
        fps: Frames a second, on average; 30 where the file does not say.
        size: (width, height) of a frame in pixels, upright.
        announced: The number of frames that the file announces; 0 where it does not.
        announces_empty: Whether these are with empty frames, as in an AVI.
        empty_count: The number of empty frames between those that have been read; 0 but in an AVI.
            Those before the first frame and after the last one are not known.
        expected: About as many frames as the file shows, by what it announces and by its length; 0
            where it says neither, or is too small for as many as its length would hold.
        seconds: How long the video is; 0 where the file does not say.
    """

    def __init__(self, path: Path):
        """Open the file.

        Raises:
            UnreadableError: The file cannot be opened, has no frame that can be decoded, or has
                frames with more pixels than allowed.
        """
        _check_readable(path)
        self.path, self.fps = path, _USUAL_FPS
        self.announced, self.expected, self.seconds = 0, 0, 0.0
        self.announces_empty, self.empty_count = False, 0
        is_animation = path.suffix.lower() not in VIDEO_SUFFIXES
        self._frames = self._animation() if is_animation else self._video()
        self._first_frames: list[Frame] = []  # damaged ones, then the first that is not
        for frame in self._frames:
            self._first_frames.append(frame)
            if frame.pixels is not None:
                height, width = frame.pixels.shape[:2]
                self.size: tuple[int, int] = (width, height)
                return
        raise UnreadableError(
            f"{path}: not a readable video ({path.stat().st_size} bytes): damaged, empty, "
            "or of an unknown format"
        )

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in the order in which they are shown; they can be read once.

        Frames of another size than the first are fitted into it, with grey borders where they have
        another shape.
        """
        yield from self._first_frames
        is_warned = False
        for frame in self._frames:
            pixels = frame.pixels
            if pixels is not None and pixels.shape[1::-1] != self.size:
                if not is_warned:
                    _log.warning(
                        "%s: at %.3f s the size of the frames changes from %d x %d to %d x %d: "
                        "such frames are fitted into the first size, with grey borders",
                        *(self.path, frame.time, *self.size, *pixels.shape[1::-1]),
                    )
                    is_warned = True
                pixels = _fit(pixels, self.size)
            yield Frame(frame.time, pixels)

    def _video(self) -> Iterator[Frame]:
        av.logging.set_level(av.logging.PANIC)  # our own error says it
        # The file is opened here: FFmpeg would take "a:b.mp4" for an address, and open others that
        # a file names.
        with open(self.path, "rb") as file:
            try:
                container = av.open(
                    file, "r", metadata_errors="ignore", options={"protocol_whitelist": "file"}
                )
            except (av.FFmpegError, ValueError, OSError):
                return
            with container:
                moving = [stream for stream in container.streams.video if not _is_cover(stream)]
                for stream in moving[:1]:
                    if stream.codec_context:  # FFmpeg knows the codec
                        yield from self._decode(container, stream)

    def _decode(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[Frame]:
        """Yield the frames of a stream; a packet that cannot be decoded gives a damaged frame.

        Decoders give frames back later than they get packets, so that a damaged one waits until a
        frame that is shown after it comes.
        """
        _report_all_errors(stream.codec_context)
        self._read_counts(container, stream)
        self._check_size(stream.width, stream.height)
        times = _ShownTimes(container, stream, 1 / self.fps)
        damaged: list[float] = []  # the times of packets that could not be decoded
        last = -math.inf  # the time of the frame before
        last_number: int | None = None  # that of the first frame need not be 0
        for packet, frames in _decoded_packets(container, stream):
            # An AVI's times are the numbers of its frames, empty ones counted.
            if self.announces_empty and packet.dts is not None:
                if last_number is not None:
                    self.empty_count += max(packet.dts - last_number - 1, 0)
                last_number = packet.dts
            if frames is None:
                heapq.heappush(damaged, times.of_damaged(packet))
                continue
            times.expect_frame(packet)
            for frame in frames:
                time = times.of_frame(frame)
                while damaged and damaged[0] < time:
                    # Before the first frame after the file's times began again, it lacks a shift.
                    last = max(heapq.heappop(damaged), last)
                    yield Frame(last, None)
                last = time
                yield Frame(time, None if frame.is_corrupt else _upright_pixels(frame, stream))
        while damaged:
            last = max(heapq.heappop(damaged), last)
            yield Frame(last, None)

    def _read_counts(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        """Set what the file says of its length and of the rate and number of its frames."""
        rate = stream.average_rate or stream.guessed_rate
        self.fps = float(rate) if rate else _USUAL_FPS
        is_avi = self.announces_empty = container.format.name == "avi"
        self.announced = shown = 0 if stream.frames == _NO_COUNT else stream.frames
        if stream.duration and stream.time_base:  # of a trimmed video the file holds more frames
            shown = min(shown, round(stream.duration * stream.time_base * self.fps))
            # An AVI is never trimmed, and of a cut one FFmpeg makes the duration smaller.
            if not is_avi:
                self.announced = shown
        self.seconds = max((container.duration or 0) / av.time_base, 0.0)
        self.expected = shown or round(self.seconds * self.fps)
        if not shown and self.expected * _LEAST_FRAME_BYTES > self.path.stat().st_size:
            self.expected = 0  # it has long pauses

    def _check_size(self, width: int, height: int) -> None:
        """Raise an UnreadableError where the frames have too many pixels."""
        if width * height > max_megapixels() * 1e6:
            raise UnreadableError(
                f"{self.path}: frames of {width} x {height} pixels are more than "
                f"{max_megapixels():g} million: make it smaller, or set {MAX_MEGAPIXELS_VARIABLE}"
            )

    def _animation(self) -> Iterator[Frame]:
        """Yield the frames of an animated image, upright, on white where it is transparent."""
        try:
            image = open_with_pillow(self.path)
            # The image of an APNG for programs that show no animation may be no frame of it.
            first = int(getattr(image, "default_image", False))
            numbers = range(first, getattr(image, "n_frames", 1))
        except ImageError as error:
            raise UnreadableError(f"{self.path}: {error}") from None
        except Exception:  # damaged files make Pillow raise nearly anything
            return
        self.announced = self.expected = len(numbers)
        time = 0.0
        with image:
            self.fps = _average_rate(self.path, numbers)
            self.seconds = len(numbers) / self.fps
            for number in numbers:
                try:
                    image.seek(number)
                    rgba = PIL.ImageOps.exif_transpose(image.convert("RGBA"))
                    white = PIL.Image.new("RGBA", rgba.size, "white")
                    pixels = np.array(PIL.Image.alpha_composite(white, rgba).convert("RGB"))
                except Exception:
                    yield Frame(time, None)
                else:
                    yield Frame(time, np.ascontiguousarray(pixels[..., ::-1]))
                # Of a damaged frame Pillow knows the pause too, or else it still has the pause of
                # the frame before.
                time += _pause(image)


def _check_readable(path: Path) -> None:
    """Raise an UnreadableError where a file cannot be opened."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None


def _is_cover(stream: av.VideoStream) -> bool:
    """Tell whether a stream is the one image that players show as the cover of the file."""
    return bool(stream.disposition & Disposition.attached_pic)


def _report_all_errors(decoder: av.VideoCodecContext) -> None:
    """Set up a decoder so that it reports the damage that it finds, at the packet that has it.

    The threads of "FRAME" report an error at a later packet. Those of "SLICE" keep H.264's decoder
    from reporting any, and without them VP8's reports none. MJPEG's decoder needs to be told that
    errors count; others would then refuse frames that are sound.
    """
    decoder.thread_type = "NONE" if decoder.name == "h264" else "SLICE"
    if decoder.name == "mjpeg":
        decoder.options = {"err_detect": "explode"}


def _average_rate(path: Path, numbers: Sequence[int]) -> float:
    """Return the frames a second of an animated image, up to the first damaged frame.

    Some formats tell how long a frame lasts only when it has been decoded. The file is opened for
    it, as an animated PNG gives no frame at all after going back from a damaged one.
    """
    pauses = []
    # Damaged frames make Pillow raise nearly anything.
    with contextlib.suppress(Exception), open_with_pillow(path) as image:
        for number in numbers:
            image.seek(number)
            image.load()
            pauses.append(_pause(image))
    return len(pauses) / sum(pauses) if pauses else _USUAL_FPS


def _pause(image: PIL.Image.Image) -> float:
    """Return how long the present frame of an animated image lasts, in seconds."""
    pause = float(image.info.get("duration") or 0) / 1000
    return pause if pause >= _SHORTEST_PAUSE else _USUAL_PAUSE


def _find_start(container: av.container.InputContainer) -> Fraction:
    """Return when a file starts, in seconds: the exact start of the stream that it begins with.

    FFmpeg rounds the start to microseconds. Counted from there, the first frame's time may be
    below 0.
    """
    rounded = Fraction(container.start_time or 0, av.time_base)
    starts = [
        stream.start_time * stream.time_base
        for stream in container.streams
        if stream.start_time is not None and stream.time_base
    ]
    return min(starts, key=lambda start: abs(start - rounded), default=rounded)


class _ShownTimes:
    """Says when the frames of a stream are shown, in seconds from the start; the times never fall.

    AVI stores no times: FFmpeg gives packets the times of their order in the file, and the decoder
    hands them on to the frames. Where frames are shown in another order (B-frames), the n-th frame
    gets the n-th smallest time of the packets instead.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        period: float,
    ):
        """Begin at the start of the video.

        Args:
            container: The open file.
            stream: Its video.
            period: Seconds between two frames, where the file does not say.
        """
        self._clock = stream.time_base or Fraction(1, av.time_base)
        self._period, self._is_avi = period, container.format.name == "avi"
        # AVI's times begin late where there are B-frames: there the first packet is the start.
        self._start = None if self._is_avi else _find_start(container)
        self._waiting: list[float] = []  # an AVI's packets whose frames are still to come, a heap
        self._most_waiting = 0  # as many as the decoder takes before it gives the first frame
        self._last, self._next = -math.inf, 0.0
        self._shift = 0.0  # from the file's times to ours, after those of the file began again

    def of_damaged(self, packet: av.Packet) -> float:
        """Return when the frame of a packet that cannot be decoded would be shown."""
        return self._file_time(packet) + self._shift

    def _file_time(self, packet: av.Packet) -> float:
        """Return the time of a packet in the file. Packets come in the order of the file."""
        ticks = packet.dts if packet.pts is None else packet.pts
        if ticks is None:
            return self._next - self._shift
        if self._start is None:
            self._start = ticks * self._clock
        return float(ticks * self._clock - self._start)

    def expect_frame(self, packet: av.Packet) -> None:
        """Note a packet that the decoder took; the last one of all is empty."""
        if self._is_avi and packet.size:
            heapq.heappush(self._waiting, self._file_time(packet))

    def of_frame(self, frame: av.VideoFrame) -> float:
        """Return when a frame is shown. Frames come in the order in which they are shown."""
        if self._waiting:
            self._most_waiting = self._most_waiting or len(self._waiting)
            while len(self._waiting) > self._most_waiting:  # a packet has given no frame
                heapq.heappop(self._waiting)
            time = heapq.heappop(self._waiting)
        elif frame.pts is None or frame.time_base is None:
            time = self._next - self._shift
        else:
            time = float(frame.pts * frame.time_base - (self._start or 0))
        time += self._shift
        if time < self._last:  # the times of the file begin again
            self._shift += self._next - time
            time = self._next
        self._last, self._next = time, time + self._period
        return time


def _decoded_packets(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[tuple[av.Packet, list[av.VideoFrame] | None]]:
    """Yield each packet of a stream with the frames that the decoder then gives back.

    The frames are None where the packet cannot be decoded.
    """
    packets, errors = container.demux(stream), 0
    while errors < _MOST_DEMUX_ERRORS:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.FFmpegError, OSError):
            packets, errors = container.demux(stream), errors + 1
            continue
        errors = 0
        try:
            frames = packet.decode()
        except (av.FFmpegError, OSError):
            if packet.size:
                yield packet, None
            continue
        yield packet, [frame for frame in frames if isinstance(frame, av.VideoFrame)]


def _upright_pixels(frame: av.VideoFrame, stream: av.VideoStream) -> np.ndarray:
    """Return a frame as one sees it: on white, stretched to square pixels, turned and mirrored."""
    if frame.colorspace == _UNKNOWN_COLOURS and frame.height >= HD_LINES:
        frame.colorspace = BT_709.number
    if any(component.is_alpha for component in frame.format.components):
        pixels = on_white(frame.to_ndarray(format="bgra"))
    else:
        pixels = frame.to_ndarray(format="bgr24")
    ratio = stream.sample_aspect_ratio
    if ratio and ratio != 1:
        height, width = pixels.shape[:2]
        size = (min(max(round(width * ratio), 1), _MOST_STRETCHED * width), height)
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    # Made here, as frame.side_data and the frame would hold each other: the frame, with the threads
    # that convert its colours, would stay until Python looks for such circles.
    side_data = SideDataContainer(frame)  # type: ignore[call-arg]  # the stubs lack the argument
    matrix = side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is not None:
        # x' = a x + c y, y' = b x + d y, of which a camera's turn leaves two that are not 0.
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        if abs(b) > abs(a):
            pixels, a, d = pixels.swapaxes(0, 1), c, b
        pixels = pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(pixels)


def _fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a frame in the middle of a grey one of the size (width, height), in its own shape."""
    (height, width), (new_width, new_height) = pixels.shape[:2], size
    factor = min(new_width / width, new_height / height)
    fitted_size = (max(round(width * factor), 1), max(round(height * factor), 1))
    return add_grey_borders(cv2.resize(pixels, fitted_size, interpolation=cv2.INTER_AREA), size)


def open_camera(number: int) -> cv2.VideoCapture:
    """Open a camera, after making sure that there is a display to show its frames on.

    Args:
        number: 0 for the first camera.

    Raises:
        UserError: No window can be opened, or the camera gives no frame.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # the UserError says it
    silence_opencv()
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
            f"camera {number} gives no frame: is it connected (ls /dev/video*), and free?"
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # so that no old frame is shown
    return capture
