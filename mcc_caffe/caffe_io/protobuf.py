"""Caffe's protobuf messages without Caffe.

`caffe_pb2` is read from the installed pycaffe, whose C++ part is left alone. Loader processes and
data tools need `Datum` only; importing all of pycaffe would cost each of them seconds, and a GPU
build would load CUDA.
"""

import functools
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from mcc_caffe.core.errors import UserError

_NAME = "caffe.proto.caffe_pb2"
_LOADING = threading.Lock()


def messages() -> ModuleType:
    """Import the module `caffe_pb2`; UserError where there is no Caffe."""
    with _LOADING:
        return _messages()


@functools.cache
def _messages() -> ModuleType:
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    package = importlib.util.find_spec("caffe")
    if package is None or not package.submodule_search_locations:
        raise UserError(
            "the Python module caffe was not found: "
            "run `make caffe` (python -m mcc_caffe.doctor says more)"
        )
    path = Path(package.submodule_search_locations[0], "proto", "caffe_pb2.py")
    if not path.is_file():
        raise UserError(
            f"{path} is missing: this Caffe was built without its Python part, run `make caffe`"
        )
    spec = importlib.util.spec_from_file_location(_NAME, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # A later `import caffe` takes it too: protobuf admits a file but once.
    sys.modules[_NAME] = module
    return module


def read_binary(name: str, path: str | Path) -> Any:
    """Read a message from a binary file.

    Args:
        name: The message's type, such as "NetParameter".
        path: The file.

    Raises:
        UserError: The file is damaged or of another type.
    """
    message = getattr(messages(), name)
    try:
        return message.FromString(Path(path).read_bytes())
    except DecodeError:
        raise UserError(
            f"{path} is not a complete {name} file: it is damaged or of another kind"
        ) from None


def read_text(name: str, path: str | Path) -> Any:
    """Read a message from a prototxt.

    Args:
        name: The message's type, such as "SolverParameter".
        path: The file.

    Raises:
        UserError: The file is no such prototxt.
    """
    try:
        return text_format.Parse(Path(path).read_text(), getattr(messages(), name)())
    except text_format.ParseError as error:
        raise UserError(f"{path} is not a {name} prototxt: {error}") from None
