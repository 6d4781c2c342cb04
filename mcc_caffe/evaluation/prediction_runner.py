"""Runs the compared models over the samples of a set, in any number of processes.

A model is a trained network (`NetModelSpec`) or a file with another system's predictions
(`FileModelSpec`). The predictions do not depend on the number of processes.
"""

import contextlib
import functools
import logging
import pathlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data_tools import sets
from data_tools.readers.shared import sample_orientation
from mcc_caffe.caffe_io.precision import FLOAT32
from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.processes import WorkerPool, end_at_ctrl_c, shared_memory_errors
from mcc_caffe.data.samples import Sample
from mcc_caffe.evaluation.metrics import iou
from mcc_caffe.evaluation.predictions_file import HandPrediction, PredictionsFile
from mcc_caffe.predictor import HandPredictor

PredictFunction = Callable[[Sample], HandPrediction]


@dataclass(frozen=True)
class NetModelSpec:
    """A network with its weights.

    Attributes:
        name: Name in the reports.
        weights: Caffemodel or packed weights.
        variant: The name of the network's size.
        prototxt: Deploy net.
        gpu: Id of the GPU; None for the CPU.
        levels: Pyramid levels, as HandPredictor takes them.
        engine: Name of the engine.
        looks: Looks, as HandPredictor takes them.
        precision: What the convolutions multiply, as HandPredictor takes it.
    """

    name: str
    weights: pathlib.Path
    variant: str
    prototxt: pathlib.Path
    gpu: int | None
    levels: int | str | None
    engine: str
    looks: int | None = None
    precision: str = FLOAT32

    def load(self, splits: Sequence[str], set_path: pathlib.Path) -> PredictFunction:
        """Load the network; return the function that predicts the hand of a sample.

        `FileModelSpec.load` has the same arguments. A network needs neither.
        """
        predictor = HandPredictor(
            self.weights,
            self.variant,
            prototxt=self.prototxt,
            gpu=self.gpu,
            levels=self.levels,
            looks=self.looks,
            engine=self.engine,
            precision=self.precision,
        )

        def predict(sample: Sample) -> HandPrediction:
            pose = predictor.predict(sample.image())
            return HandPrediction(pose.keypoints, pose.hand_pixels())

        return predict


@dataclass(frozen=True)
class FileModelSpec:
    """The predictions of another system.

    Attributes:
        name: Name in the reports.
        path: File of the form that `mcc_caffe.evaluation.predictions_file` describes.
    """

    name: str
    path: pathlib.Path

    def load(self, splits: Sequence[str], set_path: pathlib.Path) -> PredictFunction:
        """Read the file; return the function that predicts the hand of a sample.

        Args:
            splits: Names with which the keys of the set's samples may begin.
            set_path: Path of the set.
        """
        return PredictionsFile(self.path, splits, set_path).predict


# It goes to other processes, so that it is small, hashable and picklable, and holds no open file.
ModelSpec = NetModelSpec | FileModelSpec


@dataclass(frozen=True)
class SampleId:
    """Name of a sample: its split of the set, and its index in that split."""

    split: str
    index: int


@dataclass(frozen=True)
class ScoredPrediction:
    """The prediction of one model for one sample.

    Attributes:
        keypoints: (21, 3), as `HandPrediction` has them; None without keypoints.
        mask_png: The predicted mask, 0 and 255, as PNG; None without a mask.
        iou: IoU of the predicted mask with the sample's; None if either has no mask.
    """

    keypoints: np.ndarray | None
    mask_png: bytes | None
    iou: float | None


@dataclass(frozen=True)
class EvaluatedSample:
    """A sample of a set, with the predictions for it.

    Attributes:
        id: Split and index of the sample.
        key: Key of the sample.
        true_keypoints: (21, 3) of x, y in pixels of the image and v, 1 or 0.
        has_mask: Whether the sample has a true mask.
        predictions: The predictions, in the order of the job's models.
        is_turned: Whether the image has an EXIF orientation, which was ignored.
    """

    id: SampleId
    key: str
    true_keypoints: np.ndarray
    has_mask: bool
    predictions: list[ScoredPrediction]
    is_turned: bool = False


@dataclass(frozen=True)
class EvaluationJob:
    """The set and the models of an evaluation, which every process of it gets.

    Attributes:
        data_path: Path of the set, as `data_tools.sets.open_sets` takes it.
        model_specs: The models to compare.
        upright: As `data_tools.sets.open_sets` takes it.
    """

    data_path: pathlib.Path
    model_specs: tuple[ModelSpec, ...]
    upright: bool = False


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep the readers of sets and results from repeating what the command has warned of."""
    loggers = [
        logging.getLogger(name) for name in ("data_tools.readers", "mcc_caffe.inference.formats")
    ]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger in loggers:
            logger.setLevel(logging.NOTSET)


class _Evaluator:
    """The opened set and models of a job, in one process."""

    def __init__(self, job: EvaluationJob) -> None:
        cv2.setNumThreads(1)
        with _without_warnings():
            self._records_of_split = sets.open_sets(job.data_path, upright=job.upright)
            splits = sets.list_key_splits(self._records_of_split)
            self._predict_functions = [spec.load(splits, job.data_path) for spec in job.model_specs]

    def evaluate(self, sample_id: SampleId) -> EvaluatedSample:
        """Let all models predict the hand of one sample.

        Raises:
            SampleError: The sample cannot be decoded or its mask has another size.
        """
        sample = self._records_of_split[sample_id.split][sample_id.index].sample()
        height, width = sample.image().shape[:2]
        true_mask = sample.mask()
        if true_mask is not None:
            sample.check_mask_size((true_mask.shape[1], true_mask.shape[0]), (width, height))
        predictions = [_score(predict(sample), true_mask) for predict in self._predict_functions]
        return EvaluatedSample(
            sample_id,
            sample.key,
            sample.keypoints,
            true_mask is not None,
            predictions,
            is_turned=sample_orientation(sample) > 1,
        )


def _score(prediction: HandPrediction, true_mask: np.ndarray | None) -> ScoredPrediction:
    """Compress the predicted mask and compare it with the true one."""
    keypoints, mask = prediction
    if mask is None:
        return ScoredPrediction(keypoints, None, None)
    return ScoredPrediction(
        keypoints,
        cv2.imencode(".png", 255 * mask.astype(np.uint8))[1].tobytes(),
        None if true_mask is None else iou(mask, true_mask > 0),
    )


# Each process of a pool works on one job. It opens the files with its first sample, since an error
# of the pool's initializer would not come back.
_worker_evaluator = functools.cache(_Evaluator)


def _evaluate_in_worker(job: EvaluationJob, sample_id: SampleId) -> EvaluatedSample:
    """Evaluate a sample in a process of a pool."""
    return _worker_evaluator(job).evaluate(sample_id)


def run_models(
    job: EvaluationJob, sample_ids: list[SampleId], processes: int
) -> list[EvaluatedSample]:
    """Evaluate samples, with a progress bar.

    Args:
        job: The set and the models.
        sample_ids: The samples to evaluate.
        processes: Number of processes at most; each works with one thread.

    Returns:
        The evaluated samples, in the order of `sample_ids`.

    Raises:
        UserError: A process ends by itself, as one that lacks memory does.
    """
    processes = min(processes, len(sample_ids))
    if processes == 1:
        evaluator = _Evaluator(job)
        return list(map(evaluator.evaluate, progress_bar(sample_ids, unit="img")))
    with shared_memory_errors("take --processes 1"):
        pool = WorkerPool(processes, end_at_ctrl_c, "try fewer --processes")
    with pool:
        evaluated = pool.map(functools.partial(_evaluate_in_worker, job), sample_ids)
        return list(progress_bar(evaluated, total=len(sample_ids), unit="img"))
