"""Finds the hand in images.

    python -m mcc_caffe.infer hand.jpg                                # writes hand.png and hand.json to out/
    python -m mcc_caffe.infer photos/ 'more/*.png' --out found --levels 1
    python -m mcc_caffe.infer hand.jpg --weights runs/mini/snapshots/mcc_iter_40000.caffemodel

It runs with the weights that come with the package, unless others are given; the first line and the JSON say which.
For every image: a picture in the style of the paper's Fig. 5 (mask, skeleton, heatmaps) and a JSON file; with --heatmaps
an HDF5 file too. An image's EXIF orientation is applied: pixels are those of the upright picture.
"""
import argparse
import glob
import io
import json
import pathlib

import cv2
import h5py
import numpy as np
from tqdm import tqdm

from mcc_caffe.drawing import draw_pose
from mcc_caffe.engines import ENGINES
from mcc_caffe.errors import UserError, positive, run_command
from mcc_caffe.files import write_whole
from mcc_caffe.hand import NAMES
from mcc_caffe.paper import CONFIDENCE_THRESHOLD, VARIANTS
from mcc_caffe.predictor import HandPose, HandPredictor
from mcc_caffe.run import SNAPSHOTS
from mcc_caffe.snapshots import newest_weights
from mcc_caffe.weights import describe, shipped_weights

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("images", nargs="+", help="image files, folders (searched through) and quoted globs")
    add("--out", type=pathlib.Path, default=pathlib.Path("out"), help="folder for the results (default: out)")
    add("--weights", type=pathlib.Path, help="caffemodel or packed weights (default: those that come with the package or, "
        "for a variant without, the newest of runs/VARIANT)")
    add("--variant", choices=VARIANTS, default="mini", help="size of the network (default: mini)")
    add("--prototxt", type=pathlib.Path, help="deploy net (default: the variant's)")
    add("--gpu", type=int, help="id of the GPU to use (default: the CPU)")
    add("--engine", choices=ENGINES, help="what runs the net (default: the fastest that is there and agrees with Caffe, docs/engines.md)")
    add("--levels", type=positive, help="at most so many pyramid levels; 1: a single pass (default: the paper's pyramid)")
    add("--threshold", type=float, default=CONFIDENCE_THRESHOLD, help="confidence of a keypoint (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the pyramid's random crops (default: 0)")
    add("--heatmaps", action="store_true", help="also write the aggregated heatmaps as HDF5")
    return parser.parse_args(argv)


def find_images(patterns: list) -> list:
    """[(image, path for its results, without suffix)] of files, folders and globs; UserError for one that names nothing."""
    found = {}
    for pattern in patterns:
        path = pathlib.Path(pattern)
        if path.is_dir():
            images = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file())
            root = path
        elif path.is_file():
            images, root = [path], path.parent
        else:
            images = sorted(map(pathlib.Path, glob.glob(pattern, recursive=True)))
            images, root = [one for one in images if one.is_file()], None
        if not images:
            raise UserError(f"{pattern}: no such image, and no folder or glob with images ({', '.join(SUFFIXES)}) in it")
        for image in images:
            found.setdefault(image, image.relative_to(root or image.parent).with_suffix(""))
    return list(found.items())


def result_paths(images: list, out: pathlib.Path) -> list:
    """Paths below `out`, one an image; images of the same name get their suffix, then a number, so that none is lost."""
    taken, paths = set(), []
    for image, relative in images:
        candidate, number = relative, 1
        while str(candidate).lower() in taken:
            candidate = relative.with_name(f"{relative.name}_{image.suffix[1:]}" + (f"_{number}" if number > 1 else ""))
            number += 1
        taken.add(str(candidate).lower())
        paths.append(out / candidate)
    return paths


def read_image(path: pathlib.Path) -> np.ndarray:
    """HxWx3 uint8 BGR of a colour, grey, alpha or 16-bit image file, upright; UserError where it cannot be decoded."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{path}: not a readable image ({data.size} bytes): damaged, of an unknown format, or of more than 2^30 pixels")
    return image


def as_json(pose: HandPose, image: pathlib.Path, size: tuple, weights: dict, engine: str) -> dict:
    """What the JSON file says: keypoints in image pixels, null where missing. weights: as `weights.describe` has them. engine: its name."""
    box = pose.mask_box()
    return {
        "image": str(image), "width": size[0], "height": size[1], "weights": weights, "engine": engine, "levels": pose.levels,
        "keypoints": [
            {"name": name, "x": round(x, 2), "y": round(y, 2), "confidence": round(confidence, 4)} if present else None
            for name, (x, y, confidence), present in zip(NAMES, pose.keypoints.tolist(), pose.present.tolist())
        ],
        "mask_box": None if box is None else dict(zip(("x", "y", "width", "height"), box)),
        "seconds": {name: round(seconds, 4) for name, seconds in pose.timings.items()},
    }


def write_results(pose: HandPose, image: np.ndarray, source: pathlib.Path, path: pathlib.Path, weights: dict, engine: str, heatmaps: bool) -> None:
    """Writes PATH.png, PATH.json and, if asked for, PATH.h5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path.with_name(path.name + ".png"), cv2.imencode(".png", draw_pose(image, pose))[1].tobytes())
    report = as_json(pose, source, image.shape[1::-1], weights, engine)
    write_whole(path.with_name(path.name + ".json"), (json.dumps(report, indent=1) + "\n").encode())
    if heatmaps:
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file.create_dataset("heatmaps", data=pose.heatmaps, compression="gzip").attrs["names"] = [*NAMES, "background"]
            file["frame_to_image"] = pose.frame_to_image
            if pose.mask is not None:
                file.create_dataset("mask", data=pose.mask, compression="gzip")
        write_whole(path.with_name(path.name + ".h5"), content.getvalue())


def trained_weights(variant: str) -> pathlib.Path:
    """The newest weights of runs/VARIANT, for commands that were given none."""
    weights = newest_weights(pathlib.Path("runs", variant, SNAPSHOTS))
    if weights is None:
        raise UserError(f"no weights: train first (`make train VARIANT={variant}`), or give a caffemodel with --weights FILE; "
                        f"runs/{variant}/{SNAPSHOTS} holds none")
    return weights


def default_weights(variant: str) -> pathlib.Path:
    """The weights that come with the package or, of a variant without, the newest of runs/VARIANT."""
    return shipped_weights(variant) or trained_weights(variant)


def main(argv=None) -> int:
    options = arguments(argv)
    images = find_images(options.images)
    weights = options.weights or default_weights(options.variant)
    predictor = HandPredictor(weights, options.variant, options.prototxt, options.gpu, options.levels, options.threshold, options.seed,
                              engine=options.engine)
    if not predictor.engine.has_pose:
        raise UserError("the net has no pose stage: it finds no keypoints; give a net that has one (`mcc_caffe.evaluate` takes both)")
    used, unreadable = describe(weights), 0
    print("weights: " + ", ".join(f"{name} {value}" for name, value in used.items() if value is not None) + f"; engine: {predictor.engine.name}")
    for (source, _), path in tqdm(list(zip(images, result_paths(images, options.out))), unit="img", disable=len(images) == 1):
        try:
            image = read_image(source)
        except (UserError, OSError) as error:
            tqdm.write(f"passed over: {error}")
            unreadable += 1
            continue
        pose = predictor.predict(image)
        write_results(pose, image, source, path, used, predictor.engine.name, options.heatmaps)
        tqdm.write(f"{path}.png, .json: {pose.present.sum()} of {len(NAMES)} keypoints, {pose.timings['total']:.2f} s")
    if unreadable:
        raise UserError(f"{unreadable} of {len(images)} images could not be read (named above); the others are done")


if __name__ == "__main__":
    run_command(main)
