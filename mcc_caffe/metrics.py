"""Accuracy of predicted keypoints and masks."""
import numpy as np


def box_sizes(keypoints: np.ndarray) -> np.ndarray:
    """(N,) larger side of the bounding box of each image's labelled keypoints (N, 21, 3), in pixels; at least 1."""
    labelled = keypoints[..., 2:] > 0
    low = np.where(labelled, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(labelled, keypoints[..., :2], -np.inf).max(axis=1)
    return np.maximum((high - low).max(axis=1), 1.0)


def pck(predicted: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """Share of the labelled keypoints that lie within `threshold` of the truth (4.2, Eq. 4), over all images and joints.

    predicted (N, 21, 2+), truth (N, 21, 3) of x, y, v. Distances are divided by the larger side of the labelled
    keypoints' box and compared strictly. NaN without a labelled keypoint.
    """
    labelled = truth[..., 2] > 0
    distances = np.linalg.norm(predicted[..., :2] - truth[..., :2], axis=-1) / box_sizes(truth)[:, None]
    return float((distances < threshold)[labelled].mean()) if labelled.any() else float("nan")


def iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two boolean masks; 1 where both are empty."""
    union = np.logical_or(predicted, truth).sum()
    return float(np.logical_and(predicted, truth).sum() / union) if union else 1.0
