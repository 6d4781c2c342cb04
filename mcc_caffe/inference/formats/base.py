"""The hands of an image as every format gets them, and what a format has to offer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mcc_caffe.core.files import write_together

# OpenCV and OneHand10K count the centres of pixels as integers; every format gets them so.
COORDINATE_DIGITS = 2
CONFIDENCE_DIGITS = 4


class HandRecord(NamedTuple):
    """A hand to write.

    Attributes:
        keypoints: (21, 3) of x, y in pixels of the upright image, and confidence.
        present: (21,) bool, as HandPose.present.
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
        hands: The most confident first or, with the user's boxes, in the order of the boxes; a
            frame's by their numbers.
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
