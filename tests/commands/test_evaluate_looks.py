"""`evaluate --looks` and `evaluate_scenes`, as a user runs them."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from data_tools.sets import held_out_entries
from mcc_caffe import evaluate, evaluate_scenes
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.onnx_model import count_multiply_adds
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.evaluation.presence_runner import Presence
from mcc_caffe.evaluation.scene_runner import CountingEngine, count_passes
from mcc_caffe.evaluation.scene_scores import PresenceNumbers, SceneNumbers
from mcc_caffe.inference.reports import POINT_COLUMNS
from mcc_caffe.inference.scene_files import Scene
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import Begun, main_refusal, refusal, run
from tests.support.hands import write_unchecked_set
from tests.support.readers import drawn, write_turned_set
from tests.support.rendered import render_hand


def test_looks_are_measured_and_written_down(two_sets, tmp_path):
    done = run("mcc_caffe.evaluate", two_sets, "--looks", 2, "--limit", 2, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (model,) = json.loads((tmp_path / "results.json").read_text())["models"]
    assert model["looks"] == 2 and model["levels"] is None and model["search"] is False
    assert ", looks 2, search False" in done.stderr
    predictions = json.loads((tmp_path / "predictions_mini.json").read_text())["images"]
    keypoints = np.array([image["keypoints"] for image in predictions.values()])
    assert keypoints.shape == (2, 21, 3) and np.isfinite(keypoints).all()


def test_looks_and_levels_exclude_each_other():
    line = main_refusal(evaluate.main, "set", "--looks", 2, "--levels", 2)
    assert "argument --levels: not allowed with argument --looks" in line


@pytest.mark.parametrize(
    "options, looks, is_searched",
    [
        ([], 4, True),
        (["--looks", "4"], 4, False),
        (["--levels", "1"], None, False),
        (["--weights", "{uncalibrated}"], 4, False),
    ],
)
def test_the_results_say_whether_images_are_searched(
    options, looks, is_searched, two_sets, weights
):
    words = [str(two_sets), *(option.format(uncalibrated=weights) for option in options)]
    (model_spec,) = evaluate.make_model_specs(evaluate.parse_arguments(words), [])
    described = evaluate.describe_model(model_spec)
    assert (described["looks"], described["search"]) == (looks, is_searched)


@pytest.mark.parametrize("options", [[], ["--looks", "2"], ["--levels", "paper"]])
def test_a_net_without_pose_stage_takes_one_level(options, two_sets, tmp_path, caplog):
    """Whatever the options say, as the predictor does."""
    command = [str(two_sets), "--without", "pose", *options, "--limit", "1", "--processes", "1"]
    caplog.set_level("INFO")
    evaluate.main([*command, "--out", str(tmp_path)])
    (model,) = json.loads((tmp_path / "results.json").read_text())["models"]
    assert (model["levels"], model["looks"], model["search"]) == (1, None, False)
    assert ", engine caffe, levels 1, search False" in caplog.text


@pytest.fixture
def scenes(tmp_path):
    """An image of one hand with two boxes, one of them around nothing."""
    image = np.full((480, 640, 3), 128, np.uint8)
    rendered = render_hand(0)
    corner = np.floor(rendered.keypoints.min(axis=0)).astype(int) - 15
    hand = rendered.image[corner[1] :, corner[0] :]  # without the person beside it
    image[200 : 200 + len(hand), 300 : 300 + len(hand[0])] = hand
    cv2.imwrite(str(tmp_path / "scene.png"), image)
    left, top = rendered.keypoints.min(axis=0) - corner + (300, 200)
    right, bottom = rendered.keypoints.max(axis=0) - corner + (300, 200)
    # The second is small: 60 pixels are below a tenth of the width, though not of the height.
    boxes = [[left, top, right - left, bottom - top], [10, 10, 60, 30]]
    content = {
        "images": [{"id": 1, "file_name": "scene.png"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes],
        "categories": [{"id": 1, "name": "hand"}],
    }
    path = tmp_path / "scenes.json"
    path.write_text(json.dumps(content))
    (tmp_path / "empty").mkdir()
    cv2.imwrite(str(tmp_path / "empty/grey.png"), np.full((60, 90, 3), 128, np.uint8))
    return path


def write_table(path, image_name):
    """Write another system's table with a hand in the corner of an image."""
    rows = [f"{image_name},,,0,,0.9,{name},1,2,0.9" for name in NAMES]
    path.write_text("\n".join([",".join(POINT_COLUMNS), *rows]) + "\n")
    return path


def test_scenes_and_images_without_hands_are_measured(scenes, two_sets, tmp_path):
    """Our own hands, read from their JSON, stand for another system's: the same row again.

    A second system, whose file has the same name, says that they are 300 pixels farther left.
    """
    right, wrong = tmp_path / "right/scene.json", tmp_path / "wrong/scene.json"
    inferred = run(
        "mcc_caffe.infer",
        scenes.parent / "scene.png",
        *("--hands", "all", "--threshold", -1, "--out", right.parent),
    )
    assert inferred.returncode == 0, inferred.stderr
    content = json.loads(right.read_text())
    for point in (content["hands"][0]["box"], *content["hands"][0]["keypoints"]):
        point["x"] -= 300
    wrong.parent.mkdir()
    wrong.write_text(json.dumps(content))
    done = run(
        "mcc_caffe.evaluate_scenes",
        scenes,
        "--predictions",
        *(right, wrong),
        "--without-hands",
        scenes.parent / "empty",
        "--with-hands",
        two_sets,
        "--out",
        tmp_path / "out",
    )
    assert done.returncode == 0, done.stderr
    rows = {
        cells[0]: cells[1:]
        for line in done.stdout.splitlines()
        if len(cells := [cell.strip() for cell in line.split("|")[1:-1]]) > 8
    }
    cells = rows["mini"]
    assert rows["right/scene"][:9] == cells[:9] and rows["right/scene"][9:] == ["-", "-"]
    assert rows["wrong/scene"][:2] == ["0.000", "0.000"]
    assert cells[:2] == ["0.500", "1.000"] and cells[3] == "0.000 of 1"
    assert cells[7:9] == ["-", "-"] and 5 < float(cells[9]) < 40  # no keypoint is labelled
    assert "| the paper's pyramid | 0.00% | 0.0% |" in done.stdout
    assert "The search finds hands in 0.0% of them, 0 in all." in done.stdout
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["labelled_hands"] == 4  # of the validation split; the training has six more
    assert [model["name"] for model in results["models"]] == ["mini", "right/scene", "wrong/scene"]
    own, right, _ = results["models"]
    assert own["weights"]["variant"] == "mini" and own["scenes"]["recall"] == 0.5
    assert own["engine"] == "caffe"
    assert own["ways"]["four looks"]["false_share"] == own["hands_of_search"] == 0
    assert right["scenes"]["recall"] == 0.5 and right["scenes"]["passes"] is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--weights", "{mini}", "none.npz"], "the weights file none.npz was not found"),
        (["--with-hands", "nowhere"], "nowhere was not found"),
        (["--predictions", "nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_paths_are_told_before_the_work(arguments, message, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(Scene, "read_upright_image", lambda _: pytest.fail("read"))
    monkeypatch.setattr(HandPredictor, "predict", lambda *_: pytest.fail("looked"))
    monkeypatch.setattr(HandPredictor, "predict_all", lambda *_: pytest.fail("searched"))
    words = [word.format(mini=shipped_weights("mini")) for word in arguments]
    without = ["--without-hands", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=message):
        evaluate_scenes.main([str(scenes), *without, *words])
    assert not (tmp_path / "out").exists()


def test_scenes_can_be_measured_on_onnx_runtime(scenes, tmp_path, capsys):
    evaluate_scenes.main([str(scenes), "--engine", "onnx", "--out", str(tmp_path / "out")])
    (model,) = json.loads((tmp_path / "out/results.json").read_text())["models"]
    assert model["engine"] == "onnx" and model["scenes"]["recall"] == 0.5
    assert "| mini |" in capsys.readouterr().out


def test_the_networks_have_the_options_of_the_command(weights, tmp_path, monkeypatch):
    opened = []

    def open_predictor(*arguments, **options):
        opened.append((arguments, options))
        raise Begun

    monkeypatch.setattr(evaluate_scenes, "HandPredictor", open_predictor)
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((60, 90, 3), 128, np.uint8))
    command = ["--without-hands", tmp_path / "grey.png", "--out", tmp_path / "out"]
    command += ["--weights", weights, "--variant", "paper"]
    command += ["--engine", "onnx", "--precision", "float32"]
    with pytest.raises(Begun):
        evaluate_scenes.main(list(map(str, command)))
    options = {"gpu": None, "engine": "onnx", "precision": "float32"}
    assert opened == [((weights, "paper"), options)]


def test_a_hand_of_a_search_needs_the_score_that_is_asked_for(scenes, tmp_path):
    evaluate_scenes.main([str(scenes), "--score", "9", "--out", str(tmp_path / "out")])
    results = json.loads((tmp_path / "out/results.json").read_text())
    (model,) = results["models"]
    assert results["score_threshold"] == 9
    assert model["scenes"]["recall"] == 0 and model["scenes"]["precision"] is None


def test_boxes_without_a_pixel_of_their_image_do_not_count(scenes, tmp_path, caplog):
    """They were hands that were missed."""
    content = json.loads(scenes.read_text())
    for box in ([10, 20, 0, 0], [1000, 20, 50, 50]):
        content["annotations"].append({"image_id": 1, "category_id": 1, "bbox": box})
    scenes.write_text(json.dumps(content))
    others = write_table(tmp_path / "others.csv", "scene.png")
    out = tmp_path / "out"
    evaluate_scenes.main([str(scenes), "--predictions", str(others), "--out", str(out)])
    own, other = json.loads((out / "results.json").read_text())["models"]
    assert own["scenes"]["recall"] == 0.5
    assert sum(own["scenes"]["count_by_size"]) == sum(other["scenes"]["count_by_size"]) == 2
    assert "2 boxes have a side of 0 or lie outside of their images" in caplog.text


def test_a_missing_image_of_a_scene_is_told_before_the_work(scenes, tmp_path):
    (tmp_path / "scene.png").unlink()
    with pytest.raises(UserError, match=r"scene.png, which is not there \(1 of 1 images"):
        evaluate_scenes.main([str(scenes), "--out", str(tmp_path / "out")])


def test_scenes_without_any_box_are_told_before_the_work(scenes, tmp_path):
    content = json.loads(scenes.read_text())
    scenes.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(UserError, match="scenes.json has no box around a single hand in its 1"):
        evaluate_scenes.main([str(scenes), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_scenes_whose_boxes_have_no_pixel_are_told_before_the_work(scenes, tmp_path):
    """They were searched for minutes, and the table had dashes."""
    content = json.loads(scenes.read_text())
    for annotation in content["annotations"]:
        annotation["bbox"] = [1000, 20, 50, 50]
    scenes.write_text(json.dumps(content))
    with pytest.raises(UserError, match="none of the 1 images of scenes has a box in it: give oth"):
        evaluate_scenes.main([str(scenes), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_file_of_scenes_is_not_replaced_by_the_results(scenes):
    content = json.loads(scenes.read_text())
    content["info"] = {"score_threshold": 0.5}  # which the command's own results have, too
    named_as_results = scenes.with_name("results.json")
    named_as_results.write_text(json.dumps(content))
    with pytest.raises(UserError, match="results.json is an input of this command: give another"):
        evaluate_scenes.main([str(named_as_results), "--out", str(scenes.parent)])
    assert json.loads(named_as_results.read_text()) == content


def test_damaged_images_are_left_out(scenes, tmp_path, capsys, caplog, drawn_samples):
    """They ended the run after minutes, without results."""
    content = json.loads(scenes.read_text())
    content["images"].append({"id": 2, "file_name": "damaged.png"})
    content["annotations"].append({"image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4]})
    scenes.write_text(json.dumps(content))
    (tmp_path / "damaged.png").write_bytes((tmp_path / "scene.png").read_bytes()[:40])
    (tmp_path / "empty/damaged.png").write_bytes(b"")
    others = write_table(tmp_path / "others.csv", "damaged.png")
    arguments = [str(scenes), "--without-hands", str(tmp_path / "empty")]
    arguments += ["--predictions", str(others), "--out", str(tmp_path / "out")]
    damaged = dataclasses.replace(drawn_samples[1], image_bytes=b"no image")
    hands = write_unchecked_set(tmp_path / "hands", [drawn_samples[0], damaged])
    arguments += ["--with-hands", str(hands)]
    with pytest.raises(UserError, match="3 of 6 images could not be read .*; the others are mea"):
        evaluate_scenes.main(arguments)
    messages = [record.getMessage() for record in caplog.records]
    assert messages[2].count(damaged.key) == 1 and "(8 bytes) cannot be decoded" in messages[2]
    assert [message.split(":")[1] for message in messages][:3] == [
        f" {tmp_path / 'damaged.png'}",
        f" {tmp_path / 'empty/damaged.png'}",
        f" hands/00000001_{damaged.key}",
    ]
    assert "\n1 images, hands by" in capsys.readouterr().out
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["unreadable_images"] == 3 and results["labelled_hands"] == 1
    assert results["images_of_scenes"] == results["images_without_hands"] == 1
    own, other = results["models"]
    assert sum(own["scenes"]["count_by_size"]) == sum(other["scenes"]["count_by_size"]) == 2
    assert other["scenes"]["recall"] == 0 and other["scenes"]["precision"] is None
    (tmp_path / "empty/grey.png").unlink()
    with pytest.raises(UserError, match="none of the 1 images can be read: give others"):
        evaluate_scenes.main(arguments)


def test_labels_of_upright_images_are_measured_on_request(tmp_path):
    grey = np.full((240, 320, 3), 128, np.uint8)
    (tmp_path / "empty").mkdir()
    cv2.imwrite(str(tmp_path / "empty/grey.png"), grey)
    path = write_turned_set(tmp_path / "hands", *drawn(1, seed=0))
    arguments = ["--without-hands", str(tmp_path / "empty"), "--with-hands", str(path)]
    arguments += ["--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="none of the 1 images can be read"):
        evaluate_scenes.main(arguments)
    evaluate_scenes.main([*arguments, "--orientation", "upright"])
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["labelled_hands"] == 1 and results["unreadable_images"] == 0


def test_only_held_out_samples_are_taken(two_sets):
    assert len(held_out_entries(two_sets)) == 4
    assert len(held_out_entries(two_sets / "train")) == 6


def test_wrong_input_is_named(tmp_path):
    for arguments, message in (
        ((), "give a COCO file of scenes, or --without-hands"),
        ((tmp_path / "no.json",), "no.json"),
        (("--without-hands", tmp_path), f"--without-hands {tmp_path}: no such image"),
        (("x.json", "--orientation", "upright"), "--orientation goes with --with-hands"),
        (("x.json", "--predictions", "a/mini.csv"), "two models are called mini: give"),
        (("x.json", "--predictions", "a/b.csv", "a/b.json"), "two models are called b: give"),
    ):
        assert message in refusal(run("mcc_caffe.evaluate_scenes", *arguments))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--without-hands", "a", "--predictions", "b.csv"], "--predictions goes with a COCO file"),
        (["scenes.json", "--with-hands", "set"], "--with-hands goes with --without-hands"),
        (["--without-hands", "{tmp}/clip.mp4"], "--without-hands {tmp}/clip.mp4: a video; give"),
    ],
)
def test_what_would_have_no_effect_is_refused(arguments, message, tmp_path):
    (tmp_path / "clip.mp4").touch()
    words = [argument.format(tmp=tmp_path) for argument in arguments]
    line = main_refusal(evaluate_scenes.main, *words, "--out", tmp_path / "out")
    assert message.format(tmp=tmp_path) in line


def table_cells(table):
    """The cells of each line of a Markdown table, without the ruler."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return [lines[0], *lines[2:]]


def test_the_table_of_scenes_by_hand():
    numbers = SceneNumbers(
        recall=0.1,
        precision=0.2,
        average_precision=0.3,
        keypoint_precision=0.4,
        loose_keypoint_precision=0.5,
        recall_by_size=[0.6, None, 0.7, 0.8],
        count_by_size=[1, 0, 3, 4],
        passes=2.25,
        seconds=0.125,
    )
    nothing = numbers._replace(precision=None, keypoint_precision=None, passes=None, seconds=None)
    sizes = ["0.600 of 1", "- of 0", "0.700 of 3", "0.800 of 4"]
    assert table_cells(evaluate_scenes.scenes_table({"own": numbers, "other": nothing})) == [
        ["", "recall", "precision", "AP", "below .1", ".1 to .2", ".2 to .4", "above .4"]
        + ["AP by OKS", "at .5", "passes", "s"],
        ["own", "0.100", "0.200", "0.300", *sizes, "0.400", "0.500", "2.2", "0.12"],
        ["other", "0.100", "-", "0.300", *sizes, "-", "0.500", "-", "-"],
    ]


def test_what_is_said_of_images_without_hands_by_hand():
    way = PresenceNumbers(
        false_share=0.0123,
        image_share=0.25,
        scores=(0.1, 0.2, 0.3),
        hand_share=0.5,
        lost_share=0.0456,
    )
    presence = Presence({"a": way, "b": way._replace(lost_share=None)}, [0, 3, 0, 1])
    table, _, sentence = evaluate_scenes.presence_text(presence, 0.35).rpartition("\n\n")
    cells = ["1.23%", "25.0%", "0.100", "0.200", "0.300", "50.0%"]
    assert table_cells(table) == [
        ["way", "keypoints present", "images with any", "score: half below", "95 % below"]
        + ["highest", "score from 0.35", "true keypoints lost"],
        ["a", *cells, "4.56%"],
        ["b", *cells, "-"],
    ]
    assert sentence == "The search finds hands in 50.0% of them, 4 in all."
    assert presence.results()["hands_of_search"] == 4
    assert presence.results()["ways"]["b"]["false_share"] == 0.0123


def test_passes_are_counted_in_single_passes(weights):
    predictor = HandPredictor(weights)
    counting = CountingEngine(predictor.engine, predictor.prototxt, 128)
    counting(np.zeros((2, 3, 128, 128), np.float32))
    counting(np.zeros((1, 3, 64, 128), np.float32))
    assert counting.passes == pytest.approx(2.5)
    # A convolution's kernel works once for each of its outputs: Caffe's blobs say how many.
    net = predictor.engine.net
    net.blobs["image"].reshape(1, 3, 128, 128)
    net.reshape()
    by_hand = sum(
        blobs[0].count * np.prod(net.blobs[name].data.shape[2:])
        for name, blobs in net.params.items()
    )
    assert count_multiply_adds(predictor.prototxt) * 128**2 == pytest.approx(by_hand)


def test_a_pass_of_the_box_head_counts_as_its_share_of_a_single_pass():
    predictor = HandPredictor()
    engine, boxes_engine = count_passes(predictor)
    assert predictor.engine is engine and predictor.boxes_engine is boxes_engine
    predictor.boxes_engine(np.zeros((1, 3, predictor.input_size, predictor.input_size), np.float32))
    share = count_multiply_adds(predictor.boxes_prototxt) / count_multiply_adds(predictor.prototxt)
    assert (engine.passes, boxes_engine.passes) == (0, pytest.approx(share)) and share < 0.9
