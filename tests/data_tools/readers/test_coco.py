"""COCO-style files, with the oddities that the real ones have."""

import json
import os
import time

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from data_tools import build_lmdb, readers
from data_tools.readers import coco
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.data.samples import SampleSet
from tests.support.images import oriented_image
from tests.support.labels import turned
from tests.support.readers import coco_content, drawn, plain_image, write


def coco_set(folder, content, name="hands"):
    write(folder / f"{name}.json", content)
    for image in content["images"]:
        write(folder / image["file_name"], plain_image())
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


def test_coco_hands_without_an_id_have_keys_of_their_own_and_equal_ids_have_not(tmp_path):
    content = coco_content(drawn(1, seed=0))
    (annotation,) = content["annotations"]
    unnumbered = {name: value for name, value in annotation.items() if name != "id"}
    content["annotations"] = [unnumbered, unnumbered, annotation, {**annotation, "id": "70"}]
    entries = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    first, second, *same = (entry.sample().key for entry in entries)
    assert first == "hands_0.jpg_hand" and second == f"{first}_2"
    assert same[0] == same[1] != first


@pytest.mark.parametrize("order", ["xxyyvv", "vxy"])
def test_coco_keypoints_in_another_order_are_told(order, tmp_path):
    """All x, then all y, then all v; or v before x and y."""
    points = np.array([[10 + 2 * k, 20 + k, 2] for k in range(21)])
    numbers = points.T.ravel() if order == "xxyyvv" else points[:, [2, 0, 1]].ravel()
    first = {"xxyyvv": 14, "vxy": 20}[order]
    with pytest.raises(SampleError, match=f"annotation 70: the visibility .* 0 is {first}: 0, 1"):
        coco_sample(tmp_path, keypoints=numbers.tolist())


def test_a_coco_hand_whose_visibilities_are_all_negative_is_no_hand_without_labels(tmp_path):
    with pytest.raises(SampleError, match="the visibility of keypoint 0 is -1: 0, 1 or 2 is"):
        coco_sample(tmp_path, keypoints=[50, 60, -1] * 21)


def test_coco_hands_that_are_all_of_no_image_say_so(tmp_path):
    content = coco_content(drawn(2, seed=0))
    for annotation in content["annotations"]:
        annotation["image_id"] = 1000
    entries = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    assert len({entry.group for entry in entries}) == 2
    with pytest.raises(SampleError, match="annotation 70: `images` has no file_name for its"):
        entries[0].sample()


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
        (
            dict(keypoints=["x"] * 63),
            "hands.json: annotation 70: keypoints is no array of real numbers",
        ),
        (
            dict(keypoints=[float("nan"), 2, 2] * 21),
            "annotation 70: keypoint 0 is labelled at .nan, 2.0.: finite pixels are needed, or ",
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
            "hands.json: annotation 70: .*its mask is 12 x 1, the image 160 x 120",
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


def test_coco_annotations_without_ids_are_named_by_their_position(tmp_path):
    content = coco_content(drawn(3, seed=0))
    other = {"id": 1, "image_id": 7, "category_id": 2, "keypoints": [1, 2, 2]}
    content["categories"].append({"id": 2, "name": "nose", "keypoints": ["nose"]})
    for annotation in content["annotations"]:
        del annotation["id"]
    content["annotations"][2]["id"] = None
    content["annotations"][2]["keypoints"] = None
    content["annotations"].insert(0, other)
    entries = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    names = [f"hands.json: annotations[{index}]" for index in (1, 2, 3)]
    assert [entry.location for entry in entries] == names
    with pytest.raises(SampleError, match=r"^hands.json: annotations\[3\]: keypoints is missing"):
        entries[2].sample()


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


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("labelled_size", [(40, 20), (20, 40)])
def test_coco_labels_of_a_turned_image_are_those_of_its_stored_pixels(
    tmp_path, kind, labelled_size
):
    """Also of a TIFF, whose size Pillow gives as it is shown."""
    content = coco_content(drawn(1, seed=0))
    content["images"][0].update(zip(("width", "height"), labelled_size))
    content["annotations"][0].update(segmentation=[], keypoints=[39, 19, 2] * 21)
    path = coco_set(tmp_path, content)
    write(tmp_path / "0.jpg", oriented_image(np.zeros((20, 40, 3), np.uint8), kind, 6))
    (entry,) = readers.read_dataset(path)["hands"]
    if labelled_size == (40, 20):
        assert entry.sample().image().shape == (20, 40, 3)
        assert entry.sample().keypoints[0].tolist() == [39, 19, 1]
    else:
        with pytest.raises(SampleError, match="the label says 20 x 40: the label refers to the up"):
            entry.sample()


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
    second = {"bbox": [100, 50, 20, 20], "keypoints": [101, 52, 1] * 20 + [0, 0, 0]}
    content["annotations"] += [
        {**first, **second, "id": 71, "segmentation": []},
        {"id": 72, "image_id": 7, "iscrowd": 1, "keypoints": [0] * 63, "bbox": [0, 0, 160, 120]},
    ]
    left, right = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    assert (left.sample().key, right.sample().key) == ("hands_0.jpg_70", "hands_0.jpg_71")
    assert left.sample().image().shape == right.sample().image().shape == (31, 31, 3)
    assert left.sample().keypoints[20].tolist() == [15, 15, 1] and left.sample().mask()[5, 5] == 1
    assert right.sample().keypoints[0].tolist() == [6, 7, 1] and right.sample().keypoints[
        20
    ].tolist() == [-1, -1, 0]
    assert right.sample().mask_png is None


@pytest.mark.parametrize(
    "segmentation",
    [
        [[30, 40, 50, 40, 30, 60]],  # where the first hand is
        {"size": [120, 160], "counts": [120 * 30, 50, 120 * 130 - 50]},
    ],
)
def test_a_segmentation_without_a_pixel_of_its_crop_is_an_error(segmentation, tmp_path):
    content = coco_content(drawn(1, seed=0))
    first = content["annotations"][0]
    first.update(bbox=[30, 40, 20, 20], keypoints=[40, 50, 2] * 21, segmentation=segmentation)
    second = {"bbox": [100, 50, 20, 20], "keypoints": [101, 52, 1] * 21}
    content["annotations"].append({**first, **second, "id": 71})
    left, right = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    assert left.sample().is_crop
    with pytest.raises(
        SampleError,
        match=r"hands.json: annotation 71: the segmentation has no pixel of the square around its "
        r"bbox \[100, 50, 20, 20\]: the hand's outline in pixels is needed, or \[\] where",
    ):
        right.sample()


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 1, 5, 3]],  # a line
        [[170, 1, 190, 1, 190, 3]],  # right of the image
        [[170, 1, 190, 1, 190, 3], [1, 1, 5, 3]],
        {"size": [120, 160], "counts": [19200]},
    ],
)
def test_a_segmentation_without_a_pixel_of_the_image_is_an_error(segmentation, tmp_path):
    """The net would learn that the image shows no hand."""
    with pytest.raises(
        SampleError,
        match="annotation 70: the segmentation has no pixel of the image, 160 x 120: the hand's",
    ):
        coco_sample(tmp_path, segmentation=segmentation)


@pytest.mark.parametrize(
    "segmentation",
    [
        *([], [[]], [[], []]),  # empty
        [[30, 40, 50, 40, 50, 60, 30, 60]],
        [[9, 9, 9, 300, 300, 300, 300, 9]],  # it leaves the image
        [[170, 1, 190, 1, 190, 3, 170, 3]],  # right of the image
        [[1, 1, 5, 1]],  # of no height
    ],
)
def test_a_box_or_nothing_is_no_mask(segmentation, tmp_path):
    assert coco_sample(tmp_path, segmentation=segmentation).mask_png is None


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
            "the category 'person' has 17 keypoints: only hands of 21",
        ),
        (
            lambda c: c["categories"][0].update(keypoints=["a", *"bcdefghijklmnopqrstu"]),
            "the keypoints of the category 'hand' are a, b, c, .* these names do not say",
        ),
        (
            lambda c: c["categories"][0].update(keypoints=21),
            "the keypoints of the category 'hand' are 21: a list of names is needed",
        ),
        (
            lambda c: c["categories"].append(c["categories"][0]),
            "two categories have the id 1: number them anew",
        ),
        (
            lambda c: c["annotations"][0].update(keypoints=[0] * 63),
            "has no annotation of a hand with a labelled keypoint",
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
    write(tmp_path / "0.jpg", plain_image())
    write(tmp_path / "hands.json", content)
    with pytest.raises(UserError, match=f"hands.json.*{message}"):
        readers.read_dataset(tmp_path / "hands.json")


def test_coco_a_cut_file_is_told(tmp_path):
    write(tmp_path / "hands.json", json.dumps(coco_content(drawn(1, seed=0))).encode()[:-40])
    with pytest.raises(UserError, match="hands.json is not JSON"):
        readers.read_dataset(tmp_path)


@pytest.mark.parametrize(
    "annotations, image_folder, file_name",
    [
        ("x/annotations", "x", "Train/source/0.jpg"),  # MMPose's OneHand10K
        ("x/annotations", "x/train2017", "0.jpg"),  # COCO's own
        ("x", "x/images", "0.jpg"),
        ("x/annotations", "x/images", "0.jpg"),
    ],
)
def test_coco_images_are_found(tmp_path, annotations, image_folder, file_name):
    content = coco_content(drawn(1, seed=0))
    content["images"][0]["file_name"] = file_name
    write(
        tmp_path / annotations / "hands_train.json",
        b"\xef\xbb\xbf" + json.dumps(content, indent=1).encode(),
    )
    write(tmp_path / image_folder / file_name, plain_image())
    assert (
        readers.read_dataset(tmp_path / "x")["hands_train"][0].sample().image_bytes == plain_image()
    )


def test_coco_images_that_are_not_found_or_twice_are_told(tmp_path):
    write(tmp_path / "x/annotations/hands.json", coco_content(drawn(1, seed=0)))
    with pytest.raises(
        UserError,
        match="hands.json: its first image, 0.jpg, was not found: "
        "looked in .*x/annotations, in .*x and in",
    ):
        readers.read_dataset(tmp_path / "x")
    for folder in ("Train", "Test"):
        write(tmp_path / "x" / folder / "0.jpg", plain_image())
    with pytest.raises(UserError, match="its first images lie in several folders .*Test, .*Train"):
        readers.read_dataset(tmp_path / "x")


def test_coco_images_of_another_set_beside_it_are_not_taken(tmp_path):
    write(tmp_path / "a/hands.json", coco_content(drawn(1, seed=0)))
    write(tmp_path / "b/0.jpg", plain_image())
    with pytest.raises(UserError, match="a/hands.json: its first image, 0.jpg, was not found"):
        readers.read_dataset(tmp_path / "a")


def test_coco_two_images_with_one_id_are_an_error(tmp_path):
    """As in files that were merged; the hands of other images stay usable."""
    content = coco_content(drawn(3, seed=0))
    content["images"][1]["id"] = content["images"][0]["id"]
    content["annotations"][1]["image_id"] = content["annotations"][0]["image_id"]
    entries = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    for entry in entries[:2]:
        with pytest.raises(
            SampleError, match="image_id 7 belongs to 2 images .0.jpg, 1.jpg., as in files that"
        ):
            entry.sample()
    assert entries[2].sample().key == "hands_2.jpg_72"
    content["images"][1]["file_name"] = "0.jpg"  # one image, listed twice
    samples = [
        entry.sample() for entry in readers.read_dataset(coco_set(tmp_path, content))["hands"]
    ]
    assert [sample.key for sample in samples] == [
        f"hands_{k}.jpg_7{i}" for i, k in enumerate("002")
    ]


@pytest.mark.parametrize("image", [{}, {"id": 7}])
def test_coco_many_images_with_one_id_are_grouped_in_linear_time(image):
    """A quadratic time would be minutes."""
    records = [{**image, "file_name": f"{number}.jpg"} for number in range(30_000)]
    start = time.process_time()
    groups = coco._group_by_id(2 * records)
    assert time.process_time() - start < 5
    assert list(groups.values()) == [records]


def test_coco_ids_may_be_text_or_numbers(tmp_path):
    content = coco_content(drawn(3, seed=0))
    content["images"][0]["id"] = "7"
    content["annotations"][1]["image_id"] = "8"
    content["annotations"][2]["image_id"] = 9.0
    content["categories"][0]["id"] = "1"
    samples = [
        entry.sample() for entry in readers.read_dataset(coco_set(tmp_path, content))["hands"]
    ]
    assert [sample.key for sample in samples] == [f"hands_{k}.jpg_7{k}" for k in range(3)]


@pytest.mark.parametrize("wrong", [[7], {"a": 1}, None, [[[]]]])
def test_coco_ids_that_are_none_are_an_error(tmp_path, wrong):
    content = coco_content(drawn(2, seed=0))
    content["annotations"][0]["image_id"] = wrong
    content["images"].append({"id": wrong, "file_name": "1.jpg"})
    entries = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    with pytest.raises(SampleError, match="`images` has no file_name for its image_id"):
        entries[0].sample()
    entries[1].sample()


@pytest.mark.parametrize("seed", range(3))
def test_coco_keypoints_are_put_into_our_order_by_their_names(tmp_path, seed):
    content = coco_content(drawn(1, seed=0))
    expected = readers.read_dataset(coco_set(tmp_path / "a", content))["hands"][0].sample()
    order = np.random.default_rng(seed).permutation(21).tolist()
    names = content["categories"][0]["keypoints"]
    content["categories"][0]["keypoints"] = [names[index] for index in order]
    points = np.reshape(content["annotations"][0]["keypoints"], (21, 3))[order]
    content["annotations"][0]["keypoints"] = points.ravel().tolist()
    sample = readers.read_dataset(coco_set(tmp_path / "b", content))["hands"][0].sample()
    assert np.array_equal(sample.keypoints, expected.keypoints)


def test_coco_a_hand_without_labels_is_no_sample(tmp_path):
    """It still is in the image, so that the other hand is cut out."""
    content = coco_content(drawn(1, seed=0))
    first = content["annotations"][0]
    first.update(bbox=[30, 40, 20, 20], keypoints=[40, 50, 2] * 21)
    content["annotations"].append({**first, "id": 71, "keypoints": [0] * 63})
    (entry,) = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    assert entry.sample().image().shape == (31, 31, 3)
    # The same image under a second id is the same image.
    content["images"].append({**content["images"][0], "id": 8})
    content["annotations"][1]["image_id"] = 8
    (entry,) = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    assert entry.sample().image().shape == (31, 31, 3)


def test_coco_other_categories_are_passed_over(tmp_path, caplog):
    content = coco_content(drawn(1, seed=0))
    names = [f"leg{number}" for number in range(21)]
    content["categories"] += [
        {"id": 2, "name": "cup"},
        {"id": 3, "name": "person", "keypoints": ["nose"] * 17},
        {"id": 4, "name": "beetle", "keypoints": names},
    ]
    for category, count in ((2, 0), (3, 17), (4, 21)):
        content["annotations"].append(
            {
                "id": 80 + category,
                "image_id": 7,
                "category_id": category,
                "bbox": [1, 2, 30, 40],
                "keypoints": [5, 6, 2] * count,
            }
        )
    path = coco_set(tmp_path, content)
    (entry,) = readers.read_dataset(path)["hands"]
    assert entry.sample().image_bytes == plain_image()  # the only hand: the whole image
    assert "passed over 3 annotations that are no hands" in caplog.text
    content["annotations"][1]["category_id"] = 9
    entries = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    with pytest.raises(SampleError, match="`categories` has no category_id 9"):
        entries[1].sample()


@pytest.mark.parametrize("name", ["0", "gesture", "thumbs_up"])
def test_coco_the_only_category_is_a_hands_whatever_it_is_called(tmp_path, name):
    content = coco_content(drawn(1, seed=0))
    (category,) = content["categories"]
    category.update(name=name, keypoints=[])
    (entry,) = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    assert entry.sample().keypoints[:, 2].any()
    category["keypoints"] = [f"leg{number}" for number in range(17)]
    with pytest.raises(UserError, match=f"the category '{name}' has 17 keypoints: only hands of"):
        readers.read_dataset(coco_set(tmp_path, content))


def test_coco_shares_of_the_sides_are_no_pixels(tmp_path):
    points = np.random.default_rng(0).uniform(0, 1, (21, 2))
    points[3] = (1.04, -0.2)  # a landmark outside the image
    keypoints = np.column_stack([points, np.full(21, 2)]).ravel().tolist()
    with pytest.raises(
        SampleError, match="all keypoints lie between -2 and 2, .*: pixels are needed"
    ):
        coco_sample(tmp_path, keypoints=keypoints)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_coco_labels_of_the_upright_image_are_read_so_on_request(tmp_path, orientation):
    """The upright image is black but for a white pixel at (30, 5), where the label is."""
    upright = np.zeros((20, 40, 3), np.uint8)
    upright[5, 30] = 255
    write(tmp_path / "0.png", turned(upright, orientation))
    stored = PIL.Image.open(tmp_path / "0.png")
    content = coco_content(drawn(1, seed=0))
    content["images"][0] = {"id": 7, "file_name": "0.png"}
    content["annotations"][0].update(segmentation=[], keypoints=[30, 5, 2] * 21)
    write(tmp_path / "hands.json", content)
    (entry,) = readers.read_dataset(tmp_path / "hands.json", upright=True)["hands"]
    assert np.array_equal(entry.sample().image(), upright)
    assert entry.sample().keypoints[0].tolist() == [30, 5, 1]
    (entry,) = readers.read_dataset(tmp_path / "hands.json")["hands"]
    assert np.array_equal(entry.sample().image(), np.asarray(stored))
    content["images"][0].update(width=40, height=20)
    write(tmp_path / "hands.json", content)
    (entry,) = readers.read_dataset(tmp_path / "hands.json")["hands"]
    if orientation > 4:
        with pytest.raises(SampleError, match="refers to the upright image, --orientation upr"):
            entry.sample()


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(width=True, height=True), "gives it the size .True, True."),
        (dict(width=2**63, height=2**63), "gives it the size .9223372036854775808"),
        (dict(width=1e9, height=1e9), "gives it the size .1000000000.0"),
        (dict(width=10**400), "gives it the size .1000"),
        (dict(width=160.5), "gives it the size .160.5, 120"),
        (dict(width="160"), "gives it the size"),
        (dict(width=None), "gives it the size .None, 120"),
        (dict(file_name="../../x.jpg"), "the image '../../x.jpg' lies outside the set's folder"),
        (dict(file_name="/etc/passwd"), "the image '/etc/passwd' lies outside the set's folder"),
        (dict(file_name="x" * 300 + ".jpg"), "cannot be read .File name too long"),
        (dict(file_name="a\0.jpg"), "cannot be a file's name"),
        (dict(file_name="\ud800.jpg"), "cannot be a file's name"),
        (dict(file_name=5), "`images` has no file_name"),
        (dict(file_name=["0.jpg"]), "`images` has no file_name"),
        (dict(file_name="pipe.jpg"), "pipe.jpg is no regular file"),
        (dict(file_name="endless.jpg"), "endless.jpg is no regular file"),
    ],
)
def test_coco_impossible_images_are_an_error_of_one_sample(tmp_path, changes, message):
    content = coco_content(drawn(2, seed=0))
    path = coco_set(tmp_path, content)
    content["images"][0].update(changes)
    write(path, content)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    entries = readers.read_dataset(path)["hands"]
    with pytest.raises(SampleError, match=message):
        entries[0].sample()
    entries[1].sample()


@pytest.mark.parametrize(
    "annotation",
    [
        dict(segmentation={"size": [120, 160], "counts": [10**11, 1]}),
        dict(segmentation={"size": [120, 160], "counts": [-1, 19201]}),
        dict(segmentation={"size": [120, 160], "counts": [0.5, 19199.5]}),
        dict(segmentation={"size": [120, 160], "counts": "z" * 50}),
        dict(segmentation={"size": [120, 160], "counts": "\u00e9"}),
        dict(segmentation={"size": 3, "counts": [1]}),
        dict(segmentation=[[1, 2, float("nan"), 4, 5, 6]]),
        dict(segmentation=[[1, 2, 1e20, 4, 5, 6]]),
        dict(segmentation=[[1, 2, 10**400, 4, 5, 6]]),
        dict(segmentation=[5]),
        dict(segmentation=7),
        dict(segmentation="text"),
        dict(keypoints=[10**400] * 63),
        dict(keypoints=[1e300, 5, 2] * 21),
        dict(keypoints={"a": 1}),
    ],
)
def test_coco_impossible_labels_are_an_error_at_once(tmp_path, annotation):
    started = time.process_time()
    with pytest.raises(SampleError, match="hands.json: annotation 70: .{,400}$"):
        coco_sample(tmp_path, **annotation)
    assert time.process_time() - started < 5


def test_coco_json_that_is_nested_too_deep_is_told(tmp_path):
    write(tmp_path / "hands.json", b'{"images": ' + b"[" * 100_000)
    with pytest.raises(UserError, match="hands.json nests its values too deep"):
        readers.read_dataset(tmp_path / "hands.json")


def test_coco_images_may_lie_in_a_linked_folder(tmp_path):
    content = coco_content(drawn(1, seed=0))
    write(tmp_path / "set/hands.json", content)
    write(tmp_path / "elsewhere/0.jpg", plain_image())
    (tmp_path / "set/images").symlink_to(tmp_path / "elsewhere")
    (entry,) = readers.read_dataset(tmp_path / "set")["hands"]
    assert entry.sample().image_bytes == plain_image()


def test_coco_a_handbag_is_no_hand(tmp_path, caplog):
    content = coco_content(drawn(1, seed=0))
    content["categories"][0].update(name="Left_Hand", keypoints=[])
    content["categories"].append({"id": 31, "name": "handbag"})
    content["annotations"].append({"id": 9, "image_id": 7, "category_id": 31, "bbox": [1, 1, 9, 9]})
    (entry,) = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    assert entry.sample().key == "hands_0.jpg_70"
    assert "passed over 1 annotations that are no hands" in caplog.text


def test_coco_a_box_elsewhere_is_no_crop_without_keypoints(tmp_path):
    """Such as a bbox of shares of the sides beside keypoints in pixels."""
    content = coco_content(drawn(1, seed=0))
    first = content["annotations"][0]
    first.update(keypoints=[40, 50, 2] * 21, bbox=[0.2, 0.3, 0.1, 0.2], segmentation=[])
    content["annotations"].append({**first, "id": 71, "bbox": [30, 40, 20, 20]})
    wrong, right = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    with pytest.raises(SampleError, match="annotation 70: 21 of 21 keypoints lie far outside of"):
        wrong.sample()
    assert right.sample().keypoints[0].tolist() == [15, 15, 1]


@pytest.mark.parametrize(
    "box",
    [[float("nan"), 50, 40, 40], [20, 50, float("inf"), 40], [60, 50, -40, 40], [60, 90, 40, -40]],
)
@pytest.mark.filterwarnings("error")
def test_coco_a_box_from_another_corner_or_without_end_is_an_error(tmp_path, box):
    content = coco_content(drawn(1, seed=0))
    (first,) = content["annotations"]
    content["annotations"].append({**first, "id": 71})
    first["bbox"] = box
    entry, _ = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    with pytest.raises(SampleError, match="annotation 70: bbox is .*: x and y of the left top"):
        entry.sample()


def test_coco_an_image_of_two_names_is_one(tmp_path):
    """It has a hand under each of its names, and each is a crop."""
    content = coco_content(drawn(1, seed=0))
    content["images"].append({**content["images"][0], "id": 8, "file_name": "./0.jpg"})
    content["annotations"].append({**content["annotations"][0], "id": 71, "image_id": 8})
    entries = readers.read_dataset(coco_set(tmp_path, content))["hands"]
    assert [entry.is_alone for entry in entries] == [False, False]


def test_coco_keypoints_outside_the_image_are_missing(tmp_path):
    points = [[160, 60, 2], [-3, 60, 2], [159, 119, 2]] + [[50, 60, 2]] * 18
    sample = coco_sample(tmp_path, keypoints=points)
    assert sample.keypoints[:4].tolist() == [[-1, -1, 0], [-1, -1, 0], [159, 119, 1], [50, 60, 1]]
    assert sample.outside == ((0, 160, 60), (1, -3, 60))


def test_coco_what_makes_no_sample_is_counted(tmp_path, caplog):
    content = coco_content(drawn(2, seed=0))
    content["images"].append({"id": 99, "file_name": "empty.jpg"})
    content["annotations"][1]["keypoints"] = [0] * 63
    content["annotations"].append({"id": 9, "image_id": 7, "category_id": 1, "iscrowd": 1})
    path = coco_set(tmp_path, content)
    assert len(readers.read_dataset(path)["hands"]) == 1
    assert [record.message for record in caplog.records] == [
        f"{path}: passed over 1 annotations of crowds of hands",
        f"{path}: passed over 1 hands of which no keypoint is labelled",
        f"{path}: passed over 1 images without an annotation of a hand",
    ]


def test_coco_a_group_is_what_the_file_says_or_a_hand_of_freihand(tmp_path):
    """Images of one film; and 32,560 + 3 is the second version of FreiHAND's hand 3."""
    content = coco_content(drawn(4, seed=0))
    for image, name in zip(content["images"], (3, 32563, 4, 5)):
        image["file_name"] = f"training/rgb/{name:08d}.jpg"
    for image in content["images"][2:]:
        image["group"] = "a film"
    path = coco_set(tmp_path, content)
    a, b, c, d = (entry.group for entry in readers.read_dataset(path)["hands"])
    assert a == b != c == d


def test_coco_files_of_one_folder_have_the_same_groups(tmp_path):
    """MMPose's two files of FreiHAND; and a file elsewhere that lists the same image."""
    content = coco_content(drawn(2, seed=0))
    for name, number in (("train", 3), ("test", 32563)):
        content["images"][0]["file_name"] = f"training/rgb/{number:08d}.jpg"
        content["images"][1]["file_name"] = "x/1.jpg"
        coco_set(tmp_path, content, name)
    content["images"][0]["file_name"] = "00000003.jpg"
    content["images"][1]["file_name"] = "../../x/1.jpg"
    write(tmp_path / "training/rgb/own.json", content)
    splits = readers.read_dataset(tmp_path) | readers.read_dataset(tmp_path / "training/rgb")
    train, test, own = ([hand.group for hand in splits[name]] for name in ("train", "test", "own"))
    assert train == test == own and train[0] != train[1]


def test_coco_two_files_of_one_name_are_told(tmp_path):
    coco_set(tmp_path, coco_content(drawn(1, seed=0)))
    write(tmp_path / "annotations/hands.json", coco_content(drawn(1, seed=1)))
    with pytest.raises(
        UserError,
        match=r"annotations/hands.json and \S+/hands.json both are the split hands: give the one",
    ):
        readers.read_dataset(tmp_path)
    assert list(readers.read_dataset(tmp_path / "hands.json")) == ["hands"]


def test_coco_hands_of_two_files_are_never_taken_for_one(tmp_path, caplog):
    """Equal ids of two files make different keys; where the keys are equal, no set is built."""
    content = coco_content(drawn(1, seed=0))
    number = content["annotations"][0]["id"]
    for folder, names in (("equal ids", ("0.jpg", "0.jpg")), ("equal keys", ("a_0.jpg", "0.jpg"))):
        for split, name in zip(("hands", "hands_a"), names):
            content["images"][0]["file_name"] = name
            coco_set(tmp_path / folder, content, split)
    out = tmp_path / "lmdb"
    build_lmdb.main([str(tmp_path / "equal ids"), str(out), "--split", "2/0"])
    assert len(SampleSet(out / "train")) == 2
    with pytest.raises(UserError, match="1 bad samples .*, nothing was written"):
        build_lmdb.main([str(tmp_path / "equal keys"), str(tmp_path / "new"), "--split", "2/0"])
    assert f"the set has hands_a_0.jpg_{number} already: remove this label or" in caplog.text


def test_coco_a_hand_beside_a_crowd_of_hands_is_not_alone(tmp_path, caplog):
    """A crowd of cups is none: the second image has one hand."""
    content = coco_content(drawn(2, seed=0))
    content["categories"].append({"id": 2, "name": "cup"})
    content["annotations"][0].update(bbox=[30, 40, 20, 20], keypoints=[40, 50, 2] * 21)
    content["annotations"] += [
        {"id": 80, "image_id": 7, "category_id": 1, "iscrowd": 1, "bbox": [60, 0, 90, 90]},
        {"id": 81, "image_id": 8, "category_id": 2, "iscrowd": 1, "bbox": [60, 0, 90, 90]},
    ]
    path = coco_set(tmp_path, content)
    first, second = readers.read_dataset(path)["hands"]
    assert first.sample().image().shape == (31, 31, 3)
    assert second.sample().image_bytes == plain_image()
    assert [record.message for record in caplog.records] == [
        f"{path}: passed over 1 annotations that are no hands",
        f"{path}: passed over 1 annotations of crowds of hands",
    ]
