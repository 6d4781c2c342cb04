"""Trains the network.

    python -m mcc_caffe.train data/lmdb/train                     # the mini variant, on the CPU
    python -m mcc_caffe.train data/lmdb/train --variant paper --gpus 0,1
    python -m mcc_caffe.train data/lmdb/train --processes 2       # on the CPU, twice the batch
    mpirun -np 4 --hostfile hosts --bind-to none \\
        python -m mcc_caffe.train /shared/lmdb/train --out /shared/run
    python -m mcc_caffe.train data/lmdb/train --resume auto       # goes on where it was

    # hands that are rendered meanwhile, never the same twice
    python -m mcc_caffe.train "synth:seed=0&size=224"
    # own hands: fine-tunes the pose stages; the trunk, and with it mask and box head, are frozen
    python -m mcc_caffe.train data/own/train --weights mcc_caffe/pretrained/mini.npz --only-stages
    # seven photographs for three rendered hands, seen from nearer, half of them upright, recoloured
    python -m mcc_caffe.train "mix:data/lmdb/train*0.7+synth:seed=0&size=224*0.3" \\
        --windows 1.1,2.5 --upright --colours

Everything of a run lies in its folder: the prototxts that it uses, samples.json with the sizes of
its sets, precision.txt, log.jsonl with a line for every interval, and snapshots/. Ctrl-C takes a
snapshot and ends. Several processes, which --processes, --gpus or mpirun start, average their
gradients: N of them with a batch of b each learn as one process with a batch of N x b would.
"""

import argparse
import contextlib
import dataclasses
import json
import logging
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
from mcc_caffe.caffe_io.protobuf import check_utf8
from mcc_caffe.caffe_io.pycaffe import require_caffe, require_gpus
from mcc_caffe.caffe_io.run_folder import (
    LOG_FILE,
    NET_FILE,
    PRECISION_FILE,
    SAMPLES_FILE,
    SOLVER_FILE,
)
from mcc_caffe.core.commands import (
    add_variant_option,
    command_parser,
    input_side,
    non_negative_int,
    positive_int,
    run_command,
    seed_number,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import require_file, write_atomically
from mcc_caffe.core.output_checks import check_folder, check_own_results
from mcc_caffe.core.ranks import LocalRanks, MpiRanks, Ranks, SharedMemory, started_by_mpirun
from mcc_caffe.core.result_folders import locked
from mcc_caffe.core.start import INTERRUPTED, end_at_next_signal
from mcc_caffe.data.sources import count_samples, open_source
from mcc_caffe.paper import ABLATION_OF_STAGE, MINI, PAPER, VARIANTS
from mcc_caffe.training.launcher import launch
from mcc_caffe.training.loop import TrainingConfig, train
from mcc_caffe.training.resume import (
    check_resumed,
    resume_state,
    warn_of_changes,
    warn_of_other_precision,
    warn_of_other_samples,
    warn_of_other_variant,
)
from mcc_caffe.training.run_net import (
    RunOptions,
    ablation_suffix,
    check_frozen_layers,
    prepare_net,
    read_net,
    read_solver,
    try_users_solver,
    write_prototxts,
)

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
    _add_image_arguments(parser.add_argument_group("images"))
    _add_machine_arguments(parser.add_argument_group("machine"))
    options = parser.parse_args(argv)
    _check_options(parser, options)
    return options


def _add_run_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say which net is trained, and where the run is kept."""
    add = group.add_argument
    add_variant_option(group)
    add(
        "--without",
        choices=ABLATION_OF_STAGE,
        help="leave a stage out, as an ablation of the paper's section 4.2 does; with "
        "--solver, the solver has to name the variant's net",
    )
    add(
        "--solver",
        type=Path,
        help="solver prototxt; give the --variant of its net, too (default: "
        "solver/VARIANT/solver.prototxt, with --without mask solver_without_mask.prototxt there)",
    )
    add(
        "--out",
        type=Path,
        help="folder of the run (default: runs/VARIANT, with --without mask "
        "runs/VARIANT_without_mask)",
    )
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
        help="freeze trunk and mask head as --weights has them: the pose stages alone learn, and a "
        "box head on this trunk still fits",
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


def _add_image_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how the images are augmented."""
    add = group.add_argument
    add(
        "--windows",
        type=_windows,
        metavar="LEAST,MOST",
        help="show a square crop around each hand, whose side is drawn between these multiples of "
        "the side of its keypoints' box, as 1.1,2.5; it replaces the paper's random scale and crop "
        "(default: the net's; those that ship show the whole image, as the paper does)",
    )
    add(
        "--upright",
        action="store_true",
        help="in half of the samples, turn the image first so that the hand points up, as it does "
        "in second looks, and images without a hand into any of four directions; it needs "
        "windows, those of --windows or the net's own (default: the net's)",
    )
    add(
        "--colours",
        action="store_true",
        help="also draw brightness, colours and sharpness at random (default: the net's; those "
        "that ship have the paper's augmentation only)",
    )
    add(
        "--strong",
        action="store_true",
        help="in half of the samples, also stretch and turn the hand, cover parts of the image, "
        "and draw colours and sharpness from wider ranges, with noise: for photographs that are "
        "few or much alike (default: the net's)",
    )
    add(
        "--no-augmentation",
        dest="augment",
        action="store_false",
        help="letterbox the images only",
    )


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
        help="loader processes for each training process; 0: none (default: the net's, 2 in those "
        "that ship)",
    )
    add("--precision", choices=PRECISIONS, help=precision_help(TRAINING_PRECISION))


def _check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the command with a message where options do not go together."""
    augments = options.windows or options.upright or options.colours or options.strong
    if augments and not options.augment:
        parser.error(
            "--windows, --upright, --colours and --strong are augmentation: leave them or "
            "--no-augmentation out"
        )
    if options.weights and options.resume not in (None, "auto"):
        parser.error("--resume FILE goes on with the weights beside it: leave --weights out")
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
    state = _choose_state(options, folder)
    resume = state.path if state else None
    run_options = _select_run_options(options)
    solver_path, solver = read_solver(run_options)
    net_path, net = read_net(solver_path, solver, run_options)
    if state:
        check_resumed(state, solver, net)
    loader = prepare_net(net, solver, run_options, state.message.iter if state else 0)
    if resume:
        warn_of_changes(resume, solver, net, loader, options.iterations)
        warn_of_other_precision(resume, choose_precision(precision, on_gpu=bool(options.gpus)))
    # Raises where a set is missing, before anything is written.
    sample_counts = count_samples(open_source(loader.source))
    if resume:
        warn_of_other_samples(resume, sample_counts)
    weights = _choose_fitting_weights(options, resume, net)
    check_own_results(
        folder,
        (SOLVER_FILE, NET_FILE, SAMPLES_FILE, PRECISION_FILE, LOG_FILE),
        own=SOLVER_FILE,
        mark=snapshots.PREFIX_END,
    )
    variant = VARIANTS[options.variant]
    if options.solver or variant not in (PAPER, MINI):  # Caffe is known to take the nets of these
        try_users_solver(solver, net, f"{solver_path} with {net_path}")
    # A run's own solver, from which another may start, has a snapshot of 0.
    snapshot_interval = options.snapshot or solver.snapshot or variant.schedule.snapshot
    if options.resume and not resume:
        _log.info("%s has no snapshot yet: the run begins", folder)
    write_prototxts(folder, solver, net)
    write_atomically(folder / SAMPLES_FILE, f"{json.dumps(sample_counts)}\n".encode())
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


def _choose_state(options: argparse.Namespace, folder: Path) -> snapshots.SolverState | None:
    """Return the snapshot that the run goes on from; None for a fresh start.

    Raises:
        UserError: It cannot be gone on from, or nothing has the trunk that --only-stages keeps.
    """
    state = resume_state(options.resume, folder)
    if options.only_stages and not (options.weights or state):
        raise UserError(
            f"--only-stages keeps the trunk as it is, and {folder} has no snapshot with one: "
            "give --weights to take it from"
        )
    return state


def _choose_fitting_weights(
    options: argparse.Namespace, resume: Path | None, net: Any
) -> Path | None:
    """Return the weights to start from, after a look at whether they fit the net.

    Args:
        options: The command's options.
        resume: The solver state that the run goes on from; None for a fresh start.
        net: The train net.

    Returns:
        The weights; None where the run is resumed or starts at random.

    Raises:
        UserError: They are missing, or lack a layer that --only-stages keeps.
    """
    if not options.weights:
        return None
    if resume:
        _log.info("%s: not loaded, the run goes on from %s", options.weights, resume)
        return None
    weights = require_file(options.weights, "weights file")
    warn_of_other_variant(weights, options.variant)
    if options.only_stages:
        check_frozen_layers(weights, net)
    return weights


def _select_run_options(options: argparse.Namespace) -> RunOptions:
    """Return those of the command's options that the solver and the net depend on."""
    names = (field.name for field in dataclasses.fields(RunOptions))
    return RunOptions(**{name: getattr(options, name) for name in names})


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


def _run_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the run; UserError where it cannot be made, or Caffe not name it."""
    folder = options.out or Path("runs", options.variant + ablation_suffix(options.without))
    check_utf8(folder)
    check_folder(folder)
    return folder


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
    precision = config.resolve_precision()
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
        rank_count = len(options.gpus) or options.processes
        _log_run(config, rank_count)
        if rank_count > 1:
            launch(_train_as_rank, rank_count, rank_count, LocalRanks.shared(rank_count), config)
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
