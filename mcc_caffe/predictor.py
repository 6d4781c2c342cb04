"""HandPredictor: an image in, the hand's mask and 21 keypoints out (3.2, 3.3).

predictor = HandPredictor()         # with the weights that come with the package
pose = predictor.predict(cv2.imread("hand.jpg"))
pose.keypoints          # (21, 3): x, y in image pixels, confidence
"""

import time
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from mcc_caffe.caffe_io.weights import describe, shipped_weights
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.files import shipped
from mcc_caffe.core.geometry import apply, invert, pyramid_windows
from mcc_caffe.core.heatmaps import surest
from mcc_caffe.inference.engines import DEFAULT_ENGINE, open_engine
from mcc_caffe.inference.pyramid import Pyramid, aggregate, mask_in_image
from mcc_caffe.paper import CONFIDENCE_THRESHOLD


@dataclass(frozen=True)
class HandPose:
    """What was found in one image of W x H pixels.

    keypoints: (21, 3) float64 of x, y in image pixels and confidence, the heatmap's maximum (about 0 to 1). present: (21,)
    bool, confidence above the threshold. timings: seconds. What the net said: mask_cells (S, S) float32, the first level's mask,
    and level_heatmaps (L, 22, S, S) float32 of the L pyramid levels, whose inputs are m x m, to_input (L, 2, 3) being their maps
    from the image. `mask` and `heatmaps` are drawn from these when first asked for.

    Of a net without mask stage mask_cells and mask are None; of one without pose stage, which looks at one level, keypoints,
    present and both heatmaps.
    """

    keypoints: np.ndarray | None
    present: np.ndarray | None
    image_size: tuple  # (W, H)
    input_size: int  # m
    mask_cells: np.ndarray | None
    level_heatmaps: np.ndarray | None
    to_input: np.ndarray
    timings: dict

    @cached_property
    def mask(self) -> np.ndarray | None:
        """(H, W) float32, probability of hand."""
        return (
            None
            if self.mask_cells is None
            else mask_in_image(self.mask_cells, self.to_input[0], self.image_size)
        )

    @cached_property
    def heatmaps(self) -> np.ndarray | None:
        """(22, m, m) float32, the maximum over the pyramid (background: the minimum), in the letterboxed frame of the whole image."""
        return (
            None
            if self.level_heatmaps is None
            else aggregate(self.level_heatmaps, self.to_input, self.input_size)
        )

    @property
    def frame_to_image(self) -> np.ndarray:
        """2x3 map from the heatmaps' frame to the image."""
        return invert(self.to_input[0])

    @property
    def levels(self) -> int:
        """Of the pyramid."""
        return len(self.to_input)

    def mask_box(self, threshold: float = 0.5) -> tuple | None:
        """(x, y, width, height) of the mask's bounding box in image pixels; None where there is no mask or it is empty."""
        hand = None if self.mask is None else self.mask > threshold
        if hand is None or not hand.any():
            return None
        return tuple(int(side) for side in cv2.boundingRect(hand.view(np.uint8)))


class HandPredictor:
    """Finds the hand of an image.

    weights: caffemodel or packed weights, None for those that come with the package. variant: "mini" or "paper", or prototxt: a
    deploy net of yours. gpu: id, None for the CPU. levels: at most so many pyramid levels, 1 for a single pass, None for the
    paper's. threshold: confidence that makes a keypoint present. seed: of the pyramid's crops, the same for every image. batch:
    levels sent through the net at a time; fewer take less memory (paper variant on Caffe: about 290 MiB each). engine: what
    runs the net, one of `mcc_caffe.inference.engines.ENGINES`. Construct one and use it for many images; it is not thread-safe. input_size: m, pixels, of the deploy net or, where packed weights name another at which they find more, theirs.
    """

    def __init__(
        self,
        weights=None,
        variant: str = "mini",
        prototxt=None,
        gpu: int = None,
        levels: int = None,
        threshold: float = CONFIDENCE_THRESHOLD,
        seed: int = 0,
        batch: int = 8,
        engine: str = DEFAULT_ENGINE,
    ):
        weights = weights or shipped_weights(variant)
        if weights is None:
            raise UserError(
                f"no weights of the variant {variant} come with the package: give a caffemodel, "
                f"which `make train VARIANT={variant}` makes"
            )
        self.engine = open_engine(
            prototxt or shipped(f"prototxt/{variant}/deploy.prototxt"), weights, gpu, engine
        )
        self.input_size = describe(weights).get("input_size") or self.engine.input_size
        self.levels, self.threshold, self.seed, self.batch = levels, threshold, seed, batch

    def predict(self, image: np.ndarray) -> HandPose:
        """The pose of the hand in `image`, HxWx3 uint8 BGR of any size."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise UserError(
                f"the image is {image.dtype} of shape {image.shape}: HxWx3 uint8 BGR is needed"
            )
        start = time.perf_counter()
        height, width = image.shape[:2]
        windows = pyramid_windows(
            width,
            height,
            np.random.default_rng(self.seed),
            self.levels if self.engine.has_pose else 1,
        )
        pyramid = Pyramid(image, windows, self.input_size)
        mask, heatmaps, net_seconds = self._forward(pyramid)
        keypoints = None if heatmaps is None else best_keypoints(heatmaps, pyramid)
        return HandPose(
            keypoints=keypoints,
            present=None if keypoints is None else keypoints[:, 2] > self.threshold,
            image_size=(width, height),
            input_size=pyramid.size,
            mask_cells=mask,
            level_heatmaps=heatmaps,
            to_input=pyramid.to_input,
            timings={"network": net_seconds, "total": time.perf_counter() - start},
        )

    def _forward(self, pyramid: Pyramid) -> tuple:
        """(the first level's mask, all levels' heatmaps, seconds spent in the net)."""
        levels, seconds, masks, heatmaps = len(pyramid.windows), 0.0, [], []
        inputs = np.empty((min(self.batch, levels), 3, pyramid.size, pyramid.size), np.float32)
        for first in range(0, levels, len(inputs)):
            batch = inputs[: levels - first]
            for place, one in enumerate(batch):
                pyramid.network_input(first + place, out=one)
            start = time.perf_counter()
            for part, whole in zip(self.engine(batch), (masks, heatmaps)):
                whole.append(part)
            seconds += time.perf_counter() - start
        return (
            None if masks[0] is None else masks[0][0],
            None if heatmaps[0] is None else np.concatenate(heatmaps),
            seconds,
        )


def best_keypoints(heatmaps: np.ndarray, pyramid: Pyramid) -> np.ndarray:
    """Keypoints (21, 3) in image pixels from the heatmaps (L, 22, S, S) of the pyramid's levels: each from the level where it is surest.

    The maximum over the levels' maps (3.3) has its maximum where the surest level has its own, so that each level is
    decoded at its own resolution and only the winners are mapped back. The letterbox's empty part is not looked at.
    """
    keypoints, levels = surest(heatmaps, pyramid.contents())
    for keypoint, level in zip(keypoints, levels):
        keypoint[:2] = apply(invert(pyramid.to_input[level]), keypoint[:2])
    return keypoints
