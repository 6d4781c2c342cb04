"""An HTTP server with bounds on its connections and on the time that it waits.

uvicorn waits without end for a request's header, after Ctrl-C for a client that reads no answer,
and for free file descriptors, of which each connection takes one.
"""

import asyncio
import contextlib
import functools
import logging
import resource
import socket
from collections.abc import Iterator

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from mcc_caffe.core.processes import stop_signals_handled

_HEADER_SECONDS = 10  # within which a request's header has to arrive
_END_SECONDS = 10  # that requests have left to be answered after Ctrl-C
_QUIET_SECONDS = 0.5  # after Ctrl-C, before a line says what is waited for
_MOST_CONNECTIONS = 500
_MOST_WAITING = 64  # connections that the system keeps before the server takes them
# asyncio's words. It would repeat them thousands of times a second.
NO_DESCRIPTOR = "socket.accept() out of system resource"
INVALID_REQUEST = "Invalid HTTP request received."  # uvicorn's words, for each such request
_WORDS_SAID_ONCE = {
    NO_DESCRIPTOR: "no file descriptor is free for a connection: raise the limit (ulimit -n)",
    INVALID_REQUEST: "a request was no valid HTTP: where it went to https://, send it to http://",
}

_log = logging.getLogger(__name__)


class BoundedServer(uvicorn.Server):
    """Serves an application until Ctrl-C, and cuts off what is not answered seconds later."""

    def __init__(self, app: FastAPI):
        """Say what is served; `run` serves it."""
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",  # `make_app` checks the host and the origin of HTTP requests alone
            log_config=None,  # uvicorn's messages take the form of the command's own
            log_level="warning",
            access_log=False,
            # No part of the application has a lifespan; a second Ctrl-C would log its end as an
            # error.
            lifespan="off",
            # The server takes all that wait before it closes any of those that are too many.
            backlog=min(_count_descriptors() // 16, _MOST_WAITING),
            timeout_graceful_shutdown=_END_SECONDS,
        )
        super().__init__(config)
        for name in ("asyncio", "uvicorn.error"):
            logging.getLogger(name).addFilter(_replace_repeated_words)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGHUP, too, end the server in order, and then the command, unless it is ignored."""
        with super().capture_signals(), stop_signals_handled(self.handle_exit):
            yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End after the requests that are there, at the latest after some seconds."""
        # Our own line says it. uvicorn would log a traceback of each request that is cut off.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        telling = asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._tell_of_waiting)
        try:
            await super().shutdown(sockets)
        finally:
            telling.cancel()

    def _tell_of_waiting(self) -> None:
        # A request may outlive its connection, and a connection may have no request yet.
        count = max(len(self.server_state.connections), len(self.server_state.tasks))
        _log.info(
            "waiting for %d %s, %d s at most; Ctrl-C cuts off at once",
            count,
            "request" if count == 1 else "requests",
            _END_SECONDS,
        )


class _Connection(H11Protocol):
    """A connection, which is closed where no request comes or too many others are open."""

    _header_limit: asyncio.TimerHandle | None = None  # runs while a header is waited for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        most = min(_count_descriptors() // 2, _MOST_CONNECTIONS)
        if len(self.connections) > most:
            _warn_once(f"{most} connections are open: further ones are closed")
            transport.abort()
        else:
            self._limit_header()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end_header_limit()
        elif self._header_limit is None:
            self._limit_header()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._end_header_limit()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, unless an answer to the same request has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing; uvicorn would advise to install packages, whoever asks for a WebSocket."""

    def _limit_header(self) -> None:
        self._header_limit = self.loop.call_later(_HEADER_SECONDS, self.timeout_keep_alive_handler)

    def _end_header_limit(self) -> None:
        if self._header_limit is not None:
            self._header_limit.cancel()
            self._header_limit = None


def _count_descriptors() -> int:
    """Return how many file descriptors this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _replace_repeated_words(record: logging.LogRecord) -> bool:
    """Tell whether a message of a library is to be logged; say once what the others mean."""
    for start, words in _WORDS_SAID_ONCE.items():
        if record.getMessage().startswith(start):
            _warn_once(words)
            return False
    return True


@functools.cache
def _warn_once(message: str) -> None:
    _log.warning("%s", message)
