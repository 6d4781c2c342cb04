"""The check of a data set: sets with one fault of each kind planted."""

import json

import cv2
import numpy as np
import pytest

from data_tools import faults
from data_tools.readers.onehand10k import LABELS, read_entries
from data_tools.readers.shared import frame_sample
from mcc_caffe.core.files import write_together
from mcc_caffe.core.hand import NAMES
from mcc_caffe.data import sheet
from mcc_caffe.data.samples import Sample
from mcc_caffe.data.sheet import (
    EMPTY,
    GAP,
    INK,
    TILE,
)
from tests.support.commands import refusal, run
from tests.support.hands import (
    HEIGHT,
    WIDTH,
    hand,
    keypoints_at,
    moved,
    write_layout,
    write_set,
    write_unchecked_set,
)
from tests.support.images import encoded
from tests.support.readers import write_shared_image


def mask_png(value: int, size: tuple = (HEIGHT, WIDTH)) -> bytes:
    return encoded(np.full(size, value, np.uint8))


def at_half_size(image: np.ndarray) -> bytes:
    return cv2.imencode(
        ".jpg", cv2.resize(image, None, fx=0.5, fy=0.5), [cv2.IMWRITE_JPEG_QUALITY, 60]
    )[1].tobytes()


def faulty_samples() -> dict:
    """{split: samples}.

    Train has a clean one, then one with each fault; Test a clean one and two of Train's images.
    """
    clean = [hand(number) for number in range(14)]
    corner = encoded(np.pad(np.full((10, 10), 255, np.uint8), ((0, HEIGHT - 10), (0, WIDTH - 10))))
    collapsed = np.column_stack(
        [clean[7].keypoints[0, :2] + np.arange(21)[:, None] % 2, np.ones(21)]
    )
    far = clean[9].keypoints[NAMES.index("pinky_4")]
    train = [
        clean[0],
        hand(1, image_bytes=b"no jpeg"),
        hand(2, keypoints=moved(clean[2], pinky_4=(WIDTH + 1, 30, 1))),
        hand(3, keypoints=moved(clean[3], ring_4=(125, 5, 1))),
        hand(4, mask_png=mask_png(0)),
        hand(5, mask_png=mask_png(255)),
        hand(6, mask_png=corner),
        hand(7, keypoints=collapsed.astype(np.float32)),
        hand(8, keypoints=keypoints_at()),
        hand(9, keypoints=moved(clean[9], thumb_4=far)),
        hand(0, key="10.jpg"),
    ]
    test = [
        clean[11],
        hand(0, key="2.jpg", keypoints=moved(clean[0], wrist=(-1, -1, 0))),
        hand(
            9,
            key="3.jpg",
            image_bytes=at_half_size(clean[9].image()),
            mask_png=mask_png(0, (60, 80)),
            keypoints=keypoints_at(),
        ),
    ]
    return {"Train": train, "Test": test}


# The expected findings: split, index in it, kind, part of the message.
IN_BOTH = {
    ("Train", 1, "unusable", "the image (7 bytes) cannot be decoded"),
    ("Train", 2, "outside_image", "pinky_4 (161, 30); the source image is 160 x 120"),
    ("Train", 3, "outside_mask", "ring_4 (125, 5); up to "),
    ("Train", 4, "empty_mask", "21 keypoints are labelled"),
    ("Train", 5, "full_mask", ""),
    ("Train", 6, "mask_elsewhere", ""),
    ("Train", 7, "collapsed", "21 keypoints in 2 places, 1 pixels apart at most"),
    ("Train", 8, "no_keypoint", ""),
    ("Train", 9, "long_bone", "thumb_3 to thumb_4 is "),
    ("Train", 10, "duplicate", "{train0}, with the same keypoints"),
    ("Test", 1, "leak", "{train0}, with other keypoints"),
    ("Test", 2, "no_keypoint", ""),
    ("Test", 2, "near_leak", "looks like {train9}"),
}


def check(source, out, code: int) -> tuple:
    """(report, stdout) of the command, which must end with `code`."""
    done = run("data_tools.check", source, "--out", out)
    assert done.returncode == code, done.stderr
    return json.loads((out / "report.json").read_text()), done.stdout


def assert_findings(report: dict, expected: set, locations: dict) -> None:
    """The report has the expected findings only; locations: {split: its samples' locations}."""
    findings = {(finding["sample"], finding["kind"]): finding for finding in report["findings"]}
    assert len(findings) == len(report["findings"])
    assert set(findings) == {(locations[split][index], kind) for split, index, kind, _ in expected}
    for split, index, kind, message in expected:
        finding = findings[locations[split][index], kind]
        assert (
            message.format(train0=locations["Train"][0], train9=locations["Train"][9])
            in finding["message"]
        )
        assert not finding["message"].startswith(
            (finding["sample"], finding["sample"].partition("/")[2])
        )
        assert finding["fault"] == (kind in faults.FAULTS) and finding["sample"].startswith(
            f"{finding['split']}/"
        )
    assert report["faults"] == sum(kind in faults.FAULTS for _, _, kind, _ in expected)
    assert report["faults"] + report["warnings"] == len(expected)


def assert_sheet(path, suspects: int, lines: int) -> np.ndarray:
    """The sheet has a row of tiles for each 8 suspects, every one with text under it."""
    sheet = cv2.imread(str(path))
    height, width = TILE + lines * 14 + 6 + GAP, TILE + GAP
    assert sheet.shape == (-(-suspects // 8) * height + GAP, 8 * width + GAP, 3)
    for index in range(suspects):
        text = sheet[index // 8 * height + GAP + TILE :, index % 8 * width + GAP :][
            : lines * 14, :TILE
        ]
        assert (text <= INK + 40).sum() > 200
    return sheet


def test_every_fault_of_a_source_folder_is_found(tmp_path):
    """Also those that only label files have: a cut line, a missing file, another size."""
    source = write_layout(tmp_path / "set", faulty_samples())
    labels = source / "Train" / LABELS
    lines = labels.read_text().splitlines()
    for name, size, fields in (
        ("20.jpg", "160,120", 5),
        ("21.jpg", "160,120", 46),
        ("11.jpg", "120,160", 46),
    ):
        (source / "Train/source/11.jpg").write_bytes(hand(12).image_bytes)
        (source / "Train/mask/11.png").write_bytes(mask_png(255))
        lines.append(",".join([name, *size.split(","), *lines[0].split(",")[3:]][:fields]))
    labels.write_text("\n".join(lines) + "\n")
    report, text = check(source, tmp_path / "out", code=3)
    locations = {
        split: [f"{split}/{LABELS}:{number}" for number in range(1, 15)]
        for split in ("Train", "Test")
    }
    expected = IN_BOTH | {
        ("Train", 11, "unusable", "5 fields, 46 are needed"),
        ("Train", 12, "unusable", "21.jpg cannot be read (No such file or directory)"),
        ("Train", 13, "unusable", "the image is 160 x 120, the label says 120 x 160"),
    }
    assert_findings(report, expected, locations)
    for finding in report["findings"]:
        assert f"  {finding['sample']}: {finding['message']}\n" in text
    assert "FAULT unusable, 4 x" in text and "warning duplicate, 1 x" in text
    assert "10 faults, 6 warnings" in text.splitlines()[-1]
    sheet = assert_sheet(tmp_path / "out/suspects.png", 15, lines=5)
    tiles = [
        sheet[GAP + index // 8 * (TILE + 80) :, GAP + index % 8 * (TILE + GAP) :][:TILE, :TILE]
        for index in range(15)
    ]
    assert [index for index, tile in enumerate(tiles) if (tile == EMPTY).all()] == [
        0,
        6,
        7,
        8,
    ]  # unusable; the last 6 are warnings


def test_every_fault_of_lmdb_sets_is_found(tmp_path):
    splits = faulty_samples()
    clean = hand(13)
    splits["Train"] += [
        hand(13, key="11.jpg", mask_png=mask_png(255, (WIDTH, HEIGHT))),
        hand(
            12, key="12.jpg", keypoints=moved(clean, index_2=(np.nan, 20, 1), index_3=(30, 20, 0.5))
        ),
        hand(13, key="13.jpg", keypoints=clean.keypoints[:20]),
    ]
    names = {"Train": "train", "Test": "validation"}
    for split, name in names.items():
        write_unchecked_set(tmp_path / "lmdb" / name, splits[split])
    report, _ = check(tmp_path / "lmdb", tmp_path / "out", code=3)
    locations = {
        split: [f"{name}/{index:08d}_{sample.key}" for index, sample in enumerate(splits[split])]
        for split, name in names.items()
    }
    expected = IN_BOTH | {
        ("Train", 11, "unusable", "the mask is 120 x 160, the image 160 x 120"),
        ("Train", 12, "bad_number", "index_2 is (nan, 20.0, 1.0), index_3 is (30.0, 20.0, 0.5)"),
        ("Train", 13, "unusable", "the record has 60 keypoint numbers, 63 are needed"),
    }
    assert_findings(report, expected, locations)
    assert_sheet(tmp_path / "out/suspects.png", 15, lines=5)


def test_a_clean_set_has_none_and_its_numbers_are_right(tmp_path):
    lacking = moved(hand(2), wrist=(-1, -1, 0), index_4=(-1, -1, 0))
    samples = {"Train": [hand(1), hand(2, keypoints=lacking), hand(5)], "Test": [hand(4)]}
    (tmp_path / "out").mkdir()
    source = write_layout(tmp_path / "set", samples)
    for name, reason in (
        ("suspects-1.png", "might be overwritten, as the second and further pages of "),
        ("suspects.png", "would be overwritten and is no sheet of this program: "),
    ):
        (tmp_path / "out" / name).write_bytes(b"of the user")
        done = run("data_tools.check", source, "--out", tmp_path / "out")
        assert f"{tmp_path / 'out' / name} {reason}" in refusal(done)
        assert (tmp_path / "out" / name).read_bytes() == b"of the user"
    # Of an earlier run.
    (tmp_path / "out/report.json").write_text('{"findings": []}')
    for name in ("suspects-1.png", "suspects.png"):
        write_together(sheet.make_page_files([sheet.empty_tile()], tmp_path / "out" / name))
    report, text = check(source, tmp_path / "out", code=0)
    assert report["findings"] == [] and [path.name for path in (tmp_path / "out").iterdir()] == [
        "report.json"
    ]
    assert "0 faults, 0 warnings" in text.splitlines()[-1]
    assert "  missing   keypoints (samples): none (2), 2 (1)\n" in text
    train, test = report["splits"]["Train"], report["splits"]["Test"]
    assert (train["samples"], train["usable"], test["samples"]) == (3, 3, 1)
    assert train["width"] == {"min": 160, "median": 160, "max": 160} and train["aspect_ratio"][
        "max"
    ] == pytest.approx(4 / 3, abs=1e-4)
    shares = sorted(float(sample.mask().mean()) for sample in samples["Train"])
    assert list(train["mask_share"].values()) == pytest.approx(shares, abs=1e-4)
    assert train["images_by_missing"] == {"0": 2, "2": 1} and test["images_by_missing"] == {"0": 1}
    assert {name: share for name, share in train["missing_share"].items() if share} == {
        "wrist": 0.3333,
        "index_4": 0.3333,
    }
    assert "index 0% 0% 0% 33%" in text


@pytest.mark.parametrize("name", ["suspects.png", "suspects-1.png", "suspects-4.png"])
def test_an_image_of_the_user_beside_an_earlier_report_stays(tmp_path, name):
    source = write_layout(tmp_path / "set", {"Train": [hand(1, image_bytes=b"no jpeg")]})
    out = tmp_path / "out"
    check(source, out, code=3)
    image, report = encoded(np.zeros((4, 4, 3), np.uint8)), (out / "report.json").read_bytes()
    (out / name).write_bytes(image)
    done = run("data_tools.check", source, "--out", out)
    line = refusal(done)
    assert f"{out / name} " in line and "is no sheet of this program" in line
    assert (out / name).read_bytes() == image
    assert (out / "report.json").read_bytes() == report


@pytest.mark.parametrize("name", ["suspects-5.png", "suspects-01.png", "suspects-2026.png"])
def test_a_name_that_no_sheet_can_have_is_the_users(tmp_path, name):
    """200 suspects, the most that are drawn, fill 4 sheets."""
    source = write_layout(tmp_path / "set", {"Train": [hand(1, image_bytes=b"no jpeg")]})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(b"of the user")
    check(source, tmp_path / "out", code=3)
    check(source, tmp_path / "out", code=3)
    assert (tmp_path / "out" / name).read_bytes() == b"of the user"


def test_the_sheets_of_a_run_that_ended_before_its_report_are_replaced(tmp_path):
    source = write_layout(tmp_path / "set", {"Train": [hand(1, image_bytes=b"no jpeg")]})
    out = tmp_path / "out"
    out.mkdir()
    for name in ("suspects.png", "suspects-1.png"):
        write_together(sheet.make_page_files([sheet.empty_tile()], out / name))
    report, _ = check(source, out, code=3)
    assert [finding["kind"] for finding in report["findings"]] == ["unusable"]
    height, width = TILE + 5 * 14 + 6, TILE
    assert cv2.imread(str(out / "suspects.png")).shape == (height + 2 * GAP, width + 2 * GAP, 3)
    assert {path.name for path in out.iterdir()} == {"report.json", "suspects.png"}


def test_keypoints_outside_the_image_count_as_missing_in_a_source_as_in_its_lmdb(tmp_path):
    """x counts from 1 in many labels: 160 is a pixel outside, which is no finding."""
    sample = hand(5, keypoints=moved(hand(5), index_4=(160, 50, 1)))
    source = write_layout(tmp_path / "source", {"Train": [sample]})
    lmdb = write_set(tmp_path / "lmdb", [read_entries(source, "Train")[0].sample()])
    for folder in (source, lmdb):
        report, _ = check(folder, tmp_path / "out", code=0)
        (split,) = report["splits"].values()
        assert split["images_by_missing"] == {"1": 1} and split["missing_share"]["index_4"] == 1


def test_one_lmdb_set_without_masks(tmp_path):
    folder = write_set(tmp_path / "set", [hand(number, mask_png=None) for number in range(3)])
    report, text = check(folder, tmp_path / "out", code=0)
    assert (
        report["splits"]["set"]["without_mask"] == 3
        and report["splits"]["set"]["mask_share"] is None
    )
    assert "mask      none; 3 samples without mask" in text


@pytest.mark.parametrize(
    "source, message",
    [
        ("nowhere", "was not found"),
        ("loop", "was not found"),
        ("empty", "holds no data set"),
        ("damaged", "is no LMDB, or its start is damaged"),
    ],
)
def test_a_set_that_cannot_be_opened_gives_one_line(tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    write_set(tmp_path / "damaged/train", [hand(0)])
    (tmp_path / "damaged/train/images/data.mdb").write_bytes(b"x" * 10000)
    assert message in refusal(run("data_tools.check", tmp_path / source, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_lmdb_is_read_where_caffe_is_broken(tmp_path, monkeypatch):
    folder = write_set(tmp_path / "set", [hand(0)])
    (tmp_path / "caffe").mkdir()
    (tmp_path / "caffe/__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run("data_tools.check", folder, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr


def test_whatever_a_reader_raises_is_a_finding():
    class Entry:
        location = "here"

        def sample(self):
            raise OverflowError("too large")

    assert faults.check_sample(Entry()).findings == [
        faults.Finding("unusable", "OverflowError: too large")
    ]


@pytest.mark.parametrize(
    "x, y, kinds",
    [
        (-1, 0, []),
        (100, 50, []),
        (-1.25, 0, ["outside_image"]),
        (0, 50.25, ["outside_image"]),
        (100.25, 0, ["outside_image"]),
    ],
)
def test_one_pixel_outside_the_image_is_allowed(x, y, kinds):
    """An image of 100 x 50: its last pixels are 99 and 49."""
    assert [
        kind for kind, _ in faults.find_faults(100, 50, None, keypoints_at((x, y), (40, 20)))
    ] == kinds


class CutEntry:
    """A hand in the part of 160 x 160 pixels at (200, 130) of a source image of 640 x 480."""

    location = "here"

    def __init__(self, ring_4):
        self.ring_4 = ring_4

    def sample(self):
        mask = np.zeros((480, 640), np.uint8)
        mask[131:290, 200:360] = 255
        keypoints = hand(3).keypoints + np.float32([200, 140, 0])
        keypoints[NAMES.index("ring_4"), :2] = self.ring_4
        source = Sample("x", encoded(np.zeros((480, 640, 3), np.uint8)), encoded(mask), keypoints)
        return frame_sample(source, "here", box=(200, 130, 359, 289))


@pytest.mark.parametrize(
    "x, y, is_outside",
    [
        (-1, 200, False),
        (-1.25, 200, True),
        (640, 200, False),
        (640.25, 200, True),
        (300, 480.25, True),
    ],
)
def test_a_keypoint_of_a_crop_outside_the_source_image(x, y, is_outside):
    """It is compared with the source image, and its bone is as long as the label says."""
    checked = faults.check_sample(CutEntry((x, y)))
    assert checked.facts.size == (160, 160)
    assert checked.facts.keypoints[NAMES.index("ring_4")].tolist() == [x - 200, y - 130, 1]
    findings = dict(checked.findings)
    assert set(findings) == {"long_bone", *["outside_image"] * is_outside}
    if is_outside:
        named = f"ring_4 ({x:.0f}, {y:.0f}); the source image is 640 x 480"
        assert findings["outside_image"] == named


@pytest.mark.parametrize(
    "points, mask_from, kinds",
    [
        (
            [(120, 60), (115, 100), (115, 140), (115, 160)],
            120,
            [],
        ),  # box 100: thumbs 5 pixels beside the mask are within 5 %
        ([(120, 60), (114, 100), (120, 140), (120, 160)], 120, ["outside_mask"]),
        ([(100, 60), (120, 100), (120, 140), (120, 160)], 120, []),  # the wrist has 20 %
        ([(99, 60), (120, 100), (120, 140), (120, 160)], 120, ["outside_mask"]),
        ([(99, 60), (114, 100), (120, 140), (120, 160)], 120, ["outside_mask"]),  # half of them
        ([(99, 60), (114, 100), (114, 140), (120, 160)], 120, ["mask_elsewhere"]),  # more than half
    ],
)
def test_how_far_outside_the_mask_is_allowed(points, mask_from, kinds):
    mask = np.zeros((200, 200), np.uint8)
    mask[:, mask_from:] = 1
    assert [kind for kind, _ in faults.find_faults(200, 200, mask, keypoints_at(*points))] == kinds


def test_a_palm_that_is_long_beside_its_fingers_is_no_fault():
    """The fingers' bones are 10 pixels long, the palm's at least 140."""
    fingers = [(10 + 60 * finger, 150 - 10 * joint) for finger in range(5) for joint in range(4)]
    assert not list(faults.find_faults(300, 300, None, keypoints_at((130, 290), *fingers)))


def test_an_image_without_contrast_looks_like_no_other():
    """A pixel of the thumbnail is one grey level brighter than the others."""
    image = np.full((256, 256, 3), 100, np.uint8)
    image[:16, :16] = 101
    assert not faults.make_thumbnail(image).any()
    image[:16, :16] = 200
    assert np.linalg.norm(faults.make_thumbnail(image)) == pytest.approx(1)


@pytest.mark.parametrize(
    "points, collapsed",
    [
        ([(10, 10), (10, 10), (14, 14)], True),
        ([(10, 10), (11, 10), (15, 10)], False),
        ([(10, 10), (10, 10), (10, 10), (30, 10)], True),
        ([(10, 10), (10, 10), (20, 10), (30, 10)], False),
        ([(10, 10), (10, 10)], False),
    ],
)
def test_when_keypoints_are_collapsed(points, collapsed):
    kinds = [kind for kind, _ in faults.find_faults(100, 100, None, keypoints_at(*points))]
    assert ("collapsed" in kinds) == collapsed


def test_the_same_pixels_in_another_file_are_the_same_image_and_another_crop_is_not(tmp_path):
    original = hand(1)
    as_png = encoded(original.image())
    turned = encoded(np.ascontiguousarray(original.image()[::-1]))
    samples = [original, hand(1, key="2", image_bytes=as_png), hand(1, key="3", image_bytes=turned)]
    report, _ = check(write_set(tmp_path / "set", samples), tmp_path / "out", code=0)
    assert [
        (finding["sample"], finding["kind"])
        for finding in report["findings"]
        if finding["kind"] == "duplicate"
    ] == [("set/00000001_2", "duplicate")]


def test_hands_of_one_image_in_two_splits_are_found(tmp_path):
    """Their crops differ, so that neither the pixels nor the thumbnails agree."""
    report, _ = check(write_shared_image(tmp_path / "set"), tmp_path / "out", code=0)
    assert [(item["sample"], item["kind"], item["message"]) for item in report["findings"]] == [
        (
            f"train.json: annotation {number}",
            "divided_group",
            "of one image, hand or film with test.json: annotation 0",
        )
        for number in range(2)
    ]
