"""What every engine offers: a batch of network inputs goes in, the net's maps come out."""

import os
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from mcc_caffe.caffe_io.precision import FLOAT32
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.paper import (
    ABLATIONS,
    HEATMAP_COUNT,
    MAX_INPUT_SIZE,
    STRIDE,
    VARIANTS,
    file_suffix,
    is_input_size,
)

# The deploy nets in the folder of each variant.
_NET_NAMES = {
    "deploy_boxes.prototxt",
    *(f"deploy{file_suffix(ablation)}.prototxt" for ablation in (None, *ABLATIONS)),
}


class StageMaps(NamedTuple):
    """What a net answers to a batch of N inputs of h x w pixels; H = h / 8 and W = w / 8.

    Attributes:
        masks: (N, H, W) float32, the probability of hand; None without a mask head.
        heatmaps: (N, 22, H, W) float32 of the last pose stage; None without a pose stage.
        boxes: (N, 5, H, W) float32 of the box head (`core.hand_boxes`); None without one.
    """

    masks: np.ndarray | None
    heatmaps: np.ndarray | None
    boxes: np.ndarray | None = None


class Engine(Protocol):
    """Runs one deploy net.

    The class of an engine is called with (prototxt, weights, gpu, precision), as `open_engine`
    takes them. Its static method `choose_precision(precision, gpu)` returns the precision of such
    an engine before it is opened.

    Attributes:
        name: The name that `--engine` takes.
        input_size: m, the side of the net's input in pixels.
        has_mask: Whether the net has a mask head.
        has_pose: Whether the net has a pose stage.
        precision: What its convolutions multiply, "float32" or "bfloat16".
    """

    name: str
    input_size: int
    has_mask: bool
    has_pose: bool
    precision: str

    def __call__(self, batch: np.ndarray) -> StageMaps:
        """Run the net on a batch (N, 3, h, w) float32 of (BGR - 128) / 256.

        N is any number, h and w are any multiples of 8.
        """
        ...


def engine_title(name: str, precision: str) -> str:
    """Return what reports call an engine: its name, and its precision where that is not float32."""
    return name if precision == FLOAT32 else f"{name} in {precision}"


def title_of(engine: Engine) -> str:
    """Return what reports call an engine that has been opened."""
    return engine_title(engine.name, engine.precision)


def is_shipped_net(prototxt: str | Path) -> bool:
    """Tell whether a deploy net is one that comes with the project, not one of the user's own."""
    folder, name = os.path.split(os.path.realpath(prototxt))
    nets = (require_shipped(f"prototxt/{variant}/deploy.prototxt") for variant in VARIANTS)
    return name in _NET_NAMES and any(
        folder == os.path.dirname(os.path.realpath(net)) for net in nets
    )


def check_own_net(engine: Engine, prototxt: str | Path) -> None:
    """Run a user's own net once, and check that its answer has the shapes that are used.

    Args:
        engine: The engine that has opened it.
        prototxt: Its file, for the error.

    Raises:
        UserError: The net cannot run, or answers something else.
    """
    side = engine.input_size
    if not is_input_size(side):
        raise UserError(
            f"{prototxt}: the input has {side} pixels a side: "
            f"give it a multiple of {STRIDE} up to {MAX_INPUT_SIZE}"
        )
    if not (engine.has_mask or engine.has_pose):
        raise UserError(f"{prototxt} has neither a mask head nor a pose stage: give a deploy net")
    cells = side // STRIDE
    try:
        maps = engine(np.zeros((1, 3, side, side), np.float32))
    except Exception as error:  # ONNX Runtime's own errors have no other base
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{prototxt}: {engine.name} cannot run it ({reason}): mend it, or take another net"
        ) from None
    for name, values, shape in (
        ("mask", maps.masks, (1, cells, cells)),
        ("heatmaps", maps.heatmaps, (1, HEATMAP_COUNT, cells, cells)),
    ):
        if values is not None and values.shape != shape:
            raise UserError(
                f"{prototxt}: for an input of {side} pixels a side its {name} have the shape "
                f"{values.shape}, {shape} is needed: give a net of this project's form"
            )
