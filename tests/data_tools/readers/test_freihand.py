"""FreiHAND, with the oddities that the real ones have."""

import pickle

import numpy as np
import pytest

from data_tools import readers
from mcc_caffe.core.errors import SampleError, UserError
from tests.support.images import encoded
from tests.support.readers import CAMERA, plain_image, write


def freihand_set(root, hands, images, masks=(), cameras=None):
    write(root / "training_K.json", [CAMERA] * len(hands) if cameras is None else cameras)
    write(root / "training_xyz.json", hands)
    for number in images:
        write(root / "training/rgb" / f"{number:08d}.jpg", plain_image())
    for number, mask in masks:
        write(root / "training/mask" / f"{number:08d}.jpg", encoded(mask, ".jpg"))
    return readers.read_dataset(root)["training"]


def test_freihand_projection(tmp_path):
    """The focal length is 200, the centre (80, 60).

    (0.1, -0.05, 0.5) is at 200 x 0.1 / 0.5 + 80 = 120 and -200 x 0.05 / 0.5 + 60 = 40.
    """
    hand = [[0.1, -0.05, 0.5], [0.25, 0.1, 1.0], [0.2, 0.0, 0.5], [0.1, -0.05, -0.5]] + [
        [0, 0, 1.0]
    ] * 17
    (entry,) = freihand_set(tmp_path, [hand], [0])
    assert entry.sample().keypoints[:5].round(4).tolist() == [
        [120, 40, 1],
        [130, 80, 1],
        [-1, -1, 0],  # 160 is outside the image, which is 160 px wide
        [-1, -1, 0],
        [80, 60, 1],
    ]  # behind the camera


def test_an_entry_has_its_own_label_only_and_is_printed_without(tmp_path):
    """Entries go from process to process."""
    (entry,) = freihand_set(tmp_path, [[[0, 0, 1.0]] * 21] * 100, [0])
    text = repr(entry)
    assert "00000000.jpg" in text and "[" not in text
    assert len(pickle.dumps(entry)) < 2000


def test_freihand_labels_and_masks_repeat(tmp_path):
    """Image 65,121 has those of 65,121 - 2 x 32,560 = 1, however many labels lie there."""
    hands = [[[0.1 * label, 0, 1.0]] * 21 for label in range(3)]
    masks = [(label, np.full((120, 160), 255 * (label == 1), np.uint8)) for label in range(3)]
    samples = [entry.sample() for entry in freihand_set(tmp_path, hands, [0, 2, 65121], masks)]
    assert [sample.key for sample in samples] == [
        f"training_{number:08d}.jpg" for number in (0, 2, 65121)
    ]
    assert [sample.keypoints[0, 0] for sample in samples] == [80, 120, 100]
    assert [bool(sample.mask().all()) for sample in samples] == [False, False, True]


def test_freihand_labels_repeat_in_training_only(tmp_path):
    for kind, label in (("K", CAMERA), ("xyz", [[0, 0, 1.0]] * 21)):
        write(tmp_path / f"evaluation_{kind}.json", [label])
    write(tmp_path / "evaluation/rgb/00032560.jpg", plain_image())
    (entry,) = readers.read_dataset(tmp_path)["evaluation"]
    with pytest.raises(SampleError, match="its label is number 32560, which the label files lack"):
        entry.sample()


def test_freihand_images_of_a_subset_keep_their_labels(tmp_path):
    """Seven labels and their first two versions: 32,560 + 3 is hand 3, and 7 has no label."""
    hands = [[[0.1 * label, 0, 1.0]] * 21 for label in range(7)]
    entries = freihand_set(tmp_path, hands, [*range(8), *range(32560, 32567)])
    assert [entry.group for entry in entries[8:]] == [entry.group for entry in entries[:7]]
    for version in (0, 8):
        samples = [entry.sample() for entry in entries[version : version + 4]]
        assert [sample.keypoints[0, 0].round() for sample in samples] == [80, 100, 120, 140]
    with pytest.raises(
        SampleError, match="00000007.jpg: its label is number 7, which the label files lack"
    ):
        entries[7].sample()


def test_freihand_bad_records_are_named(tmp_path):
    hands = [[[0, 0, 1.0]] * 21, [[0, 0, 1.0]] * 20, [[0, 0, 1.0]] * 21]
    entries = freihand_set(
        tmp_path,
        hands,
        [32560, 32561, 32562],
        [(1, np.zeros((120, 160), np.uint8))],
        [CAMERA, CAMERA, [1, 2]],
    )
    for entry, message in zip(
        entries,
        (
            "training/rgb/00032560.jpg: .*mask/00000000.jpg cannot be read",
            "training/rgb/00032561.jpg: xyz of label 1 is 60 numbers",
            "training/rgb/00032562.jpg: K of label 2 is 2 numbers",
        ),
    ):
        with pytest.raises(SampleError, match=message):
            entry.sample()
    (tmp_path / "training/rgb/00032560.jpg").rename(tmp_path / "training/rgb/hand.jpg")
    with pytest.raises(SampleError, match="training/rgb/hand.jpg: the name is no number"):
        readers.read_dataset(tmp_path)["training"][-1].sample()


@pytest.mark.parametrize(
    "hand, camera, message",
    [
        ([[0.0] * 21] * 2 + [[1.0] * 21], CAMERA, "xyz of label 0 is 3 x 21 numbers, 21 x 3 num"),
        (
            [[0, 0, 1.0]] * 21,
            np.transpose(CAMERA).tolist(),
            "the last row of K of label 0 is .80.0, 60.0, 1.0., 0 0 1 is needed: is it transposed",
        ),
    ],
)
def test_freihand_transposed_labels_are_told(hand, camera, message, tmp_path):
    (entry,) = freihand_set(tmp_path, [hand], [0], cameras=[camera])
    with pytest.raises(SampleError, match=f"training/rgb/00000000.jpg: {message}"):
        entry.sample()


def test_freihand_files_that_do_not_belong_together_are_told(tmp_path):
    with pytest.raises(
        UserError, match="training_K.json and training_xyz.json are no lists of the same length"
    ):
        freihand_set(tmp_path, [[[0, 0, 1.0]] * 21], [0], cameras=[CAMERA] * 2)
    with pytest.raises(UserError, match="rgb holds no .jpg"):
        freihand_set(tmp_path / "empty", [[[0, 0, 1.0]] * 21], [])


def test_freihand_the_evaluation_is_read_where_its_labels_are(tmp_path):
    freihand_set(tmp_path, [[[0, 0, 1.0]] * 21], [0])
    write(tmp_path / "evaluation_K.json", [CAMERA])
    write(tmp_path / "evaluation/rgb/00000000.jpg", plain_image())
    assert list(readers.read_dataset(tmp_path)) == ["training"]
    write(tmp_path / "evaluation_xyz.json", [[[0, 0, 1.0]] * 21])
    assert readers.read_dataset(tmp_path)["evaluation"][0].sample().key == "evaluation_00000000.jpg"


def test_freihand_files_of_other_kinds_are_counted(tmp_path, caplog):
    write(tmp_path / "training/rgb/00000001.png", plain_image())
    assert len(freihand_set(tmp_path, [[[0, 0, 1.0]] * 21], [0])) == 1
    assert "rgb: passed over 1 files that are no .jpg" in caplog.text


@pytest.mark.parametrize("name", ["K", "xyz"])
def test_freihand_numbers_that_are_not_finite_are_told(name, tmp_path):
    """They would lie nowhere in the image, as keypoints do that are missing."""
    hand, camera = [[0.0, 0.0, 1.0]] * 21, [list(row) for row in CAMERA]
    (hand if name == "xyz" else camera)[0] = [float("nan")] * 3
    (entry,) = freihand_set(tmp_path, [hand], [0], cameras=[camera])
    with pytest.raises(SampleError, match="K or xyz of label 0 has a number that is not finite"):
        entry.sample()
