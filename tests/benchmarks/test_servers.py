"""Servers that benchmarks run."""

import subprocess
import sys
import urllib.request

import pytest

from benchmarks import servers
from mcc_caffe.core.errors import UserError


def test_a_server_runs_until_the_block_ends(tmp_path):
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with servers.running_server(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as (server, url):
        assert urllib.request.urlopen(url, timeout=60).status == 200
    assert server.poll() is not None


@pytest.mark.parametrize(
    "statement, line, seconds",
    [
        # `timeit` would print a line after the sleep: without one, the sleep was cut short.
        ("import time; time.sleep(100)", "''", 1),
        ("print('hello')", r"'hello\\n'", 60),
    ],
)
def test_a_server_without_an_address_is_an_error(statement, line, seconds, monkeypatch):
    monkeypatch.setattr(servers, "_LONGEST_WAIT", float(seconds))
    command = [sys.executable, "-m", "timeit", "-n", "1", "-r", "1", statement]
    message = f"-m timeit .*` printed {line} and no address within {seconds} s"
    with pytest.raises(UserError, match=message), servers.running_server(command):
        pytest.fail("it serves")
