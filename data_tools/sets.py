"""Opens a data set of any kind and chooses its splits, for commands that look at its samples.

A set is a source that `data_tools.readers` reads, an LMDB set, or a folder of LMDB sets. All give
{split: entries}, where an entry has a `location` and a `sample()`.
"""

import argparse
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from data_tools import readers
from data_tools.readers.base import Entry
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.samples import ANNOTATIONS, IMAGES, Sample, SampleSet, key_text

STORED, UPRIGHT = "stored", "upright"

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Record(Entry):
    """One record of an LMDB set."""

    samples: SampleSet
    index: int

    @property
    def location(self) -> str:
        """The set and the record's key, such as `train/00000042_Train_17.jpg`."""
        return f"{self.samples.folder.name}/{key_text(self.samples.keys[self.index])}"

    def sample(self) -> Sample:
        """Read the record; SampleError where it cannot be read."""
        return dataclasses.replace(self.samples[self.index], is_crop=self.samples.is_crop)


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument `set`, which `open_sets` takes, to a command's parser."""
    parser.add_argument(
        "set",
        type=Path,
        metavar="SET",
        help="source in any format that data_tools.readers reads, LMDB set, or folder of LMDB sets",
    )


def add_orientation_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option `--orientation`, for commands that read sources, to a command's parser."""
    parser.add_argument(
        "--orientation",
        choices=(STORED, UPRIGHT),
        default=STORED,
        help="where an image has an EXIF orientation, whether a source's labels refer to the "
        "pixels as stored or to the upright image (default: stored)",
    )


def find_lmdb_folders(folder: Path) -> list[Path]:
    """Return the LMDB sets that `folder` is or that it holds one level down; [] for a source."""
    folder = Path(os.path.realpath(folder))
    for candidates in ([folder], sorted(folder.glob("*/"))):
        lmdb_folders = [
            candidate
            for candidate in candidates
            if any((candidate / name / "data.mdb").exists() for name in (IMAGES, ANNOTATIONS))
        ]
        if lmdb_folders:
            return lmdb_folders
    return []


def open_sets(folder: str | os.PathLike, *, upright: bool = False) -> dict[str, Sequence[Entry]]:
    """Open a data set of any kind.

    Args:
        folder: LMDB set, folder of LMDB sets, or a source that `data_tools.readers` reads.
        upright: As `data_tools.readers.read_dataset` takes it. The labels of an LMDB set refer to
            the pixels as stored, which are upright where it was built so.

    Returns:
        {split: its entries}; an LMDB set's split has the name of its folder.

    Raises:
        UserError: There is no data set, it cannot be opened, or `upright` is asked of an LMDB set
            that was not built so.
    """
    folder = Path(folder)
    lmdb_folders = find_lmdb_folders(folder)
    if not lmdb_folders:
        return readers.read_dataset(folder, upright=upright)
    sample_sets = {path.name: SampleSet(path) for path in lmdb_folders}
    for samples in sample_sets.values():
        if upright and samples.info().get("orientation") != UPRIGHT:
            raise UserError(
                f"--orientation {UPRIGHT}: the images of the LMDB set {samples.folder} are as "
                "they were stored: build it with that option, or leave the option out if no "
                "image has an EXIF orientation"
            )
    return {
        name: [Record(samples, index) for index in range(len(samples))]
        for name, samples in sample_sets.items()
    }


def choose_splits(data_path: Path, names: list[str], wanted: list[str] | None) -> list[str]:
    """Choose the splits to evaluate on.

    Args:
        data_path: Path of the set, for messages.
        names: Names of the set's splits.
        wanted: Names that the user gave, or None.

    Returns:
        The wanted splits, each once. Without any: the only split, or else the only one whose name
        says validation, or else the only one whose name says test.

    Raises:
        UserError: A wanted split is unknown, or none is wanted and the choice is not clear.
    """
    unknown = [name for name in wanted or () if name not in names]
    if unknown:
        raise UserError(f"--split {unknown[0]}: {data_path} has {', '.join(names)}")
    chosen = wanted or (names if len(names) == 1 else readers.held_out_splits(names))
    if not wanted and len(chosen) != 1:
        raise UserError(f"{data_path} has the splits {', '.join(names)}: choose with --split")
    return list(dict.fromkeys(chosen))


def held_out_entries(data_path: Path, *, upright: bool = False) -> list[Entry]:
    """Open the samples of a set that no training sees: of its validation or test splits.

    Args:
        data_path: As `open_sets` takes it. Of a set with a single split all samples are taken.
        upright: As `open_sets` takes it.

    Raises:
        UserError: The set cannot be opened, or none of its splits is for validation or test.
    """
    splits = open_sets(data_path, upright=upright)
    names = list(splits) if len(splits) == 1 else readers.held_out_splits(list(splits))
    if not names:
        raise UserError(
            f"{data_path} has the splits {', '.join(splits)}, none of them for validation or test: "
            "give the folder of one split"
        )
    return [entry for name in names for entry in splits[name]]


def list_key_splits(splits: Mapping[str, Sequence[Entry]]) -> list[str]:
    """Return the names with which the keys of a set's samples may begin.

    They are those of its splits, but of an LMDB set those of its source's, where it says them.

    Args:
        splits: {split: its entries}, as `open_sets` returns them.
    """
    names: dict[str, None] = {}
    for split, entries in splits.items():
        first = next(iter(entries), None)
        own = first.samples.source_splits if isinstance(first, Record) else []
        names.update(dict.fromkeys(own or [split]))
    return list(names)


def find_divided_groups(
    splits: Mapping[str, Sequence[Item]], group_of: Callable[[Item], str]
) -> Iterator[tuple[Item, Item]]:
    """Find items of one group, such as the hands of one image, that stand in several splits.

    Args:
        splits: {split: its items}.
        group_of: Returns an item's group.

    Yields:
        Each item whose group an earlier split has, and the first item of the group there.
    """
    firsts: dict[str, tuple[str, Item]] = {}
    for split, items in splits.items():
        for item in items:
            first_split, first = firsts.setdefault(group_of(item), (split, item))
            if first_split != split:
                yield item, first


def strip_location(error: Exception, location: str) -> str:
    """Return an error's text without the entry's location, or the record's key, at its start."""
    text = str(error)
    for prefix in (location, location.rpartition("/")[2]):
        text = text.removeprefix(f"{prefix}: ")
    return text
