"""Finds the image of a sample among results, by the sample's key and the results' paths.

The key is the name of the split and the image's name below the split's folder, with "_" for "/".
Before it stands the number of the record in an LMDB set, and after it, of a COCO file, the
annotation's id: `00000042_Test_17.jpg` is the image Test/source/17.jpg, and `street_a_17.jpg_9` is
a/17.jpg of street.json.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mcc_caffe.inference.formats.base import ReadImage
from mcc_caffe.inference.input_files import IMAGE_SUFFIXES

_RECORD_NUMBER = re.compile(r"^\d{8}_")
_STEPS = re.compile(r"_\.\.?(?=_)")  # "." and ".." of a path, which are no names
_IMAGE_AND_ID = re.compile(
    rf"(.*(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))}))(_.*)?", re.IGNORECASE | re.DOTALL
)


class ImageKey(NamedTuple):
    """What the key of a sample says of its image.

    Attributes:
        text: The split and the image's name, with "_" between the names of the path.
        has_id: Whether an annotation's id follows them in the key.
    """

    text: str
    has_id: bool


def parse_key(key: str, splits: Sequence[str] = ()) -> ImageKey:
    """Take a sample's key apart.

    Args:
        key: The key.
        splits: Names with which keys may begin. One may look like the number of a record.
    """
    has_split = any(key.startswith(f"{split}_") for split in splits)
    text = key if has_split else _RECORD_NUMBER.sub("", key)
    match = _IMAGE_AND_ID.fullmatch(text)
    return ImageKey(_STEPS.sub("", match[1] if match else text), bool(match and match[2]))


class Candidate(NamedTuple):
    """An image of the results that may be the sample's or the scene's.

    Attributes:
        likeness: High where much of what names that image is in this one's path.
        image: The image of the results.
        folders: The folders of its path that a sample's key does not name.
    """

    likeness: tuple[int, ...]
    image: ReadImage
    folders: tuple[str, ...] = ()


# Images by the names of their files and whether these have the images' suffixes.
ImagesByName = Mapping[tuple[str, bool], Sequence[ReadImage]]


def index_by_name(images: Iterable[ReadImage]) -> ImagesByName:
    """Index images by the names of their files."""
    by_name: dict[tuple[str, bool], list[ReadImage]] = {}
    for image in images:
        by_name.setdefault((Path(image.name).name, image.has_suffix), []).append(image)
    return by_name


def find_named(file_name: str, images_by_name: ImagesByName) -> list[ReadImage]:
    """Return the images of a file name, first those that have its suffix."""
    names = (file_name, True), (Path(file_name).stem, False)
    return [image for name in names for image in images_by_name.get(name, ())]


def choose_best(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those that are most like the image; a blank one only where no other is there."""
    likeness = max((candidate.likeness for candidate in candidates), default=None)
    best = [candidate for candidate in candidates if candidate.likeness == likeness]
    return [candidate for candidate in best if not candidate.image.is_blank] or best


def find_images(
    key: str,
    images_by_name: ImagesByName,
    splits: Sequence[str] = (),
) -> list[ReadImage]:
    """Return the images of the results that may be the sample's; several where that is unclear.

    Args:
        key: The sample's key.
        images_by_name: The images, as `index_by_name` returns them.
        splits: Names with which keys may begin; others may stand there where the key has none of
            them, as in LMDB sets.
    """
    text, has_id = parse_key(key, splits)
    own_splits = [split for split in splits if text.startswith(f"{split}_")]
    words = text.split("_")
    candidates = []
    for start in range(len(words)):
        for image in find_named("_".join(words[start:]), images_by_name):
            above, folders = _match_folders("_".join(words[:start]), Path(image.name).parts[:-1])
            # A split's folder has the images in itself or in one below it, such as source/.
            if above in folders[-2:]:
                above = ""
            if above and not _may_be_unnamed(above, folders, own_splits, has_id=has_id):
                continue
            candidates.append(Candidate((-len(above), -start), image, folders))
    best = choose_best(candidates)
    nearest = min((candidate.folders for candidate in best), key=len, default=())
    if all(candidate.folders[: len(nearest)] == nearest for candidate in best):
        best = [candidate for candidate in best if candidate.folders == nearest]
    return [candidate.image for candidate in best]


def select_images_of_set(set_path: Path, images: Iterable[ReadImage]) -> list[ReadImage]:
    """Return the images whose paths, as they are written, lead to files of a data set.

    Args:
        set_path: The set's folder, or its file: its images lie below the file's folder, or below
            the folder that this is in, as where a COCO file lies in `annotations`.
        images: The images.
    """
    folder = Path(os.path.realpath(set_path))
    for root in [folder] if folder.is_dir() else folder.parents[:2]:
        selected = [
            image
            for image in images
            if os.path.isfile(image.name) and root in Path(os.path.realpath(image.name)).parents
        ]
        if selected:
            return selected
    return []


def _may_be_unnamed(
    text: str, folders: Sequence[str], splits: Sequence[str], *, has_id: bool
) -> bool:
    """Tell whether an image's path may lack what a key names before it.

    Args:
        text: What the key names, split and folders.
        folders: The folders of the path that the key does not name.
        splits: The splits with which the key may begin; none where they are unknown.
        has_id: Whether the key is that of a COCO file, which has no folder of the split's name,
            and whose images often lie in folders that other systems do not name.
    """
    may_be_split = not splits or text in splits
    if folders:
        return has_id and may_be_split
    return has_id or may_be_split


def _match_folders(text: str, folders: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Take the names of folders, the last one first, from the end of a text, as far as they agree.

    Returns:
        What is left of the text and of the folders.
    """
    while folders and (text == folders[-1] or text.endswith(f"_{folders[-1]}")):
        text = text[: -len(folders[-1])].removesuffix("_")
        folders = folders[:-1]
    return text, folders
