"""`mcc_caffe.overfit` tells a run that is too short from one that learnt."""

import contextlib
import dataclasses
import os
import pathlib
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from mcc_caffe import overfit
from mcc_caffe.caffe_io import snapshots
from mcc_caffe.data.samples import SampleSet
from tests.support.commands import (
    Begun,
    hear_a_hang_up,
    is_running,
    refusal,
    run,
    start,
    wait_for,
    wait_until_ended,
)
from tests.support.hands import write_set


def test_two_iterations_are_not_enough(drawn_set, tmp_path):
    done = run("mcc_caffe.overfit", drawn_set, "--out", tmp_path / "run", "--iterations", 2)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "the chain did not learn: last stage's loss / trivial" in done.stderr
    assert " (below 0.2), PCK" in done.stderr


def test_too_few_samples_are_refused(drawn_samples, tmp_path):
    small_set = write_set(tmp_path / "set", drawn_samples[:3])
    done = run("mcc_caffe.overfit", small_set, "--out", tmp_path / "run")
    assert "has 3 samples, 8 are needed" in refusal(done)


@pytest.mark.parametrize("factor, shift", [((1, 1, 0), 0), (1, (-1000, 0, 0))])
def test_samples_without_keypoints_are_refused(factor, shift, drawn_samples, tmp_path):
    """They are labelled nowhere, or left of the image."""
    samples = [
        dataclasses.replace(sample, keypoints=np.float32(sample.keypoints * factor + shift))
        for sample in drawn_samples
    ]
    folder = write_set(tmp_path / "set", samples)
    done = run("mcc_caffe.overfit", folder, "--out", tmp_path / "run")
    assert "has a labelled keypoint in its image" in refusal(done)
    assert not (tmp_path / "run").exists()


def test_the_first_eight_images_are_trained_on_as_they_are(drawn_set, tmp_path, monkeypatch):
    trainings = []

    def train(words):
        trainings.append(list(map(str, words)))
        raise Begun

    monkeypatch.setattr(overfit, "run_training", train)
    out = tmp_path / "out"
    with pytest.raises(Begun):
        overfit.main([str(drawn_set), "--out", str(out), "--iterations", "30"])
    (words,) = trainings
    assert words[:2] == [str(out / "set"), "--no-augmentation"]
    options = {"--out": str(out / "run"), "--variant": "mini", "--batch-size": "8"}
    options |= {"--iterations": "30", "--interval": "10"}
    assert dict(zip(words[2::2], words[3::2])) == options
    all_samples, samples = SampleSet(drawn_set), SampleSet(out / "set")
    assert len(samples) == 8 < len(all_samples)
    for index in range(8):
        assert samples[index].image_bytes == all_samples[index].image_bytes


def test_the_accuracy_is_that_of_the_keypoints_of_all_images(drawn_samples):
    """Those of the first image are right, those of the second are far off."""
    samples = drawn_samples[:2]
    answers = iter([samples[0].keypoints, samples[1].keypoints + (1000, 0, 0)])
    predictor = SimpleNamespace(predict=lambda image: SimpleNamespace(keypoints=next(answers)))
    counts = [sample.keypoints[:, 2].sum() for sample in samples]
    assert overfit._accuracy(predictor, samples) == pytest.approx(counts[0] / sum(counts))


@pytest.mark.parametrize(
    "ratio, accuracy, learnt",
    [
        (0.19, 0.95, True),
        (0.2, 0.95, False),
        (0.19, 0.94, False),
        (np.nan, 0.95, False),
        (0.19, np.nan, False),
    ],
)
def test_both_limits_decide(ratio, accuracy, learnt, drawn_set, tmp_path, monkeypatch):
    monkeypatch.setattr(overfit, "_train", lambda *_: None)
    monkeypatch.setattr(overfit, "HandPredictor", lambda *_, **__: None)
    monkeypatch.setattr(overfit, "read_log", lambda _: [{"ratio_to_trivial": {"loss6": ratio}}])
    monkeypatch.setattr(overfit, "_accuracy", lambda *_: accuracy)
    words = [str(drawn_set), "--out", str(tmp_path / "out")]
    with contextlib.nullcontext() if learnt else pytest.raises(overfit.NotLearntError):
        overfit.main(words)


@pytest.mark.parametrize(
    "number, code, line",
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
    ],
)
def test_a_signal_during_the_training_ends_it(number, code, line, drawn_set, tmp_path):
    run_folder = tmp_path / "run"
    process = start("mcc_caffe.overfit", drawn_set, "--out", run_folder, preexec_fn=hear_a_hang_up)
    wait_for((run_folder / "run/log.jsonl").exists, process)
    os.kill(process.pid, number)
    errors = process.communicate(timeout=120)[1]
    assert (process.returncode, errors.splitlines()[-1]) == (code, line), errors
    assert "Traceback" not in errors and "error:" not in errors


def test_the_training_ends_with_a_command_that_is_killed(drawn_set, tmp_path):
    run_folder = tmp_path / "run/run"
    process = start("mcc_caffe.overfit", drawn_set, "--out", tmp_path / "run")
    wait_for((run_folder / "log.jsonl").exists, process)
    training = int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    process.kill()
    process.communicate()
    wait_until_ended(lambda: is_running(training))
    assert snapshots.newest(run_folder / "snapshots")
