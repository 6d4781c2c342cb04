"""Nets of one convolution, and all that their passes leave."""

import numpy as np

from mcc_caffe.caffe_io.pycaffe import import_caffe

caffe = import_caffe()

TOLERANCE = 3e-6  # of the largest value; rounding alone differs by up to 1.2e-6

# channels in and out, kernel, stride, padding, group, bias, dilation, width and height
SHAPES = [
    (3, 16, 3, 1, 1, 1, True, 1, 24, 17),  # the first layer
    (56, 32, 7, 1, 3, 1, True, 1, 16, 16),  # a stage's first
    (32, 22, 1, 1, 0, 1, True, 1, 16, 16),  # a stage's output: channels that fill no vector
    (8, 12, 3, 2, 1, 2, False, 1, 15, 20),  # what these nets do not have, but Caffe does
    (6, 5, 5, 2, 0, 1, True, 1, 5, 9),
    (4, 4, 3, 1, 2, 1, True, 2, 12, 12),  # dilated: Caffe's own runs
]


def convolution(tmp_path, engine, shape, images=2, bottoms=1, phase=caffe.TRAIN):
    """A net of one convolution of random weights, the same for every engine."""
    inside, outside, kernel, stride, pad, group, bias, dilation, width, height = shape
    tops = [
        f'layer {{ name: "x{i}" type: "Input" top: "x{i}" input_param {{ shape {{ '
        f"dim: {images} dim: {inside} dim: {height} dim: {width} }} }} }}"
        for i in range(bottoms)
    ]
    wired = " ".join(f'bottom: "x{i}" top: "y{i}"' for i in range(bottoms))
    path = tmp_path / f"{engine}.prototxt"
    path.write_text(
        "force_backward: true\n"
        + "\n".join(tops)
        + f"""
        layer {{ name: "y" type: "Convolution" {wired} convolution_param {{
            num_output: {outside} kernel_size: {kernel} stride: {stride} pad: {pad} group: {group}
            bias_term: {str(bias).lower()} dilation: {dilation} engine: {engine} }} }}"""
    )
    net = caffe.Net(str(path), phase)
    rng = np.random.default_rng(0)
    for blob in net.params["y"]:
        blob.data[...] = rng.normal(size=blob.data.shape)
    return net


def passes(net, images, seed=1):
    """Everything that a forward and two backward passes leave, whose gradients add up."""
    rng = np.random.default_rng(seed)
    bottoms = [name for name in net.blobs if name.startswith("x")]
    for name in bottoms:
        net.blobs[name].reshape(images, *net.blobs[name].shape[1:])
        net.blobs[name].data[...] = rng.normal(size=net.blobs[name].data.shape)
    net.forward()
    net.clear_param_diffs()
    for name in net.blobs:
        if name.startswith("y"):
            net.blobs[name].diff[...] = rng.normal(size=net.blobs[name].data.shape)
    net.backward()
    net.backward()
    arrays = {name: blob.data.copy() for name, blob in net.blobs.items()}
    arrays |= {f"{name} gradient": net.blobs[name].diff.copy() for name in bottoms}
    return arrays | {
        f"parameter {number}": blob.diff.copy() for number, blob in enumerate(net.params["y"])
    }


def assert_equal(actual, wanted):
    assert actual.keys() == wanted.keys()
    for name, values in wanted.items():
        assert np.abs(values).max() > 0.1, name
        assert np.abs(actual[name] - values).max() <= TOLERANCE * np.abs(values).max(), name
