"""The commands that an installation puts on PATH.

`mcc-train` is `python -m mcc_caffe.train`, and so on.
"""

import functools
import importlib
from typing import NoReturn

from mcc_caffe.core.commands import run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.start import prepare_command


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


def web() -> None:
    """Run `mcc-web`."""
    _run("mcc_caffe.web")


def _run(module: str) -> None:
    """Import one command's module, so that none waits for what the others need, and run it."""
    prepare_command()
    try:
        main = importlib.import_module(module).main
    except ImportError as error:
        main = functools.partial(_report, module, error)
    run_command(main)


def _report(module: str, error: ImportError) -> NoReturn:
    raise UserError(f"{module} cannot be imported ({error}): {_remedy(error)}") from error


def _remedy(error: ImportError) -> str:
    """Return what helps where a library is missing."""
    if "libGL" in str(error) or "libgthread" in str(error) or "libglib" in str(error):
        return (
            "`apt install libgl1 libglib2.0-0`, "
            "or `pip install opencv-python-headless` in place of opencv-python"
        )
    return "`pip install` the package again, or run `make setup` in a checkout"
