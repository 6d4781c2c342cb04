"""Draws samples of a data set on contact sheets, for a person to look at before training.

    python -m data_tools.inspect data/synth                          # 64 pictures with mask outline and skeleton
    python -m data_tools.inspect data/lmdb --n 30 --variant paper    # what the net sees of LMDB sets

A source folder is drawn as it is: the mask's outline yellow, the skeleton in the finger colours, the missing keypoints
named underneath. LMDB sets are drawn as the data layer gives them to the net, after augmentation: image, mask label and
heatmaps side by side. What fits on no single page goes to FILE-1.png, FILE-2.png and so on.
"""

import argparse
import pathlib

import cv2
import numpy as np

from data_tools import sets
from mcc_caffe.core.commands import command_parser, positive, progress_bar, run_command
from mcc_caffe.core.drawing import draw_heatmaps, draw_mask
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.geometry import compose, invert, resize, to_cells
from mcc_caffe.data import sheet
from mcc_caffe.data.loader import LoaderConfig, fill
from mcc_caffe.data.samples import Sample, SampleError
from mcc_caffe.paper import GREY, IGNORE_LABEL, KEYPOINTS, PIXEL_SCALE, VARIANTS

PANEL = 208  # pixels, side of each of the three pictures of what the net sees
PANELS = (PANEL, 3 * PANEL + 2 * sheet.GAP)
CAPTION_LINES = 4


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "set",
        type=pathlib.Path,
        metavar="SET",
        help="source in any format that data_tools.readers reads, LMDB set, or folder of LMDB sets",
    )
    parser.add_argument(
        "--n",
        type=positive,
        default=64,
        help="samples to draw, chosen from all splits (default: 64)",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("out/inspect.png"),
        metavar="FILE.png",
        help="picture to write (default: out/inspect.png)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the choice and the augmentation (default: 0)"
    )
    parser.add_argument(
        "--variant",
        choices=VARIANTS,
        default="mini",
        help="of the net, for LMDB sets (default: mini)",
    )
    parser.add_argument(
        "--no-augment", action="store_true", help="LMDB sets: only letterbox, as validation does"
    )
    return parser.parse_args(argv)


def as_it_is(sample: Sample) -> tuple:
    """(picture, texts) of a source folder's sample."""
    height, width = sample.image().shape[:2]
    size = f"{width} x {height}{'' if sample.mask_png else ', no mask'}"
    return sheet.sample_tile(sample), [size, sheet.missing_text(sample.keypoints)]


def as_the_net_sees_it(sample: Sample, config: LoaderConfig, rng) -> tuple:
    """(picture, texts) of what the data layer makes of a sample: network input, mask label and heatmaps."""
    data, mask_label, heatmaps = (
        np.empty(shape[1:], np.float32) for shape in config.shapes().values()
    )
    fill(config, sample, rng, data, mask_label, heatmaps)
    image = np.rint(data * PIXEL_SCALE + GREY).astype(np.uint8).transpose(1, 2, 0)
    scale = PANEL / config.input_size
    image = cv2.resize(
        image, (PANEL, PANEL), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    label = cv2.resize(mask_label[0], (PANEL, PANEL), interpolation=cv2.INTER_NEAREST)
    without_mask = (label == IGNORE_LABEL).all()
    with_mask = sheet.empty_tile(PANEL, PANEL) if without_mask else draw_mask(image, label)
    with_heatmaps = draw_heatmaps(
        image, heatmaps, compose(invert(to_cells()), resize(scale, scale))
    )
    gap = sheet.empty_tile(PANEL, sheet.GAP)
    in_view = int((heatmaps[:KEYPOINTS].max(axis=(1, 2)) > 0).sum())
    text = f"{in_view} of {KEYPOINTS} keypoints in view{', no mask' if without_mask else ''}"
    return np.hstack([image, gap, with_mask, gap, with_heatmaps]), [text]


def tile(entry, config: LoaderConfig, rng) -> np.ndarray:
    """An entry's tile; a grey one with the reason where the sample cannot be read."""
    is_record = isinstance(entry, sets.Record)
    try:
        picture, texts = (
            as_the_net_sees_it(entry.sample(), config, rng)
            if is_record
            else as_it_is(entry.sample())
        )
    except SampleError as error:
        picture, texts = (
            sheet.empty_tile(*(PANELS if is_record else ())),
            [sets.reason(error, entry.where)],
        )
    return sheet.captioned(picture, entry.where, *texts, lines=CAPTION_LINES)


def main(argv=None) -> None:
    options = arguments(argv)
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: give a number of at least 0")
    if options.out.suffix != ".png":
        raise UserError(f"--out {options.out}: give a name that ends in .png")
    entries = [entry for found in sets.open_sets(options.set).values() for entry in found]
    chosen = np.sort(
        np.random.default_rng(options.seed).permutation(len(entries))[: options.n]
    ).tolist()
    variant = VARIANTS[options.variant]
    config = LoaderConfig.of(variant, str(options.set), batch_size=1)
    tiles = []
    for place in progress_bar(chosen, unit="img"):
        rng = None if options.no_augment else np.random.default_rng((options.seed, place))
        tiles.append(tile(entries[place], config, rng))
    print(*sheet.write_pages(tiles, options.out), sep="\n")


if __name__ == "__main__":
    run_command(main)
