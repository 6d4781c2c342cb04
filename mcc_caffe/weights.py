"""Loads weights into a net, after checking what Caffe itself would abort on."""
import pathlib

from mcc_caffe.errors import UserError
from mcc_caffe.files import existing
from mcc_caffe.protobuf import read_binary


class WeightsError(UserError):
    """Weights that do not fit the net."""

    code = 3


def file_shapes(path) -> dict:
    """{layer: [shape, ...]} of the parameters in a caffemodel, of today's format or of that before 2014."""
    model = read_binary("NetParameter", existing(path, "weights file"))
    layers = list(model.layer) + list(model.layers)
    return {layer.name: [_shape(blob) for blob in layer.blobs] for layer in layers if layer.blobs}


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
    shared = [name for name in own if name in found]
    for name in shared:
        if [_stripped(shape) for shape in own[name]] != [_stripped(shape) for shape in found[name]]:
            raise WeightsError(
                f"{path} does not fit the net: layer {name} is {found[name]} in the file and {own[name]} in the net; "
                "give the variant (--variant) that the weights were trained with"
            )
    if not shared:
        raise WeightsError(f"{path} does not fit the net: none of its {len(found)} layers has a name of the net's")
    missing = [name for name in own if name not in found]
    if complete and missing:
        raise WeightsError(f"{path} does not fit the net: it lacks {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}")
    net.copy_from(str(path))
    return shared
