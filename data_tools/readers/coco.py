"""Reads COCO-style JSON: files with `images`, `annotations` and `categories`.

`images` have id, file_name, width and height; `annotations` have id, image_id, keypoints, bbox and
segmentation. Two kinds of files are read: hands of 21 keypoints [x, y, v] in our order, such as
MMPose's onehand10k_{train,test}.json, and the hands of COCO-WholeBody's persons (`lefthand_kpts`,
`righthand_kpts`). A keypoint is labelled where v is above 0 (COCO's 1 is hidden, 2 is visible).

The source is one JSON file, or a folder that holds some, in itself or in `annotations/`; each file
is a split. File names start from the JSON's folder, from the one above, from `images/` in either,
or from any other folder in either.

An image with one hand is a sample as it is. Of an image with several, and of COCO-WholeBody's
scenes, each hand makes a sample: a square whose side is 1.5 times the longer side of its bbox, with
this hand's keypoints and mask only.

The mask is the segmentation: polygons or run lengths, compressed or not. A polygon that is its own
bounding box, which is all that MMPose's files have, is no mask.
"""

import collections
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from data_tools.readers.base import Entry
from data_tools.readers.shared import (
    HAND_BOX_FACTOR,
    encode_mask,
    frame_sample,
    make_key,
    make_keypoints,
    parse_numbers,
    read_file,
    read_json,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import Sample, SampleError
from mcc_caffe.paper import KEYPOINT_COUNT

LAYOUT = (
    "a .json file with images, annotations and categories, or a folder of such files, or one that "
    "has them in annotations/"
)

_FIRST_KEY = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*"(info|licenses|images|annotations|categories)"')
_FIRST_KEY_BYTES = 1000  # of a JSON file, in which _FIRST_KEY is looked for
_PROBED_PICTURES = 20  # of a file, that tell where its file names start from


class Hand(NamedTuple):
    """A hand as the file has it, unchecked.

    Attributes:
        annotation_id: `id` of the annotation.
        image_id: `id` of the image.
        side: "left" or "right" of a person, "" where the annotation is the hand's own.
        keypoints: 21 x [x, y, v], nested or flat.
        box: x, y, width, height.
        segmentation: Polygons or run lengths, or None.
    """

    annotation_id: Any
    image_id: Any
    side: str
    keypoints: Any
    box: Any
    segmentation: Any


@dataclass(frozen=True)
class CocoEntry(Entry):
    """One hand of one image."""

    path: Path  # of the JSON file
    folder: Path  # that file_name starts from
    image: dict[str, Any]  # the record of the image
    hand: Hand
    is_alone: bool  # no other hand in the picture

    @property
    def location(self) -> str:
        """The file and the annotation, such as `hands_train.json: annotation 12`."""
        side = self.hand.side and f", {self.hand.side} hand"
        return f"{self.path.name}: annotation {self.hand.annotation_id}{side}"

    def sample(self) -> Sample:
        """Read the image, and crop the hand where there are several; see `Entry.sample`."""
        file_name = self.image.get("file_name")
        if not file_name:
            raise SampleError(f"{self.location}: `images` has no file_name for its image_id")
        points = parse_numbers(
            self.hand.keypoints, (KEYPOINT_COUNT, 3), location=self.location, field="keypoints"
        )
        keypoints = make_keypoints(points[:, :2], points[:, 2] > 0, self.location)
        size = self._labelled_size()
        mask = None
        if self.hand.segmentation:
            mask = draw_mask(self.hand.segmentation, size, self.location)
        parts = [self.path.stem, str(file_name), str(self.hand.annotation_id)]
        if self.hand.side:
            parts.append(self.hand.side)
        sample = Sample(
            make_key(*parts),
            read_file(self.folder / str(file_name), self.location),
            None if mask is None else encode_mask(mask),
            keypoints,
        )
        if self.is_alone:
            return frame_sample(sample, self.location, size=size)
        x, y, width, height = parse_numbers(
            self.hand.box, (4,), location=self.location, field="bbox"
        ).tolist()
        box = (x, y, x + width, y + height)
        return frame_sample(sample, self.location, size=size, box=box, factor=HAND_BOX_FACTOR)

    def _labelled_size(self) -> tuple[int, int] | None:
        """(width, height) that `images` gives, or None where it gives none."""
        width, height = self.image.get("width"), self.image.get("height")
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            return width, height
        return None


def draw_mask(segmentation: Any, size: tuple[int, int] | None, location: str) -> np.ndarray | None:
    """Draw a segmentation as a mask.

    Args:
        segmentation: An object of run lengths, or a list of polygons.
        size: (width, height) of the image in pixels, which polygons need.
        location: File and record, for messages.

    Returns:
        HxW uint8 of {0, 1}; None where all polygons are only boxes.

    Raises:
        SampleError: The segmentation is malformed, or the size is missing.
    """
    try:
        if isinstance(segmentation, dict):
            return _draw_run_lengths(segmentation)
        polygons = [np.array(polygon, np.float32).reshape(-1, 2) for polygon in segmentation]
        if all(_is_box(polygon) for polygon in polygons):
            return None
    except (KeyError, TypeError, ValueError) as error:
        raise SampleError(
            f"{location}: the segmentation cannot be read ({error}): "
            "polygons or run lengths are needed"
        ) from None
    if size is None:
        raise SampleError(
            f"{location}: `images` has no width and height, which the segmentation needs"
        )
    mask = np.zeros(size[::-1], np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], (1,))
    return mask


def _is_box(polygon: np.ndarray) -> bool:
    """Tell whether a polygon (N, 2) fills its own bounding box."""
    width, height = np.ptp(polygon, axis=0)
    return bool(np.isclose(cv2.contourArea(polygon), width * height, rtol=1e-3))


def _draw_run_lengths(segmentation: dict[str, Any]) -> np.ndarray:
    """The mask of runs of 0 and 1 in turn, which start with 0 and go down the columns."""
    height, width = segmentation["size"]
    counts = segmentation["counts"]
    runs = _decompress(counts) if isinstance(counts, str) else counts
    flat = np.repeat(np.arange(len(runs)) % 2, runs)
    return flat.reshape(width, height).T.astype(np.uint8)


def _decompress(text: str) -> list[int]:
    """The run lengths of COCO's compressed form.

    A number is written in groups of 5 bits, the lowest first, as characters from "0" on. A group
    has 32 added where more follow, and the highest bit of the last one is the sign. From the fourth
    number on, a number is the difference from the last but one.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        group = ord(character) - ord("0")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group >> 4 & 1) << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value, shift = 0, 0
    return runs


def _find_files(root: Path) -> dict[str, Path]:
    """{split: its JSON file}."""
    if root.is_file():
        return {root.stem: root} if root.suffix == ".json" else {}
    files = {}
    for path in (*sorted(root.glob("annotations/*.json")), *sorted(root.glob("*.json"))):
        with open(path, "rb") as file:
            if _FIRST_KEY.match(file.read(_FIRST_KEY_BYTES)):
                files[path.stem] = path
    return files


def find_splits(root: Path) -> list[str]:
    """Return the names of the JSON files, without the ending."""
    return list(_find_files(root))


def read_entries(root: Path, split: str) -> list[CocoEntry]:
    """Return one entry for each hand of a JSON file, in the file's order."""
    path = _find_files(root)[split]
    content = read_json(path)
    for name, default in (("images", None), ("annotations", None), ("categories", [])):
        records = content.get(name, default) if isinstance(content, dict) else None
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise UserError(f"{path} has no list of objects `{name}`: is it a COCO-style file?")
    images = {image.get("id"): image for image in content["images"]}
    hands = [hand for annotation in content["annotations"] for hand in _list_hands(annotation)]
    if not hands:
        raise UserError(f"{path} has no annotation of a hand")
    if not any(hand.side for hand in hands):
        _check_categories(path, content)
    records = [images.get(hand.image_id, {}) for hand in hands]
    folder = _find_image_folder(
        path, [str(record["file_name"]) for record in records if record.get("file_name")]
    )
    hand_counts = collections.Counter(hand.image_id for hand in hands)
    return [
        CocoEntry(
            path, folder, record, hand, is_alone=hand_counts[hand.image_id] == 1 and not hand.side
        )
        for record, hand in zip(records, hands)
    ]


def _list_hands(annotation: dict[str, Any]) -> list[Hand]:
    """The hands of an annotation: its own, or those of a person that COCO-WholeBody calls valid."""
    ids = annotation.get("id"), annotation.get("image_id")
    if "lefthand_kpts" in annotation or "righthand_kpts" in annotation:
        return [
            Hand(
                *ids,
                side,
                annotation.get(f"{side}hand_kpts"),
                annotation.get(f"{side}hand_box"),
                None,  # the segmentation is the person's
            )
            for side in ("left", "right")
            if annotation.get(f"{side}hand_valid")
        ]
    if annotation.get("iscrowd"):
        return []
    fields = (annotation.get(name) for name in ("keypoints", "bbox", "segmentation"))
    return [Hand(*ids, "", *fields)]


def _check_categories(path: Path, content: dict[str, Any]) -> None:
    """Raise UserError where the file's keypoints are no hand's, or in another order than ours."""
    info = content.get("info")
    if isinstance(info, dict) and info.get("description") == "RHD":
        raise UserError(
            f"{path} is MMPose's file of RHD, whose fingers run from tip to base whatever its "
            "names say: give the folder of RHD itself"
        )
    for category in content.get("categories", []):
        names = category.get("keypoints") or []
        if names and len(names) != KEYPOINT_COUNT:
            raise UserError(
                f"{path}: the category {category.get('name')!r} has {len(names)} keypoints, "
                f"only hands of {KEYPOINT_COUNT} and COCO-WholeBody's are read"
            )
        # MMPose numbers a finger's joints in its names. The last character tells the order.
        joints = [str(name)[-1:] for name in names]
        joint_counts = collections.Counter(joint for joint in joints if joint.isdecimal())
        if list(joint_counts.values()) == [5] * 4 and joints[1:] != 5 * sorted(joint_counts):
            raise UserError(
                f"{path}: the keypoints of the category {category.get('name')!r} are "
                f"{', '.join(map(str, names[:6]))}, ...: "
                "the wrist and then each finger from base to tip is needed"
            )


def _find_image_folder(path: Path, names: list[str]) -> Path:
    """The folder that file names start from: the first in which some of the first pictures lie."""
    names = names[:_PROBED_PICTURES]
    here = path.absolute().parent
    for folder in (here, here / "images", here.parent, here.parent / "images"):
        if any((folder / name).is_file() for name in names):
            return folder
    others = [
        folder
        for parent in (here, here.parent)
        for folder in sorted(parent.iterdir())
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
        f"{path}: its first picture, {names[0] if names else 'none'}, was not found: looked in "
        f"{here}, in {here.parent} and in the folders of both; "
        f"put the pictures into {here / 'images'}"
    )
