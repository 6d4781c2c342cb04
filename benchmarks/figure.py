"""The results of a run as one figure."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import end_to_end, network, training
from benchmarks.jobs import Row
from benchmarks.tables import format_value
from mcc_caffe.core.figures import pyplot


def draw(tables: dict[str, list[Row]]) -> Figure:
    """Draw {table: rows}.

    Rows that could not be measured are left out, and a panel without rows says so.
    """
    measured = {
        name: [row for row in rows if "median" in row and not row["status"]]
        for name, rows in tables.items()
    }
    figure, axes = pyplot.subplots(3, 3, figsize=(20, 15), layout="constrained")
    (*network_panels, memory), (*training_panels, empty), predictor_panels = axes
    network_rows = measured.get(network.TABLE, [])
    _draw_network(network_panels, network_rows)
    _draw_memory(memory, network_rows)
    _draw_training(training_panels, measured.get(training.TABLE, []))
    empty.set_axis_off()
    _draw_predictor(predictor_panels, measured)
    return figure


def _draw_network(panels: Sequence[Axes], rows: list[Row]) -> None:
    """Draw the time of the network alone, a panel for each variant."""
    for panel, variant in zip(panels, network.ORDER):
        own_rows = [row for row in rows if row["variant"] == variant]
        _draw_bars(
            panel,
            [network.ENGINES[row["engine"]] for row in own_rows],
            [f"batch {row['batch']}" for row in own_rows],
            [1000 * row["median"] / row["batch"] for row in own_rows],
        )
        panel.set(title=f"the network alone, {variant}", xlabel="ms an image")


def _draw_memory(panel: Axes, rows: list[Row]) -> None:
    """Draw the memory that the network alone takes."""
    single_rows = [row for row in rows if row["batch"] == 1]
    _draw_bars(
        panel,
        [network.ENGINES[row["engine"]] for row in single_rows],
        [row["variant"] for row in single_rows],
        [round(row["peak_mib"]) for row in single_rows],
    )
    panel.set(title="memory of the process, batch 1", xlabel="MiB")


def _draw_training(panels: Sequence[Axes], rows: list[Row]) -> None:
    """Draw the time of a training's iteration, a panel for each variant."""
    for panel, variant in zip(panels, network.ORDER):
        own_rows = [row for row in rows if row["variant"] == variant]
        _draw_bars(
            panel,
            [network.ENGINES[row["engine"]] for row in own_rows],
            [_describe_work(row) for row in own_rows],
            [row["median"] for row in own_rows],
        )
        panel.set(title=f"training, {variant}", xlabel="s an iteration")


def _draw_predictor(panels: Sequence[Axes], measured: Mapping[str, list[Row]]) -> None:
    """Draw the time of `HandPredictor` by levels, by the image's size and by the batch.

    Args:
        panels: A panel for each.
        measured: {table: rows}.
    """
    levels, sizes, batches = panels
    _draw_lines(levels, measured.get(end_to_end.LEVELS, []), "levels", _describe_net)
    levels.set(
        title="HandPredictor, 640 x 480", xlabel="levels of the pyramid", ylabel="s an image"
    )
    _draw_lines(sizes, measured.get(end_to_end.SIZES, []), "width", _describe_passes)
    sizes.set(
        title="HandPredictor by size of the image",
        xlabel="width, pixels (4 : 3)",
        ylabel="s an image",
    )
    _draw_lines(batches, measured.get(end_to_end.BATCHES, []), "batch", _describe_net)
    batches.set(
        title=f"HandPredictor, {end_to_end.BATCH_LEVELS} levels",
        xlabel="levels at a time",
        ylabel="s an image",
    )


def _describe_net(row: Row) -> str:
    return f"{row['variant']}, {row['engine']}"


def _describe_passes(row: Row) -> str:
    return f"{_describe_net(row)}, {'pyramid' if row['pyramid'] else 'single pass'}"


def _describe_work(row: Row) -> str:
    work = training.work_of(row)
    images = f"{work.images} image{'s' * (work.images > 1)}"
    return f"{images}, {work.threads} thread{'s' * (work.threads > 1)}"


def _draw_bars(axes: Axes, names: list[str], series: list[str], values: list) -> None:
    """Draw horizontal bars, one of each series beside the name, the first name on top."""
    if not values:
        _say_not_measured(axes)
        return
    positions = {name: position for position, name in enumerate(dict.fromkeys(names))}
    labels = list(dict.fromkeys(series))
    height = 0.8 / len(labels)
    for number, label in enumerate(labels):
        chosen = [
            (positions[name], value)
            for name, value_label, value in zip(names, series, values)
            if value_label == label
        ]
        bars = axes.barh(
            [position - 0.4 + (number + 0.5) * height for position, _ in chosen],
            [value for _, value in chosen],
            height,
            label=label,
        )
        axes.bar_label(bars, fmt=lambda value: f" {format_value(value)}", fontsize="small")
    axes.set_yticks(list(positions.values()), list(positions))
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.legend(
        fontsize="small",
        loc="upper center",
        bbox_to_anchor=(0.5, -0.12),  # below the axis, where no bar is
        ncols=len(labels),
        frameon=False,
    )


def _draw_lines(axes: Axes, rows: list[Row], key: str, label_of: Callable[[Row], str]) -> None:
    """Draw medians by row[key] on logarithmic axes, a line for each label_of(row).

    A band shows the 10th to 90th percentile.
    """
    if not rows:
        _say_not_measured(axes)
        return
    for label in dict.fromkeys(map(label_of, rows)):
        chosen = sorted((row for row in rows if label_of(row) == label), key=lambda row: row[key])
        x = [row[key] for row in chosen]
        (line,) = axes.loglog(x, [row["median"] for row in chosen], marker="o", label=label)
        axes.fill_between(
            x,
            [row["p10"] for row in chosen],
            [row["p90"] for row in chosen],
            color=line.get_color(),
            alpha=0.15,
        )
    ticks = np.unique([row[key] for row in rows])
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set(
        major_locator=ticker.LogLocator(subs=(1, 2, 5)),
        major_formatter=lambda value, _: f"{value:g}",
        minor_locator=ticker.NullLocator(),
    )
    axes.margins(y=0.2)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _say_not_measured(axes: Axes) -> None:
    axes.text(
        0.5,
        0.5,
        "not measured in this run",
        ha="center",
        va="center",
        transform=axes.transAxes,
        color="grey",
    )
