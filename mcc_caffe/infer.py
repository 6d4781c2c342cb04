"""Finds the hand in images and videos.

    python -m mcc_caffe.infer hand.jpg                # writes hand.png and hand.json to out/
    python -m mcc_caffe.infer photos/ 'more/*.png' --out results --looks 1
    python -m mcc_caffe.infer clip.mp4                # writes clip.mp4 and clip.json to out/
    python -m mcc_caffe.infer hand.jpg --weights runs/mini/snapshots/mcc_iter_40000.caffemodel
    python -m mcc_caffe.infer street.jpg --hands all  # every hand of an image, or none
    python -m mcc_caffe.infer clip.mp4 --hands all    # every hand of a video, with a number
    python -m mcc_caffe.infer --camera 0              # shows a window until you close it or press q
    mpirun -np 8 python -m mcc_caffe.infer photos/    # 8 processes share the files

It runs with the weights that come with the package, unless you give others; the first line and the
JSON say which. Every image gives a drawing and a JSON file, with --heatmaps also an HDF5 file. The
drawing is in the style of the paper's Fig. 5 (mask, skeleton, heatmaps); with --hands all or
--boxes it is the image with its hands drawn over it. --no-drawings leaves it out, and of a video
the clip. The EXIF orientation of an image is applied: pixels are those of the upright image.
Every video gives the same video with mask and skeleton over it, without sound, and a JSON file of
all frames. In a video a hand is followed from frame to frame and keeps its number, and its
keypoints are smoothed. --format writes COCO results, OpenPose's or MMPose's JSON, or a table, in
place of our JSON.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.caffe_io.precision import warn_of_rounding
from mcc_caffe.caffe_io.pycaffe import set_threads
from mcc_caffe.core.commands import (
    add_levels_option,
    add_network_options,
    command_parser,
    finite_number,
    run_command,
    seed_number,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.output_checks import check_folder
from mcc_caffe.core.ranks import Ranks, own_ranks
from mcc_caffe.inference.engines import add_engine_options
from mcc_caffe.inference.engines.base import title_of
from mcc_caffe.inference.formats import FORMAT_HELP, FORMATS, OWN_FORMAT, open_format
from mcc_caffe.inference.formats.base import ResultFormat
from mcc_caffe.inference.input_files import PassedOver, find_files
from mcc_caffe.inference.jobs import Job
from mcc_caffe.inference.result_paths import check_result_paths, choose_result_paths
from mcc_caffe.inference.scene_files import Scene, coco_labels, scenes_of_images
from mcc_caffe.inference_run import InferenceRun
from mcc_caffe.paper import CONFIDENCE_THRESHOLD
from mcc_caffe.predictor import DEFAULT_LOOKS, LOOKS, HandPredictor, check_boxes
from mcc_caffe.video_results import TrackerOptions, show_camera

_log = logging.getLogger(__name__)

_PRINTED_METADATA = "variant", "iterations", "date", "input_size"  # what sets weights apart


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="images, videos, folders (searched through) and quoted globs",
    )
    parser.add_argument(
        "--camera",
        type=int,
        metavar="N",
        help="show what camera N sees, 0 being the first, until q or Escape is pressed or the "
        "window is closed",
    )
    _add_network_arguments(parser.add_argument_group("network"))
    _add_search_arguments(parser.add_argument_group("how hands are looked for"))
    _add_result_arguments(parser.add_argument_group("results"))
    options = parser.parse_args(argv)
    _check_options(parser, options)
    return options


def _add_network_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say which net runs, and where."""
    add_network_options(group)
    group.add_argument(
        "--prototxt",
        type=Path,
        help="deploy net (default: the variant's, or that of the ablation that the weights are of)",
    )
    add_engine_options(group)


def _add_search_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how many hands are looked for, where and how thoroughly."""
    add = group.add_argument
    add(
        "--hands",
        choices=("one", "all"),
        default="one",
        help="look for the one hand that an image or video shows, or for every hand, which may be "
        "none (default: %(default)s)",
    )
    add(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="COCO file of boxes around the images' hands; look there, and only there",
    )
    levels_or_looks = group.add_mutually_exclusive_group()
    levels_or_looks.add_argument(
        "--looks",
        type=int,
        choices=LOOKS,
        help="1: look at the whole image, a single pass; 2: also at an upright square crop around "
        "its hand; 4: at the image in four directions if need be, and at the crop also mirrored. "
        f"No search follows them (default: {DEFAULT_LOOKS}, then a search if they show no hand). A "
        "video's hand is followed unless --looks or --levels is given: then they look at every "
        "frame",
    )
    add_levels_option(levels_or_looks)
    add(
        "--threshold",
        type=finite_number,
        default=CONFIDENCE_THRESHOLD,
        help="confidence above which a keypoint is present (default: %(default)s)",
    )
    add(
        "--seed",
        type=seed_number,
        default=0,
        help="seed of the pyramid's random crops (default: 0)",
    )


def _add_result_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say what is written, and where."""
    add = group.add_argument
    add("--out", type=Path, default=Path("out"), help="folder for the results (default: out)")
    add("--format", choices=FORMATS, default=OWN_FORMAT, help=FORMAT_HELP)
    add(
        "--smooth",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="smooth the keypoints of videos and of the camera, as is done by default",
    )
    add(
        "--drawings",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the drawings of images and the clips of videos, as is done by default",
    )
    add("--heatmaps", action="store_true", help="also write the heatmaps of images as HDF5")
    add(
        "--overwrite",
        action="store_true",
        help="let results replace files that this program did not write (never an input)",
    )


def _check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the command with a message where options do not go together."""
    if bool(options.files) == (options.camera is not None):
        parser.error("give images, videos or folders, or else --camera 0 alone")
    of_results = any(
        getattr(options, name) != parser.get_default(name)
        for name in ("out", "format", "drawings", "heatmaps", "overwrite")
    )
    if options.camera is not None and of_results:
        parser.error(
            "--out, --format, --no-drawings, --heatmaps and --overwrite go without --camera, "
            "which writes no results"
        )
    if options.hands == "all" or options.boxes:
        name = "--boxes" if options.boxes else "--hands all"
        if options.levels or options.looks or options.heatmaps:
            parser.error(f"{name} goes without --levels, --looks and --heatmaps")
    if options.boxes and options.camera is not None:
        parser.error("--boxes goes without --camera")


class _Plan(NamedTuple):
    """What a run is to do, checked before the net is opened.

    Attributes:
        jobs: The files of all ranks.
        passed_over: What was found beside them and is left out.
        boxes: Where to look for the hands of each image, (N, 4) of x, y, width, height; None
            without --boxes.
        result_format: The format of the results; None for our JSON.
    """

    jobs: list[Job]
    passed_over: PassedOver
    boxes: dict[Path, np.ndarray] | None
    result_format: ResultFormat | None


def _make_plan(options: argparse.Namespace) -> _Plan:
    """Find the files, and check what can be checked before the work.

    Raises:
        UserError: A file or box cannot be used, or a result would replace a file of the user's.
    """
    files, passed_over = find_files(options.files)
    jobs = [
        Job(file.path, path, file.is_video)
        for file, path in zip(files, choose_result_paths(files, options.out))
    ]
    scenes = _read_scenes(options.boxes, jobs) if options.boxes else None
    labels = coco_labels(scenes) if scenes and options.format == "coco" else None
    result_format = open_format(options.format, labels)
    results = [
        path
        for job in jobs
        for path in job.result_paths(
            result_format, drawings=options.drawings, heatmaps=options.heatmaps
        )
    ]
    if result_format:
        results += result_format.run_paths(options.out)
    inputs = [file.path for file in files]
    inputs += [path for path in (options.boxes, options.weights, options.prototxt) if path]
    check_result_paths(inputs, results, options.overwrite)
    # Before the work: what is wrong would end it halfway.
    for folder in dict.fromkeys(path.parent for path in results):
        check_folder(folder)
    boxes = {path: scene.boxes_xywh() for path, scene in scenes.items()} if scenes else None
    return _Plan(jobs, passed_over, boxes, result_format)


def _read_scenes(boxes_path: Path, jobs: Sequence[Job]) -> dict[Path, Scene]:
    """Read the file of the boxes, and check the boxes: a wrong one would end the work halfway.

    Returns:
        {image: its scene}.

    Raises:
        UserError: A file to look at is a video, the file of the boxes cannot be used, a box has no
            finite width and height above 0 or lies outside of its image, or all boxes of an image
            are shares of its sides.
    """
    videos = [job.source for job in jobs if job.is_video]
    if videos:
        raise UserError(f"{videos[0]} is a video: --boxes takes images")
    scenes = scenes_of_images(boxes_path, [job.source for job in jobs])
    for path, scene in scenes.items():
        if scene.size is None:
            continue
        try:
            check_boxes(scene.boxes_xywh(), *scene.size)
        except UserError as error:
            raise UserError(f"{boxes_path}: {path}: {error}") from None
    return scenes


def _open_predictor(options: argparse.Namespace) -> HandPredictor:
    """Open the net that the options name.

    Raises:
        UserError: A file is missing or does not fit, or the net finds no keypoints.
    """
    predictor = HandPredictor(
        options.weights or default_weights(options.variant),
        options.variant,
        prototxt=options.prototxt,
        gpu=options.gpu,
        levels=options.levels,
        looks=options.looks,
        threshold=options.threshold,
        seed=options.seed,
        engine=options.engine,
        precision=options.precision,
    )
    predictor.require_pose()
    return predictor


def _print_network(predictor: HandPredictor) -> None:
    """Print which weights and which engine run; the JSON says more of the weights."""
    weights = predictor.weights_info
    known = [
        f"{name} {weights[name]}" for name in _PRINTED_METADATA if weights.get(name) is not None
    ]
    details = f" ({', '.join(known)})" if known else ""
    print(f"weights: {weights['file']}{details}; engine: {title_of(predictor.engine)}")
    warn_of_rounding(predictor.engine.precision)


def _run_jobs(options: argparse.Namespace, plan: _Plan, ranks: Ranks) -> int:
    """Write the results of this rank's files, and show the camera.

    Returns:
        The number of files that cannot be read.
    """
    predictor = _open_predictor(options)
    if ranks.rank == 0:
        _print_network(predictor)
    tracker_options = TrackerOptions(
        predictor,
        one_hand=options.hands == "one",
        smooth=options.smooth,
    )
    inference = InferenceRun(
        tracker_options,
        drawings=options.drawings,
        heatmaps=options.heatmaps,
        skip_unreadable=len(plan.jobs) > 1,
        progress=ranks.rank == 0,
        boxes=plan.boxes,
        result_format=plan.result_format,
    )
    own_jobs = plan.jobs[ranks.rank :: ranks.size]
    inference.write_images([job for job in own_jobs if not job.is_video])
    inference.write_videos([job for job in own_jobs if job.is_video])
    if options.camera is not None:
        show_camera(tracker_options, options.camera)
    return inference.unreadable_count


def _write_joint_results(options: argparse.Namespace, plan: _Plan, ranks: Ranks) -> None:
    """Let rank 0 write the files of a format that hold the results of all ranks."""
    if plan.result_format is None:
        return
    content = ranks.gather(plan.result_format.run_content())
    if ranks.rank == 0:
        plan.result_format.write_run(options.out, [text for texts in content for text in texts])
        if plan.result_format.notice:
            _log.warning("%s: %s", options.format, plan.result_format.notice)


def _write_finished_results(options: argparse.Namespace, plan: _Plan, ranks: Ranks) -> None:
    """Write the files of a format for a run that ends early, where a file is finished.

    The other ranks may be gone: only what rank 0 itself has finished is written.
    """
    if plan.result_format is None or ranks.rank > 0:
        return
    content = plan.result_format.run_content()
    if content:
        plan.result_format.write_run(options.out, content)
        names = " and ".join(str(path) for path in plan.result_format.run_paths(options.out))
        _log.warning("the run ended early: %s do not have all files", names)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. The ranks of an mpirun share the files; rank 0 says how it ended."""
    options, ranks = parse_arguments(argv), own_ranks()
    if ranks.size > 1:
        set_threads(ranks.threads)
    plan = _make_plan(options)
    try:
        unreadable_count = _run_jobs(options, plan, ranks)
    except BaseException:  # Ctrl-C and other signals, too
        _write_finished_results(options, plan, ranks)
        raise
    _write_joint_results(options, plan, ranks)
    if ranks.rank == 0 and str(plan.passed_over):
        _log.warning("passed over: %s", plan.passed_over)
    unreadable_counts = ranks.gather(unreadable_count)
    ranks.finish()
    if sum(unreadable_counts):
        raise UserError(
            f"{sum(unreadable_counts)} of {len(plan.jobs)} files could not be read (named above); "
            "the others are done"
        )


if __name__ == "__main__":
    run_command(main)
