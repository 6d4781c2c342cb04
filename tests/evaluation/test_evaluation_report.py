"""The forms in which an evaluation is written down."""

import json

import numpy as np
import pytest

from mcc_caffe.core.hand import GROUPS
from mcc_caffe.evaluation import evaluation_report, pck_figures
from mcc_caffe.evaluation.evaluation_report import (
    images_csv,
    markdown_tables,
    replace_truth,
    to_json,
    worst_tiles,
)
from mcc_caffe.evaluation.metrics import keypoint_distances
from mcc_caffe.evaluation.model_scores import score_model
from mcc_caffe.evaluation.prediction_runner import ScoredPrediction
from tests.support.evaluation import LINE, UNLABELLED, evaluated_sample
from tests.support.figures import shown_text
from tests.support.hands import hand


def test_each_panel_of_the_figures_has_its_own_curves(monkeypatch):
    """Each curve is level, at a height of its own."""
    monkeypatch.setattr(pck_figures, "as_png", lambda figure: figure)
    heights = {name: number / 10 for number, name in enumerate(("all", *GROUPS))}
    curves = {name: [height] * 201 for name, height in heights.items()}
    others = {"all": [0.9] * 201}
    sets = {name: {"paper": {"curves": these}} for name, these in (("a", curves), ("b", others))}
    models = [{"name": "net", "sets": sets}]

    def panels(figure):
        return [
            (axes.get_title(), axes.get_xlim()[1], axes.lines[0].get_ydata()[0])
            for axes in figure.axes
        ]

    assert panels(pck_figures.draw_sets(models)) == [("a", 1, 0), ("b", 0.5, 0.9)]
    expected = [(name, 0.5, heights[name]) for name in GROUPS]
    assert panels(pck_figures.draw_groups(models)) == expected


@pytest.mark.parametrize("name", ["a$^$", "a$b$c", "_a"])
def test_the_figures_show_the_names_of_models_and_sets_as_they_are(name, monkeypatch):
    monkeypatch.setattr(pck_figures, "as_png", lambda figure: figure)
    models = [{"name": name, "sets": {name: {"paper": {"curves": {"all": [0.5] * 201}}}}}]
    figure = pck_figures.draw_sets(models)
    figure.canvas.draw()
    titles = [shown_text(axes.title) for axes in figure.axes]
    assert titles == [name, f"{name}, up to 0.5"]
    assert [shown_text(text) for text in figure.legends[0].get_texts()] == [name]


def test_results_are_json_with_a_list_of_numbers_on_one_line():
    content = {"name": "a [b\n  c]", "values": [0.5, None, 1.0], "models": [{"x": 1}], "none": []}
    text = to_json(content).decode()
    assert json.loads(text) == content and '"values": [ 0.5, null, 1.0 ]' in text


def test_tables_of_samples_without_labels_have_dashes():
    scores = score_model([evaluated_sample(UNLABELLED, np.ones((21, 3)), has_mask=False)], 0)
    printed = markdown_tables([{"name": "net", "sets": {"set": scores.summarise([0.2])}}])
    assert "| net | set | 0 | 0 | - | - | - |" in printed and "nan" not in printed
    assert "give no box" not in printed and "no prediction" not in printed
    assert not np.isfinite(keypoint_distances(np.ones((1, 21, 3)), UNLABELLED[None])).any()


def test_tables_say_how_many_keypoints_were_predicted_and_how_well():
    """Ten of 21 are 10 px off, in a box of 100; the wrist is one of them."""
    predicted = LINE + (0, 10, 0)
    predicted[10:] = np.nan
    numbers = score_model([evaluated_sample(LINE, predicted)], 0).summarise([0.05, 0.2])
    printed = markdown_tables([{"name": "net", "sets": {"set": numbers}}])
    columns = "| model | set | keypoints | predicted | PCK@0.05 | PCK@0.2 | AUC |"
    assert [line for line in printed.splitlines() if line.startswith("| model")][:2] == [
        columns,
        f"{columns} EPE |",
    ]
    assert printed.count("| net | set | 21 | 10 | 0.000 | 0.476 | ") == 2 and "| 10.00 |" in printed
    assert "PCK@0.2 of the groups" in printed and "| net | set | 1.000 | " in printed


def test_the_table_of_masks_has_their_numbers_and_the_missing_ones_are_told():
    samples = [evaluated_sample(LINE, None, b"mask", 0.78), evaluated_sample(LINE, None)]
    numbers = score_model(samples, 0).summarise([0.2])
    printed = markdown_tables([{"name": "net", "sets": {"set": numbers}}])
    assert "| model | set | images | AP50 | AP75 | AP80 | mean IoU |" in printed
    assert "| net | set | 2 | 50.0 | 50.0 | 0.0 | 0.390 |" in printed
    assert "net, set: 1 of 2 images have no prediction and count as wrong." in printed
    assert "Keypoints" not in printed
    unmasked = evaluated_sample(LINE, LINE, b"mask", None, has_mask=False)
    numbers = score_model([unmasked], 0).summarise([0.2])
    assert "Masks" not in markdown_tables([{"name": "net", "sets": {"set": numbers}}])


def test_images_csv_has_a_line_for_each_image_and_model():
    samples = [evaluated_sample(LINE, LINE + (0, 10, 0)), evaluated_sample(LINE, None)]
    scores = score_model(samples, 0)
    lines = images_csv(samples, {"a": scores, "b": scores}, [0.05, 0.2]).decode().splitlines()
    columns = "box_px,keypoints,predicted,pck_0.05,pck_0.2,mean_error_px,confidence,iou,error"
    assert lines[0] == f"set,key,model,{columns}"
    cells = {"a": lines[1].split(",")[3:], "b": lines[2].split(",")[3:]}
    assert [line.split(",")[:3] for line in lines[1:]] == [["set", "key", name] for name in "abab"]
    assert [float(cell) if cell else None for cell in cells["a"]] == pytest.approx(
        [100, 21, 21, 0, 1, 10, 1, None, 0.1]
    )
    assert cells["a"] == cells["b"]
    assert lines[3].split(",")[3:] == ["100.0", "21", "0", "0.0", "0.0", "", "", "", "1.0"]


def test_the_caption_of_a_tile_says_how_wrong_the_prediction_is():
    columns = {
        "error": np.array([0.5, 0.5, 0.75, np.nan]),
        "mean_error_px": np.array([12.4, 12.4, np.nan, np.nan]),
        "keypoints": np.array([21, 21, 0, 0]),
        "predicted": np.array([19, 21, 0, 0]),
        "iou": np.array([0.25, np.nan, 0.25, np.nan]),
    }
    assert [evaluation_report._error_text(columns, row) for row in range(4)] == [
        "error 0.50 of the box (12 px), 2 keypoints not predicted, IoU 0.25",
        "error 0.50 of the box (12 px)",
        "IoU 0.25",
        "none",
    ]


def test_the_worst_images_come_first_and_those_that_cannot_be_judged_not_at_all(monkeypatch):
    offsets = (10, 30, 0, 20)
    samples = [evaluated_sample(LINE, LINE + (0, offset, 0)) for offset in offsets]
    samples.insert(1, evaluated_sample(UNLABELLED, LINE))
    loaded = []

    def load(sample):
        loaded.append([each is sample for each in samples].index(True))
        return hand(1)

    for most, expected in ((3, [2, 4, 0]), (9, [2, 4, 0, 3])):
        monkeypatch.setattr(evaluation_report, "WORST", most)
        tiles = worst_tiles(samples, score_model(samples, 0), 0, load)
        assert loaded == expected and len(tiles) == len(expected)
        loaded.clear()


def test_a_tile_of_a_prediction_shows_what_was_predicted_alone():
    sample = hand(1)
    keypoints = LINE + (3, 4, 0)
    keypoints[5:] = np.nan
    shown = replace_truth(sample, ScoredPrediction(keypoints, b"mask", None))
    assert shown.mask_png == b"mask" and shown.image_bytes == sample.image_bytes
    assert (shown.keypoints[:5] == np.column_stack([keypoints[:5, :2], np.ones(5)])).all()
    assert (shown.keypoints[5:] == (-1, -1, 0)).all()
    nothing = replace_truth(sample, ScoredPrediction(None, None, None))
    assert nothing.mask_png is None and (nothing.keypoints == (-1, -1, 0)).all()


def test_any_name_of_a_file_is_one_cell_of_a_table():
    scores = score_model([evaluated_sample(UNLABELLED, np.ones((21, 3)), has_mask=False)], 0)
    name = "net|1\n| 2"
    printed = markdown_tables([{"name": name, "sets": {"set": scores.summarise([0.2])}}])
    assert "\n| net\\|1\\n\\| 2 | set | 0 | 0 | - |" in printed


def test_keypoints_that_pck_leaves_out_are_told():
    """One labelled keypoint alone gives no box, by whose size its distance could be divided."""
    alone = UNLABELLED.copy()
    alone[4] = 30, 40, 1
    predicted = np.ones((21, 3))
    samples = [evaluated_sample(truth, predicted, has_mask=False) for truth in (LINE, alone)]
    printed = markdown_tables(
        [{"name": "net", "sets": {"set": score_model(samples, 0).summarise([0.2])}}]
    )
    assert "net, set: 1 of 22 keypoints are in images whose labels give no box: PCK " in printed
