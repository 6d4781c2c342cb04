"""Measures the search for every hand of an image, and what is said where there is no hand.

    python -m mcc_caffe.evaluate_scenes scenes.json --predictions other_system.json
    python -m mcc_caffe.evaluate_scenes --without-hands photographs/ --with-hands data/lmdb

scenes.json is a COCO file of images with boxes around their hands. A hand is found where its box
overlaps a drawn box by an IoU of 0.5; each box is found once. A hand's box is the one that the
search found, or that a file of results says, or, without any, the box around the keypoints,
enlarged by 8 % on each side. Where the file labels keypoints, hands are matched by COCO's object
keypoint similarity (OKS), too. Passes are counted in single passes of the whole net, by
multiply-adds. Another system's hands are measured beside ours if they are in a format that
`mcc_caffe.infer` writes.

Images without hands are looked at in every way that there is: in a single pass, with two and with
four looks, in the paper's pyramid, and by the search. Each keypoint and each hand that is called
present there is a false positive.
In sets of labelled hands, as `mcc_caffe.evaluate` takes them, the true keypoints that are lost are
counted; of a set with several splits those for validation or test are taken.

Prints Markdown tables, and writes every number to results.json in the folder DIR. Images that
cannot be read are named, left out and counted there.
"""

import argparse
import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from data_tools import sets
from data_tools.readers.base import Entry
from mcc_caffe.caffe_io.default_weights import default_weights
from mcc_caffe.caffe_io.precision import warn_of_rounding
from mcc_caffe.core.commands import (
    add_variant_option,
    command_parser,
    finite_number,
    progress_bar,
    run_command,
)
from mcc_caffe.core.errors import SampleError, UserError
from mcc_caffe.core.files import write_atomically
from mcc_caffe.core.markdown import markdown_table, number_cell
from mcc_caffe.core.output_checks import check_folder, check_own_results, check_target
from mcc_caffe.evaluation.evaluation_report import RESULTS, to_json
from mcc_caffe.evaluation.model_names import check_names, short_names
from mcc_caffe.evaluation.scene_runner import compare_file, search_scenes
from mcc_caffe.evaluation.scene_scores import (
    PresenceNumbers,
    SceneNumbers,
    summarise_presence,
    summarise_scenes,
)
from mcc_caffe.inference.engines import add_engine_options
from mcc_caffe.inference.engines.base import title_of
from mcc_caffe.inference.input_files import UnreadableError, find_files, read_image
from mcc_caffe.inference.scene_files import Scene, read_labelled_scenes
from mcc_caffe.inference.scenes import SCORE_THRESHOLD
from mcc_caffe.paper import PAPER_LEVELS
from mcc_caffe.predictor import HandPose, HandPredictor

# (name, levels, looks) of each way to find the one hand of an image.
_WAYS = (
    ("single pass", 1, None),
    ("two looks", None, 2),
    ("four looks", None, 4),
    ("the paper's pyramid", PAPER_LEVELS, None),
)

_Image = TypeVar("_Image", Scene, Path, Entry)

_log = logging.getLogger(__name__)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options."""
    parser = command_parser(__doc__)
    _add_image_arguments(parser)
    _add_network_arguments(parser)
    options = parser.parse_args(argv)
    _check_options(parser, options)
    return options


def _add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the images, and other systems' hands in them."""
    add = parser.add_argument
    add("scenes", nargs="?", type=Path, metavar="SCENES", help="COCO file of boxes around hands")
    add(
        "--without-hands",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="images without hands, or folders of such",
    )
    add(
        "--with-hands",
        nargs="+",
        type=Path,
        default=[],
        metavar="SET",
        help="with --without-hands: sets of labelled hands, to count the keypoints that are lost",
    )
    sets.add_orientation_argument(parser)
    add(
        "--predictions",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="with SCENES: files or folders of other systems' hands",
    )


def _add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the networks, of what counts as a hand, and of the results' folder."""
    add = parser.add_argument
    add(
        "--weights",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="caffemodels or packed weights (default: as mcc_caffe.infer)",
    )
    add_variant_option(parser, "size of the networks")
    add(
        "--out",
        type=Path,
        default=Path("out/scenes"),
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
    )
    add_engine_options(parser)
    add(
        "--score",
        type=finite_number,
        default=SCORE_THRESHOLD,
        metavar="S",
        help="from which number on an answer is a hand: in a search, the sum of the hand's score "
        "(the mean confidence of its 21 keypoints) and the box head's votes, -4 to 4; in the other "
        "ways, and without a box head, the score alone (default: %(default)s)",
    )


def _check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the command with a message where options do not go together."""
    if not options.scenes and not options.without_hands:
        parser.error("give a COCO file of scenes, or --without-hands")
    if options.predictions and not options.scenes:
        parser.error("--predictions goes with a COCO file of scenes")
    if options.with_hands and not options.without_hands:
        parser.error("--with-hands goes with --without-hands")
    if options.orientation != sets.STORED and not options.with_hands:
        parser.error("--orientation goes with --with-hands: boxes refer to the upright image")


def scenes_table(systems: Mapping[str, SceneNumbers]) -> str:
    """Return a Markdown table of what each system found in the same scenes."""
    rows = []
    for name, numbers in systems.items():
        sizes = [
            f"{number_cell(recall, 3)} of {count}"
            for recall, count in zip(numbers.recall_by_size, numbers.count_by_size)
        ]
        row = {
            "": name,
            "recall": number_cell(numbers.recall, 3),
            "precision": number_cell(numbers.precision, 3),
            "AP": number_cell(numbers.average_precision, 3),
            **dict(zip(("below .1", ".1 to .2", ".2 to .4", "above .4"), sizes)),
            "AP by OKS": number_cell(numbers.keypoint_precision, 3),
            "at .5": number_cell(numbers.loose_keypoint_precision, 3),
            "passes": number_cell(numbers.passes, 1),
            "s": number_cell(numbers.seconds, 2),
        }
        rows.append(row)
    return markdown_table(list(rows[0]), [list(row.values()) for row in rows])


def presence_table(rows: dict[str, PresenceNumbers], score_threshold: float) -> str:
    """Return what is said of images without and with a hand as a Markdown table."""
    columns = [
        "way",
        "keypoints present",
        "images with any",
        "score: half below",
        "95 % below",
        "highest",
        f"score from {score_threshold:g}",
        "true keypoints lost",
    ]
    lines = [
        [
            name,
            f"{row.false_share:.2%}",
            f"{row.image_share:.1%}",
            *(f"{score:.3f}" for score in row.scores),
            f"{row.hand_share:.1%}",
            "-" if row.lost_share is None else f"{row.lost_share:.2%}",
        ]
        for name, row in rows.items()
    ]
    return markdown_table(columns, lines)


def _find_images(paths: Sequence[Path]) -> list[Path]:
    """Return the image files that the paths name, and say what is left out."""
    try:
        files, passed_over = find_files([str(path) for path in paths]) if paths else ([], "")
    except UserError as error:
        raise UserError(f"--without-hands {error}") from None
    videos = [file.path for file in files if file.is_video]
    if videos:
        raise UserError(f"--without-hands {videos[0]}: a video; give images")
    if str(passed_over):
        _log.info("passed over: %s", passed_over)
    return [file.path for file in files]


class _WayAnswers(NamedTuple):
    """The poses that one way finds in images without and with a hand.

    Attributes:
        confidences, is_present: (21,) of each image without a hand.
        is_labelled_present: (K,) for the K labelled keypoints of each image with a hand.
    """

    confidences: list[np.ndarray]
    is_present: list[np.ndarray]
    is_labelled_present: list[np.ndarray]


class Presence(NamedTuple):
    """What a network says of images without and with a hand.

    Attributes:
        ways: {name of the way: its numbers}.
        hand_counts: How many hands the search finds in each image without a hand.
    """

    ways: dict[str, PresenceNumbers]
    hand_counts: list[int]

    def text(self, score_threshold: float) -> str:
        """Return a Markdown table and a sentence on the search."""
        return (
            f"{presence_table(self.ways, score_threshold)}\n\n"
            f"The search finds hands in {np.mean(np.array(self.hand_counts) > 0):.1%} of them, "
            f"{sum(self.hand_counts)} in all."
        )

    def results(self) -> dict[str, Any]:
        """Return what results.json says of it."""
        return {
            "ways": {name: way._asdict() for name, way in self.ways.items()},
            "hands_of_search": sum(self.hand_counts),
        }


def measure_presence(
    predictor: HandPredictor, images: Sequence[Path], entries: Sequence[Entry], score: float
) -> Presence:
    """Look at images in every way.

    Args:
        predictor: Finds the hands; a copy of it takes each way.
        images: Images without a hand.
        entries: Labelled hands.
        score: From which an answer is a hand.
    """
    predictor.require_pose()
    answers = {name: _WayAnswers([], [], []) for name, _, _ in _WAYS}
    predictors = {name: copy.copy(predictor) for name in answers}
    for name, levels, looks in _WAYS:
        predictors[name].levels, predictors[name].looks = levels, looks

    def poses(image: np.ndarray) -> list[tuple[_WayAnswers, HandPose]]:
        return [(answers[name], predictors[name].predict(image)) for name in answers]

    hand_counts = []
    for path in progress_bar(images, unit="img"):
        image = read_image(path)
        for way, pose in poses(image):
            assert pose.keypoints is not None and pose.present is not None
            way.confidences.append(pose.keypoints[:, 2])
            way.is_present.append(pose.present)
        hand_counts.append(len(predictor.predict_all(image, score_threshold=score)))
    for entry in progress_bar(entries, unit="img", disable=not entries):
        sample = entry.sample()
        for way, pose in poses(sample.image()):
            assert pose.present is not None
            way.is_labelled_present.append(pose.present[sample.keypoints[:, 2] > 0])
    rows = {
        name: summarise_presence(
            np.stack(way.confidences),
            np.stack(way.is_present),
            score,
            np.concatenate(way.is_labelled_present) if entries else None,
        )
        for name, way in answers.items()
    }
    return Presence(rows, hand_counts)


def _check_images(path: Path, scenes: Sequence[Scene]) -> None:
    """Raise a UserError where an image of the scenes is missing, before the work begins."""
    missing = [scene.path for scene in scenes if not scene.path.is_file()]
    if missing:
        raise UserError(
            f"{path} lists {missing[0]}, which is not there ({len(missing)} of {len(scenes)} "
            "images are missing): put it there, or take it out of the file"
        )


def _keep_readable(images: Sequence[_Image], read: Callable[[_Image], Any]) -> list[_Image]:
    """Return the images that can be read, and name the others in warnings.

    Raises:
        UserError: None can be read.
    """
    readable = []
    for image in progress_bar(images, desc="reading", unit="img", delay=2, leave=False):
        try:
            read(image)
        except (SampleError, UnreadableError) as error:
            _log.warning("left out: %s", error)
        else:
            readable.append(image)
    if images and not readable:
        raise UserError(f"none of the {len(images)} images can be read: give others")
    return readable


class _Images(NamedTuple):
    """The images that the options name.

    Attributes:
        scenes: Images with boxes around their hands.
        readable_scenes: Those of them that can be read.
        without_hands: Images without hands that can be read.
        hands: Labelled hands whose images can be read.
        total_count: The number of all images, also of those that cannot be read.
    """

    scenes: list[Scene]
    readable_scenes: list[Scene]
    without_hands: list[Path]
    hands: list[Entry]
    total_count: int

    @property
    def unreadable_count(self) -> int:
        """The number of images that cannot be read."""
        readable_count = len(self.readable_scenes) + len(self.without_hands) + len(self.hands)
        return self.total_count - readable_count


def _read_hand(entry: Entry) -> np.ndarray:
    """Read the image of a labelled hand; SampleError, which names its set, where that fails."""
    try:
        return entry.sample().image()
    except SampleError as error:
        raise SampleError(
            f"{entry.location}: {sets.strip_location(error, entry.location)}"
        ) from None


def _open_images(options: argparse.Namespace) -> _Images:
    """Open all images before the work: what is wrong would end it after minutes."""
    scenes = read_labelled_scenes(options.scenes) if options.scenes else []
    _check_images(options.scenes, scenes)
    readable_scenes = _keep_readable(scenes, Scene.read_upright_image)
    listed_images = _find_images(options.without_hands)
    without_hands = _keep_readable(listed_images, read_image)
    upright = options.orientation == sets.UPRIGHT
    entries = [
        entry
        for folder in options.with_hands
        for entry in sets.held_out_entries(folder, upright=upright)
    ]
    hands = _keep_readable(entries, _read_hand)
    total_count = len(scenes) + len(listed_images) + len(entries)
    return _Images(scenes, readable_scenes, without_hands, hands, total_count)


def _check_out(options: argparse.Namespace, weights_paths: Sequence[Path]) -> None:
    """Check that the results can be written, and replace no file of the user's and no input.

    Raises:
        UserError: They cannot, or would.
    """
    check_folder(options.out)
    inputs = [*weights_paths, *options.predictions, *filter(None, [options.scenes])]
    check_target(options.out / RESULTS, inputs)
    check_own_results(options.out, [RESULTS], own=RESULTS, mark='"score_threshold": ')


def _open_predictors(
    options: argparse.Namespace, weights_paths: Sequence[Path]
) -> list[HandPredictor]:
    """Open the network of each file of weights, as the options say."""
    predictors = [
        HandPredictor(
            path,
            options.variant,
            gpu=options.gpu,
            engine=options.engine,
            precision=options.precision,
        )
        for path in weights_paths
    ]
    warn_of_rounding(predictors[0].engine.precision)
    return predictors


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parse_arguments(argv)
    weights_paths = options.weights or [default_weights(options.variant)]
    names = [*short_names(weights_paths), *short_names(options.predictions)]
    check_names(names)
    _check_out(options, weights_paths)
    images = _open_images(options)
    predictors = _open_predictors(options, weights_paths)
    other_answers = [
        compare_file(path, images.scenes, images.readable_scenes) for path in options.predictions
    ]
    models: list[dict[str, Any]] = [
        {"name": name, "weights": predictor.weights_info, "engine": title_of(predictor.engine)}
        for name, predictor in zip(names, predictors)
    ]
    if images.without_hands:
        for model, predictor in zip(models, predictors):
            presence = measure_presence(
                predictor, images.without_hands, images.hands, options.score
            )
            model.update(presence.results())
            print(f"{model['name']}, {len(images.without_hands)} images without hands:\n")
            print(f"{presence.text(options.score)}\n")
    models += [
        {"name": name, "predictions": str(path)}
        for name, path in zip(names[len(predictors) :], options.predictions)
    ]
    if images.scenes:
        own_answers = [
            search_scenes(predictor, images.readable_scenes, options.score)
            for predictor in predictors
        ]
        numbers = [summarise_scenes(answers) for answers in [*own_answers, *other_answers]]
        for model, model_numbers in zip(models, numbers):
            model["scenes"] = model_numbers._asdict()
        count = len(images.readable_scenes)
        print(f"{count} images, hands by their share of the image's width, means:\n")
        print(scenes_table(dict(zip(names, numbers))))
    results = {
        "score_threshold": options.score,
        "scenes": str(options.scenes) if options.scenes else None,
        "images_of_scenes": len(images.readable_scenes),
        "images_without_hands": len(images.without_hands),
        "unreadable_images": images.unreadable_count,
        "labelled_hands": len(images.hands),
        "models": models,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / RESULTS, to_json(results))
    _log.info("%s", options.out / RESULTS)
    if images.unreadable_count:
        raise UserError(
            f"{images.unreadable_count} of {images.total_count} images could not be read "
            "(named above); the others are measured"
        )


if __name__ == "__main__":
    run_command(main)
