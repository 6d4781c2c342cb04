"""Fuzzed readers of weights, snapshots, prototxts and logs."""

import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np

from mcc_caffe.caffe_io import packed_weights, snapshots, trial_build
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.protobuf import messages, read_text, text_format
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.run_folder import LOG_FILE
from mcc_caffe.caffe_io.weights import file_shapes, fitting_layers, read_caffemodel
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.inference.engines import caffe_engine
from mcc_caffe.inference.engines.caffe_engine import CaffeEngine
from mcc_caffe.inference.engines.onnx_engine import OnnxEngine
from mcc_caffe.training.prototxt_check import check_finite, check_solver
from mcc_caffe.training.run_log import IterationStats, RunLog, read_log
from tests.fuzz.data_parts import Files
from tests.fuzz.mutations import (
    mutate_bytes,
    mutate_json,
    mutate_json_line,
    mutate_lines,
    mutate_prototxt_line,
)
from tests.support.commands import ROOT
from tests.support.hands import write_set
from tests.support.readers import drawn
from tests.support.snapshots import make_solver

_TRIAL_SECONDS = 20  # instead of the minutes that a user's own net may take
_INPUT_SIZE = 64
_SHAPES = {"a": [(2, 3), (2,)], "b": [(4,)]}


class Caffemodel:
    """Caffemodels of today's format and of that before 2014."""

    def __init__(self, folder: Path):
        random = np.random.default_rng(0)
        mutations = {}
        for field in ("layer", "layers"):
            model = messages().NetParameter(name="MCC_mini_train")
            for name, shapes in _SHAPES.items():
                layer = getattr(model, field).add(name=name)
                for shape in shapes:
                    values = random.normal(size=shape).ravel()
                    layer.blobs.add(data=values).shape.dim.extend(shape)
            path = folder / f"{field}.caffemodel"
            path.write_bytes(model.SerializeToString())
            mutations[path] = mutate_bytes
        self.files = Files(mutations)

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        path = self.files.mutate(random)
        layers = read_caffemodel(path).layers
        assert all(np.isfinite(blob).all() for blobs in layers.values() for blob in blobs)
        shapes = file_shapes(path)
        assert shapes == {name: [blob.shape for blob in blobs] for name, blobs in layers.items()}
        fitting = fitting_layers(path, _SHAPES)
        assert {name: [blob.shape for blob in fitting[name]] for name in fitting} == _SHAPES
        return ()


class PackedWeights:
    """Weights as they ship."""

    def __init__(self, folder: Path):
        random = np.random.default_rng(0)
        layers = {
            name: [random.normal(size=shape) for shape in shapes]
            for name, shapes in _SHAPES.items()
        }
        path = folder / "weights.npz"
        path.write_bytes(packed_weights.to_bytes(layers, {"variant": "mini", "input_size": 160}))
        self.files = Files({path: mutate_bytes})

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        path = self.files.mutate(random)
        if packed_weights.is_packed(path):
            packed_weights.read_metadata(path)
            size = packed_weights.read(path).metadata.get("input_size", 8)
            assert 8 <= size <= 4096 and size % 8 == 0
        assert {name: len(blobs) for name, blobs in fitting_layers(path, _SHAPES).items()} == {
            "a": 2,
            "b": 1,
        }
        return ()


class SolverState:
    """A snapshot of a tiny net, which Caffe itself restores."""

    def __init__(self, folder: Path):
        self.folder = folder / "snapshots"
        self.solver = make_solver(self.folder, "Adam")
        self.solver.step(2)
        weights = snapshots.save(self.solver, "Adam", self.folder)
        self.state = weights.with_suffix(".solverstate")
        self.files = Files({weights: mutate_bytes, self.state: mutate_bytes})

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        self.files.mutate(random)
        snapshots.newest(self.folder)
        snapshots.restore(self.solver, "Adam", self.state)
        for blobs in self.solver.net.params.values():
            assert all(np.isfinite(blob.data).all() for blob in blobs)
        self.solver.step(1)
        return ()


def _log_line(iteration: int) -> str:
    ratios = {"loss2": 0.5, "loss6": 0.4}
    numbers = {"loss": 1.0, "images_per_second": 70.0, "seconds": 0.2, "data_wait": 0.0}
    losses = {"mask_loss": 3.0, "loss2": 10.0, "loss6": 9.0}
    line = {"iteration": iteration, **numbers, "losses": losses, "ratio_to_trivial": ratios}
    return str(line).replace("'", '"')


class RunLogFile:
    """The log of a run: read as for a plot, then gone on with."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / LOG_FILE).write_text("\n".join(map(_log_line, range(20, 120, 20))) + "\n")
        self.files = Files({folder / LOG_FILE: mutate_lines(mutate_json_line)})

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        self.files.mutate(random)
        refused = []
        try:
            read_log(self.folder)
        except UserError as error:
            refused.append(str(error))
        log = RunLog(self.folder, iteration=100, images=1, loss_weights={"loss2": 1.0})
        log.add(IterationStats({"loss2": 1.0}, 2.0, 0.1, 0.0))
        log.write(120)
        assert read_log(self.folder)[-1]["iteration"] == 120
        return refused


class DataLayerSettings:
    """The text by which a prototxt hands its settings to the data layer."""

    def __init__(self, folder: Path):
        self.text = LoaderConfig("data/lmdb/train", 8, 128, 1.5).to_json().encode()

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        config = LoaderConfig.from_json(mutate_json(self.text, random).decode(errors="replace"))
        assert all(side > 0 for shape in config.shapes().values() for side in shape)
        return ()


def in_fork(function: Callable[[], object], *, only_user_errors: bool = False) -> None:
    """Run a function in a copy of this process, which Caffe may abort, as `try_build` does.

    Args:
        function: What to run.
        only_user_errors: Whether it must end well or with a UserError, in any case by itself.

    Raises:
        UserError: It ended with an error; the error is the line that a user would get.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(writing, 2)
            function()
            os._exit(0)
        except UserError as error:
            os.write(2, f"error: {error}\n".encode("utf-8", "backslashreplace"))
        except BaseException:
            os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
            os._exit(1)
        os._exit(2)
    os.close(writing)
    content, until = b"", time.monotonic() + _TRIAL_SECONDS
    while select.select([reading], [], [], max(until - time.monotonic(), 0))[0]:
        part = os.read(reading, 1 << 16)
        if not part:
            break
        content += part
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == -signal.SIGKILL:
        raise UserError("the trial did not end in time")
    assert status in (0, 2) or not only_user_errors, content.decode(errors="replace")[-1000:]
    if status:
        raise UserError(trial_build.reason_of_end(status, content))


class _Prototxt:
    """A prototxt whose lines are mutated."""

    def __init__(self, path: Path, text: str):
        path.write_text(text)
        self.path = path
        self.files = Files({path: mutate_lines(mutate_prototxt_line)})


def _train_net(folder: Path) -> str:
    """Return the text of mini's train net, with a small input and a set of its own."""
    net = read_text("NetParameter", ROOT / "prototxt/mini/train.prototxt")
    source = str(write_set(folder / "set", drawn(2, seed=0)))
    config = LoaderConfig(source, 1, _INPUT_SIZE, 1.5, workers=0)
    net.layer[0].python_param.param_str = config.to_json()
    return text_format.MessageToString(net)


class NetPrototxt(_Prototxt):
    """A user's train net, which Caffe builds and steps in another process."""

    def __init__(self, folder: Path):
        super().__init__(folder / "net.prototxt", _train_net(folder))
        import_caffe()
        solver = read_text("SolverParameter", ROOT / "solver/mini/solver.prototxt")
        solver.net, solver.snapshot = str(self.path), 0
        self.solver = folder / "solver.prototxt"
        self.solver.write_text(text_format.MessageToString(solver))

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        self.files.mutate(random)
        check_finite(self.path, read_text("NetParameter", self.path))
        in_fork(lambda: trial_build.try_net(trial_build.SOLVER, str(self.solver)))
        return ()


class SolverPrototxt(_Prototxt):
    """A user's solver, which is checked, then built and stepped in another process."""

    def __init__(self, folder: Path):
        net = folder / "net.prototxt"
        net.write_text(_train_net(folder))
        solver = read_text("SolverParameter", ROOT / "solver/mini/solver.prototxt")
        solver.net, solver.snapshot = str(net), 0
        super().__init__(folder / "solver.prototxt", text_format.MessageToString(solver))
        self.net = str(net)
        import_caffe()

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        self.files.mutate(random)
        solver = read_text("SolverParameter", self.path)
        check_solver(self.path, solver)
        # What the command sets itself.
        solver.net, solver.snapshot, solver.iter_size = self.net, 0, 1
        solver.random_seed = max(solver.random_seed, 0)
        solver.snapshot_prefix = str(self.path.parent / "snapshot")
        self.path.write_text(text_format.MessageToString(solver))
        in_fork(lambda: trial_build.try_net(trial_build.SOLVER, str(self.path)))
        return ()


class DeployPrototxt(_Prototxt):
    """A user's deploy net with weights, in both engines."""

    def __init__(self, folder: Path):
        net = read_text("NetParameter", ROOT / "prototxt/mini/deploy.prototxt")
        net.layer[0].input_param.shape[0].dim[2:] = [_INPUT_SIZE, _INPUT_SIZE]
        super().__init__(folder / "net.prototxt", text_format.MessageToString(net))
        self.weights = shipped_weights("mini")
        import_caffe()

    def attempt(self, random: np.random.Generator) -> Sequence[str]:
        self.files.mutate(random)
        refused = []
        try:
            in_fork(lambda: trial_build.try_net(trial_build.DEPLOY, str(self.path)))
            with mock.patch.object(caffe_engine, "try_build"):  # this was it
                in_fork(lambda: CaffeEngine(self.path, self.weights), only_user_errors=True)
        except UserError as error:
            refused.append(str(error))
        try:
            OnnxEngine(self.path, self.weights)
        except UserError as error:
            refused.append(str(error))
        return refused
