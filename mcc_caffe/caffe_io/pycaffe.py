"""Imports real Caffe quietly, and finds out what it can do before Caffe would abort the process.

Caffe, its BLAS and oneDNN read a few environment variables once, when they are loaded. Therefore
`import_caffe` first sets those that the user has not set (`set_environment`), and the number of
threads must be set before it (`set_threads`).
"""

import ctypes
import logging
import os
import re
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from caffe_build.locate import importable_folder
from mcc_caffe.core.errors import UserError

HOW_TO_GET_CAFFE = (
    "`make caffe` in a checkout builds it, `python -m caffe_build` for an installed package"
)

_MOST_THREADS = 4096  # so many still start; with 100,000 the process dies

_log = logging.getLogger(__name__)


def caffe_folder() -> Path | None:
    """Return the folder of the module `caffe` that would be imported.

    Returns:
        The package's folder or, where a foreign `caffe.py` would be imported, the folder that holds
        that file; None where there is no Caffe.
    """
    folder = importable_folder()
    if folder is None:
        return None
    package = folder / "caffe"
    return package if (package / "__init__.py").is_file() else folder


def require_caffe(purpose: str) -> None:
    """Check that there is a Caffe that can run nets, without importing it.

    Args:
        purpose: What needs it, the subject of the message, such as "training".

    Raises:
        UserError: There is none, or it is to take too many threads; the message says the remedy.
    """
    if caffe_folder() is None:
        raise UserError(f"{purpose} needs Caffe, which was not found: {HOW_TO_GET_CAFFE}")
    check_thread_count()


def read_thread_count() -> int:
    """Return how many threads OMP_NUM_THREADS says; 0 where it says none."""
    # OpenMP takes a list, too, whose further numbers are of nested threads.
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(threads) if threads.isdecimal() else 0


def check_thread_count() -> None:
    """Raise UserError where Caffe would start more threads than a process can bear."""
    threads = read_thread_count()
    if threads > _MOST_THREADS:
        raise UserError(
            f"OMP_NUM_THREADS is {threads}: give a number up to {_MOST_THREADS}, best one of "
            f"up to {len(os.sched_getaffinity(0))}, a thread for each core"
        )


def import_caffe() -> ModuleType:
    """Import Caffe without its start-up messages.

    Returns:
        The module `caffe`.

    Raises:
        UserError: It is missing or broken; the message says the remedy.
    """
    set_environment()
    if caffe_folder() is None:
        raise UserError(f"Caffe was not found: {HOW_TO_GET_CAFFE}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import caffe  # slow, and the variables that it reads must be set before
    except (Exception, SystemExit) as error:  # another module of the name may raise anything
        raise UserError(
            f"caffe cannot be imported ({error}) from {caffe_folder()}: run `make caffe`; "
            "`python -m mcc_caffe.doctor` says more"
        ) from None
    if not hasattr(caffe, "Net"):
        raise UserError(
            f"the module caffe in {caffe_folder()} is not Caffe, but stands before it on Python's "
            "path: rename it, or take its folder out of PYTHONPATH"
        )
    _log.debug("Caffe: %s", caffe.__file__)
    return caffe


def parameter_count(net: Any) -> int:
    """Count the parameters of a Caffe net: the weights and biases of all layers."""
    return sum(blob.count for blobs in net.params.values() for blob in blobs)


def set_environment() -> None:
    """Set four variables that Caffe's libraries read when they are loaded.

    A variable that the user has set stays as it is.

    - GLOG_minloglevel=2: Caffe logs only errors; by default it prints every net at length.
    - GOMP_SPINCOUNT=10000: oneDNN's threads that wait for work spin for a short while, then sleep.
      By default they spin for as long as another program has their core. If they slept at once,
      waking them would take half of a small net's time.
    - CUDA_DEVICE_ORDER=PCI_BUS_ID: CUDA counts GPUs as nvidia-smi does. By default it begins with
      the fastest.
    - OPENBLAS_CORETYPE: OpenBLAS uses the kernels for this processor (see `blas_kernels`).
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    kernels = blas_kernels(Path("/proc/cpuinfo").read_text())
    if kernels:
        os.environ.setdefault("OPENBLAS_CORETYPE", kernels)


def set_threads(count: int) -> None:
    """Set the number of threads of Caffe's BLAS and oneDNN, before Caffe is imported.

    It sets OPENBLAS_NUM_THREADS and OMP_NUM_THREADS, unless the user has set them.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, str(count))


def cpu_flags(cpuinfo: str) -> set[str]:
    """Return the flags of a machine's first processor, from the text of /proc/cpuinfo."""
    return next(
        (set(line.split()) for line in cpuinfo.splitlines() if line.startswith("flags")), set()
    )


def blas_kernels(cpuinfo: str) -> str:
    """Choose OpenBLAS's kernels for a processor.

    A distribution's OpenBLAS does not know processors that are younger than it, and falls back to
    kernels of 2004 for them.

    Args:
        cpuinfo: The text of /proc/cpuinfo.

    Returns:
        OpenBLAS's name of the kernels; "" where it may choose them itself.
    """
    flags = cpu_flags(cpuinfo)
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
        return "SkylakeX"
    return "Haswell" if {"avx2", "fma"} <= flags else ""


def has_cuda() -> bool:
    """Return whether Caffe was built with CUDA."""
    return _has_symbol("cublasCreate_v2")


def has_onednn() -> bool:
    """Return whether Caffe has our convolutions by oneDNN."""
    return _has_symbol("dnnl_version")


def _has_symbol(name: str) -> bool:
    """Return whether Caffe, or a library that it links to, defines a symbol.

    The program's other libraries do not count: PyTorch brings CUDA's, for example.
    """
    return hasattr(ctypes.CDLL(import_caffe()._caffe.__file__), name)


def gpu_ids() -> list[int]:
    """List the ids of the GPUs that CUDA will know, without starting it.

    Returns:
        The ids; none where there is no driver. Of the GPUs in CUDA_VISIBLE_DEVICES, the ids are the
        places in this list.
    """
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    names = [line.split(":")[0].split()[1] for line in listing.splitlines() if line[:4] == "GPU "]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(map(int, names))
    # It names them by number or by the start of a UUID; a part of a GPU (MIG) has its own UUID.
    uuids = re.findall(r"\(UUID: (.*?)\)", listing)
    chosen = []
    for name in map(str.strip, visible.split(",")):
        if name.isdecimal():
            matches = [known for known in names if int(known) == int(name)]
        else:
            matches = [uuid for uuid in uuids if name and uuid.startswith(name)]
        if len(matches) != 1:  # CUDA stops at the first name of no GPU, such as "", -1 or 99
            break
        chosen += matches
    if len(set(chosen)) < len(chosen):  # CUDA takes none where one is named twice
        return []
    return list(range(len(chosen)))


def select_device(gpu: int | None) -> None:
    """Let Caffe compute, in this thread, on the GPU with this id; None for the CPU."""
    caffe = import_caffe()
    if gpu is None:
        caffe.set_mode_cpu()
    else:
        # The device comes before the mode, which would take memory on GPU 0 as well.
        caffe.set_device(gpu)
        caffe.set_mode_gpu()


def require_gpus(ids: Sequence[int]) -> None:
    """Check that this Caffe can run on the GPUs of this machine.

    Args:
        ids: The ids of the GPUs.

    Raises:
        UserError: It cannot; the message says what is missing.
    """
    caffe = import_caffe()
    asked, present = ",".join(map(str, ids)), gpu_ids()
    if not has_cuda():
        raise UserError(
            f"GPU {asked} was asked for, but this Caffe ({caffe.__file__}) is built for the CPU "
            "only: `make caffe GPU=1` builds one with CUDA, CAFFE_PREFIX=DIR names one of yours; "
            "or leave the GPUs out"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not present and visible is not None:
        raise UserError(
            f"GPU {asked} was asked for, but nvidia-smi lists no GPU that "
            f"CUDA_VISIBLE_DEVICES={visible} leaves: set it to GPUs that `nvidia-smi -L` lists, or "
            "leave the GPUs out to run on the CPU"
        )
    if not present:
        raise UserError(
            f"GPU {asked} was asked for, but nvidia-smi lists no GPU on this machine: "
            "install NVIDIA's driver, or leave the GPUs out to run on the CPU, "
            "which this Caffe can as well"
        )
    for gpu in ids:
        if gpu not in present:
            raise UserError(
                f"GPU {gpu} does not exist: nvidia-smi and CUDA_VISIBLE_DEVICES leave "
                f"{', '.join(map(str, present))}"
            )
    if len(set(ids)) < len(ids):
        raise UserError(f"GPUs {asked} name one GPU twice: give each GPU once")
    if len(ids) > 1:
        require_nccl(len(ids))


def require_nccl(gpu_count: int) -> None:
    """Raise UserError where this Caffe lacks NCCL, by which several GPUs train together."""
    if not import_caffe().has_nccl():
        raise UserError(
            f"{gpu_count} GPUs were asked for, but this Caffe is built without NCCL: "
            "`make caffe GPU=1` builds one with it; or use one GPU"
        )
