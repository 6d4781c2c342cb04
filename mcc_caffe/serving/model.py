"""The network as a browser gets it: an ONNX model with float16 weights, and its description."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mcc_caffe.caffe_io.nets import find_deploy_net
from mcc_caffe.caffe_io.onnx_model import import_onnx, make_onnx_model
from mcc_caffe.caffe_io.weights import describe
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.presence import UNCALIBRATED, read_calibration
from mcc_caffe.paper import CONFIDENCE_THRESHOLD, IMAGE_BLOB, LAST_STAGE, MASK_BLOB, stage_blob

BLOBS = {"input": IMAGE_BLOB, "mask": MASK_BLOB, "heatmaps": stage_blob(LAST_STAGE)}


class WebModel(NamedTuple):
    """A network for the browser.

    Attributes:
        onnx: The ONNX file. Its weights are float16 wherever that loses nothing, as it does not
            for packed weights; the network computes in float32.
        description: "weights", as `weights.describe` returns them but without the folder of the
            file; "input_size", m in pixels; "threshold", the confidence above which a keypoint is
            present; "least_score", from which on an image shows a hand, None for weights that were
            not calibrated; "blobs", the model's names of "input", "mask" and "heatmaps".
    """

    onnx: bytes
    description: dict[str, Any]

    def description_json(self) -> bytes:
        """Return the description as a JSON file."""
        return json.dumps(self.description, indent=1).encode()


def make_web_model(weights: Path, variant: str = "mini") -> WebModel:
    """Make the model of a weights file, in memory.

    Args:
        weights: A caffemodel or packed weights.
        variant: The size of the network.

    Raises:
        UserError: A file is missing or does not fit, the network lacks the mask or the pose
            stages, or onnx is not installed.
    """
    model, input_size = make_onnx_model(find_deploy_net(weights, variant), weights)
    missing = {BLOBS["mask"], BLOBS["heatmaps"]} - {output.name for output in model.graph.output}
    if missing:
        raise UserError(
            f"the network of {weights} does not make {', '.join(sorted(missing))}: the page needs "
            "a network with mask and pose stages"
        )
    halve_weights(model)
    known = describe(weights)
    calibration = read_calibration(known)
    description = {
        "weights": {**known, "file": Path(known["file"]).name},
        "input_size": known.get("input_size") or input_size,
        "threshold": CONFIDENCE_THRESHOLD,
        "least_score": None if calibration == UNCALIBRATED else calibration.single,
        "blobs": BLOBS,
    }
    return WebModel(model.SerializeToString(), description)


def halve_weights(model: Any) -> None:
    """Store as float16 each weight array of a model that float16 holds exactly.

    A Cast makes it float32 again when the model is loaded.

    Args:
        model: ModelProto; it is changed in place.
    """
    onnx = import_onnx()
    casts = []
    for initializer in model.graph.initializer:
        array = onnx.numpy_helper.to_array(initializer)
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), array):
            continue
        name = initializer.name
        initializer.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}/float16"))
        casts.append(
            onnx.helper.make_node("Cast", [initializer.name], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
