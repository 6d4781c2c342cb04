"""Helpers of all readers: files, numbers, keypoints, masks, and cutting one hand out of a scene.

In every function `location` names a file and its line or record, and begins every message.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleError

# Side of a hand's crop, as a multiple of the longer side of its keypoints' box (Simon et al. 2017,
# the paper's [9]).
KEYPOINT_BOX_FACTOR = 2.2
HAND_BOX_FACTOR = 1.5  # the same, for a box that was drawn around the whole hand

_KEY_BYTES = 400  # LMDB takes 511, and SampleWriter puts a number of 9 characters before the key
# One bit a pixel, which is read five times as fast as eight.
_PNG_OPTIONS = (cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 6)


class Box(NamedTuple):
    """A rectangle in pixels of a picture."""

    left: float
    top: float
    right: float
    bottom: float


class _Window(NamedTuple):
    """A rectangle of whole pixels: left and top belong to it, right and bottom do not."""

    left: int
    top: int
    right: int
    bottom: int


def read_file(path: Path, location: str) -> bytes:
    """Return a file's bytes; SampleError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SampleError(f"{location}: {path} cannot be read ({error.strerror})") from None


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; UserError names the line that is not JSON."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): is the file complete?") from None


def parse_numbers(values: Any, shape: tuple[int, ...], *, location: str, field: str) -> np.ndarray:
    """Turn a label's value into an array of numbers.

    Args:
        values: Nested or flat lists of numbers, as a label file has them, or None.
        shape: Shape of the array; only the count of numbers has to agree.
        location: File and record, for messages.
        field: Name of the value, for messages.

    Returns:
        float64 of `shape`.

    Raises:
        SampleError: `values` is missing, is not numeric or has another count.
    """
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = None
    if values is not None and array is not None and array.size == np.prod(shape):
        return array.reshape(shape)
    if values is None:
        content = "missing"
    else:
        content = "no array of numbers" if array is None else f"{array.size} numbers"
    raise SampleError(
        f"{location}: {field} is {content}, {' x '.join(map(str, shape))} numbers are needed"
    )


def make_keypoints(xy: np.ndarray, labelled: np.ndarray, location: str) -> np.ndarray:
    """Return the keypoints as a `Sample` holds them.

    Args:
        xy: (21, 2) x, y in pixels.
        labelled: (21,) bool.
        location: File and record, for messages.

    Returns:
        (21, 3) float32 of x, y, v; a keypoint that is not labelled is (-1, -1, 0).

    Raises:
        SampleError: A labelled keypoint is not finite.
    """
    keypoints = np.where(labelled[:, None], np.column_stack([xy, labelled]), (-1, -1, 0)).astype(
        np.float32
    )
    finite = np.isfinite(keypoints).all(axis=1)
    if not finite.all():
        index = int(np.flatnonzero(~finite)[0])
        raise SampleError(
            f"{location}: keypoint {index} is labelled but its place is {xy[index].tolist()}"
        )
    return keypoints


def bound_keypoints(keypoints: np.ndarray, location: str) -> Box:
    """Return the box of the labelled ones of (21, 3) keypoints; SampleError where none is."""
    xy = keypoints[keypoints[:, 2] > 0, :2]
    if not len(xy):
        raise SampleError(f"{location}: no keypoint is labelled")
    return Box(*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist())


def decode_mask(data: bytes, location: str) -> np.ndarray:
    """Decode a mask's file as it is stored: an EXIF orientation is ignored, as the image's is.

    Returns:
        HxW uint8, grey.

    Raises:
        SampleError: The bytes are no picture.
    """
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if mask is None:
        raise SampleError(f"{location}: the mask ({len(data)} bytes) cannot be decoded")
    return mask


def encode_mask(hand: np.ndarray) -> bytes:
    """Return the PNG of {0, 255} of an HxW array that is nonzero on the hand."""
    return cv2.imencode(".png", np.where(hand, 255, 0).astype(np.uint8), _PNG_OPTIONS)[1].tobytes()


def binarize_mask(data: bytes, location: str) -> bytes:
    """Return the PNG of {0, 255} of a mask's file, whose values may be anything.

    They may be {0, 1}, blurred or coloured: what is above half of the maximum is hand.

    Raises:
        SampleError: The bytes are no picture.
    """
    mask = decode_mask(data, location)
    return encode_mask(mask > mask.max() / 2)


def make_key(*parts: str) -> str:
    """Join parts to a key that LMDB and file systems take: no slashes, and not too many bytes."""
    key = "_".join(parts).replace("/", "_")
    encoded = key.encode("utf-8", "backslashreplace")
    if len(encoded) <= _KEY_BYTES:
        return encoded.decode()
    return (
        f"{encoded[: _KEY_BYTES - 50].decode(errors='ignore')}_{hashlib.sha1(encoded).hexdigest()}"
    )


def frame_sample(
    sample: Sample,
    location: str,
    *,
    size: tuple[int, int] | None = None,
    box: Sequence[float] | None = None,
    factor: float = 1.0,
) -> Sample:
    """Check a sample's sizes and, with a box, cut it to a square around one hand.

    The square is clipped to the picture. What is cut is stored as PNG; a square that holds the
    whole picture changes no byte of it. Keypoints outside become missing.

    Args:
        sample: The whole picture with one hand's mask and keypoints.
        location: File and record, for messages.
        size: (width, height) that the label says, in pixels, or None.
        box: Left, top, right, bottom of the hand in pixels, or None for the whole picture.
        factor: Side of the square, as a multiple of the box's longer side.

    Returns:
        The sample, or its crop.

    Raises:
        SampleError: The sizes disagree, or the box lies outside the image.
    """
    image, mask = sample.image(), sample.mask()
    height, width = image.shape[:2]
    if size is not None and size != (width, height):
        raise SampleError(
            f"{location}: the image is {width} x {height}, the label says {size[0]} x {size[1]}"
        )
    if mask is not None and mask.shape != (height, width):
        raise SampleError(
            f"{location}: the mask is {mask.shape[1]} x {mask.shape[0]}, "
            f"the image {width} x {height}"
        )
    window = _Window(0, 0, width, height)
    if box is not None:
        window = _square_around(box, factor, width, height)
        if window.right <= window.left or window.bottom <= window.top:
            raise SampleError(
                f"{location}: the hand's box {tuple(box)} lies outside the image, "
                f"{width} x {height}"
            )
    left, top, right, bottom = window
    xy = sample.keypoints[:, :2] - (left, top)
    inside = ((xy >= -0.5) & (xy < (right - left - 0.5, bottom - top - 0.5))).all(axis=1)
    labelled = inside & (sample.keypoints[:, 2] > 0)
    sample = dataclasses.replace(sample, keypoints=make_keypoints(xy, labelled, location))
    if (right - left, bottom - top) == (width, height):
        return sample
    pixels = np.s_[top:bottom, left:right]
    return dataclasses.replace(
        sample,
        image_bytes=cv2.imencode(".png", image[pixels])[1].tobytes(),
        mask_png=None if mask is None else encode_mask(mask[pixels]),
    )


def _square_around(box: Sequence[float], factor: float, width: int, height: int) -> _Window:
    """The square of `factor` times the box's longer side around the box, clipped to the picture."""
    left, top, right, bottom = box
    centre = np.array([left + right, top + bottom]) / 2
    half = factor * max(right - left, bottom - top) / 2
    first = np.maximum(np.round(centre - half), 0).astype(int)
    last = np.minimum(np.round(centre + half) + 1, (width, height)).astype(int)
    return _Window(*first.tolist(), *last.tolist())
