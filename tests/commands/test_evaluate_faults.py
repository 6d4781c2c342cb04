"""`python -m mcc_caffe.evaluate` on bad input: one line says what is wrong, nothing is written."""

import csv
import dataclasses
import json
import os

import cv2
import numpy as np
import pytest

from data_tools import build_lmdb
from mcc_caffe import evaluate
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.evaluation.prediction_runner import EvaluationJob, SampleId, run_models
from tests.support.commands import main_refusal, refusal, run
from tests.support.hands import hand, write_layout, write_set
from tests.support.readers import coco_content, write


@pytest.mark.parametrize(
    "content, message",
    [
        ("{cut", "is no JSON file"),
        ("[]", "has none of the 10 images"),
        ('{"name": "x", "images": {}}', "has no images"),
        ('{"name": "", "images": {"a": {}}}', "the name is ''"),
        ('{"name": null, "images": {"a": {}}}', "the name is None"),
        ('{"images": [], "annotations": []}', "its images are a list, as in COCO labels: give {"),
        ('{"name": "a\\nb", "images": {"a": {}}}', "the name is 'a\\nb': one that can be pr"),
        (
            '{"name": "x", "images": {"a": []}}',
            "image 'a' has list: keypoints and mask are what it may have",
        ),
        ('{"name": "x", "images": {"a": {"points": 1}}}', "image 'a' has points"),
        (
            '{"name": "x", "images": {"a": {"keypoints": [[1, 2, 3]]}}}',
            "the keypoints of image 'a' are no 21 x",
        ),
        (
            '{"name": "x", "images": {"a": {"keypoints": 3}}}',
            "the keypoints of image 'a' are no 21 x",
        ),
        (
            json.dumps({"name": "x", "images": {"a": {"keypoints": [[1, 2]] * 21}}}),
            "the keypoints of image 'a' are no 21 x",
        ),
        (
            json.dumps({"name": "x", "images": {"a": {"keypoints": [[1, 2, None]] * 21}}}),
            "the keypoints of image 'a' are no 21 x",
        ),
        (
            json.dumps({"name": "x", "images": {"a": {"keypoints": [[1, float("inf"), 1]] * 21}}}),
            "the keypoints of image 'a' are no 21 x",
        ),
        ('{"name": "x", "images": {"a": {"mask": 3}}}', "the mask of image 'a' is 3"),
        (
            '{"name": "x", "images": {"other": {}}}',
            "has none of the 10 images: it has keys like 'other'; give keys like '00000000_drawn0.",
        ),
        (
            '{"name": "x", "images": {"00000000_drawn0.jpg": {"mask": "none.png"}}}',
            "none.png was not found",
        ),
        (
            '{"name": "x", "images": {"00000000_drawn0.jpg": {"mask": "small.png"}}}',
            "the mask is 5 x 4, the image 100 x 140",
        ),
        (
            '{"name": "x", "images": {"00000000_drawn0.jpg": {"mask": "x.json"}}}',
            "cannot be decoded: not a readable image (68 bytes): damaged, or of an unknown format; "
            "the image is 100 x 140",
        ),
    ],
)
def test_a_bad_predictions_file_is_named_and_nothing_is_written(
    drawn_set, tmp_path, content, message
):
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((4, 5), np.uint8))
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError) as error:
        evaluate.main(
            [
                str(drawn_set),
                "--predictions",
                str(tmp_path / "x.json"),
                "--out",
                str(tmp_path / "out"),
                "--processes",
                "1",
            ]
        )
    assert message in str(error.value) and str(tmp_path) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_predictions_that_match_no_image_are_told_also_when_quiet(drawn_set, tmp_path):
    points = [[10.0 * number, 20.0, 0.9] for number in range(21)]
    images = {key: {"keypoints": points} for key in ("00000000_drawn0.jpg", "typo.jpg")}
    (tmp_path / "x.json").write_text(json.dumps({"name": "x", "images": images}))
    done = run(
        *("mcc_caffe.evaluate", drawn_set, "--predictions", tmp_path / "x.json"),
        *("--processes", "1", "--out", tmp_path / "out", "--quiet"),
    )
    assert done.returncode == 0 and done.stderr == (
        f"warning: {tmp_path}/x.json: 1 of its 2 images are none of those that are measured, "
        "such as 'typo.jpg'\n"
    )


def test_a_hand_that_looks_like_shares_is_warned_of_once(drawn_set, tmp_path):
    points = [[10.0 * number, 20.0, 0.9] for number in range(21)]
    keys = [f"{number:08}_drawn{number}.jpg" for number in range(3)]
    images = {key: {"keypoints": points} for key in keys}
    images[keys[1]] = {"keypoints": [[x / 200, y / 200, 0.9] for x, y, _ in points]}
    (tmp_path / "x.json").write_text(json.dumps({"name": "x", "images": images}))
    done = run(
        *("mcc_caffe.evaluate", drawn_set, "--predictions", tmp_path / "x.json"),
        *("--processes", "2", "--out", tmp_path / "out", "--quiet"),
    )
    assert done.returncode == 0 and done.stderr == (
        f"warning: {tmp_path}/x.json: all keypoints of 1 of 3 hands (first in image {keys[1]!r}) "
        "lie between -2 and 2, as shares of the image's sides do: pixels are needed, multiply them "
        "by the image's width and height (they were taken as pixels)\n"
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{tmp}/none", "--weights", "{weights}"], "{tmp}/none was not found"),
        (["{data}", "--weights", "{tmp}/none"], "the weights file {tmp}/none was not found"),
        (["{data}", "--weights", "{weights}", "{weights}"], "two models are called random"),
        (
            ["{data}", "--weights", "{weights}", "--prototxt", "{tmp}/none"],
            "the deploy net {tmp}/none was not found",
        ),
        (
            ["{data}", "--weights", "{weights}", "--variant", "paper"],
            "does not fit the net: layer conv1_1 is",
        ),
        (["{data}", "--weights", "{weights}", "--split", "test"], "--split test: {data} has drawn"),
        (
            ["{data}", "--predictions", "{tmp}/none"],
            "the predictions file {tmp}/none was not found",
        ),
        (
            ["{data}", "--weights", "{weights}", "--out", "{weights}"],
            "--out {weights} is a file: give a folder",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message, drawn_set, weights, tmp_path):
    paths = dict(tmp=tmp_path, data=drawn_set, weights=weights)
    with pytest.raises(UserError) as error:
        evaluate.main(
            [
                "--out",
                str(tmp_path / "out"),
                "--processes",
                "1",
                *(argument.format(**paths) for argument in arguments),
            ]
        )
    assert message.format(**paths) in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--thresholds", "0"],
        ["--thresholds", "nan"],
        ["--limit", "0"],
        ["--processes", "0"],
        ["--levels", "-1"],
    ],
)
def test_numbers_out_of_range_are_refused(options):
    assert " above 0" in main_refusal(evaluate.main, "set", *options)


def test_equal_thresholds_are_refused():
    line = main_refusal(evaluate.main, "set", "--thresholds", 0.1, 0.2, "0.10")
    assert "--thresholds 0.1 0.2 0.1: give different ones" in line


def test_two_choices_of_the_deploy_net_are_refused():
    line = main_refusal(evaluate.main, "set", "--without", "pose", "--prototxt", "own.prototxt")
    assert "--prototxt own.prototxt with --without pose: either" in line


def test_a_result_that_would_count_for_two_images_is_named(tmp_path, capsys):
    """OpenPose's own files say neither the folder nor the suffix of their image."""
    source = write_layout(tmp_path / "set", {"Test": [hand(1)], "Train": [hand(1), hand(2)]})
    for number in (1, 2):
        points = np.column_stack([hand(number).keypoints[:, :2], np.full(21, 0.9)])
        people = [{"hand_right_keypoints_2d": points.ravel().tolist()}]
        path = tmp_path / f"results/{number}_keypoints.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"version": 1.3, "people": people}))
    command = [str(source), "--predictions", str(path.parent), "--processes", "1"]
    command += ["--out", str(tmp_path / "out"), "--split", "Train"]
    message = "results: 1 may be the image 'Train_1.jpg' or 'Test_1.jpg': put its folder before"
    with pytest.raises(UserError, match=message):
        evaluate.main([*command, "Test"])
    assert not (tmp_path / "out").exists()
    evaluate.main(command)
    assert "results" in capsys.readouterr().out


def test_an_image_without_result_gets_none_of_another_folder_in_an_lmdb_set(tmp_path):
    """As in its source, whose splits the keys name."""
    source, results, out = tmp_path / "set", tmp_path / "results", tmp_path / "out"
    for split, folder, number in (("hands_train", "b", 1), ("hands_test", "a", 2)):
        content = coco_content([hand(number)])
        content["images"][0]["file_name"] = f"{folder}/1.jpg"
        write(source / "images" / folder / "1.jpg", hand(number).image_bytes)
        write(source / "annotations" / f"{split}.json", content)
    build_lmdb.main([str(source), str(tmp_path / "lmdb"), "--split", "0/2"])
    points = [
        {"name": name, "x": x, "y": y, "confidence": 0.9}
        for name, (x, y, _) in zip(NAMES, hand(1).keypoints.tolist())
    ]
    report = {"program": "x", "image": "b/1.jpg", "score": 0.9, "keypoints": points}
    write(results / "1.json", report)
    command = ["--predictions", str(results), "--processes", "1", "--out", str(out)]
    for data in ("set", "lmdb"):
        splits = ["hands_train", "hands_test"] if data == "set" else ["validation"]
        evaluate.main([str(tmp_path / data), "--split", *splits, *command])
        lines = list(csv.DictReader((out / "images.csv").read_text().splitlines()))
        predicted = {line["key"].partition("hands_")[2]: line["predicted"] for line in lines}
        assert predicted == {"train_b_1.jpg_70": "21", "test_a_1.jpg_70": "0"}


class Killed:
    """A predictor whose process ends, as one that lacks memory does."""

    def load(self, splits, set_path):
        return lambda sample: os._exit(9)


def test_a_process_that_dies_is_named(drawn_set):
    job = EvaluationJob(drawn_set, (Killed(),))
    sample_ids = [SampleId("drawn", 0), SampleId("drawn", 1)]
    with pytest.raises(UserError, match="a worker process ended by itself.*fewer --processes"):
        run_models(job, sample_ids, 2)


def test_a_bad_sample_in_a_worker_process_gives_one_line(drawn_samples, weights, tmp_path):
    """The third image cannot be decoded."""
    samples = list(drawn_samples[:4])
    samples[2] = dataclasses.replace(samples[2], image_bytes=b"no image")
    data, out = write_set(tmp_path / "set", samples), tmp_path / "out"
    done = run(
        *("mcc_caffe.evaluate", data, "--weights", weights, "--levels", 1),
        *("--processes", 2, "--out", out, "--quiet"),
    )
    assert refusal(done).startswith(
        "error: 00000002_drawn2.jpg: the image (8 bytes) cannot be decoded: "
    )
    assert not out.exists()
