"""What a narrower or wider net and a smaller or larger input cost, and how well they do.

    python -m benchmarks.sizes                      # some 50 minutes on one core
    python -m benchmarks.sizes --data data/lmdb --iterations 20000 --seeds 0 1 2 \\
        --report reports/sizes.md

It trains the mini variant at several widths and inputs, with every seed and on the same samples,
on easy synthetic hands unless --data names others. It measures all of them on the validation set,
and times them in turns on an image of 640 x 480. It writes a report with a table and a figure. A
training that diverged is named and counts for nothing.

All files lie in --out. When the command runs again, it leaves finished trainings alone and goes on
with the one that was interrupted.
"""

import argparse
import functools
import logging
import pathlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from benchmarks.hands import example_image
from benchmarks.jobs import TURNS, Row, in_process, in_turns
from benchmarks.timing import spread, timed
from data_tools.build_lmdb import TRAIN, VALIDATION
from mcc_caffe import evaluate
from mcc_caffe.caffe_io.onnx_model import count_multiply_adds, count_parameters
from mcc_caffe.caffe_io.pycaffe import require_caffe
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.figures import as_png, pyplot
from mcc_caffe.core.files import write_together
from mcc_caffe.core.markdown import markdown_table
from mcc_caffe.core.output_checks import check_report
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.evaluation import training_comparison
from mcc_caffe.evaluation.ablation_report import format_mean
from mcc_caffe.paper import LAST_STAGE, MINI, stage_loss_blob
from mcc_caffe.predictor import HandPredictor
from mcc_caffe.training.run_log import read_log
from solver.generate import solver

COMMAND = "benchmarks.sizes"
TITLE = "# What width and input cost, and how well they do"
MEASURES = ("PCK@0.05", "PCK@0.1", "PCK@0.2", "AUC", "mean IoU")
DRAWN_MEASURES = ("PCK@0.05", "AUC", "mean IoU")
REPEATS, SECONDS = 20, 1.0  # of each of the turns

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Size:
    """The size of a net.

    Attributes:
        width: Factor on the channels of every hidden layer.
        input_size: Side of the input, pixels.
    """

    width: float
    input_size: int

    @property
    def name(self) -> str:
        """Its name in reports."""
        return f"width {self.width:g}, input {self.input_size}"

    @property
    def folder(self) -> str:
        """Its name in --out."""
        return f"width{self.width:g}_input{self.input_size}"


SIZES = tuple(Size(width, MINI.input_size) for width in (0.125, MINI.width, 0.375)) + tuple(
    Size(MINI.width, side) for side in (96, 160, 192)
)


class Cost(NamedTuple):
    """Multiply-adds of the convolutions for one image, and the number of all parameters."""

    multiply_adds: int
    parameters: int


@dataclass(frozen=True)
class Measured:
    """What a size costs and how well it does.

    Attributes:
        size: The size.
        cost: Its multiply-adds and parameters.
        seconds: `timing.spread` of the seconds an image.
        scores: {measure: value for each seed that did not diverge}.
        diverged: The seeds that diverged.
    """

    size: Size
    cost: Cost
    seconds: dict[str, Any]
    scores: dict[str, list[float]]
    diverged: list[int]


def write_net(size: Size, folder: pathlib.Path) -> None:
    """Write train.prototxt, deploy.prototxt and solver.prototxt of mini at another size."""
    from prototxt.nets import deploy_net, train_net  # here, because it imports Caffe

    variant = replace(MINI, width=size.width, input_size=size.input_size)
    folder.mkdir(parents=True, exist_ok=True)
    prototxts = {
        "train": train_net(variant),
        "deploy": deploy_net(variant),
        "solver": solver(variant, net=str(folder.absolute() / "train.prototxt")),
    }
    write_together({folder / f"{name}.prototxt": text.encode() for name, text in prototxts.items()})


def time_size(prototxt: pathlib.Path, weights: pathlib.Path) -> list[Row]:
    """Time a single pass over the example image in this process, as a measurement of a turn."""
    predictor = HandPredictor(weights, prototxt=prototxt, levels=1)
    predict = functools.partial(predictor.predict, example_image())
    predict()
    return [{"status": "", **spread(timed(predict, REPEATS, SECONDS))}]


def has_diverged(run: pathlib.Path) -> bool:
    """Return whether the last stage of a training ended worse than the trivial answer.

    The median of the log's last tenth counts, since a single interval may be an outlier.
    """
    blob = stage_loss_blob(LAST_STAGE)
    # An interval in which no keypoint came into view has no ratio.
    ratios = [
        line["ratio_to_trivial"][blob] for line in read_log(run) if blob in line["ratio_to_trivial"]
    ]
    last = ratios[-max(len(ratios) // 10, 1) :]
    return not last or not np.median(last) < 1  # a NaN diverged, too


def measure(
    size: Size,
    folder: pathlib.Path,
    data: pathlib.Path,
    *,
    weights: dict[int, pathlib.Path],
    seconds: dict[str, Any],
) -> Measured:
    """Measure a size on the validation set with the weights of each seed, and what it costs.

    Args:
        size: The size.
        folder: Folder with its deploy.prototxt.
        data: Folder of the LMDB sets.
        weights: {seed: caffemodel}.
        seconds: `timing.spread` of the seconds an image.
    """
    prototxt, evaluation = folder / "deploy.prototxt", folder / "evaluation"
    single_pass = [str(data / VALIDATION), "--levels", "1", "--out", str(evaluation)]
    models = ["--prototxt", str(prototxt), "--weights", *map(str, weights.values())]
    evaluate.main([*single_pass, *models])
    diverged = [seed for seed, path in weights.items() if has_diverged(path.parents[1])]
    trainings = [(size.name, seed) for seed in weights]
    scores = [
        result.keypoint_measures() | result.mask_measures()
        for result in training_comparison.read_results(evaluation, trainings)
        if result.seed not in diverged
    ]
    return Measured(
        size=size,
        cost=Cost(
            round(count_multiply_adds(prototxt) * size.input_size**2), count_parameters(prototxt)
        ),
        seconds=seconds,
        scores={name: [seed_scores[name] for seed_scores in scores] for name in MEASURES},
        diverged=diverged,
    )


def format_report(results: list[Measured], setting: str, figure: str | None) -> str:
    """Return the report as Markdown.

    Args:
        results: The sizes, mini's own among them.
        setting: Sentences on how the trainings were made.
        figure: File name of the figure, None to leave it out.
    """
    mini_size = Size(MINI.width, MINI.input_size)
    mini_median = next(result.seconds["median"] for result in results if result.size == mini_size)
    columns = ["width", "input", "parameters", "multiply-adds", "ms an image", "times mini's"]
    lines = []
    for result in results:
        median = result.seconds["median"]
        lines.append(
            [
                f"{result.size.width:g}",
                f"{result.size.input_size}",
                f"{result.cost.parameters / 1e6:.2f} M",
                f"{result.cost.multiply_adds / 1e9:.2f} G",
                f"{1000 * median:.1f}",
                f"{median / mini_median:.2f}",
                *(format_mean(result.scores[name]) for name in MEASURES),
            ]
        )
    parts = [
        TITLE,
        setting,
        markdown_table([*columns, *MEASURES], lines),
    ]
    for result in results:
        if result.diverged:
            seeds = ", ".join(map(str, result.diverged))
            parts.append(f"Diverged and left out: {result.size.name}, seed {seeds}.")
    if figure:
        parts.append(f"![Measures against the time of an image]({figure})")
    return "\n\n".join(parts) + "\n"


def draw(results: list[Measured]) -> bytes:
    """Return a PNG of some measures against the time of an image.

    Each point is the mean over the seeds, and its bar is their range.
    """
    figure, panels = pyplot.subplots(
        1, len(DRAWN_MEASURES), figsize=(5 * len(DRAWN_MEASURES), 4), layout="constrained"
    )
    widths = [result for result in results if result.size.input_size == MINI.input_size]
    inputs = [result for result in results if result.size.width == MINI.width]
    for axes, measure_name in zip(panels, DRAWN_MEASURES):
        for label, series in (("widths", widths), ("inputs", inputs)):
            scored = [result for result in series if result.scores[measure_name]]
            scored.sort(key=lambda result: result.cost.multiply_adds)
            times = [1000 * result.seconds["median"] for result in scored]
            scores = [result.scores[measure_name] for result in scored]
            means = [float(np.mean(values)) for values in scores]
            below = [mean - min(values) for mean, values in zip(means, scores)]
            above = [max(values) - mean for mean, values in zip(means, scores)]
            axes.errorbar(times, means, [below, above], marker="o", capsize=3, label=label)
            for result, x, y in zip(scored, times, means):
                is_width = label == "widths"
                axes.annotate(
                    f"{result.size.width:g}" if is_width else f"{result.size.input_size}",
                    (x, y),
                    xytext=(5, -12 if is_width else 6),
                    textcoords="offset points",
                    fontsize=9,
                )
        axes.set(xlabel="ms an image, single pass", ylabel=measure_name)
        axes.margins(x=0.15)
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    return as_png(figure, dpi=90)


def count_samples(data: pathlib.Path) -> dict[str, int]:
    """Return the number of samples of the sets for training and for validation.

    Args:
        data: Folder of the LMDB sets.

    Raises:
        UserError: A set is missing or has no masks.
    """
    counts = {}
    for name in (TRAIN, VALIDATION):
        samples = SampleSet(data / name)
        if not training_comparison.has_masks(samples):
            raise UserError(f"{data / name} has no masks: give a set that has them")
        counts[name] = len(samples)
    return counts


def describe_setting(options: argparse.Namespace, sample_counts: dict[str, int]) -> str:
    """Return the sentence of the report that says how its trainings were made.

    Args:
        options: The command's options.
        sample_counts: {set: number of samples}, as `count_samples` returns it.
    """
    samples = (
        f"samples of {options.data}"
        if options.data
        else "easy synthetic hands (`data_tools.synth --easy`)"
    )
    data_option = f" --data {options.data}" if options.data else ""
    seeds = " ".join(map(str, options.seeds))
    return (
        f"`python -m {COMMAND}{data_option} --iterations {options.iterations} "
        f"--batch-size {options.batch_size} --seeds {seeds}`: the `mini` variant at other widths "
        f"and inputs, {options.iterations} iterations of {options.batch_size} images, with "
        f"augmentation, on {sample_counts[TRAIN]} {samples}; "
        f"{sample_counts[VALIDATION]} others to measure on, in a single pass."
    )


def train_sizes(
    options: argparse.Namespace, data: pathlib.Path
) -> dict[Size, dict[int, pathlib.Path]]:
    """Train every size with every seed.

    Args:
        options: The command's options.
        data: The folder of the LMDB sets.

    Returns:
        {size: {seed: its weights}}.
    """
    weights: dict[Size, dict[int, pathlib.Path]] = {}
    for size in SIZES:
        folder = options.out / size.folder
        write_net(size, folder)
        weights[size] = {}
        for seed in options.seeds:
            arguments = [data / TRAIN, "--solver", folder / "solver.prototxt", "--seed", seed]
            arguments += ["--batch-size", options.batch_size]
            weights[size][seed] = training_comparison.train_once(
                folder / f"seed{seed}", f"{size.name}, seed {seed}", options.iterations, arguments
            )
    return weights


def time_sizes(out: pathlib.Path, weights: dict[Size, dict[int, pathlib.Path]]) -> list[Row]:
    """Time a single pass of every size, with the weights of its first seed, in turns.

    Args:
        out: The folder that has a folder for each size.
        weights: As `train_sizes` returns them.

    Returns:
        A row for each size.
    """
    turns = [
        functools.partial(
            in_process, time_size, out / size.folder / "deploy.prototxt", next(iter(paths.values()))
        )
        for size, paths in weights.items()
    ]
    return in_turns(turns, TURNS)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    options = training_comparison.comparison_parser(__doc__, "runs/sizes").parse_args(argv)
    if len(set(options.seeds)) < len(options.seeds):
        raise UserError(f"--seeds {' '.join(map(str, options.seeds))}: give different ones")
    require_caffe("training")
    report = options.report or options.out / "sizes.md"
    figure = report.with_suffix(".png")
    check_report(report, [figure.name], TITLE)
    data = options.data or training_comparison.make_synthetic_set(
        options.out, training_comparison.TRAIN_HANDS, training_comparison.TEST_HANDS
    )
    sample_counts = count_samples(data)
    training_comparison.check_settings(
        options.out, str(data.absolute() / TRAIN), {"batch_size": options.batch_size}
    )
    weights = train_sizes(options, data)
    results = [
        measure(size, options.out / size.folder, data, weights=weights[size], seconds=row)
        for size, row in zip(weights, time_sizes(options.out, weights))
    ]

    contents = {figure: draw(results)}
    setting = (
        f"{describe_setting(options, sample_counts)} A cell is the mean over the seeds, with the "
        "smallest and the largest. Milliseconds are the median of `HandPredictor.predict` on "
        "an image of 640 x 480."
    )
    contents[report] = format_report(results, setting, figure.name).encode()
    report.parent.mkdir(parents=True, exist_ok=True)
    write_together(contents)
    print(format_report(results, setting, None))
    _log.info("%s: the same with its figure", report)


if __name__ == "__main__":
    run_command(main)
