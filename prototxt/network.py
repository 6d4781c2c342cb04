"""The mask-pose cascaded CNN (3.2, Fig. 3), top to bottom, one function a block.

Layer names are those of the network of [9] (OpenPose's hand model) and VGG-19, so that their weights load by name.
"""
from caffe import layers as L
from caffe import params as P

from mcc_caffe.paper import (
    DATA_BLOB, HEATMAPS, HEATMAPS_BLOB, IGNORE_LABEL, MASK_BLOB, MASK_CLASSES, MASK_LABEL_BLOB, MASK_LOSS_BLOB, STAGES,
    WITHOUT_MASK, WITHOUT_POSE, Variant, stage_blob, stage_loss_blob,
)

# VGG-19's 3x3 convolutions up to conv4_4 and [9]'s three on top: (name, channels); None is a pooling.
TRUNK = (
    ("conv1_1", 64), ("conv1_2", 64), None,
    ("conv2_1", 128), ("conv2_2", 128), None,
    ("conv3_1", 256), ("conv3_2", 256), ("conv3_3", 256), ("conv3_4", 256), None,
    ("conv4_1", 512), ("conv4_2", 512), ("conv4_3", 512), ("conv4_4", 512),
    ("conv5_1", 512), ("conv5_2", 512), ("conv5_3_CPM", 128),
)
FEATURE = "conv5_3_CPM"  # F, 128 channels


def convolution(net, bottom: str, name: str, channels: int, kernel: int, filler: dict) -> None:
    """A convolution that keeps the size; biases start at 0 and learn twice as fast, without decay."""
    net[name] = L.Convolution(
        net[bottom], num_output=channels, kernel_size=kernel, pad=kernel // 2,
        param=[dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)],
        weight_filler=filler, bias_filler=dict(type="constant", value=0),
    )


def output(net, bottom: str, name: str, channels: int) -> str:
    """A 1x1 output convolution that starts near zero; returns the blob's name."""
    convolution(net, bottom, name, channels, kernel=1, filler=dict(type="gaussian", std=0.01))
    return name


def conv_relu(net, variant: Variant, bottom: str, name: str, full_channels: int, kernel: int) -> str:
    """A hidden convolution of the variant's width and its ReLU, in place; returns the blob's name."""
    convolution(net, bottom, name, variant.channels(full_channels), kernel, dict(type=variant.weight_filler))
    slope = {"negative_slope": variant.negative_slope} if variant.negative_slope else {}
    net[f"relu_{name}"] = L.ReLU(net[name], in_place=True, **slope)
    return name


def trunk(net, variant: Variant) -> str:
    """Image -> F: 128 channels at stride 8 (3.2)."""
    blob, pools = DATA_BLOB, 0
    for layer in TRUNK:
        if layer is None:
            pools += 1
            name = f"pool{pools}_stage1"
            net[name] = L.Pooling(net[blob], pool=P.Pooling.MAX, kernel_size=2, stride=2)
            blob = name
        else:
            name, channels = layer
            blob = conv_relu(net, variant, blob, name, channels, kernel=3)
    return blob


def mask_stage(net, variant: Variant) -> str:
    """F -> M: the 2-channel mask scores, by two 1x1 convolutions (3.2)."""
    hidden = conv_relu(net, variant, FEATURE, "conv5_4_mask", 128, kernel=1)
    return output(net, hidden, "conv5_5_mask", MASK_CLASSES)


def first_pose_stage(net, variant: Variant, features: str) -> None:
    """S1: F+ -> 22 heatmaps, by two 1x1 convolutions."""
    hidden = conv_relu(net, variant, features, "conv6_1_CPM", 512, kernel=1)
    output(net, hidden, stage_blob(1), HEATMAPS)


def pose_stage(net, variant: Variant, features: str, stage: int) -> None:
    """S2..S5: the previous stage's 22 heatmaps and F+ -> 22 heatmaps, by five 7x7 and two 1x1 convolutions.

    The heatmaps stand first in the concatenation, then F, then M: Mconv1's weights begin with [9]'s.
    """
    blob = f"concat_stage{stage}"
    net[blob] = L.Concat(net[stage_blob(stage - 1)], net[features])
    for number in range(1, 6):
        blob = conv_relu(net, variant, blob, f"Mconv{number}_stage{stage}", 128, kernel=7)
    blob = conv_relu(net, variant, blob, f"Mconv6_stage{stage}", 128, kernel=1)
    output(net, blob, stage_blob(stage), HEATMAPS)


def mask_loss(net, variant: Variant, scores: str) -> None:
    """Softmax loss of the mask, summed over the cells, averaged over the images (Eq. 2)."""
    net[MASK_LOSS_BLOB] = L.SoftmaxWithLoss(
        net[scores], net[MASK_LABEL_BLOB], loss_weight=variant.mask_loss_weight,
        loss_param=dict(ignore_label=IGNORE_LABEL, normalization=P.Loss.BATCH_SIZE),
    )


def body(net, variant: Variant, without: str = None, train: bool = False) -> None:
    """The network on its data blob; with the losses when it is for training. `without` is an ablation of 4.2 or None."""
    trunk(net, variant)
    features = FEATURE
    if without != WITHOUT_MASK:
        scores = mask_stage(net, variant)
        features = "features_mask"
        if train:
            mask_loss(net, variant, scores)
        else:
            net[MASK_BLOB] = L.Softmax(net[scores])
    if without == WITHOUT_POSE:
        return
    if without != WITHOUT_MASK:
        net[features] = L.Concat(net[FEATURE], net[scores])  # F+, 130 channels
    for stage in range(1, STAGES + 1):
        if stage == 1:
            first_pose_stage(net, variant, features)
        else:
            pose_stage(net, variant, features, stage)
        if train:
            net[stage_loss_blob(stage)] = L.EuclideanLoss(
                net[stage_blob(stage)], net[HEATMAPS_BLOB], loss_weight=variant.heatmap_loss_weight
            )
