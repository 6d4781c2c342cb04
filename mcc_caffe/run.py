"""One training process: the net, its loader and the solver, stepped, logged and snapshotted."""
import ctypes
import dataclasses
import json
import os
import pathlib
import signal
import time

import numpy as np
from tqdm import tqdm

from mcc_caffe import snapshots
from mcc_caffe.errors import UserError
from mcc_caffe.files import write_whole
from mcc_caffe.heatmaps import trivial_loss
from mcc_caffe.loader import Loader, LoaderConfig
from mcc_caffe.paper import BACKGROUND, HEATMAPS_BLOB, MASK_LOSS_BLOB, STAGES, Variant, stage_blob, stage_loss_blob
from mcc_caffe.pycaffe import import_caffe
from mcc_caffe.weights import load_weights

LOG = "log.jsonl"
SNAPSHOTS = "snapshots"


class DivergedError(UserError):
    """The loss is no number any more."""

    code = 5


@dataclasses.dataclass(frozen=True)
class Run:
    """All that a training process needs to know.

    variant: whose net this is. folder: of the run. solver: its solver prototxt, whose `snapshot` is 0: Caffe itself writes
    none. kind: solver type. loader: configuration of the data layer. max_iter: where to stop. interval: iterations a log
    line. snapshot: iterations a snapshot. weights: file to start from. resume: solver state. gpus: ids, one process each; empty for the
    CPU.
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


class StopSignal:
    """Ctrl-C or SIGTERM ends the run after the iteration at hand; a second one at once.

    `last`, a multiprocessing.Value, is the iteration to stop at: shared by the ranks, so that all of them do the same
    number of iterations.
    """

    def __init__(self, last, ranks: int):
        self.last, self._ahead = last, 1 if ranks == 1 else 2  # another rank can be one iteration further

    def install(self, current) -> None:
        """Takes over SIGINT and SIGTERM; `current()` is the iteration at hand."""

        def stop(number, frame):
            self.last.value = min(self.last.value, current() + self._ahead)
            signal.signal(number, signal.default_int_handler)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)


def train(run: Run, last, rank: int = 0, uid=None) -> None:
    """Trains until `run.max_iter`, or to `last.value` where a signal lowered it. `uid` joins the ranks of several GPUs."""
    ranks = max(len(run.gpus), 1)
    with Loader(run.loader, rank, ranks) as loader:  # its processes start before any CUDA call
        if run.variant.blas_threads:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", str(run.variant.blas_threads))  # read when Caffe is loaded
        caffe = import_caffe()
        from mcc_caffe.data_layer import HandDataLayer

        if run.gpus:
            caffe.set_mode_gpu()
            caffe.set_device(run.gpus[rank])
        else:
            caffe.set_mode_cpu()
        caffe.set_solver_count(ranks)
        caffe.set_solver_rank(rank)
        caffe.set_multiprocess(ranks > 1)
        HandDataLayer.started = loader
        solver = caffe.get_solver(str(run.solver))
        _initialise(solver, run, rank)
        if ranks > 1:
            nccl = caffe.NCCL(solver, uid)
            nccl.bcast()
            solver.add_callback(nccl)
            if solver.param.layer_wise_reduce:  # Caffe's default: gradients are summed layer by layer, by this callback
                solver.net.after_backward(nccl)
        stop = StopSignal(last, ranks)
        if rank == 0:
            stop.install(lambda: solver.iter)
        else:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        _loop(run, solver, loader, stop, rank, ranks)


def _initialise(solver, run: Run, rank: int) -> None:
    """Start values: the background bias, given weights, or a snapshot."""
    for stage in range(1, STAGES + 1):
        if stage_blob(stage) in solver.net.params:
            solver.net.params[stage_blob(stage)][1].data[BACKGROUND] = run.variant.background_bias
    if run.weights:
        loaded = load_weights(solver.net, run.weights, complete=False)
        fresh = [name for name in solver.net.params if name not in loaded]
        if rank == 0:
            print(f"{run.weights}: {len(loaded)} layers loaded by name; random start: {', '.join(fresh) or 'none'}")
    if run.resume:
        snapshots.restore(solver, run.kind, run.resume)
        if rank == 0:
            print(f"resumed at iteration {solver.iter} from {run.resume}")


def _loop(run: Run, solver, loader: Loader, stop: StopSignal, rank: int, ranks: int) -> None:
    log = Log(run, solver.iter) if rank == 0 else None
    folder = run.folder / SNAPSHOTS
    saved = None
    with tqdm(total=run.max_iter, initial=solver.iter, unit="it", disable=rank > 0, dynamic_ncols=True) as bar:
        while solver.iter < stop.last.value:
            start = time.perf_counter()
            solver.step(1)
            losses = stage_losses(solver.net)
            if not np.isfinite(list(losses.values())).all():
                # Caffe's max pooling wrote out of bounds in the backward pass of a NaN: its memory must never be freed.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(solver))
                raise DivergedError(
                    f"iteration {solver.iter}: the loss is {losses}, batch {', '.join(loader.keys)}; "
                    f"the last snapshot is {saved or snapshots.newest(folder) or 'none'}: lower base_lr and resume from it"
                )
            if rank:
                continue
            bar.update()
            log.add(solver.net, losses, time.perf_counter() - start, loader.wait)
            if solver.iter % run.interval == 0 or solver.iter == stop.last.value:
                bar.set_postfix_str(log.write(solver.iter, ranks * run.loader.batch_size))
            if run.snapshot and solver.iter % run.snapshot == 0:
                saved = snapshots.save(solver, folder)
    if rank == 0:
        final = snapshots.weights_path(folder, solver.iter)
        if not final.is_file():
            final = snapshots.save(solver, folder)
        done = "finished" if solver.iter >= run.max_iter else "stopped; go on with --resume auto"
        print(f"{done}: iteration {solver.iter} of {run.max_iter}, weights {final}")


def stage_losses(net) -> dict:
    """{loss blob: value} of a train net's losses, unweighted, in the order of the stages."""
    names = [MASK_LOSS_BLOB] + [stage_loss_blob(stage) for stage in range(1, STAGES + 1)]
    return {name: float(net.blobs[name].data) for name in names if name in net.blobs}


class Log:
    """Means over the interval, written to log.jsonl, one JSON line an interval."""

    def __init__(self, run: Run, iteration: int):
        self.path = run.folder / LOG
        self._rows = []
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if _logged_iteration(line) <= iteration]  # a resumed run writes the rest again
        write_whole(self.path, "".join(f"{line}\n" for line in kept).encode())

    def add(self, net, losses: dict, seconds: float, wait: float) -> None:
        """Takes note of one iteration."""
        total = sum(net.blob_loss_weights[name] * loss for name, loss in losses.items())
        self._rows.append([*losses.values(), total, trivial_loss(net.blobs[HEATMAPS_BLOB].data), seconds, wait])
        self._names = list(losses)

    def write(self, iteration: int, images: int) -> str:
        """Appends the interval's line; returns what the progress bar shows of it."""
        *losses, total, trivial, seconds, wait = np.mean(self._rows, axis=0).tolist()
        losses = dict(zip(self._names, losses))
        ratios = {name: loss / trivial for name, loss in losses.items() if name != MASK_LOSS_BLOB}
        line = {
            "iteration": iteration, "loss": total, "losses": losses, "ratio_to_trivial": ratios,
            "images_per_second": images / seconds, "seconds": seconds, "data_wait": wait,
        }
        with open(self.path, "a") as log:
            log.write(json.dumps(line) + "\n")
        self._rows.clear()
        shown = [f"loss {total:.1f}"]
        if MASK_LOSS_BLOB in losses:
            shown.append(f"mask {losses[MASK_LOSS_BLOB]:.1f}")
        if ratios:
            shown.append("stages " + " ".join(f"{losses[name]:.0f}" for name in ratios)
                         + " (of trivial: " + " ".join(f"{ratio:.2f}" for ratio in ratios.values()) + ")")
        return ", ".join(shown + [f"{images / seconds:.1f} img/s", f"data wait {wait:.2f} s"])


def _logged_iteration(line: str) -> float:
    """The iteration of a log line; infinite where a crash cut the line."""
    try:
        return json.loads(line)["iteration"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
