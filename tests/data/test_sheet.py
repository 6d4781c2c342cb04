"""Contact sheets."""

import numpy as np
import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_together
from mcc_caffe.core.hand import FINGER_COLOURS, NAMES, WRIST_COLOUR
from mcc_caffe.data.samples import Sample
from mcc_caffe.data.sheet import (
    EMPTY,
    GAP,
    OUTLINE,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    TILE,
    captioned,
    check_pages,
    find_pages,
    make_page_files,
    missing_text,
    pages,
    sample_tile,
    wrap,
)
from tests.support.commands import files_of
from tests.support.disks import room_for_files
from tests.support.hands import hand, keypoints_at, moved
from tests.support.images import encoded


def test_missing_keypoints_are_named_short():
    keypoints = hand(1).keypoints
    assert missing_text(keypoints) == "all 21 keypoints"
    gone = ("wrist", "index_2", "index_3", "index_4", "ring_1", "ring_2", "ring_3", "ring_4")
    assert (
        missing_text(moved(hand(1), **{name: (-1, -1, 0) for name in gone}))
        == "missing: wrist, index 2 3 4, ring"
    )
    assert missing_text(keypoints_at()) == "no keypoint"


def test_a_tile_shows_mask_and_keypoints_in_their_places():
    """A grey image of 480 x 240 is drawn at half its size: its pixel 201 is the tile's 100."""
    mask = np.zeros((240, 480), np.uint8)
    mask[40:200, 100:400] = 255
    mask[60:80, 300:340] = 0  # a hole has an outline, too
    keypoints = keypoints_at((141, 101))
    keypoints[NAMES.index("index_4")] = (241, 121, 1)
    image = encoded(np.full((240, 480, 3), 90, np.uint8))
    tile = sample_tile(Sample("x", image, encoded(mask), keypoints))
    assert tile[50, 70].tolist() == list(WRIST_COLOUR) and tile[60, 120].tolist() == list(
        FINGER_COLOURS[1]
    )
    assert (
        (tile[60, 50] == OUTLINE).all()
        and (tile[20, 120] == OUTLINE).all()
        and (tile[99, 120] == OUTLINE).all()
    )
    assert (tile[35, 149] == OUTLINE).all()  # the hole's left edge
    assert (tile[60, 80] == 90).all() and (tile[10, 10] == 90).all() and (tile[120:] == EMPTY).all()


def test_a_tall_image_fills_the_height_of_its_tile():
    image = encoded(np.full((480, 240, 3), 90, np.uint8))
    tile = sample_tile(Sample("x", image, None, keypoints_at()))
    assert (tile[:, :120] == 90).all() and (tile[:, 120:] == EMPTY).all()


def test_a_caption_is_wrapped_and_cut():
    tile = np.zeros((TILE, TILE, 3), np.uint8)
    assert wrap("one two", 10_000) == ["one two"] and len(wrap("word " * 40, TILE)) > 4
    assert "".join(wrap("x" * 100, TILE)) == "x" * 100
    short, long = (captioned(tile, text, lines=2) for text in ("one", "word " * 40))
    assert (
        short.shape == long.shape
        and not (short[TILE + 20 :] < 128).any()
        and (long[TILE + 20 :] < 128).any()
    )
    word = "x" * 20  # fills more than half of a line
    cut = captioned(tile, word, word, word, lines=2)
    np.testing.assert_array_equal(cut, captioned(tile, word, f"{word} ...", lines=2))


def test_tiles_fill_pages_from_left_to_right():
    tiles = [np.full((500, 600, 3), number, np.uint8) for number in range(14)]  # 3 x 4 on a page
    first, second = pages(tiles)
    assert first.shape == (4 * 504 + GAP, 3 * 604 + GAP, 3) and second.shape == (
        504 + GAP,
        3 * 604 + GAP,
        3,
    )
    assert first.shape[0] <= PAGE_HEIGHT and first.shape[1] <= PAGE_WIDTH
    assert [
        int(first[300 + 504 * row, 300 + 604 * column, 0])
        for row in range(4)
        for column in range(3)
    ] == list(range(12))
    assert [int(second[300, 300 + 604 * column, 0]) for column in range(3)] == [12, 13, 255]


def write_pages(tiles, path):
    """Write the pages of tiles in the place of those before them; returns their paths."""
    files = make_page_files(tiles, path)
    write_together(files, find_pages(path))
    return [*files]


def test_pages_of_an_earlier_call_are_removed(tmp_path):
    """Twelve of these tiles fill a page."""
    path, tile = tmp_path / "sheet.png", np.zeros((500, 600, 3), np.uint8)

    def names_after(tile_count):
        written = write_pages([tile] * tile_count, path)
        names = sorted(page.name for page in path.parent.iterdir())
        assert names == [page.name for page in written]
        return names

    assert names_after(30) == ["sheet-1.png", "sheet-2.png", "sheet-3.png"]
    assert names_after(24) == ["sheet-1.png", "sheet-2.png"]
    assert names_after(1) == ["sheet.png"]
    assert names_after(13) == ["sheet-1.png", "sheet-2.png"]
    assert names_after(0) == []


def test_pages_of_an_earlier_call_stay_where_a_page_cannot_be_written(tmp_path):
    tiles = [np.full((500, 600, 3), number, np.uint8) for number in range(30)]
    write_pages(tiles, tmp_path / "sheet.png")
    before = files_of(tmp_path)
    assert len(before) == 3
    with room_for_files(1), pytest.raises(UserError, match="sheet-2.png cannot be written"):
        write_pages(tiles[:0:-2], tmp_path / "sheet.png")
    assert files_of(tmp_path) == before


def test_no_other_file_is_removed_with_the_pages(tmp_path):
    """The numbers of pages have no gap, so that sheet-2026.png is a sheet of another name."""
    path, tile = tmp_path / "sheet.png", np.zeros((500, 600, 3), np.uint8)
    write_pages([tile], tmp_path / "sheet-2026.png")
    write_pages([tile], tmp_path / "sheets-1.png")
    (tmp_path / "sheet-3.png").write_bytes(b"a photograph")
    write_pages([tile] * 13, path)
    write_pages([tile], path)
    names = {page.name for page in tmp_path.iterdir()}
    assert names == {"sheet.png", "sheet-3.png", "sheet-2026.png", "sheets-1.png"}


def test_a_file_that_is_no_sheet_is_told_where_a_further_page_may_go(tmp_path):
    """Twelve of these tiles fill a page."""
    tile = np.zeros((500, 600, 3), np.uint8)
    (tmp_path / "sheet-2.png").write_bytes(b"a photograph")
    check_pages(tmp_path / "sheet.png", tile, 12)
    with pytest.raises(UserError, match="sheet-2.png might be overwritten"):
        check_pages(tmp_path / "sheet.png", tile, 13)
