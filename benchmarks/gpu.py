"""Does a GPU compute what the CPU computes, and how fast is it?

    python -m benchmarks.gpu            # make bench-gpu

It needs a Caffe with CUDA (`make caffe GPU=1`) and a GPU. It prints a Markdown table and writes
it, with a JSON of the same, to --out:

- agreement: the train net, forward and backward, of one random image on the GPU and on the CPU,
  with and without TF32;
- training: seconds an iteration on inputs that stay on the GPU, and the memory of the card that is
  then in use, as nvidia-smi says it, for several limits of a layer's cuDNN workspace
  (CAFFE_CUDNN_WORKSPACE_MIB; Caffe's own is 8 MiB); then by mcc_caffe.train, with the share of it
  that waits for the loader;
- PyTorch beside it: the same net in eager mode on the same GPU, in the interpreter of --torch;
- inference: a single pass and the whole pyramid of a 640 x 480 image.

cuDNN takes TF32 by itself on GPUs since 2020; NVIDIA_TF32_OVERRIDE=0 turns it off.
"""

import argparse
import functools
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import NamedTuple

from benchmarks import nets
from benchmarks.hands import render_set
from benchmarks.jobs import Row, ask, run_training
from benchmarks.network import describe_layers
from benchmarks.output import add_out_option, check_output, write_results
from benchmarks.timing import query_card
from caffe_build import check
from mcc_caffe.caffe_io.pycaffe import require_gpus
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.markdown import markdown_table
from mcc_caffe.paper import PAPER, VARIANTS, Variant

WORKSPACES = (8, 64, 512)  # MiB
ITERATIONS = 20


class Measurement(NamedTuple):
    """A figure that is to be measured."""

    task: str
    variant: str
    setting: str
    measure: Callable[[], Row]


def environment_for(workspace: int = WORKSPACES[0], tf32: bool = True) -> dict[str, str]:
    """Return the environment variables for a workspace limit, in MiB, and for TF32 or not."""
    override = {} if tf32 else {"NVIDIA_TF32_OVERRIDE": "0"}
    return {"CAFFE_CUDNN_WORKSPACE_MIB": str(workspace), **override}


def measure_with_loader(source: pathlib.Path, gpu: int) -> Row:
    """Train the paper variant with mcc_caffe.train and two loader processes.

    Returns:
        The medians an iteration: "seconds", and "wait", the seconds of waiting for data.
    """
    options = {"--variant": PAPER.name, "--gpus": gpu, "--iterations": ITERATIONS}
    try:
        lines = run_training(source, options)[5:]  # past the start and the prefetched batches
    except UserError as error:
        return {"status": str(error)}
    return {
        "seconds": statistics.median(line["seconds"] for line in lines),
        "wait": statistics.median(line["data_wait"] for line in lines),
    }


def list_measurements(gpu: int, torch: str | None, folder: pathlib.Path) -> list[Measurement]:
    """Return the measurement of every figure, in the table's order.

    Args:
        gpu: Id of the GPU.
        torch: Interpreter that has PyTorch for CUDA, if any.
        folder: Folder that has lmdb/train, and the paper's train net as layers.json.
    """
    with_loader = Measurement(
        f"training with its data layer, batch {PAPER.batch_size}",
        PAPER.name,
        "as it is",
        functools.partial(measure_with_loader, folder / "lmdb/train", gpu),
    )
    return [
        *_list_agreement_measurements(gpu),
        *_list_training_measurements(gpu),
        *(_list_torch_measurements(gpu, torch, folder) if torch else ()),
        with_loader,
        *_list_inference_measurements(gpu),
    ]


def _list_agreement_measurements(gpu: int) -> list[Measurement]:
    return [
        _ask_worker(gpu, "GPU against CPU", variant, "agreement", tf32=tf32)
        for variant in VARIANTS.values()
        for tf32 in (False, True)
    ]


def _list_training_measurements(gpu: int) -> list[Measurement]:
    batch = PAPER.batch_size
    ask_worker = functools.partial(
        _ask_worker, gpu, f"training, batch {batch}", PAPER, "training", batch, ITERATIONS
    )
    return [*(ask_worker(workspace=workspace) for workspace in WORKSPACES), ask_worker(tf32=False)]


def _list_torch_measurements(gpu: int, torch: str, folder: pathlib.Path) -> list[Measurement]:
    batch = PAPER.batch_size
    worker = "benchmarks.peers.torch_gpu_training"
    inputs = (folder / "layers.json", f"cuda:{gpu}", batch, ITERATIONS)
    return [
        Measurement(
            f"PyTorch, training, batch {batch}",
            PAPER.name,
            setting,
            functools.partial(ask, torch, worker, *inputs, int(tf32)),
        )
        for tf32, setting in ((True, "TF32"), (False, "no TF32"))
    ]


def _list_inference_measurements(gpu: int) -> list[Measurement]:
    return [
        _ask_worker(
            gpu,
            f"inference, {name}",
            variant,
            "inference",
            levels,
            ITERATIONS,
            workspace=workspace,
        )
        for variant in VARIANTS.values()
        for levels, name in ((1, "single pass"), (0, "full pyramid"))
        for workspace in WORKSPACES[:2]
    ]


def _ask_worker(
    gpu: int,
    task: str,
    variant: Variant,
    figure: str,
    *numbers: int,
    workspace: int = WORKSPACES[0],
    tf32: bool = True,
) -> Measurement:
    """Return the measurement of a figure by `gpu_worker`.

    Args:
        gpu: Id of the GPU.
        task: What is measured, for the table.
        variant: The network's size.
        figure: The worker's name of the figure.
        numbers: What the worker takes after the GPU.
        workspace: The limit of a layer's cuDNN workspace in MiB.
        tf32: Whether cuDNN may take TF32.
    """
    measure = functools.partial(
        ask,
        sys.executable,
        "benchmarks.gpu_worker",
        figure,
        variant.name,
        gpu,
        *numbers,
        environment=environment_for(workspace, tf32),
    )
    setting = f"{'TF32' if tf32 else 'no TF32'}, {workspace} MiB"
    return Measurement(task, variant.name, setting, measure)


def describe_figure(figure: Row) -> str:
    """Return a figure as the table shows it."""
    if figure.get("status"):
        return figure["status"]
    if "forward" in figure:
        return ", ".join(
            f"{direction} {figure[direction]['error']:.1e} ({figure[direction]['blob']})"
            for direction in ("forward", "backward")
        )
    if "wait" in figure:
        wait = f"{figure['wait']:.3f} s of it waiting for data"
        return f"{figure['seconds']:.3f} s/iteration, {wait}"
    if "levels" in figure:
        network = f"{1e3 * figure['network']:.1f} of it in the net"
        return f"{1e3 * figure['total']:.1f} ms/image, {network}, {figure['levels']} levels"
    return f"{figure['seconds']:.3f} s/iteration, {figure['mib']} MiB"


def require_torch(python: str) -> None:
    """Check that an interpreter has a PyTorch that works with CUDA.

    Raises:
        UserError: The interpreter has none.
    """
    test = (
        "import sys, torch; "
        "sys.exit(0 if torch.cuda.is_available() else 'its PyTorch finds no CUDA')"
    )
    try:
        done = subprocess.run([python, "-c", test], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--torch {python}: {error.strerror}") from None
    if done.returncode:
        reason = check.reason(done.returncode, done.stderr)
        raise UserError(
            f"--torch {python} will not do ({reason}): "
            "name a Python with PyTorch for CUDA, or leave it out"
        )


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    parser.add_argument("--gpu", type=int, default=0, metavar="ID", help="(default: 0)")
    parser.add_argument(
        "--torch", metavar="PYTHON", help="interpreter that has PyTorch for CUDA, to compare with"
    )
    add_out_option(parser, "runs/bench-gpu")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    check_output(options.out, "gpu")
    require_gpus([options.gpu])
    if options.torch:
        require_torch(options.torch)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        render_set(folder)
        batch = nets.random_batch(PAPER.name, PAPER.batch_size)
        fed_net = nets.fed_by_hand(nets.read_train_net(PAPER.name), batch)
        (folder / "layers.json").write_text(describe_layers(fed_net))
        bar = progress_bar(list_measurements(options.gpu, options.torch, folder), unit="figure")
        for task, variant, setting, measure in bar:
            bar.set_postfix_str(f"{task}, {variant}, {setting}")
            rows.append((task, variant, setting, measure()))
    lines = [[*labels, describe_figure(figure)] for *labels, figure in rows]
    table = markdown_table(["task", "variant", "setting", "figure"], lines)
    card = query_card(options.gpu, "name,driver_version")
    write_results(options.out, "gpu", table, {"rows": rows}, facts=[card])


if __name__ == "__main__":
    run_command(main)
