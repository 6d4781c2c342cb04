"""Tests the paper's two findings about its two stages (4.2) at a size that a CPU can train.

    python -m mcc_caffe.ablation                                     # on synthetic hands that it makes itself
    python -m mcc_caffe.ablation --data data/lmdb --iterations 20000 --seeds 0 1 2 --report docs/ablation.md

Trains the mini variant whole, without the mask and without the pose stage, with every seed and on the same budget; measures all
of them on the validation set; and writes a report, with tables and figures, that says whether the masks are better with the
pose stage (Table 1) and the keypoints with the mask (Fig. 9). Everything lies in --out. Run again, it leaves finished
trainings alone and goes on with the one that was interrupted.
"""

import argparse
import csv
import json
import pathlib
import signal
import subprocess
import sys

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
    Result,
    draw_masks,
    draw_pck,
    text,
)

WITHOUT = {FULL: None, NO_MASK: "mask", NO_POSE: "pose"}  # of each net, as mcc_caffe.train takes it
TRAIN_HANDS, TEST_HANDS = 2000, 300  # easy ones: a short training tells their fingers apart
SETTINGS = "settings.json"


def parser_of(command: str, doc: str, out: str) -> argparse.ArgumentParser:
    """The options of a command that compares trainings with one another. out: the default of --out, after which the report is named."""
    parser = command_parser(doc, prog=f"python -m {command}")
    add = parser.add_argument
    add(
        "--data",
        type=pathlib.Path,
        metavar="DIR",
        help=f"folder of the LMDB sets {TRAIN} and {VALIDATION} (default: {TRAIN_HANDS} and {TEST_HANDS} easy synthetic hands, in --out)",
    )
    add(
        "--iterations",
        type=positive,
        default=1000,
        metavar="N",
        help="of each training (default: %(default)s)",
    )
    add(
        "--batch-size",
        type=positive,
        default=8,
        metavar="N",
        help="images an iteration (default: %(default)s)",
    )
    add(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1],
        metavar="N",
        help="of each net's trainings (default: 0 1)",
    )
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path(out),
        metavar="DIR",
        help="default: %(default)s",
    )
    add(
        "--report",
        type=pathlib.Path,
        metavar="FILE",
        help=f"Markdown file to write, its figures beside it (default: {pathlib.Path(out).name}.md in --out)",
    )
    return parser


def setting(command: str, options: argparse.Namespace, counts: dict, what: str) -> str:
    """The sentence of a report that says how its trainings were made. what: the nets; counts: as `check_masks` gives them."""
    hands = (
        f"samples of {options.data}"
        if options.data
        else "easy synthetic hands (`data_tools.synth --easy`)"
    )
    line = f"python -m {command}{f' --data {options.data}' if options.data else ''} --iterations {options.iterations}"
    line += f" --batch-size {options.batch_size} --seeds {' '.join(map(str, options.seeds))}"
    return (
        f"`{line}`: {what}, {options.iterations} iterations of {options.batch_size} images, with augmentation, "
        f"on {counts[TRAIN]} {hands}; {counts[VALIDATION]} others to measure on, in a single pass."
    )


def arguments(argv=None) -> argparse.Namespace:
    options = parser_of("mcc_caffe.ablation", __doc__, "runs/ablation").parse_args(argv)
    if len(set(options.seeds)) < max(2, len(options.seeds)):
        raise UserError(
            f"--seeds {' '.join(map(str, options.seeds))}: give at least two different ones, they show what is chance"
        )
    return options


def synthetic_set(out: pathlib.Path, train: int, test: int) -> pathlib.Path:
    """Makes `out`/lmdb of easy synthetic hands, unless it is there; returns it."""
    if not (out / "lmdb").is_dir():
        synth.main(
            ["--out", str(out / "hands"), "--train", str(train), "--test", str(test), "--easy"]
        )
        build_lmdb.main([str(out / "hands"), str(out / "lmdb")])
    return out / "lmdb"


def check_masks(data: pathlib.Path) -> dict:
    """{set: its samples' count} of `data`; UserError where a set is missing or has no masks."""
    counts = {}
    for name in (TRAIN, VALIDATION):
        samples = SampleSet(data / name)
        if all(samples[place].mask_png is None for place in range(len(samples))):
            raise UserError(f"{data / name} has no masks: the ablation needs a set that has them")
        counts[name] = len(samples)
    return counts


def check_settings(out: pathlib.Path, settings: dict) -> None:
    """Remembers what the trainings in `out` have in common; UserError where those that are there had another."""
    path = out / SETTINGS
    found = json.loads(path.read_text()) if path.is_file() else settings
    for name, value in settings.items():
        if found.get(name) != value:
            raise UserError(
                f"{out} holds trainings with {name} {found.get(name)}, not {value}: give another --out"
            )
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(settings).encode())


def train(command: list) -> None:
    """Runs `mcc_caffe.train`; Ctrl-C and SIGTERM are handed on to it, so that it takes a snapshot and ends, and end this command."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mcc_caffe.train", *map(str, command)], start_new_session=True
    )
    asked = []

    def ask(number, frame):
        asked.append(number)
        process.terminate()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise KeyboardInterrupt
    if status:
        raise UserError(
            f"the training ended with exit code {status} (see above): mend that and run the command again, it goes on"
        )


def trained(folder: pathlib.Path, what: str, iterations: int, command: list) -> pathlib.Path:
    """The weights of a training in a run folder of its own, `mcc_caffe.train` with `command`; what is finished stays as it is."""
    weights = snapshots.weights_path(folder / SNAPSHOTS, iterations)
    if weights.with_suffix(".solverstate") in snapshots.pairs(folder / SNAPSHOTS):
        print(f"{folder}: finished before", flush=True)
        return weights
    print(f"{folder}: {what}", flush=True)
    train(
        [
            *command,
            "--out",
            folder,
            "--resume",
            "auto",
            "--iterations",
            iterations,
            "--snapshot",
            max(iterations // 4, 1),
        ]
    )
    return weights


def read_results(folder: pathlib.Path, runs: list) -> list:
    """[Result] of the runs (net, seed), in whose order the weights were given to the evaluation that wrote `folder`."""
    models = json.loads((folder / evaluate.RESULTS).read_text())["models"]
    with open(folder / evaluate.IMAGES, newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Result(
            net,
            seed,
            next(iter(model["sets"].values())),
            np.array(
                [float(row["iou"]) for row in rows if row["model"] == model["name"] and row["iou"]]
            ),
        )
        for (net, seed), model in zip(runs, models, strict=True)
    ]


def main(argv=None) -> None:
    options = arguments(argv)
    data = options.data or synthetic_set(options.out, TRAIN_HANDS, TEST_HANDS)
    counts = check_masks(data)
    check_settings(options.out, {"data": str(data.absolute()), "batch_size": options.batch_size})
    runs = [(net, seed) for seed in options.seeds for net in WITHOUT]
    weights = [
        trained(
            options.out / f"{net.replace(' ', '_')}_seed{seed}",
            f"{net}, seed {seed}",
            options.iterations,
            [
                data / TRAIN,
                "--variant",
                "mini",
                *(["--without", WITHOUT[net]] if WITHOUT[net] else []),
                "--seed",
                seed,
                "--batch-size",
                options.batch_size,
            ],
        )
        for net, seed in runs
    ]
    evaluation = options.out / "evaluation"
    evaluate.main(
        [
            str(data / VALIDATION),
            "--levels",
            "1",
            "--out",
            str(evaluation),
            "--weights",
            *map(str, weights),
        ]
    )
    results = read_results(evaluation, runs)

    report = options.report or options.out / "ablation.md"
    figures = {
        "pck": report.with_name(f"{report.stem}_pck.png"),
        "masks": report.with_name(f"{report.stem}_masks.png"),
    }
    report.parent.mkdir(parents=True, exist_ok=True)
    write_whole(figures["pck"], draw_pck(results))
    write_whole(figures["masks"], draw_masks(results))
    how = setting("mcc_caffe.ablation", options, counts, "the `mini` variant")
    write_whole(
        report, text(results, how, {name: path.name for name, path in figures.items()}).encode()
    )
    print(f"\n{text(results, how, {})}\n{report}: the same with figures")


if __name__ == "__main__":
    run_command(main)
