"""Finds the files that come with the project, and writes files completely or not at all.

What comes with the project stands beside the package in a checkout, inside it when installed.
"""

import contextlib
import errno
import fcntl
import functools
import glob
import hashlib
import os
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from mcc_caffe.core.errors import NO_ROOM, UserError, escape_unprintable

# The labelling page's folder in a folder of photographs, and the one in it that holds the labels.
LABELS_FOLDER, LABELS_STATE = "mcc-labels", "state"
_PACKAGE = Path(__file__).parents[1]
_PARTIAL_START, _PARTIAL_END = ".mcc-", ".partial"  # of the names of temporary files
_MARK = ".made-by-mcc-caffe"  # a file in folders that a command may empty
_STALE_SECONDS = 60  # an unlocked temporary file that has been there longer belongs to no process
_LONGEST_NAME = 120  # bytes of the target's name in the names of its lock and temporary folder


def require_shipped(relative: str) -> Path:
    """Find a file that comes with the project.

    Args:
        relative: Its path, such as `prototxt/mini/deploy.prototxt`.

    Raises:
        UserError: It is not there.
    """
    path = find_shipped(relative)
    if path is None:
        raise UserError(
            f"{relative} was not found in {_PACKAGE.parent}: "
            "run `make prototxt` or install the package again"
        )
    return path


def find_shipped(relative: str) -> Path | None:
    """Find a file that may come with the project, such as `pretrained/mini.npz`.

    Returns:
        Its path; None where it is not there.
    """
    paths = (root / relative for root in (_PACKAGE.parent, _PACKAGE))
    return next((path for path in paths if path.is_file()), None)


def require_file(path: str | Path, kind: str) -> Path:
    """Check that a file is there.

    Args:
        path: The file.
        kind: What the error calls it, such as "solver".

    Raises:
        UserError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "was not found"
        raise UserError(f"the {kind} {path} {reason}: give the path of a file")
    return path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; OSError where it cannot be read."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
        figures: Names of the pictures that are going to be written beside it.
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


def empty_own_folder(folder: Path) -> None:
    """Make a folder, or empty the one that this function made earlier.

    Raises:
        UserError: The folder holds other files, or this process runs in it.
    """
    mark = folder / _MARK
    actual_folder = Path(os.path.realpath(folder))  # where `folder` is a link, it stays
    if mark.is_file():
        check_not_inside(folder)
        shutil.rmtree(actual_folder)
    elif os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} would be emptied, but was not made by this command: "
            "remove it, or give another folder"
        )
    actual_folder.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, b"This folder is emptied when the command that made it runs again.\n")


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


def starts_with(path: str | Path, start: bytes) -> bool:
    """Tell whether a file begins with these bytes; OSError where it cannot be read."""
    with open(path, "rb") as file:
        return file.read(len(start)) == start


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
    return target.with_name(f"{_PARTIAL_START}{secrets.token_hex(8)}{_PARTIAL_END}")


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
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise cannot_write(path, error) from None
        with open(descriptor, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = file.read().decode(errors="replace").strip() or "another process"
                raise UserError(
                    f"{path}: {holder}: wait until it has ended, or give another folder"
                ) from None
            if not _is_at(file, lock):
                continue  # the holder before removed it between our opening and our locking
            holder = f"process {os.getpid()} on {socket.gethostname()} {purpose}\n"
            try:
                try:
                    file.truncate()
                    os.write(descriptor, holder.encode())
                except OSError as error:
                    raise cannot_write(path, error) from None
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


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
        for stale in folder.parent.glob(f"{glob.escape(start)}*{_PARTIAL_END}"):
            if not stale.is_symlink():
                shutil.rmtree(stale, ignore_errors=True)
        partial = folder.with_name(f"{start}{os.getpid()}{_PARTIAL_END}")
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
    old = partial.with_name(f"{partial.name.removesuffix(_PARTIAL_END)}.old{_PARTIAL_END}")
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


@functools.cache
def _remove_stale_files(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder, once in a process.

    A process that still writes one holds a lock on it. A new file may not be locked yet, and an old
    file that is kept aside never is, so that only those are looked at that have had their name for
    a while.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{_PARTIAL_START}*{_PARTIAL_END}"):
            with contextlib.suppress(OSError):
                # Not st_mtime: a file that is kept aside has the one of its last change.
                if time.time() - path.lstat().st_ctime < _STALE_SECONDS:
                    continue
                with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Tell whether an open file is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


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


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what differs once a file was replaced or written again; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def cannot_write(path: Path, error: OSError) -> UserError:
    """Make the error that says that a path cannot be written, why, and what to do."""
    reason = error.strerror or str(error)
    if error.errno in NO_ROOM:
        remedy = "make room, or give another folder"
    elif error.errno == errno.ENAMETOOLONG:
        remedy = "give a shorter name"
    elif error.errno == errno.ENOENT:
        remedy = "make its folder, or give another"
    else:
        remedy = "give a path that you may write to"
    return UserError(f"{path} cannot be written ({reason}): {remedy}")


def _cannot_remove(path: Path, error: OSError) -> UserError:
    """Make the error that says that a path cannot be removed, why, and what to do."""
    return UserError(f"{path} cannot be removed ({error.strerror or error}): move it away")
