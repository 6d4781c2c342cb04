"""Looks: single passes over parts of an image, as they are, turned or mirrored.

looker = Looker(image, size, run)
(answer,) = look_in_all_directions(looker, [Look(window)])
look = upright_look(answer.keypoints, SECOND_LOOK_FACTOR, looker.image_size)
answer = fuse_answers(looker.look([look, look.mirror(width)]))

A look at a square around the hand shows it larger than the first pass over the whole image did, and
upright. The mean confidence of its keypoints says how sure the net is of it. One of several looks
decides; each keypoint of the answer is averaged over the looks that agree with it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.geometry import (
    apply,
    apply_to_boxes,
    compose,
    invert,
    mirror_affine,
    rotation_about_centre,
    to_cells,
)
from mcc_caffe.core.hand import ENOUGH_KEYPOINTS, pointing_angle
from mcc_caffe.core.hand_boxes import box_iou
from mcc_caffe.core.heatmaps import decode_smoothed
from mcc_caffe.inference.engines.base import StageMaps
from mcc_caffe.inference.pyramid import MaskCells, Octaves, window_map
from mcc_caffe.paper import CONFIDENCE_THRESHOLD

# The side of the square of a second look, in sides of the box around the first look's keypoints.
# The net was trained on squares of 1.1 to 2.6 sides.
SECOND_LOOK_FACTOR = 1.7
# The net is sure of an answer whose keypoints have at least this mean confidence.
_SURE_SCORE = 0.65
_OTHER_DIRECTIONS = (90.0, 180.0, 270.0)  # degrees
# A square was drawn for the right box if its IoU with the answer's own box is at least this.
_STEADY_OVERLAP = 0.85
# How much lower than the first look's the score of the squares' answer may be.
_MOST_DOUBT = 0.2
# How far the hand's mask may reach beyond the square, in sides of it on each of the four sides.
_MASK_MARGIN = 0.125
# Looks agree on a keypoint within so much of the longer side of the best answer's box.
_AGREEMENT = 0.15
# Two looks are at the same hand if they agree on at least this share of the keypoints.
_MIN_AGREEING_SHARE = 0.5
_SMALLEST_SIDE = 8  # pixels, of a square
_LEAST_CONFIDENCE = 1e-3  # as a weight; up-sampled maps can be negative everywhere
_DIGITS = 6  # of a pixel; what is smaller is rounding, which differs in a mirrored image


class Look(NamedTuple):
    """A part of an image to pass through the net.

    Attributes:
        window: (4,) of x, y, width, height in pixels of the image, which is mirrored and turned
            before. What lies outside of the image is grey.
        mirrored: Whether the net sees the mirror image.
        turn: The angle by which the net sees the image turned about its centre, degrees
            counter-clockwise.
    """

    window: np.ndarray
    mirrored: bool = False
    turn: float = 0.0

    def mirror(self, width: int) -> "Look":
        """Return the look at the mirror image of an image of `width` pixels that shows the same."""
        x, y, window_width, window_height = self.window
        window = np.array([width - x - window_width, y, window_width, window_height])
        return Look(window, not self.mirrored, -self.turn)

    def turned(self, angle: float, image_size: tuple[int, int]) -> "Look":
        """Return the look at the same part of an image of a size, turned further by an angle.

        Args:
            angle: A multiple of 90 degrees, counter-clockwise.
            image_size: (W, H) in pixels.
        """
        first, size = self.window[:2], self.window[2:]
        turning = rotation_about_centre(angle, image_size)
        (box,) = apply_to_boxes(turning, np.concatenate([first, first + size - 1])[None])
        left, top, right, bottom = np.round(box, _DIGITS)
        window = np.array([left, top, right - left + 1, bottom - top + 1])
        return Look(window, self.mirrored, self.turn + angle)

    def image_to_input(self, image_size: tuple[int, int], size: int) -> np.ndarray:
        """Return the affine map (2, 3) of image pixels, mirrored before, to pixels of the input.

        Args:
            image_size: (W, H) in pixels.
            size: m, the side of the net's input in pixels.
        """
        turned = rotation_about_centre(self.turn, image_size)
        return compose(turned, window_map(self.window, size))


class LookAnswer(NamedTuple):
    """What the net says in one look; S = m / 8 for an input of m x m pixels.

    Attributes:
        keypoints: (21, 3) float64 of x, y in pixels of the image and confidence.
        masks: The mask of the look, and of those that agree with it; () without a mask head.
        heatmaps: (22, S, S) float32.
        image_to_input: (2, 3) float64, the affine map of image pixels to pixels of the input. It
            mirrors where the look does.
        box: (4,) of left, top, right, bottom in pixels of the image, where a search's box head
            found the hand; None where nothing but the keypoints says where it is.
    """

    keypoints: np.ndarray
    masks: tuple[MaskCells, ...]
    heatmaps: np.ndarray
    image_to_input: np.ndarray
    box: np.ndarray | None = None

    @property
    def score(self) -> float:
        """The mean confidence of the 21 keypoints."""
        return float(self.keypoints[:, 2].mean())


class Looker:
    """Looks at parts of one image.

    Attributes:
        image_size: (W, H) of the image in pixels.
        size: m, the side of the net's input in pixels.
    """

    def __init__(self, image: np.ndarray, size: int, run: Callable[[np.ndarray], StageMaps]):
        """Prepare the looks.

        Args:
            image: HxWx3 uint8 BGR.
            size: m, the side of the net's input in pixels.
            run: Runs the net on a batch (N, 3, m, m) for any N, as an engine does.
        """
        self.image_size = image.shape[1], image.shape[0]
        self.size, self._run = size, run
        self._octaves = {False: Octaves(image)}

    def look(self, looks: Sequence[Look]) -> list[LookAnswer]:
        """Take looks, which go through the net together.

        Args:
            looks: The looks; where there is none, the net does not run.

        Returns:
            The answers, in the order of the looks.

        Raises:
            UserError: The net's heatmaps are not finite.
        """
        if not looks:
            return []
        width, height = self.image_size
        image_to_inputs = [look.image_to_input(self.image_size, self.size) for look in looks]
        inputs = np.empty((len(looks), 3, self.size, self.size), np.float32)
        for look, image_to_input, network_input in zip(looks, image_to_inputs, inputs):
            octaves = self.octaves(mirrored=look.mirrored)
            octaves.network_input(image_to_input, self.size, out=network_input)
        maps = self._run(inputs)
        masks, heatmaps = maps.masks, maps.heatmaps
        assert heatmaps is not None  # callers look with nets that have a pose stage
        answers = []
        for index, (look, image_to_input) in enumerate(zip(looks, image_to_inputs)):
            content = _content(image_to_input, self.image_size, self.size)
            keypoints = decode_smoothed(heatmaps[index], content)
            if look.mirrored:
                image_to_input = compose(mirror_affine(width), image_to_input)
            # An image of one pixel's height may lie between two pixels of the input.
            points = apply(invert(image_to_input), keypoints[:, :2])
            keypoints[:, :2] = points.clip(0, (width - 1, height - 1))
            # Copies, so that one answer does not hold the maps of all in memory.
            own_masks = () if masks is None else (MaskCells(masks[index].copy(), image_to_input),)
            answers.append(LookAnswer(keypoints, own_masks, heatmaps[index].copy(), image_to_input))
        return answers

    def octaves(self, *, mirrored: bool = False) -> Octaves:
        """Return the octaves of the image, or of its mirror image."""
        if mirrored not in self._octaves:
            mirror_image = cv2.flip(self._octaves[False].image, 1)
            self._octaves[mirrored] = Octaves(mirror_image)
        return self._octaves[mirrored]


def look_several_times(looker: Looker, count: int) -> LookAnswer:
    """Look at an image 1, 2 or 4 times, at times more often, and return the answer.

    One look passes the whole image through the net. Two looks pass an upright square around the
    first answer's keypoints, too. Four looks turn the whole image into four directions unless the
    net is sure of the first one, and pass the square both as it is and mirrored.

    The squares show the hand larger than the whole image does, and upright. So the most confident
    of them decides, and the first look joins in where it agrees. Where the hand lies elsewhere than
    the square was drawn for, a square around the new keypoints is passed as well, and the first
    look does not join in. Where the net is far less sure of the squares than of the first look,
    that look decides. Where the first look joins in, its mask counts only in the square and near
    it.

    Where fewer than 6 of the first keypoints are confident, there is no square: in an image
    without a hand it would only find more that resembles one.

    Args:
        looker: The Looker of the image.
        count: 1, 2 or 4.

    Raises:
        UserError: The net's heatmaps are not finite.
    """
    look_first = look_in_all_directions if count == 4 else Looker.look
    (first,) = look_first(looker, [Look(np.array([0, 0, *looker.image_size], float))])
    if count == 1 or (first.keypoints[:, 2] > CONFIDENCE_THRESHOLD).sum() < ENOUGH_KEYPOINTS:
        return first

    def look_closely(keypoints: np.ndarray) -> list[LookAnswer]:
        look = upright_look(keypoints, SECOND_LOOK_FACTOR, looker.image_size)
        return looker.look([look, look.mirror(looker.image_size[0])] if count == 4 else [look])

    crops = look_closely(first.keypoints)
    keypoints = fuse_answers(crops).keypoints
    is_missed = box_iou(keypoints_box(first.keypoints), keypoints_box(keypoints)) < _STEADY_OVERLAP
    if is_missed:
        crops += look_closely(keypoints)
    best = most_confident(crops)
    if best.score < first.score - _MOST_DOUBT:
        return fuse_answers([*crops, first], first)
    if is_missed:
        return fuse_answers(crops)
    return fuse_answers([*crops, with_masks_near(first, best)], best)


def look_in_all_directions(looker: Looker, looks: Sequence[Look]) -> list[LookAnswer]:
    """Take looks; where the net is not sure of an answer, look in the other directions, too.

    Args:
        looker: The Looker of the image.
        looks: The looks.

    Returns:
        The most confident answer to each look, or to the same turned by 90, 180 or 270 degrees.

    Raises:
        UserError: The net's heatmaps are not finite.
    """
    answers = looker.look(looks)
    unsure = [index for index, answer in enumerate(answers) if answer.score < _SURE_SCORE]
    turned_looks = [
        looks[index].turned(angle, looker.image_size)
        for index in unsure
        for angle in _OTHER_DIRECTIONS
    ]
    turned_answers = looker.look(turned_looks)
    count = len(_OTHER_DIRECTIONS)
    for number, index in enumerate(unsure):
        others = turned_answers[number * count : (number + 1) * count]
        answers[index] = most_confident([answers[index], *others])
    return answers


def fuse_answers(answers: Sequence[LookAnswer], best: LookAnswer | None = None) -> LookAnswer:
    """Return the best answer with what other answers say of the same hand.

    A keypoint becomes the mean, weighted by confidence, of the answers that have it within 0.15 of
    the hand's longer side of the best one's. Its confidence stays that of the best answer. The
    masks are those of the answers that agree on half of the keypoints or more.

    Args:
        answers: The answers of looks at one hand.
        best: The one of these that decides which hand is meant; None for the most confident.
    """
    best = best or most_confident(answers)
    if len(answers) == 1:
        return best
    keypoints = np.stack([answer.keypoints for answer in answers])
    distances = np.linalg.norm(keypoints[..., :2] - best.keypoints[:, :2], axis=2)
    agrees = distances <= _AGREEMENT * longer_side(best.keypoints)
    weights = (agrees * keypoints[..., 2].clip(_LEAST_CONFIDENCE))[..., None]
    points, total = (weights * keypoints[..., :2]).sum(axis=0), weights.sum(axis=0)
    others = [
        mask
        for answer, share in zip(answers, agrees.mean(axis=1))
        if answer is not best and share >= _MIN_AGREEING_SHARE
        for mask in answer.masks
    ]
    return best._replace(
        keypoints=np.column_stack([points / total, best.keypoints[:, 2]]),
        masks=(*best.masks, *others),
    )


def with_masks_near(answer: LookAnswer, crop: LookAnswer) -> LookAnswer:
    """Return an answer with masks that are 0 further than a margin from the square of a crop."""
    masks = []
    for cells, image_to_input in answer.masks:
        side = len(cells)
        centres = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
        to_crop = compose(invert(compose(image_to_input, to_cells())), crop.image_to_input)
        in_crop = apply(compose(to_crop, to_cells()), centres)
        margin = _MASK_MARGIN * side
        is_near = ((in_crop >= -margin) & (in_crop <= side - 1 + margin)).all(axis=1)
        masks.append(MaskCells(cells * is_near.reshape(cells.shape), image_to_input))
    return answer._replace(masks=tuple(masks))


def most_confident(answers: Sequence[LookAnswer]) -> LookAnswer:
    """Return the answer with the highest score, of equal ones the first."""
    return max(answers, key=lambda answer: answer.score)


def keypoints_box(keypoints: np.ndarray) -> np.ndarray:
    """Return the box around the confident keypoints, or around all where few are confident.

    Args:
        keypoints: (21, 3) of x, y and confidence.

    Returns:
        (4,) float64 of left, top, right, bottom.
    """
    confident = keypoints[keypoints[:, 2] > CONFIDENCE_THRESHOLD, :2]
    points = confident if len(confident) >= ENOUGH_KEYPOINTS else keypoints[:, :2]
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def longer_side(keypoints: np.ndarray) -> float:
    """Return the longer side of `keypoints_box` in pixels, at least 1."""
    left, top, right, bottom = keypoints_box(keypoints)
    return float(max(right - left, bottom - top, 1.0))


def upright_look(keypoints: np.ndarray, factor: float, image_size: tuple[int, int]) -> Look:
    """Return the look at a square around a hand that is turned to point up.

    The hand is turned where the net is confident of its wrist and of at least one finger's knuckle.

    Args:
        keypoints: (21, 3) of x, y in pixels and confidence.
        factor: The square's side in the longer sides of the turned keypoints' box.
        image_size: (W, H) in pixels.
    """
    # Whole degrees, as the live page has them (serving/static/live/following.js).
    turn = round(pointing_angle(keypoints, keypoints[:, 2] > CONFIDENCE_THRESHOLD) or 0.0)
    turned = keypoints.copy()
    turned[:, :2] = apply(rotation_about_centre(turn, image_size), keypoints[:, :2])
    return Look(square_window(keypoints_box(turned), factor), turn=turn)


def square_window(box: np.ndarray, factor: float) -> np.ndarray:
    """Return the square window with the centre of a box.

    The corners of the box are first moved outwards to whole pixels. So the window of a mirrored
    box is exactly the mirrored window.

    Args:
        box: (4,) of left, top, right, bottom.
        factor: The square's side in the box's longer sides.

    Returns:
        (4,) float64 of x, y, width, height, in multiples of half a pixel.
    """
    box = np.round(box, _DIGITS)
    first, last = np.floor(box[:2]), np.ceil(box[2:])
    side = max(np.ceil(np.round(factor * (last - first).max(), _DIGITS)), _SMALLEST_SIDE)
    return np.concatenate([(first + last + 1 - side) / 2, [side, side]])


def _content(
    image_to_input: np.ndarray, image_size: tuple[int, int], size: int
) -> tuple[int, int, int, int]:
    """Return x, y, width, height of the box around what an input shows of the image."""
    width, height = image_size
    (box,) = apply_to_boxes(image_to_input, np.array([[0, 0, width - 1, height - 1]]))
    box = np.round(box, _DIGITS)
    first = np.ceil(box[:2]).clip(0, size - 1).astype(int)
    last = np.floor(box[2:]).clip(first, size - 1).astype(int)
    (x, y), (width, height) = first.tolist(), (last - first + 1).tolist()
    return x, y, width, height
