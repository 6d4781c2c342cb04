"""Searches scenes for hands, and compares what was found with the hands that people drew."""

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mcc_caffe.caffe_io.onnx_model import count_multiply_adds
from mcc_caffe.core.commands import progress_bar
from mcc_caffe.core.errors import UserError
from mcc_caffe.evaluation.image_keys import (
    Candidate,
    ImagesByName,
    choose_best,
    find_named,
    index_by_name,
)
from mcc_caffe.evaluation.scene_scores import (
    SceneAnswer,
    complete_keypoints,
    enlarged_box,
    find_in_crowds,
    match_hands,
    match_keypoints,
)
from mcc_caffe.inference.engines.base import Engine, StageMaps
from mcc_caffe.inference.formats.base import ReadHand, ReadImage
from mcc_caffe.inference.formats.reading import read_results
from mcc_caffe.inference.looks import keypoints_box
from mcc_caffe.inference.scene_files import Scene
from mcc_caffe.predictor import HandPredictor

_ROUNDING = 2.0  # pixels by which a box of whole pixels may differ from the keypoints' own


class Detection(NamedTuple):
    """A hand that was found in a scene.

    Attributes:
        keypoints: (21, 3) of x, y in pixels and confidence; zeros where there are none.
        score: How sure it is that this is a hand.
        box_ltrb: (4,) of left, top, right, bottom around the hand.
    """

    keypoints: np.ndarray
    score: float
    box_ltrb: np.ndarray


class CountingEngine:
    """An engine that counts its passes, in single passes of a whole net by multiply-adds.

    Attributes:
        passes: The number so far.
    """

    def __init__(
        self, engine: Engine, prototxt: Path, input_size: int, reference_net: Path | None = None
    ):
        """Start to count.

        Args:
            engine: What runs the net.
            prototxt: Its deploy net.
            input_size: The side of the input of a single pass in pixels.
            reference_net: The deploy net whose single passes are counted; None for this one.
        """
        single_pass = count_multiply_adds(reference_net or prototxt) * input_size**2
        self._engine, self._pixel_passes = engine, count_multiply_adds(prototxt) / single_pass
        self.passes = 0.0
        self.name, self.precision = engine.name, engine.precision
        self.input_size = engine.input_size
        self.has_mask, self.has_pose = engine.has_mask, engine.has_pose

    def __call__(self, batch: np.ndarray) -> StageMaps:
        """Run the net on a batch; see `base.Engine`."""
        self.passes += self._pixel_passes * batch.shape[0] * batch.shape[2] * batch.shape[3]
        return self._engine(batch)


def search_scenes(
    predictor: HandPredictor, scenes: Sequence[Scene], score_threshold: float
) -> list[SceneAnswer]:
    """Search scenes and compare what is found with the drawn boxes.

    Args:
        predictor: Finds the hands. Its engines are replaced by ones that count.
        scenes: The images and their hands.
        score_threshold: From which an answer is a hand.
    """
    counters = count_passes(predictor)
    return [
        search_scene(predictor, counters, scene, score_threshold)
        for scene in progress_bar(scenes, unit="img")
    ]


def count_passes(predictor: HandPredictor) -> list[CountingEngine]:
    """Replace a predictor's engines by ones that count their passes, and return these."""
    size, net = predictor.input_size, predictor.prototxt
    predictor.engine = engine = CountingEngine(predictor.engine, net, size)
    if predictor.boxes_engine is None:
        return [engine]
    boxes_engine = CountingEngine(predictor.boxes_engine, predictor.boxes_prototxt, size, net)
    predictor.boxes_engine = boxes_engine
    return [engine, boxes_engine]


def search_scene(
    predictor: HandPredictor,
    counters: Sequence[CountingEngine],
    scene: Scene,
    score_threshold: float,
) -> SceneAnswer:
    """Search one scene and compare what is found with the drawn boxes.

    Args:
        predictor: Finds the hands.
        counters: Its engines.
        scene: The image and its hands.
        score_threshold: As `HandPredictor.predict_all` takes it.

    Raises:
        UserError: The image cannot be read, or the labels are of another size.
    """
    image = scene.read_upright_image()
    before, start = sum(counter.passes for counter in counters), time.perf_counter()
    hands = predictor.predict_all(image, score_threshold=score_threshold)
    seconds = time.perf_counter() - start
    detections = []
    for hand in hands:
        assert hand.keypoints is not None and hand.score is not None  # a search needs a pose stage
        box = enlarged_box(hand.keypoints) if hand.detected_box is None else hand.detected_box
        detections.append(Detection(hand.keypoints, hand.score, box))
    return compare(
        detections,
        scene,
        width=image.shape[1],
        passes=sum(counter.passes for counter in counters) - before,
        seconds=seconds,
    )


def compare(
    detections: Sequence[Detection],
    scene: Scene,
    *,
    width: int,
    passes: float = np.nan,
    seconds: float = np.nan,
) -> SceneAnswer:
    """Compare the hands that were found in a scene with the drawn ones.

    Args:
        detections: The hands that were found, the most confident first.
        scene: The image and its hands.
        width: The image's width in pixels.
        passes: What the search cost, in single passes of the net.
        seconds: What it took.
    """
    boxes = [detection.box_ltrb for detection in detections]
    is_detected, is_right = match_hands(boxes, scene.boxes_ltrb)
    keypoints = [detection.keypoints for detection in detections]
    matches = match_keypoints(keypoints, scene.boxes_ltrb, scene.keypoints)
    in_crowd = find_in_crowds(boxes, scene.crowds_ltrb)
    return SceneAnswer(
        is_detected=is_detected,
        sizes=(scene.boxes_ltrb[:, 2:] - scene.boxes_ltrb[:, :2]).max(axis=1) / width,
        is_right=is_right,
        is_counted=is_right | ~in_crowd,
        scores=np.array([detection.score for detection in detections], float),
        keypoints=matches._replace(is_counted=matches.is_counted & (matches.is_right | ~in_crowd)),
        passes=passes,
        seconds=seconds,
    )


def compare_results(
    scenes: Sequence[Scene], results: Mapping[Path, ReadImage]
) -> list[SceneAnswer]:
    """Compare another system's hands with the drawn ones.

    A hand with neither a keypoint nor a box is none.

    Args:
        scenes: The images, which can be read, and their hands.
        results: {image: its result}, as `match_results` returns them. In an image without a result
            no hand was found.

    Raises:
        UserError: Labels are of another size than their image.
    """
    answers = []
    for scene in scenes:
        result = results.get(scene.path, ReadImage("", True, []))
        hands = [hand for hand in result.hands if hand.has_keypoints or hand.box_ltrb is not None]
        hands.sort(key=lambda hand: -hand.score)
        detections = [_make_detection(hand, is_own=result.is_own) for hand in hands]
        answers.append(compare(detections, scene, width=scene.read_size()[0]))
    return answers


def _make_detection(hand: ReadHand, *, is_own: bool) -> Detection:
    """Return a hand of a file of results as a Detection; `is_own` is as `_choose_box` takes it."""
    keypoints = complete_keypoints(hand.keypoints)
    return Detection(keypoints, hand.score, _choose_box(hand, keypoints, is_own=is_own))


def _choose_box(hand: ReadHand, keypoints: np.ndarray, *, is_own: bool) -> np.ndarray:
    """Return the box of a hand that was read, (4,) of left, top, right, bottom.

    It is the file's. Without any it is the enlarged box around the keypoints. The same holds where
    our own results have the box around the keypoints itself, as where no search found the hand.

    Args:
        hand: The hand.
        keypoints: (21, 3), its completed keypoints.
        is_own: Whether `mcc_caffe.infer` has written it.
    """
    box = hand.box_ltrb
    if box is None or (is_own and np.abs(box - keypoints_box(keypoints)).max() < _ROUNDING):
        return enlarged_box(keypoints)
    return box


def match_results(path: Path, scenes: Sequence[Scene]) -> dict[Path, ReadImage]:
    """Read another system's hands, and find out of which images they are.

    Args:
        path: A file or folder of results in a format that `mcc_caffe.infer` writes.
        scenes: The images; `_count_shared_parts` says how an image is known.

    Returns:
        {image: its result}, without the images that have none.

    Raises:
        UserError: The file cannot be read, the results have none of the images, two results may be
            of one image, or one result with hands may be of two images.
    """
    images_by_name = index_by_name(read_results(path))
    candidates = [_choose_candidate(path, scene, images_by_name) for scene in scenes]
    # {result with hands: {image that it may be of: how alike their paths are}}
    likenesses: dict[str, dict[Path, tuple[int, ...]]] = {}
    for scene, candidate in zip(scenes, candidates):
        if candidate and candidate.image.hands:
            likenesses.setdefault(candidate.image.name, {})[scene.path] = candidate.likeness
    owners = {name: _choose_image(path, name, likenesses[name]) for name in likenesses}
    results = {
        scene.path: candidate.image
        for scene, candidate in zip(scenes, candidates)
        if candidate and owners.get(candidate.image.name, scene.path) == scene.path
    }
    if not results:
        raise UserError(
            f"{path} has none of these images: the names of the files, and of the folders that "
            "both sides name, are to agree"
        )
    return results


def _choose_candidate(path: Path, scene: Scene, images_by_name: ImagesByName) -> Candidate | None:
    """Return the result that is most like a scene's image; None where no result may be its.

    Raises:
        UserError: Two results are equally like it.
    """
    candidates = [
        Candidate((count,), image)
        for image in find_named(scene.path.name, images_by_name)
        if (count := _count_shared_parts(scene, image))
    ]
    best = choose_best(candidates)
    if len(best) > 1:
        raise UserError(
            f"{path} has {best[0].image.name} and {best[1].image.name}, which may both be "
            f"{scene.path}: leave one of them there"
        )
    return best[0] if best else None


def _choose_image(path: Path, name: str, likenesses: dict[Path, tuple[int, ...]]) -> Path:
    """Return the image that a result is most like.

    Args:
        path: The file or folder of results.
        name: The result's.
        likenesses: {image that it may be of: how alike their paths are}, at least one.

    Raises:
        UserError: It is equally like two images.
    """
    highest = max(likenesses.values())
    nearest = [image_path for image_path, likeness in likenesses.items() if likeness == highest]
    if len(nearest) > 1:
        raise UserError(
            f"{path}: {name} may be {nearest[0]} or {nearest[1]}: "
            "name the images with their folders there"
        )
    return nearest[0]


def _count_shared_parts(scene: Scene, image: ReadImage) -> int:
    """Return how many names, from the last one up, a scene's image and a result share.

    The result may be the image's if its path ends in the image's name in the COCO file, or is the
    end of the image's path: folders that both name are the same. Otherwise it is 0.
    """
    scene_name, file_name = (
        _path_parts(path) for path in (os.path.abspath(scene.path), scene.file_name)
    )
    if not image.has_suffix:
        scene_name[-1] = Path(scene_name[-1]).stem
    name = _path_parts(image.name)
    pairs = zip(reversed(scene_name), reversed(name))
    count = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return count if count >= min(len(file_name), len(name)) else 0


def _path_parts(path: str) -> list[str]:
    """Return the names of a path, without those that only lead to a folder above."""
    return [part for part in Path(os.path.normpath(path)).parts if part != os.pardir]
