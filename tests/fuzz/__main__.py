"""Mutates files at random and lets each reader read them; a reader must answer or say why not.

    python -m tests.fuzz                                # 1000 mutations for each reader
    python -m tests.fuzz --count 5000 --seed 1 image video
    python -m tests.fuzz --seed 1 --only 417 coco       # one mutation again

A try is clean where the answer is possible, or where the refusal is one line. It is bad where it
ends in a traceback, an abort, an impossible answer or an unclear message, where it takes more than
a minute or more than 3 GiB. The exit status is 1 if any is bad.
"""

import argparse
import collections
import time
from collections.abc import Sequence

from mcc_caffe.core.commands import (
    command_parser,
    non_negative_int,
    positive_int,
    progress_bar,
    run_command,
    seed_number,
)
from tests.fuzz.parts import PARTS
from tests.fuzz.runner import BAD, READ, REFUSED, Outcome, run_tries


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="READER",
        help=f"some of {', '.join(PARTS)} (default: all)",
    )
    parser.add_argument(
        "--count", type=positive_int, default=1000, help="files of each kind (default: 1000)"
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="seed of the mutations (default: 0)"
    )
    parser.add_argument(
        "--only", type=non_negative_int, metavar="NUMBER", help="try this one and say how it ends"
    )
    options = parser.parse_args(argv)
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"there is no reader {part}: give some of {', '.join(PARTS)}")
    return options


def fuzz_part(part: str, seed: int, numbers: range) -> list[Outcome]:
    """Fuzz a reader, with a progress bar; return the bad ends, and print them."""
    outcomes = []
    bar = progress_bar(run_tries(part, seed, numbers), total=len(numbers), desc=part, unit="file")
    for outcome in bar:
        outcomes.append(outcome)
        if outcome.verdict == BAD:
            bar.write(f"{part}, seed {seed}, number {outcome.number}: {outcome.text}")
    return outcomes


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz the readers; print a table in Markdown."""
    options = parse_arguments(argv)
    numbers = (
        range(options.count) if options.only is None else range(options.only, options.only + 1)
    )
    bad_count = 0
    print("| reader of | tries | read | refused | bad | seconds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for part in options.parts or PARTS:
        start = time.monotonic()
        outcomes = fuzz_part(part, options.seed, numbers)
        verdicts = collections.Counter(outcome.verdict for outcome in outcomes)
        counts = " | ".join(str(verdicts[verdict]) for verdict in (READ, REFUSED, BAD))
        seconds = time.monotonic() - start
        description = PARTS[part].description
        print(f"| {description} | {len(outcomes)} | {counts} | {seconds:.0f} |", flush=True)
        bad_count += verdicts[BAD]
        if options.only is not None:
            print(outcomes[0])
    return 1 if bad_count else 0


if __name__ == "__main__":
    run_command(main)
