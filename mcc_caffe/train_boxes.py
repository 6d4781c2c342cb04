"""Trains the box head, which says where the hands of a whole scene are.

    python -m mcc_caffe.train_boxes scenes.json more.json --out hands.npz
    python -m mcc_caffe.train_boxes scenes.json --weights mine.npz --out mine_with_boxes.npz
    python -m mcc_caffe.train_boxes scenes.json --out hands.npz --average  # of two heads

The files are COCO files of pictures with boxes around all their hands. A picture without a box is
one without a hand; a quarter or so of such pictures keeps the head from seeing hands everywhere.

The trunk of the given weights stays as it is, so that the pose of a single hand does not change.
Its features of newly drawn parts of the pictures are computed once a round, and the head learns
them three times. OUT has all layers of the given weights and those of the head; with it, `infer
--hands all` and `HandPredictor.predict_all` propose hands by the head. If the given weights have a
head already, it learns on; with --average OUT has the mean of it and the one learnt, which errs
less than either.
"""

import argparse
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.caffe_io.precision import choose_precision, nets_in
from mcc_caffe.caffe_io.protobuf import read_text, text_format
from mcc_caffe.caffe_io.pycaffe import import_caffe, require_caffe, require_gpus
from mcc_caffe.caffe_io.weights import load_weights
from mcc_caffe.core.commands import (
    command_parser,
    positive_float,
    positive_int,
    progress_bar,
    run_command,
    seed_number,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import check_target, require_file, require_shipped, write_whole
from mcc_caffe.core.hand_boxes import BOX_FEATURES_BLOB, BOXES_BLOB
from mcc_caffe.inference.scene_files import Scene, read_scenes
from mcc_caffe.paper import IMAGE_BLOB, STRIDE, VARIANTS
from mcc_caffe.training.box_samples import LabelledPicture, draw_sample

_SIZE = 256  # pixels, the side of a sample
_BATCH = 8
_EPOCHS = 3  # of the head on the features of one round
_FEATURES_LAYER = f"relu_{BOX_FEATURES_BLOB}"

_log = logging.getLogger(__name__)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("scenes", nargs="+", type=Path, metavar="SCENES", help="COCO file of boxes around hands")
    add("--out", type=Path, required=True, metavar="OUT.npz", help="file to write")
    add("--weights", type=Path, metavar="FILE.npz", help="packed weights (default: the package's)")
    add("--variant", choices=VARIANTS, default="mini", help="size of the network (default: mini)")
    add("--rounds", type=positive_int, default=4, help="number of rounds (default: %(default)s)")
    add(
        "--samples",
        type=positive_int,
        default=2000,
        help="samples a round, whose features take 256 KiB each (default: %(default)s)",
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
    add("--gpu", type=int, metavar="ID", help="GPU to use (default: the CPU)")
    return parser.parse_args(argv)


def read_pictures(scenes: Sequence[Scene]) -> list[LabelledPicture]:
    """Read the pictures of scenes.

    Raises:
        UserError: A picture cannot be read, or has another size than its file says.
    """
    return [
        LabelledPicture(scene.read_picture(), scene.boxes_ltrb, scene.crowds_ltrb)
        for scene in progress_bar(scenes, desc="reading", unit="img", delay=2, leave=False)
    ]


class HeadTraining:
    """The trunk, whose weights stay, and the solver of the box head.

    Attributes:
        trunk: The Caffe net of trunk and head, `deploy_boxes.prototxt`.
        solver: The Caffe solver of `train_boxes.prototxt`.
    """

    def __init__(self, weights: Path, variant: str, folder: Path, iterations: int, lr: float):
        """Open both nets.

        Args:
            weights: Packed weights with the trunk and perhaps a head.
            variant: The name of the network's size.
            folder: An empty folder for the solver's files.
            iterations: Of the solver; the rate falls to 0 in a line until then.
            lr: The rate at the start.
        """
        caffe = import_caffe()
        precision = choose_precision()
        with nets_in(precision):
            self.trunk = caffe.Net(
                str(require_shipped(f"prototxt/{variant}/deploy_boxes.prototxt")), caffe.TEST
            )
        load_weights(self.trunk, weights, complete=False)
        net = read_text("NetParameter", require_shipped(f"prototxt/{variant}/train_boxes.prototxt"))
        for layer in net.layer:
            if layer.type == "Input":
                layer.input_param.shape[0].dim[:] = [
                    _BATCH,
                    layer.input_param.shape[0].dim[1],
                    _SIZE // STRIDE,
                    _SIZE // STRIDE,
                ]
        (folder / "net.prototxt").write_text(text_format.MessageToString(net))
        (folder / "solver.prototxt").write_text(
            f'net: "{folder / "net.prototxt"}" type: "Adam" base_lr: {lr} lr_policy: "poly" '
            f"power: 1 momentum: 0.9 momentum2: 0.999 weight_decay: 0.0005 "
            f"max_iter: {iterations} random_seed: 1 display: 0"
        )
        with nets_in(precision):
            self.solver = caffe.get_solver(str(folder / "solver.prototxt"))
        stored = packed_weights.read(weights).layers
        for name, blobs in self.solver.net.params.items():
            for blob, values in zip(blobs, stored.get(name, ())):
                blob.data[...] = values

    def features(self, inputs: np.ndarray) -> np.ndarray:
        """Return the trunk's features (N, C, H, W) of inputs (N, 3, m, m)."""
        blobs = self.trunk.blobs
        blobs[IMAGE_BLOB].reshape(*inputs.shape)
        blobs[IMAGE_BLOB].data[...] = inputs
        self.trunk.forward(end=_FEATURES_LAYER)
        return blobs[BOX_FEATURES_BLOB].data

    def step(self, arrays: dict[str, np.ndarray]) -> tuple[float, float]:
        """Let the head learn a batch; return its two losses, of the middles and of the sides."""
        blobs = self.solver.net.blobs
        for name, values in arrays.items():
            blobs[name].data[...] = values
        self.solver.step(1)
        return float(blobs["loss_middle"].data), float(blobs["loss_sides"].data)

    def head(self) -> dict[str, list[np.ndarray]]:
        """Return the layers of the head."""
        return {
            name: [blob.data.copy() for blob in blobs]
            for name, blobs in self.solver.net.params.items()
        }


def draw_round(
    training: HeadTraining, pictures: Sequence[LabelledPicture], count: int, rng: Any
) -> dict[str, np.ndarray]:
    """Draw the samples of a round and compute their features.

    Returns:
        {blob of the train net: float16 values of all samples}.
    """
    arrays: dict[str, np.ndarray] = {}
    for first in progress_bar(range(0, count, _BATCH), desc="features", leave=False):
        chosen = rng.integers(len(pictures), size=_BATCH)
        samples = [draw_sample(pictures[index], _SIZE, rng) for index in chosen]
        is_hand = np.stack([sample.labels.is_hand for sample in samples])
        batch = {
            BOX_FEATURES_BLOB: training.features(np.stack([s.network_input for s in samples])),
            "is_hand": is_hand,
            "in_hands": np.repeat(is_hand == 1, 4, axis=1),
            "sides": np.stack([sample.labels.log_distances for sample in samples]),
        }
        for name, values in batch.items():
            if name not in arrays:
                arrays[name] = np.empty((count, *values.shape[1:]), np.float16)
            arrays[name][first : first + _BATCH] = values
    return arrays


def run_round(
    training: HeadTraining, pictures: Sequence[LabelledPicture], count: int, rng: Any
) -> tuple[float, float]:
    """Draw the samples of a round and let the head learn them.

    Returns:
        The mean losses of the middles and of the sides.
    """
    arrays = draw_round(training, pictures, count, rng)
    losses = []
    order = np.concatenate([rng.permutation(count) for _ in range(_EPOCHS)])
    for batch in progress_bar(order.reshape(-1, _BATCH), desc="head", leave=False):
        losses.append(training.step({name: array[batch] for name, array in arrays.items()}))
    middle, sides = np.mean(losses, axis=0)
    return middle, sides


def mean_layers(
    layers: Mapping[str, Sequence[np.ndarray]], others: Mapping[str, Sequence[np.ndarray]]
) -> dict[str, list[np.ndarray]]:
    """Return each of the layers with the mean of its blobs and those of its namesake in others."""
    return {
        name: [(blob + other) / 2 for blob, other in zip(blobs, others[name])]
        for name, blobs in layers.items()
    }


def _find_weights(options: argparse.Namespace) -> Path:
    """Return the packed weights that the options name; UserError where they are none."""
    weights = require_file(options.weights or default_weights(options.variant), "weights file")
    if not packed_weights.is_packed(weights):
        raise UserError(f"{weights} is no packed weights: pack it with `python -m mcc_caffe.pack`")
    return weights


def _use_gpu(gpu: int) -> None:
    """Let Caffe compute on a GPU; UserError where it cannot."""
    caffe = import_caffe()
    require_gpus([gpu])
    caffe.set_device(gpu)
    caffe.set_mode_gpu()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    require_caffe("training")
    if options.samples % _BATCH:
        raise UserError(f"--samples {options.samples}: give a multiple of {_BATCH}")
    weights = _find_weights(options)
    stored = packed_weights.read(weights)
    if options.average and BOXES_BLOB not in stored.layers:
        raise UserError(f"{weights} has no box head to average with: leave --average out")
    scenes = [scene for path in options.scenes for scene in read_scenes(path)]
    target = check_target(
        options.out, [weights, *options.scenes, *(scene.path for scene in scenes)]
    )
    if not any(len(scene.boxes_ltrb) for scene in scenes):
        raise UserError(f"{', '.join(map(str, options.scenes))}: no picture has a box")
    pictures = read_pictures(scenes)
    target.parent.mkdir(parents=True, exist_ok=True)
    if options.gpu is not None:
        _use_gpu(options.gpu)
    steps = _EPOCHS * options.samples // _BATCH
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        training = HeadTraining(
            weights, options.variant, Path(folder), options.rounds * steps, options.lr
        )
        for number in range(1, options.rounds + 1):
            middle, sides = run_round(training, pictures, options.samples, rng)
            if not np.isfinite([middle, sides]).all():
                out_state = (
                    f"{target} is of the round before" if number > 1 else "nothing was written"
                )
                raise UserError(
                    f"round {number}: the losses are {middle} and {sides}, and {out_state}: "
                    f"give a lower --lr than {options.lr}"
                )
            _log.info(
                "round %d of %d: loss of the middles %.2f, of the sides %.2f",
                number,
                options.rounds,
                middle,
                sides,
            )
            head = training.head()
            if options.average:
                head = mean_layers(head, stored.layers)
            content = packed_weights.to_bytes({**stored.layers, **head}, stored.metadata)
            write_whole(target, content)
    print(f"{target}: {len(pictures)} pictures, {options.rounds * options.samples} samples")


if __name__ == "__main__":
    run_command(main)
