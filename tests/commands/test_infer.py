"""`python -m mcc_caffe.infer`, as a user runs it."""

import glob
import itertools
import json
import os
import pathlib
import resource
import shutil

import cv2
import h5py
import numpy as np
import PIL.Image
import pytest

from mcc_caffe import infer
from mcc_caffe.caffe_io.default_weights import default_weights, shipped_weights
from mcc_caffe.caffe_io.protobuf import messages
from mcc_caffe.caffe_io.weights import describe
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from mcc_caffe.core.images import marked_png
from mcc_caffe.inference import result_paths
from mcc_caffe.inference.formats import FORMATS, OWN_FORMAT, open_format
from mcc_caffe.inference.formats.base import ImageRecord
from mcc_caffe.inference.input_files import InputFile, find_files, read_image
from mcc_caffe.inference.reports import is_own_result
from mcc_caffe.inference.result_paths import choose_result_paths
from tests.support.commands import ROOT, files_of, run, run_code
from tests.support.disks import file_size_limit, replacement_fails
from tests.support.hands import drawn_sample, turned_jpeg


def test_the_command_starts_without_what_only_videos_and_data_sets_need():
    code = (
        "import sys, mcc_caffe.infer; "
        "print(*sorted({'av', 'h5py', 'scipy', 'matplotlib', 'data_tools'} & set(sys.modules)))"
    )
    done = run_code(code, check=True)
    assert done.stdout.split() == []


@pytest.fixture
def photos(tmp_path):
    """Colour, grey, alpha, 16-bit and 1-pixel images, a damaged one and a text file, in folders."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    (folder / "hand.jpg").write_bytes(drawn_sample(rng, "x").image_bytes)
    (folder / "more/hand.JPG").write_bytes(drawn_sample(rng, "x").image_bytes)
    cv2.imwrite(str(folder / "hand.png"), rng.integers(0, 255, (60, 80), dtype=np.uint8))
    cv2.imwrite(str(folder / "alpha.png"), rng.integers(0, 255, (60, 80, 4), dtype=np.uint8))
    cv2.imwrite(str(folder / "deep.png"), rng.integers(0, 65535, (60, 80, 3), dtype=np.uint16))
    cv2.imwrite(str(folder / "pixel.png"), np.zeros((1, 1, 3), np.uint8))
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_folder_gives_a_drawing_and_json_for_every_image(photos, weights, tmp_path):
    done = run(
        "mcc_caffe.infer",
        photos,
        "--weights",
        weights,
        "--out",
        tmp_path / "out",
        "--levels",
        2,
        "--heatmaps",
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
    assert done.stdout.splitlines()[0].startswith(
        f"weights: file {path}, variant mini, net MCC_mini, iterations "
    )
    assert json.loads((photos / "out/hand.json").read_text())["weights"] == describe(path)


def test_where_no_weights_ship_the_newest_of_the_runs_are_taken(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mcc_caffe.caffe_io.default_weights.shipped_weights", lambda variant: None)
    with pytest.raises(
        UserError,
        match="no weights: train first .`make train VARIANT=mini`., "
        "or give a caffemodel with --weights FILE",
    ):
        default_weights("mini")
    folder = tmp_path / "runs/mini/snapshots"
    folder.mkdir(parents=True)
    (folder / "mcc_iter_3.caffemodel").write_bytes(weights.read_bytes())
    net = messages().NetParameter.FromString(weights.read_bytes())
    history = [blob for layer in net.layer for blob in layer.blobs]
    state = messages().SolverState(iter=3, current_step=0, history=history)
    (folder / "mcc_iter_3.solverstate").write_bytes(state.SerializeToString())
    assert default_weights("mini") == pathlib.Path("runs/mini/snapshots/mcc_iter_3.caffemodel")


def test_a_variant_without_weights_says_what_to_do(photos):
    done = infer_in(photos, "hand.jpg", "--variant", "paper")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert (
        "no weights: train first (`make train VARIANT=paper`), "
        "or give a caffemodel with --weights FILE" in done.stderr
    )


def test_a_high_threshold_makes_every_keypoint_null(photos, weights, tmp_path):
    run(
        "mcc_caffe.infer",
        photos / "hand.jpg",
        "--weights",
        weights,
        "--out",
        tmp_path,
        "--levels",
        1,
        "--threshold",
        1e6,
    )
    assert json.loads((tmp_path / "hand.json").read_text())["keypoints"] == [None] * 21


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
                "{photos}/hand.jpg",
                "--weights",
                "{weights}",
                "--prototxt",
                "prototxt/mini/deploy_without_pose.prototxt",
            ],
            "error: the net has no pose stage: it finds no keypoints",
            2,
        ),
        ([], "give images, videos or folders, or --camera 0", 2),
        (
            ["{photos}/hand.jpg", "--camera", "0"],
            "give images, videos or folders, or --camera 0",
            2,
        ),
        (["--camera", "0", "--heatmaps"], "--heatmaps and --overwrite go without --camera", 2),
        (["--camera", "0", "--out", "here"], "--out, --format, --heatmaps and", 2),
        (["--camera", "0", "--overwrite"], "--heatmaps and --overwrite go without --camera", 2),
    ],
)
def test_wrong_arguments_give_one_line(arguments, message, code, photos, weights, tmp_path):
    paths = {"tmp": tmp_path, "photos": photos, "weights": weights}
    done = run(
        "mcc_caffe.infer",
        *(argument.format(**paths) for argument in arguments),
        "--out",
        tmp_path / "out",
    )
    assert (
        done.returncode == code
        and message.format(**paths) in done.stderr
        and "Traceback" not in done.stderr
    )


def test_the_only_image_that_is_damaged_is_one_line(tmp_path, weights):
    (tmp_path / "bad.jpg").write_bytes(b"cut short")
    done = run(
        "mcc_caffe.infer", tmp_path / "bad.jpg", "--weights", weights, "--out", tmp_path / "out"
    )
    assert done.returncode == 2 and done.stderr.splitlines() == [
        f"error: {tmp_path}/bad.jpg: not a readable image (9 bytes): damaged, or of an "
        "unknown format"
    ]


@pytest.mark.parametrize("out", ["file", "file/below", "link"])
def test_results_need_a_folder(out, photos, weights, tmp_path):
    (tmp_path / "file").write_bytes(b"of the user")
    (tmp_path / "link").symlink_to("not there")
    command = ("mcc_caffe.infer", photos / "hand.jpg", "--weights", weights)
    done = run(*command, "--out", tmp_path / out)
    nearest = tmp_path / out.partition("/")[0]
    assert done.returncode == 2 and done.stderr.splitlines() == [
        f"error: {nearest} is no folder: move it away, or give another folder than {tmp_path / out}"
    ]
    assert (tmp_path / "file").read_bytes() == b"of the user"


def test_a_folder_of_results_that_cannot_be_made_is_said_before_the_work(photos, weights, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/more").write_bytes(b"of the user")  # photos/more has images, too
    done = run("mcc_caffe.infer", photos, "--weights", weights, "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.splitlines() == [
        f"error: {tmp_path}/out/more is no folder: move it away, or give another folder than "
        f"{tmp_path}/out/more"
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["more"]
    assert (tmp_path / "out/more").read_bytes() == b"of the user"


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("names", [("hand.png",), ("hand.jpg", "hand.png"), (".",)])
def test_no_result_replaces_an_input(names, overwrite, photos, weights):
    before = files_of(photos)
    inputs = [photos / name for name in names]
    done = run("mcc_caffe.infer", *inputs, "--weights", weights, "--out", photos, *overwrite)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert (
        ".png would be overwritten by a result of this run: give another folder with --out"
        in done.stderr
    )
    assert files_of(photos) == before


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
    assert done.returncode == 2 and done.stderr.splitlines() == [
        f"error: {folder}/{foreign} would be overwritten and is not marked as a result of this "
        "program: give another folder with --out, or --overwrite to replace it"
    ]
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
    assert done.returncode == 2 and "6 results of this program" in done.stderr


def test_hidden_and_linked_things_are_passed_over_and_said(photos, tmp_path):
    (photos / "._hand.jpg").write_bytes(b"of a Mac")
    (photos / ".thumbnails").mkdir()
    (photos / ".thumbnails/hand.jpg").write_bytes((photos / "hand.jpg").read_bytes())
    (photos / "linked").symlink_to("more")
    (photos / "broken.jpg").symlink_to("not there")
    os.mkfifo(photos / "pipe.jpg")
    (photos / "program.ts").write_text("let x = 1")
    files, passed_over = find_files([str(photos)])
    assert len(files) == 6
    for reason in (
        *("1 hidden folders (.thumbnails)", "1 linked folders (linked)"),
        *("1 hidden files (._hand.jpg)", "2 broken links, pipes or devices ("),
        "2 files of other kinds (",
    ):
        assert reason in str(passed_over)
    assert len(find_files([str(photos / "._hand.jpg")]).files) == 1  # where one names it
    with pytest.raises(UserError, match="pipe.jpg is a pipe or a device, not a file"):
        find_files([str(photos / "pipe.jpg")])


def test_what_is_passed_over_is_said_of_its_own_pattern(photos):
    for name in ("notes", "more notes"):
        (photos / name).mkdir()
    (photos / "notes/a.doc").touch()
    (photos / "more notes/b.md").touch()
    _, passed_over = find_files([str(photos), str(photos)])
    assert "6 files of other kinds (.txt, .doc, .md)" in str(passed_over)
    with pytest.raises(UserError, match=r"passed over: 1 files of other kinds \(\.md\)$"):
        find_files([str(photos), str(photos / "more notes")])


def test_masks_and_copies_of_the_labelling_page_are_no_inputs(photos):
    """But for where someone names the page's folder."""
    before = [file.path for file in find_files([str(photos)]).files]
    labels = photos / "mcc-labels"
    for folder in ("state", "upright", "onehand10k/Train/mask"):
        (labels / folder).mkdir(parents=True)
        shutil.copy(before[0], labels / folder / before[0].name)
    for pattern in (photos, photos / f"**/*{before[0].suffix}"):
        files, passed_over = find_files([str(pattern)])
        assert {file.path for file in files} <= set(before) and files
        assert "of the labelling page" in str(passed_over)
    for pattern in (labels, labels / "**/*.*"):
        assert len(find_files([str(pattern)]).files) == 3


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_current_folder(name, photos, weights):
    done = infer_in(photos, name, "--weights", weights)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "is no file name: is a variable of the command line not set?" in done.stderr
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
        "mcc_caffe.infer",
        photos,
        "--weights",
        weights,
        "--out",
        tmp_path / "out",
        "--levels",
        1,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (
        done.stderr.splitlines()[-1].startswith("error: ")
        and "cannot be written (File too large): make room" in done.stderr
    )
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
    before = {path: path.read_bytes() for path in out.iterdir()}
    cv2.imwrite(str(photo), np.full((50, 50, 3), 20, np.uint8))
    size = 10_000 if "--heatmaps" in options else 500
    with file_size_limit(size), pytest.raises(UserError, match="cannot be written"):
        infer.main(arguments)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    for path in before:
        with replacement_fails(path.name), pytest.raises(UserError, match=f"{path.name} cannot be"):
            infer.main(arguments)
        assert {path: path.read_bytes() for path in out.iterdir()} == before
    infer.main(arguments)
    assert not before.items() & {path: path.read_bytes() for path in out.iterdir()}.items()


def test_a_photograph_is_turned_upright(tmp_path):
    (tmp_path / "turned.jpg").write_bytes(turned_jpeg())
    assert read_image(tmp_path / "turned.jpg").shape == (40, 20, 3)


def test_globs_and_files_together(photos):
    patterns = [str(photos / name) for name in ("*.png", "hand.jpg", "hand.png")]
    files = find_files(patterns).files
    assert sorted(file.path.name for file in files) == [
        "alpha.png",
        "deep.png",
        "hand.jpg",
        "hand.png",
        "pixel.png",
    ]
    with pytest.raises(UserError, match="no such image"):
        find_files([str(photos / "no*tes")])


@pytest.mark.parametrize("pattern", ["**/*.jpg", "**", "**/more/**/*.[jJ]*", "m*/**/*"])
def test_a_glob_of_all_folders_goes_round_no_circle(pattern, photos, monkeypatch):
    monkeypatch.chdir(photos)
    (photos / "more/[deep]").mkdir()
    shutil.copy("hand.jpg", "more/[deep]/hand.jpg")
    (photos / ".hidden").mkdir()
    shutil.copy("hand.jpg", ".hidden/hand.jpg")
    expected = {path for path in glob.glob(pattern, recursive=True) if pathlib.Path(path).is_file()}
    for name in ("one", "two", "three"):  # glob.glob would follow 3 to the power of 40 paths
        (photos / "more" / name).symlink_to(photos)
    files, passed_over = find_files([pattern])
    assert {str(file.path) for file in files} == expected and len(files) == len(expected) > 0
    assert "linked folders (" in str(passed_over)


def test_a_file_that_is_named_by_two_paths_is_done_once(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    (photos.parent / "linked").symlink_to(photos)
    before = find_files(["photos"]).files
    names = ["photos", "./photos/hand.jpg", str(photos), "linked", "photos/more/../hand.png"]
    assert find_files(names).files == before
    (photos / "link.jpg").symlink_to("hand.jpg")  # it has a name of its own, and so a result
    assert len(find_files(["photos"]).files) == len(before) + 1


def test_results_of_one_name_do_not_overwrite_each_other():
    files = [
        InputFile(pathlib.Path(folder, name), pathlib.Path(name).with_suffix(""))
        for folder, name in (("a", "x.jpg"), ("a", "x.png"), ("b", "x.jpg"), ("c", "X.jpg"))
    ]
    paths = choose_result_paths(files, pathlib.Path("out"))
    assert len({str(path).lower() for path in paths}) == 4 and paths[0] == pathlib.Path("out/x")


def first_free_names(files):
    """The names that results get, each found by a count from the start."""
    names = []
    for file in files:
        stem, suffix = file.relative.name, file.path.suffix[1:]
        numbered = (f"{stem}_{suffix}_{number}" for number in itertools.count(2))
        variations = itertools.chain([stem, f"{stem}_{suffix}"], numbered)
        taken = {name.lower() for name in names}
        names.append(next(name for name in variations if name.lower() not in taken))
    return names


def test_results_get_the_first_name_that_is_free():
    """Small names, so that variations of some are those of others."""
    stems = ["x", "X", "x_jpg", "x_jpg_2", "x_JPG_3", "x_png"]
    rng = np.random.default_rng(0)
    for _ in range(200):
        files = [
            InputFile(pathlib.Path(str(index), f"{stem}{suffix}"), pathlib.Path(stem))
            for index, (stem, suffix) in enumerate(
                zip(rng.choice(stems, 20), rng.choice([".jpg", ".JPG", ".png"], 20))
            )
        ]
        paths = choose_result_paths(files, pathlib.Path())
        assert list(map(str, paths)) == first_free_names(files)


def test_of_thousands_of_files_of_one_name_each_tries_few_results(monkeypatch):
    tried, vary_path = [], result_paths._vary_path

    def count_tries(*arguments):
        tried.append(arguments)
        return vary_path(*arguments)

    monkeypatch.setattr(result_paths, "_vary_path", count_tries)
    name = pathlib.Path("color.jpg")
    files = [InputFile(str(index) / name, name.with_suffix("")) for index in range(5000)]
    paths = choose_result_paths(files, pathlib.Path("out"))
    assert len(files) <= len(tried) <= 2 * len(files) and paths[-1].name == "color_jpg_4999"


def test_long_suffixes_leave_room_for_the_name_and_a_number():
    suffixes = [".jpg", f".{'s' * 250}", f".{'s' * 250}t", f".{'ü' * 125}"]
    files = [InputFile(pathlib.Path(f"a{suffix}"), pathlib.Path("a")) for suffix in suffixes]
    names = [path.name for path in choose_result_paths(files, pathlib.Path("out"))]
    assert names == ["a", f"a_{'s' * 100}", f"a_{'s' * 100}_2", f"a_{'ü' * 50}"]


@pytest.mark.parametrize("is_video", [False, True])
@pytest.mark.parametrize("name", [name for name in FORMATS if name != OWN_FORMAT])
def test_results_of_the_longest_names_can_be_written(name, is_video, tmp_path):
    (result,) = choose_result_paths(
        [InputFile(pathlib.Path("x.mp4"), pathlib.Path("x" * 251))], tmp_path
    )
    result_format = open_format(name)
    text = result_format.describe(ImageRecord("x.mp4", 2, 2, [], 0, 0.0))
    if is_video:
        result_format.write_video(result, [text])
    else:
        result_format.write_image(result, text)
    assert all(path.exists() for path in result_format.paths(result, is_video))
