"""OneHand10K's layout to LMDB, with the faults that real label files have."""

import shutil

import pytest

from data_tools.readers.onehand10k import read_entries
from mcc_caffe.data.samples import SampleSet
from tests.support.commands import run
from tests.support.readers import replace_line


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


def test_bad_samples_are_listed_and_stop_the_build_unless_skipped(layout, tmp_path):
    replace_line(layout, 2, "2.jpg,160,120,1,5")
    (layout / "Train/source/4.jpg").write_bytes(b"no jpeg")
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    assert done.returncode == 2
    assert "left out: Train/label_joint.txt:2: 5 fields" in done.stderr
    assert "left out: Train_4.jpg: the image (7 bytes)" in done.stderr
    assert "2 bad samples" in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]  # nothing half-written
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb", "--skip-bad")
    assert done.returncode == 0 and len(SampleSet(tmp_path / "lmdb/train")) == 4
    assert len(SampleSet(tmp_path / "lmdb/train").info()["left_out"]) == 2


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
def test_wrong_arguments_give_one_line(layout, tmp_path, arguments, message):
    done = run("data_tools.build_lmdb", *(argument.format(layout=layout) for argument in arguments))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


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


def test_a_set_without_a_split_of_its_own_is_told_to_pool(layout, tmp_path):
    shutil.rmtree(layout / "Test")
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    assert (
        done.returncode == 2
        and "the set has Train, not one split to train on and one to validate" in done.stderr
    )
    assert "--split N/M" in done.stderr


def test_a_line_that_comes_twice_is_a_bad_sample(layout, tmp_path):
    replace_line(layout, 2, read_entries(layout, "Train")[2].line)
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    assert done.returncode == 2 and "the set has Train_3.jpg already" in done.stderr


def test_overwrite_replaces(layout, tmp_path):
    assert run("data_tools.build_lmdb", layout, tmp_path / "lmdb").returncode == 0
    assert (
        run(
            "data_tools.build_lmdb", layout, tmp_path / "lmdb", "--overwrite", "--split", "5/5"
        ).returncode
        == 0
    )
    assert len(SampleSet(tmp_path / "lmdb/train")) == 5
