"""Turns the drawn hand into a photograph: a background, the hand's shadow on it, and a camera."""

import cv2
import numpy as np

from data_tools.hands.backgrounds import random_background


def add_background(rng: np.random.Generator, rgba: np.ndarray, split: str) -> np.ndarray:
    """Put a random background behind the drawn hand.

    Args:
        rng: Draws the background and the hand's shadow on it.
        rgba: HxWx4 uint8 of premultiplied RGB and coverage.
        split: "Train" or "Test", which share no photograph.

    Returns:
        HxWx3 uint8 BGR.
    """
    height, width = rgba.shape[:2]
    background = random_background(rng, height, width, split).astype(np.float32)
    alpha = rgba[..., 3:].astype(np.float32) / 255
    if rng.random() < 0.35:  # the hand's shadow on what is behind
        shift = np.array(
            [[1, 0, rng.normal(0, 0.06) * width], [0, 1, rng.uniform(0, 0.1) * height]], np.float32
        )
        shade = cv2.warpAffine(
            alpha[..., 0], shift, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        shade = cv2.GaussianBlur(shade, (0, 0), max(height, width) * rng.uniform(0.005, 0.04))
        background *= 1 - rng.uniform(0.15, 0.6) * shade[..., None]
    return (background * (1 - alpha) + rgba[..., 2::-1]).clip(0, 255).astype(np.uint8)


def lose_resolution(image: np.ndarray, factor: float) -> np.ndarray:
    """Return an image (HxWx3 uint8) that was reduced and enlarged again; nothing in it moves.

    Args:
        image: The image.
        factor: The share of its sides' pixels that are left, above 0 and at most 1.
    """
    height, width = image.shape[:2]
    # The sizes are given in whole pixels: OpenCV would otherwise reduce by the factor itself, and
    # enlarge by the ratio of the rounded sides.
    reduced = max(round(width * factor), 1), max(round(height * factor), 1)
    small = cv2.resize(image, reduced, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def simulate_camera(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Return the image (HxWx3 uint8 BGR) as a camera would have taken it.

    White balance, exposure, defocus, motion, lost resolution and noise are drawn at random.
    """
    height, width = image.shape[:2]
    curve = (
        (np.arange(256) / 255.0) ** np.exp(rng.normal(0, 0.17)) * 255 * np.exp(rng.normal(0, 0.08))
    )
    image = cv2.LUT(
        image,
        np.clip(curve[:, None] * np.exp(rng.normal(0, 0.04, 3)), 0, 255)
        .astype(np.uint8)
        .reshape(1, 256, 3),
    )
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.6) * max(height, width) / 400)
    if rng.random() < 0.12:
        reach, angle = rng.uniform(2, 9) * max(height, width) / 400, rng.uniform(0, np.pi)
        kernel = np.zeros((21, 21), np.float32)
        step = np.array([np.cos(angle), np.sin(angle)]) * min(reach, 20) / 2
        cv2.line(
            kernel,
            np.round(10 - step).astype(int).tolist(),
            np.round(10 + step).astype(int).tolist(),
            1.0,
            1,
            cv2.LINE_AA,
        )
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if rng.random() < 0.2:
        image = lose_resolution(image, rng.uniform(0.35, 0.8))
    if rng.random() < 0.8:
        grain: np.ndarray = rng.standard_normal(
            (height, width, 1 if rng.random() < 0.5 else 3), np.float32
        )
        if rng.random() < 0.4:
            grain = cv2.GaussianBlur(grain, (0, 0), 0.8).reshape(grain.shape) * 2
        image = np.clip(image + grain * np.float32(np.exp(rng.uniform(0, 2.3))), 0, 255).astype(
            np.uint8
        )
    return image
