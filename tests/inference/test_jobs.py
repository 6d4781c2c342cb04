"""A job makes the folder of its results where it has any."""

import pytest

from mcc_caffe.inference.formats import open_format
from mcc_caffe.inference.jobs import Job


@pytest.mark.parametrize("is_video", [False, True])
@pytest.mark.parametrize(
    "format_name, drawings, makes_folder",
    [
        ("ours", False, True),
        ("csv", False, True),
        ("openpose", False, True),
        ("coco", False, False),  # its two files are of the whole run
        ("coco", True, True),
    ],
)
def test_a_folder_is_made_where_a_file_has_results_of_its_own(
    format_name, drawings, makes_folder, is_video, tmp_path
):
    job = Job(tmp_path / "hand", tmp_path / "out/a/hand", is_video)
    job.make_folder(open_format(format_name), drawings=drawings, heatmaps=False)
    assert job.result.parent.is_dir() == makes_folder
