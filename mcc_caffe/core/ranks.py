"""The processes that train together: one alone, several of this machine, or the ranks of an mpirun.

Each has the net, its own share of the samples and the same weights; they average their gradients before every update, so
that N ranks with batches of b do what one process with a batch of N x b does. Rank 0 alone writes and shows anything. It
is also the one that a signal stops: the others end when it does, or when the launcher or mpirun ends them.
"""

import multiprocessing
import os
import signal
import threading
import time

import numpy as np

from mcc_caffe.core.errors import UserError

_MPI_SIZES = (
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
)  # what Open MPI's mpirun, and MPICH's and its kin's, tell each rank
_CHUNK = 1 << 20  # float32 values that the ranks of one machine exchange at a time
_LINGER = 10.0  # seconds


class Stopped(Exception):
    """A signal asked the run to end."""


class RankLost(UserError):
    """Another rank cannot be reached any more."""

    code = 6


class StopSignal:
    """SIGINT or SIGTERM ends the run at the next `check`; a second one at once."""

    def __init__(self):
        self.asked = False

    def install(self) -> None:
        """Takes over both signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number, frame) -> None:
        self.asked = True
        signal.signal(number, signal.default_int_handler)

    def check(self, *_) -> None:
        """Raises Stopped where a signal has come."""
        if self.asked:
            raise Stopped


class Ranks:
    """One process alone; the subclasses are one of several.

    rank: its number, of `size`. local: its number among those of this machine. threads: that its BLAS may use.
    """

    rank, size, local = 0, 1, 0

    def __init__(self):
        self.stop = StopSignal()
        self.threads = len(os.sched_getaffinity(0))

    def listen(self) -> None:
        """Takes over the signals: rank 0's stop the run, the others leave it to whoever started them to end them."""
        if self.rank == 0:
            self.stop.install()

    def broadcast(self, array: np.ndarray) -> None:
        """Rank 0's array (1-D, float32) becomes every rank's."""

    def average(self, array: np.ndarray) -> None:
        """The mean over the ranks of an array (1-D, float32) becomes every rank's; raises Stopped, RankLost.

        The exchange runs in a thread of its own, so that this one hears a signal even if a rank that died never answers.
        """
        if self.size == 1:
            return
        errors = []

        def exchange():
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
                f"rank {self.rank} does not reach the others any more ({errors[0]}): go on with --resume auto"
            )

    def gather(self, value) -> list:
        """To rank 0 the list of all ranks' values, in their order; to the others None."""
        return [value]

    def finish(self) -> None:
        """Every rank's last call, where all of them came to the run's end."""


class LocalRanks(Ranks):
    """One of several processes of this machine, which exchange arrays through shared memory.

    shared: what `LocalRanks.shared` made. The memory has two halves of a slot a rank, used by turns: who writes into one
    again has passed the other's barrier, which all reach only when they have read the first.
    """

    @staticmethod
    def shared(size: int) -> tuple:
        """What `size` spawned processes share: to be made before they start, and given to each."""
        context = multiprocessing.get_context("spawn")
        return context.Barrier(size), context.RawArray("f", 2 * size * _CHUNK)

    def __init__(self, rank: int, size: int, shared: tuple):
        super().__init__()
        self.rank, self.size, self.local = rank, size, rank
        self.threads = max(self.threads // size, 1)
        self._barrier, memory = shared
        self._turn = 0
        self._halves = np.frombuffer(memory, np.float32).reshape(2, size, _CHUNK)

    def broadcast(self, array: np.ndarray) -> None:
        self._exchange(array, lambda slots, out: np.copyto(out, slots[0]))

    def _average(self, array: np.ndarray) -> None:
        self._exchange(array, lambda slots, out: slots.mean(axis=0, out=out))

    def _exchange(self, array: np.ndarray, combine) -> None:
        for start in range(0, array.size, _CHUNK):
            chunk = array[start : start + _CHUNK]
            slots = self._halves[self._turn, :, : chunk.size]
            slots[self.rank] = chunk
            self._barrier.wait()
            combine(slots, chunk)
            self._turn = 1 - self._turn


class MpiRanks(Ranks):
    """One of the ranks that mpirun started, on whatever hosts."""

    def __init__(self):
        super().__init__()
        os.environ.setdefault(
            "OMPI_MCA_mpi_yield_when_idle", "1"
        )  # who waits leaves the core to the loader's processes
        try:
            import mpi4py  # optional: the extra `mpi`

            mpi4py.rc.finalize = (
                False  # it waits for all ranks, also when this one ends on an error
            )
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise UserError(
                f"mpirun started this, but mpi4py does not work here ({error}): "
                "`pip install mpi4py` puts it into this Python; `apt-get install openmpi-bin` brings the library"
            ) from None
        self._mpi, self._comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self._comm.rank, self._comm.size
        if self.size != _mpi_size():
            raise UserError(
                f"mpirun started {_mpi_size()} ranks, but mpi4py counts {self.size}: its library ({MPI.get_vendor()[0]}) "
                "is another MPI's; start with that one's mpirun"
            )
        neighbours = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.local = neighbours.rank
        cores = set().union(
            *neighbours.allgather(os.sched_getaffinity(0))
        )  # mpirun may have bound each rank to its own
        self.threads = max(len(cores) // neighbours.size, 1)

    def listen(self) -> None:
        super().listen()
        if self.rank > 0:
            signal.signal(signal.SIGTERM, _linger)

    def share(self, value):
        """Rank 0's value, whatever the others give."""
        return self._comm.bcast(value)

    def gather(self, value) -> list:
        return self._comm.gather(value)

    def broadcast(self, array: np.ndarray) -> None:
        self._comm.Bcast(array)

    def _average(self, array: np.ndarray) -> None:
        self._comm.Allreduce(self._mpi.IN_PLACE, array)
        array /= self.size

    def finish(self) -> None:
        self._mpi.Finalize()


def _linger(*_) -> None:
    """What ranks other than 0 do on SIGTERM: each of them that ends shortens the time until mpirun kills rank 0 as well."""
    time.sleep(_LINGER)
    os._exit(128 + signal.SIGTERM)


def _mpi_size() -> int:
    """The number of ranks that mpirun started, this process being one; 0 where it is none."""
    return next((int(os.environ[name]) for name in _MPI_SIZES if name in os.environ), 0)


def started_by_mpirun() -> bool:
    """Whether this process is a rank of an mpirun."""
    return _mpi_size() > 0


def own_ranks() -> Ranks:
    """The ranks of the mpirun that started this process; else itself alone."""
    return MpiRanks() if started_by_mpirun() else Ranks()
