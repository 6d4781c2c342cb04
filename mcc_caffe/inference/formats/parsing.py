"""Parses and checks what the readers of all formats share: names, numbers, boxes, keypoints."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcc_caffe.core import keypoint_labels
from mcc_caffe.core.errors import UserError
from mcc_caffe.paper import KEYPOINT_COUNT

_log = logging.getLogger(__name__)


def as_name(value: Any) -> str:
    """Return the name that a file gives an image; ValueError where it is no text."""
    if not isinstance(value, str):
        raise ValueError(f"the name of an image is {ascii(value)[:60]}, no text")
    return value


def as_numbers(values: Any) -> np.ndarray:
    """Return a JSON value, a number or nested lists of them, as float64; null becomes NaN.

    Raises:
        ValueError: There is something else in it, such as a text or a truth value.
        OverflowError: A number is too large.
    """
    numbers = np.array(values, object)
    for number in numbers.ravel():  # `flat` goes through 32 dimensions at most
        if number is not None and type(number) not in (int, float):
            raise ValueError(f"{ascii(number)[:60]} is no number")
    return numbers.astype(np.float64)


def as_box_ltrb(corners: Any) -> np.ndarray | None:
    """Return a JSON value of left, top, right, bottom as (4,) float64; None where it is empty.

    Raises:
        ValueError: They are no four finite numbers, from left to right and top to bottom.
        OverflowError: A number is too large.
    """
    if not corners:
        return None
    box = as_numbers(corners).ravel()  # MMPose itself writes it in two brackets
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < box[:2]).any():
        raise ValueError(f"{ascii(corners)[:60]} is no box")
    return box


def box_of_sides(sides: Any) -> np.ndarray | None:
    """Return a JSON value of x, y, width, height as `as_box_ltrb` returns a box."""
    if not sides:
        return None
    numbers = as_numbers(sides)
    if numbers.shape != (4,):
        raise ValueError(f"{ascii(sides)[:60]} is no box")
    return as_box_ltrb([*numbers[:2].tolist(), *(numbers[:2] + numbers[2:]).tolist()])


def frames_error(path: Path) -> UserError:
    """Make the error that says that a file has the frames of a video."""
    return UserError(f"{path} has the frames of a video: evaluation takes those of images")


def check_pixels(source: Path, hands: Iterable[tuple[str, np.ndarray]]) -> None:
    """Check that a file's keypoints are pixels; see `_judge_shares`.

    A hand whose keypoints fall on one or two points of the image's corner may be a wrong answer in
    pixels. It counts as shares only where all keypoints of the file are.

    Args:
        source: The file, or the folder of files.
        hands: Of each hand the name of its image and (21, 3) keypoints, NaN where one is missing.

    Raises:
        UserError: All keypoints lie at 0, 0, or all are shares, or at least half of the hands are.
    """
    xy_of_hands = [
        (name, points[~np.isnan(points[:, :2]).any(axis=1), :2]) for name, points in hands
    ]
    all_xy = np.concatenate([np.empty((0, 2)), *(xy for _, xy in xy_of_hands)])
    if len(all_xy) > 1 and not all_xy.any():
        raise UserError(
            f"{source}: all keypoints lie at 0, 0, so nothing is predicted: write a missing "
            "keypoint as null (in a table, without x and y)"
        )
    limit = keypoint_labels.LARGEST_SHARE
    if len(all_xy) > 1 and keypoint_labels.are_shares(all_xy, limit):
        raise UserError(f"{source}: {keypoint_labels.describe_shares('all keypoints', limit)}")
    verdicts = [
        (name, keypoint_labels.are_shares(xy) and len(np.unique(xy, axis=0)) > 2)
        for name, xy in xy_of_hands
    ]
    _judge_shares(source, "keypoints", "hands", verdicts)


def check_box_pixels(source: Path, boxes: Iterable[tuple[str, np.ndarray]]) -> None:
    """Check that a file's boxes are pixels; see `_judge_shares`.

    Args:
        source: The file, or the folder of files.
        boxes: Of each box the name of its image and (4,) of left, top, right, bottom.

    Raises:
        UserError: At least half of the boxes are shares.
    """
    verdicts = [(name, keypoint_labels.are_shares(box_ltrb)) for name, box_ltrb in boxes]
    _judge_shares(source, "corners", "boxes", verdicts)


def _judge_shares(
    source: Path, points_name: str, items_name: str, verdicts: Sequence[tuple[str, bool]]
) -> None:
    """Refuse a file of shares of the images' sides, or warn of those in a file of pixels.

    A hand of a file of pixels may lie in the left top corner of its image, or its image may have
    few pixels. Where fewer than half are shares, they are therefore taken as pixels.

    Args:
        source: The file, or the folder of files.
        points_name: What the points of one are called in messages: "keypoints" or "corners".
        items_name: What is judged: "hands" or "boxes".
        verdicts: Of each hand or box the name of its image, and whether it looks like shares.

    Raises:
        UserError: At least half of them do.
    """
    names = [name for name, is_share in verdicts if is_share]
    if not names:
        return
    message = keypoint_labels.describe_shares(
        f"all {points_name} of {len(names)} of {len(verdicts)} {items_name} "
        f"(first in image {names[0]!r})"
    )
    if 2 * len(names) >= len(verdicts):
        raise UserError(f"{source}: {message}")
    _log.warning("%s: %s (they were taken as pixels)", source, message)


def as_keypoints(numbers: np.ndarray) -> np.ndarray:
    """Return the numbers as keypoints.

    Args:
        numbers: (21, 3) of x, y, confidence, NaN where a keypoint is missing.

    Raises:
        ValueError: They are of another shape, or not finite.
    """
    if numbers.shape != (KEYPOINT_COUNT, 3):
        raise ValueError(f"the keypoints are of shape {numbers.shape}, not ({KEYPOINT_COUNT}, 3)")
    missing = np.isnan(numbers).all(axis=1)
    if not np.isfinite(numbers[~missing]).all():
        raise ValueError("a keypoint is not finite")
    return numbers.astype(np.float64)
