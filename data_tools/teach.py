"""Labels your own photographs of hands with a teacher, as a data set to train on.

    python -m data_tools.teach photographs/ data/taught      # a network of ours is the teacher
    python -m data_tools.teach photographs/ data/taught --weights runs/own/packed.npz
    python -m data_tools.teach photographs/ data/taught --teacher mediapipe
    python -m data_tools.build_lmdb data/taught data/own --split 900/100

The teacher looks for every hand of a photograph, and again in its mirror image. A hand is labelled
where the two answers agree; the others are left out and counted. Each hand becomes a square of 2.2
times its keypoints' box. OUT/hands.json is a COCO file that all data tools read, and
`python -m data_tools.inspect OUT` draws it.

A photograph that OUT has already is passed over, under any name. So an interrupted run goes
on where it was, more photographs can be added, and labels that you have corrected stay.
"""

import argparse
import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from data_tools.taught_set import LABELS, TaughtSet, is_taught
from data_tools.teachers import MediaPipeTeacher, NetTeacher, Teacher, find_agreed_hands
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.core.commands import (
    add_network_options,
    any_number,
    command_parser,
    progress_bar,
    run_command,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.output_checks import check_folder
from mcc_caffe.core.result_folders import locked
from mcc_caffe.inference.input_files import (
    PassedOver,
    UnreadableError,
    decode_content,
    find_files,
    read_content,
)

# The largest difference of two answers for any keypoint, as a share of the keypoints' box.
AGREEMENT = 0.1

_log = logging.getLogger(__name__)


class TeachOutcome(NamedTuple):
    """What became of the photographs of one run.

    Attributes:
        photographs: Number of photographs that were labelled in this run.
        without_hand: Number of those in which the teacher found no hand.
        hands: Number of hands that the teacher found in them.
        labelled: Number of those whose two answers agree.
        unreadable: Number of files that could not be read.
    """

    photographs: int = 0
    without_hand: int = 0
    hands: int = 0
    labelled: int = 0
    unreadable: int = 0


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "photographs",
        nargs="+",
        metavar="PHOTOS",
        help="photographs, folders (searched through) and quoted globs",
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder of the data set, new or of an earlier run"
    )
    parser.add_argument(
        "--teacher",
        choices=("net", "mediapipe"),
        default="net",
        help="what labels: a network of ours, or MediaPipe Hands where that is installed "
        "(default: net)",
    )
    add_network_options(parser)
    parser.add_argument(
        "--agreement",
        type=_share,
        default=AGREEMENT,
        metavar="SHARE",
        help="how far the two answers for a keypoint may lie apart, as a share of the longer side "
        "of the keypoints' box (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    if options.teacher == "mediapipe" and options.weights:
        parser.error("--weights goes with --teacher net only")
    return options


def _share(text: str) -> float:
    """Parse a share above 0; an argparse `type`."""
    share = any_number(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return share


def open_teacher(options: argparse.Namespace) -> Teacher:
    """Open the teacher that the options name.

    Raises:
        UserError: MediaPipe is not installed, or the network's files are missing or do not fit.
    """
    if options.teacher == "mediapipe":
        return MediaPipeTeacher()
    weights = options.weights or default_weights(options.variant)
    return NetTeacher(weights, options.variant)


def find_photographs(patterns: Iterable[str], out: Path) -> tuple[list[Path], PassedOver]:
    """List the photographs that the user names; what else is there is passed over and counted.

    Args:
        patterns: Files, folders and globs.
        out: The folder of the data set, whose crops are no photographs, nor are another set's.

    Raises:
        UserError: There is no photograph.
    """
    files, passed_over = find_files(patterns)
    photographs = []
    for file in files:
        folders = Path(os.path.realpath(file.path)).parents
        if Path(os.path.realpath(out)) in folders:
            passed_over.add("crops of the data set itself", file.path.name)
        elif any(map(is_taught, folders)):
            passed_over.add("crops of a taught set", file.path.name)
        elif file.is_video:
            passed_over.add("videos and animated images", file.path.name)
        else:
            photographs.append(file.path)
    if not photographs:
        raise UserError(
            f"there is no photograph; passed over: {passed_over}: "
            "give photographs, and a folder of its own for their labels"
        )
    return photographs, passed_over


def label_photographs(
    photographs: Sequence[Path],
    teacher: Teacher,
    taught: TaughtSet,
    agreement: float,
    passed_over: PassedOver,
) -> TeachOutcome:
    """Add the photographs' hands to the data set.

    Args:
        photographs: The files.
        teacher: Labels the hands.
        taught: The data set.
        agreement: The largest difference between two answers for a keypoint.
        passed_over: Counts what is there already.
    """
    outcome = TeachOutcome()
    for path in progress_bar(photographs, unit="img"):
        added = _label_photograph(path, teacher, taught, agreement, passed_over)
        outcome = TeachOutcome(*map(sum, zip(outcome, added)))
    return outcome


def _label_photograph(
    path: Path, teacher: Teacher, taught: TaughtSet, agreement: float, passed_over: PassedOver
) -> TeachOutcome:
    """Add the hands of one photograph to the data set; see `label_photographs`."""
    try:
        content = read_content(path)
        digest = hashlib.sha256(content).hexdigest()
        if digest in taught.photographs:
            passed_over.add("photographs that the data set has already", path.name)
            return TeachOutcome()
        image = decode_content(path, content)
    except UnreadableError as error:
        _log.warning("skipped: %s", error)
        return TeachOutcome(unreadable=1)
    hands = find_agreed_hands(teacher, image)
    agreed = [hand for hand in hands if hand.difference <= agreement]
    taught.add(digest, path, image, agreed, len(hands))
    return TeachOutcome(
        photographs=1, without_hand=int(not hands), hands=len(hands), labelled=len(agreed)
    )


def describe_outcome(outcome: TeachOutcome, agreement: float) -> str:
    """Return what became of the photographs in one line."""
    share = f" ({outcome.labelled / outcome.hands:.0%})" if outcome.hands else ""
    return (
        f"{outcome.photographs} photographs, {outcome.without_hand} of them without a hand; "
        f"{outcome.labelled} of {outcome.hands} hands labelled{share}, "
        f"{outcome.hands - outcome.labelled} left out: the answers to the photograph and to its "
        f"mirror image differ by more than {agreement:.3g} of the hand's box"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    check_folder(options.out)
    photographs, passed_over = find_photographs(options.photographs, options.out)
    teacher = open_teacher(options)
    with locked(options.out, "is labelling photographs"):
        taught = TaughtSet(options.out, teacher=teacher.name, agreement=options.agreement)
        try:
            outcome = label_photographs(
                photographs, teacher, taught, options.agreement, passed_over
            )
        finally:  # also where Ctrl-C ends it
            if taught.photographs:
                taught.write()
    if str(passed_over):
        _log.warning("passed over: %s", passed_over)
    print(describe_outcome(outcome, options.agreement))
    if taught.hand_count:
        print(f"{options.out / LABELS}: {taught.hand_count} hands")
    if outcome.unreadable:
        raise UserError(
            f"{outcome.unreadable} of {len(photographs)} files could not be read (named above); "
            "the others are done"
        )
    if not taught.hand_count:
        raise UserError(
            f"no hand is labelled in {options.out}: show hands larger, or try a larger --agreement "
            "or another teacher, in a new folder"
        )


if __name__ == "__main__":
    run_command(main)
