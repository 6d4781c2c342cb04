"""The image and video files that a user names, and how an image file is read."""

import glob
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import LABELS_FOLDER, LABELS_STATE
from mcc_caffe.core.images import ImageError, decode_image, max_megapixels, open_with_pillow
from mcc_caffe.inference.reports import is_own_result

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".avif"),
    *(".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
)
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".ogv"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"),
)
_ANIMATION_SUFFIXES = (".gif", ".webp", ".png", ".apng", ".avif")
_TRANSPORT_STREAM_START = b"\x47"  # tells a video .ts from a program in TypeScript
_BYTES_PER_PIXEL = 8  # of the largest image file: four channels of 16 bits, not compressed


class UnreadableError(UserError):
    """A file is no image or video. Where a user names several files, such a one is skipped."""


class InputFile(NamedTuple):
    """An image or video to look at.

    Attributes:
        path: The file.
        relative: Its path below the folder that the user named, without suffix; the result gets
            the same path below the folder of the results.
        is_video: Whether it is a video or an animated image.
    """

    path: Path
    relative: Path
    is_video: bool = False


class PassedOver:
    """Counts what a search through folders left out, by the reason."""

    def __init__(self) -> None:
        self._names: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, reason: str, name: str) -> None:
        """Count a file or folder; equal names are said once for each reason."""
        self._names[reason][name] += 1

    def merge(self, other: "PassedOver") -> None:
        """Add what another search left out."""
        for reason, names in other._names.items():
            self._names[reason] += names

    def __str__(self) -> str:
        """Return all of it in one line, "" where nothing was left out."""
        parts = []
        for reason, names in self._names.items():
            some = ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
            parts.append(f"{names.total()} {reason} ({some})")
        return "; ".join(parts)


class InputFiles(NamedTuple):
    """The files that a user names.

    Attributes:
        files: Every file once, however often and by whatever paths it is named, in the order of the
            patterns. A link to a file counts as a file of its own.
        passed_over: What the folders hold beside them.
    """

    files: list[InputFile]
    passed_over: PassedOver


def is_video(path: Path) -> bool:
    """Tell whether a file is a video, by its name, or an animated image, by its header."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return True
    if suffix not in _ANIMATION_SUFFIXES:
        return False
    try:
        with open_with_pillow(path) as image:
            return bool(getattr(image, "is_animated", False))
    except UserError:  # of the variable that sets the bound on pixels
        raise
    except Exception:  # damaged files make Pillow raise nearly anything; read_image says so
        return False


def find_files(patterns: Iterable[str]) -> InputFiles:
    """List the images and videos that a user names.

    Results of this program are no inputs, nor are the masks and copies of the labelling page. In
    folders, hidden files and folders, linked folders and files of other kinds are passed over.

    Args:
        patterns: Files, folders, which are searched through, and globs.

    Raises:
        UserError: A pattern is empty, or names no image or video.
    """
    input_files: dict[Path, InputFile] = {}  # by the real path of the folder, and the file's name
    passed_over = PassedOver()
    for pattern in patterns:
        passed_over_of_pattern = PassedOver()  # its error says these alone
        root, files = _find_files_of_pattern(pattern, passed_over_of_pattern)
        passed_over.merge(passed_over_of_pattern)
        folders = {file.parent for file in files}
        real_folders = {folder: Path(os.path.realpath(folder)) for folder in folders}
        for file in files:
            real_path = real_folders[file.parent] / file.name
            if real_path not in input_files:
                relative = file.relative_to(root or file.parent).with_suffix("")
                input_files[real_path] = InputFile(file, relative, is_video(file))
    return InputFiles(list(input_files.values()), passed_over)


def _find_files_of_pattern(pattern: str, passed_over: PassedOver) -> tuple[Path | None, list[Path]]:
    """Return the folder that a pattern names, if it is one, and its files that are no results.

    Raises:
        UserError: The pattern is empty, or names no image or video.
    """
    if not pattern.strip():
        raise UserError(
            f"{pattern!r} is no file name: is a variable of the command line not set? "
            "Give . for the current folder"
        )
    root, matches = _matching_files(pattern, passed_over)
    files = []
    for file in matches:
        if is_own_result(file):
            passed_over.add("results of this program", file.name)
        else:
            files.append(file)
    if files:
        return root, files
    if not os.path.lexists(pattern) and not glob.has_magic(pattern):
        raise UserError(
            f"{pattern} was not found: give an image, a video, a folder or a quoted glob"
        )
    reasons = f"; passed over: {passed_over}" if str(passed_over) else ""
    raise UserError(
        f"{pattern}: no such image or video, and no folder or glob with any "
        f"({', '.join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)}) in it{reasons}"
    )


def _matching_files(pattern: str, passed_over: PassedOver) -> tuple[Path | None, list[Path]]:
    """Return the folder that the pattern names, if it is one, and the pattern's files."""
    path = Path(pattern)
    if path.is_dir():
        return path, sorted(files_below(path, passed_over))
    if path.is_file():
        return None, [path]
    if path.exists():
        raise UserError(f"{path} is a pipe or a device, not a file: give an image or video file")
    files = []
    for match in sorted(set(_glob(pattern, passed_over))):
        if not match.is_file():
            passed_over.add("folders, pipes or devices that a pattern matches", match.name)
        elif LABELS_FOLDER not in path.parts and any(map(_holds_labels, match.parents)):
            passed_over.add("files of the labelling page", match.name)
        else:
            files.append(match)
    return None, files


def _glob(pattern: str, passed_over: PassedOver) -> Iterator[Path]:
    """Yield what matches a pattern, some of it more than once.

    Unlike that of `glob.glob`, `**` does not go through linked folders, which may lead in a circle.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from map(Path, glob.glob(pattern))
        return
    index = parts.index("**")
    rest = Path(*(parts[index + 1 :] or ["*"]))
    for root in glob.glob(str(Path(*parts[:index]))):
        for folder, folder_names, _ in os.walk(root):
            for name in folder_names:
                if Path(folder, name).is_symlink():
                    passed_over.add("linked folders", name)
            folder_names[:] = [name for name in folder_names if not name.startswith(".")]
            yield from _glob(str(Path(glob.escape(folder), rest)), passed_over)


def files_below(
    root: Path, passed_over: PassedOver, *, leave_out: Path | None = None
) -> Iterator[Path]:
    """Yield the images and videos below a folder, results of this program among them.

    Args:
        root: The folder.
        passed_over: Gets what is left out.
        leave_out: A folder below `root` that is not looked into, and not counted.
    """

    def note_error(error: OSError) -> None:
        passed_over.add(f"folders that cannot be read ({error.strerror})", str(error.filename))

    for name, folder_names, file_names in os.walk(root, onerror=note_error):
        folder = Path(name)
        entered = []
        for child in (folder / folder_name for folder_name in folder_names):
            if child == leave_out:
                continue
            reason = _folder_reason(child)
            if reason:
                passed_over.add(reason, child.name)
            else:
                entered.append(child.name)
        folder_names[:] = entered  # os.walk goes into these only
        for file in (folder / file_name for file_name in file_names):
            left_out = _left_out_file(file)
            if left_out:
                passed_over.add(*left_out)
            else:
                yield file


def _folder_reason(folder: Path) -> str | None:
    """Return why a folder is not looked into, as PassedOver counts it; None where it is."""
    if folder.name.startswith("."):
        return "hidden folders"
    if _holds_labels(folder):
        return "folders of the labelling page"
    return "linked folders" if folder.is_symlink() else None


def _left_out_file(file: Path) -> tuple[str, str] | None:
    """Return why a file is left out and the name that PassedOver counts; None where it is not."""
    if file.name.startswith("."):
        return "hidden files", file.name
    if not file.is_file():
        return "broken links, pipes or devices", file.name
    suffix = file.suffix.lower()
    if suffix not in IMAGE_SUFFIXES + VIDEO_SUFFIXES or (
        suffix == ".ts" and not _is_transport_stream(file)
    ):
        return "files of other kinds", file.suffix or file.name
    return None


def _holds_labels(folder: Path) -> bool:
    """Tell whether a folder is the labelling page's, with masks and copies of the images."""
    return folder.name == LABELS_FOLDER and (folder / LABELS_STATE).is_dir()


def _is_transport_stream(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(1) == _TRANSPORT_STREAM_START
    except OSError:  # reading the video says so
        return True


def read_image(path: Path) -> np.ndarray:
    """Read an image file as `mcc_caffe.core.images.decode_image` does, upright.

    Returns:
        HxWx3 uint8 BGR.

    Raises:
        UnreadableError: The file cannot be read.
    """
    return decode_content(path, read_content(path))


def read_content(path: Path) -> bytes:
    """Read the bytes of an image file.

    Raises:
        UnreadableError: The file cannot be read, or is larger than any image that is decoded.
    """
    bound = max_megapixels()
    try:
        size = path.stat().st_size
        if size > (bound + 1) * 1e6 * _BYTES_PER_PIXEL:
            raise UnreadableError(
                f"{path}: {size} bytes are more than an image of {bound:g} megapixels has"
            )
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None


def decode_content(path: Path, content: bytes) -> np.ndarray:
    """Decode what `read_content` has read, as `read_image` does.

    A caller that also needs the bytes, for instance for their digest, so gets both from one
    reading, even if the file is replaced meanwhile.

    Args:
        path: The file, for the error.
        content: Its bytes.

    Returns:
        HxWx3 uint8 BGR.

    Raises:
        UnreadableError: They are no image.
    """
    try:
        return decode_image(content)
    except ImageError as error:
        raise UnreadableError(f"{path}: {error}") from None
