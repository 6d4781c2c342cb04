"""Reads weights, and loads them into a net after checking what Caffe itself would abort on.

A weights file is a caffemodel or packed weights (`mcc_caffe.caffe_io.packed_weights`).
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.protobuf import read_binary
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import existing, find_shipped

# A layer that OpenPose's hand model has and ours has not, with its shape.
_OPENPOSE_LAYER, _OPENPOSE_SHAPE = "conv6_1_CPM", (512, 128, 1, 1)

Shapes = dict[str, list[tuple[int, ...]]]  # of the parameter blobs of each layer


class WeightsError(UserError):
    """Weights that do not fit the net."""

    code = 3


class Caffemodel(NamedTuple):
    """The content of a caffemodel.

    Attributes:
        layers: The float32 parameter blobs of each layer, in the order of the net.
        name: The net's.
    """

    layers: dict[str, list[np.ndarray]]
    name: str


def shipped_weights(variant: str) -> Path | None:
    """Find the weights of a variant that come with the package; None where there are none."""
    return find_shipped(f"pretrained/{variant}.npz")


def describe(path: str | Path) -> dict[str, Any]:
    """Collect what is known of a weights file.

    Returns:
        "file", its path, and the metadata of packed weights.
    """
    metadata = packed_weights.read(path).metadata if packed_weights.is_packed(path) else {}
    return {"file": str(path), **metadata}


def file_shapes(path: str | Path) -> Shapes:
    """Read the shapes of the parameters in a weights file.

    Args:
        path: Packed weights, or a caffemodel of today's format or of that before 2014.

    Raises:
        UserError: The file is missing or damaged.
    """
    if packed_weights.is_packed(existing(path, "weights file")):
        return {
            name: [blob.shape for blob in blobs]
            for name, blobs in packed_weights.read(path).layers.items()
        }
    return {
        layer.name: [_shape(blob) for blob in layer.blobs]
        for layer in _layers(read_binary("NetParameter", path))
    }


def read_caffemodel(path: str | Path) -> Caffemodel:
    """Read a caffemodel.

    Raises:
        UserError: The file is missing, damaged or packed.
    """
    if packed_weights.is_packed(existing(path, "weights file")):
        raise UserError(f"{path} is packed: give a caffemodel")
    model = read_binary("NetParameter", path)
    layers = {
        layer.name: [np.array(blob.data, np.float32).reshape(_shape(blob)) for blob in layer.blobs]
        for layer in _layers(model)
    }
    return Caffemodel(layers, model.name)


def _layers(model: Any) -> list[Any]:
    """Return the layers of a NetParameter that have parameters."""
    return [layer for layer in (*model.layer, *model.layers) if layer.blobs]


def net_shapes(net: Any) -> Shapes:
    """Return the shapes of the parameters of a Caffe net."""
    return {name: [tuple(blob.data.shape) for blob in blobs] for name, blobs in net.params.items()}


def _shape(blob: Any) -> tuple[int, ...]:
    """Return the shape of a BlobProto, which old files write as four numbers."""
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    return (blob.num, blob.channels, blob.height, blob.width)


def _stripped(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop the leading ones, which old files write for vectors."""
    start = next((axis for axis, side in enumerate(shape) if side != 1), len(shape))
    return shape[start:]


def load_weights(net: Any, path: str | Path, complete: bool = True) -> list[str]:
    """Copy the layers of a weights file into a net, by their names.

    Args:
        net: The Caffe net.
        path: The file.
        complete: Whether the file must have every layer of the net.

    Returns:
        The names of the layers that were copied.

    Raises:
        WeightsError: A shape differs, no name agrees, or a layer is missing.
    """
    path = Path(path)
    in_file = file_shapes(path)
    own = net_shapes(net)
    if in_file.get(_OPENPOSE_LAYER, [()])[0] == _OPENPOSE_SHAPE:
        raise WeightsError(
            f"{path} is OpenPose's hand model: make weights of our net out of it with "
            f"`python -m mcc_caffe.surgery --openpose {path} --out mcc_from_openpose.caffemodel`"
        )
    shared = [name for name in own if name in in_file]
    for name in shared:
        if [_stripped(shape) for shape in own[name]] != [
            _stripped(shape) for shape in in_file[name]
        ]:
            raise WeightsError(
                f"{path} does not fit the net: "
                f"layer {name} is {in_file[name]} in the file and {own[name]} in the net; "
                "give the variant (--variant) that the weights were trained with"
            )
    if not shared:
        raise WeightsError(
            f"{path} does not fit the net: none of its {len(in_file)} layers has a name of the "
            "net's; give the weights of a net of this project"
        )
    missing = [name for name in own if name not in in_file]
    if complete and missing:
        names = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise WeightsError(
            f"{path} does not fit the net: it lacks {names}; "
            "give the variant, and of an ablation the prototxt, that the weights were trained with"
        )
    if packed_weights.is_packed(path):
        layers = packed_weights.read(path).layers
        for name in shared:
            for blob, values in zip(net.params[name], layers[name]):
                blob.data[...] = values
    else:
        net.copy_from(str(path))
    return shared
