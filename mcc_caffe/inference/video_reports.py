"""The JSON file of a video: what holds for all frames, then a line for each frame."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np

from mcc_caffe.core.hand import NAMES

DAMAGED_FRAME_LINE = "null"


class FrameHand(NamedTuple):
    """A hand in a frame.

    Attributes:
        id: the number by which it is followed; None where nothing is surely a hand.
        score: the mean confidence of the 21 keypoints.
        box: x, y, width, height in pixels, around the keypoints.
        keypoints: (21, 3) of x, y in pixels and confidence.
        present: (21,) bool.
        mask_box: x, y, width, height in pixels; None where the mask is empty.
    """

    id: int | None
    score: float
    box: Sequence[int]
    keypoints: np.ndarray
    present: np.ndarray
    mask_box: Sequence[int] | None

    def entries(self) -> dict[str, Any]:
        """Return what the JSON says of the hand, except for its box."""
        rounded = [
            [round(x, 2), round(y, 2), round(confidence, 4)]
            for x, y, confidence in self.keypoints.tolist()
        ]
        return {
            "id": self.id,
            "score": round(self.score, 4),
            "keypoints": [
                point if is_present else None
                for point, is_present in zip(rounded, self.present.tolist())
            ],
            "mask_box": None if self.mask_box is None else list(self.mask_box),
        }


class VideoReport(TypedDict):
    """The head of a video's JSON file: what holds for all frames.

    program: reports.PROGRAM, see there.
    width, height: a frame's sides in pixels. fps: frames a second. weights, engine: as in an
    ImageReport. levels: the most pyramid levels of a look. smoothing: the parameters of the
    One-Euro filter that smoothed the keypoints, null where none did. seconds: the time that the
    video took.
    """

    program: str
    video: str
    width: int
    height: int
    fps: float
    weights: dict[str, Any]
    engine: str
    levels: int | None
    smoothing: dict[str, float] | None
    seconds: float


def one_hand_line(time: float, hand: FrameHand) -> str:
    """Return a frame's line where one hand was looked for.

    Args:
        time: when the frame is shown, in seconds from the start of the video.
        hand: the hand.

    Returns:
        A JSON object: "time", "id", "score", "keypoints", each [x, y, confidence] or null, and
        "mask_box", [x, y, width, height] or null.
    """
    return _line({"time": round(time, 6), **hand.entries()})


def all_hands_line(time: float, hands: Sequence[FrameHand]) -> str:
    """Return a frame's line where every hand was looked for.

    Args:
        time: when the frame is shown, in seconds from the start of the video.
        hands: the hands, by their ids.

    Returns:
        A JSON object: "time" and "hands", each with "box", [x, y, width, height], and the entries
        of `one_hand_line` except for "time".
    """
    entries = [{"box": list(hand.box), **hand.entries()} for hand in hands]
    return _line({"time": round(time, 6), "hands": entries})


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"))


def video_json(video_report: VideoReport, frame_lines: Sequence[str]) -> bytes:
    """Return the content of a video's JSON file.

    Args:
        video_report: what holds for all frames.
        frame_lines: a line for every frame, DAMAGED_FRAME_LINE where it is damaged.

    Returns:
        A JSON object: the entries of `video_report`, then "names" of the keypoints and "frames",
        one a line.
    """
    start = json.dumps({**video_report, "names": NAMES})[:-1]
    return (start + ', "frames": [\n' + ",\n".join(frame_lines) + "\n]}\n").encode()
