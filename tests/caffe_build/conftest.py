"""Fixtures of the tests of building Caffe."""

import pytest

from caffe_build.edits_cpu import CPU_EDITS
from tests.support.builds import write_edited_files


@pytest.fixture
def caffe_like_tree(tmp_path):
    """A source tree with what is looked at before compiling, the edited files in it."""
    tree = tmp_path / "tree"
    write_edited_files(tree, CPU_EDITS)
    (tree / "src/caffe/proto").mkdir()
    (tree / "src/caffe/proto/caffe.proto").write_text("syntax = 'proto2';")
    return tree
