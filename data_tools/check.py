"""Checks a data set before anyone trains on it.

    python -m data_tools.check data/synth                       # a source in any format that data_tools.readers reads
    python -m data_tools.check data/lmdb --out out/check        # LMDB sets: one, or a folder that holds several

Counts, sizes, masks and missing keypoints of every split go to the terminal, with all that is wrong: faults, which teach
the net something false or stop its training, and warnings, which a person should look at. DIR/report.json holds the
same, whole; DIR/suspects.png shows the samples that anything was found with.

Exit codes: 0 no fault (warnings there may be), 2 the set cannot be opened, 3 faults were found.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib

import cv2
import numpy as np

from data_tools import sets
from data_tools.faults import FAULTS, WARNINGS, Seen, compare, look
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.files import write_whole
from mcc_caffe.core.hand import FINGERS, NAMES
from mcc_caffe.data import sheet
from mcc_caffe.paper import KEYPOINTS

REPORT, SUSPECTS = "report.json", "suspects.png"
FAULTY = 3  # exit code
LISTED = 10  # findings of a kind that the terminal shows
DRAWN = 200  # suspects on the sheets
CAPTION_LINES = 5


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "set",
        type=pathlib.Path,
        metavar="SET",
        help="source in any format that data_tools.readers reads, LMDB set, or folder of LMDB sets",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("out/check"),
        metavar="DIR",
        help=f"folder for {REPORT} and {SUSPECTS} (default: out/check)",
    )
    return parser.parse_args(argv)


def look_at_all(splits: dict) -> dict:
    """{split: [Seen]} of {split: entries}, by one thread a core: decoding and hashing need no interpreter."""
    cv2.setNumThreads(1)
    entries = [entry for found in splits.values() for entry in found]
    pool = concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        seen = iter(list(progress_bar(pool.map(look, entries), total=len(entries), unit="img")))
    finally:
        pool.shutdown(cancel_futures=True)
    return {split: [next(seen) for _ in found] for split, found in splits.items()}


def statistics(seen: list) -> dict:
    """Counts, sizes, mask shares and missing keypoints of one split."""
    usable = [one for one in seen if one.size is not None]
    facts = {"samples": len(seen), "usable": len(usable)}
    if not usable:
        return facts
    width, height = np.array([one.size for one in usable]).T
    shares = [one.mask_share for one in usable if one.mask_share is not None]
    missing = np.array([one.keypoints[:, 2] == 0 for one in usable])
    images = np.bincount(missing.sum(axis=1), minlength=KEYPOINTS + 1)
    return facts | {
        "width": _spread(width),
        "height": _spread(height),
        "aspect_ratio": _spread(width / height),
        "without_mask": len(usable) - len(shares),
        "mask_share": _spread(shares) if shares else None,
        "missing_share": {
            name: round(float(share), 4) for name, share in zip(NAMES, missing.mean(axis=0))
        },
        "images_by_missing": {
            str(count): int(number) for count, number in enumerate(images) if number
        },
    }


def _spread(values) -> dict:
    return {
        name: round(float(measure(values)), 4)
        for name, measure in (("min", np.min), ("median", np.median), ("max", np.max))
    }


def report(folder: pathlib.Path, splits: dict) -> dict:
    """What report.json says of {split: [Seen]}."""
    findings = [
        {
            "split": split,
            "sample": one.entry.where,
            "kind": found.kind,
            "fault": found.kind in FAULTS,
            "message": found.message,
        }
        for split, seen in splits.items()
        for one in seen
        for found in one.findings
    ]
    faults = sum(found["fault"] for found in findings)
    return {
        "set": str(folder),
        "faults": faults,
        "warnings": len(findings) - faults,
        "splits": {split: statistics(seen) for split, seen in splits.items()},
        "findings": findings,
        "kinds": {"faults": FAULTS, "warnings": WARNINGS},
    }


def as_text(facts: dict) -> str:
    """The report for the terminal, with the first findings of each kind."""
    lines = []
    for split, numbers in facts["splits"].items():
        lines.append(f"{split}: {numbers['samples']} samples, {numbers['usable']} of them usable")
        lines += [f"  {line}" for line in _statistics_lines(numbers)] if numbers["usable"] else []
    for title, kinds in (("FAULT", FAULTS), ("warning", WARNINGS)):
        for kind, meaning in kinds.items():
            found = [one for one in facts["findings"] if one["kind"] == kind]
            if found:
                lines += ["", f"{title} {kind}, {len(found)} x: {meaning}"]
                lines += [f"  {one['sample']}: {one['message']}" for one in found[:LISTED]]
                lines += [f"  and {len(found) - LISTED} more"] if len(found) > LISTED else []
    return "\n".join(lines)


def _statistics_lines(numbers: dict) -> list:
    def spread(name: str, factor: int = 1, digits: int = 0) -> str:
        low, middle, high = (factor * numbers[name][key] for key in ("min", "median", "max"))
        return f"{low:.{digits}f} to {high:.{digits}f}, median {middle:.{digits}f}"

    share = numbers["missing_share"]
    fingers = [
        f"{finger} {' '.join(f'{share[name]:.0%}' for name in NAMES if name.startswith(finger))}"
        for finger in FINGERS
    ]
    masks = f"{spread('mask_share', 100, 1)} % of the picture" if numbers["mask_share"] else "none"
    return [
        f"width     {spread('width')}",
        f"height    {spread('height')}",
        f"w / h     {spread('aspect_ratio', digits=2)}",
        f"mask      {masks}; {numbers['without_mask']} samples without mask",
        f"missing   keypoints: images  {', '.join(f'{count}: {images}' for count, images in numbers['images_by_missing'].items())}",
        f"          share by keypoint  wrist {share['wrist']:.0%}; {'; '.join(fingers)}",
    ]


def draw_suspects(splits: dict, out: pathlib.Path) -> list:
    """Draws the samples with findings, those with faults first, with what was found; returns the sheets' paths."""
    for old in (out / SUSPECTS, *out.glob("suspects-[0-9].png")):
        old.unlink(missing_ok=True)
    suspects = [one for seen in splits.values() for one in seen if one.findings]
    suspects.sort(key=lambda one: not any(found.kind in FAULTS for found in one.findings))
    tiles = [suspect_tile(one) for one in suspects[:DRAWN]]
    return sheet.write_pages(tiles, out / SUSPECTS) if tiles else []


def suspect_tile(seen: Seen) -> np.ndarray:
    """One suspect with its findings written under it; grey where it cannot be drawn."""
    tile = sheet.empty_tile() if seen.size is None else sheet.sample_tile(seen.entry.sample())
    texts = [
        f"{'FAULT' if found.kind in FAULTS else 'warning'} {found.kind}: {found.message}"
        for found in seen.findings
    ]
    return sheet.captioned(tile, seen.entry.where, *texts, lines=CAPTION_LINES)


def main(argv=None) -> int:
    options = arguments(argv)
    splits = look_at_all(sets.open_sets(options.set))
    compare(splits)
    facts = report(options.set, splits)
    options.out.mkdir(parents=True, exist_ok=True)
    paths = [options.out / REPORT, *draw_suspects(splits, options.out)]
    write_whole(paths[0], (json.dumps(facts, indent=1) + "\n").encode())
    print(as_text(facts))
    print(f"\n{facts['faults']} faults, {facts['warnings']} warnings: {', '.join(map(str, paths))}")
    return FAULTY if facts["faults"] else 0


if __name__ == "__main__":
    run_command(main)
