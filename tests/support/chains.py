"""Chains of layers whose convolutions hand values on in oneDNN's layout, and what they compute."""

from pathlib import Path

import numpy as np
import pytest

from mcc_caffe.caffe_io.pycaffe import import_caffe
from tests.support.weights import copy_weights

caffe = import_caffe()

TOLERANCE = 3e-6  # of the largest value; rounding alone differs by up to 1.5e-6

# What the nets below begin with.
CONVOLUTION = """
    layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{
        dim: {images} dim: 3 dim: {height} dim: {width} }} }} }}
    layer {{ name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {{
        num_output: 16 kernel_size: 3 pad: 1 {engine} {filler} }} }}
"""
# Convolutions, ReLUs in place, a pooling, a blob that two layers read, a concatenation, as in the
# nets of this project; a ReLU with a slope, one into a blob of its own, and a padded pooling.
CHAIN = (
    CONVOLUTION
    + """
    layer {{ name: "relu_a" type: "ReLU" bottom: "a" top: "a" }}
    layer {{ name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param {{
        num_output: 24 kernel_size: 3 pad: 1 {engine} {filler} }} }}
    layer {{ name: "relu_b" type: "ReLU" bottom: "b" top: "b" }}
    layer {{ name: "pool" type: "Pooling" bottom: "b" top: "pool"
        pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
    layer {{ name: "c" type: "Convolution" bottom: "pool" top: "c" convolution_param {{
        num_output: 22 kernel_size: 1 {engine} {filler} }} }}
    layer {{ name: "relu_c" type: "ReLU" bottom: "c" top: "c"
        relu_param {{ negative_slope: 0.25 }} }}
    layer {{ name: "joined" type: "Concat" bottom: "c" bottom: "pool" top: "joined" }}
    layer {{ name: "d" type: "Convolution" bottom: "joined" top: "d" convolution_param {{
        num_output: 8 kernel_size: 5 pad: 2 {engine} {filler} }} }}
    layer {{ name: "relu_d" type: "ReLU" bottom: "d" top: "e" }}
    layer {{ name: "e" type: "Convolution" bottom: "e" top: "f" convolution_param {{
        num_output: 16 kernel_size: 3 pad: 1 {engine} {filler} }} }}
    layer {{ name: "pool_f" type: "Pooling" bottom: "f" top: "g"
        pooling_param {{ pool: MAX kernel_size: 3 stride: 2 pad: 1 }} }}
    layer {{ name: "h" type: "Convolution" bottom: "g" top: "h" convolution_param {{
        num_output: 2 kernel_size: 1 {engine} {filler} }} }}
"""
)
FILLER = 'weight_filler { type: "msra" } bias_filler { type: "constant" value: 0.1 }'
BOTH_PHASES = pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])


def chain(
    folder: Path,
    engine="",
    images=2,
    height=21,
    width=18,
    extra="",
    phase=caffe.TEST,
    layers=CHAIN,
):
    text = layers.format(
        images=images,
        height=height,
        width=width,
        engine=f"engine: {engine}" if engine else "",
        filler=FILLER,
    )
    path = folder / f"chain{engine}.prototxt"
    path.write_text("force_backward: true\n" + text + extra)
    return caffe.Net(str(path), phase)


def fresh(folder: Path, net, engine=""):
    """A new net with a net's weights, which has computed nothing yet."""
    new = chain(folder, engine)
    copy_weights(net, new)
    return new


def result(net, seed=0, shape=None):
    """A copy of the net's output, the only blob that is read."""
    shape = shape or net.blobs["x"].shape
    net.blobs["x"].reshape(*shape)
    net.blobs["x"].data[...] = np.random.default_rng(seed).normal(size=tuple(shape))
    net.forward()
    return net.blobs["h"].data.copy()


def assert_near(values, wanted):
    assert values.shape == wanted.shape
    assert np.abs(wanted).max() > 0
    assert np.abs(values - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def assert_same_gradients(net, own):
    np.testing.assert_array_equal(net.blobs["x"].diff, own.blobs["x"].diff)
    for name, blobs in own.params.items():
        for index, blob in enumerate(blobs):
            assert 0 < np.abs(blob.diff).max() < 2**20
            np.testing.assert_array_equal(net.params[name][index].diff, blob.diff)
