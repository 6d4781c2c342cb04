"""Wheel and sdist of the checkout."""

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from tests.support.commands import ROOT, run_program


class Packages(NamedTuple):
    """What is built of the checkout."""

    wheel: Path
    sdist: Path


def build_packages(folder: Path) -> Packages:
    """Build both from a copy of the checkout, without what git ignores."""
    source = folder / "source"
    ignored = shutil.ignore_patterns(
        ".*", "runs", "data", "demo", "out", "build", "dist", "*.egg-info"
    )

    def ignore(path: str, names: list[str]) -> set[str]:
        left_out = {name for name in names if name == "__pycache__"}
        return left_out | ignored(path, names) if path == str(ROOT) else left_out

    shutil.copytree(ROOT, source, ignore=ignore)
    return Packages(build_wheel(source), _build(source, "sdist"))


def build_wheel(source: Path) -> Path:
    """Build the wheel from a source tree."""
    return _build(source, "wheel")


def _build(source: Path, kind: str) -> Path:
    """Call setuptools in the source tree, with the setuptools of this environment."""
    code = (
        "import pathlib, setuptools.build_meta as backend; "
        f"print(pathlib.Path('built', backend.build_{kind}('built')).resolve())"
    )
    process = run_program(sys.executable, "-c", code, cwd=source)
    assert process.returncode == 0, process.stderr
    return Path(process.stdout.splitlines()[-1])
