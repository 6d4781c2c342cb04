"""Turns a deploy net and its weights into an ONNX model, in memory.

`mcc_caffe.export` writes such a model, the engine `onnx` runs it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.caffe_io.nets import read_deploy_net
from mcc_caffe.caffe_io.protobuf import as_text, read_text
from mcc_caffe.caffe_io.weights import Shapes, fitting_layers
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import starts_with
from mcc_caffe.core.hand import NAMES
from mcc_caffe.paper import GREY, PIXEL_SCALE, STRIDE, find_variant

_MOST = 1000  # pixels of a kernel's side, stride, dilation or pad
PRODUCER = "mcc-caffe"  # in the file, by which it is known again
OPSET, IR_VERSION = 13, 8  # 13 is the first with Softmax over one axis; runtimes since 2021 read it


class Operator(NamedTuple):
    """An ONNX operator, and its attributes."""

    name: str
    attributes: dict[str, Any]


def import_onnx() -> ModuleType:
    """Import the package `onnx`.

    Raises:
        UserError: The package is not installed.
    """
    try:
        import onnx  # slow, and not every command needs it
    except ImportError as error:
        raise UserError(f"onnx cannot be imported ({error}): `pip install onnx`") from None
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


def _convolution_parameters(layer: Any) -> Any:
    """Return a convolution's parameter message; UserError if it sets what is not known."""
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
    return _parameters(layer, "convolution_param", known)


def _check_convolution(layer: Any, inputs: int) -> None:
    """Raise UserError where a convolution's numbers are impossible, or not known."""
    parameters = _convolution_parameters(layer)
    sides = parameters.kernel_size
    if (
        parameters.num_output < 1
        or len(layer.bottom) != 1
        or not 1 <= len(sides) <= 2
        or min(sides) < 1
        or max(*parameters.stride, *parameters.dilation, *parameters.pad, *sides, 1) > _MOST
        or min([*parameters.stride, *parameters.dilation], default=1) < 1
        or max(len(parameters.stride), len(parameters.dilation), len(parameters.pad)) > 2
        or parameters.group < 1
        or inputs % parameters.group
        or parameters.num_output % parameters.group
    ):
        raise UserError(
            f"layer {layer.name}: a convolution of {len(layer.bottom)} blobs, {inputs} channels in "
            f"{parameters.group} groups to {parameters.num_output}, with the kernel {list(sides)}, "
            f"stride {list(parameters.stride)}, dilation {list(parameters.dilation)} and "
            f"pad {list(parameters.pad)} is impossible: mend it"
        )


def _convert_convolution(layer: Any) -> Operator:
    parameters = _convolution_parameters(layer)
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
    sides = (parameters.kernel_size, parameters.stride, parameters.pad)
    if parameters.kernel_size < 1 or parameters.stride < 1 or max(sides) > _MOST:
        raise UserError(
            f"layer {layer.name}: pooling with the kernel, stride and pad {sides} is impossible: "
            "mend it"
        )
    ceil = parameters.round_mode == parameters.CEIL
    if ceil and not parameters.pad and parameters.stride > parameters.kernel_size:
        raise UserError(
            f"layer {layer.name} pools with the stride {parameters.stride}, which is above its "
            f"kernel_size {parameters.kernel_size}: its last window may begin behind the image, "
            "which ONNX leaves out; write round_mode: FLOOR or a lower stride"
        )
    attributes = {
        "kernel_shape": [parameters.kernel_size] * 2,
        "pads": [parameters.pad] * 4,
        "strides": [parameters.stride] * 2,
        # Caffe rounds the size up by default, ONNX down.
        "ceil_mode": int(ceil),
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


def _input_and_layers(net: Any) -> tuple[str, list[Any]]:
    """Return the name of a net's input blob, and the layers after the Input.

    Raises:
        UserError: The net has something that cannot be exported.
    """
    if not net.layer:
        raise UserError("the net has no layers: give a deploy net, whose first layer is an Input")
    input_layer, *layers = net.layer
    shapes = input_layer.input_param.shape
    if (
        input_layer.type != "Input"
        or len(input_layer.top) != 1
        or [len(shape.dim) for shape in shapes] != [4]
    ):
        raise UserError(
            f"layer {input_layer.name} is of type {input_layer.type}: "
            "a net whose first layer is an Input with one top of four sides can be exported"
        )
    for layer in layers:
        if layer.type not in CONVERTERS or len(layer.top) != 1:
            raise UserError(
                f"layer {layer.name} is of type {layer.type} and makes {len(layer.top)} blobs: "
                f"only {', '.join(CONVERTERS)} that make one can be exported"
            )
        rules = {field.name for field, _ in layer.ListFields()} & {"include", "exclude"}
        if rules:
            raise UserError(
                f"layer {layer.name} is there in some phases only ({', '.join(sorted(rules))}): "
                "give a deploy net, whose layers are always there"
            )
    return input_layer.top[0], layers


def _channels(net: Any) -> dict[str, int]:
    """Return the channels of each blob of a net."""
    input_blob, layers = _input_and_layers(net)
    channels = {input_blob: net.layer[0].input_param.shape[0].dim[1]}
    for layer in layers:
        for bottom in layer.bottom:
            if bottom not in channels:
                raise UserError(
                    f"layer {layer.name} reads the blob {bottom}, which no layer before it makes"
                )
        if not layer.bottom:
            raise UserError(f"layer {layer.name} reads no blob: name its bottom")
        if layer.type == "Convolution":
            _check_convolution(layer, channels[layer.bottom[0]])
        channels[layer.top[0]] = (
            layer.convolution_param.num_output
            if layer.type == "Convolution"
            else sum(channels[bottom] for bottom in layer.bottom)
        )
    return channels


def parameter_shapes(net: Any) -> Shapes:
    """Compute the shapes of a deploy net's parameters, without Caffe.

    Args:
        net: NetParameter, as `to_onnx` takes it.

    Returns:
        {convolution: [shape of the kernel, shape of the bias]}.

    Raises:
        UserError: The net has something that cannot be exported.
    """
    channels = _channels(net)
    shapes: Shapes = {}
    for layer in net.layer:
        if layer.type == "Convolution":
            kernel_shape = _convert_convolution(layer).attributes["kernel_shape"]
            parameters = layer.convolution_param
            inputs = channels[layer.bottom[0]] // parameters.group
            shapes[layer.name] = [(parameters.num_output, inputs, *kernel_shape)]
            if parameters.bias_term:
                shapes[layer.name].append((parameters.num_output,))
    return shapes


def count_parameters(prototxt: Path) -> int:
    """Return the number of a deploy net's parameters."""
    layers = parameter_shapes(read_text("NetParameter", prototxt)).values()
    return sum(math.prod(shape) for shapes in layers for shape in shapes)


def count_multiply_adds(prototxt: Path) -> float:
    """Return the multiply-adds of a deploy net's convolutions for one pixel of its input."""
    net = read_text("NetParameter", prototxt)
    shapes = parameter_shapes(net)
    total, outputs = 0.0, 1.0  # outputs of a layer for a pixel of the input
    for layer in net.layer:
        if layer.type == "Pooling":
            outputs /= layer.pooling_param.stride**2
        elif layer.type == "Convolution":
            total += outputs * math.prod(shapes[layer.name][0])
    return total


class OnnxModel(NamedTuple):
    """A deploy net with its weights.

    Attributes:
        model: The ModelProto.
        input_size: The side of the input in the deploy net, in pixels; the model takes any.
    """

    model: Any
    input_size: int


def make_onnx_model(prototxt: str | Path, weights: str | Path) -> OnnxModel:
    """Make an ONNX model of a deploy net and its weights, in memory.

    Args:
        prototxt: The deploy net.
        weights: Its weights, a caffemodel or packed weights.

    Raises:
        UserError: A file is missing, the files do not fit each other, the net is one to train or
            has something that cannot be exported, or onnx is not installed.
    """
    net = read_deploy_net(prototxt)
    layers = fitting_layers(weights, parameter_shapes(net), variant=find_variant(as_text(net.name)))
    model = to_onnx(net, layers)
    return OnnxModel(model, net.layer[0].input_param.shape[0].dim[-1])


def is_own_model(path: Path) -> bool:
    """Tell whether a file is an ONNX model of this project's, by the fields that begin it."""
    start = bytes([1 << 3, IR_VERSION, 2 << 3 | 2, len(PRODUCER)]) + PRODUCER.encode()
    return starts_with(path, start)


def _make_nodes(
    input_blob: str, layers: Sequence[Any], parameters: Mapping[str, Sequence[np.ndarray]]
) -> tuple[list[Any], list[Any]]:
    """Return a NodeProto for each layer, and a TensorProto for each of its parameters.

    In Caffe a layer may overwrite its blob; in ONNX each value has a name of its own. The last
    layer that writes a blob gives its value the blob's name.
    """
    onnx = import_onnx()
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
        is_final = last_writer[top] == layer.name and top != input_blob
        value_of_blob[top] = top if is_final else f"{top}/{layer.name}"
        nodes.append(
            onnx.helper.make_node(
                operator.name, inputs, [value_of_blob[top]], layer.name, **operator.attributes
            )
        )
    return nodes, initializers


def to_onnx(net: Any, parameters: Mapping[str, Sequence[np.ndarray]]) -> Any:
    """Convert a deploy net to ONNX.

    Args:
        net: NetParameter. Its first layer is an Input; the others have the types in CONVERTERS
            and one top each.
        parameters: {layer: [kernel, bias]}, float32.

    Returns:
        The ModelProto.

    Raises:
        UserError: The net has something that cannot be exported, or onnx is not installed.
    """
    onnx = import_onnx()
    input_blob, layers = _input_and_layers(net)
    channels = _channels(net)
    nodes, initializers = _make_nodes(input_blob, layers, parameters)

    def describe_value(name: str, height: str, width: str) -> Any:
        shape = ["batch", channels[name], height, width]
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    read_blobs = {bottom for layer in layers for bottom in layer.bottom if bottom not in layer.top}
    written_blobs = dict.fromkeys(top for layer in layers for top in layer.top)
    graph = onnx.helper.make_graph(
        nodes,
        net.name,
        [describe_value(input_blob, "height", "width")],
        [
            describe_value(name, f"height / {STRIDE}", f"width / {STRIDE}")
            for name in written_blobs
            if name not in read_blobs
        ],
        initializers,
    )
    model = onnx.helper.make_model(
        graph,
        producer_name=PRODUCER,
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    network_input = f"(BGR - {GREY}) / {PIXEL_SCALE:g}"
    onnx.helper.set_model_props(model, {"input": network_input, "keypoints": ", ".join(NAMES)})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the net makes no ONNX model ({reason}): mend its prototxt") from None
    return model
