"""Contact sheets: many images on one PNG, each with mask outline, skeleton and a caption."""

import glob
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from mcc_caffe.core.drawing import draw_skeleton
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.geometry import apply, resize_affine
from mcc_caffe.core.hand import FINGERS, NAMES
from mcc_caffe.core.images import is_png_of, marked_png
from mcc_caffe.core.output_checks import check_output
from mcc_caffe.data.samples import Sample

TILE = 240  # pixels, side of an image's tile
OUTLINE = (0, 255, 255)  # BGR, yellow: no finger's colour
PAPER, INK, EMPTY = 255, 30, 225
PAGE_WIDTH, PAGE_HEIGHT = 1960, 2460
GAP = 4
_PROGRAM = "mcc_caffe sheet"  # the mark of a sheet
_FONT, _FONT_SCALE, _LINE, _MARGIN = cv2.FONT_HERSHEY_SIMPLEX, 0.38, 14, 18


def sample_tile(sample: Sample) -> np.ndarray:
    """Draw a sample: its image, the outline of the mask and its holes, the labelled keypoints.

    The mask is not drawn where its size is not the image's.

    Returns:
        TILE x TILE x 3 BGR uint8.

    Raises:
        SampleError: The image or the mask cannot be decoded.
    """
    image, mask, keypoints = sample.image(), sample.mask(), sample.keypoints
    height, width = image.shape[:2]
    scale = TILE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    to_tile = resize_affine(size[0] / width, size[1] / height)
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
    """Return a light grey tile; it stands for a sample that is missing or cannot be drawn."""
    return np.full((height, width, 3), EMPTY, np.uint8)


def missing_text(keypoints: np.ndarray) -> str:
    """Say in short which keypoints are missing, such as `missing: wrist, thumb, index 3 4`.

    A finger's name alone stands for its four keypoints.

    Args:
        keypoints: (21, 3) of x, y and v: 1 where the keypoint is labelled, 0 where it is missing.
    """
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
    """Put a caption under a tile.

    Args:
        tile: HxWx3 BGR uint8.
        *texts: The caption. Each text begins a new line and is wrapped.
        lines: The height of the caption in lines. If the texts need more, the last line ends in
            " ...".

    Returns:
        The tile with the caption under it.
    """
    wrapped = [line for text in texts for line in wrap(text, tile.shape[1] - _MARGIN)]
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], wrapped[lines - 1] + " ..."]
    margin = np.full((lines * _LINE + 6, tile.shape[1], 3), PAPER, np.uint8)
    for row, line in enumerate(wrapped, start=1):
        cv2.putText(
            margin, line, (1, row * _LINE - 2), _FONT, _FONT_SCALE, (INK,) * 3, 1, cv2.LINE_AA
        )
    return np.vstack([tile, margin])


def wrap(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels; a word that is wider is cut."""
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


def pages(tiles: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Lay tiles out in rows, from left to right, on as few pages as hold them.

    Args:
        tiles: Images of one size.

    Returns:
        The pages, each at most PAGE_WIDTH x PAGE_HEIGHT pixels.
    """
    height, width = np.add(tiles[0].shape[:2], GAP)
    rows, columns = _count_grid(tiles[0])
    columns = min(columns, len(tiles))
    page_tiles = columns * rows
    sheets = []
    for first in range(0, len(tiles), page_tiles):
        on_page = tiles[first : first + page_tiles]
        page = np.full(
            (-(-len(on_page) // columns) * height + GAP, columns * width + GAP, 3), PAPER, np.uint8
        )
        for position, tile in enumerate(on_page):
            row, column = divmod(position, columns)
            y, x = row * height + GAP, column * width + GAP
            page[y : y + height - GAP, x : x + width - GAP] = tile
        sheets.append(page)
    return sheets


def _count_grid(tile: np.ndarray) -> tuple[int, int]:
    """Return how many rows and columns of such tiles a page holds."""
    height, width = tile.shape[:2]
    return (PAGE_HEIGHT - GAP) // (height + GAP), (PAGE_WIDTH - GAP) // (width + GAP)


def check_pages(path: Path, tile: np.ndarray, most_tiles: int) -> None:
    """Check that the pages of `path` replace nothing but sheets.

    Args:
        path: The PNG of a single page, as `make_page_files` takes it.
        tile: A tile as large as the largest that may come.
        most_tiles: How many tiles may come.

    Raises:
        UserError: There is a file that is no sheet at `path`, or where a further page may go, whose
            name the user did not give.
    """
    check_output(path, _is_sheet, "is no sheet of this program")
    rows, columns = _count_grid(tile)
    most_pages = -(-most_tiles // (rows * columns))
    if most_pages <= 1:
        return
    for page in path.parent.glob(f"{glob.escape(path.stem)}-[1-9]*.png"):
        number = page.stem.removeprefix(f"{path.stem}-")
        if not (number.isascii() and number.isdecimal() and int(number) <= most_pages):
            continue  # no page gets such a name
        if not _is_sheet(page):
            raise UserError(
                f"{page} might be overwritten, as the second and further pages of {path} have such "
                "names, and is no sheet of this program: give another --out"
            )


def _is_sheet(path: Path) -> bool:
    """Tell whether a file is a sheet of this program."""
    return path.is_file() and is_png_of(path, _PROGRAM)


def make_page_files(tiles: Sequence[np.ndarray], path: Path) -> dict[Path, bytes]:
    """Return the files of the pages that hold the tiles.

    Args:
        tiles: Images of one size; there may be none.
        path: The PNG of a single page; several are name-1.png, name-2.png, ...

    Returns:
        {path: content}, a page a file; none where there are no tiles.
    """
    sheets = pages(tiles) if tiles else []
    paths = (
        [path] if len(sheets) == 1 else list(itertools.islice(_numbered_paths(path), len(sheets)))
    )
    return {
        page_path: marked_png(page, _PROGRAM) for page, page_path in zip(sheets, paths, strict=True)
    }


def find_pages(path: Path) -> list[Path]:
    """Return the sheets of this program that an earlier run left at `path`'s names."""
    return [
        *filter(_is_sheet, [path]),
        *itertools.takewhile(_is_sheet, _numbered_paths(path)),
    ]


def _numbered_paths(path: Path) -> Iterator[Path]:
    """Return the paths of the pages where there are several, without end."""
    return (path.with_name(f"{path.stem}-{number}.png") for number in itertools.count(1))
