"""Loads weights, from a caffemodel or packed (`mcc_caffe.caffe_io.packed_weights`), into a net, after checking what Caffe itself would abort on."""

import pathlib

import numpy as np

from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.protobuf import read_binary
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import existing, find_shipped

# A layer that OpenPose's hand model has and ours has not, with its shape.
_OPENPOSE_LAYER, _OPENPOSE_SHAPE = "conv6_1_CPM", (512, 128, 1, 1)


class WeightsError(UserError):
    """Weights that do not fit the net."""

    code = 3


def shipped_weights(variant: str) -> pathlib.Path | None:
    """The weights of a variant that come with the package; None where there are none."""
    return find_shipped(f"pretrained/{variant}.npz")


def describe(path) -> dict:
    """What is known of a weights file: "file", its path, and of packed weights their metadata."""
    return {
        "file": str(path),
        **(packed_weights.read(path)[1] if packed_weights.is_packed(path) else {}),
    }


def file_shapes(path) -> dict:
    """{layer: [shape, ...]} of the parameters in packed weights or a caffemodel, of today's format or of that before 2014."""
    if packed_weights.is_packed(existing(path, "weights file")):
        return {
            name: [blob.shape for blob in blobs]
            for name, blobs in packed_weights.read(path)[0].items()
        }
    return {
        layer.name: [_shape(blob) for blob in layer.blobs]
        for layer in _layers(read_binary("NetParameter", path))
    }


def read_caffemodel(path) -> tuple:
    """({layer: [float32 array, ...]}, name of the net) of a caffemodel."""
    if packed_weights.is_packed(existing(path, "weights file")):
        raise UserError(f"{path} is packed: give a caffemodel")
    model = read_binary("NetParameter", path)
    layers = {
        layer.name: [np.array(blob.data, np.float32).reshape(_shape(blob)) for blob in layer.blobs]
        for layer in _layers(model)
    }
    return layers, model.name


def _layers(model) -> list:
    """The layers with parameters of a NetParameter."""
    return [layer for layer in (*model.layer, *model.layers) if layer.blobs]


def net_shapes(net) -> dict:
    """{layer: [shape, ...]} of a net's parameters."""
    return {name: [tuple(blob.data.shape) for blob in blobs] for name, blobs in net.params.items()}


def _shape(blob) -> tuple:
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    return (blob.num, blob.channels, blob.height, blob.width)


def _stripped(shape: tuple) -> tuple:
    """Without leading ones, which old files write for vectors."""
    start = next((place for place, side in enumerate(shape) if side != 1), len(shape))
    return tuple(shape[start:])


def load_weights(net, path, complete: bool = True) -> list:
    """Copies the file's layers into the net by name; returns the names of those that took part.

    WeightsError where a shape differs, where no name agrees and, if `complete`, where a layer of the net is missing.
    """
    path = pathlib.Path(path)
    found = file_shapes(path)
    own = net_shapes(net)
    if found.get(_OPENPOSE_LAYER, [()])[0] == _OPENPOSE_SHAPE:
        raise WeightsError(
            f"{path} is OpenPose's hand model: make weights of our net out of it with "
            f"`python -m mcc_caffe.surgery --openpose {path} --out mcc_from_openpose.caffemodel`"
        )
    shared = [name for name in own if name in found]
    for name in shared:
        if [_stripped(shape) for shape in own[name]] != [_stripped(shape) for shape in found[name]]:
            raise WeightsError(
                f"{path} does not fit the net: layer {name} is {found[name]} in the file and {own[name]} in the net; "
                "give the variant (--variant) that the weights were trained with"
            )
    if not shared:
        raise WeightsError(
            f"{path} does not fit the net: none of its {len(found)} layers has a name of the net's"
        )
    missing = [name for name in own if name not in found]
    if complete and missing:
        raise WeightsError(
            f"{path} does not fit the net: it lacks {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}"
        )
    if packed_weights.is_packed(path):
        layers, _ = packed_weights.read(path)
        for name in shared:
            for blob, values in zip(net.params[name], layers[name]):
                blob.data[...] = values
    else:
        net.copy_from(str(path))
    return shared
