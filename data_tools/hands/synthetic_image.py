"""Renders one numbered image of a hand, with its mask and all that is known of it."""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from data_tools.hands import hand_scene
from data_tools.hands.truth import Truth
from data_tools.readers.onehand10k import SPLITS
from mcc_caffe.core.geometry import lie_inside

# The least and the greatest value of each number in ImageOptions.
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "size": (64, 2048),
    "min_fill": (0.05, 0.9),
    "max_roll": (0.0, 180.0),
    "common": (0.0, 1.0),
    "held": (0.0, 1.0),
    "people": (0.0, 1.0),
}
JPEG_QUALITY = (45, 95)


class ImageOptions(NamedTuple):
    """What the images of a set show; RANGES has the allowed values.

    Attributes:
        seed: Another seed gives other images.
        size: Longer side of the largest images, pixels.
        min_fill: Share of the frame that the smallest hands fill.
        max_roll: Largest angle between the fingers and straight up, degrees.
        common: Share of the hands drawn from `hand_pose.COMMON`; the others are drawn from all
            poses.
        held: Share of the hands that hold something.
        people: Share of the images with a person behind the hand.
        easy: Whether to draw only open right hands in full view; the five numbers above, from
            `min_fill` to `people`, then have no effect.
    """

    seed: int = 0
    size: int = 400
    min_fill: float = hand_scene.VARIED.fill[0]
    max_roll: float = hand_scene.VARIED.max_roll
    common: float = hand_scene.VARIED.common
    held: float = hand_scene.VARIED.held
    people: float = hand_scene.VARIED.people
    easy: bool = False

    def repertoire(self) -> hand_scene.Repertoire:
        """Return the repertoire to draw from."""
        if self.easy:
            return hand_scene.EASY
        return replace(
            hand_scene.VARIED,
            fill=(self.min_fill, hand_scene.VARIED.fill[1]),
            max_roll=self.max_roll,
            common=self.common,
            held=self.held,
            people=self.people,
        )


class EncodedRendering(NamedTuple):
    """A rendering as files.

    Attributes:
        jpeg: The image's bytes.
        mask_png: PNG of {0, 255}, the image's size.
        truth: What is known of the image; a line of truth.jsonl.
    """

    jpeg: bytes
    mask_png: bytes
    truth: Truth


def render_image(split: str, number: int, options: ImageOptions) -> EncodedRendering:
    """Render an image, the same one for the same arguments.

    Args:
        split: "Train" or "Test".
        number: The image's number in its split, from 1.
        options: What the images of the set show.
    """
    rng = np.random.default_rng((options.seed, SPLITS.index(split), number))
    rendered = hand_scene.render(rng, options.size, split, options.repertoire())
    quality = int(rng.integers(*JPEG_QUALITY, endpoint=True))
    height, width = rendered.mask.shape
    keypoints = [(round(float(x), 2), round(float(y), 2)) for x, y in rendered.keypoints]
    # Rounding may have moved a keypoint out of the image.
    are_inside = lie_inside(np.array(keypoints), width, height)
    states = np.where(are_inside, rendered.states, hand_scene.OUTSIDE)
    truth: Truth = {
        "image": f"{number}.jpg",
        "width": width,
        "height": height,
        "joints": [[x, y, state] for (x, y), state in zip(keypoints, states)],
        "parameters": {**rendered.parameters, "jpeg_quality": quality},
    }
    jpeg = cv2.imencode(".jpg", rendered.image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return EncodedRendering(jpeg.tobytes(), cv2.imencode(".png", rendered.mask)[1].tobytes(), truth)
