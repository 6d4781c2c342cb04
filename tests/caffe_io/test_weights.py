"""Weights are checked before Caffe would abort on them."""

import numpy as np
import pytest

from mcc_caffe.caffe_io.protobuf import messages
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import WeightsError, file_shapes, load_weights
from tests.support.commands import ROOT


@pytest.fixture
def net():
    caffe = import_caffe()
    return caffe.Net(str(ROOT / "prototxt/mini/deploy.prototxt"), caffe.TEST)


def test_saved_weights_load_completely(net, tmp_path):
    path = tmp_path / "own.caffemodel"
    net.params["conv1_1"][0].data[...] = 7
    net.save(str(path))
    net.params["conv1_1"][0].data[...] = 0
    assert load_weights(net, path) == list(net.params)
    assert (net.params["conv1_1"][0].data == 7).all()
    assert file_shapes(path)["conv1_1"] == [(16, 3, 3, 3), (16,)]


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
