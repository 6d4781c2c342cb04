"""Snapshots of a run: pairs `mcc_iter_N.caffemodel` and `.solverstate`, each complete or not there at all."""

import pathlib
import shutil
import tempfile

from mcc_caffe.caffe_io.protobuf import messages, read_binary
from mcc_caffe.caffe_io.pycaffe import parameter_count
from mcc_caffe.caffe_io.weights import file_shapes, net_shapes, shipped_weights
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import existing

SNAPSHOTS = "snapshots"  # the folder of a run that holds them

# Caffe's solver types, and the blobs of history that each keeps for a parameter.
SOLVERS = {"SGD": 1, "Nesterov": 1, "AdaGrad": 1, "RMSProp": 1, "AdaDelta": 2, "Adam": 2}


def prepare(folder) -> str:
    """Makes `folder` ready for snapshots and returns the snapshot_prefix to give Caffe.

    What Caffe writes stands aside, in `.partial`, until it is complete; what an interrupted run left there is removed.
    """
    shutil.rmtree(_partial(folder), ignore_errors=True)
    _partial(folder).mkdir(parents=True)
    return str(_partial(folder) / "mcc")


def _partial(folder) -> pathlib.Path:
    return pathlib.Path(folder, ".partial")


def weights_path(folder, iteration: int) -> pathlib.Path:
    """The weights of the snapshot in `folder` that was taken at `iteration`."""
    return pathlib.Path(folder, f"mcc_iter_{iteration}.caffemodel")


def save(solver, folder) -> pathlib.Path:
    """Writes the solver's snapshot into `folder` and returns the path of its weights."""
    folder = pathlib.Path(folder)
    needed = 4 * 4 * parameter_count(solver.net)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free >> 20} MiB free and a snapshot may need {needed >> 20}: make room and --resume auto"
        )
    solver.snapshot()
    written, final = (weights_path(place, solver.iter) for place in (_partial(folder), folder))
    with open(written.with_suffix(".solverstate"), "ab") as state:
        state.write(_learned_net(final))
    written.replace(final)
    written.with_suffix(".solverstate").replace(final.with_suffix(".solverstate"))
    return final


def _learned_net(path: pathlib.Path) -> bytes:
    """Bytes that, appended to a solver state, name its weights file: protobuf takes a field's last value."""
    return messages().SolverState(learned_net=str(path.absolute())).SerializeToString()


def pairs(folder) -> list:
    """The solver states in `folder` whose weights are there too, the newest first."""
    states = [
        path
        for path in pathlib.Path(folder).glob("*_iter_*.solverstate")
        if path.with_suffix(".caffemodel").is_file()
    ]
    return sorted(states, key=lambda path: int(path.stem.rsplit("_", 1)[1]), reverse=True)


def newest(folder, warn=print):
    """The newest solver state in `folder` that is whole, or None; damaged ones are passed over with a word."""
    for state in pairs(folder):
        try:
            iteration(state)
            return state
        except UserError as error:
            warn(f"passed over: {error}")
    return None


def iteration(state) -> int:
    """The iteration at which a solver state was taken; UserError where it or its weights are damaged or missing."""
    state = existing(state, "snapshot")
    file_shapes(state.with_suffix(".caffemodel"))
    return read_binary("SolverState", state).iter


def restore(solver, kind: str, state) -> None:
    """Brings the solver, of the given type ("SGD", "Adam", ...), back to a snapshot.

    UserError where the snapshot belongs to another net or solver type.
    """
    state = pathlib.Path(state)
    weights = state.with_suffix(".caffemodel")
    own = net_shapes(solver.net)
    if file_shapes(weights) != own:
        raise UserError(
            f"{weights} does not fit the net: resume with the variant and the ablation of the run that wrote it"
        )
    expected = sum(map(len, own.values())) * SOLVERS[kind]
    found = len(read_binary("SolverState", state).history)
    if found != expected:
        raise UserError(
            f"{state} holds {found} history blobs, the {kind} solver needs {expected}: "
            "resume with the type that wrote it"
        )
    with tempfile.NamedTemporaryFile(
        suffix=".solverstate"
    ) as copy:  # the run's folder may have moved since
        copy.write(state.read_bytes() + _learned_net(weights))
        copy.flush()
        solver.restore(copy.name)


def newest_weights(folder):
    """The newest weights in `folder`, or None."""
    state = newest(folder)
    return state and state.with_suffix(".caffemodel")


def trained_weights(variant: str) -> pathlib.Path:
    """The newest weights of runs/VARIANT, for commands that were given none."""
    weights = newest_weights(pathlib.Path("runs", variant, SNAPSHOTS))
    if weights is None:
        raise UserError(
            f"no weights: train first (`make train VARIANT={variant}`), or give a caffemodel with --weights FILE; "
            f"runs/{variant}/{SNAPSHOTS} holds none"
        )
    return weights


def default_weights(variant: str) -> pathlib.Path:
    """The weights that come with the package or, of a variant without, the newest of runs/VARIANT."""
    return shipped_weights(variant) or trained_weights(variant)
