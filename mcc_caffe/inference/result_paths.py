"""Where the results of a user's files go, and that nothing of the user is lost there."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.input_files import InputFile
from mcc_caffe.inference.reports import is_own_result

# Bytes of a result's name. File systems allow 255, of which OpenPose's frames of a video need 28.
_LONGEST_NAME = 227
_LONGEST_ADDED_SUFFIX = 100  # bytes of an input's suffix in a result's name


def choose_result_paths(files: Iterable[InputFile], out: Path) -> list[Path]:
    """Choose a path for each file's results, without suffix, such that no two files share one.

    A file whose path is taken gets its suffix added to the name, and then a number. Names
    and suffixes that are too long are shortened.

    Args:
        files: The files.
        out: The folder of the results.
    """
    taken: set[str] = set()
    # {(path, suffix): number}: the variations of the path with numbers before it are taken.
    next_numbers: dict[tuple[Path, str], int] = {}
    paths = []
    for file in files:
        suffix = _shorten(file.path.suffix[1:], _LONGEST_ADDED_SUFFIX)
        key = _with_name(file.relative, ""), suffix
        number = next_numbers.get(key, 0)
        while str(relative := _vary_path(file.relative, suffix, number)).lower() in taken:
            number += 1
        next_numbers[key] = number + 1
        taken.add(str(relative).lower())
        paths.append(out / relative)
    return paths


def _vary_path(relative: Path, suffix: str, number: int) -> Path:
    """Vary a path: 0 changes nothing, 1 adds the suffix, and n > 1 adds the suffix and n."""
    if number == 0:
        return _with_name(relative, "")
    return _with_name(relative, f"_{suffix}" + (f"_{number}" if number > 1 else ""))


def _with_name(relative: Path, ending: str) -> Path:
    """Add an ending to a path's name; shorten the name before it where it is too long."""
    name = _shorten(relative.name, _LONGEST_NAME - len(os.fsencode(ending)))
    return relative.with_name(name + ending)


def _shorten(name: str, most_bytes: int) -> str:
    """Return the start of a name that has at most so many bytes in a file's name."""
    while len(os.fsencode(name)) > most_bytes:
        name = name[:-1]
    return name


def check_result_paths(inputs: Iterable[Path], results: Sequence[Path], overwrite: bool) -> None:
    """Check that no file of the user would be lost, and no result of this run.

    Args:
        inputs: All files that the run reads.
        results: All files and folders that are going to be written; a folder is replaced whole.
        overwrite: Whether files that this program did not write may be replaced; inputs never are.

    Raises:
        UserError: A result would replace an input, or a file that this program did not write, or
            lie in a folder that is another result.
    """
    _check_apart(results)
    _check_replaced(inputs, results, overwrite)


def _check_apart(results: Sequence[Path]) -> None:
    """Check that no result lies in a folder that is another result, which is replaced whole."""
    taken = {str(result).lower() for result in results}
    for result in results:
        for folder in result.parents:
            if str(folder).lower() in taken:
                raise UserError(
                    f"{result} would lie in {folder}, which is another result of this run: "
                    "give the two inputs in separate runs, each with its own --out"
                )


def _check_replaced(inputs: Iterable[Path], results: Iterable[Path], overwrite: bool) -> None:
    """Check that no result replaces an input, or a file that this program did not write."""
    input_of_inode = {(status.st_dev, status.st_ino): path for path, status in _statuses(inputs)}
    foreign = []
    for result, status in _statuses(results):
        source = input_of_inode.get((status.st_dev, status.st_ino))
        if source:
            raise UserError(
                f"{source} would be overwritten by a result of this run: "
                "give another folder with --out"
            )
        if is_own_result(result):
            continue
        if result.is_dir():
            raise UserError(
                f"{result} is a folder, and not one of this program's results: "
                "give another folder with --out"
            )
        if not overwrite:
            foreign.append(result)
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise UserError(
            f"{foreign[0]}{more} would be overwritten and is not marked as a result of this "
            "program: give another folder with --out, or --overwrite to replace it"
        )


def _statuses(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield each path where a file still is, with what `stat` says of it."""
    for path in paths:
        try:
            yield path, path.stat()
        except OSError:
            continue


def with_suffix(path: Path, suffix: str) -> Path:
    """Append a suffix to a result's path. Unlike Path.with_suffix it keeps dots in the name."""
    return path.with_name(path.name + suffix)
