"""Snapshots of a run: pairs of `mcc_iter_N.caffemodel` and `.solverstate`.

Each pair is complete or not there at all.
"""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mcc_caffe.caffe_io.protobuf import messages, read_binary
from mcc_caffe.caffe_io.pycaffe import parameter_count
from mcc_caffe.caffe_io.weights import file_shapes, net_shapes, shipped_weights
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import existing

_log = logging.getLogger(__name__)

SNAPSHOTS = "snapshots"  # the folder of a run that holds them

# Caffe's solver types, and the blobs of history that each keeps for a parameter.
SOLVERS = {"SGD": 1, "Nesterov": 1, "AdaGrad": 1, "RMSProp": 1, "AdaDelta": 2, "Adam": 2}


def prepare(folder: str | Path) -> str:
    """Make a folder ready for snapshots.

    Caffe writes aside, into `.partial`, until a snapshot is complete. The rest of an interrupted
    run is removed.

    Returns:
        The snapshot_prefix to give Caffe.
    """
    shutil.rmtree(_partial(folder), ignore_errors=True)
    _partial(folder).mkdir(parents=True)
    return str(_partial(folder) / "mcc")


def _partial(folder: str | Path) -> Path:
    """Return the folder that Caffe writes into."""
    return Path(folder, ".partial")


def weights_path(folder: str | Path, iteration: int) -> Path:
    """Return the path of the weights in `folder` that were taken at `iteration`."""
    return Path(folder, f"mcc_iter_{iteration}.caffemodel")


def save(solver: Any, folder: str | Path) -> Path:
    """Write a snapshot.

    Args:
        solver: Caffe's solver, whose snapshot_prefix `prepare` made.
        folder: The folder of the snapshots.

    Returns:
        The path of the weights.

    Raises:
        UserError: There is no room.
    """
    folder = Path(folder)
    needed = 4 * 4 * parameter_count(solver.net)  # weights and up to two histories, with some room
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free >> 20} MiB free and a snapshot may need {needed >> 20}: "
            "make room and --resume auto"
        )
    solver.snapshot()
    written = weights_path(_partial(folder), solver.iter)
    final = weights_path(folder, solver.iter)
    with open(written.with_suffix(".solverstate"), "ab") as state:
        state.write(_learned_net(final))
    written.replace(final)
    written.with_suffix(".solverstate").replace(final.with_suffix(".solverstate"))
    return final


def _learned_net(path: Path) -> bytes:
    """Return bytes that, appended to a solver state, name its weights.

    Of a field that comes twice, protobuf takes the last value.
    """
    return messages().SolverState(learned_net=str(path.absolute())).SerializeToString()


def pairs(folder: str | Path) -> list[Path]:
    """List the solver states in `folder` whose weights are there too, the newest first."""
    states = [
        path
        for path in Path(folder).glob("*_iter_*.solverstate")
        if path.with_suffix(".caffemodel").is_file()
    ]
    return sorted(states, key=lambda path: int(path.stem.rsplit("_", 1)[1]), reverse=True)


def newest(folder: str | Path) -> Path | None:
    """Find the newest solver state in `folder` that is complete; damaged ones give a warning.

    Returns:
        Its path, or None where there is none.
    """
    for state in pairs(folder):
        try:
            iteration(state)
            return state
        except UserError as error:
            _log.warning("passed over: %s", error)
    return None


def iteration(state: str | Path) -> int:
    """Read the iteration at which a solver state was taken.

    Raises:
        UserError: The state or its weights are damaged or missing.
    """
    state = existing(state, "snapshot")
    file_shapes(state.with_suffix(".caffemodel"))
    return read_binary("SolverState", state).iter


def restore(solver: Any, solver_type: str, state: str | Path) -> None:
    """Bring a solver back to a snapshot.

    Args:
        solver: Caffe's solver.
        solver_type: Its type, a key of SOLVERS.
        state: The solver state.

    Raises:
        UserError: The snapshot belongs to another net or type.
    """
    state = Path(state)
    weights = state.with_suffix(".caffemodel")
    own = net_shapes(solver.net)
    if file_shapes(weights) != own:
        raise UserError(
            f"{weights} does not fit the net: "
            "resume with the variant and the ablation of the run that wrote it"
        )
    expected = sum(map(len, own.values())) * SOLVERS[solver_type]
    count = len(read_binary("SolverState", state).history)
    if count != expected:
        raise UserError(
            f"{state} holds {count} history blobs, the {solver_type} solver needs {expected}: "
            "resume with the type that wrote it"
        )
    # A copy that names the weights beside it: the run's folder may have moved since.
    with tempfile.NamedTemporaryFile(suffix=".solverstate") as copy:
        copy.write(state.read_bytes() + _learned_net(weights))
        copy.flush()
        solver.restore(copy.name)


def newest_weights(folder: str | Path) -> Path | None:
    """Find the newest weights in `folder`; None where there are none."""
    state = newest(folder)
    return state and state.with_suffix(".caffemodel")


def trained_weights(variant: str) -> Path:
    """Find the newest weights of runs/VARIANT, for commands that were given none."""
    weights = newest_weights(Path("runs", variant, SNAPSHOTS))
    if weights is None:
        raise UserError(
            f"no weights: train first (`make train VARIANT={variant}`), "
            "or give a caffemodel with --weights FILE; "
            f"runs/{variant}/{SNAPSHOTS} holds none"
        )
    return weights


def default_weights(variant: str) -> Path:
    """Find the weights that come with the package or, for lack of them, those of runs/VARIANT."""
    return shipped_weights(variant) or trained_weights(variant)
