"""Reads COCO-style JSON: files with `images`, `annotations` and `categories`.

`images` have id, file_name, width and height; where they have `sha256`, the image's file has to
have that digest. `annotations` have id, image_id, keypoints, bbox and
segmentation. Two kinds of files are read: hands of 21 keypoints [x, y, v], such as MMPose's
onehand10k_{train,test}.json, and the hands of COCO-WholeBody's persons (`lefthand_kpts`,
`righthand_kpts`). A keypoint is labelled where v is above 0: COCO's 1 is hidden, 2 is visible, and
COCO-WholeBody has scores. A hand without any is no sample.

The keypoints are put into our order by the names that the category gives them. Without names they
are taken to be in our order. Annotations of other categories than a hand's are passed over. Ids may
be numbers or text; 7 and "7" are the same. Coordinates are pixels.

The source is one JSON file, or a folder that holds some, in itself or in `annotations/`; each file
is a split. File names start from the JSON's folder, from the one above, from `images/` in either,
or from another folder beside the file. Where the file lies in `annotations/` or `labels/`, they may
also start from a folder beside that one.

An image with one hand in its file is a sample as it is. Of an image with several, and of
COCO-WholeBody's scenes, each hand makes a sample: a square whose side is 1.5 times the longer side
of its bbox, with this hand's keypoints and mask only. A crowd of hands (`iscrowd`) is no sample,
but the image then has several hands.

The mask is the segmentation: polygons or run lengths, compressed or not. It has a pixel of the
sample. A polygon that is its own bounding box, which is all that MMPose's files have, is no mask.
"""

import collections
import dataclasses
import math
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.readers import freihand
from data_tools.readers.base import Entry
from data_tools.readers.segmentation import draw_mask
from data_tools.readers.shared import (
    HAND_BOX_FACTOR,
    Box,
    encode_mask,
    frame_sample,
    image_size,
    make_key,
    number_equal_keys,
    read_json,
    say_passed_over,
)
from mcc_caffe.core import keypoint_names
from mcc_caffe.core.coco import annotation_name, find_image_folder, holds_images, id_text
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.hand import NAMES, names_a_hand
from mcc_caffe.core.keypoint_labels import check_visibilities, make_keypoints, parse_numbers
from mcc_caffe.data.samples import Sample
from mcc_caffe.paper import KEYPOINT_COUNT

LAYOUT = (
    "a .json file with images, annotations and categories, or a folder of such files, or one that "
    "has them in annotations/"
)

_FIRST_KEY = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*"(info|licenses|images|annotations|categories)"')
_FIRST_KEY_BYTES = 1000  # of a JSON file, in which _FIRST_KEY is looked for
_FREIHAND_IMAGE = re.compile(r"/training/rgb/(\d{8})\.jpg$")  # the end of a path
_NO_ID = "hand"  # stands in the key of a hand whose annotation has no id
_LABEL_FOLDERS = ("annotations", "labels")  # whose images may lie in a folder beside them


class Hand(NamedTuple):
    """A hand as the file has it, unchecked.

    Attributes:
        position: The position of the annotation in the file's list.
        annotation_id: `id` of the annotation.
        image_id: `id` of the image, as `id_text` writes it; None where it is no id.
        side: "left" or "right" of a person, "" where the annotation is the hand's own.
        keypoints: 21 x [x, y, v], nested or flat.
        box: x, y, width, height.
        segmentation: Polygons or run lengths, or None.
        order: Index in `keypoints` of each of our keypoints.
        is_crowd: Whether it stands for a crowd of hands, which is no sample.
        fault: Why the hand cannot be used; "" where nothing is known yet.
    """

    position: int
    annotation_id: Any
    image_id: str | None
    side: str
    keypoints: Any
    box: Any
    segmentation: Any
    order: Sequence[int] = range(KEYPOINT_COUNT)
    is_crowd: bool = False
    fault: str = ""


@dataclass(frozen=True)
class CocoEntry(Entry):
    """One hand of one image."""

    path: Path  # of the JSON file
    folder: Path  # that file_name starts from
    image: dict[str, Any]  # the record of the image
    hand: Hand
    key: str  # of the sample
    is_alone: bool  # no other hand in the image
    root: Path  # what the user gave: images lie below it or below `folder`

    @property
    def location(self) -> str:
        """The file and the annotation, such as `hands_train.json: annotation 12`."""
        side = self.hand.side and f", {self.hand.side} hand"
        name = annotation_name(self.hand.annotation_id, self.hand.position)
        return f"{self.path.name}: {name}{side}"

    @property
    def group(self) -> str:
        """The image's path, or the `group` that `images` gives it, such as a film.

        The versions of a hand of FreiHAND, which MMPose's files of it list as images, are a
        group. Several JSON files may list one image, so that their names are no part of it.
        """
        if self.image.get("group") is not None:
            return f"group {self.image['group']}"
        if not self.image.get("file_name"):
            return self.location
        image_path = os.path.abspath(self.folder / str(self.image["file_name"]))
        version = _FREIHAND_IMAGE.search(image_path)
        return f"hand {int(version[1]) % freihand.HANDS}" if version else image_path

    def sample(self) -> Sample:
        """Read the image, and crop the hand where there are several; see `Entry.sample`."""
        if self.hand.fault:
            raise SampleError(f"{self.location}: {self.hand.fault}")
        file_name = self.image.get("file_name")
        if not file_name or not isinstance(file_name, str):
            raise SampleError(f"{self.location}: `images` has no file_name for its image_id")
        points = parse_numbers(
            self.hand.keypoints, (KEYPOINT_COUNT, 3), location=self.location, field="keypoints"
        )[list(self.hand.order)]
        # COCO-WholeBody has scores in the visibilities' place.
        is_persons = bool(self.hand.side)
        check_visibilities(points[:, 2], self.location, highest=2, may_be_scores=is_persons)
        keypoints = make_keypoints(points[:, :2], points[:, 2] > 0, self.location)
        sample = Sample(
            self.key,
            self.read_image_bytes(
                self.folder,
                file_name,
                roots=(self.path.parent, self.root),
                sha256=self.image.get("sha256"),
            ),
            None,
            keypoints,
        )
        size = image_size(sample, self.location, self._labelled_size())
        if self.hand.segmentation:
            mask = draw_mask(self.hand.segmentation, size, self.location)
            if mask is not None:
                sample = dataclasses.replace(sample, mask_png=encode_mask(mask))
        if self.is_alone:
            sample = frame_sample(sample, self.location)
        else:
            sample = frame_sample(sample, self.location, box=self._box(), factor=HAND_BOX_FACTOR)
        self._check_mask(sample)
        return sample

    def _check_mask(self, sample: Sample) -> None:
        """Check that the mask, if there is one, has a pixel of the sample, which may be a crop.

        Raises:
            SampleError: It has none: the net would learn that the sample shows no hand.
        """
        mask = sample.mask()
        if mask is not None and not mask.any():
            part = (
                f"the square around its bbox {self.hand.box}"
                if sample.is_crop
                else f"the image, {mask.shape[1]} x {mask.shape[0]}"
            )
            raise SampleError(
                f"{self.location}: the segmentation has no pixel of {part}: the hand's outline in "
                "pixels is needed, or [] where there is no mask"
            )

    def _box(self) -> Box:
        """Return the hand's box; SampleError where the label has something else."""
        x, y, width, height = parse_numbers(
            self.hand.box, (4,), location=self.location, field="bbox"
        ).tolist()
        if not all(map(math.isfinite, (x, y, width, height))) or min(width, height) < 0:
            raise SampleError(
                f"{self.location}: bbox is {[x, y, width, height]}: x and y of the left top "
                "corner, width and height in pixels are needed"
            )
        return Box(x, y, x + width, y + height)

    def _labelled_size(self) -> tuple[int, int] | None:
        """Return the (width, height) that `images` gives, or None where it gives none."""
        sides: list[Any] = [self.image.get("width"), self.image.get("height")]
        if sides == [None, None]:
            return None
        for side in sides:
            if isinstance(side, bool) or not isinstance(side, (int, float)) or not 0 < side < 1e6:
                raise SampleError(
                    f"{self.location}: `images` gives it the size {str(sides)[:80]}: "
                    "width and height in pixels are needed, or neither"
                )
        width, height = map(int, sides)
        if [width, height] != sides:
            raise SampleError(f"{self.location}: `images` gives it the size {sides}")
        return width, height


def _find_files(root: Path) -> dict[str, Path]:
    """Return {split: its JSON file}; UserError where two files are one split."""
    if root.is_file():
        return {root.stem: root} if root.suffix == ".json" else {}
    files: dict[str, Path] = {}
    for path in (*sorted(root.glob("annotations/*.json")), *sorted(root.glob("*.json"))):
        if not path.is_file():  # a pipe would block
            continue
        with open(path, "rb") as file:
            if not _FIRST_KEY.match(file.read(_FIRST_KEY_BYTES)):
                continue
        other = files.setdefault(path.stem, path)
        if other != path:
            raise UserError(
                f"{other} and {path} both are the split {path.stem}: "
                "give the one that you mean, or rename one"
            )
    return files


def find_splits(root: Path) -> list[str]:
    """Return the names of the JSON files, without the ending; UserError where two are the same."""
    return list(_find_files(root))


def read_entries(root: Path, split: str) -> list[CocoEntry]:
    """Return one entry for each hand of a JSON file: persons' hands, then the others, as listed.

    Raises:
        UserError: The file is not of this form or has no labelled hand, or its images are not
            where it says.
    """
    path = _find_files(root)[split]
    content = _read_content(path)
    images = _group_by_id(content["images"])
    hands = _list_all_hands(path, content)
    single_hands = [hand for hand in hands if not hand.is_crowd]
    labelled_hands = [
        _check_image(hand, images) for hand in single_hands if not _is_unlabelled(hand)
    ]
    if not labelled_hands:
        raise UserError(f"{path} has no annotation of a hand with a labelled keypoint")
    say_passed_over(
        path, len(single_hands) - len(labelled_hands), "hands of which no keypoint is labelled"
    )
    listed = {hand.image_id for hand in hands}
    say_passed_over(
        path,
        sum(image_id not in listed for image_id in images),
        "images without an annotation of a hand",
    )
    records = [images[hand.image_id][0] if not hand.fault else {} for hand in labelled_hands]
    names = [record["file_name"] for record in records if isinstance(record.get("file_name"), str)]
    folder = _find_image_folder(path, names)
    # Hands without labels and crowds are in the image, too, and an image may be listed under
    # several ids and as "./0.jpg".
    path_by_id = {
        image_id: os.path.normpath(str(same_id[0].get("file_name")))
        for image_id, same_id in images.items()
    }
    hand_counts = collections.Counter(path_by_id.get(hand.image_id) for hand in hands)
    keys = number_equal_keys(
        (_identity(number, record, hand), _sample_key(path, record, hand))
        for number, (record, hand) in enumerate(zip(records, labelled_hands))
    )
    return [
        CocoEntry(
            path,
            folder,
            record,
            hand,
            key,
            is_alone=hand_counts[path_by_id.get(hand.image_id)] == 1 and not hand.side,
            root=root if root.is_dir() else root.parent,
        )
        for record, hand, key in zip(records, labelled_hands, keys)
    ]


def _read_content(path: Path) -> dict[str, Any]:
    """Read a JSON file; UserError where it has no lists of COCO's."""
    content = read_json(path)
    for name, default in (("images", None), ("annotations", None), ("categories", [])):
        records = content.get(name, default) if isinstance(content, dict) else None
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise UserError(f"{path} has no list of objects `{name}`: is it a COCO-style file?")
    return content


def _group_by_id(records: Sequence[dict[str, Any]]) -> dict[str | None, list[dict[str, Any]]]:
    """Return {id as text: its records in `images`}, of which each has another file name."""
    groups: dict[str | None, dict[str, dict[str, Any]]] = {}
    for record in records:
        record_by_name = groups.setdefault(id_text(record.get("id")), {})
        record_by_name.setdefault(repr(record.get("file_name")), record)
    return {image_id: list(record_by_name.values()) for image_id, record_by_name in groups.items()}


def _sample_key(path: Path, image: dict[str, Any], hand: Hand) -> str:
    """Return the key of a hand's sample, which another hand may have, too."""
    annotation_id = _NO_ID if hand.annotation_id is None else str(hand.annotation_id)
    parts = [path.stem, str(image.get("file_name")), annotation_id]
    return make_key(*parts, *([hand.side] if hand.side else []))


def _identity(number: int, image: dict[str, Any], hand: Hand) -> Hashable:
    """Return what tells a hand from others: where its annotation has no id, its number."""
    annotation_id = id_text(hand.annotation_id)
    if annotation_id is None:
        return number
    return str(image.get("file_name")), annotation_id, hand.side


def _check_image(hand: Hand, images: dict[str | None, list[dict[str, Any]]]) -> Hand:
    """Return the hand, with a fault where its image_id is that of no image or of several."""
    records = images.get(hand.image_id, []) if hand.image_id is not None else []
    if hand.fault or len(records) == 1:
        return hand
    if not records:
        return hand._replace(fault="`images` has no file_name for its image_id")
    names = ", ".join(str(record.get("file_name"))[:80] for record in records[:3])
    return hand._replace(
        fault=f"the image_id {hand.image_id} belongs to {len(records)} images ({names}), as in "
        "files that were merged: give each image an id of its own"
    )


def _is_unlabelled(hand: Hand) -> bool:
    """Tell whether every v is 0; a broken label is kept, `sample` reports it."""
    if hand.fault:
        return False
    try:
        points = parse_numbers(hand.keypoints, (KEYPOINT_COUNT, 3), location="", field="")
    except SampleError:
        return False
    return bool((points[:, 2] == 0).all())


def _list_all_hands(path: Path, content: dict[str, Any]) -> list[Hand]:
    """List the hands of all annotations, crowds and hands without labels among them."""
    annotations = content["annotations"]
    persons = [record for record in enumerate(annotations) if _is_person(record[1])]
    others = [record for record in enumerate(annotations) if not _is_person(record[1])]
    hands = [hand for record in persons for hand in _list_persons_hands(*record)]
    orders = _find_orders(path, content, required=not persons)
    listed_ids = [id_text(category.get("id")) for category in content.get("categories", [])]
    made = [_make_hand(*record, listed_ids, orders) for record in others]
    hands += [hand for hand in made if hand is not None]
    say_passed_over(path, made.count(None), "annotations that are no hands")
    say_passed_over(path, sum(hand.is_crowd for hand in hands), "annotations of crowds of hands")
    return hands


def _make_hand(
    position: int,
    annotation: dict[str, Any],
    listed_ids: Sequence[str | None],
    orders: Mapping[str | None, Sequence[int]],
) -> Hand | None:
    """Return the hand of an annotation; None where its category is no hand's.

    Args:
        position: The position of the annotation in the file's list.
        annotation: An annotation that is no person of COCO-WholeBody's.
        listed_ids: The ids of all categories of the file.
        orders: {id: order of the keypoints} of the categories that are hands.
    """
    hand = Hand(
        position,
        annotation.get("id"),
        id_text(annotation.get("image_id")),
        "",
        annotation.get("keypoints"),
        annotation.get("bbox"),
        annotation.get("segmentation"),
        is_crowd=bool(annotation.get("iscrowd")),
    )
    category_id = id_text(annotation.get("category_id"))
    if not listed_ids:
        return hand
    if category_id in orders:
        return hand._replace(order=orders[category_id])
    if category_id in listed_ids:
        return None
    if category_id is None and len(listed_ids) == len(orders) == 1:
        (order,) = orders.values()
        return hand._replace(order=order)
    fault = f"`categories` has no category_id {annotation.get('category_id')!r}"
    return hand._replace(fault=fault[:200])


def _is_person(annotation: dict[str, Any]) -> bool:
    """Tell whether an annotation is a person of COCO-WholeBody's."""
    return "lefthand_kpts" in annotation or "righthand_kpts" in annotation


def _list_persons_hands(position: int, annotation: dict[str, Any]) -> list[Hand]:
    """List the hands that COCO-WholeBody calls valid, of the person at a position of its list."""
    return [
        Hand(
            position,
            annotation.get("id"),
            id_text(annotation.get("image_id")),
            side,
            annotation.get(f"{side}hand_kpts"),
            annotation.get(f"{side}hand_box"),
            None,  # the segmentation is the person's
        )
        for side in ("left", "right")
        if annotation.get(f"{side}hand_valid")
    ]


def _keypoint_names(path: Path, category: dict[str, Any]) -> list[str]:
    """Return the names that a category gives its keypoints; [] where it gives none."""
    names = category.get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
        raise UserError(
            f"{path}: the keypoints of the category {category.get('name')!r} are "
            f"{str(names)[:80]}: a list of names is needed"
        )
    return [str(name) for name in names]


def _guess_order(names: Sequence[str]) -> Sequence[int] | None:
    """Return our own order where names are missing or only count a hand's keypoints."""
    is_counted = len(names) == KEYPOINT_COUNT and keypoint_names.only_count(names)
    return range(KEYPOINT_COUNT) if not names or is_counted else None


def _find_orders(
    path: Path, content: dict[str, Any], *, required: bool
) -> dict[str | None, Sequence[int]]:
    """Find the categories that are hands, and the order of their keypoints.

    A category is a hand's where its keypoints have a hand's names, or where it names none and is
    called a hand or is the only one.

    Returns:
        {id as text: index in the category's keypoints of each of ours}.

    Raises:
        UserError: A hand's keypoints have names that do not tell their order, or `required` is
            given and there is no hand.
    """
    info = content.get("info")
    if required and isinstance(info, dict) and info.get("description") == "RHD":
        raise UserError(
            f"{path} is MMPose's file of RHD, whose fingers run from tip to base whatever its "
            "names say: give the folder of RHD itself"
        )
    categories = content.get("categories", [])
    orders: dict[str | None, Sequence[int]] = {}
    ids: set[str | None] = set()
    for category in categories:
        name, names = str(category.get("name"))[:80], _keypoint_names(path, category)
        category_id = id_text(category.get("id"))
        if category_id in ids:
            raise UserError(f"{path}: two categories have the id {category_id}: number them anew")
        ids.add(category_id)
        order: Sequence[int] | None = keypoint_names.find_order(names)
        if order is None and (names_a_hand(name) or len(categories) == 1):
            order = _guess_order(names)
            if order is None and required and len(names) == KEYPOINT_COUNT:
                raise UserError(
                    f"{path}: the keypoints of the category {name!r} are "
                    f"{', '.join(name[:40] for name in names[:6])}, ...: these names do not say "
                    f"which of a hand's they are: call them {', '.join(NAMES[:3])}, ..."
                )
        if order is not None:
            orders[category_id] = order
    if required and categories and not orders:
        described = ", ".join(
            f"{str(category.get('name'))[:40]!r} has {len(_keypoint_names(path, category))} "
            "keypoints"
            for category in categories[:5]
        )
        raise UserError(
            f"{path}: the category {described}: "
            f"only hands of {KEYPOINT_COUNT} and COCO-WholeBody's are read"
        )
    return orders


def _find_image_folder(path: Path, names: list[str]) -> Path:
    """Find the folder of the file names: the first in which some of the first images lie."""
    here = path.absolute().parent
    if not names:  # no hand has an image, and each says why
        return here
    if folder := find_image_folder(path, names):
        return folder
    # Beside a set's folder stand other sets, whose images often have the same names.
    parents = (here, here.parent) if here.name in _LABEL_FOLDERS else (here,)
    others = [
        folder
        for parent in parents
        for folder in sorted(parent.iterdir())
        if holds_images(folder, names)
    ]
    if len(others) == 1:
        return others[0]
    if others:
        raise UserError(
            f"{path}: its first images lie in several folders ({', '.join(map(str, others))}): "
            "put the file into the one that is meant"
        )
    raise UserError(
        f"{path}: its first image, {names[0]}, was not found: looked in "
        f"{here}, in {here.parent} and in the folders of {' and '.join(map(str, parents))}; "
        f"put the images into {here / 'images'}"
    )
