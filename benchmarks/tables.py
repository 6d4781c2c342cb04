"""The results of a run as a document: prose, and a Markdown table for each kind of figure."""

from benchmarks import end_to_end, network, training

DATA, PYRAMID = "data", "pyramid"  # tables that other benchmarks print

TITLE = """# Benchmarks

Every figure that this project claims about speed, measured side by side by one command, `make bench` (`python -m benchmarks`; `make bench
ARGS=--quick` in some 10 minutes). It writes bench.md, which is this text, bench.json with all numbers and bench.png to `runs/bench`;
`ARGS="--report docs/benchmarks.md"` wrote this file. Ratios between rows are what to look at: they hold where the machine is another. Rows
of one table are measured one after the other, each in a process of its own; neighbours that use the machine meanwhile spoil them, and most
of all those of PyTorch, whose threads wait for each other.

PyTorch runs our nets built layer by layer from the prototxt's own description. It lives in an environment of its own in
`~/.cache/mcc-caffe/peers`, made on first use (a gigabyte with its CPU build). pip decides which build comes: set PIP_FIND_LINKS or
PIP_EXTRA_INDEX_URL to PyTorch's CPU wheels where you do not want the one for CUDA, which is several times as large. An engine that cannot
be installed or run is a row that says why.
"""

SECTIONS = {
    network.TABLE: (
        "The network alone",
        """\
The same deploy net, weights and pictures in every engine, which may use all cores. "Caffe" runs convolutions by oneDNN where it was built
with it; with `engine: CAFFE` in each convolution_param it runs them by its own code, as BVLC wrote it. Before an engine is timed, its mask
and heatmaps are compared with those of Caffe's own code; where a value differs by more than 1e-4 the row says so. `mini` has the weights
that ship, `paper` random ones. Memory is the most that the process ever held, the engine's own libraries included.""",
    ),
    end_to_end.TABLE: (
        "A picture in, keypoints out",
        """\
`HandPredictor` on a picture of 640 x 480, with what it does before and after the network.""",
    ),
    end_to_end.LEVELS: (
        "Cost by levels of the pyramid",
        """\
Seconds an image of 640 x 480, whose whole pyramid has 19 levels.""",
    ),
    end_to_end.SIZES: (
        "Cost by size of the picture",
        """\
Seconds an image, a single pass and the paper's pyramid, whose number of levels hardly depends on the size.""",
    ),
    end_to_end.BATCHES: (
        "Cost by batch",
        f"""\
Seconds an image of {end_to_end.BATCH_LEVELS} levels, so many of them at a time through the network (`HandPredictor(batch=...)`).""",
    ),
    training.TABLE: (
        "Training",
        """\
`python -m mcc_caffe.train`, its data layer included; and PyTorch on the same train net, built from its prototxt, with the same losses and
optimizer, on random data that lie ready in memory. Threads are those of all processes; the loader's two processes come on top. Before
PyTorch is timed, its loss and gradients are compared with those of Caffe's own code on the same weights and samples (1e-4 of the loss, 1e-2
of each layer's gradients). PyTorch does in one process, with the batch twice as large, what two of Caffe do. The ratio is Caffe's time to
that of the faster PyTorch row with as many images and threads; below 1 Caffe is faster.""",
    ),
    training.ALLREDUCE: (
        "Averaging gradients",
        """\
Two processes in shared memory, `python -m benchmarks.allreduce`; under mpirun and between machines: [scaling.md](scaling.md).""",
    ),
    DATA: (
        "The data layer",
        """\
`python -m benchmarks.data_layer`: images a second of two loader processes, augmentation and heatmaps included, beside the usual loader.""",
    ),
    PYRAMID: (
        "Where an image's time goes",
        """\
`python -m benchmarks.pyramid`: every step from the JPEG to the picture of what was found.""",
    ),
}


def document(results: dict, picture: str) -> str:
    """The Markdown of a run. picture: the path of its figure as seen from the document; results None: a run is still to come."""
    if results is None:
        return f'{TITLE}\nNo run is recorded here yet: `make bench ARGS="--report docs/benchmarks.md"` does it.\n'
    machine = results["machine"]
    facts = [
        ["processor", f"{machine['processor']}, {machine['cores']} cores"],
        ["memory", f"{machine['memory_gib']:.1f} GiB"],
        ["BLAS of Caffe", machine["blas"]],
        ["oneDNN", machine["onednn"]],
        ["system", machine["system"]],
        ["date", machine["date"]],
        ["command", f"`{results['command']}`"],
        ["took", f"{results['seconds'] / 60:.0f} min"],
        ["load before it began", f"{machine['load']:.1f}"],
    ]
    parts = [
        TITLE,
        f"![All of it as pictures]({picture})\n",
        "## This run\n",
        _table(["", ""], facts),
    ]
    for name, rows in results["tables"].items():
        heading, prose = SECTIONS[name]
        parts += [f"## {heading}\n", f"{prose}\n", TABLES[name](rows)]
    return "\n".join(parts)


def _table(columns: list, lines: list) -> str:
    return (
        "\n".join(
            f"| {' | '.join(map(str, line))} |"
            for line in (columns, ["---"] * len(columns), *lines)
        )
        + "\n"
    )


def shown(value) -> str:
    """A number with three digits, a text as it is, nothing as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _time(row: dict, factor: float = 1.0) -> str:
    """The median and, in parentheses, the 10th and 90th percentile of a row's seconds."""
    if "median" not in row:
        return "-"
    low_high = (
        f" ({shown(factor * row['p10'])} to {shown(factor * row['p90'])})" if "p10" in row else ""
    )
    return shown(factor * row["median"]) + low_high


def _ratio(row: dict, reference: list) -> str:
    """How many times as long as the row the first of the reference rows takes."""
    return (
        shown(reference[0]["median"] / row["median"])
        if reference and "median" in reference[0] and "median" in row
        else "-"
    )


def network_table(rows: list) -> str:
    lines = []
    for row in rows:
        caffe = [
            one
            for one in rows
            if one["engine"] == "caffe"
            and (one["variant"], one["batch"]) == (row["variant"], row["batch"])
        ]
        name = f"{network.ENGINES[row['engine']]} {row.get('version', '')}".strip()
        lines.append(
            [
                row["variant"],
                row["batch"],
                name,
                _time(row, 1000 / row["batch"]),
                _ratio(row, caffe),
                shown(_rounded(row.get("peak_mib"))),
                row["status"] or shown(row.get("difference")),
            ]
        )
    return _table(
        [
            "net",
            "batch",
            "engine",
            "ms an image, median (10th to 90th percentile)",
            "times as fast as Caffe",
            "memory, MiB",
            "largest difference",
        ],
        lines,
    )


def _rounded(value):
    return None if value is None else round(value)


def end_to_end_table(rows: list) -> str:
    lines = [
        [
            row["variant"],
            row["engine"],
            _passes(row),
            _time(row),
            shown(row.get("network")),
            shown(_rounded(row.get("peak_mib"))),
            row["status"],
        ]
        for row in rows
    ]
    return _table(
        [
            "net",
            "engine",
            "",
            "s an image, median (10th to 90th percentile)",
            "of it in the network",
            "memory, MiB",
            "",
        ],
        lines,
    )


def _passes(row: dict) -> str:
    if "levels" not in row:
        return ""
    return (
        f"pyramid, {row['levels']} levels"
        if row["pyramid"]
        else "single pass"
        if row["levels"] == 1
        else f"{row['levels']} levels"
    )


def grid(rows: list, column) -> str:
    """A table of medians with a line for each net and engine, and a column for each value of column(row)."""
    columns = list(dict.fromkeys(column(row) for row in rows if not row["status"]))
    lines = {}
    for row in rows:
        line = lines.setdefault((row["variant"], row["engine"]), {})
        line[column(row) if not row["status"] else ""] = row["status"] or shown(row["median"])
    return _table(
        ["net", "engine", *columns, ""],
        [
            [*names, *(line.get(one, "-") for one in columns), line.get("", "")]
            for names, line in lines.items()
        ],
    )


def sizes_label(row: dict) -> str:
    return f"{row['width']} x {row['height']}, {'pyramid' if row['pyramid'] else 'single pass'}"


def training_table(rows: list) -> str:
    lines = []
    for row in rows:
        same = [
            one
            for one in rows
            if "median" in one
            and not one["status"]
            and training.same_work(one) == training.same_work(row)
        ]
        best = min(
            (one for one in same if one["system"] in training.LAYOUTS.values()),
            key=lambda one: one["median"],
            default=None,
        )
        ratio = (
            shown(row["median"] / best["median"])
            if best and "median" in row and row["system"] in (training.CAFFE, training.OWN)
            else ""
        )
        rate = shown(row["processes"] * row["batch"] / row["median"]) if "median" in row else "-"
        lines.append(
            [
                row["variant"],
                f"{row['processes']} x {row['batch']}",
                shown(row["threads"]),
                f"{row['system']} {row.get('version', '')}".strip(),
                _time(row),
                rate,
                ratio,
                row["status"],
            ]
        )
    return _table(
        [
            "net",
            "processes x batch",
            "threads",
            "system",
            "s an iteration, median (10th to 90th percentile)",
            "images a second",
            "Caffe's time / PyTorch's",
            "",
        ],
        lines,
    )


def plain_table(rows: list) -> str:
    """Rows of texts as they are, keys as columns; what could not be measured, in words."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "status"))
    lines = [[row[column] for column in columns] for row in rows if not row["status"]]
    return (_table(columns, lines) if lines else "") + "".join(
        f"{row['status']}\n" for row in rows if row["status"]
    )


TABLES = {
    network.TABLE: network_table,
    end_to_end.TABLE: end_to_end_table,
    end_to_end.LEVELS: lambda rows: grid(
        rows, lambda row: f"{row['levels']} level{'s' * (row['levels'] > 1)}"
    ),
    end_to_end.SIZES: lambda rows: grid(rows, sizes_label),
    end_to_end.BATCHES: lambda rows: grid(rows, lambda row: f"batch {row['batch']}"),
    training.TABLE: training_table,
    training.ALLREDUCE: plain_table,
    DATA: plain_table,
    PYRAMID: plain_table,
}
