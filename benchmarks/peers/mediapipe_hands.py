"""MediaPipe's hands as a peer: what it finds in a data set's pictures, as a predictions file.

    python -m benchmarks.peers.mediapipe_hands data/synth --out out/mediapipe.json
    python -m mcc_caffe.evaluate data/synth --weights FILE --predictions out/mediapipe.json

MediaPipe 0.10.21 is the last release that carries its hand models, and it needs other versions of packages than we do: the first
call makes an environment for it in ~/.cache/mcc-caffe/peers (pip, 450 MB). Its settings are its own defaults for single
pictures. Of several hands the one with the highest score is taken, and its score is the confidence of all its keypoints; a picture
without a hand is left out of the file. There are no masks.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.peers.environment import environment, last_line
from data_tools import sets
from mcc_caffe.core.commands import positive, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.evaluation.prediction_runner import choose_splits
from mcc_caffe.evaluation.predictions_file import write_predictions
from mcc_caffe.paper import KEYPOINTS

VERSION = "0.10.21"
ALONE = (
    f"mediapipe=={VERSION}",
    "opencv-contrib-python-headless==4.11.0.86",
)  # installed without what they ask for: JAX, sound, windows
NEEDED = ("numpy<2", "protobuf>=4.25.3,<5", "matplotlib<4", "absl-py", "attrs", "flatbuffers")
WORKER = pathlib.Path(__file__).with_name("mediapipe_worker.py")


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", type=pathlib.Path, metavar="DATA", help="set, as mcc_caffe.evaluate takes it"
    )
    parser.add_argument(
        "--split", nargs="+", metavar="NAME", help="of DATA (default: validation or test)"
    )
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N samples of a split"
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        required=True,
        metavar="FILE.json",
        help="predictions file to write",
    )
    return parser.parse_args(argv)


def interpreter() -> pathlib.Path:
    """The interpreter of MediaPipe's own environment."""
    return environment(
        f"mediapipe-{VERSION}", NEEDED, ALONE, "it needs the network and a Python of 3.9 to 3.12"
    )


def find_hands(python: pathlib.Path, folder: pathlib.Path, count: int) -> list:
    """What MediaPipe finds in each of the `count` pictures of a folder, by name: lists of hands, as the worker prints them."""
    with tempfile.TemporaryFile("w+") as chatter:
        with subprocess.Popen(
            [python, WORKER, folder], stdout=subprocess.PIPE, stderr=chatter, text=True
        ) as worker:
            lines = list(tqdm(worker.stdout, total=count, unit="img"))
        if worker.returncode or len(lines) != count:
            chatter.seek(0)
            raise UserError(
                f"MediaPipe ended after {len(lines)} of {count} pictures: {last_line(chatter.read())}"
            )
    return list(map(json.loads, lines))


def best_hand(hands: list, width: int, height: int) -> np.ndarray:
    """(21, 3) of x, y in pixels and confidence: the hand with the highest score. MediaPipe's order of keypoints is ours."""
    hand = max(hands, key=lambda one: one["score"])
    xy = np.array(hand["points"]) * (width, height) - 0.5
    return np.column_stack([xy, np.full(KEYPOINTS, hand["score"])])


def main(argv=None) -> None:
    options = arguments(argv)
    entries = sets.open_sets(options.data)
    chosen = [
        entry
        for split in choose_splits(options.data, list(entries), options.split)
        for entry in entries[split][: options.limit]
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    python, pictures = interpreter(), []
    with tempfile.TemporaryDirectory() as folder:
        for place, entry in enumerate(chosen):
            sample = entry.sample()
            image = sample.image()
            pictures.append((sample.key, image.shape[1], image.shape[0]))
            cv2.imwrite(f"{folder}/{place:08d}.png", image)
        hands = find_hands(python, pathlib.Path(folder), len(chosen))
    found = {
        key: best_hand(one, width, height)
        for (key, width, height), one in zip(pictures, hands)
        if one
    }
    if not found:
        raise UserError(
            f"MediaPipe found no hand in the {len(chosen)} pictures of {options.data}: nothing was written"
        )
    write_predictions(options.out, f"MediaPipe {VERSION}", found)
    print(f"{options.out}: a hand in {len(found)} of {len(chosen)} pictures")


if __name__ == "__main__":
    run_command(main)
