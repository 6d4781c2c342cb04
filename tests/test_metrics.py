"""PCK and IoU, by hand-computed values."""
import numpy as np
import pytest

from mcc_caffe.metrics import box_sizes, iou, pck


def truth():
    keypoints = np.zeros((1, 21, 3))
    keypoints[0, :, 0] = np.linspace(0, 100, 21)
    keypoints[0, :, 1] = np.linspace(0, 50, 21)
    keypoints[0, :, 2] = 1
    return keypoints


def test_box_is_of_the_labelled_keypoints_only():
    keypoints = truth()
    assert box_sizes(keypoints) == [100]
    keypoints[0, 11:] = -1, -1, 0
    assert box_sizes(keypoints) == [50]
    assert box_sizes(np.full((1, 21, 3), (5, 5, 1.0))) == [1]


def test_pck_counts_strictly_within_the_threshold():
    predicted = truth()
    predicted[0, :10, 0] += 19.9
    predicted[0, 10:15, 0] += 20.1
    assert pck(predicted, truth(), 0.2) == pytest.approx(16 / 21)
    assert pck(truth(), truth(), 0.01) == 1
    far = truth()
    far[0, 3, 0] += 20
    assert pck(far, truth(), 0.2) == pytest.approx(20 / 21)      # exactly on the threshold is out


def test_missing_joints_are_not_counted():
    keypoints = truth()
    keypoints[0, 3] = -1, -1, 0
    predicted = truth()
    predicted[0, 3] = 1000, 1000, 1
    assert pck(predicted, keypoints, 0.2) == 1
    keypoints[..., 2] = 0
    assert np.isnan(pck(predicted, keypoints, 0.2))


def test_iou():
    one, other = np.zeros((2, 10, 10), bool)
    assert iou(one, other) == 1
    one[:5], other[3:7] = True, True
    assert iou(one, other) == pytest.approx(2 / 7)
