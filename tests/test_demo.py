"""The demo, whole, at its smallest."""
import cv2

from tests.conftest import run


def test_the_demo_goes_from_nothing_to_pictures(tmp_path):
    out = tmp_path / "demo"
    for _ in range(2):                                               # it may be run again
        done = run("mcc_caffe.demo", "--out", out, "--images", 14, "--iterations", 2, timeout=600)
        assert done.returncode == 0, done.stderr
    assert "Look at" in done.stdout.splitlines()[-1]
    pictures = sorted((out / "found").glob("*.png"))
    assert len(pictures) == 12
    for path in (*pictures, out / "curves.png"):
        assert cv2.imread(str(path)).size
