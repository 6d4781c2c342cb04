"""What a batch holds: which samples, how each is augmented, and the arrays made of them.

(seed, iteration, rank, position in the batch) decide on all of it, so that a resumed run sees what
an uninterrupted one would have seen. Over one epoch the ranks take disjoint samples and together
cover the set.
"""

import dataclasses
import functools
from collections.abc import Sized
from typing import NamedTuple, cast

import numpy as np

from mcc_caffe.core.geometry import reduction
from mcc_caffe.core.heatmaps import encode
from mcc_caffe.data.augmentation import (
    Augmentation,
    ColourChange,
    draw_window,
    network_input,
    warp_keypoints,
    warp_mask,
)
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data.samples import Sample
from mcc_caffe.data.sources import SampleSource
from mcc_caffe.paper import DATA_BLOB, HEATMAPS_BLOB, IGNORE_LABEL, MASK_LABEL_BLOB, STRIDE

Arrays = dict[str, np.ndarray]  # a batch's arrays, by the blob's name


def batch_indices(
    config: LoaderConfig, count: int | None, iteration: int, rank: int, ranks: int
) -> np.ndarray:
    """Decide which samples a batch holds.

    An iteration takes the next batch_size x ranks samples of the epoch's order, of which rank r
    takes the r-th batch_size.

    Args:
        config: Of the loader.
        count: The number of samples in the source; None for an endless one, taken as it comes.
        iteration: Of the training, from 0.
        rank: The number of the training process.
        ranks: The number of training processes.

    Returns:
        (batch_size,) int, the samples' indices in the source.
    """
    first = (iteration * ranks + rank) * config.batch_size
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
    data: np.ndarray,
    mask_label: np.ndarray,
    heatmaps: np.ndarray,
) -> None:
    """Write what the net is fed with for one sample.

    Args:
        config: Of the loader.
        sample: The sample.
        rng: The source of the augmentation; None only letterboxes.
        data: (3, m, m) float32, for the network's input.
        mask_label: (1, m / 8, m / 8) float32, for the mask; IGNORE_LABEL where there is none.
        heatmaps: (22, m / 8, m / 8) float32, for the heatmaps.
    """
    mask, size = sample.mask(), config.input_size
    augmentation = Augmentation() if rng is None else _draw_augmentation(config, sample, rng)
    image, image_to_input, reduced = _image_and_map(sample, augmentation, size)
    if rng is not None and config.colours:
        image = ColourChange.draw(rng).apply(image)
    network_input(image, image_to_input, size, data, reduced=reduced)
    mask_label[0] = (
        IGNORE_LABEL if mask is None else warp_mask(mask, image_to_input, size // STRIDE)
    )
    heatmaps[:] = encode(
        warp_keypoints(sample.keypoints, image_to_input, size),
        size // STRIDE,
        config.sigma,
        config.background,
    )


def _draw_augmentation(
    config: LoaderConfig, sample: Sample, rng: np.random.Generator
) -> Augmentation:
    """Draw the augmentation of a sample; the side of a window replaces the scale of 3.3."""
    augmentation = Augmentation.draw(rng)
    if config.largest_window:
        window = draw_window(rng, sample.keypoints, config.smallest_window, config.largest_window)
        if window is not None:
            return dataclasses.replace(augmentation, scale=1.0, window=window)
    return augmentation


class _DecodedImage(NamedTuple):
    """An image, reduced so many times, and the map of the full-size image into the input."""

    image: np.ndarray
    image_to_input: np.ndarray
    reduced: int


def _image_and_map(sample: Sample, augmentation: Augmentation, size: int) -> _DecodedImage:
    """Decode the image, a JPEG no larger than the size x size input needs it."""
    jpeg_size = sample.jpeg_size()
    if jpeg_size is None:
        image = sample.image()
        return _DecodedImage(
            image, augmentation.image_to_input(image.shape[1], image.shape[0], size), 1
        )
    image_to_input = augmentation.image_to_input(*jpeg_size, size)
    reduced = reduction(image_to_input)
    return _DecodedImage(sample.image(reduced), image_to_input, reduced)


def fill_batch(
    config: LoaderConfig,
    samples: SampleSource,
    iteration: int,
    rank: int,
    ranks: int,
    arrays: Arrays,
) -> list[str]:
    """Write the batch of an iteration.

    Args:
        config: Of the loader.
        samples: The source that the configuration names.
        iteration: Of the training, from 0.
        rank: The number of the training process.
        ranks: The number of training processes.
        arrays: Of the shapes of `config.shapes()`, to write to.

    Returns:
        The keys of the samples.
    """
    keys = []
    count = None if samples.endless else len(cast(Sized, samples))
    for position, index in enumerate(batch_indices(config, count, iteration, rank, ranks)):
        rng = (
            np.random.default_rng((config.seed, 1, iteration, rank, position))
            if config.augment
            else None
        )
        sample = samples[index]
        fill_sample(
            config,
            sample,
            rng,
            arrays[DATA_BLOB][position],
            arrays[MASK_LABEL_BLOB][position],
            arrays[HEATMAPS_BLOB][position],
        )
        keys.append(sample.key)
    return keys
