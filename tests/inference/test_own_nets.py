"""A user's own deploy net is built in another process first, which Caffe may abort."""

import re

import pytest

from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines import open_engine
from mcc_caffe.inference.engines.base import is_shipped_net
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import ROOT, refusal, run

DEPLOY = ROOT / "prototxt/mini/deploy.prototxt"
WEIGHTS = shipped_weights("mini")
# A layer that takes maps of 16 x 16 cells only.
FIXED_SIZE = """
    layer {
      type: "Reshape" bottom: "Mconv7_stage6" top: "cells"
      reshape_param { shape { dim: 0 dim: 22 dim: 256 } }
    }
"""


def write_changed(folder, old, new):
    """Write mini's deploy net, in which what matches a pattern is another text."""
    text = re.sub(old, new, DEPLOY.read_text())
    assert text != DEPLOY.read_text()
    path = folder / "own.prototxt"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "engine, old, new, words",
    [
        ("caffe", "kernel_size: 3", "kernel_size: 0", "Check failed"),
        ("caffe", "dim: 128", "dim: 1000000", "blob size exceeds|allocation"),
        ("caffe", '(top|bottom): "image"', r'\1: "photo"', "has no blob image"),
        ("caffe", r"\Z", FIXED_SIZE, "Check failed"),  # a video's hands have smaller inputs
        ("onnx", '"Convolution"', '"Convolutoin"', "is of type Convolutoin"),
        ("onnx", 'bottom: "image"', 'bottom: "img"', "reads the blob img"),
        ("onnx", "kernel_size: 3", "kernel_size: 0", "is impossible"),
        ("onnx", "dim: 128", "dim: 132", "a multiple of 8"),
        ("onnx", "dim: 128", "dim: 1000000", "up to 4096"),
        ("onnx", '(top|bottom): "image"', r'\1: "photo"', "has no input image"),
        ("onnx", r"(?s)  input_param \{.*?\n  \}\n", "", "type Input"),
    ],
)
def test_a_net_that_cannot_be_used_is_refused(engine, old, new, words, tmp_path):
    path = write_changed(tmp_path, old, new)
    with pytest.raises(UserError, match=words):
        open_engine(path, WEIGHTS, engine=engine)


@pytest.mark.parametrize("engine", ["caffe", "onnx"])
def test_a_net_to_train_is_refused_for_what_it_is(engine):
    path = ROOT / "prototxt/mini/train.prototxt"
    assert not is_shipped_net(path)
    words = r"begins with a data layer \(type Python\), as a net to train does: give a deploy net"
    with pytest.raises(UserError, match=f"{path} {words}"):
        open_engine(path, WEIGHTS, engine=engine)


@pytest.mark.parametrize("kind", ["Data", "HDF5Data", "ImageData", "DummyData"])
@pytest.mark.parametrize("engine", ["caffe", "onnx"])
def test_a_net_that_reads_another_kind_of_data_set_is_one_to_train(engine, kind, tmp_path):
    path = write_changed(tmp_path, '"Input"', f'"{kind}"')
    path.write_text(path.read_text().replace('top: "image"', 'top: "data"'))
    with pytest.raises(UserError, match=rf"begins with a data layer \(type {kind}\)"):
        open_engine(path, WEIGHTS, engine=engine)


@pytest.mark.parametrize("has_input_layer", [True, False])
def test_a_deploy_net_may_begin_with_a_constant(has_input_layer, tmp_path):
    constant = """
        layer { name: "none" type: "DummyData" top: "none" dummy_data_param { shape { dim: 1 } } }
        layer { name: "silence" type: "Silence" bottom: "none" }
    """
    input_layer = r'layer \{\n  name: "image"[^}]*\}\n  \}\n\}\n'
    if has_input_layer:
        path = write_changed(tmp_path, f"({input_layer})", rf"{constant}\1")
    else:
        shape = "input_shape { dim: 1 dim: 3 dim: 128 dim: 128 }"
        path = write_changed(tmp_path, input_layer, f'input: "image" {shape}{constant}')
    engine = open_engine(path, WEIGHTS, engine="caffe")
    assert engine.has_pose and engine.input_size == 128


@pytest.mark.parametrize("engine", ["caffe", "onnx"])
def test_the_variant_of_a_net_is_not_read_from_a_comment(engine, tmp_path):
    comment = '# changed from the net of name: "MCC_paper_deploy"'
    path = write_changed(tmp_path, '(name: "MCC_mini_deploy")', rf"{comment}\n\1")
    assert open_engine(path, WEIGHTS, engine=engine).has_pose


@pytest.mark.parametrize("engine", ["caffe", "onnx"])
def test_a_net_of_ones_own_is_used(engine, tmp_path):
    path = write_changed(tmp_path, 'name: "MCC_mini_deploy"', 'name: "mine"')
    assert not is_shipped_net(path) and is_shipped_net(DEPLOY)
    assert open_engine(path, WEIGHTS, engine=engine).has_pose


@pytest.mark.parametrize("engine", ["caffe", "onnx"])
def test_a_net_of_ones_own_says_the_size_of_its_input(engine, tmp_path):
    path = write_changed(tmp_path, "dim: 128", "dim: 160")
    assert HandPredictor(prototxt=path, engine=engine).input_size == 160
    assert HandPredictor(prototxt=DEPLOY, engine=engine).input_size == 208  # the weights'


def test_only_the_nets_of_the_project_are_shipped():
    """A net of one's own may lie beside them."""
    nets = list((ROOT / "prototxt").glob("*/deploy*.prototxt"))
    assert nets and all(map(is_shipped_net, nets))
    assert not is_shipped_net(DEPLOY.with_name("deploy_mine.prototxt"))


def test_a_net_that_caffe_aborts_on_ends_infer_in_one_line(tmp_path):
    path = write_changed(tmp_path, '"Convolution"', '"Convolutoin"')
    out = tmp_path / "out"
    done = run("mcc_caffe.infer", ROOT / "docs/demo.jpg", "--prototxt", path, "--out", out)
    line = refusal(done)
    assert f"{path}: Caffe refuses it (" in line and "Convolutoin" in line
    assert not out.exists()
