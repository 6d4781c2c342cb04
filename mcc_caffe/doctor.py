"""Looks at all that the project needs, and says what to do about each thing that is missing.

    python -m mcc_caffe.doctor           a table
    python -m mcc_caffe.doctor --json    the same as JSON

The exit code is 0 where hands can be found in images on a CPU, else 1. What only other work needs,
such as Caffe for training or PyAV for videos, may be missing, but not broken.
"""

import ctypes
import dataclasses
import importlib
import importlib.util
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypedDict

from google.protobuf import text_format

from caffe_build import check
from caffe_build.errors import PrefixError
from caffe_build.locate import build_name, cache_folder, importable_folder
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.own_messages import message_classes
from mcc_caffe.caffe_io.precision import (
    BFLOAT16,
    PRECISION_VARIABLE,
    TRAINING_PRECISION,
    choose_precision,
)
from mcc_caffe.caffe_io.pycaffe import (
    HOW_TO_GET_CAFFE,
    gpu_ids,
    has_cuda,
    has_onednn,
    set_environment,
)
from mcc_caffe.caffe_io.weights import file_shapes
from mcc_caffe.core.commands import command_parser, run_command
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.inference.engines.onnx_engine import import_onnxruntime
from mcc_caffe.paper import LAST_STAGE, VARIANTS, stage_blob, stage_loss_blob

LAYERS = (
    "Convolution",
    "Pooling",
    "ReLU",
    "Concat",
    "Slice",
    "Eltwise",
    "EuclideanLoss",
    "SoftmaxWithLoss",
    "SigmoidCrossEntropyLoss",
    "Softmax",
    "Python",
    "Input",
    "Silence",
)
MARKS = {"ok": "✓", "failed": "✗", "absent": "–"}
LEAST_FREE_GB = 1.0  # of the cache's disk; a build of Caffe needs half of it


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table, and one object of the JSON.

    Attributes:
        name: What was checked.
        status: "ok", "failed" or, where finding hands can do without it, "absent".
        state: What the check says of it: a version, a path or a fault.
        remedy: What to do about it; empty where there is nothing to do.
    """

    name: str
    status: str
    state: str
    remedy: str


class CaffeFacts(TypedDict):
    """What a working Caffe is.

    version: its own. path: folder of the module. built: how `caffe_build` built it, empty for a
    Caffe of the user's. missing_layers: those of LAYERS that it lacks. blas: as `blas_in_use`
    describes it, empty where it is not known. onednn, cuda, nccl: whether it was built with them.
    """

    version: str
    path: str
    built: str
    missing_layers: list[str]
    blas: str
    onednn: bool
    cuda: bool
    nccl: bool


class _Absent(Exception):
    """A thing is missing that finding hands on a CPU can do without."""


class _Unknown(Exception):
    """A thing cannot be looked at before another one is mended."""


class _Unfit(Exception):
    """A thing that is needed is missing, or not as it must be."""


def examine() -> list[Row]:
    """Look at everything. Nothing that is broken raises, not even a Caffe that aborts."""
    python = Row("Python", "ok", f"{platform.python_version()}, {sys.executable}", "")
    caffe = _caffe_facts() if importable_folder() else None
    return [python, *_make_caffe_rows(caffe), *_make_engine_rows(caffe), *_make_other_rows()]


def _make_caffe_rows(caffe: CaffeFacts | str | None) -> list[Row]:
    """Return the rows about Caffe.

    Args:
        caffe: Its facts, or the reason why it cannot be imported; None where there is none.
    """
    rebuild = "run `make caffe`; for a Caffe of your own: CAFFE_PREFIX=DIR make caffe"
    if caffe is None:
        return [_row("Caffe", _no_caffe, f"needed for training only: {HOW_TO_GET_CAFFE}")]
    return [
        _row("Caffe", lambda: _caffe_version(caffe), rebuild),
        _row(
            "Python layer",
            lambda: _check_layers(caffe, ["Python"], "the data layer can run"),
            "build Caffe with WITH_PYTHON_LAYER=1 (BUILD_python_layer=ON for cmake), or " + rebuild,
        ),
        _row(
            "layer types",
            lambda: _check_layers(caffe, LAYERS, f"all {len(LAYERS)} that the nets use"),
            rebuild,
        ),
        _row(
            "BLAS", lambda: _caffe_blas(caffe), "a Caffe without a known BLAS is slow: " + rebuild
        ),
        *_make_optional_caffe_rows(caffe),
    ]


def _make_optional_caffe_rows(caffe: CaffeFacts | str) -> list[Row]:
    """Return the rows about what makes a Caffe faster; see `_make_caffe_rows`."""
    gpu_build = (
        "`make caffe GPU=1` builds a Caffe with it; or bring one, CAFFE_PREFIX=DIR make caffe"
    )
    return [
        _row(
            "oneDNN",
            lambda: _optional(
                _known(caffe)["onednn"],
                "Caffe's convolutions run by it",
                "convolutions on the CPU take twice as long",
            ),
            "this Caffe was built elsewhere: `make caffe` builds one that has it",
        ),
        _row(
            "bfloat16",
            lambda: _optional(
                _known(caffe)["onednn"]
                and choose_precision(default=TRAINING_PRECISION) == BFLOAT16,
                "trainings take it, all else with --precision auto",
                "trainings take float32",
            ),
            "some processors have it (avx512_bf16 in lscpu), and the Caffe of `make caffe` uses it "
            f"unless the variable {PRECISION_VARIABLE} says otherwise",
        ),
        _row(
            "CUDA",
            lambda: _optional(
                _known(caffe)["cuda"], "Caffe is built with it", "Caffe is built for the CPU only"
            ),
            f"needed for --gpu only: {gpu_build}",
        ),
        _row(
            "NCCL",
            lambda: _optional(
                _known(caffe)["nccl"], "Caffe is built with it", "no training on several GPUs"
            ),
            f"needed for training on several GPUs only: {gpu_build}",
        ),
    ]


def _make_engine_rows(caffe: CaffeFacts | str | None) -> list[Row]:
    """Return the rows about what runs the nets."""
    remedy = "`pip install onnx onnxruntime`"
    uses = "needed without Caffe, for `export` and for `web` only"
    runtime = _row("ONNX Runtime", _onnx_runtime, f"{uses}: {remedy}")

    def engine() -> str:
        if isinstance(caffe, dict):
            return "caffe runs the nets"
        if runtime.status != "ok":
            raise _Unfit("neither Caffe nor ONNX Runtime can run the nets")
        if caffe is not None:
            return "onnx can run the nets: take --engine onnx until Caffe is mended"
        return "onnx runs the nets"

    return [runtime, _row("engine", engine, remedy)]


def _no_caffe() -> str:
    raise _Absent("not installed")


def _onnx_runtime() -> str:
    _check_installed("onnxruntime")
    onnx = _import_optional("onnx")
    return f"{import_onnxruntime().__version__}, with onnx {onnx.__version__}"


def _make_other_rows() -> list[Row]:
    """Return the rows about everything but Python and Caffe."""
    setup = "run `make setup` in a checkout, else `pip install` the package again"
    return [
        _row(
            "GPUs",
            _gpus,
            "needed for --gpu only: install NVIDIA's driver, so that nvidia-smi -L lists the GPUs; "
            "CUDA_VISIBLE_DEVICES, where it is set, has to name some of them",
        ),
        _row(
            "LMDB",
            _lmdb,
            f"needed for training, evaluation, `pack` and data sets only: {setup}; the temporary "
            "folder (TMPDIR) must be on a disk that can be written and mapped",
        ),
        _row(
            "OpenCV",
            _opencv,
            f"{setup} (it also installs libgl1 and libglib2.0-0, which opencv-python links to)",
        ),
        _row("Pillow", lambda: importlib.import_module("PIL").__version__, setup),
        _row("tqdm", lambda: importlib.import_module("tqdm").__version__, setup),
        _row("PyAV", lambda: _optional_version("av"), f"needed for videos only: {setup}"),
        _row("protobuf", _protobuf, setup),
        _row(
            "h5py",
            lambda: _optional_version("h5py"),
            f"needed for `infer --heatmaps` and `bake` only: {setup}",
        ),
        _row(
            "matplotlib",
            lambda: _optional_version("matplotlib"),
            f"needed for evaluation and charts only: {setup}",
        ),
        _row("prototxts", _prototxts, "run `make prototxt`, or install the package again"),
        _row(
            "weights",
            _weights,
            "install the package again: a file of mcc_caffe/pretrained is damaged or missing",
        ),
        _row("disk", _disk, "make room, or set XDG_CACHE_HOME to a larger disk"),
        _row("cores, memory", _machine, ""),
    ]


def _row(name: str, look: Callable[[], str], remedy: str) -> Row:
    """Look at one thing; what `look` raises decides the row's status."""
    try:
        return Row(name, "ok", look(), "")
    except _Absent as lack:
        return Row(name, "absent", str(lack), remedy)
    except _Unknown as lack:
        return Row(name, "absent", str(lack), "")
    except _Unfit as fault:
        return Row(name, "failed", str(fault), remedy)
    except Exception as error:  # the table is there to show whatever is broken
        return Row(name, "failed", f"{type(error).__name__}: {error}", remedy)


def _caffe_facts() -> CaffeFacts | str:
    """Return what another process says of Caffe, or the reason why it cannot be imported."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        "from mcc_caffe.doctor import print_caffe_facts; print_caffe_facts()",
    ]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return "import caffe did not end within 120 s"
    if process.returncode:
        reason = check.reason(process.returncode, process.stderr)
        return f"{reason} (the one in {importable_folder()})"
    return json.loads(process.stdout.splitlines()[-1])


def print_caffe_facts() -> None:
    """Print CaffeFacts as JSON. This runs in a process of its own, which a bad Caffe may abort."""
    set_environment()
    try:
        import caffe  # here, because it may be broken or missing
    except SystemExit as end:
        raise ImportError(f"it ends the program with status {end.code}") from None

    layer_types = set(caffe.layer_type_list())
    facts: CaffeFacts = {
        "version": caffe.__version__,
        "path": os.path.dirname(caffe.__file__),
        "built": build_name(Path(caffe.__file__).parent.parent),
        "missing_layers": [name for name in LAYERS if name not in layer_types],
        "blas": blas_in_use(Path("/proc/self/maps").read_text()),
        "onednn": has_onednn(),
        "cuda": has_cuda(),
        "nccl": caffe.has_nccl(),
    }
    print(json.dumps(facts))


def blas_in_use(maps: str) -> str:
    """Return name, threads and processor kernels of the BLAS that Caffe loaded.

    NumPy and SciPy from PyPI bring OpenBLAS copies of their own; those are left out.

    Args:
        maps: The content of /proc/self/maps, after Caffe was imported.
    """
    paths = {
        line.split(maxsplit=5)[5]  # the last column, which may have blanks
        for line in maps.splitlines()
        if re.search(r"/lib[^/]*(blas|mkl_rt|atlas)[^/]*\.so", line)
    }
    caffes = sorted(
        path for path in paths if "site-packages" not in path and "dist-packages" not in path
    )
    for path in caffes:
        if "openblas" in path:
            library = ctypes.CDLL(path)
            library.openblas_get_config.restype = library.openblas_get_corename.restype = (
                ctypes.c_char_p
            )
            version = " ".join(library.openblas_get_config().decode().split()[:2])
            core = library.openblas_get_corename().decode()
            threads = library.openblas_get_num_threads()
            return f"{version}, {threads} threads, kernels for {core}, {path}"
    return ", ".join(caffes)


def _known(caffe: CaffeFacts | str) -> CaffeFacts:
    """Return the facts about Caffe; raise _Unknown where it cannot be imported."""
    if isinstance(caffe, str):
        raise _Unknown("not known without Caffe")
    return caffe


def _caffe_version(caffe: CaffeFacts | str) -> str:
    if isinstance(caffe, str):
        raise _Unfit(caffe)
    return ", ".join(filter(None, (caffe["version"], caffe["built"], caffe["path"])))


def _caffe_blas(caffe: CaffeFacts | str) -> str:
    blas = _known(caffe)["blas"]
    if not blas:
        raise _Unfit("none found")
    return blas


def _check_layers(caffe: CaffeFacts | str, needed: Iterable[str], finding: str) -> str:
    """Return `finding` where Caffe has all the needed layer types."""
    missing_layers = _known(caffe)["missing_layers"]
    missing = [name for name in needed if name in missing_layers]
    if missing:
        raise _Unfit(f"missing: {', '.join(missing)}")
    return finding


def _optional(present: bool, finding: str, lack: str) -> str:
    """Return `finding`; raise _Absent with `lack` where the thing is not present."""
    if not present:
        raise _Absent(lack)
    return finding


def _check_installed(name: str) -> None:
    """Raise _Absent where a package is not installed."""
    if not importlib.util.find_spec(name):
        raise _Absent(f"{name} is not installed")


def _import_optional(name: str) -> ModuleType:
    """Import a package; raise _Absent where it is not installed."""
    _check_installed(name)
    return importlib.import_module(name)


def _optional_version(name: str) -> str:
    return _import_optional(name).__version__


def _gpus() -> str:
    ids, visible = gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")
    lack = "nvidia-smi lists none"
    if visible is not None:
        lack += f" that CUDA_VISIBLE_DEVICES={visible} leaves"
    return _optional(bool(ids), f"{len(ids)}, with ids {', '.join(map(str, ids))}", lack)


def _lmdb() -> str:
    lmdb = _import_optional("lmdb")
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
    import google.protobuf
    from google.protobuf.internal import api_implementation

    implementation = api_implementation.Type()
    return f"{google.protobuf.__version__}, {implementation}" + (
        " (slow)" if implementation == "python" else ""
    )


def _prototxts() -> str:
    last_tops = {"train": stage_loss_blob(LAST_STAGE), "deploy": stage_blob(LAST_STAGE)}
    for variant in VARIANTS:
        for name, top in last_tops.items():
            path = require_shipped(f"prototxt/{variant}/{name}.prototxt")
            _check_net(path, top)
    return f"{', '.join(VARIANTS)} in {path.parent.parent}"


def _check_net(path: Path, top: str) -> None:
    """Read a net; raise _Unfit where it is damaged, or does not compute the blob `top`."""
    net = message_classes()["NetParameter"]()  # ours: Caffe's own may be broken
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), net)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise _Unfit(f"{path} is damaged: {' '.join(str(error).split())}") from None
    if not any(top in layer.top for layer in net.layer):
        raise _Unfit(f"{path} is empty or cut short: it has no blob {top}")


def _weights() -> str:
    paths = {variant: path for variant in VARIANTS if (path := shipped_weights(variant))}
    for path in paths.values():
        file_shapes(path)  # reads all of the file, and raises where that is damaged
    if not paths:
        raise _Unfit("none come with the package")
    return f"of {', '.join(paths)}, packed"


def _disk() -> str:
    try:
        folder = cache_folder()
    except PrefixError as lack:  # it says the remedy
        raise _Unknown(str(lack)) from None
    # Unlike Path.is_dir this passes over folders that the user may not look into.
    nearest = next(parent for parent in (folder, *folder.parents) if os.path.isdir(parent))
    free = shutil.disk_usage(nearest).free / 1e9
    return _optional(
        free >= LEAST_FREE_GB,
        f"{free:.1f} GB free for {folder}",
        f"only {free:.1f} GB free for {folder}",
    )


def _machine() -> str:
    meminfo = Path("/proc/meminfo").read_text()

    def gibibytes(name: str) -> float:
        match = re.search(rf"^{name}:\s+(\d+)", meminfo, re.M)
        return int(match[1]) / 2**20 if match else float("nan")

    return (
        f"{len(os.sched_getaffinity(0))} cores, {gibibytes('MemTotal'):.1f} GiB of memory, "
        f"{gibibytes('MemAvailable'):.1f} GiB free"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = command_parser(__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON: works, and a list of rows")
    options = parser.parse_args(argv)
    rows = examine()
    works = all(row.status != "failed" for row in rows)
    if options.json:
        answer = {"works": works, "rows": [dataclasses.asdict(row) for row in rows]}
        print(json.dumps(answer, indent=2))
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal that cannot show the marks still shows the table.
            sys.stdout.reconfigure(errors="replace")
        for row in rows:
            print(f"{MARKS[row.status]} {row.name:<14} {row.state}")
            if row.remedy:
                print(f"{'':17}-> {row.remedy}")
    return 0 if works else 1


if __name__ == "__main__":
    run_command(main)
