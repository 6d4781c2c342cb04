"""The benchmark of the data layer, with a stand-in for the peer's environment."""

import importlib
import json
import sys
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

from benchmarks import data_layer, jobs
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.heatmaps import encode
from mcc_caffe.data.loader import Loader
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.paper import MINI, PAPER
from tests.support.hands import write_set


@pytest.fixture
def worker(monkeypatch):
    """The peer's module, imported without the packages of its environment."""
    for name in ("albumentations", "torch", "torch.utils", "torch.utils.data"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["albumentations"].Compose = sys.modules["torch.utils.data"].Dataset = object
    sys.modules["torch.utils.data"].DataLoader = sys.modules["torch.utils.data"].RandomSampler = (
        None
    )
    name = "benchmarks.peers.albumentations_worker"
    yield importlib.import_module(name)
    del sys.modules[name]


@pytest.mark.parametrize("variant", [PAPER, MINI], ids=lambda variant: variant.name)
def test_the_peer_writes_our_heatmaps(worker, variant):
    rng = np.random.default_rng(0)
    keypoints = np.column_stack(
        [rng.uniform(0, variant.input_size - 1, (21, 2)), rng.uniform(size=21) < 0.8]
    )
    peer_heatmaps = worker.heatmaps(
        keypoints[:, :2], keypoints[:, 2] > 0, variant.cells, variant.sigma, variant.background
    )
    expected = encode(keypoints, variant.cells, variant.sigma, variant.background)
    assert peer_heatmaps.dtype == expected.dtype and np.abs(peer_heatmaps - expected).max() < 1e-5


def letterboxed(source, variant) -> list:
    with Loader(
        LoaderConfig.of(variant, str(source), augment=False, shuffle=False, workers=0)
    ) as loader:
        return [array.copy() for array in loader.next_batch()[0].values()]


def test_the_same_arrays_agree_and_others_do_not(drawn_set):
    arrays = letterboxed(drawn_set, MINI)
    assert set(data_layer.compare(drawn_set, MINI, arrays).values()) == {0}
    too_much = [(0, 5 / 256), (1, 0.03), (2, 2e-5), *((index, np.nan) for index in range(3))]
    for changed, change in too_much:
        other = [
            array + np.float32(change) if index == changed else array
            for index, array in enumerate(arrays)
        ]
        with pytest.raises(UserError, match="does not make what we make"):
            data_layer.compare(drawn_set, MINI, other)
    with pytest.raises(UserError, match="arrays are"):
        data_layer.compare(drawn_set, MINI, [array[:, :, 1:] for array in arrays])


def test_a_sample_is_stretched_with_its_keypoints(drawn_samples):
    sample = data_layer.resize_sample(drawn_samples[1], (320, 60))  # of 160 x 120
    assert sample.jpeg_size() == (320, 60) and sample.mask().shape == (60, 320)
    labelled = drawn_samples[1].keypoints[:, 2] > 0
    assert np.allclose(
        sample.keypoints[labelled], drawn_samples[1].keypoints[labelled] * (2, 0.5, 1)
    )
    assert (sample.keypoints[~labelled] == (-1, -1, 0)).all()


def test_the_command_writes_a_table_and_json(drawn_samples, tmp_path, monkeypatch, capsys):
    """The peer's stand-in makes 10 images/s, 20 with masks of 1 bit, and the same arrays as we."""

    def make_images(folder):
        for size in data_layer.SIZES:
            write_set(folder / str(size[0]) / "set", drawn_samples[:3])

    def ask_peer(python, files, variant, *, seconds=0, check=None):
        if check is not None:
            np.savez(check, *letterboxed(files.parent / "set", variant))
            return {"versions": {"albumentations": "2.0.8"}}
        return {"rate": 20.0 if files.name == "files_1_bit" else 10.0}

    for function in (make_images, ask_peer):
        monkeypatch.setattr(data_layer, function.__name__, function)
    monkeypatch.setattr(data_layer, "interpreter", lambda: sys.executable)
    monkeypatch.setattr(data_layer, "our_rate", lambda source, variant, seconds: 60.0)
    data_layer.main(["--quick", "--out", str(tmp_path / "new")])
    lines = (tmp_path / "new/data_layer.md").read_text().splitlines()
    assert (
        lines[-4]
        == "| 640 x 480 | 368 (`paper`) | 60 images/s | 10 (ours x 6.0) | 20 (ours x 3.0) |"
    )
    assert (
        len(lines) == 8
        and "albumentations 2.0.8" in lines[0]
        and lines[-1] in capsys.readouterr().out
    )
    content = json.loads((tmp_path / "new/data_layer.json").read_text())
    assert len(content["rows"]) == 12 and len(content["differences_from_peer"]) == 4
    assert {row["ours_is_faster_by"] for row in content["rows"]} == {1.0, 3.0, 6.0}


def test_our_rate_counts_images(drawn_set):
    assert data_layer.our_rate(drawn_set, MINI, 0.2) > 10


def test_a_peer_that_fails_is_one_line(tmp_path, monkeypatch):
    def run(command, **options):
        return SimpleNamespace(returncode=1, stderr="Traceback\nImportError: no torch\n")

    monkeypatch.setattr(jobs.subprocess, "run", run)
    with pytest.raises(UserError, match="^the peer failed: ImportError: no torch$"):
        data_layer.ask_peer(sys.executable, tmp_path, MINI)


def test_the_peers_files_hold_masks_of_eight_bits_and_of_one(drawn_samples, tmp_path, monkeypatch):
    monkeypatch.setattr(data_layer.synth, "main", lambda arguments: None)
    entries = [SimpleNamespace(sample=lambda sample=sample: sample) for sample in drawn_samples[:2]]
    monkeypatch.setattr(data_layer.onehand10k, "read_entries", lambda folder, split: entries)
    data_layer.make_images(tmp_path)
    for size in data_layer.SIZES:
        masks = []
        for name, bits in (("files", 8), ("files_1_bit", 1)):
            files = tmp_path / str(size[0]) / name
            png = (files / "1.png").read_bytes()
            assert png[24] == bits and np.load(files / "keypoints.npy").shape == (2, 21, 3)
            assert cv2.imread(str(files / "1.jpg")).shape == (size[1], size[0], 3)
            masks.append(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE))
        assert (
            np.array_equal(*masks)
            and masks[0].shape == (size[1], size[0])
            and set(np.unique(masks[0])) == {0, 255}
        )
