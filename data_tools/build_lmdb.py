"""Builds the LMDB sets that training reads, from a data set in any format of data_tools/readers/.

    python -m data_tools.build_lmdb data/synth data/synth_lmdb                      # Train -> train, Test -> validation
    python -m data_tools.build_lmdb OneHand10K data/onehand10k --split 10000/1703   # the paper's split of all images
    python -m data_tools.build_lmdb data/synth data/synth_visible --joints visible  # synthetic hands: see data_tools.synth
    python -m data_tools.build_lmdb hand_labels_synth/synth2 data/syn2 --split 0/3243   # to validate on only
    mpirun -np 8 python -m data_tools.build_lmdb OneHand10K data/onehand10k         # the same set, read by 8 processes

An image is stored exactly as it was on disk, unless the sample is only a part of it. The samples are shuffled once, by
--seed. Samples without a mask train with the mask loss switched off; info.json counts them as `without_mask`.
"""

import argparse
import os
import pathlib
import shutil

import numpy as np

from data_tools import readers
from data_tools.hands import truth
from data_tools.hands.hand_scene import CONVENTIONS
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.ranks import Ranks, own_ranks
from mcc_caffe.data.samples import SampleError, SampleWriter
from mcc_caffe.paper import TRAIN_IMAGES, VALIDATION_IMAGES

TRAIN, VALIDATION = "train", "validation"
CHUNK = 32  # samples that a rank of an mpirun reads before rank 0 writes them


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "source", type=pathlib.Path, help="folder of the data set, or a COCO-style .json file"
    )
    parser.add_argument(
        "out",
        type=pathlib.Path,
        help=f"folder to make: {TRAIN}/ and {VALIDATION}/ will stand in it",
    )
    parser.add_argument(
        "--format",
        choices=(readers.AUTO, *readers.FORMATS),
        default=readers.AUTO,
        help="of the data set (default: auto, by what lies there)",
    )
    parser.add_argument(
        "--split",
        default="original",
        metavar="original|paper|N/M",
        help="original: the set's own; N/M: pool "
        f"all, N samples to train, M to validate; paper: {TRAIN_IMAGES}/{VALIDATION_IMAGES} (default: original)",
    )
    parser.add_argument(
        "--joints",
        choices=CONVENTIONS,
        help="of synthetic hands: which joints are labelled; paper: all but those that "
        "an object hides, visible: not those that the hand hides either, all: all in the image (default: paper)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle (default: 0)")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave unusable samples out and still exit with 0"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a set that is there already"
    )
    return parser.parse_args(argv)


def split_entries(found: dict, split: str, seed: int) -> dict:
    """{set name: shuffled list of entries} from {split: entries}."""
    rng = np.random.default_rng(seed)
    if split == "original":
        sets = {
            name: found[own] for name, own in zip((TRAIN, VALIDATION), readers.own_split(found))
        }
        return {
            name: [entries[i] for i in rng.permutation(len(entries))]
            for name, entries in sets.items()
        }
    try:
        train, validation = (
            (TRAIN_IMAGES, VALIDATION_IMAGES) if split == "paper" else map(int, split.split("/"))
        )
    except ValueError:
        raise UserError(
            f"--split {split}: give original, paper or two numbers such as 900/100"
        ) from None
    pool = [entry for entries in found.values() for entry in entries]
    if min(train, validation) < 0 or not 1 <= train + validation <= len(pool):
        raise UserError(
            f"--split {split}: the set has {len(pool)} samples, take at least one and not more than there are"
        )
    shuffled = [pool[i] for i in rng.permutation(len(pool))]
    sets = {TRAIN: shuffled[:train], VALIDATION: shuffled[train : train + validation]}
    return {name: entries for name, entries in sets.items() if entries}


def build(
    sets: dict, out: pathlib.Path, skip_bad: bool, overwrite: bool, ranks: Ranks, **info
) -> None:
    """Writes {set name: entries} as the LMDB sets `out`/<set name>, all of them or, on an error, none. Rank 0 writes, all read."""
    if ranks.rank > 0:
        for entries in sets.values():
            next(samples_of(entries, ranks), None)
        return
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists already: remove it, give another folder or pass --overwrite")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    bad = []
    try:
        for name, entries in sets.items():
            bad_here, without_mask = build_set(entries, partial / name, ranks, info)
            print(
                f"{out / name}: {len(entries) - len(bad_here)} samples"
                + (f", {without_mask} without mask" if without_mask else "")
            )
            bad += bad_here
        for line in bad:
            print(f"left out: {line}")
        if bad and not skip_bad:
            raise UserError(
                f"{len(bad)} bad samples (listed above), nothing was written: mend them or pass --skip-bad"
            )
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def samples_of(entries: list, ranks: Ranks):
    """Yields to rank 0 the entries' samples in their order, or the SampleError of one; to the others, which only read, nothing."""
    for first in range(0, len(entries), CHUNK * ranks.size):
        chunk = entries[first : first + CHUNK * ranks.size]
        found = ranks.gather([_read(entry) for entry in chunk[ranks.rank :: ranks.size]])
        if ranks.rank == 0:
            for place in range(len(chunk)):
                yield found[place % ranks.size][place // ranks.size]


def _read(entry):
    try:
        return entry.sample()
    except SampleError as error:
        return error


def build_set(entries: list, folder: pathlib.Path, ranks: Ranks, info: dict) -> tuple:
    """Writes one set and returns (what was wrong with samples that were left out, one line each; samples without mask)."""
    bad, keys, without_mask = [], set(), 0
    with SampleWriter(folder) as writer:
        for entry, sample in zip(
            progress_bar(entries, desc=f"{folder.name:>10}", unit="img"), samples_of(entries, ranks)
        ):
            try:
                if isinstance(sample, SampleError):
                    raise sample
                if sample.key in keys:
                    raise SampleError(f"{entry.where}: the set has {sample.key} already")
                writer.add(sample)
            except SampleError as error:
                bad.append(str(error))
                continue
            keys.add(sample.key)
            without_mask += sample.mask_png is None
        writer.finish(**info, without_mask=without_mask, left_out=bad)
    return bad, without_mask


def main(argv=None) -> None:
    options, ranks = arguments(argv), own_ranks()
    name = readers.find(options.source, options.format)
    found = readers.read(options.source, name)
    if options.joints:
        found = {split: truth.entries(options.source, split, options.joints) for split in found}
    sets = split_entries(found, options.split, options.seed)
    build(
        sets,
        options.out,
        options.skip_bad,
        options.overwrite,
        ranks,
        source=options.source.name,
        reader=name,
        joints=options.joints or "as labelled",
        split=options.split,
        seed=options.seed,
    )
    ranks.finish()


if __name__ == "__main__":
    run_command(main)
