"""Hands followed through a clip with the net: ids, cost, smoothing, one hand, none."""

import copy

import numpy as np
import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.evaluation.scene_runner import count_passes
from mcc_caffe.hand_tracker import HandTracker
from mcc_caffe.inference import tracking
from mcc_caffe.inference.looks import longer_side
from mcc_caffe.inference.presence import UNCALIBRATED, Calibration
from mcc_caffe.inference.scenes import SCORE_THRESHOLD
from mcc_caffe.inference.smoothing import FilterParameters, KeypointFilter
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import ROOT
from tests.support.rendered import render_hand, two_hands_side_by_side

FPS, FRAMES = 25, 4
GREY = np.full((360, 480, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def predictor():
    return HandPredictor(looks=1)


@pytest.fixture(scope="module")
def clip():
    """Frames of a rendered hand that moves right and one that moves left, and their keypoints."""
    sprites = [render_hand(seed) for seed in (2, 9)]
    frames, true_keypoints = [], []
    for n in range(FRAMES):
        image, of_frame = GREY.copy(), []
        for sprite, corner in zip(sprites, ((20 + 5 * n, 10), (310 - 5 * n, 190))):
            (x, y), (height, width) = corner, sprite.image.shape[:2]
            image[y : y + height, x : x + width] = sprite.image
            of_frame.append(sprite.keypoints + corner)
        frames.append(image)
        true_keypoints.append(np.stack(of_frame))
    return frames, np.stack(true_keypoints)


def test_a_net_without_pose_stage_is_refused(weights):
    net = ROOT / "prototxt/mini/deploy_without_pose.prototxt"
    with pytest.raises(UserError, match="no pose stage"):
        HandTracker(HandPredictor(weights, prototxt=net))


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"smooth": "no"}, "^smooth='no': give True or False"),
        ({"one_hand": "x"}, "^one_hand='x': give True or False"),
        ({"one_hand": True, "every_frame": None}, "^every_frame=None: give True or False"),
    ],
)
def test_flags_of_other_types_are_refused(predictor, flags, message):
    with pytest.raises(UserError, match=message):
        HandTracker(predictor, **flags)


def test_flags_may_be_those_of_numpy_or_0_and_1(predictor):
    assert HandTracker(predictor, one_hand=np.bool_(True), smooth=0).smoothing is None


def nearest(true_keypoints, keypoints):
    """Index of the true hand that keypoints are of; none may be far from it."""
    distances = np.median(np.linalg.norm(true_keypoints - keypoints[:, :2], axis=2), axis=1)
    assert distances.min() < 10
    return int(distances.argmin())


def test_hands_keep_their_ids_at_less_than_half_a_pass_each(clip, predictor, monkeypatch):
    frames, true_keypoints = clip
    for name in ("engine", "boxes_engine"):  # count_passes replaces them
        monkeypatch.setattr(predictor, name, getattr(predictor, name))
    engine, _ = count_passes(predictor)
    tracker, hand_of_id = HandTracker(predictor), {}
    for n, frame in enumerate(frames):
        before = engine.passes
        hands = tracker.follow(frame, n / FPS)
        assert [hand.id for hand in hands] == [1, 2]
        for hand in hands:
            true_hand = hand_of_id.setdefault(
                hand.id, nearest(true_keypoints[n], hand.raw_keypoints)
            )
            assert nearest(true_keypoints[n], hand.pose.keypoints) == true_hand
        assert n == 0 or engine.passes - before == pytest.approx(2 * (144 / 208) ** 2)
    assert sorted(hand_of_id.values()) == [0, 1]
    alike = predictor.predict_all(frames[0])
    first = HandTracker(predictor).follow(frames[0], 0)
    assert {hand.pose.score for hand in first} == {hand.score for hand in alike}


def test_keypoints_are_smoothed_and_the_raw_ones_stay(clip, predictor):
    frames, _ = clip
    smooth, rough = HandTracker(predictor), HandTracker(predictor, smooth=False)
    was_present, filters = {}, {}
    for n, frame in enumerate(frames):
        for hand, other in zip(smooth.follow(frame, n / FPS), rough.follow(frame, n / FPS)):
            assert (hand.raw_keypoints == other.pose.keypoints).all()
            raw, side = hand.raw_keypoints[:, :2], longer_side(hand.raw_keypoints)
            own_filter = filters.setdefault(hand.id, KeypointFilter(FilterParameters()))
            expected = own_filter.smooth(raw, hand.pose.present, time=n / FPS, side=side)
            assert hand.pose.keypoints[:, :2] == pytest.approx(expected)
            differs = (hand.pose.keypoints[:, :2] != other.pose.keypoints[:, :2]).any(axis=1)
            # A keypoint that was not present in the frame before has nothing to be smoothed with.
            before = was_present.get(hand.id, np.zeros(21, bool))
            assert (differs == (hand.pose.present & before)).all()
            was_present[hand.id] = hand.pose.present
            assert (hand.pose.keypoints[:, 2] == other.pose.keypoints[:, 2]).all()
    assert smooth.smoothing is not None and rough.smoothing is None


def test_one_hand_is_followed_and_without_one_the_single_pass_counts(clip, predictor):
    frames, _ = clip
    image = frames[0][:190, :240]
    tracker = HandTracker(predictor, one_hand=True)
    for time in (0, 0.04):
        (hand,) = tracker.follow(image, time)
        assert hand.id == 1 and hand.pose.method == "tracking"
    grey = GREY[:190, :240]
    (nothing,) = tracker.follow(grey, 0.08)
    assert nothing.id is None and not nothing.pose.present.any()
    assert np.array_equal(nothing.pose.keypoints, predictor.predict(grey).keypoints)
    (hand,) = tracker.follow(image, 0.12)
    assert hand.id == 1
    # It is smoothed with what was there before.
    assert (hand.pose.keypoints != hand.raw_keypoints).any()
    for n in range(4):
        tracker.follow(grey, 0.5 * n + 0.16)
    assert tracker.follow(image, 9)[0].id == 2


def test_a_followed_hand_is_present_however_low_its_score_is(clip, monkeypatch):
    """What is surely no hand needs the score of a look to be one."""
    predictor, image = HandPredictor(looks=1), clip[0][0][:190, :240]
    predictor.calibration = Calibration(0.99, 0.99, 0.99, 0.99, 0)
    (followed,) = HandTracker(predictor, one_hand=True).follow(image, 0)
    monkeypatch.setattr("mcc_caffe.hand_tracker.is_sure", lambda _: False)
    (unsure,) = HandTracker(predictor, one_hand=True).follow(image, 0)
    assert np.array_equal(followed.raw_keypoints, unsure.raw_keypoints)
    assert (followed.id, followed.pose.hand_present) == (1, True)
    assert (unsure.id, unsure.pose.hand_present) == (None, False)


def test_of_two_hands_side_by_side_one_is_followed(predictor):
    """A pass over all of the frame sees fingers of both in one answer."""
    image, width = two_hands_side_by_side()
    mixed = predictor.predict(image)
    assert 2 <= (mixed.keypoints[:, 0] < width).sum() <= 19 and mixed.score > SCORE_THRESHOLD
    tracker = HandTracker(predictor, one_hand=True)
    for time in (0, 0.04):
        (hand,) = tracker.follow(image, time)
        assert hand.id == 1 and hand.pose.hand_present
        assert len(set(hand.raw_keypoints[:, 0] > width)) == 1


def test_two_hands_are_not_searched_with_weights_without_minimum_scores():
    predictor = HandPredictor(looks=1)
    predictor.calibration = UNCALIBRATED
    engine, boxes_engine = count_passes(predictor)
    (hand,) = HandTracker(predictor, one_hand=True).follow(two_hands_side_by_side()[0], 0)
    assert hand.id is None and hand.pose.hand_present
    assert (engine.passes, boxes_engine.passes) == (1, 0)


def test_two_hands_are_not_searched_where_one_is_followed(monkeypatch):
    """Every third frame, here, has a pass over all of it, which looks for a better hand."""
    monkeypatch.setattr(tracking, "SEARCH_INTERVAL", 3)
    predictor = HandPredictor(looks=1)
    engine, boxes_engine = count_passes(predictor)
    image, width = two_hands_side_by_side()
    single = image.copy()
    single[:, :width] = 128
    tracker = HandTracker(predictor, one_hand=True)
    (first,) = tracker.follow(single, 0)
    has_searched = []
    for n in range(1, 5):
        before = engine.passes
        (hand,) = tracker.follow(image, n / FPS)
        assert hand.id == first.id == 1 and engine.passes - before < 2
        has_searched.append(engine.passes - before > 1)
    assert has_searched == [False, False, True, False] and boxes_engine.passes == 0


def test_every_frame_may_be_looked_at_as_before(clip, predictor):
    frames, _ = clip
    tracker = HandTracker(predictor, one_hand=True, every_frame=True, smooth=False)
    grey = GREY[:190, :240]
    for n, frame in enumerate((frames[0][:190, :240], frames[1][:190, :240], grey)):
        (hand,) = tracker.follow(frame, n / FPS)
        assert np.array_equal(hand.pose.keypoints, predictor.predict(frame).keypoints)
        assert hand.id == (None if frame is grey else 1)


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"one_hand": True}, {"one_hand": True, "every_frame": True}]
)
def test_what_a_caller_does_with_keypoints_changes_no_later_frame(clip, predictor, options, smooth):
    """Such as dividing them by the image's sides, in place."""
    followed = []
    for divisor in (1, (480, 360)):
        tracker = HandTracker(predictor, smooth=smooth, **options)
        for n, frame in enumerate(clip[0]):
            hands = tracker.follow(frame[:190, :240], n / FPS)
            followed.append([(hand.id, hand.raw_keypoints.copy()) for hand in hands])
            for hand in hands:
                assert not np.shares_memory(hand.raw_keypoints, hand.pose.keypoints)
                hand.raw_keypoints[:, :2] /= divisor
                hand.pose.keypoints[:, :2] /= divisor
    for expected, hands in zip(followed[:FRAMES], followed[FRAMES:]):
        assert [track_id for track_id, _ in hands] == [1] == [track_id for track_id, _ in expected]
        assert np.array_equal(hands[0][1], expected[0][1])


def test_a_tracker_is_not_copied(predictor):
    with pytest.raises(TypeError, match="cannot be copied: make a new one for each video"):
        copy.copy(HandTracker(predictor))


def test_the_box_of_a_hand_that_is_searched_in_every_frame_goes_around_its_keypoints():
    frame = np.full((600, 800, 3), 128, np.uint8)
    sprite = render_hand(8, side=50).image
    height, width = sprite.shape[:2]
    frame[300 : 300 + height, 500 : 500 + width] = sprite
    predictor = HandPredictor()
    assert predictor.predict(frame).detected_box is not None
    (hand,) = HandTracker(predictor, one_hand=True, every_frame=True).follow(frame, 0)
    assert hand.pose.method == "search" and hand.pose.detected_box is None


@pytest.mark.parametrize("options", [{"looks": 4}, {"levels": 2}])
def test_a_hand_is_followed_from_the_score_that_its_way_of_looking_needs(clip, options):
    frame = clip[0][0][:190, :240]
    predictor = HandPredictor(**options)
    score = predictor.predict(frame).score
    assert score > SCORE_THRESHOLD
    for least, track_id in ((score - 1e-3, 1), (score + 1e-3, None)):
        predictor.calibration = Calibration(least, least, least, least, 0)
        tracker = HandTracker(predictor, one_hand=True, every_frame=True)
        for n in range(2):
            (hand,) = tracker.follow(frame, n / FPS)
            assert hand.id == track_id and hand.pose.present.any() == bool(track_id)


def test_every_frame_without_one_hand_is_refused(predictor):
    with pytest.raises(UserError, match="every_frame=True with one_hand=False.*one_hand=True"):
        HandTracker(predictor, every_frame=True)


def test_what_is_no_predictor_is_refused():
    with pytest.raises(UserError, match="predictor=None: give a HandPredictor"):
        HandTracker(None)


def test_frames_have_one_size_and_times_that_do_not_go_back(predictor):
    tracker = HandTracker(predictor)
    for time in (1, 1, 1.5):
        assert tracker.follow(GREY, time) == []
    with pytest.raises(UserError, match=r"shape \(100, 480, 3\), those before it \(360, 480, 3\)"):
        tracker.follow(GREY[:100], 2)
    with pytest.raises(UserError, match="time=1.25: the frame before was shown at 1.5"):
        tracker.follow(GREY, 1.25)
    assert tracker.follow(GREY, 2) == []


def test_a_frame_that_could_not_be_looked_at_does_not_count(predictor, monkeypatch):
    tracker = HandTracker(predictor)

    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(HandPredictor, "search", fail)
        with pytest.raises(MemoryError):
            tracker.follow(GREY, 9)
    assert tracker.follow(GREY[:100], 1) == []


def test_without_hands_there_are_none(predictor):
    tracker = HandTracker(predictor)
    assert [tracker.follow(GREY, n / FPS) for n in range(3)] == [[], [], []]
    with pytest.raises(UserError, match="time=nan: give a finite number"):
        tracker.follow(np.zeros((8, 8, 3), np.uint8), float("nan"))
    with pytest.raises(UserError, match="HxWx3 uint8 BGR is needed"):
        tracker.follow(GREY[..., 0], 1)


def test_a_hand_that_leaves_is_waited_for_at_the_border(clip, predictor):
    """The square around where it should be stays over the image."""
    frames, true_keypoints = clip
    sprite = frames[0][10:170, 20:180]
    tracker = HandTracker(predictor)
    for n, x in enumerate((270, 310, 480, 480)):
        image = GREY.copy()
        width = min(160, 480 - x)
        image[40:200, x : x + width] = sprite[:, :width]
        hands = tracker.follow(image, n / FPS)
        assert [hand.id for hand in hands] == ([1] if n < 2 else [])
