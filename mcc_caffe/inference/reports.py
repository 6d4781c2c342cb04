"""The files that `mcc_caffe.infer` writes, and the mark by which it knows them again."""

from pathlib import Path
from typing import Any, TypedDict

from mcc_caffe.core.images import is_png_of

# Every result carries it: JSON and HDF5 as "program", PNG as "Software", MP4 as its comment. So a
# later run neither takes a result for an input nor replaces a file of the user's. A table is known
# by its columns.
PROGRAM = "mcc_caffe.infer"
_HAND_COLUMNS = ("image", "frame", "time", "hand", "id", "score")
POINT_COLUMNS = (*_HAND_COLUMNS, "keypoint", "x", "y", "confidence")
BOX_COLUMNS = ("box_x", "box_y", "box_width", "box_height")  # other systems may leave them out
CSV_COLUMNS = (*POINT_COLUMNS, *BOX_COLUMNS)
# How a hand was looked for, in the reports' "method".
SINGLE_PASS, SEVERAL_LOOKS, PYRAMID, SEARCH = "single pass", "looks", "pyramid", "search"
BOXES, TRACKING = "boxes", "tracking"
TIME_DIGITS = 6  # of seconds, to which every format rounds when a frame is shown
_MARK_BYTES = 1024  # from a file's start, of an MP4 from its end, in which the mark lies


class KeypointReport(TypedDict):
    """A keypoint in an image's JSON file; x, y in image pixels."""

    name: str
    x: float
    y: float
    confidence: float


class CommonReport(TypedDict):
    """What the JSON files of an image have in common.

    Attributes:
        program: PROGRAM, see there.
        image: The image's path.
        width: Its width in pixels.
        height: Its height in pixels.
        weights: As `weights.describe` returns them.
        engine: What reports call the engine.
    """

    program: str
    image: str
    width: int
    height: int
    weights: dict[str, Any]
    engine: str


class OneHandReport(CommonReport):
    """The JSON file of an image in which one hand was looked for.

    Attributes:
        method: SINGLE_PASS, SEVERAL_LOOKS, PYRAMID or SEARCH, which gave the answer.
        levels: The number of pyramid levels, null where looks or a search gave the answer.
        looks: How many looks gave the answer, null where levels or a search did.
        score: The mean confidence of all 21 keypoints.
        hand_present: As HandPose.hand_present.
        box: As HandPose.box: x, y, width, height in pixels, null where no hand is present.
        keypoints: 21, null where one is missing.
        mask_box: x, y, width, height in pixels, null where the mask is empty or no hand is present.
        seconds: As HandPose.timings.
    """

    method: str
    levels: int | None
    looks: int | None
    score: float
    hand_present: bool
    box: dict[str, int] | None
    keypoints: list[KeypointReport | None]
    mask_box: dict[str, int] | None
    seconds: dict[str, float]


class HandReport(TypedDict):
    """One hand in the JSON file of all hands of an image.

    Attributes:
        score: The mean confidence of the 21 keypoints.
        box: x, y, width, height in pixels, where the search's box head found the hand, or else
            around the keypoints.
        keypoints: 21, null where one is missing.
        mask_box: x, y, width, height in pixels, null where the mask is empty.
    """

    score: float
    box: dict[str, int]
    keypoints: list[KeypointReport | None]
    mask_box: dict[str, int] | None


class HandsReport(CommonReport):
    """The JSON file of all hands of an image.

    Attributes:
        hands: The most confident first or, with the user's boxes, in the order of the boxes.
    """

    hands: list[HandReport]


def is_own_result(path: Path) -> bool:
    """Tell by its mark whether a file is a result of `mcc_caffe.infer`.

    A folder is one if it holds such files and nothing else.
    """
    if not path.is_dir():
        return _is_own_file(path)
    try:
        entries = list(path.iterdir())
    except OSError:
        return False
    return bool(entries) and all(map(_is_own_file, entries))


def _is_own_file(path: Path) -> bool:
    suffix = path.suffix.lower()
    try:
        if suffix == ".h5":
            import h5py  # here, as it is slow to import, and few runs meet such a file

            with h5py.File(path) as file:
                program = file.attrs.get("program")
                return isinstance(program, str) and program == PROGRAM
        if suffix == ".png":
            return is_png_of(path, PROGRAM)
        if suffix not in (".json", ".mp4", ".csv"):
            return False
        with path.open("rb") as opened:
            if suffix == ".mp4":
                opened.seek(max(path.stat().st_size - _MARK_BYTES, 0))
            content = opened.read(_MARK_BYTES)
    # All but OSError are of a damaged HDF5 file.
    except (OSError, KeyError, OverflowError, RuntimeError, TypeError, ValueError):
        return False
    if suffix == ".csv":
        return content.split(b"\n")[0] == ",".join(CSV_COLUMNS).encode()
    if suffix == ".json":
        # An empty list has no room for a mark, and nothing that could be lost.
        is_marked = f'"program": "{PROGRAM}"'.encode() in content
        return (content.startswith((b"{", b"[{")) and is_marked) or content.strip() == b"[]"
    return PROGRAM.encode() in content
