"""Tries a Caffe in a process of its own, so that a broken one does not end ours."""

import os
import re
import subprocess
import sys
from pathlib import Path

# The net says engine: CAFFE, since a cuDNN layer aborts on a machine without a GPU.
_TRY = """
import tempfile
import numpy
import caffe
no_python_layer = "it was built without the Python layer (WITH_PYTHON_LAYER)"
assert "Python" in caffe.layer_type_list(), no_python_layer
net_text = '''
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 2 dim: 2 } } }
layer { name: "y" type: "Convolution" bottom: "x" top: "y"
        convolution_param { num_output: 1 kernel_size: 1 engine: CAFFE
                            weight_filler { type: "constant" value: 1 }
                            bias_filler { type: "constant" value: 0.5 } } }
'''
with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
    file.write(net_text)
    file.flush()
    net = caffe.Net(file.name, caffe.TEST)
net.blobs["x"].data[...] = 1
assert numpy.allclose(net.forward()["y"], 3.5), "a convolution gave a wrong result"
"""

# What glog writes before it aborts. Group 1 is what it says.
_FATAL = re.compile(r"^\s*F\d+ .*?\] (.*)", re.MULTILINE)
_PROGRESS_BAR = re.compile(r"\d+%\|.*\| *\d+/\d+ \[")  # tqdm's

_SAY_WHERE = """
import os
import sys
from caffe_build.locate import importable_folder
sys.stdout.buffer.write(os.fsencode(importable_folder() or ""))
"""


def imported_folder() -> Path | None:
    """Return the folder that a new process would import Caffe from, None if there is none."""
    run = subprocess.run([sys.executable, "-c", _SAY_WHERE], capture_output=True, check=True)
    return Path(os.fsdecode(run.stdout)) if run.stdout else None


def fault(python_folder: Path) -> str:
    """Return what is wrong with a pycaffe, in one line; an empty text if it works.

    It works if it imports, has the Python layer, and a convolution on the CPU gives the right
    result.

    Args:
        python_folder: The folder that holds caffe/.
    """
    path = os.pathsep.join(filter(None, [str(python_folder), os.environ.get("PYTHONPATH")]))
    return _complaint(_TRY, {"PYTHONPATH": path})


def load_fault(prefix: Path) -> str:
    """Return why the libraries of a build of ours do not load, in one line; empty if they do.

    This takes a quarter of the time of `fault`, and notices a library of the build or of the system
    that is damaged or gone.
    """
    library = prefix / "python" / "caffe" / "_caffe.so"
    return _complaint(f"import ctypes; ctypes.CDLL({str(library)!r})", {})


def _complaint(code: str, environment: dict[str, str]) -> str:
    """Run Python code in a process of its own; return why it failed, or an empty text."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "GLOG_minloglevel": "2", **environment},
        cwd="/",  # -c puts the current folder on the path
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return reason(run.returncode, run.stderr) if run.returncode else ""


def reason(return_code: int, stderr: str) -> str:
    """Return in one line why a process failed.

    Where Caffe aborted, that is the first message that glog marks as fatal, else the signal that
    ended the process or the last line of what it wrote. Progress bars do not count.

    Args:
        return_code: Its exit status; below 0 the signal that ended it.
        stderr: What it wrote.
    """
    fatal = _FATAL.search(stderr)
    if fatal:
        return fatal[1].strip()
    if return_code < 0:
        return f"it was killed by signal {-return_code}"
    lines = [line.strip() for line in stderr.splitlines() if not _PROGRESS_BAR.search(line)]
    return next(filter(None, reversed(lines)), f"it ended with status {return_code}")
