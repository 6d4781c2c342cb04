"""Servers run as a user would run them."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

from tests.support.commands import ROOT

MODULE = (sys.executable, "-m")  # the start of a command that runs a module
_LONGEST_WAIT = 120  # seconds, for a start or an end


@contextlib.contextmanager
def running_server(
    command: Sequence[object], **options
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a command that prints its address and serves until the block ends.

    Args:
        command: The program and its arguments.
        options: Those of `Popen`. By default the command runs at the top of the project.

    Yields:
        The process and the address.
    """
    words = list(map(str, command))
    defaults = {"cwd": ROOT, "env": {**os.environ, "PYTHONUNBUFFERED": "1"}}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, **{**defaults, **options}
    ) as server:
        try:
            yield server, _read_address(server, words)
        finally:
            server.terminate()
            try:
                server.wait(_LONGEST_WAIT)
            finally:
                server.kill()


@contextlib.contextmanager
def served(*words: object) -> Iterator[str]:
    """Run `python -m <words>` as `running_server` does; yield the address."""
    with running_server([*MODULE, *words]) as (_, url):
        yield url


def _read_address(server: subprocess.Popen[str], words: list[str]) -> str:
    assert server.stdout is not None
    limit = threading.Timer(_LONGEST_WAIT, server.kill)  # ends the line that is waited for
    limit.start()
    line = server.stdout.readline()
    limit.cancel()
    address = re.search(r"http://[^\s)]+", line)
    assert address is not None, f"`{' '.join(words)}` printed {line!r} and no address"
    return address[0]
