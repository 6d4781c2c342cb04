"""Checks a data set before anyone trains on it.

    python -m data_tools.check data/synth                 # a source that data_tools.readers reads
    python -m data_tools.check data/lmdb --out out/check  # an LMDB set, or a folder of several

The terminal shows the counts, sizes, masks and missing keypoints of every split, and everything
that is wrong: faults, which teach the net something false or stop its training, and warnings, which
a person should look at. DIR/report.json holds the same without cuts; DIR/suspects.png shows up to
200 samples that have a fault or a warning, those with a fault first. Where one page is not enough,
the pages are DIR/suspects-1.png and so on.

Exit codes: 0 there is no fault (there may be warnings), 2 the set cannot be opened, 3 there are
faults.
"""

import argparse
import concurrent.futures
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np

from data_tools import sets
from data_tools.faults import FAULTS, WARNINGS, CheckedSample, check_sample, find_duplicates
from data_tools.readers.base import Entry
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.files import write_together
from mcc_caffe.core.hand import FINGERS, NAMES
from mcc_caffe.core.output_checks import check_folder, check_own_results
from mcc_caffe.data import sheet
from mcc_caffe.paper import KEYPOINT_COUNT

REPORT, SUSPECTS = "report.json", "suspects.png"
EXIT_FAULTS = 3  # exit code
LISTED = 10  # findings of a kind that the terminal shows
DRAWN = 200  # suspects on the sheets
CAPTION_LINES = 5


class Spread(TypedDict):
    """How a quantity is spread over the samples of a split."""

    min: float
    median: float
    max: float


class Statistics(TypedDict, total=False):
    """The numbers of one split. Only the first two are there where no sample is usable.

    Attributes:
        samples: Number of samples.
        usable: Number of those that can be loaded.
        width: The widths of the images in pixels.
        height: The heights of the images in pixels.
        aspect_ratio: Width / height of the images.
        without_mask: Number of usable samples without a mask.
        mask_share: The share of the image that the mask covers; None where no sample has a mask.
        missing_share: {keypoint's name: share of the usable samples in which it is missing}.
        images_by_missing: {number of missing keypoints: number of samples}.
    """

    samples: int
    usable: int
    width: Spread
    height: Spread
    aspect_ratio: Spread
    without_mask: int
    mask_share: Spread | None
    missing_share: dict[str, float]
    images_by_missing: dict[str, int]


class ReportedFinding(TypedDict):
    """One fault or warning, as report.json lists it."""

    split: str
    sample: str
    kind: str
    fault: bool
    message: str


class Report(TypedDict):
    """What report.json holds; `kinds` explains every kind of fault and warning."""

    set: str
    faults: int
    warnings: int
    splits: dict[str, Statistics]
    findings: list[ReportedFinding]
    kinds: dict[str, dict[str, str]]


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    sets.add_set_argument(parser)
    sets.add_orientation_argument(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/check"),
        metavar="DIR",
        help=f"folder for {REPORT} and {SUSPECTS} (default: out/check)",
    )
    return parser.parse_args(argv)


def check_splits(splits: Mapping[str, Sequence[Entry]]) -> dict[str, list[CheckedSample]]:
    """Check all samples of {split: its entries} and compare them with each other.

    One thread for each core does it: decoding and hashing release Python's global lock.
    """
    cv2.setNumThreads(1)
    entries = [entry for split_entries in splits.values() for entry in split_entries]
    pool = concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        outcomes = pool.map(check_sample, entries)
        samples = iter(list(progress_bar(outcomes, total=len(entries), unit="img")))
    finally:
        pool.shutdown(cancel_futures=True)
    checked = {split: [next(samples) for _ in entries] for split, entries in splits.items()}
    find_duplicates(checked)
    return checked


def compute_statistics(samples: Sequence[CheckedSample]) -> Statistics:
    """Return the counts, sizes, mask shares and missing keypoints of one split."""
    usable = [sample.facts for sample in samples if sample.facts is not None]
    if not usable:
        return Statistics(samples=len(samples), usable=0)
    width, height = np.array([facts.size for facts in usable]).T
    mask_shares = [facts.mask_share for facts in usable if facts.mask_share is not None]
    missing = np.array([facts.missing for facts in usable])
    sample_counts = np.bincount(missing.sum(axis=1), minlength=KEYPOINT_COUNT + 1)
    return Statistics(
        samples=len(samples),
        usable=len(usable),
        width=_spread(width),
        height=_spread(height),
        aspect_ratio=_spread(width / height),
        without_mask=len(usable) - len(mask_shares),
        mask_share=_spread(np.array(mask_shares)) if mask_shares else None,
        missing_share={
            name: round(float(share), 4) for name, share in zip(NAMES, missing.mean(axis=0))
        },
        images_by_missing={
            str(number): int(count) for number, count in enumerate(sample_counts) if count
        },
    )


def _spread(values: np.ndarray) -> Spread:
    """Return the least, the median and the greatest value, to four digits."""
    low, middle, high = (
        round(float(measure(values)), 4) for measure in (np.min, np.median, np.max)
    )
    return Spread(min=low, median=middle, max=high)


def make_report(folder: Path, splits: Mapping[str, Sequence[CheckedSample]]) -> Report:
    """Return what report.json says of {split: its checked samples}."""
    findings = [
        ReportedFinding(
            split=split,
            sample=sample.entry.location,
            kind=finding.kind,
            fault=finding.is_fault,
            message=finding.message,
        )
        for split, samples in splits.items()
        for sample in samples
        for finding in sample.findings
    ]
    fault_count = sum(finding["fault"] for finding in findings)
    return Report(
        set=str(folder),
        faults=fault_count,
        warnings=len(findings) - fault_count,
        splits={split: compute_statistics(samples) for split, samples in splits.items()},
        findings=findings,
        kinds={"faults": FAULTS, "warnings": WARNINGS},
    )


def format_report(report: Report) -> str:
    """Return the report as text for the terminal, with the first findings of each kind."""
    lines = []
    for split, statistics in report["splits"].items():
        usable = statistics["usable"]
        lines.append(f"{split}: {statistics['samples']} samples, {usable} of them usable")
        lines += [f"  {line}" for line in _format_statistics(statistics)] if usable else []
    for title, kinds in (("FAULT", FAULTS), ("warning", WARNINGS)):
        for kind, meaning in kinds.items():
            findings = [finding for finding in report["findings"] if finding["kind"] == kind]
            if findings:
                lines += ["", f"{title} {kind}, {len(findings)} x: {meaning}"]
                lines += [f"  {item['sample']}: {item['message']}" for item in findings[:LISTED]]
            if len(findings) > LISTED:
                lines.append(f"  and {len(findings) - LISTED} more")
    return "\n".join(lines)


def _format_statistics(statistics: Statistics) -> list[str]:
    """Format the statistics of a split that has usable samples, as lines."""

    def spread(values: Spread, factor: int = 1, digits: int = 0) -> str:
        low, middle, high = (factor * values[name] for name in ("min", "median", "max"))
        return f"{low:.{digits}f} to {high:.{digits}f}, median {middle:.{digits}f}"

    shares = statistics["missing_share"]
    finger_shares = [
        f"{finger} {' '.join(f'{shares[name]:.0%}' for name in NAMES if name.startswith(finger))}"
        for finger in FINGERS
    ]
    mask_share = statistics["mask_share"]
    masks = f"{spread(mask_share, 100, 1)} % of the image" if mask_share else "none"
    sample_counts = ", ".join(
        f"{'none' if number == '0' else number} ({count})"
        for number, count in statistics["images_by_missing"].items()
    )
    return [
        f"width     {spread(statistics['width'])}",
        f"height    {spread(statistics['height'])}",
        f"w / h     {spread(statistics['aspect_ratio'], digits=2)}",
        f"mask      {masks}; {statistics['without_mask']} samples without mask",
        f"missing   keypoints (samples): {sample_counts}",
        f"          share by keypoint  wrist {shares['wrist']:.0%}; {'; '.join(finger_shares)}",
    ]


def draw_suspects(splits: Mapping[str, Sequence[CheckedSample]]) -> list[np.ndarray]:
    """Draw the samples that have findings, those with faults first.

    Args:
        splits: {split: its checked samples}.

    Returns:
        A tile a sample, at most DRAWN; none where no sample has a finding.
    """
    suspects = [sample for samples in splits.values() for sample in samples if sample.findings]
    suspects.sort(key=lambda sample: not any(finding.is_fault for finding in sample.findings))
    return [draw_suspect(sample) for sample in suspects[:DRAWN]]


def draw_suspect(sample: CheckedSample) -> np.ndarray:
    """Draw one sample with its findings written under it; grey where it cannot be drawn."""
    usable = sample.facts is not None
    tile = sheet.sample_tile(sample.entry.sample()) if usable else sheet.empty_tile()
    texts = [
        f"{'FAULT' if finding.is_fault else 'warning'} {finding.kind}: {finding.message}"
        for finding in sample.findings
    ]
    return sheet.captioned(tile, sample.entry.location, *texts, lines=CAPTION_LINES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parse_arguments(argv)
    check_folder(options.out)
    check_own_results(options.out, [REPORT], own=REPORT, mark='"findings": ')
    tile = sheet.captioned(sheet.empty_tile(), lines=CAPTION_LINES)
    sheet.check_pages(options.out / SUSPECTS, tile, DRAWN)
    splits = check_splits(sets.open_sets(options.set, upright=options.orientation == sets.UPRIGHT))
    report = make_report(options.set, splits)
    options.out.mkdir(parents=True, exist_ok=True)
    contents = {
        options.out / REPORT: (json.dumps(report, indent=1) + "\n").encode(),
        **sheet.make_page_files(draw_suspects(splits), options.out / SUSPECTS),
    }
    write_together(contents, sheet.find_pages(options.out / SUSPECTS))
    print(format_report(report))
    counts = f"{report['faults']} faults, {report['warnings']} warnings"
    print(f"\n{counts}: {', '.join(map(str, contents))}")
    return EXIT_FAULTS if report["faults"] else 0


if __name__ == "__main__":
    run_command(main)
