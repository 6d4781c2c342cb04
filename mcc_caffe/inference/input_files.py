"""The image and video files that a user names, how an image file is read, and result paths."""

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")


class UnreadableError(UserError):
    """A file is no image or video. Where a user names several files, such a one is skipped."""


class InputFile(NamedTuple):
    """An image or video to look at.

    Attributes:
        path: the file.
        relative: its path below the folder that the user named, without suffix; the result gets
            the same path below the folder of the results.
    """

    path: Path
    relative: Path


def is_video(path: Path) -> bool:
    """Tell from the file's name whether it is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_files(patterns: Iterable[str]) -> list[InputFile]:
    """List the images and videos that a user names.

    Args:
        patterns: files, folders, which are searched through, and globs.

    Returns:
        Every file once, in the order of the patterns.

    Raises:
        UserError: a pattern names no file.
    """
    relative_paths: dict[Path, Path] = {}
    for pattern in patterns:
        root, files = _matching_files(pattern)
        if not files:
            raise UserError(
                f"{pattern}: no such image or video, and no folder or glob with any "
                f"({', '.join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)}) in it"
            )
        for file in files:
            relative = file.relative_to(root or file.parent).with_suffix("")
            relative_paths.setdefault(file, relative)
    return [InputFile(path, relative) for path, relative in relative_paths.items()]


def _matching_files(pattern: str) -> tuple[Path | None, list[Path]]:
    """Return the folder that the pattern names, if it is one, and the pattern's files."""
    path = Path(pattern)
    if path.is_dir():
        return path, sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES and file.is_file()
        )
    if path.is_file():
        return None, [path]
    matches = sorted(map(Path, glob.glob(pattern, recursive=True)))
    return None, [file for file in matches if file.is_file()]


def result_paths(files: Iterable[InputFile], out: Path) -> list[Path]:
    """Choose a path for each file's results, without suffix, such that no two files share one.

    A file whose path is taken gets its suffix added to the name, and then a number.

    Args:
        files: the files.
        out: the folder of the results.

    Raises:
        UserError: a result would overwrite its own file.
    """
    taken: set[str] = set()
    paths = []
    for file in files:
        relative = _free_path(file, taken)
        taken.add(str(relative).lower())
        result = with_suffix(out / relative, ".mp4" if is_video(file.path) else ".png")
        if file.path.resolve() == result.resolve():
            raise UserError(
                f"{file.path} would be overwritten by its own result: "
                "give another folder with --out"
            )
        paths.append(out / relative)
    return paths


def _free_path(file: InputFile, taken: set[str]) -> Path:
    """Return the file's relative path or, where it is taken, the first free variation of it."""
    candidate, number = file.relative, 1
    while str(candidate).lower() in taken:
        ending = file.path.suffix[1:] + (f"_{number}" if number > 1 else "")
        candidate = file.relative.with_name(f"{file.relative.name}_{ending}")
        number += 1
    return candidate


def with_suffix(path: Path, suffix: str) -> Path:
    """Append a suffix to a result's path. Unlike Path.with_suffix it keeps dots in the name."""
    return path.with_name(path.name + suffix)


def read_image(path: Path) -> np.ndarray:
    """Read a colour, grey, alpha or 16-bit image file and turn it upright by its EXIF entry.

    Returns:
        HxWx3 uint8 BGR.

    Raises:
        UnreadableError: the file cannot be decoded.
    """
    content = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableError(
            f"{path}: not a readable image ({content.size} bytes): damaged, of an unknown format, "
            "or of more than 2^30 pixels"
        )
    return image
