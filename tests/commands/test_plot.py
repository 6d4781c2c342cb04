"""Learning curves."""

import json

import cv2
import pytest

from tests.support.commands import run


def write_log(folder, stages=5):
    """Write the log of a run of three iterations; return the run folder."""
    folder.mkdir()
    ratios = {f"loss{stage}": 0.9 for stage in range(2, stages + 2)}
    lines = [
        {
            "iteration": iteration,
            "loss": 100.0 / iteration,
            "losses": {"loss_mask": 3.0, **ratios},
            "ratio_to_trivial": ratios,
        }
        for iteration in (1, 2, 3)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_curves_of_one_and_of_several_runs(tmp_path):
    full, mask_only = write_log(tmp_path / "full"), write_log(tmp_path / "mask", stages=0)
    assert run("mcc_caffe.plot", full).returncode == 0
    assert run("mcc_caffe.plot", full, mask_only, "--out", tmp_path / "both.png").returncode == 0
    for path in (full / "curves.png", tmp_path / "both.png"):
        assert cv2.imread(str(path)).shape == (420, 1500, 3)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "the log {run}/log.jsonl was not found"),
        ("", "is empty"),
        ("{cut", "is damaged"),
    ],
)
def test_a_bad_log_gives_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "log.jsonl").write_text(content)
    done = run("mcc_caffe.plot", tmp_path)
    assert (
        done.returncode == 2
        and message.format(run=tmp_path) in done.stderr
        and "Traceback" not in done.stderr
    )
