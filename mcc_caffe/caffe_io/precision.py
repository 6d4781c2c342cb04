"""What Caffe's convolutions multiply on a CPU: float32 or bfloat16.

In bfloat16 a number has 8 significant binary digits instead of 24. The inputs and the weights of a
convolution, and the gradients that it reads, are rounded to it; it adds up float32 and writes
float32. All else stays float32: what other layers compute, losses, solver, weights and snapshots.

Our Caffe looks at the variable MCC_CAFFE_PRECISION whenever a net is made, in the stock program
`caffe`, too. On a processor without bfloat16 the same numbers are rounded from float32, which takes
longer than float32 alone. The results differ as those of other orders of adding up do.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from caffe_build.locate import importable_folder, prefix_of
from mcc_caffe.caffe_io.pycaffe import caffe_folder, cpu_flags
from mcc_caffe.core.errors import UserError

FLOAT32, BFLOAT16, AUTO = "float32", "bfloat16", "auto"
PRECISIONS = (FLOAT32, BFLOAT16, AUTO)
PRECISION_VARIABLE = "MCC_CAFFE_PRECISION"
# What mcc_caffe.train has where nothing is said: bfloat16 is faster, and its losses are the same
# within 2 % (docs/measurements.md). All else has FLOAT32 then, so that an image has the same answer
# on every machine, up to the order of adding up.
TRAINING_PRECISION = AUTO

_CHANGING = threading.RLock()  # held while the variable has another value
_log = logging.getLogger(__name__)


def precision_help(default: str = FLOAT32) -> str:
    """Return the help text of an option --precision that has this default, one of PRECISIONS."""
    return (
        "number format that Caffe's convolutions multiply in on a CPU; auto: bfloat16 where the "
        f"processor has it, else float32 (default: the variable {PRECISION_VARIABLE}, "
        f"else {default})"
    )


def computes_bfloat16(cpuinfo: str) -> bool:
    """Tell whether a processor has instructions for bfloat16 that our convolutions use.

    Args:
        cpuinfo: The text of /proc/cpuinfo.
    """
    return "avx512_bf16" in cpu_flags(cpuinfo)


def choose_precision(
    precision: str | None = None, *, on_gpu: bool = False, default: str = FLOAT32
) -> str:
    """Choose the precision of the nets that are made next.

    Args:
        precision: One of PRECISIONS; None for what the variable says, else the default.
        on_gpu: Whether the nets run on a GPU, where the variable says nothing.
        default: One of PRECISIONS.

    Returns:
        FLOAT32 or BFLOAT16.

    Raises:
        UserError: There is no such precision, or it was asked for where Caffe has none.
    """
    wanted = wanted_precision(precision, default=default)
    if on_gpu:
        if precision == BFLOAT16:
            raise UserError(
                "precision=bfloat16 is for the CPU's convolutions, on a GPU Caffe computes in "
                "float32: leave out the precision or the GPU"
            )
        return FLOAT32
    if wanted == AUTO:
        is_native = computes_bfloat16(_cpuinfo())
        return BFLOAT16 if is_native and caffe_has_bfloat16() else FLOAT32
    if wanted == BFLOAT16 and not caffe_has_bfloat16():
        raise UserError(
            f"the Caffe in {caffe_folder()} has no convolutions in bfloat16: `make caffe` builds "
            "one that has them, or take float32"
        )
    return wanted


def wanted_precision(precision: str | None, *, default: str) -> str:
    """Return which of PRECISIONS is asked for: AUTO remains AUTO.

    Args:
        precision: One of PRECISIONS; None for what the variable says, else the default.
        default: One of PRECISIONS.

    Raises:
        UserError: There is no such precision.
    """
    if precision is not None:
        check_name("precision", precision)
        return precision
    wanted = os.environ.get(PRECISION_VARIABLE) or default
    check_name(PRECISION_VARIABLE, wanted)
    return wanted


def warn_of_rounding(precision: str) -> None:
    """Say on stderr where a precision, FLOAT32 or BFLOAT16, is not the processor's own."""
    if precision == BFLOAT16 and not computes_bfloat16(_cpuinfo()):
        _log.warning(
            "this processor has no bfloat16: Caffe rounds float32 to it, which takes longer than "
            "float32 alone"
        )


def _cpuinfo() -> str:
    return Path("/proc/cpuinfo").read_text()


def check_name(origin: str, precision: str) -> None:
    """Raise UserError where a precision is none of PRECISIONS; `origin` says who gave it."""
    if precision not in PRECISIONS:
        raise UserError(f"{origin}={precision}: give one of {', '.join(PRECISIONS)}")


def caffe_has_bfloat16() -> bool:
    """Tell whether Caffe's library, where `caffe_build` puts it, looks at the variable."""
    folder = importable_folder()
    if folder is None:
        return False
    library = prefix_of(folder) / "lib/libcaffe.so"
    return library.is_file() and PRECISION_VARIABLE.encode() in library.read_bytes()


@contextlib.contextmanager
def nets_in(precision: str) -> Iterator[None]:
    """Let the nets that Caffe makes meanwhile have this precision, FLOAT32 or BFLOAT16.

    Other threads that call this wait.
    """
    with _CHANGING:
        before = os.environ.get(PRECISION_VARIABLE)
        os.environ[PRECISION_VARIABLE] = precision
        try:
            yield
        finally:
            if before is None:
                del os.environ[PRECISION_VARIABLE]
            else:
                os.environ[PRECISION_VARIABLE] = before
