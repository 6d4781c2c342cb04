"""Accuracy of predicted keypoints and masks, under two named protocols.

The shapes below use N images, K = 21 keypoints and T thresholds. A distance is in pixels of the
image. It is NaN where the truth has no label for the keypoint: such a keypoint is never counted.
It is infinite where the truth has a label but nothing was predicted: such a keypoint is wrong at
every threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np

BOX = "larger side of the labelled keypoints' box"

ProtocolName = Literal["paper", "mmpose"]


class PckConditions(TypedDict):
    """The conditions of a PCK, in words for a report."""

    normaliser: str
    comparison: str
    average: str


class AucConditions(PckConditions):
    """The conditions of an AUC, in words for a report."""

    thresholds: str


class Conditions(TypedDict):
    """The conditions of a protocol's numbers, in words for a report."""

    PCK: PckConditions
    AUC: AucConditions


def box_sizes(keypoints: np.ndarray) -> np.ndarray:
    """Return the larger side of the box around each image's labelled keypoints.

    Args:
        keypoints: (N, K, 3) of x, y and v: 1 where the keypoint is labelled, 0 where it is missing.

    Returns:
        (N,) sides in pixels; NaN where the side is below 1, as with fewer than two labelled
        keypoints: there is no size to divide a distance by, and PCK leaves the image out.
    """
    labelled = keypoints[..., 2:] > 0
    low = np.where(labelled, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(labelled, keypoints[..., :2], -np.inf).max(axis=1)
    sides = (high - low).max(axis=1)
    return np.where(sides >= 1, sides, np.nan)


def keypoint_distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the distance of each predicted keypoint from its label.

    Args:
        predicted: (N, K, 2 or more) of x, y; x is NaN where nothing was predicted.
        truth: (N, K, 3) of x, y, v.

    Returns:
        (N, K) float64 in pixels: NaN without a label, infinite without a prediction.
    """
    distances = np.linalg.norm(np.asarray(predicted, np.float64)[..., :2] - truth[..., :2], axis=-1)
    return np.where(truth[..., 2] > 0, np.where(np.isnan(distances), np.inf, distances), np.nan)


def accuracies(
    scaled_distances: np.ndarray, thresholds: Sequence[float] | np.ndarray, by_keypoint: bool
) -> np.ndarray:
    """Return the share of the labelled keypoints that are strictly within each threshold.

    Args:
        scaled_distances: (N, K) distances, divided by a normaliser.
        thresholds: (T,) thresholds, divided by the same normaliser.
        by_keypoint: True for the share of each keypoint's labels first, and then the mean over the
            keypoints that have any label; False for the share of all labelled keypoints together.

    Returns:
        (T,) shares; NaN where nothing is labelled.
    """
    labelled = (~np.isnan(scaled_distances)).sum(axis=0)
    within = np.stack([(scaled_distances < threshold).sum(axis=0) for threshold in thresholds])
    if not labelled.any():
        return np.full(len(within), np.nan)
    if by_keypoint:
        measured = labelled > 0
        return (within[:, measured] / labelled[measured]).mean(axis=1)
    return within.sum(axis=1) / labelled.sum()


@dataclass(frozen=True)
class Protocol:
    """The rules by which PCK and AUC are computed from distances.

    PCK divides each distance by the image's box (see `box_sizes`). AUC is the mean of PCK over
    several thresholds.

    Attributes:
        by_keypoint: How keypoints are averaged, as `accuracies` takes it.
        auc_thresholds: The thresholds of the AUC.
        auc_pixels: The normaliser of the AUC in pixels; None for the size of the image's box.
    """

    by_keypoint: bool
    auc_thresholds: tuple[float, ...]
    auc_pixels: float | None = None

    def pck(
        self,
        distances: np.ndarray,
        sizes: np.ndarray,
        thresholds: Sequence[float] | np.ndarray,
    ) -> np.ndarray:
        """Return the (T,) PCK of distances (N, K), given the sizes (N,) of the boxes, in pixels."""
        return accuracies(distances / sizes[:, None], thresholds, self.by_keypoint)

    def auc(self, distances: np.ndarray, sizes: np.ndarray) -> float:
        """Return the area under the curve of PCK; the arguments are those of `pck`."""
        scaled_distances = distances / (self.auc_pixels or sizes[:, None])
        return float(accuracies(scaled_distances, self.auc_thresholds, self.by_keypoint).mean())

    def conditions(self) -> Conditions:
        """Return the conditions of this protocol's numbers, in words for a report."""
        average = (
            "by keypoint, then over keypoints" if self.by_keypoint else "all labelled keypoints"
        )
        first, second, *_, last = self.auc_thresholds
        return {
            "PCK": {"normaliser": BOX, "comparison": "<", "average": average},
            "AUC": {
                "normaliser": f"{self.auc_pixels:g} px" if self.auc_pixels else BOX,
                "comparison": "<",
                "average": average,
                "thresholds": f"{first:g}, {second:g} ... {last:g}",
            },
        }


# `paper` is Eq. 4. The paper gives no AUC: ours is the area under its curves from 0 to 0.5, which
# Fig. 9 (b) shows. `mmpose` is MMPose's keypoint_pck_accuracy and keypoint_auc, except that MMPose
# divides PCK by the box in its annotation files: our sets have no such box.
PROTOCOLS: dict[ProtocolName, Protocol] = {
    "paper": Protocol(
        by_keypoint=False, auc_thresholds=tuple(step / 200 for step in range(1, 101))
    ),
    "mmpose": Protocol(
        by_keypoint=True, auc_thresholds=tuple(step / 20 for step in range(20)), auc_pixels=30.0
    ),
}


def pck(predicted: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """Return the PCK of the protocol `paper` (section 4.2, Eq. 4) at one threshold.

    Args:
        predicted: (N, K, 2 or more), as `keypoint_distances` takes it.
        truth: (N, K, 3), as `keypoint_distances` takes it.
        threshold: The threshold, as a share of the box's larger side.
    """
    distances = keypoint_distances(predicted, truth)
    return float(PROTOCOLS["paper"].pck(distances, box_sizes(truth), [threshold])[0])


def epe(distances: np.ndarray) -> float:
    """Return the end-point error of distances (N, K).

    It is the mean distance, in pixels, of the labelled keypoints that were predicted; NaN without
    any.
    """
    finite = distances[np.isfinite(distances)]
    return float(finite.mean()) if finite.size else float("nan")


def iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the intersection over union of two (H, W) bool masks; 1 where both are empty."""
    union = np.logical_or(predicted, truth).sum()
    return float(np.logical_and(predicted, truth).sum() / union) if union else 1.0


def average_precision(ious: np.ndarray, threshold: float) -> float:
    """Return the average precision at an IoU threshold (Table 1), with one hand in each image.

    Args:
        ious: (N,) IoU of each image's mask, N > 0.
        threshold: The IoU that a mask has to reach.

    Returns:
        The share of the images whose mask reaches the threshold.
    """
    return float((ious >= threshold).mean())
