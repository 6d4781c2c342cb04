"""The pose of a hand in one image: its keypoints, mask, boxes and heatmaps."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from mcc_caffe.core.drawing import draw_over
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.geometry import invert
from mcc_caffe.core.hand import MASK_THRESHOLD
from mcc_caffe.core.images import check_image
from mcc_caffe.inference.looks import keypoints_box
from mcc_caffe.inference.pyramid import MaskCells, aggregate, mask_in_image
from mcc_caffe.inference.reports import PYRAMID, SINGLE_PASS


class Box(NamedTuple):
    """A rectangle in image pixels; x, y is its left-top corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, eq=False)  # arrays have no single truth of being equal
class HandPose:
    """The hand's pose in one image of W x H pixels, from L pyramid levels with maps of S x S cells.

    `mask` and `heatmaps` are computed when they are first read, and kept. Without a mask head in
    the net, `masks` is () and `mask` None. Without pose stages only one level is looked at, and
    `keypoints`, `present`, `level_heatmaps` and `heatmaps` are None.

    Attributes:
        keypoints: (21, 3) float64 of x, y in image pixels and confidence. The confidence is the
            height of the keypoint's heatmap, about 0 to 1.
        present: (21,) bool, whether the confidence is above the predictor's threshold, in an image
            that shows a hand by `shows_hand` (`inference.presence`).
        image_size: (W, H), pixels.
        input_size: m, the side of the network's input in pixels; S = m / 8.
        masks: The masks to draw: the first level's, or those of the looks that agree, first that
            of the look that decided.
        level_heatmaps: (L, 22, S, S) float32, the heatmaps of all levels, or of the look that
            decided, as the net gives them: 21 keypoints and the background.
        image_to_input: (L, 2, 3) float64, each level's affine map of image pixels to pixels of its
            m x m input. Where looks gave the answer, it is that of the look that decided, which may
            turn and mirror.
        timings: Seconds. "network" is the time in the net, "total" that of the call to `predict`.
        detected_box: (4,) of left, top, right, bottom in pixels, where a search's box head found
            the hand; None where nothing but the keypoints says where it is.
        looks: 1, 2 or 4, how many looks gave the answer; None where anything else did.
        shows_hand: Whether score and bones say that the image shows a hand, and in a pyramid the
            masks of its levels, too. True after a search, in a box of the user's, while a hand is
            followed and with weights without minimum scores, however low the score is; None
            without pose stages.
        method: What gave the answer: "single pass", "looks", "pyramid", "search", "boxes" of the
            user's or "tracking". A single pass is one look (`looks` is 1) or, with the paper's
            decoding, one level (`levels` is 1).
    """

    keypoints: np.ndarray | None
    present: np.ndarray | None
    image_size: tuple[int, int]
    input_size: int
    masks: tuple[MaskCells, ...] = field(repr=False)
    level_heatmaps: np.ndarray | None = field(repr=False)
    image_to_input: np.ndarray = field(repr=False)
    timings: dict[str, float]
    detected_box: np.ndarray | None = None
    looks: int | None = None
    shows_hand: bool | None = None
    method: str = SINGLE_PASS

    @cached_property
    def mask(self) -> np.ndarray | None:
        """The mask at the image's size, (H, W) float32: the probability of hand, 0 to 1."""
        return mask_in_image(self.masks, self.image_size) if self.masks else None

    def _without_caching(self) -> "HandPose":
        """Return a copy, whose mask is freed with it, or this pose where its mask is cached."""
        return self if "mask" in vars(self) else replace(self)

    def hand_pixels(self, threshold: float = MASK_THRESHOLD) -> np.ndarray | None:
        """Return which pixels are the hand's: where the mask is above `threshold`.

        Unlike `mask` it is not kept, so that the many hands of a large image take little memory.

        Args:
            threshold: Probability of hand, 0 to 1.

        Returns:
            (H, W) bool, or None where there is no mask.
        """
        mask = self._without_caching().mask
        return None if mask is None else mask > threshold

    @cached_property
    def heatmaps(self) -> np.ndarray | None:
        """The heatmaps, (22, m, m) float32, whose frame `frame_to_image` maps to the image.

        They are those of the look that decided, which may show a part of the image, turned or
        mirrored. Of a pyramid they are the maximum over its levels, and for the background the
        minimum (section 3.3); the frame is then the letterboxed image.
        """
        if self.level_heatmaps is None:
            return None
        return aggregate(self.level_heatmaps, self.image_to_input, self.input_size)

    @property
    def frame_to_image(self) -> np.ndarray:
        """The affine map (2, 3) from pixels of `heatmaps` to image pixels."""
        return invert(self.image_to_input[0])

    @property
    def levels(self) -> int | None:
        """The number of pyramid levels that gave the answer, L; None where anything else did."""
        is_of_levels = self.looks is None and self.method in (SINGLE_PASS, PYRAMID)
        return len(self.image_to_input) if is_of_levels else None

    @property
    def score(self) -> float | None:
        """The mean confidence of the 21 keypoints, about 0 to 1: how sure the net is of a hand."""
        return None if self.keypoints is None else float(self.keypoints[:, 2].mean())

    @property
    def hand_present(self) -> bool | None:
        """Whether `shows_hand` is true and a keypoint of the hand is present.

        It is False, too, where a search found a hand without a keypoint above the threshold, and
        None without pose stages.
        """
        if self.present is None:
            return None
        return bool(self.shows_hand) and bool(self.present.any())

    @property
    def box(self) -> Box | None:
        """Where a search's box head found the hand, else the box of the confident keypoints.

        Of fewer than 6 confident keypoints it is the box of all. That of the box head may leave out
        fingertips and the wrist of a large hand. None without pose stages.
        """
        if self.keypoints is None:
            return None
        if self.detected_box is not None:
            # The box head learns x, y, x + width, y + height. Its boxes reach from -0.5 to W - 0.5
            # at most, the image's edges: a half is rounded up, to 0 and W.
            left, top, right, bottom = np.floor(self.detected_box + 0.5).astype(int).tolist()
            return Box(left, top, right - left, bottom - top)
        # Keypoints lie at centres of pixels, and the box has the last pixel, too.
        left, top, right, bottom = keypoints_box(self.keypoints).round().astype(int).tolist()
        return Box(left, top, right - left + 1, bottom - top + 1)

    def mask_box(self, threshold: float = MASK_THRESHOLD) -> Box | None:
        """Return the bounding box of the mask above `threshold`.

        Args:
            threshold: Probability of hand, 0 to 1.

        Returns:
            The box, or None where there is no mask or the mask is empty.
        """
        hand = self.hand_pixels(threshold)
        if hand is None or not hand.any():
            return None
        return Box(*cv2.boundingRect(hand.view(np.uint8)))

    def draw(self, image: np.ndarray) -> np.ndarray:
        """Draw mask and skeleton over the image.

        Nothing is drawn where no keypoint is present. Of a net without pose stages there is the
        mask alone.

        Args:
            image: The image that the pose is of, or a drawing of its other hands: HxWx3 uint8 BGR.

        Returns:
            A new image of the same size.

        Raises:
            UserError: The array is no such image, or is of another size than the pose's image.
        """
        check_image(image)
        if image.shape[1::-1] != self.image_size:
            (width, height), (own_width, own_height) = image.shape[1::-1], self.image_size
            raise UserError(
                f"the image is {width} x {height}, that of the pose {own_width} x {own_height}: "
                "give the image that the pose is of"
            )
        return draw_over(image, self._without_caching())
