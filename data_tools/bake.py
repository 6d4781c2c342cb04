"""Bakes a training set: augments its samples once and for all, into files that stock Caffe reads.

    python -m data_tools.bake data/lmdb/train data/baked --copies 8                # for mini
    python -m data_tools.bake data/lmdb/train data/baked --copies 8 --variant paper --format hdf5
    $(python -m caffe_build --print-prefix)/bin/caffe train --solver=data/baked/solver.prototxt

The stock tool then trains without Python, from any folder. It takes exactly the samples, in the
order, that mcc_caffe.train gives the net in its first --copies epochs with the same --seed and
--batch-size on one device, and begins anew when they are used up. The folder holds the samples, a
train net and a solver, the same for both ablations, and snapshots/, where the tool writes. Nets,
solvers and the list of files name what they need by absolute paths: bake again rather than move the
folder. The samples lie in

    --format lmdb    the LMDBs data (uint8 pictures), mask_label (uint8) and heatmaps (float_data)
    --format hdf5    HDF5 files data_0000.h5, ... and files.txt, which lists them. Their datasets
                     are data, label (the heatmaps) and mask (its labels), float32, with the
                     names and the shapes of the authors' release

HDF5 takes nearly three times the room, and the authors' own train net reads it as it is.

Several GPUs (`--gpu=0,1`): of R, each with its batch_size, number r takes the samples r, r + R,
r + 2R, ... One iteration is thus trained on the samples of R iterations on one device. With
--snapshot=FILE the tool resumes the net, but reads from the first sample again. Without
--weights=FILE it starts from other random weights than mcc_caffe.train, the background map's bias
at 0 for both variants.
"""

import argparse
import math
import mmap
import os
import pathlib
import shutil
import signal

import h5py
import numpy as np

from mcc_caffe.caffe_io.protobuf import messages, read_text, text_format
from mcc_caffe.caffe_io.snapshots import SNAPSHOTS
from mcc_caffe.core.commands import command_parser, positive, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import shipped
from mcc_caffe.data.loader import Loader, LoaderConfig
from mcc_caffe.data.samples import FolderWriter, RecordWriter, SampleSet
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

DISPLAY = 20  # iterations a log line of the stock tool, as mcc_caffe.train's
FILE_BYTES = 256 << 20  # of an HDF5 file, about: Caffe's HDF5Data layer keeps one in memory


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("data", type=pathlib.Path, help="LMDB set to bake (made by `make lmdb`)")
    add("out", type=pathlib.Path, help="folder to make")
    add(
        "--copies",
        type=positive,
        required=True,
        metavar="K",
        help="augmented copies of each sample: the loader's first K epochs",
    )
    add("--format", choices=FORMATS, default="lmdb", help="of the files (default: lmdb)")
    add(
        "--variant",
        choices=VARIANTS,
        default="mini",
        help="size of the network to bake for (default: mini)",
    )
    add(
        "--batch-size", type=positive, help="images a device and iteration (default: the variant's)"
    )
    add("--seed", type=int, default=0, help="of weights, order and augmentation (default: 0)")
    add(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="processes; 0: this one alone (default: one a core)",
    )
    return parser.parse_args(argv)


class LmdbWriter(RecordWriter):
    """Bakes into one LMDB of `Datum`s a blob, each read by a Data layer.

    Picture and mask label are stored as uint8, which holds their values exactly.
    """

    def __init__(self, folder, config: LoaderConfig):
        super().__init__(folder, tuple(config.shapes()))

    @staticmethod
    def sample_bytes(config: LoaderConfig) -> int:
        """Return what one sample takes on disk: LMDB gives each of its records whole pages."""
        empty = {name: np.zeros(shape[1:], np.float32) for name, shape in config.shapes().items()}
        pages = sum(-(-len(record) // mmap.PAGESIZE) for record in _records(empty))
        return pages * mmap.PAGESIZE

    def add(self, key: str, arrays: dict) -> None:
        """Append a sample, {blob: its array}."""
        self.put(key, *_records(arrays))

    def data_layers(self, blobs: list, batch_size: int) -> list:
        """Return the layers that make these blobs, and {blob: its name there}."""
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
        return layers, {blob: blob for blob in blobs}


def _records(arrays: dict) -> list:
    """The serialised `Datum`s of a sample, {blob: its array}."""
    picture = (arrays[DATA_BLOB] * PIXEL_SCALE + GREY).astype(np.uint8)
    mask_label = arrays[MASK_LABEL_BLOB].astype(np.uint8)
    return [datum(array) for array in (picture, mask_label, arrays[HEATMAPS_BLOB])]


def datum(array: np.ndarray) -> bytes:
    """A (channels, height, width) array, uint8 or float32, as a serialised `Datum`."""
    channels, height, width = array.shape
    record = messages().Datum(channels=channels, height=height, width=width)
    if array.dtype == np.uint8:
        record.data = array.tobytes()
    else:
        record.float_data.extend(array.ravel().tolist())
    return record.SerializeToString()


class Hdf5Writer(FolderWriter):
    """Bakes into HDF5 files as the authors' release trains on, read by one HDF5Data layer."""

    names = {DATA_BLOB: "data", HEATMAPS_BLOB: "label", MASK_LABEL_BLOB: "mask"}  # in the release
    list_file = "files.txt"
    disk_errors = (OSError,)

    def __init__(self, folder, config: LoaderConfig):
        super().__init__(folder)
        rows = max(1, FILE_BYTES // self.sample_bytes(config))
        self._arrays = {
            blob: np.empty((rows, *shape[1:]), np.float32)
            for blob, shape in config.shapes().items()
        }
        self._rows, self._filled, self._files = rows, 0, []

    @staticmethod
    def sample_bytes(config: LoaderConfig) -> int:
        """Return what one sample takes on disk, four bytes a number."""
        return sum(4 * math.prod(shape[1:]) for shape in config.shapes().values())

    def add(self, key: str, arrays: dict) -> None:
        """Append a sample, {blob: its array}; the release's files have no keys."""
        for blob, array in arrays.items():
            self._arrays[blob][self._filled] = array
        self._filled += 1
        self.count += 1
        if self._filled == self._rows:
            self._flush()

    def _flush(self) -> None:
        name = f"data_{len(self._files):04d}.h5"
        with h5py.File(self.partial / name, "w") as file:
            for blob, dataset in self.names.items():
                file[dataset] = self._arrays[blob][: self._filled]
        self._files.append(str(self.folder.absolute() / name))
        self._filled = 0

    def _complete(self) -> None:
        if self._filled:
            self._flush()
        (self.partial / self.list_file).write_text("\n".join(self._files) + "\n")

    def data_layers(self, blobs: list, batch_size: int) -> list:
        """Return the layers that make these blobs, and {blob: its name there}."""
        names = {blob: name for blob, name in self.names.items() if blob in blobs}
        layer = messages().LayerParameter(name=DATA_BLOB, type="HDF5Data", top=names.values())
        layer.hdf5_data_param.source = str(self.folder.absolute() / self.list_file)
        layer.hdf5_data_param.batch_size = batch_size
        return [layer], names


FORMATS = {"lmdb": LmdbWriter, "hdf5": Hdf5Writer}


def require_space(folder: pathlib.Path, needed: int) -> None:
    """UserError where the disk that `folder` will lie on has less than `needed` bytes free."""
    free = shutil.disk_usage(
        next(parent for parent in folder.absolute().parents if parent.exists())
    ).free
    if free < needed:
        raise UserError(
            f"{folder} needs about {needed >> 20} MiB and the disk has {free >> 20} free: "
            "make room, give another folder or fewer --copies"
        )


def write_samples(writer: FolderWriter, config: LoaderConfig, total: int) -> None:
    """Writes the loader's first `total` samples; the last batch's others are left out."""
    with Loader(config) as loader, progress_bar(total=total, unit="img") as bar:
        while writer.count < total:
            batch, keys = loader.next_batch()
            taken = keys[: total - writer.count]
            for place, key in enumerate(taken):
                writer.add(key, {blob: array[place] for blob, array in batch.items()})
            bar.update(len(taken))


def put_data_layers(net, writer: FolderWriter, batch_size: int) -> None:
    """Put the writer's data layers in the place of a train net's Python layer.

    Without a pose stage the net's Silence layer, which takes the heatmaps, goes as well.
    """
    network = [layer for layer in net.layer if layer.type not in ("Python", "Silence")]
    used = {bottom for layer in network for bottom in layer.bottom}
    blobs = [blob for blob in net.layer[0].top if blob in used]
    layers, names = writer.data_layers(blobs, batch_size)
    for layer in network:
        layer.bottom[:] = [names.get(bottom, bottom) for bottom in layer.bottom]
    del net.layer[:]
    net.layer.extend(layers + network)


def write_prototxts(writer: FolderWriter, variant: str, batch_size: int, seed: int) -> None:
    """Writes train nets and solvers, the whole network's and the ablations', that name what will stand in the writer's folder."""
    folder = writer.folder.absolute()
    (writer.partial / SNAPSHOTS).mkdir()
    for suffix in map(file_suffix, (None, *ABLATIONS)):
        net = read_text("NetParameter", shipped(f"prototxt/{variant}/train{suffix}.prototxt"))
        put_data_layers(net, writer, batch_size)
        solver = read_text("SolverParameter", shipped(f"solver/{variant}/solver{suffix}.prototxt"))
        solver.net, solver.snapshot_prefix = (
            str(folder / f"train{suffix}.prototxt"),
            str(folder / SNAPSHOTS / f"mcc{suffix}"),
        )
        solver.random_seed, solver.display = seed, DISPLAY
        for name, message in (("train", net), ("solver", solver)):
            (writer.partial / f"{name}{suffix}.prototxt").write_text(
                text_format.MessageToString(message)
            )


def main(argv=None) -> None:
    options = arguments(argv)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # what is half-written is removed, even where a shell had SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    variant = VARIANTS[options.variant]
    config = LoaderConfig.of(
        variant,
        str(options.data),
        batch_size=options.batch_size or variant.batch_size,
        seed=options.seed,
        workers=options.workers,
    )
    samples = len(SampleSet(options.data))
    total = options.copies * samples
    writer = FORMATS[options.format](options.out, config)
    needed = total * writer.sample_bytes(config)
    require_space(options.out, needed)
    print(f"{options.out}: {options.copies} x {samples} samples, about {needed >> 20} MiB")
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
    print(f"train on it with: caffe train --solver={options.out.absolute() / 'solver.prototxt'}")


if __name__ == "__main__":
    run_command(main)
