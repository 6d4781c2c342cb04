"""What the readers share: keys, and one hand of a scene."""

import os
import re

import numpy as np
import pytest

from data_tools.readers import coco
from data_tools.readers.shared import (
    bound_keypoints,
    clipped_square,
    frame_sample,
    image_size,
    make_key,
    number_equal_keys,
    read_json,
    read_named_file,
)
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.data.samples import Sample
from tests.support.images import encoded
from tests.support.labels import turned
from tests.support.readers import plain_image, write


def test_keys_fit_lmdb():
    assert make_key("a_train", "b/c.jpg", "7") == "a_train_b_c.jpg_7"
    long = [make_key("x", "ä" * 300, end) for end in "12"]
    assert long[0] != long[1] and all(len(key.encode()) <= 400 for key in long)
    assert make_key("\udcff.jpg") == "\\udcff.jpg"  # a file name that is not UTF-8


def test_equal_keys_of_different_samples_get_numbers():
    samples = [("a/1", "a_1"), ("b", "b"), ("a_1", "a_1"), ("a/1", "a_1"), ("c", "a_1_2")]
    assert number_equal_keys([*samples, ("d", "a_1")]) == [
        "a_1",
        "b",
        "a_1_2",
        "a_1",
        "a_1_2_2",
        "a_1_3",
    ]


def test_a_crop_is_the_square_around_the_box_as_far_as_the_image_reaches():
    """A box of 40 x 20 at (100, 10) has its centre at (120, 20), half side 1.5 x 40 / 2 = 30.

    The crop reaches from x 90 to 150 and from y -10, clipped at 0, to 50.
    """
    mask = np.zeros((120, 160), np.uint8)
    mask[0, 90] = 255
    keypoints = np.full((21, 3), (-1, -1, 0), np.float32)
    keypoints[:5] = (100, 10, 1), (90, 0, 1), (150, 50, 1), (151, 20, 1), (89, 20, 1)
    source = Sample("x", plain_image(), encoded(mask), keypoints)
    crop = frame_sample(source, "here", box=(100, 10, 140, 30), factor=1.5)
    assert crop.image().shape == (51, 61, 3) and np.array_equal(
        crop.image(), source.image()[0:51, 90:151]
    )
    assert crop.mask().shape == (51, 61) and crop.mask()[0, 0] == 1 and crop.mask().sum() == 1
    assert crop.keypoints[:4].tolist() == [[10, 10, 1], [0, 0, 1], [60, 50, 1], [-1, -1, 0]]
    assert (crop.keypoints[4:] == (-1, -1, 0)).all()
    assert crop.is_crop and crop.source_box == (-90, 0, 160 - 90, 120)
    assert crop.outside == ()  # of the crop only, not of the source


def test_the_longer_side_of_a_box_gives_the_square():
    """A box of 10 x 40 has its centre at (105, 60) and the half side 1.5 x 40 / 2 = 30."""
    assert clipped_square((100, 40, 110, 80), 1.5, 160, 120) == (75, 30, 136, 91)


@pytest.mark.parametrize("width, height", [(160, 120), (120, 160)])
def test_a_crop_of_the_whole_length_of_one_side_is_a_crop(width, height):
    """A square of 120 pixels in the middle of the longer side."""
    keypoints = np.tile(np.float32([80, 80, 1]), (21, 1))
    source = Sample("x", plain_image(width, height), None, keypoints)
    box = (width / 2 - 60, height / 2 - 60, width / 2 + 59, height / 2 + 59)
    crop = frame_sample(source, "here", box=box, factor=1.0)
    left, top = (width - 120) // 2, (height - 120) // 2
    assert crop.is_crop
    assert np.array_equal(crop.image(), source.image()[top : top + 120, left : left + 120])
    assert crop.keypoints[0].tolist() == [80 - left, 80 - top, 1]


def test_a_crop_that_holds_the_whole_image_changes_no_byte_of_it():
    keypoints = np.tile(np.float32([159, 119, 1]), (21, 1))
    keypoints[0], keypoints[1] = (160, 5, 1), (5, -1, 1)  # outside the image
    source = Sample("x", plain_image(), None, keypoints)
    crop = frame_sample(source, "here", box=(0, 0, 159, 119), factor=2.2)
    assert crop.image_bytes == source.image_bytes
    assert crop.keypoints[:3].tolist() == [[-1, -1, 0], [-1, -1, 0], [159, 119, 1]]


def test_sizes_and_boxes_that_cannot_be_are_told():
    sample = Sample("x", plain_image(), None, np.zeros((21, 3)))
    assert image_size(sample, "here") == image_size(sample, "here", (160, 120)) == (160, 120)
    with pytest.raises(SampleError, match="here: the image is 160 x 120, the label says 120 x 160"):
        image_size(sample, "here", (120, 160))
    for box in ((300, 10, 320, 30), (10, 300, 30, 320)):
        message = re.escape(f"here: the hand's box {box} lies outside the image, 160 x 120")
        with pytest.raises(SampleError, match=message):
            frame_sample(sample, "here", box=box, factor=2.0)


@pytest.mark.parametrize("size, is_of_upright", [((160, 120), True), ((80, 60), False)])
def test_a_label_of_the_upright_images_size_alone_is_said_to_be_of_that_image(size, is_of_upright):
    image = turned(np.zeros((120, 160, 3), np.uint8), 6)
    with pytest.raises(SampleError) as caught:
        image_size(Sample("x", image, None, np.zeros((21, 3))), "here", size)
    assert ("--orientation upright" in str(caught.value)) == is_of_upright


def test_a_mask_of_another_size_is_told():
    with pytest.raises(SampleError, match="here: x: the mask is 10 x 20, the image 160 x 120: "):
        frame_sample(
            Sample("x", plain_image(), encoded(np.zeros((20, 10), np.uint8)), np.zeros((21, 3))),
            "here",
        )


@pytest.mark.parametrize(
    "image_bytes, mask_png, message",
    [
        (b"garbled", None, r"the image \(7 bytes\) cannot be decoded"),
        (plain_image()[:300], None, r"the image \(300 bytes\) cannot be decoded"),
        (plain_image(), b"garbled", r"the mask \(7 bytes\) cannot be decoded"),
    ],
)
def test_what_cannot_be_decoded_is_named_by_its_place_in_the_labels(image_bytes, mask_png, message):
    with pytest.raises(SampleError, match=f"^train.json: annotation 1: x.jpg: {message}"):
        frame_sample(
            Sample("x.jpg", image_bytes, mask_png, np.zeros((21, 3))), "train.json: annotation 1"
        )


def test_a_hand_without_labelled_keypoints_has_no_box():
    assert bound_keypoints(np.float32([[5, 9, 1], [-1, -1, 0], [3, 20, 1]]), "here") == (
        3,
        9,
        5,
        20,
    )
    with pytest.raises(SampleError, match="here: no keypoint is labelled"):
        bound_keypoints(np.full((21, 3), (-1, -1, 0), np.float32), "here")


def test_a_pipe_in_the_place_of_labels_blocks_nothing(tmp_path):
    os.mkfifo(tmp_path / "labels.json")
    with pytest.raises(UserError, match="labels.json is no regular file"):
        read_json(tmp_path / "labels.json")
    assert coco.find_splits(tmp_path) == []


def test_the_path_that_is_checked_is_the_one_that_is_opened(tmp_path):
    """For the system `link/..` is the folder above the link's target, outside the set."""
    write(tmp_path / "elsewhere/secret.jpg", b"secret")
    (tmp_path / "elsewhere/photos").mkdir()
    write(tmp_path / "set/1.jpg", b"image")
    (tmp_path / "set/link").symlink_to(tmp_path / "elsewhere/photos")
    assert read_named_file(tmp_path / "set", "link/../1.jpg", "here") == b"image"
    with pytest.raises(SampleError, match="here: .*set/secret.jpg cannot be read"):
        read_named_file(tmp_path / "set", "link/../secret.jpg", "here")
    # The user's own path is the system's.
    write(tmp_path / "elsewhere/set/2.jpg", b"another image")
    folder = tmp_path / "set/link/../set"
    assert read_named_file(folder, "2.jpg", "here") == b"another image"
    assert read_named_file(folder / "labels", "../2.jpg", "here", roots=(folder,))
    with pytest.raises(SampleError, match="'../secret.jpg' lies outside the set's folder"):
        read_named_file(folder, "../secret.jpg", "here")


def test_a_name_may_start_from_the_real_path_of_a_linked_set_or_from_the_users(tmp_path):
    write(tmp_path / "disk/photos/1.jpg", b"image")
    (tmp_path / "disk/labels").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    for name in (tmp_path / "home/photos/1.jpg", tmp_path / "disk/photos/1.jpg"):
        assert read_named_file(tmp_path / "home/photos", str(name), "here") == b"image"
    # A set whose folders are links.
    (tmp_path / "set").mkdir()
    (tmp_path / "set/annotations").symlink_to(tmp_path / "disk/labels")
    (tmp_path / "set/images").symlink_to(tmp_path / "disk/photos")
    folder, roots = tmp_path / "set/annotations", (tmp_path / "set",)
    assert read_named_file(folder, "../images/1.jpg", "here", roots=roots) == b"image"
