"""One engine on one net, in the engine's own interpreter:

    python -m benchmarks.peers.network_worker ENGINE FOLDER BATCH LEAST SECONDS

FOLDER is as `benchmarks.network.prepare` leaves it. Prints JSON: "version"; "difference" of the
outputs from Caffe's; the seconds a batch as `timing.spread` has them; and "peak_mib" of this
process. At least LEAST passes are timed, and more until SECONDS have passed. Every engine may use
all cores.
"""

import json
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.peers.differences import largest_difference
from benchmarks.timing import peak_mib, run_worker, spread, timed
from mcc_caffe.paper import IMAGE_BLOB, LAST_STAGE, MASK_BLOB, stage_blob

# Each engine is imported where it is opened: an environment has only its own.

CORES = len(os.sched_getaffinity(0))
HEATMAPS = stage_blob(LAST_STAGE)

Outputs = tuple[np.ndarray, np.ndarray]  # the mask, (N, h, w), and the heatmaps, (N, 22, h, w)


class Engine(NamedTuple):
    """An engine that has opened the net."""

    run: Callable[[np.ndarray], Outputs]
    version: str


def caffe(
    folder: pathlib.Path, prototxt: str = "deploy.prototxt", precision: str = "float32"
) -> Engine:
    """Open the net in Caffe."""
    from mcc_caffe.inference.engines.caffe_engine import CaffeEngine

    weights = folder / "weights.caffemodel"
    engine = CaffeEngine(folder / prototxt, weights, precision=precision)
    import caffe as module  # after CaffeEngine, which sets Caffe up before its first import

    def run(batch: np.ndarray) -> Outputs:
        maps = engine(batch)
        assert maps.masks is not None and maps.heatmaps is not None
        return maps.masks, maps.heatmaps

    return Engine(run, module.__version__)


def caffe_own(folder: pathlib.Path) -> Engine:
    """Open the net in Caffe, with Caffe's own convolutions."""
    return caffe(folder, "own_convolutions.prototxt")


def caffe_bfloat16(folder: pathlib.Path) -> Engine:
    """Open the net in Caffe, with convolutions in bfloat16."""
    return caffe(folder, precision="bfloat16")


def onnxruntime(folder: pathlib.Path) -> Engine:
    """Open the net in ONNX Runtime."""
    # As in mcc_caffe's onnx_engine, which needs packages that this environment may lack.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as module

    options = module.SessionOptions()
    options.intra_op_num_threads = CORES
    session = module.InferenceSession(
        str(folder / "net.onnx"), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def run(batch: np.ndarray) -> Outputs:
        mask, heatmaps = session.run([MASK_BLOB, HEATMAPS], {name: batch})
        return mask[:, 1], heatmaps

    return Engine(run, module.__version__)


def torch(
    folder: pathlib.Path, layout: str = "contiguous_format", in_bfloat16: bool = False
) -> Engine:
    """Open the net in PyTorch, with a memory layout of PyTorch's."""
    import torch as module

    from benchmarks.peers.torch_net import Net

    module.set_num_threads(CORES)
    net = Net(json.loads((folder / "layers.json").read_text()), {IMAGE_BLOB: 3})
    net.load(np.load(folder / "weights.npz"))
    memory_format = getattr(module, layout)
    net = net.eval().to(memory_format=memory_format)

    def run(batch: np.ndarray) -> Outputs:
        with module.inference_mode(), module.autocast("cpu", module.bfloat16, in_bfloat16):
            image = module.from_numpy(batch).contiguous(memory_format=memory_format)
            blobs = net({IMAGE_BLOB: image})
            heatmaps = blobs[HEATMAPS].float().contiguous()
            return blobs[MASK_BLOB][:, 1].float().numpy(), heatmaps.numpy()

    return Engine(run, module.__version__)


def torch_channels_last(folder: pathlib.Path) -> Engine:
    """Open the net in PyTorch, channels last."""
    return torch(folder, "channels_last")


def torch_bfloat16(folder: pathlib.Path) -> Engine:
    """Open the net in PyTorch, channels last, with what autocast takes for bfloat16."""
    return torch(folder, "channels_last", in_bfloat16=True)


def opencv(folder: pathlib.Path) -> Engine:
    """Open the net in OpenCV's module dnn."""
    import cv2

    cv2.setNumThreads(CORES)
    prototxt, weights = folder / "deploy.prototxt", folder / "weights.caffemodel"
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))

    def run(batch: np.ndarray) -> Outputs:
        net.setInput(batch)
        # OpenCV takes the names of layers, not of blobs.
        mask, heatmaps = net.forward(["mask", HEATMAPS])
        return mask[:, 1], heatmaps

    return Engine(run, cv2.__version__)


ENGINES: dict[str, Callable[[pathlib.Path], Engine]] = {
    opener.__name__: opener
    for opener in (
        caffe,
        caffe_own,
        onnxruntime,
        torch,
        torch_channels_last,
        opencv,
        caffe_bfloat16,
        torch_bfloat16,
    )
}


def main(engine_name: str, folder_name: str, batch: str, least: str, seconds: str) -> None:
    """Run the command."""
    folder, count = pathlib.Path(folder_name), int(batch)
    inputs = np.load(folder / "inputs.npy")[:count]
    with np.load(folder / "expected.npz") as arrays:
        expected = arrays["mask"][:count], arrays["heatmaps"][:count]
    engine = ENGINES[engine_name](folder)
    difference = largest_difference(engine.run(inputs), expected)
    times = timed(lambda: engine.run(inputs), int(least), float(seconds))
    result = {"version": engine.version, "difference": difference, **spread(times)}
    print(json.dumps(result | {"peak_mib": peak_mib()}))


if __name__ == "__main__":
    run_worker(main, __doc__)
