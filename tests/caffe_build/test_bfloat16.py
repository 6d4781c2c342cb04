"""Convolutions in bfloat16 multiply rounded numbers, add up float32, and leave all else as it is.

The reference is Caffe's own convolution in float32 of numbers that NumPy has rounded. Where the
processor has bfloat16, these tests run on it, else on numbers that our layer rounds.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from mcc_caffe.caffe_io.precision import PRECISION_VARIABLE
from mcc_caffe.caffe_io.pycaffe import import_caffe
from tests.support.builds import needs_onednn
from tests.support.chains import (
    BOTH_PHASES,
    assert_near,
    assert_same_gradients,
    chain,
    fresh,
    result,
)
from tests.support.commands import run_code, run_program
from tests.support.convolutions import SHAPES, TOLERANCE, assert_equal, convolution, passes
from tests.support.weights import copy_weights

caffe = import_caffe()
caffe.set_mode_cpu()
pytestmark = needs_onednn

# The processor multiplies channels in pairs. Where the second of a pair is lacking, oneDNN
# multiplies the next pixel by 0, which is not 0 where that pixel is infinite: so there are two.
INPUT = """
    layer { name: "x" type: "Input" top: "x" input_param { shape {
        dim: 1 dim: 2 dim: 1 dim: 12 } } }"""


@pytest.fixture(autouse=True)
def bfloat16(monkeypatch):
    """Nets that are made in a test compute in bfloat16."""
    monkeypatch.setenv(PRECISION_VARIABLE, "bfloat16")


def rounded(values):
    """The nearest bfloat16 of float32 values, ties to even, as float32; all are finite."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    bits += 0x7FFF + (bits >> 16 & 1)
    return (bits.astype(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def net_of(folder: Path, text, phase=caffe.TEST):
    path = folder / "net.prototxt"
    path.write_text("force_backward: true\n" + text)
    return caffe.Net(str(path), phase)


def test_numbers_become_the_nearest_with_eight_digits(tmp_path):
    net = net_of(
        tmp_path,
        INPUT
        + """layer { name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {
            num_output: 1 kernel_size: 1 bias_term: false } }""",
    )
    net.params["y"][0].data[...] = np.reshape([1, 0], (1, 2, 1, 1))
    step = 2.0**-7  # between 1 and 2
    pairs = [
        (1.0, 1.0),
        (-3.140625, -3.140625),
        (1 + step / 2, 1.0),  # in the middle: to the even one
        (1 + 3 * step / 2, 1 + 2 * step),
        (1 + step / 2 + 2.0**-20, 1 + step),
        (1 + step / 2 - 2.0**-20, 1.0),
        (-0.1, -0.10009765625),
        (65535.0, 65536.0),
        (3.4e38, np.inf),  # more than the largest, 3.39e38
        (-np.inf, -np.inf),
        (np.nan, np.nan),
        (0.0, 0.0),
    ]
    net.blobs["x"].data[0, 0, 0] = [value for value, _ in pairs]
    net.blobs["x"].data[0, 1] = 0
    net.forward()
    wanted = np.float32([value for _, value in pairs])
    np.testing.assert_array_equal(net.blobs["y"].data.ravel(), wanted)
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(
        rounded([value for value, _ in pairs])[finite], wanted[finite]
    )  # the reference of the tests below


@pytest.mark.parametrize("shape", SHAPES[:-1])
@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_a_convolution_is_that_of_rounded_numbers(tmp_path, monkeypatch, shape, phase):
    net = convolution(tmp_path, "DEFAULT", shape, phase=phase)
    reference = convolution(tmp_path, "CAFFE", shape, phase=phase)
    reference.params["y"][0].data[...] = rounded(reference.params["y"][0].data)
    rng = np.random.default_rng(4)
    x = rng.normal(size=net.blobs["x0"].data.shape)
    gradient = rng.normal(size=net.blobs["y0"].data.shape)
    for each_net, change in ((net, np.float32), (reference, rounded)):
        each_net.blobs["x0"].data[...] = change(x)
        each_net.forward()
        each_net.clear_param_diffs()
        each_net.blobs["y0"].diff[...] = change(gradient)
        each_net.backward()
    names = ("result", "gradient of x", "gradient of the weights")
    for name, values, wanted in zip(names, _arrays(net), _arrays(reference), strict=True):
        assert np.abs(wanted).max() > 0.1, name
        tolerance = TOLERANCE * np.abs(wanted).max()
        assert np.abs(values - wanted).max() <= tolerance, name
    # And it is not that of the numbers themselves.
    monkeypatch.setenv(PRECISION_VARIABLE, "float32")
    exact = convolution(tmp_path, "DEFAULT", shape, phase=phase)
    exact.blobs["x0"].data[...] = x
    exact.forward()
    assert np.abs(exact.blobs["y0"].data - net.blobs["y0"].data).max() > 1e-4


def _arrays(net):
    return net.blobs["y0"].data, net.blobs["x0"].diff, net.params["y"][0].diff


SMALL = """
    layer { name: "x" type: "Input" top: "x" input_param { shape {
        dim: 2 dim: 3 dim: 11 dim: 14 } } }
    layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
        num_output: 16 kernel_size: 3 pad: 1 %s } }
    layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
    layer { name: "pool" type: "Pooling" bottom: "a" top: "pool"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
    layer { name: "h" type: "Convolution" bottom: "pool" top: "h" convolution_param {
        num_output: 8 kernel_size: 1 %s } }"""
# The second convolution reads what the first one packed, in another shape.
RESHAPED = """
    layer { name: "x" type: "Input" top: "x" input_param { shape {
        dim: 2 dim: 3 dim: 8 dim: 8 } } }
    layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
        num_output: 16 kernel_size: 3 pad: 1 %s } }
    layer { name: "s" type: "Reshape" bottom: "a" top: "s"
        reshape_param { shape { dim: 2 dim: 32 dim: 4 dim: 8 } } }
    layer { name: "h" type: "Convolution" bottom: "s" top: "h" convolution_param {
        num_output: 16 kernel_size: 3 pad: 1 %s } }"""


def fill(array, rng):
    """Fill an array with -1, 0 and 1, each of which is a bfloat16."""
    array[...] = rng.integers(-1, 2, array.shape)


def fill_weights(net):
    """Fill the weights of a net, the same in every net; return the generator for what follows."""
    rng = np.random.default_rng(2)
    for blobs in net.params.values():
        for blob in blobs:
            fill(blob.data, rng)
    return rng


@BOTH_PHASES
@pytest.mark.parametrize("layers", [SMALL, RESHAPED], ids=["small", "reshaped"])
def test_small_whole_numbers_are_exact(tmp_path, phase, layers):
    net = net_of(tmp_path, layers % ("", ""), phase)
    own = net_of(tmp_path, layers % ("engine: CAFFE", "engine: CAFFE"), phase)
    for each_net in (net, own):
        fill_weights(each_net)
    for seed in range(3):
        for each_net in (net, own):
            rng = np.random.default_rng(seed)
            fill(each_net.blobs["x"].data, rng)
            each_net.forward()
            each_net.clear_param_diffs()
            fill(each_net.blobs["h"].diff, rng)
            each_net.backward()
        assert_same_gradients(net, own)
        for name in own.blobs:
            assert np.abs(own.blobs[name].data).max() <= 256  # each is a bfloat16
            np.testing.assert_array_equal(net.blobs[name].data, own.blobs[name].data)


@BOTH_PHASES
def test_what_stays_packed_is_rounded_alike(tmp_path, phase):
    """Each layer reads what is packed, or the plain array where Python has one of each blob."""
    net, other = (chain(tmp_path, phase=phase) for _ in range(2))
    copy_weights(net, other)
    arrays = [(blob.data, blob.diff) for blob in other.blobs.values()]
    for seed, shape in enumerate([(2, 3, 21, 18), (1, 3, 16, 16), (2, 3, 21, 18)]):
        results = []
        for each_net in (net, other):
            results.append(result(each_net, seed, shape))
            each_net.clear_param_diffs()
            each_net.blobs["h"].diff[...] = 0.3
            each_net.backward()
        np.testing.assert_array_equal(*results)
        for name in net.params:
            gradients = [each_net.params[name][0].diff for each_net in (net, other)]
            largest = np.abs(gradients[0]).max()
            assert largest > 0 and np.abs(gradients[0] - gradients[1]).max() <= 1e-6 * largest
    assert len(arrays) == len(other.blobs)  # they have lived until here


def test_values_of_another_forward_pass_count(tmp_path):
    """Python has no array of what the second convolution reads: its version alone tells."""
    nets = []
    for engine in ("", "engine: CAFFE"):
        net = net_of(tmp_path, SMALL % (engine, engine), caffe.TRAIN)
        rng = fill_weights(net)
        fill(net.blobs["x"].data, rng)
        net.forward()
        fill(net.blobs["h"].diff, rng)
        net.backward()
        first = net.params["h"][0].diff.copy()
        fill(net.blobs["x"].data, rng)
        net.forward(end="pool")  # the second convolution does not see these before its gradient
        net.clear_param_diffs()
        net.backward()
        assert np.any(net.params["h"][0].diff != first)
        nets.append(net)
    assert_same_gradients(*nets)


@pytest.mark.parametrize("name", ["x", "pool"])
def test_values_changed_between_the_passes_count(tmp_path, name):
    """What the forward pass rounded serves the backward pass only while it is still the same."""
    net = net_of(tmp_path, SMALL % ("", ""), caffe.TRAIN)
    own = net_of(tmp_path, SMALL % ("engine: CAFFE", "engine: CAFFE"), caffe.TRAIN)
    gradients = []
    for each_net in (net, own):
        rng = fill_weights(each_net)
        fill(each_net.blobs["x"].data, rng)
        each_net.forward()
        for change in (False, True):
            if change:
                fill(each_net.blobs[name].data, rng)
            each_net.clear_param_diffs()
            fill(each_net.blobs["h"].diff, rng)
            each_net.backward()
            gradients.append(each_net.params["a" if name == "x" else "h"][0].diff.copy())
    np.testing.assert_array_equal(gradients[:2], gradients[2:])
    assert np.any(gradients[0] != gradients[1])


def test_a_dilated_convolution_stays_float32(tmp_path):
    shape = SHAPES[-1]
    net, own = (convolution(tmp_path, engine, shape) for engine in ("DEFAULT", "CAFFE"))
    assert_equal(passes(net, 2), passes(own, 2))


def test_what_layers_hand_on_is_float32(tmp_path):
    net = chain(tmp_path)
    result(net)
    for name in ("a", "b", "pool", "joined", "h"):
        values = net.blobs[name].data
        assert np.mean(values != rounded(values)) > 0.3, name


def test_a_net_keeps_the_precision_that_it_was_made_with(tmp_path, monkeypatch):
    low = chain(tmp_path)
    monkeypatch.setenv(PRECISION_VARIABLE, "float32")
    high, own = (fresh(tmp_path, low, engine) for engine in ("", "CAFFE"))
    wanted = result(own)
    assert_near(result(high), wanted)
    difference = np.abs(result(low) - wanted).max() / np.abs(wanted).max()
    assert 1e-4 < difference < 0.03


@pytest.mark.parametrize("value, refused", [("half", True), ("FLOAT32", True), ("", False)])
def test_another_precision_is_refused(tmp_path, caffe_tool, value, refused):
    text = 'name: "n"' + INPUT
    text += """layer { name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {
        num_output: 1 kernel_size: 1 } }"""
    (tmp_path / "net.prototxt").write_text(text)
    done = _stock_caffe(caffe_tool, tmp_path, value)
    assert (done.returncode != 0) == refused, done.stderr
    line = f"MCC_CAFFE_PRECISION is {value}: give float32, bfloat16 or auto"
    assert (line in done.stderr) == refused


@pytest.mark.parametrize("value", ["float32", "bfloat16", "auto"])
def test_the_stock_program_says_what_it_computes_in(tmp_path, caffe_tool, value):
    text = 'name: "n"' + INPUT
    text += """layer { name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {
        num_output: 1 kernel_size: 1 } }"""
    (tmp_path / "net.prototxt").write_text(text)
    done = _stock_caffe(caffe_tool, tmp_path, value)
    assert done.returncode == 0, done.stderr
    is_native = "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    low = value == "bfloat16" or (value == "auto" and is_native)
    name = "bfloat16" if low else "float32"
    assert done.stderr.count(f"convolutions on the CPU in {name}") == 1
    told = "rounded from float32 because this processor has none" in done.stderr
    assert told == (low and not is_native)


def _stock_caffe(program, folder, value):
    words = ("time", "-model", folder / "net.prototxt", "-iterations", 1)
    logging = {"GLOG_minloglevel": "0", "GLOG_logtostderr": "1"}
    return run_program(program, *words, env={**os.environ, PRECISION_VARIABLE: value, **logging})


def test_threads_round_alike(tmp_path):
    code = """
import sys
import numpy as np
from mcc_caffe.caffe_io.pycaffe import import_caffe
caffe = import_caffe()
net = caffe.Net(sys.argv[1], caffe.TEST)
rng = np.random.default_rng(0)
for blob in net.params["y"]:
    blob.data[...] = rng.normal(size=blob.data.shape)
net.blobs["x"].data[...] = rng.normal(size=net.blobs["x"].data.shape)
net.forward()
np.save(sys.argv[2], net.blobs["y"].data)
"""
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "x" type: "Input" top: "x" input_param { shape {
            dim: 2 dim: 16 dim: 40 dim: 44 } } }
        layer { name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {
            num_output: 8 kernel_size: 3 } }""")
    results = []
    for threads in "12":
        path = tmp_path / f"{threads}.npy"
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        run_code(code, tmp_path / "net.prototxt", path, check=True, env=environment)
        results.append(np.load(path))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)
