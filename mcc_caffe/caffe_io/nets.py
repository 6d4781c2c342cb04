"""The deploy nets that come with the project, and which of them a weights file is of."""

import pathlib

from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.weights import file_shapes
from mcc_caffe.core.files import shipped
from mcc_caffe.paper import ABLATIONS, file_suffix


def deploy_net(weights: pathlib.Path, variant: str, without: str = None) -> pathlib.Path:
    """The variant's deploy net without a stage ("mask", "pose") or, where none is named, that of the weights.

    That is the whole net or, where the weights lack its layers, the ablation that they fill.
    """
    if without:
        return shipped(f"prototxt/{variant}/deploy{file_suffix(f'without_{without}')}.prototxt")
    held = file_shapes(weights)
    nets = [
        shipped(f"prototxt/{variant}/deploy{file_suffix(without)}.prototxt")
        for without in (None, *ABLATIONS)
    ]
    for net in nets:
        if all(
            layer.name in held
            for layer in read_text("NetParameter", net).layer
            if layer.type == "Convolution"
        ):
            return net
    return nets[0]
