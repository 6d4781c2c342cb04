"""Makes weights of our net, variant paper, out of those of the network that the paper modified: OpenPose's hand model [9].

    python -m mcc_caffe.surgery --openpose pose_iter_102000.caffemodel --out mcc_from_openpose.caffemodel
    python -m mcc_caffe.train data/lmdb/train --variant paper --weights mcc_from_openpose.caffemodel

[9] (Simon et al. 2017) has our trunk and our stages under our names, a sixth stage, and no mask. Where our stages see the two
channels of the mask after the 128 of F they get zeros: the five stages then find what [9]'s first five find, until
training makes use of the mask. Its head starts at random: the masks mean nothing before.

Two things need no surgery, since weights are loaded by name. The net without mask takes [9]'s file as it is, with
`--prototxt prototxt/paper/deploy_without_mask.prototxt --weights pose_iter_102000.caffemodel`; and VGG-19 begins a
training with `python -m mcc_caffe.train ... --weights VGG_ILSVRC_19_layers.caffemodel`, which fills conv1_1 to conv5_2.
"""
import argparse
import pathlib

import numpy as np

from mcc_caffe.core.errors import run_command
from mcc_caffe.core.files import shipped
from mcc_caffe.paper import MASK_CLASSES, PAPER, STAGES
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import WeightsError, net_shapes, read_caffemodel

MASK_HEAD = ("conv5_4_mask", "conv5_5_mask")
SEES_MASK = ("conv6_1_CPM", *(f"Mconv1_stage{stage}" for stage in range(2, STAGES + 1)))  # the mask's are the last input channels


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openpose", type=pathlib.Path, required=True, metavar="FILE", help="caffemodel of OpenPose's hand model")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE", help="caffemodel to write")
    return parser.parse_args(argv)


def wanted_shapes(own: dict) -> dict:
    """{layer: [shape, ...]} that [9] must have, of those of our net: no mask head, and no mask channels in."""
    shapes = {name: list(both) for name, both in own.items() if name not in MASK_HEAD}
    for name in SEES_MASK:
        channels, seen, *kernel = shapes[name][0]
        shapes[name][0] = (channels, seen - MASK_CLASSES, *kernel)
    return shapes


def check(path: pathlib.Path, layers: dict, wanted: dict) -> None:
    """WeightsError where {layer: [array, ...]} are not [9]'s."""
    missing = [name for name in wanted if name not in layers]
    if missing:
        raise WeightsError(f"{path} is not OpenPose's hand model: it lacks {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}; "
                           "give its pose_iter_102000.caffemodel")
    for name, shapes in wanted.items():
        found = [blob.shape for blob in layers[name]]
        if found != shapes:
            raise WeightsError(f"{path} is not OpenPose's hand model: layer {name} is {found} and should be {shapes}; "
                               "give its pose_iter_102000.caffemodel")


def with_mask_channels(kernel: np.ndarray) -> np.ndarray:
    """A kernel (N, C, h, w) that sees the mask's channels, too, and makes nothing of them."""
    return np.pad(kernel, ((0, 0), (0, MASK_CLASSES), (0, 0), (0, 0)))


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
        net.params[name][0].data[...] = with_mask_channels(kernel) if name in SEES_MASK else kernel
        net.params[name][1].data[...] = bias
    options.out.parent.mkdir(parents=True, exist_ok=True)
    partial = options.out.with_name(f".{options.out.name}.partial")
    net.save(str(partial))
    partial.replace(options.out)
    print(f"{options.out}: {len(wanted)} layers of {options.openpose}; of them with zeros for the mask: {', '.join(SEES_MASK)}")
    print(f"left to training, at their random start: {', '.join(MASK_HEAD)}")
    print(f"left out: {', '.join(name for name in layers if name not in wanted) or 'none'}")


if __name__ == "__main__":
    run_command(main)
