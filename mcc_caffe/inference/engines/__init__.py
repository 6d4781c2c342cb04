"""Engines run a deploy net: Caffe is the reference, ONNX Runtime is what pip can bring.

`base.Engine` says what an engine offers; ENGINES lists those that exist, by the names that
`--engine` takes.
"""

import argparse
import logging
from pathlib import Path

from mcc_caffe.caffe_io.precision import PRECISIONS, precision_help
from mcc_caffe.caffe_io.pycaffe import caffe_folder, import_caffe
from mcc_caffe.core.commands import add_gpu_option
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines.base import Engine
from mcc_caffe.inference.engines.caffe_engine import CaffeEngine
from mcc_caffe.inference.engines.onnx_engine import OnnxEngine

ENGINES: dict[str, type[CaffeEngine] | type[OnnxEngine]] = {
    engine.name: engine for engine in (CaffeEngine, OnnxEngine)
}

_log = logging.getLogger(__name__)


def add_engine_options(group: argparse._ActionsContainer) -> None:
    """Add the options of a command that say what runs the net: --gpu, --engine and --precision."""
    add_gpu_option(group)
    add = group.add_argument
    add(
        "--engine",
        choices=ENGINES,
        help="what runs the net (default: caffe where it can be imported, else onnx)",
    )
    add("--precision", choices=PRECISIONS, help=precision_help())


def choose_engine(engine: str | None = None, gpu: int | None = None) -> str:
    """Choose the engine that runs a net.

    Without `engine` and `gpu` it imports Caffe, where that is installed. The number of threads must
    be set before (`pycaffe.set_threads`).

    Args:
        engine: A name of ENGINES; None for Caffe where it can be imported, else ONNX Runtime.
        gpu: Id of the GPU, None for the CPU; on a GPU only Caffe runs.

    Returns:
        A name of ENGINES.

    Raises:
        UserError: No engine has this name.
    """
    if engine is not None:
        if not isinstance(engine, str) or engine not in ENGINES:
            raise UserError(f"there is no engine {engine!r}: take one of {', '.join(ENGINES)}")
        return engine
    if gpu is not None:
        return CaffeEngine.name
    if caffe_folder() is None:
        return OnnxEngine.name
    try:
        import_caffe()
    except UserError as error:
        _log.warning("%s; until then ONNX Runtime runs the net", error)
        return OnnxEngine.name
    return CaffeEngine.name


def open_engine(
    prototxt: str | Path,
    weights: str | Path,
    gpu: int | None = None,
    engine: str | None = None,
    precision: str | None = None,
) -> Engine:
    """Open a deploy net in an engine.

    Args:
        prototxt: The deploy net.
        weights: Its weights, a caffemodel or packed weights.
        gpu: Id of the GPU, None for the CPU.
        engine: As `choose_engine` takes it.
        precision: What the convolutions multiply, as `precision.choose_precision` takes it.

    Raises:
        UserError: A file is missing, the files do not fit each other, no engine has this name, or
            it is not installed, or does not compute on this GPU or in this precision.
    """
    return ENGINES[choose_engine(engine, gpu)](prototxt, weights, gpu, precision)
