"""Measures the search for every hand of a picture, and what is said where there is no hand.

    python -m mcc_caffe.evaluate_scenes scenes.json
    python -m mcc_caffe.evaluate_scenes scenes.json --without-hands photographs/

scenes.json is a COCO file of pictures with boxes around their hands. A hand is found where the box
around its keypoints, enlarged by 8 % on each side, overlaps a drawn box by an IoU of 0.5; each box
is found once. Pictures without hands are looked at in every way that there is: in a single pass,
with two and with four looks, in the paper's pyramid, and by the search. Prints Markdown tables.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcc_caffe.caffe_io.snapshots import default_weights
from mcc_caffe.core.commands import command_parser, progress_bar, run_command
from mcc_caffe.core.errors import UserError
from mcc_caffe.evaluation.scene_scores import (
    FalseAnswers,
    SceneAnswer,
    SceneNumbers,
    match_hands,
    summarise_false_answers,
    summarise_scenes,
)
from mcc_caffe.inference.engines.base import Engine, StageMaps
from mcc_caffe.inference.input_files import IMAGE_SUFFIXES, read_image
from mcc_caffe.inference.scene_files import Scene, read_scenes
from mcc_caffe.inference.scenes import SCORE_THRESHOLD
from mcc_caffe.paper import VARIANTS
from mcc_caffe.predictor import HandPredictor

# (name, levels, looks) of each way to find the one hand of a picture.
_WAYS = (
    ("single pass", 1, None),
    ("two looks", None, 2),
    ("four looks", None, 4),
    ("the paper's pyramid", None, None),
)


class CountingEngine:
    """An engine that counts the passes, in passes of one input of the predictor's size."""

    def __init__(self, engine: Engine, input_size: int):
        self._engine, self._area, self.passes = engine, input_size**2, 0.0
        self.name, self.input_size = engine.name, engine.input_size
        self.has_mask, self.has_pose = engine.has_mask, engine.has_pose

    def __call__(self, batch: np.ndarray) -> StageMaps:
        """Run the net on a batch; see `base.Engine`."""
        self.passes += batch.shape[0] * batch.shape[2] * batch.shape[3] / self._area
        return self._engine(batch)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("scenes", nargs="?", type=Path, metavar="SCENES", help="COCO file of boxes around hands")
    add(
        "--without-hands",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="pictures without hands, or folders of such",
    )
    add("--weights", type=Path, metavar="FILE", help="weights (default: as mcc_caffe.infer)")
    add("--variant", choices=VARIANTS, default="mini", help="size of the network (default: mini)")
    add("--gpu", type=int, metavar="ID", help="GPU to use (default: the CPU)")
    add(
        "--score",
        type=float,
        default=SCORE_THRESHOLD,
        metavar="S",
        help="mean confidence of the 21 keypoints from which it is a hand (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    if not options.scenes and not options.without_hands:
        parser.error("give a COCO file of scenes, or --without-hands")
    return options


def search_scene(predictor: HandPredictor, scene: Scene, score_threshold: float) -> SceneAnswer:
    """Search one scene and compare what is found with the drawn boxes."""
    image = read_image(scene.path)
    counting = CountingEngine(predictor.engine, predictor.input_size)
    engine, predictor.engine = predictor.engine, counting
    start = time.perf_counter()
    hands = predictor.predict_all(image, score_threshold=score_threshold)
    seconds = time.perf_counter() - start
    predictor.engine = engine
    keypoints = [hand.keypoints for hand in hands if hand.keypoints is not None]
    is_found, is_right = match_hands(keypoints, scene.boxes)
    return SceneAnswer(
        is_found=is_found,
        sizes=(scene.boxes[:, 2:] - scene.boxes[:, :2]).max(axis=1, initial=0) / image.shape[1],
        is_right=is_right,
        scores=np.array([points[:, 2].mean() for points in keypoints]),
        passes=counting.passes,
        seconds=seconds,
    )


def scenes_table(numbers: SceneNumbers, passes: float, seconds: float) -> str:
    """Return the numbers of the scenes as a Markdown table."""
    sizes = [
        f"{_share(recall)} of {count}"
        for recall, count in zip(numbers.recall_by_size, numbers.count_by_size)
    ]
    cells = [
        _share(numbers.recall),
        _share(numbers.precision),
        _share(numbers.average_precision),
        *sizes,
        f"{passes:.1f}",
        f"{seconds:.2f}",
    ]
    return "\n".join(
        [
            "| recall | precision | AP | below .1 | .1 to .2 | .2 to .4 | above .4 | passes | s |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            f"| {' | '.join(cells)} |",
        ]
    )


def false_answers_table(rows: dict[str, FalseAnswers], score_threshold: float) -> str:
    """Return what is said of pictures without hands as a Markdown table."""
    lines = [
        "| way | keypoints present | pictures with any | score: half below | 95 % below | highest "
        f"| score from {score_threshold:g} |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        scores = " | ".join(f"{score:.3f}" for score in row.scores)
        lines.append(
            f"| {name} | {row.keypoint_share:.2%} | {row.picture_share:.1%} | {scores} "
            f"| {row.hand_share:.1%} |"
        )
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _find_images(paths: Sequence[Path]) -> list[Path]:
    """Return the image files that the paths name."""
    images: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(
                file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES
            )
            if not found:
                raise UserError(f"--without-hands {path}: no image in this folder")
            images += found
        elif path.is_file():
            images.append(path)
        else:
            raise UserError(f"--without-hands {path}: no such file or folder")
    return images


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    scenes = read_scenes(options.scenes) if options.scenes else []
    images = _find_images(options.without_hands)
    predictor = HandPredictor(
        options.weights or default_weights(options.variant), options.variant, gpu=options.gpu
    )
    if scenes:
        answers = [
            search_scene(predictor, scene, options.score)
            for scene in progress_bar(scenes, unit="img")
        ]
        print(f"{len(scenes)} pictures, hands by their share of the picture's width, means:\n")
        print(
            scenes_table(
                summarise_scenes(answers),
                float(np.mean([answer.passes for answer in answers])),
                float(np.mean([answer.seconds for answer in answers])),
            )
        )
    if images:
        confidences: dict[str, list[np.ndarray]] = {name: [] for name, _, _ in _WAYS}
        hand_counts = []
        for path in progress_bar(images, unit="img"):
            image = read_image(path)
            for name, predictor.levels, predictor.looks in _WAYS:
                keypoints = predictor.predict(image).keypoints
                if keypoints is None:
                    raise UserError("the net has no pose stage: give a net that has one")
                confidences[name].append(keypoints[:, 2])
            hand_counts.append(len(predictor.predict_all(image, score_threshold=options.score)))
        rows = {
            name: summarise_false_answers(np.stack(values), predictor.threshold, options.score)
            for name, values in confidences.items()
        }
        print(f"\n{len(images)} pictures without hands:\n")
        print(false_answers_table(rows, options.score))
        print(
            f"\nThe search finds hands in {np.mean(np.array(hand_counts) > 0):.1%} of them, "
            f"{sum(hand_counts)} in all."
        )


if __name__ == "__main__":
    run_command(main)
