"""One picture of a rendered hand, with its mask and all that is known of it."""

from dataclasses import replace

import cv2
import numpy as np

from data_tools.hands import hand_scene
from data_tools.readers.onehand10k import SPLITS

# What may be asked for, from and to.
RANGES = {
    "size": (64, 2048),
    "min_fill": (0.05, 0.9),
    "max_roll": (0.0, 180.0),
    **dict.fromkeys(("common", "held", "people"), (0.0, 1.0)),
}
JPEG_QUALITY = (45, 96)


def picture(
    split: str,
    number: int,
    seed: int,
    size: int,
    min_fill: float,
    max_roll: float,
    common: float,
    held: float,
    people: float,
    easy: bool,
) -> tuple[bytes, bytes, dict]:
    """Picture `number` of a split: JPEG, mask as PNG, and its line of truth.jsonl."""
    varied = replace(
        hand_scene.VARIED,
        fill=(min_fill, hand_scene.VARIED.fill[1]),
        max_roll=max_roll,
        common=common,
        held=held,
        people=people,
    )
    repertoire = hand_scene.EASY if easy else varied
    rng = np.random.default_rng((seed, SPLITS.index(split), number))
    shown = hand_scene.render(rng, size, split, repertoire)
    quality = int(rng.integers(*JPEG_QUALITY))
    height, width = shown.mask.shape
    joints = [
        [round(float(x), 2), round(float(y), 2), state]
        for (x, y), state in zip(shown.joints, shown.states)
    ]
    truth = {
        "image": f"{number}.jpg",
        "width": width,
        "height": height,
        "joints": joints,
        "parameters": {**shown.parameters, "jpeg_quality": quality},
    }
    return (
        cv2.imencode(".jpg", shown.image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes(),
        cv2.imencode(".png", shown.mask)[1].tobytes(),
        truth,
    )
