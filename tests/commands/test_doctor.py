"""The doctor: its rows for this machine, for a broken Caffe and for missing things."""

import contextlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import google.protobuf
import pytest
from google.protobuf.internal import api_implementation

from caffe_build.errors import PrefixError
from mcc_caffe import doctor
from mcc_caffe.caffe_io import precision
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.pycaffe import blas_kernels
from tests.support.commands import ROOT, run, run_code


def rows(answer):
    return {row["name"]: row for row in json.loads(answer.stdout)["rows"]}


def broken_caffe(folder, text):
    (folder / "caffe").mkdir()
    (folder / "caffe" / "__init__.py").write_text(text)
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_this_machine():
    pytest.importorskip("caffe", exc_type=ImportError)
    answer = run("mcc_caffe.doctor", "--json")
    assert answer.returncode == 0 and json.loads(answer.stdout)["works"], answer.stdout
    row = rows(answer)
    assert list(row) == [
        *("Python", "Caffe", "Python layer", "layer types", "BLAS", "oneDNN", "bfloat16", "CUDA"),
        *("NCCL", "ONNX Runtime", "engine", "GPUs", "LMDB", "OpenCV", "Pillow", "tqdm", "PyAV"),
        *("protobuf", "h5py", "matplotlib", "prototxts", "weights", "disk", "cores, memory"),
    ]
    assert row["Caffe"]["state"].startswith("1.0.0, ") and not row["Caffe"]["remedy"]
    assert row["layer types"]["status"] == row["LMDB"]["status"] == row["OpenCV"]["status"] == "ok"
    assert row["weights"]["state"] == "of mini, packed"
    assert row["engine"]["state"].startswith("caffe runs the nets")


@pytest.mark.parametrize(
    "text, reason",
    [
        (
            "raise ImportError('libfoo.so.1: cannot open shared object file')",
            "ImportError: libfoo.so.1",
        ),
        ("import os; os.abort()", "it was killed by signal 6"),
        ("print(1); raise SystemExit(0)", "ImportError: it ends the program with status 0"),
        (
            "import os; os.write(2, bytes([0xE9])); raise ImportError('gone')",
            "ImportError: gone",
        ),
    ],
)
def test_a_broken_caffe_is_a_row_with_a_remedy(tmp_path, text, reason):
    answer = run("mcc_caffe.doctor", "--json", env=broken_caffe(tmp_path, text))
    assert answer.returncode == 1 and not json.loads(answer.stdout)["works"]
    row = rows(answer)
    assert row["Caffe"]["status"] == "failed" and "make caffe" in row["Caffe"]["remedy"]
    assert reason in row["Caffe"]["state"] and str(tmp_path) in row["Caffe"]["state"]
    assert row["BLAS"] == {
        "name": "BLAS",
        "status": "absent",
        "state": "not known without Caffe",
        "remedy": "",
    }
    assert row["OpenCV"]["status"] == "ok"
    expected = "onnx can run the nets: take --engine onnx until Caffe is mended"
    assert row["engine"]["state"] == expected


def test_the_engine_onnx_finds_hands_beside_a_caffe_that_aborts(tmp_path):
    environment = broken_caffe(tmp_path, "import os; os.abort()")
    words = (ROOT / "docs/demo.jpg", "--engine", "onnx", "--out", tmp_path / "out")
    done = run("mcc_caffe.infer", *words, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/demo.json").read_text())["hand_present"]


def test_without_caffe_onnx_runtime_runs_the_nets():
    code = (
        "import sys; sys.modules['caffe'] = None; from mcc_caffe.doctor import main; "
        "sys.exit(main(['--json']))"
    )
    answer = run_code(code)
    assert answer.returncode == 0 and json.loads(answer.stdout)["works"], answer.stdout
    row = rows(answer)
    assert (row["Caffe"]["status"], row["Caffe"]["state"]) == ("absent", "not installed")
    assert "python -m caffe_build" in row["Caffe"]["remedy"] and "BLAS" not in row
    assert row["engine"]["state"] == "onnx runs the nets" and row["ONNX Runtime"]["status"] == "ok"


def test_without_any_engine_nothing_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(doctor, "importable_folder", lambda: None)
    row = {row.name: row for row in doctor.examine()}
    assert (row["ONNX Runtime"].status, row["engine"].status) == ("absent", "failed")
    assert "pip install onnx onnxruntime" in row["engine"].remedy


def test_the_table_marks_each_row(tmp_path):
    answer = run("mcc_caffe.doctor", env=broken_caffe(tmp_path, "raise ImportError('gone')"))
    assert answer.returncode == 1 and answer.stderr == ""
    assert (
        "✗ Caffe" in answer.stdout
        and "-> run `make caffe`" in answer.stdout
        and "✓ OpenCV" in answer.stdout
    )


FACTS = {
    "version": "1.0.0",
    "path": "/caffe",
    "built": "CPU",
    "missing_layers": [],
    "blas": "OpenBLAS",
    "onednn": True,
    "cuda": False,
    "nccl": False,
}


def rows_of(monkeypatch, **changes):
    monkeypatch.setattr(doctor, "_caffe_facts", lambda: {**FACTS, **changes})
    return {row.name: row for row in doctor.examine()}


def test_gpus_are_optional(monkeypatch):
    monkeypatch.setattr(doctor, "gpu_ids", lambda: [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    row = rows_of(monkeypatch)
    assert [row[name].status for name in ("CUDA", "NCCL", "GPUs")] == ["absent"] * 3
    assert row["CUDA"].remedy.startswith("needed for --gpu only: `make caffe GPU=1`")
    assert row["NCCL"].remedy.startswith("needed for training on several GPUs only: `make caffe")
    assert row["GPUs"].state == "nvidia-smi lists none" and "driver" in row["GPUs"].remedy
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    row = rows_of(monkeypatch)["GPUs"]
    assert row.state == "nvidia-smi lists none that CUDA_VISIBLE_DEVICES= leaves"
    assert "CUDA_VISIBLE_DEVICES, where it is set" in row.remedy
    monkeypatch.setattr(doctor, "gpu_ids", lambda: [0, 1])
    row = rows_of(monkeypatch, cuda=True, nccl=True)
    assert [row[name].status for name in ("CUDA", "NCCL", "GPUs")] == ["ok"] * 3 and "0, 1" in row[
        "GPUs"
    ].state


@pytest.mark.parametrize("name, row", [("onednn", "oneDNN"), ("cuda", "CUDA"), ("nccl", "NCCL")])
def test_what_makes_caffe_faster_has_a_row_each(name, row):
    facts = {**FACTS, "onednn": False, name: True}
    rows = {row.name: row for row in doctor._make_optional_caffe_rows(facts)}
    for other in ("oneDNN", "CUDA", "NCCL"):
        assert rows[other].status == ("ok" if other == row else "absent")


def test_a_broken_onnx_runtime_runs_no_net_without_caffe(monkeypatch):
    def fail():
        raise ImportError("libonnxruntime.so is damaged")

    monkeypatch.setattr(doctor, "_onnx_runtime", fail)
    for caffe in (None, "Caffe is damaged"):
        runtime, engine = doctor._make_engine_rows(caffe)
        assert runtime.state == "ImportError: libonnxruntime.so is damaged"
        assert (runtime.status, engine.status) == ("failed", "failed")
    assert doctor._make_engine_rows(FACTS)[1].status == "ok"


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("choice", ["bfloat16", "float32"])
def test_bfloat16_is_optional(monkeypatch, onednn, choice):
    monkeypatch.setattr(doctor, "choose_precision", lambda default: choice)
    row = rows_of(monkeypatch, onednn=onednn)["bfloat16"]
    has_it = onednn and choice == "bfloat16"
    assert row.status == ("ok" if has_it else "absent")
    bfloat16_found = "trainings take it, all else with --precision auto"
    assert row.state == (bfloat16_found if has_it else "trainings take float32")


@pytest.mark.parametrize(
    "variable, status", [(None, "ok"), ("float32", "absent"), ("nonsense", "failed")]
)
def test_the_precision_of_the_environment_is_that_of_trainings(variable, status, monkeypatch):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda _: True)
    monkeypatch.setattr(precision, "caffe_has_bfloat16", lambda: True)
    monkeypatch.delenv(precision.PRECISION_VARIABLE)
    if variable:
        monkeypatch.setenv(precision.PRECISION_VARIABLE, variable)
    row = rows_of(monkeypatch)["bfloat16"]
    assert row.status == status
    assert not row.remedy or precision.PRECISION_VARIABLE in row.remedy


def test_a_caffe_that_lacks_layers_or_blas(monkeypatch):
    row = rows_of(monkeypatch, missing_layers=["Python"], blas="")
    assert (
        row["Python layer"].status == "failed" and "WITH_PYTHON_LAYER" in row["Python layer"].remedy
    )
    assert row["layer types"].state == "missing: Python" and row["BLAS"].status == "failed"


def test_every_layer_type_of_our_nets_is_looked_for():
    used = {
        layer.type
        for path in ROOT.glob("prototxt/*/*.prototxt")
        for layer in read_text("NetParameter", path).layer
    }
    assert set(doctor.LAYERS) == used


def test_little_room_is_no_failure(monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_FREE_GB", float("inf"))
    row = rows_of(monkeypatch)["disk"]
    assert row.status == "absent" and "XDG_CACHE_HOME" in row.remedy


def test_the_room_is_that_of_the_nearest_folder_there_is(tmp_path, monkeypatch):
    """In units of 10^9 bytes; the cache's own folder may be a disk of its own."""
    asked = []

    def usage(folder):
        asked.append(folder)
        return types.SimpleNamespace(total=9e9, used=6e9, free=3e9)

    monkeypatch.setattr(doctor.shutil, "disk_usage", usage)
    for folder in (tmp_path, tmp_path / "no/such"):
        monkeypatch.setattr(doctor, "cache_folder", lambda folder=folder: folder)
        row = doctor._row("disk", doctor._disk, "")
        assert (row.status, row.state) == ("ok", f"3.0 GB free for {folder}")
    assert asked == [tmp_path, tmp_path]


def test_a_user_without_a_home_folder_is_no_failure(monkeypatch):
    def refuse():
        raise PrefixError("the user has no home folder: set HOME or XDG_CACHE_HOME")

    monkeypatch.setattr(doctor, "cache_folder", refuse)
    row = rows_of(monkeypatch)["disk"]
    assert (row.status, row.remedy) == ("absent", "") and "set HOME" in row.state


def test_a_home_folder_that_the_user_may_not_look_into_is_no_failure(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    code = (
        "import os; from mcc_caffe import doctor; "
        "os.getuid() or os.setuid(12345); "
        "print(doctor._row('disk', doctor._disk, ''))"
    )
    done = run_code(code, env={**os.environ, "XDG_CACHE_HOME": str(locked / "cache")})
    locked.chmod(0o700)  # so that pytest can remove it
    assert "status='ok'" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["Pillow", "tqdm"])
def test_what_images_need_may_not_be_missing(name, monkeypatch):
    monkeypatch.setitem(sys.modules, {"Pillow": "PIL"}.get(name, name), None)
    row = rows_of(monkeypatch)[name]
    assert row.status == "failed" and "pip install" in row.remedy


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_onnx_runtime_may_be_missing_where_caffe_is(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    rows = rows_of(monkeypatch)
    row = rows["ONNX Runtime"]
    assert (row.status, row.state) == ("absent", f"{name} is not installed")
    assert rows["engine"].status == "ok" and doctor.main([]) == 0


@pytest.mark.parametrize(
    "name, module", [("h5py", "h5py"), ("LMDB", "lmdb"), ("PyAV", "av"), ("matplotlib",) * 2]
)
def test_what_images_do_without_may_be_missing_but_not_broken(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    row = rows_of(monkeypatch)[name]
    assert (row.status, row.state) == ("absent", f"{module} is not installed")
    assert row.remedy.startswith("needed for ") and "pip install" in row.remedy
    assert doctor.main([]) == 0
    monkeypatch.delitem(sys.modules, module)

    def fail(name):
        raise ModuleNotFoundError("No module named 'other'", name="other")

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    assert rows_of(monkeypatch)[name].status == "failed"


def test_an_opencv_without_a_codec_is_named(monkeypatch):
    import cv2

    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    row = rows_of(monkeypatch)["OpenCV"]
    assert row.status == "failed" and "cannot write and read .jpg" in row.state


def test_an_opencv_that_changes_colours_is_named(monkeypatch):
    import cv2

    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *words: decode(*words) // 2)
    row = doctor._row("OpenCV", doctor._opencv, "")
    assert row.status == "failed" and "cannot write and read .jpg" in row.state
    is_png = [False, True]
    monkeypatch.setattr(cv2, "imdecode", lambda *words: None if is_png.pop(0) else decode(*words))
    assert "cannot write and read .png" in doctor._row("OpenCV", doctor._opencv, "").state


def test_an_lmdb_that_gives_another_value_is_named(monkeypatch):
    import lmdb

    def open_environment(folder):
        transaction = contextlib.nullcontext(
            types.SimpleNamespace(put=lambda key, value: None, get=lambda key: b"other")
        )
        return contextlib.nullcontext(types.SimpleNamespace(begin=lambda **_: transaction))

    monkeypatch.setattr(lmdb, "open", open_environment)
    row = doctor._row("LMDB", doctor._lmdb, "")
    assert (row.status, row.state) == ("failed", "a value did not come back as it was written")


@pytest.mark.parametrize("implementation, ending", [("upb", "upb"), ("python", "python (slow)")])
def test_protobuf_in_python_is_called_slow(implementation, ending, monkeypatch):
    monkeypatch.setattr(api_implementation, "Type", lambda: implementation)
    row = doctor._row("protobuf", doctor._protobuf, "")
    assert row.state == f"{google.protobuf.__version__}, {ending}"


def test_memory_counts_in_gibibytes_and_the_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda _: {0, 5, 6})
    for meminfo, words in (
        ("MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 2097152 kB\n", "8.0, 2.0"),
        ("MemTotal: 8388608 kB\nMemFree: 1 kB\n", "8.0, nan"),  # Linux before 3.14
    ):
        monkeypatch.setattr(doctor.Path, "read_text", lambda path, text=meminfo: text)
        total, free = words.split(", ")
        assert doctor._machine() == f"3 cores, {total} GiB of memory, {free} GiB free"


def test_a_caffe_whose_import_hangs_is_a_row(monkeypatch):
    def hang(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(doctor.subprocess, "run", hang)
    monkeypatch.setattr(doctor, "importable_folder", lambda: pathlib.Path("/caffe"))
    row = {row.name: row for row in doctor._make_caffe_rows(doctor._caffe_facts())}
    assert row["Caffe"].status == "failed"
    assert row["Caffe"].state == "import caffe did not end within 120 s"
    assert row["CUDA"].state == "not known without Caffe"


def test_a_caffe_of_the_users_has_no_build(monkeypatch):
    for built, state in (("CPU", "1.0.0, CPU, /caffe"), ("", "1.0.0, /caffe")):
        assert doctor._caffe_version({**FACTS, "built": built}) == state


def test_a_terminal_without_the_marks_shows_the_table(monkeypatch):
    rows = [doctor.Row("Caffe", "absent", "not installed", "build it")]
    monkeypatch.setattr(doctor, "examine", lambda: rows)
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    assert doctor.main([]) == 0
    sys.stdout.flush()
    assert content.getvalue().decode().splitlines() == [
        "? Caffe          not installed",
        f"{'':17}-> build it",
    ]


def test_blas_passes_over_numpys_copy():
    line = "7f00-7f01 r-xp 00000000 08:01 1 {}\n".format
    assert (
        doctor.blas_in_use(
            line("/venv/lib/python3/site-packages/numpy.libs/libscipy_openblas64_-3.so")
        )
        == ""
    )
    assert doctor.blas_in_use(line("/usr/lib/python3/dist-packages/x/libopenblas.so.0")) == ""
    paths = ("/opt/lib/libmkl_rt.so.2", "/opt/my libs/libblas.so.3", "/usr/lib/libatlas.so.3")
    for path in paths:
        assert doctor.blas_in_use(line(path)) == path
    assert doctor.blas_in_use("".join(map(line, paths[::-1]))) == ", ".join(paths)


@pytest.mark.parametrize(
    "flags, kernels",
    [
        ("fpu sse2 avx avx2 fma avx512f avx512dq avx512bw avx512vl avx512_fp16", "SkylakeX"),
        ("fpu sse2 avx avx2 fma avx512f", "Haswell"),
        ("fpu sse2 avx", ""),
    ],
)
def test_the_blas_is_told_what_the_processor_can(flags, kernels):
    assert blas_kernels(f"processor : 0\nflags\t\t: {flags}\nbugs\t: none\n") == kernels
    assert blas_kernels("processor : 0\nFeatures : fp asimd\n") == ""


def test_caffes_blas_uses_no_kernels_of_2004():
    if not blas_kernels(pathlib.Path("/proc/cpuinfo").read_text()):
        pytest.skip("this processor has no AVX2")
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    code = "from mcc_caffe import doctor; doctor.print_caffe_facts()"
    done = run_code(code, env=environment)
    blas = json.loads(done.stdout.splitlines()[-1])["blas"]
    if "OpenBLAS" not in blas:
        pytest.skip(f"Caffe's BLAS is {blas}")
    assert "Prescott" not in blas
    assert re.fullmatch(r"OpenBLAS [\d.]+\S*, \d+ threads, kernels for \w+, /.*openblas.*", blas)


def test_damaged_or_missing_weights_are_a_row(monkeypatch, tmp_path):
    (tmp_path / "mini.npz").write_bytes(b"PK\x03\x04 cut short")
    monkeypatch.setattr(
        doctor,
        "shipped_weights",
        lambda variant: tmp_path / "mini.npz" if variant == "mini" else None,
    )
    row = rows_of(monkeypatch)["weights"]
    assert (
        row.status == "failed"
        and "mini.npz is no whole file of packed weights" in row.state
        and "install the package again" in row.remedy
    )
    monkeypatch.setattr(doctor, "shipped_weights", lambda variant: None)
    row = rows_of(monkeypatch)["weights"]
    assert (row.status, row.state) == ("failed", "none come with the package")


def test_one_wrong_byte_in_the_middle_of_the_weights_is_a_row(monkeypatch, tmp_path):
    content = bytearray(doctor.shipped_weights("mini").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "mini.npz").write_bytes(content)
    monkeypatch.setattr(
        doctor,
        "shipped_weights",
        lambda variant: tmp_path / "mini.npz" if variant == "mini" else None,
    )
    row = rows_of(monkeypatch)["weights"]
    assert row.status == "failed" and "mini.npz" in row.state


@pytest.mark.parametrize("share, words", [(0, "empty or cut short"), (0.5, ""), (0.9, "")])
@pytest.mark.parametrize("name", ["train", "deploy"])
def test_a_prototxt_that_is_empty_or_cut_is_a_row(name, share, words, monkeypatch, tmp_path):
    def cut(relative):
        path = ROOT / relative
        if path.name != f"{name}.prototxt":
            return path
        content = path.read_text()
        (tmp_path / path.name).write_text(content[: int(share * len(content))])
        return tmp_path / path.name

    assert doctor._row("prototxts", doctor._prototxts, "").status == "ok"
    monkeypatch.setattr(doctor, "require_shipped", cut)
    row = doctor._row("prototxts", doctor._prototxts, "")
    assert row.status == "failed" and f"{tmp_path}/{name}.prototxt is" in row.state
    assert words in row.state and "\n" not in row.state
