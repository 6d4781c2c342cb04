"""Writes the images that are done as data sets: in OneHand10K's layout, and in COCO's.

Both hold the same images and labels, and `data_tools.build_lmdb` reads either. An image is a link
to the user's own. Of one that its EXIF orientation turns, it is a link to an upright copy, so that
the labels are right whether a reader minds the orientation or not. The digests of the images' files
stand beside the labels: an image that was renamed, or changed, is no longer that of its labels.
"""

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from data_tools.readers.onehand10k import LABELS, SPLITS, SUMS, format_label, format_sum
from data_tools.readers.shared import encode_mask
from mcc_caffe.core.coco import hand_category
from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.errors import NO_ROOM, UserError
from mcc_caffe.core.files import file_sha256
from mcc_caffe.inference.input_files import UnreadableError
from mcc_caffe.serving.label_documents import SavedLabels, Split
from mcc_caffe.serving.label_files import (
    COCO,
    KEY_PATTERN,
    ONEHAND10K,
    UPRIGHT,
    ImageFile,
    LabelFiles,
    NotReadyError,
    make_own_folder,
    write_own_files,
)
from mcc_caffe.serving.run_lengths import decode_runs, encode_runs

COCO_FILES: dict[Split, str] = {"Train": "hands_train.json", "Test": "hands_test.json"}
TEST_SHARE = 10  # one image in so many is kept for tests

_COPY_DIGITS = 12  # of an image's digest, in the name of its upright copy
_LINK_REMEDIES = {
    errno.EISDIR: "move it away",
    errno.ENOENT: "start the command again, which makes the data sets anew",
    **dict.fromkeys(NO_ROOM, "make room"),
}
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)  # on this file system


class _Exported(NamedTuple):
    """What the label files say of one image.

    Attributes:
        split: The split that it is in.
        file_name: Its name in both sets.
        label_line, sum_line: Complete lines.
        coco_image, coco_annotation: JSON objects.
    """

    split: Split
    file_name: str
    label_line: str
    sum_line: str
    coco_image: str
    coco_annotation: str


def choose_split(test_count: int, done_count: int) -> Split:
    """Choose the split of an image that has become done.

    Args:
        test_count: The number of other images that are done and in Test.
        done_count: The number of all other images that are done.

    Returns:
        Test for the second image and then for one in ten, so that both sets are there from the
        second image on.
    """
    return "Test" if test_count * TEST_SHARE < done_count else "Train"


class LabelExport:
    """Keeps the two data sets equal to the labels that are done."""

    def __init__(self, files: LabelFiles):
        """Make the folders.

        Args:
            files: Say where they lie.

        Raises:
            UserError: A folder cannot be made.
        """
        self._layout, self._coco = files.root / ONEHAND10K, files.root / COCO
        self._upright = files.root / UPRIGHT
        self._by_key: dict[str, _Exported] = {}
        folders = [self._layout, self._coco, self._coco / "images"]
        for split in SPLITS:
            folders += [self._layout / split, *self._sample_folders(split)]
        for folder in folders:
            make_own_folder(folder)

    def _sample_folders(self, split: str) -> list[Path]:
        return [self._layout / split / "source", self._layout / split / "mask"]

    def write_all(self, done: Sequence[tuple[ImageFile, SavedLabels]]) -> Mapping[str, str]:
        """Write both sets anew, and remove what earlier runs have left of others.

        Args:
            done: The images that are done, with their labels.

        Returns:
            {key: why the image could not be read}.

        Raises:
            UserError: A file cannot be written or removed. The label files are then what they were,
                and nothing is removed.
        """
        faults, written = {}, {}
        for image, saved in progress_bar(done, desc="data sets", unit="img", delay=2):
            try:
                exported, contents = self._make_sample(image, saved)
                write_own_files(contents)
                written[image.key] = exported
            except (UnreadableError, NotReadyError) as error:
                faults[image.key] = str(error)
        names = {exported.file_name for exported in written.values()}
        copies = {self._copy_path(image, saved).name for image, saved in done if saved.is_turned}
        others = [
            *_list_others(self._coco / "images", names),
            *_list_others(self._upright, copies),
        ]
        for split in SPLITS:
            own = {key: exported for key, exported in written.items() if exported.split == split}
            source_folder, mask_folder = self._sample_folders(split)
            others += _list_others(source_folder, {exported.file_name for exported in own.values()})
            others += _list_others(mask_folder, {f"{key}.png" for key in own})
        self._write_label_files(written, outdated=others)
        self._by_key = written
        return faults

    def put(self, image: ImageFile, saved: SavedLabels) -> None:
        """Write the labels of an image that is done into both sets.

        Raises:
            UserError: The image cannot be read, or a file not be written. The labels and the masks
                in both sets are then what they were.
        """
        exported, contents = self._make_sample(image, saved)
        by_key = {**self._by_key, image.key: exported}
        self._write_label_files(by_key, contents)
        self._by_key = by_key

    def remove(self, image: ImageFile) -> None:
        """Take an image out of both sets, if it is in them.

        Raises:
            UserError: A file cannot be written or removed. All are then what they were.
        """
        exported = self._by_key.get(image.key)
        if exported is None:
            return
        others = {key: labels for key, labels in self._by_key.items() if key != image.key}
        folders = [*self._sample_folders(exported.split), self._coco / "images", self._upright]
        own = [path for folder in folders for path in folder.glob(f"{image.key}.*")]
        self._write_label_files(others, outdated=own)
        self._by_key = others

    def split_counts(self) -> dict[Split, int]:
        """Count the images of each split."""
        splits = [exported.split for exported in self._by_key.values()]
        return {"Train": splits.count("Train"), "Test": splits.count("Test")}

    def _make_sample(
        self, image: ImageFile, saved: SavedLabels
    ) -> tuple[_Exported, dict[Path, bytes]]:
        """Link an image into both sets, and make what their files say of it.

        Returns:
            What the label files say of the image, and {file of its mask: its content}.
        """
        assert saved.split is not None
        source, sha256 = image.path, saved.digest
        if saved.is_turned:
            source = self._upright_copy(image, saved)
            sha256 = file_sha256(source)
        file_name = f"{image.key}{source.suffix.lower()}"
        source_folder, mask_folder = self._sample_folders(saved.split)
        mask = decode_runs(saved.labels.runs, saved.width, saved.height)
        keypoints = saved.labels.keypoints()
        for folder in (source_folder, self._coco / "images"):
            link_file(source, folder / file_name)
        identifier = int(image.key[-12:], 16)  # below 2 ** 53, which JavaScript can hold
        coco_image = {
            "id": identifier,
            "file_name": file_name,
            "width": saved.width,
            "height": saved.height,
            "sha256": sha256,
            "picture": image.name,
        }
        if saved.group is not None:
            coco_image["group"] = saved.group
        exported = _Exported(
            saved.split,
            file_name,
            format_label(file_name, saved.width, saved.height, keypoints),
            format_sum(file_name, sha256),
            json.dumps(coco_image),
            json.dumps(_annotation(identifier, keypoints, mask)),
        )
        return exported, {mask_folder / f"{image.key}.png": encode_mask(mask)}

    def _copy_path(self, image: ImageFile, saved: SavedLabels) -> Path:
        """Return the path of an image's upright copy, which names the content of its file."""
        return self._upright / f"{image.key}.{saved.digest[:_COPY_DIGITS]}.png"

    def _upright_copy(self, image: ImageFile, saved: SavedLabels) -> Path:
        """Return the upright copy of an image, which is made if it is not there.

        Raises:
            UserError: The image cannot be read, or is not the one that was labelled.
        """
        copy = self._copy_path(image, saved)
        if not copy.is_file():
            pixels = image.read_version(saved.digest)
            write_own_files({copy: cv2.imencode(".png", pixels)[1].tobytes()})
        return copy

    def _write_label_files(
        self,
        by_key: dict[str, _Exported],
        others: Mapping[Path, bytes] | None = None,
        outdated: Iterable[Path] = (),
    ) -> None:
        """Write the label files of each split; of a split without images there are none.

        Args:
            by_key: What the files are to say.
            others: {other file: its content}, written with them, all or none.
            outdated: Files to remove with them.
        """
        contents, removed = dict(others or {}), list(outdated)
        for split, coco_name in COCO_FILES.items():
            exported = [by_key[key] for key in sorted(by_key) if by_key[key].split == split]
            split_contents = {
                self._layout / split / LABELS: _lines(labels.label_line for labels in exported),
                self._layout / split / SUMS: _lines(labels.sum_line for labels in exported),
                self._coco / coco_name: _coco_file(exported),
            }
            if exported:
                contents |= split_contents
            else:
                removed += split_contents
        write_own_files(contents, removed)


def _list_others(folder: Path, names: Set[str]) -> list[Path]:
    """List the files of images in a folder, except those with these names."""
    return [
        path
        for path in folder.iterdir()
        if path.name not in names and KEY_PATTERN.fullmatch(path.name.partition(".")[0])
    ]


def link_file(source: Path, link: Path) -> None:
    """Make a link to a file, which stays right when the folder above both is moved.

    What has the link's name is replaced; a link that is right already stays. Where the file system
    has no links, the file is copied.
    """
    target = os.path.relpath(source, link.parent)
    if link.is_symlink() and os.readlink(link) == target:
        return
    partial = link.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        partial.symlink_to(target)
        partial.replace(link)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            remedy = _LINK_REMEDIES.get(error.errno or 0, "make the folder writable")
            raise UserError(f"{link} cannot be made ({error.strerror}): {remedy}") from None
        write_own_files({link: source.read_bytes()})
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _annotation(identifier: int, keypoints: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """Return COCO's annotation of a hand: what can be seen is 2, what is missing 0."""
    height, width = mask.shape
    labelled = keypoints[:, 2] > 0
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    x = np.concatenate([keypoints[labelled, 0], columns])
    y = np.concatenate([keypoints[labelled, 1], rows])
    box = [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
    points = np.where(labelled[:, None], keypoints * (1, 1, 2), 0)
    return {
        "id": identifier,
        "image_id": identifier,
        "category_id": 1,
        "keypoints": [round(value, 2) for value in points.ravel().tolist()],
        "num_keypoints": int(labelled.sum()),
        "bbox": [round(float(value), 2) for value in box],
        "segmentation": {"size": [height, width], "counts": encode_runs(mask.T)},
        "area": int(np.count_nonzero(mask)),
        "iscrowd": 0,
    }


def _lines(texts: Iterable[str]) -> bytes:
    """Return the content of a file of these lines."""
    return "".join(f"{text}\n" for text in texts).encode()


def _coco_file(exported: list[_Exported]) -> bytes:
    """Return the content of a split's COCO file, an image or an annotation a line."""
    images = ",\n".join(labels.coco_image for labels in exported)
    annotations = ",\n".join(labels.coco_annotation for labels in exported)
    return (
        '{"info": {"description": "hands labelled with mcc-web label"},\n'
        f'"categories": [{json.dumps(hand_category())}],\n'
        f'"images": [\n{images}\n],\n"annotations": [\n{annotations}\n]}}\n'
    ).encode()
