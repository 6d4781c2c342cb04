"""Packs weights to ship them: float16, half as large, at most 16 MiB a file.

    python -m mcc_caffe.pack runs/mini/snapshots/mcc_iter_40000.caffemodel mcc_caffe/pretrained/mini.npz
    python -m mcc_caffe.pack runs/paper/snapshots/mcc_iter_200000.caffemodel paper.npz     # writes paper.npz.part1, .part2, ...
    python -m mcc_caffe.pack --join paper.npz                                              # makes paper.npz of its parts

Every command takes packed weights where it takes a caffemodel. What they are is said inside: variant and net from the
caffemodel, its iterations from its name, its date from the file's, and what it was trained on, with which input, from its
run's prototxt.
"""
import argparse
import datetime
import json
import pathlib
import re

from mcc_caffe import packed
from mcc_caffe.errors import UserError, input_side, run_command
from mcc_caffe.files import write_whole
from mcc_caffe.paper import ABLATIONS, VARIANTS
from mcc_caffe.protobuf import read_text
from mcc_caffe.samples import LIVE
from mcc_caffe.weights import read_caffemodel

PART = 16 << 20  # bytes
NET = re.compile(rf"(MCC_({'|'.join(VARIANTS)})(?:_(?:{'|'.join(ABLATIONS)}))?)_(?:train|train_baked|deploy)")


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("weights", nargs="?", type=pathlib.Path, metavar="FILE.caffemodel", help="weights of one of our nets")
    add("out", nargs="?", type=pathlib.Path, metavar="OUT.npz", help="file to write, or, where it would be larger than 16 MiB, its parts")
    add("--data", metavar="TEXT", help="what the weights were trained on (default: what the run's train.prototxt names)")
    add("--input-size", type=input_side, metavar="PIXELS", help="side of the input with which these weights find most (default: the run's)")
    add("--join", type=pathlib.Path, metavar="OUT.npz", help="make this file of OUT.npz.part1, OUT.npz.part2, ...")
    options = parser.parse_args(argv)
    if (options.join is None) != (options.out is not None) or options.join and options.weights:
        parser.error("give FILE.caffemodel and OUT.npz, or --join OUT.npz alone")
    return options


def metadata(path: pathlib.Path, net: str, data: str = None, input_size: int = None) -> dict:
    """What packed weights say of themselves; UserError where the net is none of ours. data, input_size: where they are not the run's."""
    ours = NET.fullmatch(net)
    if not ours:
        raise UserError(f"{path} holds the net {net!r}: only those of prototxt/ are packed, whose names begin with MCC_")
    iterations = re.search(r"_iter_(\d+)$", path.stem)
    run = data_settings(path)
    facts = {
        "variant": ours[2], "net": ours[1], "iterations": iterations and int(iterations[1]), "data": data or shortened(run.get("source")),
        "date": datetime.date.fromtimestamp(path.stat().st_mtime).isoformat(),
    }
    own = VARIANTS[ours[2]].input_size
    side = input_size or run.get("input_size", own)
    return facts if side == own else {**facts, "input_size": side}


def data_settings(path: pathlib.Path) -> dict:
    """The data layer's settings (see loader.LoaderConfig) in the run whose snapshot `path` is; empty where no run is there."""
    prototxt = path.absolute().parent.parent / "train.prototxt"
    layers = read_text("NetParameter", prototxt).layer if prototxt.is_file() else []
    return next((json.loads(layer.python_param.param_str) for layer in layers if layer.type == "Python"), {})


def shortened(source: str) -> str:
    """A set's name for others: of a folder its last two names."""
    return source if source is None or source.startswith(LIVE) else "/".join(pathlib.Path(source).parts[-2:])


def parts_of(out: pathlib.Path) -> list:
    """The parts of a packed file that are there, in their order."""
    parts = [path for path in out.parent.glob(f"{out.name}.part*") if re.search(r"\.part\d+$", path.name)]
    return sorted(parts, key=lambda path: int(path.name.rpartition(".part")[2]))


def write(out: pathlib.Path, content: bytes) -> list:
    """Writes a packed file, or its parts where it is too large for one; what was there of it before goes. Returns the paths."""
    out.parent.mkdir(parents=True, exist_ok=True)
    count = -(-len(content) // PART)
    paths = [out] if count == 1 else [out.with_name(f"{out.name}.part{number}") for number in range(1, count + 1)]
    for place, path in enumerate(paths):
        write_whole(path, content[place * PART : (place + 1) * PART])
    for stale in {out, *parts_of(out)} - set(paths):
        stale.unlink(missing_ok=True)
    return paths


def join(out: pathlib.Path) -> bytes:
    """The content of a packed file from its parts; UserError that names the part that is missing, or says that one is damaged."""
    parts = parts_of(out)
    if not parts:
        raise UserError(f"{out}.part1 was not found: put the parts of {out.name} into {out.absolute().parent}")
    for number, path in enumerate(parts, start=1):
        if path.name != f"{out.name}.part{number}":
            raise UserError(f"{out}.part{number} is missing, {path.name} is there: get all parts")
        if path != parts[-1] and path.stat().st_size != PART:
            raise UserError(f"{path} has {path.stat().st_size} bytes instead of {PART}: get this part again")
    content = b"".join(path.read_bytes() for path in parts)
    packed.from_bytes(content, f"what {parts[0].name} to {parts[-1].name} make")
    return content


def main(argv=None) -> None:
    options = arguments(argv)
    if options.join:
        content = join(options.join)
        write_whole(options.join, content)
        print(f"{options.join}: {len(content) / 2**20:.1f} MiB")
        return
    layers, net = read_caffemodel(options.weights)
    facts = metadata(options.weights, net, options.data, options.input_size)
    for path in write(options.out, packed.to_bytes(layers, facts)):
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
    print(f"{len(layers)} layers, {json.dumps(facts)}")


if __name__ == "__main__":
    run_command(main)
