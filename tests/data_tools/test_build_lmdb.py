"""OneHand10K's layout to LMDB, with the faults that real label files have."""

import os
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from data_tools import build_lmdb, check
from data_tools.build_lmdb import split_entries
from data_tools.readers import read_dataset
from data_tools.readers.cmu import CmuEntry
from data_tools.readers.freihand import FreihandEntry
from data_tools.readers.onehand10k import OneHand10KEntry, format_label, make_entries, read_entries
from data_tools.readers.rhd import RhdEntry
from data_tools.sets import open_sets
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.result_folders import folder_being_written
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.evaluation.prediction_runner import EvaluationJob, SampleId, run_models
from tests.support.commands import main_refusal, refusal, run, start, wait_for
from tests.support.hands import hand, turned_jpeg, write_layout
from tests.support.readers import (
    coco_content,
    drawn,
    plain_image,
    replace_line,
    write,
    write_shared_image,
)


def test_the_command_builds_both_sets(layout, tmp_path):
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    assert done.returncode == 0, done.stderr
    train, validation = SampleSet(tmp_path / "lmdb/train"), SampleSet(tmp_path / "lmdb/validation")
    assert (len(train), len(validation)) == (6, 4)
    assert sorted(key[9:] for key in train.keys) == [b"Train_%d.jpg" % n for n in range(1, 7)]
    assert [key[9:] for key in train.keys] != sorted(key[9:] for key in train.keys)  # shuffled
    first = next(index for index, key in enumerate(train.keys) if key.endswith(b"_1.jpg"))
    assert train[first].image_bytes == (layout / "Train/source/1.jpg").read_bytes()


def test_a_split_pools_all_images(layout, tmp_path):
    assert run("data_tools.build_lmdb", layout, tmp_path / "a", "--split", "7/3").returncode == 0
    assert run("data_tools.build_lmdb", layout, tmp_path / "b", "--split", "7/3").returncode == 0
    assert (
        run(
            "data_tools.build_lmdb", layout, tmp_path / "c", "--split", "7/3", "--seed", "1"
        ).returncode
        == 0
    )
    sets = {
        name: [SampleSet(tmp_path / name / part).keys for part in ("train", "validation")]
        for name in "abc"
    }
    assert [len(keys) for keys in sets["a"]] == [7, 3]
    assert not {key[9:] for key in sets["a"][0]} & {key[9:] for key in sets["a"][1]}
    assert sets["a"] == sets["b"] != sets["c"]


def labelled(split, count):
    return make_entries(Path(split), [f"{number}.jpg" for number in range(1, count + 1)])


def test_the_papers_split_is_the_sets_own():
    """A shuffle of all images would train on OneHand10K's test images."""
    train, test = labelled("Train", 10_000), labelled("Test", 1_703)
    sets = split_entries({"Train": train, "Test": test}, "paper", seed=0)
    assert {name: len(entries) for name, entries in sets.items()} == {
        "train": 10_000,
        "validation": 1_703,
    }
    assert {entry.location for entry in sets["train"]} == {entry.location for entry in train}
    assert {entry.location for entry in sets["validation"]} == {entry.location for entry in test}
    assert sets == split_entries({"Train": train, "Test": test}, "original", seed=0)


@pytest.mark.parametrize(
    "counts, message",
    [
        (
            {"Train": 10_702, "Test": 1_001},
            r"^--split paper: the set's own split has 10702 samples to train on and 1001 to "
            "validate on, the paper's has 10000 and 1703: leave --split out to keep the set's own$",
        ),
        ({"Train": 10_000, "Test": 1_702}, "has 10000 samples to train on and 1702 to validate on"),
        ({"Train": 11_703}, "^the set has Train, not one split .*: pool .* with --split N/M$"),
    ],
)
def test_a_set_that_is_not_the_papers_has_no_split_of_the_papers(counts, message):
    splits = {name: labelled(name, count) for name, count in counts.items()}
    with pytest.raises(UserError, match=message):
        split_entries(splits, "paper", seed=0)


def test_splits_that_are_in_neither_set_are_named(tmp_path, caplog):
    samples = drawn(10, seed=0)
    content, last = coco_content(samples), 0
    for split, count in (("train", 2), ("val", 1), ("test", 3), ("extra", 4)):
        first, last = last, last + count
        own = {name: content[name][first:last] for name in ("images", "annotations")}
        write(tmp_path / f"set/{split}.json", {**content, **own})
    for number, sample in enumerate(samples):
        write(tmp_path / f"set/{number}.jpg", sample.image_bytes)
    build_lmdb.main([str(tmp_path / "set"), str(tmp_path / "lmdb")])
    assert caplog.messages == [
        "not used: extra (4 samples), test (3 samples); --split original takes train to train on "
        "and val to validate on, --split N/M takes samples of all"
    ]
    caplog.clear()
    build_lmdb.main([str(tmp_path / "set"), str(tmp_path / "pooled"), "--split", "6/4"])
    assert not caplog.messages


def test_what_the_papers_split_leaves_out_is_named_too(caplog):
    splits = {name: labelled(name, 1) for name in ("Train", "Test", "new")}
    build_lmdb.warn_of_unused_splits(splits, "paper")
    assert "not used: new (1 samples); --split paper takes Train to train on" in caplog.text


def test_bad_samples_are_listed_and_stop_the_build_unless_skipped(layout, tmp_path):
    replace_line(layout, 2, "2.jpg,160,120,1,5")
    (layout / "Train/source/4.jpg").write_bytes(b"no jpeg")
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    assert done.returncode == 2
    assert "left out: Train/label_joint.txt:2: 5 fields" in done.stderr
    assert "left out: Train/label_joint.txt:4: Train_4.jpg: the image (7 bytes)" in done.stderr
    assert "2 bad samples" in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]  # nothing half-written
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb", "--skip-bad")
    assert done.returncode == 0 and len(SampleSet(tmp_path / "lmdb/train")) == 4
    assert len(SampleSet(tmp_path / "lmdb/train").info()["left_out"]) == 2


def test_a_reader_that_gives_no_sample_is_told(layout, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(OneHand10KEntry, "sample", lambda entry: None)
    with pytest.raises(UserError, match="none of its .* samples can be used"):
        build_lmdb.main([str(layout), str(tmp_path / "lmdb")])
    assert "label_joint.txt:2: its reader gives NoneType, a Sample is needed" in caplog.text


def test_malformed_keypoints_of_a_reader_are_bad_samples(layout, tmp_path, monkeypatch, caplog):
    def sample_without_x(entry):
        sample = read_sample(entry)
        if entry.location.endswith(":2"):
            sample.keypoints[5, 0] = np.nan
        return sample

    read_sample = OneHand10KEntry.sample
    monkeypatch.setattr(OneHand10KEntry, "sample", sample_without_x)
    out = tmp_path / "lmdb"
    with pytest.raises(UserError, match="2 bad samples"):
        build_lmdb.main([str(layout), str(out)])
    assert not out.exists()
    assert "left out: Train/label_joint.txt:2: " in caplog.text
    assert "keypoint 5 is x nan" in caplog.text
    build_lmdb.main([str(layout), str(out), "--skip-bad"])
    assert len(SampleSet(out / "train").info()["left_out"]) == 1


@pytest.mark.parametrize("options", [[], ["--skip-bad"]])
def test_the_reasons_are_listed_where_all_samples_of_a_set_are_bad(
    layout, tmp_path, options, caplog
):
    labels = (layout / "Test/label_joint.txt").read_text().splitlines()
    names = [line.split(",")[0] for line in labels]
    for name in names:
        (layout / "Test/source" / name).write_bytes(b"no jpeg")
    message = r"^validation: none of its 4 samples can be used .see above., nothing was written"
    with pytest.raises(UserError, match=message):
        build_lmdb.main([str(layout), str(tmp_path / "lmdb"), *options])
    reasons = [record.getMessage() for record in caplog.records]
    for line, name in enumerate(names, 1):
        start = f"left out: Test/label_joint.txt:{line}: Test_{name}: the image (7 bytes)"
        assert sum(reason.startswith(start) for reason in reasons) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere", "lmdb"], "nowhere was not found: give the folder of a data set"),
        (
            ["{layout}", "lmdb", "--split", "half"],
            "--split half: give original, paper or two numbers",
        ),
        (["{layout}", "lmdb", "--split", "9/9"], "the set has 10 samples"),
        (["{layout}", "lmdb", "--split", "0/0"], "take at least one"),
        (["{layout}", "lmdb", "--split=-1/3"], "take at least one"),
        (
            ["{layout}", "lmdb", "--format", "rhd"],
            "holds no data set of these layouts: rhd (training/anno_training.pickle",
        ),
        (["{layout}", "{layout}"], "exists already"),
    ],
)
def test_wrong_arguments_are_refused(layout, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    words = [argument.format(layout=layout) for argument in arguments]
    assert message in main_refusal(build_lmdb.main, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    "source, message",
    [
        ("photos", "a data set of its own: give photos/mcc-labels/coco"),
        ("photos/mcc-labels", "a data set of its own: give photos/mcc-labels/coco"),
        ("photos/mcc-labels/coco", "no image whose labels are done"),
        ("photos/mcc-labels/onehand10k", "finish some with mcc-web label photos"),
    ],
)
def test_images_that_are_being_labelled_are_told_apart(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    for name in ("state", "coco", "onehand10k"):
        (tmp_path / "photos/mcc-labels" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        read_dataset(source)


def test_a_set_may_be_for_validation_only(layout, tmp_path):
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb", "--split", "0/10")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "lmdb").iterdir()] == ["validation"]
    assert len(SampleSet(tmp_path / "lmdb/validation")) == 10


def test_the_record_says_how_it_was_made_and_how_many_have_no_mask(layout, tmp_path):
    shutil.rmtree(layout / "Test/mask")
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb", "--split", "9/1")
    assert done.returncode == 0, done.stderr
    infos = [SampleSet(tmp_path / "lmdb" / name).info() for name in ("train", "validation")]
    for info in infos:
        assert {key: info[key] for key in ("source", "reader", "split", "seed", "left_out")} == {
            "source": "set",
            "reader": "onehand10k",
            "split": "9/1",
            "seed": 0,
            "left_out": [],
        }
    assert sum(info["without_mask"] for info in infos) == 4  # those of Test
    assert f"9 samples, {infos[0]['without_mask']} without mask" in done.stdout


def test_the_record_names_the_folder_in_which_the_command_runs(layout, tmp_path, monkeypatch):
    monkeypatch.chdir(layout)
    build_lmdb.main([".", "../lmdb"])
    assert SampleSet(tmp_path / "lmdb/train").info()["source"] == "set"


def test_a_set_without_a_split_of_its_own_is_told_to_pool(layout, tmp_path):
    shutil.rmtree(layout / "Test")
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    line = refusal(done)
    assert "the set has Train, not one split to train on and one to validate" in line
    assert "--split N/M" in line


def test_a_line_that_comes_twice_is_a_bad_sample(layout, tmp_path):
    replace_line(layout, 2, read_entries(layout, "Train")[2].line)
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    assert done.returncode == 2 and "the set has Train_3.jpg already: remove this" in done.stderr


def test_overwrite_replaces(layout, tmp_path):
    assert run("data_tools.build_lmdb", layout, tmp_path / "lmdb").returncode == 0
    assert (
        run(
            "data_tools.build_lmdb", layout, tmp_path / "lmdb", "--overwrite", "--split", "5/5"
        ).returncode
        == 0
    )
    assert len(SampleSet(tmp_path / "lmdb/train")) == 5


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_what_is_put_at_the_target_during_a_build_stays(layout, tmp_path, monkeypatch, options):
    out, write_set = tmp_path / "lmdb", build_lmdb.write_set

    def write_set_and_a_file(entries, folder, *arguments):
        out.mkdir(exist_ok=True)
        (out / "notes.txt").write_text("mine")
        return write_set(entries, folder, *arguments)

    monkeypatch.setattr(build_lmdb, "write_set", write_set_and_a_file)
    message = "was not built by this program" if options else "lmdb exists already: remove it"
    with pytest.raises(UserError, match=message):
        build_lmdb.main([str(layout), str(out), *options])
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    assert {path.name for path in tmp_path.iterdir()} == {"set", "lmdb"}


@pytest.mark.parametrize("name", ["set", "photographs", "link", "file"])
def test_overwrite_replaces_nothing_but_sets(name, layout, tmp_path):
    """The source itself, a folder of the user's, a link and a file."""
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs/hand.jpg").touch()
    (tmp_path / "link").symlink_to("photographs")
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    done = run("data_tools.build_lmdb", layout, tmp_path / name, "--overwrite")
    line = refusal(done)
    assert "--overwrite would remove it" in line or "is no folder of sets" in line
    assert sorted(tmp_path.rglob("*")) == before


def test_overwrite_replaces_no_link_to_a_folder_of_sets(tmp_path):
    (tmp_path / "sets").mkdir()
    (tmp_path / "link").symlink_to("sets")
    build_lmdb.check_replaceable(tmp_path / "sets")
    with pytest.raises(UserError, match="link is no folder of sets"):
        build_lmdb.check_replaceable(tmp_path / "link")


def _put_file_into_set(out):
    (out / "train/thesis.txt").write_text("mine")


def _put_file_into_database(out):
    (out / "train/images/thesis.txt").write_text("mine")


def _put_folders_with_info(out):
    for name in ("photos", "music"):
        (out / name).mkdir()
        (out / name / "info.json").write_text("{}")
        (out / name / "thesis.txt").write_text("mine")


def _replace_info(out):
    (out / "train/info.json").write_text('{"name": "mine"}')


def _replace_info_by_a_list(out):
    (out / "train/info.json").write_text("[]")


@pytest.mark.parametrize(
    "change",
    [
        _put_file_into_set,
        _put_file_into_database,
        _put_folders_with_info,
        _replace_info,
        _replace_info_by_a_list,
    ],
)
def test_overwrite_replaces_no_set_with_foreign_files(change, layout, tmp_path):
    out = tmp_path / "lmdb"
    assert run("data_tools.build_lmdb", layout, out).returncode == 0
    change(out)
    before = sorted(tmp_path.rglob("*"))
    done = run("data_tools.build_lmdb", layout, out, "--overwrite")
    assert "was not built by this program: --overwrite would remove it" in refusal(done)
    assert sorted(tmp_path.rglob("*")) == before


def test_keypoints_outside_of_their_images_are_counted(layout, tmp_path):
    """Three of the first hand, and one each of four drawn hands."""
    keypoints = np.tile([50.0, 60.0, 1.0], (21, 1))
    keypoints[:3, :2] = (160, 60), (50, -3), (500, 120)
    replace_line(layout, 1, format_label("1.jpg", 160, 120, keypoints))
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    assert done.returncode == 0
    assert "train: 7 keypoints lie outside their source images and count" in done.stderr
    assert "(data_tools.check lists those more than a pixel outside)" in done.stderr


def group_counts(splits, split, seed):
    """The sets, and that no group stands in both."""
    sets = split_entries(splits, split, seed)
    groups = {name: {entry.group for entry in entries} for name, entries in sets.items()}
    assert not groups["train"] & groups["validation"]
    locations = [entry.location for entries in sets.values() for entry in entries]
    assert len(set(locations)) == len(locations)
    return [len(sets[name]) for name in ("train", "validation")]


@pytest.mark.parametrize("seed", range(5))
def test_a_split_keeps_the_versions_of_a_hand_and_the_hands_of_an_image_together(tmp_path, seed):
    """FreiHAND's 20 hands in 4 versions; COCO's 10 images of two hands, in one file or two."""
    numbers = range(20)
    image_paths = [
        tmp_path / f"training/rgb/{n + 32560 * k:08d}.jpg" for n in numbers for k in range(4)
    ]
    freihand = {"training": [FreihandEntry(path, None, None) for path in image_paths]}
    assert group_counts(freihand, "60/20", seed) == [60, 20]
    assert group_counts(freihand, "30/10", seed) == [30, 10]  # some versions are left out
    with pytest.raises(
        UserError, match="--split 61/19: .* stay in one set: ask for fewer, such as"
    ):
        split_entries(freihand, "61/19", seed)
    with pytest.raises(UserError, match="--split 78/2: .* ask for fewer, such as --split 76/2$"):
        split_entries(freihand, "78/2", seed)
    assert group_counts(freihand, "76/2", seed) == [76, 2]
    assert len(split_entries(freihand, "77/0", seed)["train"]) == 77
    content = coco_content(drawn(10, seed=0))
    content["annotations"] += [
        {**annotation, "id": annotation["id"] + 100} for annotation in content["annotations"]
    ]
    write(tmp_path / "hands.json", content)
    write(tmp_path / "0.jpg", plain_image())
    coco = read_dataset(tmp_path / "hands.json")
    assert group_counts(coco, "14/6", seed) == [14, 6]
    write(tmp_path / "annotations/a.json", {**content, "annotations": content["annotations"][:10]})
    write(tmp_path / "annotations/b.json", {**content, "annotations": content["annotations"][10:]})
    write(tmp_path / "annotations/0.jpg", plain_image())
    two_files = read_dataset(tmp_path / "annotations")
    sets = split_entries(two_files, "14/6", seed)
    train, validation = ({entry.image["id"] for entry in entries} for entries in sets.values())
    assert (len(train), len(validation)) == (7, 3) and not train & validation
    rhd = {"training": [RhdEntry(tmp_path, n, hand, None) for n in numbers for hand in range(2)]}
    assert group_counts(rhd, "20/20", seed) == [20, 20]
    names = [
        f"0001{n}_{person:02d}_{side}.json" for n in numbers for person in (1, 2) for side in "lr"
    ]
    cmu = {"manual_train": [CmuEntry("manual_train", tmp_path / name) for name in names]}
    assert group_counts(cmu, "40/40", seed) == [40, 40]
    assert len({entry.group for entry in cmu["manual_train"]}) == 20


def test_exif_orientations_are_told_and_the_images_turned_on_request(layout, tmp_path):
    shutil.rmtree(layout / "Train/mask")
    (layout / "Train/source/1.jpg").write_bytes(turned_jpeg())
    keypoints = np.tile([15.0, 30.0, 1.0], (21, 1))  # inside the upright 20 x 40 pixels only
    replace_line(layout, 1, format_label("1.jpg", 20, 40, keypoints))
    done = run("data_tools.build_lmdb", layout, tmp_path / "a", "--skip-bad")
    assert "the label says 20 x 40: the label refers to the upright image, " in done.stderr
    done = run("data_tools.build_lmdb", layout, tmp_path / "b", "--orientation", "upright")
    assert done.returncode == 0, done.stderr
    samples = SampleSet(tmp_path / "b/train")
    (sample,) = [samples[i] for i, key in enumerate(samples.keys) if key.endswith(b"_1.jpg")]
    assert sample.image().shape == (40, 20, 3) and sample.keypoints[0].tolist() == [15, 30, 1]
    assert samples.info()["orientation"] == "upright" and "EXIF" not in done.stderr
    assert len(open_sets(tmp_path / "b", upright=True)["train"]) == 6
    replace_line(layout, 1, format_label("1.jpg", 40, 20, keypoints / (1, 2, 1)))
    done = run("data_tools.build_lmdb", layout, tmp_path / "c")
    assert done.returncode == 0 and "1 samples are of images with an EXIF orient" in done.stderr
    with pytest.raises(UserError, match="--orientation upright: .*c/train are as they were stored"):
        open_sets(tmp_path / "c", upright=True)
    done = run("data_tools.check", layout, "--out", tmp_path / "check")
    assert "warning exif_orientation, 1 x" in done.stdout and "it is 6" in done.stdout
    done = run("data_tools.check", layout, "--out", tmp_path / "check", "--orientation", "upright")
    assert "the image is 20 x 40, the label says 40 x 20" in done.stdout


def test_an_exif_orientation_is_told_of_crops_too(tmp_path, caplog, capsys):
    """Two hands of an image of 40 x 20 pixels, whose crops are files without EXIF data."""
    content = coco_content(drawn(1, seed=0))
    content["images"][0].update(width=40, height=20)
    first = content["annotations"][0]
    del first["segmentation"]
    first.update(bbox=[4, 6, 8, 8], keypoints=[8, 10, 2] * 21)
    content["annotations"].append({**first, "id": 71, "bbox": [27, 6, 8, 8]})
    content["annotations"][1]["keypoints"] = [31, 10, 2] * 21
    write(tmp_path / "set/hands.json", content)
    write(tmp_path / "set/0.jpg", turned_jpeg())
    build_lmdb.main([str(tmp_path / "set"), str(tmp_path / "lmdb"), "--split", "2/0"])
    assert SampleSet(tmp_path / "lmdb/train").info()["cut"] == 2
    assert "2 samples are of images with an EXIF orientation" in caplog.text
    check.main([str(tmp_path / "set"), "--out", str(tmp_path / "check")])
    assert "warning exif_orientation, 2 x" in capsys.readouterr().out
    job = EvaluationJob(tmp_path / "set", ())
    (evaluated,) = run_models(job, [SampleId("hands", 0)], 1)
    assert evaluated.is_turned


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_build_leaves_nothing_or_the_next_one_removes_it(number, layout, tmp_path):
    line = read_entries(layout, "Train")[0].line.partition(",")[2]
    names = [f"again{index}.jpg" for index in range(1000)]
    for name in names:
        (layout / "Train/source" / name).symlink_to("1.jpg")
        (layout / "Train/mask" / name).with_suffix(".png").symlink_to("1.png")
    with open(layout / "Train/label_joint.txt", "a") as labels:
        labels.writelines(f"{name},{line}\n" for name in names)
    out = tmp_path / "lmdb"
    process = start("data_tools.build_lmdb", layout, out)
    written = ".lmdb.*.partial/.train.*.partial/images/data.mdb"
    wait_for(lambda: any(path.stat().st_size > 1e5 for path in tmp_path.glob(written)), process)
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    assert "Traceback" not in errors and not out.exists()
    left = {path.name for path in tmp_path.iterdir()} - {"set"}
    if number == signal.SIGKILL:
        assert left == {f".lmdb.{process.pid}.partial", ".lmdb.lock"}
    else:
        assert not left and process.returncode == 143
    done = run("data_tools.build_lmdb", layout, out, "--split", "3/2")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"set", "lmdb"}


@pytest.mark.parametrize("most_bytes", [100, 6_000, 60_000])
def test_a_full_disk_is_told_by_the_folder_that_the_user_gave(most_bytes, layout, tmp_path):
    """As it is while the folder is locked, while LMDB opens its files, and later."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    out = tmp_path / "lmdb"
    done = run("data_tools.build_lmdb", layout, out, "--quiet", preexec_fn=limit)
    line = refusal(done)
    assert f"{out}/train c" in line and ".partial" not in line
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_the_second_of_two_builds_says_who_holds_the_folder(layout, tmp_path):
    with folder_being_written(tmp_path / "lmdb"):
        done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    line = refusal(done)
    assert f"process {os.getpid()} on " in line and "is writing it: wait until it has ended" in line


def test_hands_of_an_image_in_both_splits_are_told(tmp_path):
    source = write_shared_image(tmp_path / "set")
    done = run("data_tools.build_lmdb", source, tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert (
        "2 samples to validate on are of an image, a hand or a film that is trained on, such as "
        "test.json: annotation " in done.stderr
    )
    done = run("data_tools.build_lmdb", source, tmp_path / "b", "--split", "4/4")
    assert done.returncode == 0 and "trained on" not in done.stderr


@pytest.mark.parametrize("labels", [[], ["Train", "Test"]])
def test_synthetic_hands_that_are_not_all_made_are_told(labels, tmp_path):
    """A set that was growing has the labels of before."""
    write(tmp_path / "hands/Train/truth.partial.jsonl", b"")
    for split in labels:
        write(tmp_path / f"hands/{split}/label_joint.txt", b"1.jpg\n")
    with pytest.raises(UserError, match="not all made: run data_tools.synth --out .*hands again"):
        read_dataset(tmp_path / "hands")


def test_a_baked_set_is_named_where_overwriting_would_remove_it(layout, tmp_path):
    lmdb = tmp_path / "lmdb"
    assert run("data_tools.build_lmdb", layout, lmdb).returncode == 0
    done = run("data_tools.bake", lmdb / "train", lmdb / "baked", "--copies", 1, "--workers", 0)
    assert done.returncode == 0, done.stderr
    done = run("data_tools.build_lmdb", layout, lmdb, "--overwrite")
    assert "lmdb/baked is a baked set (make lmdb BAKE=8), which --overwrite would" in refusal(done)
    assert (lmdb / "baked/info.json").is_file()


def test_an_upright_set_stores_a_turned_image_as_png_that_is_no_crop(tmp_path):
    """Images that readers cut out of larger ones are stored as PNG, too."""
    source = write_layout(tmp_path / "set", {"Test": [hand(1)]})
    (source / "Test/mask/1.png").unlink()
    (source / "Test/mask").rmdir()
    (source / "Test/source/1.jpg").write_bytes(turned_jpeg())
    points = np.array([(k % 20, k + 9, 1) for k in range(21)], float)
    (source / "Test/label_joint.txt").write_text(format_label("1.jpg", 20, 40, points))
    build_lmdb.main(
        [str(source), str(tmp_path / "lmdb"), "--orientation", "upright", "--split", "0/1"]
    )
    (record,) = open_sets(tmp_path / "lmdb/validation")["validation"]
    assert record.sample().image_bytes.startswith(b"\x89PNG") and record.sample().is_crop is False
