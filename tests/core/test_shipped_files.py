"""Files that come with the project are found."""

import pytest

from mcc_caffe.core import shipped_files
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.shipped_files import find_shipped, require_shipped


def test_a_file_that_does_not_ship_is_named():
    with pytest.raises(UserError, match="prototxt/huge/deploy.prototxt was not found"):
        require_shipped("prototxt/huge/deploy.prototxt")


def test_a_file_beside_the_package_does_not_replace_the_one_inside(tmp_path, monkeypatch):
    package = tmp_path / "mcc_caffe"
    monkeypatch.setattr(shipped_files, "_PACKAGE", package)
    beside, inside = tmp_path / "pretrained/mini.npz", package / "pretrained/mini.npz"
    assert find_shipped("pretrained/mini.npz") is None
    for path in (beside, inside):
        path.parent.mkdir(parents=True)
        path.touch()
        assert find_shipped("pretrained/mini.npz") == path
