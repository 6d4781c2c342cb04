"""What is read from a deploy net's prototxt."""

import pytest

from mcc_caffe.caffe_io.nets import has_pose_stage
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.paper import LAST_STAGE, stage_blob


@pytest.mark.parametrize(
    "name, expected",
    [("deploy", True), ("deploy_without_mask", True), ("deploy_without_pose", False)],
)
def test_only_the_nets_with_the_last_stage_have_a_pose_stage(name, expected):
    assert has_pose_stage(require_shipped(f"prototxt/mini/{name}.prototxt")) == expected


def test_a_net_in_caffes_older_form_may_have_a_pose_stage(tmp_path):
    path = tmp_path / "deploy.prototxt"
    path.write_text(
        'input: "image" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n'
        f'layers {{ name: "copy" type: SPLIT bottom: "image" top: "{stage_blob(LAST_STAGE)}" }}\n'
    )
    assert has_pose_stage(path)
