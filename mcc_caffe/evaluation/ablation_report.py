"""Reports what an ablation says of the paper's claim that each stage helps the other (section 4.2).

An ablation trains three networks with several seeds each: the full one, one without the mask
stage and one without the pose stage. Networks with the same seed saw the same samples in the same
order. So the report compares them in pairs, says whether the paper's claim was confirmed, and draws
the figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from mcc_caffe.core.figures import as_png, pyplot
from mcc_caffe.core.markdown import markdown_table
from mcc_caffe.evaluation.metrics import average_precision
from mcc_caffe.evaluation.model_scores import (
    ALL_KEYPOINTS,
    AP_THRESHOLDS,
    CURVE_THRESHOLDS,
    SetNumbers,
)
from mcc_caffe.evaluation.pck_figures import CLOSE

TITLE = "# Do the two stages help each other?"
FULL, NO_MASK, NO_POSE = "full", "without mask", "without pose"  # the networks that are compared
HELD, REVERSED, UNDECIDED = "held", "the other way round", "undecided"  # the verdicts
AUC, MEAN_IOU = "AUC", "mean IoU"
SIGNIFICANCE = 0.05  # a claim is decided where p is smaller
_IOUS = np.arange(101) / 100

Output = Literal["keypoints", "masks"]  # what a network predicts
# Why an output could not be measured on a set.
_LACKING: dict[Output, str] = {
    "keypoints": "no sample has keypoints whose box is a pixel or larger",
    "masks": "no sample has a mask",
}


@dataclass(frozen=True)
class TrainingResult:
    """The accuracy of one trained network on a set.

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
        measures[AUC] = paper["AUC"]["value"]
        # Without a keypoint to compare with, or a box to measure by, each of them is None.
        return {name: value for name, value in measures.items() if value is not None}

    def mask_measures(self) -> dict[str, float]:
        """Return {measure: value} of the masks, AP in percent; empty without any."""
        mask = self.numbers.get("mask")
        if not mask or not mask["images"]:
            return {}
        return {
            **{name: 100 * mask[name] for name in AP_THRESHOLDS},
            MEAN_IOU: mask["mean_IoU"],
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


# Table 1 compares AP at three thresholds, the first of which soon has nearly all masks, and Fig. 9
# compares curves. The mean IoU and the area under the curve are the single numbers for these.
CLAIMS = (
    Claim("The pose stage makes the masks better (Table 1)", NO_POSE, "masks", MEAN_IOU),
    Claim("The mask makes the keypoints better (Fig. 9)", NO_MASK, "keypoints", AUC),
)


class Difference(NamedTuple):
    """How two networks differ in a measure: the full one less the ablated one, over the seeds.

    Attributes:
        mean: Mean of the differences.
        margin: Half the width of the 95 % interval of the mean, by Student's t.
        p: Two-sided probability of a mean at least as far from 0 where there is no difference, by
            the paired t-test; NaN where all differences are equal, so that nothing says what chance
            does.
    """

    mean: float
    margin: float
    p: float

    @property
    def verdict(self) -> str:
        """HELD, REVERSED or UNDECIDED.

        HELD where the full network is better and p is below SIGNIFICANCE, REVERSED where it is
        worse and p is below SIGNIFICANCE.
        """
        if not self.p < SIGNIFICANCE:
            return UNDECIDED
        return HELD if self.mean > 0 else REVERSED


class FigureNames(NamedTuple):
    """File names of a set's two figures."""

    pck: str
    masks: str


@dataclass(frozen=True)
class MeasuredSet:
    """What an ablation measured on one set.

    Attributes:
        name: The set's name in the report.
        results: All trainings, measured on it. Without masks in the set, no network has mask
            measures.
        figures: The figures to show; None for a report without figures.
    """

    name: str
    results: Sequence[TrainingResult]
    figures: FigureNames | None = None

    def claims(self) -> list[Claim]:
        """Return those of CLAIMS that the set can answer."""
        full = next(result for result in self.results if result.network == FULL)
        return [claim for claim in CLAIMS if full.measures(claim.output)]


def compare(full_values: Sequence[float], ablated_values: Sequence[float]) -> Difference:
    """Compare the values of two networks in a measure, one value for each seed, in pairs."""
    from scipy import stats  # its import takes half a second

    differences = np.subtract(full_values, ablated_values)
    mean = float(differences.mean())
    # Differences that are equal but for the rounding of the values say nothing of chance.
    if np.ptp(differences) <= 1e-12 * np.abs([full_values, ablated_values]).max():
        return Difference(mean, 0.0, np.nan)
    test = stats.ttest_rel(full_values, ablated_values)
    low, high = test.confidence_interval(1 - SIGNIFICANCE)
    return Difference(mean, float(high - low) / 2, float(test.pvalue))


def collect_measures(
    results: Sequence[TrainingResult], network: str, output: Output
) -> dict[str, list[float]]:
    """Return {measure: [value for each seed]} of one network's keypoints or masks."""
    seed_measures = [result.measures(output) for result in results if result.network == network]
    return {measure: [values[measure] for values in seed_measures] for measure in seed_measures[0]}


def answer_claim(measured: Sequence[MeasuredSet], claim: Claim) -> str:
    """Return the verdicts on a claim in words, set by set, with the numbers they follow from."""
    answers = "; ".join(_answer_on_set(measured_set, claim) for measured_set in measured)
    return f"**{claim.sentence}:** {answers}."


def _answer_on_set(measured_set: MeasuredSet, claim: Claim) -> str:
    """Return the verdict on a claim on one set in words, with the numbers it follows from."""
    if claim not in measured_set.claims():
        return f"nothing could be measured on {measured_set.name}: {_LACKING[claim.output]}"
    measure = claim.deciding_measure
    full_values, ablated_values = (
        collect_measures(measured_set.results, network, claim.output)[measure]
        for network in (FULL, claim.ablated)
    )
    difference = compare(full_values, ablated_values)
    digits = _digits(measure)
    chance = (
        ", the same with every seed, so that the test says nothing"
        if np.isnan(difference.p)
        else f" ± {difference.margin:.{digits}f}, p = {difference.p:.3g}"
    )
    return (
        f"{difference.verdict} on {measured_set.name} ({measure} "
        f"{np.mean(full_values):.{digits}f} of the full net, "
        f"{np.mean(ablated_values):.{digits}f} {claim.ablated}: a difference of "
        f"{difference.mean:+.{digits}f}{chance})"
    )


def format_report(measured: Sequence[MeasuredSet], setting: str) -> str:
    """Return the report as Markdown.

    Args:
        measured: What was measured on each set.
        setting: A sentence that says what was trained.
    """
    results = measured[0].results
    seeds = ", ".join(str(result.seed) for result in results if result.network == FULL)
    mask_measure, keypoint_measure = (claim.deciding_measure for claim in CLAIMS)
    parts = [
        TITLE,
        *(answer_claim(measured, claim) for claim in CLAIMS),
        f"{setting} Seeds {seeds}; a cell is the mean over them, with the smallest and the "
        "largest. Networks of one seed saw the same samples in the same order, so that they are "
        "compared in pairs: the difference has its 95 % interval beside it, and p is how often "
        "chance alone would give a difference at least as large (paired t-test, two-sided). Each "
        f'set is judged by itself: "{HELD}" says that the full net is better and p is below '
        f'{SIGNIFICANCE}, "{REVERSED}" that it is worse and p is below {SIGNIFICANCE}, '
        f'"{UNDECIDED}" that p is {SIGNIFICANCE} or more, or unknown. The answers above '
        f"go by {mask_measure} and by {keypoint_measure}, the area under the curve of Fig. 9 up to "
        f"{CLOSE}. Protocol `paper`.",
    ]
    for measured_set in measured:
        for claim in measured_set.claims():
            title = claim.output.capitalize()
            if len(measured) > 1:
                title += f", {measured_set.name}"
            parts.append(f"## {title}\n\n{_claim_table(measured_set.results, claim)}")
            if measured_set.figures:
                is_mask = claim.output == "masks"
                figure = measured_set.figures.masks if is_mask else measured_set.figures.pck
                parts.append(f"![{title}]({figure})")
    return "\n\n".join(parts) + "\n"


def _claim_table(results: Sequence[TrainingResult], claim: Claim) -> str:
    """Return the table of both networks of a claim, with the verdict by each measure."""
    full = collect_measures(results, FULL, claim.output)
    ablated = collect_measures(results, claim.ablated, claim.output)
    differences = {name: compare(full[name], ablated[name]) for name in full}
    rows = [
        [FULL, *_cells(full)],
        [claim.ablated, *_cells(ablated)],
        [
            "difference",
            *(
                f"{value.mean:+.{_digits(name)}f} ± {value.margin:.{_digits(name)}f}"
                for name, value in differences.items()
            ),
        ],
        ["p", *("-" if np.isnan(value.p) else f"{value.p:.3g}" for value in differences.values())],
        ["claim", *(value.verdict for value in differences.values())],
    ]
    return markdown_table(["net", *full], rows)


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
    """Return a PNG of the PCK curves over all keypoints, with and without the mask (Fig. 9 (b)).

    A line is the mean over the seeds, a band their range.
    """
    figure, axes = pyplot.subplots(figsize=(5, 4), layout="constrained")
    for index, network in enumerate((FULL, NO_MASK)):
        curves = [
            result.numbers["paper"]["curves"][ALL_KEYPOINTS]
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
    seed_curves = np.array(curves, float)
    axes.plot(x, seed_curves.mean(axis=0), label=label, color=colour, linewidth=1.8)
    axes.fill_between(
        x, seed_curves.min(axis=0), seed_curves.max(axis=0), color=colour, alpha=0.25, linewidth=0
    )
    axes.grid(alpha=0.3)
