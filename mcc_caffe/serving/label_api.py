"""The addresses by which the labelling page talks to its `LabelSession`.

    GET /label/images               all images, the least sure first
    GET /label/images/KEY           one image's labels
    GET /label/images/KEY/pixels    its upright pixels, as JPEG
    PUT /label/images/KEY           saves labels

An error is an object whose `detail` is one line, as everywhere in the application: 404 for an
image that does not exist, 408 for labels that do not arrive, 409 where another tab has saved, 412
where the image's file has changed, 413 for labels of too many bytes, 422 for labels or an image
that cannot be used, 503 where the net is still at work, 507 where labels cannot be written.
"""

from collections.abc import Callable

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from mcc_caffe.core.errors import UserError
from mcc_caffe.serving.label_documents import describe_first_error
from mcc_caffe.serving.label_files import NotReadyError
from mcc_caffe.serving.label_messages import Change, OpenImage, Overview, Saved
from mcc_caffe.serving.labelling import (
    ChangedFileError,
    ConflictError,
    LabelSession,
    NotWrittenError,
    UnknownImageError,
)
from mcc_caffe.serving.request_body import discard_body, read_body

# Of a change. Its runs have some bytes each, and a mask of the largest image has some hundred
# thousand runs.
_MOST_BYTES = 32_000_000

# The browser keeps no copies of photographs and labels, which it would never use.
_NO_STORE = {"Cache-Control": "no-store"}

_STATUS_BY_ERROR = {
    UnknownImageError: 404,
    ConflictError: 409,
    ChangedFileError: 412,
    NotReadyError: 503,
    NotWrittenError: 507,
}


def make_label_router(session: LabelSession) -> APIRouter:
    """Make the router of the labelling page.

    Args:
        session: The labels that the page shows and changes.
    """
    router = APIRouter(prefix="/label/images", tags=["labels"])

    @router.get("", response_model=Overview)
    def overview() -> Response:
        return _answer(session.overview)

    @router.get("/{key}", response_model=OpenImage)
    def open_image(key: str) -> Response:
        return _answer(lambda: session.open_image(key))

    @router.get("/{key}/pixels", response_class=Response)
    def pixels(key: str) -> Response:
        try:
            jpeg = session.image_jpeg(key)
            return Response(jpeg, media_type="image/jpeg", headers=_NO_STORE)
        except UserError as error:
            return _error(error)

    @router.put("/{key}", response_model=Saved)
    async def save(key: str, request: Request) -> Response:
        try:
            content = await read_body(request, _MOST_BYTES, "change")
        except HTTPException:
            await discard_body(request, _MOST_BYTES)
            raise
        return await run_in_threadpool(_answer, lambda: session.save(key, _parse_change(content)))

    return router


def _parse_change(content: bytes) -> Change:
    """Parse the body of a PUT; FastAPI itself fails at NaN, and its errors are no lines."""
    try:
        return Change.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{describe_first_error(error)}: load the page again") from None


def _answer(action: Callable[[], BaseModel]) -> Response:
    """Return the outcome of an action as JSON, or the error that it raises."""
    try:
        content = action().model_dump_json()
        return Response(content, media_type="application/json", headers=_NO_STORE)
    except UserError as error:
        return _error(error)


def _error(error: UserError) -> Response:
    """Return the answer that an error gives."""
    status = next(
        (status for kind, status in _STATUS_BY_ERROR.items() if isinstance(error, kind)), 422
    )
    return JSONResponse({"detail": str(error)}, status)
