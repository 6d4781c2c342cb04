"""Packed weights: the form in which weights ship, half as large as a caffemodel.

An .npz file of NumPy's, with a float16 array `layer/place` for each parameter blob, in the order of the net, and `metadata`, a
JSON text:

    {"variant": "mini", "net": "MCC_mini", "iterations": 40000, "data": "synth:seed=0&size=224", "date": "2026-11-30", "input_size": 160}

`iterations` and `data` are null where they are not known. `input_size`, pixels, is there where hands are found better with another input
than the variant's; the net is convolutional. `mcc_caffe.pack` writes such files.
"""

import io
import json
import pathlib
import struct
import zipfile

import numpy as np

from mcc_caffe.core.errors import UserError

METADATA = "metadata"
MAX_ERROR = 1e-3  # of a blob, beside its norm; rounding to float16 alone costs 2e-4, 5e-4 at most
_MAGIC = b"PK\x03\x04"  # of a zip file, which an .npz is


def is_packed(path) -> bool:
    """Whether a file is of this form; a caffemodel is not."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def to_bytes(layers: dict, metadata: dict) -> bytes:
    """The file of {layer: [float32 array, ...]}; the same bytes for the same weights. UserError where float16 cannot hold a layer."""
    arrays = {
        f"{name}/{place}": _halved(name, blob)
        for name, blobs in layers.items()
        for place, blob in enumerate(blobs)
    }
    content = io.BytesIO()
    np.savez(content, **arrays, **{METADATA: np.array(json.dumps(metadata))})
    return content.getvalue()


def _halved(name: str, blob: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = blob.astype(np.float16)
    if not np.isfinite(half).all():
        raise UserError(
            f"layer {name} has the weight {blob[~np.isfinite(half)][0]:g}, float16 ends at {np.finfo(np.float16).max:g}: "
            "these weights cannot be packed, ship the caffemodel"
        )
    size = np.linalg.norm(blob.astype(np.float64))
    if np.linalg.norm(blob - half.astype(np.float64)) > MAX_ERROR * size:
        raise UserError(
            f"layer {name} has weights of {np.abs(blob).max():g} at most, float16 loses digits below "
            f"{np.finfo(np.float16).smallest_normal:.1g}: these weights cannot be packed, ship the caffemodel"
        )
    return half


def from_bytes(content: bytes, what) -> tuple:
    """({layer: [float32 array, ...]}, metadata) of a file's content; UserError, which names `what`, where it is damaged."""
    layers = {}
    try:
        damaged = zipfile.ZipFile(io.BytesIO(content)).testzip()
        if damaged:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            metadata = json.loads(str(file[METADATA]))
            for name in file.files:
                if name != METADATA:
                    layers.setdefault(name.rpartition("/")[0], []).append(
                        file[name].astype(np.float32)
                    )
    except (
        zipfile.BadZipFile,
        struct.error,
        ValueError,
        KeyError,
        RuntimeError,
        EOFError,
    ) as error:
        raise UserError(
            f"{what} is no whole file of packed weights ({error}): get it again"
        ) from None
    return layers, metadata


def read(path) -> tuple:
    """({layer: [float32 array, ...]}, metadata) of a file of packed weights."""
    return from_bytes(pathlib.Path(path).read_bytes(), path)
