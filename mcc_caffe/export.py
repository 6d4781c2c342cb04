"""Writes a network as ONNX, for other runtimes.

    python -m mcc_caffe.export --onnx hand.onnx                                   # mini, with the weights that come with the package
    python -m mcc_caffe.export --onnx paper.onnx --variant paper --weights mcc_iter_200000.caffemodel
    python -m mcc_caffe.export --onnx mask.onnx --without pose

Input `image` (batch, 3, height, width) float32, (BGR - 128) / 256, of any batch and of any height
and width that are multiples of 8. Outputs, as far as the net has the stage: `conv6_2_CPM_prob`
(batch, 2, height / 8, width / 8), the mask's probabilities of background and hand; `Mconv7_stage6`
(batch, 22, height / 8, width / 8), the heatmaps of the 21 keypoints and the background. The file is
compared with Caffe in ONNX Runtime, where that is installed, before it is written.
"""

import argparse
import pathlib

import numpy as np

from mcc_caffe.caffe_io.nets import deploy_net
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.snapshots import default_weights
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_whole
from mcc_caffe.core.hand import NAMES
from mcc_caffe.inference.engines.caffe_engine import CaffeEngine
from mcc_caffe.paper import ABLATIONS, IMAGE_BLOB, STRIDE, VARIANTS

OPSET, IR_VERSION = 13, 8  # as old as Softmax over one axis; runtimes since 2021 read it
TOLERANCE = 1e-4  # largest absolute difference from Caffe
CHECKED = [
    (batch, *size) for size in ((64, 64), (96, 128), (136, 80)) for batch in (1, 8)
]  # (batch, height, width)


def arguments(argv=None) -> argparse.Namespace:
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
        help="a stage to leave out (default: the weights show by their layers which net they are of)",
    )
    return parser.parse_args(argv)


def import_onnx():
    """The module `onnx`; UserError with the remedy where it is not installed."""
    try:
        import onnx  # optional: the extra `onnx`
    except ImportError as error:
        raise UserError(
            f"onnx cannot be imported ({error}): install it (`pip install onnx onnxruntime`)"
        ) from None
    return onnx


def _options(layer, param: str, known: set):
    """The layer's parameter message `param`; UserError where it sets a field that is not `known`."""
    message = getattr(layer, param)
    unknown = [
        field.name for field, _ in message.ListFields() if field.name not in known | {"engine"}
    ]
    if unknown:
        raise UserError(
            f"layer {layer.name} sets {', '.join(unknown)} in its {param}: only {', '.join(sorted(known))} can be exported"
        )
    return message


def _pair(numbers, default: int) -> list:
    """A field of one number for both sides, or of two: (height, width)."""
    return list(numbers) * (2 // len(numbers)) if numbers else [default] * 2


def _convolution(layer) -> tuple:
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
    param = _options(layer, "convolution_param", known)
    return "Conv", {
        "kernel_shape": _pair(param.kernel_size, 0),
        "pads": _pair(param.pad, 0) * 2,
        "strides": _pair(param.stride, 1),
        "dilations": _pair(param.dilation, 1),
        "group": param.group,
    }


def _relu(layer) -> tuple:
    slope = _options(layer, "relu_param", {"negative_slope"}).negative_slope
    return ("LeakyRelu", {"alpha": slope}) if slope else ("Relu", {})


def _pooling(layer) -> tuple:
    param = _options(layer, "pooling_param", {"pool", "pad", "kernel_size", "stride", "round_mode"})
    if param.pool != param.MAX:
        raise UserError(
            f"layer {layer.name} pools by {param.PoolMethod.Name(param.pool)}: only MAX can be exported"
        )
    return "MaxPool", {
        "kernel_shape": [param.kernel_size] * 2,
        "pads": [param.pad] * 4,
        "strides": [param.stride] * 2,
        "ceil_mode": int(param.round_mode == param.CEIL),
    }  # Caffe's default rounds the size up


def _concat(layer) -> tuple:
    axis = _options(layer, "concat_param", {"axis"}).axis
    if axis != 1:
        raise UserError(
            f"layer {layer.name} joins along axis {axis}: only along the channels, axis 1, can be exported"
        )
    return "Concat", {"axis": axis}


def _softmax(layer) -> tuple:
    return "Softmax", {"axis": _options(layer, "softmax_param", {"axis"}).axis}


# Caffe's layer type -> function of a layer to (ONNX operator, its attributes)
LAYERS = {
    "Convolution": _convolution,
    "ReLU": _relu,
    "Pooling": _pooling,
    "Concat": _concat,
    "Softmax": _softmax,
}


def to_onnx(net, params: dict):
    """The ModelProto of a deploy net.

    net: NetParameter, its first layer an Input, the others of the types in LAYERS, each with one top: UserError for what cannot be
    exported. params: {layer: [float32 array, ...]}.
    """
    onnx = import_onnx()
    source, *layers = net.layer
    if source.type != "Input" or len(source.top) != 1:
        raise UserError(
            f"layer {source.name} is of type {source.type}: a net whose first layer is an Input with one top can be exported"
        )
    data = source.top[0]
    channels, values = (
        {data: source.input_param.shape[0].dim[1]},
        {data: data},
    )  # of each blob; layers that work in place give it new values
    writers = {top: layer.name for layer in layers for top in layer.top}  # a blob's last one
    nodes, initializers = [], []
    for layer in layers:
        if layer.type not in LAYERS or len(layer.top) != 1:
            raise UserError(
                f"layer {layer.name} is of type {layer.type} and makes {len(layer.top)} blobs: "
                f"only {', '.join(LAYERS)} that make one can be exported"
            )
        kind, attributes = LAYERS[layer.type](layer)
        inputs, top = [values[bottom] for bottom in layer.bottom], layer.top[0]
        for what, array in zip(("kernel", "bias"), params.get(layer.name, ())):
            inputs.append(f"{layer.name}/{what}")
            initializers.append(
                onnx.numpy_helper.from_array(np.ascontiguousarray(array, np.float32), inputs[-1])
            )
        channels[top] = (
            layer.convolution_param.num_output
            if kind == "Conv"
            else sum(channels[bottom] for bottom in layer.bottom)
        )
        values[top] = top if writers[top] == layer.name and top != data else f"{top}/{layer.name}"
        nodes.append(onnx.helper.make_node(kind, inputs, [values[top]], layer.name, **attributes))

    def value(name: str, sides: list):
        return onnx.helper.make_tensor_value_info(
            name, onnx.TensorProto.FLOAT, ["batch", channels[name], *sides]
        )

    read = {bottom for layer in layers for bottom in layer.bottom if bottom not in layer.top}
    outputs = [
        value(name, [f"height / {STRIDE}", f"width / {STRIDE}"])
        for name in writers
        if name not in read
    ]
    graph = onnx.helper.make_graph(
        nodes, net.name, [value(data, ["height", "width"])], outputs, initializers
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


def differences(model, net) -> dict | None:
    """{(batch, height, width): largest absolute difference between ONNX Runtime and the Caffe net}; None without ONNX Runtime."""
    try:
        import onnxruntime  # optional: the extra `onnx`
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names, random, found = (
        [output.name for output in session.get_outputs()],
        np.random.default_rng(0),
        {},
    )
    for batch, height, width in progress_bar(
        CHECKED, desc="comparing with Caffe", delay=2, leave=False
    ):
        images = random.uniform(-0.5, 0.5, (batch, 3, height, width)).astype(np.float32)
        net.blobs[IMAGE_BLOB].reshape(*images.shape)
        net.blobs[IMAGE_BLOB].data[...] = images
        net.forward()
        pairs = zip(names, session.run(names, {IMAGE_BLOB: images}))
        found[batch, height, width] = float(
            np.max([np.abs(net.blobs[name].data - other).max() for name, other in pairs])
        )  # NaN stays
    return found


def main(argv=None) -> None:
    options = arguments(argv)
    import_onnx()
    weights = options.weights or default_weights(options.variant)
    prototxt = deploy_net(weights, options.variant, options.without)
    net = CaffeEngine(prototxt, weights).net
    model = to_onnx(
        read_text("NetParameter", prototxt),
        {name: [blob.data for blob in blobs] for name, blobs in net.params.items()},
    )
    compared = differences(model, net)
    worst = float(np.max(list(compared.values()))) if compared else 0.0
    if not worst <= TOLERANCE:
        raise UserError(
            f"ONNX Runtime makes something else of {options.onnx.name} than Caffe, by {worst:.1e}, allowed is {TOLERANCE:.0e}: "
            "nothing is written; try another version of onnxruntime"
        )
    options.onnx.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.onnx, model.SerializeToString())
    shapes = ", ".join(
        f"{value.name} {[side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]}".replace(
            "'", ""
        )
        for value in (*model.graph.input, *model.graph.output)
    )
    print(
        f"{options.onnx}: {options.onnx.stat().st_size / 2**20:.1f} MiB of {weights}, opset {OPSET}; {shapes}"
    )
    print(
        f"as Caffe within {worst:.1e}, at {len(compared)} sizes and batches in ONNX Runtime"
        if compared
        else "not compared with Caffe: onnxruntime is not installed (`pip install onnxruntime`)"
    )


if __name__ == "__main__":
    run_command(main)
