"""The pyramid of an image: its inputs, its maps drawn back, and its keypoints."""

import cv2
import numpy as np
import pytest

from data_tools.hands.live import LiveHands
from mcc_caffe.core.geometry import (
    apply,
    compose,
    invert,
    pyramid_windows,
    rotation_about_centre,
    to_cells,
)
from mcc_caffe.core.heatmaps import decode_levels, encode
from mcc_caffe.data.augmentation import network_input
from mcc_caffe.inference.pyramid import (
    MaskCells,
    Octaves,
    Pyramid,
    aggregate,
    mask_in_image,
    window_map,
)
from mcc_caffe.paper import MINI, PAPER
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import ROOT
from tests.support.hands import drawn_sample

SIZE = MINI.input_size


def panels():
    """The six panels of docs/demo.jpg: two hands, each with mask, skeleton and heatmaps."""
    demo = cv2.imread(str(ROOT / "docs/demo.jpg"))
    return [demo[top : top + 240, left : left + 320] for top in (5, 300) for left in (5, 340, 675)]


@pytest.mark.parametrize("levels", ["paper", 4, 1])
def test_keypoints_are_those_of_the_levels_mapped_back(levels):
    """With the weights that ship; the pyramid's windows are those of the default seed.

    Decoding itself is tested in tests/core/test_heatmaps.py.
    """
    predictor, (image, *_) = HandPredictor(levels=levels), panels()
    pose = predictor.predict(image)
    windows = pyramid_windows(320, 240, np.random.default_rng(0), predictor.most_levels)
    image_to_inputs = [window_map(window, predictor.input_size) for window in windows]
    np.testing.assert_array_equal(pose.image_to_input, image_to_inputs)
    contents = [
        (0, 0, *np.floor(apply(image_to_input, window[:2] + window[2:] - 1)).astype(int) + 1)
        for image_to_input, window in zip(image_to_inputs, windows)
    ]
    expected, best_levels = decode_levels(pose.level_heatmaps, contents)
    for keypoint, level in zip(expected, best_levels):
        keypoint[:2] = apply(invert(image_to_inputs[level]), keypoint[:2])
    np.testing.assert_allclose(pose.keypoints, expected, rtol=0, atol=1e-9)


def natural(rng, width, height):
    """An image with structure of every size, down to single pixels."""
    image = np.zeros((height, width, 3), np.float32)
    for size in (4, 13, 37, 110, 330):
        image += cv2.resize(
            rng.normal(0, 25, (size, size, 3)).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
    return np.clip(128 + image + rng.normal(0, 10, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "width, height, size, tolerance",
    [
        (640, 480, MINI.input_size, 3),
        (1920, 1080, PAPER.input_size, 0),
        (60, 50, PAPER.input_size, 0),
        (479, 999, MINI.input_size, 3),
    ],
)
def test_inputs_of_usual_images_are_plain_warps(width, height, size, tolerance):
    """To the bit where the factors by which the image is reduced divide its sides.

    Elsewhere the means of a part run over other squares than those of all of the image: the mean
    difference is a few of 255. The first level shows all of the image.
    """
    rng = np.random.default_rng(0)
    image = natural(rng, width, height)
    pyramid = Pyramid(image, pyramid_windows(width, height, rng, 4), size)
    plain = [network_input(image, to_input, size) for to_input in pyramid.image_to_input]
    differences = 256 * np.abs(pyramid.inputs() - plain).mean(axis=(1, 2, 3))
    assert differences[0] == 0 and differences.max() <= tolerance


def test_only_the_part_that_an_input_shows_is_touched(monkeypatch):
    """A square of 600 pixels in 12 megapixels is reduced 2-fold and has a margin of 4 to 7."""
    parts = []
    monkeypatch.setattr(
        "mcc_caffe.inference.pyramid.network_input", lambda part, *_: parts.append(part.shape)
    )
    image, out = np.zeros((3000, 4000, 3), np.uint8), np.empty((3, 208, 208), np.float32)
    Octaves(image).network_input(window_map(np.array([2000, 1000, 600, 600]), 208), 208, out)
    assert parts == [(608, 608, 3)]


@pytest.mark.parametrize("width, height", [(4000, 3000), (1501, 2307), (3001, 1100), (999, 701)])
def test_large_images_are_reduced_first_without_being_seen(width, height):
    """The ideal is a Gaussian as wide as an input's pixel, applied at full resolution.

    The input from the reduced image is not further from it than the plain warp is.
    """
    rng = np.random.default_rng(1)
    image = natural(rng, width, height)
    pyramid = Pyramid(image, pyramid_windows(width, height, rng), SIZE)
    assert len(pyramid.windows) > 10
    inputs = pyramid.inputs()
    for level in (0, 3, 8, len(pyramid.windows) - 1):
        image_to_input = pyramid.image_to_input[level]
        plain = network_input(image, image_to_input, SIZE)
        blurred = cv2.GaussianBlur(image, (0, 0), max(0.4 / image_to_input[0, 0], 0.1))
        ideal = cv2.warpAffine(
            blurred, image_to_input, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderValue=(128,) * 4
        ).transpose(2, 0, 1)
        ideal = (ideal.astype(np.float32) - 128) / 256
        inner = np.s_[:, 2:-2, 2:-2]
        errors = [np.sqrt(np.square(made - ideal)[inner].mean()) for made in (inputs[level], plain)]
        assert errors[0] <= 1.1 * errors[1] + 0.004, (level, errors)


def test_keypoints_of_a_large_image_stay_where_they_are():
    """Images of 4000 pixels in a single pass, against the plain warp of all pixels.

    A keypoint stays within one cell, or it moves between two maxima of nearly the same height:
    the plain warp's maximum is at most 0.1 above its heatmap at the keypoint. Of hands most
    keypoints stay to the pixel.
    """
    predictor, rng, within = HandPredictor(levels=1), np.random.default_rng(5), []
    size = predictor.input_size
    mask_1, skeleton_1, heatmaps_1, mask_2, skeleton_2, heatmaps_2 = panels()
    live = LiveHands("synth:seed=3&size=400")
    hands = [mask_1, skeleton_1, mask_2, skeleton_2] + [live[i].image() for i in range(4)]
    no_hands = [heatmaps_1, heatmaps_2] + [
        drawn_sample(rng, "x", 400, 300).image() for _ in range(4)
    ]
    for index, image in enumerate(hands + no_hands):
        height, width = image.shape[:2]
        large = cv2.resize(image, (4000, 4000 * height // width), interpolation=cv2.INTER_CUBIC)
        pose = predictor.predict(large)
        image_to_input = pose.image_to_input[0]
        heatmaps = predictor.engine(network_input(large, image_to_input, size)[None])[1]
        plain, _ = decode_levels(
            heatmaps,
            Pyramid(large, np.array([[0, 0, *large.shape[1::-1]]]), size).contents(),
        )
        pixels = np.round(apply(image_to_input, pose.keypoints[:, :2])).astype(int)
        moved = np.abs(pixels - plain[:, :2]).max(axis=1)
        plain_heights = [
            cv2.resize(heatmap, (size, size), interpolation=cv2.INTER_CUBIC)[y, x]
            for heatmap, (x, y) in zip(heatmaps[0], pixels)
        ]
        assert np.abs(pose.keypoints[:, 2] - plain[:, 2]).max() < 0.12
        assert (plain[:, 2] - plain_heights)[moved > 8].max(initial=0) < 0.12
        if index < len(hands):
            within.append(moved <= 1)
    assert np.mean(within) >= 0.8, np.mean(within)


def test_aggregation_is_the_maximum_at_each_pixel():
    """Drawn into the first level's frame, a deeper level's peak is where the keypoint is."""
    image_to_input = np.stack(
        [window_map(window, SIZE) for window in ([0, 0, 256, 256], [64, 0, 128, 128])]
    )
    keypoints = np.tile([-1.0, -1.0, 0.0], (21, 1))
    nothing = encode(keypoints, 16, 1.0)
    keypoints[0] = 63.5, 63.5, 1  # in level 1's input: image (127.5, 63.5)
    maps = aggregate(np.stack([nothing, encode(keypoints, 16, 1.0)]), image_to_input, SIZE)
    assert maps.shape == (22, SIZE, SIZE)
    y, x = np.unravel_index(maps[0].argmax(), maps[0].shape)
    assert abs(x - 63.75) <= 1 and abs(y - 31.75) <= 1
    assert (
        maps[21].max() <= 1.1
        and maps[21][32, 64] < 0.5
        and maps[21][120, 5] == pytest.approx(1, abs=0.05)
    )


def test_maps_are_drawn_as_opencv_warps_them():
    """Aggregation against cv2.warpAffine of every map, with random windows."""
    rng = np.random.default_rng(0)
    image_to_input = np.stack(
        [window_map(window, SIZE) for window in pyramid_windows(333, 217, rng, 6)]
    )
    maps = rng.normal(0, 1, (6, 22, 16, 16)).astype(np.float32)
    drawn = []
    for level, level_to_input in zip(maps, image_to_input):
        cells_to_frame = compose(invert(compose(level_to_input, to_cells())), image_to_input[0])
        drawn.append(
            [
                cv2.warpAffine(
                    channel,
                    cells_to_frame,
                    (SIZE, SIZE),
                    flags=cv2.INTER_CUBIC,
                    borderValue=float(k == 21),
                )
                for k, channel in enumerate(level)
            ]
        )
    drawn = np.array(drawn)
    np.testing.assert_allclose(
        aggregate(maps, image_to_input, SIZE),
        np.concatenate([drawn[:, :21].max(axis=0), drawn[:, 21:].min(axis=0)]),
        atol=1e-5,
    )


def test_a_mask_is_drawn_as_opencv_warps_it():
    rng = np.random.default_rng(0)
    image_to_input = window_map(pyramid_windows(333, 217, rng, 1)[0], SIZE)[None]
    mask = rng.uniform(-0.2, 1.2, (16, 16)).astype(np.float32)
    expected = cv2.warpAffine(
        mask,
        invert(compose(image_to_input[0], to_cells())),
        (333, 217),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    np.testing.assert_allclose(
        mask_in_image([MaskCells(mask, image_to_input[0])], (333, 217)),
        np.clip(expected, 0, 1),
        atol=1e-5,
    )


def test_the_mask_is_drawn_where_it_lies_in_the_image():
    image_to_input = window_map((0, 0, 256, 128), SIZE)
    mask = np.zeros((16, 16), np.float32)
    mask[:4, 8:] = 1  # input pixels x >= 64, y < 32
    drawn = mask_in_image([MaskCells(mask, image_to_input)], (256, 128))
    assert drawn.shape == (128, 256)
    assert (
        (drawn[:56, 140:] > 0.5).all() and (drawn[72:] < 0.5).all() and (drawn[:, :116] < 0.5).all()
    )


def test_a_mask_of_several_inputs_is_the_mean_of_those_that_show_the_pixel():
    """One input shows the whole image, two the same square, of which one mirrored."""
    in_square = window_map((64, 100, 64, 64), SIZE)
    mirrored = compose(np.array([[-1.0, 0, 255], [0, 1, 0]]), window_map((128, 100, 64, 64), SIZE))
    cells = np.ones((16, 16), np.float32)
    masks = [
        MaskCells(0.2 * cells, window_map((0, 0, 256, 256), SIZE)),
        MaskCells(0.6 * cells, in_square),
        MaskCells(cells, mirrored),
    ]
    expected = np.full((256, 256), 0.2)
    expected[100:164, 64:128] = (0.2 + 0.6 + 1.0) / 3
    drawn = mask_in_image(masks, (256, 256))
    np.testing.assert_allclose(drawn, expected, atol=1e-6)


def test_the_mask_of_a_turned_input_is_drawn_where_it_lies_in_the_image():
    """A quarter turn takes the right side of a square to the input's top."""
    turned = compose(rotation_about_centre(90, (256, 200)), window_map((64, 36, 128, 128), SIZE))
    cells = np.zeros((16, 16), np.float32)
    cells[:4] = 1  # a quarter of the square
    right, rest = np.s_[40:160, 164:188], np.s_[40:160, 68:156]
    drawn = mask_in_image([MaskCells(cells, turned)], (256, 200))
    assert drawn.shape == (200, 256)
    assert drawn[right].min() > 0.9 and drawn[rest].max() < 0.1
    outside = drawn.copy()
    outside[35:166, 63:194] = 0
    assert not outside.any()
    upright = MaskCells(np.full((16, 16), 0.5, np.float32), window_map((0, 0, 256, 256), SIZE))
    mean = mask_in_image([MaskCells(cells, turned), upright], (256, 200))
    np.testing.assert_allclose(mean[right], 0.75, atol=0.06)
    np.testing.assert_allclose(mean[rest], 0.25, atol=0.06)
    np.testing.assert_allclose(mean[:, :60], 0.5, atol=1e-6)


@pytest.mark.parametrize("side", [300, 1100, 3000])
def test_a_large_turned_mask_is_drawn_from_fewer_pixels_without_being_seen(side, monkeypatch):
    size = (2000, 1500)
    turned = compose(rotation_about_centre(33, size), window_map((500, 200, side, side), SIZE))
    cells = cv2.GaussianBlur(np.random.default_rng(0).random((16, 16), np.float32), (0, 0), 0.8)
    fewer = mask_in_image([MaskCells(cells, turned)], size)
    monkeypatch.setattr("mcc_caffe.inference.pyramid._DRAWN_PIXELS_PER_CELL", 10**9)
    np.testing.assert_allclose(fewer, mask_in_image([MaskCells(cells, turned)], size), atol=0.02)
