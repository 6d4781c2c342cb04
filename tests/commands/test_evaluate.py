"""`python -m mcc_caffe.evaluate`: a real run, its numbers computed again, and bad input."""

import csv
import dataclasses
import json
import os

import cv2
import numpy as np
import pytest

from mcc_caffe import evaluate
from mcc_caffe.caffe_io.nets import find_deploy_net
from mcc_caffe.caffe_io.protobuf import messages
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import GROUPS
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.data.sheet import GAP, TILE, sample_tile
from mcc_caffe.evaluation.metrics import iou
from mcc_caffe.evaluation.prediction_runner import (
    EvaluationJob,
    SampleId,
    choose_splits,
    run_models,
)
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import ROOT, run
from tests.support.hands import hand, write_layout, write_set

THRESHOLDS = (0.05, 0.1, 0.2)
MODELS = ("random", "without_mask", "without_pose", "perfect", "partial")


def random_net(name: str, folder):
    """Weights of an ablation of the mini net, as its fillers start it."""
    caffe = import_caffe()
    caffe.set_mode_cpu()
    caffe.set_random_seed(1)
    path = folder / f"{name}.caffemodel"
    caffe.Net(str(ROOT / f"prototxt/mini/deploy_{name}.prototxt"), caffe.TEST).save(str(path))
    return path


def perfect_image(sample) -> dict:
    """Return the entry of a predictions file for a sample in which all keypoints are right."""
    return {"keypoints": [[float(x), float(y), 0.5] if v else None for x, y, v in sample.keypoints]}


@pytest.fixture(scope="module")
def samples(drawn_set):
    drawn = SampleSet(drawn_set)
    return [drawn[index] for index in range(len(drawn))]


@pytest.fixture(scope="module")
def models(weights, samples, tmp_path_factory):
    """The options that name a net, its two ablations, a perfect system and a partial one.

    The partial one knows 8 of the 10 images, and of the first one 10 of the 21 keypoints.
    """
    folder = tmp_path_factory.mktemp("models")
    ablations = [random_net(name, folder) for name in ("without_mask", "without_pose")]
    (folder / "masks").mkdir()
    images = {}
    for sample in samples:
        (folder / f"masks/{sample.key}.png").write_bytes(sample.mask_png)
        images[sample.key] = perfect_image(sample) | {"mask": f"masks/{sample.key}.png"}
    (folder / "perfect.json").write_text(json.dumps({"name": "perfect", "images": images}))
    partial = {sample.key: perfect_image(sample) for sample in samples[:8]}
    partial[samples[0].key]["keypoints"][:11] = [None] * 11
    partial["no sample of the set"] = perfect_image(samples[0])
    (folder / "partial.json").write_text(json.dumps({"name": "partial", "images": partial}))
    return [
        "--weights",
        weights,
        *ablations,
        "--predictions",
        folder / "perfect.json",
        folder / "partial.json",
    ]


@pytest.fixture(scope="module")
def done(drawn_set, models, tmp_path_factory):
    """(folder of the results, stdout) of one run in one process."""
    out = tmp_path_factory.mktemp("eval") / "new/out"
    finished = run(
        "mcc_caffe.evaluate", drawn_set, *models, "--levels", 1, "--processes", 1, "--out", out
    )
    assert finished.returncode == 0, finished.stderr
    return out, finished.stdout


def numbers(out) -> dict:
    """{model: its numbers} of the only set of an evaluation."""
    models = json.loads((out / "results.json").read_text())["models"]
    return {model["name"]: next(iter(model["sets"].values())) for model in models}


def rows(out, model: str) -> list:
    """The lines of images.csv of one model, numbers as numbers, None where empty."""
    with open(out / "images.csv") as file:
        of_model = [row for row in csv.DictReader(file) if row["model"] == model]
    texts = ("set", "key", "model")
    return [
        {
            name: text if name in texts else float(text) if text else None
            for name, text in row.items()
        }
        for row in of_model
    ]


def test_the_files_are_there_and_the_pictures_decode(done, samples, drawn_set):
    out, printed = done
    pictures = {"pck.png", "pck_groups.png"} | {f"worst_{name}.png" for name in MODELS}
    other_files = {
        "results.json",
        "images.csv",
        "predictions_random.json",
        "predictions_without_mask.json",
    }
    assert {path.name for path in out.iterdir()} == pictures | other_files
    for name in pictures:
        assert cv2.imread(str(out / name)).size
    results = json.loads((out / "results.json").read_text())
    assert results["data"] == str(drawn_set) and results["sets"] == {
        "drawn": {"samples": 10, "evaluated": 10}
    }
    assert [model["name"] for model in results["models"]] == list(MODELS)
    nets = [model["net"].rpartition("/")[2] for model in results["models"] if "net" in model]
    assert nets == [
        "deploy.prototxt",
        "deploy_without_mask.prototxt",
        "deploy_without_pose.prototxt",
    ]
    assert results["models"][0]["levels"] == 1 and results["models"][0]["weights"]["file"].endswith(
        "random.caffemodel"
    )
    assert [row["key"] for row in rows(out, "perfect")] == [sample.key for sample in samples]
    assert (
        "| perfect | drawn |" in printed
        and "partial, drawn: 2 of 10 images have no prediction and count as wrong." in printed
    )


@pytest.mark.parametrize("model", ["random", "without_mask", "partial"])
def test_numbers_follow_from_the_images(done, model):
    out, _ = done
    reported, images = numbers(out)[model], rows(out, model)
    labelled = sum(row["keypoints"] for row in images)
    assert reported["keypoints"] == labelled > 150
    for threshold in THRESHOLDS:
        share = sum(row["keypoints"] * row[f"pck_{threshold}"] for row in images) / labelled
        assert reported["paper"]["PCK"]["values"][str(threshold)] == pytest.approx(share)
        assert reported["paper"]["groups"]["all"][str(threshold)] == pytest.approx(share)
        index = round(threshold * 200)
        assert reported["paper"]["curves"]["all"][index] == pytest.approx(share)
    predicted = sum(row["predicted"] for row in images)
    assert reported["keypoints_not_predicted"] == labelled - predicted
    error = (
        sum(row["predicted"] * row["mean_error_px"] for row in images if row["predicted"])
        / predicted
    )
    assert reported["mmpose"]["EPE"]["value"] == pytest.approx(error)
    of_groups = [reported["paper"]["curves"][group][40] for group in GROUPS]
    assert np.average(of_groups, weights=[1, 5, 5, 5, 5]) == pytest.approx(
        reported["paper"]["curves"]["all"][40], abs=0.05
    )  # few keypoints lack a label


def test_masks_follow_from_the_images(done):
    out, _ = done
    for model in ("random", "without_pose", "perfect"):
        ious = np.array([row["iou"] for row in rows(out, model)])
        reported = numbers(out)[model]["mask"]
        assert reported["images"] == 10 and reported["mean_IoU"] == pytest.approx(ious.mean())
        for name, threshold in (("AP50", 0.5), ("AP75", 0.75), ("AP80", 0.8)):
            assert reported[name] == pytest.approx((ious >= threshold).mean())
    assert numbers(out)["perfect"]["mask"]["AP80"] == 1


def test_images_csv_agrees_with_the_predictor(done, samples, weights):
    predictor = HandPredictor(weights, levels=1)
    for sample, row in list(zip(samples, rows(done[0], "random")))[:3]:
        pose = predictor.predict(sample.image())
        labelled = sample.keypoints[:, 2] > 0
        distances = np.linalg.norm(
            pose.keypoints[labelled, :2] - sample.keypoints[labelled, :2], axis=1
        )
        assert row["mean_error_px"] == pytest.approx(distances.mean(), abs=1e-3)
        assert row["confidence"] == pytest.approx(pose.keypoints[:, 2].mean(), abs=1e-4)
        assert row["iou"] == pytest.approx(iou(pose.mask > 0.5, sample.mask() > 0), abs=1e-3)
        assert row["box_px"] == pytest.approx(np.ptp(sample.keypoints[labelled, :2], axis=0).max())
        assert row["keypoints"] == row["predicted"] == labelled.sum()


def test_a_perfect_predictor_and_a_partial_one(done, samples):
    reported = numbers(done[0])
    perfect = reported["perfect"]
    assert all(
        perfect[name]["PCK"]["values"][str(threshold)] == 1
        for name in ("paper", "mmpose")
        for threshold in THRESHOLDS
    )
    assert (
        perfect["mmpose"]["AUC"]["value"] == pytest.approx(0.95)
        and perfect["paper"]["AUC"]["value"] == 1
    )
    assert (
        perfect["mmpose"]["EPE"]["value"]
        == perfect["keypoints_not_predicted"]
        == perfect["images_without_prediction"]
        == 0
    )
    labels = [int(sample.keypoints[:, 2].sum()) for sample in samples]
    lost = int(samples[0].keypoints[:11, 2].sum()) + sum(labels[8:])
    partial = reported["partial"]
    assert (
        partial["images_without_prediction"] == 2 and partial["keypoints_not_predicted"] == lost > 0
    )
    assert partial["paper"]["PCK"]["values"]["0.2"] == pytest.approx(1 - lost / sum(labels))
    assert (
        rows(done[0], "partial")[9]["pck_0.2"] == 0
        and rows(done[0], "partial")[9]["mean_error_px"] is None
    )


def test_each_ablation_is_measured_for_what_it_predicts(done):
    reported = numbers(done[0])
    assert "paper" not in reported["without_pose"] and "mmpose" not in reported["without_pose"]
    assert "mask" in reported["without_pose"]
    assert "mask" not in reported["without_mask"] and "paper" in reported["without_mask"]
    assert "mask" not in reported["partial"]
    assert (
        rows(done[0], "without_pose")[0]["pck_0.1"] is None
        and rows(done[0], "without_mask")[0]["iou"] is None
    )


def test_every_number_stands_beside_its_conditions(done):
    out, printed = done
    titles = [line for line in printed.splitlines() if line.startswith("Keypoints, protocol")]
    box = "larger side of the labelled keypoints' box"
    assert (
        f"`paper`. PCK: {box}, <, all labelled keypoints. "
        f"AUC: {box}, <, all labelled keypoints, 0.005, 0.01 ... 0.5."
    ) in titles[0]
    assert (
        f"`mmpose`. PCK: {box}, <, by joint, then over joints. AUC: 30 px, <, by joint" in titles[1]
        and "EPE: px" in titles[1]
    )
    assert numbers(out)["random"]["mmpose"]["AUC"]["normaliser"] == "30 px"
    reported = numbers(out)["random"]
    paper, count = reported["paper"], str(reported["keypoints"])
    cells = [f"{value:.3f}" for value in (*paper["PCK"]["values"].values(), paper["AUC"]["value"])]
    assert f"| {' | '.join(['random', 'drawn', count, count, *cells])} |" in printed
    mask = reported["mask"]
    cells = [
        *(f"{100 * mask[name]:.1f}" for name in ("AP50", "AP75", "AP80")),
        f"{mask['mean_IoU']:.3f}",
    ]
    assert f"| random | drawn | 10 | {' | '.join(cells)} |" in printed


def test_the_figures_have_a_line_for_each_model_with_keypoints(done):
    """The lines have matplotlib's first colours; the third model has no keypoints.

    The line of the perfect predictor runs along the top.
    """
    for name in ("pck.png", "pck_groups.png"):
        picture = cv2.imread(str(done[0] / name)).astype(int)
        colours = {
            "C0": (180, 119, 31),
            "C1": (14, 127, 255),
            "C2": (44, 160, 44),
            "C3": (40, 39, 214),
            "C4": (189, 103, 148),
        }
        drawn = {
            colour
            for colour, bgr in colours.items()
            if (np.abs(picture - bgr).max(axis=2) < 3).sum() > 50
        }
        assert drawn == {"C0", "C1", "C3", "C4"}
    red = np.abs(cv2.imread(str(done[0] / "pck.png")).astype(int) - colours["C3"]).max(axis=2) < 3
    assert red.sum(axis=1).max() > 500  # one row, through both panels


def test_the_sheet_begins_with_the_worst(done, samples):
    out, _ = done
    for model in ("random", "without_pose"):
        errors = [row["error"] for row in rows(out, model)]
        picture = cv2.imread(str(out / f"worst_{model}.png"))
        lefts = [(column * (2 * TILE + 2 * GAP) + GAP) for column in range(4)]
        for left, index in zip(lefts, np.argsort(errors)[::-1]):
            truth = sample_tile(samples[index])
            assert (picture[GAP : GAP + TILE, left : left + TILE] == truth).all()
            predicted = picture[GAP : GAP + TILE, left + TILE + GAP :][:, :TILE]
            assert (predicted != truth).any()
    perfect = cv2.imread(str(out / "worst_perfect.png"))[GAP : GAP + TILE]
    assert (perfect[:, GAP : GAP + TILE] == perfect[:, TILE + 2 * GAP :][:, :TILE]).all()


def test_a_quiet_run_prints_the_tables_alone(drawn_set, models, tmp_path):
    perfect = models[models.index("--predictions") + 1]
    options = "--predictions", perfect, "--processes", 1, "--out", tmp_path, "--quiet"
    finished = run("mcc_caffe.evaluate", drawn_set, *options)
    assert finished.returncode == 0 and finished.stderr == ""
    assert finished.stdout.startswith("Keypoints, protocol `paper`")
    assert "| perfect | drawn |" in finished.stdout


def test_several_processes_give_exactly_the_same(done, drawn_set, models, tmp_path):
    finished = run(
        "mcc_caffe.evaluate", drawn_set, *models, "--levels", 1, "--processes", 2, "--out", tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    for name in (
        "results.json",
        "images.csv",
        "predictions_random.json",
        "predictions_without_mask.json",
        "worst_random.png",
    ):
        assert (tmp_path / name).read_bytes() == (done[0] / name).read_bytes(), name


def test_the_predictions_of_a_net_can_be_measured_again(done, drawn_set, tmp_path, capsys):
    evaluate.main(
        [
            str(drawn_set),
            "--predictions",
            str(done[0] / "predictions_random.json"),
            "--out",
            str(tmp_path),
            "--processes",
            "1",
            "--thresholds",
            "0.05",
            "0.1",
            "0.2",
        ]
    )
    again, first = numbers(tmp_path)["random"], numbers(done[0])["random"]
    assert (
        again["paper"] == first["paper"]
        and again["mmpose"] == first["mmpose"]
        and "mask" not in again
    )
    assert "PCK@0.2" in capsys.readouterr().out


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
    # One label of hand 3 is rounded to just outside of its picture: it counts as missing.
    pck = [of_set["paper"]["PCK"]["values"]["0.05"] for of_set in of_sets.values()]
    assert pck == pytest.approx([41 / 104, 20 / 62, 1 / 2])
    assert [of_set["images_without_prediction"] for of_set in of_sets.values()] == [3, 2, 1]
    assert [row["set"] for row in rows(tmp_path / "out", "system")] == ["Test"] * 3 + ["Train"] * 2
    width = cv2.imread(str(tmp_path / "out/pck.png")).shape[1]
    evaluate.main([*layout(tmp_path / "again"), "--split", "Test"])
    width_of_one_split = cv2.imread(str(tmp_path / "again/out/pck.png")).shape[1]
    assert width / width_of_one_split == pytest.approx(1.5, abs=0.1)  # three panels, not two


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


def test_weights_show_which_net_they_are_of(models, tmp_path):
    other = tmp_path / "other.caffemodel"  # fits no net: the full net will say what it lacks
    layer = messages().LayerParameter(
        name="conv1_1",
        blobs=[messages().BlobProto(data=[1.0], shape=messages().BlobShape(dim=[1]))],
    )
    other.write_bytes(messages().NetParameter(layer=[layer]).SerializeToString())
    assert [find_deploy_net(path, "mini").name for path in (*models[1:4], other)] == [
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
    assert evaluate.short_names(paths[1:]) == ["iter_1", "iter_2"]
    assert evaluate.short_names(paths) == ["a/s/iter_1", "b/s/iter_1", "b/s/iter_2"]
    assert evaluate.as_file_name("a/s/iter 1") == "a_s_iter_1"


@pytest.mark.parametrize(
    "content, message",
    [
        ("{cut", "is no JSON file"),
        ("[]", "has no images"),
        ('{"name": "x", "images": {}}', "has no images"),
        ('{"name": "", "images": {"a": {}}}', "the name is ''"),
        ('{"images": {"a": {}}}', "the name is None"),
        (
            '{"name": "x", "images": {"a": []}}',
            "image 'a' has list: keypoints and mask are what it may have",
        ),
        ('{"name": "x", "images": {"a": {"points": 1}}}', "image 'a' has points"),
        (
            '{"name": "x", "images": {"a": {"keypoints": [[1, 2, 3]]}}}',
            "the keypoints of image 'a' are no 21 x",
        ),
        (
            '{"name": "x", "images": {"a": {"keypoints": 3}}}',
            "the keypoints of image 'a' are no 21 x",
        ),
        (
            json.dumps({"name": "x", "images": {"a": {"keypoints": [[1, 2]] * 21}}}),
            "the keypoints of image 'a' are no 21 x",
        ),
        (
            json.dumps({"name": "x", "images": {"a": {"keypoints": [[1, 2, None]] * 21}}}),
            "the keypoints of image 'a' are no 21 x",
        ),
        (
            json.dumps({"name": "x", "images": {"a": {"keypoints": [[1, float("inf"), 1]] * 21}}}),
            "the keypoints of image 'a' are no 21 x",
        ),
        ('{"name": "x", "images": {"a": {"mask": 3}}}', "the mask of image 'a' is 3"),
        (
            '{"name": "x", "images": {"other": {}}}',
            "has none of the 10 images: they have keys like '00000000_drawn0.jpg', the file has",
        ),
        (
            '{"name": "x", "images": {"00000000_drawn0.jpg": {"mask": "none.png"}}}',
            "none.png was not found",
        ),
        (
            '{"name": "x", "images": {"00000000_drawn0.jpg": {"mask": "small.png"}}}',
            "the mask is 5 x 4, the image 100 x 140",
        ),
        (
            '{"name": "x", "images": {"00000000_drawn0.jpg": {"mask": "x.json"}}}',
            "cannot be decoded; the image is 100 x 140",
        ),
    ],
)
def test_a_bad_predictions_file_is_named_and_nothing_is_written(
    drawn_set, tmp_path, content, message
):
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((4, 5), np.uint8))
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError) as error:
        evaluate.main(
            [
                str(drawn_set),
                "--predictions",
                str(tmp_path / "x.json"),
                "--out",
                str(tmp_path / "out"),
                "--processes",
                "1",
            ]
        )
    assert (
        message in str(error.value)
        and "\n" not in str(error.value)
        and str(tmp_path) in str(error.value)
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{tmp}/none", "--weights", "{weights}"], "{tmp}/none was not found"),
        (["{data}", "--weights", "{tmp}/none"], "the weights file {tmp}/none was not found"),
        (["{data}", "--weights", "{weights}", "{weights}"], "two models are called random"),
        (
            ["{data}", "--weights", "{weights}", "--prototxt", "{tmp}/none"],
            "the deploy net {tmp}/none was not found",
        ),
        (
            ["{data}", "--weights", "{weights}", "--variant", "paper"],
            "does not fit the net: layer conv1_1 is",
        ),
        (["{data}", "--weights", "{weights}", "--split", "test"], "--split test: {data} has drawn"),
        (
            ["{data}", "--predictions", "{tmp}/none"],
            "the predictions file {tmp}/none was not found",
        ),
        (
            ["{data}", "--weights", "{weights}", "--out", "{weights}"],
            "--out {weights} is a file: give a folder",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message, drawn_set, weights, tmp_path):
    paths = dict(tmp=tmp_path, data=drawn_set, weights=weights)
    with pytest.raises(UserError) as error:
        evaluate.main(
            [
                "--out",
                str(tmp_path / "out"),
                "--processes",
                "1",
                *(argument.format(**paths) for argument in arguments),
            ]
        )
    assert message.format(**paths) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--thresholds", "0"],
        ["--thresholds", "nan"],
        ["--limit", "0"],
        ["--processes", "0"],
        ["--levels", "-1"],
    ],
)
def test_numbers_out_of_range_are_refused(options, capsys):
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(["set", *options])
    assert "is not above 0" in capsys.readouterr().err


class Killed:
    """A predictor whose process ends, as one that lacks memory does."""

    def load(self):
        return lambda sample: os._exit(9)


def test_a_process_that_dies_is_named(drawn_set):
    job = EvaluationJob(drawn_set, (Killed(),))
    sample_ids = [SampleId("drawn", 0), SampleId("drawn", 1)]
    with pytest.raises(UserError, match="one of 2 processes ended by itself.*fewer --processes"):
        run_models(job, sample_ids, 2)


def test_a_bad_sample_in_a_worker_process_gives_one_line(drawn_samples, weights, tmp_path):
    """The third image cannot be decoded."""
    samples = list(drawn_samples[:4])
    samples[2] = dataclasses.replace(samples[2], image_bytes=b"no image")
    done = run(
        "mcc_caffe.evaluate",
        write_set(tmp_path / "set", samples),
        "--weights",
        weights,
        "--levels",
        1,
        "--processes",
        2,
        "--out",
        tmp_path / "out",
    )
    assert (
        done.returncode == 2 and "Traceback" not in done.stderr and not (tmp_path / "out").exists()
    )
    assert done.stderr.splitlines()[-1].startswith(
        "error: 00000002_drawn2.jpg: the image (8 bytes) cannot be decoded: "
    )
