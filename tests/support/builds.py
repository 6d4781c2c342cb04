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


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
