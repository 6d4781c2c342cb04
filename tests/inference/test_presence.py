"""What is present: nothing in images without a hand, with the weights that ship."""

import json

import cv2
import numpy as np
import pytest
import skimage.data

from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.images import decode_image
from mcc_caffe.inference.pose_reports import NetworkInfo, hand_records, image_report
from mcc_caffe.inference.presence import UNCALIBRATED, Calibration, find_present, read_calibration
from mcc_caffe.inference.video_reports import one_hand_line
from mcc_caffe.predictor import HandPose, HandPredictor
from tests.support.rendered import render_hand, two_hands_side_by_side

# Images of scikit-image without a hand. Some of them lie behind hands of the training.
WITHOUT_HANDS = (
    *("astronaut.png", "brick.png", "cell.png", "chelsea.png", "clock_motion.png"),
    *("coffee.png", "coins.png", "color.png", "grass.png", "gravel.png", "horse.png"),
    *("hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png"),
    *("motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png"),
)


def read_image(name):
    folder = next(iter(skimage.data.__path__))
    with open(f"{folder}/{name}", "rb") as file:
        return decode_image(file.read())


@pytest.fixture(scope="module")
def images():
    return {name: read_image(name) for name in WITHOUT_HANDS}


def test_no_keypoint_is_present_without_a_hand(images):
    """Of the confidences of a single pass 7 % are above the threshold: the score decides."""
    predictor = HandPredictor(looks=1)
    poses = [predictor.predict(image) for image in images.values()]
    assert np.mean([pose.keypoints[:, 2] > 0.2 for pose in poses]) > 0.05
    assert not any(pose.present.any() for pose in poses)


def test_more_looks_raise_no_noise_above_the_threshold(images):
    predictor = HandPredictor(looks=4)
    names = ("chelsea.png", "clock_motion.png", "horse.png", "cell.png", "retina.jpg")
    poses = [predictor.predict(images[name]) for name in names]
    assert np.mean([pose.keypoints[:, 2] > 0.2 for pose in poses]) > 0.1
    assert not any(pose.present.any() for pose in poses)


def test_the_pyramid_does_not_raise_noise_above_the_threshold(images):
    predictor = HandPredictor(levels="paper")
    for name in ("chelsea.png", "retina.jpg"):
        pose = predictor.predict(images[name])
        assert (pose.keypoints[:, 2] > 0.2).any() and not pose.present.any()


def test_the_search_finds_no_hand_in_most_images_without_any(images):
    predictor = HandPredictor()
    chosen = list(images.items())[1::3]  # in the astronaut's portrait it finds one
    assert [name for name, image in chosen if predictor.predict_all(image)] == []


def test_a_hand_is_present_in_every_way():
    image = render_hand(2).image
    for options in ({"levels": 1}, {"looks": 2}, {"looks": 4}, {"levels": "paper"}):
        pose = HandPredictor(**options).predict(image)
        assert (pose.present == (pose.keypoints[:, 2] > 0.2)).all() and pose.present.any()


def small_hand():
    """An image in which the hand is an eighth as wide."""
    hand = render_hand(2).image
    return cv2.copyMakeBorder(hand, 560, 300, 700, 420, cv2.BORDER_CONSTANT, value=(90, 90, 90))


def test_a_small_hand_is_present_in_the_pyramid():
    """The mask of the first level is too coarse to show it."""
    image = small_hand()
    pose = HandPredictor(levels="paper").predict(image)
    assert pose.masks[0].cells.max() < 0.5 and pose.present.sum() >= 15


def test_a_hand_too_small_for_looks_is_searched_for(images):
    image = small_hand()
    searched = HandPredictor().predict(image)
    assert not HandPredictor(looks=4).predict(image).present.any()
    assert searched.present.sum() >= 15
    (hand,) = HandPredictor().predict_all(image)
    assert (searched.keypoints == hand.keypoints).all()
    assert not HandPredictor().predict(images["moon.png"]).present.any()


@pytest.mark.parametrize("options", [{"looks": 4}, {"levels": 1}, {"levels": "paper"}])
def test_fingers_of_two_hands_are_no_hand(options):
    """Looks and levels see fingers of both hands in one answer."""
    image, width = two_hands_side_by_side()
    mixed = HandPredictor(**options).predict(image)
    assert 2 <= (mixed.keypoints[:, 0] < width).sum() <= 19 and mixed.score > 0.7
    assert mixed.hand_present is False and not mixed.present.any()


def test_a_search_tells_two_hands_apart():
    image, width = two_hands_side_by_side()
    hand = HandPredictor().predict(image)
    assert hand.method == "search" and hand.hand_present
    assert (hand.keypoints[:, 0] > width).all()


def test_a_threshold_below_zero_asks_for_every_keypoint(images):
    assert HandPredictor(looks=1, threshold=-1).predict(images["moon.png"]).present.all()


def test_a_report_says_that_there_is_no_hand(images, monkeypatch):
    """In the image of a retina the mask is not empty, though it shows no hand."""
    predictor = HandPredictor(looks=1)
    pose = predictor.predict(images["retina.jpg"])
    assert pose.mask_box() is not None
    monkeypatch.delattr(HandPose, "mask_box")  # a mask at full size that nobody gets
    report = image_report([pose], "retina.jpg", pose.image_size, NetworkInfo({}, ""), one_hand=True)
    names = "hand_present", "box", "mask_box"
    assert [report[name] for name in names] == [False, None, None]
    line = json.loads(one_hand_line(0.0, pose, None))
    assert [line[name] for name in names] == [False, None, None]
    assert hand_records([(None, pose)], one_hand=True) == []
    predictor.threshold = -1
    pose = predictor.predict(images["retina.jpg"])
    assert pose.hand_present is False and len(hand_records([(None, pose)], one_hand=True)) == 1


def test_a_pose_says_how_it_was_found(images):
    small = small_hand()
    for options, method, levels, looks in (
        ({"levels": 1}, "single pass", 1, None),
        ({"looks": 1}, "single pass", None, 1),
        ({"looks": 2}, "looks", None, 2),
        ({"levels": 3}, "pyramid", 3, None),
        ({}, "search", None, None),
    ):
        pose = HandPredictor(**options).predict(small)
        assert (pose.method, pose.levels, pose.looks) == (method, levels, looks)
    (in_box,) = HandPredictor().predict_all(render_hand(2).image, boxes=[(20, 20, 100, 100)])
    assert (in_box.method, in_box.levels, in_box.looks) == ("boxes", None, None)


def test_present_keypoints_by_hand():
    keypoints = np.column_stack([np.zeros((21, 2)), np.linspace(0, 1, 21)])
    assert find_present(keypoints, 0.2, shows_hand=True).sum() == 16
    assert not find_present(keypoints, 0.2, shows_hand=False).any()


def test_the_pyramids_score_grows_with_its_levels():
    calibration = Calibration(0.3, 0.32, 0.4, 0.5, 0.7)
    scores = [calibration.least_pyramid_score(levels) for levels in (1, 4, 19, 30)]
    assert scores[0] == 0.3 and scores[0] < scores[1] < scores[2] == scores[3] == 0.5
    assert UNCALIBRATED.least_pyramid_score(7) == UNCALIBRATED.least_score(4) < -1


def test_the_calibration_comes_with_the_weights(tmp_path, weights):
    layers, metadata = packed_weights.read(shipped_weights("mini"))
    assert HandPredictor().calibration == read_calibration(metadata) != UNCALIBRATED
    assert HandPredictor(weights).calibration == UNCALIBRATED
    for wrong in (7, {"single": "x"}, {"single": 0.3}, {"other": 1}):
        path = tmp_path / "wrong.npz"
        path.write_bytes(packed_weights.to_bytes(layers, {**metadata, "calibration": wrong}))
        with pytest.raises(UserError, match="calibration of the weights is .*pyramid_mask"):
            HandPredictor(path)
    assert json.dumps(metadata)
