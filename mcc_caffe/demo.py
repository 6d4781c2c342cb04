"""The main job from end to end in a few minutes: `python -m mcc_caffe.demo` (`make demo`).

Renders a small set of easy synthetic hands (open right hands in full view), builds its LMDB, trains the mini variant for
some minutes, draws the learning curve and finds the hands in pictures it was not trained on: everything works. What
hundreds of thousands of varied hands teach it, the weights that come with the package show, on hands of all kinds before
photographs that their training did not see. Everything lies in --out, which is emptied first.
"""

import argparse
import pathlib
import shutil
import time

from data_tools import build_lmdb, synth
from mcc_caffe import infer, plot, train
from mcc_caffe.caffe_io.snapshots import SNAPSHOTS, weights_path
from mcc_caffe.core.commands import command_parser, positive, run_command

SHOWN = 12  # pictures that are looked at


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("demo"),
        help="folder, emptied first (default: demo)",
    )
    parser.add_argument(
        "--images", type=positive, default=300, help="synthetic hands to train on (default: 300)"
    )
    parser.add_argument(
        "--iterations", type=positive, default=200, help="of training (default: 200)"
    )
    return parser.parse_args(argv)


def main(argv=None) -> None:
    options = arguments(argv)
    out, start = options.out, time.monotonic()
    shutil.rmtree(out, ignore_errors=True)

    def step(title: str) -> None:
        print(f"\n== {title} ({time.monotonic() - start:.0f} s)", flush=True)

    step(f"{options.images} easy synthetic hands to train on, {SHOWN} to look at")
    synth.main(
        [
            "--out",
            str(out / "hands"),
            "--train",
            str(options.images),
            "--test",
            str(SHOWN),
            "--easy",
        ]
    )
    step("their LMDB sets")
    build_lmdb.main([str(out / "hands"), str(out / "lmdb")])
    step(f"training: {options.iterations} iterations of the mini variant on the CPU")
    train.main(
        [
            str(out / "lmdb/train"),
            "--out",
            str(out / "run"),
            "--iterations",
            str(options.iterations),
            "--batch-size",
            "8",
            "--no-augmentation",
            "--interval",
            "5",
        ]
    )
    plot.main([str(out / "run"), "--out", str(out / "curves.png")])
    step(f"the hands in {SHOWN} pictures it has not seen")
    weights = weights_path(out / "run" / SNAPSHOTS, options.iterations)
    infer.main(
        [str(out / "hands/Test/source"), "--weights", str(weights), "--out", str(out / "found")]
    )
    step(f"the weights that come with the package: {SHOWN} varied hands")
    synth.main(["--out", str(out / "varied"), "--train", "0", "--test", str(SHOWN)])
    infer.main([str(out / "varied/Test/source"), "--out", str(out / "found_shipped")])
    step("done")
    print(
        f"Look at {out / 'found_shipped'}/*.png (mask, skeleton, heatmaps: the weights that come with the package), {out / 'found'}/*.png "
        f"(the same after these minutes) and {out / 'curves.png'} (how it learnt)."
    )


if __name__ == "__main__":
    run_command(main)
