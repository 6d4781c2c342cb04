"""`python -m benchmarks.folder`: its photographs, its steps, and what it says bounds a folder."""

import cv2

from benchmarks import folder
from benchmarks.folder import DRAWING, ENCODING, LOOKING, READING


def test_photographs_have_12_megapixels_and_differ(tmp_path):
    folder.make_photographs(tmp_path, folder.IMAGES + 1)
    paths = sorted(tmp_path.iterdir())
    contents = [path.read_bytes() for path in paths]
    assert len(paths) == folder.IMAGES + 1 and len(set(contents)) == folder.IMAGES
    photograph = cv2.imread(str(paths[0]))
    assert photograph is not None and photograph.shape == (3000, 4000, 3)
    seconds = folder.step_seconds(paths[:1], levels=1)
    assert list(seconds) == [READING, LOOKING, DRAWING, ENCODING]
    assert all(0 < value < 60 for value in seconds.values())


def test_what_bounds_a_folder(monkeypatch):
    monkeypatch.setattr(folder, "CORES", 2)
    # The three other steps run beside the longest.
    assert folder.bound({READING: 0.1, LOOKING: 0.7, DRAWING: 0.1, ENCODING: 0.1}) == LOOKING
    # 0.3 s of work for two cores take 0.15 s, more than any step.
    filled = folder.bound({READING: 0.1, LOOKING: 0.05, DRAWING: 0.04, ENCODING: 0.11})
    assert filled == f"the 2 cores, most of all {ENCODING}"


def test_the_seconds_of_the_start_are_the_median_of_warm_ones(tmp_path, monkeypatch):
    """The first start is cold: 100 s. The median of the others is 3 s, so that 39 files take 13."""
    monkeypatch.setattr(folder, "make_photographs", lambda to, count: None)
    monkeypatch.setattr(folder, "step_seconds", lambda photographs, levels: {})
    monkeypatch.setattr(folder, "PASSES", {"single pass": 1})
    seconds = iter((100, 1, 5, 3, 9, 2, 16))
    monkeypatch.setattr(folder, "run_seconds", lambda photographs, levels: next(seconds))
    figures = folder.measure(40, tmp_path)
    assert figures == {"single pass": {"photographs_per_second": 3.0}}
