"""Reads files, and writes them completely or not at all."""

import contextlib
import fcntl
import functools
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from mcc_caffe.core.errors import UserError, cannot_write
from mcc_caffe.core.output_checks import check_target

# The labelling page's folder in a folder of photographs, and the one in it that holds the labels.
LABELS_FOLDER, LABELS_STATE = "mcc-labels", "state"
_PARTIAL_START, PARTIAL_END = ".mcc-", ".partial"  # of the names of temporary files
_DIGEST_CHUNK_BYTES = 2**20  # so that a large file takes little memory
_STALE_SECONDS = 60  # an unlocked temporary file that has been there longer belongs to no process


def require_file(path: str | Path, kind: str) -> Path:
    """Check that a file is there.

    Args:
        path: The file.
        kind: What the error calls it, such as "solver".

    Raises:
        UserError: There is no such file, or nothing can be said of it, as in a closed folder.
    """
    path = Path(path)
    try:
        is_file = path.is_file()
    except OSError as error:
        raise UserError(
            f"the {kind} {path} cannot be read ({error.strerror}): give the path of a file"
        ) from None
    if not is_file:
        reason = "is a folder" if path.is_dir() else "was not found"
        raise UserError(f"the {kind} {path} {reason}: give the path of a file")
    return path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; OSError where it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_DIGEST_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def starts_with(path: str | Path, start: bytes) -> bool:
    """Tell whether a file begins with these bytes; OSError where it cannot be read."""
    with open(path, "rb") as file:
        return file.read(len(start)) == start


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Write a file completely or not at all.

    What the caller writes goes into a temporary file beside the target. It takes the target's
    place, on the disk, when the block ends, and vanishes when the block ends with an error. A file
    that is replaced hands its permissions on. Of several writers at a time the last complete one
    wins.

    Args:
        path: The file to write. Its folder must exist.

    Yields:
        The path of the temporary file, and the same file open for writing in binary.

    Raises:
        UserError: The file cannot be written.
    """
    target = check_target(path)
    try:
        with _open_temporary_file(target) as (partial, file):
            yield partial, file
            _complete(partial, file, target)
            partial.replace(target)
    except OSError as error:
        raise cannot_write(path, error) from None


@contextlib.contextmanager
def _open_temporary_file(target: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Give a new file beside the target, which vanishes when the block ends, if still there.

    Yields:
        Its path, and the same file open for writing in binary.
    """
    _remove_stale_files(target.parent)
    partial = _make_temporary_path(target)
    descriptor = os.open(
        partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
    )
    with open(descriptor, "w+b") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # dies with this process: see _remove_stale_files
        try:
            yield partial, file
        finally:
            _remove_temporary(partial)


def _make_temporary_path(target: Path) -> Path:
    """Return a path beside the target that nobody can guess.

    Its name is short, so that every target's name leaves room.
    """
    return target.with_name(f"{_PARTIAL_START}{secrets.token_hex(8)}{PARTIAL_END}")


def _complete(partial: Path, file: BinaryIO, target: Path) -> None:
    """Bring a temporary file to the disk, with the permissions of the file that it replaces."""
    file.flush()
    # Another library may have written it, by its path, into a file of that name.
    with open(partial, "rb") as written:
        os.fsync(written.fileno())
    _copy_mode(target, partial)


def _copy_mode(source: Path, path: Path) -> None:
    """Give a file the permissions of another one, if that is there and no link."""
    with contextlib.suppress(FileNotFoundError):
        source_mode = source.lstat().st_mode
        if stat.S_ISLNK(source_mode):
            return
        mode = stat.S_IMODE(source_mode)
        # Some file systems refuse any change, but there all files have the same permissions.
        if mode != stat.S_IMODE(path.stat().st_mode):
            path.chmod(mode)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, as `atomic_write` does.

    Raises:
        UserError: It cannot be written.
    """
    with atomic_write(path) as (_, file):
        file.write(content)


def write_together(
    contents: Mapping[Path, bytes], earlier: Iterable[Path] = (), *, follow_links: bool = True
) -> None:
    """Write files that belong together: where one cannot be written, all stay as they were.

    Only where a process is killed while the files take their places, or another one writes the same
    files meanwhile, there may be some of each.

    Args:
        contents: {file: its content}. The folders of the files must exist.
        earlier: Files of an earlier run, which may be missing. Those that are not in `contents` are
            removed, after all others are written.
        follow_links: Whether a link in the place of a file stays and what it points to is written;
            else the file replaces the link.

    Raises:
        UserError: One cannot be written or removed.
    """
    with replaced_together(contents, earlier, follow_links=follow_links):
        pass


@contextlib.contextmanager
def replaced_together(
    contents: Mapping[Path, bytes], earlier: Iterable[Path] = (), *, follow_links: bool = True
) -> Iterator[None]:
    """Write files as `write_together` does, but let them take their places when the block ends.

    Their contents are on the disk before the block begins, so that no lack of room can stop them at
    its end. Only where there are no hard links does the end need room, for copies of the old files.
    Where the block or its end fails, all stay as they were.

    Raises:
        UserError: One cannot be written or removed.
    """
    changes: dict[Path, Path | None] = {}
    with contextlib.ExitStack() as partials:
        for path, content in contents.items():
            replaces_link = path.is_symlink() and not follow_links
            target = path if replaces_link else check_target(path)
            try:
                partial, file = partials.enter_context(_open_temporary_file(target))
                # By its path: what `file` held would fail once more when it is closed.
                partial.write_bytes(content)
                _complete(partial, file, target)
            except OSError as error:
                raise cannot_write(path, error) from None
            changes[target] = partial
        yield
        outdated = [path for path in earlier if path not in contents and path not in changes]
        _make_changes({**changes, **dict.fromkeys(outdated)})


def _make_changes(changes: Mapping[Path, Path | None]) -> None:
    """Replace and remove files in this order; where one cannot be, all stay as they were.

    So they do where Ctrl-C comes meanwhile.

    Args:
        changes: {file: the complete file that takes its place, or None to remove it}.

    Raises:
        UserError: One cannot be replaced or removed.
    """
    with contextlib.ExitStack() as asides, contextlib.ExitStack() as restoring:
        for path, partial in changes.items():
            aside, existed = _make_temporary_path(path), os.path.lexists(path)
            asides.callback(_remove_temporary, aside)
            try:
                if existed:
                    _keep_aside(path, aside)
                # Ctrl-C may come as soon as the file is replaced.
                restoring.callback(_restore, path, partial, aside if existed else None)
                if partial:
                    partial.replace(path)
                else:
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise (cannot_write if partial else _cannot_remove)(path, error) from None
        restoring.pop_all()  # all is done, so that nothing is put back


def _keep_aside(path: Path, aside: Path) -> None:
    """Give a file a second name, under which it outlives its replacement."""
    try:
        os.link(path, aside, follow_symlinks=False)
    except OSError:  # a file system without hard links, or a file that may not be linked
        # Not with its times, by which it would look stale where there are no others.
        shutil.copy(path, aside, follow_symlinks=False)


def _restore(path: Path, partial: Path | None, aside: Path | None) -> None:
    """Undo a change: put the old file back into its place, or remove the new one.

    Args:
        path: The file that was changed.
        partial: The file that took its place; None where it was removed.
        aside: The old file; None where there was none.

    Raises:
        UserError: It cannot be undone. The old file then stays under the name that the error says.
    """
    try:
        is_unchanged = partial.exists() if partial else os.path.lexists(path)
        if is_unchanged:
            return
        if aside:
            aside.replace(path)
        elif partial:
            path.unlink(missing_ok=True)
    except OSError as error:
        if not aside:
            raise _cannot_remove(path, error) from None
        old_file = aside.with_suffix(".old")  # a name that is never stale
        with contextlib.suppress(OSError):
            aside.rename(old_file)
        remedy = f"move {old_file} there" if os.path.lexists(old_file) else "write it again"
        reason = error.strerror or error
        raise UserError(f"{path} was changed and cannot be put back ({reason}): {remedy}") from None


def _remove_temporary(path: Path) -> None:
    """Remove a temporary file, if it is there; one that cannot be removed becomes stale."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


@functools.cache
def _remove_stale_files(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder, once in a process.

    A process that still writes one holds a lock on it. A new file may not be locked yet, and an old
    file that is kept aside never is, so that only those are looked at that have had their name for
    a while.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{_PARTIAL_START}*{PARTIAL_END}"):
            with contextlib.suppress(OSError):
                # Not st_mtime: a file that is kept aside has the one of its last change.
                if time.time() - path.lstat().st_ctime < _STALE_SECONDS:
                    continue
                with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what differs once a file was replaced or written again; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _cannot_remove(path: Path, error: OSError) -> UserError:
    """Make the error that says that a path cannot be removed, why, and what to do."""
    return UserError(f"{path} cannot be removed ({error.strerror or error}): move it away")
