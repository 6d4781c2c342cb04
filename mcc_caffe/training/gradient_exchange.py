"""Keeps the weights of several training processes equal.

All ranks start from rank 0's weights, and each update takes the mean of all ranks' gradients. The
losses are means over a batch (the mask's, too: its normalization is BATCH_SIZE), so the mean of
the ranks' gradients is the gradient of their batches taken as one. On GPUs Caffe's own NCCL does
the same.
"""

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from mcc_caffe.caffe_io.pycaffe import import_caffe, require_nccl
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.ranks import Ranks

_UID_BYTES = 128  # NCCL_UNIQUE_ID_BYTES


def install_gradient_averaging(solver: Any, ranks: Ranks, *, on_gpus: bool) -> object:
    """Send rank 0's weights to all ranks, and make the solver average the gradients from now on.

    Args:
        solver: Caffe's solver, with its start values.
        ranks: The processes that train together.
        on_gpus: Whether each rank trains on a GPU of its own.

    Returns:
        An object that must live as long as the solver.

    Raises:
        UserError: Several GPUs are to be used, but NCCL is missing.
    """
    if ranks.size == 1:
        return None
    return _exchange_on_gpus(solver, ranks) if on_gpus else _exchange_on_cpus(solver, ranks)


def _exchange_on_cpus(solver: Any, ranks: Ranks) -> np.ndarray:
    """Exchange all gradients as one flat array, in Caffe's gradients-ready callback."""
    blobs = [blob for layer in solver.net.params.values() for blob in layer]
    flat = np.empty(sum(blob.count for blob in blobs), np.float32)
    parts = np.split(flat, np.cumsum([blob.count for blob in blobs[:-1]]))

    def exchange(operation: Callable[[np.ndarray], None], arrays: Iterable[np.ndarray]) -> None:
        """Overwrite the arrays with what the operation makes of them, all at once."""
        arrays = list(arrays)
        for part, array in zip(parts, arrays):
            part[:] = array.ravel()
        operation(flat)
        for part, array in zip(parts, arrays):
            array[...] = part.reshape(array.shape)

    exchange(ranks.broadcast, (blob.data for blob in blobs))
    solver.add_callback(
        lambda: None, lambda: exchange(ranks.average, (blob.diff for blob in blobs))
    )
    return flat


def _exchange_on_gpus(solver: Any, ranks: Ranks) -> object:
    """Give all ranks the same NCCL id, by which they meet; Caffe's NCCL does the rest."""
    require_nccl(ranks.size)
    uid = np.zeros(_UID_BYTES // 4, np.float32)
    if ranks.rank == 0:
        uid[:] = np.frombuffer(_new_uid(), np.float32)
    ranks.broadcast(uid)
    nccl = import_caffe().NCCL(solver, uid.tobytes())
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        # This is Caffe's default: the callback sums the gradients of each layer when it is done.
        solver.net.after_backward(nccl)
    return nccl


def _new_uid() -> bytes:
    """Return a new NCCL id.

    caffe.NCCL.new_uid() truncates the id at its first zero byte under Python 3, and an id always
    has one.
    """
    uid = ctypes.create_string_buffer(_UID_BYTES)
    status = ctypes.CDLL("libnccl.so.2").ncclGetUniqueId(uid)
    if status:
        raise UserError(
            f"NCCL gives no id for the ranks (status {status}): NCCL_DEBUG=INFO says why"
        )
    return uid.raw
