"""The engine that pip brings: ONNX Runtime, with the net as an ONNX model made in memory."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from mcc_caffe.caffe_io.onnx_model import make_onnx_model
from mcc_caffe.caffe_io.precision import BFLOAT16, FLOAT32, check_name
from mcc_caffe.caffe_io.pycaffe import read_thread_count
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand_boxes import BOXES_BLOB
from mcc_caffe.inference.engines.base import StageMaps, check_own_net, is_shipped_net
from mcc_caffe.paper import IMAGE_BLOB, LAST_STAGE, MASK_BLOB, stage_blob


class OnnxEngine:
    """A deploy net with its weights in ONNX Runtime, on the CPU; see `base.Engine`."""

    name = "onnx"

    def __init__(
        self,
        prototxt: str | Path,
        weights: str | Path,
        gpu: int | None = None,
        precision: str | None = None,
    ):
        if gpu is not None:
            raise UserError(
                f"GPU {gpu} was asked for, but the engine onnx runs on the CPU: "
                "take the engine caffe, or leave the GPU out"
            )
        self.precision = self.choose_precision(precision, gpu)
        model, self.input_size = make_onnx_model(prototxt, weights)
        self.session = open_session(model)
        self._outputs = [output.name for output in self.session.get_outputs()]
        self.has_mask = MASK_BLOB in self._outputs
        self.has_pose = stage_blob(LAST_STAGE) in self._outputs
        if IMAGE_BLOB not in {value.name for value in self.session.get_inputs()}:
            raise UserError(
                f"{prototxt} has no input {IMAGE_BLOB}: give a deploy net, whose input is so called"
            )
        if not is_shipped_net(prototxt):
            check_own_net(self, prototxt)

    @staticmethod
    def choose_precision(precision: str | None, gpu: int | None) -> str:
        """Return float32; UserError where bfloat16 is asked for, or what does not exist."""
        check_name("precision", FLOAT32 if precision is None else precision)
        if precision == BFLOAT16:
            raise UserError(
                "precision=bfloat16 was asked for, but the engine onnx computes in float32: "
                "take the engine caffe, or leave the precision out"
            )
        return FLOAT32

    def __call__(self, batch: np.ndarray) -> StageMaps:
        """Run the net on a batch; see `base.Engine`."""
        images = np.ascontiguousarray(batch, np.float32)
        maps = dict(zip(self._outputs, self.session.run(self._outputs, {IMAGE_BLOB: images})))
        return StageMaps(
            masks=maps[MASK_BLOB][:, 1] if self.has_mask else None,
            heatmaps=maps.get(stage_blob(LAST_STAGE)),
            boxes=maps.get(BOXES_BLOB),
        )


def import_onnxruntime() -> Any:
    """Import ONNX Runtime, which reports nothing about this machine to its publisher.

    From version 1.29 on it collects such reports unless ORT_DISABLE_TELEMETRY is set before the
    import. A value that the user has set stays.

    Raises:
        ImportError: It is not installed, or cannot be loaded.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # slow, and not every command needs it

    return onnxruntime


def open_session(model: Any) -> Any:
    """Open an ONNX model in ONNX Runtime, on the CPU.

    Args:
        model: ModelProto.

    Returns:
        The onnxruntime.InferenceSession. It takes as many threads as OMP_NUM_THREADS says, but no
        more than there are cores: more wait for each other. Without the variable, or with 0, it
        takes one for each core.

    Raises:
        UserError: ONNX Runtime is not installed, or does not take the model.
    """
    try:
        onnxruntime = import_onnxruntime()
    except ImportError as error:
        raise UserError(
            f"ONNX Runtime cannot be imported ({error}): `pip install onnxruntime`"
        ) from None
    options = onnxruntime.SessionOptions()
    cores = len(os.sched_getaffinity(0))
    options.intra_op_num_threads = min(read_thread_count() or cores, cores)
    options.log_severity_level = 3  # errors; a warning about the machine would break the one line
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its own errors have no other base
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"ONNX Runtime does not take the net ({reason}): mend its prototxt, or run it on Caffe"
        ) from None
