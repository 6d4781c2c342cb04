"""Servers that benchmarks and tests run as a user would."""

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from mcc_caffe.core.errors import UserError

_LONGEST_WAIT = 120.0  # seconds, for a start or an end


@contextlib.contextmanager
def running_server(
    command: Sequence[object], **options: Any
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a command that prints its address and serves until the block ends.

    Args:
        command: The program and its arguments.
        **options: Further ones of Popen.

    Yields:
        The process and the address.

    Raises:
        UserError: It ends without an address, or prints none for too long.
    """
    words = list(map(str, command))
    defaults = {"env": {**os.environ, "PYTHONUNBUFFERED": "1"}}
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


def _read_address(server: "subprocess.Popen[str]", words: list[str]) -> str:
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
            f"`{' '.join(words)}` printed {line!r} and no address within {_LONGEST_WAIT:.0f} s: "
            "run it to see why"
        )
    return address[0]
