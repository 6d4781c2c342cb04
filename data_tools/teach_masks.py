"""Gives the hands of a taught set masks: a network's own, refined by the picture's colours.

    python -m data_tools.teach photographs/ data/taught
    python -m data_tools.teach_masks data/taught
    python -m data_tools.build_lmdb data/taught data/own --split 900/100

The network's mask is coarse: GrabCut moves its border to where the colours change. A mask is kept
where it agrees with the hand's keypoints. The other hands stay without one and are counted: they
train the keypoints only.

The masks stand in SET/hands.json as COCO's run lengths. A hand that has one keeps it, so that an
interrupted run goes on where it was, and masks that you have drawn stay. Correct wrong keypoints
before: the masks are made for them.
"""

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools import readers
from data_tools.hand_masks import trusted_mask
from data_tools.readers.coco import CocoEntry
from data_tools.taught_set import LABELS, WRITE_SECONDS, read_labels
from data_tools.teachers import MaskTeacher
from mcc_caffe.caffe_io.snapshots import default_weights
from mcc_caffe.core.commands import add_network_options, command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import locked, write_whole
from mcc_caffe.data.samples import SampleError

_LEAST_KEYPOINTS = 6  # that are labelled; fewer do not say where the hand is

_log = logging.getLogger(__name__)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "folder", type=Path, metavar="SET", help="folder of a set that data_tools.teach has made"
    )
    add_network_options(parser)
    return parser.parse_args(argv)


def add_masks(folder: Path, teacher: MaskTeacher) -> dict[str, Any]:
    """Give each hand of a taught set that has no mask one, where it agrees with the keypoints.

    The labels reach the disk every 20 seconds and at the end.

    Args:
        folder: The set's folder.
        teacher: Says where the hands are.

    Returns:
        The content of the set's COCO file.

    Raises:
        UserError: The folder holds no such set.
    """
    content = read_labels(folder / LABELS)
    (entries,) = readers.read_dataset(folder).values()
    annotations = {annotation["id"]: annotation for annotation in content["annotations"]}
    last_written = time.monotonic()
    try:
        for entry in progress_bar(entries, unit="img"):
            annotation = annotations[entry.hand.annotation_id]
            if annotation.get("segmentation"):
                continue
            segmentation = _segmentation(entry, teacher)
            if segmentation is not None:
                annotation["segmentation"] = segmentation
            if time.monotonic() - last_written > WRITE_SECONDS:
                _write(folder, content)
                last_written = time.monotonic()
    finally:  # also where Ctrl-C ends it
        _write(folder, content)
    return content


def _segmentation(entry: CocoEntry, teacher: MaskTeacher) -> dict[str, Any] | None:
    """Return the run lengths of a hand's mask; None where there is none to be trusted."""
    from pycocotools import mask as coco_masks  # here, as only this needs it

    try:
        sample = entry.sample()
        image = sample.image()
    except SampleError as error:
        _log.warning("skipped: %s", error)
        return None
    labelled = sample.keypoints[sample.keypoints[:, 2] > 0, :2]
    # Of several hands in a picture, each sample is a part of it.
    if len(labelled) < _LEAST_KEYPOINTS or not entry.is_alone:
        return None
    mask = trusted_mask(image, teacher.hand_probability(image, labelled), labelled)
    if mask is None:
        return None
    run_lengths = coco_masks.encode(np.asfortranarray(mask))
    return {"size": run_lengths["size"], "counts": run_lengths["counts"].decode()}


def _write(folder: Path, content: dict[str, Any]) -> None:
    """Write the labels, completely or not at all."""
    write_whole(folder / LABELS, (json.dumps(content) + "\n").encode())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    if not (options.folder / LABELS).is_file():
        raise UserError(
            f"{options.folder} holds no {LABELS}: give the folder of a set of data_tools.teach"
        )
    teacher = MaskTeacher(options.weights or default_weights(options.variant), options.variant)
    with locked(options.folder, "is making masks"):
        content = add_masks(options.folder, teacher)
    hands = content["annotations"]
    with_mask = sum(1 for annotation in hands if annotation.get("segmentation"))
    print(
        f"{options.folder / LABELS}: {with_mask} of {len(hands)} hands have a mask, "
        f"{len(hands) - with_mask} were left out: mask and keypoints do not agree"
    )


if __name__ == "__main__":
    run_command(main)
