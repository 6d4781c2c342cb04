"""The network alone: the same deploy net, weights and inputs in Caffe and in other engines, each in a process of its own."""

import json
import pathlib
import shutil
import sys

import numpy as np
from google.protobuf import json_format, text_format

from benchmarks.jobs import Job, ask, in_process
from benchmarks.peers.environment import environment
from mcc_caffe import export
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import load_weights, read_caffemodel, shipped_weights
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import shipped
from mcc_caffe.inference.engines.caffe_engine import CaffeEngine
from mcc_caffe.paper import VARIANTS

TABLE = "network"
TOLERANCE = 1e-4  # largest absolute difference of mask and heatmaps from Caffe's
BATCHES = (1, 8)
ORDER = tuple(sorted(VARIANTS))  # of rows and panels
ENGINES = {
    "caffe": "Caffe",
    "caffe_own": "Caffe, its own convolutions (engine: CAFFE)",
    "onnxruntime": "ONNX Runtime",
    "torch": "PyTorch",
    "torch_channels_last": "PyTorch, channels last",
    "opencv": "OpenCV dnn",
}
TORCH = ("torch-2.13.0", ("torch==2.13.0", "numpy>=1.24,<3"))  # its environment
OWN = {"torch": TORCH, "torch_channels_last": TORCH}


def interpreter(engine: str) -> pathlib.Path:
    """The interpreter that an engine runs in; UserError where its environment cannot be made."""
    return environment(*OWN[engine]) if engine in OWN else pathlib.Path(sys.executable)


def prepare(variant: str, folder: pathlib.Path, pictures: np.ndarray) -> None:
    """Writes what the engines need: the net in each one's form, the inputs, and what Caffe's own code finds in them.

    pictures: (N, 3, m, m) network inputs. The weights are those that ship and, where none do, random ones with lively heatmaps.
    """
    folder.mkdir(parents=True)
    prototxt, own, weights = (
        folder / "deploy.prototxt",
        folder / "own_convolutions.prototxt",
        folder / "weights.caffemodel",
    )
    shutil.copyfile(shipped(f"prototxt/{variant}/deploy.prototxt"), prototxt)
    own.write_text(
        text_format.MessageToString(with_own_convolutions(read_text("NetParameter", prototxt)))
    )
    caffe = import_caffe()
    net = caffe.Net(str(prototxt), caffe.TEST)
    if given := shipped_weights(variant):
        load_weights(net, given)
    else:
        enliven(net)
    net.save(str(weights))
    mask, heatmaps = CaffeEngine(own, weights)(pictures)
    np.savez(folder / "expected.npz", mask=mask, heatmaps=heatmaps)
    np.save(folder / "inputs.npy", pictures)
    describe(prototxt, weights, folder)


def with_own_convolutions(net):
    """The net with convolutions by Caffe's own code, as BVLC wrote it, where oneDNN would run them."""
    for layer in net.layer:
        if layer.type == "Convolution":
            layer.convolution_param.engine = layer.convolution_param.CAFFE
    return net


def write_onnx(folder: pathlib.Path) -> None:
    """Writes net.onnx, unless it is there; UserError where that cannot be done."""
    if not (folder / "net.onnx").is_file():
        model = export.to_onnx(
            read_text("NetParameter", folder / "deploy.prototxt"),
            read_caffemodel(folder / "weights.caffemodel")[0],
        )
        (folder / "net.onnx").write_bytes(model.SerializeToString())


CONVERTED = {"onnxruntime": write_onnx}


def describe(prototxt: pathlib.Path, weights: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes the net in the form of `peers.torch_net`: layers.json, and weights.npz with an array `layer/place` for each blob."""
    layers = [
        json_format.MessageToDict(layer, preserving_proto_field_name=True)
        for layer in read_text("NetParameter", prototxt).layer
    ]
    (folder / "layers.json").write_text(json.dumps(layers))
    blobs = read_caffemodel(weights)[0]
    np.savez(
        folder / "weights.npz",
        **{
            f"{name}/{place}": blob
            for name, both in blobs.items()
            for place, blob in enumerate(both)
        },
    )


def enliven(net) -> None:
    """Random weights under which values grow and die nowhere on their way, as the paper's start values have them do."""
    rng = np.random.default_rng(0)
    for kernel, bias in net.params.values():
        kernel.data[...] = rng.normal(
            0, np.sqrt(2 / np.prod(kernel.data.shape[1:])), kernel.data.shape
        )
        bias.data[...] = rng.normal(0, 0.1, bias.data.shape)


def measure(
    variant: str, engine: str, folder: pathlib.Path, batch: int, least: int, seconds: float
) -> list:
    """The row of an engine, in which "status" is empty where it runs and agrees with Caffe."""
    row = {"variant": variant, "engine": engine, "batch": batch, "status": ""}
    try:
        python = interpreter(engine)
        if engine in CONVERTED:
            in_process(CONVERTED[engine], folder)
    except UserError as error:
        return [row | {"status": f"not installed: {error}"}]
    row |= ask(python, "benchmarks.peers.network_worker", engine, folder, batch, least, seconds)
    if row.get("difference", 0) > TOLERANCE:
        row["status"] = f"differs from Caffe by {row['difference']:.2g}"
    return [row]


def jobs(folder: pathlib.Path, pictures: dict, quick: bool) -> list:
    """pictures: {variant: network inputs}."""
    found = []
    for variant in ORDER:
        found.append(
            Job(
                TABLE,
                f"{variant}: the net in each engine's form",
                lambda variant=variant: (
                    in_process(prepare, variant, folder / variant, pictures[variant]) or []
                ),
            )
        )
        for batch in BATCHES:
            if quick and variant == "paper" and batch > 1:
                continue
            for engine in ENGINES:
                settings = (3 if quick else 5 if batch == 1 else 3, 1.0 if quick else 3.0)
                found.append(
                    Job(
                        TABLE,
                        f"{variant}, batch {batch}: {ENGINES[engine]}",
                        lambda variant=variant, engine=engine, batch=batch, settings=settings: (
                            measure(variant, engine, folder / variant, batch, *settings)
                        ),
                    )
                )
    return found
