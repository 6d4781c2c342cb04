"""Other systems' hands in scenes, read from real files: which result is of which image."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.evaluation.predictions_file import PredictionsFile
from mcc_caffe.evaluation.scene_runner import (
    compare_results,
    match_results,
    search_scene,
    search_scenes,
)
from mcc_caffe.evaluation.scene_scores import summarise_scenes
from mcc_caffe.inference.formats import open_format
from mcc_caffe.inference.formats.base import HandRecord, ImageRecord
from mcc_caffe.inference.formats.reading import read_results
from mcc_caffe.inference.input_files import read_image
from mcc_caffe.inference.pose_reports import NetworkInfo, hand_records, image_report
from mcc_caffe.inference.reports import CSV_COLUMNS, POINT_COLUMNS, PROGRAM
from mcc_caffe.inference.scene_files import read_scenes
from mcc_caffe.predictor import HandPose, HandPredictor
from tests.support.hands import turned_jpeg

BOX = [20, 30, 100, 50]  # x, y, width, height


def write_scenes(folder, *names, size=None):
    """Write images of 160 x 120 pixels and a COCO file with one hand in each; read it."""
    images, annotations = [], []
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            cv2.imwrite(str(path), np.zeros((120, 160, 3), np.uint8))
        images.append({"id": number, "file_name": name})
        if size:
            images[-1].update(width=size[0], height=size[1])
        annotations.append({"image_id": number, "category_id": 1, "bbox": BOX})
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "hand"}]
    (folder / "scenes.json").write_text(json.dumps(content))
    return read_scenes(folder / "scenes.json")


def points():
    """The 21 keypoints of a hand that fills the box."""
    x, y, width, height = BOX
    return [(x + width * k / 20, y + height * k / 20) for k in range(21)]


def write_table(path, *names):
    """Write a table with that hand in each image of the names."""
    rows = [
        f"{name},,,0,,0.9,{joint},{x},{y},0.9"
        for name in names
        for joint, (x, y) in zip(NAMES, points())
    ]
    path.write_text("\n".join([",".join(POINT_COLUMNS), *rows]) + "\n")
    return path


def compare_file(path, scenes):
    """Compare the hands of a file of results with those of the scenes."""
    return compare_results(scenes, match_results(path, scenes))


def finds_each_hand(path, scenes):
    """Tell of each scene whether the file has its hand."""
    return [bool(answer.is_detected[0]) for answer in compare_file(path, scenes)]


def test_a_result_is_the_images_in_whose_folder_it_is(tmp_path):
    """A table has no rows for an image without hands."""
    scenes = write_scenes(tmp_path, "A/1.png", "B/1.png", "C/2.png")
    table = tmp_path / "table.csv"
    for names, expected in (
        (["A/1.png"], [True, False, False]),
        ([str(tmp_path / "B/1.png")], [False, True, False]),
        (["B/1.png", "A/1.png"], [True, True, False]),
        ([str(tmp_path / "elsewhere/A/1.png"), "2.png"], [True, False, True]),
        (["./x/../A/1.png", f"{tmp_path.name}/C/2.png"], [True, False, True]),
        (["2.png", "photos/A/1.png"], [True, False, True]),
        (["2.png", "photos/D/1.png"], [False, False, True]),
    ):
        assert finds_each_hand(write_table(table, *names), scenes) == expected, names


def test_a_result_is_that_of_the_image_whose_path_is_most_like_its(tmp_path):
    """The image without a folder in the file of boxes may lie in any folder, such as A."""
    scenes = write_scenes(tmp_path, "1.png", "A/1.png")
    assert finds_each_hand(write_table(tmp_path / "table.csv", "A/1.png"), scenes) == [False, True]


@pytest.mark.parametrize("name", ["a/1.png", "photos/C/2.png", "{folder}/A/1.png"])
def test_a_result_is_not_another_images_of_the_same_name(name, tmp_path):
    """Of the folder A there are only results, and of C only the image."""
    scenes = write_scenes(tmp_path, "C/1.png")
    table = write_table(tmp_path / "table.csv", name.format(folder=tmp_path))
    with pytest.raises(UserError, match="table.csv has none of these images: the names of the f"):
        compare_file(table, scenes)


def test_an_image_without_a_folder_in_the_file_may_lie_elsewhere(tmp_path):
    scenes = write_scenes(tmp_path, "1.png")
    assert finds_each_hand(write_table(tmp_path / "table.csv", "/photos/1.png"), scenes) == [True]


def test_a_result_that_may_be_of_two_images_is_named(tmp_path):
    scenes = write_scenes(tmp_path, "A/1.png", "B/1.png")
    with pytest.raises(UserError, match="1.png may be .*A/1.png or .*B/1.png: name the ima"):
        compare_file(write_table(tmp_path / "table.csv", "1.png"), scenes)
    with pytest.raises(UserError, match="has x/A/1.png and y/A/1.png, which may both be .*A/1.png"):
        compare_file(write_table(tmp_path / "table.csv", "x/A/1.png", "y/A/1.png"), scenes)
    keypoints = [number for x, y in points() for number in (x, y, 0.9)]
    content = {"version": 1.3, "people": [{"hand_left_keypoints_2d": keypoints}]}
    (tmp_path / "1_keypoints.json").write_text(json.dumps(content))  # OpenPose drops the suffix
    with pytest.raises(UserError, match="1 may be .*A/1.png or .*B/1.png"):
        compare_file(tmp_path / "1_keypoints.json", scenes)
    assert finds_each_hand(tmp_path / "1_keypoints.json", scenes[1:]) == [True]


@pytest.mark.parametrize("form", ["csv", "mmpose"])
def test_files_without_hands_do_not_say_of_which_image_they_are(form, tmp_path):
    """Only in B/ there is a hand; every file of results has the name of its image."""
    scenes = write_scenes(tmp_path, "A/1.png", "B/1.png", "C/1.png", "C/2.png")
    points_of_hand = np.column_stack([points(), np.full(21, 0.9)])
    hand = HandRecord(points_of_hand, np.ones(21, bool), 0.9, tuple(BOX), lambda: None)
    result_format = open_format(form)
    for scene in scenes:
        hands = [hand] if scene.file_name == "B/1.png" else []
        result = tmp_path / "out" / Path(scene.file_name).with_suffix("")
        result.parent.mkdir(parents=True, exist_ok=True)
        record = ImageRecord(str(scene.path), 160, 120, hands)
        result_format.write_image(result, result_format.describe(record))
    assert finds_each_hand(tmp_path / "out", scenes) == [False, True, False, False]
    assert finds_each_hand(tmp_path / "out/C", scenes[2:]) == [False, False]
    file = PredictionsFile(tmp_path / "out", ["Test"])
    entries = [file.entry(f"Test_{name}.jpg") for name in ("1", "2")]
    assert entries == 2 * [(None, None, None)]
    file.check_no_image_twice(["Test_1.jpg", "Test_2.jpg", "Train_1.jpg"])


def test_labels_of_an_image_that_is_turned_upright_are_refused(weights, tmp_path):
    """The image is stored as 40 x 20 and shown as 20 x 40."""
    (tmp_path / "1.jpg").write_bytes(turned_jpeg())
    table = write_table(tmp_path / "table.csv", "1.jpg")
    scenes = write_scenes(tmp_path, "1.jpg", size=(40, 20))
    message = "1.jpg is 20 x 40, the file of boxes says 40 x 20: its EXIF orientation turns it"
    with pytest.raises(UserError, match=message):
        compare_file(table, scenes)
    with pytest.raises(UserError, match=message):
        search_scenes(HandPredictor(weights), scenes, 0.5)
    assert finds_each_hand(table, write_scenes(tmp_path, "1.jpg", size=(20, 40))) == [True]


def test_results_are_compared_without_decoding_the_images(tmp_path, monkeypatch):
    """The header tells the size; that of a Radiance image only decoding tells."""
    scenes = write_scenes(tmp_path, "1.png", "2.hdr", "3.png")
    decoded = []

    def decode(path):
        decoded.append(path.name)
        return read_image(path)

    monkeypatch.setattr("mcc_caffe.inference.scene_files.read_image", decode)
    table = write_table(tmp_path / "table.csv", "1.png", "2.hdr", "3.png")
    answers = compare_results(scenes[:2], match_results(table, scenes))
    assert [answer.sizes.tolist() for answer in answers] == [[100 / 160], [100 / 160]]
    assert decoded == ["2.hdr"]


def own_hand(score, keypoints):
    """A hand of our own JSON, with its keypoints by (x, y) or None."""
    reports = [
        point and {"name": name, "x": point[0], "y": point[1], "confidence": score}
        for name, point in zip(NAMES, keypoints)
    ]
    return {"score": score, "keypoints": reports}


def write_own_results(folder, scenes, *contents):
    """Write our JSON for each scene's image, with the given content."""
    folder.mkdir()
    for scene, content in zip(scenes, contents):
        report = {"program": PROGRAM, "image": str(scene.path), **content}
        (folder / f"{scene.path.stem}.json").write_text(json.dumps(report))
    return folder


def test_a_hand_without_keypoints_is_none(tmp_path):
    scenes = write_scenes(tmp_path, "1.png", "2.png", "3.png")
    nothing = own_hand(0.95, [None] * 21)
    hand = own_hand(0.9, points())
    contents = [{**hand, "hand_present": True}, {**nothing, "hand_present": False}]
    results = write_own_results(tmp_path / "out", scenes, *contents, {"hands": [nothing, hand]})
    answers = compare_file(results, scenes)
    assert [answer.is_right.tolist() for answer in answers] == [[True], [], [True]]
    file = PredictionsFile(results)
    assert file.entry("2.png").keypoints is None
    assert (file.entry("3.png").keypoints[:, :2] == points()).all()
    nowhere = write_own_results(tmp_path / "nowhere", scenes[1:2], nothing)
    (answer,) = compare_file(nowhere, scenes[1:2])
    assert answer.is_detected.tolist() == [False] and not len(answer.scores)
    with pytest.raises(UserError, match="nowhere has none of these images"):
        compare_file(nowhere, scenes[:1])


def write_ours(folder, scenes, xy, box, program):
    names = ("x", "y", "width", "height")
    hand = {**own_hand(0.9, xy.tolist()), "box": box and dict(zip(names, box))}
    return write_own_results(folder, scenes, {"program": program, "hands": [hand]})


def write_coco(folder, scenes, xy, box, program):
    folder.mkdir()
    keypoints = np.column_stack([xy, np.full(21, 0.9)]).ravel().tolist()
    hand = {"keypoints": keypoints, "score": 0.9, "bbox": box, "program": program}
    results = [{"image_id": 0, "category_id": 1, **hand}]
    (folder / "coco_results.json").write_text(json.dumps(results))
    images = [{"id": 0, "file_name": "1.png"}]
    (folder / "coco_images.json").write_text(json.dumps({"images": images}))
    return folder / "coco_results.json"


def write_mmpose(folder, scenes, xy, box, program):
    folder.mkdir()
    hand = {"keypoints": xy.tolist(), "keypoint_scores": [0.9] * 21, "program": program}
    hand["bbox"] = box and [[*box[:2], box[0] + box[2], box[1] + box[3]]]
    (folder / "1.json").write_text(json.dumps([hand]))
    return folder / "1.json"


def write_csv(folder, scenes, xy, box, program):
    """A table does not say which program wrote it."""
    folder.mkdir()
    lines = [
        ["1.png", "", "", 0, "", 0.9, name, *point, 0.9, *(box or [""] * 4)]
        for name, point in zip(NAMES, xy.tolist())
    ]
    rows = [",".join(map(str, line)) for line in (CSV_COLUMNS, *lines)]
    (folder / "1.csv").write_text("\n".join(rows) + "\n")
    return folder / "1.csv"


@pytest.mark.parametrize("program", [PROGRAM, "another program"])
@pytest.mark.parametrize("write_results", [write_ours, write_coco, write_mmpose, write_csv])
@pytest.mark.parametrize(
    "share, box, is_hit",
    [
        (0.5, BOX, True),
        (0.5, [100, 80, 20, 20], False),
        (1.0, [100, 80, 20, 20], False),
        # Tight around the keypoints, the IoU is .49. Of our own results such a box says no more
        # than the keypoints do: enlarged, the IoU is .56.
        (0.7, [BOX[0], BOX[1], 70, 35], "where it is ours"),
        (0.5, None, False),
    ],
)
def test_a_hands_box_is_the_files(write_results, program, share, box, is_hit, tmp_path):
    """The keypoints lie in the left upper quarter of the drawn box, or fill it."""
    if is_hit == "where it is ours":
        is_hit = program == PROGRAM or write_results == write_csv
    scenes = write_scenes(tmp_path, "1.png")
    xy = np.array(BOX[:2]) + share * (np.array(points()) - BOX[:2])
    results = write_results(tmp_path / "results", scenes, xy, box, program)
    assert finds_each_hand(results, scenes) == [is_hit]


@pytest.mark.parametrize("form", ["ours", "coco", "mmpose", "csv"])
@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((20.0, 30.0, 120.0, 80.0), (20, 30, 120, 80)),
        ((-0.5, -0.5, 160.5, 118.5), (0, 0, 161, 119)),  # clipped to 161 x 119 pixels
    ],
)
def test_the_box_of_a_search_is_read_back_as_it_was(form, box, expected, tmp_path):
    keypoints = np.column_stack([points(), np.full(21, 0.9)])
    affine = np.eye(3)[None, :2]
    pose = HandPose(
        keypoints, np.ones(21, bool), (161, 119), 192, (), None, affine, {}, np.array(box)
    )
    if form == "ours":
        report = image_report([pose], "1.png", pose.image_size, NetworkInfo({}, ""), one_hand=False)
        (tmp_path / "1.json").write_text(json.dumps(report))
    else:
        records = hand_records([(None, pose)], one_hand=False)
        result_format = open_format(form)
        text = result_format.describe(ImageRecord("1.png", *pose.image_size, records))
        result_format.write_image(tmp_path / "1", text)
        result_format.write_run(tmp_path, result_format.run_content())
    (image,) = read_results(tmp_path)
    assert image.hands[0].box_ltrb.tolist() == list(expected)


def test_a_hand_with_a_box_alone_is_one(tmp_path):
    scenes = write_scenes(tmp_path, "1.png")
    box = dict(zip(("x", "y", "width", "height"), BOX))
    hand = {**own_hand(0.9, [None] * 21), "box": box}
    results = write_own_results(tmp_path / "out", scenes, {"hands": [hand]})
    assert finds_each_hand(results, scenes) == [True]
    assert PredictionsFile(results).entry("1.png").keypoints is None


@pytest.mark.parametrize("fields", [{}, {"keypoints": None}, {"keypoints": [0] * 63}])
def test_a_detectors_boxes_are_measured_without_keypoints(fields, tmp_path):
    """Ids may be numbers or text."""
    (scene,) = write_scenes(tmp_path, "1.png")
    scene = scene._replace(keypoints=np.column_stack([points(), np.full(21, 2.0)])[None])
    images = {"images": [{"id": 7, "file_name": "1.png"}]}
    (tmp_path / "coco_images.json").write_text(json.dumps(images))
    result = {"image_id": "7", "category_id": "1", "bbox": BOX, "score": 0.9, **fields}
    path = tmp_path / "coco_results.json"
    path.write_text(json.dumps([result]))
    numbers = summarise_scenes(compare_file(path, [scene]))
    assert numbers.recall == numbers.precision == numbers.average_precision == 1
    assert numbers.keypoint_precision is numbers.loose_keypoint_precision is None
    path.write_text("[]")
    assert summarise_scenes(compare_file(path, [scene])).keypoint_precision == 0
    path.write_text(json.dumps([{"image_id": 7, "category_id": 1, "score": 0.9}]))
    with pytest.raises(UserError, match="entry 0 .* has none of keypoints, bbox and segmentation"):
        read_results(path)


def test_the_surest_hand_of_a_file_is_compared_first(tmp_path):
    scenes = write_scenes(tmp_path, "1.png")
    sides = dict(zip(("x", "y", "width", "height"), BOX))
    hands = [{**own_hand(score, points()), "box": sides} for score in (0.5, 0.9)]
    results = write_own_results(tmp_path / "out", scenes, {"hands": hands})
    (answer,) = compare_file(results, scenes)
    assert answer.scores.tolist() == [0.9, 0.5] and answer.is_right.tolist() == [True, False]


class FarKeypoints:
    """Stands for a predictor that finds one hand, with keypoints far from its box."""

    def __init__(self, box):
        self.box = box

    def predict_all(self, image, *, score_threshold):
        points_of_hand = np.column_stack([points(), np.full(21, 0.9)]) + (500, 0, 0)
        affine = np.eye(3)[None, :2]
        return [
            HandPose(
                points_of_hand, np.ones(21, bool), (160, 120), 192, (), None, affine, {}, self.box
            )
        ]


@pytest.mark.parametrize("box, is_hit", [([20, 30, 120, 80], True), (None, False)])
def test_a_hand_of_a_search_has_the_box_that_the_search_found(box, is_hit, tmp_path):
    (scene,) = write_scenes(tmp_path, "1.png")
    predictor = FarKeypoints(None if box is None else np.array(box, float))
    answer = search_scene(predictor, [], scene, 0.5)
    assert answer.is_detected.tolist() == answer.is_right.tolist() == [is_hit]


class CountedSearch:
    """Stands for a predictor whose search of an image costs two and a half passes."""

    passes = 7.0  # of the images before

    def predict_all(self, image, *, score_threshold):
        self.passes += 2.5
        return []


def test_a_search_costs_the_passes_and_the_time_of_its_own_image(tmp_path):
    predictor = CountedSearch()
    answer = search_scene(predictor, [predictor], write_scenes(tmp_path, "1.png")[0], 0.5)
    assert answer.passes == 2.5 and 0 < answer.seconds < 60
    assert answer.sizes.tolist() == [100 / 160]


def test_a_hand_in_a_crowd_is_neither_right_nor_wrong(tmp_path):
    """Of the surest hand 60 % lies in the crowd, of the last one 40 %; the middle one is drawn."""
    (scene,) = write_scenes(tmp_path, "1.png")
    labels = np.column_stack([points(), np.full(21, 2.0)])
    crowd = np.array([[10.0, 90, 160, 120]])
    scene = scene._replace(crowds_ltrb=crowd, keypoints=labels[None])
    hands = []
    for score, box in ((0.9, [20, 80, 40, 25]), (0.8, BOX), (0.7, [100, 82, 40, 13.333])):
        sides = dict(zip(("x", "y", "width", "height"), box))
        keypoints = (
            [(box[0] + x / 20, box[1] + x / 20) for x in range(21)] if box != BOX else points()
        )
        hands.append({**own_hand(score, keypoints), "box": sides})
    results = write_own_results(tmp_path / "out", [scene], {"hands": hands})
    (answer,) = compare_file(results, [scene])
    assert answer.is_right.tolist() == [False, True, False]
    assert answer.is_counted.tolist() == [False, True, True]
    numbers = summarise_scenes([answer])
    assert numbers.recall == 1 and numbers.precision == 0.5
    assert numbers.average_precision == numbers.keypoint_precision == 1
    # A drawn hand counts also where a crowd is around it.
    everywhere = scene._replace(crowds_ltrb=np.array([[0.0, 0, 160, 120]]))
    (answer,) = compare_file(results, [everywhere])
    assert answer.is_counted.tolist() == [False, True, False]
    assert answer.keypoints.is_counted[0].tolist() == [False, True, False]
