"""Photographs that a teacher labels, from the files to a training."""

import hashlib
import json
import shutil
import sys
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from data_tools import readers, taught_set, teach
from data_tools.taught_set import LARGEST_SIDE, TaughtSet, read_photographs
from data_tools.teachers import AgreedHand, MediaPipeTeacher, find_agreed_hands, match_hands
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES
from tests.support.commands import files_of, log, main_refusal, run
from tests.support.images import replace_once_read

FIRST_BLUE = 100  # of the pixel at keypoint 0


class PixelTeacher:
    """Keypoint k is the leftmost pixel whose blue is 100 + k."""

    name = "pixels"

    def __init__(self, images_until_ctrl_c=None):
        self.left = images_until_ctrl_c

    def find_hands(self, image):
        if self.left is not None:
            self.left -= 0.5  # each image is seen twice
            if self.left < 0:
                raise KeyboardInterrupt
        keypoints = []
        for index in range(len(NAMES)):
            columns, rows = np.nonzero((image[..., 0] == FIRST_BLUE + index).T)
            if not len(rows):
                return []
            keypoints.append((columns[0], rows[0]))
        return [np.array(keypoints, float)]


class TwiceTeacher(PixelTeacher):
    """Sees the hand, and another one below it."""

    def find_hands(self, image):
        return [hand + (0, below) for hand in super().find_hands(image) for below in (0, 40)]


class DoublingTeacher(PixelTeacher):
    """Sees each hand again, nearly at the same place."""

    def find_hands(self, image):
        return [hand + (0, below) for hand in super().find_hands(image) for below in (0, 3)]


def photograph(path, width=200, height=160, first=(60, 50), last=(100, 70), twice=None):
    """Write an image with keypoints between two corners, which are keypoints 0 and 1.

    `twice`, a keypoint and a shift in x, lets the two answers differ.
    """
    inner = [(first[0] + 1 + 2 * index, first[1] + 1 + 5 * index % 18) for index in range(19)]
    points = np.array([first, last, *inner])
    image = np.zeros((height, width, 3), np.uint8)
    image[0, 0, 1] = sum(path.name.encode()) % 256  # no two photographs are the same
    for index, (x, y) in enumerate(points):
        image[y, x, 0] = FIRST_BLUE + index
    if twice:
        index, shift = twice
        x, y = points[index]
        image[y, x + shift, 0] = FIRST_BLUE + index
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return points


@pytest.fixture
def label(monkeypatch):
    """Run the command with the teacher above."""

    def run_teach(*arguments, teacher=None):
        monkeypatch.setattr(teach, "open_teacher", lambda _: teacher or PixelTeacher())
        teach.main([str(argument) for argument in arguments])

    return run_teach


def content_of(folder):
    return json.loads((folder / "hands.json").read_text())


def test_a_hand_becomes_a_square_around_its_keypoints(label, tmp_path, capsys):
    """The box from (60, 50) to (100, 70) has its centre at (80, 60); 2.2 x 40 / 2 = 44 pixels."""
    points = photograph(tmp_path / "photos/a.png")
    cv2.imwrite(str(tmp_path / "photos/empty.png"), np.zeros((50, 60, 3), np.uint8))
    label(tmp_path / "photos", tmp_path / "out")
    (entry,) = readers.read_dataset(tmp_path / "out")["hands"]
    sample = entry.sample()
    assert sample.image().shape == (89, 89, 3) and sample.mask_png is None
    expected = np.column_stack([points - (36, 16), np.ones(21)])
    assert np.array_equal(sample.keypoints, expected)
    content = content_of(tmp_path / "out")
    assert content["annotations"][0]["bbox"] == [24, 34, 40, 20]
    assert content["annotations"][0]["agreement"] == 0
    records = content["info"]["photographs"].values()
    assert [(record["hand_count"], record["crop_count"]) for record in records] == [(1, 1), (0, 0)]
    output = capsys.readouterr().out
    assert "2 photographs, 1 of them without a hand; 1 of 1 hands labelled (100%)" in output


def test_answers_that_differ_are_left_out_and_counted(label, tmp_path, capsys):
    """The box is 40 wide: keypoint 3 is seen 3 or 5 pixels further by the second answer."""
    photograph(tmp_path / "photos/a.png", twice=(3, 3))
    photograph(tmp_path / "photos/b.png", twice=(3, 5))
    label(tmp_path / "photos", tmp_path / "out", "--agreement", 0.1)
    (annotation,) = content_of(tmp_path / "out")["annotations"]
    assert annotation["agreement"] == 0.075
    output = capsys.readouterr().out
    assert "2 photographs, 0 of them without a hand; 1 of 2 hands labelled (50%), 1 left" in output
    assert "differ by more than 0.1 of the hand's box" in output


def test_the_labels_say_which_crop_is_of_which_photograph(label, tmp_path):
    for name in ("a.png", "b.png"):
        photograph(tmp_path / name)
    label(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "out")
    content = content_of(tmp_path / "out")
    del content["images"][0]["group"]  # of a crop that somebody has added, say
    (tmp_path / "out/hands.json").write_text(json.dumps(content))
    digest = hashlib.sha256((tmp_path / "b.png").read_bytes()).hexdigest()
    expected = {tmp_path / "out/images/000002_b_1.jpg": digest}
    assert read_photographs(tmp_path / "out") == read_photographs(tmp_path / "out/images")
    assert read_photographs(tmp_path / "out") == expected


def test_a_hand_is_compared_with_the_most_similar_one_of_the_mirror_image():
    hand = np.stack([np.linspace(0, 100, 21), np.linspace(0, 50, 21)], axis=1)
    near, far = hand + (4, 0), hand + (400, 0)
    first, second = match_hands([far, hand], [near, far + (2, 0)])
    assert np.allclose((first.difference, second.difference), (0.02, 0.04))
    assert np.array_equal(second.keypoints, hand + (2, 0))
    first, second = match_hands([hand, hand + (1, 0)], [near])
    assert np.isinf(first.difference) and np.isclose(second.difference, 0.03)

    (only,) = match_hands([hand], [hand + (8, 0), near])
    assert np.isclose(only.difference, 0.04)

    class SeesTheLeftHalf:
        name = "left"

        def find_hands(self, image):
            return [hand] if image[0, 0].any() else []

    image = np.zeros((60, 120, 3), np.uint8)
    image[:, :60] = 255
    (answer,) = find_agreed_hands(SeesTheLeftHalf(), image)
    assert np.isinf(answer.difference)


def test_a_hand_that_the_teacher_sees_twice_is_labelled_once(tmp_path):
    points = photograph(tmp_path / "a.png")
    image = cv2.imread(str(tmp_path / "a.png"))
    (answer,) = find_agreed_hands(DoublingTeacher(), image)
    assert answer.difference == 0 and (answer.keypoints == points).all()
    assert len(find_agreed_hands(TwiceTeacher(), image)) == 2


def test_a_large_hand_is_reduced(label, tmp_path):
    """2.2 x 400 = 880, so that the crop has 881 pixels a side, which become 640."""
    points = photograph(tmp_path / "a.png", 1600, 1400, first=(500, 500), last=(900, 800))
    label(tmp_path / "a.png", tmp_path / "out")
    (entry,) = readers.read_dataset(tmp_path / "out")["hands"]
    sample = entry.sample()
    assert sample.image().shape == (LARGEST_SIDE, LARGEST_SIDE, 3)
    expected = (points - (260, 210) + 0.5) * LARGEST_SIDE / 881 - 0.5
    assert np.abs(sample.keypoints[:, :2] - expected).max() < 0.006


def test_a_large_hand_whose_square_the_photograph_cuts_is_reduced(label, tmp_path):
    """881 x 600 pixels become 640 x 436, as 600 x 640 / 881 = 435.9."""
    points = photograph(tmp_path / "a.png", 1600, 600, first=(500, 150), last=(900, 450))
    label(tmp_path / "a.png", tmp_path / "out")
    (entry,) = readers.read_dataset(tmp_path / "out")["hands"]
    sample = entry.sample()
    assert sample.image().shape == (436, LARGEST_SIDE, 3)
    expected = (points - (260, 0) + 0.5) * (LARGEST_SIDE / 881, 436 / 600) - 0.5
    assert np.abs(sample.keypoints[:, :2] - expected).max() < 0.006


def test_a_photograph_that_is_replaced_while_it_is_read_is_known_by_what_was_labelled(
    label, tmp_path, monkeypatch
):
    photos = tmp_path / "photos"
    photograph(photos / "a.png")
    photograph(tmp_path / "other.png", last=(120, 70))
    digest = hashlib.sha256((photos / "a.png").read_bytes()).hexdigest()
    replace_once_read(monkeypatch, photos / "a.png", (tmp_path / "other.png").read_bytes())
    label(photos, tmp_path / "out")
    content = content_of(tmp_path / "out")
    assert list(content["info"]["photographs"]) == [digest]
    assert content["annotations"][0]["bbox"][2:] == [40, 20]


def test_more_photographs_can_be_added_and_corrected_labels_stay(label, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photograph(photos / "a.png")
    photograph(photos / "bb.png")
    label(photos, out)
    content = content_of(out)
    content["annotations"][0]["keypoints"][:3] = [1.5, 2.5, 1]  # by hand
    del content["annotations"][1]
    (out / "hands.json").write_text(json.dumps(content))
    crops = files_of(out / "images")
    (photos / "a.png").rename(photos / "another name.png")
    photograph(photos / "ccc.png")
    label(photos, out)
    after = content_of(out)
    assert after["annotations"][0] == content["annotations"][0]
    assert [record["image_id"] for record in after["annotations"]] == [1, 3]
    assert len({record["file_name"] for record in after["images"]}) == 3
    assert all(path.read_bytes() == crop for path, crop in crops.items())
    assert "1 photographs, 0 of them without a hand; 1 of 1" in capsys.readouterr().out


def test_corrections_made_while_a_command_runs_are_not_written_over(label, tmp_path):
    """Also where the command only passes over what the set has already."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    photograph(photos / "a.png")
    label(photos, out)

    def correct():
        content = content_of(out)
        content["annotations"][0]["keypoints"][:3] = [1.5, 2.5, 1]
        (out / "hands.json").write_text(json.dumps(content, indent=1))
        return (out / "hands.json").read_bytes()

    class CorrectedMeanwhile(PixelTeacher):
        def find_hands(self, image):
            self.corrected = correct()
            return super().find_hands(image)

    photograph(photos / "bb.png")
    teacher = CorrectedMeanwhile()
    with pytest.raises(UserError, match="hands.json was changed while this command ran, and stays"):
        label(photos, out, teacher=teacher)
    assert (out / "hands.json").read_bytes() == teacher.corrected
    label(photos, out)
    assert content_of(out)["annotations"][0]["keypoints"][:3] == [1.5, 2.5, 1]
    assert len(content_of(out)["annotations"]) == 2
    before = correct()
    label(photos, out)
    assert (out / "hands.json").read_bytes() == before


def test_corrections_made_while_the_labels_are_read_are_not_written_over(
    label, tmp_path, monkeypatch
):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photograph(photos / "a.png")
    label(photos, out)
    corrected = json.dumps(content_of(out), indent=1)
    read_json = taught_set.read_json

    def read_before_a_correction(path):
        content = read_json(path)
        (out / "hands.json").write_text(corrected)
        return content

    monkeypatch.setattr(taught_set, "read_json", read_before_a_correction)
    photograph(photos / "bb.png")
    with pytest.raises(UserError, match="was changed while this command ran"):
        label(photos, out)
    assert (out / "hands.json").read_text() == corrected


def test_labels_that_stay_as_they_are_are_compared_every_20_seconds(tmp_path, monkeypatch):
    """To compare the labels of many hands takes long, so that it is not done at every hand."""
    labels = taught_set.LabelFile(tmp_path, {"images": []})
    labels.write()
    texts = []

    def count_dumps(content):
        texts.append(json.dumps(content))
        return texts[-1]

    start = time.monotonic()
    monkeypatch.setattr(taught_set, "json", SimpleNamespace(dumps=count_dumps))
    for seconds, comparisons in ((10, 0), (21, 1), (22, 1), (40, 1), (42, 2)):
        now = SimpleNamespace(monotonic=lambda seconds=seconds: start + seconds)
        monkeypatch.setattr(taught_set, "time", now)
        labels.write_if_due()
        assert len(texts) == comparisons


def test_keypoints_on_the_outer_half_of_a_border_pixel_are_labelled(tmp_path):
    """A pixel reaches from -0.5 to 0.5: at -0.3 the keypoint is in the image, at -0.6 it is not.

    So are those at 99.4 and 99.6 of an image of 100 pixels. One at 99.498 is 99.5 in the file,
    which is not in the image. Keypoint 20 is at 100.
    """
    keypoints = np.column_stack([np.arange(21) * 5.0, np.arange(21) * 5.0])
    keypoints[:5, 0] = -0.3, -0.6, 99.4, 99.6, 99.498
    taught = TaughtSet(tmp_path / "out", teacher="x", agreement=0.1)
    image = np.zeros((101, 100, 3), np.uint8)
    taught.add("its hash", tmp_path / "a.png", image, [AgreedHand(keypoints, 0.01)], 1)
    taught.write()
    (entry,) = readers.read_dataset(tmp_path / "out")["hands"]
    labels = entry.sample().keypoints
    assert np.allclose(labels[[0, 2]], [[-0.3, 0, 1], [99.4, 10, 1]])
    assert labels[[1, 3, 4]].tolist() == [[-1, -1, 0]] * 3
    (annotation,) = content_of(tmp_path / "out")["annotations"]
    assert annotation["num_keypoints"] == labels[:, 2].sum() == 17


def test_a_photograph_that_is_added_again_overwrites_no_crop(tmp_path):
    """Its records are deleted by hand, and the three photographs' files have the same name."""
    keypoints = np.column_stack([np.arange(21) * 3 + 100.0, np.arange(21) * 2 + 90.0])
    out = tmp_path / "out"

    def add(*greys):
        taught = TaughtSet(out, teacher="x", agreement=0.1)
        for grey in greys:
            image = np.full((300, 400, 3), grey, np.uint8)
            path = tmp_path / str(grey) / "IMG.jpg"
            taught.add(f"hash {grey}", path, image, [AgreedHand(keypoints, 0.01)], 1)
        taught.write()

    add(10, 100, 200)
    content = content_of(out)
    del content["info"]["photographs"]["hash 10"], content["images"][0], content["annotations"][0]
    (out / "hands.json").write_text(json.dumps(content))
    add(10, 50)
    greys = {
        image["group"]: cv2.imread(str(out / image["file_name"])).mean()
        for image in content_of(out)["images"]
    }
    assert greys == {f"hash {grey}": grey for grey in (100, 200, 10, 50)}


def test_an_interrupted_run_goes_on_where_it_was(label, tmp_path):
    for name in ("a", "bb", "ccc"):
        photograph(tmp_path / f"photos/{name}.png")
    label(tmp_path / "photos", tmp_path / "at once")
    with pytest.raises(KeyboardInterrupt):
        label(tmp_path / "photos", tmp_path / "out", teacher=PixelTeacher(2))
    assert len(content_of(tmp_path / "out")["annotations"]) == 2
    label(tmp_path / "photos", tmp_path / "out")
    assert content_of(tmp_path / "out") == content_of(tmp_path / "at once")


def test_a_photograph_whose_crops_cannot_all_be_written_is_labelled_anew(label, tmp_path):
    """A folder in the way of its second crop stands for a full disk."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    for name in ("a", "bb"):
        photograph(photos / f"{name}.png")
    label(photos, tmp_path / "at once", teacher=TwiceTeacher())
    obstacle = out / "images/000002_bb_2.jpg"
    label(photos / "a.png", out, teacher=TwiceTeacher())
    obstacle.mkdir()
    with pytest.raises(UserError, match="000002_bb_2.jpg is a folder"):
        label(photos, out, teacher=TwiceTeacher())
    assert len(content_of(out)["images"]) == len(content_of(out)["annotations"]) == 2
    obstacle.rmdir()
    label(photos, out, teacher=TwiceTeacher())
    assert content_of(out) == content_of(tmp_path / "at once")
    assert len(content_of(out)["annotations"]) == 4


def test_a_run_that_was_killed_before_its_labels_were_written_goes_on(label, tmp_path):
    """Only the first crops are there, as no 20 seconds have passed."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    points = photograph(photos / "a.png")
    killed = TaughtSet(out, teacher=PixelTeacher.name, agreement=teach.AGREEMENT)
    image = cv2.imread(str(photos / "a.png"))
    killed.add("its hash", photos / "a.png", image, [AgreedHand(points.astype(float), 0.0)], 1)
    assert [path.name for path in (out / "images").iterdir()] == ["000001_a_1.jpg"]
    assert content_of(out)["annotations"] == []
    label(photos, out)
    label(photos, tmp_path / "at once")
    assert content_of(out) == content_of(tmp_path / "at once")


def test_crops_that_a_killed_run_has_not_labelled_are_removed(label, tmp_path):
    """The next run gives their numbers to other photographs. The user's own files stay."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    photograph(photos / "a.png")
    label(photos, out)
    content = content_of(out)
    content["images"], content["annotations"] = [], []  # by hand
    (out / "hands.json").write_text(json.dumps(content))
    points = photograph(photos / "bb.png").astype(float)
    killed = TaughtSet(out, teacher=PixelTeacher.name, agreement=teach.AGREEMENT)
    killed.add("its hash", photos / "bb.png", cv2.imread(str(photos / "bb.png")),
               [AgreedHand(points, 0.0), AgreedHand(points + 1, 0.0)], 2)  # fmt: skip
    for name in ("notes.txt", "000009_mine.jpg", "IMG_000009_x_1.jpg"):
        (out / "images" / name).write_text("of the user")
    (out / "images/000009_link_1.jpg").symlink_to(photos / "a.png")
    users_files = {"000001_a_1.jpg", "notes.txt", "000009_mine.jpg", "IMG_000009_x_1.jpg"}
    users_files.add("000009_link_1.jpg")
    assert {path.name for path in (out / "images").iterdir()} == users_files | {
        "000002_bb_1.jpg",
        "000002_bb_2.jpg",
    }
    (photos / "bb.png").unlink()
    photograph(photos / "ccc.png")
    label(photos, out)
    assert {path.name for path in (out / "images").iterdir()} == users_files | {"000002_ccc_1.jpg"}
    assert [image["file_name"] for image in content_of(out)["images"]] == [
        "images/000002_ccc_1.jpg"
    ]


def test_its_own_crops_and_videos_are_no_photographs(label, tmp_path, caplog):
    photograph(tmp_path / "photos/a.png")
    (tmp_path / "photos/clip.mp4").write_bytes(b"a video")
    for _ in range(2):
        label(tmp_path / "photos", tmp_path / "photos/taught")
    assert len(content_of(tmp_path / "photos/taught")["images"]) == 1
    assert "1 videos and animated images (clip.mp4)" in caplog.text
    assert "1 crops of the data set itself" in caplog.text
    assert "1 photographs that the data set has already (a.png)" in caplog.text


def test_crops_of_another_taught_set_are_no_photographs(label, tmp_path, caplog):
    photograph(tmp_path / "photos/a.png")
    for name in ("taught", "again"):
        label(tmp_path / "photos", tmp_path / "photos" / name)
    assert len(content_of(tmp_path / "photos/again")["images"]) == 1
    assert "1 crops of a taught set" in caplog.text


def test_no_other_folder_is_written_into(label, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photograph(photos / "a.png")
    out.mkdir()
    (out / "notes.txt").write_text("of the user")
    with pytest.raises(UserError, match="out holds other files and no hands.json of this program"):
        label(photos, out)
    (out / "hands.json").write_text('{"info": {"description": "mine"}, "images": []}')
    with pytest.raises(UserError, match="hands.json was not made by .* give another folder"):
        label(photos, out)
    assert content_of(out)["info"] == {"description": "mine"}
    label(photos, tmp_path / "own")
    with pytest.raises(UserError, match="made with the agreement 0.1, now it is 0.2: give the"):
        label(photos, tmp_path / "own", "--agreement", 0.2)
    another = PixelTeacher()
    another.name = "another"
    with pytest.raises(UserError, match="made with the teacher pixels, now it is another: give"):
        label(photos, tmp_path / "own", teacher=another)
    content = content_of(tmp_path / "own")
    content["images"] = 7
    (tmp_path / "own/hands.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="`images` is no list of records with an id"):
        label(photos, tmp_path / "own")


def test_what_cannot_be_read_is_named_and_the_rest_is_done(label, tmp_path, caplog):
    photograph(tmp_path / "photos/a.png")
    (tmp_path / "photos/bad.jpg").write_bytes(b"no jpeg")
    with pytest.raises(UserError, match="1 of 2 files could not be read .named above."):
        label(tmp_path / "photos", tmp_path / "out")
    assert "bad.jpg: not a readable image (7 bytes)" in caplog.text
    assert len(content_of(tmp_path / "out")["annotations"]) == 1


def test_without_any_hand_it_says_so(label, tmp_path):
    photograph(tmp_path / "photos/a.png", twice=(3, 60))
    with pytest.raises(UserError, match="no hand is labelled in .*: show hands larger, or"):
        label(tmp_path / "photos", tmp_path / "out")
    with pytest.raises(UserError, match="there is no photograph; passed over: 1 crops of"):
        photograph(tmp_path / "out/images/b.png")
        label(tmp_path / "out/images", tmp_path / "out")


@pytest.mark.parametrize(
    "words, message",
    [
        (["--weights", "x.npz", "--teacher", "mediapipe"], "--weights goes with --teacher net"),
        (["--weights", "x.npz"], "the weights file x.npz was not found: give the path of a file"),
        (["--agreement", 0], "0 is not above 0 and at most 1"),
        (["--agreement", 1.01], "1.01 is not above 0 and at most 1"),
    ],
)
def test_wrong_options_are_refused(tmp_path, words, message):
    photograph(tmp_path / "a.png")
    assert message in main_refusal(teach.main, tmp_path / "a.png", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_the_weights_that_are_given_are_the_teachers(tmp_path):
    weights = shutil.copy(default_weights("mini"), tmp_path / "own.npz")
    options = teach.parse_arguments(["photos", "out", "--weights", str(weights)])
    assert teach.open_teacher(options).name.startswith("mini, own.npz (sha256 ")


def test_a_missing_mediapipe_is_said(tmp_path, monkeypatch):
    photograph(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(UserError, match="--teacher mediapipe needs MediaPipe .*pip install"):
        teach.main([str(tmp_path / "a.png"), str(tmp_path / "out"), "--teacher", "mediapipe"])
    assert not (tmp_path / "out").exists()


def test_mediapipes_landmarks_are_shares_of_the_images_sides(monkeypatch):
    """It takes RGB. Its (0, 0) and (1, 1) are the image's corners, not the outer pixels."""
    images = []

    class Hands:
        """Sees a hand whose landmarks are all at the same point."""

        def __init__(self, **options):
            assert options["static_image_mode"]

        def process(self, image):
            images.append(image)
            hand = SimpleNamespace(landmark=[SimpleNamespace(x=0.5, y=0.25)] * 21)
            return SimpleNamespace(multi_hand_landmarks=[hand])

    for name in ("mediapipe", "mediapipe.python", "mediapipe.python.solutions"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__version__="0.10"))
    module = SimpleNamespace(Hands=Hands)
    monkeypatch.setitem(sys.modules, "mediapipe.python.solutions.hands", module)
    blue = np.zeros((40, 100, 3), np.uint8)
    blue[..., 0] = 255
    (keypoints,) = MediaPipeTeacher().find_hands(blue)
    assert keypoints.tolist() == [[49.5, 9.5]] * 21
    assert images[0][0, 0].tolist() == [0, 0, 255]


def test_from_photographs_to_a_training(tmp_path):
    """Renderings stand for the photographs, and the weights that ship are the teacher."""
    done = run("data_tools.synth", "--out", tmp_path / "hands", "--easy", "--train", 3, "--test", 1)
    assert done.returncode == 0, done.stderr
    photos, taught, lmdb = tmp_path / "photos", tmp_path / "taught", tmp_path / "lmdb"
    shutil.copytree(tmp_path / "hands/Train/source", photos)
    done = run("data_tools.teach", photos, taught)
    assert done.returncode == 0, done.stderr
    assert "3 photographs, " in done.stdout and "3/3" in done.stderr
    labels = content_of(taught)
    assert labels["info"]["teacher"].startswith("mini, mini.npz (sha256 ")
    count = len(labels["annotations"])
    assert count >= 2
    done = run("data_tools.inspect", taught, "--out", tmp_path / "sheet.png")
    assert done.returncode == 0 and cv2.imread(str(tmp_path / "sheet.png")) is not None
    done = run("data_tools.teach_masks", taught)
    assert done.returncode == 0, done.stderr
    with_mask = sum("segmentation" in hand for hand in content_of(taught)["annotations"])
    assert with_mask >= 1
    assert f"{with_mask} of {count} hands have a mask, {count - with_mask} were" in done.stdout
    done = run("data_tools.build_lmdb", taught, lmdb, "--split", f"{count - 1}/1")
    assert done.returncode == 0, done.stderr
    command = ("mcc_caffe.train", lmdb / "train", "--windows", "1.1,2.5", "--colours")
    done = run(*command, "--out", tmp_path / "run", "--iterations", 2, "--batch-size", 2,
               "--interval", 1, "--workers", 1)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line["iteration"] for line in log(tmp_path / "run")] == [1, 2]
