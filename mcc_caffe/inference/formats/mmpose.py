"""MMPose: the predictions that its inferencers write, a list of instances for each image.

A video's file is a list of {"frame_id", "instances"}. MMPose has no missing keypoints: all 21 have
their coordinates, and `keypoint_scores` says how sure they are.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_atomically
from mcc_caffe.inference.formats.base import (
    CONFIDENCE_DIGITS,
    COORDINATE_DIGITS,
    HandRecord,
    ImageRecord,
    ReadHand,
    ReadImage,
    ResultFormat,
)
from mcc_caffe.inference.formats.parsing import (
    as_box_ltrb,
    as_keypoints,
    as_name,
    as_numbers,
    frames_error,
)
from mcc_caffe.inference.reports import PROGRAM
from mcc_caffe.inference.result_paths import with_suffix


class MMPoseFormat(ResultFormat):
    """Writes RESULT.json for an image or a video."""

    def paths(self, result: Path, is_video: bool) -> list[Path]:
        """Return the file of an image or video."""
        return [with_suffix(result, ".json")]

    def describe(self, image: ImageRecord) -> str:
        """Return the list of an image's instances, or the object of a frame."""
        instances = [_instance(hand) for hand in image.hands]
        if image.frame is None:
            # The first instance has the mark of a result, and the image's name.
            first = [{"program": PROGRAM, "image": image.source, **each} for each in instances[:1]]
            return json.dumps(first + instances[1:])
        mark = {"program": PROGRAM, "video": image.source} if image.frame == 0 else {}
        return json.dumps({**mark, "frame_id": image.frame, "instances": instances})

    def document(self, text: str) -> str:
        """Return the content of an image's file."""
        return f"{text}\n"

    def write_video(self, result: Path, texts: Sequence[str]) -> None:
        """Write the file of a video, a frame in each line."""
        content = "[" + ",\n".join(texts) + "]\n"
        write_atomically(with_suffix(result, ".json"), content.encode())


def _instance(hand: HandRecord) -> dict[str, Any]:
    x, y, width, height = hand.box
    instance: dict[str, Any] = {
        "keypoints": hand.keypoints[:, :2].round(COORDINATE_DIGITS).tolist(),
        "keypoint_scores": hand.keypoints[:, 2].round(CONFIDENCE_DIGITS).tolist(),
        "bbox": [[x, y, x + width, y + height]],  # MMPose itself writes it in two brackets
        "bbox_score": round(hand.score, CONFIDENCE_DIGITS),
    }
    if hand.track_id is not None:
        instance["track_id"] = hand.track_id
    return instance


def read_mmpose(path: Path, instances: list[Any]) -> ReadImage:
    """Read the instances of an image.

    Raises:
        UserError: The content is not of this form, or is a video's.
    """
    hands, name = [], None
    for index, instance in enumerate(instances):
        if isinstance(instance, dict) and "frame_id" in instance:
            raise frames_error(path)
        try:
            scores = as_numbers(instance["keypoint_scores"])
            numbers = np.column_stack([as_numbers(instance["keypoints"]), scores])
            score = float(as_numbers(instance.get("bbox_score", float(scores.mean()))))
            box = as_box_ltrb(instance.get("bbox"))
            hands.append(ReadHand(as_keypoints(numbers), score, box_ltrb=box))
            name = name or as_name(instance.get("image") or "")
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: instance {index} is none of MMPose's ({type(error).__name__}: {error})"
            ) from None
    is_own = bool(instances) and instances[0].get("program") == PROGRAM
    return ReadImage(name or path.stem, bool(name), hands, is_own)
