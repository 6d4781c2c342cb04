"""Bakes a training set: augments its samples once and for all, into LMDBs that Caffe's own Data layers read.

    python -m data_tools.bake data/lmdb/train data/baked --copies 8                    # for the mini variant
    python -m data_tools.bake data/lmdb/train data/baked --copies 8 --variant paper
    $(python -m caffe_build --print-prefix)/bin/caffe train --solver=data/baked/solver.prototxt         # from any folder

The stock tool then trains without Python. It takes exactly the samples, in the order, that mcc_caffe.train gives the net in its
first --copies epochs with the same --seed and --batch-size on one device, and begins anew when they are used up. The folder
holds the LMDBs data (uint8 pictures), mask_label (uint8) and heatmaps (float_data), a train net and a solver, which name them
by absolute paths (bake again rather than move the folder), the same for both ablations, and snapshots/, where the tool writes.

Several GPUs (`--gpu=0,1`): of R, each with its batch_size, number r takes the records r, r + R, r + 2R, ... One iteration is
thus trained on the samples of R iterations on one device. With --snapshot=FILE the tool resumes the net, but reads from the
first sample again. Without --weights=FILE it starts from other random weights than mcc_caffe.train, the background map's bias
at 0 for both variants.
"""
import argparse
import mmap
import os
import pathlib
import shutil
import signal

import numpy as np
from tqdm import tqdm

from mcc_caffe.core.errors import UserError, positive, run_command
from mcc_caffe.core.files import shipped
from mcc_caffe.data.loader import Loader, LoaderConfig
from mcc_caffe.paper import ABLATIONS, DATA_BLOB, GREY, HEATMAPS_BLOB, MASK_LABEL_BLOB, PIXEL_SCALE, VARIANTS, file_suffix
from mcc_caffe.caffe_io.protobuf import messages, read_text, text_format
from mcc_caffe.caffe_io.snapshots import SNAPSHOTS
from mcc_caffe.data.samples import RecordWriter, SampleSet

DISPLAY = 20  # iterations a log line of the stock tool, as mcc_caffe.train's


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", type=pathlib.Path, help="LMDB set to bake (made by `make lmdb`)")
    add("out", type=pathlib.Path, help="folder to make")
    add("--copies", type=positive, required=True, metavar="K", help="augmented copies of each sample: the loader's first K epochs")
    add("--variant", choices=VARIANTS, default="mini", help="size of the network to bake for (default: mini)")
    add("--batch-size", type=positive, help="images a device and iteration (default: the variant's)")
    add("--seed", type=int, default=0, help="of weights, order and augmentation (default: 0)")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes; 0: this one alone (default: one a core)")
    return parser.parse_args(argv)


def stored(arrays: dict) -> dict:
    """A batch as it is stored: picture and mask label as uint8, which holds their values exactly, the heatmaps as they are."""
    return {
        DATA_BLOB: (arrays[DATA_BLOB] * PIXEL_SCALE + GREY).astype(np.uint8),
        MASK_LABEL_BLOB: arrays[MASK_LABEL_BLOB].astype(np.uint8),
        HEATMAPS_BLOB: arrays[HEATMAPS_BLOB],
    }


def datum(array: np.ndarray) -> bytes:
    """A (channels, height, width) array, uint8 or float32, as a serialised `Datum`."""
    channels, height, width = array.shape
    record = messages().Datum(channels=channels, height=height, width=width)
    if array.dtype == np.uint8:
        record.data = array.tobytes()
    else:
        record.float_data.extend(array.ravel().tolist())
    return record.SerializeToString()


def record_bytes(config: LoaderConfig) -> int:
    """What one sample takes on disk: LMDB gives each of its records whole pages."""
    empty = {name: np.zeros((1, *shape[1:]), np.float32) for name, shape in config.shapes().items()}
    return sum(-(-len(datum(batch[0])) // mmap.PAGESIZE) * mmap.PAGESIZE for batch in stored(empty).values())


def require_space(folder: pathlib.Path, needed: int) -> None:
    """UserError where the disk that `folder` will lie on has less than `needed` bytes free."""
    free = shutil.disk_usage(next(parent for parent in folder.absolute().parents if parent.exists())).free
    if free < needed:
        raise UserError(f"{folder} needs about {needed >> 20} MiB and the disk has {free >> 20} free: "
                        "make room, give another folder or fewer --copies")


def write_records(writer: RecordWriter, config: LoaderConfig, total: int) -> None:
    """Writes the loader's first `total` samples; the last batch's others are left out."""
    with Loader(config) as loader, tqdm(total=total, unit="img") as bar:
        while writer.count < total:
            arrays, keys = loader.next_batch()
            batch = stored(arrays)
            taken = keys[: total - writer.count]
            for place, key in enumerate(taken):
                writer.put(key, *(datum(array[place]) for array in batch.values()))
            bar.update(len(taken))


def write_prototxts(writer: RecordWriter, variant: str, batch_size: int, seed: int) -> None:
    """Writes train nets and solvers, the whole network's and the ablations', that name what will stand in the writer's folder."""
    folder = writer.folder.absolute()
    (writer.partial / SNAPSHOTS).mkdir()
    for suffix in map(file_suffix, (None, *ABLATIONS)):
        net = read_text("NetParameter", shipped(f"prototxt/{variant}/train_baked{suffix}.prototxt"))
        for layer in net.layer:
            if layer.type == "Data":
                layer.data_param.source, layer.data_param.batch_size = str(folder / layer.name), batch_size
        solver = read_text("SolverParameter", shipped(f"solver/{variant}/solver{suffix}.prototxt"))
        solver.net, solver.snapshot_prefix = str(folder / f"train{suffix}.prototxt"), str(folder / SNAPSHOTS / f"mcc{suffix}")
        solver.random_seed, solver.display = seed, DISPLAY
        for name, message in (("train", net), ("solver", solver)):
            (writer.partial / f"{name}{suffix}.prototxt").write_text(text_format.MessageToString(message))


def main(argv=None) -> None:
    options = arguments(argv)
    for number in (signal.SIGINT, signal.SIGTERM):  # what is half-written is removed, even where a shell had SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    variant = VARIANTS[options.variant]
    config = LoaderConfig.of(variant, str(options.data), batch_size=options.batch_size or variant.batch_size, seed=options.seed,
                             workers=options.workers)
    samples = len(SampleSet(options.data))
    total = options.copies * samples
    needed = total * record_bytes(config)
    writer = RecordWriter(options.out, config.shapes())
    require_space(options.out, needed)
    print(f"{options.out}: {options.copies} x {samples} samples, about {needed >> 20} MiB")
    with writer:
        write_records(writer, config, total)
        write_prototxts(writer, variant.name, config.batch_size, config.seed)
        writer.finish(source=str(options.data), copies=options.copies, variant=variant.name, batch_size=config.batch_size,
                      seed=config.seed, input_size=config.input_size, sigma=config.sigma)
    print(f"train on it with: caffe train --solver={options.out.absolute() / 'solver.prototxt'}")


if __name__ == "__main__":
    run_command(main)
