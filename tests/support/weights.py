"""The mini net, and random weights with lively heatmaps."""

import pathlib
from typing import Any

import numpy as np

from mcc_caffe.caffe_io.pycaffe import import_caffe
from tests.support.commands import ROOT


def mini_net() -> Any:
    """Return the deploy net of mini as Caffe's fillers start it."""
    caffe = import_caffe()
    return caffe.Net(str(ROOT / "prototxt/mini/deploy.prototxt"), caffe.TEST)


def copy_weights(source: Any, target: Any) -> None:
    """Copy the weights of a net into another one of the same layers."""
    for name, blobs in source.params.items():
        for index, blob in enumerate(blobs):
            target.params[name][index].data[...] = blob.data


def set_random_weights(net: Any) -> None:
    """Give a net random weights, with heatmaps lively enough to tell positions apart."""
    rng = np.random.default_rng(0)
    for kernel, bias in net.params.values():
        fan_in = np.prod(kernel.data.shape[1:])
        kernel.data[...] = rng.normal(0, np.sqrt(2 / fan_in), kernel.data.shape)
        bias.data[...] = rng.normal(0, 0.1, bias.data.shape)


def lively_weights(prototxt: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """Write random weights that keep each layer's output near 1; xavier's would fade."""
    caffe = import_caffe()
    caffe.set_mode_cpu()
    net = caffe.Net(str(prototxt), caffe.TEST)
    random = np.random.default_rng(0)
    net.blobs["image"].reshape(1, 3, 184, 184)
    net.blobs["image"].data[...] = random.uniform(-0.5, 0.5, (1, 3, 184, 184))
    for index, name in enumerate(net._layer_names):
        if name in net.params:
            kernel, bias = net.params[name]
            kernel.data[...] = random.normal(0, 1, kernel.data.shape)
            net._forward(index, index)
            kernel.data[...] /= net.blobs[name].data.std()
            bias.data[...] = random.normal(0, 0.1, bias.data.shape)
        net._forward(index, index)
    net.save(str(path))
    return path
