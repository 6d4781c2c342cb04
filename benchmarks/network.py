"""The network alone: one deploy net, weights and inputs in Caffe and in other engines.

Each engine runs in a process of its own.
"""

import functools
import json
import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from google.protobuf import json_format, text_format

from benchmarks import nets
from benchmarks.jobs import (
    CORES,
    QUICK_TURNS,
    TURNS,
    Job,
    Row,
    ask,
    in_process,
    in_turns,
    threads_of,
)
from benchmarks.peers.environment import environment
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.onnx_model import make_onnx_model
from mcc_caffe.caffe_io.precision import computes_bfloat16
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import load_weights, read_caffemodel
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.inference.engines.caffe_engine import CaffeEngine
from mcc_caffe.paper import VARIANTS

TABLE = "network"
TOLERANCE = 1e-4  # largest absolute difference of mask and heatmaps from Caffe's
LOW_TOLERANCE = 0.1  # the same in bfloat16; of most images it is 0.01
BATCHES = (1, 8)
ORDER = tuple(sorted(VARIANTS))  # of rows and panels
ENGINES = {
    "caffe": "Caffe",
    "caffe_own": "Caffe, its own convolutions (engine: CAFFE)",
    "onnxruntime": "ONNX Runtime",
    "torch": "PyTorch",
    "torch_channels_last": "PyTorch, channels last",
    "opencv": "OpenCV dnn",
    "caffe_bfloat16": "Caffe, bfloat16",
    "torch_bfloat16": "PyTorch, channels last, bfloat16",
}
IN_BFLOAT16 = ("caffe_bfloat16", "torch_bfloat16")
TORCH = ("torch-2.13.0", ("torch==2.13.0", "numpy>=1.24,<3"))  # its environment
IN_TORCH = ("torch", "torch_channels_last", "torch_bfloat16")  # engines that run there


def measured_engines() -> list[str]:
    """List the engines that are measured: those in bfloat16 where the processor computes it."""
    is_native = computes_bfloat16(pathlib.Path("/proc/cpuinfo").read_text())
    return [engine for engine in ENGINES if is_native or engine not in IN_BFLOAT16]


def interpreter(engine: str) -> pathlib.Path:
    """Return the interpreter that an engine runs in.

    Raises:
        UserError: The engine's environment cannot be made.
    """
    return environment(*TORCH) if engine in IN_TORCH else pathlib.Path(sys.executable)


def prepare(variant: str, folder: pathlib.Path, inputs: np.ndarray) -> None:
    """Write the net for Caffe and PyTorch, the inputs, and the outputs of Caffe's own code.

    OpenCV reads Caffe's form, and `write_onnx` writes that of ONNX Runtime. The weights are
    those that ship with the package. Where none do, they are random.

    Args:
        variant: Name of the variant.
        folder: Folder to make.
        inputs: (N, 3, m, m) network inputs.
    """
    folder.mkdir(parents=True)
    prototxt, weights = folder / "deploy.prototxt", folder / "weights.caffemodel"
    own_prototxt = folder / "own_convolutions.prototxt"
    shutil.copyfile(require_shipped(f"prototxt/{variant}/deploy.prototxt"), prototxt)
    own_net = with_own_convolutions(read_text("NetParameter", prototxt))
    own_prototxt.write_text(text_format.MessageToString(own_net))
    caffe = import_caffe()
    net = caffe.Net(str(prototxt), caffe.TEST)
    if weights_path := shipped_weights(variant):
        load_weights(net, weights_path)
    else:
        nets.fill_weights(net)
    net.save(str(weights))
    maps = CaffeEngine(own_prototxt, weights)(inputs)
    assert maps.masks is not None and maps.heatmaps is not None
    np.savez(folder / "expected.npz", mask=maps.masks, heatmaps=maps.heatmaps)
    np.save(folder / "inputs.npy", inputs)
    write_description(prototxt, weights, folder)


def with_own_convolutions(net: Any) -> Any:
    """Make a net (NetParameter) take Caffe's own convolutions instead of oneDNN's; return it."""
    for layer in net.layer:
        if layer.type == "Convolution":
            layer.convolution_param.engine = layer.convolution_param.CAFFE
    return net


def write_onnx(folder: pathlib.Path) -> None:
    """Write net.onnx, unless it is there.

    Raises:
        UserError: The package onnx is missing.
    """
    if not (folder / "net.onnx").is_file():
        model = make_onnx_model(folder / "deploy.prototxt", folder / "weights.caffemodel").model
        (folder / "net.onnx").write_bytes(model.SerializeToString())


def describe_layers(net: Any) -> str:
    """Return the layers of a net (NetParameter) as JSON, in the form of `peers.torch_net`."""
    return json.dumps(
        [json_format.MessageToDict(layer, preserving_proto_field_name=True) for layer in net.layer]
    )


def write_description(prototxt: pathlib.Path, weights: pathlib.Path, folder: pathlib.Path) -> None:
    """Write layers.json and weights.npz, which `peers.torch_net` builds a net from.

    weights.npz has an array `layer/0` for each kernel and `layer/1` for each bias.
    """
    (folder / "layers.json").write_text(describe_layers(read_text("NetParameter", prototxt)))
    arrays = {
        f"{layer}/{index}": blob
        for layer, blobs in read_caffemodel(weights)[0].items()
        for index, blob in enumerate(blobs)
    }
    np.savez(folder / "weights.npz", **arrays)  # type: ignore[arg-type]  # mypy sees allow_pickle


def measure(
    variant: str, engine: str, folder: pathlib.Path, *, batch: int, least: int, seconds: float
) -> list[Row]:
    """Time an engine and compare its outputs with Caffe's.

    Args:
        variant: Name of the variant.
        engine: One of ENGINES.
        folder: What `prepare` wrote.
        batch: Images that go through the net at a time.
        least: Number of passes to time.
        seconds: Time until which more passes are timed.

    Returns:
        One row. Its status is empty where the engine runs and agrees with Caffe.
    """
    row: Row = {"variant": variant, "engine": engine, "batch": batch, "status": ""}
    try:
        python = interpreter(engine)
        if engine == "onnxruntime":
            in_process(write_onnx, folder)
    except UserError as error:
        return [row | {"status": f"not installed: {error}"}]
    words = engine, folder, batch, least, seconds
    row |= ask(python, "benchmarks.peers.network_worker", *words, environment=threads_of(CORES))
    tolerance = LOW_TOLERANCE if engine in IN_BFLOAT16 else TOLERANCE
    if not row.get("difference", 0) <= tolerance:  # a NaN differs, too
        row["status"] = f"differs from Caffe by {row['difference']:.2g}"
    return [row]


def run_preparation(prepare_variant: Callable[..., None], *args: Any) -> list[Row]:
    """Call a function that only writes files, in a process of its own; return no rows."""
    in_process(prepare_variant, *args)
    return []


def jobs(folder: pathlib.Path, inputs: Mapping[str, np.ndarray], quick: bool) -> list[Job]:
    """Return the jobs that measure the network alone.

    Args:
        folder: Folder to work in.
        inputs: {variant: (N, 3, m, m) network inputs}.
        quick: Take fewer turns, and leave out the paper variant's larger batch.
    """
    steps = []
    for variant in ORDER:
        prepare_variant = functools.partial(
            run_preparation, prepare, variant, folder / variant, inputs[variant]
        )
        steps.append(Job(TABLE, f"{variant}: the net in each engine's form", prepare_variant))
        for batch in BATCHES:
            if quick and variant == "paper" and batch > 1:
                continue
            measurements = [
                functools.partial(
                    measure, variant, engine, folder / variant, batch=batch, least=2, seconds=1.0
                )
                for engine in measured_engines()
            ]
            run = functools.partial(in_turns, measurements, QUICK_TURNS if quick else TURNS)
            steps.append(Job(TABLE, f"{variant}, batch {batch}: all engines", run))
    return steps
