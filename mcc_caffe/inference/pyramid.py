"""The pyramid of one image (section 3.3): makes the network's inputs and maps its answers back.

pyramid = Pyramid(image, windows, size)
level_masks, level_heatmaps, _ = network(pyramid.inputs())
keypoints = pyramid.decode(level_heatmaps)      # (21, 3): x, y in image pixels, confidence
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.geometry import (
    apply,
    compose,
    cut_for_warp,
    invert,
    letterbox_affine,
    resize_affine,
    shrink_factor,
    to_cells,
    translation,
)
from mcc_caffe.core.heatmaps import decode_levels
from mcc_caffe.data.augmentation import network_input
from mcc_caffe.paper import BACKGROUND_INDEX, STRIDE

# A halved image has at least this many pixels a side for each input pixel. The input then hardly
# differs.
_PIXELS_PER_REDUCED_PIXEL = 4
# The smaller side of a halved image has at least so many pixels, because each halving leaves an odd
# last row out.
_SMALLEST_SIDE = 32

# A turned map is drawn with at least so many pixels to a cell and then enlarged. A mask differs by
# 0.02 at most from one of which every pixel is drawn, for which cv2 rounds to 1/32 of a cell.
_DRAWN_PIXELS_PER_CELL = 16

_NO_ADDEND = np.empty((0, 0), np.float32)


class Octaves:
    """An image, its half, its quarter, and so on, each averaged when it is first asked for."""

    def __init__(self, image: np.ndarray):
        """Prepare the octaves of an image, HxWx3 uint8 BGR."""
        self._images = [image]

    @property
    def image(self) -> np.ndarray:
        """The image itself."""
        return self._images[0]

    def halvings(self, reduction: float) -> int:
        """Return how often the image may be halved on the way to a smaller one.

        Args:
            reduction: A side of the image in sides of the smaller one.
        """
        factor = min(
            reduction / _PIXELS_PER_REDUCED_PIXEL, min(self.image.shape[:2]) / _SMALLEST_SIDE
        )
        return max(int(np.log2(factor)), 0)

    def halved(self, times: int) -> np.ndarray:
        """Return the image averaged down `times` times by 2.

        An odd last row or column is left out: averaging by exactly 2 is ten times as fast.
        """
        while len(self._images) <= times:
            height, width = (side // 2 for side in self._images[-1].shape[:2])
            self._images.append(
                cv2.resize(
                    self._images[-1][: 2 * height, : 2 * width],
                    (width, height),
                    interpolation=cv2.INTER_AREA,
                )
            )
        return self._images[times]

    def network_input(self, image_to_input: np.ndarray, size: int, out: np.ndarray) -> None:
        """Write a network's input, from the image or from the octave that is fine enough.

        Only the part of the octave that the input shows is touched.

        Args:
            image_to_input: The affine map (2, 3) of image pixels to input pixels.
            size: m, the side of the input in pixels.
            out: (3, m, m) float32.
        """
        halvings = self.halvings(shrink_factor(image_to_input))
        to_octave = resize_affine(0.5**halvings, 0.5**halvings)
        octave_to_input = compose(invert(to_octave), image_to_input)
        part, part_to_input = cut_for_warp(self.halved(halvings), octave_to_input, size)
        network_input(part, part_to_input, size, out)


class Pyramid:
    """The levels of an image: its windows, made into network inputs of size x size pixels.

    An image that is at least 8 times as fine as an input is first averaged down to a half, a
    quarter, and so on, once for all levels. The input is then made from the smallest of these that
    is still 4 times as fine. Only the part that the window shows is touched.

    Attributes:
        windows: (L, 4) of x, y, width, height in image pixels.
        size: m, the side of the inputs in pixels.
        image_to_input: (L, 2, 3) float64, each level's affine map of image pixels to its input.
    """

    def __init__(self, image: np.ndarray, windows: np.ndarray, size: int):
        """Prepare the pyramid.

        Args:
            image: HxWx3 uint8 BGR.
            windows: (L, 4) of the image, as `geometry.pyramid_windows` returns them.
            size: m, the side of the inputs in pixels.
        """
        self.windows, self.size = windows, size
        self.image_to_input = np.stack([window_map(window, size) for window in windows])
        self._octaves = Octaves(image)

    def inputs(self) -> np.ndarray:
        """Return the network inputs of all levels, (L, 3, size, size) float32."""
        inputs = np.empty((len(self.windows), 3, self.size, self.size), np.float32)
        for image_to_input, level_input in zip(self.image_to_input, inputs):
            self._octaves.network_input(image_to_input, self.size, out=level_input)
        return inputs

    def decode(self, level_heatmaps: np.ndarray) -> np.ndarray:
        """Decode the keypoints, each from the level that is most confident of it.

        The maximum over the levels' maps (section 3.3) peaks where the most confident level's map
        does. Therefore each level is decoded at its own resolution, and only the winners are mapped
        back. The empty part of the letterbox is left out.

        Args:
            level_heatmaps: (L, 22, S, S), the network's heatmaps of `inputs`.

        Returns:
            (21, 3) float64 of x, y in image pixels and confidence.

        Raises:
            UserError: The heatmaps are not finite.
        """
        keypoints, levels = decode_levels(level_heatmaps, self.contents())
        for keypoint, level in zip(keypoints, levels):
            keypoint[:2] = apply(invert(self.image_to_input[level]), keypoint[:2])
        return keypoints

    def contents(self) -> list[tuple[int, int, int, int]]:
        """Return x, y, width, height of the part of each level's input that the window fills."""
        last_pixels = [
            apply(image_to_input, window[:2] + window[2:] - 1)
            for image_to_input, window in zip(self.image_to_input, self.windows)
        ]
        return [(0, 0, int(np.floor(x)) + 1, int(np.floor(y)) + 1) for x, y in last_pixels]


def window_map(window: np.ndarray, size: int) -> np.ndarray:
    """Return the affine map (2, 3) of image pixels to the letterboxed input of a window.

    Args:
        window: x, y, width, height in image pixels.
        size: The side of the input in pixels.
    """
    x, y, width, height = window
    return compose(translation(-x, -y), letterbox_affine(width, height, size))


def aggregate(level_heatmaps: np.ndarray, image_to_input: np.ndarray, size: int) -> np.ndarray:
    """Join the levels' heatmaps by maximum, each drawn where its window lies (section 3.3).

    The background map takes the minimum instead, because there is no background where some level
    sees a hand.

    Args:
        level_heatmaps: (L, 22, S, S).
        image_to_input: (L, 2, 3), each level's affine map of image pixels to its input.
        size: The side of the inputs in pixels.

    Returns:
        (22, size, size) float32 in the frame of the first level's input.
    """
    joined = np.empty((level_heatmaps.shape[1], size, size), np.float32)
    for level, (heatmaps, level_to_input) in enumerate(zip(level_heatmaps, image_to_input)):
        draw = _CellDrawing(
            compose(invert(compose(level_to_input, to_cells())), image_to_input[0]),
            heatmaps.shape[-1],
            (size, size),
            cv2.BORDER_CONSTANT,
        )
        for channel, heatmap in enumerate(heatmaps):
            outside = float(channel == BACKGROUND_INDEX)  # the value where the level sees nothing
            drawn = draw(heatmap - outside) + outside
            if level == 0:
                joined[channel] = drawn
            else:
                join = np.minimum if channel == BACKGROUND_INDEX else np.maximum
                join(joined[channel], drawn, out=joined[channel])
    return joined


class MaskCells(NamedTuple):
    """The mask that the net gives for one input; S = m / 8 for an input of m x m pixels.

    Attributes:
        cells: (S, S) float32, the probability of hand.
        image_to_input: (2, 3) float64, the affine map of image pixels to the input; it may turn and
            mirror.
    """

    cells: np.ndarray
    image_to_input: np.ndarray


def mask_in_image(masks: Sequence[MaskCells], image_size: tuple[int, int]) -> np.ndarray:
    """Draw the mean of the net's masks at the image's size.

    Each counts where its input shows the image. Where none does, the mask is 0.

    Args:
        masks: Those of the inputs, at least one.
        image_size: (W, H) in pixels.

    Returns:
        (H, W) float32, 0 to 1.
    """
    straight = [mask for mask in masks if not mask.image_to_input[0, 1]]
    turned = [mask for mask in masks if mask.image_to_input[0, 1]]
    total, shown_rows, shown_columns = _sum_straight(straight, image_size)
    shown = _product(shown_rows, shown_columns) if len(masks) > 1 else None
    for mask in turned:
        _add_turned(mask, total, shown)
    if shown is not None:
        total /= np.maximum(shown, 1, out=shown)
    return np.clip(total, 0, 1, out=total)


def _sum_straight(
    masks: Sequence[MaskCells], image_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the sum of N masks whose inputs are not turned.

    Returns:
        (H, W) float32 of the sum; and (H, N) and (N, W), whose product is the number of inputs that
        show each pixel.
    """
    width, height = image_size
    shown_rows = np.zeros((height, len(masks)), np.float32)
    shown_columns = np.zeros((len(masks), width), np.float32)
    rows, columns = [shown_rows[:, :0]], [shown_columns[:0]]  # so that the sum of no mask is 0
    for index, (cells, image_to_input) in enumerate(masks):
        drawing = _CellDrawing(
            invert(compose(image_to_input, to_cells())),
            len(cells),
            image_size,
            cv2.BORDER_REPLICATE,
        )
        # In a window of w pixels, pixel 0 lies at 0 of the input and pixel w would lie at its side.
        first, end = apply(invert(image_to_input), [(0, 0), (len(cells) * STRIDE,) * 2]).round(3)
        mirrored = first > end
        left, top = np.where(mirrored, np.floor(end) + 1, np.ceil(first)).clip(0).astype(int)
        right, bottom = np.where(mirrored, np.floor(first) + 1, np.ceil(end)).clip(0).astype(int)
        shown_rows[top:bottom, index] = 1
        shown_columns[index, left:right] = 1
        rows.append(drawing.rows * shown_rows[:, index, None])
        columns.append(_product(cells, drawing.columns * shown_columns[index]))
    return _product(np.hstack(rows), np.vstack(columns)), shown_rows, shown_columns


def _add_turned(mask: MaskCells, total: np.ndarray, shown: np.ndarray | None) -> None:
    """Add the mask of a turned input to the sum of masks, and to the number of inputs that show it.

    The pixels at the input's edges count as shown, too.
    """
    side = len(mask.cells) * STRIDE
    corners = apply(invert(mask.image_to_input), [(0, 0), (side, 0), (side, side), (0, side)])
    left, top = np.floor(corners.min(axis=0)).clip(0).astype(int).tolist()
    right, bottom = (np.ceil(corners.max(axis=0)) + 1).clip(0).astype(int).tolist()
    part = np.s_[top:bottom, left:right]
    height, width = total[part].shape
    if not (height and width):
        return
    to_part = translation(-left, -top)
    is_shown = np.zeros((height, width), np.float32)
    cv2.fillConvexPoly(is_shown, apply(to_part, corners).round().astype(np.int32), 1.0)
    cells_to_part = compose(invert(compose(mask.image_to_input, to_cells())), to_part)
    drawn = _draw_turned(mask.cells, cells_to_part, (width, height))
    total[part] += cv2.multiply(drawn, is_shown, dst=drawn)
    if shown is not None:
        shown[part] += is_shown


def _draw_turned(
    cells: np.ndarray, cells_to_target: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Draw a map (S, S) through any affine map into an array of `size`, bicubically.

    Where a cell has many pixels, every few of them are drawn and those between are interpolated.
    """
    width, height = size
    step = max(int(1 / shrink_factor(cells_to_target)) // _DRAWN_PIXELS_PER_CELL, 1)
    fewer = max(width // step, 1), max(height // step, 1)
    drawn = cv2.warpAffine(
        cells,
        compose(cells_to_target, resize_affine(fewer[0] / width, fewer[1] / height)),
        fewer,
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return drawn if step == 1 else cv2.resize(drawn, size, interpolation=cv2.INTER_LINEAR)


class _CellDrawing:
    """Draws maps (S, S) through an affine map without rotation into an array, bicubically.

    Each axis is a matrix of cv2.warpAffine's own weights. So the result is warpAffine's, but two
    products of matrices draw many maps many times faster.

    Attributes:
        rows: (height, S) float32, what each row of cells adds to each row of the array.
        columns: (S, width) float32, the same for columns.
    """

    def __init__(self, cells_to_target: np.ndarray, cells: int, size: tuple[int, int], border: int):
        (scale_x, _, shift_x), (_, scale_y, shift_y) = cells_to_target
        unit, (width, height) = np.eye(cells, dtype=np.float32), map(int, size)
        across = np.array([[scale_x, 0, shift_x], [0, 1.0, 0]])
        down = np.array([[1.0, 0, 0], [0, scale_y, shift_y]])
        self.columns = cv2.warpAffine(
            unit, across, (width, cells), flags=cv2.INTER_CUBIC, borderMode=border
        )
        self.rows = cv2.warpAffine(
            unit, down, (cells, height), flags=cv2.INTER_CUBIC, borderMode=border
        )

    def __call__(self, cells: np.ndarray) -> np.ndarray:
        """Return the drawn map, (height, width) float32."""
        return _product(_product(self.rows, cells), self.columns)


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the matrix product; OpenCV is twice as fast as NumPy for a 1920 x 1080 mask."""
    if not right.size:  # which OpenCV does not take
        return np.zeros((len(left), right.shape[1]), np.float32)
    return np.asarray(cv2.gemm(left, right, 1, _NO_ADDEND, 0))
