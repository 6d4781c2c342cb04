"""Engines: MNN finds what Caffe finds, is converted once, and gives way to Caffe where it is not there or differs."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from data_tools.live import LiveHands
from mcc_caffe import engines
from mcc_caffe.augmentation import network_input
from mcc_caffe.engines import choose, mnn_conversion, open_engine
from mcc_caffe.engines.mnn_conversion import TOLERANCE, checked_input
from mcc_caffe.engines.mnn_engine import EngineUnavailable, MnnMissing, import_mnn, threads
from mcc_caffe.errors import UserError
from mcc_caffe.geometry import letterbox
from mcc_caffe.pycaffe import import_caffe
from mcc_caffe.predictor import HandPredictor
from mcc_caffe.weights import load_weights, shipped_weights
from tests.conftest import ROOT, drawn_sample, run
from tests.test_predictor import weights  # noqa: F401  (a fixture)

MINI = ROOT / "prototxt/mini/deploy.prototxt"
SHIPPED = ROOT / "mcc_caffe/pretrained/mini.npz"
HERE = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
ONEDNN, NO_ONEDNN = (f"import mcc_caffe.engines; mcc_caffe.engines.has_onednn = lambda: {there}; " for there in (True, False))
NO_MNN = "import sys; sys.modules['MNN'] = None; "  # makes `import MNN` an ImportError


@pytest.fixture(scope="module", autouse=True)
def needs_mnn():
    try:
        import_mnn()
    except MnnMissing as lack:
        pytest.skip(str(lack))


@pytest.fixture(scope="module")
def hands():
    """Five rendered hands."""
    live = LiveHands("synth:seed=3&size=160")
    return [live[place].image() for place in range(5)]


@pytest.fixture
def own(tmp_path):
    """A copy of the weights that ship, in a folder of its own."""
    return shutil.copy(SHIPPED, tmp_path / "own.npz")


def lively_weights(prototxt: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """Random weights that keep each layer's output near 1, where xavier's would fade through the stages."""
    caffe = import_caffe()
    caffe.set_mode_cpu()
    net = caffe.Net(str(prototxt), caffe.TEST)
    random = np.random.default_rng(0)
    net.blobs["data"].reshape(1, 3, 184, 184)
    net.blobs["data"].data[...] = random.uniform(-0.5, 0.5, (1, 3, 184, 184))
    for place, name in enumerate(net._layer_names):
        if name in net.params:
            kernel, bias = net.params[name]
            kernel.data[...] = random.normal(0, 1, kernel.data.shape)
            net._forward(place, place)
            kernel.data[...] /= net.blobs[name].data.std()
            bias.data[...] = random.normal(0, 0.1, bias.data.shape)
        net._forward(place, place)
    net.save(str(path))
    return path


def assert_engines_agree(prototxt, path, batches, pictures=()):
    """Within the tolerance on pictures and random squares, in which a trained mask stage sees little, and not for being near 0 all over."""
    reference, engine = open_engine(prototxt, path, engine="caffe"), open_engine(prototxt, path, engine="mnn")
    assert (reference.name, engine.name) == ("caffe", "mnn")
    for name in ("input_size", "has_mask", "has_pose"):
        assert getattr(engine, name) == getattr(reference, name), name
    size = engine.input_size
    inputs = np.stack([*(network_input(picture, letterbox(*picture.shape[1::-1], size), size) for picture in pictures), *checked_input(size)[::-1]])
    for batch in batches:
        images = np.resize(inputs, (batch, *inputs.shape[1:]))
        for name, expected, found in zip(("mask", "heatmaps"), reference(images), engine(images)):
            assert (found is None) == (expected is None) == (not getattr(engine, "has_mask" if name == "mask" else "has_pose"))
            if expected is not None:
                assert found.shape == expected.shape and found.dtype == np.float32
                assert np.abs(found - expected).max() <= TOLERANCE, name
                assert np.ptp(expected) > (0.05 if name == "mask" else 0.5) and np.abs(expected).max() < 30, name


def test_mini_with_the_weights_that_ship(hands):
    assert_engines_agree(MINI, SHIPPED, [1, 8, 3, 8], hands)
    caffe, mnn = (HandPredictor(engine=engine) for engine in ("caffe", "mnn"))
    for image in hands:
        one, other = caffe.predict(image), mnn.predict(image)
        assert np.abs(one.keypoints[:, :2] - other.keypoints[:, :2]).max() < 0.01
        assert (one.present == other.present).all() and one.present.sum() > 5
        assert np.abs(one.keypoints[:, 2] - other.keypoints[:, 2]).max() <= TOLERANCE
        # Bicubic: what a cell and its neighbours weigh is more than 1 together.
        assert one.mask.max() > 0.5 and np.abs(one.mask - other.mask).max() <= 2 * TOLERANCE


@pytest.mark.parametrize("without", ["mask", "pose"])
def test_mini_without_a_stage(without, tmp_path):
    prototxt = ROOT / f"prototxt/mini/deploy_without_{without}.prototxt"
    assert_engines_agree(prototxt, lively_weights(prototxt, tmp_path / "random.caffemodel"), [1, 2])


def test_paper(tmp_path):
    prototxt = ROOT / "prototxt/paper/deploy.prototxt"
    assert_engines_agree(prototxt, lively_weights(prototxt, tmp_path / "random.caffemodel"), [1, 2])


def test_a_batch_of_views_is_taken(own):
    """Not contiguous, and of doubles."""
    engine = open_engine(MINI, own, engine="mnn")
    batch = checked_input(128)
    assert (engine(batch[::-1].astype(float))[1] == engine(np.ascontiguousarray(batch[::-1]))[1]).all()


def kept_files(folder):
    return sorted(path for path in pathlib.Path(folder).iterdir() if ".mnn" in path.name)


def test_the_conversion_is_made_once(own, monkeypatch):
    assert choose(MINI, own, engine="mnn") == "mnn"
    net, record = kept_files(pathlib.Path(own).parent)
    found = json.loads(record.read_text())
    assert found["agrees"] and found["winograd"] in (3, 1, 0) and found["differences"][str(found["winograd"])] <= TOLERANCE
    assert {path.name for path in pathlib.Path(own).parent.iterdir()} == {"own.npz", net.name, record.name}
    monkeypatch.setattr(mnn_conversion, "CaffeEngine", None)         # a conversion would need it
    assert open_engine(MINI, own, engine="mnn").name == "mnn"
    monkeypatch.undo()
    shutil.copy(ROOT / "prototxt/mini/deploy_without_pose.prototxt", net.parent / "other.prototxt")
    assert not open_engine(net.parent / "other.prototxt", own, engine="mnn").has_pose
    assert len(kept_files(net.parent)) == 4                          # the other net has another key


def test_what_is_damaged_is_made_anew(own):
    expected = open_engine(MINI, own, engine="mnn")(checked_input(128))[1]
    net, record = kept_files(pathlib.Path(own).parent)
    content, said = net.read_bytes(), record.read_text()
    for path, damaged in ((net, content[:5000]), (net, content[:5000] + b"\0" * 5000 + content[10000:]), (net, None), (record, said[:30].encode()),
                          (record, b"[]")):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        assert (open_engine(MINI, own, engine="mnn")(checked_input(128))[1] == expected).all()
        assert len(net.read_bytes()) == len(content) and json.loads(record.read_text())["agrees"]


def test_other_weights_of_the_same_name_are_converted_too(own):
    first = open_engine(MINI, own, engine="mnn")(checked_input(128))[1]
    caffe = import_caffe()
    net = caffe.Net(str(MINI), caffe.TEST)
    load_weights(net, own)
    net.params["Mconv7_stage5"][1].data[...] += 1
    net.save(str(own))
    assert np.allclose(open_engine(MINI, own, engine="mnn")(checked_input(128))[1], first + 1, atol=TOLERANCE)


def without_override(*command) -> list:
    """The command, for root without its right to write where the permissions forbid it."""
    if os.geteuid():
        return list(command)
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    if subprocess.run([*drop, "true"], capture_output=True, check=False).returncode:
        pytest.skip("root here can neither be kept from writing nor give that right up (setpriv)")
    return [*drop, *command]


def test_a_folder_that_cannot_be_written(own, tmp_path):
    cache = tmp_path / "cache"
    folder = tmp_path / "shut"
    folder.mkdir()
    shutil.move(own, folder / "own.npz")
    folder.chmod(0o555)
    tell = "import sys; from mcc_caffe.engines import choose; print(choose(*sys.argv[1:3], engine='mnn'))"
    command = without_override(sys.executable, "-c", tell, MINI, folder / "own.npz")
    for _ in range(2):
        done = subprocess.run(command, env={**HERE, "XDG_CACHE_HOME": str(cache)}, capture_output=True, text=True, check=False)
        assert done.stdout == "mnn\n", done.stderr
    assert len(kept_files(cache / "mcc-caffe/engines")) == 2 and not kept_files(folder)
    shutil.rmtree(cache)
    cache.mkdir()
    cache.chmod(0o555)
    done = subprocess.run(command, env={**HERE, "XDG_CACHE_HOME": str(cache)}, capture_output=True, text=True, check=False)
    assert f"can be written neither to {folder} nor to {cache}/mcc-caffe/engines (Permission denied)" in done.stderr
    folder.chmod(0o755)


def test_little_room(own, monkeypatch):
    """Caffe would abort the process on a full disk."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100, 100, 1000))
    with pytest.raises(EngineUnavailable, match="can be written neither to .* nor to .* .No space left on device.: make room"):
        choose(MINI, own, engine="mnn")


def test_a_net_that_differs_is_left_to_caffe(own, tmp_path, monkeypatch):
    """MNN converts Caffe's MVN layer without a word, and makes something else of it."""
    text = MINI.read_text().replace('bottom: "conv5_5_mask"\n  top: "mask"', 'bottom: "normalised"\n  top: "mask"')
    layer = 'layer {\n  name: "mvn"\n  type: "MVN"\n  bottom: "conv5_5_mask"\n  top: "normalised"\n}\n'
    place = text.index('layer {\n  name: "mask"')
    (tmp_path / "net.prototxt").write_text(text[:place] + layer + text[place:])
    monkeypatch.setattr(engines, "has_onednn", lambda: False)
    said = "Caffe runs the net: MNN .* differs from Caffe on .*own.npz with .*net.prototxt by .* at best, allowed is 5e-05"
    with pytest.warns(UserWarning, match=said):
        assert open_engine(tmp_path / "net.prototxt", own).name == "caffe"
    record, = kept_files(tmp_path)                                   # no net beside it
    found = json.loads(record.read_text())
    assert not found["agrees"] and found["winograd"] is None and min(found["differences"].values()) > 0.01 and len(found["differences"]) == 3
    monkeypatch.setattr(mnn_conversion, "CaffeEngine", None)         # the outcome is remembered
    with pytest.raises(EngineUnavailable, match="differs from Caffe .* take the engine caffe"):
        open_engine(tmp_path / "net.prototxt", own, engine="mnn")
    (tmp_path / "hand.jpg").write_bytes(drawn_sample(np.random.default_rng(0), "x").image_bytes)
    done = infer(tmp_path, "--prototxt", "net.prototxt", "--weights", "own.npz", before=NO_ONEDNN)
    assert done.returncode == 0 and done.stdout.splitlines()[0].endswith("; engine: caffe")
    assert done.stderr.startswith("warning: Caffe runs the net: MNN") and len(done.stderr.splitlines()) == 1


def test_a_net_that_the_converter_refuses(own, tmp_path):
    (tmp_path / "net.prototxt").write_text("layer {")
    with pytest.raises(EngineUnavailable, match=f"MNN cannot convert {tmp_path}/net.prototxt .*: take the engine caffe"):
        mnn_conversion._convert(tmp_path / "net.prototxt", open_engine(MINI, own, engine="caffe"), tmp_path / "net.mnn")


@pytest.mark.parametrize("maps, distance", [
    ([(None, np.zeros(3)), (None, np.full(3, 0.5))], 0.5), ([(np.ones(2), np.zeros(3)), (np.zeros(2), np.zeros(3))], 1),
    ([(np.ones(2), None), (None, None)], np.inf), ([(np.ones(2), None), (np.full(2, np.nan), None)], np.inf),
    ([(np.ones(2), np.ones(2)), (np.ones(2), np.full(2, np.nan))], np.inf),
])
def test_the_difference_of_two_outputs(maps, distance):
    assert mnn_conversion._difference(*maps) == distance


def test_bad_files_are_named_whatever_the_engine(tmp_path, weights):  # noqa: F811
    for engine in (None, "mnn", "caffe"):
        with pytest.raises(UserError, match=f"the weights file {tmp_path}/none was not found"):
            open_engine(MINI, tmp_path / "none", engine=engine)
        with pytest.raises(UserError, match="does not fit the net: layer conv1_1 is"):
            open_engine(ROOT / "prototxt/paper/deploy.prototxt", weights, engine=engine)
    with pytest.raises(UserError, match="there is no engine 'tensorrt': take one of caffe, mnn"):
        open_engine(MINI, weights, engine="tensorrt")
    with pytest.raises(UserError, match="the engine mnn runs on the CPU, and GPU 0 was asked for"):
        open_engine(MINI, weights, gpu=0, engine="mnn")


def test_the_default(own, monkeypatch):
    """Caffe on a GPU, and where it has oneDNN: then nothing is converted."""
    monkeypatch.setattr(engines, "has_onednn", lambda: True)
    assert choose(MINI, own) == "caffe"
    monkeypatch.setattr(engines, "has_onednn", lambda: False)
    assert choose(MINI, own, gpu=0) == "caffe" and not kept_files(pathlib.Path(own).parent)
    assert choose(MINI, own) == "mnn"


def test_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert threads() == cores
    for value, expected in (("3", 3), ("0", cores), ("x", cores)):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert threads() == expected


def infer(folder, *options, before=""):
    """`python -m mcc_caffe.infer`, with something done before."""
    code = f"{before}from mcc_caffe.infer import main; from mcc_caffe.errors import run_command; run_command(main)"
    return subprocess.run([sys.executable, "-c", code, "hand.jpg", "--levels", "1", *options], cwd=folder, env=HERE, capture_output=True, text=True,
                          check=False)


def test_the_command_says_which_engine_ran(tmp_path):
    (tmp_path / "hand.jpg").write_bytes(drawn_sample(np.random.default_rng(0), "x").image_bytes)
    keypoints = {}
    for name, options, before in (("mnn", ["--engine", "mnn"], ""), ("mnn", [], NO_ONEDNN), ("caffe", ["--engine", "caffe"], NO_ONEDNN),
                                  ("caffe", [], ONEDNN), ("caffe", [], NO_ONEDNN + NO_MNN)):
        done = infer(tmp_path, *options, before=before)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        assert len(done.stdout.splitlines()) == 2 and done.stdout.splitlines()[0].endswith(f"; engine: {name}")
        report = json.loads((tmp_path / "out/hand.json").read_text())
        assert report["engine"] == name
        keypoints.setdefault(name, report["keypoints"])
    for one, other in zip(*keypoints.values()):
        assert one is other is None or (one["x"], one["y"]) == (other["x"], other["y"])


def test_mnn_asked_for_and_not_there_is_one_line(tmp_path):
    (tmp_path / "hand.jpg").write_bytes(drawn_sample(np.random.default_rng(0), "x").image_bytes)
    done = infer(tmp_path, "--engine", "mnn", before=NO_MNN)
    assert done.returncode == 4 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: MNN cannot be imported (") and "install it (`pip install MNN`), or take the engine caffe" in done.stderr


def test_nothing_reports_home(tmp_path, own):
    """MNN's own script `mnnconvert` has pip install a package that reports every use; the modules with that in them stay out."""
    tell = ("import sys; from mcc_caffe.engines import choose; choose(*sys.argv[1:3], engine='mnn'); "
            "print('MNN' in sys.modules, *(name for name in sys.modules if name.startswith(('MNN.tools', 'aliyun'))))")
    done = subprocess.run([sys.executable, "-c", tell, MINI, own], env=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.split() == ["True"], done.stderr
    loaded = subprocess.run([sys.executable, "-c", "import _tools, sys; print(*sys.modules)"], capture_output=True, text=True, check=True)
    assert "MNN.tools" not in loaded.stdout and "aliyun" not in loaded.stdout and "import sys, _tools;" in mnn_conversion._CONVERT


def test_evaluate_says_which_engine_ran(drawn_set, tmp_path):
    for name in ("mnn", "caffe"):
        done = run("mcc_caffe.evaluate", drawn_set, "--levels", 1, "--limit", 3, "--processes", 1, "--out", tmp_path / name, "--engine", name)
        assert done.returncode == 0 and f"engine {name}" in done.stdout, done.stderr
        model, = json.loads((tmp_path / name / "results.json").read_text())["models"]
        assert model["engine"] == name
    assert shipped_weights("mini") == SHIPPED
    one, other = ((tmp_path / name / "predictions_mini.json").read_text() for name in ("mnn", "caffe"))
    pairs = zip(*(json.loads(text)["images"].values() for text in (one, other)))
    assert all(np.allclose(found["keypoints"], expected["keypoints"], atol=0.01) for found, expected in pairs)
