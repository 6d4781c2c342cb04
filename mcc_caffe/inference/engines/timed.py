"""Runs an engine on batches of any size, and measures how long that takes."""

import time
from collections.abc import Sequence

import numpy as np

from mcc_caffe.inference.engines.base import Engine, StageMaps


class TimedNetwork:
    """Runs an engine on batches of any size, some inputs at a time, and adds up the seconds."""

    def __init__(self, engine: Engine, batch: int):
        self._engine, self._batch = engine, batch
        self._start = time.perf_counter()
        # Of each call, also those of a network that shares the timer.
        self._seconds: list[float] = []

    def with_shared_timer(self, engine: Engine | None) -> "TimedNetwork | None":
        """Return a TimedNetwork of another engine that adds its seconds to this one's.

        It is None if `engine` is None.
        """
        if engine is None:
            return None
        other = TimedNetwork(engine, self._batch)
        other._start, other._seconds = self._start, self._seconds
        return other

    def __call__(self, inputs: np.ndarray) -> StageMaps:
        """Return the maps of all inputs (N, 3, h, w)."""
        start = time.perf_counter()
        answers = [
            self._engine(inputs[first : first + self._batch])
            for first in range(0, len(inputs), self._batch)
        ]
        self._seconds.append(time.perf_counter() - start)
        return StageMaps(
            _join([answer.masks for answer in answers]),
            _join([answer.heatmaps for answer in answers]),
            _join([answer.boxes for answer in answers]),
        )

    def timings(self) -> dict[str, float]:
        """Return the seconds since the start, as HandPose.timings has them."""
        return {"network": sum(self._seconds), "total": time.perf_counter() - self._start}


def _join(maps: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Join the maps of several batches; None where the net has no such stage."""
    arrays = [array for array in maps if array is not None]
    if not arrays:
        return None
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
