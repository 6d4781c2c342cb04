"""Tests the paper's two claims about its two stages (section 4.2) at a size that a CPU can train.

    python -m mcc_caffe.ablation                         # on synthetic hands that it makes itself
    python -m mcc_caffe.ablation --data data/lmdb --iterations 20000 --seeds 0 1 2 3 4 \\
        --report docs/ablation.md
    # trained on a mixture, from a trained trunk, measured on two sets
    python -m mcc_caffe.ablation --train-on "mix:photos/train*0.5+synth:seed=0&size=224*0.5" \\
        --trunk mcc_caffe/pretrained/mini.npz --measure-on photos/validation synth/validation \\
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

from data_tools.build_lmdb import TRAIN, VALIDATION
from mcc_caffe import evaluate
from mcc_caffe.caffe_io.pycaffe import import_caffe, require_caffe
from mcc_caffe.caffe_io.weights import fitting_layers, net_shapes, write_caffemodel
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import shipped, write_whole
from mcc_caffe.evaluation.ablation_report import (
    FULL,
    NO_MASK,
    NO_POSE,
    FigureNames,
    MeasuredSet,
    draw_masks,
    draw_pck,
    format_report,
)
from mcc_caffe.evaluation.training_comparison import (
    TEST_HANDS,
    TRAIN_HANDS,
    check_settings,
    comparison_parser,
    count_masked,
    make_synthetic_set,
    read_results,
    train_once,
)
from mcc_caffe.paper import MASK_SCORES_BLOB

TRUNK = "trunk.caffemodel"  # in the folder of the comparison
# Options of mcc_caffe.train that are not given after `--`.
_OWN_OPTIONS = (
    "--variant",
    "--without",
    "--seed",
    "--batch-size",
    "--iterations",
    "--snapshot",
    "--out",
    "--weights",
    "--resume",
)
# The stage that each network lacks, in the words of mcc_caffe.train --without.
MISSING_STAGES = {FULL: None, NO_MASK: "mask", NO_POSE: "pose"}

_log = logging.getLogger(__name__)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = comparison_parser("mcc_caffe.ablation", __doc__, "runs/ablation")
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
        help="sets to measure on, as mcc_caffe.evaluate takes them; one without masks answers for "
        f"the keypoints alone (default: {VALIDATION} of --data)",
    )
    add(
        "--trunk",
        type=pathlib.Path,
        metavar="FILE",
        help="weights of which all networks take the trunk, conv1_1 to conv5_3_CPM, as the paper "
        "takes VGG-19's; mask head and pose stages start at random (default: all do)",
    )
    add(
        "training_options",
        nargs="*",
        metavar="-- OPTION",
        help="options of mcc_caffe.train for all trainings",
    )
    options = parser.parse_args(argv)
    taken = [word for word in options.training_options if word.split("=")[0] in _OWN_OPTIONS]
    if taken:
        raise UserError(f"{taken[0]} after `--` is for the ablation to set: leave it out")
    for path, names in _by_name(options.measure_on or []).items():
        if len(names) > 1:
            raise UserError(
                f"{' and '.join(map(str, names))} are both called {path}: rename one of them"
            )
    if len(set(options.seeds)) < max(2, len(options.seeds)):
        raise UserError(
            f"--seeds {' '.join(map(str, options.seeds))}: "
            "give at least two different ones, they show what is chance"
        )
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train and measure all networks, and write the report."""
    options = parse_arguments(argv)
    require_caffe("training")
    source, sets = _find_data(options)
    trunk = write_trunk(options.trunk, options.out / TRUNK) if options.trunk else None
    check_settings(
        options.out,
        {
            "data": source,
            "batch_size": options.batch_size,
            "trunk": str(options.trunk.absolute()) if options.trunk else None,
            "options": options.training_options or None,
        },
    )
    trainings = [(network, seed) for seed in options.seeds for network in MISSING_STAGES]
    weights = []
    for network, seed in trainings:
        folder = options.out / f"{network.replace(' ', '_')}_seed{seed}"
        arguments = [source, "--variant", "mini", "--seed", seed]
        arguments += ["--batch-size", options.batch_size, *options.training_options]
        if MISSING_STAGES[network]:
            arguments += ["--without", MISSING_STAGES[network]]
        title = f"{network}, seed {seed}"
        weights.append(train_once(folder, title, options.iterations, arguments, trunk))

    report = options.report or options.out / "ablation.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    measured = []
    for path in sets:
        evaluation = options.out / "evaluation" / path.stem
        single_pass = [str(path), "--levels", "1", "--out", str(evaluation)]
        evaluate.main([*single_pass, "--weights", *map(str, weights)])
        results = read_results(evaluation, trainings)
        prefix = report.stem + (f"_{path.stem}" if len(sets) > 1 else "")
        figures = FigureNames(pck=f"{prefix}_pck.png", masks=f"{prefix}_masks.png")
        measured_set = MeasuredSet(path.stem, results, figures)
        for claim in measured_set.claims():
            if claim.output == "masks":
                write_whole(report.with_name(figures.masks), draw_masks(results))
            else:
                write_whole(report.with_name(figures.pck), draw_pck(results))
        measured.append(measured_set)
    setting = _describe_setting(options)
    write_whole(report, format_report(measured, setting).encode())
    print(
        format_report([replace(measured_set, figures=None) for measured_set in measured], setting)
    )
    _log.info("%s: the same with figures", report)


def _by_name(paths: Sequence[pathlib.Path]) -> dict[str, list[pathlib.Path]]:
    """Return {name in the report: the sets that have it}."""
    names: dict[str, list[pathlib.Path]] = {}
    for path in paths:
        names.setdefault(path.stem, []).append(path)
    return names


def _find_data(options: argparse.Namespace) -> tuple[str, list[pathlib.Path]]:
    """Return what to train on, in the words of mcc_caffe.train, and the sets to measure on."""
    sets = options.measure_on
    if options.train_on and sets and not options.data:
        return options.train_on, sets
    data = options.data or make_synthetic_set(options.out, TRAIN_HANDS, TEST_HANDS)
    if not options.train_on:
        count_masked(data / TRAIN)  # raises where it has none
    if not sets:
        count_masked(data / VALIDATION)
    return options.train_on or str((data / TRAIN).absolute()), sets or [data / VALIDATION]


def write_trunk(weights: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """Write the trunk's layers of `mini`, conv1_1 to conv5_3_CPM, as a caffemodel.

    Args:
        weights: A caffemodel or packed weights that have some of these layers.
        path: File to write.

    Returns:
        `path`.

    Raises:
        UserError: If the weights are missing or do not fit.
    """
    prototxt = shipped("prototxt/mini/deploy_without_pose.prototxt")
    net = import_caffe().Net(str(prototxt), import_caffe().TEST)
    shapes = net_shapes(net)
    del shapes[MASK_SCORES_BLOB]
    layers = fitting_layers(weights, shapes, complete=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_caffemodel(path, "trunk", layers)
    return path


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
    start = (
        f"The trunk starts from {options.trunk.name}, mask head and pose stages at random."
        if options.trunk
        else "All layers start at random."
    )
    synthetic = (
        ""
        if options.data or options.train_on
        else f" It made {TRAIN_HANDS} easy synthetic hands to train on (`data_tools.synth --easy`) "
        f"and {TEST_HANDS} others to measure on."
    )
    return (
        f"`python -m mcc_caffe.ablation {shlex.join(map(str, words))}` trained the `mini` variant, "
        f"{options.iterations} iterations of {options.batch_size} images a process, and measured "
        f"it in a single pass. {start}{synthetic}"
    )


if __name__ == "__main__":
    run_command(main)
