"""One training process: the net, its loader and the solver, stepped, logged and snapshotted."""

import ctypes
import dataclasses
import pathlib
import signal
import socket
import time

import numpy as np

from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.pycaffe import import_caffe, set_threads
from mcc_caffe.caffe_io.snapshots import SNAPSHOTS
from mcc_caffe.caffe_io.weights import load_weights
from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.heatmaps import trivial_loss
from mcc_caffe.core.ranks import RankLost, Ranks, Stopped
from mcc_caffe.data.loader import Loader, LoaderConfig, LoaderError
from mcc_caffe.paper import (
    BACKGROUND,
    HEATMAPS_BLOB,
    MASK_LOSS_BLOB,
    POSE_STAGES,
    Variant,
    stage_blob,
    stage_loss_blob,
)
from mcc_caffe.training.gradients import keep_equal
from mcc_caffe.training.log import Log


class DivergedError(UserError):
    """The loss is no number any more."""

    code = 5


@dataclasses.dataclass(frozen=True)
class Run:
    """All that a training process needs to know.

    variant: whose net this is. folder: of the run. solver: its solver prototxt, whose `snapshot` is 0: Caffe itself writes
    none. kind: solver type. loader: configuration of the data layer. max_iter: where to stop. interval: iterations a log
    line. snapshot: iterations a snapshot. weights: file to start from. resume: solver state. gpus: ids on each machine,
    one process each; empty for the CPU.
    """

    variant: Variant
    folder: pathlib.Path
    solver: pathlib.Path
    kind: str
    loader: LoaderConfig
    max_iter: int
    interval: int
    snapshot: int
    weights: pathlib.Path = None
    resume: pathlib.Path = None
    gpus: tuple = ()


def train(run: Run, ranks: Ranks) -> None:
    """Trains until `run.max_iter`, or until a signal comes, as one of `ranks`."""
    if not run.solver.is_file():
        raise UserError(
            f"{run.solver} is not on {socket.gethostname()}: the machines of an mpirun must share the run's folder and the data"
        )
    if run.gpus and ranks.local >= len(run.gpus):
        raise UserError(
            f"rank {ranks.rank} is number {ranks.local + 1} on {socket.gethostname()}, for which --gpus names {len(run.gpus)}: "
            "give as many GPUs as ranks a machine"
        )
    with Loader(
        run.loader, ranks.rank, ranks.size
    ) as loader:  # its processes start before any CUDA call
        set_threads(min(run.variant.threads or ranks.threads, ranks.threads))
        caffe = import_caffe()
        # Imports Caffe, which must come after the loader's processes and the number of threads.
        from mcc_caffe.data_layer import HandDataLayer

        if run.gpus:
            caffe.set_device(
                run.gpus[ranks.local]
            )  # before the mode, which would take memory on GPU 0 as well
            caffe.set_mode_gpu()
        else:
            caffe.set_mode_cpu()
        caffe.set_solver_count(ranks.size)
        caffe.set_solver_rank(ranks.rank)
        caffe.set_multiprocess(ranks.size > 1)
        HandDataLayer.started = loader
        solver = caffe.get_solver(str(run.solver))
        _initialise(solver, run, ranks.rank)
        kept = keep_equal(solver, ranks, bool(run.gpus))  # noqa: F841 (lives as long as the solver)
        ranks.listen()
        if not run.gpus:  # where a layer takes long, a signal is heard before the next one; weights change only after the last
            solver.net.before_forward(ranks.stop.check)
            solver.net.before_backward(ranks.stop.check)
        _loop(run, solver, loader, ranks)


def _initialise(solver, run: Run, rank: int) -> None:
    """Start values: the background bias, given weights, or a snapshot."""
    for stage in POSE_STAGES:
        if stage_blob(stage) in solver.net.params:
            solver.net.params[stage_blob(stage)][1].data[BACKGROUND] = run.variant.background_bias
    if run.weights:
        loaded = load_weights(solver.net, run.weights, complete=False)
        fresh = [name for name in solver.net.params if name not in loaded]
        if rank == 0:
            print(
                f"{run.weights}: {len(loaded)} layers loaded by name; random start: {', '.join(fresh) or 'none'}"
            )
    if run.resume:
        snapshots.restore(solver, run.kind, run.resume)
        if rank == 0:
            print(f"resumed at iteration {solver.iter} from {run.resume}")


def _loop(run: Run, solver, loader: Loader, ranks: Ranks) -> None:
    first = ranks.rank == 0
    log = Log(run.folder, solver.iter, ranks.size * run.loader.batch_size) if first else None
    folder = run.folder / SNAPSHOTS
    saved = lost = None
    with progress_bar(
        total=run.max_iter, initial=solver.iter, unit="it", disable=not first, dynamic_ncols=True
    ) as bar:
        while solver.iter < run.max_iter and not ranks.stop.asked:
            start = time.perf_counter()
            try:
                solver.step(1)
                losses, trivial = _mean_losses(solver.net, ranks)
            except (
                Stopped,
                RankLost,
                LoaderError,
            ) as error:  # the weights are as the iteration before left them
                lost = error if isinstance(error, RankLost) else None
                if first and (
                    lost or ranks.stop.asked
                ):  # a signal to the whole process group ends the loader's workers, too
                    break
                raise
            if not np.isfinite(list(losses.values())).all():
                # In a Caffe built elsewhere max pooling wrote out of bounds in the backward pass of a NaN: its memory must never be freed.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(solver))
                if not first:
                    signal.pause()  # rank 0 has the same losses: it says so, and its end is that of all
                raise DivergedError(
                    f"iteration {solver.iter}: the loss is {losses}, batch {', '.join(loader.keys)}; "
                    f"the last snapshot is {saved or snapshots.newest(folder) or 'none'}: lower base_lr and resume from it"
                )
            if not first:
                continue
            bar.update()
            log.add(solver.net, losses, trivial, time.perf_counter() - start, loader.wait)
            if solver.iter % run.interval == 0 or solver.iter == run.max_iter:
                bar.set_postfix_str(log.write(solver.iter))
            if run.snapshot and solver.iter % run.snapshot == 0:
                saved = snapshots.save(solver, folder)
        if first and log.pending:
            log.write(solver.iter)
    if first:
        final = snapshots.weights_path(folder, solver.iter)
        if not final.is_file():
            final = snapshots.save(solver, folder)
        done = "finished" if solver.iter >= run.max_iter else "stopped; go on with --resume auto"
        print(f"{done}: iteration {solver.iter} of {run.max_iter}, weights {final}", flush=True)
    if lost:
        raise lost
    if solver.iter >= run.max_iter:
        ranks.finish()


def _mean_losses(net, ranks: Ranks) -> tuple:
    """(stage_losses, the trivial answer's loss) of all ranks' batches."""
    losses = stage_losses(net)
    values = np.array([*losses.values(), trivial_loss(net.blobs[HEATMAPS_BLOB].data)], np.float32)
    ranks.average(values)
    *means, trivial = values.tolist()
    return dict(zip(losses, means)), trivial


def stage_losses(net) -> dict:
    """{loss blob: value} of a train net's losses, unweighted, in the order of the stages."""
    names = [MASK_LOSS_BLOB] + [stage_loss_blob(stage) for stage in POSE_STAGES]
    return {name: float(net.blobs[name].data) for name in names if name in net.blobs}
