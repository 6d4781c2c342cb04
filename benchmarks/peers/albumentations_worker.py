"""The usual loader, Albumentations under PyTorch's DataLoader, in an environment of its own:

    python -m benchmarks.peers.albumentations_worker FOLDER SETTINGS

FOLDER has 0.jpg, 0.png (mask, above 127 is hand), 1.jpg ..., and keypoints.npy (N, 21, 3). SETTINGS
is JSON: variant, workers, warm_up (batches that do not count), seconds, and check. Prints JSON:
"rate", images/s. With check, the name of a file, it writes the first batch, letterboxed only, to
that file as .npz and prints "versions" instead.
"""

import json
import pathlib
import time
from typing import Any

import albumentations
import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.timing import run_worker
from mcc_caffe.paper import (
    FLIP_PROBABILITY,
    GREY,
    PIXEL_SCALE,
    ROTATION_RANGE,
    SCALE_RANGE,
    STRIDE,
    VARIANTS,
    Variant,
)


def augmentation(side: int) -> albumentations.Compose:
    """Make the paper's augmentation, for an input of side x side pixels.

    The image is letterboxed, then scaled and rotated on a canvas that holds the largest frame,
    of which a random part is cropped and flipped.
    """
    smallest, largest = SCALE_RANGE
    return compose(
        [
            *letterbox(round(side * largest)),
            albumentations.Affine(
                scale=(smallest / largest, 1.0),
                rotate=ROTATION_RANGE,
                fill=GREY,
                fill_mask=0,
                p=1.0,
            ),
            albumentations.RandomCrop(side, side),
            albumentations.HorizontalFlip(p=FLIP_PROBABILITY),
        ]
    )


def letterbox(size: int) -> list:
    """Return the transforms that fit an image into a square at its left and top edge."""
    return [
        albumentations.LongestMaxSize(size, area_for_downscale="image"),
        albumentations.PadIfNeeded(size, size, position="top_left", fill=GREY, fill_mask=0),
    ]


def compose(transforms: list) -> albumentations.Compose:
    """Join transforms into one that takes keypoints along, also those outside the image."""
    keypoints = albumentations.KeypointParams(
        "xy", remove_invisible=False, check_each_transform=False
    )
    return albumentations.Compose(transforms, keypoint_params=keypoints)


def heatmaps(
    keypoints: np.ndarray, visible: np.ndarray, cells: int, sigma: float, background: str
) -> np.ndarray:
    """Return the heatmaps of a hand.

    Args:
        keypoints: (21, 2) of x, y in pixels of the input.
        visible: (21,) bool.
        cells: Side of a map.
        sigma: Standard deviation of the Gaussian at each visible keypoint, cells.
        background: "sum" or "max": the last map is 1 minus that of the others.

    Returns:
        (22, cells, cells) float32.
    """
    centres = ((keypoints + 0.5) / STRIDE - 0.5).astype(np.float32)
    y, x = np.mgrid[:cells, :cells].astype(np.float32)
    distances = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2
    maps = np.exp(-distances / (2 * sigma**2)) * visible[:, None, None]
    rest = 1 - (maps.sum(axis=0) if background == "sum" else maps.max(axis=0))
    return np.concatenate([maps, rest[None]]).astype(np.float32)


class Hands(Dataset):
    """The images of a folder, augmented anew at each call, or letterboxed only."""

    def __init__(self, folder: pathlib.Path, variant: Variant, augment: bool):
        self.folder, self.variant = folder, variant
        self.keypoints = np.load(folder / "keypoints.npy")
        side = variant.input_size
        self.transform = augmentation(side) if augment else compose(letterbox(side))

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, index: int) -> tuple:
        """Return the tensors of a sample as the net takes it: data, mask label, heatmaps."""
        side = self.variant.input_size
        image = self._decode(f"{index}.jpg", cv2.IMREAD_COLOR)
        mask = self._decode(f"{index}.png", cv2.IMREAD_GRAYSCALE)
        keypoints = self.keypoints[index]
        transformed = self.transform(image=image, mask=mask, keypoints=keypoints[:, :2])
        xy = np.asarray(transformed["keypoints"])
        visible = (keypoints[:, 2] > 0) & ((xy >= -0.5) & (xy < side - 0.5)).all(axis=1)
        data = (transformed["image"].astype(np.float32) - GREY) / PIXEL_SCALE
        cell_centres = transformed["mask"][STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        label = (cell_centres >= 128).astype(np.float32)
        maps = heatmaps(
            xy, visible, self.variant.cells, self.variant.sigma, self.variant.background
        )
        return (
            torch.from_numpy(data.transpose(2, 0, 1)),
            torch.from_numpy(label[None]),
            torch.from_numpy(maps),
        )

    def _decode(self, name: str, flags: int) -> np.ndarray:
        image = cv2.imdecode(np.fromfile(self.folder / name, np.uint8), flags)
        assert image is not None, name
        return image


def measure_rate(dataset: Hands, settings: dict[str, Any]) -> float:
    """Return the images/s of the loader's processes, whose consumer only takes the batches."""
    batch_size = dataset.variant.batch_size
    endless = RandomSampler(dataset, replacement=True, num_samples=10**7)
    loader = iter(
        DataLoader(
            dataset,
            batch_size,
            sampler=endless,
            num_workers=settings["workers"],
            prefetch_factor=2,
            worker_init_fn=lambda worker: cv2.setNumThreads(1),
        )
    )
    for _ in range(settings["warm_up"]):
        next(loader)
    start, count, seconds = time.perf_counter(), 0, 0.0
    while seconds < settings["seconds"]:
        next(loader)
        count += 1
        seconds = time.perf_counter() - start
    return count * batch_size / seconds


def main(folder_name: str, settings_json: str) -> None:
    """Run the command."""
    folder, settings = pathlib.Path(folder_name), json.loads(settings_json)
    variant = VARIANTS[settings["variant"]]
    if settings["check"]:
        plain = DataLoader(Hands(folder, variant, augment=False), variant.batch_size)
        np.savez(settings["check"], *(array.numpy() for array in next(iter(plain))))
        modules = (albumentations, torch, cv2)
        print(json.dumps({"versions": {module.__name__: module.__version__ for module in modules}}))
    else:
        print(json.dumps({"rate": measure_rate(Hands(folder, variant, augment=True), settings)}))


if __name__ == "__main__":
    run_worker(main, __doc__)
