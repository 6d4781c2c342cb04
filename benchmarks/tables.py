"""The results of a run as a document: prose, and a Markdown table for each kind of figure."""

from collections.abc import Callable
from typing import NamedTuple, TypedDict

from benchmarks import end_to_end, network, training
from benchmarks.jobs import Row
from mcc_caffe.core.markdown import markdown_table

# Tables that other benchmarks print.
DATA, PYRAMID, STARTUP, FOLDER = "data", "pyramid", "startup", "folder"

TITLE = "# Benchmarks\n"
INTRODUCTION = """\
This page compares the speed and the memory of Caffe with those of ONNX Runtime, PyTorch and OpenCV:
of the network alone, of inference, of training and of the data layer. Compare rows with one
another. The ratios, too, depend on the processor: without AVX-512 ONNX Runtime is as fast as Caffe
or faster ([measurements.md](measurements.md#a-processor-without-avx-512)).

`make bench` (`python -m benchmarks`) measures all of it on your machine, and writes bench.md,
bench.json and bench.png to `runs/bench`; `--report FILE` writes the text to FILE as well. It takes
more than an hour on 2 cores. With `ARGS=--quick` it leaves out the slowest rows of `paper`, and
takes 12 to 25 minutes. `python -m benchmarks --only training` measures one part alone: `inference`,
`training` (with the averaging of gradients), `data` (the data layer) or `files` (the last three
sections).

Each engine runs in a process of its own, and so does each row whose memory is shown. Rows of the
network alone and of training that are compared with each other take turns, so that what else the
machine does counts for all of them. Other programs on the machine still spoil them, and PyTorch's
most of all, since its threads wait for each other.

PyTorch runs our nets, built layer by layer from the prototxt's own description. It lives in an
environment of its own in `~/.cache/mcc-caffe/peers`, made on first use (a gigabyte with its CPU
build). pip decides which build comes: set PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL to PyTorch's CPU
wheels where you do not want the one for CUDA, which is several times as large. An engine that
cannot be installed or run is a row that says why.
"""


class Machine(TypedDict):
    """What the figures depend on."""

    processor: str
    cores: int
    memory_gib: float
    blas: str
    onednn: str
    system: str
    date: str
    load: float  # of the last minute, before the run began


class Results(TypedDict):
    """A run: its command, the machine, how long it took, and the rows of each table."""

    command: str
    machine: Machine
    seconds: float
    tables: dict[str, list[Row]]


def document(results: Results, figure: str) -> str:
    """Return the Markdown of a run; `figure` is its figure's path, seen from the document."""
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
        INTRODUCTION,
        f"![All of it as a figure]({figure})\n",
        "## This run\n",
        _table(["", ""], facts),
    ]
    for name, rows in results["tables"].items():
        section = SECTIONS[name]
        parts += [f"## {section.heading}\n", f"{section.prose}\n", section.table(rows)]
    return "\n".join(parts)


def _table(columns: list, lines: list) -> str:
    return f"{markdown_table(columns, lines)}\n"


def format_value(value: float | int | str | None) -> str:
    """Return a number with three digits, a text as it is, and None as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
    return str(value)


def _format_time(row: Row, factor: float = 1.0) -> str:
    """Return the median and, in parentheses, the 10th and 90th percentile of a row's seconds."""
    if "median" not in row:
        return "-"
    median, low, high = (format_value(factor * row[name]) for name in ("median", "p10", "p90"))
    return f"{median} ({low} to {high})"


def _format_memory(row: Row) -> str:
    return format_value(round(row["peak_mib"]) if "peak_mib" in row else None)


def _format_engine(row: Row) -> str:
    """Return the title of a row's engine, and its version where it is known."""
    return f"{network.ENGINES[row['engine']]} {row.get('version', '')}".strip()


def network_table(rows: list[Row]) -> str:
    """Return the table of the network alone, a line for each row."""
    caffe_medians = {
        (row["variant"], row["batch"]): row.get("median")
        for row in rows
        if row["engine"] == "caffe"
    }
    lines = []
    for row in rows:
        caffe_median = caffe_medians.get((row["variant"], row["batch"]))
        ratio = caffe_median / row["median"] if caffe_median and "median" in row else None
        lines.append(
            [
                row["variant"],
                row["batch"],
                _format_engine(row),
                _format_time(row, 1000 / row["batch"]),
                format_value(ratio),
                _format_memory(row),
                row["status"] or format_value(row.get("difference")),
            ]
        )
    columns = [
        "net",
        "batch",
        "engine",
        "ms an image, median (10th to 90th percentile)",
        "times as fast as Caffe",
        "memory, MiB",
        "largest difference",
    ]
    return _table(columns, lines)


def end_to_end_table(rows: list[Row]) -> str:
    """Return the table of HandPredictor, a line for each row.

    The rows of an engine that cannot run are alike; they have a single line.
    """
    lines = [
        (
            row["variant"],
            row["engine"],
            _describe_passes(row),
            _format_time(row),
            format_value(row.get("network")),
            _format_memory(row),
            row["status"],
        )
        for row in rows
    ]
    columns = [
        "net",
        "engine",
        "",
        "s an image, median (10th to 90th percentile)",
        "of it in the network",
        "memory, MiB",
        "",
    ]
    return _table(columns, list(dict.fromkeys(lines)))


def _describe_passes(row: Row) -> str:
    if "levels" not in row:
        return ""
    if row["pyramid"]:
        return f"pyramid, {row['levels']} levels"
    return "single pass" if row["levels"] == 1 else f"{row['levels']} levels"


def grid(rows: list[Row], heading_of: Callable[[Row], str]) -> str:
    """Return a table of medians: a line for each net and engine, a column for each heading.

    Args:
        rows: The rows.
        heading_of: Function that returns the heading of a row's column.
    """
    headings = list(dict.fromkeys(heading_of(row) for row in rows if not row["status"]))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault((row["variant"], row["engine"]), {})
        if row["status"]:
            line[""] = row["status"]
        else:
            line[heading_of(row)] = format_value(row["median"])
    return _table(
        ["net", "engine", *headings, ""],
        [
            [*names, *(line.get(heading, "-") for heading in headings), line.get("", "")]
            for names, line in lines.items()
        ],
    )


def levels_grid(rows: list[Row]) -> str:
    """Return the table of medians by number of levels."""
    return grid(rows, lambda row: f"{row['levels']} level{'s' * (row['levels'] > 1)}")


def sizes_grid(rows: list[Row]) -> str:
    """Return the table of medians by size of the image."""

    def heading(row: Row) -> str:
        passes = "pyramid" if row["pyramid"] else "single pass"
        return f"{row['width']} x {row['height']}, {passes}"

    return grid(rows, heading)


def batches_grid(rows: list[Row]) -> str:
    """Return the table of medians by batch."""
    return grid(rows, lambda row: f"batch {row['batch']}")


def training_table(rows: list[Row]) -> str:
    """Return the table of training, a line for each row."""
    torch_medians: dict[training.Work, float] = {}
    for row in rows:
        if row["engine"] in network.IN_TORCH and "median" in row and not row["status"]:
            work = training.work_of(row)
            torch_medians[work] = min(row["median"], torch_medians.get(work, row["median"]))
    lines = []
    for row in rows:
        work = training.work_of(row)
        is_caffe = row["engine"] not in network.IN_TORCH
        has_ratio = is_caffe and "median" in row and work in torch_medians
        lines.append(
            [
                row["variant"],
                f"{row['processes']} x {row['batch']}",
                format_value(row["threads"]),
                _format_engine(row),
                _format_time(row),
                format_value(work.images / row["median"] if "median" in row else None),
                format_value(row["median"] / torch_medians[work]) if has_ratio else "",
                row["status"],
            ]
        )
    columns = [
        "net",
        "processes x batch",
        "threads",
        "system",
        "s an iteration, median (10th to 90th percentile)",
        "images a second",
        "Caffe's time / PyTorch's",
        "",
    ]
    return _table(columns, lines)


def plain_table(rows: list[Row]) -> str:
    """Return rows of texts as they are, with their keys as columns.

    A row that could not be measured is a line below the table that says why.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "status"))
    lines = [[row[column] for column in columns] for row in rows if not row["status"]]
    faults = "".join(f"{row['status']}\n" for row in rows if row["status"])
    return (_table(columns, lines) if lines else "") + faults


class Section(NamedTuple):
    """The heading of a table, the prose above it, and what makes it of the rows."""

    heading: str
    prose: str
    table: Callable[[list[Row]], str]


SECTIONS = {
    network.TABLE: Section(
        "The network alone",
        """\
The same deploy net, weights and images go through every engine, which may use all cores. "Caffe"
runs convolutions by oneDNN where it was built with it; with `engine: CAFFE` in each
convolution_param it runs them by its own code, as BVLC wrote it. Before an engine is timed, its
mask and heatmaps are compared with those of Caffe's own code; where a value differs by more than
1e-4 the row says so. `mini` has the weights that ship, `paper` random ones. Memory is the most that
the process ever held, the engine's own libraries included. Rows in bfloat16 are
there where the processor has it, and may differ from Caffe's own code by 0.1.""",
        network_table,
    ),
    end_to_end.TABLE: Section(
        "An image in, keypoints out",
        """\
`HandPredictor` on an image of 640 x 480, with what it does before and after the network. Here and
in the next three tables `mini` looks at 128 x 128, the variant's input.""",
        end_to_end_table,
    ),
    end_to_end.LEVELS: Section(
        "Cost by levels of the pyramid",
        """\
Seconds an image of 640 x 480, whose whole pyramid has 19 levels.""",
        levels_grid,
    ),
    end_to_end.SIZES: Section(
        "Cost by size of the image",
        """\
Seconds an image, for a single pass and for the paper's pyramid, whose number of levels grows
slowly with the size.""",
        sizes_grid,
    ),
    end_to_end.BATCHES: Section(
        "Cost by batch",
        f"""\
Seconds an image of {end_to_end.BATCH_LEVELS} levels. The batch is the number of levels that go
through the network at a time (`HandPredictor(batch=...)`).""",
        batches_grid,
    ),
    training.TABLE: Section(
        "Training",
        """\
`python -m mcc_caffe.train` is timed with its data layer. PyTorch trains the same net, built from
its prototxt, with the same losses and optimizer, on random data that lie ready in memory. Threads
are those of all processes; each process's two loader processes come on top. Before PyTorch is
timed, its loss and gradients are compared with those of Caffe's own code on the same weights and
samples (1e-4 of the loss, 1e-2 of each layer's gradients). PyTorch does in one process, with the
batch twice as large, what two processes of Caffe do. The ratio is Caffe's time to that of the
faster PyTorch row with as many images and threads; below 1 Caffe is faster. Rows in bfloat16
(`--precision bfloat16`, PyTorch's autocast) are there where the processor has it. Their ratio is to
PyTorch's row in bfloat16; loss and gradients are compared in float32 alone.""",
        training_table,
    ),
    training.ALLREDUCE: Section(
        "Averaging gradients",
        """\
Two processes average them in shared memory (`python -m benchmarks.allreduce`). For mpirun and
several machines see [scaling.md](scaling.md).""",
        plain_table,
    ),
    DATA: Section(
        "The data layer",
        """\
`python -m benchmarks.data_layer`: images a second of two loader processes, augmentation and
heatmaps included, beside the usual loader.""",
        plain_table,
    ),
    PYRAMID: Section(
        "Where an image's time goes",
        """\
`python -m benchmarks.pyramid`: every step from the JPEG to the drawing of the hand, with the
weights that ship (`paper` with those that it starts with).""",
        plain_table,
    ),
    STARTUP: Section(
        "How long `infer` takes to start",
        """\
`python -m benchmarks.startup`: seconds of new processes, with all modules compiled and all files in
the system's cache.""",
        plain_table,
    ),
    FOLDER: Section(
        "A folder of photographs",
        """\
`python -m benchmarks.folder`: `mcc_caffe.infer` with JPEGs of 4000 x 3000 pixels, its start taken
off, and the milliseconds of each step of a photograph alone. The weights are those that ship.
`infer` does all four steps at the same time.""",
        plain_table,
    ),
}
