"""`mcc-web serve`: POST /hands, in one process and as a real server."""

import asyncio
import io
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import AsyncMock

import httpx
import numpy as np
import PIL.Image
import pytest
from fastapi.testclient import TestClient
from pycocotools import mask as coco_masks

import mcc_caffe
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.caffe_io.weights import describe
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.images import MAX_MEGAPIXELS_VARIABLE, max_megapixels
from mcc_caffe.inference.formats import FORMATS
from mcc_caffe.paper import KEYPOINT_COUNT
from mcc_caffe.predictor import DEFAULT_LOOKS, HandPredictor
from mcc_caffe.serving.app import make_app
from mcc_caffe.serving.hands_api import FormatChoice, HandsService, Limits, hands_router
from mcc_caffe.serving.site import PROGRAMS_PAGE
from tests.support.commands import ROOT
from tests.support.hands import drawn_sample, turned_jpeg
from tests.support.images import encoded
from tests.support.rendered import render_hand
from tests.support.servers import MODULE, running_server

WEIGHTS = default_weights("mini")
JPEG = drawn_sample(np.random.default_rng(0), "x").image_bytes  # 160 x 120
ICO = io.BytesIO()
PIL.Image.new("RGB", (16, 16)).save(ICO, "ICO")
LIMITS = Limits(megabytes=0.2, requests=3)
GREY = encoded(np.full((240, 320, 3), 128, np.uint8))


@pytest.fixture(scope="module")
def service():
    with HandsService(lambda: HandPredictor(WEIGHTS, looks=DEFAULT_LOOKS), LIMITS) as it:
        yield it


@pytest.fixture(scope="module")
def client(service):
    app = make_app(PROGRAMS_PAGE, routers=[hands_router(service)])
    with TestClient(app, base_url="http://127.0.0.1") as it:
        yield it


def test_one_hand_is_what_the_predictor_says(client):
    image = render_hand(0).image
    answer = client.post("/hands?hands=one", content=encoded(image))
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    pose = HandPredictor(WEIGHTS, looks=DEFAULT_LOOKS).predict(image)
    assert pose.present.all()
    report = answer.json()
    assert (report["width"], report["height"]) == (image.shape[1], image.shape[0])
    assert report["score"] == round(pose.score, 4)
    assert report["weights"] == {**describe(WEIGHTS), "file": "mini.npz"}
    for point, (x, y, confidence) in zip(report["keypoints"], pose.keypoints, strict=True):
        expected = {"x": round(x, 2), "y": round(y, 2), "confidence": round(confidence, 4)}
        assert expected.items() <= point.items()


def test_a_hand_that_is_not_present_has_no_keypoint(client):
    answer = client.post("/hands?hands=one", content=JPEG)
    assert answer.json()["keypoints"] == [None] * KEYPOINT_COUNT


def test_all_hands_are_none_in_a_grey_image(client):
    answer = client.post("/hands", content=GREY)
    assert answer.status_code == 200 and answer.json()["hands"] == []
    assert answer.text.endswith("}\n")
    assert client.post("/hands?format=coco", content=GREY).json() == []


def test_a_weights_file_that_is_removed_later_is_missed_by_no_request(tmp_path):
    weights = tmp_path / "weights.npz"
    weights.write_bytes(WEIGHTS.read_bytes())
    with HandsService(lambda: HandPredictor(weights), LIMITS) as service:
        weights.unlink()
        app = make_app(PROGRAMS_PAGE, routers=[hands_router(service)])
        client = TestClient(app, base_url="http://127.0.0.1")
        assert client.post("/hands", content=GREY).json()["hands"] == []


def test_weights_whose_name_is_not_utf_8_are_named(tmp_path):
    weights = tmp_path / os.fsdecode(b"\xff.npz")
    weights.write_bytes(WEIGHTS.read_bytes())
    with HandsService(lambda: HandPredictor(weights), LIMITS) as service:
        app = make_app(PROGRAMS_PAGE, routers=[hands_router(service)])
        client = TestClient(app, base_url="http://127.0.0.1")
        for answer in (client.get("/health"), client.post("/hands", content=GREY)):
            assert answer.status_code == 200 and r"\udcff.npz" in answer.text


def test_the_orientation_is_applied(client):
    report = client.post("/hands?hands=one", content=turned_jpeg()).json()
    assert (report["width"], report["height"]) == (20, 40)


def test_every_format_is_offered(client):
    assert FormatChoice.__args__ == tuple(FORMATS)
    image = render_hand(0).image
    content = encoded(image)
    answers = {
        name: client.post(f"/hands?hands=one&format={name}", content=content) for name in FORMATS
    }
    assert {answer.status_code for answer in answers.values()} == {200}
    ours = answers["ours"].json()
    (coco,) = answers["coco"].json()
    assert coco["score"] == ours["score"] and len(coco["keypoints"]) == 63
    assert coco_masks.decode(coco["segmentation"]).shape == image.shape[:2]
    (person,) = answers["openpose"].json()["people"]
    assert len(person["hand_right_keypoints_2d"]) == 63
    (instance,) = answers["mmpose"].json()
    assert np.shape(instance["keypoints"]) == (21, 2)
    assert answers["csv"].headers["content-type"].startswith("text/csv")
    assert len(answers["csv"].text.splitlines()) == 22


def png_header(width, height):
    """The start of a PNG file: its header says its size, and its pixels are missing."""
    content = bytearray(encoded(np.zeros((1, 1), np.uint8)))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("status", "question", "content", "headers", "message"),
    [
        (400, "", b"", {}, "the body is empty"),
        (400, "?hand=one", JPEG, {}, "there is no parameter 'hand': give only hands and format"),
        (400, "?hands=one&%0aformat=csv", JPEG, {}, r"no parameter '\nformat': give only hands"),
        (400, f"?{'x' * 999}=1", JPEG, {}, f"no parameter '{'x' * 100}': give only"),
        (
            *(400, f"?hands={'x' * 999}&hands=all", JPEG, {}),
            f"hands is given several times, '{'x' * 99}: give one",
        ),
        (
            *(400, "?hands=one&format=csv&hands=all", JPEG, {}),
            "hands is given several times, 'one' and 'all': give one",
        ),
        (413, "", b"x" * 200_001, {}, "more than 0.2 million bytes"),
        (413, "", png_header(15_000, 15_000), {}, "225000000 pixels"),
        (413, "", png_header(60_000, 60_000), {}, "make it smaller"),
        (415, "", b"no image", {}, "not a readable image (8 bytes)"),
        (415, "", ICO.getvalue(), {}, "of an unknown format"),
        (415, "", JPEG, {"Content-Type": "multipart/form-data; boundary=x"}, "multipart/form-data"),
        (
            415,
            "",
            JPEG,
            {"Content-Type": "Multipart/Mixed; boundary=x"},
            "is multipart/mixed: send",
        ),
        (415, "", b"{}", {"Content-Type": "application/json"}, "the body is application/json"),
        (415, "", b"a", {"Content-Type": "text/plain"}, "the body is text/plain"),
        (422, "", GREY[:60], {}, "not a readable image (60 bytes)"),
        (422, "?format=xml", JPEG, {}, "format='xml': Input should be 'ours', 'coco'"),
        (422, "?hands=%0aall", JPEG, {}, r"hands='\nall': Input should be 'all' or 'one'"),
        (422, f"?hands={'x' * 999}", JPEG, {}, f"hands='{'x' * 99}: Input should be 'all'"),
        (403, "", JPEG, {"Origin": "http://elsewhere.example"}, "is another site"),
        (403, "", JPEG, {"Origin": "http://["}, "is another site"),
        (400, "", JPEG, {"Host": "elsewhere.example"}, "ask 127.0.0.1 or localhost"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_answered_is_said_in_one_line(
    client, status, question, content, headers, message
):
    answer = client.post(f"/hands{question}", content=content, headers=headers)
    assert answer.status_code == status and list(answer.json()) == ["detail"]
    assert message in answer.json()["detail"]
    assert len(answer.text.splitlines()) == len(answer.json()["detail"].splitlines()) == 1
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/hands", "POST"),
        ("DELETE", "/hands", "POST"),
        ("TRACE", "/hands", "POST"),
        ("SWALLOW", "/hands", "POST"),
        ("POST", "/health", "GET, HEAD"),
    ],
)
def test_another_method_is_refused_with_those_that_are_allowed(client, method, path, allowed):
    answer = client.request(method, path)
    assert answer.status_code == 405 and answer.headers["allow"] == allowed
    assert answer.json() == {"detail": f"{path} takes no {method}: send {allowed}"}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("the net's heatmaps are not finite: train again"), "heatmaps are not finite"),
        (ZeroDivisionError("division by zero"), "the server has a fault: its output says more"),
    ],
)
def test_a_fault_of_the_network_is_an_answer_as_others_are(
    client, service, monkeypatch, caplog, error, message
):
    def fail(_):
        raise error

    monkeypatch.setattr(service._predictor, "predict", fail)
    answer = client.post("/hands?hands=one", content=JPEG)
    assert answer.status_code == 500 and list(answer.json()) == ["detail"]
    assert message in answer.json()["detail"] and len(answer.text.splitlines()) == 1
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    (record,) = caplog.records
    assert (record.exc_info is None) == isinstance(error, UserError)
    assert service.requests == 0


def test_the_bound_of_pixels_holds(client, monkeypatch):
    monkeypatch.setenv(MAX_MEGAPIXELS_VARIABLE, "0.01")
    answer = client.post("/hands", content=JPEG)
    assert answer.status_code == 413
    assert "19200 pixels are more than 0.01 million" in answer.json()["detail"]


def test_the_body_of_a_refused_request_is_read_so_that_its_client_gets_to_the_answer(client):
    sent = []

    def pieces():
        for number in range(3):
            sent.append(number)
            yield b"x" * 1000

    answer = client.post("/hands", content=pieces(), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415 and sent == [0, 1, 2]


def test_what_curl_calls_a_form_is_an_image_all_the_same(client):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/hands?hands=one", content=JPEG, headers=headers).status_code == 200


@pytest.mark.parametrize("content", [JPEG, GREY])
def test_an_image_from_which_curl_removed_bytes_is_told(client, content):
    """As `curl -d @FILE` does."""
    content = content.translate(None, b"\0\r\n")
    answer = client.post("/hands", content=content)
    assert answer.status_code == 415
    assert "unknown format (curl needs --data-binary: -d rem" in answer.json()["detail"]


def test_a_body_that_does_not_say_its_length_is_limited_too(client):
    answer = client.post("/hands", content=iter([b"x" * 150_000] * 2))
    assert answer.status_code == 413


def test_requests_beyond_the_limit_are_refused_and_the_others_answered(service):
    app = make_app(PROGRAMS_PAGE, routers=[hands_router(service)])
    busy, go_on = threading.Event(), threading.Event()

    def block():
        busy.set()
        go_on.wait(30)

    async def ask_five():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as asking:
            tasks = [
                asyncio.create_task(asking.post("/hands?hands=one", content=JPEG)) for _ in range(5)
            ]
            while sum(task.done() for task in tasks) < 2:
                await asyncio.sleep(0.01)
            health = (await asking.get("/health")).json()
            go_on.set()
            return await asyncio.gather(*tasks), health

    service._thread.submit(block)
    assert busy.wait(10)
    with ThreadPoolExecutor(1) as thread:  # in this one Chromium's event loop may run
        answers, health = thread.submit(lambda: asyncio.run(ask_five())).result()
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [503] * 2
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert refused.json() == {"detail": "3 requests wait already: try again in a second"}
    assert health["version"] == mcc_caffe.__version__
    assert health["status"] == "ok" and (health["requests"], health["most_requests"]) == (3, 3)
    assert service.requests == 0


def test_a_request_whose_client_has_gone_is_not_looked_at(service, monkeypatch):
    app = make_app(PROGRAMS_PAGE, routers=[hands_router(service)])
    busy, go_on, looks = threading.Event(), threading.Event(), []

    def block():
        busy.set()
        go_on.wait(30)

    async def ask_and_go():
        messages = asyncio.Queue()
        scope = {
            **{"type": "http", "method": "POST", "path": "/hands", "query_string": b""},
            "headers": [(b"host", b"127.0.0.1")],
        }
        messages.put_nowait({"type": "http.request", "body": JPEG, "more_body": False})
        asked = asyncio.create_task(app(scope, messages.get, AsyncMock()))
        while not service._thread._work_queue.qsize():
            await asyncio.sleep(0.01)
        assert service.requests == 1
        messages.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(asked, 20)

    monkeypatch.setattr(service, "_look", lambda *_: looks.append(1))
    service._thread.submit(block)
    assert busy.wait(10)
    try:
        with ThreadPoolExecutor(1) as thread:  # in this one Chromium's event loop may run
            thread.submit(lambda: asyncio.run(ask_and_go())).result()
        assert service.requests == 0
    finally:
        go_on.set()
    service._thread.submit(int).result()
    assert looks == []


def test_the_description_names_every_status_and_the_binary_body(client):
    description = client.get("/openapi.json").json()
    assert description["info"]["version"] == mcc_caffe.__version__
    operation = description["paths"]["/hands"]["post"]
    statuses = ["200", "400", "403", "408", "413", "415", "422", "500", "503"]
    assert set(operation["responses"]) >= set(statuses)
    texts = {status: operation["responses"][status]["description"] for status in statuses}
    assert texts["408"] == "The image did not arrive within 60 seconds."
    assert f"more than 0.2 million bytes, or more than {max_megapixels():g} million" in texts["413"]
    assert texts["503"].startswith("3 requests are there already")
    schema = operation["requestBody"]["content"]["application/octet-stream"]["schema"]
    assert schema["format"] == "binary"
    assert client.get("/", follow_redirects=False).headers["location"] == "/api/"


def test_a_wrong_bound_of_pixels_is_said_at_the_start(monkeypatch):
    monkeypatch.setenv(MAX_MEGAPIXELS_VARIABLE, "many")
    with pytest.raises(UserError, match="give a number above 0"):
        HandsService(lambda: HandPredictor(WEIGHTS), LIMITS)


def test_a_network_without_pose_stage_is_refused_and_no_thread_stays(weights):
    threads = threading.active_count()
    deploy = ROOT / "prototxt/mini/deploy_without_pose.prototxt"
    with pytest.raises(UserError, match="the net has no pose stage"):
        HandsService(lambda: HandPredictor(weights, prototxt=deploy, engine="caffe"), LIMITS)
    assert threading.active_count() == threads
    with HandsService(lambda: HandPredictor(WEIGHTS), LIMITS):
        assert threading.active_count() == threads + 1
    assert threading.active_count() == threads


def test_a_real_server_answers_and_ends_at_ctrl_c_after_its_last_answer():
    command = [*MODULE, "mcc_caffe.web", "serve", "--port", 0]

    def ask(address, content=None):
        with urllib.request.urlopen(address, content, timeout=120) as answer:
            return json.load(answer)

    with running_server(command, stderr=subprocess.PIPE) as (server, url):
        assert url.startswith("http://127.0.0.1:")
        health = ask(f"{url}health")
        assert health["status"] == "ok" and health["weights"]["file"] == "mini.npz"
        with ThreadPoolExecutor(3) as threads:
            asked = [threads.submit(ask, f"{url}hands?hands=all", JPEG) for _ in range(3)]
            # All are there when those that wait and those that are answered are three.
            while ask(f"{url}health")["requests"] + sum(task.done() for task in asked) < 3:
                time.sleep(0.01)
            server.send_signal(signal.SIGINT)
        answers = [answer.result() for answer in asked]
        assert [answer["width"] for answer in answers] == [160] * 3
        assert len({json.dumps(answer["hands"]) for answer in answers}) == 1
        _, errors = server.communicate(timeout=60)
    assert server.returncode == 130 and "Traceback" not in errors
