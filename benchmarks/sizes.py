"""What a narrower or wider net and a smaller or larger input cost, and what they find: `python -m benchmarks.sizes`.

    python -m benchmarks.sizes                                   # some 50 minutes on one core
    python -m benchmarks.sizes --data data/lmdb --iterations 20000 --seeds 0 1 2 --report docs/sizes.md

Trains the mini variant at several widths and inputs, with every seed and on the same samples, on easy synthetic hands unless --data names
others; measures all of them on the validation set; and times each on a picture of 640 x 480, one after the other. Writes a report with a
table and a figure. A training that diverged is named and counts for nothing. Everything lies in --out. Run again, it leaves finished
trainings alone and goes on with the one that was interrupted.
"""

import pathlib
from dataclasses import dataclass, replace

import cv2
import numpy as np

from benchmarks.jobs import in_process
from benchmarks.pyramid import example_jpeg
from benchmarks.timing import spread, timed
from data_tools.build_lmdb import TRAIN, VALIDATION
from mcc_caffe import evaluate
from mcc_caffe.ablation import (
    TEST_HANDS,
    TRAIN_HANDS,
    check_settings,
    comparison_parser,
    count_samples,
    describe_setting,
    make_synthetic_set,
    read_results,
    train_once,
)
from mcc_caffe.caffe_io.pycaffe import import_caffe, parameter_count
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.figures import as_png, pyplot
from mcc_caffe.core.files import write_whole
from mcc_caffe.evaluation.ablation_report import format_mean
from mcc_caffe.paper import LAST_STAGE, MINI, stage_loss_blob
from mcc_caffe.predictor import HandPredictor
from mcc_caffe.training.run_log import read_log
from prototxt.generate import deploy_net, train_net
from solver.generate import solver

COMMAND = "benchmarks.sizes"
MEASURES = ("PCK@0.05", "PCK@0.1", "PCK@0.2", "AUC", "mean IoU")
DRAWN = ("PCK@0.05", "AUC", "mean IoU")
REPEATS, SECONDS = 20, 2.0


@dataclass(frozen=True)
class Size:
    """A net: factor on every hidden layer's channels and side of the input, pixels."""

    width: float
    input_size: int

    @property
    def name(self) -> str:
        return f"width {self.width:g}, input {self.input_size}"

    @property
    def folder(self) -> str:
        """Its name in --out."""
        return f"width{self.width:g}_input{self.input_size}"


SIZES = tuple(Size(width, MINI.input_size) for width in (0.125, MINI.width, 0.375)) + tuple(
    Size(MINI.width, side) for side in (96, 160, 192)
)


@dataclass(frozen=True)
class Measured:
    """Of a size: multiply-adds of a picture and parameters, `timing.spread` of the seconds a picture, {measure: [value for each seed]}
    without the seeds that diverged."""

    size: Size
    multiply_adds: int
    parameters: int
    seconds: dict
    found: dict
    diverged: list


def write_net(size: Size, folder: pathlib.Path) -> None:
    """train.prototxt, deploy.prototxt and solver.prototxt of mini at another size."""
    variant = replace(MINI, width=size.width, input_size=size.input_size)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("train", train_net(variant)),
        ("deploy", deploy_net(variant)),
        ("solver", solver(variant, net=str(folder.absolute() / "train.prototxt"))),
    ):
        write_whole(folder / f"{name}.prototxt", text.encode())


def cost(prototxt: pathlib.Path) -> tuple[int, int]:
    """Multiply-adds of the convolutions for one picture, and all parameters."""
    net = import_caffe().Net(str(prototxt), 1)
    cells = {name: np.prod(net.blobs[net.top_names[name][0]].data.shape[2:]) for name in net.params}
    return int(
        sum(kernel.count * cells[name] for name, (kernel, _) in net.params.items())
    ), parameter_count(net)


def seconds_a_picture(prototxt: pathlib.Path, weights: pathlib.Path) -> dict:
    """`timing.spread` of a single pass over the example picture, in the process that calls."""
    predictor, image = (
        HandPredictor(weights, prototxt=prototxt, levels=1),
        cv2.imdecode(np.frombuffer(example_jpeg(), np.uint8), cv2.IMREAD_COLOR),
    )
    predictor.predict(image)
    return spread(timed(lambda: predictor.predict(image), REPEATS, SECONDS))


def has_diverged(run: pathlib.Path) -> bool:
    """Whether the last stage of a training ended worse than the trivial answer, by the last line of its log."""
    return not read_log(run)[-1]["ratio_to_trivial"][stage_loss_blob(LAST_STAGE)] < 1


def measure(size: Size, folder: pathlib.Path, data: pathlib.Path, weights: dict) -> Measured:
    """What a size found on the validation set, with the weights of each seed, and what it costs."""
    prototxt, evaluation = folder / "deploy.prototxt", folder / "evaluation"
    evaluate.main(
        [
            str(data / VALIDATION),
            "--levels",
            "1",
            "--out",
            str(evaluation),
            "--prototxt",
            str(prototxt),
            "--weights",
            *map(str, weights.values()),
        ]
    )
    diverged = [seed for seed, path in weights.items() if has_diverged(path.parents[1])]
    found = [
        result.keypoint_measures() | result.mask_measures()
        for result in read_results(evaluation, [(size.name, seed) for seed in weights])
        if result.seed not in diverged
    ]
    return Measured(
        size,
        *in_process(cost, prototxt),
        in_process(seconds_a_picture, prototxt, next(iter(weights.values()))),
        {name: [one[name] for one in found] for name in MEASURES},
        diverged,
    )


def text(results: list, how: str, figure: str) -> str:
    """The report as Markdown. how: a sentence on what was trained. figure: its file name, or empty."""
    mini = next(
        one
        for one in results
        if (one.size.width, one.size.input_size) == (MINI.width, MINI.input_size)
    )
    lines = [
        ["width", "input", "parameters", "multiply-adds", "ms a picture", "times mini's", *MEASURES]
    ]
    lines.append(["---"] * len(lines[0]))
    for one in results:
        lines.append(
            [
                f"{one.size.width:g}",
                f"{one.size.input_size}",
                f"{one.parameters / 1e6:.2f} M",
                f"{one.multiply_adds / 1e9:.2f} G",
                f"{1000 * one.seconds['median']:.1f}",
                f"{one.seconds['median'] / mini.seconds['median']:.2f}",
                *(format_mean(one.found[name]) for name in MEASURES),
            ]
        )
    parts = [
        "# What width and input cost, and what they find",
        how,
        "\n".join(f"| {' | '.join(line)} |" for line in lines),
    ]
    parts += [
        f"Diverged and left out: {one.size.name}, seed {', '.join(map(str, one.diverged))}."
        for one in results
        if one.diverged
    ]
    return (
        "\n\n".join(
            [*parts, *([f"![What each finds against what it costs]({figure})"] if figure else [])]
        )
        + "\n"
    )


def draw(results: list) -> bytes:
    """PNG of some of the measures against the time of a picture: mean over the seeds, and their range."""
    figure, panels = pyplot.subplots(
        1, len(DRAWN), figsize=(5 * len(DRAWN), 4), layout="constrained"
    )
    for axes, name in zip(panels, DRAWN):
        for what, kept in (
            ("widths", lambda size: size.input_size == MINI.input_size),
            ("inputs", lambda size: size.width == MINI.width),
        ):
            line = sorted(
                (one for one in results if kept(one.size) and one.found[name]),
                key=lambda one: one.multiply_adds,
            )
            times, values = (
                [1000 * one.seconds["median"] for one in line],
                [one.found[name] for one in line],
            )
            means = [np.mean(value) for value in values]
            axes.errorbar(
                times,
                means,
                [
                    [mean - min(value) for mean, value in zip(means, values)],
                    [max(value) - mean for mean, value in zip(means, values)],
                ],
                marker="o",
                capsize=3,
                label=what,
            )
            for one, x, y in zip(line, times, means):
                axes.annotate(
                    f"{one.size.width:g}" if what == "widths" else f"{one.size.input_size}",
                    (x, y),
                    xytext=(5, -12 if what == "widths" else 6),
                    textcoords="offset points",
                    fontsize=9,
                )
        axes.set(xlabel="ms a picture, single pass", ylabel=name)
        axes.margins(x=0.15)
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    return as_png(figure, dpi=90)


def main(argv=None) -> None:
    options = comparison_parser(COMMAND, __doc__, "runs/sizes").parse_args(argv)
    if len(set(options.seeds)) < len(options.seeds):
        raise UserError(f"--seeds {' '.join(map(str, options.seeds))}: give different ones")
    data = options.data or make_synthetic_set(options.out, TRAIN_HANDS, TEST_HANDS)
    counts = count_samples(data)
    check_settings(options.out, {"data": str(data.absolute()), "batch_size": options.batch_size})
    weights = {}
    for size in SIZES:
        folder = options.out / size.folder
        write_net(size, folder)
        weights[size] = {
            seed: train_once(
                folder / f"seed{seed}",
                f"{size.name}, seed {seed}",
                options.iterations,
                [
                    data / TRAIN,
                    "--solver",
                    folder / "solver.prototxt",
                    "--seed",
                    seed,
                    "--batch-size",
                    options.batch_size,
                ],
            )
            for seed in options.seeds
        }
    results = [
        measure(size, options.out / size.folder, data, paths) for size, paths in weights.items()
    ]

    report = options.report or options.out / "sizes.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    figure = report.with_suffix(".png")
    write_whole(figure, draw(results))
    how = (
        f"{describe_setting(COMMAND, options, counts, 'the `mini` variant at other widths and inputs')} A cell is the mean over the seeds, with the "
        "smallest and the largest. Milliseconds: `HandPredictor.predict` of a picture of 640 x 480, median."
    )
    write_whole(report, text(results, how, figure.name).encode())
    print(f"\n{text(results, how, '')}\n{report}: the same with its figure")


if __name__ == "__main__":
    run_command(main)
