"""Engines run a deploy net with or without a stage; commands say which engine ran."""

import json

import numpy as np
import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines import DEFAULT_ENGINE, open_engine
from tests.support.commands import ROOT, run
from tests.support.hands import drawn_sample
from tests.support.weights import lively_weights

MINI = ROOT / "prototxt/mini/deploy.prototxt"
SHIPPED = ROOT / "mcc_caffe/pretrained/mini.npz"


@pytest.mark.parametrize("without", ["mask", "pose"])
def test_mini_without_a_stage(without, tmp_path):
    prototxt = ROOT / f"prototxt/mini/deploy_without_{without}.prototxt"
    engine = open_engine(prototxt, lively_weights(prototxt, tmp_path / "random.caffemodel"))
    assert (engine.has_mask, engine.has_pose) == (without != "mask", without != "pose")
    mask, heatmaps = engine(np.zeros((2, 3, 128, 128), np.float32))
    assert mask is None if without == "mask" else mask.shape == (2, 16, 16)
    assert heatmaps is None if without == "pose" else heatmaps.shape == (2, 22, 16, 16)


def test_a_batch_of_views_is_taken():
    """Not contiguous, and of doubles."""
    engine = open_engine(MINI, SHIPPED)
    batch = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 3, 128, 128)).astype(np.float32)
    assert (
        engine(batch[::-1].astype(float))[1] == engine(np.ascontiguousarray(batch[::-1]))[1]
    ).all()


def test_bad_files_and_unknown_engines_are_named(tmp_path, weights):
    with pytest.raises(UserError, match=f"the weights file {tmp_path}/none was not found"):
        open_engine(MINI, tmp_path / "none")
    with pytest.raises(UserError, match="does not fit the net: layer conv1_1 is"):
        open_engine(ROOT / "prototxt/paper/deploy.prototxt", weights)
    with pytest.raises(UserError, match="there is no engine 'tensorrt': take one of caffe"):
        open_engine(MINI, weights, engine="tensorrt")


@pytest.mark.parametrize("options", [[], ["--engine", "caffe"]])
def test_infer_says_which_engine_ran(options, tmp_path):
    (tmp_path / "hand.jpg").write_bytes(drawn_sample(np.random.default_rng(0), "x").image_bytes)
    done = run(
        "mcc_caffe.infer", tmp_path / "hand.jpg", "--levels", 1, "--out", tmp_path / "out", *options
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.splitlines()[0].endswith(f"; engine: {DEFAULT_ENGINE}")
    assert json.loads((tmp_path / "out/hand.json").read_text())["engine"] == DEFAULT_ENGINE


def test_evaluate_says_which_engine_ran(drawn_set, tmp_path):
    done = run(
        "mcc_caffe.evaluate",
        drawn_set,
        "--levels",
        1,
        "--limit",
        3,
        "--processes",
        1,
        "--out",
        tmp_path,
    )
    assert done.returncode == 0 and f"engine {DEFAULT_ENGINE}" in done.stderr, done.stderr
    (model,) = json.loads((tmp_path / "results.json").read_text())["models"]
    assert model["engine"] == DEFAULT_ENGINE
