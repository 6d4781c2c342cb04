"""Where the machine fails a training, one line says so: shared memory, disks, too large batches."""

import numpy as np
import pytest

from mcc_caffe.caffe_io.run_folder import LOG_FILE
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.loader import Loader
from mcc_caffe.data.loader_config import LoaderConfig, LoaderError
from mcc_caffe.training.run_log import IterationStats, RunLog
from tests.support.commands import refusal, run
from tests.support.mounts import run_with_mounts

NO_SHARED_MEMORY = "mount -t tmpfs -o ro tmpfs /dev/shm"
FAST = ("--batch-size", 1, "--interval", 1, "--iterations", 1, "--quiet")


@pytest.mark.parametrize(
    "options, remedy",
    [(("--workers", 1), "--workers 0"), (("--processes", 2), "train with one process")],
)
def test_a_training_without_shared_memory_says_so(options, remedy, drawn_set, tmp_path):
    command = "mcc_caffe.train", drawn_set, "--out", tmp_path / "run", *FAST, *options
    done = run_with_mounts(NO_SHARED_MEMORY, *command)
    line = refusal(done)
    assert "/dev/shm cannot be used (Read-only file system)" in line and remedy in line


def test_a_training_without_workers_needs_no_shared_memory(drawn_set, tmp_path):
    options = *FAST, "--workers", 0, "--out", tmp_path / "run"
    done = run_with_mounts(NO_SHARED_MEMORY, "mcc_caffe.train", drawn_set, *options)
    assert done.returncode == 0, done.stderr


def test_an_evaluation_without_shared_memory_says_so(two_sets, weights, tmp_path):
    command = "mcc_caffe.evaluate", two_sets, "--weights", weights, "--out", tmp_path / "out"
    options = "--processes", 2, "--levels", 1, "--quiet"
    done = run_with_mounts(NO_SHARED_MEMORY, *command, *options)
    line = refusal(done)
    assert "/dev/shm cannot be used" in line and "--processes 1" in line


@pytest.mark.parametrize(
    "size, words",
    [("16k", "prototxt cannot be written (No space left"), ("2m", "MiB free and a snapshot may")],
)
def test_a_run_folder_on_a_full_disk_is_named(size, words, drawn_set, tmp_path):
    mounts = f"mount -t tmpfs -o size={size} tmpfs {tmp_path}"
    out = tmp_path / "run"
    done = run_with_mounts(mounts, "mcc_caffe.train", drawn_set, "--out", out, *FAST)
    line = refusal(done)
    assert words in line and str(out) in line and "make room" in line


def test_a_disk_that_is_full_in_the_middle_of_a_run_is_named(tmp_path):
    log = RunLog(tmp_path, iteration=0, images=1, loss_weights={"loss2": 1.0})
    log.add(IterationStats({"loss2": 1.0}, 2.0, 0.1, 0.0))
    (tmp_path / LOG_FILE).unlink()
    (tmp_path / LOG_FILE).symlink_to("/dev/full")
    with pytest.raises(UserError, match="log.jsonl cannot be written .*make room .*--resume auto"):
        log.write(1)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_that_no_machine_can_hold_are_refused(workers, drawn_set):
    config = LoaderConfig(str(drawn_set), 10**9, 128, 1.5, workers=workers)
    with pytest.raises(LoaderError, match="1000000000 images at 128 pixels need .* smaller batch"):
        Loader(config)


def test_a_batch_size_that_is_too_large_is_one_line(drawn_set, tmp_path):
    options = "--batch-size", 10**9, "--out", tmp_path / "run", "--quiet"
    done = run("mcc_caffe.train", drawn_set, *options)
    assert "give a smaller batch size" in refusal(done, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0, -1])
def test_settings_of_the_data_layer_are_finite(value):
    with pytest.raises(LoaderError, match="sigma is .*it must be above 0"):
        LoaderConfig("set", 1, 128, float(value))
