"""The JSON files that `mcc_caffe.infer` writes."""

import json
from collections.abc import Sequence
from typing import Any, TypedDict

from mcc_caffe.core.hand import NAMES


class KeypointReport(TypedDict):
    """A keypoint in an image's JSON file; x, y in image pixels."""

    name: str
    x: float
    y: float
    confidence: float


class ImageReport(TypedDict):
    """The JSON file of an image.

    width, height: of the image in pixels. weights: as `weights.describe` returns them. engine: its
    name. levels: of the pyramid. keypoints: 21, null where one is missing. mask_box: x, y, width,
    height in pixels, null where the mask is empty. seconds: as HandPose.timings.
    """

    image: str
    width: int
    height: int
    weights: dict[str, Any]
    engine: str
    levels: int
    keypoints: list[KeypointReport | None]
    mask_box: dict[str, int] | None
    seconds: dict[str, float]


class VideoReport(TypedDict):
    """The head of a video's JSON file: what holds for all frames.

    width, height: a frame's sides in pixels. fps: frames a second. weights, engine: as in an
    ImageReport. levels: the most pyramid levels that were looked at. seconds: the time that the
    video took.
    """

    video: str
    width: int
    height: int
    fps: float
    weights: dict[str, Any]
    engine: str
    levels: int | None
    seconds: float


def frame_line(frame_report: ImageReport) -> str:
    """Return a frame's line of a video's JSON file.

    Returns:
        A JSON object: "keypoints", each [x, y, confidence] or null, and "mask_box",
        [x, y, width, height] or null.
    """
    keypoints = [
        point and [point["x"], point["y"], point["confidence"]]
        for point in frame_report["keypoints"]
    ]
    box = frame_report["mask_box"] and list(frame_report["mask_box"].values())
    return json.dumps({"keypoints": keypoints, "mask_box": box}, separators=(",", ":"))


def video_json(video_report: VideoReport, frame_lines: Sequence[str]) -> bytes:
    """Return the content of a video's JSON file.

    Args:
        video_report: what holds for all frames.
        frame_lines: a `frame_line` for every frame.

    Returns:
        A JSON object: the entries of `video_report`, then "names" of the keypoints and "frames",
        one a line.
    """
    start = json.dumps({**video_report, "names": NAMES})[:-1]
    return (start + ', "frames": [\n' + ",\n".join(frame_lines) + "\n]}\n").encode()
