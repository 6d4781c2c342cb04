"""How many images a second the data layer makes: `python -m benchmarks.data_layer`.

JPEGs of 640 x 480 and of 2000 x 1500 become the input, mask label and heatmaps of either variant,
in two processes: by ours from an LMDB set, and by the usual loader, Albumentations under PyTorch's
DataLoader, from files. The peer is measured with masks as data sets carry them (8 bits a pixel)
and with those that our sets hold (1 bit); the second ratio is what the loader alone is worth. They
take turns, and the median counts. Before that, both load the same letterboxed images, and the
results are compared.

It prints a Markdown table and writes it to --out with a JSON of the same. The first call makes the
peer's environment in ~/.cache/mcc-caffe/peers by pip. It has 1.3 GB with a PyTorch for the CPU;
pip's settings decide which PyTorch it takes.
"""

import itertools
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from benchmarks.jobs import ask
from benchmarks.output import add_out_option, check_output, write_results
from benchmarks.peers.environment import environment
from data_tools import synth
from data_tools.readers import onehand10k
from data_tools.readers.shared import encode_mask
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.markdown import markdown_table
from mcc_caffe.data.loader import Loader
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data.samples import Sample
from mcc_caffe.data.writers import SampleWriter
from mcc_caffe.paper import PIXEL_SCALE, VARIANTS, Variant

SIZES = ((640, 480), (2000, 1500))  # of the images, pixels
IMAGES, QUALITY, WORKERS, WARM_UP = 24, 92, 2, 8
OURS, PEER, PEER_1_BIT = "ours", "Albumentations, DataLoader", "the same, masks of 1 bit"
PEERS = {PEER: "files", PEER_1_BIT: "files_1_bit"}  # and the folders of their files
REQUIRED = (
    "torch==2.13.0",
    "albumentations==2.0.8",  # its last under MIT
    "opencv-python-headless>=4.9,<5",
    "numpy>=1.24,<3",
)
# Largest differences at which the peer still makes what we make.
IMAGE_LIMIT, MASK_LIMIT, HEATMAP_LIMIT = 4.0, 0.02, 1e-5

Size = tuple[int, int]


class Comparison(NamedTuple):
    """What `measure` measured."""

    rows: list[dict[str, Any]]  # one for each size, variant and system
    differences: dict[str, dict[str, float]]  # by size and variant, see `compare`
    versions: dict[str, str]  # of the peer's packages


def make_images(folder: pathlib.Path) -> None:
    """Render hands, as an LMDB set and as the peer's files of each size.

    For each size there are folder/WIDTH/set and folder/WIDTH/{files,files_1_bit}.
    """
    side = max(map(max, SIZES))
    numbers = ["--train", str(IMAGES), "--test", "0", "--size", str(side)]
    synth.main(["--out", str(folder / "hands"), *numbers])
    entries = onehand10k.read_entries(folder / "hands", "Train")
    for size in SIZES:
        samples = [resize_sample(entry.sample(), size) for entry in entries]
        with SampleWriter(folder / str(size[0]) / "set") as writer:
            for sample in samples:
                writer.add(sample)
            writer.finish(source="benchmarks.data_layer")
        for name in PEERS.values():
            files = folder / str(size[0]) / name
            files.mkdir()
            np.save(files / "keypoints.npy", np.stack([sample.keypoints for sample in samples]))
            for index, sample in enumerate(samples):
                (files / f"{index}.jpg").write_bytes(sample.image_bytes)
                (files / f"{index}.png").write_bytes(_peer_mask(sample, name == PEERS[PEER]))


def _peer_mask(sample: Sample, eight_bits: bool) -> bytes:
    """Return the PNG of a sample's mask, of 8 bits a pixel or of 1."""
    mask = sample.mask()
    assert mask is not None and sample.mask_png is not None
    return cv2.imencode(".png", 255 * mask)[1].tobytes() if eight_bits else sample.mask_png


def resize_sample(sample: Sample, size: Size) -> Sample:
    """Return the sample stretched to exactly (width, height) pixels, as a JPEG."""
    image, mask = sample.image(), sample.mask()
    assert mask is not None
    factors = np.array([size[0] / image.shape[1], size[1] / image.shape[0], 1], np.float32)
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    is_present = sample.keypoints[:, 2:] > 0
    keypoints = np.where(is_present, sample.keypoints * factors, sample.keypoints)
    return Sample(sample.key, jpeg, encode_mask(mask), keypoints)


def our_rate(source: pathlib.Path, variant: Variant, seconds: float) -> float:
    """Return the images/s of two loader processes, whose consumer only takes the batches.

    Augmentation and heatmaps are included.
    """
    with Loader(LoaderConfig.of(variant, str(source), workers=WORKERS)) as loader:
        for _ in range(WARM_UP):
            loader.next_batch()
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            loader.next_batch()
            count += 1
        return count * variant.batch_size / (time.perf_counter() - start)


def interpreter() -> pathlib.Path:
    """Return the interpreter of the peer's own environment."""
    return environment("albumentations-2.0.8", REQUIRED)


def ask_peer(
    python: pathlib.Path,
    files: pathlib.Path,
    variant: Variant,
    *,
    seconds: float = 0,
    check: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Ask the peer for its rate, or for its first batch.

    Args:
        python: The interpreter of its environment.
        files: Folder that `make_images` wrote.
        variant: Variant whose batches it makes.
        seconds: How long it loads.
        check: .npz file that it writes its first batch to, letterboxed only.

    Returns:
        {"rate": images/s}, or with `check` {"versions": {package: version}}.

    Raises:
        UserError: The peer fails.
    """
    settings = {
        "variant": variant.name,
        "workers": WORKERS,
        "warm_up": WARM_UP,
        "seconds": seconds,
        "check": str(check or ""),
    }
    answer = ask(
        python,
        "benchmarks.peers.albumentations_worker",
        files,
        json.dumps(settings),
        environment={"NO_ALBUMENTATIONS_UPDATE": "1"},
    )
    if "status" in answer:
        raise UserError(f"the peer {answer['status']}")
    return answer


def compare(
    source: pathlib.Path, variant: Variant, peer_arrays: Sequence[np.ndarray]
) -> dict[str, float]:
    """Compare the peer's letterboxed (data, mask label, heatmaps) of a set with ours.

    Returns:
        The mean difference of the images in levels of 256, the share of the mask's cells that
        differ, and the largest difference of the heatmaps.

    Raises:
        UserError: The two do not make the same batch.
    """
    config = LoaderConfig.of(variant, str(source), augment=False, shuffle=False, workers=0)
    with Loader(config) as loader:
        our_arrays = list(loader.next_batch()[0].values())
    our_forms = [(array.shape, array.dtype) for array in our_arrays]
    peer_forms = [(array.shape, array.dtype) for array in peer_arrays]
    if our_forms != peer_forms:
        raise UserError(
            f"the peer's arrays are {[array.shape for array in peer_arrays]}, "
            f"ours {[array.shape for array in our_arrays]}"
        )
    image, mask, heatmaps = (np.abs(ours - theirs) for ours, theirs in zip(our_arrays, peer_arrays))
    image_mean = float(PIXEL_SCALE * image.mean())
    mask_share, heatmap_most = float(mask.mean()), float(heatmaps.max())
    differences = {
        "image, mean, of 256": image_mean,
        "mask, share": mask_share,
        "heatmaps, largest": heatmap_most,
    }
    limits = (IMAGE_LIMIT, MASK_LIMIT, HEATMAP_LIMIT)
    # "not <=" because a NaN is a difference, too.
    if any(not value <= limit for value, limit in zip(differences.values(), limits)):
        raise UserError(f"the peer does not make what we make: {differences}")
    return differences


def measure(rounds: int, seconds: float) -> Comparison:
    """Measure both loaders on each size and variant, `rounds` times for `seconds` each."""
    cases = [(size, variant) for size in SIZES for variant in VARIANTS.values()]
    rates: dict[tuple[Size, Variant, str], list[float]] = {}
    differences, versions = {}, {}
    python = interpreter()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_images(folder)
        check = folder / "check.npz"
        for size, variant in progress_bar(cases, unit="comparison"):
            files = folder / str(size[0])
            versions = ask_peer(python, files / PEERS[PEER], variant, check=check)["versions"]
            with np.load(check) as arrays:
                differences[f"{size[0]} x {size[1]}, {variant.name}"] = compare(
                    files / "set", variant, list(arrays.values())
                )
        turns = list(itertools.product(range(rounds), cases, (OURS, *PEERS)))
        for _, (size, variant), system in progress_bar(turns, unit="figure"):
            files = folder / str(size[0])
            if system == OURS:
                rate = our_rate(files / "set", variant, seconds)
            else:
                answer = ask_peer(python, files / PEERS[system], variant, seconds=seconds)
                rate = answer["rate"]
            rates.setdefault((size, variant, system), []).append(rate)
    medians = {case: statistics.median(values) for case, values in rates.items()}
    rows = [
        {
            "jpeg": f"{size[0]} x {size[1]}",
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
    ]
    return Comparison(rows, differences, versions)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table with a line for each size and variant."""
    lines = []
    for our_row in (row for row in rows if row["system"] == OURS):
        case = our_row["jpeg"], our_row["variant"]
        by_system = {row["system"]: row for row in rows if (row["jpeg"], row["variant"]) == case}
        peers = [
            f"{row['images_per_second']:.0f} (ours x {row['ours_is_faster_by']:.1f})"
            for row in map(by_system.__getitem__, PEERS)
        ]
        lines.append(
            [
                our_row["jpeg"],
                f"{our_row['input_size']} (`{our_row['variant']}`)",
                f"{our_row['images_per_second']:.0f} images/s",
                *peers,
            ]
        )
    return markdown_table(["JPEG", "input", OURS, *PEERS], lines)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser(__doc__)
    add_out_option(parser, "runs/bench")
    parser.add_argument(
        "--quick", action="store_true", help="one turn of one second instead of three of two"
    )
    options = parser.parse_args(argv)
    check_output(options.out, "data_layer")
    comparison = measure(1, 1.0) if options.quick else measure(3, 2.0)
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    content = {
        "versions": comparison.versions,
        "rows": comparison.rows,
        "differences_from_peer": comparison.differences,
    }
    write_results(options.out, "data_layer", table(comparison.rows), content, note=versions)


if __name__ == "__main__":
    run_command(main)
