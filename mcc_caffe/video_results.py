"""Follows the hands of a video or camera for `mcc_caffe.infer`, and draws and writes them."""

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.drawing import draw_number, draw_over
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import atomic_write, write_atomically
from mcc_caffe.hand_tracker import HandTracker, TrackedHand
from mcc_caffe.inference.engines.base import title_of
from mcc_caffe.inference.formats.base import ImageRecord, ResultFormat
from mcc_caffe.inference.jobs import Job
from mcc_caffe.inference.overlapped_map import overlapped_map
from mcc_caffe.inference.pose_reports import hand_records
from mcc_caffe.inference.reports import PROGRAM, PYRAMID, SEVERAL_LOOKS, SINGLE_PASS, TRACKING
from mcc_caffe.inference.result_paths import with_suffix
from mcc_caffe.inference.video_reports import (
    DAMAGED_FRAME_LINE,
    VideoReport,
    all_hands_line,
    one_hand_line,
    video_json,
)
from mcc_caffe.paper import GREY
from mcc_caffe.predictor import HandPredictor

if TYPE_CHECKING:  # it imports PyAV, which is slow to import, and images do without
    from mcc_caffe.inference.video_reading import Frame, VideoFile

_KEYS_THAT_END = (ord("q"), 27)  # 27: Escape


@dataclass(frozen=True)
class TrackerOptions:
    """How the user asked for the hands of videos and cameras.

    Attributes:
        predictor: Finds the hands.
        one_hand: Whether to look for the one large hand, not for every hand.
        smooth: Whether to smooth the keypoints.
    """

    predictor: HandPredictor
    one_hand: bool = True
    smooth: bool = True

    @property
    def every_frame(self) -> bool:
        """Whether to look at all of every frame, with the levels or looks that the user gave."""
        return bool(self.predictor.levels or self.predictor.looks)

    @property
    def method(self) -> str:
        """How each frame is looked at, as reports say it."""
        levels, looks = self.predictor.levels, self.predictor.looks
        if not self.every_frame:
            return TRACKING
        if 1 in (levels, looks):
            return SINGLE_PASS
        return SEVERAL_LOOKS if looks else PYRAMID

    def open_tracker(self) -> HandTracker:
        """Return a tracker for the next video."""
        return HandTracker(
            self.predictor,
            one_hand=self.one_hand,
            every_frame=self.every_frame,
            smooth=self.smooth,
        )


def write_video(
    options: TrackerOptions,
    job: Job,
    *,
    progress: bool,
    drawings: bool = True,
    result_format: ResultFormat | None = None,
) -> str:
    """Write RESULT.json of a video and, if asked for, RESULT.mp4: all or none.

    Args:
        options: How its hands are found.
        job: The video, and RESULT, the path of its results without suffix.
        progress: Whether to show the progress.
        drawings: Whether to write RESULT.mp4.
        result_format: The format that takes the place of RESULT.json; None for our JSON.

    Returns:
        What was written, as text: the number of frames, those that are missing, and the speed.

    Raises:
        UnreadableError: The file has no frame that can be decoded, or its frames are too large for
            the clip.
    """
    # Here, as PyAV imports slowly:
    from mcc_caffe.inference.video_reading import VideoFile
    from mcc_caffe.inference.video_writing import check_clip_size, video_encoder

    video, start, tracker = VideoFile(job.source), time.perf_counter(), options.open_tracker()
    if drawings:
        check_clip_size(video)
    job.make_folder(result_format, drawings=drawings, heatmaps=False)
    clip = with_suffix(job.result, ".mp4")
    with atomic_write(clip) if drawings else nullcontext((None, None)) as (_, file):
        with (
            video_encoder(clip, file, video.fps, video.size, seconds=video.seconds)
            if file
            else nullcontext()
        ) as add_frame:
            frames = _FollowedFrames(video, tracker, add_frame, result_format)
            frame_lines = frames.describe(progress=progress)
        seconds = time.perf_counter() - start
        # The clip is complete: where this fails, the clip before it stays, too.
        if result_format:
            result_format.write_video(job.result, frame_lines)
        else:
            video_report = _video_report(options, tracker, video, seconds)
            write_atomically(
                with_suffix(job.result, ".json"), video_json(video_report, frame_lines)
            )
    missing = ""
    if len(frame_lines) + video.empty_count < video.announced:
        missing = f" of the {video.announced} that the file announces"
        if video.announces_empty:
            missing += " (an AVI counts empty ones, too)"
    if frames.damaged_count:
        without = "without hands" if result_format else "null in the JSON"
        missing += f", {frames.damaged_count} of them damaged ({without})"
    count = len(frame_lines)
    frames_text = f"{count} frame{'' if count == 1 else 's'}"
    return f"{frames_text}{missing}, {count / seconds:.1f} a second"


def _video_report(
    options: TrackerOptions, tracker: HandTracker, video: "VideoFile", seconds: float
) -> VideoReport:
    """Return the head of a video's JSON file.

    Args:
        options: How its hands are found.
        tracker: What followed them.
        video: The video.
        seconds: The time that it took.
    """
    predictor = options.predictor
    return {
        "program": PROGRAM,
        "video": str(video.path),
        "width": video.size[0],
        "height": video.size[1],
        "fps": round(video.fps, 4),
        "weights": predictor.weights_info,
        "engine": title_of(predictor.engine),
        "method": options.method,
        "levels": predictor.levels,
        "looks": predictor.looks,
        "smoothing": None if tracker.smoothing is None else tracker.smoothing._asdict(),
        "seconds": round(seconds, 2),
    }


class _FollowedFrames:
    """Follows the hands through the frames of a video, describes each frame and may draw it.

    Attributes:
        damaged_count: The number of damaged frames so far.
    """

    def __init__(
        self,
        video: "VideoFile",
        tracker: HandTracker,
        add_frame: Callable[[np.ndarray, float], None] | None,
        result_format: ResultFormat | None,
    ):
        """Begin with the first frame.

        Args:
            video: The video.
            tracker: Follows its hands.
            add_frame: Takes each drawn frame, HxWx3 uint8 BGR, and the second at which it is shown;
                None to draw none.
            result_format: Describes each frame; None for our JSON.
        """
        self.damaged_count = 0
        self._video, self._tracker = video, tracker
        self._add_frame, self._format = add_frame, result_format
        self._numbers = itertools.count()
        # Grey, where the first frames are damaged.
        self._last_pixels = np.full((*video.size[::-1], 3), GREY, np.uint8)

    def describe(self, *, progress: bool) -> list[str]:
        """Return the description of each frame, and draw all if asked for.

        The next frame is passed through the net while the one before it is drawn.

        Args:
            progress: Whether to show the progress.
        """
        video = self._video
        with closing(overlapped_map(video.frames(), self._follow, self._write)) as lines:
            return list(
                progress_bar(
                    lines,
                    total=video.expected or None,
                    unit="frame",
                    desc=video.path.name,
                    disable=not progress,
                )
            )

    def _follow(self, frame: "Frame") -> tuple["Frame", list[TrackedHand]]:
        if frame.pixels is None:
            return frame, []
        return frame, self._tracker.follow(frame.pixels, frame.time)

    def _write(self, frame_and_hands: tuple["Frame", list[TrackedHand]]) -> str:
        frame, hands = frame_and_hands
        number = next(self._numbers)
        if frame.pixels is None:
            self.damaged_count += 1
        else:
            self._last_pixels = frame.pixels
        if self._add_frame:
            self._add_frame(draw_hands(self._last_pixels, hands), frame.time)
        poses = [(hand.id, hand.pose) for hand in hands]
        if self._format:
            records = hand_records(poses, one_hand=self._tracker.one_hand)
            path, size = str(self._video.path), self._video.size
            return self._format.describe(ImageRecord(path, *size, records, number, frame.time))
        if frame.pixels is None:
            return DAMAGED_FRAME_LINE
        if not self._tracker.one_hand:
            return all_hands_line(frame.time, poses)
        (hand,) = hands
        return one_hand_line(frame.time, hand.pose, hand.id)


def draw_hands(image: np.ndarray, hands: Sequence[TrackedHand]) -> np.ndarray:
    """Draw mask, skeleton and number of the hands over a frame.

    Args:
        image: HxWx3 BGR uint8.
        hands: The hands of the frame.

    Returns:
        The drawing, a new image; the frame itself if it has no hand.
    """
    drawn = image
    for hand in hands:
        # Not HandPose.draw: the mask stays cached for the frame's mask_box.
        drawn = draw_over(drawn, hand.pose)
    for hand in hands:
        if hand.id is not None and hand.pose.box is not None:
            drawn = draw_number(drawn, hand.id, hand.pose.box[:2])
    return drawn


def show_camera(options: TrackerOptions, number: int) -> None:
    """Show what a camera sees, with mask and skeleton, until q, Escape or the window's end.

    Args:
        options: How the hands are found.
        number: The camera's number, 0 for the first.
    """
    from mcc_caffe.inference.video_reading import open_camera  # here, as PyAV is slow to import

    capture, tracker = open_camera(number), options.open_tracker()
    title = f"camera {number}: q ends"
    cv2.namedWindow(title, cv2.WINDOW_NORMAL)
    last_shown = time.perf_counter()
    while (
        cv2.waitKey(1) not in _KEYS_THAT_END
        and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) > 0
    ):
        received, frame = capture.read()
        received_at = time.perf_counter()
        if not received:
            raise UserError(f"camera {number} gives no more frames: was it unplugged?")
        drawn = draw_hands(frame, tracker.follow(frame, received_at))
        now = time.perf_counter()
        cv2.putText(
            drawn,
            f"{1 / (now - last_shown):.0f} fps",
            (8, 24),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.7,
            (255, 255, 255),
            2,
            cv2.LINE_AA,
        )
        last_shown = now
        cv2.imshow(title, drawn)
