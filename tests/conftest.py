"""What the tests share: small drawn hands, and sets made of them."""
import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from caffe_build.locate import importable_folder, prefix_of
from mcc_caffe.hand import SKELETON, keypoint_colour
from mcc_caffe.samples import Sample, SampleWriter

ROOT = pathlib.Path(__file__).parent.parent
os.environ.setdefault("GLOG_minloglevel", "2")


def drawn_sample(rng: np.random.Generator, key: str, width: int = 160, height: int = 120) -> Sample:
    """A stick hand in finger colours on a noisy background, with its mask and keypoints; some keypoints missing."""
    image = rng.integers(60, 140, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    scale = min(width, height)
    wrist = np.array([width / 2, height * 0.95]) + rng.uniform(-0.05, 0.05, 2) * scale
    points = [wrist]
    for finger, angle in enumerate(np.radians([-150, -115, -95, -75, -55]) + rng.normal(0, 0.08, 5)):
        reach = np.array([0.3, 0.5, 0.65, 0.8]) * rng.uniform(0.85, 1.1) * scale
        points += [wrist + r * np.array([np.cos(angle), np.sin(angle)]) for r in reach]
    points = np.array(points)
    thickness = max(2, scale // 20)
    for start, end, finger in SKELETON:
        ends = [tuple(np.round(points[k]).astype(int).tolist()) for k in (start, end)]
        cv2.line(image, *ends, keypoint_colour(end), thickness)
        cv2.line(mask, *ends, 255, thickness)
    present = rng.uniform(size=21) < 0.95
    keypoints = np.where(present[:, None], np.column_stack([points, present]), (-1, -1, 0)).astype(np.float32)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    return Sample(key, encoded, cv2.imencode(".png", mask)[1].tobytes(), keypoints)


def write_set(folder: pathlib.Path, samples: list) -> pathlib.Path:
    """Writes the samples as an LMDB set."""
    with SampleWriter(folder) as writer:
        for sample in samples:
            writer.add(sample)
        writer.finish(source="drawn")
    return folder


@pytest.fixture(scope="session")
def drawn_samples() -> list:
    """Ten drawn hands of two sizes."""
    rng = np.random.default_rng(0)
    return [drawn_sample(rng, f"drawn{i}.jpg", *((160, 120) if i % 2 else (100, 140))) for i in range(10)]


@pytest.fixture(scope="session")
def drawn_set(drawn_samples, tmp_path_factory) -> pathlib.Path:
    """The ten drawn hands as an LMDB set."""
    return write_set(tmp_path_factory.mktemp("sets") / "drawn", drawn_samples)


@pytest.fixture(scope="session")
def two_sets(drawn_samples, tmp_path_factory) -> pathlib.Path:
    """A folder of LMDB sets: six drawn hands to train on, four to validate."""
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder / "train", drawn_samples[:6])
    write_set(folder / "validation", drawn_samples[6:])
    return folder


@pytest.fixture(scope="session")
def caffe_tool() -> pathlib.Path:
    """The stock tool `caffe` of the Caffe in use."""
    tool = prefix_of(importable_folder()) / "bin/caffe"
    if not tool.is_file():
        pytest.skip(f"the Caffe in use has no {tool}")
    return tool


def run(*command, **options) -> subprocess.CompletedProcess:
    """Runs `python -m <command>` from the top of the project, as a user would."""
    return subprocess.run([sys.executable, "-m", *map(str, command)], cwd=ROOT, capture_output=True, text=True,
                          timeout=options.pop("timeout", 300), **options)
