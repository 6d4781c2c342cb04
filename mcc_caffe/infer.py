"""Finds the hand in images and videos.

    python -m mcc_caffe.infer hand.jpg                                # writes hand.png and hand.json to out/
    python -m mcc_caffe.infer photos/ 'more/*.png' --out found --levels 1
    python -m mcc_caffe.infer clip.mp4                                # writes clip.mp4 and clip.json to out/
    python -m mcc_caffe.infer hand.jpg --weights runs/mini/snapshots/mcc_iter_40000.caffemodel
    python -m mcc_caffe.infer --camera 0                              # in a window, until q is pressed
    mpirun -np 8 python -m mcc_caffe.infer photos/ --out found        # files shared out among 8 processes, on one machine or many

It runs with the weights that come with the package, unless others are given; the first line and the JSON say which.
For every image: a picture in the style of the paper's Fig. 5 (mask, skeleton, heatmaps) and a JSON file; with --heatmaps
an HDF5 file too. An image's EXIF orientation is applied: pixels are those of the upright picture. For every video: the same
video with mask and skeleton over it, without sound, and a JSON file of all frames.
"""

import argparse
import contextlib
import io
import json
import pathlib
import time
from collections.abc import Callable

import cv2
import h5py
import numpy as np
from tqdm import tqdm

from mcc_caffe.caffe_io.pycaffe import set_threads
from mcc_caffe.caffe_io.snapshots import default_weights
from mcc_caffe.caffe_io.weights import describe
from mcc_caffe.core.commands import command_parser, positive, progress_bar, run_command
from mcc_caffe.core.drawing import draw_over, draw_pose
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import write_whole
from mcc_caffe.core.hand import NAMES
from mcc_caffe.core.ranks import own_ranks
from mcc_caffe.inference.engines import DEFAULT_ENGINE, ENGINES
from mcc_caffe.inference.images import (
    UnreadableError,
    find_files,
    is_video,
    read_image,
    result_paths,
    with_suffix,
)
from mcc_caffe.inference.pipeline import pipelined
from mcc_caffe.inference.video import VideoFile, frame_line, open_camera, video_json, video_writer
from mcc_caffe.paper import CONFIDENCE_THRESHOLD, VARIANTS
from mcc_caffe.predictor import HandPose, HandPredictor

LIVE_LEVELS = (
    1  # of videos and the camera: the pyramid takes as many times as long as it has levels
)


def arguments(argv=None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add = parser.add_argument
    add(
        "files",
        nargs="*",
        metavar="FILE",
        help="images, videos, folders (searched through) and quoted globs",
    )
    add(
        "--camera",
        type=int,
        metavar="N",
        help="show what camera N sees, 0 being the first, in a window until q is pressed",
    )
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("out"),
        help="folder for the results (default: out)",
    )
    add(
        "--weights",
        type=pathlib.Path,
        help="caffemodel or packed weights (default: those that come with the package or, "
        "for a variant without, the newest of runs/VARIANT)",
    )
    add("--variant", choices=VARIANTS, default="mini", help="size of the network (default: mini)")
    add("--prototxt", type=pathlib.Path, help="deploy net (default: the variant's)")
    add("--gpu", type=int, help="id of the GPU to use (default: the CPU)")
    add(
        "--engine",
        choices=ENGINES,
        default=DEFAULT_ENGINE,
        help="what runs the net (default: %(default)s)",
    )
    add(
        "--levels",
        type=positive,
        help="at most so many pyramid levels; 1: a single pass (default: the paper's pyramid, "
        "of a video or camera 1, as the pyramid's some 19 levels take 19 times as long)",
    )
    add(
        "--threshold",
        type=float,
        default=CONFIDENCE_THRESHOLD,
        help="confidence of a keypoint (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of the pyramid's random crops (default: 0)")
    add(
        "--heatmaps",
        action="store_true",
        help="also write the aggregated heatmaps of images as HDF5",
    )
    options = parser.parse_args(argv)
    if bool(options.files) == (options.camera is not None):
        parser.error("give images, videos or folders, or --camera 0")
    return options


def as_json(pose: HandPose, image: pathlib.Path, size: tuple, weights: dict, engine: str) -> dict:
    """What the JSON file says: keypoints in image pixels, null where missing. weights: as `weights.describe` has them. engine: its name."""
    box = pose.mask_box()
    return {
        "image": str(image),
        "width": size[0],
        "height": size[1],
        "weights": weights,
        "engine": engine,
        "levels": pose.levels,
        "keypoints": [
            {"name": name, "x": round(x, 2), "y": round(y, 2), "confidence": round(confidence, 4)}
            if present
            else None
            for name, (x, y, confidence), present in zip(
                NAMES, pose.keypoints.tolist(), pose.present.tolist()
            )
        ],
        "mask_box": None if box is None else dict(zip(("x", "y", "width", "height"), box)),
        "seconds": {name: round(seconds, 4) for name, seconds in pose.timings.items()},
    }


def write_results(
    pose: HandPose,
    image: np.ndarray,
    source: pathlib.Path,
    path: pathlib.Path,
    weights: dict,
    engine: str,
    heatmaps: bool,
) -> None:
    """Writes PATH.png, PATH.json and, if asked for, PATH.h5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(
        with_suffix(path, ".png"), cv2.imencode(".png", draw_pose(image, pose))[1].tobytes()
    )
    report = as_json(pose, source, image.shape[1::-1], weights, engine)
    write_whole(with_suffix(path, ".json"), (json.dumps(report, indent=1) + "\n").encode())
    if heatmaps:
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file.create_dataset("heatmaps", data=pose.heatmaps, compression="gzip").attrs[
                "names"
            ] = [*NAMES, "background"]
            file["frame_to_image"] = pose.frame_to_image
            if pose.mask is not None:
                file.create_dataset("mask", data=pose.mask, compression="gzip")
        write_whole(with_suffix(path, ".h5"), content.getvalue())


def infer_images(
    predictor: HandPredictor,
    images: list,
    weights: dict,
    heatmaps: bool,
    pass_over: Callable,
    bar: bool,
) -> None:
    """Writes the results of images [(file, path of its results)] while the next are read; pass_over is told why one cannot be.

    bar: show the progress.
    """

    def read():
        for source, path in images:
            try:
                yield source, path, read_image(source), None
            except (UnreadableError, OSError) as error:
                yield source, path, None, error

    def find(item: tuple) -> tuple:
        return *item, None if item[-1] else predictor.predict(item[2])

    def write(item: tuple) -> str:
        source, path, image, error, pose = item
        if error:
            return pass_over(error)
        write_results(pose, image, source, path, weights, predictor.engine.name, heatmaps)
        return f"{path}.png, .json: {pose.present.sum()} of {len(NAMES)} keypoints, {pose.timings['total']:.2f} s"

    with contextlib.closing(pipelined(read(), find, write)) as done:
        for line in progress_bar(
            done, total=len(images), unit="img", disable=len(images) < 2 or not bar
        ):
            tqdm.write(line)


def infer_video(
    predictor: HandPredictor, source: pathlib.Path, path: pathlib.Path, weights: dict, bar: bool
) -> None:
    """Writes PATH.mp4 and PATH.json of a video, whole or not at all; UnreadableError where it cannot be read. bar: show the progress."""
    video, lines, start = VideoFile(source), [], time.perf_counter()
    with video_writer(with_suffix(path, ".mp4"), video.fps, video.size) as add:

        def write(found: tuple) -> str:
            frame, pose = found
            add(draw_over(frame, pose))
            return frame_line(as_json(pose, source, video.size, weights, predictor.engine.name))

        with contextlib.closing(
            pipelined(video.frames(), lambda frame: (frame, predictor.predict(frame)), write)
        ) as done:
            lines.extend(
                progress_bar(
                    done,
                    total=video.announced or None,
                    unit="frame",
                    desc=source.name,
                    disable=not bar,
                )
            )
    head = {
        "video": str(source),
        "width": video.size[0],
        "height": video.size[1],
        "fps": round(video.fps, 3),
        "weights": weights,
        "engine": predictor.engine.name,
        "levels": predictor.levels,
        "seconds": round(time.perf_counter() - start, 2),
    }
    write_whole(with_suffix(path, ".json"), video_json(head, lines))
    missing = (
        f" of the {video.announced} that the file announces" if len(lines) < video.announced else ""
    )
    tqdm.write(
        f"{path}.mp4, .json: {len(lines)} frames{missing}, {len(lines) / (time.perf_counter() - start):.1f} a second"
    )


def show_camera(predictor: HandPredictor, number: int) -> None:
    """Shows what a camera sees, mask and skeleton over it, in a window until q or Escape is pressed or the window closed."""
    capture, title, start = open_camera(number), f"camera {number}: q ends", time.perf_counter()
    cv2.namedWindow(title, cv2.WINDOW_NORMAL)
    while (
        cv2.waitKey(1) not in (ord("q"), 27)
        and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) > 0
    ):
        there, frame = capture.read()
        if not there:
            raise UserError(f"camera {number} gives no more pictures: was it unplugged?")
        drawn = draw_over(frame, predictor.predict(frame))
        start, before = time.perf_counter(), start
        cv2.putText(
            drawn,
            f"{1 / (start - before):.0f} fps",
            (8, 24),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.7,
            (255, 255, 255),
            2,
            cv2.LINE_AA,
        )
        cv2.imshow(title, drawn)


def main(argv=None) -> int:
    options, ranks = arguments(argv), own_ranks()
    if ranks.size > 1:
        set_threads(ranks.threads)
    files = find_files(options.files)
    jobs = list(zip([file for file, _ in files], result_paths(files, options.out)))[
        ranks.rank :: ranks.size
    ]
    weights = options.weights or default_weights(options.variant)
    predictor = HandPredictor(
        weights,
        options.variant,
        options.prototxt,
        options.gpu,
        options.levels,
        options.threshold,
        options.seed,
        engine=options.engine,
    )
    if not predictor.engine.has_pose:
        raise UserError(
            "the net has no pose stage: it finds no keypoints; give a net that has one (`mcc_caffe.evaluate` takes both)"
        )
    used = describe(weights)
    if ranks.rank == 0:
        known = ", ".join(f"{name} {value}" for name, value in used.items() if value is not None)
        print(f"weights: {known}; engine: {predictor.engine.name}")
    errors = []

    def pass_over(error: Exception) -> str:
        if len(files) == 1:
            raise error
        errors.append(error)
        return f"passed over: {error}"

    infer_images(
        predictor,
        [job for job in jobs if not is_video(job[0])],
        used,
        options.heatmaps,
        pass_over,
        bar=ranks.rank == 0,
    )
    predictor.levels = options.levels or LIVE_LEVELS
    for source, path in (job for job in jobs if is_video(job[0])):
        try:
            infer_video(predictor, source, path, used, bar=ranks.rank == 0)
        except UnreadableError as error:
            tqdm.write(pass_over(error))
    if options.camera is not None:
        show_camera(predictor, options.camera)
    unreadable = ranks.gather(len(errors))
    ranks.finish()
    if ranks.rank == 0 and sum(unreadable):
        raise UserError(
            f"{sum(unreadable)} of {len(files)} files could not be read (named above); the others are done"
        )


if __name__ == "__main__":
    run_command(main)
