"""What follows from what was found, by hand, and how it is told."""

import json

import numpy as np
import pytest

from mcc_caffe.evaluation.evaluation_report import as_json, tables
from mcc_caffe.evaluation.metrics import keypoint_distances
from mcc_caffe.evaluation.model_scores import outcome
from mcc_caffe.evaluation.prediction_runner import Found, Seen
from mcc_caffe.evaluation.predictions_file import Predictions, write_predictions


def seen(truth, keypoints, mask_png=None, overlap=None, has_mask=True) -> Seen:
    return Seen("set", 0, "key", truth, has_mask, [Found(keypoints, mask_png, overlap)])


def test_an_outcome_by_hand():
    """Two samples of a box of 100: one 30 px off in all joints, one without labels and mask; and what the worst are sorted by."""
    truth = np.column_stack([np.linspace(0, 100, 21), np.zeros(21), np.ones(21)])
    unlabelled = np.tile([-1.0, -1.0, 0.0], (21, 1))
    found = np.column_stack([truth[:, 0], np.full(21, 30.0), np.linspace(0, 1, 21)])
    half = found.copy()
    half[10:] = np.nan
    result = outcome(
        [
            seen(truth, found),
            seen(unlabelled, found, has_mask=False),
            seen(truth, half),
            seen(truth, None),
        ],
        0,
    )
    assert (
        np.isnan(result.distances[1]).all()
        and (result.distances[0] == 30).all()
        and np.isinf(result.distances[3]).all()
    )
    assert result.confidences[:3] == pytest.approx(
        [0.5, 0.5, np.linspace(0, 1, 21)[:10].mean()]
    ) and np.isnan(result.confidences[3])
    assert result.missing.tolist() == [False, False, False, True] and result.ious is None
    columns = result.by_image([0.2, 0.4])
    assert columns["pck_0.4"][[0, 2, 3]] == pytest.approx([1, 10 / 21, 0]) and np.isnan(
        columns["pck_0.4"][1]
    )
    assert columns["error"][[0, 2, 3]] == pytest.approx(
        [0.3, (10 * 0.3 + 11) / 21, 1]
    ) and np.isnan(columns["error"][1])
    assert np.isnan(columns["box_px"][1]) and columns["keypoints"].tolist() == [21, 0, 21, 21]
    masks = outcome(
        [
            seen(truth, None, b"mask", 0.25),
            seen(truth, None),
            seen(truth, None, b"mask", None, has_mask=False),
        ],
        0,
    )
    assert (
        masks.distances is None and masks.ious[:2].tolist() == [0.25, 0] and np.isnan(masks.ious[2])
    )
    assert masks.by_image([])["error"][:2].tolist() == [0.75, 1]
    assert masks.numbers([0.1])["mask"] == {
        "images": 2,
        "AP50": 0,
        "AP75": 0,
        "AP80": 0,
        "mean_IoU": 0.125,
    }


def test_groups_are_the_joints_of_fig_9():
    """Only the fingertips are wrong."""
    truth = np.column_stack([np.linspace(0, 100, 21), np.zeros(21), np.ones(21)])
    found = truth.copy()
    found[[4, 8, 12, 16, 20], 1] = 99
    shares = outcome([seen(truth, found)], 0).group_pck([0.5])
    assert {name: value.tolist() for name, value in shares.items()} == {
        "all": [16 / 21],
        "wrist": [1],
        "knuckles": [1],
        "PIP": [1],
        "DIP": [1],
        "fingertips": [0],
    }


def test_predictions_come_back_as_they_were_written(tmp_path):
    keypoints = np.random.default_rng(0).uniform(0, 500, (21, 3))
    keypoints[4] = np.nan
    write_predictions(tmp_path / "x.json", "a name", {"key": keypoints})
    read = Predictions(tmp_path / "x.json")
    assert (
        read.name == "a name"
        and np.array_equal(read.images["key"][0], keypoints, equal_nan=True)
        and read.images["key"][1] is None
    )


def test_results_are_json_with_a_list_of_numbers_in_a_line():
    content = {"name": "a [b\n  c]", "values": [0.5, None, 1.0], "models": [{"x": 1}], "none": []}
    text = as_json(content).decode()
    assert json.loads(text) == content and '"values": [ 0.5, null, 1.0 ]' in text


def test_tables_of_no_labels_have_dashes():
    unlabelled = np.tile([-1.0, -1.0, 0.0], (21, 1))
    result = outcome([seen(unlabelled, np.ones((21, 3)), has_mask=False)], 0)
    printed = tables([{"name": "net", "sets": {"set": result.numbers([0.2])}}])
    assert "| net | set | 0 | 0 | - | - | - |" in printed and "nan" not in printed
    assert not np.isfinite(keypoint_distances(np.ones((1, 21, 3)), unlabelled[None])).any()
