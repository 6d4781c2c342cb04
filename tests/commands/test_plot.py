"""Learning curves."""

import json

import cv2
import numpy as np
import pytest

from mcc_caffe import plot
from mcc_caffe.plot import draw_curves
from mcc_caffe.training.run_log import read_log
from tests.support.commands import refusal, run
from tests.support.figures import shown_text


def write_log(folder, stages=5):
    """Write the log of a run of three iterations; return the run folder."""
    folder.mkdir(parents=True)
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


def test_curves_replace_no_other_image_of_the_run(tmp_path):
    full = write_log(tmp_path / "full")
    (full / "curves.png").write_bytes(b"a photograph")
    done = run("mcc_caffe.plot", full)
    assert (
        "would be overwritten and is no figure that this version of the command has drawn"
        in refusal(done)
    )
    assert (full / "curves.png").read_bytes() == b"a photograph"
    done = run("mcc_caffe.plot", full, "--out", full / "curves.png")
    assert "give another file to write, or move" in refusal(done)
    assert (full / "curves.png").read_bytes() == b"a photograph"
    (full / "curves.png").unlink()
    for options in ((), (), ("--out", full / "curves.png")):
        assert run("mcc_caffe.plot", full, *options).returncode == 0


def test_runs_of_one_name_have_the_names_of_their_folders(tmp_path):
    logs = {
        folder: read_log(write_log(folder)) for folder in (tmp_path / "a/mini", tmp_path / "b/mini")
    }
    total = draw_curves(logs).axes[0]
    labels = [text.get_text().strip() for text in total.get_legend().get_texts()]
    assert labels == ["a/mini", "b/mini"]


@pytest.mark.parametrize("name", ["a$^$", "a$b$c", "$", "_a"])
def test_every_name_of_a_run_is_in_the_legend_as_it_is(name, tmp_path):
    logs = {folder: read_log(write_log(folder)) for folder in (tmp_path / name, tmp_path / "b")}
    figure = draw_curves(logs)
    figure.canvas.draw()
    texts = figure.axes[0].get_legend().get_texts()
    assert [shown_text(text) for text in texts] == [name, "b"]


def test_a_run_has_one_colour_in_all_panels_and_a_stage_one_kind_of_line(tmp_path):
    folders = [write_log(tmp_path / "full"), write_log(tmp_path / "other")]
    figure = draw_curves({folder: read_log(folder) for folder in folders})
    total, stages, mask = ([line for line in axes.lines][:10] for axes in figure.axes)
    colours = [line.get_color() for line in total]
    assert len(set(colours)) == 2 and [line.get_color() for line in mask] == colours
    assert [line.get_color() for line in stages] == [colours[0]] * 5 + [colours[1]] * 5
    kinds = [line._dash_pattern for line in stages]
    assert kinds[:5] == kinds[5:] and len(set(map(str, kinds[:5]))) == 5
    for line in total:
        assert list(line.get_xdata()) == [1, 2, 3] and list(line.get_ydata()) == [100, 50, 100 / 3]
    assert [list(line.get_ydata()) for line in stages] == [[0.9] * 3] * 10
    assert [list(line.get_ydata()) for line in mask] == [[3.0] * 3] * 2


def test_the_stages_of_a_single_run_differ_by_colour_and_the_run_has_no_name(tmp_path):
    folder = write_log(tmp_path / "full")
    figure = draw_curves({folder: read_log(folder)})
    total, stages, mask = figure.axes
    *stage_lines, trivial = stages.lines
    assert [line.get_color() for line in stage_lines] == [f"C{stage}" for stage in range(5)]
    assert {line.get_linestyle() for line in stage_lines} == {"-"}
    labels = [text.get_text() for text in stages.get_legend().get_texts()]
    assert labels == [*(f"loss{stage}" for stage in range(2, 7)), "trivial answer"]
    assert list(trivial.get_ydata()) == [1, 1] and trivial.get_linestyle() == ":"
    assert total.get_legend() is None and total.get_yscale() == "log"
    titles = ["total loss", "heatmap loss / trivial answer's", "mask loss"]
    assert [axes.get_title() for axes in figure.axes] == titles


def test_losses_that_some_lines_lack_leave_a_gap(tmp_path):
    lines = read_log(write_log(tmp_path / "full"))
    del lines[1]["losses"]["loss_mask"], lines[1]["ratio_to_trivial"]["loss3"]
    _, stages, mask = draw_curves({tmp_path: lines}).axes
    for line, value in ((stages.lines[1], 0.9), (mask.lines[0], 3)):
        assert list(line.get_xdata()) == [1, 2, 3]
        assert np.array_equal(line.get_ydata(), [value, np.nan, value], equal_nan=True)


def test_the_curves_of_several_runs_lie_in_the_first_unless_a_png_is_named(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(plot, "as_png", lambda *_, **__: b"a figure")
    folders = [write_log(tmp_path / name) for name in ("a", "b")]
    named = tmp_path / "new/both.PNG"
    plot.main([*map(str, folders)])
    plot.main([*map(str, folders), "--out", str(named)])
    assert (tmp_path / "a/curves.png").is_file() and not (tmp_path / "b/curves.png").exists()
    assert capsys.readouterr().out == f"{tmp_path}/a/curves.png\n{named}\n" and named.is_file()


def test_the_mask_of_the_second_run_has_its_colour_where_the_first_has_none(tmp_path):
    first, second = write_log(tmp_path / "pose"), write_log(tmp_path / "full")
    text = (first / "log.jsonl").read_text().replace('"loss_mask": 3.0, ', "")
    (first / "log.jsonl").write_text(text)
    total, _, mask = draw_curves({run: read_log(run) for run in (first, second)}).axes
    assert [line.get_color() for line in mask.lines] == [total.lines[1].get_color()]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "the log {run}/log.jsonl was not found"),
        ("", "is empty"),
        ("{cut", "is damaged: line 1"),
        (b"\xff\xfe\n", "is damaged: line 1"),
        ("[1]", "is damaged: line 1"),
        ("[" * 100_000, "is damaged: line 1"),
        ('{"iteration": "x", "loss": 1, "losses": {}, "ratio_to_trivial": {}}', "is damaged"),
        ('{"iteration": 1, "loss": "x", "losses": {}, "ratio_to_trivial": {}}', "is damaged"),
        ('{"iteration": 1, "loss": 1, "losses": [], "ratio_to_trivial": {}}', "is damaged"),
        ('{"iteration": 1, "loss": 1, "losses": {"a": []}, "ratio_to_trivial": {}}', "is damaged"),
        ('{"iteration": 1, "losses": {}, "ratio_to_trivial": {}}', "is damaged"),
    ],
)
def test_a_bad_log_gives_one_line(tmp_path, content, message):
    if content is not None:
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "log.jsonl").write_bytes(content)
    assert message.format(run=tmp_path) in refusal(run("mcc_caffe.plot", tmp_path))


@pytest.mark.parametrize("name", ["c.xyz", "c"])
def test_curves_are_written_as_png_only(tmp_path, name):
    done = run("mcc_caffe.plot", write_log(tmp_path / "run"), "--out", name)
    assert "give a name that ends in .png" in refusal(done)
