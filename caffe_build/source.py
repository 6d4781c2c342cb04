"""Caffe's source: the distribution's source package, or a tree that the user has.

Debian 11 (bullseye) and Ubuntu 20.04 (focal) were the last releases with Caffe 1.0, both at BVLC
99bd997 and with the same patches for Python 3. The archive that this machine uses still has their
source packages: apt fetches one into a folder of ours and checks its signatures, without a change
to the machine's own apt configuration.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from caffe_build import apt
from caffe_build.errors import SourceError

_NO_SOURCE = (
    "Pass an unpacked source tree instead: CAFFE_SOURCE=DIR, from Debian's source package caffe "
    "1.0.0+git20180821.99bd997-8, or BVLC Caffe at commit 99bd997"
)
# Files that a tree in which someone has worked may hold besides the source.
_NOT_SOURCE = shutil.ignore_patterns(
    ".git",
    "build",
    ".build_*",
    "build_*",
    "distribute",
    "__pycache__",
    "*.pyc",
    "*.o",
    "*.so",
    "*.caffemodel",
    "*_lmdb",
)


@dataclass(frozen=True)
class Package:
    """A source package.

    Attributes:
        suite: Release that has it.
        component: Part of the release.
        version: Its version.
        dsc_sha256: Checksum of its .dsc, which has the checksums of its other files.
    """

    suite: str
    component: str
    version: str
    dsc_sha256: str

    @property
    def id(self) -> str:
        """Its hash."""
        return self.dsc_sha256

    def unpack(self, destination: Path, log: TextIO) -> None:
        """Fetch the package with apt and unpack it as `destination`.

        Raises:
            SourceError: apt cannot fetch the package, or it is not the expected one.
        """
        release = platform.freedesktop_os_release()
        codename = release.get("UBUNTU_CODENAME") or release.get("VERSION_CODENAME", "")
        archives = apt.archives(apt.read_entries(), codename)
        if not archives:
            raise SourceError(
                f"apt's configuration (/etc/apt) names no archive for "
                f"{codename or 'this release'}. {_NO_SOURCE}"
            )
        for archive in archives:
            with tempfile.TemporaryDirectory(prefix="apt-", dir=destination.parent) as folder:
                if self._fetch(Path(folder), archive, log):
                    (dsc,) = Path(folder).glob("*.dsc")
                    _check_sum(dsc, self.dsc_sha256)
                    unpack = ["dpkg-source", "--no-copy", "-x", dsc.name, str(destination)]
                    if not _run(unpack, log, cwd=folder):
                        raise SourceError(
                            f"dpkg-source could not unpack {dsc.name}; {log.name} has its output"
                        )
                    return
        tried = ", ".join(archive.uri for archive in archives)
        raise SourceError(
            f"apt could not fetch the source package caffe {self.version} ({self.suite}) "
            f"from {tried}; {log.name} has apt's output. If the network is down, run it again "
            f"later. {_NO_SOURCE}"
        )

    def _fetch(self, folder: Path, archive: apt.Entry, log: TextIO) -> bool:
        """Fetch the package's files from an archive into a folder; return whether that worked."""
        (folder / "parts").mkdir()
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "cache" / "archives" / "partial").mkdir(parents=True)
        (folder / "parts" / "caffe.sources").write_text(
            archive.as_source(self.suite, self.component)
        )
        settings = {
            "Dir::Etc::SourceList": "/dev/null",
            "Dir::Etc::SourceParts": folder / "parts",
            "Dir::State::Lists": folder / "lists",
            "Dir::Cache": folder / "cache",
            # apt's own user may not enter the home directory that our cache is in.
            "APT::Sandbox::User": "root",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        wanted = ["--download-only", "--only-source", f"caffe={self.version}"]
        return _run(["apt-get", *options, "-q", "update"], log, cwd=folder) and _run(
            ["apt-get", *options, "-q", "source", *wanted], log, cwd=folder
        )


DEBIAN = Package(
    "bullseye",
    "main",
    "1.0.0+git20180821.99bd997-8",
    "c492f4893fc1ba1fb514b2d9b4763bc78dc93571ea24adc6e604eccbb93cdd64",
)
UBUNTU = Package(
    "focal",
    "universe",
    "1.0.0+git20180821.99bd997-5build3",
    "94dff64484850a890a99831ad87e7b05e9b73a0c56c4440f9f2829d21b325e14",
)


@dataclass(frozen=True)
class Tree:
    """An unpacked source tree of the user; it is copied and never changed.

    Attributes:
        root: Its top folder.
        id: Its hash, as `hash_tree` returns it.
    """

    root: Path
    id: str

    def unpack(self, destination: Path, log: TextIO) -> None:
        """Copy the tree to `destination`.

        Raises:
            SourceError: The tree is no longer the one that was hashed.
        """
        print(f"copying {self.root}", file=log)
        for path in _source_files(self.root):
            copy = destination / path.relative_to(self.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        if hash_tree(destination) != self.id:
            raise SourceError(f"{self.root} was changed while it was copied: run it again")


def hash_tree(root: Path) -> str:
    """Return the hash of the names and contents of all source files in a tree.

    Raises:
        SourceError: A file cannot be read, or as `_source_files` does.
    """
    digest = hashlib.sha256()
    for path in _source_files(root):
        try:
            content_hash = _file_sum(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        name = os.fsencode(path.relative_to(root))
        digest.update(name + f"\0{content_hash}\n".encode())
    return digest.hexdigest()


def _source_files(root: Path) -> Iterator[Path]:
    """Yield the source files of a tree, in an order that is always the same.

    What a link leads to belongs to the source as if it lay there. Pipes, sockets and devices do
    not.

    Raises:
        SourceError: A folder cannot be read, or a link leads back to a folder that holds it.
    """
    for folder, subfolders, files in os.walk(root, onerror=_fail, followlinks=True):
        ignored = _NOT_SOURCE(folder, subfolders + files)
        subfolders[:] = sorted(set(subfolders) - ignored)
        for name in subfolders:
            path = Path(folder, name)
            if path.is_symlink() and _leads_back(path):
                raise SourceError(
                    f"{path} is a link to a folder that holds it, so that the source has no "
                    "end: remove the link"
                )
        for name in sorted(set(files) - ignored):
            path = Path(folder, name)
            if path.is_file():
                yield path


def choose_source(tree: str | None) -> Package | Tree:
    """Return the source to build.

    Args:
        tree: The user's tree (CAFFE_SOURCE), None for this distribution's source package.

    Raises:
        SourceError: The tree is none of Caffe, or the distribution has no package.
    """
    if tree:
        root = Path(os.path.realpath(os.path.expanduser(tree)))
        if not os.path.isfile(root / "src" / "caffe" / "proto" / "caffe.proto"):
            raise SourceError(
                f"CAFFE_SOURCE={tree} is no Caffe source tree: "
                "it has no src/caffe/proto/caffe.proto"
            )
        return Tree(root, hash_tree(root))
    release = platform.freedesktop_os_release()
    family = f"{release['ID']} {release.get('ID_LIKE', '')}".split()
    if "ubuntu" in family:
        return UBUNTU
    if "debian" in family:
        return DEBIAN
    raise SourceError(f"{release['PRETTY_NAME']} is neither Debian nor Ubuntu. {_NO_SOURCE}")


def _leads_back(link: Path) -> bool:
    """Return whether a link leads to a folder that the path to the link goes through."""
    target = os.path.realpath(link)
    return any(Path(os.path.realpath(parent)).is_relative_to(target) for parent in link.parents)


def _fail(error: OSError) -> None:
    """Raise the error of a folder that cannot be listed, which `os.walk` passes over otherwise."""
    raise _unreadable(error.filename, error) from error


def _unreadable(path: str | Path, error: OSError) -> SourceError:
    """Return the error of a file or folder of a tree that cannot be read."""
    return SourceError(f"{path} cannot be read ({error.strerror}): mend it, or take it away")


def _file_sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_sum(path: Path, expected: str) -> None:
    actual = _file_sum(path)
    if actual != expected:
        raise SourceError(
            f"{path.name} has SHA-256 {actual}, expected was {expected}: "
            "the archive does not hold the known package"
        )


def _run(command: list[str], log: TextIO, cwd: str | Path) -> bool:
    """Run a command, all output to the log; return whether it succeeded."""
    print("$", *command, file=log, flush=True)
    return (
        subprocess.run(
            command, cwd=cwd, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
        == 0
    )
