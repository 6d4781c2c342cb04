"""A real Chromium, and pages in it. Without Chromium these tests are skipped, with the reason."""

import contextlib
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools.hands.live import LiveHands
from tests.support.servers import served

CAMERA_WIDTH, CAMERA_HEIGHT = 640, 480
CAMERA_FRAMES = 8
_CHROMIUM_OPTIONS = [
    "--no-sandbox",  # Chromium's own sandbox does not start as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]


@pytest.fixture(scope="session")
def rendered_hand() -> np.ndarray:
    """A rendered hand that the shipped network finds well, 480 x 480 BGR."""
    image = LiveHands("synth:seed=0&size=480&easy=1")[0].image()
    height, width = image.shape[:2]
    grey = (90, 90, 90)
    return cv2.copyMakeBorder(image, 0, 480 - height, 0, 480 - width, 0, value=grey)


@pytest.fixture(scope="session")
def camera_clip(rendered_hand, tmp_path_factory) -> Path:
    """What Chromium's camera shows: the rendered hand, moving from side to side."""
    path = tmp_path_factory.mktemp("camera") / "hand.y4m"
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W%d H%d F10:1 Ip A1:1 C420\n" % (CAMERA_WIDTH, CAMERA_HEIGHT))
        for index in range(CAMERA_FRAMES):
            frame = np.full((CAMERA_HEIGHT, CAMERA_WIDTH, 3), 90, np.uint8)
            left = 80 + round(30 * np.sin(2 * np.pi * index / CAMERA_FRAMES))
            frame[:, left : left + CAMERA_HEIGHT] = rendered_hand
            file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420).tobytes())
    return path


@pytest.fixture(scope="session")
def browser(camera_clip) -> Iterator:
    """Chromium, whose camera shows the clip; a playwright Browser."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not installed: `apt install chromium`")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program,
            args=[*_CHROMIUM_OPTIONS, f"--use-file-for-fake-video-capture={camera_clip}"],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser) -> Iterator[Callable]:
    """A function that opens a page in a browser of its own; options as `Browser.new_context`.

    The test fails if a page has an error that nobody caught.
    """
    errors: list[str] = []
    with contextlib.ExitStack() as stack:

        def open_page(url: str, **options):
            permissions = ["camera", "clipboard-read", "clipboard-write"]
            context = browser.new_context(permissions=permissions, **options)
            stack.callback(context.close)
            # With its first route a context begins to hold its requests, and one that a page sends
            # just then, such as a save, may slip past. So it has a route before it has a page.
            context.route("**/nothing", lambda route: route.abort())
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(url)
            return page

        yield open_page
    assert not errors


@pytest.fixture(scope="session")
def site_url() -> Iterator[str]:
    """The address of `mcc-web`, for all tests of the live page."""
    with served("mcc_caffe.web", "--port", 0) as url:
        yield url


@pytest.fixture
def other_site() -> Iterator[tuple[str, list[str]]]:
    """The address of another web server, and the paths that it has been asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", paths
        server.shutdown()
