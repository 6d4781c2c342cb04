"""What a run's folder says of its snapshots."""

import pytest
from google.protobuf import text_format

from mcc_caffe.caffe_io.protobuf import messages
from mcc_caffe.caffe_io.run_folder import NET_FILE, run_net_path, run_settings


@pytest.mark.parametrize(
    "param_str, settings",
    [
        ('{"seed": 1, "input_size": 192}', {"seed": 1, "input_size": 192}),
        ('{"source":"a/b", "mine":[]}', {"source": "a/b", "mine": []}),  # as a user may write it
        ('{"source": 5, "input_size": 192}', {"input_size": 192}),
        ('{"source": "a/b", "input_size": 100}', {"source": "a/b"}),
        ('{"input_size": 8192}', {}),
        ('{"input_size": "192"}', {}),
        ('"input_size": 192', {}),
        ("[192]", {}),
        ("[" * 100_000, {}),
        ("settings of another project", {}),
        ("", {}),
    ],
)
def test_the_settings_of_a_run_are_read_from_its_net(param_str, settings, tmp_path):
    net = messages().NetParameter()
    net.layer.add(type="Python").python_param.param_str = param_str
    (tmp_path / NET_FILE).write_text(text_format.MessageToString(net))
    assert run_settings(tmp_path / "snapshots/mcc_iter_7.caffemodel") == settings


@pytest.mark.parametrize("net", [None, "layer { type: 'Input' }", "no prototxt"])
def test_what_has_no_settings_has_none(net, tmp_path):
    if net:
        (tmp_path / NET_FILE).write_text(net)
    snapshot = tmp_path / "snapshots/mcc_iter_7.caffemodel"
    assert run_settings(snapshot) == {}


def test_a_linked_snapshot_belongs_to_the_run_in_which_the_link_lies_if_there_is_one(tmp_path):
    for name in ("run", "other", "weights"):
        (tmp_path / name / "snapshots").mkdir(parents=True)
    for name in ("run", "other"):
        (tmp_path / name / NET_FILE).touch()
    snapshot = tmp_path / "run/snapshots/mcc_iter_7.caffemodel"
    snapshot.touch()
    for name, run in (("other", "other"), ("weights", "run")):
        link = tmp_path / name / "snapshots/linked.caffemodel"
        link.symlink_to(snapshot)
        assert run_net_path(link) == tmp_path / run / NET_FILE
