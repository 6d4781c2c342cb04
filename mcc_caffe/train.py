"""Trains the network.

    python -m mcc_caffe.train data/lmdb/train                          # the mini variant, on the CPU
    python -m mcc_caffe.train data/lmdb/train --variant paper --gpus 0,1
    python -m mcc_caffe.train data/lmdb/train --processes 2            # on the CPU, the batch twice as large
    mpirun -np 4 --hostfile hosts --bind-to none python -m mcc_caffe.train /shared/lmdb/train --out /shared/run
    python -m mcc_caffe.train data/lmdb/train --resume auto            # goes on where it was
    python -m mcc_caffe.train "synth:seed=0&size=224"                  # on hands rendered meanwhile, never the same twice

Everything of a run lies in its folder: the prototxts it used, log.jsonl (a line an interval) and snapshots/. Ctrl-C
takes a snapshot and ends. Several processes, of --processes, --gpus or mpirun, average their gradients: N of them with a
batch of b each learn as one with N x b would.
"""

import argparse
import ctypes
import dataclasses
import pathlib
import signal

from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.protobuf import read_text, text_format
from mcc_caffe.caffe_io.pycaffe import require_gpus
from mcc_caffe.caffe_io.snapshots import SNAPSHOTS
from mcc_caffe.core.commands import command_parser, input_side, positive, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import existing, shipped
from mcc_caffe.core.ranks import LocalRanks, MpiRanks, Ranks, started_by_mpirun
from mcc_caffe.data.loader import LoaderConfig
from mcc_caffe.data.samples import LIVE, MIXED, mixture_shares, open_set
from mcc_caffe.paper import ABLATIONS, VARIANTS, file_suffix
from mcc_caffe.training.launch import launch
from mcc_caffe.training.run import Run, train

_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add(
        "data",
        help="LMDB set to train on (made by `make lmdb`), or synth:seed=0&size=224: hands rendered as they are needed",
    )
    add("--variant", choices=VARIANTS, default="mini", help="size of the network (default: mini)")
    add(
        "--without",
        choices=[name.removeprefix("without_") for name in ABLATIONS],
        help="an ablation of the paper's 4.2",
    )
    add(
        "--solver",
        type=pathlib.Path,
        help="solver prototxt (default: solver/VARIANT/solver.prototxt)",
    )
    add("--out", type=pathlib.Path, help="folder of the run (default: runs/VARIANT)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--gpus",
        type=_ids,
        default=(),
        metavar="0,1",
        help="GPUs, of each machine, one process each (default: the CPU)",
    )
    where.add_argument(
        "--processes",
        type=positive,
        default=1,
        help="processes on this machine's CPU, which share its cores (default: 1)",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--weights",
        type=pathlib.Path,
        help="caffemodel or packed weights to start from, loaded by layer name",
    )
    start.add_argument(
        "--resume",
        metavar="auto|FILE",
        help="go on from the run's newest snapshot, or from a .solverstate",
    )
    add("--iterations", type=positive, help="stop there instead of at the solver's max_iter")
    add("--batch-size", type=positive, help="images a process and iteration (default: the net's)")
    add(
        "--input-size",
        type=input_side,
        metavar="PIXELS",
        help="side of the network's input, a multiple of 8 (default: the net's)",
    )
    add("--seed", type=int, help="of weights, order and augmentation (default: the solver's)")
    add(
        "--windows",
        type=_windows,
        metavar="LEAST,MOST",
        help="see each hand in a square whose side is drawn between these multiples "
        "of its keypoints' box, as 1.1,2.5 (default: in the whole picture, as the paper)",
    )
    add(
        "--colours",
        action="store_true",
        help="draw other colours and sharpness, too (default: the paper's augmentation)",
    )
    add("--no-augmentation", action="store_true", help="letterbox only")
    add(
        "--workers",
        type=int,
        default=2,
        help="loader processes for each training process; 0: none (default: 2)",
    )
    add("--interval", type=positive, default=20, help="iterations a log line (default: 20)")
    add("--snapshot", type=positive, help="iterations a snapshot (default: the solver's)")
    return parser.parse_args(argv)


def _ids(text: str) -> tuple:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of GPU ids such as 0,1") from None


def _windows(text: str) -> tuple:
    try:
        least, most = map(float, text.split(","))
    except ValueError:
        least, most = 0.0, 0.0
    if not 1 <= least <= most:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no pair such as 1.1,2.5 of numbers from 1 on, the smaller first"
        )
    return least, most


def _absolute(source: str) -> str:
    """The source with every folder in it as an absolute path."""
    if source.startswith(MIXED):
        return MIXED + "+".join(
            f"{_absolute(name)}*{share}" for name, share in mixture_shares(source).items()
        )
    return source if source.startswith(LIVE) else str(pathlib.Path(source).absolute())


def prepare(options: argparse.Namespace) -> Run:
    """Checks the options, makes the run's folder with the prototxts it will use, and returns the Run."""
    if options.gpus:
        require_gpus(list(options.gpus))
    variant = VARIANTS[options.variant]
    suffix = file_suffix(options.without and f"without_{options.without}")
    folder = options.out or pathlib.Path("runs", variant.name + suffix)
    resume = _resume_state(options.resume, folder)

    path = options.solver or shipped(f"solver/{variant.name}/solver{suffix}.prototxt")
    solver = read_text("SolverParameter", existing(path, "solver"))
    if solver.type not in snapshots.SOLVERS:
        raise UserError(
            f"{path}: the solver type {solver.type!r} is none of Caffe's: {', '.join(snapshots.SOLVERS)}"
        )
    net_path = pathlib.Path(solver.net)
    net = read_text("NetParameter", net_path if net_path.is_file() else shipped(solver.net))
    layer = next((layer for layer in net.layer if layer.type == "Python"), None)
    if layer is None:
        raise UserError(
            f"{solver.net} has no Python data layer: this command trains nets that `make prototxt` wrote"
        )

    if options.seed is not None:
        solver.random_seed = options.seed
    source = _absolute(options.data)
    settings = {
        "source": source,
        "seed": max(solver.random_seed, 0),
        "workers": options.workers,
        "augment": not options.no_augmentation,
        "colours": options.colours,
        "first_iteration": snapshots.iteration(resume) if resume else 0,
    }
    settings |= {
        name: value for name in ("batch_size", "input_size") if (value := getattr(options, name))
    }
    if options.windows:
        settings["smallest_window"], settings["largest_window"] = options.windows
    config = dataclasses.replace(LoaderConfig.from_json(layer.python_param.param_str), **settings)
    layer.python_param.param_str = config.to_json()

    max_iter, snapshot = options.iterations or solver.max_iter, options.snapshot or solver.snapshot
    if config.first_iteration >= max_iter:
        raise UserError(
            f"{resume} is at iteration {config.first_iteration} already, the run ends at {max_iter}: give --iterations N"
        )

    open_set(source)  # a missing set is told before anything is written
    weights = existing(options.weights, "weights file") if options.weights else None
    folder.mkdir(parents=True, exist_ok=True)
    solver.net, solver.max_iter = str(folder / "train.prototxt"), max_iter
    solver.snapshot = 0  # Caffe itself would write over what is there
    solver.snapshot_prefix = snapshots.prepare(folder / SNAPSHOTS)
    (folder / "train.prototxt").write_text(text_format.MessageToString(net))
    (folder / "solver.prototxt").write_text(text_format.MessageToString(solver))
    return Run(
        variant,
        folder,
        folder / "solver.prototxt",
        solver.type,
        config,
        max_iter,
        options.interval,
        snapshot,
        weights,
        resume,
        options.gpus,
    )


def _resume_state(resume: str, folder: pathlib.Path):
    """The solver state to resume from, or None for a fresh start."""
    newest = snapshots.newest(folder / SNAPSHOTS)
    if resume is None:
        if newest:
            raise UserError(
                f"{folder} holds a run, up to {newest.name}: go on with --resume auto, or give another --out"
            )
        return None
    if resume != "auto":
        return existing(resume, "snapshot")
    if newest is None:
        print(f"{folder} has no snapshot yet: starting afresh")
    return newest


def _rank(rank: int, ranks: int, shared: tuple, run: Run) -> None:
    """One of the launched processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the launcher's to hand on
    ctypes.CDLL(None).prctl(
        _DEATH_SIGNAL, signal.SIGTERM
    )  # where the launcher is killed, its ranks end as well
    run_command(lambda: train(run, LocalRanks(rank, ranks, shared)))


def _describe(run: Run, ranks: int) -> None:
    print(
        f"run {run.folder}: {run.kind}, iterations {run.loader.first_iteration} to {run.max_iter}, "
        f"{'GPUs ' + ','.join(map(str, run.gpus)) if run.gpus else 'CPU'}{f', {ranks} processes' if ranks > 1 else ''}"
    )
    print("\n".join(f"  {name}: {value}" for name, value in vars(run.loader).items()), flush=True)


def main(argv=None) -> None:
    if started_by_mpirun():
        return _main_of_mpi(argv)
    options = arguments(argv)
    run, ranks = prepare(options), len(options.gpus) or options.processes
    _describe(run, ranks)
    if ranks > 1:
        launch(_rank, ranks, ranks, LocalRanks.shared(ranks), run)
    else:
        train(run, Ranks())


def _main_of_mpi(argv) -> None:
    """Rank 0 reads the options and prepares the run; where it fails it ends, and with it the others."""
    ranks, run = MpiRanks(), None
    if ranks.rank == 0:
        options = arguments(argv)
        if options.processes > 1:
            raise UserError(
                f"mpirun starts the processes ({ranks.size}): leave --processes {options.processes} out"
            )
        run = prepare(options)
        _describe(run, ranks.size)
    run = ranks.share(run)
    if run.gpus:
        require_gpus(list(run.gpus))
    train(run, ranks)


if __name__ == "__main__":
    run_command(main)
