"""Several processes work together: under mpirun, and launched by --processes."""

import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import time

import lmdb
import numpy as np
import pytest

from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.protobuf import read_binary
from mcc_caffe.core.ranks import LocalRanks
from mcc_caffe.data.batches import batch_indices
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.training.launcher import launch
from tests.support.commands import (
    ROOT,
    is_running,
    log,
    losses,
    refusal,
    run,
    run_program,
    start_program,
    wait_for,
    wait_until_ended,
)

_HANGS_AFTER = 300  # seconds; far more than any load of the machine costs
FAST = ("--no-augmentation", "--interval", 1, "--workers", 0)
MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "2")
no_mpi = pytest.mark.skipif(
    not shutil.which("mpirun") or not importlib.util.find_spec("mpi4py"),
    reason="mpirun (package openmpi-bin) or mpi4py is not installed",
)
both = pytest.mark.parametrize("launcher", ["processes", pytest.param("mpirun", marks=no_mpi)])


def command(launcher, *arguments):
    """The words that train with two ranks."""
    before, after = (MPIRUN, ()) if launcher == "mpirun" else ((), ("--processes", 2))
    return [*before, sys.executable, "-m", "mcc_caffe.train", *arguments, *FAST, *after]


def train(launcher, *arguments):
    return run_program(*command(launcher, *arguments))


def weights(folder, iteration):
    net = read_binary("NetParameter", folder / f"snapshots/mcc_iter_{iteration}.caffemodel")
    return np.concatenate(
        [np.array(blob.data, np.float32) for layer in net.layer for blob in layer.blobs]
    )


@pytest.fixture(scope="module")
def sgd(tmp_path_factory):
    """The mini solver with SGD.

    Unlike Adam's, its steps grow with the gradients, so that a sum would not pass for a mean.
    """
    path = tmp_path_factory.mktemp("solver") / "sgd.prototxt"
    text = (ROOT / "solver/mini/solver.prototxt").read_text()
    path.write_text(
        re.sub("(?m)^momentum2.*\n", "", text.replace('"Adam"', '"SGD"')).replace(
            "base_lr: 0.001", "base_lr: 1e-5"
        )
    )
    return path


@pytest.fixture(scope="module")
def alone(drawn_set, sgd, tmp_path_factory):
    """Five iterations of one process with a batch of 4."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    done = run(
        *("mcc_caffe.train", drawn_set, "--solver", sgd, "--out", folder, "--iterations", 5),
        *("--snapshot", 3, "--batch-size", 4, *FAST),
    )
    assert done.returncode == 0, done.stderr
    return folder


@both
def test_two_ranks_learn_as_one_process_with_both_batches_also_resumed(
    launcher, alone, drawn_set, sgd, tmp_path
):
    options = (drawn_set, "--solver", sgd, "--out", tmp_path, "--batch-size", 2)
    done = train(launcher, *options, "--iterations", 3)
    assert done.returncode == 0 and "finished: iteration 3 of 3" in done.stdout, done.stderr
    assert done.stdout.count("finished") == 1 and "2 processes" in done.stderr
    np.testing.assert_allclose(weights(tmp_path, 3), weights(alone, 3), atol=1e-5)

    done = train(
        launcher, *options, "--iterations", 5, "--resume", "auto"
    )  # SGD's momentum counts: every rank must have it
    assert done.returncode == 0 and done.stderr.count("resumed at iteration 3") == 1, done.stderr
    np.testing.assert_allclose(weights(tmp_path, 5), weights(alone, 5), atol=1e-5)
    assert (
        np.abs(weights(alone, 5) - weights(alone, 3)).max() > 3e-4
    )  # else they would agree whatever the ranks do

    assert list(losses(tmp_path)) == [1, 2, 3, 4, 5]
    for iteration, expected in losses(alone).items():  # the mean of both ranks' losses
        assert losses(tmp_path)[iteration] == pytest.approx(expected, rel=1e-4)
    line = log(tmp_path)[-1]
    assert line["images_per_second"] == pytest.approx(4 / line["seconds"])


def _proc(pid, name):
    return pathlib.Path(f"/proc/{pid}/{name}").read_text()


def children(process):
    """Process ids of the ranks, in their order."""
    pids = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        pid
        for pid in map(int, pids)
        if re.search("mcc_caffe.train|spawn_main", _proc(pid, "cmdline"))
    ]


def begin(launcher, drawn_set, folder):
    """Starts a long run of two ranks and waits until it has done two iterations.

    Returns its process and the process ids of the ranks.
    """
    words = command(launcher, drawn_set, "--out", folder, "--iterations", 500, "--batch-size", 1)
    process = start_program(*words)
    wait_for(lambda: len((folder / "log.jsonl").read_text().splitlines()) >= 2, process)
    ranks = children(process)
    assert len(ranks) == 2
    return process, ranks


def end(process, ranks, folder):
    """Waits for the end of the run and returns its output.

    The run must end, leave no rank behind, and leave a snapshot of the last iteration. The limits
    only keep a run that hangs from holding up the tests.
    """
    output = "".join(process.communicate(timeout=_HANGS_AFTER))
    wait_until_ended(lambda: any(map(is_running, ranks)))  # mpirun does not wait for those it kills
    state = snapshots.newest(folder / "snapshots")
    assert state and state.message.iter >= log(folder)[-1]["iteration"], output
    return output


@both
def test_a_killed_rank_ends_the_run_with_a_snapshot_that_resumes(launcher, drawn_set, tmp_path):
    process, ranks = begin(launcher, drawn_set, tmp_path)
    os.kill(ranks[1], signal.SIGKILL)
    output = end(process, ranks, tmp_path)
    assert process.returncode == 137
    assert re.search(
        r"error: rank 1 was killed by SIGKILL: the other|process rank 1 .* exited on signal 9",
        output,
    ), output
    last = snapshots.newest(tmp_path / "snapshots").message.iter
    done = run(
        *("mcc_caffe.train", drawn_set, "--out", tmp_path, "--batch-size", 1),
        *("--iterations", last + 1, "--resume", "auto", *FAST),
    )
    assert done.returncode == 0 and f"resumed at iteration {last} " in done.stderr, done.stderr


@both
def test_ctrl_c_takes_a_snapshot_and_ends_all_ranks(launcher, drawn_set, tmp_path):
    process, ranks = begin(launcher, drawn_set, tmp_path)
    process.send_signal(signal.SIGINT)
    output = end(process, ranks, tmp_path)
    assert (
        process.returncode == (launcher == "mpirun")
        and output.count("stopped; go on with --resume auto") == 1
    ), output


@both
@pytest.mark.parametrize("rank", [0, 1])
def test_bad_data_of_one_rank_ends_all_with_one_line(rank, launcher, drawn_set, tmp_path):
    source = tmp_path / "set"
    shutil.copytree(drawn_set, source)
    config = LoaderConfig(str(source), 2, 128, 1.0)
    index = batch_indices(config, 10, 1, rank, 2)[0]  # met in the second iteration
    with lmdb.open(str(source / "images")) as database, database.begin(write=True) as transaction:
        transaction.put(f"{index:08d}_drawn{index}.jpg".encode(), b"not a Datum")
    done = train(launcher, source, "--out", tmp_path / "run", "--batch-size", 2, "--iterations", 20)
    assert done.returncode == 4 and "Traceback" not in done.stderr
    assert (
        done.stderr.count("the record is not a Caffe Datum") == 1
        and f"error: iteration 1: {index:08d}_drawn" in done.stderr
    )
    assert "--resume" not in done.stdout + done.stderr  # it would meet the same record
    assert "stopped: iteration 1 of 20, weights " in done.stdout
    assert not list((tmp_path / "run").glob("bad-record*"))
    assert snapshots.newest(tmp_path / "run/snapshots").path.stem == "mcc_iter_1"
    assert [line["iteration"] for line in log(tmp_path / "run")] == [1]


@both
def test_each_rank_names_its_samples_where_the_loss_is_not_finite(
    launcher, drawn_set, sgd, tmp_path
):
    solver = tmp_path / "solver.prototxt"
    solver.write_text(sgd.read_text().replace("base_lr: 1e-5", "base_lr: 1e6"))
    options = ("--solver", solver, "--out", tmp_path / "run", "--batch-size", 2)
    done = train(launcher, drawn_set, *options, "--iterations", 20)
    assert done.returncode == 5 and "Traceback" not in done.stderr, done.stderr
    others = re.search(r"error: rank 1, iteration (\d+): no finite loss, batch (.*)", done.stderr)
    own = re.search(r"error: iteration (\d+): the loss is .*, batch (.*); there is no", done.stderr)
    assert own[1] == others[1] and others.start() < own.start()
    config = LoaderConfig(str(drawn_set), 2, 128, 1.0)
    for rank, match in enumerate((own, others)):
        indices = batch_indices(config, 10, int(own[1]) - 1, rank, 2)
        assert match[2] == ", ".join(f"{index:08d}_drawn{index}.jpg" for index in indices)


def test_without_mpi4py_the_remedy_is_said(drawn_set, tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('gone')")
    environment = {
        **os.environ,
        "OMPI_COMM_WORLD_SIZE": "2",
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
    }
    done = run("mcc_caffe.train", drawn_set, "--out", tmp_path / "run", env=environment)
    assert (
        "error: mpirun started this, but mpi4py does not work here (gone): `pip install mpi4py`"
        in refusal(done)
    )


def _exchange(rank, shared, folder):
    ranks = LocalRanks(rank, 3, shared)
    # Sizes below, at and above the chunk that goes at once.
    for turn, size in enumerate((7, 1 << 20, (5 << 19) + 3, 7, 7, 7)):
        values = np.arange(size, dtype=np.float32) % 1000 + np.float32([[1], [20], [300]]) * (
            turn + 1
        )
        averaged, received = values[rank].copy(), values[rank].copy()
        time.sleep(0.05 * ((rank + turn) % 3))
        ranks.average(averaged)
        ranks.broadcast(received)
        np.testing.assert_allclose(averaged, values.mean(axis=0), rtol=1e-6)
        np.testing.assert_array_equal(received, values[0])
    (folder / str(rank)).touch()
    while rank == 0 and len(list(folder.iterdir())) < 3:  # its end is the end of all
        time.sleep(0.01)


def test_ranks_of_one_machine_gather_no_values():
    """They could only give their own, which looks like the answer of all."""
    with pytest.raises(NotImplementedError, match="float32 values alone"):
        LocalRanks(0, 2, LocalRanks.shared(2)).gather("a value")


def test_ranks_of_one_machine_average_and_broadcast(tmp_path):
    launch(_exchange, 3, LocalRanks.shared(3), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def mpirun(module, *arguments):
    return run_program(*MPIRUN, sys.executable, "-m", module, *arguments)


def results_below(folder):
    """{file name: its JSON without the times} of what infer wrote."""
    reports = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    return {
        name: {key: value for key, value in report.items() if key != "seconds"}
        for name, report in reports.items()
    }


@no_mpi
def test_inference_shares_the_files_out_and_counts_the_unreadable_ones_of_all_ranks(
    drawn_samples, tmp_path
):
    photos = tmp_path / "photos"
    photos.mkdir()
    for sample in drawn_samples[:5]:
        (photos / sample.key).write_bytes(sample.image_bytes)
    (photos / "bad0.jpg").write_bytes(b"no image")
    (photos / "bad1.jpg").write_bytes(b"no image")
    alone = run("mcc_caffe.infer", photos, "--levels", 1, "--out", tmp_path / "alone")
    both = mpirun("mcc_caffe.infer", photos, "--levels", 1, "--out", tmp_path / "both")
    for done in (alone, both):
        assert done.returncode == 2, done.stderr
        assert "error: 2 of 7 files could not be read" in done.stderr
        assert done.stdout.count("weights:") == 1
    assert (
        len(results_below(tmp_path / "both")) == len(list((tmp_path / "both").glob("*.png"))) == 5
    )
    assert results_below(tmp_path / "both") == results_below(tmp_path / "alone")


def records(folder):
    with lmdb.open(str(folder), readonly=True) as environment, environment.begin() as transaction:
        return dict(transaction.cursor())


@no_mpi
def test_ranks_build_the_same_set_as_one_process(tmp_path):
    hands = tmp_path / "hands"
    assert (
        run("data_tools.synth", "--out", hands, "--train", 70, "--test", 3, "--size", 64).returncode
        == 0
    )
    (hands / "Train/source/7.jpg").write_bytes(b"no image")
    arguments = (hands, tmp_path / "alone"), (hands, tmp_path / "both")
    assert run("data_tools.build_lmdb", *arguments[0], "--skip-bad").returncode == 0
    done = mpirun("data_tools.build_lmdb", *arguments[1], "--skip-bad")
    assert done.returncode == 0 and done.stderr.count("left out:") == 1, done.stderr
    for part in (
        "train/images",
        "train/annotations",
        "validation/images",
        "validation/annotations",
    ):
        assert records(tmp_path / "both" / part) == records(tmp_path / "alone" / part)
    assert (tmp_path / "both/train/info.json").read_text() == (
        tmp_path / "alone/train/info.json"
    ).read_text()
    refused = mpirun("data_tools.build_lmdb", *arguments[1])
    assert refused.returncode == 2 and "exists already" in refused.stderr
