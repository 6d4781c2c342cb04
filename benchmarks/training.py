"""Seconds an iteration of `mcc_caffe.train`, beside PyTorch on the same network.

PyTorch has the same losses, optimizer and batch.
"""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import text_format

from benchmarks import nets, network
from benchmarks.jobs import (
    CORES,
    QUICK_TURNS,
    TURNS,
    Job,
    Row,
    ask,
    in_turns,
    read_printed_table,
    run_training,
    threads_of,
)
from benchmarks.peers.environment import environment
from benchmarks.timing import spread
from mcc_caffe.caffe_io.precision import BFLOAT16, FLOAT32
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.shipped_files import require_shipped

TABLE, ALLREDUCE = "training", "allreduce"
LOSS_TOLERANCE = 1e-4  # relative
# Relative; larger, since a ReLU that rounding sends across 0 moves a gradient but not the loss.
GRADIENT_TOLERANCE = 1e-2
SAMPLES = 2  # of the batch that loss and gradients are compared on
CAFFE_ENGINES = ("caffe", "caffe_own", "caffe_bfloat16")  # of network.ENGINES
LAYOUTS = {  # of the engines in PyTorch: its own names
    "torch": "contiguous_format",
    "torch_channels_last": "channels_last",
    "torch_bfloat16": "channels_last",
}
SOLVER_FIELDS = ("type", "base_lr", "weight_decay", "momentum", "momentum2")


class Work(NamedTuple):
    """What an iteration is asked to do; rows of the same work are compared with one another."""

    precision: str
    variant: str
    images: int  # an iteration, of all processes
    threads: int  # of all processes


def prepare(variant: str, folder: pathlib.Path) -> None:
    """Write what the rows of a variant are measured with and checked against.

    These are the train net, random weights and samples, the loss and gradients of Caffe's own
    code on them, and a solver for Caffe's own convolutions.
    """
    folder.mkdir(parents=True)
    batch = nets.random_batch(variant, SAMPLES)
    prototxt, weights = folder / "train.prototxt", folder / "weights.caffemodel"
    own_prototxt = folder / "own_convolutions.prototxt"
    shipped_net = nets.read_train_net(variant)
    fed_net = nets.fed_by_hand(shipped_net, batch)
    prototxt.write_text(text_format.MessageToString(fed_net))
    own_prototxt.write_text(text_format.MessageToString(network.with_own_convolutions(fed_net)))
    caffe = import_caffe()
    net = caffe.Net(str(own_prototxt), caffe.TRAIN)
    nets.fill_weights(net)
    net.save(str(weights))
    loss, gradients = loss_and_gradients(net, batch)
    network.write_description(prototxt, weights, folder)
    np.savez(folder / "batch.npz", **batch)  # type: ignore[arg-type]  # mypy sees allow_pickle
    np.savez(folder / "gradients.npz", **gradients)  # type: ignore[arg-type]
    (folder / "loss.json").write_text(json.dumps(loss))
    solver = read_text("SolverParameter", require_shipped(f"solver/{variant}/solver.prototxt"))
    solver.net = str(folder / "own_train.prototxt")
    (folder / "own_train.prototxt").write_text(
        text_format.MessageToString(network.with_own_convolutions(shipped_net))
    )
    (folder / "own_solver.prototxt").write_text(text_format.MessageToString(solver))
    settings = {name: getattr(solver, name) for name in SOLVER_FIELDS}
    (folder / "solver.json").write_text(json.dumps(settings))


def loss_and_gradients(
    net: Any, batch: dict[str, np.ndarray]
) -> tuple[float, dict[str, np.ndarray]]:
    """Return a Caffe net's weighted sum of losses and {"layer/index": gradient} on a batch."""
    nets.fill_inputs(net, batch)
    net.forward()
    net.backward()
    losses = (
        weight * float(net.blobs[name].data)
        for name, weight in net.blob_loss_weights.items()
        if weight
    )
    gradients = {
        f"{name}/{index}": blob.diff.copy()
        for name, blobs in net.params.items()
        for index, blob in enumerate(blobs)
    }
    return sum(losses), gradients


def caffe_row(
    variant: str,
    source: pathlib.Path,
    *,
    batch: int,
    processes: int,
    threads: int,
    iterations: int,
    engine: str = "caffe",
    own_solver: pathlib.Path | None = None,
) -> list[Row]:
    """Time `mcc_caffe.train`.

    Args:
        variant: Name of the variant.
        source: LMDB set to train on.
        batch: Images an iteration of one process.
        processes: Number of processes.
        threads: Number of threads of all processes together, a multiple of `processes`.
        iterations: Iterations that count; the one before them does not.
        engine: One of CAFFE_ENGINES.
        own_solver: Solver whose net takes Caffe's own convolutions; for "caffe_own".

    Returns:
        One row.
    """
    row: Row = {
        "variant": variant,
        "engine": engine,
        "processes": processes,
        "threads": threads,
        "batch": batch,
        "status": "",
    }
    options = {
        "--variant": variant,
        "--batch-size": batch,
        "--processes": processes,
        "--iterations": iterations + 1,
        "--precision": precision_of(engine),
    }
    if own_solver:
        options["--solver"] = own_solver
    try:
        lines = run_training(source, options, threads_of(threads // processes))
    except UserError as error:
        return [row | {"status": str(error)}]
    seconds = [line["seconds"] for line in lines[1:]]
    return [row | spread(seconds) | {"loss_at_start": lines[0]["loss"]}]


def torch_row(
    variant: str, engine: str, folder: pathlib.Path, *, batch: int, threads: int, least: int
) -> list[Row]:
    """Time PyTorch, and compare its loss and gradients with those of Caffe's own code.

    Args:
        variant: Name of the variant.
        engine: One of LAYOUTS.
        folder: What `prepare` wrote.
        batch: Images an iteration.
        threads: Number of threads.
        least: Iterations that count; the one before them does not.

    Returns:
        One row. Its status is empty where PyTorch runs and agrees with Caffe.
    """
    row: Row = {
        "variant": variant,
        "engine": engine,
        "processes": 1,
        "threads": threads,
        "batch": batch,
        "status": "",
    }
    try:
        python = environment(*network.TORCH)
    except UserError as error:
        return [row | {"status": f"not installed: {error}"}]
    worker = "benchmarks.peers.torch_cpu_training"
    precision = precision_of(engine)
    row |= ask(python, worker, folder, LAYOUTS[engine], precision, batch, threads, least)
    return [row | disagreement(row)]


def disagreement(row: Row) -> Row:
    """Return {"status": how loss and gradients differ from Caffe's}, or {} where they agree."""
    loss, gradients = row.get("loss_difference", 0), row.get("gradient_difference", 0)
    if loss <= LOSS_TOLERANCE and gradients <= GRADIENT_TOLERANCE:
        return {}
    return {"status": f"differs from Caffe: loss by {loss:.2g}, gradients by {gradients:.2g}"}


def precision_of(engine: str) -> str:
    """Return what an engine multiplies, FLOAT32 or BFLOAT16."""
    return BFLOAT16 if engine in network.IN_BFLOAT16 else FLOAT32


def work_of(row: Row) -> Work:
    """Return the work of a row's iteration."""
    images = row["processes"] * row["batch"]
    return Work(precision_of(row["engine"]), row["variant"], images, row["threads"])


def preparations(folder: pathlib.Path) -> list[Job]:
    """Return the jobs that write to `folder` what the jobs below read."""
    return [
        Job(
            TABLE,
            f"{variant}: Caffe's loss and gradients",
            functools.partial(network.run_preparation, prepare, variant, folder / variant),
        )
        for variant in network.ORDER
    ]


def jobs(folder: pathlib.Path, source: pathlib.Path, quick: bool) -> list[Job]:
    """Return the jobs that measure training.

    Args:
        folder: What `preparations` wrote.
        source: LMDB set to train on.
        quick: Take fewer turns, and leave out the paper variant's batch of 13.
    """
    steps = []
    measured = network.measured_engines()

    def add(variant: str, *, batch: int, processes: int, threads: set[int], least: int) -> None:
        own_solvers = {"caffe_own": folder / variant / "own_solver.prototxt"}
        for count in sorted(threads):
            measurements: list[Callable[[], list[Row]]] = [
                functools.partial(
                    caffe_row,
                    variant,
                    source,
                    batch=batch,
                    processes=processes,
                    threads=count,
                    iterations=least,
                    engine=engine,
                    own_solver=own_solvers.get(engine),
                )
                for engine in CAFFE_ENGINES
                if engine in measured
            ]
            measurements += [
                functools.partial(
                    torch_row,
                    variant,
                    engine,
                    folder / variant,
                    batch=processes * batch,
                    threads=count,
                    least=least,
                )
                for engine in LAYOUTS
                if engine in measured
            ]
            images = f"{processes} x {batch} images, {count} thread{'s' * (count > 1)}"
            turns = QUICK_TURNS if quick else TURNS
            run = functools.partial(in_turns, measurements, turns)
            steps.append(Job(TABLE, f"{variant}, {images}: all systems", run))

    add("mini", batch=13, processes=1, threads={1, CORES}, least=3 if quick else 5)
    of_two = {2 * max(CORES // 2, 1)}  # threads of two processes, which have as many each
    add("mini", batch=13, processes=2, threads=of_two, least=3 if quick else 5)
    add("paper", batch=1, processes=1, threads={1, CORES}, least=1 if quick else 2)
    if not quick:
        add("paper", batch=13, processes=1, threads={CORES}, least=1)
    run_allreduce = functools.partial(read_printed_table, "benchmarks.allreduce")
    steps.append(Job(ALLREDUCE, "averaging gradients", run_allreduce))
    return steps
