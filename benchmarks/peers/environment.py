"""An environment of its own for each system that we compare with, in the cache's folder `peers`.

The systems need other packages than we do.
"""

import logging
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from caffe_build import check
from caffe_build.locate import cache_folder
from mcc_caffe.core.errors import UserError

_log = logging.getLogger(__name__)


def environment(
    name: str,
    packages: Sequence[str],
    bare_packages: Sequence[str] = (),
    remedy: str = "it needs the network",
) -> pathlib.Path:
    """Return the interpreter of an environment; make the environment where it is not complete.

    Args:
        name: Name of the environment.
        packages: Packages to install, in pip's words.
        bare_packages: Packages to install without those that they depend on.
        remedy: End of the message where that fails.

    Raises:
        UserError: The environment cannot be made. The message has the last line of pip's output.
    """
    folder = cache_folder() / "peers" / name
    python, stamp = folder / "bin/python", folder / "complete"
    content = "\n".join((*bare_packages, *packages))
    if stamp.is_file() and stamp.read_text() == content:
        return python
    _log.info("making an environment, %s", folder)
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*pip, *packages],
    ]
    if bare_packages:
        commands.append([*pip, "--no-deps", *bare_packages])
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = check.reason(done.returncode, done.stderr or done.stdout)
            raise UserError(f"{folder} could not be made ({reason}): {remedy}")
    stamp.write_text(content)
    return python
