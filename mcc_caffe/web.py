"""Shows the hand in front of a camera, in an image or in a clip, live in the browser.

    python -m mcc_caffe.web                    # the page, at http://127.0.0.1:8000/
    python -m mcc_caffe.web --export site      # the same page as a folder for any web server
    python -m mcc_caffe.web label photos       # a page to label the hands of a folder's images
    python -m mcc_caffe.web serve              # POST /hands for programs: an image in, JSON out

On the live page the browser runs the network itself, and no image leaves the machine. `label` and
`serve` run it here.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.caffe_io.precision import warn_of_rounding
from mcc_caffe.core.commands import (
    add_network_options,
    command_parser,
    integer,
    positive_int,
    run_command,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.inference.engines import add_engine_options
from mcc_caffe.predictor import DEFAULT_LOOKS, HandPredictor
from mcc_caffe.serving.model import make_web_model
from mcc_caffe.serving.site import LABEL_PAGE, LIVE_PAGE, PROGRAMS_PAGE, export_site

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000

_HOST_HELP = (
    "address to listen at; at any other than localhost, 127.*.*.* or ::1 other machines reach the "
    "server"
)
_LABEL_HOST_HELP = "address to listen at: localhost, 127.*.*.* or ::1; others are refused"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = command_parser(__doc__)
    _add_address(parser, _HOST_HELP)
    add_network_options(parser)
    parser.add_argument(
        "--export", type=pathlib.Path, metavar="SITE", help="folder to write the page to"
    )
    pages = parser.add_subparsers(dest="page", metavar="[PAGE]", title="other pages")
    _add_label(pages)
    _add_serve(pages)
    options = parser.parse_args(argv)
    if options.page and options.export:
        parser.error(f"--export writes the live page: it goes without {options.page}")
    return options


def _add_label(pages: Any) -> None:
    """Add the options of `label` to the pages that `add_subparsers` returned."""
    label = pages.add_parser(
        "label",
        parents=[command_parser(None, add_help=False)],  # --quiet and its like
        help="label the hands of a folder's images",
        description="Serves a page to label the hands of a folder's images. It starts from the "
        "net's answers, the least sure first. All that is written lies in FOLDER/mcc-labels; "
        "`make lmdb` reads FOLDER/mcc-labels/onehand10k and FOLDER/mcc-labels/coco.",
    )
    label.add_argument("folder", type=pathlib.Path, metavar="FOLDER", help="holds the images")
    _add_address(label, _LABEL_HOST_HELP, is_subcommand=True)
    add_network_options(label, is_subcommand=True)


def _add_serve(pages: Any) -> None:
    """Add the options of `serve` to the pages that `add_subparsers` returned."""
    serve = pages.add_parser(
        "serve",
        parents=[command_parser(None, add_help=False)],  # --quiet and its like
        help="answer programs: POST /hands",
        description="Answers programs: POST /hands takes an image and returns its hands. The page "
        "at / describes it. docs/server.md has the rest.",
    )
    _add_address(serve, _HOST_HELP, is_subcommand=True)
    add_network_options(serve, is_subcommand=True)
    add = serve.add_argument
    add_engine_options(serve)
    add(
        "--max-megabytes",
        type=positive_int,
        default=32,
        metavar="N",
        help="the largest image, in million bytes (default: %(default)s)",
    )
    add(
        "--max-requests",
        type=positive_int,
        default=16,
        metavar="N",
        help="requests at a time, the one being answered and those that wait; others are refused "
        "(default: %(default)s)",
    )


def _add_address(
    parser: argparse.ArgumentParser, host_help: str, *, is_subcommand: bool = False
) -> None:
    """Add the options that say where to listen; for `is_subcommand` see `add_network_options`."""
    parser.add_argument(
        "--host",
        default=argparse.SUPPRESS if is_subcommand else DEFAULT_HOST,
        help=f"{host_help} (default: {DEFAULT_HOST})",
    )
    parser.add_argument(
        "--port",
        type=port_number,
        default=argparse.SUPPRESS if is_subcommand else DEFAULT_PORT,
        help=f"port to listen at; 0 for any that is free (default: {DEFAULT_PORT})",
    )


def port_number(text: str) -> int:
    """Parse an option that is a port; an argparse `type`."""
    number = integer(text)
    if not 0 <= number < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**16 - 1}")
    return number


def main(argv: Sequence[str] | None = None) -> None:
    """Serve a page, or export the live one."""
    options = parse_arguments(argv)
    weights = options.weights or default_weights(options.variant)
    if options.export:
        size = export_site(make_web_model(weights, options.variant), options.export)
        print(f"{options.export}: {size / 2**20:.1f} MiB, with {weights}")
        return
    _require_server()
    serve = {"label": _serve_label_page, "serve": _serve_programs}.get(
        options.page, _serve_live_page
    )
    serve(options, weights)


def _require_server() -> None:
    """Check that the web server can be imported.

    Raises:
        UserError: The packages of the extra `web` are not there.
    """
    try:
        from mcc_caffe.serving import app  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the web server cannot be imported ({error}): `pip install '.[web]'` "
            "or `make setup` in a checkout"
        ) from error


def _serve_live_page(options: argparse.Namespace, weights: pathlib.Path) -> None:
    """Serve the page that finds the hand live."""
    from mcc_caffe.serving import app

    address = app.find_address(options.host)
    model = make_web_model(weights, options.variant)
    served = app.make_app(LIVE_PAGE, model, hosts=app.hosts_for(address))
    app.serve(served, address, options.port)


def _serve_label_page(options: argparse.Namespace, weights: pathlib.Path) -> None:
    """Serve the page to label the images of a folder.

    Raises:
        UserError: Another machine could reach it.
    """
    from mcc_caffe.serving import app, label_api, labelling, net_answers

    address = app.find_address(options.host)
    if not app.is_local(address):
        raise UserError(
            f"--host {options.host}: the labelling page is for this machine alone, since it "
            "writes files: leave --host out"
        )
    net = net_answers.open_net(weights, options.variant)
    with labelling.open_session(options.folder, net) as session:
        routers = [label_api.make_label_router(session)]
        served = app.make_app(LABEL_PAGE, routers=routers, hosts=app.hosts_for(address))
        app.serve(served, address, options.port, path="/label/")


def _serve_programs(options: argparse.Namespace, weights: pathlib.Path) -> None:
    """Answer programs, `POST /hands`."""
    from mcc_caffe.serving import app, hands_api

    def open_predictor() -> HandPredictor:
        predictor = HandPredictor(
            weights,
            options.variant,
            gpu=options.gpu,
            looks=DEFAULT_LOOKS,
            engine=options.engine,
            precision=options.precision,
        )
        warn_of_rounding(predictor.engine.precision)
        return predictor

    address = app.find_address(options.host)
    limits = hands_api.Limits(options.max_megabytes, options.max_requests)
    with hands_api.HandsService(open_predictor, limits) as service:
        routers = [hands_api.hands_router(service)]
        served = app.make_app(PROGRAMS_PAGE, routers=routers, hosts=app.hosts_for(address))
        app.serve(served, address, options.port)


if __name__ == "__main__":
    run_command(main)
