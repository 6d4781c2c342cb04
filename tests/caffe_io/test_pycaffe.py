"""Caffe is imported, or one line says why not."""

import os

import pytest

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


def test_more_threads_than_a_process_can_bear_are_refused(tmp_path):
    done = run(
        *("mcc_caffe.infer", ROOT / "docs/demo.jpg", "--engine", "caffe"),
        *("--out", tmp_path / "out"),
        env={**os.environ, "OMP_NUM_THREADS": "100000"},
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "OMP_NUM_THREADS is 100000: give a number up to 1024" in done.stderr
