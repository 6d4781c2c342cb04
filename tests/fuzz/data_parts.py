"""Fuzzed readers of data sets and of LMDB sets."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np

from data_tools import readers
from data_tools.build_lmdb import TRAIN, VALIDATION
from data_tools.hands import truth
from data_tools.readers import onehand10k
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.data.samples import ANNOTATIONS, IMAGES, Sample, SampleSet
from tests.fuzz.mutations import (
    mutate_bytes,
    mutate_fields,
    mutate_json,
    mutate_json_line,
    mutate_lines,
    mutate_value,
)
from tests.support.hands import write_set
from tests.support.layouts import MAKERS
from tests.support.readers import drawn

Mutation = Callable[[bytes, np.random.Generator], bytes]
_LMDB_KEY_BYTES = 511  # the most that LMDB takes


class Files:
    """Whole files, of which one at a time is mutated."""

    def __init__(self, mutations: dict[Path, Mutation]):
        self.mutations = mutations
        self.contents = {path: path.read_bytes() for path in mutations}

    def mutate(self, random: np.random.Generator) -> Path:
        """Mutate one file; the others are whole."""
        for path, content in self.contents.items():
            path.write_bytes(content)
        paths = list(self.contents)
        path = paths[random.integers(len(paths))]
        path.write_bytes(self.mutations[path](self.contents[path], random))
        return path


def check_sample(sample: Sample) -> None:
    """Check what every sample of a data set must be."""
    image, mask = sample.image(), sample.mask()
    assert image.ndim == 3 and image.dtype == np.uint8
    assert mask is None or (mask.shape == image.shape[:2] and set(np.unique(mask)) <= {0, 1})
    keypoints = sample.keypoints
    assert keypoints.shape == (21, 3) and keypoints.dtype == np.float32
    assert np.isfinite(keypoints).all() and set(np.unique(keypoints[:, 2])) <= {0.0, 1.0}
    assert (keypoints[keypoints[:, 2] == 0] == (-1, -1, 0)).all()
    present = keypoints[keypoints[:, 2] == 1, :2]
    assert (present > -1).all() and (present < image.shape[1::-1]).all()
    assert len(f"00000000_{sample.key}".encode()) <= _LMDB_KEY_BYTES and "/" not in sample.key


class DataSet:
    """A data set of six hands."""

    format = ""

    def __init__(self, folder: Path):
        self.root = folder / "set"
        MAKERS[self.format](self.root, {TRAIN: drawn(4, seed=0), VALIDATION: drawn(2, seed=1)})
        self.files = Files(self.mutations())

    def mutations(self) -> dict[Path, Mutation]:
        raise NotImplementedError

    def attempt(self, random: np.random.Generator) -> list[str]:
        self.files.mutate(random)
        messages = []
        for entries in readers.read_dataset(self.root, self.format).values():
            for entry in entries:
                assert entry.group
                try:
                    check_sample(entry.sample())
                except SampleError as error:
                    messages.append(str(error))
        return messages


class Coco(DataSet):
    format = "coco"

    def mutations(self):
        return dict.fromkeys(self.root.glob("annotations/*.json"), mutate_json)


class OneHand10K(DataSet):
    format = "onehand10k"

    def mutations(self):
        labels = dict.fromkeys(self.root.glob("*/label_joint.txt"), mutate_lines(mutate_fields))
        return labels | dict.fromkeys(self.root.glob("*/mask/0.png"), mutate_bytes)


class Freihand(DataSet):
    format = "freihand"

    def mutations(self):
        labels = dict.fromkeys(self.root.glob("*.json"), mutate_json)
        return labels | dict.fromkeys(self.root.glob("*/mask/00000000.jpg"), mutate_bytes)


def mutate_pickle(content: bytes, random: np.random.Generator) -> bytes:
    """Mutate the bytes of RHD's pickle, or a value in it."""
    if random.random() < 0.5:
        return mutate_bytes(content, random)
    labels = pickle.loads(content)
    if random.random() < 0.5:  # else only whole arrays are replaced
        labels = {
            number: {name: array.tolist() for name, array in label.items()}
            for number, label in labels.items()
        }
    return pickle.dumps(mutate_value(labels, random))


class Rhd(DataSet):
    format = "rhd"

    def mutations(self):
        labels = dict.fromkeys(self.root.glob("*/*.pickle"), mutate_pickle)
        return labels | dict.fromkeys(self.root.glob("*/mask/00000.png"), mutate_bytes)


class Cmu(DataSet):
    format = "cmu"

    def mutations(self):
        return dict.fromkeys(self.root.glob("*/*.json"), mutate_json)


class Truth(DataSet):
    """A set of synthetic hands, of which any joints may be labelled."""

    format = "onehand10k"

    def mutations(self):
        lines = []
        for number, sample in enumerate(drawn(4, seed=0)):
            joints = [[float(x), float(y), "visible"] for x, y, _ in sample.keypoints]
            line = {"image": f"{number}.jpg", "width": 160, "height": 120, "joints": joints}
            lines.append(json.dumps({**line, "parameters": {}}))
        path = self.root / "Train" / truth.TRUTH
        path.write_text("\n".join(lines))
        return {path: mutate_lines(mutate_json_line)}

    def attempt(self, random):
        self.files.mutate(random)
        messages = []
        for entry in truth.read_entries(self.root, onehand10k.SPLITS[0], "all"):
            try:
                check_sample(entry.sample())
            except SampleError as error:
                messages.append(str(error))
        return messages


class LmdbFile:
    """An LMDB set of 12 hands, so large that its trees have branches."""

    def __init__(self, folder: Path):
        self.folder, self.count = folder, 0
        samples = drawn(12, seed=0)
        self.undamaged = write_set(folder / "undamaged", samples)
        # Long keys make a tree of two levels, and long records such of pages of their own.
        for name in (IMAGES, ANNOTATIONS):
            path = str(self.undamaged / name)
            with lmdb.open(path) as database, database.begin(write=True) as transaction:
                ((_, record), *_) = list(transaction.cursor())
                for number in range(60):
                    transaction.put(b"%03d" % number + b"k" * 300, record)

    def attempt(self, random: np.random.Generator) -> list[str]:
        self.count += 1  # LMDB keeps a file open as long as anything refers to it
        folder = self.folder / str(self.count)
        shutil.copytree(self.undamaged, folder)
        try:
            path = folder / (IMAGES, ANNOTATIONS)[random.integers(2)] / "data.mdb"
            if random.random() < 0.2:
                self._mutate_records(path.parent, random)
            else:
                path.write_bytes(self._mutate_pages(path.read_bytes(), random))
            samples = SampleSet(folder)
            messages = []
            for index in range(len(samples)):
                try:
                    sample = samples[index]
                    sample.image()
                    sample.mask()
                    assert sample.keypoints.shape == (21, 3)
                except SampleError as error:
                    messages.append(str(error))
            return messages
        finally:
            shutil.rmtree(folder)

    def _mutate_pages(self, content: bytes, random: np.random.Generator) -> bytes:
        """Mutate the file anywhere, or the head of one page, or whole pages."""
        kind, pages = random.integers(4), len(content) // 4096
        first = 4096 * int(random.integers(pages))
        if kind == 0:
            return mutate_bytes(content, random)
        if kind == 1:  # page's header and its list of places
            head = bytearray(mutate_bytes(content[first : first + 96], random)[:96])
            return content[:first] + bytes(head) + content[first + len(head) :]
        if kind == 2:
            changed = bytearray(content)
            for _ in range(random.integers(1, 6)):
                changed[first + int(random.integers(4096))] = random.integers(256)
            return bytes(changed)
        other = 4096 * int(random.integers(pages))
        return content[:first] + content[other : other + 4096] + content[first + 4096 :]

    def _mutate_records(self, folder: Path, random: np.random.Generator) -> None:
        """Change keys and records of a database that is whole."""
        with lmdb.open(str(folder)) as database, database.begin(write=True) as transaction:
            records = list(transaction.cursor())
            for _ in range(random.integers(1, 4)):
                key, record = records[random.integers(len(records))]
                if random.random() < 0.3:
                    transaction.delete(key)
                    key = mutate_bytes(key, random)[:511] or b"k"
                transaction.put(key, mutate_bytes(record, random))


class LmdbInfo:
    """The record of how an LMDB set was made."""

    def __init__(self, folder: Path):
        self.folder = write_set(folder / "set", drawn(2, seed=0))
        self.files = Files({self.folder / "info.json": mutate_json})

    def attempt(self, random: np.random.Generator) -> list[str]:
        self.files.mutate(random)
        try:
            assert isinstance(SampleSet(self.folder).info(), dict)
        except UserError as error:
            return [str(error)]
        return []
