"""Every hand of an image: proposals, what is left out, and the search as a user calls it."""

import time

import numpy as np
import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.geometry import apply
from mcc_caffe.core.hand_boxes import ScoredBoxes, box_iou, encode_boxes
from mcc_caffe.core.heatmaps import encode
from mcc_caffe.inference import proposals, scenes
from mcc_caffe.inference.engines.base import StageMaps
from mcc_caffe.inference.looks import LookAnswer
from mcc_caffe.inference.pose_reports import NetworkInfo, hand_records, image_report
from mcc_caffe.inference.proposals import Proposal, propose_boxes, propose_regions
from mcc_caffe.inference.pyramid import Octaves
from mcc_caffe.inference.scenes import (
    look_at_boxes,
    look_twice_at_boxes,
    nms_answers_by_box,
    nms_answers_by_keypoints,
    score_of_box,
    vote_bonus,
)
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import ROOT
from tests.support.hands import drawn_sample
from tests.support.rendered import render_hand, render_two_hands


@pytest.fixture(scope="module")
def predictor():
    return HandPredictor()


@pytest.fixture(scope="module")
def two_hands():
    """Two rendered hands in a grey image, and their keypoints (2, 21, 2)."""
    return render_two_hands()


def test_regions_of_the_mask_and_peaks_of_the_heatmaps_are_proposed():
    """A net that says mask in two places and knuckles in a third, over an image of 320 x 240."""

    def net(inputs):
        height, width = (side // 8 for side in inputs.shape[2:])
        masks = np.zeros((1, height, width), np.float32)
        heatmaps = np.zeros((1, 22, height, width), np.float32)
        if inputs.shape[3] == 320:
            masks[0, 5:10, 5:12] = 0.9
            masks[0, 20:26, 30:34] = 0.6
            knuckles = np.tile([240.0, 40.0, 1.0], (21, 1))
            heatmaps[0] = encode(knuckles, 40, 1.5)[:, :height]
        return StageMaps(masks, heatmaps)

    octaves = Octaves(np.zeros((240, 320, 3), np.uint8))
    boxes = [proposal.box for proposal in propose_regions(octaves, net)]
    for expected in (
        [40, 40, 96, 80],
        [240, 160, 272, 208],
        [192, -8, 288, 88],
        [80, 60, 240, 180],
    ):
        assert max(box_iou(np.array(expected), box) for box in boxes) > 0.85, expected
    assert len(boxes) == 4


def propose_with_votes(boxes, logit):
    """Propose boxes in an image of 640 x 480 of which all cells in their middles say so.

    They do so in the pass of 640 pixels alone, with the probability that the logit gives.
    """
    labels = encode_boxes(boxes, np.ones(len(boxes), bool), 60, 80)
    answer = np.concatenate([np.where(labels.is_hand == 1, logit, -20), labels.log_distances])

    def network(inputs):
        height, width = (side // 8 for side in inputs.shape[2:])
        nothing = np.full((1, 5, height, width), -20.0)
        return StageMaps(None, None, answer[None] if width == 80 else nothing)

    octaves = Octaves(np.zeros((480, 640, 3), np.uint8))
    return propose_boxes(octaves, octaves, network)


def test_a_hand_counts_by_its_votes_for_its_size():
    """The hands are .2 and .1 of the image's width: the votes are divided by 5.25 x that."""
    boxes = np.array([[335.5, 191.5, 463.5, 319.5], [95.5, 95.5, 159.5, 159.5]])
    smaller, larger = propose_with_votes(boxes, 20)
    assert np.stack([larger.box, smaller.box]) == pytest.approx(boxes, abs=1e-3)
    assert (smaller.strength, larger.strength) == pytest.approx((1 / 0.525, 1 / 1.05), rel=1e-3)


def test_the_size_for_which_votes_count_is_a_tenth_to_three_tenths_of_the_width(monkeypatch):
    """The image is 640 pixels wide, and each box has 2 votes."""
    sides = np.array([32.0, 64, 192, 384])
    boxes = np.column_stack([np.zeros((4, 2)), sides, sides])
    merged = ScoredBoxes(boxes, np.ones(4), np.full(4, 2.0))
    monkeypatch.setattr(proposals, "merge_boxes", lambda _: merged)
    strengths = [proposal.strength for proposal in propose_with_votes(boxes[:1], 20)]
    assert strengths == pytest.approx([2 / 0.525, 2 / 0.525, 2 / 1.575, 2 / 1.575])


@pytest.mark.parametrize("probability, is_proposed", [(0.74, True), (0.73, False)])
def test_a_hand_is_proposed_from_a_strength_of_seven_tenths_on(probability, is_proposed):
    """It has probability / (5.25 x .2). Where it is not, the middle of the image is a guess."""
    box = np.array([335.5, 191.5, 463.5, 319.5])
    (proposal,) = propose_with_votes(box[None], np.log(probability / (1 - probability)))
    assert proposal.is_guess is not is_proposed
    expected = box if is_proposed else [160, 120, 480, 360]
    assert proposal.box == pytest.approx(expected, abs=1e-3)


def test_boxes_in_the_grey_part_of_an_input_are_left_out():
    def network(inputs):
        height, width = (side // 8 for side in inputs.shape[2:])
        answer = np.full((1, 5, height, width), -20.0)  # no hand, or one of nearly no size
        answer[0, 0, :, -1] = 20
        return StageMaps(None, None, answer)

    octaves = Octaves(np.zeros((160, 97, 3), np.uint8))
    boxes = np.stack([proposal.box for proposal in propose_boxes(octaves, octaves, network)])
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_the_bonus_of_votes_has_a_most_and_a_guess_costs_a_quarter():
    box = np.zeros(4)
    assert vote_bonus(Proposal(box, 0.75)) == -1
    assert vote_bonus(Proposal(box, 1.5)) == 2
    assert vote_bonus(Proposal(box, 9)) == 4
    assert vote_bonus(Proposal(box, 9, is_guess=True)) == -0.25


def test_what_shows_a_known_hand_alone_is_not_looked_at():
    known = [np.array([0.0, 0, 100, 100])]
    same, part = [0, 0, 100, 190], [10, 10, 40, 40]
    larger, beside = [0, 0, 100, 210], [300, 0, 400, 100]  # the larger may show another hand, too
    shown = [Proposal(np.array(box), 1.0) for box in (same, part, larger, beside)]
    assert scenes._without_known(shown, known) == shown[2:]


def answer_at(x, score, box=None):
    points = np.linspace((x, 0), (x + 100, 100), 21)
    keypoints = np.column_stack([points, np.full(21, score)])
    box = None if box is None else np.array(box, float)
    return LookAnswer(keypoints, (), np.zeros((22, 1, 1)), np.eye(3)[:2], box)


def test_a_hand_that_two_boxes_lead_to_is_given_once():
    """The longer side is 100, so that keypoints within 10 are the same."""
    sure, doubled = answer_at(0, 0.9, (0, 0, 100, 100)), answer_at(6, 0.8, (60, 0, 160, 100))
    apart = answer_at(6, 0.7, (90, 0, 190, 100))  # IoU .05: another hand, whose look has strayed
    beside, guess = answer_at(12, 0.6, (0, 0, 100, 100)), answer_at(5, 0.5)
    answers = nms_answers_by_keypoints([guess, beside, apart, doubled, sure])
    assert [answer.score for answer in answers] == pytest.approx([0.9, 0.7, 0.6])


def test_a_look_that_strayed_says_nothing_of_its_box():
    """A rendered shoulder was called a hand by the score of the hand beside it."""
    inside, beside = (0, 0, 100, 100), (95, 0, 195, 100)  # the latter's IoU with the keypoints: .03
    assert score_of_box(answer_at(0, 0.8, inside)) == pytest.approx(0.8)
    assert score_of_box(answer_at(0, 0.8, beside)) == 0
    assert score_of_box(answer_at(0, 0.8)) == pytest.approx(0.8)


class NoImage:
    """Stands for a Looker of which only the proposals are asked."""

    def octaves(self, *, mirrored=False):
        return None


def fan(score, x=0):
    """A hand whose bones are all 25 pixels long."""
    answer = answer_at(x, score)
    angles = np.linspace(0, np.pi / 2, 5)
    directions = np.column_stack([np.cos(angles), np.sin(angles)])
    steps = 25 * np.arange(1, 5)[:, None] * directions[:, None]
    answer.keypoints[0, :2] = 0
    answer.keypoints[1:, :2] = steps.reshape(20, 2)
    answer.keypoints[:, 0] += x
    return answer


def torn_fan(score, x=0):
    """The same with a finger that reaches across the image."""
    answer = fan(score, x)
    answer.keypoints[8, 0] += 600
    return answer


class PreparedLooker:
    """Stands for a Looker: it gives prepared answers, and lists the looks."""

    image_size = 160, 120

    def __init__(self, *answers):
        self.answers, self.looks = list(answers), []

    def look(self, looks):
        self.looks += looks
        return [self.answers.pop(0) for _ in looks]


def test_the_first_look_at_a_box_has_the_centre_of_its_pixels():
    """Its 31 x 31 pixels from (10, 20) on have (25, 35) in their middle."""
    looker = PreparedLooker(fan(0.9), fan(0.9))
    look_at_boxes(looker, np.array([[10, 20, 31, 31]]))
    x, y, width, height = looker.looks[0].window
    assert (x + (width - 1) / 2, y + (height - 1) / 2) == (25, 35)


@pytest.mark.parametrize("answers", [(torn_fan(0.9), fan(0.5)), (fan(0.5), torn_fan(0.9))])
def test_of_two_looks_the_plausible_hand_decides(answers):
    proposal = Proposal(np.array([0.0, 0, 100, 100]), 1.0)
    (answer,) = look_twice_at_boxes(PreparedLooker(*answers), [proposal])
    assert np.array_equal(answer.keypoints, fan(0.5).keypoints)
    both_torn = PreparedLooker(torn_fan(0.9), torn_fan(0.5))
    assert look_twice_at_boxes(both_torn, [proposal])[0].score == pytest.approx(0.9)


def search_scores(monkeypatch, proposals, answers, **options):
    """The scores of the hands of a search with these proposals of the box head and answers."""
    monkeypatch.setattr(scenes, "propose_boxes", lambda *_: proposals)
    monkeypatch.setattr(scenes, "look_twice_at_boxes", lambda *_: answers)
    hands = scenes.find_hands(NoImage(), None, lambda _: None, **options)
    return [round(hand.score, 2) for hand in hands]


def test_a_search_keeps_what_has_enough_votes_and_each_hand_once(monkeypatch):
    boxes = np.array([[0.0, 0, 100, 100], [60, 0, 160, 100], [300, 0, 400, 100]])
    head_proposals = [Proposal(box, strength) for box, strength in zip(boxes, (2.0, 2.0, 0.75))]
    answers = [
        answer_at(x, score, box) for x, score, box in zip((0, 6, 300), (0.06, 0.05, 0.9), boxes)
    ]
    assert search_scores(monkeypatch, head_proposals, answers) == [0.06]
    scores = search_scores(monkeypatch, head_proposals, answers, score_threshold=-0.2)
    assert scores == [0.9, 0.06]  # 0.9 - 1 reaches it


@pytest.mark.parametrize(
    "answer, expected", [(fan(0.59), []), (fan(0.61), [0.61]), (torn_fan(0.9), [])]
)
def test_a_guess_needs_plausible_bones_and_a_higher_score(monkeypatch, answer, expected):
    guess = Proposal(np.array([0.0, 0, 100, 100]), 0.0, is_guess=True)
    assert search_scores(monkeypatch, [guess], [answer]) == expected


def test_a_hand_of_regions_needs_a_score_and_plausible_bones(monkeypatch):
    """Without a box head; the hand of .4 overlaps that of .5."""
    answers = [fan(0.5), fan(0.4, 5), fan(0.36, 300), fan(0.34, 600), torn_fan(0.9, 900)]
    monkeypatch.setattr(scenes, "propose_regions", lambda *_: [])
    monkeypatch.setattr(scenes, "look_twice_at_regions", lambda *_: answers)
    hands = scenes.find_hands(NoImage(), None, None)
    assert [round(hand.score, 2) for hand in hands] == [0.5, 0.36]


@pytest.mark.parametrize("width, height", [(4000, 3000), (4001, 3003), (1999, 7001), (640, 480)])
def test_a_pass_over_a_large_image_says_where_its_pixels_lie(width, height):
    """The pass is made from halves of the image, which leave odd last rows and columns out."""
    image = np.zeros((height, width, 3), np.uint8)
    left, top, side = width * 3 // 4, height * 2 // 3, min(width, height) // 5
    image[top : top + side, left : left + side] = 255
    network_inputs = []

    def network(batch):
        network_inputs.append(batch)
        return StageMaps(None, None)

    passes = proposals._passes(Octaves(image), network, (160, 320))
    for batch, (_, to_image) in zip(network_inputs, passes, strict=True):
        brightness = (batch[0, 0] * 256 + 128).clip(0, 255)
        brightness[brightness == 128] = 0  # the grey below and beside the image
        rows, columns = np.mgrid[: brightness.shape[0], : brightness.shape[1]]
        weights = brightness / brightness.sum()
        centre = np.array([[(columns * weights).sum(), (rows * weights).sum()]])
        expected = [left + (side - 1) / 2, top + (side - 1) / 2]
        np.testing.assert_allclose(apply(to_image, centre)[0], expected, atol=0.5)


def test_thin_images_are_searched(predictor):
    for width, height in ((20000, 3), (2, 9000), (1, 1)):
        image = np.full((height, width, 3), 90, np.uint8)
        assert predictor.predict_all(image) == []


def test_boxes_of_a_mirrored_image_are_mirrored(predictor):
    """So small an image is passed over at one scale, as it is and mirrored."""
    image = render_hand(9).image
    octaves = [Octaves(image), Octaves(image[:, ::-1])]
    boxes, mirrored = (
        np.array([proposal.box for proposal in propose_boxes(*pair, predictor.boxes_engine)])
        for pair in (octaves, octaves[::-1])
    )
    assert len(boxes) == 1 and boxes[0, 0] > 5
    expected = boxes.copy()
    expected[:, [2, 0]] = image.shape[1] - 1 - boxes[:, [0, 2]]
    assert np.allclose(mirrored, expected, atol=1e-3)


def test_of_overlapping_answers_the_most_confident_stays():
    answers = [answer_at(0, 0.5), answer_at(10, 0.9), answer_at(300, 0.4), answer_at(80, 0.6)]
    assert [answer.keypoints[0, 0] for answer in nms_answers_by_box(answers)] == [10, 80, 300]
    fingers = answer_at(330, 0.3)  # half as large, and inside of the hand at 300
    fingers.keypoints[:, :2] = 330 - 0.5 * (330 - fingers.keypoints[:, :2])
    fingers.keypoints[:, 1] = np.linspace(0, 50, 21)
    assert len(nms_answers_by_box([*answers, fingers])) == 3


def test_both_hands_of_an_image_are_found_and_none_where_there_is_none(predictor, two_hands):
    image, true_keypoints = two_hands
    hands = predictor.predict_all(image)
    assert len(hands) == 2 and hands[0].score >= hands[1].score
    centres = true_keypoints.mean(axis=1)
    for hand in hands:
        middle = hand.keypoints[:, :2].mean(axis=0)
        nearest = true_keypoints[np.linalg.norm(centres - middle, axis=1).argmin()]
        assert np.median(np.linalg.norm(hand.keypoints[:, :2] - nearest, axis=1)) < 8
        x, y, width, height = hand.box
        assert x - 1 <= middle[0] <= x + width and y - 1 <= middle[1] <= y + height
        assert hand.mask.shape == (480, 640) and hand.mask_box() is not None
        centre = hand.mask_box()[0] + hand.mask_box()[2] / 2
        assert abs(centre - middle[0]) < 60
    assert [hand.score for hand in predictor.predict_all(image, max_hands=1)] == [hands[0].score]
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    for empty in (noise, np.full((480, 640, 3), 128, np.uint8), np.zeros((1, 1, 3), np.uint8)):
        assert predictor.predict_all(empty) == []


def test_the_network_of_the_box_head_counts_as_network(predictor, two_hands, monkeypatch):
    engine, seconds = predictor.boxes_engine, []

    def timed(inputs):
        start = time.perf_counter()
        time.sleep(0.05)
        maps = engine(inputs)
        seconds.append(time.perf_counter() - start)
        return maps

    monkeypatch.setattr(predictor, "boxes_engine", timed)
    (hand, *_) = predictor.predict_all(two_hands[0])
    assert len(seconds) > 1 and sum(seconds) < hand.timings["network"] < hand.timings["total"]


def test_your_boxes_are_looked_at_in_their_order(predictor, two_hands):
    image, true_keypoints = two_hands
    boxes = [(*points.min(axis=0), *np.ptp(points, axis=0)) for points in true_keypoints]
    hands = predictor.predict_all(image, boxes=boxes[::-1])
    for hand, points in zip(hands, true_keypoints[::-1]):
        assert np.median(np.linalg.norm(hand.keypoints[:, :2] - points, axis=1)) < 8
    assert predictor.predict_all(image, boxes=[]) == []
    assert len(predictor.predict_all(image, boxes=[(300, 200, 20, 20)])) == 1  # no hand is there


def test_reports_keep_no_mask_in_memory(predictor, two_hands):
    """Of an image of 200 million pixels each mask takes 0.8 GB."""
    hands = predictor.predict_all(two_hands[0], boxes=[(60, 40, 160, 160), (420, 280, 160, 160)])
    report = image_report(hands, "", (640, 480), NetworkInfo({}, ""), one_hand=False)
    pixels = hand_records([(None, hands[0])], one_hand=False)[0].mask()
    assert report["hands"][0]["mask_box"] is not None and pixels.any()
    assert not any("mask" in vars(hand) for hand in hands)
    assert np.array_equal(pixels, hands[0].mask > 0.5)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([(0, 0, 10, 10), (5, 5, 0, 10)], "box 1 is x 5, y 5, width 0, height 10"),
        ([(900, 0, 10, 10)], "overlaps the image of 160 x 120 pixels"),
        ([(float("nan"), 0, 10, 10)], "box 0 is x nan"),
        ([(1, 2, 3)], r"boxes have the shape \(1, 3\)"),
        (
            [(0.3, 0.2, 0.4, 0.7), (0, 0, 1, 1)],
            "^all corners of the boxes lie between -1 and 1, as shares of the image's sides do: "
            "pixels are needed, multiply them by the image's width and height$",
        ),
    ],
)
def test_a_wrong_box_is_named(predictor, boxes, message):
    image = drawn_sample(np.random.default_rng(0), "x").image()
    with pytest.raises(UserError, match=message):
        predictor.predict_all(image, boxes=boxes)


def test_wrong_arguments_of_the_search_are_named(predictor, weights):
    image = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(UserError, match="max_hands=0: give a whole number above 0"):
        predictor.predict_all(image, max_hands=0)
    with pytest.raises(UserError, match="HxWx3 uint8 BGR is needed"):
        predictor.predict_all(image[..., 0])
    mask_only = ROOT / "prototxt/mini/deploy_without_pose.prototxt"
    with pytest.raises(UserError, match="no pose stage"):
        HandPredictor(weights, prototxt=mask_only).predict_all(image)
