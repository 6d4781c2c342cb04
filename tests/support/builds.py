"""What the tests of building Caffe share."""

import os
from pathlib import Path

import pytest

from mcc_caffe.caffe_io.pycaffe import has_onednn

FACTS = {"release": "debian 12", "machine": "x86_64", "python": "cpython-311", "numpy": "2"}
needs_onednn = pytest.mark.skipif(
    not has_onednn(), reason="this Caffe was built elsewhere, without our convolutions"
)


def environment(**more):
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("CAFFE_")},
        **more,
    }


def write_edited_files(tree: Path, source_edits) -> None:
    """Write what the edits look for into the files that they change."""
    for edit in source_edits:
        path = tree / edit.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + edit.old + "\n")


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
