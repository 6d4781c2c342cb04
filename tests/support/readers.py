"""Tiny data sets in the layouts of the real ones."""

import dataclasses
import json

import cv2
import numpy as np

from data_tools.readers.onehand10k import LABELS
from tests.support.hands import drawn_sample
from tests.support.images import encoded
from tests.support.labels import turned

# Typed from RHD's description: wrist, thumb, index, middle, ring, pinky, each from tip to base.
RHD_ORDER = [0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17]
CAMERA = [[200.0, 0.0, 80.0], [0.0, 200.0, 60.0], [0.0, 0.0, 1.0]]


def drawn(count, seed):
    """Draw hands in 160 x 120 pixels, which 2.2 times the box of their keypoints holds.

    Keypoints outside the image are missing.
    """
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        sample = drawn_sample(rng, str(number))
        inside = ((sample.keypoints[:, :2] >= 0) & (sample.keypoints[:, :2] <= (159, 119))).all(
            axis=1, keepdims=True
        )
        keypoints = np.where(inside, sample.keypoints, (-1, -1, 0)).astype(np.float32)
        samples.append(dataclasses.replace(sample, keypoints=keypoints))
    return samples


def plain_image(width=160, height=120, ending=".jpg"):
    """An image in which every pixel differs from its neighbours."""
    x, y = np.meshgrid(np.arange(width) % 256, np.arange(height) % 256)
    return encoded(np.stack([x, y, (x + y) % 256], axis=-1).astype(np.uint8), ending)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def coco_content(samples):
    """Write samples as MMPose's annotations, whose missing keypoints are 0, 0, 0.

    By turns the mask is given as polygons, as run lengths, and as a box, which is none.
    """
    images, annotations = [], []
    for number, sample in enumerate(samples):
        x, y, width, height = map(float, cv2.boundingRect(sample.mask()))
        doubled = sample.mask().repeat(2, axis=0).repeat(2, axis=1)
        outlines = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        flat = sample.mask().T.ravel()
        changes = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *changes, flat.size]).tolist()
        box = [x, y, x + width, y, x + width, y + height, x, y + height]
        segmentation = (
            [((outline.ravel() + 1) // 2).tolist() for outline in outlines],  # pixels' corners
            {"size": [120, 160], "counts": runs},
            [box],
        )[number % 3]
        keypoints = np.where(
            sample.keypoints[:, 2:] > 0, sample.keypoints * (1, 1, 1 + number % 2), 0
        )
        images.append(
            {"id": 7 + number, "file_name": f"{sample.key}.jpg", "width": 160, "height": 120}
        )
        annotations.append(
            {
                "id": 70 + number,
                "image_id": 7 + number,
                "category_id": 1,
                "bbox": [x, y, width, height],
                "keypoints": keypoints.ravel().tolist(),
                "segmentation": segmentation,
                "iscrowd": 0,
            }
        )
    names = [
        "wrist",
        *(
            f"{finger}{joint}"
            for finger in ("thumb", "forefinger", "middle", "ring", "pinky")
            for joint in (1, 2, 3, 4)
        ),
    ]
    return {
        "info": {"description": "OneHand10K"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "hand", "keypoints": names}],
    }


def write_turned_set(root, sample):
    """Write a COCO-style set of one image that is stored turned; its labels are of the upright one.

    Args:
        root: Folder of the set.
        sample: As `drawn` makes it.
    """
    content = coco_content([sample])
    content["images"][0]["file_name"] = "hand.png"
    write(root / "hands.json", content)
    write(root / "images/hand.png", turned(sample.image(), 6))
    return root / "hands.json"


def write_shared_image(root):
    """Write a COCO-style set whose splits have two hands each in a common image and another."""
    x, y = np.arange(21) % 5 * 8.0, np.arange(21) // 5 * 8.0
    for number, (split, names) in enumerate((("train", "ab"), ("test", "ac"))):
        hands = [(image_id, left + 20 * number) for image_id in range(2) for left in (10, 110)]
        write(
            root / f"{split}.json",
            {
                "images": [{"id": k, "file_name": f"{name}.png"} for k, name in enumerate(names)],
                "annotations": [
                    {
                        "id": index,
                        "image_id": image_id,
                        "bbox": [left, 20, 32, 32],
                        "keypoints": np.stack([left + x, 20 + y, x * 0 + 2], axis=1).tolist(),
                    }
                    for index, (image_id, left) in enumerate(hands)
                ],
            },
        )
    for seed, name in enumerate("abc"):
        noise = np.random.default_rng(seed).integers(0, 256, (12, 20, 3), np.uint8)
        write(root / f"images/{name}.png", encoded(cv2.resize(noise, (200, 120))))
    return root


def replace_line(layout, number, line):
    path = layout / "Train" / LABELS
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")
