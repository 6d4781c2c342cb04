"""Looks at everything the project stands on, and says what to do about each thing that is missing.

    python -m mcc_caffe.doctor           a table
    python -m mcc_caffe.doctor --json    the same as JSON

Exit codes: 0 all that a CPU needs works, 1 something of it does not. GPUs and what belongs to them may be missing.
"""

import ctypes
import dataclasses
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

from caffe_build import check
from caffe_build.locate import build_name, cache_folder, importable_folder
from mcc_caffe.caffe_io.pycaffe import gpu_ids, has_cuda, has_onednn, set_environment
from mcc_caffe.caffe_io.weights import describe, shipped_weights
from mcc_caffe.core.commands import command_parser, run_command
from mcc_caffe.core.files import shipped
from mcc_caffe.paper import VARIANTS

LAYERS = (
    "Convolution",
    "Pooling",
    "ReLU",
    "Concat",
    "EuclideanLoss",
    "SoftmaxWithLoss",
    "Softmax",
    "Python",
    "Input",
    "Silence",
)
MARKS = {"ok": "✓", "failed": "✗", "absent": "–"}
LITTLE_ROOM = 1.0  # GB in the cache's disk; a build of Caffe needs half of it


@dataclasses.dataclass(frozen=True)
class Row:
    """One thing looked at; `status` is "ok", "failed" or, where a CPU can do without it, "absent". An empty `remedy`: nothing to do."""

    name: str
    status: str
    found: str
    remedy: str


class _Absent(Exception):
    """Not there, and not needed on a CPU."""


class _Unknown(Exception):
    """Something else must be mended first."""


class _Unfit(Exception):
    """There, but not as it must be."""


def look() -> list[Row]:
    """All rows. Never raises for what it finds, a Caffe that aborts the process included."""
    caffe = _caffe_facts()
    rebuild = "run `make caffe`; for a Caffe of your own: CAFFE_PREFIX=DIR make caffe"
    setup = "run `make setup`"
    cuda = "needed for --gpu only: `make caffe GPU=1` builds a Caffe with it; or bring one, CAFFE_PREFIX=DIR make caffe"
    return [
        _row(
            "Python",
            _python,
            "make .venv anew with the distribution's Python, 3.10 or newer: rm -r .venv; make setup",
        ),
        _row(
            "Caffe",
            lambda: ", ".join(filter(None, (_of(caffe, "version"), caffe["built"], caffe["path"]))),
            rebuild,
        ),
        _row(
            "Python layer",
            lambda: _no_lack(_of(caffe, "lacks"), ["Python"], "the data layer can run"),
            "build Caffe with WITH_PYTHON_LAYER=1 (BUILD_python_layer=ON for cmake), or " + rebuild,
        ),
        _row(
            "layer types",
            lambda: _no_lack(_of(caffe, "lacks"), LAYERS, f"all {len(LAYERS)} that the nets use"),
            rebuild,
        ),
        _row(
            "BLAS", lambda: _of(caffe, "blas"), "a Caffe without a known BLAS is slow: " + rebuild
        ),
        _row(
            "oneDNN",
            lambda: _wanted(
                _of(caffe, "onednn"),
                "Caffe's convolutions run by it",
                "convolutions on the CPU take twice as long",
            ),
            "this Caffe was built elsewhere: `make caffe` builds one that has it",
        ),
        _row(
            "CUDA",
            lambda: _wanted(
                _of(caffe, "cuda"), "Caffe is built with it", "Caffe is built for the CPU only"
            ),
            cuda,
        ),
        _row(
            "NCCL",
            lambda: _wanted(
                _of(caffe, "nccl"), "Caffe is built with it", "no training on several GPUs"
            ),
            cuda,
        ),
        _row(
            "GPUs",
            _gpus,
            "needed for --gpu only: install NVIDIA's driver, so that nvidia-smi -L lists the GPUs",
        ),
        _row(
            "LMDB",
            _lmdb,
            f"{setup}; the temporary folder (TMPDIR) must be on a disk that can be written and mapped",
        ),
        _row(
            "OpenCV",
            _opencv,
            f"{setup} (it also installs libgl1 and libglib2.0-0, which opencv-python links to)",
        ),
        _row("protobuf", _protobuf, setup),
        _row("h5py", lambda: __import__("h5py").__version__, setup),
        _row("matplotlib", lambda: __import__("matplotlib").__version__, setup),
        _row("prototxts", _prototxts, "run `make prototxt`"),
        _row(
            "weights",
            _weights,
            "install the package again: a file of mcc_caffe/pretrained is damaged",
        ),
        _row("disk", _disk, "make room, or set XDG_CACHE_HOME to a larger disk"),
        _row("cores, memory", _machine, ""),
    ]


def _row(name: str, look_at: Callable[[], str], remedy: str) -> Row:
    try:
        return Row(name, "ok", look_at(), "")
    except _Absent as lack:
        return Row(name, "absent", str(lack), remedy)
    except _Unknown as lack:
        return Row(name, "absent", str(lack), "")
    except _Unfit as fault:
        return Row(name, "failed", str(fault), remedy)
    except Exception as error:  # whatever is broken here: it is what the table is for
        return Row(name, "failed", f"{type(error).__name__}: {error}", remedy)


def _caffe_facts() -> dict:
    """What `tell_caffe` found in a process of its own, or {"fault": why it could not}."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        "from mcc_caffe.doctor import tell_caffe; tell_caffe()",
    ]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return {"fault": "import caffe did not end within 120 s"}
    if run.returncode:
        folder = importable_folder()
        return {
            "fault": f"{check.reason(run)} ({f'the one in {folder}' if folder else 'there is none on the path'})"
        }
    return json.loads(run.stdout.splitlines()[-1])


def tell_caffe() -> None:
    """Prints as JSON what the imported Caffe is; run in a process of its own."""
    set_environment()
    import caffe  # in this process only: it may be broken

    types = set(caffe.layer_type_list())
    facts = {
        "version": caffe.__version__,
        "path": os.path.dirname(caffe.__file__),
        "built": build_name(pathlib.Path(caffe.__file__).parent.parent),
        "lacks": [name for name in LAYERS if name not in types],
        "blas": blas_in_use(pathlib.Path("/proc/self/maps").read_text()),
        "onednn": has_onednn(),
        "cuda": has_cuda(),
        "nccl": caffe.has_nccl(),
    }
    print(json.dumps(facts))


def blas_in_use(maps: str) -> str:
    """Name, threads and processor kernels of the BLAS that Caffe loaded into this process, whose /proc/self/maps is given.

    NumPy and SciPy from PyPI bring OpenBLAS copies of their own; those are passed over.
    """
    paths = {
        line.split()[-1]
        for line in maps.splitlines()
        if re.search(r"/lib[^/]*(blas|mkl_rt|atlas)[^/]*\.so", line)
    }
    own = sorted(
        path for path in paths if "site-packages" not in path and "dist-packages" not in path
    )
    for path in own:
        if "openblas" in path:
            library = ctypes.CDLL(path)
            library.openblas_get_config.restype = library.openblas_get_corename.restype = (
                ctypes.c_char_p
            )
            version = " ".join(library.openblas_get_config().decode().split()[:2])
            core = library.openblas_get_corename().decode()
            return f"{version}, {library.openblas_get_num_threads()} threads, kernels for {core}, {path}"
    return ", ".join(own)


def _of(caffe: dict, name: str):
    if "fault" in caffe:
        raise _Unfit(caffe["fault"]) if name == "version" else _Unknown("not known without Caffe")
    if caffe[name] == "":
        raise _Unfit("none found")
    return caffe[name]


def _no_lack(lacks: list, needed, found: str) -> str:
    missing = [name for name in needed if name in lacks]
    if missing:
        raise _Unfit(f"missing: {', '.join(missing)}")
    return found


def _wanted(there: bool, found: str, lack: str) -> str:
    if not there:
        raise _Absent(lack)
    return found


def _python() -> str:
    if sys.version_info < (3, 10):
        raise _Unfit(f"{platform.python_version()} is too old, {sys.executable}")
    return f"{platform.python_version()}, {sys.executable}"


def _gpus() -> str:
    ids = gpu_ids()
    return _wanted(
        bool(ids), f"{len(ids)}, with ids {', '.join(map(str, ids))}", "nvidia-smi lists none"
    )


def _lmdb() -> str:
    import lmdb  # may be missing, which is a row of the table

    with tempfile.TemporaryDirectory() as folder, lmdb.open(folder) as environment:
        with environment.begin(write=True) as transaction:
            transaction.put(b"key", b"value")
        with environment.begin() as transaction:
            if transaction.get(b"key") != b"value":
                raise _Unfit("a value did not come back as it was written")
    return f"{lmdb.__version__}, written and read"


def _opencv() -> str:
    import cv2  # may be missing, which is a row of the table
    import numpy as np

    image = np.full((8, 8, 3), 100, np.uint8)
    for suffix in (".jpg", ".png"):
        decoded = cv2.imdecode(cv2.imencode(suffix, image)[1], cv2.IMREAD_COLOR)
        if decoded is None or abs(decoded.astype(int) - image).max() > 3:
            raise _Unfit(f"{cv2.__version__}, but it cannot write and read {suffix}")
    return f"{cv2.__version__}, writes and reads JPEG and PNG"


def _protobuf() -> str:
    # May be missing, which is a row of the table.
    import google.protobuf
    from google.protobuf.internal import api_implementation

    implementation = api_implementation.Type()
    return f"{google.protobuf.__version__}, {implementation}" + (
        " (slow)" if implementation == "python" else ""
    )


def _prototxts() -> str:
    paths = [
        shipped(f"prototxt/{variant}/{name}.prototxt")
        for variant in VARIANTS
        for name in ("train", "deploy")
    ]
    return f"{', '.join(VARIANTS)} in {paths[0].parent.parent}"


def _weights() -> str:
    there = {variant: path for variant in VARIANTS if (path := shipped_weights(variant))}
    for path in there.values():
        describe(path)
    return _wanted(bool(there), f"of {', '.join(there)}, packed", "none come with the package")


def _disk() -> str:
    folder = cache_folder()
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    return _wanted(
        free >= LITTLE_ROOM,
        f"{free:.1f} GB free for {folder}",
        f"only {free:.1f} GB free for {folder}",
    )


def _machine() -> str:
    total, available = (
        int(re.search(rf"^{name}:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.M)[1])
        / 2**20
        for name in ("MemTotal", "MemAvailable")
    )
    return (
        f"{len(os.sched_getaffinity(0))} cores, {total:.1f} GiB of memory, {available:.1f} GiB free"
    )


def main(argv=None) -> int:
    parser = command_parser(__doc__, prog="python -m mcc_caffe.doctor")
    parser.add_argument("--json", action="store_true", help="print JSON: works, and a list of rows")
    arguments = parser.parse_args(argv)
    rows = look()
    works = all(row.status != "failed" for row in rows)
    if arguments.json:
        print(
            json.dumps(
                {"works": works, "rows": [dataclasses.asdict(row) for row in rows]}, indent=2
            )
        )
    else:
        sys.stdout.reconfigure(
            errors="replace"
        )  # a terminal without these marks still shows the table
        for row in rows:
            print(f"{MARKS[row.status]} {row.name:<14} {row.found}")
            if row.remedy:
                print(f"{'':17}-> {row.remedy}")
    return 0 if works else 1


if __name__ == "__main__":
    run_command(main)
