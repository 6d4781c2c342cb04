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

Where ONNX Runtime is installed, the command compares it with Caffe before it writes the file.
"""

import argparse
import logging
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.caffe_io.nets import find_deploy_net
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.snapshots import default_weights
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_whole
from mcc_caffe.core.hand import NAMES
from mcc_caffe.inference.engines.caffe_engine import CaffeEngine
from mcc_caffe.paper import ABLATIONS, IMAGE_BLOB, STRIDE, VARIANTS

OPSET, IR_VERSION = 13, 8  # 13 is the first with Softmax over one axis; runtimes since 2021 read it
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


class Operator(NamedTuple):
    """An ONNX operator, and its attributes."""

    name: str
    attributes: dict[str, Any]


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--onnx", type=pathlib.Path, required=True, metavar="FILE", help="file to write")
    add(
        "--weights",
        type=pathlib.Path,
        metavar="FILE",
        help="caffemodel or packed weights (default: as mcc_caffe.infer)",
    )
    add("--variant", choices=VARIANTS, default="mini", help="size of the network (default: mini)")
    add(
        "--without",
        choices=[name.removeprefix("without_") for name in ABLATIONS],
        help="stage to leave out (default: as the layers in the weights file show)",
    )
    return parser.parse_args(argv)


def import_onnx() -> ModuleType:
    """Import the package `onnx`.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import onnx  # optional: the extra `onnx`
    except ImportError as error:
        raise UserError(
            f"onnx cannot be imported ({error}): install it (`pip install onnx onnxruntime`)"
        ) from None
    return onnx


def _parameters(layer: Any, field_name: str, known: set[str]) -> Any:
    """Return the layer's parameter message; UserError if it sets a field that is not known."""
    message = getattr(layer, field_name)
    unknown = [
        field.name for field, _ in message.ListFields() if field.name not in known | {"engine"}
    ]
    if unknown:
        raise UserError(
            f"layer {layer.name} sets {', '.join(unknown)} in its {field_name}: "
            f"only {', '.join(sorted(known))} can be exported"
        )
    return message


def _height_and_width(numbers: Sequence[int], default: int) -> list[int]:
    """Return [height, width] of a field that holds both, or one number for both, or none."""
    return list(numbers) * (2 // len(numbers)) if numbers else [default] * 2


def _convert_convolution(layer: Any) -> Operator:
    known = {
        "num_output",
        "bias_term",
        "pad",
        "kernel_size",
        "stride",
        "dilation",
        "group",
        "weight_filler",
        "bias_filler",
    }
    parameters = _parameters(layer, "convolution_param", known)
    attributes = {
        "kernel_shape": _height_and_width(parameters.kernel_size, 0),
        "pads": _height_and_width(parameters.pad, 0) * 2,
        "strides": _height_and_width(parameters.stride, 1),
        "dilations": _height_and_width(parameters.dilation, 1),
        "group": parameters.group,
    }
    return Operator("Conv", attributes)


def _convert_relu(layer: Any) -> Operator:
    slope = _parameters(layer, "relu_param", {"negative_slope"}).negative_slope
    return Operator("LeakyRelu", {"alpha": slope}) if slope else Operator("Relu", {})


def _convert_pooling(layer: Any) -> Operator:
    known = {"pool", "pad", "kernel_size", "stride", "round_mode"}
    parameters = _parameters(layer, "pooling_param", known)
    if parameters.pool != parameters.MAX:
        method = parameters.PoolMethod.Name(parameters.pool)
        raise UserError(f"layer {layer.name} pools by {method}: only MAX can be exported")
    attributes = {
        "kernel_shape": [parameters.kernel_size] * 2,
        "pads": [parameters.pad] * 4,
        "strides": [parameters.stride] * 2,
        # Caffe rounds the size up by default, ONNX down.
        "ceil_mode": int(parameters.round_mode == parameters.CEIL),
    }
    return Operator("MaxPool", attributes)


def _convert_concat(layer: Any) -> Operator:
    axis = _parameters(layer, "concat_param", {"axis"}).axis
    if axis != 1:
        raise UserError(
            f"layer {layer.name} joins along axis {axis}: "
            "only along the channels, axis 1, can be exported"
        )
    return Operator("Concat", {"axis": axis})


def _convert_softmax(layer: Any) -> Operator:
    return Operator("Softmax", {"axis": _parameters(layer, "softmax_param", {"axis"}).axis})


# The layer types of Caffe that can be exported, with the functions that convert a layer.
CONVERTERS: dict[str, Callable[[Any], Operator]] = {
    "Convolution": _convert_convolution,
    "ReLU": _convert_relu,
    "Pooling": _convert_pooling,
    "Concat": _convert_concat,
    "Softmax": _convert_softmax,
}


def to_onnx(net: Any, parameters: Mapping[str, Sequence[np.ndarray]]) -> Any:
    """Convert a deploy net to ONNX.

    Args:
        net: NetParameter. Its first layer is an Input; the others have the types in CONVERTERS
            and one top each.
        parameters: {layer: [kernel, bias]}, float32.

    Returns:
        The ModelProto.

    Raises:
        UserError: If the net has something that cannot be exported, or onnx is not installed.
    """
    onnx = import_onnx()
    input_layer, *layers = net.layer
    if input_layer.type != "Input" or len(input_layer.top) != 1:
        raise UserError(
            f"layer {input_layer.name} is of type {input_layer.type}: "
            "a net whose first layer is an Input with one top can be exported"
        )
    for layer in layers:
        if layer.type not in CONVERTERS or len(layer.top) != 1:
            raise UserError(
                f"layer {layer.name} is of type {layer.type} and makes {len(layer.top)} blobs: "
                f"only {', '.join(CONVERTERS)} that make one can be exported"
            )
    input_blob = input_layer.top[0]
    channels = {input_blob: input_layer.input_param.shape[0].dim[1]}  # of each blob
    # In Caffe a layer may overwrite its blob; in ONNX each value has a name of its own. The last
    # layer that writes a blob gives its value the blob's name.
    value_of_blob = {input_blob: input_blob}
    last_writer = {top: layer.name for layer in layers for top in layer.top}
    nodes, initializers = [], []
    for layer in layers:
        operator = CONVERTERS[layer.type](layer)
        inputs = [value_of_blob[bottom] for bottom in layer.bottom]
        for name, array in zip(("kernel", "bias"), parameters.get(layer.name, ())):
            inputs.append(f"{layer.name}/{name}")
            array = np.ascontiguousarray(array, np.float32)
            initializers.append(onnx.numpy_helper.from_array(array, inputs[-1]))
        top = layer.top[0]
        channels[top] = (
            layer.convolution_param.num_output
            if operator.name == "Conv"
            else sum(channels[bottom] for bottom in layer.bottom)
        )
        is_final = last_writer[top] == layer.name and top != input_blob
        value_of_blob[top] = top if is_final else f"{top}/{layer.name}"
        nodes.append(
            onnx.helper.make_node(
                operator.name, inputs, [value_of_blob[top]], layer.name, **operator.attributes
            )
        )

    def describe_value(name: str, height: str, width: str) -> Any:
        shape = ["batch", channels[name], height, width]
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    read_blobs = {bottom for layer in layers for bottom in layer.bottom if bottom not in layer.top}
    graph = onnx.helper.make_graph(
        nodes,
        net.name,
        [describe_value(input_blob, "height", "width")],
        [
            describe_value(name, f"height / {STRIDE}", f"width / {STRIDE}")
            for name in last_writer
            if name not in read_blobs
        ],
        initializers,
    )
    model = onnx.helper.make_model(
        graph,
        producer_name="mcc-caffe",
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    onnx.helper.set_model_props(
        model, {"input": "(BGR - 128) / 256", "keypoints": ", ".join(NAMES)}
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def compare_with_caffe(model: Any, net: Any) -> dict[InputShape, float] | None:
    """Run an ONNX model and a Caffe net on the same random images.

    Args:
        model: ModelProto.
        net: caffe.Net.

    Returns:
        {shape of the input: largest absolute difference of the outputs}; None if ONNX Runtime is
        not installed.
    """
    try:
        import onnxruntime  # optional: the extra `onnx`
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
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
    import_onnx()
    weights = options.weights or default_weights(options.variant)
    prototxt = find_deploy_net(weights, options.variant, options.without)
    net = CaffeEngine(prototxt, weights).net
    parameters = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    model = to_onnx(read_text("NetParameter", prototxt), parameters)
    differences = compare_with_caffe(model, net)
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
        _log.warning(
            "not compared with Caffe: onnxruntime is not installed (`pip install onnxruntime`)"
        )


if __name__ == "__main__":
    run_command(main)
