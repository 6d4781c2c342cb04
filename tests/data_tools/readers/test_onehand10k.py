"""OneHand10K's layout: label lines, images and masks."""

import shutil

import cv2
import numpy as np
import pytest

from data_tools.readers.onehand10k import LABELS, format_label, read_entries
from data_tools.readers.shared import binarize_mask, decode_mask
from mcc_caffe.core.errors import SampleError
from tests.support.hands import turned_jpeg
from tests.support.images import encoded
from tests.support.readers import replace_line


def test_label_line_round_trip(layout):
    keypoints = np.tile([50.0, 60.0, 1.0], (21, 1))
    keypoints[3], keypoints[4] = (-1, -1, 0), (0, 119, 1)
    replace_line(layout, 3, format_label("3.jpg", 160, 120, keypoints))
    sample = read_entries(layout, "Train")[2].sample()
    assert np.array_equal(sample.keypoints, keypoints) and sample.outside == ()
    assert sample.key == "Train_3.jpg"
    assert (sample.keypoints[sample.keypoints[:, 2] == 0] == (-1, -1, 0)).all()


def test_images_whose_names_become_equal_have_keys_of_their_own(layout):
    for kind, ending in (("source", "jpg"), ("mask", "png")):
        folder = layout / "Train" / kind
        (folder / "a").mkdir()
        (folder / f"1.{ending}").rename(folder / f"a/1.{ending}")
        (folder / f"2.{ending}").rename(folder / f"a_1.{ending}")
    lines = [entry.line for entry in read_entries(layout, "Train")]
    for number, (old, new) in enumerate((("1.jpg", "a/1.jpg"), ("2.jpg", "a_1.jpg")), start=1):
        replace_line(layout, number, lines[number - 1].replace(old, new, 1))
    replace_line(layout, 3, lines[0].replace("1.jpg", "./a/1.jpg", 1))  # the first once more
    keys = [entry.sample().key for entry in read_entries(layout, "Train")[:3]]
    assert keys == ["Train_a_1.jpg", "Train_a_1.jpg_2", "Train_a_1.jpg"]


def test_windows_line_ends_blank_lines_and_a_mark_at_the_start_are_read(layout):
    path = layout / "Train" / LABELS
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert [entry.sample().key for entry in read_entries(layout, "Train")] == [
        f"Train_{n}.jpg" for n in range(1, 7)
    ]


def test_one_coordinate_of_minus_one_is_missing(layout):
    fields = read_entries(layout, "Train")[0].line.split(",")
    fields[4:8] = ["-1", "30", "40", "50"]
    replace_line(layout, 1, ",".join(fields))
    keypoints = read_entries(layout, "Train")[0].sample().keypoints
    assert keypoints[0].tolist() == [-1, -1, 0] and keypoints[1].tolist() == [40, 50, 1]


def test_spaces_around_commas_are_read(layout):
    line = read_entries(layout, "Train")[0].line
    expected = read_entries(layout, "Train")[0].sample()
    replace_line(layout, 1, line.replace(",", " , "))
    sample = read_entries(layout, "Train")[0].sample()
    assert sample.key == expected.key and np.array_equal(sample.keypoints, expected.keypoints)


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x85"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_only_line_ends_end_a_line(layout, separator, line_end):
    name = f"a{separator}b.jpg"
    (layout / "Train/source/1.jpg").rename(layout / "Train/source" / name)
    (layout / "Train/mask/1.png").rename(layout / f"Train/mask/a{separator}b.png")
    labels = layout / "Train/label_joint.txt"
    lines = labels.read_text().replace("1.jpg", name, 1).rstrip("\n").split("\n")
    labels.write_bytes(line_end.join([*lines, ""]).encode())
    entries = read_entries(layout, "Train")
    assert len(entries) == 6 and entries[0].sample().key == f"Train_{name}"


def test_an_exif_orientation_turns_neither_image_nor_labels(layout):
    """The label refers to the 40 x 20 pixels as stored; the EXIF data say "turn by 90 degrees"."""
    shutil.rmtree(layout / "Train/mask")
    (layout / "Train/source/1.jpg").write_bytes(turned_jpeg())
    replace_line(layout, 1, format_label("1.jpg", 40, 20, np.tile([39.0, 19.0, 1.0], (21, 1))))
    sample = read_entries(layout, "Train")[0].sample()
    assert sample.image().shape == (20, 40, 3) and sample.keypoints[20].tolist() == [39, 19, 1]
    assert decode_mask(turned_jpeg(), "here").shape == (20, 40)


def test_a_mask_may_be_any_two_valued_image_of_the_images_size(layout):
    path = layout / "Train/mask/1.png"
    drawn = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    path.write_bytes(encoded(np.where(drawn[..., None], (3, 200, 120), (9, 0, 0)).astype(np.uint8)))
    assert np.array_equal(read_entries(layout, "Train")[0].sample().mask() > 0, drawn > 0)
    path.write_bytes(encoded(drawn[:, :100]))
    with pytest.raises(
        SampleError,
        match="Train/label_joint.txt:1: mask/1.png: the mask is 100 x 120, the image 160 x 120",
    ):
        read_entries(layout, "Train")[0].sample()


def test_a_missing_mask_is_an_error_unless_the_split_has_none(layout):
    (layout / "Train/mask/2.png").unlink()
    with pytest.raises(SampleError, match="Train/label_joint.txt:2: .*2.png cannot be read"):
        read_entries(layout, "Train")[1].sample()
    shutil.rmtree(layout / "Train/mask")
    assert read_entries(layout, "Train")[1].sample().mask_png is None


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: f[:-1], "Train/label_joint.txt:2: 45 fields, 46 are needed"),
        (lambda f: f + ["7"], "Train/label_joint.txt:2: 47 fields, 46 are needed"),
        (
            lambda f: f[:6] + ["12.5"] + f[7:],
            "Train/label_joint.txt:2: field 7 is '12.5', an integer is needed",
        ),
        (
            lambda f: f[:6] + ["9" * 400] + f[7:],
            "Train/label_joint.txt:2: field 7 is '9{40}', an integer is needed, at most 1000000",
        ),
        (lambda f: ["../../2.jpg"] + f[1:], "'../../2.jpg' lies outside the set's folder"),
        (lambda f: ["/etc/passwd"] + f[1:], "'/etc/passwd' lies outside the set's folder"),
        (lambda f: ["a\0.jpg"] + f[1:], "cannot be a file's name .embedded null byte"),
        (lambda f: ["9" * 300] + f[1:], "cannot be read .File name too long"),
        (lambda f: ["."] + f[1:], "source is no regular file"),
        (
            lambda f: f[:4] + ["0", "1"] * 21,
            "Train/label_joint.txt:2: all keypoints lie between -2 and 2, .*: pixels are needed",
        ),
        (lambda f: ["77.jpg"] + f[1:], "Train/label_joint.txt:2: .*77.jpg cannot be read"),
        (
            lambda f: [f[0], "120", "160"] + f[3:],
            "Train/label_joint.txt:2: the image is 160 x 120, the label says 120 x 160",
        ),
    ],
)
def test_bad_lines_name_line_and_field(layout, change, message):
    replace_line(layout, 2, ",".join(change(read_entries(layout, "Train")[1].line.split(","))))
    with pytest.raises(SampleError, match=message):
        read_entries(layout, "Train")[1].sample()


def test_images_in_sub_folders_have_masks_of_their_own(layout):
    """a/1.jpg and b/1.jpg: the masks lie in a/ and b/ too."""
    lines = []
    for number, folder in ((1, "a"), (2, "b")):
        for kind, ending in (("source", "jpg"), ("mask", "png")):
            (layout / "Train" / kind / folder).mkdir()
            (layout / "Train" / kind / f"{number}.{ending}").rename(
                layout / "Train" / kind / folder / f"1.{ending}"
            )
        line = read_entries(layout, "Train")[number - 1].line
        lines.append(line.replace(f"{number}.jpg", f"{folder}/1.jpg"))
    masks = [
        cv2.imread(str(layout / "Train/mask" / folder / "1.png"), cv2.IMREAD_GRAYSCALE) > 0
        for folder in "ab"
    ]
    (layout / "Train" / LABELS).write_text("\n".join(lines))
    samples = [entry.sample() for entry in read_entries(layout, "Train")]
    assert [sample.key for sample in samples] == ["Train_a_1.jpg", "Train_b_1.jpg"]
    assert all(np.array_equal(sample.mask(), mask) for sample, mask in zip(samples, masks))


def test_images_that_would_share_a_mask_are_an_error(layout):
    line = read_entries(layout, "Train")[0].line
    replace_line(layout, 2, line.replace("1.jpg", "1.jpeg"))
    shutil.copy(layout / "Train/source/1.jpg", layout / "Train/source/1.jpeg")
    replace_line(layout, 4, line.replace("1.jpg", "x/../1.jpeg"))
    entries = read_entries(layout, "Train")
    for entry in (entries[0], entries[1], entries[3]):
        with pytest.raises(SampleError, match="mask/(x/../)?1.png would be the mask of other imag"):
            entry.sample()
    entries[2].sample()


def test_a_keypoint_outside_the_image_is_missing(layout):
    """The last pixel is 159, 119; a keypoint there stays, one pixel further it is outside."""
    keypoints = np.tile([50.0, 60.0, 1.0], (21, 1))
    keypoints[:4, :2] = (159, 119), (160, 60), (50, -3), (500, 120)
    replace_line(layout, 1, format_label("1.jpg", 160, 120, keypoints))
    sample = read_entries(layout, "Train")[0].sample()
    assert sample.keypoints[:5].tolist() == [
        [159, 119, 1],
        [-1, -1, 0],
        [-1, -1, 0],
        [-1, -1, 0],
        [50, 60, 1],
    ]
    assert sample.outside == ((1, 160, 60), (2, 50, -3), (3, 500, 120))


def test_images_without_a_line_are_counted(layout, caplog):
    (layout / "Train/source/more").mkdir()
    for name in ("77.jpg", "more/1.jpg"):
        shutil.copy(layout / "Train/source/1.jpg", layout / "Train/source" / name)
    assert len(read_entries(layout, "Train")) == 6
    assert "label_joint.txt: passed over 2 files of source/ that no line names" in caplog.text


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (3, 250)])
def test_any_two_valued_mask_becomes_binary(values):
    mask = np.array([[values[0], values[1]]], np.uint8)
    png = binarize_mask(encoded(mask), "here")
    assert cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED).tolist() == [[0, 255]]
    assert png[24:26] == b"\1\0"  # one bit a pixel, grey


def test_an_empty_mask_stays_empty():
    png = binarize_mask(encoded(np.zeros((3, 3), np.uint8)), "here")
    assert not cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED).any()
