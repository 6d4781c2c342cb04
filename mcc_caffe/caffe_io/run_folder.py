"""The files of a run, by their places in its folder.

train.prototxt, solver.prototxt    the net and the solver, with the options of the run
samples.json                       the number of samples of each set that it trains on
precision.txt                      float32 or bfloat16: the number format of the convolutions of
                                   rank 0 before the newest snapshot
log.jsonl                          the losses (`mcc_caffe.training.run_log`)
snapshots/                         weights and solver states (`mcc_caffe.caffe_io.snapshots`)
"""

import functools
import json
import logging
import os
from pathlib import Path
from typing import Any

from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.core.errors import UserError
from mcc_caffe.paper import is_input_size

NET_FILE = "train.prototxt"
SOLVER_FILE = "solver.prototxt"
SAMPLES_FILE = "samples.json"
PRECISION_FILE = "precision.txt"
LOG_FILE = "log.jsonl"
SNAPSHOTS = "snapshots"

_log = logging.getLogger(__name__)


def run_net_path(snapshot: str | Path) -> Path:
    """Return the path that the net's prototxt has in the run to which a snapshot belongs.

    A link that lies in no run belongs to the run of the snapshot that it points to.
    """
    as_given = Path(snapshot).absolute().parent.parent / NET_FILE
    real_path = Path(os.path.realpath(snapshot))
    return as_given if as_given.is_file() else real_path.parent.parent / NET_FILE


def find_data_layer(net: Any) -> Any | None:
    """Return the PythonParameter of the first Python layer of a NetParameter; None without one."""
    return next((layer.python_param for layer in net.layer if layer.type == "Python"), None)


def run_settings(snapshot: str | Path) -> dict[str, Any]:
    """Return the settings of the data layer in the run to which a snapshot belongs.

    Returns:
        What `mcc_caffe.data.loader_config.LoaderConfig` writes, as far as it is there: the run may
        be another project's. A "source" that is no text and an "input_size" that no net takes are
        left out. The result is empty where the file is of no run, or where its net cannot be read.
        A warning tells of such a net.
    """
    prototxt = run_net_path(snapshot)
    if not prototxt.is_file():
        return {}
    try:
        data_layer = find_data_layer(read_text("NetParameter", prototxt))
    except (UserError, OSError) as error:  # such as the net of another project
        _warn_once(f"the settings of the run are not known: {error}")
        return {}
    try:
        settings = json.loads(data_layer.param_str) if data_layer is not None else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(settings, dict):
        return {}
    if not isinstance(settings.get("source"), str):
        settings.pop("source", None)
    if not is_input_size(settings.get("input_size")):
        settings.pop("input_size", None)
    return settings


@functools.cache
def _warn_once(message: str) -> None:
    """Log a warning, once in a process, as several places ask for the same run."""
    _log.warning("%s", message)
