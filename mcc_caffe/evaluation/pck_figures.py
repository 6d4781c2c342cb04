"""Draws the PCK curves of Fig. 9 and 10 from the numbers of results.json, a line for each model."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mcc_caffe.core.figures import as_label, as_png, pyplot
from mcc_caffe.core.hand import GROUPS
from mcc_caffe.evaluation.evaluation_report import ModelResults
from mcc_caffe.evaluation.model_scores import ALL_KEYPOINTS, CURVE_THRESHOLDS

CLOSE = 0.5  # normalised distance where Fig. 9 (b), (c) and Fig. 10 end
_PANEL_INCHES = 3.2


class _Panel(NamedTuple):
    """One set of axes: the curves of a group of keypoints on a set, from 0 to `right`."""

    title: str
    set_name: str
    group: str
    right: float


def draw_sets(models: Sequence[ModelResults]) -> bytes:
    """Return a PNG with the curves of all keypoints (Fig. 9 (a), (b); Fig. 10).

    The first panel shows the first set up to 1, the others each further set up to 0.5, or the
    first set again if it is the only one.
    """
    first, *others = models[0]["sets"]
    close_panels = [_Panel(name, name, ALL_KEYPOINTS, CLOSE) for name in others] or [
        _Panel(f"{first}, up to {CLOSE}", first, ALL_KEYPOINTS, CLOSE)
    ]
    return _draw([_Panel(first, first, ALL_KEYPOINTS, 1.0), *close_panels], models)


def draw_groups(models: Sequence[ModelResults]) -> bytes:
    """Return a PNG with the groups' curves on the first set, a panel for each (Fig. 9 (c))."""
    first = next(iter(models[0]["sets"]))
    return _draw([_Panel(group, first, group, CLOSE) for group in GROUPS], models)


def _draw(panels: list[_Panel], models: Sequence[ModelResults]) -> bytes:
    """Return a PNG with the panels in a row; models without keypoints have no curve."""
    figure, rows = pyplot.subplots(
        1,
        len(panels),
        figsize=(_PANEL_INCHES * len(panels) + 0.5, _PANEL_INCHES + 0.7),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, panel in zip(rows[0], panels):
        for index, model in enumerate(models):
            numbers = model["sets"][panel.set_name]
            if "paper" in numbers:
                curve = np.array(numbers["paper"]["curves"][panel.group], float)
                label = as_label(model["name"])
                axes.plot(CURVE_THRESHOLDS, curve, label=label, color=f"C{index}", linewidth=1.8)
        axes.set(
            title=as_label(panel.title),
            xlim=(0, panel.right),
            ylim=(-0.01, 1.01),
            xlabel="normalised distance",
        )
        axes.set_xticks(np.linspace(0, panel.right, 6))
        axes.set_yticks(np.linspace(0, 1, 11))
        axes.grid(alpha=0.3)
    rows[0, 0].set_ylabel("PCK (protocol paper)")
    handles, labels = rows[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 2 * len(panels)),
        frameon=False,
    )
    return as_png(figure)
