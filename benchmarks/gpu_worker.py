"""One figure of `benchmarks.gpu`, in a process of its own, since CUDA's libraries read their settings when they start.

    python -m benchmarks.gpu_worker agreement VARIANT GPU
    python -m benchmarks.gpu_worker training VARIANT GPU BATCH ITERATIONS
    python -m benchmarks.gpu_worker inference VARIANT GPU LEVELS REPEATS

prints it as JSON. GPU is an id, or "cpu"; LEVELS 0 is the whole pyramid.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from google.protobuf import text_format

from mcc_caffe.caffe_io.protobuf import messages, read_text
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.core.files import shipped
from mcc_caffe.data.loader import LoaderConfig
from mcc_caffe.paper import DATA_BLOB, HEATMAPS_BLOB, MASK_CLASSES, MASK_LABEL_BLOB
from mcc_caffe.predictor import HandPredictor


def use(gpu: int | None):
    """The module caffe, on that GPU or on the CPU."""
    caffe = import_caffe()
    if gpu is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_device(gpu)
        caffe.set_mode_gpu()
    return caffe


def alone(variant: str, batch: int):
    """The train net (NetParameter) with Input layers where the data layer was: what the net takes, without what loading does."""
    net = read_text("NetParameter", shipped(f"prototxt/{variant}/train.prototxt"))
    shapes = LoaderConfig.from_json(net.layer[0].python_param.param_str).shapes()
    inputs = net.layer[0]
    inputs.Clear()
    inputs.name, inputs.type = "data", "Input"
    for name, shape in shapes.items():
        inputs.top.append(name)
        inputs.input_param.shape.add().dim.extend((batch, *shape[1:]))
    return net


def fill(net, seed: int = 0) -> None:
    """Puts random inputs and labels into a net, and random weights under which no layer's values die."""
    rng = np.random.default_rng(seed)
    for kernel, bias in net.params.values():
        kernel.data[...] = rng.normal(
            0, np.sqrt(2 / np.prod(kernel.data.shape[1:])), kernel.data.shape
        )
        bias.data[...] = rng.normal(0, 0.1, bias.data.shape)
    blobs = net.blobs
    blobs[DATA_BLOB].data[...] = rng.uniform(-0.5, 0.5, blobs[DATA_BLOB].data.shape)
    blobs[MASK_LABEL_BLOB].data[...] = rng.integers(
        0, MASK_CLASSES, blobs[MASK_LABEL_BLOB].data.shape
    )
    blobs[HEATMAPS_BLOB].data[...] = rng.uniform(0, 1, blobs[HEATMAPS_BLOB].data.shape)


def worst(found: dict, expected: dict) -> dict:
    """{"blob", "error"} of the array that differs most: the norm of the difference by the norm of what is expected."""

    def error(name: str) -> float:
        size = np.linalg.norm(expected[name].astype(np.float64))
        apart = np.linalg.norm(found[name].astype(np.float64) - expected[name])
        return (
            float("inf")
            if not np.isfinite(apart)
            else float(apart / size)
            if size
            else float(apart > 0)
        )

    errors = {name: error(name) for name in expected}
    name = max(errors, key=errors.get)
    return {"blob": name, "error": errors[name]}


def computed(variant: str, gpu: int | None) -> tuple:
    """({blob: values after the forward pass}, {blob or parameter: gradients after the backward pass}) of one random image."""
    caffe = use(gpu)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(text_format.MessageToString(alone(variant, 1)))
        file.flush()
        net = caffe.Net(file.name, caffe.TRAIN)
    fill(net)
    net.forward()
    net.backward()
    values = {name: blob.data.copy() for name, blob in net.blobs.items()}
    gradients = {
        name: blob.diff.copy()
        for name, blob in net.blobs.items()
        if name not in alone(variant, 1).layer[0].top
    }
    for name, parameters in net.params.items():
        gradients.update(
            {f"{name}/{place}": blob.diff.copy() for place, blob in enumerate(parameters)}
        )
    return values, gradients


def agreement(variant: str, gpu: int | None) -> dict:
    """How far a GPU is from the CPU: {"forward": worst blob, "backward": worst gradient}, see `worst`."""
    (values, gradients), (expected_values, expected_gradients) = (
        computed(variant, gpu),
        computed(variant, None),
    )
    return {
        "forward": worst(values, expected_values),
        "backward": worst(gradients, expected_gradients),
    }


def training(variant: str, gpu: int | None, batch: int, iterations: int) -> dict:
    """{"seconds" an iteration of the paper's solver on inputs that stay where they are, "mib" of the GPU's memory that is taken then}."""
    caffe = use(gpu)
    with tempfile.TemporaryDirectory() as folder:
        net, solver = pathlib.Path(folder, "net.prototxt"), pathlib.Path(folder, "solver.prototxt")
        net.write_text(text_format.MessageToString(alone(variant, batch)))
        settings = messages().SolverParameter(
            net=str(net),
            type="SGD",
            base_lr=1e-9,
            momentum=0.9,
            weight_decay=5e-4,
            lr_policy="fixed",
        )
        solver.write_text(text_format.MessageToString(settings))
        stepper = caffe.get_solver(str(solver))
    fill(stepper.net)
    stepper.step(2)  # what is chosen and allocated once
    start = time.perf_counter()
    stepper.step(iterations)
    for parameters in (
        stepper.net.params.values()
    ):  # a GPU works on while Python goes on: wait for the last update
        parameters[0].data.item(0)
    return {"seconds": (time.perf_counter() - start) / iterations, "mib": memory(gpu)}


def memory(gpu: int | None) -> int | None:
    """MiB of a GPU's memory in use, by whatever runs on it."""
    if gpu is None:
        return None
    query = [
        "nvidia-smi",
        f"--id={gpu}",
        "--query-gpu=memory.used",
        "--format=csv,noheader,nounits",
    ]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout)


def inference(variant: str, gpu: int | None, levels: int, repeats: int) -> dict:
    """Medians of the seconds an image of 640 x 480: {"total", "network"}, and the pyramid's "levels"."""
    caffe = use(gpu)
    deploy = shipped(f"prototxt/{variant}/deploy.prototxt")
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder, "start.caffemodel")
        caffe.Net(str(deploy), caffe.TEST).save(str(weights))
        predictor = HandPredictor(weights, variant, gpu=gpu, levels=levels or None)
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    predictor.predict(image)
    poses = [predictor.predict(image) for _ in range(repeats)]
    return {
        **{
            name: statistics.median(pose.timings[name] for pose in poses)
            for name in ("total", "network")
        },
        "levels": poses[0].levels,
    }


JOBS = {function.__name__: function for function in (agreement, training, inference)}


def main(job: str, variant: str, gpu: str, *numbers: str) -> None:
    print(json.dumps(JOBS[job](variant, None if gpu == "cpu" else int(gpu), *map(int, numbers))))


if __name__ == "__main__":
    main(*sys.argv[1:])
