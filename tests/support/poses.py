"""Poses made of keypoints and a mask, without a net."""

import numpy as np

from mcc_caffe.inference.hand_pose import HandPose
from mcc_caffe.inference.pyramid import MaskCells, window_map
from mcc_caffe.paper import MINI


def make_pose(image: np.ndarray, keypoints: np.ndarray, mask_cells: np.ndarray) -> HandPose:
    """Make a pose of one level that looks at all of an image; its heatmaps are 0.

    Args:
        image: HxWx3.
        keypoints: 21 x 3, in image pixels; those of a confidence above 0.2 are present.
        mask_cells: 16 x 16, the hand's probability in each cell of the input.
    """
    size = image.shape[1::-1]
    image_to_input = window_map((0, 0, *size), MINI.input_size)
    return HandPose(
        keypoints,
        keypoints[:, 2] > 0.2,
        size,
        MINI.input_size,
        (MaskCells(mask_cells, image_to_input),),
        np.zeros((1, 22, 16, 16), np.float32),
        image_to_input[None],
        {},
    )
