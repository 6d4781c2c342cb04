"""Draws the learning curves of trainings.

    python -m mcc_caffe.plot runs/mini
    python -m mcc_caffe.plot runs/mini runs/other --out curves.png

The three panels show the total loss, each stage's loss as a share of the trivial answer's, and the
mask's loss. The trivial answer is 0 for all keypoints and 1 for the background. Where there are
several runs, each has a colour, and each stage a kind of line.
"""

import argparse
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from mcc_caffe.caffe_io.run_folder import LOG_FILE
from mcc_caffe.core.commands import command_parser, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.figures import as_label, as_png, pyplot
from mcc_caffe.core.files import write_atomically
from mcc_caffe.core.images import is_png_of
from mcc_caffe.core.output_checks import check_output
from mcc_caffe.evaluation.model_names import short_names
from mcc_caffe.paper import MASK_LOSS_BLOB
from mcc_caffe.training.run_log import LogLine, read_log

CURVES = "curves.png"
STAGE_LINES = ("solid", "dashed", "dashdot", "dotted", (0, (5, 1, 1, 1, 1, 1)))
_PROGRAM = "mcc_caffe.plot"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "runs", nargs="+", type=pathlib.Path, help=f"folders of runs, each with its {LOG_FILE}"
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FILE",
        help="figure to write (default: curves.png in the first run)",
    )
    return parser.parse_args(argv)


def draw_curves(logs: dict[pathlib.Path, list[LogLine]]) -> Figure:
    """Draw the curves of some runs.

    Args:
        logs: {run folder: lines of its log}.

    Returns:
        The figure, of three panels.
    """
    figure, (total, stages, mask) = pyplot.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    runs = zip(short_names(list(logs)), logs.values(), strict=True)
    all_stages = dict.fromkeys(
        name for lines in logs.values() for line in lines for name in line["ratio_to_trivial"]
    )
    # Of one run the stages differ by colour, which is easier to tell apart.
    styles: dict[str, dict[str, Any]] = {
        name: {"color": f"C{stage}"}
        if len(logs) == 1
        else {"linestyle": STAGE_LINES[stage % len(STAGE_LINES)]}
        for stage, name in enumerate(all_stages)
    }
    for number, (run_name, lines) in enumerate(runs):
        colour = f"C{number}"
        iterations = [line["iteration"] for line in lines]
        label = f"{as_label(run_name)} " if len(logs) > 1 else ""
        losses = [line["loss"] for line in lines]
        total.semilogy(iterations, losses, color=colour, label=label or None)
        stage_names = dict.fromkeys(name for line in lines for name in line["ratio_to_trivial"])
        for name in stage_names:
            style = {"color": colour, "label": f"{label}{name}", "alpha": 0.8, **styles[name]}
            ratios = [line["ratio_to_trivial"].get(name, math.nan) for line in lines]
            stages.plot(iterations, ratios, **style)
        if MASK_LOSS_BLOB in lines[0]["losses"]:
            mask_losses = [line["losses"].get(MASK_LOSS_BLOB, math.nan) for line in lines]
            mask.plot(iterations, mask_losses, color=colour, label=label or None)
    stages.axhline(1, color="grey", linestyle=":", label="trivial answer")
    stages.legend(fontsize="small")
    if len(logs) > 1:
        total.legend(fontsize="small")
    titles = ("total loss", "heatmap loss / trivial answer's", "mask loss")
    for axes, title in zip((total, stages, mask), titles):
        axes.set(title=title, xlabel="iteration")
        axes.grid(alpha=0.3)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the curves of the runs and write the figure."""
    options = parse_arguments(argv)
    out = options.out or options.runs[0] / CURVES
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the figure is a PNG: give a name that ends in .png")
    check_output(
        out,
        lambda path: is_png_of(path, _PROGRAM),
        "is no figure that this version of the command has drawn",
    )
    figure = draw_curves({run: read_log(run) for run in options.runs})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, as_png(figure, dpi=100, program=_PROGRAM))
    print(out)


if __name__ == "__main__":
    run_command(main)
