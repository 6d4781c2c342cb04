"""MediaPipe's hands as a peer: it looks at a data set's images and writes a predictions file.

    python -m benchmarks.peers.mediapipe_hands data/synth --out out/mediapipe.json
    python -m mcc_caffe.evaluate data/synth --weights FILE --predictions out/mediapipe.json

MediaPipe 0.10.21 is the last release that carries its hand models, and it needs other versions of
packages than we do: the first call makes an environment for it in ~/.cache/mcc-caffe/peers (pip,
450 MB). Its settings are its own defaults for single images. Of several hands the one with the
highest score is taken, and its score is the confidence of all its keypoints. The file leaves out an
image without a hand. There are no masks.
"""

import argparse
import json
import logging
import pathlib
import subprocess
import tempfile
from typing import TypedDict

import cv2
import numpy as np

from benchmarks.peers.environment import environment
from caffe_build import check
from data_tools import sets
from mcc_caffe.core.commands import command_parser, positive_int, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import starts_with
from mcc_caffe.core.output_checks import check_output
from mcc_caffe.evaluation.predictions_file import write_predictions
from mcc_caffe.paper import KEYPOINT_COUNT

SYSTEM, VERSION = "MediaPipe", "0.10.21"
# Installed without the packages that they depend on: JAX, sound, windows.
BARE_PACKAGES = (f"mediapipe=={VERSION}", "opencv-contrib-python-headless==4.11.0.86")
PACKAGES = ("numpy<2", "protobuf>=4.25.3,<5", "matplotlib<4", "absl-py", "attrs", "flatbuffers")
WORKER = pathlib.Path(__file__).with_name("mediapipe_worker.py")
# The beginning of what `write_predictions` writes of this system.
_OWN_START = f'{{"name": "{SYSTEM} '.encode()

_log = logging.getLogger(__name__)


class Hand(TypedDict):
    """A hand as MediaPipe sees it."""

    score: float
    points: list[list[float]]  # 21 x [x, y], as shares of the image's width and height


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "data", type=pathlib.Path, metavar="DATA", help="set, as mcc_caffe.evaluate takes it"
    )
    parser.add_argument(
        "--split", nargs="+", metavar="NAME", help="splits of DATA (default: validation or test)"
    )
    parser.add_argument(
        "--limit", type=positive_int, metavar="N", help="only the first N samples of a split"
    )
    sets.add_orientation_argument(parser)
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        required=True,
        metavar="FILE.json",
        help="predictions file to write",
    )
    return parser.parse_args(argv)


def interpreter() -> pathlib.Path:
    """Return the interpreter of MediaPipe's own environment."""
    remedy = "it needs the network and a Python of 3.9 to 3.12"
    return environment(f"mediapipe-{VERSION}", PACKAGES, BARE_PACKAGES, remedy)


def find_hands(python: pathlib.Path, folder: pathlib.Path, count: int) -> list[list[Hand]]:
    """Return the hands in each of the `count` images of a folder, in the order of the names.

    Args:
        python: Interpreter that has MediaPipe.
        folder: Folder of the images.
        count: Number of images.

    Raises:
        UserError: MediaPipe fails.
    """
    with tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(
            [python, WORKER, folder], stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as worker:
            lines = list(progress_bar(worker.stdout, total=count, unit="img"))
        if worker.returncode or len(lines) != count:
            stderr.seek(0)
            raise UserError(
                f"MediaPipe ended after {len(lines)} of {count} images: "
                f"{check.reason(worker.returncode, stderr.read())}"
            )
    return list(map(json.loads, lines))


def best_hand(hands: list[Hand], width: int, height: int) -> np.ndarray:
    """Return the keypoints of the hand with the highest score.

    MediaPipe's order of keypoints is ours.

    Args:
        hands: The hands in an image, at least one.
        width: The image's, pixels.
        height: The image's, pixels.

    Returns:
        (21, 3) of x, y in pixels and confidence.
    """
    hand = max(hands, key=lambda hand: hand["score"])
    xy = np.array(hand["points"]) * (width, height) - 0.5
    return np.column_stack([xy, np.full(KEYPOINT_COUNT, hand["score"])])


def is_own(path: pathlib.Path) -> bool:
    """Tell whether a file is a predictions file that this command wrote, of any version."""
    return starts_with(path, _OWN_START)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    check_output(options.out, is_own, "holds no hands of MediaPipe", [options.data])
    entries = sets.open_sets(options.data, upright=options.orientation == sets.UPRIGHT)
    chosen = [
        entry
        for split in sets.choose_splits(options.data, list(entries), options.split)
        for entry in entries[split][: options.limit]
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    python, images = interpreter(), []
    with tempfile.TemporaryDirectory() as folder:
        for index, entry in enumerate(chosen):
            sample = entry.sample()
            image = sample.image()
            images.append((sample.key, image.shape[1], image.shape[0]))
            cv2.imwrite(f"{folder}/{index:08d}.png", image)
        image_hands = find_hands(python, pathlib.Path(folder), len(chosen))
    keypoints = {
        key: best_hand(hands, width, height)
        for (key, width, height), hands in zip(images, image_hands)
        if hands
    }
    if not keypoints:
        raise UserError(
            f"MediaPipe found no hand in the {len(chosen)} images of {options.data}: "
            "nothing was written"
        )
    write_predictions(options.out, f"{SYSTEM} {VERSION}", keypoints)
    _log.info("%s: a hand in %d of %d images", options.out, len(keypoints), len(chosen))


if __name__ == "__main__":
    run_command(main)
