"""Batches of augmented samples, made by worker processes ahead of the training that uses them.

What a batch holds is decided by (seed, iteration, rank, position in the batch) alone, never by
timing: a resumed run sees what an uninterrupted one would have seen. Over one epoch the ranks take
disjoint samples and together cover the set.

Worker w makes the batches of iterations w, w + workers, ... Each worker owns a ring of slots in
shared memory and fills the next one only when told that it is free, which bounds how far the worker
runs ahead. Workers are spawned, not forked, so they inherit no CUDA state, and they end as soon as
the process that started them does.
"""

import contextlib
import ctypes
import dataclasses
import functools
import itertools
import json
import multiprocessing
import multiprocessing.connection
import signal
import time
import typing
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.errors import UserError
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
from mcc_caffe.data.samples import Sample
from mcc_caffe.data.sources import SampleSource, open_source
from mcc_caffe.paper import (
    BACKGROUND_MAX,
    BACKGROUND_SUM,
    DATA_BLOB,
    HEATMAPS,
    HEATMAPS_BLOB,
    IGNORE_LABEL,
    MASK_LABEL_BLOB,
    STRIDE,
    Variant,
)

Arrays = dict[str, np.ndarray]  # a batch's arrays, or those of one sample, by the blob's name


class LoaderError(UserError):
    """The loader cannot go on: a worker died, a record is unreadable, a setting is wrong."""

    code = 4


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """What the data layer is told, in its `param_str` as JSON.

    Attributes:
        source: The samples: an LMDB set, or another source that `sources.open_source` knows.
        batch_size: Samples a batch.
        input_size: m, the side of the network's input, pixels; a multiple of 8.
        sigma: The standard deviation of the heatmaps' Gaussians, cells.
        background: BACKGROUND_SUM or BACKGROUND_MAX, as `heatmaps.encode` takes it.
        augment: Draw the augmentation of 3.3; otherwise only letterbox.
        smallest_window: Where above 0, each hand is seen in a square instead of in the picture;
            this is the least side of the square, as a multiple of the box of the keypoints.
        largest_window: The greatest side, likewise; 0: the picture, as the paper has it.
        colours: Draw other colours and sharpness, too.
        shuffle: Draw a new order each epoch; otherwise take the set's own.
        seed: Of order and augmentation.
        first_iteration: Where to begin (a resumed run).
        workers: The number of worker processes; 0: the caller makes the batches itself.
        prefetch: The most batches that each worker is ahead.
    """

    source: str
    batch_size: int
    input_size: int
    sigma: float
    _: dataclasses.KW_ONLY
    background: str = BACKGROUND_SUM
    augment: bool = True
    smallest_window: float = 0.0
    largest_window: float = 0.0
    colours: bool = False
    shuffle: bool = True
    seed: int = 0
    first_iteration: int = 0
    workers: int = 2
    prefetch: int = 2

    def __post_init__(self) -> None:
        for key in ("batch_size", "prefetch", "sigma"):
            if getattr(self, key) <= 0:
                raise LoaderError(f"param_str: {key} is {getattr(self, key)}, it must be above 0")
        for key in ("seed", "first_iteration", "workers"):
            if getattr(self, key) < 0:
                raise LoaderError(f"param_str: {key} is {getattr(self, key)}, it must be 0 or more")
        if self.background not in (BACKGROUND_SUM, BACKGROUND_MAX):
            raise LoaderError(
                f"param_str: background is {self.background!r}, "
                f"it must be {BACKGROUND_SUM!r} or {BACKGROUND_MAX!r}"
            )
        if self.input_size < STRIDE or self.input_size % STRIDE:
            raise LoaderError(
                f"param_str: input_size is {self.input_size}, it must be a multiple of {STRIDE}"
            )
        windows = self.smallest_window, self.largest_window
        if windows != (0, 0) and not 1 <= windows[0] <= windows[1]:
            raise LoaderError(
                f"param_str: smallest_window and largest_window are {windows[0]} and {windows[1]}, "
                "they must be 0, or from 1 on with the smallest first"
            )

    @staticmethod
    def of(variant: Variant, source: str, **settings: Any) -> "LoaderConfig":
        """Make the configuration that trains a variant.

        Args:
            variant: Of the network; it decides on batch size, input size, sigma and background.
            source: The samples.
            **settings: Attributes with other values than the variant's and the defaults.
        """
        own = {
            "batch_size": variant.batch_size,
            "input_size": variant.input_size,
            "sigma": variant.sigma,
            "background": variant.background,
        }
        return LoaderConfig(source, **{**own, **settings})

    @staticmethod
    def from_json(text: str) -> "LoaderConfig":
        """Read a `param_str`.

        Raises:
            LoaderError: The text is no JSON object, or a key is unknown, missing or wrong.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise LoaderError(f"param_str is not JSON ({error}): {text!r}") from None
        if not isinstance(values, dict):
            raise LoaderError(f"param_str must be a JSON object, it is {text!r}")
        fields = {field.name: field for field in dataclasses.fields(LoaderConfig)}
        types = typing.get_type_hints(LoaderConfig)
        for key, value in values.items():
            if key not in fields:
                raise LoaderError(
                    f"param_str has the unknown key {key!r}; allowed: {', '.join(fields)}"
                )
            admitted = (int, float) if types[key] is float else types[key]
            # A bool is an int for Python, but not for whoever writes a param_str.
            if not isinstance(value, admitted) or (
                isinstance(value, bool) and admitted is not bool
            ):
                raise LoaderError(
                    f"param_str: {key} is {value!r}, a {types[key].__name__} is needed"
                )
        for field in fields.values():
            if field.default is dataclasses.MISSING and field.name not in values:
                raise LoaderError(f"param_str lacks the key {field.name!r}")
        return LoaderConfig(**values)

    def to_json(self) -> str:
        """Write the `param_str` of this configuration."""
        return json.dumps(dataclasses.asdict(self))

    def shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """Return the shape of each of a batch's arrays, all float32 as Caffe's blobs are."""
        cells = self.input_size // STRIDE
        return {
            DATA_BLOB: (self.batch_size, 3, self.input_size, self.input_size),
            MASK_LABEL_BLOB: (self.batch_size, 1, cells, cells),
            HEATMAPS_BLOB: (self.batch_size, HEATMAPS, cells, cells),
        }


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


def fill(
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
    image, matrix, reduced = _image_and_map(sample, augmentation, size)
    if rng is not None and config.colours:
        image = ColourChange.draw(rng).apply(image)
    network_input(image, matrix, size, data, reduced=reduced)
    mask_label[0] = IGNORE_LABEL if mask is None else warp_mask(mask, matrix, size // STRIDE)
    heatmaps[:] = encode(
        warp_keypoints(sample.keypoints, matrix, size),
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
    matrix: np.ndarray
    reduced: int


def _image_and_map(sample: Sample, augmentation: Augmentation, size: int) -> _DecodedImage:
    """Decode the image, a JPEG no larger than the size x size input needs it."""
    jpeg_size = sample.jpeg_size()
    if jpeg_size is None:
        image = sample.image()
        return _DecodedImage(image, augmentation.matrix(image.shape[1], image.shape[0], size), 1)
    matrix = augmentation.matrix(*jpeg_size, size)
    reduced = reduction(matrix)
    return _DecodedImage(sample.image(reduced), matrix, reduced)


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
    count = None if samples.endless else len(typing.cast(typing.Sized, samples))
    for position, index in enumerate(batch_indices(config, count, iteration, rank, ranks)):
        rng = (
            np.random.default_rng((config.seed, 1, iteration, rank, position))
            if config.augment
            else None
        )
        sample = samples[index]
        fill(
            config,
            sample,
            rng,
            arrays[DATA_BLOB][position],
            arrays[MASK_LABEL_BLOB][position],
            arrays[HEATMAPS_BLOB][position],
        )
        keys.append(sample.key)
    return keys


def _slots(config: LoaderConfig, memory: Any) -> list[Arrays]:
    """Return the arrays of each slot of a shared block of float32."""
    offset, slots = 0, []
    for _ in range(config.prefetch):
        arrays = {}
        for name, shape in config.shapes().items():
            arrays[name] = np.ndarray(shape, np.float32, memory, offset)
            offset += arrays[name].nbytes
        slots.append(arrays)
    return slots


def _keep_memory() -> None:
    """Tell glibc to keep the memory that decoded pictures leave.

    To give it back and take it anew costs as much as to decode a small picture.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its most
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def _work(
    config: LoaderConfig, worker: int, rank: int, ranks: int, memory: Any, pipe: Connection
) -> None:
    """Run a worker process.

    It fills slot after slot, each after the pipe said that it is free, and ends with the pipe.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the training process's to handle
    cv2.setNumThreads(1)
    _keep_memory()
    try:
        samples = open_source(config.source)
        for turn, arrays in enumerate(itertools.cycle(_slots(config, memory))):
            pipe.recv()
            iteration = config.first_iteration + worker + turn * config.workers
            keys = fill_batch(config, samples, iteration, rank, ranks, arrays)
            pipe.send((iteration, keys, None))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the training process is gone
    except UserError as error:
        pipe.send((None, None, str(error)))
    except Exception as error:  # whatever it is, the training process must hear of it
        pipe.send((None, None, f"{type(error).__name__}: {error}"))


class Batch(NamedTuple):
    """What the net is fed with in one iteration.

    Attributes:
        arrays: float32 arrays of `LoaderConfig.shapes`, by the blob's name.
        keys: The keys of the samples.
    """

    arrays: Arrays
    keys: list[str]


class _Worker(NamedTuple):
    process: SpawnProcess
    pipe: Connection
    slots: list[Arrays]


class Loader:
    """Makes batch after batch. Use it as a context manager, or call `close`.

    Attributes:
        config: The configuration.
        rank: The number of the training process.
        ranks: The number of training processes.
        iteration: The iteration whose batch is next.
        keys: The keys of the last batch's samples.
        wait: The seconds that the last call of `next_batch` took.
    """

    def __init__(self, config: LoaderConfig, rank: int = 0, ranks: int = 1) -> None:
        """Open the source and start the workers.

        Args:
            config: The configuration.
            rank: The number of the training process, 0 to ranks - 1.
            ranks: The number of training processes.

        Raises:
            UserError: The source is missing, empty or damaged.
        """
        self.config, self.rank, self.ranks = config, rank, ranks
        self.iteration, self.wait = config.first_iteration, 0.0
        self.keys: list[str] = []
        self._workers: list[_Worker] = []
        self._pipe_of_lent_slot: Connection | None = None
        # Workers open it themselves, but a bad source is to be told before anything starts.
        self._samples = open_source(config.source)
        if config.workers:
            self._start_workers()
        else:
            self._arrays = {
                name: np.empty(shape, np.float32) for name, shape in config.shapes().items()
            }

    def _start_workers(self) -> None:
        config, context = self.config, multiprocessing.get_context("spawn")
        size = config.prefetch * sum(int(np.prod(shape)) for shape in config.shapes().values())
        for number in range(config.workers):
            memory = context.RawArray(ctypes.c_float, size)
            our_end, worker_end = context.Pipe()
            process = context.Process(
                target=_work,
                args=(config, number, self.rank, self.ranks, memory, worker_end),
                name=f"loader worker {number}",
                daemon=True,
            )
            self._workers.append(_Worker(process, our_end, _slots(config, memory)))
            process.start()
            worker_end.close()
            for _ in range(config.prefetch):
                our_end.send(None)

    def next_batch(self) -> Batch:
        """Return the next iteration's batch. Its arrays are valid until the next call.

        Raises:
            LoaderError: A worker died or met an unreadable record.
        """
        start = time.perf_counter()
        if self.config.workers:
            arrays = self._receive()
        else:
            arrays = self._arrays
            self.keys = fill_batch(
                self.config, self._samples, self.iteration, self.rank, self.ranks, arrays
            )
        self.iteration += 1
        self.wait = time.perf_counter() - start
        return Batch(arrays, self.keys)

    def _receive(self) -> Arrays:
        """Give the last batch's slot back and wait for the worker whose turn it is."""
        turn = self.iteration - self.config.first_iteration
        process, pipe, slots = self._workers[turn % self.config.workers]
        if self._pipe_of_lent_slot is not None:
            self._announce_free_slot(self._pipe_of_lent_slot)
        multiprocessing.connection.wait([pipe, process.sentinel])
        try:
            if not pipe.poll():
                raise EOFError
            iteration, keys, error = pipe.recv()
        except (EOFError, ConnectionResetError):
            process.join(timeout=5)
            raise LoaderError(
                f"{process.name} died (exit code {process.exitcode}) "
                f"before iteration {self.iteration}: was it killed, or is the memory full? "
                "Start again, training with --resume auto"
            ) from None
        if error:
            raise LoaderError(f"{process.name}, iteration {self.iteration}: {error}")
        assert iteration == self.iteration
        self.keys, self._pipe_of_lent_slot = keys, pipe
        return slots[turn // self.config.workers % self.config.prefetch]

    @staticmethod
    def _announce_free_slot(pipe: Connection) -> None:
        # A dead worker is reported when its batch is due.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            pipe.send(None)

    def close(self) -> None:
        """End the workers."""
        for process, pipe, _ in self._workers:
            pipe.close()
            process.terminate()
        for process, _, _ in self._workers:
            process.join()
        self._workers = []

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


# The loaders that were started for a data layer that Caffe has not set up yet. Caffe constructs the
# layer itself and gives it nothing but its `param_str`, so that its configuration is the only key.
_lent_loaders: dict[LoaderConfig, Loader] = {}


def lend_loader(loader: Loader) -> None:
    """Hold a running loader ready for the data layer that is set up with its configuration.

    So the loader's processes start before Caffe does (before any CUDA call), and the training
    sees the loader that feeds its net.
    """
    _lent_loaders[loader.config] = loader


def take_loader(config: LoaderConfig) -> Loader | None:
    """Take the loader that was lent for a configuration, once.

    Returns:
        The loader; None where none was lent.

    Raises:
        LoaderError: One was lent, but for another configuration.
    """
    loader = _lent_loaders.pop(config, None)
    if loader is None and _lent_loaders:
        lent = next(iter(_lent_loaders))
        raise LoaderError(f"the loader was started with {lent}, the net says {config}")
    return loader
