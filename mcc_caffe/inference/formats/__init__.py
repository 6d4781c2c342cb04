"""The formats in which hands are written and read, beside our own JSON.

One module a format. `base` says what each gets and offers.
"""

from collections.abc import Callable, Sequence

from mcc_caffe.inference.formats.base import ResultFormat
from mcc_caffe.inference.formats.coco import CocoFormat, CocoLabels
from mcc_caffe.inference.formats.mmpose import MMPoseFormat
from mcc_caffe.inference.formats.openpose import OpenPoseFormat
from mcc_caffe.inference.formats.table import TableFormat

OWN_FORMAT = "ours"  # the JSON of `mcc_caffe.inference.reports`
_FORMATS: dict[str, Callable[[], ResultFormat]] = {
    "coco": CocoFormat,
    "openpose": OpenPoseFormat,
    "mmpose": MMPoseFormat,
    "csv": TableFormat,
}
FORMATS: Sequence[str] = (OWN_FORMAT, *_FORMATS)
FORMAT_HELP = (
    "form of the results: our JSON, COCO results of the whole run (coco_results.json), "
    "OpenPose's or MMPose's JSON, or a table with a row for each keypoint (default: %(default)s)"
)


def open_format(name: str, labels: CocoLabels | None = None) -> ResultFormat | None:
    """Return a format of the table; None for our own JSON.

    Args:
        name: One of FORMATS.
        labels: How the user's own COCO file calls images and hands, for COCO results.
    """
    if name == "coco":
        return CocoFormat(labels)
    return None if name == OWN_FORMAT else _FORMATS[name]()
