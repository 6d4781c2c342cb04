"""Packed weights keep float16's precision, and faults in them are named in one line."""

import json
import os
import shutil
import zipfile

import numpy as np
import pytest

from mcc_caffe import export, pack
from mcc_caffe.caffe_io import packed_weights
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.nets import find_deploy_net
from mcc_caffe.caffe_io.protobuf import messages
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.caffe_io.weights import (
    describe,
    file_shapes,
    load_weights,
    net_shapes,
    read_caffemodel,
    write_caffemodel,
)
from mcc_caffe.core.errors import UserError
from mcc_caffe.core.hand_boxes import BOX_FEATURES_BLOB, BOX_LAYERS
from mcc_caffe.paper import MASK_BLOB, POSE_STAGES, VARIANTS, stage_blob
from mcc_caffe.predictor import HandPredictor
from tests.support.commands import ROOT, main_refusal, refusal, run, run_code
from tests.support.weights import mini_net


@pytest.fixture
def snapshot(weights, tmp_path):
    """The weights as a run's snapshot at iteration 7, of noon on 1971-01-01 in UTC."""
    folder = tmp_path / "run"
    (folder / "snapshots").mkdir(parents=True)
    shutil.copy(ROOT / "prototxt/mini/train.prototxt", folder)
    path = shutil.copy(weights, folder / "snapshots/mcc_iter_7.caffemodel")
    os.utime(path, (0, 365.5 * 86400))
    return path


@pytest.fixture
def small(snapshot, tmp_path):
    """The weights packed into one file."""
    out = tmp_path / "packed/small.npz"
    pack.main([str(snapshot), str(out)])
    return out


def outputs(path, images):
    """Return the mask and the heatmaps of every stage, with the weights in `path`."""
    net = mini_net()
    load_weights(net, path)
    net.blobs["image"].reshape(*images.shape)
    net.blobs["image"].data[...] = images
    net.forward()
    return [net.blobs[name].data.copy() for name in (MASK_BLOB, *map(stage_blob, POSE_STAGES))]


def test_the_command_writes_a_small_file_that_says_what_it_holds(snapshot, tmp_path):
    out = tmp_path / "out.npz"
    done = run("mcc_caffe.pack", snapshot, out)
    assert done.returncode == 0, done.stderr
    assert f"{out}: 4.6 MiB" in done.stdout and "51 layers" in done.stderr
    facts = describe(out)
    assert facts == {
        "file": str(out),
        "variant": "mini",
        "net": "MCC_mini",
        "iterations": 7,
        "data": "lmdb/train",
        "date": "1971-01-01",
        "input_size": 128,
    }
    assert file_shapes(out) == file_shapes(snapshot) and not packed_weights.is_packed(snapshot)
    again = tmp_path / "again.npz"
    pack.main([str(snapshot), str(again), "--data", "hands of mine"])
    assert describe(again)["data"] == "hands of mine"


@pytest.mark.parametrize("options, share", [([], 0.5), (["--share", "0.25"], 0.25)])
def test_the_mean_of_fine_tuned_weights_and_their_start_is_packed(
    options, share, snapshot, tmp_path
):
    start, out = shipped_weights("mini"), tmp_path / "mean.npz"
    pack.main([str(snapshot), str(out), "--mean-with", str(start), *options])
    layers, facts = packed_weights.read(out)
    new, _ = read_caffemodel(snapshot)
    old, old_facts = packed_weights.read(start)
    assert list(layers) == list(new) and facts["iterations"] == 7
    assert facts["data"] == f"{share} x (lmdb/train); {1 - share} x ({old_facts['data']})"
    for name, blobs in layers.items():
        for blob, ours, theirs in zip(blobs, new[name], old[name], strict=True):
            mean = share * ours.astype(float) + (1 - share) * theirs
            assert np.allclose(blob, mean, rtol=1e-3, atol=1e-6)


def test_the_shares_of_a_mean_of_means_are_those_of_its_parts(snapshot, small, tmp_path):
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    pack.main([str(snapshot), str(first), "--mean-with", str(small)])
    pack.main([str(snapshot), str(second), "--mean-with", str(first), "--share", "0.25"])
    parts = "0.5 x (lmdb/train); 0.5 x (lmdb/train)"
    assert describe(second)["data"] == f"0.25 x (lmdb/train); 0.75 x ({parts})"


def test_a_start_of_another_variant_is_refused_though_its_shapes_agree(snapshot, small, tmp_path):
    layers, metadata = packed_weights.read(small)
    start, out = tmp_path / "start.npz", tmp_path / "mean.npz"
    start.write_bytes(packed_weights.to_bytes(layers, {**metadata, "variant": "paper"}))
    with pytest.raises(UserError, match=r"start.npz is of another net \(variant paper\): give"):
        pack.main([str(snapshot), str(out), "--mean-with", str(start)])
    assert not out.exists()


def test_a_start_that_says_little_is_of_unknown_data(snapshot, small, tmp_path):
    start, out = tmp_path / "start.npz", tmp_path / "mean.npz"
    start.write_bytes(packed_weights.to_bytes(packed_weights.read(small).layers, {}))
    pack.main([str(snapshot), str(out), "--mean-with", str(start)])
    assert describe(out)["data"] == "0.5 x (lmdb/train); 0.5 x (unknown)"


def test_the_mean_of_equal_weights_is_exact(snapshot, small, tmp_path):
    exact, out = tmp_path / "exact.caffemodel", tmp_path / "mean.npz"
    net_name = read_caffemodel(snapshot)[1]
    write_caffemodel(exact, net_name, packed_weights.read(small).layers)
    options = ("--mean-with", str(small), "--share", "0.3", "--data", "hands of mine")
    pack.main([str(exact), str(out), *options])
    assert describe(out)["data"] == "hands of mine"
    for name, blobs in packed_weights.read(out).layers.items():
        for blob, same in zip(blobs, packed_weights.read(small).layers[name], strict=True):
            assert np.array_equal(blob, same)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--share", "0.5"], "argument --share: it is of --mean-with FILE.npz: give both"),
        (["--mean-with", "{small}", "--share", "1"], "argument --share: 1 is not below 1"),
        (["--mean-with", "{small}", "--share", "0"], "argument --share: 0 is no finite number"),
        (["--mean-with", "{tmp}/none.npz"], "the weights file {tmp}/none.npz was not found"),
        (["--mean-with", "{tmp}/pose.npz"], "pose.npz is of another net (layer Mconv1_stage2"),
        (["--mean-with", "{tmp}/pose.caffemodel"], "pose.caffemodel is no packed weights: pack it"),
    ],
)
def test_a_mean_that_cannot_be_is_refused(options, message, snapshot, small, weights, tmp_path):
    exported, pose = tmp_path / "pose.caffemodel", tmp_path / "pose.npz"
    export.main(["--caffemodel", str(exported), "--weights", str(weights), *("--without", "pose")])
    pack.main([str(exported), str(pose)])
    paths = {"small": small, "tmp": tmp_path}
    words = [option.format(**paths) for option in options]
    line = main_refusal(pack.main, snapshot, tmp_path / "mean.npz", *words)
    assert message.format(**paths) in line
    assert not (tmp_path / "mean.npz").exists()


@pytest.mark.parametrize("stage, net", [(None, "MCC_mini"), ("pose", "MCC_mini_without_pose")])
def test_an_exported_caffemodel_is_packed_as_the_net_that_it_is(stage, net, weights, tmp_path):
    exported, packed = tmp_path / "hand.caffemodel", tmp_path / "hand.npz"
    options = ["--without", stage] if stage else []
    export.main(["--caffemodel", str(exported), "--weights", str(weights), *options])
    pack.main([str(exported), str(packed)])
    facts = describe(packed)
    assert (facts["variant"], facts["net"]) == ("mini", net)
    assert file_shapes(packed) == file_shapes(exported)


@pytest.mark.parametrize(
    "source, short",
    [
        ("/home/someone/data/lmdb/train", "lmdb/train"),
        ("synth:seed=0&size=224", "synth:seed=0&size=224"),
        ("mix:/a/b/photos*0.25+/a/b/renderings*0.75", "mix:b/photos*0.25+b/renderings*0.75"),
        ("/photos", "/photos"),
        (".", "."),
        (None, None),
    ],
)
def test_sources_lose_the_folders_of_the_machine(source, short):
    assert pack.shorten_source(source) == short


def test_weights_come_back_as_float16_has_them(snapshot, small):
    layers, _ = packed_weights.read(small)
    original, _ = read_caffemodel(snapshot)
    assert list(layers) == list(original) == list(mini_net().params)
    for name, blobs in original.items():
        for blob, back in zip(blobs, layers[name], strict=True):
            assert back.dtype == np.float32 and np.array_equal(
                back, blob.astype(np.float16).astype(np.float32)
            )
            assert np.abs(back - blob).max() <= 2**-11 * np.abs(blob).max()


def test_the_net_answers_the_same_within_a_two_hundredth_of_its_range(snapshot, small):
    """A mask's probability and a trained net's heatmaps range over about 1.

    The largest difference that was measured is 0.0018 of the range.
    """
    images = np.random.default_rng(1).uniform(-0.5, 0.5, (2, 3, 128, 128)).astype(np.float32)
    for original, packed in zip(outputs(snapshot, images), outputs(small, images)):
        assert np.abs(packed - original).max() < 0.005 * np.ptp(original) and original.std() > 0


def test_packed_weights_name_the_input_size_to_use(snapshot, small, tmp_path):
    image, out = (
        np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8),
        tmp_path / "larger.npz",
    )
    assert run("mcc_caffe.pack", snapshot, out, "--input-size", 160).returncode == 0
    for weights, cells in ((small, 16), (out, 20)):
        pose = HandPredictor(weights, levels=1).predict(image)
        assert pose.level_heatmaps.shape == (1, 22, cells, cells) and pose.mask.shape == (90, 120)
        assert pose.input_size == 8 * cells
    done = run("mcc_caffe.pack", snapshot, out, "--input-size", 100)
    assert "--input-size: 100 is not a multiple of 8" in refusal(done)


def test_weights_trained_with_another_input_are_used_with_it(drawn_set, tmp_path):
    options = "--iterations", 1, "--batch-size", 1, "--workers", 0
    done = run(
        "mcc_caffe.train", drawn_set, "--out", tmp_path / "run", "--input-size", 64, *options
    )
    assert done.returncode == 0, done.stderr
    weights, out = tmp_path / "run/snapshots/mcc_iter_1.caffemodel", tmp_path / "small.npz"
    pack.main([str(weights), str(out)])
    for file in (weights, out):
        assert describe(file)["input_size"] == 64 and HandPredictor(file, levels=1).input_size == 64
    done = run(
        "mcc_caffe.train", drawn_set, "--out", tmp_path / "none", "--input-size", 100, *options
    )
    assert "--input-size: 100 is not a multiple of 8" in refusal(done)
    assert not (tmp_path / "none").exists()


def test_a_run_whose_settings_are_not_ours_is_packed(snapshot, tmp_path):
    out = tmp_path / "out.npz"
    (tmp_path / "run/train.prototxt").write_text(
        "layer { type: 'Python' python_param { "
        """param_str: '{"source": "a/b", "input_size": 160}' } }"""
    )
    pack.main([str(snapshot), str(out)])
    facts = packed_weights.read_metadata(out)
    assert facts["data"] == "a/b"
    assert facts["input_size"] == describe(snapshot)["input_size"] == 160


def test_a_link_to_a_snapshot_is_packed_as_the_snapshot(snapshot, small, tmp_path):
    link, out = tmp_path / "latest.caffemodel", tmp_path / "linked.npz"
    link.symlink_to(snapshot)
    pack.main([str(link), str(out)])
    assert packed_weights.read_metadata(out)["iterations"] == 7
    assert packed_weights.read_metadata(out) == packed_weights.read_metadata(small)


def test_an_input_size_that_nothing_reads_is_not_packed(snapshot, tmp_path):
    out = tmp_path / "out.npz"
    done = run("mcc_caffe.pack", snapshot, out, "--input-size", 4104)
    assert "4104 is not a multiple of 8 up to 4096" in refusal(done)
    assert not out.exists()


def test_a_snapshot_is_packed_without_caffe(snapshot, small, tmp_path):
    out = tmp_path / "out.npz"
    code = "import sys; sys.modules['caffe'] = None; from mcc_caffe import pack; pack.main()"
    done = run_code(code, snapshot, out)
    assert done.returncode == 0, done.stderr
    assert {**describe(out), "file": ""} == {**describe(small), "file": ""}


def test_a_training_starts_from_packed_weights(small, drawn_set, tmp_path):
    done = run(
        *("mcc_caffe.train", drawn_set, "--out", tmp_path / "run2", "--weights", small),
        *("--iterations", 1, "--batch-size", 1),
    )
    assert done.returncode == 0 and "51 layers loaded by name; random start: none" in done.stderr, (
        done.stderr
    )


def test_an_ablation_gets_the_box_head_and_no_other_layer(tmp_path):
    """Its stages have other shapes than those of the full net, which has a mask head as well."""
    shipped = shipped_weights("mini")
    stored = packed_weights.read(shipped).layers
    caffe = import_caffe()
    net = caffe.Net(str(ROOT / "prototxt/mini/deploy_without_mask.prototxt"), caffe.TEST)
    layers = {
        name: [np.zeros(shape, np.float32) for shape in shapes] if "stage" in name else stored[name]
        for name, shapes in net_shapes(net).items()
    }
    learnt, out = tmp_path / "mcc_iter_1.caffemodel", tmp_path / "own.npz"
    write_caffemodel(learnt, "MCC_mini_without_mask_train", layers)
    pack.main([str(learnt), str(out), "--boxes", str(shipped)])
    assert list(packed_weights.read(out).layers) == [*layers, *BOX_LAYERS]
    deploy_net = find_deploy_net(out, "mini")
    assert deploy_net.name == "deploy_without_mask.prototxt"
    assert HandPredictor(out, prototxt=deploy_net).boxes_engine is not None


@pytest.mark.parametrize(
    "name, change",
    [
        ("conv1_2", lambda blobs: blobs[:1]),
        ("conv1_2", lambda blobs: []),
        (BOX_FEATURES_BLOB, lambda blobs: [blobs[0] + 1, blobs[1]]),
    ],
)
def test_a_trunk_that_differs_in_a_layer_is_another(name, change):
    """The layer from which the box head reads is its last."""
    shipped = shipped_weights("mini")
    layers = packed_weights.read(shipped).layers
    layers[name] = change(layers[name])
    if not layers[name]:
        del layers[name]
    with pytest.raises(UserError, match=rf"the trunk of .*mini.npz is another \(layer {name}\)"):
        pack.box_head_for(layers, shipped)


def test_a_trunk_is_the_same_where_float16_makes_it_so():
    shipped = shipped_weights("mini")
    stored = packed_weights.read(shipped).layers
    layers = {name: [blob * (1 + 2**-14) for blob in blobs] for name, blobs in stored.items()}
    assert list(pack.box_head_for(layers, shipped)) == list(BOX_LAYERS)


@pytest.mark.parametrize(
    "name, iterations", [("mcc_iter_12", 12), ("mcc_iter_12_best", None), ("own", None)]
)
def test_what_no_run_says_of_a_snapshot_is_that_of_its_name_and_variant(name, iterations, tmp_path):
    path = tmp_path / f"{name}.caffemodel"
    path.touch()
    os.utime(path, (0, 365.5 * 86400))
    assert pack.make_metadata(path, "MCC_paper_without_mask_train") == {
        "variant": "paper",
        "net": "MCC_paper_without_mask",
        "iterations": iterations,
        "data": None,
        "date": "1971-01-01",
        "input_size": VARIANTS["paper"].input_size,
    }


def test_packed_weights_replace_packed_weights_alone(snapshot, small, tmp_path):
    pack.main([str(snapshot), str(small), "--data", "hands of mine"])
    assert describe(small)["data"] == "hands of mine"
    photograph, other_arrays = tmp_path / "photo.jpg", tmp_path / "mine.npz"
    shutil.copy(ROOT / "docs/demo.jpg", photograph)
    np.savez(other_arrays, labels=np.arange(3))
    for foreign in (
        photograph,
        other_arrays,
        shutil.copy(snapshot, tmp_path / "mcc_iter_8.caffemodel"),
    ):
        before = foreign.read_bytes()
        with pytest.raises(UserError, match="would be overwritten and holds no packed weights"):
            pack.main([str(snapshot), str(foreign)])
        assert foreign.read_bytes() == before


def test_a_box_head_of_another_trunk_is_refused(snapshot, small, tmp_path):
    shipped = shipped_weights("mini")
    out = tmp_path / "out.npz"
    with pytest.raises(UserError, match=r"the trunk of .*mini.npz is another \(layer conv1_1\)"):
        pack.main([str(snapshot), str(out), "--boxes", str(shipped)])
    with pytest.raises(UserError, match="small.npz has no box head: give weights that have one"):
        pack.main([str(snapshot), str(out), "--boxes", str(small)])
    with pytest.raises(UserError, match=f"{snapshot} is no packed weights: pack it with"):
        pack.main([str(snapshot), str(out), "--boxes", str(snapshot)])
    assert not out.exists()
    before = small.read_bytes()
    with pytest.raises(UserError, match="is an input of this command"):
        pack.main([str(snapshot), str(small), "--boxes", str(small)])
    with pytest.raises(UserError, match="is an input of this command"):
        pack.main([str(snapshot), str(small), "--mean-with", str(small)])
    assert small.read_bytes() == before


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda content: content[: len(content) // 2], "is no whole file of packed weights"),
        (lambda content: content[:100_000] + b"?" + content[100_001:], ".npy is damaged"),
    ],
)
def test_damaged_weights_give_one_line(change, message, small, tmp_path):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(change(small.read_bytes()))
    done = run(
        "mcc_caffe.infer", ROOT / "docs/demo.jpg", "--weights", bad, "--out", tmp_path / "out"
    )
    line = refusal(done)
    assert f"{bad} " in line and message in line


def test_weights_with_a_damaged_shape_are_refused(small, tmp_path):
    """NumPy reads the smaller array, and so not as far as to the checksum behind it."""
    content = small.read_bytes()
    shape = b"(128, 128, 3, 3)"
    assert shape in content
    path = tmp_path / "damaged.npz"
    path.write_bytes(content.replace(shape, b"(120, 128, 3, 3)", 1))
    with pytest.raises(UserError, match="damaged.npz is no whole file.*npy is damaged"):
        packed_weights.read(path)


def test_another_npz_file_is_refused(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, numbers=np.arange(3))
    with pytest.raises(UserError, match="other.npz is no whole file of packed weights .*metadata"):
        packed_weights.read(path)
    with pytest.raises(UserError, match="other.npz is no whole file of packed weights .*metadata"):
        packed_weights.read_metadata(path)


def test_the_metadata_alone_are_those_of_the_whole_file(small, tmp_path):
    assert packed_weights.read_metadata(small) == packed_weights.read(small).metadata


def test_an_archive_that_points_before_its_start_is_refused(small, tmp_path):
    """Bytes 16 to 19 of the end record say where the list of files begins."""
    content = bytearray(small.read_bytes())
    end = content.rindex(b"PK\5\6")
    content[end + 16 : end + 20] = (2**31).to_bytes(4, "little")
    path = tmp_path / "damaged.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged.npz is no whole file of packed weights"):
        packed_weights.read_metadata(path)


def test_packed_weights_of_another_variant_give_one_line(small, tmp_path):
    done = run(
        *("mcc_caffe.infer", ROOT / "docs/demo.jpg", "--weights", small, "--variant", "paper"),
        *("--out", tmp_path),
    )
    line = refusal(done, 3)
    assert "does not fit the net: layer conv1_1 is [(16, 3, 3, 3), (16,)] in the file" in line


@pytest.mark.parametrize(
    "blob, message",
    [
        ([1.0, 70000.0], "layer conv1_1 has the weight 70000, float16 ends at 65504"),
        ([1.0, -1e30], "has the weight -1e\\+30"),
        ([1.0, np.nan], "has the weight nan"),
        (
            [1e-6, -2.34e-6],
            "layer conv1_1 has weights of 2.34e-06 at most, float16 loses digits below 6e-05",
        ),
        ([1e-9, 1e-9], "has weights of 1e-09 at most"),
    ],
)
def test_what_float16_cannot_hold_is_named(blob, message):
    with pytest.raises(UserError, match=message):
        packed_weights.to_bytes({"conv1_1": [np.array(blob, np.float32)]}, {})


@pytest.mark.parametrize("blob", [[0.0, 0.0], [1.0, 1e-9], [65504.0, -0.1]])
def test_small_weights_beside_larger_ones_are_no_fault(blob):
    layers, _ = packed_weights.from_bytes(
        packed_weights.to_bytes({"conv1_1": [np.array(blob, np.float32)]}, {}), "it"
    )
    assert layers["conv1_1"][0] == pytest.approx(blob, rel=1e-3, abs=1e-7)


def test_a_foreign_net_and_packed_weights_are_not_packed(small, tmp_path):
    foreign = tmp_path / "vgg.caffemodel"
    model = messages().NetParameter(name="VGG_ILSVRC_19_layers")
    model.layer.add(name="conv1_1").blobs.add(data=[1.0]).shape.dim.append(1)
    foreign.write_bytes(model.SerializeToString())
    for path, message in (
        (
            foreign,
            "holds the net 'VGG_ILSVRC_19_layers': only those of prototxt/ .*"
            "`python -m mcc_caffe.export --caffemodel",
        ),
        (small, "is packed: give a caffemodel"),
        (tmp_path / "none", "was not found"),
    ):
        with pytest.raises(UserError, match=message):
            pack.main([str(path), str(tmp_path / "out.npz")])
    assert not (tmp_path / "out.npz").exists()


def test_the_shipped_weights_are_a_complete_net_below_16_mib():
    path = shipped_weights("mini")
    assert path.stat().st_size <= 16 << 20
    assert load_weights(mini_net(), path) == list(mini_net().params)
    facts = describe(path)
    assert facts["variant"] == "mini" and facts["net"] == "MCC_mini" and json.dumps(facts)


@pytest.mark.parametrize("size", [-8, 0, "160", 2.5, [160], 100_000, 164, True, None])
def test_an_impossible_input_size_is_refused(size, small, tmp_path):
    path = tmp_path / "odd.npz"
    layers, metadata = packed_weights.read(small)
    path.write_bytes(packed_weights.to_bytes(layers, {**metadata, "input_size": size}))
    message = "odd.npz is no whole file of packed weights .its input_size is .*, not a multiple of"
    with pytest.raises(UserError, match=message):
        describe(path)


def test_an_impossible_input_size_ends_infer_in_one_line(small, tmp_path):
    path = tmp_path / "odd.npz"
    layers, metadata = packed_weights.read(small)
    path.write_bytes(packed_weights.to_bytes(layers, {**metadata, "input_size": 164}))
    done = run(
        "mcc_caffe.infer", ROOT / "docs/demo.jpg", "--weights", path, "--out", tmp_path / "out"
    )
    assert "its input_size is 164" in refusal(done)


@pytest.mark.parametrize(
    "members, words",
    [
        ({"metadata": np.array("[1, 2]")}, "its metadata are no mapping"),
        ({"metadata": np.array("[" * 100_000)}, "no whole file"),
        ({"metadata": np.array("{}"), "a/0": np.array(["word"])}, "'a/0' is no array of numbers"),
        ({"metadata": np.array("{}"), "a/0": np.array([1 + 2j])}, "'a/0' is no array of numbers"),
        ({"metadata": np.array("{}"), "a/0": np.array([{}])}, "no whole file"),
    ],
)
def test_wrong_members_are_refused(members, words, tmp_path):
    path = tmp_path / "odd.npz"
    np.savez(path, **members)
    with pytest.raises(UserError, match=words):
        packed_weights.read(path)


def test_a_member_that_is_no_array_is_refused(tmp_path):
    path = tmp_path / "odd.npz"
    np.savez(path, metadata=np.array("{}"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("conv1_1/0", "these are no numbers")
    with pytest.raises(UserError, match="'conv1_1/0' is no array of numbers"):
        packed_weights.read(path)


def test_packed_weights_with_nan_name_the_layer(small, tmp_path):
    path = tmp_path / "nan.npz"
    layers, metadata = packed_weights.read(small)
    arrays = {f"{name}/{i}": blob for name, blobs in layers.items() for i, blob in enumerate(blobs)}
    arrays["conv2_1/1"][0] = np.nan
    np.savez(path, metadata=np.array(json.dumps(metadata)), **arrays)
    with pytest.raises(UserError, match="layer conv2_1 are not finite"):
        load_weights(mini_net(), path)


def test_members_that_would_fill_memory_together_are_refused(monkeypatch):
    layers = {name: [np.ones(300, np.float32)] for name in "ab"}  # as float16 600 bytes each
    content = packed_weights.to_bytes(layers, {})
    monkeypatch.setattr(packed_weights, "_MAX_BYTES", 1000)
    with pytest.raises(UserError, match="own.npz is no whole file .*it claims to hold more than"):
        packed_weights.from_bytes(content, "own.npz")
