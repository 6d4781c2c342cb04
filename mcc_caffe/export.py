"""Writes a network as ONNX, or as a prototxt and a caffemodel, for other runtimes.

    python -m mcc_caffe.export --onnx hand.onnx     # mini, with the weights that come with it
    python -m mcc_caffe.export --caffemodel hand.caffemodel    # and hand.prototxt beside it
    python -m mcc_caffe.export --onnx paper.onnx --variant paper \\
        --weights mcc_iter_200000.caffemodel
    python -m mcc_caffe.export --onnx mask.onnx --without pose

The input is `image` (batch, 3, height, width), float32, (BGR - 128) / 256. The batch may have any
size, height and width are multiples of 8.

The outputs are those of the stages that the net has: `conv6_2_CPM_prob` (batch, 2, height / 8,
width / 8), the mask's probabilities of background and hand; `Mconv7_stage6` (batch, 22,
height / 8, width / 8), the heatmaps of the 21 keypoints and the background.

Where Caffe is installed, the command compares ONNX Runtime with it before it writes that file.

Caffe itself and OpenCV's dnn module read the prototxt and the caffemodel. Training can start from
the caffemodel; the box head, which finds hands for `--hands all`, is not in it.
"""

import argparse
import logging
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import text_format

from mcc_caffe import __version__
from mcc_caffe.caffe_io.default_weights import are_shipped_weights, default_weights
from mcc_caffe.caffe_io.nets import find_deploy_net
from mcc_caffe.caffe_io.onnx_model import (
    OPSET,
    is_own_model,
    make_onnx_model,
    parameter_shapes,
)
from mcc_caffe.caffe_io.precision import FLOAT32
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.weights import describe, encode_caffemodel, fitting_layers
from mcc_caffe.core.commands import add_network_options, command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import starts_with, write_atomically, write_together
from mcc_caffe.core.output_checks import check_distinct, check_output
from mcc_caffe.inference.engines import choose_engine
from mcc_caffe.inference.engines.caffe_engine import CaffeEngine
from mcc_caffe.inference.engines.onnx_engine import open_session
from mcc_caffe.paper import ABLATION_OF_STAGE, EXPORT_MARK, IMAGE_BLOB, find_variant

LICENCE = "MIT"  # of the shipped weights, as of the code
TOLERANCE = 1e-4  # largest absolute difference from Caffe
# By this and EXPORT_MARK the command knows its own files again.
_PROTOTXT_MARK = "# Deploy net, written by mcc_caffe.export"
_NAME_BYTES = 200  # at a caffemodel's start, more than the net's name takes

_log = logging.getLogger(__name__)


class InputShape(NamedTuple):
    """Shape of a batch of images, without its three channels."""

    batch: int
    height: int
    width: int


COMPARED_SHAPES = [
    InputShape(batch, height, width)
    for height, width in ((64, 64), (96, 128), (136, 80))
    for batch in (1, 8)
]


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--onnx", type=pathlib.Path, metavar="FILE", help="ONNX file to write")
    add(
        "--caffemodel",
        type=pathlib.Path,
        metavar="FILE",
        help="caffemodel to write, and beside it the net, with the ending .prototxt in place of "
        ".caffemodel",
    )
    add_network_options(parser)
    add(
        "--without",
        choices=ABLATION_OF_STAGE,
        help="stage to leave out (default: as the layers in the weights file show)",
    )
    options = parser.parse_args(argv)
    if not (options.onnx or options.caffemodel):
        parser.error("nothing to write: give --onnx FILE or --caffemodel FILE")
    return options


def compare_with_caffe(model: Any, net: Any) -> dict[InputShape, float]:
    """Run an ONNX model and a Caffe net on the same random images.

    Args:
        model: ModelProto.
        net: caffe.Net.

    Returns:
        {shape of the input: largest absolute difference of the outputs}.
    """
    session = open_session(model)
    output_names = [output.name for output in session.get_outputs()]
    random = np.random.default_rng(0)
    differences = {}
    for shape in progress_bar(COMPARED_SHAPES, desc="comparing with Caffe", delay=2, leave=False):
        image_shape = (shape.batch, 3, shape.height, shape.width)
        images = random.uniform(-0.5, 0.5, image_shape).astype(np.float32)
        net.blobs[IMAGE_BLOB].reshape(*images.shape)
        net.blobs[IMAGE_BLOB].data[...] = images
        net.forward()
        outputs = zip(output_names, session.run(output_names, {IMAGE_BLOB: images}))
        # np.max, as Python's max may hide a NaN.
        differences[shape] = float(
            np.max([np.abs(net.blobs[name].data - output).max() for name, output in outputs])
        )
    return differences


def add_facts(model: Any, weights: pathlib.Path, net_size: int) -> None:
    """Add to a model's metadata what a reader of the file cannot know otherwise.

    Args:
        model: ModelProto; it is changed in place.
        weights: The weights file.
        net_size: The side of the net's input in pixels.
    """
    facts = {
        "input_size": str(describe(weights).get("input_size") or net_size),
        "weights": os.fsencode(weights.name).decode(errors="backslashreplace"),
        "version": __version__,
    }
    if are_shipped_weights(weights):
        facts["license"] = LICENCE
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_version = __version__


def _shape_texts(values: Iterable[Any]) -> str:
    """Return the names and shapes of a model's inputs or outputs, for people."""
    texts = []
    for value in values:
        sides = value.type.tensor_type.shape.dim
        texts.append(
            f"{value.name} [{', '.join(side.dim_param or str(side.dim_value) for side in sides)}]"
        )
    return ", ".join(texts)


def export_onnx(path: pathlib.Path, prototxt: pathlib.Path, weights: pathlib.Path) -> None:
    """Convert the network, compare it with Caffe and write the ONNX file.

    Args:
        path: The file to write.
        prototxt: The deploy net.
        weights: A caffemodel or packed weights.

    Raises:
        UserError: The net cannot be converted, the weights do not fit it, or ONNX Runtime and Caffe
            differ by more than `TOLERANCE`.
    """
    model, net_size = make_onnx_model(prototxt, weights)
    add_facts(model, weights, net_size)
    differences = None
    if choose_engine() == CaffeEngine.name:
        differences = compare_with_caffe(
            model, CaffeEngine(prototxt, weights, precision=FLOAT32).net
        )
    largest = float(np.max(list(differences.values()))) if differences else 0.0
    if not largest <= TOLERANCE:  # true of NaN as well
        raise UserError(
            f"ONNX Runtime makes something else of {path.name} than Caffe, "
            f"by {largest:.1e}, allowed is {TOLERANCE:.0e}: nothing is written; "
            "try another version of onnxruntime"
        )
    content = model.SerializeToString()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    print(
        f"{path}: {len(content) / 2**20:.1f} MiB of {weights}, opset {OPSET}; "
        f"{_shape_texts((*model.graph.input, *model.graph.output))}"
    )
    if differences:
        _log.info(
            "as Caffe within %.1e in ONNX Runtime, with inputs of %d shapes",
            largest,
            len(differences),
        )
    else:
        _log.info("not compared with Caffe, which is not installed")


def is_own_caffemodel(path: pathlib.Path) -> bool:
    """Tell whether this command wrote a caffemodel, by the net's name, which begins the file."""
    with path.open("rb") as file:
        return EXPORT_MARK.encode() in file.read(_NAME_BYTES)


def net_path(caffemodel: pathlib.Path) -> pathlib.Path:
    """Return the path of the net that is written beside a caffemodel."""
    return caffemodel.with_name(f"{caffemodel.name.removesuffix('.caffemodel')}.prototxt")


def _first_line(caffemodel: pathlib.Path) -> bytes:
    """Return the first line of a caffemodel's net, by which the command knows it again."""
    return f"{_PROTOTXT_MARK}, of {caffemodel.name}\n".encode(errors="backslashreplace")


def export_caffemodel(path: pathlib.Path, prototxt: pathlib.Path, weights: pathlib.Path) -> None:
    """Write the network for Caffe: float32 weights, and the deploy net beside them.

    The net's input has the size that the weights or their run name, or else the deploy net's.

    Args:
        path: The caffemodel to write; `net_path` is where the net is written.
        prototxt: The deploy net.
        weights: A caffemodel or packed weights.

    Raises:
        WeightsError: The weights do not fit the net.
    """
    net = read_text("NetParameter", prototxt)
    layers = fitting_layers(weights, parameter_shapes(net), variant=find_variant(net.name))
    if size := describe(weights).get("input_size"):
        net.layer[0].input_param.shape[0].dim[2:] = [size, size]
    text = text_format.MessageToString(net)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The net's input has the weights' size: neither file goes with another of an earlier call.
    write_together(
        {
            net_path(path): _first_line(path) + text.encode(),
            path: encode_caffemodel(net.name + EXPORT_MARK, layers),
        }
    )
    print(
        f"{path}: {path.stat().st_size / 2**20:.1f} MiB of {weights}; its net is {net_path(path)}"
    )


def _check_outputs(options: argparse.Namespace, weights: pathlib.Path) -> None:
    """Check that the files to write replace none but their like; UserError where they would."""
    targets = []
    if options.onnx:
        kind = "is no ONNX file of this command"
        targets.append(check_output(options.onnx, is_own_model, kind, [weights]))
    if caffemodel := options.caffemodel:
        kind = "is no caffemodel of this command"
        targets.append(check_output(caffemodel, is_own_caffemodel, kind, [weights]))
        first_line = _first_line(caffemodel)
        kind = f"is no net that this command wrote for {caffemodel.name}"
        targets.append(
            check_output(
                net_path(caffemodel), lambda path: starts_with(path, first_line), kind, [weights]
            )
        )
    check_distinct(targets)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the files that the options name."""
    options = parse_arguments(argv)
    weights = options.weights or default_weights(options.variant)
    _check_outputs(options, weights)
    prototxt = find_deploy_net(weights, options.variant, options.without)
    if options.onnx:
        export_onnx(options.onnx, prototxt, weights)
    if options.caffemodel:
        export_caffemodel(options.caffemodel, prototxt, weights)


if __name__ == "__main__":
    run_command(main)
