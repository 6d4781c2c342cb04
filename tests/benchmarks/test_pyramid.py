"""The figures of `python -m benchmarks.pyramid`."""

import pytest

from benchmarks import hands, pyramid
from benchmarks.pyramid import HEATMAPS, INPUTS, KEYPOINTS, MASK, NETWORK, PNG, READ, REST, STEPS
from benchmarks.timing import StepTimer
from mcc_caffe.paper import MINI
from mcc_caffe.predictor import HandPredictor

SECONDS = {step: 0.001 for step in STEPS} | {INPUTS: 0.002, NETWORK: 0.1, KEYPOINTS: 0.005}


def test_what_else_predict_does_as_a_share_of_the_network():
    assert pyramid.rest_share(SECONDS | {REST: 0.003}) == pytest.approx(0.1)


def test_the_steps_of_predict_make_up_its_time(monkeypatch):
    """The stand-in says that `predict` took 100 s, and the network 60 s of them."""
    predictor, timer = HandPredictor(levels=1), StepTimer(STEPS)
    predict = predictor.predict

    def predict_slowly(image):
        pose = predict(image)
        pose.timings.update(total=100.0, network=60.0)
        return pose

    monkeypatch.setattr(predictor, "predict", predict_slowly)
    assert pyramid.time_steps(predictor, hands.example_jpeg(), timer) == 1
    steps = timer.medians()
    assert list(steps) == list(STEPS) and steps[NETWORK] == 60
    of_predict = (INPUTS, NETWORK, KEYPOINTS, REST)
    assert sum(steps[step] for step in of_predict) == pytest.approx(100)
    assert all(0 < steps[step] < 10 for step in (READ, INPUTS, KEYPOINTS, MASK, HEATMAPS, PNG))


def test_the_first_image_of_a_case_does_not_count(tmp_path, monkeypatch):
    """It takes 100 s in each step of the stand-in, the others 1 s."""
    calls = []

    def time_steps(predictor, jpeg, timer):
        calls.append(timer)
        for step in STEPS:
            timer.seconds[step].append(100.0 if len(calls) == 1 else 1.0)
        return 19

    monkeypatch.setattr(pyramid, "time_steps", time_steps)
    monkeypatch.setattr(pyramid, "peak_mib", lambda *arguments: 64.0)
    column = pyramid.measure(pyramid.Case(MINI, 1, repeats=1, images=0), tmp_path)
    assert column["seconds"] == dict.fromkeys(STEPS, 1.0) and column["rest_share"] == 3
    assert column["levels"] == 19 and column["folder_seconds"] is None


def test_the_table_by_hand():
    column = {"variant": "mini", "seconds": SECONDS, "rest_share": 0.071, "peak_mib": 167.6}
    columns = [
        {**column, "levels": 1, "folder_seconds": 0.0545},
        {**column, "levels": 19, "folder_seconds": None},
    ]
    heading, _, *lines = pyramid.table(columns).splitlines()
    assert heading == "| ms an image | mini, 1 level | mini, 19 levels |"
    assert lines[0] == "| reading the JPEG | 1.0 | 1.0 |"
    assert lines[2] == "| network | 100.0 | 100.0 |"
    assert lines[len(STEPS) :] == [
        "| predict without the network, of the network | 7.1 % | 7.1 % |",
        "| an image of a folder, all steps | 54.5 |  |",
        "| most memory, MiB | 168 | 168 |",
    ]
