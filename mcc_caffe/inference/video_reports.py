"""The JSON file of a video: what holds for all frames, then a line for each frame."""

import json
from collections.abc import Sequence
from typing import Any, TypedDict

from mcc_caffe.core.hand import NAMES
from mcc_caffe.inference.hand_pose import Box, HandPose
from mcc_caffe.inference.pose_reports import keypoint_reports, shown_boxes
from mcc_caffe.inference.reports import TIME_DIGITS

DAMAGED_FRAME_LINE = "null"


class VideoReport(TypedDict):
    """The head of a video's JSON file: what holds for all frames.

    Attributes:
        program: reports.PROGRAM, see there.
        video: The video's path.
        width: A frame's width in pixels.
        height: Its height in pixels.
        fps: Frames a second.
        weights: As in a report of an image.
        engine: As in a report of an image.
        method: reports.TRACKING, or how each frame was looked at by itself.
        levels: The most pyramid levels of a frame, null where none were asked for.
        looks: How many looks each frame got, null where none were asked for.
        smoothing: The parameters of the One-Euro filter that smoothed the keypoints, null where
            none did.
        seconds: The time that the video took.
    """

    program: str
    video: str
    width: int
    height: int
    fps: float
    weights: dict[str, Any]
    engine: str
    method: str
    levels: int | str | None
    looks: int | None
    smoothing: dict[str, float] | None
    seconds: float


def one_hand_line(time: float, pose: HandPose, track_id: int | None) -> str:
    """Return a frame's line where one hand was looked for.

    Args:
        time: When the frame is shown, in seconds from the start of the video.
        pose: The hand's pose, with keypoints.
        track_id: The number by which the hand is followed; None where none is.

    Returns:
        A JSON object: "time", "hand_present", "id", "score", "box", [x, y, width, height] or null,
        "keypoints", each [x, y, confidence] or null, and "mask_box", as "box".
    """
    start = {"time": round(time, TIME_DIGITS), "hand_present": pose.hand_present}
    return _line({**start, **_entries(pose, track_id, *shown_boxes(pose))})


def all_hands_line(time: float, hands: Sequence[tuple[int | None, HandPose]]) -> str:
    """Return a frame's line where every hand was looked for.

    Args:
        time: When the frame is shown, in seconds from the start of the video.
        hands: The number and the pose of each hand.

    Returns:
        A JSON object: "time" and "hands", each with the entries of `one_hand_line` except for
        "time" and "hand_present".
    """
    entries = [_entries(pose, track_id, pose.box, pose.mask_box()) for track_id, pose in hands]
    return _line({"time": round(time, TIME_DIGITS), "hands": entries})


def _entries(
    pose: HandPose, track_id: int | None, box: Box | None, mask_box: Box | None
) -> dict[str, Any]:
    """Return what the JSON says of a hand."""
    assert pose.score is not None  # infer refuses nets without a pose stage
    return {
        "id": track_id,
        "score": round(pose.score, 4),
        "box": box,
        "keypoints": [
            None if point is None else [point["x"], point["y"], point["confidence"]]
            for point in keypoint_reports(pose)
        ],
        "mask_box": mask_box,
    }


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"))


def video_json(video_report: VideoReport, frame_lines: Sequence[str]) -> bytes:
    """Return the content of a video's JSON file.

    Args:
        video_report: What holds for all frames.
        frame_lines: A line for every frame, DAMAGED_FRAME_LINE where it is damaged.

    Returns:
        A JSON object: the entries of `video_report`, then "names" of the keypoints and "frames",
        one a line.
    """
    start = json.dumps({**video_report, "names": NAMES})[:-1]
    return (start + ', "frames": [\n' + ",\n".join(frame_lines) + "\n]}\n").encode()
