"""The ablation: verdicts by hand, and the command at its smallest, interrupted and run again."""

import dataclasses
import json
import os
import shlex
import shutil
import signal

import cv2
import numpy as np
import pytest

from mcc_caffe import ablation
from mcc_caffe.caffe_io import packed_weights, snapshots
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.weights import read_caffemodel, write_caffemodel
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
    TITLE,
    UNDECIDED,
    FigureNames,
    MeasuredSet,
    TrainingResult,
    answer_claim,
    compare,
    format_report,
)
from tests.support.commands import ROOT, Begun, begin, refusal, run, start, wait_for
from tests.support.hands import write_set

NETS = ("full", "without_mask", "without_pose")


@pytest.mark.parametrize(
    "full, ablated, expected",
    [
        # Differences .1, .09: mean .095, error .005, t = 19 of one degree of freedom, p = .033.
        ([0.60, 0.62], [0.50, 0.53], HELD),
        ([0.50, 0.53], [0.60, 0.62], REVERSED),
        ([0.60, 0.62], [0.58, 0.61], UNDECIDED),  # .02, .01: t = 3, p = .2
        ([0.6, 0.7], [0.5, 0.5], UNDECIDED),  # .1, .2: t = 3
        ([0.5, 0.5], [0.5, 0.5], UNDECIDED),  # no difference
        ([0.0, 0.0], [0.0, 0.0], UNDECIDED),  # nothing was learnt
        ([0.75, 1.0], [0.5, 0.75], UNDECIDED),  # equal differences say nothing of chance
        ([0.7, 0.8, 0.9], [0.6, 0.7, 0.8], UNDECIDED),  # nor do those that differ by rounding
        # Both differences are 1/105000, up to rounding.
        (
            [68223 / 105000, 59312 / 105000],
            [68222 / 105000, 59311 / 105000],
            UNDECIDED,
        ),
        # Seeds differ by .4, pairs hardly: .1, .11, .09: t = 10 * sqrt(3), p = .003.
        ([0.5, 0.71, 0.89], [0.4, 0.6, 0.8], HELD),
        ([0.5, 0.6, 0.9], [0.4, 0.6, 0.8], UNDECIDED),  # .1, 0, .1: t = 2, p = .18
    ],
)
def test_a_claim_is_decided_where_chance_gives_such_pairs_seldom(full, ablated, expected):
    assert compare(full, ablated).verdict == expected


def test_a_difference_has_its_interval_and_p():
    difference = compare([0.5, 0.6, 0.9], [0.4, 0.6, 0.8])
    # Mean .0667, deviation .0577, error .0333; t(.975, 2) = 4.303; p = 1 - t / sqrt(t**2 + 2).
    assert difference.mean == pytest.approx(0.2 / 3)
    assert difference.margin == pytest.approx(4.3027 / 30, rel=1e-4)
    assert difference.p == pytest.approx(1 - 2 / np.sqrt(6))
    assert np.isnan(compare([0.5, 0.6], [0.4, 0.5]).p)


def result(network, seed, auc=None, ap=None):
    """Return a training's result, its numbers all derived from one AUC and one AP."""
    numbers = {}
    if auc is not None:
        numbers["keypoints"] = 42
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
    masks, keypoints = (answer_claim([MeasuredSet("hands", RESULTS)], claim) for claim in CLAIMS)
    assert masks == (
        "**The pose stage makes the masks better (Table 1):** undecided on hands (mean IoU 0.600 "
        "of the full net, 0.700 without pose: a difference of -0.100, the same with every seed, so "
        "that the test says nothing)."
    )
    assert keypoints == (
        "**The mask makes the keypoints better (Fig. 9):** held on hands (AUC 0.610 of the full "
        "net, 0.515 without mask: a difference of +0.095 ± 0.064, p = 0.0335)."
    )


def test_a_set_without_masks_answers_for_the_keypoints_alone():
    photographs = [
        result(FULL, 0, 0.5), result(NO_MASK, 0, 0.6), result(NO_POSE, 0),
        result(FULL, 3, 0.5), result(NO_MASK, 3, 0.6), result(NO_POSE, 3),
    ]  # fmt: skip
    sets = [MeasuredSet("hands", RESULTS), MeasuredSet("photographs", photographs)]
    report = format_report(sets, "Trained somehow.")
    headings = [line for line in report.splitlines() if line.startswith("## ")]
    assert headings == ["## Masks, hands", "## Keypoints, hands", "## Keypoints, photographs"]
    assert "held on hands (AUC" in report and "; undecided on photographs (AUC 0.500" in report
    assert report.count("without pose: a difference") == 1
    assert "; nothing could be measured on photographs: no sample has a mask." in report


def test_a_set_without_a_box_to_measure_keypoints_by_says_so():
    """The evaluation writes null for each of its measures."""
    results = [result(FULL, 0, 0.5, 0.5), result(NO_MASK, 0, 0.5), result(NO_POSE, 0, ap=0.5)] * 2
    for each in results:
        if "paper" in each.numbers:
            paper = {"PCK": {"values": {"0.1": None, "0.2": None}}, "AUC": {"value": None}}
            each.numbers["paper"] = paper
    report = format_report([MeasuredSet("hands", results)], "Trained somehow.")
    assert "nan" not in report and "## Keypoints" not in report
    assert (
        "**The mask makes the keypoints better (Fig. 9):** nothing could be measured on hands: no "
        "sample has keypoints whose box is a pixel or larger."
    ) in report


def test_the_tables_have_a_verdict_for_each_measure():
    figures = FigureNames(pck="a.png", masks="b.png")
    report = format_report([MeasuredSet("hands", RESULTS, figures)], "Trained somehow.")
    lines = report.splitlines()
    assert "| net | AP50 | AP75 | AP80 | mean IoU |" in lines
    assert "| net | PCK@0.1 | PCK@0.2 | AUC |" in lines
    cells = "60.0 (50.0 to 70.0) | 30.0 (25.0 to 35.0) | 0.0 (0.0 to 0.0) | 0.600 (0.500 to 0.700)"
    assert f"| full | {cells} |" in lines
    cells = "0.305 (0.300 to 0.310) | 0.610 (0.600 to 0.620) | 0.610 (0.600 to 0.620)"
    assert f"| full | {cells} |" in lines
    assert f"| claim | {UNDECIDED} | {UNDECIDED} | {UNDECIDED} | {UNDECIDED} |" in lines
    assert f"| claim | {HELD} | {HELD} | {HELD} |" in lines
    assert "![Masks](b.png)" in lines and "![Keypoints](a.png)" in lines
    assert "| difference | +0.047 ± 0.032 | +0.095 ± 0.064 | +0.095 ± 0.064 |" in lines
    assert "| difference | -10.0 ± 0.0 | -5.0 ± 0.0 | +0.0 ± 0.0 | -0.100 ± 0.000 |" in lines
    assert "| p | 0.0335 | 0.0335 | 0.0335 |" in lines and "| p | - | - | - | - |" in lines
    assert any("Seeds 0, 3;" in line for line in lines)
    assert all(f'"{verdict}" ' in report for verdict in (HELD, REVERSED, UNDECIDED))
    assert "](" not in format_report([MeasuredSet("hands", RESULTS)], "")


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
            assert snapshots.newest(folder / "snapshots").message.iter == 2
            settings = (folder / "train.prototxt").read_text()
            assert (
                f'\\"seed\\": {seed}' in settings
                and '\\"batch_size\\": 2' in settings
                and '\\"augment\\": true' in settings
            )


def test_the_report_says_what_the_evaluation_found(finished):
    out, printed = finished
    report = (out.parent / "docs/report.md").read_text()
    models = json.loads((out / "evaluation/validation/results.json").read_text())["models"]
    numbers = [model["sets"]["validation"] for model in models]
    outputs = [("paper" in of_model, "mask" in of_model) for of_model in numbers]
    assert outputs == 2 * [(True, True), (True, False), (False, True)]
    full = [numbers[0], numbers[3]]
    areas = [of_model["paper"]["AUC"]["value"] for of_model in full]
    ious = [of_model["mask"]["mean_IoU"] for of_model in full]
    for values in (areas, ious):
        assert f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f}) |" in report
    assert "2 iterations of 2 images a process" in report
    assert "All layers are initialised at random." in report and "--seeds 0 5`" in report
    for name in ("report_pck.png", "report_masks.png"):
        assert f"]({name})" in report and cv2.imread(str(out.parent / "docs" / name)).size
    for claim in CLAIMS:
        assert f"**{claim.sentence}:** " in report and f"**{claim.sentence}:** " in printed


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
    assert f"{out} holds trainings with batch_size 2, not 3: give another --out" in refusal(done)


def test_a_set_that_was_built_again_of_other_data_is_refused(finished, two_sets, tmp_path):
    out, _ = finished
    settings = out / "settings.json"
    recorded = settings.read_text()
    data = tmp_path / "sets"
    shutil.copytree(two_sets, data)
    train, validation = data / "train", data / "validation"
    settings.write_text(recorded.replace(str(two_sets / "train"), str(train)))
    try:
        shutil.rmtree(train)
        shutil.copytree(validation, train)
        done = run("mcc_caffe.ablation", *options(data, out))
    finally:
        settings.write_text(recorded)
    assert "holds trainings with data_sha256" in refusal(done)


def test_a_signal_ends_it_with_a_snapshot(two_sets, tmp_path):
    folders = ("--data", two_sets, "--out", tmp_path / "out")
    process = start("mcc_caffe.ablation", *folders, "--iterations", 500, "--batch-size", 2)
    log = tmp_path / "out/full_seed0/log.jsonl"
    wait_for(lambda: log.is_file() and log.read_text(), process)  # so the training has begun
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and errors.splitlines()[-1] == "interrupted", errors
    assert "stopped; go on with --resume auto" in output
    assert snapshots.newest(tmp_path / "out/full_seed0/snapshots")


def test_another_source_and_sets_and_a_trained_trunk(two_sets, tmp_path):
    """A mixture, two sets of which one has no masks, and an option of the training's."""
    samples = SampleSet(two_sets / "validation")
    bare = [
        Sample(sample.key, sample.image_bytes, None, sample.keypoints)
        for sample in (samples[0], samples[1])
    ]
    write_set(tmp_path / "photographs", bare)
    shipped = shipped_weights("mini")
    done = run(
        "mcc_caffe.ablation",
        *("--train-on", f"mix:{two_sets}/train*0.5+{two_sets}/validation*0.5"),
        *("--measure-on", two_sets / "validation", tmp_path / "photographs"),
        *("--trunk", shipped, "--out", tmp_path / "out", "--iterations", 1, "--batch-size", 2),
        *("--seeds", 0, 1, "--", "--input-size", 64, "--colours"),
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    for folder in ("full_seed0", "without_mask_seed1"):
        settings = (tmp_path / "out" / folder / "train.prototxt").read_text()
        assert "mix:" in settings and '\\"input_size\\": 64' in settings
        assert '\\"colours\\": true' in settings
    assert "15 layers loaded by name; random start: conv6_2_CPM, Mconv1_stage2" in done.stderr
    assert "15 layers loaded by name; random start: conv6_2_CPM\n" in done.stderr
    assert "15 layers loaded by name; random start: Mconv1_stage2" in done.stderr
    trunk = read_caffemodel(tmp_path / "out/trunk.caffemodel").layers
    wanted = packed_weights.read(shipped).layers
    assert list(trunk)[0] == "conv1_1" and list(trunk)[-1] == "conv5_3_CPM" and len(trunk) == 15
    for name, blobs in trunk.items():
        for values, value in zip(blobs, wanted[name], strict=True):
            np.testing.assert_array_equal(values, value)
    report = (tmp_path / "out/ablation.md").read_text()
    headings = ["Masks, validation", "Keypoints, validation", "Keypoints, photographs"]
    assert [line[3:] for line in report.splitlines() if line.startswith("## ")] == headings
    assert "The trunk is initialised with mini.npz" in report
    assert "-- --input-size 64 --colours`" in report
    # One more set is measured without another training, and another trunk is refused.
    shutil.copytree(two_sets / "train", tmp_path / "more/validation")
    done = run(
        "mcc_caffe.ablation",
        *("--train-on", f"mix:{two_sets}/train*0.5+{two_sets}/validation*0.5"),
        *("--measure-on", two_sets / "validation", tmp_path / "more/validation"),
        *("--trunk", shipped, "--out", tmp_path / "out", "--iterations", 1, "--batch-size", 2),
        *("--seeds", 0, 1, "--", "--input-size", 64, "--colours", "--workers", 1),
        timeout=600,
    )
    assert done.returncode == 0 and done.stderr.count("finished before") == 6, done.stderr
    assert "## Masks, more/validation" in (tmp_path / "out/ablation.md").read_text()
    other = tmp_path / "other.caffemodel"
    write_caffemodel(other, "o", {name: [2 * blob for blob in trunk[name]] for name in trunk})
    (tmp_path / "out/trunk.caffemodel").unlink()
    done = run(
        "mcc_caffe.ablation",
        *("--train-on", f"mix:{two_sets}/train*0.5+{two_sets}/validation*0.5"),
        *("--measure-on", two_sets / "validation", "--trunk", other, "--out", tmp_path / "out"),
        *("--iterations", 1, "--batch-size", 2, "--", "--input-size", 64, "--colours"),
    )
    assert "holds trainings with trunk" in refusal(done)
    assert not (tmp_path / "out/trunk.caffemodel").exists()
    figures = {path.name for path in (tmp_path / "out").glob("*photographs*.png")}
    assert figures == {
        "ablation_photographs_pck.png",
    }


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--", "--seed", "3"], "the ablation decides --seed itself: leave it out after `--`"),
        (["--", "--colours", "--out=x"], "the ablation decides --out itself: leave it out"),
        (["--", "--only-stages"], "the ablation decides --only-stages itself"),
        (["--", "--see", "3"], "the ablation decides --seed itself: leave it out after `--`"),
        (["--", "--no-such-thing"], "unrecognized arguments: --no-such-thing"),
        (["data/lmdb"], "unrecognized arguments: data/lmdb"),
        (["--measure-on", "nowhere"], "nowhere"),
        (["--train-on", "nowhere"], "nowhere"),
        (["--trunk", "none.npz"], "the weights file none.npz was not found"),
        (["--measure-on", "a/hands+1", "a/hands 1"], "two sets are called hands_1: give each once"),
        (["--", "--solver", "none.prototxt"], "the solver none.prototxt was not found"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(two_sets, tmp_path, arguments, message):
    done = run("mcc_caffe.ablation", "--data", two_sets, "--out", tmp_path / "out", *arguments)
    assert message in refusal(done) and not (tmp_path / "out").exists()


def begin_training(folder, *_):
    """Stand for `train_once`, whose training is interrupted."""
    (folder / "snapshots").mkdir(parents=True, exist_ok=True)
    raise Begun


def test_settings_that_no_training_began_with_bind_nothing(two_sets, tmp_path, monkeypatch):
    def train(batch_size):
        words = ("--data", two_sets, "--out", tmp_path / "out", "--batch-size", batch_size)
        with pytest.raises(Begun):
            ablation.main(list(map(str, words)))

    monkeypatch.setattr(ablation, "train_once", begin)
    train(2)
    monkeypatch.setattr(ablation, "train_once", begin_training)
    train(3)
    with pytest.raises(UserError, match="holds trainings with batch_size 3, not 2: give another"):
        train(2)


def test_what_a_solver_makes_of_a_length_is_recorded(two_sets, tmp_path, monkeypatch):
    """The first half of a training whose rate falls to 0 is no training of half the length."""
    monkeypatch.setattr(ablation, "train_once", begin_training)
    falling, stepped = tmp_path / "falling.prototxt", tmp_path / "stepped.prototxt"
    shutil.copy(ROOT / "solver/mini/solver_fine_tuning.prototxt", falling)
    shutil.copy(ROOT / "solver/mini/solver.prototxt", stepped)

    def train(solver, iterations):
        out = ("--out", tmp_path / solver.stem, "--iterations", iterations)
        ablation.main(list(map(str, ("--data", two_sets, *out, "--", "--solver", solver))))

    for solver, iterations in ((falling, 40), (falling, 40), (stepped, 40), (stepped, 20)):
        with pytest.raises(Begun):
            train(solver, iterations)
    with pytest.raises(UserError, match="holds trainings with iterations 40, not 20: give another"):
        train(falling, 20)
    for solver in (falling, stepped):
        solver.write_text(solver.read_text().replace("base_lr: 0.00", "base_lr: 0.01"))
        with pytest.raises(UserError, match="holds trainings with solver_sha256 .*: give another"):
            train(solver, 40)
    recorded = tmp_path / "stepped/settings.json"
    earlier = json.loads(recorded.read_text())
    del earlier["solver_sha256"]  # as an earlier release left it
    recorded.write_text(json.dumps(earlier))
    with pytest.raises(UserError, match="holds trainings with solver_sha256 None, not"):
        train(stepped, 40)


def test_what_is_trained_on_needs_masks_in_a_part_of_it(two_sets, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "train_once", begin)
    samples = SampleSet(two_sets / "train")
    bare = [dataclasses.replace(samples[index], mask_png=None) for index in range(2)]
    write_set(tmp_path / "bare", bare)
    options = ["--measure-on", str(two_sets / "validation"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="bare has no masks: the ablation needs a set that has"):
        ablation.main([*options, "--train-on", str(tmp_path / "bare")])
    assert not (tmp_path / "out").exists()
    mixture = f"mix:{tmp_path / 'bare'}*0.5+{two_sets / 'train'}*0.5"
    with pytest.raises(Begun):
        ablation.main([*options, "--train-on", mixture])
    with pytest.raises(UserError, match="--data here is not needed beside --train-on and --meas"):
        ablation.main([*options, "--train-on", mixture, "--data", "here"])


@pytest.mark.parametrize(
    "words, source, is_made",
    [
        ("", "train", True),
        ("--train-on {sets}/validation", "validation", True),
        ("--measure-on {sets}/train", "train", True),
        ("--train-on {sets}/validation --measure-on {sets}/train", "validation", False),
        ("--data {sets}", "train", False),
        ("--data {sets} --train-on {sets}/validation", "validation", False),
    ],
)
def test_hands_are_made_where_a_set_is_missing(
    words, source, is_made, two_sets, tmp_path, monkeypatch
):
    made, sources = [], []

    def make(out, train_count, test_count):
        made.append((train_count, test_count))
        return two_sets

    def train(folder, title, iterations, arguments, trunk):
        sources.append(arguments[0])
        raise Begun

    monkeypatch.setattr(ablation, "make_synthetic_set", make)
    monkeypatch.setattr(ablation, "train_once", train)
    with pytest.raises(Begun):
        ablation.main([*words.format(sets=two_sets).split(), "--out", str(tmp_path / "out")])
    assert made == ([(2000, 300)] if is_made else [])
    assert sources == [str(two_sets / source)]


@pytest.mark.parametrize(
    "words, trained_on_hands, measured_on_hands",
    [
        ([], True, True),
        (["--data", "a set"], False, False),
        (["--train-on", "a"], False, True),
        (["--measure-on", "a", "b"], True, False),
        (["--seeds", "3", "5", "--", "--colours"], True, True),
    ],
)
def test_the_report_has_the_command_and_what_it_made_itself(
    words, trained_on_hands, measured_on_hands
):
    options = ablation.parse_arguments(["--iterations", "9", "--batch-size", "4", *words])
    setting = ablation._describe_setting(options)
    command, _, sentences = setting.partition("` trained the `mini` variant, ")
    name = "`python -m mcc_caffe.ablation "
    assert command.startswith(name) and sentences.startswith("9 iterations of 4 images a process")
    again = ablation.parse_arguments(shlex.split(command.removeprefix(name)))
    assert vars(again) == vars(options)
    assert "All layers are initialised at random." in sentences
    assert ("It trained on 2000 easy synthetic hands." in sentences) == trained_on_hands
    assert ("It measured on 300 easy synthetic hands." in sentences) == measured_on_hands


@pytest.mark.parametrize("content", ["{cut", "[1]", "[" * 100_000])
def test_damaged_settings_are_named_where_a_training_has_begun(content, drawn_set, tmp_path):
    settings = tmp_path / training_comparison.SETTINGS
    settings.write_text(content)
    training_comparison.check_settings(tmp_path, str(drawn_set), {"batch_size": 2})
    assert json.loads(settings.read_text())["batch_size"] == 2
    (tmp_path / "full_seed0/snapshots").mkdir(parents=True)
    settings.write_text(content)
    with pytest.raises(UserError, match="settings.json is damaged: remove the folder, or give"):
        training_comparison.check_settings(tmp_path, str(drawn_set), {"batch_size": 2})
    assert settings.read_text() == content


@pytest.mark.parametrize("seeds", [["0"], ["1", "1"], ["0", "1", "1"]])
def test_one_seed_is_not_enough(seeds):
    with pytest.raises(UserError, match="give at least two different ones"):
        ablation.parse_arguments(["--seeds", *seeds])


def test_its_own_set_is_made_once(tmp_path):
    data = training_comparison.make_synthetic_set(tmp_path, train_count=3, test_count=2)
    assert [len(SampleSet(data / name)) for name in ("train", "validation")] == [3, 2]
    before = (data / "train/info.json").stat().st_mtime_ns
    assert (
        training_comparison.make_synthetic_set(tmp_path, train_count=3, test_count=2) == data
        and (data / "train/info.json").stat().st_mtime_ns == before
    )


@pytest.mark.parametrize("name", ["notes.md", "a.md"])
def test_a_report_replaces_no_file_of_the_user(name, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "require_caffe", begin)
    report = tmp_path / name
    for path in (tmp_path / "notes.md", tmp_path / "a_masks.png"):
        path.write_text("of the user")
    with pytest.raises(UserError, match="would be overwritten and is no result of this command"):
        ablation.main(["--report", str(report), "--out", str(tmp_path / "out")])
    report.write_text(f"{TITLE}\n\nOf an earlier run.\n")
    with pytest.raises(Begun):
        ablation.main(["--report", str(report), "--out", str(tmp_path / "out")])
