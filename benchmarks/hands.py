"""The synthetic hands that several benchmarks train on and look at."""

import pathlib

import cv2
import numpy as np

from data_tools import build_lmdb, synth
from mcc_caffe.core.images import decode_image

COUNT, SIDE = 60, 640  # pictures, pixels
WIDTH, HEIGHT = 640, 480  # pixels of the example picture


def render_set(folder: pathlib.Path) -> pathlib.Path:
    """Render hands to `folder` and return the LMDB set made of them."""
    pictures, sets = folder / "hands", folder / "lmdb"
    numbers = ["--train", str(COUNT), "--test", "2", "--size", str(SIDE)]
    synth.main(["--out", str(pictures), *numbers])
    build_lmdb.main([str(pictures), str(sets)])
    return sets / build_lmdb.TRAIN


def example_picture() -> np.ndarray:
    """Return what `example_jpeg` decodes to, HxWx3 uint8 BGR."""
    return decode_image(example_jpeg())


def example_jpeg() -> bytes:
    """Return a JPEG of 640 x 480: the lower hand of docs/demo.jpg, enlarged."""
    demo = cv2.imread(str(pathlib.Path(__file__).parent.parent / "docs/demo.jpg"))
    assert demo is not None, "docs/demo.jpg cannot be read"
    return cv2.imencode(".jpg", cv2.resize(demo[300:540, 340:660], (WIDTH, HEIGHT)))[1].tobytes()
