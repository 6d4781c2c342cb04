"""A Sample (one image, its hand mask, its 21 keypoints) and its record in LMDB.

A set is a folder of two LMDBs that share their keys, `images` and `annotations`, each record a Caffe `Datum`:

- images: `encoded`, `data` = the image file's bytes as they were on disk (a PNG where the sample is a part of one), `label` =
  the sample's place in the set;
- annotations: `encoded`, `data` = the hand mask as PNG ({0, 255}, best of one bit a pixel; empty where the set has none),
  `float_data` = 21 x (x, y, v), `label` as above;

and `info.json`, which says how the set was made.
"""

import importlib
import io
import json
import os
import pathlib
import shutil
import weakref
from dataclasses import dataclass

import cv2
import lmdb
import numpy as np
import PIL.Image

from mcc_caffe.caffe_io.protobuf import DecodeError, messages
from mcc_caffe.core.errors import UserError
from mcc_caffe.paper import KEYPOINTS

IMAGES, ANNOTATIONS, INFO = "images", "annotations", "info.json"
LIVE = (
    "synth:"  # a source that begins so is no folder: its samples are rendered as they are asked for
)

# What opens a source that is no folder, by how the source begins: "module:callable", imported when
# it is first used. So this room needs no data tools, nor training on a folder OpenGL and the mesh.
SOURCES = {LIVE: "data_tools.hands.live:LiveHands"}
MIXED = "mix:"  # a source that begins so is a mixture of others, `mix:A*0.5+B*0.3+C*0.2`

_FIRST_MAP = 64 << 20  # bytes an LMDB starts with; doubled whenever it is full
_TRANSACTION = 100  # samples written at a time
_READ = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class SampleError(UserError):
    """A sample that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Sample:
    """One labelled picture.

    key: name, unique in its set. image_bytes: the encoded image file. mask_png: PNG of the hand mask, the image's size,
    {0, 255}, or None. keypoints: (21, 3) float32 of x, y in image pixels and v in {0, 1}; missing is (-1, -1, 0).
    """

    key: str
    image_bytes: bytes
    mask_png: bytes | None
    keypoints: np.ndarray

    def image(self, reduced: int = 1) -> np.ndarray:
        """HxWx3 uint8 BGR; an EXIF orientation is ignored, as OneHand10K's labels ignore it.

        reduced: 2, 4 or 8 decode a JPEG (see jpeg_size) at that part of its size, rounded up, which costs less.
        """
        return self._decoded(
            self.image_bytes, "image", _READ[reduced] | cv2.IMREAD_IGNORE_ORIENTATION
        )

    def jpeg_size(self) -> tuple | None:
        """(width, height) of a JPEG by its header; None for other formats, which only decoding tells."""
        try:
            return PIL.Image.open(io.BytesIO(self.image_bytes), formats=("JPEG",)).size
        except (OSError, PIL.Image.DecompressionBombError):
            return None

    def mask(self) -> np.ndarray | None:
        """HxW uint8 of {0, 1}, or None where the sample has no mask."""
        if self.mask_png is None:
            return None
        return (self._decoded(self.mask_png, "mask", cv2.IMREAD_GRAYSCALE) >= 128).view(np.uint8)

    def _decoded(self, data: bytes, what: str, flags: int) -> np.ndarray:
        try:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
        except cv2.error:
            picture = None
        if picture is None:
            raise SampleError(f"{self.key}: the {what} ({len(data)} bytes) cannot be decoded")
        return picture

    def to_datums(self, label: int) -> tuple:
        """The sample's two serialised `Datum`s, (image, annotation)."""
        image = messages().Datum(data=self.image_bytes, encoded=True, label=label)
        annotation = messages().Datum(data=self.mask_png or b"", encoded=True, label=label)
        annotation.float_data.extend(np.asarray(self.keypoints, np.float32).ravel().tolist())
        return image.SerializeToString(), annotation.SerializeToString()

    @staticmethod
    def from_datums(key: str, image: bytes, annotation: bytes) -> "Sample":
        """The sample of two serialised `Datum`s."""
        try:
            image, annotation = (
                messages().Datum.FromString(image),
                messages().Datum.FromString(annotation),
            )
        except DecodeError:
            raise SampleError(f"{key}: the record is not a Caffe Datum") from None
        if len(annotation.float_data) != KEYPOINTS * 3:
            raise SampleError(
                f"{key}: the record has {len(annotation.float_data)} keypoint numbers, {KEYPOINTS * 3} are needed"
            )
        keypoints = np.array(annotation.float_data, np.float32).reshape(KEYPOINTS, 3)
        return Sample(key, image.data, annotation.data or None, keypoints)


# LMDB forbids to open a database twice in one process: those that are in use, by path.
_OPEN = weakref.WeakValueDictionary()


class Mixture:
    """An endless mixture of sets: sample i comes from a set drawn by the sets' shares, any of its samples alike.

    What sample i is depends on i alone, so that a resumed training sees what an uninterrupted one would have seen.

    Args:
        shares: {source: share}, the shares being any positive numbers.
    """

    endless = True

    def __init__(self, shares: dict):
        self._sets = [open_set(source) for source in shares]
        self._shares = np.array(list(shares.values()), float) / sum(shares.values())

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((2, int(index)))
        chosen = self._sets[rng.choice(len(self._sets), p=self._shares)]
        return chosen[int(index) if chosen.endless else int(rng.integers(len(chosen)))]


def mixture_shares(source: str) -> dict:
    """Return {source: share} of a mixture's name; UserError where a share is no number above 0."""
    shares = {}
    for part in source.removeprefix(MIXED).split("+"):
        name, _, share = part.rpartition("*")
        try:
            shares[name] = float(share)
        except ValueError:
            shares[name] = 0.0
        if not name or not 0 < shares[name] < np.inf:
            raise UserError(
                f"{part!r} in {source!r} is no source and its share: write mix:A*0.5+B*0.5"
            )
    return shares


def open_set(source):
    """The set that `source` names: the folder of an LMDB set, or `synth:...`, which data_tools.hands.live renders endlessly, or a mixture."""
    if str(source).startswith(MIXED):
        return Mixture(mixture_shares(str(source)))
    for scheme, address in SOURCES.items():
        if str(source).startswith(scheme):
            module, _, name = address.partition(":")
            return getattr(importlib.import_module(module), name)(str(source))
    return SampleSet(source)


class SampleSet:
    """Reads the samples of an LMDB set by their place: `len(set)`, `set[i]`, `set.keys`."""

    endless = False

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self._images, self._annotations = (self._open(name) for name in (IMAGES, ANNOTATIONS))
        with self._images.begin() as transaction:
            self.keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
        if not self.keys:
            raise UserError(
                f"the set {self.folder} is empty: build it again with `python -m data_tools.build_lmdb`"
            )

    def _open(self, name: str) -> lmdb.Environment:
        path = self.folder / name
        if not (path / "data.mdb").is_file():
            raise UserError(
                f"{path / 'data.mdb'} was not found: build the set with `make lmdb` or give another folder"
            )
        known = str(path.resolve())
        database = _OPEN.get(known)
        if database is None:
            try:
                database = _OPEN[known] = lmdb.open(
                    known, readonly=True, lock=False, readahead=False
                )
            except lmdb.Error as error:
                raise UserError(
                    f"{path} is not a readable LMDB ({error}): build the set again"
                ) from None
        return database

    def info(self) -> dict:
        """What `info.json` says of the set."""
        return json.loads((self.folder / INFO).read_text())

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        key = self.keys[index]
        try:
            with self._images.begin() as images, self._annotations.begin() as annotations:
                image, annotation = images.get(key), annotations.get(key)
        except lmdb.Error as error:
            raise SampleError(f"{key.decode()}: the LMDB record cannot be read ({error})") from None
        if image is None or annotation is None:
            raise SampleError(f"{key.decode()}: the record is missing in {self.folder}")
        return Sample.from_datums(key.decode(), image, annotation)


class FolderWriter:
    """Leaves a whole `folder` or, on any error, nothing: a context manager.

    Everything is written into a temporary folder beside the target, `partial`, which takes its
    place at the end.
    """

    disk_errors = ()  # what the storage raises where the disk is full

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        if self.folder.exists():
            raise UserError(f"{self.folder} exists already: remove it or give another folder")
        self.partial = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.partial")
        self.count = 0

    def __enter__(self):
        self.partial.mkdir(parents=True)
        return self

    def _complete(self) -> None:
        """Writes what is still pending."""

    def _close(self) -> None:
        """Closes what is open."""

    def finish(self, **info) -> None:
        """Completes the folder; `info` goes into info.json."""
        if not self.count:
            raise UserError(f"no usable sample for {self.folder}: nothing was written")
        self._complete()
        info = {"format": 1, "samples": self.count, **info}
        (self.partial / INFO).write_text(json.dumps(info, indent=2) + "\n")
        self.partial.rename(self.folder)

    def __exit__(self, kind, error, trace) -> None:
        self._close()
        shutil.rmtree(self.partial, ignore_errors=True)
        if isinstance(error, self.disk_errors):
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the set {self.folder} could not be written ({reason}): is the disk full?"
            ) from None


class RecordWriter(FolderWriter):
    """Writes a folder of LMDBs that share their keys.

    The databases, one a name, grow as needed. Place i has the key `%08d_<name>`, so that LMDB's
    order is the order of writing.
    """

    disk_errors = (lmdb.Error,)

    def __init__(self, folder, names):
        super().__init__(folder)
        self._names, self._pending = names, []

    def __enter__(self):
        super().__enter__()
        self._databases = [
            lmdb.open(str(self.partial / name), map_size=_FIRST_MAP) for name in self._names
        ]
        return self

    def put(self, name: str, *records: bytes) -> None:
        """Appends one record to each database, in the order of the databases' names."""
        self._pending.append((f"{self.count:08d}_{name}".encode(), *records))
        self.count += 1
        if len(self._pending) == _TRANSACTION:
            self._flush()

    def _flush(self) -> None:
        for place, database in enumerate(self._databases, start=1):
            while True:
                try:
                    with database.begin(write=True) as transaction:
                        for record in self._pending:
                            transaction.put(record[0], record[place])
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
    """Writes a set of samples."""

    def __init__(self, folder):
        super().__init__(folder, (IMAGES, ANNOTATIONS))

    def add(self, sample: Sample) -> None:
        """Appends one sample."""
        self.put(sample.key, *sample.to_datums(self.count))
