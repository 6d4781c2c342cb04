"""The labelling page's addresses, asked without a browser."""

import json
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from mcc_caffe import web
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.core.errors import UserError
from mcc_caffe.serving.app import make_app
from mcc_caffe.serving.label_api import make_label_router
from mcc_caffe.serving.label_files import LABELS_FOLDER
from mcc_caffe.serving.labelling import open_session
from mcc_caffe.serving.net_answers import open_net
from mcc_caffe.serving.site import LABEL_PAGE
from tests.support.commands import refusal, run
from tests.support.hands import hand
from tests.support.labels import labels_of, write_images
from tests.support.servers import MODULE, running_server

IMAGES = "/label/images"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("labels") / "photos"
    return write_images(folder, {"0.jpg": hand(0), "folder/1.png": hand(1)})


@pytest.fixture(scope="module")
def client(folder):
    with open_session(folder, open_net(shipped_weights("mini"))) as session:
        app = make_app(LABEL_PAGE, routers=[make_label_router(session)])
        yield TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.fixture(scope="module")
def key(client) -> str:
    images = client.get(IMAGES).json()["images"]
    return next(image["key"] for image in images if image["name"] == "0.jpg")


@pytest.fixture
def change(client, key) -> dict:
    """A change of 0.jpg that can be saved."""
    image = client.get(f"{IMAGES}/{key}").json()
    labels = json.loads(labels_of(hand(0)).model_dump_json())
    names = ("revision", "digest")
    return {**{name: image[name] for name in names}, "token": "a", "labels": labels}


def test_an_image_is_listed_shown_and_saved(client, key, change, folder):
    overview = client.get(IMAGES).json()
    assert overview["folder"] == str(folder) and len(overview["images"]) == 2
    shown = client.get(f"{IMAGES}/{key}/pixels")
    assert shown.headers["content-type"] == "image/jpeg"
    assert shown.headers["cache-control"] == "no-store"
    pixels = cv2.imdecode(np.frombuffer(shown.content, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (120, 160, 3)
    assert np.abs(pixels.astype(int) - hand(0).image()).mean() < 8
    saved = client.put(f"{IMAGES}/{key}", json=change).json()
    splits = client.get(IMAGES).json()["splits"]
    assert sum(splits.values()) == 1
    assert saved == {
        "revision": change["revision"] + 1,
        "status": "done",
        "note": "",
        "splits": splits,
    }
    assert client.put(f"{IMAGES}/{key}", json=change).json() == saved, "its answer may be lost"
    assert client.get(f"{IMAGES}/{key}").json()["labels"] == change["labels"]
    stale = client.put(f"{IMAGES}/{key}", json={**change, "token": "b"})
    assert stale.status_code == 409 and "another tab" in stale.json()["detail"]
    of_another_file = client.put(f"{IMAGES}/{key}", json={**change, "digest": "0" * 64})
    assert of_another_file.status_code == 412
    assert "has changed since the page showed it" in of_another_file.json()["detail"]
    page = client.get("/label/")
    assert page.status_code == 200 and "<title>Label hands</title>" in page.text


def test_a_client_that_goes_while_it_sends_is_no_fault_of_the_server(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "photos", ignore=shutil.ignore_patterns(LABELS_FOLDER))
    command = [*MODULE, "mcc_caffe.web", "label", tmp_path / "photos", "--port", 0]
    with running_server(command, stderr=subprocess.PIPE) as (server, url):
        address = (urlsplit(url).hostname, urlsplit(url).port)
        with socket.create_connection(address, timeout=60) as connection:
            header = f"PUT {IMAGES}/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n"
            connection.sendall(f"{header}abc".encode())
            time.sleep(1)
        time.sleep(1)
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
    assert "Traceback" not in errors and "error" not in errors


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_change_of_too_many_bytes_is_refused(is_chunked, client, key):
    content = b" " * 32_000_001
    sent = iter([content[:1000], content[1000:]]) if is_chunked else content
    answer = client.put(f"{IMAGES}/{key}", content=sent)
    assert answer.status_code == 413
    message = "the change has more than 32 million bytes: make it smaller"
    assert answer.json() == {"detail": message}


@pytest.mark.parametrize(
    "damage",
    [
        lambda change: change["labels"]["points"].pop(),
        lambda change: change["labels"]["points"].append(change["labels"]["points"][0]),
        lambda change: change["labels"]["points"][0].update(x="left"),
        lambda change: change["labels"]["points"][0].update(x=-0.6),
        lambda change: change["labels"].update(runs=[-1, 160 * 120 + 1]),
        lambda change: change["labels"].update(runs=[160 * 120 + 1]),
        lambda change: change["labels"].update(runs=[10**30]),
        lambda change: change["labels"].update(status="finished"),
        lambda change: change["labels"].update(more=1),
        lambda change: change.pop("digest"),
    ],
)
def test_labels_that_are_none_are_refused_and_nothing_changes(client, key, change, damage):
    before = client.get(f"{IMAGES}/{key}").json()
    damage(change)
    refused = client.put(f"{IMAGES}/{key}", json=change)
    assert refused.status_code == 422 and ": load the " in refused.json()["detail"]
    assert len(refused.json()["detail"].splitlines()) == 1
    assert client.get(f"{IMAGES}/{key}").json() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Invalid JSON: EOF while parsing a value at line 1 column 0: load the page again"),
        (b"[]", "Input should be an object: load the page again"),
        (b'{"labels": {"points": 1}}', "labels.status: Field required: load the page again"),
    ],
)
def test_the_first_fault_of_a_body_is_named_with_its_field(client, key, content, message):
    body = content.replace(b"{", b'{"revision": 0, "digest": "", "token": "t", ', 1)
    refused = client.put(f"{IMAGES}/{key}", content=body)
    assert refused.status_code == 422 and refused.json()["detail"] == message


def test_labels_that_cannot_be_written_can_be_sent_again(client, key, change, folder):
    """The page sends them again where the status is 500 or above."""
    revision = client.put(f"{IMAGES}/{key}", json=change).json()["revision"]
    again = {**change, "revision": revision, "token": "again"}
    (label_file,) = (folder / LABELS_FOLDER / "onehand10k").glob("*/label_joint.txt")
    aside = label_file.with_name("aside")
    label_file.rename(aside)
    label_file.mkdir()
    failed = client.put(f"{IMAGES}/{key}", json=again)
    label_file.rmdir()
    aside.rename(label_file)
    assert failed.status_code == 507 and "is a folder" in failed.json()["detail"]
    assert client.put(f"{IMAGES}/{key}", json=again).status_code == 200


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(client, key, change, number):
    text = json.dumps(change).replace(
        f'"x": {change["labels"]["points"][0]["x"]}', f'"x": {number}'
    )
    headers = {"Content-Type": "application/json"}
    assert client.put(f"{IMAGES}/{key}", content=text, headers=headers).status_code == 422


@pytest.mark.parametrize(
    "path", ["nothing", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f0.jpg", "0.jpg", "%00"]
)
def test_no_other_file_can_be_reached(client, change, path):
    for address in (f"{IMAGES}/{path}", f"{IMAGES}/{path}/pixels"):
        answer = client.get(address)
        assert answer.status_code == 404
    assert client.put(f"{IMAGES}/{path}", json=change).status_code in (404, 405)


def test_other_sites_can_neither_read_nor_write(client, key, change):
    address = f"{IMAGES}/{key}"
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999"):
        assert client.put(address, json=change, headers={"Origin": origin}).status_code == 403
    rebound = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}
    assert client.put(address, json=change, headers=rebound).status_code == 400
    assert client.get(address, headers=rebound).status_code == 400
    assert client.get(address).headers["cross-origin-resource-policy"] == "same-origin"
    own = {"Origin": "http://127.0.0.1:8000"}
    assert client.put(address, json=change, headers=own).status_code == 200


def test_the_command_says_what_is_wrong_in_one_line(client, folder, tmp_path):
    done = run("mcc_caffe.web", "label", tmp_path, "--port", "0", "--quiet")
    assert "holds no image" in refusal(done) and not done.stdout
    for words, message in (
        ([str(tmp_path / "none")], "is no folder: give the folder that holds the images"),
        ([str(folder)], "labels these images: wait until it has ended"),  # open in other tests
        ([str(folder), "--host", "0.0.0.0"], "the labelling page is for this machine alone"),
    ):
        with pytest.raises(UserError, match=message):
            web.main(["label", *words, "--port", "0"])
    assert not (tmp_path / LABELS_FOLDER).exists()
