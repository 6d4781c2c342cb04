"""The committed nets and solvers are those that the generators write, and Caffe reads them."""

import dataclasses
import json
import math
import pathlib

import numpy as np
import pytest

from mcc_caffe.caffe_io.protobuf import messages, read_text, text_format
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import net_shapes
from mcc_caffe.core.heatmaps import trivial_loss
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data.samples import Sample
from mcc_caffe.paper import (
    ABLATIONS,
    BACKGROUND_INDEX,
    HEATMAP_COUNT,
    MINI,
    PAPER,
    POSE_STAGES,
    VARIANTS,
    find_variant,
    index_variants,
    is_input_size,
    stage_blob,
    stage_loss_blob,
)
from mcc_caffe.training.loop import stage_losses
from tests.support.commands import ROOT
from tests.support.hands import drawn_sample, write_set

caffe = import_caffe()
from prototxt import generate  # noqa: E402
from prototxt.nets import nets  # noqa: E402  (imports caffe itself)
from solver.generate import solvers  # noqa: E402

SUFFIXES = ["", *(f"_{name}" for name in ABLATIONS)]
VARIANT_NETS = [(variant, suffix) for variant in VARIANTS.values() for suffix in SUFFIXES]


def test_no_variant_replaces_the_files_of_another():
    assert index_variants(PAPER, MINI) == VARIANTS == {"paper": PAPER, "mini": MINI}
    with pytest.raises(ValueError, match="two variants have the name 'mini'"):
        index_variants(PAPER, MINI, dataclasses.replace(MINI, width=0.5))


@pytest.mark.parametrize("name", ["a/b", "my net", "", "..", "mini_without_mask", "a|b", "Mini"])
def test_a_variants_name_is_one_of_a_folder_and_a_net(name):
    with pytest.raises(ValueError, match="a variant has the name '.*': give it one of small"):
        index_variants(PAPER, dataclasses.replace(MINI, name=name))


@pytest.mark.parametrize(
    "side, is_size",
    [
        (8, True),
        (4096, True),
        (0, False),
        (-8, False),
        (12, False),
        (4104, False),
        (208.0, False),
        (True, False),
        ("208", False),
        (None, False),
    ],
)
def test_the_side_of_an_input_is_a_multiple_of_8_pixels(side, is_size):
    assert is_input_size(side) is is_size


@pytest.mark.parametrize(
    "name, variant",
    [
        ("MCC_mini_train", "mini"),
        ("MCC_paper_without_mask_deploy", "paper"),
        ("MCC_paper_deploy (mcc_caffe.export)", "paper"),
        ("MCC_mini", None),
        ("MCC_mini_train_2", None),
        ("MCC_big_train", None),
        ("VGG_ILSVRC_19_layers", None),
    ],
)
def test_the_name_of_a_net_says_its_variant(name, variant):
    assert find_variant(name) == variant


@pytest.mark.parametrize(
    "name, value",
    [
        ("batch_size", 0),
        ("batch_size", 13.0),
        ("batch_size", True),
        ("batch_size", "13"),
        ("sigma", 0.0),
        ("sigma", math.inf),
        ("sigma", None),
        ("mask_loss_weight", -0.5),
        ("heatmap_loss_weight", math.nan),
        ("heatmap_loss_weight", math.inf),
        ("stage_lr_mult", -1.0),
    ],
)
def test_a_variant_has_numbers_that_can_be_trained_with(name, value):
    with pytest.raises(ValueError, match=f"^the variant mini has the {name} {value!r}: give a "):
        index_variants(PAPER, dataclasses.replace(MINI, **{name: value}))


def test_a_variant_has_a_loss_and_may_have_numbers_of_numpy():
    no_loss = dataclasses.replace(MINI, mask_loss_weight=0, heatmap_loss_weight=0)
    with pytest.raises(ValueError, match="the variant mini has no loss: give one a weight above 0"):
        index_variants(PAPER, no_loss)
    index_variants(PAPER, dataclasses.replace(MINI, batch_size=np.int64(8), mask_loss_weight=0))


def shapes(net):
    return {name: tuple(blob.data.shape) for name, blob in net.blobs.items()}


def deploy(variant, suffix=""):
    return caffe.Net(str(ROOT / f"prototxt/{variant.name}/deploy{suffix}.prototxt"), caffe.TEST)


def train(variant, source, folder, suffix="", batch_size=2):
    """The committed train net on another set and batch size."""
    net = read_text("NetParameter", ROOT / f"prototxt/{variant.name}/train{suffix}.prototxt")
    settings = json.loads(net.layer[0].python_param.param_str)
    settings.update(
        source=str(source), batch_size=batch_size, workers=0, augment=False, shuffle=False
    )
    net.layer[0].python_param.param_str = json.dumps(settings)
    path = folder / "train.prototxt"
    path.write_text(text_format.MessageToString(net))
    return caffe.Net(str(path), caffe.TRAIN)


@pytest.mark.parametrize(
    "folder, files, message",
    [
        ("prototxt", nets, "NetParameter"),
        ("solver", solvers, "SolverParameter"),
    ],
)
def test_committed_files_are_what_the_generator_writes(folder, files, message):
    fresh = files()
    assert set(fresh) == {
        str(path.relative_to(ROOT / folder)) for path in (ROOT / folder).glob("*/*.prototxt")
    }
    for path, content in fresh.items():
        parsed = text_format.Parse(content, getattr(messages(), message)())
        assert parsed == read_text(message, ROOT / folder / path), (
            f"{path} is out of date: run `make prototxt`"
        )


def test_solver_carries_the_papers_values():
    solver = read_text("SolverParameter", ROOT / "solver/paper/solver.prototxt")
    assert (solver.type, solver.base_lr, solver.lr_policy) == ("SGD", pytest.approx(5e-5), "step")
    assert (solver.gamma, solver.stepsize, solver.max_iter, solver.momentum) == (
        pytest.approx(0.3),
        50_000,
        200_000,
        pytest.approx(0.9),
    )


def test_the_released_solver():
    solver, paper = (
        read_text("SolverParameter", ROOT / f"solver/paper/{name}.prototxt")
        for name in ("solver_release", "solver")
    )
    assert (solver.net, solver.type, solver.base_lr, solver.lr_policy) == (
        paper.net,
        "SGD",
        pytest.approx(5e-5),
        "fixed",
    )
    assert (solver.max_iter, solver.momentum, solver.weight_decay, solver.snapshot) == (
        300_000,
        pytest.approx(0.9),
        pytest.approx(5e-4),
        1_000,
    )
    assert not solver.HasField("gamma") and not solver.HasField("stepsize")


def test_the_solver_of_fine_tuning_falls_from_a_fifth_of_the_rate_to_0():
    solver, usual = (
        read_text("SolverParameter", ROOT / f"solver/mini/{name}.prototxt")
        for name in ("solver_fine_tuning", "solver")
    )
    assert (solver.net, solver.type) == (usual.net, usual.type)
    assert solver.base_lr == pytest.approx(usual.base_lr / 5)
    assert (solver.lr_policy, solver.power, solver.max_iter) == ("poly", 1, 3000)


def test_train_net_carries_the_papers_values():
    net = read_text("NetParameter", ROOT / "prototxt/paper/train.prototxt")
    config = LoaderConfig.from_json(net.layer[0].python_param.param_str)
    assert (config.batch_size, config.input_size, config.sigma, config.augment) == (
        13,
        368,
        1.5,
        True,
    )
    losses = {layer.name: layer for layer in net.layer if layer.loss_weight}
    mask = losses.pop("conv6_2_CPM_loss_mask")
    assert list(mask.top) == ["loss_mask"] and list(mask.bottom) == ["conv6_2_CPM", "mask_label"]
    assert list(mask.loss_weight) == [pytest.approx(0.05)]
    assert mask.loss_param.HasField("normalize") and not mask.loss_param.normalize
    assert {
        name: (layer.type, list(layer.top), list(layer.bottom), list(layer.loss_weight))
        for name, layer in losses.items()
    } == {
        f"Mconv7_stage{stage}_loss": (
            "EuclideanLoss",
            [f"loss{stage}"],
            [f"Mconv7_stage{stage}", "heatmaps"],
            [1.0],
        )
        for stage in range(2, 7)
    }


def test_rates_and_fillers_of_the_papers_network():
    """Xavier up to conv5_2, then gaussian 0.01; the stages learn four times as fast (release)."""
    for kind in ("train", "deploy"):
        net = read_text("NetParameter", ROOT / f"prototxt/paper/{kind}.prototxt")
        for layer in net.layer:
            if layer.type != "Convolution":
                continue
            multipliers = [(param.lr_mult, param.decay_mult) for param in layer.param]
            assert multipliers == (
                [(4, 1), (8, 0)] if layer.name.startswith("Mconv") else [(1, 1), (2, 0)]
            ), layer.name
            weights, bias = (
                layer.convolution_param.weight_filler,
                layer.convolution_param.bias_filler,
            )
            if layer.name.endswith("CPM") or layer.name.startswith("Mconv"):
                assert (weights.type, weights.std) == ("gaussian", pytest.approx(0.01)), layer.name
            else:
                assert weights.type == "xavier", layer.name
            assert (bias.type, bias.value) == ("constant", 0)


def test_every_blob_of_the_papers_network():
    actual = shapes(deploy(PAPER))
    expected = {"image": (3, 368)}
    for block, layers, side in ((1, 2, 368), (2, 2, 184), (3, 4, 92), (4, 4, 46)):
        for layer in range(1, layers + 1):
            expected[f"conv{block}_{layer}"] = (min(64 * 2 ** (block - 1), 512), side)
        if block < 4:
            expected[f"pool{block}_stage1"] = (64 * 2 ** (block - 1), side // 2)
    expected.update(
        conv5_1=(512, 46),
        conv5_2=(512, 46),
        conv5_3_CPM=(128, 46),
        conv6_2_CPM=(2, 46),
        conv6_2_CPM_prob=(2, 46),
    )
    for stage in range(2, 7):
        expected[f"concat_stage{stage}"] = (130 if stage == 2 else 152, 46)
        expected.update({f"Mconv{layer}_stage{stage}": (128, 46) for layer in range(1, 7)})
        expected[f"Mconv7_stage{stage}"] = (22, 46)
    actual = {
        name: shape for name, shape in actual.items() if "_split_" not in name
    }  # Caffe's own copies
    assert actual == {
        name: (1, channels, side, side) for name, (channels, side) in expected.items()
    }


@pytest.mark.parametrize("kind", ["train", "deploy"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_order_of_the_joined_channels(variant, kind):
    """The heatmaps first, then the mask's scores, then F (release)."""
    net = read_text("NetParameter", ROOT / f"prototxt/{variant.name}/{kind}.prototxt")
    assert {layer.name: list(layer.bottom) for layer in net.layer if layer.type == "Concat"} == {
        "concat_stage2": ["conv6_2_CPM", "conv5_3_CPM"],
        **{
            f"concat_stage{stage}": [f"Mconv7_stage{stage - 1}", "concat_stage2"]
            for stage in range(3, 7)
        },
    }


def test_the_mask_of_the_deploy_net():
    (layer,) = (
        layer
        for layer in read_text("NetParameter", ROOT / "prototxt/paper/deploy.prototxt").layer
        if layer.type == "Softmax"
    )
    assert (layer.name, list(layer.bottom), list(layer.top)) == (
        "mask",
        ["conv6_2_CPM"],
        ["conv6_2_CPM_prob"],
    )


def test_every_blob_of_mini_is_a_quarter_as_wide_at_16_cells():
    paper, mini = shapes(deploy(PAPER)), shapes(deploy(MINI))
    assert paper.keys() == mini.keys()
    for name, (_, channels, side, _) in mini.items():
        full = paper[name]
        assert side * 368 == full[2] * 128
        fixed = {
            3: 3,
            2: 2,
            HEATMAP_COUNT: HEATMAP_COUNT,
            130: 34,
            152: 56,
        }  # F + M = 32 + 2, + 22 heatmaps
        assert channels == fixed.get(full[1], full[1] // 4)


@pytest.mark.parametrize(
    "variant, suffix, count",
    [
        (PAPER, "", 36_679_984),
        (PAPER, "_without_mask", 36_617_006),
        (PAPER, "_without_pose", 15_894_978),
        (MINI, "", 2_412_448),
        (MINI, "_without_mask", 2_396_702),
        (MINI, "_without_pose", 994_674),
    ],
)
def test_parameter_counts(variant, suffix, count):
    assert (
        sum(blob.count for blobs in deploy(variant, suffix).params.values() for blob in blobs)
        == count
    )


@pytest.mark.parametrize("variant, suffix", VARIANT_NETS)
def test_train_and_deploy_share_every_parameter(variant, suffix, drawn_set, tmp_path):
    assert net_shapes(train(variant, drawn_set, tmp_path, suffix, 1)) == net_shapes(
        deploy(variant, suffix)
    )


@pytest.mark.parametrize(
    "suffix, outputs",
    [
        ("", {"conv6_2_CPM_prob", "Mconv7_stage6"}),
        ("_without_mask", {"Mconv7_stage6"}),
        ("_without_pose", {"conv6_2_CPM_prob"}),
    ],
)
def test_outputs_of_the_ablations(suffix, outputs):
    assert set(deploy(MINI, suffix).outputs) == outputs


def test_without_mask_the_stages_see_f_alone():
    actual = shapes(deploy(PAPER, "_without_mask"))
    assert "concat_stage2" not in actual and "conv6_2_CPM" not in actual
    assert actual["concat_stage3"][1] == 22 + 128


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_loss_of_zero_output(variant, tmp_path):
    """The paper's "6K": with zero output a stage's loss is half the heatmaps' energy.

    The mask's loss is then ln 2 a cell.
    """
    rng = np.random.default_rng(3)
    source = write_set(tmp_path / "set", [drawn_sample(rng, "one", 368, 368)])
    net = train(variant, source, tmp_path, batch_size=1)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = 0
    net.forward()
    losses = stage_losses(net)
    energy = np.square(net.blobs["heatmaps"].data.astype(np.float64)).sum()
    for stage in POSE_STAGES:
        assert losses[stage_loss_blob(stage)] == pytest.approx(energy / 2, rel=1e-5)
    assert losses["loss_mask"] == pytest.approx(variant.cells**2 * np.log(2), rel=1e-5)
    total = sum(net.blob_loss_weights[name] * loss for name, loss in losses.items())
    if variant is PAPER:
        assert 4_600 < total < 5_400  # paper-scale losses: sums, not means


def test_first_loss_of_the_paper(tmp_path):
    """The released fillers' weights answer next to nothing: it starts where zero output does."""
    rng = np.random.default_rng(3)
    source = write_set(tmp_path / "set", [drawn_sample(rng, "one", 368, 368)])
    caffe.set_random_seed(0)
    net = train(PAPER, source, tmp_path, batch_size=1)
    net.forward()
    total = sum(net.blob_loss_weights[name] * loss for name, loss in stage_losses(net).items())
    energy = np.square(net.blobs["heatmaps"].data.astype(np.float64)).sum()
    zero = len(POSE_STAGES) * energy / 2 + 0.05 * 46**2 * np.log(2)
    assert total == pytest.approx(zero, rel=0.01) and 4_600 < total < 5_400


def test_trivial_answer_has_the_trivial_loss(drawn_set, tmp_path):
    """Weights zero, the background map's bias 1: the answer is "keypoints 0, background 1"."""
    net = train(MINI, drawn_set, tmp_path)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = 0
    for stage in POSE_STAGES:
        net.params[stage_blob(stage)][1].data[BACKGROUND_INDEX] = 1
    net.forward()
    trivial = trivial_loss(net.blobs["heatmaps"].data)
    for stage in POSE_STAGES:
        assert stage_losses(net)[stage_loss_blob(stage)] == pytest.approx(trivial, rel=1e-5)


def test_samples_without_mask_add_nothing_to_the_mask_loss(drawn_samples, tmp_path):
    masked, other = drawn_samples[:2]
    bare = Sample(masked.key, masked.image_bytes, None, masked.keypoints)
    net = train(MINI, write_set(tmp_path / "set", [bare, other]), tmp_path)
    net.forward()
    assert (net.blobs["mask_label"].data[0] == 255).all()
    scores = net.blobs["conv6_2_CPM"].data[1].astype(np.float64)
    label = net.blobs["mask_label"].data[1, 0].astype(int)
    logs = scores - np.log(np.exp(scores).sum(axis=0))
    expected = (
        -np.take_along_axis(logs, label[None], axis=0).sum() / 2
    )  # summed over cells, over N = 2 (Eq. 2)
    assert float(net.blobs["loss_mask"].data) == pytest.approx(expected, rel=1e-4)


def test_files_are_written_completely_or_not_at_all(tmp_path, monkeypatch):
    files = {"mini/train.prototxt": "new"}
    generate.write(files, tmp_path)
    target = tmp_path / "mini/train.prototxt"
    assert target.read_text() == "new"

    def interrupt(path, replaced):
        raise KeyboardInterrupt

    monkeypatch.setattr(pathlib.Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        generate.write({"mini/train.prototxt": "newer"}, tmp_path)
    assert target.read_text() == "new" and list(target.parent.iterdir()) == [target]
