"""Nets converted for MNN, each compared with Caffe once and then kept.

MNN's own converter reads the deploy prototxt and a caffemodel that Caffe writes. For weights `W.npz` or `W.caffemodel` there come

    W-KEY.mnn         the converted net; KEY is of the prototxt, the weights, MNN's version and what it is held to
    W-KEY.mnn.json    how it compared with Caffe, at each of MNN's Winograd levels that was tried: {"agrees", "winograd", the level
                      that agrees, "differences", "allowed", "mnn", "prototxt", "sha256", of W-KEY.mnn}

beside the weights or, where that folder cannot be written, in the cache's folder `engines`. They may be deleted at any time, and
come again; a damaged one is made anew. A net that agrees at no level leaves the second file only.
"""
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Callable, Optional

import numpy as np
from tqdm import tqdm

from caffe_build.locate import cache_folder
from mcc_caffe.engines.mnn_engine import WINOGRAD_LEVELS, EngineUnavailable, MnnEngine, import_mnn
from mcc_caffe.engines.pycaffe_engine import CaffeEngine
from mcc_caffe.files import existing
from mcc_caffe.pycaffe import parameter_count

TOLERANCE = 1e-4                   # largest absolute difference from Caffe, of the mask's probabilities and of the heatmaps
CHECKED_TOLERANCE = TOLERANCE / 2  # on the input that they are compared on: photographs were seen to make up to twice the difference
CHECKED_PIXELS = 8 * 128**2        # of that input, about

# The converter's extension module itself: the script `mnnconvert` around it has pip install a package to report every use with.
_CONVERT = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"


def converted(prototxt, weights) -> tuple:
    """(path of the net as MNN reads it, Winograd level at which it agrees with Caffe), from the cache or made now.

    EngineUnavailable where MNN is missing, cannot convert the net or differs from Caffe by more than TOLERANCE; UserError where
    the files are missing or do not fit.
    """
    mnn = import_mnn()
    prototxt, weights = existing(prototxt, "deploy net"), existing(weights, "weights file")
    name = f"{weights.stem}-{_key(prototxt, weights, mnn.version())}.mnn"
    places = [weights.absolute().parent, cache_folder() / "engines"]
    record = next(filter(None, (_kept(place / name) for place in places)), None) or _make(prototxt, weights, name, places)
    if not record["agrees"]:
        best = min(record["differences"].values())
        raise EngineUnavailable(f"MNN {record['mnn']} differs from Caffe on {weights} with {prototxt} by {best:.1e} at best, "
                                f"allowed is {record['allowed']:.0e}: take the engine caffe")
    return record["path"], record["winograd"]


def _key(prototxt: pathlib.Path, weights: pathlib.Path, version: str) -> str:
    parts = [f"{version} {CHECKED_TOLERANCE}".encode(), *(hashlib.sha256(path.read_bytes()).digest() for path in (prototxt, weights))]
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]


def _record_path(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.json")


def _kept(path: pathlib.Path) -> Optional[dict]:
    """The record of a converted net that is kept at `path`, None where there is none or a damaged one."""
    try:
        record = json.loads(_record_path(path).read_bytes())
        if record["agrees"] and hashlib.sha256(path.read_bytes()).hexdigest() != record["sha256"]:
            return None
        return {**record, "path": path}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _make(prototxt: pathlib.Path, weights: pathlib.Path, name: str, places: list) -> dict:
    """Converts, compares, and keeps the outcome in the first of the places that can be written."""
    reference = CaffeEngine(prototxt, weights)
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            _require_room(place, reference)
            with tempfile.TemporaryDirectory(dir=place, prefix=f".{name}.") as folder, _progress(weights) as step:
                draft = pathlib.Path(folder, name)
                step("MNN's converter")
                _convert(prototxt, reference, draft)
                record = _compare(reference, draft, step) | {
                    "mnn": import_mnn().version(), "prototxt": str(prototxt), "sha256": hashlib.sha256(draft.read_bytes()).hexdigest()}
                _record_path(draft).write_text(json.dumps(record, indent=1) + "\n")
                # The record comes last: without it the net does not count.
                for path in ([draft] if record["agrees"] else []) + [_record_path(draft)]:
                    os.replace(path, place / path.name)
            return {**record, "path": place / name}
        except OSError as error:
            fault = error
    raise EngineUnavailable(f"the net that MNN needs can be written neither to {places[0]} nor to {places[1]} ({fault.strerror}): "
                            "make room, set XDG_CACHE_HOME to another disk, or take the engine caffe")


@contextlib.contextmanager
def _progress(weights: pathlib.Path) -> Callable:
    """A function that shows what is under way on a bar, which comes on a terminal where this takes longer than two seconds."""
    with tqdm(desc=f"{weights.name} for MNN, once", total=2 + len(WINOGRAD_LEVELS), delay=2, leave=False, disable=None) as bar:
        def step(what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update()
        yield step


def _require_room(place: pathlib.Path, reference: CaffeEngine) -> None:
    """OSError where the disk has no room for a caffemodel and the converted net: Caffe would abort."""
    needed = 3 * 4 * parameter_count(reference.net)
    if shutil.disk_usage(place).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _convert(prototxt: pathlib.Path, reference: CaffeEngine, path: pathlib.Path) -> None:
    """Runs MNN's converter, in a process of its own since it may abort."""
    caffemodel = path.with_suffix(".caffemodel")
    reference.net.save(str(caffemodel))
    options = {"-f": "CAFFE", "--modelFile": caffemodel, "--prototxt": prototxt.absolute(), "--MNNModel": path, "--bizCode": "MNN"}
    done = subprocess.run([sys.executable, "-c", _CONVERT, *(str(one) for option in options.items() for one in option)],
                          cwd=path.parent, capture_output=True, text=True, check=False)
    caffemodel.unlink()
    if done.returncode or not path.is_file():
        said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise EngineUnavailable(f"MNN cannot convert {prototxt} ({said}): take the engine caffe")


def _compare(reference: CaffeEngine, path: pathlib.Path, step: Callable) -> dict:
    """How a converted net compares with Caffe, at the Winograd levels from the fastest on until one agrees."""
    batch = checked_input(reference.input_size)
    step("Caffe")
    expected, differences = reference(batch), {}
    for level in WINOGRAD_LEVELS:
        step(f"MNN, Winograd level {level}")
        engine = MnnEngine(path, level)
        one = engine(batch[:1])  # a session that changes its batch, too
        differences[level] = max(_difference(expected, engine(batch)), _difference([maps if maps is None else maps[:1] for maps in expected], one))
        if differences[level] <= CHECKED_TOLERANCE:
            break
    agrees = differences[level] <= CHECKED_TOLERANCE
    return {"agrees": agrees, "winograd": level if agrees else None, "differences": differences, "allowed": CHECKED_TOLERANCE}


def checked_input(size: int) -> np.ndarray:
    """The input (N, 3, size, size) on which engines are compared: random squares of four sizes, black and white or of full colours."""
    random, images = np.random.default_rng(0), []
    for place in range(max(2, CHECKED_PIXELS // size**2)):
        side = size // (16, 8, 4, 2)[place % 4]
        count = -(-size // side)
        squares = np.kron(random.integers(0, 2, (1 + 2 * (place % 2), count, count)), np.ones((side, side)))
        images.append(np.broadcast_to(squares[:, :size, :size] - 0.5, (3, size, size)))
    return np.stack(images).astype(np.float32)


def _difference(expected, found) -> float:
    """The largest absolute difference of two engines' (mask, heatmaps); infinite where one has what the other lacks, or no number."""
    pairs = [pair for pair in zip(expected, found) if any(one is not None for one in pair)]
    if any(one is None for pair in pairs for one in pair):
        return float("inf")
    return float(np.nan_to_num(np.max([np.abs(one - other).max() for one, other in pairs]), nan=np.inf))
