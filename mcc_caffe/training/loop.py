"""The training loop of one process: net, loader and solver, stepped, logged and snapshotted.

The command `mcc_caffe.train` makes the TrainingConfig and calls `train` in one process, or in
several, which then work as `ranks`.
"""

import contextlib
import ctypes
import dataclasses
import logging
import signal
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.precision import FLOAT32, choose_precision, nets_in
from mcc_caffe.caffe_io.pycaffe import import_caffe, select_device, set_threads
from mcc_caffe.caffe_io.run_folder import PRECISION_FILE, SNAPSHOTS
from mcc_caffe.caffe_io.weights import load_weights
from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_atomically
from mcc_caffe.core.heatmaps import trivial_loss
from mcc_caffe.core.ranks import RankLost, Ranks, Stopped
from mcc_caffe.data.loader import Loader, lend_loader
from mcc_caffe.data.loader_config import LoaderConfig, LoaderError, RecordError
from mcc_caffe.paper import (
    BACKGROUND_INDEX,
    HEATMAPS_BLOB,
    MASK_LOSS_BLOB,
    POSE_STAGES,
    Variant,
    stage_blob,
    stage_loss_blob,
)
from mcc_caffe.training.gradient_exchange import install_gradient_averaging
from mcc_caffe.training.run_log import IterationStats, RunLog

# A file in the run's folder by which another rank tells rank 0 that it has met a bad record.
_BAD_RECORD = "bad-record.txt"

_log = logging.getLogger(__name__)


class DivergedError(UserError):
    """A loss became infinite or NaN."""

    code = 5


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """All that a training process needs to know.

    Attributes:
        variant: The size of the network.
        folder: The folder of the run, for its log and snapshots.
        solver: The solver prototxt. Its `snapshot` is 0, because Caffe itself would write snapshots
            that are incomplete for a moment.
        solver_type: "SGD", "Adam", ...
        loader: The configuration of the data layer.
        max_iter: The iteration at which the training ends.
        iter_size: The number of batches whose gradients Caffe adds up in an iteration.
        log_interval: The number of iterations in a log line.
        snapshot_interval: The number of iterations between snapshots; there is one at the end, too.
        weights: A file of weights to start from, None for a random start.
        resume: A .solverstate to go on from, None for a fresh start.
        gpus: Ids of the GPUs of each machine, for one process each; empty for the CPU.
        precision: What the convolutions multiply: "float32", "bfloat16", or "auto" for what each
            machine has.
    """

    variant: Variant
    folder: Path
    solver: Path
    solver_type: str
    loader: LoaderConfig
    max_iter: int
    iter_size: int
    log_interval: int
    snapshot_interval: int
    weights: Path | None = None
    resume: Path | None = None
    gpus: tuple[int, ...] = ()
    precision: str = FLOAT32

    def resolve_precision(self) -> str:
        """Return what the convolutions of this machine multiply: FLOAT32 or BFLOAT16."""
        return choose_precision(self.precision, on_gpu=bool(self.gpus))


def train(config: TrainingConfig, ranks: Ranks) -> None:
    """Train as one of `ranks` until `config.max_iter`, or until a signal comes.

    Raises:
        UserError: A file is missing or does not fit, or there are too few GPUs.
        LoaderError: The data cannot be read; rank 0 has taken a snapshot.
        DivergedError: The loss is not finite any more.
        RankLost: Another rank died; rank 0 has taken a snapshot.
    """
    _check_machine(config, ranks)
    # The loader's processes start before any CUDA call, because they must not share its state.
    with Loader(config.loader, ranks.rank, ranks.size) as loader:
        precision = config.resolve_precision()  # of this machine: those of an mpirun may differ
        solver = _make_solver(config, ranks, loader, precision)
        _set_start_values(solver, config, ranks)
        _Loop(config, ranks, solver, loader, precision).run()


def _check_machine(config: TrainingConfig, ranks: Ranks) -> None:
    """Raise UserError where this machine lacks the run's folder or a GPU for this rank."""
    host = socket.gethostname()
    if not config.solver.is_file():
        raise UserError(
            f"{config.solver} is not on {host}: "
            "the machines of an mpirun must share the run's folder and the data"
        )
    if config.gpus and ranks.local_rank >= len(config.gpus):
        raise UserError(
            f"rank {ranks.rank} is number {ranks.local_rank + 1} on {host}, for which --gpus names "
            f"{len(config.gpus)}: give as many GPUs as ranks a machine"
        )


def _make_solver(config: TrainingConfig, ranks: Ranks, loader: Loader, precision: str) -> Any:
    """Load Caffe for this rank and make its solver, whose net takes its batches from `loader`."""
    set_threads(ranks.threads)
    caffe = import_caffe()
    select_device(config.gpus[ranks.local_rank] if config.gpus else None)
    caffe.set_solver_count(ranks.size)
    caffe.set_solver_rank(ranks.rank)
    caffe.set_multiprocess(ranks.size > 1)
    lend_loader(loader)
    with nets_in(precision):
        return caffe.get_solver(str(config.solver))


def _set_start_values(solver: Any, config: TrainingConfig, ranks: Ranks) -> None:
    """Set the background's bias, then load the given weights or snapshot."""
    for stage in POSE_STAGES:
        if stage_blob(stage) in solver.net.params:
            bias = solver.net.params[stage_blob(stage)][1].data
            bias[BACKGROUND_INDEX] = config.variant.background_bias
    if config.weights:
        loaded = load_weights(solver.net, config.weights, complete=False)
        random = [name for name in solver.net.params if name not in loaded]
        if ranks.rank == 0:
            _log.info(
                "%s: %d layers loaded by name; random start: %s",
                config.weights,
                len(loaded),
                ", ".join(random) or "none",
            )
    if config.resume:
        snapshots.restore(solver, config.solver_type, config.resume)
        if ranks.rank == 0:
            _log.info("resumed at iteration %d from %s", solver.iter, config.resume)


def _listen_for_signals(solver: Any, config: TrainingConfig, ranks: Ranks) -> None:
    """Make rank 0 stop at a signal: at the end of an iteration or, on the CPU, of a layer.

    A layer may take long on the CPU. Stopping between two layers is safe, because the weights
    change only after the last one.
    """
    ranks.listen()
    if not config.gpus:
        solver.net.before_forward(ranks.stop.check)
        solver.net.before_backward(ranks.stop.check)


class _BatchStats(NamedTuple):
    """What the log says of one of the batches that this rank has in an iteration.

    Attributes:
        keys: The keys of its samples.
        losses: {loss blob: unweighted loss}.
        trivial_loss: The loss that a pose stage would have with the trivial answer.
        data_wait: The time in seconds for which the training waited for the batch.
    """

    keys: list[str]
    losses: dict[str, float]
    trivial_loss: float
    data_wait: float


class _Loop:
    """Steps the solver of this rank; in rank 0 it also writes the log and the snapshots."""

    def __init__(
        self, config: TrainingConfig, ranks: Ranks, solver: Any, loader: Loader, precision: str
    ):
        self.config, self.ranks, self.solver, self.loader = config, ranks, solver, loader
        self.precision = precision
        self.is_rank_0 = ranks.rank == 0
        self.bad_record = config.folder / _BAD_RECORD
        if self.is_rank_0:  # before the first exchange, after which another rank may write it
            self.bad_record.unlink(missing_ok=True)
        # Kept here, because it must live as long as the solver works.
        self.exchange = install_gradient_averaging(solver, ranks, on_gpus=bool(config.gpus))
        self.snapshot_folder = config.folder / SNAPSHOTS
        self.first_iteration = solver.iter
        self.last_weights: Path | None = None  # of the newest snapshot that this run took
        self.log: RunLog | None = None
        self.batches: list[_BatchStats] = []  # of the current iteration
        self.last_layer = len(solver.net.layers) - 1
        solver.net.after_forward(self._note_batch)
        if self.is_rank_0:
            snapshots.check_room(solver, self.snapshot_folder)
            self.log = RunLog(
                config.folder,
                iteration=solver.iter,
                images=ranks.size * config.loader.batch_size * config.iter_size,
                loss_weights=solver.net.blob_loss_weights,
            )

    def run(self) -> None:
        """Step until the end of the training, a signal, bad data, or the loss of a rank."""
        config, ranks, solver = self.config, self.ranks, self.solver
        _listen_for_signals(solver, config, ranks)
        failure: Exception | None = None
        with progress_bar(
            total=config.max_iter,
            initial=solver.iter,
            unit="it",
            disable=not self.is_rank_0,
            dynamic_ncols=True,
        ) as bar:
            while solver.iter < config.max_iter and not ranks.stop.received:
                try:
                    stats = self._step()
                except (Stopped, RankLost, LoaderError) as error:
                    # A snapshot can be taken, because the weights are as the iteration before left
                    # them.
                    failure = self._failure(error)
                    nothing_learnt = failure and solver.iter == self.first_iteration
                    if nothing_learnt or not self.is_rank_0:
                        raise (failure or error) from None
                    break
                self._check_finite(stats.losses)
                self._record(stats, bar)
        self._finish(failure)
        if failure:
            raise failure
        if solver.iter >= config.max_iter:
            ranks.finish()

    def _failure(self, error: Exception) -> Exception | None:
        """Return the failure that an iteration's error stands for; None where a signal came."""
        if isinstance(error, RecordError) and not self.is_rank_0:
            with contextlib.suppress(OSError):  # a machine may only read the run's folder
                self.bad_record.write_text(str(error))
        if isinstance(error, RankLost) and self.is_rank_0 and self.bad_record.exists():
            return RecordError(self.bad_record.read_text())
        # A signal to the whole process group ends the loader's workers, too, so that a LoaderError
        # is no failure then.
        return error if isinstance(error, RankLost) or not self.ranks.stop.received else None

    def _step(self) -> IterationStats:
        """Do one iteration; return its losses as means over all ranks' batches."""
        start = time.perf_counter()
        self.batches.clear()
        self.solver.step(1)
        rows = [[*batch.losses.values(), batch.trivial_loss] for batch in self.batches]
        means = np.mean(rows, axis=0).astype(np.float32)
        self.ranks.average(means)
        *mean_losses, mean_trivial_loss = means.tolist()
        return IterationStats(
            losses=dict(zip(self.batches[0].losses, mean_losses)),
            trivial_loss=mean_trivial_loss,
            seconds=time.perf_counter() - start,
            data_wait=sum(batch.data_wait for batch in self.batches),
        )

    def _note_batch(self, layer: int) -> None:
        """Keep what the log says of a batch; Caffe calls this after each layer's forward pass."""
        if layer != self.last_layer:
            return
        net = self.solver.net
        trivial = trivial_loss(net.blobs[HEATMAPS_BLOB].data)
        self.batches.append(
            _BatchStats(self.loader.keys, stage_losses(net), trivial, self.loader.wait)
        )

    def _check_finite(self, losses: dict[str, float]) -> None:
        """Raise DivergedError where a loss is infinite or NaN."""
        if _are_finite(losses):
            return
        # In a Caffe built elsewhere max pooling wrote out of bounds in the backward pass of a NaN.
        # The damaged memory must never be freed, so the solver gets a reference that never goes.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.solver))
        keys = [
            key for batch in self.batches if not _are_finite(batch.losses) for key in batch.keys
        ]
        batch = f"batch {', '.join(keys)}" if keys else "of another rank's batch, named above"
        if not self.is_rank_0 and keys:
            _log.error(
                "rank %d, iteration %d: no finite loss, %s",
                self.ranks.rank,
                self.solver.iter,
                batch,
            )
        with contextlib.suppress(Stopped, RankLost):
            self.ranks.average(np.zeros(1, np.float32))  # so rank 0 comes after what others say
        if not self.is_rank_0:
            signal.pause()  # rank 0 has the same losses: it says so, and its end is that of all
        advice = "there is no snapshot yet: lower base_lr and start again"
        if newest := snapshots.newest(self.snapshot_folder):
            advice = f"the last snapshot is {newest.path}: lower base_lr and resume from it"
        raise DivergedError(
            f"iteration {self.solver.iter}: the loss is {losses}, {batch}; {advice}"
        )

    def _record(self, stats: IterationStats, bar: tqdm) -> None:
        """Show the iteration; write a log line and a snapshot where they are due (rank 0)."""
        if self.log is None:
            return
        iteration, config = self.solver.iter, self.config
        bar.update()
        self.log.add(stats)
        if iteration % config.log_interval == 0 or iteration == config.max_iter:
            bar.set_postfix_str(self.log.write(iteration))
        if iteration % config.snapshot_interval == 0:
            self.last_weights = self._save()

    def _save(self) -> Path:
        """Write a snapshot, and the precision of its iterations; return the path of its weights."""
        weights = snapshots.save(self.solver, self.config.solver_type, self.snapshot_folder)
        if self.solver.iter > self.first_iteration:  # else it is as the run before left it
            write_atomically(self.config.folder / PRECISION_FILE, f"{self.precision}\n".encode())
        return weights

    def _finish(self, failure: Exception | None) -> None:
        """Write the rest of the log and the last snapshot, and say how the run ended (rank 0).

        Args:
            failure: What ended the run; None where nothing failed.
        """
        if self.log is None:
            return
        iteration, max_iter = self.solver.iter, self.config.max_iter
        if self.log.pending:
            self.log.write(iteration)
        weights = snapshots.weights_path(self.snapshot_folder, iteration)
        if weights != self.last_weights:  # a file of that name may be an earlier run's
            weights = self._save()
        if iteration >= max_iter:
            ending = "finished"
        elif isinstance(failure, RecordError) or self.bad_record.exists():
            ending = "stopped"  # a resumed run would meet the same record
        else:
            ending = "stopped; go on with --resume auto"
        self.bad_record.unlink(missing_ok=True)
        print(f"{ending}: iteration {iteration} of {max_iter}, weights {weights}", flush=True)


def _are_finite(losses: dict[str, float]) -> bool:
    """Tell whether no loss is infinite or NaN."""
    return bool(np.isfinite(list(losses.values())).all())


def stage_losses(net: Any) -> dict[str, float]:
    """Return {loss blob: unweighted loss} of a train net, in the order of the stages."""
    names = [MASK_LOSS_BLOB] + [stage_loss_blob(stage) for stage in POSE_STAGES]
    return {name: float(net.blobs[name].data) for name in names if name in net.blobs}
