"""Makes a batch: chooses its samples, augments each of them and fills the net's input arrays.

For a given number of processes and batch size, (seed, iteration, rank, position in the batch)
decides which sample comes and how it is augmented. A resumed run thus sees what an uninterrupted
one would have seen. In each epoch the ranks take different samples and together take all of them.
"""

import dataclasses
import functools
from collections.abc import Sized
from typing import NamedTuple

import numpy as np

from mcc_caffe.core.geometry import choose_reduction
from mcc_caffe.core.hand import pointing_angle
from mcc_caffe.core.heatmaps import encode
from mcc_caffe.data.augmentation import (
    COLOURS,
    STRONG_COLOURS,
    STRONG_PROBABILITY,
    UPRIGHT_PROBABILITY,
    Augmentation,
    ColourChange,
    Stretch,
    add_noise,
    cover_parts,
    draw_window,
    network_input,
    warp_keypoints,
    warp_mask,
)
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data.samples import Sample
from mcc_caffe.data.sources import SampleSource
from mcc_caffe.paper import DATA_BLOB, HEATMAPS_BLOB, IGNORE_LABEL, MASK_LABEL_BLOB, STRIDE

Arrays = dict[str, np.ndarray]  # {blob: its values}, of a batch or of a single sample


class Batch(NamedTuple):
    """The batch of one iteration.

    Attributes:
        arrays: {blob: float32 array}; the shapes are those of `LoaderConfig.shapes`.
        keys: The keys of the samples.
    """

    arrays: Arrays
    keys: list[str]


def batch_indices(
    config: LoaderConfig, count: int | None, iteration: int, rank: int, rank_count: int
) -> np.ndarray:
    """Choose the samples of a batch.

    An iteration takes the next batch_size x rank_count samples in the order of the epoch. Rank 0
    gets the first batch_size of them, rank 1 the next, and so on.

    Args:
        config: The loader's settings.
        count: The number of samples in the source; None for an endless one, whose samples are taken
            in their own order.
        iteration: The training's iteration, from 0.
        rank: The number of the training process, from 0.
        rank_count: The number of training processes.

    Returns:
        (batch_size,) int, the samples' indices in the source.
    """
    first = (iteration * rank_count + rank) * config.batch_size
    positions = np.arange(first, first + config.batch_size)
    if count is None:
        return positions
    epochs, offsets = np.divmod(positions, count)
    if not config.shuffle:
        return offsets
    return np.array(
        [
            _epoch_order(config.seed, epoch, count)[offset]
            for epoch, offset in zip(epochs.tolist(), offsets)
        ]
    )


@functools.lru_cache(maxsize=2)  # a batch may reach into a second epoch
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Draw the order of an epoch's samples."""
    return np.random.default_rng((seed, 0, epoch)).permutation(count)


def fill_sample(
    config: LoaderConfig,
    sample: Sample,
    rng: np.random.Generator | None,
    arrays: Arrays,
) -> None:
    """Augment one sample and write it into its part of a batch's arrays.

    Args:
        config: The loader's settings.
        sample: The sample.
        rng: The source of randomness for the augmentation; None only letterboxes.
        arrays: {blob: float32 array} with the shapes of `config.shapes()` without the first axis;
            they are overwritten. The mask's label is IGNORE_LABEL everywhere if the sample has no
            mask.

    Raises:
        SampleError: The image or the mask cannot be decoded, their sizes differ, or the keypoints
            are malformed.
    """
    sample.check_keypoints()
    mask, size = sample.mask(), config.input_size
    data = arrays[DATA_BLOB]
    augmentation = Augmentation() if rng is None else _draw_augmentation(config, sample, rng)
    image, image_to_input, reduction, image_size = _decode_image(sample, augmentation, size)
    if mask is not None:
        sample.check_mask_size((mask.shape[1], mask.shape[0]), image_size)
    is_strong = False
    if rng is not None:
        is_strong = config.strong and rng.uniform() < STRONG_PROBABILITY
        if is_strong:
            stretch = Stretch.draw(rng)
            if stretch:
                image_to_input = stretch.apply(image_to_input, sample.keypoints, size)
        if is_strong or config.colours:
            change = ColourChange.draw(rng, STRONG_COLOURS if is_strong else COLOURS)
            image = change.apply(image, reduction)
    network_input(image, image_to_input, size, data, reduction=reduction)
    if rng is not None and is_strong:
        add_noise(data, rng)
        cover_parts(data, rng)
    arrays[MASK_LABEL_BLOB][0] = (
        IGNORE_LABEL if mask is None else warp_mask(mask, image_to_input, size // STRIDE)
    )
    arrays[HEATMAPS_BLOB][:] = encode(
        warp_keypoints(sample.keypoints, image_to_input, size),
        size // STRIDE,
        config.sigma,
        config.background,
    )


def _draw_augmentation(
    config: LoaderConfig, sample: Sample, rng: np.random.Generator
) -> Augmentation:
    """Draw the augmentation of a sample; a window's side replaces the scale of section 3.3."""
    augmentation = Augmentation.draw(rng)
    if not config.largest_window:
        return augmentation
    is_turned = config.upright and rng.uniform() < UPRIGHT_PROBABILITY
    turn = 0.0
    if is_turned:
        turn = pointing_angle(sample.keypoints, sample.keypoints[:, 2] > 0) or 0.0
    window = draw_window(rng, sample.keypoints, config.smallest_window, config.largest_window, turn)
    if window is not None:
        return dataclasses.replace(augmentation, scale=1.0, window=window)
    if is_turned:
        # Looks turn an image into every direction, and shall see no hand in any of them.
        quarters = 90.0 * int(rng.integers(4))
        return dataclasses.replace(augmentation, rotation=augmentation.rotation + quarters)
    return augmentation


class _DecodedImage(NamedTuple):
    """An image that may have been reduced while it was decoded.

    Attributes:
        image: HxWx3 BGR uint8.
        image_to_input: The affine map of pixels of the full-size image to input pixels.
        reduction: The factor by which decoding has divided each side: 1, 2, 4 or 8.
        full_size: (width, height) of the full-size image in pixels.
    """

    image: np.ndarray
    image_to_input: np.ndarray
    reduction: int
    full_size: tuple[int, int]


def _decode_image(sample: Sample, augmentation: Augmentation, size: int) -> _DecodedImage:
    """Decode a sample's image; reduce a JPEG as far as an input of size x size pixels allows."""
    jpeg_size = sample.jpeg_size()
    if jpeg_size is None:
        image = sample.image()
        full_size = image.shape[1], image.shape[0]
        return _DecodedImage(image, augmentation.image_to_input(*full_size, size), 1, full_size)
    image_to_input = augmentation.image_to_input(*jpeg_size, size)
    reduction = choose_reduction(image_to_input)
    return _DecodedImage(sample.image(reduction), image_to_input, reduction, jpeg_size)


def fill_batch(
    config: LoaderConfig,
    samples: SampleSource,
    iteration: int,
    rank: int,
    rank_count: int,
    arrays: Arrays,
) -> list[str]:
    """Write the batch of an iteration into its arrays.

    Args:
        config: The loader's settings.
        samples: The source that `config` names.
        iteration: The training's iteration, from 0.
        rank: The number of the training process, from 0.
        rank_count: The number of training processes.
        arrays: {blob: float32 array} with the shapes of `config.shapes()`; they are overwritten.

    Returns:
        The keys of the samples.
    """
    keys = []
    count = len(samples) if isinstance(samples, Sized) else None
    indices = batch_indices(config, count, iteration, rank, rank_count).tolist()
    for position, index in enumerate(indices):
        rng = (
            np.random.default_rng((config.seed, 1, iteration, rank, position))
            if config.augment
            else None
        )
        sample = samples[index]
        fill_sample(config, sample, rng, {name: array[position] for name, array in arrays.items()})
        keys.append(sample.key)
    return keys
