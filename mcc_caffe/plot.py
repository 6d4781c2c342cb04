"""Draws the learning curves of runs: `python -m mcc_caffe.plot runs/mini [more runs] --out curves.png`."""

import argparse
import pathlib

import matplotlib

from mcc_caffe.core.commands import command_parser, run_command
from mcc_caffe.paper import MASK_LOSS_BLOB
from mcc_caffe.training.run_log import LOG, read_log

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend comes first)


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "runs", nargs="+", type=pathlib.Path, help=f"folders of runs, each with its {LOG}"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, help="picture to write (default: curves.png in the first run)"
    )
    return parser.parse_args(argv)


def draw(logs: dict):
    """A figure of {run: log lines}: total loss, each stage's ratio to the trivial answer, mask loss."""
    figure, (total, stages, mask) = pyplot.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    for run, lines in logs.items():
        iterations = [line["iteration"] for line in lines]
        label = f"{run.name} " if len(logs) > 1 else ""
        total.semilogy(iterations, [line["loss"] for line in lines], label=label or None)
        for name in lines[0]["ratio_to_trivial"]:
            ratios = [line["ratio_to_trivial"][name] for line in lines]
            stages.plot(iterations, ratios, label=f"{label}{name}", alpha=0.8)
        if MASK_LOSS_BLOB in lines[0]["losses"]:
            mask.plot(
                iterations, [line["losses"][MASK_LOSS_BLOB] for line in lines], label=label or None
            )
    stages.axhline(1, color="grey", linestyle=":", label="trivial answer")
    stages.legend(fontsize="small")
    if len(logs) > 1:
        total.legend(fontsize="small")
    for axes, title in (
        (total, "total loss"),
        (stages, "heatmap loss / trivial answer's"),
        (mask, "mask loss"),
    ):
        axes.set(title=title, xlabel="iteration")
        axes.grid(alpha=0.3)
    return figure


def main(argv=None) -> None:
    options = arguments(argv)
    figure = draw({run: read_log(run) for run in options.runs})
    out = options.out or options.runs[0] / "curves.png"
    figure.savefig(out, dpi=100)
    print(out)


if __name__ == "__main__":
    run_command(main)
