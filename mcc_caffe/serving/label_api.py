"""The addresses by which the labelling page talks to its `LabelSession`.

    GET /label/pictures              all pictures, the least sure first
    GET /label/pictures/KEY          one picture's labels
    GET /label/pictures/KEY/image    its upright pixels, as JPEG
    PUT /label/pictures/KEY          saves labels

An error is an object whose `message` is one line: 404 for a picture that does not exist, 409 where
another tab has saved, 422 for labels or a picture that cannot be used, 503 where the net is still
at work, 507 where the labels cannot be written.
"""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand import NAMES, SKELETON, keypoint_colour
from mcc_caffe.serving.labelling import (
    Change,
    ConflictError,
    LabelSession,
    NotReadyError,
    OpenPicture,
    Overview,
    Saved,
    UnknownPictureError,
)

_STATUS_BY_ERROR = {UnknownPictureError: 404, ConflictError: 409, NotReadyError: 503}
