"""How many photographs a second a folder takes, and what bounds it: `python -m benchmarks.folder`.

It makes JPEGs of 12 megapixels, 200 files of 8 images (a rendered hand with a sensor's noise), and
has `mcc_caffe.infer` work through them: in a single pass, and with the looks that it takes by
default. Then it times the steps of an image, of which none runs beside another: a JPEG is read, the
hand is looked for, the result is drawn, and encoded as PNG. `infer` does all four at the same time,
so that the longest step bounds it, or the cores do. It prints a Markdown table and writes it to
--out with a JSON of the same.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.hands import example_image
from benchmarks.jobs import CORES, ROOT
from benchmarks.output import add_out_option, check_output, write_results
from benchmarks.timing import StepTimer
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.drawing import draw_pose
from mcc_caffe.core.images import decode_image, marked_png
from mcc_caffe.core.markdown import markdown_table
from mcc_caffe.inference.reports import PROGRAM
from mcc_caffe.predictor import HandPredictor

SIZE = 4000, 3000  # pixels of a photograph
IMAGES, FILES, QUICK_FILES, QUALITY = 8, 200, 40, 92
NOISE = 4.0  # standard deviation of the sensor's noise, of 256
STARTED_WITH, STARTS = 1, 5  # files of the runs whose median is taken off, and number of these
PASSES: dict[str, int | None] = {"single pass": 1, "looks, as by default": None}  # and --levels
STEPS = ("reading the JPEG", "looking for the hand", "drawing", "encoding the PNG")
READING, LOOKING, DRAWING, ENCODING = STEPS


def make_photographs(folder: Path, count: int) -> None:
    """Write `count` JPEGs of SIZE to `folder`; IMAGES of them differ."""
    large = cv2.resize(example_image(), SIZE, interpolation=cv2.INTER_CUBIC)
    contents = []
    for seed in range(IMAGES):
        grain = NOISE * np.random.default_rng(seed).standard_normal(large.shape, np.float32)
        photograph = np.clip(large + grain, 0, 255).astype(np.uint8)
        quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        contents.append(cv2.imencode(".jpg", photograph, quality)[1].tobytes())
    for number in range(count):
        (folder / f"{number:03}.jpg").write_bytes(contents[number % IMAGES])


def run_seconds(photographs: list[Path], levels: int | None) -> float:
    """Return the seconds that `mcc_caffe.infer` takes for photographs, its start included."""
    words = [] if levels is None else ["--levels", str(levels)]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "mcc_caffe.infer", *map(str, photographs), "--out", out]
        start = time.perf_counter()
        subprocess.run([*command, *words], cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - start


def step_seconds(photographs: list[Path], levels: int | None) -> dict[str, float]:
    """Return the median seconds of each step of a photograph; no step runs beside another."""
    predictor = HandPredictor(levels=levels)
    predictor.predict(decode_image(photographs[0].read_bytes()))  # the first is slower
    timer = StepTimer(STEPS)
    for photograph in photographs:
        pixels = timer.run(READING, lambda path: decode_image(path.read_bytes()), photograph)
        pose = timer.run(LOOKING, predictor.predict, pixels)
        drawing = timer.run(DRAWING, draw_pose, pixels, pose)
        timer.run(ENCODING, marked_png, drawing, PROGRAM)
    return timer.medians()


def measure(count: int, folder: Path) -> dict[str, dict[str, float]]:
    """Return {passes: figures} of a folder of `count` photographs, which is made in `folder`."""
    make_photographs(folder, count)
    photographs = sorted(folder.glob("*.jpg"))
    figures = {}
    for name, levels in progress_bar(PASSES.items(), unit="row"):
        run_seconds(photographs[:STARTED_WITH], levels)  # files come from the disk, and compile
        starts = [run_seconds(photographs[:STARTED_WITH], levels) for _ in range(STARTS)]
        seconds = run_seconds(photographs, levels) - statistics.median(starts)
        figures[name] = {
            "photographs_per_second": (count - STARTED_WITH) / seconds,
            **step_seconds(photographs[:IMAGES], levels),
        }
    return figures


def bound(figures: dict[str, float]) -> str:
    """Return what bounds a row: its longest step, or the cores where all steps fill them."""
    steps = {step: figures[step] for step in STEPS}
    longest = max(steps, key=lambda step: steps[step])
    fills_cores = sum(steps.values()) / CORES > steps[longest]
    return f"the {CORES} cores, most of all {longest}" if fills_cores else longest


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser(__doc__)
    add_out_option(parser, "runs/bench")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_FILES} photographs instead of {FILES}",
    )
    options = parser.parse_args(argv)
    check_output(options.out, "folder")
    count = QUICK_FILES if options.quick else FILES
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(count, Path(folder))
    lines = [
        [
            name,
            f"{row['photographs_per_second']:.2f}",
            *(f"{1000 * row[step]:.0f}" for step in STEPS),
            bound(row),
        ]
        for name, row in figures.items()
    ]
    columns = [f"{count} photographs", "photographs/s", *STEPS, "bound by"]
    table = markdown_table(columns, lines)
    note = "steps in ms a photograph"
    write_results(options.out, "folder", table, {"results": figures}, note=note)


if __name__ == "__main__":
    run_command(main)
