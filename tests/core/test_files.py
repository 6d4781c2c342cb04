"""Files are written whole or not at all."""

import errno
import hashlib
import multiprocessing
import os
import signal
import tracemalloc
from pathlib import Path
from unittest import mock

import pytest

from mcc_caffe.core import files
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import (
    atomic_write,
    file_sha256,
    replaced_together,
    require_file,
    write_atomically,
    write_together,
)
from tests.support.commands import run_code
from tests.support.disks import file_size_limit, replacement_fails, room_for_files


def test_the_digest_of_a_large_file_takes_little_memory(tmp_path):
    (tmp_path / "file").write_bytes(b"start")
    os.truncate(tmp_path / "file", 2**25)
    tracemalloc.start()
    digest = file_sha256(tmp_path / "file")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert digest == hashlib.sha256(b"start".ljust(2**25, b"\0")).hexdigest() and peak < 2**23


def test_a_file_that_no_disk_can_hold_is_not_there():
    with pytest.raises(UserError, match="the weights file x+ .*: give the path of a file"):
        require_file("x" * 300, "weights file")


def test_an_atomic_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda _: calls.append((tmp_path / "file").exists()))
    write_atomically(tmp_path / "file", b"new")
    assert calls == [False]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with (
        file_size_limit(1000),
        pytest.raises(UserError, match="file cannot be written .File too large.: make room"),
    ):
        write_atomically(path, bytes(2000))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("too_large", ["first", "second"])
def test_files_that_belong_together_are_all_replaced_or_none(too_large, tmp_path):
    paths = [tmp_path / name for name in ("first", "second")]
    write_together(dict.fromkeys(paths, b"old"))
    with file_size_limit(1000), pytest.raises(UserError, match=f"{too_large} cannot be written"):
        write_together({path: bytes(2000 if path.name == too_large else 1) for path in paths})
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"old", b"old"]
    write_together(dict.fromkeys(paths, b"new"))
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"new", b"new"]


@pytest.mark.parametrize("has_hard_links", [True, False])
@pytest.mark.parametrize("failing", ["first", "second", "third"])
def test_where_a_file_cannot_be_replaced_all_stay_as_they_were(
    failing, has_hard_links, tmp_path, monkeypatch
):
    """The third file is new, and `outdated` would be removed."""
    paths = [tmp_path / name for name in ("first", "second", "third")]
    outdated = tmp_path / "outdated"
    write_together(dict.fromkeys([*paths[:2], outdated], b"old"))
    paths[0].chmod(0o640)
    before = {path: (path.read_bytes(), path.stat().st_mode) for path in tmp_path.iterdir()}
    if not has_hard_links:
        monkeypatch.setattr(os, "link", mock.Mock(side_effect=PermissionError))
    with (
        replacement_fails(failing),
        pytest.raises(UserError, match=f"{failing} cannot be written .Device or resource busy.: "),
    ):
        write_together(dict.fromkeys(paths, b"new"), [outdated])
    assert {path: (path.read_bytes(), path.stat().st_mode) for path in tmp_path.iterdir()} == before
    write_together(dict.fromkeys(paths, b"new"), [outdated])
    assert sorted(tmp_path.iterdir()) == paths
    assert {path.read_bytes() for path in paths} == {b"new"}
    assert paths[0].stat().st_mode == before[paths[0]][1]


@pytest.mark.parametrize("has_hard_links", [True, False])
@pytest.mark.parametrize("name", ["first", "second", "third"])
def test_where_ctrl_c_comes_with_a_replacement_all_stay_as_they_were(
    name, has_hard_links, tmp_path, monkeypatch
):
    """The third file is new."""
    paths = [tmp_path / name for name in ("first", "second", "third")]
    write_together(dict.fromkeys(paths[:2], b"old"))
    replace = Path.replace

    def replace_and_stop(path, target):
        replace(path, target)
        if Path(target).name == name and not stopped:
            stopped.append(name)
            os.kill(os.getpid(), signal.SIGINT)

    stopped = []
    monkeypatch.setattr(Path, "replace", replace_and_stop)
    if not has_hard_links:
        monkeypatch.setattr(os, "link", mock.Mock(side_effect=PermissionError))
    with pytest.raises(KeyboardInterrupt):
        write_together(dict.fromkeys(paths, b"new"))
    assert sorted(tmp_path.iterdir()) == paths[:2]
    assert [path.read_bytes() for path in paths[:2]] == [b"old", b"old"]


WRITER = """
import pathlib
from mcc_caffe.core import files
files._STALE_SECONDS = {stale_seconds}
files.write_atomically(pathlib.Path('third'), b'')
"""


def _write_in_another_process(folder, stale_seconds=files._STALE_SECONDS):
    code = WRITER.format(stale_seconds=stale_seconds)
    run_code(code, cwd=folder, check=True)


@pytest.mark.parametrize("has_hard_links", [True, False])
def test_another_process_leaves_the_files_that_may_be_put_back(
    has_hard_links, tmp_path, monkeypatch
):
    first, second = (tmp_path / name for name in ("first", "second"))
    write_together({first: b"old", second: b"old"})
    os.utime(first, (0, 0))
    replace = Path.replace

    def refuse_second(path, target):
        if target == second:
            _write_in_another_process(tmp_path)
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse_second)
    if not has_hard_links:
        monkeypatch.setattr(os, "link", mock.Mock(side_effect=PermissionError))
    with pytest.raises(UserError, match="second cannot be written"):
        write_together({first: b"new", second: b"new"})
    assert first.read_bytes() == second.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second", "third"]


@pytest.mark.parametrize("is_old_one_there", [True, False])
def test_a_file_that_cannot_be_put_back_is_named(is_old_one_there, tmp_path, monkeypatch):
    first, second = (tmp_path / name for name in ("first", "second"))
    write_together({first: b"old", second: b"old"})
    replace = Path.replace

    def refuse_from_second_on(path, target):
        if target == second:
            monkeypatch.setattr(Path, "replace", refuse)
            if not is_old_one_there:
                for partial in tmp_path.glob(".mcc-*"):
                    partial.unlink()
            refuse(path, target)
        replace(path, target)

    def refuse(_, __):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "replace", refuse_from_second_on)
    with pytest.raises(UserError) as error:
        write_together({first: b"new", second: b"new"})
    old_files = list(tmp_path.glob(".mcc-*.old"))
    assert [path.read_bytes() for path in old_files] == [b"old"] * is_old_one_there
    remedy = f"move {old_files[0]} there" if old_files else "write it again"
    busy = os.strerror(errno.EBUSY)
    assert str(error.value) == f"{first} was changed and cannot be put back ({busy}): {remedy}"
    assert set(tmp_path.iterdir()) == {first, second, *old_files}
    assert (first.read_bytes(), second.read_bytes()) == (b"new", b"old")


def test_a_file_that_appears_where_a_new_one_cannot_go_stays(tmp_path, monkeypatch):
    def refuse(_, target):
        target.write_bytes(b"of another process")
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(UserError, match="new cannot be written"):
        write_together({tmp_path / "new": b"new"})
    assert (tmp_path / "new").read_bytes() == b"of another process"


def test_where_a_file_cannot_be_removed_all_stay_as_they_were(tmp_path):
    path, new, outdated, folder = (tmp_path / name for name in ("file", "new", "old", "folder"))
    write_together(dict.fromkeys([path, outdated], b"old"))
    folder.mkdir()
    with pytest.raises(UserError) as error:
        write_together({path: b"new", new: b"new"}, [outdated, tmp_path / "missing", folder])
    assert str(error.value) == f"{folder} cannot be removed (Is a directory): move it away"
    assert sorted(tmp_path.iterdir()) == [path, folder, outdated]
    assert path.read_bytes() == outdated.read_bytes() == b"old"


def test_what_a_written_link_points_to_is_not_outdated(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"old")
    link.symlink_to(path)
    write_together({link: b"new"}, [path])
    assert path.read_bytes() == b"new" and link.is_symlink()


def test_outdated_files_are_removed_once_the_others_are_written(tmp_path):
    path, outdated, missing = (tmp_path / name for name in ("file", "outdated", "missing"))
    outdated.symlink_to("nowhere")
    with file_size_limit(1000), pytest.raises(UserError, match="cannot be written"):
        write_together({path: bytes(2000)}, [outdated, missing])
    assert list(tmp_path.iterdir()) == [outdated]
    with replaced_together({path: b"new"}, [path, outdated, missing]):
        assert not path.exists() and outdated.is_symlink()
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"new"


def test_an_error_meanwhile_leaves_all_files(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError), replaced_together({path: b"new"}):
        (tmp_path / "missing").unlink()
    assert not list(tmp_path.iterdir())


def test_each_file_of_several_is_brought_to_the_disk_once(tmp_path):
    with mock.patch("os.fsync", wraps=os.fsync) as fsync:
        write_together({tmp_path / "first": b"1", tmp_path / "second": b"2"})
    assert fsync.call_count == 2


def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "null").symlink_to("/dev/null")
    for name, kind in (("pipe", "a pipe"), ("folder", "a folder"), ("null", "a device")):
        with pytest.raises(UserError, match=f"{name} is {kind}, not a file: give the path"):
            write_atomically(tmp_path / name, b"new")
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "null").is_symlink()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_link_stays_and_its_file_is_written(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("disk/file")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk/file").read_bytes() == b"new"


def test_a_link_that_is_not_followed_is_replaced_once_all_is_written(tmp_path):
    paths = [tmp_path / name for name in ("file", "nowhere", "itself")]
    (tmp_path / "victim").write_bytes(b"of the user")
    (tmp_path / "victim").chmod(0o600)
    targets = dict(zip(paths, ("victim", "missing", "itself"), strict=True))
    for path, target in targets.items():
        path.symlink_to(target)
    contents = dict.fromkeys([*paths, tmp_path / "last"], b"new")
    for failure in (room_for_files(3), replacement_fails("last")):
        with failure, pytest.raises(UserError, match="last cannot be written"):
            write_together(contents, follow_links=False)
        assert {path: os.readlink(path) for path in paths} == targets
        assert set(tmp_path.iterdir()) == {*paths, tmp_path / "victim"}
    write_together(contents, follow_links=False)
    assert [path.is_symlink() or path.read_bytes() for path in contents] == [b"new"] * 4
    assert len({path.stat().st_mode for path in contents}) == 1
    assert (tmp_path / "victim").read_bytes() == b"of the user"


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_bytes(b"of the user")
    monkeypatch.setattr("secrets.token_hex", lambda _: "0")
    for number in range(2):
        (tmp_path / ".mcc-0.partial").symlink_to("victim" if number else "not there")
        with pytest.raises(UserError, match="file cannot be written .File exists."):
            write_atomically(tmp_path / "file", b"new")
        assert (tmp_path / ".mcc-0.partial").is_symlink()
        (tmp_path / ".mcc-0.partial").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]
    assert (tmp_path / "victim").read_bytes() == b"of the user"


def _write_often(path, letter):
    for _ in range(200):
        write_atomically(path, letter * 100_000)


def test_of_two_writers_the_last_complete_one_wins(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"a" * 100_000)
    writers = [multiprocessing.Process(target=_write_often, args=(path, x)) for x in (b"a", b"b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        content = path.read_bytes()
        assert len(content) == 100_000 and len(set(content)) == 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127])
def test_the_longest_name_can_be_written(name, tmp_path):
    write_atomically(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"
    with pytest.raises(UserError, match="cannot be written .File name too long.: give a shorter"):
        write_atomically(tmp_path / f"{name}xx", b"new")


def test_a_written_file_has_the_usual_permissions(tmp_path):
    write_atomically(tmp_path / "file", b"new")
    (tmp_path / "plain").write_bytes(b"new")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("mode", [0o640, 0o664, 0o600])
def test_a_file_that_is_replaced_keeps_its_permissions(mode, tmp_path):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    (tmp_path / "link").symlink_to("file")
    write_atomically(tmp_path / "link", b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", mode)


KILLED_WRITER = """
import os, pathlib
from mcc_caffe.core.files import atomic_write
with atomic_write(pathlib.Path('file')):
    os.kill(os.getpid(), 9)
"""


def test_the_temporary_file_of_a_killed_process_is_removed(tmp_path):
    run_code(KILLED_WRITER, cwd=tmp_path)
    (left,) = tmp_path.iterdir()
    with atomic_write(tmp_path / "other") as (partial, _):
        _write_in_another_process(tmp_path, stale_seconds=0)
        assert partial.exists() and not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "third"]
