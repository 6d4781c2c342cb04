"""Mask-pose cascaded CNN for 2D hand pose estimation (Wang, Peng, Liu; OneHand10K), on real Caffe.

from mcc_caffe import HandPredictor

pose = HandPredictor().predict(image)
"""

import importlib

__version__ = "0.1.0"

# The public names and where they are defined; imported when first used, so that no command waits
# for what it does not need.
_PUBLIC = {
    "ABLATIONS": "mcc_caffe.paper",
    "MINI": "mcc_caffe.paper",
    "PAPER": "mcc_caffe.paper",
    "VARIANTS": "mcc_caffe.paper",
    "Variant": "mcc_caffe.paper",
    "HandPose": "mcc_caffe.predictor",
    "HandPredictor": "mcc_caffe.predictor",
    "Sample": "mcc_caffe.data.samples",
    "SampleSet": "mcc_caffe.data.samples",
    "UserError": "mcc_caffe.core.errors",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list:
    return sorted({*globals(), *__all__})
