"""What the readers share: files, numbers, keypoints and masks as Samples hold them, and the crop of one hand out of a scene.

`where` names a file and its line or record, and begins every message.
"""

import dataclasses
import hashlib
import json
import pathlib

import cv2
import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleError

KEYPOINT_BOX_FACTOR = 2.2  # side of a hand's crop, by the longer side of its keypoints' box: Simon et al. 2017, the paper's [9]
HAND_BOX_FACTOR = 1.5  # the same, by a box that was drawn around the whole hand

_KEY_BYTES = 400  # LMDB takes 511, and SampleWriter puts the place before the key
_PNG = (
    cv2.IMWRITE_PNG_BILEVEL,
    1,
    cv2.IMWRITE_PNG_COMPRESSION,
    6,
)  # one bit a pixel: read five times as fast as eight


def read_file(path: pathlib.Path, where: str) -> bytes:
    """The file's bytes; SampleError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SampleError(f"{where}: {path} cannot be read ({error.strerror})") from None


def read_json(path: pathlib.Path):
    """The content of a JSON file; UserError names the line that is not JSON."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): is the file complete?") from None


def numbers(values, shape: tuple, where: str, name: str) -> np.ndarray:
    """`values` as float64 of `shape`; SampleError where they are something else."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = None
    if values is None or array is None or array.size != np.prod(shape):
        found = (
            "missing"
            if values is None
            else "no array of numbers"
            if array is None
            else f"{array.size} numbers"
        )
        raise SampleError(
            f"{where}: {name} is {found}, {' x '.join(map(str, shape))} numbers are needed"
        )
    return array.reshape(shape)


def keypoints_of(xy: np.ndarray, labelled: np.ndarray, where: str) -> np.ndarray:
    """(21, 3) float32 of x, y, v from (21, 2) of x, y and (21,) bool; a keypoint that is not labelled is (-1, -1, 0)."""
    keypoints = np.where(labelled[:, None], np.column_stack([xy, labelled]), (-1, -1, 0)).astype(
        np.float32
    )
    if not np.isfinite(keypoints).all():
        index = int(np.flatnonzero(~np.isfinite(keypoints).all(axis=1))[0])
        raise SampleError(
            f"{where}: keypoint {index} is labelled but its place is {xy[index].tolist()}"
        )
    return keypoints


def keypoint_box(keypoints: np.ndarray, where: str) -> tuple:
    """(left, top, right, bottom) of the labelled keypoints."""
    xy = keypoints[keypoints[:, 2] > 0, :2]
    if not len(xy):
        raise SampleError(f"{where}: no keypoint is labelled")
    return (*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist())


def decoded_mask(data: bytes, where: str) -> np.ndarray:
    """HxW uint8 of an encoded mask, as stored: an EXIF orientation is ignored, as the image's is."""
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if mask is None:
        raise SampleError(f"{where}: the mask ({len(data)} bytes) cannot be decoded")
    return mask


def mask_png(hand: np.ndarray) -> bytes:
    """PNG of {0, 255} from an HxW array that is nonzero on the hand."""
    return cv2.imencode(".png", np.where(hand, 255, 0).astype(np.uint8), _PNG)[1].tobytes()


def binary_mask_png(data: bytes, where: str) -> bytes:
    """PNG of {0, 255} from an encoded mask whose values may be {0, 1}, blurred or coloured: above half its maximum is hand."""
    mask = decoded_mask(data, where)
    return mask_png(mask > mask.max() / 2)


def sample_key(*parts: str) -> str:
    """The parts joined to a name that LMDB and file systems take: no slashes, no more bytes than LMDB allows."""
    key = "_".join(parts).replace("/", "_")
    encoded = key.encode("utf-8", "backslashreplace")
    if len(encoded) <= _KEY_BYTES:
        return encoded.decode()
    return (
        f"{encoded[: _KEY_BYTES - 50].decode(errors='ignore')}_{hashlib.sha1(encoded).hexdigest()}"
    )


def framed(
    sample: Sample, where: str, size: tuple = None, box: tuple = None, factor: float = 1.0
) -> Sample:
    """The sample, checked: image and mask are of one size, and of the labelled `size` (width, height) where there is one.

    With a `box` (left, top, right, bottom) the sample is cut to the square of `factor` times the box's longer side around
    the box, as far as the picture reaches, and stored as PNG; a square that holds the whole picture changes no byte of
    it. Keypoints outside become missing.
    """
    image, mask = sample.image(), sample.mask()
    width, height = image.shape[1::-1]
    if size is not None and size != (width, height):
        raise SampleError(
            f"{where}: the image is {width} x {height}, the label says {size[0]} x {size[1]}"
        )
    if mask is not None and mask.shape != (height, width):
        raise SampleError(
            f"{where}: the mask is {mask.shape[1]} x {mask.shape[0]}, the image {width} x {height}"
        )
    left, top, right, bottom = (
        (0, 0, width, height) if box is None else _square(box, factor, width, height)
    )
    if right <= left or bottom <= top:
        raise SampleError(
            f"{where}: the hand's box {box} lies outside the image, {width} x {height}"
        )
    xy = sample.keypoints[:, :2] - (left, top)
    inside = ((xy >= -0.5) & (xy < (right - left - 0.5, bottom - top - 0.5))).all(axis=1) & (
        sample.keypoints[:, 2] > 0
    )
    sample = dataclasses.replace(sample, keypoints=keypoints_of(xy, inside, where))
    if (right - left, bottom - top) == (width, height):
        return sample
    window = np.s_[top:bottom, left:right]
    return dataclasses.replace(
        sample,
        image_bytes=cv2.imencode(".png", image[window])[1].tobytes(),
        mask_png=None if mask is None else mask_png(mask[window]),
    )


def _square(box: tuple, factor: float, width: int, height: int) -> tuple:
    """The window in whole pixels, left and top in it, right and bottom not, clipped to the picture."""
    left, top, right, bottom = box
    centre, half = (
        np.array([left + right, top + bottom]) / 2,
        factor * max(right - left, bottom - top) / 2,
    )
    first = np.maximum(np.round(centre - half), 0).astype(int)
    last = np.minimum(np.round(centre + half) + 1, (width, height)).astype(int)
    return (*first.tolist(), *last.tolist())
