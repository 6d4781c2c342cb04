"""Opens a data set of any kind for the commands that look at one: `{split: entries}`, an entry with `where` and `sample()`."""

import pathlib
from dataclasses import dataclass

from data_tools import readers
from mcc_caffe.caffe_io.protobuf import messages
from mcc_caffe.data.samples import ANNOTATIONS, IMAGES, Sample, SampleSet


@dataclass(frozen=True)
class Record:
    """One record of an LMDB set, read when asked."""

    samples: SampleSet
    index: int

    @property
    def where(self) -> str:
        """`train/00000042_Train_17.jpg`."""
        return f"{self.samples.folder.name}/{self.samples.keys[self.index].decode()}"

    def sample(self) -> Sample:
        """The sample; SampleError where the record cannot be read."""
        return self.samples[self.index]


def lmdb_folders(folder: pathlib.Path) -> list:
    """The LMDB sets that `folder` is or, one level down, holds; none where it is a source folder."""
    folder = folder.resolve()
    for found in ([folder], sorted(folder.glob("*/"))):
        found = [
            one
            for one in found
            if any((one / name / "data.mdb").exists() for name in (IMAGES, ANNOTATIONS))
        ]
        if found:
            return found
    return []


def open_sets(folder: pathlib.Path) -> dict:
    """{split: entries} of an LMDB set, of a folder of such sets, or of a source that `readers` knows, folder or JSON file."""
    folders = lmdb_folders(folder)
    if not folders:
        return readers.read(folder)
    messages()  # a missing Caffe is told once, here, not by every record
    sets = {one.name: SampleSet(one) for one in folders}
    return {
        name: [Record(samples, index) for index in range(len(samples))]
        for name, samples in sets.items()
    }


def reason(error: Exception, where: str) -> str:
    """What an entry's error says, without the name that it begins with: `where`, or a record's key alone."""
    text = str(error)
    for name in (where, where.rpartition("/")[2]):
        text = text.removeprefix(f"{name}: ")
    return text
