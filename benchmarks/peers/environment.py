"""An environment of its own for each system that we compare with, in the cache's folder `peers`: they need other packages than we do."""

import pathlib
import re
import subprocess
import sys

from caffe_build.locate import cache_folder
from mcc_caffe.core.errors import UserError

_BAR = re.compile(r"\d+%\|.*\| *\d+/\d+ \[")  # tqdm's


def environment(
    name: str, needed: tuple, alone: tuple = (), remedy: str = "it needs the network"
) -> pathlib.Path:
    """The interpreter of the environment `name`; makes the environment where it is not there, or not whole.

    needed: packages, as pip takes them. alone: those that are installed without what they ask for. UserError with the last line of
    what pip said, and the remedy, where it cannot be made.
    """
    folder = cache_folder() / "peers" / name
    python, stamp, content = (
        folder / "bin/python",
        folder / "complete",
        "\n".join((*alone, *needed)),
    )
    if not stamp.is_file() or stamp.read_text() != content:
        print(f"making an environment, {folder}", flush=True)
        pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        commands = [[sys.executable, "-m", "venv", "--clear", folder], [*pip, *needed]] + (
            [[*pip, "--no-deps", *alone]] if alone else []
        )
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise UserError(
                    f"{folder} could not be made ({last_line(done.stderr or done.stdout)}): {remedy}"
                )
        stamp.write_text(content)
    return python


def last_line(text: str) -> str:
    """The last line of what a command said, which is why it failed; progress bars, which may come after it, are passed over."""
    lines = [line for line in text.strip().splitlines() if line.strip() and not _BAR.search(line)]
    return lines[-1] if lines else "no word of why"
