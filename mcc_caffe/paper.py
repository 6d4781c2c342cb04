"""Every number of the paper, once, with its section; and the network's variants built from them.

The paper is "Mask-pose Cascaded CNN for 2D Hand Pose Estimation from Single Color Image" (Wang,
Peng, Liu). Where it is silent the authors' release decides ("release" below):
docs/differences.md says why.
"""

from dataclasses import dataclass, field, replace

# 3.1: data representation
KEYPOINT_COUNT = 21  # K
HEATMAP_COUNT = KEYPOINT_COUNT + 1  # one map a keypoint, and the background
BACKGROUND_INDEX = KEYPOINT_COUNT  # index of the background map
GREY = 128  # value of every empty image pixel; also the mean taken off the input
PIXEL_SCALE = 256.0  # the input is (BGR - GREY) / PIXEL_SCALE, as the network of [9] is fed

# 3.2: network
STRIDE = 8  # three poolings
# The T = 5 sub-stages of the pose stage, by their numbers in the authors' release.
POSE_STAGES = range(2, 7)
LAST_STAGE = POSE_STAGES[-1]
MASK_CLASSES = 2  # background, hand
IGNORE_LABEL = 255  # mask label of samples that carry no mask

# 3.3: augmentation
SCALE_RANGE = (0.7, 1.2)
ROTATION_RANGE = (-40.0, 40.0)  # degrees
FLIP_PROBABILITY = 0.5

# 3.3: data set
TRAIN_IMAGES = 10_000
VALIDATION_IMAGES = 1_703

# 3.3: inference
PYRAMID_CROP = 0.1  # of the image width, at most, from one level to the next
PYRAMID_SMALLEST = 50  # pixels, the smallest level
CONFIDENCE_THRESHOLD = 0.2

# Blob names of the emitted nets: the release's, but for the blobs that our own data layer feeds, on
# which no weights depend.
DATA_BLOB, MASK_LABEL_BLOB, HEATMAPS_BLOB = "data", "mask_label", "heatmaps"
IMAGE_BLOB = "image"  # input of the deploy nets
MASK_BLOB = "conv6_2_CPM_prob"  # softmax of the mask head (deploy nets)
MASK_LOSS_BLOB = "loss_mask"


def stage_blob(stage: int) -> str:
    """Return the name of the 22 maps that sub-stage `stage` (of POSE_STAGES) predicts."""
    return f"Mconv7_stage{stage}"


def stage_loss_blob(stage: int) -> str:
    """Return the name of the L2 loss of sub-stage `stage` (of POSE_STAGES)."""
    return f"loss{stage}"


# The background's map: 1 minus the sum of the joints' maps (section 3.1), or minus their maximum.
BACKGROUND_SUM, BACKGROUND_MAX = "sum", "max"


@dataclass(frozen=True)
class Schedule:
    """Solver settings (section 3.3); weight decay is the release's, the paper gives none."""

    type: str = "SGD"
    base_lr: float = 5e-5
    gamma: float = 0.3
    step_size: int = 50_000
    max_iter: int = 200_000
    momentum: float = 0.9
    weight_decay: float = 5e-4
    snapshot: int = 5_000


# The authors' own solver: its learning rate is the same to the end.
RELEASED_SCHEDULE = Schedule(max_iter=300_000, snapshot=1_000)


@dataclass(frozen=True)
class Variant:
    """One size of the network. The defaults are the paper's.

    Attributes:
        name: Of the variant.
        input_size: m, the side of the input, pixels (section 3.1).
        width: The factor on the channels of every hidden layer.
        sigma: The deviation of the heatmaps' Gaussians, cells of stride 8 (section 3.3).
        background: BACKGROUND_SUM or BACKGROUND_MAX (section 3.1).
        batch_size: Images a training process and iteration (section 3.3).
        mask_loss_weight: 3.3.
        heatmap_loss_weight: 3.3.
        trunk_filler: Caffe's name of the start values of conv1_1 to conv5_2 (release).
        stage_filler: That of the hidden layers from conv5_3_CPM on (release).
        stage_rate: The learning rate of the pose stages' weights, as a multiple of the trunk's
            (release).
        negative_slope: Of the ReLUs.
        background_bias: The start value of the background map's bias, in every stage.
        threads: The number of threads that train it on a CPU; None: one a core.
        schedule: Of the solver.
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
    stage_rate: float = 4.0
    negative_slope: float = 0.0
    background_bias: float = 0.0
    threads: int | None = None
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def cells(self) -> int:
        """The side of the mask and of the heatmaps, m / 8."""
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
    # Of 16 x 16 cells a hand covers so few that its Gaussians pile up: the sum's map would make up
    # 80 to 90 % of the loss.
    background=BACKGROUND_MAX,
    mask_loss_weight=0.5,  # at 0.05 the few mask cells are drowned by the heatmaps
    # Of plain ReLUs of so narrow a net a third to a half die within some thousand iterations.
    negative_slope=0.1,
    # It learns faster here; at the paper's size and learning rate it diverges at once.
    trunk_filler="msra",
    stage_filler="msra",
    stage_rate=1.0,
    # Its layers are too small to share: processes (--processes) are the better use of cores.
    threads=1,
    background_bias=1.0,  # starts at the trivial answer (joints 0, background 1)
    schedule=Schedule(type="Adam", base_lr=1e-3, step_size=10_000, max_iter=40_000, snapshot=1_000),
)

VARIANTS = {variant.name: variant for variant in (PAPER, MINI)}

# The ablations of 4.2: a variant without one of its two stages.
WITHOUT_MASK, WITHOUT_POSE = "without_mask", "without_pose"
ABLATIONS = (WITHOUT_MASK, WITHOUT_POSE)


def file_suffix(without: str | None) -> str:
    """Return what an ablation's files and runs add to their names; "" for the full network."""
    return f"_{without}" if without else ""
