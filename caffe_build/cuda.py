"""Finds what a build with CUDA needs: nvcc, the GPUs' architectures, and NVIDIA's libraries.

nvcc comes from a CUDA toolkit of the machine, CUDA_TOOLKIT_ROOT=DIR or the first on PATH. Each
library that this toolkit (or the system) has is taken from there. The others, usually cuDNN and
NCCL, come from NVIDIA's packages on PyPI. Links to all of them are put together in one folder in
the cache, where the built Caffe finds its libraries when it runs.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

from caffe_build.build import check_disk, lock, require_space, say
from caffe_build.errors import CompileError
from caffe_build.options import Toolkit

# Each library with a header of its own. cuDNN loads nvrtc when it runs.
_LIBRARIES = {
    "cudart": "cuda_runtime.h",
    "cublas": "cublas_v2.h",
    "curand": "curand.h",
    "cudnn": "cudnn.h",
    "nccl": "nccl.h",
    "nvrtc": "nvrtc.h",
}
# By nvcc's major version. Only the runtime's headers must be of nvcc's minor version, too.
_WHEELS = {
    12: {
        "cudart": "nvidia-cuda-runtime-cu12=={version}.*",
        "cublas": "nvidia-cublas-cu12==12.8.4.1",
        "curand": "nvidia-curand-cu12==10.3.9.90",
        "cudnn": "nvidia-cudnn-cu12==9.10.2.21",
        "nccl": "nvidia-nccl-cu12==2.27.5",
        "nvrtc": "nvidia-cuda-nvrtc-cu12==12.8.93",
    },
    13: {
        "cudart": "nvidia-cuda-runtime=={version}.*",
        "cublas": "nvidia-cublas==13.1.0.3",
        "curand": "nvidia-curand==10.4.0.35",
        "cudnn": "nvidia-cudnn-cu13==9.19.0.56",
        "nccl": "nvidia-nccl-cu13==2.28.9",
        "nvrtc": "nvidia-cuda-nvrtc==13.0.88",
    },
}
_SYSTEM_INCLUDE = Path("/usr/include")
_OLDEST = min(_WHEELS)
# Compiled for where no GPU is seen: Turing to Blackwell.
_ARCHITECTURES = ("75", "80", "86", "89", "90", "100", "120")
_NEEDED_MB = 4000  # PyPI's files and their contents lie side by side for a moment
_INSTALL = (
    "install NVIDIA's CUDA toolkit 12 or 13, or name the folder of one: "
    "CUDA_TOOLKIT_ROOT=DIR make caffe GPU=1"
)


class LibraryFolders(NamedTuple):
    """Where a library lies."""

    include: Path  # has its header
    libraries: Path  # has its file


def find_toolkit(cache: Path) -> Toolkit:
    """Find the toolkit of this machine.

    The user's CUDA_TOOLKIT_ROOT, CUDA_ARCH and CUDAHOSTCXX in the environment choose.

    Args:
        cache: Folder of the builds, where the toolkit's folder of libraries has its place.

    Raises:
        CompileError: A tool is missing or does not fit.
    """
    nvcc = _find_nvcc(os.environ.get("CUDA_TOOLKIT_ROOT"))
    version = _nvcc_version(nvcc)
    if int(version.split(".")[0]) < _OLDEST:
        raise CompileError(f"{nvcc} is of CUDA {version}, which is too old: {_INSTALL}")
    # nvcc may be a script, or a link from elsewhere, but it knows where its toolkit is.
    top = re.search(
        r"^#\$ TOP=(.+)$", _run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull]).stderr, re.M
    )
    root = os.path.realpath(top[1]) if top else str(Path(os.path.realpath(nvcc)).parents[1])
    known = re.findall(r"compute_(\d+)\b", _run([nvcc, "--list-gpu-arch"]).stdout)
    architectures = choose_architectures(os.environ.get("CUDA_ARCH"), _cards(), known, version)
    host_name = os.environ.get("CUDAHOSTCXX") or "c++"
    host_compiler = shutil.which(host_name)
    if not host_compiler:
        raise CompileError(
            f"there is no compiler {host_name}: "
            "install it, or name another one, CUDAHOSTCXX=g++ make caffe GPU=1"
        )
    _try_compiler(nvcc, host_compiler, architectures[0])
    origins = json.dumps([version, _machine_folders(root), _wheels(root, version)], default=str)
    folder = cache / f"cuda-{version}-{hashlib.sha256(origins.encode()).hexdigest()[:8]}"
    return Toolkit(version, nvcc, root, host_compiler, str(folder), ";".join(architectures))


def choose_architectures(
    named: str | None, cards: list[str], known: list[str], version: str
) -> list[str]:
    """Return the architectures to compile for, as "90".

    These are the named ones, else those of the cards, else all of _ARCHITECTURES that nvcc knows.

    Args:
        named: What the user names (CUDA_ARCH), None for nothing.
        cards: Compute capabilities of the machine's GPUs, as "9.0".
        known: Architectures that nvcc knows.
        version: nvcc's, for messages.

    Raises:
        CompileError: nvcc does not know an architecture that is named or that a card has.
    """
    wanted = [
        word.replace(".", "") for word in (re.split(r"[;,\s]+", named.strip()) if named else cards)
    ]
    for architecture in wanted:
        if architecture not in known:
            origin = f"CUDA_ARCH={named}" if named else f"the GPU's architecture, {architecture}"
            raise CompileError(
                f"{origin}: nvcc {version} knows only {', '.join(known)}; "
                "name one of these, or take another CUDA toolkit"
            )
    if not wanted:
        wanted = [architecture for architecture in _ARCHITECTURES if architecture in known]
        say(
            f"no GPU is seen (by nvidia-smi): compiling for {', '.join(wanted)}; "
            "one alone, as CUDA_ARCH=90, takes a fraction of the time"
        )
    return sorted(set(wanted), key=int)


def provide(toolkit: Toolkit) -> None:
    """Make the toolkit's folder of libraries, unless it is there.

    Raises:
        CompileError: A library cannot be had.
        DiskError: The disk is full.
    """
    folder = Path(toolkit.folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():
            return
        draft = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(draft, ignore_errors=True)
        (draft / "include").mkdir(parents=True)
        (draft / "lib64").mkdir()
        wheels = _wheels(toolkit.root, toolkit.version)
        if wheels:
            _install(wheels, draft / "wheels")
        packages = draft / "wheels" / "nvidia"
        of_packages = _library_folders(
            sorted(packages.glob("*/include")), sorted(packages.glob("*/lib"))
        )
        library_folders = {**of_packages, **_machine_folders(toolkit.root)}
        for name, (include, libraries) in library_folders.items():
            _link(name, include, libraries, draft)
        missing = [name for name in _LIBRARIES if name not in library_folders]
        if missing:
            raise CompileError(
                f"{', '.join(missing)} did not come with {', '.join(wheels)}: "
                "these packages have another layout than is known"
            )
        draft.rename(folder)


def _find_nvcc(root: str | None) -> str:
    """Return the path of nvcc, of the toolkit `root` if one is named."""
    if root:
        nvcc = shutil.which("nvcc", path=os.path.join(os.path.expanduser(root), "bin"))
        if not nvcc:
            raise CompileError(f"CUDA_TOOLKIT_ROOT={root} has no bin/nvcc: {_INSTALL}")
        return nvcc
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if not nvcc:
        raise CompileError(f"there is no nvcc on PATH or in /usr/local/cuda: {_INSTALL}")
    return nvcc


def _nvcc_version(nvcc: str) -> str:
    """Return the release of nvcc, as "13.0"."""
    answer = _run([nvcc, "--version"])
    match = re.search(r"release (\d+\.\d+)", answer.stdout)
    if not match:
        raise CompileError(f"{nvcc} --version names no release ({_last_line(answer)}): {_INSTALL}")
    return match[1]


def _cards() -> list[str]:
    """Return the compute capabilities of the machine's GPUs, as "9.0"; none without a driver."""
    try:
        answer = _run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"])
    except OSError:
        return []
    return re.findall(r"^\d+\.\d+$", answer.stdout, re.M) if answer.returncode == 0 else []


def _try_compiler(nvcc: str, host_compiler: str, architecture: str) -> None:
    """Raise CompileError where nvcc cannot compile with that compiler."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "try.cu")
        source.write_text("#include <string>\n__global__ void f() {}\n")
        answer = _run(
            [
                nvcc,
                "-ccbin",
                host_compiler,
                f"-arch=sm_{architecture}",
                "-c",
                str(source),
                "-o",
                f"{folder}/try.o",
            ]
        )
    if answer.returncode:
        words = answer.stderr + answer.stdout
        newest = re.search(r"(\w+) versions later than (\d+) are not supported", words)
        if newest:
            name = f"{'clang++' if newest[1] == 'clang' else 'g++'}-{newest[2]}"
            raise CompileError(
                f"the compiler {host_compiler} is too new for {nvcc}, which takes "
                f"{newest[1]} up to {newest[2]}: install {name} or an older one and name it, "
                f"CUDAHOSTCXX={name} make caffe GPU=1"
            )
        raise CompileError(
            f"{nvcc} with {host_compiler} cannot compile ({_last_line(answer)}): {_INSTALL}"
        )


def _machine_folders(root: str) -> dict[str, LibraryFolders]:
    """Return the folders of each library that the toolkit in `root` or the system has."""
    top, system = Path(root), Path("/usr/lib", sysconfig.get_config_var("MULTIARCH") or "")
    return _library_folders(
        [top / "include", *top.glob("targets/*/include"), _SYSTEM_INCLUDE],
        [top / "lib64", top / "lib", *top.glob("targets/*/lib"), system, Path("/usr/lib64")],
    )


def _library_folders(includes: list[Path], folders: list[Path]) -> dict[str, LibraryFolders]:
    """Return the first folders that have the header and the file of each library."""
    library_folders = {}
    for name, header in _LIBRARIES.items():
        include = next((folder for folder in includes if (folder / header).is_file()), None)
        libraries = next((folder for folder in folders if any(folder.glob(f"lib{name}.so*"))), None)
        if include and libraries:
            library_folders[name] = LibraryFolders(include, libraries)
    return library_folders


def _wheels(root: str, version: str) -> list[str]:
    """Return the packages that pip must install for the libraries that the machine lacks.

    Raises:
        CompileError: No packages are known for this version of CUDA.
    """
    present = _machine_folders(root)
    lacking = [name for name in _LIBRARIES if name not in present]
    wheels = _WHEELS.get(int(version.split(".")[0]), {})
    if lacking and not wheels:
        raise CompileError(
            f"{root} (CUDA {version}) has no {', '.join(lacking)}, and NVIDIA's packages on PyPI "
            f"are known for CUDA {' and '.join(map(str, _WHEELS))} only: "
            f"put them there, or take one of these: {_INSTALL}"
        )
    return [wheels[name].format(version=version) for name in lacking]


def _install(wheels: list[str], target: Path) -> None:
    """Install packages into the folder `target` by pip."""
    cache = target.parent.parent
    require_space(cache, _NEEDED_MB)
    say(f"fetching NVIDIA's libraries (about 1 GB): {', '.join(wheels)}")
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--no-compile",
        "--disable-pip-version-check",
    ]
    quiet = [] if sys.stdout and sys.stdout.isatty() else ["--quiet"]
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, *quiet, "--target", target, *wheels],
        env={**os.environ, "TMPDIR": str(target.parent)},  # /tmp may be smaller than the packages
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if answer.returncode:
        check_disk(cache, answer.stderr)
        errors = [line for line in answer.stderr.splitlines() if line.startswith("ERROR")]
        raise CompileError(
            f"pip could not get NVIDIA's libraries ({(errors or [_last_line(answer)])[-1]}): "
            "look at the network, or name a CUDA toolkit that has cuDNN and NCCL in it, "
            "CUDA_TOOLKIT_ROOT=DIR make caffe GPU=1"
        )


def _link(name: str, include: Path, libraries: Path, folder: Path) -> None:
    """Make links in a folder to a library, the files that belong to it, and its headers.

    All headers beside its own are linked, but of the system's only those of its name: compilers
    look there by themselves, and cmake is told one folder for all libraries.
    """
    for target in sorted(include.glob(f"{name}*" if include == _SYSTEM_INCLUDE else "*")):
        _symlink(target, folder / "include" / target.name)
    versions = sorted(libraries.glob(f"lib{name}*.so*"))
    for target in versions:
        _symlink(target, folder / "lib64" / target.name)
    # The packages bring libcublas.so.13 only, and a linker looks for libcublas.so.
    _symlink(
        next(target for target in versions if target.name.startswith(f"lib{name}.so")),
        folder / "lib64" / f"lib{name}.so",
    )


def _symlink(target: Path, link: Path) -> None:
    """Make a link, unless it is there; it is relative where it leads to a pip package."""
    if not link.is_symlink():  # the first target counts
        inside = link.parents[1] in target.parents
        link.symlink_to(os.path.relpath(target, link.parent) if inside else target)


def _run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def _last_line(answer: subprocess.CompletedProcess) -> str:
    """Return the last line that a process printed, or else its status."""
    lines = (answer.stderr + answer.stdout).strip().splitlines()
    return lines[-1] if lines else f"status {answer.returncode}"
