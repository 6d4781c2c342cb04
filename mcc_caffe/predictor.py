"""HandPredictor: an image in, the hand's mask and 21 keypoints out (3.2, 3.3).

    predictor = HandPredictor()         # with the weights that come with the package
    pose = predictor.predict(cv2.imread("hand.jpg"))
    pose.keypoints          # (21, 3): x, y in image pixels, confidence
"""
import time
from dataclasses import dataclass
from typing import Optional

import cv2
import numpy as np

from mcc_caffe.augmentation import network_input
from mcc_caffe.engines import open_engine
from mcc_caffe.errors import UserError
from mcc_caffe.files import shipped
from mcc_caffe.geometry import apply, compose, invert, letterbox, pyramid_windows, to_cells, translation
from mcc_caffe.heatmaps import decode
from mcc_caffe.paper import CONFIDENCE_THRESHOLD, HEATMAPS, KEYPOINTS
from mcc_caffe.weights import shipped_weights


@dataclass(frozen=True)
class HandPose:
    """What was found in one image of W x H pixels.

    keypoints: (21, 3) float64 of x, y in image pixels and confidence, the heatmap's maximum (about 0 to 1). present: (21,)
    bool, confidence above the threshold. mask: (H, W) float32, probability of hand, or None (net without mask stage).
    heatmaps: (22, m, m) float32, the maximum over the pyramid (background: the minimum), in the letterboxed frame of the
    whole image; frame_to_image: 2x3 map from that frame to the image. levels: of the pyramid. timings: seconds.
    keypoints, present and heatmaps are None of a net without pose stage, which looks at one level.
    """

    keypoints: Optional[np.ndarray]
    present: Optional[np.ndarray]
    mask: Optional[np.ndarray]
    heatmaps: Optional[np.ndarray]
    frame_to_image: np.ndarray
    levels: int
    timings: dict

    def mask_box(self, threshold: float = 0.5) -> Optional[tuple]:
        """(x, y, width, height) of the mask's bounding box in image pixels; None where there is no mask or it is empty."""
        hand = None if self.mask is None else self.mask > threshold
        if hand is None or not hand.any():
            return None
        return tuple(int(side) for side in cv2.boundingRect(hand.astype(np.uint8)))


class HandPredictor:
    """Finds the hand of an image.

    weights: caffemodel or packed weights, None for those that come with the package. variant: "mini" or "paper", or prototxt: a
    deploy net of yours. gpu: id, None for the CPU. levels: at most so many pyramid levels, 1 for a single pass, None for the
    paper's. threshold: confidence that makes a keypoint present. seed: of the pyramid's crops, the same for every image. batch:
    levels sent through the net at a time. engine: "caffe" or "mnn", None for the fastest that is there and agrees
    with Caffe (`mcc_caffe.engines`). Construct one and use it for many images; it is not thread-safe.
    """

    def __init__(self, weights=None, variant: str = "mini", prototxt=None, gpu: int = None, levels: int = None,
                 threshold: float = CONFIDENCE_THRESHOLD, seed: int = 0, batch: int = 8, engine: str = None):
        weights = weights or shipped_weights(variant)
        if weights is None:
            raise UserError(f"no weights of the variant {variant} come with the package: give a caffemodel, which `make train VARIANT={variant}` makes")
        self.engine = open_engine(prototxt or shipped(f"prototxt/{variant}/deploy.prototxt"), weights, gpu, engine)
        self.levels, self.threshold, self.seed, self.batch = levels, threshold, seed, batch

    def predict(self, image: np.ndarray) -> HandPose:
        """The pose of the hand in `image`, HxWx3 uint8 BGR of any size."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise UserError(f"the image is {image.dtype} of shape {image.shape}: HxWx3 uint8 BGR is needed")
        start = time.perf_counter()
        size, (height, width) = self.engine.input_size, image.shape[:2]
        levels = self.levels if self.engine.has_pose else 1
        windows = pyramid_windows(width, height, np.random.default_rng(self.seed), levels)
        to_input = np.stack([window_map(window, size) for window in windows])
        mask, heatmaps, net_seconds = self._forward(image, to_input)
        keypoints = None if heatmaps is None else best_keypoints(heatmaps, windows, size)
        pose = HandPose(
            keypoints=keypoints,
            present=None if keypoints is None else keypoints[:, 2] > self.threshold,
            mask=None if mask is None else mask_in_image(mask, to_input[0], (width, height)),
            heatmaps=None if heatmaps is None else aggregate(heatmaps, to_input, size),
            frame_to_image=invert(to_input[0]),
            levels=len(windows),
            timings={"network": net_seconds},
        )
        pose.timings["total"] = time.perf_counter() - start
        return pose

    def _forward(self, image: np.ndarray, to_input: np.ndarray) -> tuple:
        """(the first level's mask, all levels' heatmaps, seconds spent in the net)."""
        mask, heatmaps, seconds = None, [], 0.0
        for first in range(0, len(to_input), self.batch):
            inputs = np.stack([network_input(image, one, self.engine.input_size) for one in to_input[first : first + self.batch]])
            start = time.perf_counter()
            masks, maps = self.engine(inputs)
            seconds += time.perf_counter() - start
            heatmaps.append(maps)
            if first == 0 and masks is not None:
                mask = masks[0]
        return mask, None if heatmaps[0] is None else np.concatenate(heatmaps), seconds


def window_map(window: np.ndarray, size: int) -> np.ndarray:
    """Map of image pixels to the network input for a pyramid window (x, y, width, height), letterboxed."""
    x, y, width, height = window
    return compose(translation(-x, -y), letterbox(width, height, size))


def best_keypoints(heatmaps: np.ndarray, windows: np.ndarray, size: int) -> np.ndarray:
    """Keypoints (21, 3) in image pixels from the heatmaps (L, 22, S, S) of the L windows: each from the level where it is surest.

    The maximum over the levels' maps (3.3) has its maximum where the surest level has its own, so that each level is
    decoded at its own resolution and only the winners are mapped back. The letterbox's empty part is not looked at.
    """
    to_input = [window_map(window, size) for window in windows]
    contents = [tuple(np.floor(apply(one, window[:2] + window[2:] - 1)).astype(int) + 1) for one, window in zip(to_input, windows)]
    levels = np.stack([decode(maps, content) for maps, content in zip(heatmaps, contents)])
    best = levels[:, :, 2].argmax(axis=0)
    keypoints = levels[best, np.arange(KEYPOINTS)]
    for k, level in enumerate(best):
        keypoints[k, :2] = apply(invert(to_input[level]), keypoints[k, :2])
    return keypoints


def aggregate(heatmaps: np.ndarray, to_input: np.ndarray, size: int) -> np.ndarray:
    """(22, size, size): the levels' maps, each drawn at its place in the first level's frame, by maximum (3.3).

    The background map is the least sure one instead: where some level sees a hand there is no background.
    """
    result = None
    for maps, one in zip(heatmaps, to_input):
        cells_to_frame = compose(invert(compose(one, to_cells())), to_input[0])
        drawn = [cv2.warpAffine(channel, cells_to_frame, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT,
                                borderValue=float(place == HEATMAPS - 1)) for place, channel in enumerate(maps)]
        drawn = np.stack(drawn)
        if result is None:
            result = drawn
        else:
            np.maximum(result[:-1], drawn[:-1], out=result[:-1])
            np.minimum(result[-1], drawn[-1], out=result[-1])
    return result


def mask_in_image(mask: np.ndarray, to_input: np.ndarray, image_size: tuple) -> np.ndarray:
    """(H, W) float32 probability in the image from the (S, S) mask of the whole image."""
    cells_to_image = invert(compose(to_input, to_cells()))
    drawn = cv2.warpAffine(mask, cells_to_image, tuple(map(int, image_size)), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.clip(drawn, 0, 1)
