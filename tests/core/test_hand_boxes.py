"""The maps of the box head: what it is to learn, and the boxes that its answers stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcc_caffe.core.hand_boxes import (
    LARGEST_HAND,
    SMALLEST_HAND,
    ScoredBoxes,
    box_areas,
    box_iou,
    cell_centres,
    covered_share,
    decode_boxes,
    encode_boxes,
    merge_boxes,
    nms_boxes,
    smaller_covered_share,
)

CELLS = 32  # an input of 256 x 256 pixels


def test_areas_of_boxes():
    assert box_areas(np.array([[1, 2, 4, 6], [0, 0, 5, 0]])).tolist() == [12, 0]


def test_box_iou_is_the_share_of_the_union_that_both_cover():
    assert box_iou(np.array([0, 0, 10, 10]), np.array([5, 0, 15, 10])) == pytest.approx(1 / 3)
    assert box_iou(np.array([0, 0, 10, 10]), np.array([20, 0, 25, 10])) == 0
    assert box_iou(np.zeros(4), np.zeros(4)) == 0


def test_one_box_is_compared_with_many():
    """Its right half, the square around it, its right neighbour, and a box without width."""
    box = np.array([0, 0, 10, 10])
    boxes = np.array([[5, 0, 10, 10], [-5, -5, 15, 15], [10, 0, 20, 10], [3, 3, 3, 3]])
    assert box_iou(box, boxes).tolist() == [0.5, 0.25, 0, 0]
    assert covered_share(boxes, box).tolist() == [1, 0.25, 0, 0]
    assert covered_share(box, boxes).tolist() == [0.5, 1, 0, 0]
    assert smaller_covered_share(box, boxes).tolist() == [1, 1, 0, 0]
    assert box_iou(boxes[:, None], boxes).shape == (4, 4)
    assert box_iou(box, boxes[:0]).shape == (0,)


def test_the_smaller_box_is_covered_by_the_same_share_in_either_order():
    small, large = np.array([0, 0, 10, 10]), np.array([5, 0, 105, 10])
    assert smaller_covered_share(small, large) == 0.5
    assert smaller_covered_share(large, small) == 0.5
    assert smaller_covered_share(np.zeros(4), small) == 0


def test_the_covered_share_is_one_of_the_first_box():
    assert covered_share(np.array([5, 0, 105, 10]), np.array([0, 0, 10, 10])) == 0.05


def test_of_overlapping_boxes_the_first_survives():
    boxes = [np.array(box) for box in ([0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10])]
    assert nms_boxes([*boxes, np.array([22, 2, 26, 6])], 0.5, 0.6) == [0, 2]
    assert nms_boxes([*boxes, np.array([22, 2, 26, 6])], 0.5, 1) == [0, 2, 3]


def answer(labels):
    """The maps of a head that has learnt the labels."""
    logits = np.where(labels.is_hand == 1, 4.0, -4.0)
    return np.concatenate([logits, labels.log_distances])


@settings(max_examples=60)
@given(
    st.floats(SMALLEST_HAND + 0.01, LARGEST_HAND - 0.01),
    st.floats(0.4, 1),
    st.booleans(),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_what_is_encoded_is_decoded(longer, ratio, is_wide, position):
    """Any box whose size the head finds comes back, exactly unless a side is within a pixel."""
    size = np.array([longer, longer * ratio] if is_wide else [longer * ratio, longer])
    corner = np.array(position) * (CELLS * 8 - 1 - size)
    box = np.concatenate([corner, corner + size])
    labels = encode_boxes(box[None], np.array([True]), CELLS, CELLS)
    decoded = decode_boxes(answer(labels), 0.5)
    assert len(decoded.boxes) >= 1
    assert np.abs(decoded.boxes - box).max() < (1e-3 if size.min() > 16 else 1)
    assert (decoded.scores > 0.9).all()


def test_outside_of_boxes_is_background_and_the_rest_of_a_box_teaches_nothing():
    box = np.array([80.0, 80, 160, 160])
    is_hand = encode_boxes(box[None], np.array([True]), CELLS, CELLS).is_hand[0]
    centres = cell_centres(CELLS)
    for row, y in enumerate(centres):
        for column, x in enumerate(centres):
            distance = max(abs(x - 120), abs(y - 120))
            expected = 1 if distance <= 20 else 255 if distance <= 40 else 0
            assert is_hand[row, column] == expected


@pytest.mark.parametrize(
    ("box", "is_clear"),
    [
        ([80, 80, 160, 160], False),
        ([100, 100, 100 + SMALLEST_HAND - 1, 110], True),
        ([10, 10, 10 + LARGEST_HAND + 1, 60], True),
    ],
)
def test_a_hand_that_is_cut_or_of_another_size_teaches_nothing(box, is_clear):
    labels = encode_boxes(np.array([box], float), np.array([is_clear]), CELLS, CELLS)
    assert set(np.unique(labels.is_hand)) == {0, 255} and not labels.log_distances.any()


def test_of_two_hands_that_overlap_each_has_its_own_middle():
    boxes = np.array([[40.0, 40, 120, 120], [100, 40, 180, 120]])
    for order in ([0, 1], [1, 0]):
        labels = encode_boxes(boxes[order], np.ones(2, bool), CELLS, CELLS)
        decoded = decode_boxes(answer(labels), 0.5).boxes
        for box in boxes:
            assert (np.abs(decoded - box).max(axis=1) < 1e-3).any()
        assert all(np.abs(boxes - box).max(axis=1).min() < 1e-3 for box in decoded)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_cell_in_the_middles_of_two_hands_belongs_to_the_nearer(order):
    """The hands' centres are at x = 80 and 110, the cells' at 91.5 and 99.5."""
    boxes = np.array([[40.0, 40, 120, 120], [70, 40, 150, 120]])
    labels = encode_boxes(boxes[order], np.ones(2, bool), CELLS, CELLS)
    to_the_left = 32 * np.exp(labels.log_distances[0, 9, 11:13])
    assert to_the_left == pytest.approx([91.5 - 40, 99.5 - 70])


@pytest.mark.parametrize("is_clear", [True, False])
def test_a_later_hand_leaves_the_middle_of_an_earlier_hand(is_clear):
    """The cell at (107.5, 91.5) is in the first hand's middle, and in the second hand's box."""
    boxes = np.array([[40.0, 40, 140, 140], [100, 40, 200, 140]])
    labels = encode_boxes(boxes, np.array([True, is_clear]), CELLS, CELLS)
    assert labels.is_hand[0, 11, 13] == 1


def test_a_box_outside_of_the_input_marks_no_cell():
    outside = np.array([[-60.0, 40, -20, 80]])
    assert not encode_boxes(outside, np.array([True]), CELLS, CELLS).is_hand.any()


def test_a_thin_hand_has_a_middle_and_finite_labels():
    """The cell's centre, x = 99.5 or 107.5, lies beside the box."""
    thin = np.array([[103.5, 40, 103.9, 80]])
    labels = encode_boxes(thin, np.array([True]), CELLS, CELLS)
    assert (labels.is_hand == 1).any() and np.isfinite(labels.log_distances).all()


def test_the_likeliest_box_comes_first_and_unlikely_ones_are_left_out():
    maps = np.full((5, 4, 6), -9.0)
    maps[0, 1, 2], maps[0, 3, 5] = 0.0, 2.0
    maps[1:] = 0
    decoded = decode_boxes(maps, 0.3)
    assert decoded.scores.tolist() == pytest.approx([1 / (1 + np.exp(-2)), 0.5])
    assert decoded.boxes.tolist() == [[11.5, -4.5, 75.5, 59.5], [-12.5, -20.5, 51.5, 43.5]]
    # The middle half of 64 x 64 pixels has 4 x 4 cells.
    assert decoded.votes == pytest.approx(decoded.scores / 16)
    assert len(decode_boxes(maps, 0.6).scores) == 1


@pytest.mark.parametrize("log_distance", [np.log(2 / 32), 1000], ids=["smallest", "largest"])
def test_the_smallest_and_the_largest_box_have_a_vote_of_at_most_1(log_distance):
    """The middle of a box of 4 x 4 pixels is a sixteenth of a cell."""
    maps = np.full((5, 4, 4), -9.0)
    maps[:, 1, 1] = 4, *[log_distance] * 4
    decoded = decode_boxes(maps, 0.5)
    assert np.isfinite(decoded.boxes).all() and 0 < decoded.votes[0] <= 1


def test_boxes_of_one_hand_become_their_mean_by_votes():
    """The first two are of one hand, the third lies in it, and the fourth is of another hand."""
    corners = [[0, 0, 100, 100], [0, 0, 100, 80], [10, 10, 40, 40], [200, 0, 260, 100]]
    scores, votes = np.array([0.9, 0.6, 0.8, 0.95]), np.array([1, 3, 0.2, 0.5])
    merged = merge_boxes(ScoredBoxes(np.array(corners, float), scores, votes))
    assert merged.boxes.tolist() == [[0, 0, 100, 85], [200, 0, 260, 100]]  # (100 + 3 x 80) / 4
    assert merged.scores.tolist() == [0.9, 0.95] and merged.votes.tolist() == [4, 0.5]
