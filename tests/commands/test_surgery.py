"""Weights of OpenPose's hand model [9] in our net: real Caffe shows that the stages agree."""

import shutil

import numpy as np
import pytest

from mcc_caffe import surgery
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.protobuf import messages, text_format
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import load_weights
from mcc_caffe.core.errors import UserError
from tests.support.commands import ROOT, refusal, run
from tests.support.weights import mini_net, set_random_weights

SIDE = 64  # pixels of the input: 8 x 8 maps are enough to compare
STAGES = [f"Mconv7_stage{stage}" for stage in range(2, 7)]
TRUNK = (
    [f"conv1_{n}" for n in (1, 2)],
    [f"conv2_{n}" for n in (1, 2)],
    [f"conv3_{n}" for n in (1, 2, 3, 4)],
    [f"conv4_{n}" for n in (1, 2, 3, 4)] + ["conv5_1", "conv5_2"],
)
CHANNELS = (64, 128, 256, 512)


def openpose_prototxt() -> str:
    """[9]'s hand network as its authors describe it.

    It has VGG-19 up to conv4_4, three convolutions, and 6 stages of 22 maps; it has no mask.
    """
    net = messages().NetParameter(
        name="openpose hand", input=["image"], input_dim=[1, 3, SIDE, SIDE]
    )

    def add(name, kind, bottoms, top=None):
        return net.layer.add(name=name, type=kind, bottom=bottoms, top=[top or name])

    def convolution(bottom, name, channels, kernel, relu=True):
        parameters = add(name, "Convolution", [bottom]).convolution_param
        parameters.num_output, parameters.kernel_size[:], parameters.pad[:] = (
            channels,
            [kernel],
            [kernel // 2],
        )
        if relu:
            add(f"relu_{name}", "ReLU", [name], name)
        return name

    blob = "image"
    for block, (names, channels) in enumerate(zip(TRUNK, CHANNELS), start=1):
        for name in names:
            blob = convolution(blob, name, channels, 3)
        if block < 4:
            pooling = add(f"pool{block}", "Pooling", [blob]).pooling_param
            pooling.kernel_size, pooling.stride = 2, 2
            blob = f"pool{block}"
    features = convolution(blob, "conv5_3_CPM", 128, 3)
    maps = convolution(
        convolution(features, "conv6_1_CPM", 512, 1), "conv6_2_CPM", 22, 1, relu=False
    )
    for stage in range(2, 7):
        add(f"concat_stage{stage}", "Concat", [maps, features])
        blob = f"concat_stage{stage}"
        for number in range(1, 6):
            blob = convolution(blob, f"Mconv{number}_stage{stage}", 128, 7)
        blob = convolution(blob, f"Mconv6_stage{stage}", 128, 1)
        maps = convolution(blob, f"Mconv7_stage{stage}", 22, 1, relu=False)
    return text_format.MessageToString(net)


@pytest.fixture(scope="module")
def openpose(tmp_path_factory):
    """([9]'s net with random weights, its caffemodel)."""
    folder = tmp_path_factory.mktemp("openpose")
    (folder / "pose_deploy.prototxt").write_text(openpose_prototxt())
    caffe = import_caffe()
    caffe.set_mode_cpu()
    net = caffe.Net(str(folder / "pose_deploy.prototxt"), caffe.TEST)
    set_random_weights(net)
    net.save(str(folder / "pose_iter_102000.caffemodel"))
    yield net, folder / "pose_iter_102000.caffemodel"
    shutil.rmtree(folder)  # half a gigabyte that pytest would keep


@pytest.fixture(scope="module")
def transplanted(openpose):
    """(messages of the command, caffemodel that it wrote)."""
    out = openpose[1].with_name("mcc_from_openpose.caffemodel")
    done = run("mcc_caffe.surgery", "--openpose", openpose[1], "--out", out)
    assert done.returncode == 0, done.stderr
    assert not list(out.parent.glob(".*"))
    assert done.stdout == f"{out}: 50 layers of {openpose[1]}\n"
    return done.stderr, out


def transplanted_net(transplanted):
    """Return our net with these weights, after a forward pass on a random image."""
    caffe = import_caffe()
    net = caffe.Net(str(ROOT / "prototxt/paper/deploy.prototxt"), caffe.TEST)
    load_weights(net, transplanted[1])
    run_on_noise(net)
    return net


def run_on_noise(net):
    net.blobs["image"].reshape(1, 3, SIDE, SIDE)
    net.blobs["image"].data[...] = np.random.default_rng(1).uniform(-0.5, 0.5, (1, 3, SIDE, SIDE))
    net.forward()


def assert_same(actual, expected):
    assert expected.std() > 0.01 and np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()


def test_our_stages_answer_as_openposes_given_the_same_maps(openpose, transplanted):
    """F agrees, stage 2 agrees away from the border, stages 3 to 6 on equal maps before them."""
    ours, theirs = transplanted_net(transplanted), openpose[0]
    run_on_noise(theirs)
    assert_same(ours.blobs["conv5_3_CPM"].data, theirs.blobs["conv5_3_CPM"].data)

    no_keypoint = theirs.blobs["conv6_2_CPM"].data
    no_keypoint[...] = 0
    no_keypoint[:, 21] = 1
    theirs.forward(start="concat_stage2", end="Mconv1_stage2")
    theirs.blobs["Mconv1_stage2"].data[...] = np.maximum(theirs.blobs["Mconv1_stage2"].data, 0)
    inside = np.s_[:, :, 3:-3, 3:-3]  # elsewhere a kernel of 7 reaches beyond the maps
    first = theirs.blobs["Mconv1_stage2"].data[inside]
    assert_same(ours.blobs["Mconv1_stage2"].data[inside], first)

    theirs.blobs["Mconv7_stage2"].data[...] = ours.blobs["Mconv7_stage2"].data
    theirs.forward(start="concat_stage3")
    for name in STAGES[1:]:
        assert_same(ours.blobs[name].data, theirs.blobs[name].data)
    assert ours.blobs["conv6_2_CPM"].data.std() > 0  # there is a mask, but it has no effect


def test_the_command_says_what_is_left_to_training(transplanted):
    zeros, first, left, out = transplanted[0].splitlines()
    assert zeros == "with zeros for the mask: " + ", ".join(
        f"Mconv1_stage{stage}" for stage in range(2, 7)
    )
    assert first == 'without heatmaps before it, "no keypoint anywhere" in its bias: Mconv1_stage2'
    assert left == "left to training, at its random start: conv6_2_CPM"
    assert out == "left out: conv6_1_CPM, conv6_2_CPM"


def test_the_mask_head_starts_as_the_fillers_start_it(transplanted):
    net = transplanted_net(transplanted)
    kernel, bias = (blob.data for blob in net.params["conv6_2_CPM"])
    assert kernel.std() == pytest.approx(0.01, rel=0.2) and not bias.any()
    for stage, mask_channel in ((2, 0), (3, 22), (4, 22), (5, 22), (6, 22)):
        kernel = net.params[f"Mconv1_stage{stage}"][0].data
        mask_channels = (mask_channel, mask_channel + 1)
        assert not kernel[:, mask_channels].any()
        assert np.delete(kernel, mask_channels, axis=1).all()


@pytest.mark.parametrize("suffix", ["", "_without_mask", "_without_pose"])
def test_openposes_file_is_not_loaded_without_surgery(suffix, openpose):
    """Its conv6_2_CPM is another layer than our mask head of that name."""
    caffe = import_caffe()
    net = caffe.Net(str(ROOT / f"prototxt/mini/deploy{suffix}.prototxt"), caffe.TEST)
    before = net.params["conv1_1"][0].data.copy()
    with pytest.raises(UserError) as error:
        load_weights(net, openpose[1], complete=False)
    message = str(error.value)
    assert "is OpenPose's hand model: make weights of our net out of it with `python -m" in message
    assert np.array_equal(net.params["conv1_1"][0].data, before)


def test_vgg_19_loads_by_name(openpose):
    """Its layers up to conv5_2 have the names of our trunk; the others are ignored."""
    caffe = import_caffe()
    path = without_layers(
        openpose[1], *[name for name in openpose[0].params if name not in sum(TRUNK, [])]
    )
    net = caffe.Net(str(ROOT / "prototxt/paper/deploy.prototxt"), caffe.TEST)
    assert load_weights(net, path, complete=False) == sum(TRUNK, [])
    for name in ("conv1_1", "conv5_2"):
        assert np.array_equal(net.params[name][0].data, openpose[0].params[name][0].data)


def test_the_same_file_is_made_again(openpose, transplanted):
    again = openpose[1].with_name("new") / "again.caffemodel"
    surgery.main(["--openpose", str(openpose[1]), "--out", str(again)])
    assert again.read_bytes() == transplanted[1].read_bytes()


def test_vectors_of_old_files_are_read(openpose, transplanted, tmp_path):
    """Files from before 2014 write the shape of a bias as 1, 1, 1 and its length."""
    model = messages().NetParameter.FromString(openpose[1].read_bytes())
    for layer in model.layer:
        for blob in layer.blobs:
            dim = [1] * (4 - len(blob.shape.dim)) + list(blob.shape.dim)
            blob.ClearField("shape")
            blob.num, blob.channels, blob.height, blob.width = dim
    old, out = tmp_path / "old.caffemodel", tmp_path / "out.caffemodel"
    old.write_bytes(model.SerializeToString())
    surgery.main(["--openpose", str(old), "--out", str(out)])
    assert out.read_bytes() == transplanted[1].read_bytes()


def without_layers(path, *names):
    """Write a copy of a caffemodel that lacks these layers; return its path."""
    model = messages().NetParameter.FromString(path.read_bytes())
    for layer in [layer for layer in model.layer if layer.name in names]:
        model.layer.remove(layer)
    other = path.with_name("other.caffemodel")
    other.write_bytes(model.SerializeToString())
    return other


def test_weights_of_another_net_are_refused(openpose, transplanted, tmp_path):
    mini = tmp_path / "mini.caffemodel"
    mini_net().save(str(mini))

    def message(path):
        with pytest.raises(UserError) as error:
            surgery.main(["--openpose", str(path), "--out", str(tmp_path / "out.caffemodel")])
        assert not (tmp_path / "out.caffemodel").exists()
        return str(error.value)

    incomplete = without_layers(openpose[1], "conv5_3_CPM", "Mconv7_stage5")
    assert message(incomplete).endswith(
        "is not OpenPose's hand model: it lacks conv5_3_CPM, Mconv7_stage5; "
        "give its pose_iter_102000.caffemodel"
    )
    assert (
        "layer conv1_1 is [(16, 3, 3, 3), (16,)] and should be [(64, 3, 3, 3), (64,)]"
        in message(mini)
    )
    shapes = "is [(128, 130, 7, 7), (128,)] and should be [(128, 150, 7, 7), (128,)]"
    assert f"layer Mconv1_stage2 {shapes}" in message(transplanted[1])
    assert "is packed: give a caffemodel" in message(shutil.copy(shipped_weights("mini"), tmp_path))


def test_a_file_that_is_no_caffemodel_gives_one_line(tmp_path):
    (tmp_path / "text").write_text("no weights")
    for path, message in (
        (tmp_path / "text", "is not a complete NetParameter file"),
        (tmp_path / "none", "was not found"),
    ):
        done = run("mcc_caffe.surgery", "--openpose", path, "--out", tmp_path / "out.caffemodel")
        assert message in refusal(done)


def test_no_file_is_replaced(tmp_path):
    """A caffemodel does not say what wrote it: it may be the snapshot of a training."""
    out = tmp_path / "mcc_iter_9.caffemodel"
    out.write_bytes(b"of a training")
    with pytest.raises(UserError, match="would be overwritten .* give another file to write"):
        surgery.main(["--openpose", "pose_iter_102000.caffemodel", "--out", str(out)])
    assert out.read_bytes() == b"of a training"
