"""Mask-pose cascaded CNN for 2D hand pose estimation (Wang, Peng, Liu; OneHand10K), on real Caffe.

from mcc_caffe import HandPredictor

pose = HandPredictor().predict(image)
"""

import importlib
from typing import TYPE_CHECKING, Any

from mcc_caffe.core.start import prepare_command, starts_own_command

if TYPE_CHECKING:  # for type checkers and editors; at run time `__getattr__` imports them
    from mcc_caffe.core.errors import UserError as UserError
    from mcc_caffe.data.samples import Sample as Sample
    from mcc_caffe.data.samples import SampleSet as SampleSet
    from mcc_caffe.hand_tracker import HandTracker as HandTracker
    from mcc_caffe.paper import ABLATIONS as ABLATIONS
    from mcc_caffe.paper import MINI as MINI
    from mcc_caffe.paper import PAPER as PAPER
    from mcc_caffe.paper import VARIANTS as VARIANTS
    from mcc_caffe.paper import Variant as Variant
    from mcc_caffe.predictor import HandPose as HandPose
    from mcc_caffe.predictor import HandPredictor as HandPredictor

__version__ = "0.1.0"

if starts_own_command():
    prepare_command()

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
    "HandTracker": "mcc_caffe.hand_tracker",
    "Sample": "mcc_caffe.data.samples",
    "SampleSet": "mcc_caffe.data.samples",
    "UserError": "mcc_caffe.core.errors",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
