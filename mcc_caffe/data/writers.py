"""Writes sets: a folder that is complete or not there at all, the LMDBs in it, and samples."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import lmdb

from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.files import write_atomically
from mcc_caffe.core.result_folders import folder_being_written
from mcc_caffe.data.mask_files import header_size
from mcc_caffe.data.samples import ANNOTATIONS, IMAGES, INFO, Sample

_FIRST_MAP_SIZE = 64 << 20  # bytes that an LMDB starts with; doubled whenever it is full
_TRANSACTION = 100  # samples written at a time

_Folder = TypeVar("_Folder", bound="FolderWriter")
_Record = TypeVar("_Record", bound="RecordWriter")


class FolderWriter:
    """A context manager that leaves a complete folder or, on any error, none.

    Everything is written into a temporary folder beside the target, which takes the target's
    place at the end.

    Attributes:
        folder: The target.
        partial: The temporary folder, which is there inside the context.
        count: The number of samples written so far.
        disk_errors: The exceptions that the storage raises where the disk is full.
    """

    disk_errors: tuple[type[Exception], ...] = ()

    def __init__(self, folder: str | Path):
        """Choose the target.

        Args:
            folder: The folder to make.

        Raises:
            UserError: The folder exists.
        """
        self.folder = Path(folder)
        self._check_absent()
        self.count = 0
        self._resources = contextlib.ExitStack()

    def __enter__(self: _Folder) -> _Folder:
        self.partial = self._resources.enter_context(folder_being_written(self.folder))
        return self

    def _check_absent(self) -> None:
        """Raise UserError where something is at the target."""
        if os.path.lexists(self.folder):
            raise UserError(f"{self.folder} exists already: remove it or give another folder")

    def _complete(self) -> None:
        """Write what is still pending."""

    def _close(self) -> None:
        """Close what is open."""

    def finish(self, **info: Any) -> None:
        """Complete the folder.

        Args:
            **info: What info.json says beside the format and the number of samples.

        Raises:
            UserError: There is no sample, or something has been put at the target meanwhile.
        """
        if not self.count:
            raise UserError(f"no usable sample for {self.folder}: nothing was written")
        self._check_absent()
        self._complete()
        info = {"format": 1, "samples": self.count, **info}
        write_atomically(self.partial / INFO, f"{json.dumps(info, indent=2)}\n".encode())
        self.partial.rename(self.folder)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        with self._resources:  # an error in it names the target
            if isinstance(error, self.disk_errors):
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"the set {self.folder} could not be written ({reason}): is the disk full?"
                ) from None
            if error is not None:
                raise error


class RecordWriter(FolderWriter):
    """Writes a folder of LMDBs that share their keys.

    The databases grow as needed. Record i has the key `%08d_<name>`, so that LMDB's order is the
    order of writing.
    """

    disk_errors = (lmdb.Error,)

    def __init__(self, folder: str | Path, names: Sequence[str]):
        """Choose the target.

        Args:
            folder: The folder to make.
            names: The databases' names.
        """
        super().__init__(folder)
        self._names = names
        self._pending: list[tuple[bytes, ...]] = []  # key, then a record for each database
        self._databases: list[lmdb.Environment] = []

    def __enter__(self: _Record) -> _Record:
        super().__enter__()
        try:
            for name in self._names:
                path = os.fsencode(self.partial / name)
                self._databases.append(lmdb.open(path, map_size=_FIRST_MAP_SIZE))
        except lmdb.Error as error:
            self.__exit__(type(error), error, error.__traceback__)  # raises what says more
            raise
        return self

    def put(self, name: str, *records: bytes) -> None:
        """Append one record to each database.

        Args:
            name: The end of the records' key.
            *records: The records, in the order of the databases' names.
        """
        self._pending.append((f"{self.count:08d}_{name}".encode(), *records))
        self.count += 1
        if len(self._pending) == _TRANSACTION:
            self._flush()

    def _flush(self) -> None:
        """Write the pending records; a database that is full grows first."""
        for position, database in enumerate(self._databases, start=1):
            while True:
                try:
                    with database.begin(write=True) as transaction:
                        for key_and_records in self._pending:
                            transaction.put(key_and_records[0], key_and_records[position])
                    break
                except lmdb.MapFullError:
                    database.set_mapsize(2 * database.info()["map_size"])
        self._pending.clear()

    def _complete(self) -> None:
        self._flush()
        for database in self._databases:
            database.sync(True)

    def _close(self) -> None:
        for database in self._databases:
            database.close()


class SampleWriter(RecordWriter):
    """Writes a set of samples, as `mcc_caffe.data.samples` describes it."""

    def __init__(self, folder: str | Path):
        """Choose the target.

        Args:
            folder: The folder to make.
        """
        super().__init__(folder, (IMAGES, ANNOTATIONS))

    def add(self, sample: Sample) -> None:
        """Append one sample.

        Raises:
            SampleError: Image, mask or keypoints have another form than a Sample's, the mask has
                another size than the image, or one has too many pixels.
        """
        sample.check_files()
        sample.check_keypoints()
        if sample.mask_png is not None:
            try:
                mask_size, image_size = map(header_size, (sample.mask_png, sample.image_bytes))
            except UserError as error:
                raise SampleError(f"{sample.key}: {error}") from None
            if mask_size and image_size:  # whose headers are understood; the loader compares all
                sample.check_mask_size(mask_size, image_size)
        self.put(sample.key, *sample.to_datums(self.count))
