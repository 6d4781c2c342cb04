"""What to build, and the name a build has in the cache."""

import hashlib
import json
import platform
import sys
import sysconfig
from dataclasses import asdict, dataclass
from importlib import metadata

from caffe_build import apt
from caffe_build.edits import CPU_ADDITIONS, CPU_EDITS, GPU_ADDITIONS, GPU_EDITS, Addition, Edit


@dataclass(frozen=True)
class Toolkit:
    """What a build with CUDA is made with, see cuda.py, which finds it."""

    version: str  # nvcc's, as "13.0"
    nvcc: str
    root: str  # nvcc's own toolkit
    host_compiler: str  # nvcc's, for the CPU's part of a .cu file
    folder: str  # has include/ and lib64/ of all CUDA libraries; builds find them there when they run, too
    architectures: str  # of GPUs to compile for, as "80;90"


@dataclass(frozen=True)
class Options:
    """One way to build Caffe. `definitions` go to cmake as -DNAME=VALUE; `toolkit` is None in a build for the CPU only."""

    name: str
    definitions: dict[str, str]
    edits: tuple[Edit, ...]
    libraries: tuple[str, ...]  # must link (-lNAME) before it is worth to start
    additions: tuple[Addition, ...] = ()
    toolkit: Toolkit | None = None


PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

CPU = Options(
    name="CPU",
    definitions={
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_CXX_FLAGS": "-fno-trapping-math",  # no result changes; g++ otherwise leaves ReLU's backward loop scalar
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",  # cmake 4 refuses the age of Caffe's own CMakeLists.txt without it
        "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",  # the built files are copied as they are, cmake --install never runs
        "CPU_ONLY": "ON",
        "BLAS": "Open",
        "USE_LMDB": "ON",
        # Images are read in Python; without these two Caffe needs far fewer libraries.
        "USE_OPENCV": "OFF",
        "USE_LEVELDB": "OFF",
        "BUILD_docs": "OFF",
        "BUILD_python_layer": "ON",
        "python_version": PYTHON_VERSION,
    },
    edits=CPU_EDITS,
    libraries=(f"boost_python{PYTHON_VERSION.replace('.', '')}", "openblas", "dnnl"),
    additions=CPU_ADDITIONS,
)


def gpu(toolkit: Toolkit) -> Options:
    """The build with CUDA, cuDNN and NCCL. It runs in CPU mode, too, also where there is no GPU."""
    folder = toolkit.folder
    return Options(
        name=f"CUDA {toolkit.version} with cuDNN and NCCL, for GPUs of architecture {toolkit.architectures.replace(';', ', ')}",
        definitions={
            **CPU.definitions,
            "CPU_ONLY": "OFF",
            "USE_CUDNN": "ON",
            "USE_NCCL": "ON",
            "CUDA_TOOLKIT_ROOT_DIR": folder,
            "CUDA_NVCC_EXECUTABLE": toolkit.nvcc,
            "CUDA_HOST_COMPILER": toolkit.host_compiler,
            "CUDNN_INCLUDE": f"{folder}/include",
            "CUDNN_LIBRARY": f"{folder}/lib64/libcudnn.so",
            "NCCL_INCLUDE_DIR": f"{folder}/include",
            "NCCL_LIBRARIES": f"{folder}/lib64/libnccl.so",
            "CUDA_ARCH_NAME": "Manual",
            "CUDA_ARCH_BIN": toolkit.architectures,
            "CUDA_ARCH_PTX": "",  # its default is an architecture that CUDA 13 has dropped
        },
        edits=GPU_EDITS,
        libraries=CPU.libraries,
        additions=GPU_ADDITIONS,
        toolkit=toolkit,
    )


def machine_facts() -> dict[str, str]:
    """What a built Caffe depends on beside its source: the release's libraries, the interpreter, NumPy's binary interface."""
    release = apt.os_release()
    return {
        "release": f"{release.get('ID')} {release.get('VERSION_ID', 'rolling')}",
        "machine": platform.machine(),
        "python": str(sysconfig.get_config_var("SOABI")),
        "numpy": metadata.version("numpy").split(".")[0],
    }


def cache_key(source_id: str, options: Options, facts: dict[str, str]) -> str:
    """12 hexadecimal digits that change with the source, the edits, cmake's options and the machine's facts."""
    # Without the empty fields: one that is new and that a build does not use leaves its key, and users their builds.
    fields = {name: value for name, value in asdict(options).items() if value}
    text = json.dumps([source_id, fields, facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
