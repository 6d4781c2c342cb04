"""Caffe's source: edits, the key of a build, apt's configuration and where a tree comes from."""

import dataclasses
import errno
import os
import pathlib
import platform
import shutil
import types

import numpy as np
import pytest

from caffe_build import apt, edits, source
from caffe_build.edits_cpu import CPU_EDITS
from caffe_build.edits_gpu import GPU_EDITS
from caffe_build.errors import (
    EditError,
    SourceError,
)
from caffe_build.options import CPU, cache_key
from tests.support.builds import FACTS

# --- edits

EDIT = edits.Edit("src/a.cpp", "limit(a, b)", "limit(a)")


def test_an_edit_takes_and_takes_only_once():
    edited = edits.edit_text("x; limit(a, b); y", EDIT)
    assert edited == "x; limit(a); y"
    assert edits.edit_text(edited, EDIT) == edited


def test_an_edit_without_a_place_is_an_error_that_names_file_and_text():
    with pytest.raises(EditError, match=r"^src/a.cpp lacks the text around 'limit\(a, b\)'"):
        edits.edit_text("another text", EDIT)
    for edit in GPU_EDITS:  # of which some have many lines
        with pytest.raises(EditError) as caught:
            edits.edit_text("another text", edit)
        assert len(str(caught.value)) < 250


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


def test_an_edit_that_was_interrupted_is_made_by_the_next_run(tmp_path, monkeypatch):
    file, added = tmp_path / EDIT.file, edits.Addition("src/b.cpp", "an added file")
    file.parent.mkdir()
    file.write_text("x; limit(a, b); y")

    def write_half(path, text, **options):
        path.write_bytes(text[: len(text) // 2].encode())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "write_text", write_half)
        with pytest.raises(KeyboardInterrupt):
            edits.apply_edits(tmp_path, (EDIT,))
        with pytest.raises(KeyboardInterrupt):
            edits.add_files(tmp_path, (added,))
    assert file.read_text() == "x; limit(a, b); y" and not (tmp_path / added.file).exists()
    edits.apply_edits(tmp_path, (EDIT,))
    edits.add_files(tmp_path, (added,))
    assert file.read_text() == "x; limit(a); y"
    assert (tmp_path / added.file).read_text() == added.text


def test_no_edit_makes_its_own_old_text_again():
    assert all(edit.old not in edit.new for edit in GPU_EDITS)
    assert set(CPU_EDITS) < set(GPU_EDITS)


def test_the_pixels_of_a_datum_are_an_array_that_can_be_written_to():
    code = "np.fromstring(datum.data, dtype=np.uint8)"  # in caffe.io.datum_to_array
    for edit in CPU_EDITS:
        if edit.old in code:
            code = edits.edit_text(code, edit)
    datum = types.SimpleNamespace(data=b"\1\2")
    array = eval(code, {"np": np, "datum": datum})
    array[0] = 3
    assert array.tolist() == [3, 2] and datum.data == b"\1\2"


def test_added_files_are_written_once(tmp_path):
    added = edits.Addition("include/a.hpp", "text")
    edits.add_files(tmp_path, (added,))
    os.utime(tmp_path / added.file, (0, 0))
    edits.add_files(tmp_path, (added,))
    assert (tmp_path / added.file).read_text() == "text" and (
        tmp_path / added.file
    ).stat().st_mtime == 0
    (tmp_path / added.file).write_text("an older one")
    edits.add_files(tmp_path, (added,))
    assert (tmp_path / added.file).read_text() == "text"


# --- the key


def test_the_key_changes_with_everything_it_is_made_of():
    keys = [cache_key("s", CPU, FACTS), cache_key("t", CPU, FACTS)]
    keys += [cache_key("s", CPU, {**FACTS, name: "other"}) for name in FACTS]
    keys += [
        cache_key(
            "s", dataclasses.replace(CPU, definitions={**CPU.definitions, name: "other"}), FACTS
        )
        for name in CPU.definitions
    ]
    keys += [cache_key("s", dataclasses.replace(CPU, edits=CPU.edits[1:]), FACTS)]
    keys += [
        cache_key("s", dataclasses.replace(CPU, additions=(edits.Addition("a.hpp", text),)), FACTS)
        for text in ("1", "2")
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key("s", CPU, FACTS) == keys[0]


def test_the_key_of_a_tree_follows_its_sources_only(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.cpp").write_text("1")
    before = source.hash_tree(tmp_path)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "a.o").write_text("object")
    (tmp_path / "_caffe.so").symlink_to("nowhere")
    assert source.hash_tree(tmp_path) == before
    (tmp_path / "src" / "a.cpp").write_text("2")
    assert source.hash_tree(tmp_path) != before


def test_a_file_of_a_tree_may_have_any_name(caffe_like_tree, tmp_path):
    name = os.fsdecode(b"caf\xe9.txt")
    (caffe_like_tree / name).touch()
    with open(tmp_path / "log", "w") as log:
        source.choose_source(str(caffe_like_tree)).unpack(tmp_path / "copy", log)
    assert (tmp_path / "copy" / name).is_file()


def test_a_file_or_folder_of_a_tree_that_cannot_be_read_is_named(caffe_like_tree, monkeypatch):
    (caffe_like_tree / "memory").symlink_to("/proc/self/mem")  # no one can read its beginning
    with pytest.raises(SourceError, match=r"tree/memory cannot be read \(Input/output error\): "):
        source.choose_source(str(caffe_like_tree))
    (caffe_like_tree / "memory").unlink()

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match=r"tree cannot be read \(Permission denied\): mend it"):
        source.choose_source(str(caffe_like_tree))


def test_what_a_link_of_a_tree_leads_to_belongs_to_it(tmp_path):
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    for folder in (tree, elsewhere):
        folder.mkdir()
    (tree / "src").symlink_to(elsewhere)
    (elsewhere / "a.cpp").write_text("1")
    before = source.hash_tree(tree)
    (elsewhere / "a.cpp").write_text("2")
    assert source.hash_tree(tree) != before
    with open(tmp_path / "log", "w") as log:
        source.Tree(tree, source.hash_tree(tree)).unpack(tmp_path / "copy", log)
    assert (tmp_path / "copy/src/a.cpp").read_text() == "2"


def test_a_pipe_in_a_tree_is_no_source(tmp_path):
    tree = tmp_path / "tree"
    (tree / "src").mkdir(parents=True)
    (tree / "src/a.cpp").write_text("1")
    before = source.hash_tree(tree)
    os.mkfifo(tree / "pipe")
    assert source.hash_tree(tree) == before
    with open(tmp_path / "log", "w") as log:
        source.Tree(tree, source.hash_tree(tree)).unpack(tmp_path / "copy", log)
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["src"]


def test_a_link_of_a_tree_to_a_folder_around_it_is_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/b").symlink_to(tmp_path / "b")
    assert source.hash_tree(tmp_path)  # b twice, which ends
    (tmp_path / "b/a").symlink_to(tmp_path / "a")
    with pytest.raises(SourceError, match="a/b/a is a link to a folder that holds it.*remove"):
        source.hash_tree(tmp_path)


# --- apt's configuration

ONE_LINE = """
# deb http://off.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/d.gpg] http://mirror.example/debian bookworm main contrib # x
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
        "http://mirror.example/debian",
        ("bookworm",),
        ("main", "contrib"),
        {"signed-by": "/usr/share/d.gpg"},
    )
    # A vendor may call its suite bookworm too; the archive that also has the updates comes first.
    assert uris(entries, "bookworm") == [
        "http://mirror.example/debian",
        "https://vendor.example/apt",
    ]
    assert uris(list(reversed(entries)), "bookworm")[0] == "http://mirror.example/debian"
    assert uris(entries, "trixie") == []


def test_deb822_sources():
    entries = apt.parse_sources(DEB822)
    assert uris(entries, "trixie") == [
        "http://mirror.example/debian/",
        "http://one.example/debian",
        "http://two.example/debian",
    ]
    assert entries[0].components == ("main", "non-free-firmware")
    assert entries[0].as_source("bullseye", "main") == (
        "Types: deb-src\nURIs: http://mirror.example/debian/\n"
        "Suites: bullseye\nComponents: main\nsigned-by: \n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----\n"
    )


def test_ubuntus_sources():
    (archive,) = apt.archives(apt.parse_sources(UBUNTU), "noble")
    assert archive.as_source(source.UBUNTU.suite, source.UBUNTU.component) == (
        "Types: deb-src\nURIs: http://proxy.example:8080/ubuntu/\n"
        "Suites: focal\nComponents: universe\n"
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


@pytest.mark.parametrize(
    "release, expected",
    [
        ({"ID": "debian"}, source.DEBIAN),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, source.UBUNTU),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, source.UBUNTU),
    ],
)
def test_the_package_of_a_distribution(monkeypatch, release, expected):
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    assert source.choose_source(None) == expected


def test_other_distributions_are_told_where_a_tree_comes_from(monkeypatch):
    release = {"ID": "fedora", "PRETTY_NAME": "Fedora"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    with pytest.raises(SourceError, match="Fedora is neither.*CAFFE_SOURCE=DIR.*99bd997"):
        source.choose_source(None)


def test_a_tree_that_is_no_caffe_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no src/caffe/proto/caffe.proto"):
        source.choose_source(str(tmp_path))


def test_a_tree_is_copied_without_what_was_built_in_it(caffe_like_tree, tmp_path):
    (caffe_like_tree / "build").mkdir()
    with open(tmp_path / "log", "w") as log:
        source.choose_source(str(caffe_like_tree)).unpack(tmp_path / "copy", log)
    assert (tmp_path / "copy" / "src/caffe/proto/caffe.proto").is_file() and not (
        tmp_path / "copy" / "build"
    ).exists()


def test_a_tree_that_changes_before_it_is_copied_is_refused(caffe_like_tree, tmp_path):
    tree = source.choose_source(str(caffe_like_tree))
    (caffe_like_tree / "more.cpp").touch()
    with (
        open(tmp_path / "log", "w") as log,
        pytest.raises(SourceError, match=f"^{caffe_like_tree} was changed while it was copied"),
    ):
        tree.unpack(tmp_path / "copy", log)


def test_a_package_with_a_wrong_checksum_is_refused(tmp_path):
    (tmp_path / "x.dsc").write_text("not what was expected")
    with pytest.raises(SourceError, match="x.dsc has SHA-256 .* expected was 0000"):
        source._check_sum(tmp_path / "x.dsc", "0000")


def test_an_unreachable_archive_is_one_error_with_the_remedy(monkeypatch, tmp_path):
    if not shutil.which("apt-get"):
        pytest.skip("needs apt")
    nowhere = apt.Entry(f"file:{tmp_path}/nowhere", ("bookworm",), ("main",))
    monkeypatch.setattr(apt, "read_entries", lambda: [nowhere])
    release = {"VERSION_CODENAME": "bookworm"}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    with (
        open(tmp_path / "log", "w") as log,
        pytest.raises(SourceError, match="could not fetch .*nowhere.*CAFFE_SOURCE=DIR"),
    ):
        source.DEBIAN.unpack(tmp_path / "tree", log)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
