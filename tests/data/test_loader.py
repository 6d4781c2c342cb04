"""The loader: what a batch holds, its order over ranks and resumes, and its errors."""

import dataclasses
import json
import os
import shutil
import signal

import cv2
import lmdb
import numpy as np
import pytest
import skimage.data

from mcc_caffe.core.geometry import choose_reduction, warp
from mcc_caffe.core.heatmaps import encode
from mcc_caffe.data import augmentation
from mcc_caffe.data.augmentation import (
    Augmentation,
    draw_window,
    warp_keypoints,
)
from mcc_caffe.data.batches import Batch, batch_indices, fill_sample
from mcc_caffe.data.loader import Loader, lend_loader, take_loader
from mcc_caffe.data.loader_config import LoaderConfig, LoaderError
from mcc_caffe.data.samples import Sample, SampleSet
from mcc_caffe.paper import (
    BACKGROUND_MAX,
    DATA_BLOB,
    GREY,
    HEATMAPS_BLOB,
    IGNORE_LABEL,
    MASK_LABEL_BLOB,
)
from tests.support.commands import SIGNAL_AT_START, hear_a_hang_up, run_code
from tests.support.hands import hand, keypoints_at, write_set, write_unchecked_set
from tests.support.images import encoded

STRONG_PARTS = ("STRETCH_PROBABILITY", "NOISE_PROBABILITY", "COVER_PROBABILITY")
SAME_COLOURS = augmentation.ColourRanges((0, 0), (1, 1), (1, 1), 0.0, (0, 0))  # change nothing


def config(source, **changes):
    return LoaderConfig(
        **{**dict(source=str(source), batch_size=2, input_size=64, sigma=1.0), **changes}
    )


def copies(loader, count):
    """Copy the next batches out of the loader's memory."""
    batches = []
    for _ in range(count):
        arrays, keys = loader.next_batch()
        batches.append(Batch({name: array.copy() for name, array in arrays.items()}, keys))
    return batches


def filled(setting, sample, seed):
    """Return the arrays of a sample: its input, the label of its mask and its heatmaps."""
    arrays = {name: np.empty(shape[1:], np.float32) for name, shape in setting.shapes().items()}
    fill_sample(setting, sample, np.random.default_rng(seed), arrays)
    return [arrays[name] for name in (DATA_BLOB, MASK_LABEL_BLOB, HEATMAPS_BLOB)]


def assert_same(batches, expected_batches):
    for batch, expected in zip(batches, expected_batches, strict=True):
        assert batch.keys == expected.keys
        for name, array in batch.arrays.items():
            assert np.array_equal(array, expected.arrays[name])


def test_a_batch_holds_the_letterboxed_sample(drawn_set):
    labels = {"input_size": 96, "sigma": 1.5, "background": BACKGROUND_MAX}
    setting = config(drawn_set, **labels, augment=False, shuffle=False, workers=0)
    with Loader(setting) as loader:
        ((arrays, keys),) = copies(loader, 1)
    sample = SampleSet(drawn_set)[1]
    assert keys[1] == sample.key
    image_to_input = Augmentation().image_to_input(160, 120, 96)
    expected = (warp(sample.image(), image_to_input, 96, GREY).astype(np.float32) - 128) / 256
    assert np.array_equal(arrays["data"][1], expected.transpose(2, 0, 1))
    assert np.abs(arrays["data"]).max() <= 0.5
    assert not arrays["data"][1][:, 73:].any()  # below the letterboxed image: grey, exactly 0
    keypoints = sample.keypoints * (0.6, 0.6, 1)
    expected = encode(keypoints, 12, 1.5, BACKGROUND_MAX)
    assert np.allclose(arrays["heatmaps"][1], expected, atol=1e-5)
    assert set(np.unique(arrays["mask_label"])) == {0, 1}


@pytest.mark.parametrize("size", [(2000, 1500), (1999, 1501), (641, 479)])
@pytest.mark.parametrize("input_size", [368, 128])
def test_a_large_jpeg_decoded_at_a_part_of_its_size_looks_the_same(size, input_size):
    """A photograph as JPEG and the same pixels as PNG, which is always decoded at full size.

    They are 3 of 256 levels apart on average at the most.
    """
    photograph = encoded(
        cv2.resize(skimage.data.astronaut()[..., ::-1], size, interpolation=cv2.INTER_AREA), ".jpg"
    )
    keypoints = np.zeros((21, 3), np.float32)
    jpeg = Sample("x", photograph, None, keypoints)
    png = Sample("x", encoded(jpeg.image()), None, keypoints)
    setting, reduced_count = config("unused", input_size=input_size), 0
    for seed in range(8):
        image_to_input = Augmentation.draw(np.random.default_rng(seed)).image_to_input(
            *size, input_size
        )
        of_jpeg, of_png = (filled(setting, sample, seed) for sample in (jpeg, png))
        difference = 256 * np.abs(of_jpeg[0] - of_png[0])
        covered = warp(np.ones((size[1], size[0]), np.uint8), image_to_input, input_size, 0)
        empty = (covered == 0).astype(np.uint8)  # grey; at its edge a pixel may be half covered
        inside = cv2.dilate(empty, np.ones((5, 5))) == 0
        assert difference[:, inside].mean() < 3 and np.percentile(difference[:, inside], 99) < 24
        assert not difference[:, cv2.erode(empty, np.ones((5, 5))) > 0].any()
        assert np.array_equal(of_jpeg[1], of_png[1]) and np.array_equal(of_jpeg[2], of_png[2])
        reduced_count += choose_reduction(image_to_input) > 1
    assert reduced_count >= 2


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_worker_processes_give_what_the_caller_would(drawn_set, workers):
    with (
        Loader(config(drawn_set, workers=0)) as without_workers,
        Loader(config(drawn_set, workers=workers)) as with_workers,
    ):
        assert_same(copies(with_workers, 7), copies(without_workers, 7))


def test_a_resumed_loader_goes_on_as_the_uninterrupted_one(drawn_set):
    with (
        Loader(config(drawn_set, workers=0)) as uninterrupted,
        Loader(config(drawn_set, workers=2, first_iteration=4)) as resumed,
    ):
        assert_same(copies(resumed, 4), copies(uninterrupted, 8)[4:])


def test_seed_and_rank_change_the_batches(drawn_set):
    batches = []
    for seed, rank in ((0, 0), (1, 0), (0, 1)):
        with Loader(config(drawn_set, seed=seed, workers=0), rank, 2) as loader:
            batches.append(copies(loader, 1)[0][0]["data"])
    assert not np.array_equal(batches[0], batches[1]) and not np.array_equal(batches[0], batches[2])


def test_the_same_sample_is_augmented_anew_each_epoch(drawn_set):
    with Loader(config(drawn_set, batch_size=10, shuffle=False, workers=0)) as loader:
        (first, keys), (second, same_keys) = copies(loader, 2)
    assert keys == same_keys and not np.array_equal(first["data"], second["data"])


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_cover_the_set_disjointly(ranks):
    """Two epochs over 12 samples: every sample once an epoch, no rank another's."""
    setting = config("unused")
    per_epoch = 12 // (2 * ranks)
    for epoch in range(2):
        indices = [
            batch_indices(setting, 12, epoch * per_epoch + i, rank, ranks).tolist()
            for rank in range(ranks)
            for i in range(per_epoch)
        ]
        assert sorted(sum(indices, [])) == list(range(12))


def test_batches_run_across_the_ends_of_epochs():
    setting = config("unused", batch_size=4)
    order = np.concatenate([batch_indices(setting, 10, i, 0, 1) for i in range(5)])
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10].tolist() != order[10:].tolist()


def test_two_ranks_of_real_loaders_take_disjoint_samples(drawn_set):
    keys = []
    for rank in range(2):
        with Loader(config(drawn_set, batch_size=5, workers=1), rank, 2) as loader:
            keys += copies(loader, 1)[0][1]
    assert len(keys) == len(set(keys)) == 10


def test_a_sample_without_mask_gets_the_ignore_label(drawn_samples, tmp_path):
    sample = drawn_samples[0]
    folder = write_set(
        tmp_path / "set", [dataclasses.replace(sample, mask_png=None), drawn_samples[1]]
    )
    with Loader(config(folder, shuffle=False, workers=0)) as loader:
        labels = loader.next_batch()[0]["mask_label"]
    assert (labels[0] == IGNORE_LABEL).all() and set(np.unique(labels[1])) == {0, 1}


def test_a_killed_worker_ends_the_run_with_its_name(drawn_set):
    with Loader(config(drawn_set, workers=2)) as loader:
        loader.next_batch()
        os.kill(loader._workers[1][0].pid, signal.SIGKILL)
        with pytest.raises(LoaderError, match=r"loader worker 1 died \(exit code -9\)"):
            for _ in range(8):
                loader.next_batch()


def test_a_set_that_is_cut_short_is_named_as_what_may_have_ended_a_worker(drawn_set, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(drawn_set, folder)
    with Loader(config(folder, workers=1)) as loader:
        loader.next_batch()
        os.truncate(folder / "images/data.mdb", 4096)
        message = rf"died \(exit code -7\) .* was a file of {folder} cut short, or is /dev/shm full"
        with pytest.raises(LoaderError, match=message):
            for _ in range(8):
                loader.next_batch()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_record_ends_the_run_with_its_key(workers, drawn_samples, tmp_path):
    folder = write_set(tmp_path / "set", drawn_samples[:2])
    with lmdb.open(str(folder / "images")) as database, database.begin(write=True) as transaction:
        transaction.put(b"00000001_drawn1.jpg", b"")
    with (
        Loader(config(folder, workers=workers)) as loader,
        pytest.raises(
            LoaderError,
            match="iteration 0: 00000001_drawn1.jpg: the image .0 bytes. cannot be decoded",
        ),
    ):
        loader.next_batch()


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_a_mask_of_another_size_ends_the_run_with_its_key(kind, tmp_path):
    image_bytes = encoded(np.full((200, 300, 3), 90, np.uint8), kind)
    mask_png = encoded(np.full((400, 600), 255, np.uint8))
    folder = write_unchecked_set(
        tmp_path / "set", [hand(0, key="own", image_bytes=image_bytes, mask_png=mask_png)]
    )
    with (
        Loader(config(folder, workers=0)) as loader,
        pytest.raises(LoaderError, match="00000000_own: the mask is 600 x 400, the image 300 x 20"),
    ):
        loader.next_batch()


def test_a_keypoint_that_is_no_number_ends_the_run_with_its_key(tmp_path):
    keypoints = hand(0).keypoints.copy()
    keypoints[3, 0] = np.nan
    folder = write_unchecked_set(tmp_path / "set", [hand(0, key="own", keypoints=keypoints)])
    with (
        Loader(config(folder, workers=0)) as loader,
        pytest.raises(LoaderError, match="00000000_own: keypoint 3 is x nan"),
    ):
        loader.next_batch()


def test_workers_end_with_the_loader(drawn_set):
    loader = Loader(config(drawn_set, workers=2))
    processes = [process for process, _, _ in loader._workers]
    loader.close()
    assert all(process.exitcode is not None for process in processes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_worker_starts_ends_both_in_silence(number, drawn_set):
    code = f"""{SIGNAL_AT_START}
from mcc_caffe.data.loader import Loader
from mcc_caffe.data.loader_config import LoaderConfig

Loader(LoaderConfig(sys.argv[2], batch_size=2, input_size=64, sigma=1.0, workers=1))
"""
    done = run_code(code, int(number), drawn_set, preexec_fn=hear_a_hang_up)
    assert (done.returncode, done.stderr) == (-number, "")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sourse": "x"}, "unknown key 'sourse'; allowed: source, batch_size"),
        ({"batch_size": None}, "lacks the key 'batch_size'"),
        ({"batch_size": 0}, "batch_size is 0, it must be above 0"),
        ({"batch_size": "13"}, "batch_size is '13', a int is needed"),
        ({"augment": 1}, "augment is 1, a bool is needed"),
        ({"input_size": 100}, "input_size is 100, it must be a multiple of 8"),
        ({"workers": -1}, "workers is -1, it must be 0 or more"),
        ({"largest_window": 2.5}, "are 0.0 and 2.5, they must be 0, or from 1 on"),
        ({"smallest_window": 1.1}, "are 1.1 and 0.0, they must be 0, or from 1 on"),
        ({"smallest_window": 3, "largest_window": 2}, "are 3 and 2, they must be 0, or from 1 on"),
    ],
)
def test_a_bad_param_str_is_explained(change, message):
    values = {"source": "x", "batch_size": 2, "input_size": 64, "sigma": 1.0, **change}
    text = json.dumps({key: value for key, value in values.items() if value is not None})
    with pytest.raises(LoaderError, match=message):
        LoaderConfig.from_json(text)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_param_str_that_is_no_json_object_is_explained(text):
    with pytest.raises(LoaderError, match="param_str"):
        LoaderConfig.from_json(text)


def test_param_str_round_trip():
    setting = config("a/b", seed=3, augment=False)
    assert LoaderConfig.from_json(setting.to_json()) == setting


def test_the_param_str_of_an_earlier_release_is_read():
    """It has the key prefetch, which was always 2."""
    setting = config("a/b", seed=3)
    earlier = {**json.loads(setting.to_json()), "prefetch": 2}
    assert LoaderConfig.from_json(json.dumps(earlier)) == setting


def test_a_window_shows_the_hand_in_the_place_of_the_image(drawn_set):
    """The batch is the warp of the same draws: the augmentation of section 3.3, then the window."""
    setting = config(drawn_set, smallest_window=1.1, largest_window=2.5, workers=0)
    with Loader(setting) as loader:
        ((arrays, keys),) = copies(loader, 1)
    samples = SampleSet(drawn_set)
    index = batch_indices(setting, len(samples), 0, 0, 1)[1]
    sample, rng = samples[index], np.random.default_rng((setting.seed, 1, 0, 0, 1))
    drawn = Augmentation.draw(rng)
    window = draw_window(rng, sample.keypoints, 1.1, 2.5)
    windowed = dataclasses.replace(drawn, scale=1.0, window=window)
    height, width = sample.image().shape[:2]
    image_to_input = windowed.image_to_input(width, height, 64)
    assert keys[1] == sample.key and image_to_input[0, :2] @ image_to_input[0, :2] == pytest.approx(
        (64 / window.side) ** 2
    )
    keypoints = warp_keypoints(sample.keypoints, image_to_input, 64)
    np.testing.assert_array_equal(arrays["heatmaps"][1], encode(keypoints, 8, 1.0))
    expected = (warp(sample.image(), image_to_input, 64, GREY).astype(np.float32) - 128) / 256
    np.testing.assert_allclose(arrays["data"][1], expected.transpose(2, 0, 1), atol=0.03)
    plain = Augmentation().image_to_input(width, height, 64)
    assert np.linalg.det(image_to_input[:, :2]) ** 2 > np.linalg.det(plain[:, :2]) ** 2  # closer


def test_a_sample_without_keypoints_is_seen_in_the_whole_image(drawn_samples):
    sample = dataclasses.replace(drawn_samples[0], keypoints=keypoints_at())
    pair = []
    for windows in ({}, {"smallest_window": 1.1, "largest_window": 2.5}):
        setting = config("unused", **windows)
        pair.append(filled(setting, sample, 5))
    for plain, windowed in zip(*pair):
        np.testing.assert_array_equal(plain, windowed)


def batches_without_and_with(drawn_set, option):
    """Return the first batch's arrays without an augmentation and with it."""
    made = []
    for value in (False, True):
        with Loader(config(drawn_set, workers=0, **{option: value})) as loader:
            made += copies(loader, 1)
    (plain, keys), (augmented, augmented_keys) = made
    assert keys == augmented_keys
    return plain, augmented


def test_colours_change_the_image_and_nothing_else(drawn_set):
    plain, coloured = batches_without_and_with(drawn_set, "colours")
    assert np.abs(plain["data"] - coloured["data"]).max() > 0.05
    np.testing.assert_array_equal(plain["mask_label"], coloured["mask_label"])
    np.testing.assert_array_equal(plain["heatmaps"], coloured["heatmaps"])


def test_a_large_jpeg_is_blurred_as_much_as_a_png(monkeypatch):
    """By 1.6 pixels of 2,000, although it is decoded at a part of its size."""
    always = augmentation.COLOURS._replace(blur_probability=1.0, blur=(1.6, 1.6))
    monkeypatch.setattr("mcc_caffe.data.batches.COLOURS", always)
    photograph = cv2.resize(skimage.data.astronaut()[..., ::-1], (2000, 2000))
    jpeg = Sample("x", encoded(photograph, ".jpg"), None, np.zeros((21, 3)))
    png = dataclasses.replace(jpeg, image_bytes=encoded(jpeg.image()))
    setting = config("unused", input_size=128, colours=True)
    for seed in range(4):
        of_jpeg, of_png = (256 * filled(setting, sample, seed)[0] for sample in (jpeg, png))
        assert np.abs(of_jpeg - of_png).mean() < 1.2


def test_labels_move_with_what_is_stretched(monkeypatch):
    """A white disc is the mask and has keypoint 0 in its middle, wherever it comes to lie."""
    for name in ("NOISE_PROBABILITY", "COVER_PROBABILITY"):
        monkeypatch.setattr(augmentation, name, 0.0)
    monkeypatch.setattr("mcc_caffe.data.batches.STRONG_COLOURS", SAME_COLOURS)
    monkeypatch.setattr("mcc_caffe.data.batches.STRONG_PROBABILITY", 1.0)
    image, mask = np.zeros((120, 160, 3), np.uint8), np.zeros((120, 160), np.uint8)
    cv2.circle(image, (90, 50), 30, (255, 255, 255), -1)
    cv2.circle(mask, (90, 50), 30, 255, -1)
    keypoints = np.full((21, 3), [90.0, 50, 1])
    keypoints[1:5, :2] = (60, 50), (120, 50), (90, 20), (90, 80)
    png = [encoded(pixels) for pixels in (image, mask)]
    sample = Sample("disc", *png, keypoints)
    setting = config("unused", input_size=128, strong=True)
    widths = []
    for seed in range(20):
        data, mask_label, heatmaps = filled(setting, sample, seed)
        is_white = data[0] > 0.25
        rows, columns = np.nonzero(is_white)
        widths.append(np.ptp(columns) / np.ptp(rows))
        shown = cv2.resize(is_white.astype(np.float32), None, fx=1 / 8, fy=1 / 8)
        assert np.abs(shown - mask_label[0]).mean() < 0.06
        if columns.min() > 4 and columns.max() < 123 and rows.min() > 4 and rows.max() < 123:
            x, y = heatmaps[0].argmax() % 16 * 8 + 3.5, heatmaps[0].argmax() // 16 * 8 + 3.5
            assert abs(x - columns.mean()) < 5 and abs(y - rows.mean()) < 5
    assert min(widths) < 0.92 and max(widths) > 1.15  # the disc has become an ellipse


@pytest.mark.parametrize("part", ["none", "colours", *STRONG_PARTS])
def test_each_part_of_the_strong_augmentation_changes_the_image(part, drawn_set, monkeypatch):
    """The colours become black, which is below the grey of what the image does not cover."""
    monkeypatch.setattr("mcc_caffe.data.batches.STRONG_PROBABILITY", 1.0)
    black = SAME_COLOURS._replace(channel_gain=(0, 0))
    colours = black if part == "colours" else SAME_COLOURS
    monkeypatch.setattr("mcc_caffe.data.batches.STRONG_COLOURS", colours)
    for name in STRONG_PARTS:
        monkeypatch.setattr(augmentation, name, float(name == part))
    plain, changed = batches_without_and_with(drawn_set, "strong")
    assert (plain["data"] == changed["data"]).all() == (part == "none")
    assert (changed["data"] <= 0).all() == (part == "colours")
    assert np.isfinite(changed["data"]).all() and changed["data"].dtype == np.float32


def test_half_of_the_hands_point_up_before_the_papers_rotation(monkeypatch):
    """A hand that points down, in windows without that rotation; 4 standard deviations."""
    monkeypatch.setattr(augmentation, "ROTATION_RANGE", (0.0, 0.0))
    keypoints = np.full((21, 3), [-1.0, -1, 0])
    keypoints[[0, 5, 9, 13, 17]] = (90, 30, 1), (50, 60, 1), (56, 64, 1), (64, 76, 1), (70, 80, 1)
    image_bytes = encoded(np.zeros((120, 160)))
    sample = Sample("hand", image_bytes, None, keypoints)
    window = {"smallest_window": 1.5, "largest_window": 1.5}
    setting = config("unused", input_size=128, upright=True, **window)
    is_upright = []
    for seed in range(100):
        _, _, heatmaps = filled(setting, sample, seed)
        rows, columns = np.array([divmod(heatmaps[k].argmax(), 16) for k in (0, 5, 9, 13, 17)]).T
        is_upright.append(bool(rows[0] > rows[1:].max() + 2))
        if is_upright[-1]:
            assert abs(columns[0] - columns[1:].mean()) <= 1
        else:
            assert rows[0] < rows[1:].min() - 2
    assert abs(np.mean(is_upright) - 0.5) < 4 * np.sqrt(0.25 / len(is_upright))


def test_half_of_the_images_without_a_hand_are_turned_into_any_direction(monkeypatch):
    """The upper half is white. Half of the images stay, half go into one of four directions."""
    monkeypatch.setattr(augmentation, "ROTATION_RANGE", (0.0, 0.0))
    pixels = np.zeros((128, 128), np.uint8)
    pixels[:64] = 255
    sample = Sample("empty", encoded(pixels), None, np.full((21, 3), [-1.0, -1, 0]))
    setting = config(
        "unused", input_size=128, upright=True, smallest_window=1.5, largest_window=1.5
    )
    sides = dict.fromkeys(("top", "left", "bottom", "right"), 0)
    for seed in range(400):
        data, *_ = filled(setting, sample, seed)
        (top, bottom), (left, right) = (
            np.array_split(data[0].mean(axis=axis), 2) for axis in (1, 0)
        )
        brightness = {"top": top, "left": left, "bottom": bottom, "right": right}
        sides[max(sides, key=lambda side: brightness[side].mean())] += 1
    for side, count in sides.items():
        share = 0.625 if side == "top" else 0.125
        assert abs(count / 400 - share) < 4 * np.sqrt(share * (1 - share) / 400)


def test_images_without_a_hand_have_the_papers_rotation_on_top_of_their_turns(monkeypatch):
    """A white square that is turned by 20 degrees more has left the corners to the grey, 0."""
    monkeypatch.setattr(augmentation, "ROTATION_RANGE", (20.0, 20.0))
    monkeypatch.setattr(augmentation, "SCALE_RANGE", (1.0, 1.0))
    white = encoded(np.full((128, 128), 255, np.uint8))
    sample = Sample("empty", white, None, np.full((21, 3), [-1.0, -1, 0]))
    setting = config("unused", input_size=128, upright=True, smallest_window=1, largest_window=1)
    corners = [filled(setting, sample, seed)[0][0, 0, 0] for seed in range(20)]
    assert corners == [0] * 20


def test_half_of_the_samples_are_augmented_strongly(drawn_set):
    """The others are what they are without the option; 100 samples, 4 standard deviations."""
    is_changed = []
    loaders = [Loader(config(drawn_set, workers=0, strong=strong)) for strong in (False, True)]
    while len(is_changed) < 100:
        plain, strong = (loader.next_batch() for loader in loaders)
        assert plain.keys == strong.keys
        is_changed += [
            bool(np.abs(before - after).max() > 0.01)
            for before, after in zip(plain.arrays["data"], strong.arrays["data"], strict=True)
        ]
    assert abs(np.mean(is_changed) - 0.5) < 4 * np.sqrt(0.25 / len(is_changed))


def test_without_augmentation_windows_and_colours_are_off(drawn_set):
    made = []
    windows = {"smallest_window": 1.1, "largest_window": 2.5}
    for options in ({}, {**windows, "colours": True}, {**windows, "strong": True}):
        with Loader(config(drawn_set, augment=False, workers=0, **options)) as loader:
            made.append(copies(loader, 1))
    assert_same(made[0], made[1])
    assert_same(made[0], made[2])


def test_a_lent_loader_is_taken_once(drawn_set):
    setting = config(drawn_set, workers=0)
    loader = Loader(setting)
    lend_loader(loader)
    with pytest.raises(LoaderError, match="the loader was started with .*seed=0.* the net says"):
        take_loader(config(drawn_set, workers=0, seed=9))
    assert take_loader(setting) is loader and take_loader(setting) is None
