"""The usual loader, Albumentations under PyTorch's DataLoader, in an environment of its own:

    python -m benchmarks.peers.albumentations_worker FOLDER SETTINGS

FOLDER: 0.jpg, 0.png (mask, above 127 is hand), 1.jpg ..., keypoints.npy (N, 21, 3). SETTINGS: JSON of input_size,
sigma, background ("sum" or "max"), scale, rotation, flip (the augmentation's ranges and probability), batch_size, workers,
warm_up (batches that do not count), seconds, and check. Prints JSON, "rate" (images/s); with check, the name of a file, it writes the
first batch, letterboxed only, to it as .npz and prints "versions".
"""

import itertools
import json
import pathlib
import sys
import time

import albumentations
import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

GREY, LEVELS, STRIDE = 128, 256, 8


def augmentation(setting: dict) -> albumentations.Compose:
    """Letterbox, then scale and rotation on a canvas that holds the largest frame, a random crop of it, and a flip."""
    m, (low, high) = setting["input_size"], setting["scale"]
    canvas = round(m * high)
    return composed(
        [
            *letterbox(canvas),
            albumentations.Affine(
                scale=(low / high, 1.0), rotate=setting["rotation"], fill=GREY, fill_mask=0, p=1.0
            ),
            albumentations.RandomCrop(m, m),
            albumentations.HorizontalFlip(p=setting["flip"]),
        ]
    )


def letterbox(size: int) -> list:
    return [
        albumentations.LongestMaxSize(size, area_for_downscale="image"),
        albumentations.PadIfNeeded(size, size, position="top_left", fill=GREY, fill_mask=0),
    ]


def composed(steps: list) -> albumentations.Compose:
    keypoints = albumentations.KeypointParams(
        "xy", remove_invisible=False, check_each_transform=False
    )
    return albumentations.Compose(steps, keypoint_params=keypoints)


def heatmaps(
    keypoints: np.ndarray, visible: np.ndarray, cells: int, sigma: float, background: str
) -> np.ndarray:
    """(22, cells, cells) float32: a Gaussian at each visible one of (21, 2) keypoints, pixels of the input, and the background."""
    centres = ((keypoints + 0.5) / STRIDE - 0.5).astype(np.float32)
    y, x = np.mgrid[:cells, :cells].astype(np.float32)
    distances = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2
    maps = np.exp(-distances / (2 * sigma**2)) * visible[:, None, None]
    rest = 1 - (maps.sum(axis=0) if background == "sum" else maps.max(axis=0))
    return np.concatenate([maps, rest[None]]).astype(np.float32)


class Hands(Dataset):
    """(data, mask label, heatmaps) of the pictures of a folder, augmented anew at each call, or letterboxed only."""

    def __init__(self, folder: pathlib.Path, setting: dict, augment: bool):
        self.folder, self.setting = folder, setting
        self.keypoints = np.load(folder / "keypoints.npy")
        self.transform = (
            augmentation(setting) if augment else composed(letterbox(setting["input_size"]))
        )

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, place: int) -> tuple:
        m, (image, mask) = (
            self.setting["input_size"],
            (
                cv2.imdecode(np.fromfile(self.folder / f"{place}{ending}", np.uint8), flags)
                for ending, flags in ((".jpg", cv2.IMREAD_COLOR), (".png", cv2.IMREAD_GRAYSCALE))
            ),
        )
        keypoints = self.keypoints[place]
        found = self.transform(image=image, mask=mask, keypoints=keypoints[:, :2])
        xy = np.asarray(found["keypoints"])
        visible = (keypoints[:, 2] > 0) & ((xy >= -0.5) & (xy < m - 0.5)).all(axis=1)
        data = (found["image"].astype(np.float32) - GREY) / LEVELS
        label = (found["mask"][STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] >= 128).astype(
            np.float32
        )
        maps = heatmaps(xy, visible, m // STRIDE, self.setting["sigma"], self.setting["background"])
        return (
            torch.from_numpy(data.transpose(2, 0, 1)),
            torch.from_numpy(label[None]),
            torch.from_numpy(maps),
        )


def rate(dataset: Dataset, setting: dict) -> float:
    """Images/s that the loader's processes hand over, the consumer only taking them."""
    endless = RandomSampler(dataset, replacement=True, num_samples=10**7)
    loader = iter(
        DataLoader(
            dataset,
            setting["batch_size"],
            sampler=endless,
            num_workers=setting["workers"],
            prefetch_factor=2,
            worker_init_fn=lambda worker: cv2.setNumThreads(1),
        )
    )
    for _ in range(setting["warm_up"]):
        next(loader)
    start = time.perf_counter()
    for count in itertools.count(1):
        next(loader)
        if time.perf_counter() - start >= setting["seconds"]:
            return count * setting["batch_size"] / (time.perf_counter() - start)


def main(folder: str, settings: str) -> None:
    folder, setting = pathlib.Path(folder), json.loads(settings)
    if setting["check"]:
        plain = DataLoader(Hands(folder, setting, augment=False), setting["batch_size"])
        np.savez(setting["check"], *(part.numpy() for part in next(iter(plain))))
        found = {
            "versions": {
                module.__name__: module.__version__ for module in (albumentations, torch, cv2)
            }
        }
    else:
        found = {"rate": rate(Hands(folder, setting, augment=True), setting)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
