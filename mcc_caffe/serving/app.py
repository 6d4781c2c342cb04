"""The web application: a page's files, the network's model, and what further routers answer.

    app = make_app(LIVE_PAGE, make_web_model(weights))
    serve(app, "127.0.0.1", 8000)

Every answer carries headers that keep other sites out and the browser in: the pages load nothing
from elsewhere, and the browser lets WebAssembly use threads (cross-origin isolation).
"""

import hashlib
import ipaddress
import logging
import os
import re
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import PurePath

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import mcc_caffe
from mcc_caffe.core.errors import UserError
from mcc_caffe.serving.bounded_server import BoundedServer
from mcc_caffe.serving.model import WebModel
from mcc_caffe.serving.site import MODEL_DESCRIPTION_FILE, MODEL_FILE, STATIC

LOCAL_HOSTS = ("127.0.0.1", "localhost")

HEADERS = {
    # Cross-origin isolation: only with it does a browser give WebAssembly threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The browser itself refuses whatever a page would send or load elsewhere.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
        "connect-src 'self' blob:; img-src 'self' blob: data:; media-src 'self' blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",  # the browser asks whether its copy is still right
}

_CLIENT_GONE = 499  # the status of an answer that nobody reads
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_START = "index.html"
_FAULT = "the server has a fault: its output says more"

_log = logging.getLogger(__name__)


def find_address(host: str) -> str:
    """Return the address at which a server listens that is given a host.

    Args:
        host: What the user gives: a name, or an address in any form, such as 127.1.

    Raises:
        UserError: There is no such host.
    """
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        if isinstance(error, UnicodeError):  # as 127.0.0..1
            reason = "no host can have this name"
        else:
            reason = error.strerror or str(error)
        raise UserError(
            f"nothing can listen at {host} ({reason}): give another with --host"
        ) from None


def is_local(address: str) -> bool:
    """Tell whether no other machine reaches a server that listens at this address."""
    return ipaddress.ip_address(address).is_loopback


def hosts_for(address: str) -> Sequence[str]:
    """Return the host names that requests may address where a server listens at an address.

    Other machines know this one under names that are not known here, so that a server that they
    can reach allows all names.
    """
    if not is_local(address):
        return ("*",)
    return tuple(dict.fromkeys([*LOCAL_HOSTS, _url_host(address)]))


def _url_host(address: str) -> str:
    """Return an address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address


def make_app(
    page: Sequence[str],
    model: WebModel | None = None,
    routers: Sequence[APIRouter] = (),
    *,
    hosts: Sequence[str] = LOCAL_HOSTS,
) -> FastAPI:
    """Make the application.

    Args:
        page: The files and folders of the page that it serves, such as `site.LIVE_PAGE`. Where
            index.html is none of them, the page is in the first folder, and / leads to it.
        model: The network that the page runs; None for an application that serves none.
        routers: What else it answers. A router's paths come before those of the page's files.
        hosts: The host names that requests may address, without a port; "*" allows all. Others
            are refused, so that no other site reaches the application under a name of its own.
    """
    app = FastAPI(
        title="MCC-Caffe",
        version=mcc_caffe.__version__,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
    )

    @app.middleware("http")
    async def guard(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = _refusal(request, hosts)
        if response is None:
            try:
                response = await call_next(request)
            except UserError as error:  # such as of weights that are not finite
                _log.error("%s", error)
                response = JSONResponse({"detail": str(error)}, 500)
            except ClientDisconnect:  # while it sent a body
                response = Response(status_code=_CLIENT_GONE)
            except Exception:
                _log.exception("%s %s", request.method, request.url.path)
                response = JSONResponse({"detail": _FAULT}, 500)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    if model is not None:
        app.include_router(_model_router(model))
    for router in routers:
        app.include_router(router)
        _refuse_other_methods(app, router)
    if _START not in page:

        @app.get("/", include_in_schema=False)
        def start() -> Response:
            return RedirectResponse(f"/{page[0]}/")

    app.mount("/", _PageFiles(page))
    app.add_middleware(_HeadAsGet)
    return app


class _HeadAsGet:
    """Lets HEAD be answered wherever GET is; the server sends the answer without its body."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn's own scope stays HEAD
        await self._app(scope, receive, send)


def _refuse_other_methods(app: FastAPI, router: APIRouter) -> None:
    """Answer what a router's paths do not take with 405; else the page's files would, with 404."""
    methods_by_path: defaultdict[str, set[str]] = defaultdict(set)
    for route in router.routes:
        if isinstance(route, APIRoute):
            methods = route.methods or set()
            methods_by_path[route.path].update(methods, ["HEAD"] if "GET" in methods else [])
    for path, methods in methods_by_path.items():
        others = _OtherMethods(", ".join(sorted(methods)))
        app.router.routes.append(Route(path, others, include_in_schema=False))


class _OtherMethods:
    """Answers requests of any method with 405.

    It is an application, as a route to a function has to list its methods.
    """

    def __init__(self, allowed: str):
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        message = f"{request.url.path} takes no {request.method}: send {self._allowed}"
        answer = JSONResponse({"detail": message}, 405, {"Allow": self._allowed})
        await answer(scope, receive, send)


class _PageFiles(StaticFiles):
    """The files of one page; those of the other pages are not found."""

    def __init__(self, page: Sequence[str]):
        super().__init__(directory=STATIC, html=True)
        self._page = page

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Find a file or folder by its path below `STATIC`; see Starlette."""
        is_other = path != "." and PurePath(path).parts[0] not in self._page
        return ("", None) if is_other else super().lookup_path(path)


def _refusal(request: Request, hosts: Sequence[str]) -> Response | None:
    """Return the answer to a request that is refused; None for others.

    Refused are requests under another host name, and those by which another site's page would
    change something.
    """
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if "*" not in hosts and re.sub(r":\d+$", "", host).lower() not in hosts:
        names = " or ".join(hosts)
        return JSONResponse({"detail": f"the host {host} is not known here: ask {names}"}, 400)
    is_foreign = origin is not None and origin.partition("://")[2] != host
    if is_foreign and request.method not in _SAFE_METHODS:
        message = f"the origin {origin} is another site: send the request from a page of {host}"
        return JSONResponse({"detail": message}, 403)
    return None


def _model_router(model: WebModel) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    headers = {"ETag": f'"{hashlib.sha256(model.onnx).hexdigest()}"'}

    @router.get(f"/{MODEL_FILE}")
    def onnx_model(request: Request) -> Response:
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(model.onnx, media_type="application/octet-stream", headers=headers)

    @router.get(f"/{MODEL_DESCRIPTION_FILE}")
    def model_description() -> Response:
        return Response(model.description_json(), media_type="application/json")

    return router


def serve(app: FastAPI, address: str, port: int, path: str = "/") -> None:
    """Serve an application until Ctrl-C.

    Args:
        app: The application.
        address: The address to listen at, as `find_address` returns it.
        port: The port; 0 for any that is free.
        path: Where its page is, for the address that is printed.

    Raises:
        UserError: Nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, port), family=family)
    except OSError as error:
        # Python's own text has the address once more.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UserError(
            f"nothing can listen at {address}, port {port} ({reason}): "
            "give another with --port or --host"
        ) from None
    with listener:
        print(f"http://{_url_host(address)}:{listener.getsockname()[1]}{path}", flush=True)
        _log.info("Ctrl-C ends it")
        BoundedServer(app).run(sockets=[listener])
