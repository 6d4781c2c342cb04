"""Trains the box head on the features of a trunk whose weights stay as they are.

A round draws new samples and computes their features once; the head learns them EPOCHS times.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcc_caffe.caffe_io.precision import choose_precision, nets_in
from mcc_caffe.caffe_io.protobuf import messages, text_format
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import load_weights
from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.hand_boxes import (
    BOX_BATCH_SIZE,
    BOX_FEATURES_BLOB,
    BOX_SAMPLE_SIZE,
    BOXES_BLOB,
    IN_HANDS_BLOB,
    IS_HAND_BLOB,
    MIDDLE_LOSS_BLOB,
    SIDES_BLOB,
    SIDES_LOSS_BLOB,
)
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.paper import IMAGE_BLOB
from mcc_caffe.training.box_samples import LabelledImage, draw_sample

EPOCHS = 3  # of the head on the features of one round
_FEATURES_LAYER = f"relu_{BOX_FEATURES_BLOB}"


class HeadTraining:
    """The trunk, whose weights stay, and the solver of the box head.

    Attributes:
        trunk: The Caffe net of trunk and head, `deploy_boxes.prototxt`.
        solver: The Caffe solver of `train_boxes.prototxt`.
    """

    def __init__(self, weights: Path, variant: str, iterations: int, lr: float):
        """Open both nets.

        Args:
            weights: Packed weights with the trunk and perhaps a head.
            variant: The name of the network's size.
            iterations: Of the solver; the rate falls to 0 in a line until then.
            lr: The rate at the start.
        """
        caffe = import_caffe()
        precision = choose_precision()
        with nets_in(precision):
            self.trunk = caffe.Net(
                str(require_shipped(f"prototxt/{variant}/deploy_boxes.prototxt")), caffe.TEST
            )
        loaded = load_weights(self.trunk, weights, complete=False, variant=variant)
        solver = messages().SolverParameter(
            net=str(require_shipped(f"prototxt/{variant}/train_boxes.prototxt")),
            type="Adam",
            base_lr=lr,
            lr_policy="poly",
            power=1,
            momentum=0.9,
            momentum2=0.999,
            weight_decay=0.0005,
            max_iter=iterations,
            random_seed=1,
            display=0,
        )
        with tempfile.TemporaryDirectory() as folder, nets_in(precision):
            solver_path = Path(folder, "solver.prototxt")
            solver_path.write_text(text_format.MessageToString(solver))
            self.solver = caffe.get_solver(str(solver_path))
        if BOXES_BLOB in loaded:
            load_weights(self.solver.net, weights)

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
        return float(blobs[MIDDLE_LOSS_BLOB].data), float(blobs[SIDES_LOSS_BLOB].data)

    def head(self) -> dict[str, list[np.ndarray]]:
        """Return the layers of the head."""
        return {
            name: [blob.data.copy() for blob in blobs]
            for name, blobs in self.solver.net.params.items()
        }


def draw_round(
    training: HeadTraining,
    images: Sequence[LabelledImage],
    count: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Draw the samples of a round and compute their features.

    Returns:
        {blob of the train net: float16 values of all samples}.
    """
    arrays: dict[str, np.ndarray] = {}
    for first in progress_bar(range(0, count, BOX_BATCH_SIZE), desc="features", leave=False):
        chosen = rng.integers(len(images), size=BOX_BATCH_SIZE)
        samples = [draw_sample(images[index], BOX_SAMPLE_SIZE, rng) for index in chosen]
        is_hand = np.stack([sample.labels.is_hand for sample in samples])
        batch = {
            BOX_FEATURES_BLOB: training.features(np.stack([s.network_input for s in samples])),
            IS_HAND_BLOB: is_hand,
            IN_HANDS_BLOB: np.repeat(is_hand == 1, 4, axis=1),
            SIDES_BLOB: np.stack([sample.labels.log_distances for sample in samples]),
        }
        for name, values in batch.items():
            if name not in arrays:
                arrays[name] = np.empty((count, *values.shape[1:]), np.float16)
            arrays[name][first : first + BOX_BATCH_SIZE] = values
    return arrays


def run_round(
    training: HeadTraining,
    images: Sequence[LabelledImage],
    count: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Draw the samples of a round and let the head learn them.

    Returns:
        The mean losses of the middles and of the sides.
    """
    arrays = draw_round(training, images, count, rng)
    losses = []
    order = np.concatenate([rng.permutation(count) for _ in range(EPOCHS)])
    for batch in progress_bar(order.reshape(-1, BOX_BATCH_SIZE), desc="head", leave=False):
        losses.append(training.step({name: array[batch] for name, array in arrays.items()}))
    middle, sides = np.mean(losses, axis=0)
    return middle, sides
