"""Commands run where a folder is read-only or small, without changing this machine."""

import shlex
import shutil
import subprocess
import sys

import pytest

from tests.support.commands import run_program


def run_with_mounts(mounts: str, *command, **options) -> subprocess.CompletedProcess:
    """Run `python -m <command>` after shell commands that mount, which only it sees.

    The test is skipped where this machine does not allow that.
    """
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare")
    if subprocess.run(["unshare", "-rm", "sh", "-c", mounts], capture_output=True).returncode:
        pytest.skip("this machine allows no mounts of one's own")
    words = shlex.join([sys.executable, "-m", *map(str, command)])
    return run_program("unshare", "-rm", "sh", "-c", f"{mounts} && exec {words}", **options)
