"""The main job from end to end in a few minutes: `python -m mcc_caffe.demo` (`make demo`).

Renders a small set of easy synthetic hands (open right hands in full view), builds its LMDB,
trains the mini variant for some minutes, draws the learning curve and finds the hands in images
it was not trained on: so everything works. The weights that come with the package have learnt from
many more images: the demo also runs them on rendered hands of all kinds before photographs, on an
image of two hands and one of none, and follows the hands of a clip. Everything lies in --out,
which is emptied first.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from data_tools import build_lmdb, synth
from data_tools.hands.clip import HandPath, render_clip
from mcc_caffe import infer, plot
from mcc_caffe.caffe_io.pycaffe import require_caffe
from mcc_caffe.caffe_io.run_folder import SNAPSHOTS
from mcc_caffe.caffe_io.snapshots import weights_path
from mcc_caffe.core.commands import command_parser, positive_int, run_command
from mcc_caffe.core.files import write_atomically
from mcc_caffe.core.result_folders import empty_own_folder, locked
from mcc_caffe.inference.video_writing import video_writer
from mcc_caffe.training.child_process import run_training

TEST_IMAGES = 12
CLIP_FRAMES, CLIP_FPS, CLIP_SIZE = 24, 12, (480, 360)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("demo"),
        help="folder, emptied first (default: demo)",
    )
    parser.add_argument(
        "--images",
        type=positive_int,
        default=300,
        help="synthetic hands to train on (default: 300)",
    )
    parser.add_argument(
        "--iterations",
        type=positive_int,
        default=200,
        help="iterations of the training (default: 200)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    require_caffe("the demo's training")
    with locked(options.out, "makes the demo"):
        _show_everything(options)


def _show_everything(options: argparse.Namespace) -> None:
    """Render, train and infer, one after the other."""
    out, start = options.out, time.monotonic()
    empty_own_folder(out)

    def announce(title: str) -> None:
        print(f"\n== {title} ({time.monotonic() - start:.0f} s)", flush=True)

    announce(f"{options.images} easy synthetic hands to train on, {TEST_IMAGES} to look at")
    _run(synth, "--out", out / "hands", "--train", options.images, "--test", TEST_IMAGES, "--easy")

    announce("their LMDB sets")
    _run(build_lmdb, out / "hands", out / "lmdb")

    announce(f"training: {options.iterations} iterations of the mini variant on the CPU")
    length = ("--iterations", options.iterations, "--batch-size", 8, "--interval", 5)
    run_training([out / "lmdb/train", "--out", out / "run", "--no-augmentation", *length])
    _run(plot, out / "run", "--out", out / "curves.png")

    announce(f"the hands in {TEST_IMAGES} images it has not seen")
    weights = weights_path(out / "run" / SNAPSHOTS, options.iterations)
    _run(infer, out / "hands/Test/source", "--weights", weights, "--out", out / "found")

    announce(f"the weights that come with the package: {TEST_IMAGES} varied hands")
    _run(synth, "--out", out / "varied", "--train", 0, "--test", TEST_IMAGES)
    _run(infer, out / "varied/Test/source", "--out", out / "found_shipped")

    announce("two hands in an image, none in another, and two that cross in a clip")
    _render_scenes(out / "scenes")
    _run(infer, out / "scenes", "--hands", "all", "--out", out / "found_scenes")

    announce("done")
    print(
        f"Look at {out / 'found_shipped'}/*.png (mask, skeleton, heatmaps: the weights that come "
        f"with the package), {out / 'found_scenes'} (every hand, and a clip), "
        f"{out / 'found'}/*.png (after these minutes of training) and {out / 'curves.png'} "
        "(how it learnt)."
    )


def _render_scenes(folder: Path) -> None:
    """Render two_hands.png, no_hand.png and clip.mp4, in which two hands cross."""
    folder.mkdir(parents=True)
    right = HandPath((0.22, 0.42), (0.78, 0.42), roll=10)
    left = HandPath((0.78, 0.5), (0.22, 0.5), roll=-10, is_left=True)
    for seed, name, paths in ((4, "two_hands", [right, left]), (5, "no_hand", [])):
        (frame,) = render_clip(np.random.default_rng(seed), paths, frame_count=1)
        content = cv2.imencode(".png", frame.image)[1].tobytes()
        write_atomically(folder / f"{name}.png", content)
    frames = render_clip(
        np.random.default_rng(6), [right, left], frame_count=CLIP_FRAMES, size=CLIP_SIZE
    )
    with video_writer(folder / "clip.mp4", CLIP_FPS, CLIP_SIZE, comment="a rendering") as add_frame:
        for number, frame in enumerate(frames):
            add_frame(frame.image, number / CLIP_FPS)


def _run(command: ModuleType, *words: object) -> None:
    """Run another command of the project in this process."""
    command.main([str(word) for word in words])


if __name__ == "__main__":
    run_command(main)
