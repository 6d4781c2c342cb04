"""COCO files of boxes around hands."""

import filecmp
import itertools
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.core.coco import annotation_name, find_image_folder, id_text
from mcc_caffe.core.errors import SampleError, UserError, shorten_list
from mcc_caffe.core.files import require_file
from mcc_caffe.core.hand import names_a_hand
from mcc_caffe.core.hand_boxes import covered_share
from mcc_caffe.core.images import ImageError, read_header
from mcc_caffe.core.keypoint_labels import check_visibilities, make_keypoints, parse_numbers
from mcc_caffe.inference.formats.coco import (
    UNKNOWN_ORDER,
    CocoCategory,
    CocoLabels,
    CocoNumbers,
    parse_category,
)
from mcc_caffe.inference.formats.parsing import check_box_pixels
from mcc_caffe.inference.input_files import UnreadableError, read_content, read_image
from mcc_caffe.paper import KEYPOINT_COUNT

_log = logging.getLogger(__name__)


class Scene(NamedTuple):
    """An image with boxes around its hands.

    Attributes:
        folder: The folder that the file's names of images start from.
        file_name: The image's name in the file.
        boxes_ltrb: (N, 4) of left, top, right, bottom in pixels of the upright image.
        keypoints: (N, 21, 3) of x, y in pixels and v, above 0 where the keypoint is labelled; 0
            where the file labels none.
        size: (width, height) in pixels that the file gives; None where it gives none.
        image_id: The image's id in the file.
        category_ids: The N ids of the boxes' categories.
        crowds_ltrb: (M, 4), the boxes around crowds of hands (`iscrowd`).
        hand_categories: All categories of hands of the file.
    """

    folder: Path
    file_name: str
    boxes_ltrb: np.ndarray
    keypoints: np.ndarray
    size: tuple[int, int] | None
    image_id: Any
    category_ids: tuple[Any, ...]
    crowds_ltrb: np.ndarray
    hand_categories: tuple[CocoCategory, ...]

    @property
    def path(self) -> Path:
        """The image file."""
        return self.folder / self.file_name

    def boxes_xywh(self) -> np.ndarray:
        """Return the boxes as (N, 4) of x, y, width, height."""
        corners, far_corners = self.boxes_ltrb[:, :2], self.boxes_ltrb[:, 2:]
        return np.concatenate([corners, far_corners - corners], axis=1)

    def read_upright_image(self) -> np.ndarray:
        """Read the image.

        Returns:
            HxWx3 uint8 BGR, upright.

        Raises:
            UserError: It cannot be read, or the file of boxes gives it another size.
        """
        image = read_image(self.path)
        self.check_size(self.path, (image.shape[1], image.shape[0]))
        return image

    def read_size(self) -> tuple[int, int]:
        """Read the size of the image, by its header where that is possible.

        Returns:
            (width, height) of the upright image in pixels.

        Raises:
            UserError: It cannot be read, or the file of boxes gives it another size.
        """
        size = _upright_size(self.path)
        if size is None:
            height, width = self.read_upright_image().shape[:2]
            return width, height
        self.check_size(self.path, size)
        return size

    def check_size(self, path: Path, size: tuple[int, int]) -> None:
        """Check that the boxes refer to the image as it is looked at.

        Args:
            path: The image, which may lie elsewhere than the file of boxes says.
            size: (width, height) of the upright image in pixels.

        Raises:
            UserError: The file gives it another size.
        """
        if self.size is not None and self.size != size:
            is_turned = self.size == size[::-1]
            remedy = ": its EXIF orientation turns it, turn the boxes, too" if is_turned else ""
            raise UserError(
                f"{path} is {size[0]} x {size[1]}, the file of boxes says "
                f"{self.size[0]} x {self.size[1]}{remedy}"
            )


class _LabelledHand(NamedTuple):
    """A hand of the file, or a crowd of hands.

    Attributes:
        box_xywh: (4,) of x, y, width, height in pixels.
        keypoints: (21, 3) of x, y in pixels and v; zeros where the file labels none.
        category_id: The id of its category.
        is_crowd: Whether the box is around a crowd.
    """

    box_xywh: np.ndarray
    keypoints: np.ndarray
    category_id: Any
    is_crowd: bool


def read_scenes(path: Path) -> list[Scene]:
    """Read a COCO file of boxes around hands.

    The images lie where `core.coco.find_image_folder` finds them. A box around a crowd of hands
    (`iscrowd`) is no hand to find. `Scene.crowds_ltrb` has these boxes.

    Raises:
        UserError: The file is missing or is no such file.
    """
    try:
        content: Any = json.loads(require_file(path, "COCO file").read_bytes())
        if isinstance(content, list):
            raise SampleError(
                "a list, as COCO results are, and no COCO file: give the file that has images, "
                "annotations and categories"
            )
        categories = {
            id_text(category["id"]): parse_category(category)
            for category in content["categories"]
            if names_a_hand(category["name"])
        }
        orders = {number: category.keypoint_order for number, category in categories.items()}
        hands = _group_hands(content, orders)
        names = [image["file_name"] for image in content["images"]]
        folder = find_image_folder(path, names) or path.parent
        scenes = [
            _make_scene(folder, image, hands[id_text(image["id"])], tuple(categories.values()))
            for image in content["images"]
        ]
    except SampleError as error:
        raise UserError(f"{path}: {error}") from None
    except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: no COCO file of hands with boxes ({type(error).__name__}: {reason}); "
            "images, annotations with bbox, and a category whose name has 'hand' are needed"
        ) from None
    if len(hands) != len(scenes):
        raise UserError(f"{path}: several images have one id: give each an id of its own")
    if not orders:
        raise UserError(f"{path}: no category's name has 'hand': give the hands' category one")
    if not scenes:
        raise UserError(f"{path}: lists no image")
    _check_listed_once(path, scenes)
    _check_pixels(path, scenes)
    return scenes


def read_labelled_scenes(path: Path) -> list[Scene]:
    """Read a COCO file of which at least one image has a box, as `read_scenes` does.

    Raises:
        UserError: The file is missing or is no such file, or none of its images has a box.
    """
    scenes = read_scenes(path)
    if not have_box(scenes):
        raise UserError(
            f"{path} has no box around a single hand in its {len(scenes)} images: give the COCO "
            "file whose annotations have the boxes"
        )
    return scenes


def drop_boxes_without_pixels(
    scenes: Sequence[Scene], sizes: Sequence[tuple[int, int]]
) -> list[Scene]:
    """Return scenes without the boxes that have no pixel of their image; a warning counts these.

    Args:
        scenes: The scenes.
        sizes: (width, height) of each upright image in pixels.
    """
    remaining, passed_over = [], []
    for scene, (width, height) in zip(scenes, sizes, strict=True):
        shows_pixels = covered_share(scene.boxes_ltrb, np.array([0, 0, width, height])) > 0
        remaining.append(
            scene._replace(
                boxes_ltrb=scene.boxes_ltrb[shows_pixels],
                keypoints=scene.keypoints[shows_pixels],
                category_ids=tuple(itertools.compress(scene.category_ids, shows_pixels)),
            )
        )
        passed_over += [
            f"{box.tolist()} of {scene.path}" for box in scene.boxes_xywh()[~shows_pixels]
        ]
    if passed_over:
        _log.warning(
            "%d boxes have a side of 0 or lie outside of their images and are passed over: %s",
            len(passed_over),
            shorten_list(passed_over),
        )
    return remaining


def have_box(scenes: Sequence[Scene]) -> bool:
    """Tell whether any scene has a labelled box, other than that of a crowd."""
    return any(len(scene.boxes_ltrb) for scene in scenes)


def _group_hands(
    content: dict[str, Any], orders: Mapping[str | None, Sequence[int] | None]
) -> dict[str | None, list[_LabelledHand]]:
    """Return {id of an image: its hands and crowds}.

    Args:
        content: The COCO file's content.
        orders: {id of a category of hands: the order of its keypoints}.

    Raises:
        SampleError: An annotation is of no listed image, or its box or keypoints cannot be used.
    """
    hands: dict[str | None, list[_LabelledHand]] = {
        id_text(image["id"]): [] for image in content["images"]
    }
    for position, annotation in enumerate(content["annotations"]):
        category_id = id_text(annotation["category_id"])
        if category_id not in orders:
            continue
        location = annotation_name(annotation.get("id"), position)
        image_id = id_text(annotation.get("image_id"))
        if image_id not in hands:
            raise SampleError(
                f"{location} is of the image {image_id}, which `images` lacks: list the image "
                "there, or take the annotation out"
            )
        hands[image_id].append(
            _LabelledHand(
                parse_numbers(annotation.get("bbox"), (4,), location=location, field="bbox"),
                _labelled_keypoints(annotation, location, orders[category_id]),
                annotation["category_id"],
                bool(annotation.get("iscrowd")),
            )
        )
    return hands


def _make_scene(
    folder: Path,
    image: dict[str, Any],
    labelled: Sequence[_LabelledHand],
    hand_categories: tuple[CocoCategory, ...],
) -> Scene:
    """Return the scene of an image of the COCO file.

    Args:
        folder: The folder that the file's names of images start from.
        image: The image's record.
        labelled: Its hands and crowds.
        hand_categories: All categories of hands of the file.
    """
    _check_name(image["file_name"])
    hands = [hand for hand in labelled if not hand.is_crowd]
    return Scene(
        folder=folder,
        file_name=image["file_name"],
        boxes_ltrb=_as_ltrb([hand.box_xywh for hand in hands]),
        keypoints=np.array([hand.keypoints for hand in hands]).reshape(-1, KEYPOINT_COUNT, 3),
        size=(int(image["width"]), int(image["height"])) if "width" in image else None,
        image_id=image["id"],
        category_ids=tuple(hand.category_id for hand in hands),
        crowds_ltrb=_as_ltrb([hand.box_xywh for hand in labelled if hand.is_crowd]),
        hand_categories=hand_categories,
    )


def _check_listed_once(path: Path, scenes: Sequence[Scene]) -> None:
    """Check that no image is listed twice: each of its records would lack the other's hands.

    Raises:
        UserError: One is.
    """
    scene_by_file: dict[str, Scene] = {}
    for scene in scenes:
        other = scene_by_file.setdefault(os.path.realpath(scene.path), scene)
        if other is not scene:
            raise UserError(
                f"{path} lists {scene.path} twice, as the images {other.image_id} and "
                f"{scene.image_id}: list it once, with all its hands"
            )


def _check_pixels(path: Path, scenes: Sequence[Scene]) -> None:
    """Check that the boxes are finite numbers of pixels, from left to right and top to bottom.

    Raises:
        UserError: They are not.
    """
    boxes = [
        (scene.file_name, box)
        for scene in scenes
        for box in (*scene.boxes_ltrb, *scene.crowds_ltrb)
    ]
    corners = np.array([box for _, box in boxes]).reshape(-1, 4)
    if not np.isfinite(corners).all():
        raise UserError(f"{path}: a bbox holds a number that is not finite: give pixels")
    sides = corners[:, 2:] - corners[:, :2]
    is_negative = (sides < 0).any(axis=1)
    if is_negative.any():
        index = is_negative.argmax()  # of the first
        raise UserError(
            f"{path}: the bbox {[*corners[index, :2].tolist(), *sides[index].tolist()]} has a "
            "side below 0: give x and y of the left top corner, width and height"
        )
    check_box_pixels(path, boxes)


def scenes_of_images(path: Path, image_paths: Iterable[Path]) -> dict[Path, Scene]:
    """Read what a COCO file of boxes says of given images.

    An image has the scene whose `file_name`, seen from the COCO file's folder, is the image's path,
    or else the only scene of its name. If the file of that scene still exists, the image must have
    the same content.

    Args:
        path: The COCO file.
        image_paths: The images.

    Returns:
        {image: its scene}, whose boxes may be none. Its size is what the image's header says,
        None where that says nothing.

    Raises:
        UserError: The file does not list an image, lists it or others of its name several times,
            or gives it another size; or two of the images have the same scene.
    """
    by_path: dict[str, Scene] = {}
    by_name: dict[str, list[Scene]] = {}
    all_scenes = read_scenes(path)
    if not have_box(all_scenes):
        _log.warning("%s has no box around a single hand: no hand is looked for", path)
    for scene in all_scenes:
        by_path[os.path.realpath(scene.path)] = scene
        by_name.setdefault(scene.path.name, []).append(scene)
    scenes: dict[Path, Scene] = {}
    image_path_of_id: dict[str | None, Path] = {}
    for image_path in image_paths:
        scene = by_path.get(os.path.realpath(image_path)) or _scene_of_moved(
            path, image_path, by_name.get(image_path.name, [])
        )
        other = image_path_of_id.setdefault(id_text(scene.image_id), image_path)
        if other != image_path:
            raise UserError(
                f"{other} and {image_path} are both image {scene.image_id} of {path}: "
                "give one of them, or list each with its path from the file's folder"
            )
        size = _upright_size(image_path)
        if size:
            scene.check_size(image_path, size)
        scenes[image_path] = scene._replace(size=size)
    return scenes


def _scene_of_moved(path: Path, image_path: Path, namesakes: Sequence[Scene]) -> Scene:
    """Return the scene of an image that lies elsewhere than the COCO file says.

    Args:
        path: The COCO file.
        image_path: The image.
        namesakes: The scenes of the file whose images have its name.

    Raises:
        UserError: None of them, or more than one, may be the image's.
    """
    copied = [scene for scene in namesakes if _have_equal_content(scene.path, image_path)]
    listed = copied or namesakes
    if not listed:
        raise UserError(
            f"{path} does not list {image_path}: list it, with its path from the file's folder"
        )
    if len(listed) > 1:
        raise UserError(
            f"{path} lists {len(listed)} images of the name {image_path.name}, which "
            f"{image_path} has: list it once, with its path from the file's folder"
        )
    (scene,) = listed
    if not copied and os.path.exists(scene.path):
        raise UserError(
            f"{path} does not list {image_path}: its {image_path.name} is another file, "
            f"{scene.path}: list this one, too, with its path from the file's folder"
        )
    return scene


def _have_equal_content(first: Path, second: Path) -> bool:
    """Tell whether two files can be read and hold the same bytes."""
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False


def coco_labels(scenes: Mapping[Path, Scene]) -> CocoLabels:
    """Return how a COCO file calls its images and hands, for COCO results.

    Args:
        scenes: {image: its scene}, at least one, all of one file.

    Raises:
        UserError: The names of a category's keypoints do not say their order, in which results have
            to be.
    """
    categories = next(iter(scenes.values())).hand_categories
    # A box may give the id 7 as "7"; results go by the category's own id.
    by_id = {id_text(category.id): category for category in categories}
    numbers = {}
    for path, scene in scenes.items():
        hand_categories = [by_id[id_text(number)] for number in scene.category_ids]
        for category in hand_categories:
            if category.keypoint_order is None:
                raise UserError(f"--format coco, category {category.name}: {UNKNOWN_ORDER}")
        numbers[str(path)] = CocoNumbers(
            scene.image_id, [category.id for category in hand_categories]
        )
    return CocoLabels(numbers, categories)


def _check_name(name: str) -> None:
    """Raise a ValueError or TypeError where no file can have the name."""
    if not name or b"\0" in os.fsencode(name):
        raise ValueError(f"file_name is {name!r}")


def _upright_size(image_path: Path) -> tuple[int, int] | None:
    """Return (width, height) of an upright image by its header; None where that says nothing."""
    try:
        header = read_header(read_content(image_path))
    except (ImageError, UnreadableError):  # whoever reads the image says so
        return None
    size = (header.width, header.height)
    return (size[::-1] if header.orientation > 4 else size) if header.width else None


def _labelled_keypoints(
    annotation: dict[str, Any], location: str, order: Sequence[int] | None
) -> np.ndarray:
    """Return the keypoints (21, 3) of an annotation in our order; zeros where it has none.

    Args:
        annotation: The annotation.
        location: Its name, for messages.
        order: Where our keypoints stand in its own; None where that is unknown.

    Raises:
        SampleError: They are no 21 x 3 numbers of x and y in pixels and v from 0 to 2.
        ValueError: Their order is unknown.
    """
    values = annotation.get("keypoints") or np.zeros(3 * KEYPOINT_COUNT)
    keypoints = parse_numbers(values, (KEYPOINT_COUNT, 3), location=location, field="keypoints")
    if not keypoints.any():
        return keypoints
    check_visibilities(keypoints[:, 2], location, highest=2)
    # For its checks alone: v may be 2 here.
    make_keypoints(keypoints[:, :2], keypoints[:, 2] > 0, location)
    if order is None:
        raise ValueError(UNKNOWN_ORDER)
    return keypoints[list(order)]


def _as_ltrb(boxes_xywh: list[np.ndarray]) -> np.ndarray:
    """Return boxes of x, y, width, height as (N, 4) of left, top, right, bottom."""
    array = np.array(boxes_xywh, float).reshape(-1, 4)
    return np.concatenate([array[:, :2], array[:, :2] + array[:, 2:]], axis=1)
