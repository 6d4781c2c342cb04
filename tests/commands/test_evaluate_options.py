"""`python -m mcc_caffe.evaluate`: the choice of splits and nets, and the names of models."""

import json
import pathlib
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from data_tools.readers.onehand10k import format_label
from data_tools.sets import choose_splits
from mcc_caffe import evaluate
from mcc_caffe.caffe_io.nets import find_deploy_net
from mcc_caffe.caffe_io.protobuf import messages
from mcc_caffe.core.errors import UserError
from mcc_caffe.evaluation import prediction_runner
from mcc_caffe.evaluation.model_names import as_file_name, short_names
from tests.support.commands import refusal, run
from tests.support.evaluate_command import numbers, perfect_image, random_net, rows
from tests.support.hands import hand, turned_jpeg, write_layout, write_set
from tests.support.readers import coco_content, drawn, plain_image, write


def layout(tmp_path):
    """Write a source of 2 and 3 samples, and predictions for the first one of each split.

    Returns the options that evaluate these predictions, which are right.
    """
    source = write_layout(
        tmp_path / "set", {"Train": [hand(1), hand(2)], "Test": [hand(3), hand(4), hand(5)]}
    )
    images = {
        key: perfect_image(hand(number)) for key, number in (("Train_1.jpg", 1), ("Test_3.jpg", 3))
    }
    (tmp_path / "system.json").write_text(json.dumps({"name": "system", "images": images}))
    return [
        str(source),
        "--predictions",
        str(tmp_path / "system.json"),
        "--out",
        str(tmp_path / "out"),
        "--processes",
        "1",
    ]


def test_several_splits_are_measured_one_by_one_and_together(tmp_path):
    evaluate.main([*layout(tmp_path), "--split", "Test", "Train"])
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["sets"] == {
        "Test": {"samples": 3, "evaluated": 3},
        "Train": {"samples": 2, "evaluated": 2},
    }
    of_sets = results["models"][0]["sets"]
    assert list(of_sets) == ["total", "Test", "Train"]
    # The labels are whole pixels and the truth of `hand` is not: they agree within 0.05 of the box.
    # One label of hand 3 is rounded to just outside of its image: it counts as missing.
    pck = [of_set["paper"]["PCK"]["values"]["0.05"] for of_set in of_sets.values()]
    assert pck == pytest.approx([41 / 104, 20 / 62, 1 / 2])
    assert [of_set["images_without_prediction"] for of_set in of_sets.values()] == [3, 2, 1]
    assert [row["set"] for row in rows(tmp_path / "out", "system")] == ["Test"] * 3 + ["Train"] * 2
    width = cv2.imread(str(tmp_path / "out/pck.png")).shape[1]
    evaluate.main([*layout(tmp_path / "again"), "--split", "Test"])
    width_of_one_split = cv2.imread(str(tmp_path / "again/out/pck.png")).shape[1]
    assert width / width_of_one_split == pytest.approx(1.5, abs=0.1)  # three panels, not two


def test_a_split_with_the_name_of_all_splits_is_measured_alone(tmp_path):
    command = layout(tmp_path)
    content = coco_content(drawn(1, seed=0))
    for name in ("near", "total"):
        write(tmp_path / f"coco/{name}.json", content)
    write(tmp_path / "coco/0.jpg", plain_image())
    key = {name: f"{name}_0.jpg_70" for name in ("near", "total")}
    images = {key[name]: perfect_image(drawn(1, seed=0)[0]) for name in key}
    (tmp_path / "system.json").write_text(json.dumps({"name": "system", "images": images}))
    command[0] = str(tmp_path / "coco")
    with pytest.raises(UserError, match="--split total: several splits are measured together"):
        evaluate.main([*command, "--split", "near", "total"])
    assert not (tmp_path / "out").exists()
    evaluate.main([*command, "--split", "total"])
    assert [row["set"] for row in rows(tmp_path / "out", "system")] == ["total"]


def test_the_test_split_is_the_default_and_limit_takes_the_first(tmp_path):
    evaluate.main([*layout(tmp_path), "--limit", "2"])
    assert [row["key"] for row in rows(tmp_path / "out", "system")] == ["Test_3.jpg", "Test_4.jpg"]
    assert json.loads((tmp_path / "out/results.json").read_text())["sets"] == {
        "Test": {"samples": 3, "evaluated": 2}
    }


def test_splits():
    assert choose_splits("x", ["training", "evaluation"], None) == ["evaluation"]
    assert choose_splits("x", ["train", "validation", "test"], None) == ["validation"]
    assert choose_splits("x", ["manual_train", "manual_test"], None) == ["manual_test"]
    assert choose_splits("x", ["lmdb"], None) == ["lmdb"]
    assert choose_splits("x", ["b", "a", "c"], ["c", "a", "c"]) == ["c", "a"]
    with pytest.raises(UserError, match="x has the splits synth2, synth3: choose with --split"):
        choose_splits("x", ["synth2", "synth3"], None)
    with pytest.raises(UserError, match="--split synth4: x has synth2, synth3"):
        choose_splits("x", ["synth2", "synth3"], ["synth2", "synth4"])


def test_a_net_can_be_measured_as_an_ablation(drawn_set, weights, tmp_path):
    evaluate.main(
        [
            str(drawn_set),
            "--weights",
            str(weights),
            "--without",
            "pose",
            "--limit",
            "1",
            "--processes",
            "1",
            "--out",
            str(tmp_path),
        ]
    )
    assert "mask" in numbers(tmp_path)["random"] and "paper" not in numbers(tmp_path)["random"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json",
        "images.csv",
        "worst_random.png",
    }


def test_a_net_searches_with_the_box_head_of_its_own_variant(weights, monkeypatch):
    calls = []
    monkeypatch.setattr(
        prediction_runner, "HandPredictor", lambda *args, **kwargs: calls.append((args, kwargs))
    )
    (spec,) = evaluate.make_model_specs(
        evaluate.parse_arguments(["set", "--weights", str(weights), "--variant", "paper"]), []
    )
    spec.load([], pathlib.Path("set"))
    ((arguments, options),) = calls
    assert arguments == (weights, "paper")
    assert options["prototxt"].parts[-2:] == ("paper", "deploy.prototxt")


def test_a_net_is_loaded_with_the_options_of_the_command(weights, monkeypatch):
    """results.json repeats the options, whatever the network was loaded with."""
    loaded = []
    monkeypatch.setattr(
        prediction_runner, "HandPredictor", lambda *_, **options: loaded.append(options)
    )
    engine = SimpleNamespace(choose_precision=lambda precision, gpu: precision or "float32")
    monkeypatch.setattr(evaluate, "ENGINES", {"caffe": engine})  # any build of Caffe
    for words in (["--looks", "2", "--precision", "bfloat16"], ["--levels", "3"]):
        command = ["set", "--weights", str(weights), "--engine", "caffe", *words]
        (spec,) = evaluate.make_model_specs(evaluate.parse_arguments(command), [])
        spec.load([], pathlib.Path("set"))
    names = ("engine", "precision", "gpu", "looks", "levels")
    assert [tuple(options[name] for name in names) for options in loaded] == [
        ("caffe", "bfloat16", None, 2, None),
        ("caffe", "float32", None, None, 3),
    ]


def test_the_results_name_the_file_of_another_systems_predictions():
    spec = prediction_runner.FileModelSpec("system", pathlib.Path("a/system.json"))
    described = evaluate.describe_model(spec)
    assert described == {"name": "system", "predictions": "a/system.json"}


def test_weights_show_which_net_they_are_of(weights, tmp_path):
    ablations = [random_net(name, tmp_path) for name in ("without_mask", "without_pose")]
    other = tmp_path / "other.caffemodel"  # fits no net: the full net will say what it lacks
    layer = messages().LayerParameter(
        name="conv1_1",
        blobs=[messages().BlobProto(data=[1.0], shape=messages().BlobShape(dim=[1]))],
    )
    other.write_bytes(messages().NetParameter(layer=[layer]).SerializeToString())
    assert [find_deploy_net(path, "mini").name for path in (weights, *ablations, other)] == [
        "deploy.prototxt",
        "deploy_without_mask.prototxt",
        "deploy_without_pose.prototxt",
        "deploy.prototxt",
    ]


def test_names_are_as_short_as_tells_them_apart(tmp_path):
    paths = [
        tmp_path / name
        for name in ("a/s/iter_1.caffemodel", "b/s/iter_1.caffemodel", "b/s/iter_2.caffemodel")
    ]
    assert short_names(paths[1:]) == ["iter_1", "iter_2"]
    assert short_names(paths) == ["a/s/iter_1", "b/s/iter_1", "b/s/iter_2"]
    assert as_file_name("a/s/iter 1") == "a_s_iter_1"
    folders = [tmp_path / "hands.v1", tmp_path / "hands.v2"]
    for folder in folders:
        folder.mkdir()
    assert short_names(folders) == ["hands.v1", "hands.v2"]
    assert short_names([tmp_path / "a\nb\udcff.csv"]) == ["a\\nb\\udcff"]
    assert short_names([folders[0] / "."]) == short_names([folders[1] / "../hands.v1"])


def test_predictions_whose_keys_are_of_two_images_are_not_written(
    weights, tmp_path, monkeypatch, caplog
):
    for figure in ("draw_sets", "draw_groups"):
        monkeypatch.setattr(evaluate, figure, lambda models: b"")  # they take seconds
    for split in ("a", "b"):
        write_set(tmp_path / "sets" / split, [hand(1)])
    out = tmp_path / "out"
    command = [str(tmp_path / "sets"), "--split", "a", "b", "--weights", str(weights)]
    evaluate.main([*command, "--levels", "1", "--processes", "1", "--out", str(out)])
    assert len(rows(out, "random")) == 2 and not (out / "predictions_random.json").exists()
    message = f"2 images have the key 00000000_1.jpg: {out}/predictions_random.json is not written"
    assert message in caplog.text


def test_an_exif_orientation_is_told_or_heeded(tmp_path, caplog):
    """The image is stored as 40 x 20 and shown as 20 x 40; the label refers to the latter."""
    source = write_layout(tmp_path / "set", {"Test": [hand(1)]})
    (source / "Test/mask/1.png").unlink()
    (source / "Test/mask").rmdir()
    (source / "Test/source/1.jpg").write_bytes(turned_jpeg())
    points = np.array([(k % 20, k + 9, 1) for k in range(21)], float)
    image = {"keypoints": [[*point[:2].tolist(), 1.0] for point in points]}
    (tmp_path / "system.json").write_text(
        json.dumps({"name": "system", "images": {"Test_1.jpg": image}})
    )
    command = [str(source), "--predictions", str(tmp_path / "system.json"), "--processes", "1"]
    for size, orientation in (((40, 20), "stored"), ((20, 40), "upright")):
        (source / "Test/label_joint.txt").write_text(format_label("1.jpg", *size, points))
        out = str(tmp_path / orientation)
        evaluate.main([*command, "--out", out, "--orientation", orientation])
        results = json.loads((tmp_path / orientation / "results.json").read_text())
        assert results["orientation"] == orientation
    assert caplog.text.count("1 samples are of images with an EXIF orientation") == 1
    # As stored, the image ends at y = 19, and 10 of the labels lie outside.
    assert [int(row["keypoints"]) for name in ("stored", "upright")
            for row in rows(tmp_path / name, "system")] == [11, 21]  # fmt: skip


def test_no_file_of_the_users_and_no_input_is_replaced(drawn_set, weights, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    mine = out / "predictions_random.json"
    mine.write_text(json.dumps({"name": "other", "images": {"00000000_drawn0.jpg": {}}}))
    packed = shutil.copy(weights, tmp_path / "random.caffemodel")
    for options, message in (
        (("--predictions", mine), "is an input of this command"),
        ((), "would be overwritten and is no result of this command"),
    ):
        done = run(
            *("mcc_caffe.evaluate", drawn_set, "--weights", packed, *options),
            *("--levels", 1, "--processes", 1, "--out", out),
        )
        assert message in refusal(done)
        assert [path.name for path in out.iterdir()] == [mine.name] and "other" in mine.read_text()


@pytest.mark.parametrize("out", ["", "eval", "../link"])
def test_no_results_are_written_among_the_predictions(tmp_path, out):
    """A second evaluation would read them as predictions."""
    source = write_layout(tmp_path / "set", {"Test": [hand(1)]})
    predictions = tmp_path / "op"
    predictions.mkdir()
    person = {"hand_right_keypoints_2d": [5.0, 6.0, 0.5] * 21}
    (predictions / "1_keypoints.json").write_text(json.dumps({"people": [person]}))
    (tmp_path / "link").symlink_to("op")
    command = [str(source), "--predictions", str(predictions), "--processes", "1", "--out"]
    with pytest.raises(UserError, match="lies in .*op, of which all files are read as predictions"):
        evaluate.main([*command, str(predictions / out)])
    assert [path.name for path in predictions.iterdir()] == ["1_keypoints.json"]
    evaluate.main([*command, str(tmp_path / "eval")])
    assert list(numbers(tmp_path / "eval")) == ["op"]


def test_results_of_two_runs_are_told_apart_by_their_folders(tmp_path):
    source = write_layout(tmp_path / "set", {"Test": [hand(1)]})
    keypoints = np.column_stack([hand(1).keypoints[:, :2], np.full(21, 0.9)])
    paths = [tmp_path / name / "coco_results.json" for name in ("first", "second")]
    for path in paths:
        path.parent.mkdir()
        result = {"image_id": 1, "score": 0.9, "keypoints": keypoints.ravel().tolist()}
        path.write_text(json.dumps([result]))
        images = {"images": [{"id": 1, "file_name": "1.jpg"}]}
        path.with_name("coco_images.json").write_text(json.dumps(images))
    command = [str(source), "--processes", "1", "--out", str(tmp_path / "eval"), "--predictions"]
    evaluate.main([*command, *map(str, paths)])
    assert list(numbers(tmp_path / "eval")) == ["first/coco_results", "second/coco_results"]
    assert (tmp_path / "eval/worst_first_coco_results.png").exists()
    with pytest.raises(UserError, match="two models are called coco_results: give each once"):
        evaluate.main([*command, *map(str, paths[:1] * 2)])


def test_figures_of_an_earlier_run_do_not_stay(drawn_set, drawn_samples, tmp_path):
    """Masks alone have no curves of keypoints."""
    for kind, has_curves in (("keypoints", True), ("mask", False)):
        images = {}
        for number, sample in enumerate(drawn_samples):
            (tmp_path / f"{sample.key}.png").write_bytes(sample.mask_png)
            values = {"keypoints": sample.keypoints.tolist(), "mask": f"{sample.key}.png"}
            images[f"{number:08d}_{sample.key}"] = {kind: values[kind]}
        predictions = tmp_path / f"{kind}.json"
        predictions.write_text(json.dumps({"name": "x", "images": images}))
        command = [str(drawn_set), "--predictions", str(predictions), "--processes", "1"]
        evaluate.main([*command, "--out", str(tmp_path / "out")])
        assert (tmp_path / "out/pck.png").exists() == has_curves
