"""Describes the mask-pose cascaded CNN (section 3.2, Fig. 3) from top to bottom.

The functions add one block each. The paper's pose stage is five sub-stages, here called pose
stages; mcc_caffe/paper.py says why their numbers are 2 to 6.

Layers and blobs have the names of the authors' released Caffe files, whose trunk is VGG-19's. A
caffemodel that was trained with either prototxt therefore loads completely into the other by name.
VGG-19's weights load by name as well; `mcc_caffe.surgery` makes weights of this network out of
OpenPose's hand model ([9] in the paper).
"""

from caffe import NetSpec
from caffe import layers as L
from caffe import params as P

from mcc_caffe.core.hand_boxes import (
    BOX_LAYERS,
    BOX_MAPS,
    IN_HANDS_BLOB,
    IS_HAND_BLOB,
    MIDDLE_LOSS_BLOB,
    SIDES_BLOB,
    SIDES_LOSS_BLOB,
)
from mcc_caffe.paper import (
    HEATMAP_COUNT,
    HEATMAPS_BLOB,
    IGNORE_LABEL,
    MASK_BLOB,
    MASK_CLASSES,
    MASK_LABEL_BLOB,
    MASK_LOSS_BLOB,
    MASK_SCORES_BLOB,
    POSE_STAGES,
    WITHOUT_MASK,
    WITHOUT_POSE,
    Variant,
    stage_blob,
    stage_loss_blob,
)

POOLING = None
# VGG-19's 3x3 convolutions up to conv5_2: (name, channels).
VGG_LAYERS = (
    ("conv1_1", 64),
    ("conv1_2", 64),
    POOLING,
    ("conv2_1", 128),
    ("conv2_2", 128),
    POOLING,
    ("conv3_1", 256),
    ("conv3_2", 256),
    ("conv3_3", 256),
    ("conv3_4", 256),
    POOLING,
    ("conv4_1", 512),
    ("conv4_2", 512),
    ("conv4_3", 512),
    ("conv4_4", 512),
    ("conv5_1", 512),
    ("conv5_2", 512),
)
FEATURE = "conv5_3_CPM"  # the paper's F, 128 channels
FEATURE_AND_MASK = "concat_stage2"  # the paper's F+, 130 channels: F and the mask's scores
GAUSSIAN_FILLER = dict(type="gaussian", std=0.01)


def filler(name: str) -> dict:
    """Return the Caffe filler of a name; "gaussian" has the standard deviation of the release."""
    return GAUSSIAN_FILLER if name == "gaussian" else dict(type=name)


def convolution(
    net: NetSpec,
    bottom: str,
    name: str,
    channels: int,
    *,
    kernel: int,
    weights: dict,
    lr_mult: float = 1.0,
) -> str:
    """Add a convolution that keeps the size of its maps; return the name of its blob.

    Biases start at 0 and learn twice as fast as the weights, without decay.
    """
    net[name] = L.Convolution(
        net[bottom],
        num_output=channels,
        kernel_size=kernel,
        pad=kernel // 2,
        param=[dict(lr_mult=lr_mult, decay_mult=1), dict(lr_mult=2 * lr_mult, decay_mult=0)],
        weight_filler=weights,
        bias_filler=dict(type="constant", value=0),
    )
    return name


def relu(net: NetSpec, variant: Variant, blob: str) -> str:
    """Add a ReLU with the variant's slope, in place; return the name of its blob."""
    slope = {"negative_slope": variant.negative_slope} if variant.negative_slope else {}
    net[f"relu_{blob}"] = L.ReLU(net[blob], in_place=True, **slope)
    return blob


def vgg_layers(net: NetSpec, variant: Variant, image: str) -> str:
    """Add VGG-19's layers, image -> 512 channels at stride 8; return their blob's name."""
    blob, poolings = image, 0
    for layer in VGG_LAYERS:
        if layer is POOLING:
            poolings += 1
            name = f"pool{poolings}_stage1"
            net[name] = L.Pooling(net[blob], pool=P.Pooling.MAX, kernel_size=2, stride=2)
            blob = name
        else:
            name, channels = layer
            convolution(
                net,
                blob,
                name,
                variant.channels(channels),
                kernel=3,
                weights=filler(variant.trunk_filler),
            )
            blob = relu(net, variant, name)
    return blob


def trunk(net: NetSpec, variant: Variant, image: str) -> str:
    """Add the trunk, image -> F of 128 channels at stride 8 (section 3.2); return F's name."""
    blob = vgg_layers(net, variant, image)
    convolution(
        net, blob, FEATURE, variant.channels(128), kernel=3, weights=filler(variant.stage_filler)
    )
    return relu(net, variant, FEATURE)


def mask_head(net: NetSpec, features: str) -> str:
    """Add the mask head, a 1x1 convolution of F to 2 scores (release); return their blob's name."""
    return convolution(
        net, features, MASK_SCORES_BLOB, MASK_CLASSES, kernel=1, weights=GAUSSIAN_FILLER
    )


def box_head(net: NetSpec, variant: Variant, features: str) -> str:
    """Add the box head, which is not the paper's; return its blob's name.

    It turns VGG-19's features into the five maps of mcc_caffe/core/hand_boxes.py.
    """
    blob = features
    *hidden_layers, last_layer = BOX_LAYERS
    for name in hidden_layers:
        blob = convolution(
            net, blob, name, variant.channels(256), kernel=3, weights=dict(type="msra")
        )
        relu(net, variant, blob)
    return convolution(net, blob, last_layer, BOX_MAPS, kernel=1, weights=GAUSSIAN_FILLER)


def box_losses(net: NetSpec, boxes: str) -> None:
    """Add the losses of the box head: cross entropy of the middles, L2 of the sides there."""
    net.box_middle, net.box_sides = L.Slice(
        net[boxes], ntop=2, slice_param=dict(axis=1, slice_point=[1])
    )
    net[MIDDLE_LOSS_BLOB] = L.SigmoidCrossEntropyLoss(
        net.box_middle,
        net[IS_HAND_BLOB],
        loss_param=dict(ignore_label=IGNORE_LABEL, normalize=False),
    )
    net.box_sides_in_hands = L.Eltwise(net.box_sides, net[IN_HANDS_BLOB], operation=P.Eltwise.PROD)
    net[SIDES_LOSS_BLOB] = L.EuclideanLoss(net.box_sides_in_hands, net[SIDES_BLOB])


def pose_stage(net: NetSpec, variant: Variant, stage: int, features: str) -> str:
    """Add a pose stage, which turns `features` into 22 heatmaps; return their blob's name.

    It has five 7x7 and two 1x1 convolutions (release).
    """
    blob, hidden = features, filler(variant.stage_filler)
    for number in range(1, 7):
        blob = convolution(
            net,
            blob,
            f"Mconv{number}_stage{stage}",
            variant.channels(128),
            kernel=7 if number < 6 else 1,
            weights=hidden,
            lr_mult=variant.stage_lr_mult,
        )
        relu(net, variant, blob)
    return convolution(
        net,
        blob,
        stage_blob(stage),
        HEATMAP_COUNT,
        kernel=1,
        weights=GAUSSIAN_FILLER,
        lr_mult=variant.stage_lr_mult,
    )


def mask_loss(net: NetSpec, variant: Variant, scores: str) -> None:
    """Add the mask's softmax loss (Eq. 2): the sum over the cells, the mean over the images."""
    net[MASK_LOSS_BLOB] = L.SoftmaxWithLoss(
        net[scores],
        net[MASK_LABEL_BLOB],
        name="conv6_2_CPM_loss_mask",
        loss_weight=variant.mask_loss_weight,
        # In Caffe this divides by the batch size alone.
        loss_param=dict(ignore_label=IGNORE_LABEL, normalize=False),
    )


def heatmap_loss(net: NetSpec, variant: Variant, stage: int) -> None:
    """Add the L2 loss of a pose stage's heatmaps (Eq. 3); Caffe divides the sum by 2N."""
    net[stage_loss_blob(stage)] = L.EuclideanLoss(
        net[stage_blob(stage)],
        net[HEATMAPS_BLOB],
        name=f"{stage_blob(stage)}_loss",
        loss_weight=variant.heatmap_loss_weight,
    )


def add_network(
    net: NetSpec, variant: Variant, image: str, *, without: str | None = None, train: bool = False
) -> None:
    """Add the whole network behind the blob `image`.

    Args:
        net: The net to add to. It holds `image` and, for training, the labels.
        variant: The size of the network, and its settings.
        image: The name of the input blob, (N, 3, m, m).
        without: An ablation of section 4.2 (paper.ABLATIONS), or None for the full network.
        train: Add the losses instead of the mask's softmax.
    """
    features = trunk(net, variant, image)
    if without != WITHOUT_MASK:
        scores = mask_head(net, features)
        if train:
            mask_loss(net, variant, scores)
        else:
            net[MASK_BLOB] = L.Softmax(net[scores], name="mask")
    if without == WITHOUT_POSE:
        return
    if without != WITHOUT_MASK:
        net[FEATURE_AND_MASK] = L.Concat(net[scores], net[features])
        features = FEATURE_AND_MASK
    stage_input = features
    for stage in POSE_STAGES:
        if stage > POSE_STAGES[0]:
            stage_input = f"concat_stage{stage}"
            net[stage_input] = L.Concat(net[stage_blob(stage - 1)], net[features])
        pose_stage(net, variant, stage, stage_input)
        if train:
            heatmap_loss(net, variant, stage)
