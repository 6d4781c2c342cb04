"""The commands that an installation puts on PATH.

`mcc-train` is `python -m mcc_caffe.train`, and so on.
"""

import importlib

from mcc_caffe.core.commands import run_command


def train() -> None:
    """Run `mcc-train`."""
    _run("mcc_caffe.train")


def infer() -> None:
    """Run `mcc-infer`."""
    _run("mcc_caffe.infer")


def evaluate() -> None:
    """Run `mcc-evaluate`."""
    _run("mcc_caffe.evaluate")


def export() -> None:
    """Run `mcc-export`."""
    _run("mcc_caffe.export")


def data() -> None:
    """Run `mcc-data`."""
    _run("data_tools.__main__")


def _run(module: str) -> None:
    """Import one command's module, so that none waits for what the others need, and run it."""
    run_command(importlib.import_module(module).main)
