"""Packed weights: the form in which weights ship, half as large as a caffemodel.

An .npz file of NumPy's, with a float16 array `layer/index` for each parameter blob, in the order of
the net, and `metadata`, a JSON text:

    {"variant": "mini", "net": "MCC_mini", "iterations": 40000, "data": "synth:seed=0&size=224",
     "date": "2026-11-30", "input_size": 160, "calibration": {"single": 0.32, "two": 0.32,
     "four": 0.48, "pyramid": 0.46, "pyramid_mask": 0.7}}

`iterations` and `data` are null where they are not known. `input_size` is the side in pixels of the
input that the net is used with, by default that of its training. Where a file lacks it, the
variant's is used. The net is convolutional and takes any multiple of 8. `calibration` is there in
the shipped weights: the scores from which an image shows a hand (`mcc_caffe.inference.presence`).
No command makes it. `mcc_caffe.pack` and `mcc_caffe.train_boxes` write such files; only the second
keeps a calibration.
"""

import contextlib
import errno
import io
import json
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import require_file, starts_with
from mcc_caffe.paper import MAX_INPUT_SIZE, STRIDE, is_input_size

METADATA = "metadata"
# The most that packing may change a blob, relative to its norm; rounding to float16 alone costs
# 2e-4, and 5e-4 at the most.
MAX_ERROR = 1e-3
NOT_PACKED = "holds no packed weights"  # what an error says of another file
_MAX_BYTES = 4 << 30  # of the members together, unpacked; the paper's net has 0.07 GiB
_MAGIC = b"PK\x03\x04"  # of a zip file, which an .npz is


class PackedWeights(NamedTuple):
    """The content of a file of packed weights.

    Attributes:
        layers: The float32 parameter blobs of each layer, in the order of the net.
        metadata: What the module's docstring lists.
    """

    layers: dict[str, list[np.ndarray]]
    metadata: dict[str, Any]


def is_packed(path: str | Path) -> bool:
    """Return whether a file is of this form; a caffemodel is not."""
    return starts_with(path, _MAGIC)


def require_packed(path: str | Path) -> Path:
    """Return the path of packed weights; UserError where it is no file of this form."""
    weights = require_file(path, "weights file")
    if not is_packed(weights):
        raise UserError(f"{weights} is no packed weights: pack it with `python -m mcc_caffe.pack`")
    return weights


def are_readable(path: Path) -> bool:
    """Tell whether a file is packed weights, and no other zip file or .npz."""
    if not is_packed(path):
        return False
    try:
        read_metadata(path)
    except UserError:
        return False
    return True


def to_bytes(layers: Mapping[str, Sequence[np.ndarray]], metadata: Mapping[str, Any]) -> bytes:
    """Pack weights.

    Args:
        layers: The float32 parameter blobs of each layer.
        metadata: What the file says of them, for JSON.

    Returns:
        The content of the file; the same weights give the same bytes.

    Raises:
        UserError: float16 cannot hold a layer.
    """
    # Any, as NumPy's stubs take every unpacked keyword for the option `allow_pickle`.
    arrays: dict[str, Any] = {
        f"{name}/{index}": _to_float16(name, blob)
        for name, blobs in layers.items()
        for index, blob in enumerate(blobs)
    }
    content = io.BytesIO()
    arrays[METADATA] = np.array(json.dumps(metadata))
    np.savez(content, **arrays)
    return content.getvalue()


def _to_float16(name: str, blob: np.ndarray) -> np.ndarray:
    """Round a blob of the named layer, or raise where that loses too much."""
    with np.errstate(over="ignore"):
        half = blob.astype(np.float16)
    if not np.isfinite(half).all():
        raise UserError(
            f"layer {name} has the weight {blob[~np.isfinite(half)][0]:g}, "
            f"float16 ends at {np.finfo(np.float16).max:g}: "
            "these weights cannot be packed, ship the caffemodel"
        )
    norm = np.linalg.norm(blob.astype(np.float64))
    if np.linalg.norm(blob - half.astype(np.float64)) > MAX_ERROR * norm:
        raise UserError(
            f"layer {name} has weights of {np.abs(blob).max():g} at most, "
            f"float16 loses digits below {np.finfo(np.float16).smallest_normal:.1g}: "
            "these weights cannot be packed, ship the caffemodel"
        )
    return half


def from_bytes(content: bytes, name: str | Path) -> PackedWeights:
    """Unpack weights.

    Args:
        content: The content of a file.
        name: What the error calls the file.

    Raises:
        UserError: The content is damaged.
    """
    layers: dict[str, list[np.ndarray]] = {}
    with _damage_as_user_error(name):
        archive = zipfile.ZipFile(io.BytesIO(content))
        _check_size(archive.infolist())
        # np.load checks a member's checksum only when it has read to the end. With a damaged shape
        # it may stop earlier.
        damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"{damaged[:100]} is damaged")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            metadata = _checked_metadata(json.loads(str(file[METADATA])))
            for key in file.files:
                if key != METADATA:
                    blobs = layers.setdefault(key.rpartition("/")[0], [])
                    blobs.append(_weights_array(key, file[key]))
    return PackedWeights(layers, metadata)


@contextlib.contextmanager
def _damage_as_user_error(name: str | Path) -> Iterator[None]:
    """Raise UserError in place of what reading a damaged file called `name` raises."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        struct.error,
        ValueError,
        KeyError,
        RuntimeError,
        EOFError,
        NotImplementedError,  # an unknown compression
        RecursionError,  # deeply nested JSON
        MemoryError,  # an array's header that claims too much
        OverflowError,
        SyntaxError,  # an array's header
        TypeError,
        zlib.error,
        lzma.LZMAError,
        tokenize.TokenError,
        OSError,
    ) as error:
        # A damaged archive may point before its start; what else the disk says stays as it is.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise UserError(
            f"{name} is no whole file of packed weights ({str(error)[:300]}): get it again"
        ) from None


def _check_size(members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse members that would unpack to more than memory should hold."""
    if sum(member.file_size for member in members) > _MAX_BYTES:
        raise zipfile.BadZipFile(f"it claims to hold more than {_MAX_BYTES >> 30} GiB")


def _weights_array(key: str, member: Any) -> np.ndarray:
    """Return a member of the file as float32; ValueError where it is no array of numbers."""
    if not isinstance(member, np.ndarray) or member.dtype.kind not in "fiu":
        raise ValueError(f"its member {key!r} is no array of numbers")
    return member.astype(np.float32)


def _checked_metadata(metadata: Any) -> dict[str, Any]:
    """Return the metadata; ValueError where they are no mapping or a net cannot take them."""
    if not isinstance(metadata, dict):
        raise ValueError(f"its metadata are no mapping: {str(metadata)[:60]}")
    size = metadata.get("input_size", STRIDE)
    if not is_input_size(size):
        raise ValueError(
            f"its input_size is {str(size)[:60]}, not a multiple of {STRIDE} up to {MAX_INPUT_SIZE}"
        )
    return metadata


def read(path: str | Path) -> PackedWeights:
    """Read a file of packed weights; UserError where it is damaged."""
    return from_bytes(Path(path).read_bytes(), path)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read the metadata of a file of packed weights, without its weights.

    Raises:
        UserError: The metadata are damaged. Damage to the weights only `read` finds.
    """
    with _damage_as_user_error(path), zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{METADATA}.npy")
        _check_size([member])
        with archive.open(member) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        return _checked_metadata(json.loads(str(array)))
