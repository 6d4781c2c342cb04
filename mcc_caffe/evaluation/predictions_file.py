"""Predictions of any system as a JSON file, which `mcc_caffe.evaluate --predictions` judges beside our nets.

    {"name": "another system",
     "images": {"Test_17.jpg": {"keypoints": [[x, y, confidence] or null, ...], "mask": "masks/17.png"}, ...}}

An image's key is the sample's, as images.csv of an evaluation lists it (an LMDB set has other keys than its source). The 21
keypoints are in our order, in pixels of the image, pixel centres being integers; null is a keypoint that was not predicted. The
mask is an image file of the image's size, bright where the hand is, named from the JSON's folder. Each of the two may be left out.
"""

import json
import pathlib

import cv2
import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import existing, write_whole
from mcc_caffe.data.samples import Sample
from mcc_caffe.paper import KEYPOINTS

FORM = '{"name": text, "images": {key: {"keypoints": 21 x ([x, y, confidence] or null), "mask": file name}}}'


class Predictions:
    """A predictions file, read and checked: `name`, and `images`, {key: (keypoints, mask's path)}.

    keypoints: (21, 3) float64 of x, y, confidence, NaN where one was not predicted, or None; the path may be None, too.
    """

    def __init__(self, path):
        self.path = existing(path, "predictions file")
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is no JSON file: {error}") from None
        if (
            not isinstance(content, dict)
            or not isinstance(content.get("images"), dict)
            or not content["images"]
        ):
            raise UserError(f"{path} has no images: {FORM} is needed")
        self.name = content.get("name")
        if not isinstance(self.name, str) or not self.name:
            raise UserError(f"{path}: the name is {self.name!r}: {FORM} is needed")
        self.images = {key: self._image(key, found) for key, found in content["images"].items()}

    def _image(self, key: str, found) -> tuple:
        unknown = (
            set(found) - {"keypoints", "mask"}
            if isinstance(found, dict)
            else {type(found).__name__}
        )
        if unknown:
            raise UserError(
                f"{self.path}: image {key!r} has {', '.join(sorted(unknown))}: keypoints and mask are what it may have"
            )
        points, mask = found.get("keypoints"), found.get("mask")
        if mask is not None and not isinstance(mask, str):
            raise UserError(
                f"{self.path}: the mask of image {key!r} is {mask!r}: the name of an image file is needed"
            )
        return None if points is None else self._keypoints(
            key, points
        ), None if mask is None else self.path.parent / mask

    def _keypoints(self, key: str, points) -> np.ndarray:
        try:
            keypoints = np.array(
                [[np.nan] * 3 if point is None else point for point in points], np.float64
            )
        except (TypeError, ValueError):
            keypoints = np.empty(0)
        given = [point is not None for point in points] if keypoints.shape == (KEYPOINTS, 3) else []
        if not given or not np.isfinite(keypoints[given]).all():
            raise UserError(
                f"{self.path}: the keypoints of image {key!r} are no {KEYPOINTS} x ([x, y, confidence] or null)"
            )
        return keypoints

    def find(self, sample: Sample) -> tuple:
        """(keypoints, HxW bool mask) of a sample, each None where the file has none."""
        keypoints, path = self.images.get(sample.key, (None, None))
        if path is None:
            return keypoints, None
        mask = cv2.imdecode(
            np.fromfile(existing(path, "predicted mask"), np.uint8), cv2.IMREAD_GRAYSCALE
        )
        height, width = sample.image().shape[:2]
        if mask is None or mask.shape != (height, width):
            found = "no image" if mask is None else f"{mask.shape[1]} x {mask.shape[0]}"
            raise UserError(
                f"{path}, the predicted mask of {sample.key}, is {found}; the image is {width} x {height}"
            )
        return keypoints, mask >= 128


def write_predictions(path: pathlib.Path, name: str, images: dict) -> None:
    """Writes {key: keypoints (21, 3) of x, y, confidence, x NaN where one was not predicted} as a predictions file."""
    content = {
        key: {"keypoints": [None if np.isnan(point[0]) else point.tolist() for point in keypoints]}
        for key, keypoints in images.items()
    }
    write_whole(path, (json.dumps({"name": name, "images": content}) + "\n").encode())
