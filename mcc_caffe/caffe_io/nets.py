"""Finds the deploy net that a weights file belongs to, and reads deploy nets."""

from pathlib import Path
from typing import Any

from mcc_caffe.caffe_io.default_weights import are_shipped_weights
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.weights import file_shapes
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import require_file
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.paper import (
    ABLATION_OF_STAGE,
    ABLATIONS,
    IMAGE_BLOB,
    LAST_STAGE,
    file_suffix,
    stage_blob,
)


def find_deploy_net(weights: Path, variant: str, without: str | None = None) -> Path:
    """Find the deploy net of this project that weights belong to.

    Args:
        weights: A caffemodel or packed weights.
        variant: The name of the network's size.
        without: The stage that an ablation leaves out, "mask" or "pose"; None to decide by the
            layers that the weights have.

    Returns:
        The prototxt of the full net or, where the weights lack layers of it, of the ablation that
        they fill. Where they fill none, the full net, so that loading says what they lack.

    Raises:
        UserError: The weights are missing or damaged, or the net's file is missing.
    """
    if without:
        ablation = ABLATION_OF_STAGE[without]
        return require_shipped(f"prototxt/{variant}/deploy{file_suffix(ablation)}.prototxt")
    if are_shipped_weights(require_file(weights, "weights file")):  # these are of the full net
        return require_shipped(f"prototxt/{variant}/deploy.prototxt")
    shapes = file_shapes(weights)
    nets = [
        require_shipped(f"prototxt/{variant}/deploy{file_suffix(ablation)}.prototxt")
        for ablation in (None, *ABLATIONS)
    ]
    for net in nets:
        if all(
            layer.name in shapes
            for layer in read_text("NetParameter", net).layer
            if layer.type == "Convolution"
        ):
            return net
    return nets[0]


def read_deploy_net(prototxt: str | Path) -> Any:
    """Read a deploy net, which may be the user's own.

    Args:
        prototxt: Its file.

    Returns:
        The NetParameter.

    Raises:
        UserError: The file is missing or no such prototxt, or its net is one to train: it reads
            its images from a data set.
    """
    net = read_text("NetParameter", require_file(prototxt, "deploy net"))
    inputs = [
        *net.input,
        *(top for layer in net.layer if layer.type == "Input" for top in layer.top),
    ]
    kind = net.layer[0].type if net.layer else ""
    if IMAGE_BLOB not in inputs and (kind == "Python" or kind.endswith("Data")):
        raise UserError(
            f"{prototxt} begins with a data layer (type {kind}), as a net to train does: "
            "give a deploy net"
        )
    return net


def has_pose_stage(prototxt: str | Path) -> bool:
    """Tell whether a deploy net has the last pose stage, whose heatmaps are its answer.

    Args:
        prototxt: As `read_deploy_net` takes it.

    Raises:
        UserError: As `read_deploy_net` raises it.
    """
    net = read_deploy_net(prototxt)
    layers = [*net.layer, *net.layers]  # `layers` are those of Caffe's older form
    return any(stage_blob(LAST_STAGE) in layer.top for layer in layers)
