"""Reads and formats `truth.jsonl`, which says where all keypoints of each rendered hand are."""

import json
import os
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from data_tools.hands.hand_scene import CONVENTIONS
from data_tools.readers.onehand10k import OneHand10KEntry, format_label, make_entries
from mcc_caffe.core.errors import UserError

TRUTH = "truth.jsonl"


class Truth(TypedDict):
    """One line of truth.jsonl.

    Attributes:
        image: File name of the image.
        width: The image's width in pixels.
        height: The image's height in pixels.
        joints: 21 x [x, y, state]: pixels, and one of `hand_scene.KEYPOINT_STATES`.
        parameters: What was drawn.
    """

    image: str
    width: int
    height: int
    joints: list[list[Any]]
    parameters: dict[str, Any]


def label_keypoints(truth: Truth, convention: str = "paper") -> np.ndarray:
    """Label the keypoints of an image.

    Args:
        truth: What is known of the image.
        convention: Which keypoints are labelled, a key of `hand_scene.CONVENTIONS`.

    Returns:
        (21, 3) of x, y in pixels and 1, or 0 for a keypoint that is not labelled.
    """
    labelled_states = CONVENTIONS[convention]
    return np.array([(x, y, state in labelled_states) for x, y, state in truth["joints"]])


def format_truth(truth: Truth, convention: str = "paper") -> str:
    """Return OneHand10K's label line of an image; the arguments are those of `label_keypoints`."""
    keypoints = label_keypoints(truth, convention)
    return format_label(truth["image"], truth["width"], truth["height"], keypoints)


def read_entries(root: str | os.PathLike, split: str, convention: str) -> list[OneHand10KEntry]:
    """Read the images of a rendered set, labelled under a convention of one's choice.

    Args:
        root: Folder of the data set.
        split: "Train" or "Test".
        convention: Which keypoints are labelled, a key of `hand_scene.CONVENTIONS`.

    Returns:
        OneHand10K's entries, as if its label file had been written so.

    Raises:
        UserError: The set has no truth.jsonl, or a damaged one.
    """
    folder = Path(root) / split
    if not (folder / TRUTH).is_file():
        raise UserError(
            f"{folder / TRUTH} was not found: only a set of `make synth` says what hides a keypoint"
        )
    labels = []
    for number, line in enumerate((folder / TRUTH).read_bytes().splitlines(), start=1):
        try:
            labels.append(format_truth(json.loads(line), convention))
        except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise UserError(
                f"{folder / TRUTH}:{number} is no line of `make synth` "
                f"({type(error).__name__}: {str(error)[:100]!r}): make the set again"
            ) from None
    return make_entries(folder, labels)
