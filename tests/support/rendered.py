"""Rendered hands, which the shipped weights find."""

import cv2
import numpy as np

from data_tools.hands import hand_scene


def render_hand(seed: int, side: int = 160) -> hand_scene.RenderedHand:
    """Render a hand such as networks are trained on, of at most `side` pixels a side."""
    return hand_scene.render(np.random.default_rng((7, seed)), side, "Train")


def render_two_hands() -> tuple[np.ndarray, np.ndarray]:
    """Return a grey image of 640 x 480 with two hands, and their keypoints (2, 21, 2)."""
    image, keypoints = np.full((480, 640, 3), 128, np.uint8), []
    for seed, (x, y) in ((0, (60, 40)), (9, (420, 280))):
        rendered = render_hand(seed)
        height, width = rendered.image.shape[:2]
        image[y : y + height, x : x + width] = rendered.image
        keypoints.append(rendered.keypoints + (x, y))
    return image, np.stack(keypoints)


def two_hands_side_by_side() -> tuple[np.ndarray, int]:
    """Return an image of two hands whose fingers looks and levels mix, and the left one's width."""
    hands = [render_hand(seed).image for seed in (3, 2)]
    left, right = [cv2.resize(hand, (hand.shape[1] * 200 // len(hand), 200)) for hand in hands]
    return np.hstack([left, right]), left.shape[1]
