"""The authors' files and ours are one network: weights go both ways, and the losses agree.

The authors' nets are written here by hand, after what their files say, and use none of
prototxt/network.py. One setting is this project's: the mask loss passes over the label 255, which
samples without a mask have.
"""

import os
from dataclasses import replace

import numpy as np
import pytest

from mcc_caffe.caffe_io.protobuf import messages, read_text, text_format
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import load_weights, net_shapes, read_caffemodel
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data.samples import Sample
from mcc_caffe.paper import MINI, PAPER
from tests.support.commands import ROOT, run, run_program
from tests.support.hands import write_set

caffe = import_caffe()
from prototxt.nets import deploy_net, train_net  # noqa: E402  (imports caffe itself)

# The paper's net at a size that trains at once.
SMALL = replace(PAPER, name="small", width=0.25, input_size=128)
BATCH = 2
LOSSES = ("loss_mask", *(f"loss{stage}" for stage in range(2, 7)))
XAVIER, GAUSSIAN = 'type: "xavier"', 'type: "gaussian" std: 0.01'


def layer(name, kind, bottoms, tops, settings=""):
    ends = "".join(f' bottom: "{blob}"' for blob in bottoms) + "".join(
        f' top: "{blob}"' for blob in tops
    )
    return f'layer {{ name: "{name}" type: "{kind}"{ends} {settings} }}\n'


def convolution(name, bottom, channels, kernel, filler, lr_mult=1):
    """A convolution of the release."""
    return layer(
        name,
        "Convolution",
        [bottom],
        [name],
        f"""
        param {{ lr_mult: {lr_mult} decay_mult: 1 }}
        param {{ lr_mult: {2 * lr_mult} decay_mult: 0 }}
        convolution_param {{ num_output: {channels} pad: {kernel // 2} kernel_size: {kernel}
            weight_filler {{ {filler} }} bias_filler {{ type: "constant" value: 0 }} }}""",
    )


def relu(blob):
    return layer(f"{blob}_relu", "ReLU", [blob], [blob])


def released(width, *, source=None, batch=BATCH, side=368):
    """The release's train net on the HDF5 files that `source` lists, else its deploy net."""
    image = "data" if source else "image"
    if source:
        text = layer(
            "data",
            "HDF5Data",
            [],
            ["data", "label", "mask"],
            f'hdf5_data_param {{ source: "{source}" batch_size: {batch} }}',
        )
    else:
        shape = f"dim: 1 dim: 3 dim: {side} dim: {side}"
        text = layer("image", "Input", [], ["image"], f"input_param {{ shape {{ {shape} }} }}")
    blob = image
    for block, (layers, channels) in enumerate(
        ((2, 64), (2, 128), (4, 256), (4, 512), (2, 512)), start=1
    ):
        for number in range(1, layers + 1):
            name = f"conv{block}_{number}"
            text += convolution(name, blob, int(channels * width), 3, XAVIER) + relu(name)
            blob = name
        if block < 4:
            text += layer(
                f"pool{block}_stage1",
                "Pooling",
                [blob],
                [f"pool{block}_stage1"],
                "pooling_param { pool: MAX kernel_size: 2 stride: 2 }",
            )
            blob = f"pool{block}_stage1"
    hidden = int(128 * width)
    text += convolution("conv5_3_CPM", blob, hidden, 3, GAUSSIAN) + relu("conv5_3_CPM")
    text += convolution("conv6_2_CPM", "conv5_3_CPM", 2, 1, GAUSSIAN)
    if source:
        text += layer(
            "conv6_2_CPM_loss_mask",
            "SoftmaxWithLoss",
            ["conv6_2_CPM", "mask"],
            ["loss_mask"],
            "loss_weight: 0.05 loss_param { ignore_label: 255 normalize: false }",
        )
    else:
        text += layer("mask", "Softmax", ["conv6_2_CPM"], ["conv6_2_CPM_prob"])
    text += layer("concat_stage2", "Concat", ["conv6_2_CPM", "conv5_3_CPM"], ["concat_stage2"])
    for stage in range(2, 7):
        blob = f"concat_stage{stage}"
        if stage > 2:
            text += layer(blob, "Concat", [f"Mconv7_stage{stage - 1}", "concat_stage2"], [blob])
        for number in range(1, 7):
            name = f"Mconv{number}_stage{stage}"
            text += convolution(
                name, blob, hidden, 7 if number < 6 else 1, GAUSSIAN, lr_mult=4
            ) + relu(name)
            blob = name
        name = f"Mconv7_stage{stage}"
        text += convolution(name, blob, 22, 1, GAUSSIAN, lr_mult=4)
        if source:
            text += layer(
                f"{name}_loss", "EuclideanLoss", [name, "label"], [f"loss{stage}"], "loss_weight: 1"
            )
    return text


def net_of(text, path, phase):
    path.write_text(text)
    return caffe.Net(str(path), phase)


def described(net):
    """{layer: what it says}, but for the data layer and ReLUs' names: no weights hang there."""
    ours = {"mask_label": "mask", "heatmaps": "label"}
    layers = {}
    for layer in net.layer:
        if layer.type not in ("Python", "HDF5Data", "Input"):
            layer.bottom[:] = [ours.get(bottom, bottom) for bottom in layer.bottom]
            name = f"ReLU of {layer.top[0]}" if layer.type == "ReLU" else layer.name
            if layer.type == "ReLU":
                layer.ClearField("name")
            layers[name] = layer
    return layers


@pytest.mark.parametrize("kind", ["train", "deploy"])
def test_every_layer_says_the_same_at_full_width(kind):
    """Names, blobs, shapes, order of joining, fillers, rates and losses."""
    text = released(1, source="files.txt" if kind == "train" else None)
    theirs = described(text_format.Parse(text, messages().NetParameter()))
    ours = described(read_text("NetParameter", ROOT / f"prototxt/paper/{kind}.prototxt"))
    assert theirs.keys() == ours.keys()
    for name, said in theirs.items():
        assert text_format.MessageToString(said) == text_format.MessageToString(ours[name])


def test_caffe_makes_the_same_parameters_and_blobs_at_full_width(tmp_path):
    theirs = net_of(released(1), tmp_path / "net.prototxt", caffe.TEST)
    ours = caffe.Net(str(ROOT / "prototxt/paper/deploy.prototxt"), caffe.TEST)
    assert net_shapes(theirs) == net_shapes(ours)
    assert sum(blob.count for blobs in theirs.params.values() for blob in blobs) == 36_679_984
    assert theirs.inputs == ours.inputs == ["image"] and theirs.outputs == ours.outputs

    def blobs(net):
        return {name: blob.data.shape for name, blob in net.blobs.items() if "_split_" not in name}

    assert blobs(theirs) == blobs(ours)


@pytest.fixture(scope="module")
def source(drawn_samples, tmp_path_factory):
    """Six drawn hands, one of them without a mask."""
    first = drawn_samples[0]
    bare = Sample(first.key, first.image_bytes, None, first.keypoints)
    return write_set(tmp_path_factory.mktemp("interchange") / "set", [bare, *drawn_samples[1:6]])


@pytest.fixture(scope="module")
def files(source, tmp_path_factory):
    """The list of the HDF5 files of the hands, two copies each."""
    folder = tmp_path_factory.mktemp("interchange") / "baked"
    done = run(
        *("data_tools.bake", source, folder, "--copies", 2, "--variant", "mini"),
        *("--format", "hdf5", "--batch-size", BATCH),
    )
    assert done.returncode == 0, done.stderr
    return folder / "files.txt"


@pytest.fixture(scope="module")
def trained(files, caffe_tool, tmp_path_factory):
    """The caffemodel of two iterations of the stock tool on the authors' train net, no Python."""
    folder = tmp_path_factory.mktemp("interchange")
    (folder / "train_val.prototxt").write_text(released(SMALL.width, source=files))
    (folder / "solver.prototxt").write_text(f"""
        net: "{folder / "train_val.prototxt"}" base_lr: 5e-5 momentum: 0.9 weight_decay: 5e-4
        lr_policy: "fixed" max_iter: 2 snapshot: 2 snapshot_prefix: "{folder / "net"}"
        solver_mode: CPU random_seed: 1""")
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    solver = f"--solver={folder / 'solver.prototxt'}"
    done = run_program(caffe_tool, "train", solver, cwd="/", env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "net_iter_2.caffemodel"


def answers(net):
    net.blobs["image"].data[...] = np.random.default_rng(2).uniform(
        -0.5, 0.5, net.blobs["image"].data.shape
    )
    return {name: values.copy() for name, values in net.forward().items()}


def test_their_weights_load_whole_into_ours(trained, tmp_path):
    ours = net_of(deploy_net(SMALL), tmp_path / "ours.prototxt", caffe.TEST)
    assert load_weights(ours, trained) == list(read_caffemodel(trained)[0]) == list(ours.params)
    theirs = net_of(
        released(SMALL.width, side=SMALL.input_size), tmp_path / "theirs.prototxt", caffe.TEST
    )
    theirs.copy_from(str(trained))
    expected, actual = answers(theirs), answers(ours)
    assert set(actual) == {"conv6_2_CPM_prob", "Mconv7_stage6"}
    for name, values in expected.items():
        assert np.array_equal(actual[name], values)


def our_train_net(source, folder):
    """Our train net on the Python layer, with the data that `mini` is fed."""
    net = text_format.Parse(train_net(SMALL), messages().NetParameter())
    net.layer[0].python_param.param_str = LoaderConfig.of(
        MINI, str(source), batch_size=BATCH, workers=0
    ).to_json()
    return net_of(text_format.MessageToString(net), folder / "ours.prototxt", caffe.TRAIN)


def test_our_weights_load_whole_into_theirs_and_have_the_same_losses(source, files, tmp_path):
    """Batch after batch: the HDF5 files hold what the Python layer makes, ignored masks too."""
    caffe.set_random_seed(4)
    ours = our_train_net(source, tmp_path)
    for kernel, bias in ours.params.values():  # weights under which no layer's values die
        bias.data[...] = np.random.default_rng(5).normal(0, 0.1, bias.data.shape)
        kernel.data[...] *= np.sqrt(2 / np.prod(kernel.data.shape[1:])) / kernel.data.std()
    ours.save(str(tmp_path / "ours.caffemodel"))
    theirs = net_of(released(SMALL.width, source=files), tmp_path / "theirs.prototxt", caffe.TRAIN)
    assert load_weights(theirs, tmp_path / "ours.caffemodel") == list(theirs.params)

    ignored = False
    for _ in range(3):  # the whole set once
        ours.forward(), theirs.forward()
        ignored |= (theirs.blobs["mask"].data == 255).any()
        for name in LOSSES:
            expected = float(ours.blobs[name].data)
            assert (
                float(theirs.blobs[name].data) == pytest.approx(expected, rel=1e-5) and expected > 0
            )
        assert {name: ours.blob_loss_weights[name] for name in LOSSES} == {
            name: theirs.blob_loss_weights[name] for name in LOSSES
        }
    assert ignored
