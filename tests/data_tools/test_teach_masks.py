"""A taught set gets masks, keeps those that it has, and is never half-written."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as coco_masks

from data_tools import readers, teach_masks
from data_tools.hand_masks import make_trusted_mask
from data_tools.hands import hand_scene
from data_tools.taught_set import TaughtSet
from data_tools.teachers import AgreedHand, MaskTeacher
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.core.errors import UserError
from tests.support.commands import ROOT

POINTS = np.array([(60 + 8 * (k % 6), 60 + 10 * (k // 6)) for k in range(21)], float)


@pytest.fixture
def taught(tmp_path):
    """A set of three hands, each on a crop of 89 x 89 pixels."""
    hands = TaughtSet(tmp_path / "set", teacher="a test", agreement=0.1)
    for number in range(3):
        image = np.full((160, 160, 3), 40 * number, np.uint8)
        hands.add(f"{number}", tmp_path / f"{number}.png", image, [AgreedHand(POINTS, 0.0)], 1)
    hands.write()
    return tmp_path / "set"


@pytest.fixture
def masks(monkeypatch):
    """What `make_trusted_mask` answers: a square of this side, None or, as "stop", Ctrl-C."""
    answers = []

    def make_trusted_mask(image, probability, keypoints):
        assert probability.shape == image.shape[:2] and keypoints.shape in [(6, 2), (21, 2)]
        answer = answers.pop(0)
        if answer == "stop":
            raise KeyboardInterrupt
        if answer is None:
            return None
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[:answer, :answer] = 1
        return mask

    monkeypatch.setattr(teach_masks, "make_trusted_mask", make_trusted_mask)
    return answers


def content_of(folder):
    return json.loads((folder / "hands.json").read_text())


def test_masks_are_written_as_the_readers_read_them(taught, masks, capsys):
    content = content_of(taught)
    content["annotations"][0]["segmentation"] = []  # COCO's way to say that there is none
    (taught / "hands.json").write_text(json.dumps(content))
    masks += [10, None, 20]
    teach_masks.main([str(taught)])
    samples = [entry.sample() for entry in readers.read_dataset(taught)["hands"]]
    assert [s.mask_png is None for s in samples] == [False, True, False]
    assert [int(s.mask().sum()) for s in samples if s.mask_png] == [100, 400]
    assert "2 of 3 hands have a mask, 1 were left without" in capsys.readouterr().out


def test_an_interrupted_run_goes_on_and_drawn_masks_stay(taught, masks):
    content = content_of(taught)
    drawn = coco_masks.encode(np.asfortranarray(np.eye(89, dtype=np.uint8)))
    content["annotations"][1]["segmentation"] = {**drawn, "counts": drawn["counts"].decode()}
    (taught / "hands.json").write_text(json.dumps(content))
    masks += [10, "stop"]
    with pytest.raises(KeyboardInterrupt):
        teach_masks.main([str(taught)])
    masks += [20]
    teach_masks.main([str(taught)])
    assert masks == []
    sums = [int(e.sample().mask().sum()) for e in readers.read_dataset(taught)["hands"]]
    assert sums == [100, 89, 400]


def test_labels_changed_while_they_are_read_stay(taught, masks, monkeypatch):
    """Each annotation and its entry come from the same labels."""
    corrected = json.dumps(content_of(taught), indent=1)
    read_dataset = readers.read_dataset

    def read_after_a_correction(path):
        (taught / "hands.json").write_text(corrected)
        return read_dataset(path)

    monkeypatch.setattr(readers, "read_dataset", read_after_a_correction)
    with pytest.raises(UserError, match="was changed while this command ran"):
        teach_masks.main([str(taught)])
    assert (taught / "hands.json").read_text() == corrected


def test_what_cannot_be_read_is_named_and_the_rest_is_done(taught, masks, caplog, capsys):
    content = content_of(taught)
    del content["annotations"][0]["keypoints"][60:]
    (taught / "hands.json").write_text(json.dumps(content))
    *_, last = sorted((taught / "images").iterdir())
    last.write_bytes(b"no jpeg")
    masks += [10]
    with pytest.raises(UserError, match="^2 of 3 hands could not be read .named above.; the oth"):
        teach_masks.main([str(taught)])
    assert "skipped: hands.json: annotation 1: keypoints is 60 numbers" in caplog.text
    assert f"{last.name}_3: the image (7 bytes) cannot be decoded" in caplog.text
    assert "1 of 3 hands have a mask, 0 were left without" in capsys.readouterr().out
    hands = content_of(taught)["annotations"]
    assert ["segmentation" in hand for hand in hands] == [False, True, False]


def test_few_keypoints_cannot_tell_whether_a_mask_is_the_hands(taught, masks, capsys):
    """Six are enough."""
    content = content_of(taught)
    for annotation, count in zip(content["annotations"], (5, 6)):
        annotation["keypoints"][3 * count :] = [0] * (63 - 3 * count)
    (taught / "hands.json").write_text(json.dumps(content))
    masks += [10, 20]
    teach_masks.main([str(taught)])
    hands = content_of(taught)["annotations"]
    assert ["segmentation" in hand for hand in hands] == [False, True, True]
    assert "1 were left without: no mask could be trusted\n" in capsys.readouterr().out


def test_hands_that_share_an_image_get_no_mask(taught, masks, capsys):
    """The mask of a sample, which is a part of the image, would not have the image's size."""
    content = content_of(taught)
    content["annotations"][1]["image_id"] = 1
    (taught / "hands.json").write_text(json.dumps(content))
    masks += [10]
    teach_masks.main([str(taught)])
    hands = content_of(taught)["annotations"]
    assert ["segmentation" in hand for hand in hands] == [False, False, True]
    assert all(entry.sample() for entry in readers.read_dataset(taught)["hands"])
    assert "1 of 3 hands have a mask, 2 were left without" in capsys.readouterr().out


def test_a_backup_beside_the_labels_is_left_alone(taught, masks):
    backup = taught / "hands_backup.json"
    backup.write_bytes((taught / "hands.json").read_bytes())
    before = backup.read_bytes()
    masks += [10, 20, 30]
    teach_masks.main([str(taught)])
    assert all("segmentation" in hand for hand in content_of(taught)["annotations"])
    assert backup.read_bytes() == before


def test_a_mask_is_looked_for_in_the_box_of_its_keypoints(monkeypatch):
    """The box is that of whole pixels, as far as the image of 100 x 40 reaches."""
    boxes, mask = [], np.zeros((40, 100), np.float32)

    def predict_all(_, image, its_boxes):
        boxes.extend(its_boxes)
        return [SimpleNamespace(mask=mask)]

    monkeypatch.setattr("data_tools.teachers.HandPredictor.predict_all", predict_all)
    teacher = MaskTeacher(default_weights("mini"), "mini")
    keypoints = np.array([(-0.4, 10.3), (30.6, 20.7), (12, 39.3)])
    probability = teacher.hand_probability(np.zeros((40, 100, 3), np.uint8), keypoints)
    assert probability is mask and boxes == [[0, 10, 32, 30]]


def test_other_folders_are_refused(taught, tmp_path):
    with pytest.raises(UserError, match="holds no hands.json: give the folder of a set of"):
        teach_masks.main([str(tmp_path)])
    content = content_of(taught)
    del content["info"]["program"]
    (taught / "hands.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="was not made by data_tools.teach: give another folder"):
        teach_masks.main([str(taught)])


@pytest.mark.parametrize("name", ["images", "annotations"])
def test_an_id_that_two_records_have_is_refused(taught, masks, name):
    """As after copying a record by hand: one hand would get the other's mask."""
    content = content_of(taught)
    content[name][2]["id"] = 1
    (taught / "hands.json").write_text(json.dumps(content))
    before = (taught / "hands.json").read_bytes()
    masks += [10, 20, 30]
    with pytest.raises(UserError, match=f"2 records of `{name}` have the id 1: give each an id of"):
        teach_masks.main([str(taught)])
    assert (taught / "hands.json").read_bytes() == before


def test_weights_without_a_mask_head_are_refused(taught, tmp_path):
    import caffe

    net = caffe.Net(str(ROOT / "prototxt/mini/deploy_without_mask.prototxt"), caffe.TEST)
    net.save(str(tmp_path / "no_mask.caffemodel"))
    with pytest.raises(UserError, match="mask"):
        teach_masks.main([str(taught), "--weights", str(tmp_path / "no_mask.caffemodel")])


def test_the_masks_of_rendered_hands_are_theirs():
    teacher, ious = MaskTeacher(default_weights("mini"), "mini"), []
    for seed in range(6):
        hand = hand_scene.render(
            np.random.default_rng(seed), 200, "Test", repertoire=hand_scene.EASY
        )
        mask = make_trusted_mask(
            hand.image, teacher.hand_probability(hand.image, hand.keypoints), hand.keypoints
        )
        if mask is not None:
            truth = hand.mask > 0
            ious.append((truth & (mask > 0)).sum() / (truth | (mask > 0)).sum())
    assert len(ious) >= 4 and np.mean(ious) > 0.85
    grey = np.full((90, 90, 3), 128, np.uint8)
    assert make_trusted_mask(grey, teacher.hand_probability(grey, POINTS - 40), POINTS - 40) is None
