"""Counts what is called present in images without a hand, and labelled keypoints that are lost."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_tools.readers.base import Entry
from mcc_caffe.core.commands import progress_bar
from mcc_caffe.evaluation.scene_scores import PresenceNumbers, summarise_presence
from mcc_caffe.inference.input_files import read_image
from mcc_caffe.paper import PAPER_LEVELS
from mcc_caffe.predictor import HandPose, HandPredictor

# (name, levels, looks) of each way to find the one hand of an image.
_WAYS = (
    ("single pass", None, 1),
    ("two looks", None, 2),
    ("four looks", None, 4),
    ("the paper's pyramid", PAPER_LEVELS, None),
)


class _WayAnswers(NamedTuple):
    """The poses that one way finds in images without and with a hand.

    Attributes:
        confidences, is_present: (21,) of each image without a hand.
        is_labelled_present: (K,) for the K labelled keypoints of each image with a hand.
    """

    confidences: list[np.ndarray]
    is_present: list[np.ndarray]
    is_labelled_present: list[np.ndarray]


class Presence(NamedTuple):
    """What a network says of images without and with a hand.

    Attributes:
        ways: {name of the way: its numbers}.
        hand_counts: How many hands the search finds in each image without a hand.
    """

    ways: dict[str, PresenceNumbers]
    hand_counts: list[int]

    def results(self) -> dict[str, Any]:
        """Return what results.json says of it."""
        return {
            "ways": {name: way._asdict() for name, way in self.ways.items()},
            "hands_of_search": sum(self.hand_counts),
        }


def measure_presence(
    predictor: HandPredictor,
    images: Sequence[Path],
    entries: Sequence[Entry],
    score_threshold: float,
) -> Presence:
    """Look at images in every way.

    Args:
        predictor: Finds the hands; a copy of it takes each way.
        images: Images without a hand.
        entries: Labelled hands.
        score_threshold: From which an answer is a hand.
    """
    predictor.require_pose()
    answers = {name: _WayAnswers([], [], []) for name, _, _ in _WAYS}
    predictors = {name: copy.copy(predictor) for name in answers}
    for name, levels, looks in _WAYS:
        predictors[name].levels, predictors[name].looks = levels, looks

    def poses(image: np.ndarray) -> list[tuple[_WayAnswers, HandPose]]:
        return [(answers[name], predictors[name].predict(image)) for name in answers]

    hand_counts = []
    for path in progress_bar(images, unit="img"):
        image = read_image(path)
        for way, pose in poses(image):
            assert pose.keypoints is not None and pose.present is not None
            way.confidences.append(pose.keypoints[:, 2])
            way.is_present.append(pose.present)
        hand_counts.append(len(predictor.predict_all(image, score_threshold=score_threshold)))
    for entry in progress_bar(entries, unit="img", disable=not entries):
        sample = entry.sample()
        for way, pose in poses(sample.image()):
            assert pose.present is not None
            way.is_labelled_present.append(pose.present[sample.keypoints[:, 2] > 0])
    rows = {
        name: summarise_presence(
            np.stack(way.confidences),
            np.stack(way.is_present),
            score_threshold,
            np.concatenate(way.is_labelled_present) if entries else None,
        )
        for name, way in answers.items()
    }
    return Presence(rows, hand_counts)
