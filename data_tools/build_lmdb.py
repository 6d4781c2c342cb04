"""Builds the LMDB sets that training reads, from a data set in OneHand10K's layout.

    python -m data_tools.build_lmdb data/synth data/synth_lmdb                      # Train -> train, Test -> validation
    python -m data_tools.build_lmdb OneHand10K data/onehand10k --split 10000/1703   # the paper's split of all images

Every image is stored exactly as it was on disk. The samples are shuffled once, by --seed.
"""
import argparse
import os
import pathlib
import shutil

import numpy as np
from tqdm import tqdm

from data_tools import onehand10k
from mcc_caffe.errors import UserError, run_command
from mcc_caffe.paper import TRAIN_IMAGES, VALIDATION_IMAGES
from mcc_caffe.samples import SampleError, SampleWriter

TRAIN, VALIDATION = "train", "validation"


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, help="folder that holds Train and Test")
    parser.add_argument("out", type=pathlib.Path, help=f"folder to make: {TRAIN}/ and {VALIDATION}/ will stand in it")
    parser.add_argument("--split", default="original", metavar="original|paper|N/M", help="original: as the folders are; "
                        f"N/M: pool them, N samples to train, M to validate; paper: {TRAIN_IMAGES}/{VALIDATION_IMAGES} (default: original)")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle (default: 0)")
    parser.add_argument("--skip-bad", action="store_true", help="leave unusable samples out and still exit with 0")
    parser.add_argument("--overwrite", action="store_true", help="replace a set that is there already")
    return parser.parse_args(argv)


def split_entries(source, split: str, seed: int) -> dict:
    """{set name: shuffled list of entries}."""
    rng = np.random.default_rng(seed)
    if split == "original":
        sets = dict(zip((TRAIN, VALIDATION), (onehand10k.entries(source, name) for name in onehand10k.SPLITS)))
        return {name: [found[i] for i in rng.permutation(len(found))] for name, found in sets.items()}
    try:
        train, validation = (TRAIN_IMAGES, VALIDATION_IMAGES) if split == "paper" else map(int, split.split("/"))
    except ValueError:
        raise UserError(f"--split {split}: give original, paper or two numbers such as 900/100") from None
    pool = [entry for name in onehand10k.SPLITS for entry in onehand10k.entries(source, name)]
    if min(train, validation) < 1 or train + validation > len(pool):
        raise UserError(f"--split {split}: {source} has {len(pool)} labelled images, each part needs at least one")
    shuffled = [pool[i] for i in rng.permutation(len(pool))]
    return {TRAIN: shuffled[:train], VALIDATION: shuffled[train : train + validation]}


def build(sets: dict, out: pathlib.Path, skip_bad: bool, overwrite: bool, **info) -> None:
    """Writes {set name: entries} as the LMDB sets `out`/<set name>, all of them or, on an error, none."""
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists already: remove it, give another folder or pass --overwrite")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    bad = []
    try:
        for name, entries in sets.items():
            bad_here = build_set(entries, partial / name, info)
            print(f"{out / name}: {len(entries) - len(bad_here)} samples")
            bad += bad_here
        for line in bad:
            print(f"left out: {line}")
        if bad and not skip_bad:
            raise UserError(f"{len(bad)} bad samples (listed above), nothing was written: mend them or pass --skip-bad")
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def build_set(entries: list, folder: pathlib.Path, info: dict) -> list:
    """Writes one set and returns what was wrong with the samples that it had to leave out, one line each."""
    bad = []
    with SampleWriter(folder) as writer:
        for entry in tqdm(entries, desc=f"{folder.name:>10}", unit="img"):
            try:
                writer.add(entry.sample())
            except SampleError as error:
                bad.append(str(error))
        writer.finish(**info, left_out=bad)
    return bad


def main(argv=None) -> None:
    options = arguments(argv)
    sets = split_entries(options.source, options.split, options.seed)
    build(sets, options.out, options.skip_bad, options.overwrite,
          source=options.source.name, split=options.split, seed=options.seed)


if __name__ == "__main__":
    run_command(main)
