"""The box head: its samples, a short training as a user runs it, and what the weights then do."""

import json
import re
import signal
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest

from mcc_caffe import train_boxes
from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.weights import WeightsError
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.geometry import apply, apply_to_boxes, invert, lie_inside
from mcc_caffe.core.hand_boxes import BOXES_BLOB, LARGEST_HAND, SMALLEST_HAND, decode_boxes
from mcc_caffe.data.augmentation import ColourChange, network_input
from mcc_caffe.inference.scene_files import read_scenes
from mcc_caffe.paper import IGNORE_LABEL
from mcc_caffe.predictor import HandPredictor
from mcc_caffe.train_boxes import read_images
from mcc_caffe.training import box_head, box_samples
from mcc_caffe.training.box_samples import LabelledImage, draw_sample
from tests.support.commands import refusal, run, start
from tests.support.hands import turned_jpeg


def image_with_boxes(rng):
    """A grey image of 640 x 360 with white boxes."""
    image = np.full((360, 640, 3), 90, np.uint8)
    boxes = np.array([[40, 50, 120, 110], [300, 200, 380, 320], [500, 20, 560, 80]], float)
    boxes += rng.integers(-20, 20, (3, 1))
    for left, top, right, bottom in boxes.astype(int):
        image[top : bottom + 1, left : right + 1] = 255
    return LabelledImage(image, boxes)


def boxes_to_learn(labels):
    """The boxes of which labels are."""
    logits = np.where(labels.is_hand == 1, 4.0, -4.0)
    return decode_boxes(np.concatenate([logits, labels.log_distances]), 0.5).boxes


def test_a_sample_shows_hands_of_sizes_that_the_head_finds_and_labels_them():
    """The white boxes lie where the labels say, whatever was drawn."""
    rng = np.random.default_rng(0)
    clear = 0
    for _ in range(60):
        sample = draw_sample(image_with_boxes(rng), 256, rng)
        brightness = sample.network_input.mean(axis=0)
        for left, top, right, bottom in boxes_to_learn(sample.labels):
            assert SMALLEST_HAND - 1 <= max(right - left, bottom - top) <= LARGEST_HAND + 1
            inside = brightness[
                max(round(top) + 2, 0) : round(bottom) - 1,
                max(round(left) + 2, 0) : round(right) - 1,
            ]
            corner = brightness[max(round(top) - 4, 0), max(round(left) - 4, 0)]
            if min(left, top) > 4:
                assert inside.min() > corner
                clear += 1
    assert clear > 600, clear


def test_a_square_is_drawn_around_a_hand_in_the_image_and_mirrored_half_of_the_time():
    rng, last_edges, mirrored = np.random.default_rng(0), np.array([639.5, 359.5]), []
    labelled_image = image_with_boxes(rng)
    middles = (labelled_image.boxes[:, :2] + labelled_image.boxes[:, 2:]) / 2
    for _ in range(400):
        to_input = box_samples._draw_affine(labelled_image, 256, rng)
        scale = np.sqrt(abs(np.linalg.det(to_input[:, :2])))
        mirrored.append(to_input[0, 0] < 0)
        assert 160 / 640 <= scale <= 1.5 + 1e-9
        assert lie_inside(apply(to_input, middles), 256, 256).any()
        square = apply_to_boxes(invert(to_input), np.array([[-0.5, -0.5, 255.5, 255.5]]))
        first, last = square.reshape(2, 2)
        lies_in_image = (first > -0.5 - 1e-6) & (last < last_edges + 1e-6)
        holds_image = (first < -0.5 + 1e-6) & (last > last_edges - 1e-6)
        assert (lies_in_image | holds_image).all()  # along either side
    assert 160 < sum(mirrored) < 240


def test_the_longer_side_of_a_hand_has_a_size_that_the_head_finds():
    hand = LabelledImage(np.zeros((900, 900, 3), np.uint8), np.array([[440.0, 300, 460, 600]]))
    rng = np.random.default_rng(0)
    scales = [abs(box_samples._draw_affine(hand, 256, rng)[1, 1]) for _ in range(200)]
    assert SMALLEST_HAND <= 300 * min(scales) < 300 * max(scales) <= LARGEST_HAND


def test_all_parts_of_an_image_without_a_hand_are_shown_at_many_sizes():
    """Its longer side, of 800 pixels, becomes one of 160 to 640."""
    labelled_image = LabelledImage(np.zeros((200, 800, 3), np.uint8), np.empty((0, 4)))
    rng, sides, right_ends = np.random.default_rng(0), [], []
    for _ in range(300):
        to_input = box_samples._draw_affine(labelled_image, 256, rng)
        sides.append(800 * to_input[1, 1])
        if sides[-1] > 400:  # less than 256 / 400 of the image's length is in the square
            right_ends.append(apply(invert(to_input), [[0, 0], [255, 0]])[:, 0].max())
    assert 159.9 < min(sides) < 170 and 600 < max(sides) < 640.1
    assert min(right_ends) < 500 and max(right_ends) > 790


def test_a_small_image_lies_anywhere_in_the_square():
    """60 x 40 pixels become 90 x 60; their first is at 0 to 166 and 0 to 196, mostly between."""
    labelled_image = LabelledImage(np.zeros((40, 60, 3), np.uint8), np.empty((0, 4)))
    rng, first_pixels = np.random.default_rng(0), []
    for _ in range(200):
        to_input = box_samples._draw_affine(labelled_image, 256, rng)
        box = apply_to_boxes(to_input, np.array([[-0.5, -0.5, 59.5, 39.5]]))[0]
        np.testing.assert_allclose(box[2:] - box[:2], (90, 60))
        first_pixels.append(box[:2] + 0.5)
    assert np.min(first_pixels) > -1e-6 and (np.max(first_pixels, axis=0) < (166.1, 196.1)).all()
    inside = (np.array(first_pixels) > 1) & (first_pixels < np.array([165.0, 195]))
    assert (inside.mean(axis=0) > 0.3).all()


@pytest.fixture
def as_it_is(monkeypatch):
    """Let a sample be the image itself."""
    monkeypatch.setattr(box_samples, "_draw_affine", lambda *_: np.eye(2, 3))


def test_a_crowd_of_hands_teaches_nothing(as_it_is):
    """The crowd is as large as the hand, and reaches into it."""
    hand, crowd = np.array([[40.0, 50, 120, 110]]), np.array([[110.0, 50, 190, 110]])
    labelled_image = LabelledImage(np.full((256, 256, 3), 90, np.uint8), hand, crowd)
    labels = draw_sample(labelled_image, 256, np.random.default_rng(0)).labels
    assert np.abs(boxes_to_learn(labels) - hand).max() < 1e-3
    assert labels.is_hand[0, 10, 18] == IGNORE_LABEL  # pixel (147.5, 83.5)


def test_a_hand_of_which_much_is_cut_off_teaches_nothing(as_it_is):
    """Of the upper one 45.5 of 60 pixels are inside, of the lower one 39.5; .7 would be 42."""
    hands = np.array([[-15.0, 20, 45, 80], [-21, 120, 39, 180]])
    labelled_image = LabelledImage(np.full((256, 256, 3), 90, np.uint8), hands)
    labels = draw_sample(labelled_image, 256, np.random.default_rng(0)).labels
    assert np.abs(boxes_to_learn(labels) - (-0.5, 20, 45, 80)).max() < 1e-3
    assert labels.is_hand[0, 18, 1] == IGNORE_LABEL  # pixel (11.5, 147.5)


def test_a_hand_outside_of_the_sample_leaves_its_cells_as_they_are(as_it_is):
    """Hands beside, above and across the corner, and a crowd below; one hand in view."""
    hand = [100.0, 100, 160, 160]
    outside = [[-90.0, 50, -10, 110], [300, 50, 380, 110], [50, -90, 110, -10], [-90, -90, -9, -9]]
    crowd = np.array([[50.0, 300, 110, 380]])
    image = np.full((256, 256, 3), 90, np.uint8)

    def labels(hands, crowds):
        labelled_image = LabelledImage(image, np.array(hands), crowds)
        return draw_sample(labelled_image, 256, np.random.default_rng(0)).labels

    expected, drawn = labels([hand], np.empty((0, 4))), labels([hand, *outside], crowd)
    assert np.array_equal(drawn.is_hand, expected.is_hand)
    assert np.array_equal(drawn.log_distances, expected.log_distances)


def test_a_sample_has_other_colours_than_its_image(as_it_is):
    labelled_image = LabelledImage(np.full((256, 256, 3), 90, np.uint8), np.empty((0, 4)))
    shades = {
        float(draw_sample(labelled_image, 256, np.random.default_rng(seed)).network_input[0, 9, 9])
        for seed in range(4)
    }
    assert len(shades) == 4


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_sample_is_made_from_the_part_of_the_image_that_it_shows(scale, monkeypatch):
    """It is the same, up to rounding, as one of the whole image, which has 3 million pixels."""
    to_input = np.array([[scale, 0, -400 * scale], [0, scale, -300 * scale]])
    monkeypatch.setattr(box_samples, "_draw_affine", lambda *_: to_input)
    rng, pixel_counts, change = np.random.default_rng(0), [], ColourChange.apply
    noise = rng.integers(0, 256, (1536, 2048, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 3)
    labelled_image = LabelledImage(image, np.empty((0, 4)))

    def counted(colours, part):
        pixel_counts.append(part[..., 0].size)
        return change(colours, part)

    monkeypatch.setattr(ColourChange, "apply", counted)
    for seed in range(8):  # some of which blur the image
        sample = draw_sample(labelled_image, 256, np.random.default_rng(seed))
        recoloured = change(ColourChange.draw(np.random.default_rng(seed)), image)
        expected = network_input(recoloured, to_input, 256)
        np.testing.assert_allclose(sample.network_input, expected, atol=1 / 256)
    assert max(pixel_counts) < 1.2 * (256 / scale) ** 2


class FirstPixels:
    """Stands for a trunk: the features of a cell are its first pixel's blue."""

    def features(self, inputs):
        return inputs[:, :1, ::8, ::8]


def test_only_the_middles_of_hands_teach_where_the_sides_are():
    rng = np.random.default_rng(0)
    arrays = box_head.draw_round(FirstPixels(), [image_with_boxes(rng)], 8, rng)
    shapes = {name: values.shape for name, values in arrays.items()}
    assert shapes == {
        "conv5_2": (8, 1, 32, 32),
        "is_hand": (8, 1, 32, 32),
        "in_hands": (8, 4, 32, 32),
        "sides": (8, 4, 32, 32),
    }
    assert set(np.unique(arrays["is_hand"])) == {0, 1, IGNORE_LABEL}
    is_middle = np.broadcast_to(arrays["is_hand"] == 1, arrays["sides"].shape)
    np.testing.assert_array_equal(arrays["in_hands"], is_middle)
    assert arrays["sides"].any() and not arrays["sides"][~is_middle].any()


def samples_of(arrays):
    """The samples of a round or batch, each as the bytes of all its blobs."""
    blobs = [arrays[name] for name in sorted(arrays)]
    return [b"".join(blob.tobytes() for blob in sample) for sample in zip(*blobs, strict=True)]


class Recorder(FirstPixels):
    """Stands for a training: notes the samples that the head learns."""

    def __init__(self):
        self.samples = []

    def step(self, arrays):
        self.samples += samples_of(arrays)
        return 1.0, 2.0


def test_the_head_learns_each_sample_with_its_own_labels_three_times():
    images, recorder = [image_with_boxes(np.random.default_rng(1))], Recorder()
    drawn = box_head.draw_round(FirstPixels(), images, 16, np.random.default_rng(0))
    assert box_head.run_round(recorder, images, 16, np.random.default_rng(0)) == (1, 2)
    assert sorted(recorder.samples) == sorted(3 * samples_of(drawn))


def test_a_training_starts_with_the_files_head_and_with_the_features_that_it_is_for():
    path = shipped_weights("mini")
    training = box_head.HeadTraining(path, "mini", iterations=1, lr=1e-3)
    layers = packed_weights.read(path).layers
    for name, blobs in training.head().items():
        for blob, stored in zip(blobs, layers[name], strict=True):
            np.testing.assert_array_equal(blob, stored)
    inputs = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 3, 64, 64)).astype(np.float32)
    features = training.features(inputs).copy()
    training.trunk.forward()
    np.testing.assert_array_equal(features, training.trunk.blobs["conv5_2"].data)


def test_a_head_is_not_taught_on_the_trunk_of_another_variant(tmp_path):
    path, stored = tmp_path / "paper.npz", packed_weights.read(shipped_weights("mini"))
    path.write_bytes(packed_weights.to_bytes(stored.layers, {"variant": "paper"}))
    with pytest.raises(WeightsError, match="it is of the variant paper, the net of mini"):
        box_head.HeadTraining(path, "mini", iterations=1, lr=1e-3)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(1)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "hand"}]}
    for number in range(3):
        image, boxes, _ = image_with_boxes(rng)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        content["images"].append({"id": number, "file_name": f"{number}.png"})
        if number:  # the first one has no hand
            content["annotations"] += [
                {
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [left, top, right - left, bottom - top],
                }
                for left, top, right, bottom in boxes.tolist()
            ]
    path = folder / "scenes.json"
    path.write_text(json.dumps(content))
    return path


def test_a_head_is_trained_and_the_rest_of_the_weights_stays(scenes, tmp_path):
    out = tmp_path / "new/out.npz"
    done = run("mcc_caffe.train_boxes", scenes, "--out", out, "--rounds", 1, "--samples", 16)
    assert done.returncode == 0, done.stderr
    assert "3 images, 16 samples" in done.stdout and "loss of the middles" in done.stderr
    assert "out.npz is of round" not in done.stderr
    before, after = (packed_weights.read(path) for path in (shipped_weights("mini"), out))
    head = {name for name in after.layers if "boxes" in name}
    assert len(head) == 4 and after.metadata == before.metadata
    for name, blobs in before.layers.items():
        if name not in head:
            assert all(
                (before_blob == after_blob).all()
                for before_blob, after_blob in zip(blobs, after.layers[name])
            )
    predictor = HandPredictor(out)
    maps = predictor.boxes_engine(np.zeros((1, 3, 64, 96), np.float32))
    assert maps.boxes.shape == (1, 5, 8, 12) and maps.masks is None and maps.heatmaps is None
    onnx = HandPredictor(out, engine="onnx").boxes_engine
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 3, 64, 96)).astype(np.float32)
    assert np.allclose(onnx(noise).boxes, predictor.boxes_engine(noise).boxes, atol=1e-4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_stopped_leaves_its_last_complete_round(number, scenes, tmp_path):
    """Until then OUT is as it was, which a finished training may have written."""
    out = tmp_path / "out.npz"
    earlier = shipped_weights("mini").read_bytes()
    out.write_bytes(earlier)
    command = ("mcc_caffe.train_boxes", scenes, "--out", out, "--samples", 8, "--rounds", 1000)
    process = start(*command)
    try:
        lines = iter(process.stderr.readline, "")
        assert any("round 2 of 1000" in line for line in lines)
        assert out.read_bytes() == earlier
        process.send_signal(number)
        *_, written, ending = process.communicate(timeout=60)[1].splitlines()
    finally:
        process.kill()  # a failure above would leave it running
    assert re.search(f"warning: {out} is of round [0-9]+ of 1000$", written), written
    assert process.returncode == 128 + number and ending in ("interrupted", "ended by SIGTERM")
    assert out.read_bytes() != earlier and BOXES_BLOB in packed_weights.read(out).layers


def test_the_mean_of_a_head_and_what_it_learns(scenes, tmp_path):
    options = ("--rounds", 1, "--samples", 16, "--lr", 0.1)
    learnt, mean = tmp_path / "learnt.npz", tmp_path / "mean.npz"
    assert run("mcc_caffe.train_boxes", scenes, "--out", learnt, *options).returncode == 0
    done = run("mcc_caffe.train_boxes", scenes, "--out", mean, *options, "--average")
    assert done.returncode == 0, done.stderr
    layers = [packed_weights.read(path).layers for path in (shipped_weights("mini"), learnt, mean)]
    before, after, between = (
        np.concatenate([blob.ravel() for name in sorted(layer) for blob in layer[name]])
        for layer in layers
    )
    assert np.abs(after - before).max() > 0.01  # of numbers with 11 bits
    assert np.allclose(between, (before + after) / 2, rtol=2**-10, atol=1e-4)


def test_a_head_learns_all_rounds_three_times(monkeypatch):
    """Two rounds of 64 samples are 3 x 2 x 64 / 8 = 48 batches, until which the rate falls to 0."""
    training = MagicMock()
    monkeypatch.setattr(train_boxes, "HeadTraining", training)
    monkeypatch.setattr(train_boxes, "run_round", lambda *_: (1.0, 1.0))
    words = ["scenes.json", "--out", "out.npz", "--rounds", "2", "--samples", "64", "--lr", "0.5"]
    options = train_boxes.parse_arguments(words)
    assert len(list(train_boxes._run_rounds(options, "weights", []))) == 2
    training.assert_called_once_with("weights", "mini", 48, 0.5)


def test_weights_without_a_head_have_no_mean(scenes, tmp_path):
    stored = packed_weights.read(shipped_weights("mini"))
    layers = {name: blobs for name, blobs in stored.layers.items() if "boxes" not in name}
    pose_only = tmp_path / "pose.npz"
    pose_only.write_bytes(packed_weights.to_bytes(layers, stored.metadata))
    done = run(
        *("mcc_caffe.train_boxes", scenes, "--weights", pose_only),
        *("--out", tmp_path / "out.npz", "--average"),
    )
    assert refusal(done).endswith("has no box head to average with: leave --average out")
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("name", ["scenes.json", "1.png", "mine.npz"])
def test_no_input_is_replaced(scenes, tmp_path, name):
    mine = scenes.with_name("mine.npz")
    mine.write_bytes(shipped_weights("mini").read_bytes())
    target = scenes.with_name(name)
    before = target.read_bytes()
    done = run("mcc_caffe.train_boxes", scenes, "--weights", mine, "--out", target)
    assert "is an input of this command" in refusal(done)
    assert target.read_bytes() == before


def test_wrong_input_is_named(scenes, tmp_path, weights):
    empty = json.loads(scenes.read_text())
    empty["annotations"] = []
    no_boxes = scenes.with_name("empty.json")
    no_boxes.write_text(json.dumps(empty))
    out = tmp_path / "out.npz"
    for arguments, message in (
        ((no_boxes,), "no image has a box in it: give others"),
        ((scenes, "--samples", 9), "--samples 9: give a multiple of 8"),
        ((scenes, "--lr", "nan"), "nan is no finite number above 0"),
        ((scenes, "--lr", -1), "-1 is no finite number above 0"),
        (
            (scenes, "--lr", 1e30, "--rounds", 1, "--samples", 16),
            ": give a lower --lr than 1e+30",
        ),
        ((scenes, "--weights", weights), "pack it with"),
    ):
        assert message in refusal(run("mcc_caffe.train_boxes", *arguments, "--out", out, "--quiet"))
        assert not out.exists()


def test_a_missing_gpu_is_told_before_the_images_are_read(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(train_boxes, "read_images", lambda _: pytest.fail("read"))
    with pytest.raises(UserError, match="GPU 97 "):
        train_boxes.main([str(scenes), "--out", str(tmp_path / "out.npz"), "--gpu", "97"])


def test_crowds_of_a_file_are_read_with_its_images(scenes, tmp_path):
    content = json.loads(scenes.read_text())
    content["annotations"][0]["iscrowd"] = 1
    path = scenes.with_name("crowds.json")
    path.write_text(json.dumps(content))
    images = read_images(read_scenes(path))
    assert [len(image.crowds) for image in images] == [0, 1, 0]
    assert [len(image.boxes) for image in images] == [0, 2, 3]


def test_boxes_without_a_pixel_are_passed_over_and_counted(scenes, caplog):
    """Their images have 640 x 360 pixels. A box that reaches over the edge stays."""
    content = json.loads(scenes.read_text())
    bad = [[5, 5, 0, 9], [5, 5, 9, 0], [640, 5, 9, 9], [5, 360, 9, 9], [-20, 5, 20, 9]]
    good = [[639, 359, 9, 9], [-20, 5, 21, 9]]
    content["annotations"] = [
        {"image_id": 0, "category_id": 1, "bbox": box} for box in [*bad[:2], *good, *bad[2:]]
    ]
    path = scenes.with_name("outside.json")
    path.write_text(json.dumps(content))
    images = read_images(read_scenes(path))
    assert images[0].boxes.tolist() == [[639, 359, 648, 368], [-20, 5, 1, 14]]
    (message,) = caplog.messages
    assert message.startswith("5 boxes have a side of 0 or lie outside of their images and are")
    assert f"passed over: [5.0, 5.0, 0.0, 9.0] of {scenes.with_name('0.png')}, [5.0," in message


def test_boxes_of_an_image_of_another_size_are_an_error(tmp_path):
    """It has 40 x 20 pixels, and its EXIF orientation turns it to 20 x 40."""
    (tmp_path / "x.jpg").write_bytes(turned_jpeg())
    image = {"id": 1, "file_name": "x.jpg", "width": 40, "height": 20}
    content = {
        "images": [image],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [22, 2, 9, 9]}],
        "categories": [{"id": 1, "name": "hand"}],
    }
    path = tmp_path / "scenes.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="x.jpg is 20 x 40, the file .* 40 x 20: its EXIF orient"):
        read_images(read_scenes(path))
    image.update(width=20, height=40)
    content["annotations"][0]["bbox"] = [2, 22, 9, 9]
    path.write_text(json.dumps(content))
    ((pixels, boxes, _),) = read_images(read_scenes(path))
    assert pixels.shape == (40, 20, 3) and boxes.tolist() == [[2, 22, 11, 31]]


def test_a_file_that_is_no_packed_weights_is_not_replaced(scenes, tmp_path):
    photograph = tmp_path / "photo.jpg"
    photograph.write_bytes(turned_jpeg())
    done = run("mcc_caffe.train_boxes", scenes, "--out", photograph)
    assert "holds no packed weights: give another" in refusal(done)
    assert photograph.read_bytes() == turned_jpeg()
