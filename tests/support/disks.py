"""A disk that is nearly full."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from unittest import mock


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file become larger than so many bytes, as a disk that is nearly full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def room_for_files(count: int) -> Iterator[None]:
    """Let the disk be full, in this process, once so many files are written to it."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with mock.patch("os.fsync", side_effect=[*[None] * count, full]):
        yield


@contextlib.contextmanager
def replacement_fails(name: str) -> Iterator[None]:
    """Let no file of this name be replaced, in this process, as where it is mounted there."""
    replace = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if Path(target).name == name:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return replace(path, target)

    with mock.patch.object(Path, "replace", refuse):
        yield
