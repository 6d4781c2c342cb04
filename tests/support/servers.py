"""Servers run as a user would run them."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence

from benchmarks import servers
from tests.support.commands import ROOT

MODULE = (sys.executable, "-m")  # the start of a command that runs a module


def running_server(
    command: Sequence[object], **options
) -> contextlib.AbstractContextManager[tuple["subprocess.Popen[str]", str]]:
    """Run a command as `benchmarks.servers` does, by default at the top of the project."""
    return servers.running_server(command, **{"cwd": ROOT, **options})


@contextlib.contextmanager
def served(*words: object) -> Iterator[str]:
    """Run `python -m <words>` as `running_server` does; yield the address."""
    with running_server([*MODULE, *words]) as (_, url):
        yield url
