"""`python -m mcc_caffe.evaluate`: a real run, its numbers computed again, and bad input."""

import json

import cv2
import numpy as np
import pytest

from mcc_caffe import evaluate
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import GROUPS
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.data.sheet import GAP, TILE, sample_tile
from mcc_caffe.evaluation.metrics import iou
from mcc_caffe.evaluation.predictions_file import PredictionsFile
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import run
from tests.support.disks import room_for_files
from tests.support.evaluate_command import numbers, perfect_image, random_net, rows

THRESHOLDS = (0.05, 0.1, 0.2)
MODELS = ("random", "without_mask", "without_pose", "perfect", "partial")


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
def evaluated(drawn_set, models, tmp_path_factory):
    """(folder of the results, stdout) of one run in one process."""
    out = tmp_path_factory.mktemp("eval") / "new/out"
    finished = run(
        "mcc_caffe.evaluate", drawn_set, *models, "--levels", 1, "--processes", 1, "--out", out
    )
    assert finished.returncode == 0, finished.stderr
    return out, finished.stdout


def test_the_files_are_there_and_the_figures_decode(evaluated, samples, drawn_set):
    out, printed = evaluated
    figures = {"pck.png", "pck_groups.png"} | {f"worst_{name}.png" for name in MODELS}
    other_files = {
        "results.json",
        "images.csv",
        "predictions_random.json",
        "predictions_without_mask.json",
    }
    assert {path.name for path in out.iterdir()} == figures | other_files
    for name in figures:
        assert cv2.imread(str(out / name)).size
    results = json.loads((out / "results.json").read_text())
    assert results["data"] == str(drawn_set) and results["sets"] == {
        "drawn": {"samples": 10, "evaluated": 10}
    }
    assert [model["name"] for model in results["models"]] == list(MODELS)
    nets = [
        model["prototxt"].rpartition("/")[2] for model in results["models"] if "prototxt" in model
    ]
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
def test_numbers_follow_from_the_images(evaluated, model):
    out, _ = evaluated
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


def test_masks_follow_from_the_images(evaluated):
    out, _ = evaluated
    for model in ("random", "without_pose", "perfect"):
        ious = np.array([row["iou"] for row in rows(out, model)])
        reported = numbers(out)[model]["mask"]
        assert reported["images"] == 10 and reported["mean_IoU"] == pytest.approx(ious.mean())
        for name, threshold in (("AP50", 0.5), ("AP75", 0.75), ("AP80", 0.8)):
            assert reported[name] == pytest.approx((ious >= threshold).mean())
    assert numbers(out)["perfect"]["mask"]["AP80"] == 1


def test_images_csv_agrees_with_the_predictor(evaluated, samples, weights):
    predictor = HandPredictor(weights, levels=1)
    for sample, row in list(zip(samples, rows(evaluated[0], "random")))[:3]:
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


def test_a_perfect_predictor_and_a_partial_one(evaluated, samples):
    reported = numbers(evaluated[0])
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
        rows(evaluated[0], "partial")[9]["pck_0.2"] == 0
        and rows(evaluated[0], "partial")[9]["mean_error_px"] is None
    )


def test_each_ablation_is_measured_for_what_it_predicts(evaluated):
    reported = numbers(evaluated[0])
    assert "paper" not in reported["without_pose"] and "mmpose" not in reported["without_pose"]
    assert "mask" in reported["without_pose"]
    assert "mask" not in reported["without_mask"] and "paper" in reported["without_mask"]
    assert "mask" not in reported["partial"]
    assert (
        rows(evaluated[0], "without_pose")[0]["pck_0.1"] is None
        and rows(evaluated[0], "without_mask")[0]["iou"] is None
    )


def test_every_number_stands_beside_its_conditions(evaluated):
    out, printed = evaluated
    titles = [line for line in printed.splitlines() if line.startswith("Keypoints, protocol")]
    box = "larger side of the labelled keypoints' box"
    keypoints = "all labelled keypoints"
    assert (
        f"`paper`. PCK: distance / {box} < threshold, {keypoints}. "
        f"AUC: distance / {box} < threshold, {keypoints}, thresholds 0.005, 0.01 ... 0.5."
    ) in titles[0]
    assert (
        f"`mmpose`. PCK: distance / {box} < threshold, by keypoint, then over keypoints. "
        "AUC: distance / 30 px < threshold, by keypoint"
    ) in titles[1]
    assert "EPE: px, labelled keypoints that were predicted." in titles[1]
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


def test_the_figures_have_a_line_for_each_model_with_keypoints(evaluated):
    """The lines have matplotlib's first colours; the third model has no keypoints.

    The line of the perfect predictor runs along the top.
    """
    for name in ("pck.png", "pck_groups.png"):
        figure = cv2.imread(str(evaluated[0] / name)).astype(int)
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
            if (np.abs(figure - bgr).max(axis=2) < 3).sum() > 50
        }
        assert drawn == {"C0", "C1", "C3", "C4"}
    red = (
        np.abs(cv2.imread(str(evaluated[0] / "pck.png")).astype(int) - colours["C3"]).max(axis=2)
        < 3
    )
    assert red.sum(axis=1).max() > 500  # one row, through both panels


def test_the_sheet_begins_with_the_worst(evaluated, samples):
    out, _ = evaluated
    for model in ("random", "without_pose"):
        errors = [row["error"] for row in rows(out, model)]
        sheet = cv2.imread(str(out / f"worst_{model}.png"))
        lefts = [(column * (2 * TILE + 2 * GAP) + GAP) for column in range(4)]
        for left, index in zip(lefts, np.argsort(errors)[::-1]):
            truth = sample_tile(samples[index])
            assert (sheet[GAP : GAP + TILE, left : left + TILE] == truth).all()
            predicted = sheet[GAP : GAP + TILE, left + TILE + GAP :][:, :TILE]
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


def test_several_processes_give_exactly_the_same(evaluated, drawn_set, models, tmp_path):
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
        assert (tmp_path / name).read_bytes() == (evaluated[0] / name).read_bytes(), name


def test_the_predictions_of_a_net_can_be_measured_again(evaluated, drawn_set, tmp_path, capsys):
    evaluate.main(
        [
            str(drawn_set),
            "--predictions",
            str(evaluated[0] / "predictions_random.json"),
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
    again, first = numbers(tmp_path)["random"], numbers(evaluated[0])["random"]
    assert (
        again["paper"] == first["paper"]
        and again["mmpose"] == first["mmpose"]
        and "mask" not in again
    )
    assert "PCK@0.2" in capsys.readouterr().out


def test_predictions_are_read_once_before_the_processes_read_them(
    drawn_set, samples, tmp_path, monkeypatch
):
    """They may be hundreds of megabytes."""
    opened = []

    def open_file(path, **options):
        opened.append(path)
        return PredictionsFile(path, **options)

    monkeypatch.setattr(evaluate, "PredictionsFile", open_file)
    path = tmp_path / "system.json"
    images = {sample.key: perfect_image(sample) for sample in samples}
    path.write_text(json.dumps({"name": "system", "images": images}))
    command = [str(drawn_set), "--predictions", str(path), "--processes", "2"]
    evaluate.main([*command, "--out", str(tmp_path / "out")])
    assert opened == [path]


def test_a_second_evaluation_in_one_process_reads_its_files_again(drawn_set, samples, tmp_path):
    predictions = tmp_path / "system.json"
    command = [str(drawn_set), "--predictions", str(predictions), "--processes", "1"]
    for shift, pck in ((0, 1), (1000, 0)):
        images = {sample.key: perfect_image(sample) for sample in samples}
        for image in images.values():
            image["keypoints"] = [
                point and [point[0] + shift, *point[1:]] for point in image["keypoints"]
            ]
        predictions.write_text(json.dumps({"name": "system", "images": images}))
        evaluate.main([*command, "--out", str(tmp_path / "out")])
        assert numbers(tmp_path / "out")["system"]["paper"]["PCK"]["values"]["0.2"] == pck


def test_an_evaluation_that_cannot_be_written_leaves_all_files_of_the_one_before(
    drawn_set, samples, tmp_path
):
    predictions, out = tmp_path / "system.json", tmp_path / "out"
    command = [str(drawn_set), "--predictions", str(predictions), "--processes", "1"]
    command += ["--out", str(out)]
    images = {sample.key: perfect_image(sample) for sample in samples}
    predictions.write_text(json.dumps({"name": "system", "images": images}))
    evaluate.main(command)
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert len(before) == 5
    for image in images.values():
        image["keypoints"][0] = None
    predictions.write_text(json.dumps({"name": "system", "images": images}))
    with room_for_files(2), pytest.raises(UserError, match="cannot be written .No space left"):
        evaluate.main(command)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
