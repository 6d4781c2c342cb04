"""Writes folders of results: one process at a time, and complete or not at all."""

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mcc_caffe.core.errors import NO_ROOM, UserError, cannot_write, escape_unprintable
from mcc_caffe.core.files import PARTIAL_END, write_atomically
from mcc_caffe.core.output_checks import check_not_inside

_MARK = ".made-by-mcc-caffe"  # a file in folders that a command may empty
_OLD = ".old"  # in the name of a folder that is being replaced
_LONGEST_NAME = 120  # bytes of the target's name in the names of its lock and temporary folder


def empty_own_folder(folder: Path) -> None:
    """Make a folder, or empty the one that this function made earlier.

    Raises:
        UserError: The folder holds other files, or this process runs in it.
        OSError: It cannot be made, or something in it cannot be removed.
    """
    mark = folder / _MARK
    actual_folder = Path(os.path.realpath(folder))  # where `folder` is a link, it stays
    if mark.is_file():
        check_not_inside(folder)
        _empty(actual_folder)
    elif os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} would be emptied, but was not made by this command: "
            "remove it, or give another folder"
        )
    actual_folder.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, b"This folder is emptied when the command that made it runs again.\n")


def _empty(folder: Path) -> None:
    """Remove all from a folder but its mark, without which an interrupted removal could not go on.

    Raises:
        OSError: Something cannot be removed.
    """
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _MARK:
            path.unlink()


@contextlib.contextmanager
def locked(path: Path, purpose: str) -> Iterator[None]:
    """Keep other processes from writing a folder at the same time.

    The lock is a hidden file beside the folder, beside the real one where links lead to it. It dies
    with its process, however that ends.

    Args:
        path: The folder, which need not exist.
        purpose: What this process does, for the message that another process gets, such as
            "is writing it".

    Raises:
        UserError: Another process holds it; the message says which. Or it cannot be made.
    """
    path = Path(os.path.realpath(path))
    if not path.name:
        raise UserError(f"{path} is no folder to write: give another")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{_shortened(path.name)}.lock")
    while True:
        try:
            file = _open_lock(lock)
        except OSError as error:
            raise _cannot_lock(path, lock, error) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = file.read().decode(errors="replace").strip() or "another process"
                raise UserError(
                    f"{path}: {holder}: wait until it has ended, or give another folder"
                ) from None
            if not _is_at(file, lock):
                continue  # the holder before removed it between our opening and our locking
            if not file.writable():  # another user's, left by a kill
                try:
                    lock.unlink()
                except OSError as error:
                    raise _cannot_lock(path, lock, error) from None
                continue
            holder = f"process {os.getpid()} on {socket.gethostname()} {purpose}\n"
            try:
                try:
                    file.truncate()
                    os.write(file.fileno(), holder.encode())
                except OSError as error:
                    raise cannot_write(path, error) from None
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _open_lock(lock: Path) -> BinaryIO:
    """Open a lock file, which need not exist; another user's that may not be written, for reading.

    Raises:
        OSError: It can be neither made nor read.
    """
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return open(os.open(lock, os.O_RDWR | os.O_CREAT | flags, 0o666), "r+b")
    except PermissionError as error:
        try:
            return open(os.open(lock, os.O_RDONLY | flags), "rb")
        except FileNotFoundError:
            raise error from None


def _cannot_lock(path: Path, lock: Path, error: OSError) -> UserError:
    """Make the error that says why a folder cannot be locked, and what to do."""
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return cannot_write(path, error)
    if os.path.exists(lock):  # Path.exists raises where the folder may not be searched
        remedy = (
            "another user's command writes there, or a kill left the file: ask its owner, "
            "or give another folder"
        )
    else:
        remedy = f"make {lock.parent} writable, or give another folder"
    return UserError(f"{path} cannot be locked ({error.strerror}: {lock}): {remedy}")


@contextlib.contextmanager
def folder_being_written(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside the target, which vanishes when the block ends.

    The caller renames it to the target when it is complete. Meanwhile no other process can do the
    same, and what a killed process has left of an earlier try is removed. Errors that name the
    temporary folder name the target instead, which the user knows.

    Args:
        folder: The target; where it is a link, the temporary folder is beside the real one.

    Yields:
        The temporary folder, which exists.

    Raises:
        UserError: Another process writes the target, or it cannot be written.
    """
    given, folder = folder, Path(os.path.realpath(folder))
    with locked(folder, "is writing it"):
        start = f".{_shortened(folder.name)}."
        # Not every name with this start: NAME.2 is another folder than NAME.
        own_end = re.compile(rf"\d+({re.escape(_OLD)})?{re.escape(PARTIAL_END)}")
        for stale in folder.parent.glob(f"{glob.escape(start)}*"):
            if own_end.fullmatch(stale.name.removeprefix(start)) and not stale.is_symlink():
                shutil.rmtree(stale, ignore_errors=True)
        partial = folder.with_name(f"{start}{os.getpid()}{PARTIAL_END}")
        try:
            partial.mkdir()
            yield partial
        except UserError as error:
            hidden, shown = (escape_unprintable(str(path)) for path in (partial, given))
            error.args = (str(error).replace(hidden, shown),)
            raise
        except OSError as error:
            names = [str(name) for name in (error.filename, error.filename2) if name is not None]
            is_inside = any(name.startswith(str(partial)) for name in names)
            if is_inside or (error.errno in NO_ROOM and not names):
                raise cannot_write(given, error) from None
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def replace_folder(partial: Path, folder: Path) -> None:
    """Put the temporary folder of `folder_being_written` in the place of a folder that is there.

    An error or Ctrl-C leaves the old folder or the new one, whole.

    Args:
        partial: The temporary folder, which is complete.
        folder: The target. What is there is removed; where it is a link, the folder that it leads
            to is replaced.

    Raises:
        OSError: It cannot be replaced, as where the target is no folder.
    """
    folder = Path(os.path.realpath(folder))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    old = partial.with_name(f"{partial.name.removesuffix(PARTIAL_END)}{_OLD}{PARTIAL_END}")
    try:
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _shortened(name: str) -> str:
    """Return a name, or, where it is long, its start and a digest of all of it."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME // 8]}-{hashlib.sha1(encoded).hexdigest()}"


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Tell whether an open file is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False
