"""The images of a folder that is labelled, and the files beside them that hold the labels.

All that is written lies in one folder of its own, so that the images are never touched:

    FOLDER/mcc-labels/README.txt      says what lies there
    FOLDER/mcc-labels/state/          what a person has labelled, a JSON file for each image
    FOLDER/mcc-labels/answers/        what the net said, which can be computed again
    FOLDER/mcc-labels/onehand10k/     the images that are done, in OneHand10K's layout
    FOLDER/mcc-labels/coco/           the same, in COCO's
    FOLDER/mcc-labels/upright/        copies of images that their EXIF orientation turns

An image's key names it in all files and addresses. It has letters, digits and hyphens only,
whatever the image's own name is.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from mcc_caffe.core.errors import UserError, escape_unprintable
from mcc_caffe.core.files import LABELS_FOLDER, LABELS_STATE, replaced_together, write_together
from mcc_caffe.core.output_checks import check_folder
from mcc_caffe.inference.input_files import (
    PassedOver,
    UnreadableError,
    decode_content,
    files_below,
    is_video,
    read_content,
)
from mcc_caffe.inference.reports import is_own_result
from mcc_caffe.serving.label_documents import SavedLabels, describe_first_error

STATE, ANSWERS, UPRIGHT = LABELS_STATE, "answers", "upright"
ONEHAND10K, COCO = "onehand10k", "coco"

KEY_PATTERN = re.compile(r"[A-Za-z0-9-]{1,40}-[0-9a-f]{12}")
_SLUG_LENGTH = 40  # characters of an image's name in its key

_README = """\
`mcc-web label` writes this folder. The images themselves stay as they are.

onehand10k/  the images that are done, in OneHand10K's layout  } either is a whole data set for
coco/        the same images and labels, in COCO's             } make lmdb SOURCE=...
state/       the labels of every image, done or not: keep this folder, the two above are made
             from it whenever the command starts
answers/     what the network said: it can be removed, and is computed again
upright/     copies of images that their EXIF orientation turns

Images in onehand10k/ and coco/ are links to your own: `cp -rL` makes copies of them.
"""

_Record = TypeVar("_Record", bound=BaseModel)


class NotReadyError(UserError):
    """What is asked for of an image is not there yet."""


@dataclass(frozen=True)
class ImageFile:
    """An image that can be labelled.

    An UnreadableError of its methods does not name it; whoever shows the error does.

    Attributes:
        key: Names the image in files and addresses.
        path: The file.
        name: Its path below the folder, in characters that can be shown.
    """

    key: str
    path: Path
    name: str

    def read_bytes(self) -> bytes:
        """Return the file's content; UnreadableError where it cannot be read."""
        with self._without_name():
            return read_content(self.path)

    def decode(self, content: bytes) -> np.ndarray:
        """Return the upright pixels of the file's content, HxWx3 uint8 BGR.

        Raises:
            UnreadableError: It is no image.
        """
        with self._without_name():
            return decode_content(self.path, content)

    def read_version(self, digest: str) -> np.ndarray:
        """Return the upright pixels, HxWx3 uint8 BGR, of the file that had this digest.

        Raises:
            UnreadableError: It cannot be read.
            NotReadyError: Another file has replaced it.
        """
        content = self.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise NotReadyError(f"the file of {self.name} is just being changed: try again")
        return self.decode(content)

    @contextlib.contextmanager
    def _without_name(self) -> Iterator[None]:
        try:
            yield
        except UnreadableError as error:
            raise UnreadableError(str(error).removeprefix(f"{self.path}: ")) from None


class FolderImages(NamedTuple):
    """The images of a folder, in the order of their names, and what lies there beside them."""

    images: list[ImageFile]
    passed_over: PassedOver


def list_images(folder: Path) -> FolderImages:
    """List the images of a folder and of the folders in it.

    Args:
        folder: The folder.

    Raises:
        UserError: It is no folder, or holds no image.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the folder that holds the images")
    images, passed_over = [], PassedOver()
    for path in sorted(files_below(folder, passed_over, leave_out=folder / LABELS_FOLDER)):
        relative = path.relative_to(folder)
        if is_own_result(path):
            passed_over.add("results of mcc_caffe.infer", shown_name(relative))
        elif is_video(path):
            passed_over.add("videos and animated images", shown_name(relative))
        else:
            images.append(ImageFile(image_key(relative), path, shown_name(relative)))
    if not images:
        reasons = f"; passed over: {passed_over}" if str(passed_over) else ""
        raise UserError(f"{folder} holds no image: give the folder that holds them{reasons}")
    return FolderImages(images, passed_over)


def image_key(relative: Path) -> str:
    """Make the key of an image out of its path below the folder.

    Two paths have two keys, also where they differ in their ending or their folder only.
    """
    slug = re.sub(r"[^A-Za-z0-9]+", "-", relative.stem)[:_SLUG_LENGTH].strip("-")
    # `picture` stands in the names of label files that users have.
    return f"{slug or 'picture'}-{hashlib.sha256(os.fsencode(relative)).hexdigest()[:12]}"


def key_of_no_image(key: str, saved: SavedLabels) -> str:
    """Make a key for labels whose image is not where their key says.

    `moved_images.follow_moved_images` finds such labels, and by their digest the image. Labels of
    one image that were saved at different times have different keys, so that none replace others.
    """
    identity = f"{key} {saved.digest} {saved.token}"
    return f"moved-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def shown_name(path: Path) -> str:
    """Return a path as text that can be shown: what cannot is written as a backslash and a code."""
    return escape_unprintable(os.fsencode(path).decode("utf-8", "backslashreplace"))


class LabelFiles:
    """Reads and writes the files of the labels.

    Attributes:
        root: The folder `mcc-labels`.
    """

    def __init__(self, folder: Path):
        """Make the folders.

        Args:
            folder: The folder of the images.

        Raises:
            UserError: It cannot be written into, or one of the folders is a link, which would
                lead elsewhere.
        """
        self.root = folder / LABELS_FOLDER
        check_folder(self.root)
        for path in (self.root, *(self.root / name for name in (STATE, ANSWERS, UPRIGHT))):
            make_own_folder(path)
        write_own_files({self.root / "README.txt": _README.encode()})

    def read(self, kind: str, key: str, record_type: type[_Record]) -> _Record | None:
        """Read a record.

        Args:
            kind: STATE or ANSWERS.
            key: The image's.
            record_type: What the file holds.

        Returns:
            The record; None where there is none.

        Raises:
            UserError: The file is damaged.
        """
        path = self._path(kind, key)
        try:
            return record_type.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): mend or move it") from None
        except ValidationError as error:
            raise UserError(
                f"{path} is damaged ({describe_first_error(error)}): mend it, or move it away to "
                "label the image anew"
            ) from None

    def write(self, kind: str, key: str, record: BaseModel) -> None:
        """Write a record, completely or not at all; see `read`."""
        with self.replaced(kind, key, record):
            pass

    @contextlib.contextmanager
    def replaced(self, kind: str, key: str, record: BaseModel) -> Iterator[None]:
        """Write a record when the block ends well; else the record before it stays.

        It is stored on the disk before the block begins. As `replaced_together` says, only a file
        system without hard links needs room at the end. The record's folder is made again where it
        was removed meanwhile.
        """
        make_own_folder(self.root / kind)
        contents = {self._path(kind, key): record.model_dump_json().encode() + b"\n"}
        with replaced_together(contents, follow_links=False):
            yield

    def labelled_keys(self) -> set[str]:
        """Return the keys of all images that have labels, there or not."""
        keys = {path.stem for path in (self.root / STATE).glob("*.json")}
        return {key for key in keys if KEY_PATTERN.fullmatch(key)}

    def give_to(self, key: str, other_key: str) -> None:
        """Make an image's labels, and what the net said of it, those of another key."""
        self._path(STATE, key).replace(self._path(STATE, other_key))
        with contextlib.suppress(FileNotFoundError):
            self._path(ANSWERS, key).replace(self._path(ANSWERS, other_key))

    def set_aside(self, key: str, saved: SavedLabels) -> None:
        """Give an image's labels a key of no image, so that others can take their place."""
        self._path(STATE, key).replace(self._path(STATE, key_of_no_image(key, saved)))

    def _path(self, kind: str, key: str) -> Path:
        assert KEY_PATTERN.fullmatch(key)  # it is one of `image_key`
        return self.root / kind / f"{key}.json"


def make_own_folder(path: Path) -> None:
    """Make a folder of those that the command writes into.

    Raises:
        UserError: There is something else, or it cannot be made.
    """
    if path.is_symlink():
        raise UserError(
            f"{path} is a link, by which labels would be written elsewhere: remove it, or make a "
            "folder of it"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{path} is no folder: move it away, labels are written there") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be made ({error.strerror}): make the folder writable"
        ) from None


def write_own_files(contents: Mapping[Path, bytes], earlier: Iterable[Path] = ()) -> None:
    """Write files as `write_together` does; a link in the place of one is replaced, not followed.

    Raises:
        UserError: One cannot be written or removed.
    """
    write_together(contents, earlier, follow_links=False)
