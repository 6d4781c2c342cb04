"""Seconds an iteration of `mcc_caffe.train`, beside PyTorch on the same network, losses, optimizer and batch."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from google.protobuf import text_format

from benchmarks import network
from benchmarks.jobs import CORES, Job, ask, in_process, printed, threads_of
from benchmarks.peers.environment import environment, last_line
from benchmarks.timing import spread
from mcc_caffe.caffe_io.protobuf import messages, read_text
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import shipped
from mcc_caffe.paper import (
    DATA_BLOB,
    HEATMAPS,
    HEATMAPS_BLOB,
    IGNORE_LABEL,
    MASK_LABEL_BLOB,
    VARIANTS,
)
from mcc_caffe.training.log import read_log

TABLE, ALLREDUCE = "training", "allreduce"
LOSS_TOLERANCE, GRADIENT_TOLERANCE = (
    1e-4,
    1e-2,
)  # relative; a ReLU at 0 that falls to the other side moves a gradient, not the loss
SAMPLES = 2  # of the batch that loss and gradients are compared on
CAFFE, OWN = network.ENGINES["caffe"], network.ENGINES["caffe_own"]
LAYOUTS = {"contiguous_format": "PyTorch", "channels_last": "PyTorch, channels last"}


def prepare(variant: str, folder: pathlib.Path) -> None:
    """Writes the train net, random weights and samples, what Caffe's own code finds on them, and the solver for its own convolutions."""
    folder.mkdir(parents=True)
    batch = random_batch(variant, SAMPLES)
    prototxt, own, weights = (
        folder / "train.prototxt",
        folder / "own_convolutions.prototxt",
        folder / "weights.caffemodel",
    )
    shipped_net = read_text("NetParameter", shipped(f"prototxt/{variant}/train.prototxt"))
    fed = fed_by_hand(shipped_net, batch)
    prototxt.write_text(text_format.MessageToString(fed))
    own.write_text(text_format.MessageToString(network.with_own_convolutions(fed)))
    caffe = import_caffe()
    net = caffe.Net(str(own), caffe.TRAIN)
    network.enliven(net)
    net.save(str(weights))
    loss, gradients = loss_and_gradients(net, batch)
    network.describe(prototxt, weights, folder)
    np.savez(folder / "batch.npz", **batch)
    np.savez(folder / "gradients.npz", **gradients)
    (folder / "loss.json").write_text(json.dumps(loss))
    solver = read_text("SolverParameter", shipped(f"solver/{variant}/solver.prototxt"))
    solver.net = str(folder / "own_train.prototxt")
    (folder / "own_train.prototxt").write_text(
        text_format.MessageToString(network.with_own_convolutions(shipped_net))
    )
    (folder / "own_solver.prototxt").write_text(text_format.MessageToString(solver))
    (folder / "solver.json").write_text(
        json.dumps(
            {
                name: getattr(solver, name)
                for name in ("type", "base_lr", "weight_decay", "momentum", "momentum2")
            }
        )
    )


def random_batch(variant: str, samples: int) -> dict:
    """{blob: float32 array} of random samples, some cells of the mask without a label."""
    rng, size, cells = (
        np.random.default_rng(0),
        VARIANTS[variant].input_size,
        VARIANTS[variant].cells,
    )
    batch = {
        DATA_BLOB: rng.uniform(-0.5, 0.5, (samples, 3, size, size)),
        MASK_LABEL_BLOB: rng.choice([0, 1, IGNORE_LABEL], (samples, 1, cells, cells)),
        HEATMAPS_BLOB: rng.uniform(0, 1, (samples, HEATMAPS, cells, cells)),
    }
    return {name: array.astype(np.float32) for name, array in batch.items()}


def loss_and_gradients(net, batch: dict) -> tuple:
    """(weighted sum of the losses, {"layer/place": gradient}) of a Caffe net on a batch."""
    for name, array in batch.items():
        net.blobs[name].data[...] = array
    net.forward()
    net.backward()
    losses = (
        weight * float(net.blobs[name].data)
        for name, weight in net.blob_loss_weights.items()
        if weight
    )
    return sum(losses), {
        f"{name}/{place}": blob.diff.copy()
        for name, both in net.params.items()
        for place, blob in enumerate(both)
    }


def fed_by_hand(net, batch: dict):
    """The train net with an Input layer for each array of a batch in the place of its data layer."""
    fed = messages().NetParameter(name=net.name)
    for name, array in batch.items():
        fed.layer.add(name=name, type="Input", top=[name]).input_param.shape.add(dim=array.shape)
    fed.layer.extend(layer for layer in net.layer if layer.type != "Python")
    return fed


def caffe_row(
    variant: str,
    source: pathlib.Path,
    batch: int,
    processes: int,
    threads: int,
    iterations: int,
    own_solver: pathlib.Path = None,
) -> list:
    """The row of `mcc_caffe.train`; its first iteration does not count. threads: of all processes. own_solver: for Caffe's own convolutions."""
    row = {
        "variant": variant,
        "system": OWN if own_solver else CAFFE,
        "processes": processes,
        "threads": threads,
        "batch": batch,
        "status": "",
    }
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "mcc_caffe.train",
                source,
                "--variant",
                variant,
                "--batch-size",
                str(batch),
                "--processes",
                str(processes),
                "--iterations",
                str(iterations + 1),
                "--interval",
                "1",
                "--out",
                folder,
                *(["--solver", own_solver] if own_solver else []),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, **threads_of(max(threads // processes, 1))},
        )
        if done.returncode:
            return [row | {"status": f"failed: {last_line(done.stderr)}"}]
        lines = read_log(pathlib.Path(folder))
    return [
        row | spread([line["seconds"] for line in lines[1:]]) | {"loss_at_start": lines[0]["loss"]}
    ]


def torch_row(
    variant: str, layout: str, folder: pathlib.Path, batch: int, threads: int, least: int
) -> list:
    """The row of PyTorch; its first iteration does not count either."""
    row = {
        "variant": variant,
        "system": LAYOUTS[layout],
        "processes": 1,
        "threads": threads,
        "batch": batch,
        "status": "",
    }
    try:
        python = environment(*network.TORCH)
    except UserError as error:
        return [row | {"status": f"not installed: {error}"}]
    row |= ask(
        python, "benchmarks.peers.torch_cpu_training", folder, layout, batch, threads, least, 0
    )
    return [row | disagreement(row)]


def disagreement(row: dict) -> dict:
    """{"status": how loss and gradients of a row differ from Caffe's}; empty where they do not."""
    if (
        row.get("loss_difference", 0) <= LOSS_TOLERANCE
        and row.get("gradient_difference", 0) <= GRADIENT_TOLERANCE
    ):
        return {}
    return {
        "status": f"differs from Caffe: loss by {row['loss_difference']:.2g}, gradients by {row['gradient_difference']:.2g}"
    }


def same_work(row: dict) -> tuple:
    """What rows have in common that are compared with one another."""
    return row["variant"], row["processes"] * row["batch"], row["threads"]


def preparations(folder: pathlib.Path) -> list:
    """The jobs that write what the jobs below read from `folder`."""
    return [
        Job(
            TABLE,
            f"{variant}: Caffe's loss and gradients",
            lambda variant=variant: in_process(prepare, variant, folder / variant) or [],
        )
        for variant in network.ORDER
    ]


def jobs(folder: pathlib.Path, source: pathlib.Path, quick: bool) -> list:
    """source: LMDB set. folder: what `preparations` wrote."""
    found = []

    def add(variant: str, batch: int, processes: int, threads: tuple, iterations: int) -> None:
        for count in sorted(set(threads)):
            what = f"{variant}, {processes} x {batch} images, {count} thread{'s' * (count > 1)}"
            for name, solver in ((CAFFE, None), (OWN, folder / variant / "own_solver.prototxt")):
                found.append(
                    Job(
                        TABLE,
                        f"{what}: {name}",
                        lambda count=count, solver=solver: caffe_row(
                            variant, source, batch, processes, count, iterations, solver
                        ),
                    )
                )
            for layout, name in LAYOUTS.items():
                found.append(
                    Job(
                        TABLE,
                        f"{what}: {name}",
                        lambda count=count, layout=layout: torch_row(
                            variant, layout, folder / variant, processes * batch, count, iterations
                        ),
                    )
                )

    add("mini", 13, 1, (1, CORES), 5 if quick else 20)
    add("mini", 13, 2, (CORES,), 5 if quick else 20)
    add("paper", 1, 1, (1, CORES), 2 if quick else 6)
    if not quick:
        add("paper", 13, 1, (CORES,), 2)
    found.append(Job(ALLREDUCE, "averaging gradients", lambda: printed("benchmarks.allreduce")))
    return found
