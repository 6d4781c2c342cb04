"""Teachers label the hands of photographs: a network of ours, or MediaPipe where it is installed.

A teacher says for every hand of a photograph where the 21 keypoints are. It is asked twice, for the
photograph and for its mirror image. Where a hand is difficult the two answers differ, so that their
agreement tells which answers to trust.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import file_sha256
from mcc_caffe.core.hand import are_same_keypoints, nms
from mcc_caffe.predictor import HandPredictor

_MOST_HANDS = 10  # that MediaPipe looks for in a photograph
_NAMED_DIGITS = 12  # of the hash of a weights file, in a teacher's name


class Teacher(Protocol):
    """What labels hands.

    Attributes:
        name: What a data set says of its teacher; teachers that may answer differently have
            different names.
    """

    name: str

    def find_hands(self, image: np.ndarray) -> list[np.ndarray]:
        """Find all hands of an image.

        Args:
            image: HxWx3 uint8 BGR.

        Returns:
            (21, 2) float64 of x, y in pixels for each hand.
        """


class AgreedHand(NamedTuple):
    """A hand that a teacher found in a photograph and in its mirror image.

    Attributes:
        keypoints: (21, 2) float64, the mean of both answers, in pixels of the photograph.
        difference: The largest distance between the two answers for a keypoint, as a share of the
            longer side of the keypoints' box; infinite where the mirror image showed no such hand.
    """

    keypoints: np.ndarray
    difference: float


class NetTeacher:
    """A network of ours, which searches the whole photograph.

    The search proposes squares (its box head also sees the mirror image) and looks at each as it
    is, never mirrored. So the keypoints in the mirror image are another answer.
    """

    def __init__(self, weights: Path, variant: str):
        """Open the network.

        Args:
            weights: Caffemodel or packed weights.
            variant: The size of the network.
        """
        self._predictor = HandPredictor(weights, variant)
        digest = file_sha256(weights)
        self.name = f"{variant}, {weights.name} (sha256 {digest[:_NAMED_DIGITS]})"

    def find_hands(self, image: np.ndarray) -> list[np.ndarray]:
        """Find all hands of an image; see `Teacher.find_hands`."""
        hands = self._predictor.predict_all(image)
        return [hand.keypoints[:, :2] for hand in hands if hand.keypoints is not None]


class MaskTeacher:
    """A network of ours, which says where the hand around known keypoints is."""

    def __init__(self, weights: Path, variant: str):
        """Open the network.

        Args:
            weights: Caffemodel or packed weights.
            variant: The size of the network.

        Raises:
            UserError: The network has no mask head.
        """
        self._predictor = HandPredictor(weights, variant)
        if not self._predictor.engine.has_mask:
            raise UserError(f"{weights} has no mask head: give weights that have one")

    def hand_probability(self, image: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
        """Tell how probably each pixel is the hand's.

        Args:
            image: HxWx3 uint8 BGR.
            keypoints: (N, 2) of x, y in pixels, which lie in the image.

        Returns:
            (H, W) float32, 0 to 1.
        """
        last_pixel = np.subtract(image.shape[1::-1], 1)
        corners = np.floor(keypoints.min(axis=0)), np.ceil(keypoints.max(axis=0))
        low, high = (corner.clip(0, last_pixel) for corner in corners)
        (hand,) = self._predictor.predict_all(image, [[*low, *(high - low + 1)]])
        assert hand.mask is not None  # the network has a mask head
        return hand.mask


class MediaPipeTeacher:
    """MediaPipe Hands, whose order of keypoints is ours."""

    def __init__(self) -> None:
        """Open MediaPipe's model.

        Raises:
            UserError: MediaPipe is not installed, or is a release without the hands' model.
        """
        os.environ.setdefault("GLOG_minloglevel", "2")  # its start-up messages
        try:
            import mediapipe
            from mediapipe.python.solutions.hands import Hands
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"--teacher mediapipe needs MediaPipe with its hands' model ({error}): "
                "pip install 'mediapipe==0.10.21', which goes with Python 3.10 to 3.12"
            ) from None
        self.name = f"MediaPipe Hands {mediapipe.__version__}"
        self._hands = Hands(static_image_mode=True, max_num_hands=_MOST_HANDS)

    def find_hands(self, image: np.ndarray) -> list[np.ndarray]:
        """Find all hands of an image; see `Teacher.find_hands`."""
        height, width = image.shape[:2]
        answer = self._hands.process(np.ascontiguousarray(image[..., ::-1]))
        return [
            np.array([(point.x, point.y) for point in hand.landmark]) * (width, height) - 0.5
            for hand in answer.multi_hand_landmarks or ()
        ]


def find_agreed_hands(teacher: Teacher, image: np.ndarray) -> list[AgreedHand]:
    """Ask a teacher for the hands of an image and of its mirror image, and compare the answers.

    Args:
        teacher: Finds hands.
        image: HxWx3 uint8 BGR.

    Returns:
        All hands of the image, in the teacher's order.
    """
    hands = nms(teacher.find_hands(image), are_same_keypoints)
    if not hands:
        return []
    mirror_image = np.ascontiguousarray(image[:, ::-1])
    mirrored_hands = nms(teacher.find_hands(mirror_image), are_same_keypoints)
    last_column = image.shape[1] - 1
    return match_hands(
        hands, [np.column_stack([last_column - hand[:, 0], hand[:, 1]]) for hand in mirrored_hands]
    )


def match_hands(hands: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> list[AgreedHand]:
    """Match each hand with the most similar one of the other answer, each of which counts once.

    Args:
        hands: (21, 2) of x, y each.
        others: The same, of the other answer.
    """
    differences = {
        (index, other_index): _difference(hand, other)
        for index, hand in enumerate(hands)
        for other_index, other in enumerate(others)
    }
    agreed = [AgreedHand(hand, float("inf")) for hand in hands]
    matched: set[int] = set()
    for (index, other_index), difference in sorted(differences.items(), key=lambda item: item[1]):
        if other_index in matched or np.isfinite(agreed[index].difference):
            continue
        matched.add(other_index)
        agreed[index] = AgreedHand((hands[index] + others[other_index]) / 2, difference)
    return agreed


def _difference(hand: np.ndarray, other: np.ndarray) -> float:
    """Return the largest distance of two answers as a share of their mean's box."""
    side = float(np.ptp((hand + other) / 2, axis=0).max())
    return float(np.linalg.norm(hand - other, axis=1).max()) / max(side, 1.0)
