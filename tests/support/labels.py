"""Folders of images to label, labels of them, and what the data sets made of them hold."""

import os
import pathlib

import numpy as np
import PIL.Image

from data_tools import readers
from mcc_caffe.core.files import LABELS_FOLDER
from mcc_caffe.data.samples import Sample
from mcc_caffe.serving.label_documents import Labels, Point
from mcc_caffe.serving.label_files import COCO, ONEHAND10K
from mcc_caffe.serving.run_lengths import encode_runs
from tests.support.images import oriented_image


def write_images(folder: pathlib.Path, samples: dict[str | bytes, Sample]) -> pathlib.Path:
    """Write {path below the folder: image}."""
    for name, sample in samples.items():
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample.image_bytes)
    return folder


def labels_of(sample: Sample, status: str = "done") -> Labels:
    """Return a sample's labels as the page would send them."""
    mask = sample.mask()
    last = mask.shape[1] - 1, mask.shape[0] - 1
    xy = sample.keypoints[:, :2].astype(float).clip(0, last).tolist()
    points = tuple(
        Point(x=x, y=y, missing=not v) for (x, y), v in zip(xy, sample.keypoints[:, 2].tolist())
    )
    return Labels(status=status, points=points, runs=tuple(encode_runs(mask)))


def read_back(folder: pathlib.Path, *, upright: bool = False) -> list[dict[str, Sample]]:
    """Read both data sets of a labelled folder; {image's key: sample} of either."""
    sets = []
    for kind in (ONEHAND10K, COCO):
        root = folder / LABELS_FOLDER / kind
        is_empty = not list(root.rglob("*.txt")) and not list(root.glob("*.json"))
        splits = {} if is_empty else readers.read_dataset(root, upright=upright)
        samples = [entry.sample() for entries in splits.values() for entry in entries]
        sets.append({_image_key(sample.key): sample for sample in samples})
        assert len(sets[-1]) == len(samples)
    return sets


def _image_key(sample_key: str) -> str:
    """Return the image's key out of `Train_KEY.jpg` or `hands_train_KEY.jpg_12`."""
    name = sample_key.removeprefix("hands_").partition("_")[2]
    return name.partition(".")[0]


def turned(image: np.ndarray, orientation: int) -> bytes:
    """Store an upright image such that its EXIF orientation has to turn it.

    Args:
        image: HxWx3 uint8 BGR.
        orientation: 1 to 8.

    Returns:
        A PNG, so that no pixel changes.
    """
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's transposition that undoes each
    stored = PIL.Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    if orientation in back:
        stored = stored.transpose(PIL.Image.Transpose(back[orientation]))
    return oriented_image(np.asarray(stored), "PNG", orientation)
