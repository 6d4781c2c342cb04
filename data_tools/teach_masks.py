"""Adds masks to the hands of a taught set: a network's own, refined by the image's colours.

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
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_tools import readers
from data_tools.hand_masks import make_trusted_mask
from data_tools.readers.coco import CocoEntry
from data_tools.taught_set import LABELS, LabelFile
from data_tools.teachers import MaskTeacher
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.core.commands import add_network_options, command_parser, progress_bar, run_command
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.hand import ENOUGH_KEYPOINTS
from mcc_caffe.core.result_folders import locked
from mcc_caffe.data.mask_files import encode_run_lengths

_log = logging.getLogger(__name__)


class MaskOutcome(NamedTuple):
    """The hands of a taught set after a run.

    Attributes:
        with_mask: Number of hands that have a mask, from this run or from before.
        without_mask: Number of hands for which no mask could be trusted.
        unreadable: Number of hands whose image or label could not be read.
    """

    with_mask: int = 0
    without_mask: int = 0
    unreadable: int = 0


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "folder", type=Path, metavar="SET", help="folder of a set that data_tools.teach has made"
    )
    add_network_options(parser)
    return parser.parse_args(argv)


def add_masks(folder: Path, teacher: MaskTeacher) -> MaskOutcome:
    """Give each hand of a taught set that has no mask one, where it agrees with the keypoints.

    A hand whose image or label cannot be read is named in a warning. The labels reach the disk
    every 20 seconds and at the end.

    Args:
        folder: The set's folder.
        teacher: Says where the hands are.

    Returns:
        What became of the hands.

    Raises:
        UserError: The folder holds no such set, or its labels were changed meanwhile.
    """
    labels = LabelFile.read(folder)
    (entries,) = readers.read_dataset(folder / LABELS).values()
    labels.check_unchanged()  # the entries are of the same labels
    annotations = {annotation["id"]: annotation for annotation in labels.content["annotations"]}
    outcome = MaskOutcome()
    try:
        for entry in progress_bar(entries, unit="img"):
            hand_outcome = _mask_hand(annotations[entry.hand.annotation_id], entry, teacher)
            outcome = MaskOutcome(*map(sum, zip(outcome, hand_outcome)))
            labels.write_if_due()
    finally:  # also where Ctrl-C ends it
        labels.write()
    return outcome


def _mask_hand(annotation: dict[str, Any], entry: CocoEntry, teacher: MaskTeacher) -> MaskOutcome:
    """Give one hand a mask, if it has none and one can be trusted.

    Args:
        annotation: The hand's annotation, which gets the mask.
        entry: The hand's entry.
        teacher: Says where the hand is.

    Returns:
        What became of the hand.
    """
    if annotation.get("segmentation"):
        return MaskOutcome(with_mask=1)
    try:
        segmentation = _segmentation(entry, teacher)
    except SampleError as error:
        _log.warning("skipped: %s", error)
        return MaskOutcome(unreadable=1)
    if segmentation is None:
        return MaskOutcome(without_mask=1)
    annotation["segmentation"] = segmentation
    return MaskOutcome(with_mask=1)


def _segmentation(entry: CocoEntry, teacher: MaskTeacher) -> dict[str, Any] | None:
    """Return the run lengths of a hand's mask; None where there is none to be trusted.

    Raises:
        SampleError: The hand's image or label cannot be read.
    """
    sample = entry.sample()
    image = sample.image()
    labelled = sample.keypoints[sample.keypoints[:, 2] > 0, :2]
    # Of several hands in an image, each sample is a part of it.
    if len(labelled) < ENOUGH_KEYPOINTS or not entry.is_alone:
        return None
    mask = make_trusted_mask(image, teacher.hand_probability(image, labelled), labelled)
    return None if mask is None else encode_run_lengths(mask)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    if not (options.folder / LABELS).is_file():
        raise UserError(
            f"{options.folder} holds no {LABELS}: give the folder of a set of data_tools.teach"
        )
    teacher = MaskTeacher(options.weights or default_weights(options.variant), options.variant)
    with locked(options.folder, "is making masks"):
        outcome = add_masks(options.folder, teacher)
    print(
        f"{options.folder / LABELS}: {outcome.with_mask} of {sum(outcome)} hands have a mask, "
        f"{outcome.without_mask} were left without: no mask could be trusted"
    )
    if outcome.unreadable:
        raise UserError(
            f"{outcome.unreadable} of {sum(outcome)} hands could not be read (named above); "
            "the others are done"
        )


if __name__ == "__main__":
    run_command(main)
