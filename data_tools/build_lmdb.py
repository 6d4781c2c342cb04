"""Builds the LMDB sets that training reads, from a data set in any format of data_tools/readers/.

    python -m data_tools.build_lmdb OneHand10K data/lmdb                   # its own two splits
    python -m data_tools.build_lmdb data/taught data/lmdb --split 900/100  # all samples, pooled
    python -m data_tools.build_lmdb data/synth data/lmdb --joints visible  # synthetic hands only
    python -m data_tools.build_lmdb synth2 data/lmdb --split 0/3243        # only to validate on
    mpirun -np 8 python -m data_tools.build_lmdb OneHand10K data/lmdb      # 8 processes read

An image is stored exactly as it was on disk, unless the sample is only a part of it, or
--orientation upright turns it. The samples are shuffled once, by --seed. Samples without a mask
train with the mask loss switched off; info.json counts them as `without_mask`.
"""

import argparse
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_tools import readers
from data_tools.hands import truth
from data_tools.hands.hand_scene import CONVENTIONS
from data_tools.readers.base import Entry
from data_tools.readers.shared import sample_orientation
from data_tools.sets import UPRIGHT, add_orientation_argument, find_divided_groups
from mcc_caffe.core.commands import command_parser, progress_bar, run_command, seed_number
from mcc_caffe.core.errors import SampleError, UserError, shorten_list
from mcc_caffe.core.output_checks import check_not_inside
from mcc_caffe.core.ranks import Ranks, own_ranks
from mcc_caffe.core.result_folders import folder_being_written, replace_folder
from mcc_caffe.data.samples import ANNOTATIONS, IMAGES, INFO, Sample
from mcc_caffe.data.writers import SampleWriter
from mcc_caffe.paper import TRAIN_IMAGES, VALIDATION_IMAGES

TRAIN, VALIDATION = "train", "validation"
ORIGINAL, PAPER = "original", "paper"  # values of --split
SAMPLES_A_RANK = 32  # samples that a rank of an mpirun reads before rank 0 writes them
MOST_LISTED = 20  # reasons, where no sample of a set can be used
DATABASE_FILES = {"data.mdb", "lock.mdb"}  # of an LMDB
INFO_KEYS = {"format", "samples", "source", "reader", "left_out"}  # some of those of info.json
BAKED_INFO_KEYS = {"storage", "copies"}  # some of those of a baked set's

_log = logging.getLogger(__name__)


class WrittenSet(NamedTuple):
    """The outcome of writing one LMDB set.

    Attributes:
        samples: Number of samples written.
        without_mask: Number of those without a mask.
        left_out: What was wrong with each sample that was left out.
        turned_count: Number of samples whose source image has an EXIF orientation that the set
            ignores.
        outside_count: Number of keypoints that their labels put outside the source image.
    """

    samples: int
    without_mask: int
    left_out: list[str]
    turned_count: int
    outside_count: int


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "source", type=Path, help="folder of the data set, or a COCO-style .json file"
    )
    parser.add_argument(
        "out",
        type=Path,
        help=f"folder to make: {TRAIN}/ and {VALIDATION}/ will stand in it",
    )
    parser.add_argument(
        "--format",
        choices=(readers.AUTO, *readers.READERS),
        default=readers.AUTO,
        help="format of the data set (default: auto, by what lies there)",
    )
    parser.add_argument(
        "--split",
        default=ORIGINAL,
        metavar=f"{ORIGINAL}|{PAPER}|N/M",
        help="original: the set's own; paper: the same, which must have the paper's "
        f"{TRAIN_IMAGES} and {VALIDATION_IMAGES} samples; N/M: of all samples, those of its own "
        "test split too, N to train on and M to validate on, where the hands of one image, and "
        "the images of one hand, stay together (default: original)",
    )
    add_orientation_argument(parser)
    parser.add_argument(
        "--joints",
        choices=CONVENTIONS,
        help="keypoints that are labelled, of synthetic hands; paper: all but those that an object "
        "hides, visible: not those that the hand hides either, all: all in the image "
        "(default: paper)",
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="seed of the shuffle (default: 0)"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave unusable samples out instead of failing"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a set that is there already"
    )
    return parser.parse_args(argv)


def split_entries(
    splits: Mapping[str, Sequence[Entry]], split: str, seed: int
) -> dict[str, list[Entry]]:
    """Divide a data set's entries into the sets to write.

    Args:
        splits: {split of the data set: its entries}.
        split: The option --split.
        seed: The seed of the shuffle.

    Returns:
        {TRAIN or VALIDATION: shuffled entries}, without a set that would be empty. Entries of one
        group, such as both hands of an image, are in the same set where `split` has numbers.

    Raises:
        UserError: `split` is malformed, or asks for the paper's numbers where the set's own split
            has others, or for more samples than there are or than can be had without dividing a
            group.
    """
    rng = np.random.default_rng(seed)
    if split in (ORIGINAL, PAPER):
        chosen = _choose_own_sets(splits)
        if split == PAPER:
            _check_numbers_of_paper(chosen)
        return {
            name: [entries[i] for i in rng.permutation(len(entries))]
            for name, entries in chosen.items()
        }
    try:
        train, validation = map(int, split.split("/"))
    except ValueError:
        raise UserError(
            f"--split {split}: give {ORIGINAL}, {PAPER} or two numbers such as 900/100"
        ) from None
    wanted = {TRAIN: train, VALIDATION: validation}
    pool = [entry for entries in splits.values() for entry in entries]
    if min(train, validation) < 0 or not 1 <= train + validation <= len(pool):
        raise UserError(
            f"--split {split}: the set has {len(pool)} samples, "
            "take at least one and not more than there are"
        )
    sets = _divide_groups([pool[i] for i in rng.permutation(len(pool))], wanted)
    counts = {name: len(entries) for name, entries in sets.items()}
    if counts != wanted:
        raise UserError(
            f"--split {split}: the hands of one image, and the images of one hand, stay in one "
            f"set: ask for fewer, such as --split {counts[TRAIN]}/{counts[VALIDATION]}"
        )
    return {name: entries for name, entries in sets.items() if entries}


def _choose_own_sets(splits: Mapping[str, Sequence[Entry]]) -> dict[str, Sequence[Entry]]:
    """Return {TRAIN or VALIDATION: entries} of the data set's own split."""
    original = readers.choose_original_splits(splits)
    return {TRAIN: splits[original.training], VALIDATION: splits[original.validation]}


def _check_numbers_of_paper(sets: Mapping[str, Sequence[Entry]]) -> None:
    """Raise a UserError where sets have other numbers of samples than the paper's.

    The paper's validation images are fixed (section 3.3): they are OneHand10K's own Test, which a
    shuffle of all images would train on.
    """
    train, validation = len(sets[TRAIN]), len(sets[VALIDATION])
    if (train, validation) != (TRAIN_IMAGES, VALIDATION_IMAGES):
        raise UserError(
            f"--split {PAPER}: the set's own split has {train} samples to train on and "
            f"{validation} to validate on, the paper's has {TRAIN_IMAGES} and "
            f"{VALIDATION_IMAGES}: leave --split out to keep the set's own"
        )


def warn_of_unused_splits(splits: Mapping[str, Sequence[Entry]], split: str) -> None:
    """Warn where the data set has splits of which no sample comes into a set.

    Args:
        splits: {split of the data set: its entries}.
        split: The option --split; its numbers take all splits.
    """
    if split not in (ORIGINAL, PAPER):
        return
    used = readers.choose_original_splits(splits)
    unused = [f"{name} ({len(splits[name])} samples)" for name in splits if name not in used]
    if unused:
        _log.warning(
            "not used: %s; --split %s takes %s to train on and %s to validate on, --split N/M "
            "takes samples of all",
            shorten_list(unused),
            split,
            used.training,
            used.validation,
        )


def warn_of_divided_groups(sets: Mapping[str, Sequence[Entry]]) -> None:
    """Warn where hands of one image, or images of one hand, are in several sets."""
    divided = list(find_divided_groups(sets, lambda entry: entry.group))
    if divided:
        entry, first = divided[0]
        _log.warning(
            "%d samples to validate on are of an image, a hand or a film that is trained on, such "
            "as %s and %s: --split N/M keeps them in one set",
            len(divided),
            entry.location,
            first.location,
        )


def _divide_groups(entries: Sequence[Entry], counts: Mapping[str, int]) -> dict[str, list[Entry]]:
    """Fill sets with whole groups, as far as possible, in the order of the entries.

    Args:
        entries: Shuffled.
        counts: {name of a set: number of entries it shall have}.

    Returns:
        {name of a set: its entries}. A group that fits nowhere as a whole fills up one set, and
        the rest of it is left out.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    sets: dict[str, list[Entry]] = {name: [] for name in counts}
    too_large = []
    for group in groups.values():
        room = {name: count - len(sets[name]) for name, count in counts.items()}
        fitting = [name for name in counts if len(group) <= room[name]]
        if fitting:
            sets[fitting[0]] += group
        else:
            too_large.append(group)
    for group in too_large:
        # By share, so that the larger set does not leave the smaller one without samples.
        name = max(counts, key=lambda name: (counts[name] - len(sets[name])) / max(counts[name], 1))
        sets[name] += group[: counts[name] - len(sets[name])]
    return sets


def write_sets(
    sets: Mapping[str, Sequence[Entry]],
    out: Path,
    ranks: Ranks,
    *,
    skip_bad: bool,
    overwrite: bool,
    info: Mapping[str, Any],
) -> None:
    """Write LMDB sets: all of them or, on an error, none.

    All ranks of an mpirun read the samples, rank 0 writes them.

    Args:
        sets: {name of a set: its entries}.
        out: Folder in which the sets will stand.
        ranks: The processes that read.
        skip_bad: Whether to leave unusable samples out; otherwise one is an error.
        overwrite: Whether to replace `out`.
        info: What info.json of each set says of how it was made.

    Raises:
        UserError: `out` exists already, or a sample is unusable.
    """
    if ranks.rank > 0:
        for entries in sets.values():
            next(read_samples(entries, ranks), None)
        return
    _check_out(out, overwrite)
    left_out = []
    with folder_being_written(out) as partial:
        for name, entries in sets.items():
            written = write_set(entries, partial / name, ranks, info)
            masks = f", {written.without_mask} without mask" if written.without_mask else ""
            print(f"{out / name}: {written.samples} samples{masks}")
            _warn_of_labels(out / name, written)
            left_out += written.left_out
        _list_left_out(left_out)
        if left_out and not skip_bad:
            raise UserError(
                f"{len(left_out)} bad samples (listed above), nothing was written: "
                "mend them or pass --skip-bad"
            )
        _check_out(out, overwrite)  # once more: something may have been put there meanwhile
        replace_folder(partial, out)


def _list_left_out(reasons: Sequence[str]) -> None:
    """Warn of samples that are left out, with what is wrong with each."""
    for reason in reasons:
        _log.warning("left out: %s", reason)


def _check_out(out: Path, overwrite: bool) -> None:
    """Check that the sets may be written to a folder.

    Raises:
        UserError: It exists, and is not to be replaced or holds something else.
    """
    if os.path.lexists(out):
        if not overwrite:
            raise UserError(
                f"{out} exists already: remove it, give another folder or pass --overwrite"
            )
        check_replaceable(out)


def _warn_of_labels(folder: Path, written: WrittenSet) -> None:
    """Warn of labels that may not fit their images."""
    if written.turned_count:
        _log.warning(
            "%s: %d samples are of images with an EXIF orientation; their labels are taken to "
            "refer to the pixels as stored (--orientation upright says otherwise)",
            folder,
            written.turned_count,
        )
    if written.outside_count:
        _log.warning(
            "%s: %d keypoints lie outside their source images and count as missing "
            "(data_tools.check lists those more than a pixel outside)",
            folder,
            written.outside_count,
        )


def check_replaceable(folder: Path) -> None:
    """Check that a folder holds nothing but sets that this program has built.

    Raises:
        UserError: It holds something else, or is no folder.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise UserError(f"{folder} is no folder of sets: --overwrite does not replace it")
    check_not_inside(folder)
    for path in sorted(folder.iterdir()):
        if _is_baked_set(path):
            raise UserError(
                f"{path} is a baked set (make lmdb BAKE=8), which --overwrite would remove: "
                "remove it first"
            )
        if not _is_built_set(path):
            raise UserError(
                f"{path} was not built by this program: --overwrite would remove it; "
                "give another folder"
            )


def _is_built_set(folder: Path) -> bool:
    """Tell whether a folder holds what `write_set` writes, and nothing else."""
    try:
        if set(os.listdir(folder)) != {IMAGES, ANNOTATIONS, INFO}:
            return False
        database_files = {*os.listdir(folder / IMAGES), *os.listdir(folder / ANNOTATIONS)}
    except OSError:
        return False
    return database_files <= DATABASE_FILES and _info_keys(folder) >= INFO_KEYS


def _is_baked_set(folder: Path) -> bool:
    """Tell whether a folder is what data_tools.bake writes."""
    return _info_keys(folder) >= BAKED_INFO_KEYS


def _info_keys(folder: Path) -> Set[str]:
    """Return the keys of a folder's info.json; none where it is no JSON object."""
    try:
        return json.loads((folder / INFO).read_text()).keys()
    except (AttributeError, OSError, RecursionError, ValueError):
        return set()


def read_samples(entries: Sequence[Entry], ranks: Ranks) -> Iterator[Sample | SampleError]:
    """Read the entries' samples with all ranks of an mpirun.

    Yields:
        On rank 0 each entry's sample, in the entries' order, or the error of an unusable one. The
        other ranks read and yield nothing.
    """
    for first in range(0, len(entries), SAMPLES_A_RANK * ranks.size):
        chunk = entries[first : first + SAMPLES_A_RANK * ranks.size]
        by_rank = ranks.gather([_read_sample(entry) for entry in chunk[ranks.rank :: ranks.size]])
        if ranks.rank == 0:
            for index in range(len(chunk)):
                yield by_rank[index % ranks.size][index // ranks.size]


def _read_sample(entry: Entry) -> Sample | SampleError:
    """Read one sample; an error is returned, since another rank has to report it."""
    try:
        sample = entry.sample()
    except SampleError as error:
        return error
    if not isinstance(sample, Sample):
        return SampleError(
            f"{entry.location}: its reader gives {type(sample).__name__}, a Sample is needed"
        )
    return sample


def write_set(
    entries: Sequence[Entry], folder: Path, ranks: Ranks, info: Mapping[str, Any]
) -> WrittenSet:
    """Write one LMDB set; only rank 0 calls this.

    Args:
        entries: The entries of the samples, in the order of the set.
        folder: The set's folder.
        ranks: The processes that read.
        info: What info.json says of how the set was made.

    Raises:
        UserError: No sample is usable.
    """
    left_out: list[str] = []
    keys: set[str] = set()
    without_mask = cut = turned = outside = 0
    with SampleWriter(folder) as writer:
        bar = progress_bar(entries, desc=f"{folder.name:>10}", unit="img")
        for entry, sample in zip(bar, read_samples(entries, ranks)):
            if isinstance(sample, SampleError):
                left_out.append(str(sample))
            elif sample.key in keys:
                left_out.append(
                    f"{entry.location}: the set has {sample.key} already: remove this label or, "
                    "where it is of another hand, rename its image"
                )
            else:
                try:
                    writer.add(sample)
                except SampleError as error:
                    left_out.append(f"{entry.location}: {error}")
                    continue
                keys.add(sample.key)
                without_mask += sample.mask_png is None
                cut += bool(sample.is_crop)
                turned += sample_orientation(sample) > 1
                outside += len(sample.outside)
        if not keys:
            _list_left_out(left_out[:MOST_LISTED])
            raise UserError(
                f"{folder.name}: none of its {len(left_out)} samples can be used (see above), "
                "nothing was written: data_tools.check lists all faults"
            )
        writer.finish(**info, without_mask=without_mask, cut=cut, left_out=left_out)
    return WrittenSet(len(keys), without_mask, left_out, turned, outside)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options, ranks = parse_arguments(argv), own_ranks()
    format_name = readers.detect_format(options.source, options.format)
    splits = readers.read_dataset(
        options.source, format_name, upright=options.orientation == UPRIGHT
    )
    if options.joints:
        splits = {
            split: truth.read_entries(options.source, split, options.joints) for split in splits
        }
    sets = split_entries(splits, options.split, options.seed)
    if ranks.rank == 0:
        warn_of_unused_splits(splits, options.split)
        warn_of_divided_groups(sets)
    write_sets(
        sets,
        options.out,
        ranks,
        skip_bad=options.skip_bad,
        overwrite=options.overwrite,
        info={
            "source": os.path.basename(os.path.abspath(options.source)),
            "reader": format_name,
            "joints": options.joints or "as labelled",
            "split": options.split,
            "source_splits": list(splits),
            "seed": options.seed,
            "orientation": options.orientation,
        },
    )
    ranks.finish()


if __name__ == "__main__":
    run_command(main)
