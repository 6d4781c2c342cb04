"""COCO files of boxes around hands."""

import json
import os
import re

import numpy as np
import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.inference.formats import open_format
from mcc_caffe.inference.formats.base import HandRecord, ImageRecord
from mcc_caffe.inference.formats.coco import CocoNumbers
from mcc_caffe.inference.scene_files import (
    coco_labels,
    drop_boxes_without_pixels,
    read_labelled_scenes,
    read_scenes,
    scenes_of_images,
)
from tests.support.hands import turned_jpeg
from tests.support.labels import turned


def test_a_coco_file_of_boxes_is_read(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40]},
            {"image_id": 1, "category_id": 8, "bbox": [0, 0, 1, 1]},
        ],
        "categories": [{"id": 7, "name": "hand"}, {"id": 8, "name": "cup"}],
    }
    path = tmp_path / "scenes.json"
    path.write_text(json.dumps(content))
    first, second = read_scenes(path)
    assert first.boxes_ltrb.tolist() == [[10, 20, 40, 60]] and first.path == tmp_path / "a.jpg"
    assert second.boxes_ltrb.shape == (0, 4)
    content["images"][1]["id"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="several images have one id"):
        read_scenes(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="no COCO file of hands with boxes"):
        read_scenes(path)
    path.write_text('[{"image_id": 1, "bbox": [10, 20, 30, 40]}]')
    with pytest.raises(UserError, match="scenes.json: a list, as COCO results are, and no COCO f"):
        read_scenes(path)
    content["categories"] = [{"id": 7, "name": "person"}]
    content["images"][1]["id"] = 2
    path.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(UserError, match="no category's name has 'hand'"):
        read_scenes(path)


def test_the_images_of_a_labelled_set_lie_in_its_images_folder(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [],
        "categories": [{"id": 7, "name": "hand"}],
    }
    (tmp_path / "images").mkdir()
    image_path = tmp_path / "images/a.jpg"
    image_path.touch()
    for path in (tmp_path / "hands.json", tmp_path / "annotations/hands.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        (scene,) = read_scenes(path)
        assert scene.path == image_path


def test_boxes_belong_to_the_image_of_the_path_or_else_of_the_name(tmp_path):
    content = {
        "images": [
            {"id": 1, "file_name": "a/x.jpg"},
            {"id": 2, "file_name": "b/x.jpg"},
            {"id": 3, "file_name": "elsewhere/y.jpg"},
        ],
        "annotations": [{"image_id": i, "category_id": 1, "bbox": [i, 2, 3, 4]} for i in (2, 3)],
        "categories": [{"id": 1, "name": "left hand"}],
    }
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    image_paths = [tmp_path / "a/x.jpg", tmp_path / "b/x.jpg", tmp_path / "y.jpg"]
    boxes = {
        image_path: scene.boxes_xywh()
        for image_path, scene in scenes_of_images(path, image_paths).items()
    }
    assert boxes[image_paths[0]].shape == (0, 4)
    assert boxes[image_paths[1]].tolist() == [[2, 2, 3, 4]]
    assert boxes[image_paths[2]].tolist() == [[3, 2, 3, 4]]
    for name, message in (
        ("x.jpg", "lists 2 images of the name x.jpg"),
        ("z.jpg", "does not list .*z.jpg: list it"),
    ):
        with pytest.raises(UserError, match=message):
            scenes_of_images(path, [tmp_path / name])


def test_scenes_to_measure_need_a_box_and_boxes_to_look_at_do_not(tmp_path, caplog):
    path = boxes_file(tmp_path / "boxes.json", [])
    with pytest.raises(UserError, match="boxes.json has no box around a single hand in its 1"):
        read_labelled_scenes(path)
    (scene,) = read_scenes(path)  # images without hands, to train on
    assert scene.boxes_ltrb.shape == (0, 4)
    photo = tmp_path / "x.jpg"
    assert scenes_of_images(path, [photo])[photo].boxes_ltrb.shape == (0, 4)
    assert "boxes.json has no box around a single hand: no hand is looked for" in caplog.text
    content = json.loads(boxes_file(path, [[1, 2, 3, 4]]).read_text())
    content["images"].append({"id": 2, "file_name": "y.jpg"})
    path.write_text(json.dumps(content))
    assert [len(scene.boxes_ltrb) for scene in read_labelled_scenes(path)] == [1, 0]
    caplog.clear()
    scenes_of_images(path, [photo])
    assert not caplog.records


def boxes_file(path, boxes, size=(), **image):
    """Write a file of one image, x.jpg; its ids are text here and numbers there."""
    size = dict(zip(("width", "height"), size))
    content = {
        "images": [{"id": "1", "file_name": "x.jpg", **size, **image}],
        "annotations": [{"image_id": 1, "category_id": 7, "bbox": box} for box in boxes],
        "categories": [{"id": "7", "name": "Hand"}, {"id": 8, "name": "handbag"}],
    }
    content["annotations"].append({"image_id": 1, "category_id": 8, "bbox": [0, 0, 5, 5]})
    path.write_text(json.dumps(content))
    return path


def test_keypoints_get_our_order_by_the_categorys_names(tmp_path):
    points = np.column_stack([np.arange(10.0, 52).reshape(21, 2), np.arange(21) % 2 + 1])
    theirs = [NAMES[0], *reversed(NAMES[1:])]
    path = boxes_file(tmp_path / "boxes.json", [[1, 2, 3, 4]])
    content = json.loads(path.read_text())
    content["annotations"][0]["keypoints"] = points[[0, *range(20, 0, -1)]].ravel().tolist()
    for names, expected in ((theirs, points), ([], points[[0, *range(20, 0, -1)]])):
        content["categories"][0]["keypoints"] = names
        path.write_text(json.dumps(content))
        (scene,) = read_scenes(path)
        assert np.array_equal(scene.keypoints[0], expected)
    content["categories"][0]["keypoints"] = [f"nose_{letter}" for letter in "abcdefghijklmnopqrstu"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="keypoints do not say which of a hand's they are"):
        read_scenes(path)
    del content["annotations"][0]["keypoints"]
    path.write_text(json.dumps(content))
    assert not read_scenes(path)[0].keypoints.any()


def write_category(path, **fields):
    """Change the category of hands of a file of boxes."""
    content = json.loads(path.read_text())
    content["categories"][0].update(fields)
    path.write_text(json.dumps(content))
    return path


def test_results_have_the_order_of_the_users_own_file(tmp_path):
    """The file has the wrist last."""
    theirs = [*NAMES[1:], NAMES[0]]
    path = boxes_file(tmp_path / "boxes.json", [[1, 2, 30, 40]])
    write_category(path, keypoints=theirs)
    image_path = tmp_path / "x.jpg"
    form = open_format("coco", coco_labels(scenes_of_images(path, [image_path])))
    points = np.column_stack([np.arange(10.0, 52).reshape(21, 2), np.full(21, 0.5)])
    hand = HandRecord(points, np.ones(21, bool), 0.5, (1, 2, 30, 40), lambda: None)
    form.write_image(tmp_path / "x", form.describe(ImageRecord(str(image_path), 90, 80, [hand])))
    form.write_run(tmp_path, form.run_content())
    (result,) = json.loads((tmp_path / "coco_results.json").read_text())
    expected = points[[NAMES.index(name) for name in theirs]]
    assert np.array_equal(np.reshape(result["keypoints"], (21, 3)), expected)
    (category,) = json.loads((tmp_path / "coco_images.json").read_text())["categories"]
    assert category["keypoints"] == theirs
    bones = {frozenset(theirs[end - 1] for end in bone) for bone in category["skeleton"]}
    assert frozenset(("wrist", "thumb_1")) in bones and frozenset(("ring_3", "ring_4")) in bones


def test_results_have_the_category_id_as_the_users_own_category_writes_it(tmp_path):
    """The boxes of the file have 7, and its category "7"."""
    path = boxes_file(tmp_path / "boxes.json", [[1, 2, 30, 40]])
    image_path = tmp_path / "x.jpg"
    labels = coco_labels(scenes_of_images(path, [image_path]))
    assert labels.numbers == {str(image_path): CocoNumbers("1", ["7"])}


@pytest.mark.parametrize("names", [[f"nose_{number}" for number in "abc"], ["0", "1", "2"]])
def test_results_in_an_unknown_order_are_refused(names, tmp_path):
    path = boxes_file(tmp_path / "boxes.json", [[1, 2, 30, 40]])
    scenes = scenes_of_images(write_category(path, keypoints=names), [tmp_path / "x.jpg"])
    with pytest.raises(UserError, match="category Hand: the names of the category's keypoints do"):
        coco_labels(scenes)


def test_a_file_larger_than_any_image_is_not_read(tmp_path, monkeypatch):
    """Its header would say a size."""
    path, photo = boxes_file(tmp_path / "boxes.json", [[1, 2, 3, 4]]), tmp_path / "x.jpg"
    photo.write_bytes(turned_jpeg())
    assert scenes_of_images(path, [photo])[photo].size == (20, 40)
    monkeypatch.setenv("MCC_CAFFE_MAX_MEGAPIXELS", "0.01")
    os.truncate(photo, 9_000_000)
    assert scenes_of_images(path, [photo])[photo].size is None


def test_a_category_in_an_unknown_order_has_no_bones(tmp_path):
    path = write_category(boxes_file(tmp_path / "boxes.json", []), keypoints=["nose", "elbow"])
    labels = coco_labels(scenes_of_images(path, [tmp_path / "x.jpg"]))
    open_format("coco", labels).write_run(tmp_path, [])
    (category,) = json.loads((tmp_path / "coco_images.json").read_text())["categories"]
    assert category["keypoints"] == ["nose", "elbow"] and "skeleton" not in category


def test_a_crowd_is_no_hand(tmp_path):
    path = boxes_file(tmp_path / "boxes.json", [[10, 20, 30, 40], [0, 0, 90, 90]])
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 0
    content["annotations"][1]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    (scene,) = read_scenes(path)
    assert scene.boxes_ltrb.tolist() == [[10, 20, 40, 60]] and scene.category_ids == (7,)
    assert scene.keypoints.shape == (1, 21, 3)
    assert scene.crowds_ltrb.tolist() == [[0, 0, 90, 90]]


def test_an_image_that_is_listed_twice_is_an_error(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a/x.jpg"}, {"id": 2, "file_name": "b/../a/x.jpg"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "hand"}],
    }
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    message = "boxes.json lists .*a/x.jpg twice, as the images 1 and 2: list it once"
    with pytest.raises(UserError, match=message):
        scenes_of_images(path, [tmp_path / "a/x.jpg"])
    with pytest.raises(UserError, match=message):
        read_scenes(path)


def test_the_boxes_of_one_image_are_not_those_of_another_of_its_name(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "day/0001.png"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "hand"}],
    }
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    day, night = (tmp_path / name / "0001.png" for name in ("day", "night"))
    for image_paths in ([day, night], [night, day]):
        with pytest.raises(UserError, match="0001.png are both image 1 of .*boxes.json: give"):
            scenes_of_images(path, image_paths)
    assert scenes_of_images(path, [day])[day].boxes_xywh().tolist() == [[1, 2, 3, 4]]


def listing(path, *file_names):
    """A COCO file of images, which have the ids from 7 on and a hand each."""
    content = {
        "images": [{"id": 7 + n, "file_name": name} for n, name in enumerate(file_names)],
        "annotations": [
            {"image_id": 7 + n, "category_id": 1, "bbox": [1, 2, 3, 4]}
            for n in range(len(file_names))
        ],
        "categories": [{"id": 1, "name": "hand"}],
    }
    path.write_text(json.dumps(content))
    return path


def test_a_listed_image_that_exists_gives_its_boxes_to_no_other_of_its_name(tmp_path):
    path = listing(tmp_path / "boxes.json", "a/0001.jpg")
    listed, other = tmp_path / "a/0001.jpg", tmp_path / "c/0001.jpg"
    assert scenes_of_images(path, [other])[other].image_id == 7  # the listed one has moved there
    listed.parent.mkdir()
    listed.touch()
    with pytest.raises(UserError, match="not list .*c/0001.jpg: .*another file, .*a/0001.jpg:"):
        scenes_of_images(path, [other])
    assert scenes_of_images(path, [listed])[listed].image_id == 7


def test_a_copy_of_a_listed_image_has_its_boxes(tmp_path):
    path = listing(tmp_path / "boxes.json", "a/0001.jpg", "b/0001.jpg")
    for folder, content in (("a", b"day"), ("b", b"night"), ("c", b"night")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0001.jpg").write_bytes(content)
    copy = tmp_path / "c/0001.jpg"
    assert scenes_of_images(path, [copy])[copy].image_id == 8
    (tmp_path / "b/0001.jpg").write_bytes(b"morning")
    with pytest.raises(UserError, match="lists 2 images of the name 0001.jpg"):
        scenes_of_images(path, [copy])


def test_a_missing_image_does_not_give_its_boxes_where_one_of_its_name_is_there(tmp_path):
    path = listing(tmp_path / "boxes.json", "a/0001.jpg", "b/0001.jpg")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/0001.jpg").touch()
    with pytest.raises(UserError, match="lists 2 images of the name 0001.jpg"):
        scenes_of_images(path, [tmp_path / "c/0001.jpg"])


def test_an_image_may_be_listed_by_a_name_too_long_for_a_file(tmp_path):
    path = listing(tmp_path / "boxes.json", "a" * 300 + ".jpg", "0001.jpg")
    image_path = tmp_path / "0001.jpg"
    assert scenes_of_images(path, [image_path])[image_path].image_id == 8


def test_a_listed_link_to_itself_hinders_no_other_image(tmp_path):
    path = listing(tmp_path / "boxes.json", "loop.jpg", "0001.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    image_path = tmp_path / "0001.jpg"
    assert scenes_of_images(path, [image_path])[image_path].image_id == 8


def test_ids_may_be_text_and_a_handbag_is_no_hand(tmp_path):
    (scene,) = read_scenes(boxes_file(tmp_path / "boxes.json", [[10, 20, 30, 40]]))
    assert scene.boxes_ltrb.tolist() == [[10, 20, 40, 60]]


def test_shares_of_the_sides_are_no_pixels(tmp_path, caplog):
    """Box by box, also of one image; of fewer than half a warning tells."""
    path, pixels, share = tmp_path / "boxes.json", [10, 20, 30, 40], [0.3, 0.2, 0.9, 0.8]
    for boxes, count in (([share], "1 of 1"), ([pixels, share], "1 of 2")):
        with pytest.raises(
            UserError,
            match=rf"boxes.json: all corners of {count} boxes \(first in image 'x.jpg'\) lie "
            "between -2 and 2, as shares of the image's sides do: pixels are needed, multiply them",
        ):
            read_scenes(boxes_file(path, boxes))
    assert not caplog.records
    for small in (share, [0, 0, 1, 1]):
        (scene,) = read_scenes(boxes_file(path, [pixels, small, pixels]))
        assert scene.boxes_ltrb[1].tolist() == [
            *small[:2],
            small[0] + small[2],
            small[1] + small[3],
        ]
        (record,) = caplog.records
        assert "all corners of 1 of 3 boxes (first in image 'x.jpg') lie" in record.getMessage()
        caplog.clear()
    with pytest.raises(UserError, match="a number that is not finite: give pixels"):
        read_scenes(boxes_file(tmp_path / "boxes.json", [[1, 2, float("nan"), 4]]))


def test_a_box_without_a_pixel_goes_with_its_keypoints_and_category(tmp_path, caplog):
    boxes = [[10, 20, 0, 9], [250, 60, 60, 80], [320, 20, 50, 50], [-9, -9, 10, 10]]
    path = boxes_file(tmp_path / "boxes.json", boxes)
    content = json.loads(path.read_text())
    for number, annotation in enumerate(content["annotations"][:4]):
        annotation.update(category_id=10 + number, keypoints=(POINTS + (number, 0, 0)).tolist())
    content["categories"] = [{"id": 10 + number, "name": "hand"} for number in range(4)]
    path.write_text(json.dumps({**content, "annotations": content["annotations"][:4]}))
    (scene,) = drop_boxes_without_pixels(read_scenes(path), [(320, 240)])
    assert scene.boxes_ltrb.tolist() == [[250, 60, 310, 140], [-9, -9, 1, 1]]
    assert scene.category_ids == (11, 13)
    np.testing.assert_array_equal(scene.keypoints, [POINTS + (1, 0, 0), POINTS + (3, 0, 0)])
    (message,) = caplog.messages
    assert message.startswith("2 boxes have a side of 0 or lie outside of their images and are")
    caplog.clear()
    assert drop_boxes_without_pixels([scene], [(320, 240)])[0].category_ids == (11, 13)
    assert not caplog.records


@pytest.mark.parametrize("box", [[40, 60, -30, -40], [40, 60, 30, -1]])
@pytest.mark.parametrize("is_crowd", [False, True])
def test_a_box_that_is_drawn_from_another_corner_is_an_error(tmp_path, box, is_crowd):
    path = boxes_file(tmp_path / "boxes.json", [[10, 20, 30, 40], box])
    content = json.loads(path.read_text())
    content["annotations"][1]["iscrowd"] = int(is_crowd)
    path.write_text(json.dumps(content))
    message = re.escape(f"the bbox {[float(n) for n in box]} has a side below 0: give x and y of")
    with pytest.raises(UserError, match=message):
        read_scenes(path)


@pytest.mark.parametrize("is_crowd", [False, True])
@pytest.mark.parametrize(
    "boxes, message",
    [
        ([[10, 20, 60, 20, 60, 90, 10, 90]], "bbox is 8 numbers, 4 numbers are needed"),
        (4 * [[10, 20, 30]], "bbox is 3 numbers, 4 numbers are needed"),
        ([[]], "bbox is 0 numbers, 4 numbers are needed"),
        (["1234"], "bbox is 1 numbers, 4 numbers are needed"),
        ([None], "bbox is missing, 4 numbers are needed"),
    ],
)
def test_a_box_that_has_not_four_numbers_is_an_error(tmp_path, boxes, message, is_crowd):
    """Of eight numbers two boxes were made, and three boxes of four times three."""
    path = boxes_file(tmp_path / "boxes.json", boxes)
    content = json.loads(path.read_text())
    content["annotations"][0].update(id=70, iscrowd=int(is_crowd))
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"boxes.json: annotation 70: {message}$"):
        read_scenes(path)
    del content["annotations"][0]["bbox"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="boxes.json: annotation 70: bbox is missing"):
        read_scenes(path)


@pytest.mark.parametrize("image_id", [99, None])
def test_a_box_of_no_listed_image_is_an_error(tmp_path, image_id):
    path = boxes_file(tmp_path / "boxes.json", [[1, 2, 30, 40]])
    content = json.loads(path.read_text())
    content["annotations"][0]["image_id"] = image_id
    path.write_text(json.dumps(content))
    message = rf"boxes.json: annotations\[0\] is of the image {image_id}, which `images` lacks: li"
    with pytest.raises(UserError, match=message):
        read_scenes(path)


POINTS = np.column_stack([np.arange(10.0, 52).reshape(21, 2), np.full(21, 2)])


@pytest.mark.parametrize(
    "keypoints, message",
    [
        (POINTS.T.ravel(), r"annotation 70: the visibility of keypoint 0 is 14: 0, 1 or 2 is need"),
        (POINTS / (60, 60, 1), "annotation 70: all keypoints lie between -2 and 2, as shares"),
        (np.where(POINTS == 13, np.nan, POINTS), "keypoint 1 is labelled at"),
        (POINTS[:20], "annotation 70: keypoints is 60 numbers, 21 x 3 numbers are needed"),
    ],
)
def test_keypoints_that_no_reader_takes_are_an_error(tmp_path, keypoints, message):
    path = boxes_file(tmp_path / "boxes.json", [[1, 2, 3, 4]])
    content = json.loads(path.read_text())
    for values, is_right in ((POINTS, True), (POINTS.ravel(), True), (keypoints, False)):
        content["annotations"][0].update(id=70, keypoints=values.tolist())
        path.write_text(json.dumps(content))
        if is_right:
            assert np.array_equal(read_scenes(path)[0].keypoints[0], POINTS)
            continue
        with pytest.raises(UserError, match=f"boxes.json: .*{message}"):
            read_scenes(path)


def test_an_annotation_without_an_id_is_named_by_its_position(tmp_path):
    path = boxes_file(tmp_path / "boxes.json", [[1, 2, 3, 4]])
    content = json.loads(path.read_text())
    content["annotations"][0]["keypoints"] = POINTS[:20].tolist()
    content["annotations"][0].pop("id", None)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"boxes.json: annotations\[0\]: keypoints is 60 numbers"):
        read_scenes(path)


def test_boxes_of_the_image_before_exif_turns_it_are_an_error(tmp_path):
    """It has 40 x 20 pixels and is shown as 20 x 40."""
    (tmp_path / "x.jpg").write_bytes(turned_jpeg())
    path = boxes_file(tmp_path / "boxes.json", [[1, 2, 9, 9]], (40, 20))
    with pytest.raises(UserError, match="is 20 x 40, the file .* 40 x 20: its EXIF orientation"):
        scenes_of_images(path, [tmp_path / "x.jpg"])
    scenes_of_images(boxes_file(path, [[1, 2, 9, 9]], (20, 40)), [tmp_path / "x.jpg"])
    scenes_of_images(boxes_file(path, [[1, 2, 9, 9]]), [tmp_path / "x.jpg"])
    with pytest.raises(UserError, match="x.jpg is 20 x 40, the file of boxes says 64 x 48$"):
        scenes_of_images(boxes_file(path, [[1, 2, 9, 9]], (64, 48)), [tmp_path / "x.jpg"])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scene_has_the_size_of_its_image_upright(tmp_path, orientation):
    image_path = tmp_path / "x.jpg"
    image_path.write_bytes(turned(np.zeros((20, 40, 3), np.uint8), orientation))
    path = boxes_file(tmp_path / "boxes.json", [[1, 2, 9, 9]])
    assert scenes_of_images(path, [image_path])[image_path].size == (40, 20)
