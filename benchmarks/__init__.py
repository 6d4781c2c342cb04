"""Measurements of speed and size; docs/measurements.md and docs/benchmarks.md record results."""

# From here on Ctrl-C ends a command without a traceback.
from mcc_caffe.core import start as start
