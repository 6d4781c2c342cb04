"""Decides which snapshot a run resumes from, and warns of settings that have changed since."""

import copy
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.precision import BFLOAT16, FLOAT32
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.run_folder import (
    PRECISION_FILE,
    SAMPLES_FILE,
    SNAPSHOTS,
    SOLVER_FILE,
    run_net_path,
)
from mcc_caffe.caffe_io.weights import read_variant
from mcc_caffe.core.errors import UserError, shorten_list
from mcc_caffe.core.files import require_file
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.training.run_net import require_data_layer

# Settings of the loader that a resumed run may change without a word: where the run goes on, and
# how fast samples are made.
_MAY_CHANGE = ("first_iteration", "workers")
# Fields of the solver that a run sets itself or that change nothing; the loader's seed is compared.
_NOT_COMPARED = ("net", "snapshot", "snapshot_prefix", "display", "random_seed")

_log = logging.getLogger(__name__)


def resume_state(resume: str | None, folder: Path) -> snapshots.SolverState | None:
    """Read the solver state to resume from; None for a fresh start.

    Raises:
        UserError: It is missing or damaged, or the run would replace snapshots that it does not go
            on from.
    """
    own_folder = folder / SNAPSHOTS
    newest = snapshots.newest(own_folder)
    state = None if resume in (None, "auto") else snapshots.read_state(resume)
    if state and os.path.realpath(state.path.parent) == os.path.realpath(own_folder):
        if newest and newest.message.iter > state.message.iter:
            raise UserError(
                f"{folder} has later snapshots than {resume}, up to {newest.path.name}, from which "
                "--resume auto would go on: move them away, or give another --out"
            )
        return state
    if newest is None:
        _check_no_remains(folder)
        return state
    if resume != "auto":
        raise UserError(
            f"{folder} holds a run, up to {newest.path.name}: "
            "go on with --resume auto, or give another --out"
        )
    return newest


def _check_no_remains(folder: Path) -> None:
    """Raise UserError where the folder holds weights of a run that cannot be resumed."""
    if snapshots.pairs(folder / SNAPSHOTS):
        raise UserError(
            f"{folder} holds a run, of whose snapshots none can be read (the warnings say why): "
            "move them away, or give another --out"
        )
    weights = snapshots.weights_files(folder / SNAPSHOTS)
    if weights:
        raise UserError(
            f"{folder} holds weights of a run without its solver states, up to {weights[0].name}: "
            "give another --out, and --weights FILE to start from them"
        )


def check_resumed(state: snapshots.SolverState, solver: Any, net: Any) -> None:
    """Check that a run with this solver and this net can go on from a solver state.

    Raises:
        UserError: It is of another type of solver or another net, or at the end of the run.
    """
    snapshots.check_type(state, solver.type)
    if state.message.iter >= solver.max_iter:
        raise UserError(
            f"{state.path} is at iteration {state.message.iter} already, "
            f"the run ends at {solver.max_iter}: give --iterations N"
        )
    snapshots.check_net(state, net)


def warn_of_other_variant(weights: Path, variant: str) -> None:
    """Warn of weights of another variant, which a training may start from."""
    stored_variant = read_variant(weights)
    if stored_variant not in (None, variant):
        _log.warning(
            "%s is of the variant %s, the training starts %s from it",
            weights,
            stored_variant,
            variant,
        )


def warn_of_changes(
    state_path: Path, solver: Any, net: Any, loader: LoaderConfig, iterations: int | None
) -> None:
    """Warn of settings of a resumed run that differ from those of the run so far.

    Args:
        state_path: The solver state that the run goes on from.
        solver: The resumed run's SolverParameter.
        net: Its NetParameter.
        loader: The settings of its data layer.
        iterations: The length that the options ask for; None for the solver's.
    """
    earlier_net = run_net_path(state_path)
    _warn_of_solver_changes(earlier_net.with_name(SOLVER_FILE), solver, iterations)
    _warn_of_net_changes(earlier_net, net, loader)


def warn_of_other_samples(state_path: Path, sample_counts: Mapping[str, int]) -> None:
    """Warn of sets that have another number of samples than in the run so far.

    Args:
        state_path: The solver state that the run goes on from.
        sample_counts: {folder of a set: number of its samples now}.
    """
    try:
        earlier_counts = json.loads(run_net_path(state_path).with_name(SAMPLES_FILE).read_bytes())
        earlier = {folder: earlier_counts.get(folder) for folder in sample_counts}
    except (AttributeError, OSError, RecursionError, ValueError):
        return  # an older run, or somebody changed it: there is nothing to compare with
    for folder, count in sample_counts.items():
        if earlier[folder] not in (None, count):
            _log.warning(
                "%s has %d samples from here on, it had %s: they come in another order",
                folder,
                count,
                earlier[folder],
            )


def warn_of_other_precision(state_path: Path, precision: str) -> None:
    """Warn of convolutions in another precision than in the run so far.

    Args:
        state_path: The solver state that the run goes on from.
        precision: FLOAT32 or BFLOAT16, in which they multiply from now on.
    """
    try:
        earlier = run_net_path(state_path).with_name(PRECISION_FILE).read_text().strip()
    except (OSError, ValueError):
        return  # an older run, or somebody changed it: there is nothing to compare with
    if earlier in (FLOAT32, BFLOAT16) and earlier != precision:
        _warn_of_change("precision", precision, earlier)


def _warn_of_solver_changes(earlier_path: Path, solver: Any, iterations: int | None) -> None:
    """Warn of the solver's fields that differ from those of the run so far.

    A length that was asked for needs no warning where the learning rate does not depend on it.
    """
    try:
        earlier = read_text("SolverParameter", require_file(earlier_path, "solver"))
    except UserError:  # somebody removed or changed it: there is nothing to compare with
        return
    ignored = set(_NOT_COMPARED)
    if iterations and solver.lr_policy != "poly":
        ignored.add("max_iter")
    for field in solver.DESCRIPTOR.fields:
        value, earlier_value = getattr(solver, field.name), getattr(earlier, field.name)
        if field.name not in ignored and value != earlier_value:
            _warn_of_change(field.name, _shown(value), _shown(earlier_value))


def _warn_of_net_changes(earlier_path: Path, net: Any, loader: LoaderConfig) -> None:
    """Warn of settings of the net and the loader that differ from those of the run so far."""
    try:
        earlier = read_text("NetParameter", require_file(earlier_path, "net"))
        earlier_loader = LoaderConfig.from_json(
            require_data_layer(earlier, str(earlier_path)).param_str
        )
    except UserError:  # somebody removed or changed it: there is nothing to compare with
        return
    for name, value in vars(loader).items():
        earlier_value = getattr(earlier_loader, name)
        if name not in _MAY_CHANGE and value != earlier_value:
            _warn_of_change(name, value, earlier_value)
    old_rates, new_rates = _rates_and_decays(earlier), _rates_and_decays(net)
    changed = [name for name, rates in new_rates.items() if rates != old_rates.get(name, rates)]
    if changed:
        _log.warning(
            "%s learn at other rates or decays from here on (--only-stages, or those in the net): "
            "a box head on an earlier trunk may not fit any more",
            shorten_list(changed),
        )
    other = _other_layers(earlier, net)
    if other:
        _log.warning("other from here on than in %s: %s", earlier_path, shorten_list(other))


def _other_layers(earlier: Any, net: Any) -> list[str]:
    """Return what differs in the layers of two nets, such as "relu_param of relu_conv1_1"."""
    old, new = _comparable_layers(earlier), _comparable_layers(net)
    fields = [
        f"{field.name} of {name}"
        for name in new
        if name in old
        for field in new[name].DESCRIPTOR.fields
        if getattr(new[name], field.name) != getattr(old[name], field.name)
    ]
    return [*fields, *(f"layer {name}" for name in sorted(old.keys() ^ new.keys()))]


def _comparable_layers(net: Any) -> dict[str, Any]:
    """Return copies of a net's layers without what changes nothing or has warnings of its own.

    These are start values, and the settings of the data layer and the rates and decays of
    convolutions.
    """
    net = copy.deepcopy(net)
    require_data_layer(net, net.name).ClearField("param_str")
    for layer in net.layer:
        if layer.type == "Convolution":
            for parameter in layer.param:
                parameter.ClearField("lr_mult")
                parameter.ClearField("decay_mult")
        for filler in ("weight_filler", "bias_filler"):
            layer.convolution_param.ClearField(filler)
    return {layer.name: layer for layer in net.layer}


def _rates_and_decays(net: Any) -> dict[str, list[tuple[float, float]]]:
    """Return {convolution: multipliers of learning rate and decay, of its weights and bias}."""
    return {
        layer.name: [(parameter.lr_mult, parameter.decay_mult) for parameter in layer.param]
        for layer in net.layer
        if layer.type == "Convolution"
    }


def _warn_of_change(name: str, value: Any, earlier_value: Any) -> None:
    """Warn of a setting that has changed."""
    _log.warning("%s is %s from here on, it was %s", name, value, earlier_value)


def _shown(value: Any) -> Any:
    """Return a value for a message; a float without the digits that float32 does not have."""
    return f"{value:.7g}" if isinstance(value, float) else value
