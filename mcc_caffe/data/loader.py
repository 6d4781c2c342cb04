"""Makes batches in worker processes, ahead of the training that uses them.

Counted from `first_iteration`, which is above 0 where a run is resumed, worker w makes the batches
w, w + workers, ... Each worker has some slots in shared memory and fills them in turn. It waits
until the training process says that the next slot is free, so it never runs far ahead. Workers are
spawned and not forked, so that they inherit no CUDA state, and they end as soon as the training
process does. The content of a batch never depends on timing (`mcc_caffe.data.batches`).
"""

import contextlib
import ctypes
import itertools
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.processes import ctrl_c_blocked, shared_memory_errors, stop_signals_deferred
from mcc_caffe.data.batches import Arrays, Batch, fill_batch
from mcc_caffe.data.loader_config import LoaderConfig, LoaderError, RecordError
from mcc_caffe.data.sources import open_source

SLOTS = 2  # the batches that each worker may be ahead


class Loader:
    """Makes batch after batch. Use it as a context manager, or call `close`.

    Attributes:
        config: The settings.
        rank: The number of the training process, from 0.
        rank_count: The number of training processes.
        iteration: The iteration of the next batch.
        keys: The keys of the samples in the last batch.
        wait: The seconds that the last call of `next_batch` took.
    """

    def __init__(self, config: LoaderConfig, rank: int = 0, rank_count: int = 1) -> None:
        """Open the source and start the workers.

        Args:
            config: The settings.
            rank: The number of the training process, 0 to rank_count - 1.
            rank_count: The number of training processes.

        Raises:
            UserError: The source is missing, empty or damaged, or there is no shared memory.
            LoaderError: This machine cannot hold the batches.
        """
        self.config, self.rank, self.rank_count = config, rank, rank_count
        self.iteration, self.wait = config.first_iteration, 0.0
        self.keys: list[str] = []
        self._workers: list[_Worker] = []
        self._pipe_of_lent_slot: Connection | None = None
        # Each worker opens the source for itself, but a bad source is reported before any starts.
        self._samples = open_source(config.source, config.seed)
        _check_memory(config)
        if config.workers:
            self._start_workers()
        else:
            self._arrays = {
                name: np.empty(shape, np.float32) for name, shape in config.shapes().items()
            }

    def _start_workers(self) -> None:
        config, context = self.config, multiprocessing.get_context("spawn")
        size = SLOTS * _floats_of_batch(config)
        for number in range(config.workers):
            with shared_memory_errors("take no loader processes (--workers 0)"):
                memory = context.RawArray(ctypes.c_float, size)
            our_end, worker_end = context.Pipe()
            process = context.Process(
                target=_work,
                args=(config, number, self.rank, self.rank_count, memory, worker_end),
                name=f"loader worker {number}",
                daemon=True,
            )
            self._workers.append(_Worker(process, our_end, _slots(config, memory)))
            with stop_signals_deferred(), ctrl_c_blocked():
                process.start()
            worker_end.close()
            for _ in range(SLOTS):
                our_end.send(None)

    def next_batch(self) -> Batch:
        """Return the next iteration's batch. Its arrays are valid until the next call.

        Raises:
            RecordError: A record cannot be used.
            LoaderError: A worker died, or something else went wrong in it.
        """
        start = time.perf_counter()
        if self.config.workers:
            arrays = self._receive()
        else:
            arrays = self._arrays
            try:
                self.keys = fill_batch(
                    self.config, self._samples, self.iteration, self.rank, self.rank_count, arrays
                )
            except UserError as error:
                failure = _Failure(str(error), isinstance(error, SampleError))
                raise failure.as_error(f"iteration {self.iteration}") from None
        self.iteration += 1
        self.wait = time.perf_counter() - start
        return Batch(arrays, self.keys)

    def _receive(self) -> Arrays:
        """Free the slot of the last batch; wait for the next batch and return its arrays."""
        turn = self.iteration - self.config.first_iteration
        process, pipe, slots = self._workers[turn % self.config.workers]
        if self._pipe_of_lent_slot is not None:
            self._announce_free_slot(self._pipe_of_lent_slot)
        multiprocessing.connection.wait([pipe, process.sentinel])
        try:
            if not pipe.poll():
                raise EOFError
            answer = pipe.recv()
        except (EOFError, ConnectionResetError):
            process.join(timeout=5)
            if process.exitcode == -signal.SIGBUS:  # a page of a file that is mapped is not there
                cause = f"was a file of {self.config.source} cut short, or is /dev/shm full?"
            else:
                cause = "was it killed, or is the memory (or /dev/shm) full?"
            raise LoaderError(
                f"{process.name} died (exit code {process.exitcode}) before iteration "
                f"{self.iteration}: {cause} Start again, training with --resume auto"
            ) from None
        if isinstance(answer, _Failure):
            raise answer.as_error(f"{process.name}, iteration {self.iteration}")
        self.keys, self._pipe_of_lent_slot = answer, pipe
        return slots[turn // self.config.workers % SLOTS]

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


# Running loaders for data layers that Caffe has not set up yet, by their settings. Caffe constructs
# such a layer itself and hands it only its `param_str`: it can find its loader by nothing else.
_lent_loaders: dict[LoaderConfig, Loader] = {}


def lend_loader(loader: Loader) -> None:
    """Keep a running loader for the data layer that will be set up with the same settings.

    So the loader's processes can start before Caffe makes its first CUDA call, and the training
    knows the loader that feeds its net.
    """
    _lent_loaders[loader.config] = loader


def take_loader(config: LoaderConfig) -> Loader | None:
    """Take the loader that `lend_loader` keeps for these settings; it is kept no longer.

    Returns:
        The loader, or None if no loader is kept.

    Raises:
        LoaderError: A loader is kept, but for other settings.
    """
    loader = _lent_loaders.pop(config, None)
    if loader is None and _lent_loaders:
        lent = next(iter(_lent_loaders))
        raise LoaderError(f"the loader was started with {lent}, the net says {config}")
    return loader


def _slots(config: LoaderConfig, memory: Any) -> list[Arrays]:
    """Divide a shared block of float32 into slots; return the arrays of each."""
    offset, slots = 0, []
    for _ in range(SLOTS):
        arrays = {}
        for name, shape in config.shapes().items():
            arrays[name] = np.ndarray(shape, np.float32, memory, offset)
            offset += arrays[name].nbytes
        slots.append(arrays)
    return slots


def _floats_of_batch(config: LoaderConfig) -> int:
    """Return the number of values in a batch."""
    return sum(math.prod(shape) for shape in config.shapes().values())


def _check_memory(config: LoaderConfig) -> None:
    """Raise LoaderError where this machine cannot hold the batches."""
    batches = max(config.workers * SLOTS, 1)
    needed = 4 * _floats_of_batch(config) * batches
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise LoaderError(
            f"{batches} batches of {config.batch_size} images at {config.input_size} pixels need "
            f"{math.ceil(needed / 2**20)} MiB, this machine has {memory >> 20}: "
            "give a smaller batch size"
        )


def _keep_memory() -> None:
    """Tell glibc to keep memory that is freed, for the next image.

    To give it back to the system and ask for it again takes as long as to decode a small image.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its most
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def _work(
    config: LoaderConfig, worker: int, rank: int, rank_count: int, memory: Any, pipe: Connection
) -> None:
    """Run a worker process: fill slot after slot until the pipe is closed.

    Each message on the pipe says that the next slot is free. The answer has the keys of the batch
    that is now in the slot, or is a `_Failure`.
    """
    cv2.setNumThreads(1)
    _keep_memory()
    try:
        samples = open_source(config.source, config.seed)
        for turn, arrays in enumerate(itertools.cycle(_slots(config, memory))):
            pipe.recv()
            iteration = config.first_iteration + worker + turn * config.workers
            pipe.send(fill_batch(config, samples, iteration, rank, rank_count, arrays))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the training process is gone
    except UserError as error:
        pipe.send(_Failure(str(error), isinstance(error, SampleError)))
    except Exception as error:  # whatever it is, the training process must hear of it
        pipe.send(_Failure(f"{type(error).__name__}: {error}"))


class _Failure(NamedTuple):
    """What ended the making of a batch.

    Attributes:
        reason: What was wrong.
        is_of_record: Whether a record was, so that to start again would not help.
    """

    reason: str
    is_of_record: bool = False

    def as_error(self, batch: str) -> LoaderError:
        """Return the error that says it; `batch` names the batch."""
        if not self.is_of_record:
            return LoaderError(f"{batch}: {self.reason}")
        return RecordError(
            f"{batch}: {self.reason}; data_tools.check lists all bad records of a set: "
            "mend them, or build the set again with --skip-bad"
        )


class _Worker(NamedTuple):
    process: SpawnProcess
    pipe: Connection
    slots: list[Arrays]
