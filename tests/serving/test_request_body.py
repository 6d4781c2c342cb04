"""How much of a request's body is read, and how long it is waited for."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import HTTPException, Request

from mcc_caffe.serving import request_body
from mcc_caffe.serving.request_body import discard_body, read_body


class Body:
    """A body that arrives in pieces, and after which the client sends no more and stays.

    Attributes:
        pieces: Those that have not been read.
        request: The request that has the body.
    """

    def __init__(self, *pieces: bytes, length: str = "", is_complete: bool = True):
        self.pieces, self._is_complete = list(pieces), is_complete
        headers = [(b"content-length", length.encode())] if length else []
        self.request = Request({"type": "http", "headers": headers}, self._receive)

    async def _receive(self):
        if not self.pieces:
            await asyncio.sleep(30)
        piece = self.pieces.pop(0)
        has_more = bool(self.pieces) or not self._is_complete
        return {"type": "http.request", "body": piece, "more_body": has_more}


def run_coroutine(coroutine):
    """Run it in another thread, as Playwright leaves an event loop that runs in the main one."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, coroutine).result()


@pytest.mark.parametrize("length", ["", "6", "six"])
def test_a_body_of_as_many_bytes_as_are_allowed_is_read(length):
    body = Body(b"abc", b"def", length=length)
    assert run_coroutine(read_body(body.request, 6, "image")) == b"abcdef"


@pytest.mark.parametrize(("length", "read_count"), [("7", 0), ("", 2)])
def test_no_more_is_read_of_a_body_that_is_too_large(length, read_count):
    body = Body(b"abc", b"defg", b"hij", length=length)
    with pytest.raises(HTTPException) as refusal:
        run_coroutine(read_body(body.request, 6, "image"))
    assert refusal.value.status_code == 413 and len(body.pieces) == 3 - read_count


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch):
    monkeypatch.setattr(request_body, "UPLOAD_SECONDS", 0.05)
    body = Body(b"abc", is_complete=False)
    with pytest.raises(HTTPException) as refusal:
        run_coroutine(asyncio.wait_for(read_body(body.request, 6, "image"), 10))
    assert refusal.value.status_code == 408
    assert refusal.value.detail == "the image did not arrive within 0.05 seconds"


def test_the_rest_of_a_body_is_read_until_it_is_too_large():
    body = Body(b"abc", b"def", b"g", b"hij")
    run_coroutine(discard_body(body.request, 6))
    assert body.pieces == [b"hij"]


def test_the_rest_of_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(request_body, "_DISCARD_SECONDS", 0.05)
    body = Body(b"abc", is_complete=False)
    run_coroutine(asyncio.wait_for(discard_body(body.request, 6), 10))
    assert not body.pieces
