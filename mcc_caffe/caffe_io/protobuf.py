"""Caffe's protobuf messages without Caffe.

`caffe_pb2` is read from the installed pycaffe, whose C++ part is left alone. Loader processes and
data tools need `Datum` only; importing all of pycaffe would cost each of them seconds, and a GPU
build would load CUDA. Where there is no pycaffe, or a broken one, `own_messages` stands in: it has
all that using a net needs.
"""

import functools
import importlib.util
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from mcc_caffe.caffe_io.own_messages import message_classes
from mcc_caffe.caffe_io.pycaffe import HOW_TO_GET_CAFFE, caffe_folder, import_caffe
from mcc_caffe.core.errors import UserError

_NAME = "caffe.proto.caffe_pb2"
_LOADING = threading.Lock()


class _OwnMessages(SimpleNamespace):
    """The messages of `own_messages`, as attributes like those of `caffe_pb2`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if caffe_folder():
            import_caffe()  # raises, and says what is wrong with this Caffe
        raise UserError(
            f"only Caffe knows its message {name}, and Caffe was not found: {HOW_TO_GET_CAFFE}"
        )


def messages() -> Any:
    """Return the module `caffe_pb2` or, without a working Caffe, what has some of its classes.

    A class that is missing then raises a UserError.
    """
    with _LOADING:
        return _messages()


@functools.cache
def _messages() -> Any:
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    folder = caffe_folder()
    path = folder / "proto" / "caffe_pb2.py" if folder else None
    if path is None or not path.is_file():
        return _OwnMessages(**message_classes())
    spec = importlib.util.spec_from_file_location(_NAME, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception:  # whatever protobuf raises at a file that another version of it wrote
        return _OwnMessages(**message_classes())
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
        OSError: It cannot be read.
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
        OSError: It cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return text_format.Parse(text, getattr(messages(), name)())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        if isinstance(messages(), _OwnMessages):
            raise UserError(
                f"{path} is no {name} prototxt, or one that needs a working Caffe, which was not "
                f"found ({reason}): give another file; {HOW_TO_GET_CAFFE}"
            ) from None
        raise UserError(
            f"{path} is not a {name} prototxt: {reason}; mend that line or give another file"
        ) from None


def check_utf8(folder: Path) -> None:
    """Check that Caffe's files can hold the path of a folder.

    Raises:
        UserError: The path is not UTF-8.
    """
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"the name of the folder {folder} is not UTF-8, as Caffe's files need it: "
            "give another folder"
        ) from None


def as_text(value: str | bytes) -> str:
    """Return a string field of a message; protobuf gives bytes where it is not UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="backslashreplace")


def is_repeated(field: Any) -> bool:
    """Tell whether a field of a message may have several values, in every version of protobuf."""
    if hasattr(field, "is_repeated"):  # from 6.31 on, where `label` is deprecated
        return field.is_repeated
    return field.label == field.LABEL_REPEATED
