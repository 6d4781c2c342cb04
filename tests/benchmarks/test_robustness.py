"""`python -m benchmarks.robustness`: how far answers move, by hand and with the network."""

import numpy as np
import pytest

from benchmarks import robustness
from benchmarks.robustness import CHANGES, LabelledImage, measure_moves, table_rows
from mcc_caffe.core.errors import UserError
from tests.support.hands import hand, keypoints_at, write_set
from tests.support.readers import drawn, write_turned_set


def brightest(image):
    """All 21 keypoints at the brightest pixel."""
    y, x = np.unravel_index(image.sum(axis=2).argmax(), image.shape[:2])
    return np.tile([x, y, 1.0], (21, 1))


def spot():
    image = np.zeros((48, 64, 3), np.uint8)
    image[20:25, 30:35] = 60
    image[22, 32] = 255
    return image


def test_an_answer_that_goes_along_with_the_hand_does_not_move():
    moves = measure_moves(brightest, [LabelledImage(spot(), 10.0)] * 2)
    assert moves.shape == (len(CHANGES), 2, 21) and not moves.any()
    assert all(change.apply(spot()).shape == spot().shape for change in CHANGES)


def test_an_answer_that_stays_moves_by_what_the_image_did():
    """It is at (10, 20), in the mirror image of 64 pixels at 63 - 10 = 53: 43 pixels apart."""
    moves = measure_moves(
        lambda image: np.tile([10.0, 20.0, 1.0], (21, 1)), [LabelledImage(spot(), 100.0)]
    )
    assert np.allclose(moves[:, 0, 0], (0.43, 0.01, 0))


def test_the_table_by_hand():
    moves = np.zeros((len(CHANGES), 2, 21))
    moves[0, 0, :11], moves[0, 1, :11] = 0.25, 0.15
    first, second, _ = table_rows("set (2)", 4, moves)
    name = CHANGES[0].name
    assert first == ["set (2)", "4", name, "0.150", "52.4%", "52.4%", "26.2%", "50.0%"]
    assert second[3:] == ["0.000", "0.0%", "0.0%", "0.0%", "0.0%"]


def test_the_command_measures_a_set(tmp_path, capsys, caplog):
    unlabelled = hand(3, key="3.jpg", keypoints=keypoints_at())
    folder = write_set(tmp_path / "drawn", [hand(1), hand(2), unlabelled])
    robustness.main([str(folder), "--looks", "1", "4"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.strip().splitlines()]
    assert len(lines) == 2 + 2 * len(CHANGES) and lines[2][0] == "| drawn (2)"
    assert lines[2 + len(CHANGES)][1:3] == ["4", "mirrored"]
    assert lines[2 + len(CHANGES)][3:] != lines[2][3:]  # those of a single look
    damaged = hand(4, key="4.jpg", image_bytes=b"no image")
    some = write_set(tmp_path / "some", [hand(1), unlabelled, damaged])
    robustness.read_images(some, None)
    assert "passed over 1 samples without labelled keypoints" in caplog.text
    assert "passed over 1 unusable samples, the first because of: 00000002_4.jpg: " in caplog.text
    with pytest.raises(
        UserError, match="no sample can be used; the first error is: 00000000_4.jpg: "
    ):
        robustness.read_images(write_set(tmp_path / "damaged", [damaged]), None)
    empty = write_set(tmp_path / "empty", [unlabelled])
    with pytest.raises(UserError, match="no sample has labelled keypoints"):
        robustness.main([str(empty)])


def test_a_limit_takes_samples_from_all_of_a_set(tmp_path):
    hands = [hand(number) for number in range(1, 6)]
    folder = write_set(tmp_path / "drawn", hands)
    sides = {limit: [side for _, side in robustness.read_images(folder, limit)] for limit in (3, 9)}
    assert sides[9] == [np.ptp(each.keypoints[:, :2], axis=0).max() for each in hands]
    assert sides[3] == sides[9][::2] and len(set(sides[9])) == 5


def test_labels_of_upright_images_are_measured_on_request(tmp_path, capsys):
    (sample,) = drawn(1, seed=0)
    path = write_turned_set(tmp_path, sample)
    (image,) = robustness.read_images(path, None, upright=True)
    assert np.array_equal(image.image, sample.image())
    robustness.main([str(path), "--looks", "1", "--orientation", "upright"])
    assert "| hands (1) |" in capsys.readouterr().out
    with pytest.raises(UserError, match="refers to the upright image, --orientation upright"):
        robustness.main([str(path)])


def test_sets_of_one_name_have_the_names_of_their_folders(tmp_path, capsys):
    folders = [write_set(tmp_path / parent / "drawn", [hand(1)]) for parent in "ab"]
    robustness.main([*map(str, folders), "--looks", "1"])
    table = capsys.readouterr().out
    assert "| a/drawn (1) |" in table and "| b/drawn (1) |" in table
