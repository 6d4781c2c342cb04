"""COCO-style JSON: `images` (id, file_name, width, height), `annotations` (id, image_id, keypoints, bbox, segmentation) and
`categories`.

Read are hands of 21 keypoints [x, y, v] in our order, such as MMPose's onehand10k_{train,test}.json, and the hands of
COCO-WholeBody's persons (`lefthand_kpts`, `righthand_kpts`). v above 0 is labelled (COCO's 1 is hidden, 2 is visible), 0 is
missing. The source is one JSON file, or a folder that holds some, in itself or in `annotations/`; each is a split. File
names start from the JSON's folder, from the one above, from `images/` in either, or from any other folder in either.

An image with one hand is a sample as it is. Of an image with several, and of COCO-WholeBody's scenes, each hand makes a sample:
the square of 1.5 times the longer side of its bbox, with this hand's keypoints and mask only.

The mask is the segmentation: polygons or run lengths, compressed or not. A polygon that is its own bounding box, which is
all that MMPose's files have, is no mask.
"""

import collections
import pathlib
import re
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from data_tools.readers.shared import (
    HAND_BOX_FACTOR,
    framed,
    keypoints_of,
    mask_png,
    numbers,
    read_file,
    read_json,
    sample_key,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleError
from mcc_caffe.paper import KEYPOINTS

LAYOUT = "a .json file with images, annotations and categories, or a folder of such files, or one that has them in annotations/"

_FIRST_KEY = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*"(info|licenses|images|annotations|categories)"')
_LOOKED_FOR = 20  # pictures that tell where file names start from


class Hand(NamedTuple):
    """A hand as the file has it. side: "left" or "right" of a person, "" where the annotation is the hand's own."""

    annotation: object  # id
    image: object  # id
    side: str
    keypoints: object
    box: object  # x, y, width, height
    segmentation: object


@dataclass(frozen=True)
class Entry:
    """One hand of one image."""

    path: pathlib.Path  # of the JSON file
    folder: pathlib.Path  # that file_name starts from
    image: dict  # the record of the image
    hand: Hand
    alone: bool  # no other hand in the picture

    @property
    def where(self) -> str:
        """`hands_train.json: annotation 12`."""
        return f"{self.path.name}: annotation {self.hand.annotation}{self.hand.side and f', {self.hand.side} hand'}"

    def sample(self) -> Sample:
        """The image or the hand's crop; SampleError names the annotation and what was wrong with it."""
        file_name = self.image.get("file_name")
        if not file_name:
            raise SampleError(f"{self.where}: `images` has no file_name for its image_id")
        points = numbers(self.hand.keypoints, (KEYPOINTS, 3), self.where, "keypoints")
        keypoints = keypoints_of(points[:, :2], points[:, 2] > 0, self.where)
        size = tuple(self.image.get(side) for side in ("width", "height"))
        size = size if all(isinstance(side, int) and side > 0 for side in size) else None
        mask = (
            hand_mask(self.hand.segmentation, size, self.where) if self.hand.segmentation else None
        )
        key = sample_key(
            self.path.stem,
            str(file_name),
            str(self.hand.annotation),
            *filter(None, [self.hand.side]),
        )
        image_bytes = read_file(self.folder / str(file_name), self.where)
        sample = Sample(key, image_bytes, None if mask is None else mask_png(mask), keypoints)
        if self.alone:
            return framed(sample, self.where, size)
        x, y, width, height = numbers(self.hand.box, (4,), self.where, "bbox").tolist()
        return framed(sample, self.where, size, (x, y, x + width, y + height), HAND_BOX_FACTOR)


def hand_mask(segmentation, size: tuple, where: str) -> np.ndarray | None:
    """HxW of {0, 1} from a segmentation: an object of run lengths, or a list of polygons; None where these are only boxes.

    size: (width, height) of the image, which polygons need.
    """
    try:
        if isinstance(segmentation, dict):
            return _run_lengths(segmentation)
        polygons = [np.array(polygon, np.float32).reshape(-1, 2) for polygon in segmentation]
        if all(_is_box(polygon) for polygon in polygons):
            return None
    except (KeyError, TypeError, ValueError) as error:
        raise SampleError(
            f"{where}: the segmentation cannot be read ({error}): polygons or run lengths are needed"
        ) from None
    if size is None:
        raise SampleError(
            f"{where}: `images` has no width and height, which the segmentation needs"
        )
    mask = np.zeros(size[::-1], np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1)
    return mask


def _is_box(polygon: np.ndarray) -> bool:
    width, height = np.ptp(polygon, axis=0)
    return bool(np.isclose(cv2.contourArea(polygon), width * height, rtol=1e-3))


def _run_lengths(segmentation: dict) -> np.ndarray:
    """Runs of 0 and 1 by turns, starting with 0, down the columns."""
    height, width = segmentation["size"]
    counts = segmentation["counts"]
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    flat = np.repeat(np.arange(len(runs)) % 2, runs)
    return flat.reshape(width, height).T.astype(np.uint8)


def _decompressed(text: str) -> list:
    """The run lengths of COCO's compressed form.

    A number is written in groups of 5 bits, the lowest first, as characters from "0" on, with 32 added where more follow; the
    last group's highest bit is the sign. From the fourth number on it is the difference to the one before the last.
    """
    runs, value, shift = [], 0, 0
    for character in text:
        group = ord(character) - ord("0")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group >> 4 & 1) << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value, shift = 0, 0
    return runs


def _files(root: pathlib.Path) -> dict:
    """{split: JSON file}."""
    if root.is_file():
        return {root.stem: root} if root.suffix == ".json" else {}
    found = {}
    for path in (*sorted(root.glob("annotations/*.json")), *sorted(root.glob("*.json"))):
        with open(path, "rb") as file:
            if _FIRST_KEY.match(file.read(1000)):
                found[path.stem] = path
    return found


def splits(root: pathlib.Path) -> list:
    """The JSON files' names, without the ending."""
    return list(_files(root))


def entries(root: pathlib.Path, split: str) -> list:
    """The hands of a JSON file, in its order."""
    path = _files(root)[split]
    content = read_json(path)
    for part, default in (("images", None), ("annotations", None), ("categories", [])):
        records = content.get(part, default) if isinstance(content, dict) else None
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise UserError(f"{path} has no list of objects `{part}`: is it a COCO-style file?")
    images = {image.get("id"): image for image in content["images"]}
    hands = [hand for annotation in content["annotations"] for hand in _hands(annotation)]
    if not hands:
        raise UserError(f"{path} has no annotation of a hand")
    if not any(hand.side for hand in hands):
        _check_categories(path, content)
    records = [images.get(hand.image, {}) for hand in hands]
    folder = _folder_of_images(
        path, [str(record["file_name"]) for record in records if record.get("file_name")]
    )
    count = collections.Counter(hand.image for hand in hands)
    return [
        Entry(path, folder, record, hand, alone=count[hand.image] == 1 and not hand.side)
        for record, hand in zip(records, hands)
    ]


def _hands(annotation: dict) -> list:
    """The Hands of an annotation: its own, or those of a person that COCO-WholeBody calls valid."""
    ids = annotation.get("id"), annotation.get("image_id")
    if "lefthand_kpts" in annotation or "righthand_kpts" in annotation:
        return [
            Hand(
                *ids,
                side,
                annotation.get(f"{side}hand_kpts"),
                annotation.get(f"{side}hand_box"),
                None,
            )
            for side in ("left", "right")
            if annotation.get(f"{side}hand_valid")
        ]
    if annotation.get("iscrowd"):
        return []
    return [
        Hand(
            *ids,
            "",
            annotation.get("keypoints"),
            annotation.get("bbox"),
            annotation.get("segmentation"),
        )
    ]


def _check_categories(path: pathlib.Path, content: dict) -> None:
    """UserError where the file's keypoints are no hand's, or in another order than ours."""
    info = content.get("info")
    if isinstance(info, dict) and info.get("description") == "RHD":
        raise UserError(
            f"{path} is MMPose's file of RHD, whose fingers run from tip to base whatever its names say: "
            "give the folder of RHD itself"
        )
    for category in content.get("categories", []):
        names = category.get("keypoints") or []
        if names and len(names) != KEYPOINTS:
            raise UserError(
                f"{path}: the category {category.get('name')!r} has {len(names)} keypoints, "
                f"only hands of {KEYPOINTS} and COCO-WholeBody's are read"
            )
        joints = [str(name)[-1:] for name in names]
        of_a_finger = collections.Counter(joint for joint in joints if joint.isdecimal())
        if list(of_a_finger.values()) == [5] * 4 and joints[1:] != 5 * sorted(of_a_finger):
            raise UserError(
                f"{path}: the keypoints of the category {category.get('name')!r} are {', '.join(map(str, names[:6]))}, ...: "
                "the wrist and then each finger from base to tip is needed"
            )


def _folder_of_images(path: pathlib.Path, names: list) -> pathlib.Path:
    """The folder that file names start from: the first in which some of the first pictures lie."""
    names = names[:_LOOKED_FOR]
    here = path.absolute().parent
    for folder in (here, here / "images", here.parent, here.parent / "images"):
        if any((folder / name).is_file() for name in names):
            return folder
    others = [
        folder
        for above in (here, here.parent)
        for folder in sorted(above.iterdir())
        if folder.is_dir() and any((folder / name).is_file() for name in names)
    ]
    if len(others) == 1:
        return others[0]
    if others:
        raise UserError(
            f"{path}: its first pictures lie in several folders ({', '.join(map(str, others))}): "
            "put the file into the one that is meant"
        )
    raise UserError(
        f"{path}: its first picture, {names[0] if names else 'none'}, was not found: looked in {here}, in "
        f"{here.parent} and in the folders of both; put the pictures into {here / 'images'}"
    )
