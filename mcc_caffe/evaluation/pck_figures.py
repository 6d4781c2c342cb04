"""The PCK curves of Fig. 9 and 10, a line a model, from what results.json of an evaluation says."""

import numpy as np

from mcc_caffe.core.figures import as_png, pyplot
from mcc_caffe.core.hand import GROUPS
from mcc_caffe.evaluation.model_scores import ALL_JOINTS, CURVE_THRESHOLDS

_CLOSE = 0.5  # normalised distance where the panels of a set or a group end
_PANEL = 3.2  # inches


def draw_sets(models: list) -> bytes:
    """PNG of all joints' curves: the first set whole, then each set up to 0.5 (Fig. 9 (a), (b); Fig. 10)."""
    first, *others = models[0]["sets"]
    close = [(name, name, ALL_JOINTS, _CLOSE) for name in others] or [
        (f"{first}, up to {_CLOSE}", first, ALL_JOINTS, _CLOSE)
    ]
    return _draw([(first, first, ALL_JOINTS, 1.0), *close], models)


def draw_groups(models: list) -> bytes:
    """PNG of the groups' curves on the first set, up to 0.5 (Fig. 9 (c)), a panel a group."""
    first = next(iter(models[0]["sets"]))
    return _draw([(group, first, group, _CLOSE) for group in GROUPS], models)


def _draw(panels: list, models: list) -> bytes:
    """PNG of a row of panels (title, set, joints, right end) with the curves of those models that predict keypoints."""
    figure, row = pyplot.subplots(
        1,
        len(panels),
        figsize=(_PANEL * len(panels) + 0.5, _PANEL + 0.7),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, (title, where, joints, right) in zip(row[0], panels):
        for place, model in enumerate(models):
            if "paper" in model["sets"][where]:
                curve = np.array(model["sets"][where]["paper"]["curves"][joints], float)
                axes.plot(
                    CURVE_THRESHOLDS, curve, label=model["name"], color=f"C{place}", linewidth=1.8
                )
        axes.set(title=title, xlim=(0, right), ylim=(-0.01, 1.01), xlabel="normalised distance")
        axes.set_xticks(np.linspace(0, right, 6))
        axes.set_yticks(np.linspace(0, 1, 11))
        axes.grid(alpha=0.3)
    row[0, 0].set_ylabel("PCK (protocol paper)")
    handles, labels = row[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 2 * len(panels)),
        frameon=False,
    )
    return as_png(figure)
