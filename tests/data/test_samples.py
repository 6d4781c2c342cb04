"""Samples, their LMDB records, and the writer that leaves a whole set or none."""

import dataclasses
import json
import pathlib
import pickle
import shutil
import struct

import cv2
import lmdb
import numpy as np
import pytest

from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.data.samples import (
    ANNOTATIONS,
    IMAGES,
    Sample,
    SampleSet,
    find_broken_keypoints,
)
from mcc_caffe.data.writers import SampleWriter
from tests.support.commands import refusal, run
from tests.support.hands import HEIGHT, WIDTH, hand, turned_jpeg, write_set
from tests.support.images import encoded


def test_a_set_gives_back_what_was_written(drawn_samples, drawn_set):
    samples = SampleSet(drawn_set)
    assert len(samples) == len(drawn_samples)
    for index, (written, key) in enumerate(zip(drawn_samples, samples.keys)):
        read = samples[index]
        assert read.key == key.decode() == f"{index:08d}_{written.key}"
        assert read.image_bytes == written.image_bytes  # to the byte: never compressed again
        assert read.mask_png == written.mask_png
        assert np.array_equal(read.keypoints, written.keypoints)
    assert samples.info()["samples"] == len(drawn_samples)


def test_records_are_plain_caffe_datums(drawn_samples, tmp_path):
    """What a stock tool sees: Caffe's own Datum, encoded, with a label."""
    from caffe.proto import caffe_pb2

    folder = write_set(tmp_path / "set", drawn_samples[:1])
    with lmdb.open(str(folder / "images"), readonly=True, lock=False).begin() as transaction:
        key, value = next(iter(transaction.cursor()))
    datum = caffe_pb2.Datum.FromString(value)
    assert datum.encoded and datum.label == 0
    assert cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_COLOR).shape == (
        140,
        100,
        3,
    )


def test_mask_is_binary_and_of_the_images_size(drawn_samples):
    for sample in drawn_samples:
        assert sample.mask().shape == sample.image().shape[:2]
        assert set(np.unique(sample.mask())) == {0, 1}


def test_a_sample_without_mask(drawn_samples, tmp_path):
    sample = drawn_samples[0]
    read = SampleSet(write_set(tmp_path / "set", [dataclasses.replace(sample, mask_png=None)]))[0]
    assert read.mask_png is None and read.mask() is None


def test_a_sample_equals_itself_alone_and_can_be_a_key(drawn_set):
    sample, again = SampleSet(drawn_set)[0], SampleSet(drawn_set)[0]
    assert sample == sample and sample != again
    assert {sample: 1, again: 2}[again] == 2


def test_a_sample_is_printed_without_its_image_and_labels(drawn_samples):
    sample = drawn_samples[0]
    text = repr(sample)
    assert f"key={sample.key!r}" in text and len(text) < 200


def test_a_set_can_be_gone_through_and_pickled(drawn_set):
    samples = SampleSet(drawn_set)
    assert [sample.key for sample in samples] == [key.decode() for key in samples.keys]
    again = pickle.loads(pickle.dumps(samples))
    assert again.keys == samples.keys and again[-1].image_bytes == samples[-1].image_bytes
    assert repr(samples) == f"SampleSet({str(drawn_set)!r})"
    with pytest.raises(TypeError, match="slice"):
        samples[0:2]


def test_exif_orientation_is_ignored():
    """The labels refer to the pixels as stored."""
    assert Sample("x", turned_jpeg(), None, np.zeros((21, 3))).image().shape == (20, 40, 3)


def plain_sample(ending: str, size: tuple = (83, 45)) -> Sample:
    image = np.full((size[1], size[0], 3), (50, 100, 150), np.uint8)
    return Sample("x", encoded(image, ending), None, np.zeros((21, 3)))


def test_a_jpeg_tells_its_size_and_is_decoded_at_a_part_of_it():
    sample = plain_sample(".jpg")
    assert sample.jpeg_size() == (83, 45)
    for reduced, shape in ((1, (45, 83, 3)), (2, (23, 42, 3)), (4, (12, 21, 3)), (8, (6, 11, 3))):
        image = sample.image(reduced)
        assert image.shape == shape and np.abs(image.astype(int) - (50, 100, 150)).max() <= 2
    turned = Sample("x", turned_jpeg(), None, np.zeros((21, 3)))
    assert turned.jpeg_size() == (40, 20) and turned.image(2).shape == (
        10,
        20,
        3,
    )  # EXIF's orientation is ignored by both


@pytest.mark.parametrize("width, height", [(12_000, 10_000), (16_000, 12_000)])
def test_a_large_jpeg_tells_its_size_without_a_warning(width, height, recwarn):
    jpeg = plain_sample(".jpg").image_bytes
    sides = jpeg.index(b"\xff\xc0") + 5  # of the frame's header: height and width
    large = jpeg[:sides] + struct.pack(">HH", height, width) + jpeg[sides + 4 :]
    assert Sample("x", large, None, np.zeros((21, 3))).jpeg_size() == (width, height)
    assert not recwarn.list


@pytest.mark.parametrize("ending", [".png", ".webp", ".bmp", ".tiff"])
def test_other_formats_do_not_tell_their_size(ending):
    assert plain_sample(ending).jpeg_size() is None


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0 cut"])
def test_an_undecodable_image_is_named(data):
    sample = Sample("seven", data, None, np.zeros((21, 3)))
    assert sample.jpeg_size() is None
    with pytest.raises(
        SampleError, match=f"seven: the image \\({len(data)} bytes\\) cannot be decoded"
    ):
        sample.image()


def test_the_map_grows(tmp_path, monkeypatch):
    monkeypatch.setattr("mcc_caffe.data.writers._FIRST_MAP_SIZE", 1 << 16)
    rng = np.random.default_rng(0)
    samples = [Sample(f"{i}", rng.bytes(50_000), None, np.zeros((21, 3))) for i in range(120)]
    read = SampleSet(write_set(tmp_path / "set", samples))
    assert [read[i].image_bytes for i in range(120)] == [sample.image_bytes for sample in samples]


def test_an_error_leaves_nothing(tmp_path, drawn_samples):
    with pytest.raises(RuntimeError), SampleWriter(tmp_path / "set") as writer:
        writer.add(drawn_samples[0])
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_mask_of_another_size_is_not_written(tmp_path):
    mask_png = encoded(np.full((2 * HEIGHT, 2 * WIDTH), 255, np.uint8))
    with pytest.raises(SampleError, match="3.jpg: the mask is 320 x 240, the image 160 x 120"):
        write_set(tmp_path / "set", [hand(0), hand(3, mask_png=mask_png)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_bytes": pathlib.Path("3.jpg")}, "3.jpg: the image is PosixPath: the bytes of an"),
        ({"image_bytes": hand(3).image()}, "3.jpg: the image is ndarray: the bytes of an image"),
        ({"mask_png": hand(3).mask()}, "3.jpg: the mask is ndarray: the bytes of a PNG of {0, 255"),
        ({"mask_png": "3.png"}, "3.jpg: the mask is str: the bytes of a PNG"),
    ],
)
def test_what_is_no_file_is_not_written(changes, message, tmp_path):
    with pytest.raises(SampleError, match=message):
        write_set(tmp_path / "set", [hand(3, **changes)])
    assert not list(tmp_path.iterdir())


def with_keypoint_3(**changes):
    """The keypoints of a hand, of which number 3 has another value in a column."""
    keypoints = hand(0).keypoints.copy()
    for column, value in changes.items():
        keypoints[3, "xyv".index(column)] = value
    return keypoints


@pytest.mark.parametrize(
    "keypoints, words",
    [
        (np.zeros((21, 2)), r"the keypoints have the shape \(21, 2\), \(21, 3\)"),
        (np.zeros((20, 3)), r"the keypoints have the shape \(20, 3\), \(21, 3\)"),
        (None, r"the keypoints have the shape \(\), \(21, 3\)"),
        ([[1, 2], [3]], "the keypoints are no array of real numbers"),
        (np.full((21, 3), 1 + 2j), "the keypoints are no array of real numbers"),
        (with_keypoint_3(x=np.nan), "keypoint 3 is x nan, "),
        (with_keypoint_3(y=np.inf), "keypoint 3 is x .*, y inf, v 1: finite x and y are needed"),
        (with_keypoint_3(v=2), "keypoint 3 is x .*, v 2: "),
        (with_keypoint_3(v=np.nan), "keypoint 3 is x .*, v nan: "),
    ],
)
def test_malformed_keypoints_are_not_written(keypoints, words, tmp_path):
    sample = dataclasses.replace(hand(0), keypoints=keypoints)
    with pytest.raises(SampleError, match=f"{sample.key}: {words}"):
        write_set(tmp_path / "set", [sample])
    assert not list(tmp_path.iterdir())


def test_broken_keypoints_are_found():
    values = [[1, 2, 1], [np.nan, 2, 1], [1, np.inf, 0], [1, 2, 0.5], [1, 2, np.nan], [-1, -1, 0]]
    broken = find_broken_keypoints(np.array(values, np.float32))
    assert broken.tolist() == [False, True, True, True, True, False]


def test_an_existing_set_is_not_touched(tmp_path, drawn_samples):
    write_set(tmp_path / "set", drawn_samples[:1])
    with pytest.raises(UserError, match="exists already"):
        write_set(tmp_path / "set", drawn_samples)
    assert len(SampleSet(tmp_path / "set")) == 1
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="exists already"):
        write_set(tmp_path / "link", drawn_samples)


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(
        UserError, match="images/data.mdb was not found: build the set with `make lmdb`"
    ):
        SampleSet(tmp_path / "none")


def test_a_folder_of_sets_names_them(tmp_path, drawn_samples):
    write_set(tmp_path / "own/train", drawn_samples[:2])
    with pytest.raises(UserError, match=r"give one of the sets in that folder, .*own/train$"):
        SampleSet(tmp_path / "own")


def test_a_set_that_the_program_itself_has_open_is_to_be_closed(tmp_path, drawn_samples):
    folder = write_set(tmp_path / "set", drawn_samples[:2])
    for name in (IMAGES, ANNOTATIONS):
        message = f"{folder / name} is open in this process .* close.. that environment first"
        with (
            lmdb.open(str(folder / name), readonly=True, lock=False),
            pytest.raises(UserError, match=message),
        ):
            SampleSet(folder)
    assert len(SampleSet(folder)) == 2


def test_a_set_that_is_built_again_gives_its_new_samples(tmp_path, drawn_samples):
    """The one before, which is still open, goes on giving its own."""
    folder = write_set(tmp_path / "set", drawn_samples[:3])
    earlier = SampleSet(folder)
    shutil.rmtree(folder)
    write_set(folder, drawn_samples[3:5])
    (tmp_path / "link").symlink_to(folder)
    for path in (folder, tmp_path / "link"):
        samples = SampleSet(path)
        assert [sample.image_bytes for sample in samples] == [
            sample.image_bytes for sample in drawn_samples[3:5]
        ]
        assert samples.info()["samples"] == len(samples) == 2
    assert [sample.image_bytes for sample in earlier] == [
        sample.image_bytes for sample in drawn_samples[:3]
    ]


def test_a_damaged_record_is_named(tmp_path, drawn_samples):
    folder = write_set(tmp_path / "set", drawn_samples[:2])
    with (
        lmdb.open(str(folder / "annotations")) as database,
        database.begin(write=True) as transaction,
    ):
        transaction.put(b"00000000_drawn0.jpg", b"\xff\xff\xff")
        transaction.delete(b"00000001_drawn1.jpg")
    samples = SampleSet(folder)
    with pytest.raises(SampleError, match="00000000_drawn0.jpg: the record is not a Caffe Datum"):
        samples[0]
    with pytest.raises(SampleError, match="00000001_drawn1.jpg: the record is missing"):
        samples[1]


def test_info_is_json(drawn_set):
    assert json.loads((drawn_set / "info.json").read_text())["format"] == 1


@pytest.mark.parametrize(
    "info, splits",
    [({"source_splits": ["a", "b"]}, ["a", "b"]), ({}, []), ({"source_splits": [["a"]]}, [])],
)
def test_the_splits_of_a_sets_source_are_those_that_it_says(tmp_path, info, splits):
    folder = write_set(tmp_path / "set", [hand(0)])
    content = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps({**content, **info}))
    assert SampleSet(folder).source_splits == splits


def test_a_cut_lmdb_is_an_error_before_it_is_mapped(tmp_path):
    """LMDB itself dies of a bus error when it touches a page behind the file's end."""
    folder = write_set(tmp_path / "set", [hand(number) for number in range(4)])
    for name in (IMAGES, ANNOTATIONS):
        path = folder / name / "data.mdb"
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(
            UserError, match=f"data.mdb has {len(content) // 2} of its [0-9]+ bytes"
        ):
            SampleSet(folder)
        done = run("data_tools.check", folder, "--out", tmp_path / "check")
        assert "copy it again, or build the set again" in refusal(done)
        path.write_bytes(content)
    assert len(SampleSet(folder)) == 4


def test_what_is_put_at_the_target_while_a_set_is_written_stays(tmp_path):
    folder = tmp_path / "set"
    with pytest.raises(UserError, match="set exists already"), SampleWriter(folder) as writer:
        writer.add(hand(0))
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
        writer.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_key_that_is_no_text_is_read(tmp_path):
    folder = write_set(tmp_path / "set", [hand(0)])
    for name in (IMAGES, ANNOTATIONS):
        with lmdb.open(str(folder / name)) as database, database.begin(write=True) as transaction:
            ((_, record),) = list(transaction.cursor())
            transaction.put(b"\xff\xfe", record)
    samples = SampleSet(folder)
    assert samples[1].key == "\\xff\\xfe" and samples[1].image_bytes == hand(0).image_bytes


@pytest.mark.parametrize("content", [None, b"[1]", b"{", b"\xff"])
def test_a_record_of_the_build_that_cannot_be_read_is_an_error(tmp_path, content):
    folder = write_set(tmp_path / "set", [hand(0)])
    (folder / "info.json").unlink()
    if content is not None:
        (folder / "info.json").write_bytes(content)
    with pytest.raises(UserError, match="info.json .*build the set again"):
        SampleSet(folder).info()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_stored_mask_of_0_and_1_is_an_error_instead_of_empty(kind):
    mask = np.zeros((HEIGHT, WIDTH), kind)
    assert not hand(0, mask_png=encoded(mask)).mask().any()
    mask[3:9, 4:8] = 1
    with pytest.raises(SampleError, match="values up to 1, 0 and 255 are needed"):
        hand(0, mask_png=encoded(mask)).mask()


def test_deep_and_transparent_images_are_decoded_as_infer_decodes_them():
    """12 bits in 16 keep their brightness, and what is hidden by transparency is white."""
    deep = np.full((HEIGHT, WIDTH, 3), 4095, np.uint16)
    assert (hand(0, image_bytes=encoded(deep)).image() == 255).all()
    hidden = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    assert (hand(0, image_bytes=encoded(hidden)).image() == 255).all()


def test_another_set_has_another_digest(tmp_path, drawn_samples):
    first, second = drawn_samples[0], drawn_samples[2]
    assert first.image().shape == second.image().shape
    moved = dataclasses.replace(first, keypoints=first.keypoints + [1, 1, 0])
    other_image = dataclasses.replace(first, image_bytes=second.image_bytes)
    digests = [
        SampleSet(write_set(tmp_path / str(number), [sample])).digest()
        for number, sample in enumerate((first, first, moved, other_image))
    ]
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_an_image_whose_header_is_not_understood_is_left_to_the_loader(tmp_path):
    with SampleWriter(tmp_path / "set") as writer:
        writer.add(dataclasses.replace(hand(0), image_bytes=b"garbled"))
        writer.finish()
    assert SampleSet(tmp_path / "set")[0].image_bytes == b"garbled"
