"""`python -m mcc_caffe.infer --format`, as a user runs it."""

import csv
import dataclasses
import json
import signal

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mcc_caffe import evaluate, infer
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.video_writing import video_writer
from tests.support.commands import hear_a_hang_up, refusal, run, start, wait_for
from tests.support.hands import drawn_sample, write_layout
from tests.support.images import oriented_image

RESULTS = {
    "coco": {"coco_results.json", "coco_images.json"},
    "openpose": {"a_keypoints.json", "b_keypoints.json"},
    "mmpose": {"a.json", "b.json"},
    "csv": {"a.csv", "b.csv"},
}


@pytest.fixture
def photos(tmp_path):
    """Two images of a drawn hand."""
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.jpg").write_bytes(drawn_sample(rng, "x").image_bytes)
    return folder


def look(*arguments):
    """Run the command in this process."""
    infer.main(["--levels", "1", "--threshold", "0", *map(str, arguments)])


@pytest.mark.parametrize("name", RESULTS)
def test_a_format_takes_the_place_of_our_json(name, photos, tmp_path, capsys):
    out = tmp_path / "out"
    look(photos, "--format", name, "--out", out)
    assert {path.name for path in out.iterdir()} == RESULTS[name] | {"a.png", "b.png"}
    look(photos, "--format", name, "--out", out)  # its own results may be replaced
    victim = out / sorted(RESULTS[name])[0]
    victim.write_text('{"mine": 1}')
    with pytest.raises(UserError, match=f"{victim} would be overwritten"):
        look(photos, "--format", name, "--out", out)
    assert victim.read_text() == '{"mine": 1}'


def test_coco_results_of_the_users_boxes_load_into_the_users_own_file(photos, tmp_path):
    content = {
        "images": [{"id": 70 + i, "file_name": f"{name}.jpg"} for i, name in enumerate("ba")],
        "annotations": [
            {"id": 1, "image_id": 70, "category_id": 5, "bbox": [10, 10, 100, 90], "iscrowd": 0},
            {"id": 2, "image_id": 71, "category_id": 4, "bbox": [20, 20, 90, 90], "iscrowd": 0},
            {"id": 3, "image_id": 71, "category_id": 5, "bbox": [30, 20, 90, 90], "iscrowd": 0},
        ],
        "categories": [
            {"id": 4, "name": "left hand"},
            {"id": 5, "name": "right hand"},
            {"id": 7, "name": "hand without a box"},
            {"id": 9, "name": "cat"},
        ],
    }
    (photos / "own.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    done = run(
        *("mcc_caffe.infer", photos, "--boxes", photos / "own.json"),
        *("--format", "coco", "--out", out),
    )
    assert done.returncode == 0, done.stderr
    for data_set in (photos / "own.json", out / "coco_images.json"):
        results = COCO(str(data_set)).loadRes(str(out / "coco_results.json"))
        assert [
            (each["image_id"], each["category_id"])
            for each in results.loadAnns(results.getAnnIds())
        ] == [(71, 4), (71, 5), (70, 5)]
    own_categories = COCO(str(out / "coco_images.json")).dataset["categories"]
    assert [(each["id"], each["name"]) for each in own_categories] == [
        (4, "left hand"),
        (5, "right hand"),
        (7, "hand without a box"),
    ]
    names = {image["id"]: image["file_name"] for image in results.dataset["images"]}
    assert names == {70: str(photos / "b.jpg"), 71: str(photos / "a.jpg")}


def test_images_without_boxes_bring_no_category_of_their_own(photos, tmp_path, capsys):
    content = {
        "images": [{"id": 70, "file_name": "a.jpg"}, {"id": 71, "file_name": "b.jpg"}],
        "annotations": [{"image_id": 71, "category_id": 5, "bbox": [9, 9, 90, 90]}],
        "categories": [{"id": 5, "name": "left hand"}],
    }
    (photos / "own.json").write_text(json.dumps(content))
    infer.main(
        [str(photos / "a.jpg"), "--boxes", str(photos / "own.json")]
        + ["--format", "coco", "--out", str(tmp_path)]
    )
    data_set = json.loads((tmp_path / "coco_images.json").read_text())
    assert [(each["id"], each["name"]) for each in data_set["categories"]] == [(5, "left hand")]


@pytest.mark.parametrize(
    "name, options", [("coco_images.json", ["--format", "coco"]), ("a.json", ["--overwrite"])]
)
def test_the_file_of_boxes_is_never_replaced_by_a_result(name, options, photos):
    content = {
        "program": "mcc_caffe.infer",  # as in the coco_images.json of an earlier run
        "images": [{"id": 70, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 70, "category_id": 5, "bbox": [9, 9, 90, 90]}],
        "categories": [{"id": 5, "name": "hand"}],
    }
    boxes = photos / name
    boxes.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{name} would be overwritten by a result of this run"):
        infer.main([str(photos / "a.jpg"), "--boxes", str(boxes), "--out", str(photos), *options])
    assert json.loads(boxes.read_text()) == content


def test_a_wrong_box_is_told_before_the_work(photos, tmp_path):
    content = {
        "images": [{"id": i, "file_name": f"{name}.jpg"} for i, name in enumerate("ab")],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [9, 9, 0, 0]}],
        "categories": [{"id": 5, "name": "hand"}],
    }
    (photos / "own.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    done = run("mcc_caffe.infer", photos, "--boxes", photos / "own.json", "--out", out)
    assert "b.jpg: box 0 is x 9, y 9, width 0" in refusal(done)
    assert not out.exists()


def test_a_run_that_ends_early_keeps_the_hands_of_the_finished_images(
    photos, tmp_path, monkeypatch, caplog
):
    out, predict = tmp_path / "out", infer.HandPredictor.predict
    (photos / "c.jpg").write_bytes((photos / "a.jpg").read_bytes())
    images = []

    def predict_two(predictor, image):
        images.append(image)
        if len(images) == 3:
            raise KeyboardInterrupt
        return predict(predictor, image)

    monkeypatch.setattr(infer.HandPredictor, "predict", predict_two)
    with pytest.raises(KeyboardInterrupt):
        look(photos, "--format", "coco", "--out", out, "--threshold", -1)
    assert {path.name for path in out.iterdir()} == RESULTS["coco"] | {"a.png", "b.png"}
    results = COCO(str(out / "coco_images.json")).loadRes(str(out / "coco_results.json"))
    assert [image["file_name"] for image in results.dataset["images"]] == [
        str(photos / name) for name in ("a.jpg", "b.jpg")
    ]
    assert len(results.getAnnIds()) == 2 and "do not have all files" in caplog.text

    before = (out / "coco_results.json").read_bytes()
    images[:] = 2 * [None]
    with pytest.raises(KeyboardInterrupt):  # before any image is finished
        look(photos, "--format", "coco", "--out", out, "--threshold", -1)
    assert (out / "coco_results.json").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_a_run_as_ctrl_c_does(number, photos, tmp_path):
    for index in range(500):
        (photos / f"c{index:03}.jpg").symlink_to("a.jpg")
    out = tmp_path / "out"
    process = start(
        *("mcc_caffe.infer", photos, "--format", "coco", "--out", out, "--quiet"),
        preexec_fn=hear_a_hang_up,
    )
    wait_for((out / "b.png").exists, process)
    for _ in range(2):  # as `timeout` and a terminal that is closed do
        process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number and "Traceback" not in errors, errors
    assert "the run ended early" in errors
    names = [image["file_name"] for image in COCO(str(out / "coco_images.json")).dataset["images"]]
    assert names[:2] == [str(photos / name) for name in ("a.jpg", "b.jpg")] and len(names) < 502
    assert (out / "coco_results.json").exists()


@pytest.fixture
def clip(photos):
    """A video of four frames."""
    path, pixels = photos / "clip.mp4", cv2.imread(str(photos / "a.jpg"))
    with video_writer(path, 10, (160, 120)) as add_frame:
        for number in range(4):
            add_frame(np.roll(pixels, number, axis=1), number / 10)
    path.write_bytes(path.read_bytes().replace(b"mcc_caffe.infer", b"another_program"))
    return path


def test_the_frames_of_a_video_are_entries_of_each_format(clip, tmp_path, capsys):
    for name in RESULTS:
        look(clip, "--format", name, "--out", tmp_path / name, "--threshold", -1)
        assert (tmp_path / name / "clip.mp4").exists()
        assert not (tmp_path / name / "clip.json").exists() or name == "mmpose"

    images = COCO(str(tmp_path / "coco/coco_images.json"))
    results = images.loadRes(str(tmp_path / "coco/coco_results.json"))
    frames = images.loadImgs(sorted(images.getImgIds()))
    assert [(frame["frame"], frame["time"]) for frame in frames] == [
        (number, number / 10) for number in range(4)
    ]
    points = [
        np.reshape(
            results.loadAnns(results.getAnnIds(imgIds=[frame["id"]]))[0]["keypoints"], (21, 3)
        )
        for frame in frames
    ]

    files = sorted((tmp_path / "openpose/clip_keypoints").iterdir())
    assert [file.name for file in files] == [f"clip_{n:012d}_keypoints.json" for n in range(4)]
    for file, expected in zip(files, points):
        (person,) = json.loads(file.read_text())["people"]
        assert np.array_equal(np.reshape(person["hand_right_keypoints_2d"], (21, 3)), expected)

    frames = json.loads((tmp_path / "mmpose/clip.json").read_text())
    assert [frame["frame_id"] for frame in frames] == [0, 1, 2, 3]
    assert len(frames[0]["instances"][0]["keypoints"]) == 21

    with (tmp_path / "csv/clip.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], float(row["time"])) for row in rows[::21]] == [
        (str(number), number / 10) for number in range(4)
    ]


def test_a_folder_of_the_users_is_never_replaced(clip, tmp_path, capsys):
    folder = tmp_path / "out/clip_keypoints"
    look(clip, "--format", "openpose", "--out", tmp_path / "out")
    look(clip, "--format", "openpose", "--out", tmp_path / "out")  # only results: replaced
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="clip_keypoints is a folder, and not one of this program"):
        look(clip, "--format", "openpose", "--out", tmp_path / "out", "--overwrite")
    assert (folder / "notes.txt").read_text() == "mine"


def test_no_result_is_lost_in_a_videos_folder_of_results(clip, tmp_path):
    """Both would lie in out/clip_keypoints/, which the video's results replace as a whole."""
    folder, out = clip.parent / "clip_keypoints", tmp_path / "out"
    folder.mkdir()
    (clip.parent / "a.jpg").rename(folder / "a.jpg")
    with pytest.raises(UserError, match="a.png would lie in .*/clip_keypoints, which is another"):
        look(clip.parent, "--format", "openpose", "--out", out)
    assert not out.exists()
    look(clip.parent, "--format", "mmpose", "--out", out)
    assert (out / "clip_keypoints/a.json").exists() and (out / "clip.json").exists()


def test_results_of_photographs_that_are_turned_upright_are_measured(tmp_path, drawn_samples):
    """The second image is stored on its side: evaluation and `infer` turn it in the same way."""
    first, second = drawn_samples[1], drawn_samples[3]
    on_its_side = np.ascontiguousarray(np.rot90(second.image())[..., ::-1])
    content = oriented_image(on_its_side, "JPEG", 6, quality=95)  # 6: by a quarter to the right
    second = dataclasses.replace(second, image_bytes=content)
    root = write_layout(tmp_path / "set", {"Test": [first, second]})
    out = tmp_path / "results"
    look(root / "Test/source", "--format", "csv", "--threshold", -1, "--out", out)
    options = ["--levels", "1", "--processes", "1", "--orientation", "upright"]
    paths = ["--weights", str(default_weights("mini")), "--predictions", str(out)]
    evaluate.main([str(root), *options, *paths, "--out", str(tmp_path / "eval")])
    net, results = json.loads((tmp_path / "eval/results.json").read_text())["models"]
    assert net["sets"]["Test"]["images"] == 2
    assert net["sets"]["Test"]["paper"]["PCK"] == results["sets"]["Test"]["paper"]["PCK"]


def test_evaluation_measures_results_as_it_measures_the_net(tmp_path, drawn_samples, capsys):
    root = write_layout(tmp_path / "set", {"Test": drawn_samples[:2]})
    paths = []
    for name in ("ours", "coco", "mmpose"):
        out = tmp_path / name
        look(root / "Test/source", "--format", name, "--threshold", -1, "--out", out)
        paths.append(out / "coco_results.json" if name == "coco" else out)
    options = [str(root), "--levels", "1", "--processes", "1", "--out", str(tmp_path / "eval")]
    weights = str(default_weights("mini"))
    evaluate.main([*options, "--weights", weights, "--predictions", *map(str, paths)])
    models = json.loads((tmp_path / "eval/results.json").read_text())["models"]
    assert len(models) == 4
    (numbers,) = models[0]["sets"].values()
    for model in models[1:]:
        (others,) = model["sets"].values()
        assert others["paper"]["PCK"] == numbers["paper"]["PCK"]
    assert numbers["mask"] == models[2]["sets"]["Test"]["mask"]
