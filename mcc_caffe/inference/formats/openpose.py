"""OpenPose: a JSON file of `people` for each image and frame, as its `--write_json` writes them.

Each hand is a person of its own, without a body. The network does not tell left from right:
therefore every hand stands in `hand_right_keypoints_2d`, and the person says `"hand_side":
"unknown"`. The order of the 21 keypoints is the same as ours; a missing one is 0, 0, 0.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcc_caffe.core.errors import UserError, cannot_write
from mcc_caffe.core.result_folders import folder_being_written, replace_folder
from mcc_caffe.inference.formats.base import (
    HandRecord,
    ImageRecord,
    ReadHand,
    ReadImage,
    ResultFormat,
)
from mcc_caffe.inference.formats.parsing import as_keypoints, as_numbers
from mcc_caffe.inference.reports import PROGRAM
from mcc_caffe.paper import KEYPOINT_COUNT

ENDING = "_keypoints"  # of the names of OpenPose's files
_VERSION = 1.3  # of OpenPose's files
_SIDES = ("hand_left_keypoints_2d", "hand_right_keypoints_2d")
_NO_HAND = [0] * (3 * KEYPOINT_COUNT)


class OpenPoseFormat(ResultFormat):
    """Writes RESULT_keypoints.json for an image, and a folder of such files for a video."""

    notice = (
        "every hand stands in hand_right_keypoints_2d: the network does not tell left from right"
    )

    def paths(self, result: Path, is_video: bool) -> list[Path]:
        """Return the file of an image, or the folder of a video."""
        name = result.name + ENDING
        return [result.with_name(name if is_video else f"{name}.json")]

    def describe(self, image: ImageRecord) -> str:
        """Return the content of the file of an image or frame."""
        content = {
            "program": PROGRAM,
            "image": image.source,
            "version": _VERSION,
            "people": [_person(hand) for hand in image.hands],
        }
        return json.dumps(content) + "\n"

    def write_video(self, result: Path, texts: Sequence[str]) -> None:
        """Write a folder with a file for each frame, numbered as OpenPose does."""
        files = {
            f"{result.name}_{frame:012d}{ENDING}.json": text.encode()
            for frame, text in enumerate(texts)
        }
        _write_folder(self.paths(result, True)[0], files)


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files; one that is there already is replaced, and a link to it stays.

    Args:
        folder: The folder, whose own folder exists.
        files: {name: content}.

    Raises:
        UserError: It cannot be written, or another process writes it.
    """
    try:
        with folder_being_written(folder) as partial:
            for name, content in files.items():
                (partial / name).write_bytes(content)
            replace_folder(partial, folder)
    except OSError as error:
        raise cannot_write(folder, error) from None


def _person(hand: HandRecord) -> dict[str, Any]:
    return {
        "person_id": [-1 if hand.track_id is None else hand.track_id],  # -1: not followed
        "pose_keypoints_2d": [],
        "face_keypoints_2d": [],
        "hand_left_keypoints_2d": _NO_HAND,
        "hand_right_keypoints_2d": hand.points_or_zeros(),
        "hand_side": "unknown",
    }


def read_openpose(path: Path, content: dict[str, Any]) -> ReadImage:
    """Read the hands of an OpenPose file, of both sides; a hand of zeros is none.

    Raises:
        UserError: The content is not of this form.
    """
    hands = []
    try:
        for person in content["people"]:
            for side in _SIDES:
                numbers = as_numbers(person.get(side) or _NO_HAND).reshape(-1, 3)
                if numbers.any():
                    score = float(numbers[:, 2].mean())
                    numbers[numbers[:, 2] == 0] = np.nan
                    hands.append(ReadHand(as_keypoints(numbers), score))
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: its people are not OpenPose's ({type(error).__name__}: {error})"
        ) from None
    name, is_own = content.get("image"), content.get("program") == PROGRAM
    if isinstance(name, str) and name:
        return ReadImage(name, True, hands, is_own)
    return ReadImage(path.stem.removesuffix(ENDING), False, hands, is_own)
