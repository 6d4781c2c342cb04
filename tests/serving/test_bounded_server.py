"""The server against clients that keep connections open, as a user would run it."""

import asyncio
import contextlib
import inspect
import logging
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from uvicorn.protocols.http import h11_impl

from mcc_caffe.serving.bounded_server import (
    _END_SECONDS,
    _HEADER_SECONDS,
    INVALID_REQUEST,
    NO_DESCRIPTOR,
    BoundedServer,
)
from tests.support.commands import ROOT, hear_a_hang_up
from tests.support.servers import MODULE, running_server


def limit_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))


def ignore_a_hang_up():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def web_command(*words, **constants):
    """Return the command `mcc-web` with other values of constants of `bounded_server`."""
    values = "".join(f"bounded_server.{name} = {value}; " for name, value in constants.items())
    code = (
        "from mcc_caffe import web; from mcc_caffe.core.commands import run_command; "
        f"from mcc_caffe.serving import bounded_server; {values}run_command(web.main)"
    )
    return [sys.executable, "-c", code, *words, "--port", 0]


def connect(url):
    return socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=60)


def connect_often(stack, url, count):
    """Return so many connections, which `stack` closes."""
    sockets = []
    for _ in range(count):
        sockets.append(stack.enter_context(connect(url)))
        time.sleep(0.01)  # for the server to take it: those behind a full queue try after a second
    return sockets


def test_connections_that_are_too_many_are_closed_and_told_once():
    command = web_command(_HEADER_SECONDS=1000)  # so none of them ends before the last one begins
    options = {"stderr": subprocess.PIPE, "preexec_fn": limit_descriptors}
    with running_server(command, **options) as (server, url):
        with contextlib.ExitStack() as stack:
            sockets = connect_often(stack, url, 90)
            for connection in sockets[64:]:
                with contextlib.suppress(ConnectionError):
                    assert connection.recv(1) == b""  # closed without an answer
            sockets[63].sendall(b"HEAD / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert sockets[63].recv(10_000).startswith(b"HTTP/1.1 200 OK")
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
    assert errors.splitlines() == [
        "Ctrl-C ends it",
        "warning: 64 connections are open: further ones are closed",
        "interrupted",
    ]


def test_connections_that_send_no_request_neither_fill_the_server_nor_its_log():
    command = web_command(_HEADER_SECONDS=2)
    options = {"stderr": subprocess.PIPE, "preexec_fn": limit_descriptors}
    with running_server(command, **options) as (server, url), contextlib.ExitStack() as stack:
        sockets = connect_often(stack, url, 64)
        for connection in sockets:
            with contextlib.suppress(ConnectionError):  # of those whose time is over
                connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.")
        for connection in sockets:
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""  # closed without an answer
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
    assert errors.splitlines() == ["Ctrl-C ends it", "interrupted"]


def test_the_rest_of_a_header_may_come_later_and_further_requests_after_it():
    with (
        running_server(web_command(_HEADER_SECONDS=4)) as (_, url),
        connect(url) as connection,
    ):
        for _ in range(2):
            connection.sendall(b"HEAD / HTTP/1.1\r\nHost: 127.")
            time.sleep(0.1)
            connection.sendall(b"0.0.1\r\n\r\n")
            assert connection.recv(10_000).startswith(b"HTTP/1.1 200 OK")
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: 127.")
        assert connection.recv(10_000) == b""


@pytest.mark.parametrize("twice, seconds", [(False, 2), (True, 1000)])
def test_ctrl_c_ends_the_server_while_a_client_sends_no_more(twice, seconds):
    """A second Ctrl-C ends it at once, and would not if the server waited its 1000 seconds."""
    command = web_command("serve", _END_SECONDS=seconds)
    with running_server(command, stderr=subprocess.PIPE) as (server, url), connect(url) as client:
        client.sendall(
            b"POST /hands HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")  # so it waits for the content
        client.sendall(b"a")
        errors = end_by_ctrl_c(server, seconds, twice)
    assert errors == [
        "Ctrl-C ends it",
        f"waiting for 1 request, {seconds} s at most; Ctrl-C cuts off at once",
        "interrupted",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_server_after_the_request_that_it_answers(number):
    code = """
import time, uvicorn
from fastapi import FastAPI
from mcc_caffe.core.commands import run_command
from mcc_caffe.serving import app

slow = FastAPI()

@slow.get("/")
def answer():
    print("asked", flush=True)
    time.sleep(1)
    return "answered"

run_command(lambda: app.serve(slow, "127.0.0.1", 0))
"""
    command = [sys.executable, "-c", code]
    options = {"stderr": subprocess.PIPE, "preexec_fn": hear_a_hang_up}
    with running_server(command, **options) as (server, url), connect(url) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert server.stdout.readline() == "asked\n"
        server.send_signal(number)
        assert b"answered" in client.makefile("rb").read()
        _, errors = server.communicate(timeout=60)
    assert server.returncode == 128 + number
    assert errors.splitlines()[-1] == f"ended by {number.name}"


def test_nohup_keeps_the_server_alive():
    command = [*MODULE, "mcc_caffe.web", "--port", 0]
    with running_server(command, preexec_fn=ignore_a_hang_up) as (server, url):
        for _ in range(2):
            with urllib.request.urlopen(url, timeout=60) as answer:
                assert answer.status == 200
            server.send_signal(signal.SIGHUP)
            time.sleep(1)
        assert server.poll() is None


def test_ctrl_c_ends_the_live_page_while_a_client_reads_nothing():
    with (
        running_server(web_command(_END_SECONDS=2), stderr=subprocess.PIPE) as (server, url),
        socket.socket() as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((urlsplit(url).hostname, urlsplit(url).port))
        client.sendall(b"GET /model.onnx HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert client.recv(1)  # so the answer has begun
        errors = end_by_ctrl_c(server, 2)
    assert "waiting for 1 request, 2 s at most; Ctrl-C cuts off at once" in errors


# Header of a request that a page sends for `new WebSocket(...)`, of one without a host, and the
# start of what a browser sends to https://.
_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_NO_HOST = b"GET / HTTP/1.1\r\n\r\n"
_TLS = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"
_CHUNKED = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_what_is_no_http_request_is_told_once_and_a_websocket_not_at_all():
    command = [*MODULE, "mcc_caffe.web", "--port", 0]
    with running_server(command, stderr=subprocess.PIPE) as (server, url):
        for request, status in [(_UPGRADE, 200), (_NO_HOST, 400), (_TLS, 400)] * 2:
            with connect(url) as client:
                client.sendall(request)
                assert client.recv(100).startswith(b"HTTP/1.1 %d " % status)
        with connect(url) as client:
            client.sendall(_CHUNKED)
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
            client.sendall(b"no length of a chunk\r\n")  # after its answer has begun
            with contextlib.suppress(ConnectionError):
                while client.recv(10_000):
                    pass
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
    assert errors.splitlines() == [
        "Ctrl-C ends it",
        "warning: a request was no valid HTTP: where it went to https://, send it to http://",
        "interrupted",
    ]
    assert INVALID_REQUEST in inspect.getsource(h11_impl)


def test_no_websocket_is_opened_where_a_library_for_it_is_installed(monkeypatch):
    """The checks of host and origin would not see it."""
    library = SimpleNamespace(AutoWebSocketsProtocol=asyncio.Protocol)
    monkeypatch.setitem(sys.modules, "uvicorn.protocols.websockets.auto", library)
    server = BoundedServer(FastAPI())
    server.config.load()
    assert server.config.ws_protocol_class is None


def test_a_lack_of_descriptors_is_told_once_and_not_in_asyncios_words(caplog):
    assert NO_DESCRIPTOR in inspect.getsource(asyncio.selector_events)
    BoundedServer(FastAPI())
    for _ in range(3):
        logging.getLogger("asyncio").error("%s\nsocket: ...", NO_DESCRIPTOR)
    logging.getLogger("asyncio").error("another fault")
    assert caplog.messages == [
        "no file descriptor is free for a connection: raise the limit (ulimit -n)",
        "another fault",
    ]


def test_the_bounds_are_those_of_the_documentation():
    page = " ".join((ROOT / "docs/server.md").read_text().split())
    assert f"has not arrived within {_HEADER_SECONDS} seconds" in page
    assert f"has {_END_SECONDS} seconds to answer those that it has" in page


def end_by_ctrl_c(server, seconds, twice=False):
    """Press Ctrl-C while there is a request, for which the server waits.

    Args:
        server: The server's process.
        seconds: So long it waits.
        twice: Whether Ctrl-C is pressed again when the server has said that it waits.

    Returns:
        The lines that the server then has logged.
    """
    start, errors = time.monotonic(), ""
    server.send_signal(signal.SIGINT)
    while "waiting for" not in errors:
        line = server.stderr.readline()
        assert line, f"it has ended: {errors}"
        errors += line
    if twice:
        server.send_signal(signal.SIGINT)
    server.wait(60)
    assert twice or time.monotonic() - start >= seconds
    assert server.returncode == 130
    return (errors + server.stderr.read()).splitlines()
