"""Where an image's time goes in inference: `python -m benchmarks.pyramid [--quick]`.

For each variant, in a single pass and in the paper's pyramid, it times every step: a JPEG of
640 x 480 is read, the network's inputs are made, the network runs, the keypoints are looked for,
mask and heatmaps are made, then the drawing and its PNG. It also gives the share of
`predict` that is not the network, the time of an image when a folder is worked through as
`mcc_caffe.infer` does (it reads and draws meanwhile), and the most memory that a process took. It
prints a Markdown table and writes it to --out with a JSON of the same.

mini has the weights that come with the package, paper those that it starts with. The paper's
pyramid takes minutes: --quick leaves it out.
"""

import contextlib
import io
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple, TypedDict

import cv2
import numpy as np

from benchmarks.hands import HEIGHT, WIDTH, example_jpeg
from benchmarks.output import add_out_option, check_output, write_results
from benchmarks.timing import StepTimer
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.drawing import draw_pose
from mcc_caffe.core.geometry import pyramid_windows
from mcc_caffe.core.markdown import markdown_table
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.inference.jobs import Job
from mcc_caffe.inference.pyramid import Pyramid, aggregate, mask_in_image
from mcc_caffe.inference_run import InferenceRun
from mcc_caffe.paper import MINI, PAPER, PAPER_LEVELS, Variant
from mcc_caffe.predictor import HandPredictor
from mcc_caffe.video_results import TrackerOptions

SIZE = WIDTH, HEIGHT
READ, INPUTS, NETWORK, KEYPOINTS, REST = (
    "reading the JPEG",
    "inputs of all levels",
    "network",
    "keypoints",
    "else, of predict",
)
MASK, HEATMAPS, DRAWING, PNG = "mask in the image", "heatmaps of all levels", "drawing", "PNG of it"
STEPS = (READ, INPUTS, NETWORK, KEYPOINTS, REST, MASK, HEATMAPS, DRAWING, PNG)


class Case(NamedTuple):
    """What a column of the table is measured on."""

    variant: Variant
    levels: int | str
    repeats: int
    images: int  # of the folder; 0 leaves it out


CASES = (
    Case(MINI, 1, 30, 60),
    Case(MINI, PAPER_LEVELS, 5, 8),
    Case(PAPER, 1, 3, 4),
    Case(PAPER, PAPER_LEVELS, 1, 0),
)
QUICK_CASES = (Case(MINI, 1, 10, 20), Case(MINI, PAPER_LEVELS, 2, 3), Case(PAPER, 1, 1, 0))


class Column(TypedDict):
    """The figures of a case."""

    variant: str
    levels: int
    seconds: dict[str, float]  # by step
    rest_share: float
    folder_seconds: float | None  # an image
    peak_mib: float


def weights_of(variant: Variant, folder: pathlib.Path) -> pathlib.Path:
    """Return the weights that come with the package.

    Where there are none, write a caffemodel of the net's start values to `folder` and return it.
    """
    path = shipped_weights(variant.name) or folder / f"{variant.name}.caffemodel"
    if not path.exists():
        caffe = import_caffe()
        deploy = require_shipped(f"prototxt/{variant.name}/deploy.prototxt")
        caffe.Net(str(deploy), caffe.TEST).save(str(path))
    return path


def time_steps(predictor: HandPredictor, jpeg: bytes, timer: StepTimer) -> int:
    """Time the steps of one image, one after the other; return its levels."""
    encoded = np.frombuffer(jpeg, np.uint8)
    image = timer.run(READ, cv2.imdecode, encoded, cv2.IMREAD_COLOR)
    assert image is not None
    pose = predictor.predict(image)
    assert pose.level_heatmaps is not None and pose.masks
    windows = pyramid_windows(*SIZE, np.random.default_rng(0), predictor.most_levels)
    pyramid = Pyramid(image, windows, predictor.input_size)
    timer.run(INPUTS, pyramid.inputs)
    timer.run(KEYPOINTS, pyramid.decode, pose.level_heatmaps)
    timer.seconds[NETWORK].append(pose.timings["network"])
    timed_seconds = sum(timer.seconds[step][-1] for step in (INPUTS, NETWORK, KEYPOINTS))
    timer.seconds[REST].append(max(pose.timings["total"] - timed_seconds, 0))
    timer.run(MASK, mask_in_image, pose.masks, SIZE)
    timer.run(HEATMAPS, aggregate, pose.level_heatmaps, pose.image_to_input, pose.input_size)
    for name in ("mask", "heatmaps"):
        getattr(pose, name)  # they are made at the first look, which the drawing shall not pay for
    drawing = timer.run(DRAWING, draw_pose, image, pose)
    timer.run(PNG, cv2.imencode, ".png", drawing)
    return len(windows)


def rest_share(steps: dict[str, float]) -> float:
    """Return what else `predict` does as a share of the network's time.

    Args:
        steps: {step: seconds}.
    """
    return sum(steps[step] for step in (INPUTS, KEYPOINTS, REST)) / steps[NETWORK]


def folder_seconds(predictor: HandPredictor, jpeg: bytes, images: int) -> float:
    """Return the seconds an image of a folder of `images`, worked through as by mcc_caffe.infer.

    The images are read, looked at, and written as drawings and JSON.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = TrackerOptions(predictor)
        writer = InferenceRun(options, heatmaps=False, skip_unreadable=False, progress=False)
        jobs = [
            Job(pathlib.Path(folder, f"{number}.jpg"), pathlib.Path(folder, "out", str(number)))
            for number in range(images)
        ]
        for job in jobs:
            job.source.write_bytes(jpeg)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            start = time.perf_counter()
            writer.write_images(jobs)
            return (time.perf_counter() - start) / images


def peak_mib(variant: Variant, levels: int | str, weights: pathlib.Path, jpeg: bytes) -> float:
    """Return the most memory, MiB, of a process that finds the hand in one image and draws it."""
    code = f"""
import cv2, numpy, sys
from benchmarks.timing import peak_mib
from mcc_caffe.core.drawing import draw_pose
from mcc_caffe.predictor import HandPredictor
image = cv2.imdecode(numpy.frombuffer(sys.stdin.buffer.read(), numpy.uint8), 1)
predictor = HandPredictor({str(weights)!r}, {variant.name!r}, levels={levels!r})
draw_pose(image, predictor.predict(image))
print(peak_mib())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=jpeg, stdout=subprocess.PIPE, check=True
    )
    return float(done.stdout)


def measure(case: Case, folder: pathlib.Path) -> Column:
    """Measure all figures of a case; files lie in `folder` meanwhile."""
    weights, jpeg = weights_of(case.variant, folder), example_jpeg()
    predictor = HandPredictor(weights, case.variant.name, levels=case.levels)
    time_steps(predictor, jpeg, StepTimer(STEPS))  # the first image is slower
    timer, levels = StepTimer(STEPS), 0
    for _ in range(case.repeats):
        levels = time_steps(predictor, jpeg, timer)
    steps = timer.medians()
    return {
        "variant": case.variant.name,
        "levels": levels,
        "seconds": steps,
        "rest_share": rest_share(steps),
        "folder_seconds": folder_seconds(predictor, jpeg, case.images) if case.images else None,
        "peak_mib": peak_mib(case.variant, case.levels, weights, jpeg),
    }


def table(columns: list[Column]) -> str:
    """Return the table in Markdown: a line for each step, a column for each case."""
    headings = [
        f"{column['variant']}, {column['levels']} level{'s' * (column['levels'] > 1)}"
        for column in columns
    ]
    lines = [
        [step, *(f"{1e3 * column['seconds'][step]:.1f}" for column in columns)] for step in STEPS
    ]
    shares = [f"{100 * column['rest_share']:.1f} %" for column in columns]
    lines.append(["predict without the network, of the network", *shares])
    folder = [
        "" if column["folder_seconds"] is None else f"{1e3 * column['folder_seconds']:.1f}"
        for column in columns
    ]
    lines.append(["an image of a folder, all steps", *folder])
    lines.append(["most memory, MiB", *(f"{column['peak_mib']:.0f}" for column in columns)])
    return markdown_table(["ms an image", *headings], lines)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser(__doc__)
    add_out_option(parser, "runs/bench")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="leave the paper variant's pyramid out, and fewer repeats",
    )
    options = parser.parse_args(argv)
    check_output(options.out, "pyramid")
    cases = QUICK_CASES if options.quick else CASES
    with tempfile.TemporaryDirectory() as folder:
        columns = [
            measure(case, pathlib.Path(folder)) for case in progress_bar(cases, unit="column")
        ]
    facts = [f"OpenCV {cv2.__version__}"]
    write_results(options.out, "pyramid", table(columns), {"results": columns}, facts=facts)


if __name__ == "__main__":
    run_command(main)
