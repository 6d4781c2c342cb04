"""Trains the network.

    python -m mcc_caffe.train data/lmdb/train                     # the mini variant, on the CPU
    python -m mcc_caffe.train data/lmdb/train --variant paper --gpus 0,1
    python -m mcc_caffe.train data/lmdb/train --processes 2       # on the CPU, twice the batch
    mpirun -np 4 --hostfile hosts --bind-to none \\
        python -m mcc_caffe.train /shared/lmdb/train --out /shared/run
    python -m mcc_caffe.train data/lmdb/train --resume auto       # goes on where it was

    # hands that are rendered meanwhile, never the same twice
    python -m mcc_caffe.train "synth:seed=0&size=224"
    # own hands: the trunk, and with it mask and box head, stay as the weights have them
    python -m mcc_caffe.train data/own/train --weights mcc_caffe/pretrained/mini.npz --only-stages
    # seven photographs for three rendered hands, seen from nearer and in other colours
    python -m mcc_caffe.train "mix:data/lmdb/train*0.7+synth:seed=0&size=224*0.3" \\
        --windows 1.1,2.5 --colours

Everything of a run lies in its folder: the prototxts that it uses, log.jsonl with a line for every
interval, and snapshots/. Ctrl-C takes a snapshot and ends. Several processes, which --processes,
--gpus or mpirun start, average their gradients: N of them with a batch of b each learn as one
process with a batch of N x b would.
"""

import argparse
import contextlib
import copy
import dataclasses
import logging
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.precision import (
    FLOAT32,
    PRECISIONS,
    TRAINING_PRECISION,
    choose_precision,
    precision_help,
    wanted_precision,
    warn_of_rounding,
)
from mcc_caffe.caffe_io.protobuf import check_utf8, read_text, text_format
from mcc_caffe.caffe_io.pycaffe import require_caffe, require_gpus
from mcc_caffe.caffe_io.snapshots import SNAPSHOTS, SOLVER_FILE
from mcc_caffe.caffe_io.trial_build import SOLVER, try_build
from mcc_caffe.caffe_io.weights import NET_FILE, WeightsError, file_shapes, run_net_path
from mcc_caffe.core.commands import (
    command_parser,
    input_side,
    non_negative_int,
    positive_int,
    run_command,
    seed_number,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import (
    check_own_results,
    find_shipped,
    locked,
    require_file,
    require_shipped,
    write_whole,
)
from mcc_caffe.core.ranks import LocalRanks, MpiRanks, Ranks, SharedMemory, started_by_mpirun
from mcc_caffe.core.start import INTERRUPTED, end_at_next_signal
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data.sources import LIVE, MIXED, mixture_shares, open_source
from mcc_caffe.paper import ABLATIONS, NET_NAME, POSE_STAGES, VARIANTS, file_suffix
from mcc_caffe.training.launcher import launch
from mcc_caffe.training.loop import TrainingConfig, train
from mcc_caffe.training.prototxt_check import check_finite, check_solver
from mcc_caffe.training.run_log import LOG

# Settings of the loader that a resumed run may change without a word: where the run goes on, and
# how fast samples are made.
_MAY_CHANGE = ("first_iteration", "workers", "prefetch")
# Fields of the solver that a run sets itself or that change nothing; the loader's seed is compared.
_NOT_COMPARED = ("net", "snapshot", "snapshot_prefix", "display", "random_seed")
_STAGE_ENDS = tuple(f"_stage{stage}" for stage in POSE_STAGES)  # of the names of their layers

_log = logging.getLogger(__name__)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "data",
        help="what to train on: an LMDB set (`make lmdb` makes one); synth:seed=0&size=224, hands "
        "that are rendered as they are needed; or mix:A*0.7+B*0.3, a mixture of such sources with "
        "the share of each",
    )
    _add_run_arguments(parser.add_argument_group("the run"))
    _add_start_arguments(parser.add_argument_group("weights to start from"))
    _add_learning_arguments(parser.add_argument_group("learning"))
    _add_picture_arguments(parser.add_argument_group("pictures"))
    _add_machine_arguments(parser.add_argument_group("machine"))
    options = parser.parse_args(argv)
    _check_options(parser, options)
    return options


def _add_run_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say which net is trained, and where the run is kept."""
    add = group.add_argument
    add("--variant", choices=VARIANTS, default="mini", help="size of the network (default: mini)")
    add(
        "--without",
        choices=[name.removeprefix("without_") for name in ABLATIONS],
        help="leave a stage out, also of the variant's net in --solver: an ablation of the paper's "
        "section 4.2",
    )
    add(
        "--solver",
        type=Path,
        help="solver prototxt; give the --variant of its net, too "
        "(default: solver/VARIANT/solver.prototxt)",
    )
    add("--out", type=Path, help="folder of the run (default: runs/VARIANT)")
    add("--interval", type=positive_int, default=20, help="iterations in a log line (default: 20)")
    add(
        "--snapshot",
        type=positive_int,
        help="iterations between snapshots (default: the solver's or, where that is 0, the "
        "variant's)",
    )


def _add_start_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say which weights the run starts from."""
    add = group.add_argument
    add(
        "--weights",
        type=Path,
        help="caffemodel or packed weights to start from, loaded by layer name",
    )
    add(
        "--resume",
        metavar="auto|FILE",
        help="auto: go on from the run's newest snapshot; without one, start from --weights or at "
        "random. FILE: go on from this .solverstate",
    )
    add(
        "--only-stages",
        action="store_true",
        help="let the pose stages alone learn; trunk and mask head stay as --weights has them, and "
        "a box head on this trunk still fits",
    )


def _add_learning_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that take the place of the solver's and the net's settings."""
    add = group.add_argument
    add("--iterations", type=positive_int, help="stop there instead of at the solver's max_iter")
    add(
        "--batch-size",
        type=positive_int,
        help="images of a process in an iteration (default: the net's)",
    )
    add(
        "--input-size",
        type=input_side,
        metavar="PIXELS",
        help="side of the network's input, a multiple of 8 (default: the net's)",
    )
    add(
        "--seed",
        type=seed_number,
        help="seed of the weights' start, the samples' order and the augmentation "
        "(default: the solver's random_seed)",
    )


def _add_picture_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how the pictures are augmented."""
    add = group.add_argument
    add(
        "--windows",
        type=_windows,
        metavar="LEAST,MOST",
        help="show each hand in a square window of the picture, whose side is drawn between these "
        "multiples of the side of its keypoints' box, as 1.1,2.5 (default: show the whole "
        "picture, as the paper does)",
    )
    add(
        "--colours",
        action="store_true",
        help="also draw brightness, colours and sharpness at random (default: the paper's "
        "augmentation only)",
    )
    add(
        "--strong",
        action="store_true",
        help="also stretch and turn the hands, cover parts of the pictures, and draw colours and "
        "sharpness from wider ranges, with noise: for photographs that are few or much alike",
    )
    add("--no-augmentation", action="store_true", help="letterbox the pictures only")


def _add_machine_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say where the run computes, and in how many processes."""
    add = group.add_argument
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--gpus",
        type=_gpu_ids,
        default=(),
        metavar="0,1",
        help="GPUs of each machine, for one process each (default: the CPU)",
    )
    where.add_argument(
        "--processes",
        type=positive_int,
        default=1,
        help="processes on this machine's CPU, which share its cores (default: 1)",
    )
    add(
        "--workers",
        type=non_negative_int,
        default=2,
        help="loader processes for each training process; 0: none (default: 2)",
    )
    add("--precision", choices=PRECISIONS, help=precision_help(TRAINING_PRECISION))


def _check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the command with a message where options do not go together."""
    if options.no_augmentation and (options.windows or options.colours or options.strong):
        parser.error(
            "--windows, --colours and --strong are augmentation: leave them or --no-augmentation "
            "out"
        )
    if options.weights and options.resume not in (None, "auto"):
        parser.error("--resume FILE goes on with the weights beside it: leave --weights out")
    if options.only_stages and not (options.weights or options.resume):
        parser.error("--only-stages keeps the trunk as it is: give --weights to take it from")
    if options.only_stages and options.without == "pose":
        parser.error("--only-stages has no stage to train --without pose")


def _gpu_ids(text: str) -> tuple[int, ...]:
    """Parse a list of GPU ids; an argparse `type`."""
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of GPU ids such as 0,1") from None


def _windows(text: str) -> tuple[float, float]:
    """Parse the range of window sides; an argparse `type`."""
    try:
        least, most = map(float, text.split(","))
    except ValueError:
        least, most = 0.0, 0.0
    if not 1 <= least <= most < float("inf"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no pair such as 1.1,2.5 of numbers from 1 on, the smaller first"
        )
    return least, most


def prepare_run(options: argparse.Namespace) -> TrainingConfig:
    """Check the options, and make the run's folder with the prototxts that the run will use.

    Raises:
        UserError: An option names something that is missing or does not fit. Nothing has been
            written then.
    """
    precision = _choose_run_precision(options)
    folder = _run_folder(options)
    resume = _resume_state(options.resume, folder)
    if options.only_stages and not (options.weights or resume):
        raise UserError(
            f"--only-stages keeps the trunk as it is, and {folder} has no snapshot with one: "
            "give --weights to take it from"
        )
    solver_path, solver = _read_solver(options)
    net_path, net = _read_net(solver_path, solver, options)
    state = _read_resumed(resume, solver) if resume else None
    loader = _prepare_net(net, solver, options, state)
    if resume:
        net_of_before = run_net_path(resume)
        _warn_of_solver_changes(net_of_before.with_name(SOLVER_FILE), solver, options.iterations)
        _warn_of_changes(net_of_before, net, loader)
    open_source(loader.source)  # raises where a set is missing, before anything is written
    weights = _choose_weights(options.weights, resume)
    if options.only_stages and weights:
        _check_kept_layers(weights, net)
    check_own_results(
        folder, (SOLVER_FILE, NET_FILE, LOG), own=SOLVER_FILE, mark=snapshots.PREFIX_END
    )
    if options.solver:
        _try_build(solver, net, f"{solver_path} with {net_path}")
    variant = VARIANTS[options.variant]
    # A run's own solver, from which another may start, has a snapshot of 0.
    snapshot_interval = options.snapshot or solver.snapshot or variant.schedule.snapshot
    _write_prototxts(folder, solver, net)
    return TrainingConfig(
        variant=variant,
        folder=folder,
        solver=folder / SOLVER_FILE,
        solver_type=solver.type,
        loader=loader,
        max_iter=solver.max_iter,
        iter_size=solver.iter_size,
        log_interval=options.interval,
        snapshot_interval=snapshot_interval,
        weights=weights,
        resume=resume,
        gpus=options.gpus,
        precision=precision,
    )


def _choose_run_precision(options: argparse.Namespace) -> str:
    """Return the precision of the run, after a check of the GPUs.

    On CPUs `auto` stays as it is, because each machine of an mpirun has a processor of its own.

    Raises:
        UserError: A GPU is missing, or the precision goes without one.
    """
    if options.gpus:
        require_gpus(list(options.gpus))
    chosen = choose_precision(
        options.precision, on_gpu=bool(options.gpus), default=TRAINING_PRECISION
    )
    wanted = wanted_precision(options.precision, default=TRAINING_PRECISION)
    return chosen if options.gpus else wanted


def _read_solver(options: argparse.Namespace) -> tuple[Path, Any]:
    """Return the path of the solver and its SolverParameter, with what the options change.

    Raises:
        UserError: The solver is missing or does not fit.
    """
    path = require_file(
        options.solver
        or require_shipped(f"solver/{options.variant}/solver{_suffix(options)}.prototxt"),
        "solver",
    )
    solver = read_text("SolverParameter", path)
    check_solver(path, solver)
    if options.seed is not None:
        solver.random_seed = options.seed
    solver.max_iter = options.iterations or solver.max_iter
    return path, solver


def _read_net(solver_path: Path, solver: Any, options: argparse.Namespace) -> tuple[Path, Any]:
    """Return the path of the solver's net and its NetParameter.

    Where the options leave a stage out, the solver's net becomes the one without it.

    Raises:
        UserError: The net is missing, does not fit, or is of another variant.
    """
    path = _find_net(solver_path, solver.net)
    net = read_text("NetParameter", path)
    ours = NET_NAME.fullmatch(net.name)
    if ours and ours[2] != options.variant:
        raise UserError(
            f"{solver_path} is of the variant {ours[2]}, the training of {options.variant}: "
            f"give --variant {ours[2]}, or another solver"
        )
    if options.without:
        solver.net = _ablated_net(solver_path, solver.net, options)
        path = _find_net(solver_path, solver.net)
        net = read_text("NetParameter", path)
    check_finite(path, net)
    return path, net


def _read_resumed(path: Path, solver: Any) -> snapshots.SolverState:
    """Read the solver state that the run goes on from.

    Raises:
        UserError: It is damaged, of another type of solver, or at the end of the run.
    """
    state = snapshots.read_state(path)
    snapshots.check_type(state, solver.type)
    if state.message.iter >= solver.max_iter:
        raise UserError(
            f"{path} is at iteration {state.message.iter} already, "
            f"the run ends at {solver.max_iter}: give --iterations N"
        )
    return state


def _prepare_net(
    net: Any, solver: Any, options: argparse.Namespace, state: snapshots.SolverState | None
) -> LoaderConfig:
    """Put the options into a net, and check that it goes with a snapshot.

    Args:
        net: The NetParameter, which is changed.
        solver: The SolverParameter.
        options: The options.
        state: The solver state that the run goes on from; None for a fresh start.

    Returns:
        The settings of the net's data layer.

    Raises:
        UserError: The net has no data layer of ours, or the snapshot is of another net.
    """
    first_iteration = state.message.iter if state else 0
    loader = _configure_data_layer(
        net,
        options,
        net_name=solver.net,
        seed=max(solver.random_seed, 0),
        first_batch=first_iteration * solver.iter_size,
    )
    if options.only_stages:
        _let_stages_alone_learn(net)
    if state:
        snapshots.check_net(state, net)
    return loader


def _choose_weights(weights: Path | None, resume: Path | None) -> Path | None:
    """Return the weights to start from; None where a run is resumed or starts at random."""
    if weights and resume:
        _log.info("%s: not loaded, the run goes on from %s", weights, resume)
        return None
    return require_file(weights, "weights file") if weights else None


def _suffix(options: argparse.Namespace) -> str:
    """Return what the ablation adds to the names of files and folders."""
    return file_suffix(options.without and f"without_{options.without}")


def _ablated_net(solver_path: Path, net: str, options: argparse.Namespace) -> str:
    """Return the net without the stage that the options leave out, in place of a solver's net.

    Raises:
        UserError: The solver's net is the user's own.
    """
    folder = f"prototxt/{options.variant}"
    ablated = f"{folder}/train{_suffix(options)}.prototxt"
    if net not in (f"{folder}/train.prototxt", ablated):
        raise UserError(
            f"{solver_path} names the net {net!r}, of which --without {options.without} leaves no "
            f"stage out: name {ablated} there, or leave --without away"
        )
    return ablated


def _run_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the run; UserError where Caffe's files cannot hold its path."""
    folder = options.out or Path("runs", options.variant + _suffix(options))
    check_utf8(folder)
    return folder


def _resume_state(resume: str | None, folder: Path) -> Path | None:
    """Return the solver state to resume from, or None for a fresh start.

    Raises:
        UserError: It is missing, or the run would replace snapshots that it does not go on from.
    """
    own_folder = folder / SNAPSHOTS
    newest = snapshots.newest(own_folder)
    state = None if resume in (None, "auto") else require_file(resume, "snapshot")
    if state and state.parent.resolve() == own_folder.resolve():
        if newest and snapshots.iteration(newest) > snapshots.iteration(state):
            raise UserError(
                f"{folder} has later snapshots than {resume}, up to {newest.name}, from which "
                "--resume auto would go on: move them away, or give another --out"
            )
        return state
    if newest is None:
        _check_no_remains(folder)
        if resume == "auto":
            _log.info("%s has no snapshot yet: the run begins", folder)
        return state
    if resume != "auto":
        raise UserError(
            f"{folder} holds a run, up to {newest.name}: "
            "go on with --resume auto, or give another --out"
        )
    return newest


def _check_no_remains(folder: Path) -> None:
    """Raise UserError where a run would replace weights of another from which none can go on."""
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


def _find_net(solver_path: Path, name: str) -> Path:
    """Find the net that a solver names: from here on, else one that comes with the project."""
    path = Path(name) if Path(name).is_file() else find_shipped(name) if name else None
    if path is None:
        raise UserError(
            f"{solver_path} names the net {name!r}, which was not found: "
            "give its path from the current folder, or an absolute one"
        )
    return path


def _try_build(solver: Any, net: Any, described: str) -> None:
    """Let Caffe build a user's solver and net in another process, where it may abort."""
    solver_copy, net_copy = copy.deepcopy(solver), copy.deepcopy(net)
    for layer in net_copy.layer:
        if layer.type == "Python":  # no worker is needed to build a net
            for name, value in (("workers", 0), ("batch_size", 1)):
                layer.python_param.param_str = re.sub(
                    rf'"{name}": \d+', f'"{name}": {value}', layer.python_param.param_str
                )
    solver_copy.iter_size = 1  # it does one step
    with tempfile.TemporaryDirectory() as folder:
        _write_prototxts(Path(folder), solver_copy, net_copy)
        try_build(SOLVER, Path(folder, SOLVER_FILE), described)


def _let_stages_alone_learn(net: Any) -> None:
    """Set the rates and decays of all layers but those of the pose stages to 0."""
    for layer in net.layer:
        if layer.name.endswith(_STAGE_ENDS):
            continue
        if layer.type == "Convolution":  # one without `param` would learn at the solver's rate
            while len(layer.param) < 1 + layer.convolution_param.bias_term:
                layer.param.add()
        for parameter in layer.param:
            parameter.lr_mult = parameter.decay_mult = 0


def _check_kept_layers(weights: Path, net: Any) -> None:
    """Raise WeightsError where weights lack a layer that --only-stages keeps as they have it."""
    stored = file_shapes(weights)
    missing = [
        layer.name
        for layer in net.layer
        if layer.param and not layer.name.endswith(_STAGE_ENDS) and layer.name not in stored
    ]
    if missing:
        raise WeightsError(
            f"{weights} lacks {_few(missing)}, which --only-stages would keep at random values: "
            "give weights with trunk and mask head, or leave --only-stages out"
        )


def _few(names: Sequence[str]) -> str:
    """Return names for a message, of which the first alone is written out where they are many."""
    return ", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} more"


def _warn_of_solver_changes(earlier_path: Path, solver: Any, iterations: int | None) -> None:
    """Warn of what is other in the solver of a resumed run than before.

    Args:
        earlier_path: The solver's prototxt of the run until now.
        solver: The SolverParameter from here on.
        iterations: The length that the options ask for. It needs no warning where the learning
            rate does not depend on it.
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
            shown = field.name, _shown(value), _shown(earlier_value)
            _log.warning("%s is %s from here on, it was %s", *shown)


def _shown(value: Any) -> Any:
    """Return a value for a message; a float without the digits that float32 does not have."""
    return f"{value:.7g}" if isinstance(value, float) else value


def _warn_of_changes(earlier_path: Path, net: Any, loader: LoaderConfig) -> None:
    """Warn of what a resumed run does in another way than before.

    Args:
        earlier_path: The net's prototxt of the run until now.
        net: The NetParameter from here on.
        loader: The settings of its data layer.
    """
    try:
        earlier = read_text("NetParameter", require_file(earlier_path, "net"))
        earlier_loader = LoaderConfig.from_json(_data_layer(earlier, str(earlier_path)).param_str)
    except UserError:  # somebody removed or changed it: there is nothing to compare with
        return
    for name, value in vars(loader).items():
        earlier_value = getattr(earlier_loader, name)
        if name not in _MAY_CHANGE and value != earlier_value:
            _log.warning("%s is %s from here on, it was %s", name, value, earlier_value)
    old_rates, new_rates = _learning_rates(earlier), _learning_rates(net)
    changed = [name for name, rates in new_rates.items() if rates != old_rates.get(name, rates)]
    if changed:
        _log.warning(
            "%s learn at other rates from here on (--only-stages, or rates in the net): "
            "a box head on an earlier trunk may not fit any more",
            _few(changed),
        )


def _learning_rates(net: Any) -> dict[str, list[float]]:
    """Return {convolution: learning-rate multipliers of its weights and bias}."""
    return {
        layer.name: [parameter.lr_mult for parameter in layer.param]
        for layer in net.layer
        if layer.type == "Convolution"
    }


def _data_layer(net: Any, net_name: str) -> Any:
    """Return the parameters of a net's Python data layer; UserError where it has none."""
    layer = next((layer for layer in net.layer if layer.type == "Python"), None)
    if layer is None:
        raise UserError(
            f"{net_name} has no Python data layer: "
            "this command trains nets that `make prototxt` wrote"
        )
    return layer.python_param


def _configure_data_layer(
    net: Any, options: argparse.Namespace, *, net_name: str, seed: int, first_batch: int
) -> LoaderConfig:
    """Write the options into the `param_str` of the net's Python data layer, and return them."""
    data_layer = _data_layer(net, net_name)
    settings: dict[str, Any] = {
        "source": absolute_source(options.data),
        "seed": seed,
        "workers": options.workers,
        "augment": not options.no_augmentation,
        "colours": options.colours,
        "strong": options.strong,
        "first_iteration": first_batch,
    }
    if options.batch_size:
        settings["batch_size"] = options.batch_size
    if options.input_size:
        settings["input_size"] = options.input_size
    if options.windows:
        settings["smallest_window"], settings["largest_window"] = options.windows
    loader = dataclasses.replace(LoaderConfig.from_json(data_layer.param_str), **settings)
    data_layer.param_str = loader.to_json()
    return loader


def absolute_source(source: str) -> str:
    """Return the source with every folder in it as an absolute path, for use from anywhere."""
    if source.startswith(MIXED):
        parts = (
            f"{absolute_source(name)}*{share}" for name, share in mixture_shares(source).items()
        )
        return MIXED + "+".join(parts)
    return source if source.startswith(LIVE) else str(Path(source).absolute())


def _write_prototxts(folder: Path, solver: Any, net: Any) -> None:
    """Make the run's folder and write the prototxts of its net and solver."""
    folder.mkdir(parents=True, exist_ok=True)
    solver.net = str(folder / NET_FILE)
    solver.snapshot = 0  # Caffe itself would write over what is there; training.loop does it
    solver.snapshot_prefix = snapshots.prepare(folder / SNAPSHOTS)
    for name, message in ((SOLVER_FILE, solver), (NET_FILE, net)):
        write_whole(folder / name, text_format.MessageToString(message).encode())


def _train_as_rank(
    rank: int, rank_count: int, shared: SharedMemory, config: TrainingConfig
) -> None:
    """Train in one of the launched processes. The launcher says where a signal has ended it."""

    def train_quietly_ended() -> int | None:
        try:
            train(config, LocalRanks(rank, rank_count, shared))
        except KeyboardInterrupt:
            end_at_next_signal()
            return INTERRUPTED
        return None

    run_command(train_quietly_ended)


def _log_run(config: TrainingConfig, rank_count: int) -> None:
    """Log what will be trained on what, and the settings of the loader."""
    device = f"GPUs {','.join(map(str, config.gpus))}" if config.gpus else "CPU"
    if rank_count > 1:
        device += f", {rank_count} processes"
    precision = choose_precision(config.precision, on_gpu=bool(config.gpus))
    if precision != FLOAT32:
        device += f", in {precision}"
    warn_of_rounding(precision)
    first_iteration = config.loader.first_iteration // config.iter_size
    _log.info(
        "run %s: %s, iterations %d to %d, %s",
        config.folder,
        config.solver_type,
        first_iteration,
        config.max_iter,
        device,
    )
    for name, value in vars(config.loader).items():
        _log.info("  %s: %s", name, value)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    if started_by_mpirun():
        _train_under_mpirun(argv)
        return
    options = parse_arguments(argv)
    require_caffe("training")
    with locked(_run_folder(options), "trains in it"):
        config = prepare_run(options)
        ranks = len(options.gpus) or options.processes
        _log_run(config, ranks)
        if ranks > 1:
            launch(_train_as_rank, ranks, ranks, LocalRanks.shared(ranks), config)
        else:
            train(config, Ranks())


def _train_under_mpirun(argv: Sequence[str] | None) -> None:
    """Train as one rank. Rank 0 prepares the run; where that fails, all ranks end."""
    ranks, config = MpiRanks(), None
    with contextlib.ExitStack() as stack:
        if ranks.rank == 0:
            options = parse_arguments(argv)
            if options.processes > 1:
                raise UserError(
                    f"mpirun starts the processes ({ranks.size}): "
                    f"leave --processes {options.processes} out"
                )
            require_caffe("training")
            stack.enter_context(locked(_run_folder(options), "trains in it"))
            config = prepare_run(options)
            _log_run(config, ranks.size)
        config = ranks.share(config)
        if config.gpus:
            require_gpus(list(config.gpus))
        train(config, ranks)


if __name__ == "__main__":
    run_command(main)
