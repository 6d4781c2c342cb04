"""One engine on one net, in the engine's own interpreter: `python -m benchmarks.peers.network_worker ENGINE FOLDER BATCH LEAST SECONDS`.

FOLDER is as `benchmarks.network.prepare` leaves it. Prints JSON: "version", "difference" of the outputs from Caffe's, "median",
"p10", "p90" and "runs" of the seconds a batch, "peak_mib" of this process. Every engine may use all cores.
"""

import json
import os
import pathlib
import sys

import numpy as np

from benchmarks.timing import peak_mib, spread, timed

CORES = len(os.sched_getaffinity(0))
INPUT, MASK, HEATMAPS = "image", "conv6_2_CPM_prob", "Mconv7_stage6"


def caffe(folder: pathlib.Path, prototxt: str = "deploy.prototxt") -> tuple:
    from mcc_caffe.inference.engines.caffe_engine import CaffeEngine

    engine = CaffeEngine(folder / prototxt, folder / "weights.caffemodel")
    import caffe as module

    return engine, module.__version__


def caffe_own(folder: pathlib.Path) -> tuple:
    return caffe(folder, "own_convolutions.prototxt")


def onnxruntime(folder: pathlib.Path) -> tuple:
    import onnxruntime as module

    options = module.SessionOptions()
    options.intra_op_num_threads = CORES
    session = module.InferenceSession(
        str(folder / "net.onnx"), options, providers=["CPUExecutionProvider"]
    )
    name, outputs = session.get_inputs()[0].name, [MASK, HEATMAPS]

    def run(batch: np.ndarray) -> tuple:
        mask, heatmaps = session.run(outputs, {name: batch})
        return mask[:, 1], heatmaps

    return run, module.__version__


def torch(folder: pathlib.Path, layout: str = "contiguous_format") -> tuple:
    import torch as module

    from benchmarks.peers.torch_net import Net

    module.set_num_threads(CORES)
    net = Net(json.loads((folder / "layers.json").read_text()), {INPUT: 3})
    net.load(np.load(folder / "weights.npz"))
    layout = getattr(module, layout)
    net = net.eval().to(memory_format=layout)

    def run(batch: np.ndarray) -> tuple:
        with module.inference_mode():
            found = net({INPUT: module.from_numpy(batch).contiguous(memory_format=layout)})
            return found[MASK][:, 1].numpy(), found[HEATMAPS].contiguous().numpy()

    return run, module.__version__


def torch_channels_last(folder: pathlib.Path) -> tuple:
    return torch(folder, "channels_last")


def opencv(folder: pathlib.Path) -> tuple:
    import cv2

    cv2.setNumThreads(CORES)
    net = cv2.dnn.readNetFromCaffe(
        str(folder / "deploy.prototxt"), str(folder / "weights.caffemodel")
    )

    def run(batch: np.ndarray) -> tuple:
        net.setInput(batch)
        mask, heatmaps = net.forward(
            ["mask", HEATMAPS]
        )  # OpenCV asks for layers' names, not blobs'
        return mask[:, 1], heatmaps

    return run, cv2.__version__


ENGINES = {
    engine.__name__: engine
    for engine in (caffe, caffe_own, onnxruntime, torch, torch_channels_last, opencv)
}


def difference(found: tuple, expected: tuple) -> float:
    """The largest absolute difference of two (mask, heatmaps); infinite where a shape differs or a number is none."""
    if [one.shape for one in found] != [one.shape for one in expected]:
        return float("inf")
    worst = max(float(np.abs(one - other).max()) for one, other in zip(found, expected))
    return worst if np.isfinite(worst) else float("inf")


def main(engine: str, folder: str, batch: str, least: str, seconds: str) -> None:
    folder = pathlib.Path(folder)
    inputs, expected = (
        np.load(folder / "inputs.npy")[: int(batch)],
        np.load(folder / "expected.npz"),
    )
    run, version = ENGINES[engine](folder)
    differs = difference(
        run(inputs), tuple(expected[name][: int(batch)] for name in ("mask", "heatmaps"))
    )
    times = timed(lambda: run(inputs), int(least), float(seconds))
    print(
        json.dumps(
            {"version": version, "difference": differs, **spread(times), "peak_mib": peak_mib()}
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
