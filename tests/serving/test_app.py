"""The web application without a browser: headers, refusals, the model, and the command's errors."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from mcc_caffe import web
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import describe
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines import open_engine
from mcc_caffe.inference.presence import read_calibration
from mcc_caffe.paper import CONFIDENCE_THRESHOLD
from mcc_caffe.serving import app
from mcc_caffe.serving import model as serving_model
from mcc_caffe.serving.app import find_address, hosts_for, make_app
from mcc_caffe.serving.model import WebModel, make_web_model
from mcc_caffe.serving.site import LABEL_PAGE, LIVE_PAGE, PROGRAMS_PAGE, STATIC, export_site
from tests.support.commands import ROOT, refusal, run, run_code
from tests.support.mounts import run_with_mounts
from tests.support.servers import MODULE, running_server, served

DEPLOY = ROOT / "prototxt/mini/deploy.prototxt"


@pytest.fixture(scope="module")
def model() -> WebModel:
    return make_web_model(shipped_weights("mini"))


@pytest.fixture(scope="module")
def client(model) -> TestClient:
    return TestClient(make_app(LIVE_PAGE, model), base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize("path", ["/", "/live/main.js", "/model.json", "/nowhere"])
def test_every_answer_isolates_the_page(client, path):
    answer = client.get(path)
    assert answer.status_code == (404 if path == "/nowhere" else 200)
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "connect-src 'self' blob:;" in policy
    for name in ("object-src", "base-uri", "form-action", "frame-ancestors"):
        assert f"{name} 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["permissions-policy"].startswith("camera=(self), microphone=()")
    assert answer.headers["cache-control"] == "no-cache"
    assert "access-control-allow-origin" not in answer.headers


def test_other_sites_are_kept_out(client):
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost:x", ""):
        answer = client.get("/", headers={"Host": host})
        assert answer.status_code == 400 and "ask 127.0.0.1 or localhost" in answer.json()["detail"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    for host in ("localhost", "LocalHost:8000", "127.0.0.1:9"):
        assert client.get("/", headers={"Host": host}).status_code == 200
    for origin in ("http://evil.example", "http://evil.127.0.0.1:8000"):
        answer = client.post("/hands", headers={"Origin": origin})
        assert answer.status_code == 403 and "is another site" in answer.json()["detail"]
    assert client.post("/nowhere", headers={"Origin": "http://127.0.0.1:8000"}).status_code != 403


def test_a_server_for_other_machines_answers_under_every_name_and_refuses_other_origins(model):
    client = TestClient(
        make_app(LIVE_PAGE, model, hosts=hosts_for("0.0.0.0")), base_url="http://any.example"
    )
    answer = client.get("/")
    assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers
    assert client.post("/", headers={"Origin": "http://any.example"}).status_code == 405
    answer = client.post("/", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403 and "is another site" in answer.json()["detail"]


@pytest.mark.parametrize(
    "page, start", [(LIVE_PAGE, "/"), (LABEL_PAGE, "/label/"), (PROGRAMS_PAGE, "/api/")]
)
def test_a_server_has_one_page(page, start):
    client = TestClient(make_app(page), base_url="http://127.0.0.1:8000")
    starts = ("/", "/label/", "/api/")
    answers = {path: client.get(path, follow_redirects=False) for path in starts}
    assert [path for path, answer in answers.items() if answer.status_code == 200] == [start]
    assert client.get("/").url.path == start
    assert client.head(start).status_code == 200
    assert client.get("/index.html").status_code == (200 if page is LIVE_PAGE else 404)


def test_head_is_answered_where_get_is_without_a_body():
    router = APIRouter()
    router.get("/health")(lambda: {"state": "well"})
    router.post("/hands")(lambda: {})
    app = make_app(LIVE_PAGE, routers=[router])
    client = TestClient(app, base_url="http://127.0.0.1:8000")
    for path in ("/", "/live/main.js", "/health", "/openapi.json"):
        get, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers == get.headers
    assert client.head("/hands").status_code == 405
    assert client.put("/health").headers["allow"] == "GET, HEAD"
    assert client.get("/openapi.json").json()["paths"]["/health"].keys() == {"get"}


def test_no_file_outside_of_the_pages_is_served(client):
    for path in ("/../app.py", "/%2e%2e/app.py", "/live/../../app.py"):
        assert client.get(path).status_code == 404


def test_no_page_of_fastapi_whose_scripts_lie_elsewhere_is_served(client):
    assert [client.get(path).status_code for path in ("/docs", "/redoc")] == [404, 404]


@pytest.mark.parametrize("form", ["packed", "caffemodel"])
def test_the_model_computes_what_caffe_computes(form, model, weights):
    """Random weights are no float16 numbers, so that they stay float32."""
    file = shipped_weights("mini") if form == "packed" else weights
    made = model if form == "packed" else make_web_model(file)
    session = onnxruntime.InferenceSession(made.onnx, providers=["CPUExecutionProvider"])
    blobs = made.description["blobs"]
    onnx_model = onnx.load_from_string(made.onnx)
    onnx.checker.check_model(onnx_model)
    arrays = onnx_model.graph.initializer
    large = {array.data_type for array in arrays if np.prod(array.dims) > 1000}
    assert large == {onnx.TensorProto.FLOAT16 if form == "packed" else onnx.TensorProto.FLOAT}
    images = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 3, 96, 96)).astype(np.float32)
    mask, heatmaps = session.run([blobs["mask"], blobs["heatmaps"]], {blobs["input"]: images})
    expected = open_engine(DEPLOY, file, engine="caffe")(images)
    assert np.abs(mask[:, 1] - expected.masks).max() <= 1e-4
    assert np.abs(heatmaps - expected.heatmaps).max() <= 1e-4


def test_the_page_is_told_what_is_known_of_the_weights(model, weights):
    known = describe(shipped_weights("mini"))
    assert model.description["weights"] == {**known, "file": "mini.npz"}
    assert model.description["threshold"] == CONFIDENCE_THRESHOLD
    assert model.description["least_score"] == read_calibration(known).single
    unknown = make_web_model(weights).description
    # 128 pixels are what the net itself says.
    assert (unknown["input_size"], unknown["least_score"]) == (128, None)
    assert model.description["input_size"] == known["input_size"] == 208


def test_the_first_load_is_small(model, client):
    """Under 15 MB, where WebGPU is and where it is not."""
    description = client.get("/model.json").json()
    assert description["input_size"] == 208 and client.get("/model.onnx").content == model.onnx
    vendor = STATIC / "vendor/onnxruntime-web"
    own = [path for name in ("live", "shared") for path in (STATIC / name).iterdir()]
    for module, binary in (("wasm", "threaded"), ("webgpu", "threaded.asyncify")):
        files = (
            f"ort.{module}.min.js",
            f"ort-wasm-simd-{binary}.js",
            f"ort-wasm-simd-{binary}.wasm.gz",
        )
        loaded = [STATIC / "index.html", *own, *(vendor / name for name in files)]
        assert len(model.onnx) + sum(path.stat().st_size for path in loaded) < 15e6


def test_a_browser_that_has_the_model_does_not_get_it_again(client):
    answer = client.get("/model.onnx")
    tag = answer.headers["etag"]
    assert tag == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    answer = client.get("/model.onnx", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    other = client.get("/model.onnx", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200 and len(other.content) > 1e6


def test_the_page_fetches_its_modules_at_once():
    """The links name what start.js imports, directly and through others."""
    page = (STATIC / "index.html").read_text()
    preloaded = re.findall(r'rel="modulepreload" href="([^"]+)"', page)
    imported: set[Path] = set()
    waiting = [STATIC / "live/start.js"]
    while waiting:
        module = waiting.pop()
        names = re.findall(r'^import(?: .* from |\()"([^"]+)"', module.read_text(), re.MULTILINE)
        new = {(module.parent / name).resolve() for name in names} - imported
        imported |= new
        waiting += new
    assert {STATIC / name for name in preloaded} == imported
    assert len(preloaded) == len(imported)


def test_no_page_lets_the_browser_ask_for_an_icon_that_is_not_there():
    pages = list(STATIC.rglob("index.html"))
    assert len(pages) == 3
    for page in pages:
        icon = re.search(r'<link rel="icon" href="([^"]+)"', page.read_text())
        assert icon, page
        assert icon[1] == "data:," or (page.parent / icon[1]).is_file()


def test_vendored_files_are_those_that_make_vendor_brought():
    lines = (STATIC.parent / "SHA256SUMS").read_text().splitlines()
    expected = {name: checksum for checksum, name in (line.split("  ") for line in lines)}
    folders = {
        "onnxruntime-web": STATIC / "vendor/onnxruntime-web",
        "swagger-ui-dist": STATIC / "api",
    }
    for package, folder in folders.items():
        version = (folder / "VERSION").read_text().strip()
        del expected[f"{package}-{version}.tgz"]
    own = {STATIC / "api/index.html", STATIC / "api/start.js"}
    files = {path for name in ("vendor", "api") for path in (STATIC / name).rglob("*")} - own
    assert expected == {
        str(path.relative_to(STATIC.parent)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file()
    }


def save_weights(path, net_name):
    """Save the weights that Caffe begins a net of `mini` with."""
    caffe = import_caffe()
    caffe.Net(str(ROOT / f"prototxt/mini/{net_name}.prototxt"), caffe.TEST).save(str(path))


def test_weights_without_pose_stage_are_refused(tmp_path):
    caffemodel = tmp_path / "no_pose.caffemodel"
    save_weights(caffemodel, "deploy_without_pose")
    heatmaps = serving_model.BLOBS["heatmaps"]
    with pytest.raises(UserError, match=f"does not make {heatmaps}: the page needs a network with"):
        make_web_model(caffemodel)


def test_weights_without_mask_stage_are_refused(tmp_path):
    caffemodel = tmp_path / "no_mask.caffemodel"
    save_weights(caffemodel, "deploy_without_mask")
    done = run("mcc_caffe.web", "--weights", caffemodel, "--export", tmp_path / "site")
    assert "the page needs a network with mask and pose stages" in refusal(done)
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("words", [(), ("serve",)])
def test_a_port_in_use_is_named(words):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = run("mcc_caffe.web", *words, "--port", port)
    assert refusal(done) == (
        f"error: nothing can listen at 127.0.0.1, port {port} (Address already in use): "
        "give another with --port or --host"
    )
    assert done.stdout == ""


def test_a_host_that_no_machine_can_have_is_named():
    with pytest.raises(
        UserError, match=r"127\.0\.0\.\.1 \(no host can .*: give another with --host"
    ):
        find_address("127.0.0..1")


@pytest.mark.parametrize(
    "host, address, hosts",
    [
        ("0", "0.0.0.0", ("*",)),
        ("127.1", "127.0.0.1", ("127.0.0.1", "localhost")),
        ("127.0.0.2", "127.0.0.2", ("127.0.0.1", "localhost", "127.0.0.2")),
        ("::1", "::1", ("127.0.0.1", "localhost", "[::1]")),
        ("::", "::", ("*",)),
    ],
)
def test_a_server_knows_the_address_at_which_it_listens(host, address, hosts):
    assert find_address(host) == address
    assert hosts_for(address) == hosts
    client = TestClient(make_app(LIVE_PAGE, hosts=hosts_for(address)))
    for name in hosts:
        headers = {"Host": f"{name.replace('*', 'any.example')}:8000"}
        assert client.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize("host, address", [("127.1", "127.0.0.1"), ("0", "0.0.0.0")])
def test_the_address_that_is_printed_is_the_one_that_was_bound(host, address):
    with served("mcc_caffe.web", "--host", host, "--port", 0) as url:
        assert url.startswith(f"http://{address}:")
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("address", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")], ids=["IPv4", "IPv6"]
)
def test_the_address_of_a_page_is_printed_once_the_server_listens(
    monkeypatch, capsys, caplog, address, host
):
    ports = []

    class Server:
        def __init__(self, app):
            pass

        def run(self, sockets):
            ports.append(sockets[0].getsockname()[1])

    if address == "::1" and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this system has no IPv6")
    monkeypatch.setattr(app, "BoundedServer", Server)
    with caplog.at_level("INFO"):
        app.serve(make_app(LABEL_PAGE), address, 0, path="/label/")
    assert capsys.readouterr().out == f"http://{host}:{ports[0]}/label/\n"
    assert "Ctrl-C ends it" in caplog.text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"host": "127.0.0.1", "port": 8000}),
        (["--host", "::1", "--port", "9", "serve"], {"host": "::1", "port": 9}),
        (["--port", "9", "label", "photos", "--port", "65535"], {"port": 65535}),
        (["serve", "--port", "0"], {"port": 0, "max_megabytes": 32, "max_requests": 16}),
    ],
)
def test_options_that_are_not_given_have_their_defaults(words, expected):
    assert expected.items() <= vars(web.parse_arguments(words)).items()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "65536"], "65536 is not between 0 and 65535"),
        (["--port", "-1"], "-1 is not between 0 and 65535"),
        (["serve", "--max-megabytes", "0"], "argument --max-megabytes: 0 is not above 0"),
        (["serve", "--max-requests", "0"], "argument --max-requests: 0 is not above 0"),
        (["--export", "site", "serve"], "--export writes the live page: it goes without serve"),
    ],
)
def test_options_with_wrong_values_are_named(capsys, words, message):
    with pytest.raises(SystemExit):
        web.parse_arguments(words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["serve"]])
def test_the_command_serves_other_machines_under_every_name_where_the_host_says_so(
    monkeypatch, words
):
    def ask(application, address, port):
        assert (address, port) == ("0.0.0.0", 9)
        client = TestClient(application, base_url="http://any.example")
        assert client.get("/", headers={"Host": "any.example:9"}).status_code == 200

    monkeypatch.setattr(app, "serve", ask)
    web.main([*words, "--host", "0.0.0.0", "--port", "9"])


def test_the_command_answers_programs_with_the_engine_weights_and_limits_that_are_given(
    monkeypatch, tmp_path
):
    weights = tmp_path / "own.npz"
    weights.write_bytes(shipped_weights("mini").read_bytes())
    answers = []

    def ask(application, *_):
        client = TestClient(application, base_url="http://127.0.0.1")
        answers.append(client.get("/health").json())
        answers.append(client.post("/hands", content=b"x" * 3_000_001).json()["detail"])

    monkeypatch.setattr(app, "serve", ask)
    limits = ("--max-megabytes", "3", "--max-requests", "2")
    web.main(["serve", "--engine", "onnx", "--weights", str(weights), *limits])
    health, detail = answers
    assert health["weights"]["file"] == "own.npz" and health["engine"] == "onnx"
    assert health["most_requests"] == 2 and "more than 3 million bytes" in detail


def test_a_second_ctrl_c_ends_the_server_without_a_traceback():
    command = [*MODULE, "mcc_caffe.web", "--port", 0]
    with running_server(command, stderr=subprocess.PIPE) as (server, url):
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=60):
            for _ in range(2):
                server.send_signal(signal.SIGINT)
                time.sleep(0.02)  # two at once would count as a single one
        _, errors = server.communicate(timeout=60)
    assert server.returncode == 130 and "Traceback" not in errors, errors


def test_export_replaces_nothing(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "mine.txt").write_text("mine")
    assert "holds files: give a new folder" in refusal(run("mcc_caffe.web", "--export", site))
    assert [path.name for path in tmp_path.rglob("*")] == ["site", "mine.txt"]


def test_export_writes_no_folder_that_it_runs_in_and_a_link_stays(model, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "site").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    with pytest.raises(UserError, match=r"\. would be replaced, and this command runs in it: give"):
        export_site(model, Path("."))
    monkeypatch.chdir("/")
    assert export_site(model, tmp_path / "site") > len(model.onnx)
    assert (tmp_path / "site").is_symlink() and (tmp_path / "real/model.onnx").is_file()
    assert len(list(tmp_path.iterdir())) == 2


def test_export_writes_what_the_page_loads(model, tmp_path):
    done = run("mcc_caffe.web", "--export", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    files = [path for path in (tmp_path / "site").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2**20
    weights = shipped_weights("mini")
    assert done.stdout == f"{tmp_path}/site: {size:.1f} MiB, with {weights}\n"
    names = {path.name for path in (tmp_path / "site").iterdir()}
    assert names == {"index.html", "live", "shared", "vendor", "model.onnx", "model.json"}
    assert (tmp_path / "site/model.onnx").read_bytes() == model.onnx
    assert json.loads((tmp_path / "site/model.json").read_text()) == model.description
    assert (tmp_path / "site/vendor/onnxruntime-web/ThirdPartyNotices.txt").is_file()


@pytest.mark.parametrize("size", ["300k", "14m"])
def test_a_full_disk_is_told_by_the_folder_of_the_export(size, tmp_path):
    mounts = f"mount -t tmpfs -o size={size} tmpfs {tmp_path}"
    done = run_with_mounts(mounts, "mcc_caffe.web", "--export", tmp_path / "site")
    assert refusal(done) == (
        f"error: {tmp_path}/site cannot be written (No space left on device): "
        "make room, or give another folder"
    )


def test_without_the_extra_the_command_says_what_helps(tmp_path):
    (tmp_path / "fastapi.py").write_text("raise ImportError('No module named fastapi')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['mcc-web']; "
        "from mcc_caffe.entry_points import web; web()"
    )
    done = run_code(code)
    assert "`pip install '.[web]'`" in refusal(done)
