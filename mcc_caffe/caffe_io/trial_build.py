"""Lets Caffe build a user's net in another process first, because it aborts on what it refuses.

    python -m mcc_caffe.caffe_io.trial_build solver SOLVER.prototxt
    python -m mcc_caffe.caffe_io.trial_build deploy NET.prototxt

The process is silent and ends with 0 where Caffe takes the net. Otherwise it, or Caffe as it
aborts, says why on stderr.
"""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from caffe_build import check
from mcc_caffe.caffe_io.precision import FLOAT32, PRECISION_VARIABLE
from mcc_caffe.caffe_io.pycaffe import import_caffe, read_thread_count
from mcc_caffe.caffe_io.weights import net_shapes
from mcc_caffe.core.commands import run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.paper import HEATMAPS_BLOB, IMAGE_BLOB, POSE_STAGES, STRIDE, stage_blob

SOLVER, DEPLOY = "solver", "deploy"

# The line of an exception, such as one in a Python layer.
_EXCEPTION = re.compile(r"^\w+(?:\.\w+)*(?:Error|Exception): .*", re.MULTILINE)
_TIMEOUT_SECONDS = 300
_LONGEST_REASON = 500  # characters


def try_build(kind: str, path: Path, described: str) -> None:
    """Let Caffe build a net in another process, and run it.

    Args:
        kind: SOLVER, for the net of a solver, which does one step; or DEPLOY.
        path: The prototxt.
        described: What the error calls it.

    Raises:
        UserError: Caffe refuses it; the error says why.
    """
    command = [sys.executable, "-m", __name__, kind, str(path)]
    environment, cores = dict(os.environ), len(os.sched_getaffinity(0))
    # The trial is of the net, not of a number of threads: the stacks of thousands of them would
    # take the memory that `_bound_memory` admits.
    if read_thread_count() > cores:
        environment["OMP_NUM_THREADS"] = str(cores)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{described}: Caffe has not built it within {_TIMEOUT_SECONDS} s: give a smaller net"
        ) from None
    if done.returncode:
        raise UserError(f"{described}: {reason_of_end(done.returncode, done.stderr)}; mend it")


def reason_of_end(return_code: int, stderr: bytes) -> str:
    """Return what the error says of a process that ended when it built a net.

    Args:
        return_code: Its exit status; below 0 the signal that ended it.
        stderr: What it wrote.
    """
    text = stderr.decode(errors="backslashreplace")
    exception = _EXCEPTION.search(text)
    reason = exception[0] if exception else check.reason(return_code, text)
    reason = reason.strip()[:_LONGEST_REASON]
    if return_code > 0 and not exception:
        return reason.removeprefix("error: ")
    return f"Caffe refuses it ({reason})"


def try_net(kind: str, path: str) -> None:
    """Build a net in this process, which may abort, and run it once.

    Args:
        kind: SOLVER or DEPLOY.
        path: The prototxt.

    Raises:
        UserError: This project cannot use the net.
    """
    os.environ[PRECISION_VARIABLE] = FLOAT32  # the trial is of the net, not of a precision
    caffe = import_caffe()
    caffe.set_mode_cpu()
    if kind == DEPLOY:
        net = caffe.Net(path, caffe.TEST)
        net_shapes(net)  # Python cannot read every name
        sides = list(net.blobs[IMAGE_BLOB].shape)[2:] if IMAGE_BLOB in net.blobs else []
        for batch in (1, 2) if sides else ():  # it has to take batches and inputs of any size
            net.blobs[IMAGE_BLOB].reshape(batch, 3, *sides)
            net.forward()
            sides = [side + STRIDE for side in sides]
        return
    solver = caffe.get_solver(path)
    _check_train_net(solver.net)
    solver.step(1)


def _check_train_net(net: Any) -> None:
    """Raise UserError where the training lacks something in a net."""
    if HEATMAPS_BLOB not in net.blobs:
        raise UserError(f"the net has no blob {HEATMAPS_BLOB}, the heatmaps to be learnt")
    stages = [stage_blob(stage) for stage in POSE_STAGES]
    for name in (name for name in stages if name in net.params):
        if len(net.params[name]) != 2:
            raise UserError(f"the net's layer {name} has no bias")


def _bound_memory() -> None:
    """Admit no more memory than the machine has available, so that other programs keep theirs."""
    sizes = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(sizes["MemAvailable"].split()[0]) << 10
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = mapped + available
    if soft == resource.RLIM_INFINITY or bound < soft:
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))


def main() -> None:
    """Build the net that the process was given."""
    kind, path = sys.argv[1:]
    import_caffe()
    _bound_memory()
    try_net(kind, path)


if __name__ == "__main__":
    run_command(main)
