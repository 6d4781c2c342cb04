"""Smooths the keypoints of one hand through time with a One-Euro filter.

The filter (G. Casiez, N. Roussel, D. Vogel: 1€ Filter, CHI 2012) is a low-pass filter whose cutoff
frequency grows with the speed: jitter of a still hand is smoothed away, and a moving hand hardly
lags. Speeds count in sides of the hand's box, so that a hand is smoothed alike at every resolution.
"""

from typing import NamedTuple

import numpy as np

from mcc_caffe.paper import KEYPOINT_COUNT

_SHORTEST_STEP = 1e-3  # seconds, also where the times of a stream do not grow


class FilterParameters(NamedTuple):
    """The parameters of a One-Euro filter.

    Attributes:
        min_cutoff: The cutoff frequency of a still keypoint, in Hz; lower for less jitter.
        beta: What a speed of one side of the hand's box a second adds to the cutoff frequency, in
            Hz; higher for less lag.
        derivative_cutoff: The cutoff frequency of the speed itself, in Hz.
    """

    min_cutoff: float = 1.0
    beta: float = 8.0
    derivative_cutoff: float = 1.0


class KeypointFilter:
    """A One-Euro filter for the keypoints of one hand.

    A keypoint that is missing for a while keeps its last position. When it comes back, the time
    that has passed decides how much that still counts.
    """

    def __init__(self, parameters: FilterParameters):
        """Start without a past: the first positions are returned as they are."""
        self.parameters = parameters
        self._times = np.full((KEYPOINT_COUNT, 1), -np.inf)  # when each keypoint was last there
        self._raw = np.zeros((KEYPOINT_COUNT, 2))
        self._smooth = np.zeros((KEYPOINT_COUNT, 2))
        self._velocity = np.zeros((KEYPOINT_COUNT, 2))  # sides of the box a second

    def smooth(
        self, points: np.ndarray, present: np.ndarray, *, time: float, side: float
    ) -> np.ndarray:
        """Smooth the keypoints of the next frame.

        Args:
            points: (21, 2) of x, y in pixels.
            present: (21,) bool; the other keypoints are returned as they are.
            time: When the frame is shown, in seconds; steps may vary.
            side: The longer side of the hand's box in pixels, above 0.

        Returns:
            (21, 2) float64.
        """
        # After an endless step the filter returns a position as it is, and nothing has moved. So
        # the first frame needs no rule of its own.
        steps = np.maximum(time - self._times, _SHORTEST_STEP)
        velocity = (points - self._raw) / side / steps
        velocity_weights = _weights(self.parameters.derivative_cutoff, steps)
        new_velocity = self._velocity + velocity_weights * (velocity - self._velocity)
        speeds = np.linalg.norm(new_velocity, axis=1, keepdims=True)
        cutoffs = self.parameters.min_cutoff + self.parameters.beta * speeds
        new_smooth = self._smooth + _weights(cutoffs, steps) * (points - self._smooth)

        rows = present[:, None]
        self._times = np.where(rows, time, self._times)
        self._raw = np.where(rows, points, self._raw)
        self._velocity = np.where(rows, new_velocity, self._velocity)
        self._smooth = np.where(rows, new_smooth, self._smooth)
        return np.where(rows, new_smooth, points)


def _weights(cutoffs: np.ndarray | float, steps: np.ndarray) -> np.ndarray:
    """Return the weight of a new value against the past, 0 to 1 (alpha in the paper).

    Args:
        cutoffs: Frequencies in Hz, above 0.
        steps: Seconds since the value before; it may be infinite.
    """
    return 1 / (1 + 1 / (2 * np.pi * cutoffs * steps))
