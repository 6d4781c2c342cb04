"""Predictions that are written to a file and read again."""

import json
import os

import numpy as np
import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.evaluation.predictions_file import PredictionsFile, write_predictions
from tests.support.hands import hand
from tests.support.images import encoded


def test_predictions_come_back_as_they_were_written(tmp_path):
    keypoints = np.random.default_rng(0).uniform(0, 500, (21, 3))
    keypoints[4] = np.nan
    write_predictions(tmp_path / "x.json", "a name", {"key": keypoints})
    file = PredictionsFile(tmp_path / "x.json")
    assert file.name == "a name"
    entry = file.images["key"]
    assert np.array_equal(entry.keypoints, keypoints, equal_nan=True) and entry.mask_path is None


def predictions_file(folder, **image):
    content = {"name": "x", "images": {hand(0).key: image}}
    (folder / "x.json").write_text(json.dumps(content))
    return folder / "x.json"


@pytest.mark.parametrize(
    "form",
    [
        lambda hand: hand * np.uint8(255),
        lambda hand: hand * np.uint8(1),
        lambda hand: hand * np.uint16(1),
        lambda hand: hand * np.uint16(255),
        lambda hand: hand * np.uint16(65535),
        lambda hand: np.where(hand, 140, 100 * (np.indices(hand.shape)[0] % 2)).astype(np.uint8),
        lambda hand: np.dstack([hand * 0, hand * 0, hand * 0, hand * 255]).astype(np.uint8),
    ],
)
def test_a_predicted_mask_may_have_any_form(tmp_path, form):
    expected = hand(0).mask() > 0
    (tmp_path / "m.png").write_bytes(encoded(form(hand(0).mask())))
    prediction = PredictionsFile(predictions_file(tmp_path, mask="m.png")).predict(hand(0))
    assert np.array_equal(prediction.mask, expected)


def test_predicted_probabilities_below_one_half_are_no_hand(tmp_path):
    (tmp_path / "m.png").write_bytes(encoded(hand(0).image()[..., 0] // 2))
    assert not PredictionsFile(predictions_file(tmp_path, mask="m.png")).predict(hand(0)).mask.any()


def test_a_system_without_a_name_has_its_files_name(tmp_path):
    path = tmp_path / "my_system.json"
    path.write_text('{"images": {"a": {}}}')
    file = PredictionsFile(path)
    assert file.name == "my_system" and not file.is_named


@pytest.mark.parametrize(
    "path, key",
    [
        ("images/0.jpg", "labels_images_0.jpg_7"),
        ("0.jpg", "labels_images_0.jpg_7"),
        ("set/Test/source/0.jpg", "Test_0.jpg"),
        ("Test/0.jpg", "00000042_Test_0.jpg"),
        ("Test_0.jpg", "00000042_Test_0.jpg"),
    ],
)
def test_predictions_may_name_the_paths_of_images(path, key, tmp_path):
    keypoints = hand(0).keypoints.astype(float)
    write_predictions(tmp_path / "x.json", "x", {path: keypoints, "Test/1.jpg": keypoints})
    file = PredictionsFile(tmp_path / "x.json", splits=["labels", "Test"])
    assert np.array_equal(file.predict(hand(0, key=key)).keypoints, keypoints)
    assert file.entry(key.replace("0.jpg", "2.jpg")) is None
    assert file.other_images([key]) == ["Test/1.jpg"]


def test_a_path_names_no_hand_that_is_cut_out_of_its_image(tmp_path):
    """A key does, also where the set's other hands have no prediction."""
    keypoints = hand(0).keypoints.astype(float)
    keys = ["labels_a_0.jpg_1", "labels_a_0.jpg_2"]
    crops = [hand(0, key=key, is_crop=True) for key in keys]
    write_predictions(tmp_path / "x.json", "x", {"a/0.jpg": keypoints})
    file = PredictionsFile(tmp_path / "x.json", splits=["labels"])
    with pytest.raises(UserError, match="_1 is cut out .*, and a/0.jpg refers .*, with this key"):
        file.predict(crops[0])
    with pytest.raises(UserError, match="_1 and labels_a_0.jpg_2 are hands of the image a/0.jpg"):
        file.check_no_image_twice(keys)
    write_predictions(tmp_path / "x.json", "x", {keys[0]: keypoints})
    file = PredictionsFile(tmp_path / "x.json", splits=["labels"])
    file.check_no_image_twice(keys)
    predictions = [file.predict(crop).keypoints for crop in crops]
    assert np.array_equal(predictions[0], keypoints) and predictions[1] is None


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", r"m.png, the predicted mask of 0.jpg, cannot be used: the mask \(0 bytes\)"),
        (b"no image", "cannot be used: .* cannot be decoded"),
        (encoded(np.zeros((5, 6), np.uint8)), "the mask is 6 x 5, the image 160 x 120"),
        (
            encoded((np.indices((120, 160))[0] % 3).astype(np.uint8)),
            "it is unclear which pixels of the mask are hand",
        ),
    ],
)
def test_a_predicted_mask_that_cannot_be_used_is_named(tmp_path, content, message):
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(UserError, match=message):
        PredictionsFile(predictions_file(tmp_path, mask="m.png")).predict(hand(0))


def test_a_predicted_mask_larger_than_any_image_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("MCC_CAFFE_MAX_MEGAPIXELS", "0.1")
    (tmp_path / "m.png").write_bytes(encoded(np.zeros((120, 160), np.uint8)))
    os.truncate(tmp_path / "m.png", 9_000_000)
    with pytest.raises(UserError, match="m.png: 9000000 bytes are more than an image of 0.1 mega"):
        PredictionsFile(predictions_file(tmp_path, mask="m.png")).predict(hand(0))


@pytest.mark.parametrize(
    "text, message",
    [
        ("[" * 100_000, "is no JSON file"),
        ('{"name": "\\ud800", "images": {"a": {}}}', r"the name is '\\ud800'"),
        ('{"name": "x", "images": {"a": {"mask": "\\ud800.png"}}}', r"'a' is '\\ud800.png'"),
        ('{"name": "x", "images": {"a": {"mask": "\\u0000.png"}}}', r"'a' is '\\x00.png'"),
        (
            json.dumps({"name": "x", "images": {"a": {"keypoints": [[10**400, 1, 1]] * 21}}}),
            "the keypoints of image 'a' are no",
        ),
        ('{"name": "x", "images": {"a": {"keypoints": 5}}}', "the keypoints of image 'a' are no"),
        (
            json.dumps({"name": "x", "images": {"a": {"keypoints": [["1", "2", "1"]] * 21}}}),
            "the keypoints of image 'a' are no",
        ),
        (
            json.dumps({"name": "x", "images": {"a": {"keypoints": [[7, 9, True]] * 21}}}),
            "the keypoints of image 'a' are no",
        ),
    ],
)
def test_impossible_content_gives_one_line_that_can_be_written(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        PredictionsFile(tmp_path / "x.json")
    assert str(error.value).encode() and len(str(error.value)) < 500


def test_two_samples_of_one_key_are_told(tmp_path):
    file = PredictionsFile(predictions_file(tmp_path, keypoints=None))
    with pytest.raises(UserError, match="may be either of two images with the key '0.jpg'"):
        file.check_no_image_twice(["0.jpg", "1.jpg", "0.jpg"])


def test_a_result_with_a_hand_stands_for_one_sample(tmp_path):
    points = np.column_stack([hand(0).keypoints[:, :2], np.full(21, 0.9)])
    person = {"hand_right_keypoints_2d": points.ravel().tolist()}
    for people in ([person], []):
        (tmp_path / "0_keypoints.json").write_text(json.dumps({"people": people}))
        file = PredictionsFile(tmp_path, ["Test", "Train"])
        if people:
            with pytest.raises(UserError, match="0 may be the image 'Test_0.jpg' or 'Train_0.jpg'"):
                file.check_no_image_twice(["Test_0.jpg", "Train_0.jpg"])
        else:
            file.check_no_image_twice(["Test_0.jpg", "Train_0.jpg"])


def test_of_two_sets_results_those_of_the_samples_own_image_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    results.mkdir()
    for number, folder in enumerate("AB"):
        path = tmp_path / folder / "x.jpg"
        path.parent.mkdir()
        path.touch()
        points = np.column_stack([hand(number).keypoints[:, :2], np.full(21, 0.9)])
        person = {"hand_right_keypoints_2d": points.ravel().tolist()}
        content = {"image": f"{folder}/x.jpg", "people": [person]}
        (results / f"{folder}_keypoints.json").write_text(json.dumps(content))
    for number, set_path in ((0, "A"), (1, "B/hands.json"), (0, "A/annotations/hands.json")):
        entry = PredictionsFile(results, set_path=tmp_path / set_path).entry("hands_x.jpg_1")
        assert np.allclose(entry.keypoints[:, :2], hand(number).keypoints[:, :2])
    for set_path in (None, tmp_path, tmp_path / "C"):
        with pytest.raises(UserError, match="has A/x.jpg and B/x.jpg, which may both be the image"):
            PredictionsFile(results, set_path=set_path).entry("hands_x.jpg_1")


def test_shares_of_the_images_sides_are_refused(tmp_path):
    """A hand that is wholly at (0, 0) is an answer, though, where others are in pixels."""
    path = tmp_path / "x.json"
    keypoints = hand(0).keypoints.astype(float)
    shares = keypoints / (160, 120, 1)
    write_predictions(path, "x", {"a": shares, "b": keypoints * (0, 0, 1)})
    with pytest.raises(
        UserError,
        match="x.json: all keypoints lie between -1 and 1, as shares of the image's sides do: "
        "pixels are needed, multiply them by the image's width",
    ):
        PredictionsFile(path)
    write_predictions(path, "x", {"a": keypoints, "b": keypoints * (0, 0, 1)})
    assert not PredictionsFile(path).images["b"].keypoints[:, :2].any()
    write_predictions(path, "x", {"a": np.full((21, 3), np.nan)})
    assert np.isnan(PredictionsFile(path).images["a"].keypoints).all()


def test_a_file_is_refused_where_half_of_its_hands_are_shares(tmp_path, caplog):
    """Also where a landmark lies outside the image; of fewer hands a warning tells."""
    path = tmp_path / "x.json"
    keypoints = hand(0).keypoints.astype(float)
    shares = keypoints / (160, 120, 1)
    shares[3, 1] = 1.04
    few = {"a": keypoints, "b": shares, "c": keypoints}
    write_predictions(path, "x", {**few, "d": shares})
    with pytest.raises(UserError, match=r"x.json: all keypoints of 2 of 4 hands .*image 'b'\) lie"):
        PredictionsFile(path)
    assert not caplog.records
    write_predictions(path, "x", few)
    assert np.array_equal(PredictionsFile(path).images["b"].keypoints, shares)
    (record,) = caplog.records
    assert "x.json: all keypoints of 1 of 3 hands (first in image 'b') lie" in record.getMessage()
    assert "pixels are needed" in record.getMessage()


def test_hands_in_two_places_count_as_pixels_beside_others(tmp_path, caplog):
    path = tmp_path / "x.json"
    keypoints = hand(0).keypoints.astype(float)
    in_two_places = {f"{number}": _hand_at([(0.2, 0.5), (0.4, 0.3)]) for number in range(9)}
    write_predictions(path, "x", in_two_places)
    with pytest.raises(UserError, match="x.json: all keypoints lie between -1 and 1, as shares of"):
        PredictionsFile(path)
    shares = keypoints / (160, 120, 1)
    write_predictions(path, "x", {**in_two_places, "a": keypoints, "b": shares})
    PredictionsFile(path)
    (record,) = caplog.records
    assert "all keypoints of 1 of 11 hands (first in image 'b') lie" in record.getMessage()


def _hand_at(xy):
    """Return (21, 3) keypoints at (N, 2) places, each in turn."""
    return np.column_stack([np.resize(xy, (21, 2)), np.full(21, 0.1)])


@pytest.mark.parametrize(
    "wrong, warnings",
    [
        (_hand_at([(0, 0), (0.5, 0), (0.5, 1.5)]), 1),  # collapsed in the left top corner
        (_hand_at(np.linspace(-1.9, -0.1, 42).reshape(21, 2)), 1),  # left of and above the image
        (_hand_at([(0.2, 0.3), (1.4, 0.5), (0.6, 1.5), (1.2, 1.1)]), 1),  # of a 2x2 image
        (_hand_at([(0, 0), (0.5, 1.5)]), 0),  # in two places
        (np.vstack([[(1, 1, 0.5)], np.full((20, 3), np.nan)]), 0),  # a single keypoint
    ],
)
def test_a_wrong_answer_in_a_corner_does_not_refuse_its_file(wrong, warnings, tmp_path, caplog):
    path = tmp_path / "x.json"
    keypoints = hand(0).keypoints.astype(float)
    write_predictions(path, "x", {**{f"{n}": keypoints for n in range(9)}, "wrong": wrong})
    read = PredictionsFile(path).images["wrong"].keypoints
    assert np.array_equal(read, wrong, equal_nan=True)
    assert len(caplog.records) == warnings


def test_zeros_that_stand_for_missing_keypoints_are_refused(tmp_path):
    path = tmp_path / "x.json"
    write_predictions(path, "x", {"a": np.zeros((21, 3)), "b": np.zeros((21, 3))})
    with pytest.raises(UserError, match="x.json: all keypoints lie at 0, 0, .* as null") as error:
        PredictionsFile(path)
    assert "multiply" not in str(error.value)


def test_images_that_are_not_measured_are_found(tmp_path):
    keypoints = hand(0).keypoints.astype(float)
    write_predictions(
        tmp_path / "x.json", "x", dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), keypoints)
    )
    assert PredictionsFile(tmp_path / "x.json").other_images(["b.jpg", "d.jpg"]) == [
        "a.jpg",
        "c.jpg",
    ]
