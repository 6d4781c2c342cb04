"""Engines run a deploy net. Caffe is the reference and always there.

`base.Engine` says what an engine offers; ENGINES lists those that exist, by the names that
`--engine` takes.
"""

from pathlib import Path

from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines.base import Engine
from mcc_caffe.inference.engines.caffe_engine import CaffeEngine

ENGINES = {CaffeEngine.name: CaffeEngine}
DEFAULT_ENGINE = CaffeEngine.name


def open_engine(
    prototxt: str | Path,
    weights: str | Path,
    gpu: int | None = None,
    engine: str = DEFAULT_ENGINE,
) -> Engine:
    """Open a deploy net in an engine.

    Args:
        prototxt: the deploy net.
        weights: its weights, a caffemodel or packed weights.
        gpu: id of the GPU, None for the CPU.
        engine: a name of ENGINES.

    Raises:
        UserError: a file is missing, the files do not fit each other, or no engine has this name.
    """
    if engine not in ENGINES:
        raise UserError(f"there is no engine {engine!r}: take one of {', '.join(ENGINES)}")
    return ENGINES[engine](prototxt, weights, gpu)
