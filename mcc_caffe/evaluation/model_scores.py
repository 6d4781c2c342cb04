"""Turns the predictions of one model into the numbers and columns that an evaluation reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np

from mcc_caffe.core.hand import GROUPS
from mcc_caffe.evaluation.metrics import (
    PROTOCOLS,
    AucConditions,
    PckConditions,
    average_precision,
    box_sizes,
    epe,
    keypoint_distances,
)
from mcc_caffe.evaluation.prediction_runner import EvaluatedSample
from mcc_caffe.paper import KEYPOINT_COUNT

# IoU thresholds of Table 1
AP_THRESHOLDS: dict[Literal["AP50", "AP75", "AP80"], float] = {
    "AP50": 0.5,
    "AP75": 0.75,
    "AP80": 0.8,
}
CURVE_THRESHOLDS = np.arange(201) / 200  # normalised distances, the width of Fig. 9 (a)
ALL_KEYPOINTS = "all"  # the name of all keypoints together, beside the groups of Fig. 9


class PckNumbers(PckConditions):
    """PCK at each threshold, with its conditions."""

    values: dict[str, float | None]


class AucNumbers(AucConditions):
    """AUC, with its conditions."""

    value: float | None


class EpeNumbers(TypedDict):
    """End-point error, with its conditions."""

    unit: str
    average: str
    value: float | None


class ProtocolNumbers(TypedDict, total=False):
    """The keypoints' numbers under one protocol. `paper` has groups and curves, `mmpose` EPE.

    groups: {"all" or the name of a group of Fig. 9: {threshold: PCK}}. curves: {the same names: PCK
    at each of CURVE_THRESHOLDS}.
    """

    PCK: PckNumbers
    AUC: AucNumbers
    EPE: EpeNumbers
    groups: dict[str, dict[str, float | None]]
    curves: dict[str, list[float | None]]


class MaskNumbers(TypedDict, total=False):
    """The masks' numbers. If no sample has a mask, only `images` is there."""

    images: int
    AP50: float
    AP75: float
    AP80: float
    mean_IoU: float


class SetNumbers(TypedDict, total=False):
    """The numbers of one model on one set, as they stand in results.json.

    A model without keypoints lacks the keypoints' numbers, and one without masks lacks `mask`.
    `keypoints` counts the labelled ones. PCK and the AUC of `paper` leave out those in images
    without a box.
    """

    images: int
    images_without_prediction: int
    keypoints: int
    keypoints_not_predicted: int
    keypoints_without_box: int
    paper: ProtocolNumbers
    mmpose: ProtocolNumbers
    mask: MaskNumbers


@dataclass(frozen=True)
class ModelScores:
    """How well one model did on each of N samples.

    A keypoint or a mask that a model leaves out in one sample counts as wrong, if it predicts
    such things in any sample. If it never does, their arrays are None. A model that predicts
    nothing in any sample has missed every keypoint.

    Attributes:
        has_no_prediction: (N,) bool, True where neither a keypoint nor a mask was predicted.
        box_sizes: (N,) larger side of the box around the true keypoints, in pixels, or NaN, as
            `metrics.box_sizes` returns it.
        distances: (N, 21) as `metrics.keypoint_distances` returns them, or None.
        confidences: (N,) mean over the predicted keypoints, NaN without any; or None.
        ious: (N,) IoU of the masks, 0 without a prediction, NaN where the sample has no mask; or
            None.
    """

    has_no_prediction: np.ndarray
    box_sizes: np.ndarray
    distances: np.ndarray | None
    confidences: np.ndarray | None
    ious: np.ndarray | None

    def select(self, is_selected: np.ndarray) -> "ModelScores":
        """Return the scores of those samples for which `is_selected` (N,) is True."""
        return ModelScores(
            self.has_no_prediction[is_selected],
            self.box_sizes[is_selected],
            None if self.distances is None else self.distances[is_selected],
            None if self.confidences is None else self.confidences[is_selected],
            None if self.ious is None else self.ious[is_selected],
        )

    def group_pck(self, thresholds: Sequence[float] | np.ndarray) -> dict[str, np.ndarray]:
        """Return the PCK of all keypoints and of each group of Fig. 9, protocol `paper`.

        Args:
            thresholds: (T,) shares of the box.

        Returns:
            {"all" or the group's name: (T,) PCK}.
        """
        assert self.distances is not None, "the model predicts no keypoints"
        groups = {ALL_KEYPOINTS: range(KEYPOINT_COUNT), **GROUPS}
        return {
            name: PROTOCOLS["paper"].pck(
                self.distances[:, list(indices)], self.box_sizes, thresholds
            )
            for name, indices in groups.items()
        }

    def summarise(self, thresholds: Sequence[float]) -> SetNumbers:
        """Return the numbers over all samples, with PCK at the given shares of the box.

        Numbers that are not defined, such as the PCK of samples without labels, are None.
        """
        numbers: SetNumbers = {
            "images": len(self.box_sizes),
            "images_without_prediction": int(self.has_no_prediction.sum()),
        }
        if self.distances is not None:
            numbers["keypoints"] = int((~np.isnan(self.distances)).sum())
            numbers["keypoints_not_predicted"] = int(np.isinf(self.distances).sum())
            without_box = self.distances[np.isnan(self.box_sizes)]
            numbers["keypoints_without_box"] = int((~np.isnan(without_box)).sum())
            for name, protocol in PROTOCOLS.items():
                conditions = protocol.conditions()
                pck = protocol.pck(self.distances, self.box_sizes, thresholds)
                auc = protocol.auc(self.distances, self.box_sizes)
                numbers[name] = {
                    "PCK": {**conditions["PCK"], "values": _by_threshold(thresholds, pck)},
                    "AUC": {**conditions["AUC"], "value": none_if_nan(auc)},
                }
            numbers["paper"]["groups"] = {
                name: _by_threshold(thresholds, pck)
                for name, pck in self.group_pck(thresholds).items()
            }
            numbers["paper"]["curves"] = {
                name: [none_if_nan(share) for share in pck]
                for name, pck in self.group_pck(CURVE_THRESHOLDS).items()
            }
            numbers["mmpose"]["EPE"] = {
                "unit": "px",
                "average": "labelled keypoints that were predicted",
                "value": none_if_nan(epe(self.distances)),
            }
        if self.ious is not None:
            numbers["mask"] = _summarise_masks(self.ious[~np.isnan(self.ious)])
        return numbers

    def image_columns(self, thresholds: Sequence[float]) -> dict[str, np.ndarray]:
        """Return the columns of images.csv: {name: (N,)}, NaN where a value is not defined.

        The column `error`, by which the worst images are chosen, lies between 0 and 1. It is the
        mean of distance / box, each at most 1; of a model without keypoints it is 1 - IoU.
        """
        undefined = np.full(len(self.box_sizes), np.nan)
        ious = undefined if self.ious is None else self.ious
        pck_columns = [f"pck_{threshold:g}" for threshold in thresholds]
        names = ["box_px", "keypoints", "predicted", *pck_columns]
        names += ["mean_error_px", "confidence", "iou", "error"]
        columns = dict.fromkeys(names, undefined) | {"iou": ious, "error": 1 - ious}
        if self.distances is None or self.confidences is None:
            return columns
        scaled_distances = self.distances / self.box_sizes[:, None]
        measured = ~np.isnan(scaled_distances)
        labelled, predicted = ~np.isnan(self.distances), np.isfinite(self.distances)
        return columns | {
            "box_px": self.box_sizes,
            "keypoints": labelled.sum(axis=1),
            "predicted": predicted.sum(axis=1),
            **{
                column: _row_means(scaled_distances < threshold, measured)
                for column, threshold in zip(pck_columns, thresholds)
            },
            "mean_error_px": _row_means(self.distances, predicted),
            "confidence": self.confidences,
            "error": _row_means(np.minimum(scaled_distances, 1), measured),
        }


def score_model(samples: list[EvaluatedSample], model_index: int) -> ModelScores:
    """Compare one model's predictions with the truth.

    Args:
        samples: The evaluated samples.
        model_index: The model's index in each sample's predictions.
    """
    predictions = [sample.predictions[model_index] for sample in samples]
    truth = np.stack([sample.true_keypoints for sample in samples]).astype(np.float64)
    distances = confidences = ious = None
    has_masks = any(prediction.mask_png is not None for prediction in predictions)
    # A model that predicts nothing in any sample is measured as one of keypoints.
    if not has_masks or any(prediction.keypoints is not None for prediction in predictions):
        nothing = np.full((KEYPOINT_COUNT, 3), np.nan)
        predicted = np.stack(
            [
                nothing if prediction.keypoints is None else prediction.keypoints
                for prediction in predictions
            ]
        )
        distances = keypoint_distances(predicted, truth)
        confidences = _row_means(predicted[..., 2], ~np.isnan(predicted[..., 2]))
    if has_masks:
        ious = np.array(
            [
                (prediction.iou or 0.0) if sample.has_mask else np.nan
                for sample, prediction in zip(samples, predictions)
            ]
        )
    has_no_prediction = np.array(
        [
            prediction.mask_png is None
            and (prediction.keypoints is None or bool(np.isnan(prediction.keypoints).all()))
            for prediction in predictions
        ]
    )
    return ModelScores(has_no_prediction, box_sizes(truth), distances, confidences, ious)


def none_if_nan(number: Any) -> Any:
    """Return a NumPy number as Python's own, and None for NaN: JSON and CSV have no NaN."""
    return None if np.isnan(number) else np.asarray(number).item()


def _summarise_masks(ious: np.ndarray) -> MaskNumbers:
    """Return the numbers of masks with these IoUs, none of them NaN."""
    numbers: MaskNumbers = {"images": len(ious)}
    if len(ious):
        for name, threshold in AP_THRESHOLDS.items():
            numbers[name] = average_precision(ious, threshold)
        numbers["mean_IoU"] = float(ious.mean())
    return numbers


def _row_means(values: np.ndarray, is_counted: np.ndarray) -> np.ndarray:
    """Return the mean of the counted values of each row, (N, 21) -> (N,); NaN without any."""
    counts = is_counted.sum(axis=1)
    sums = np.where(is_counted, values, 0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _by_threshold(thresholds: Sequence[float], pck: np.ndarray) -> dict[str, float | None]:
    return {f"{threshold:g}": none_if_nan(share) for threshold, share in zip(thresholds, pck)}
