"""Evaluated samples without images."""

import numpy as np

from mcc_caffe.evaluation.prediction_runner import EvaluatedSample, SampleId, ScoredPrediction

# True keypoints (21, 3) on a line of 100 px, and those of a sample without labels.
LINE = np.column_stack([np.linspace(0, 100, 21), np.zeros(21), np.ones(21)])
UNLABELLED = np.tile([-1.0, -1.0, 0.0], (21, 1))


def evaluated_sample(
    true_keypoints: np.ndarray,
    keypoints: np.ndarray | None,
    mask_png: bytes | None = None,
    overlap: float | None = None,
    *,
    has_mask: bool = True,
) -> EvaluatedSample:
    """Return a sample with the prediction of one model; overlap: the IoU of its mask."""
    prediction = ScoredPrediction(keypoints, mask_png, overlap)
    return EvaluatedSample(SampleId("set", 0), "key", true_keypoints, has_mask, [prediction])
