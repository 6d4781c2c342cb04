"""COCO-style files, with the oddities that the real ones have."""

import json

import numpy as np
import pytest

from data_tools import readers
from data_tools.readers import coco
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import SampleError
from tests.support.hands import turned_jpeg
from tests.support.readers import coco_content, drawn, plain_picture, write


def coco_set(folder, content, name="hands"):
    write(folder / f"{name}.json", content)
    for image in content["images"]:
        write(folder / image["file_name"], plain_picture())
    return folder / f"{name}.json"


def coco_sample(folder, **annotation):
    """The only sample of a file whose annotation has these changes; None takes a field away."""
    content = coco_content(drawn(1, seed=0))
    content["annotations"][0].update(annotation)
    content["annotations"][0] = {
        key: value for key, value in content["annotations"][0].items() if value is not None
    }
    ((entry,),) = readers.read_dataset(coco_set(folder, content)).values()
    return entry.sample()


def test_coco_visibility_0_is_missing_1_and_2_are_labelled(tmp_path):
    points = [[10 + k, 20, k % 3] for k in range(21)]
    for form in (points, np.ravel(points).tolist()):  # both forms are about
        keypoints = coco_sample(tmp_path, keypoints=form).keypoints
        assert keypoints[:4].tolist() == [[-1, -1, 0], [11, 20, 1], [12, 20, 1], [-1, -1, 0]]


def test_coco_fields_that_nobody_asked_for_are_passed_over(tmp_path):
    assert (
        coco_sample(tmp_path, center=[1, 2], scale=3, head_size=140.0, dataset="mpii").key
        == "hands_0.jpg_70"
    )
    assert coco_sample(tmp_path, segmentation=None, bbox=None, iscrowd=None).mask_png is None


@pytest.mark.parametrize(
    "annotation, message",
    [
        (
            dict(keypoints=[1, 2, 2] * 20),
            "hands.json: annotation 70: keypoints is 60 numbers, 21 x 3 numbers are needed",
        ),
        (dict(keypoints=None), "hands.json: annotation 70: keypoints is missing"),
        (dict(keypoints=["x"] * 63), "hands.json: annotation 70: keypoints is no array of numbers"),
        (
            dict(keypoints=[float("nan"), 2, 2] * 21),
            "hands.json: annotation 70: keypoint 0 is labelled but its place is",
        ),
        (
            dict(segmentation=[[1, 2, 3]]),
            "hands.json: annotation 70: the segmentation cannot be read",
        ),
        (
            dict(segmentation={"size": [120, 160], "counts": [5, 7]}),
            "hands.json: annotation 70: the segmentation cannot be read",
        ),
        (
            dict(segmentation={"counts": [5, 7]}),
            "hands.json: annotation 70: the segmentation cannot be read",
        ),
        (
            dict(segmentation={"size": [1, 12], "counts": [5, 7]}),
            "hands.json: annotation 70: the mask is 12 x 1, the image 160 x 120",
        ),
        (
            dict(image_id=99),
            "hands.json: annotation 70: `images` has no file_name for its image_id",
        ),
    ],
)
def test_coco_bad_annotations_are_named(tmp_path, annotation, message):
    content = coco_content(drawn(2, seed=0))
    content["annotations"][0].update(annotation)
    with pytest.raises(SampleError, match=message):
        readers.read_dataset(coco_set(tmp_path, content))["hands"][0].sample()


def test_coco_images_of_another_size_or_missing_are_named(tmp_path):
    content = coco_content(drawn(2, seed=0))
    content["images"][0].update(width=120, height=160)
    entries = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(
        SampleError,
        match="hands.json: annotation 70: the image is 160 x 120, the label says 120 x 160",
    ):
        entries[0].sample()
    with pytest.raises(SampleError, match="hands.json: annotation 71: .*1.jpg cannot be read"):
        entries[1].sample()


def test_coco_exif_orientation_is_ignored(tmp_path):
    content = coco_content(drawn(1, seed=0))
    content["images"][0].update(width=40, height=20)
    content["annotations"][0].update(segmentation=[], keypoints=[39, 19, 2] * 21)
    path = coco_set(tmp_path, content)
    write(tmp_path / "0.jpg", turned_jpeg())
    sample = readers.read_dataset(path)["hands"][0].sample()
    assert sample.image().shape == (20, 40, 3) and sample.keypoints[0].tolist() == [39, 19, 1]


def test_coco_several_hands_of_an_image_are_crops(tmp_path):
    """Each hand of an image with several is cut out.

    The boxes are 20 x 20 at (30, 40) and (100, 50), half side 1.5 x 20 / 2 = 15: the crops start at
    (25, 35) and (95, 45).
    """
    content = coco_content(drawn(1, seed=0))
    first = content["annotations"][0]
    first.update(
        bbox=[30, 40, 20, 20], keypoints=[40, 50, 2] * 21, segmentation=[[30, 40, 50, 40, 30, 60]]
    )
    content["annotations"] += [
        {**first, "id": 71, "bbox": [100, 50, 20, 20], "keypoints": [101, 52, 1] * 20 + [0, 0, 0]},
        {"id": 72, "image_id": 7, "iscrowd": 1, "keypoints": [0] * 63, "bbox": [0, 0, 160, 120]},
    ]
    left, right = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    assert (left.sample().key, right.sample().key) == ("hands_0.jpg_70", "hands_0.jpg_71")
    assert left.sample().image().shape == right.sample().image().shape == (31, 31, 3)
    assert left.sample().keypoints[20].tolist() == [15, 15, 1] and left.sample().mask()[5, 5] == 1
    assert right.sample().keypoints[0].tolist() == [6, 7, 1] and right.sample().keypoints[
        20
    ].tolist() == [-1, -1, 0]
    assert not right.sample().mask().any()  # its segmentation is of the first hand's place


def test_coco_segmentations_become_masks(tmp_path):
    expected = np.zeros((4, 6), np.uint8)
    expected[1:3, 2] = expected[0, 3] = (
        1  # down the columns: 9 zeros, 2 ones, 1 zero, 1 one, 11 zeros
    )
    assert np.array_equal(
        coco.draw_mask({"size": [4, 6], "counts": [9, 2, 1, 1, 11]}, None, "here"), expected
    )
    # Compressed: 9 is "9", 2 is "2", 1 is "1"; then differences from the last but one:
    # 1 - 2 = -1 is "O", 11 - 1 = 10 is ":".
    assert np.array_equal(
        coco.draw_mask({"size": [4, 6], "counts": "921O:"}, None, "here"), expected
    )
    polygons = coco.draw_mask([[0, 0, 2, 0, 0, 2], [5, 3, 3, 3, 5, 1]], (6, 4), "here")
    assert polygons.tolist() == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0, 1],
        [1, 0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1, 1],
    ]
    with pytest.raises(SampleError, match="here: `images` has no width and height"):
        coco.draw_mask([[0, 0, 2, 0, 0, 2]], None, "here")


def test_coco_compressed_runs_as_pycocotools_writes_them():
    mask = coco.draw_mask(
        {"size": [400, 500], "counts": "Tdc0X6X600000000000000000lh[5"}, None, "here"
    )
    expected = np.zeros((400, 500), np.uint8)
    expected[100:300, 50:60] = 1
    assert np.array_equal(mask, expected)


def test_coco_a_box_is_no_mask():
    """MMPose's segmentations: the corners of the box and the middles of its sides."""
    assert (
        coco.draw_mask(
            [[63, 92, 63, 188.5, 63, 285, 112, 285, 161, 285, 161, 188.5, 161, 92, 112, 92]],
            (238, 358),
            "here",
        )
        is None
    )
    assert (
        coco.draw_mask([[63, 92, 63, 285, 161, 285, 161, 92, 112, 150]], (238, 358), "here")
        is not None
    )


def test_coco_whole_body_hands_are_read_where_they_are_valid(tmp_path):
    content = coco_content(drawn(2, seed=0))
    content["categories"][0].update(name="person", keypoints=["nose"] * 17)
    for index, annotation in enumerate(content["annotations"]):
        annotation.update(
            keypoints=[1, 1, 2] * 17,
            segmentation=[[0, 0, 9, 0, 0, 9]],
            bbox=[0, 0, 160, 120],
            lefthand_valid=True,
            lefthand_box=[30, 40, 20, 20],
            lefthand_kpts=[40, 50, 0.7] * 21,
            righthand_valid=index == 0,
            righthand_box=[100, 50, 20, 20],
            righthand_kpts=[101, 52, 2] * 21,
        )
    samples = [
        entry.sample() for entry in readers.read_dataset(coco_set(tmp_path, content))["hands"]
    ]
    assert [sample.key for sample in samples] == [
        "hands_0.jpg_70_left",
        "hands_0.jpg_70_right",
        "hands_1.jpg_71_left",
    ]
    for sample, keypoint in zip(samples, ([15, 15, 1], [6, 7, 1], [15, 15, 1])):
        assert sample.image().shape == (31, 31, 3) and sample.keypoints[0].tolist() == keypoint
        assert sample.mask_png is None  # the segmentation is the person's


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda c: c["categories"][0].update(name="person", keypoints=["nose"] * 17),
            "the category 'person' has 17 keypoints, only",
        ),
        (
            lambda c: c["categories"][0]["keypoints"].reverse(),
            "the keypoints of the category 'hand' are pinky4, pinky3",
        ),
        (
            lambda c: c["info"].update(description="RHD"),
            "MMPose's file of RHD, whose fingers run from tip to base",
        ),
        (lambda c: c.update(annotations=[]), "has no annotation of a hand"),
        (lambda c: c.pop("images"), "has no list of objects `images`"),
        (lambda c: c.update(annotations={"1": {}}), "has no list of objects `annotations`"),
        (lambda c: c.update(categories=["hand"]), "has no list of objects `categories`"),
    ],
)
def test_coco_files_that_cannot_be_read_are_told(tmp_path, change, message):
    content = coco_content(drawn(1, seed=0))
    change(content)
    write(tmp_path / "0.jpg", plain_picture())
    write(tmp_path / "hands.json", content)
    with pytest.raises(UserError, match=f"hands.json.*{message}"):
        readers.read_dataset(tmp_path / "hands.json")


def test_coco_a_cut_file_is_told(tmp_path):
    write(tmp_path / "hands.json", json.dumps(coco_content(drawn(1, seed=0))).encode()[:-40])
    with pytest.raises(UserError, match="hands.json is not JSON"):
        readers.read_dataset(tmp_path)


@pytest.mark.parametrize(
    "annotations, pictures, file_name",
    [
        ("x/annotations", "x", "Train/source/0.jpg"),  # MMPose's OneHand10K
        ("x/annotations", "x/train2017", "0.jpg"),  # COCO's own
        ("x", "x/images", "0.jpg"),
        ("x/annotations", "x/images", "0.jpg"),
    ],
)
def test_coco_pictures_are_found(tmp_path, annotations, pictures, file_name):
    content = coco_content(drawn(1, seed=0))
    content["images"][0]["file_name"] = file_name
    write(
        tmp_path / annotations / "hands_train.json",
        b"\xef\xbb\xbf" + json.dumps(content, indent=1).encode(),
    )
    write(tmp_path / pictures / file_name, plain_picture())
    assert (
        readers.read_dataset(tmp_path / "x")["hands_train"][0].sample().image_bytes
        == plain_picture()
    )


def test_coco_pictures_that_are_not_found_or_twice_are_told(tmp_path):
    write(tmp_path / "x/annotations/hands.json", coco_content(drawn(1, seed=0)))
    with pytest.raises(
        UserError,
        match="hands.json: its first picture, 0.jpg, was not found: "
        "looked in .*x/annotations, in .*x and in",
    ):
        readers.read_dataset(tmp_path / "x")
    for folder in ("Train", "Test"):
        write(tmp_path / "x" / folder / "0.jpg", plain_picture())
    with pytest.raises(
        UserError, match="its first pictures lie in several folders .*Test, .*Train"
    ):
        readers.read_dataset(tmp_path / "x")
