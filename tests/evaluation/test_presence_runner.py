"""What is counted in images without and with a hand, with answers that tell the ways apart."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mcc_caffe.evaluation.presence_runner import measure_presence
from mcc_caffe.paper import PAPER_LEVELS
from tests.support.commands import Begun, begin

# The number of keypoints that each way, by its levels and looks, calls present.
PRESENT_COUNTS = {(None, 1): 1, (None, 2): 2, (None, 4): 3, (PAPER_LEVELS, None): 6}


class StubPredictor:
    """Calls the first keypoints present, in a number that tells the way; their confidence is .8."""

    levels = looks = None

    def require_pose(self):
        pass

    def predict(self, image):
        is_present = np.arange(21) < PRESENT_COUNTS[self.levels, self.looks]
        return SimpleNamespace(keypoints=np.tile(is_present[:, None], 3) * 0.8, present=is_present)

    def predict_all(self, image, *, score_threshold):
        return ["hand"] * 3 if score_threshold == 0.2 else []


def test_each_way_is_counted_by_itself_and_labelled_keypoints_alone_are_lost(tmp_path):
    """The first keypoint is not labelled, though every way calls it present."""
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), np.full((8, 8, 3), 128, np.uint8))
    labels = np.ones((21, 3))
    labels[0] = (-1, -1, 0)
    sample = SimpleNamespace(keypoints=labels, image=lambda: np.zeros((8, 8, 3), np.uint8))
    entry = SimpleNamespace(sample=lambda: sample)
    predictor = StubPredictor()
    presence = measure_presence(predictor, [path, path], [entry], 0.2)
    assert (predictor.levels, predictor.looks) == (None, None) and presence.hand_counts == [3, 3]
    names = ["single pass", "two looks", "four looks", "the paper's pyramid"]
    assert list(presence.ways) == names
    for count, way in zip(PRESENT_COUNTS.values(), presence.ways.values()):
        assert way.false_share == pytest.approx(count / 21)
        assert way.lost_share == pytest.approx((20 - (count - 1)) / 20)
        assert way.hand_share == (1 if count == 6 else 0)  # .8 * 6 / 21 > .2
    assert measure_presence(predictor, [path], [], 0.2).ways["two looks"].lost_share is None


def test_a_net_without_pose_stage_is_refused_before_any_image_is_read(tmp_path):
    predictor = StubPredictor()
    predictor.require_pose = begin
    with pytest.raises(Begun):
        measure_presence(predictor, [tmp_path / "nowhere.png"], [], 0.2)
