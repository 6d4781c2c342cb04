"""The ablation: verdicts by hand, and the command at its smallest, interrupted and run again."""

import json
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mcc_caffe import ablation
from mcc_caffe.caffe_io import snapshots
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleSet
from mcc_caffe.evaluation import training_comparison
from mcc_caffe.evaluation.ablation_report import (
    CLAIMS,
    FULL,
    HELD,
    NO_MASK,
    NO_POSE,
    REVERSED,
    UNDECIDED,
    FigureNames,
    TrainingResult,
    answer_claim,
    compare,
    decide,
    format_report,
)
from tests.support.commands import ROOT, run, wait_for
from tests.support.hands import write_set

NETS = ("full", "without_mask", "without_pose")


@pytest.mark.parametrize(
    "full, ablated, expected",
    [
        ([0.60, 0.62], [0.50, 0.53], HELD),  # 0.61 - 0.515 = 0.095 > 0.03
        ([0.50, 0.53], [0.60, 0.62], REVERSED),
        ([0.60, 0.62], [0.58, 0.61], UNDECIDED),  # 0.015 < 0.03
        (
            [0.60, 0.70],
            [0.50, 0.61],
            UNDECIDED,
        ),  # 0.095 < 0.11
        ([0.5, 0.5], [0.5, 0.5], UNDECIDED),  # no difference, no spread
        ([0.0, 0.0], [0.0, 0.0], UNDECIDED),  # nothing was learnt
        ([0.6, 0.7], [0.5, 0.5], HELD),  # 0.15 > 0.1
        ([0.75, 1.0], [0.5, 0.75], UNDECIDED),  # exactly the spread
        ([0.5, 0.6, 0.7], [0.3, 0.3, 0.4], HELD),  # 0.6 - 0.333 = 0.267 > 0.2
    ],
)
def test_a_claim_is_decided_where_the_difference_exceeds_the_spread(full, ablated, expected):
    assert decide(full, ablated) == expected


def test_the_difference_is_of_means_and_the_spread_the_larger():
    assert compare([0.6, 0.7], [0.4, 0.42]) == (pytest.approx(0.24), pytest.approx(0.1))


def result(network, seed, auc=None, ap=None):
    """Return a training's result, its numbers all derived from one AUC and one AP."""
    numbers = {}
    if auc is not None:
        numbers["paper"] = {
            "PCK": {"values": {"0.1": auc / 2, "0.2": auc}},
            "AUC": {"value": auc},
            "curves": {"all": [auc] * 201},
        }
    if ap is not None:
        numbers["mask"] = {"images": 2, "AP50": ap, "AP75": ap / 2, "AP80": 0.0, "mean_IoU": ap}
    return TrainingResult(network, seed, numbers, np.array([] if ap is None else [ap, 0.5]))


RESULTS = [
    result(FULL, 0, 0.60, 0.5),
    result(NO_MASK, 0, 0.50),
    result(NO_POSE, 0, ap=0.6),
    result(FULL, 3, 0.62, 0.7),
    result(NO_MASK, 3, 0.53),
    result(NO_POSE, 3, ap=0.8),
]


def test_the_answers_follow_from_the_numbers():
    masks, keypoints = (answer_claim(RESULTS, claim) for claim in CLAIMS)
    assert masks == (
        "**The pose stage makes the masks better (Table 1): undecided here.** "
        "AP50 60.0 of the full net, 70.0 without pose: "
        "a difference of -10.0, where seeds alone differ by 20.0."
    )
    assert keypoints.startswith(
        "**The mask makes the keypoints better (Fig. 9): held here.** "
        "AUC 0.610 of the full net, 0.515 without mask"
    )


def test_the_tables_have_a_verdict_for_each_measure():
    figures = FigureNames(pck="a.png", masks="b.png")
    lines = format_report(RESULTS, "Trained somehow.", figures).splitlines()
    assert "| net | AP50 | AP75 | AP80 | mean IoU |" in lines
    assert "| net | PCK@0.1 | PCK@0.2 | AUC |" in lines
    cells = "60.0 (50.0 to 70.0) | 30.0 (25.0 to 35.0) | 0.0 (0.0 to 0.0) | 0.600 (0.500 to 0.700)"
    assert f"| full | {cells} |" in lines
    cells = "0.305 (0.300 to 0.310) | 0.610 (0.600 to 0.620) | 0.610 (0.600 to 0.620)"
    assert f"| full | {cells} |" in lines
    assert f"| claim | {UNDECIDED} | {UNDECIDED} | {UNDECIDED} | {UNDECIDED} |" in lines
    assert f"| claim | {HELD} | {HELD} | {HELD} |" in lines
    assert "![Masks](b.png)" in lines and "![Keypoints](a.png)" in lines
    assert any("Seeds 0, 3;" in line for line in lines)
    assert "](" not in format_report(RESULTS, "", None)


@pytest.fixture(scope="module")
def finished(two_sets, tmp_path_factory):
    """(folder, stdout) of the whole command: 2 iterations, 2 seeds."""
    out = tmp_path_factory.mktemp("ablation") / "out"
    done = run(
        "mcc_caffe.ablation",
        *options(two_sets, out),
        "--report",
        out.parent / "docs/report.md",
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def options(data, out):
    return "--data", data, "--out", out, "--iterations", 2, "--batch-size", 2, "--seeds", 0, 5


def test_every_net_is_trained_with_every_seed_on_the_same_budget(finished):
    out, _ = finished
    for net in NETS:
        for seed in (0, 5):
            folder = out / f"{net}_seed{seed}"
            assert snapshots.iteration(snapshots.newest(folder / "snapshots")) == 2
            settings = (folder / "train.prototxt").read_text()
            assert (
                f'\\"seed\\": {seed}' in settings
                and '\\"batch_size\\": 2' in settings
                and '\\"augment\\": true' in settings
            )


def test_the_report_says_what_the_evaluation_found(finished):
    out, printed = finished
    report = (out.parent / "docs/report.md").read_text()
    models = json.loads((out / "evaluation/results.json").read_text())["models"]
    numbers = [model["sets"]["validation"] for model in models]
    outputs = [("paper" in of_model, "mask" in of_model) for of_model in numbers]
    assert outputs == 2 * [(True, True), (True, False), (False, True)]
    full = [numbers[0], numbers[3]]
    areas = [of_model["paper"]["AUC"]["value"] for of_model in full]
    ious = [of_model["mask"]["mean_IoU"] for of_model in full]
    for values in (areas, ious):
        assert f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f}) |" in report
    assert (
        "2 iterations of 2 images, with augmentation, on 6 samples of" in report
        and "4 others to measure on" in report
    )
    for name in ("report_pck.png", "report_masks.png"):
        assert f"]({name})" in report and cv2.imread(str(out.parent / "docs" / name)).size
    for claim in CLAIMS:
        assert f"**{claim.sentence}: " in report and f"**{claim.sentence}: " in printed


def test_finished_trainings_stay_and_an_interrupted_one_goes_on(finished, two_sets):
    out, _ = finished
    before = {
        path: path.stat().st_mtime_ns for path in out.glob("*/snapshots/mcc_iter_2.caffemodel")
    }
    cut = out / "without_pose_seed0/snapshots"
    for kind in ("caffemodel", "solverstate"):
        (cut / f"mcc_iter_2.{kind}").unlink()
    done = run("mcc_caffe.ablation", *options(two_sets, out), timeout=600)
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.count("finished before") == 5 and "resumed at iteration 1 from" in done.stderr
    )
    assert [path for path, written in before.items() if path.stat().st_mtime_ns != written] == [
        cut / "mcc_iter_2.caffemodel"
    ]
    assert (out / "ablation.md").is_file()


def test_other_settings_are_refused(finished, two_sets):
    out, _ = finished
    done = run("mcc_caffe.ablation", *options(two_sets, out), "--batch-size", 3)
    assert (
        done.returncode == 2
        and f"{out} holds trainings with batch_size 2, not 3: give another --out" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_signal_ends_it_with_a_snapshot(two_sets, tmp_path):
    command = [
        sys.executable,
        "-m",
        "mcc_caffe.ablation",
        "--data",
        two_sets,
        "--out",
        tmp_path / "out",
        "--iterations",
        500,
        "--batch-size",
        2,
    ]
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "out/full_seed0/log.jsonl"
    wait_for(
        lambda: log.is_file() and (tmp_path / "out/full_seed0/solver.prototxt").is_file(), process
    )
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors.splitlines()[-1] == "interrupted", errors
    assert "stopped; go on with --resume auto" in output
    assert snapshots.newest(tmp_path / "out/full_seed0/snapshots")


@pytest.mark.parametrize("seeds", [["0"], ["1", "1"], ["0", "1", "1"]])
def test_one_seed_is_not_enough(seeds):
    with pytest.raises(UserError, match="give at least two different ones"):
        ablation.parse_arguments(["--seeds", *seeds])


def test_sets_without_masks_are_refused(two_sets, tmp_path):
    samples = SampleSet(two_sets / "validation")
    bare = [
        Sample(sample.key, sample.image_bytes, None, sample.keypoints)
        for sample in (samples[0], samples[1])
    ]
    for name in ("train", "validation"):
        write_set(tmp_path / name, bare)
    with pytest.raises(
        UserError, match="train has no masks: the ablation needs a set that has them"
    ):
        training_comparison.count_samples(tmp_path)
    with pytest.raises(UserError, match="none/train/images/data.mdb was not found"):
        training_comparison.count_samples(tmp_path / "none")


def test_its_own_set_is_made_once(tmp_path):
    data = training_comparison.make_synthetic_set(tmp_path, train_count=3, test_count=2)
    assert training_comparison.count_samples(data) == {"train": 3, "validation": 2}
    before = (data / "train/info.json").stat().st_mtime_ns
    assert (
        training_comparison.make_synthetic_set(tmp_path, train_count=3, test_count=2) == data
        and (data / "train/info.json").stat().st_mtime_ns == before
    )
