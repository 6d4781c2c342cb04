"""The train and deploy nets of every variant as prototxts; `prototxt.generate` writes them.

This module needs Caffe as soon as it is imported.
"""

import caffe
from caffe import layers as L

from mcc_caffe.core.hand_boxes import (
    BOX_BATCH_SIZE,
    BOX_FEATURES_BLOB,
    BOX_SAMPLE_SIZE,
    IN_HANDS_BLOB,
    IS_HAND_BLOB,
    SIDES_BLOB,
)
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data_layer import TOPS, TOPS_WITHOUT_MASK
from mcc_caffe.paper import (
    ABLATIONS,
    DATA_BLOB,
    HEATMAPS_BLOB,
    IMAGE_BLOB,
    STRIDE,
    VARIANTS,
    WITHOUT_MASK,
    WITHOUT_POSE,
    Variant,
    file_suffix,
)
from prototxt.network import add_network, box_head, box_losses, vgg_layers

HEADER = "# Written by `make prototxt` (prototxt/generate.py): change that, not this file.\n"
SOURCE = "data/lmdb/train"  # of the train nets; mcc_caffe.train names the user's set instead


def train_net(variant: Variant, without: str | None = None) -> str:
    """Return the prototxt of a training net: the Python data layer, the network, the losses.

    Args:
        variant: The size of the network, and its settings.
        without: An ablation of section 4.2 (paper.ABLATIONS), such as WITHOUT_MASK, or None for the
            full network.
    """
    net = caffe.NetSpec()
    tops = TOPS_WITHOUT_MASK if without == WITHOUT_MASK else TOPS
    config = LoaderConfig.of(variant, SOURCE)
    data = L.Python(
        module="mcc_caffe.data_layer",
        layer="HandDataLayer",
        param_str=config.to_json(),
        ntop=len(tops),
    )
    for name, blob in zip(tops, data):
        net[name] = blob
    add_network(net, variant, DATA_BLOB, without=without, train=True)
    if without == WITHOUT_POSE:
        net.silence = L.Silence(net[HEATMAPS_BLOB], ntop=0)
    return format_net(net, variant, without, "train")


def deploy_net(variant: Variant, without: str | None = None) -> str:
    """Return the prototxt of a net for inference.

    It takes `image` and returns the mask's probabilities and the last stage's heatmaps.

    Args:
        variant: The size of the network, and its settings.
        without: An ablation of section 4.2 (paper.ABLATIONS), such as WITHOUT_MASK, or None for the
            full network.
    """
    net = caffe.NetSpec()
    net[IMAGE_BLOB] = L.Input(shape=dict(dim=[1, 3, variant.input_size, variant.input_size]))
    add_network(net, variant, IMAGE_BLOB, without=without)
    return format_net(net, variant, without, "deploy")


def deploy_boxes_net(variant: Variant) -> str:
    """Return the prototxt of the trunk with the box head, which takes a whole image."""
    net = caffe.NetSpec()
    net[IMAGE_BLOB] = L.Input(shape=dict(dim=[1, 3, variant.input_size, variant.input_size]))
    box_head(net, variant, vgg_layers(net, variant, IMAGE_BLOB))
    return format_net(net, variant, None, "deploy_boxes")


def train_boxes_net(variant: Variant) -> str:
    """Return the prototxt that trains the box head; the trunk, which stays, gives the features."""
    cells = BOX_SAMPLE_SIZE // STRIDE

    def maps(channels: int) -> caffe.net_spec.Top:
        return L.Input(shape=dict(dim=[BOX_BATCH_SIZE, channels, cells, cells]))

    net = caffe.NetSpec()
    net[BOX_FEATURES_BLOB] = maps(variant.channels(512))
    net[IS_HAND_BLOB], net[IN_HANDS_BLOB], net[SIDES_BLOB] = maps(1), maps(4), maps(4)
    box_losses(net, box_head(net, variant, BOX_FEATURES_BLOB))
    return format_net(net, variant, None, "train_boxes")


def format_net(net: caffe.NetSpec, variant: Variant, without: str | None, kind: str) -> str:
    """Return a prototxt with its header and the net's name; `kind` is such as "train"."""
    name = "_".join(filter(None, ("MCC", variant.name, without, kind)))
    return f'{HEADER}name: "{name}"\n{net.to_proto()}'


def nets() -> dict[str, str]:
    """Return {relative path: prototxt} of every net."""
    files = {}
    for variant in VARIANTS.values():
        for without in (None, *ABLATIONS):
            suffix = file_suffix(without)
            files[f"{variant.name}/train{suffix}.prototxt"] = train_net(variant, without)
            files[f"{variant.name}/deploy{suffix}.prototxt"] = deploy_net(variant, without)
        files[f"{variant.name}/deploy_boxes.prototxt"] = deploy_boxes_net(variant)
        files[f"{variant.name}/train_boxes.prototxt"] = train_boxes_net(variant)
    return files
