"""COCO: the results of a run in one file, with keypoints and the mask's run lengths of each hand.

coco_results.json is the list that `COCO.loadRes` of pycocotools reads, and coco_images.json the
data set that goes with it: the images with their numbers, and the categories of hands. Numbers,
names and the order of the keypoints are those of the COCO file of boxes where the user gave one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.core.coco import hand_category, id_text
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_together
from mcc_caffe.core.hand import NAMES, SKELETON
from mcc_caffe.core.keypoint_names import find_order, only_count
from mcc_caffe.data.mask_files import encode_run_lengths
from mcc_caffe.inference.formats.base import (
    CONFIDENCE_DIGITS,
    HandRecord,
    ImageRecord,
    ReadHand,
    ReadImage,
    ResultFormat,
)
from mcc_caffe.inference.formats.parsing import (
    as_keypoints,
    as_name,
    as_numbers,
    box_of_sides,
    frames_error,
)
from mcc_caffe.inference.reports import PROGRAM, TIME_DIGITS
from mcc_caffe.paper import KEYPOINT_COUNT

RESULTS, IMAGES = "coco_results.json", "coco_images.json"
_CATEGORY_ID = 1


class CocoCategory(NamedTuple):
    """A category of hands of a COCO file.

    Attributes:
        id: Its id in the file.
        name: Its name in the file.
        keypoint_names: The file's names of its keypoints, in the file's order; () where it has
            none.
    """

    id: Any
    name: str
    keypoint_names: tuple[str, ...] = ()

    @property
    def keypoint_order(self) -> Sequence[int] | None:
        """Where our keypoints stand among the file's; None where its names do not say it."""
        names = self.keypoint_names
        if not names or (len(names) == KEYPOINT_COUNT and only_count(names)):
            return range(KEYPOINT_COUNT)
        return find_order(names)


UNKNOWN_ORDER = (
    "the names of the category's keypoints do not say which of a hand's they are; call them "
    f"{', '.join(NAMES[:3])}, ..."
)


def parse_category(record: dict[str, Any]) -> CocoCategory:
    """Return a category of a COCO file; KeyError or TypeError where it is none."""
    category_id, name = record["id"], record["name"]
    return CocoCategory(category_id, name, tuple(map(str, record.get("keypoints") or ())))


class CocoNumbers(NamedTuple):
    """The numbers by which the user's own COCO file calls an image and its boxes.

    Attributes:
        image_id: The image's id.
        category_ids: The id of each box's category, in the order of the boxes.
    """

    image_id: Any
    category_ids: list[Any]


class CocoLabels(NamedTuple):
    """How the user's own COCO file calls images and hands.

    Attributes:
        numbers: {image: its numbers}.
        categories: The file's categories of hands.
    """

    numbers: dict[str, CocoNumbers]
    categories: Sequence[CocoCategory]


class CocoFormat(ResultFormat):
    """Writes the hands of a run as COCO results.

    Args:
        labels: How the user's own COCO file calls the images and hands, if there is one.
    """

    def __init__(self, labels: CocoLabels | None = None) -> None:
        self._labels = labels
        self._texts: list[str] = []

    def paths(self, result: Path, is_video: bool) -> list[Path]:
        """Return nothing: the results of all images go into the run's files."""
        return []

    def run_paths(self, out: Path) -> list[Path]:
        """Return the files of the run."""
        return [out / RESULTS, out / IMAGES]

    def describe(self, image: ImageRecord) -> str:
        """Return an image's entry and its hands' entries, without numbers."""
        entry: dict[str, Any] = {"file_name": image.source}
        entry.update(width=image.width, height=image.height)
        if image.frame is not None and image.time is not None:
            entry.update(frame=image.frame, time=round(image.time, TIME_DIGITS))
        return json.dumps({"image": entry, "hands": [_hand_entry(hand) for hand in image.hands]})

    def document(self, text: str) -> str:
        """Return the results of an image by itself, which has the number 1."""
        numbers = {"image_id": 1, "category_id": _CATEGORY_ID}
        return json.dumps([{**numbers, **hand} for hand in json.loads(text)["hands"]]) + "\n"

    def write_image(
        self, result: Path, text: str, others: Mapping[Path, bytes] | None = None
    ) -> None:
        """Write the other files of an image, and keep its text until the run ends."""
        write_together(others or {})
        self._texts.append(text)

    def write_video(self, result: Path, texts: Sequence[str]) -> None:
        """Keep the frames' texts until the run ends."""
        self._texts += texts

    def run_content(self) -> list[str]:
        """Return the texts of this process's images."""
        return self._texts

    def write_run(self, out: Path, content: Sequence[str]) -> None:
        """Write the results of all processes, and the data set with their numbers, or neither."""
        categories = (
            self._labels.categories if self._labels else [CocoCategory(_CATEGORY_ID, "hand")]
        )
        orders = {id_text(category.id): category.keypoint_order for category in categories}
        images, results = [], []
        # Sorted, so that the numbers do not depend on the number of processes. The frames of a
        # video come from one process and stay in their order.
        described = sorted(map(json.loads, content), key=lambda each: each["image"]["file_name"])
        for number, entries in enumerate(described, start=1):
            image, hands = entries["image"], entries["hands"]
            image_id: Any = number
            category_ids = [_CATEGORY_ID] * len(hands)
            if self._labels:
                image_id, category_ids = self._labels.numbers[image["file_name"]]
            images.append({"id": image_id, **image})
            for category_id, hand in zip(category_ids, hands, strict=True):
                hand["keypoints"] = _in_order(hand["keypoints"], orders[id_text(category_id)])
                results.append({"image_id": image_id, "category_id": category_id, **hand})
        out.mkdir(parents=True, exist_ok=True)
        data_set = _data_set(images, categories)
        if results:
            results[0] = {"program": PROGRAM, **results[0]}  # the mark of a result
        lines = ",\n".join(json.dumps(result) for result in results)
        # Results name their images by numbers alone, which mean others in another run's data set.
        write_together(
            {
                out / RESULTS: f"[{lines}]\n".encode(),
                out / IMAGES: json.dumps(data_set).encode() + b"\n",
            }
        )


def _hand_entry(hand: HandRecord) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "bbox": list(hand.box),
        "score": round(hand.score, CONFIDENCE_DIGITS),
        "keypoints": hand.points_or_zeros(),
    }
    mask = hand.mask()
    if mask is not None:
        entry["segmentation"] = encode_run_lengths(mask)
    if hand.track_id is not None:
        entry["track_id"] = hand.track_id
    return entry


def _in_order(numbers: Sequence[float], order: Sequence[int] | None) -> list[float]:
    """Return x, y and confidence of our 21 keypoints in the order of a COCO file.

    Args:
        numbers: 63 numbers in our order.
        order: Where our keypoints stand in the file's. It is known: `coco_labels` checks it.
    """
    assert order is not None
    triples: list[list[float]] = [[]] * KEYPOINT_COUNT
    for ours, theirs in enumerate(order):
        triples[theirs] = list(numbers[3 * ours : 3 * ours + 3])
    return [number for triple in triples for number in triple]


def _category_record(category: CocoCategory) -> dict[str, Any]:
    """Return the record of a category for `categories`, with the file's names in its order."""
    record = {**hand_category(category.id, category.name), "supercategory": "person"}
    order = category.keypoint_order
    if category.keypoint_names:
        record["keypoints"] = list(category.keypoint_names)
    if order is None:
        del record["skeleton"]  # it cannot be said which keypoints a bone joins
    else:
        record["skeleton"] = [[order[start] + 1, order[end] + 1] for start, end, _ in SKELETON]
    return record


def _data_set(images: list[dict[str, Any]], categories: Sequence[CocoCategory]) -> dict[str, Any]:
    return {
        "program": PROGRAM,
        "info": {"description": "the images that the results beside this file are of"},
        "categories": [_category_record(category) for category in categories],
        "annotations": [],
        "images": images,
    }


def _parse_keypoints(values: Any, order: Sequence[int] | None) -> np.ndarray:
    """Return the keypoints of a result as a `ReadHand` has them; a detector's results have none.

    Args:
        values: The result's keypoints, or None.
        order: Where our keypoints stand among them; None where that is unknown.

    Raises:
        ValueError, TypeError or OverflowError: They are no 21 keypoints, or in an unknown order.
    """
    if not values:
        return np.full((KEYPOINT_COUNT, 3), np.nan)
    numbers = as_numbers(values).reshape(-1, 3)
    numbers[numbers[:, 2] == 0] = np.nan
    if order is None:
        raise ValueError(UNKNOWN_ORDER)
    return as_keypoints(numbers)[list(order)]


def read_coco(path: Path, results: list[Any]) -> list[ReadImage]:
    """Read COCO results; the images' names come from the data set that lies beside them.

    Keypoints are put into our order by the names that the data set gives to them.

    Raises:
        UserError: There is no such data set, or the content is not of this form.
    """
    data_set = path.with_name(IMAGES)
    try:
        content = json.loads(data_set.read_text(encoding="utf-8"))
        images = content["images"]
        categories = map(parse_category, content.get("categories") or [])
        orders = {id_text(category.id): category.keypoint_order for category in categories}
        names = {id_text(image["id"]): as_name(image["file_name"]) for image in images}
        is_of_video = any("frame" in image for image in images)
    except (ArithmeticError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} says only the images' numbers, and {data_set} cannot be read "
            f"({type(error).__name__}): put the COCO file that names the images there"
        ) from None
    if is_of_video:
        raise frames_error(path)
    if len(names) != len(images):
        raise UserError(f"{data_set}: several images have one id: give each an id of its own")
    hands: dict[str | None, list[ReadHand]] = {image_id: [] for image_id in names}
    for index, result in enumerate(results):
        try:
            score = float(as_numbers(result["score"]))
            order = orders.get(id_text(result.get("category_id")), range(KEYPOINT_COUNT))
            box, rle = box_of_sides(result.get("bbox")), result.get("segmentation")
            if box is None and rle is None and "keypoints" not in result:
                raise ValueError("it has none of keypoints, bbox and segmentation")
            hand = ReadHand(_parse_keypoints(result.get("keypoints"), order), score, rle, box)
            hands[id_text(result["image_id"])].append(hand)
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: entry {index} is no hand of an image of {data_set.name} "
                f"({type(error).__name__}: {error})"
            ) from None
    is_own = bool(results) and results[0].get("program") == PROGRAM
    return [
        ReadImage(names[image_id], True, image_hands, is_own)
        for image_id, image_hands in hands.items()
    ]
