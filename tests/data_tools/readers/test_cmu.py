"""CMU's hands, with the oddities that the real ones have."""

from pathlib import Path

import pytest

from data_tools import readers
from data_tools.readers.cmu import CmuEntry
from mcc_caffe.core.errors import SampleError, UserError
from tests.support.readers import plain_image, write


def cmu_label(folder, name="5_l", **label):
    write(folder / f"{name}.json", label)
    write(folder / f"{name}.jpg", plain_image())


def test_cmu_crop_and_visibility(tmp_path):
    """The crop has a side of 2.2 times that of the valid keypoints' box.

    They reach from (60, 40) to (80, 50): centre (70, 45), half side 2.2 x 20 / 2 = 22, so that the
    crop reaches from (48, 23) to (92, 67).
    """
    points = [[60, 40, 1], [80, 50, 1.0], [20, 20, 0]] + [[70, 45, 1]] * 18
    cmu_label(tmp_path / "synth2", hand_pts=points)
    (entry,) = readers.read_dataset(tmp_path)["synth2"]
    sample = entry.sample()
    assert (entry.location, sample.key, sample.mask_png) == (
        "synth2/5_l.json",
        "synth2_5_l.jpg",
        None,
    )
    assert sample.image().shape == (45, 45, 3)
    assert sample.keypoints[:4].tolist() == [[12, 17, 1], [32, 27, 1], [-1, -1, 0], [22, 22, 1]]


def test_cmu_an_image_without_a_label_is_counted(tmp_path, caplog):
    cmu_label(tmp_path / "synth1", hand_pts=[[60, 40, 1], [80, 50, 1]] + [[70, 45, 1]] * 19)
    write(tmp_path / "synth1/6_l.jpg", plain_image())
    assert len(readers.read_dataset(tmp_path)["synth1"]) == 1
    assert "synth1: passed over 1 images without a label file" in caplog.text


def test_cmu_a_splits_own_folder_is_read(tmp_path):
    cmu_label(tmp_path / "synth3", hand_pts=[[60, 40, 1], [80, 50, 1]] + [[70, 45, 1]] * 19)
    (entry,) = readers.read_dataset(tmp_path / "synth3")["synth3"]
    assert entry.sample().key == "synth3_5_l.jpg"


def test_cmu_hands_of_one_photograph_are_a_group_also_in_two_splits(tmp_path):
    """Rendered splits number their images each for itself."""
    for name in ("manual_train/15774_01_l", "manual_test/15774_01_r", "synth1/7_r", "synth2/7_l"):
        cmu_label(tmp_path, name, hand_pts=[[60, 40, 1], [80, 50, 1]] + [[70, 45, 1]] * 19)
    sets = readers.read_dataset(tmp_path)
    train, test, synth1, synth2 = (entries[0].group for entries in sets.values())
    assert train == test
    assert len({train, synth1, synth2}) == 3


@pytest.mark.parametrize(
    "name, image_name",
    [
        ("000015774_01_l", "000015774"),
        ("15774_2_r", "15774"),
        ("Berry_roof_story.flv_000053_l", "Berry_roof_story.flv_000053"),
        ("IMG_0001_l", "IMG_0001"),
        ("IMG_101_l", "IMG_101"),
        ("IMG_0001_01_r", "IMG_0001"),
        ("7_l", "7"),
    ],
)
def test_cmu_a_group_is_one_image(name, image_name):
    assert CmuEntry("manual_train", Path(f"{name}.json")).group == image_name


@pytest.mark.parametrize(
    "label, message",
    [
        ({"is_left": 1}, "synth1/5_l.json: hand_pts is missing, 21 x 3 numbers are needed"),
        ({"hand_pts": [[1, 2, 1]] * 20}, "synth1/5_l.json: hand_pts is 60 numbers"),
        ({"hand_pts": [[1, 2, 0]] * 21}, "synth1/5_l.json: no keypoint is labelled"),
        ([1], "synth1/5_l.json holds no JSON object"),
        (b"{", "synth1/5_l.json: .* is not JSON"),
    ],
)
def test_cmu_bad_labels_are_named(tmp_path, label, message):
    write(tmp_path / "synth1/5_l.json", label)
    write(tmp_path / "synth1/5_l.jpg", plain_image())
    with pytest.raises(SampleError, match=message):
        readers.read_dataset(tmp_path)["synth1"][0].sample()


def test_cmu_missing_images_and_empty_folders_are_named(tmp_path):
    cmu_label(tmp_path / "synth1", hand_pts=[[60, 40, 1]] * 21)
    (tmp_path / "synth1/5_l.jpg").unlink()
    with pytest.raises(SampleError, match="synth1/5_l.json: .*5_l.jpg cannot be read"):
        readers.read_dataset(tmp_path)["synth1"][0].sample()
    (tmp_path / "synth1/5_l.json").unlink()
    with pytest.raises(UserError, match="synth1 holds no label file"):
        readers.read_dataset(tmp_path)


@pytest.mark.parametrize("point", [[1, 60, 40], [60, 40, 2], [60, 40, -1]])
def test_cmu_visibilities_other_than_0_and_1_are_told(point, tmp_path):
    cmu_label(tmp_path / "synth1", hand_pts=[[70, 45, 1]] * 20 + [point])
    (entry,) = readers.read_dataset(tmp_path)["synth1"]
    with pytest.raises(SampleError, match="the visibility of keypoint 20 is .*: 0 or 1 is needed"):
        entry.sample()
