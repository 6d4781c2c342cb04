"""The protobuf messages of Caffe that using a net needs, for where Caffe is not installed.

They read and write the same bytes and texts as Caffe's own messages: names, numbers, types and
defaults of the fields are Caffe's. Only the fields of our nets' layers, of a caffemodel and of a
`Datum` are here; training, and every other layer, needs Caffe and its messages. A binary file may
have more fields, which are passed over, a prototxt may not.
"""

import functools
from typing import Any, NamedTuple

from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)


class _Field(NamedTuple):
    """A field of a message.

    `type` is a type of protobuf's, such as "int32", or a message or an enum of this file;
    `default` is written as in a .proto file.
    """

    number: int
    type: str
    default: str = ""
    repeated: bool = False
    packed: bool = False


def _many(number: int, type_name: str, packed: bool = False) -> _Field:
    return _Field(number, type_name, repeated=True, packed=packed)


_ENGINES = ("DEFAULT", "CAFFE", "CUDNN")

# {message: {enum: its names, numbered from 0}}
_ENUMS: dict[str, dict[str, tuple[str, ...]]] = {
    "ConvolutionParameter": {"Engine": _ENGINES},
    "EltwiseParameter": {"EltwiseOp": ("PROD", "SUM", "MAX")},
    "FillerParameter": {"VarianceNorm": ("FAN_IN", "FAN_OUT", "AVERAGE")},
    "LossParameter": {"NormalizationMode": ("FULL", "VALID", "BATCH_SIZE", "NONE")},
    "PoolingParameter": {
        "Engine": _ENGINES,
        "PoolMethod": ("MAX", "AVE", "STOCHASTIC"),
        "RoundMode": ("CEIL", "FLOOR"),
    },
    "ReLUParameter": {"Engine": _ENGINES},
    "SoftmaxParameter": {"Engine": _ENGINES},
}

_MESSAGES: dict[str, dict[str, _Field]] = {
    # A sample of an LMDB.
    "Datum": {
        "channels": _Field(1, "int32"),
        "height": _Field(2, "int32"),
        "width": _Field(3, "int32"),
        "data": _Field(4, "bytes"),
        "label": _Field(5, "int32"),
        "float_data": _many(6, "float"),
        "encoded": _Field(7, "bool", "false"),
    },
    # Nets and their weights.
    "BlobShape": {"dim": _many(1, "int64", packed=True)},
    "BlobProto": {
        "shape": _Field(7, "BlobShape"),
        "data": _many(5, "float", packed=True),
        "double_data": _many(8, "double", packed=True),
        # The fields of files from before 2014.
        "num": _Field(1, "int32", "0"),
        "channels": _Field(2, "int32", "0"),
        "height": _Field(3, "int32", "0"),
        "width": _Field(4, "int32", "0"),
    },
    "NetParameter": {
        "name": _Field(1, "string"),
        "input": _many(3, "string"),
        "input_shape": _many(8, "BlobShape"),
        "input_dim": _many(4, "int32"),
        "layer": _many(100, "LayerParameter"),
        "layers": _many(2, "V1LayerParameter"),
    },
    # A layer of a caffemodel from before 2014.
    "V1LayerParameter": {"name": _Field(4, "string"), "blobs": _many(6, "BlobProto")},
    "LayerParameter": {
        "name": _Field(1, "string"),
        "type": _Field(2, "string"),
        "bottom": _many(3, "string"),
        "top": _many(4, "string"),
        "loss_weight": _many(5, "float"),
        "param": _many(6, "ParamSpec"),
        "blobs": _many(7, "BlobProto"),
        "concat_param": _Field(104, "ConcatParameter"),
        "convolution_param": _Field(106, "ConvolutionParameter"),
        "eltwise_param": _Field(110, "EltwiseParameter"),
        "input_param": _Field(143, "InputParameter"),
        "loss_param": _Field(101, "LossParameter"),
        "pooling_param": _Field(121, "PoolingParameter"),
        "python_param": _Field(130, "PythonParameter"),
        "relu_param": _Field(123, "ReLUParameter"),
        "slice_param": _Field(126, "SliceParameter"),
        "softmax_param": _Field(125, "SoftmaxParameter"),
    },
    "ParamSpec": {
        "name": _Field(1, "string"),
        "lr_mult": _Field(3, "float", "1"),
        "decay_mult": _Field(4, "float", "1"),
    },
    # The layers of our nets.
    "ConcatParameter": {
        "axis": _Field(2, "int32", "1"),
        "concat_dim": _Field(1, "uint32", "1"),
    },
    "ConvolutionParameter": {
        "num_output": _Field(1, "uint32"),
        "bias_term": _Field(2, "bool", "true"),
        "pad": _many(3, "uint32"),
        "kernel_size": _many(4, "uint32"),
        "stride": _many(6, "uint32"),
        "dilation": _many(18, "uint32"),
        "pad_h": _Field(9, "uint32", "0"),
        "pad_w": _Field(10, "uint32", "0"),
        "kernel_h": _Field(11, "uint32"),
        "kernel_w": _Field(12, "uint32"),
        "stride_h": _Field(13, "uint32"),
        "stride_w": _Field(14, "uint32"),
        "group": _Field(5, "uint32", "1"),
        "weight_filler": _Field(7, "FillerParameter"),
        "bias_filler": _Field(8, "FillerParameter"),
        "engine": _Field(15, "Engine", "DEFAULT"),
        "axis": _Field(16, "int32", "1"),
        "force_nd_im2col": _Field(17, "bool", "false"),
    },
    "EltwiseParameter": {
        "operation": _Field(1, "EltwiseOp", "SUM"),
        "coeff": _many(2, "float"),
        "stable_prod_grad": _Field(3, "bool", "true"),
    },
    "FillerParameter": {
        "type": _Field(1, "string", "constant"),
        "value": _Field(2, "float", "0"),
        "min": _Field(3, "float", "0"),
        "max": _Field(4, "float", "1"),
        "mean": _Field(5, "float", "0"),
        "std": _Field(6, "float", "1"),
        "sparse": _Field(7, "int32", "-1"),
        "variance_norm": _Field(8, "VarianceNorm", "FAN_IN"),
    },
    "InputParameter": {"shape": _many(1, "BlobShape")},
    "LossParameter": {
        "ignore_label": _Field(1, "int32"),
        "normalization": _Field(3, "NormalizationMode", "VALID"),
        "normalize": _Field(2, "bool"),
    },
    "PoolingParameter": {
        "pool": _Field(1, "PoolMethod", "MAX"),
        "pad": _Field(4, "uint32", "0"),
        "pad_h": _Field(9, "uint32", "0"),
        "pad_w": _Field(10, "uint32", "0"),
        "kernel_size": _Field(2, "uint32"),
        "kernel_h": _Field(5, "uint32"),
        "kernel_w": _Field(6, "uint32"),
        "stride": _Field(3, "uint32", "1"),
        "stride_h": _Field(7, "uint32"),
        "stride_w": _Field(8, "uint32"),
        "engine": _Field(11, "Engine", "DEFAULT"),
        "global_pooling": _Field(12, "bool", "false"),
        "round_mode": _Field(13, "RoundMode", "CEIL"),
    },
    "PythonParameter": {
        "module": _Field(1, "string"),
        "layer": _Field(2, "string"),
        "param_str": _Field(3, "string"),
        "share_in_parallel": _Field(4, "bool", "false"),
    },
    "ReLUParameter": {
        "negative_slope": _Field(1, "float", "0"),
        "engine": _Field(2, "Engine", "DEFAULT"),
    },
    "SliceParameter": {
        "axis": _Field(3, "int32", "1"),
        "slice_point": _many(2, "uint32"),
        "slice_dim": _Field(1, "uint32", "1"),
    },
    "SoftmaxParameter": {
        "engine": _Field(1, "Engine", "DEFAULT"),
        "axis": _Field(2, "int32", "1"),
    },
}


@functools.cache
def message_classes() -> dict[str, Any]:
    """Make the classes of the messages.

    Returns:
        {name of the message: its class}. They stand in a descriptor pool of their own, so that
        Caffe's messages of the same names may be loaded as well.
    """
    file = FileDescriptorProto(name="mcc_caffe_own_messages.proto", package="caffe")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for enum_name, values in _ENUMS.get(name, {}).items():
            enum = message.enum_type.add(name=enum_name)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
        for field_name, field in fields.items():
            _add_field(message, field_name, field)
    classes = message_factory.GetMessages([file])
    return {name: classes[f"caffe.{name}"] for name in _MESSAGES}


def _add_field(message: DescriptorProto, name: str, field: _Field) -> None:
    """Add a field to a message that has its enums already."""
    added = message.field.add(
        name=name,
        number=field.number,
        label=(
            FieldDescriptorProto.LABEL_REPEATED
            if field.repeated
            else FieldDescriptorProto.LABEL_OPTIONAL
        ),
    )
    if field.type in _MESSAGES:
        added.type, added.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".caffe.{field.type}"
    elif field.type in _ENUMS.get(message.name, {}):
        added.type = FieldDescriptorProto.TYPE_ENUM
        added.type_name = f".caffe.{message.name}.{field.type}"
    else:
        added.type = FieldDescriptorProto.Type.Value(f"TYPE_{field.type.upper()}")
    if field.default:
        added.default_value = field.default
    if field.packed:
        added.options.packed = True
