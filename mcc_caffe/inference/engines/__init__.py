"""Engines that run a deploy net: the same call, a batch of network inputs to (mask, heatmaps).

    engine.name                        the name that `--engine` takes
    engine.input_size                  m, pixels
    engine.has_mask, engine.has_pose   which of the two stages the net has
    engine(batch) -> (mask, heatmaps)  batch (N, 3, m, m) float32, (BGR - 128) / 256, any N
                                       mask (N, m/8, m/8) float32, probability of hand;
                                       None without a mask stage
                                       heatmaps (N, 22, m/8, m/8) float32; None without a pose stage

Caffe is the reference and always there.
"""

from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines.caffe_engine import CaffeEngine

ENGINES = {CaffeEngine.name: CaffeEngine}
DEFAULT_ENGINE = CaffeEngine.name


def open_engine(prototxt, weights, gpu: int = None, engine: str = DEFAULT_ENGINE):
    """Return the deploy net `prototxt` with its weights (caffemodel or packed) in an engine.

    UserError where files are missing or do not fit, or where there is no such engine.
    """
    if engine not in ENGINES:
        raise UserError(f"there is no engine {engine!r}: take one of {', '.join(ENGINES)}")
    return ENGINES[engine](prototxt, weights, gpu)
