"""The network and the generator of its prototxts."""

# From here on Ctrl-C ends a command without a traceback.
from mcc_caffe.core import start as start
