"""COCO files of boxes around hands, and the JSON file of all hands of a picture."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import existing
from mcc_caffe.inference.reports import KeypointReport
from mcc_caffe.paper import KEYPOINT_COUNT


class Scene(NamedTuple):
    """A picture with boxes around its hands.

    Attributes:
        path: the image file.
        boxes: (N, 4) of left, top, right, bottom in pixels.
        keypoints: (N, 21, 3) of x, y in pixels and v, above 0 where the keypoint is labelled; 0
            where the file labels none.
    """

    path: Path
    boxes: np.ndarray
    keypoints: np.ndarray


class HandReport(TypedDict):
    """One hand in the JSON file of all hands of a picture.

    score: the mean confidence of the 21 keypoints. box: x, y, width, height in pixels, around the
    keypoints. keypoints, mask_box: as in an ImageReport.
    """

    score: float
    box: dict[str, int]
    keypoints: list[KeypointReport | None]
    mask_box: dict[str, int] | None


class HandsReport(TypedDict):
    """The JSON file of all hands of a picture.

    hands: the surest first or, with the user's boxes, in the order of the boxes. The other entries
    are those of an ImageReport.
    """

    program: str
    image: str
    width: int
    height: int
    weights: dict[str, Any]
    engine: str
    hands: list[HandReport]


def read_scenes(path: Path) -> list[Scene]:
    """Read a COCO file of boxes around hands.

    Raises:
        UserError: the file is missing or is no such file.
    """
    try:
        content: Any = json.loads(existing(path, "COCO file").read_text())
        hands = {category["id"] for category in content["categories"] if "hand" in category["name"]}
        boxes: dict[Any, list[list[float]]] = {image["id"]: [] for image in content["images"]}
        keypoints: dict[Any, list[np.ndarray]] = {image_id: [] for image_id in boxes}
        for annotation in content["annotations"]:
            if annotation["category_id"] in hands:
                boxes[annotation["image_id"]].append([float(side) for side in annotation["bbox"]])
                keypoints[annotation["image_id"]].append(_labelled_keypoints(annotation))
        scenes = [
            Scene(
                path.parent / image["file_name"],
                _corners(boxes[image["id"]]),
                np.array(keypoints[image["id"]]).reshape(-1, KEYPOINT_COUNT, 3),
            )
            for image in content["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no COCO file of hands with boxes ({type(error).__name__}: {error}); "
            "images, annotations with bbox, and a category whose name has 'hand' are needed"
        ) from None
    if len(boxes) != len(scenes):
        raise UserError(f"{path}: several images have one id: give each an id of its own")
    if not hands:
        raise UserError(f"{path}: no category's name has 'hand': give the hands' category one")
    if not scenes:
        raise UserError(f"{path}: lists no image")
    return scenes


def boxes_of_images(path: Path, image_paths: Iterable[Path]) -> dict[Path, np.ndarray]:
    """Read the boxes of given pictures from a COCO file.

    A picture is the one whose path, seen from the COCO file's folder, is its `file_name`, or else
    the only one that has its name.

    Args:
        path: the COCO file.
        image_paths: the pictures.

    Returns:
        {picture: (N, 4) of x, y, width, height in pixels}; N may be 0.

    Raises:
        UserError: the file does not list a picture, or lists several of its name.
    """
    scenes = read_scenes(path)
    by_path = {scene.path.resolve(): scene for scene in scenes}
    by_name: dict[str, list[Scene]] = {}
    for scene in scenes:
        by_name.setdefault(scene.path.name, []).append(scene)
    boxes = {}
    for image_path in image_paths:
        listed = by_path.get(image_path.resolve())
        if listed is None:
            of_this_name = by_name.get(image_path.name, [])
            if len(of_this_name) != 1:
                raise UserError(
                    f"{path} lists {len(of_this_name)} images of the name {image_path.name}, which "
                    f"{image_path} has: list it once, with its path from the file's folder"
                )
            listed = of_this_name[0]
        corners = listed.boxes
        boxes[image_path] = np.concatenate(
            [corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1
        )
    return boxes


def _labelled_keypoints(annotation: dict[str, Any]) -> np.ndarray:
    """Return the keypoints (21, 3) of an annotation; zeros where it has none."""
    numbers = np.array(annotation.get("keypoints") or np.zeros(3 * KEYPOINT_COUNT), float)
    if numbers.shape != (3 * KEYPOINT_COUNT,):
        raise ValueError(f"a hand has {numbers.size} keypoint numbers, not {3 * KEYPOINT_COUNT}")
    return numbers.reshape(KEYPOINT_COUNT, 3)


def _corners(boxes: list[list[float]]) -> np.ndarray:
    """Return boxes of x, y, width, height as (N, 4) of left, top, right, bottom."""
    array = np.array(boxes, float).reshape(-1, 4)
    return np.concatenate([array[:, :2], array[:, :2] + array[:, 2:]], axis=1)
