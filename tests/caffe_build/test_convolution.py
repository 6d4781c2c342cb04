"""Caffe's layers that we changed for speed: they compute what Caffe's own do."""

import os

import numpy as np
import pytest

from mcc_caffe.caffe_io.pycaffe import import_caffe
from tests.support.builds import needs_onednn
from tests.support.commands import run_code
from tests.support.convolutions import SHAPES, assert_equal, convolution, passes

caffe = import_caffe()
caffe.set_mode_cpu()
pytestmark = needs_onednn


@pytest.mark.parametrize("shape", SHAPES)
def test_both_convolutions_agree_in_forward_and_backward(tmp_path, shape):
    own, reference = (convolution(tmp_path, engine, shape) for engine in ("DEFAULT", "CAFFE"))
    assert_equal(passes(own, 2), passes(reference, 2))


def test_another_batch_size_and_back(tmp_path):
    own, reference = (convolution(tmp_path, engine, SHAPES[1]) for engine in ("DEFAULT", "CAFFE"))
    for images in (2, 5, 1, 2):
        assert_equal(passes(own, images, seed=images), passes(reference, images, seed=images))


def test_several_bottoms_share_the_weights(tmp_path):
    own, reference = (
        convolution(tmp_path, engine, SHAPES[0], bottoms=2) for engine in ("DEFAULT", "CAFFE")
    )
    assert_equal(passes(own, 2), passes(reference, 2))


def test_changed_weights_count_at_once(tmp_path):
    net = convolution(tmp_path, "DEFAULT", SHAPES[2])
    before = passes(net, 2)["y0"]
    net.params["y"][0].data[...] *= 2
    net.params["y"][1].data[...] *= 2
    np.testing.assert_allclose(passes(net, 2)["y0"], 2 * before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("engine, ran", [("DEFAULT", True), ("CAFFE", False)])
def test_the_layer_says_which_convolution_runs(tmp_path, engine, ran):
    convolution(tmp_path, engine, SHAPES[0])
    code = (
        f"import caffe; caffe.Net({str(tmp_path / f'{engine}.prototxt')!r}, caffe.TRAIN).forward()"
    )
    environment = {**os.environ, "DNNL_VERBOSE": "1", "ONEDNN_VERBOSE": "1"}
    told = run_code(code, check=True, env=environment).stdout
    assert ("convolution" in told) == ran


def pooled(tmp_path, values, kernel=2):
    path = tmp_path / "pool.prototxt"
    path.write_text(f"""force_backward: true
        layer {{ name: "x" type: "Input" top: "x" input_param {{
            shape {{ dim: 1 dim: 1 dim: {values.shape[0]} dim: {values.shape[1]} }} }} }}
        layer {{ name: "y" type: "Pooling" bottom: "x" top: "y"
            pooling_param {{ pool: MAX kernel_size: {kernel} stride: 2 }} }}""")
    net = caffe.Net(str(path), caffe.TRAIN)
    net.blobs["x"].data[0, 0] = values
    net.forward()
    net.blobs["y"].diff[...] = 1
    net.backward()
    return net.blobs["y"].data[0, 0], net.blobs["x"].diff[0, 0]


def test_max_pooling_by_hand(tmp_path):
    # Odd sides: Caffe's last windows are cut. Of equal values the first one is the maximum.
    most, gradient = pooled(tmp_path, np.array([[1, 2, -5], [3, 3, -4], [-7, -6, 9]], np.float32))
    np.testing.assert_array_equal(most, [[3, -4], [-6, 9]])
    np.testing.assert_array_equal(gradient, [[0, 0, 0], [1, 0, 1], [0, 1, 1]])


def test_max_pooling_of_a_nan_stays_within_its_window(tmp_path):
    most, gradient = pooled(tmp_path, np.array([[np.nan, 2, 1, 5], [3, 3, 0, 0]], np.float32))
    assert np.isnan(most[0, 0]) and most[0, 1] == 5
    np.testing.assert_array_equal(gradient, [[1, 0, 0, 1], [0, 0, 0, 0]])


def test_max_pooling_of_windows_behind_the_image(tmp_path):
    # The stride is above the kernel, so that the last windows begin where the image ends.
    most, gradient = pooled(tmp_path, np.arange(16, dtype=np.float32).reshape(4, 4), kernel=1)
    none = -np.finfo(np.float32).max
    np.testing.assert_array_equal(most, [[0, 2, none], [8, 10, none], [none] * 3])
    np.testing.assert_array_equal(gradient, [[1, 0, 1, 0], [0] * 4] * 2)


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_relu_in_place_by_hand(tmp_path, slope):
    path = tmp_path / "relu.prototxt"
    path.write_text(f"""force_backward: true
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 37 }} }} }}
        layer {{ name: "y" type: "Power" bottom: "x" top: "y" }}
        layer {{ name: "relu" type: "ReLU" bottom: "y" top: "y"
            relu_param {{ negative_slope: {slope} }} }}""")
    net = caffe.Net(str(path), caffe.TRAIN)
    values = np.arange(-18, 19, dtype=np.float32)
    net.blobs["x"].data[0] = values
    net.forward()
    net.blobs["y"].diff[0] = np.arange(37) + 1
    net.backward()
    np.testing.assert_allclose(
        net.blobs["y"].data[0], np.where(values > 0, values, slope * values), rtol=1e-6
    )
    np.testing.assert_allclose(
        net.blobs["x"].diff[0], np.where(values > 0, 1, slope) * (np.arange(37) + 1), rtol=1e-6
    )
