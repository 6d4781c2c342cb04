"""Real Caffe, imported quietly, with what a command must know of it before Caffe would abort the process."""

import os
import subprocess
import warnings

from mcc_caffe.core.errors import UserError


def import_caffe():
    """The module `caffe`, its own start-up chatter off; UserError with the remedy where it is missing or broken."""
    set_environment()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import caffe  # slow, and what it reads of the environment must be set before
    except ImportError as error:
        raise UserError(
            f"caffe cannot be imported ({error}): run `make caffe`; `python -m mcc_caffe.doctor` says more"
        ) from None
    return caffe


def parameter_count(net) -> int:
    """The number of parameters, all layers' weights and biases, of a Net."""
    return sum(blob.count for blobs in net.params.values() for blob in blobs)


def set_environment() -> None:
    """What Caffe, its BLAS and oneDNN read when they are loaded, where the user has not set it."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # Caffe prints whole nets otherwise
    # oneDNN's threads spin for this short while and then sleep: without, half of a small net's time goes into waking them; by default
    # they spin for as long as another program has their core.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    kernels = blas_kernels(open("/proc/cpuinfo").read())
    if kernels:
        os.environ.setdefault("OPENBLAS_CORETYPE", kernels)


def set_threads(count: int) -> None:
    """How many threads Caffe's BLAS and oneDNN use, where the user has not said it; to be called before Caffe is loaded."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, str(count))


def blas_kernels(cpuinfo: str) -> str:
    """OpenBLAS's name of the kernels for the processor that /proc/cpuinfo describes, "" where it may choose itself.

    A distribution's OpenBLAS does not know processors that are younger than it, and falls back to kernels of 2004 for them.
    """
    flags = next(
        (set(line.split()) for line in cpuinfo.splitlines() if line.startswith("flags")), set()
    )
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
        return "SkylakeX"
    return "Haswell" if {"avx2", "fma"} <= flags else ""


def has_cuda() -> bool:
    """Whether the imported Caffe was built with CUDA."""
    return _has_loaded("libcudart", "libcublas")


def has_onednn() -> bool:
    """Whether the imported Caffe has our convolutions by oneDNN."""
    return _has_loaded("libdnnl")


def _has_loaded(*libraries: str) -> bool:
    """Whether Caffe brought one of the libraries into this process."""
    import_caffe()
    with open("/proc/self/maps") as maps:
        return any(library in line for line in maps for library in libraries)


def gpu_ids() -> list:
    """Ids of the GPUs that the driver lists; empty without a driver. Starts no CUDA."""
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [
        int(line.split(":")[0].split()[1])
        for line in listing.splitlines()
        if line.startswith("GPU ")
    ]


def require_gpus(ids: list) -> None:
    """UserError that says what is missing where this Caffe or this machine cannot run on the GPUs `ids`."""
    caffe = import_caffe()
    asked, present = ",".join(map(str, ids)), gpu_ids()
    if not has_cuda():
        raise UserError(
            f"GPU {asked} was asked for, but this Caffe ({caffe.__file__}) is built for the CPU only: "
            "`make caffe GPU=1` builds one with CUDA, CAFFE_PREFIX=DIR names one of yours; or leave the GPUs out"
        )
    if not present:
        raise UserError(
            f"GPU {asked} was asked for, but nvidia-smi lists no GPU on this machine: install NVIDIA's driver, "
            "or leave the GPUs out to run on the CPU, which this Caffe can as well"
        )
    for gpu in ids:
        if gpu not in present:
            raise UserError(
                f"GPU {gpu} does not exist: nvidia-smi lists {', '.join(map(str, present))}"
            )
    if len(set(ids)) < len(ids):
        raise UserError(f"GPUs {ids} name one GPU twice")
    if len(ids) > 1 and not caffe.has_nccl():
        raise UserError(
            f"{len(ids)} GPUs were asked for, but this Caffe is built without NCCL: `make caffe GPU=1` builds one with it; "
            "or use one GPU"
        )
