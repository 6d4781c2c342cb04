"""The installed package stands without the checkout."""
import shutil
import subprocess
import sys
import zipfile

from tests.conftest import ROOT


def test_the_wheel_carries_prototxts_and_solvers_and_finds_them(tmp_path):
    copy = tmp_path / "source"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "data", "demo", "out", "build", "*.egg-info"))
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(copy.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    find = "from mcc_caffe.files import shipped as s; print(s('prototxt/paper/deploy.prototxt'), s('solver/mini/solver.prototxt'))"
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {find}"],
                          cwd="/", capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "site/mcc_caffe" / path) for path in
                                   ("prototxt/paper/deploy.prototxt", "solver/mini/solver.prototxt")], done.stderr
