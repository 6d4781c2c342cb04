"""The live page in a real Chromium: its answers are those of Python, and nothing leaves it."""

import base64
import io
import json
import wave

import cv2
import numpy as np
import PIL.Image
import pytest

from mcc_caffe import HandPredictor
from mcc_caffe.core.geometry import apply, rotation, rotation_about_centre
from mcc_caffe.core.hand import (
    FINGER_COLOURS,
    MASK_THRESHOLD,
    NAMES,
    SKELETON,
    WRIST_COLOUR,
    has_plausible_bones,
    pointing_angle,
)
from mcc_caffe.core.images import decode_image
from mcc_caffe.inference.looks import Look, Looker, upright_look
from mcc_caffe.inference.pyramid import MaskCells, mask_in_image
from mcc_caffe.inference.reports import OneHandReport
from mcc_caffe.inference.video_writing import video_writer
from mcc_caffe.serving.site import STATIC
from tests.support.commands import run
from tests.support.images import encoded, orientation_tags
from tests.support.pages import wait_for_frames, wait_until
from tests.support.servers import served

# Of following.js.
SIDE = 1.8  # in longer sides of the keypoints' box
TURN_TOLERANCE = 10  # degrees


@pytest.fixture(scope="module")
def predictor() -> HandPredictor:
    return HandPredictor(looks=1)


@pytest.fixture(scope="module")
def live_page(browser, site_url):
    """The page, ready; tests use it one after the other, since it takes seconds to load."""
    errors, requests = [], []
    context = browser.new_context(permissions=["camera", "clipboard-read", "clipboard-write"])
    context.on("request", lambda request: requests.append(request.url))
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(site_url)
    wait_until_ready(page)
    yield page
    context.close()
    assert not errors
    assert requests and all(url.startswith((site_url, "blob:", "data:")) for url in requests)


@pytest.fixture
def page(live_page):
    """The page as it was after loading, but for the image that it shows."""
    yield live_page
    live_page.set_viewport_size({"width": 1280, "height": 720})
    if live_page.inner_text("#camera") == "Stop camera":
        live_page.click("#camera")
    for option in ("#mask", "#skeleton", "#follow"):
        live_page.check(option)
    live_page.evaluate("document.getElementById('table').open = false")
    live_page.fill("#threshold", "0.2")


def wait_until_ready(page) -> None:
    page.wait_for_selector("#camera:enabled")


def wait_for_answer(page, name: str) -> None:
    page.wait_for_function(
        "name => document.getElementById('view').ariaLabel.startsWith(`${name}: `)", arg=name
    )


def start_camera(page) -> None:
    """Start the camera, and wait until its frames are looked at."""
    page.click("#camera")
    page.wait_for_function(
        "() => /[1-9].* frames.s/.test(document.getElementById('speed').textContent)"
    )


def copied_report(page) -> dict:
    page.evaluate("document.getElementById('status').textContent = ''")
    page.click("#copy")
    page.wait_for_function(
        "() => document.getElementById('status').textContent.includes('clipboard')"
    )
    return json.loads(page.evaluate("navigator.clipboard.readText()"))


def canvas_pixels(page) -> np.ndarray:
    return decode_url(page.evaluate("document.getElementById('view').toDataURL('image/png')"))


def decode_url(url: str) -> np.ndarray:
    """Return the pixels of an image in a data URL."""
    content = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_COLOR)


def pause(page) -> None:
    """Pause, and wait until the frame that the video still showed is looked at."""
    page.click("#pause")
    page.wait_for_function(
        """() => {
            const view = document.getElementById('view').toDataURL();
            if (view !== window.lastView) [window.lastView, window.lastChange] = [view, Date.now()];
            return Date.now() - window.lastChange > 1000;
        }""",
        polling=200,
    )


def drop(page, content: bytes, name: str, media_type: str) -> None:
    """Drop a file on the page, as the mouse does."""
    drop_files(page, [(content, name, media_type)])


def drop_files(page, files: list[tuple[bytes, str, str]]) -> None:
    """Drop files, each the content, the name and the type, on the page."""
    transfer = page.evaluate_handle(
        """(files) => {
            document.getElementById('view').ariaLabel = ''; // of an earlier file of the same name
            const transfer = new DataTransfer();
            for (const [text, name, type] of files) {
                const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type }));
            }
            return transfer;
        }""",
        [(base64.b64encode(content).decode(), *names) for content, *names in files],
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def assert_same_answer(report: dict, pose, pixels: float, doubt: float = 0.02) -> None:
    """Compare a report of the page with Python's answer.

    Args:
        report: The page's.
        pose: Python's.
        pixels: How far keypoints may lie apart, in pixels of the input.
        doubt: How far their confidences may be apart, and how much lower than the highest point
            the map of a keypoint that lies further away may be.
    """
    scale = max(pose.image_size) / pose.input_size
    is_present = [point is not None for point in report["keypoints"]]
    margin = np.abs(pose.keypoints[:, 2] - 0.2) > 0.02  # the others may fall on either side
    assert (np.array(is_present) == pose.present)[margin].all()
    for point, (x, y, confidence), heatmap in zip(
        report["keypoints"], pose.keypoints, pose.heatmaps
    ):
        if point is None:
            continue
        assert abs(point["confidence"] - confidence) < doubt, point
        is_near = np.hypot(point["x"] - x, point["y"] - y) < pixels * scale
        # Of two maxima that are nearly as high, or of a flat one, a grey level moves the highest.
        column, row = apply(pose.image_to_input[0], [(point["x"], point["y"])])[0].astype(int)
        assert is_near or heatmap.max() - heatmap[row, column] < doubt, point


def assert_same_boxes(report: dict, pose) -> None:
    """Compare the boxes with Python's; each side may differ by one of the input's pixels."""
    for box, expected in ((report["box"], pose.box), (report["mask_box"], pose.mask_box())):
        assert tuple(box) == expected._fields
        differences = np.abs(np.subtract(list(box.values()), expected))
        assert differences.max() <= max(1, max(pose.image_size) / pose.input_size), (box, expected)


def test_a_dropped_image_gets_pythons_answer(page, rendered_hand, predictor):
    content = encoded(rendered_hand)
    drop(page, content, "hand.png", "image/png")
    wait_for_answer(page, "hand.png")
    report, pose = copied_report(page), predictor.predict(rendered_hand)
    assert_same_answer(report, pose, pixels=1.01)
    assert list(report) == list(OneHandReport.__annotations__), "infer writes other entries"
    assert (report["method"], report["levels"], report["looks"]) == ("single pass", None, 1)
    assert report["hand_present"] is True
    assert report["program"] == "mcc_caffe.web" and report["image"] == "hand.png"
    assert (report["width"], report["height"]) == (480, 480)
    assert report["score"] == pytest.approx(pose.score, abs=0.01)
    assert_same_boxes(report, pose)
    assert report["weights"]["variant"] == "mini" and "/" not in report["weights"]["file"]
    page.click("#table summary")
    page.wait_for_selector("#rows tr")  # the browser tells of an opened table a moment later
    assert page.locator("#rows").get_by_role("rowheader").all_inner_texts() == list(NAMES)
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "hand.json"
    assert json.loads(download.value.path().read_text()) == report


@pytest.mark.parametrize("shape", [(64, 200), (1400, 1000), (3001, 1999), (33, 33)])
def test_images_of_every_size_get_pythons_answer(page, rendered_hand, predictor, shape):
    """Reduced by averaging, halved, enlarged; not square, and with odd sides."""
    image = cv2.resize(rendered_hand, shape, interpolation=cv2.INTER_AREA)
    name = f"hand{shape[0]}.png"
    drop(page, encoded(image), name, "image/png")
    wait_for_answer(page, name)
    # OpenCV interpolates at multiples of 1/32 of a pixel, which shows where an image is enlarged.
    doubt = 0.06 if max(shape) < predictor.input_size else 0.02
    report, pose = copied_report(page), predictor.predict(image)
    assert_same_answer(report, pose, pixels=1.5, doubt=doubt)
    assert_same_boxes(report, pose)


def turned_webp(orientation: int, endian: str = "<") -> bytes:
    """Make a WebP of 3 x 2 pixels with an EXIF orientation, in a byte order of EXIF's."""
    exif, content = orientation_tags(orientation), io.BytesIO()
    exif.endian = endian
    colours = 40 * np.arange(6, dtype=np.uint8).reshape(2, 3, 1) + (0, 20, 40)
    image = PIL.Image.fromarray(colours.astype(np.uint8))
    image.save(content, "WEBP", lossless=True, exif=exif.tobytes())
    return content.getvalue()


def test_webp_is_turned_upright_as_python_does(page):
    files = [turned_webp(orientation) for orientation in range(1, 9)]
    # The other byte order, a value that EXIF does not know, and tags beyond the file's end.
    damaged = turned_webp(6).replace(b"II*\0\x08\0\0\0", b"II*\0\xff\0\0\0")
    files += [turned_webp(6, ">"), turned_webp(9), damaged]
    pixels = page.evaluate(
        """async (texts) => {
            const { uprightBitmap } = await import('./live/webp.js');
            return Promise.all(texts.map(async (text) => {
                const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
                const bitmap = await uprightBitmap(new Blob([bytes]));
                const context = new OffscreenCanvas(3, 3).getContext('2d');
                context.drawImage(bitmap, 0, 0);
                const { width, height } = bitmap;
                return [[height, width], [...context.getImageData(0, 0, width, height).data]];
            }));
        }""",
        [base64.b64encode(content).decode() for content in files],
    )
    for content, (shape, values) in zip(files, pixels):
        bgr_pixels = np.reshape(values, (*shape, 4))[..., 2::-1]
        assert np.array_equal(bgr_pixels, decode_image(content))
    drop(page, files[5], "phone.webp", "image/webp")
    wait_for_answer(page, "phone.webp")
    report = copied_report(page)
    assert (report["width"], report["height"]) == (2, 3)


def test_the_camera_is_shown_live(page, predictor):
    page.uncheck("#follow")
    start_camera(page)
    pause(page)
    for option in ("#mask", "#skeleton"):
        page.uncheck(option)
    # Picture and report in one turn of the page, between which no frame comes.
    url = page.evaluate(
        """() => {
            document.getElementById('copy').click();
            return document.getElementById('view').toDataURL('image/png');
        }"""
    )
    pixels = decode_url(url)
    assert pixels.shape == (480, 640, 3)
    page.wait_for_selector("#status:has-text('in the clipboard')")
    report = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert_same_answer(report, predictor.predict(pixels), pixels=1.5)
    page.check("#skeleton")
    assert (canvas_pixels(page) != pixels).any()
    page.click("#camera")
    assert page.inner_text("#camera") == "Start camera"


def test_what_a_button_has_done_can_be_read_while_the_camera_runs(page):
    start_camera(page)
    (copied, _), (replaced, text) = page.evaluate(
        """async () => {
            const status = document.getElementById('status');
            const changes = [];
            await new Promise((done) => {
                new MutationObserver(() => {
                    const isCopied = status.textContent.includes('in the clipboard');
                    if (changes.length || isCopied) {
                        changes.push([performance.now(), status.textContent]);
                    }
                    if (changes.length === 2) done();
                }).observe(status, { childList: true, characterData: true, subtree: true });
                document.getElementById('copy').click();
            });
            return changes;
        }"""
    )
    assert replaced - copied > 1500 and "a hand is shown" in text


@pytest.fixture
def streams(page):
    """The camera streams that the page has got, as a handle of a JavaScript array."""
    yield page.evaluate_handle(
        """() => {
            const streams = [];
            const media = navigator.mediaDevices;
            const ask = window.askForCamera = media.getUserMedia.bind(media);
            media.getUserMedia = async (wishes) => {
                streams.push(await ask(wishes));
                return streams.at(-1);
            };
            return streams;
        }"""
    )
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = window.askForCamera; }")


def test_a_camera_that_is_unplugged_is_told(page, streams):
    start_camera(page)
    page.evaluate("document.getElementById('cameras').add(new Option('unplugged', ''))")
    streams.evaluate(
        """([stream]) => {
            const [track] = stream.getTracks();
            track.stop(); // the browser says so only where the page itself did not stop it
            track.dispatchEvent(new Event('ended'));
        }"""
    )
    page.wait_for_selector("#problem:has-text('the camera gives no more frames')")
    assert page.inner_text("#camera") == "Start camera" and page.is_disabled("#pause")
    assert page.text_content("#status") == ""
    page.wait_for_function("() => document.getElementById('cameras').options.length === 1")


# Chooses a camera that is not there, as one that was unplugged after the list was made.
_CHOOSE_MISSING_CAMERA = """() => {
    const list = document.getElementById('cameras');
    document.getElementById('camera-choice').hidden = false;
    list.focus();
    list.add(new Option('unplugged', 'ab'.repeat(32), false, true));
    list.dispatchEvent(new Event('change'));
}"""


@pytest.mark.parametrize("is_another_running", [False, True])
def test_a_camera_of_the_list_that_is_gone_is_told_and_leaves_the_list(page, is_another_running):
    start_camera(page)
    if not is_another_running:
        page.click("#camera")
    page.evaluate(_CHOOSE_MISSING_CAMERA)
    page.wait_for_selector("#problem:visible")
    problem = "Problem: the camera is not there any more: plug it in, or choose another."
    assert page.inner_text("#problem") == problem
    assert page.inner_text("#camera") == ("Stop" if is_another_running else "Start") + " camera"
    cameras = "[...document.getElementById('cameras').options].map((option) => option.label)"
    assert len(page.evaluate(cameras)) == 1 and "unplugged" not in page.evaluate(cameras)
    assert page.evaluate("document.activeElement.id") == "camera"  # a list of one is hidden


def test_the_camera_button_says_by_its_words_alone_whether_the_camera_runs(page):
    """Together with aria-pressed "Stop camera" would say that stopping is under way."""
    start_camera(page)
    assert page.inner_text("#camera") == "Stop camera"
    assert page.get_attribute("#camera", "aria-pressed") is None


def test_a_camera_that_cannot_be_shown_is_released(page, streams):
    page.evaluate(
        """() => {
            window.play = HTMLMediaElement.prototype.play;
            HTMLMediaElement.prototype.play = () => Promise.reject(new DOMException('no power'));
        }"""
    )
    page.click("#camera")
    page.wait_for_selector("#problem:visible")
    page.evaluate("() => { HTMLMediaElement.prototype.play = window.play; }")
    assert "the camera could not be started (no power)" in page.inner_text("#problem")
    assert streams.evaluate("([stream]) => stream.getTracks()[0].readyState") == "ended"
    assert page.inner_text("#camera") == "Start camera"


def test_a_frame_that_comes_after_its_camera_has_stopped_is_released(page):
    page.evaluate(
        """() => {
            window.makeBitmap = window.createImageBitmap;
            window.frames = [];
            window.createImageBitmap = async (video) => {
                const frame = await window.makeBitmap(video);
                window.frames.push(frame);
                await new Promise((resolve) => (window.hand_over = resolve));
                return frame;
            };
        }"""
    )
    page.click("#camera")
    page.wait_for_function("() => window.frames.length")
    page.click("#camera")
    page.evaluate("() => { window.createImageBitmap = window.makeBitmap; window.hand_over(); }")
    wait_for_frames(page)
    assert page.evaluate("window.frames.map(({ width }) => width)") == [0]  # which says: closed


def test_the_browsers_own_words_get_no_second_full_stop(page):
    page.evaluate(
        """() => {
            window.makeBitmap = window.createImageBitmap;
            window.createImageBitmap = () => Promise.reject(new DOMException('There is no frame.'));
        }"""
    )
    page.click("#camera")
    page.wait_for_selector("#problem:visible")
    page.evaluate("() => { window.createImageBitmap = window.makeBitmap; }")
    assert page.inner_text("#problem") == "Problem: There is no frame."


def test_an_error_without_words_is_told_by_its_name(page):
    reasons = page.evaluate(
        """async () => {
            const { reasonOf } = await import('./shared/errors.js');
            const errors = [new DOMException('', 'AbortError'), new Error('No power.'), 12, null];
            return errors.map(reasonOf);
        }"""
    )
    assert reasons == ["AbortError", "No power", "12", "null"]


def test_without_cameras_a_file_may_still_be_called_camera(page, rendered_hand):
    """Browsers give a page on plain http at another host no `mediaDevices`."""
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { configurable: true })")
    page.click("#camera")
    page.wait_for_selector("#problem:has-text('open it at https:// or localhost')")
    drop(page, encoded(rendered_hand), "camera", "image/png")
    wait_for_answer(page, "camera")
    assert page.is_hidden("#problem") and page.inner_text("#camera") == "Start camera"
    page.evaluate("() => { delete navigator.mediaDevices; }")


def test_an_image_dropped_while_the_network_loads_is_opened_then(new_page, site_url, rendered_hand):
    page, models = new_page("about:blank"), []
    page.route("**/model.json", lambda route: models.append(route))
    page.goto(site_url)
    wait_until(page, lambda: models)  # so that the page listens, too
    drop(page, encoded(rendered_hand), "early.png", "image/png")
    models[0].continue_()
    wait_for_answer(page, "early.png")


@pytest.mark.parametrize(
    "name",
    [
        "live/main.js",
        "shared/drawing.js",
        "shared/network_worker.js",
        "shared/session.js",
        "model.json",
        "model.onnx",
        "vendor/onnxruntime-web/ort.wasm.min.js",
        "vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm.gz",
    ],
)
def test_a_file_of_the_page_that_cannot_be_loaded_is_told(new_page, site_url, name):
    page = new_page("about:blank")
    page.route(f"**/{name}", lambda route: route.abort())
    page.goto(site_url)
    page.wait_for_selector("#problem:visible")
    problem = page.inner_text("#problem")
    named = {"shared/drawing.js": "live/main.js", "shared/session.js": "shared/network_worker.js"}
    assert f"/{named.get(name, name)}" in problem and "undefined" not in problem
    if name in ("live/main.js", "shared/drawing.js"):
        assert problem.endswith(": open it through a web server that runs.")
    else:
        assert ": check that the server runs" in problem
        assert problem.endswith("then load the page again.")
    assert page.text_content("#status") == ""


def test_a_page_that_is_opened_as_a_file_says_that_it_needs_a_server(new_page):
    page = new_page((STATIC / "index.html").as_uri())
    page.wait_for_selector("#problem:has-text(': open it through a web server that runs.')")
    assert page.text_content("#status") == ""


@pytest.mark.parametrize(
    ("name", "status"),
    [("model.json", 200), ("model.onnx", 404), ("ort-wasm-simd-threaded.wasm.gz", 200)],
)
def test_a_file_of_the_page_that_another_answer_replaces_is_told(new_page, site_url, name, status):
    """As of a web server that has not all files, or not the complete ones."""
    page = new_page("about:blank")
    page.route(f"**/{name}", lambda route: route.fulfill(status=status, body=b"\x1f\x8bno file"))
    page.goto(site_url)
    page.wait_for_selector("#problem:visible")
    problem = page.inner_text("#problem")
    assert f"/{name} cannot be loaded (" in problem and "load the page again" in problem
    assert ("(status 404)" in problem) is (status == 404)


# In the place of session.js: the mask holds how many runs are under way, and a run at 64 fails.
_SLOW_SESSION = """
let underWay = 0;
export async function openSession() {
    return { engine: 'none', model: { input_size: 32 }, run };
}
async function run(input, size) {
    underWay += 1;
    const mask = new Float32Array((size / 8) ** 2).fill(underWay);
    if (size === 64) setTimeout(() => { throw new Error('no power'); });
    await new Promise((resolve) => setTimeout(resolve, size === 64 ? 5_000 : 30));
    underWay -= 1;
    return { mask, heatmaps: new Float32Array(22 * mask.length) };
}
"""
# Returns the masks' first cells of three looks, and what two later ones are rejected with.
_LOOK = """async () => {
    const { Network } = await import('/shared/network.js');
    const { imageWindow } = await import('/shared/letterbox.js');
    const network = await Network.open();
    const look = async (size) => {
        const image = await createImageBitmap(new ImageData(32, 32));
        const { answer } = await network.look(image, imageWindow(32, 32), size);
        return answer.mask[0];
    };
    const answers = await Promise.all([look(), look(), look()]);
    const failing = [await look(64).catch(String), await look().catch(String)];
    return [answers, failing];
}"""


def test_looks_go_through_the_network_one_after_another_and_fail_with_its_thread(browser, site_url):
    with browser.new_page() as page:
        page.route(
            "**/session.js",
            lambda route: route.fulfill(body=_SLOW_SESSION, content_type="text/javascript"),
        )
        page.goto(f"{site_url}live/icon.svg")
        answers, failing = page.evaluate(_LOOK)
    assert answers == [1, 1, 1]
    assert len(set(failing)) == 1 and "the network's thread has failed (" in failing[0]
    assert "no power" in failing[0]


def show_black_image(page, site_url: str, session: str, size: tuple[int, int]) -> None:
    """Show an image to the page of which session.js has this content."""
    page.route(
        "**/session.js",
        lambda route: route.fulfill(body=session, content_type="text/javascript"),
    )
    page.goto(site_url)
    wait_until_ready(page)
    drop(page, encoded(np.zeros((*size, 3), np.uint8)), "still.png", "image/png")
    wait_for_answer(page, "still.png")


# In the place of session.js: a network that answers every image with the same confidences.
_FIXED_SESSION = """
const confidences = CONFIDENCES;
export async function openSession() {
    const model = { input_size: 32, threshold: 0.2, least_score: 0.1, weights: {} };
    return { engine: 'none', model, run };
}
async function run(input, size) {
    const cells = (size / 8) ** 2;
    const heatmaps = new Float32Array(22 * cells);
    confidences.forEach((value, k) => heatmaps.fill(value, k * cells, (k + 1) * cells));
    return { mask: new Float32Array(cells).fill(1), heatmaps };
}
"""


@pytest.mark.parametrize(
    ("confidences", "is_hand"),
    [
        ([1.0] * 3 + [0.0] * 18, True),  # too few keypoints to be followed
        ([0.15] * 21, False),  # the score is that of a hand, and no keypoint is present
        ([1.0] + [0.0] * 20, False),  # the score is none of a hand
    ],
)
def test_image_camera_and_json_say_the_same_of_a_hand(new_page, site_url, confidences, is_hand):
    page = new_page("about:blank")
    session = _FIXED_SESSION.replace("CONFIDENCES", json.dumps(confidences))
    show_black_image(page, site_url, session, (60, 80))
    words = "3 of 21 keypoints are surer than 0.20." if is_hand else "no hand is found."
    assert page.inner_text("#status") == f"still.png: {words}"
    assert copied_report(page)["hand_present"] is is_hand
    assert canvas_pixels(page).any() == is_hand  # without a hand no mask lies on the black image
    page.click("#camera")
    words = "a hand is shown." if is_hand else "no hand is found."
    page.wait_for_selector("#status:has-text('camera: ')")
    assert page.inner_text("#status") == f"camera: {words}"


# Likewise, but each keypoint has its own cell of 16 x 16.
_POINTED_SESSION = """
const [points, confidences] = POINTS;
export async function openSession() {
    const model = { input_size: 128, threshold: 0.2, least_score: 0.1, weights: {} };
    return { engine: 'none', model, run };
}
async function run(input, size) {
    const heatmaps = new Float32Array(22 * 256);
    points.forEach(([x, y], k) => { heatmaps[256 * k + 16 * y + x] = confidences[k]; });
    return { mask: new Float32Array(256).fill(1), heatmaps };
}
"""
# x, y: the wrist, and four keypoints of each finger above it.
_FAN = [(8, 14), *((3 + 2 * finger, 12 - 2 * joint) for finger in range(5) for joint in range(4))]


def report_of(page, site_url, points, confidences):
    """Return the report of an image in which a network has keypoints at these cells."""
    session = _POINTED_SESSION.replace("POINTS", json.dumps([points, confidences]))
    show_black_image(page, site_url, session, (128, 128))
    return copied_report(page)


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_bone_that_is_too_long_shows_no_hand(new_page, site_url, is_torn):
    points = list(_FAN)
    if is_torn:
        points[4] = (15, 15)  # the thumb's tip
    report = report_of(new_page("about:blank"), site_url, points, [0.9] * 21)
    assert report["hand_present"] is not is_torn
    assert has_plausible_bones(np.array(points, float)) is not is_torn


@pytest.mark.parametrize(("count", "width"), [(6, 23), (5, 71)])
def test_the_box_goes_around_all_keypoints_where_few_are_confident(
    new_page, site_url, count, width
):
    confidences = [0.1] + [0.9] * count + [0.1] * (20 - count)  # of the thumb and one or two more
    report = report_of(new_page("about:blank"), site_url, _FAN, confidences)
    assert sum(point is not None for point in report["keypoints"]) == count
    assert report["box"]["width"] == pytest.approx(width, abs=6)


def turned_image(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turn an image about its centre, clockwise, and make it wider by a quarter."""
    height, width = image.shape[:2]
    turned = cv2.warpAffine(
        image,
        rotation_about_centre(-degrees, (width, height)),
        (width, height),
        flags=cv2.INTER_AREA,
        borderValue=(90, 90, 90),
    )
    return cv2.copyMakeBorder(turned, 0, 0, 0, width // 4, cv2.BORDER_CONSTANT, value=(90, 90, 90))


# Looks at a window of an image, and draws the mask, and the heatmaps on black.
_TURNED_LOOK = """async ([text, window]) => {
    const { networkInput, windowMap } = await import('./shared/letterbox.js');
    const { drawHeatmaps, drawMask } = await import('./shared/drawing.js');
    const { Network } = await import('./shared/network.js');
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
    const network = await Network.open();
    const size = network.model.input_size;
    const { answer, image } = await network.look(bitmap, window);
    const { width, height } = image;
    const map = windowMap(window, width, height, size);
    const draw = (drawing, background) => {
        const context = new OffscreenCanvas(width, height).getContext('2d');
        context.fillStyle = background;
        context.fillRect(0, 0, width, height);
        drawing(context, answer);
        const { data } = context.getImageData(0, 0, width, height);
        return btoa(Array.from(data, (value) => String.fromCharCode(value)).join(''));
    };
    return {
        input: [...networkInput(image, width, height, map, size)],
        keypoints: answer.keypoints,
        mask: draw(drawMask, 'transparent'),
        heatmaps: draw(drawHeatmaps, 'black'),
    };
}"""


@pytest.mark.parametrize(("degrees", "enlargement"), [(0, 1), (120, 1), (-100, 2)])
def test_a_turned_window_gets_pythons_answer(page, rendered_hand, predictor, degrees, enlargement):
    """The hand itself points 7 degrees to the left; enlarged, the image is halved before."""
    size = (enlargement * rendered_hand.shape[1], enlargement * rendered_hand.shape[0])
    image = turned_image(cv2.resize(rendered_hand, size), degrees)
    height, width = image.shape[:2]
    look = upright_look(predictor.predict(image).keypoints, SIDE, (width, height))
    assert abs(look.turn - (degrees - 7)) < 8
    looker = Looker(image, predictor.input_size, predictor.engine)
    (expected,) = looker.look([look])
    expected_input = np.empty((3, looker.size, looker.size), np.float32)
    looker.octaves().network_input(expected.image_to_input, looker.size, out=expected_input)

    content = base64.b64encode(cv2.imencode(".png", image)[1]).decode()
    window = dict(zip(("x", "y", "width", "height"), look.window.tolist()), turn=look.turn)
    answer = page.evaluate(_TURNED_LOOK, [content, window])
    mask, heatmaps = (
        np.frombuffer(base64.b64decode(answer[name]), np.uint8).reshape(height, width, 4)
        for name in ("mask", "heatmaps")
    )

    assert np.abs(np.ravel(expected_input) - answer["input"]).max() <= 4 / 256  # grey levels
    keypoints = np.array(answer["keypoints"])
    assert np.abs(keypoints - expected.keypoints)[:, 2].max() < 0.02
    distances = np.linalg.norm((keypoints - expected.keypoints)[:, :2], axis=1)
    sure = expected.keypoints[:, 2] > 0.5
    assert sure.sum() >= 15
    assert (distances[sure] < 1.01 * look.window[2] / looker.size).all()
    hand = mask_in_image(expected.masks, (width, height)) > MASK_THRESHOLD
    tinted = mask[..., 3] > 70  # of 255 the opacity where the probability is 0.5
    assert (hand & tinted).sum() > 0.99 * (hand | tinted).sum() > 0
    heat = heatmaps[..., :3].max(axis=2)
    x, y = keypoints[sure, :2].round().astype(int).T
    assert heat[y, x].min() > 100 and np.median(heat) < 20
    keypoints[:, :2] = apply(expected.image_to_input, keypoints[:, :2])
    assert abs(pointing_angle(keypoints, keypoints[:, 2] > 0)) < 10  # as the network sees it


# The windows that follow from answers to successive frames, the first of which was looked at whole.
_NEXT_WINDOWS = """async (hands) => {
    const { nextWindow } = await import('./live/following.js');
    const { imageWindow } = await import('./shared/letterbox.js');
    const present = Array(21).fill(true);
    const windows = [imageWindow(640, 480)];
    for (const keypoints of hands) {
        const answer = { keypoints, width: 640, height: 480 };
        windows.push(nextWindow(answer, windows.at(-1), present));
    }
    return windows.slice(1);
}"""


def turned_hand(degrees: float) -> np.ndarray:
    """Return keypoints that point up, turned clockwise by some degrees."""
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-50, 50, 21), rng.uniform(-120, 60, 21)])
    points[[0, 5, 9, 13, 17]] = [(0, 70), (-20, 0), (-5, -10), (5, -10), (20, 0)]
    return np.column_stack([apply(rotation(-degrees), points) + (350, 200), np.full(21, 0.9)])


@pytest.mark.parametrize("degrees", [15, -15, 120, -120, 180])
def test_the_next_window_is_pythons_look_at_the_upright_hand(page, degrees):
    keypoints = turned_hand(degrees)
    (window,) = page.evaluate(_NEXT_WINDOWS, [keypoints.tolist()])
    look = upright_look(keypoints, SIDE, (640, 480))
    assert abs(window["turn"]) == abs(degrees) and window["turn"] == look.turn
    assert [window[name] for name in ("x", "y", "width", "height")] == look.window.tolist()


def test_the_window_of_a_hand_at_rest_stays(page):
    """Small changes leave it, also from 180 degrees to -180; a move alone leaves its turn."""
    trembling = [turned_hand(176), turned_hand(-176) + (3, -2, 0), turned_hand(180)]
    moved = [turned_hand(-178) + (60, 0, 0)]
    turned = [turned_hand(-160) + (60, 0, 0)]
    hands = [keypoints.tolist() for keypoints in trembling + moved + turned]
    first, *still, beside, last = page.evaluate(_NEXT_WINDOWS, hands)
    assert still == [first, first]
    assert beside != first and beside["turn"] == first["turn"] == 176
    assert last["turn"] == -160
    turns = [
        page.evaluate(_NEXT_WINDOWS, [turned_hand(degrees).tolist()])[0]["turn"]
        for degrees in (TURN_TOLERANCE - 1, TURN_TOLERANCE)
    ]
    assert turns == [0, TURN_TOLERANCE]


# The sides of the inputs of 4 frames and then of 60 others, which take so many seconds a pixel.
_SIZES = """async ([modelSize, seconds, laterSeconds]) => {
    const { Pace } = await import('./live/pace.js');
    const pace = new Pace(modelSize);
    let size = pace.size();
    const sizes = (count, secondsPerPixel) =>
        Array.from({ length: count }, () => {
            pace.note(size, secondsPerPixel * size ** 2);
            return (size = pace.size());
        });
    return [sizes(4, seconds), sizes(60, laterSeconds)];
}"""


@pytest.mark.parametrize(
    ("model_size", "slow_sizes"), [(208, [192, 176, 176, 176]), (96, [80] * 4), (16, [16] * 4)]
)
def test_a_slow_machine_gets_a_smaller_input_until_it_is_fast(page, model_size, slow_sizes):
    slow, fast = page.evaluate(_SIZES, [model_size, 1e-4, 1e-9])
    assert slow == slow_sizes
    assert fast == sorted(fast) and fast[-1] == model_size


def test_a_machine_that_is_a_little_too_slow_gets_one_smaller_input(page):
    """At 208 a frame takes 60 ms, at 192 51 ms, which leaves too little to try 208 again."""
    seconds = 0.06 / 208**2
    slow, still = page.evaluate(_SIZES, [208, seconds, seconds])
    assert set(slow + still) == {192}


@pytest.fixture
def windows(page):
    """The windows that the page has asked the network to look at, as a handle of an array."""
    yield page.evaluate_handle(
        """() => {
            const windows = [];
            const post = window.postToWorker = Worker.prototype.postMessage;
            Worker.prototype.postMessage = function (message, ...others) {
                windows.push(message.window);
                return post.call(this, message, ...others);
            };
            return windows;
        }"""
    )
    page.evaluate("() => { Worker.prototype.postMessage = window.postToWorker; }")


def test_a_hand_at_rest_is_followed_upright_in_one_window(
    page, windows, rendered_hand, predictor, tmp_path
):
    image = turned_image(rendered_hand, 120)
    height, width = image.shape[:2]
    with video_writer(tmp_path / "still.mp4", 2, (width, height)) as write:
        for index in range(40):
            write(image, index / 2)
    page.set_input_files("#file", tmp_path / "still.mp4")
    page.wait_for_function(
        """(windows) => {
            const [before, last] = windows.slice(-2).map((window) => JSON.stringify(window));
            return windows.length > 2 && before === last;
        }""",
        arg=windows,
    )
    first, *_, last = windows.json_value()
    assert first == {"x": 0, "y": 0, "width": width, "height": height, "turn": 0}
    pose = predictor.predict(image)
    assert abs(last["turn"] - pointing_angle(pose.keypoints, pose.present)) < TURN_TOLERANCE
    report = copied_report(page)
    assert report["score"] > pose.score + 0.05  # the network is surer of an upright hand
    points = [[point["x"], point["y"]] for point in report["keypoints"] if point]
    assert len(points) == len(NAMES)
    distances = np.linalg.norm(points - pose.keypoints[:, :2], axis=1)
    assert np.median(distances) < 0.05 * max(pose.box.width, pose.box.height)


def test_a_clip_that_is_damaged_in_its_middle_is_named(page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 128, 128, 3), dtype=np.uint8)
    clip = tmp_path / "damaged.mp4"
    with video_writer(clip, 10, (128, 128)) as write:
        for index, frame in enumerate(noise):
            write(frame, index / 10)
    content = clip.read_bytes()
    third = len(content) // 3
    clip.write_bytes(content[:third] + bytes(third) + content[2 * third :])
    page.set_input_files("#file", clip)
    page.wait_for_selector("#problem:has-text('damaged.mp4 ')")
    assert page.text_content("#status") == ""


def test_a_clip_is_answered_frame_by_frame_until_it_ends(page, rendered_hand, tmp_path):
    """The hand moves to the right; the table tells where its wrist is in every answer."""
    with video_writer(tmp_path / "clip.mp4", 5, (480, 480)) as write:
        for index in range(10):
            write(np.roll(rendered_hand, 6 * index, axis=1), index / 5)
    page.evaluate("document.getElementById('table').open = true")
    page.evaluate(
        """() => {
            window.wrists = [];
            new MutationObserver(() => {
                const text = document.querySelector('#rows tr').cells[1].textContent;
                window.wrists.push(text);
            }).observe(document.getElementById('rows'), { childList: true });
        }"""
    )
    page.set_input_files("#file", tmp_path / "clip.mp4")
    wait_for_answer(page, "clip.mp4")
    ended = "clip.mp4 has ended: press Pause to play it again."
    page.wait_for_function(
        "text => document.getElementById('status').textContent === text", arg=ended
    )
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    report = copied_report(page)
    assert (report["image"], report["width"], report["height"]) == ("clip.mp4", 480, 480)
    for _ in range(10):
        wrists = [float(text) for text in page.evaluate("window.wrists") if text != "–"]
        if len(set(wrists)) >= 2:
            break
        # A busy machine may answer only one frame of the clip's two seconds.
        page.evaluate("window.wrists = []")
        page.click("#pause")
        page.wait_for_selector("#pause[aria-pressed=false]")
        page.wait_for_selector("#pause[aria-pressed=true]")  # it has ended again
    assert len(set(wrists)) >= 2 and wrists[-1] > wrists[0] + 10
    page.evaluate("window.wrists = []")
    page.click("#pause")  # from the start
    # Any answer counts: on a busy machine the clip may end before the list is looked at again.
    page.wait_for_function(
        "most => window.wrists.some((wrist) => Number(wrist) < most)", arg=wrists[-1] - 10
    )


def test_a_pasted_image_is_answered(page, rendered_hand, predictor):
    content = base64.b64encode(cv2.imencode(".png", rendered_hand)[1]).decode()
    page.evaluate(
        """async (text) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const blob = new Blob([bytes], { type: 'image/png' });
            await navigator.clipboard.write([new ClipboardItem({ 'image/png': blob })]);
        }""",
        content,
    )
    page.keyboard.press("Control+V")
    wait_for_answer(page, "image.png")
    assert_same_answer(copied_report(page), predictor.predict(rendered_hand), pixels=1.01)


def test_an_image_without_a_hand_has_no_keypoint_present(page, predictor):
    """As in Python, where the score of the image counts."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    image = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
    assert not predictor.predict(image).present.any()
    drop(page, encoded(image), "noise.png", "image/png")
    wait_for_answer(page, "noise.png")
    assert page.inner_text("#status") == "noise.png: no hand is found."
    page.fill("#threshold", "0")
    assert copied_report(page)["keypoints"] == [None] * len(NAMES)


def test_the_browser_refuses_to_send_elsewhere(page, other_site):
    """The fixture `live_page` checks what the page itself asks for."""
    address, asked_paths = other_site
    blocked = page.evaluate(
        "url => fetch(url, {method: 'POST', body: 'x', mode: 'no-cors'}).then(() => 0, () => 1)",
        address,
    )
    assert blocked == 1 and asked_paths == []


def test_what_is_no_image_is_refused_in_one_line(page):
    drop(page, b"no image", "notes.png", "image/png")
    page.wait_for_selector("#problem:visible")
    assert "notes.png cannot be read as an image" in page.inner_text("#problem")
    drop(page, b"no clip", "clip.mp4", "video/mp4")
    page.wait_for_function(
        "() => document.getElementById('problem').textContent.includes('clip.mp4')"
    )
    drop(page, b"no image", "notes.txt", "text/plain")
    page.wait_for_selector("#problem:has-text('notes.txt is no image or clip: open')")
    assert page.is_enabled("#camera")


def test_a_clip_without_a_name_is_refused_in_a_sentence(page):
    drop(page, b"no clip", "", "video/mp4")
    page.wait_for_selector("#problem:has-text('Problem: pasted file cannot be played here: try')")


def test_of_several_files_the_first_image_is_shown(page):
    content = encoded(np.zeros((60, 80, 3), np.uint8))
    images = [(content, f"{name}.png", "image/png") for name in ("one", "two")]
    drop_files(page, [(b"no image", "notes.txt", "text/plain"), *images])
    wait_for_answer(page, "one.png")
    note = "Of 3 files the first image or clip is shown."
    assert page.inner_text("#status") == f"one.png: no hand is found. {note}"
    drop_files(page, images[1:])
    wait_for_answer(page, "two.png")
    assert page.inner_text("#status") == "two.png: no hand is found."


def drop_dark_image(page, name: str) -> None:
    """Drop an image without a hand, and wait for its answer."""
    drop(page, encoded(np.zeros((60, 80, 3), np.uint8)), name, "image/png")
    wait_for_answer(page, name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.png", "a_b.json"),
        ('5:"<*?>|\\.png', "5________.json"),
        ("..", "keypoints.json"),
        (".png", "keypoints.json"),
        (" ..~my hand~ .jpeg", "my hand~.json"),
        ("line\nbreak\u200e.png", "line_break_.json"),
        ("Hände (1) & 手.tar.png", "Hände (1) & 手.tar.json"),
    ],
)
def test_keypoints_are_saved_under_the_name_that_the_page_says(page, name, expected):
    drop_dark_image(page, name)
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == expected
    assert page.text_content("#status") == f"The keypoints are saved as {expected}."


# As browsers do at http:// of another host, and where the user has refused.
_NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', { configurable: true })"
_REFUSING_CLIPBOARD = """Object.defineProperty(navigator, 'clipboard', {
    configurable: true,
    value: { writeText: () => Promise.reject(new DOMException('Write permission denied.')) },
})"""


@pytest.mark.parametrize(
    ("clipboard", "problem"),
    [
        (
            _NO_CLIPBOARD,
            "this browser gives no clipboard to the page: open it at https:// or localhost, or "
            "save the keypoints",
        ),
        (
            _REFUSING_CLIPBOARD,
            "the clipboard cannot be written (Write permission denied): save the keypoints instead",
        ),
    ],
    ids=["none", "refusing"],
)
def test_a_clipboard_that_takes_nothing_is_told(page, clipboard, problem):
    drop_dark_image(page, "dark.png")
    page.evaluate(clipboard)
    page.click("#copy")
    page.wait_for_selector("#problem:visible")
    page.evaluate("() => { delete navigator.clipboard; }")
    assert page.inner_text("#problem") == f"Problem: {problem}."
    assert page.text_content("#status") == "dark.png: no hand is found."
    copied_report(page)
    assert page.is_hidden("#problem")


def test_a_failed_copy_takes_back_what_is_said_of_one_before_it_also_after_a_clip(
    page, rendered_hand, tmp_path
):
    with video_writer(tmp_path / "short.mp4", 5, (480, 480)) as write:
        for index in range(2):
            write(rendered_hand, index / 5)
    page.set_input_files("#file", tmp_path / "short.mp4")
    wait_for_answer(page, "short.mp4")
    page.wait_for_selector("#pause[aria-pressed=true]")
    copied_report(page)
    page.evaluate(_REFUSING_CLIPBOARD)
    page.click("#copy")
    page.wait_for_selector("#problem:visible")
    page.evaluate("() => { delete navigator.clipboard; }")
    assert page.text_content("#status") == "short.mp4 has ended: press Pause to play it again."


def test_a_pause_that_interrupts_the_start_of_a_clip_is_no_error(page, tmp_path):
    with video_writer(tmp_path / "short.mp4", 5, (48, 48)) as write:
        for index in range(2):
            write(np.zeros((48, 48, 3), np.uint8), index / 5)
    content = base64.b64encode((tmp_path / "short.mp4").read_bytes()).decode()
    page.evaluate(
        """async (text) => {
            const { openFile } = await import('./live/sources.js');
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const clip = await openFile(new File([bytes], 'short.mp4', { type: 'video/mp4' }));
            await new Promise((resolve) => (clip.onEnd = resolve));
            await Promise.all([clip.setPaused(false), clip.setPaused(true)]);
            clip.close();
        }""",
        content,
    )


def test_nothing_lies_over_an_image(page):
    """One of 400 x 60 pixels, as of a small image."""
    content = encoded(np.zeros((60, 400, 3), np.uint8))
    drop(page, content, "small.png", "image/png")
    wait_for_answer(page, "small.png")
    page.wait_for_function("() => document.getElementById('speed').textContent")
    assert page.evaluate(
        """() => {
            const box = document.getElementById('view').getBoundingClientRect();
            for (let x = box.left + 0.5; x < box.right; x += 10)
              for (let y = box.top + 5; y < box.bottom - 4; y += 10)
                if (document.elementFromPoint(x, y).id !== 'view') return false;
            return true;
        }"""
    )


def test_a_sound_is_refused_and_the_camera_goes_on(page):
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 1, 8000, 8000, "NONE", ""))
        file.writeframes(bytes(range(256)) * 31)
    start_camera(page)
    drop(page, sound.getvalue(), "sound.wav", "audio/wav")
    page.wait_for_selector("#problem:visible")
    problem = "Problem: sound.wav has no frames: open an image or a clip."
    assert page.inner_text("#problem") == problem
    page.evaluate("document.getElementById('speed').textContent = ''")
    page.wait_for_function("() => document.getElementById('speed').textContent")
    assert page.inner_text("#camera") == "Stop camera"


def test_every_control_is_reached_by_keyboard_and_has_a_name(page):
    page.set_viewport_size({"width": 360, "height": 740})
    content = encoded(np.zeros((100, 300, 3), np.uint8))
    drop(page, content, "dark.png", "image/png")
    wait_for_answer(page, "dark.png")
    reached = []
    for _ in range(26):  # twice round, as it may begin anywhere
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    first = reached.index("camera")
    reached = list(dict.fromkeys(reached[first:]))
    expected = ["camera", "file", "mask", "skeleton", "heatmaps", "follow", "threshold", "copy"]
    assert [name for name in reached if name in expected] == expected and "SUMMARY" in reached
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, input, select')].filter(
            (control) => !(control.innerText || control.labels?.[0]?.innerText)
        ).map((control) => control.id)"""
    )
    assert nameless == []
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360, "the page is wider than the phone"
    page.focus("#threshold")
    before = page.inner_text("#threshold-value")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#threshold-value") != before


def test_twice_as_large_a_text_fits_a_phone(page):
    """The text of one who sees badly; with long names of file and camera, and the table."""
    page.set_viewport_size({"width": 360, "height": 740})
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    drop_dark_image(page, f"{'IMG_20261130_' * 4}.png")
    page.click("#table summary")
    page.wait_for_selector("#rows tr")
    page.evaluate(
        """() => {
            document.getElementById('camera-choice').hidden = false;
            document.getElementById('cameras').add(new Option('Integrated Camera (04f2:b6d9)'));
        }"""
    )
    width = page.evaluate("document.documentElement.scrollWidth")
    page.evaluate(
        """() => {
            document.getElementById('camera-choice').hidden = true;
            document.getElementById('cameras').replaceChildren();
            document.documentElement.style.fontSize = '';
        }"""
    )
    assert width <= 360


def test_forced_colours_show_what_is_pressed(new_page, site_url):
    page = new_page(site_url, forced_colors="active")
    released, pressed = page.evaluate(
        """["false", "true"].map((isPressed) => {
            const button = document.getElementById("pause");
            button.ariaPressed = isPressed;
            return getComputedStyle(button).backgroundColor;
        })"""
    )
    assert pressed != released


# The mask's box in an image of 100 x 50 pixels, whose mask of 4 x 4 cells is 1 in its first rows.
_MASK_BOX = """async ([window, rows]) => {
    const { reportJson } = await import('./live/report.js');
    const { windowMap } = await import('./shared/letterbox.js');
    const keypoints = Array.from({ length: 21 }, () => [0, 0, 0]);
    const mask = new Float32Array(16).fill(1, 0, 4 * rows);
    const map = windowMap(window, 100, 50, 32);
    const answer = { keypoints, mask, cells: 4, map, width: 100, height: 50 };
    const seconds = { network: 0, total: 0 };
    const options = { name: '', present: keypoints.map(() => true) };
    return JSON.parse(reportJson({ ...answer, seconds }, options)).mask_box;
}"""


@pytest.mark.parametrize(
    ("window", "turn", "rows", "tolerance"),
    [
        ((0, 0, 100, 50), 0, 4, 0),  # the image fills the upper half of the input
        ((0, 0, 100, 50), 0, 1, 0),
        ((0.5, 9, 30, 30), 0, 4, 0),  # a part of the image
        ((-20, -45, 60, 60), 0, 4, 0),  # beyond its corner
        ((0, -25, 100, 100), 90, 4, 0),  # it fills the middle half, and its right end is at the top
        ((0, -25, 100, 100), 90, 1, 0),
        ((20, 0, 40, 40), 30, 4, 2),  # Python draws the edges of a turned input, too
        ((20, 0, 40, 40), 30, 2, 2),
    ],
)
def test_the_box_of_the_mask_is_pythons(page, window, turn, rows, tolerance):
    sides = dict(zip(("x", "y", "width", "height"), window), turn=turn)
    box = page.evaluate(_MASK_BOX, [sides, rows])
    cells = np.zeros((4, 4), np.float32)
    cells[:rows] = 1
    image_to_input = Look(np.array(window), turn=turn).image_to_input((100, 50), 32)
    mask = mask_in_image([MaskCells(cells, image_to_input)], (100, 50))
    expected = cv2.boundingRect((mask > MASK_THRESHOLD).view(np.uint8))
    assert np.abs(np.subtract(list(box.values()), expected)).max() <= tolerance, (box, expected)


def test_a_mask_beside_the_image_has_no_box(page):
    window = {"x": 0, "y": -50, "width": 100, "height": 100, "turn": 0}
    assert page.evaluate(_MASK_BOX, [window, 2]) is None


# The canvas on which a wrist and the thumb's base beside it are drawn, over a black image.
_BONE = """async ([length, side, count]) => {
    const { draw } = await import('./live/view.js');
    const image = new OffscreenCanvas(side, side);
    image.getContext('2d').fillRect(0, 0, side, side);
    const keypoints = Array.from({ length: 21 }, (_, k) => [20 + k * length, side / 2 - 0.5]);
    const canvas = document.createElement('canvas');
    const present = keypoints.map((_, k) => k < count);
    draw(canvas, image, { keypoints }, present, { skeleton: true });
    return canvas.toDataURL('image/png');
}"""


@pytest.mark.parametrize(
    ("length", "side", "width"),
    [
        (320, 480, 4),
        (160, 640, 2),  # a small part of the image
        (40, 320, 1),  # a bone is at least one pixel wide
        (640, 2560, 4),  # the canvas has half of the image's pixels
    ],
)
def test_bones_are_as_wide_as_those_of_infer(page, length, side, width):
    """An eightieth of the hand's longer side."""
    pixels = decode_url(page.evaluate(_BONE, [length, side, 2]))
    scale = min(1, 1280 / side)
    assert len(pixels) == scale * side
    middle = pixels[:, int(scale * (20 + length / 2)), 0]
    assert middle.sum() / FINGER_COLOURS[0][0] == pytest.approx(width, rel=0.02)


def test_a_single_keypoint_is_drawn_small_and_none_not_at_all(page):
    dot = decode_url(page.evaluate(_BONE, [160, 640, 1]))[..., 0]
    assert dot.sum() / WRIST_COLOUR[0] == pytest.approx(np.pi * 2.4**2, rel=0.05)
    assert not decode_url(page.evaluate(_BONE, [160, 640, 0])).any()


def test_the_page_draws_the_hand_of_the_package(page):
    hand = page.evaluate(
        """async () => {
            const hand = await import('./shared/hand.js');
            return { names: hand.NAMES, skeleton: hand.SKELETON, wrist: hand.WRIST_COLOUR,
                     fingers: hand.FINGER_COLOURS };
        }"""
    )
    assert hand["names"] == list(NAMES)
    assert hand["skeleton"] == [[start, end] for start, end, _ in SKELETON]
    assert hand["wrist"] == list(WRIST_COLOUR[::-1])
    assert hand["fingers"] == [list(colour[::-1]) for colour in FINGER_COLOURS]


def test_the_exported_site_works_on_a_plain_server(new_page, rendered_hand, predictor, tmp_path):
    done = run("mcc_caffe.web", "--export", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    where = ("--bind", "127.0.0.1", "--directory", tmp_path / "site")
    with served("http.server", 0, *where) as url:
        page = new_page(url)
        wait_until_ready(page)
        assert not page.evaluate("crossOriginIsolated")
        drop(page, encoded(rendered_hand), "hand.png", "image/png")
        wait_for_answer(page, "hand.png")
        report = copied_report(page)
    assert_same_answer(report, predictor.predict(rendered_hand), pixels=1.01)
    assert report["engine"] == "onnxruntime-web (WebAssembly, 1 thread)"
