"""OneHand10K's layout to LMDB, with the faults that real label files have."""
import shutil

import cv2
import numpy as np
import pytest

from data_tools.onehand10k import LABELS, SPLITS, entries, format_label
from data_tools.sources import binary_mask_png, decoded_mask
from mcc_caffe.samples import SampleError, SampleSet
from tests.conftest import drawn_sample, run
from tests.test_samples import turned_jpeg


@pytest.fixture
def layout(tmp_path):
    """Ten drawn hands (6 Train, 4 Test) in OneHand10K's layout."""
    rng = np.random.default_rng(0)
    for split, count in zip(SPLITS, (6, 4)):
        folder = tmp_path / "set" / split
        for name in ("source", "mask"):
            (folder / name).mkdir(parents=True)
        lines = []
        for number in range(1, count + 1):
            sample = drawn_sample(rng, f"{number}.jpg")
            (folder / "source" / f"{number}.jpg").write_bytes(sample.image_bytes)
            (folder / "mask" / f"{number}.png").write_bytes(sample.mask_png)
            lines.append(format_label(f"{number}.jpg", 160, 120, sample.keypoints))
        (folder / LABELS).write_text("\n".join(lines) + "\n")
    return tmp_path / "set"


def replace_line(layout, number, line):
    path = layout / "Train" / LABELS
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")


def test_label_line_round_trip(layout):
    entry = entries(layout, "Train")[2]
    sample = entry.sample()
    assert entry.line == format_label("3.jpg", 160, 120, sample.keypoints)
    assert sample.key == "Train_3.jpg"
    assert (sample.keypoints[sample.keypoints[:, 2] == 0] == (-1, -1, 0)).all()


def test_windows_line_ends_blank_lines_and_a_mark_at_the_start_are_read(layout):
    path = layout / "Train" / LABELS
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert [entry.sample().key for entry in entries(layout, "Train")] == [f"Train_{n}.jpg" for n in range(1, 7)]


def test_one_coordinate_of_minus_one_is_missing(layout):
    fields = entries(layout, "Train")[0].line.split(",")
    fields[4:8] = ["-1", "30", "40", "50"]
    replace_line(layout, 1, ",".join(fields))
    keypoints = entries(layout, "Train")[0].sample().keypoints
    assert keypoints[0].tolist() == [-1, -1, 0] and keypoints[1].tolist() == [40, 50, 1]


def test_spaces_around_commas_are_read(layout):
    line = entries(layout, "Train")[0].line
    expected = entries(layout, "Train")[0].sample()
    replace_line(layout, 1, line.replace(",", " , "))
    sample = entries(layout, "Train")[0].sample()
    assert sample.key == expected.key and np.array_equal(sample.keypoints, expected.keypoints)


def test_an_exif_orientation_turns_neither_image_nor_labels(layout):
    """The label speaks of the 40 x 20 pixels as stored, though the picture says that it be turned by 90 degrees."""
    shutil.rmtree(layout / "Train/mask")
    (layout / "Train/source/1.jpg").write_bytes(turned_jpeg())
    replace_line(layout, 1, format_label("1.jpg", 40, 20, np.tile([39.0, 19.0, 1.0], (21, 1))))
    sample = entries(layout, "Train")[0].sample()
    assert sample.image().shape == (20, 40, 3) and sample.keypoints[20].tolist() == [39, 19, 1]
    assert decoded_mask(turned_jpeg(), "here").shape == (20, 40)


def test_a_mask_may_be_any_two_valued_picture_of_the_images_size(layout):
    path = layout / "Train/mask/1.png"
    drawn = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    path.write_bytes(cv2.imencode(".png", np.where(drawn[..., None], (3, 200, 120), (9, 0, 0)).astype(np.uint8))[1].tobytes())
    assert np.array_equal(entries(layout, "Train")[0].sample().mask() > 0, drawn > 0)
    path.write_bytes(cv2.imencode(".png", drawn[:, :100])[1].tobytes())
    with pytest.raises(SampleError, match="Train/label_joint.txt:1: the mask is 100 x 120, the label says 160 x 120"):
        entries(layout, "Train")[0].sample()


def test_a_missing_mask_is_an_error_unless_the_split_has_none(layout):
    (layout / "Train/mask/2.png").unlink()
    with pytest.raises(SampleError, match="Train/label_joint.txt:2: .*2.png cannot be read"):
        entries(layout, "Train")[1].sample()
    shutil.rmtree(layout / "Train/mask")
    assert entries(layout, "Train")[1].sample().mask_png is None


@pytest.mark.parametrize("change, message", [
    (lambda f: f[:-1], "Train/label_joint.txt:2: 45 fields, 46 are needed"),
    (lambda f: f + ["7"], "Train/label_joint.txt:2: 47 fields, 46 are needed"),
    (lambda f: f[:6] + ["12.5"] + f[7:], "Train/label_joint.txt:2: field 7 is '12.5', an integer is needed"),
    (lambda f: ["77.jpg"] + f[1:], "Train/label_joint.txt:2: .*77.jpg cannot be read"),
    (lambda f: [f[0], "120", "160"] + f[3:], "Train/label_joint.txt:2: the image is 160 x 120, the label says 120 x 160"),
])
def test_bad_lines_name_line_and_field(layout, change, message):
    replace_line(layout, 2, ",".join(change(entries(layout, "Train")[1].line.split(","))))
    with pytest.raises(SampleError, match=message):
        entries(layout, "Train")[1].sample()


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (3, 250)])
def test_any_two_valued_mask_becomes_binary(values):
    mask = np.array([[values[0], values[1]]], np.uint8)
    png = binary_mask_png(cv2.imencode(".png", mask)[1].tobytes(), "here")
    assert cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED).tolist() == [[0, 255]]
    assert png[24:26] == b"\1\0"                                  # one bit a pixel, grey


def test_an_empty_mask_stays_empty():
    png = binary_mask_png(cv2.imencode(".png", np.zeros((3, 3), np.uint8))[1].tobytes(), "here")
    assert not cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED).any()


def test_the_command_builds_both_sets(layout, tmp_path):
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    assert done.returncode == 0, done.stderr
    train, validation = SampleSet(tmp_path / "lmdb/train"), SampleSet(tmp_path / "lmdb/validation")
    assert (len(train), len(validation)) == (6, 4)
    assert sorted(key[9:] for key in train.keys) == [b"Train_%d.jpg" % n for n in range(1, 7)]
    assert [key[9:] for key in train.keys] != sorted(key[9:] for key in train.keys)    # shuffled
    first = next(i for i, key in enumerate(train.keys) if key.endswith(b"_1.jpg"))
    assert train[first].image_bytes == (layout / "Train/source/1.jpg").read_bytes()


def test_a_split_pools_all_images(layout, tmp_path):
    assert run("data_tools.build_lmdb", layout, tmp_path / "a", "--split", "7/3").returncode == 0
    assert run("data_tools.build_lmdb", layout, tmp_path / "b", "--split", "7/3").returncode == 0
    assert run("data_tools.build_lmdb", layout, tmp_path / "c", "--split", "7/3", "--seed", "1").returncode == 0
    sets = {name: [SampleSet(tmp_path / name / part).keys for part in ("train", "validation")] for name in "abc"}
    assert [len(keys) for keys in sets["a"]] == [7, 3]
    assert not {key[9:] for key in sets["a"][0]} & {key[9:] for key in sets["a"][1]}
    assert sets["a"] == sets["b"] != sets["c"]


def test_bad_samples_are_listed_and_stop_the_build_unless_skipped(layout, tmp_path):
    replace_line(layout, 2, "2.jpg,160,120,1,5")
    (layout / "Train/source/4.jpg").write_bytes(b"no jpeg")
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    assert done.returncode == 2
    assert "Train/label_joint.txt:2: 5 fields" in done.stdout and "Train_4.jpg: the image (7 bytes)" in done.stdout
    assert "2 bad samples" in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]       # nothing half-written
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb", "--skip-bad")
    assert done.returncode == 0 and len(SampleSet(tmp_path / "lmdb/train")) == 4
    assert len(SampleSet(tmp_path / "lmdb/train").info()["left_out"]) == 2


@pytest.mark.parametrize("arguments, message", [
    (["nowhere", "lmdb"], "nowhere was not found: give the folder of a data set"),
    (["{layout}", "lmdb", "--split", "half"], "--split half: give original, paper or two numbers"),
    (["{layout}", "lmdb", "--split", "9/9"], "the set has 10 samples"),
    (["{layout}", "lmdb", "--split", "0/0"], "take at least one"),
    (["{layout}", "lmdb", "--split=-1/3"], "take at least one"),
    (["{layout}", "lmdb", "--format", "rhd"], "holds no data set of these layouts: rhd (training/anno_training.pickle"),
    (["{layout}", "{layout}"], "exists already"),
])
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
            "source": "set", "reader": "onehand10k", "split": "9/1", "seed": 0, "left_out": []}
    assert sum(info["without_mask"] for info in infos) == 4                     # those of Test
    assert f"9 samples, {infos[0]['without_mask']} without mask" in done.stdout


def test_a_set_without_a_split_of_its_own_is_told_to_pool(layout, tmp_path):
    shutil.rmtree(layout / "Test")
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    assert done.returncode == 2 and "the set has Train, not one split to train on and one to validate" in done.stderr
    assert "--split N/M" in done.stderr


def test_a_line_that_comes_twice_is_a_bad_sample(layout, tmp_path):
    replace_line(layout, 2, entries(layout, "Train")[2].line)
    done = run("data_tools.build_lmdb", layout, tmp_path / "lmdb")
    assert done.returncode == 2 and "the set has Train_3.jpg already" in done.stdout


def test_overwrite_replaces(layout, tmp_path):
    assert run("data_tools.build_lmdb", layout, tmp_path / "lmdb").returncode == 0
    assert run("data_tools.build_lmdb", layout, tmp_path / "lmdb", "--overwrite", "--split", "5/5").returncode == 0
    assert len(SampleSet(tmp_path / "lmdb/train")) == 5
