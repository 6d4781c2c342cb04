"""Metrics, by hand-computed values and against MMPose's formulas, written down once more here."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcc_caffe.evaluation.metrics import (
    PROTOCOLS,
    accuracies,
    average_precision,
    box_sizes,
    epe,
    iou,
    keypoint_distances,
    pck,
)

PAPER, MMPOSE = PROTOCOLS["paper"], PROTOCOLS["mmpose"]


def truth():
    """One image whose keypoints lie on a line, in a box of 100 x 50."""
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


def test_a_box_of_one_point_has_no_size_and_its_image_no_pck():
    """One labelled keypoint is off by 15 pixels; in the other image 16 of 21 are right."""
    for points in ((5, 5, 1.0), (-1, -1, 0.0)):  # 21 in one place, none
        assert np.isnan(box_sizes(np.full((1, 21, 3), points))).all()
    single = truth()
    single[0, 1:] = -1, -1, 0
    assert np.isnan(box_sizes(single)).all()
    both, predicted = np.concatenate([single, truth()]), np.concatenate([truth(), truth()])
    predicted[0, 0] += 15
    predicted[1, 16:, 0] += 1000
    assert pck(predicted, both, 0.2) == pytest.approx(16 / 21)
    assert np.isnan(pck(predicted[:1], single, 0.2))
    # AUC in pixels has no box: the single keypoint counts.
    distances = keypoint_distances(predicted, both)
    assert MMPOSE.auc(distances, box_sizes(both)) < MMPOSE.auc(distances[1:], box_sizes(truth()))


def test_a_box_below_a_pixel_has_no_size():
    keypoints = np.zeros((2, 21, 3)) + (0, 0, 1)
    keypoints[:, 1:, 0] = [[0.5], [1]]
    np.testing.assert_array_equal(box_sizes(keypoints), [np.nan, 1])


def test_box_is_the_larger_side():
    upright = truth()[..., [1, 0, 2]]
    assert box_sizes(upright) == [100]
    assert box_sizes(np.concatenate([upright, truth() * (0.5, 0.5, 1)])).tolist() == [100, 50]


def test_pck_counts_strictly_within_the_threshold():
    predicted = truth()
    predicted[0, :10, 0] += 19.9
    predicted[0, 10:15, 0] += 20.1
    assert pck(predicted, truth(), 0.2) == pytest.approx(16 / 21)
    assert pck(truth(), truth(), 0.01) == 1
    far = truth()
    far[0, 3, 0] += 20
    assert pck(far, truth(), 0.2) == pytest.approx(20 / 21)  # exactly on the threshold is out


def test_missing_keypoints_are_not_counted():
    keypoints = truth()
    keypoints[0, 3] = -1, -1, 0
    predicted = truth()
    predicted[0, 3] = 1000, 1000, 1
    assert pck(predicted, keypoints, 0.2) == 1
    keypoints[..., 2] = 0
    assert np.isnan(pck(predicted, keypoints, 0.2))


def test_what_was_not_predicted_is_wrong_at_every_threshold():
    predicted, keypoints = truth(), truth()
    predicted[0, :7, :2] = np.nan
    keypoints[0, 6] = -1, -1, 0  # neither predicted nor labelled
    distances = keypoint_distances(predicted, keypoints)
    assert (
        np.isinf(distances[0, :6]).all()
        and np.isnan(distances[0, 6])
        and (distances[0, 7:] == 0).all()
    )
    assert pck(predicted, keypoints, 1e9) == pytest.approx(14 / 20)
    assert MMPOSE.pck(distances, box_sizes(keypoints), [1e9])[0] == pytest.approx(14 / 20)
    assert epe(distances) == 0  # of those that were predicted
    assert np.isnan(epe(distances[:, :7]))


def test_the_two_averages():
    """Keypoint 0 is right in 1 of 1 images, 1 in 1 of 3, and 2 is never labelled.

    That is 2 of 4 at once, and (1 + 1/3) / 2 by keypoint.
    """
    scaled = np.array([[0.0, 0.0, np.nan], [np.nan, 1.0, np.nan], [np.nan, np.inf, np.nan]])
    assert accuracies(scaled, [0.5], by_keypoint=False) == pytest.approx([0.5])
    assert accuracies(scaled, [0.5], by_keypoint=True) == pytest.approx([2 / 3])
    assert accuracies(scaled, [0.0, 1.0, 1.1], by_keypoint=False) == pytest.approx([0, 0.5, 0.75])
    assert (PAPER.by_keypoint, MMPOSE.by_keypoint) == (False, True)
    for by_keypoint in (False, True):
        assert np.isnan(accuracies(np.full((2, 3), np.nan), [0.1, 0.2], by_keypoint)).tolist() == [
            True,
            True,
        ]


def test_a_perfect_predictor():
    """MMPose's first threshold is 0, below which nothing lies: 19 of its 20."""
    distances, sizes = keypoint_distances(truth(), truth()), box_sizes(truth())
    assert MMPOSE.auc(distances, sizes) == pytest.approx(0.95)
    assert PAPER.auc(distances, sizes) == 1
    assert (PAPER.pck(distances, sizes, [0.01, 0.2]) == 1).all() and (
        MMPOSE.pck(distances, sizes, [0.01, 0.2]) == 1
    ).all()
    assert epe(distances) == 0


def test_auc_by_hand():
    """15 px are below i/20 of 30 px for i = 11..19; 25 of 100 px below i/200 for i = 51..100."""
    predicted = truth()
    predicted[..., 1] += 15
    assert MMPOSE.auc(keypoint_distances(predicted, truth()), box_sizes(truth())) == pytest.approx(
        9 / 20
    )
    predicted[..., 1] += 10
    assert PAPER.auc(keypoint_distances(predicted, truth()), box_sizes(truth())) == pytest.approx(
        50 / 100
    )


def test_epe_is_the_mean_over_all_labelled_keypoints():
    keypoints = np.concatenate([truth(), truth()])
    keypoints[1, 2:] = -1, -1, 0
    predicted = np.concatenate([truth(), truth()])
    predicted[0, :, :2] += 3, 4
    predicted[1, :, 0] += 28
    assert epe(keypoint_distances(predicted, keypoints)) == pytest.approx((21 * 5 + 2 * 28) / 23)


def mmpose_distances(predicted, keypoints, mask, normalize):
    """MMPose's _calc_distances: (K, N), -1 where the mask is off or the factor is not above 0."""
    mask = mask & (normalize > 0).all(axis=1)[:, None]
    distances = np.full(mask.shape, -1.0)
    distances[mask] = np.linalg.norm(
        (predicted - keypoints)[mask] / np.repeat(normalize[:, None], mask.shape[1], axis=1)[mask],
        axis=-1,
    )
    return distances.T


def mmpose_pck(predicted, keypoints, mask, threshold, normalize):
    """MMPose's keypoint_pck_accuracy: the mean accuracy of the keypoints that have data."""
    accuracy = []
    for of_keypoint in mmpose_distances(predicted, keypoints, mask, normalize):
        valid = of_keypoint[of_keypoint != -1]
        accuracy.append((valid < threshold).sum() / len(valid) if len(valid) else -1)
    accuracy = [share for share in accuracy if share >= 0]
    return sum(accuracy) / len(accuracy) if accuracy else 0


def mmpose_auc(predicted, keypoints, mask, normalize=30, steps=20):
    factors = np.tile([[normalize, normalize]], (len(keypoints), 1))
    return sum(
        mmpose_pck(predicted, keypoints, mask, 1.0 * step / steps, factors) / steps
        for step in range(steps)
    )


def mmpose_epe(predicted, keypoints, mask):
    distances = mmpose_distances(predicted, keypoints, mask, np.ones((len(keypoints), 2)))
    valid = distances[distances != -1]
    return valid.sum() / max(1, len(valid))


@settings(max_examples=80)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.floats(0.02, 1),
    st.floats(0, 80),
    st.floats(0.01, 1.5),
)
def test_mmpose_formulas(seed, images, share, error, threshold):
    """Random hands, some of whose labels, or all of a keypoint, are missing."""
    rng = np.random.default_rng(seed)
    keypoints = np.concatenate(
        [rng.uniform(0, 300, (images, 21, 2)), rng.uniform(size=(images, 21, 1)) < share], axis=2
    )
    keypoints[:, rng.integers(21), 2] = 0
    keypoints[0, :2, 2] = 1  # at least one has a label, and its box a size
    keypoints[(keypoints[..., 2] > 0).sum(axis=1) == 1, :, 2] = 0  # one has no box
    keypoints[keypoints[..., 2] == 0] = -1, -1, 0
    predicted = keypoints[..., :2] + rng.normal(0, error, (images, 21, 2))
    distances, sizes, mask = (
        keypoint_distances(predicted, keypoints),
        box_sizes(keypoints),
        keypoints[..., 2] > 0,
    )
    boxes = np.ones((images, 2))
    for image, (points, labelled) in enumerate(zip(keypoints[..., :2], mask)):
        if labelled.any():
            boxes[image] = max(1, *np.ptp(points[labelled], axis=0))
    assert MMPOSE.pck(distances, sizes, [threshold])[0] == pytest.approx(
        mmpose_pck(predicted, keypoints[..., :2], mask, threshold, boxes)
    )
    assert MMPOSE.auc(distances, sizes) == pytest.approx(
        mmpose_auc(predicted, keypoints[..., :2], mask)
    )
    assert epe(distances) == pytest.approx(mmpose_epe(predicted, keypoints[..., :2], mask))
    pooled = [distance < threshold for distance in (distances / sizes[:, None])[mask]]
    assert PAPER.pck(distances, sizes, [threshold])[0] == pytest.approx(sum(pooled) / len(pooled))


def test_conditions_say_what_is_computed():
    box = "larger side of the labelled keypoints' box"
    assert PAPER.conditions() == {
        "PCK": {"normaliser": box, "comparison": "<", "average": "all labelled keypoints"},
        "AUC": {
            "normaliser": box,
            "comparison": "<",
            "average": "all labelled keypoints",
            "thresholds": "0.005, 0.01 ... 0.5",
        },
    }
    assert MMPOSE.conditions() == {
        "PCK": {
            "normaliser": box,
            "comparison": "<",
            "average": "by keypoint, then over keypoints",
        },
        "AUC": {
            "normaliser": "30 px",
            "comparison": "<",
            "average": "by keypoint, then over keypoints",
            "thresholds": "0, 0.05 ... 0.95",
        },
    }


def test_iou():
    predicted, true = np.zeros((2, 10, 10), bool)
    assert iou(predicted, true) == 1
    predicted[:5], true[3:7] = True, True
    assert iou(predicted, true) == pytest.approx(2 / 7)


def test_average_precision_counts_the_images_that_reach_the_threshold():
    ious = np.array([0.2, 0.5, 0.74, 0.75, 0.9])
    assert [average_precision(ious, threshold) for threshold in (0.5, 0.75, 0.8)] == pytest.approx(
        [0.8, 0.4, 0.2]
    )
