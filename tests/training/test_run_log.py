"""The log of a run: means over an interval, and the lines that a resumed run drops."""

import json

import pytest

from mcc_caffe import plot
from mcc_caffe.caffe_io.run_folder import LOG_FILE
from mcc_caffe.training.run_log import IterationStats, RunLog, read_log


def line(iteration):
    """Return a line of the log."""
    return json.dumps({"iteration": iteration, "loss": 1.0, "losses": {}, "ratio_to_trivial": {}})


def test_a_line_has_the_means_of_its_interval(tmp_path):
    """Of two iterations of 8 images each."""
    weights = {"loss_mask": 0.5, "loss2": 1.0}
    log = RunLog(tmp_path, iteration=0, images=8, loss_weights=weights)
    log.add(IterationStats({"loss_mask": 2.0, "loss2": 6.0}, 8.0, seconds=0.1, data_wait=0.02))
    log.add(IterationStats({"loss_mask": 4.0, "loss2": 10.0}, 12.0, seconds=0.3, data_wait=0.04))
    assert log.write(2) == (
        "loss 9.5, mask 3.0, loss2 8 (of trivial: 0.80), 40.0 img/s, data wait 0.03 s"
    )
    (entry,) = read_log(tmp_path)
    assert entry["losses"] == pytest.approx({"loss_mask": 3, "loss2": 8})
    assert entry["ratio_to_trivial"] == pytest.approx({"loss2": 0.8})
    numbers = ("iteration", "loss", "images_per_second", "seconds", "data_wait")
    assert [entry[name] for name in numbers] == pytest.approx([2, 9.5, 40, 0.2, 0.03])
    assert not log.pending


def test_damaged_lines_go_when_a_run_is_resumed(tmp_path):
    damaged = [b"\xff\xfe", line("five").encode(), line(3.5).encode(), b"[1]", b"{cut"]
    content = [line(1).encode(), *damaged, line(2).encode(), line(3).encode()]
    (tmp_path / LOG_FILE).write_bytes(b"\n".join(content))
    RunLog(tmp_path, iteration=2, images=1, loss_weights={})
    assert [entry["iteration"] for entry in read_log(tmp_path)] == [1, 2]


def test_an_interval_without_keypoints_has_no_ratio(tmp_path):
    log = RunLog(tmp_path, iteration=0, images=1, loss_weights={"loss2": 1.0})
    for iteration, trivial_loss in ((1, 0.0), (2, 2.0)):
        log.add(IterationStats({"loss2": 1.0}, trivial_loss, 0.1, 0.0))
        log.write(iteration)
    lines = read_log(tmp_path)
    assert [line["ratio_to_trivial"] for line in lines] == [{}, {"loss2": 0.5}]
    (total, stages, mask) = plot.draw_curves({tmp_path: lines}).axes
    assert "loss2" in [text.get_text() for text in stages.get_legend().get_texts()]
