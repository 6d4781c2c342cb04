"""Where a Caffe is: in the cache, in a folder the user names, or on Python's path; and how it gets onto that path."""

import importlib.util
import json
import os
import sysconfig
from pathlib import Path

from caffe_build.errors import PrefixError

_LAYOUTS = ("python", "lib/python3/dist-packages", "build/install/python", "distribute/python")


def cache_folder() -> Path:
    """Where builds are kept: $XDG_CACHE_HOME/mcc-caffe, ~/.cache/mcc-caffe without one."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcc-caffe"


def python_folder(prefix: Path) -> Path:
    """The folder of a built Caffe that belongs on Python's path. Raises PrefixError where `prefix` is no built Caffe."""
    prefix = prefix.expanduser().resolve()
    for layout in _LAYOUTS:
        if any((prefix / layout / "caffe").glob("_caffe*.so")):
            return prefix / layout
    places = ", ".join(f"{layout}/caffe/_caffe.so" for layout in _LAYOUTS)
    raise PrefixError(f"{prefix} is no built Caffe with its Python part: none of {places} is there")


def importable_folder() -> Path | None:
    """The folder on Python's path that `import caffe` would take Caffe from, None if there is none."""
    spec = importlib.util.find_spec("caffe")
    return Path(spec.origin).parent.parent if spec and spec.origin else None


def prefix_of(python_folder: Path) -> Path:
    """The top folder of the Caffe whose Python folder this is."""
    for layout in sorted(_LAYOUTS, key=len, reverse=True):  # "python" is the end of others
        if python_folder.as_posix().endswith(f"/{layout}"):
            return python_folder.parents[layout.count("/")]
    return python_folder


def build_name(python_folder: Path) -> str:
    """What a Caffe that we have built is for, such as "CPU"; empty for one of another origin."""
    about = python_folder.parent / "about.json"
    return json.loads(about.read_text())["options"] if about.is_file() else ""


def link(python_folder: Path) -> None:
    """Makes this interpreter import caffe from `python_folder`, through a .pth file among its packages."""
    path = Path(sysconfig.get_path("purelib")) / "mcc_caffe_caffe.pth"
    if not path.is_file() or path.read_text() != f"{python_folder}\n":
        draft = path.with_suffix(".tmp")
        draft.write_text(f"{python_folder}\n")
        draft.replace(path)
