"""`data_tools.synth`: the command that makes a data set of synthetic hands."""

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools import readers, synth
from data_tools.hands import (
    backgrounds,
    hand_scene,
)
from data_tools.hands.synthetic_image import ImageOptions, render_image
from data_tools.hands.truth import format_truth
from data_tools.readers import onehand10k
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.result_folders import locked
from mcc_caffe.data.samples import SampleSet
from tests.support.commands import main_refusal, refusal, run

COUNTS = ("--train", 5, "--test", 2, "--size", 128)


def make(out, *options):
    return run("data_tools.synth", "--out", out, *(options or COUNTS))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def labels(folder, split):
    lines = (folder / split / "label_joint.txt").read_text().splitlines()
    return [line.split(",") for line in lines]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set made by the command, with one worker."""
    out = tmp_path_factory.mktemp("synth") / "set"
    done = make(out, *COUNTS, "--workers", 1)
    assert done.returncode == 0, done.stderr
    return out


def test_layout(made):
    assert json.loads((made / "manifest.json").read_text())["counts"] == {"Train": 5, "Test": 2}
    for split, count in (("Train", 5), ("Test", 2)):
        rows = labels(made, split)
        assert [row[0] for row in rows] == [f"{n}.jpg" for n in range(1, count + 1)]
        assert sorted(p.name for p in (made / split).iterdir()) == [
            "label_joint.txt",
            "mask",
            "source",
            "truth.jsonl",
        ]
        for row in rows:
            width, height, hands, *numbers = map(int, row[1:])
            image = cv2.imread(str(made / split / "source" / row[0]))
            mask = cv2.imread(
                str(made / split / "mask" / row[0].replace("jpg", "png")), cv2.IMREAD_UNCHANGED
            )
            assert (
                image.shape == (height, width, 3)
                and mask.shape == (height, width)
                and hands == 1
                and 89 <= max(width, height) <= 128
            )
            assert set(np.unique(mask)) <= {0, 255}
            points = np.reshape(numbers, (21, 2))
            missing = (points == -1).all(axis=1)
            assert ((points[~missing] >= 0) & (points[~missing] < (width, height))).all()


def test_the_record_holds_what_was_drawn(made):
    for split, count in (("Train", 5), ("Test", 2)):
        truths = [
            json.loads(line) for line in (made / split / "truth.jsonl").read_text().splitlines()
        ]
        assert len(truths) == count
        for truth, row in zip(truths, labels(made, split)):
            assert format_truth(truth).split(",") == row and len(truth["joints"]) == 21
            assert {state for _, _, state in truth["joints"]} <= set(hand_scene.KEYPOINT_STATES)
            assert {
                "left",
                "pose",
                "azimuth",
                "elevation",
                "roll",
                "fill",
                "tone",
                "with",
                "jpeg_quality",
            } <= set(truth["parameters"])


def test_the_reader_of_onehand10k_reads_it(made):
    for split in onehand10k.SPLITS:
        for entry in onehand10k.read_entries(made, split):
            assert entry.sample().keypoints.shape == (21, 3)


def test_bytes_do_not_depend_on_the_workers_nor_on_interruptions(made, tmp_path):
    """A set that two workers finished after an interruption equals one that one worker made."""
    out = tmp_path / "set"
    shutil.copytree(made, out)
    lines = (out / "Train" / "truth.jsonl").read_text().splitlines(keepends=True)
    (out / "Train" / "truth.jsonl").unlink()
    (out / "Train" / "label_joint.txt").unlink()
    (out / "Train" / "truth.partial.jsonl").write_text(
        "".join(lines[:2]) + lines[2][:40]
    )  # the third was being written
    (out / "Train" / "source" / "4.jpg").unlink()
    (out / "Train" / "source" / "5.jpg").write_bytes(b"not named by a line: made again")
    (out / "Test" / "mask" / "2.png").unlink()
    modified = (out / "Train" / "source" / "1.jpg").stat().st_mtime_ns
    done = make(out, *COUNTS, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert contents(out) == contents(made)
    assert (out / "Train" / "source" / "1.jpg").stat().st_mtime_ns == modified


def test_a_set_grows(made, tmp_path):
    out = tmp_path / "set"
    shutil.copytree(made, out)
    assert make(out, "--train", 6, "--test", 2, "--size", 128).returncode == 0
    assert len(labels(out, "Train")) == 6
    assert contents(out / "Train" / "source").items() > contents(made / "Train" / "source").items()
    assert labels(out, "Train")[:5] == labels(made, "Train")


def test_a_set_that_grows_with_another_driver_or_other_versions_is_told(made, tmp_path, caplog):
    out = tmp_path / "set"
    shutil.copytree(made, out)
    synth.main(["--out", str(out), *map(str, COUNTS)])
    assert not caplog.records
    manifest = json.loads((out / "manifest.json").read_text())
    opengl, numpy_version = manifest["opengl"], manifest["versions"]["numpy"]
    manifest["opengl"], manifest["versions"]["numpy"] = "a card", "1.0"
    (out / "manifest.json").write_text(json.dumps(manifest))
    synth.main(["--out", str(out), *map(str, COUNTS)])
    assert not caplog.records and json.loads((out / "manifest.json").read_text()) == manifest
    synth.main(["--out", str(out), *map(str, ("--train", 6, *COUNTS[2:]))])
    assert caplog.messages == [
        f"{out} was begun with opengl a card, not {opengl}; numpy 1.0, not {numpy_version}: "
        "images that are added now may differ in their pixels"
    ]


def test_a_split_that_is_asked_for_no_more_is_not_waited_for(made, tmp_path):
    out = tmp_path / "set"
    shutil.copytree(made / "Train", out / "Train")
    shutil.copy(made / "manifest.json", out)
    (out / "Test").mkdir()
    (out / "Test/truth.partial.jsonl").touch()
    synth.main(["--out", str(out), *map(str, ("--train", 5, "--test", 0, "--size", 128))])
    assert list(readers.read_dataset(out)) == ["Train"]


@pytest.mark.parametrize(
    "options, words",
    [
        (("--train", 0, "--test", 0), "nothing to make"),
        (("--size", 10), "--size 10"),
        (("--min-fill", 1.5), "--min-fill 1.5"),
        (("--min-fill", 0.5, *COUNTS), "min_fill 0.2, not 0.5"),
        (("--seed", 1, *COUNTS), "seed 0, not 1"),
        (("--train", 1, "--test", 2, "--size", 128), "holds image 5 of Train, beyond the 1 asked"),
    ],
)
def test_refusals_leave_the_set_as_it_was(made, options, words):
    before = contents(made)
    with pytest.raises(UserError, match=words):
        synth.main(["--out", str(made), *map(str, options)])
    assert contents(made) == before


@pytest.mark.parametrize("option, value", [("--train", -1), ("--test", -1), ("--workers", 0)])
def test_impossible_counts_are_refused(tmp_path, option, value):
    line = main_refusal(synth.main, "--out", tmp_path / "set", option, value)
    assert f"argument {option}: {value} is " in line
    assert not any(tmp_path.iterdir())


def test_two_commands_do_not_render_into_one_folder(tmp_path):
    with locked(tmp_path / "set", "renders images into it"):
        done = make(tmp_path / "set")
    assert "renders images into it: wait until" in refusal(done)
    assert not (tmp_path / "set").exists()


def test_easy_and_varied_sets_are_not_mixed(made):
    with pytest.raises(UserError, match="easy False, not True"):
        synth.main(["--out", str(made), *map(str, COUNTS), "--easy"])


def test_sets_with_other_photographs_are_not_mixed(made, monkeypatch, tmp_path):
    monkeypatch.setattr(backgrounds, "WALLPAPER_FOLDER", tmp_path)
    monkeypatch.setattr(
        backgrounds, "BUNDLED", {split: names[:1] for split, names in backgrounds.BUNDLED.items()}
    )
    uncached = backgrounds.list_photographs.__wrapped__
    monkeypatch.setattr(backgrounds, "list_photographs", uncached)
    with pytest.raises(UserError, match="made with other photographs"):
        synth.main(["--out", str(made), *map(str, COUNTS)])


def test_foreign_and_unwritable_folders_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert str(tmp_path) in refusal(make(tmp_path))
    assert "notes.txt" in refusal(make(tmp_path / "notes.txt" / "set"))


def test_the_caller_keeps_its_threads(tmp_path):
    """One BLAS thread is the workers' setting: a training that follows must not inherit it."""
    before = dict(os.environ)
    synth.main(["--out", str(tmp_path / "set"), "--train", "1", "--test", "0", "--workers", "1"])
    assert dict(os.environ) == before
    assert list(readers.read_dataset(tmp_path / "set")) == [
        "Train"
    ]  # what was not asked for is not there, nor empty


def test_every_worker_has_one_thread(tmp_path, monkeypatch):
    for name in synth.ONE_THREAD:
        monkeypatch.delenv(name, raising=False)
    environments = {}

    def look_at_workers(results, **options):
        for result in results:
            for worker in multiprocessing.active_children():
                lines = Path(f"/proc/{worker.pid}/environ").read_text().split("\0")
                variables = dict(line.split("=", 1) for line in lines if line)
                environments[worker.pid] = {name: variables.get(name) for name in synth.ONE_THREAD}
            yield result

    monkeypatch.setattr(synth, "progress_bar", look_at_workers)
    counts = ("--train", "5", "--test", "0", "--size", "96")  # more than one worker takes at a time
    synth.main(["--out", str(tmp_path / "set"), *counts, "--workers", "2"])
    assert list(environments.values()) == [synth.ONE_THREAD, synth.ONE_THREAD]


@pytest.mark.parametrize("convention", hand_scene.CONVENTIONS)
def test_a_set_can_be_built_under_any_convention(made, tmp_path, convention):
    done = run("data_tools.build_lmdb", made, tmp_path / "lmdb", "--joints", convention)
    assert done.returncode == 0, done.stderr
    samples = SampleSet(tmp_path / "lmdb/train")
    assert samples.info()["joints"] == convention and len(samples) == 5
    truths = {
        truth["image"]: truth
        for truth in map(json.loads, (made / "Train/truth.jsonl").read_text().splitlines())
    }
    for i in range(len(samples)):
        truth = truths[samples[i].key.rpartition("_")[2]]
        expected = [state in hand_scene.CONVENTIONS[convention] for _, _, state in truth["joints"]]
        np.testing.assert_array_equal(samples[i].keypoints[:, 2], expected)


def test_a_convention_needs_the_truth(made, tmp_path):
    shutil.copytree(made, tmp_path / "set")
    (tmp_path / "set/Train/truth.jsonl").unlink()
    done = run("data_tools.build_lmdb", tmp_path / "set", tmp_path / "lmdb", "--joints", "all")
    assert "truth.jsonl was not found" in refusal(done) and not (tmp_path / "lmdb").exists()


def test_a_keypoint_that_rounding_moves_out_of_the_image_is_outside(monkeypatch):
    rendered = hand_scene.render(np.random.default_rng(0), 96, "Train")
    height, width = rendered.mask.shape
    rendered.keypoints[:3] = (
        (width - 0.503, 20),
        (20, height - 0.503),
        (width - 0.506, height - 0.506),
    )
    rendered.states[:3] = hand_scene.VISIBLE
    monkeypatch.setattr(hand_scene, "render", lambda *arguments: rendered)
    truth = render_image("Train", 1, ImageOptions()).truth
    assert truth["joints"][:3] == [
        [width - 0.5, 20, hand_scene.OUTSIDE],
        [20, height - 0.5, hand_scene.OUTSIDE],
        [width - 0.51, height - 0.51, hand_scene.VISIBLE],
    ]
    labels = format_truth(truth).split(",")[4:10]
    assert labels == ["-1", "-1", "-1", "-1", str(width - 1), str(height - 1)]


def test_the_generators_number_belongs_to_these_images():
    """Raise GENERATOR where these numbers change."""
    truth = render_image("Train", 1, ImageOptions(size=96)).truth
    joints, parameters = truth["joints"], truth["parameters"]
    expected = [[23.52, -13.9], [29.8, 33.86], [54.96, 38.86], [65.94, 16.68]]
    np.testing.assert_allclose([joints[k][:2] for k in (0, 4, 8, 20)], expected, atol=0.02)
    assert (parameters["tone"], parameters["sleeve"]) == (6, 1.2)
    assert synth.GENERATOR == 3


@pytest.mark.parametrize("held, people", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
def test_the_shares_of_held_things_and_of_people(held, people):
    options = ImageOptions(
        seed=4, size=96, min_fill=0.3, max_roll=180.0, common=0.4, held=held, people=people
    )
    drawn_objects = [
        render_image("Train", number, options).truth["parameters"]["with"] for number in range(1, 7)
    ]
    for name, share in (("held", held), ("person", people)):
        count = sum(any(text.startswith(name) for text in names) for names in drawn_objects)
        # An object is left out where there is no room for it.
        assert count == 0 if share == 0 else count >= 3, (name, drawn_objects)
