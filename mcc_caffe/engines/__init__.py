"""Engines that run a deploy net: the same call, a batch of network inputs to (mask, heatmaps).

    engine.name                            "caffe" or "mnn"
    engine.input_size                      m, pixels
    engine.has_mask, engine.has_pose       which of the two stages the net has
    engine(batch) -> (mask, heatmaps)      batch (N, 3, m, m) float32, (BGR - 128) / 256, any N
                                           mask (N, m/8, m/8) float32, probability of hand; None without a mask stage
                                           heatmaps (N, 22, m/8, m/8) float32; None without a pose stage

Caffe is the reference and always there. MNN runs only nets of which it was seen to find what Caffe finds; on CPUs it is faster
than a Caffe without oneDNN, and about as fast as one with it (docs/engines.md).
"""
import warnings
from typing import Optional

from mcc_caffe.engines.mnn_conversion import converted
from mcc_caffe.engines.mnn_engine import EngineUnavailable, MnnEngine, MnnMissing
from mcc_caffe.engines.pycaffe_engine import CaffeEngine
from mcc_caffe.errors import UserError
from mcc_caffe.pycaffe import has_onednn

ENGINES = (CaffeEngine.name, MnnEngine.name)


def choose(prototxt, weights, gpu: int = None, engine: str = None) -> str:
    """The name of the engine that `open_engine` takes; what must be converted for it is converted."""
    return MnnEngine.name if _for_mnn(prototxt, weights, gpu, engine) else CaffeEngine.name


def open_engine(prototxt, weights, gpu: int = None, engine: str = None):
    """The deploy net `prototxt` with its weights (caffemodel or packed) in an engine.

    engine: "caffe", "mnn" or None, the fastest: Caffe on a GPU and where it has oneDNN, else MNN where that is installed and agrees
    with Caffe on this net. UserError where files are missing or do not fit, or where the engine that was asked for cannot run them.
    """
    net = _for_mnn(prototxt, weights, gpu, engine)
    return MnnEngine(*net) if net else CaffeEngine(prototxt, weights, gpu)


def _for_mnn(prototxt, weights, gpu: Optional[int], engine: Optional[str]) -> Optional[tuple]:
    """What `converted` says where MNN is the engine to take, None where it is Caffe."""
    if engine not in (None, *ENGINES):
        raise UserError(f"there is no engine {engine!r}: take one of {', '.join(ENGINES)}")
    if gpu is not None and engine == MnnEngine.name:
        raise UserError(f"the engine mnn runs on the CPU, and GPU {gpu} was asked for: leave one of the two out")
    if gpu is not None or engine == CaffeEngine.name or engine is None and has_onednn():
        return None
    try:
        return converted(prototxt, weights)
    except EngineUnavailable as error:
        if engine == MnnEngine.name:
            raise
        if not isinstance(error, MnnMissing):
            warnings.warn(f"Caffe runs the net: {error}", stacklevel=2)
        return None
