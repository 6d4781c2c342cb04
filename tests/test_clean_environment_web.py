"""The wheel with the extra `web` in a new environment without Caffe, used from another folder.

CI runs these tests in a step of their own: `pytest -m clean_environment`.
"""

import json
import urllib.request

import cv2
import numpy as np
import onnxruntime
import pytest

from tests.support.clean_environment import CleanEnvironment, keypoints_of, succeed
from tests.support.rendered import render_hand

pytestmark = pytest.mark.clean_environment


@pytest.fixture(scope="module")
def clean(packages, tmp_path_factory) -> CleanEnvironment:
    return CleanEnvironment(tmp_path_factory.mktemp("environment"), packages.wheel, "[web]")


@pytest.fixture
def photos(tmp_path):
    """A folder with a rendered hand, hand.jpg, in a folder to work in."""
    (tmp_path / "photos").mkdir()
    rendered = render_hand(9, 320)
    cv2.imwrite(str(tmp_path / "photos/hand.jpg"), rendered.image)
    return tmp_path / "photos"


def fetch(url: str, data: bytes | None = None) -> bytes:
    """Return what a server answers to GET, or to POST with data."""
    with urllib.request.urlopen(url, data, timeout=60) as answer:
        return answer.read()


def test_the_page_is_exported_and_its_model_runs(clean, tmp_path):
    done = succeed(clean.run("mcc-web", "--export", "site", cwd=tmp_path))
    assert done.stdout.startswith("site: ") and done.stderr == ""
    description = json.loads((tmp_path / "site/model.json").read_text())
    session = onnxruntime.InferenceSession(
        tmp_path / "site/model.onnx", providers=["CPUExecutionProvider"]
    )
    image = np.zeros((1, 3, 96, 96), np.float32)
    (heatmaps,) = session.run(
        [description["blobs"]["heatmaps"]], {description["blobs"]["input"]: image}
    )
    assert heatmaps.shape == (1, 22, 12, 12)
    assert "<title>" in (tmp_path / "site/index.html").read_text()


def test_the_live_page_is_served(clean, tmp_path):
    with clean.served("mcc-web", "--port", 0, cwd=tmp_path) as url:
        assert b"<title>" in fetch(url) and len(fetch(f"{url}model.onnx")) > 10**6


def test_programs_get_what_infer_finds(clean, photos):
    succeed(clean.run("mcc-infer", "photos", "--looks", 4, cwd=photos.parent))
    expected = json.loads((photos.parent / "out/hand.json").read_text())
    with clean.served("mcc-web", "serve", "--port", 0, cwd=photos.parent) as url:
        assert json.loads(fetch(f"{url}health"))["engine"] == "onnx"
        answer = json.loads(fetch(f"{url}hands?hands=one", (photos / "hand.jpg").read_bytes()))
    keypoints = keypoints_of(answer)
    assert np.isfinite(keypoints).all(axis=1).sum() > 15
    assert np.array_equal(keypoints, keypoints_of(expected), equal_nan=True)


def test_the_labelling_page_starts_from_the_nets_answer(clean, photos):
    with clean.served("mcc-web", "label", "photos", "--port", 0, cwd=photos.parent) as url:
        assert url.endswith("/label/") and b"<title>" in fetch(url)
    assert [path.name for path in photos.parent.iterdir()] == ["photos"]
