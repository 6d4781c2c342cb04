"""Building Caffe, without compiling it."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_build import build, check, source
from caffe_build.errors import (
    CheckError,
    CompileError,
    DiskError,
)
from caffe_build.locate import build_name, importable_folder
from caffe_build.options import CPU
from tests.support.builds import write_program
from tests.support.commands import ROOT


def test_ninja_lines():
    assert build.ninja_step("[12/112] Building CXX object src/caffe/a.o") == (12, 112)
    assert build.ninja_step("src/a.cpp:3: note: [1/2] of a warning") is None
    assert build.ninja_step("") is None


def test_failure_lines_are_those_that_tell(tmp_path):
    log = tmp_path / "log"
    telling = "FAILED: a.o\nc++ " + "-x " * 500 + "\na.cpp:3:1: error: no member\n"
    log.write_text("[1/3] Building\n" * 50 + telling + "[2/3] Building\n" * 50)
    assert build.failure_lines(log) == "FAILED: a.o\na.cpp:3:1: error: no member"
    log.write_text("".join(f"{i}\n" for i in range(100)))
    assert build.failure_lines(log).splitlines() == [str(i) for i in range(80, 100)]


@pytest.mark.parametrize("content, words", [(None, "No such file"), (b"cut", "file too short")])
@pytest.mark.parametrize("library", ["python/caffe/_caffe.so", "lib/libcaffe.so.1.0.0"])
def test_a_build_of_which_a_library_is_damaged_or_gone_is_not_usable(
    library, content, words, tmp_path
):
    folder = importable_folder()
    if not build_name(folder):
        pytest.skip("this Caffe was built elsewhere")
    prefix = shutil.copytree(folder.parent, tmp_path / "caffe", symlinks=True)
    assert build.is_usable(prefix) and check.load_fault(prefix) == ""
    (prefix / library).unlink()
    if content:
        (prefix / library).write_bytes(content)
    assert not build.is_usable(prefix) and words in check.load_fault(prefix)
    shutil.rmtree(prefix)
    assert not build.is_usable(prefix)


@pytest.fixture
def fake_tools(tmp_path, monkeypatch):
    """Make cmake, ninja, c++ and protoc that only succeed; a test overwrites the one to fail."""
    tools = tmp_path / "tools"
    for name in ("cmake", "ninja", "c++", "protoc"):
        write_program(tools / name, "exit 0")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return tools


def built(tree, cache):
    wanted = source.choose_source(str(tree))
    prefix = build.cached_prefix(wanted.id, CPU, cache)
    build.build(wanted, CPU, prefix, jobs=1)
    return prefix


def make_objects(tools: Path) -> None:
    """Makes the fake ninja leave what the real one leaves."""
    write_program(
        tools / "ninja",
        'mkdir -p "$2/lib" "$2/tools"; echo "[1/1] Linking"; '
        'for file in lib/_caffe.so lib/libcaffe.so.1.0.0 tools/caffe; do : > "$2/$file"; done; '
        'ln -sf libcaffe.so.1.0.0 "$2/lib/libcaffe.so"',
    )


def test_a_build_ends_in_a_whole_tree_and_nothing_else(
    caffe_like_tree, tmp_path, fake_tools, monkeypatch
):
    make_objects(fake_tools)
    monkeypatch.setattr(check, "fault", lambda folder: "")
    (caffe_like_tree / "LICENSE").write_text("BSD")
    (caffe_like_tree / "python/caffe/_caffe.so").symlink_to("/build/lib/_caffe.so")
    prefix = built(caffe_like_tree, tmp_path / "cache")
    assert {
        path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if not path.is_dir()
    } == {
        "LICENSE",
        "about.json",
        "bin/caffe",
        "lib/libcaffe.so",
        "lib/libcaffe.so.1.0.0",
        "python/caffe/_caffe.so",
        "python/caffe/io.py",
    }
    assert not (prefix / "python/caffe/_caffe.so").is_symlink()
    assert sorted(path.suffix for path in prefix.parent.iterdir()) == ["", ".lock", ".log"]
    assert build.is_current(prefix) and build.options_of(prefix) == CPU
    monkeypatch.setattr(build, "CPU", dataclasses.replace(CPU, edits=()))
    assert not build.is_current(prefix)


def test_a_failed_compilation_keeps_its_work_and_takes_no_name(
    caffe_like_tree, tmp_path, fake_tools
):
    write_program(fake_tools / "ninja", "echo '[1/2] Building'; echo 'a.cpp:1: error: no'; exit 1")
    with pytest.raises(
        CompileError, match=r"(?s)the compiler failed; the log is .*\.log.*a.cpp:1: error: no"
    ):
        built(caffe_like_tree, tmp_path / "cache")
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [
        ".build",
        ".lock",
        ".log",
    ]


def test_a_closed_stderr_needs_no_progress_bar(caffe_like_tree, tmp_path, fake_tools, monkeypatch):
    make_objects(fake_tools)
    monkeypatch.setattr(check, "fault", lambda folder: "")
    monkeypatch.setattr(sys, "stderr", None)
    (caffe_like_tree / "LICENSE").write_text("BSD")
    assert (built(caffe_like_tree, tmp_path / "cache") / "about.json").is_file()


def test_a_build_that_does_not_work_takes_no_name(caffe_like_tree, tmp_path, fake_tools):
    make_objects(fake_tools)
    (caffe_like_tree / "LICENSE").write_text("BSD")
    (caffe_like_tree / "python/caffe/__init__.py").write_text("from . import _caffe")
    with pytest.raises(CheckError, match="does not work: ImportError"):
        built(caffe_like_tree, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if not path.suffix]


@pytest.mark.parametrize(
    "tool, text, error, words",
    [
        ("cmake", "echo 'CMake Error: no Boost'; exit 1", CompileError, "CMake Error: no Boost"),
        (
            "cmake",
            "echo 'cp: x: No space left on device'; exit 1",
            DiskError,
            "is full.*XDG_CACHE_HOME",
        ),
        ("c++", "exit 1", CompileError, "boost_python.*setup.sh.*distribution's own"),
    ],
)
def test_what_fails_is_named_with_its_remedy(
    caffe_like_tree, tmp_path, fake_tools, tool, text, error, words
):
    write_program(fake_tools / tool, text)
    with pytest.raises(error, match=f"(?s){words}"):
        built(caffe_like_tree, tmp_path / "cache")


def test_compilers_write_to_the_cache_and_take_no_flags_from_the_environment(
    caffe_like_tree, tmp_path, fake_tools, monkeypatch
):
    make_objects(fake_tools)
    monkeypatch.setattr(check, "fault", lambda folder: "")
    (caffe_like_tree / "LICENSE").write_text("BSD")
    for name in ("CC", "CXX", "CFLAGS", "LDFLAGS", "TMPDIR"):
        monkeypatch.setenv(name, "/of/the/user")
    for tool in ("c++", "cmake", "ninja"):
        text = (fake_tools / tool).read_text()
        record = f'echo {tool} "$TMPDIR" $CC $CXX $CFLAGS $LDFLAGS >> {tmp_path}/tools.txt\n'
        (fake_tools / tool).write_text(text.replace("\n", f"\n{record}", 1))
    prefix = built(caffe_like_tree, tmp_path / "cache")
    assert set((tmp_path / "tools.txt").read_text().splitlines()) == {
        f"c++ {prefix.parent}",
        f"cmake {prefix}.build",
        f"ninja {prefix}.build",
    }


def test_missing_tools_and_little_room(caffe_like_tree, tmp_path, fake_tools, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 2**40, 2**20)
        )
        with pytest.raises(DiskError, match="has 1 MB free"):
            built(caffe_like_tree, tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(CompileError, match="missing: cmake, ninja, c.., protoc.*setup.sh"):
        built(caffe_like_tree, tmp_path / "cache")


def test_the_second_of_two_builds_waits_and_says_so(tmp_path, capfd):
    path = tmp_path / "lock"
    code = (
        "import sys, pathlib, caffe_build.build as b\n"
        "with b.lock(pathlib.Path(sys.argv[1])): print('held')"
    )
    with build.lock(path):
        second = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert "waiting for it" in second.stdout.readline()
        assert second.poll() is None
    assert second.communicate(timeout=60)[0].strip() == "held"


def test_what_another_process_has_built_before_the_lock_is_not_built_again(
    caffe_like_tree, tmp_path, fake_tools, monkeypatch
):
    make_objects(fake_tools)
    monkeypatch.setattr(check, "fault", lambda folder: "")
    monkeypatch.setattr(check, "load_fault", lambda prefix: "")
    (caffe_like_tree / "LICENSE").write_text("BSD")
    prefix = built(caffe_like_tree, tmp_path / "cache")
    write_program(fake_tools / "ninja", "exit 1")
    assert built(caffe_like_tree, tmp_path / "cache") == prefix


def test_a_build_that_no_longer_loads_is_built_again_with_a_word(
    caffe_like_tree, tmp_path, fake_tools, monkeypatch, capsys
):
    make_objects(fake_tools)
    monkeypatch.setattr(check, "fault", lambda folder: "")
    monkeypatch.setattr(check, "load_fault", lambda prefix: "libglog.so.1 is gone")
    (caffe_like_tree / "LICENSE").write_text("BSD")
    prefix = built(caffe_like_tree, tmp_path / "cache")
    assert "no longer loads" not in capsys.readouterr().out
    assert not build.is_usable(prefix) and not capsys.readouterr().out
    built(caffe_like_tree, tmp_path / "cache")
    said = "caffe: the Caffe built before no longer loads (libglog.so.1 is gone), so it is built"
    assert said in capsys.readouterr().out
