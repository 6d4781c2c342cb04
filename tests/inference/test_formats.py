"""Results in other systems' formats: written, loaded with the real libraries, and read back."""

import csv
import json

import cv2
import h5py
import numpy as np
import pytest
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data_tools.readers.shared import frame_sample
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.data.mask_files import encode_run_lengths
from mcc_caffe.evaluation.predictions_file import PredictionsFile
from mcc_caffe.inference.formats import FORMATS, open_format
from mcc_caffe.inference.formats.base import HandRecord, ImageRecord
from mcc_caffe.inference.formats.reading import read_results
from mcc_caffe.inference.reports import (
    BOX_COLUMNS,
    CSV_COLUMNS,
    POINT_COLUMNS,
    PROGRAM,
    is_own_result,
)
from mcc_caffe.inference.video_reports import all_hands_line
from tests.support.commands import files_of
from tests.support.disks import file_size_limit
from tests.support.hands import hand
from tests.support.images import encoded

OTHERS = [name for name in FORMATS if name != "ours"]


def random_hand(rng, width=160, height=120, track_id=None):
    """A hand with a mask of blobs, of whose keypoints the second is missing."""
    keypoints = np.column_stack(
        [rng.uniform(0, (width - 1, height - 1), (21, 2)), rng.uniform(0.3, 1, 21)]
    ).round(2)
    keypoints[1, 2] = 0.1
    mask = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 6) > 0
    box = (3, 4, width - 10, height - 20)
    score = float(keypoints[:, 2].mean())
    return HandRecord(keypoints, keypoints[:, 2] > 0.2, score, box, lambda: mask, track_id)


def own_report(*names, x=13):
    """Our own JSON of one hand, with keypoints of these names."""
    keypoints = [{"name": name, "x": x, "y": 14, "confidence": 0.5} for name in names]
    return json.dumps({"program": PROGRAM, "image": "a", "score": 0.5, "keypoints": keypoints})


def written_file(name, image):
    """The content of a file of one image in a format."""
    result_format = open_format(name)
    return result_format.document(result_format.describe(image))


def write_run(form, out, images):
    """Write images as a run does: {result's name: record}."""
    out.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        form.write_image(out / name, form.describe(image))
    form.write_run(out, form.run_content())
    return out


@pytest.fixture
def images():
    """Three images: with two hands, with none, and with one."""
    rng = np.random.default_rng(0)
    hands = [random_hand(rng) for _ in range(3)]
    return {
        "b": ImageRecord("photos/b.jpg", 160, 120, hands[:2]),
        "none": ImageRecord("photos/none.jpg", 160, 120, []),
        "a": ImageRecord("photos/a.jpg", 160, 120, hands[2:]),
    }


def test_coco_results_load_in_pycocotools_and_are_what_was_written(images, tmp_path):
    out = write_run(open_format("coco"), tmp_path, images)
    data_set = COCO(str(out / "coco_images.json"))
    results = data_set.loadRes(str(out / "coco_results.json"))
    names = {image["id"]: image["file_name"] for image in data_set.loadImgs(data_set.getImgIds())}
    assert sorted(names.values()) == ["photos/a.jpg", "photos/b.jpg", "photos/none.jpg"]
    (category,) = data_set.loadCats(data_set.getCatIds(catNms=["hand"]))
    assert category["keypoints"] == list(NAMES) and category["skeleton"][:2] == [[1, 2], [2, 3]]
    for image_id, name in names.items():
        annotations = results.loadAnns(results.getAnnIds(imgIds=[image_id]))
        record = next(image for image in images.values() if image.source == name)
        assert len(annotations) == len(record.hands)
        for annotation, written in zip(annotations, record.hands):
            assert np.array_equal(results.annToMask(annotation), written.mask())
            assert annotation["bbox"] == list(written.box)
            points = np.reshape(annotation["keypoints"], (21, 3))
            assert np.array_equal(points[written.present], written.keypoints[written.present])
            assert not points[1].any()
            assert annotation["score"] == round(written.score, 4)


def test_coco_results_that_are_the_truth_have_an_average_precision_of_1(images, tmp_path, capsys):
    out = write_run(open_format("coco"), tmp_path, images)
    content = json.loads((out / "coco_images.json").read_text())
    results = json.loads((out / "coco_results.json").read_text())
    content["annotations"] = [
        {**result, "id": number, "iscrowd": 0, "num_keypoints": 20}
        | {"area": float(coco_masks.area(result["segmentation"]))}
        for number, result in enumerate(results, start=1)
    ]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = COCO(str(tmp_path / "truth.json"))
    for kind in ("segm", "keypoints", "bbox"):
        evaluation = COCOeval(truth, truth.loadRes(str(out / "coco_results.json")), kind)
        evaluation.params.kpt_oks_sigmas = np.full(21, 0.05)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1), kind


@pytest.mark.parametrize("mask", [np.zeros((5, 7), bool), np.ones((5, 7), bool), np.eye(6, 9) > 0])
def test_masks_are_encoded_as_cocos_own_code_does(mask):
    rle = encode_run_lengths(mask)
    assert rle["size"] == list(mask.shape) and isinstance(rle["counts"], str)
    assert np.array_equal(coco_masks.decode(rle), mask)
    assert json.loads(json.dumps(rle)) == rle


def test_numbers_of_coco_images_do_not_depend_on_the_order(images, tmp_path):
    turned = dict(reversed(images.items()))
    first = write_run(open_format("coco"), tmp_path / "1", images)
    second = write_run(open_format("coco"), tmp_path / "2", turned)
    for name in ("coco_results.json", "coco_images.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize("too_large", ["results", "images"])
def test_a_run_that_cannot_be_written_leaves_the_coco_results_before_it(
    too_large, images, tmp_path
):
    out = write_run(open_format("coco"), tmp_path, images)
    before = files_of(out)
    name = {"results": "c", "images": 20_000 * "c"}[too_large]
    hands = images["b"].hands * {"results": 20, "images": 1}[too_large]
    other = {name[:1]: ImageRecord(name, 160, 120, hands)}
    with (
        file_size_limit(16_000),
        pytest.raises(UserError, match=f"coco_{too_large}.json cannot be written"),
    ):
        write_run(open_format("coco"), tmp_path, other)
    assert files_of(out) == before


def test_openpose_files_have_a_person_for_each_hand(images, tmp_path):
    out = write_run(open_format("openpose"), tmp_path, images)
    content = json.loads((out / "b_keypoints.json").read_text())
    assert content["version"] == 1.3 and len(content["people"]) == 2
    for person, written in zip(content["people"], images["b"].hands):
        points = np.reshape(person["hand_right_keypoints_2d"], (21, 3))
        assert np.array_equal(points[written.present], written.keypoints[written.present])
        assert not points[1].any() and person["hand_side"] == "unknown"
        assert not np.any(person["hand_left_keypoints_2d"])
        assert len(person["hand_left_keypoints_2d"]) == 63 and person["pose_keypoints_2d"] == []
    assert json.loads((out / "none_keypoints.json").read_text())["people"] == []


def test_a_videos_folder_that_is_a_link_stays_one(images, tmp_path):
    form = open_format("openpose")
    text = form.describe(images["a"])
    (tmp_path / "disk").mkdir()
    (tmp_path / "clip_keypoints").symlink_to(tmp_path / "disk/results")
    for count in (2, 1):
        form.write_video(tmp_path / "clip", count * [text])
        assert (tmp_path / "clip_keypoints").is_symlink()
        names = {path.name for path in (tmp_path / "disk/results").iterdir()}
        assert names == {f"clip_00000000000{frame}_keypoints.json" for frame in range(count)}
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["results"]


def test_a_videos_folder_that_cannot_be_written_is_named(images, tmp_path):
    (tmp_path / "clip_keypoints").touch()
    with pytest.raises(UserError, match="clip_keypoints cannot be written"):
        open_format("openpose").write_video(tmp_path / "clip", [""])


def test_mmpose_predictions_have_an_instance_for_each_hand(images, tmp_path):
    out = write_run(open_format("mmpose"), tmp_path, images)
    instances = json.loads((out / "b.json").read_text())
    for instance, written in zip(instances, images["b"].hands, strict=True):
        assert np.array_equal(instance["keypoints"], written.keypoints[:, :2])
        assert np.array_equal(instance["keypoint_scores"], written.keypoints[:, 2])
        assert instance["bbox"] == [[3, 4, 153, 104]]
    assert json.loads((out / "none.json").read_text()) == []


def test_a_table_has_a_row_for_each_keypoint(images, tmp_path):
    out = write_run(open_format("csv"), tmp_path, images)
    with (out / "b.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 42 and [row["keypoint"] for row in rows] == [*NAMES, *NAMES]
    for number, written in enumerate(images["b"].hands):
        for row, (x, y, confidence), is_present in zip(
            rows[21 * number :], written.keypoints, written.present
        ):
            assert row["image"] == "photos/b.jpg" and row["hand"] == str(number)
            assert row["frame"] == row["time"] == row["id"] == ""
            assert (row["x"], row["y"]) == ((str(x), str(y)) if is_present else ("", ""))
            assert float(row["confidence"]) == confidence
            assert tuple(int(row[column]) for column in BOX_COLUMNS) == written.box
    assert (out / "none.csv").read_text().strip() == ",".join(CSV_COLUMNS)


def test_every_format_has_the_numbers_of_followed_hands():
    """The third frame of a video shows the hands 3 and 5."""
    rng = np.random.default_rng(0)
    hands = [random_hand(rng, track_id=number) for number in (3, 5)]
    frame = ImageRecord("clip.mp4", 160, 120, hands, frame=2, time=0.25)
    coco, openpose, mmpose = (
        json.loads(open_format(name).describe(frame)) for name in ("coco", "openpose", "mmpose")
    )
    assert [each["track_id"] for each in coco["hands"]] == [3, 5]
    assert [person["person_id"] for person in openpose["people"]] == [[3], [5]]
    assert [instance["track_id"] for instance in mmpose["instances"]] == [3, 5]
    rows = list(csv.DictReader(written_file("csv", frame).splitlines()))
    assert [row["id"] for row in rows] == 21 * ["3"] + 21 * ["5"]
    assert {(row["frame"], row["time"]) for row in rows} == {("2", "0.25")}


def test_every_format_has_the_same_time_of_a_frame():
    frame = ImageRecord("clip.mp4", 160, 120, [random_hand(np.random.default_rng(0))], 1, 1 / 30)
    assert json.loads(open_format("coco").describe(frame))["image"]["time"] == 0.033333
    rows = csv.DictReader(written_file("csv", frame).splitlines())
    assert {row["time"] for row in rows} == {"0.033333"}
    assert json.loads(all_hands_line(1 / 30, []))["time"] == 0.033333


@pytest.mark.parametrize("name", OTHERS)
def test_results_of_a_run_are_known_as_such(name, images, tmp_path):
    out = write_run(open_format(name), tmp_path, images)
    files = sorted(out.iterdir())
    assert files and all(map(is_own_result, files))
    form = open_format(name)
    expected = [path for key in images for path in form.paths(out / key, False)]
    assert sorted(expected + form.run_paths(out)) == files


@pytest.mark.parametrize(
    "mark, is_result",
    [
        (PROGRAM, True),
        ("another program", False),
        (np.array([PROGRAM], object), False),
        (np.array([1, 2]), False),
        (h5py.Empty("f"), False),
    ],
)
def test_an_hdf5_file_is_a_result_by_its_mark_alone(mark, is_result, tmp_path):
    with h5py.File(tmp_path / "hand.h5", "w") as file:
        file.attrs["program"] = mark
    assert is_own_result(tmp_path / "hand.h5") is is_result


def test_an_hdf5_mark_of_a_type_that_numpy_lacks_is_none(tmp_path):
    with h5py.File(tmp_path / "hand.h5", "w") as file:
        scalar = h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.h5a.create(file.id, b"program", h5py.h5t.UNIX_D32LE, scalar)
        with pytest.raises(TypeError):
            file.attrs["program"]
    assert is_own_result(tmp_path / "hand.h5") is False


def test_a_list_or_a_table_of_the_users_is_no_result(tmp_path):
    for name, text in (
        ("a.json", '[{"keypoints": []}]'),
        ("b.json", '["program"]'),
        ("c.csv", "image,x,y\n"),
        ("d.csv", ""),
    ):
        (tmp_path / name).write_text(text)
        assert not is_own_result(tmp_path / name)
    assert not is_own_result(tmp_path)


@pytest.mark.parametrize("name", OTHERS)
def test_evaluation_reads_back_what_was_written(name, tmp_path):
    rng = np.random.default_rng(1)
    first, second = (hand(number) for number in (0, 1))
    sure, unsure = random_hand(rng), random_hand(rng)
    unsure = unsure._replace(score=0.2, keypoints=unsure.keypoints * (1, 1, 0.7))
    unsure = unsure._replace(present=unsure.keypoints[:, 2] > 0.2)
    images = {
        "0": ImageRecord(f"photos/{first.key}", 160, 120, [unsure, sure]),
        "1": ImageRecord(f"photos/{second.key}", 160, 120, []),
    }
    out = write_run(open_format(name), tmp_path / "results", images)
    path = out / "coco_results.json" if name == "coco" else out
    file = PredictionsFile(path)
    assert file.name == path.stem
    prediction = file.predict(first)
    expected = sure.keypoints.copy()
    if name != "mmpose":
        expected[1] = np.nan
    assert np.array_equal(prediction.keypoints, expected, equal_nan=True)
    if name == "coco":
        assert np.array_equal(prediction.mask, sure.mask())
    else:
        assert prediction.mask is None
    assert file.predict(second) == (None, None)
    assert file.entry("another.jpg") is None


@pytest.mark.parametrize("name", OTHERS)
def test_own_results_are_read_as_such_and_by_the_images_name(name, images, tmp_path):
    out = write_run(open_format(name), tmp_path / "results", {"b": images["b"]})
    (image,) = read_results(out)
    assert image.is_own and image.name == "photos/b.jpg" and len(image.hands) == 2


def test_a_hand_without_a_score_of_its_own_has_the_mean_of_its_confidences(tmp_path):
    points = np.column_stack([np.arange(10, 52).reshape(21, 2), np.tile([0.2, 0.5, 0.8], 7)])
    xy, confidences = points[:, :2].tolist(), points[:, 2].tolist()
    for name, content in (
        ("openpose.json", {"people": [{"hand_left_keypoints_2d": points.ravel().tolist()}]}),
        ("mmpose.json", [{"keypoints": xy, "keypoint_scores": confidences}]),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        (image,) = read_results(tmp_path / name)
        assert not image.is_own and image.hands[0].score == pytest.approx(0.5)


@pytest.mark.parametrize("name, ending", [("mmpose", ".json"), ("csv", ".csv")])
def test_the_ending_of_a_file_of_results_may_be_in_capitals(name, ending, images, tmp_path):
    out = write_run(open_format(name), tmp_path / "results", {"b": images["b"]})
    (out / f"b{ending}").rename(out / f"b{ending.upper()}")
    (image,) = read_results(out)
    assert len(image.hands) == 2


def test_a_box_that_is_read_may_have_a_side_of_0(tmp_path):
    instance = {"keypoints": [[9, 9]] * 21, "keypoint_scores": [1] * 21, "bbox": [9, 3, 9, 8]}
    (tmp_path / "a.json").write_text(json.dumps([instance]))
    (image,) = read_results(tmp_path / "a.json")
    assert image.hands[0].box_ltrb.tolist() == [9, 3, 9, 8]


@pytest.mark.parametrize("name", OTHERS)
def test_a_present_keypoint_of_hardly_any_confidence_is_read_back(name, tmp_path):
    """As with --threshold -1, which asks for every keypoint."""
    sample, written = hand(0), random_hand(np.random.default_rng(1))
    written.keypoints[:4, 2] = 4e-5, -3e-5, 0, -0.2
    written = written._replace(present=np.ones(21, bool))
    images = {"0": ImageRecord(sample.key, 160, 120, [written])}
    out = write_run(open_format(name), tmp_path / "results", images)
    read = PredictionsFile(out / "coco_results.json" if name == "coco" else out).predict(sample)
    assert np.allclose(read.keypoints, written.keypoints, atol=1.4e-4)


def write_coco(folder, results, categories=(), file_name="0.jpg"):
    """Write COCO results of one image, with the data set beside them; return their path."""
    images = {"images": [{"id": 1, "file_name": file_name}], "categories": list(categories)}
    (folder / "coco_images.json").write_text(json.dumps(images))
    (folder / "coco_results.json").write_text(json.dumps(results))
    return folder / "coco_results.json"


def test_coco_results_are_in_the_order_of_their_categorys_names(tmp_path):
    points = random_hand(np.random.default_rng(1)).keypoints
    theirs = [NAMES[0], *reversed(NAMES[1:])]
    numbers = points[[NAMES.index(name) for name in theirs]].ravel().tolist()
    result = {"image_id": 1, "category_id": 7, "score": 0.9, "keypoints": numbers}
    category = {"id": "7", "name": "hand", "keypoints": theirs}
    read = PredictionsFile(write_coco(tmp_path, [result], [category])).predict(hand(0))
    assert np.array_equal(read.keypoints, points)
    category["keypoints"] = [f"nose_{letter}" for letter in "abcdefghijklmnopqrstu"]
    with pytest.raises(UserError, match="entry 0 .* do not say which of a hand's they are"):
        PredictionsFile(write_coco(tmp_path, [result], [category]))


def test_coco_results_of_masks_alone_predict_no_keypoints(tmp_path):
    mask = hand(0).mask()
    result = {"image_id": 1, "category_id": 7, "score": 0.9}
    result["segmentation"] = encode_run_lengths(mask > 0)
    prediction = PredictionsFile(write_coco(tmp_path, [result])).predict(hand(0))
    assert prediction.keypoints is None
    assert np.array_equal(prediction.mask, mask > 0)


def test_what_is_no_record_of_coco_is_refused(tmp_path):
    result = {"image_id": 1, "category_id": 1, "score": 0.9, "keypoints": [9.0] * 63}
    for other in (5, "x", None, [1]):
        with pytest.raises(UserError, match="entry 1 is no hand of an image of coco_images.json"):
            PredictionsFile(write_coco(tmp_path, [result, other]))
        with pytest.raises(UserError, match="coco_images.json cannot be read .TypeError."):
            PredictionsFile(write_coco(tmp_path, [result], [other]))
    deep = json.loads("[" * 40 + "]" * 40)  # more dimensions than NumPy goes through
    for name in ("score", "bbox", "keypoints"):
        with pytest.raises(UserError, match="entry 1 "):
            PredictionsFile(write_coco(tmp_path, [result, {**result, name: deep}]))
    path = write_coco(tmp_path, [result])
    (tmp_path / "coco_images.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="coco_images.json cannot be read .RecursionError."):
        PredictionsFile(path)


def test_coco_results_of_no_image_are_refused(tmp_path):
    path = write_coco(tmp_path, [])
    (tmp_path / "coco_images.json").write_text('{"images": []}')
    with pytest.raises(UserError, match="coco_results.json has the results of no image"):
        PredictionsFile(path)


@pytest.mark.parametrize("name", ["op-0.1", "results"])
def test_results_of_a_folder_are_called_like_it(name, tmp_path, monkeypatch):
    out = tmp_path / name
    write_run(
        open_format("openpose"),
        out,
        {"0": ImageRecord("0.jpg", 160, 120, [random_hand(np.random.default_rng(0))])},
    )
    (out / "sub").mkdir()
    monkeypatch.chdir(out)
    for path in (out, ".", f"../{name}"):
        assert PredictionsFile(path).name == name
    monkeypatch.chdir(out / "sub")
    assert PredictionsFile("..").name == name
    (file,) = out.glob("*.json")
    assert PredictionsFile(file).name == file.stem


def test_openpose_files_of_openpose_itself_are_read_by_their_names(tmp_path):
    points = [[x, 2 * x, 0.5] for x in range(1, 22)]
    person = {"pose_keypoints_2d": [1.0] * 75, "hand_left_keypoints_2d": sum(points, [])}
    person["hand_right_keypoints_2d"] = [0] * 63
    content = {"version": 1.3, "people": [person]}
    (tmp_path / "0_keypoints.json").write_text(json.dumps(content))
    assert hand(0).key == "0.jpg"
    assert np.array_equal(PredictionsFile(tmp_path).predict(hand(0)).keypoints, points)


@pytest.mark.parametrize(
    ("name", "ending"),
    [("mmpose", ".json"), ("openpose", "_keypoints.json"), ("csv", ".csv"), ("own", ".json")],
)
def test_an_answer_without_an_images_name_goes_by_its_own(name, ending, tmp_path):
    """The web server does not know what the image that it got is called."""
    written = random_hand(np.random.default_rng(0))
    if name == "own":
        points = [
            dict(zip(("name", "x", "y", "confidence"), (joint, *point)))
            for joint, point in zip(NAMES, written.keypoints.tolist())
        ]
        answer = json.dumps({"program": "", "image": "", "score": 0.5, "keypoints": points})
    else:
        answer = written_file(name, ImageRecord("", 160, 120, [written]))
    (tmp_path / f"0{ending}").write_text(answer)
    prediction = PredictionsFile(tmp_path / f"0{ending}").predict(hand(0))
    assert np.array_equal(prediction.keypoints[2:], written.keypoints[2:])  # all are present


def test_images_of_one_name_in_two_folders_are_told_apart(tmp_path):
    rng = np.random.default_rng(2)
    records = {
        name: ImageRecord(f"set/{name}/source/1.jpg", 160, 120, [random_hand(rng)])
        for name in ("Test", "Train")
    }
    file = PredictionsFile(write_run(open_format("openpose"), tmp_path, records))
    for name, record in records.items():
        expected = record.hands[0].keypoints
        assert np.array_equal(file.entry(f"{name}_1.jpg").keypoints[2:], expected[2:])
        assert file.entry(f"00000007_{name}_1.jpg") is file.entry(f"{name}_1.jpg")
    for key in ("Test_11.jpg", "Other_1.jpg", "00000001_Test_11.jpg"):
        assert file.entry(key) is None
    with pytest.raises(UserError, match="which may both be the image '1.jpg'"):
        file.entry("1.jpg")


@pytest.mark.parametrize("source", ["photos/0.jpg", "0.jpg"])
def test_results_are_not_measured_on_cut_images(source, tmp_path):
    record = ImageRecord(source, 160, 120, [random_hand(np.random.default_rng(0))])
    file = PredictionsFile(write_run(open_format("csv"), tmp_path, {"0": record}))
    pixels = cv2.imdecode(np.frombuffer(hand(0).image_bytes, np.uint8), cv2.IMREAD_COLOR)
    png = encoded(pixels[:90, :90])
    with pytest.raises(UserError, match="0.jpg is cut out of its source image"):
        file.predict(hand(0, image_bytes=png))


@pytest.mark.parametrize("name", ["0.png", "0.jpg"])
def test_a_cut_image_is_known_whatever_its_format_is(name, tmp_path):
    encoded_image = encoded(hand(0).image())
    sample = hand(0, key=name, image_bytes=encoded_image)
    record = ImageRecord(f"photos/{name}", 160, 120, [random_hand(np.random.default_rng(0))])
    file = PredictionsFile(write_run(open_format("csv"), tmp_path, {"0": record}))
    uncut = frame_sample(sample, name)
    assert uncut.image_bytes == encoded_image and file.predict(uncut).keypoints is not None
    with pytest.raises(UserError, match=f"{name} is cut out of its source image"):
        file.predict(frame_sample(sample, name, box=(40, 10, 120, 119)))


def test_a_png_of_a_set_that_does_not_say_what_it_cut_is_no_cut_image(tmp_path):
    sample = hand(0, key="0.png", image_bytes=encoded(hand(0).image()))
    record = ImageRecord("photos/0.png", 160, 120, [random_hand(np.random.default_rng(0))])
    file = PredictionsFile(write_run(open_format("csv"), tmp_path, {"0": record}))
    assert sample.is_crop is None and file.predict(sample).keypoints is not None


@pytest.mark.parametrize("part", ["keypoints", "bbox"])
def test_shares_are_counted_hand_by_hand_also_of_one_image(part, tmp_path, caplog):
    path = tmp_path / "a.json"
    points = np.arange(10.0, 52).reshape(21, 2)
    pixels = {"keypoints": points.tolist(), "keypoint_scores": [1] * 21, "bbox": [9, 9, 60, 60]}
    shares = {**pixels, part: (np.array(pixels[part]) / 64).tolist()}
    path.write_text(json.dumps([pixels, shares]))
    with pytest.raises(UserError, match=r"a.json: all .* of 1 of 2 .*image 'a'\) lie between -2"):
        read_results(path)
    assert not caplog.records
    path.write_text(json.dumps([pixels, shares, pixels]))
    (image,) = read_results(path)
    assert len(image.hands) == 3
    (record,) = caplog.records
    assert " of 1 of 3 " in record.getMessage()


def test_two_results_that_name_one_image_are_refused_also_without_a_hand(tmp_path):
    empty = {"program": PROGRAM, "image": "a/1.jpg", "hands": []}
    for name in ("x.json", "y.json"):
        (tmp_path / name).write_text(json.dumps(empty))
    with pytest.raises(UserError, match="has several results for a/1.jpg: leave one of them"):
        read_results(tmp_path)


def test_only_results_with_neither_hand_nor_the_images_full_name_may_have_equal_names(tmp_path):
    for name in "xyz":
        (tmp_path / name).mkdir()
    for name in "xy":
        (tmp_path / name / "1.json").write_text('{"people": []}')
    (image,) = read_results(tmp_path)
    assert image.name == "1" and image.is_blank
    (tmp_path / "z/1.csv").write_text(",".join(POINT_COLUMNS) + "\n,,,0,,1,wrist,10,20,0.5\n")
    with pytest.raises(UserError, match="has several results for 1: leave one of them"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '[{"image_id": 1, "score": 1, "keypoints": []}]', "says only the .* numbers"),
        ("a.json", '[{"keypoints": [[1, 2]], "keypoint_scores": [1]}]', r"shape \(1, 3\)"),
        ("a.json", '[{"frame_id": 0, "instances": []}]', "has the frames of a video"),
        ("a.json", '{"people": [{"hand_left_keypoints_2d": [1, 2, 3]}]}', "not OpenPose's"),
        ("a.json", '{"people": 5}', "not OpenPose's"),
        (
            "a.json",
            json.dumps({"people": [{"hand_left_keypoints_2d": [0.25, 0.5, 1] * 21}]}),
            "a.json: all keypoints lie between -1 and 1, as shares .*: pixels are needed",
        ),
        (
            "a.json",
            json.dumps(
                {"people": [{"hand_left_keypoints_2d": [0.2, 0.5, 1, 0.4, 0.3, 1, 0, 1, 1] * 7}]}
            ),
            "a.json: all keypoints lie between -1 and 1, as shares .*: pixels are needed",
        ),
        (
            "a.json",
            json.dumps({"people": [{"hand_left_keypoints_2d": ["25", "50", "1"] * 21}]}),
            "'25' is no number",
        ),
        (
            "a.json",
            json.dumps([{"keypoints": [[9, 9]] * 21, "keypoint_scores": [True] * 21}]),
            "True is no number",
        ),
        ("a.json", '{"program": "mcc_caffe.infer", "image": "a", "keypoints": 5}', "are not ours"),
        (
            "a.json",
            json.dumps(
                {"program": "x", "image": "a", "keypoints": [], "score": 1, "box": [1, 2, 3, 4]}
            ),
            "are not ours",
        ),
        (
            "a.json",
            json.dumps(
                [{"keypoints": [[9, 9]] * 21, "keypoint_scores": [1] * 21, "bbox": [9, 1, 8, 2]}]
            ),
            r"instance 0 is none of MMPose's .*\[9, 1, 8, 2\] is no box",
        ),
        (
            "a.json",
            json.dumps(
                [{"keypoints": [[9, 9]] * 21, "keypoint_scores": [1] * 21, "bbox": [0.1, 0, 1, 1]}]
            ),
            "a.json: all corners of 1 of 1 boxes .* lie between -2 and 2, .*: pixels are needed",
        ),
        (
            "a.json",
            json.dumps(
                [{"keypoints": [[9, 9]] * 21, "keypoint_scores": [1] * 21, "bbox": [9, None, 9, 9]}]
            ),
            r"instance 0 is none of MMPose's .*\[9, None, 9, 9\] is no box",
        ),
        ("a.json", own_report(), "are not ours .*21 keypoints are needed"),
        ("a.json", own_report(*NAMES[:20]), "are not ours .*21 keypoints are needed"),
        ("a.json", own_report(*NAMES[:20], "elbow"), "are not ours .*21 keypoints are needed"),
        ("a.json", own_report("wrist", *NAMES[:20]), "are not ours .*21 keypoints are needed"),
        ("a.json", own_report(*NAMES, x=None), "are not ours .*a keypoint is not finite"),
        ("a.json", own_report(*NAMES, x=float("inf")), "are not ours .*a keypoint is not finite"),
        ("a.csv", "x,y\n1,2\n", "its first line is not image,frame"),
        (
            "a.csv",
            ",".join(POINT_COLUMNS) + 2 * "\na,,,0,,1,wrist,1,2,.5" + "\n",
            "line 3: wrist of this hand stands in a line above, too",
        ),
        ("a.csv", ",".join(CSV_COLUMNS) + "\na,,,0,,1,elbow,1,2,3\n", "line 2"),
        ("a.csv", ",".join(CSV_COLUMNS) + "\na,,,0,,1,wrist,1,2,3,4,5,6\n", "line 2: .* is no box"),
        ("a.csv", ",".join(CSV_COLUMNS) + "\na,,,0,,1,wrist,1,2,3,4,5,6,-7\n", "is no box"),
    ],
)
def test_other_content_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as error:
        PredictionsFile(tmp_path / name)
    assert str(tmp_path) in str(error.value)


def test_coco_images_of_one_id_are_refused(images, tmp_path):
    out = write_run(open_format("coco"), tmp_path, images)
    data_set = json.loads((out / "coco_images.json").read_text())
    data_set["images"][1]["id"] = data_set["images"][0]["id"]
    (out / "coco_images.json").write_text(json.dumps(data_set))
    with pytest.raises(UserError, match=r"coco_images\.json: several images have one id: give"):
        PredictionsFile(out / "coco_results.json")


def test_run_lengths_that_do_not_fit_are_refused(tmp_path):
    record = ImageRecord(hand(0).key, 160, 120, [random_hand(np.random.default_rng(0))])
    out = write_run(open_format("coco"), tmp_path, {"0": record})
    results = json.loads((out / "coco_results.json").read_text())
    for segmentation in ({"size": [120, 160], "counts": "0" * 9}, [[1, 2]], {"size": [1, 1]}):
        results[0]["segmentation"] = segmentation
        (out / "coco_results.json").write_text(json.dumps(results))
        with pytest.raises(UserError, match="the segmentation of 0.jpg cannot be used"):
            PredictionsFile(out / "coco_results.json").predict(hand(0))


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_that_has_found_nothing_has_its_images(name, tmp_path):
    records = {str(n): ImageRecord(f"photos/{n}.jpg", 160, 120, []) for n in range(2)}
    out = write_run(open_format(name), tmp_path / "results", records)
    file = PredictionsFile(out / "coco_results.json" if name == "coco" else out)
    assert file.predict(hand(0)) == file.predict(hand(1)) == (None, None)
    assert file.entry("0.jpg") is not None and file.entry("2.jpg") is None


def test_results_of_images_in_sub_folders_go_by_their_folders(tmp_path):
    rng = np.random.default_rng(2)
    for name in ("a", "b"):
        record = ImageRecord(f"set/Test/source/{name}/0.jpg", 160, 120, [random_hand(rng)])
        (tmp_path / f"{name}.json").write_text(written_file("mmpose", record))
    file = PredictionsFile(tmp_path)
    entries = [file.entry(f"Test_{name}_0.jpg") for name in ("a", "b")]
    assert not np.array_equal(entries[0].keypoints, entries[1].keypoints)
    assert file.entry("Train_a_0.jpg") is file.entry("Test_c_0.jpg") is None
    file.check_no_image_twice(["Test_a_0.jpg", "Test_b_0.jpg"])


@pytest.mark.parametrize("name", [17, None, ["x.jpg"]])
def test_names_that_are_no_text_are_refused(name, tmp_path):
    hand_of = {"image_id": 1, "category_id": 1, "score": 1, "keypoints": [1.0] * 63}
    (tmp_path / "coco_results.json").write_text(json.dumps([hand_of]))
    images = {"images": [{"id": 1, "file_name": name}]}
    (tmp_path / "coco_images.json").write_text(json.dumps(images))
    with pytest.raises(UserError, match="cannot be read .ValueError."):
        PredictionsFile(tmp_path / "coco_results.json")
    instance = {"keypoints": [[1, 2]] * 21, "keypoint_scores": [1] * 21, "image": name}
    (tmp_path / "x.json").write_text(json.dumps([instance]))
    if name is not None:
        with pytest.raises(UserError, match="the name of an image is .*, no text"):
            PredictionsFile(tmp_path / "x.json")
