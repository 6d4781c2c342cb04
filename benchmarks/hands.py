"""The synthetic hands that several benchmarks train on and look at."""

import pathlib

import cv2
import numpy as np

from data_tools import build_lmdb, synth
from data_tools.hands import hand_scene
from mcc_caffe.core.geometry import add_grey_borders

COUNT, SIDE = 60, 640  # images, pixels
WIDTH, HEIGHT = 640, 480  # pixels of the example image
_SURE_SEED = 15  # four looks at its hand have a score of 0.79


def render_set(folder: pathlib.Path) -> pathlib.Path:
    """Render hands to `folder` and return the LMDB set made of them."""
    images, sets = folder / "hands", folder / "lmdb"
    numbers = ["--train", str(COUNT), "--test", "2", "--size", str(SIDE)]
    synth.main(["--out", str(images), *numbers])
    build_lmdb.main([str(images), str(sets)])
    return sets / build_lmdb.TRAIN


def example_jpeg() -> bytes:
    """Return `example_image` as a JPEG."""
    return cv2.imencode(".jpg", example_image())[1].tobytes()


def example_image() -> np.ndarray:
    """Render a hand of which the default weights are sure in the middle of a grey image.

    Returns:
        (480, 640, 3) uint8 BGR.
    """
    hand = hand_scene.render(np.random.default_rng(_SURE_SEED), HEIGHT, "Train").image
    return add_grey_borders(hand, (WIDTH, HEIGHT))
