"""Which of several results is of a sample's image: by the sample's key and the results' paths."""

from pathlib import Path

import numpy as np
import pytest

from mcc_caffe.evaluation.image_keys import find_images, parse_key
from mcc_caffe.inference.formats.base import ReadHand, ReadImage

NAMELESS = ".json"  # of results that lack their image's name, such as OpenPose's own files


def read_image(name, hand_count=1):
    """Return a result with some hands; one of the ending NAMELESS goes by its file's own name."""
    hands = [ReadHand(np.full((21, 3), 50.0), 0.9)] * hand_count
    return ReadImage(name.removesuffix(NAMELESS), not name.endswith(NAMELESS), hands)


def find_names(key, *images, splits=()):
    """Return the names of the results that may be of the key's image."""
    images_by_name = {}
    for image in images:
        name = Path(image.name).name, image.has_suffix
        images_by_name.setdefault(name, []).append(image)
    return [image.name for image in find_images(key, images_by_name, splits)]


@pytest.mark.parametrize(
    "key, split, names, expected",
    [
        # The image's name below its split is the whole name.
        ("Test_hand_1.jpg", "Test", ["1.json"], None),
        ("Test_hand_1.jpg", "Test", ["1.jpg"], None),
        ("Test_hand_1.jpg", "Test", ["1.json", "hand_1.json"], "hand_1"),
        ("Test_1.jpg", "Test", ["1.json", "hand_1.json"], "1"),
        ("Test_hand_1.jpg", "Test", ["1.jpg", "hand_1.jpg"], "hand_1.jpg"),
        ("Test_hand_1.jpg", "Test", ["s/Test/source/hand/1.jpg"], "s/Test/source/hand/1.jpg"),
        ("my_set_1.jpg", "my_set", ["1.json"], "1"),
        ("my_set_1.jpg", "my_set", ["my_set/source/1.jpg"], "my_set/source/1.jpg"),
        ("Test_1.jpg", "Test", ["Train/source/1.jpg"], None),
        ("Test_1.jpg", "Test", ["Test/source/1.jpg", "Test/source/a/1.jpg"], "Test/source/1.jpg"),
        (
            "Test_a_1.jpg",
            "Test",
            ["Test/source/1.jpg", "Test/source/a/1.jpg"],
            "Test/source/a/1.jpg",
        ),
        ("Test_1.jpg", "Test", ["Test/source/a/1.jpg"], None),
        ("Test_a_1.jpg", "Test", ["Test/source/a/1.jpg", "Test/a_1.jpg"], "Test/a_1.jpg"),
        (
            "evaluation_00000007.jpg",
            "evaluation",
            ["evaluation/rgb/00000007.jpg"],
            "evaluation/rgb/00000007.jpg",
        ),
        # COCO files: no folder has their name, and an id follows the image's.
        ("street_1.jpg_17", "street", ["/photos/images/1.jpg"], "/photos/images/1.jpg"),
        ("street_1.jpg_17", "street", ["1.json"], "1"),
        ("street_hands_1.jpg_17", "street_hands", ["images/1.jpg"], "images/1.jpg"),
        ("street_a_1.jpg_17", "street", ["images/a/1.jpg", "images/b/1.jpg"], "images/a/1.jpg"),
        ("street_a_1.jpg_17", "street", ["images/b/1.jpg"], None),
        ("street_a_1.jpg_17", "street", ["1.json"], "1"),
        ("street_1.jpg_17", "street", ["images/1.jpg", "images/a/1.jpg"], "images/1.jpg"),
        ("street_._1.jpg_17", "street", ["images/1.jpg"], "images/1.jpg"),
        ("street_.._a_1.jpg_17", "street", ["/photos/a/1.jpg"], "/photos/a/1.jpg"),
        (
            "20240101_set_1.jpg",
            "20240101_set",
            ["20240101_set/source/1.jpg"],
            "20240101_set/source/1.jpg",
        ),
        # LMDB sets: their own splits are no part of the keys, which begin with a number.
        ("00000042_Test_1.jpg", "validation", ["/x/Test/source/1.jpg"], "/x/Test/source/1.jpg"),
        ("00000042_Test_1.jpg", "validation", ["1.json"], "1"),
        ("00000042_Test_1.jpg", "validation", ["42.json", "/x/Train/source/1.jpg"], None),
        ("00000042_Test_hand_1.jpg", "validation", ["1.json", "hand_1.json"], "hand_1"),
        (
            "00000042_street_1.jpg_17",
            "validation",
            ["/photos/images/1.jpg"],
            "/photos/images/1.jpg",
        ),
    ],
)
def test_a_sample_has_the_result_of_its_own_image(key, split, names, expected):
    result_names = find_names(key, *map(read_image, names), splits=[split])
    assert result_names == ([] if expected is None else [expected])


def test_the_number_of_a_record_has_eight_digits():
    assert parse_key("00000042_hand.jpg").text == "hand.jpg"
    for name in ("2019_hand.jpg", "123456789_hand.jpg"):
        assert parse_key(name).text == name


def test_results_that_may_both_be_the_image_are_both_returned():
    names = ["x/Test/source/1.jpg", "y/Test/source/1.jpg"]
    assert find_names("Test_1.jpg", *map(read_image, names), splits=["Test"]) == names
    names = ["a/x/1.jpg", "b/1.jpg"]
    assert find_names("1.jpg", *map(read_image, names)) == names


def test_a_result_without_hands_and_name_gives_way_to_one_with_a_name():
    named, blank = read_image("Test/source/1.jpg"), read_image("1.json", hand_count=0)
    for splits in (["Test"], []):
        assert find_names("Test_1.jpg", blank, named, splits=splits) == [named.name]
        assert find_names("Test_1.jpg", blank, splits=splits) == ["1"]
    assert find_names("1.jpg", read_image("1.jpg"), blank) == ["1.jpg"]
    assert find_names("1.jpg", read_image("1.jpg"), read_image("1.json")) == ["1.jpg", "1"]
