"""HandPredictor takes an image and returns the hand's mask and 21 keypoints (sections 3.2, 3.3).

predictor = HandPredictor()         # with the weights that come with the package
pose = predictor.predict(cv2.imread("hand.jpg"))
pose.keypoints          # (21, 3): x, y in image pixels, confidence
"""

import math
import numbers
import os
import threading
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np

from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.nets import find_deploy_net
from mcc_caffe.caffe_io.weights import describe, file_shapes
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import file_stamp, require_file
from mcc_caffe.core.geometry import pyramid_windows
from mcc_caffe.core.hand import has_plausible_bones
from mcc_caffe.core.hand_boxes import BOXES_BLOB
from mcc_caffe.core.images import check_image
from mcc_caffe.core.keypoint_labels import (
    LARGEST_SHARE,
    are_shares,
    as_real_numbers,
    describe_shares,
)
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.inference.engines import open_engine
from mcc_caffe.inference.engines.base import Engine, is_shipped_net
from mcc_caffe.inference.engines.timed import TimedNetwork
from mcc_caffe.inference.hand_pose import HandPose
from mcc_caffe.inference.looks import LookAnswer, Looker, look_several_times
from mcc_caffe.inference.presence import UNCALIBRATED, Calibration, find_present, read_calibration
from mcc_caffe.inference.pyramid import MaskCells, Pyramid
from mcc_caffe.inference.reports import BOXES, PYRAMID, SEARCH, SEVERAL_LOOKS, SINGLE_PASS
from mcc_caffe.inference.scenes import SCORE_THRESHOLD, find_hands, look_at_boxes
from mcc_caffe.paper import CONFIDENCE_THRESHOLD, PAPER_LEVELS, STRIDE, VARIANTS

# The numbers of looks that HandPredictor can take (see `inference.looks.look_several_times`), and
# the one that it takes unless it is told otherwise: on the larger sets it is more accurate than
# the paper's pyramid, at a sixth to a third of its cost (docs/results.md).
LOOKS = (1, 2, 4)
DEFAULT_LOOKS = 4
_LARGEST_BOX = 1e6  # pixels, side of a box


def choose_look_count(levels: int | str | None, looks: int | None) -> int | None:
    """Return how many looks HandPredictor takes with these options; None for the pyramid."""
    if looks:
        return int(looks)
    return DEFAULT_LOOKS if levels is None else None


def searches_after_looks(
    levels: int | str | None, looks: int | None, calibration: Calibration
) -> bool:
    """Tell whether HandPredictor, with these options, searches where its looks show no hand.

    Weights without a calibration never say that there is none.
    """
    return levels is None and looks is None and calibration != UNCALIBRATED


class HandPredictor:
    """Finds the hand of an image. Construct one and use it for many images.

    Several threads may use it: it takes one image at a time, and the others wait.
    `copy.copy` makes one with options of its own that shares the nets.

    Attributes:
        engine: The engine that runs the net.
        prototxt: The deploy net's file.
        boxes_prototxt: The file of the variant's deploy net of the trunk with the box head.
        variant: The name of the network's size.
        weights_info: What is known of the weights, as `weights.describe` returns it.
        calibration: The scores from which an image shows a hand; they come with the weights.
        input_size: m, the side of the network's input in pixels. A deploy net of your own says it.
            For ours the weights or their run name it, else the net does.
        levels, looks, threshold, seed, batch: The options of the constructor; they may be changed.
        lock: Held while an image is looked at, because all predictions share the net.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        variant: str = "mini",
        *,
        prototxt: str | Path | None = None,
        gpu: int | None = None,
        levels: int | str | None = None,
        looks: int | None = None,
        threshold: float = CONFIDENCE_THRESHOLD,
        seed: int = 0,
        batch: int = 8,
        engine: str | None = None,
        precision: str | None = None,
    ):
        """Open the net with its weights.

        Args:
            weights: A caffemodel or packed weights; None for those that come with the package.
            variant: The size of the network, "mini" or "paper".
            prototxt: A deploy net of your own, which takes inputs whose sides are any multiples of
                8; None for the variant's, or that of the ablation that the weights are of.
            gpu: Id of the GPU; None for the CPU.
            levels: The most pyramid levels to look at; 1 for a single pass with the paper's
                decoding, "paper" for as many as the paper's pyramid has (section 3.3). None for
                looks instead of a pyramid.
            looks: 1, 2 or 4. 1: a single pass. 2: also an upright look at a square crop around its
                keypoints. 4: the image in four directions if the net is unsure of the first, and
                the crop also mirrored (`inference.looks.look_several_times`). None: 4 looks,
                then a search if they show no hand (`predict_all`); with `levels`, no looks.
            threshold: The confidence above which a keypoint is present (section 3.3), about 0 to 1.
                One below 0 asks for every keypoint of every image.
            seed: The seed of the pyramid's random crops, the same for every image.
            batch: The number of levels that go through the net at a time; fewer take less memory
                (the paper variant on Caffe takes about 290 MiB a level).
            engine: What runs the net, "caffe" or "onnx"; None for Caffe where it can be imported,
                else ONNX Runtime.
            precision: What Caffe's convolutions multiply on the CPU, "float32", "bfloat16" or
                "auto" (`caffe_io.precision`); None for what MCC_CAFFE_PRECISION says, else float32.

        Raises:
            UserError: A file is missing or does not fit; there is no such variant, or no weights
                come with it; `levels`, `looks`, `threshold`, `seed`, `batch`, `gpu`, `engine` or
                `precision` is none of these values; both `levels` and `looks` are given; or the
                engine is not installed, or has no such GPU or precision.
        """
        self.levels, self.looks, self.threshold = levels, looks, threshold
        self.seed, self.batch = seed, batch
        self.lock = threading.RLock()
        self._original: HandPredictor | None = None  # whose copy this is
        _PREDICTORS.add(self)
        self.check_options()
        if not isinstance(variant, str) or variant not in VARIANTS:
            raise UserError(f"variant={variant!r}: give one of {', '.join(VARIANTS)}")
        if not (gpu is None or _is_integer(gpu, least=0)):
            raise UserError(
                f"gpu={gpu!r}: give the id of a GPU, a whole number from 0 on, or None for the CPU"
            )
        for name, path in (("weights", weights), ("prototxt", prototxt)):
            if path is not None and not (isinstance(path, (str, os.PathLike)) and str(path)):
                raise UserError(f"{name}={path!r}: give the path of a file, or None for ours")
        if weights is None:
            weights = shipped_weights(variant)
        if weights is None:
            raise UserError(
                f"no weights of the variant {variant} come with the package: give a caffemodel, "
                f"which `make train VARIANT={variant}` makes"
            )
        self.variant = variant
        self._weights, self._gpu = require_file(weights, "weights file").absolute(), gpu
        if prototxt is None:
            prototxt = find_deploy_net(self._weights, variant)
        self.prototxt = Path(prototxt)
        self.boxes_prototxt = require_shipped(f"prototxt/{variant}/deploy_boxes.prototxt")
        self._weights_stamp = file_stamp(self._weights)
        self.engine = open_engine(self.prototxt, weights, gpu, engine, precision)
        self.weights_info = describe(weights)
        # A net of the user's own says the size of its input; ours take that of the weights.
        known_size = self.weights_info.get("input_size") if is_shipped_net(self.prototxt) else None
        self.input_size: int = known_size or self.engine.input_size
        self.calibration = read_calibration(self.weights_info)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a HandPredictor cannot be pickled: make one in each process, such as in the "
            "initializer of a pool"
        )

    def __copy__(self) -> "HandPredictor":
        """Return a predictor with options of its own, which shares the nets and their lock."""
        predictor = object.__new__(type(self))
        vars(predictor).update(vars(self))
        predictor._original = self._original or self
        _PREDICTORS.add(predictor)
        return predictor

    def check_options(self) -> None:
        """Check the options that may be changed; UserError where one has a wrong value."""
        levels, looks, batch, seed = self.levels, self.looks, self.batch, self.seed
        is_paper = isinstance(levels, str) and levels == PAPER_LEVELS
        if not (levels is None or is_paper or _is_integer(levels, least=1)):
            raise UserError(f"levels={levels!r}: give a whole number above 0, or {PAPER_LEVELS!r}")
        if not (looks is None or (_is_integer(looks, least=1) and looks in LOOKS)):
            raise UserError(f"looks={looks!r}: give 1, 2 or 4")
        if not _is_integer(batch, least=1):
            raise UserError(f"batch={batch!r}: give a whole number above 0")
        if not _is_integer(seed, least=0):
            raise UserError(f"seed={seed!r}: give a whole number from 0 on")
        check_finite("threshold", self.threshold)
        if looks is not None and levels is not None:
            raise UserError(
                f"looks={looks} and levels={levels} exclude each other: looks take the place of "
                "the pyramid; give one of the two, and None for the other"
            )

    @property
    def most_levels(self) -> int | None:
        """The most levels of a pyramid; None for no limit. A net without pose stage takes one."""
        if not self.engine.has_pose:
            return 1
        return None if self.levels is None or isinstance(self.levels, str) else int(self.levels)

    @cached_property
    def boxes_engine(self) -> Engine | None:
        """The engine of the trunk with the box head, opened when it is first asked for.

        It is None where the weights have no box head.

        Raises:
            UserError: The weights file is no longer the one that the predictor was made of.
        """
        if self._original is not None:
            return self._original.boxes_engine
        if file_stamp(self._weights) != self._weights_stamp:
            raise UserError(
                f"the weights file {self._weights} was changed, moved or removed before the first "
                "search, which needs more of it: make a new predictor, or start the command again"
            )
        if BOXES_BLOB not in file_shapes(self._weights):
            return None
        name, precision = self.engine.name, self.engine.precision
        return open_engine(self.boxes_prototxt, self._weights, self._gpu, name, precision)

    def predict(self, image: np.ndarray) -> HandPose:
        """Find the hand in an image.

        Args:
            image: HxWx3 uint8 BGR of any size.

        Returns:
            The likeliest pose of a hand, even of an image without a hand: `hand_present` says
            whether the image shows one. By default a search follows where looks show none.

        Raises:
            UserError: The array is no such image, an option was changed to a wrong value, the net's
                heatmaps are not finite, or the weights file was changed before the first search.
        """
        check_image(image)
        with self.lock:
            self.check_options()
            looks = choose_look_count(self.levels, self.looks)
            if looks is None or not self.engine.has_pose:
                return self._predict_levels(image)
            return self._predict_looks(image, looks)

    def open_search(self) -> None:
        """Open now what the first search would open, such as before the weights file may change.

        Raises:
            UserError: The weights file is no longer the one that the predictor was made of.
        """
        with self.lock:
            _ = self.boxes_engine

    def require_pose(self) -> None:
        """Check that the net finds keypoints; UserError where it has no pose stage."""
        if not self.engine.has_pose:
            raise UserError(
                "the net has no pose stage: it finds no keypoints; "
                "give weights of a net that has one"
            )

    def predict_all(
        self,
        image: np.ndarray,
        boxes: np.ndarray | Sequence[Sequence[float]] | None = None,
        *,
        max_hands: int | None = None,
        score_threshold: float = SCORE_THRESHOLD,
    ) -> list[HandPose]:
        """Find every hand in an image, or the hand in each of your boxes.

        Args:
            image: HxWx3 uint8 BGR of any size.
            boxes: (N, 4) of x, y, width, height in pixels, each around one hand; None to search the
                image.
            max_hands: The most hands to search for; None for no limit.
            score_threshold: The least sum of a hand's `score` and the box head's votes for it
                (-1.2 to 4) with which a search keeps the hand. A kept hand's `score` may be lower:
                to filter by confidence, test `score`. Without a box head `score` alone has to
                reach it.

        Returns:
            The hands, each with `score`, `box`, `keypoints` and `mask`. A search returns the most
            confident first, and an empty list if it finds none; a hand that it finds may have no
            keypoint above the threshold (`hand_present`). With `boxes` it is one for each
            box, in their order and whatever its score. Each one's `timings` are those of the whole
            call.

        Raises:
            UserError: The array is no image, a box has no finite width and height above 0 or lies
                outside of the image, all boxes are shares of the image's sides instead of pixels,
                `max_hands` is below 1, `score_threshold` is no finite number, the net has no pose
                stage, an option was changed to a wrong value, the net's heatmaps are not finite, or
                the weights file was changed before the first search.
        """
        check_image(image)
        check_finite("score_threshold", score_threshold)
        self.require_pose()
        if not (max_hands is None or _is_integer(max_hands, least=1)):
            raise UserError(
                f"max_hands={max_hands!r}: give a whole number above 0, or None for no limit"
            )
        with self.lock:
            self.check_options()
            network = self.open_network()
            looker = Looker(image, self.input_size, network)
            if boxes is None:
                answers = self.search(
                    looker, network, score_threshold=score_threshold, max_hands=max_hands
                )
                method = SEARCH
            else:
                answers = look_at_boxes(looker, check_boxes(boxes, *looker.image_size))
                method = BOXES
            timings = network.timings()
            return [
                self.make_pose(answer, looker.image_size, timings, method=method)
                for answer in answers
            ]

    def open_network(self) -> TimedNetwork:
        """Return what runs the net and times it from now on."""
        return TimedNetwork(self.engine, self.batch)

    def search(
        self,
        looker: Looker,
        network: TimedNetwork,
        *,
        score_threshold: float = SCORE_THRESHOLD,
        max_hands: int | None = None,
        known: Sequence[np.ndarray] = (),
    ) -> list[LookAnswer]:
        """Search an image for hands, by the box head where the weights have one.

        The caller holds `lock`.

        Args:
            looker: The Looker of the image.
            network: What `open_network` returned; it times the search, too.
            score_threshold: As `predict_all` takes it.
            max_hands: The most hands to return; None for no limit.
            known: Boxes (4,) of left, top, right, bottom of hands that are known already; there is
                no look at what shows only them.

        Returns:
            The hands, the most confident first.

        Raises:
            UserError: The net's heatmaps are not finite, or the weights file was changed before the
                first search.
        """
        return find_hands(
            looker,
            network,
            network.with_shared_timer(self.boxes_engine),
            score_threshold=score_threshold,
            max_hands=max_hands,
            known=known,
        )

    def _predict_looks(self, image: np.ndarray, looks: int) -> HandPose:
        """Find the hand by looks, or by a search if the user asked for neither looks nor levels."""
        network = self.open_network()
        looker = Looker(image, self.input_size, network)
        answer = look_several_times(looker, looks)
        shows_hand = self._look_shows_hand(answer, looks)
        if not shows_hand and searches_after_looks(self.levels, self.looks, self.calibration):
            # The hand may be too small for looks at the whole image, or there may be several.
            hands = self.search(looker, network, max_hands=1)
            if hands:
                timings = network.timings()
                return self.make_pose(hands[0], looker.image_size, timings, method=SEARCH)
        method = SINGLE_PASS if looks == 1 else SEVERAL_LOOKS
        timings = network.timings()
        return self.make_pose(answer, looker.image_size, timings, looks=looks, method=method)

    def _predict_levels(self, image: np.ndarray) -> HandPose:
        """Find the hand in the image's pyramid."""
        network = self.open_network()
        height, width = image.shape[:2]
        rng = np.random.default_rng(self.seed)
        windows = pyramid_windows(width, height, rng, self.most_levels)
        pyramid = Pyramid(image, windows, self.input_size)
        level_count = len(windows)
        level_masks, level_heatmaps, _ = network(pyramid.inputs())
        keypoints, present, shows_hand = None, None, None
        if level_heatmaps is not None:
            keypoints = pyramid.decode(level_heatmaps)
            shows_hand = self._levels_show_hand(keypoints, level_masks, level_count)
            present = find_present(keypoints, self.threshold, shows_hand=shows_hand)
        masks: tuple[MaskCells, ...] = ()
        if level_masks is not None:
            masks = (MaskCells(level_masks[0], pyramid.image_to_input[0]),)
        return HandPose(
            keypoints=keypoints,
            present=present,
            image_size=(width, height),
            input_size=pyramid.size,
            masks=masks,
            level_heatmaps=level_heatmaps,
            image_to_input=pyramid.image_to_input,
            timings=network.timings(),
            shows_hand=shows_hand,
            method=SINGLE_PASS if level_count == 1 else PYRAMID,
        )

    def _levels_show_hand(
        self, keypoints: np.ndarray, level_masks: np.ndarray | None, level_count: int
    ) -> bool:
        """Tell whether the levels of a pyramid show a hand."""
        least_score = self.calibration.least_pyramid_score(level_count)
        shows_hand = self._is_hand(keypoints, least_score)
        if level_count > 1 and level_masks is not None:
            # A small hand has a mask only in the levels that show it larger.
            shows_hand &= bool(level_masks.max() >= self.calibration.pyramid_mask)
        return shows_hand

    def _look_shows_hand(self, answer: LookAnswer, looks: int) -> bool:
        """Tell whether the (joined) answer of so many looks shows a hand."""
        return self._is_hand(answer.keypoints, self.calibration.least_score(looks))

    def _is_hand(self, keypoints: np.ndarray, least_score: float) -> bool:
        """Tell by score and bones whether an answer is a hand.

        Looks at two hands, and levels of a pyramid, may give fingers of both as one hand, with a
        high score. Weights without a calibration never say that there is no hand.
        """
        return self.calibration == UNCALIBRATED or bool(
            keypoints[:, 2].mean() >= least_score and has_plausible_bones(keypoints)
        )

    def make_pose(
        self,
        answer: LookAnswer,
        image_size: tuple[int, int],
        timings: dict[str, float],
        *,
        method: str,
        looks: int | None = None,
    ) -> HandPose:
        """Make a HandPose of the (joined) answer of one or more looks.

        Args:
            answer: The answer.
            image_size: (W, H) in pixels.
            timings: As HandPose has them.
            method: As HandPose has it.
            looks: How many looks it is the answer of, 1, 2 or 4; None where it is known to be a
                hand, as after a search or in a box of the user's.
        """
        shows_hand = looks is None or self._look_shows_hand(answer, looks)
        return HandPose(
            keypoints=answer.keypoints,
            present=find_present(answer.keypoints, self.threshold, shows_hand=shows_hand),
            image_size=image_size,
            # A tracker's looks have a smaller input than the net's.
            input_size=answer.heatmaps.shape[-1] * STRIDE,
            masks=answer.masks,
            level_heatmaps=answer.heatmaps[None],
            image_to_input=answer.image_to_input[None],
            timings=dict(timings),  # each hand's own: users may add to it
            detected_box=answer.box,
            looks=looks,
            shows_hand=shows_hand,
            method=method,
        )


# A fork copies our locks and those inside the engines as they are, but not the threads that hold
# them and would let them go. It therefore waits until no predictor looks at an image.
_PREDICTORS: weakref.WeakSet[HandPredictor] = weakref.WeakSet()
_FORKING = threading.local()  # has the locks that this thread holds while it forks


def _before_fork() -> None:
    # All threads take them in one order, so that none waits for another in a circle.
    _FORKING.locks = [predictor.lock for predictor in sorted(_PREDICTORS, key=id)]
    for lock in _FORKING.locks:
        lock.acquire()


def _after_fork_in_parent() -> None:
    for lock in _FORKING.locks:
        lock.release()


def _after_fork_in_child() -> None:
    # A predictor and its copies share a lock.
    new_locks = {predictor.lock: threading.RLock() for predictor in _PREDICTORS}
    for predictor in _PREDICTORS:
        predictor.lock = new_locks[predictor.lock]


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)


def _is_integer(value: object, *, least: int) -> bool:
    """Tell whether a value is an integer, Python's or NumPy's, and at least so large."""
    is_bool = isinstance(value, bool)  # an Integral, too
    return isinstance(value, numbers.Integral) and not is_bool and int(value) >= least


def check_finite(name: str, number: float) -> None:
    """Raise a UserError where an argument is no finite number."""
    is_bool = isinstance(number, bool)  # a Real, too
    if is_bool or not (isinstance(number, numbers.Real) and math.isfinite(number)):
        raise UserError(f"{name}={number!r}: give a finite number")


def check_boxes(
    boxes: np.ndarray | Sequence[Sequence[float]], width: int, height: int
) -> np.ndarray:
    """Return boxes as (N, 4) float64, or raise a UserError that names a wrong one."""
    try:
        _check_kinds(boxes)
        array = as_real_numbers(boxes) if len(boxes) else np.zeros((0, 4))
    except (TypeError, ValueError):
        raise UserError(
            f"boxes={str(boxes)[:100]}: give (N, 4) real numbers, x, y, width, height of each box"
        ) from None
    if array.ndim != 2 or array.shape[1] != 4:
        raise UserError(f"boxes have the shape {array.shape}: (N, 4) of x, y, width, height")
    for number, (x, y, box_width, box_height) in enumerate(array.tolist()):
        inside = x < width and y < height and x + box_width > 0 and y + box_height > 0
        if not (0 < box_width < _LARGEST_BOX and 0 < box_height < _LARGEST_BOX and inside):
            raise UserError(
                f"box {number} is x {x:g}, y {y:g}, width {box_width:g}, height {box_height:g}: a "
                f"box with a width and height above 0 and below {_LARGEST_BOX:g} that overlaps the "
                f"image of {width} x {height} pixels is needed"
            )
    boxes_ltrb = np.column_stack([array[:, :2], array[:, :2] + array[:, 2:]])
    if len(boxes_ltrb) and are_shares(boxes_ltrb, LARGEST_SHARE):
        raise UserError(describe_shares("all corners of the boxes", LARGEST_SHARE))
    return array


def _check_kinds(values: np.ndarray | Sequence[Sequence[float]]) -> None:
    """Raise a ValueError where NumPy would make numbers of truth values, text, dates or times."""
    kinds = {np.asarray(value).dtype.kind for value in np.asarray(values, object).flat}
    if (kinds | {np.asarray(values).dtype.kind}) & set("bSUmM"):
        raise ValueError("truth values, text, dates or times")
