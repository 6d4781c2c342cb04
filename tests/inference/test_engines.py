"""Engines run a deploy net with or without a stage; commands say which engine ran."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference import engines
from mcc_caffe.inference.engines import ENGINES, choose_engine, open_engine
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import ROOT, run, run_code
from tests.support.hands import drawn_sample
from tests.support.weights import lively_weights

MINI = ROOT / "prototxt/mini/deploy.prototxt"
SHIPPED = shipped_weights("mini")


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("without", ["mask", "pose"])
def test_mini_without_a_stage(without, name, tmp_path):
    prototxt = ROOT / f"prototxt/mini/deploy_without_{without}.prototxt"
    weights = lively_weights(prototxt, tmp_path / "random.caffemodel")
    engine = open_engine(prototxt, weights, engine=name)
    assert (engine.has_mask, engine.has_pose) == (without != "mask", without != "pose")
    mask, heatmaps, _ = engine(np.zeros((2, 3, 128, 128), np.float32))
    assert mask is None if without == "mask" else mask.shape == (2, 16, 16)
    assert heatmaps is None if without == "pose" else heatmaps.shape == (2, 22, 16, 16)


@pytest.mark.parametrize("name", ENGINES)
def test_a_batch_of_views_is_taken(name):
    """Not contiguous, and of doubles."""
    engine = open_engine(MINI, SHIPPED, engine=name)
    batch = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 3, 128, 128)).astype(np.float32)
    assert (
        engine(batch[::-1].astype(float))[1] == engine(np.ascontiguousarray(batch[::-1]))[1]
    ).all()


@pytest.mark.parametrize("variant", ["mini", "paper"])
def test_engines_agree(variant, tmp_path):
    """At any batch and input size, with packed weights and a caffemodel."""
    prototxt = ROOT / f"prototxt/{variant}/deploy.prototxt"
    caffemodel = lively_weights(prototxt, tmp_path / "random.caffemodel")
    random = np.random.default_rng(0)
    for weights in (caffemodel, SHIPPED) if variant == "mini" else (caffemodel,):
        caffe, onnx = (open_engine(prototxt, weights, engine=name) for name in ("caffe", "onnx"))
        assert (onnx.input_size, onnx.has_mask, onnx.has_pose) == (caffe.input_size, True, True)
        for shape in ((1, 3, 64, 64), (3, 3, 136, 136), (2, 3, 72, 104)):
            batch = random.uniform(-0.5, 0.5, shape).astype(np.float32)
            for expected, actual in zip(caffe(batch)[:2], onnx(batch)[:2]):
                assert actual.shape == expected.shape and actual.dtype == np.float32
                assert np.abs(actual - expected).max() <= 1e-4


def test_engines_find_the_same_keypoints(drawn_samples):
    caffe, onnx = (HandPredictor(engine=name) for name in ("caffe", "onnx"))
    for sample in drawn_samples[:3]:
        expected, actual = (each.predict(sample.image()) for each in (caffe, onnx))
        assert np.abs(actual.keypoints - expected.keypoints).max() <= 1e-4  # pixels
        assert (actual.present == expected.present).all()
        assert np.abs(actual.heatmaps - expected.heatmaps).max() <= 1e-5
        assert np.abs(actual.mask - expected.mask).max() <= 1e-5


@pytest.mark.parametrize("name", ENGINES)
def test_bad_files_and_unknown_engines_are_named(name, tmp_path, weights):
    with pytest.raises(UserError, match=f"the weights file {tmp_path}/none was not found"):
        open_engine(MINI, tmp_path / "none", engine=name)
    with pytest.raises(UserError, match=f"the deploy net {tmp_path}/none was not found"):
        open_engine(tmp_path / "none", weights, engine=name)
    with pytest.raises(UserError, match="does not fit the net: layer conv1_1 is"):
        open_engine(ROOT / "prototxt/paper/deploy.prototxt", weights, engine=name)
    with pytest.raises(UserError, match="there is no engine 'tensorrt': take one of caffe, onnx"):
        open_engine(MINI, weights, engine="tensorrt")


def test_caffe_runs_where_it_can_be_imported(monkeypatch, caplog):
    assert choose_engine() == "caffe"
    monkeypatch.setattr(engines, "caffe_folder", lambda: None)
    assert choose_engine() == "onnx" and not caplog.records
    assert choose_engine("caffe") == "caffe" and choose_engine(gpu=0) == "caffe"


@pytest.mark.parametrize(
    "files, reason",
    [
        (
            {"caffe/__init__.py": "raise ImportError('libfoo.so.1: gone')"},
            "caffe cannot be imported (libfoo.so.1: gone)",
        ),
        ({"caffe/__init__.py": ""}, "is not Caffe, but stands before it"),
        ({"caffe.py": "raise SystemExit(0)"}, "caffe cannot be imported (0)"),
        (
            {
                "caffe/__init__.py": "import caffe.proto.caffe_pb2",
                "caffe/proto/caffe_pb2.py": "raise TypeError('of an old protobuf')",
            },
            "caffe cannot be imported (of an old protobuf)",
        ),
    ],
)
def test_a_broken_caffe_is_named_and_onnx_runs(files, reason, tmp_path):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    code = (
        "import sys; from mcc_caffe.core.commands import run_command; "
        "from mcc_caffe.inference.engines import open_engine; "
        "run_command(lambda: print(open_engine(*sys.argv[1:]).name))"
    )
    done = run_code(code, MINI, SHIPPED, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.stdout == "onnx\n" and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("warning: ") and reason in done.stderr


FORK = """
import os, signal, sys
import numpy as np
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines import open_engine

engine, batch = open_engine(*sys.argv[1:], engine="caffe"), np.zeros((1, 3, 128, 128), np.float32)
masks = engine(batch).masks
if os.fork() == 0:
    signal.alarm(60)
    try:
        print("the same" if (engine(batch).masks == masks).all() else "another")
    except UserError as error:
        print(error)
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize(
    "threads, answer",
    [
        ("2", "this process is a fork of one that has run Caffe, whose threads"),
        ("1", "the same"),
        ("1,8", "the same"),  # 8 is of nested threads
    ],
)
def test_a_fork_that_lacks_the_threads_is_an_error(threads, answer):
    """It hung. With one thread there is nothing to wait for."""
    done = run_code(FORK, MINI, SHIPPED, env={**os.environ, "OMP_NUM_THREADS": threads})
    assert done.stdout.startswith(answer) and len(done.stdout.splitlines()) == 1, done


FORK_BESIDE_A_THREAD = """
import os, threading, time
import numpy as np
from mcc_caffe import HandPredictor
predictor, image = HandPredictor(levels=1, engine="onnx"), np.zeros((60, 80, 3), np.uint8)
is_held = threading.Event()
def hold():
    with predictor.lock:
        is_held.set()
        time.sleep(0.5)
        print("let go", flush=True)
threading.Thread(target=hold).start()
is_held.wait()
pid = os.fork()
predictor.predict(image)
os.write(1, b"parent\\n" if pid else b"child\\n")  # in one piece, as both write at a time
if not pid:
    os._exit(0)  # as children of multiprocessing end
os.waitpid(pid, 0)
"""


def test_a_fork_waits_for_the_thread_that_predicts():
    """The child hung for ever: its copy of the lock was never let go."""
    with subprocess.Popen(
        [sys.executable, "-c", FORK_BESIDE_A_THREAD],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    first, *others = output.splitlines()
    assert first == "let go" and sorted(others) == ["child", "parent"]


FORKED_COPY = """
import copy, os
from mcc_caffe import HandPredictor
predictor = HandPredictor(engine="onnx")
twin, lock = copy.copy(predictor), predictor.lock
if os.fork() == 0:
    print(twin.lock is predictor.lock is not lock, flush=True)
    os._exit(0)
os.wait()
"""


def test_in_a_fork_a_predictor_and_its_copy_share_a_new_lock():
    assert run_code(FORKED_COPY).stdout == "True\n"


def test_onnx_runs_on_no_gpu():
    with pytest.raises(UserError, match="GPU 1 was asked for, but the engine onnx runs on the CPU"):
        open_engine(MINI, SHIPPED, gpu=1, engine="onnx")


def test_onnx_takes_the_threads_that_it_is_told(monkeypatch):
    """With 16 threads on 2 cores it took ten times as long, with 100000 it never ended."""
    cores = len(os.sched_getaffinity(0))
    for text, threads in (("1", 1), ("1,8", 1), ("0", cores), ("4,2", cores), ("100000", cores)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        session = open_engine(MINI, SHIPPED, engine="onnx").session
        assert session.get_session_options().intra_op_num_threads == threads


def test_onnx_runtime_reports_nothing_to_its_publisher(tmp_path):
    """Since version 1.29 it keeps what it would send below the user's home, unless it is told."""
    code = "from mcc_caffe import HandPredictor; HandPredictor(engine='onnx')"
    unset = "CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = run_code(code, env=environment | {"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*onnxruntime*"))


@pytest.mark.parametrize(
    "options, engine",
    [([], "caffe"), (["--engine", "caffe"], "caffe"), (["--engine", "onnx"], "onnx")],
)
def test_infer_says_which_engine_ran(options, engine, tmp_path):
    (tmp_path / "hand.jpg").write_bytes(drawn_sample(np.random.default_rng(0), "x").image_bytes)
    done = run(
        "mcc_caffe.infer", tmp_path / "hand.jpg", "--levels", 1, "--out", tmp_path / "out", *options
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.splitlines()[0].endswith(f"; engine: {engine}")
    assert json.loads((tmp_path / "out/hand.json").read_text())["engine"] == engine


@pytest.mark.parametrize(
    "options, engine", [([], "caffe"), (["--engine", "onnx", "--processes", "2"], "onnx")]
)
def test_evaluate_says_which_engine_ran(options, engine, drawn_set, tmp_path):
    done = run(
        *("mcc_caffe.evaluate", drawn_set, "--levels", 1, "--limit", 3, "--processes", 1),
        *("--out", tmp_path, *options),
    )
    assert done.returncode == 0 and f"engine {engine}" in done.stderr, done.stderr
    (model,) = json.loads((tmp_path / "results.json").read_text())["models"]
    assert model["engine"] == engine
