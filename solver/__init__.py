"""The generator of the solver settings."""

# From here on Ctrl-C ends a command without a traceback.
from mcc_caffe.core import start as start
