"""Measures every figure that the project claims about speed, beside other engines: `python -m benchmarks` (`make bench`).

    python -m benchmarks                                 # all of it, some 40 minutes on 2 cores
    python -m benchmarks --quick                         # some 10 minutes: fewer repeats, the slowest ones left out
    python -m benchmarks --only training                 # or inference, data, pyramid; several allowed
    python -m benchmarks --report docs/benchmarks.md     # also as a document, with its picture beside it

The pictures are synthetic hands. PyTorch and Albumentations come into environments of their own in ~/.cache/mcc-caffe/peers at the first run
(pip); what cannot be installed is a row that says so. Writes bench.md, bench.json and bench.png. `paper` at batch 13 takes some 10 GB of memory.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time

import numpy as np
from tqdm import tqdm

from benchmarks import end_to_end, network, training
from benchmarks.figure import draw
from benchmarks.jobs import Job, printed
from benchmarks.tables import DATA, PYRAMID, document
from data_tools import build_lmdb, synth
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.figures import as_png
from mcc_caffe.core.files import write_whole
from mcc_caffe.core.geometry import letterbox
from mcc_caffe.data.augmentation import network_input
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.evaluation.evaluation_report import to_json
from mcc_caffe.paper import VARIANTS

PARTS = ("inference", "training", "data", "pyramid")
HANDS, HAND_SIZE = 60, 640  # the synthetic set, pixels
BUSY = 0.5  # load above which a warning is printed


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/bench"),
        metavar="FOLDER",
        help="(default: runs/bench)",
    )
    parser.add_argument(
        "--report",
        type=pathlib.Path,
        metavar="FILE.md",
        help="write the document to this file, too, and its picture beside it",
    )
    return parser.parse_args(argv)


def jobs(parts: tuple, folder: pathlib.Path, quick: bool, out: pathlib.Path) -> list:
    """The jobs of the parts, which work in the folder; renders the hands that they need first. out: for what other benchmarks write."""
    synth.main(
        [
            "--out",
            str(folder / "hands"),
            "--train",
            str(HANDS),
            "--test",
            "2",
            "--size",
            str(HAND_SIZE),
        ]
    )
    build_lmdb.main([str(folder / "hands"), str(folder / "lmdb")])
    source, found = folder / "lmdb/train", []
    samples = SampleSet(source)
    if "inference" in parts:
        images = [samples[place].image() for place in range(max(network.BATCHES))]
        found += network.jobs(
            folder / "network",
            {variant.name: as_inputs(images, variant.input_size) for variant in VARIANTS.values()},
            quick,
        )
        found += end_to_end.jobs(folder / "network", images[0], quick)
    if "training" in parts:
        found += training.preparations(folder / "training")
        found += training.jobs(folder / "training", source, quick)
    for part, table, module in (
        ("data", DATA, "benchmarks.data_layer"),
        ("pyramid", PYRAMID, "benchmarks.pyramid"),
    ):
        if part in parts:
            found.append(
                Job(
                    table,
                    module,
                    lambda module=module: printed(
                        module, "--out", out.absolute(), *(["--quick"] if quick else [])
                    ),
                )
            )
    return found


def as_inputs(images: list, size: int) -> np.ndarray:
    """(N, 3, size, size) network inputs of BGR pictures."""
    return np.stack(
        [
            network_input(image, letterbox(image.shape[1], image.shape[0], size), size)
            for image in images
        ]
    )


def machine() -> dict:
    """What the figures depend on."""
    doctor = subprocess.run(
        [sys.executable, "-m", "mcc_caffe.doctor", "--json"], capture_output=True, text=True
    )
    found = {row["name"]: row["found"] for row in json.loads(doctor.stdout)["rows"]}
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
        "blas": found["BLAS"].rpartition(", ")[0],
        "onednn": found["oneDNN"],
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "load": os.getloadavg()[0],
    }


def write(results: dict, out: pathlib.Path, report: pathlib.Path) -> None:
    """bench.md, bench.json and bench.png of a run to the folder `out`; and the document with its picture, as `report` names it."""
    picture = as_png(draw(results["tables"]), dpi=80)
    for path in filter(None, (out / "bench.md", report)):
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = path.with_suffix(".png")
        write_whole(drawn, picture)
        write_whole(path, document(results, drawn.name).encode())
    write_whole(out / "bench.json", to_json(results))


def main(argv=None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    options, start = arguments(argv), time.perf_counter()
    results = {
        "command": f"python -m benchmarks {shlex.join(argv)}".strip(),
        "machine": machine(),
        "seconds": 0.0,
        "tables": {},
    }
    if results["machine"]["load"] > BUSY:
        print(
            f"the machine is busy (load {results['machine']['load']:.1f}): its neighbours will spoil the figures",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        steps = jobs(options.only, pathlib.Path(folder), options.quick, options.out)
        try:
            with tqdm(steps, unit="figure", dynamic_ncols=True) as bar:
                for job in bar:
                    bar.set_description(job.label)
                    rows = job.run()
                    results["tables"].setdefault(job.table, []).extend(rows)
        finally:  # an interrupted run leaves what it has measured
            results["seconds"] = time.perf_counter() - start
            write(results, options.out, options.report)
    print(document(results, "bench.png"))
    print(
        f"{options.out}: bench.md, bench.json, bench.png"
        + (f"; {options.report}" if options.report else "")
    )


if __name__ == "__main__":
    run_command(main)
