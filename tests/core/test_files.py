"""Files are found, and written whole or not at all."""

import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import shipped, write_whole


def test_write_whole_replaces(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(
        UserError, match="file cannot be written .No space left on device.: make room"
    ):
        write_whole(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_does_not_ship_is_named():
    with pytest.raises(UserError, match="prototxt/huge/deploy.prototxt was not found"):
        shipped("prototxt/huge/deploy.prototxt")
