"""Does a GPU compute what the CPU computes, and how fast is it? `python -m benchmarks.gpu` (`make bench-gpu`).

Needs a Caffe with CUDA (`make caffe GPU=1`) and a GPU. Prints a Markdown table and writes it, with a JSON of the same, to --out:

- agreement: the whole train net, forward and backward, of one random image on the GPU and on the CPU, with and without TF32;
- training: seconds an iteration on inputs that stay on the GPU, for several limits of a layer's cuDNN workspace
  (CAFFE_CUDNN_WORKSPACE_MIB; Caffe's own is 8 MiB); then by mcc_caffe.train, with the share of it that waits for the loader;
- PyTorch beside it: the same net in eager mode on the same GPU, in the interpreter that --torch names;
- inference: a single pass and the whole pyramid of a 640 x 480 image.

TF32 is what cuDNN does by itself on GPUs since 2020; NVIDIA_TF32_OVERRIDE=0 turns it off, here as anywhere.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial

from google.protobuf import json_format
from tqdm import tqdm

from benchmarks.gpu_worker import alone
from caffe_build.check import reason
from data_tools import build_lmdb, synth
from mcc_caffe.caffe_io.pycaffe import require_gpus
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.paper import PAPER, VARIANTS
from mcc_caffe.training.log import read_log

WORKSPACES = (8, 64, 512)  # MiB
ITERATIONS = 20


def setting(workspace: int = WORKSPACES[0], tf32: bool = True) -> dict:
    """The environment that asks for a workspace limit, in MiB, and for TF32 or not."""
    return {
        "CAFFE_CUDNN_WORKSPACE_MIB": str(workspace),
        **({} if tf32 else {"NVIDIA_TF32_OVERRIDE": "0"}),
    }


def ask(python, module: str, *args, environment: dict = {}) -> dict:
    """The JSON that `python -m module args` prints last, or {"failed": why}."""
    done = subprocess.run(
        [python, "-m", module, *map(str, args)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    return {"failed": reason(done)} if done.returncode else json.loads(done.stdout.splitlines()[-1])


def with_loader(source: pathlib.Path, gpu: int) -> dict:
    """{"seconds", "wait"}: medians an iteration of mcc_caffe.train on the paper variant, two loader processes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "mcc_caffe.train",
            source,
            "--variant",
            PAPER.name,
            "--gpus",
            str(gpu),
            "--interval",
            "1",
            "--iterations",
            str(ITERATIONS),
            "--out",
            folder,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return {"failed": reason(done)}
        lines = read_log(pathlib.Path(folder))[5:]  # past the start and the prefetched batches
    return {
        "seconds": statistics.median(line["seconds"] for line in lines),
        "wait": statistics.median(line["data_wait"] for line in lines),
    }


def jobs(gpu: int, torch: str, folder: pathlib.Path) -> list:
    """(what, variant, setting, function that measures it) of every figure, in the table's order."""

    def own(
        what: str, variant, job: str, *numbers, workspace: int = WORKSPACES[0], tf32: bool = True
    ) -> tuple:
        measure = partial(
            ask,
            sys.executable,
            "benchmarks.gpu_worker",
            job,
            variant.name,
            gpu,
            *numbers,
            environment=setting(workspace, tf32),
        )
        return what, variant.name, f"{'TF32' if tf32 else 'no TF32'}, {workspace} MiB", measure

    batch = PAPER.batch_size
    found = [
        own("GPU against CPU", variant, "agreement", tf32=tf32)
        for variant in VARIANTS.values()
        for tf32 in (False, True)
    ]
    found += [
        own(f"training, batch {batch}", PAPER, "training", batch, ITERATIONS, workspace=workspace)
        for workspace in WORKSPACES
    ]
    found += [own(f"training, batch {batch}", PAPER, "training", batch, ITERATIONS, tf32=False)]
    for tf32 in (True, False) if torch else ():
        measure = partial(
            ask,
            torch,
            "benchmarks.peers.torch_training",
            folder / "layers.json",
            f"cuda:{gpu}",
            batch,
            ITERATIONS,
            int(tf32),
        )
        found.append(
            (
                f"PyTorch, training, batch {batch}",
                PAPER.name,
                "TF32" if tf32 else "no TF32",
                measure,
            )
        )
    found.append(
        (
            f"training with its data layer, batch {batch}",
            PAPER.name,
            "as it is",
            partial(with_loader, folder / "lmdb/train", gpu),
        )
    )
    for variant in VARIANTS.values():
        for levels, name in ((1, "single pass"), (0, "full pyramid")):
            found += [
                own(
                    f"inference, {name}",
                    variant,
                    "inference",
                    levels,
                    ITERATIONS,
                    workspace=workspace,
                )
                for workspace in WORKSPACES[:2]
            ]
    return found


def words(figure: dict) -> str:
    """A figure as the table shows it."""
    if "failed" in figure:
        return f"failed: {figure['failed']}"
    if "forward" in figure:
        return ", ".join(
            f"{way} {figure[way]['error']:.1e} ({figure[way]['blob']})"
            for way in ("forward", "backward")
        )
    if "wait" in figure:
        return f"{figure['seconds']:.3f} s/iteration, {figure['wait']:.3f} s of it waiting for data"
    if "levels" in figure:
        return f"{1e3 * figure['total']:.1f} ms/image, {1e3 * figure['network']:.1f} of it in the net, {figure['levels']} levels"
    return f"{figure['seconds']:.3f} s/iteration, {figure['mib']} MiB"


def require_torch(python: str) -> None:
    """UserError where that interpreter has no PyTorch that works with CUDA."""
    test = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 'its PyTorch finds no CUDA')"
    try:
        done = subprocess.run([python, "-c", test], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--torch {python}: {error.strerror}") from None
    if done.returncode:
        raise UserError(
            f"--torch {python} will not do ({reason(done)}): name a Python with PyTorch for CUDA, or leave it out"
        )


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gpu", type=int, default=0, metavar="ID", help="(default: 0)")
    parser.add_argument(
        "--torch", metavar="PYTHON", help="interpreter that has PyTorch for CUDA, to compare with"
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/bench-gpu"),
        metavar="FOLDER",
        help="(default: runs/bench-gpu)",
    )
    options = parser.parse_args(argv)
    require_gpus([options.gpu])
    if options.torch:
        require_torch(options.torch)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        synth.main(
            ["--out", str(folder / "hands"), "--train", "60", "--test", "2", "--size", "640"]
        )
        build_lmdb.main([str(folder / "hands"), str(folder / "lmdb")])
        layers = [
            json_format.MessageToDict(layer, preserving_proto_field_name=True)
            for layer in alone(PAPER.name, PAPER.batch_size).layer
        ]
        (folder / "layers.json").write_text(json.dumps(layers))
        with tqdm(jobs(options.gpu, options.torch, folder), unit="figure") as bar:
            for what, variant, how, measure in bar:
                bar.set_postfix_str(f"{what}, {variant}, {how}")
                rows.append((what, variant, how, measure()))
    machine = f"{_card(options.gpu)}, {platform.machine()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    table = ["| what | variant | setting | figure |", "| --- | --- | --- | --- |"]
    table += [
        f"| {what} | {variant} | {how} | {words(figure)} |" for what, variant, how, figure in rows
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    text = "\n".join([machine, "", *table, ""])
    (options.out / "gpu.md").write_text(text)
    (options.out / "gpu.json").write_text(
        json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n"
    )
    print(text)


def _card(gpu: int) -> str:
    query = [
        "nvidia-smi",
        f"--id={gpu}",
        "--query-gpu=name,driver_version",
        "--format=csv,noheader",
    ]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    run_command(main)
