"""The wheel in a new environment without Caffe, used from another folder, as after `pip install`.

CI runs these tests in a step of their own: `pytest -m clean_environment`.
"""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from data_tools.check import EXIT_FAULTS
from mcc_caffe import HandPredictor
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.inference.engines import open_engine
from tests.support.clean_environment import CleanEnvironment, keypoints_of, succeed
from tests.support.commands import ROOT, refusal

pytestmark = pytest.mark.clean_environment

NEEDS_CAFFE = ("mcc_caffe.data_layer",)  # Caffe itself imports it
# What the extra [web] brings.
WEB_PACKAGES = ("fastapi", "h11", "pydantic", "starlette", "uvicorn")


@pytest.fixture(scope="module")
def clean(packages, tmp_path_factory) -> CleanEnvironment:
    return CleanEnvironment(tmp_path_factory.mktemp("environment"), packages.wheel)


def test_every_module_can_be_imported(clean, tmp_path):
    code = (
        "import importlib, pkgutil\n"
        "names = []\n"
        "for package in map(importlib.import_module, ('mcc_caffe', 'data_tools', 'caffe_build')):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        f"        if module.name not in {NEEDS_CAFFE!r} and not module.name.endswith('__main__'):\n"
        "            try:\n"
        "                importlib.import_module(module.name)\n"
        "            except ModuleNotFoundError as error:\n"
        "                is_of_web = module.name.startswith('mcc_caffe.serving.')\n"
        f"                if not is_of_web or error.name.split('.')[0] not in {WEB_PACKAGES!r}:\n"
        "                    raise\n"
        "            names.append(module.name)\n"
        "print(len(names), importlib.util.find_spec('caffe'))\n"
    )
    count, caffe = succeed(clean.run("python", "-c", code, cwd=tmp_path)).stdout.split()
    assert int(count) > 60 and caffe == "None"


@pytest.mark.parametrize("form", ["packed", "caffemodel"])
def test_infer_finds_in_an_image_what_caffe_finds(clean, form, weights, tmp_path):
    options = ["--weights", weights] if form == "caffemodel" else []
    image = cv2.imread(str(ROOT / "docs/demo.jpg"))[:, :400]
    cv2.imwrite(str(tmp_path / "hand.png"), image)
    done = succeed(clean.run("mcc-infer", "hand.png", "--levels", 2, *options, cwd=tmp_path))
    assert "; engine: onnx" in done.stdout.splitlines()[0] and done.stderr == ""
    report = json.loads((tmp_path / "out/hand.json").read_text())
    predictor = HandPredictor(*options[1:], levels=2, engine="caffe")
    pose = predictor.predict(image)
    expected = np.where(pose.present[:, None], pose.keypoints[:, :2], np.nan)
    assert report["engine"] == "onnx" and (tmp_path / "out/hand.png").is_file()
    assert np.allclose(keypoints_of(report), expected, atol=0.02, equal_nan=True)


def test_infer_reads_and_writes_videos(clean, drawn_samples, tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (160, 120)
    )
    for sample in drawn_samples[1:8:2]:
        writer.write(sample.image())
    writer.release()
    succeed(clean.run("mcc-infer", "clip.mp4", cwd=tmp_path))
    report = json.loads((tmp_path / "out/clip.json").read_text())
    assert report["engine"] == "onnx" and len(report["frames"]) == 4
    assert cv2.VideoCapture(str(tmp_path / "out/clip.mp4")).read()[0]


def test_evaluate_reads_lmdb_sets_and_measures_what_caffe_measures(clean, drawn_set, tmp_path):
    words = (drawn_set, "--levels", 1, "--limit", 5, "--processes", 2)
    done = succeed(clean.run("mcc-evaluate", *words, "--out", "eval", cwd=tmp_path))
    assert "engine onnx" in done.stderr
    (model,) = json.loads((tmp_path / "eval/results.json").read_text())["models"]
    command = [sys.executable, "-m", "mcc_caffe.evaluate", *map(str, words)]
    subprocess.run([*command, "--out", tmp_path / "caffe"], cwd=ROOT, check=True)
    (expected,) = json.loads((tmp_path / "caffe/results.json").read_text())["models"]
    assert (model["engine"], expected["engine"]) == ("onnx", "caffe")
    assert model["sets"].keys() == expected["sets"].keys()
    for name, numbers in expected["sets"].items():
        for measure, value in numbers.items():
            if isinstance(value, float):
                assert model["sets"][name][measure] == pytest.approx(value, abs=1e-3), measure


def test_data_tools_read_and_write_sets(clean, drawn_set, tmp_path):
    done = succeed(clean.run("mcc-data", "inspect", drawn_set, "--out", "sheet.png", cwd=tmp_path))
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None, done.stderr
    checked = clean.run("mcc-data", "check", drawn_set, "--out", "check", cwd=tmp_path)
    assert checked.returncode == EXIT_FAULTS, checked.stderr  # drawn hands reach beyond images
    written = {path.name for path in (tmp_path / "check").iterdir()}
    assert written == {"report.json", "suspects.png"}


def test_export_writes_the_network(clean, tmp_path):
    done = succeed(clean.run("mcc-export", "--onnx", "hand.onnx", cwd=tmp_path))
    assert "not compared with Caffe, which is not installed" in done.stderr
    import onnxruntime

    session = onnxruntime.InferenceSession(
        tmp_path / "hand.onnx", providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3, 96, 96)).astype(np.float32)
    heatmaps = session.run(["Mconv7_stage6"], {"image": images})[0]
    caffe = open_engine(ROOT / "prototxt/mini/deploy.prototxt", shipped_weights("mini"))
    assert np.abs(heatmaps - caffe(images).heatmaps).max() <= 1e-4


def test_the_doctor_names_the_engine(clean, tmp_path):
    done = succeed(clean.run("python", "-m", "mcc_caffe.doctor", "--json", cwd=tmp_path))
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["engine"]["state"] == "onnx runs the nets"
    assert rows["Caffe"]["status"] == "absent"


@pytest.mark.parametrize(
    "words, message",
    [
        (("mcc-train", "set"), "error: training needs Caffe, which was not found: `make caffe`"),
        (("mcc-train", "set", "--gpus", "0"), "error: training needs Caffe"),
        (("mcc-data", "bake", "set", "new", "--copies", 1), "error: baking for `caffe train`"),
        (("mcc-infer", "hand.jpg", "--gpu", 0), "error: Caffe was not found: `make caffe`"),
        (("mcc-infer", "hand.jpg", "--engine", "caffe"), "error: Caffe was not found"),
    ],
)
def test_what_needs_caffe_says_so_in_one_line(clean, words, message, tmp_path):
    cv2.imwrite(str(tmp_path / "hand.jpg"), np.zeros((40, 40, 3), np.uint8))
    line = refusal(clean.run(*words, cwd=tmp_path))
    assert line.startswith(message) and "`python -m caffe_build`" in line
    assert [path.name for path in tmp_path.iterdir()] == ["hand.jpg"]
