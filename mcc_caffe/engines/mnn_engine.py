"""MNN, a fast inference engine for CPUs, on a net that `mnn_conversion` made."""
import contextlib
import ctypes
import os
import sys

import numpy as np

from mcc_caffe.errors import UserError
from mcc_caffe.paper import MASK_BLOB, STAGES, stage_blob


WINOGRAD_LEVELS = (3, 1, 0)   # from the fastest to the most exact; 0: not at all
_WINOGRAD_HINT = 3            # MNN's HintMode WINOGRAD_MEMORY_LEVEL, which its Python module has no name for


class EngineUnavailable(UserError):
    """MNN cannot run this net here; Caffe can."""

    code = 4


class MnnMissing(EngineUnavailable):
    """MNN is not installed."""


def import_mnn():
    """The module `MNN`; MnnMissing with the remedy where it is not there or broken."""
    try:
        with _quiet():
            import MNN
    except ImportError as error:
        raise MnnMissing(f"MNN cannot be imported ({error}): install it (`pip install MNN`), or take the engine caffe") from None
    return MNN


def threads() -> int:
    """One a core, unless OMP_NUM_THREADS, which Caffe's oneDNN reads as well, says otherwise."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) else len(os.sched_getaffinity(0))


class MnnEngine:
    """A converted net on the CPU, in single precision.

    winograd: one of WINOGRAD_LEVELS, how far convolutions may be computed by Winograd's method, which saves multiplications and rounds more.
    """

    name = "mnn"

    def __init__(self, path, winograd: int):
        self._mnn, self.winograd = import_mnn(), winograd
        with _quiet():
            self._interpreter = self._mnn.Interpreter(str(path))
            self._interpreter.setSessionHint(_WINOGRAD_HINT, winograd)
            # high: float32 throughout; MNN's default may compute with fewer bits.
            self._session = self._interpreter.createSession({"backend": "CPU", "numThread": threads(), "precision": "high"})
        self._input = self._interpreter.getSessionInput(self._session)
        self.input_size = self._input.getShape()[-1]
        outputs = self._interpreter.getSessionOutputAll(self._session)
        self.has_mask, self.has_pose = (name in outputs for name in (MASK_BLOB, stage_blob(LAST_STAGE)))

    def __call__(self, batch):
        """See the package's docstring."""
        if self._input.getShape() != batch.shape:
            self._interpreter.resizeTensor(self._input, batch.shape)
            self._interpreter.resizeSession(self._session)
        self._input.copyFrom(self._host(np.ascontiguousarray(batch, np.float32)))
        status = self._interpreter.runSession(self._session)
        if status:
            raise UserError(f"MNN gave up on a batch of shape {batch.shape} with its code {status}, for lack of memory perhaps: "
                            "take the engine caffe")
        return self._output(MASK_BLOB)[:, 1].copy() if self.has_mask else None, self._output(stage_blob(LAST_STAGE)) if self.has_pose else None

    def _output(self, name: str) -> np.ndarray:
        """An output blob, NCHW, out of MNN's own layout, in which channels lie in fours."""
        found = self._interpreter.getSessionOutput(self._session, name)
        host = self._host(np.empty(found.getShape(), np.float32))
        found.copyToHostTensor(host)
        return host.getNumpyData().reshape(found.getShape()).copy()

    def _host(self, array: np.ndarray):
        """An MNN tensor of an array NCHW."""
        return self._mnn.Tensor(array.shape, self._mnn.Halide_Type_Float, array, self._mnn.Tensor_DimensionType_Caffe)


@contextlib.contextmanager
def _quiet():
    """Without what MNN's C++ part prints to stdout when it is loaded and when a session begins."""
    flush = ctypes.CDLL(None).fflush
    sys.stdout.flush()
    flush(None)
    kept = os.dup(1)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)
