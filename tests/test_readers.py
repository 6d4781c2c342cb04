"""Every data set's layout, from its files to an LMDB set that real Caffe trains on, with the oddities that the real ones have."""
import dataclasses
import json
import os
import pathlib
import pickle
import struct

import cv2
import numpy as np
import pytest

from data_tools import coco, onehand10k, readers, rhd
from data_tools.build_lmdb import TRAIN, VALIDATION
from data_tools.sources import framed, keypoint_box, sample_key
from mcc_caffe.errors import UserError
from mcc_caffe.samples import Sample, SampleError, SampleSet
from tests.conftest import drawn_sample, run
from tests.test_samples import turned_jpeg

# Typed from RHD's description: wrist, thumb, index, middle, ring, pinky, each from tip to base.
RHD_ORDER = [0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17]
CAMERA = [[200.0, 0.0, 80.0], [0.0, 200.0, 60.0], [0.0, 0.0, 1.0]]


def drawn(count, seed):
    """`count` hands in 160 x 120 pixels, their keypoints all inside; 2.2 times their keypoints' box holds the whole picture."""
    rng = np.random.default_rng(seed)
    samples = []
    for place in range(count):
        sample = drawn_sample(rng, str(place))
        inside = ((sample.keypoints[:, :2] >= 0) & (sample.keypoints[:, :2] <= (159, 119))).all(axis=1, keepdims=True)
        keypoints = np.where(inside, sample.keypoints, (-1, -1, 0)).astype(np.float32)
        samples.append(dataclasses.replace(sample, keypoints=keypoints))
    return samples


def encoded(picture, ending=".png"):
    return cv2.imencode(ending, picture)[1].tobytes()


def plain_picture(width=160, height=120, ending=".jpg"):
    """A picture in which every pixel differs from its neighbours."""
    x, y = np.meshgrid(np.arange(width) % 256, np.arange(height) % 256)
    return encoded(np.stack([x, y, (x + y) % 256], axis=-1).astype(np.uint8), ending)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


# ---- a tiny set in each layout: maker(root, {set name: drawn samples}) writes it and returns {set name: {key: keypoints}}

def make_onehand10k(root, samples):
    expected = {}
    for name, split in ((TRAIN, "Train"), (VALIDATION, "Test")):
        lines = []
        for sample in samples[name]:
            write(root / split / "source" / f"{sample.key}.jpg", sample.image_bytes)
            write(root / split / "mask" / f"{sample.key}.png", sample.mask_png)
            lines.append(onehand10k.format_label(f"{sample.key}.jpg", 160, 120, sample.keypoints))
        write(root / split / "label_joint.txt", "\n".join(lines).encode())
        expected[name] = {f"{split}_{sample.key}.jpg": np.round(sample.keypoints) for sample in samples[name]}
    return expected


def coco_content(samples):
    """MMPose's form: missing keypoints are 0, 0, 0. The mask as polygons, as run lengths, and as the box that is none."""
    images, annotations = [], []
    for place, sample in enumerate(samples):
        x, y, width, height = map(float, cv2.boundingRect(sample.mask()))
        outlines = cv2.findContours(sample.mask(), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        flat = sample.mask().T.ravel()
        changes = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *changes, flat.size]).tolist()
        box = [x, y, x + width, y, x + width, y + height, x, y + height]
        segmentation = ([outline.ravel().tolist() for outline in outlines], {"size": [120, 160], "counts": runs}, [box])[place % 3]
        keypoints = np.where(sample.keypoints[:, 2:] > 0, sample.keypoints * (1, 1, 1 + place % 2), 0)
        images.append({"id": 7 + place, "file_name": f"{sample.key}.jpg", "width": 160, "height": 120})
        annotations.append({"id": 70 + place, "image_id": 7 + place, "category_id": 1, "bbox": [x, y, width, height],
                            "keypoints": keypoints.ravel().tolist(), "segmentation": segmentation, "iscrowd": 0})
    names = ["wrist", *(f"{finger}{joint}" for finger in ("thumb", "forefinger", "middle", "ring", "pinky") for joint in (1, 2, 3, 4))]
    return {"info": {"description": "OneHand10K"}, "images": images, "annotations": annotations,
            "categories": [{"id": 1, "name": "hand", "keypoints": names}]}


def make_coco(root, samples):
    expected = {}
    for name, split in ((TRAIN, "hands_train"), (VALIDATION, "hands_test")):
        for sample in samples[name]:
            write(root / "images" / f"{sample.key}.jpg", sample.image_bytes)
        write(root / "annotations" / f"{split}.json", coco_content(samples[name]))
        expected[name] = {f"{split}_{sample.key}.jpg_{70 + place}": sample.keypoints for place, sample in enumerate(samples[name])}
    return expected


def make_cmu(root, samples):
    expected = {}
    for name, split in ((TRAIN, "manual_train"), (VALIDATION, "manual_test")):
        for sample in samples[name]:
            write(root / split / f"{sample.key}_l.jpg", sample.image_bytes)
            write(root / split / f"{sample.key}_l.json", {"hand_pts": sample.keypoints.tolist(), "is_left": 1, "hand_box_center": [80, 60]})
        expected[name] = {f"{split}_{sample.key}_l.jpg": sample.keypoints for sample in samples[name]}
    return expected


def make_rhd(root, samples):
    """Hands of even place are left ones."""
    expected = {}
    for name, split in ((TRAIN, "training"), (VALIDATION, "evaluation")):
        labels, expected[name] = {}, {}
        for place, sample in enumerate(samples[name]):
            right = place % 2
            uv_vis = np.zeros((42, 3))
            uv_vis[21 * right + np.array(RHD_ORDER)] = sample.keypoints
            labels[place] = {"uv_vis": uv_vis, "xyz": np.zeros((42, 3)), "K": np.eye(3)}
            values = np.where(sample.mask(), 20 if right else 5, 0).astype(np.uint8)
            values[:5] = 1
            write(root / split / "color" / f"{place:05d}.png", encoded(sample.image()))
            write(root / split / "mask" / f"{place:05d}.png", encoded(values))
            expected[name][f"{split}_{place:05d}_{'right' if right else 'left'}"] = sample.keypoints
        write(root / split / f"anno_{split}.pickle", pickle.dumps(labels))
    return expected


def make_freihand(root, samples):
    """Two versions of each hand of the training set. A missing keypoint is one outside the picture."""
    expected = {}
    for name, split, versions in ((TRAIN, "training", 2), (VALIDATION, "evaluation", 1)):
        hands, expected[name] = [], {}
        for place, sample in enumerate(samples[name]):
            xy, z = sample.keypoints[:, :2], 0.5
            hands.append(np.column_stack([(xy - (80, 60)) / 200 * z, np.full(21, z)]).tolist())
            for version in range(versions):
                number = f"{place + version * len(samples[name]):08d}"
                write(root / split / "rgb" / f"{number}.jpg", sample.image_bytes)
                expected[name][f"{split}_{number}.jpg"] = sample.keypoints
            if name == TRAIN:
                write(root / split / "mask" / f"{place:08d}.jpg", encoded(sample.mask() * 255, ".jpg"))
        write(root / f"{split}_K.json", [CAMERA] * len(samples[name]))
        write(root / f"{split}_xyz.json", hands)
    return expected


MAKERS = {"onehand10k": make_onehand10k, "coco": make_coco, "cmu": make_cmu, "rhd": make_rhd, "freihand": make_freihand}
WITHOUT_MASK = {"onehand10k": (0, 0), "coco": (1, 0), "cmu": (4, 2), "rhd": (0, 0), "freihand": (0, 2)}


@pytest.fixture(scope="module", params=MAKERS)
def built(request, tmp_path_factory):
    """(format, its folder, {set name: {key: keypoints}}, the folder of the LMDB sets that the command made of it)."""
    folder = tmp_path_factory.mktemp(request.param)
    samples = {TRAIN: drawn(4, seed=0), VALIDATION: drawn(2, seed=1)}
    samples = {name: [dataclasses.replace(sample, key=f"{name}{sample.key}") for sample in found] for name, found in samples.items()}
    expected = MAKERS[request.param](folder / "set", samples)
    done = run("data_tools.build_lmdb", folder / "set", folder / "lmdb")
    assert done.returncode == 0, done.stdout + done.stderr
    return request.param, folder / "set", expected, folder / "lmdb"


def test_the_format_is_known_by_what_lies_there(built):
    assert readers.find(built[1]) == built[0]


def test_the_lmdb_sets_hold_the_sources_keypoints(built):
    format, _, expected, lmdb = built
    for name, without_mask in zip((TRAIN, VALIDATION), WITHOUT_MASK[format]):
        samples = SampleSet(lmdb / name)
        read = {key.decode()[9:]: samples[place] for place, key in enumerate(samples.keys)}
        assert set(read) == set(expected[name])
        for key, keypoints in expected[name].items():
            assert np.allclose(read[key].keypoints, keypoints, atol=1e-3), key
        assert samples.info()["without_mask"] == without_mask == sum(sample.mask_png is None for sample in read.values())
        assert samples.info()["reader"] == format


def test_the_lmdb_sets_hold_the_sources_pictures_and_masks(built):
    """Byte for byte, since each hand fills its picture; the masks are those that were drawn."""
    _, _, _, lmdb = built
    originals = {sample.image_bytes: sample for sample in drawn(4, seed=0)}
    originals |= {encoded(sample.image()): sample for sample in drawn(4, seed=0)}             # RHD's
    samples = SampleSet(lmdb / TRAIN)
    for place in range(len(samples)):
        original, mask = originals[samples[place].image_bytes], samples[place].mask()
        assert mask is None or np.mean(mask != original.mask()) < 0.01


def test_caffe_trains_on_the_lmdb_set(built, tmp_path):
    format, _, _, lmdb = built
    done = run("mcc_caffe.train", lmdb / TRAIN, "--out", tmp_path / "run", "--variant", "mini", "--iterations", 2,
               "--batch-size", 2, "--interval", 1, "--workers", 1)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2]
    for line in lines:
        assert np.isfinite(list(line["losses"].values())).all() and line["losses"]["loss6"] > 0
        assert (line["losses"]["loss_mask"] == 0) == (format == "cmu")       # the mask loss is switched off without masks


# ---- the registry

def test_what_fits_nothing_is_told_all_formats(tmp_path):
    with pytest.raises(UserError) as error:
        readers.read(tmp_path)
    for name, module in readers.FORMATS.items():
        assert f"{name} ({module.LAYOUT})" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_fits_two_formats_must_be_chosen(tmp_path):
    samples = {TRAIN: drawn(1, seed=0), VALIDATION: drawn(1, seed=1)}
    make_freihand(tmp_path, samples)
    make_coco(tmp_path, samples)
    with pytest.raises(UserError, match="fits several formats, choose one with --format: coco .*; freihand "):
        readers.read(tmp_path)
    assert list(readers.read(tmp_path, "coco")) == ["hands_test", "hands_train"]
    assert list(readers.read(tmp_path, "freihand")) == ["training", "evaluation"]


@pytest.mark.parametrize("names, expected", [
    (["Train", "Test"], ("Train", "Test")),
    (["training", "evaluation"], ("training", "evaluation")),
    (["manual_train", "manual_test"], ("manual_train", "manual_test")),
    (["freihand_test", "freihand_train", "freihand_val"], ("freihand_train", "freihand_val")),
])
def test_the_sets_own_split_is_found_by_name(names, expected):
    assert readers.own_split(names) == expected


@pytest.mark.parametrize("names", [["training"], ["synth1", "synth2"], ["a_train", "b_train", "val"], ["Test"]])
def test_a_set_without_both_splits_is_told_to_pool(names):
    with pytest.raises(UserError, match=f"the set has {' and '.join(names)}, not one split .* --split N/M"):
        readers.own_split(names)


def test_keys_fit_lmdb():
    assert sample_key("a_train", "b/c.jpg", "7") == "a_train_b_c.jpg_7"
    long = [sample_key("x", "ä" * 300, end) for end in "12"]
    assert long[0] != long[1] and all(len(key.encode()) <= 400 for key in long)
    assert sample_key("\udcff.jpg") == "\\udcff.jpg"          # a file name that is not UTF-8


# ---- one hand of a scene

def test_a_crop_is_the_square_around_the_box_as_far_as_the_picture_reaches():
    """Box 40 x 20 at (100, 10): centre (120, 20), half side 1.5 x 40 / 2 = 30: x 90 to 150, y -10 to 50, clipped at 0."""
    mask = np.zeros((120, 160), np.uint8)
    mask[0, 90] = 255
    keypoints = np.full((21, 3), (-1, -1, 0), np.float32)
    keypoints[:4] = (100, 10, 1), (90, 0, 1), (150, 50, 1), (151, 20, 1)
    whole = Sample("x", plain_picture(), encoded(mask), keypoints)
    part = framed(whole, "here", box=(100, 10, 140, 30), factor=1.5)
    assert part.image().shape == (51, 61, 3) and np.array_equal(part.image(), whole.image()[0:51, 90:151])
    assert part.mask().shape == (51, 61) and part.mask()[0, 0] == 1 and part.mask().sum() == 1
    assert part.keypoints[:4].tolist() == [[10, 10, 1], [0, 0, 1], [60, 50, 1], [-1, -1, 0]]
    assert (part.keypoints[4:] == (-1, -1, 0)).all()


def test_a_crop_that_holds_the_whole_picture_changes_no_byte_of_it():
    keypoints = np.tile(np.float32([159, 119, 1]), (21, 1))
    keypoints[0], keypoints[1] = (160, 5, 1), (5, -1, 1)                    # outside the picture
    whole = Sample("x", plain_picture(), None, keypoints)
    part = framed(whole, "here", box=(0, 0, 159, 119), factor=2.2)
    assert part.image_bytes == whole.image_bytes
    assert part.keypoints[:3].tolist() == [[-1, -1, 0], [-1, -1, 0], [159, 119, 1]]


@pytest.mark.parametrize("changes, message", [
    (dict(size=(120, 160)), "here: the image is 160 x 120, the label says 120 x 160"),
    (dict(box=(300, 10, 320, 30), factor=2.0), r"here: the hand's box \(300, 10, 320, 30\) lies outside the image, 160 x 120"),
])
def test_sizes_and_boxes_that_cannot_be_are_told(changes, message):
    with pytest.raises(SampleError, match=message):
        framed(Sample("x", plain_picture(), None, np.zeros((21, 3))), "here", **changes)


def test_a_mask_of_another_size_is_told():
    with pytest.raises(SampleError, match="here: the mask is 10 x 20, the image 160 x 120"):
        framed(Sample("x", plain_picture(), encoded(np.zeros((20, 10), np.uint8)), np.zeros((21, 3))), "here")


def test_a_hand_without_labelled_keypoints_has_no_box():
    assert keypoint_box(np.float32([[5, 9, 1], [-1, -1, 0], [3, 20, 1]]), "here") == (3, 9, 5, 20)
    with pytest.raises(SampleError, match="here: no keypoint is labelled"):
        keypoint_box(np.full((21, 3), (-1, -1, 0), np.float32), "here")


# ---- COCO

def coco_set(folder, content, name="hands"):
    write(folder / f"{name}.json", content)
    for image in content["images"]:
        write(folder / image["file_name"], plain_picture())
    return folder / f"{name}.json"


def coco_sample(folder, **annotation):
    """The only sample of a file whose annotation has these changes; None takes a field away."""
    content = coco_content(drawn(1, seed=0))
    content["annotations"][0].update(annotation)
    content["annotations"][0] = {key: value for key, value in content["annotations"][0].items() if value is not None}
    (entry,), = readers.read(coco_set(folder, content)).values()
    return entry.sample()


def test_coco_visibility_0_is_missing_1_and_2_are_labelled(tmp_path):
    points = [[10 + k, 20, k % 3] for k in range(21)]
    for form in (points, np.ravel(points).tolist()):                      # both forms are about
        keypoints = coco_sample(tmp_path, keypoints=form).keypoints
        assert keypoints[:4].tolist() == [[-1, -1, 0], [11, 20, 1], [12, 20, 1], [-1, -1, 0]]


def test_coco_fields_that_nobody_asked_for_are_passed_over(tmp_path):
    assert coco_sample(tmp_path, center=[1, 2], scale=3, head_size=140.0, dataset="mpii").key == "hands_0.jpg_70"
    assert coco_sample(tmp_path, segmentation=None, bbox=None, iscrowd=None).mask_png is None


@pytest.mark.parametrize("annotation, message", [
    (dict(keypoints=[1, 2, 2] * 20), "hands.json: annotation 70: keypoints is 60 numbers, 21 x 3 numbers are needed"),
    (dict(keypoints=None), "hands.json: annotation 70: keypoints is missing"),
    (dict(keypoints=["x"] * 63), "hands.json: annotation 70: keypoints is no array of numbers"),
    (dict(keypoints=[float("nan"), 2, 2] * 21), "hands.json: annotation 70: keypoint 0 is labelled but its place is"),
    (dict(segmentation=[[1, 2, 3]]), "hands.json: annotation 70: the segmentation cannot be read"),
    (dict(segmentation={"size": [120, 160], "counts": [5, 7]}), "hands.json: annotation 70: the segmentation cannot be read"),
    (dict(segmentation={"counts": [5, 7]}), "hands.json: annotation 70: the segmentation cannot be read"),
    (dict(segmentation={"size": [1, 12], "counts": [5, 7]}), "hands.json: annotation 70: the mask is 12 x 1, the image 160 x 120"),
    (dict(image_id=99), "hands.json: annotation 70: `images` has no file_name for its image_id"),
])
def test_coco_bad_annotations_are_named(tmp_path, annotation, message):
    content = coco_content(drawn(2, seed=0))
    content["annotations"][0].update(annotation)
    with pytest.raises(SampleError, match=message):
        readers.read(coco_set(tmp_path, content))["hands"][0].sample()


def test_coco_images_of_another_size_or_missing_are_named(tmp_path):
    content = coco_content(drawn(2, seed=0))
    content["images"][0].update(width=120, height=160)
    entries = readers.read(coco_set(tmp_path, content))["hands"]
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(SampleError, match="hands.json: annotation 70: the image is 160 x 120, the label says 120 x 160"):
        entries[0].sample()
    with pytest.raises(SampleError, match="hands.json: annotation 71: .*1.jpg cannot be read"):
        entries[1].sample()


def test_coco_exif_orientation_is_ignored(tmp_path):
    content = coco_content(drawn(1, seed=0))
    content["images"][0].update(width=40, height=20)
    content["annotations"][0].update(segmentation=[], keypoints=[39, 19, 2] * 21)
    path = coco_set(tmp_path, content)
    write(tmp_path / "0.jpg", turned_jpeg())
    sample = readers.read(path)["hands"][0].sample()
    assert sample.image().shape == (20, 40, 3) and sample.keypoints[0].tolist() == [39, 19, 1]


def test_coco_several_hands_of_an_image_are_crops(tmp_path):
    """Boxes of 20 x 20 at (30, 40) and (100, 50), half side 1.5 x 20 / 2 = 15: windows from (25, 35) and (95, 45)."""
    content = coco_content(drawn(1, seed=0))
    first = content["annotations"][0]
    first.update(bbox=[30, 40, 20, 20], keypoints=[40, 50, 2] * 21, segmentation=[[30, 40, 50, 40, 30, 60]])
    content["annotations"] += [{**first, "id": 71, "bbox": [100, 50, 20, 20], "keypoints": [101, 52, 1] * 20 + [0, 0, 0]},
                               {"id": 72, "image_id": 7, "iscrowd": 1, "keypoints": [0] * 63, "bbox": [0, 0, 160, 120]}]
    one, other = readers.read(coco_set(tmp_path, content))["hands"]
    assert (one.sample().key, other.sample().key) == ("hands_0.jpg_70", "hands_0.jpg_71")
    assert one.sample().image().shape == other.sample().image().shape == (31, 31, 3)
    assert one.sample().keypoints[20].tolist() == [15, 15, 1] and one.sample().mask()[5, 5] == 1
    assert other.sample().keypoints[0].tolist() == [6, 7, 1] and other.sample().keypoints[20].tolist() == [-1, -1, 0]
    assert not other.sample().mask().any()                                   # its segmentation is of the first hand's place


def test_coco_segmentations_become_masks(tmp_path):
    expected = np.zeros((4, 6), np.uint8)
    expected[1:3, 2] = expected[0, 3] = 1                    # down the columns: 9 zeros, 2 ones, 1 zero, 1 one, 11 zeros
    assert np.array_equal(coco.hand_mask({"size": [4, 6], "counts": [9, 2, 1, 1, 11]}, None, "here"), expected)
    # Compressed: 9 is "9", 2 is "2", 1 is "1"; then differences to the one before the last: 1 - 2 = -1 is "O", 11 - 1 = 10 is ":".
    assert np.array_equal(coco.hand_mask({"size": [4, 6], "counts": "921O:"}, None, "here"), expected)
    polygons = coco.hand_mask([[0, 0, 2, 0, 0, 2], [5, 3, 3, 3, 5, 1]], (6, 4), "here")
    assert polygons.tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    with pytest.raises(SampleError, match="here: `images` has no width and height"):
        coco.hand_mask([[0, 0, 2, 0, 0, 2]], None, "here")


def test_coco_compressed_runs_as_pycocotools_writes_them():
    mask = coco.hand_mask({"size": [400, 500], "counts": "Tdc0X6X600000000000000000lh[5"}, None, "here")
    expected = np.zeros((400, 500), np.uint8)
    expected[100:300, 50:60] = 1
    assert np.array_equal(mask, expected)


def test_coco_a_box_is_no_mask():
    """MMPose's segmentations: the corners of the box and the middles of its sides."""
    assert coco.hand_mask([[63, 92, 63, 188.5, 63, 285, 112, 285, 161, 285, 161, 188.5, 161, 92, 112, 92]], (238, 358), "here") is None
    assert coco.hand_mask([[63, 92, 63, 285, 161, 285, 161, 92, 112, 150]], (238, 358), "here") is not None


def test_coco_whole_body_hands_are_read_where_they_are_valid(tmp_path):
    content = coco_content(drawn(2, seed=0))
    content["categories"][0].update(name="person", keypoints=["nose"] * 17)
    for place, annotation in enumerate(content["annotations"]):
        annotation.update(keypoints=[1, 1, 2] * 17, segmentation=[[0, 0, 9, 0, 0, 9]], bbox=[0, 0, 160, 120],
                          lefthand_valid=True, lefthand_box=[30, 40, 20, 20], lefthand_kpts=[40, 50, 0.7] * 21,
                          righthand_valid=place == 0, righthand_box=[100, 50, 20, 20], righthand_kpts=[101, 52, 2] * 21)
    samples = [entry.sample() for entry in readers.read(coco_set(tmp_path, content))["hands"]]
    assert [sample.key for sample in samples] == ["hands_0.jpg_70_left", "hands_0.jpg_70_right", "hands_1.jpg_71_left"]
    for sample, place in zip(samples, ([15, 15, 1], [6, 7, 1], [15, 15, 1])):
        assert sample.image().shape == (31, 31, 3) and sample.keypoints[0].tolist() == place
        assert sample.mask_png is None                                       # the segmentation is the person's


@pytest.mark.parametrize("change, message", [
    (lambda c: c["categories"][0].update(name="person", keypoints=["nose"] * 17), "the category 'person' has 17 keypoints, only"),
    (lambda c: c["categories"][0]["keypoints"].reverse(), "the keypoints of the category 'hand' are pinky4, pinky3"),
    (lambda c: c["info"].update(description="RHD"), "MMPose's file of RHD, whose fingers run from tip to base"),
    (lambda c: c.update(annotations=[]), "has no annotation of a hand"),
    (lambda c: c.pop("images"), "has no list of objects `images`"),
    (lambda c: c.update(annotations={"1": {}}), "has no list of objects `annotations`"),
    (lambda c: c.update(categories=["hand"]), "has no list of objects `categories`"),
])
def test_coco_files_that_cannot_be_read_are_told(tmp_path, change, message):
    content = coco_content(drawn(1, seed=0))
    change(content)
    write(tmp_path / "0.jpg", plain_picture())
    write(tmp_path / "hands.json", content)
    with pytest.raises(UserError, match=f"hands.json.*{message}"):
        readers.read(tmp_path / "hands.json")


def test_coco_a_cut_file_is_told(tmp_path):
    write(tmp_path / "hands.json", json.dumps(coco_content(drawn(1, seed=0))).encode()[:-40])
    with pytest.raises(UserError, match="hands.json is not JSON"):
        readers.read(tmp_path)


@pytest.mark.parametrize("annotations, pictures, file_name", [
    ("x/annotations", "x", "Train/source/0.jpg"),          # MMPose's OneHand10K
    ("x/annotations", "x/train2017", "0.jpg"),             # COCO's own
    ("x", "x/images", "0.jpg"),
    ("x/annotations", "x/images", "0.jpg"),
])
def test_coco_pictures_are_found(tmp_path, annotations, pictures, file_name):
    content = coco_content(drawn(1, seed=0))
    content["images"][0]["file_name"] = file_name
    write(tmp_path / annotations / "hands_train.json", b"\xef\xbb\xbf" + json.dumps(content, indent=1).encode())
    write(tmp_path / pictures / file_name, plain_picture())
    assert readers.read(tmp_path / "x")["hands_train"][0].sample().image_bytes == plain_picture()


def test_coco_pictures_that_are_not_found_or_twice_are_told(tmp_path):
    write(tmp_path / "x/annotations/hands.json", coco_content(drawn(1, seed=0)))
    with pytest.raises(UserError, match="hands.json: its first picture, 0.jpg, was not found: looked in .*x/annotations, in .*x and in"):
        readers.read(tmp_path / "x")
    for folder in ("Train", "Test"):
        write(tmp_path / "x" / folder / "0.jpg", plain_picture())
    with pytest.raises(UserError, match="its first pictures lie in several folders .*Test, .*Train"):
        readers.read(tmp_path / "x")


# ---- CMU

def cmu_label(folder, name="5_l", **label):
    write(folder / f"{name}.json", label)
    write(folder / f"{name}.jpg", plain_picture())


def test_cmu_crop_and_visibility(tmp_path):
    """Valid keypoints from (60, 40) to (80, 50): centre (70, 45), half side 2.2 x 20 / 2 = 22: from (48, 23) to (92, 67)."""
    points = [[60, 40, 1], [80, 50, 1.0], [20, 20, 0]] + [[70, 45, 1]] * 18
    cmu_label(tmp_path / "synth2", hand_pts=points)
    entry, = readers.read(tmp_path)["synth2"]
    sample = entry.sample()
    assert (entry.where, sample.key, sample.mask_png) == ("synth2/5_l.json", "synth2_5_l.jpg", None)
    assert sample.image().shape == (45, 45, 3)
    assert sample.keypoints[:4].tolist() == [[12, 17, 1], [32, 27, 1], [-1, -1, 0], [22, 22, 1]]


def test_cmu_a_splits_own_folder_is_read(tmp_path):
    cmu_label(tmp_path / "synth3", hand_pts=[[60, 40, 1], [80, 50, 1]] + [[70, 45, 1]] * 19)
    entry, = readers.read(tmp_path / "synth3")["synth3"]
    assert entry.sample().key == "synth3_5_l.jpg"


@pytest.mark.parametrize("label, message", [
    ({"is_left": 1}, "synth1/5_l.json: hand_pts is missing, 21 x 3 numbers are needed"),
    ({"hand_pts": [[1, 2, 1]] * 20}, "synth1/5_l.json: hand_pts is 60 numbers"),
    ({"hand_pts": [[1, 2, 0]] * 21}, "synth1/5_l.json: no keypoint is labelled"),
    ([1], "synth1/5_l.json holds no JSON object"),
    (b"{", "synth1/5_l.json: .* is not JSON"),
])
def test_cmu_bad_labels_are_named(tmp_path, label, message):
    write(tmp_path / "synth1/5_l.json", label)
    write(tmp_path / "synth1/5_l.jpg", plain_picture())
    with pytest.raises(SampleError, match=message):
        readers.read(tmp_path)["synth1"][0].sample()


def test_cmu_missing_pictures_and_empty_folders_are_named(tmp_path):
    cmu_label(tmp_path / "synth1", hand_pts=[[60, 40, 1]] * 21)
    (tmp_path / "synth1/5_l.jpg").unlink()
    with pytest.raises(SampleError, match="synth1/5_l.json: .*5_l.jpg cannot be read"):
        readers.read(tmp_path)["synth1"][0].sample()
    (tmp_path / "synth1/5_l.json").unlink()
    with pytest.raises(UserError, match="synth1 holds no label file"):
        readers.read(tmp_path)


# ---- RHD

def rhd_set(root, labels, mask=None):
    write(root / "training/anno_training.pickle", labels if isinstance(labels, bytes) else pickle.dumps(labels))
    write(root / "training/color/00003.png", plain_picture(320, 320, ".png"))
    write(root / "training/mask/00003.png", encoded(np.zeros((320, 320), np.uint8) if mask is None else mask))
    return readers.read(root)["training"]


def rhd_labels():
    """Both hands of picture 3: RHD's keypoint i of the left hand at (100 + i, 100), of the right one at (200 + i, 200)."""
    uv_vis = np.ones((42, 3))
    uv_vis[:21, :2] = [(100 + i, 100) for i in range(21)]
    uv_vis[21:, :2] = [(200 + i, 200) for i in range(21)]
    return {3: {"uv_vis": uv_vis, "xyz": np.zeros((42, 3)), "K": np.eye(3)}}


def test_rhd_hands_order_masks_and_crops(tmp_path):
    """Boxes 20 px wide: half side 2.2 x 20 / 2 = 22, so that the crops begin at (88, 78) and (188, 178)."""
    mask = np.zeros((320, 320), np.uint8)
    for place, value in enumerate((1, 2, 17, 18, 33)):
        mask[90, 90 + place] = mask[190, 190 + place] = value
    left, right = [entry.sample() for entry in rhd_set(tmp_path, rhd_labels(), mask)]
    assert (left.key, right.key) == ("training_00003_left", "training_00003_right")
    for sample in (left, right):
        assert sample.image().shape == (45, 45, 3)
        assert (sample.keypoints[:, 0] - 12).tolist() == RHD_ORDER            # the wrist, then every finger turned round
        assert sample.keypoints[:, 1:].tolist() == [[22, 1]] * 21
    assert left.mask()[12, 2:7].tolist() == [0, 1, 1, 0, 0] and left.mask().sum() == 2
    assert right.mask()[12, 2:7].tolist() == [0, 0, 0, 1, 1] and right.mask().sum() == 2


def test_rhd_hands_that_show_too_little_are_left_out(tmp_path):
    labels = rhd_labels()
    labels[3]["uv_vis"][:11, 2] = 0                                            # 10 of the left hand are visible
    labels[3]["uv_vis"][21:31, 2] = 0                                          # 11 of the right one
    entry, = rhd_set(tmp_path, labels)
    sample = entry.sample()
    assert entry.where == "anno_training.pickle: 3, right hand" and np.count_nonzero(sample.keypoints[:, 2]) == 11
    assert sample.keypoints[0].tolist() == [-1, -1, 0]                         # the wrist, RHD's 21


def test_rhd_missing_files_and_fields_are_named(tmp_path):
    labels = rhd_labels()
    labels[4] = {"xyz": np.zeros((42, 3))}
    labels[5] = {"uv_vis": np.ones((21, 3))}
    entries = rhd_set(tmp_path, labels)
    (tmp_path / "training/mask/00003.png").unlink()
    for entry, message in ((entries[0], "anno_training.pickle: 3, left hand: .*mask/00003.png cannot be read"),
                           (entries[2], "anno_training.pickle: 4, left hand: uv_vis is missing"),
                           (entries[4], "anno_training.pickle: 5, left hand: uv_vis is 63 numbers, 2 x 21 x 3 numbers are needed")):
        with pytest.raises(SampleError, match=message):
            entry.sample()
    (tmp_path / "training/mask").rmdir()
    assert entries[0].sample().mask_png is None
    (tmp_path / "training/color/00003.png").unlink()
    with pytest.raises(SampleError, match="left hand: .*color/00003.png cannot be read"):
        entries[0].sample()


class Numpy1Pickler(pickle._Pickler):
    """Writes what numpy 1 wrote: its modules were called numpy.core."""

    def save(self, obj, save_persistent_id=True):
        old = obj.replace("numpy._core", "numpy.core") if isinstance(obj, str) else obj
        super().save(old, save_persistent_id)


def numpy1_pickle(labels, protocol, path):
    with open(path, "wb") as file:
        Numpy1Pickler(file, protocol).dump(labels)
    return path.read_bytes().replace(b"cnumpy._core", b"cnumpy.core")


def python2_pickle(array):
    """{3: {"uv_vis": array}} as Python 2 wrote it: protocol 2, all strings and the array's memory as byte strings."""
    data = array.astype("<f8").tobytes()
    return (b"\x80\x02}K\x03}U\x06uv_viscnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
            b"(K\x01(K\x2aK\x03tcnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
            b"T" + struct.pack("<i", len(data)) + data + b"tbss.")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("numpy_version", [1, 2])
def test_rhd_pickles_of_any_numpy_and_protocol_are_read(tmp_path, protocol, numpy_version):
    labels, expected = rhd_labels(), rhd_labels()[3]["uv_vis"]
    labels[3]["K"] = np.asfortranarray(np.arange(9, dtype=np.float32).reshape(3, 3))
    data = pickle.dumps(labels, protocol) if numpy_version == 2 else numpy1_pickle(labels, protocol, tmp_path / "old")
    assert (b"numpy._core" in data) == (numpy_version == 2) and (b"numpy.core" in data) == (numpy_version == 1)
    write(tmp_path / "x.pickle", data)
    read = rhd.read_pickle(tmp_path / "x.pickle")
    assert np.array_equal(read[3]["uv_vis"], expected) and np.array_equal(read[3]["K"], labels[3]["K"])


def test_rhd_pickles_of_python_2_are_read(tmp_path):
    write(tmp_path / "x.pickle", python2_pickle(rhd_labels()[3]["uv_vis"]))
    assert np.array_equal(rhd.read_pickle(tmp_path / "x.pickle")[3]["uv_vis"], rhd_labels()[3]["uv_vis"])


class Runs:
    """Pickled: a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_rhd_a_pickle_that_runs_programs_is_refused(tmp_path, protocol):
    trap = tmp_path / "trap"
    data = pickle.dumps({**rhd_labels(), 4: Runs(os.system, f"touch {trap}")}, protocol)
    with pytest.raises(UserError, match="anno_training.pickle is no pickle of plain numpy arrays .*it names posix.system.*it was not read"):
        rhd_set(tmp_path, data)
    assert not trap.exists()
    pickle.loads(data)
    assert trap.exists()                                          # the trap is a real one


@pytest.mark.parametrize("content, name", [
    (Runs(eval, "1"), "builtins.eval"), (Runs(np.fromfile, "x"), "numpy.fromfile"), (pathlib.PurePosixPath("x"), "pathlib"),
    (Runs(getattr, "x", "y"), "builtins.getattr"), (Runs(np.load, "x"), "numpy"),
])
def test_rhd_other_objects_are_refused(tmp_path, content, name):
    with pytest.raises(UserError, match=f"it names {name}"):
        rhd_set(tmp_path, pickle.dumps(content))


def test_rhd_an_array_may_not_be_built_over_foreign_memory(tmp_path):
    """numpy.ndarray is named in every array's pickle, but only to be rebuilt; a direct call is refused."""
    with pytest.raises(UserError, match="not callable"):
        rhd_set(tmp_path, pickle.dumps(Runs(np.ndarray, (1,), "f8", b"8 bytes.")))


@pytest.mark.parametrize("content, message", [
    (b"", "no pickle of plain numpy arrays .EOFError"),
    (pickle.dumps(rhd_labels())[:200], "no pickle of plain numpy arrays"),
    (pickle.dumps([1]), "no dictionary from pictures' numbers"),
    (pickle.dumps({"3": {}}), "no dictionary from pictures' numbers"),
    (pickle.dumps({}), "has no hand with 11 visible keypoints"),
])
def test_rhd_other_pickles_are_told(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        rhd_set(tmp_path, content)


# ---- FreiHAND

def freihand_set(root, hands, pictures, masks=(), cameras=None):
    write(root / "training_K.json", [CAMERA] * len(hands) if cameras is None else cameras)
    write(root / "training_xyz.json", hands)
    for number in pictures:
        write(root / "training/rgb" / f"{number:08d}.jpg", plain_picture())
    for number, mask in masks:
        write(root / "training/mask" / f"{number:08d}.jpg", encoded(mask, ".jpg"))
    return readers.read(root)["training"]


def test_freihand_projection(tmp_path):
    """f = 200, centre (80, 60): (0.1, -0.05, 0.5) is at 200 x 0.1 / 0.5 + 80 = 120 and -200 x 0.05 / 0.5 + 60 = 40."""
    hand = [[0.1, -0.05, 0.5], [0.25, 0.1, 1.0], [0.2, 0.0, 0.5], [0.1, -0.05, -0.5]] + [[0, 0, 1.0]] * 17
    entry, = freihand_set(tmp_path, [hand], [0])
    assert entry.sample().keypoints[:5].round(4).tolist() == [
        [120, 40, 1], [130, 80, 1], [-1, -1, 0],             # 160 is outside the picture, which is 160 px wide
        [-1, -1, 0], [80, 60, 1]]                            # behind the camera


def test_freihand_labels_and_masks_repeat(tmp_path):
    """Three labels: picture 7 has those of 7 - 2 x 3 = 1."""
    hands = [[[0.1 * label, 0, 1.0]] * 21 for label in range(3)]
    masks = [(label, np.full((120, 160), 255 * (label == 1), np.uint8)) for label in range(3)]
    samples = [entry.sample() for entry in freihand_set(tmp_path, hands, [0, 2, 7], masks)]
    assert [sample.key for sample in samples] == [f"training_0000000{number}.jpg" for number in (0, 2, 7)]
    assert [sample.keypoints[0, 0] for sample in samples] == [80, 120, 100]
    assert [bool(sample.mask().all()) for sample in samples] == [False, False, True]


def test_freihand_bad_records_are_named(tmp_path):
    hands = [[[0, 0, 1.0]] * 21, [[0, 0, 1.0]] * 20, [[0, 0, 1.0]] * 21]
    entries = freihand_set(tmp_path, hands, [3, 4, 5], [(1, np.zeros((120, 160), np.uint8))], [CAMERA, CAMERA, [1, 2]])
    for entry, message in zip(entries, ("training/rgb/00000003.jpg: .*mask/00000000.jpg cannot be read",
                                        "training/rgb/00000004.jpg: xyz of label 1 is 60 numbers",
                                        "training/rgb/00000005.jpg: K of label 2 is 2 numbers")):
        with pytest.raises(SampleError, match=message):
            entry.sample()
    (tmp_path / "training/rgb/00000003.jpg").rename(tmp_path / "training/rgb/hand.jpg")
    with pytest.raises(SampleError, match="training/rgb/hand.jpg: the name is no number"):
        readers.read(tmp_path)["training"][-1].sample()


def test_freihand_files_that_do_not_belong_together_are_told(tmp_path):
    with pytest.raises(UserError, match="training_K.json and training_xyz.json are no lists of the same length"):
        freihand_set(tmp_path, [[[0, 0, 1.0]] * 21], [0], cameras=[CAMERA] * 2)
    with pytest.raises(UserError, match="rgb holds no .jpg"):
        freihand_set(tmp_path / "empty", [[[0, 0, 1.0]] * 21], [])


def test_freihand_the_evaluation_is_read_where_its_labels_are(tmp_path):
    freihand_set(tmp_path, [[[0, 0, 1.0]] * 21], [0])
    write(tmp_path / "evaluation_K.json", [CAMERA])
    write(tmp_path / "evaluation/rgb/00000000.jpg", plain_picture())
    assert list(readers.read(tmp_path)) == ["training"]
    write(tmp_path / "evaluation_xyz.json", [[[0, 0, 1.0]] * 21])
    assert readers.read(tmp_path)["evaluation"][0].sample().key == "evaluation_00000000.jpg"
