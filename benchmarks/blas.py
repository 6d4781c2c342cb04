"""What a BLAS, oneDNN and threads give: forward and backward of a train net in Caffe, each in a process of its own.

`python -m benchmarks.blas PROTOTXT BATCH LEAST SECONDS` measures in its own process, PROTOTXT as `benchmarks.training.prepare` leaves it.
It prints JSON: "blas", the file that matrix products come from, "loss_difference" and "gradient_difference" as `benchmarks.training` has
them, "median", "p10", "p90" and "runs" of the seconds, "peak_mib".
"""
import ctypes
import json
import os
import pathlib
import sys

import numpy as np

from benchmarks import training
from benchmarks.jobs import CORES, Job, ask, threads_of
from benchmarks.peers.environment import environment
from benchmarks.timing import peak_mib, spread, timed
from mcc_caffe.errors import UserError
from mcc_caffe.pycaffe import has_onednn, import_caffe

TABLE = "blas"
MKL = ("mkl-2026.2.0", ("mkl==2026.2.0",))   # its environment
BLIS = ("blis-openmp", "blis-pthread", "blis-serial")
LIBRARIES = {"OpenBLAS": "the BLAS that Caffe was built with", "BLIS": "BLIS", "oneMKL": "oneMKL", "oneDNN": "oneDNN, convolutions in no BLAS"}


def preloaded(library: str) -> dict:
    """Environment variables that put a library in the place of Caffe's BLAS; UserError where it is not there."""
    if library == "BLIS":
        found = [path for kind in BLIS for path in sorted(pathlib.Path("/usr/lib").glob(f"*/{kind}/libblis.so.?"))]
        if not found:
            raise UserError("no libblis.so in /usr/lib: Debian's libblis4-openmp brings it")
        return {"LD_PRELOAD": str(found[0])}
    if library == "oneMKL":
        folder = environment(*MKL).parent.parent
        found = sorted((folder / "lib").glob("libmkl_rt.so*"))
        if not found:
            raise UserError(f"no libmkl_rt.so in {folder}/lib")
        return {"LD_PRELOAD": str(found[0]), "MKL_THREADING_LAYER": "GNU"}   # the OpenMP that Caffe brings already
    return {}


def measure(variant: str, library: str, folder: pathlib.Path, batch: int, threads: int, least: int, seconds: float) -> list:
    """The row of a library. folder: as `training.prepare` left it."""
    row = {"variant": variant, "batch": batch, "library": library, "threads": threads, "status": ""}
    try:
        if library == "oneDNN" and not has_onednn():
            raise UserError("this Caffe was built without it")
        setting = preloaded(library) | threads_of(threads)
    except UserError as error:
        return [row | {"status": f"not installed: {error}"}]
    prototxt = folder / ("train.prototxt" if library == "oneDNN" else "own_convolutions.prototxt")
    row |= ask(sys.executable, "benchmarks.blas", prototxt, batch, least, seconds, setting=setting)
    if "median" in row and "LD_PRELOAD" in setting and row["blas"] != pathlib.Path(setting["LD_PRELOAD"]).resolve().name:
        row["status"] = f"Caffe's matrix products still come from {row['blas']}"
    return [row | training.disagreement(row)]


def jobs(folder: pathlib.Path, quick: bool) -> list:
    """folder: where `training.prepare` puts what a variant needs."""
    return [Job(TABLE, f"{variant}, batch {batch}: {library}, {threads} thread{'s' * (threads > 1)}",
                lambda variant=variant, library=library, batch=batch, threads=threads:
                measure(variant, library, folder / variant, batch, threads, 2 if quick else 5, 1.0 if quick else 3.0))
            for variant, batch in (("mini", 13), ("paper", 1)) for library in LIBRARIES for threads in sorted({1, CORES})]


def differences(loss: float, gradients: dict, expected_loss: float, expected: dict) -> dict:
    """How a loss and gradients differ from what they are compared with, as shares of it; of the gradients the worst one's."""
    worst = max(float(np.linalg.norm(gradients[name] - expected[name]) / np.linalg.norm(expected[name])) for name in gradients)
    return {"loss_difference": abs(loss - expected_loss) / abs(expected_loss), "gradient_difference": worst}


def blas_file() -> str:
    """The name of the file that cblas_sgemm comes from in this process, once Caffe is loaded."""
    class Info(ctypes.Structure):
        _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("symbol", ctypes.c_char_p), ("address", ctypes.c_void_p)]

    caffe, info = import_caffe(), Info()
    scopes = ctypes.CDLL(None), ctypes.CDLL(caffe._caffe.__file__)   # what is preloaded comes first, as for the linker
    function = next(scope.cblas_sgemm for scope in scopes if hasattr(scope, "cblas_sgemm"))
    address = ctypes.cast(function, ctypes.c_void_p)
    scopes[0].dladdr(address, ctypes.byref(info))
    return pathlib.Path(os.fsdecode(info.file)).resolve().name


def main(prototxt: str, batch: str, least: str, seconds: str) -> None:
    caffe, folder = import_caffe(), pathlib.Path(prototxt).parent
    net = caffe.Net(prototxt, str(folder / "weights.caffemodel"), caffe.TRAIN)
    loss, gradients = training.loss_and_gradients(net, dict(np.load(folder / "batch.npz")))
    facts = differences(loss, gradients, json.loads((folder / "loss.json").read_text()), np.load(folder / "gradients.npz"))
    for name, array in training.random_batch(folder.name, int(batch)).items():
        net.blobs[name].reshape(*array.shape)
        net.blobs[name].data[...] = array

    def step() -> None:
        net.forward()
        net.backward()

    step()
    print(json.dumps({"blas": blas_file(), **facts, **spread(timed(step, int(least), float(seconds))), "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
