"""Servers that benchmarks run as a user would."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

from mcc_caffe.core.errors import UserError

_LONGEST_WAIT = 120.0  # seconds, for a start or an end


@contextlib.contextmanager
def running_server(
    *command: str, stderr: int | None = None
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a module that prints its address and serves until the block ends.

    Args:
        *command: The module and its arguments.
        stderr: Where its messages go, as Popen takes it.

    Yields:
        The process and the address.

    Raises:
        UserError: It ends without an address, or prints none for too long.
    """
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    ) as server:
        try:
            yield server, _read_address(server, command)
        finally:
            server.terminate()
            try:
                server.wait(_LONGEST_WAIT)
            finally:
                server.kill()


def _read_address(server: "subprocess.Popen[str]", command: tuple[str, ...]) -> str:
    assert server.stdout is not None
    limit = threading.Timer(_LONGEST_WAIT, server.kill)  # ends the line that is waited for
    limit.start()
    try:
        line = server.stdout.readline()
    finally:
        limit.cancel()
    address = re.search(r"http://[^\s)]+", line)
    if address is None:
        raise UserError(
            f"`python -m {' '.join(command)}` printed {line!r} and no address within "
            f"{_LONGEST_WAIT:.0f} s: run it to see why"
        )
    return address[0]
