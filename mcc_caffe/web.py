"""Shows the hand in front of a camera, in a picture or in a clip, live in the browser.

    python -m mcc_caffe.web                    # the page, at http://127.0.0.1:8000/
    python -m mcc_caffe.web --export site      # the same page as a folder for any web server

The browser runs the network itself. No picture leaves the machine.
"""

import argparse
import pathlib
from collections.abc import Sequence

from mcc_caffe.caffe_io.snapshots import default_weights
from mcc_caffe.core.commands import command_parser, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.paper import VARIANTS
from mcc_caffe.serving.model import make_web_model
from mcc_caffe.serving.site import export_site

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = command_parser(__doc__)
    _add_address(parser, DEFAULT_HOST, DEFAULT_PORT)
    add = parser.add_argument
    add(
        "--weights",
        type=pathlib.Path,
        metavar="FILE",
        help="caffemodel or packed weights (default: as mcc_caffe.infer)",
    )
    add("--variant", choices=VARIANTS, default="mini", help="size of the network (default: mini)")
    add("--export", type=pathlib.Path, metavar="SITE", help="folder to write the page to")
    return parser.parse_args(argv)


def _add_address(
    parser: argparse.ArgumentParser, default_host: str, default_port: int | str
) -> None:
    """Add the options that say where to listen.

    A parser of a page gives argparse.SUPPRESS for both defaults: then what stands before the
    page's name on the command line counts as well.
    """
    parser.add_argument(
        "--host",
        default=default_host,
        help=f"address to listen at; others than the default let other machines in "
        f"(default: {DEFAULT_HOST})",
    )
    parser.add_argument(
        "--port",
        type=port_number,
        default=default_port,
        help=f"port to listen at; 0 for any that is free (default: {DEFAULT_PORT})",
    )


def port_number(text: str) -> int:
    """Parse an option that is a port; an argparse `type`."""
    number = int(text)
    if not 0 <= number < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**16 - 1}")
    return number


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page, or export it."""
    options = parse_arguments(argv)
    weights = options.weights or default_weights(options.variant)
    model = make_web_model(weights, options.variant)
    if options.export:
        size = export_site(model, options.export)
        print(f"{options.export}: {size / 2**20:.1f} MiB, with {weights}")
        return
    try:
        from mcc_caffe.serving.app import LOCAL_HOSTS, make_app, serve  # needs the extra
    except ImportError as error:
        raise UserError(
            f"the web server cannot be imported ({error}): `pip install 'mcc-caffe[web]'`, "
            "or `make setup` in a checkout"
        ) from error
    hosts = LOCAL_HOSTS if options.host in LOCAL_HOSTS else ("*",)
    serve(make_app(model, hosts=hosts), options.host, options.port)


if __name__ == "__main__":
    run_command(main)
