"""HandPredictor: a level is a plain forward pass, and keypoints come back to where they are."""

import copy
import dataclasses
import pickle
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.core.drawing import MASK_COLOUR
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.geometry import apply, invert, pyramid_windows, to_cells
from mcc_caffe.core.hand import FINGER_COLOURS
from mcc_caffe.core.heatmaps import decode_levels, encode
from mcc_caffe.data.augmentation import network_input
from mcc_caffe.hand_tracker import HandTracker
from mcc_caffe.inference.pyramid import Pyramid, window_map
from mcc_caffe.paper import MINI
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import ROOT
from tests.support.evaluate_command import random_net
from tests.support.hands import drawn_sample
from tests.support.poses import make_pose

SIZE = MINI.input_size


@pytest.fixture(scope="module")
def image():
    return drawn_sample(np.random.default_rng(5), "image", 300, 200).image()


def at(windows):
    """A pyramid of these windows, of an image that does not matter."""
    return Pyramid(np.zeros((1, 1, 3), np.uint8), np.asarray(windows), SIZE)


def test_one_level_is_a_plain_forward(weights, image):
    caffe = import_caffe()
    pose = HandPredictor(weights, levels=1, engine="caffe").predict(image)
    net = caffe.Net(str(ROOT / "prototxt/mini/deploy.prototxt"), str(weights), caffe.TEST)
    tau = SIZE / 300
    net.blobs["image"].data[0] = network_input(image, np.array([[tau, 0, 0], [0, tau, 0]]), SIZE)
    net.forward()
    maps = net.blobs["Mconv7_stage6"].data[0]
    content = 0, 0, 128, 85  # the image's 300 x 200 at tau
    expected = decode_levels(maps[None], [content]).keypoints
    assert np.allclose(pose.keypoints[:, :2], expected[:, :2] / tau)
    assert np.allclose(pose.keypoints[:, 2], expected[:, 2], atol=1e-5)
    assert pose.levels == 1 and (pose.present == (pose.keypoints[:, 2] > 0.2)).all()
    centres = apply(to_cells(), [[3.5, 3.5], [59.5, 43.5]]).round().astype(int)
    for column, row in centres:  # at the cells' centres the mask is the softmax
        x, y = np.round(((np.array([column, row]) + 0.5) * 8 - 0.5) / tau).astype(int)
        probability = net.blobs["conv6_2_CPM_prob"].data[0, 1, row, column]
        assert pose.mask[y, x] == pytest.approx(probability, abs=0.05)


def test_the_pyramid_is_seeded_and_its_batches_change_nothing(weights, image):
    pose, same, other = (
        HandPredictor(weights, levels="paper", **options).predict(image)
        for options in ({}, {"batch": 3}, {"seed": 1})
    )
    assert pose.levels > 3
    assert np.allclose(pose.keypoints, same.keypoints, atol=1e-4)
    assert not np.allclose(pose.keypoints, other.keypoints, atol=1e-4)


def test_four_looks_are_taken_unless_the_predictor_is_told_otherwise(weights, image):
    predictor = HandPredictor(weights)
    pose = predictor.predict(image)
    assert (pose.keypoints == HandPredictor(weights, looks=4).predict(image).keypoints).all()
    assert (pose.looks, HandPredictor(weights, levels=1).predict(image).looks) == (4, None)
    predictor.levels = 1
    single_pass = HandPredictor(weights, levels=1).predict(image)
    assert (predictor.predict(image).keypoints == single_pass.keypoints).all()


def test_threads_that_share_a_predictor_get_the_answers_of_one_thread(weights):
    rng = np.random.default_rng(3)
    images = [drawn_sample(rng, "image", 120, 90).image() for _ in range(4)]
    predictor = HandPredictor(weights, looks=2, engine="caffe")
    expected = [predictor.predict(image).keypoints for image in images]
    in_box = predictor.predict_all(images[0], boxes=[(10, 10, 60, 60)])[0].keypoints
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # the threads meet within a pass
    try:
        with ThreadPoolExecutor(4) as threads:
            poses = [threads.submit(predictor.predict, image) for image in images * 5]
            box_poses = [
                threads.submit(predictor.predict_all, images[0], boxes=[(10, 10, 60, 60)])
                for _ in range(5)
            ]
            keypoints = [pose.result().keypoints for pose in poses]
            box_keypoints = [pose.result()[0].keypoints for pose in box_poses]
    finally:
        sys.setswitchinterval(interval)
    assert all(map(np.array_equal, keypoints, expected * 5))
    assert all(np.array_equal(points, in_box) for points in box_keypoints)


@pytest.mark.parametrize("levels", [0, -1, 1.5, 2.0, "all", "2"])
def test_other_numbers_of_levels_are_refused(weights, levels):
    with pytest.raises(UserError, match=f"levels={levels!r}: give a whole number above 0, or"):
        HandPredictor(weights, levels=levels)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"looks": 4.0}, "looks=4.0: give 1, 2 or 4"),
        ({"looks": "4"}, "looks='4': give 1, 2 or 4"),
        ({"batch": 0}, "batch=0: give a whole number above 0"),
        ({"batch": "8"}, "batch='8': give a whole number above 0"),
        ({"seed": "0"}, "seed='0': give a whole number from 0 on"),
        ({"seed": -1}, "seed=-1: give a whole number from 0 on"),
        ({"threshold": np.nan}, "threshold=nan: give a finite number"),
        ({"threshold": "0.2"}, "threshold='0.2': give a finite number"),
        ({"threshold": True}, "threshold=True: give a finite number"),
        ({"gpu": "0"}, "gpu='0': give the id of a GPU, a whole number from 0 on, or None"),
        ({"gpu": 1.5}, "gpu=1.5: give the id of a GPU"),
        ({"gpu": True}, "gpu=True: give the id of a GPU"),
        ({"gpu": -1}, "gpu=-1: give the id of a GPU"),
        ({"levels": True}, "levels=True: give a whole number above 0"),
        ({"levels": np.array([1, 2])}, r"levels=array\(\[1, 2\]\): give a whole number"),
        ({"looks": True}, "looks=True: give 1, 2 or 4"),
        ({"variant": ["mini"]}, r"variant=\['mini'\]: give one of paper, mini"),
        ({"engine": ["onnx"]}, r"there is no engine \['onnx'\]"),
        ({"engine": "onnx", "precision": ""}, "precision=: give one of"),
        ({"engine": "caffe", "precision": ""}, "precision=: give one of"),
        ({"prototxt": 5}, "prototxt=5: give the path of a file, or None"),
        ({"prototxt": ""}, "prototxt='': give the path of a file, or None"),
    ],
)
def test_other_options_are_refused(weights, options, message):
    with pytest.raises(UserError, match=message):
        HandPredictor(weights, **options)


@pytest.mark.parametrize("wrong", ["", [], False, 0, 123, b"weights"])
def test_only_none_takes_the_shipped_weights(wrong):
    with pytest.raises(UserError, match=f"^weights={re.escape(repr(wrong))}: give the path of a"):
        HandPredictor(wrong)


def test_pickling_says_what_to_do_in_its_place(weights):
    predictor = HandPredictor(weights, engine="onnx")
    for pickled in (predictor, HandTracker(predictor)):
        with pytest.raises(TypeError, match="cannot be pickled: make one in each process"):
            pickle.dumps(pickled)
        with pytest.raises(TypeError, match="cannot be pickled: make one"):
            copy.deepcopy(pickled)


def test_a_copy_has_options_of_its_own_and_shares_the_net(weights, image):
    predictor = HandPredictor(weights, engine="onnx", looks=1)
    twin = copy.copy(predictor)
    twin.looks = 2
    assert predictor.looks == 1
    assert twin.engine is predictor.engine and twin.lock is predictor.lock
    assert twin.predict(image).looks == 2 and predictor.predict(image).looks == 1


def test_copies_share_the_net_that_searches():
    predictor = HandPredictor(engine="onnx")
    twin = copy.copy(predictor)
    assert copy.copy(twin).boxes_engine is twin.boxes_engine is predictor.boxes_engine is not None


@pytest.mark.parametrize(
    "name, value", [("looks", 3), ("batch", 0), ("levels", 0), ("seed", None), ("threshold", "0")]
)
def test_an_option_that_is_changed_to_a_wrong_value_is_refused(weights, image, name, value):
    predictor = HandPredictor(weights, engine="onnx")
    tracker = HandTracker(predictor)
    setattr(predictor, name, value)
    for call in (predictor.predict, predictor.predict_all, lambda it: tracker.follow(it, 0)):
        with pytest.raises(UserError, match=f"^{name}=.*: give "):
            call(image)


def test_options_may_be_whole_numbers_of_numpy(weights, image):
    predictor = HandPredictor(weights, engine="onnx", looks=np.int64(1), batch=np.int32(1))
    pose = predictor.predict(image)
    assert pose.looks == 1 and type(pose.looks) is int
    assert (
        pose.keypoints == HandPredictor(weights, engine="onnx", looks=1).predict(image).keypoints
    ).all()
    assert len(predictor.predict_all(image, max_hands=np.int64(2))) <= 2
    predictor.looks, predictor.levels = None, np.int64(2)
    assert predictor.predict(image).levels == 2


def test_a_pose_equals_itself_alone_and_can_be_a_key(weights, image):
    predictor = HandPredictor(weights, levels=1)
    pose, other = predictor.predict(image), predictor.predict(image)
    assert pose == pose and pose != other and pose in [other, pose]
    assert {pose: "first", other: "second"}[other] == "second"


def test_a_pose_is_printed_without_its_maps(weights, image):
    text = repr(HandPredictor(weights).predict(image))
    assert text.startswith("HandPose(keypoints=array(") and len(text) < 4000


def test_hands_of_one_call_share_nothing(image):
    first, other = HandPredictor().predict_all(image, [(0, 0, 40, 40), (20, 20, 60, 60)])
    first.timings["own"] = 1.0
    assert "own" not in other.timings
    # Who keeps one hand does not keep the maps of all.
    assert first.level_heatmaps.base.size == first.level_heatmaps.size
    assert first.masks[0].cells.base is None


def test_what_is_no_array_and_boxes_without_end_are_refused(weights, image):
    predictor = HandPredictor(weights)
    with pytest.raises(UserError, match="the image is NoneType, no array"):
        predictor.predict(cv2.imread("missing.jpg"))
    for side in (1e300, np.inf, np.nan):
        with pytest.raises(UserError, match="box 0 is .* below 1e.06 that overlaps"):
            predictor.predict_all(image, boxes=[[0, 0, side, 9]])
    no_numbers = [["1", "2", "3", "4"]], [(1, 2, 3, True)], np.array([["2020-01-01"] * 4], "M8[D]")
    no_boxes = [(1, 2, 3, 4), (1, 2, 3)], [(1, 2, "x", 4)], [(1, 2, 10**400, 4)], 7
    complex_box = np.array([(1, 2, 30, 40 + 5j)])
    for boxes in (*no_boxes, *no_numbers, complex_box, [*complex_box]):
        with pytest.raises(UserError, match=r"boxes=.*: give \(N, 4\) real numbers, x, y, w"):
            predictor.predict_all(image, boxes=boxes)
    (expected,) = predictor.predict_all(image, boxes=[(1, 2, 30, 40)])
    fractions = list(map(Fraction, (1, 2, 30, 40)))
    arrays_of_a_number = list(map(np.array, (1, 2.0, 30, np.float32(40))))
    for boxes in ([fractions], [arrays_of_a_number], np.array([[1, 2, 30, 40]], np.uint8)):
        (hand,) = predictor.predict_all(image, boxes=boxes)
        np.testing.assert_array_equal(hand.keypoints, expected.keypoints)
    for wrong in (1.5, "2", np.int64(0)):
        with pytest.raises(UserError, match="max_hands=.*: give a whole number above 0"):
            predictor.predict_all(image, max_hands=wrong)
    with pytest.raises(UserError, match="score_threshold=nan: give a finite number"):
        predictor.predict_all(image, score_threshold=np.nan)


def test_a_net_without_pose_stage_finds_the_mask_only(weights, image):
    full_pose = HandPredictor(weights, levels=1, engine="caffe").predict(image)
    pose = HandPredictor(
        weights, prototxt=ROOT / "prototxt/mini/deploy_without_pose.prototxt", engine="caffe"
    ).predict(image)
    assert pose.keypoints is pose.present is pose.heatmaps is None and pose.levels == 1
    assert np.allclose(
        pose.mask, full_pose.mask, atol=1e-6
    )  # the mask stage does not see the pose stages


@pytest.mark.parametrize("ablation", ["without_mask", "without_pose"])
def test_weights_of_an_ablation_take_its_net(image, tmp_path, ablation):
    predictor = HandPredictor(random_net(ablation, tmp_path))
    assert predictor.prototxt.name == f"deploy_{ablation}.prototxt"
    pose = predictor.predict(image)
    assert (pose.mask is None, pose.keypoints is None) == (
        ablation == "without_mask",
        ablation == "without_pose",
    )


def test_more_levels_are_never_less_sure(weights, image):
    first_level, all_levels = (
        HandPredictor(weights, levels=1).predict(image),
        HandPredictor(weights, levels="paper").predict(image),
    )
    assert (all_levels.keypoints[:, 2] >= first_level.keypoints[:, 2] - 1e-6).all()


@settings(max_examples=60)
@given(st.integers(60, 3000), st.integers(60, 3000), st.integers(0, 9), st.data())
def test_mapping_back_is_exact_for_any_size_and_window(width, height, seed, data):
    """A keypoint drawn into the level's heatmaps comes back to where it is in the image."""
    windows = pyramid_windows(width, height, np.random.default_rng(seed), 6)
    window = windows[data.draw(st.integers(0, len(windows) - 1))]
    image_to_input = window_map(window, SIZE)
    x, y = window[:2] + data.draw(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9))) * window[2:]
    inside = apply(image_to_input, [x, y])
    assert np.allclose(apply(invert(image_to_input), inside), [x, y], atol=1e-6)
    keypoints = np.tile([*inside, 1.0], (21, 1))
    assume((inside >= 8).all())  # a peak on the outermost cells has half of its shape
    decoded = at(window[None]).decode(encode(keypoints, 16, 1.0)[None])
    assert np.abs(decoded[:, :2] - (x, y)).max() <= 4 / image_to_input[0, 0]  # half a cell


def test_the_most_confident_level_wins():
    """Level 1 sees joint 3 at full height, level 0 elsewhere at half: the keypoint is level 1's."""
    windows = [[0, 0, 200, 200], [50, 60, 100, 100]]
    keypoints = np.tile([-1.0, -1.0, 0.0], (21, 1))
    keypoints[3] = 40, 40, 1
    low = 0.5 * encode(keypoints, 16, 1.0)
    keypoints[3] = 80, 72, 1
    high = encode(keypoints, 16, 1.0)
    decoded = at(windows).decode(np.stack([low, high]))[3]
    expected = np.array([50, 60]) + np.array([80, 72]) / SIZE * 100
    assert np.abs(decoded[:2] - expected).max() < 4 * 100 / SIZE and decoded[2] > 0.8


def test_no_keypoint_is_found_beside_the_image():
    """A map peaks in the empty part: its best pixel inside the image counts."""
    keypoints = np.tile([20.0, 100.0, 1.0], (21, 1))  # the image ends at y = 64
    maps = encode(keypoints, 16, 1.0)
    keypoints[:, :2] = 50, 30
    maps = np.maximum(maps, 0.6 * encode(keypoints, 16, 1.0))
    decoded = at([[0, 0, 256, 128]]).decode(maps[None])
    assert np.abs(decoded[:, :2] - (100, 60)).max() <= 8
    assert np.allclose(decoded[:, 2], 0.6, atol=0.1)


def test_another_variant_is_refused_with_those_that_exist():
    with pytest.raises(UserError, match="^variant='big': give one of paper, mini$"):
        HandPredictor(variant="big")


@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (1, 500, 3), (700, 2, 3), (49, 49, 3), (3, 4000, 3), (1025, 1027, 3)]
)
def test_images_of_any_size_pass(weights, shape):
    pose = HandPredictor(weights, levels="paper").predict(np.zeros(shape, np.uint8))
    assert (
        pose.keypoints.shape == (21, 3)
        and pose.mask.shape == shape[:2]
        and np.isfinite(pose.keypoints).all()
    )


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 3)),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(weights, wrong):
    with pytest.raises(UserError, match="HxWx3 uint8 BGR is needed"):
        HandPredictor(weights).predict(wrong)


def test_mask_box():
    """Of cells 2 to 4 across and 1 to 2 down, each 10 pixels of the image."""
    cells, image = np.zeros((16, 16), np.float32), np.zeros((100, 160, 3), np.uint8)
    assert make_pose(image, np.zeros((21, 3)), cells).mask_box() is None
    cells[1:3, 2:5] = 1
    box = make_pose(image, np.zeros((21, 3)), cells).mask_box()
    assert np.abs(np.array(box) - (20, 10, 30, 20)).max() <= 2


def test_a_pose_is_drawn_over_its_image():
    image, keypoints = np.full((100, 160, 3), 200, np.uint8), np.full((21, 3), 0.1)
    keypoints[5] = 40, 60, 0.9
    cells = np.zeros((16, 16), np.float32)
    cells[1:3, 10:13] = 1
    pose = make_pose(image, keypoints, cells)
    drawn = pose.draw(image)
    assert (image == 200).all() and drawn.shape == image.shape
    assert np.abs(drawn[60, 40].astype(int) - FINGER_COLOURS[1]).max() <= 16
    assert drawn[20, 115].tolist() == pytest.approx(
        0.45 * 200 + 0.55 * np.array(MASK_COLOUR), abs=1
    )
    assert (drawn[:, :30] == 200).all()
    assert "mask" not in vars(pose)  # the masks of many hands of a large image are large
    mask_alone = dataclasses.replace(pose, keypoints=None, present=None).draw(image)
    assert (mask_alone[60, 40] == 200).all() and (mask_alone[20, 115] == drawn[20, 115]).all()
    with pytest.raises(UserError, match="image is 100 x 160, that of the pose 160 x 100: give the"):
        pose.draw(np.rot90(image))
    with pytest.raises(UserError, match="HxWx3 uint8 BGR is needed"):
        pose.draw(image[..., 0])


def test_what_is_not_asked_for_is_not_drawn(weights, image, monkeypatch):
    monkeypatch.setattr(
        "mcc_caffe.inference.hand_pose.aggregate", lambda *_: pytest.fail("aggregated")
    )
    monkeypatch.setattr(
        "mcc_caffe.inference.hand_pose.mask_in_image", lambda *_: pytest.fail("drawn")
    )
    pose = HandPredictor(weights, levels="paper").predict(image)
    monkeypatch.undo()
    assert (
        pose.heatmaps is pose.heatmaps
        and pose.heatmaps.shape == (22, SIZE, SIZE)
        and pose.mask.shape == (200, 300)
    )


def test_a_search_takes_the_weights_that_the_predictor_was_made_of(image, tmp_path, monkeypatch):
    shipped = shipped_weights("mini").read_bytes()
    (tmp_path / "w.npz").write_bytes(shipped)
    monkeypatch.chdir(tmp_path)
    early, late, replaced = (HandPredictor("w.npz", levels=1) for _ in range(3))
    monkeypatch.chdir("/")
    early.open_search()
    assert len(early.predict_all(image)) == len(late.predict_all(image))
    (tmp_path / "new.npz").write_bytes(shipped)
    (tmp_path / "new.npz").replace(tmp_path / "w.npz")
    message = "w.npz was changed, moved or removed before the first search.*make a new predictor"
    with pytest.raises(UserError, match=message):
        replaced.predict_all(image)
    (tmp_path / "w.npz").unlink()
    with pytest.raises(UserError, match=message):
        replaced.predict_all(image)
    early.predict_all(image)


def test_without_weights_those_of_the_package_are_taken(image):
    shipped = HandPredictor(levels=1).predict(image)
    assert (
        shipped.keypoints
        == HandPredictor(shipped_weights("mini"), levels=1).predict(image).keypoints
    ).all()
    with pytest.raises(
        UserError, match="no weights of the variant paper come with the package: give a caffemodel"
    ):
        HandPredictor(variant="paper")


def test_options_are_checked_when_it_is_the_calls_turn(image):
    """Another thread holds the lock, and changes an option before it lets it go."""
    predictor = HandPredictor(batch=1)
    with ThreadPoolExecutor(1) as executor:
        with predictor.lock:
            predictor.batch = 0
            hands = executor.submit(predictor.predict_all, image, [[8, 8, 40, 40]])
            with pytest.raises(FutureTimeoutError):
                hands.result(timeout=0.5)
            predictor.batch = 1
        assert len(hands.result()) == 1
