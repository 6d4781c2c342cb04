"""`python -m benchmarks.sizes` on its two smallest nets and a handful of drawn hands."""

import json
import logging
import re
import shutil

import cv2
import numpy as np
import pytest

from benchmarks import sizes
from benchmarks.sizes import Cost, Measured, Size
from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleSet
from mcc_caffe.evaluation.ablation_report import TrainingResult
from mcc_caffe.paper import MINI
from tests.support.commands import Begun, begin
from tests.support.hands import write_set

SMALL = (Size(0.125, 64), Size(MINI.width, MINI.input_size))


def test_a_net_of_another_size(tmp_path):
    sizes.write_net(Size(0.125, 64), tmp_path)
    deploy, solver = (
        read_text("NetParameter", tmp_path / "deploy.prototxt"),
        read_text("SolverParameter", tmp_path / "solver.prototxt"),
    )
    assert list(deploy.layer[0].input_param.shape[0].dim) == [1, 3, 64, 64]
    assert (
        next(
            layer for layer in deploy.layer if layer.name == "conv1_1"
        ).convolution_param.num_output
        == 8
    )
    assert solver.net == str(tmp_path / "train.prototxt") and solver.type == MINI.schedule.type
    data = next(
        layer for layer in read_text("NetParameter", solver.net).layer if layer.type == "Python"
    )
    assert '"input_size": 64' in data.python_param.param_str


def test_the_table_compares_with_mini():
    seconds = {"median": 0.004}
    results = [
        Measured(
            size=SMALL[0],
            cost=Cost(10**8, 500_000),
            seconds=seconds,
            scores={name: [0.5, 0.7] for name in sizes.MEASURES},
            diverged=[],
        ),
        Measured(
            size=SMALL[1],
            cost=Cost(5 * 10**8, 2_000_000),
            seconds={"median": 0.008},
            scores={name: [0.25] for name in sizes.MEASURES},
            diverged=[7],
        ),
        Measured(
            size=Size(0.5, 128),
            cost=Cost(20 * 10**8, 8_000_000),
            seconds={"median": 0.03},
            scores={name: [] for name in sizes.MEASURES},
            diverged=[3, 7],
        ),
    ]
    report = sizes.format_report(results, "Trained somehow.", "a.png")
    assert "| 0.125 | 64 | 0.50 M | 0.10 G | 4.0 | 0.50 | 0.600 (0.500 to 0.700) |" in report
    assert "| 0.25 | 128 | 2.00 M | 0.50 G | 8.0 | 1.00 | 0.250 | 0.250 |" in report
    assert "| 0.5 | 128 | 8.00 M | 2.00 G | 30.0 | 3.75 | - | - | - | - | - |" in report
    assert [line for line in report.splitlines() if line.startswith("Diverged")] == [
        "Diverged and left out: width 0.25, input 128, seed 7.",
        "Diverged and left out: width 0.5, input 128, seed 3, 7.",
    ]
    assert sizes.draw(results).startswith(b"\x89PNG")
    assert "](a.png)" in report and "](" not in sizes.format_report(results, "", None)


@pytest.mark.parametrize(
    "ratio, diverged", [(0.3, False), (1.0, True), (4e10, True), (float("nan"), True)]
)
def test_a_training_worse_than_the_trivial_answer_diverged(ratio, diverged, tmp_path):
    lines = [
        {
            "iteration": number,
            "loss": 100.0,
            "losses": {"loss6": 20.0},
            "ratio_to_trivial": {"loss6": value},
            "images_per_second": 10.0,
            "seconds": 1.0,
            "data_wait": 0.0,
        }
        for number, value in ((20, 0.9), (40, ratio))
    ]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert sizes.has_diverged(tmp_path) == diverged


@pytest.mark.parametrize(
    "ratios, diverged",
    [
        ([0.5] * 29 + [1.1], False),
        ([0.5] * 27 + [1.2, 0.9, 1.2], True),
        ([0.5, 0.5, None], False),
        ([None], True),
    ],
)
def test_one_interval_alone_is_no_divergence(ratios, diverged, tmp_path):
    lines = [
        {
            "iteration": iteration,
            "loss": 1.0,
            "losses": {},
            "ratio_to_trivial": {} if ratio is None else {"loss6": ratio},
        }
        for iteration, ratio in enumerate(ratios)
    ]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert sizes.has_diverged(tmp_path) == diverged


def test_a_seed_that_diverged_counts_for_nothing(tmp_path, monkeypatch):
    def numbers(value):
        values = dict(zip(("0.05", "0.1", "0.2"), (value, value + 0.1, value + 0.2)))
        masks = {"images": 2, "AP50": 0.0, "AP75": 0.0, "AP80": 0.0, "mean_IoU": value + 0.4}
        return {"paper": {"PCK": {"values": values}, "AUC": {"value": value + 0.3}}, "mask": masks}

    def read_results(folder, trainings):
        assert trainings == [("width 0.25, input 128", seed) for seed in (3, 5, 7)]
        return [
            TrainingResult(network, seed, numbers(seed / 100), np.array([]))
            for network, seed in trainings
        ]

    evaluations = []
    monkeypatch.setattr(sizes.evaluate, "main", evaluations.append)
    monkeypatch.setattr(sizes.training_comparison, "read_results", read_results)
    monkeypatch.setattr(sizes, "has_diverged", lambda run: run.name == "seed5")
    sizes.write_net(SMALL[1], tmp_path)
    weights = {seed: tmp_path / f"seed{seed}/snapshots/a.caffemodel" for seed in (3, 5, 7)}
    seconds = {"median": 1.0}
    measured = sizes.measure(SMALL[1], tmp_path, tmp_path, weights=weights, seconds=seconds)
    assert measured.diverged == [5] and measured.seconds == seconds
    assert list(measured.scores) == list(sizes.MEASURES)
    for values, more in zip(measured.scores.values(), (0, 0.1, 0.2, 0.3, 0.4)):
        assert values == pytest.approx([0.03 + more, 0.07 + more])
    (words,) = evaluations
    assert words[:3] == [str(tmp_path / "validation"), "--levels", "1"]
    assert words[words.index("--prototxt") + 1] == str(tmp_path / "deploy.prototxt")
    assert words[words.index("--weights") + 1 :] == list(map(str, weights.values()))


def test_the_setting_of_its_own_hands():
    options = sizes.training_comparison.comparison_parser(None, "runs/sizes").parse_args([])
    setting = sizes.describe_setting(options, {"train": 2000, "validation": 300})
    command = "`python -m benchmarks.sizes --iterations 1000 --batch-size 8 --seeds 0 1`: "
    assert setting.startswith(command) and "1000 iterations of 8 images" in setting
    assert "on 2000 easy synthetic hands (`data_tools.synth --easy`); 300 others to" in setting


def test_the_whole_command(two_sets, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sizes, "SIZES", SMALL)
    monkeypatch.setattr(sizes, "SECONDS", 0.0)
    monkeypatch.setattr(sizes, "TURNS", 1)
    options = [
        "--data",
        str(two_sets),
        "--out",
        str(tmp_path / "out"),
        "--iterations",
        "1",
        "--batch-size",
        "2",
        "--seeds",
        "3",
    ]
    sizes.main([*options, "--report", str(tmp_path / "docs/sizes.md")])
    report = (tmp_path / "docs/sizes.md").read_text()
    rows = re.findall(r"^\| (0\.\d+) \| (\d+) \|", report, re.M)
    assert rows == [("0.125", "64"), ("0.25", "128")]
    assert (
        f"`python -m benchmarks.sizes --data {two_sets} --iterations 1 --batch-size 2 --seeds 3`"
        in report
    )
    assert "on 6 samples of" in report and "4 others to measure on" in report
    assert "](sizes.png)" in report and cv2.imread(str(tmp_path / "docs/sizes.png")).size
    state = snapshots.newest(tmp_path / "out/width0.125_input64/seed3/snapshots")
    assert state.message.iter == 1
    with caplog.at_level(logging.INFO, logger="mcc_caffe.evaluation.training_comparison"):
        sizes.main(options)
    assert caplog.text.count("finished before") == 2 and (tmp_path / "out/sizes.md").is_file()
    with pytest.raises(UserError, match="holds trainings with batch_size 2, not 3"):
        sizes.main([*options, "--batch-size", "3"])
    (tmp_path / "docs/sizes.md").write_text("of the user")
    with pytest.raises(UserError, match="docs/sizes.md would be overwritten and is no result of"):
        sizes.main([*options, "--report", str(tmp_path / "docs/sizes.md")])
    with pytest.raises(UserError, match="--seeds 1 1: give different ones"):
        sizes.main(["--seeds", "1", "1"])


def test_sets_without_masks_are_refused(two_sets, tmp_path):
    samples = SampleSet(two_sets / "validation")
    bare = [
        Sample(sample.key, sample.image_bytes, None, sample.keypoints)
        for sample in (samples[0], samples[1])
    ]
    for name in ("train", "validation"):
        write_set(tmp_path / name, bare)
    with pytest.raises(UserError, match="train has no masks: give a set that has them"):
        sizes.count_samples(tmp_path)
    with pytest.raises(UserError, match="none/train/images/data.mdb was not found"):
        sizes.count_samples(tmp_path / "none")


def test_a_set_that_was_built_again_of_other_data_is_refused(two_sets, tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "SIZES", ())
    monkeypatch.setattr(sizes, "describe_setting", lambda *_: "")
    data, out = tmp_path / "sets", tmp_path / "out"
    shutil.copytree(two_sets, data)
    options = ["--data", str(data), "--out", str(out)]

    monkeypatch.setattr(sizes, "draw", begin)
    for _ in range(2):
        with pytest.raises(Begun):
            sizes.main(options)
        (out / "width0.25_input128/seed0/snapshots").mkdir(parents=True, exist_ok=True)
    shutil.rmtree(data / "train")
    shutil.copytree(data / "validation", data / "train")
    with pytest.raises(UserError, match="holds trainings with data_sha256 .*: give another --out"):
        sizes.main(options)
