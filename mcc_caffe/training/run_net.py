"""Reads the solver and the net of a run, and puts the options of the run into them."""

import copy
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.protobuf import read_text, text_format
from mcc_caffe.caffe_io.run_folder import NET_FILE, SNAPSHOTS, SOLVER_FILE, find_data_layer
from mcc_caffe.caffe_io.trial_build import SOLVER, try_build
from mcc_caffe.caffe_io.weights import WeightsError, file_shapes
from mcc_caffe.core.errors import UserError, shorten_list
from mcc_caffe.core.files import require_file, write_together
from mcc_caffe.core.shipped_files import find_shipped, require_shipped
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data.sources import absolute_source
from mcc_caffe.paper import ABLATION_OF_STAGE, POSE_STAGES, file_suffix, find_variant
from mcc_caffe.training.prototxt_check import check_finite, check_solver

_STAGE_ENDS = tuple(f"_stage{stage}" for stage in POSE_STAGES)  # of the names of their layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of `mcc_caffe.train` that decide on the solver and the net of a run.

    Attributes:
        data: What to train on, as `mcc_caffe.data.sources` takes it.
        variant: The name of the network's size.
        without: The stage that an ablation leaves out, "mask" or "pose"; None for the full network.
        solver: The user's solver prototxt; None for the variant's.
        iterations: The iteration at which the run ends; None for the solver's max_iter.
        batch_size: The images of a process in an iteration; None for the net's.
        input_size: The side of the network's input in pixels; None for the net's.
        seed: The seed of start, order and augmentation; None for the solver's random_seed.
        windows: The least and the greatest side of the window around a hand, in sides of its
            keypoints' box; None for the net's.
        upright: True to turn half of the windows so that the hand points up; False for what the
            net says.
        colours: True to draw brightness, colours and sharpness at random; False for what the net
            says.
        strong: True to augment half of the samples strongly; False for what the net says.
        augment: False to letterbox only; True for what the net says, unless an option above
            augments.
        workers: The number of loader processes for each training process; None for the net's.
        only_stages: Whether the pose stages alone learn.
    """

    data: str
    variant: str
    without: str | None
    solver: Path | None
    iterations: int | None
    batch_size: int | None
    input_size: int | None
    seed: int | None
    windows: tuple[float, float] | None
    upright: bool
    colours: bool
    strong: bool
    augment: bool
    workers: int | None
    only_stages: bool


def read_solver(options: RunOptions) -> tuple[Path, Any]:
    """Return the path of the solver and its SolverParameter, with what the options change.

    Raises:
        UserError: The solver is missing or does not fit.
    """
    shipped = f"solver/{options.variant}/solver{ablation_suffix(options.without)}.prototxt"
    path = require_file(options.solver or require_shipped(shipped), "solver")
    solver = read_text("SolverParameter", path)
    check_solver(path, solver)
    if options.seed is not None:
        solver.random_seed = options.seed
    solver.max_iter = options.iterations or solver.max_iter
    return path, solver


def read_net(solver_path: Path, solver: Any, options: RunOptions) -> tuple[Path, Any]:
    """Return the path of the solver's net and its NetParameter.

    Where the options leave a stage out, the solver's net becomes the one without it.

    Raises:
        UserError: The net is missing, does not fit, or is of another variant.
    """
    path = _find_net(solver_path, solver.net)
    net = read_text("NetParameter", path)
    variant = find_variant(net.name)
    if variant not in (None, options.variant):
        raise UserError(
            f"{solver_path} is for the variant {variant}, the training for {options.variant}: "
            f"give --variant {variant}, or another solver"
        )
    if options.without:
        solver.net = _ablated_net(solver_path, solver.net, options)
        path = _find_net(solver_path, solver.net)
        net = read_text("NetParameter", path)
    check_finite(path, net)
    return path, net


def _find_net(solver_path: Path, name: str) -> Path:
    """Find the net that a solver names.

    Args:
        solver_path: The solver, for the message.
        name: A path from the current folder, or else a net that comes with the project.

    Raises:
        UserError: There is no such net.
    """
    path = Path(name) if Path(name).is_file() else find_shipped(name) if name else None
    if path is None:
        raise UserError(
            f"{solver_path} names the net {name!r}, which was not found: "
            "give its path from the current folder, or an absolute one"
        )
    return path


def ablation_suffix(without: str | None) -> str:
    """Return what an ablation adds to the names of files and folders.

    Args:
        without: The stage that it leaves out, "mask" or "pose"; None for the full network.
    """
    return file_suffix(ABLATION_OF_STAGE[without] if without else None)


def _ablated_net(solver_path: Path, net: str, options: RunOptions) -> str:
    """Return the net without the stage that the options leave out, in place of a solver's net.

    Raises:
        UserError: The solver's net is the user's own.
    """
    folder = f"prototxt/{options.variant}"
    ablated = f"{folder}/train{ablation_suffix(options.without)}.prototxt"
    if net not in (f"{folder}/train.prototxt", ablated):
        raise UserError(
            f"{solver_path} names the net {net!r}, and --without {options.without} is for the nets "
            f"of this project: name {ablated} there, or leave out --without"
        )
    return ablated


def prepare_net(net: Any, solver: Any, options: RunOptions, first_iteration: int) -> LoaderConfig:
    """Put the options into a net.

    Args:
        net: The NetParameter, which is changed.
        solver: The SolverParameter.
        options: The options.
        first_iteration: The solver's iteration that the run begins or goes on with.

    Returns:
        The settings of the net's data layer.

    Raises:
        UserError: The net has no data layer of ours, or no windows that --upright could turn.
    """
    data_layer = require_data_layer(net, solver.net)
    own_loader = LoaderConfig.from_json(data_layer.param_str)
    if options.upright and not (options.windows or own_loader.largest_window):
        raise UserError("--upright turns windows: give --windows too")
    settings: dict[str, Any] = {
        "source": absolute_source(options.data),
        "seed": max(solver.random_seed, 0),
        "first_iteration": first_iteration * solver.iter_size,
    }
    for name in ("batch_size", "input_size", "upright", "colours", "strong"):
        if getattr(options, name):
            settings[name] = getattr(options, name)
    if options.windows:
        settings["smallest_window"], settings["largest_window"] = options.windows
    if options.windows or options.upright or options.colours or options.strong:
        settings["augment"] = True
    elif not options.augment:  # the command refuses both
        settings["augment"] = False
    if options.workers is not None:
        settings["workers"] = options.workers
    loader = dataclasses.replace(own_loader, **settings)
    data_layer.param_str = loader.to_json()
    if options.only_stages:
        _let_stages_alone_learn(net)
    return loader


def require_data_layer(net: Any, net_name: str) -> Any:
    """Return the parameters of a net's Python data layer; UserError where it has none."""
    data_layer = find_data_layer(net)
    if data_layer is None:
        raise UserError(
            f"{net_name} has no Python data layer: "
            "this command trains nets that `make prototxt` wrote"
        )
    return data_layer


def _let_stages_alone_learn(net: Any) -> None:
    """Set the rates and decays of all layers but those of the pose stages to 0.

    A layer that is no convolution and has no `param`, such as one that a user adds, goes on
    learning at the solver's rate.
    """
    for layer in net.layer:
        if layer.name.endswith(_STAGE_ENDS):
            continue
        if layer.type == "Convolution":  # one without `param` would learn at the solver's rate
            while len(layer.param) < 1 + layer.convolution_param.bias_term:
                layer.param.add()
        for parameter in layer.param:
            parameter.lr_mult = parameter.decay_mult = 0


def check_frozen_layers(weights: Path, net: Any) -> None:
    """Raise WeightsError where weights lack a layer that --only-stages keeps as they have it."""
    stored = file_shapes(weights)
    missing = [
        layer.name
        for layer in net.layer
        if layer.param and not layer.name.endswith(_STAGE_ENDS) and layer.name not in stored
    ]
    if missing:
        raise WeightsError(
            f"{weights} lacks {shorten_list(missing)}, which --only-stages would keep at random "
            "values: give weights with trunk and mask head, or leave --only-stages out"
        )


def try_users_solver(solver: Any, net: Any, described: str) -> None:
    """Let Caffe build a user's solver and net in another process, where it may abort."""
    solver_copy, net_copy = copy.deepcopy(solver), copy.deepcopy(net)
    data_layer = require_data_layer(net_copy, described)
    loader = LoaderConfig.from_json(data_layer.param_str)
    # No worker is needed to build a net.
    data_layer.param_str = dataclasses.replace(loader, workers=0, batch_size=1).to_json()
    solver_copy.iter_size = 1  # it does one step
    with tempfile.TemporaryDirectory() as folder:
        write_prototxts(Path(folder), solver_copy, net_copy)
        try_build(SOLVER, Path(folder, SOLVER_FILE), described)


def write_prototxts(folder: Path, solver: Any, net: Any) -> None:
    """Make the run's folder and write the prototxts of its net and solver."""
    folder.mkdir(parents=True, exist_ok=True)
    solver.net = str(folder / NET_FILE)
    solver.snapshot = 0  # Caffe itself would write over what is there; training.loop does it
    solver.snapshot_prefix = snapshots.prepare(folder / SNAPSHOTS)
    messages = {SOLVER_FILE: solver, NET_FILE: net}
    write_together(
        {
            folder / name: text_format.MessageToString(message).encode()
            for name, message in messages.items()
        }
    )
