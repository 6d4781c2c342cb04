"""The hands of an image over HTTP, for programs.

    with HandsService(HandPredictor, Limits(32, 16)) as service:
        serve(make_app(PROGRAMS_PAGE, routers=[hands_router(service)]), "127.0.0.1", 8000)

One thread owns the predictor and answers one request after the other. A request that does not find
room in the queue is refused at once, so that memory and waiting times stay bounded.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import PIL.Image
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

import mcc_caffe
from mcc_caffe.core.images import (
    ImageError,
    TooManyPixelsError,
    decode_image,
    max_megapixels,
    read_header,
)
from mcc_caffe.inference.engines.base import title_of
from mcc_caffe.inference.formats import open_format
from mcc_caffe.inference.input_files import IMAGE_SUFFIXES
from mcc_caffe.inference.pose_reports import NetworkInfo, image_record, image_report
from mcc_caffe.predictor import HandPredictor
from mcc_caffe.serving.request_body import UPLOAD_SECONDS, discard_body, read_body

_RETRY_SECONDS = 1  # what a refused client is told to wait
_LONGEST_QUOTE = 100  # characters of what a client has sent, in an answer

# A body of these types is no image's bytes. Others are not believed: curl says a form by default.
_OTHER_TYPES = ("multipart/", "application/json", "text/")
_EXAMPLE = "curl --data-binary @hand.jpg -H 'Content-Type: image/jpeg' URL/hands"

HandsChoice = Literal["all", "one"]
FormatChoice = Literal["ours", "coco", "openpose", "mmpose", "csv"]  # FORMATS, as a type


class Limits(NamedTuple):
    """What is refused.

    Attributes:
        megabytes: The most bytes of an image, in millions.
        requests: The most requests at a time: arriving, waiting and being answered.
    """

    megabytes: float
    requests: int


class HandsService:
    """Answers requests one after the other, in a thread of its own.

    Attributes:
        limits: What is refused.
        network: The network that answers.
        requests: The number of requests that are arriving, waiting or being answered.
    """

    def __init__(self, open_predictor: Callable[[], HandPredictor], limits: Limits):
        """Open the network.

        Args:
            open_predictor: Makes the predictor; is called in the thread that uses it.
            limits: What is refused.

        Raises:
            UserError: The network cannot be opened, or has no pose stage.
        """
        self.limits, self.requests = limits, 0
        max_megapixels()  # raises here where its environment variable is wrong
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hands")
        try:
            self._predictor = self._thread.submit(open_predictor).result()
            self._predictor.require_pose()
            self._thread.submit(self._predictor.open_search).result()
        except BaseException:
            self._thread.shutdown()
            raise
        weights = self._predictor.weights_info
        # The answers leave out the file's folder.
        named_weights = {**weights, "file": Path(weights["file"]).name}
        self.network = NetworkInfo(named_weights, title_of(self._predictor.engine))

    def __enter__(self) -> "HandsService":
        return self

    def __exit__(self, *_: Any) -> None:
        """End the thread, after the request that it answers."""
        self._thread.shutdown(cancel_futures=True)

    @contextmanager
    def room(self) -> Iterator[None]:
        """Take a place among the requests, or raise an HTTPException of status 503."""
        if self.requests >= self.limits.requests:
            raise HTTPException(
                503,
                f"{self.requests} requests wait already: try again in a second",
                {"Retry-After": str(_RETRY_SECONDS)},
            )
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    async def answer(self, request: Request, content: bytes, hands: str, form: str) -> Response:
        """Look at an image, when those before it are done.

        Args:
            request: The request, whose body has been read.
            content: An image file's bytes.
            hands: "all" or "one".
            form: One of `mcc_caffe.inference.formats.FORMATS`.

        Raises:
            HTTPException: It is no image that can be looked at.
            ClientDisconnect: The client has gone. A look that has not begun is left out.
        """
        loop = asyncio.get_running_loop()
        look = loop.run_in_executor(self._thread, self._look, content, hands, form)
        client_gone = asyncio.create_task(_wait_until_gone(request))
        try:
            await asyncio.wait((look, client_gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            client_gone.cancel()
        if not look.done():
            look.cancel()
            raise ClientDisconnect
        return look.result()

    def _look(self, content: bytes, hands: str, form: str) -> Response:
        image = _decode(content)
        size, one_hand = (image.shape[1], image.shape[0]), hands == "one"
        predictor = self._predictor
        poses = [predictor.predict(image)] if one_hand else predictor.predict_all(image)
        result_format = open_format(form)
        if result_format is not None:
            text = result_format.describe(image_record(poses, "", size, one_hand=one_hand))
            return Response(result_format.document(text), media_type=result_format.media_type)
        report = image_report(poses, "", size, self.network, one_hand=one_hand)
        return Response(json.dumps(report) + "\n", media_type="application/json")


async def _wait_until_gone(request: Request) -> None:
    """Wait until the client of a request whose body has been read has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _decode(content: bytes) -> np.ndarray:
    """Decode an image, or raise an HTTPException that says what is wrong with it."""
    try:
        return decode_image(content)
    except TooManyPixelsError as error:
        raise HTTPException(413, str(error)) from None
    except ImageError as error:
        status = 422 if _is_known(read_header(content).format) else 415
        # `curl -d` removes bytes of 0, of which the files of nearly all images have some.
        advice = "" if b"\0" in content else " (curl needs --data-binary: -d removes bytes)"
        raise HTTPException(status, f"{error}{advice}") from None


def _is_known(image_format: str) -> bool:
    """Tell whether Pillow's name of a format is that of one that is read."""
    formats = PIL.Image.registered_extensions()
    # MPO is a JPEG with further images behind it.
    return image_format in {"MPO", *(formats.get(suffix) for suffix in IMAGE_SUFFIXES)}


async def _read_image(request: Request, most_bytes: int) -> bytes:
    """Read the body, which is to be an image, no more of it than is allowed."""
    content_type = request.headers.get("content-type", "").lower()
    if content_type.startswith(_OTHER_TYPES):
        raise HTTPException(
            415,
            f"the body is {content_type.split(';')[0][:_LONGEST_QUOTE]}: "
            f"send the image's bytes ({_EXAMPLE})",
        )
    content = await read_body(request, most_bytes, "image")
    if not content:
        raise HTTPException(400, f"the body is empty: send the image's bytes ({_EXAMPLE})")
    return content


class _OneLineRoute(APIRoute):
    """A route that says in one line what is wrong with a parameter.

    A parameter that is unknown or given twice is wrong, too.
    """

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()
        known = [parameter.alias for parameter in self.dependant.query_params]

        async def handle_in_one_line(request: Request) -> Response:
            unknown = [name for name in request.query_params if name not in known]
            if unknown:
                advice = f"give only {' and '.join(known)}" if known else "leave it out"
                raise HTTPException(
                    400, f"there is no parameter {unknown[0][:_LONGEST_QUOTE]!r}: {advice}"
                )
            names = [name for name, _ in request.query_params.multi_items()]
            repeated = [name for name in known if names.count(name) > 1]
            if repeated:
                values = request.query_params.getlist(repeated[0])
                quote = " and ".join(map(repr, values))[:_LONGEST_QUOTE]
                raise HTTPException(400, f"{repeated[0]} is given several times, {quote}: give one")
            try:
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                value = repr(first["input"])[:_LONGEST_QUOTE]
                raise HTTPException(422, f"{first['loc'][-1]}={value}: {first['msg']}") from None

        return handle_in_one_line


def _describe_errors(limits: Limits) -> dict[int, str]:
    """Return what each status says that is no success, for the page that describes the routes."""
    return {
        400: "The body is empty, a parameter is unknown or given twice, or the host name is "
        "another one.",
        403: "A page of another site has sent the request.",
        408: f"The image did not arrive within {UPLOAD_SECONDS} seconds.",
        413: f"The image has more than {limits.megabytes:g} million bytes, or more than "
        f"{max_megapixels():g} million pixels.",
        415: "The body is no image of a known format, or its Content-Type is that of a form with "
        "files, of JSON or of text.",
        422: "The image is damaged, or a parameter's value is wrong.",
        500: "The network's answer cannot be used, or the server has a fault.",
        503: f"{limits.requests} requests are there already; Retry-After says when to try again.",
    }


async def _receive_and_answer(
    service: HandsService, request: Request, hands: str, form: str
) -> Response:
    """Read the image of a request and look at it.

    Args:
        service: Looks at it.
        request: The request, whose body is the image.
        hands: As `HandsService.answer` takes it.
        form: Likewise.

    Raises:
        HTTPException: There is no room, the image does not arrive, or it cannot be looked at.
    """
    most_bytes = int(service.limits.megabytes * 1e6)
    try:
        with service.room():
            content = await _read_image(request, most_bytes)
            return await service.answer(request, content, hands, form)
    except HTTPException:
        await discard_body(request, most_bytes)
        raise


def hands_router(service: HandsService) -> APIRouter:
    """Return the routes: POST /hands and GET /health.

    Args:
        service: Answers the requests.
    """
    router = APIRouter(route_class=_OneLineRoute)
    errors = _describe_errors(service.limits)
    binary = {"schema": {"type": "string", "format": "binary"}}

    @router.post(
        "/hands",
        summary="Find the hands of an image",
        response_class=Response,
        responses={
            200: {"description": "The hands.", "content": {"application/json": {}, "text/csv": {}}},
            **{status: {"description": text} for status, text in errors.items()},
        },
        openapi_extra={
            "requestBody": {
                "description": "The image file's bytes: JPEG, PNG, WebP, AVIF, TIFF, BMP and more. "
                "Of an animation the first frame is looked at.",
                "required": True,
                "content": {"application/octet-stream": binary, "image/*": binary},
            }
        },
    )
    async def post_hands(
        request: Request,
        hands: Annotated[
            HandsChoice,
            Query(description="every hand, perhaps none, or the one that the image shows"),
        ] = "all",
        format: Annotated[
            FormatChoice, Query(description="form of the answer, as of `mcc_caffe.infer --format`")
        ] = "ours",
    ) -> Response:
        """Return the hands of an image, as `mcc_caffe.infer` writes them."""
        return await _receive_and_answer(service, request, hands, format)

    @router.get("/health", summary="Tell that the server works, and with what")
    async def health() -> Response:
        """Return the version, the network, how many requests are handled now, and the most."""
        state = {
            "status": "ok",
            "version": mcc_caffe.__version__,
            **service.network._asdict(),
            "requests": service.requests,
            "most_requests": service.limits.requests,
        }
        # JSONResponse refuses a weights file whose name is not UTF-8.
        return Response(json.dumps(state), media_type="application/json")

    return router
