"""Nets with random weights and inputs, which stand in for trained ones where only time counts."""

from typing import Any

import numpy as np

from mcc_caffe.caffe_io.protobuf import messages, read_text
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.paper import (
    DATA_BLOB,
    HEATMAP_COUNT,
    HEATMAPS_BLOB,
    IGNORE_LABEL,
    MASK_LABEL_BLOB,
    VARIANTS,
)


def read_train_net(variant: str) -> Any:
    """Return the shipped train net of a variant (NetParameter)."""
    return read_text("NetParameter", require_shipped(f"prototxt/{variant}/train.prototxt"))


def random_batch(variant: str, samples: int) -> dict[str, np.ndarray]:
    """Return {blob: float32 array} of random samples; some cells of the mask have no label."""
    rng = np.random.default_rng(0)
    size, cells = VARIANTS[variant].input_size, VARIANTS[variant].cells
    batch = {
        DATA_BLOB: rng.uniform(-0.5, 0.5, (samples, 3, size, size)),
        MASK_LABEL_BLOB: rng.choice([0, 1, IGNORE_LABEL], (samples, 1, cells, cells)),
        HEATMAPS_BLOB: rng.uniform(0, 1, (samples, HEATMAP_COUNT, cells, cells)),
    }
    return {name: array.astype(np.float32) for name, array in batch.items()}


def fed_by_hand(net: Any, batch: dict[str, np.ndarray]) -> Any:
    """Return the train net with an Input layer for each array of a batch and no data layer."""
    fed = messages().NetParameter(name=net.name)
    for name, array in batch.items():
        fed.layer.add(name=name, type="Input", top=[name]).input_param.shape.add(dim=array.shape)
    fed.layer.extend(layer for layer in net.layer if layer.type != "Python")
    return fed


def fill_weights(net: Any) -> None:
    """Fill a Caffe net with random weights under which values neither die nor explode."""
    rng = np.random.default_rng(0)
    for kernel, bias in net.params.values():
        deviation = np.sqrt(2 / np.prod(kernel.data.shape[1:]))
        kernel.data[...] = rng.normal(0, deviation, kernel.data.shape)
        bias.data[...] = rng.normal(0, 0.1, bias.data.shape)


def fill_inputs(net: Any, batch: dict[str, np.ndarray]) -> None:
    """Copy a batch into the input blobs of a Caffe net."""
    for name, array in batch.items():
        net.blobs[name].data[...] = array
