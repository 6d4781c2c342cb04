"""Holds each number of the paper once, with its section, and the variants of the network.

The paper is "Mask-pose Cascaded CNN for 2D Hand Pose Estimation from Single Color Image" (Wang,
Peng, Liu). Where it says nothing, the Caffe files that its authors released decide; they are
called the release, and docs/differences.md says why. [9] stands, as in the paper's references, for
the hand model of Simon et al. 2017, which came with OpenPose and which the authors modified.

The network has a trunk, a mask head and a pose stage. The pose stage is five sub-stages that
follow each other; the code calls each of them a pose stage. They have the numbers 2 to 6, as in
the release: [9] has six stages, of which the authors replaced the first one by the mask head.
"""

import math
import numbers
import operator
import re
from dataclasses import dataclass, field, replace

# Section 3.1: data representation
KEYPOINT_COUNT = 21  # the paper's K
HEATMAP_COUNT = KEYPOINT_COUNT + 1  # a map for each keypoint, and one for the background
BACKGROUND_INDEX = KEYPOINT_COUNT  # the background's map is the last one
GREY = 128  # the value of every empty pixel; it is also subtracted from the input
PIXEL_SCALE = 256.0  # the input is (BGR - GREY) / PIXEL_SCALE, as the network of [9] is fed

# Section 3.2: network
STRIDE = 8  # three poolings
MAX_INPUT_SIZE = 4096  # pixels; not the paper's: the first two layers of its net fill 8 GiB then
# The numbers of the T = 5 pose stages; the first lines of this module say why they begin at 2.
POSE_STAGES = range(2, 7)
LAST_STAGE = POSE_STAGES[-1]
MASK_CLASSES = 2  # background, hand
IGNORE_LABEL = 255  # mask label of samples that carry no mask

# Section 3.3: augmentation
SCALE_RANGE = (0.7, 1.2)
ROTATION_RANGE = (-40.0, 40.0)  # degrees
FLIP_PROBABILITY = 0.5

# Section 3.3: data set
TRAIN_IMAGES = 10_000
VALIDATION_IMAGES = 1_703

# Section 3.3: inference
# A level is narrower than the one before it by at most this share of the image's width.
PYRAMID_CROP = 0.1
PYRAMID_SMALLEST = 50  # pixels, the least side of a level
PAPER_LEVELS = "paper"  # in place of a number of levels: the pyramid of section 3.3
CONFIDENCE_THRESHOLD = 0.2

# The names of blobs in the nets that `make prototxt` writes. They are the release's, except for the
# blobs that our own data layer fills: no weights depend on their names.
DATA_BLOB, MASK_LABEL_BLOB, HEATMAPS_BLOB = "data", "mask_label", "heatmaps"
IMAGE_BLOB = "image"  # input of the deploy nets
MASK_SCORES_BLOB = "conv6_2_CPM"  # output of the mask head: the two scores before the softmax
MASK_BLOB = "conv6_2_CPM_prob"  # softmax of these scores (deploy nets)
MASK_LOSS_BLOB = "loss_mask"


def stage_blob(stage: int) -> str:
    """Return the name of the 22 maps that a pose stage predicts; `stage` is its number, 2 to 6."""
    return f"Mconv7_stage{stage}"


def stage_loss_blob(stage: int) -> str:
    """Return the name of a pose stage's L2 loss; `stage` is its number, 2 to 6."""
    return f"loss{stage}"


# The background's map: 1 minus the sum (section 3.1) or minus the maximum of the keypoints' maps.
BACKGROUND_SUM, BACKGROUND_MAX = "sum", "max"


@dataclass(frozen=True)
class Schedule:
    """The solver's settings (section 3.3); only the weight decay is the release's."""

    type: str = "SGD"
    base_lr: float = 5e-5
    gamma: float = 0.3
    step_size: int = 50_000
    max_iter: int = 200_000
    momentum: float = 0.9
    weight_decay: float = 5e-4
    snapshot: int = 5_000


# The release's solver: its learning rate is the same to the end.
RELEASED_SCHEDULE = Schedule(max_iter=300_000, snapshot=1_000)


@dataclass(frozen=True)
class Variant:
    """One size of the network. The defaults are the paper's.

    Attributes:
        name: The name that `--variant` takes.
        input_size: m, the side of the network's input in pixels (section 3.1).
        width: The factor on the number of channels of every hidden layer.
        sigma: The standard deviation of the heatmaps' Gaussians in cells of 8 x 8 input pixels
            (section 3.3).
        background: How the background's map is made: BACKGROUND_SUM or BACKGROUND_MAX
            (section 3.1).
        batch_size: The number of images that a training process takes in an iteration
            (section 3.3).
        mask_loss_weight: The weight of the mask's loss in the sum of the losses (section 3.3).
        heatmap_loss_weight: The weight of each pose stage's loss in that sum (section 3.3).
        trunk_filler: Caffe's name for the way in which the weights of conv1_1 to conv5_2 start
            (release).
        stage_filler: The same for the hidden layers from conv5_3_CPM on (release).
        stage_lr_mult: The learning rate of the pose stages' weights, as a multiple of the trunk's
            (release).
        negative_slope: The slope of the ReLUs below 0.
        background_bias: The start value of the background map's bias in every pose stage.
        schedule: The settings of the solver.

    A training reads `background_bias` here when it starts, and `schedule.snapshot` where its solver
    has none. The other fields reach it through the prototxts, which have to be written again after
    a change: `make prototxt`.
    """

    name: str
    input_size: int = 368
    width: float = 1.0
    sigma: float = 1.5
    background: str = BACKGROUND_SUM
    batch_size: int = 13
    mask_loss_weight: float = 0.05
    heatmap_loss_weight: float = 1.0
    trunk_filler: str = "xavier"
    stage_filler: str = "gaussian"
    stage_lr_mult: float = 4.0
    negative_slope: float = 0.0
    background_bias: float = 0.0
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def cells(self) -> int:
        """S, the side of the mask and of the heatmaps in cells: m / 8."""
        return self.input_size // STRIDE

    def channels(self, full: int) -> int:
        """Return the channels of a hidden layer that has `full` of them in the paper's network."""
        return int(full * self.width)


PAPER = Variant("paper")

# For CPUs. Its maps are 16 x 16, so that the summed losses, and with them the gradients, are about
# a tenth of the paper's.
MINI = replace(
    PAPER,
    name="mini",
    input_size=128,
    width=0.25,
    sigma=1.0,  # 1.5 cells of 16 would blur neighbouring fingers into one
    # A hand covers so few of the 16 x 16 cells that its Gaussians pile up: with BACKGROUND_SUM the
    # background's map would make up 80 to 90 % of the loss.
    background=BACKGROUND_MAX,
    mask_loss_weight=0.5,  # at 0.05 the few mask cells are drowned by the heatmaps
    # In so narrow a net, a third to a half of plain ReLUs die within some thousand iterations.
    negative_slope=0.1,
    # It learns faster at this size; at the paper's size and learning rate it diverges at once.
    trunk_filler="msra",
    stage_filler="msra",
    stage_lr_mult=1.0,
    background_bias=1.0,  # the heatmaps then start at the trivial answer: keypoints 0, background 1
    schedule=Schedule(type="Adam", base_lr=1e-3, step_size=10_000, max_iter=40_000, snapshot=1_000),
)

# The ablations of section 4.2: a network without its mask head, or without its pose stages.
WITHOUT_MASK, WITHOUT_POSE = "without_mask", "without_pose"
# The stages as the option --without names them, and the ablation that lacks each.
ABLATION_OF_STAGE = {"mask": WITHOUT_MASK, "pose": WITHOUT_POSE}
ABLATIONS = tuple(ABLATION_OF_STAGE.values())


def index_variants(*variants: Variant) -> dict[str, Variant]:
    """Return variants by their names, which are also those of folders, runs and nets.

    Raises:
        ValueError: Two have the same name, a name cannot be that of a folder, a run and a net, or a
            number cannot be trained with.
    """
    by_name: dict[str, Variant] = {}
    for variant in variants:
        name = variant.name
        if not re.fullmatch(r"[a-z0-9_]+", name) or name.endswith(ABLATIONS):
            raise ValueError(
                f"a variant has the name {name!r}: give it one of small letters, digits and "
                f"underscores that does not end in {' or '.join(ABLATIONS)}"
            )
        if name in by_name:
            raise ValueError(f"two variants have the name {name!r}: give one another name")
        _check_numbers(variant)
        by_name[name] = variant
    return by_name


def _check_numbers(variant: Variant) -> None:
    """Raise a ValueError where a number would train nothing, or away from the labels.

    Caffe takes any weight of a loss. What the solver says is checked when a training starts.
    """
    for field_name, number_type, is_above, needed in (
        ("batch_size", numbers.Integral, operator.gt, "a whole number above 0"),
        ("sigma", numbers.Real, operator.gt, "a number above 0"),
        ("mask_loss_weight", numbers.Real, operator.ge, "a number from 0 on"),
        ("heatmap_loss_weight", numbers.Real, operator.ge, "a number from 0 on"),
        ("stage_lr_mult", numbers.Real, operator.ge, "a number from 0 on"),
    ):
        value = getattr(variant, field_name)
        is_number = isinstance(value, number_type) and not isinstance(value, bool)
        if not (is_number and is_above(value, 0) and value < math.inf):
            raise ValueError(
                f"the variant {variant.name} has the {field_name} {value!r}: give {needed}"
            )
    if variant.mask_loss_weight == variant.heatmap_loss_weight == 0:
        raise ValueError(f"the variant {variant.name} has no loss: give one a weight above 0")


VARIANTS = index_variants(PAPER, MINI)

# For a training that starts from weights that are good already, such as those that ship.
FINE_TUNING_SCHEDULE = replace(MINI.schedule, base_lr=2e-4, max_iter=3_000, snapshot=500)

EXPORT_MARK = " (mcc_caffe.export)"  # ends the name of the net in a caffemodel of that command
# The names of our nets, as prototxts and caffemodels have them: group 1 is the net, group 2 the
# variant.
NET_NAME = re.compile(
    rf"(MCC_({'|'.join(VARIANTS)})(?:_(?:{'|'.join(ABLATIONS)}))?)_(?:train|deploy)"
    rf"(?:{re.escape(EXPORT_MARK)})?"
)


def is_input_size(side: object) -> bool:
    """Tell whether a value can be the side of a network's input, a multiple of 8 pixels."""
    return type(side) is int and STRIDE <= side <= MAX_INPUT_SIZE and side % STRIDE == 0


def find_variant(net_name: str) -> str | None:
    """Return the variant of one of our nets by the net's name; None for the name of another net."""
    match = NET_NAME.fullmatch(net_name)
    return match[2] if match else None


def file_suffix(ablation: str | None) -> str:
    """Return what an ablation's files and runs add to their names; "" for None, the full net."""
    return f"_{ablation}" if ablation else ""
