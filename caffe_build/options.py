"""What to build, and the name a build has in the cache."""
import hashlib
import json
import platform
import sys
import sysconfig
from dataclasses import asdict, dataclass
from importlib import metadata

from caffe_build import apt
from caffe_build.edits import CPU_ADDITIONS, CPU_EDITS, Addition, Edit


@dataclass(frozen=True)
class Options:
    """One way to build Caffe. `definitions` go to cmake as -DNAME=VALUE; a build with CUDA is another object of this class."""

    name: str
    definitions: dict[str, str]
    edits: tuple[Edit, ...]
    libraries: tuple[str, ...]  # must link (-lNAME) before it is worth to start
    additions: tuple[Addition, ...] = ()


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
    text = json.dumps([source_id, asdict(options), facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
