"""What an ablation says: means and spreads over the seeds, the verdict on the paper's two claims (4.2), and the figures."""

from dataclasses import dataclass

import numpy as np

from mcc_caffe.core.figures import as_png, pyplot
from mcc_caffe.evaluation.metrics import average_precision
from mcc_caffe.evaluation.model_scores import ALL_JOINTS, AP, CURVE_THRESHOLDS

FULL, NO_MASK, NO_POSE = "full", "without mask", "without pose"  # the nets
HELD, REVERSED, UNDECIDED = "held", "the other way round", "undecided"
AUC = "AUC"
_CLOSE = 0.5  # normalised distance where the PCK figure ends
_IOUS = np.arange(101) / 100


@dataclass(frozen=True)
class Result:
    """A trained net, measured: what results.json of an evaluation says of it on the set, and (N,) the IoU of each image's mask, if any."""

    net: str
    seed: int
    numbers: dict
    ious: np.ndarray

    def keypoints(self) -> dict:
        """{measure: value} of the keypoints, protocol paper; empty of a net without pose stage."""
        if "paper" not in self.numbers:
            return {}
        paper = self.numbers["paper"]
        return {
            **{f"PCK@{threshold}": value for threshold, value in paper["PCK"]["values"].items()},
            AUC: paper["AUC"]["value"],
        }

    def masks(self) -> dict:
        """{measure: value} of the masks, AP in percent; empty of a net without mask stage."""
        mask = self.numbers.get("mask")
        return (
            {**{name: 100 * mask[name] for name in AP}, "mean IoU": mask["mean_IoU"]}
            if mask
            else {}
        )


@dataclass(frozen=True)
class Claim:
    """A finding of the paper: that the whole net is better than `other` in a measure of `what`, "keypoints" or "masks"."""

    finding: str
    other: str
    what: str
    decides: str  # the measure


# Table 1 compares AP, whose first column is AP50; Fig. 9 compares curves, to which the area under them is the one number.
CLAIMS = (
    Claim("The pose stage makes the masks better (Table 1)", NO_POSE, "masks", next(iter(AP))),
    Claim("The mask makes the keypoints better (Fig. 9)", NO_MASK, "keypoints", AUC),
)


def difference(full: list, other: list) -> tuple:
    """(mean of the whole net's values over the seeds less the other's, spread): the larger of the two nets' largest less smallest."""
    return float(np.mean(full) - np.mean(other)), float(max(np.ptp(full), np.ptp(other)))


def verdict(full: list, other: list) -> str:
    """HELD where the whole net is better by more than the seeds' spread, REVERSED where worse by more, else UNDECIDED."""
    by, spread = difference(full, other)
    return UNDECIDED if abs(by) <= spread else HELD if by > 0 else REVERSED


def values(results: list, net: str, what: str) -> dict:
    """{measure: [value for each seed]} of a net's "keypoints" or "masks"."""
    found = [getattr(result, what)() for result in results if result.net == net]
    return {measure: [one[measure] for one in found] for measure in found[0]}


def answer(results: list, claim: Claim) -> str:
    """The plain answer, with the numbers that it follows from."""
    full, other = (values(results, net, claim.what)[claim.decides] for net in (FULL, claim.other))
    by, spread = difference(full, other)
    digits = _digits(claim.decides)
    return (
        f"**{claim.finding}: {verdict(full, other)} here.** {claim.decides} {np.mean(full):.{digits}f} of the whole net, "
        f"{np.mean(other):.{digits}f} {claim.other}: a difference of {by:+.{digits}f}, where seeds alone differ by {spread:.{digits}f}."
    )


def text(results: list, setting: str, figures: dict) -> str:
    """The report as Markdown. setting: a sentence on what was trained. figures: {"pck" and "masks": file name}, or empty."""
    seeds = ", ".join(str(result.seed) for result in results if result.net == FULL)
    parts = [
        "# Do the two stages help each other?",
        *(answer(results, claim) for claim in CLAIMS),
        f"{setting} Seeds {seeds}; a cell is the mean over them, with the smallest and the largest. A claim is decided where the means "
        f"differ by more than the seeds of one net do; the answers above go by {CLAIMS[0].decides}, Table 1's first column, and by {AUC}, the "
        "area under Fig. 9's curve up to 0.5, and the last line of each table says the same of its other columns. Protocol `paper`.",
    ]
    for claim, title in zip(CLAIMS, ("Masks", "Keypoints")):
        full, other = (values(results, net, claim.what) for net in (FULL, claim.other))
        rows = [
            ["net", *full],
            ["---"] * (len(full) + 1),
            [FULL, *_cells(full)],
            [claim.other, *_cells(other)],
            ["claim", *(verdict(full[measure], other[measure]) for measure in full)],
        ]
        parts.append("\n".join([f"## {title}", "", *(f"| {' | '.join(row)} |" for row in rows)]))
        if figures:
            parts.append(
                f"![{title}]({figures[{'masks': 'masks', 'keypoints': 'pck'}[claim.what]]})"
            )
    return "\n\n".join(parts) + "\n"


def _cells(measures: dict) -> list:
    return [cell(found, _digits(name)) for name, found in measures.items()]


def cell(found: list, digits: int = 3) -> str:
    """The mean over the seeds, with the smallest and the largest where there are several; a dash without any."""
    if not found:
        return "-"
    spread = f" ({min(found):.{digits}f} to {max(found):.{digits}f})" if len(found) > 1 else ""
    return f"{np.mean(found):.{digits}f}{spread}"


def _digits(measure: str) -> int:
    return 1 if measure in AP else 3


def draw_pck(results: list) -> bytes:
    """PNG of the PCK curves over all joints, with and without the mask (Fig. 9 (b)): mean over the seeds, and their range."""
    figure, axes = pyplot.subplots(figsize=(5, 4), layout="constrained")
    for place, net in enumerate((FULL, NO_MASK)):
        _curve(
            axes,
            CURVE_THRESHOLDS,
            [
                result.numbers["paper"]["curves"][ALL_JOINTS]
                for result in results
                if result.net == net
            ],
            net,
            place,
        )
    axes.set(
        xlim=(0, _CLOSE),
        ylim=(-0.01, 1.01),
        xlabel="normalised distance",
        ylabel="PCK (protocol paper)",
    )
    axes.legend(frameon=False)
    return as_png(figure)


def draw_masks(results: list) -> bytes:
    """PNG of the masks' AP with and without the pose stage: Table 1 as bars, a dot a seed, and at every IoU threshold."""
    figure, (bars, curves) = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for place, net in enumerate((FULL, NO_POSE)):
        of_net = [result for result in results if result.net == net]
        found = values(results, net, "masks")
        where = np.arange(len(AP)) + 0.4 * place
        bars.bar(
            where,
            [np.mean(found[name]) for name in AP],
            width=0.38,
            label=net,
            color=f"C{place}",
            alpha=0.7,
        )
        for x, name in zip(where, AP):
            bars.plot([x] * len(of_net), found[name], "k.", markersize=5)
        _curve(
            curves,
            _IOUS,
            [
                [100 * average_precision(result.ious, threshold) for threshold in _IOUS]
                for result in of_net
            ],
            net,
            place,
        )
    bars.set_xticks(np.arange(len(AP)) + 0.2, list(AP))
    bars.set(ylim=(0, 100), ylabel="AP, %")
    bars.legend(frameon=False)
    curves.set(xlim=(0, 1), ylim=(-1, 101), xlabel="IoU threshold", ylabel="AP, %")
    return as_png(figure)


def _curve(axes, x, lines: list, label: str, place: int) -> None:
    """The mean of the seeds' lines, and their range as a band."""
    lines = np.array(lines, float)
    axes.plot(x, lines.mean(axis=0), label=label, color=f"C{place}", linewidth=1.8)
    axes.fill_between(
        x, lines.min(axis=0), lines.max(axis=0), color=f"C{place}", alpha=0.25, linewidth=0
    )
    axes.grid(alpha=0.3)
