"""Caffe is imported, or one line says why not."""

import os

import pytest

from mcc_caffe.caffe_io.pycaffe import import_caffe, require_caffe
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines import choose_engine
from tests.support.commands import ROOT, run


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
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert message.format(folder=tmp_path) in done.stderr


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
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("threads", ["4096", "2,100000", "0", ""])
def test_threads_that_a_process_can_bear_are_taken(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    require_caffe("training")


def test_too_many_threads_do_not_make_caffe_broken(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    assert import_caffe() and choose_engine() == "caffe"
