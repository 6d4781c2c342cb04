"""The image pyramid of one image (3.3): network inputs into it, the levels' maps back out of it. Pure NumPy and OpenCV.

pyramid = Pyramid(image, windows, size)
pyramid.network_input(level, out)       # (3, size, size) float32
"""

import cv2
import numpy as np

from mcc_caffe.core.geometry import apply, compose, invert, letterbox, resize, to_cells, translation
from mcc_caffe.data.augmentation import network_input
from mcc_caffe.paper import BACKGROUND

_FINE = 4  # pixels of a reduced image to one of the input, at least: so fine that the reduction is hardly seen
_SMALL = 32  # pixels of its smaller side, at least: halving leaves an odd last row out


class Pyramid:
    """An image (HxWx3 uint8 BGR) and windows (L, 4) of it, as `geometry.pyramid_windows` has them, for inputs of size x size.

    to_input: (L, 2, 3), each level's map of image pixels to its input. An image that is 8 times as fine as the first input or finer is
    averaged to a half, a quarter, ... of it, once for all levels; a level's input is then made from the smallest that is still
    4 times as fine, and only the part that it shows is touched.
    """

    def __init__(self, image: np.ndarray, windows: np.ndarray, size: int):
        self.windows, self.size = windows, size
        self.to_input = np.stack([window_map(window, size) for window in windows])
        self._octaves = [image]
        self._large = self._halvings(self.to_input[0]) > 0

    def network_input(self, level: int, out: np.ndarray) -> np.ndarray:
        """Writes the level's input, as `augmentation.network_input` makes it, to `out`, (3, size, size) float32."""
        image, to_input = self._octaves[0], self.to_input[level]
        if self._large:
            halvings = self._halvings(to_input)
            image, to_input = (
                self._octave(halvings),
                compose(invert(resize(0.5**halvings, 0.5**halvings)), to_input),
            )
            shrink = max(
                int(1 / to_input[0, 0]), 1
            )  # by which `warp` averages: the part begins where a square of it does
            first, last = apply(invert(to_input), [(-1, -1), (self.size, self.size)])
            x, y = np.maximum(np.floor(first).astype(int) // shrink * shrink, 0).tolist()
            right, bottom = (np.ceil(last).astype(int) // shrink * shrink + 2 * shrink).tolist()
            image, to_input = image[y:bottom, x:right], compose(translation(x, y), to_input)
        return network_input(image, to_input, self.size, out)

    def _halvings(self, to_input: np.ndarray) -> int:
        """How often the image may be halved before an input is made from it."""
        room = min(1 / (to_input[0, 0] * _FINE), min(self._octaves[0].shape[:2]) / _SMALL)
        return max(int(np.log2(room)), 0)

    def _octave(self, halvings: int) -> np.ndarray:
        """The image averaged down so often by 2; an odd last row or column is left out: averaging by exactly 2 is ten times as fast."""
        while len(self._octaves) <= halvings:
            height, width = (side // 2 for side in self._octaves[-1].shape[:2])
            self._octaves.append(
                cv2.resize(
                    self._octaves[-1][: 2 * height, : 2 * width],
                    (width, height),
                    interpolation=cv2.INTER_AREA,
                )
            )
        return self._octaves[halvings]

    def contents(self) -> list:
        """[(width, height)] of the part of each level's input that holds its window."""
        last = [
            apply(one, window[:2] + window[2:] - 1)
            for one, window in zip(self.to_input, self.windows)
        ]
        return [tuple(np.floor(corner).astype(int) + 1) for corner in last]


def window_map(window: np.ndarray, size: int) -> np.ndarray:
    """Map of image pixels to the network input for a pyramid window (x, y, width, height), letterboxed."""
    x, y, width, height = window
    return compose(translation(-x, -y), letterbox(width, height, size))


def aggregate(heatmaps: np.ndarray, to_input: np.ndarray, size: int) -> np.ndarray:
    """(22, size, size): the levels' maps, each drawn at its place in the first level's frame, by maximum (3.3).

    The background map is the least sure one instead: where some level sees a hand there is no background.
    """
    result = np.empty((heatmaps.shape[1], size, size), np.float32)
    for level, (maps, one) in enumerate(zip(heatmaps, to_input)):
        draw = _Drawing(
            compose(invert(compose(one, to_cells())), to_input[0]),
            maps.shape[-1],
            (size, size),
            cv2.BORDER_CONSTANT,
        )
        for place, channel in enumerate(maps):
            beside = float(place == BACKGROUND)  # what the level does not see
            drawn = draw(channel - beside) + beside
            if level == 0:
                result[place] = drawn
            else:
                (np.minimum if place == BACKGROUND else np.maximum)(
                    result[place], drawn, out=result[place]
                )
    return result


def mask_in_image(mask: np.ndarray, to_input: np.ndarray, image_size: tuple) -> np.ndarray:
    """(H, W) float32 probability in the image from the (S, S) mask of the whole image."""
    drawn = _Drawing(
        invert(compose(to_input, to_cells())), len(mask), image_size, cv2.BORDER_REPLICATE
    )(mask)
    return np.clip(drawn, 0, 1, out=drawn)


class _Drawing:
    """Draws maps (S, S) through a map without rotation into an array of `size` (width, height): bicubic, one axis after the other.

    Each axis is a matrix of cv2.warpAffine's own weights, so that the result is warpAffine's, many times sooner.
    """

    def __init__(self, one: np.ndarray, cells: int, size: tuple, border: int):
        (fx, _, x), (_, fy, y) = one
        unit, (width, height) = np.eye(cells, dtype=np.float32), map(int, size)
        across, down = np.array([[fx, 0, x], [0, 1.0, 0]]), np.array([[1.0, 0, 0], [0, fy, y]])
        self._columns = cv2.warpAffine(
            unit, across, (width, cells), flags=cv2.INTER_CUBIC, borderMode=border
        )
        self._rows = cv2.warpAffine(
            unit, down, (cells, height), flags=cv2.INTER_CUBIC, borderMode=border
        )

    def __call__(self, cells: np.ndarray) -> np.ndarray:
        """(height, width) float32."""
        return cv2.gemm(cv2.gemm(self._rows, cells, 1, None, 0), self._columns, 1, None, 0)
