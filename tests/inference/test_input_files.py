"""The files that a command takes: named ones, folders and globs, and what is passed over."""

import glob
import os
import pathlib
import shutil

import cv2
import numpy as np
import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.input_files import find_files, read_image
from tests.support.hands import turned_jpeg, write_photos


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


def test_hidden_and_linked_things_are_passed_over_and_said(photos, tmp_path):
    (photos / "._hand.jpg").write_bytes(b"of a Mac")
    (photos / ".thumbnails").mkdir()
    (photos / ".thumbnails/hand.jpg").write_bytes((photos / "hand.jpg").read_bytes())
    (photos / "linked").symlink_to("more")
    (photos / "broken.jpg").symlink_to("not there")
    os.mkfifo(photos / "pipe.jpg")
    (photos / "program.ts").write_text("let x = 1")
    files, passed_over = find_files([str(photos)])
    assert len(files) == 6
    for reason in (
        *("1 hidden folders (.thumbnails)", "1 linked folders (linked)"),
        *("1 hidden files (._hand.jpg)", "2 broken links, pipes or devices ("),
        "2 files of other kinds (",
    ):
        assert reason in str(passed_over)
    assert len(find_files([str(photos / "._hand.jpg")]).files) == 1  # where one names it
    with pytest.raises(UserError, match="pipe.jpg is a pipe or a device, not a file"):
        find_files([str(photos / "pipe.jpg")])


def test_what_is_passed_over_is_said_of_its_own_pattern(photos):
    for name in ("notes", "more notes"):
        (photos / name).mkdir()
    (photos / "notes/a.doc").touch()
    (photos / "more notes/b.md").touch()
    _, passed_over = find_files([str(photos), str(photos)])
    assert "6 files of other kinds (.txt, .doc, .md)" in str(passed_over)
    with pytest.raises(UserError, match=r"passed over: 1 files of other kinds \(\.md\)$"):
        find_files([str(photos), str(photos / "more notes")])


def test_masks_and_copies_of_the_labelling_page_are_no_inputs(photos):
    """But for where someone names the page's folder."""
    before = [file.path for file in find_files([str(photos)]).files]
    labels = photos / "mcc-labels"
    for folder in ("state", "upright", "onehand10k/Train/mask"):
        (labels / folder).mkdir(parents=True)
        shutil.copy(before[0], labels / folder / before[0].name)
    for pattern in (photos, photos / f"**/*{before[0].suffix}"):
        files, passed_over = find_files([str(pattern)])
        assert {file.path for file in files} <= set(before) and files
        assert "of the labelling page" in str(passed_over)
    for pattern in (labels, labels / "**/*.*"):
        assert len(find_files([str(pattern)]).files) == 3


def test_a_folder_that_is_only_called_like_the_labelling_pages_is_searched(photos):
    count = len(find_files([str(photos)]).files)
    (photos / "mcc-labels").mkdir()
    shutil.copy(photos / "hand.jpg", photos / "mcc-labels/hand.jpg")
    assert len(find_files([str(photos)]).files) == count + 1


def test_a_file_may_have_more_bytes_than_the_bound_has_pixels(tmp_path, monkeypatch):
    """It has 27,000 bytes and 9,000 pixels; the bound is 10,000."""
    monkeypatch.setenv("MCC_CAFFE_MAX_MEGAPIXELS", "0.01")
    cv2.imwrite(str(tmp_path / "x.bmp"), np.zeros((90, 100, 3), np.uint8))
    assert read_image(tmp_path / "x.bmp").shape == (90, 100, 3)


def test_a_photograph_is_turned_upright(tmp_path):
    (tmp_path / "turned.jpg").write_bytes(turned_jpeg())
    assert read_image(tmp_path / "turned.jpg").shape == (40, 20, 3)


def test_globs_and_files_together(photos):
    patterns = [str(photos / name) for name in ("*.png", "hand.jpg", "hand.png")]
    files = find_files(patterns).files
    assert sorted(file.path.name for file in files) == [
        "alpha.png",
        "deep.png",
        "hand.jpg",
        "hand.png",
        "pixel.png",
    ]
    with pytest.raises(UserError, match="no such image"):
        find_files([str(photos / "no*tes")])


@pytest.mark.parametrize("pattern", ["**/*.jpg", "**", "**/more/**/*.[jJ]*", "m*/**/*"])
def test_a_glob_of_all_folders_goes_round_no_circle(pattern, photos, monkeypatch):
    monkeypatch.chdir(photos)
    (photos / "more/[deep]").mkdir()
    shutil.copy("hand.jpg", "more/[deep]/hand.jpg")
    (photos / ".hidden").mkdir()
    shutil.copy("hand.jpg", ".hidden/hand.jpg")
    expected = {path for path in glob.glob(pattern, recursive=True) if pathlib.Path(path).is_file()}
    for name in ("one", "two", "three"):  # glob.glob would follow 3 to the power of 40 paths
        (photos / "more" / name).symlink_to(photos)
    files, passed_over = find_files([pattern])
    assert {str(file.path) for file in files} == expected and len(files) == len(expected) > 0
    assert "linked folders (" in str(passed_over)


def test_a_file_that_is_named_by_two_paths_is_done_once(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    (photos.parent / "linked").symlink_to(photos)
    before = find_files(["photos"]).files
    names = ["photos", "./photos/hand.jpg", str(photos), "linked", "photos/more/../hand.png"]
    assert find_files(names).files == before
    (photos / "link.jpg").symlink_to("hand.jpg")  # it has a name of its own, and so a result
    assert len(find_files(["photos"]).files) == len(before) + 1
