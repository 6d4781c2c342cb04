"""A virtual environment with the wheel, without Caffe."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.support.commands import run_program
from tests.support.servers import running_server


class CleanEnvironment:
    """A virtual environment with the wheel and what it depends on."""

    def __init__(self, folder: Path, wheel: Path, extras: str = ""):
        """Make it in a folder; `extras` such as "[web]" are installed, too."""
        base_python = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
        subprocess.run([base_python, "-m", "venv", folder], check=True)
        self._programs = folder / "bin"
        subprocess.run(
            [self._programs / "python", "-m", "pip", "install", "-q", f"{wheel}{extras}"],
            check=True,
        )

    def run(self, program: str, *words, cwd: Path) -> subprocess.CompletedProcess:
        """Run one of its programs without anything of the checkout's."""
        return run_program(self._programs / program, *words, cwd=cwd, env=_environment())

    @contextlib.contextmanager
    def served(self, program: str, *words, cwd: Path) -> Iterator[str]:
        """Run one of its programs that serves a page, and yield the address that it prints."""
        command = [self._programs / program, *words]
        with running_server(command, cwd=cwd, env=_environment()) as (_, url):
            yield url


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def succeed(process: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    assert process.returncode == 0, process.stderr
    return process


def keypoints_of(report: dict) -> np.ndarray:
    """Return x, y of the keypoints; NaN where one is absent."""
    return np.array(
        [[k["x"], k["y"]] if k else [np.nan, np.nan] for k in report["keypoints"]], float
    )
