"""Groups of processes that work together: one alone, some of this machine, or an mpirun's ranks.

In a training each has the net, its own share of the samples and the same weights. They average
their gradients before every update, so that N ranks with batches of b do what one process with a
batch of N x b does. Only rank 0 writes files and shows anything. It is also the one that a signal
stops: the others end when it does, or when `training.launcher` or mpirun ends them.

Why LocalRanks, when mpirun can start several ranks on one machine as well: it needs nothing that
is not installed (mpirun and mpi4py are optional), it names the rank that died and how, and a stop
by a signal ends with exit code 0 instead of mpirun's 1.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.processes import shared_memory_errors, start_resource_tracker, stop_signals
from mcc_caffe.core.start import raise_terminated

Value = TypeVar("Value")

# How Open MPI's mpirun, and MPICH's and its relatives', tell each rank how many there are.
_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_CHUNK = 1 << 20  # float32 values that the ranks of one machine exchange at a time
_LINGER_SECONDS = 10.0

# What `training.launcher` sends to rank 0 when the user's second signal comes.
STOP_AT_ONCE = signal.SIGUSR1


class Stopped(Exception):
    """A signal asked the run to end."""


class RankLost(UserError):
    """Another rank cannot be reached any more."""

    code = 6


class StopSignal:
    """Records a stop signal; `check` then raises Stopped.

    Attributes:
        received: Whether a signal has come.
    """

    def __init__(self) -> None:
        self.received = False
        self._again_ends_at_once = True

    def install(self, at_once: signal.Signals | None = None) -> None:
        """Take over the signals.

        Args:
            at_once: The signal that raises KeyboardInterrupt wherever the run is; None: the second
                of the same kind does. A launcher that counts the user's signals itself needs one,
                because the same SIGTERM reaches its ranks twice where it goes to all processes.
        """
        for number in stop_signals():
            signal.signal(number, self._receive)
        if at_once:
            self._again_ends_at_once = False
            signal.signal(at_once, signal.default_int_handler)

    def _receive(self, number: int, frame: Any) -> None:
        self.received = True
        # A closed terminal sends SIGHUP twice: the system does and the shell.
        if self._again_ends_at_once and number != signal.SIGHUP:
            by_ctrl_c = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if by_ctrl_c else raise_terminated)

    def check(self, *_: Any) -> None:
        """Raise Stopped where a signal has come. Takes any arguments, as a callback of Caffe's."""
        if self.received:
            raise Stopped


class Ranks:
    """This process's view of the group of processes that train together; here a group of one.

    Attributes:
        rank: The number of this process, 0 to size - 1.
        size: The number of processes.
        local_rank: The number of this process among those of this machine.
        threads: The number of threads that the BLAS of this process may use.
        stop: The signal handler; `stop.received` tells whether a signal has come.
    """

    rank, size, local_rank = 0, 1, 0

    def __init__(self) -> None:
        self.stop = StopSignal()
        self.threads = len(os.sched_getaffinity(0))

    def listen(self) -> None:
        """Take over the signals in rank 0; whoever started the other ranks ends them."""
        if self.rank == 0:
            self.stop.install()

    def broadcast(self, array: np.ndarray) -> None:
        """Overwrite every rank's array (1-D, float32) with rank 0's."""

    def average(self, array: np.ndarray) -> None:
        """Overwrite every rank's array (1-D, float32) with the mean over the ranks.

        The exchange runs in a thread of its own, so that this one hears a signal even if a rank
        that died never answers.

        Raises:
            Stopped: A signal came meanwhile.
            RankLost: Another rank does not answer.
        """
        if self.size == 1:
            return
        errors = []

        def exchange() -> None:
            try:
                self._average(array)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=exchange, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.05)
            if thread.is_alive():
                self.stop.check()
        if errors:
            raise RankLost(
                f"rank {self.rank} does not reach the others any more ({errors[0]}): "
                "go on with --resume auto"
            )

    def _average(self, array: np.ndarray) -> None:
        """Do the exchange of `average`."""
        raise NotImplementedError

    def gather(self, value: Value) -> list[Value]:
        """Collect a value of every rank.

        Returns:
            In rank 0 the values of all ranks in their order, in the other ranks an empty list.
        """
        return [value]

    def finish(self) -> None:
        """End the work together. Every rank calls this last, where all reached the end."""


class SharedMemory(NamedTuple):
    """What the processes of one machine share.

    Attributes:
        barrier: The barrier at which all ranks wait for each other.
        slots: float32 values in two halves, each with a slot of _CHUNK values for every rank.
    """

    barrier: Barrier
    slots: Any


class LocalRanks(Ranks):
    """One of several processes of this machine, which exchange arrays through shared memory.

    The two halves of the memory alternate. A rank may overwrite a half only after passing the other
    half's barrier, which no rank reaches before it has read the first half.
    """

    @staticmethod
    def shared(size: int) -> SharedMemory:
        """Make what `size` spawned processes share; each gets it when it is started.

        Raises:
            UserError: This system has no shared memory.
        """
        start_resource_tracker()
        context = multiprocessing.get_context("spawn")
        with shared_memory_errors("train with one process"):
            return SharedMemory(context.Barrier(size), context.RawArray("f", 2 * size * _CHUNK))

    def __init__(self, rank: int, size: int, shared: SharedMemory):
        """Join the ranks.

        Args:
            rank: The number of this process.
            size: The number of processes.
            shared: What `LocalRanks.shared` returned before the processes were started.
        """
        super().__init__()
        self.rank, self.size, self.local_rank = rank, size, rank
        self.threads = max(self.threads // size, 1)
        self._barrier = shared.barrier
        self._halves = np.frombuffer(shared.slots, np.float32).reshape(2, size, _CHUNK)
        self._half = 0

    def listen(self) -> None:
        if self.rank == 0:
            self.stop.install(at_once=STOP_AT_ONCE)

    def broadcast(self, array: np.ndarray) -> None:
        self._exchange(array, lambda slots, out: np.copyto(out, slots[0]))

    def _average(self, array: np.ndarray) -> None:
        self._exchange(array, lambda slots, out: slots.mean(axis=0, out=out))

    def gather(self, value: Value) -> list[Value]:
        raise NotImplementedError("the shared memory holds float32 values alone")

    def _exchange(
        self, array: np.ndarray, combine: Callable[[np.ndarray, np.ndarray], object]
    ) -> None:
        """Share the array chunk by chunk; combine(all ranks' chunks, own chunk) overwrites it."""
        for start in range(0, array.size, _CHUNK):
            chunk = array[start : start + _CHUNK]
            slots = self._halves[self._half, :, : chunk.size]
            slots[self.rank] = chunk
            self._barrier.wait()
            combine(slots, chunk)
            self._half = 1 - self._half


class MpiRanks(Ranks):
    """One of the ranks that mpirun started, on whatever hosts."""

    def __init__(self) -> None:
        """Join the ranks.

        Raises:
            UserError: mpi4py is missing, broken, or belongs to another MPI than mpirun.
        """
        super().__init__()
        # A rank that waits leaves its core to the loader's processes.
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
        try:
            import mpi4py  # optional: the extra `mpi`

            # Finalize waits for all ranks, also when this one ends on an error.
            mpi4py.rc.finalize = False
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise UserError(
                f"mpirun started this, but mpi4py does not work here ({error}): "
                "`pip install mpi4py` puts it into this Python; "
                "`apt-get install openmpi-bin` brings the library"
            ) from None
        self._mpi, self._comm = MPI, MPI.COMM_WORLD
        # A rank that waits in MPI runs no handler of Python's. mpirun ends its ranks by SIGTERM,
        # and a closed terminal by SIGHUP: both have to end the process by themselves.
        for number in stop_signals():
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
        self.rank, self.size = self._comm.rank, self._comm.size
        if self.size != _mpi_size():
            raise UserError(
                f"mpirun started {_mpi_size()} ranks, but mpi4py counts {self.size}: its library "
                f"({MPI.get_vendor()[0]}) is another MPI's; start with that one's mpirun"
            )
        neighbours = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank = neighbours.rank
        # mpirun may have bound each rank to cores of its own.
        cores = set().union(*neighbours.allgather(os.sched_getaffinity(0)))
        self.threads = max(len(cores) // neighbours.size, 1)

    def listen(self) -> None:
        super().listen()
        if self.rank > 0:
            signal.signal(signal.SIGTERM, _linger)

    def share(self, value: Value | None) -> Value:
        """Return rank 0's value in every rank; the others' values do not count."""
        return self._comm.bcast(value)

    def gather(self, value: Value) -> list[Value]:
        return self._comm.gather(value) or []

    def broadcast(self, array: np.ndarray) -> None:
        self._comm.Bcast(array)

    def _average(self, array: np.ndarray) -> None:
        self._comm.Allreduce(self._mpi.IN_PLACE, array)
        array /= self.size

    def finish(self) -> None:
        self._mpi.Finalize()


def _linger(*_: Any) -> None:
    """Wait before a rank other than 0 ends on SIGTERM.

    Each rank that ends shortens the time until mpirun kills rank 0, which writes the snapshot.
    """
    time.sleep(_LINGER_SECONDS)
    os._exit(128 + signal.SIGTERM)


def _mpi_size() -> int:
    """Return how many ranks the mpirun that started this process has; 0 where none started it."""
    return next((int(os.environ[name]) for name in _MPI_SIZES if name in os.environ), 0)


def started_by_mpirun() -> bool:
    """Tell whether this process is a rank of an mpirun."""
    return _mpi_size() > 0


def own_ranks() -> Ranks:
    """Return the ranks of the mpirun that started this process; else this process alone."""
    return MpiRanks() if started_by_mpirun() else Ranks()
