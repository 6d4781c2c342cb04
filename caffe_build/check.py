"""Tries a Caffe in a process of its own: one that is broken ends that process and not ours."""

import os
import re
import subprocess
import sys
from pathlib import Path

# engine: CAFFE, since a cuDNN layer aborts on a machine without a GPU.
_TRY = """
import tempfile
import numpy
import caffe
assert "Python" in caffe.layer_type_list(), "it was built without the Python layer (WITH_PYTHON_LAYER)"
net_text = '''
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 2 dim: 2 } } }
layer { name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 1 kernel_size: 1
        engine: CAFFE weight_filler { type: "constant" value: 1 } bias_filler { type: "constant" value: 0.5 } } }
'''
with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
    file.write(net_text)
    file.flush()
    net = caffe.Net(file.name, caffe.TEST)
net.blobs["x"].data[...] = 1
assert numpy.allclose(net.forward()["y"], 3.5), "a convolution gave a wrong result"
"""


def fault(python_folder: Path) -> str:
    """What is wrong with the pycaffe in `python_folder` (the one that holds caffe/), in one line; empty if it works.

    Works means: it imports, has the Python layer, and a convolution on the CPU gives the right result.
    """
    path = os.pathsep.join(filter(None, [str(python_folder), os.environ.get("PYTHONPATH")]))
    return _complaint(_TRY, {"PYTHONPATH": path})


def load_fault(prefix: Path) -> str:
    """As fault, but only loads libcaffe.so (a twentieth of the time): finds system libraries that have gone."""
    return _complaint(f"import ctypes; ctypes.CDLL({str(prefix / 'lib' / 'libcaffe.so')!r})", {})


def _complaint(code: str, environment: dict[str, str]) -> str:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "GLOG_minloglevel": "2", **environment},
        cwd="/",  # -c puts the current folder on the path
        capture_output=True,
        text=True,
        check=False,
    )
    return reason(run) if run.returncode else ""


def reason(run: subprocess.CompletedProcess) -> str:
    """The line of a failed process's stderr that says why it failed."""
    lines = [line.strip() for line in run.stderr.splitlines() if line.strip()]
    # Of an abort inside Caffe the first line that glog marks as fatal has the reason, of a Python error the last line.
    fatal = [line for line in lines if re.match(r"F\d{4}", line)]
    return (fatal + lines[-1:] + [f"it ended with status {run.returncode}"])[0]
