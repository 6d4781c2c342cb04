"""A function for each layout of data sets, which writes a tiny set in it."""

import dataclasses
import pickle

import numpy as np

from data_tools.build_lmdb import TRAIN, VALIDATION
from tests.support.hands import write_layout
from tests.support.images import encoded
from tests.support.readers import CAMERA, RHD_ORDER, coco_content, write

# A function for each layout: make_X(root, {set name: drawn samples}) writes a tiny set in it and
# returns {set name: {key: keypoints}}.


def make_onehand10k(root, samples):
    expected = {}
    for name, split in ((TRAIN, "Train"), (VALIDATION, "Test")):
        images = [dataclasses.replace(sample, key=f"{sample.key}.jpg") for sample in samples[name]]
        write_layout(root, {split: images})
        expected[name] = {
            f"{split}_{sample.key}.jpg": np.round(sample.keypoints) for sample in samples[name]
        }
    return expected


def make_coco(root, samples):
    expected = {}
    for name, split in ((TRAIN, "hands_train"), (VALIDATION, "hands_test")):
        for sample in samples[name]:
            write(root / "images" / f"{sample.key}.jpg", sample.image_bytes)
        write(root / "annotations" / f"{split}.json", coco_content(samples[name]))
        expected[name] = {
            f"{split}_{sample.key}.jpg_{70 + index}": sample.keypoints
            for index, sample in enumerate(samples[name])
        }
    return expected


def make_cmu(root, samples):
    expected = {}
    for name, split in ((TRAIN, "manual_train"), (VALIDATION, "manual_test")):
        for sample in samples[name]:
            write(root / split / f"{sample.key}_l.jpg", sample.image_bytes)
            write(
                root / split / f"{sample.key}_l.json",
                {"hand_pts": sample.keypoints.tolist(), "is_left": 1, "hand_box_center": [80, 60]},
            )
        expected[name] = {
            f"{split}_{sample.key}_l.jpg": sample.keypoints for sample in samples[name]
        }
    return expected


def make_rhd(root, samples):
    """Hands of even index are left ones."""
    expected = {}
    for name, split in ((TRAIN, "training"), (VALIDATION, "evaluation")):
        labels, expected[name] = {}, {}
        for index, sample in enumerate(samples[name]):
            right = index % 2
            uv_vis = np.zeros((42, 3))
            uv_vis[21 * right + np.array(RHD_ORDER)] = sample.keypoints
            labels[index] = {"uv_vis": uv_vis, "xyz": np.zeros((42, 3)), "K": np.eye(3)}
            values = np.where(sample.mask(), 20 if right else 5, 0).astype(np.uint8)
            values[:5] = 1
            write(root / split / "color" / f"{index:05d}.png", encoded(sample.image()))
            write(root / split / "mask" / f"{index:05d}.png", encoded(values))
            expected[name][f"{split}_{index:05d}_{'right' if right else 'left'}"] = sample.keypoints
        write(root / split / f"anno_{split}.pickle", pickle.dumps(labels))
    return expected


def make_freihand(root, samples):
    """Two versions of each training hand; a missing keypoint is one outside the image."""
    expected = {}
    for name, split, versions in ((TRAIN, "training", 2), (VALIDATION, "evaluation", 1)):
        hands, expected[name] = [], {}
        for index, sample in enumerate(samples[name]):
            xy, z = sample.keypoints[:, :2], 0.5
            hands.append(np.column_stack([(xy - (80, 60)) / 200 * z, np.full(21, z)]).tolist())
            for version in range(versions):
                number = f"{index + version * 32560:08d}"
                write(root / split / "rgb" / f"{number}.jpg", sample.image_bytes)
                expected[name][f"{split}_{number}.jpg"] = sample.keypoints
            if name == TRAIN:
                write(
                    root / split / "mask" / f"{index:08d}.jpg", encoded(sample.mask() * 255, ".jpg")
                )
        write(root / f"{split}_K.json", [CAMERA] * len(samples[name]))
        write(root / f"{split}_xyz.json", hands)
    return expected


MAKERS = {
    "onehand10k": make_onehand10k,
    "coco": make_coco,
    "cmu": make_cmu,
    "rhd": make_rhd,
    "freihand": make_freihand,
}
