"""Contact sheets: pictures with their mask's outline and skeleton, a few lines of text under each, many on one PNG."""

import pathlib

import cv2
import numpy as np

from mcc_caffe.core.drawing import draw_skeleton
from mcc_caffe.core.files import write_whole
from mcc_caffe.core.geometry import apply, resize
from mcc_caffe.core.hand import FINGERS, NAMES
from mcc_caffe.data.samples import Sample

TILE = 240  # pixels, side of a picture's tile
OUTLINE = (0, 255, 255)  # BGR, yellow: no finger's colour
PAPER, INK, EMPTY = 255, 30, 225
PAGE_WIDTH, PAGE_HEIGHT = 1960, 2460
GAP = 4
_FONT, _FONT_SCALE, _LINE, _MARGIN = cv2.FONT_HERSHEY_SIMPLEX, 0.38, 14, 18


def fit(width: int, height: int) -> np.ndarray:
    """Map of a picture of width x height pixels into a TILE x TILE square, its longer side filling it, from the left-top corner."""
    scale = TILE / max(width, height)
    return resize(max(1, round(width * scale)) / width, max(1, round(height * scale)) / height)


def sample_tile(sample: Sample) -> np.ndarray:
    """TILE x TILE picture of a sample: the mask's outline (holes too) and the labelled keypoints over its image.

    The mask is not drawn where its size is not the image's. Raises SampleError where the image or mask cannot be decoded.
    """
    image, mask, keypoints = sample.image(), sample.mask(), sample.keypoints
    height, width = image.shape[:2]
    to_tile = fit(width, height)
    size = tuple(np.rint((to_tile[0, 0] * width, to_tile[1, 1] * height)).astype(int).tolist())
    drawn = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if max(width, height) > TILE else cv2.INTER_LINEAR
    )
    if mask is not None and mask.shape == (height, width):
        small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        cv2.drawContours(
            drawn, cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0], -1, OUTLINE, 1
        )
    present = (keypoints[:, 2] > 0) & np.isfinite(keypoints).all(axis=1)
    tile = empty_tile()
    tile[: size[1], : size[0]] = drawn
    points = apply(to_tile, np.where(present[:, None], keypoints[:, :2], 0)).clip(-TILE, 2 * TILE)
    return draw_skeleton(tile, points, present)


def empty_tile(height: int = TILE, width: int = TILE) -> np.ndarray:
    """A light grey tile: nothing is there, or nothing can be drawn."""
    return np.full((height, width, 3), EMPTY, np.uint8)


def missing_text(keypoints: np.ndarray) -> str:
    """Which of the keypoints (21, 3) are missing, short: `missing: wrist, thumb, index 3 4`; a finger's name stands for all of it."""
    missing = keypoints[:, 2] == 0
    if not missing.any():
        return "all 21 keypoints"
    if missing.all():
        return "no keypoint"
    names = ["wrist"] if missing[0] else []
    for finger in FINGERS:
        joints = [
            name[-1] for name, gone in zip(NAMES, missing) if gone and name.startswith(finger)
        ]
        names += [f"{finger} {' '.join(joints)}" if len(joints) < 4 else finger] if joints else []
    return f"missing: {', '.join(names)}"


def captioned(tile: np.ndarray, *texts: str, lines: int) -> np.ndarray:
    """The tile with room for so many lines under it, which hold the texts, wrapped; each text starts a new line."""
    wrapped = [line for text in texts for line in wrap(text, tile.shape[1] - _MARGIN)]
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], wrapped[lines - 1] + " ..."]
    margin = np.full((lines * _LINE + 6, tile.shape[1], 3), PAPER, np.uint8)
    for row, line in enumerate(wrapped, start=1):
        cv2.putText(
            margin, line, (1, row * _LINE - 2), _FONT, _FONT_SCALE, (INK,) * 3, 1, cv2.LINE_AA
        )
    return np.vstack([tile, margin])


def wrap(text: str, width: int) -> list:
    """The text in lines that are at most `width` pixels wide; a word that is longer is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if _width(longer) <= width:
            lines[-1] = longer
            continue
        while _width(word) > width:
            fitting = next(n for n in range(len(word), 0, -1) if _width(word[:n]) <= width)
            lines.append(word[:fitting])
            word = word[fitting:]
        lines.append(word)
    return [line for line in lines if line]


def _width(text: str) -> int:
    return cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0]


def pages(tiles: list) -> list:
    """The tiles, all of one size, in rows from left to right, on as few pictures of at most PAGE_WIDTH x PAGE_HEIGHT as hold them."""
    height, width = np.add(tiles[0].shape[:2], GAP)
    columns = min((PAGE_WIDTH - GAP) // width, len(tiles))
    page_tiles = columns * ((PAGE_HEIGHT - GAP) // height)
    found = []
    for first in range(0, len(tiles), page_tiles):
        here = tiles[first : first + page_tiles]
        page = np.full(
            (-(-len(here) // columns) * height + GAP, columns * width + GAP, 3), PAPER, np.uint8
        )
        for place, tile in enumerate(here):
            y, x = place // columns * height + GAP, place % columns * width + GAP
            page[y : y + height - GAP, x : x + width - GAP] = tile
        found.append(page)
    return found


def write_pages(tiles: list, path: pathlib.Path) -> list:
    """Writes the tiles' pages: `path` or, where there are several, name-1.png, name-2.png ...; returns their paths."""
    found = pages(tiles)
    paths = (
        [path]
        if len(found) == 1
        else [path.with_name(f"{path.stem}-{number}.png") for number in range(1, len(found) + 1)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    for page, one in zip(found, paths):
        write_whole(one, cv2.imencode(".png", page)[1].tobytes())
    return paths
