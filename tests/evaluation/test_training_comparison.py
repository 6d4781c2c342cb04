"""What an evaluation wrote of several trainings is read as each training's own."""

import csv
import json

import pytest

from mcc_caffe.evaluation.ablation_report import MEAN_IOU
from mcc_caffe.evaluation.training_comparison import read_results


def test_each_training_has_the_numbers_and_ious_of_its_own_model(tmp_path):
    """Also where a network has no mask, and so no IoU."""
    ious = {"b": [0.25, 0.75, 0.8], "a": [0.5, 0.1, 0.3], "c": ["", "", ""]}
    models = []
    for name, values in ious.items():
        numbers = {} if "" in values else {"mask": {"images": 3, "mean_IoU": sum(values) / 3}}
        for threshold in ("AP50", "AP75", "AP80") if numbers else ():
            numbers["mask"][threshold] = 0.0
        models.append({"name": name, "sets": {"hands": numbers}})
    (tmp_path / "results.json").write_text(json.dumps({"models": models}))
    with open(tmp_path / "images.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["model", "image", "iou"])
        for index in range(3):
            rows.writerows((name, index, values[index]) for name, values in ious.items())

    trainings = [("full", 0), ("full", 5), ("without mask", 0)]
    results = read_results(tmp_path, trainings)
    assert [(result.network, result.seed) for result in results] == trainings
    assert [list(result.ious) for result in results] == [ious["b"], ious["a"], []]
    for result in results[:2]:
        assert result.ious.mean() == pytest.approx(result.mask_measures()[MEAN_IOU])
    assert not results[2].mask_measures()
