"""How long `mcc_caffe.infer` takes to start: `python -m benchmarks.startup`.

Each step is timed in new processes, one after the other in turn, with all files in the system's
cache and all modules compiled, as they are after the first start. It prints the median seconds of
each, from the start of the interpreter to its end, and writes them to --out:

- an empty interpreter;
- the same with `import caffe, cv2, numpy`, which Caffe's Python and our images cannot do without;
- the same with `import mcc_caffe.infer`, which imports no Caffe yet;
- the same with `HandPredictor()`: the net is set up with the weights that ship;
- the command on an image of 640 x 480, in a single pass, until its results are written.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.hands import example_jpeg
from benchmarks.jobs import ROOT
from benchmarks.output import add_out_option, check_output, write_results
from mcc_caffe.core.commands import command_parser, positive_int, progress_bar, run_command
from mcc_caffe.core.markdown import markdown_table

STEPS = {
    "an empty interpreter": "pass",
    "import caffe, cv2, numpy": "import caffe, cv2, numpy",
    "import mcc_caffe.infer": "import mcc_caffe.infer",
    "ready for the first image": (
        "import mcc_caffe.infer; from mcc_caffe.predictor import HandPredictor; "
        "HandPredictor(levels=1)"
    ),
}
COMMAND = "the command, an image in a single pass"


def measure(repeats: int, folder: Path) -> dict[str, float]:
    """Return the median seconds of each step; the image and its results lie in `folder`."""
    image = folder / "hand.jpg"
    image.write_bytes(example_jpeg())
    words = ["mcc_caffe.infer", image, "--levels", 1, "--out", folder / "out", "--overwrite"]
    calls = {step: ["-c", code] for step, code in STEPS.items()}
    calls[COMMAND] = ["-m", *map(str, words)]
    seconds: dict[str, list[float]] = {step: [] for step in calls}
    # A Python that may not write compiled modules would compile them in each start.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for repeat in progress_bar(range(repeats + 1), unit="repeat"):
        for step, arguments in calls.items():
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments],
                cwd=ROOT,
                check=True,
                capture_output=True,
                env=environment,
            )
            if repeat:  # the first one compiles, and fills the cache
                seconds[step].append(time.perf_counter() - start)
    return {step: statistics.median(times) for step, times in seconds.items()}


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser(__doc__)
    add_out_option(parser, "runs/bench")
    parser.add_argument(
        "--repeats", type=positive_int, default=7, help="processes of each step (default: 7)"
    )
    options = parser.parse_args(argv)
    check_output(options.out, "startup")
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(options.repeats, Path(folder))
    base = seconds["an empty interpreter"]
    rows = [[step, f"{value:.2f}", f"{value - base:.2f}"] for step, value in seconds.items()]
    table = markdown_table(["step", "s, median", "beyond the empty one"], rows)
    write_results(options.out, "startup", table, {"results": seconds})


if __name__ == "__main__":
    run_command(main)
