"""Folders of results are written by one process at a time, whole or not at all."""

import errno
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.output_checks import check_not_inside
from mcc_caffe.core.result_folders import (
    empty_own_folder,
    folder_being_written,
    locked,
    replace_folder,
)
from tests.support.commands import importing_this_project, refusal, run_code, run_program

KILLED_WRITER = """
import os, pathlib
from mcc_caffe.core.result_folders import folder_being_written
with folder_being_written(pathlib.Path('set')):
    os.kill(os.getpid(), 9)
"""


def test_a_folder_is_written_by_one_process_at_a_time(tmp_path):
    target = tmp_path / "set"
    run_code(KILLED_WRITER, cwd=tmp_path)
    assert len(list(tmp_path.glob(".set.*.partial"))) == 1
    with folder_being_written(target) as partial:
        assert list(tmp_path.glob(".set.*.partial")) == [partial]
        with (
            pytest.raises(
                UserError,
                match=f"set: process {os.getpid()} on {socket.gethostname()} is writing it: "
                "wait until it has ended, or give another folder",
            ),
            folder_being_written(target),
        ):
            pass
        assert partial.is_dir()
        partial.rename(target)
    assert list(tmp_path.iterdir()) == [target]
    with folder_being_written(target):
        pass


def test_what_keeps_a_folder_from_being_written_is_told_by_the_folder(tmp_path):
    """Not by the hidden lock or temporary folder, which the user does not know."""
    target = tmp_path / "set"
    lock, partial = tmp_path / ".set.lock", tmp_path / f".set.{os.getpid()}.partial"
    for hidden, number in ((lock, errno.ELOOP), (partial, errno.EEXIST)):
        hidden.symlink_to("elsewhere")
        with pytest.raises(UserError) as error, folder_being_written(target):
            pass
        assert str(error.value).startswith(f"{target} cannot be written ({os.strerror(number)}): ")
        hidden.unlink()
    assert not list(tmp_path.iterdir())


def test_a_folder_of_a_similar_name_is_written_at_the_same_time(tmp_path):
    """The temporary folder of set.baked begins as that of set does."""
    for name in ("set.baked", "set.1", "set.old", "set.1.old"):
        with (
            folder_being_written(tmp_path / name) as partial,
            folder_being_written(tmp_path / "set"),
        ):
            assert partial.is_dir()


def run_without_rights_of_root(code: str, *arguments):
    """Run Python as a user to whom permissions of files apply, also where root runs the tests."""
    rights = "-dac_override,-dac_read_search"
    program = () if os.geteuid() else ("setpriv", "--bounding-set", rights, "--inh-caps", rights)
    environment = importing_this_project(os.environ)
    return run_program(*program, sys.executable, "-c", code, *arguments, env=environment)


LOCKING = """
import pathlib, sys
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.result_folders import locked
def main():
    with locked(pathlib.Path(sys.argv[1]), "writes"):
        print("locked")
run_command(main)
"""


def test_a_lock_that_may_not_be_written_is_named(tmp_path):
    lock, target = tmp_path / ".set.lock", tmp_path / "set"
    target.mkdir()
    with locked(target, "trains in it"):
        lock.chmod(0o444)  # as another user's
        line = refusal(run_without_rights_of_root(LOCKING, target))
        assert f"set: process {os.getpid()} on {socket.gethostname()} trains in it: wait" in line
    tmp_path.chmod(0o555)
    assert refusal(run_without_rights_of_root(LOCKING, target)) == (
        f"error: {target} cannot be locked (Permission denied: {lock}): "
        f"make {tmp_path} writable, or give another folder"
    )
    tmp_path.chmod(0o755)
    lock.touch(0o444)  # of a killed process
    tmp_path.chmod(0o555)
    assert refusal(run_without_rights_of_root(LOCKING, target)) == (
        f"error: {target} cannot be locked (Permission denied: {lock}): "
        "another user's command writes there, or a kill left the file: ask its owner, "
        "or give another folder"
    )
    tmp_path.chmod(0o755)
    assert run_without_rights_of_root(LOCKING, target).stdout == "locked\n"
    assert list(tmp_path.iterdir()) == [target]


def test_a_lack_of_room_elsewhere_is_not_blamed_on_the_folder_being_written(tmp_path):
    def fail_for_room(*names):
        with folder_being_written(tmp_path / "set") as partial:
            paths = [str(partial / name) for name in names]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *paths)

    for names in ((), ("file",)):
        with pytest.raises(UserError, match="set cannot be written .No space left on device.: "):
            fail_for_room(*names)
    with pytest.raises(OSError, match="No space left on device: '/dev/shm/batches'"):
        fail_for_room("/dev/shm/batches")


def test_a_folder_that_is_replaced_is_there_whole_whenever_ctrl_c_comes(tmp_path, monkeypatch):
    """Before the new one has its name the old one is there, and from then on the new one."""
    target = tmp_path / "set"
    target.mkdir()
    (target / "file").write_text("old")

    def stop(*_, **__):
        raise KeyboardInterrupt

    def replace():
        with folder_being_written(target) as partial:
            (partial / "file").write_text("new")
            with monkeypatch.context() as patch:
                real_rename = Path.rename
                patch.setattr(
                    Path,
                    "rename",
                    lambda path, to: stop() if path == partial else real_rename(path, to),
                )
                with pytest.raises(KeyboardInterrupt):
                    replace_folder(partial, target)
            assert (target / "file").read_text() == "old"
            with monkeypatch.context() as patch:
                patch.setattr(shutil, "rmtree", stop)
                replace_folder(partial, target)

    with pytest.raises(KeyboardInterrupt):
        replace()
    assert (target / "file").read_text() == "new"
    with folder_being_written(target) as partial:
        (partial / "file").write_text("newer")
        replace_folder(partial, target)
    assert (target / "file").read_text() == "newer" and list(tmp_path.iterdir()) == [target]


def test_only_a_folder_of_ones_own_is_emptied(tmp_path):
    """`python -m mcc_caffe.demo --out photographs`."""
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs/hand.jpg").write_bytes(b"of the user")
    (tmp_path / "file").touch()
    for name in ("photographs", "file"):
        with pytest.raises(UserError, match="would be emptied, but was not made by this command"):
            empty_own_folder(tmp_path / name)
    assert (tmp_path / "photographs/hand.jpg").read_bytes() == b"of the user"
    own = tmp_path / "new/own"
    for _ in range(2):
        empty_own_folder(own)
        assert [path.name for path in own.iterdir()] == [".made-by-mcc-caffe"]
        (own / "result").touch()


def test_a_folder_that_ctrl_c_left_half_emptied_is_ones_own(tmp_path, monkeypatch):
    own, unlink = tmp_path / "own", Path.unlink

    def stop_after(count):
        calls = iter(range(count))

        def unlink_or_stop(*arguments, **options):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            unlink(*arguments, **options)

        return unlink_or_stop

    for count in range(20):
        empty_own_folder(own)
        for number in range(20):
            (own / f"result{number}").touch()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", stop_after(count))
            with pytest.raises(KeyboardInterrupt):
                empty_own_folder(own)
    empty_own_folder(own)
    assert [path.name for path in own.iterdir()] == [".made-by-mcc-caffe"]


def test_a_folder_of_ones_own_is_not_emptied_from_inside(tmp_path, monkeypatch):
    own = tmp_path / "own"
    empty_own_folder(own)
    (own / "result").touch()
    (own / "inner").mkdir()
    for folder, target in ((own, Path(".")), (own / "inner", Path("..")), (own, own)):
        monkeypatch.chdir(folder)
        with pytest.raises(UserError, match="would be replaced, and this command runs in it"):
            empty_own_folder(target)
    assert (own / "result").exists()


def test_the_root_is_no_folder_to_write():
    with (
        pytest.raises(UserError, match="/ is no folder to write: give another"),
        locked(Path("/"), "tries"),
    ):
        pass


def test_a_folder_and_a_link_to_it_have_one_lock(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/run").mkdir()
    (tmp_path / "run").symlink_to("disk/run")
    with (
        locked(tmp_path / "run", "trains in it"),
        pytest.raises(UserError, match=f"process {os.getpid()} .*trains in it"),
        locked(tmp_path / "disk/run", "trains in it"),
    ):
        pass
    assert not list((tmp_path / "disk").glob(".*"))


def test_a_link_to_a_folder_of_ones_own_stays(tmp_path):
    empty_own_folder(tmp_path / "own")
    (tmp_path / "own/result").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    empty_own_folder(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and not (tmp_path / "own/result").exists()


def test_a_temporary_folder_is_beside_the_real_one(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/site").mkdir()
    (tmp_path / "link").symlink_to("disk/site")
    monkeypatch.chdir(tmp_path / "disk/site")
    for folder in (Path("."), tmp_path / "link"):
        with folder_being_written(folder) as partial:
            assert partial.parent == tmp_path / "disk"
    for folder in (Path("."), Path(".."), tmp_path / "link"):
        with pytest.raises(UserError, match="would be replaced, and this command runs in it"):
            check_not_inside(folder)
    check_not_inside(tmp_path / "disk/other")


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127])
def test_a_folder_of_the_longest_name_can_be_written(name, tmp_path):
    with folder_being_written(tmp_path / name) as partial:
        (partial / "file").write_text("new")
        partial.rename(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
