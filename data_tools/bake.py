"""Bakes a training set: augments its samples once and for all, into files that stock Caffe reads.

    python -m data_tools.bake data/lmdb/train data/baked --copies 8                # for mini
    python -m data_tools.bake data/lmdb/train data/baked --copies 8 --variant paper --format hdf5
    $(python -m caffe_build --print-prefix)/bin/caffe train --solver=data/baked/solver.prototxt

The stock tool then trains without Python, from any folder. It takes exactly the samples, in the
order, that mcc_caffe.train gives the net in its first --copies epochs with the same --seed and
--batch-size on one device, and starts again when they are used up. The folder holds the samples, a
train net and a solver, another pair for each ablation, and snapshots/, where the tool writes. Nets,
solvers and the list of files name what they need by absolute paths: bake again rather than move the
folder. The samples lie in

    --format lmdb    the LMDBs data (uint8 images), mask_label (uint8) and heatmaps (float_data)
    --format hdf5    HDF5 files data_0000.h5, ... and files.txt, which lists them. Their datasets
                     are data, label (the heatmaps) and mask (its labels), float32, with the
                     names and the shapes of the authors' release

HDF5 takes nearly three times the room, and the authors' own train net reads it as it is.

With R GPUs (`--gpu=0,1`), GPU r reads the samples r, r + R, ..., batch_size of them at a time. One
iteration thus trains on what R iterations of one device would.

With --snapshot=FILE the tool resumes the net, but reads from the first sample again. Without
--weights=FILE it starts from other random weights than mcc_caffe.train; the background map's bias
starts at 0 in both variants.
"""

import abc
import argparse
import logging
import math
import mmap
import os
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from caffe_build.locate import importable_folder, prefix_of
from mcc_caffe.caffe_io.protobuf import check_utf8, messages, read_text, text_format
from mcc_caffe.caffe_io.pycaffe import require_caffe
from mcc_caffe.caffe_io.run_folder import SNAPSHOTS
from mcc_caffe.core.commands import (
    add_variant_option,
    command_parser,
    non_negative_int,
    positive_int,
    progress_bar,
    run_command,
    seed_number,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_atomically
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.data.loader import Loader
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data.samples import SampleSet
from mcc_caffe.data.writers import FolderWriter, RecordWriter
from mcc_caffe.paper import (
    ABLATIONS,
    DATA_BLOB,
    GREY,
    HEATMAPS_BLOB,
    MASK_LABEL_BLOB,
    PIXEL_SCALE,
    VARIANTS,
    file_suffix,
)

LOG_INTERVAL = 20  # iterations a log line of the stock tool, as mcc_caffe.train's
FILE_BYTES = 256 << 20  # of an HDF5 file, about: Caffe's HDF5Data layer keeps one in memory

_log = logging.getLogger(__name__)


class DataLayers(NamedTuple):
    """The layers that read a baked set.

    Attributes:
        layers: LayerParameter messages.
        names: {blob of our train nets: its name in these layers}.
    """

    layers: list[Any]
    names: dict[str, str]


class BakedSetWriter(FolderWriter, abc.ABC):
    """Writes the samples of a baked set in one storage format."""

    @staticmethod
    @abc.abstractmethod
    def sample_bytes(config: LoaderConfig) -> int:
        """Return how many bytes one sample takes on disk."""

    @abc.abstractmethod
    def add(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Append one sample.

        Args:
            key: The sample's key in the source set.
            arrays: {blob: its array for this sample}, as the loader fills them.
        """

    @abc.abstractmethod
    def make_data_layers(self, blobs: Sequence[str], batch_size: int) -> DataLayers:
        """Make the layers that read these blobs of the finished set."""


class LmdbWriter(RecordWriter, BakedSetWriter):
    """Writes one LMDB of `Datum`s for each blob, which a Data layer reads.

    Image and mask label are stored as uint8, which holds their values exactly.
    """

    def __init__(self, folder: str | Path, config: LoaderConfig):
        super().__init__(folder, tuple(config.shapes()))

    @staticmethod
    def sample_bytes(config: LoaderConfig) -> int:
        """Return how many bytes one sample takes at most.

        Each record counts as whole pages. LMDB puts several small ones into a page.
        """
        empty = {name: np.zeros(shape[1:], np.float32) for name, shape in config.shapes().items()}
        pages = sum(-(-len(record) // mmap.PAGESIZE) for record in _make_records(empty))
        return pages * mmap.PAGESIZE

    def add(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Append one sample; see `BakedSetWriter.add`."""
        self.put(key, *_make_records(arrays))

    def make_data_layers(self, blobs: Sequence[str], batch_size: int) -> DataLayers:
        """Make one Data layer for each blob."""
        layers = []
        for blob in blobs:
            layer = messages().LayerParameter(name=blob, type="Data", top=[blob])
            layer.data_param.source = str(self.folder.absolute() / blob)
            layer.data_param.backend = messages().DataParameter.LMDB
            layer.data_param.batch_size = batch_size
            if blob == DATA_BLOB:
                layer.transform_param.mean_value.append(GREY)
                layer.transform_param.scale = 1 / PIXEL_SCALE
            layers.append(layer)
        return DataLayers(layers, {blob: blob for blob in blobs})


def _make_records(arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    """Return the serialised `Datum`s of image, mask label and heatmaps of one sample."""
    image = (arrays[DATA_BLOB] * PIXEL_SCALE + GREY).astype(np.uint8)
    mask_label = arrays[MASK_LABEL_BLOB].astype(np.uint8)
    return [_serialize_datum(array) for array in (image, mask_label, arrays[HEATMAPS_BLOB])]


def _serialize_datum(array: np.ndarray) -> bytes:
    """Return a (channels, height, width) array, uint8 or float32, as a serialised `Datum`."""
    channels, height, width = array.shape
    datum = messages().Datum(channels=channels, height=height, width=width)
    if array.dtype == np.uint8:
        datum.data = array.tobytes()
    else:
        datum.float_data.extend(array.ravel().tolist())
    return datum.SerializeToString()


class Hdf5Writer(BakedSetWriter):
    """Writes HDF5 files such as the authors' release trains on, which an HDF5Data layer reads."""

    names = {DATA_BLOB: "data", HEATMAPS_BLOB: "label", MASK_LABEL_BLOB: "mask"}  # in the release
    list_file = "files.txt"
    disk_errors = (OSError,)

    def __init__(self, folder: str | Path, config: LoaderConfig):
        super().__init__(folder)
        self._capacity = max(1, FILE_BYTES // self.sample_bytes(config))  # samples in a file
        self._pending_samples = 0
        self._arrays = {
            blob: np.empty((self._capacity, *shape[1:]), np.float32)
            for blob, shape in config.shapes().items()
        }
        self._files: list[str] = []

    @staticmethod
    def sample_bytes(config: LoaderConfig) -> int:
        """Return how many bytes one sample takes, four a number."""
        return sum(4 * math.prod(shape[1:]) for shape in config.shapes().values())

    def add(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Append one sample; the release's files have no keys. See `BakedSetWriter.add`."""
        for blob, array in arrays.items():
            self._arrays[blob][self._pending_samples] = array
        self._pending_samples += 1
        self.count += 1
        if self._pending_samples == self._capacity:
            self._write_file()

    def _write_file(self) -> None:
        """Write the pending samples to the next file."""
        name = f"data_{len(self._files):04d}.h5"
        with h5py.File(self.partial / name, "w") as file:
            for blob, dataset in self.names.items():
                file[dataset] = self._arrays[blob][: self._pending_samples]
        self._files.append(str(self.folder.absolute() / name))
        self._pending_samples = 0

    def _complete(self) -> None:
        """Write what is pending, and the list of all files."""
        if self._pending_samples:
            self._write_file()
        (self.partial / self.list_file).write_text("\n".join(self._files) + "\n")

    def make_data_layers(self, blobs: Sequence[str], batch_size: int) -> DataLayers:
        """Make one HDF5Data layer for all blobs."""
        names = {blob: name for blob, name in self.names.items() if blob in blobs}
        layer = messages().LayerParameter(name=DATA_BLOB, type="HDF5Data", top=names.values())
        layer.hdf5_data_param.source = str(self.folder.absolute() / self.list_file)
        layer.hdf5_data_param.batch_size = batch_size
        return DataLayers([layer], names)


WRITERS = {"lmdb": LmdbWriter, "hdf5": Hdf5Writer}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    parser.add_argument("data", type=Path, help="LMDB set to bake (made by `make lmdb`)")
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument(
        "--copies",
        type=positive_int,
        required=True,
        metavar="K",
        help="augmented copies of each sample: the loader's first K epochs",
    )
    parser.add_argument(
        "--format", choices=WRITERS, default="lmdb", help="format of the files (default: lmdb)"
    )
    add_variant_option(parser, "size of the network to bake for")
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        help="images a device and iteration (default: the variant's)",
    )
    parser.add_argument(
        "--seed",
        type=seed_number,
        default=0,
        help="seed of weights, order and augmentation (default: 0)",
    )
    parser.add_argument(
        "--workers",
        type=non_negative_int,
        default=len(os.sched_getaffinity(0)),
        help="processes; 0: this one alone (default: one a core)",
    )
    return parser.parse_args(argv)


def require_space(folder: Path, needed: int) -> None:
    """Raise UserError where the disk of a folder to make has less than `needed` bytes free."""
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise UserError(
            f"{folder} needs about {math.ceil(needed / 2**20)} MiB and the disk has "
            f"{free >> 20} free: make room, give another folder or fewer --copies"
        )


def write_samples(writer: BakedSetWriter, config: LoaderConfig, total: int) -> None:
    """Write the loader's first `total` samples; the rest of the last batch is left out."""
    with Loader(config) as loader, progress_bar(total=total, unit="img") as bar:
        while writer.count < total:
            arrays, keys = loader.next_batch()
            wanted_keys = keys[: total - writer.count]
            for index, key in enumerate(wanted_keys):
                writer.add(key, {blob: array[index] for blob, array in arrays.items()})
            bar.update(len(wanted_keys))


def replace_data_layer(net: Any, writer: BakedSetWriter, batch_size: int) -> None:
    """Replace the Python layer of a train net by the layers that read a baked set.

    Without a pose stage the net's Silence layer, which takes the heatmaps, goes as well.

    Args:
        net: NetParameter message, which is changed.
        writer: The writer of the baked set.
        batch_size: Images of an iteration.
    """
    network = [layer for layer in net.layer if layer.type not in ("Python", "Silence")]
    used_blobs = {bottom for layer in network for bottom in layer.bottom}
    blobs = [blob for blob in net.layer[0].top if blob in used_blobs]
    data = writer.make_data_layers(blobs, batch_size)
    for layer in network:
        layer.bottom[:] = [data.names.get(bottom, bottom) for bottom in layer.bottom]
    del net.layer[:]
    net.layer.extend(data.layers + network)


def write_prototxts(writer: BakedSetWriter, variant: str, batch_size: int, seed: int) -> None:
    """Write train nets and solvers, of the whole network and of its ablations, into a baked set.

    They name the files by the paths that these have once the writer has finished.

    Args:
        writer: The writer of the baked set.
        variant: Name of the network's size, a key of VARIANTS.
        batch_size: Images of an iteration.
        seed: The seed of the initial weights.
    """
    folder = writer.folder.absolute()
    (writer.partial / SNAPSHOTS).mkdir()
    for suffix in map(file_suffix, (None, *ABLATIONS)):
        net = read_text(
            "NetParameter", require_shipped(f"prototxt/{variant}/train{suffix}.prototxt")
        )
        replace_data_layer(net, writer, batch_size)
        solver = read_text(
            "SolverParameter", require_shipped(f"solver/{variant}/solver{suffix}.prototxt")
        )
        solver.net = str(folder / f"train{suffix}.prototxt")
        solver.snapshot_prefix = str(folder / SNAPSHOTS / f"mcc{suffix}")
        solver.random_seed, solver.display = seed, LOG_INTERVAL
        for name, message in (("train", net), ("solver", solver)):
            path = writer.partial / f"{name}{suffix}.prototxt"
            write_atomically(path, text_format.MessageToString(message).encode())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    require_caffe("baking for `caffe train`")
    check_utf8(options.out)
    if options.format == "hdf5" and any(map(str.isspace, str(options.out.absolute()))):
        raise UserError(
            f"{options.out.absolute()} has a space in it, at which Caffe would cut it in the list "
            "of HDF5 files: give another folder, or --format lmdb"
        )
    # What is half-written is removed on Ctrl-C even where a shell had it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    variant = VARIANTS[options.variant]
    config = LoaderConfig.of(
        variant,
        str(options.data),
        batch_size=options.batch_size or variant.batch_size,
        seed=options.seed,
        workers=options.workers,
    )
    sample_count = len(SampleSet(options.data))
    total = options.copies * sample_count
    writer: BakedSetWriter = WRITERS[options.format](options.out, config)
    needed = total * writer.sample_bytes(config)
    require_space(options.out, needed)
    _log.info(
        "%s: %d x %d samples, about %d MiB",
        options.out,
        options.copies,
        sample_count,
        math.ceil(needed / 2**20),
    )
    with writer:
        write_samples(writer, config, total)
        write_prototxts(writer, variant.name, config.batch_size, config.seed)
        writer.finish(
            source=str(options.data),
            storage=options.format,
            copies=options.copies,
            variant=variant.name,
            batch_size=config.batch_size,
            seed=config.seed,
            input_size=config.input_size,
            sigma=config.sigma,
        )
    solver = options.out.absolute() / "solver.prototxt"
    print("train on it with:", shlex.join([_stock_tool(), "train", f"--solver={solver}"]))


def _stock_tool() -> str:
    """Return the path of Caffe's own program, or its name where this Caffe has none."""
    folder = importable_folder()
    assert folder is not None  # require_caffe has found it
    tool = prefix_of(folder) / "bin/caffe"
    return str(tool) if tool.is_file() else "caffe"


if __name__ == "__main__":
    run_command(main)
