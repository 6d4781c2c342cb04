"""One figure of `benchmarks.gpu`, printed as JSON.

    python -m benchmarks.gpu_worker agreement VARIANT GPU
    python -m benchmarks.gpu_worker training VARIANT GPU BATCH ITERATIONS
    python -m benchmarks.gpu_worker inference VARIANT GPU LEVELS REPEATS

GPU is an id, or "cpu"; LEVELS 0 is the whole pyramid. Each figure has a process of its own, since
CUDA's libraries read their settings when they start.
"""

import inspect
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import numpy as np
from google.protobuf import text_format

from benchmarks import nets
from benchmarks.peers.differences import relative_difference
from benchmarks.timing import gpu_memory_mib, run_worker
from mcc_caffe.caffe_io.protobuf import messages
from mcc_caffe.caffe_io.pycaffe import import_caffe, require_gpus, select_device
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.paper import PAPER_LEVELS, VARIANTS
from mcc_caffe.predictor import HandPredictor

Arrays = dict[str, np.ndarray]


class Difference(TypedDict):
    """The array that differs most, and the norm of the difference by the expected array's norm."""

    blob: str
    error: float


class Agreement(TypedDict):
    """How far a GPU is from the CPU: the worst blob and the worst gradient."""

    forward: Difference
    backward: Difference


class TrainingFigure(TypedDict):
    """Seconds an iteration, and `timing.gpu_memory_mib` after the last one."""

    seconds: float
    mib: int | None


class InferenceFigure(TypedDict):
    """Medians of the seconds an image, whole and in the network, and the pyramid's levels."""

    total: float
    network: float
    levels: int


class Passes(NamedTuple):
    """What a forward and a backward pass computed."""

    values: Arrays  # by blob
    gradients: Arrays  # by blob, and by "layer/index" of a parameter


def caffe_on(gpu: int | None) -> Any:
    """Return the module caffe, set to that GPU or (None) to the CPU."""
    if gpu is not None:
        require_gpus([gpu])  # else Caffe aborts the process
    select_device(gpu)
    return import_caffe()


def compare(arrays: Arrays, expected: Arrays) -> Difference:
    """Return the array that differs most from the expected one of the same name."""
    errors = {
        name: relative_difference(
            arrays[name].astype(np.float64), expected[name].astype(np.float64)
        )
        for name in expected
    }
    worst = max(errors, key=lambda name: errors[name])
    return {"blob": worst, "error": errors[worst]}


def compute(variant: str, gpu: int | None) -> Passes:
    """Run the train net of a variant forward and backward on one random image."""
    caffe = caffe_on(gpu)
    batch = nets.random_batch(variant, 1)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        fed_net = nets.fed_by_hand(nets.read_train_net(variant), batch)
        file.write(text_format.MessageToString(fed_net))
        file.flush()
        net = caffe.Net(file.name, caffe.TRAIN)
    nets.fill_weights(net)
    nets.fill_inputs(net, batch)
    net.forward()
    net.backward()
    values = {name: blob.data.copy() for name, blob in net.blobs.items()}
    gradients = {name: blob.diff.copy() for name, blob in net.blobs.items() if name not in batch}
    for name, parameters in net.params.items():
        for index, blob in enumerate(parameters):
            gradients[f"{name}/{index}"] = blob.diff.copy()
    return Passes(values, gradients)


def agreement(variant: str, gpu: int | None) -> Agreement:
    """Compare what a GPU computes with what the CPU computes."""
    passes, expected = compute(variant, gpu), compute(variant, None)
    return {
        "forward": compare(passes.values, expected.values),
        "backward": compare(passes.gradients, expected.gradients),
    }


def training(variant: str, gpu: int | None, batch_size: int, iterations: int) -> TrainingFigure:
    """Time iterations of the paper's solver on inputs that stay where they are."""
    caffe = caffe_on(gpu)
    batch = nets.random_batch(variant, batch_size)
    with tempfile.TemporaryDirectory() as folder:
        net_path = pathlib.Path(folder, "net.prototxt")
        solver_path = pathlib.Path(folder, "solver.prototxt")
        fed_net = nets.fed_by_hand(nets.read_train_net(variant), batch)
        net_path.write_text(text_format.MessageToString(fed_net))
        settings = messages().SolverParameter(
            net=str(net_path),
            type="SGD",
            base_lr=1e-9,
            momentum=0.9,
            weight_decay=5e-4,
            lr_policy="fixed",
        )
        solver_path.write_text(text_format.MessageToString(settings))
        solver = caffe.get_solver(str(solver_path))
    nets.fill_weights(solver.net)
    nets.fill_inputs(solver.net, batch)
    solver.step(2)  # some things are chosen and allocated once
    start = time.perf_counter()
    solver.step(iterations)
    # A GPU works on while Python goes on: reading the parameters waits for their last update.
    for parameters in solver.net.params.values():
        parameters[0].data.item(0)
    return {"seconds": (time.perf_counter() - start) / iterations, "mib": gpu_memory_mib(gpu)}


def inference(variant: str, gpu: int | None, levels: int, repeats: int) -> InferenceFigure:
    """Time HandPredictor on an image of 640 x 480; levels 0: the whole pyramid."""
    caffe = caffe_on(gpu)
    deploy = require_shipped(f"prototxt/{variant}/deploy.prototxt")
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder, "start.caffemodel")
        caffe.Net(str(deploy), caffe.TEST).save(str(weights))
        predictor = HandPredictor(weights, variant, gpu=gpu, levels=levels or PAPER_LEVELS)
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    predictor.predict(image)
    poses = [predictor.predict(image) for _ in range(repeats)]
    return {
        "total": statistics.median(pose.timings["total"] for pose in poses),
        "network": statistics.median(pose.timings["network"] for pose in poses),
        "levels": len(poses[0].image_to_input),
    }


JOBS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (agreement, training, inference)
}


def main(job: str, variant: str, gpu: str, *numbers: str) -> None:
    """Run the command, or end with its description where the arguments do not fit."""
    try:
        arguments = [VARIANTS[variant].name, None if gpu == "cpu" else int(gpu), *map(int, numbers)]
        inspect.signature(JOBS[job]).bind(*arguments)
    except (KeyError, ValueError, TypeError):
        sys.exit(__doc__)
    try:
        print(json.dumps(JOBS[job](*arguments)))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    run_worker(main, __doc__)
