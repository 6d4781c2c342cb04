"""Helpers of all readers: files, masks, and cutting one hand out of a scene.

In every function `location` names a file and its line or record, and begins every message.
"""

import collections
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import stat
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.geometry import lie_inside
from mcc_caffe.core.images import ImageError, decode_image, read_header
from mcc_caffe.core.keypoint_labels import mark_missing
from mcc_caffe.data.mask_files import MaskError, decode_mask_values, hand_pixels, header_size
from mcc_caffe.data.samples import Sample

# Side of a hand's crop, as a multiple of the longer side of its keypoints' box (Simon et al. 2017,
# the paper's [9]).
KEYPOINT_BOX_FACTOR = 2.2
HAND_BOX_FACTOR = 1.5  # the same, for a box that was drawn around the whole hand

MAX_FILE_BYTES = 256 << 20  # of an image or a mask; photographs have far fewer

_log = logging.getLogger(__name__)

_KEY_BYTES = 400  # LMDB takes 511, and SampleWriter puts a number of 9 characters before the key
# One bit a pixel, which is read five times as fast as eight.
_PNG_OPTIONS = (cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 6)


class Box(NamedTuple):
    """A rectangle in pixels of an image."""

    left: float
    top: float
    right: float
    bottom: float


class Window(NamedTuple):
    """A rectangle of whole pixels: left and top belong to it, right and bottom do not."""

    left: int
    top: int
    right: int
    bottom: int


def read_file(path: Path, location: str) -> bytes:
    """Return a file's bytes.

    A pipe or a device would block or never end, so only regular files are opened.

    Raises:
        SampleError: The file cannot be read, is no regular file, or is too large for an image.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SampleError(f"{location}: {path} is no regular file: put the image itself there")
        if status.st_size > MAX_FILE_BYTES:
            raise SampleError(
                f"{location}: {path} has {status.st_size} bytes, "
                f"{MAX_FILE_BYTES} are admitted: save the image smaller"
            )
        return path.read_bytes()
    except OSError as error:
        raise SampleError(f"{location}: {path} cannot be read ({error.strerror})") from None
    except ValueError as error:  # a null byte or half of a surrogate pair in the name
        raise SampleError(f"{location}: {str(path)!r} cannot be a file's name ({error})") from None


def read_named_file(folder: Path, name: str, location: str, *, roots: Sequence[Path] = ()) -> bytes:
    """Read a file that a label names; as `read_file`.

    A label must not fetch files from elsewhere on the machine into a data set. Links are followed:
    whoever wants images from elsewhere links their folder.

    Args:
        folder: The folder that the name starts from.
        name: What the label says.
        location: File and record, for messages.
        roots: Other folders below which the file may lie.

    Raises:
        SampleError: The file lies elsewhere or cannot be read.
    """
    # Without `..`, which the system would follow out of a linked folder. The names of a set may
    # start from its real path, or from the path by which the user reaches it.
    for spelling in (os.path.realpath, os.path.abspath):
        path = Path(os.path.normpath(os.path.join(spelling(folder), name)))
        if any(path.is_relative_to(spelling(root)) for root in (folder, *roots)):
            return read_file(path, location)
    raise SampleError(
        f"{location}: the image {name!r} lies outside the set's folder {folder}: "
        "link or copy its folder into the set"
    )


def check_sha256(content: bytes, sha256: Any, location: str, name: str) -> None:
    """Check that an image is the one that was labelled.

    Args:
        content: The bytes of the image's file.
        sha256: What the labels say of the file, in hexadecimal digits.
        location: File and record, for messages.
        name: The image's, for messages.

    Raises:
        SampleError: It is another image.
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SampleError(
            f"{location}: {name} is not the image that was labelled (its SHA-256 is another): "
            "start `mcc-web label` once on the folder of the images, or put that image back"
        )


def exif_orientation(content: bytes) -> int:
    """Return the EXIF orientation of an image's file, 1 to 8; 1, as stored, where it has none."""
    try:
        return read_header(content).orientation
    except ImageError:  # it is too large to be decoded, which then says so
        return 1


def sample_orientation(sample: Sample) -> int:
    """Return the EXIF orientation, 1 to 8, of the file that a sample's image comes from."""
    if sample.orientation is not None:
        return sample.orientation
    return exif_orientation(sample.image_bytes)


def turn_upright(content: bytes, location: str) -> bytes:
    """Turn an image as its EXIF orientation says.

    Args:
        content: The bytes of the image's file.
        location: File and record, for messages.

    Returns:
        A PNG without orientation; the same bytes where nothing is to be turned.

    Raises:
        SampleError: The image cannot be decoded.
    """
    if exif_orientation(content) == 1:
        return content
    try:
        return cv2.imencode(".png", decode_image(content))[1].tobytes()
    except ImageError as error:
        raise SampleError(f"{location}: the image cannot be turned upright: {error}") from None


def say_passed_over(path: Path, count: int, what: str) -> None:
    """Say in one line what a label file has or lacks and no sample is made of.

    Args:
        path: The label file, or the folder.
        count: How many; 0 says nothing.
        what: What they are, such as "hands without labels".
    """
    if count:
        _log.warning("%s: passed over %d %s", path, count, what)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; UserError names the line that is not JSON."""
    if path.exists() and not path.is_file():  # a pipe would block, a device may never end
        raise UserError(f"{path} is no regular file: put the labels themselves there")
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable") from None
    except RecursionError:
        raise UserError(f"{path} nests its values too deep: is it a label file?") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): is the file complete?") from None


def bound_keypoints(keypoints: np.ndarray, location: str) -> Box:
    """Return the box of the labelled ones of (21, 3) keypoints; SampleError where none is."""
    xy = keypoints[keypoints[:, 2] > 0, :2]
    if not len(xy):
        raise SampleError(f"{location}: no keypoint is labelled")
    return Box(*xy.min(axis=0).tolist(), *xy.max(axis=0).tolist())


def decode_mask(data: bytes, location: str) -> np.ndarray:
    """Decode a mask's file; see `mcc_caffe.data.mask_files.decode_mask_values`.

    Returns:
        HxW, the file's values.

    Raises:
        SampleError: The bytes are no image, or its colours and its transparency disagree.
    """
    with _mask_errors_of(location):
        return decode_mask_values(data)


def encode_mask(hand: np.ndarray) -> bytes:
    """Return the PNG of {0, 255} of an HxW array that is nonzero on the hand."""
    return cv2.imencode(".png", np.where(hand, 255, 0).astype(np.uint8), _PNG_OPTIONS)[1].tobytes()


def binarize_mask(data: bytes, location: str, size: tuple[int, int] | None = None) -> bytes:
    """Return the PNG of {0, 255} of a mask's file, by the rule of `mcc_caffe.data.mask_files`.

    Raises:
        SampleError: The bytes are no image, one of another size, or their meaning is unclear.
    """
    with _mask_errors_of(location):
        return encode_mask(hand_pixels(decode_mask_values(data, size)))


@contextlib.contextmanager
def _mask_errors_of(location: str) -> Iterator[None]:
    """Raise SampleError, which names the location, in place of MaskError."""
    try:
        yield
    except MaskError as error:
        raise SampleError(f"{location}: {error}") from None


def image_size(
    sample: Sample, location: str, labelled_size: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Return the size of a sample's image, from its header where that is possible.

    Args:
        sample: The whole image.
        location: File and record, for messages.
        labelled_size: (width, height) that the label says, in pixels, or None.

    Returns:
        (width, height) in pixels.

    Raises:
        SampleError: The label says another size, or the image cannot be decoded.
    """
    try:
        width, height = header_size(sample.image_bytes) or sample.image().shape[1::-1]
    except UserError as error:
        raise SampleError(f"{location}: {error}") from None
    if labelled_size is not None and labelled_size != (width, height):
        is_turned = exif_orientation(sample.image_bytes) > 4 and labelled_size == (height, width)
        raise SampleError(
            f"{location}: the image is {width} x {height}, "
            f"the label says {labelled_size[0]} x {labelled_size[1]}"
            + (": the label refers to the upright image, --orientation upright" * is_turned)
        )
    return width, height


def make_key(*parts: str) -> str:
    """Join parts to a key that LMDB and file systems take: no slashes, and not too many bytes."""
    key = "_".join(parts).replace("/", "_")
    encoded = key.encode("utf-8", "backslashreplace")
    if len(encoded) <= _KEY_BYTES:
        return encoded.decode()
    return (
        f"{encoded[: _KEY_BYTES - 50].decode(errors='ignore')}_{hashlib.sha1(encoded).hexdigest()}"
    )


def number_equal_keys(samples: Iterable[tuple[Hashable, str]]) -> list[str]:
    """Make the keys of different samples differ, such as those of `a/1.jpg` and `a_1.jpg`.

    Args:
        samples: What tells the sample from others of its split, and its key by `make_key`.

    Returns:
        The keys. Of equal ones the first stays as it is, and the next ones end in `_2`, `_3`, ...
        A sample that is listed twice has the same key twice.
    """
    keys: dict[Hashable, str] = {}
    taken: set[str] = set()
    counts: collections.Counter[str] = collections.Counter()
    listed = []
    for identity, key in samples:
        if identity not in keys:
            free_key = key
            while free_key in taken:
                counts[key] += 1
                free_key = f"{key}_{counts[key] + 1}"
            taken.add(free_key)
            keys[identity] = free_key
        listed.append(keys[identity])
    return listed


def frame_sample(
    sample: Sample,
    location: str,
    *,
    box: Sequence[float] | None = None,
    factor: float = 1.0,
) -> Sample:
    """Check the size of a sample's mask and, with a box, cut the sample to a square around a hand.

    The square is clipped to the image. What is cut is stored as PNG; a square that holds the whole
    image changes no byte of it. Keypoints outside become missing.

    Args:
        sample: The whole image with one hand's mask and keypoints.
        location: File and record, for messages.
        box: Left, top, right, bottom of the hand in pixels, or None for the whole image.
        factor: Side of the square, as a multiple of the box's longer side.

    Returns:
        The sample, or its crop.

    Raises:
        SampleError: Image or mask cannot be decoded, their sizes disagree, the box lies outside the
            image, or most of the image's keypoints lie outside the square.
    """
    try:
        image, mask = sample.image(), sample.mask()
        height, width = image.shape[:2]
        if mask is not None:
            sample.check_mask_size((mask.shape[1], mask.shape[0]), (width, height))
    except SampleError as error:  # names the sample by its key
        raise SampleError(f"{location}: {error}") from None
    window = Window(0, 0, width, height)
    if box is not None:
        window = clipped_square(box, factor, width, height)
        if window.right <= window.left or window.bottom <= window.top:
            raise SampleError(
                f"{location}: the hand's box {tuple(box)} lies outside the image, "
                f"{width} x {height}"
            )
    left, top, right, bottom = window
    xy = sample.keypoints[:, :2] - (left, top)
    is_labelled = sample.keypoints[:, 2] > 0
    outside = is_labelled & ~lie_inside(sample.keypoints[:, :2], width, height)
    is_in_window = is_labelled & lie_inside(xy, right - left, bottom - top)
    lost = np.count_nonzero(is_labelled & ~outside & ~is_in_window)
    if lost > np.count_nonzero(is_in_window):
        raise SampleError(
            f"{location}: {lost} of {np.count_nonzero(is_labelled)} keypoints lie far outside of "
            f"the hand's box {tuple(box or ())}: is it of another hand, or not in pixels?"
        )
    sample = dataclasses.replace(
        sample,
        keypoints=mark_missing(xy, is_in_window),
        outside=tuple((index, *xy[index].tolist()) for index in np.flatnonzero(outside).tolist()),
        source_box=(-left, -top, width - left, height - top),
        is_crop=(right - left, bottom - top) != (width, height),
        orientation=exif_orientation(sample.image_bytes),  # a crop's own file has none
    )
    if not sample.is_crop:
        return sample
    pixels = np.s_[top:bottom, left:right]
    return dataclasses.replace(
        sample,
        image_bytes=cv2.imencode(".png", image[pixels])[1].tobytes(),
        mask_png=None if mask is None else encode_mask(mask[pixels]),
    )


def clipped_square(box: Sequence[float], factor: float, width: int, height: int) -> Window:
    """Return the square around a box, clipped to the image.

    Args:
        box: Left, top, right, bottom in pixels.
        factor: Side of the square, as a multiple of the box's longer side.
        width: The image's width in pixels.
        height: The image's height in pixels.
    """
    left, top, right, bottom = box
    centre = np.array([left + right, top + bottom]) / 2
    half = factor * max(right - left, bottom - top) / 2
    first = np.maximum(np.round(centre - half), 0).astype(int)
    last = np.minimum(np.round(centre + half) + 1, (width, height)).astype(int)
    return Window(*first.tolist(), *last.tolist())
