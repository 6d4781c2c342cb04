"""What is reported of poses: our own JSON of an image, and what the other formats get."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mcc_caffe.core.hand import NAMES
from mcc_caffe.inference.formats.base import HandRecord, ImageRecord
from mcc_caffe.inference.hand_pose import Box, HandPose
from mcc_caffe.inference.reports import (
    PROGRAM,
    CommonReport,
    HandReport,
    HandsReport,
    KeypointReport,
    OneHandReport,
)


class NetworkInfo(NamedTuple):
    """What a report says of the network that looked.

    Attributes:
        weights: As `weights.describe` returns them.
        engine: What reports call the engine.
    """

    weights: dict[str, Any]
    engine: str


def image_report(
    hands: Sequence[HandPose],
    source: str,
    image_size: tuple[int, int],
    network: NetworkInfo,
    *,
    one_hand: bool,
) -> OneHandReport | HandsReport:
    """Return our JSON of an image.

    Args:
        hands: The poses, with keypoints.
        source: The image's path.
        image_size: (W, H) in pixels.
        network: What looked.
        one_hand: Whether one hand was looked for, whose pose is the only one.
    """
    common: CommonReport = {
        "program": PROGRAM,
        "image": source,
        "width": image_size[0],
        "height": image_size[1],
        "weights": network.weights,
        "engine": network.engine,
    }
    if not one_hand:
        return {**common, "hands": [_hand_report(hand) for hand in hands]}
    (pose,) = hands
    # Commands refuse nets without a pose stage.
    assert pose.score is not None and pose.hand_present is not None
    box, mask_box = shown_boxes(pose)
    return {
        **common,
        "method": pose.method,
        "levels": pose.levels,
        "looks": pose.looks,
        "score": round(pose.score, 4),
        "hand_present": pose.hand_present,
        "box": None if box is None else box._asdict(),
        "keypoints": keypoint_reports(pose),
        "mask_box": None if mask_box is None else mask_box._asdict(),
        "seconds": {name: round(seconds, 4) for name, seconds in pose.timings.items()},
    }


def _hand_report(hand: HandPose) -> HandReport:
    box, mask_box = hand.box, hand.mask_box()
    assert hand.score is not None and box is not None
    return {
        "score": round(hand.score, 4),
        "box": box._asdict(),
        "keypoints": keypoint_reports(hand),
        "mask_box": None if mask_box is None else mask_box._asdict(),
    }


def shown_boxes(pose: HandPose) -> tuple[Box | None, Box | None]:
    """Return the boxes of the hand and of its mask; None where no hand is present."""
    return (pose.box, pose.mask_box()) if pose.hand_present else (None, None)


def keypoint_reports(pose: HandPose) -> list[KeypointReport | None]:
    """Return the 21 keypoints of a pose, None where one is missing."""
    assert pose.keypoints is not None and pose.present is not None
    return [
        {
            "name": name,
            "x": round(x, 2),
            "y": round(y, 2),
            "confidence": round(confidence, 4),
        }
        if is_present
        else None
        for name, (x, y, confidence), is_present in zip(
            NAMES, pose.keypoints.tolist(), pose.present.tolist()
        )
    ]


def hand_records(
    hands: Iterable[tuple[int | None, HandPose]], *, one_hand: bool
) -> list[HandRecord]:
    """Return what the formats beside our own get of the hands of an image or frame.

    Where one hand was looked for, it is left out if none of its keypoints is present. A threshold
    below 0 asks for every keypoint of every image. Then all are present, and the pose is listed
    whether or not it is a hand.

    Args:
        hands: The number by which a video's hand is followed, else None, and the pose of each hand,
            with keypoints.
        one_hand: Whether one hand was looked for.
    """
    records = [_hand_record(pose, track_id) for track_id, pose in hands]
    return [record for record in records if not one_hand or record.present.any()]


def image_record(
    hands: Iterable[HandPose], source: str, image_size: tuple[int, int], *, one_hand: bool
) -> ImageRecord:
    """Return what the formats beside our own get of an image; see `hand_records`."""
    records = hand_records([(None, pose) for pose in hands], one_hand=one_hand)
    return ImageRecord(source, *image_size, records)


def _hand_record(pose: HandPose, track_id: int | None) -> HandRecord:
    keypoints, present, box = pose.keypoints, pose.present, pose.box
    assert keypoints is not None and present is not None and box is not None
    assert pose.score is not None
    return HandRecord(
        keypoints=keypoints,
        present=present,
        score=pose.score,
        box=box,
        mask=pose.hand_pixels,
        track_id=track_id,
    )
