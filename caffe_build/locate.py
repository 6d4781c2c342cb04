"""Finds a Caffe in the cache, in a folder that the user names, or on Python's path.

It also puts a Caffe onto that path.
"""

import importlib.util
import json
import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

from caffe_build.errors import DiskError, PrefixError
from caffe_build.files import write_atomically

_LAYOUTS = ("python", "lib/python3/dist-packages", "build/install/python", "distribute/python")
_TREE_MARK = "# CAFFE_SOURCE="  # in the .pth file


def cache_folder() -> Path:
    """Return the folder of the builds: $XDG_CACHE_HOME/mcc-caffe, by default ~/.cache/mcc-caffe.

    A relative XDG_CACHE_HOME is ignored, as the XDG specification wants it.

    Raises:
        PrefixError: Neither XDG_CACHE_HOME nor a home folder is known.
    """
    try:
        named = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (named if named.is_absolute() else Path.home() / ".cache") / "mcc-caffe"
    except RuntimeError:
        raise PrefixError(
            "the user has no home folder for the cache of builds: set HOME or XDG_CACHE_HOME"
        ) from None


def python_folder(prefix: Path) -> Path:
    """Return the folder of a built Caffe that belongs on Python's path.

    Args:
        prefix: Top folder of a build, or of an installation.

    Raises:
        PrefixError: `prefix` is no built Caffe.
    """
    prefix = Path(os.path.realpath(os.path.expanduser(prefix)))
    for layout in _LAYOUTS:
        if any((prefix / layout / "caffe").glob("_caffe*.so")):
            return prefix / layout
    libraries = ", ".join(f"{layout}/caffe/_caffe.so" for layout in _LAYOUTS)
    raise PrefixError(
        f"{prefix} is no built Caffe with its Python part: it has none of {libraries}"
    )


def importable_folder() -> Path | None:
    """Return the folder that `import caffe` would take Caffe from, None if there is none.

    A folder called caffe without `__init__.py`, such as Caffe's source tree in the folder where a
    command runs, is no Caffe.
    """
    spec = importlib.util.find_spec("caffe")
    if not spec or not spec.origin:
        return None
    folder = Path(spec.origin).parent
    # A module, caffe.py, lies in that folder itself, a package one level below it.
    return folder.parent if spec.submodule_search_locations is not None else folder


def folder_before_link() -> Path | None:
    """Return the folder of a caffe that Python would take before any that `link` names.

    Python looks into PYTHONPATH and among its packages first, and then follows the .pth files.
    """
    importable = importable_folder()
    if importable is None or importable == linked_folder():
        return None
    path = [os.path.realpath(entry) for entry in sys.path]
    packages = os.path.realpath(link_path().parent)
    before = path[: path.index(packages) + 1] if packages in path else path
    return importable if os.path.realpath(importable) in before else None


def prefix_of(python_folder: Path) -> Path:
    """Return the top folder of the Caffe whose Python folder this is."""
    for layout in sorted(_LAYOUTS, key=len, reverse=True):  # "python" is the end of others
        if python_folder.as_posix().endswith(f"/{layout}"):
            return python_folder.parents[layout.count("/")]
    return python_folder


def build_name(python_folder: Path) -> str:
    """Return the name of our build, such as "CPU"; an empty text for a Caffe of another origin."""
    return read_about(python_folder.parent).get("options", "")


def read_about(prefix: Path) -> dict[str, Any]:
    """Return what a build of ours says of itself; {} where it says nothing, or is damaged."""
    try:
        about = json.loads((prefix / "about.json").read_text())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def is_linked_build(python_folder: Path) -> bool:
    """Tell whether a Caffe is a build of ours that `link` put onto this interpreter's path."""
    return linked_folder() == python_folder and bool(build_name(python_folder))


def link_path() -> Path:
    """Return the .pth file that `link` writes."""
    return Path(sysconfig.get_path("purelib")) / "mcc_caffe_caffe.pth"


def linked_folder() -> Path | None:
    """Return the folder that `link` put onto this interpreter's path, None if it did not."""
    lines = _link_lines()
    return Path(lines[0]) if lines else None


def linked_tree() -> Path | None:
    """Return the source tree that was named to `link` last, None if none was."""
    for line in _link_lines():
        if line.startswith(_TREE_MARK):
            return Path(line.removeprefix(_TREE_MARK))
    return None


def _link_lines() -> list[str]:
    """Return the lines of the .pth file, none where there is no such file."""
    path = link_path()
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []


def link(python_folder: Path, tree: Path | None = None) -> None:
    """Make this interpreter import caffe from a folder, by a .pth file among its packages.

    Args:
        python_folder: The folder that holds caffe/.
        tree: The user's source tree that this Caffe was built from, to be remembered.

    Raises:
        DiskError: The file cannot be written.
    """
    check_linkable(python_folder, tree)
    lines = _new_link_lines(python_folder, tree)
    if _link_lines() != lines:
        write_atomically(link_path(), "".join(f"{line}\n" for line in lines))


def check_linkable(python_folder: Path, tree: Path | None = None) -> None:
    """Check that `link`, with the same arguments, can write its file or need not.

    Raises:
        PrefixError: A path is not in UTF-8, as Python reads .pth files.
        DiskError: It must write it, and this interpreter's packages cannot be written to.
    """
    for path in filter(None, (python_folder, tree)):
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise PrefixError(
                f"Python cannot read the name of {str(path)!r}, which is not in UTF-8: "
                "rename the folder"
            ) from None
    folder = link_path().parent
    if _link_lines() == _new_link_lines(python_folder, tree):
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DiskError(
            f"{folder}, which holds the packages of {sys.executable}, cannot be written to: make a "
            "virtual environment (python3 -m venv), install this package there, and run this "
            "command with its Python"
        )


def _new_link_lines(python_folder: Path, tree: Path | None) -> list[str]:
    """Return the lines that `link` wants in the .pth file."""
    lines = [str(python_folder)]
    if tree:
        lines.append(f"{_TREE_MARK}{tree}")  # a comment for Python
    return lines
