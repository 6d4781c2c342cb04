"""Says how to get what a build needs: by setup.sh, which an installed package lacks, or without."""

import sys
from pathlib import Path

_FOLDER = Path(__file__).parent


def packages_hint() -> str:
    """Return how to get the tools and libraries that a build needs."""
    if _has_setup_script():
        return "`caffe_build/setup.sh` installs what a build needs"
    lines = (_FOLDER / "packages.txt").read_text(encoding="utf-8").splitlines()
    names = " ".join(line for line in lines if not line.startswith("#"))
    return f"a build needs these packages of Debian or Ubuntu: `apt-get install {names}`"


def python_hint() -> str:
    """Return how to get the Python packages that a build needs."""
    if _has_setup_script():
        return "run caffe_build/setup.sh and use .venv/bin/python"
    return f"install mcc-caffe by `{sys.executable} -m pip install`, with all that it requires"


def _has_setup_script() -> bool:
    return (_FOLDER / "setup.sh").is_file()
