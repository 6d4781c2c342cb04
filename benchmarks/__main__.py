"""Measures every figure that the project claims about speed, beside other engines.

    python -m benchmarks                     # make bench: more than an hour on 2 cores
    python -m benchmarks --quick             # 12 to 25 minutes: fewer turns, without the slowest
    python -m benchmarks --only training     # or inference, data, files; several allowed
    python -m benchmarks --report docs/benchmarks.md     # also as a document with its figure

The images are synthetic hands. PyTorch and Albumentations come into environments of their own in
~/.cache/mcc-caffe/peers at the first run (pip); what cannot be installed is a row that says so. It
writes bench.md, bench.json and bench.png, and beside them the files of the benchmarks that it
starts for `data` and `files`. `paper` at batch 13 takes some 10 GB of memory.
"""

import argparse
import functools
import json
import logging
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from benchmarks import end_to_end, network, training
from benchmarks.figure import draw
from benchmarks.hands import render_set
from benchmarks.jobs import CORES, Job, read_printed_table
from benchmarks.output import add_out_option, check_output, replace_non_finite
from benchmarks.tables import DATA, FOLDER, PYRAMID, STARTUP, TITLE, Machine, Results, document
from mcc_caffe.caffe_io.precision import FLOAT32, PRECISION_VARIABLE
from mcc_caffe.caffe_io.pycaffe import require_caffe
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.figures import as_png
from mcc_caffe.core.files import write_together
from mcc_caffe.core.geometry import letterbox_affine
from mcc_caffe.core.output_checks import check_report
from mcc_caffe.data.augmentation import network_input
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.evaluation.evaluation_report import to_json
from mcc_caffe.paper import VARIANTS

PARTS = ("inference", "training", "data", "files")
# Part, table and module of the benchmarks that print a table.
PRINTED = (
    ("data", DATA, "data_layer"),
    ("files", PYRAMID, "pyramid"),
    ("files", STARTUP, "startup"),
    ("files", FOLDER, "folder"),
)
BUSY = 0.5  # load above which a warning is given

_log = logging.getLogger(__name__)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        metavar="PART",
        help=f"{', '.join(PARTS)} (default: all)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer repeats; without paper at batch 13 and 8, and without its pyramid",
    )
    add_out_option(parser, "runs/bench")
    parser.add_argument(
        "--report",
        type=pathlib.Path,
        metavar="FILE.md",
        help="write the document to this file, too, and its figure beside it",
    )
    return parser.parse_args(argv)


def check_outputs(options: argparse.Namespace) -> None:
    """Check that all that the options make the command write can be written and replaces nothing.

    Raises:
        UserError: A file cannot be written, or is there already and of another program.
    """
    check_output(options.out, "bench", "bench.png")
    for part, _, name in PRINTED:
        if part in options.only:
            check_output(options.out, name)
    if options.report:
        check_report(options.report, [options.report.with_suffix(".png").name], TITLE.strip())


def jobs(parts: Sequence[str], folder: pathlib.Path, quick: bool, out: pathlib.Path) -> list[Job]:
    """Render the hands that the parts need, and return the parts' jobs.

    Args:
        parts: Some of PARTS.
        folder: Folder that the jobs work in.
        quick: Measure less.
        out: Folder that other benchmarks write to.
    """
    steps = []
    if "inference" in parts or "training" in parts:
        source = render_set(folder)
    if "inference" in parts:
        samples = SampleSet(source)
        images = [samples[index].image() for index in range(max(network.BATCHES))]
        inputs = {
            variant.name: as_inputs(images, variant.input_size) for variant in VARIANTS.values()
        }
        steps += network.jobs(folder / "network", inputs, quick)
        steps += end_to_end.jobs(folder / "network", images[0], quick)
    if "training" in parts:
        steps += training.preparations(folder / "training")
        steps += training.jobs(folder / "training", source, quick)
    fewer = ["--quick"] if quick else []
    for part, table, name in PRINTED:
        if part in parts:
            module, words = f"benchmarks.{name}", fewer if table != STARTUP else []
            run = functools.partial(read_printed_table, module, "--out", out.absolute(), *words)
            steps.append(Job(table, module, run))
    return steps


def as_inputs(images: list[np.ndarray], size: int) -> np.ndarray:
    """Return the (N, 3, size, size) network inputs of BGR images."""
    return np.stack(
        [
            network_input(image, letterbox_affine(image.shape[1], image.shape[0], size), size)
            for image in images
        ]
    )


def machine_facts() -> Machine:
    """Return what the figures depend on."""
    doctor = subprocess.run(
        [sys.executable, "-m", "mcc_caffe.doctor", "--json"], capture_output=True, text=True
    )
    facts = {row["name"]: row["state"] for row in json.loads(doctor.stdout)["rows"]}
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": CORES,
        "memory_gib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
        "blas": facts["BLAS"].rpartition(", ")[0],
        "onednn": facts["oneDNN"],
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "load": os.getloadavg()[0],
    }


def write(results: Results, out: pathlib.Path, report: pathlib.Path | None) -> None:
    """Write bench.md, bench.json and bench.png to `out`, and the document with its figure.

    Args:
        results: The run.
        out: Folder.
        report: Path of the document, if one is asked for.
    """
    out.mkdir(parents=True, exist_ok=True)
    contents = {out / "bench.json": to_json(replace_non_finite(results))}
    figure = as_png(draw(results["tables"]), dpi=80)
    for path in filter(None, (out / "bench.md", report)):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure_path = path.with_suffix(".png")
        contents[figure_path] = figure
        contents[path] = document(results, figure_path.name).encode()
    write_together(contents)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    argv = sys.argv[1:] if argv is None else argv
    options, start = parse_arguments(argv), time.perf_counter()
    check_outputs(options)
    require_caffe("the benchmark")
    if os.environ.get(PRECISION_VARIABLE, FLOAT32) != FLOAT32:
        _log.warning(
            "%s=%s has no effect: a row is in float32 unless it says otherwise",
            PRECISION_VARIABLE,
            os.environ[PRECISION_VARIABLE],
        )
    os.environ[PRECISION_VARIABLE] = FLOAT32  # of the processes that measure, too
    results: Results = {
        "command": f"python -m benchmarks {shlex.join(argv)}".strip(),
        "machine": machine_facts(),
        "seconds": 0.0,
        "tables": {},
    }
    load = results["machine"]["load"]
    if load > BUSY:
        _log.warning("other programs use the machine (load %.1f) and spoil the figures", load)
    with tempfile.TemporaryDirectory() as folder:
        steps = jobs(options.only, pathlib.Path(folder), options.quick, options.out)
        try:
            with progress_bar(steps, unit="figure", dynamic_ncols=True) as bar:
                for job in bar:
                    bar.set_description(job.label)
                    rows = job.run()  # first: an interrupted job leaves no empty table
                    if rows:  # a preparation has none
                        results["tables"].setdefault(job.table, []).extend(rows)
        finally:  # an interrupted run leaves what it has measured
            results["seconds"] = time.perf_counter() - start
            write(results, options.out, options.report)
    print(document(results, "bench.png"))
    written = f"{options.out}: bench.md, bench.json, bench.png"
    print(f"{written}; {options.report}" if options.report else written)


if __name__ == "__main__":
    run_command(main)
