"""Runs predictors over the samples of a data set, in any number of processes: what is found does not depend on how many.

A predictor is a trained net (`Net`) or a file of another system's predictions (`PredictionsFile`). It has a `name` and
`open()`, which returns a function from a Sample to (keypoints, mask): keypoints (21, 3) float64 of x, y in image pixels and
confidence, NaN where one was not predicted; mask (H, W) bool; each None where there is none.
"""

import concurrent.futures
import functools
import multiprocessing
import pathlib
import signal
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import cv2
import numpy as np

from data_tools import sets
from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleError
from mcc_caffe.evaluation.metrics import iou
from mcc_caffe.evaluation.predictions_file import Predictions
from mcc_caffe.inference.engines import DEFAULT_ENGINE
from mcc_caffe.predictor import HandPredictor

MASK_THRESHOLD = 0.5


@dataclass(frozen=True)
class Net:
    """A net with its weights. levels and engine: as HandPredictor takes them."""

    name: str
    weights: pathlib.Path
    prototxt: pathlib.Path
    gpu: int | None
    levels: int | None
    engine: str = DEFAULT_ENGINE

    def open(self) -> Callable:
        """The function that finds the hand of a sample."""
        predictor = HandPredictor(
            self.weights,
            prototxt=self.prototxt,
            gpu=self.gpu,
            levels=self.levels,
            engine=self.engine,
        )

        def find(sample: Sample) -> tuple:
            pose = predictor.predict(sample.image())
            return pose.keypoints, None if pose.mask is None else pose.mask > MASK_THRESHOLD

        return find


@dataclass(frozen=True)
class PredictionsFile:
    """Predictions of another system, in the form of `mcc_caffe.evaluation.predictions_file`."""

    name: str
    path: pathlib.Path

    def open(self) -> Callable:
        """The function that looks a sample up."""
        return Predictions(self.path).find


def choose_splits(data: pathlib.Path, names: list, wanted: list | None) -> list:
    """The splits to evaluate on: the wanted ones, or the only one, or that for validation, or that for tests."""
    unknown = [name for name in wanted or () if name not in names]
    if unknown:
        raise UserError(f"--split {unknown[0]}: {data} has {', '.join(names)}")
    held_out = [name for name in names if "val" in name.lower()] or [
        name for name in names if "test" in name.lower()
    ]
    chosen = wanted or (names if len(names) == 1 else held_out)
    if not wanted and len(chosen) != 1:
        raise UserError(f"{data} has the splits {', '.join(names)}: choose with --split")
    return list(dict.fromkeys(chosen))


@dataclass(frozen=True)
class Found:
    """What a predictor found in a sample. mask_png: its mask as PNG, {0, 255}. iou: with the sample's mask, None without either."""

    keypoints: np.ndarray | None
    mask_png: bytes | None
    iou: float | None


@dataclass(frozen=True)
class Seen:
    """A sample of a set and what each predictor found in it, in the predictors' order. truth: (21, 3) of x, y, v."""

    split: str
    index: int
    key: str
    truth: np.ndarray
    has_mask: bool
    found: list


@dataclass(frozen=True)
class Job:
    """What every process needs to know: where the samples are, and who looks at them."""

    data: pathlib.Path
    predictors: tuple

    def look(self, place: tuple) -> Seen:
        """What the predictors find in the sample at `place`, (split, index)."""
        entries, finders = _opened(self)
        split, index = place
        sample = entries[split][index].sample()
        size, mask, found = sample.image().shape[:2], sample.mask(), []
        if mask is not None and mask.shape != size:
            raise SampleError(
                f"{sample.key}: the mask is {mask.shape[1]} x {mask.shape[0]}, the image {size[1]} x {size[0]}"
            )
        for find in finders:
            keypoints, hand = find(sample)
            found.append(
                Found(
                    keypoints,
                    None
                    if hand is None
                    else cv2.imencode(".png", 255 * hand.astype(np.uint8))[1].tobytes(),
                    None if hand is None or mask is None else iou(hand, mask > 0),
                )
            )
        return Seen(split, index, sample.key, sample.keypoints, mask is not None, found)


@functools.cache
def _opened(job: Job) -> tuple:
    cv2.setNumThreads(1)
    return sets.open_sets(job.data), [predictor.open() for predictor in job.predictors]


def run(job: Job, places: list, processes: int) -> list:
    """[Seen] of the places, in their order, with a progress bar; each process works with one thread."""
    processes = min(processes, len(places))
    if processes == 1:
        return [job.look(place) for place in progress_bar(places, unit="img")]
    pool = concurrent.futures.ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_DFL),  # Ctrl-C ends them at once and without a word
    )
    try:
        return list(progress_bar(pool.map(job.look, places), total=len(places), unit="img"))
    except BrokenProcessPool:
        raise UserError(
            f"one of {processes} processes ended by itself, for lack of memory perhaps: try fewer --processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
