"""Files that a command is to look at, images read, and paths for their results."""

import glob
import pathlib

import cv2
import numpy as np

from mcc_caffe.core.errors import UserError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")


class UnreadableError(UserError):
    """A file that is no image or video; of several, it is passed over."""


def is_video(path: pathlib.Path) -> bool:
    """By its name."""
    return path.suffix.lower() in VIDEOS


def find_files(patterns: list) -> list:
    """[(image or video, path for its results, without suffix)] of files, folders and globs; UserError for one that names nothing."""
    found = {}
    for pattern in patterns:
        path = pathlib.Path(pattern)
        if path.is_dir():
            files = sorted(
                one
                for one in path.rglob("*")
                if one.suffix.lower() in IMAGES + VIDEOS and one.is_file()
            )
            root = path
        elif path.is_file():
            files, root = [path], path.parent
        else:
            files = sorted(map(pathlib.Path, glob.glob(pattern, recursive=True)))
            files, root = [one for one in files if one.is_file()], None
        if not files:
            raise UserError(
                f"{pattern}: no such image or video, and no folder or glob with any ({', '.join(IMAGES + VIDEOS)}) in it"
            )
        for file in files:
            found.setdefault(file, file.relative_to(root or file.parent).with_suffix(""))
    return list(found.items())


def result_paths(files: list, out: pathlib.Path) -> list:
    """Paths below `out`, one a file; files of the same name get their suffix, then a number, so that none is lost."""
    taken, paths = set(), []
    for file, relative in files:
        candidate, number = relative, 1
        while str(candidate).lower() in taken:
            candidate = relative.with_name(
                f"{relative.name}_{file.suffix[1:]}" + (f"_{number}" if number > 1 else "")
            )
            number += 1
        taken.add(str(candidate).lower())
        paths.append(out / candidate)
        if (
            file.resolve()
            == with_suffix(out / candidate, ".mp4" if is_video(file) else ".png").resolve()
        ):
            raise UserError(
                f"{file} would be overwritten by its own result: give another folder with --out"
            )
    return paths


def with_suffix(path: pathlib.Path, suffix: str) -> pathlib.Path:
    """A result's path with a suffix, whatever dots are in its name."""
    return path.with_name(path.name + suffix)


def read_image(path: pathlib.Path) -> np.ndarray:
    """HxWx3 uint8 BGR of a colour, grey, alpha or 16-bit image file, upright; UnreadableError where it cannot be decoded."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableError(
            f"{path}: not a readable image ({data.size} bytes): damaged, of an unknown format, or of more than 2^30 pixels"
        )
    return image
