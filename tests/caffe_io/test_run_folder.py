"""What a run's folder says of its snapshots."""

import pytest
from google.protobuf import text_format

from mcc_caffe.caffe_io.protobuf import messages
from mcc_caffe.caffe_io.run_folder import NET_FILE, data_layer_settings, run_input_size


@pytest.mark.parametrize(
    "settings, input_size",
    [
        ('{"seed": 1, "input_size": 192}', 192),
        ('{"input_size":64}', 64),  # as a user may write it
        ('{"source": "a/b"}', None),
        ("settings of another project", None),
    ],
)
def test_the_input_size_of_a_run_is_read_from_its_net(settings, input_size, tmp_path):
    net = messages().NetParameter()
    net.layer.add(type="Python").python_param.param_str = settings
    (tmp_path / NET_FILE).write_text(text_format.MessageToString(net))
    snapshot = tmp_path / "snapshots/mcc_iter_7.caffemodel"
    assert data_layer_settings(snapshot) == settings
    assert run_input_size(snapshot) == input_size


@pytest.mark.parametrize("net", [None, "layer { type: 'Input' }", "no prototxt"])
def test_what_has_no_settings_has_none(net, tmp_path):
    if net:
        (tmp_path / NET_FILE).write_text(net)
    snapshot = tmp_path / "snapshots/mcc_iter_7.caffemodel"
    assert data_layer_settings(snapshot) is None
    assert run_input_size(snapshot) is None
