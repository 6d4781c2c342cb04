"""The results of a run as one picture."""

import matplotlib
import numpy as np

from benchmarks import end_to_end, network, training
from benchmarks.tables import shown

matplotlib.use("Agg")
from matplotlib import pyplot, ticker  # noqa: E402  (the backend comes first)


def draw(tables: dict):
    """A figure of {table: rows}; rows that could not be measured are left out, and a panel without rows says so."""
    rows = {
        name: [row for row in found if "median" in row and not row["status"]]
        for name, found in tables.items()
    }
    figure, axes = pyplot.subplots(3, 3, figsize=(20, 15), layout="constrained")
    (*networks, memory), (*steps, empty), (levels, sizes, batches) = axes
    for panel, variant in zip(networks, network.ORDER):
        own = [
            row for row in rows.get(network.TABLE, []) if row["variant"] == variant and "p10" in row
        ]
        _bars(
            panel,
            [network.ENGINES[row["engine"]] for row in own],
            [f"batch {row['batch']}" for row in own],
            [1000 * row["median"] / row["batch"] for row in own],
        )
        panel.set(title=f"the network alone, {variant}", xlabel="ms an image")
    own = [row for row in rows.get(network.TABLE, []) if "peak_mib" in row and row["batch"] == 1]
    _bars(
        memory,
        [network.ENGINES[row["engine"]] for row in own],
        [row["variant"] for row in own],
        [round(row["peak_mib"]) for row in own],
    )
    memory.set(title="memory of the process, batch 1", xlabel="MiB")
    for panel, variant in zip(steps, network.ORDER):
        own = [
            row
            for row in rows.get(training.TABLE, [])
            if row["variant"] == variant and "p10" in row
        ]
        _bars(
            panel,
            [row["system"] for row in own],
            [_work(row) for row in own],
            [row["median"] for row in own],
        )
        panel.set(title=f"training, {variant}", xlabel="s an iteration")
    empty.set_axis_off()
    _lines(
        levels,
        rows.get(end_to_end.LEVELS, []),
        "levels",
        lambda row: f"{row['variant']}, {row['engine']}",
    )
    levels.set(
        title="HandPredictor, 640 x 480", xlabel="levels of the pyramid", ylabel="s an image"
    )
    _lines(
        sizes,
        rows.get(end_to_end.SIZES, []),
        "width",
        lambda row: (
            f"{row['variant']}, {row['engine']}, {'pyramid' if row['pyramid'] else 'single pass'}"
        ),
    )
    sizes.set(
        title="HandPredictor by size of the picture",
        xlabel="width, pixels (4 : 3)",
        ylabel="s an image",
    )
    _lines(
        batches,
        rows.get(end_to_end.BATCHES, []),
        "batch",
        lambda row: f"{row['variant']}, {row['engine']}",
    )
    batches.set(
        title=f"HandPredictor, {end_to_end.BATCH_LEVELS} levels",
        xlabel="levels at a time",
        ylabel="s an image",
    )
    return figure


def _work(row: dict) -> str:
    _, images, _ = training.same_work(row)
    return f"{images} image{'s' * (images > 1)}, {_threads(row)}"


def _threads(row: dict) -> str:
    return f"{row['threads']} thread{'s' * (row['threads'] > 1)}"


def _bars(axes, names: list, series: list, values: list) -> None:
    """Horizontal bars, one of each series beside the name, the first name on top."""
    if not values:
        return _nothing(axes)
    places, kinds = (
        {name: place for place, name in enumerate(dict.fromkeys(names))},
        list(dict.fromkeys(series)),
    )
    height = 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        chosen = [
            (places[name], value) for name, one, value in zip(names, series, values) if one == kind
        ]
        bars = axes.barh(
            [place - 0.4 + (number + 0.5) * height for place, _ in chosen],
            [value for _, value in chosen],
            height,
            label=kind,
        )
        axes.bar_label(bars, fmt=lambda value: f" {shown(value)}", fontsize="small")
    axes.set_yticks(list(places.values()), list(places))
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.legend(fontsize="small")


def _lines(axes, rows: list, key: str, name) -> None:
    """Medians by row[key] on logarithmic axes, a line for each name(row); the 10th to 90th percentile as a band."""
    if not rows:
        return _nothing(axes)
    for label in dict.fromkeys(map(name, rows)):
        chosen = sorted((row for row in rows if name(row) == label), key=lambda row: row[key])
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
        major_formatter=lambda value, place: f"{value:g}",
        minor_locator=ticker.NullLocator(),
    )
    axes.margins(y=0.2)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _nothing(axes) -> None:
    axes.text(
        0.5,
        0.5,
        "not measured in this run",
        ha="center",
        va="center",
        transform=axes.transAxes,
        color="grey",
    )
