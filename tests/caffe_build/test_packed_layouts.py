"""Convolutions keep values and gradients, and weights in inference, in oneDNN's layout, unseen.

Each net runs beside the same one with Caffe's own convolutions (`engine: CAFFE`) or beside a new
net with the same weights, whose results must be equal to the last bit.
"""

import ctypes
import gc
import os
from pathlib import Path

import numpy as np
import pytest

from mcc_caffe.caffe_io.precision import BFLOAT16, FLOAT32, PRECISION_VARIABLE
from mcc_caffe.caffe_io.pycaffe import import_caffe
from tests.support.builds import needs_onednn
from tests.support.chains import (
    BOTH_PHASES,
    CHAIN,
    CONVOLUTION,
    assert_near,
    assert_same_gradients,
    chain,
    fresh,
    result,
)
from tests.support.commands import run_code
from tests.support.weights import copy_weights

caffe = import_caffe()
caffe.set_mode_cpu()
pytestmark = needs_onednn

# Behind a pooling: a layer in place, and one whose gradients are plain.
IN_PLACE = (
    CONVOLUTION
    + """
    layer {{ name: "pool" type: "Pooling" bottom: "a" top: "pool"
        pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
    layer {{ name: "relu" type: "ReLU" bottom: "pool" top: "pool" }}
    layer {{ name: "h" type: "InnerProduct" bottom: "pool" top: "h"
        inner_product_param {{ num_output: 4 {filler} }} }}
"""
)
# A pooling whose last windows in a row of 18 begin behind it.
SPARSE = (
    CONVOLUTION
    + """
    layer {{ name: "pool" type: "Pooling" bottom: "a" top: "h"
        pooling_param {{ pool: MAX kernel_size: 1 stride: 2 }} }}
"""
)


def settled(folder):
    """A net that keeps packed weights: no array of them is left, and it has run twice."""
    caffe.set_random_seed(0)
    net = chain(folder)
    gc.collect()
    result(net)
    result(net, 1)
    return net


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16])
def test_changed_weights_count_at_once(precision, tmp_path, monkeypatch):
    monkeypatch.setenv(PRECISION_VARIABLE, precision)
    net = settled(tmp_path)
    before = result(net)
    for name in ("a", "d", "h"):
        net.params[name][0].data[...] *= 1.5
        now = result(net)
        assert np.abs(now - before).max() > 0
        np.testing.assert_array_equal(now, result(fresh(tmp_path, net)))
        before = now


def test_an_array_of_the_weights_that_is_kept(tmp_path):
    net = settled(tmp_path)
    array = net.params["b"][0].data
    for factor in (2, 0.5, 3):
        array *= factor  # no call of Caffe's tells it
        np.testing.assert_array_equal(result(net), result(fresh(tmp_path, net)))
    part = array[3:5]
    del array
    part[...] = 1
    np.testing.assert_array_equal(result(net), result(fresh(tmp_path, net)))
    part[...] = 2
    del part
    gc.collect()
    np.testing.assert_array_equal(result(net), result(fresh(tmp_path, net)))


def test_weights_from_a_file(tmp_path):
    net, other = settled(tmp_path), chain(tmp_path)
    other.save(str(tmp_path / "other.caffemodel"))
    other.save_hdf5(str(tmp_path / "other.h5"))
    wanted = result(other)
    assert np.abs(result(net) - wanted).max() > 0
    net.copy_from(str(tmp_path / "other.caffemodel"))
    np.testing.assert_array_equal(result(net), wanted)
    net = settled(tmp_path)
    net.load_hdf5(str(tmp_path / "other.h5"))
    np.testing.assert_array_equal(result(net), wanted)


def test_two_nets_that_share_weights(tmp_path):
    net, other = settled(tmp_path), settled(tmp_path)
    net.share_with(other)
    np.testing.assert_array_equal(result(net), result(other))
    other.params["a"][0].data[...] *= 2
    wanted = result(fresh(tmp_path, other))
    np.testing.assert_array_equal(result(net), wanted)
    np.testing.assert_array_equal(result(other), wanted)
    array = net.params["d"][0].data
    array[...] = 0.01
    wanted = result(fresh(tmp_path, net))
    np.testing.assert_array_equal(result(other), wanted)
    np.testing.assert_array_equal(result(net), wanted)


def test_a_test_net_after_steps_of_a_solver(tmp_path):
    loss = """layer { name: "loss" type: "EuclideanLoss" bottom: "h" bottom: "zeros"
        top: "loss" }"""
    zeros = """layer { name: "zeros" type: "DummyData" top: "zeros" dummy_data_param { shape {
        dim: 2 dim: 2 dim: 6 dim: 5 } data_filler { type: "constant" value: 1 } } }"""
    chain(tmp_path, extra=zeros + loss)
    (tmp_path / "solver.prototxt").write_text(
        f'train_net: "{tmp_path}/chain.prototxt" test_net: "{tmp_path}/chain.prototxt" '
        f"test_iter: 1 test_interval: 1000 test_initialization: false base_lr: 0.001 "
        f'lr_policy: "fixed" display: 0 snapshot_prefix: "{tmp_path}/s" type: "Adam"'
    )
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    test_net = solver.test_nets[0]
    test_net.share_with(solver.net)  # as Solver::Test does before each test
    results = []
    for step in range(3):
        results.append(result(test_net))
        np.testing.assert_array_equal(results[-1], result(fresh(tmp_path, solver.net)))
        result(solver.net, seed=step)
        solver.step(1)
    assert np.abs(results[1] - results[0]).max() > 0
    assert np.abs(results[2] - results[1]).max() > 0


def test_training_then_inference_of_the_same_file(tmp_path):
    train, test = chain(tmp_path, phase=caffe.TRAIN), settled(tmp_path)
    copy_weights(train, test)
    for seed in range(3):
        assert_near(result(test, seed), result(train, seed))


@pytest.mark.parametrize("shape", [(1, 3, 21, 18), (2, 3, 16, 16), (3, 3, 7, 33)])
def test_every_blob_is_that_of_caffes_own_layers(tmp_path, shape):
    net = settled(tmp_path)
    own = fresh(tmp_path, net, "CAFFE")
    result(net, 2, shape)
    result(own, 2, shape)
    for name in own.blobs:
        assert_near(net.blobs[name].data, own.blobs[name].data)
    # Now that Python has arrays of all of them, they are as right as before, and see each pass.
    arrays = {name: blob.data for name, blob in net.blobs.items()}
    result(net, 3, shape)
    result(own, 3, shape)
    for name in own.blobs:
        assert_near(arrays[name], own.blobs[name].data)


def test_a_blob_that_is_read_sees_every_pass(tmp_path):
    for read in ("a", "b", "pool", "c", "joined", "f", "g"):
        net = settled(tmp_path)
        own = fresh(tmp_path, net, "CAFFE")
        array = net.blobs[read].data
        for seed in range(3):
            result(own, seed)
            assert_near(result(net, seed), own.blobs["h"].data)
            assert_near(array, own.blobs[read].data)


def test_parts_of_a_pass(tmp_path):
    net = settled(tmp_path)
    own = fresh(tmp_path, net, "CAFFE")
    result(own)  # the blobs of a split are the same memory from its first pass on
    for each_net in (net, own):
        each_net.blobs["x"].data[...] = np.random.default_rng(5).normal(
            size=each_net.blobs["x"].data.shape
        )
        each_net.forward(end="b")  # the ReLU that follows does not run
    assert own.blobs["b"].data.min() < 0
    assert_near(net.blobs["b"].data, own.blobs["b"].data)
    for each_net in (net, own):
        each_net.forward(start="relu_b", end="pool")
    assert_near(net.blobs["pool"].data, own.blobs["pool"].data)
    for each_net in (net, own):
        each_net.blobs["pool"].data[...] += 1
        each_net.forward(start="c")
    assert_near(net.blobs["h"].data, own.blobs["h"].data)


def test_functions_that_look_between_layers(tmp_path):
    net = settled(tmp_path)
    own = fresh(tmp_path, net, "CAFFE")
    least = {}
    net.after_forward(lambda layer: least.update({layer: net.blobs["a"].data.min()}))
    assert_near(result(net, 1), result(own, 1))
    layers = list(net._layer_names)
    assert least[layers.index("a")] < 0 <= least[layers.index("relu_a")]


def whole_numbers(folder, phase, engine="", layers=CHAIN):
    """A net whose sums are exact in float32, in any order, so that rounding decides no maximum."""
    net, rng = chain(folder, engine, phase=phase, layers=layers), np.random.default_rng(7)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.integers(-1, 2, blob.data.shape) * rng.integers(
                0, 2, blob.data.shape
            )
    return net


def pass_both_ways(net, seed, shape=(2, 3, 21, 18)):
    """A pass forward and one backward, both from whole numbers; nothing else is read or written."""
    rng = np.random.default_rng(seed)
    net.blobs["x"].reshape(*shape)
    net.blobs["x"].data[...] = rng.integers(-2, 3, shape)
    net.forward()
    net.clear_param_diffs()
    output = net.blobs["h"]
    output.diff[...] = rng.integers(-2, 3, output.diff.shape)
    net.backward()


@BOTH_PHASES
def test_backward_passes(tmp_path, phase):
    net, own = whole_numbers(tmp_path, phase), whole_numbers(tmp_path, phase, "CAFFE")
    shapes = [(2, 3, 21, 18), (2, 3, 21, 18), (1, 3, 16, 16), (3, 3, 7, 33), (2, 3, 21, 18)]
    for seed, shape in enumerate(shapes):
        for each_net in (net, own):
            pass_both_ways(each_net, seed, shape)
        assert_same_gradients(net, own)
    for name in own.blobs:
        np.testing.assert_array_equal(net.blobs[name].data, own.blobs[name].data)
        np.testing.assert_array_equal(net.blobs[name].diff, own.blobs[name].diff)


@BOTH_PHASES
@pytest.mark.parametrize("kind", ["data", "diff"])
@pytest.mark.parametrize("read", ["a", "b", "pool", "c", "joined", "d", "e", "f", "g"])
def test_a_blob_that_is_read_while_others_stay_packed(tmp_path, phase, kind, read):
    net, own = whole_numbers(tmp_path, phase), whole_numbers(tmp_path, phase, "CAFFE")
    for seed in range(4):
        for each_net in (net, own):
            pass_both_ways(each_net, seed)
        if seed == 1:  # from here on Python has an array of it
            arrays = [getattr(each_net.blobs[read], kind) for each_net in (net, own)]
        if seed >= 1:
            np.testing.assert_array_equal(*arrays)
        assert_same_gradients(net, own)


@BOTH_PHASES
def test_what_a_layer_in_place_made_of_the_maxima_stays(tmp_path, phase):
    net, own = (whole_numbers(tmp_path, phase, engine, IN_PLACE) for engine in ("", "CAFFE"))
    for each_net in (net, own):
        pass_both_ways(each_net, 1)
        each_net.clear_param_diffs()
        each_net.backward()
    assert_same_gradients(net, own)
    np.testing.assert_array_equal(net.blobs["pool"].data, own.blobs["pool"].data)
    assert net.blobs["pool"].data.min() == 0


@BOTH_PHASES
def test_pooling_windows_behind_the_image(tmp_path, phase):
    net, own = (whole_numbers(tmp_path, phase, engine, SPARSE) for engine in ("", "CAFFE"))
    for each_net in (net, own):
        pass_both_ways(each_net, 1)
    assert_same_gradients(net, own)
    most = net.blobs["h"].data
    np.testing.assert_array_equal(most, own.blobs["h"].data)
    empty = most == -np.finfo(np.float32).max
    assert empty[..., -1].all() and not empty[..., :-1].any()


def test_gradients_that_are_changed_between_layers(tmp_path):
    net, own = (whole_numbers(tmp_path, caffe.TRAIN, engine) for engine in ("", "CAFFE"))
    for each_net in (net, own):
        pass_both_ways(each_net, 3)
        each_net.backward(end="e")
        each_net.blobs["e"].diff[...] *= -2
        each_net.backward(start="relu_d", end="pool")
        each_net.blobs["b"].diff[...] += 1
        each_net.backward(start="relu_b")
    np.testing.assert_array_equal(net.blobs["x"].diff, own.blobs["x"].diff)


def test_steps_of_a_solver(tmp_path):
    target = """layer { name: "target" type: "DummyData" top: "target" dummy_data_param { shape {
        dim: 2 dim: 2 dim: 6 dim: 5 } data_filler { type: "constant" value: 1 } } }
        layer { name: "loss" type: "EuclideanLoss" bottom: "h" bottom: "target" top: "loss" }"""
    caffe.set_random_seed(3)
    solvers = []
    for engine in ("", "CAFFE"):
        chain(tmp_path, engine, extra=target)
        (tmp_path / "solver.prototxt").write_text(
            f'train_net: "{tmp_path}/chain{engine}.prototxt" base_lr: 0.00001 lr_policy: "fixed" '
            f'momentum: 0.9 iter_size: 2 display: 0 snapshot_prefix: "{tmp_path}/s" type: "SGD"'
        )
        solvers.append(caffe.get_solver(str(tmp_path / "solver.prototxt")))
    net, own = (solver.net for solver in solvers)
    copy_weights(own, net)
    x = np.random.default_rng(1).normal(size=own.blobs["x"].data.shape)
    losses = []
    for _ in range(5):
        for solver in solvers:
            solver.net.blobs["x"].data[...] = x
            solver.step(1)
            losses.append(float(solver.net.blobs["loss"].data))
    np.testing.assert_allclose(losses[::2], losses[1::2], rtol=1e-4)
    assert losses[-1] < 0.95 * losses[0]


def test_other_sizes_and_back(tmp_path):
    net = settled(tmp_path)
    shapes = [(2, 3, 21, 18), (1, 3, 40, 33), (3, 3, 8, 9), (2, 3, 21, 18), (1, 3, 5, 5)]
    for seed, shape in enumerate(shapes * 2):
        np.testing.assert_array_equal(
            result(net, seed, shape), result(fresh(tmp_path, net), seed, shape)
        )


def test_sizes_that_take_turns(tmp_path):
    net = settled(tmp_path)
    # More sizes than a layer keeps primitives for; those that come again find their own.
    shapes = [(images, 3, 12, 10) for images in (1, 2, 1, 3, 4, 5, 6, 1, 2, 2, 1)]
    for factor in (1, -2):
        net.params["b"][0].data[...] *= factor
        gc.collect()
        results = [result(net, seed, shape) for seed, shape in enumerate(shapes)]
        other = fresh(tmp_path, net)
        for seed, shape in enumerate(shapes):
            np.testing.assert_array_equal(results[seed], result(other, seed, shape))


def test_infinity_and_nan_go_through_as_in_caffe(tmp_path):
    net = settled(tmp_path)
    own = fresh(tmp_path, net, "CAFFE")
    for value in (np.nan, np.inf, -np.inf):
        for each_net in (net, own):
            each_net.blobs["x"].data[...] = 1
            each_net.blobs["x"].data[0, 1, 7, 7] = value
            each_net.forward(end="pool")
        values, wanted = (each_net.blobs["b"].data for each_net in (net, own))
        assert not np.isfinite(wanted).all()
        np.testing.assert_array_equal(np.isnan(values), np.isnan(wanted))


def test_infinity_and_nan_go_back_as_in_caffe(tmp_path):
    net, own = (whole_numbers(tmp_path, caffe.TRAIN, engine) for engine in ("", "CAFFE"))
    for value in (np.nan, np.inf, -np.inf):
        for each_net in (net, own):
            each_net.blobs["x"].data[...] = 1
            each_net.blobs["x"].data[0, 1, 7, 7] = value
            each_net.forward()
            each_net.clear_param_diffs()
            each_net.blobs["h"].diff[...] = 1
            each_net.backward()
        for name in ("a", "b"):
            values, wanted = (each_net.params[name][0].diff for each_net in (net, own))
            np.testing.assert_array_equal(np.isfinite(values), np.isfinite(wanted))


@BOTH_PHASES
def test_memory_does_not_grow(tmp_path, phase):
    net = chain(tmp_path, images=2, height=96, width=96, phase=phase)
    sizes = []
    for count in range(200):
        result(net, count, (2, 3, 96, 96) if count % 2 else (1, 3, 64, 80))
        if phase == caffe.TRAIN:
            net.backward()
        if count in (61, 199):  # both of the large size
            # Unless it is asked, the allocator keeps now more and now less, some MiB, for later.
            ctypes.CDLL(None).malloc_trim(0)
            status = Path("/proc/self/status").read_text()
            sizes.append(int(status.split("VmRSS:")[1].split()[0]))
    assert sizes[1] - sizes[0] < 2048, sizes  # KiB


@pytest.mark.parametrize("threads", [1, 2])
def test_pooling_and_relu_with_threads(tmp_path, threads):
    """Forward and backward of larger blobs, of which threads take parts, against NumPy."""
    code = """
import sys
import numpy as np
from mcc_caffe.caffe_io.pycaffe import import_caffe
caffe = import_caffe()
for images, height, width in ((1, 67, 51), (2, 40, 33), (3, 31, 64)):
    open(sys.argv[1], "w").write('''force_backward: true
        layer { name: "x" type: "Input" top: "x" input_param { shape {
            dim: %d dim: 12 dim: %d dim: %d } } }
        layer { name: "y" type: "ReLU" bottom: "x" top: "y" }
        layer { name: "z" type: "Pooling" bottom: "y" top: "z"
            pooling_param { pool: MAX kernel_size: 2 stride: 2 } }''' % (images, height, width))
    for phase in (caffe.TRAIN, caffe.TEST):
        net = caffe.Net(sys.argv[1], phase)
        rng = np.random.default_rng(0)
        x = rng.permutation(images * 12 * height * width).reshape(images, 12, height, width) - 9000
        x = x.astype(np.float32)
        net.blobs["x"].data[...] = x
        net.forward()
        y = np.maximum(x, 0)
        np.testing.assert_array_equal(net.blobs["y"].data, y)
        h, w = -(-height // 2), -(-width // 2)
        filled = np.full((images, 12, 2 * h, 2 * w), -1, np.float32)
        filled[:, :, :height, :width] = y
        windows = filled.reshape(images, 12, h, 2, w, 2).transpose(0, 1, 2, 4, 3, 5)
        windows = windows.reshape(images, 12, h, w, 4)
        np.testing.assert_array_equal(net.blobs["z"].data, windows.max(-1))
        g = rng.normal(size=net.blobs["z"].data.shape).astype(np.float32)
        net.blobs["z"].diff[...] = g
        net.backward()
        back = np.zeros_like(windows)
        np.put_along_axis(back, windows.argmax(-1)[..., None], g[..., None], -1)
        back = back.reshape(images, 12, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5)
        back = back.reshape(filled.shape)[:, :, :height, :width] * (x > 0)
        np.testing.assert_array_equal(net.blobs["x"].diff, back)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    run_code(code, tmp_path / "net.prototxt", check=True, env=environment)
