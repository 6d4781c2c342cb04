"""Draws samples of a data set on contact sheets, for a person to look at before training.

    python -m data_tools.inspect data/synth                        # 64 images with their labels
    python -m data_tools.inspect data/lmdb --n 30 --variant paper  # what the net sees of LMDB sets

A source is drawn as it is: the mask's outline in yellow, the skeleton in the finger colours, the
missing keypoints named underneath. LMDB sets are drawn as the data layer gives them to the net,
after augmentation: image, mask label and heatmaps side by side. Where one page is not enough, the
pages are FILE-1.png, FILE-2.png and so on. Further pages of an earlier call are removed.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from data_tools import sets
from data_tools.readers.base import Entry
from mcc_caffe.core.commands import (
    add_variant_option,
    command_parser,
    positive_int,
    progress_bar,
    run_command,
    seed_number,
)
from mcc_caffe.core.drawing import draw_heatmaps, draw_mask
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.files import write_together
from mcc_caffe.core.geometry import compose, invert, resize_affine, to_cells
from mcc_caffe.data import sheet
from mcc_caffe.data.batches import fill_sample
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data.samples import Sample
from mcc_caffe.paper import (
    DATA_BLOB,
    GREY,
    HEATMAPS_BLOB,
    IGNORE_LABEL,
    KEYPOINT_COUNT,
    MASK_LABEL_BLOB,
    PIXEL_SCALE,
    VARIANTS,
)

PANEL = 208  # pixels, side of each of the three images of what the net sees
PANELS = (PANEL, 3 * PANEL + 2 * sheet.GAP)  # height and width of the three side by side
CAPTION_LINES = 4


class Drawing(NamedTuple):
    """An image (HxWx3 uint8 BGR) and the texts that belong under it."""

    image: np.ndarray
    texts: list[str]


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    sets.add_set_argument(parser)
    sets.add_orientation_argument(parser)
    parser.add_argument(
        "--n",
        type=positive_int,
        default=64,
        help="samples to draw, chosen from all splits (default: 64)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/inspect.png"),
        metavar="FILE.png",
        help="image to write (default: out/inspect.png)",
    )
    parser.add_argument(
        "--seed",
        type=seed_number,
        default=0,
        help="seed of the choice and the augmentation (default: 0)",
    )
    add_variant_option(parser, "size of the network, for LMDB sets")
    parser.add_argument(
        "--no-augmentation",
        action="store_true",
        help="LMDB sets: only letterbox, as validation does",
    )
    return parser.parse_args(argv)


def _check_out(options: argparse.Namespace) -> None:
    """Raise UserError where --out is no PNG, or where the pages would replace other files."""
    if options.out.suffix != ".png":
        raise UserError(f"--out {options.out}: give a name that ends in .png")
    real_out = Path(os.path.realpath(options.out))
    if options.out.exists() and Path(os.path.realpath(options.set)) in real_out.parents:
        raise UserError(f"--out {options.out} is a file of the data set: give another name")
    largest_tile = sheet.captioned(sheet.empty_tile(*PANELS), lines=CAPTION_LINES)
    sheet.check_pages(options.out, largest_tile, options.n)


def draw_source_sample(sample: Sample) -> Drawing:
    """Draw a sample of a source with its mask's outline and its skeleton."""
    height, width = sample.image().shape[:2]
    size = f"{width} x {height}{'' if sample.mask_png else ', no mask'}"
    return Drawing(sheet.sample_tile(sample), [size, sheet.missing_text(sample.keypoints)])


def draw_net_input(
    sample: Sample, config: LoaderConfig, rng: np.random.Generator | None
) -> Drawing:
    """Draw what the data layer makes of a sample: network input, mask label and heatmaps.

    Args:
        sample: A record of an LMDB set.
        config: The data layer's configuration.
        rng: Draws the augmentation; None only letterboxes.
    """
    arrays = {name: np.empty(shape[1:], np.float32) for name, shape in config.shapes().items()}
    fill_sample(config, sample, rng, arrays)
    heatmaps = arrays[HEATMAPS_BLOB]
    image = np.rint(arrays[DATA_BLOB] * PIXEL_SCALE + GREY).astype(np.uint8).transpose(1, 2, 0)
    scale = PANEL / config.input_size
    image = cv2.resize(
        image, (PANEL, PANEL), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    label = cv2.resize(arrays[MASK_LABEL_BLOB][0], (PANEL, PANEL), interpolation=cv2.INTER_NEAREST)
    has_mask = bool((label != IGNORE_LABEL).any())
    with_mask = draw_mask(image, label) if has_mask else sheet.empty_tile(PANEL, PANEL)
    heatmap_to_panel = compose(invert(to_cells()), resize_affine(scale, scale))
    with_heatmaps = draw_heatmaps(image, heatmaps, heatmap_to_panel)
    gap = sheet.empty_tile(PANEL, sheet.GAP)
    in_view = int((heatmaps[:KEYPOINT_COUNT].max(axis=(1, 2)) > 0).sum())
    text = f"{in_view} of {KEYPOINT_COUNT} keypoints in view{'' if has_mask else ', no mask'}"
    return Drawing(np.hstack([image, gap, with_mask, gap, with_heatmaps]), [text])


def draw_tile(entry: Entry, config: LoaderConfig, rng: np.random.Generator | None) -> np.ndarray:
    """Draw an entry with its caption; grey with the reason where its sample cannot be read."""
    is_record = isinstance(entry, sets.Record)
    try:
        sample = entry.sample()
        drawing = draw_net_input(sample, config, rng) if is_record else draw_source_sample(sample)
    except SampleError as error:
        image = sheet.empty_tile(*PANELS) if is_record else sheet.empty_tile()
        drawing = Drawing(image, [sets.strip_location(error, entry.location)])
    return sheet.captioned(drawing.image, entry.location, *drawing.texts, lines=CAPTION_LINES)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    _check_out(options)
    splits = sets.open_sets(options.set, upright=options.orientation == sets.UPRIGHT)
    entries = [entry for split_entries in splits.values() for entry in split_entries]
    shuffled = np.random.default_rng(options.seed).permutation(len(entries))
    chosen = np.sort(shuffled[: options.n]).tolist()
    config = LoaderConfig.of(VARIANTS[options.variant], str(options.set), batch_size=1)
    tiles = []
    for index in progress_bar(chosen, unit="img"):
        rng = None if options.no_augmentation else np.random.default_rng((options.seed, index))
        tiles.append(draw_tile(entries[index], config, rng))
    pages = sheet.make_page_files(tiles, options.out)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_together(pages, sheet.find_pages(options.out))
    print(*pages, sep="\n")


if __name__ == "__main__":
    run_command(main)
