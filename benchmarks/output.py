"""What several benchmarks do alike: name the machine, take --out, and write their results there."""

import argparse
import json
import os
import pathlib
import platform
import time
from collections.abc import Sequence
from typing import Any

from mcc_caffe.caffe_io.precision import PRECISION_VARIABLE
from mcc_caffe.core.files import write_together
from mcc_caffe.core.output_checks import check_folder, check_own_results, check_target


def describe_machine(*facts: str) -> str:
    """Return one line about the machine and today, with further facts before the date."""
    cores = f"{len(os.sched_getaffinity(0))} cores"
    python = f"Python {platform.python_version()}"
    if precision := os.environ.get(PRECISION_VARIABLE):  # the nets follow it
        facts += (f"{PRECISION_VARIABLE}={precision}",)
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


def check_output(out: pathlib.Path, name: str, *more_names: str) -> None:
    """Check, before anything is measured, that results can be written and replace no other file.

    Args:
        out: The folder.
        name: What `write_results` takes.
        more_names: Further files that are going to be written there.

    Raises:
        UserError: A file cannot be written, or one is there already that is no result.
    """
    names = [f"{name}.json", f"{name}.md", *more_names]
    check_folder(out)
    for file_name in names:
        check_target(out / file_name)
    check_own_results(out, names, own=names[0], mark='"machine": ')


def replace_non_finite(content: Any) -> Any:
    """Return JSON content in which None stands for each number that is not finite."""
    return json.loads(json.dumps(content), parse_constant=lambda constant: None)


def write_results(
    out: pathlib.Path,
    name: str,
    table: str,
    content: dict[str, Any],
    *,
    facts: Sequence[str] = (),
    note: str = "",
) -> None:
    """Print a table under a line about the machine, and write both as NAME.md, and NAME.json.

    Args:
        out: The folder.
        name: Name of the files.
        table: The table in Markdown; or several, with empty lines between them.
        content: What NAME.json holds beside the machine.
        facts: Further facts about the machine.
        note: What else the line above the table says.
    """
    machine = describe_machine(*facts)
    text = f"{'; '.join(filter(None, (machine, note)))}\n\n{table}\n"
    print(text)
    out.mkdir(parents=True, exist_ok=True)
    json_text = json.dumps(replace_non_finite({"machine": machine, **content}), indent=1)
    write_together(
        {
            out / f"{name}.json": f"{json_text}\n".encode(),
            out / f"{name}.md": text.encode(),
        }
    )
