"""Finds the hands of images and videos for `mcc_caffe.infer`; draws and writes those of images."""

import contextlib
import io
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.drawing import draw_pose
from mcc_caffe.core.errors import UserError, escape_unprintable
from mcc_caffe.core.files import write_together
from mcc_caffe.core.hand import NAMES
from mcc_caffe.core.images import marked_png
from mcc_caffe.inference.engines.base import title_of
from mcc_caffe.inference.formats.base import ResultFormat
from mcc_caffe.inference.input_files import UnreadableError, read_image
from mcc_caffe.inference.jobs import Job
from mcc_caffe.inference.overlapped_map import overlapped_map
from mcc_caffe.inference.pose_reports import NetworkInfo, image_record, image_report
from mcc_caffe.inference.reports import PROGRAM
from mcc_caffe.inference.result_paths import with_suffix
from mcc_caffe.predictor import HandPose
from mcc_caffe.video_results import TrackerOptions, write_video

_log = logging.getLogger(__name__)


class _Image(NamedTuple):
    """An image on its way from its file to its results.

    Attributes:
        job: Where it is from, and where its results go.
        pixels: HxWx3 BGR uint8.
        hands: What the predictor found in it: one hand, or all of them where all are looked for.
    """

    job: Job
    pixels: np.ndarray
    hands: Sequence[HandPose] = ()


class _DrawnImage(NamedTuple):
    """An image whose hands are drawn, where drawings are asked for.

    Attributes:
        job: Where it is from, and where its results go.
        size: Its width and height in pixels.
        hands: What the predictor found in it.
        drawing: HxWx3 BGR uint8, the hands over the image; None without drawings.
    """

    job: Job
    size: tuple[int, int]
    hands: Sequence[HandPose]
    drawing: np.ndarray | None


class InferenceRun:
    """Writes what a predictor says of images and videos, in the files that the user gets.

    Attributes:
        unreadable_count: The number of files so far that cannot be read.
    """

    def __init__(
        self,
        tracker_options: TrackerOptions,
        *,
        heatmaps: bool,
        skip_unreadable: bool,
        progress: bool,
        drawings: bool = True,
        boxes: dict[Path, np.ndarray] | None = None,
        result_format: ResultFormat | None = None,
    ):
        """Say what is looked for and written; nothing is read yet.

        Args:
            tracker_options: How hands are found; of them images take `predictor` and `one_hand`.
            heatmaps: Whether to write the heatmaps of images as HDF5, too; only where one hand is
                looked for.
            skip_unreadable: Whether to go on after a file that cannot be read.
            progress: Whether to show the progress.
            drawings: Whether to write the drawings of images and the clips of videos.
            boxes: Where to look for the hands of each image, (N, 4) of x, y, width, height; None to
                look at all of it.
            result_format: The format of the results; None for our JSON.
        """
        self.unreadable_count = 0
        predictor = tracker_options.predictor
        self._tracker_options, self._predictor = tracker_options, predictor
        self._network = NetworkInfo(predictor.weights_info, title_of(predictor.engine))
        self._drawings, self._heatmaps = drawings, heatmaps
        self._result_format = result_format
        self._skip_unreadable, self._progress = skip_unreadable, progress
        self._one_hand, self._boxes = tracker_options.one_hand and boxes is None, boxes

    def write_images(self, jobs: Sequence[Job]) -> None:
        """Write the results of each image and, if asked for, its drawing and its heatmaps."""
        show = self._progress and len(jobs) > 1
        with contextlib.closing(
            overlapped_map(_read_images(jobs), self._predict, self._draw, self._write_image)
        ) as lines:
            for line in progress_bar(lines, total=len(jobs), unit="img", disable=not show):
                if line:
                    tqdm.write(line)

    def _predict(self, image: _Image | Exception) -> _Image | Exception:
        """Return the image with its hands; an error in its place stays."""
        if isinstance(image, Exception):
            return image
        if self._one_hand:
            return image._replace(hands=[self._predictor.predict(image.pixels)])
        source = image.job.source
        boxes = None if self._boxes is None else self._boxes[source]
        try:
            return image._replace(hands=self._predictor.predict_all(image.pixels, boxes=boxes))
        except UserError as error:
            raise UserError(f"{source}: {error}") from None

    def _draw(self, image: _Image | Exception) -> _DrawnImage | Exception:
        """Draw the hands of an image, if asked for; an error in its place stays."""
        if isinstance(image, Exception):
            return image
        job, pixels, hands = image
        drawing = None
        if self._drawings:
            drawing = draw_pose(pixels, hands[0]) if self._one_hand else _draw_hands(pixels, hands)
        return _DrawnImage(job, (pixels.shape[1], pixels.shape[0]), hands, drawing)

    def _write_image(self, image: _DrawnImage | Exception) -> str | None:
        """Write the results of one image, all or none; return the line that says so."""
        if isinstance(image, Exception):
            self._skip_or_raise(image)
            return None
        job, size, hands, drawing = image
        source = str(job.source)
        job.make_folder(self._result_format, drawings=self._drawings, heatmaps=self._heatmaps)
        contents = {}
        if drawing is not None:
            contents[with_suffix(job.result, ".png")] = marked_png(drawing, PROGRAM)
        if self._heatmaps:
            contents[with_suffix(job.result, ".h5")] = _heatmaps_file(hands[0])
        # An image's files come from one run: none is replaced before all are written.
        if self._result_format:
            record = image_record(hands, source, size, one_hand=self._one_hand)
            text = self._result_format.describe(record)
            self._result_format.write_image(job.result, text, contents)
        else:
            report = image_report(hands, source, size, self._network, one_hand=self._one_hand)
            content = json.dumps(report, indent=1) + "\n"
            write_together({**contents, with_suffix(job.result, ".json"): content.encode()})
        return f"{self._describe_files(job)}: {self._summarize(hands)}"

    def _summarize(self, hands: Sequence[HandPose]) -> str:
        """Say in a few words what was found in an image."""
        if not self._one_hand:
            return f"{len(hands)} hand{'' if len(hands) == 1 else 's'}"
        (pose,) = hands
        assert pose.present is not None  # commands refuse nets without a pose stage
        seconds, count = pose.timings["total"], pose.present.sum()
        return f"{count} of {len(NAMES)} keypoints{'' if count else ', no hand'}, {seconds:.2f} s"

    def _describe_files(self, job: Job) -> str:
        """Return the first file of a job's results, and what the others' names add to its name.

        Without any file of its own, as in COCO results without drawings, it is the job's source.
        """
        paths = job.result_paths(
            self._result_format, drawings=self._drawings, heatmaps=self._heatmaps
        )
        first, *others = paths or [job.source]
        endings = [path.name.removeprefix(job.result.name) for path in others]
        return escape_unprintable(", ".join([str(first), *endings]))

    def _skip_or_raise(self, error: Exception) -> None:
        """Note that a file cannot be read, or raise the error where it is the only file."""
        if not self._skip_unreadable:
            raise error
        self.unreadable_count += 1
        _log.warning("skipped: %s", error)

    def write_videos(self, jobs: Sequence[Job]) -> None:
        """Write the results of each video and, if asked for, its clip, all or none."""
        for job in jobs:
            try:
                summary = write_video(
                    self._tracker_options,
                    job,
                    progress=self._progress,
                    drawings=self._drawings,
                    result_format=self._result_format,
                )
                tqdm.write(f"{self._describe_files(job)}: {summary}")
            except UnreadableError as error:
                self._skip_or_raise(error)


def _read_images(jobs: Sequence[Job]) -> Iterator[_Image | Exception]:
    """Read one image after the other; the error takes the place of one that cannot be read."""
    for job in jobs:
        try:
            yield _Image(job, read_image(job.source))
        except UnreadableError as error:
            yield error


def _draw_hands(image: np.ndarray, hands: Sequence[HandPose]) -> np.ndarray:
    """Draw mask and skeleton of the hands over an image, HxWx3 BGR uint8."""
    for hand in hands:
        image = hand.draw(image)
    return image


def _heatmaps_file(pose: HandPose) -> bytes:
    """Return the content of the HDF5 file: heatmaps, frame_to_image and, where it is, the mask."""
    import h5py  # here, as it is slow to import, and most runs write none

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["program"] = PROGRAM
        heatmaps = file.create_dataset("heatmaps", data=pose.heatmaps, compression="gzip")
        heatmaps.attrs["names"] = [*NAMES, "background"]
        file["frame_to_image"] = pose.frame_to_image
        if pose.mask is not None:
            file.create_dataset("mask", data=pose.mask, compression="gzip")
    return content.getvalue()
