"""The scores of one model, computed by hand."""

import numpy as np
import pytest

from mcc_caffe.evaluation.model_scores import score_model
from mcc_caffe.evaluation.prediction_runner import ScoredPrediction
from tests.support.evaluation import LINE, UNLABELLED, evaluated_sample


def test_scores_by_hand():
    """The keypoints are 30 px off in a box of 100; one sample lacks labels and mask.

    In the third sample the model predicts 10 keypoints, in the fourth nothing, and in the fifth
    none of the 21.
    """
    predicted = np.column_stack([LINE[:, 0], np.full(21, 30.0), np.linspace(0, 1, 21)])
    ten_predicted = predicted.copy()
    ten_predicted[10:] = np.nan
    scores = score_model(
        [
            evaluated_sample(LINE, predicted),
            evaluated_sample(UNLABELLED, predicted, has_mask=False),
            evaluated_sample(LINE, ten_predicted),
            evaluated_sample(LINE, None),
            evaluated_sample(LINE, np.full((21, 3), np.nan)),
        ],
        0,
    )
    assert (scores.distances[0] == 30).all()
    assert np.isnan(scores.distances[1]).all()
    assert np.isinf(scores.distances[3:]).all()
    confidences = [0.5, 0.5, np.linspace(0, 1, 21)[:10].mean()]
    assert scores.confidences[:3] == pytest.approx(confidences)
    assert np.isnan(scores.confidences[3:]).all()
    assert scores.has_no_prediction.tolist() == [False, False, False, True, True]
    assert scores.ious is None
    columns = scores.image_columns([0.2, 0.4])
    assert columns["pck_0.4"][[0, 2, 3]] == pytest.approx([1, 10 / 21, 0])
    assert np.isnan(columns["pck_0.4"][1])
    assert columns["error"][[0, 2, 3]] == pytest.approx([0.3, (10 * 0.3 + 11) / 21, 1])
    assert np.isnan(columns["error"][1])
    assert np.isnan(columns["box_px"][1])
    assert (columns["mean_error_px"][[0, 2]] == 30).all()  # of the keypoints that were predicted
    assert np.isnan(columns["mean_error_px"][[1, 3, 4]]).all()
    assert columns["keypoints"].tolist() == [21, 0, 21, 21, 21]


def test_scores_of_masks_by_hand():
    """The model has a mask for the first and the third sample; the third has no true mask."""
    scores = score_model(
        [
            evaluated_sample(LINE, None, b"mask", 0.25),
            evaluated_sample(LINE, None),
            evaluated_sample(LINE, None, b"mask", None, has_mask=False),
        ],
        0,
    )
    assert scores.distances is None
    assert scores.ious[:2].tolist() == [0.25, 0] and np.isnan(scores.ious[2])
    assert scores.image_columns([])["error"][:2].tolist() == [0.75, 1]
    assert scores.summarise([0.1])["mask"] == {
        "images": 2,
        "AP50": 0,
        "AP75": 0,
        "AP80": 0,
        "mean_IoU": 0.125,
    }


def test_a_model_that_predicts_nothing_has_missed_every_keypoint():
    samples = [evaluated_sample(LINE, LINE, b"mask", 0.75), evaluated_sample(UNLABELLED, None)]
    for sample in samples:
        sample.predictions.append(ScoredPrediction(None, None, None))
    scores = score_model(samples, 1)
    assert scores.has_no_prediction.all() and scores.ious is None
    numbers = scores.summarise([0.2])
    assert numbers["keypoints"] == numbers["keypoints_not_predicted"] == 21
    assert numbers["paper"]["PCK"]["values"] == {"0.2": 0} and "mask" not in numbers
    assert scores.image_columns([0.2])["error"][0] == 1


def test_each_predictor_has_its_own_scores_and_parts_can_be_selected():
    samples = [evaluated_sample(LINE, LINE), evaluated_sample(LINE, None)]
    for sample in samples:
        sample.predictions.append(ScoredPrediction(LINE, b"mask", 0.75))
    first, second = score_model(samples, 0), score_model(samples, 1)
    assert first.has_no_prediction.tolist() == [False, True] and first.ious is None
    assert (second.distances == 0).all() and second.ious.tolist() == [0.75, 0.75]
    selected = first.select(np.array([False, True]))
    assert selected.has_no_prediction.tolist() == [True] and selected.ious is None
    assert np.isinf(selected.distances).all() and selected.box_sizes.tolist() == [100]


def test_groups_are_the_keypoints_of_fig_9():
    """Only the fingertips are wrong."""
    predicted = LINE.copy()
    predicted[[4, 8, 12, 16, 20], 1] = 99
    shares = score_model([evaluated_sample(LINE, predicted)], 0).group_pck([0.5])
    assert {name: value.tolist() for name, value in shares.items()} == {
        "all": [16 / 21],
        "wrist": [1],
        "knuckles": [1],
        "PIP": [1],
        "DIP": [1],
        "fingertips": [0],
    }
