"""What every engine offers: a batch of network inputs goes in, the two stages' maps come out."""

from typing import NamedTuple, Protocol

import numpy as np


class StageMaps(NamedTuple):
    """What a net answers to a batch of N inputs of m x m pixels; S = m / 8.

    Attributes:
        masks: (N, S, S) float32, the probability of hand; None without a mask head.
        heatmaps: (N, 22, S, S) float32 of the last pose stage; None without a pose stage.
    """

    masks: np.ndarray | None
    heatmaps: np.ndarray | None


class Engine(Protocol):
    """Runs one deploy net.

    Attributes:
        name: the name that `--engine` takes.
        input_size: m, the side of the net's input in pixels.
        has_mask: whether the net has a mask head.
        has_pose: whether the net has a pose stage.
    """

    name: str
    input_size: int
    has_mask: bool
    has_pose: bool

    def __call__(self, batch: np.ndarray) -> StageMaps:
        """Run the net on a batch (N, 3, m, m) float32 of (BGR - 128) / 256, for any N and m."""
        ...
