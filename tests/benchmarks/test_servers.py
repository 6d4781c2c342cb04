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
    "statement, line",
    [
        # `timeit` would print a line after the sleep: without one, the sleep was cut short.
        ("import time; time.sleep(100)", "''"),
        ("print('hello')", r"'hello\\n'"),
    ],
)
def test_a_server_without_an_address_is_an_error(statement, line, monkeypatch):
    monkeypatch.setattr(servers, "_LONGEST_WAIT", 5.0)
    command = [sys.executable, "-m", "timeit", "-n", "1", "-r", "1", statement]
    with (
        pytest.raises(UserError, match=f"-m timeit .*` printed {line} and no address within 5 s"),
        servers.running_server(command),
    ):
        pytest.fail("it serves")
