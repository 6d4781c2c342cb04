"""`truth.jsonl` of a rendered set: where all joints of each hand are, and labels made of it."""

import json
import pathlib

from data_tools.hands.hand_scene import CONVENTIONS
from data_tools.readers import onehand10k
from data_tools.readers.onehand10k import format_label
from mcc_caffe.core.errors import UserError

TRUTH = "truth.jsonl"


def label(truth: dict, convention: str = "paper") -> str:
    """OneHand10K's label line of a line of truth.jsonl, under one of hand_scene.CONVENTIONS."""
    keypoints = [(x, y, state in CONVENTIONS[convention]) for x, y, state in truth["joints"]]
    return format_label(truth["image"], truth["width"], truth["height"], keypoints)


def entries(root, split: str, convention: str) -> list:
    """The pictures of a split as entries of onehand10k, labelled under one of hand_scene.CONVENTIONS."""
    folder = pathlib.Path(root) / split
    if not (folder / TRUTH).is_file():
        raise UserError(
            f"{folder / TRUTH} was not found: only a set of `make synth` says what hides a joint"
        )
    lines = (folder / TRUTH).read_text(encoding="utf-8").splitlines()
    return [
        onehand10k.Entry(folder, number, label(json.loads(line), convention))
        for number, line in enumerate(lines, start=1)
    ]
