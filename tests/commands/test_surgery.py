"""Weights of OpenPose's hand model [9] in our net: the same five stages, shown on random weights with real Caffe."""
import shutil

import numpy as np
import pytest

from mcc_caffe import surgery
from mcc_caffe.caffe_io.protobuf import messages, text_format
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import load_weights
from mcc_caffe.core.errors import UserError
from tests.support.commands import ROOT, run

SIDE = 64          # pixels of the input: 8 x 8 maps are enough to compare
STAGES = [f"Mconv7_stage{stage}" for stage in range(2, 6)]
TRUNK = ([f"conv1_{n}" for n in (1, 2)], [f"conv2_{n}" for n in (1, 2)], [f"conv3_{n}" for n in (1, 2, 3, 4)],
         [f"conv4_{n}" for n in (1, 2, 3, 4)] + ["conv5_1", "conv5_2"])
CHANNELS = (64, 128, 256, 512)


def openpose_prototxt() -> str:
    """[9]'s hand network as its authors describe it: VGG-19 to conv4_4, three convolutions, 6 stages of 22 maps, no mask."""
    net = messages().NetParameter(name="openpose hand", input=["image"], input_dim=[1, 3, SIDE, SIDE])

    def add(name, kind, bottoms, top=None):
        return net.layer.add(name=name, type=kind, bottom=bottoms, top=[top or name])

    def convolution(bottom, name, channels, kernel, relu=True):
        parameters = add(name, "Convolution", [bottom]).convolution_param
        parameters.num_output, parameters.kernel_size[:], parameters.pad[:] = channels, [kernel], [kernel // 2]
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
    maps = convolution(convolution(features, "conv6_1_CPM", 512, 1), "conv6_2_CPM", 22, 1, relu=False)
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
    rng = np.random.default_rng(0)
    for kernel, bias in net.params.values():
        kernel.data[...] = rng.normal(0, np.sqrt(2 / np.prod(kernel.data.shape[1:])), kernel.data.shape)
        bias.data[...] = rng.normal(0, 0.1, bias.data.shape)
    net.save(str(folder / "pose_iter_102000.caffemodel"))
    yield net, folder / "pose_iter_102000.caffemodel"
    shutil.rmtree(folder)                                                    # half a gigabyte that pytest would keep


@pytest.fixture(scope="module")
def transplanted(openpose):
    """What the command made of it: (standard output, caffemodel)."""
    out = openpose[1].with_name("mcc_from_openpose.caffemodel")
    done = run("mcc_caffe.surgery", "--openpose", openpose[1], "--out", out)
    assert done.returncode == 0, done.stderr
    assert not list(out.parent.glob(".*"))
    return done.stdout, out


def forward(net, blob):
    net.blobs[blob].reshape(1, 3, SIDE, SIDE)
    net.blobs[blob].data[...] = np.random.default_rng(1).uniform(-0.5, 0.5, (1, 3, SIDE, SIDE))
    net.forward()
    return {name: net.blobs[name].data.copy() for name in ("conv5_3_CPM", "conv6_2_CPM", *STAGES)}


@pytest.mark.parametrize("suffix", ["", "_without_mask"])
def test_our_five_stages_answer_as_the_first_five_of_openpose(suffix, openpose, transplanted):
    """The net without mask takes [9]'s file as it is."""
    caffe = import_caffe()
    net = caffe.Net(str(ROOT / f"prototxt/paper/deploy{suffix}.prototxt"), caffe.TEST)
    load_weights(net, openpose[1] if suffix else transplanted[1])
    expected, found = forward(openpose[0], "image"), forward(net, "data")
    for name, maps in expected.items():
        assert maps.std() > 0.01 and np.abs(found[name] - maps).max() < 1e-5 * np.abs(maps).max(), name
    if not suffix:
        assert net.blobs["conv5_5_mask"].data.std() > 0                      # the mask is there, and is not looked at


def test_the_command_says_what_is_left_to_training(transplanted):
    lines = transplanted[0].splitlines()
    assert ": 45 layers of " in lines[0] and lines[0].endswith("conv6_1_CPM, Mconv1_stage2, Mconv1_stage3, Mconv1_stage4, Mconv1_stage5")
    assert lines[1].endswith(": conv5_4_mask, conv5_5_mask")
    assert lines[2] == "left out: " + ", ".join(f"Mconv{number}_stage6" for number in range(1, 8))


def test_the_mask_head_starts_as_the_fillers_start_it(transplanted):
    caffe = import_caffe()
    net = caffe.Net(str(ROOT / "prototxt/paper/deploy.prototxt"), caffe.TEST)
    load_weights(net, transplanted[1])
    for name in surgery.MASK_HEAD:
        kernel, bias = (blob.data for blob in net.params[name])
        assert kernel.std() > 0 and not bias.any()
    for name in surgery.SEES_MASK:
        kernel = net.params[name][0].data
        assert not kernel[:, -2:].any() and kernel[:, -3].any()


def test_the_same_file_is_made_again(openpose, transplanted):
    again = openpose[1].with_name("new") / "again.caffemodel"
    surgery.main(["--openpose", str(openpose[1]), "--out", str(again)])
    assert again.read_bytes() == transplanted[1].read_bytes()


def without_layers(path, *names):
    """A copy of a caffemodel that lacks these layers."""
    model = messages().NetParameter.FromString(path.read_bytes())
    for layer in [layer for layer in model.layer if layer.name in names]:
        model.layer.remove(layer)
    other = path.with_name("other.caffemodel")
    other.write_bytes(model.SerializeToString())
    return other


def test_weights_of_another_net_give_one_line(openpose, transplanted, tmp_path):
    caffe = import_caffe()
    mini = tmp_path / "mini.caffemodel"
    caffe.Net(str(ROOT / "prototxt/mini/deploy.prototxt"), caffe.TEST).save(str(mini))

    def message(path):
        with pytest.raises(UserError) as error:
            surgery.main(["--openpose", str(path), "--out", str(tmp_path / "out.caffemodel")])
        assert "\n" not in str(error.value) and not (tmp_path / "out.caffemodel").exists()
        return str(error.value)

    two = without_layers(openpose[1], "conv5_3_CPM", "Mconv7_stage5")
    assert message(two).endswith("is not OpenPose's hand model: it lacks conv5_3_CPM, Mconv7_stage5; give its pose_iter_102000.caffemodel")
    assert "layer conv1_1 is [(16, 3, 3, 3), (16,)] and should be [(64, 3, 3, 3), (64,)]" in message(mini)
    assert "layer conv6_1_CPM is [(512, 130, 1, 1), (512,)] and should be [(512, 128, 1, 1), (512,)]" in message(transplanted[1])
    assert "is packed: give a caffemodel" in message(shutil.copy(ROOT / "mcc_caffe/pretrained/mini.npz", tmp_path))


def test_a_file_that_is_no_caffemodel_gives_one_line(tmp_path):
    (tmp_path / "text").write_text("no weights")
    for path, said in ((tmp_path / "text", "is not a complete NetParameter file"), (tmp_path / "none", "was not found")):
        done = run("mcc_caffe.surgery", "--openpose", path, "--out", tmp_path / "out.caffemodel")
        assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
