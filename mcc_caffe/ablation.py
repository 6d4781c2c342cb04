"""Tests the paper's two claims about its two stages (4.2) at a size that a CPU can train.

    python -m mcc_caffe.ablation                         # on synthetic hands that it makes itself
    python -m mcc_caffe.ablation --data data/lmdb --iterations 20000 --seeds 0 1 2 \\
        --report docs/ablation.md

Trains the mini variant three times with every seed, on equal samples: the full network, one
without the mask stage and one without the pose stage. Then measures all of them on the validation
set. The report, with tables and figures, says whether the masks are better with the pose stage
(Table 1) and the keypoints with the mask (Fig. 9).

All files lie in --out. When the command runs again, it leaves finished trainings alone and goes on
with the one that was interrupted.
"""

import argparse
import csv
import json
import logging
import pathlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import numpy as np

from data_tools import build_lmdb, synth
from data_tools.build_lmdb import TRAIN, VALIDATION
from mcc_caffe import evaluate
from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.snapshots import SNAPSHOTS
from mcc_caffe.core.commands import command_parser, positive, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_whole
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.evaluation.ablation_report import (
    FULL,
    NO_MASK,
    NO_POSE,
    FigureNames,
    TrainingResult,
    draw_masks,
    draw_pck,
    format_report,
)

# The stage that each network lacks, in the words of mcc_caffe.train --without.
MISSING_STAGES = {FULL: None, NO_MASK: "mask", NO_POSE: "pose"}
TRAIN_HANDS, TEST_HANDS = 2000, 300  # easy ones: a short training tells their fingers apart
SETTINGS = "settings.json"

_log = logging.getLogger(__name__)


def comparison_parser(
    command: str, description: str | None, default_out: str
) -> argparse.ArgumentParser:
    """Make the parser of a command that compares trainings with one another.

    Args:
        command: Name of the command's module.
        description: Text of --help.
        default_out: Default of --out; the report has its name.
    """
    parser = command_parser(description, prog=f"python -m {command}")
    add = parser.add_argument
    add(
        "--data",
        type=pathlib.Path,
        metavar="DIR",
        help=f"folder of the LMDB sets {TRAIN} and {VALIDATION} "
        f"(default: {TRAIN_HANDS} and {TEST_HANDS} easy synthetic hands, made in --out)",
    )
    add(
        "--iterations",
        type=positive,
        default=1000,
        metavar="N",
        help="iterations of each training (default: %(default)s)",
    )
    add(
        "--batch-size",
        type=positive,
        default=8,
        metavar="N",
        help="images in each iteration (default: %(default)s)",
    )
    add(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1],
        metavar="N",
        help="seeds, one for each training of a network (default: 0 1)",
    )
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path(default_out),
        metavar="DIR",
        help="folder for all files (default: %(default)s)",
    )
    add(
        "--report",
        type=pathlib.Path,
        metavar="FILE",
        help="Markdown file to write, with its figures beside it "
        f"(default: {pathlib.Path(default_out).name}.md in --out)",
    )
    return parser


def describe_setting(
    command: str, options: argparse.Namespace, sample_counts: dict[str, int], networks: str
) -> str:
    """Return the sentence of a report that says how its trainings were made.

    Args:
        command: Name of the command's module.
        options: Its options.
        sample_counts: {set: number of samples}, as `count_samples` returns it.
        networks: The trained networks, in words.
    """
    samples = (
        f"samples of {options.data}"
        if options.data
        else "easy synthetic hands (`data_tools.synth --easy`)"
    )
    data_option = f" --data {options.data}" if options.data else ""
    seeds = " ".join(map(str, options.seeds))
    return (
        f"`python -m {command}{data_option} --iterations {options.iterations} "
        f"--batch-size {options.batch_size} --seeds {seeds}`: {networks}, "
        f"{options.iterations} iterations of {options.batch_size} images, with augmentation, "
        f"on {sample_counts[TRAIN]} {samples}; "
        f"{sample_counts[VALIDATION]} others to measure on, in a single pass."
    )


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = comparison_parser("mcc_caffe.ablation", __doc__, "runs/ablation")
    options = parser.parse_args(argv)
    if len(set(options.seeds)) < max(2, len(options.seeds)):
        raise UserError(
            f"--seeds {' '.join(map(str, options.seeds))}: "
            "give at least two different ones, they show what is chance"
        )
    return options


def make_synthetic_set(out: pathlib.Path, train_count: int, test_count: int) -> pathlib.Path:
    """Make the sets of easy synthetic hands, unless they are there.

    Args:
        out: Folder of the comparison.
        train_count: Hands to train on.
        test_count: Hands to measure on.

    Returns:
        The folder of the LMDB sets, `out`/lmdb.
    """
    if not (out / "lmdb").is_dir():
        counts = ["--train", str(train_count), "--test", str(test_count)]
        synth.main(["--out", str(out / "hands"), *counts, "--easy"])
        build_lmdb.main([str(out / "hands"), str(out / "lmdb")])
    return out / "lmdb"


def count_samples(data: pathlib.Path) -> dict[str, int]:
    """Return the number of samples of the sets for training and for validation.

    Args:
        data: Folder of the LMDB sets.

    Raises:
        UserError: If a set is missing or has no masks.
    """
    counts = {}
    for name in (TRAIN, VALIDATION):
        samples = SampleSet(data / name)
        if all(samples[index].mask_png is None for index in range(len(samples))):
            raise UserError(f"{data / name} has no masks: the ablation needs a set that has them")
        counts[name] = len(samples)
    return counts


def check_settings(out: pathlib.Path, settings: dict[str, Any]) -> None:
    """Check that the trainings in a folder have the settings of those before, and record them.

    Args:
        out: Folder of the comparison.
        settings: What all its trainings have in common; JSON values.

    Raises:
        UserError: If the folder holds trainings with another setting.
    """
    path = out / SETTINGS
    recorded = json.loads(path.read_text()) if path.is_file() else settings
    for name, value in settings.items():
        if recorded.get(name) != value:
            raise UserError(
                f"{out} holds trainings with {name} {recorded.get(name)}, not {value}: "
                "give another --out"
            )
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(settings).encode())


def run_training(arguments: Sequence[Any]) -> None:
    """Run `mcc_caffe.train` in a process of its own.

    Ctrl-C and SIGTERM are passed on to it, so that it takes a snapshot and ends. Then this command
    ends too.

    Args:
        arguments: Arguments of mcc_caffe.train.

    Raises:
        KeyboardInterrupt: If a signal ended the training.
        UserError: If the training failed.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "mcc_caffe.train", *map(str, arguments)], start_new_session=True
    )
    signals = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        process.terminate()

    handlers = {
        number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        status = process.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if signals:
        raise KeyboardInterrupt
    if status:
        raise UserError(
            f"the training ended with exit code {status} (see above): "
            "mend that and run the command again, it goes on"
        )


def train_once(
    folder: pathlib.Path, title: str, iterations: int, arguments: Sequence[Any]
) -> pathlib.Path:
    """Train a network, or finish its training, in a run folder of its own.

    Args:
        folder: Run folder. If its training is finished, nothing is done.
        title: Name of the training, for messages.
        iterations: Iterations of the whole training.
        arguments: The other arguments of mcc_caffe.train.

    Returns:
        Path of the trained weights.
    """
    weights = snapshots.weights_path(folder / SNAPSHOTS, iterations)
    if weights.with_suffix(".solverstate") in snapshots.pairs(folder / SNAPSHOTS):
        _log.info("%s: finished before", folder)
        return weights
    _log.info("%s: %s", folder, title)
    budget = ["--iterations", iterations, "--snapshot", max(iterations // 4, 1)]
    run_training([*arguments, "--out", folder, "--resume", "auto", *budget])
    return weights


def read_results(
    folder: pathlib.Path, trainings: Sequence[tuple[str, int]]
) -> list[TrainingResult]:
    """Read what an evaluation wrote of several trainings on one set.

    Args:
        folder: Folder of the evaluation.
        trainings: (network, seed) of each training, in the order in which the evaluation was given
            their weights.
    """
    models = json.loads((folder / evaluate.RESULTS).read_text())["models"]
    with open(folder / evaluate.IMAGES, newline="") as file:
        rows = list(csv.DictReader(file))
    results = []
    for (network, seed), model in zip(trainings, models, strict=True):
        ious = [float(row["iou"]) for row in rows if row["model"] == model["name"] and row["iou"]]
        numbers = next(iter(model["sets"].values()))
        results.append(TrainingResult(network, seed, numbers, np.array(ious)))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Train and measure all networks, and write the report."""
    options = parse_arguments(argv)
    data = options.data or make_synthetic_set(options.out, TRAIN_HANDS, TEST_HANDS)
    sample_counts = count_samples(data)
    check_settings(options.out, {"data": str(data.absolute()), "batch_size": options.batch_size})
    trainings = [(network, seed) for seed in options.seeds for network in MISSING_STAGES]
    weights = []
    for network, seed in trainings:
        folder = options.out / f"{network.replace(' ', '_')}_seed{seed}"
        arguments = [data / TRAIN, "--variant", "mini", "--seed", seed]
        arguments += ["--batch-size", options.batch_size]
        if MISSING_STAGES[network]:
            arguments += ["--without", MISSING_STAGES[network]]
        weights.append(train_once(folder, f"{network}, seed {seed}", options.iterations, arguments))
    evaluation = options.out / "evaluation"
    single_pass = [str(data / VALIDATION), "--levels", "1", "--out", str(evaluation)]
    evaluate.main([*single_pass, "--weights", *map(str, weights)])
    results = read_results(evaluation, trainings)

    report = options.report or options.out / "ablation.md"
    figures = FigureNames(pck=f"{report.stem}_pck.png", masks=f"{report.stem}_masks.png")
    setting = describe_setting("mcc_caffe.ablation", options, sample_counts, "the `mini` variant")
    report.parent.mkdir(parents=True, exist_ok=True)
    write_whole(report.with_name(figures.pck), draw_pck(results))
    write_whole(report.with_name(figures.masks), draw_masks(results))
    write_whole(report, format_report(results, setting, figures).encode())
    print(format_report(results, setting, None))
    _log.info("%s: the same with figures", report)


if __name__ == "__main__":
    run_command(main)
