"""What the CPU takes for loading, training and inference: `python -m benchmarks.baseline` (`make bench`).

Prints a Markdown table and writes it, with a JSON of the same, to --out. Needs nothing but the project: the images are
synthetic. The paper variant at batch 13 takes some 10 GB of memory and minutes; --quick leaves it out.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.data_layer import our_rate
from data_tools import build_lmdb, synth
from mcc_caffe.errors import run_command
from mcc_caffe.files import shipped
from mcc_caffe.paper import MINI, PAPER, VARIANTS
from mcc_caffe.plot import read_log
from mcc_caffe.predictor import HandPredictor
from mcc_caffe.pycaffe import import_caffe
from mcc_caffe.samples import SampleSet


def training(source, variant, batch_size: int, iterations: int) -> tuple:
    """(median seconds an iteration, total loss of the first one) of `mcc_caffe.train`, the first iteration left out of the time."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "mcc_caffe.train", source, "--variant", variant.name, "--batch-size", str(batch_size),
                        "--iterations", str(iterations + 1), "--interval", "1", "--out", folder], check=True, capture_output=True)
        lines = read_log(pathlib.Path(folder))
    return statistics.median(line["seconds"] for line in lines[1:]), lines[0]["loss"]


def inference(variant, image: np.ndarray, levels, repeats: int, weights: pathlib.Path) -> tuple:
    """(median seconds an image, of it in the net, levels), with weights as the net starts."""
    predictor = HandPredictor(weights, variant.name, levels=levels)
    predictor.predict(image)
    poses = [predictor.predict(image) for _ in range(repeats)]
    return (*(statistics.median(pose.timings[name] for pose in poses) for name in ("total", "network")), poses[0].levels)


def start_weights(variant, folder: pathlib.Path) -> pathlib.Path:
    """A caffemodel of the variant's deploy net as its fillers start it."""
    caffe = import_caffe()
    path = folder / f"{variant.name}.caffemodel"
    caffe.Net(str(shipped(f"prototxt/{variant.name}/deploy.prototxt")), caffe.TEST).save(str(path))
    return path


def measure(folder: pathlib.Path, quick: bool) -> list:
    """Rows (what, variant, value, unit)."""
    synth.main(["--out", str(folder / "hands"), "--train", "60", "--test", "2", "--size", "640"])
    build_lmdb.main([str(folder / "hands"), str(folder / "lmdb")])
    source, rows = folder / "lmdb/train", []
    image = cv2.resize(SampleSet(source)[0].image(), (640, 480))
    jobs = [(MINI, 13, 20), (MINI, 1, 40), (PAPER, 1, 6)] + ([] if quick else [(PAPER, 13, 2)])
    with tqdm(total=len(VARIANTS) * 3 + len(jobs), unit="figure") as bar:
        for variant in VARIANTS.values():
            rate = our_rate(source, variant, seconds=2)
            rows.append(("data layer, 2 processes, 640 px JPEGs", variant.name, round(rate, 1), "images/s"))
            bar.update()
        for variant, batch_size, iterations in jobs:
            seconds, loss = training(source, variant, batch_size, iterations)
            rows.append((f"training, batch {batch_size}", variant.name, round(seconds, 2), "s/iteration"))
            rows.append((f"loss of the first iteration, batch {batch_size}", variant.name, round(loss, 1), ""))
            bar.update()
        for variant in VARIANTS.values():
            weights = start_weights(variant, folder)
            for levels, name in ((1, "single pass"), (None, "full pyramid")):
                total, network, count = inference(variant, image, levels, 3 if variant is PAPER else 10, weights)
                rows.append((f"inference, {name}, {count} levels, 640 x 480", variant.name, round(total, 3), "s/image"))
                rows.append((f"of it in the network, {count} levels", variant.name, round(network, 3), "s/image"))
                bar.update()
    return rows


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/bench"), help="folder (default: runs/bench)")
    parser.add_argument("--quick", action="store_true", help="leave the paper variant at batch 13 out")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(pathlib.Path(folder), options.quick)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    table = ["| what | variant | value |", "| --- | --- | --- |"]
    table += [f"| {what} | {variant} | {value} {unit} |" for what, variant, value, unit in rows]
    text = "\n".join([machine, "", *table, ""])
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "baseline.md").write_text(text)
    (options.out / "baseline.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    run_command(main)
