"""Checks, before a command writes, that it may, and that no file of the user is replaced."""

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from mcc_caffe.core.errors import UserError, cannot_write


def check_own_results(folder: Path, names: Iterable[str], *, own: str, mark: str) -> None:
    """Check that a command's results in a folder replace no file of the user's.

    Args:
        folder: The folder of the results.
        names: Names of the files that are going to be written.
        own: The one of them by which the command knows results of its own.
        mark: Text that this file then holds.

    Raises:
        UserError: A file is there already and the folder holds no results of this command.
    """
    path = folder / own
    if path.is_file() and mark.encode() in path.read_bytes():
        return
    _refuse_existing([folder / name for name in names], "give another folder with --out")


def check_report(report: Path, figures: Iterable[str], first_line: str) -> None:
    """Check, before there is anything to write, that a report replaces no file of the user's.

    Args:
        report: The Markdown file.
        figures: Names of the figures that are going to be written beside it.
        first_line: The one by which the command knows a report of its own.

    Raises:
        UserError: A file is there already and the report is none of this command, or one cannot be
            written, or the report's name is no Markdown file's.
    """
    if report.suffix.lower() != ".md":
        raise UserError(f"{report} is to be a Markdown file: give a name in .md with --report")
    paths = [report, *(report.with_name(name) for name in figures)]
    for path in paths:
        check_target(path)
    if report.is_file() and report.read_bytes().startswith(f"{first_line}\n".encode()):
        return
    _refuse_existing(paths, "give another name with --report")


def _refuse_existing(paths: Iterable[Path], remedy: str) -> None:
    """Raise a UserError where there is something at one of the paths already."""
    for path in paths:
        if os.path.lexists(path):
            raise UserError(
                f"{path} would be overwritten and is no result of this command: {remedy}"
            )


def check_folder(path: Path) -> None:
    """Check, before there is anything to write, that a folder can be made or written into.

    Raises:
        UserError: It or a folder above it is a file, or must not be written to.
    """
    path = path.absolute()
    nearest = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if not nearest.is_dir():
        raise UserError(f"{nearest} is no folder: move it away, or give another folder than {path}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{nearest} must not be written to: give another folder than {path}")


def check_not_inside(folder: Path) -> None:
    """Check that this process does not run in a folder that is going to be replaced.

    Raises:
        UserError: It does: the user's shell would then stand in a folder that is gone.
    """
    here, target = Path.cwd(), Path(os.path.realpath(folder))
    if target in (here, *here.parents):
        raise UserError(
            f"{folder} would be replaced, and this command runs in it: give another folder, or "
            "start it elsewhere"
        )


def check_target(path: Path, inputs: Iterable[Path] = ()) -> Path:
    """Find out which file is to be written where the user names `path`.

    Args:
        path: The file to write.
        inputs: Files that the command reads, which it must not replace.

    Returns:
        The file itself; where `path` is a link, the file that it points to.

    Raises:
        UserError: There is something at `path` that is no regular file, such as a folder or a
            device, it is one of the inputs, or its folder cannot be written to.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        check_folder(target.parent)
        return target
    except OSError as error:
        raise cannot_write(path, error) from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is {_kind(mode)}, not a file: give the path of a file")
    if any(source.exists() and source.samefile(target) for source in inputs):
        raise UserError(f"{path} is an input of this command: give another file to write")
    return target


def check_distinct(targets: Iterable[Path]) -> None:
    """Check that no file of a command replaces another one that the command writes.

    Args:
        targets: The files that it writes, as `check_target` returns them.

    Raises:
        UserError: Two of them are the same file.
    """
    earlier: set[Path] = set()
    for target in targets:
        if target in earlier:
            raise UserError(
                f"{target} would be written twice by this command, and only the last would stay: "
                "give each file another name"
            )
        earlier.add(target)


def check_output(
    path: Path, is_own: Callable[[Path], bool], complaint: str, inputs: Iterable[Path] = ()
) -> Path:
    """Check that the file that the user names as output replaces none of another kind.

    Args:
        path: The file to write.
        is_own: Tells by its content whether a file is one that the command may replace.
        complaint: What the error says of another file, such as "holds no packed weights".
        inputs: Files that the command reads, which it must not replace.

    Returns:
        The file itself; where `path` is a link, the file that it points to.

    Raises:
        UserError: There is a file of another kind, or `check_target` refuses the path.
    """
    target = check_target(path, inputs)
    try:
        may_replace = not target.exists() or is_own(target)
    except OSError:  # a file that cannot be read is none that the command can know
        may_replace = False
    if not may_replace:
        raise UserError(
            f"{path} would be overwritten and {complaint}: "
            "give another file to write, or move this one away"
        )
    return target


def _kind(mode: int) -> str:
    """Return what a mode of `stat` stands for, in words."""
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "of an unknown kind")
