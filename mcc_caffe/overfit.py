"""Shows that the whole chain learns: `python -m mcc_caffe.overfit data/lmdb/train`.

Trains the mini variant on 8 images of a set without augmentation, then finds their keypoints
again. The chain passes when the last stage's loss is below 0.2 of the trivial answer's
("keypoints 0, background 1") and PCK@0.2 is at least 0.95. `make overfit` runs it on rendered
hands.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcc_caffe.caffe_io.pycaffe import require_caffe
from mcc_caffe.caffe_io.run_folder import SNAPSHOTS
from mcc_caffe.caffe_io.snapshots import weights_path
from mcc_caffe.core.commands import command_parser, positive_int, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.geometry import lie_inside
from mcc_caffe.core.result_folders import empty_own_folder, locked
from mcc_caffe.data.samples import Sample, SampleSet
from mcc_caffe.data.writers import SampleWriter
from mcc_caffe.evaluation.metrics import pck
from mcc_caffe.paper import LAST_STAGE, stage_loss_blob
from mcc_caffe.predictor import HandPredictor
from mcc_caffe.training.child_process import run_training
from mcc_caffe.training.run_log import read_log

IMAGES = 8
MAX_RATIO, MIN_PCK = 0.2, 0.95


class NotLearntError(UserError):
    """The chain runs and does not learn."""

    code = 1


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = command_parser(__doc__)
    parser.add_argument("data", type=Path, help="LMDB set; its first 8 samples are used")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/overfit"),
        help="folder, emptied first (default: runs/overfit)",
    )
    parser.add_argument(
        "--iterations",
        type=positive_int,
        default=300,
        help="iterations of the training (default: 300)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        NotLearntError: The loss stayed too high, or the keypoints are too far off.
    """
    options = parse_arguments(argv)
    require_caffe("training")
    samples = _first_samples(options.data)
    with locked(options.out, "trains in it"):
        _overfit(options, samples)


def _overfit(options: argparse.Namespace, samples: Sequence[Sample]) -> None:
    """Train on the samples, and say how well they were learnt."""
    empty_own_folder(options.out)
    set_folder, run_folder = options.out / "set", options.out / "run"
    with SampleWriter(set_folder) as writer:
        for sample in samples:
            writer.add(sample)
        writer.finish(source=str(options.data))

    _train(set_folder, run_folder, options.iterations)
    ratio = read_log(run_folder)[-1]["ratio_to_trivial"][stage_loss_blob(LAST_STAGE)]
    weights = weights_path(run_folder / SNAPSHOTS, options.iterations)
    accuracy = _accuracy(HandPredictor(weights, "mini", levels=1, engine="caffe"), samples)

    result = (
        f"last stage's loss / trivial {ratio:.3f} (below {MAX_RATIO}), "
        f"PCK@0.2 on the {IMAGES} images {accuracy:.3f} (at least {MIN_PCK})"
    )
    if not (ratio < MAX_RATIO and accuracy >= MIN_PCK):  # NaN is a failure, too
        raise NotLearntError(f"the chain did not learn: {result}")
    print(f"the chain learns: {result}")


def _first_samples(folder: Path) -> list[Sample]:
    """Return the first IMAGES samples of a set."""
    samples = SampleSet(folder)
    if len(samples) < IMAGES:
        raise UserError(f"{folder} has {len(samples)} samples, {IMAGES} are needed")
    first_samples = [samples[index] for index in range(IMAGES)]
    if not any(map(_shows_keypoints, first_samples)):
        raise UserError(
            f"{folder}: none of the first {IMAGES} samples has a labelled keypoint in its image, "
            "so that no pose can be learnt: give a set with keypoints"
        )
    return first_samples


def _shows_keypoints(sample: Sample) -> bool:
    """Return whether a labelled keypoint lies in the sample's image."""
    height, width = sample.image().shape[:2]
    is_labelled = sample.keypoints[:, 2] > 0
    return bool((is_labelled & lie_inside(sample.keypoints[:, :2], width, height)).any())


def _train(set_folder: Path, run_folder: Path, iterations: int) -> None:
    """Train the mini variant, all images in every batch, as they are."""
    options = {
        "--out": run_folder,
        "--variant": "mini",
        "--batch-size": IMAGES,
        "--iterations": iterations,
        "--interval": 10,
    }
    words = [word for option in options.items() for word in option]
    run_training([set_folder, "--no-augmentation", *words])


def _accuracy(predictor: HandPredictor, samples: Sequence[Sample]) -> float:
    """Return PCK@0.2 of the predictor on the samples."""
    predicted = [predictor.predict(sample.image()).keypoints for sample in samples]
    return pck(
        np.array(predicted, np.float64), np.stack([sample.keypoints for sample in samples]), 0.2
    )


if __name__ == "__main__":
    run_command(main)
