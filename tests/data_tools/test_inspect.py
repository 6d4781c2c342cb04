"""Contact sheets of a set: what is drawn lies where it was computed by hand."""

import shutil

import cv2
import numpy as np
import pytest

from data_tools.inspect import CAPTION_LINES, PANEL, PANELS
from data_tools.readers.onehand10k import LABELS
from mcc_caffe.core.drawing import MASK_COLOUR
from mcc_caffe.core.geometry import apply
from mcc_caffe.core.hand import FINGER_COLOURS, NAMES
from mcc_caffe.data.augmentation import Augmentation
from mcc_caffe.data.samples import Sample
from mcc_caffe.data.sheet import EMPTY, GAP, OUTLINE, TILE
from mcc_caffe.paper import VARIANTS
from tests.support.commands import refusal, run
from tests.support.hands import hand, keypoints_at, write_layout, write_set
from tests.support.images import encoded

TEXT = CAPTION_LINES * 14 + 6
INDEX_TIP, POINT = NAMES.index("index_4"), (300.0, 150.0)


def grey_sample(key: str, mask: bool = True) -> Sample:
    """A grey 480 x 240 image, its mask 100..399 x 60..199, its only keypoint index_4 at POINT."""
    keypoints = keypoints_at()
    keypoints[INDEX_TIP] = *POINT, 1
    hand_mask = np.zeros((240, 480), np.uint8)
    hand_mask[60:200, 100:400] = 255
    image = encoded(np.full((240, 480, 3), 128, np.uint8))
    return Sample(key, image, encoded(hand_mask) if mask else None, keypoints)


def inspect(source, out, *options) -> np.ndarray:
    done = run("data_tools.inspect", source, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}\n"
    return cv2.imread(str(out))


def panels(sheet: np.ndarray) -> list:
    """The three panels of a sheet's first tile."""
    lefts = [GAP + index * (PANEL + GAP) for index in range(3)]
    return [sheet[GAP : GAP + PANEL, left : left + PANEL] for left in lefts]


def test_a_source_folder_is_drawn_as_it_is(tmp_path):
    """Two tiles. 480 x 240 is drawn at half its size: (300, 150) is pixel (149.75, 74.75) of it."""
    source = write_layout(tmp_path / "set", {"Train": [grey_sample("1.jpg")], "Test": [hand(1)]})
    sheet = inspect(source, tmp_path / "new/sheet.png")
    assert sheet.shape == (TILE + TEXT + 2 * GAP, 2 * (TILE + GAP) + GAP, 3)
    tile = sheet[GAP : GAP + TILE, GAP : GAP + TILE]
    assert (tile[75, 150] == FINGER_COLOURS[1]).all()
    assert (tile[70, 50] == OUTLINE).all() and (
        tile[30, 100] == OUTLINE
    ).all()  # the mask's left and upper edge
    assert (tile[50, 100] == 128).all() and (tile[120:] == EMPTY).all()
    other = sheet[GAP : GAP + TILE, 2 * GAP + TILE :][:180, :TILE]  # 160 x 120, at one and a half
    for k, (x, y, _) in enumerate(hand(1).keypoints):
        if k % 4 == 0 and k > 0:  # tips, which no bone covers
            x, y = (
                round(1.5 * (round(float(x)) + 0.5) - 0.5),
                round(1.5 * (round(float(y)) + 0.5) - 0.5),
            )
            assert np.abs(other[y, x].astype(int) - FINGER_COLOURS[k // 4 - 1]).max() < 30


def test_the_choice_follows_the_seed_and_the_number(tmp_path):
    source = write_layout(tmp_path / "set", {"Train": [hand(number) for number in range(8)]})
    first, again, other = (
        inspect(source, tmp_path / f"{index}.png", "--n", 3, "--seed", seed)
        for index, seed in enumerate((0, 0, 1))
    )
    assert first.shape == (TILE + TEXT + 2 * GAP, 3 * (TILE + GAP) + GAP, 3)
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_lmdb_is_drawn_as_the_net_gets_it(tmp_path, variant):
    """Letterboxed, an image of 480 x 240 fills the panel's upper half, at a scale of PANEL / 480.

    A cell of the mask is an eighth of the input.
    """
    source = write_set(tmp_path / "set", [grey_sample("1")])
    sheet = inspect(source, tmp_path / "sheet.png", "--variant", variant, "--no-augmentation")
    assert sheet.shape == (PANELS[0] + TEXT + 2 * GAP, PANELS[1] + 2 * GAP, 3)
    image, mask, heat = panels(sheet)
    assert (image == 128).all()
    x, y = (PANEL / 480 * (np.array(POINT) + 0.5) - 0.5).round().astype(int)
    assert_peak(heat, x, y, VARIANTS[variant].cells)
    tinted = mask[y, x].astype(int)
    assert tinted[0] > 170 and tinted[2] < 80  # blue, as MASK_COLOUR is
    assert MASK_COLOUR[0] == 255 and (mask[150:] == 128).all()
    columns = np.flatnonzero((mask[y] != 128).any(axis=1))
    cell = PANEL / VARIANTS[variant].cells
    assert (
        abs(columns[0] - PANEL * 100 / 480) <= cell and abs(columns[-1] - PANEL * 400 / 480) <= cell
    )


def assert_peak(heat: np.ndarray, x: int, y: int, cells: int) -> None:
    """The panel is brightest at (x, y), to half a cell, and has the index finger's colour there."""
    brightness = heat.astype(int).sum(axis=2)
    top = np.argwhere(brightness == brightness.max()).mean(axis=0)
    assert np.abs(top - (y, x)).max() <= 0.5 * PANEL / cells + 1
    blue, green, red = heat[y, x].astype(int)
    assert min(blue, green) > 170 and min(blue, green) - red > 40
    assert brightness[-1, -1] < 200  # far from it: 45 % of the image


@pytest.mark.parametrize("variant, seed", [("paper", 0), ("paper", 3), ("mini", 1)])
def test_lmdb_is_augmented_and_the_heatmap_goes_along(tmp_path, variant, seed):
    source = write_set(tmp_path / "set", [grey_sample("1")])
    sheet = inspect(source, tmp_path / "sheet.png", "--variant", variant, "--seed", seed)
    size = VARIANTS[variant].input_size
    image_to_input = Augmentation.draw(np.random.default_rng((seed, 0))).image_to_input(
        480, 240, size
    )
    in_input = apply(image_to_input, np.array(POINT))
    assert (in_input >= 8).all() and (
        in_input < size - 8
    ).all()  # seeds that keep the keypoint in view
    x, y = (PANEL / size * (in_input + 0.5) - 0.5).round().astype(int)
    plain = (PANEL / 480 * (np.array(POINT) + 0.5) - 0.5).round()
    assert (
        np.abs(plain - (x, y)).max() > PANEL / VARIANTS[variant].cells
    )  # elsewhere than without augmentation
    assert_peak(panels(sheet)[2], x, y, VARIANTS[variant].cells)


def test_a_set_without_masks_has_an_empty_panel(tmp_path):
    sheet = inspect(
        write_set(tmp_path / "set", [grey_sample("1", mask=False)]), tmp_path / "sheet.png"
    )
    assert (panels(sheet)[1] == EMPTY).all()


def test_many_samples_make_several_pages(tmp_path):
    """Three tiles of an LMDB set beside each other, eight rows on a page."""
    source = write_set(
        tmp_path / "sets/train", [grey_sample(str(number)) for number in range(20)]
    ).parent
    write_set(source / "validation", [grey_sample(str(number)) for number in range(10)])
    done = run("data_tools.inspect", source, "--out", tmp_path / "sheet.png", "--n", 200)
    assert done.returncode == 0 and done.stdout.splitlines() == [
        f"{tmp_path}/sheet-1.png",
        f"{tmp_path}/sheet-2.png",
    ]
    first, second = (cv2.imread(path) for path in done.stdout.splitlines())
    width, height = PANELS[1] + GAP, PANELS[0] + TEXT + GAP
    assert first.shape == (8 * height + GAP, 3 * width + GAP, 3) and second.shape == (
        2 * height + GAP,
        3 * width + GAP,
        3,
    )
    inspect(source, tmp_path / "sheet.png", "--n", 1)
    assert [path.name for path in tmp_path.glob("*.png")] == ["sheet.png"]


def test_pages_replace_sheets_alone(tmp_path):
    source = write_layout(tmp_path / "set", {"Train": [hand(1)]})
    out, foreign = tmp_path / "sheet.png", tmp_path / "sheet-2.png"
    foreign.write_bytes(b"a photograph")
    done = run("data_tools.inspect", source, "--out", out)
    assert "sheet-2.png might be overwritten" in refusal(done)
    assert foreign.read_bytes() == b"a photograph" and not out.exists()
    foreign.unlink()
    out.write_bytes(encoded(np.zeros((9, 9, 3), np.uint8)))
    before = out.read_bytes()
    done = run("data_tools.inspect", source, "--out", out)
    assert "would be overwritten and is no sheet" in refusal(done)
    assert out.read_bytes() == before
    out.unlink()
    inspect(source, out)
    shutil.copy(out, foreign)  # as an earlier run leaves it
    inspect(source, out)


def test_an_unusable_sample_is_a_grey_tile_with_the_reason(tmp_path):
    source = write_layout(tmp_path / "set", {"Train": [hand(1), hand(2)]})
    (source / "Train" / LABELS).write_text(
        "1.jpg,160\n" + (source / "Train" / LABELS).read_text().splitlines()[1]
    )
    sheet = inspect(source, tmp_path / "sheet.png")
    first, second = (sheet[GAP:, left:][:, :TILE] for left in (GAP, 2 * GAP + TILE))
    assert (first[:TILE] == EMPTY).all() and (first[TILE + 16 :] < 128).any()
    assert (second[:180] != EMPTY).any(axis=2).mean() > 0.9


def test_a_set_that_is_a_link_to_itself_gives_one_line(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    sheet = tmp_path / "sheet.png"
    sheet.write_bytes(encoded(np.zeros((9, 9, 3), np.uint8)))
    done = run("data_tools.inspect", tmp_path / "loop", "--out", sheet)
    assert "is no sheet" in refusal(done)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "was not found"),
        (["empty"], "holds no data set"),
        (["set", "--n", "0"], "0 is not above 0"),
        (["set", "--seed", "-1"], "argument --seed: -1 is not between 0 and 4294967295"),
        (["set", "--out", "sheet.jpg"], "give a name that ends in .png"),
    ],
)
def test_wrong_arguments_give_one_line(tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    write_set(tmp_path / "set", [grey_sample("1")])
    command = ("data_tools.inspect", tmp_path / arguments[0], "--out", tmp_path / "sheet.png")
    assert message in refusal(run(*command, *arguments[1:]))
    assert not (tmp_path / "sheet.png").exists()
