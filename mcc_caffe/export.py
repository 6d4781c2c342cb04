"""Writes a network as ONNX, for other runtimes.

    python -m mcc_caffe.export --onnx hand.onnx     # mini, with the weights that come with it
    python -m mcc_caffe.export --onnx paper.onnx --variant paper \\
        --weights mcc_iter_200000.caffemodel
    python -m mcc_caffe.export --onnx mask.onnx --without pose

The input is `image` (batch, 3, height, width), float32, (BGR - 128) / 256. The batch may have any
size, height and width are multiples of 8.

The outputs are those of the stages that the net has: `conv6_2_CPM_prob` (batch, 2, height / 8,
width / 8), the mask's probabilities of background and hand; `Mconv7_stage6` (batch, 22,
height / 8, width / 8), the heatmaps of the 21 keypoints and the background.

Where Caffe is installed, the command compares ONNX Runtime with it before it writes the file.
"""

import argparse
import logging
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe import __version__
from mcc_caffe.caffe_io.default_weights import default_weights, is_shipped
from mcc_caffe.caffe_io.nets import find_deploy_net
from mcc_caffe.caffe_io.onnx_model import OPSET, is_own_model, make_onnx_model
from mcc_caffe.caffe_io.precision import FLOAT32
from mcc_caffe.caffe_io.weights import describe
from mcc_caffe.core.commands import add_network_options, command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import check_output, write_whole
from mcc_caffe.inference.engines import choose_engine
from mcc_caffe.inference.engines.caffe_engine import CaffeEngine
from mcc_caffe.inference.engines.onnx_engine import open_session
from mcc_caffe.paper import ABLATION_OF_STAGE, IMAGE_BLOB

LICENCE = "MIT"  # of the shipped weights, as of the code
TOLERANCE = 1e-4  # largest absolute difference from Caffe

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
    add("--onnx", type=pathlib.Path, required=True, metavar="FILE", help="file to write")
    add_network_options(parser)
    add(
        "--without",
        choices=ABLATION_OF_STAGE,
        help="stage to leave out (default: as the layers in the weights file show)",
    )
    return parser.parse_args(argv)


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
        "weights": weights.name,
        "version": __version__,
    }
    if is_shipped(weights):
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


def main(argv: Sequence[str] | None = None) -> None:
    """Convert the network, compare it with Caffe and write the file."""
    options = parse_arguments(argv)
    weights = options.weights or default_weights(options.variant)
    check_output(options.onnx, is_own_model, "is no ONNX file of this command", [weights])
    prototxt = find_deploy_net(weights, options.variant, options.without)
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
            f"ONNX Runtime makes something else of {options.onnx.name} than Caffe, "
            f"by {largest:.1e}, allowed is {TOLERANCE:.0e}: nothing is written; "
            "try another version of onnxruntime"
        )
    content = model.SerializeToString()
    options.onnx.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.onnx, content)
    print(
        f"{options.onnx}: {len(content) / 2**20:.1f} MiB of {weights}, opset {OPSET}; "
        f"{_shape_texts((*model.graph.input, *model.graph.output))}"
    )
    if differences:
        _log.info(
            "as Caffe within %.1e, at %d sizes and batches in ONNX Runtime",
            largest,
            len(differences),
        )
    else:
        _log.info("not compared with Caffe, which is not installed")


if __name__ == "__main__":
    run_command(main)
