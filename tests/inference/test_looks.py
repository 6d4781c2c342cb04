"""Looks: squares around the hand, as they are and mirrored, and where their answers lie."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.geometry import apply, invert, shrink_factor
from mcc_caffe.core.heatmaps import encode
from mcc_caffe.inference.engines.base import StageMaps
from mcc_caffe.inference.looks import (
    SECOND_LOOK_FACTOR,
    Look,
    LookAnswer,
    Looker,
    fuse_answers,
    keypoints_box,
    look_in_all_directions,
    look_several_times,
    square_window,
    upright_look,
)
from mcc_caffe.inference.proposals import Proposal
from mcc_caffe.inference.pyramid import MaskCells, mask_in_image, window_map
from mcc_caffe.inference.scenes import (
    look_at_boxes,
    look_twice_at_boxes,
    look_twice_at_regions,
)
from mcc_caffe.paper import MINI
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import ROOT
from tests.support.hands import drawn_sample
from tests.support.rendered import render_hand

SIZE = MINI.input_size


def answers_for(image_size, looks, keypoints_xyv):
    """What a net would answer that draws the right heatmaps of 21 keypoints in every look."""
    width, height = image_size
    image = np.zeros((height, width, 3), np.uint8)
    maps: list = []
    to_inputs = [
        answer.image_to_input
        for answer in Looker(
            image, SIZE, lambda inputs: StageMaps(None, np.zeros((len(inputs), 22, 16, 16), "f4"))
        ).look(looks)
    ]
    for image_to_input in to_inputs:
        inside = keypoints_xyv.copy()
        inside[:, :2] = apply(image_to_input, inside[:, :2])
        maps.append(encode(inside, SIZE // 8, 1.5))
    return Looker(image, SIZE, lambda inputs: StageMaps(None, np.stack(maps))).look(looks)


@settings(max_examples=80)
@given(st.integers(40, 3000), st.integers(40, 3000), st.booleans(), st.data())
def test_a_point_goes_into_a_look_and_back(width, height, mirrored, data):
    """The map to the input and back is exact to a hundredth of a pixel for any window."""
    corners = np.sort(
        [data.draw(st.tuples(*[st.floats(0, side - 1)] * 2)) for side in (width, height)]
    )
    box = corners.T.ravel()
    look = Look(square_window(box, SECOND_LOOK_FACTOR))
    if mirrored:
        look = look.mirror(width)
    window = look.window
    answer = answers_for((width, height), [look], np.zeros((21, 3)))[0]
    points = box.reshape(2, 2)
    inside = apply(answer.image_to_input, points)
    assert (inside >= -1e-6).all() and (inside <= SIZE).all()  # the square holds the box
    assert np.abs(apply(invert(answer.image_to_input), inside) - points).max() < 0.01
    # The input's own geometry: pixel 0 of the window is at 0, and a pixel of the window is
    # SIZE / side of the input; a mirrored look shows column W - 1 - x of the image at x.
    x = width - 1 - points[:, 0] if mirrored else points[:, 0]
    by_hand = (np.column_stack([x, points[:, 1]]) - window[:2]) * SIZE / window[2]
    assert np.abs(by_hand - inside).max() * window[2] / SIZE < 0.01


def square_look(keypoints):
    return Look(square_window(keypoints_box(keypoints), SECOND_LOOK_FACTOR))


def turned_look(keypoints):
    look = upright_look(keypoints, SECOND_LOOK_FACTOR, (320, 200))
    assert 20 < look.turn < 70
    return look


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("make_look", [square_look, turned_look])
def test_keypoints_come_back_from_a_look_to_their_place_in_the_image(make_look, mirrored):
    keypoints = np.column_stack([np.linspace(120, 180, 21), np.linspace(90, 40, 21), np.ones(21)])
    look = make_look(keypoints)
    if mirrored:
        look = look.mirror(320)
    answer = answers_for((320, 200), [look], keypoints)[0]
    within = 4 * shrink_factor(answer.image_to_input)
    assert np.abs(answer.keypoints[:, :2] - keypoints[:, :2]).max() < within
    assert answer.score > 0.8


def test_the_net_sees_the_mirror_image_and_grey_outside_of_the_image():
    image = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    inputs = []

    def run(batch):
        inputs.append(batch.copy())
        return StageMaps(None, np.zeros((len(batch), 22, 16, 16), np.float32))

    full = np.array([0.0, 0, SIZE, SIZE])
    shifted = np.array([-40.0, 0, SIZE, SIZE])
    Looker(image, SIZE, run).look([Look(full), Look(full, True), Look(shifted)])
    assert len(inputs) == 1, "looks go through the net together"
    plain, mirrored, moved = inputs[0]
    assert np.allclose(plain, (image.transpose(2, 0, 1) - 128.0) / 256)
    assert (mirrored == plain[:, :, ::-1]).all()
    assert (moved[:, :, :40] == 0).all() and (moved[:, :, 40:] == plain[:, :, :-40]).all()


def test_no_keypoint_lies_outside_of_the_image():
    """A map peaks in the grey part of a look; its best pixel inside the image counts."""
    keypoints = np.tile([-20.0, 50.0, 1.0], (21, 1))
    window = np.array([-60.0, 0, 128, 128])
    answer = answers_for((200, 128), [Look(window)], keypoints)[0]
    assert (answer.keypoints[:, 0] == 0).all() and np.abs(answer.keypoints[:, 1] - 50).max() <= 4


def test_a_box_is_drawn_around_the_confident_keypoints():
    keypoints = np.column_stack([np.arange(21.0), 2.0 * np.arange(21), np.full(21, 0.1)])
    assert keypoints_box(keypoints).tolist() == [0, 0, 20, 40]
    keypoints[5:12, 2] = 0.9
    assert keypoints_box(keypoints).tolist() == [5, 10, 11, 22]


@settings(max_examples=100)
@given(
    st.integers(10, 2000),
    st.lists(st.floats(0, 1999), min_size=2, max_size=2, unique=True),
    st.floats(0, 900),
)
def test_the_square_of_a_mirrored_box_is_the_mirrored_square(width, xs, top):
    left, right = min(xs), max(xs)
    square = square_window(np.array([left, top, right, top + 30]), SECOND_LOOK_FACTOR)
    other = square_window(
        np.array([width - 1 - right, top, width - 1 - left, top + 30]), SECOND_LOOK_FACTOR
    )
    assert (other == Look(square).mirror(width).window).all()


@pytest.mark.parametrize(
    ("knuckle", "turn"), [((140, 60), 45), ((100, 140), 180), ((61, 100), -90)]
)
def test_a_hand_points_up_in_its_look(knuckle, turn):
    """The wrist is at (100, 100) of an image of 301 x 201; in the input it lies below the rest."""
    keypoints = np.array([(100.0, 100, 1), *[(*knuckle, 1.0)] * 20])
    look = upright_look(keypoints, SECOND_LOOK_FACTOR, (301, 201))
    assert look.turn == turn
    for shown, points in (
        (look, keypoints[:, :2]),
        (look.mirror(301), (300, 0) + (-1, 1) * keypoints[:, :2]),
    ):
        wrist, *others = apply(shown.image_to_input((301, 201), SIZE), points)
        assert np.allclose(others, (wrist[0], wrist[1] - SIZE / SECOND_LOOK_FACTOR), atol=3)
    keypoints[0, 2] = 0.1  # the net is not confident of the wrist
    assert upright_look(keypoints, SECOND_LOOK_FACTOR, (301, 201)).turn == 0


@given(st.integers(3, 900), st.integers(3, 900), st.sampled_from([90, 180, 270]), st.booleans())
def test_a_turned_look_shows_the_same_part_turned(width, height, angle, mirrored):
    look = Look(np.array([0.0, 0, width, height]), mirrored)
    size = width, height
    corners = np.array([(0.0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)])
    before = apply(look.image_to_input(size, SIZE), corners)
    after = apply(look.turned(angle, size).image_to_input(size, SIZE), corners)
    for start, end in ((0, 1), (1, 2), (2, 3)):
        x, y = before[end] - before[start]
        assert np.allclose(
            after[end] - after[start], {90: (y, -x), 180: (-x, -y), 270: (-y, x)}[angle]
        )
    # As before, the corners lie in the input, the first one that the net sees in its first pixel.
    assert np.allclose(after.min(axis=0), before.min(axis=0))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_hand_is_looked_at_in_the_direction_in_which_the_net_is_sure_of_it(quarters):
    """A rendered hand that points up, in a wider image that is turned by 90, 180 or 270."""
    rendered = render_hand(2)
    height, width = rendered.image.shape[:2]
    image = np.full((220, 420, 3), 128, np.uint8)
    image[10 : 10 + height, 60 : 60 + width] = rendered.image
    x, y = (rendered.keypoints + (60, 10)).T
    turned = np.ascontiguousarray(np.rot90(image, quarters))
    true_keypoints = np.column_stack(
        {1: (y, 419 - x), 2: (419 - x, 219 - y), 3: (219 - y, x)}[quarters]
    )

    pose = HandPredictor(looks=4).predict(turned)
    distances = np.linalg.norm(pose.keypoints[:, :2] - true_keypoints, axis=1)
    assert np.median(distances) < 8
    upright_pose = HandPredictor(looks=4).predict(image)
    assert pose.score == pytest.approx(upright_pose.score, abs=0.05)
    drawn = np.rot90(pose.mask, -quarters)
    assert np.abs(drawn - upright_pose.mask).mean() < 0.01


def answer_of(points, confidence, mask=0.0):
    """What a look says: points (21, 2) of one confidence, and a mask that is the same anywhere."""
    image_to_input = window_map((0, 0, 128, 128), 128)
    masks = (MaskCells(np.full((16, 16), mask, np.float32), image_to_input),)
    keypoints = np.column_stack([points, np.full(21, confidence)])
    return LookAnswer(keypoints, masks, np.zeros((22, 16, 16), np.float32), image_to_input)


def test_looks_that_agree_are_averaged():
    """The hand's longer side is 100 pixels, so that 15 are near enough."""
    points = np.column_stack([np.linspace(0, 100, 21), np.linspace(0, 50, 21)])
    near, swapped = points + (8, 0), points[::-1]
    near[5] = points[5] + (16, 0)  # of this keypoint they do not agree
    answers = [answer_of(near, 0.3, 0.4), answer_of(points, 0.6, 0.8), answer_of(swapped, 0.5)]
    answer = fuse_answers(answers)
    expected = points + (8 * 0.3 / (0.3 + 0.6), 0)
    expected[5] = points[5]
    middle = 10  # where the swapped hand agrees
    expected[middle] = (0.3 * near[middle] + 0.6 * points[middle] + 0.5 * swapped[middle]) / 1.4
    others = [index for index in range(21) if np.hypot(*(swapped - points)[index]) > 15]
    assert len(others) == 18
    np.testing.assert_allclose(answer.keypoints[others, :2], expected[others])
    np.testing.assert_allclose(answer.keypoints[middle, :2], expected[middle])
    assert (answer.keypoints[:, 2] == 0.6).all() and answer.score == pytest.approx(0.6)
    # The mask of the swapped hand does not count.
    assert [mask.cells[0, 0] for mask in answer.masks] == [np.float32(0.8), np.float32(0.4)]


def test_looks_that_are_sure_of_nothing_give_the_most_confident():
    points = np.zeros((21, 2))
    answer = fuse_answers([answer_of(points, -0.2), answer_of(points + 0.1, -0.1)])
    assert np.isfinite(answer.keypoints).all() and (answer.keypoints[:, 2] == -0.1).all()
    np.testing.assert_allclose(answer.keypoints[:, :2], 0.05)


def draw_positions(side):
    """An image whose pixels say where they are: blue is x, green is y."""
    image = np.zeros((side, side, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(side), np.arange(side)[:, None]
    return image


class NetWithFirstImpression:
    """Draws heatmaps for parts of `draw_positions`, of the whole image other ones and less sure.

    Attributes:
        first, later: (21, 3) keypoints that it sees in the whole image, and in its parts.
        later_height: The height of the maps' peaks in the parts; in the whole image it is 0.8.
        batches: The numbers of inputs that it got.
    """

    def __init__(self, first, later, later_height=1.0):
        self.first, self.later, self.later_height = first, later, later_height
        self.batches = []

    def __call__(self, inputs):
        self.batches.append(len(inputs))
        return StageMaps(None, np.stack([self._answer(pixels * 256 + 128) for pixels in inputs]))

    def _answer(self, pixels):
        is_first = len(self.batches) == 1
        maps = draw_maps(pixels, self.first if is_first else self.later)
        return maps * np.float32(0.8 if is_first else self.later_height)


class NetForHandsThatPointRight:
    """Draws heatmaps for parts of `draw_positions`, faint ones where right is not to the right.

    Attributes:
        keypoints: (21, 3), those of the hand.
        batches: The numbers of inputs that it got.
    """

    def __init__(self, keypoints):
        self.keypoints, self.batches = keypoints, []

    def __call__(self, inputs):
        self.batches.append(len(inputs))
        return StageMaps(None, np.stack([self._answer(pixels * 256 + 128) for pixels in inputs]))

    def _answer(self, pixels):
        grows_to_right = pixels[0, 70, 120] > pixels[0, 70, 70]
        return draw_maps(pixels, self.keypoints) * np.float32(1 if grows_to_right else 0.4)


def draw_maps(pixels, keypoints):
    """The heatmaps of keypoints in the image of `draw_positions`, for an input that shows a part.

    Args:
        pixels: (3, m, m) of the input, 0 to 255.
        keypoints: (21, 3) in pixels of the image.
    """
    middle, step = SIZE // 2, 50
    position = pixels[:2, middle, middle]
    to_right = (pixels[:2, middle, middle + step] - position) / step  # image pixels
    down = (pixels[:2, middle + step, middle] - position) / step
    image_to_input = np.linalg.inv(np.column_stack([to_right, down]))
    inside = keypoints.copy()
    inside[:, :2] = middle + (keypoints[:, :2] - position) @ image_to_input.T
    return encode(inside, SIZE // 8, 1.5)


def test_a_hand_that_lies_elsewhere_than_the_square_is_looked_at_once_more():
    line = np.linspace(0, 1, 21)
    hand = np.column_stack([60 + 90 * line, 70 + 100 * line, np.ones(21)])
    palm = np.column_stack([74 + 63 * line, 85 + 70 * line, np.ones(21)])
    moved = hand + (2, 2, 0)  # its box overlaps the first one's by 0.93
    for count, inputs in ((2, 1), (4, 2)):
        for first, crops in ((hand, 1), (moved, 1), (palm, 2)):
            net = NetWithFirstImpression(first, hand)
            looker = Looker(draw_positions(240), SIZE, net)
            answer = look_several_times(looker, count)
            assert net.batches == [1] + [inputs] * crops
            assert np.abs(answer.keypoints[:, :2] - hand[:, :2]).max() < 4


@pytest.mark.parametrize(("later_height", "answers"), [(0.65, "later"), (0.5, "both")])
def test_the_first_answer_counts_where_the_net_is_far_less_sure_of_the_square(
    later_height, answers
):
    """The first look has 0.8. The keypoints of the two at squares lie 12 pixels to the right."""
    line = np.linspace(0, 1, 21)
    first = np.column_stack([60 + 90 * line, 70 + 100 * line, np.ones(21)])
    later = first + (12, 0, 0)
    net = NetWithFirstImpression(first, later, later_height)
    answer = look_several_times(Looker(draw_positions(240), SIZE, net), 2)
    assert net.batches == [1, 1, 1]
    height = {"later": later_height, "both": 0.8}[answers]
    assert answer.score == pytest.approx(height, abs=0.05)
    share = {"later": 1, "both": 2 * later_height / (0.8 + 2 * later_height)}[answers]
    shift = (answer.keypoints - first)[:, 0].mean()
    assert shift == pytest.approx(12 * share, abs=1)


LARGE_BOX = np.array([60.0, 60, 180, 180])


@pytest.mark.parametrize(
    "look, mask_count",
    [
        (lambda looker: [look_several_times(looker, 2)], 2),
        (lambda looker: [look_several_times(looker, 4)], 3),
        (lambda looker: look_at_boxes(looker, np.array([[60.0, 60, 120, 120]])), 2),
        (lambda looker: look_twice_at_boxes(looker, [Proposal(LARGE_BOX, 1.0)]), 2),
        (lambda looker: look_twice_at_regions(looker, [Proposal(LARGE_BOX, 1.0)]), 2),
    ],
    ids=["two looks", "four looks", "boxes", "proposed boxes", "proposed regions"],
)
def test_the_mask_ends_near_the_square(look, mask_count):
    """The net sees a mask everywhere; the hand lies in the middle."""
    line = np.linspace(0, 1, 21)
    hand = np.column_stack([100 + 30 * line, 100 + 40 * line, np.ones(21)])
    net = NetWithFirstImpression(hand, hand)

    def net_with_mask(inputs):
        return net(inputs)._replace(masks=np.ones((len(inputs), SIZE // 8, SIZE // 8), np.float32))

    (answer,) = look(Looker(draw_positions(240), SIZE, net_with_mask))
    assert len(answer.masks) == mask_count
    mask = mask_in_image(answer.masks, (240, 240))
    # The square's half side is 0.85 x 50 pixels, half its diagonal 60; the mask may reach 15 pixels
    # further, and a cell of the first look has 15.
    np.testing.assert_allclose(mask[100:140, 95:135], 1, atol=0.01)
    mask[20:230, 15:225] = 0
    assert mask.max() < 0.1


def test_only_unsure_looks_are_taken_in_all_directions():
    """The net is sure of what points right in its input, of the second look as it is."""
    line = np.linspace(0, 1, 21)
    hand = np.column_stack([60 + 90 * line, np.full(21, 70.0), np.ones(21)])
    net = NetForHandsThatPointRight(hand)
    image = draw_positions(240)
    image_look = Look(np.array([0.0, 0, 240, 240]))
    looks = [image_look.turned(90, (240, 240)), image_look]
    answers = look_in_all_directions(Looker(image, SIZE, net), looks)
    assert net.batches == [2, 3]
    for answer in answers:
        assert np.abs(answer.keypoints[:, :2] - hand[:, :2]).max() < 4 and answer.score > 0.9
        assert np.allclose(answer.image_to_input[:, :2] / answer.image_to_input[0, 0], np.eye(2))


def test_where_there_is_nothing_to_look_at_the_net_does_not_run():
    looker = Looker(draw_positions(240), SIZE, lambda inputs: pytest.fail("the net ran"))
    assert looker.look([]) == look_in_all_directions(looker, []) == []
    assert look_at_boxes(looker, np.zeros((0, 4))) == []
    assert look_twice_at_boxes(looker, []) == look_twice_at_regions(looker, []) == []


def test_a_users_box_is_looked_at_in_all_directions():
    line = np.linspace(0, 1, 21)
    hand = np.column_stack([60 + 90 * line, np.full(21, 70.0), np.ones(21)])
    net = NetForHandsThatPointRight(hand)
    turned_image = np.ascontiguousarray(draw_positions(240)[::-1, ::-1])
    (answer,) = look_at_boxes(Looker(turned_image, SIZE, net), np.array([[80, 150, 110, 40]]))
    assert net.batches == [1, 3, 1]
    assert np.abs(answer.keypoints[:, :2] - (239 - hand[:, :2])).max() < 4


def test_one_look_is_a_single_pass():
    image = drawn_sample(np.random.default_rng(4), "x", 400, 260).image()
    level = HandPredictor(levels=1).predict(image)
    for looks in (1, 2, 4):
        pose = HandPredictor(looks=looks).predict(image)
        assert (pose.looks, pose.levels) == (looks, None) and pose.mask.shape == (260, 400)
        if looks == 1:
            assert (pose.level_heatmaps == level.level_heatmaps).all()
            assert (pose.mask == level.mask).all()
            # The keypoints of looks are of smoothed maps (docs/differences.md).
            steps = np.linalg.norm((pose.keypoints - level.keypoints)[:, :2], axis=1)
            assert 0 < np.median(steps) * pose.image_to_input[0, 0, 0] < 4


def test_a_small_hand_is_seen_better_at_a_second_look():
    """Rendered hands of a fifth of the image's width: keypoints and mask lie on them."""
    first_pass, second_look = HandPredictor(looks=1), HandPredictor(looks=2)
    for seed in (0, 2, 9, 10):
        rendered = render_hand(seed)
        height, width = rendered.image.shape[:2]
        image = np.full((480, 640, 3), 128, np.uint8)
        image[200 : 200 + height, 300 : 300 + width] = rendered.image
        true_keypoints = rendered.keypoints + (300, 200)
        errors = {}
        for predictor in (first_pass, second_look):
            pose = predictor.predict(image)
            distances = np.linalg.norm(pose.keypoints[:, :2] - true_keypoints, axis=1)
            errors[predictor.looks] = np.median(distances)
        assert errors[2] < 6 < 16 < errors[1]
        around = pose.mask[200 : 200 + height, 300 : 300 + width]
        assert around.sum() > 0.98 * pose.mask.sum() > 100


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (700, 2, 3), (3, 4000, 3)])
def test_images_of_any_size_are_looked_at(weights, shape):
    pose = HandPredictor(weights, looks=4).predict(np.zeros(shape, np.uint8))
    assert pose.mask.shape == shape[:2] and pose.heatmaps.shape == (22, SIZE, SIZE)
    assert (pose.keypoints[:, :2] >= 0).all()
    assert (pose.keypoints[:, :2] <= np.array(shape[1::-1]) - 1).all()


def test_looks_and_levels_exclude_each_other(weights):
    with pytest.raises(UserError, match="looks=2 and levels=3 exclude each other"):
        HandPredictor(weights, levels=3, looks=2)
    with pytest.raises(UserError, match="looks=3: give 1, 2 or 4"):
        HandPredictor(weights, looks=3)
    predictor, image = HandPredictor(weights, levels=1), np.zeros((60, 80, 3), np.uint8)
    predictor.looks = 4
    for predict in (predictor.predict, predictor.predict_all):
        with pytest.raises(UserError, match="looks=4 and levels=1 .*, and None for the other"):
            predict(image)
    predictor.levels = None
    assert predictor.predict(image).looks == 4


def test_a_net_without_pose_stage_takes_a_single_pass(weights):
    predictor = HandPredictor(
        weights, prototxt=ROOT / "prototxt/mini/deploy_without_pose.prototxt", looks=4
    )
    pose = predictor.predict(np.zeros((50, 60, 3), np.uint8))
    assert pose.keypoints is pose.score is None and pose.mask.shape == (50, 60)


def test_there_is_no_second_look_without_confident_keypoints():
    """In an image without a hand more looks would only find more that resembles one."""
    noise = np.random.default_rng(1).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    passes = []
    predictor = HandPredictor(looks=4)
    engine = predictor.engine

    class CountedEngine:
        """The engine, with the sizes of its batches written down."""

        name, has_mask, has_pose, input_size = "counted", True, True, engine.input_size

        def __call__(self, batch):
            passes.append(len(batch))
            return engine(batch)

    predictor.engine = CountedEngine()
    assert not predictor.predict(noise).present.any() and passes == [1, 3]
