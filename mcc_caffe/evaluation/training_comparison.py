"""What the commands share that compare trainings with one another.

They take the same options, train on the same samples with every seed, leave finished trainings
alone, and read the evaluation of all of them.
"""

import argparse
import csv
import json
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_tools import build_lmdb, synth
from data_tools.build_lmdb import TRAIN, VALIDATION
from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.run_folder import SNAPSHOTS
from mcc_caffe.core.commands import command_parser, positive_int, seed_number
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_atomically
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.data.sources import MIXED, SampleSource, mixture_shares, open_source
from mcc_caffe.evaluation.ablation_report import TrainingResult
from mcc_caffe.evaluation.evaluation_report import IMAGES, RESULTS
from mcc_caffe.training.child_process import run_training

TRAIN_HANDS, TEST_HANDS = 2000, 300  # easy ones: a short training tells their fingers apart
SETTINGS = "settings.json"

_log = logging.getLogger(__name__)


def comparison_parser(
    description: str | None, default_out: str, default_seeds: Sequence[int] = (0, 1)
) -> argparse.ArgumentParser:
    """Make the parser of a command that compares trainings with one another.

    Args:
        description: Text of --help.
        default_out: Default of --out; the report has its name.
        default_seeds: Default of --seeds.
    """
    parser = command_parser(description)
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
        type=positive_int,
        default=1000,
        metavar="N",
        help="iterations of each training (default: %(default)s)",
    )
    add(
        "--batch-size",
        type=positive_int,
        default=8,
        metavar="N",
        help="images in each iteration (default: %(default)s)",
    )
    add(
        "--seeds",
        type=seed_number,
        nargs="+",
        default=list(default_seeds),
        metavar="N",
        help="seeds, one for each training of a network "
        f"(default: {' '.join(map(str, default_seeds))})",
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


def has_masks(samples: SampleSet) -> bool:
    """Tell whether any sample of a set has a mask."""
    return any(samples[index].mask_png is not None for index in range(len(samples)))


def open_parts(source: str) -> list[SampleSource]:
    """Open each source of a mixture, or the one that a source is."""
    parts = mixture_shares(source) if source.startswith(MIXED) else [source]
    return [open_source(part) for part in parts]


def check_settings(out: pathlib.Path, source: str, settings: dict[str, Any]) -> None:
    """Check that the trainings in a folder have the settings of those before, and record them.

    A digest of each set of the source is recorded, too, as a set may be built again of other data.
    Settings of a call that began no training, for example because mcc_caffe.train refused them,
    bind nothing.

    Args:
        out: Folder of the comparison.
        source: What all its trainings train on, as mcc_caffe.train takes it, with absolute paths.
        settings: What else they have in common; JSON values.

    Raises:
        UserError: The folder holds trainings with another setting.
    """
    digests = [  # None for hands that are rendered live
        part.digest() if isinstance(part, SampleSet) else None for part in open_parts(source)
    ]
    settings = {"data": source, "data_sha256": digests, **settings}
    path = out / SETTINGS
    is_bound = path.is_file() and any(out.rglob(SNAPSHOTS))
    try:
        recorded = json.loads(path.read_bytes()) if is_bound else settings
    except (ValueError, RecursionError):
        recorded = None
    if not isinstance(recorded, dict):
        raise UserError(f"{path} is damaged: remove the folder, or give another --out")
    for name, value in settings.items():
        if recorded.get(name) != value:
            raise UserError(
                f"{out} holds trainings with {name} {recorded.get(name)}, not {value}: "
                "give another --out"
            )
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(settings).encode())


def train_once(
    folder: pathlib.Path,
    title: str,
    iterations: int,
    arguments: Sequence[Any],
    start_weights: pathlib.Path | None = None,
) -> pathlib.Path:
    """Train a network, or finish its training, in a run folder of its own.

    Args:
        folder: Run folder. If its training is finished, nothing is done.
        title: Name of the training, for messages.
        iterations: Iterations of the whole training.
        arguments: The other arguments of mcc_caffe.train.
        start_weights: Weights to start from; None for a random start.

    Returns:
        Path of the trained weights.
    """
    weights = snapshots.weights_path(folder / SNAPSHOTS, iterations)
    if weights.with_suffix(".solverstate") in snapshots.pairs(folder / SNAPSHOTS):
        _log.info("%s: finished before", folder)
        return weights
    _log.info("%s: %s", folder, title)
    budget = ["--iterations", iterations, "--snapshot", max(iterations // 4, 1)]
    start = ["--resume", "auto", *(["--weights", str(start_weights)] if start_weights else [])]
    run_training([*arguments, "--out", folder, *start, *budget])
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
    models = json.loads((folder / RESULTS).read_text())["models"]
    with open(folder / IMAGES, newline="") as file:
        rows = list(csv.DictReader(file))
    results = []
    for (network, seed), model in zip(trainings, models, strict=True):
        ious = [float(row["iou"]) for row in rows if row["model"] == model["name"] and row["iou"]]
        numbers = next(iter(model["sets"].values()))
        results.append(TrainingResult(network, seed, numbers, np.array(ious)))
    return results
