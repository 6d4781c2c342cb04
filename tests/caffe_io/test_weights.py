"""Weights are checked before Caffe would abort on them."""

import re

import numpy as np
import pytest
from google.protobuf import text_format

from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.protobuf import messages, read_binary
from mcc_caffe.caffe_io.weights import (
    WeightsError,
    describe,
    file_shapes,
    load_weights,
    read_caffemodel,
    read_variant,
    write_caffemodel,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines import ENGINES, open_engine
from mcc_caffe.train import parse_arguments, prepare_run
from tests.support.commands import ROOT, refusal, run
from tests.support.weights import mini_net


@pytest.fixture
def net():
    return mini_net()


def test_saved_weights_load_completely(net, tmp_path):
    path = tmp_path / "own.caffemodel"
    net.params["conv1_1"][0].data[...] = 7
    net.save(str(path))
    net.params["conv1_1"][0].data[...] = 0
    assert load_weights(net, path) == list(net.params)
    assert (net.params["conv1_1"][0].data == 7).all()
    assert file_shapes(path)["conv1_1"] == [(16, 3, 3, 3), (16,)]


@pytest.fixture
def snapshot(tmp_path):
    """A snapshot of a run whose input has 192 pixels."""
    run_net = messages().NetParameter()
    run_net.layer.add(type="Python").python_param.param_str = '{"input_size": 192}'
    path = tmp_path / "run/snapshots/mcc_iter_7.caffemodel"
    path.parent.mkdir(parents=True)
    path.write_bytes(messages().NetParameter().SerializeToString())
    (tmp_path / "run/train.prototxt").write_text(text_format.MessageToString(run_net))
    return path


def test_a_link_to_a_snapshot_belongs_to_its_run(snapshot, tmp_path):
    link = tmp_path / "latest.caffemodel"
    link.symlink_to(snapshot)
    assert describe(snapshot) == {"file": str(snapshot), "input_size": 192}
    assert describe(link) == {"file": str(link), "input_size": 192}


def test_a_snapshot_is_described_beside_a_net_that_cannot_be_read(snapshot, caplog):
    net = snapshot.parent.parent / "train.prototxt"
    for content in (b"layer { no_field_of_caffe: 1 }", b"\xff"):
        net.write_bytes(content)
        for _ in range(2):
            assert describe(snapshot) == {"file": str(snapshot)}
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert f"the settings of the run are not known: {net} is" in record.getMessage()
        caplog.clear()


def test_files_of_the_old_format_are_read(net, tmp_path):
    """As in the VGG weights of 2014: `layers`, shapes of four numbers, (1, 1, 1, n) for a bias."""
    model = messages().NetParameter()
    layer = model.layers.add(name="conv1_1", type=messages().V1LayerParameter.CONVOLUTION)
    kernel, bias = (
        layer.blobs.add(num=16, channels=3, height=3, width=3),
        layer.blobs.add(num=1, channels=1, height=1, width=16),
    )
    kernel.data.extend(np.arange(432, dtype=float))
    bias.data.extend([5.0] * 16)
    path = tmp_path / "old.caffemodel"
    path.write_bytes(model.SerializeToString())
    assert load_weights(net, path, complete=False) == ["conv1_1"]
    assert net.params["conv1_1"][0].data.ravel().tolist() == list(range(432))
    assert (net.params["conv1_1"][1].data == 5).all()
    with pytest.raises(WeightsError, match="lacks conv1_2, conv2_1"):
        load_weights(net, path)


def test_weights_of_another_net_are_refused(net, tmp_path):
    model = messages().NetParameter()
    model.layer.add(name="fc8").blobs.add().shape.dim.append(3)
    path = tmp_path / "other.caffemodel"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="none of its 1 layers has a name of the net's"):
        load_weights(net, path)


@pytest.fixture(params=["caffemodel", "npz"])
def weights_of_paper(request, weights, tmp_path):
    """Weights with mini's shapes that say that they are of the variant paper."""
    path, layers = tmp_path / f"paper.{request.param}", read_caffemodel(weights).layers
    if request.param == "npz":
        path.write_bytes(packed_weights.to_bytes(layers, {"variant": "paper"}))
    else:
        write_caffemodel(path, "MCC_paper_train", layers)
    return path


def test_weights_say_their_variant(weights_of_paper, weights, tmp_path):
    assert read_variant(weights_of_paper) == "paper"
    assert read_variant(weights) == "mini"
    foreign = tmp_path / "foreign.caffemodel"
    write_caffemodel(foreign, "VGG", read_caffemodel(weights).layers)
    assert read_variant(foreign) is None


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_of_another_variant_of_the_same_shapes_are_refused(engine, weights_of_paper):
    with pytest.raises(WeightsError, match="it is of the variant paper, the net of mini"):
        open_engine(ROOT / "prototxt/mini/deploy.prototxt", weights_of_paper, engine=engine)


def test_export_does_not_make_weights_those_of_another_variant(weights_of_paper, tmp_path):
    out = tmp_path / "hand.caffemodel"
    done = run("mcc_caffe.export", "--weights", weights_of_paper, "--caffemodel", out)
    assert "it is of the variant paper, the net of mini" in refusal(done, 3)
    assert not out.exists()


def test_a_training_may_start_from_another_variant_with_a_warning(
    net, weights, weights_of_paper, drawn_set, tmp_path, caplog
):
    def prepare(start):
        words = [drawn_set, "--out", tmp_path / "run", "--weights", start, "--batch-size", 2]
        return prepare_run(parse_arguments(list(map(str, words))))

    assert prepare(weights).weights == weights and "of the variant" not in caplog.text
    assert prepare(weights_of_paper).weights == weights_of_paper
    assert f"{weights_of_paper} is of the variant paper, the training starts mini" in caplog.text
    assert load_weights(net, weights_of_paper, complete=False) == list(net.params)


def change_conv1_1(path, change):
    """Change the first layer's BlobProtos, a kernel (16, 3, 3, 3) and a bias (16), in a file."""
    model = read_binary("NetParameter", path)
    (layer,) = (layer for layer in model.layer if layer.name == "conv1_1")
    change(layer.blobs)
    path.write_bytes(model.SerializeToString())


def use_doubles(blobs):
    for blob in blobs:
        blob.double_data.extend(blob.data)
        blob.ClearField("data")


@pytest.mark.parametrize(
    "change",
    [
        use_doubles,
        lambda blobs: blobs[0].shape.dim.insert(0, 1),
        lambda blobs: blobs[1].shape.dim.insert(0, 1),
        lambda blobs: blobs[0].diff.extend(blobs[0].data),
    ],
)
def test_other_ways_to_write_the_same_weights_are_read(change, net, weights, tmp_path):
    path = tmp_path / "other.caffemodel"
    path.write_bytes(weights.read_bytes())
    change_conv1_1(path, change)
    load_weights(net, weights)
    expected = [blob.data.copy() for blob in net.params["conv1_1"]]
    for blob in net.params["conv1_1"]:
        blob.data[...] = 0
    load_weights(net, path)
    for blob, values in zip(net.params["conv1_1"], expected):
        np.testing.assert_array_equal(blob.data, values)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda blobs: blobs[0].data.pop(), r"shape \(16, 3, 3, 3\) and 431 values"),
        (lambda blobs: blobs[1].data.append(1), r"shape \(16,\) and 17 values"),
        (lambda blobs: blobs[1].ClearField("data"), "and 0 values"),
        (lambda blobs: blobs[0].double_data.append(1), "and 1 values"),
        (lambda blobs: blobs[1].shape.dim.append(2), r"is \[.*\(16, 2\)\] in the file"),
        (lambda blobs: blobs[1].shape.dim.__setitem__(0, -16), r"is \[.*\(-16,\)\] in the file"),
        (lambda blobs: blobs.pop(), "in the file and"),
        (
            lambda blobs: blobs[0].data.__setitem__(5, float("nan")),
            "1 of the 448 weights of layer conv1_1 are not finite",
        ),
        (lambda blobs: blobs[1].data.__setitem__(0, float("-inf")), "layer conv1_1 are not finite"),
        (
            lambda blobs: (use_doubles(blobs), blobs[0].double_data.__setitem__(0, 1e300)),
            "layer conv1_1 are not finite",
        ),
    ],
)
def test_damaged_weights_are_named_and_not_packed(change, words, net, weights, tmp_path):
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(weights.read_bytes())
    change_conv1_1(path, change)
    with pytest.raises(UserError, match=words) as caught:
        load_weights(net, path)
    assert str(path) in str(caught.value)
    if "in the file" not in words:  # a shape is a fault only beside a net's
        done = run("mcc_caffe.pack", path, tmp_path / "out.npz")
        line = refusal(done, 3 if "not finite" in words else 2)
        assert re.search(words, line) and not (tmp_path / "out.npz").exists()


def test_an_empty_file_holds_no_weights(net, tmp_path):
    path = tmp_path / "empty.caffemodel"
    path.write_bytes(b"")
    for read in (file_shapes, read_caffemodel, lambda path: load_weights(net, path)):
        with pytest.raises(UserError, match=r"empty.caffemodel holds no weights \(0 bytes\)"):
            read(path)


def test_infer_names_the_layer_whose_weights_are_not_finite(weights, tmp_path):
    path = tmp_path / "nan.caffemodel"
    path.write_bytes(weights.read_bytes())
    change_conv1_1(path, lambda blobs: blobs[0].data.__setitem__(0, float("nan")))
    done = run(
        "mcc_caffe.infer", ROOT / "docs/demo.jpg", "--weights", path, "--out", tmp_path / "out"
    )
    assert "layer conv1_1 are not finite" in refusal(done, 3)
