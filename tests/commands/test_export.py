"""`python -m mcc_caffe.export`: ONNX Runtime and OpenCV answer as Caffe does."""

import os

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format

from mcc_caffe import __version__, export
from mcc_caffe.caffe_io.default_weights import default_weights, shipped_weights
from mcc_caffe.caffe_io.onnx_model import make_onnx_model, parameter_shapes, to_onnx
from mcc_caffe.caffe_io.precision import FLOAT32
from mcc_caffe.caffe_io.protobuf import messages
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import net_shapes, read_caffemodel
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.inference.engines.caffe_engine import CaffeEngine
from mcc_caffe.paper import MASK_BLOB, VARIANTS
from tests.support.commands import ROOT, files_of, refusal, run, run_code
from tests.support.disks import replacement_fails, room_for_files
from tests.support.weights import lively_weights


def run_onnx(path, images) -> dict:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: images})))


def run_caffe(prototxt, path, images) -> dict:
    caffe = import_caffe()
    caffe.set_mode_cpu()
    net = caffe.Net(str(prototxt), str(path), caffe.TEST)
    net.blobs["image"].reshape(*images.shape)
    net.blobs["image"].data[...] = images
    return {name: values.copy() for name, values in net.forward().items()}


@pytest.mark.parametrize(
    "variant, without, outputs",
    [
        ("mini", "", {MASK_BLOB, "Mconv7_stage6"}),
        ("mini", "_without_mask", {"Mconv7_stage6"}),
        ("mini", "_without_pose", {MASK_BLOB}),
        ("paper", "", {MASK_BLOB, "Mconv7_stage6"}),
    ],
)
def test_onnx_runtime_answers_as_caffe_does(variant, without, outputs, tmp_path):
    prototxt, path, file = (
        ROOT / f"prototxt/{variant}/deploy{without}.prototxt",
        tmp_path / "net.caffemodel",
        tmp_path / "new/net.onnx",
    )
    lively_weights(prototxt, path)
    export.main(["--onnx", str(file), "--variant", variant, "--weights", str(path)])
    facts = {each.key: each.value for each in onnx.load(str(file)).metadata_props}
    assert facts["input_size"] == str(VARIANTS[variant].input_size)  # as the weights name none
    random = np.random.default_rng(1)
    for batch, height, width in [(1, 64, 64), (2, 72, 104)]:
        images = random.uniform(-0.5, 0.5, (batch, 3, height, width)).astype(np.float32)
        expected, actual = run_caffe(prototxt, path, images), run_onnx(file, images)
        assert set(actual) == set(expected) == outputs
        for name, values in expected.items():
            assert values.shape == (batch, 2 if name == MASK_BLOB else 22, height // 8, width // 8)
            assert np.abs(actual[name] - values).max() <= export.TOLERANCE and np.ptp(values) > 0.1


def test_the_file_says_what_it_is(tmp_path):
    done = run("mcc_caffe.export", "--onnx", tmp_path / "hand.onnx")
    assert done.returncode == 0, done.stderr
    assert (
        "mini.npz, opset 13; image [batch, 3, height, width], "
        "conv6_2_CPM_prob [batch, 2, height / 8, width / 8]"
    ) in done.stdout
    assert (
        "as Caffe within " in done.stderr
        and "in ONNX Runtime, with inputs of 6 shapes" in done.stderr
    )
    model = onnx.load(str(tmp_path / "hand.onnx"))
    assert model.graph.name == "MCC_mini_deploy" and model.producer_version == __version__
    session = onnxruntime.InferenceSession(
        str(tmp_path / "hand.onnx"), providers=["CPUExecutionProvider"]
    )
    assert session.get_modelmeta().custom_metadata_map == {
        "input": "(BGR - 128) / 256",
        "input_size": "208",
        "keypoints": ", ".join(NAMES),
        "license": "MIT",
        "version": __version__,
        "weights": "mini.npz",
    }
    assert (
        run("mcc_caffe.export", "--onnx", tmp_path / "mask.onnx", "--without", "pose").returncode
        == 0
    )
    assert [output.name for output in onnx.load(str(tmp_path / "mask.onnx")).graph.output] == [
        MASK_BLOB
    ]


def test_a_name_that_is_not_utf_8_is_escaped_in_the_file(tmp_path):
    weights = tmp_path / os.fsdecode(b"\xff.npz")
    weights.write_bytes(shipped_weights("mini").read_bytes())
    run("mcc_caffe.export", "--onnx", tmp_path / "hand.onnx", "--weights", weights, check=True)
    facts = {each.key: each.value for each in onnx.load(str(tmp_path / "hand.onnx")).metadata_props}
    assert facts["weights"] == r"\xff.npz"


HEAD = (
    'name: "n" layer { name: "data" type: "Input" top: "data" '
    "input_param { shape { dim: 1 dim: 2 dim: 9 dim: 9 } } } "
)


def parsed(text):
    return text_format.Parse(HEAD + text, messages().NetParameter())


@pytest.mark.parametrize(
    "layers",
    [
        'layer { name: "p" type: "Pooling" bottom: "data" top: "p" '
        "pooling_param { pool: MAX kernel_size: 2 stride: 2 } }",  # 9 cells become 5: rounded up
        'layer { name: "p" type: "Pooling" bottom: "data" top: "p" '
        "pooling_param { kernel_size: 3 stride: 2 pad: 1 } }",
        'layer { name: "p" type: "Pooling" bottom: "data" top: "p" '
        "pooling_param { kernel_size: 2 stride: 3 round_mode: FLOOR } }",
        'layer { name: "p" type: "Pooling" bottom: "data" top: "p" '
        "pooling_param { kernel_size: 2 stride: 4 pad: 1 } }",
        'layer { name: "r" type: "ReLU" bottom: "data" top: "data" } '
        'layer { name: "s" type: "ReLU" bottom: "data" top: "s" '
        "relu_param { negative_slope: 0.3 } }",
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
        "convolution_param { num_output: 4 kernel_size: 3 kernel_size: 1 pad: 2 stride: 2 "
        'dilation: 2 dilation: 1 group: 2 bias_term: false weight_filler { type: "msra" } } } '
        'layer { name: "x" type: "Softmax" bottom: "c" top: "x" softmax_param { axis: 2 } }',
        'layer { name: "o" type: "Concat" bottom: "data" bottom: "data" top: "o" }',
    ],
)
def test_each_layer_type_with_its_options(layers, tmp_path):
    net = parsed(layers)
    (tmp_path / "net.prototxt").write_text(str(net))
    caffe = import_caffe()
    reference = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    images = np.random.default_rng(0).normal(size=(3, 2, 9, 9)).astype(np.float32)
    reference.blobs["data"].reshape(*images.shape)
    reference.blobs["data"].data[...] = images
    ((name, expected),) = reference.forward().items()
    assert parameter_shapes(net) == net_shapes(reference)
    model = to_onnx(
        net, {layer: [blob.data for blob in blobs] for layer, blobs in reference.params.items()}
    )
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    actual = run_onnx(tmp_path / "net.onnx", images)[name]
    assert actual.shape == expected.shape and np.abs(actual - expected).max() <= 1e-5


@pytest.mark.parametrize(
    "layers, message",
    [
        (
            'layer { name: "s" type: "Sigmoid" bottom: "data" top: "s" }',
            "layer s is of type Sigmoid and makes 1 blobs: only Convolution, ReLU,",
        ),
        (
            'layer { name: "s" type: "Split" bottom: "data" top: "s" top: "t" }',
            "layer s is of type Split and makes 2 blobs",
        ),
        (
            'layer { name: "o" type: "Concat" bottom: "data" bottom: "data" top: "o" '
            "concat_param { axis: 2 } }",
            "layer o joins along axis 2",
        ),
        (
            'layer { name: "p" type: "Pooling" bottom: "data" top: "p" '
            "pooling_param { pool: AVE kernel_size: 2 } }",
            "layer p pools by AVE: only MAX",
        ),
        (
            'layer { name: "p" type: "Pooling" bottom: "data" top: "p" '
            "pooling_param { global_pooling: true } }",
            "layer p sets global_pooling in its pooling_param",
        ),
        (
            'layer { name: "p" type: "Pooling" bottom: "data" top: "p" '
            "pooling_param { kernel_size: 2 stride: 3 } }",  # 9 cells become 4, and in ONNX 3
            "layer p pools with the stride 3, which is above its kernel_size 2",
        ),
        (
            'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
            "convolution_param { num_output: 4 kernel_h: 3 kernel_w: 1 } }",
            "layer c sets kernel_h, kernel_w in its convolution_param",
        ),
        (
            'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
            "convolution_param { num_output: 4 kernel_size: 3 group: 4 } }",
            "layer c: a convolution of 1 blobs, 2 channels in 4 groups to 4, with the kernel [3]",
        ),
        (
            'layer { name: "r" type: "ReLU" bottom: "data" top: "r" include { phase: TRAIN } }',
            "layer r is there in some phases only (include): give a deploy net",
        ),
        (
            'layer { name: "r" type: "ReLU" bottom: "dada" top: "r" }',
            "layer r reads the blob dada, which no layer before it makes",
        ),
    ],
)
def test_what_cannot_be_exported_is_named(layers, message):
    with pytest.raises(UserError) as error:
        to_onnx(parsed(layers), {})
    assert message in str(error.value)


def test_a_net_must_begin_with_its_input():
    net = messages().NetParameter(
        layer=[messages().LayerParameter(name="d", type="Data", top=["data"])]
    )
    with pytest.raises(
        UserError, match="layer d is of type Data: a net whose first layer is an Input"
    ):
        to_onnx(net, {})


@pytest.mark.parametrize(
    "layer, blob, value, least, most",
    [
        ("conv1_1", 0, 0, 1e-3, 1e3),  # no answer to what the images show
        ("Mconv7_stage6", 1, 1, 0.5, 2),  # the mask agrees
        ("Mconv7_stage6", 1, np.nan, np.nan, np.nan),
    ],
)
def test_a_net_that_differs_in_a_layer_is_noticed(layer, blob, value, least, most, monkeypatch):
    shape = export.InputShape(2, 64, 72)
    monkeypatch.setattr(export, "COMPARED_SHAPES", [shape])
    prototxt, weights = ROOT / "prototxt/mini/deploy.prototxt", default_weights("mini")
    net = CaffeEngine(prototxt, weights, precision=FLOAT32).net
    model, _ = make_onnx_model(prototxt, weights)
    assert export.compare_with_caffe(model, net)[shape] <= export.TOLERANCE
    net.params[layer][blob].data[...] = value
    difference = export.compare_with_caffe(model, net)[shape]
    assert least < difference < most or np.isnan(difference) and np.isnan(least)


def test_both_files_are_written_and_neither_takes_the_place_of_its_input(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "compare_with_caffe", lambda model, net: {})
    onnx_file, caffemodel = tmp_path / "hand.onnx", tmp_path / "hand.caffemodel"
    options = ["--onnx", str(onnx_file), "--caffemodel", str(caffemodel), "--without", "pose"]
    export.main(options)
    before = files_of(tmp_path)
    assert {path.name for path in before} == {"hand.onnx", "hand.caffemodel", "hand.prototxt"}
    with pytest.raises(UserError, match="hand.caffemodel is an input of this command"):
        export.main(["--caffemodel", str(caffemodel), "--weights", str(caffemodel)])
    assert files_of(tmp_path) == before


def test_nothing_is_written_where_it_differs(tmp_path, monkeypatch):
    message = "ONNX Runtime makes something else of x.onnx than Caffe, by .*: nothing is written"
    for difference in (2e-4, float("nan")):
        differences = {(1, 64, 64): 1e-7, (8, 64, 64): difference}
        monkeypatch.setattr(
            export, "compare_with_caffe", lambda model, net, result=differences: result
        )
        with pytest.raises(UserError, match=message):
            export.main(["--onnx", str(tmp_path / "x.onnx")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "missing, code, words",
    [
        ("onnx", 2, "error: onnx cannot be imported ("),
        ("onnxruntime", 2, "error: ONNX Runtime cannot be imported ("),
        ("caffe", 0, "not compared with Caffe, which is not installed"),
    ],
)
def test_without_the_packages(missing, code, words, tmp_path):
    call = (
        f"import sys; sys.modules[{missing!r}] = None; from mcc_caffe.export import main; "
        "from mcc_caffe.core.commands import run_command; run_command(main)"
    )
    done = run_code(call, "--onnx", tmp_path / "x.onnx")
    assert (
        done.returncode == code
        and words in done.stdout + done.stderr
        and "Traceback" not in done.stderr
    )
    assert (tmp_path / "x.onnx").exists() == (code == 0)


@pytest.mark.parametrize(
    "options, code, message",
    [
        (("--weights", "none"), 2, "the weights file none was not found"),
        (("--variant", "paper", "--weights", shipped_weights("mini")), 3, "does not fit the net"),
    ],
)
def test_wrong_arguments_give_one_line(options, code, message, tmp_path):
    done = run("mcc_caffe.export", "--onnx", tmp_path / "x.onnx", *options)
    assert message in refusal(done, code) and not list(tmp_path.iterdir())


def test_the_weights_that_no_option_names_are_not_replaced(tmp_path, monkeypatch):
    weights = tmp_path / "mini.npz"
    weights.write_bytes(shipped_weights("mini").read_bytes())
    monkeypatch.setattr(export, "default_weights", lambda variant: weights)
    before = weights.read_bytes()
    with pytest.raises(UserError, match="is an input of this command"):
        export.main(["--onnx", str(weights)])
    assert weights.read_bytes() == before


def test_an_export_replaces_exports_alone(tmp_path):
    own, other = tmp_path / "own.onnx", tmp_path / "other.onnx"
    for _ in range(2):
        export.main(["--onnx", str(own), "--without", "pose"])
    model = onnx.load(str(own))
    model.producer_name = "pytorch"
    onnx.save(model, str(other))
    before = other.read_bytes()
    with pytest.raises(UserError, match="other.onnx would be overwritten and is no ONNX file of"):
        export.main(["--onnx", str(other)])
    assert other.read_bytes() == before


def test_what_is_no_file_to_write_is_told_before_the_work(tmp_path):
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "file").write_text("of the user")
    for target, words in (
        (".", "is a folder"),
        (tmp_path / "null", "is a device"),
        (tmp_path / "file/x.onnx", "Not a directory"),
    ):
        with pytest.raises(UserError, match=words):
            export.main(["--onnx", str(target), "--weights", "none"])
    assert (tmp_path / "null").is_symlink() and (tmp_path / "file").read_text() == "of the user"


def test_a_caffemodel_answers_in_caffe_and_in_opencv_as_the_packed_weights_do(tmp_path):
    file = tmp_path / "new/hand.caffemodel"
    done = run("mcc_caffe.export", "--caffemodel", file)
    assert done.returncode == 0 and f"its net is {file.with_suffix('.prototxt')}" in done.stdout
    images = np.random.default_rng(1).uniform(-0.5, 0.5, (2, 3, 96, 128)).astype(np.float32)
    expected = CaffeEngine(
        ROOT / "prototxt/mini/deploy.prototxt", default_weights("mini"), precision=FLOAT32
    ).net
    expected.blobs["image"].reshape(*images.shape)
    expected.blobs["image"].data[...] = images
    expected.forward()
    by_caffe = run_caffe(file.with_suffix(".prototxt"), file, images)
    opencv = cv2.dnn.readNetFromCaffe(str(file.with_suffix(".prototxt")), str(file))
    opencv.setInput(images)
    layers = {MASK_BLOB: "mask", "Mconv7_stage6": "Mconv7_stage6"}
    by_opencv = dict(zip(layers, opencv.forward(list(layers.values()))))
    assert set(by_caffe) == {MASK_BLOB, "Mconv7_stage6"}
    assert CaffeEngine(file.with_suffix(".prototxt"), file).input_size == 208  # as mini.npz says
    for name, values in by_caffe.items():
        assert np.array_equal(values, expected.blobs[name].data)
        assert np.abs(by_opencv[name] - values).max() <= export.TOLERANCE and np.ptp(values) > 0.1


def test_a_caffemodel_replaces_the_own_files_alone(tmp_path):
    file, net = tmp_path / "hand.caffemodel", tmp_path / "hand.prototxt"
    export.main(["--caffemodel", str(file), "--without", "pose"])
    export.main(["--caffemodel", str(file)])
    assert set(read_caffemodel(file).layers) > {"conv1_1", "Mconv7_stage6"}
    own_bytes = file.read_bytes()
    net.write_text('name: "mine"\n')
    with pytest.raises(UserError, match="hand.prototxt would be overwritten and is no net that"):
        export.main(["--caffemodel", str(file)])
    assert file.read_bytes() == own_bytes and net.read_text() == 'name: "mine"\n'
    net.unlink()
    lively_weights(ROOT / "prototxt/mini/deploy.prototxt", file)  # as Caffe's snapshots are
    other_bytes = file.read_bytes()
    with pytest.raises(UserError, match="hand.caffemodel would be overwritten"):
        export.main(["--caffemodel", str(file)])
    assert file.read_bytes() == other_bytes and not net.exists()


def test_weights_never_take_the_place_of_a_net_or_of_other_weights(tmp_path):
    for name in ("m.full", "m.mask", "net.prototxt"):
        export.main(["--caffemodel", str(tmp_path / name), "--without", "pose"])
        net = (tmp_path / f"{name}.prototxt").read_text()
        assert net.startswith(f"# Deploy net, written by mcc_caffe.export, of {name}\n")
        assert "conv1_1" in read_caffemodel(tmp_path / name).layers
    with pytest.raises(UserError, match="m.full.prototxt would be overwritten and is no net that"):
        export.main(["--caffemodel", str(tmp_path / "m.full.caffemodel")])
    assert not (tmp_path / "m.full.caffemodel").exists()


def test_a_caffemodel_and_its_net_are_of_one_export(tmp_path):
    export.main(["--caffemodel", str(tmp_path / "hand.caffemodel"), "--without", "pose"])
    before = files_of(tmp_path)
    assert len(before) == 2
    with room_for_files(1), pytest.raises(UserError, match="cannot be written .No space left"):
        export.main(["--caffemodel", str(tmp_path / "hand.caffemodel")])
    assert files_of(tmp_path) == before
    for path in before:
        with replacement_fails(path.name), pytest.raises(UserError, match=f"{path.name} cannot be"):
            export.main(["--caffemodel", str(tmp_path / "hand.caffemodel")])
        assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    "onnx_name, caffemodel_name",
    [("a", "a"), ("b.prototxt", "b.caffemodel"), ("link/a", "a")],
)
def test_files_that_would_replace_each_other_are_refused(onnx_name, caffemodel_name, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="would be written twice by this command"):
        export.main(
            ["--onnx", str(tmp_path / onnx_name), "--caffemodel", str(tmp_path / caffemodel_name)]
        )
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_something_to_write_must_be_named():
    assert "give --onnx FILE or --caffemodel FILE" in refusal(run("mcc_caffe.export"))
