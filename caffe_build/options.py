"""The ways to build Caffe, and the name of a build in the cache."""

import hashlib
import json
import platform
import sys
import sysconfig
from dataclasses import asdict, dataclass
from importlib import metadata

from caffe_build.edits import Addition, Edit
from caffe_build.edits_cpu import CPU_ADDITIONS, CPU_EDITS
from caffe_build.edits_gpu import GPU_ADDITIONS, GPU_EDITS


@dataclass(frozen=True)
class Toolkit:
    """The CUDA toolkit of a build; `cuda.find_toolkit` finds it."""

    version: str  # nvcc's, as "13.0"
    nvcc: str
    root: str  # nvcc's own toolkit
    host_compiler: str  # nvcc's, for the CPU's part of a .cu file
    folder: str  # has include/ and lib64/ of all CUDA libraries, also when the build runs
    architectures: str  # of GPUs to compile for, as "80;90"


@dataclass(frozen=True)
class Options:
    """One way to build Caffe.

    Attributes:
        name: Its name for users.
        definitions: For cmake, as -DNAME=VALUE.
        edits: The edits to the source.
        libraries: Which must link (-lNAME) before a build is worth to start.
        additions: Our files in the source tree.
        toolkit: The CUDA toolkit to build with; None for the CPU only.
    """

    name: str
    definitions: dict[str, str]
    edits: tuple[Edit, ...]
    libraries: tuple[str, ...]
    additions: tuple[Addition, ...] = ()
    toolkit: Toolkit | None = None


KEY_DIGITS = 12  # hexadecimal, of a build's key
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

CPU = Options(
    name="CPU",
    definitions={
        "CMAKE_BUILD_TYPE": "Release",
        # No result changes. Without them g++ leaves ReLU's backward loop and Adam's loop scalar.
        "CMAKE_CXX_FLAGS": "-fno-trapping-math -fno-math-errno",
        # Without it cmake 4 refuses Caffe's own CMakeLists.txt, which asks for an older cmake.
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
        # The built files are copied as they are; cmake --install never runs.
        "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
        "CPU_ONLY": "ON",
        "BLAS": "Open",
        # For the loops that our edits share among threads; oneDNN brings the same library.
        "USE_OPENMP": "ON",
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
    """Return the build with CUDA, cuDNN and NCCL. It runs in CPU mode, too, also without a GPU."""
    folder = toolkit.folder
    architectures = toolkit.architectures.replace(";", ", ")
    return Options(
        name=f"CUDA {toolkit.version} with cuDNN and NCCL, for GPUs of architecture "
        f"{architectures}",
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
    """Return what a built Caffe depends on beside its source.

    This is the release with its libraries, the interpreter, and NumPy's binary interface.
    """
    release = platform.freedesktop_os_release()
    return {
        "release": f"{release['ID']} {release.get('VERSION_ID', 'rolling')}",
        "machine": platform.machine(),
        "python": str(sysconfig.get_config_var("SOABI")),
        "numpy": metadata.version("numpy").split(".")[0],
    }


def cache_key(source_id: str, options: Options, facts: dict[str, str]) -> str:
    """Return the name of a build: hexadecimal digits that change with all that it depends on.

    Args:
        source_id: The source's hash.
        options: The way to build it.
        facts: As `machine_facts` returns them.
    """
    # Empty fields are left out, so that a new field that a build does not use leaves its key as it
    # is, and users keep their builds.
    fields = {name: value for name, value in asdict(options).items() if value}
    text = json.dumps([source_id, fields, facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]
