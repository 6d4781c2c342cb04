"""What one model did on the samples of an evaluation, as arrays, and the numbers that follow from them."""

import dataclasses

import numpy as np

from mcc_caffe.core.hand import GROUPS
from mcc_caffe.evaluation.metrics import (
    PROTOCOLS,
    average_precision,
    box_sizes,
    epe,
    keypoint_distances,
)
from mcc_caffe.paper import KEYPOINTS

AP = {
    f"AP{100 * threshold:.0f}": threshold for threshold in (0.5, 0.75, 0.8)
}  # IoU thresholds of Table 1
CURVE_THRESHOLDS = np.arange(201) / 200  # normalised distances, the width of Fig. 9 (a)
ALL_JOINTS = "all"  # beside the groups of Fig. 9


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of N samples. What a model that predicts such things did not predict for a sample counts as wrong.

    missing: (N,) bool, nothing at all was predicted. sizes: (N,) of the truth's boxes, pixels. distances: (N, 21), as
    `mcc_caffe.evaluation.metrics` has them, and confidences: (N,), the mean over the predicted keypoints, NaN without any; or both None: the
    model predicts no keypoints. ious: (N,), NaN where the sample has no mask; or None: the model predicts no masks.
    """

    missing: np.ndarray
    sizes: np.ndarray
    distances: np.ndarray | None
    confidences: np.ndarray | None
    ious: np.ndarray | None

    def at(self, rows: np.ndarray) -> "Outcome":
        """The outcome of some of the samples. rows: (N,) bool."""
        return Outcome(*(None if one is None else one[rows] for one in vars(self).values()))

    def group_pck(self, thresholds) -> dict:
        """{"all" and each group of Fig. 9: (T,) PCK by the paper's protocol}."""
        groups = {ALL_JOINTS: range(KEYPOINTS), **GROUPS}
        return {
            name: PROTOCOLS["paper"].pck(self.distances[:, list(joints)], self.sizes, thresholds)
            for name, joints in groups.items()
        }

    def numbers(self, thresholds) -> dict:
        """What results.json says of it; NaN is None."""
        numbers = {"images": len(self.sizes), "images_without_prediction": int(self.missing.sum())}
        if self.distances is not None:
            numbers["keypoints"] = int((~np.isnan(self.distances)).sum())
            numbers["keypoints_not_predicted"] = int(np.isinf(self.distances).sum())
            for name, protocol in PROTOCOLS.items():
                conditions = protocol.conditions()
                numbers[name] = {
                    "PCK": conditions["PCK"]
                    | {
                        "values": _table(
                            thresholds, protocol.pck(self.distances, self.sizes, thresholds)
                        )
                    },
                    "AUC": conditions["AUC"]
                    | {"value": or_none(protocol.auc(self.distances, self.sizes))},
                }
            numbers["paper"]["groups"] = {
                name: _table(thresholds, values)
                for name, values in self.group_pck(thresholds).items()
            }
            numbers["paper"]["curves"] = {
                name: list(map(or_none, values))
                for name, values in self.group_pck(CURVE_THRESHOLDS).items()
            }
            numbers["mmpose"]["EPE"] = {
                "unit": "px",
                "average": "labelled keypoints that were predicted",
                "value": or_none(epe(self.distances)),
            }
        if self.ious is not None:
            ious = self.ious[~np.isnan(self.ious)]
            numbers["mask"] = {"images": len(ious)}
            if len(ious):
                numbers["mask"] |= {
                    name: average_precision(ious, threshold) for name, threshold in AP.items()
                }
                numbers["mask"]["mean_IoU"] = float(ious.mean())
        return numbers

    def by_image(self, thresholds) -> dict:
        """{column of images.csv: (N,)}, NaN where there is none.

        `error`, by which the worst are found, lies between 0 and 1: the mean of distance over box, each at most 1, or, of a model
        without keypoints, 1 - IoU.
        """
        nothing = np.full(len(self.sizes), np.nan)
        ious = nothing if self.ious is None else self.ious
        within = [f"pck_{threshold:g}" for threshold in thresholds]
        if self.distances is None:
            columns = ("box_px", "keypoints", "predicted", *within, "mean_error_px", "confidence")
            return {**dict.fromkeys(columns, nothing), "iou": ious, "error": 1 - ious}
        scaled, labelled, predicted = (
            self.distances / self.sizes[:, None],
            ~np.isnan(self.distances),
            np.isfinite(self.distances),
        )
        return {
            "box_px": np.where(labelled.any(axis=1), self.sizes, np.nan),
            "keypoints": labelled.sum(axis=1),
            "predicted": predicted.sum(axis=1),
            **{
                name: _mean(scaled < threshold, labelled)
                for name, threshold in zip(within, thresholds)
            },
            "mean_error_px": _mean(self.distances, predicted),
            "confidence": self.confidences,
            "iou": ious,
            "error": _mean(np.minimum(scaled, 1), labelled),
        }


def outcome(seen: list, place: int) -> Outcome:
    """What the predictor at `place` did on [runner.Seen]."""
    found = [one.found[place] for one in seen]
    truth = np.stack([one.truth for one in seen]).astype(np.float64)
    distances = confidences = ious = None
    if any(one.keypoints is not None for one in found):
        nothing = np.full((KEYPOINTS, 3), np.nan)
        predicted = np.stack([nothing if one.keypoints is None else one.keypoints for one in found])
        distances = keypoint_distances(predicted, truth)
        confidences = _mean(predicted[..., 2], ~np.isnan(predicted[..., 2]))
    if any(one.mask_png is not None for one in found):
        ious = np.array(
            [(one.iou or 0.0) if sample.has_mask else np.nan for sample, one in zip(seen, found)]
        )
    missing = np.array([one.keypoints is None and one.mask_png is None for one in found])
    return Outcome(missing, box_sizes(truth), distances, confidences, ious)


def _mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(N,) mean of the values (N, 21) of each row, of those that are meant; NaN without any."""
    counts = where.sum(axis=1)
    return np.where(
        counts > 0, np.where(where, values, 0).sum(axis=1) / np.maximum(counts, 1), np.nan
    )


def _table(thresholds, values) -> dict:
    return {f"{threshold:g}": or_none(value) for threshold, value in zip(thresholds, values)}


def or_none(value):
    """A number as Python's own, None for NaN: JSON and CSV have no NaN."""
    return None if np.isnan(value) else np.asarray(value).item()
