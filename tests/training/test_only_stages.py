"""`--only-stages`: the pose stages learn, and trunk, mask head and box head stay as they are."""

import numpy as np
import pytest
from google.protobuf import text_format

from mcc_caffe import pack, train
from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.protobuf import messages, read_text
from mcc_caffe.caffe_io.weights import WeightsError, read_caffemodel, write_caffemodel
from mcc_caffe.predictor import HandPredictor
from mcc_caffe.training.run_net import prepare_net
from tests.support.commands import ROOT, refusal, run


def test_stages_alone_learn_and_the_box_head_stays(drawn_set, tmp_path):
    """Trunk and mask head are those of the start to the last bit, so that its box head fits."""
    shipped = shipped_weights("mini")
    done = run(
        *("mcc_caffe.train", drawn_set, "--out", tmp_path / "run", "--weights", shipped),
        *("--only-stages", "--iterations", 2, "--batch-size", 2, "--input-size", 64),
    )
    assert done.returncode == 0, done.stderr
    learnt = tmp_path / "run/snapshots/mcc_iter_2.caffemodel"
    start, (end, _) = packed_weights.read(shipped).layers, read_caffemodel(learnt)
    stages = {name for name in end if name.startswith("Mconv")}
    assert len(stages) == 35 and len(end) == 51
    for name, blobs in end.items():
        same = [np.array_equal(*pair) for pair in zip(blobs, start[name], strict=True)]
        assert all(same) if name not in stages else not any(same), name

    out = tmp_path / "own.npz"
    pack.main([str(learnt), str(out), "--boxes", str(shipped)])
    packed = packed_weights.read(out)
    boxes = [name for name in start if name not in end]
    assert list(packed.layers) == [*end, *boxes] and len(boxes) == 4
    for name in boxes:
        assert all(map(np.array_equal, packed.layers[name], start[name]))
    assert "calibration" not in packed.metadata
    assert HandPredictor(out).boxes_engine is not None


@pytest.mark.parametrize(
    "options, message",
    [
        ((), "run has no snapshot with one: give --weights to take it from"),
        (("--resume", "auto"), "run has no snapshot with one: give --weights to take it from"),
        (("--weights", "w.npz", "--without", "pose"), "--only-stages has no stage to train"),
    ],
)
def test_only_stages_needs_a_trunk_and_stages(options, message, tmp_path):
    command = ("mcc_caffe.train", "set", "--only-stages", "--out", tmp_path / "run", "--quiet")
    done = run(*command, *options)
    assert message in refusal(done) and not (tmp_path / "run").exists()


@pytest.fixture
def options_of_stages(drawn_set, tmp_path):
    """A function that gives the options to train the stages alone on a part of the weights."""
    layers = packed_weights.read(shipped_weights("mini")).layers

    def options(is_kept):
        weights = tmp_path / "part.caffemodel"
        part = {name: blobs for name, blobs in layers.items() if is_kept(name)}
        write_caffemodel(weights, "part", part)
        words = [drawn_set, "--only-stages", "--weights", weights, "--out", tmp_path / "run"]
        return train.parse_arguments(list(map(str, words)))

    return options


@pytest.mark.parametrize(
    "is_kept, lacks",
    [
        (lambda name: "stage" in name, "conv1_1, conv1_2, conv2_1, conv2_2, conv3_1 and 11 more"),
        (lambda name: name != "conv6_2_CPM", "conv6_2_CPM"),
    ],
)
def test_only_stages_needs_all_of_trunk_and_mask_head(is_kept, lacks, options_of_stages, tmp_path):
    with pytest.raises(WeightsError, match=f"part.caffemodel lacks {lacks}, which --only-stages"):
        train.prepare_run(options_of_stages(is_kept))
    assert not (tmp_path / "run").exists()


def test_stages_alone_may_start_at_random(options_of_stages):
    options = options_of_stages(lambda name: "stage" not in name)
    assert train.prepare_run(options).weights == options.weights


def test_a_convolution_that_names_no_rates_is_frozen_with_its_bias():
    net = read_text("NetParameter", ROOT / "prototxt/mini/train.prototxt")
    text_format.Merge(
        'layer { name: "a" type: "Convolution" } '
        'layer { name: "b" type: "Convolution" convolution_param { bias_term: false } }',
        net,
    )
    options = train.parse_arguments(["set", "--only-stages"])
    prepare_net(net, messages().SolverParameter(), options, first_iteration=0)
    with_bias, without_bias = (
        [(parameter.lr_mult, parameter.decay_mult) for parameter in layer.param]
        for layer in net.layer[-2:]
    )
    assert with_bias == [(0, 0), (0, 0)] and without_bias == [(0, 0)]
