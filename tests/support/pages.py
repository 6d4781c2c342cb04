"""Waits of tests that have a page open."""

import time
from collections.abc import Callable
from typing import Any

_LONGEST_WAIT = 60  # seconds, as the pages' own waits


def wait_until(page: Any, condition: Callable[[], object]) -> None:
    """Let a page go on until a condition of the test's own holds; fail if that takes too long.

    Args:
        page: A playwright Page; its events and routes are handled meanwhile.
        condition: A function of no arguments.
    """
    end = time.monotonic() + _LONGEST_WAIT
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {_LONGEST_WAIT} s"
        page.wait_for_timeout(20)


def wait_for_frames(page: Any) -> None:
    """Let a page handle what it was sent, and draw it."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
