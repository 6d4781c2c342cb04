"""--precision: which one is chosen, what refuses it, and that both give the same hands."""

import json
import logging
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from mcc_caffe import train
from mcc_caffe.caffe_io import precision
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.precision import (
    AUTO,
    BFLOAT16,
    FLOAT32,
    PRECISION_VARIABLE,
    TRAINING_PRECISION,
    choose_precision,
    computes_bfloat16,
    nets_in,
    warn_of_rounding,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines import open_engine
from mcc_caffe.predictor import HandPredictor
from tests.support.builds import needs_onednn
from tests.support.commands import ROOT, log, run

NATIVE = "processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 sse\n"
OTHER = "processor\t: 0\nmodel name\t: avx512_bf16\nflags\t\t: fpu avx512_bf16x sse\n"


@pytest.fixture
def machine(monkeypatch):
    """A function that says what the processor is, and whether Caffe has bfloat16."""
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)

    def become(cpuinfo, caffe_has_bfloat16=True):
        monkeypatch.setattr(precision, "_cpuinfo", lambda: cpuinfo)
        monkeypatch.setattr(precision, "caffe_has_bfloat16", lambda: caffe_has_bfloat16)

    return become


def test_the_processor_is_asked_by_its_flags():
    assert computes_bfloat16(NATIVE)
    assert not computes_bfloat16(OTHER)
    assert not computes_bfloat16("")


@pytest.mark.parametrize(
    "cpuinfo, asked, variable, chosen",
    [
        (NATIVE, None, None, FLOAT32),
        (NATIVE, None, "", FLOAT32),
        (NATIVE, AUTO, None, BFLOAT16),
        (OTHER, AUTO, None, FLOAT32),
        (OTHER, BFLOAT16, None, BFLOAT16),
        (NATIVE, FLOAT32, "bfloat16", FLOAT32),
        (NATIVE, None, "bfloat16", BFLOAT16),
        (NATIVE, None, "auto", BFLOAT16),
        (OTHER, None, "auto", FLOAT32),
    ],
)
def test_an_option_goes_before_the_variable(machine, monkeypatch, cpuinfo, asked, variable, chosen):
    machine(cpuinfo)
    if variable is not None:
        monkeypatch.setenv(PRECISION_VARIABLE, variable)
    assert choose_precision(asked) == chosen


@pytest.mark.parametrize(
    "cpuinfo, variable, chosen",
    [
        (NATIVE, None, BFLOAT16),
        (OTHER, None, FLOAT32),
        (NATIVE, "float32", FLOAT32),
        (OTHER, "bfloat16", BFLOAT16),
    ],
)
def test_a_training_takes_what_the_processor_has(machine, monkeypatch, cpuinfo, variable, chosen):
    machine(cpuinfo)
    if variable:
        monkeypatch.setenv(PRECISION_VARIABLE, variable)
    assert choose_precision(default=TRAINING_PRECISION) == chosen


def test_what_does_not_exist_is_refused_by_name(machine, monkeypatch):
    machine(NATIVE)
    with pytest.raises(UserError, match="^precision=half: give one of float32, bfloat16, auto$"):
        choose_precision("half")
    monkeypatch.setenv(PRECISION_VARIABLE, "bf16")
    with pytest.raises(UserError, match="^MCC_CAFFE_PRECISION=bf16: give one of"):
        choose_precision()


def test_a_caffe_without_it(machine):
    machine(NATIVE, caffe_has_bfloat16=False)
    assert choose_precision(AUTO) == FLOAT32
    with pytest.raises(UserError, match="has no convolutions in bfloat16: `make caffe` builds"):
        choose_precision(BFLOAT16)


@needs_onednn
def test_our_caffe_has_it():
    assert precision.caffe_has_bfloat16()


def test_a_gpu_has_float32_alone(machine, monkeypatch):
    machine(NATIVE)
    assert choose_precision(AUTO, on_gpu=True) == FLOAT32
    with pytest.raises(UserError, match="is for the CPU's convolutions, on a GPU Caffe"):
        choose_precision(BFLOAT16, on_gpu=True)
    monkeypatch.setenv(PRECISION_VARIABLE, "bfloat16")
    assert choose_precision(on_gpu=True) == FLOAT32


def test_rounding_is_said(machine, caplog):
    cases = ((NATIVE, BFLOAT16, 0), (OTHER, FLOAT32, 0), (OTHER, BFLOAT16, 1))
    for cpuinfo, chosen, count in cases:
        caplog.clear()
        machine(cpuinfo)
        warn_of_rounding(chosen)
        assert len(caplog.records) == count
    assert "this processor has no bfloat16" in caplog.text


def test_the_variable_is_as_before_afterwards(monkeypatch):
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)
    with nets_in(BFLOAT16):
        assert os.environ[PRECISION_VARIABLE] == BFLOAT16
    assert PRECISION_VARIABLE not in os.environ
    monkeypatch.setenv(PRECISION_VARIABLE, "auto")
    with pytest.raises(ValueError), nets_in(FLOAT32):
        assert os.environ[PRECISION_VARIABLE] == FLOAT32
        raise ValueError
    assert os.environ[PRECISION_VARIABLE] == "auto"


@pytest.mark.parametrize(
    "words, configured, described",
    [
        ([], AUTO, ", CPU, in bfloat16"),  # what each machine has; this one has it
        (["--precision", "float32"], FLOAT32, ", CPU"),
        (["--precision", "bfloat16"], BFLOAT16, ", CPU, in bfloat16"),
    ],
)
def test_each_machine_of_a_training_answers_auto_itself(
    machine, drawn_set, tmp_path, caplog, words, configured, described
):
    machine(NATIVE)
    options = [str(drawn_set), "--out", str(tmp_path / "run"), *words]
    config = train.prepare_run(train.parse_arguments(options))
    assert config.precision == configured
    with caplog.at_level(logging.INFO):
        train._log_run(config, rank_count=1)
    (line,) = (text for text in caplog.messages if text.startswith("run "))
    assert line.endswith(described)


def test_threads_wait_for_each_other(monkeypatch):
    monkeypatch.delenv(PRECISION_VARIABLE, raising=False)
    values = []

    def make_a_net():
        with nets_in(FLOAT32):
            values.append(os.environ[PRECISION_VARIABLE])

    with nets_in(BFLOAT16):
        thread = threading.Thread(target=make_a_net)
        thread.start()
        thread.join(0.2)
        assert not values and os.environ[PRECISION_VARIABLE] == BFLOAT16
    thread.join(10)
    assert values == [FLOAT32] and PRECISION_VARIABLE not in os.environ


def test_onnx_runtime_has_float32_alone():
    mini, shipped = ROOT / "prototxt/mini/deploy.prototxt", shipped_weights("mini")
    assert open_engine(mini, shipped, engine="onnx", precision=AUTO).precision == FLOAT32
    with pytest.raises(UserError, match="^precision=half: give one of"):
        open_engine(mini, shipped, engine="onnx", precision="half")
    with pytest.raises(UserError, match="the engine onnx computes in float32: take the engine"):
        open_engine(mini, shipped, engine="onnx", precision=BFLOAT16)


@pytest.fixture(scope="module")
def rendered_hands(tmp_path_factory) -> list[np.ndarray]:
    folder = tmp_path_factory.mktemp("rendered")
    options = ("--train", 0, "--test", 40, "--size", 192, "--seed", 5)
    done = run("data_tools.synth", "--out", folder / "hands", *options)
    assert done.returncode == 0, done.stderr
    paths = sorted((folder / "hands/Test/source").iterdir())
    assert len(paths) == 40
    return [cv2.imread(str(path)) for path in paths]


@needs_onednn
def test_both_precisions_find_the_same_hands(rendered_hands):
    high, low = (HandPredictor(levels=1, precision=name) for name in (FLOAT32, BFLOAT16))
    assert (high.engine.precision, low.engine.precision) == (FLOAT32, BFLOAT16)
    cells, map_differences, mask_differences = [], [], []
    for image in rendered_hands:
        exact, rounded = high.predict(image), low.predict(image)
        scale = np.linalg.norm(exact.image_to_input[0][:, 0])  # input pixels in a pixel
        distances = np.linalg.norm(exact.keypoints[:, :2] - rounded.keypoints[:, :2], axis=1)
        cells += list(distances * scale / 8)
        map_differences.append(np.abs(exact.level_heatmaps - rounded.level_heatmaps).max())
        mask_differences.append(np.abs(exact.mask - rounded.mask).max())
    assert 1e-4 < np.median(map_differences) < 0.02
    assert 1e-4 < np.median(mask_differences) < 0.04
    # Where the network is unsure, rounding may change single values by more.
    assert max(map_differences) < 0.1
    assert max(mask_differences) < 0.15
    # A keypoint may move to another maximum that is as high: one of 4,200 on 200 photographs did,
    # and 9 of 840 on these renderings, of which the network is less sure.
    assert np.mean(np.array(cells) <= 1) >= 0.985


@needs_onednn
def test_infer_and_evaluate_say_which_ran(drawn_set, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 80, 3), 90, np.uint8))
    low = ("--precision", "bfloat16")
    done = run("mcc_caffe.infer", tmp_path / "a.png", "--out", tmp_path / "low", "--looks", 1, *low)
    assert done.returncode == 0 and "; engine: caffe in bfloat16\n" in done.stdout, done.stderr
    assert json.loads((tmp_path / "low/a.json").read_text())["engine"] == "caffe in bfloat16"
    is_native = computes_bfloat16(Path("/proc/cpuinfo").read_text())
    assert done.stderr.count("this processor has no bfloat16") == (not is_native)
    done = run("mcc_caffe.infer", tmp_path / "a.png", "--out", tmp_path / "high", "--looks", 1)
    assert json.loads((tmp_path / "high/a.json").read_text())["engine"] == "caffe"
    options = (drawn_set, "--limit", 2, "--levels", 1, "--out", tmp_path / "eval")
    done = run("mcc_caffe.evaluate", *options, *low)
    assert done.returncode == 0, done.stderr
    (model,) = json.loads((tmp_path / "eval/results.json").read_text())["models"]
    assert model["engine"] == "caffe in bfloat16"


@needs_onednn
def test_a_training_goes_on_in_the_other_precision(drawn_set, tmp_path):
    fast = ("--batch-size", 2, "--interval", 1, "--workers", 1)
    # At a new net's rate Adam's first steps would turn rounding into percents of the loss.
    fast += ("--solver", ROOT / "solver/mini/solver_fine_tuning.prototxt")
    start = ("--weights", shipped_weights("mini"))
    losses = {}
    for name in (FLOAT32, BFLOAT16):
        folder = tmp_path / name
        done = run(
            "mcc_caffe.train",
            *(drawn_set, "--out", folder, "--iterations", 4, "--precision", name, *fast, *start),
        )
        assert done.returncode == 0, done.stderr
        assert (", CPU, in bfloat16" in done.stderr) == (name == BFLOAT16)
        losses[name] = [line["loss"] for line in log(folder)]
    assert losses[FLOAT32] != losses[BFLOAT16]
    assert losses[BFLOAT16] == pytest.approx(losses[FLOAT32], rel=0.01)
    ends = {}
    done = run(
        "mcc_caffe.train",
        *(drawn_set, "--out", tmp_path / "two", "--iterations", 1, "--processes", 2, *fast, *start),
        env={**os.environ, PRECISION_VARIABLE: BFLOAT16},
    )
    assert done.returncode == 0 and "CPU, 2 processes, in bfloat16" in done.stderr, done.stderr
    for name in (FLOAT32, BFLOAT16):  # both go on from what bfloat16 left
        folder = tmp_path / f"on_in_{name}"
        done = run(
            "mcc_caffe.train",
            *(drawn_set, "--out", folder, "--iterations", 6, "--precision", name, *fast),
            *("--resume", tmp_path / "bfloat16/snapshots/mcc_iter_4.solverstate"),
        )
        assert done.returncode == 0 and "resumed at iteration 4" in done.stderr, done.stderr
        ends[name] = [line["loss"] for line in log(folder)]
    assert ends[BFLOAT16] == pytest.approx(ends[FLOAT32], rel=0.01)
