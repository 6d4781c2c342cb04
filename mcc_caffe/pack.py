"""Packs weights as float16, half as large, so that they can ship with the package.

    python -m mcc_caffe.pack runs/mini/snapshots/mcc_iter_40000.caffemodel mine.npz

    # after `train --only-stages`: with the box head of the weights that it started from
    python -m mcc_caffe.pack runs/own/snapshots/mcc_iter_3000.caffemodel own.npz \\
        --input-size 208 --boxes mcc_caffe/pretrained/mini.npz

    # after fine-tuning: half-way between the new weights and those that it started from
    python -m mcc_caffe.pack runs/own/snapshots/mcc_iter_3000.caffemodel own.npz \\
        --input-size 208 --mean-with mcc_caffe/pretrained/mini.npz

A command that runs, measures or trains a net takes packed weights where it takes a caffemodel
(`mcc_caffe.surgery` and this one read caffemodels only). The file says what it holds: the
variant and the net (from the caffemodel), the iterations (from its name), the date (of its file),
and the training data and the input size (from the run's prototxt).
"""

import argparse
import datetime
import json
import logging
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.run_folder import run_settings
from mcc_caffe.caffe_io.weights import mean_layers, read_caffemodel
from mcc_caffe.core.commands import command_parser, input_side, positive_float, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_atomically
from mcc_caffe.core.hand_boxes import BOX_FEATURES_BLOB, BOX_LAYERS
from mcc_caffe.core.output_checks import check_output
from mcc_caffe.data.sources import MIXED, OPENERS, mixture_shares
from mcc_caffe.paper import NET_NAME, VARIANTS

Layers = dict[str, list[np.ndarray]]  # the float32 parameter blobs of each layer

_log = logging.getLogger(__name__)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("weights", type=pathlib.Path, metavar="FILE.caffemodel", help="weights of one of our nets")
    add("out", type=pathlib.Path, metavar="OUT.npz", help="file to write")
    add(
        "--data",
        metavar="TEXT",
        help="what the weights were trained on (default: the set that the run names)",
    )
    add(
        "--input-size",
        type=input_side,
        metavar="PIXELS",
        help="side of the input that the net is used with "
        "(default: that of the run or else the variant's, also with --mean-with)",
    )
    add(
        "--boxes",
        type=pathlib.Path,
        metavar="FILE.npz",
        help="packed weights whose box head, which searches scenes, is packed with these; their "
        "trunk has to be the same, as it is after `train --only-stages`",
    )
    add(
        "--mean-with",
        type=pathlib.Path,
        metavar="FILE.npz",
        help="packed weights from which the training started: pack the mean of both, which knows "
        "the hands of both trainings",
    )
    add(
        "--share",
        type=positive_float,
        help="share of FILE.caffemodel in the mean of --mean-with, below 1 (default: 0.5)",
    )
    options = parser.parse_args(argv)
    if options.share is None:
        options.share = 0.5
    elif not options.mean_with:
        parser.error("argument --share: it is of --mean-with FILE.npz: give both, or neither")
    elif options.share >= 1:
        parser.error(f"argument --share: {options.share:g} is not below 1")
    return options


def check_same_net(
    layers: Layers, variant: str, start: packed_weights.PackedWeights, source: pathlib.Path
) -> None:
    """Check that packed weights have the variant and all layers of other weights.

    Args:
        layers: The other weights.
        variant: Their variant.
        start: The packed weights, which may have more layers, such as a box head.
        source: Their file.

    Raises:
        UserError: They are of another net: the variant, a layer or a shape differs.
    """
    differences = [
        f"layer {name}"
        for name, blobs in layers.items()
        if [blob.shape for blob in start.layers.get(name, ())] != [blob.shape for blob in blobs]
    ]
    # Two variants may have the same shapes, and differ in their ReLUs.
    if start.metadata.get("variant") not in (None, variant):
        differences.insert(0, f"variant {start.metadata['variant']}")
    if differences:
        raise UserError(
            f"{source} is of another net ({differences[0]}): give weights of the same one to "
            "--mean-with"
        )


def box_head_for(layers: Layers, source: pathlib.Path) -> Layers:
    """Return the box head of packed weights, if it belongs to the trunk of other weights.

    Args:
        layers: The other weights.
        source: Packed weights with a box head.

    Raises:
        UserError: `source` has no box head, or its trunk is another.
    """
    stored = packed_weights.read(packed_weights.require_packed(source)).layers
    if not stored.keys() >= {BOX_FEATURES_BLOB, *BOX_LAYERS}:
        raise UserError(f"{source} has no box head: give weights that have one, or no --boxes")
    names = list(stored)
    for name in names[: names.index(BOX_FEATURES_BLOB) + 1]:
        if not _same_in_float16(layers.get(name, []), stored[name]):
            raise UserError(
                f"the trunk of {source} is another (layer {name}), so that its box head does not "
                "fit: train with --only-stages from these weights, or leave --boxes out"
            )
    return {name: stored[name] for name in BOX_LAYERS}


def _same_in_float16(blobs: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    """Tell whether two layers have the same parameters once they are packed."""
    return len(blobs) == len(others) and all(
        np.array_equal(blob.astype(np.float16), other.astype(np.float16))
        for blob, other in zip(blobs, others)
    )


def make_metadata(
    path: pathlib.Path, net: str, *, data: str | None = None, input_size: int | None = None
) -> dict[str, Any]:
    """Return what packed weights say of themselves (see `mcc_caffe.caffe_io.packed_weights`).

    Args:
        path: Caffemodel, a snapshot of a run if it lies where runs have them.
        net: Name of the net in the caffemodel.
        data: What the weights were trained on; None for the set that the run names.
        input_size: Side of the input in pixels; None for that of the run or else the variant's.

    Raises:
        UserError: The net is none of ours.
    """
    net_match = NET_NAME.fullmatch(net)
    if not net_match:
        raise UserError(
            f"{path} holds the net {net!r}: only those of prototxt/ are packed, whose names begin "
            "with MCC_; `python -m mcc_caffe.export --caffemodel OUT` writes fitting weights under "
            "such a name"
        )
    net_name, variant = net_match.groups()
    names = (path.stem, pathlib.Path(os.path.realpath(path)).stem)  # a link may have any name
    iteration_matches = (re.search(r"_iter_(\d+)$", name) for name in names)
    iteration_match = next(filter(None, iteration_matches), None)
    settings = run_settings(path)
    return {
        "variant": variant,
        "net": net_name,
        "iterations": int(iteration_match[1]) if iteration_match else None,
        "data": data or shorten_source(settings.get("source")),
        "date": datetime.date.fromtimestamp(path.stat().st_mtime).isoformat(),
        "input_size": input_size or settings.get("input_size") or VARIANTS[variant].input_size,
    }


def shorten_source(source: str | None) -> str | None:
    """Return a source's name without the folders of this machine.

    Args:
        source: As `mcc_caffe.data.sources.open_source` takes it, or None.

    Returns:
        The last two parts of a set's path; a mixture with its sets so shortened; None and sources
        that are no folder, such as rendered hands, as they are.
    """
    if source is None or source.startswith(tuple(OPENERS)):
        return source
    if source.startswith(MIXED):
        shares = mixture_shares(source).items()
        return MIXED + "+".join(f"{shorten_source(name)}*{share:g}" for name, share in shares)
    return str(pathlib.Path(*pathlib.Path(source).parts[-2:]))


def main(argv: Sequence[str] | None = None) -> None:
    """Pack the weights that the options name."""
    options = parse_arguments(argv)
    inputs = [path for path in (options.weights, options.boxes, options.mean_with) if path]
    check_output(options.out, packed_weights.are_readable, packed_weights.NOT_PACKED, inputs)
    layers, net = read_caffemodel(options.weights)
    metadata = make_metadata(options.weights, net, data=options.data, input_size=options.input_size)
    if options.mean_with:
        start = packed_weights.read(packed_weights.require_packed(options.mean_with))
        check_same_net(layers, metadata["variant"], start, options.mean_with)
        layers = mean_layers(layers, start.layers, options.share)
        if not options.data:
            metadata["data"] = (
                f"{options.share:g} x ({metadata['data'] or 'unknown'}); "
                f"{1 - options.share:g} x ({start.metadata.get('data') or 'unknown'})"
            )
    if options.boxes:
        layers = {**layers, **box_head_for(layers, options.boxes)}
    content = packed_weights.to_bytes(layers, metadata)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out, content)
    print(f"{options.out}: {len(content) / 2**20:.1f} MiB")
    _log.info("%d layers, %s", len(layers), json.dumps(metadata))


if __name__ == "__main__":
    run_command(main)
