"""How many images a second the data layer makes, beside the usual loader: `python -m benchmarks.data_layer`.

JPEGs of 640 x 480 and of 2000 x 1500 become the input, mask label and heatmaps of either variant, in two processes: by ours
from an LMDB set, and by Albumentations under PyTorch's DataLoader from files. The peer is measured with masks as data sets carry them (8
bits a pixel) and with those that our sets hold (1 bit): the second ratio is what the loader alone is worth. They take
turns, and the median counts. Before that, what either makes of the same letterboxed pictures is compared.

Prints a Markdown table and writes it, with a JSON of the same, to --out. The first call makes the peer's environment in ~/.cache/mcc-caffe/peers by
pip (1.3 GB with a PyTorch for the CPU; which PyTorch pip takes is for its settings to say).
"""

import argparse
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

import cv2
import numpy as np
from tqdm import tqdm

from benchmarks.peers.environment import environment, last_line
from data_tools import synth
from data_tools.readers import onehand10k
from data_tools.readers.shared import mask_png
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.loader import Loader, LoaderConfig
from mcc_caffe.data.samples import Sample, SampleWriter
from mcc_caffe.paper import (
    FLIP_PROBABILITY,
    PIXEL_SCALE,
    ROTATION_RANGE,
    SCALE_RANGE,
    VARIANTS,
    Variant,
)

ROOT = pathlib.Path(__file__).parent.parent
SIZES = ((640, 480), (2000, 1500))
PICTURES, QUALITY, WORKERS, WARM_UP = 24, 92, 2, 8
OURS, PEER, PEER_1_BIT = "ours", "Albumentations, DataLoader", "the same, masks of 1 bit"
PEERS = {PEER: "files", PEER_1_BIT: "files_1_bit"}
REQUIRED = (
    "torch==2.13.0",
    "albumentations==2.0.8",
    "opencv-python-headless>=4.9,<5",
    "numpy>=1.24,<3",
)  # albumentations: its last under MIT


def make_pictures(folder: pathlib.Path) -> None:
    """Renders hands; leaves for each size the LMDB set folder/WIDTH/set and the peer's folder/WIDTH/{files,files_1_bit}."""
    synth.main(
        [
            "--out",
            str(folder / "hands"),
            "--train",
            str(PICTURES),
            "--test",
            "0",
            "--size",
            str(max(map(max, SIZES))),
        ]
    )
    entries = onehand10k.entries(folder / "hands", "Train")
    for size in SIZES:
        samples = [stretched(entry.sample(), size) for entry in entries]
        with SampleWriter(folder / str(size[0]) / "set") as writer:
            for sample in samples:
                writer.add(sample)
            writer.finish(source="benchmarks.data_layer")
        for name in PEERS.values():
            files = folder / str(size[0]) / name
            files.mkdir()
            np.save(files / "keypoints.npy", np.stack([sample.keypoints for sample in samples]))
            for place, sample in enumerate(samples):
                mask = (
                    cv2.imencode(".png", 255 * sample.mask())[1].tobytes()
                    if name == PEERS[PEER]
                    else sample.mask_png
                )
                (files / f"{place}.jpg").write_bytes(sample.image_bytes)
                (files / f"{place}.png").write_bytes(mask)


def stretched(sample: Sample, size: tuple) -> Sample:
    """The sample at exactly (width, height), as JPEG."""
    image, mask = sample.image(), cv2.resize(sample.mask(), size, interpolation=cv2.INTER_NEAREST)
    keypoints = sample.keypoints * np.float32(
        [size[0] / image.shape[1], size[1] / image.shape[0], 1]
    )
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return Sample(
        sample.key,
        jpeg,
        mask_png(mask),
        np.where(sample.keypoints[:, 2:] > 0, keypoints, sample.keypoints),
    )


def our_rate(source, variant: Variant, seconds: float) -> float:
    """Images/s of two loader processes, augmentation and heatmaps included, the consumer only taking them."""
    with Loader(LoaderConfig.of(variant, str(source), workers=WORKERS)) as loader:
        for _ in range(WARM_UP):
            loader.next_batch()
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            loader.next_batch()
            count += 1
        return count * variant.batch_size / (time.perf_counter() - start)


def interpreter() -> pathlib.Path:
    """The peer's own."""
    return environment("albumentations-2.0.8", REQUIRED)


def ask_peer(
    python: pathlib.Path,
    files: pathlib.Path,
    variant: Variant,
    seconds: float = 0,
    check: pathlib.Path = None,
) -> dict:
    """{"rate": images/s} of the peer, or {"versions"} with check: where to write what it makes of the first batch, letterboxed only."""
    own = {
        key: getattr(variant, key) for key in ("input_size", "sigma", "background", "batch_size")
    }
    setting = {
        **own,
        "scale": SCALE_RANGE,
        "rotation": ROTATION_RANGE,
        "flip": FLIP_PROBABILITY,
        "workers": WORKERS,
        "warm_up": WARM_UP,
        "seconds": seconds,
        "check": str(check or ""),
    }
    done = subprocess.run(
        [python, "-m", "benchmarks.peers.albumentations_worker", files, json.dumps(setting)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"},
    )
    if done.returncode:
        raise UserError(f"the peer ended with {done.returncode}: {last_line(done.stderr)}")
    return json.loads(done.stdout)


def compare(source, variant: Variant, peers: tuple) -> dict:
    """How far the peer's letterboxed (data, mask label, heatmaps) are from ours; UserError where they are not the same thing."""
    with Loader(
        LoaderConfig.of(variant, str(source), augment=False, shuffle=False, workers=0)
    ) as loader:
        ours = list(loader.next_batch()[0].values())
    if [(part.shape, part.dtype) for part in ours] != [(part.shape, part.dtype) for part in peers]:
        raise UserError(
            f"the peer's arrays are {[part.shape for part in peers]}, ours {[part.shape for part in ours]}"
        )
    image, mask, heatmaps = (np.abs(one - other) for one, other in zip(ours, peers))
    found = {
        "image, mean, of 256": float(PIXEL_SCALE * image.mean()),
        "mask, share": float(mask.mean()),
        "heatmaps, largest": float(heatmaps.max()),
    }
    if (
        found["image, mean, of 256"] > 4
        or found["mask, share"] > 0.02
        or found["heatmaps, largest"] > 1e-5
    ):
        raise UserError(f"the peer does not make what we make: {found}")
    return found


def rows(rounds: int, seconds: float) -> tuple:
    """(rows, differences, versions): a dict for each size, variant and system, with images/s and how many times ours is as fast."""
    cases, rates, differences = (
        [(size, variant) for size in SIZES for variant in VARIANTS.values()],
        {},
        {},
    )
    python = interpreter()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make_pictures(folder)
        for size, variant in tqdm(cases, unit="comparison"):
            place, check = folder / str(size[0]), folder / "check.npz"
            versions = ask_peer(python, place / PEERS[PEER], variant, check=check)["versions"]
            with np.load(check) as arrays:
                differences[f"{size[0]} x {size[1]}, {variant.name}"] = compare(
                    place / "set", variant, list(arrays.values())
                )
        for _, (size, variant), system in tqdm(
            [*itertools.product(range(rounds), cases, (OURS, *PEERS))], unit="figure"
        ):
            place = folder / str(size[0])
            rate = (
                our_rate(place / "set", variant, seconds)
                if system == OURS
                else ask_peer(python, place / PEERS[system], variant, seconds)["rate"]
            )
            rates.setdefault((size, variant, system), []).append(rate)
    medians = {key: statistics.median(values) for key, values in rates.items()}
    return (
        [
            {
                "picture": f"{size[0]} x {size[1]}",
                "variant": variant.name,
                "input_size": variant.input_size,
                "system": system,
                "images_per_second": round(medians[size, variant, system], 1),
                "of_rounds": [round(value, 1) for value in values],
                "ours_is_faster_by": round(
                    medians[size, variant, OURS] / medians[size, variant, system], 2
                ),
            }
            for (size, variant, system), values in rates.items()
        ],
        differences,
        versions,
    )


def table(found: list) -> str:
    """The rows in Markdown, a line for each size and variant."""
    lines = [
        f"| JPEG | input | {OURS} | {' | '.join(PEERS)} |",
        "| --- | --- | --- |" + " --- |" * len(PEERS),
    ]
    for own in (row for row in found if row["system"] == OURS):
        same = {
            row["system"]: row
            for row in found
            if (row["picture"], row["variant"]) == (own["picture"], own["variant"])
        }
        cells = [
            f"{same[peer]['images_per_second']:.0f} (ours x {same[peer]['ours_is_faster_by']:.1f})"
            for peer in PEERS
        ]
        what = f"{own['picture']} | {own['input_size']} (`{own['variant']}`)"
        lines.append(f"| {what} | {own['images_per_second']:.0f} images/s | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/bench"),
        help="folder (default: runs/bench)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one turn of one second instead of three of two"
    )
    options = parser.parse_args(argv)
    found, differences, versions = rows(*((1, 1.0) if options.quick else (3, 2.0)))
    machine = f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    text = f"{machine}; {', '.join(f'{name} {version}' for name, version in versions.items())}\n\n{table(found)}\n"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "data_layer.md").write_text(text)
    content = {
        "machine": machine,
        "versions": versions,
        "rows": found,
        "differences_from_peer": differences,
    }
    (options.out / "data_layer.json").write_text(json.dumps(content, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    run_command(main)
