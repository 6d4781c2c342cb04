"""The interface of a reader: what it has to provide, and what it may rely on.

A reader is a module of this package that understands one data set's files. It provides the three
names of `Reader` at its top level and a subclass of `Entry`. `cmu.py` is the shortest
complete example; docs/data.md, "Add a reader", lists the steps.

A reader may rely on this:

- `find_splits` gets a path that exists: a folder, or a single JSON file.
- `read_entries` gets a split that `find_splits` returned for the same path.
- An entry's `sample()` may run in any process or thread, in any order and more than once. Entries
  are therefore immutable and can be pickled.
- The functions of `shared.py` and of `mcc_caffe/core/keypoint_labels.py` turn file contents into
  what a `Sample` needs. They already raise the right error.

A reader has to keep to this:

- Reading the entries reads the label files only. Images and masks are read in `sample()`, so that
  listing a data set of a million images stays quick.
- A fault of the whole data set, such as a damaged label file, raises UserError. A fault of one
  sample raises SampleError from `sample()`, so that the other samples stay usable. Both messages
  begin with the file and the record.
- Keypoints have the order of `mcc_caffe.core.hand.NAMES`. A missing keypoint is (-1, -1, 0).
  They refer to the pixels as they are stored, whatever an EXIF orientation says, unless the user
  says otherwise: `Entry.read_image_bytes` sees to that.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data_tools.readers.shared import check_sha256, read_named_file, turn_upright
from mcc_caffe.data.samples import Sample


@dataclass(frozen=True, kw_only=True)
class Entry(abc.ABC):
    """One labelled hand of a data set. It is light: its files are only read by `sample()`.

    Attributes:
        upright: Whether the labels refer to the image turned as its EXIF orientation says; else to
            the pixels as they are stored.
    """

    upright: bool = False

    @property
    @abc.abstractmethod
    def location(self) -> str:
        """The file and the record of the label, which begin every message about this entry."""

    @property
    def group(self) -> str:
        """A name that entries share which show one image, or one hand in several versions.

        `--split N/M` puts them into the same set.
        """
        return self.location

    def read_image_bytes(
        self, folder: Path, name: str, *, roots: Sequence[Path] = (), sha256: Any = None
    ) -> bytes:
        """Read the image that the label names, turned upright where `upright` says so.

        Args:
            folder: The folder that the name starts from.
            name: What the label says.
            roots: Other folders below which the file may lie.
            sha256: That of the image that was labelled, as the labels give it; None where they give
                none.

        Raises:
            SampleError: The file cannot be read, lies elsewhere, or is another image.
        """
        content = read_named_file(folder, name, self.location, roots=roots)
        if sha256 is not None:
            check_sha256(content, sha256, self.location, name)
        return turn_upright(content, self.location) if self.upright else content

    @abc.abstractmethod
    def sample(self) -> Sample:
        """Read the files that the entry names.

        Returns:
            The image, the mask (or None) and the keypoints of one hand.

        Raises:
            SampleError: A file or the label is wrong; the message begins with `location`.
        """


class Reader(Protocol):
    """What a reader's module provides."""

    LAYOUT: str
    """What the data set's folder holds, in a few words, for messages."""

    def find_splits(self, root: Path, /) -> list[str]:
        """Return the names of the splits below `root`.

        Args:
            root: Folder or JSON file that exists.

        Returns:
            The splits' names in the data set's own words. An empty list says that `root` is not
            of this format, so the check has to be specific and quick.
        """

    def read_entries(self, root: Path, split: str, /) -> Sequence[Entry]:
        """Read the labels of one split.

        Args:
            root: The path that `find_splits` got.
            split: One of the names that `find_splits` returned.

        Returns:
            The split's entries, at least one, in an order that is the same every time.

        Raises:
            UserError: The labels cannot be read at all, or there are none.
        """
