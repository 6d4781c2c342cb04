"""The reference engine: Caffe itself."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mcc_caffe.caffe_io.nets import read_deploy_net
from mcc_caffe.caffe_io.precision import choose_precision, nets_in
from mcc_caffe.caffe_io.protobuf import as_text
from mcc_caffe.caffe_io.pycaffe import (
    check_thread_count,
    import_caffe,
    read_thread_count,
    require_gpus,
    select_device,
)
from mcc_caffe.caffe_io.trial_build import DEPLOY, try_build
from mcc_caffe.caffe_io.weights import load_weights
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import require_file
from mcc_caffe.core.hand_boxes import BOXES_BLOB
from mcc_caffe.inference.engines.base import StageMaps, check_own_net, is_shipped_net
from mcc_caffe.paper import IMAGE_BLOB, LAST_STAGE, MASK_BLOB, find_variant, stage_blob

_FILLERS = re.compile(r"(weight|bias)_filler\s*{[^{}]*}")

# The process whose first forward pass started OpenMP's threads; None as long as none did.
_pid_with_threads: int | None = None


class CaffeEngine:
    """A deploy net with its weights, on the CPU or on one GPU; see `base.Engine`."""

    name = "caffe"

    def __init__(
        self,
        prototxt: str | Path,
        weights: str | Path,
        gpu: int | None = None,
        precision: str | None = None,
    ):
        check_thread_count()
        if gpu is not None:
            require_gpus([gpu])
        self.precision = self.choose_precision(precision, gpu)
        is_own = not is_shipped_net(require_file(prototxt, "deploy net"))
        if is_own:
            variant = find_variant(as_text(read_deploy_net(prototxt).name))
            try_build(DEPLOY, Path(prototxt), str(prototxt))
        else:
            # To parse the file would take 30 ms.
            variant = Path(os.path.realpath(prototxt)).parent.name
        self._gpu = gpu
        select_device(gpu)
        caffe = import_caffe()
        with nets_in(self.precision):
            self.net = caffe.Net(str(prototxt), caffe.TEST) if is_own else _net_to_fill(prototxt)
        if IMAGE_BLOB not in self.net.blobs or self.net.blobs[IMAGE_BLOB].data.ndim != 4:
            raise UserError(
                f"{prototxt} has no blob {IMAGE_BLOB} of images: give a deploy net, whose input "
                "has this name and four sides"
            )
        load_weights(self.net, weights, variant=variant)
        self.input_size: int = self.net.blobs[IMAGE_BLOB].data.shape[-1]
        self.has_mask = MASK_BLOB in self.net.blobs
        self.has_pose = stage_blob(LAST_STAGE) in self.net.blobs
        self._has_boxes = BOXES_BLOB in self.net.blobs
        if is_own:
            check_own_net(self, prototxt)

    @staticmethod
    def choose_precision(precision: str | None, gpu: int | None) -> str:
        """Return what the convolutions multiply; see `precision.choose_precision`."""
        return choose_precision(precision, on_gpu=gpu is not None)

    def __call__(self, batch: np.ndarray) -> StageMaps:
        """Run the net on a batch; see `base.Engine`."""
        _check_threads()
        # Caffe remembers the device for each thread, and the engine made last may have another.
        select_device(self._gpu)
        blobs = self.net.blobs
        if blobs[IMAGE_BLOB].data.shape != batch.shape:
            blobs[IMAGE_BLOB].reshape(*batch.shape)
        blobs[IMAGE_BLOB].data[...] = batch
        self.net.forward()
        # Copies, because the next forward pass writes into the same blobs.
        return StageMaps(
            masks=blobs[MASK_BLOB].data[:, 1].copy() if self.has_mask else None,
            heatmaps=blobs[stage_blob(LAST_STAGE)].data.copy() if self.has_pose else None,
            boxes=blobs[BOXES_BLOB].data.copy() if self._has_boxes else None,
        )


def _check_threads() -> None:
    """Raise UserError in a fork of a process that has run a net with several threads.

    The threads do not come along, and a forward pass would wait for them for ever.
    """
    global _pid_with_threads
    pid = os.getpid()
    if _pid_with_threads is None and read_thread_count() != 1:
        _pid_with_threads = pid
    if _pid_with_threads not in (None, pid):
        raise UserError(
            "this process is a fork of one that has run Caffe, whose threads it lacks: start it "
            'with multiprocessing.get_context("spawn"), or take the engine onnx'
        )


def _net_to_fill(prototxt: str | Path) -> Any:
    """Return one of the nets that ship, without start values if possible.

    Its fillers would draw them only for the weights to replace them. That takes some tenths of a
    second for the paper variant.
    """
    caffe = import_caffe()
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(_FILLERS.sub("", Path(prototxt).read_text()))
            file.flush()
            return caffe.Net(file.name, caffe.TEST)
    except OSError:  # no room for a temporary file
        return caffe.Net(str(prototxt), caffe.TEST)
