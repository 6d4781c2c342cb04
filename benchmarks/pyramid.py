"""Where an image's time goes in inference, the network and everything else: `python -m benchmarks.pyramid [--quick]`.

For each variant, in a single pass and in the paper's pyramid: a JPEG of 640 x 480 read, the network's inputs made, the network, the
keypoints looked for, mask and heatmaps drawn, the picture and its PNG; then, of `predict`, all that is not the network as a share of
it, the same for a network three times as fast, the time of an image when a folder is worked through as `mcc_caffe.infer`
does (reading and drawing meanwhile), and the most memory that a process took. Prints a Markdown table and writes it to --out with a JSON of
the same. mini has the weights that come with the package, paper those that it starts with. The paper's pyramid takes minutes: --quick
leaves it out.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import cv2
import numpy as np
from tqdm import tqdm

from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import shipped_weights
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.drawing import draw_pose
from mcc_caffe.core.files import shipped
from mcc_caffe.core.geometry import pyramid_windows
from mcc_caffe.infer import infer_images
from mcc_caffe.inference.pyramid import Pyramid, aggregate, mask_in_image
from mcc_caffe.paper import MINI, PAPER, Variant
from mcc_caffe.predictor import HandPredictor, best_keypoints

SIZE = 640, 480
FASTER = 3  # times as fast as Caffe on a CPU is a network of today's engines
READ, INPUTS, NETWORK, KEYPOINTS, REST = (
    "reading the JPEG",
    "inputs of all levels",
    "network",
    "keypoints",
    "else, of predict",
)
MASK, HEATMAPS, DRAWING, PNG = "mask in the image", "heatmaps of all levels", "picture", "PNG of it"
STEPS = (READ, INPUTS, NETWORK, KEYPOINTS, REST, MASK, HEATMAPS, DRAWING, PNG)


def example_jpeg() -> bytes:
    """A JPEG of 640 x 480: the hand of docs/demo.jpg, enlarged."""
    demo = cv2.imread(str(pathlib.Path(__file__).parent.parent / "docs/demo.jpg"))
    return cv2.imencode(".jpg", cv2.resize(demo[310:610, 335:655], SIZE))[1].tobytes()


def weights_of(variant: Variant, folder: pathlib.Path) -> pathlib.Path:
    """The weights that come with the package, else a caffemodel as the net starts, written to `folder`."""
    path = shipped_weights(variant.name) or folder / f"{variant.name}.caffemodel"
    if not path.exists():
        caffe = import_caffe()
        caffe.Net(str(shipped(f"prototxt/{variant.name}/deploy.prototxt")), caffe.TEST).save(
            str(path)
        )
    return path


def step_seconds(predictor: HandPredictor, jpeg: bytes, repeats: int) -> tuple:
    """({step: median seconds}, levels) of one image, its steps one after the other."""
    times = {step: [] for step in STEPS}

    def timed(step: str, call: Callable):
        start = time.perf_counter()
        result = call()
        times[step].append(time.perf_counter() - start)
        return result

    for _ in range(repeats):
        image = timed(READ, lambda: cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))
        pose = predictor.predict(image)
        pyramid = Pyramid(
            image,
            pyramid_windows(*SIZE, np.random.default_rng(0), predictor.levels),
            predictor.input_size,
        )
        out = np.empty((3, pyramid.size, pyramid.size), np.float32)
        timed(INPUTS, lambda: [pyramid.network_input(level, out) for level in range(pose.levels)])
        timed(KEYPOINTS, lambda: best_keypoints(pose.level_heatmaps, pyramid))
        times[NETWORK].append(pose.timings["network"])
        times[REST].append(
            max(
                pose.timings["total"]
                - sum(times[step][-1] for step in (INPUTS, NETWORK, KEYPOINTS)),
                0,
            )
        )
        timed(MASK, lambda: mask_in_image(pose.mask_cells, pose.to_input[0], SIZE))
        timed(HEATMAPS, lambda: aggregate(pose.level_heatmaps, pose.to_input, pose.input_size))
        pose.mask, pose.heatmaps  # so that they are there
        picture = timed(DRAWING, lambda: draw_pose(image, pose))
        timed(PNG, lambda: cv2.imencode(".png", picture))
    return {step: statistics.median(seconds) for step, seconds in times.items()}, pose.levels


def shares(steps: dict) -> dict:
    """Everything else that `predict` does, as a share of the network's time, as it is and were the network FASTER."""
    rest = sum(steps[step] for step in (INPUTS, KEYPOINTS, REST))
    return {
        "network": rest / steps[NETWORK],
        f"network, {FASTER} x as fast": rest / (steps[NETWORK] / FASTER),
    }


def folder_seconds(predictor: HandPredictor, jpeg: bytes, images: int) -> float:
    """Seconds an image of a folder of so many, read, found and written as pictures and JSON by the pipeline of `mcc_caffe.infer`."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            (pathlib.Path(folder, f"{number}.jpg"), pathlib.Path(folder, "out", str(number)))
            for number in range(images)
        ]
        for source, _ in jobs:
            source.write_bytes(jpeg)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            start = time.perf_counter()
            infer_images(predictor, jobs, {}, heatmaps=False, pass_over=_fail, bar=False)
            return (time.perf_counter() - start) / images


def _fail(error: Exception) -> str:
    raise error


def peak_mib(variant: Variant, levels, weights: pathlib.Path, jpeg: bytes) -> float:
    """The most memory, MiB, that a process takes which finds the hand in one image and draws it."""
    code = (
        "import cv2, numpy, sys; from mcc_caffe.predictor import HandPredictor; from mcc_caffe.core.drawing import draw_pose\n"
        "image = cv2.imdecode(numpy.frombuffer(sys.stdin.buffer.read(), numpy.uint8), 1)\n"
        f"draw_pose(image, HandPredictor({str(weights)!r}, {variant.name!r}, levels={levels}).predict(image))\n"
        "print(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=jpeg, stdout=subprocess.PIPE, check=True
    )
    return float(done.stdout)


def measure(variant: Variant, levels, repeats: int, images: int, folder: pathlib.Path) -> dict:
    """All figures of a variant for `levels` (1, or None for the pyramid); images: of the folder, 0 leaves it out."""
    weights, jpeg = weights_of(variant, folder), example_jpeg()
    predictor = HandPredictor(weights, variant.name, levels=levels)
    if repeats > 1:
        step_seconds(predictor, jpeg, 1)  # the first image is slower
    steps, count = step_seconds(predictor, jpeg, repeats)
    return {
        "variant": variant.name,
        "levels": count,
        "seconds": steps,
        "share of": shares(steps),
        "folder, seconds an image": folder_seconds(predictor, jpeg, images) if images else None,
        "peak memory, MiB": peak_mib(variant, levels, weights, jpeg),
    }


def table(results: list) -> str:
    """Markdown: a row a step, a column a measurement."""
    names = [
        f"{one['variant']}, {one['levels']} level{'s' * (one['levels'] > 1)}" for one in results
    ]
    rows = [["ms an image", *names], ["---"] * (len(names) + 1)]
    rows += [[step, *(f"{1e3 * one['seconds'][step]:.1f}" for one in results)] for step in STEPS]
    for of in results[0]["share of"]:
        rows.append(
            [
                f"predict without the network, of the {of}",
                *(f"{100 * one['share of'][of]:.1f} %" for one in results),
            ]
        )
    folder = [one["folder, seconds an image"] for one in results]
    rows.append(
        [
            "an image of a folder, all steps",
            *("" if seconds is None else f"{1e3 * seconds:.1f}" for seconds in folder),
        ]
    )
    rows.append(["most memory, MiB", *(f"{one['peak memory, MiB']:.0f}" for one in results)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/bench"),
        help="folder (default: runs/bench)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="leave the paper variant's pyramid out, and fewer repeats",
    )
    options = parser.parse_args(argv)
    jobs = [
        (MINI, 1, 30, 60),
        (MINI, None, 5, 8),
        (PAPER, 1, 3, 4),
        (PAPER, None, 1, 0),
    ]  # variant, levels, repeats, images
    if options.quick:
        jobs = [(MINI, 1, 10, 20), (MINI, None, 2, 3), (PAPER, 1, 1, 0)]
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(*job, pathlib.Path(folder)) for job in tqdm(jobs, unit="column")]
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, OpenCV {cv2.__version__}, "
        f"{time.strftime('%Y-%m-%d')}"
    )
    text = f"{machine}\n\n{table(results)}\n"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "pyramid.md").write_text(text)
    (options.out / "pyramid.json").write_text(
        json.dumps({"machine": machine, "results": results}, indent=1) + "\n"
    )
    print(text)


if __name__ == "__main__":
    run_command(main)
