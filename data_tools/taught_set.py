"""The data set that `data_tools.teach` makes: crops of hands, and a COCO file that labels them.

    OUT/hands.json      COCO-style; `info` says how it was made and lists the photographs
    OUT/images/*.jpg    a square of 2.2 x the keypoints' box for each hand, at most 640 pixels

Labels that are there already are never changed: whoever corrects `hands.json` by hand keeps the
corrections when more photographs are added. A command that finds them corrected while it runs ends.
"""

import functools
import json
import logging
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import cv2
import numpy as np

from data_tools.readers.shared import KEYPOINT_BOX_FACTOR, clipped_square, read_json
from data_tools.teachers import AgreedHand
from mcc_caffe.core.coco import hand_category
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import atomic_write, file_stamp, write_atomically
from mcc_caffe.core.geometry import lie_inside

PROGRAM = "data_tools.teach"
LABELS, IMAGES = "hands.json", "images"
LARGEST_SIDE = 640  # pixels of a crop
_JPEG_OPTIONS = (cv2.IMWRITE_JPEG_QUALITY, 95)
_WRITE_SECONDS = 20.0  # between two writings of the labels, so that a killed run loses little
_NUMBER = re.compile(r"[0-9]{6,12}(?=_)")  # of a photograph, which begins its crops' names
_NAME_LENGTH = 60  # characters of a photograph's name in the names of its crops
# The name of a crop; `add` makes it.
_CROP_NAME = re.compile(rf"([0-9]{{6,12}})_[a-zA-Z0-9_-]{{0,{_NAME_LENGTH}}}_[0-9]+\.jpg")

_log = logging.getLogger(__name__)


@functools.cache
def is_taught(folder: Path) -> bool:
    """Tell whether a folder is a taught set, by its labels."""
    try:
        return _own_info(json.loads((folder / LABELS).read_bytes())) is not None
    except (OSError, RecursionError, ValueError):
        return False


def _own_info(content: Any) -> dict[str, Any] | None:
    """Return `info` of a COCO file's content; None where this program did not make the file."""
    info = content.get("info") if isinstance(content, dict) else None
    return info if isinstance(info, dict) and info.get("program") == PROGRAM else None


def read_photographs(folder: Path) -> dict[Path, str]:
    """Read which crops of a taught set are of which photograph.

    Crops of one photograph show the same scene, often the same person: they belong into one split.

    Args:
        folder: The set's folder, or `images` in it; any other has no such crops.

    Returns:
        {path of a crop: name of its photograph}.

    Raises:
        UserError: The set's labels cannot be read.
    """
    photographs = {}
    for root in (folder, folder.parent):
        path = root / LABELS
        if not path.is_file():
            continue
        content = read_json(path)
        if _own_info(content) is None:
            continue
        try:
            for image in content["images"]:
                if image.get("group") is not None:
                    photographs[root / image["file_name"]] = str(image["group"])
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({type(error).__name__}: {error}): mend it, since it says "
                "which crops show one photograph"
            ) from None
    return photographs


class PhotographRecord(TypedDict):
    """What `info` says of a photograph.

    Attributes:
        file: Its path, as the user gave it.
        hand_count: Number of hands that the teacher found.
        crop_count: Number of those of which there is a crop.
    """

    file: str
    hand_count: int
    crop_count: int


class _Crop(NamedTuple):
    """A crop that was written.

    Attributes:
        width: Pixels.
        height: Pixels.
        keypoints: (21, 2) x, y in pixels of the crop; some may lie outside.
    """

    width: int
    height: int
    keypoints: np.ndarray


class LabelFile:
    """The file hands.json of a taught set, whose content grows.

    Attributes:
        content: What the file is to hold. Whoever changes it calls `write` at the end.
    """

    def __init__(
        self, folder: Path, content: dict[str, Any], stamp: tuple[int, int, int] | None = None
    ):
        """Name the file; nothing is read or written.

        Args:
            folder: The set's folder; it need not exist.
            content: What the file holds, or is to hold.
            stamp: That of the file which holds it, taken before it was read; None where there is
                no file yet.
        """
        self.content = content
        self._path = folder / LABELS
        self._stamp = stamp
        self._text = None if stamp is None else json.dumps(content)  # what the file holds
        self._last_look = time.monotonic()

    @classmethod
    def read(cls, folder: Path) -> "LabelFile":
        """Read the file of a set that this program made.

        Raises:
            UserError: It is missing, of another program, or damaged, or an id is there twice.
        """
        # The stamp comes first, so that `check_unchanged` notices what is saved while it is read.
        stamp = file_stamp(folder / LABELS)
        return cls(folder, _read_content(folder / LABELS), stamp)

    def check_unchanged(self) -> None:
        """Check that the file is as it was read or written here.

        Raises:
            UserError: Somebody else has changed it.
        """
        if file_stamp(self._path) != self._stamp:
            raise UserError(
                f"{self._path} was changed while this command ran, and stays as it is now: "
                "run the command again, it goes on from there"
            )

    def write(self) -> None:
        """Write the file, completely or not at all, if it is to hold something else than it does.

        Raises:
            UserError: Somebody else has changed it since it was read or written here, or it cannot
                be written.
        """
        self._last_look = time.monotonic()
        text = json.dumps(self.content)
        if text == self._text:
            return
        self.check_unchanged()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._path) as (partial, file):
            file.write(f"{text}\n".encode())
            file.flush()
            stamp = file_stamp(partial)  # once it has its name, somebody may replace it
        self._text, self._stamp = text, stamp

    def write_if_due(self) -> None:
        """Write the file if more than 20 seconds have passed since `write` last looked."""
        if time.monotonic() - self._last_look > _WRITE_SECONDS:
            self.write()


class TaughtSet:
    """The folder of a data set that grows by one photograph at a time.

    Attributes:
        folder: The set's folder.
        photographs: {hash of a photograph's file: its record}, of this run and earlier ones.
    """

    def __init__(self, folder: Path, *, teacher: str, agreement: float):
        """Open the folder, or choose a new one.

        Args:
            folder: The set's folder; it need not exist.
            teacher: The teacher's name.
            agreement: The largest difference between two answers, as a share of the box.

        Raises:
            UserError: There is a folder of another kind, or a set made in another way.
            OSError: A crop that a killed run has left cannot be removed.
        """
        self.folder = folder
        path = folder / LABELS
        if path.exists():
            self._labels = LabelFile.read(folder)
            _check_info(path, self._labels.content["info"], teacher, agreement)
        elif folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f"{folder} holds other files and no {LABELS} of this program: "
                "give a new folder, or that of an earlier run"
            )
        else:
            self._labels = LabelFile(folder, _new_content(teacher, agreement))
        content = self._labels.content
        self.photographs: dict[str, PhotographRecord] = content["info"]["photographs"]
        # Their count alone would give a number twice, once a photograph's records are deleted.
        self._last_number = max(len(self.photographs), _highest_number(content["images"]))
        self._remove_orphans()

    def _remove_orphans(self) -> None:
        """Remove the crops that a killed run wrote and did not label.

        Their photographs are not in the set, so their numbers come after those of all that are.
        A file with a lower number or another name is the user's, and stays.
        """
        orphans = [
            path
            for path in (self.folder / IMAGES).glob("*.jpg")
            if (name := _CROP_NAME.fullmatch(path.name))
            and int(name[1]) > self._last_number
            and path.is_file()
            and not path.is_symlink()
        ]
        for path in orphans:
            path.unlink()
        if orphans:
            _log.info(
                "%d crops of a killed run, which has not labelled them: removed", len(orphans)
            )

    @property
    def hand_count(self) -> int:
        """The number of labelled hands."""
        return len(self._labels.content["annotations"])

    def add(
        self,
        digest: str,
        photograph: Path,
        image: np.ndarray,
        hands: list[AgreedHand],
        hand_count: int,
    ) -> None:
        """Add the hands of a photograph: all of them or, on an error, none.

        The labels reach the disk before the first crop, and then every 20 seconds.

        Args:
            digest: Hash of the photograph's file.
            photograph: The file.
            image: HxWx3 uint8 BGR, the upright photograph.
            hands: The hands to label.
            hand_count: Number of hands that the teacher found in it, labelled or not.

        Raises:
            UserError: A file cannot be written.
        """
        if not self.photographs:
            self.write()  # a run that is killed later finds its own folder again
        name = re.sub(r"[^\w-]+", "_", photograph.stem, flags=re.ASCII)[:_NAME_LENGTH]
        start = f"{self._last_number + 1:06d}_{name}"
        (self.folder / IMAGES).mkdir(parents=True, exist_ok=True)
        images, annotations = self._labels.content["images"], self._labels.content["annotations"]
        image_id, annotation_id = _next_id(images), _next_id(annotations)
        new_images, new_annotations = [], []
        for number, hand in enumerate(hands):
            file_name = f"{IMAGES}/{start}_{number + 1}.jpg"
            crop = self._write_crop(file_name, image, hand)
            new_images.append(
                {
                    "id": image_id + number,
                    "file_name": file_name,
                    "width": crop.width,
                    "height": crop.height,
                    "group": digest,
                }
            )
            new_annotations.append(
                {
                    "id": annotation_id + number,
                    "image_id": image_id + number,
                    **_describe_hand(crop),
                    "agreement": round(hand.difference, 4),
                }
            )
        # Only now: a photograph whose crops are not all there is labelled anew by the next run.
        images += new_images
        annotations += new_annotations
        self.photographs[digest] = {
            "file": str(photograph),
            "hand_count": hand_count,
            "crop_count": len(hands),
        }
        self._last_number += 1
        self._labels.write_if_due()

    def _write_crop(self, file_name: str, image: np.ndarray, hand: AgreedHand) -> _Crop:
        """Cut a hand out of a photograph and write the crop."""
        height, width = image.shape[:2]
        box = np.concatenate([hand.keypoints.min(axis=0), hand.keypoints.max(axis=0)])
        window = clipped_square(box.tolist(), KEYPOINT_BOX_FACTOR, width, height)
        crop = image[window.top : window.bottom, window.left : window.right]
        keypoints = hand.keypoints - (window.left, window.top)
        factor = LARGEST_SIDE / max(crop.shape[:2])
        if factor < 1:
            size = [max(round(side * factor), 1) for side in crop.shape[1::-1]]
            keypoints = (keypoints + 0.5) * np.divide(size, crop.shape[1::-1]) - 0.5
            crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
        jpeg = cv2.imencode(".jpg", crop, _JPEG_OPTIONS)[1].tobytes()
        write_atomically(self.folder / file_name, jpeg)
        return _Crop(crop.shape[1], crop.shape[0], keypoints)

    def write(self) -> None:
        """Write the labels, completely or not at all."""
        self._labels.write()


def _next_id(records: list[dict[str, Any]]) -> int:
    """Return the number after the highest id of `images` or `annotations`."""
    return 1 + max((record["id"] for record in records), default=0)


def _highest_number(images: list[dict[str, Any]]) -> int:
    """Return the highest number that begins the name of a crop in `images`; 0 without any."""
    names = (str(record.get("file_name")).rpartition("/")[2] for record in images)
    return max((int(start[0]) for start in map(_NUMBER.match, names) if start), default=0)


def _describe_hand(crop: _Crop) -> dict[str, Any]:
    """Return what the annotation of a crop's hand says of its keypoints and its box."""
    xy = crop.keypoints.round(2)  # as the file has them: rounding may move one out of the image
    inside = lie_inside(xy, crop.width, crop.height)
    labels = np.where(inside[:, None], np.insert(xy, 2, 2, axis=1), 0)
    left_top, sides = xy.min(axis=0), np.ptp(xy, axis=0)
    return {
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": int(inside.sum()),
        "keypoints": labels.ravel().tolist(),
        "bbox": np.concatenate([left_top, sides]).round(2).tolist(),
        "area": round(float(sides.prod()), 2),
    }


def _new_content(teacher: str, agreement: float) -> dict[str, Any]:
    """Return the content of a COCO file without hands."""
    return {
        "info": {
            "program": PROGRAM,
            "teacher": teacher,
            "agreement": agreement,
            "photographs": {},
        },
        "images": [],
        "annotations": [],
        "categories": [hand_category()],
    }


def _read_content(path: Path) -> dict[str, Any]:
    """Read the labels of a set that this program made.

    Args:
        path: The COCO file.

    Returns:
        Its content: `images` and `annotations` are lists of records with an id of their own.

    Raises:
        UserError: The file is missing, of another program, or damaged, or an id is there twice.
    """
    content = read_json(path)
    if _own_info(content) is None:
        raise UserError(f"{path} was not made by {PROGRAM}: give another folder")
    for name in ("images", "annotations"):
        records = content.get(name)
        if not isinstance(records, list) or not all(
            isinstance(record, dict) and isinstance(record.get("id"), int) for record in records
        ):
            raise UserError(f"{path}: `{name}` is no list of records with an id: is it damaged?")
        ((most_frequent, count),) = Counter(r["id"] for r in records).most_common(1) or [(0, 0)]
        if count > 1:
            raise UserError(
                f"{path}: {count} records of `{name}` have the id {most_frequent}: "
                "give each an id of its own"
            )
    return content


def _check_info(path: Path, info: dict[str, Any], teacher: str, agreement: float) -> None:
    """Check that the labels of an earlier run were made as now.

    Args:
        path: The COCO file.
        info: Its `info`.
        teacher: The teacher's name.
        agreement: The largest difference between two answers, as a share of the box.

    Raises:
        UserError: They were made in another way, or `info` is damaged.
    """
    if not isinstance(info.get("photographs"), dict):
        raise UserError(f"{path}: `info` lists no photographs: is it damaged?")
    for name, value in (("teacher", teacher), ("agreement", agreement)):
        if info.get(name) != value:
            raise UserError(
                f"{path} was made with the {name} {info.get(name)}, now it is {value}: "
                "give the same, or a new folder"
            )
