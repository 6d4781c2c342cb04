"""The installed package stands without the checkout, and the public names come when they are asked for."""

import shutil
import subprocess
import sys
import zipfile

import pytest

import mcc_caffe
from tests.support.commands import ROOT


def test_the_wheel_carries_prototxts_solvers_and_weights_and_finds_them(tmp_path):
    copy = tmp_path / "source"
    working = shutil.ignore_patterns(".*", "runs", "data", "demo", "out", "build", "*.egg-info")
    shutil.copytree(
        ROOT,
        copy,
        ignore=lambda folder, names: working(folder, names) if folder == str(ROOT) else (),
    )
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(copy.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    for package in ("mcc_caffe", "data_tools", "caffe_build"):
        for module in (ROOT / package).rglob("*.py"):
            assert (tmp_path / "site" / module.relative_to(ROOT)).is_file(), module
    find = (
        "from mcc_caffe.core.files import shipped as s; print(s('prototxt/paper/deploy.prototxt'), s('solver/mini/solver.prototxt')); "
        "from mcc_caffe.caffe_io.weights import shipped_weights; print(shipped_weights('mini'), shipped_weights('paper'))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {find}",
        ],
        cwd="/",
        capture_output=True,
        text=True,
    )
    paths = ("prototxt/paper/deploy.prototxt", "solver/mini/solver.prototxt", "pretrained/mini.npz")
    assert done.stdout.split() == [
        *(str(tmp_path / "site/mcc_caffe" / path) for path in paths),
        "None",
    ], done.stderr
    assert (tmp_path / "site/mcc_caffe/pretrained/mini.npz").read_bytes() == (
        ROOT / "mcc_caffe/pretrained/mini.npz"
    ).read_bytes()


def test_public_names_are_imported_when_first_used():
    code = (
        "import sys, mcc_caffe; assert not {'numpy', 'cv2', 'caffe'} & set(sys.modules); "
        "assert all(getattr(mcc_caffe, name) is not None for name in mcc_caffe.__all__); "
        "assert set(mcc_caffe.__all__) <= set(dir(mcc_caffe)); print(mcc_caffe.HandPredictor.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "mcc_caffe.predictor\n", done.stderr
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        mcc_caffe.nothing
