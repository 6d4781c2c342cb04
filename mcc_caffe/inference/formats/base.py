"""The hands of an image as every format gets them, and what a format has to offer."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.core import keypoint_labels
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_together
from mcc_caffe.paper import KEYPOINT_COUNT

_log = logging.getLogger(__name__)

# OpenCV and OneHand10K count the centres of pixels as integers; every format gets them so.
COORDINATE_DIGITS = 2
CONFIDENCE_DIGITS = 4


class HandRecord(NamedTuple):
    """A hand to write.

    Attributes:
        keypoints: (21, 3) of x, y in pixels of the upright image, and confidence.
        present: (21,) bool, whether the confidence is above the threshold.
        score: The mean confidence of the 21 keypoints.
        box: x, y, width, height in pixels, where the search's box head found the hand, or else
            around the keypoints.
        mask: Returns (H, W) bool, which pixels are the hand's; None where the net has no mask
            stage. It is a function, so that one mask at a time is in memory.
        track_id: The number by which a video's hand is followed; None where none is.
    """

    keypoints: np.ndarray
    present: np.ndarray
    score: float
    box: tuple[int, int, int, int]
    mask: Callable[[], np.ndarray | None]
    track_id: int | None = None

    def points_or_zeros(self) -> list[float]:
        """Return 63 numbers, x, y, confidence of each keypoint; 0, 0, 0 where it is missing.

        Readers take a confidence of 0 for missing. A present keypoint whose confidence would be
        rounded to 0 therefore gets the smallest one above 0.
        """
        numbers: list[float] = []
        for (x, y, confidence), is_present in zip(self.keypoints.tolist(), self.present.tolist()):
            numbers += (
                [
                    round(x, COORDINATE_DIGITS),
                    round(y, COORDINATE_DIGITS),
                    round(confidence, CONFIDENCE_DIGITS) or 10**-CONFIDENCE_DIGITS,
                ]
                if is_present
                else [0, 0, 0]
            )
        return numbers


class ImageRecord(NamedTuple):
    """The hands of an image or of a video's frame.

    Attributes:
        source: Path of the image or video, as the user gave it.
        width: The upright image's width in pixels.
        height: Its height in pixels.
        hands: The most confident first or, with the user's boxes, in the order of the boxes.
        frame: The frame's number from 0; None for an image.
        time: When the frame is shown, in seconds from the start; None for an image.
    """

    source: str
    width: int
    height: int
    hands: Sequence[HandRecord]
    frame: int | None = None
    time: float | None = None


class ResultFormat(ABC):
    """Writes results in one format. An object is for one run of a command.

    An image or frame becomes a text first (`describe`), so that a video's results take little
    memory until they are written. A format whose images and videos each have files of their own
    needs no method for those of the run.

    Attributes:
        media_type: The media type of `document`, for HTTP.
        notice: What a user of the format has to know, in one line; "" where there is nothing.
    """

    media_type: str = "application/json"
    notice: str = ""

    @abstractmethod
    def paths(self, result: Path, is_video: bool) -> list[Path]:
        """Return the files or folders that an image's or video's results become.

        Args:
            result: Path of the results without suffix.
            is_video: Whether they are a video's.
        """

    def run_paths(self, out: Path) -> list[Path]:
        """Return the files that the whole run writes into its folder of results."""
        return []

    @abstractmethod
    def describe(self, image: ImageRecord) -> str:
        """Return the text of an image or frame."""

    def document(self, text: str) -> str:
        """Return the content of a file of one image, by itself.

        Args:
            text: What `describe` returned.
        """
        return text

    def write_image(
        self, result: Path, text: str, others: Mapping[Path, bytes] | None = None
    ) -> None:
        """Write the results of an image and its other files, all or none.

        Args:
            result: Path of the results without suffix; its folder exists.
            text: What `describe` returned.
            others: {other file of the image: its content}.
        """
        (path,) = self.paths(result, False)
        content = self.document(text).encode(errors="surrogateescape")
        write_together({**(others or {}), path: content})

    @abstractmethod
    def write_video(self, result: Path, texts: Sequence[str]) -> None:
        """Write the results of all frames of a video, complete or not at all."""

    def run_content(self) -> list[str]:
        """Return what the run's files need of this process, to be joined with the others'."""
        return []

    def write_run(  # noqa: B027  (most formats write no file of the run)
        self, out: Path, content: Sequence[str]
    ) -> None:
        """Write the run's files.

        Args:
            out: The folder of results.
            content: What `run_content` returned, of all processes.
        """


class ReadHand(NamedTuple):
    """A hand that was read from a file of any format.

    Attributes:
        keypoints: (21, 3) float64 of x, y in image pixels and confidence, NaN where one is missing.
        score: How sure its system is of the hand.
        rle: The mask as COCO's compressed run lengths, None where there is none.
        box_ltrb: (4,) of left, top, right, bottom in image pixels, None where the file has no box.
    """

    keypoints: np.ndarray
    score: float
    rle: dict | None = None
    box_ltrb: np.ndarray | None = None

    @property
    def has_keypoints(self) -> bool:
        """Whether it has any keypoint."""
        return not np.isnan(self.keypoints).all()


class ReadImage(NamedTuple):
    """The hands of one image, as a file of any format says them.

    Attributes:
        name: The image's path as far as the file says it.
        has_suffix: Whether the name has the image's suffix, which some formats drop.
        hands: Its hands.
        is_own: Whether `mcc_caffe.infer` has written them, by their mark.
    """

    name: str
    has_suffix: bool
    hands: list[ReadHand]
    is_own: bool = False

    @property
    def is_blank(self) -> bool:
        """Whether it has neither a hand nor its image's full name, as if it were missing."""
        return not self.hands and not self.has_suffix


def as_name(value: Any) -> str:
    """Return the name that a file gives an image; ValueError where it is no text."""
    if not isinstance(value, str):
        raise ValueError(f"the name of a picture is {ascii(value)[:60]}, no text")
    return value


def as_numbers(values: Any) -> np.ndarray:
    """Return a JSON value, a number or nested lists of them, as float64; null becomes NaN.

    Raises:
        ValueError: There is something else in it, such as a text or a truth value.
        OverflowError: A number is too large.
    """
    numbers = np.array(values, object)
    for number in numbers.flat:
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
    return UserError(f"{path} has the frames of a video: evaluation takes those of pictures")


def check_pixels(source: Path, hands: Iterable[tuple[str, np.ndarray]]) -> None:
    """Check that a file's keypoints are pixels; see `_judge_shares`.

    A hand with keypoints in one or two places of the image's corner may be a wrong answer in
    pixels, so that it is not counted as shares where others are pixels.

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
