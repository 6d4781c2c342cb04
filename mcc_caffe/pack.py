"""Packs weights to ship them: float16, half as large.

    python -m mcc_caffe.pack runs/mini/snapshots/mcc_iter_40000.caffemodel mcc_caffe/pretrained/mini.npz

Every command takes packed weights where it takes a caffemodel. What they are is said inside: variant and net from the
caffemodel, its iterations from its name, its date from the file's, and what it was trained on, with which input, from its
run's prototxt.
"""

import argparse
import datetime
import json
import pathlib
import re

from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.weights import read_caffemodel
from mcc_caffe.core.commands import command_parser, input_side, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_whole
from mcc_caffe.data.samples import LIVE
from mcc_caffe.paper import ABLATIONS, VARIANTS

NET = re.compile(rf"(MCC_({'|'.join(VARIANTS)})(?:_(?:{'|'.join(ABLATIONS)}))?)_(?:train|deploy)")


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("weights", type=pathlib.Path, metavar="FILE.caffemodel", help="weights of one of our nets")
    add("out", type=pathlib.Path, metavar="OUT.npz", help="file to write")
    add(
        "--data",
        metavar="TEXT",
        help="what the weights were trained on (default: what the run's train.prototxt names)",
    )
    add(
        "--input-size",
        type=input_side,
        metavar="PIXELS",
        help="side of the input with which these weights find most (default: the run's)",
    )
    return parser.parse_args(argv)


def metadata(path: pathlib.Path, net: str, data: str = None, input_size: int = None) -> dict:
    """What packed weights say of themselves; UserError where the net is none of ours. data, input_size: where they are not the run's."""
    ours = NET.fullmatch(net)
    if not ours:
        raise UserError(
            f"{path} holds the net {net!r}: only those of prototxt/ are packed, whose names begin with MCC_"
        )
    iterations = re.search(r"_iter_(\d+)$", path.stem)
    run = data_settings(path)
    facts = {
        "variant": ours[2],
        "net": ours[1],
        "iterations": iterations and int(iterations[1]),
        "data": data or shortened(run.get("source")),
        "date": datetime.date.fromtimestamp(path.stat().st_mtime).isoformat(),
    }
    own = VARIANTS[ours[2]].input_size
    side = input_size or run.get("input_size", own)
    return facts if side == own else {**facts, "input_size": side}


def data_settings(path: pathlib.Path) -> dict:
    """The data layer's settings (see loader.LoaderConfig) in the run whose snapshot `path` is; empty where no run is there."""
    prototxt = path.absolute().parent.parent / "train.prototxt"
    layers = read_text("NetParameter", prototxt).layer if prototxt.is_file() else []
    return next(
        (json.loads(layer.python_param.param_str) for layer in layers if layer.type == "Python"), {}
    )


def shortened(source: str) -> str:
    """A set's name for others: of a folder its last two names."""
    return (
        source
        if source is None or source.startswith(LIVE)
        else "/".join(pathlib.Path(source).parts[-2:])
    )


def main(argv=None) -> None:
    options = arguments(argv)
    layers, net = read_caffemodel(options.weights)
    facts = metadata(options.weights, net, options.data, options.input_size)
    content = packed_weights.to_bytes(layers, facts)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.out, content)
    print(f"{options.out}: {len(content) / 2**20:.1f} MiB")
    print(f"{len(layers)} layers, {json.dumps(facts)}")


if __name__ == "__main__":
    run_command(main)
