"""Writes an evaluation as JSON, Markdown tables, CSV and a sheet of the worst images."""

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from mcc_caffe.core.hand import GROUPS
from mcc_caffe.core.markdown import markdown_table, number_cell
from mcc_caffe.data import sheet
from mcc_caffe.data.samples import Sample
from mcc_caffe.evaluation.metrics import PROTOCOLS, ProtocolName
from mcc_caffe.evaluation.model_scores import (
    AP_THRESHOLDS,
    ModelScores,
    ProtocolNumbers,
    SetNumbers,
    none_if_nan,
)
from mcc_caffe.evaluation.prediction_runner import EvaluatedSample, ScoredPrediction

RESULTS, IMAGES = "results.json", "images.csv"  # files of an evaluation
WORST = 32  # images on a sheet: a page of pairs
_CAPTION_LINES = 3


class ModelResults(TypedDict, total=False):
    """What results.json says of one model. A network has weights, prototxt, engine, levels, looks
    and search.

    predictions: path of the file of another system's predictions. weights: as
    `caffe_io.weights.describe` returns it. prototxt: path of the deploy net. search: whether an
    image is searched where the looks show no hand. sets: {name of the set: its numbers}.
    """

    name: str
    predictions: str
    weights: dict[str, Any]
    prototxt: str
    engine: str
    levels: int | str | None
    looks: int | None
    search: bool
    sets: dict[str, SetNumbers]


# One line of a table: (names of model and set, numbers of the model on that set).
_Row = tuple[list[str], SetNumbers]


def to_json(results: Mapping[str, Any]) -> bytes:
    """Return the results as indented JSON, with each list of numbers on one line."""
    text = json.dumps(results, indent=1)
    text = re.sub(r'\[\n[^][{}"]*\]', lambda numbers: " ".join(numbers[0].split()), text)
    return text.encode() + b"\n"


def markdown_tables(models: Sequence[ModelResults]) -> str:
    """Return the models' numbers as Markdown tables, with a line for each model and set.

    A model is left out of the tables for which it has no numbers.
    """
    rows: list[_Row] = [
        ([model["name"], set_name], numbers)
        for model in models
        for set_name, numbers in model["sets"].items()
    ]
    keypoint_rows = [row for row in rows if "paper" in row[1]]
    mask_rows = [row for row in rows if "mask" in row[1] and row[1]["mask"]["images"]]
    parts = []
    if keypoint_rows:
        parts += [_keypoint_table(protocol, keypoint_rows) for protocol in PROTOCOLS]
        parts.append(_group_table(keypoint_rows))
    if mask_rows:
        parts.append(_mask_table(mask_rows))
    parts += [
        f"{', '.join(names)}: {numbers['images_without_prediction']} of {numbers['images']} "
        "images have no prediction and count as wrong."
        for names, numbers in rows
        if numbers["images_without_prediction"]
    ]
    parts += [
        f"{', '.join(names)}: {numbers['keypoints_without_box']} of {numbers['keypoints']} "
        "keypoints are in images whose labels give no box: PCK and the AUC of `paper` leave them "
        "out."
        for names, numbers in keypoint_rows
        if numbers["keypoints_without_box"]
    ]
    return "\n".join(parts)


def _keypoint_table(protocol: ProtocolName, rows: list[_Row]) -> str:
    first = rows[0][1][protocol]
    columns = ["keypoints", "predicted"]
    columns += [f"PCK@{threshold}" for threshold in first["PCK"]["values"]]
    columns += ["AUC", "EPE"] if "EPE" in first else ["AUC"]
    lines = []
    for names, numbers in rows:
        under_protocol = numbers[protocol]
        line = [
            *names,
            str(numbers["keypoints"]),
            str(numbers["keypoints"] - numbers["keypoints_not_predicted"]),
            *(number_cell(share, 3) for share in under_protocol["PCK"]["values"].values()),
            number_cell(under_protocol["AUC"]["value"], 3),
        ]
        if "EPE" in under_protocol:
            line.append(number_cell(under_protocol["EPE"]["value"], 2))
        lines.append(line)
    return _table(
        f"Keypoints, protocol `{protocol}`. {_conditions_text(first)}",
        columns,
        lines,
    )


def _conditions_text(numbers: ProtocolNumbers) -> str:
    """Return the conditions of PCK, AUC and EPE as sentences."""
    pck, auc = numbers["PCK"], numbers["AUC"]
    text = (
        f"PCK: distance / {pck['normaliser']} {pck['comparison']} threshold, {pck['average']}. "
        f"AUC: distance / {auc['normaliser']} {auc['comparison']} threshold, {auc['average']}, "
        f"thresholds {auc['thresholds']}."
    )
    if "EPE" in numbers:
        text += f" EPE: {numbers['EPE']['unit']}, {numbers['EPE']['average']}."
    return text


def _group_table(rows: list[_Row]) -> str:
    threshold = list(rows[0][1]["paper"]["PCK"]["values"])[-1]
    lines = [
        [
            *names,
            *(number_cell(numbers["paper"]["groups"][group][threshold], 3) for group in GROUPS),
        ]
        for names, numbers in rows
    ]
    title = f"PCK@{threshold} of the groups of Fig. 9, protocol `paper`."
    return _table(title, list(GROUPS), lines)


def _mask_table(rows: list[_Row]) -> str:
    lines = [
        [
            *names,
            str(numbers["mask"]["images"]),
            *(number_cell(100 * numbers["mask"][name], 1) for name in AP_THRESHOLDS),
            number_cell(numbers["mask"]["mean_IoU"], 3),
        ]
        for names, numbers in rows
    ]
    title = "Masks. AP: the images, in percent, whose IoU reaches the threshold (Table 1)."
    return _table(title, ["images", *AP_THRESHOLDS, "mean IoU"], lines)


def _table(title: str, columns: list[str], lines: list[list[str]]) -> str:
    return f"{title}\n\n{markdown_table(['model', 'set', *columns], lines)}\n"


def images_csv(
    samples: list[EvaluatedSample], scores: dict[str, ModelScores], thresholds: Sequence[float]
) -> bytes:
    """Return a CSV file with a line for each sample and model; undefined values are empty.

    Args:
        samples: The N evaluated samples.
        scores: {name of the model: its scores of the N samples}.
        thresholds: Shares of the box, for the columns of PCK.
    """
    columns = {model: result.image_columns(thresholds) for model, result in scores.items()}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["set", "key", "model", *next(iter(columns.values()))])
    for row, sample in enumerate(samples):
        for model, model_columns in columns.items():
            values = [none_if_nan(column[row]) for column in model_columns.values()]
            table.writerow([sample.id.split, sample.key, model, *values])
    return text.getvalue().encode()


def worst_tiles(
    samples: list[EvaluatedSample],
    scores: ModelScores,
    model_index: int,
    load_sample: Callable[[EvaluatedSample], Sample],
) -> list[np.ndarray]:
    """Draw the samples with the largest error, the worst first: truth beside prediction.

    Args:
        samples: The N evaluated samples.
        scores: One model's scores of the N samples.
        model_index: Index of the model in each sample's predictions.
        load_sample: Loads the sample with its image.

    Returns:
        At most WORST tiles, as `sheet.make_page_files` takes them.
    """
    columns = scores.image_columns([])
    order = [
        row
        for row in np.argsort(-columns["error"], kind="stable")
        if not np.isnan(columns["error"][row])
    ]
    tiles = []
    for row in order[:WORST]:
        sample = load_sample(samples[row])
        predicted = replace_truth(sample, samples[row].predictions[model_index])
        gap = sheet.empty_tile(width=sheet.GAP)
        pair = np.hstack([sheet.sample_tile(sample), gap, sheet.sample_tile(predicted)])
        caption = f"truth | prediction: {_error_text(columns, row)}"
        tiles.append(sheet.captioned(pair, samples[row].key, caption, lines=_CAPTION_LINES))
    return tiles


def _error_text(columns: dict[str, np.ndarray], row: int) -> str:
    """Say how wrong one prediction is. columns: as `ModelScores.image_columns` returns them."""
    texts = []
    pixels = columns["mean_error_px"][row]
    if not np.isnan(pixels):
        texts.append(f"error {columns['error'][row]:.2f} of the box ({pixels:.0f} px)")
        lacking = columns["keypoints"][row] - columns["predicted"][row]
        texts += [f"{lacking} keypoints not predicted"] if lacking > 0 else []
    if not np.isnan(columns["iou"][row]):
        texts.append(f"IoU {columns['iou'][row]:.2f}")
    return ", ".join(texts) or "none"


def replace_truth(sample: Sample, prediction: ScoredPrediction) -> Sample:
    """Return the sample with the predicted keypoints and mask in the place of the true ones."""
    keypoints = np.tile(np.array([-1, -1, 0], np.float32), (len(sample.keypoints), 1))
    if prediction.keypoints is not None:
        given = ~np.isnan(prediction.keypoints[:, 0])
        keypoints[given] = np.column_stack([prediction.keypoints[given, :2], np.ones(given.sum())])
    return dataclasses.replace(sample, mask_png=prediction.mask_png, keypoints=keypoints)
