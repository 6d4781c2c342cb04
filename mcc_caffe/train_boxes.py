"""Trains the box head, which says where the hands of a whole scene are.

    python -m mcc_caffe.train_boxes scenes.json more.json --out hands.npz
    python -m mcc_caffe.train_boxes scenes.json --weights mine.npz --out mine_with_boxes.npz
    python -m mcc_caffe.train_boxes scenes.json --out hands.npz --average  # of two heads

The files are COCO files of images with boxes around all their hands. An image without a box is one
without a hand; a quarter or so of such images keeps the head from seeing hands everywhere.

The trunk of the given weights stays as it is, so that the pose of a single hand does not change.
Its features of newly drawn parts of the images are computed once a round, and the head learns
them three times. OUT has all layers of the given weights and those of the head; with it, `infer
--hands all` and `HandPredictor.predict_all` propose hands by the head. If the given weights have a
head already, it learns on; with --average OUT has the mean of it and the one learnt, which errs
less than either.

OUT is written when the training ends. If Ctrl-C or an error ends it early, OUT has the head of the
last complete round, and a warning says so. Without a complete round, or where the command is killed
(SIGKILL, lack of memory), OUT stays as it was.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.caffe_io.pycaffe import require_caffe, require_gpus, select_device
from mcc_caffe.caffe_io.weights import mean_layers
from mcc_caffe.core.commands import (
    add_gpu_option,
    add_variant_option,
    command_parser,
    positive_float,
    positive_int,
    progress_bar,
    run_command,
    seed_number,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_atomically
from mcc_caffe.core.hand_boxes import BOX_BATCH_SIZE, BOXES_BLOB
from mcc_caffe.core.output_checks import check_output
from mcc_caffe.inference.scene_files import Scene, drop_boxes_without_pixels, read_scenes
from mcc_caffe.training.box_head import EPOCHS, HeadTraining, run_round
from mcc_caffe.training.box_samples import LabelledImage

_log = logging.getLogger(__name__)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("scenes", nargs="+", type=Path, metavar="SCENES", help="COCO file of boxes around hands")
    add("--out", type=Path, required=True, metavar="OUT.npz", help="file to write")
    add("--weights", type=Path, metavar="FILE.npz", help="packed weights (default: the package's)")
    add_variant_option(parser)
    add("--rounds", type=positive_int, default=4, help="number of rounds (default: %(default)s)")
    add(
        "--samples",
        type=positive_int,
        default=2000,
        help="samples a round, whose features take 256 KiB each, those of `paper` 1 MiB "
        "(default: %(default)s)",
    )
    add(
        "--lr",
        type=positive_float,
        default=1e-3,
        help="learning rate at the start (default: %(default)s)",
    )
    add(
        "--average",
        action="store_true",
        help="write the mean of the given weights' head and the one learnt from it",
    )
    add("--seed", type=seed_number, default=0, help="seed of the samples (default: %(default)s)")
    add_gpu_option(parser)
    return parser.parse_args(argv)


def read_images(scenes: Sequence[Scene]) -> list[LabelledImage]:
    """Read the images of scenes, without the boxes that have no pixel of their image.

    Raises:
        UserError: An image cannot be read, or has another size than its file says.
    """
    images = [
        scene.read_upright_image()
        for scene in progress_bar(scenes, desc="reading", unit="img", delay=2, leave=False)
    ]
    sizes = [(image.shape[1], image.shape[0]) for image in images]
    return [
        LabelledImage(image, scene.boxes_ltrb, scene.crowds_ltrb)
        for image, scene in zip(images, drop_boxes_without_pixels(scenes, sizes))
    ]


def _train_head(
    options: argparse.Namespace,
    weights: Path,
    stored: packed_weights.PackedWeights,
    images: Sequence[LabelledImage],
    target: Path,
) -> None:
    """Train the box head and write OUT, even where Ctrl-C or an error ends the training.

    Raises:
        UserError: A round's losses are not finite.
    """
    head, complete_rounds = None, 0
    try:
        for number, learnt in enumerate(_run_rounds(options, weights, images), start=1):
            head, complete_rounds = learnt, number
    finally:
        if head is not None:
            if options.average:
                head = mean_layers(head, stored.layers)
            content = packed_weights.to_bytes({**stored.layers, **head}, stored.metadata)
            write_atomically(target, content)
            if complete_rounds < options.rounds:
                _log.warning("%s is of round %d of %d", target, complete_rounds, options.rounds)


def _run_rounds(
    options: argparse.Namespace, weights: Path, images: Sequence[LabelledImage]
) -> Iterator[dict[str, list[np.ndarray]]]:
    """Train the box head; yield its layers after each round."""
    iterations = options.rounds * EPOCHS * options.samples // BOX_BATCH_SIZE
    rng = np.random.default_rng(options.seed)
    training = HeadTraining(weights, options.variant, iterations, options.lr)
    for number in range(1, options.rounds + 1):
        middle, sides = run_round(training, images, options.samples, rng)
        if not np.isfinite([middle, sides]).all():
            raise UserError(
                f"round {number}: the losses are {middle} and {sides}: "
                f"give a lower --lr than {options.lr}"
            )
        _log.info(
            "round %d of %d: loss of the middles %.2f, of the sides %.2f",
            number,
            options.rounds,
            middle,
            sides,
        )
        yield training.head()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    require_caffe("training")
    if options.gpu is not None:
        require_gpus([options.gpu])
        select_device(options.gpu)
    if options.samples % BOX_BATCH_SIZE:
        raise UserError(f"--samples {options.samples}: give a multiple of {BOX_BATCH_SIZE}")
    weights = packed_weights.require_packed(options.weights or default_weights(options.variant))
    stored = packed_weights.read(weights)
    if options.average and BOXES_BLOB not in stored.layers:
        raise UserError(f"{weights} has no box head to average with: leave --average out")
    scenes = [scene for path in options.scenes for scene in read_scenes(path)]
    inputs = [weights, *options.scenes, *(scene.path for scene in scenes)]
    target = check_output(
        options.out, packed_weights.are_readable, packed_weights.NOT_PACKED, inputs
    )
    images = read_images(scenes)
    if not any(len(image.boxes) for image in images):
        paths = ", ".join(map(str, options.scenes))
        raise UserError(f"{paths}: no image has a box in it: give others")
    target.parent.mkdir(parents=True, exist_ok=True)
    _train_head(options, weights, stored, images, target)
    print(f"{target}: {len(images)} images, {options.rounds * options.samples} samples")


if __name__ == "__main__":
    run_command(main)
