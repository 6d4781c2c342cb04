"""The paths of results: one for each file, short enough, and no two the same."""

import itertools
import pathlib

import numpy as np
import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.inference import result_paths
from mcc_caffe.inference.formats import FORMATS, OWN_FORMAT, open_format
from mcc_caffe.inference.formats.base import ImageRecord
from mcc_caffe.inference.input_files import InputFile
from mcc_caffe.inference.result_paths import check_result_paths, choose_result_paths


def test_results_of_one_name_do_not_overwrite_each_other():
    files = [
        InputFile(pathlib.Path(folder, name), pathlib.Path(name).with_suffix(""))
        for folder, name in (("a", "x.jpg"), ("a", "x.png"), ("b", "x.jpg"), ("c", "X.jpg"))
    ]
    paths = choose_result_paths(files, pathlib.Path("out"))
    assert len({str(path).lower() for path in paths}) == 4 and paths[0] == pathlib.Path("out/x")


def first_free_names(files):
    """The names that results get, each found by a count from the start."""
    names = []
    for file in files:
        stem, suffix = file.relative.name, file.path.suffix[1:]
        numbered = (f"{stem}_{suffix}_{number}" for number in itertools.count(2))
        variations = itertools.chain([stem, f"{stem}_{suffix}"], numbered)
        taken = {name.lower() for name in names}
        names.append(next(name for name in variations if name.lower() not in taken))
    return names


def test_results_get_the_first_name_that_is_free():
    """Small names, so that variations of some are those of others."""
    stems = ["x", "X", "x_jpg", "x_jpg_2", "x_JPG_3", "x_png"]
    rng = np.random.default_rng(0)
    for _ in range(200):
        files = [
            InputFile(pathlib.Path(str(index), f"{stem}{suffix}"), pathlib.Path(stem))
            for index, (stem, suffix) in enumerate(
                zip(rng.choice(stems, 20), rng.choice([".jpg", ".JPG", ".png"], 20))
            )
        ]
        paths = choose_result_paths(files, pathlib.Path())
        assert list(map(str, paths)) == first_free_names(files)


def test_of_thousands_of_files_of_one_name_each_tries_few_results(monkeypatch):
    tried, vary_path = [], result_paths._vary_path

    def count_tries(*arguments):
        tried.append(arguments)
        return vary_path(*arguments)

    monkeypatch.setattr(result_paths, "_vary_path", count_tries)
    name = pathlib.Path("color.jpg")
    files = [InputFile(str(index) / name, name.with_suffix("")) for index in range(5000)]
    paths = choose_result_paths(files, pathlib.Path("out"))
    assert len(files) <= len(tried) <= 2 * len(files) and paths[-1].name == "color_jpg_4999"


def test_long_suffixes_leave_room_for_the_name_and_a_number():
    suffixes = [".jpg", f".{'s' * 250}", f".{'s' * 250}t", f".{'ü' * 125}"]
    files = [InputFile(pathlib.Path(f"a{suffix}"), pathlib.Path("a")) for suffix in suffixes]
    names = [path.name for path in choose_result_paths(files, pathlib.Path("out"))]
    assert names == ["a", f"a_{'s' * 100}", f"a_{'s' * 100}_2", f"a_{'ü' * 50}"]


def test_a_long_name_is_shortened_for_the_suffix_that_tells_it_from_another():
    """A result's name has 227 bytes at most, and "_png" is 4 of them."""
    relative = pathlib.Path("x" * 251)
    files = [InputFile(pathlib.Path(f"a{suffix}"), relative) for suffix in (".jpg", ".png")]
    names = [path.name for path in choose_result_paths(files, pathlib.Path("out"))]
    assert names == ["x" * 227, f"{'x' * 223}_png"]


def test_no_result_lies_in_another_one_where_capitals_are_not_told_apart(tmp_path):
    folder, file = tmp_path / "Clip_keypoints", tmp_path / "clip_keypoints/hand.json"
    for results in ([folder, file], [file, folder]):
        with pytest.raises(UserError, match="hand.json would lie in .*, which is another result"):
            check_result_paths([], results, overwrite=False)


@pytest.mark.parametrize("is_video", [False, True])
@pytest.mark.parametrize("name", [name for name in FORMATS if name != OWN_FORMAT])
def test_results_of_the_longest_names_can_be_written(name, is_video, tmp_path):
    (result,) = choose_result_paths(
        [InputFile(pathlib.Path("x.mp4"), pathlib.Path("x" * 251))], tmp_path
    )
    result_format = open_format(name)
    text = result_format.describe(ImageRecord("x.mp4", 2, 2, [], 0, 0.0))
    if is_video:
        result_format.write_video(result, [text])
    else:
        result_format.write_image(result, text)
    assert all(path.exists() for path in result_format.paths(result, is_video))
