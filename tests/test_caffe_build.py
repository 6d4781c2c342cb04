"""Getting and building Caffe: every decision on the way, without a network and without compiling Caffe."""
import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_build import apt, build, check, edits, locate, source
from caffe_build.errors import CheckError, CompileError, DiskError, EditError, PrefixError, SourceError
from caffe_build.options import CPU, cache_key

from tests.conftest import ROOT, run

# --- edits

EDIT = edits.Edit("src/a.cpp", "limit(a, b)", "limit(a)")


def test_an_edit_takes_and_takes_only_once():
    edited = edits.edit_text("x; limit(a, b); y", EDIT)
    assert edited == "x; limit(a); y"
    assert edits.edit_text(edited, EDIT) == edited


def test_an_edit_without_a_place_is_an_error_that_names_file_and_text():
    with pytest.raises(EditError, match=r"src/a.cpp has neither 'limit\(a, b\)' nor 'limit\(a\)'"):
        edits.edit_text("another text", EDIT)


def test_apply_edits_leaves_edited_files_untouched(tmp_path):
    file = tmp_path / EDIT.file
    file.parent.mkdir()
    file.write_text("limit(a, b)")
    edits.apply_edits(tmp_path, (EDIT,))
    os.utime(file, (0, 0))
    edits.apply_edits(tmp_path, (EDIT,))
    assert file.read_text() == "limit(a)" and file.stat().st_mtime == 0  # ninja goes by the time
    file.unlink()
    with pytest.raises(EditError, match="is missing"):
        edits.apply_edits(tmp_path, (EDIT,))


def test_no_edit_makes_its_own_old_text_again():
    assert all(edit.old not in edit.new for edit in edits.GPU_EDITS)
    assert set(edits.CPU_EDITS) < set(edits.GPU_EDITS)


def test_added_files_are_written_once(tmp_path):
    added = edits.Addition("include/a.hpp", "text")
    edits.add_files(tmp_path, (added,))
    os.utime(tmp_path / added.file, (0, 0))
    edits.add_files(tmp_path, (added,))
    assert (tmp_path / added.file).read_text() == "text" and (tmp_path / added.file).stat().st_mtime == 0
    (tmp_path / added.file).write_text("an older one")
    edits.add_files(tmp_path, (added,))
    assert (tmp_path / added.file).read_text() == "text"


# --- the key

FACTS = {"release": "debian 12", "machine": "x86_64", "python": "cpython-311", "numpy": "2"}


def test_the_key_changes_with_everything_it_is_made_of():
    keys = [cache_key("s", CPU, FACTS), cache_key("t", CPU, FACTS)]
    keys += [cache_key("s", CPU, {**FACTS, name: "other"}) for name in FACTS]
    keys += [
        cache_key("s", dataclasses.replace(CPU, definitions={**CPU.definitions, name: "other"}), FACTS) for name in CPU.definitions
    ]
    keys += [cache_key("s", dataclasses.replace(CPU, edits=CPU.edits[1:]), FACTS)]
    keys += [cache_key("s", dataclasses.replace(CPU, additions=(edits.Addition("a.hpp", text),)), FACTS) for text in ("1", "2")]
    assert len(set(keys)) == len(keys)
    assert cache_key("s", CPU, FACTS) == keys[0]


def test_the_key_of_a_tree_follows_its_sources_only(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.cpp").write_text("1")
    before = source.Tree(tmp_path).id
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "a.o").write_text("object")
    (tmp_path / "_caffe.so").symlink_to("nowhere")
    assert source.Tree(tmp_path).id == before
    (tmp_path / "src" / "a.cpp").write_text("2")
    assert source.Tree(tmp_path).id != before


# --- apt's configuration

ONE_LINE = """
# deb http://off.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/d.gpg] http://mirror.example/debian bookworm main contrib  # trailing words
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-updates main
deb http://security.example/debian-security bookworm-security main
deb cdrom:[Debian 12]/ bookworm main
deb [trusted=yes] https://vendor.example/apt bookworm main
deb https://flat.example/repo ./
"""
DEB822 = """\
# The distribution
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: trixie trixie-updates
# between the fields
Components: main non-free-firmware
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://old.example/debian
Suites: trixie
Components: main
Enabled: no

Types: deb
URIs: http://one.example/debian http://two.example/debian
Suites: trixie
Components: main
"""
UBUNTU = """\
Types: deb
URIs: http://proxy.example:8080/ubuntu/
Suites: noble noble-updates noble-backports
Components: main universe restricted multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Types: deb
URIs: http://proxy.example:8080/security/
Suites: noble-security
Components: main universe
"""


def uris(entries, codename):
    return [entry.uri for entry in apt.archives(entries, codename)]


def test_one_line_sources():
    entries = apt.parse_list(ONE_LINE)
    assert entries[0] == apt.Entry(
        "http://mirror.example/debian", ("bookworm",), ("main", "contrib"), {"signed-by": "/usr/share/keyrings/d.gpg"}
    )
    # A vendor may call its suite bookworm too; the archive that also has the updates comes first.
    assert uris(entries, "bookworm") == ["http://mirror.example/debian", "https://vendor.example/apt"]
    assert uris(list(reversed(entries)), "bookworm")[0] == "http://mirror.example/debian"
    assert uris(entries, "trixie") == []


def test_deb822_sources():
    entries = apt.parse_sources(DEB822)
    assert uris(entries, "trixie") == ["http://mirror.example/debian/", "http://one.example/debian", "http://two.example/debian"]
    assert entries[0].components == ("main", "non-free-firmware")
    assert entries[0].as_source("bullseye", "main") == (
        "Types: deb-src\nURIs: http://mirror.example/debian/\nSuites: bullseye\nComponents: main\nsigned-by: \n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----\n"
    )


def test_ubuntus_sources():
    (archive,) = apt.archives(apt.parse_sources(UBUNTU), "noble")
    assert archive.as_source(source.UBUNTU.suite, source.UBUNTU.component) == (
        "Types: deb-src\nURIs: http://proxy.example:8080/ubuntu/\nSuites: focal\nComponents: universe\n"
        "signed-by: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n"
    )


def test_read_entries_takes_both_kinds_of_files(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d" / "ubuntu.sources").write_text(UBUNTU)
    (tmp_path / "sources.list.d" / "ubuntu.sources.save").write_text(DEB822)
    entries = apt.read_entries(tmp_path)
    assert uris(entries, "noble") and uris(entries, "bookworm") and not uris(entries, "trixie")
    assert apt.read_entries(tmp_path / "nowhere") == []


# --- the source


@pytest.mark.parametrize("release, expected", [
    ("ID=debian\nVERSION_CODENAME=trixie", source.DEBIAN),
    ("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble", source.UBUNTU),
    ('ID=linuxmint\nID_LIKE="ubuntu debian"\nUBUNTU_CODENAME=jammy', source.UBUNTU),
])
def test_the_package_of_a_distribution(monkeypatch, release, expected):
    monkeypatch.setattr(apt, "os_release", lambda: apt.read_os_release(release))
    assert source.choose_source(None) == expected


def test_other_distributions_are_told_where_a_tree_comes_from(monkeypatch):
    monkeypatch.setattr(apt, "os_release", lambda: {"ID": "fedora", "PRETTY_NAME": "Fedora"})
    with pytest.raises(SourceError, match="Fedora is neither.*CAFFE_SOURCE=DIR.*99bd997"):
        source.choose_source(None)


def test_a_tree_that_is_no_caffe_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no src/caffe/proto/caffe.proto"):
        source.choose_source(str(tmp_path))


def test_a_tree_is_copied_without_what_was_built_in_it(caffe_like_tree, tmp_path):
    (caffe_like_tree / "build").mkdir()
    with open(tmp_path / "log", "w") as log:
        source.choose_source(str(caffe_like_tree)).unpack(tmp_path / "copy", log)
    assert (tmp_path / "copy" / "src/caffe/proto/caffe.proto").is_file() and not (tmp_path / "copy" / "build").exists()


def test_a_package_with_a_wrong_checksum_is_refused(tmp_path):
    (tmp_path / "x.dsc").write_text("not what was expected")
    with pytest.raises(SourceError, match="x.dsc has SHA-256 .* expected was 0000"):
        source._check_sum(tmp_path / "x.dsc", "0000")


def test_an_unreachable_archive_is_one_error_with_the_remedy(monkeypatch, tmp_path):
    if not shutil.which("apt-get"):
        pytest.skip("needs apt")
    nowhere = apt.Entry(f"file:{tmp_path}/nowhere", ("bookworm",), ("main",))
    monkeypatch.setattr(apt, "read_entries", lambda: [nowhere])
    monkeypatch.setattr(apt, "os_release", lambda: {"VERSION_CODENAME": "bookworm"})
    with open(tmp_path / "log", "w") as log, pytest.raises(SourceError, match="could not fetch .*nowhere.*CAFFE_SOURCE=DIR"):
        source.DEBIAN.unpack(tmp_path / "tree", log)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


# --- building


@pytest.fixture
def caffe_like_tree(tmp_path):
    """A source tree with what is looked at before compiling, the edited files in it."""
    tree = tmp_path / "tree"
    for edit in edits.CPU_EDITS:
        path = tree / edit.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + edit.old + "\n")
    (tree / "src/caffe/proto").mkdir()
    (tree / "src/caffe/proto/caffe.proto").write_text("syntax = 'proto2';")
    return tree


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


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def fake_tools(tmp_path, monkeypatch):
    """cmake, ninja, c++ and protoc that do nothing and succeed; a test overwrites the one that is to fail."""
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
    write_program(tools / "ninja", 'mkdir -p "$2/lib" "$2/tools"; echo "[1/1] Linking"; '
                                   'for file in lib/_caffe.so lib/libcaffe.so.1.0.0 tools/caffe; do : > "$2/$file"; done; '
                                   'ln -sf libcaffe.so.1.0.0 "$2/lib/libcaffe.so"')


def test_a_build_ends_in_a_whole_tree_and_nothing_else(caffe_like_tree, tmp_path, fake_tools, monkeypatch):
    make_objects(fake_tools)
    monkeypatch.setattr(check, "fault", lambda folder: "")
    (caffe_like_tree / "LICENSE").write_text("BSD")
    (caffe_like_tree / "python/caffe/_caffe.so").symlink_to("/build/lib/_caffe.so")
    prefix = built(caffe_like_tree, tmp_path / "cache")
    assert {path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if not path.is_dir()} == {
        "LICENSE", "about.json", "bin/caffe", "lib/libcaffe.so", "lib/libcaffe.so.1.0.0", "python/caffe/_caffe.so", "python/caffe/io.py"}
    assert not (prefix / "python/caffe/_caffe.so").is_symlink()
    assert sorted(path.suffix for path in prefix.parent.iterdir()) == ["", ".lock", ".log"]
    assert build.is_current(prefix) and build.options_of(prefix) == CPU
    monkeypatch.setattr(build, "CPU", dataclasses.replace(CPU, edits=()))
    assert not build.is_current(prefix)


def test_a_failed_compilation_keeps_its_work_and_takes_no_name(caffe_like_tree, tmp_path, fake_tools):
    write_program(fake_tools / "ninja", "echo '[1/2] Building'; echo 'a.cpp:1: error: no'; exit 1")
    with pytest.raises(CompileError, match=r"(?s)the compiler failed; the log is .*\.log.*a.cpp:1: error: no"):
        built(caffe_like_tree, tmp_path / "cache")
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".build", ".lock", ".log"]


def test_a_build_that_does_not_work_takes_no_name(caffe_like_tree, tmp_path, fake_tools):
    make_objects(fake_tools)
    (caffe_like_tree / "LICENSE").write_text("BSD")
    (caffe_like_tree / "python/caffe/__init__.py").write_text("from . import _caffe")
    with pytest.raises(CheckError, match="does not work: ImportError"):
        built(caffe_like_tree, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if not path.suffix]


@pytest.mark.parametrize("tool, text, error, words", [
    ("cmake", "echo 'CMake Error: no Boost'; exit 1", CompileError, "CMake Error: no Boost"),
    ("cmake", "echo 'cp: x: No space left on device'; exit 1", DiskError, "is full.*XDG_CACHE_HOME"),
    ("c++", "exit 1", CompileError, "boost_python.*setup.sh.*distribution's own"),
])
def test_what_fails_is_named_with_its_remedy(caffe_like_tree, tmp_path, fake_tools, tool, text, error, words):
    write_program(fake_tools / tool, text)
    with pytest.raises(error, match=f"(?s){words}"):
        built(caffe_like_tree, tmp_path / "cache")


def test_missing_tools_and_little_room(caffe_like_tree, tmp_path, fake_tools, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 2**40, 2**20))
        with pytest.raises(DiskError, match="has 1 MB free"):
            built(caffe_like_tree, tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(CompileError, match="missing: cmake, ninja, c.., protoc.*setup.sh"):
        built(caffe_like_tree, tmp_path / "cache")


def test_the_second_of_two_builds_waits_and_says_so(tmp_path, capfd):
    path = tmp_path / "lock"
    code = "import sys, pathlib, caffe_build.build as b\nwith b.lock(pathlib.Path(sys.argv[1])) as waited: print(waited)"
    with build.lock(path) as waited:
        assert not waited
        second = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert "waiting for it" in second.stdout.readline()
        assert second.poll() is None
    assert second.communicate(timeout=10)[0].strip() == "True"


# --- which Caffe


@pytest.mark.parametrize("layout", ["python", "lib/python3/dist-packages", "build/install/python"])
def test_layouts_of_a_built_caffe(tmp_path, layout):
    (tmp_path / layout / "caffe").mkdir(parents=True)
    (tmp_path / layout / "caffe" / "_caffe.so").touch()
    folder = locate.python_folder(tmp_path)
    assert folder == tmp_path / layout and locate.prefix_of(folder) == tmp_path


def test_a_prefix_that_is_none(tmp_path):
    with pytest.raises(PrefixError, match="is no built Caffe.*python/caffe/_caffe.so"):
        locate.python_folder(tmp_path)


def environment(**more):
    return {**{name: value for name, value in os.environ.items() if not name.startswith("CAFFE_")}, **more}


def test_link_writes_one_line_and_only_when_it_must(tmp_path, monkeypatch):
    monkeypatch.setattr(locate.sysconfig, "get_path", lambda name: str(tmp_path))
    locate.link(Path("/a/python"))
    (file,) = tmp_path.iterdir()
    os.utime(file, (0, 0))
    locate.link(Path("/a/python"))
    assert file.read_text() == "/a/python\n" and file.stat().st_mtime == 0
    locate.link(Path("/b/python"))
    assert file.read_text() == "/b/python\n"


def test_named_prefixes_that_do_not_work_are_one_line(tmp_path):
    answer = run("caffe_build", env=environment(CAFFE_PREFIX=str(tmp_path)))
    assert answer.returncode == PrefixError.code
    assert answer.stderr.count("\n") == 1 and "is no built Caffe" in answer.stderr
    package = tmp_path / "python" / "caffe"
    package.mkdir(parents=True)
    (package / "_caffe.so").touch()
    (package / "__init__.py").write_text("raise ImportError('libglog.so.0: cannot open shared object file')")
    answer = run("caffe_build", env=environment(CAFFE_PREFIX=str(tmp_path)))
    assert answer.returncode == PrefixError.code
    assert answer.stderr.count("\n") == 1 and "does not work: ImportError: libglog.so.0" in answer.stderr


def test_a_broken_caffe_on_pythons_path_is_named(tmp_path):
    (tmp_path / "caffe").mkdir()
    (tmp_path / "caffe" / "__init__.py").write_text("raise ImportError('broken')")
    answer = run("caffe_build", env=environment(PYTHONPATH=str(tmp_path)))
    assert answer.returncode == PrefixError.code and f"({tmp_path}) does not work" in answer.stderr


def test_a_named_source_that_is_none_and_bad_arguments(tmp_path):
    answer = run("caffe_build", env=environment(CAFFE_SOURCE=str(tmp_path)))
    assert answer.returncode == SourceError.code and answer.stderr.count("\n") == 1
    answer = run("caffe_build", "--jobs", "0")
    assert answer.returncode == 2 and "at least 1" in answer.stderr


def test_an_interpreter_without_the_packages_is_told_which_to_use():
    bare = subprocess.run([sys.executable, "-S", "-m", "caffe_build"], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert bare.returncode == CompileError.code
    assert bare.stderr.count("\n") == 1 and "run caffe_build/setup.sh" in bare.stderr


def test_print_prefix(tmp_path):
    package = tmp_path / "python" / "caffe"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    answer = run("caffe_build", "--print-prefix", env=environment(PYTHONPATH=str(package.parent)))
    assert (answer.returncode, answer.stdout) == (0, f"{tmp_path}\n")


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, caffe_like_tree):
    (tmp_path / "file").touch()
    answer = run("caffe_build", env=environment(XDG_CACHE_HOME=str(tmp_path / "file"), CAFFE_SOURCE=str(caffe_like_tree)))
    assert answer.returncode == DiskError.code
    assert answer.stderr.count("\n") == 1 and "XDG_CACHE_HOME" in answer.stderr


# --- setup.sh


def setup_sh(tmp_path, *arguments, installed=False, sudo=False, **variables):
    """Runs setup.sh where `id -u` says 1000, with a dpkg that has all or no packages, and without apt's real programs."""
    tools = tmp_path / "tools"
    write_program(tools / "id", "echo 1000")
    write_program(tools / "dpkg-query", 'shift 2; for name; do echo "installed $name"; done' if installed else "exit 1")
    write_program(tools / "apt-get", f"echo apt-get $* >> {tmp_path}/calls; echo 'E: Unable to fetch'; exit 100")
    write_program(tools / "apt-cache", '[ "$2" != libglib2.0-0t64 ]')
    if sudo:
        write_program(tools / "sudo", '"$@"')
    for name in ("bash", "dirname", "sed", "tr", "grep", "tail", "mktemp", "rm", "env", "cat", "sha256sum", "cut"):
        if not (tools / name).exists():
            (tools / name).symlink_to(shutil.which(name))
    command = [tools / "bash", ROOT / "caffe_build" / "setup.sh", *arguments]
    environment = {"PATH": str(tools), "TMPDIR": str(tmp_path), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_setup_without_root_prints_what_to_install(tmp_path):
    answer = setup_sh(tmp_path)
    assert answer.returncode == 1 and "needs root" in answer.stderr
    command = answer.stderr.splitlines()[-1]
    assert command.startswith("  sudo apt-get install")
    assert {"python3-venv", "libglib2.0-0", "libboost-python-dev", "libopenblas-dev"} <= set(command.split())
    assert not (tmp_path / "calls").exists()


def test_setup_check(tmp_path):
    answer = setup_sh(tmp_path, "--check", installed=True)
    assert (answer.returncode, answer.stdout) == (0, "setup: all distribution packages are there\n")
    assert setup_sh(tmp_path, "--check").returncode == 1


def test_setup_with_a_caffe_of_ones_own_asks_for_no_build_packages(tmp_path):
    answer = setup_sh(tmp_path, "--check", CAFFE_PREFIX="/somewhere")
    assert "libboost" not in answer.stderr and "libgl1" in answer.stderr


def test_setup_says_what_apt_said(tmp_path):
    answer = setup_sh(tmp_path, sudo=True)
    assert answer.returncode == 1
    assert "E: Unable to fetch" in answer.stderr and "could not install" in answer.stderr
    assert "--no-install-recommends" in (tmp_path / "calls").read_text()
