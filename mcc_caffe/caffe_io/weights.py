"""Reads weights, and loads them into a net after checking what Caffe itself would abort on.

A weights file is a caffemodel or packed weights (`mcc_caffe.caffe_io.packed_weights`).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.protobuf import as_text, messages, read_binary
from mcc_caffe.caffe_io.run_folder import run_settings
from mcc_caffe.core.errors import UserError, shorten_list
from mcc_caffe.core.files import require_file, write_atomically
from mcc_caffe.paper import find_variant

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


def describe(path: str | Path) -> dict[str, Any]:
    """Collect what is known of a weights file.

    Returns:
        "file", its path, and the metadata of packed weights or, of a run's snapshot, the
        "input_size" of the run.

    Raises:
        UserError: The metadata are damaged.
        OSError: The file cannot be read.
    """
    if packed_weights.is_packed(path):
        return {"file": str(path), **packed_weights.read_metadata(path)}
    size = run_settings(path).get("input_size")
    return {"file": str(path), **({"input_size": size} if size is not None else {})}


def file_shapes(path: str | Path) -> Shapes:
    """Read the shapes of the parameters in a weights file.

    Args:
        path: Packed weights, or a caffemodel of today's format or of that before 2014.

    Raises:
        UserError: The file is missing or damaged.
    """
    if packed_weights.is_packed(require_file(path, "weights file")):
        return {
            name: [blob.shape for blob in blobs]
            for name, blobs in packed_weights.read(path).layers.items()
        }
    return model_shapes(path, read_binary("NetParameter", path))


def model_shapes(path: str | Path, model: Any) -> Shapes:
    """Return the shapes of the parameters in a caffemodel that was read.

    Args:
        path: The file, for messages.
        model: Its NetParameter.

    Raises:
        UserError: It is damaged.
    """
    return {
        name: [_checked_shape(path, name, blob) for blob in blobs]
        for name, blobs in _parameters(path, model).items()
    }


def read_variant(path: str | Path) -> str | None:
    """Return the variant that a weights file says it is of; None where it says none.

    Raises:
        UserError: The file is missing or damaged.
    """
    if packed_weights.is_packed(require_file(path, "weights file")):
        return packed_weights.read_metadata(path).get("variant")
    return find_variant(as_text(read_binary("NetParameter", path).name))


def net_shapes(net: Any) -> Shapes:
    """Return the shapes of the parameters of a Caffe net."""
    return {name: [tuple(blob.data.shape) for blob in blobs] for name, blobs in net.params.items()}


def read_caffemodel(path: str | Path) -> Caffemodel:
    """Read a caffemodel.

    Raises:
        UserError: The file is missing, damaged or packed, or a value is not finite.
    """
    if packed_weights.is_packed(require_file(path, "weights file")):
        raise UserError(f"{path} is packed: give a caffemodel")
    model = read_binary("NetParameter", path)
    layers = {
        name: [_read_blob(path, name, blob) for blob in blobs]
        for name, blobs in _parameters(path, model).items()
    }
    _check_finite(path, layers)
    return Caffemodel(layers, as_text(model.name))


def _parameters(path: str | Path, model: Any) -> dict[str, list[Any]]:
    """Return the BlobProtos of each layer of a NetParameter that has parameters.

    Raises:
        UserError: No layer has any. An empty file is such a NetParameter.
    """
    layers = {
        as_text(layer.name): list(layer.blobs)
        for layer in (*model.layer, *model.layers)
        if layer.blobs
    }
    if not layers:
        raise UserError(
            f"{path} holds no weights ({Path(path).stat().st_size} bytes): "
            "it is damaged or of another kind, get it again"
        )
    return layers


def _read_blob(path: str | Path, layer: str, blob: Any) -> np.ndarray:
    """Return the values of a BlobProto as float32.

    Raises:
        UserError: Its shape has another number of values.
    """
    shape = _checked_shape(path, layer, blob)
    with np.errstate(over="ignore"):  # infinity has an error of its own
        return blob_values(blob).astype(np.float32).reshape(shape)


def blob_values(blob: Any) -> np.ndarray:
    """Return the values of a BlobProto, (N,) float32 or float64.

    They are read from their packed form, which is several times as fast as one by one.
    """
    name, dtype = ("double_data", "<f8") if blob.double_data else ("data", "<f4")
    values = type(blob)()
    getattr(values, name).MergeFrom(getattr(blob, name))
    content, count = values.SerializeToString(), len(getattr(blob, name))
    # The one field ends the message.
    return np.frombuffer(content, dtype, count, len(content) - count * np.dtype(dtype).itemsize)


def _checked_shape(path: str | Path, layer: str, blob: Any) -> tuple[int, ...]:
    """Return the shape of a BlobProto; UserError where it has another number of values."""
    shape, count = _shape(blob), len(blob.double_data or blob.data)
    if min(shape, default=0) < 1 or math.prod(shape) != count:
        raise UserError(
            f"{path} is damaged: layer {layer} has the shape {shape} and {count} values; "
            "get it again"
        )
    return shape


def _shape(blob: Any) -> tuple[int, ...]:
    """Return the shape of a BlobProto, which old files write as four numbers."""
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    return (blob.num, blob.channels, blob.height, blob.width)


def _check_finite(path: str | Path, layers: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Raise WeightsError where a layer holds a weight that is infinite or NaN."""
    for name, blobs in layers.items():
        count = sum(int((~np.isfinite(blob)).sum()) for blob in blobs)
        if count:
            raise WeightsError(
                f"{path}: {count} of the {sum(blob.size for blob in blobs)} weights of layer "
                f"{name} are not finite (NaN or infinite): "
                "give other weights, such as those of an earlier snapshot"
            )


def same_shapes(shapes: Sequence[tuple[int, ...]], others: Sequence[tuple[int, ...]]) -> bool:
    """Tell whether blobs have these shapes, but for leading ones, which old files write."""
    return list(map(_stripped, shapes)) == list(map(_stripped, others))


def _stripped(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop the leading ones."""
    start = next((axis for axis, side in enumerate(shape) if side != 1), len(shape))
    return shape[start:]


def write_caffemodel(path: Path, name: str, layers: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write a caffemodel completely or not at all; see `encode_caffemodel`."""
    write_atomically(path, encode_caffemodel(name, layers))


def encode_caffemodel(name: str, layers: Mapping[str, Sequence[np.ndarray]]) -> bytes:
    """Return the content of a caffemodel.

    Args:
        name: The net's name.
        layers: The float32 parameter blobs of each layer.
    """
    model = messages().NetParameter(name=name)
    for layer_name, blobs in layers.items():
        layer = model.layer.add(name=layer_name, type="Convolution")
        for values in blobs:
            blob = layer.blobs.add()
            blob.shape.dim.extend(values.shape)
            blob.data.extend(values.ravel().tolist())
    content: bytes = model.SerializeToString()
    return content


def mean_layers(
    layers: Mapping[str, Sequence[np.ndarray]],
    start: Mapping[str, Sequence[np.ndarray]],
    share: float = 0.5,
) -> dict[str, list[np.ndarray]]:
    """Return the mean of weights and of those from which their training started.

    The loss is about as low half-way between the two as at both ends, and the net knows the hands
    of both trainings (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).

    Args:
        layers: {layer: its blobs} of the weights.
        start: The same of the other weights. Layers that they alone have are left out.
        share: Share of `layers` in the mean, from 0 to 1.
    """
    return {  # in this form the mean of equal numbers is exactly that number
        name: [old + np.float32(share) * (new - old) for new, old in zip(blobs, start[name])]
        for name, blobs in layers.items()
    }


def load_weights(
    net: Any, path: str | Path, complete: bool = True, variant: str | None = None
) -> list[str]:
    """Copy the layers of a weights file into a net, by their names.

    Caffe's own `copy_from` would abort the process where a file is damaged.

    Args:
        net: The Caffe net.
        path: The file.
        complete: Whether the file must have every layer of the net.
        variant: The net's variant, which the file's must not differ from; None to take any.

    Returns:
        The names of the layers that were copied.

    Raises:
        UserError: The file is missing or damaged.
        WeightsError: A shape or the variant differs, no name agrees, a layer is missing, or a value
            is not finite.
    """
    layers = fitting_layers(path, net_shapes(net), complete, variant)
    for name, blobs in layers.items():
        for blob, values in zip(net.params[name], blobs):
            blob.data[...] = values
    return list(layers)


def fitting_layers(
    path: str | Path, own: Shapes, complete: bool = True, variant: str | None = None
) -> dict[str, list[np.ndarray]]:
    """Read the layers of a net from a weights file.

    Args:
        path: The file.
        own: The shapes of the net's parameters.
        complete: Whether the file must have every layer of the net.
        variant: The net's variant, which the file's must not differ from; None to take any.

    Returns:
        {layer: its float32 parameters, of the net's shapes}, of the layers that both have.

    Raises:
        UserError: The file is missing or damaged.
        WeightsError: A shape or the variant differs, no name agrees, a layer is missing, or a value
            is not finite.
    """
    path = require_file(path, "weights file")
    packed = packed_weights.is_packed(path)
    stored: Mapping[str, Sequence[Any]]  # arrays of packed weights, else BlobProtos
    if packed:
        stored, metadata = packed_weights.read(path)
        stored_variant = metadata.get("variant")
    else:
        model = read_binary("NetParameter", path)
        stored, stored_variant = _parameters(path, model), find_variant(as_text(model.name))
    in_file = {
        name: [blob.shape if packed else _shape(blob) for blob in blobs]
        for name, blobs in stored.items()
    }
    _check_fit(path, in_file, own, complete)
    # Two variants may have the same shapes, and differ in their ReLUs.
    if variant and stored_variant not in (None, variant):
        raise WeightsError(
            f"{path} does not fit the net: it is of the variant {stored_variant}, the net of "
            f"{variant}; give the variant (--variant) that the weights were trained with"
        )
    layers = {
        name: [blob if packed else _read_blob(path, name, blob) for blob in stored[name]]
        for name in own
        if name in stored
    }
    _check_finite(path, layers)
    return {
        name: [values.reshape(shape) for values, shape in zip(blobs, own[name])]
        for name, blobs in layers.items()
    }


def _check_fit(path: Path, in_file: Shapes, own: Shapes, complete: bool) -> None:
    """Raise WeightsError where the layers of a file do not fit a net; see `fitting_layers`."""
    if (in_file.get(_OPENPOSE_LAYER) or [()])[0] == _OPENPOSE_SHAPE:
        raise WeightsError(
            f"{path} is OpenPose's hand model: make weights of our net out of it with "
            f"`python -m mcc_caffe.surgery --openpose {path} --out mcc_from_openpose.caffemodel`"
        )
    shared = [name for name in own if name in in_file]
    for name in shared:
        if not same_shapes(own[name], in_file[name]):
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
        raise WeightsError(
            f"{path} does not fit the net: it lacks {shorten_list(missing)}; "
            "give the variant, and of an ablation the prototxt, that the weights were trained with"
        )
