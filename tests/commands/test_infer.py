"""`python -m mcc_caffe.infer`, as a user runs it."""

import json
import os
import resource

import cv2
import h5py
import numpy as np
import PIL.Image
import pytest

from mcc_caffe import infer
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.weights import describe
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.core.images import marked_png
from mcc_caffe.inference.reports import is_own_result
from tests.support.commands import (
    ROOT,
    Begun,
    files_of,
    main_refusal,
    refusal,
    run,
    run_code,
)
from tests.support.disks import file_size_limit, replacement_fails
from tests.support.hands import write_photos
from tests.support.rendered import render_hand


def test_the_command_starts_without_what_only_videos_and_data_sets_need():
    code = (
        "import sys, mcc_caffe.infer; "
        "print(*sorted({'av', 'h5py', 'scipy', 'matplotlib', 'data_tools'} & set(sys.modules)))"
    )
    done = run_code(code, check=True)
    assert done.stdout.split() == []


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


def test_a_folder_gives_a_drawing_and_json_for_every_image(photos, weights, tmp_path):
    done = run(
        *("mcc_caffe.infer", photos, "--weights", weights, "--out", tmp_path / "out"),
        *("--levels", 2, "--heatmaps"),
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    stems = {"hand", "hand_png", "more/hand", "alpha", "deep", "pixel"}
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("png", "json", "h5")}
    assert f"{out}/hand.png, .json, .h5: " in done.stdout
    report = json.loads((out / "hand.json").read_text())
    assert (report["method"], report["hand_present"]) == ("pyramid", True)
    assert (report["width"], report["height"], report["levels"]) == (160, 120, 2) and report[
        "weights"
    ] == {"file": str(weights)}
    assert (
        len(report["keypoints"]) == 21
        and report["seconds"]["total"] >= report["seconds"]["network"] > 0
    )
    for name, keypoint in zip(NAMES, report["keypoints"]):
        assert keypoint is None or (
            keypoint["name"] == name
            and keypoint["confidence"] > 0.2
            and 0 <= keypoint["x"] <= 159
            and 0 <= keypoint["y"] <= 119
        )
    drawing = cv2.imread(str(out / "hand.png"))
    assert drawing.shape == (360, 3 * 480 + 8, 3)
    with h5py.File(out / "hand.h5") as file:
        assert file["heatmaps"].shape == (22, 128, 128) and file["mask"].shape == (120, 160)
        assert list(file["heatmaps"].attrs["names"]) == [*NAMES, "background"]


def infer_in(folder, *arguments):
    """Runs `python -m mcc_caffe.infer` as a user does, in a folder of hers, with this package."""
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, "PYTHONPATH": path}
    return run("mcc_caffe.infer", *arguments, cwd=folder, env=environment)


def test_without_options_it_runs_with_the_weights_that_ship(photos):
    done = infer_in(photos, "hand.jpg")
    assert done.returncode == 0, done.stderr
    path = shipped_weights("mini")
    known = describe(path)
    assert done.stdout.splitlines()[0].startswith(
        f"weights: {path} (variant mini, iterations {known['iterations']}, date {known['date']}, "
        "input_size 208); engine: "
    )
    assert json.loads((photos / "out/hand.json").read_text())["weights"] == known


@pytest.mark.parametrize(
    ("options", "names", "line"),
    [
        ([], {"hand.json"}, "{out}/hand.json: 21 of 21"),
        (["--hands", "all"], {"hand.json"}, "{out}/hand.json: 1 hand"),
        (["--heatmaps"], {"hand.json", "hand.h5"}, "{out}/hand.json, .h5: 21 of 21"),
        (["--format", "coco"], {"coco_results.json", "coco_images.json"}, "{source}: 21 of 21"),
    ],
)
def test_drawings_can_be_left_out(options, names, line, tmp_path, capsys):
    source = tmp_path / "hand.jpg"
    cv2.imwrite(str(source), render_hand(2).image)
    contents = []
    for out, more in ((tmp_path / "drawn", []), (tmp_path / "plain", ["--no-drawings"])):
        infer.main([str(source), "--out", str(out), *options, *more])
        contents.append({path.name: path.read_text(errors="replace") for path in out.iterdir()})
    drawn, plain = contents
    assert set(plain) == names and set(drawn) == names | {"hand.png"}
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line.startswith(line.format(out=out, source=source))
    for name in names - {"hand.h5"}:
        assert plain[name].partition('"seconds"')[0] == drawn[name].partition('"seconds"')[0]


def test_without_files_of_their_own_images_get_no_folders(tmp_path):
    (tmp_path / "photos" / "a").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "photos" / "a" / "hand.jpg"), render_hand(2).image)
    out = tmp_path / "out"
    infer.main([str(tmp_path / "photos"), "--out", str(out), "--format", "coco", "--no-drawings"])
    assert {path.name for path in out.iterdir()} == {"coco_images.json", "coco_results.json"}


def test_a_variant_without_weights_says_what_to_do(photos):
    done = infer_in(photos, "hand.jpg", "--variant", "paper")
    assert (
        "no weights: train first (`make train VARIANT=paper`), "
        "or give a caffemodel with --weights FILE"
    ) in refusal(done)


def test_a_high_threshold_makes_every_keypoint_null(photos, weights, tmp_path):
    run(
        *("mcc_caffe.infer", photos / "hand.jpg", "--weights", weights, "--out", tmp_path),
        *("--levels", 1, "--threshold", 1e6),
    )
    assert json.loads((tmp_path / "hand.json").read_text())["keypoints"] == [None] * 21


def test_the_predictor_has_the_options_of_the_command(photos, weights, tmp_path, monkeypatch):
    opened = []

    def open_predictor(*arguments, **options):
        opened.append((arguments, options))
        raise Begun

    monkeypatch.setattr(infer, "HandPredictor", open_predictor)
    command = [photos / "hand.jpg", "--weights", weights, "--out", tmp_path / "out"]
    command += ["--variant", "paper", "--prototxt", tmp_path / "own.prototxt", "--levels", 3]
    command += ["--threshold", 0.5, "--seed", 7, "--engine", "caffe", "--precision", "float32"]
    with pytest.raises(Begun):
        infer.main(list(map(str, command)))
    options = {"prototxt": tmp_path / "own.prototxt", "levels": 3, "looks": None, "threshold": 0.5}
    options |= {"seed": 7, "engine": "caffe", "precision": "float32", "gpu": None}
    assert opened == [((weights, "paper"), options)]


def test_a_damaged_image_is_named_and_the_others_are_done(photos, weights, tmp_path):
    (photos / "bad.jpg").write_bytes(b"\xff\xd8 cut short")
    (photos / "empty.jpg").write_bytes(b"")
    done = run(
        "mcc_caffe.infer", photos, "--weights", weights, "--out", tmp_path / "out", "--levels", 1
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "2 of 8 files could not be read" in done.stderr.splitlines()[-1]
    assert "warning: skipped: " in done.stderr and "bad.jpg: not a readable image" in done.stderr
    assert len(list((tmp_path / "out").rglob("*.json"))) == 6


@pytest.mark.parametrize(
    "arguments, message, code",
    [
        (["{tmp}/none.jpg", "--weights", "{weights}"], "{tmp}/none.jpg was not found: give an", 2),
        (
            ["{photos}/more/*.bmp", "--weights", "{weights}"],
            "no such image or video, and no folder or glob with any (.jpg",
            2,
        ),
        (
            ["{photos}/hand.jpg", "--weights", "{tmp}/none"],
            "the weights file {tmp}/none was not found",
            2,
        ),
        (
            ["{photos}/hand.jpg", "--weights", "{photos}/hand.jpg"],
            "is not a complete NetParameter file",
            2,
        ),
        (
            ["{photos}/hand.jpg", "--weights", "{weights}", "--variant", "paper"],
            "does not fit the net: layer conv1_1 is",
            3,
        ),
        (
            ["{photos}/hand.jpg", "--weights", "{weights}", "--prototxt", "{tmp}/none"],
            "the deploy net {tmp}/none was not found",
            2,
        ),
        (["{photos}/hand.jpg", "--weights", "{weights}", "--levels", "0"], "0 is not above 0", 2),
        (["{photos}/hand.jpg", "--threshold", "nan"], "--threshold: nan is no finite number", 2),
        (
            [
                *("{photos}/hand.jpg", "--weights", "{weights}"),
                *("--prototxt", "{root}/prototxt/mini/deploy_without_pose.prototxt"),
            ],
            "the net has no pose stage: it finds no keypoints",
            2,
        ),
        ([], "give images, videos or folders, or else --camera 0 alone", 2),
        (
            ["{photos}/hand.jpg", "--camera", "0"],
            "give images, videos or folders, or else --camera 0 alone",
            2,
        ),
        (["--camera", "0", "--heatmaps"], "--heatmaps and --overwrite go without --camera", 2),
        (["--camera", "0", "--out", "here"], "--out, --format, --no-drawings, --heatmaps and", 2),
        (["--camera", "0", "--overwrite"], "--heatmaps and --overwrite go without --camera", 2),
        (["--camera", "0", "--no-drawings"], "--no-drawings, --heatmaps and", 2),
        (["a.jpg", "--hands", "all", "--looks", "2"], "--hands all goes without --levels, --l", 2),
        (["a.jpg", "--hands", "all", "--heatmaps"], "--hands all goes without --levels, --l", 2),
        (["a.jpg", "--boxes", "b.json", "--levels", "1"], "--boxes goes without --levels, --l", 2),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, code, photos, weights, tmp_path):
    paths = {"tmp": tmp_path, "photos": photos, "weights": weights, "root": ROOT}
    words = [*(argument.format(**paths) for argument in arguments), "--out", tmp_path / "out"]
    assert message.format(**paths) in main_refusal(infer.main, *words, code=code)


def test_boxes_are_those_of_images_and_not_of_the_camera():
    line = main_refusal(infer.main, "--camera", 0, "--boxes", "b.json")
    assert "--boxes goes without --camera" in line


def test_a_wrong_argument_gives_one_line(tmp_path):
    done = run("mcc_caffe.infer", "--out", tmp_path / "out")
    assert "error: give images, videos or folders, or else --camera 0 alone" in refusal(done)


def test_the_only_image_that_is_damaged_is_one_line(tmp_path, weights):
    (tmp_path / "bad.jpg").write_bytes(b"cut short")
    done = run(
        "mcc_caffe.infer", tmp_path / "bad.jpg", "--weights", weights, "--out", tmp_path / "out"
    )
    assert refusal(done) == (
        f"error: {tmp_path}/bad.jpg: not a readable image (9 bytes): damaged, or of an "
        "unknown format"
    )


@pytest.mark.parametrize("out", ["file", "file/below", "link"])
def test_results_need_a_folder(out, photos, weights, tmp_path):
    (tmp_path / "file").write_bytes(b"of the user")
    (tmp_path / "link").symlink_to("not there")
    command = ("mcc_caffe.infer", photos / "hand.jpg", "--weights", weights)
    done = run(*command, "--out", tmp_path / out)
    nearest = tmp_path / out.partition("/")[0]
    assert refusal(done) == (
        f"error: {nearest} is no folder: move it away, or give another folder than {tmp_path / out}"
    )
    assert (tmp_path / "file").read_bytes() == b"of the user"


def test_a_folder_of_results_that_cannot_be_made_is_said_before_the_work(photos, weights, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/more").write_bytes(b"of the user")  # photos/more has images, too
    done = run("mcc_caffe.infer", photos, "--weights", weights, "--out", tmp_path / "out")
    assert refusal(done) == (
        f"error: {tmp_path}/out/more is no folder: move it away, or give another folder than "
        f"{tmp_path}/out/more"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["more"]
    assert (tmp_path / "out/more").read_bytes() == b"of the user"


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("names", [("hand.png",), ("hand.jpg", "hand.png"), (".",)])
def test_no_result_replaces_an_input(names, overwrite, photos, weights):
    before = files_of(photos)
    inputs = [photos / name for name in names]
    done = run("mcc_caffe.infer", *inputs, "--weights", weights, "--out", photos, *overwrite)
    assert (
        ".png would be overwritten by a result of this run: give another folder with --out"
        in refusal(done)
    )
    assert files_of(photos) == before


@pytest.mark.parametrize("option", ["--weights", "--prototxt"])
def test_no_result_replaces_the_files_of_the_net(option, photos, tmp_path):
    of_net = tmp_path / "hand.json"
    of_net.write_bytes(b"of the net")
    words = [photos / "hand.jpg", option, of_net, "--out", tmp_path, "--overwrite"]
    line = main_refusal(infer.main, *words)
    assert "hand.json would be overwritten by a result of this run: give another folder" in line
    assert of_net.read_bytes() == b"of the net"


@pytest.mark.parametrize("foreign", ["hand.png", "hand.json", "hand.h5"])
def test_no_result_replaces_a_file_of_the_users(foreign, photos, weights, tmp_path):
    """As the label files of a folder of the CMU set: `infer a/hand.jpg --out a`."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "hand.jpg").write_bytes((photos / "hand.jpg").read_bytes())
    (folder / foreign).write_text('{"hand_pts": []}')
    before = files_of(folder)
    command = [
        *("mcc_caffe.infer", folder / "hand.jpg", "--weights", weights, "--out", folder),
        *("--levels", 1, "--heatmaps"),
    ]
    done = run(*command)
    assert refusal(done) == (
        f"error: {folder}/{foreign} would be overwritten and is not marked as a result of this "
        "program: give another folder with --out, or --overwrite to replace it"
    )
    assert files_of(folder) == before
    assert run(*command, "--overwrite").returncode == 0
    assert is_own_result(folder / foreign)
    assert run(*command).returncode == 0  # results replace results
    assert len(files_of(folder)) == 4


def test_results_are_no_inputs(photos, weights):
    command = [
        *("mcc_caffe.infer", photos, "--weights", weights, "--out", photos / "found"),
        *("--levels", 1),
    ]
    assert run(*command).returncode == 0
    before = set(files_of(photos))
    done = run(*command)
    assert done.returncode == 0 and set(files_of(photos)) == before
    assert done.stderr.splitlines()[-1] == (
        "warning: passed over: 7 files of other kinds (.txt, .json); 6 results of this program "
        "(alpha.png, deep.png, hand.png, ...)"
    )
    done = run("mcc_caffe.infer", photos / "found", "--weights", weights)
    assert "6 results of this program" in refusal(done)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_current_folder(name, photos, weights):
    done = infer_in(photos, name, "--weights", weights)
    assert "is no file name: is a variable of the command line not set?" in refusal(done)
    assert not (photos / "out").exists()


def test_a_name_that_leaves_no_room_for_a_suffix(photos, weights, tmp_path):
    content = (photos / "hand.jpg").read_bytes()
    for folder, name in (("1", "ü" * 125 + ".jpg"), ("2", "ü" * 125 + ".jpg"), ("2", "z.jpg")):
        (tmp_path / "long" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "long" / folder / name).write_bytes(content)
    pattern = tmp_path / "long/*/*.jpg"
    out = tmp_path / "out"
    done = run("mcc_caffe.infer", pattern, "--weights", weights, "--out", out, "--levels", 1)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.glob("*.json")) == [
        "z.json",
        "ü" * 111 + "_jpg.json",
        "ü" * 113 + ".json",
    ]


def test_other_endings_and_names_that_cannot_be_printed(photos, weights, tmp_path):
    folder = tmp_path / "kinds"
    folder.mkdir()
    image = PIL.Image.open(photos / "hand.jpg").convert("RGB")
    for name, kind in (
        *(("a.gif", "GIF"), ("b.avif", "AVIF"), ("c.jp2", "JPEG2000"), ("d.ppm", "PPM")),
        *(("e\nnew line.jfif", "JPEG"), ("f.bmp", "BMP")),
    ):
        image.save(folder / name, kind)
    os.rename(folder / "f.bmp", os.fsencode(folder) + b"/\xff.bmp")
    done = run(
        *("mcc_caffe.infer", folder, "--weights", weights, "--out", tmp_path / "out"),
        *("--levels", 1),
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.json"))) == 6
    lines = done.stdout.splitlines()  # that of the weights, and each image's
    assert len(lines) == 7
    assert "e\\nnew line.png" in done.stdout and "\\udcff.png" in done.stdout


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(photos, weights, tmp_path):
    """No file may become larger than 40,000 bytes; the error of the writing thread ends the run."""
    done = run(
        *("mcc_caffe.infer", photos, "--weights", weights, "--out", tmp_path / "out"),
        *("--levels", 1, "--quiet"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )
    assert "cannot be written (File too large): make room" in refusal(done)
    assert all(cv2.imread(str(path)) is not None for path in (tmp_path / "out").rglob("*.png"))
    assert not list((tmp_path / "out").rglob("*partial*"))


@pytest.mark.parametrize("options", [[], ["--heatmaps"], ["--format", "mmpose"]])
def test_an_image_keeps_the_results_of_one_run_where_another_cannot_be_written(
    options, weights, tmp_path, monkeypatch
):
    """The drawing is small enough for the disk, the other results are not."""
    monkeypatch.setattr(
        "mcc_caffe.inference_run.marked_png",
        lambda image, program: marked_png(image[:4, :4], program),
    )
    photo, out = tmp_path / "x.png", tmp_path / "out"
    arguments = [photo, "--weights", weights, "--out", out, "--levels", 1, "--threshold", 0]
    arguments = [*map(str, arguments), *options]
    cv2.imwrite(str(photo), np.full((40, 40, 3), 90, np.uint8))
    infer.main(arguments)
    before = files_of(out)
    cv2.imwrite(str(photo), np.full((50, 50, 3), 20, np.uint8))
    size = 10_000 if "--heatmaps" in options else 500
    with file_size_limit(size), pytest.raises(UserError, match="cannot be written"):
        infer.main(arguments)
    assert files_of(out) == before
    for path in before:
        with replacement_fails(path.name), pytest.raises(UserError, match=f"{path.name} cannot be"):
            infer.main(arguments)
        assert files_of(out) == before
    infer.main(arguments)
    assert not before.items() & files_of(out).items()
