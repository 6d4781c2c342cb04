"""How an evaluation is told: JSON, Markdown tables, a CSV line for every image, and a sheet of the worst pictures."""

import csv
import dataclasses
import io
import json
import re

import numpy as np

from mcc_caffe.core.hand import GROUPS
from mcc_caffe.data import sheet
from mcc_caffe.data.samples import Sample
from mcc_caffe.evaluation.metrics import PROTOCOLS
from mcc_caffe.evaluation.model_scores import AP, Outcome, or_none
from mcc_caffe.evaluation.prediction_runner import Found

WORST = 32  # pictures on a sheet: a page of pairs
_CAPTION_LINES = 3


def as_json(results: dict) -> bytes:
    """The results as indented JSON, a list of numbers in one line."""
    text = json.dumps(results, indent=1)
    return (
        re.sub(r'\[\n[^][{}"]*\]', lambda numbers: " ".join(numbers[0].split()), text).encode()
        + b"\n"
    )


def tables(models: list) -> str:
    """Markdown tables of results.json's models, a line for each model and set; a model stands in those it has numbers for."""
    rows = [
        ([model["name"], where], numbers)
        for model in models
        for where, numbers in model["sets"].items()
    ]
    posed = [row for row in rows if "paper" in row[1]]
    masked = [row for row in rows if row[1].get("mask", {}).get("images")]
    found = [_keypoint_table(protocol, posed) for protocol in PROTOCOLS if posed]
    found += ([_group_table(posed)] if posed else []) + ([_mask_table(masked)] if masked else [])
    lacks = [
        f"{', '.join(names)}: {lacking} of {numbers['images']} images have no prediction and count as wrong."
        for names, numbers in rows
        if (lacking := numbers["images_without_prediction"])
    ]
    return "\n".join(found + lacks)


def _keypoint_table(protocol: str, rows: list) -> str:
    first = rows[0][1][protocol]
    kinds = [kind for kind in ("PCK", "AUC", "EPE") if kind in first]
    notes = [
        f"{kind}: {', '.join(text for what, text in first[kind].items() if 'value' not in what)}."
        for kind in kinds
    ]
    lines = [
        [
            *names,
            numbers["keypoints"],
            numbers["keypoints"] - numbers["keypoints_not_predicted"],
            *(_shown(value, 3) for value in numbers[protocol]["PCK"]["values"].values()),
            *(
                _shown(numbers[protocol][kind]["value"], 2 if kind == "EPE" else 3)
                for kind in kinds[1:]
            ),
        ]
        for names, numbers in rows
    ]
    columns = [
        "keypoints",
        "predicted",
        *(f"PCK@{threshold}" for threshold in first["PCK"]["values"]),
        *kinds[1:],
    ]
    return _table(f"Keypoints, protocol `{protocol}`. {' '.join(notes)}", columns, lines)


def _group_table(rows: list) -> str:
    threshold = list(rows[0][1]["paper"]["PCK"]["values"])[-1]
    lines = [
        [*names, *(_shown(numbers["paper"]["groups"][group][threshold], 3) for group in GROUPS)]
        for names, numbers in rows
    ]
    return _table(
        f"PCK@{threshold} of the groups of Fig. 9, protocol `paper`.", list(GROUPS), lines
    )


def _mask_table(rows: list) -> str:
    lines = [
        [
            *names,
            numbers["mask"]["images"],
            *(_shown(100 * numbers["mask"][name], 1) for name in AP),
            _shown(numbers["mask"]["mean_IoU"], 3),
        ]
        for names, numbers in rows
    ]
    return _table(
        "Masks. AP: the images, in percent, whose IoU reaches the threshold (Table 1).",
        ["images", *AP, "mean IoU"],
        lines,
    )


def _table(title: str, columns: list, lines: list) -> str:
    rows = [["model", "set", *columns], ["---"] * (len(columns) + 2), *lines]
    return "\n".join([title, "", *(f"| {' | '.join(map(str, row))} |" for row in rows), ""])


def _shown(value, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def images_csv(seen: list, outcomes: dict, thresholds: list) -> bytes:
    """A CSV file with a line for each of [runner.Seen] and each model of {name: Outcome}; what does not apply is empty."""
    columns = {name: result.by_image(thresholds) for name, result in outcomes.items()}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["set", "key", "model", *next(iter(columns.values()))])
    for row, sample in enumerate(seen):
        for name, values in columns.items():
            table.writerow(
                [
                    sample.split,
                    sample.key,
                    name,
                    *(or_none(column[row]) for column in values.values()),
                ]
            )
    return text.getvalue().encode()


def worst_tiles(seen: list, result: Outcome, place: int, load) -> list:
    """Tiles of the pictures with the largest error, the worst first: truth beside prediction. load(Seen): its Sample."""
    facts = result.by_image([])
    order = [
        row
        for row in np.argsort(-facts["error"], kind="stable")
        if not np.isnan(facts["error"][row])
    ]
    tiles = []
    for row in order[:WORST]:
        sample, found = load(seen[row]), seen[row].found[place]
        pair = np.hstack(
            [
                sheet.sample_tile(sample),
                sheet.empty_tile(width=sheet.GAP),
                sheet.sample_tile(as_sample(sample, found)),
            ]
        )
        pixels, lacking = (
            facts["mean_error_px"][row],
            facts["keypoints"][row] - facts["predicted"][row],
        )
        texts = (
            []
            if np.isnan(pixels)
            else [f"error {facts['error'][row]:.2f} of the box ({pixels:.0f} px)"]
        )
        texts += [f"{lacking} keypoints not predicted"] if lacking > 0 and texts else []
        texts += [] if np.isnan(facts["iou"][row]) else [f"IoU {facts['iou'][row]:.2f}"]
        tiles.append(
            sheet.captioned(
                pair,
                seen[row].key,
                f"truth | prediction: {', '.join(texts) or 'none'}",
                lines=_CAPTION_LINES,
            )
        )
    return tiles


def as_sample(sample: Sample, found: Found) -> Sample:
    """The sample with what was found in it in the place of its truth."""
    keypoints = np.tile(np.float32([-1, -1, 0]), (len(sample.keypoints), 1))
    if found.keypoints is not None:
        given = ~np.isnan(found.keypoints[:, 0])
        keypoints[given] = np.column_stack([found.keypoints[given, :2], np.ones(given.sum())])
    return dataclasses.replace(sample, mask_png=found.mask_png, keypoints=keypoints)
