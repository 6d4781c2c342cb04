"""A load test of `mcc-web serve`: does its memory grow, is an answer lost or another request's?

    python -m benchmarks.hands_api                    # a minute, 8 clients
    python -m benchmarks.hands_api --clients 32       # more than its queue holds: some are refused

It starts the server, and clients send images as fast as they are answered. Each image has a size of
its own, by which its answer is known. A client that is refused (503) waits as long as the server
says and tries again; one that gets no answer ends. Prints a Markdown table.
"""

import argparse
import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from benchmarks.output import describe_machine
from benchmarks.servers import running_server
from mcc_caffe.core.commands import command_parser, positive_int, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.markdown import markdown_table

WIDTHS = range(320, 352)  # pixels, of the images
_HEIGHT = 240
_WARM_UP = 10.0  # seconds, in which the server's memory may still grow
_MIB = 2**20


@dataclass
class Tally:
    """What one client counted.

    Attributes:
        seconds: How long each answered request took, waiting for another try included.
        last_answer: When the last of them was answered, of time.monotonic().
        refusals: Number of answers of status 503.
        faults: What came instead of each answer that was lost or another request's.
    """

    seconds: list[float] = field(default_factory=list)
    last_answer: float = 0.0
    refusals: int = 0
    faults: list[str] = field(default_factory=list)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--seconds", type=positive_int, default=60, help="how long to send (default: %(default)s)"
    )
    parser.add_argument(
        "--clients", type=positive_int, default=8, help="clients at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--hands", choices=("all", "one"), default="one", help="what to ask (default: %(default)s)"
    )
    return parser.parse_args(argv)


def make_images() -> dict[int, bytes]:
    """Return JPEGs of noise by their widths."""
    rng = np.random.default_rng(0)
    return {
        width: cv2.imencode(".jpg", rng.integers(0, 255, (_HEIGHT, width, 3), np.uint8))[
            1
        ].tobytes()
        for width in WIDTHS
    }


def send_until(
    end: float, port: int, question: str, *, images: dict[int, bytes], tally: Tally, first: int
) -> None:
    """Send images, one after the other, until the end or the first that gets no answer.

    Args:
        end: When to stop, of time.monotonic().
        port: The server's.
        question: The query string.
        images: JPEGs by their widths.
        tally: Gets what is counted.
        first: The number of the first image.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    widths = list(images)
    number = first
    while time.monotonic() < end:
        width, start = widths[number % len(widths)], time.monotonic()
        number += 1
        while True:
            try:
                connection.request("POST", f"/hands?{question}", images[width])
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                tally.faults.append(f"no answer: {error!r}")
                connection.close()
                return
            if response.status == 503:
                tally.refusals += 1
                time.sleep(float(response.headers["Retry-After"]))
                continue
            if response.status != 200 or json.loads(content)["width"] != width:
                tally.faults.append(f"{response.status}: {content[:80]!r}")
            else:
                tally.last_answer = time.monotonic()
                tally.seconds.append(tally.last_answer - start)
            break


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise UserError(f"process {pid} has ended")


def measure(options: argparse.Namespace, server: subprocess.Popen, port: int) -> str:
    """Load a server and return the table."""
    images = make_images()
    start = time.monotonic()
    end = start + options.seconds
    tallies = [Tally() for _ in range(options.clients)]
    threads = [
        threading.Thread(
            target=send_until,
            args=(end, port, f"hands={options.hands}"),
            kwargs={"images": images, "tally": tally, "first": number},
        )
        for number, tally in enumerate(tallies)
    ]
    for thread in threads:
        thread.start()
    memory = []
    with progress_bar(total=options.seconds, unit="s") as bar:
        while time.monotonic() < end:
            time.sleep(min(1.0, max(end - time.monotonic(), 0)))
            bar.update(1)
            memory.append((time.monotonic() - start, resident_bytes(server.pid)))
    for thread in threads:
        thread.join()
    seconds = np.concatenate([tally.seconds for tally in tallies])
    # Requests that are under way at the end are answered after it.
    duration = max(end, *(tally.last_answer for tally in tallies)) - start
    faults = [fault for tally in tallies for fault in tally.faults]
    for fault in faults[:5]:
        print(fault, file=sys.stderr)
    warm = [size for when, size in memory if when >= min(_WARM_UP, options.seconds / 2)]
    return markdown_table(
        ["clients", "answered", "a second", "median s", "95 % below", "refused (503)", "lost"]
        + ["memory after warm-up, MiB", "at the end", "highest"],
        [
            [
                options.clients,
                len(seconds),
                f"{len(seconds) / duration:.1f}",
                f"{np.median(seconds):.3f}" if len(seconds) else "",
                f"{np.quantile(seconds, 0.95):.3f}" if len(seconds) else "",
                sum(tally.refusals for tally in tallies),
                len(faults),
                *(f"{size / _MIB:.0f}" for size in (warm[0], warm[-1], max(warm))),
            ]
        ],
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Start a server, load it, and end it."""
    options = parse_arguments(argv)
    command = [sys.executable, "-m", "mcc_caffe.web", "serve", "--port", "0"]
    with running_server(command) as (server, url):
        port = urllib.parse.urlsplit(url).port
        assert port is not None
        print(f"{describe_machine()}\n\n{measure(options, server, port)}")


if __name__ == "__main__":
    run_command(main)
