"""Predictions of any system as a JSON file, which `mcc_caffe.evaluate --predictions` measures.

    {"name": "another system",
     "images": {"Test_17.jpg": {"keypoints": [[x, y, confidence] or null, ...],
                                "mask": "masks/17.png"}, ...}}

An image is named by its sample's key, as images.csv of an evaluation lists it, or by its path,
which is matched as in results of `mcc_caffe.infer`. The 21 keypoints are in our order and in pixels
of the image; the centres of pixels are integers. A null stands for a keypoint that was not
predicted. The mask is an image file of the image's size, of two values, of which the higher is
hand, or of probabilities on a scale to 1, 255 or 65,535, of which the upper half is hand
(`mcc_caffe.data.mask_files`). Its path begins at the folder of the JSON file. Keypoints and mask
may each be left out, and so may the name, which is then the file's.

In place of this form it may be a file, or a folder of files, in any format that `mcc_caffe.infer`
writes (`mcc_caffe.inference.formats`). Of several hands of an image the most confident counts.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_tools.readers.segmentation import draw_run_lengths
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import require_file, write_atomically
from mcc_caffe.data.mask_files import MaskError, decode_mask_values, hand_pixels
from mcc_caffe.data.samples import Sample
from mcc_caffe.evaluation.image_keys import (
    ImagesByName,
    find_images,
    index_by_name,
    parse_key,
    select_images_of_set,
)
from mcc_caffe.evaluation.model_names import short_names
from mcc_caffe.inference.formats.base import ReadImage
from mcc_caffe.inference.formats.parsing import as_numbers, check_pixels
from mcc_caffe.inference.formats.reading import is_results, read_results
from mcc_caffe.inference.input_files import read_content
from mcc_caffe.paper import KEYPOINT_COUNT

FORM = (
    '{"name": text, "images": '
    '{key: {"keypoints": 21 x ([x, y, confidence] or null), "mask": file name}}}'
)


class HandPrediction(NamedTuple):
    """The prediction of a model for one sample.

    Attributes:
        keypoints: (21, 3) float64 of x, y in image pixels and confidence, NaN where one was not
            predicted; None if there are no keypoints at all.
        mask: (H, W) bool, True where the hand is; None if there is no mask.
    """

    keypoints: np.ndarray | None
    mask: np.ndarray | None


class ImageEntry(NamedTuple):
    """What a predictions file says of one image; each is None where the file has none.

    Attributes:
        keypoints: As `HandPrediction` has them.
        mask_path: Path of the mask's image file.
        mask_rle: The mask as COCO's compressed run lengths.
    """

    keypoints: np.ndarray | None
    mask_path: pathlib.Path | None
    mask_rle: dict[str, Any] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is predicted."""
        return self.keypoints is None and self.mask_path is None and self.mask_rle is None


class PredictionsFile:
    """A predictions file, read and checked.

    Attributes:
        path: Path of the file.
        name: Name of the system that made the predictions.
        is_named: Whether the file says the name; else it is the file's or folder's own.
        images: {key of the image: its entry}.
        splits: Names with which the keys of the set's samples may begin.

    Args:
        path: Path of the file.
        splits: As the attribute; who opens the set later sets the attribute then.
        set_path: Path of the set; None where it is unknown.

    Raises:
        UserError: The file is missing or does not have the form of this module.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        splits: Sequence[str] = (),
        set_path: pathlib.Path | None = None,
    ) -> None:
        self.path = pathlib.Path(path)
        self.images: dict[str, ImageEntry] = {}
        self.splits, self._set_path = splits, set_path
        self._images_by_name: ImagesByName = {}
        content = None  # of a folder and of a table
        if not self.path.is_dir():
            require_file(self.path, "predictions file")
            if self.path.suffix.lower() != ".csv":
                content = self._load_json()
        self._is_own_form = content is not None and not is_results(content)
        if self._is_own_form:
            self._read_own_form(content)
        else:
            self._read_results()

    def _load_json(self) -> Any:
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.path} is no JSON file ({error}): {FORM} is needed") from None

    def _read_own_form(self, content: Any) -> None:
        """Read a JSON value of the form that this module describes."""
        images = content.get("images") if isinstance(content, dict) else None
        if isinstance(images, list):
            raise UserError(
                f"{self.path}: its images are a list, as in COCO labels: give {FORM}, or COCO "
                "results, with their coco_images.json beside them"
            )
        if not isinstance(images, dict) or not images:
            raise UserError(f"{self.path} has no images: {FORM} is needed")
        self.is_named = "name" in content
        self.name = content["name"] if self.is_named else self._file_name()
        if not isinstance(self.name, str) or not self.name or not _is_text(self.name):
            raise UserError(f"{self.path}: the name is {_shorten(self.name)}: {FORM} is needed")
        if not self.name.isprintable():
            raise UserError(
                f"{self.path}: the name is {_shorten(self.name)}: one that can be printed is needed"
            )
        self.images.update((key, self._parse_image(key, entry)) for key, entry in images.items())
        self._images_by_name = index_by_name(ReadImage(key, True, []) for key in images)
        hands = ((key, entry.keypoints) for key, entry in self.images.items())
        check_pixels(
            self.path, ((key, keypoints) for key, keypoints in hands if keypoints is not None)
        )

    def _read_results(self) -> None:
        """Read a file or folder in a format of `mcc_caffe.infer`."""
        self.name, self.is_named = self._file_name(), False
        images = read_results(self.path)
        self._images_by_name = index_by_name(images)
        for image in images:
            hands = [hand for hand in image.hands if hand.has_keypoints or hand.rle]
            hand = max(hands, key=lambda hand: hand.score, default=None)
            self.images[image.name] = (
                ImageEntry(None, None)
                if hand is None
                else ImageEntry(hand.keypoints if hand.has_keypoints else None, None, hand.rle)
            )

    def _file_name(self) -> str:
        """Return the name that a system has where its file does not say one."""
        (name,) = short_names([self.path])
        return name

    def entry(self, key: str) -> ImageEntry | None:
        """Return what the file says of an image; None where it says nothing.

        The file names an image by the sample's key, or by the image's path, as the formats of
        `mcc_caffe.infer` do: then `find_images` finds it.

        Args:
            key: The sample's key.

        Raises:
            UserError: Several images may be the sample.
        """
        name = self._find_name(key)
        return None if name is None else self.images[name]

    def check_no_image_twice(self, keys: Iterable[str]) -> None:
        """Check that no image of the file stands for two samples, unless it has no hand.

        Args:
            keys: The samples' keys, one for each sample.

        Raises:
            UserError: An image does, as where images of two folders have its name.
        """
        keys_by_name: dict[str, str] = {}
        for key in keys:
            name = self._find_name(key)
            if name is None:
                continue
            other = keys_by_name.get(name)
            if other == key:
                raise UserError(
                    f"{self.path}: {name} may be either of two images with the key {key!r}: "
                    "rename one of them"
                )
            is_empty = self.images[name].is_empty
            if other is not None and not is_empty and parse_key(other) == parse_key(key):
                raise UserError(
                    f"{self.path}: {other} and {key} are hands of the image {name}: give "
                    f"predictions as {FORM}, with these keys"
                )
            if other is not None and not is_empty:
                raise UserError(
                    f"{self.path}: {name} may be the image {other!r} or {key!r}: put its folder "
                    "before its name there, or evaluate one --split at a time"
                )
            keys_by_name[name] = key

    def other_images(self, keys: Iterable[str]) -> list[str]:
        """Return the file's images that are none of the samples with these keys."""
        names = {self._find_name(key) for key in keys}
        return [name for name in self.images if name not in names]

    def _find_name(self, key: str) -> str | None:
        """Return the name that the file has for an image, as `entry` looks it up."""
        if key in self.images:
            return key
        images = find_images(key, self._images_by_name, self.splits)
        if len(images) > 1 and self._set_path is not None:
            # Results of images of several sets in one run: an image's own path tells them apart.
            images = select_images_of_set(self._set_path, images) or images
        if len(images) > 1:
            raise UserError(
                f"{self.path} has {images[0].name} and {images[1].name}, which may both be the "
                f"image {key!r}: leave one of them there"
            )
        return images[0].name if images else None

    def _parse_image(self, key: str, entry: Any) -> ImageEntry:
        """Check the JSON value of one image."""
        unknown = (
            set(entry) - {"keypoints", "mask"}
            if isinstance(entry, dict)
            else {type(entry).__name__}
        )
        if unknown:
            names = _shorten(", ".join(sorted(unknown)))[1:-1]  # without the quotes
            raise UserError(
                f"{self.path}: image {_shorten(key)} has {names}: "
                "keypoints and mask are what it may have"
            )
        points, mask_name = entry.get("keypoints"), entry.get("mask")
        if mask_name is not None and not (isinstance(mask_name, str) and _is_text(mask_name)):
            raise UserError(
                f"{self.path}: the mask of image {key!r} is {_shorten(mask_name)}: "
                "the name of an image file is needed"
            )
        return ImageEntry(
            None if points is None else self._parse_keypoints(key, points),
            None if mask_name is None else self.path.parent / mask_name,
        )

    def _parse_keypoints(self, key: str, points: Any) -> np.ndarray:
        """Turn the JSON value of one image's keypoints into an array."""
        try:
            keypoints = as_numbers([[np.nan] * 3 if point is None else point for point in points])
        except (OverflowError, TypeError, ValueError):
            keypoints = np.empty(0)
        given = (
            [point is not None for point in points]
            if keypoints.shape == (KEYPOINT_COUNT, 3)
            else []
        )
        if not given or not np.isfinite(keypoints[given]).all():
            raise UserError(
                f"{self.path}: the keypoints of image {key!r} are no {KEYPOINT_COUNT} x "
                "([x, y, confidence] or null)"
            )
        return keypoints

    def predict(self, sample: Sample) -> HandPrediction:
        """Look up the prediction for a sample and load its mask.

        Raises:
            UserError: The file of the mask is missing, cannot be read, is larger than any image, is
                not an image of the sample's size, or does not say which pixels are hand.
        """
        name = self._find_name(sample.key)
        entry = ImageEntry(None, None) if name is None else self.images[name]
        is_key = self._is_own_form and name == sample.key
        if name is not None and not is_key and _is_crop(sample):
            raise UserError(
                f"{self.path}: {sample.key} is cut out of its source image, and {name} refers to "
                f"all of it: give predictions as {FORM}, with this key"
            )
        if entry.mask_rle is not None:
            return HandPrediction(entry.keypoints, self._decode_rle(entry.mask_rle, sample))
        if entry.mask_path is None:
            return HandPrediction(entry.keypoints, None)
        height, width = sample.image().shape[:2]
        path = require_file(entry.mask_path, "predicted mask")
        try:
            values = decode_mask_values(read_content(path), (width, height))
            if values.shape != (height, width):
                raise MaskError(f"it is {values.shape[1]} x {values.shape[0]}")
            return HandPrediction(entry.keypoints, hand_pixels(values, soft=True))
        except MaskError as error:
            raise UserError(
                f"{path}, the predicted mask of {sample.key}, cannot be used: {error}; "
                f"the image is {width} x {height}"
            ) from None

    def _decode_rle(self, rle: dict[str, Any], sample: Sample) -> np.ndarray:
        height, width = sample.image().shape[:2]
        try:
            return draw_run_lengths(rle, (width, height)) > 0
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.path}: the segmentation of {sample.key} cannot be used "
                f"({type(error).__name__}: {_shorten(error)}): run lengths of size "
                f"[{height}, {width}] are needed"
            ) from None


def _is_crop(sample: Sample) -> bool:
    """Tell whether a sample is a crop of its source image."""
    if sample.is_crop is not None:
        return sample.is_crop
    # An LMDB set does not say it, but what readers cut is stored as PNG.
    suffix = pathlib.Path(parse_key(sample.key).text).suffix.lower()
    return suffix != ".png" and sample.image_bytes.startswith(b"\x89PNG")


def _is_text(text: str) -> bool:
    """Tell whether a string can be written: JSON admits half of a surrogate pair and null."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _shorten(value: Any) -> str:
    """Shorten a value of the file for a message, in ASCII."""
    return ascii(value)[:80]


def format_predictions(name: str, keypoints: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of a predictions file.

    Args:
        name: Name of the system that made the predictions.
        keypoints: {key of the image: (21, 3) of x, y, confidence, x NaN where one was not
            predicted}.
    """
    images = {
        key: {"keypoints": [None if np.isnan(point[0]) else point.tolist() for point in points]}
        for key, points in keypoints.items()
    }
    return (json.dumps({"name": name, "images": images}) + "\n").encode()


def write_predictions(path: pathlib.Path, name: str, keypoints: Mapping[str, np.ndarray]) -> None:
    """Write keypoints as a predictions file; see `format_predictions`."""
    write_atomically(path, format_predictions(name, keypoints))
