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
cannot be read are named, left out and counted there. Boxes that lie outside their image or have a
side of 0 are left out, and a warning counts them.
"""

import argparse
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
from mcc_caffe.evaluation.presence_runner import Presence, measure_presence
from mcc_caffe.evaluation.scene_runner import compare_results, match_results, search_scenes
from mcc_caffe.evaluation.scene_scores import PresenceNumbers, SceneNumbers, summarise_scenes
from mcc_caffe.inference.engines import add_engine_options
from mcc_caffe.inference.engines.base import title_of
from mcc_caffe.inference.input_files import UnreadableError, find_files, read_image
from mcc_caffe.inference.scene_files import (
    Scene,
    drop_boxes_without_pixels,
    have_box,
    read_labelled_scenes,
)
from mcc_caffe.inference.scenes import SCORE_THRESHOLD
from mcc_caffe.predictor import HandPredictor

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
        "(the mean confidence of its 21 keypoints) and the box head's votes, -1.2 to 4; in the "
        "other ways, and without a box head, the score alone (default: %(default)s)",
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


def presence_text(presence: Presence, score_threshold: float) -> str:
    """Return that table, and a sentence on the search."""
    return (
        f"{presence_table(presence.ways, score_threshold)}\n\n"
        f"The search finds hands in {np.mean(np.array(presence.hand_counts) > 0):.1%} of them, "
        f"{sum(presence.hand_counts)} in all."
    )


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
    """Images that the options name.

    Attributes:
        scenes: Images with boxes around their hands.
        without_hands: Images without hands.
        hands: Labelled hands.
    """

    scenes: list[Scene]
    without_hands: list[Path]
    hands: list[Entry]

    @property
    def total_count(self) -> int:
        """The number of all images."""
        return len(self.scenes) + len(self.without_hands) + len(self.hands)


def _read_hand(entry: Entry) -> np.ndarray:
    """Read the image of a labelled hand; SampleError, which names its set, where that fails."""
    try:
        return entry.sample().image()
    except SampleError as error:
        raise SampleError(
            f"{entry.location}: {sets.strip_location(error, entry.location)}"
        ) from None


def _list_images(options: argparse.Namespace) -> _Images:
    """List the images that the options name, without reading them."""
    scenes = read_labelled_scenes(options.scenes) if options.scenes else []
    _check_images(options.scenes, scenes)
    without_hands = _find_images(options.without_hands)
    upright = options.orientation == sets.UPRIGHT
    hands = [
        entry
        for folder in options.with_hands
        for entry in sets.held_out_entries(folder, upright=upright)
    ]
    return _Images(scenes, without_hands, hands)


def _select_readable(listed: _Images) -> _Images:
    """Read all images first, since an unreadable one would end the work after minutes.

    Returns:
        Those that can be read, without the boxes of scenes that have no pixel of their image.

    Raises:
        UserError: No image of a list can be read, or no scene has a box in it.
    """
    readable = _keep_readable(listed.scenes, Scene.read_upright_image)
    scenes = drop_boxes_without_pixels(readable, [scene.read_size() for scene in readable])
    if scenes and not have_box(scenes):
        raise UserError(f"none of the {len(scenes)} images of scenes has a box in it: give others")
    return _Images(
        scenes,
        _keep_readable(listed.without_hands, read_image),
        _keep_readable(listed.hands, _read_hand),
    )


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
    listed = _list_images(options)
    other_results = [match_results(path, listed.scenes) for path in options.predictions]
    predictors = _open_predictors(options, weights_paths)
    images = _select_readable(listed)
    unreadable_count = listed.total_count - images.total_count
    other_answers = [compare_results(images.scenes, results) for results in other_results]
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
            print(f"{presence_text(presence, options.score)}\n")
    models += [
        {"name": name, "predictions": str(path)}
        for name, path in zip(names[len(predictors) :], options.predictions)
    ]
    if images.scenes:
        own_answers = [
            search_scenes(predictor, images.scenes, options.score) for predictor in predictors
        ]
        numbers = [summarise_scenes(answers) for answers in [*own_answers, *other_answers]]
        for model, model_numbers in zip(models, numbers):
            model["scenes"] = model_numbers._asdict()
        count = len(images.scenes)
        print(f"{count} images, hands by their share of the image's width, means:\n")
        print(scenes_table(dict(zip(names, numbers))))
    results = {
        "score_threshold": options.score,
        "scenes": str(options.scenes) if options.scenes else None,
        "images_of_scenes": len(images.scenes),
        "images_without_hands": len(images.without_hands),
        "unreadable_images": unreadable_count,
        "labelled_hands": len(images.hands),
        "models": models,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / RESULTS, to_json(results))
    _log.info("%s", options.out / RESULTS)
    if unreadable_count:
        raise UserError(
            f"{unreadable_count} of {listed.total_count} images could not be read "
            "(named above); the others are measured"
        )


if __name__ == "__main__":
    run_command(main)
