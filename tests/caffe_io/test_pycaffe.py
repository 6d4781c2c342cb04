"""Caffe is imported, or one line says why not."""

import os
import shutil

import pytest
from numpy.random import mtrand

from caffe_build.locate import build_name, importable_folder
from mcc_caffe.caffe_io import pycaffe
from mcc_caffe.caffe_io.pycaffe import gpu_ids, import_caffe, require_caffe
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines import choose_engine
from tests.support.builds import write_program
from tests.support.commands import ROOT, refusal, run, run_code


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "the module caffe in {folder} is not Caffe, but stands before it on Python's path"),
        ("raise RuntimeError('of another kind')", "imported (of another kind) from {folder}"),
    ],
)
def test_another_module_of_the_name_is_no_caffe(content, message, tmp_path):
    (tmp_path / "caffe.py").write_text(content)
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    done = run(
        *("mcc_caffe.infer", ROOT / "docs/demo.jpg", "--engine", "caffe"),
        *("--out", tmp_path / "out"),
        env={**os.environ, "PYTHONPATH": path},
    )
    assert message.format(folder=tmp_path) in refusal(done)


@pytest.mark.parametrize("threads", ["100000", "100000,2", " 4097 "])
def test_more_threads_than_a_process_can_bear_are_refused(threads, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    count = threads.split(",")[0].strip()
    message = f"OMP_NUM_THREADS is {count}: give a number up to 4096"
    with pytest.raises(UserError, match=message):
        require_caffe("training")
    done = run(
        *("mcc_caffe.infer", ROOT / "docs/demo.jpg", "--engine", "caffe"),
        *("--out", tmp_path / "out"),
    )
    assert message in refusal(done)


@pytest.mark.parametrize("threads", ["4096", "2,100000", "0", ""])
def test_threads_that_a_process_can_bear_are_taken(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    require_caffe("training")


def test_too_many_threads_do_not_make_caffe_broken(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    assert import_caffe() and choose_engine() == "caffe"


@pytest.mark.parametrize(
    "asked, cuda, present, words",
    [
        (
            [0],
            False,
            [],
            r"GPU 0 was asked for, but this Caffe .* is built for the CPU only: `make caffe GPU=1`",
        ),
        (
            [0, 1],
            True,
            [],
            "GPU 0,1 was asked for, but nvidia-smi lists no GPU on this machine: "
            "install NVIDIA's driver, or leave the GPUs out",
        ),
        (
            [0, 2],
            True,
            [0, 1],
            "GPU 2 does not exist: nvidia-smi and CUDA_VISIBLE_DEVICES leave 0, 1",
        ),
        ([1, 1], True, [0, 1], "name one GPU twice"),
    ],
)
def test_the_error_says_why_gpus_cannot_be_used(monkeypatch, asked, cuda, present, words):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pycaffe, "has_cuda", lambda: cuda)
    monkeypatch.setattr(pycaffe, "gpu_ids", lambda: present)
    with pytest.raises(UserError, match=words):
        pycaffe.require_gpus(asked)


def test_a_build_of_ours_can_do_what_its_name_says():
    name = build_name(importable_folder())
    if not name:
        pytest.skip("this Caffe was built elsewhere")
    assert pycaffe.has_onednn() and pycaffe.has_cuda() == name.startswith("CUDA")


def test_cuda_that_another_library_of_the_program_brings_is_not_caffes(tmp_path):
    library = tmp_path / "libcublas.so.13"
    shutil.copy(mtrand.__file__, library)
    ask = "from mcc_caffe.caffe_io import pycaffe; print(pycaffe.has_cuda())"
    load = f"import ctypes, numpy; ctypes.CDLL({str(library)!r}); "
    assert run_code(load + ask).stdout == run_code(ask).stdout != ""


def test_no_gpu_that_the_environment_leaves_is_said(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setattr(pycaffe, "has_cuda", lambda: True)
    monkeypatch.setattr(pycaffe, "gpu_ids", list)
    with pytest.raises(UserError, match="no GPU that CUDA_VISIBLE_DEVICES=7 leaves: set"):
        pycaffe.require_gpus([0])


@pytest.mark.parametrize(
    "visible, ids",
    [
        (None, [0, 1, 2]),
        ("2,0", [0, 1]),
        ("GPU-18932f937", [0]),
        ("GPU-2", [0]),
        ("GPU-zzzz", []),
        ("GPU-", []),
        ("MIG-5, MIG-6", [0]),
        ("1,-1,2", [0]),
        ("", []),
        ("-1", []),
        ("0,1,2,3", [0, 1, 2]),
        ("7", []),
        ("0,7,1", [0]),
        ("1,1", []),
    ],
)
def test_gpus_are_counted_as_cuda_does(visible, ids, tmp_path, monkeypatch):
    lines = "\n".join(f"GPU {number}: a card (UUID: GPU-{number}8932f937)" for number in range(3))
    lines += "\n  MIG 1g.10gb     Device  0: (UUID: MIG-5f2e)"
    write_program(tmp_path / "nvidia-smi", f"echo '{lines}'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_ids() == ids
