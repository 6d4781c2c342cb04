"""Runs one of the data tools: `python -m data_tools TOOL ...`, or `mcc-data TOOL ...`.

    synth     render synthetic hands in OneHand10K's layout
    teach     label your own photographs with a teacher
    masks     give the hands that a teacher labelled masks
    lmdb      build the LMDB sets that training reads, from any data set that can be read
    bake      augment a set once and for all, for stock Caffe
    check     look for faults in a data set
    inspect   draw samples of a data set on contact sheets

`TOOL --help` explains a tool and its options.
"""

import importlib
import sys
from collections.abc import Sequence

from mcc_caffe.core.commands import command_parser, run_command

TOOLS = {
    "synth": "data_tools.synth",
    "teach": "data_tools.teach",
    "masks": "data_tools.teach_masks",
    "lmdb": "data_tools.build_lmdb",
    "bake": "data_tools.bake",
    "check": "data_tools.check",
    "inspect": "data_tools.inspect",
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run the tool that the first argument names; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = command_parser(__doc__, prog="mcc-data", usage="%(prog)s TOOL ...")
    parser.add_argument("tool", choices=TOOLS, metavar="TOOL", help="one of the tools above")
    # The tool parses what follows its name. Options before it, such as --quiet, hold for the tool.
    position = next((i for i, text in enumerate(arguments) if not text.startswith("-")), None)
    before = arguments if position is None else arguments[: position + 1]
    # Unlike parse_args this checks no verbosity, which the tool's options may still give.
    options, unknown = parser.parse_known_args(before)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    tool = options.tool
    sys.argv[0] = f"mcc-data {tool}"  # the name in the tool's usage line
    # Only the chosen tool is imported: synth needs OpenGL and the hand mesh, bake needs Caffe.
    return importlib.import_module(TOOLS[tool]).main(arguments[len(before) :])


if __name__ == "__main__":
    run_command(main)
