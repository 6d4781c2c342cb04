"""Writes and reads the log of a run, `log.jsonl`: one JSON line for each interval of iterations."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np

from mcc_caffe.caffe_io.run_folder import LOG_FILE
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import require_file, write_atomically
from mcc_caffe.paper import MASK_LOSS_BLOB

_log = logging.getLogger(__name__)


class IterationStats(NamedTuple):
    """The losses and times of one iteration.

    Attributes:
        losses: {loss blob: unweighted loss}, in the order of the stages.
        trivial_loss: The loss of a pose stage with the trivial answer, "keypoints 0, background 1".
        seconds: The time that the iteration took.
        data_wait: The part of this time in which the training waited for the batch, in seconds.
    """

    losses: dict[str, float]
    trivial_loss: float
    seconds: float
    data_wait: float


class LogLine(TypedDict):
    """A line of the log. Its numbers are means over an interval of iterations.

    iteration: the last iteration of the interval. loss: the weighted sum of the losses. losses:
    {loss blob: unweighted loss}. ratio_to_trivial: {loss blob of a pose stage: its loss divided by
    that of the trivial answer}. images_per_second: the images of all ranks together. seconds,
    data_wait: the times of an iteration, as IterationStats has them.
    """

    iteration: int
    loss: float
    losses: dict[str, float]
    ratio_to_trivial: dict[str, float]
    images_per_second: float
    seconds: float
    data_wait: float


class RunLog:
    """Writes the log of a run."""

    def __init__(
        self,
        run_folder: Path,
        *,
        iteration: int,
        images: int,
        loss_weights: Mapping[str, float],
    ):
        """Open the log and delete its lines after `iteration`, which a resumed run writes again.

        A warning says if a resumed run has another number of images in an iteration than before.

        Args:
            run_folder: The folder of the run.
            iteration: The iteration at which the run begins.
            images: The number of images that all ranks together take in an iteration.
            loss_weights: {loss blob: its weight in the total loss}.
        """
        self.path, self._images, self._loss_weights = run_folder / LOG_FILE, images, loss_weights
        self._interval: list[IterationStats] = []
        lines = self.path.read_bytes().splitlines() if self.path.is_file() else []
        earlier_lines = [line for line in lines if _logged_iteration(line) <= iteration]
        write_atomically(self.path, b"".join(line + b"\n" for line in earlier_lines))
        earlier_images = _logged_images(earlier_lines[-1]) if earlier_lines else None
        if earlier_images not in (None, images):
            _log.warning(
                "%s: an iteration has %d images from here on, it had %d: batch size, iter_size or "
                "the number of processes is another",
                run_folder,
                images,
                earlier_images,
            )

    def add(self, stats: IterationStats) -> None:
        """Add an iteration to the interval."""
        self._interval.append(stats)

    @property
    def pending(self) -> bool:
        """Whether iterations were added since the last line."""
        return bool(self._interval)

    def write(self, iteration: int) -> str:
        """Append the line of the interval that ends at `iteration`.

        Returns:
            What the progress bar shows of it.
        """
        line = self._line(iteration)
        try:
            with open(self.path, "a") as log:
                log.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}): "
                "make room and go on with --resume auto"
            ) from None
        self._interval.clear()
        return _summary(line)

    def _line(self, iteration: int) -> LogLine:
        """Return the means over the interval."""
        rows = [
            [*stats.losses.values(), stats.trivial_loss, stats.seconds, stats.data_wait]
            for stats in self._interval
        ]
        *mean_losses, trivial_loss, seconds, data_wait = np.mean(rows, axis=0).tolist()
        losses = dict(zip(self._interval[0].losses, mean_losses))
        return {
            "iteration": iteration,
            "loss": sum(self._loss_weights[name] * loss for name, loss in losses.items()),
            "losses": losses,
            "ratio_to_trivial": {
                name: loss / trivial_loss
                for name, loss in losses.items()
                if name != MASK_LOSS_BLOB and trivial_loss  # 0 where no keypoint came into view
            },
            "images_per_second": self._images / seconds,
            "seconds": seconds,
            "data_wait": data_wait,
        }


def _summary(line: LogLine) -> str:
    """Return the line as the progress bar shows it."""
    losses, ratios = line["losses"], line["ratio_to_trivial"]
    parts = [f"loss {line['loss']:.1f}"]
    if MASK_LOSS_BLOB in losses:
        parts.append(f"mask {losses[MASK_LOSS_BLOB]:.1f}")
    if ratios:
        stage_losses = " ".join(f"{name} {losses[name]:.0f}" for name in ratios)
        stage_ratios = " ".join(f"{ratio:.2f}" for ratio in ratios.values())
        parts.append(f"{stage_losses} (of trivial: {stage_ratios})")
    parts.append(f"{line['images_per_second']:.1f} img/s")
    parts.append(f"data wait {line['data_wait']:.2f} s")
    return ", ".join(parts)


def read_log(run_folder: Path) -> list[LogLine]:
    """Read the log of a run.

    Raises:
        UserError: The log is missing, damaged or empty.
    """
    path = require_file(run_folder / LOG_FILE, "log")
    lines = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        line = _parse(text)
        if line is None:
            raise UserError(
                f"{path} is damaged: line {number} is no line of a training's log: {text[:60]!r}; "
                "remove it, or go on with the run (--resume auto)"
            )
        lines.append(line)
    if not lines:
        raise UserError(
            f"{path} is empty: the run has not reached its first interval, wait or train it again"
        )
    return lines


def _parse(text: bytes) -> LogLine | None:
    """Return a line of the log; None where it is damaged, such as by a crash that cut it."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    losses, ratios = line.get("losses"), line.get("ratio_to_trivial")
    if not isinstance(losses, dict) or not isinstance(ratios, dict):
        return None
    numbers = [value for value in line.values() if value not in (losses, ratios)]
    numbers += [line.get("loss"), *losses.values(), *ratios.values()]
    if type(line.get("iteration")) is not int or not all(map(_is_number, numbers)):
        return None
    return line  # type: ignore[return-value]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _logged_iteration(text: bytes) -> float:
    """Return the iteration of a log line; infinity where it is damaged."""
    line = _parse(text)
    return line["iteration"] if line else float("inf")


def _logged_images(text: bytes) -> int | None:
    """Return the number of images of an iteration of a log line; None where it does not say it."""
    line = _parse(text)
    if not line or "images_per_second" not in line or "seconds" not in line:
        return None
    return round(line["images_per_second"] * line["seconds"])
