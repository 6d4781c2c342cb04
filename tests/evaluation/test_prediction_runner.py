"""What is made of the answers of the compared models, sample by sample."""

import logging

import cv2
import numpy as np
import pytest

from mcc_caffe.core.errors import SampleError
from mcc_caffe.evaluation.prediction_runner import EvaluationJob, SampleId, run_models
from mcc_caffe.evaluation.predictions_file import HandPrediction
from tests.support.hands import hand, write_set, write_unchecked_set


class FixedAnswer:
    """A model that has the same answer for every sample."""

    def __init__(self, keypoints=None, mask=None):
        self.prediction = HandPrediction(keypoints, mask)

    def load(self, splits, set_path):
        return lambda sample: self.prediction


def test_a_predicted_mask_is_compared_where_the_sample_has_one(tmp_path):
    folder = write_set(tmp_path / "set", [hand(2, mask_png=None), hand(1)])
    keypoints, mask = np.ones((21, 3)), hand(1).mask() > 0
    half = mask & (np.cumsum(mask).reshape(mask.shape) <= mask.sum() // 2)
    models = FixedAnswer(mask=mask), FixedAnswer(keypoints, half), FixedAnswer(keypoints)
    sample_ids = [SampleId("set", 1), SampleId("set", 0)]
    first, second = run_models(EvaluationJob(folder, models), sample_ids, 1)
    assert (first.key, first.has_mask) == ("00000001_1.jpg", True)
    assert (second.key, second.has_mask) == ("00000000_2.jpg", False)
    assert not (first.is_turned or second.is_turned)
    ious = [prediction.iou for prediction in first.predictions]
    assert ious == [1, pytest.approx(0.5, abs=0.01), None]
    assert [prediction.iou for prediction in second.predictions] == [None, None, None]
    for sample in (first, second):
        full, _, nothing = (prediction.mask_png for prediction in sample.predictions)
        decoded = cv2.imdecode(np.frombuffer(full, np.uint8), cv2.IMREAD_UNCHANGED)
        assert nothing is None and (decoded == 255 * mask).all()
        answers = [prediction.keypoints for prediction in sample.predictions]
        assert answers[0] is None and answers[1] is answers[2] is keypoints


def test_a_true_mask_of_another_size_is_named(tmp_path):
    small = cv2.imencode(".png", np.zeros((4, 5), np.uint8))[1].tobytes()
    folder = write_unchecked_set(tmp_path / "set", [hand(1, mask_png=small)])
    with pytest.raises(SampleError, match="mask is 5 x 4, the image "):
        run_models(EvaluationJob(folder, ()), [SampleId("set", 0)], 1)


def test_readers_warn_again_after_an_evaluation(tmp_path):
    folder = write_set(tmp_path / "set", [hand(1)])
    run_models(EvaluationJob(folder, ()), [SampleId("set", 0)], 1)
    for name in ("data_tools.readers", "mcc_caffe.inference.formats"):
        assert logging.getLogger(name).isEnabledFor(logging.WARNING)
