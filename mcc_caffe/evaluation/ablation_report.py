"""Reports what an ablation says of the paper's claim that each stage helps the other (section 4.2).

An ablation trains three networks with several seeds each: the full one, one without the mask
stage and one without the pose stage. The report compares their means over the seeds, says whether
the paper's claim was confirmed, and draws the figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from mcc_caffe.core.figures import as_png, pyplot
from mcc_caffe.evaluation.metrics import average_precision
from mcc_caffe.evaluation.model_scores import (
    ALL_JOINTS,
    AP_THRESHOLDS,
    CURVE_THRESHOLDS,
    SetNumbers,
)
from mcc_caffe.evaluation.pck_figures import CLOSE

FULL, NO_MASK, NO_POSE = "full", "without mask", "without pose"  # the networks that are compared
HELD, REVERSED, UNDECIDED = "held", "the other way round", "undecided"  # the verdicts
AUC = "AUC"
_IOUS = np.arange(101) / 100

Output = Literal["keypoints", "masks"]  # what a network predicts


@dataclass(frozen=True)
class TrainingResult:
    """The accuracy of one trained network on the validation set.

    Attributes:
        network: FULL, NO_MASK or NO_POSE, or any other name of a compared network.
        seed: Seed of the training.
        numbers: What results.json of the evaluation says of it on the set.
        ious: (N,) IoU of each image's mask; empty for a network without a mask head.
    """

    network: str
    seed: int
    numbers: SetNumbers
    ious: np.ndarray

    def keypoint_measures(self) -> dict[str, float]:
        """Return {measure: value} of the keypoints, protocol `paper`; empty without any."""
        if "paper" not in self.numbers:
            return {}
        paper = self.numbers["paper"]
        measures = {f"PCK@{share}": value for share, value in paper["PCK"]["values"].items()}
        return {
            name: np.nan if value is None else value
            for name, value in {**measures, AUC: paper["AUC"]["value"]}.items()
        }

    def mask_measures(self) -> dict[str, float]:
        """Return {measure: value} of the masks, AP in percent; empty without any."""
        if "mask" not in self.numbers:
            return {}
        mask = self.numbers["mask"]
        return {
            **{name: 100 * mask[name] for name in AP_THRESHOLDS},
            "mean IoU": mask["mean_IoU"],
        }

    def measures(self, output: Output) -> dict[str, float]:
        """Return {measure: value} of the keypoints or of the masks."""
        return self.keypoint_measures() if output == "keypoints" else self.mask_measures()


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: the full network predicts something better than an ablated one.

    Attributes:
        sentence: The claim in words.
        ablated: The network that the full one is compared with.
        output: What the full network is said to predict better.
        deciding_measure: The measure by which the report answers.
    """

    sentence: str
    ablated: str
    output: Output
    deciding_measure: str


# Table 1 compares AP, and its first column is AP50. Fig. 9 compares curves, and the area under
# them is the one number that stands for a curve.
CLAIMS = (
    Claim("The pose stage makes the masks better (Table 1)", NO_POSE, "masks", "AP50"),
    Claim("The mask makes the keypoints better (Fig. 9)", NO_MASK, "keypoints", AUC),
)


class Difference(NamedTuple):
    """How two networks differ in a measure.

    Attributes:
        of_means: Mean of the full network over its seeds, less that of the ablated one.
        spread: Largest less smallest value over the seeds, of the network for which it is larger.
    """

    of_means: float
    spread: float


class FigureNames(NamedTuple):
    """File names of the report's two figures."""

    pck: str
    masks: str


def compare(full_values: Sequence[float], ablated_values: Sequence[float]) -> Difference:
    """Compare the values of two networks in a measure, one value for each seed."""
    return Difference(
        float(np.mean(full_values) - np.mean(ablated_values)),
        float(max(np.ptp(full_values), np.ptp(ablated_values))),
    )


def decide(full_values: Sequence[float], ablated_values: Sequence[float]) -> str:
    """Return the verdict on a claim from the values of two networks, one for each seed.

    Returns:
        HELD where the full network is better by more than the seeds' spread, REVERSED where it is
        worse by more than that, else UNDECIDED.
    """
    difference = compare(full_values, ablated_values)
    if abs(difference.of_means) <= difference.spread:
        return UNDECIDED
    return HELD if difference.of_means > 0 else REVERSED


def collect_measures(
    results: Sequence[TrainingResult], network: str, output: Output
) -> dict[str, list[float]]:
    """Return {measure: [value for each seed]} of one network's keypoints or masks."""
    of_seeds = [result.measures(output) for result in results if result.network == network]
    return {measure: [values[measure] for values in of_seeds] for measure in of_seeds[0]}


def answer_claim(results: Sequence[TrainingResult], claim: Claim) -> str:
    """Return the verdict on a claim in words, with the numbers that it follows from."""
    measure = claim.deciding_measure
    full_values = collect_measures(results, FULL, claim.output)[measure]
    ablated_values = collect_measures(results, claim.ablated, claim.output)[measure]
    difference = compare(full_values, ablated_values)
    digits = _digits(measure)
    return (
        f"**{claim.sentence}: {decide(full_values, ablated_values)} here.** "
        f"{measure} {np.mean(full_values):.{digits}f} of the full net, "
        f"{np.mean(ablated_values):.{digits}f} {claim.ablated}: "
        f"a difference of {difference.of_means:+.{digits}f}, "
        f"where seeds alone differ by {difference.spread:.{digits}f}."
    )


def format_report(
    results: Sequence[TrainingResult], setting: str, figures: FigureNames | None
) -> str:
    """Return the report as Markdown.

    Args:
        results: All trainings of the ablation.
        setting: A sentence that says what was trained.
        figures: The figures to show; None for a report without figures.
    """
    seeds = ", ".join(str(result.seed) for result in results if result.network == FULL)
    mask_measure, keypoint_measure = (claim.deciding_measure for claim in CLAIMS)
    parts = [
        "# Do the two stages help each other?",
        *(answer_claim(results, claim) for claim in CLAIMS),
        f"{setting} Seeds {seeds}; a cell is the mean over them, with the smallest and the "
        "largest. A claim is decided where the means differ by more than the seeds of one net do. "
        f"The answers above go by {mask_measure}, the first column of Table 1, and by "
        f"{keypoint_measure}, the area under the curve of Fig. 9 up to {CLOSE}. The last line of "
        "each table gives the verdict by each of its columns. Protocol `paper`.",
    ]
    for claim in CLAIMS:
        title = claim.output.capitalize()
        full = collect_measures(results, FULL, claim.output)
        ablated = collect_measures(results, claim.ablated, claim.output)
        rows = [
            ["net", *full],
            ["---"] * (len(full) + 1),
            [FULL, *_cells(full)],
            [claim.ablated, *_cells(ablated)],
            ["claim", *(decide(full[measure], ablated[measure]) for measure in full)],
        ]
        parts.append("\n".join([f"## {title}", "", *(f"| {' | '.join(row)} |" for row in rows)]))
        if figures:
            figure = figures.masks if claim.output == "masks" else figures.pck
            parts.append(f"![{title}]({figure})")
    return "\n\n".join(parts) + "\n"


def _cells(measures: dict[str, list[float]]) -> list[str]:
    return [format_mean(values, _digits(name)) for name, values in measures.items()]


def format_mean(values: Sequence[float], digits: int = 3) -> str:
    """Format the mean of the seeds' values, with the smallest and the largest if there are several.

    Without any values the text is a dash.
    """
    if not values:
        return "-"
    ends = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{ends}"


def _digits(measure: str) -> int:
    """Return how many decimals a measure is shown with: AP is in percent."""
    return 1 if measure in AP_THRESHOLDS else 3


def draw_pck(results: Sequence[TrainingResult]) -> bytes:
    """Return a PNG of the PCK curves over all joints, with and without the mask (Fig. 9 (b)).

    A line is the mean over the seeds, a band their range.
    """
    figure, axes = pyplot.subplots(figsize=(5, 4), layout="constrained")
    for index, network in enumerate((FULL, NO_MASK)):
        curves = [
            result.numbers["paper"]["curves"][ALL_JOINTS]
            for result in results
            if result.network == network
        ]
        _draw_curve(axes, CURVE_THRESHOLDS, curves, label=network, colour=f"C{index}")
    axes.set(
        xlim=(0, CLOSE),
        ylim=(-0.01, 1.01),
        xlabel="normalised distance",
        ylabel="PCK (protocol paper)",
    )
    axes.legend(frameon=False)
    return as_png(figure)


def draw_masks(results: Sequence[TrainingResult]) -> bytes:
    """Return a PNG of the masks' AP with and without the pose stage.

    On the left is Table 1 as bars, with a dot for each seed; on the right AP at every IoU
    threshold.
    """
    figure, (bar_axes, curve_axes) = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for index, network in enumerate((FULL, NO_POSE)):
        measures = collect_measures(results, network, "masks")
        bar_positions = np.arange(len(AP_THRESHOLDS)) + 0.4 * index
        bar_axes.bar(
            bar_positions,
            [np.mean(measures[name]) for name in AP_THRESHOLDS],
            width=0.38,
            label=network,
            color=f"C{index}",
            alpha=0.7,
        )
        for x, name in zip(bar_positions, AP_THRESHOLDS):
            values = measures[name]
            bar_axes.plot([x] * len(values), values, "k.", markersize=5)
        curves = [
            [100 * average_precision(result.ious, threshold) for threshold in _IOUS]
            for result in results
            if result.network == network
        ]
        _draw_curve(curve_axes, _IOUS, curves, label=network, colour=f"C{index}")
    bar_axes.set_xticks(np.arange(len(AP_THRESHOLDS)) + 0.2, list(AP_THRESHOLDS))
    bar_axes.set(ylim=(0, 100), ylabel="AP, %")
    bar_axes.legend(frameon=False)
    curve_axes.set(xlim=(0, 1), ylim=(-1, 101), xlabel="IoU threshold", ylabel="AP, %")
    return as_png(figure)


def _draw_curve(axes: Any, x: np.ndarray, curves: Sequence, *, label: str, colour: str) -> None:
    """Draw the mean of the seeds' curves, and their range as a band."""
    of_seeds = np.array(curves, float)
    axes.plot(x, of_seeds.mean(axis=0), label=label, color=colour, linewidth=1.8)
    axes.fill_between(
        x, of_seeds.min(axis=0), of_seeds.max(axis=0), color=colour, alpha=0.25, linewidth=0
    )
    axes.grid(alpha=0.3)
