"""Shows that the whole chain learns: `python -m mcc_caffe.overfit data/lmdb/train` (`make overfit`).

Trains the mini variant on 8 images of a set without augmentation, then finds their keypoints again. Passed when the
last stage's loss is below 0.2 of the trivial answer's ("joints 0, background 1") and PCK@0.2 is at least 0.95.
"""

import argparse
import pathlib
import shutil

import numpy as np

from mcc_caffe import train
from mcc_caffe.caffe_io.snapshots import SNAPSHOTS, weights_path
from mcc_caffe.core.commands import command_parser, positive, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import SampleSet, SampleWriter
from mcc_caffe.evaluation.metrics import pck
from mcc_caffe.paper import LAST_STAGE, stage_loss_blob
from mcc_caffe.predictor import HandPredictor
from mcc_caffe.training.run_log import read_log

IMAGES = 8
MAX_RATIO, MIN_PCK = 0.2, 0.95


class NotLearntError(UserError):
    """The chain runs and does not learn."""

    code = 1


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("data", type=pathlib.Path, help="LMDB set; its first 8 samples are used")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/overfit"),
        help="folder, emptied first (default: runs/overfit)",
    )
    parser.add_argument("--iterations", type=positive, default=300, help="default: 300")
    return parser.parse_args(argv)


def main(argv=None) -> None:
    options = arguments(argv)
    samples = SampleSet(options.data)
    if len(samples) < IMAGES:
        raise UserError(f"{options.data} has {len(samples)} samples, {IMAGES} are needed")
    chosen = [samples[i] for i in range(IMAGES)]
    shutil.rmtree(options.out, ignore_errors=True)
    with SampleWriter(options.out / "set") as writer:
        for sample in chosen:
            writer.add(sample)
        writer.finish(source=str(options.data))

    run = options.out / "run"
    train.main(
        [
            str(options.out / "set"),
            "--out",
            str(run),
            "--variant",
            "mini",
            "--no-augmentation",
            "--batch-size",
            str(IMAGES),
            "--iterations",
            str(options.iterations),
            "--interval",
            "10",
        ]
    )
    ratio = read_log(run)[-1]["ratio_to_trivial"][stage_loss_blob(LAST_STAGE)]
    predictor = HandPredictor(
        weights_path(run / SNAPSHOTS, options.iterations), "mini", levels=1, engine="caffe"
    )
    found = np.stack([predictor.predict(sample.image()).keypoints for sample in chosen])
    accuracy = pck(found, np.stack([sample.keypoints for sample in chosen]), 0.2)
    result = (
        f"last stage's loss / trivial {ratio:.3f} (at most {MAX_RATIO}), "
        f"PCK@0.2 on the {IMAGES} images {accuracy:.3f} (at least {MIN_PCK})"
    )
    if ratio >= MAX_RATIO or not accuracy >= MIN_PCK:
        raise NotLearntError(f"the chain did not learn: {result}")
    print(f"the chain learns: {result}")


if __name__ == "__main__":
    run_command(main)
