"""Predictions that are written to a file and read again."""

import numpy as np

from mcc_caffe.evaluation.predictions_file import PredictionsFile, write_predictions


def test_predictions_come_back_as_they_were_written(tmp_path):
    keypoints = np.random.default_rng(0).uniform(0, 500, (21, 3))
    keypoints[4] = np.nan
    write_predictions(tmp_path / "x.json", "a name", {"key": keypoints})
    file = PredictionsFile(tmp_path / "x.json")
    assert file.name == "a name"
    entry = file.images["key"]
    assert np.array_equal(entry.keypoints, keypoints, equal_nan=True) and entry.mask_path is None
