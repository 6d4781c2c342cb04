"""Small drawn hands, and sets made of them."""

import dataclasses
import pathlib

import cv2
import numpy as np

from data_tools.readers.onehand10k import LABELS, format_label
from mcc_caffe.core.hand import NAMES, SKELETON, keypoint_colour
from mcc_caffe.data.samples import Sample
from mcc_caffe.data.writers import SampleWriter
from tests.support.images import oriented_image

WIDTH, HEIGHT = 160, 120  # of `hand`


def drawn_sample(rng: np.random.Generator, key: str, width: int = 160, height: int = 120) -> Sample:
    """Draw a stick hand on a noisy background, with mask and keypoints, some of them missing."""
    image = rng.integers(60, 140, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    scale = min(width, height)
    wrist = np.array([width / 2, height * 0.95]) + rng.uniform(-0.05, 0.05, 2) * scale
    points = [wrist]
    for angle in np.radians([-150, -115, -95, -75, -55]) + rng.normal(0, 0.08, 5):
        reach = np.array([0.3, 0.5, 0.65, 0.8]) * rng.uniform(0.85, 1.1) * scale
        points += [wrist + r * np.array([np.cos(angle), np.sin(angle)]) for r in reach]
    points = np.array(points)
    thickness = max(2, scale // 20)
    for start, end, _ in SKELETON:
        ends = [tuple(np.round(points[k]).astype(int).tolist()) for k in (start, end)]
        cv2.line(image, *ends, keypoint_colour(end), thickness)
        cv2.line(mask, *ends, 255, thickness)
    present = rng.uniform(size=21) < 0.95
    keypoints = np.where(present[:, None], np.column_stack([points, present]), (-1, -1, 0)).astype(
        np.float32
    )
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    return Sample(key, encoded, cv2.imencode(".png", mask)[1].tobytes(), keypoints)


def write_set(folder: pathlib.Path, samples: list) -> pathlib.Path:
    """Write the samples as an LMDB set."""
    with SampleWriter(folder) as writer:
        for sample in samples:
            writer.add(sample)
        writer.finish(source="drawn")
    return folder


def write_unchecked_set(folder: pathlib.Path, samples: list) -> pathlib.Path:
    """Write the samples as an LMDB set that another program, which checks nothing, has made."""
    with SampleWriter(folder) as writer:
        for sample in samples:
            writer.put(sample.key, *sample.to_datums(writer.count))
        writer.finish(source="drawn")
    return folder


def write_photos(folder: pathlib.Path) -> pathlib.Path:
    """Write colour, grey, alpha, 16-bit and 1-pixel images in two folders, and a text file."""
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    (folder / "hand.jpg").write_bytes(drawn_sample(rng, "x").image_bytes)
    (folder / "more/hand.JPG").write_bytes(drawn_sample(rng, "x").image_bytes)
    cv2.imwrite(str(folder / "hand.png"), rng.integers(0, 255, (60, 80), dtype=np.uint8))
    cv2.imwrite(str(folder / "alpha.png"), rng.integers(0, 255, (60, 80, 4), dtype=np.uint8))
    cv2.imwrite(str(folder / "deep.png"), rng.integers(0, 65535, (60, 80, 3), dtype=np.uint16))
    cv2.imwrite(str(folder / "pixel.png"), np.zeros((1, 1, 3), np.uint8))
    (folder / "notes.txt").write_text("no image")
    return folder


def turned_jpeg() -> bytes:
    """Make a JPEG of 40 x 20 pixels whose EXIF orientation, 6, says "turn by 90 degrees"."""
    return oriented_image(np.zeros((20, 40, 3), np.uint8), "JPEG", 6)


def hand(number: int, **changes) -> Sample:
    """Draw a hand whose keypoints are all there, inside the image and on the mask."""
    rng = np.random.default_rng(number)
    while True:
        sample = drawn_sample(rng, f"{number}.jpg", WIDTH, HEIGHT)
        xy = sample.keypoints[:, :2]
        if sample.keypoints[:, 2].all() and (xy >= 0).all() and (xy < (WIDTH, HEIGHT)).all():
            return dataclasses.replace(sample, **changes)


def write_layout(folder: pathlib.Path, splits: dict[str, list[Sample]]) -> pathlib.Path:
    """Write {split: samples} in OneHand10K's layout; a sample's key is its image's name."""
    for split, samples in splits.items():
        for name in ("source", "mask"):
            (folder / split / name).mkdir(parents=True)
        lines = []
        for sample in samples:
            (folder / split / "source" / sample.key).write_bytes(sample.image_bytes)
            mask_name = pathlib.Path(sample.key).with_suffix(".png")
            (folder / split / "mask" / mask_name).write_bytes(sample.mask_png)
            height, width = sample.mask().shape
            lines.append(format_label(sample.key, width, height, sample.keypoints))
        (folder / split / LABELS).write_text("".join(f"{line}\n" for line in lines))
    return folder


def keypoints_at(*points: tuple[float, float]) -> np.ndarray:
    """Return keypoints (21, 3): the first ones at the given (x, y), the others missing."""
    keypoints = np.tile(np.float32([-1, -1, 0]), (21, 1))
    for k, point in enumerate(points):
        keypoints[k] = *point, 1
    return keypoints


def moved(sample: Sample, **keypoints_by_name: tuple[float, float, int]) -> np.ndarray:
    """Return the sample's keypoints with the named ones replaced by other (x, y, v)."""
    keypoints = sample.keypoints.copy()
    for name, keypoint in keypoints_by_name.items():
        keypoints[NAMES.index(name)] = keypoint
    return keypoints
