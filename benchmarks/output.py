"""What several benchmarks do alike: name the machine, take --out, and write their results there."""

import argparse
import json
import os
import pathlib
import platform
import time
from typing import Any


def markdown_table(columns: list, lines: list) -> str:
    """Return a Markdown table, without a line break at its end."""
    ruler = ["---"] * len(columns)
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (columns, ruler, *lines))


def describe_machine(*facts: str) -> str:
    """Return one line about the machine and today, with further facts before the date."""
    cores = f"{len(os.sched_getaffinity(0))} cores"
    python = f"Python {platform.python_version()}"
    return ", ".join([cores, platform.machine(), python, *facts, time.strftime("%Y-%m-%d")])


def add_out_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --out, the folder that results are written to."""
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path(default),
        metavar="FOLDER",
        help="(default: %(default)s)",
    )


def write_results(out: pathlib.Path, name: str, text: str, content: dict[str, Any]) -> None:
    """Print `text`, and write it as NAME.md and `content` as NAME.json to the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text)
    (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(text)
