"""How far the network's keypoints move when an image is mirrored, shifted or compressed.

    python -m benchmarks.robustness data/lmdb/validation
    python -m benchmarks.robustness SET ANOTHER --looks 1 4 --weights runs/own/packed.npz

A hand stays where it is when its image is mirrored, moved to the right by one pixel, or saved as
JPEG of quality 60. The table says how far the answers move nevertheless: each keypoint's answer to
the changed image is mapped back and compared with its answer to the image itself. Distances are
shares of the longer side of the labelled keypoints' box. They say nothing about which of the two
answers is right.
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from data_tools import sets
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.core.commands import (
    add_network_options,
    command_parser,
    positive_int,
    progress_bar,
    run_command,
)
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.markdown import markdown_table
from mcc_caffe.evaluation.metrics import box_sizes
from mcc_caffe.evaluation.model_names import short_names
from mcc_caffe.paper import KEYPOINT_COUNT
from mcc_caffe.predictor import LOOKS, HandPredictor

JPEG_QUALITY = 60
THRESHOLDS = (0.05, 0.1, 0.2)  # of the box

_log = logging.getLogger(__name__)


class Change(NamedTuple):
    """A change of an image that leaves the hand as it is.

    Attributes:
        name: What the table calls it.
        apply: Returns the changed image (HxWx3 uint8 BGR).
        map_back: Returns where points (21, 2) of the changed image lie in the image, given its
            width in pixels.
    """

    name: str
    apply: Callable[[np.ndarray], np.ndarray]
    map_back: Callable[[np.ndarray, int], np.ndarray]


class LabelledImage(NamedTuple):
    """An image (HxWx3 uint8 BGR) and the longer side of its keypoints' box in pixels."""

    image: np.ndarray
    box_side: float


def mirror(image: np.ndarray) -> np.ndarray:
    """Return the mirror image."""
    return np.ascontiguousarray(image[:, ::-1])


def shift(image: np.ndarray) -> np.ndarray:
    """Move an image to the right by one pixel; the first column is there twice."""
    return np.concatenate([image[:, :1], image[:, :-1]], axis=1)


def compress(image: np.ndarray) -> np.ndarray:
    """Save an image as JPEG and read it again."""
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


CHANGES = (
    Change("mirrored", mirror, lambda points, width: points * (-1, 1) + (width - 1, 0)),
    Change("shifted by 1 pixel", shift, lambda points, width: points - (1, 0)),
    Change(f"JPEG {JPEG_QUALITY}", compress, lambda points, width: points),
)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "sets", nargs="+", type=Path, metavar="SET", help="sets, as mcc_caffe.evaluate takes them"
    )
    parser.add_argument(
        "--looks",
        nargs="+",
        type=int,
        choices=LOOKS,
        default=LOOKS,
        help="numbers of looks, as mcc_caffe.infer takes them (default: 1 2 4)",
    )
    parser.add_argument(
        "--limit", type=positive_int, metavar="N", help="only N samples of each set"
    )
    sets.add_orientation_argument(parser)
    add_network_options(parser)
    return parser.parse_args(argv)


def read_images(folder: Path, limit: int | None, *, upright: bool = False) -> list[LabelledImage]:
    """Read the images of a set that no training sees and that have a keypoints' box.

    Args:
        folder: The set.
        limit: The most samples to read, evenly spread over the set; None for all.
        upright: As `data_tools.sets.open_sets` takes it.

    Raises:
        UserError: The set cannot be opened, or no sample can be used.
    """
    entries = sets.held_out_entries(folder, upright=upright)
    chosen = np.linspace(0, len(entries) - 1, min(limit or len(entries), len(entries)))
    images, unlabelled, errors = [], 0, []
    for index in chosen.round().astype(int).tolist():
        try:
            sample = entries[index].sample()
            side = float(box_sizes(sample.keypoints[None])[0])
            image = sample.image()
        except SampleError as error:
            _log.debug("%s", error)
            errors.append(error)
            continue
        if np.isfinite(side):
            images.append(LabelledImage(image, side))
        else:
            unlabelled += 1
    if not images:
        if errors:
            raise UserError(f"{folder}: no sample can be used; the first error is: {errors[0]}")
        raise UserError(f"{folder}: no sample has labelled keypoints, which give a hand's size")
    if unlabelled:
        _log.warning("%s: passed over %d samples without labelled keypoints", folder, unlabelled)
    if errors:
        _log.warning(
            "%s: passed over %d unusable samples, the first because of: %s",
            folder,
            len(errors),
            errors[0],
        )
    return images


def measure_moves(
    find_keypoints: Callable[[np.ndarray], np.ndarray], images: Sequence[LabelledImage]
) -> np.ndarray:
    """Measure how far keypoints move by each change.

    Args:
        find_keypoints: Returns the keypoints (21, 2 or more) of an image, x and y first.
        images: N images.

    Returns:
        (changes, N, 21) distances as shares of the image's box.
    """
    moves = np.empty((len(CHANGES), len(images), KEYPOINT_COUNT))
    for index, (image, box_side) in enumerate(progress_bar(images, unit="img")):
        answer = find_keypoints(image)[:, :2]
        for change_moves, change in zip(moves, CHANGES):
            changed = find_keypoints(change.apply(image))[:, :2]
            distances = change.map_back(changed, image.shape[1]) - answer
            change_moves[index] = np.linalg.norm(distances, axis=1) / box_side
    return moves


def table_rows(name: str, looks: int, moves: np.ndarray) -> Iterator[list[str]]:
    """Yield a row of the table for each change.

    Args:
        name: The set's.
        looks: Number of looks.
        moves: As `measure_moves` returns them.
    """
    for change, distances in zip(CHANGES, moves):
        shares = [f"{(distances > threshold).mean():.1%}" for threshold in THRESHOLDS]
        image_share = f"{(np.median(distances, axis=1) > THRESHOLDS[-1]).mean():.1%}"
        yield [name, str(looks), change.name, f"{np.median(distances):.3f}", *shares, image_share]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    predictor = HandPredictor(
        options.weights or default_weights(options.variant), options.variant, looks=1
    )
    predictor.require_pose()

    def find_keypoints(image: np.ndarray) -> np.ndarray:
        keypoints = predictor.predict(image).keypoints
        assert keypoints is not None
        return keypoints

    upright = options.orientation == sets.UPRIGHT
    rows: list[list[str]] = []
    for name, folder in zip(short_names(options.sets), options.sets):
        images = read_images(folder, options.limit, upright=upright)
        for looks in options.looks:
            predictor.looks = looks
            moves = measure_moves(find_keypoints, images)
            rows += table_rows(f"{name} ({len(images)})", looks, moves)
    columns = ["set (images)", "looks", "change", "median move"]
    columns += [f"over {threshold:g}" for threshold in THRESHOLDS]
    columns += [f"images with half of the keypoints over {THRESHOLDS[-1]:g}"]
    print(markdown_table(columns, rows))


if __name__ == "__main__":
    run_command(main)
