"""Tests the paper's two claims about its two stages (section 4.2) at a size that a CPU can train.

    python -m mcc_caffe.ablation                         # on synthetic hands that it makes itself
    python -m mcc_caffe.ablation --data data/lmdb --iterations 20000 --report reports/ablation.md
    # trained on a mixture, from a trained trunk, measured on two sets
    python -m mcc_caffe.ablation --train-on "mix:photos/train*0.5+hands/train*0.5" \\
        --trunk mcc_caffe/pretrained/mini.npz --measure-on photos/validation hands/validation \\
        -- --processes 2 --windows 1.1,2.5 --colours

Trains the mini variant three times with every seed, on equal samples: the full network, one
without the mask head and one without the pose stages. Then measures all of them in a single pass.
The report, with tables and figures, says whether the masks are better with the pose stage (Table 1)
and the keypoints with the mask (Fig. 9). What follows after `--` are options of mcc_caffe.train.

All files lie in --out. When the command runs again, it leaves finished trainings alone and goes on
with the one that was interrupted.
"""

import argparse
import logging
import pathlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data_tools.build_lmdb import TRAIN, VALIDATION
from data_tools.sets import choose_splits, open_sets
from mcc_caffe import evaluate, train
from mcc_caffe.caffe_io.onnx_model import parameter_shapes
from mcc_caffe.caffe_io.precision import TRAINING_PRECISION, choose_precision
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.pycaffe import require_caffe
from mcc_caffe.caffe_io.weights import fitting_layers, write_caffemodel
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import file_sha256, require_file, write_together
from mcc_caffe.core.output_checks import check_report
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.data.sources import absolute_source
from mcc_caffe.evaluation.ablation_report import (
    FULL,
    NO_MASK,
    NO_POSE,
    TITLE,
    FigureNames,
    MeasuredSet,
    draw_masks,
    draw_pck,
    format_report,
)
from mcc_caffe.evaluation.model_names import as_file_name, check_names, short_names
from mcc_caffe.evaluation.training_comparison import (
    TEST_HANDS,
    TRAIN_HANDS,
    check_settings,
    comparison_parser,
    has_masks,
    make_synthetic_set,
    open_parts,
    read_results,
    train_once,
)
from mcc_caffe.paper import MASK_SCORES_BLOB

TRUNK = "trunk.caffemodel"  # in the folder of the comparison
SEEDS = (0, 1, 2, 3, 4)  # two decide very large differences only
# Options of mcc_caffe.train that the ablation decides itself, and those that change no result.
_OWN_OPTIONS = (
    "variant",
    "without",
    "batch_size",
    "iterations",
    "snapshot",
    "seed",
    "out",
    "weights",
    "resume",
    "only_stages",
)
_HARMLESS_OPTIONS = ("data", "workers", "interval")
# The stage that each network lacks, in the words of mcc_caffe.train --without.
MISSING_STAGES = {FULL: None, NO_MASK: "mask", NO_POSE: "pose"}

_log = logging.getLogger(__name__)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = comparison_parser(__doc__, "runs/ablation", SEEDS)
    add = parser.add_argument
    add(
        "--train-on",
        metavar="SOURCE",
        help=f"what to train on, as mcc_caffe.train takes it (default: {TRAIN} of --data)",
    )
    add(
        "--measure-on",
        nargs="+",
        type=pathlib.Path,
        metavar="SET",
        help="sets to measure on, as mcc_caffe.evaluate takes them; a set without masks tests only "
        f"the claim about keypoints (default: {VALIDATION} of --data)",
    )
    add(
        "--trunk",
        type=pathlib.Path,
        metavar="FILE",
        help="weights of which all networks take the trunk, conv1_1 to conv5_3_CPM; mask head and "
        "pose stages are initialised at random (default: all layers are)",
    )
    add(
        "training_options",
        nargs="*",
        metavar="-- OPTION",
        help="options of mcc_caffe.train for all trainings, but those that the ablation decides "
        "itself, such as --seed",
    )
    options = parser.parse_args(argv)
    if len(set(options.seeds)) < max(2, len(options.seeds)):
        raise UserError(
            f"--seeds {' '.join(map(str, options.seeds))}: "
            "give at least two different ones, they show what is chance"
        )
    if options.data and options.train_on and options.measure_on:
        raise UserError(
            f"--data {options.data} is not needed beside --train-on and --measure-on: leave it out"
        )
    set_names = short_names(options.measure_on or [])
    check_names([as_file_name(name) for name in set_names], "sets")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train and measure all networks, and write the report."""
    options = parse_arguments(argv)
    report = options.report or options.out / "ablation.md"
    figures = _name_figures(report, options.measure_on or [pathlib.Path(VALIDATION)])
    check_report(report, [name for names in figures for name in names], TITLE)
    require_caffe("training")
    training_settings = check_training_options(options.training_options, options.iterations)
    trunk_layers = read_trunk(options.trunk) if options.trunk else None
    source, sets = _find_data(options)
    check_settings(
        options.out,
        source,
        {
            "batch_size": options.batch_size,
            "trunk": str(options.trunk.absolute()) if options.trunk else None,
            "trunk_sha256": file_sha256(options.trunk) if options.trunk else None,
            **training_settings,
        },
    )
    trunk = None
    if trunk_layers:
        trunk = options.out / TRUNK
        write_caffemodel(trunk, "trunk", trunk_layers)
    trainings = [(network, seed) for seed in options.seeds for network in MISSING_STAGES]
    weights = [_train(options, source, trunk, *training) for training in trainings]

    measured: list[MeasuredSet] = []
    contents: dict[pathlib.Path, bytes] = {}
    for name, path, figure_names in zip(short_names(sets), sets, figures):
        evaluation = options.out / "evaluation" / as_file_name(name)
        single_pass = [str(path), "--levels", "1", "--out", str(evaluation)]
        evaluate.main([*single_pass, "--weights", *map(str, weights)])
        results = read_results(evaluation, trainings)
        measured_set = MeasuredSet(name, results, figure_names)
        contents |= _draw_figures(measured_set, figure_names, report.parent)
        measured.append(measured_set)
    setting = _describe_setting(options)
    contents[report] = format_report(measured, setting).encode()
    report.parent.mkdir(parents=True, exist_ok=True)
    write_together(contents)
    print(
        format_report([replace(measured_set, figures=None) for measured_set in measured], setting)
    )
    _log.info("%s: the same with figures", report)


def _train(
    options: argparse.Namespace, source: str, trunk: pathlib.Path | None, network: str, seed: int
) -> pathlib.Path:
    """Train a network with a seed, unless that is done, and return the path of its weights."""
    folder = options.out / f"{network.replace(' ', '_')}_seed{seed}"
    arguments = [source, "--variant", "mini", "--seed", seed]
    arguments += ["--batch-size", options.batch_size, *options.training_options]
    if MISSING_STAGES[network]:
        arguments += ["--without", MISSING_STAGES[network]]
    return train_once(folder, f"{network}, seed {seed}", options.iterations, arguments, trunk)


def _draw_figures(
    measured_set: MeasuredSet, names: FigureNames, folder: pathlib.Path
) -> dict[pathlib.Path, bytes]:
    """Return {path: content} of the figure of each claim that the set can answer."""
    contents = {}
    for claim in measured_set.claims():
        if claim.output == "masks":
            contents[folder / names.masks] = draw_masks(measured_set.results)
        else:
            contents[folder / names.pck] = draw_pck(measured_set.results)
    return contents


def _name_figures(report: pathlib.Path, sets: Sequence[pathlib.Path]) -> list[FigureNames]:
    """Return the file names of each set's figures, which stand beside the report."""
    endings = [f"_{as_file_name(name)}" for name in short_names(sets)] if len(sets) > 1 else [""]
    return [
        FigureNames(pck=f"{report.stem}{ending}_pck.png", masks=f"{report.stem}{ending}_masks.png")
        for ending in endings
    ]


def check_training_options(words: Sequence[str], iterations: int) -> dict[str, Any]:
    """Return what options of mcc_caffe.train change of a training, as JSON values.

    Args:
        words: The options.
        iterations: The length of the whole training. It is among the returned values where the
            solver's rate depends on it, for there a longer training begins otherwise.

    Raises:
        UserError: An option is the ablation's own to decide, or the solver is missing or damaged.
        SystemExit: mcc_caffe.train does not take them; stderr says why.
    """
    default = vars(train.parse_arguments(["source"]))
    given = vars(train.parse_arguments(["source", *words]))
    for name in _OWN_OPTIONS:
        if given[name] != default[name]:
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"the ablation decides {option} itself: leave it out after `--`")
    given["precision"] = choose_precision(
        given["precision"], on_gpu=bool(given["gpus"]), default=TRAINING_PRECISION
    )
    settings: dict[str, Any] = {
        name: str(value)
        for name, value in given.items()
        if name not in (*_OWN_OPTIONS, *_HARMLESS_OPTIONS)
    }
    if given["solver"]:
        path = require_file(given["solver"], "solver")
        settings["solver_sha256"] = file_sha256(path)
        # Of Caffe's policies poly alone makes the rate depend on the length.
        if read_text("SolverParameter", path).lr_policy == "poly":
            settings["iterations"] = iterations
    return settings


def _find_data(options: argparse.Namespace) -> tuple[str, list[pathlib.Path]]:
    """Return what to train on, in the words of mcc_caffe.train, and the sets to measure on.

    Raises:
        UserError: Something is missing, what is trained on has no masks, or a set has several
            splits.
    """
    source, sets = options.train_on, options.measure_on
    data = options.data
    if not (data or (source and sets)):
        data = make_synthetic_set(options.out, TRAIN_HANDS, TEST_HANDS)
    source = absolute_source(source or str(data / TRAIN))
    parts = open_parts(source)
    if not any(not isinstance(part, SampleSet) or has_masks(part) for part in parts):
        raise UserError(f"{source} has no masks: the ablation needs a set that has them")
    sets = sets or [data / VALIDATION]
    for path in sets:
        choose_splits(path, list(open_sets(path)), None)
    return source, sets


def read_trunk(weights: pathlib.Path) -> dict[str, list[np.ndarray]]:
    """Read the layers of `mini`'s trunk, conv1_1 to conv5_3_CPM.

    Args:
        weights: A caffemodel or packed weights.

    Returns:
        {layer: its parameters}.

    Raises:
        UserError: The file is missing, lacks a layer, or has a layer of another shape.
    """
    prototxt = require_shipped("prototxt/mini/deploy_without_pose.prototxt")
    shapes = parameter_shapes(read_text("NetParameter", prototxt))
    del shapes[MASK_SCORES_BLOB]
    return fitting_layers(weights, shapes)


def _describe_setting(options: argparse.Namespace) -> str:
    """Return the sentences of the report that say how its trainings were made."""
    words = ["--iterations", options.iterations, "--batch-size", options.batch_size]
    for name in ("data", "train_on", "trunk"):
        if getattr(options, name):
            words += [f"--{name.replace('_', '-')}", getattr(options, name)]
    if options.measure_on:
        words += ["--measure-on", *options.measure_on]
    words += ["--seeds", *options.seeds]
    if options.training_options:
        words += ["--", *options.training_options]
    sentences = [
        f"`python -m mcc_caffe.ablation {shlex.join(map(str, words))}` trained the `mini` variant, "
        f"{options.iterations} iterations of {options.batch_size} images a process, and measured "
        "it in a single pass."
    ]
    if options.trunk:
        sentences.append(
            f"The trunk is initialised with {options.trunk.name}, mask head and pose stages at "
            "random."
        )
    else:
        sentences.append("All layers are initialised at random.")
    if not (options.data or options.train_on):
        sentences.append(f"It trained on {TRAIN_HANDS} easy synthetic hands.")
    if not (options.data or options.measure_on):
        sentences.append(f"It measured on {TEST_HANDS} easy synthetic hands.")
    return " ".join(sentences)


if __name__ == "__main__":
    run_command(main)
