"""COCO files of boxes around hands."""

import json

import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.scene_files import boxes_of_images, read_scenes


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
    assert first.boxes.tolist() == [[10, 20, 40, 60]] and first.path == tmp_path / "a.jpg"
    assert second.boxes.shape == (0, 4)
    content["images"][1]["id"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="several images have one id"):
        read_scenes(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="no COCO file of hands with boxes"):
        read_scenes(path)
    content["categories"] = [{"id": 7, "name": "person"}]
    content["images"][1]["id"] = 2
    path.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(UserError, match="no category's name has 'hand'"):
        read_scenes(path)


def test_boxes_belong_to_the_picture_of_the_path_or_else_of_the_name(tmp_path):
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
    pictures = [tmp_path / "a/x.jpg", tmp_path / "b/x.jpg", tmp_path / "y.jpg"]
    boxes = boxes_of_images(path, pictures)
    assert boxes[pictures[0]].shape == (0, 4)
    assert boxes[pictures[1]].tolist() == [[2, 2, 3, 4]]
    assert boxes[pictures[2]].tolist() == [[3, 2, 3, 4]]
    for name, count in (("x.jpg", 2), ("z.jpg", 0)):
        with pytest.raises(UserError, match=f"lists {count} images of the name {name}"):
            boxes_of_images(path, [tmp_path / name])
