"""Accuracy of predicted keypoints and masks, under two named protocols.

N images, K = 21 keypoints, T thresholds. A keypoint's distance, in pixels of the image, is NaN where the truth does not label it:
it is never counted. It is infinite where nothing was predicted for a labelled one: that one is wrong at every threshold.
"""

from dataclasses import dataclass

import numpy as np

BOX = "larger side of the labelled keypoints' box"


def box_sizes(keypoints: np.ndarray) -> np.ndarray:
    """(N,) larger side of the bounding box of each image's labelled keypoints (N, K, 3), in pixels; at least 1."""
    labelled = keypoints[..., 2:] > 0
    low = np.where(labelled, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(labelled, keypoints[..., :2], -np.inf).max(axis=1)
    return np.maximum((high - low).max(axis=1), 1.0)


def keypoint_distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, K) float64 distances in pixels: NaN where the truth has no label, infinite where nothing was predicted.

    predicted (N, K, 2+) of x, y, NaN where nothing was predicted; truth (N, K, 3) of x, y, v.
    """
    distances = np.linalg.norm(np.asarray(predicted, np.float64)[..., :2] - truth[..., :2], axis=-1)
    return np.where(truth[..., 2] > 0, np.where(np.isnan(distances), np.inf, distances), np.nan)


def accuracies(scaled: np.ndarray, thresholds, by_joint: bool) -> np.ndarray:
    """(T,) share of the labelled keypoints whose scaled distance (N, K) is strictly below each threshold; NaN without any.

    by_joint: each joint's share of its images first, then the mean over the joints that are labelled somewhere.
    """
    labelled = (~np.isnan(scaled)).sum(axis=0)
    within = np.stack([(scaled < threshold).sum(axis=0) for threshold in thresholds])
    if not labelled.any():
        return np.full(len(within), np.nan)
    if by_joint:
        seen = labelled > 0
        return (within[:, seen] / labelled[seen]).mean(axis=1)
    return within.sum(axis=1) / labelled.sum()


@dataclass(frozen=True)
class Protocol:
    """How distances become PCK and AUC.

    PCK divides them by the box (BOX) and averages over all labelled keypoints at once, or `by_joint`. AUC is the mean of PCK over
    `auc_thresholds`, of distances divided by `auc_pixels`, or by the box where that is None.
    """

    by_joint: bool
    auc_thresholds: tuple
    auc_pixels: float | None = None

    def pck(self, distances: np.ndarray, sizes: np.ndarray, thresholds) -> np.ndarray:
        """(T,) PCK of distances (N, K) in pixels; sizes (N,) of the boxes."""
        return accuracies(distances / sizes[:, None], thresholds, self.by_joint)

    def auc(self, distances: np.ndarray, sizes: np.ndarray) -> float:
        """Area under the curve of PCK."""
        scaled = distances / (self.auc_pixels or sizes[:, None])
        return float(accuracies(scaled, self.auc_thresholds, self.by_joint).mean())

    def conditions(self) -> dict:
        """{"PCK" and "AUC": what has to be said beside the number}."""
        first, second, *_, last = self.auc_thresholds
        shared = {
            "comparison": "<",
            "average": "by joint, then over joints" if self.by_joint else "all labelled keypoints",
        }
        return {
            "PCK": {"normaliser": BOX, **shared},
            "AUC": {
                "normaliser": f"{self.auc_pixels:g} px" if self.auc_pixels else BOX,
                **shared,
                "thresholds": f"{first:g}, {second:g} ... {last:g}",
            },
        }


# paper: Eq. 4. It gives no AUC; ours is the area under its curves from 0 to 0.5, the width of Fig. 9 (b).
# mmpose: keypoint_pck_accuracy and keypoint_auc; MMPose takes the box that its annotation file has, which our sets do not.
PROTOCOLS = {
    "paper": Protocol(by_joint=False, auc_thresholds=tuple(step / 200 for step in range(1, 101))),
    "mmpose": Protocol(
        by_joint=True, auc_thresholds=tuple(step / 20 for step in range(20)), auc_pixels=30.0
    ),
}


def pck(predicted: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """PCK of the protocol `paper` (4.2, Eq. 4) at one threshold. predicted (N, K, 2+), truth (N, K, 3) of x, y, v."""
    return float(
        PROTOCOLS["paper"].pck(keypoint_distances(predicted, truth), box_sizes(truth), [threshold])[
            0
        ]
    )


def epe(distances: np.ndarray) -> float:
    """End-point error: mean distance (pixels) of the labelled keypoints that were predicted; NaN without any."""
    finite = distances[np.isfinite(distances)]
    return float(finite.mean()) if finite.size else float("nan")


def iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two boolean masks; 1 where both are empty."""
    union = np.logical_or(predicted, truth).sum()
    return float(np.logical_and(predicted, truth).sum() / union) if union else 1.0


def average_precision(ious: np.ndarray, threshold: float) -> float:
    """AP at an IoU threshold (Table 1): the share of the images whose mask reaches it, one hand an image. ious (N,), N > 0."""
    return float((ious >= threshold).mean())
