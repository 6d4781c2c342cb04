"""The labelling page in a real Chromium, from the first image to a training on the labels."""

import contextlib
import json
import pathlib
import re
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from data_tools import build_lmdb
from data_tools.build_lmdb import TRAIN, VALIDATION
from data_tools.hands.live import LiveHands
from mcc_caffe.core.files import LABELS_FOLDER
from mcc_caffe.core.hand import FINGERS
from mcc_caffe.data.samples import Sample, SampleSet
from mcc_caffe.paper import KEYPOINT_COUNT
from mcc_caffe.serving.label_documents import Labels, Point
from mcc_caffe.serving.label_files import COCO, ONEHAND10K
from mcc_caffe.serving.run_lengths import decode_runs
from mcc_caffe.serving.site import STATIC
from tests.support.commands import log, run, wait_for
from tests.support.labels import read_back
from tests.support.pages import wait_for_frames, wait_until
from tests.support.servers import MODULE, running_server

SIZE = 256  # pixels, the longer side of the rendered images


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    """Three rendered hands."""
    live = LiveHands(f"synth:seed=3&size={SIZE}&easy=1")
    return [live[index].image_bytes for index in range(3)]


@pytest.fixture
def folder(tmp_path, images) -> pathlib.Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, content in enumerate(images):
        (folder / f"hand #{index}.jpg").write_bytes(content)
    return folder


class LabelPage:
    """What the tests do on a page, in pixels of the image."""

    def __init__(self, page):
        self.page = page
        page.wait_for_selector("#images [aria-current=true]", state="attached")
        wait_for_frames(page)  # in which the image and the tools are drawn

    def shown_wrist(self) -> str:
        """Return what the page's list says of the wrist; see `wrist_text`."""
        wait_for_frames(self.page)
        return self.page.text_content("#points li").strip()

    def wait_until_saved(self) -> None:
        self.page.wait_for_selector("#saved[data-state=saved]")

    def wait_for_message(self, text: str) -> None:
        self.page.wait_for_function(
            "text => document.getElementById('message').textContent.includes(text)", arg=text
        )

    def key(self) -> str:
        return self.page.evaluate("location.hash.slice(1)")

    def image(self, key: str | None = None) -> dict:
        """Return what the server knows of an image, the open one by default, when all is saved."""
        self.wait_until_saved()
        url = f"{self.page.url.split('#')[0]}images/{key or self.key()}"
        return self.page.request.get(url).json()

    def labels(self, key: str | None = None) -> Labels:
        return Labels.model_validate(self.image(key)["labels"])

    def mask(self, key: str | None = None) -> np.ndarray:
        image = self.image(key)
        return decode_runs(image["labels"]["runs"], image["width"], image["height"])

    def to_page(self, x: float, y: float) -> tuple[float, float]:
        """Return where a pixel lies on the page while the whole image is shown."""
        image, box = self.image(), self.page.locator("#image").bounding_box()
        width, height = image["width"], image["height"]
        scale = min(0.96 * box["width"] / width, 0.96 * box["height"] / height, 40)
        left = box["x"] + (box["width"] - scale * width) / 2
        top = box["y"] + (box["height"] - scale * height) / 2
        return left + (x + 0.5) * scale, top + (y + 0.5) * scale

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=4)
        self.page.mouse.up()

    def drag_point(self, index: int, x: float, y: float) -> None:
        """Drag a point by some pixels of the image."""
        point = self.labels().points[index]
        self.drag(self.to_page(point.x, point.y), self.to_page(point.x + x, point.y + y))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def turn(self) -> str:
        """Open the next image; return its key."""
        key = self.key()
        self.press("n")
        self.wait_for_another(key)
        return self.key()

    def wait_for(self, key: str) -> None:
        """Wait until an image is open."""
        self.page.wait_for_function("key => location.hash === `#${key}`", arg=key)

    def wait_for_another(self, *keys: str) -> None:
        """Wait until an image is open that is none of these."""
        self.page.wait_for_function("keys => !keys.includes(location.hash.slice(1))", arg=keys)

    @contextlib.contextmanager
    def held_pixels(self) -> Iterator[None]:
        """Load the pixels of an image that is asked for inside no sooner than at the end."""
        requests, are_held = [], True
        self.page.route(
            "**/pixels",
            lambda route: requests.append(route) if are_held else route.continue_(),
        )
        yield
        wait_until(self.page, lambda: requests)
        are_held = False  # the page may load them again at once
        with self.page.expect_response("**/pixels"):
            for request in requests:
                request.continue_()
        self.page.unroute("**/pixels")

    def pixel_requests(self) -> list[str]:
        """Return a list that gets the address of each image whose pixels the page asks for."""
        urls: list[str] = []

        def note(request) -> None:
            if request.url.endswith("/pixels"):
                urls.append(request.url)

        self.page.on("request", note)
        return urls

    def look(self) -> None:
        """Look at an image that has just been opened, for so long that it can be done."""
        self.let_pass(450)

    def let_pass(self, milliseconds: int) -> None:
        """Put the clock forward by which the page tells how long something has lasted."""
        self.page.evaluate(
            """(milliseconds) => {
                const now = performance.now.bind(performance);
                performance.now = () => now() + milliseconds;
            }""",
            milliseconds,
        )

    @contextlib.contextmanager
    def stopped_clock(self) -> Iterator[None]:
        """Do what is inside in no time, as the page's clock counts, however slow the machine is."""
        self.page.evaluate(
            """() => {
                const time = performance.now();
                window.runningNow = performance.now;
                performance.now = () => time;
            }"""
        )
        yield
        self.page.evaluate("() => { performance.now = window.runningNow; }")

    def hold_list(self) -> None:
        """Let the page get no list any more, which tells it what another tab has saved."""
        self.page.route("**/label/images", lambda route: None)

    def finish(self) -> str:
        """Say that the image is done; return its key."""
        key = self.key()
        self.page.click("#done")
        return key


@contextlib.contextmanager
def served_label_page(folder: pathlib.Path) -> Iterator[str]:
    """Run `mcc-web label`; yield its address when the net has looked at all images.

    Earlier a page that has waited for some seconds opens an image, and its list is sorted anew.
    """
    command = [*MODULE, "mcc_caffe.web", "label", folder, "--port", 0]
    with running_server(command) as (server, url):

        def all_are_looked_at() -> bool:
            with urllib.request.urlopen(f"{url}images", timeout=60) as answer:
                return all(image["score"] is not None for image in json.load(answer)["images"])

        wait_for(all_are_looked_at, server)
        yield url


@pytest.fixture
def label(new_page, shared_url) -> LabelPage:
    """The page over the folder that the tests share."""
    return LabelPage(new_page(shared_url))


@pytest.fixture
def own_label(new_page, folder) -> Iterator[LabelPage]:
    """The page over a folder of the test's own."""
    with served_label_page(folder) as url:
        yield LabelPage(new_page(url))


def look_at_the_list_often(page) -> None:
    """Load a page again, with timers that wait for 200 milliseconds at most."""
    page.add_init_script(
        "const wait = setTimeout; window.setTimeout = (act, time) => wait(act, Math.min(time, 200))"
    )
    page.reload()


def wrist_text(point) -> str:
    return f"wrist: {int(point.x + 0.5)}, {int(point.y + 0.5)}"


def assert_point(point, x: float, y: float, tolerance: float = 1.0) -> None:
    assert not point.missing and abs(point.x - x) < tolerance and abs(point.y - y) < tolerance


def test_from_the_first_image_to_a_training(new_page, folder, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "no hand.png"), noise)
    with served_label_page(folder) as url:
        label = LabelPage(new_page(url))
        page = label.page
        page.click("li button:has-text('no hand.png')")
        page.wait_for_function(
            "() => document.getElementById('name').textContent.startsWith('no hand')"
        )
        label.look()
        assert page.locator("#images button").first.text_content().startswith("no hand.png")
        page.click("#none")
        page.wait_for_function(
            "() => document.getElementById('name').textContent.startsWith('hand #')"
        )
        page.click("[data-tool=brush]")
        label.drag(label.to_page(15, 25), label.to_page(85, 25))
        label.look()
        done = [label.finish()]
        for _ in range(2):
            label.wait_for_another(*done)
            done.append(label.key())
            page.locator("#image").focus()
            label.press("v", "ArrowRight")
            label.look()
            label.press("Enter")
        label.wait_for_message("all are done")
        labels = {key: label.labels(key) for key in done}

    assert len(labels) == 3
    for samples in read_back(folder):
        assert samples.keys() == labels.keys()
    layout, coco = (
        stored_samples(folder / LABELS_FOLDER / kind, tmp_path / kind)
        for kind in (ONEHAND10K, COCO)
    )
    for key, expected in labels.items():
        (layout_set, in_layout), (coco_set, in_coco) = layout[key], coco[key]
        assert layout_set == coco_set
        assert np.allclose(in_coco.keypoints, expected.keypoints(), atol=0.006)
        assert np.allclose(in_layout.keypoints, expected.keypoints().round())
        mask = decode_runs(expected.runs, *in_layout.mask().shape[::-1])
        assert np.array_equal(in_layout.mask(), mask) and np.array_equal(in_coco.mask(), mask)
        assert in_layout.image_bytes == in_coco.image_bytes
    trained = run(
        *("mcc_caffe.train", tmp_path / ONEHAND10K / TRAIN, "--out", tmp_path / "run"),
        *("--iterations", 2, "--batch-size", 2, "--interval", 1, "--workers", 1, "--quiet"),
    )
    assert trained.returncode == 0, trained.stderr
    assert log(tmp_path / "run")[-1]["iteration"] == 2


def stored_samples(source: pathlib.Path, out: pathlib.Path) -> dict[str, tuple[str, Sample]]:
    """Build LMDB sets of a data set of labels; return each image's set and sample by its key."""
    build_lmdb.main([str(source), str(out), "--quiet"])
    samples = {}
    for name in (TRAIN, VALIDATION):
        stored = SampleSet(out / name)
        for index in range(len(stored)):
            key = re.search("hand-[0-9]-[0-9a-f]{12}", stored[index].key)[0]
            samples[key] = name, stored[index]
    return samples


@pytest.fixture(scope="module")
def shared_url(images, tmp_path_factory):
    """The address of a page of two images, for tests that do not mind what others did there."""
    folder = tmp_path_factory.mktemp("shared")
    for index, content in enumerate(images[:2]):
        (folder / f"{index}.jpg").write_bytes(content)
    with served_label_page(folder) as url:
        yield url


def test_mouse_and_keys_move_a_point_and_say_that_it_is_missing(label):
    page, before = label.page, label.labels().points
    x, y = label.image()["width"] / 2, label.image()["height"] / 2
    label.drag_point(4, x - before[4].x, y - before[4].y)
    assert_point(label.labels().points[4], x, y)
    with label.stopped_clock():  # steps that follow each other are undone together
        label.press("ArrowRight", "ArrowRight", "Shift+ArrowDown")
    assert_point(label.labels().points[4], x + 2, y + 10)
    label.press("Control+z")
    assert_point(label.labels().points[4], x, y)
    label.press(".", "m")
    assert label.labels().points[5].missing != before[5].missing
    page.click("#missing")
    assert label.labels().points[5].missing == before[5].missing
    assert "index, base" in page.text_content("#message")


def test_the_tools_show_what_is_drawn_after_a_way_back_to_the_page(label):
    """The browser brings back how the boxes and the slider were."""
    page = label.page
    for box in ("#show-mask", "#show-points"):
        page.uncheck(box)
    page.fill("#width", "100")
    page.goto("about:blank")
    page.go_back()
    LabelPage(page)
    assert page.is_checked("#show-mask") and page.is_checked("#show-points")
    assert page.input_value("#width") == "24"


def test_points_have_a_name_and_cannot_be_chosen_before_an_image_is_open(new_page, shared_url):
    page = new_page("about:blank")
    page.route("**/pixels", lambda route: None)
    page.goto(shared_url)
    page.wait_for_selector("#missing:disabled")
    points = page.locator("#points button")
    names = points.all_inner_texts()
    assert len(names) == KEYPOINT_COUNT and names[:2] == ["wrist", "thumb, base"]
    assert all(point.is_disabled() for point in points.all())


def test_the_mask_is_painted_erased_and_brought_back(label):
    page, mask = label.page, label.mask()
    page.click("[data-tool=brush]")
    page.fill("#width", "20")
    page.locator("#image").focus()
    label.drag(label.to_page(15, 25), label.to_page(85, 25))
    painted = label.mask()
    stroke = cv2.line(np.zeros_like(mask), (15, 25), (85, 25), 1, 20)
    assert np.count_nonzero(painted != (mask | stroke)) < 0.1 * stroke.sum()
    label.press("e")
    label.drag(label.to_page(15, 25), label.to_page(85, 25))
    assert np.count_nonzero(label.mask() & stroke) < 0.1 * stroke.sum()
    label.press("Control+z")
    assert np.array_equal(label.mask(), painted)
    label.press("Control+z")
    assert np.array_equal(label.mask(), mask)
    label.press("Control+y")
    assert np.array_equal(label.mask(), painted)


def test_the_nets_answer_brings_back_its_points_and_its_mask(label):
    page, image = label.page, label.image()
    first = Labels.model_validate(image["first_labels"])
    page.click("[data-tool=eraser]")
    page.fill("#width", "200")
    label.drag(label.to_page(0, 0), label.to_page(image["width"], image["height"]))
    page.locator("#image").focus()
    label.press("m")
    changed = label.labels()
    page.click("#restart")
    assert label.labels() == first
    label.press("b", "Space")
    hand = decode_runs(first.runs, image["width"], image["height"])
    assert label.mask()[hand > 0].all()  # the brush paints on the net's mask
    label.press("Control+z", "Control+z")
    assert label.labels() == changed


def test_a_drag_of_an_enlarged_image_moves_a_point_by_less(label):
    page, point = label.page, label.labels().points[4]
    x, y = label.to_page(point.x, point.y)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -700)
    wait_for_frames(page)
    label.drag((x, y), (x + 40, y))
    moved = label.labels().points[4].x - point.x
    scale = label.to_page(1, 0)[0] - label.to_page(0, 0)[0]
    assert 0 < moved < 0.6 * 40 / scale


def test_the_text_of_a_point_that_moves_by_a_part_of_a_pixel_stays(label):
    page, point = label.page, label.labels().points[4]
    x, y = label.to_page(point.x, point.y)
    page.mouse.move(x, y)
    for _ in range(8):
        page.mouse.wheel(0, -700)
    wait_for_frames(page)
    label.drag((x, y), (x + 8, y))
    text = page.locator("#message").text_content()
    moved = label.labels().points[4]
    label.drag((x + 8, y), (x + 12, y))
    assert label.labels().points[4] != moved
    assert text and page.locator("#message").text_content() == text


def test_two_tabs_do_not_overwrite_each_other(new_page, shared_url):
    first = LabelPage(new_page(shared_url))
    second = LabelPage(new_page(f"{shared_url}#{first.key()}"))
    assert first.key() == second.key()
    for tab in (first, second):
        tab.hold_list()
        tab.page.locator("#image").focus()
    first.press("ArrowRight")
    theirs = first.labels()
    second.press("Shift+ArrowDown")
    second.page.wait_for_selector("#conflict[open]")
    assert "changed in another tab" in second.page.text_content("#conflict-message")
    assert second.page.text_content("#saved").startswith("Not saved")
    assert first.labels() == theirs
    second.page.click("#load-theirs")
    second.wait_for_message("Loaded again")
    assert second.labels() == theirs

    second.page.locator("#image").focus()
    second.press("ArrowDown")
    mine = second.labels()
    first.press("ArrowLeft")
    first.page.wait_for_selector("#conflict[open]")
    first.page.click("#keep-mine")
    first.wait_for_message("Your labels were kept")
    assert first.labels() not in (mine, theirs)
    assert first.labels().points[0].y == theirs.points[0].y


def test_keys_that_were_on_their_way_to_the_image_answer_no_conflict(new_page, shared_url):
    mine = LabelPage(new_page(shared_url))
    page = mine.page
    theirs = LabelPage(new_page(f"{shared_url}#{mine.key()}"))
    mine.hold_list()
    for label in (mine, theirs):
        label.page.locator("#image").focus()
    theirs.press("m")
    saved = theirs.labels()
    mine.press("Shift+ArrowUp" if saved.points[0].y > SIZE / 2 else "Shift+ArrowDown")
    page.wait_for_selector("#conflict[open]")
    assert page.evaluate("document.activeElement.id") == "conflict-title"
    mine.press("Enter", "Space", "Escape", "Escape")  # Chromium closes a dialog at the second one
    wait_for_frames(page)
    assert page.is_visible("#conflict") and theirs.labels() == saved
    mine.press("Tab", "Tab", "Enter")
    mine.wait_for_message("Your labels were kept")
    assert mine.labels().points[0].y != saved.points[0].y


@pytest.mark.parametrize("tool", ["points", "brush"])
def test_a_drag_stays_on_the_image_where_it_began(label, tool):
    page, first = label.page, label.key()
    page.click(f"[data-tool={tool}]")
    page.locator("#image").focus()
    before = label.image()
    point = label.labels().points[0]
    start, end = label.to_page(point.x, point.y), label.to_page(SIZE / 2, SIZE / 2)
    with label.held_pixels():
        label.press("n")
        page.mouse.move(*start)
        page.mouse.down()
        page.mouse.move(*end, steps=4)
    label.wait_for_another(first)
    opened = label.image()
    page.mouse.move(*start, steps=4)
    page.mouse.up()
    assert label.image() == opened
    assert label.image(first)["revision"] == before["revision"] + 1
    if tool == "points":
        assert_point(label.labels(first).points[0], SIZE / 2, SIZE / 2)
    else:
        assert label.mask(first)[SIZE // 2, SIZE // 2]


@pytest.mark.parametrize(("tool", "key"), [("points", "."), ("brush", "v"), ("brush", "n")])
def test_a_key_changes_nothing_while_a_drag_goes_on(label, tool, key):
    page, first, pixel_requests = label.page, label.key(), label.pixel_requests()
    page.click(f"[data-tool={tool}]")
    page.click("#points li:first-child button")
    before = label.labels()
    point = before.points[0]
    start, end = label.to_page(point.x, point.y), label.to_page(SIZE / 2 + 3, SIZE / 2)
    page.mouse.move(*start)
    page.mouse.down()
    label.press(key)
    page.mouse.move(*end, steps=3)
    label.press(key)
    page.mouse.up()
    wait_for_frames(page)
    after = label.labels(first)
    assert label.key() == first and not pixel_requests
    if tool == "points":
        assert_point(after.points[0], SIZE / 2 + 3, SIZE / 2)
        assert after.points[1:] == before.points[1:]
    else:
        assert after.points == before.points
        assert label.mask(first)[SIZE // 2, SIZE // 2 + 3]


def test_the_narrowest_brush_paints_one_pixel_wherever_it_is(new_page, shared_url):
    counts = new_page(shared_url).evaluate(
        """async () => {
            const { MaskLayer } = await import("./mask_layer.js");
            const places = [-0.4, 0, 0.3, 0.49, 4.4, 8.7, 9.4];
            return places.flatMap((x) => places.map((y) => {
                const mask = new MaskLayer({ width: 10, height: 10 });
                mask.stroke([x, y], [x, y], 1, 1);
                return mask.runs().filter((_, run) => run % 2).reduce((sum, run) => sum + run, 0);
            }));
        }"""
    )
    assert counts == [1] * 49


def test_the_focus_stays_in_a_list_of_images_that_is_sorted_anew(new_page, shared_url):
    page = new_page("about:blank")
    turns: list[int] = []

    def turn_list(route) -> None:
        answer = route.fetch()
        overview = answer.json()
        turns.append(len(turns))
        if len(turns) % 2:
            overview["images"].reverse()
        overview["images"][0]["score"] = None  # so that the page looks at the list often
        route.fulfill(response=answer, json=overview)

    page.route("**/label/images", turn_list)
    page.goto(shared_url)
    page.wait_for_selector("#images button:nth-child(1)")
    page.locator("#images button").first.focus()
    name = page.evaluate("document.activeElement.textContent[0]")
    begun = len(turns)
    wait_until(page, lambda: len(turns) >= begun + 3)
    page.wait_for_timeout(100)
    assert page.evaluate("document.activeElement.matches('#images button')")
    assert page.evaluate("document.activeElement.textContent[0]") == name
    page.unroute_all(behavior="wait")


def test_the_list_says_how_far_each_image_is(new_page, shared_url):
    texts = new_page(shared_url).evaluate(
        """async () => {
            const { makeImagesPanel } = await import("./images_panel.js");
            const [list, progress, passedOver] = ["ol", "p", "div"].map((name) =>
                document.createElement(name),
            );
            const show = makeImagesPanel({ list, progress, passedOver }, () => {});
            const images = [["open", null, 0], ["open", null, 1], ["open", 0.9, 0],
                ["open", 0.9, 1], ["done", 0.9, 1], ["none", 0.9, 1]]
                .map(([status, score, revision], index) =>
                    ({ key: `${index}`, name: `${index}.jpg`, status, score, revision }));
            const splits = { Train: 1, Test: 0 };
            show({ images, unreadable: [], passed_over: "", splits }, null);
            return [...list.children].map((item) => item.textContent);
        }"""
    )
    assert texts == [
        *("0.jpg", "1.jpg: begun", "2.jpg: 90 % sure", "3.jpg: begun, 90 % sure"),
        *("4.jpg: ✓ done", "5.jpg: – not to be labelled"),
    ]


def test_a_change_writes_only_the_items_of_the_list_that_differ(label):
    page = label.page
    page.locator("#image").focus()
    label.press("m")
    label.wait_until_saved()
    page.evaluate(
        """() => {
            window.changes = [];
            const parts = { childList: true, characterData: true, subtree: true };
            new MutationObserver((changes) => window.changes.push(...changes))
                .observe(document.getElementById("images"), parts);
        }"""
    )
    label.press("m")
    label.wait_until_saved()
    wait_for_frames(page)
    assert page.evaluate("window.changes.length") == 0


def test_previous_opens_the_last_image_where_the_open_one_is_not_in_the_list(label):
    page = label.page
    look_at_the_list_often(page)
    LabelPage(page)  # which waits for an image

    def list_others(route) -> None:
        answer = route.fetch()
        overview = answer.json()
        state = overview["images"][0]
        overview["images"] = [{**state, "key": f"other-{number}"} for number in range(3)]
        route.fulfill(response=answer, json=overview)

    page.route("**/label/images", list_others)
    page.wait_for_selector("#name:has-text('(passed over)')")
    page.locator("#image").focus()
    with page.expect_request("**/images/other-*") as request:
        label.press("p")
    assert request.value.url.endswith("/other-2")
    page.unroute_all(behavior="wait")


@pytest.mark.parametrize("begins", ["before the list is looked at", "while theirs are loaded"])
def test_a_stroke_is_kept_where_another_tab_saves_meanwhile(new_page, shared_url, begins):
    page = new_page(shared_url)
    look_at_the_list_often(page)
    mine = LabelPage(page)
    columns = 20, 90, 160
    start, middle, end = (mine.to_page(x, SIZE / 2) for x in columns)
    page.click("[data-tool=brush]")
    mine.drag(start, end)
    assert mine.mask()[SIZE // 2, columns].all()
    theirs = LabelPage(new_page(f"{shared_url}#{mine.key()}"))
    theirs.page.locator("#image").focus()

    page.click("[data-tool=eraser]")
    page.mouse.move(*start)
    if begins == "while theirs are loaded":
        with mine.held_pixels():
            with page.expect_request("**/pixels"):
                theirs.press("ArrowRight")
            page.mouse.down()
            page.mouse.move(*middle, steps=4)
        erased = columns[:2]
    else:
        page.mouse.down()
        page.mouse.move(*middle, steps=4)
        theirs.press("ArrowRight")
        theirs.wait_until_saved()
        for _ in range(3):
            with page.expect_response("**/label/images"):
                pass
        erased = columns
    page.mouse.move(*end, steps=4)
    page.mouse.up()
    page.wait_for_selector("#conflict[open]")
    page.click("#keep-mine")
    mine.wait_for_message("Your labels were kept")
    assert not mine.mask()[SIZE // 2, erased].any()


def test_another_image_is_opened_where_the_first_one_cannot_be(new_page, shared_url):
    page, urls = new_page("about:blank"), []

    def damage_first(route) -> None:
        urls.append(route.request.url)
        if len(urls) == 1:
            route.fulfill(status=422, json={"detail": "it is gone"})
        else:
            route.continue_()

    page.route("**/pixels", damage_first)
    page.goto(shared_url)
    label = LabelPage(page)
    assert len(urls) == 2 and label.key() in urls[1] and label.key() not in urls[0]
    opened = label.key()
    page.locator("#images button[aria-current=false]").click()
    label.wait_for_another(opened)


@pytest.mark.parametrize(
    "answer, message",
    [
        ({"json": {"detail": "the server has a fault"}}, "the server has a fault"),
        ({"body": "no JSON"}, "no JSON"),
        ({"body": ""}, "the server answers 500"),
    ],
)
def test_the_page_shows_what_the_server_says_of_an_error(answer, message, new_page, shared_url):
    page = new_page("about:blank")
    page.route("**/label/images", lambda route: route.fulfill(status=500, **answer))
    page.goto(shared_url)
    page.wait_for_selector(f"#message:text-is('{message}')")


def test_the_page_says_once_that_no_image_can_be_labelled(new_page, shared_url):
    page, turns = new_page("about:blank"), []

    def damage_all(route) -> None:
        answer = route.fetch()
        overview = answer.json()
        turns.append(len(turns))
        images = [{**image, "score": None} for image in overview["images"]]
        if len(turns) == 1:  # the net has looked at none of them
            overview["images"] = images
        else:
            overview["images"] = []
            overview["unreadable"] = [{**image, "fault": "it is damaged"} for image in images]
        route.fulfill(response=answer, json=overview)

    page.route("**/label/images", damage_all)
    page.goto(shared_url)
    text = "No image can be labelled: the end of the page says why."
    page.wait_for_selector(f"#message:text-is('{text}')")
    assert page.locator("#passed-over p:has-text('it is damaged')").count() == 2
    page.evaluate(
        """() => {
            window.repeats = 0;
            new MutationObserver(() => (window.repeats += 1))
                .observe(document.getElementById("message"), { childList: true });
        }"""
    )
    before = len(turns)
    wait_until(page, lambda: len(turns) >= before + 3)
    assert page.evaluate("window.repeats") == 0
    page.unroute_all(behavior="wait")


def test_the_page_says_that_the_server_is_away_and_goes_on_when_it_is_back(new_page, shared_url):
    page, attempts = new_page("about:blank"), []

    def refuse(route) -> None:
        attempts.append(route.request.url)
        route.abort()

    look_at_the_list_often(page)
    page.route("**/images/*", refuse)
    page.goto(shared_url)
    away = "the server does not answer: is mcc-web label still running?"
    page.wait_for_selector(f"#message:has-text('{away}')")
    tried = len(attempts)
    wait_until(page, lambda: len(attempts) > tried)
    wait_for_frames(page)
    assert page.text_content("#message") == away
    page.unroute("**/images/*")
    LabelPage(page)  # which waits for the first image
    page.wait_for_selector("#message:text-is('')", state="attached")
    page.route("**/label/images**", lambda route: route.abort())
    page.wait_for_selector(f"#message:has-text('{away}')")
    page.unroute("**/label/images**")
    page.wait_for_selector("#message:text-is('')", state="attached")


def answer_saves(page, answer) -> None:
    """Call `answer` with the route of each save; a `page.unroute("**/images/*")` ends that."""
    page.route(
        "**/images/*",
        lambda route: answer(route) if route.request.method == "PUT" else route.continue_(),
    )


def hold_saves(page) -> list:
    """Let no save of a page reach the server; return the list of those that wait."""
    waiting: list = []
    answer_saves(page, waiting.append)
    return waiting


def send_held_save(page, waiting: list) -> None:
    """Let the save that waits reach the server, and wait until the page says that it is saved."""
    wait_until(page, lambda: waiting)
    page.unroute("**/images/*")
    waiting.pop().continue_()
    page.wait_for_selector("#saved[data-state=saved]")


def test_an_image_that_loads_slowly_does_not_bring_old_labels_back(label):
    page, first = label.page, label.key()
    page.locator("#image").focus()
    before = label.image()
    waiting = hold_saves(page)
    label.press(
        "Shift+ArrowDown" if before["labels"]["points"][0]["y"] < SIZE / 2 else "Shift+ArrowUp"
    )
    label.turn()
    with label.held_pixels():
        with page.expect_request("**/pixels"):
            label.press("p")
        send_held_save(page, waiting)
    label.wait_for(first)
    wrist = label.labels(first).points[0]
    assert abs(wrist.y - before["labels"]["points"][0]["y"]) == pytest.approx(10, abs=0.01)
    assert label.shown_wrist() == wrist_text(wrist)
    label.press("ArrowRight")
    assert label.image(first)["revision"] == before["revision"] + 2, "it began from the old one"


def test_an_image_that_is_asked_for_twice_is_loaded_once(label):
    page, requests = label.page, label.pixel_requests()
    other, first = page.locator("#images button[aria-current=false]"), label.key()
    with label.held_pixels():
        with page.expect_request("**/pixels"):
            other.click()
        other.click()
    label.wait_for_another(first)
    page.wait_for_timeout(300)
    assert len(requests) == 1


def test_a_turn_back_drops_the_image_that_is_being_opened(label):
    page, first = label.page, label.key()
    page.locator("#image").focus()
    with label.held_pixels():
        with page.expect_request("**/pixels"):
            label.press("n")
        label.press("p")
    page.wait_for_timeout(300)
    assert label.key() == first


def test_a_turn_back_takes_back_what_was_said_of_the_other_image(label):
    page = label.page
    page.locator("#image").focus()
    busy = {"detail": "the net is still at work on it: try again"}
    page.route("**/images/*", lambda route: route.fulfill(status=503, json=busy))
    label.press("n")
    label.wait_for_message("the net is still at work")
    label.press("p")
    assert page.text_content("#message") == ""


def test_labels_that_were_kept_are_shown(label, new_page, shared_url):
    """The page loads the image again while it saves its own labels."""
    page = label.page
    label.hold_list()
    page.locator("#image").focus()
    theirs = LabelPage(new_page(f"{shared_url}#{label.key()}"))
    theirs.page.locator("#image").focus()
    theirs.press("ArrowRight")
    theirs.wait_until_saved()
    label.press("Shift+ArrowDown")
    page.wait_for_selector("#conflict[open]")
    waiting = hold_saves(page)
    with label.held_pixels():
        with page.expect_request("**/pixels"):
            page.click("#keep-mine")
        send_held_save(page, waiting)
    label.wait_for_message("Your labels were kept")
    wrist = label.labels().points[0]
    assert label.shown_wrist() == wrist_text(wrist)


def statuses(label: LabelPage) -> dict[str, str]:
    label.wait_until_saved()
    overview = label.page.request.get(f"{label.page.url.split('#')[0]}images").json()
    return {image["key"]: image["status"] for image in overview["images"]}


@pytest.mark.parametrize("key", ["Enter", "x"])
def test_a_held_key_labels_one_image(own_label, key):
    page, first = own_label.page, own_label.key()
    for control in ("#done" if key == "Enter" else "#image", "#image"):
        before = [status for status in statuses(own_label).values() if status != "open"]
        page.locator(control).focus()
        own_label.look()
        for _ in range(10):
            page.keyboard.down(key)
            page.wait_for_timeout(60)
        page.keyboard.up(key)
        finished = [status for status in statuses(own_label).values() if status != "open"]
        assert len(finished) == len(before) + 1
    assert statuses(own_label)[first] == ("done" if key == "Enter" else "none")


def test_a_double_click_labels_one_image(own_label):
    first = own_label.key()
    own_label.look()
    with own_label.stopped_clock():
        own_label.page.dblclick("#done", delay=60)
    own_label.wait_for_another(first)
    assert list(statuses(own_label).values()).count("done") == 1
    with own_label.held_pixels():
        own_label.look()
        with own_label.page.expect_request("**/pixels"):
            own_label.page.click("#done")
        own_label.page.click("#none")  # the next image is not shown yet
    own_label.wait_until_saved()
    assert sorted(statuses(own_label).values()) == ["done", "done", "open"]


def test_what_was_clicked_gives_the_focus_back_to_the_image(own_label):
    page, first, before = own_label.page, own_label.key(), own_label.labels()
    page.click("[data-tool=brush]")
    own_label.press("Space")
    assert own_label.labels().runs != before.runs
    slider = page.locator("#width").bounding_box()
    x, y = slider["x"] + 20, slider["y"] + slider["height"] / 2
    for control in ("#show-mask", "label:has(#show-points)", "#keys summary", "#undo"):
        page.click(control)
        assert page.evaluate("document.activeElement.id") == "image", control
    own_label.drag((x, y), (x + 30, y + 200))
    assert page.evaluate("document.activeElement.id") == "image"
    page.click("#points li:nth-child(5) button")
    page.click("#missing")
    own_label.look()
    own_label.press("Enter")
    own_label.wait_for_another(first)
    after = own_label.labels(first)
    assert after.status == "done" and after.points[4].missing != before.points[4].missing

    page.locator("#missing").focus()
    own_label.press("Enter", "Enter")
    assert page.evaluate("document.activeElement.id") == "missing"


def focused(page) -> str:
    """Return the id of the element that has the focus, or its name where it has no id."""
    return page.evaluate("document.activeElement.id || document.activeElement.localName")


def test_keys_act_while_the_image_has_the_focus(new_page, shared_url):
    label = LabelPage(new_page(shared_url, viewport={"width": 640, "height": 400}))
    page, first, before = label.page, label.key(), label.image()
    assert focused(page) == "image"
    label.look()
    controls = (
        *("body", "#next", "#width", "#show-mask", "#keys summary"),
        *("#points li:nth-child(3) button", "#images li button[aria-current=true]"),
    )
    for control in controls:
        page.evaluate("document.activeElement.blur()")
        page.locator(control).focus()
        label.press(*"npxmbev.+", "ArrowDown", "ArrowRight")
        if control in ("body", "#width"):
            label.press("Enter")
        assert focused(page) != "image", control
    page.wait_for_timeout(300)
    page.wait_for_function("scrollY > 0")
    assert label.key() == first and label.image() == before
    page.evaluate("document.activeElement.blur()")
    label.press("Control+z", "Control+y")
    page.locator("#image").focus()
    label.press("m")
    page.locator("#next").focus()
    label.press("Control+z")
    assert label.labels() == Labels.model_validate(before["labels"])


def test_the_focus_goes_to_the_image_with_a_choice(label):
    page = label.page
    choices = (
        *("[data-tool=brush]", "[data-tool=points]"),
        *("#points li:nth-child(3) button", "#images button[aria-current=false]"),
    )
    for choice in choices:
        for key in ("Enter", "Space"):
            page.locator(choice).focus()
            label.press(key)
            assert focused(page) == "image", choice
    view = ("zoom-in", "zoom-out", "fit", "show-mask")
    for control in ("next", *view, "missing", "restart", "undo"):
        page.locator(f"#{control}").focus()
        label.press("Space")
        assert focused(page) == control


def test_no_hand_pressed_twice_by_key_is_said_of_two_images(own_label):
    keys = [own_label.key()]
    own_label.page.locator("#none").focus()
    for _ in range(2):
        own_label.look()
        own_label.press("Enter")
        own_label.wait_for_another(*keys)
        keys.append(own_label.key())
    assert focused(own_label.page) == "none"
    after = statuses(own_label)
    assert [after[key] for key in keys] == ["none", "none", "open"]


@pytest.mark.parametrize("choice", ["[data-tool=brush]", "#points li:nth-child(3) button"])
def test_a_choice_pressed_twice_by_key_finishes_no_image(label, choice):
    first, before = label.key(), statuses(label)
    label.look()
    label.page.locator(choice).focus()
    with label.stopped_clock():
        label.press("Enter", "Enter")
    label.page.wait_for_timeout(300)
    assert label.key() == first and statuses(label) == before


def test_the_address_names_the_open_image(label):
    first = label.key()
    label.page.evaluate("location.hash = 'zzz'")
    label.wait_for(first)


def test_undo_and_redo_keep_the_focus_where_nothing_is_left(label):
    page, first, before = label.page, label.key(), label.labels()
    label.press("m")
    label.look()
    for button in ("undo", "redo"):
        page.locator(f"#{button}").focus()
        label.press("Enter", "Enter", "Enter")
        page.wait_for_selector(f"#{button}[aria-disabled=true]")
        label.press("Enter")
        assert focused(page) == button
    page.wait_for_timeout(300)
    assert label.key() == first and label.labels().status == before.status
    page.locator("#undo").focus()
    label.press("Enter")
    assert label.labels() == before


def test_the_page_says_what_undo_and_redo_have_changed(label):
    page, wrist = label.page, label.labels().points[0]
    page.click("#points li:first-child button")
    label.press("Shift+ArrowDown" if wrist.y < SIZE / 2 else "Shift+ArrowUp", "b", "Space", ".")
    assert page.text_content("#message").startswith("thumb, base: ")
    label.press("Control+z")
    assert page.text_content("#message") == "Undone: the mask."
    label.press("Control+z")
    position = wrist_text(wrist).removeprefix("wrist: ")
    assert page.text_content("#message") == f"Undone: wrist ({position})."
    label.press("Control+y")
    assert page.text_content("#message").startswith("Redone: wrist (")
    label.press("e")
    assert page.text_content("#message") == "Tool: eraser."


def test_the_page_says_how_labels_differ(new_page, shared_url):
    mask = (40, 10, 50)
    before = make_labels([(5, 6)], mask)
    others = [
        before,
        make_labels([(5, 7)], mask),
        make_labels([], mask),
        make_labels([(5, 6), (1, 1), (2, 2)], (100,)),
        before.model_copy(update={"status": "none"}),
    ]
    changes = new_page(shared_url).evaluate(
        """async ([before, others]) => {
            const { describeChange } = await import("./labels.js");
            return others.map((after) => describeChange(before, after));
        }""",
        [before.model_dump(), [labels.model_dump() for labels in others]],
    )
    assert changes == [
        *("", "wrist (5, 7)", "wrist (missing)", "2 points, the mask"),
        "the status (not to be labelled)",
    ]


def test_a_screen_reader_hears_of_saving_only_where_it_fails(label):
    page = label.page
    label.press("m")
    label.wait_until_saved()
    assert page.locator("#saved[role], #saved[aria-live]").count() == 0
    speech = page.locator("#saving-speech[role=status]")
    assert speech.text_content() == ""
    answer_saves(page, lambda route: route.abort())
    label.press("m")
    page.wait_for_selector("#saved[data-state=failed]")
    assert speech.text_content() == page.text_content("#saved") != ""
    page.unroute("**/images/*")
    label.wait_until_saved()
    assert speech.text_content() == "Saved"


def test_keys_bring_what_they_move_onto_the_canvas(label):
    page = label.page
    # The page draws the ring of the chosen point last, or that of the brush.
    page.evaluate(
        """() => {
            const { arc } = CanvasRenderingContext2D.prototype;
            CanvasRenderingContext2D.prototype.arc = function (x, y, ...others) {
                window.ring = [x, y];
                arc.call(this, x, y, ...others);
            };
        }"""
    )

    def is_ring_on_canvas() -> bool:
        wait_for_frames(page)
        return page.evaluate(
            """() => {
                const { clientWidth, clientHeight } = document.getElementById("image");
                const [x, y] = window.ring;
                return x >= 0 && x <= clientWidth && y >= 0 && y <= clientHeight;
            }"""
        )

    def zoom_in() -> None:
        label.press("0", *("+" * 12))
        assert not is_ring_on_canvas()

    page.click("#points li:nth-child(9) button")  # a finger's tip, far from the middle
    for key in (".", ",", "ArrowLeft", "m"):
        zoom_in()
        label.press(key)
        assert is_ring_on_canvas(), key
    zoom_in()
    page.locator("#points li:nth-child(13) button").focus()
    label.press("Enter")
    assert is_ring_on_canvas()

    label.press("0", "b", *["Shift+ArrowRight"] * 10)
    for key in ("Shift+ArrowUp", "Space"):
        zoom_in()
        label.press(key)
        assert is_ring_on_canvas(), key


def test_a_drag_from_the_border_of_the_canvas_moves_no_image(label):
    page = label.page
    index, point = min(enumerate(label.labels().points), key=lambda item: item[1].x)
    x, y = label.to_page(point.x, point.y)
    border = page.locator("#image").bounding_box()["x"] + 15
    # What lies at `x` is to lie at `border` when the wheel has enlarged the image.
    factor = np.exp(700 * 0.0015)
    page.mouse.move((border - factor * x) / (1 - factor), y)
    page.mouse.wheel(0, -700)
    wait_for_frames(page)
    label.drag((border, y), (border + 40, y))
    scale = factor * (label.to_page(1, 0)[0] - label.to_page(0, 0)[0])
    assert_point(label.labels().points[index], point.x + 40 / scale, point.y, 0.5)


def test_what_changes_nothing_is_no_change(label):
    """A stroke beside the image or over what is painted, and a step beyond its border."""
    page = label.page
    page.locator("#image").focus()
    label.press("b", "Space")
    label.wait_until_saved()
    before = label.image()
    box = page.locator("#image").bounding_box()
    label.drag((box["x"] + 3, box["y"] + 3), (box["x"] + 6, box["y"] + 6))
    label.press("Space")
    wait_for_frames(page)
    assert label.image() == before
    label.press("v", *["Shift+ArrowLeft"] * 30)
    before = label.image()
    assert before["labels"]["points"][0]["x"] == 0
    label.let_pass(1100)  # later steps are undone on their own
    label.press("ArrowLeft")
    wait_for_frames(page)
    assert label.image() == before
    label.press("Control+z")
    assert label.labels().points[0].x > 0


def test_steps_there_and_back_take_no_undo(label):
    before = label.labels().points[0]
    label.press("ArrowRight" if before.x < SIZE / 2 else "ArrowLeft")
    label.let_pass(1100)  # later steps are undone on their own
    moved = label.labels().points[0]
    with label.stopped_clock():
        label.press("ArrowDown", "ArrowUp")
    assert label.labels().points[0] == moved
    label.press("Control+z")
    assert label.labels().points[0] == before


def test_an_enlarged_image_stays_on_the_canvas_where_the_window_shrinks(new_page, shared_url):
    page = new_page(shared_url, viewport={"width": 1600, "height": 900})
    LabelPage(page)
    page.evaluate(
        """() => {
            const draw = CanvasRenderingContext2D.prototype.drawImage;
            CanvasRenderingContext2D.prototype.drawImage = function (image, ...others) {
                if (image instanceof ImageBitmap) window.transform = this.getTransform();
                draw.call(this, image, ...others);
            };
        }"""
    )
    box = page.locator("#image").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    page.mouse.down(button="middle")
    page.mouse.move(box["x"] + box["width"] - 5, y, steps=5)
    page.mouse.up(button="middle")
    page.set_viewport_size({"width": 820, "height": 900})
    page.wait_for_function("() => document.getElementById('image').width < 820")
    wait_for_frames(page)
    left = page.evaluate("window.transform.e")
    assert 0 < left <= page.locator("#image").bounding_box()["width"] / 2


def test_the_image_is_drawn_as_sharp_as_the_screen_and_shown_in_every_frame(label):
    page = label.page
    page.locator("#image").focus()
    width, height = 1000, 700
    page.set_viewport_size({"width": width, "height": height})
    wait_for_frames(page)
    session = page.context.new_cdp_session(page)
    screen = {"width": width, "height": height, "mobile": False}
    for density in (2, 1):
        override = {**screen, "deviceScaleFactor": density}
        session.send("Emulation.setDeviceMetricsOverride", override)
        page.wait_for_function("density => devicePixelRatio === density", arg=density)
        label.press("0")
        wait_for_frames(page)
        canvas = page.locator("#image")
        width_in_pixels, css_width = canvas.evaluate(
            "({ width, clientWidth }) => [width, clientWidth]"
        )
        assert width_in_pixels == round(density * css_width)
    page.evaluate(
        """() => {
            window.opacities = [];
            const canvas = document.getElementById("image");
            new ResizeObserver(() => {
                const [x, y] = [canvas.width >> 1, canvas.height >> 1];
                window.opacities.push(canvas.getContext("2d").getImageData(x, y, 1, 1).data[3]);
            }).observe(canvas);
        }"""
    )
    for shrunk in (width - 20, width - 40):
        page.set_viewport_size({"width": shrunk, "height": height})
        page.wait_for_function("width => innerWidth === width", arg=shrunk)
        wait_for_frames(page)
    opacities = page.evaluate("window.opacities")
    assert len(opacities) >= 2 and set(opacities) == {255}


def test_what_is_finished_can_be_reopened(own_label):
    page, key, name = own_label.page, own_label.key(), own_label.page.locator("#name")
    file_name = own_label.image()["name"]
    for finish, status in (("#done", "done"), ("#none", "none")):
        page.wait_for_selector("#reopen[aria-disabled=true]")
        own_label.press("m")
        points = own_label.labels().points
        own_label.look()
        page.click(finish)
        own_label.wait_for_another(key)
        page.click(f"#images button:has-text('{file_name}')")
        own_label.wait_for(key)
        assert statuses(own_label)[key] == status
        page.locator("#reopen").focus()
        own_label.press("Enter", "Enter")
        assert focused(page) == "reopen"
        assert statuses(own_label)[key] == "open" and own_label.labels().points == points
        assert name.text_content().endswith(")")


def test_a_new_address_opens_its_image(label, shared_url):
    page, first = label.page, label.key()
    second = label.turn()
    for key in (first, second):
        page.goto(f"{shared_url}#{key}")
        page.wait_for_selector(f"#name:has-text('{key[0]}.jpg')")
    page.go_back()
    page.wait_for_selector(f"#name:has-text('{first[0]}.jpg')")
    assert label.image()["name"] == f"{first[0]}.jpg"


@pytest.mark.parametrize("key", ["Space", "m"])
def test_a_held_key_is_one_change(label, key):
    page = label.page
    label.press("b", "ArrowRight")
    before = label.image()
    for _ in range(10):
        page.keyboard.down(key)
    page.keyboard.up(key)
    after = label.image()
    assert after["revision"] == before["revision"] + 1
    label.press("Control+z")
    page.wait_for_selector("#undo[aria-disabled=true]")


def test_a_page_without_javascript_says_nothing_of_saving(browser, shared_url):
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(shared_url)
        assert page.inner_text("#saved") == "" and page.is_visible("noscript")


@pytest.mark.parametrize("name", ["main.js", "saver.js"])
def test_a_module_of_the_page_that_cannot_be_loaded_is_told(new_page, shared_url, name):
    page = new_page("about:blank")
    page.route(f"**/label/{name}", lambda route: route.abort())
    page.goto(shared_url)
    page.wait_for_selector("#saved[data-state=failed]")
    message = page.inner_text("#saved")
    assert message.startswith("The page could not start (") and "/label/main.js" in message
    assert page.text_content("#saving-speech") == message
    assert page.is_hidden("noscript")


def test_a_page_that_is_opened_as_a_file_says_that_it_needs_a_server(new_page):
    page = new_page((STATIC / "label/index.html").as_uri())
    page.wait_for_selector("#saved[data-state=failed]")
    assert ": check that the server runs" in page.inner_text("#saved")


def test_the_image_is_described_while_the_list_of_keys_is_closed(new_page, shared_url):
    page = LabelPage(new_page(shared_url)).page
    session = page.context.new_cdp_session(page)
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    matches = session.send("Accessibility.queryAXTree", {"nodeId": root, "role": "application"})
    [image] = matches["nodes"]
    assert "arrows move the chosen point" in image["description"]["value"]
    toolbars = session.send("Accessibility.queryAXTree", {"nodeId": root, "role": "toolbar"})
    assert not toolbars["nodes"], "a toolbar promises that arrows go through it"


@pytest.mark.parametrize("items", ["#points", "#images"])
def test_the_ring_of_the_focus_is_seen_all_round_a_list_item(new_page, shared_url, items):
    page = LabelPage(new_page(shared_url)).page
    item = page.locator(f"{items} li:first-child button")
    item.focus()
    item.press("Shift")  # a key, with which the ring is shown
    is_ring = np.abs(screenshot(item).astype(int) - (0x4A, 0xD5, 0xFF)).max(2) < 40
    middle_row, middle_column = is_ring[is_ring.shape[0] // 2], is_ring[:, is_ring.shape[1] // 2]
    for line in (middle_row, middle_row[::-1], middle_column, middle_column[::-1]):
        assert np.count_nonzero(line[:5]) >= 2


def test_forced_colours_show_what_is_pressed_and_chosen(new_page, shared_url):
    page = LabelPage(new_page(shared_url, forced_colors="active")).page
    for buttons, state in (
        ("[data-tool]", "pressed"),
        ("#points button", "pressed"),
        ("#images button", "current"),
    ):
        on, off = (
            page.locator(f"{buttons}[aria-{state}={value}]").first for value in ("true", "false")
        )
        assert background(on) != background(off), buttons
    tool = screenshot(page.locator("[data-tool=points]"))
    _, counts = np.unique(tool.reshape(-1, 3), axis=0, return_counts=True)
    assert counts.max() > 0.75 * counts.sum(), "the words have a ground of their own"
    dots = page.locator("#points i")
    assert len({background(dot) for dot in dots.all()}) == len(FINGERS) + 1


def screenshot(element) -> np.ndarray:
    """Return an element's pixels as BGR."""
    return cv2.imdecode(np.frombuffer(element.screenshot(), np.uint8), cv2.IMREAD_COLOR)


def background(element) -> str:
    """Return the colour of an element's background, as CSS writes it."""
    return element.evaluate("element => getComputedStyle(element).backgroundColor")


def test_the_words_on_buttons_have_enough_contrast(new_page, shared_url):
    page = LabelPage(new_page(shared_url)).page
    for button in page.locator("button:visible:not(:disabled, [aria-disabled=true])").all():
        text = button.evaluate("element => getComputedStyle(element).color")
        darker, lighter = sorted(luminance(colour) for colour in (text, background(button)))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, button.text_content()


def luminance(colour: str) -> float:
    """Return the relative luminance, as WCAG 2 defines it, of a colour such as rgb(255, 0, 0)."""
    values = np.array([int(value) for value in re.findall("[0-9]+", colour)[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def make_labels(places: list[tuple[float, float]], runs: tuple[int, ...]) -> Labels:
    """Return labels of an image of 10 x 10 pixels, of which the first points are placed."""
    missing = [Point(x=5, y=5, missing=True)] * (KEYPOINT_COUNT - len(places))
    placed = [Point(x=x, y=y, missing=False) for x, y in places]
    return Labels(status="open", points=(*placed, *missing), runs=runs)


def test_page_and_server_ask_for_the_same(new_page, shared_url):
    mask = (40, 10, 50)
    documents = [
        make_labels([], mask),
        make_labels([], (100,)),
        make_labels([(5, 6)], mask),
        make_labels([(5, 6)], (100,)),
        make_labels([(5, 6)], (100, 0)),
        make_labels([(0, 0)], mask),
        make_labels([(0, 0), (1, 1)], mask),
        make_labels([(0, 0), (1, 1)], (100,)),
        make_labels([(1.5, 0.5), (0.5, 1.6)], mask),
        make_labels([(1.5, 0.5)] * 4, mask),
        make_labels([(1.5, 0.5)] * 5, mask),
        make_labels([(1.5, 2)] * 5, mask),
        make_labels([(1.49, 0)] * 4, mask),
        make_labels([(1.5, 2.5)] * 5, mask),
        make_labels([(1.5, 2.51)] * 5, mask),
        make_labels([(1, 1)] * KEYPOINT_COUNT, mask),
    ]
    shown = new_page(shared_url).evaluate(
        """async (documents) => {
            const { findGap } = await import("./labels.js");
            return documents.map(findGap);
        }""",
        [labels.model_dump() for labels in documents],
    )
    gaps = [labels.find_gap() for labels in documents]
    assert len(set(gaps)) == 4
    assert shown == [gap and f"{gap[0].upper()}{gap[1:]}." for gap in gaps]


def test_labels_that_the_server_does_not_take_as_done_are_shown_as_begun(own_label):
    """The person takes away all points of an image that is done."""
    page, name = own_label.page, own_label.page.locator("#name")
    own_label.look()
    key = own_label.finish()
    own_label.wait_for_another(key)
    page.locator("#image").focus()
    own_label.press("p")
    own_label.wait_for(key)
    assert name.text_content().endswith(", done")
    for index, point in enumerate(own_label.labels().points):
        if not point.missing:
            page.click(f"#points li:nth-child({index + 1}) button")
            own_label.press("m")
    own_label.wait_for_message("Saved, but ")
    gap = "all 21 points are missing: place at least one, or choose No hand"
    image_name = name.text_content().split(" (")[0]
    assert page.text_content("#message") == f"Saved, but {image_name} is not done: {gap}."
    assert statuses(own_label)[key] == "open"
    assert not name.text_content().endswith(", done")
    assert "begun" in page.text_content("#images [aria-current=true]")
    own_label.press("Control+z")
    assert statuses(own_label)[key] == "done"
    assert name.text_content().endswith(", done")


def test_images_whose_saves_wait_are_done_and_are_not_opened_again(own_label):
    waiting, finished = hold_saves(own_label.page), []
    for _ in range(3):
        own_label.wait_for_another(*finished)
        own_label.look()
        finished.append(own_label.finish())
    own_label.wait_for_message("That was the last image")
    wait_until(own_label.page, lambda: len(waiting) == 3)
    assert own_label.key() == finished[-1]


def test_an_image_that_is_still_open_is_opened_though_its_save_was_refused(own_label):
    page, first = own_label.page, own_label.key()
    answer_saves(page, lambda route: route.fulfill(status=422, json={"detail": "it is old"}))
    own_label.press("m")
    page.wait_for_selector("#saved[data-state=failed]")
    page.unroute("**/images/*")
    second = own_label.turn()
    own_label.look()
    own_label.finish()
    own_label.wait_for_another(second)
    own_label.look()
    own_label.finish()
    own_label.wait_for(first)


def test_what_was_said_before_a_change_is_said_no_longer(own_label):
    page, finished = own_label.page, []
    for _ in range(3):
        own_label.wait_for_another(*finished)
        own_label.look()
        finished.append(own_label.key())
        page.click("#none")
    own_label.wait_for_message("That was the last image: all are done.")
    page.click("#reopen")
    own_label.wait_until_saved()
    assert page.text_content("#message") == ""


def test_the_answer_to_a_save_counts_the_images_that_are_done(own_label):
    page = own_label.page
    look_at_the_list_often(page)
    LabelPage(page)  # which waits for an image
    with page.expect_event("requestfailed"):  # no list is on its way any more
        page.route("**/label/images", lambda route: route.abort())
    own_label.look()
    own_label.finish()
    own_label.wait_until_saved()
    url = f"{page.url.split('#')[0]}images"
    splits = page.request.get(url).json()["splits"]
    assert sum(splits.values()) == 1
    counts = f"1 of 3 done ({splits['Train']} to train, {splits['Test']} to test)."
    page.wait_for_selector(f"#progress:text-is('{counts}')")


def test_labels_that_cannot_be_written_are_sent_until_they_are(own_label, folder):
    masks = folder / LABELS_FOLDER / ONEHAND10K / "Train/mask"
    away = masks.with_name("away")
    masks.rename(away)
    own_label.look()
    key = own_label.finish()
    own_label.page.wait_for_selector("#saved:has-text('cannot be written')")
    away.rename(masks)
    assert own_label.labels(key).status == "done"


def test_a_save_that_fails_holds_back_no_other(label):
    page, first = label.page, label.key()

    def fail_first(route) -> None:
        if route.request.method == "PUT" and first in route.request.url:
            route.fulfill(status=507, json={"detail": "there is no room"})
        else:
            route.continue_()

    page.route("**/images/*", fail_first)
    page.locator("#image").focus()
    before = label.image()
    label.press("Shift+ArrowDown" if before["labels"]["points"][0]["y"] < SIZE / 2 else "ArrowUp")
    page.wait_for_selector("#saved:has-text('there is no room')")
    second = label.turn()
    with page.expect_response(
        lambda response: response.request.method == "PUT" and second in response.url
    ) as saved:
        label.press("m")
    assert saved.value.status == 200
    assert page.text_content("#saved") == f"Not saved: {first[0]}.jpg: there is no room"
    page.unroute("**/images/*")
    assert label.image(first)["revision"] == before["revision"] + 1


def test_a_refusal_stays_until_the_labels_are_sent_again(label):
    page, first = label.page, label.key()
    content = {"detail": "these labels are too new"}
    answer_saves(page, lambda route: route.fulfill(status=422, json=content))
    label.look()
    page.click("#none")
    label.wait_for_another(first)
    refusal = f"Not saved: {first[0]}.jpg: these labels are too new"
    page.wait_for_selector(f"#saved:text-is('{refusal}')")
    page.unroute("**/images/*")
    page.locator("#image").focus()
    label.press("p")
    label.wait_for(first)
    assert page.text_content("#saved") == refusal
    label.look()
    page.click("#none")
    assert label.labels(first).status == "none"


def test_each_of_two_conflicts_is_asked_about(new_page, shared_url):
    mine = LabelPage(new_page(shared_url))
    page, first = mine.page, mine.key()
    theirs = LabelPage(new_page(f"{shared_url}#{first}"))
    for label in (mine, theirs):
        label.page.locator("#image").focus()
    answer_saves(page, lambda route: route.abort())
    mine.press("Shift+ArrowDown")
    second = mine.turn()
    mine.press("Shift+ArrowDown")
    page.wait_for_selector("#saved[data-state=failed]")
    theirs.press("ArrowRight")
    theirs.turn()
    theirs.press("ArrowRight")
    before = {key: theirs.labels(key) for key in (first, second)}
    with page.expect_response(lambda response: response.status == 409 and second in response.url):
        page.unroute("**/images/*")
        page.evaluate("window.dispatchEvent(new Event('online'))")

    page.wait_for_selector("#conflict[open]")
    asked = page.text_content("#conflict-message")
    answers = {first: "#keep-mine", second: "#load-theirs"}
    for key in sorted(answers, key=lambda key: not asked.startswith(key[0])):
        page.wait_for_selector(f"#conflict[open] >> #conflict-message:has-text('{key[0]}.jpg')")
        page.click(answers[key])
    mine.wait_until_saved()
    assert mine.labels(second) == before[second]
    wrist, their_wrist = mine.labels(first).points[0], before[first].points[0]
    assert wrist.y > their_wrist.y and wrist.x < their_wrist.x


def test_the_brush_starts_in_the_middle_of_each_image(label):
    label.page.locator("#image").focus()
    for tool, value in (("b", 1), ("e", 0)):
        label.press(tool)
        for _ in range(2):
            label.turn()
            label.press("ArrowUp", "Space")
            height, width = label.mask().shape
            assert label.mask()[height // 2 - 1, width // 2] == value


def test_a_click_chooses_a_point_and_a_drag_places_it(label):
    page = label.page
    page.locator("#image").focus()
    if not label.labels().points[0].missing:
        label.press("m")
    before = label.labels()
    x, y = label.to_page(before.points[0].x, before.points[0].y)
    label.press(",")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 2, y + 1)
    page.mouse.up()
    page.wait_for_selector("#points li:first-child [aria-pressed=true]")
    assert label.labels() == before
    label.drag((x, y), (x + 4, y))
    wrist = label.labels().points[0]
    assert not wrist.missing and wrist.x > before.points[0].x


@pytest.mark.parametrize("tool", ["points", "brush"])
def test_the_right_button_changes_nothing(label, tool):
    page = label.page
    page.click(f"[data-tool={tool}]")
    before = label.image()
    point = before["labels"]["points"][0]
    page.mouse.move(*label.to_page(point["x"], point["y"]))
    page.mouse.down(button="right")
    page.mouse.move(*label.to_page(10, 10), steps=4)
    page.mouse.up(button="right")
    assert label.image() == before


def test_no_labels_of_an_image_become_those_of_one_that_has_replaced_it(own_label, folder, images):
    page, before = own_label.page, own_label.image()
    page.locator("#image").focus()
    index = int(before["name"].removeprefix("hand #")[0])
    (folder / before["name"]).write_bytes(images[(index + 1) % 3])
    own_label.press("Shift+ArrowDown")
    page.wait_for_selector("#conflict[open]")
    assert page.text_content("#conflict-title") == "The image has changed"
    assert "has changed since the page showed it" in page.text_content("#conflict-message")
    assert page.is_hidden("#keep-mine")
    page.click("#load-theirs")
    own_label.wait_for_message("is another one now")
    after = own_label.image()
    assert after["digest"] != before["digest"] and after["revision"] == 0
    assert own_label.shown_wrist() == wrist_text(own_label.labels().points[0])

    # Changes of the old image wait while the server is away; the new one is opened meanwhile.
    answer_saves(page, lambda route: route.abort())
    own_label.press("Shift+ArrowDown")
    page.wait_for_selector("#saved[data-state=failed]")
    first = own_label.key()
    own_label.turn()
    (folder / before["name"]).write_bytes(images[(index + 2) % 3])
    page.click(f"#images button:has-text('{before['name']}')")
    own_label.wait_for(first)
    own_label.wait_for_message("is another one now")
    page.unroute("**/images/*")
    assert own_label.image()["revision"] == 0
    own_label.press("ArrowRight")
    assert own_label.image()["revision"] == 1 and page.is_hidden("#conflict")
    assert own_label.shown_wrist() == wrist_text(own_label.labels().points[0])


def test_an_image_that_is_gone_is_named_once(new_page, folder):
    with served_label_page(folder) as url:
        page = new_page(url)
        look_at_the_list_often(page)
        label = LabelPage(page)
        name = label.image()["name"]
        (folder / name).unlink()
        page.locator("#image").focus()
        label.press("Shift+ArrowDown")
        page.wait_for_selector("#saved[data-state=failed]")
        reason = f"{name}: cannot be read (No such file or directory)"
        assert page.text_content("#saved") == f"Not saved: {reason}"
        page.wait_for_selector(f"#passed-over p:text-is('{reason}')")
        assert page.text_content("#name") == f"{name} (passed over)"

        label.hold_list()  # which would lose this image, too
        other = page.locator("#images button").first
        name = other.text_content().split(": ")[0]
        (folder / name).unlink()
        other.click()
        label.wait_for_message(f"{name}: ")
        reason = f"{name}: cannot be read (No such file or directory)"
        assert page.text_content("#message") == reason


def test_nothing_is_lost_when_the_server_is_killed(new_page, folder):
    command = [*MODULE, "mcc_caffe.web", "label", folder, "--quiet"]
    with running_server([*command, "--port", 0]) as (server, url):
        label = LabelPage(new_page(url))
        label.page.locator("#image").focus()
        before = label.labels().points[0]
        server.kill()
        server.wait()
    label.press("Shift+ArrowDown" if before.y < SIZE / 2 else "Shift+ArrowUp")
    label.page.wait_for_selector("#saved[data-state=failed]")
    assert "is mcc-web label still running?" in label.page.text_content("#saved")
    assert label.page.evaluate(
        "!window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    )
    with running_server([*command, "--port", urlsplit(url).port]):
        assert abs(label.labels().points[0].y - before.y) == pytest.approx(10, abs=0.01)
        assert not label.page.evaluate(
            "!window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"
        )


@pytest.mark.parametrize("width", [1280, 801])
def test_long_lists_leave_the_image_the_height_of_the_window(new_page, shared_url, width):
    page = new_page("about:blank", viewport={"width": width, "height": 800})

    def add_unreadable(route) -> None:
        answer = route.fetch()
        overview = answer.json()
        state = {**overview["images"][0], "fault": "not a readable image"}
        overview["unreadable"] = [{**state, "name": f"{index}.png"} for index in range(40)]
        route.fulfill(response=answer, json=overview)

    page.route("**/label/images", add_unreadable)
    page.goto(shared_url)
    LabelPage(page)
    page.click("#keys summary")
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollHeight") == 800
    boxes = [page.locator(name).bounding_box() for name in ("#image", "#message", "aside")]
    assert boxes[0]["height"] > 500
    assert all(box["y"] >= 0 and box["y"] + box["height"] <= 800 for box in boxes)
    page.evaluate("document.querySelector('aside').scrollTop = 1e6")
    keys = page.locator("#keys p").bounding_box()
    assert keys["y"] + keys["height"] <= 800


@pytest.mark.parametrize(("width", "height"), [(844, 390), (667, 375), (568, 320)])
def test_a_phone_on_its_side_shows_the_whole_image(new_page, shared_url, width, height):
    size = {"width": width, "height": height}
    page = LabelPage(new_page(shared_url, viewport=size, has_touch=True, is_mobile=True)).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    image, message = (page.locator(name).bounding_box() for name in ("#image", "#message"))
    assert image["height"] > 0.7 * height and image["width"] > image["height"]
    assert image["y"] + image["height"] <= message["y"]
    assert message["y"] + message["height"] <= height
    for tool in page.locator("#tools button").all():
        tool.scroll_into_view_if_needed()
        box = tool.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= image["x"]
        assert box["y"] >= 0 and box["y"] + box["height"] <= height


def test_the_page_fits_a_phone_and_a_finger(new_page, shared_url):
    label = LabelPage(
        new_page(shared_url, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    )
    page = label.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = page.locator("#image").bounding_box()
    assert box["y"] + box["height"] <= 640, "tools and image do not fit one screen"
    before = label.labels().points
    x, y = label.to_page(before[9].x, before[9].y)
    touch = page.context.new_cdp_session(page)
    for kind, dx in (("touchStart", 0), ("touchMove", 10), ("touchMove", 20), ("touchEnd", 0)):
        points = [] if kind == "touchEnd" else [{"x": x + dx, "y": y}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_selector("#undo[aria-disabled=false]")
    after = label.labels().points
    assert [k for k in range(21) if after[k] != before[k]] == [9] and after[9].x > before[9].x
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input, canvas')].filter((element) =>
            !(element.ariaLabel || element.textContent.trim() || element.labels?.length))
            .map((element) => element.outerHTML)"""
    )
    assert unnamed == []
