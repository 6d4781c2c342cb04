"""What the tests of building Caffe share."""

import os
from pathlib import Path

FACTS = {"release": "debian 12", "machine": "x86_64", "python": "cpython-311", "numpy": "2"}


def environment(**more):
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("CAFFE_")},
        **more,
    }


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
