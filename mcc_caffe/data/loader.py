"""Batches of augmented samples, made by worker processes ahead of the training that uses them.

What a batch holds is decided by (seed, iteration, rank, place in the batch) alone, never by timing: a resumed run sees
what an uninterrupted one would have seen. Over one epoch the ranks take disjoint samples and together cover the set.

Worker w makes the batches of iterations w, w + workers, ...; each worker owns a ring of shared-memory slots and fills
the next only when told that one is free, which bounds how far it runs ahead. Workers are spawned, not forked, so they
inherit no CUDA state, and they end as soon as the process that started them does.
"""

import ctypes
import dataclasses
import functools
import itertools
import json
import multiprocessing
import multiprocessing.connection
import signal
import time

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
from mcc_caffe.data.samples import Sample, SampleSet
from mcc_caffe.data.sources import open_source
from mcc_caffe.paper import BACKGROUND_MAX, BACKGROUND_SUM, HEATMAPS, IGNORE_LABEL, STRIDE, Variant


class LoaderError(UserError):
    """The loader cannot go on: a worker died, a record is unreadable, a setting is wrong."""

    code = 4


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """What the data layer is told, in its `param_str` as JSON.

    source: LMDB set, or synth:... (see samples.open_source). batch_size: samples. input_size: m, pixels. sigma: of the
    heatmaps' Gaussians, cells. background: BACKGROUND_SUM or BACKGROUND_MAX. augment: draw 3.3's augmentation, else
    letterbox only. smallest_window, largest_window: each hand is seen in a square whose side is drawn between these multiples of its
    keypoints' box, instead of in the whole picture; 0: the whole picture, as the paper has it. colours: draw other colours and
    sharpness, too. shuffle: a new order each epoch, else the set's own. seed: of order and augmentation. first_iteration:
    where to begin (a resumed run). workers: processes, 0 works in the caller. prefetch: batches ahead, per worker.
    """

    source: str
    batch_size: int
    input_size: int
    sigma: float
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

    def __post_init__(self):
        for key in ("batch_size", "prefetch", "sigma"):
            if getattr(self, key) <= 0:
                raise LoaderError(f"param_str: {key} is {getattr(self, key)}, it must be above 0")
        for key in ("seed", "first_iteration", "workers"):
            if getattr(self, key) < 0:
                raise LoaderError(f"param_str: {key} is {getattr(self, key)}, it must be 0 or more")
        if self.background not in (BACKGROUND_SUM, BACKGROUND_MAX):
            raise LoaderError(
                f"param_str: background is {self.background!r}, it must be {BACKGROUND_SUM!r} or {BACKGROUND_MAX!r}"
            )
        if self.input_size < STRIDE or self.input_size % STRIDE:
            raise LoaderError(
                f"param_str: input_size is {self.input_size}, it must be a multiple of {STRIDE}"
            )

    @staticmethod
    def of(variant: Variant, source: str, **settings) -> "LoaderConfig":
        """The configuration that trains a variant on `source`; settings: other values than the variant's and the defaults."""
        own = {
            "batch_size": variant.batch_size,
            "input_size": variant.input_size,
            "sigma": variant.sigma,
            "background": variant.background,
        }
        return LoaderConfig(source, **{**own, **settings})

    @staticmethod
    def from_json(text: str) -> "LoaderConfig":
        """Reads a `param_str`; LoaderError names an unknown, missing or wrong key."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise LoaderError(f"param_str is not JSON ({error}): {text!r}") from None
        if not isinstance(values, dict):
            raise LoaderError(f"param_str must be a JSON object, it is {text!r}")
        fields = {field.name: field for field in dataclasses.fields(LoaderConfig)}
        for key, value in values.items():
            if key not in fields:
                raise LoaderError(
                    f"param_str has the unknown key {key!r}; allowed: {', '.join(fields)}"
                )
            wanted = fields[key].type
            if not isinstance(value, (int, float) if wanted is float else wanted) or (
                isinstance(value, bool) and wanted is not bool
            ):
                raise LoaderError(f"param_str: {key} is {value!r}, a {wanted.__name__} is needed")
        for field in fields.values():
            if field.default is dataclasses.MISSING and field.name not in values:
                raise LoaderError(f"param_str lacks the key {field.name!r}")
        return LoaderConfig(**values)

    def to_json(self) -> str:
        """The `param_str` of this configuration."""
        return json.dumps(dataclasses.asdict(self))

    def shapes(self) -> dict:
        """Shapes of a batch's arrays: image input, mask label, heatmaps (all float32, as Caffe's blobs are)."""
        cells = self.input_size // STRIDE
        return {
            "data": (self.batch_size, 3, self.input_size, self.input_size),
            "mask_label": (self.batch_size, 1, cells, cells),
            "heatmaps": (self.batch_size, HEATMAPS, cells, cells),
        }


def indices(config: LoaderConfig, count: int, iteration: int, rank: int, ranks: int) -> np.ndarray:
    """Places in a set of `count` samples of one batch: rank r takes the r-th run of the iteration's batch_size x ranks.

    An endless set (count None) is taken as it comes.
    """
    first = (iteration * ranks + rank) * config.batch_size
    if count is None:
        return np.arange(first, first + config.batch_size)
    epochs, places = np.divmod(np.arange(first, first + config.batch_size), count)
    if not config.shuffle:
        return places
    return np.array(
        [_order(config.seed, epoch, count)[place] for epoch, place in zip(epochs.tolist(), places)]
    )


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of an epoch; a batch may reach into a second one."""
    return np.random.default_rng((seed, 0, epoch)).permutation(count)


def fill(config: LoaderConfig, sample: Sample, rng, data, mask_label, heatmaps) -> None:
    """Writes one sample's network input (3, m, m), mask label (1, m/8, m/8) and heatmaps (22, m/8, m/8) into the arrays.

    `rng` draws the augmentation; None only letterboxes.
    """
    mask, size = sample.mask(), config.input_size
    drawn = Augmentation() if rng is None else _draw(config, sample, rng)
    image, matrix, reduced = _image_and_map(sample, drawn, size)
    if rng is not None and config.colours:
        image = ColourChange.draw(rng).apply(image)
    network_input(image, matrix, size, data, reduced)
    mask_label[0] = IGNORE_LABEL if mask is None else warp_mask(mask, matrix, size // STRIDE)
    heatmaps[:] = encode(
        warp_keypoints(sample.keypoints, matrix, size),
        size // STRIDE,
        config.sigma,
        config.background,
    )


def _draw(config: LoaderConfig, sample: Sample, rng) -> Augmentation:
    """The augmentation of one sample; where a window is drawn, its side takes the place of 3.3's scale."""
    drawn = Augmentation.draw(rng)
    if config.largest_window:
        window = draw_window(rng, sample.keypoints, config.smallest_window, config.largest_window)
        if window is not None:
            drawn = dataclasses.replace(drawn, scale=1.0, window=window)
    return drawn


def _image_and_map(sample: Sample, drawn: Augmentation, size: int) -> tuple:
    """(image, map of the whole image into the size x size input, how often the image was reduced): JPEGs no larger than needed."""
    known = sample.jpeg_size()
    if known is None:
        image = sample.image()
        return image, drawn.matrix(image.shape[1], image.shape[0], size), 1
    matrix = drawn.matrix(*known, size)
    return sample.image(reduction(matrix)), matrix, reduction(matrix)


def fill_batch(
    config: LoaderConfig, samples: SampleSet, iteration: int, rank: int, ranks: int, arrays: dict
) -> list:
    """Writes the batch of `iteration` into `arrays` (of config.shapes()); returns its samples' keys."""
    keys = []
    count = None if samples.endless else len(samples)
    for place, index in enumerate(indices(config, count, iteration, rank, ranks)):
        rng = (
            np.random.default_rng((config.seed, 1, iteration, rank, place))
            if config.augment
            else None
        )
        sample = samples[index]
        fill(config, sample, rng, *(array[place] for array in arrays.values()))
        keys.append(sample.key)
    return keys


def _slots(config: LoaderConfig, memory) -> list:
    """The arrays of each slot of a shared block of float32."""
    offset, slots = 0, []
    for _ in range(config.prefetch):
        arrays = {}
        for name, shape in config.shapes().items():
            arrays[name] = np.ndarray(shape, np.float32, memory, offset)
            offset += arrays[name].nbytes
        slots.append(arrays)
    return slots


def _keep_memory() -> None:
    """Tells glibc to keep what decoded pictures leave: to give it back and take it anew costs as much as to decode a small one."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its most
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def _work(config: LoaderConfig, worker: int, rank: int, ranks: int, memory, pipe) -> None:
    """A worker process: fills slot after slot, each after a free one was announced; ends when the pipe does."""
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


class Loader:
    """Iterates over batches: `next_batch()` returns (arrays of config.shapes(), keys), valid until the next call.

    `wait` is the time in seconds that the last call had to wait, `keys` the last batch's sample keys. Use as a context
    manager, or call `close()`.
    """

    def __init__(self, config: LoaderConfig, rank: int = 0, ranks: int = 1):
        self.config, self.rank, self.ranks = config, rank, ranks
        self.iteration, self.wait, self.keys = config.first_iteration, 0.0, []
        self._workers, self._lent = [], None
        self._samples = open_source(
            config.source
        )  # a missing or empty set is told here, before anything starts
        if config.workers:
            self._start()
        else:
            self._arrays = {
                name: np.empty(shape, np.float32) for name, shape in config.shapes().items()
            }

    def _start(self) -> None:
        config, context = self.config, multiprocessing.get_context("spawn")
        size = config.prefetch * sum(int(np.prod(shape)) for shape in config.shapes().values())
        for worker in range(config.workers):
            memory = context.RawArray(ctypes.c_float, size)
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work,
                args=(config, worker, self.rank, self.ranks, memory, theirs),
                name=f"loader worker {worker}",
                daemon=True,
            )
            self._workers.append((process, ours, _slots(config, memory)))
            process.start()
            theirs.close()
            for _ in range(config.prefetch):
                ours.send(None)

    def next_batch(self) -> tuple:
        """The next iteration's batch; LoaderError when a worker died or met an unreadable record."""
        start = time.perf_counter()
        if not self.config.workers:
            self.keys = fill_batch(
                self.config, self._samples, self.iteration, self.rank, self.ranks, self._arrays
            )
            arrays = self._arrays
        else:
            arrays = self._receive()
        self.iteration += 1
        self.wait = time.perf_counter() - start
        return arrays, self.keys

    def _receive(self) -> dict:
        turn = self.iteration - self.config.first_iteration
        process, pipe, slots = self._workers[turn % self.config.workers]
        if self._lent is not None:
            self._free(self._lent)
        multiprocessing.connection.wait([pipe, process.sentinel])
        try:
            if not pipe.poll():
                raise EOFError
            iteration, keys, error = pipe.recv()
        except (EOFError, ConnectionResetError):
            process.join(timeout=5)
            raise LoaderError(
                f"{process.name} died (exit code {process.exitcode}) before iteration {self.iteration}: "
                "was it killed, or is the memory full? Start again, training with --resume auto"
            ) from None
        if error:
            raise LoaderError(f"{process.name}, iteration {self.iteration}: {error}")
        assert iteration == self.iteration
        self.keys, self._lent = keys, pipe
        return slots[turn // self.config.workers % self.config.prefetch]

    @staticmethod
    def _free(pipe) -> None:
        try:
            pipe.send(None)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a dead worker is reported when its batch is due

    def close(self) -> None:
        """Ends the workers."""
        for process, pipe, _ in self._workers:
            pipe.close()
            process.terminate()
        for process, _, _ in self._workers:
            process.join()
        self._workers = []

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_) -> None:
        self.close()
