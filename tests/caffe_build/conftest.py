"""Fixtures of the tests of building Caffe."""

import pytest

from caffe_build.edits_cpu import CPU_EDITS


@pytest.fixture
def caffe_like_tree(tmp_path):
    """A source tree with what is looked at before compiling, the edited files in it."""
    tree = tmp_path / "tree"
    for edit in CPU_EDITS:
        path = tree / edit.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + edit.old + "\n")
    (tree / "src/caffe/proto").mkdir()
    (tree / "src/caffe/proto/caffe.proto").write_text("syntax = 'proto2';")
    return tree
