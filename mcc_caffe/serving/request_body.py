"""Reads the bodies of requests, no more of them than is allowed."""

import asyncio
from contextlib import suppress

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

UPLOAD_SECONDS = 60  # after which a body that has not arrived is given up
# How long the rest of a refused body is read: a client that still sends would miss the answer.
_DISCARD_SECONDS = 5


async def read_body(request: Request, most_bytes: int, kind: str) -> bytes:
    """Read the body of a request.

    Args:
        request: The request.
        most_bytes: The most bytes that it may have.
        kind: What the error calls it, such as "image".

    Raises:
        HTTPException: It has more bytes (413), or has not arrived within a minute (408).
        ClientDisconnect: The client has gone.
    """
    too_large = HTTPException(
        413, f"the {kind} has more than {most_bytes / 1e6:g} million bytes: make it smaller"
    )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most_bytes:
        raise too_large
    content = bytearray()

    async def receive() -> None:
        async for chunk in request.stream():
            content.extend(chunk)
            if len(content) > most_bytes:
                raise too_large

    try:
        await asyncio.wait_for(receive(), UPLOAD_SECONDS)
    except asyncio.TimeoutError:
        raise HTTPException(
            408, f"the {kind} did not arrive within {UPLOAD_SECONDS} seconds"
        ) from None
    return bytes(content)


async def discard_body(request: Request, most_bytes: int) -> None:
    """Read what a client still sends, so that it gets to the answer; not for long."""

    async def discard() -> None:
        discarded = 0
        async for chunk in request.stream():
            discarded += len(chunk)
            if discarded > most_bytes:
                return

    # RuntimeError: there is no more to read.
    with suppress(asyncio.TimeoutError, ClientDisconnect, RuntimeError):
        await asyncio.wait_for(discard(), _DISCARD_SECONDS)
