"""Makes weights of our net, variant paper, out of those of the network that the paper modified: OpenPose's hand model [9].

    python -m mcc_caffe.surgery --openpose pose_iter_102000.caffemodel --out mcc_from_openpose.caffemodel
    python -m mcc_caffe.train data/lmdb/train --variant paper --weights mcc_from_openpose.caffemodel

[9] (Simon et al. 2017) has our trunk and our stages 2 to 6 under our names, and no mask. What
differs is what the stages see first. Its stage t sees the 22 maps of the stage before it and the
128 channels of F:

- Stages 3 to 6 of our net see the mask's two channels between these: there they get zeros. Given
  the same maps before them they find what [9]'s find, until training makes use of the mask.
- Our stage 2 has no maps before it. It takes the weights of the 128 channels, and its bias takes in
  what [9]'s adds where no joint is near: the background's map is 1 everywhere, the joints' are 0.
  Along the picture's border, where the maps end within the kernel, [9] adds less.

The first stage of [9], conv6_1_CPM and conv6_2_CPM, is left out. In our net the latter name is the
mask head's, which starts at random: the masks mean nothing before training. VGG-19 needs no
surgery, since weights are loaded by name: `python -m mcc_caffe.train ... --weights
VGG_ILSVRC_19_layers.caffemodel` fills conv1_1 to conv5_2.
"""

import argparse
import pathlib

import numpy as np

from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import WeightsError, net_shapes, read_caffemodel
from mcc_caffe.core.commands import command_parser, run_command
from mcc_caffe.core.files import shipped
from mcc_caffe.paper import BACKGROUND, HEATMAPS, MASK_CLASSES, PAPER, POSE_STAGES

MASK_HEAD = "conv6_2_CPM"
FIRST, *LATER = (f"Mconv1_stage{stage}" for stage in POSE_STAGES)  # the stages' first layers


def arguments(argv=None) -> argparse.Namespace:
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


def wanted_shapes(own: dict) -> dict:
    """Return {layer: [shape, ...]} that [9] must have, of those of our net.

    It has no mask head, and each of its stages sees 22 maps and F.
    """
    shapes = {name: list(both) for name, both in own.items() if name != MASK_HEAD}
    for name in (FIRST, *LATER):
        channels, _, *kernel = shapes[name][0]
        features = own[MASK_HEAD][0][1]
        shapes[name][0] = (channels, HEATMAPS + features, *kernel)
    return shapes


def check(path: pathlib.Path, layers: dict, wanted: dict) -> None:
    """WeightsError where {layer: [array, ...]} are not [9]'s."""
    missing = [name for name in wanted if name not in layers]
    if missing:
        raise WeightsError(
            f"{path} is not OpenPose's hand model: it lacks {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}; "
            "give its pose_iter_102000.caffemodel"
        )
    for name, shapes in wanted.items():
        found = [blob.shape for blob in layers[name]]
        if found != shapes:
            raise WeightsError(
                f"{path} is not OpenPose's hand model: layer {name} is {found} and should be {shapes}; "
                "give its pose_iter_102000.caffemodel"
            )


def with_mask_channels(kernel: np.ndarray, place: int) -> np.ndarray:
    """Return a kernel (N, C, h, w) that also sees the mask's channels, at `place`, with zeros."""
    return np.insert(kernel, [place] * MASK_CLASSES, 0, axis=1)


def first_stage(kernel: np.ndarray, bias: np.ndarray) -> tuple:
    """Return our (kernel, bias) of stage 2's first layer, on [mask, F], of [9]'s, on [maps, F].

    The bias takes in the answer "no joint anywhere": background 1, joints 0.
    """
    nothing = kernel[:, BACKGROUND].sum(axis=(1, 2))
    return with_mask_channels(kernel[:, HEATMAPS:], 0), bias + nothing


def main(argv=None) -> None:
    options = arguments(argv)
    layers, _ = read_caffemodel(options.openpose)
    caffe = import_caffe()
    caffe.set_random_seed(0)
    net = caffe.Net(str(shipped(f"prototxt/{PAPER.name}/deploy.prototxt")), caffe.TEST)
    wanted = wanted_shapes(net_shapes(net))
    check(options.openpose, layers, wanted)
    for name in wanted:
        kernel, bias = layers[name]
        if name == FIRST:
            kernel, bias = first_stage(kernel, bias)
        elif name in LATER:
            kernel = with_mask_channels(kernel, HEATMAPS)
        net.params[name][0].data[...] = kernel
        net.params[name][1].data[...] = bias
    options.out.parent.mkdir(parents=True, exist_ok=True)
    partial = options.out.with_name(f".{options.out.name}.partial")
    net.save(str(partial))
    partial.replace(options.out)
    print(f"{options.out}: {len(wanted)} layers of {options.openpose}")
    print(f"with zeros for the mask: {', '.join((FIRST, *LATER))}")
    print(f'without maps before it, "no joint anywhere" in its bias: {FIRST}')
    print(f"left to training, at its random start: {MASK_HEAD}")
    print(f"left out: {', '.join(name for name in layers if name not in wanted) or 'none'}")


if __name__ == "__main__":
    run_command(main)
