"""The installed package stands without the checkout."""
import shutil
import subprocess
import sys
import zipfile

from tests.conftest import ROOT


def test_the_wheel_carries_prototxts_solvers_and_weights_and_finds_them(tmp_path):
    copy = tmp_path / "source"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "data", "demo", "out", "build", "*.egg-info"))
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(copy.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    find = ("from mcc_caffe.files import shipped as s; print(s('prototxt/paper/deploy.prototxt'), s('solver/mini/solver.prototxt')); "
            "from mcc_caffe.weights import shipped_weights; print(shipped_weights('mini'), shipped_weights('paper'))")
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {find}"],
                          cwd="/", capture_output=True, text=True)
    paths = ("prototxt/paper/deploy.prototxt", "solver/mini/solver.prototxt", "pretrained/mini.npz")
    assert done.stdout.split() == [*(str(tmp_path / "site/mcc_caffe" / path) for path in paths), "None"], done.stderr
    assert (tmp_path / "site/mcc_caffe/pretrained/mini.npz").read_bytes() == (ROOT / "mcc_caffe/pretrained/mini.npz").read_bytes()
