"""How fast is the page of mcc_caffe.web? Frames a second and the first answer.

    python -m benchmarks.browser         # needs Chromium and, from the extra [dev], playwright

It opens the page in headless Chromium twice: as `mcc-web` serves it, where WebAssembly gets
threads, and as an exported site on Python's own web server, where it gets one. Then it passes a
frame of 640 x 480 pixels through the network, at several sizes of the input. A frame's time is all
that the page's worker does: preparing the input, the network, and finding the keypoints.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.servers import running_server
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.markdown import markdown_table
from mcc_caffe.serving.model import make_web_model
from mcc_caffe.serving.site import export_site

INPUT_SIZES = (128, 160, 176, 208)  # pixels
REPETITIONS = 30

# Opens the network as the page does; returns what computes, in words.
_OPEN = """async () => {
    const { Network } = await import('./shared/network.js');
    window.network = await Network.open();
    const canvas = new OffscreenCanvas(640, 480);
    const context = canvas.getContext('2d');
    for (let i = 0; i < 400; i += 1) {
        context.fillStyle = `hsl(${i} 60% 50%)`;
        context.fillRect((i * 37) % 640, (i * 91) % 480, 80, 60);
    }
    window.frame = canvas.transferToImageBitmap();
    return window.network.engine;
}"""
# Seconds of the network and of a whole frame, of each repetition at one size of the input.
_MEASURE = """async ([size, repetitions]) => {
    const seconds = [];
    const frameWindow = { x: 0, y: 0, width: 640, height: 480, turn: 0 };
    for (let i = 0; i < repetitions + 3; i += 1) {
        const { answer, image } = await window.network.look(window.frame, frameWindow, size);
        window.frame = image;
        if (i >= 3) seconds.push([answer.seconds.network, answer.seconds.total]);
    }
    return seconds;
}"""
# Milliseconds from the start of the navigation to the first answer.
_FIRST_ANSWER = """() => new Promise((resolve) => {
    const view = document.getElementById('view');
    const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 480 });
    const look = () => canvas.toBlob((blob) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([blob], 'first.png', { type: 'image/png' }));
        window.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer }));
    });
    canvas.getContext('2d').fillRect(100, 100, 300, 200);
    const wait = () => {
        if (view.ariaLabel.startsWith('first.png')) resolve(performance.now());
        else setTimeout(wait, 5);
    };
    const ready = () => {
        if (document.getElementById('file').disabled) setTimeout(ready, 5);
        else { look(); wait(); }
    };
    ready();
})"""


def measure_page(browser: Any, url: str) -> list[list[str]]:
    """Return a row of the table for each size of the input.

    Args:
        browser: A playwright Browser.
        url: Where the page is served.
    """
    page = browser.new_page()
    page.goto(url)
    first_answer = page.evaluate(_FIRST_ANSWER) / 1000
    page.close()
    page = browser.new_page()
    page.goto(url)
    page.wait_for_selector("#camera:enabled")  # its own network is idle from now on
    engine = page.evaluate(_OPEN)
    rows = []
    for size in INPUT_SIZES:
        seconds = page.evaluate(_MEASURE, [size, REPETITIONS])
        network, total = (statistics.median(values) for values in zip(*seconds))
        rows.append(
            [
                engine,
                str(size),
                f"{1000 * network:.0f} ms",
                f"{1000 * total:.0f} ms",
                f"{1 / total:.1f}",
                f"{first_answer:.1f} s",
            ]
        )
    page.close()
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the page and print a Markdown table."""
    command_parser(__doc__).parse_args(argv)
    program = shutil.which("chromium")
    if program is None:
        raise UserError("Chromium was not found: `apt install chromium`")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UserError(f"playwright cannot be imported ({error}): `make setup`") from None
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = Path(folder, "site")
        export_site(make_web_model(default_weights("mini")), site)
        servers = (
            ("http.server", "0", "--bind", "127.0.0.1", "--directory", str(site)),
            ("mcc_caffe.web", "--port", "0"),
        )
        for server in progress_bar(servers, desc="measuring", leave=False):
            browser = playwright.chromium.launch(
                executable_path=program, args=["--no-sandbox", "--disable-gpu"]
            )
            command = [sys.executable, "-m", *server]
            with running_server(command, stderr=subprocess.DEVNULL) as (_, url):
                rows += measure_page(browser, url)
            browser.close()
    head = ["engine", "input", "network", "frame", "frames a second", "first answer after"]
    print(markdown_table(head, rows))


if __name__ == "__main__":
    run_command(main)
