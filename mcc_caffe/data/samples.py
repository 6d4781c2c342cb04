"""A Sample (one image, its hand mask, its 21 keypoints) and the LMDB sets that hold samples.

A set is a folder of two LMDBs that share their keys, `images` and `annotations`. Each record is a
Caffe `Datum`:

- images: `encoded`; `data` holds the bytes of the image file as they were on disk (a PNG where the
  sample is a part of a larger image, or was turned upright); `label` is the sample's index in the
  set;
- annotations: `encoded`; `data` holds the hand mask as PNG of {0, 255} (best with one bit a pixel;
  empty where the set has no masks); `float_data` holds 21 x (x, y, v), where v is 1
  for a labelled and 0 for a missing keypoint; `label` as above;

and `info.json`, which says how the set was made. `mcc_caffe.data.writers` writes such sets.
"""

import functools
import hashlib
import json
import operator
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np

from mcc_caffe.caffe_io.protobuf import DecodeError, messages
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.images import ImageError, decode_image, decode_pixels, read_header
from mcc_caffe.core.keypoint_labels import as_real_numbers
from mcc_caffe.data.lmdb_pages import check_lmdb
from mcc_caffe.paper import KEYPOINT_COUNT

IMAGES, ANNOTATIONS, INFO = "images", "annotations", "info.json"

_DECODING_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

_JPEG_START = b"\xff\xd8"
_MASK_FLAGS = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH


@dataclass(frozen=True, eq=False)  # arrays have no single truth of being equal
class Sample:
    """One labelled image.

    Readers set the last four, and sets do not store them. Where no reader says them, `outside` is
    empty and the others are None.

    Attributes:
        key: The sample's name, unique in its set.
        image_bytes: The encoded image file.
        mask_png: PNG of the hand mask, of the image's size, {0, 255}; None without a mask.
        keypoints: (21, 3) float32 of x, y in image pixels and v: 1 where the keypoint is labelled,
            0 where it is missing; a missing one is (-1, -1, 0).
        outside: (keypoint's index, x, y) of each that the label puts outside the source image,
            which is why it is missing; x and y in image pixels.
        source_box: Left, top, right, bottom of the source image, in pixels of the image, which may
            be a crop of it.
        is_crop: Whether the image is a crop of its source image.
        orientation: The EXIF orientation, 1 to 8, of the file that the image comes from. The image
            is not turned by it.
    """

    key: str
    image_bytes: bytes = field(repr=False)
    mask_png: bytes | None = field(repr=False)
    keypoints: np.ndarray = field(repr=False)
    outside: tuple[tuple[int, float, float], ...] = ()
    source_box: tuple[int, int, int, int] | None = None
    is_crop: bool | None = None
    orientation: int | None = None

    def image(self, reduction: int = 1) -> np.ndarray:
        """Decode the image. An EXIF orientation is ignored, as OneHand10K's labels ignore it.

        Args:
            reduction: The factor by which decoding divides each side of a JPEG (see `jpeg_size`):
                1, 2, 4 or 8. Sides are rounded up. Larger ones cost less.

        Returns:
            HxWx3 uint8 BGR.

        Raises:
            SampleError: The image cannot be decoded.
        """
        if self.image_bytes.startswith(_JPEG_START):  # 8 bits without transparency
            flags = _DECODING_FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
            return self._decode(self.image_bytes, "image", flags)
        try:
            return decode_image(self.image_bytes, upright=False)
        except ImageError as error:
            raise SampleError(
                f"{self.key}: the image ({len(self.image_bytes)} bytes) cannot be decoded: {error}"
            ) from None

    def jpeg_size(self) -> tuple[int, int] | None:
        """Read the size of a JPEG from its header.

        Returns:
            (width, height) as stored; None for other formats, and where the header is damaged.
        """
        if not self.image_bytes.startswith(_JPEG_START):
            return None
        try:
            header = read_header(self.image_bytes)
        except ImageError:  # it is too large, as decoding says
            return None
        return (header.width, header.height) if header.width else None

    def mask(self) -> np.ndarray | None:
        """Decode the hand mask.

        Returns:
            HxW uint8 of {0, 1}; None where the sample has no mask.

        Raises:
            SampleError: The mask cannot be decoded, or it has values above 0, but none from 128 on.
        """
        if self.mask_png is None:
            return None
        values = self._decode(self.mask_png, "mask", _MASK_FLAGS)
        hand = values >= 128
        if not hand.any() and values.any():
            raise SampleError(
                f"{self.key}: the mask has values up to {values.max()}, 0 and 255 are needed: "
                "write it with data_tools.readers.shared.binarize_mask"
            )
        return hand.view(np.uint8)

    def check_mask_size(self, mask_size: tuple[int, int], image_size: tuple[int, int]) -> None:
        """Check that the mask has the image's size; both are (width, height) in pixels.

        Raises:
            SampleError: It has another one, so that it would lie elsewhere than the hand.
        """
        if mask_size != image_size:
            raise SampleError(
                f"{self.key}: the mask is {mask_size[0]} x {mask_size[1]}, the image "
                f"{image_size[0]} x {image_size[1]}: give the mask the image's size"
            )

    def check_files(self) -> None:
        """Check that the image and the mask are the bytes of files.

        Raises:
            SampleError: The image or the mask is something else, such as an array or a path.
        """
        if not isinstance(self.image_bytes, bytes):
            raise SampleError(
                f"{self.key}: the image is {type(self.image_bytes).__name__}: "
                "the bytes of an image file are needed"
            )
        if not isinstance(self.mask_png, bytes | None):
            raise SampleError(
                f"{self.key}: the mask is {type(self.mask_png).__name__}: "
                "the bytes of a PNG of {0, 255}, of the image's size, or None are needed"
            )

    def check_keypoints(self) -> None:
        """Check that the keypoints have the form that the class describes.

        Raises:
            SampleError: They have another shape, are not finite, or v is neither 0 nor 1.
        """
        try:
            keypoints = as_real_numbers(self.keypoints, np.float32)
        except ValueError:
            raise SampleError(f"{self.key}: the keypoints are no array of real numbers") from None
        if keypoints.shape != (KEYPOINT_COUNT, 3):
            raise SampleError(
                f"{self.key}: the keypoints have the shape {keypoints.shape}, "
                f"({KEYPOINT_COUNT}, 3) of x, y, v is needed"
            )
        broken = find_broken_keypoints(keypoints)
        if broken.any():
            index = int(broken.argmax())  # of the first
            x, y, v = keypoints[index]
            raise SampleError(
                f"{self.key}: keypoint {index} is x {x:g}, y {y:g}, v {v:g}: finite x and y "
                "are needed, and 1 as v where it is labelled, else 0"
            )

    def _decode(self, content: bytes, kind: str, flags: int) -> np.ndarray:
        """Decode an image; the error calls it by its kind."""
        try:
            return decode_pixels(content, flags)
        except ImageError:
            raise SampleError(
                f"{self.key}: the {kind} ({len(content)} bytes) cannot be decoded"
            ) from None

    def to_datums(self, label: int) -> tuple[bytes, bytes]:
        """Serialise the sample as its two records.

        Args:
            label: The sample's index in its set.

        Returns:
            The `Datum`s of the image and of the annotation.
        """
        image = messages().Datum(data=self.image_bytes, encoded=True, label=label)
        annotation = messages().Datum(data=self.mask_png or b"", encoded=True, label=label)
        annotation.float_data.extend(np.asarray(self.keypoints, np.float32).ravel().tolist())
        return image.SerializeToString(), annotation.SerializeToString()

    @staticmethod
    def from_datums(key: str, image: bytes, annotation: bytes) -> "Sample":
        """Read a sample from its two records.

        Args:
            key: The sample's name.
            image: The serialised `Datum` of the image.
            annotation: The serialised `Datum` of mask and keypoints.

        Raises:
            SampleError: A record is damaged.
        """
        try:
            image_datum = messages().Datum.FromString(image)
            annotation_datum = messages().Datum.FromString(annotation)
        except DecodeError:
            raise SampleError(f"{key}: the record is not a Caffe Datum") from None
        numbers = annotation_datum.float_data
        if len(numbers) != KEYPOINT_COUNT * 3:
            raise SampleError(
                f"{key}: the record has {len(numbers)} keypoint numbers, "
                f"{KEYPOINT_COUNT * 3} are needed"
            )
        keypoints = np.array(numbers, np.float32).reshape(KEYPOINT_COUNT, 3)
        return Sample(key, image_datum.data, annotation_datum.data or None, keypoints)


def find_broken_keypoints(keypoints: np.ndarray) -> np.ndarray:
    """Return which keypoints have numbers that a Sample's may not have.

    Args:
        keypoints: (K, 3) float of x, y, v.

    Returns:
        (K,) bool: whether x or y is not finite, or v is neither 0 nor 1.
    """
    return ~np.isfinite(keypoints).all(axis=1) | ~np.isin(keypoints[:, 2], (0, 1))


def key_text(key: bytes) -> str:
    """Return an LMDB key as text; bytes that are not UTF-8 are written out."""
    return key.decode("utf-8", "backslashreplace")


# LMDB forbids to open a database twice in one process: the open ones that are in use, by device and
# inode of their files, since a set that is built again has the path of the one before.
_OPEN_DATABASES: weakref.WeakValueDictionary[tuple[int, int], lmdb.Environment] = (
    weakref.WeakValueDictionary()
)


class SampleSet:
    """Reads the samples of an LMDB set by their index: `len(samples)`, `samples[i]`.

    A sample whose record is missing or damaged raises SampleError. A process that gets a pickled
    set opens its folder itself.

    Attributes:
        folder: The set's folder.
        keys: The samples' names, in their order.
    """

    def __init__(self, folder: str | Path):
        """Open a set.

        Args:
            folder: The folder that holds the two LMDBs.

        Raises:
            UserError: The set is missing, empty or damaged, or this process has it open by other
                means.
        """
        self.folder = Path(folder)
        self._images = self._open_database(IMAGES)
        self._annotations = self._open_database(ANNOTATIONS)
        try:
            with self._images.begin() as transaction:
                self.keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
        except lmdb.Error as error:
            raise UserError(
                f"the LMDB {self.folder / IMAGES} is damaged ({error}): build the set again"
            ) from None
        if not self.keys:
            raise UserError(
                f"the set {self.folder} is empty: "
                "build it again with `python -m data_tools.build_lmdb`"
            )

    def _open_database(self, name: str) -> lmdb.Environment:
        """Open one of the set's LMDBs, or take the one that this process has open."""
        path = self.folder / name
        if not (path / "data.mdb").is_file():
            sets = [info.parent for info in sorted(self.folder.glob(f"*/{INFO}"))]
            remedy = (
                f"give one of the sets in that folder, {', '.join(map(str, sets))}"
                if sets
                else "build the set with `make lmdb` or give another folder"
            )
            raise UserError(f"{path / 'data.mdb'} was not found: {remedy}")
        status = (path / "data.mdb").stat()
        file_id = status.st_dev, status.st_ino
        database = _OPEN_DATABASES.get(file_id)
        if database is None:
            check_lmdb(path / "data.mdb")
            try:
                database = lmdb.open(os.fsencode(path), readonly=True, lock=False, readahead=False)
            except lmdb.Error as error:
                if "already open" in str(error):  # LMDB has no type of its own for this
                    raise UserError(
                        f"{path} is open in this process by an lmdb.Environment that is not "
                        "SampleSet's, and LMDB allows only one: close() that environment first"
                    ) from None
                raise UserError(
                    f"{path} is not a readable LMDB ({error}): build the set again"
                ) from None
            _OPEN_DATABASES[file_id] = database
        return database

    def info(self) -> dict[str, Any]:
        """Read the set's `info.json`.

        Raises:
            UserError: It is missing or no JSON object.
        """
        path = self.folder / INFO
        if not path.is_file():
            raise UserError(f"{path} is missing or no file: build the set again")
        try:
            info = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read ({error}): build the set again") from None
        if not isinstance(info, dict):
            raise UserError(f"{path} is no JSON object: build the set again")
        return info

    @functools.cached_property
    def is_crop(self) -> bool | None:
        """Whether all samples are crops, or none; None where nobody says it."""
        cut_count = self._find_info("cut")
        return {0: False, len(self): True}.get(cut_count) if isinstance(cut_count, int) else None

    @functools.cached_property
    def source_splits(self) -> list[str]:
        """The names of its source's splits, with which its keys begin; [] where nobody says it."""
        names = self._find_info("source_splits")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return []
        return names

    def _find_info(self, name: str) -> Any:
        """Return an entry of info.json; None where the file is broken or lacks it."""
        try:
            return self.info().get(name)
        except UserError:
            return None

    def digest(self) -> str:
        """Return a digest of all records, names included, by which another set differs."""
        digest = hashlib.sha256()
        for database in (self._annotations, self._images):
            with database.begin(buffers=True) as transaction:
                for key, record in transaction.cursor():
                    digest.update(key)
                    digest.update(record)
        return digest.hexdigest()

    def __repr__(self) -> str:
        return f"SampleSet({str(self.folder)!r})"

    def __reduce__(self) -> tuple[type["SampleSet"], tuple[Path]]:
        return type(self), (self.folder,)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        key = self.keys[operator.index(index)]
        name = key_text(key)
        try:
            with self._images.begin() as images, self._annotations.begin() as annotations:
                image, annotation = images.get(key), annotations.get(key)
        except lmdb.Error as error:
            raise SampleError(f"{name}: the LMDB record cannot be read ({error})") from None
        if image is None or annotation is None:
            raise SampleError(f"{name}: the record is missing in {self.folder}")
        return Sample.from_datums(name, image, annotation)
