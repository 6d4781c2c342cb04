"""Draws what lies behind the hand: crops of free photographs, and procedural images.

The photographs come from Debian's wallpaper packages and from scikit-image. None shows a bare hand;
those of Train and Test differ. Licences (docs/synthetic-hands.md lists them with their authors):
the wallpapers of mate-backgrounds are GPL-2+, those of lomiri-wallpapers-16.04 CC0, CC-BY or
CC-BY-SA 4.0; of scikit-image's, only those whose note in `skimage.data` says CC0, public domain or
no known copyright restrictions are used. The wallpapers are used where they are installed
(`make setup` does it where the release has them). Every function draws from the generator that it
is given.
"""

import functools
import importlib.util
from pathlib import Path

import cv2
import numpy as np

from mcc_caffe.core.errors import UserError

BUNDLED = {
    "Train": (
        "astronaut.png",
        "brick.png",
        "clock_motion.png",
        "coffee.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "retina.jpg",
    ),
    "Test": ("chelsea.png", "coins.png", "grass.png", "rocket.jpg", "text.png"),
}
WALLPAPERS = {
    "Train": (
        "Picture_1A_by_freespace.jpg",
        "Wine_by_Jakkub_Mede.jpg",
        "friends_by_Aitzol_Berasategi.jpg",
        "greentock_by_Peter_Nerlich.jpg",
        "life_by_Aitzol_Berasategi.jpg",
        "picosdeeuropa_by_Aitzol_Berasategi.jpg",
        "Bridge_by_Sander_Klootwijk.jpg",
        "free_by_Peter_Nerlich.jpg",
        "seeding_by_Clements_Engelhardt.jpg",
        "mate/nature/Blinds.jpg",
        "mate/nature/Dune.jpg",
        "mate/nature/FreshFlower.jpg",
        "mate/nature/Garden.jpg",
        "mate/nature/GreenMeadow.jpg",
        "mate/nature/LadyBird.jpg",
        "mate/nature/Storm.jpg",
        "mate/nature/Wood.jpg",
        "mate/abstract/Elephants.jpg",
    ),
    "Test": (
        "Picture_0B_by_freespace.jpg",
        "Dragonfly_by_Bolly.jpg",
        "aitzgorri_by_Aitzol_Berasategi.jpg",
        "sunset_by_Aitzol_Berasategi.jpg",
        "mate/nature/Aqua.jpg",
        "mate/nature/RainDrops.jpg",
        "mate/nature/TwoWings.jpg",
        "mate/nature/YellowFlower.jpg",
    ),
}
WALLPAPER_FOLDER = Path("/usr/share/backgrounds")
PHOTO_SHARE = 0.5
LARGEST = 1500  # pixels that a photograph is reduced to


@functools.cache
def list_photographs(split: str) -> tuple[str, ...]:
    """Return the paths of the installed photographs of "Train" or "Test".

    Raises:
        UserError: scikit-image is missing.
    """
    spec = importlib.util.find_spec("skimage")
    folder = (
        Path(spec.submodule_search_locations[0]) / "data"
        if spec and spec.submodule_search_locations
        else Path("skimage")
    )
    for name in BUNDLED[split]:
        if not (folder / name).is_file():
            raise UserError(
                f"the photograph {name} of scikit-image was not found; "
                "run: pip install 'scikit-image>=0.20,<0.27'"
            )
    bundled = [folder / name for name in BUNDLED[split]]
    wallpapers = [WALLPAPER_FOLDER / name for name in WALLPAPERS[split]]
    return tuple(map(str, bundled + [path for path in wallpapers if path.is_file()]))


@functools.cache
def _load_photograph(path: str) -> np.ndarray:
    """Load a photograph, HxWx3 uint8 BGR, its longer side at most LARGEST."""
    image = cv2.imread(path)
    if image is None:
        raise UserError(
            f"the photograph {path} cannot be decoded: install the package it belongs to again"
        )
    scale = LARGEST / max(image.shape[:2])
    if scale >= 1:
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def random_background(rng: np.random.Generator, height: int, width: int, split: str) -> np.ndarray:
    """Draw a background.

    Args:
        rng: Draws everything.
        height: Pixels.
        width: Pixels.
        split: "Train" or "Test", which share no photograph.

    Returns:
        height x width x 3 uint8 BGR.
    """
    if rng.random() < PHOTO_SHARE:
        image = _crop_photograph(rng, height, width, split)
    else:
        painters = (
            _paint_gradient,
            _paint_clouds,
            _paint_stripes,
            _paint_checkers,
            _paint_shapes,
            _paint_text,
            _paint_room,
        )
        shares = (0.12, 0.16, 0.08, 0.06, 0.2, 0.1, 0.28)
        image = painters[rng.choice(len(painters), p=shares)](rng, height, width)
    if rng.random() < 0.3:
        image = add_skin_coloured_shapes(rng, image)
    if rng.random() < 0.6:  # out of focus
        image = cv2.GaussianBlur(image, (0, 0), max(height, width) * rng.uniform(0.002, 0.02))
    return image


def add_skin_coloured_shapes(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Return the image with one to three rounded, shaded shapes in the colours of skin.

    They teach the net that not everything of that colour is a hand.
    """
    height, width = image.shape[:2]
    layer, cover = image.copy(), np.zeros((height, width), np.uint8)
    size = max(height, width)
    for _ in range(rng.integers(1, 4)):
        colour = np.clip(
            np.array((60, 80, 120))
            + np.array((120, 120, 110)) * rng.random()
            + rng.normal(0, 12, 3),
            0,
            255,
        )
        centre = rng.uniform((0, 0), (width, height)).astype(int).tolist()
        if rng.random() < 0.5:
            axes = (size * rng.uniform(0.05, 0.25, 2)).astype(int).tolist()
            turn = rng.uniform(0, 180)
            for canvas, value in ((layer, colour.tolist()), (cover, 255)):
                cv2.ellipse(canvas, centre, axes, turn, 0, 360, value, -1, cv2.LINE_AA)
        else:
            end = rng.uniform((0, 0), (width, height)).astype(int).tolist()
            thickness = int(size * rng.uniform(0.05, 0.2))
            for canvas, value in ((layer, colour.tolist()), (cover, 255)):
                cv2.line(canvas, centre, end, value, thickness, cv2.LINE_AA)
    # Darker towards the border, as round things are.
    depth = np.minimum(cv2.distanceTransform(cover, cv2.DIST_L2, 3) / (0.06 * size), 1.0) ** 0.5
    light = 0.55 + 0.45 * depth + 0.12 * _smooth_noise(rng, height, width, rng.uniform(3, 8))
    alpha = cv2.GaussianBlur(cover, (0, 0), 0.8)[..., None] / 255.0
    return np.clip(image * (1 - alpha) + layer * light[..., None] * alpha, 0, 255).astype(np.uint8)


def _crop_photograph(rng: np.random.Generator, height: int, width: int, split: str) -> np.ndarray:
    """Crop a random part of a photograph, turned, flipped and recoloured."""
    paths = list_photographs(split)
    image = _load_photograph(paths[rng.integers(len(paths))])
    if rng.random() < 0.5:
        image = image[:, ::-1]
    if rng.random() < 0.25:
        image = np.rot90(image, int(rng.integers(1, 4)))
    rows, columns = image.shape[:2]
    scale = min(rows / height, columns / width) * rng.uniform(0.35, 1.0)
    y, x = rng.uniform(0, rows - scale * height), rng.uniform(0, columns - scale * width)
    crop = image[int(y) : int(y + scale * height) + 1, int(x) : int(x + scale * width) + 1]
    return recolour(
        rng, cv2.resize(np.ascontiguousarray(crop), (width, height), interpolation=cv2.INTER_LINEAR)
    )


def recolour(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Return the image with random hue, saturation, brightness and contrast.

    Now and then the colour channels change places.
    """
    if rng.random() < 0.08:
        image = np.ascontiguousarray(image[..., rng.permutation(3)])
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.normal(0, 8)) % 180
    hsv[..., 1] *= rng.uniform(0.4, 1.3)
    tint = np.float32(rng.uniform(0.88, 1.12, 3))
    plain = cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2BGR)
    contrast, level = np.float32(rng.uniform((0.6, 70), (1.2, 170)))
    return np.clip((plain * tint - 128) * contrast + level, 0, 255).astype(np.uint8)


def _random_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw a colour (3,), mostly muted, as rooms and clothes have them."""
    grey = rng.uniform(15, 240)
    return np.clip(
        grey + rng.normal(0, 1, 3) * rng.choice([6, 20, 50], p=(0.5, 0.38, 0.12)), 0, 255
    )


def _paint_plain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint an image of one colour; uint8, since OpenCV smooths edges in no other type."""
    return np.full((height, width, 3), _random_colour(rng), np.uint8)


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cells: float) -> np.ndarray:
    """Draw smooth noise (height, width), about -1 to 1, of `cells` cells on the longer side."""
    step = max(height, width) / cells
    grid = rng.uniform(-1, 1, (int(height / step) + 3, int(width / step) + 3)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def _add_grain(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Return the image (HxWx3) with uneven light and a fine texture, as uint8."""
    height, width = image.shape[:2]
    light = 1 + rng.uniform(0, 0.3) * _smooth_noise(rng, height, width, rng.uniform(1, 3))
    texture = rng.uniform(0, 14) * _smooth_noise(rng, height, width, rng.uniform(60, 200))
    return np.clip(image * light[..., None] + texture[..., None], 0, 255).astype(np.uint8)


def _blend(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Mix two colours (3,) by the share (HxW) of the second one."""
    return first + (second - first) * share[..., None]


def _paint_gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a ramp from one colour to another."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ramp = (x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle) + 0.5
    return _add_grain(rng, _blend(_random_colour(rng), _random_colour(rng), np.clip(ramp, 0, 1)))


def _paint_clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint two colours in clouds of several sizes."""
    cells, total = rng.uniform(1.5, 6), np.zeros((height, width), np.float32)
    for octave in range(5):
        total += (
            _smooth_noise(rng, height, width, cells * 2**octave) * rng.uniform(0.4, 0.8) ** octave
        )
    share = np.clip(total * rng.uniform(0.4, 1.5) + 0.5, 0, 1)
    return _add_grain(rng, _blend(_random_colour(rng), _random_colour(rng), share))


def _paint_stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint bent stripes of two colours."""
    angle, period = rng.uniform(0, np.pi), max(height, width) / rng.uniform(3, 40)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period + rng.uniform(0, 0.5) * _smooth_noise(
        rng, height, width, 3
    )
    share = np.clip(np.sin(2 * np.pi * phase) * rng.uniform(0.5, 6) + 0.5, 0, 1)
    return _add_grain(rng, _blend(_random_colour(rng), _random_colour(rng), share))


def _paint_checkers(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a board of two colours in perspective."""
    cells, tiles = int(rng.integers(2, 16)), np.indices((18, 18)).sum(axis=0) % 2
    board = np.kron(tiles[: cells + 2, : cells + 2], np.ones((16, 16))).astype(np.float32)
    side = board.shape[0] - 1
    corners = np.array([(0, 0), (side, 0), (side, side), (0, side)], np.float32)
    target = np.array(
        [(0, 0), (width, 0), (width, height), (0, height)], np.float32
    ) * 1.6 - np.array((0.3 * width, 0.3 * height), np.float32)
    target += rng.normal(0, 0.15, (4, 2)).astype(np.float32) * (width, height)
    view = cv2.getPerspectiveTransform(corners, np.float32(target))
    share = cv2.warpPerspective(board, view, (width, height), borderMode=cv2.BORDER_REFLECT)
    return _add_grain(rng, _blend(_random_colour(rng), _random_colour(rng), share))


def _paint_shapes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint boxes, discs and polygons over each other, as on a cluttered table."""
    image, size = _paint_plain(rng, height, width), max(height, width)
    for _ in range(rng.integers(4, 30)):
        corners = rng.uniform(0, 1, 2) * (width, height) + rng.normal(
            0, size * rng.uniform(0.03, 0.25), (rng.integers(3, 7), 2)
        )
        if rng.random() < 0.3:
            radius = int(size * rng.uniform(0.01, 0.15))
            cv2.circle(
                image,
                corners[0].astype(int).tolist(),
                radius,
                _random_colour(rng).tolist(),
                -1,
                cv2.LINE_AA,
            )
        else:
            cv2.fillPoly(
                image,
                [cv2.convexHull(corners.astype(np.int32))],
                _random_colour(rng).tolist(),
                cv2.LINE_AA,
            )
    return _add_grain(rng, image)


def _paint_text(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a page or a screen: lines of random letters."""
    image, ink = _paint_plain(rng, height, width), _random_colour(rng).tolist()
    scale, font = rng.uniform(0.3, 1.2), int(rng.integers(0, 8))
    line = int(30 * scale) + int(rng.integers(2, 14))
    letters = list("abcdefghijklmnopqrstuvwxyzABCDE0123456789,.        ")
    for y in range(line, height + line, line):
        words = "".join(rng.choice(letters, size=int(width / (14 * scale)) + 2))
        cv2.putText(
            image,
            words,
            (int(rng.integers(-20, 20)), y),
            font,
            scale,
            ink,
            1 + int(scale > 0.8),
            cv2.LINE_AA,
        )
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 15), 1.3)
    return _add_grain(
        rng,
        cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT),
    )


def _paint_room(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a wall, a floor or a table, and box-like furniture with lit and shaded sides."""
    image, horizon = _paint_plain(rng, height, width), int(height * rng.uniform(0.3, 0.95))
    image[horizon:] = _random_colour(rng)
    for _ in range(rng.integers(2, 12)):
        w, h = width * rng.uniform(0.04, 0.5), height * rng.uniform(0.05, 0.6)
        x, y, colour = (
            rng.uniform(-0.1, 1.0) * width,
            horizon + rng.normal(0, 0.15) * height,
            _random_colour(rng),
        )
        side = w * rng.uniform(0.05, 0.4) * rng.choice([-1, 1])
        edge = x + w if side > 0 else x
        front = np.array([(x, y - h), (x + w, y - h), (x + w, y), (x, y)])
        flank = np.array(
            [(edge, y - h), (edge + side, y - 0.92 * h), (edge + side, y - 0.08 * h), (edge, y)]
        )
        cv2.fillPoly(image, [front.astype(np.int32)], colour.tolist(), cv2.LINE_AA)
        cv2.fillPoly(
            image,
            [flank.astype(np.int32)],
            (colour * rng.uniform(0.4, 0.85)).tolist(),
            cv2.LINE_AA,
        )
    return _add_grain(rng, image)
