"""The build with CUDA: its decisions, without CUDA, a network, or compiling Caffe."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_build import __main__ as command
from caffe_build import build, cuda, edits, locate, options, source
from caffe_build.edits_gpu import GPU_EDITS
from caffe_build.errors import CompileError, DiskError, PrefixError
from caffe_build.options import CPU, Toolkit, cache_key
from tests.support.builds import FACTS, environment, write_edited_files, write_program
from tests.support.commands import ROOT, refusal, run

TOOLKIT = Toolkit("13.0", "/cuda/bin/nvcc", "/cuda", "/usr/bin/c++", "/cache/cuda-13.0-1", "80;90")

# --- edits and options


def test_the_edits_for_cuda_take_in_the_places_they_were_written_for(tmp_path):
    write_edited_files(tmp_path, GPU_EDITS)
    for _ in range(2):
        edits.apply_edits(tmp_path, GPU_EDITS)
    factory = (tmp_path / "src/caffe/layer_factory.cpp").read_text()
    assert (
        factory.count("Caffe::mode() == Caffe::GPU") == 7
    )  # convolutions and six more kinds of layers
    assert "thrust" not in "".join(path.read_text() for path in tmp_path.rglob("*.cu"))
    convolution = (tmp_path / "src/caffe/layers/cudnn_conv_layer.cpp").read_text()
    header = (tmp_path / "include/caffe/layers/cudnn_conv_layer.hpp").read_text()
    assert convolution.count("== chosen_shape_) { return; }") == 1
    assert header.count("vector<int> chosen_shape_;") == 1


def test_the_key_of_a_build_with_cuda_changes_with_the_toolkit():
    changed = [dataclasses.replace(TOOLKIT, **{name: "other"}) for name in vars(TOOLKIT)]
    keys = {cache_key("s", options.gpu(toolkit), FACTS) for toolkit in [TOOLKIT, *changed]}
    assert len(keys) == 1 + len(changed) and cache_key("s", CPU, FACTS) not in keys


def test_what_cmake_is_told_of_cuda():
    told = options.gpu(TOOLKIT).definitions
    assert (told["CPU_ONLY"], told["USE_CUDNN"], told["USE_NCCL"]) == ("OFF", "ON", "ON")
    assert (told["CUDA_ARCH_NAME"], told["CUDA_ARCH_BIN"], told["CUDA_ARCH_PTX"]) == (
        "Manual",
        "80;90",
        "",
    )
    assert (
        told["CUDNN_LIBRARY"] == "/cache/cuda-13.0-1/lib64/libcudnn.so" and told["BLAS"] == "Open"
    )


# --- the machine's toolkit and NVIDIA's libraries


def cuda_toolkit(
    root: Path,
    version="13.0",
    known=("75", "80", "90", "120"),
    libraries=("cudart",),
    compiling="exit 0",
) -> Path:
    """Make a toolkit whose nvcc answers the questions before a build.

    `compiling` is the shell command that it runs for a source file.
    """
    write_nvcc = f"""case "$*" in
    --version) echo "Cuda compilation tools, release {version}, V{version}.88" ;;
    *--dryrun*) echo "#\\$ TOP={root}/bin/.." >&2 ;;
    --list-gpu-arch) printf "compute_%s\\n" {" ".join(known)} ;;
    *) {compiling} ;;
    esac"""
    (root / "bin").mkdir(parents=True)
    write_program(root / "bin" / "nvcc", write_nvcc)
    make_libraries(root / "include", root / "lib64", libraries)
    return root


def make_libraries(include: Path, folder: Path, names, ending=".so") -> None:
    for created in (include, folder):
        created.mkdir(parents=True, exist_ok=True)
    for name in names:
        (include / cuda._LIBRARIES[name]).write_text(name)
        (folder / f"lib{name}{ending}").write_text(name)


@pytest.fixture
def no_system(monkeypatch, tmp_path):
    """No nvcc, no CUDA libraries and no GPU but the ones that a test makes."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(cuda, "_SYSTEM_INCLUDE", tmp_path / "no" / "include")
    monkeypatch.setattr(cuda, "_cards", lambda: [])
    for name in ("CUDA_TOOLKIT_ROOT", "CUDA_ARCH", "CUDAHOSTCXX"):
        monkeypatch.delenv(name, raising=False)


def test_the_toolkit_that_is_found(tmp_path, no_system, monkeypatch):
    root = cuda_toolkit(tmp_path / "cuda")
    monkeypatch.setenv("CUDA_TOOLKIT_ROOT", str(root))
    monkeypatch.setenv("CUDA_ARCH", "9.0")
    toolkit = cuda.find_toolkit(tmp_path / "cache")
    assert (toolkit.version, toolkit.root, toolkit.architectures) == ("13.0", str(root), "90")
    assert toolkit.nvcc == f"{root}/bin/nvcc" and toolkit.host_compiler == shutil.which("c++")
    make_libraries(root / "include", root / "lib64", ["cublas"])
    assert (
        cuda.find_toolkit(tmp_path / "cache").folder != toolkit.folder
    )  # what lies there is another thing now


@pytest.mark.parametrize(
    "changes, environment, words",
    [
        (
            {"version": "11.8"},
            {},
            "is of CUDA 11.8, which is too old.*CUDA toolkit 12 or 13.*CUDA_TOOLKIT_ROOT=DIR",
        ),
        (
            {"version": "14.1"},
            {},
            "has no cublas, curand, cudnn, nccl, nvrtc, .* known for CUDA 12 and 13 only",
        ),
        ({"version": "x"}, {}, "names no release"),
        ({}, {"CUDA_ARCH": "61"}, "CUDA_ARCH=61: nvcc 13.0 knows only 75, 80, 90, 120"),
        ({}, {"CUDAHOSTCXX": "g++-99"}, "no compiler g..-99.*CUDAHOSTCXX="),
        (
            {
                "compiling": "echo '#error -- unsupported GNU version! "
                "gcc versions later than 11 are not supported!' >&2; exit 1"
            },
            {},
            "too new for .*nvcc, which takes gcc up to 11: "
            "install g..-11.*CUDAHOSTCXX=g..-11 make caffe GPU=1",
        ),
        (
            {"compiling": "echo 'nvcc fatal: no ptxas' >&2; exit 1"},
            {},
            r"cannot compile \(nvcc fatal: no ptxas\)",
        ),
    ],
)
def test_toolkits_that_do_not_do(tmp_path, no_system, monkeypatch, changes, environment, words):
    monkeypatch.setenv("CUDA_TOOLKIT_ROOT", str(cuda_toolkit(tmp_path / "cuda", **changes)))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CompileError, match=words):
        cuda.find_toolkit(tmp_path / "cache")


def test_a_toolkit_of_a_user_who_is_none_is_no_toolkit(tmp_path, no_system, monkeypatch):
    monkeypatch.setenv("CUDA_TOOLKIT_ROOT", "~nosuchuser/cuda")
    with pytest.raises(CompileError, match="CUDA_TOOLKIT_ROOT=~nosuchuser/cuda has no bin/nvcc"):
        cuda.find_toolkit(tmp_path / "cache")


def test_no_nvcc_is_one_line_with_the_remedy(tmp_path):
    caffes = [folder for folder in sys.path if Path(folder, "caffe").is_dir()]
    if any(
        locate.cache_folder().resolve() not in Path(folder).resolve().parents for folder in caffes
    ):
        pytest.skip("this Python finds a Caffe that is not of the cache")
    answer = run("caffe_build", "--gpu", "1", env=environment(CUDA_TOOLKIT_ROOT=str(tmp_path)))
    line = refusal(answer, CompileError.code)
    assert "has no bin/nvcc: install NVIDIA's CUDA toolkit" in line


KNOWN = ["75", "80", "86", "90", "120"]


@pytest.mark.parametrize(
    "named, cards, expected",
    [
        (None, [], ["75", "80", "86", "90", "120"]),
        (None, ["9.0", "8.6", "9.0"], ["86", "90"]),
        ("80", ["9.0"], ["80"]),
        ("12.0; 8.0,75", [], ["75", "80", "120"]),
    ],
)
def test_architectures(named, cards, expected):
    assert cuda.choose_architectures(named, cards, KNOWN, "13.0") == expected


def test_a_card_that_nvcc_does_not_know():
    with pytest.raises(
        CompileError,
        match="the GPU's architecture, 61: nvcc 13.0 knows only 75, .*another CUDA toolkit",
    ):
        cuda.choose_architectures(None, ["6.1"], KNOWN, "13.0")


def provided(tmp_path, monkeypatch, in_toolkit, in_wheels) -> Path:
    root = cuda_toolkit(tmp_path / "cuda", libraries=in_toolkit)

    def install(wheels, target):
        make_libraries(
            target / "nvidia/cu13/include", target / "nvidia/cu13/lib", in_wheels, ".so.13"
        )
        (target / "nvidia/cu13/lib/libcublasLt.so.13").write_text("belongs to cublas")

    monkeypatch.setattr(cuda, "_install", install)
    toolkit = dataclasses.replace(TOOLKIT, root=str(root), folder=str(tmp_path / "cache/cuda-1"))
    cuda.provide(toolkit)
    return Path(toolkit.folder)


def test_libraries_of_toolkit_and_packages_come_together(tmp_path, no_system, monkeypatch):
    folder = provided(
        tmp_path, monkeypatch, ["cudart", "curand"], ["cublas", "curand", "cudnn", "nccl", "nvrtc"]
    )
    assert os.readlink(folder / "lib64/libcurand.so") == str(
        tmp_path / "cuda/lib64/libcurand.so"
    )  # the toolkit's own comes first
    moved = folder.rename(tmp_path / "elsewhere")  # links to what pip brought are relative
    for name, header in cuda._LIBRARIES.items():
        assert (
            (moved / f"lib64/lib{name}.so").read_text()
            == (moved / "include" / header).read_text()
            == name
        )
    assert (moved / "lib64/libcublasLt.so.13").is_file()


def test_of_the_systems_headers_only_a_librarys_own_are_linked(tmp_path, no_system):
    make_libraries(cuda._SYSTEM_INCLUDE, tmp_path / "lib", ["cudnn", "nccl"])
    (cuda._SYSTEM_INCLUDE / "cudnn_version.h").touch()
    for name in ("include", "lib64"):
        (tmp_path / "folder" / name).mkdir(parents=True)
    cuda._link("cudnn", cuda._SYSTEM_INCLUDE, tmp_path / "lib", tmp_path / "folder")
    assert sorted(os.listdir(tmp_path / "folder/include")) == ["cudnn.h", "cudnn_version.h"]


def test_packages_without_a_library_are_named_and_nothing_is_left(tmp_path, no_system, monkeypatch):
    with pytest.raises(CompileError, match="nccl, nvrtc did not come with nvidia-cublas==13"):
        provided(tmp_path, monkeypatch, ["cudart"], ["cublas", "curand", "cudnn"])
    assert not (tmp_path / "cache/cuda-1").exists()


def test_a_machine_that_has_all_needs_no_packages(tmp_path, no_system):
    root = cuda_toolkit(tmp_path / "cuda", version="14.0", libraries=cuda._LIBRARIES)
    assert cuda._wheels(str(root), "14.0") == []
    assert cuda._wheels(str(cuda_toolkit(tmp_path / "two")), "12.4")[0].startswith(
        "nvidia-cublas-cu12==12."
    )
    assert (
        cuda._wheels(str(cuda_toolkit(tmp_path / "three", libraries=())), "13.1")[0]
        == "nvidia-cuda-runtime==13.1.*"
    )


def test_pip_that_fails_is_one_error_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        CompileError,
        match=r"pip could not get .*\(ERROR: No matching distribution.*"
        r"look at the network, or .*CUDA_TOOLKIT_ROOT",
    ):
        cuda._install(["nvidia-cublas==13.1.0.3"], tmp_path / "wheels")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 2**40, 2**20)
    )
    with pytest.raises(DiskError, match="has 1 MB free"):
        cuda._install(["nvidia-cublas==13.1.0.3"], tmp_path / "wheels")


# --- cuDNN's algorithms

# The part of cudnn.h that cudnn_algorithms.hpp looks at; an algorithm's number decides its answers.
CUDNN_H = """
#include <cstddef>
enum cudnnStatus_t { CUDNN_STATUS_SUCCESS, CUDNN_STATUS_NOT_SUPPORTED };
enum cudnnMathType_t { CUDNN_DEFAULT_MATH, CUDNN_FMA_MATH };
typedef int cudnnHandle_t, cudnnTensorDescriptor_t, cudnnFilterDescriptor_t;
typedef int cudnnConvolutionDescriptor_t;
inline cudnnStatus_t cudnnGetConvolutionMathType(int, cudnnMathType_t* math) {
  *math = CUDNN_DEFAULT_MATH;
  return CUDNN_STATUS_SUCCESS;
}
"""
CUDNN_FUNCTIONS = """
typedef int cudnnConvolution{name}Algo_t;
enum {{ CUDNN_CONVOLUTION_{NAME}_ALGO_COUNT = 3 }};
struct cudnnConvolution{name}AlgoPerf_t {{
  int algo; cudnnStatus_t status; std::size_t memory; cudnnMathType_t mathType;
}};
inline cudnnStatus_t cudnnGetConvolution{long_name}Algorithm_v7(
    int, int, int, int, int, int, int* count, cudnnConvolution{name}AlgoPerf_t* found) {{
  // 0 fails; 1 is ranked for another math; 2 to 4 are right, with less and less workspace
  for (*count = 0; *count < 5; ++*count) {{
    found[*count] = {{*count, *count ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED, 0,
                     *count == 1 ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH}};
  }}
  return CUDNN_STATUS_SUCCESS;
}}
inline cudnnStatus_t cudnnGetConvolution{long_name}WorkspaceSize(
    int, int, int, int, int, int algorithm, std::size_t* bytes) {{
  const std::size_t mib[] = {{0, 1, 100, 4, 2}};
  *bytes = mib[algorithm] << 20;
  return CUDNN_STATUS_SUCCESS;
}}
"""
CHOOSE = """
#include "cudnn_algorithms.hpp"
#include <cstdio>
int main() {
  for (std::size_t mib : {3, 1, 0}) {
    int chosen[3] = {-1, -1, -1};
    cudnnGetConvolutionForwardAlgorithm(
        0, 0, 0, 0, 0, CUDNN_CONVOLUTION_FWD_SPECIFY_WORKSPACE_LIMIT, mib << 20, &chosen[0]);
    cudnnGetConvolutionBackwardFilterAlgorithm(
        0, 0, 0, 0, 0, CUDNN_CONVOLUTION_BWD_FILTER_SPECIFY_WORKSPACE_LIMIT, mib << 20, &chosen[1]);
    cudnnGetConvolutionBackwardDataAlgorithm(
        0, 0, 0, 0, 0, CUDNN_CONVOLUTION_BWD_DATA_SPECIFY_WORKSPACE_LIMIT, mib << 20, &chosen[2]);
    std::printf("%d %d %d\\n", chosen[0], chosen[1], chosen[2]);
  }
  std::printf("%zu\\n", caffe::cudnn::workspaceLimit() >> 20);
}
"""


def test_how_an_algorithm_is_chosen(tmp_path):
    if not shutil.which("c++") or not Path("/usr/include/glog/logging.h").is_file():
        pytest.skip("needs a compiler and glog")
    functions = [
        CUDNN_FUNCTIONS.format(name=name, NAME=upper, long_name=long_name)
        for name, upper, long_name in (
            ("Fwd", "FWD", "Forward"),
            ("BwdFilter", "BWD_FILTER", "BackwardFilter"),
            ("BwdData", "BWD_DATA", "BackwardData"),
        )
    ]
    (tmp_path / "cudnn.h").write_text("#pragma once\n" + CUDNN_H + "".join(functions))
    (tmp_path / "choose.cpp").write_text(CHOOSE)
    include = ["-I", str(tmp_path), "-I", str(ROOT / "caffe_build")]
    subprocess.run(
        ["c++", *include, str(tmp_path / "choose.cpp"), "-lglog", "-o", str(tmp_path / "choose")],
        check=True,
    )
    lines = subprocess.run(
        [tmp_path / "choose"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    # Within 3 MiB the ranked ones 2 and 3 do not fit; within 1 only the one of the other math does;
    # within 0 none.
    assert lines == ["4 4 4", "1 1 1", "-1 -1 -1", "8"]
    told = {**os.environ, "CAFFE_CUDNN_WORKSPACE_MIB": "64"}
    assert subprocess.run(
        [tmp_path / "choose"], env=told, capture_output=True, text=True, check=True
    ).stdout.endswith("\n64\n")
    wrong = subprocess.run(
        [tmp_path / "choose"],
        env={**told, "CAFFE_CUDNN_WORKSPACE_MIB": "8M"},
        capture_output=True,
        text=True,
    )
    assert (
        wrong.returncode
        and "CAFFE_CUDNN_WORKSPACE_MIB=8M must be a whole number of MiB" in wrong.stderr
    )


# --- which build, after one with CUDA


@pytest.fixture
def linked_cuda(tmp_path, monkeypatch):
    """Return a function (gpu) -> the build that the command takes: "gpu", "cpu" or "new".

    The cache has a build with CUDA, which is linked, and one for the CPU; both load.
    """
    monkeypatch.setattr(source, "choose_source", lambda tree: source.DEBIAN)
    monkeypatch.setattr(build, "is_usable", lambda prefix: prefix.is_dir())
    monkeypatch.setattr(cuda, "find_toolkit", lambda cache: TOOLKIT)
    monkeypatch.setattr(cuda, "provide", lambda toolkit: None)
    prefixes = {}
    for name, way in (("gpu", options.gpu(TOOLKIT)), ("cpu", CPU)):
        prefixes[name] = build.cached_prefix(source.DEBIAN.id, way, tmp_path)
        prefixes[name].mkdir()
        toolkit = {"toolkit": dataclasses.asdict(way.toolkit)} if way.toolkit else {}
        (prefixes[name] / "about.json").write_text(
            json.dumps({"options": way.name, "source": source.DEBIAN.id, **toolkit})
        )
    names = {prefix: name for name, prefix in prefixes.items()}

    def build_taken(gpu, linked="gpu"):
        choice = command._from_cache(None, tmp_path, prefixes[linked], gpu, jobs=1)
        return names.get(choice.prefix, "new")

    return build_taken


def test_a_build_with_cuda_stays_until_it_is_sent_away(linked_cuda, monkeypatch):
    monkeypatch.setattr(cuda, "find_toolkit", lambda cache: pytest.fail("nvcc was looked for"))
    assert linked_cuda(gpu=None) == "gpu"
    assert linked_cuda(gpu=0) == "cpu"
    assert linked_cuda(gpu=None, linked="cpu") == "cpu"


def test_gpu_1_takes_what_the_machine_asks_for(linked_cuda, monkeypatch):
    assert linked_cuda(gpu=1, linked="cpu") == "gpu"
    monkeypatch.setattr(
        cuda, "find_toolkit", lambda cache: dataclasses.replace(TOOLKIT, architectures="75")
    )
    built = []
    monkeypatch.setattr(
        build, "build", lambda wanted, way, prefix, jobs: built.append(way.toolkit.architectures)
    )
    assert linked_cuda(gpu=1) == "new"
    assert built == ["75"]


def test_a_build_with_cuda_that_is_out_of_date_is_followed_by_one_for_the_same_gpus(
    linked_cuda, monkeypatch
):
    monkeypatch.setattr(
        cuda, "find_toolkit", lambda cache: pytest.fail("the machine was looked at anew")
    )
    built = []
    monkeypatch.setattr(build, "build", lambda wanted, way, prefix, jobs: built.append(way.toolkit))
    for module in (build, options):
        monkeypatch.setattr(
            module,
            "gpu",
            lambda toolkit: dataclasses.replace(options.CPU, name="newer", toolkit=toolkit),
        )
    assert linked_cuda(gpu=None) == "new"
    assert built == [TOOLKIT]


@pytest.mark.parametrize("lost", ["the folder", "about.json"])
def test_a_build_with_cuda_that_is_lost_is_followed_by_another_with_cuda(
    lost, linked_cuda, tmp_path, monkeypatch
):
    prefix = build.cached_prefix(source.DEBIAN.id, options.gpu(TOOLKIT), tmp_path)
    monkeypatch.setattr(locate, "linked_folder", lambda: prefix / "python")
    monkeypatch.setattr(locate, "folder_before_link", lambda: None)
    if lost == "the folder":
        shutil.rmtree(prefix)
    else:
        (prefix / lost).write_text("{cut")
    built = []
    monkeypatch.setattr(build, "is_usable", lambda prefix: False)
    monkeypatch.setattr(build, "build", lambda wanted, way, prefix, jobs: built.append(way.toolkit))
    linked = prefix if prefix.is_dir() else None
    command._from_cache(None, tmp_path, linked, gpu=None, jobs=1)
    assert built == [TOOLKIT]
    command._from_cache(None, tmp_path, linked, gpu=0, jobs=1)
    assert built == [TOOLKIT, None]


def test_gpu_and_a_caffe_of_ones_own_exclude_each_other(tmp_path):
    (tmp_path / "python" / "caffe").mkdir(parents=True)
    (tmp_path / "python" / "caffe" / "_caffe.so").touch()
    answer = run("caffe_build", "--gpu", "1", env=environment(CAFFE_PREFIX=str(tmp_path)))
    line = refusal(answer, PrefixError.code)
    assert "is used as it is, and --gpu 1 (GPU=1) chooses a build of ours" in line
    assert "invalid int value" in refusal(run("caffe_build", "--gpu", "yes"))
