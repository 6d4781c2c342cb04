"""The labels of a folder without a page: files, data sets, revisions, and what a person changes."""

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import logging
import os
import pathlib
import shutil
import subprocess
import time
import uuid

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools import readers
from data_tools.taught_set import TaughtSet
from data_tools.teachers import AgreedHand
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.files import LABELS_FOLDER, file_sha256
from mcc_caffe.core.images import MAX_MEGAPIXELS_VARIABLE, decode_image, marked_png
from mcc_caffe.inference.input_files import UnreadableError
from mcc_caffe.inference.reports import PROGRAM
from mcc_caffe.serving import label_export, labelling, net_answers
from mcc_caffe.serving.label_documents import Answer, Labels, Point, SavedLabels
from mcc_caffe.serving.label_export import choose_split
from mcc_caffe.serving.label_files import (
    ANSWERS,
    COCO,
    KEY_PATTERN,
    ONEHAND10K,
    STATE,
    LabelFiles,
    NotReadyError,
    image_key,
    key_of_no_image,
    list_images,
    make_own_folder,
    shown_name,
)
from mcc_caffe.serving.label_messages import Change, OpenImage
from mcc_caffe.serving.labelling import (
    ChangedFileError,
    ConflictError,
    LabelSession,
    UnknownImageError,
    open_session,
)
from mcc_caffe.serving.moved_images import follow_moved_images
from mcc_caffe.serving.net_answers import LabelNet, NetAnswers, first_labels, open_net
from mcc_caffe.serving.run_lengths import decode_runs, encode_runs
from tests.support.disks import file_size_limit, replacement_fails
from tests.support.hands import hand, keypoints_at
from tests.support.images import replace_once_read
from tests.support.labels import (
    labels_of,
    read_back,
    turned,
    write_images,
)
from tests.support.poses import make_pose

ODD_NAMES = (
    'quote".jpg',
    "it's.jpg",
    "hash#1?.jpg",
    "100%25.jpg",
    "two\nlines,with,commas.jpg",
    " spaces at both ends .jpg",
    "-leading-dash.jpg",
    "emoji 🖐.jpg",
    b"not utf-8 \xff\xfe.jpg",
    "back\\slash.jpg",
    "no\x1bcontrol.jpg",
    "a/1.jpg",
    "b/1.jpg",
    "a/1.JPEG",
    "é" * 100 + ".jpg",
    "<img src=x onerror=alert(1)>.jpg",
)


@pytest.fixture(scope="module")
def net() -> LabelNet:
    """The net that ships; it takes one look instead of four, for speed."""
    net = open_net(shipped_weights("mini"))
    assert net.predictor.looks == 4
    net.predictor.looks = 1
    return net


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Three images of drawn hands."""
    return write_images(tmp_path / "photos", {f"{i}.jpg": hand(i) for i in range(3)})


def change(image: OpenImage, labels: Labels, revision: int | None = None) -> Change:
    """Return a change of an opened image."""
    return Change(
        revision=image.revision if revision is None else revision,
        digest=image.digest,
        token=str(uuid.uuid4()),
        labels=labels,
    )


def keys_by_name(session: LabelSession) -> dict[str, str]:
    """Return {shown name: key} of all images that can be labelled."""
    return {image.name: image.key for image in session.overview().images}


def save(session, key, labels):
    return session.save(key, change(session.open_image(key), labels))


def save_hands(session):
    """Save of each image, 0.jpg, 1.jpg and so on, the labels of the hand; return {name: key}."""
    keys = keys_by_name(session)
    for name, key in keys.items():
        save(session, key, labels_of(hand(int(name[0]))))
    return keys


def assert_same_sets(folder, expected):
    """Check that both data sets hold exactly {key: Labels}."""
    for samples, digits in zip(read_back(folder), (0, 2)):
        assert set(samples) == set(expected)
        for key, labels in expected.items():
            points = labels.keypoints().round(digits)
            assert np.allclose(samples[key].keypoints, points, atol=0.006), key
            mask = samples[key].mask()
            assert np.array_equal(mask, decode_runs(labels.runs, *mask.shape[::-1])), key


@pytest.mark.parametrize("axis", ["x", "y"])
def test_points_lie_between_the_centres_of_the_outermost_pixels(axis):
    labels, last = labels_of(hand(0)), {"x": 159, "y": 119}[axis]
    for value in (0, last, -0.01, last + 0.01):
        point = labels.points[7].model_copy(update={axis: value})
        changed = labels.model_copy(
            update={"points": (*labels.points[:7], point, *labels.points[8:])}
        )
        if 0 <= value <= last:
            changed.check_size(160, 120)
        else:
            with pytest.raises(UserError, match=r"point 7 is at .*outside of the image of 160 x"):
                changed.check_size(160, 120)


@given(st.lists(st.binary(min_size=1, max_size=80).filter(lambda name: b"\0" not in name)))
def test_keys_and_shown_names_are_plain(names):
    paths = {pathlib.Path(os.fsdecode(name)) for name in names}
    keys = {image_key(path) for path in paths}
    assert len(keys) == len(paths)
    assert all(KEY_PATTERN.fullmatch(key) for key in keys)
    for path in paths:
        assert shown_name(path).isprintable()
        shown_name(path).encode()


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("Holiday 2024/My hand (1).jpg", "My-hand-1"),
        ("a" * 50 + ".jpg", "a" * 40),
        ("b" * 39 + " c.jpg", "b" * 39),
        ("\u624b.jpg", "picture"),
    ],
)
def test_keys_stay_those_of_the_label_files_that_users_have(name, start):
    digest = hashlib.sha256(name.encode()).hexdigest()
    assert image_key(pathlib.Path(name)) == f"{start}-{digest[:12]}"


def test_images_are_listed_in_the_order_of_their_names_without_results_and_videos(tmp_path):
    write_images(tmp_path, {name: hand(0) for name in ("c.jpg", "b/2.jpg", "a.jpg", "b/1.jpg")})
    (tmp_path / "b/clip.mp4").write_bytes(b"clip")
    (tmp_path / "b/result.png").write_bytes(marked_png(hand(0).image(), PROGRAM))
    listed = list_images(tmp_path)
    assert [image.name for image in listed.images] == ["a.jpg", "b/1.jpg", "b/2.jpg", "c.jpg"]
    assert str(listed.passed_over) == (
        "1 videos and animated images (b/clip.mp4); 1 results of mcc_caffe.infer (b/result.png)"
    )


def test_a_folder_without_images_is_refused_with_what_lies_there_instead(tmp_path):
    message = "holds no image: give the folder that holds them"
    with pytest.raises(UserError, match=f"{message}$"):
        list_images(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    passed_over = r"1 videos and animated images \(clip.mp4\)"
    with pytest.raises(UserError, match=f"{message}; passed over: {passed_over}$"):
        list_images(tmp_path)


def saved_labels() -> SavedLabels:
    """Return labels of the first of the images of `folder`."""
    return SavedLabels(
        **{"name": "0.jpg", "digest": "0" * 64, "width": 160, "height": 120, "is_turned": False},
        **{"revision": 1, "token": "a", "split": "Train", "labels": labels_of(hand(0))},
    )


def test_labels_go_to_another_key_with_the_nets_answer_where_there_is_one(folder):
    files, saved = LabelFiles(folder), saved_labels()
    answer = Answer(
        **{"net": "a net", "stamp": (1, 2, 3, 4), "digest": saved.digest, "score": 0.5},
        **{"width": 160, "height": 120, "is_turned": False, "labels": saved.labels},
    )
    first, second, third = (image_key(pathlib.Path(f"{n}.jpg")) for n in range(3))
    files.write(STATE, first, saved)
    files.write(ANSWERS, first, answer)
    files.give_to(first, second)
    assert files.labelled_keys() == {second}
    assert files.read(STATE, second, SavedLabels) == saved
    assert files.read(ANSWERS, second, Answer) == answer
    shutil.rmtree(folder / LABELS_FOLDER / ANSWERS)  # as README.txt there allows
    files.give_to(second, third)
    assert files.read(STATE, third, SavedLabels) == saved


def test_other_files_among_those_of_the_labels_are_left_alone(folder):
    files = LabelFiles(folder)
    copy = files.root / STATE / f"{image_key(pathlib.Path('0.jpg'))} (copy).json"
    copy.write_text("{}")
    assert files.labelled_keys() == set()
    assert "keep this folder" in (files.root / "README.txt").read_text()


def test_a_file_of_labels_that_cannot_be_read_is_named(folder):
    files, key = LabelFiles(folder), image_key(pathlib.Path("0.jpg"))
    (files.root / STATE / f"{key}.json").mkdir()
    message = rf"{key}\.json cannot be read \(Is a directory\): mend or move it"
    with pytest.raises(UserError, match=message):
        files.read(STATE, key, SavedLabels)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path, message in (
        (tmp_path / "file", "file is no folder: move it away, labels are written there"),
        (tmp_path / "file/state", r"file/state cannot be made \(Not a directory\): make the fol"),
    ):
        with pytest.raises(UserError, match=message):
            make_own_folder(path)


def test_different_labels_that_are_set_aside_have_different_keys():
    saved = saved_labels()
    later = saved.model_copy(update={"token": "b"})
    of_another_image = saved.model_copy(update={"digest": "1" * 64})
    labels_of_keys = [("x-0", saved), ("x-0", later), ("x-0", of_another_image), ("y-0", saved)]
    keys = {key_of_no_image(*each) for each in labels_of_keys}
    assert len(keys) == 4 and all(map(KEY_PATTERN.fullmatch, keys))


def test_an_annotation_of_coco_by_hand():
    """A mask of 4 x 4 pixels, and one keypoint to its left; runs go down the columns."""
    mask = np.zeros((10, 20), np.uint8)
    mask[2:6, 6:10] = 1
    annotation = label_export._annotation(7, keypoints_at((3.254, 4)), mask)
    assert annotation["bbox"] == [3.25, 2, 6.75, 4] and annotation["area"] == 16
    assert annotation["keypoints"] == [3.25, 4, 2, *[0] * 60] and annotation["num_keypoints"] == 1
    runs = [62, 4, 6, 4, 6, 4, 6, 4, 104]
    assert annotation["segmentation"] == {"size": [10, 20], "counts": runs}


def test_images_that_are_done_later_than_they_were_saved_are_in_both_splits(folder, net):
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        for status in ("open", "done"):
            for name, key in keys.items():
                save(session, key, labels_of(hand(int(name[0])), status))
        assert session.overview().splits == {"Train": 2, "Test": 1}
        session._export.split_counts = lambda: {"Train": 10, "Test": 1}
        assert session._choose_split(None) == "Test"


@given(st.integers(2, 400))
def test_both_splits_fill(count):
    splits = []
    for _ in range(count):
        splits.append(choose_split(splits.count("Test"), len(splits)))
    assert "Train" in splits
    assert count / 10 - 1 <= splits.count("Test") <= count / 10 + 1


def test_every_name_can_be_labelled(tmp_path, net):
    samples = {name: hand(i) for i, name in enumerate(ODD_NAMES)}
    folder = write_images(tmp_path / os.fsdecode(b"photos #1, 50 % \xff"), samples)
    (folder / os.fsdecode(b".hidden\n\xff.jpg")).write_bytes(b"")
    with open_session(folder, net) as session:
        overview = session.overview()
        assert overview.folder.endswith(r"photos #1, 50 % \xff") and overview.model_dump_json()
        assert overview.passed_over == r"1 hidden files (.hidden\n\udcff.jpg)"
        keys = keys_by_name(session)
        assert len(keys) == len(ODD_NAMES)
        expected = {}
        for name, sample in samples.items():
            key = keys[shown_name(pathlib.Path(os.fsdecode(name)))]
            expected[key] = labels_of(sample)
            assert session.image_jpeg(key).startswith(b"\xff\xd8")
            assert save(session, key, expected[key]).status == "done"
    assert_same_sets(folder, expected)
    images = {sample.image_bytes for sample in samples.values()}
    for samples_by_key in read_back(folder):
        assert {sample.image_bytes for sample in samples_by_key.values()} == images


def test_turned_photographs_come_back_as_they_were_shown(tmp_path, net):
    """The labels are right whether a reader minds the EXIF orientation or not."""
    samples = {}
    for orientation in range(1, 9):
        sample = hand(orientation)
        stored = turned(sample.image(), orientation)
        assert np.array_equal(decode_image(stored), sample.image())
        samples[f"{orientation}.png"] = dataclasses.replace(sample, image_bytes=stored)
    folder = write_images(tmp_path / "photos", samples)
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        for name, key in keys.items():
            shown = cv2.imdecode(np.frombuffer(session.image_jpeg(key), np.uint8), 1)
            assert shown.shape == (120, 160, 3)
            save(session, key, labels_of(samples[name]))
    for samples_by_key in (*read_back(folder), *read_back(folder, upright=True)):
        for name, key in keys.items():
            original = samples[name]
            assert np.array_equal(samples_by_key[key].image(), hand(int(name[0])).image())
            assert np.array_equal(samples_by_key[key].mask(), original.mask())
            labelled = labels_of(original).keypoints()
            assert np.abs(samples_by_key[key].keypoints - labelled).max() <= 0.5


def test_nothing_is_written_but_in_the_folder_of_labels(folder, net):
    def files_elsewhere():
        return {
            path: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in folder.parent.rglob("*")
            if path.is_file() and LABELS_FOLDER not in path.parts
        }

    before = files_elsewhere()
    with open_session(folder, net) as session:
        for key in keys_by_name(session).values():
            save(session, key, labels_of(hand(0)))
    assert files_elsewhere() == before


@pytest.mark.parametrize(
    "name",
    [
        *("", "state", "answers", "upright", "coco", "coco/images"),
        *("onehand10k", "onehand10k/Test", "onehand10k/Train/mask"),
    ],
)
def test_links_in_the_place_of_own_folders_are_refused(folder, net, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = folder / LABELS_FOLDER / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)
    message = "is a link, by which labels would be written elsewhere"
    with pytest.raises(UserError, match=message), open_session(folder, net):
        pass
    assert not list(elsewhere.iterdir())


def test_a_link_in_the_place_of_own_files_is_not_followed(folder, net, tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    with open_session(folder, net) as session:
        key = keys_by_name(session)["0.jpg"]
        session.open_image(key)
        root = folder / LABELS_FOLDER
        names = (f"onehand10k/Train/mask/{key}.png", f"onehand10k/Train/source/{key}.jpg")
        for name in (*names, "coco/hands_train.json", "onehand10k/Train/label_joint.txt"):
            (root / name).symlink_to(precious)
        save(session, key, labels_of(hand(0)))
    assert precious.read_text() == "mine"
    assert_same_sets(folder, {key: labels_of(hand(0))})


def test_images_are_passed_over_with_the_reason(folder, net):
    (folder / "damaged.jpg").write_bytes(b"no image")
    (folder / "phone.heic").write_bytes(b"ftypheic")
    (folder / ".hidden.jpg").write_bytes(hand(0).image_bytes)
    (folder / "clip.mp4").write_bytes(b"clip")
    with open_session(folder, net) as session:
        damaged = image_key(pathlib.Path("damaged.jpg"))
        with pytest.raises(UserError, match="^not a readable image"):
            session.open_image(damaged)
        overview = session.overview()
        assert [state.key for state in overview.unreadable] == [damaged]
        assert overview.unreadable[0].fault.startswith("not a readable image")
        for reason in ("hidden files (.hidden.jpg)", "videos", "files of other kinds (.heic)"):
            assert reason in overview.passed_over
        with pytest.raises(UnknownImageError, match="load the page again"):
            session.open_image("nothing-000000000000")


def test_an_image_that_no_jpeg_can_hold_is_named(folder, net):
    image = np.full((2, 65_501, 3), 90, np.uint8)
    cv2.imwrite(str(folder / "panorama.png"), image)
    cv2.imwrite(str(folder / "strip.png"), image[:, 1:])
    cv2.imwrite(str(folder / "tower.png"), image.transpose(1, 0, 2))
    with open_session(folder, net) as session:
        assert session.image_jpeg(image_key(pathlib.Path("strip.png")))
        for ask in (session.open_image, session.image_jpeg):
            for name, size in (("panorama.png", "65501 x 2"), ("tower.png", "2 x 65501")):
                with pytest.raises(UserError, match=f"it has {size} pixels, and the page shows"):
                    ask(image_key(pathlib.Path(name)))
        names = [state.name for state in session.overview().unreadable]
        assert names == ["panorama.png", "tower.png"]


def test_a_folder_without_images_is_refused(tmp_path, net):
    link_to_itself = tmp_path / "loop"
    link_to_itself.symlink_to("loop")
    for path, message in (
        (tmp_path, "holds no image"),
        (tmp_path / "no", "is no folder"),
        (link_to_itself, "is no folder"),
    ):
        with pytest.raises(UserError, match=message), open_session(path, net):
            pass


def test_a_folder_is_open_once(folder, net):
    message = "labels these images: wait until it has ended"
    with (
        open_session(folder, net),
        pytest.raises(UserError, match=message),
        open_session(folder, net),
    ):
        pass


def test_the_least_sure_image_comes_first_and_is_looked_at_once(folder, net, rendered_hand):
    cv2.imwrite(str(folder / "sure.png"), rendered_hand)
    with open_session(folder, net) as session:
        for key in keys_by_name(session).values():
            session.open_image(key)
        images = session.overview().images
        scores = [image.score for image in images]
        assert scores == sorted(scores) and images[-1].name == "sure.png"
        assert all(image.status == "open" and not image.revision for image in images)
        sure = session.open_image(images[-1].key)
        assert not any(point.missing for point in sure.labels.points)
    answers = folder / LABELS_FOLDER / "answers"
    times = {path: path.stat().st_mtime_ns for path in answers.iterdir()}
    with open_session(folder, net) as session:
        assert session.open_image(sure.key) == sure
        assert not session.overview().passed_over  # the labels' folder is none
    assert {path: path.stat().st_mtime_ns for path in answers.iterdir()} == times


def test_labels_to_start_with_are_the_nets_answer(folder, net, rendered_hand):
    """A rendered hand has all its points, a drawn one none."""
    pose = net.predictor.predict(rendered_hand)
    assert pose.present.all() and not net.predictor.predict(hand(0).image()).present.any()
    cv2.imwrite(str(folder / "sure.png"), rendered_hand)
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        image, drawn = session.open_image(keys["sure.png"]), session.open_image(keys["0.jpg"])
    xy = np.array([(point.x, point.y) for point in image.labels.points])
    assert np.abs(xy - pose.keypoints[:, :2]).max() <= 0.006
    assert not any(point.missing for point in image.labels.points)
    assert all(point.missing for point in drawn.labels.points)
    mask = decode_runs(image.labels.runs, image.width, image.height) > 0
    hand_pixels = pose.hand_pixels()
    assert np.count_nonzero(mask & hand_pixels) > 0.8 * np.count_nonzero(mask | hand_pixels)


def test_labels_to_start_with_lie_on_the_image():
    """Also where the net has a keypoint beyond the edge."""
    keypoints = np.full((21, 3), 30.126)
    keypoints[0, :2], keypoints[1, :2] = (-5, 130), (170, -1)
    image = np.zeros((120, 160, 3), np.uint8)
    labels = first_labels(image, make_pose(image, keypoints, np.zeros((16, 16), np.float32)))
    xy = [(point.x, point.y) for point in labels.points[:3]]
    assert xy == [(0, 119), (159, 0), (30.13, 30.13)]
    labels.check_size(160, 120)


def test_labels_to_start_with_have_no_mask_where_the_net_has_none():
    image = np.zeros((120, 160, 3), np.uint8)
    pose = make_pose(image, np.full((21, 3), 30.0), np.zeros((16, 16), np.float32))
    assert first_labels(image, dataclasses.replace(pose, masks=())).runs == (160 * 120,)


def test_another_tabs_labels_are_never_overwritten(folder, net):
    with open_session(folder, net) as session:
        key = keys_by_name(session)["0.jpg"]
        image = session.open_image(key)
        first = change(image, labels_of(hand(1)))
        assert session.save(key, first).revision == 1
        second = change(image, labels_of(hand(2)))
        message = r"changed in another tab \(revision 1, yours starts from 0\)"
        with pytest.raises(ConflictError, match=message):
            session.save(key, second)
        with pytest.raises(ConflictError, match="yours starts from 2"):  # as after a loss of labels
            session.save(key, second.model_copy(update={"revision": 2}))
        assert session.open_image(key).labels == first.labels
        # The same change again, as when its answer was lost, is no conflict and no new revision.
        assert session.save(key, first).revision == 1
        assert session.save(key, second.model_copy(update={"revision": 1})).revision == 2
        opened = session.open_image(key)
        assert opened.labels == second.labels and opened.first_labels == image.labels


def exported(folder):
    """The content of all masks and label files of both data sets."""
    root = folder / LABELS_FOLDER
    paths = [
        *root.glob("onehand10k/*/mask/*"),
        *root.rglob("label_joint.txt"),
        *root.rglob("SHA256SUMS"),
        *root.rglob("hands_*"),
    ]
    return {path: path.read_bytes() for path in paths if path.is_file()}


@contextlib.contextmanager
def folder_in_the_place_of(path):
    """Let a file not be written: there is a folder where it is to be."""
    aside = path.with_name("aside")
    if path.exists():
        path.rename(aside)
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        if aside.exists():
            aside.rename(path)


@pytest.mark.parametrize(
    "fault",
    [
        lambda root, key: file_size_limit(100),
        lambda root, key: folder_in_the_place_of(root / f"onehand10k/Train/mask/{key}.png"),
        lambda root, key: folder_in_the_place_of(root / "onehand10k/Train/label_joint.txt"),
        lambda root, key: folder_in_the_place_of(root / "coco/hands_train.json"),
        lambda root, key: replacement_fails(f"{key}.png"),
        lambda root, key: replacement_fails("label_joint.txt"),
        lambda root, key: replacement_fails("hands_train.json"),
    ],
)
def test_a_change_that_cannot_be_written_can_be_sent_again(folder, net, fault):
    """Labels that are in no data set are not done, and those that are stay what they are."""
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        first, second = keys["0.jpg"], keys["1.jpg"]
        for key in keys.values():
            session.open_image(key)  # the net's answers, which are files, too, are there then

        def fail_then_save(key, labels, expected):
            image = session.open_image(key)
            before, sets_before = session.overview(), exported(folder)
            new = change(image, labels)
            with fault(folder / LABELS_FOLDER, key), pytest.raises(UserError):
                session.save(key, new)
            assert session.open_image(key) == image
            assert session.overview() == before and exported(folder) == sets_before
            saved = session.save(key, new)
            assert (saved.revision, saved.status) == (image.revision + 1, labels.status)
            assert_same_sets(folder, expected)

        fail_then_save(first, labels_of(hand(0)), {first: labels_of(hand(0))})
        fail_then_save(first, labels_of(hand(2)), {first: labels_of(hand(2))})
        save(session, second, labels_of(hand(1)))
        assert session.overview().splits == {"Train": 1, "Test": 1}


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EACCES, "make the folder writable"),
        (errno.EPERM, None),
        (errno.ENOSYS, None),
        (errno.EOPNOTSUPP, None),
    ],
)
def test_a_file_is_copied_where_links_are_not_possible_and_elsewhere_the_remedy_is_told(
    tmp_path, monkeypatch, status, remedy
):
    def refuse(*_):
        raise OSError(status, os.strerror(status))

    (tmp_path / "photo.jpg").write_bytes(b"photo")
    monkeypatch.setattr(os, "symlink", refuse)
    link = tmp_path / "link.jpg"
    if remedy:
        message = f"link.jpg cannot be made .{os.strerror(status)}.: {remedy}$"
        with pytest.raises(UserError, match=message):
            label_export.link_file(tmp_path / "photo.jpg", link)
    else:
        label_export.link_file(tmp_path / "photo.jpg", link)
        assert link.read_bytes() == b"photo" and not link.is_symlink()


def test_a_link_that_is_right_stays_and_moves_with_its_folder(tmp_path):
    source, link = tmp_path / "here/photo.jpg", tmp_path / "here/links/link.jpg"
    link.parent.mkdir(parents=True)
    source.write_bytes(b"photo")
    link.symlink_to("elsewhere")
    label_export.link_file(source, link)
    number = link.lstat().st_ino
    label_export.link_file(source, link)
    assert link.lstat().st_ino == number and [path.name for path in link.parent.iterdir()] == [
        "link.jpg"
    ]
    (tmp_path / "here").rename(tmp_path / "there")
    assert (tmp_path / "there/links/link.jpg").read_bytes() == b"photo"


def test_a_link_that_cannot_be_made_is_named_with_what_helps(folder, net):
    with open_session(folder, net) as session:
        key = keys_by_name(session)["0.jpg"]
        link = folder / LABELS_FOLDER / f"coco/images/{key}.jpg"
        message = f"{link.name} cannot be made .Is a directory.: move it away"
        with folder_in_the_place_of(link), pytest.raises(UserError, match=message):
            save(session, key, labels_of(hand(0)))
        assert not list(link.parent.iterdir())
        shutil.rmtree(folder / LABELS_FOLDER / "coco")
        message = f"{link.name} cannot be made .No such file.*: start the command again, which"
        with pytest.raises(UserError, match=message):
            save(session, key, labels_of(hand(0)))
    with open_session(folder, net) as session:
        save(session, key, labels_of(hand(0)))
    assert_same_sets(folder, {key: labels_of(hand(0))})


def test_a_turned_image_that_changes_after_a_failed_save_is_exported_as_it_is(folder, net):
    path = folder / "0.png"
    path.write_bytes(turned(hand(0).image(), 6))
    with open_session(folder, net) as session:
        key = keys_by_name(session)["0.png"]
        label_file = folder / LABELS_FOLDER / "onehand10k/Train/label_joint.txt"
        with folder_in_the_place_of(label_file), pytest.raises(UserError, match="is a folder"):
            save(session, key, labels_of(hand(0)))
        path.write_bytes(turned(hand(9).image(), 6))
        save(session, key, labels_of(hand(9)))
    for samples in read_back(folder):
        assert np.array_equal(samples[key].image(), hand(9).image())
    with open_session(folder, net):
        (copy,) = (folder / LABELS_FOLDER / "upright").iterdir()
    assert np.array_equal(cv2.imread(str(copy)), hand(9).image())


def test_label_files_are_sorted_and_an_image_that_is_taken_out_leaves_no_file(folder, net):
    (folder / "2.jpg").write_bytes(turned(hand(2).image(), 6))
    root = folder / LABELS_FOLDER
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        numbers = {keys[f"{n}.jpg"]: n for n in (1, 2, 0)}
        key = keys["2.jpg"]
        for other in sorted(keys.values(), reverse=True):
            save(session, other, labels_of(hand(numbers[other])))
        lines = (root / "onehand10k/Train/label_joint.txt").read_text().splitlines()
        assert lines == sorted(lines) and len(lines) == 2
        assert len([path for path in root.rglob(f"{key}*")]) == 6
        save(session, key, labels_of(hand(2), "none"))
        left = {path.parent.name for path in root.rglob(f"{key}*")}
        assert left == {"state", "answers"}


def test_the_users_own_files_stay_in_the_data_sets(folder, net):
    with open_session(folder, net) as session:
        keys = save_hands(session)
        save(session, keys["1.jpg"], labels_of(hand(1)))
    root = folder / LABELS_FOLDER
    own = [root / name for name in ("coco/images/notes.txt", "upright/1.png")]
    for path in own:
        path.write_text("mine")
    (folder / "1.jpg").unlink()
    with open_session(folder, net):
        assert all(path.read_text() == "mine" for path in own)
    assert not [path for path in (root / "coco/images").iterdir() if keys["1.jpg"] in path.name]


def too_many_pixels(path, monkeypatch):
    monkeypatch.setenv(MAX_MEGAPIXELS_VARIABLE, "0.01")


def replaced_at_the_start(path, monkeypatch):
    path.write_bytes(turned(hand(9).image(), 6))
    monkeypatch.setattr(labelling, "follow_moved_images", lambda *_: set())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (too_many_pixels, "19200 pixels are more than 0.01 million"),
        (replaced_at_the_start, "the file of turned.png is just being changed"),
    ],
)
def test_a_turned_image_of_which_no_copy_can_be_made_at_the_start_is_named(
    tmp_path, net, monkeypatch, fault, message
):
    folder = write_images(tmp_path / "photos", {"0.jpg": hand(0)})
    path = folder / "turned.png"
    path.write_bytes(turned(hand(3).image(), 6))
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        for name, number in (("turned.png", 3), ("0.jpg", 0)):
            save(session, keys[name], labels_of(hand(number)))
    shutil.rmtree(folder / LABELS_FOLDER / "upright")
    with monkeypatch.context() as context:
        fault(path, context)
        with open_session(folder, net) as session:
            (state,) = session.overview().unreadable
            with pytest.raises(UserError, match=message):
                session.open_image(keys["turned.png"])
    assert state.key == keys["turned.png"] and state.fault.startswith(message)
    assert state.fault.endswith("; the command looks at the image again at its next start")
    assert_same_sets(folder, {keys["0.jpg"]: labels_of(hand(0))})


def test_an_image_stays_done_where_it_cannot_be_taken_out_of_the_data_sets(folder, net):
    with open_session(folder, net) as session:
        keys = save_hands(session)
        expected = {key: labels_of(hand(int(name[0]))) for name, key in keys.items()}
        key = keys["0.jpg"]
        new = change(session.open_image(key), labels_of(hand(0), "open"))
        label_file = folder / LABELS_FOLDER / "onehand10k/Train/label_joint.txt"
        with folder_in_the_place_of(label_file), pytest.raises(UserError, match="is a folder"):
            session.save(key, new)
        assert session.open_image(key).labels.status == "done"
        assert_same_sets(folder, expected)
        assert session.save(key, new).revision == 2
        del expected[key]
        assert_same_sets(folder, expected)


def test_the_only_image_of_a_split_stays_in_it_where_the_other_split_cannot_be_written(folder, net):
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        labels = {keys[name]: labels_of(hand(int(name[0]))) for name in ("0.jpg", "1.jpg")}
        for key, label in labels.items():
            save(session, key, label)
        sets_before = exported(folder)
        for split, name in (("Test", "0.jpg"), ("Train", "1.jpg")):
            new = change(session.open_image(keys[name]), labels_of(hand(int(name[0])), "open"))
            label_file = folder / LABELS_FOLDER / f"onehand10k/{split}/label_joint.txt"
            with folder_in_the_place_of(label_file), pytest.raises(UserError, match="is a folder"):
                session.save(keys[name], new)
            assert exported(folder) == sets_before
            for other_name in ("label_joint.txt", "SHA256SUMS"):
                with replacement_fails(other_name), pytest.raises(UserError, match="cannot be"):
                    session.save(keys[name], new)
                assert exported(folder) == sets_before
        assert_same_sets(folder, labels)


def test_an_image_stays_in_the_data_sets_where_one_of_its_files_cannot_be_removed(folder, net):
    with open_session(folder, net) as session:
        keys = save_hands(session)
        key, sets_before = keys["0.jpg"], exported(folder)
        new = change(session.open_image(key), labels_of(hand(0), "open"))
        folder_of_user = folder / LABELS_FOLDER / f"coco/images/{key}.d"
        folder_of_user.mkdir()
        with pytest.raises(UserError, match=f"{key}.d cannot be removed .Is a directory.: move it"):
            session.save(key, new)
        folder_of_user.rmdir()
        assert exported(folder) == sets_before
        assert session.open_image(key).labels.status == "done"
        assert session.save(key, new).revision == 2


def test_a_link_in_the_place_of_own_files_stays_where_nothing_can_be_written(folder, net):
    with open_session(folder, net) as session:
        key = keys_by_name(session)["0.jpg"]
        new = change(session.open_image(key), labels_of(hand(0)))
        root = folder / LABELS_FOLDER
        links = (root / f"onehand10k/Train/mask/{key}.png", root / f"state/{key}.json")
        for link in links:
            link.symlink_to("elsewhere")
        for name in (f"{key}.png", "hands_train.json"):
            with replacement_fails(name), pytest.raises(UserError, match="cannot be written"):
                session.save(key, new)
            assert [os.readlink(link) for link in links] == ["elsewhere"] * 2
        assert session.save(key, new).status == "done"
        assert not any(link.is_symlink() for link in links)


def test_the_data_sets_stay_where_the_disk_is_full_at_the_start(folder, net):
    noise = np.random.default_rng(0).integers(0, 2, (120, 160), np.uint8)
    with open_session(folder, net) as session:
        for name, key in keys_by_name(session).items():
            update = {"runs": tuple(encode_runs(noise))}
            save(session, key, labels_of(hand(int(name[0]))).model_copy(update=update))
    sets_before = exported(folder)
    assert len(sets_before) == 9
    message = r"\.png cannot be written \(File too large\): make room"
    with (
        file_size_limit(1500),  # of these files only the masks are larger
        pytest.raises(UserError, match=message),
        open_session(folder, net),
    ):
        pass
    assert exported(folder) == sets_before


def test_a_file_that_cannot_be_removed_at_the_start_is_named(folder, net):
    with open_session(folder, net) as session:
        key = save_hands(session)["0.jpg"]
    sets_before = exported(folder)
    (folder / LABELS_FOLDER / f"coco/images/{key}.d").mkdir()
    message = f"{key}.d cannot be removed .Is a directory.: move it"
    with pytest.raises(UserError, match=message), open_session(folder, net):
        pass
    assert exported(folder) == sets_before


def test_what_is_not_complete_is_saved_but_not_done(folder, net):
    complete = labels_of(hand(0))
    missing = tuple(point.model_copy(update={"missing": True}) for point in complete.points)
    corner = tuple(point.model_copy(update={"x": 0.5, "y": 0.0}) for point in complete.points)
    two = (Point(x=1.4, y=0.0, missing=False), Point(x=0.2, y=1.3, missing=False))
    with open_session(folder, net) as session:
        key = keys_by_name(session)["0.jpg"]
        for update, note in (
            ({"points": missing}, "all 21 points are missing"),
            ({"runs": (160 * 120,)}, "the mask is empty"),
            ({"runs": (160 * 120, 0)}, "the mask is empty"),
            ({"points": corner}, "all points lie in the image's left top corner"),
            ({"points": (*two, *missing[2:])}, "all points lie in the image's left top corner"),
            ({"status": "open"}, ""),
            ({"status": "none"}, ""),
            ({"status": "open", "runs": (160 * 120,)}, ""),
            ({"status": "none", "points": missing}, ""),
        ):
            labels = complete.model_copy(update=update)
            new = change(session.open_image(key), labels)
            saved = session.save(key, new)
            assert saved.note.startswith(note) and bool(saved.note) == bool(note)
            assert saved.status == update.get("status", "open")
            assert session.save(key, new) == saved, "its answer may be lost"
            assert session.open_image(key).labels.points == labels.points
            assert_same_sets(folder, {})
        outside = complete.points[0].model_copy(update={"x": 159.5})
        for update, message in (
            ({"points": (outside, *complete.points[1:])}, "outside of the image"),
            ({"runs": (160 * 121,)}, "are needed: load the image again"),
        ):
            with pytest.raises(UserError, match=message):
                save(session, key, complete.model_copy(update=update))


def test_both_data_sets_hold_what_is_done_after_every_change(tmp_path, net):
    """Random changes of random images, with the server begun anew now and then."""
    rng = np.random.default_rng(0)
    folder = write_images(tmp_path / "photos", {f"{i}.jpg": hand(i) for i in range(5)})
    expected: dict[str, Labels] = {}
    for _ in range(3):
        with open_session(folder, net) as session:
            assert_same_sets(folder, expected)
            keys = sorted(keys_by_name(session).values())
            for _ in range(6):
                key = str(rng.choice(keys))
                status = str(rng.choice(["done", "done", "done", "open", "none"]))
                labels = labels_of(hand(int(rng.integers(5))), status)
                save(session, key, labels)
                expected.pop(key, None)
                if status == "done":
                    expected[key] = labels
                assert_same_sets(folder, expected)
                assert sum(session.overview().splits.values()) == len(expected)


def test_labels_of_a_changed_image_are_kept_and_not_exported(folder, net):
    with open_session(folder, net) as session:
        keys = save_hands(session)
    (folder / "0.jpg").write_bytes(hand(9).image_bytes)  # of the same size
    smaller = cv2.resize(hand(1).image(), (80, 60))
    cv2.imwrite(str(folder / "1.jpg"), smaller)
    with open_session(folder, net) as session:
        same, other = session.open_image(keys["0.jpg"]), session.open_image(keys["1.jpg"])
        assert same.labels.status == "open" and same.labels.points == labels_of(hand(0)).points
        assert (other.width, other.height, other.revision) == (80, 60, 0)
        states = {image.name: (image.status, image.revision) for image in session.overview().images}
        assert states == {"0.jpg": ("open", 2), "1.jpg": ("open", 0), "2.jpg": ("done", 1)}
        assert_same_sets(folder, {keys["2.jpg"]: labels_of(hand(2))})
        (folder / "2.jpg").write_bytes(hand(8).image_bytes)  # while it is open
        image = session.open_image(keys["2.jpg"])
        assert image.labels.status == "open"
        (folder / "2.jpg").write_bytes(hand(7).image_bytes)
        with pytest.raises(ChangedFileError, match="has changed since the page showed it"):
            session.save(keys["2.jpg"], change(image, labels_of(hand(8))))
    (aside,) = (folder / LABELS_FOLDER / "state").glob("moved-*.json")
    assert json.loads(aside.read_text())["labels"]["status"] == "done"


def test_an_image_that_one_of_another_size_replaces_leaves_the_data_sets(folder, net, caplog):
    with open_session(folder, net) as session:
        keys = save_hands(session)
        for number, size in ((0, (160, 60)), (1, (80, 120))):
            path = folder / f"{number}.jpg"
            cv2.imwrite(str(path), cv2.resize(hand(number).image(), size))
            assert session.open_image(keys[path.name]).revision == 0
            assert f"{path.name} is another image than the one that was labelled" in caplog.text
        assert_same_sets(folder, {keys["2.jpg"]: labels_of(hand(2))})


@pytest.mark.parametrize("name", ["1.jpg", "back.jpg"])
def test_labels_come_back_with_an_image_that_one_of_another_size_had_replaced(
    folder, net, caplog, name
):
    with open_session(folder, net) as session:
        save_hands(session)
    original = (folder / "1.jpg").read_bytes()
    cv2.imwrite(str(folder / "1.jpg"), cv2.resize(hand(1).image(), (80, 60)))
    with open_session(folder, net) as session:
        image = session.open_image(keys_by_name(session)["1.jpg"])
        session.save(image.key, change(image, image.labels))
    for _ in range(2):
        caplog.clear()
        with open_session(folder, net):
            pass
        assert "1 labels are of images that are gone or were replaced (1.jpg)" in caplog.text
    (folder / name).write_bytes(original)
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        assert session.open_image(keys[name]).revision == 1
    names = {"0.jpg": 0, name: 1, "2.jpg": 2}
    assert_same_sets(folder, {keys[name]: labels_of(hand(n)) for name, n in names.items()})
    assert len(list((folder / LABELS_FOLDER / "state").glob("*.json"))) == 4


def test_no_labels_replace_earlier_ones_of_the_same_image(folder, net):
    original = (folder / "0.jpg").read_bytes()
    with open_session(folder, net) as session:
        key = keys_by_name(session)["0.jpg"]
        for status in ("done", "open"):
            (folder / "0.jpg").write_bytes(original)
            assert session.open_image(key).revision == 0
            save(session, key, labels_of(hand(0), status))
            cv2.imwrite(str(folder / "0.jpg"), cv2.resize(hand(0).image(), (80, 60)))
            assert session.open_image(key).revision == 0
    aside = (folder / LABELS_FOLDER / "state").glob("moved-*.json")
    statuses = {json.loads(path.read_text())["labels"]["status"] for path in aside}
    assert statuses == {"done", "open"}


def test_an_answer_is_about_the_file_that_it_names(folder, net, monkeypatch):
    """Also where the file is replaced while the net looks at it."""
    smaller = cv2.imencode(".jpg", cv2.resize(hand(0).image(), (80, 60)))[1].tobytes()
    replace_once_read(monkeypatch, folder / "0.jpg", smaller)
    with open_session(folder, net) as session:
        key = image_key(pathlib.Path("0.jpg"))
        image = session.open_image(key)
        assert image.digest == hashlib.sha256(smaller).hexdigest()
        assert (image.width, image.height) == (80, 60)


def test_a_file_that_keeps_its_size_and_time_shows_its_new_pixels(tmp_path, net):
    black, white = (np.full((40, 50, 3), grey, np.uint8) for grey in (0, 255))
    path = tmp_path / "photos/0.bmp"
    path.parent.mkdir()
    cv2.imwrite(str(path), black)
    modified = path.stat().st_mtime_ns
    for is_running in (True, False):
        with contextlib.ExitStack() as sessions:
            session = sessions.enter_context(open_session(path.parent, net))
            (key,) = keys_by_name(session).values()
            before = session.open_image(key)
            assert cv2.imdecode(np.frombuffer(session.image_jpeg(key), np.uint8), 1).max() < 9
            if not is_running:
                sessions.close()
            cv2.imwrite(str(path), white)
            os.utime(path, ns=(modified, modified))
            if not is_running:
                session = sessions.enter_context(open_session(path.parent, net))
            assert session.open_image(key).digest != before.digest
            assert cv2.imdecode(np.frombuffer(session.image_jpeg(key), np.uint8), 1).min() > 246
        cv2.imwrite(str(path), black)
        os.utime(path, ns=(modified, modified))


def test_what_the_net_has_not_looked_at_yet_comes_last_and_can_be_asked_for_again(
    folder, net, monkeypatch
):
    monkeypatch.setattr(NetAnswers, "_run", lambda _: None)
    monkeypatch.setattr(labelling, "_ANSWER_SECONDS", 0)
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        session._answers.scores |= {keys["1.jpg"]: 0.9, keys["2.jpg"]: 0.2}
        assert list(keys_by_name(session)) == ["2.jpg", "1.jpg", "0.jpg"]
        for name in ("0.jpg", "1.jpg", "2.jpg"):
            with pytest.raises(NotReadyError, match=f"the net is still at work on {name}: try"):
                session.open_image(keys[name])
            assert next(iter(session._answers._waiting)) == keys[name]  # it is looked at next
        session._answers._stamps[keys["0.jpg"]] = (0, 0, 0, 0)  # of an earlier file
        session.overview()
        assert next(iter(session._answers._waiting)) == keys["0.jpg"]


def test_an_old_answer_is_not_shown_while_the_net_looks_at_another_file(folder, net, monkeypatch):
    key = image_key(pathlib.Path("0.jpg"))
    with open_session(folder, net) as session:
        session.open_image(key)
    (folder / "0.jpg").write_bytes(hand(9).image_bytes)
    monkeypatch.setattr(NetAnswers, "_run", lambda _: None)
    monkeypatch.setattr(labelling, "_ANSWER_SECONDS", 0)
    with open_session(folder, net) as session, pytest.raises(NotReadyError, match="try again"):
        session.open_image(key)


def test_an_image_that_is_asked_for_while_the_net_works_is_looked_at_next(folder, net, monkeypatch):
    """The image that the net works on meanwhile stays the one that is finished."""
    compute, looked_at = NetAnswers._compute, []

    def ask_for_the_last(answers, image, stamp):
        if not looked_at:
            last = list(answers._waiting.values())[-1]
            assert answers.wait_for(last, 0) is None
        looked_at.append(image.name)
        return compute(answers, image, stamp)

    monkeypatch.setattr(NetAnswers, "_compute", ask_for_the_last)
    with open_session(folder, net) as session:
        deadline = time.monotonic() + 20
        while any(image.score is None for image in session.overview().images):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        thread = session._answers._thread
    assert looked_at == ["0.jpg", "2.jpg", "1.jpg"]
    assert not thread.is_alive()


def test_answers_are_those_of_the_net_and_of_the_file_as_it_is(folder, net):
    key = image_key(pathlib.Path("0.jpg"))
    answer = folder / LABELS_FOLDER / ANSWERS / f"{key}.json"
    assert net.name.startswith(file_sha256(shipped_weights("mini"))[:16])
    for name in (net.name, "another net"):
        with open_session(folder, net._replace(name=name)) as session:
            session.open_image(key)
        assert json.loads(answer.read_text())["net"] == name
    (folder / "0.jpg").touch()
    with open_session(folder, net._replace(name="another net")) as session:
        session.open_image(key)
    status = (folder / "0.jpg").stat()
    stamp = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    assert json.loads(answer.read_text())["stamp"] == stamp


def test_the_digest_of_a_file_that_cannot_be_read_is_empty_and_its_labels_are_not_of_another(
    folder,
):
    files = LabelFiles(folder)
    image = list_images(folder).images[0]
    files.write(STATE, image.key, saved_labels())
    assert follow_moved_images(files, [image]) == {image.key}
    image.path.unlink()
    assert net_answers.read_digest(files, image) == ""
    with pytest.raises(UnreadableError, match=r"^cannot be read \(No such file or directory\)"):
        image.read_bytes()
    assert follow_moved_images(files, [image]) == set()


def test_labels_of_an_image_that_is_gone_do_not_replace_those_of_its_copy(folder, caplog):
    shutil.copyfile(folder / "0.jpg", folder / "1.jpg")
    files = LabelFiles(folder)
    first, second = list_images(folder).images[:2]
    digest = file_sha256(folder / "0.jpg")
    for image, token in ((first, "a"), (second, "b")):
        labels = saved_labels().model_copy(update={"digest": digest, "token": token})
        files.write(STATE, image.key, labels)
    first.path.unlink()
    assert follow_moved_images(files, [second]) == set()
    tokens = [files.read(STATE, image.key, SavedLabels).token for image in (first, second)]
    assert tokens == ["a", "b"] and "1 labels are of images that are gone" in caplog.text


def test_labels_go_to_the_first_of_several_images_that_have_the_content(folder):
    files = LabelFiles(folder)
    gone, first, second = list_images(folder).images
    update = {"digest": file_sha256(gone.path)}
    files.write(STATE, gone.key, saved_labels().model_copy(update=update))
    shutil.copyfile(gone.path, second.path)
    gone.path.rename(first.path)
    assert follow_moved_images(files, [first, second]) == set()
    assert files.labelled_keys() == {first.key}
    assert files.read(STATE, first.key, SavedLabels).name == "1.jpg"


def test_damaged_labels_of_which_the_image_is_gone_are_named_and_stay(folder, caplog):
    files = LabelFiles(folder)
    path = files.root / STATE / f"{image_key(pathlib.Path('gone.jpg'))}.json"
    path.write_text("damaged")
    assert follow_moved_images(files, list_images(folder).images) == set()
    assert f"{path.name} is damaged" in caplog.text and path.read_text() == "damaged"


def test_a_file_that_is_replaced_after_its_answer_is_neither_shown_nor_exported(
    tmp_path, net, monkeypatch
):
    path = tmp_path / "photos/0.png"
    path.parent.mkdir()
    path.write_bytes(turned(hand(0).image(), 6))
    with open_session(path.parent, net) as session:
        (image,) = session._images.values()
        new = change(session.open_image(image.key), labels_of(hand(0)))
        answer = session._wait_for_answer(image)
        path.write_bytes(turned(hand(1).image(), 6))
        monkeypatch.setattr(session, "_wait_for_answer", lambda _: answer)
        message = r"the file of 0\.png is just being changed: try again"
        for action in (session.image_jpeg, lambda key: session.save(key, new)):
            with pytest.raises(UserError, match=message):
                action(image.key)
    assert_same_sets(path.parent, {})


def test_answers_that_are_removed_are_made_again(folder, net):
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        answers = {name: session.open_image(key) for name, key in keys.items()}
        before = answers["0.jpg"]
        shutil.rmtree(folder / LABELS_FOLDER / ANSWERS)
        assert session.open_image(keys["0.jpg"]) == before
        answer = folder / LABELS_FOLDER / ANSWERS / f"{keys['0.jpg']}.json"
        answer.write_text("damaged")
        assert session.open_image(keys["0.jpg"]) == before
        assert save(session, keys["0.jpg"], labels_of(hand(0))).status == "done"


@pytest.mark.parametrize("status", ["done", "open", "none"])
def test_labels_follow_an_image_that_is_moved_or_renamed(folder, net, status):
    (folder / "copy of 0.jpg").write_bytes((folder / "0.jpg").read_bytes())
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        for number in range(3):
            save(session, keys[f"{number}.jpg"], labels_of(hand(number), status))
        splits = session.overview().splits
    (folder / "sub").mkdir()
    (folder / "1.jpg").rename(folder / "sub/1.jpg")
    (folder / "2.jpg").rename(folder / "0 renamed.jpg")
    for _ in range(2):
        with open_session(folder, net) as session:
            keys = keys_by_name(session)
            assert session.overview().splits == splits
            names = {"0.jpg": 0, "sub/1.jpg": 1, "0 renamed.jpg": 2}
            for name, number in names.items():
                image = session.open_image(keys[name])
                assert image.labels == labels_of(hand(number), status) and image.revision == 1
            assert session.open_image(keys["copy of 0.jpg"]).revision == 0
            expected = {keys[name]: labels_of(hand(number)) for name, number in names.items()}
            assert_same_sets(folder, expected if status == "done" else {})
    state = folder / LABELS_FOLDER / "state"
    assert {path.stem for path in state.glob("*.json")} == {keys[name] for name in names}
    assert json.loads((state / f"{keys['sub/1.jpg']}.json").read_text())["name"] == "sub/1.jpg"


@pytest.mark.parametrize("is_left_at_once", [False, True])
@pytest.mark.parametrize("orientations", [(1, 1, 1), (3, 3, 3), (3, 1, 3)])
@pytest.mark.parametrize(
    "new_names",
    [
        {"0": "1", "1": "2", "2": "3"},
        {"0": "1", "1": "2", "2": "0"},
        {"0": "2", "2": "0"},
    ],
)
def test_labels_follow_images_that_take_each_others_names(
    tmp_path, net, new_names, orientations, is_left_at_once
):
    """Renumbered photographs: also those that their EXIF orientation turns."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for n, orientation in enumerate(orientations):
        (folder / f"{n}.jpg").write_bytes(turned(hand(n).image(), orientation))
    with open_session(folder, net) as session:
        save_hands(session)
        splits = session.overview().splits
    for name in new_names:
        (folder / f"{name}.jpg").rename(folder / f"{name}.moving")
    for name, new_name in new_names.items():
        (folder / f"{name}.moving").rename(folder / f"{new_name}.jpg")
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        assert session.overview().splits == splits
        numbers = {f"{new_names.get(str(n), str(n))}.jpg": n for n in range(3)}
        assert set(keys) == set(numbers)
        for name, number in () if is_left_at_once else numbers.items():
            image = session.open_image(keys[name])
            assert image.labels == labels_of(hand(number)) and image.revision == 1
    assert_same_sets(folder, {keys[name]: labels_of(hand(n)) for name, n in numbers.items()})
    for samples_by_key in read_back(folder):
        for name, number in numbers.items():
            assert np.array_equal(samples_by_key[keys[name]].image(), hand(number).image())
    state = folder / LABELS_FOLDER / "state"
    assert {path.stem for path in state.iterdir()} == set(keys.values())
    root = folder / LABELS_FOLDER
    for names in ("onehand10k/*/mask/*", "onehand10k/*/source/*", "coco/images/*"):
        paths = list(root.glob(names))
        assert len(paths) == 3 and all(path.exists() for path in paths)


def test_labels_stay_where_another_image_has_taken_the_name(folder, net, caplog):
    """They come back with their image, under any name."""
    with open_session(folder, net) as session:
        save_hands(session)
    (folder / "0.jpg").rename(folder.parent / "0.jpg")
    (folder / "1.jpg").rename(folder / "0.jpg")
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
    expected = {keys["0.jpg"]: labels_of(hand(1)), keys["2.jpg"]: labels_of(hand(2))}
    assert_same_sets(folder, expected)
    assert "1 labels are of images that are gone or were replaced (0.jpg)" in caplog.text
    (folder.parent / "0.jpg").rename(folder / "again.jpg")
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
    assert_same_sets(folder, {**expected, keys["again.jpg"]: labels_of(hand(0))})


def test_an_image_that_changes_while_nobody_opens_it_is_unfinished_again(folder, net, caplog):
    with open_session(folder, net) as session:
        keys = save_hands(session)
        (folder / "0.jpg").write_bytes(hand(9).image_bytes)  # of the same size
        (folder / "1.jpg").touch()  # its content stays
        deadline = time.monotonic() + 60
        while any(image.score is None for image in session.overview().images):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        status = {image.name: image.status for image in session.overview().images}
        assert status == {"0.jpg": "open", "1.jpg": "done", "2.jpg": "done"}
        assert "0.jpg has changed since it was labelled: look whether" in caplog.text
        assert_same_sets(folder, {keys[f"{n}.jpg"]: labels_of(hand(n)) for n in (1, 2)})
    caplog.clear()
    with open_session(folder, net) as session:
        assert session.open_image(keys["0.jpg"]).revision == 2
    assert not caplog.records


@pytest.mark.parametrize("kind", [ONEHAND10K, COCO])
def test_data_sets_refuse_images_that_changed_since_they_were_labelled(folder, net, kind):
    """Images that took each other's names, until the command starts again."""
    (folder / "turned.png").write_bytes(turned(hand(3).image(), 6))
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        for number, key in enumerate(keys[name] for name in sorted(keys)):
            save(session, key, labels_of(hand(number)))
    (folder / "0.jpg").rename(folder / "other.jpg")
    (folder / "1.jpg").rename(folder / "0.jpg")
    (folder / "other.jpg").rename(folder / "1.jpg")
    splits = readers.read_dataset(folder / LABELS_FOLDER / kind)
    errors = {}
    for entry in (entry for entries in splits.values() for entry in entries):
        try:
            entry.sample()
        except SampleError as error:
            errors[entry.location] = str(error)
    assert len(errors) == 2
    for location, message in errors.items():
        assert message.startswith(f"{location}: ") and message.endswith(
            ".jpg is not the image that was labelled (its SHA-256 is another): start `mcc-web "
            "label` once on the folder of the images, or put that image back"
        )
    with open_session(folder, net):
        pass
    assert [len(samples) for samples in read_back(folder)] == [4, 4]


def test_sha256sum_knows_the_images_of_a_data_set(folder, net):
    with open_session(folder, net) as session:
        save_hands(session)
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    layout = folder / LABELS_FOLDER / ONEHAND10K
    outputs = [
        subprocess.run(command, cwd=layout / split, check=True, capture_output=True, text=True)
        for split in ("Train", "Test")
    ]
    assert sorted(output.stdout.count(": OK\n") for output in outputs) == [1, 2]


def test_labels_of_a_changed_image_are_in_no_set_from_the_start(folder, net, monkeypatch, caplog):
    """Also where the net has not looked at it when the command ends."""
    with open_session(folder, net) as session:
        keys = save_hands(session)
    (folder / "0.jpg").write_bytes(hand(9).image_bytes)
    monkeypatch.setattr(NetAnswers, "_run", lambda _: None)
    with open_session(folder, net):
        pass
    assert "gone or were replaced" not in caplog.text
    assert_same_sets(folder, {keys[f"{n}.jpg"]: labels_of(hand(n)) for n in (1, 2)})


def test_labels_of_which_the_image_is_gone_are_named_and_come_back_with_it(folder, net, caplog):
    with open_session(folder, net) as session:
        keys = save_hands(session)
    assert not caplog.records
    for name in ("0.jpg", "1.jpg"):
        (folder / name).rename(folder.parent / name)
    (folder / "new.jpg").write_bytes(hand(9).image_bytes)
    with open_session(folder, net):
        assert_same_sets(folder, {keys["2.jpg"]: labels_of(hand(2))})
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    message = (
        "2 labels are of images that are gone or were replaced (0.jpg, 1.jpg): the data sets are"
    )
    assert warning.getMessage().startswith(message)
    (folder.parent / "0.jpg").rename(folder / "0.jpg")
    (folder.parent / "1.jpg").rename(folder / "again.jpg")
    caplog.clear()
    with open_session(folder, net) as session:
        new_keys = keys_by_name(session)
        expected = {
            new_keys[name]: labels_of(hand(number))
            for number, name in enumerate(("0.jpg", "again.jpg", "2.jpg"))
        }
        assert_same_sets(folder, expected)
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_two_labels_of_equal_images_that_are_gone_take_an_image_each(folder, net, caplog):
    """Of those that find none, the warning names the one that is not done."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(hand(7).image_bytes)
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        save(session, keys["a.jpg"], labels_of(hand(7), "open"))
        for name in ("b.jpg", "c.jpg"):
            save(session, keys[name], labels_of(hand(7)))
    (folder / "a.jpg").unlink()
    (folder / "b.jpg").rename(folder / "x.jpg")
    (folder / "c.jpg").rename(folder / "y.jpg")
    with open_session(folder, net) as session:
        keys = keys_by_name(session)
        assert_same_sets(folder, {keys[name]: labels_of(hand(7)) for name in ("x.jpg", "y.jpg")})
    assert "1 labels are of images that are gone or were replaced (a.jpg)" in caplog.text


@pytest.fixture
def crops(tmp_path) -> pathlib.Path:
    """The folder `images` of a taught set: three crops of each of four photographs."""
    taught = TaughtSet(tmp_path / "taught", teacher="a test", agreement=0.1)
    points = np.array([(60 + 8 * (k % 6), 60 + 10 * (k // 6)) for k in range(21)], float)
    rng = np.random.default_rng(0)
    for number in range(4):
        image = rng.integers(0, 256, (220, 220, 3), np.uint8)
        hands = [AgreedHand(points + 20 * shift, 0.0) for shift in range(3)]
        taught.add(f"photograph {number}", tmp_path / f"{number}.png", image, hands, 3)
    taught.write()
    return tmp_path / "taught/images"


def save_some_labels(session, name):
    """Save a square of a mask and points on it as the labels of an image."""
    image = session.open_image(keys_by_name(session)[name])
    mask = np.zeros((image.height, image.width), np.uint8)
    mask[5:40, 5:40] = 1
    points = tuple(Point(x=10 + k, y=12 + k, missing=False) for k in range(21))
    labels = Labels(status="done", points=points, runs=tuple(encode_runs(mask)))
    assert session.save(image.key, change(image, labels)).status == "done"


def splits_by_group(images):
    """Return {group of the COCO export's entries: their splits}, one for each entry."""
    splits: dict[str, list[str]] = {}
    for split, entries in readers.read_dataset(images / LABELS_FOLDER / "coco").items():
        for entry in entries:
            splits.setdefault(entry.group, []).append(split)
    return splits


@pytest.mark.parametrize("is_whole_set", [False, True])
def test_crops_of_one_photograph_stay_together(crops, net, is_whole_set):
    folder, prefix = (crops.parent, "images/") if is_whole_set else (crops, "")
    names = sorted(path.name for path in crops.iterdir())
    in_turn = [*names[::3], *names[1::3], *names[2::3]]  # one of each photograph, and again
    for some in (in_turn[:5], in_turn[5:]):  # the server begins anew
        with open_session(folder, net) as session:
            for name in some:
                save_some_labels(session, prefix + name)
    splits = splits_by_group(folder)
    assert set(splits) == {f"group photograph {number}" for number in range(4)}
    assert all(len(own) == 3 and len(set(own)) == 1 for own in splits.values())
    assert {*itertools.chain(*splits.values())} == {"hands_train", "hands_test"}


def test_crops_that_have_a_split_keep_it_and_a_moved_one_its_photograph(crops, net, monkeypatch):
    first, second, third = sorted(path.name for path in crops.iterdir())[:3]
    with open_session(crops, net) as session:
        keys = keys_by_name(session)
        for name in (first, second):
            save_some_labels(session, name)
    for name, split in ((first, "Test"), (second, "Train")):  # as an earlier version wrote it
        path = crops / LABELS_FOLDER / "state" / f"{keys[name]}.json"
        content = json.loads(path.read_text())
        assert content.pop("group") == "photograph 0"
        path.write_text(json.dumps({**content, "split": split}))
    monkeypatch.chdir(crops)
    with open_session(pathlib.Path("."), net) as session:
        save_some_labels(session, third)
    for name in ("mask", "source"):
        paths = (crops / LABELS_FOLDER / "onehand10k/Train" / name).iterdir()
        assert {path.stem for path in paths} & {keys[first], keys[second]} == {keys[second]}
    assert splits_by_group(crops) == {
        "group photograph 0": ["hands_test", "hands_test", "hands_train"]
    }
    (crops / "sub").mkdir()
    (crops / third).rename(crops / "sub" / third)
    with open_session(crops, net) as session:
        save_some_labels(session, f"sub/{third}")
    assert len(splits_by_group(crops)["group photograph 0"]) == 3


def test_only_a_taught_set_says_which_crops_belong_together(crops, net):
    labels = crops.parent / "hands.json"
    content = labels.read_text()
    for damaged, fault in (
        (content[:100], "not JSON"),
        (content.replace('"images": [', '"images": [7, '), "damaged"),
    ):
        labels.write_text(damaged)
        with pytest.raises(UserError, match=rf"hands\.json is {fault}"), open_session(crops, net):
            pass
    for other in ("[]", content.replace("data_tools.teach", "another program")):
        labels.write_text(other)
        with open_session(crops, net) as session:
            save_some_labels(session, min(path.name for path in crops.glob("*.jpg")))
        coco_file = crops / LABELS_FOLDER / "coco/hands_train.json"
        assert '"group"' not in coco_file.read_text()


def test_a_disk_that_is_full_for_a_moment_makes_no_image_unreadable(
    folder, net, monkeypatch, caplog
):
    """Neither where the net's answer nor where what follows from it cannot be written."""
    write, compare = LabelFiles.write, LabelSession._compare_with_file
    compared = []

    def refuse_answers(files, kind, *arguments):
        if kind == ANSWERS:
            raise UserError("it cannot be written (No space left on device)")
        write(files, kind, *arguments)

    def compare_later(session, image, answer):
        compared.append(image.name)
        if compared.count(image.name) == 1:
            raise UserError("the labels cannot be written (No space left on device)")
        compare(session, image, answer)

    monkeypatch.setattr(LabelFiles, "write", refuse_answers)
    with open_session(folder, net) as session:
        save_hands(session)
        assert not session.overview().unreadable
    assert caplog.text.count("it cannot be written (No space left on device)") == 1
    monkeypatch.setattr(LabelFiles, "write", write)
    monkeypatch.setattr(LabelSession, "_compare_with_file", compare_later)
    with open_session(folder, net) as session:
        keys = {image_key(pathlib.Path(f"{n}.jpg")): n for n in range(3)}
        for key, number in keys.items():
            with contextlib.suppress(UserError):  # unless the thread was there before
                session.open_image(key)
            assert session.open_image(key).labels == labels_of(hand(number))
        assert len(compared) == 6 and not session.overview().unreadable
        (folder / "0.jpg").write_bytes(b"no image")
        key = image_key(pathlib.Path("0.jpg"))
        start = time.monotonic()
        for _ in range(2):
            with pytest.raises(UserError, match="^not a readable image"):
                session.open_image(key)
        assert time.monotonic() - start < labelling._ANSWER_SECONDS


@pytest.mark.parametrize("error", [MemoryError("no room"), UserError("no room"), MemoryError()])
def test_a_fault_that_may_pass_says_when_the_image_is_looked_at_again(
    folder, net, monkeypatch, caplog, error
):
    """Whoever opens it has it looked at again at once."""

    def fail(*_):
        raise error

    key = image_key(pathlib.Path("0.jpg"))
    with open_session(folder, net) as session:
        image = session.open_image(key)
        shutil.rmtree(folder / LABELS_FOLDER / ANSWERS)
        with monkeypatch.context() as context:
            context.setattr(net_answers, "first_labels", fail)
            with pytest.raises(UserError):
                session.open_image(key)
            fault = session.overview().unreadable[0].fault
        assert session.open_image(key) == image
    reason = str(error) or "MemoryError"
    assert fault == f"{reason}; the command looks at the image again at its next start"
    assert ("Traceback" in caplog.text) == isinstance(error, MemoryError)


def test_a_damaged_file_of_labels_is_named_and_stays(folder, net):
    with open_session(folder, net) as session:
        key = keys_by_name(session)["0.jpg"]
        save(session, key, labels_of(hand(0)))
    path = folder / LABELS_FOLDER / "state" / f"{key}.json"
    path.write_text(path.read_text()[:100])
    damaged = path.read_text()
    with open_session(folder, net) as session:
        assert [state.key for state in session.overview().unreadable] == [key]
        message = r"\.json is damaged .*mend it.*; the command looks at the image again at its next"
        for action in (lambda: session.open_image(key), lambda: session.image_jpeg(key)):
            with pytest.raises(UserError, match=message):
                action()
    assert path.read_text() == damaged


@pytest.mark.parametrize(
    ("update", "labels_update", "message"),
    [
        ({"split": None}, {}, "the status is done, but the split is missing"),
        ({}, {"runs": [160 * 120]}, "the status is done, but the mask is empty: paint"),
        (
            {},
            {"points": [{"x": 5, "y": 5, "missing": True}] * 21},
            "the status is done, but all 21 points are missing: place",
        ),
        ({}, {"runs": [160 * 121]}, "the mask's runs have 19360 pixels, 160 x 120 = 19200 are"),
        (
            {},
            {"status": "open", "points": [{"x": 160, "y": 5, "missing": False}] * 21},
            r"point 0 is at \(160, 5\), outside of the image of 160 x 120 pixels",
        ),
    ],
)
def test_labels_that_contradict_themselves_are_damaged(
    folder, net, caplog, update, labels_update, message
):
    with open_session(folder, net) as session:
        key = save_hands(session)["0.jpg"]
    path = folder / LABELS_FOLDER / "state" / f"{key}.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **update, "labels": content["labels"] | labels_update}))
    damaged = path.read_text()
    with open_session(folder, net) as session:
        (state,) = session.overview().unreadable
        assert state.key == key and len(session.overview().images) == 2
        with pytest.raises(
            UserError, match=rf"\.json is damaged \({message}.*\): mend it, or move"
        ):
            session.open_image(key)
    assert state.fault in caplog.text and "\n" not in state.fault
    assert path.read_text() == damaged
    assert all(key not in samples and len(samples) == 2 for samples in read_back(folder))


def test_copies_take_the_place_of_links_where_there_are_none(folder, net, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    with open_session(folder, net) as session:
        key = keys_by_name(session)["0.jpg"]
        save(session, key, labels_of(hand(0)))
    assert not any(path.is_symlink() for path in (folder / LABELS_FOLDER).rglob("*"))
    assert_same_sets(folder, {key: labels_of(hand(0))})
