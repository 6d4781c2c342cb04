"""Makes weights for our network out of those of OpenPose's hand model.

    python -m mcc_caffe.surgery --openpose pose_iter_102000.caffemodel \\
        --out mcc_from_openpose.caffemodel
    python -m mcc_caffe.train data/lmdb/train --variant paper \\
        --weights mcc_from_openpose.caffemodel

OpenPose's hand model (Simon et al. 2017, [9] in the paper) is the network that the paper modified.
It has our trunk and our stages 2 to 6 under our names, and no mask. The stages differ in their
first layers. Stage t of [9] sees the 22 heatmaps of the stage before it and the 128 channels of F.

- Stages 3 to 6 of our network see the mask's two channels between these. The new weights are zero
  there. Given the same heatmaps, our stages answer as [9]'s do, until training makes use of the
  mask.
- Stage 2 of our network has no heatmaps before it. It takes the weights of the 128 channels. Its
  bias takes in what [9]'s layer adds where no keypoint is near: there the background's heatmap is
  1 and those of the keypoints are 0. Along the border of the image, where the kernel reaches beyond
  the heatmaps, [9] adds less.

The first stage of [9], conv6_1_CPM and conv6_2_CPM, is left out. Our mask head has the name
conv6_2_CPM; it is initialised at random, and so the masks mean nothing before training.

VGG-19 needs no surgery, because weights are loaded by name: `python -m mcc_caffe.train ...
--weights VGG_ILSVRC_19_layers.caffemodel` fills conv1_1 to conv5_2.
"""

import argparse
import logging
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mcc_caffe.caffe_io.precision import FLOAT32, nets_in
from mcc_caffe.caffe_io.pycaffe import import_caffe, require_caffe
from mcc_caffe.caffe_io.weights import (
    Shapes,
    WeightsError,
    net_shapes,
    read_caffemodel,
    same_shapes,
)
from mcc_caffe.core.commands import command_parser, run_command
from mcc_caffe.core.errors import shorten_list
from mcc_caffe.core.files import atomic_write
from mcc_caffe.core.output_checks import check_output
from mcc_caffe.core.shipped_files import require_shipped
from mcc_caffe.paper import (
    BACKGROUND_INDEX,
    HEATMAP_COUNT,
    MASK_CLASSES,
    MASK_SCORES_BLOB,
    PAPER,
    POSE_STAGES,
)

# The first layers of the stages: of stage 2, and of stages 3 to 6.
FIRST, *LATER = (f"Mconv1_stage{stage}" for stage in POSE_STAGES)

_log = logging.getLogger(__name__)


class Layer(NamedTuple):
    """The parameters of a convolution: kernel (N, C, h, w) and bias (N,)."""

    kernel: np.ndarray
    bias: np.ndarray


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options of the command; None stands for those of the process."""
    parser = command_parser(__doc__)
    parser.add_argument(
        "--openpose",
        type=pathlib.Path,
        required=True,
        metavar="FILE",
        help="caffemodel of OpenPose's hand model",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, metavar="FILE", help="caffemodel to write"
    )
    return parser.parse_args(argv)


def openpose_shapes(our_shapes: Shapes) -> Shapes:
    """Return the shapes that the parameters of OpenPose's hand model must have.

    They are those of our network, but for the mask head, which is left out, and the first layers
    of the stages, which see 22 heatmaps and F.

    Args:
        our_shapes: Shapes of our network, variant paper.
    """
    shapes = {
        name: list(layer_shapes)
        for name, layer_shapes in our_shapes.items()
        if name != MASK_SCORES_BLOB
    }
    features = our_shapes[MASK_SCORES_BLOB][0][1]
    for name in (FIRST, *LATER):
        channels, _, *kernel = shapes[name][0]
        shapes[name][0] = (channels, HEATMAP_COUNT + features, *kernel)
    return shapes


def check_layers(path: pathlib.Path, layers: dict[str, list[np.ndarray]], expected: Shapes) -> None:
    """Check that a caffemodel has all layers of OpenPose's hand model.

    Args:
        path: Path of the caffemodel, for messages.
        layers: {layer: [kernel, bias]} of the caffemodel.
        expected: The shapes that they must have.

    Raises:
        WeightsError: A layer is missing or has another shape.
    """
    missing = [name for name in expected if name not in layers]
    if missing:
        raise WeightsError(
            f"{path} is not OpenPose's hand model: it lacks {shorten_list(missing)}; "
            "give its pose_iter_102000.caffemodel"
        )
    for name, shapes in expected.items():
        actual = [blob.shape for blob in layers[name]]
        if not same_shapes(actual, shapes):
            raise WeightsError(
                f"{path} is not OpenPose's hand model: "
                f"layer {name} is {actual} and should be {shapes}; "
                "give its pose_iter_102000.caffemodel"
            )


def insert_mask_channels(kernel: np.ndarray, index: int) -> np.ndarray:
    """Return a kernel (N, C, h, w) with zeros for the mask's two channels, inserted at `index`."""
    return np.insert(kernel, [index] * MASK_CLASSES, 0, axis=1)


def transplant_first(layer: Layer) -> Layer:
    """Turn [9]'s first layer of stage 2, on [heatmaps, F], into ours, which sees [mask, F].

    The bias takes in the answer "no keypoint anywhere": background 1, keypoints 0.
    """
    no_keypoint = layer.kernel[:, BACKGROUND_INDEX].sum(axis=(1, 2))
    return Layer(insert_mask_channels(layer.kernel[:, HEATMAP_COUNT:], 0), layer.bias + no_keypoint)


def transplant_later(layer: Layer) -> Layer:
    """Turn [9]'s first layer of a later stage into ours, which sees [heatmaps, mask, F]."""
    return Layer(insert_mask_channels(layer.kernel, HEATMAP_COUNT), layer.bias)


def main(argv: Sequence[str] | None = None) -> None:
    """Write our network's weights made of OpenPose's."""
    options = parse_arguments(argv)
    check_output(
        options.out,
        lambda _: False,
        "no caffemodel says whether this command wrote it",
        [options.openpose],
    )
    require_caffe("making weights out of OpenPose's")
    layers, _ = read_caffemodel(options.openpose)
    caffe = import_caffe()
    caffe.set_random_seed(0)
    with nets_in(FLOAT32):
        net = caffe.Net(str(require_shipped(f"prototxt/{PAPER.name}/deploy.prototxt")), caffe.TEST)
    expected = openpose_shapes(net_shapes(net))
    check_layers(options.openpose, layers, expected)
    for name in expected:
        layer = Layer(*map(np.reshape, layers[name], expected[name]))
        if name == FIRST:
            layer = transplant_first(layer)
        elif name in LATER:
            layer = transplant_later(layer)
        net.params[name][0].data[...] = layer.kernel
        net.params[name][1].data[...] = layer.bias
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(options.out) as (partial, _):
        net.save(str(partial))
    print(f"{options.out}: {len(expected)} layers of {options.openpose}")
    _log.info("with zeros for the mask: %s", ", ".join((FIRST, *LATER)))
    _log.info('without heatmaps before it, "no keypoint anywhere" in its bias: %s', FIRST)
    _log.info("left to training, at its random start: %s", MASK_SCORES_BLOB)
    _log.info("left out: %s", ", ".join(name for name in layers if name not in expected) or "none")


if __name__ == "__main__":
    run_command(main)
