"""Reads hands from files of every format, whichever system wrote them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import require_file
from mcc_caffe.core.hand import NAMES
from mcc_caffe.inference.formats.base import ReadHand, ReadImage
from mcc_caffe.inference.formats.coco import IMAGES, RESULTS, read_coco
from mcc_caffe.inference.formats.mmpose import read_mmpose
from mcc_caffe.inference.formats.openpose import read_openpose
from mcc_caffe.inference.formats.parsing import (
    as_keypoints,
    as_numbers,
    box_of_sides,
    check_box_pixels,
    check_pixels,
    frames_error,
)
from mcc_caffe.inference.formats.table import read_table
from mcc_caffe.inference.reports import PROGRAM

_SUFFIXES = (".json", ".csv")
_KNOWN = (
    "our JSON, OpenPose's, MMPose's predictions, COCO results, and tables with our columns are read"
)


def read_results(path: Path) -> list[ReadImage]:
    """Read the hands of images.

    Args:
        path: A file, or a folder, in which all JSON files and tables are read.

    Raises:
        UserError: A file cannot be read or is in none of the formats, or two are of one image.
    """
    if path.is_dir():
        files = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in _SUFFIXES and file.is_file() and file.name != IMAGES
        ]
        if not files:
            raise UserError(f"{path} has no file of results ({', '.join(_SUFFIXES)}) in it")
    else:
        files = [require_file(path, "file of results")]
    images: dict[str, ReadImage] = {}
    for file in files:
        for image in _read_file(file):
            other = images.get(image.name)
            if other and not (other.is_blank and image.is_blank):
                raise UserError(
                    f"{path} has several results for {image.name}: leave one of them there"
                )
            if not all(np.isfinite(hand.score) for hand in image.hands):
                raise UserError(f"{file}: a score of {image.name} is not finite: mend that number")
            images[image.name] = image
    if not images:
        raise UserError(f"{path} has the results of no image")
    hands = [(image.name, hand) for image in images.values() for hand in image.hands]
    check_pixels(path, ((name, hand.keypoints) for name, hand in hands))
    check_box_pixels(
        path, ((name, hand.box_ltrb) for name, hand in hands if hand.box_ltrb is not None)
    )
    return list(images.values())


def _read_file(path: Path) -> list[ReadImage]:
    """Read a file of any format."""
    try:
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
                return read_table(path, lines)
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}): {_KNOWN}") from None
    if isinstance(content, list):
        # Without any hand, the results of a run are an empty list.
        is_empty_run = not content and path.name == RESULTS
        if is_empty_run or (content and isinstance(content[0], dict) and "image_id" in content[0]):
            return read_coco(path, content)
        return [read_mmpose(path, content)]
    if isinstance(content, dict) and "people" in content:
        return [read_openpose(path, content)]
    if isinstance(content, dict) and "frames" in content:
        raise frames_error(path)
    if isinstance(content, dict) and isinstance(content.get("image"), str):
        return [_read_report(path, content)]
    raise UserError(f"{path} is in no format that is read: {_KNOWN}")


def is_results(content: Any) -> bool:
    """Tell whether a JSON file's content is in one of the formats that `read_results` reads."""
    return isinstance(content, list) or (
        isinstance(content, dict) and ("people" in content or "program" in content)
    )


def _read_report(path: Path, content: dict[str, Any]) -> ReadImage:
    """Read our own JSON file of one hand or of all hands of an image."""
    hands = []
    try:
        for hand in content.get("hands", [content]):
            keypoints = _read_keypoints(hand["keypoints"])
            box = hand.get("box")
            sides = box and [box[side] for side in ("x", "y", "width", "height")]
            score = float(as_numbers(hand["score"]))
            hands.append(ReadHand(keypoints, score, box_ltrb=box_of_sides(sides)))
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: its hands are not ours ({type(error).__name__}: {error})"
        ) from None
    name = content["image"]
    return ReadImage(name or path.stem, bool(name), hands, content.get("program") == PROGRAM)


def _read_keypoints(points: list[Any]) -> np.ndarray:
    """Return the keypoints of a hand of our own JSON as a `ReadHand` has them.

    Raises:
        KeyError, TypeError or ValueError: They are not 21 keypoints of different names, or null.
    """
    names = [point["name"] for point in points if point is not None]
    if len(points) != len(NAMES) or len(set(names) & set(NAMES)) != len(names):
        raise ValueError(
            f"{len(NAMES)} keypoints are needed, each null or with a name of its own, such as "
            f"{NAMES[0]}"
        )
    keypoints = np.full((len(NAMES), 3), np.nan)
    for point in points:
        if point is not None:
            numbers = [point[name] for name in ("x", "y", "confidence")]
            keypoints[NAMES.index(point["name"])] = as_numbers(numbers)
    return as_keypoints(keypoints)
