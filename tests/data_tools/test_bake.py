"""Baked sets: Caffe's own data layers give what the Python layer gives, and it trains as we do."""

import json
import os
import re
import resource
import shlex
import shutil
import signal

import h5py
import lmdb
import numpy as np
import pytest

from data_tools import bake as baking
from mcc_caffe.caffe_io.protobuf import messages, read_text, text_format
from mcc_caffe.caffe_io.pycaffe import import_caffe
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.loader import Loader
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.data.samples import Sample
from mcc_caffe.paper import ABLATIONS, MINI, VARIANTS, file_suffix
from tests.support.commands import (
    ROOT,
    begin,
    losses,
    main_refusal,
    refusal,
    run,
    run_program,
    start,
    wait_for,
)
from tests.support.hands import write_set
from tests.support.weights import mini_net

caffe = import_caffe()
COPIES, BATCH = 2, 3  # of ten samples: six whole batches and two samples more
BLOBS = ("data", "mask_label", "heatmaps")
DATASETS = ("data", "mask", "label")  # the same in the release's HDF5 files
CASES = [(variant, form) for variant in VARIANTS.values() for form in baking.WRITERS]


def bake(*arguments, **options):
    return run("data_tools.bake", *arguments, **options)


@pytest.fixture(scope="module")
def source(drawn_samples, tmp_path_factory):
    """The ten drawn hands, one of them without a mask."""
    first = drawn_samples[0]
    bare = Sample(first.key, first.image_bytes, None, first.keypoints)
    return write_set(tmp_path_factory.mktemp("bake") / "set", [bare, *drawn_samples[1:]])


def baked_set(variant, source, folder, form="lmdb"):
    done = bake(
        *(source, folder, "--copies", COPIES, "--variant", variant.name, "--batch-size", BATCH),
        *("--format", form),
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(
    scope="module", params=CASES, ids=[f"{variant.name}-{form}" for variant, form in CASES]
)
def baked(request, source, tmp_path_factory):
    """(variant, format, folder) of the hands baked for a variant."""
    variant, form = request.param
    return variant, form, baked_set(variant, source, tmp_path_factory.mktemp("baked") / "set", form)


def of_form(form):
    """Run a test on the sets of one form alone."""
    cases = [case for case in CASES if case[1] == form]
    names = [f"{variant.name}-{form}" for variant, _ in cases]
    return pytest.mark.parametrize("baked", cases, indirect=True, ids=names)


@pytest.fixture(scope="module", params=baking.WRITERS)
def baked_mini(request, source, tmp_path_factory):
    return baked_set(MINI, source, tmp_path_factory.mktemp("baked") / "mini", request.param)


def names_of(folder):
    """{our blob's name: its name in a baked set's train net}."""
    return dict(zip(BLOBS, DATASETS if (folder / "files.txt").exists() else BLOBS))


def config(source, variant):
    return LoaderConfig.of(variant, str(source), batch_size=BATCH, workers=0)


def read_records(folder):
    """(keys, {blob: arrays}) of a baked set, read without our package; HDF5 files have no keys."""
    if (folder / "files.txt").exists():
        files = [h5py.File(path) for path in (folder / "files.txt").read_text().splitlines()]
        return None, {
            blob: np.concatenate([file[dataset] for file in files])
            for blob, dataset in names_of(folder).items()
        }
    keys, arrays = {}, {}
    for blob in BLOBS:
        with (
            lmdb.open(str(folder / blob), readonly=True, lock=False) as database,
            database.begin() as transaction,
        ):
            records = [
                (key.decode(), messages().Datum.FromString(value))
                for key, value in transaction.cursor()
            ]
        keys[blob] = [key for key, _ in records]
        arrays[blob] = [
            (
                np.frombuffer(datum.data, np.uint8)
                if datum.data
                else np.array(datum.float_data, np.float32)
            ).reshape(datum.channels, datum.height, datum.width)
            for _, datum in records
        ]
    assert keys["data"] == keys["mask_label"] == keys["heatmaps"]
    return keys["data"], arrays


def net_of(layers, path):
    path.write_text(text_format.MessageToString(messages().NetParameter(layer=layers)))
    return caffe.Net(str(path), caffe.TRAIN)


def data_net(folder, path):
    """A net of a baked train net's data layers alone."""
    return net_of(
        [
            layer
            for layer in read_text("NetParameter", folder / "train.prototxt").layer
            if layer.type.endswith("Data")
        ],
        path,
    )


def batches(net, count, names=None):
    taken = []
    for _ in range(count):
        net.forward()
        taken.append({blob: net.blobs[(names or {}).get(blob, blob)].data.copy() for blob in BLOBS})
    return taken


def test_the_records_are_the_loaders_first_epochs(baked, source):
    variant, form, folder = baked
    keys, arrays = read_records(folder)
    assert all(len(array) == 20 for array in arrays.values())
    with Loader(config(source, variant)) as loader:
        for index in range(20):
            if index % BATCH == 0:
                batch, batch_keys = loader.next_batch()
            image, label, heatmaps = (arrays[blob][index] for blob in BLOBS)
            if form == "lmdb":
                assert keys[index] == f"{index:08d}_{batch_keys[index % BATCH]}"
                assert image.dtype == label.dtype == np.uint8
                image = (image.astype(np.float32) - 128) / 256
            assert np.array_equal(image, batch["data"][index % BATCH])
            assert np.array_equal(label, batch["mask_label"][index % BATCH])
            assert np.array_equal(heatmaps, batch["heatmaps"][index % BATCH])
    assert set(np.unique(arrays["mask_label"])) == {0, 1, 255}
    if keys:
        for epoch in (keys[:10], keys[10:]):
            assert len({key[9:] for key in epoch}) == 10


@of_form("hdf5")
def test_hdf5_files_have_the_releases_datasets(baked):
    variant, _, folder = baked
    (path,) = (folder / "files.txt").read_text().splitlines()
    assert path == str(folder / "data_0000.h5")
    cells = variant.input_size // 8
    with h5py.File(path) as file:
        assert {name: (dataset.shape, dataset.dtype) for name, dataset in file.items()} == {
            "data": ((20, 3, variant.input_size, variant.input_size), np.float32),
            "label": ((20, 22, cells, cells), np.float32),
            "mask": ((20, 1, cells, cells), np.float32),
        }


def test_hdf5_files_are_as_small_as_asked(source, tmp_path, monkeypatch):
    """Twenty samples in files of eight: Caffe's layer goes from one to the next."""
    settings = config(source, MINI)
    monkeypatch.setattr(baking, "FILE_BYTES", 8 * baking.Hdf5Writer.sample_bytes(settings) + 1)
    with baking.Hdf5Writer(tmp_path / "out", settings) as writer:
        baking.write_samples(writer, settings, 20)
        baking.write_prototxts(writer, "mini", BATCH, 0)
        writer.finish()
    files = [h5py.File(path) for path in (tmp_path / "out/files.txt").read_text().splitlines()]
    assert [len(file["label"]) for file in files] == [8, 8, 4]
    baked_batches = batches(
        data_net(tmp_path / "out", tmp_path / "net.prototxt"), 7, names_of(tmp_path / "out")
    )
    with Loader(settings) as loader:
        for batch in baked_batches[:6]:
            expected = loader.next_batch()[0]
            assert all(np.array_equal(batch[blob], expected[blob]) for blob in BLOBS)
    assert np.array_equal(baked_batches[6]["data"][2], baked_batches[0]["data"][0])


def test_data_layers_give_the_blobs_of_the_python_layer(baked, source, tmp_path):
    """To the bit: a uint8's (x - 128) / 256 is exact in float32."""
    variant, _, folder = baked
    layer = read_text("NetParameter", ROOT / f"prototxt/{variant.name}/train.prototxt").layer[0]
    layer.python_param.param_str = config(source, variant).to_json()
    expected = batches(net_of([layer], tmp_path / "python.prototxt"), 6)
    baked_batches = batches(data_net(folder, tmp_path / "data.prototxt"), 7, names_of(folder))
    for batch, expected_batch in zip(baked_batches, expected):
        for blob in BLOBS:
            assert batch[blob].shape == expected_batch[blob].shape
            assert np.array_equal(batch[blob], expected_batch[blob])
    assert not np.array_equal(expected[0]["data"], expected[1]["data"])
    assert np.array_equal(
        baked_batches[6]["data"][2], expected[0]["data"][0]
    )  # all used up: from the first one again


def test_the_printed_command_trains_on_the_set(caffe_tool, source, tmp_path):
    done = bake(source, tmp_path / "set", "--copies", 1, "--batch-size", BATCH)
    solver = tmp_path / "set/solver.prototxt"
    command = shlex.join([str(caffe_tool), "train", f"--solver={solver}"])
    assert done.stdout.splitlines()[-1] == f"train on it with: {command}", done.stderr


def test_several_gpus_take_turns_at_the_records(baked_mini, tmp_path):
    names = names_of(baked_mini)
    one_device = batches(data_net(baked_mini, tmp_path / "net.prototxt"), 2, names)
    caffe.set_solver_count(2)
    try:
        for rank in range(2):
            caffe.set_solver_rank(rank)
            (batch,) = batches(data_net(baked_mini, tmp_path / "net.prototxt"), 1, names)
            for blob in BLOBS:
                assert np.array_equal(
                    batch[blob], np.concatenate([taken[blob] for taken in one_device])[rank::2]
                )
    finally:
        caffe.set_solver_count(1)
        caffe.set_solver_rank(0)


def test_the_stock_tool_has_the_losses_of_our_training(baked_mini, source, caffe_tool, tmp_path):
    """`caffe train` on the baked set, and mcc_caffe.train, four iterations from the same weights.

    With one thread and the same BLAS kernels both do the same arithmetic; the tool prints six
    digits of it.
    """
    caffe.set_random_seed(0)
    weights = tmp_path / "start.caffemodel"
    mini_net().save(str(weights))

    done = run(
        *("mcc_caffe.train", source, "--out", tmp_path / "run", "--weights", weights),
        *("--batch-size", BATCH, "--iterations", 4, "--interval", 1, "--workers", 1),
    )
    assert done.returncode == 0, done.stderr
    expected = losses(tmp_path / "run")

    solver = (baked_mini / "solver.prototxt").read_text()
    (tmp_path / "solver.prototxt").write_text(
        solver.replace("display: 20", "display: 1").replace("max_iter: 40000", "max_iter: 4")
    )
    blas = {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}
    done = run_program(
        *(caffe_tool, "train", f"--solver={tmp_path / 'solver.prototxt'}", f"--weights={weights}"),
        cwd="/",
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **blas},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    printed: dict[int, dict[str, float]] = {}
    for iteration, name, loss in re.findall(
        r"Iteration (\d+) \(|Train net output #\d+: (\w+) = (\S+)", done.stderr
    ):
        if iteration:
            of_iteration = printed[int(iteration) + 1] = {}
        else:
            of_iteration[name] = float(loss)

    assert list(printed) == list(expected) == [1, 2, 3, 4]
    for iteration, wanted in expected.items():
        assert printed[iteration] == pytest.approx(wanted, rel=1e-5)
    assert (baked_mini / "snapshots/mcc_iter_4.caffemodel").is_file()


@pytest.mark.parametrize("suffix", [file_suffix(without) for without in (None, *ABLATIONS)])
def test_nets_and_solvers_lie_beside_the_records(suffix, baked_mini):
    solver = read_text("SolverParameter", baked_mini / f"solver{suffix}.prototxt")
    plain = read_text("SolverParameter", ROOT / f"solver/mini/solver{suffix}.prototxt")
    assert (
        solver.snapshot_prefix == str(baked_mini / f"snapshots/mcc{suffix}") and solver.display > 0
    )
    for field in ("type", "base_lr", "max_iter", "snapshot", "random_seed"):
        assert getattr(solver, field) == getattr(plain, field)
    assert solver.net == str(baked_mini / f"train{suffix}.prototxt")
    net, deploy = (
        caffe.Net(solver.net, caffe.TRAIN),
        caffe.Net(str(ROOT / f"prototxt/mini/deploy{suffix}.prototxt"), caffe.TEST),
    )
    assert net.blobs["data"].data.shape == (BATCH, 3, 128, 128)
    assert {name: blobs[0].data.shape for name, blobs in net.params.items()} == {
        name: blobs[0].data.shape for name, blobs in deploy.params.items()
    }


ABLATED_BLOBS = pytest.mark.parametrize(
    "suffix, unused", [("", None), ("_without_mask", "mask_label"), ("_without_pose", "heatmaps")]
)


def split_off_data_layers(variant, folder, suffix, unused):
    """Check that the layers behind a baked train net's data layers are those of the plain net.

    Returns the data layers, and the names of the blobs that they have to give.
    """
    plain = read_text("NetParameter", ROOT / f"prototxt/{variant.name}/train{suffix}.prototxt")
    baked_net = read_text("NetParameter", folder / f"train{suffix}.prototxt")
    names = {blob: name for blob, name in names_of(folder).items() if blob != unused}
    layers = [layer for layer in plain.layer if layer.type not in ("Python", "Silence")]
    for layer in layers:
        layer.bottom[:] = [names.get(bottom, bottom) for bottom in layer.bottom]
    data = baked_net.layer[: len(baked_net.layer) - len(layers)]
    assert list(baked_net.layer[len(data) :]) == layers
    return data, list(names.values())


@of_form("hdf5")
@ABLATED_BLOBS
def test_an_hdf5_train_net_has_one_data_layer_and_the_plain_nets_others(suffix, unused, baked):
    variant, _, folder = baked
    (layer,), names = split_off_data_layers(variant, folder, suffix, unused)
    assert (layer.type, layer.hdf5_data_param.batch_size) == ("HDF5Data", BATCH)
    assert list(layer.top) == [name for name in ("data", "label", "mask") if name in names]


@of_form("lmdb")
@ABLATED_BLOBS
def test_an_lmdb_train_net_has_a_data_layer_a_blob_and_the_plain_nets_others(suffix, unused, baked):
    variant, _, folder = baked
    data, names = split_off_data_layers(variant, folder, suffix, unused)
    assert [list(layer.top) for layer in data] == [[name] for name in names]
    for layer in data:
        assert (layer.type, layer.data_param.batch_size) == ("Data", BATCH)
        assert layer.data_param.source == str(folder / layer.name)
        pixels = layer.transform_param
        assert (list(pixels.mean_value), pixels.scale) == (
            ([128], 1 / 256) if layer.name == "data" else ([], 1)
        )


def test_info_says_how_the_set_was_made(baked, source):
    variant, form, folder = baked
    assert json.loads((folder / "info.json").read_text()) == {
        "format": 1,
        "samples": 20,
        "source": str(source),
        "storage": form,
        "copies": COPIES,
        "variant": variant.name,
        "batch_size": BATCH,
        "seed": 0,
        "input_size": variant.input_size,
        "sigma": variant.sigma,
    }


def test_the_estimate_of_the_size_is_right(baked, source):
    variant, form, folder = baked
    files = folder.glob("*/data.mdb" if form == "lmdb" else "*.h5")
    assert 20 * baking.WRITERS[form].sample_bytes(config(source, variant)) == pytest.approx(
        sum(path.stat().st_size for path in files), rel=0.1
    )


def test_the_seed_counts_for_weights_and_samples(source, tmp_path):
    done = bake(
        source, tmp_path / "out", "--copies", 1, "--batch-size", BATCH, "--seed", 5, "--workers", 0
    )
    assert done.returncode == 0, done.stderr
    assert read_text("SolverParameter", tmp_path / "out/solver.prototxt").random_seed == 5
    with Loader(config(source, MINI)) as loader:
        first = loader.next_batch()[0]["heatmaps"][0]
    assert not np.array_equal(read_records(tmp_path / "out")[1]["heatmaps"][0], first)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{tmp}/none", "{tmp}/out", "--copies", "1"], "none/images/data.mdb was not found"),
        (["{set}", "{tmp}/there", "--copies", "1"], "{tmp}/there exists already"),
        (["{set}", "{tmp}/out", "--copies", "0"], "0 is not above 0"),
        (["{set}", "{tmp}/out", "--copies", "1", "--workers", "-1"], "-1 is below 0"),
        (["{set}", "{tmp}/a b", "--copies", "1", "--format", "hdf5"], "has a space in it"),
        (["{set}", "{tmp}/\udcff", "--copies", "1"], "is not UTF-8, as Caffe's files need it"),
        (
            ["{set}", "{tmp}/out", "--copies", "1", "--seed", "-1"],
            "argument --seed: -1 is not between 0 and 4294967295",
        ),
        (["{set}", "{tmp}/new/out", "--copies", "100000000"], "the disk has"),
        (["{set}", "{tmp}/new/out", "--copies", "100000000", "--format", "hdf5"], "the disk has"),
        (["{set}", "{tmp}/out", "--copies", "1", "--format", "text"], "invalid choice: 'text'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, source, tmp_path, monkeypatch):
    monkeypatch.setattr(baking, "write_samples", begin)  # what is not refused ends here
    monkeypatch.setattr(baking.signal, "signal", lambda *_: None)  # it would stay in this process
    (tmp_path / "there").mkdir()
    paths = dict(tmp=tmp_path, set=source)
    words = [argument.format(**paths) for argument in arguments]
    assert message.format(**paths) in main_refusal(baking.main, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["there"] and not list(
        (tmp_path / "there").iterdir()
    )


def test_an_unreadable_record_leaves_nothing(source, tmp_path):
    shutil.copytree(source, tmp_path / "set")
    with (
        lmdb.open(str(tmp_path / "set/images")) as database,
        database.begin(write=True) as transaction,
    ):
        transaction.put(b"00000007_drawn7.jpg", b"not a Datum")
    done = bake(tmp_path / "set", tmp_path / "out", "--copies", 1, "--quiet")
    assert "00000007_drawn7.jpg: the record is not a Caffe Datum" in refusal(done, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_a_set_needs_is_rounded_up_and_what_is_free_down(tmp_path, monkeypatch):
    free = shutil._ntuple_diskusage(2**40, 2**40, 2**20 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(UserError, match="out needs about 1 MiB and the disk has 0 free: make room"):
        baking.require_space(tmp_path / "out", 2**20)
    with pytest.raises(UserError, match="out needs about 2 MiB and the disk has 0 free: make room"):
        baking.require_space(tmp_path / "out", 2**20 + 1)
    baking.require_space(tmp_path / "out", 2**20 - 1)


@pytest.mark.parametrize("form", baking.WRITERS)
def test_a_full_disk_gives_one_line_and_leaves_nothing(form, source, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    options = ("--copies", 10, "--workers", 0, "--format", form, "--quiet")
    done = bake(source, tmp_path / "out", *options, preexec_fn=limit)
    assert re.fullmatch(
        r"error: the set .*/out could not be written \(.*\): is the disk full\?", refusal(done)
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_one_that_is_stopped_leaves_nothing_that_looks_complete(number, source, tmp_path):
    process = start(
        *("data_tools.bake", source, tmp_path / "out", "--copies", 2000, "--workers", 1)
    )
    written = ".out.*.partial/data/data.mdb"
    wait_for(lambda: any(path.stat().st_size > 2e6 for path in tmp_path.glob(written)), process)
    process.send_signal(number)
    last = process.communicate(timeout=60)[1].splitlines()[-1]
    left = sorted(path.name for path in tmp_path.iterdir())
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert left == [f".out.{process.pid}.partial", ".out.lock"]
        assert bake(source, tmp_path / "out", "--copies", 1, "--workers", 0).returncode == 0
        assert [path.name for path in tmp_path.iterdir()] == ["out"]  # the next run cleans up
    else:
        endings = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "ended by SIGTERM")}
        assert (process.returncode, last) == endings[number] and not left
