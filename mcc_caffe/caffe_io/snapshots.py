"""Snapshots of a run: pairs of `mcc_iter_N.caffemodel` and `.solverstate`.

Each pair is complete or not there at all. A solver state also holds the type of its solver, in a
protobuf field that Caffe passes over: the histories of several types look the same.
"""

import logging
import math
import os
import re
import resource
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.caffe_io.protobuf import as_text, messages, read_binary
from mcc_caffe.caffe_io.pycaffe import parameter_count
from mcc_caffe.caffe_io.weights import (
    Shapes,
    blob_values,
    load_weights,
    model_shapes,
    net_shapes,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import require_file

_log = logging.getLogger(__name__)

PREFIX_END = ".partial/mcc"  # the end of the snapshot_prefix of every run's solver

# Caffe's solver types, and the blobs of history that each keeps for a parameter.
SOLVERS = {"SGD": 1, "Nesterov": 1, "AdaGrad": 1, "RMSProp": 1, "AdaDelta": 2, "Adam": 2}

# The field of a solver state with its solver's type. Its tag is a varint: number << 3 | 2, a text.
_TYPE_FIELD, _TYPE_TAG = 1000, b"\xc2\x3e"

_NAME = re.compile(r".*_iter_(\d{1,18})")


class SolverState(NamedTuple):
    """A solver state that is complete and whose weights are, too.

    Attributes:
        path: Its file.
        message: Caffe's SolverState.
        net_name: The name of the net in its weights.
        shapes: The shapes of its weights.
        learned_shapes: The same in one list, in which a parameter that layers share comes once.
        solver_type: A key of SOLVERS; None where Caffe itself wrote the state.
    """

    path: Path
    message: Any
    net_name: str
    shapes: Shapes
    learned_shapes: list[tuple[int, ...]]
    solver_type: str | None


def prepare(folder: str | Path) -> str:
    """Make a folder ready for snapshots.

    Caffe writes aside, into `.partial`, until a snapshot is complete. The rest of an interrupted
    run is removed.

    Returns:
        The snapshot_prefix to give Caffe.
    """
    shutil.rmtree(_partial(folder), ignore_errors=True)
    _partial(folder).mkdir(parents=True)
    return str(Path(folder, PREFIX_END))


def _partial(folder: str | Path) -> Path:
    """Return the folder that Caffe writes into."""
    return Path(folder, PREFIX_END).parent


def weights_path(folder: str | Path, iteration: int) -> Path:
    """Return the path of the weights in `folder` that were taken at `iteration`."""
    return Path(folder, f"mcc_iter_{iteration}.caffemodel")


def save(solver: Any, solver_type: str, folder: str | Path) -> Path:
    """Write a snapshot.

    Args:
        solver: Caffe's solver, whose snapshot_prefix `prepare` made.
        solver_type: Its type, a key of SOLVERS.
        folder: The folder of the snapshots.

    Returns:
        The path of the weights.

    Raises:
        UserError: There is no room, or it cannot be written.
    """
    folder = Path(folder)
    # It may have been removed meanwhile: Caffe would abort the process.
    _partial(folder).mkdir(parents=True, exist_ok=True)
    check_room(solver, folder)
    solver.snapshot()
    written = weights_path(_partial(folder), solver.iter)
    final = weights_path(folder, solver.iter)
    try:
        with open(written.with_suffix(".solverstate"), "ab") as state:
            state.write(_learned_net(final) + _type_field(solver_type))
        for suffix in (".caffemodel", ".solverstate"):
            with open(written.with_suffix(suffix), "rb") as file:
                os.fsync(file.fileno())
            written.with_suffix(suffix).replace(final.with_suffix(suffix))
    except OSError as error:
        raise UserError(
            f"{final} cannot be written ({error.strerror}): make room and go on with --resume auto"
        ) from None
    return final


def check_room(solver: Any, folder: Path) -> None:
    """Check that a snapshot has room: on the disk, and below the limit on the size of a file.

    Raises:
        UserError: It has not. Caffe would abort the process.
    """
    needed = 4 * 4 * parameter_count(solver.net)  # weights and up to two histories, with some room
    needed_mib = math.ceil(needed / 2**20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free >> 20} MiB free and a snapshot may need {needed_mib}: "
            "make room and go on with --resume auto"
        )
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise UserError(
            f"{folder}: a file may have {limit >> 20} MiB here "
            f"and a snapshot may need {needed_mib}: "
            "raise the limit (ulimit -f unlimited) and go on with --resume auto"
        )


def _learned_net(path: Path) -> bytes:
    """Return bytes that, appended to a solver state, name its weights.

    Of a field that comes twice, protobuf takes the last value.
    """
    return messages().SolverState(learned_net=str(path.absolute())).SerializeToString()


def _type_field(solver_type: str) -> bytes:
    """Return bytes that, appended to a solver state, name its solver's type."""
    return _TYPE_TAG + bytes([len(solver_type)]) + solver_type.encode()


def _solver_type(message: Any) -> str | None:
    """Return the solver's type in a solver state, None where there is none."""
    texts = [field.data for field in _unknown_fields(message) if field.field_number == _TYPE_FIELD]
    return texts[-1].decode(errors="backslashreplace") if texts else None


def _unknown_fields(message: Any) -> Iterable[Any]:
    """Return the fields in a message that its type does not have."""
    try:
        from google.protobuf.unknown_fields import UnknownFieldSet
    except ImportError:  # protobuf 3.20, that of Python 3.10; a later one knows only the class
        return message.UnknownFields()
    return UnknownFieldSet(message)


def pairs(folder: str | Path) -> list[Path]:
    """List the solver states in `folder` whose weights are there too, the newest first."""
    states = _files(folder, ".solverstate")
    return [path for path in states if path.with_suffix(".caffemodel").is_file()]


def weights_files(folder: str | Path) -> list[Path]:
    """List the weights of snapshots in `folder`, also without their states, the newest first."""
    return _files(folder, ".caffemodel")


def _files(folder: str | Path, suffix: str) -> list[Path]:
    """List the files of snapshots in `folder` that have this suffix, the newest first."""
    paths = [path for path in Path(folder).glob(f"*_iter_*{suffix}") if _NAME.fullmatch(path.stem)]
    return sorted(paths, key=lambda path: int(path.stem.rsplit("_", 1)[1]), reverse=True)


def newest(folder: str | Path) -> SolverState | None:
    """Read the newest solver state in `folder` that is complete; damaged ones give a warning.

    Returns:
        The state, or None where there is none.
    """
    for path in pairs(folder):
        try:
            return read_state(path)
        except UserError as error:
            _log.warning("passed over: %s", error)
    return None


def read_state(path: str | Path) -> SolverState:
    """Read a solver state, and check that it and its weights are complete.

    Raises:
        UserError: The state or its weights are damaged or missing.
    """
    path = require_file(path, "snapshot")
    weights = require_file(path.with_suffix(".caffemodel"), "weights file")
    model = read_binary("NetParameter", weights)
    shapes = model_shapes(weights, model)
    message = read_binary("SolverState", path)
    blobs = _learned_shapes(model, shapes)
    histories = [tuple(blob.shape.dim) for blob in message.history]
    if min(message.iter, message.current_step) < 0:
        raise UserError(
            f"{path} is damaged: it is at iteration {message.iter} and step "
            f"{message.current_step}; resume from another snapshot"
        )
    # Caffe writes all of them, the current step last.
    if not (message.HasField("iter") and message.HasField("current_step") and histories):
        raise UserError(
            f"{path} is no complete SolverState file ({path.stat().st_size} bytes): "
            "it is damaged or of another kind, resume from another snapshot"
        )
    if histories not in (blobs, 2 * blobs):
        raise UserError(
            f"{path} does not fit its weights: its {len(histories)} history blobs have other "
            f"shapes than the {len(blobs)} blobs of {weights.name}; "
            "resume from another snapshot"
        )
    for index, blob in enumerate(message.history):
        count = len(blob.double_data or blob.data)
        if count != math.prod(histories[index]):
            raise UserError(
                f"{path} is damaged: history blob {index} has the shape {histories[index]} and "
                f"{count} values; resume from another snapshot"
            )
        if not np.isfinite(blob_values(blob)).all():
            raise UserError(
                f"{path}: history blob {index} has values that are not finite (NaN or infinite): "
                "resume from an earlier snapshot"
            )
    return SolverState(path, message, as_text(model.name), shapes, blobs, _solver_type(message))


def _learned_shapes(model: Any, shapes: Shapes) -> list[tuple[int, ...]]:
    """Return the shapes of the parameters of a NetParameter that a solver learns.

    Layers share a parameter by its name; Caffe learns it once and keeps one history of it.
    """
    learned: list[tuple[int, ...]] = []
    names = set()
    for layer in model.layer:
        for index, shape in enumerate(shapes.get(as_text(layer.name), ())):
            name = layer.param[index].name if index < len(layer.param) else ""
            if not name or name not in names:
                learned.append(shape)
            names.add(name)
    return learned


def _learned_net_shapes(net: Any) -> list[tuple[int, ...]]:
    """Return the same of a Caffe net, in which shared parameters have the same memory."""
    learned: dict[int, tuple[int, ...]] = {}
    for blobs in net.params.values():
        for blob in blobs:
            learned.setdefault(blob.data.ctypes.data, blob.data.shape)
    return list(learned.values())


def check_type(state: SolverState, solver_type: str) -> None:
    """Raise UserError where a solver state was written by a solver of another type."""
    if state.solver_type not in (None, solver_type):
        raise UserError(
            f"{state.path} was written with the solver type {state.solver_type}, "
            f"the solver has {solver_type}, whose history blobs mean something else: "
            "resume with the type that wrote it, or start afresh from its weights "
            "(--weights, another --out)"
        )


def check_net(state: SolverState, net: Any) -> None:
    """Check by name and convolutions of a net's prototxt that a solver state is of this net.

    Args:
        state: The solver state.
        net: Caffe's NetParameter.

    Raises:
        UserError: The state is of another net.
    """
    channels = {
        as_text(layer.name): layer.convolution_param.num_output
        for layer in net.layer
        if layer.type == "Convolution"
    }
    names = {as_text(layer.name) for layer in net.layer}
    fits = [state.shapes.get(name, [()])[0][:1] == (count,) for name, count in channels.items()]
    if not (all(fits) and names.issuperset(state.shapes)):
        raise _other_net(state.path.with_suffix(".caffemodel"))
    if state.net_name != as_text(net.name):  # such as of a variant with other ReLUs
        raise UserError(
            f"{state.path} is of the net {state.net_name!r}, the training's is "
            f"{as_text(net.name)!r}: resume with the net of the run that wrote it, or start afresh "
            "from its weights (--weights, another --out)"
        )


def _other_net(weights: Path) -> UserError:
    """Return the error that says that weights do not fit the net."""
    return UserError(
        f"{weights} does not fit the net: "
        "resume with the variant and the ablation of the run that wrote it"
    )


def restore(solver: Any, solver_type: str, path: str | Path) -> None:
    """Bring a solver back to a snapshot.

    Args:
        solver: Caffe's solver.
        solver_type: Its type, a key of SOLVERS.
        path: The solver state.

    Raises:
        UserError: The snapshot is damaged, or belongs to another net or type.
    """
    path = Path(path)
    weights = path.with_suffix(".caffemodel")
    state = read_state(path)
    own = net_shapes(solver.net), _learned_net_shapes(solver.net)
    if (state.shapes, state.learned_shapes) != own:
        raise _other_net(weights)
    check_type(state, solver_type)
    expected = len(state.learned_shapes) * SOLVERS[solver_type]
    count = len(state.message.history)
    if count != expected:
        raise UserError(
            f"{path} holds {count} history blobs, the {solver_type} solver needs {expected}: "
            "resume with the type that wrote it"
        )
    load_weights(solver.net, weights)
    state.message.ClearField("learned_net")  # they are loaded; Caffe gets the rest
    with tempfile.NamedTemporaryFile(suffix=".solverstate") as copy:
        copy.write(state.message.SerializeToString())
        copy.flush()
        solver.restore(copy.name)
