"""What COCO's files have in common: ids and names of their records, the category of a hand."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcc_caffe.core.hand import NAMES, SKELETON

_PROBED_IMAGES = 20  # of a file, that tell where its file names start from


def id_text(value: Any) -> str | None:
    """Return an id as text, so that 7 and "7" are the same; None where it is neither."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, (int, str)) else None


def annotation_name(annotation_id: Any, position: int) -> str:
    """Return how messages call an annotation: by its id or, without any, by its position.

    Args:
        annotation_id: Its id, None where it has none.
        position: Its position in the file's `annotations`, from 0.
    """
    if annotation_id is None:
        return f"annotations[{position}]"
    return f"annotation {str(annotation_id)[:80]}"


def find_image_folder(path: Path, names: Sequence[str]) -> Path | None:
    """Find the folder that a COCO file's file names start from.

    Args:
        path: The COCO file.
        names: The file names of its images.

    Returns:
        The first folder in which one of the first images lies: the file's own, `images` in it,
        its parent, `images` in that; None where none of them has any.
    """
    here = path.absolute().parent
    folders = (here, here / "images", here.parent, here.parent / "images")
    return next((folder for folder in folders if holds_images(folder, names)), None)


def holds_images(folder: Path, names: Sequence[str]) -> bool:
    """Tell whether one of the first images of a COCO file lies in a folder."""
    return any(os.path.isfile(folder / name) for name in names[:_PROBED_IMAGES])


def hand_category(category_id: Any = 1, name: str = "hand") -> dict[str, Any]:
    """Return the record of a category of hands, with our 21 keypoints, for `categories`.

    Args:
        category_id: Its id in the file.
        name: Its name in the file.
    """
    return {
        "id": category_id,
        "name": name,
        "keypoints": list(NAMES),
        "skeleton": [[start + 1, end + 1] for start, end, _ in SKELETON],  # COCO counts from 1
    }
