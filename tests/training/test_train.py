"""Training as a user runs it: real Caffe, the mini net, drawn hands."""

import dataclasses
import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import lmdb
import numpy as np
import pytest

from caffe_build.locate import importable_folder
from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.default_weights import shipped_weights
from mcc_caffe.caffe_io.protobuf import read_text
from mcc_caffe.caffe_io.pycaffe import gpu_ids, has_cuda
from mcc_caffe.caffe_io.run_folder import find_data_layer
from mcc_caffe.core.errors import UserError
from mcc_caffe.data.batches import batch_indices
from mcc_caffe.data.loader_config import LoaderConfig
from mcc_caffe.paper import MINI, VARIANTS
from mcc_caffe.train import main, parse_arguments, prepare_run
from tests.support.commands import (
    ROOT,
    Begun,
    begin,
    files_of,
    hear_a_hang_up,
    log,
    losses,
    main_refusal,
    refusal,
    run,
    run_code,
    run_program,
    start,
    wait_for,
)
from tests.support.hands import write_set

SHIPPED = shipped_weights("mini")
# Two images an iteration, so that an iteration takes a fraction of a second.
FAST = ("--batch-size", 2, "--interval", 1, "--workers", 1)


def train(*arguments, **options):
    return run("mcc_caffe.train", *arguments, **options)


def test_nohup_keeps_a_run_alive(drawn_set, tmp_path):
    folder = tmp_path / "run"
    process = start_training(
        *(drawn_set, "--out", folder, "--iterations", 4, *FAST),
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    wait_for(lambda: (folder / "log.jsonl").read_text(), process)
    process.send_signal(signal.SIGHUP)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0 and log(folder)[-1]["iteration"] == 4, errors


@pytest.fixture(scope="module")
def finished(drawn_set, tmp_path_factory):
    """A run of 6 iterations with a snapshot every 3."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    done = train(drawn_set, "--out", folder, "--iterations", 6, "--snapshot", 3, *FAST)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_leaves_log_snapshots_and_what_it_used(finished):
    assert [line["iteration"] for line in log(finished)] == [1, 2, 3, 4, 5, 6]
    line = log(finished)[0]
    assert set(line["losses"]) == {"loss_mask", *(f"loss{stage}" for stage in range(2, 7))}
    assert set(line["ratio_to_trivial"]) == {f"loss{stage}" for stage in range(2, 7)}
    assert line["loss"] == pytest.approx(
        0.5 * line["losses"]["loss_mask"] + sum(list(line["losses"].values())[1:]), rel=1e-4
    )
    assert line["images_per_second"] > 0 and line["data_wait"] >= 0
    names = {path.name for path in (finished / "snapshots").iterdir()}
    assert names == {
        ".partial",
        *(f"mcc_iter_{n}.{kind}" for n in (3, 6) for kind in ("caffemodel", "solverstate")),
    }
    assert not list((finished / "snapshots/.partial").iterdir())
    assert (finished / "train.prototxt").is_file() and (finished / "solver.prototxt").is_file()


def test_the_first_answer_is_the_trivial_one(finished):
    """The background's bias starts at 1, so that each stage starts near the trivial answer."""
    for ratio in log(finished)[0]["ratio_to_trivial"].values():
        assert 0.8 < ratio < 1.5


def test_a_killed_and_resumed_run_has_the_losses_of_an_uninterrupted_one(
    finished, drawn_set, tmp_path
):
    folder = tmp_path / "killed"
    process = start_training(
        *(drawn_set, "--out", folder, "--iterations", 500, "--snapshot", 3, *FAST),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: snapshots.pairs(folder / "snapshots"), process)
    wait_for(
        lambda: len((folder / "log.jsonl").read_text().splitlines()) >= 5, process
    )  # lost work
    process.send_signal(signal.SIGKILL)
    process.wait()
    for pair in snapshots.pairs(folder / "snapshots")[:-1]:  # back to iteration 3
        pair.unlink()
    done = train(drawn_set, "--out", folder, "--iterations", 6, "--resume", "auto", *FAST)
    assert done.returncode == 0 and "resumed at iteration 3" in done.stderr, done.stderr
    uninterrupted, resumed = losses(finished), losses(folder)
    assert list(resumed) == [1, 2, 3, 4, 5, 6]
    for iteration, expected in uninterrupted.items():
        assert resumed[iteration] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_a_snapshot_and_ends(number, drawn_set, tmp_path):
    folder = tmp_path / "run"
    process = start_training(
        *(drawn_set, "--out", folder, "--iterations", 500, *FAST),
        stderr=subprocess.DEVNULL,
        preexec_fn=hear_a_hang_up,
    )
    wait_for(lambda: len((folder / "log.jsonl").read_text().splitlines()) >= 2, process)
    process.send_signal(number)
    if number == signal.SIGHUP:  # a closed terminal sends it twice
        time.sleep(0.005)
        process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "stopped; go on with --resume auto" in output
    state = snapshots.newest(folder / "snapshots")
    assert state and f"mcc_iter_{log(folder)[-1]['iteration']}." in state.path.name


def test_a_run_whose_output_nobody_reads_goes_on_and_ends_with_a_snapshot(drawn_set, tmp_path):
    """Ctrl-C in `train 2>&1 | tee log` ends `tee` first, and then reaches the training."""
    folder = tmp_path / "run"
    process = start_training(
        *(drawn_set, "--out", folder, "--iterations", 500, *FAST), stderr=subprocess.STDOUT
    )

    def iterations():
        return len((folder / "log.jsonl").read_text().splitlines())

    wait_for(iterations, process)
    process.stdout.close()
    last_shown = iterations()
    wait_for(lambda: iterations() >= last_shown + 3, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    state = snapshots.newest(folder / "snapshots")
    assert state and f"mcc_iter_{log(folder)[-1]['iteration']}." in state.path.name


def test_a_damaged_newest_snapshot_is_passed_over(finished, drawn_set, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    newest = folder / "snapshots/mcc_iter_6.solverstate"
    newest.write_bytes(newest.read_bytes()[:1000])
    (folder / "snapshots/mcc_iter_9.solverstate").write_bytes(b"no weights beside it")
    (folder / "snapshots/.partial/mcc_iter_9.caffemodel").write_bytes(b"cut by a kill")
    done = train(drawn_set, "--out", folder, "--iterations", 4, "--resume", "auto", *FAST)
    assert done.returncode == 0, done.stderr
    assert "mcc_iter_6.solverstate" in done.stdout + done.stderr  # it names the damaged one
    assert f"resumed at iteration 3 from {folder}" in done.stderr
    assert not list((folder / "snapshots/.partial").iterdir())


@pytest.mark.parametrize("resume", [("--resume", "auto"), ()])
def test_a_run_of_whose_snapshots_none_is_whole_is_not_replaced(
    resume, finished, drawn_set, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for state in (folder / "snapshots").glob("*.solverstate"):
        state.write_bytes(state.read_bytes()[:1000])
    before = files_of(folder)
    done = train(drawn_set, "--out", folder, "--iterations", 8, *resume, *FAST)
    assert done.returncode == 2 and "of whose snapshots none can be read" in done.stderr
    assert files_of(folder) == before


def test_a_run_is_not_replaced_by_one_that_goes_on_from_a_snapshot_of_another(
    finished, drawn_set, tmp_path
):
    folder, other = tmp_path / "run", finished / "snapshots/mcc_iter_6.solverstate"
    shutil.copytree(finished, folder)
    before = files_of(folder)
    command = (drawn_set, "--out", folder, "--iterations", 8, "--resume", other, *FAST)
    assert "holds a run, up to mcc_iter_6.solverstate" in refusal(train(*command))
    assert files_of(folder) == before


@pytest.mark.parametrize("resume", [["--resume", "auto"], []], ids=str)
def test_weights_without_their_solver_states_are_not_replaced(
    resume, finished, drawn_set, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for state in (folder / "snapshots").glob("*.solverstate"):
        state.unlink()
    before = files_of(folder)
    done = train(drawn_set, "--out", folder, "--iterations", 8, *resume, *FAST)
    assert "up to mcc_iter_6.caffemodel: give another --out" in refusal(done)
    assert files_of(folder) == before


def test_a_run_that_weights_began_goes_on_without_them(finished, drawn_set, tmp_path):
    folder, start = tmp_path / "run", finished / "snapshots/mcc_iter_6.caffemodel"
    command = (drawn_set, "--out", folder, "--weights", start, "--resume", "auto", *FAST)
    done = train(*command, "--iterations", 2)
    assert done.returncode == 0 and f"{start}: 51 layers loaded by name" in done.stderr, done.stderr
    done = train(*command, "--iterations", 3)
    assert done.returncode == 0 and "resumed at iteration 2" in done.stderr, done.stderr
    assert f"{start}: not loaded, the run goes on from" in done.stderr
    done = train(drawn_set, "--weights", start, "--resume", start.with_suffix(".solverstate"))
    assert "leave --weights out" in refusal(done)


def test_later_snapshots_are_no_part_of_a_run_that_goes_on_before_them(
    finished, drawn_set, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    third, sixth = (folder / f"snapshots/mcc_iter_{n}.solverstate" for n in (3, 6))
    done = train(drawn_set, "--out", folder, "--iterations", 6, "--resume", third, *FAST)
    line = refusal(done)
    assert "later snapshots" in line and "up to mcc_iter_6.solverstate" in line
    sixth.unlink()  # its weights stay, which are not those of this run
    earlier = sixth.with_suffix(".caffemodel").read_bytes()
    command = (drawn_set, "--out", folder, "--resume", third, "--snapshot", 100, *FAST)
    done = train(*command, "--iterations", 6, "--no-augmentation")
    assert done.returncode == 0 and "mcc_iter_6.caffemodel" in done.stdout, done.stderr
    assert sixth.is_file() and sixth.with_suffix(".caffemodel").read_bytes() != earlier


def test_a_resumed_run_goes_on_with_the_next_of_iter_size_batches(drawn_set, tmp_path):
    solver = (ROOT / "solver/mini/solver.prototxt").read_text() + "iter_size: 2\n"
    (tmp_path / "solver.prototxt").write_text(solver)
    command = (drawn_set, "--solver", tmp_path / "solver.prototxt", "--snapshot", 2, *FAST)
    for folder, iterations in (("apart", 2), ("apart", 4), ("in_one", 4)):
        arguments = ("--out", tmp_path / folder, "--iterations", iterations, "--resume", "auto")
        done = train(*command, *arguments)
        assert done.returncode == 0, done.stderr
        first = 2 * (folder == "apart" and iterations == 4)
        assert f"iterations {first} to {iterations}" in done.stderr
    apart, in_one = losses(tmp_path / "apart"), losses(tmp_path / "in_one")
    assert list(apart) == list(in_one) == [1, 2, 3, 4]
    for iteration, expected in in_one.items():
        assert apart[iteration] == pytest.approx(expected, rel=1e-4)


def test_the_log_has_the_means_of_all_batches_of_an_iteration(drawn_set, tmp_path):
    text = (ROOT / "solver/mini/solver.prototxt").read_text()
    text = text.replace("base_lr: 0.001", "base_lr: 1e-20")  # the weights stay as they start
    for name, iter_size in (("apart", 1), ("together", 3)):
        solver = tmp_path / f"{name}.prototxt"
        solver.write_text(text + f"iter_size: {iter_size}\n")
        arguments = ("--solver", solver, "--out", tmp_path / name, "--iterations", 6 // iter_size)
        done = train(drawn_set, *arguments, *FAST)
        assert done.returncode == 0, done.stderr
    first, _ = log(tmp_path / "together")
    assert first["images_per_second"] * first["seconds"] == pytest.approx(6)  # 3 batches of 2
    apart, together = losses(tmp_path / "apart"), losses(tmp_path / "together")
    for iteration in (1, 2):
        batches = [apart[3 * iteration - offset] for offset in range(3)]
        means = {name: np.mean([batch[name] for batch in batches]) for name in batches[0]}
        assert together[iteration] == pytest.approx(means, rel=1e-5)


def test_a_resumed_run_says_what_is_other_than_before(drawn_set, tmp_path):
    folder = tmp_path / "run"
    command = (drawn_set, "--out", folder, "--workers", 1, "--interval", 1, "--resume", "auto")
    first = ("--batch-size", 2, "--only-stages", "--weights", SHIPPED, "--input-size", 64)
    done = train(*command, *first, "--iterations", 1)
    assert done.returncode == 0 and "from here on" not in done.stderr, done.stderr
    done = train(*command, *first, "--iterations", 2, "--workers", 0)
    assert done.returncode == 0 and "from here on" not in done.stderr, done.stderr
    done = train(*command, "--batch-size", 3, "--colours", "--iterations", 3)
    assert done.returncode == 0, done.stderr
    for words in (
        "batch_size is 3 from here on, it was 2",
        "input_size is 128 from here on, it was 64",
        "colours is True from here on, it was False",
        "conv1_1, conv1_2, conv2_1, conv2_2, conv3_1 and 11 more learn at other rates or decays",
        "an iteration has 3 images from here on, it had 2",
    ):
        assert words in done.stderr


def test_a_resumed_run_says_which_set_has_other_samples(drawn_samples, two_sets, tmp_path, caplog):
    source, other = tmp_path / "set", two_sets / "validation"
    write_set(source, drawn_samples)
    words = [f"mix:{source}*0.5+{other}*0.5", "--out", tmp_path / "run", *FAST]
    done = train(*words, "--iterations", 1)
    assert done.returncode == 0, done.stderr
    resumed = [*map(str, words), "--resume", "auto", "--iterations", "2"]
    prepare_run(parse_arguments(resumed))
    assert "from here on" not in caplog.text
    shutil.rmtree(source)
    write_set(source, drawn_samples[:3])
    prepare_run(parse_arguments(resumed))
    assert f"{source} has 3 samples from here on, it had 10: they come in" in caplog.text
    assert caplog.text.count("from here on") == 1
    caplog.clear()
    for content in ("[]", "{}"):  # of another kind, and without these sets
        (tmp_path / "run/samples.json").write_text(content)
        prepare_run(parse_arguments(resumed))
    assert "from here on" not in caplog.text


def test_a_resumed_run_says_that_its_precision_is_another(drawn_set, tmp_path, caplog):
    words = [drawn_set, "--out", tmp_path / "run", *FAST, "--precision", "float32"]
    done = train(*words, "--iterations", 1)
    assert done.returncode == 0, done.stderr
    precision_file = tmp_path / "run/precision.txt"
    assert precision_file.read_text() == "float32\n"
    resumed = [*map(str, words), "--resume", "auto", "--iterations"]
    prepare_run(parse_arguments([*resumed, "2"]))
    assert "from here on" not in caplog.text
    precision_file.write_text("bfloat16\n")
    prepare_run(parse_arguments([*resumed, "2"]))
    assert "precision is float32 from here on, it was bfloat16" in caplog.text
    caplog.clear()
    precision_file.unlink()  # as in an older run
    prepare_run(parse_arguments([*resumed, "2"]))
    assert "from here on" not in caplog.text


# Ctrl-C in the first iteration.
INTERRUPTED = """
import os, signal
from mcc_caffe import train
from mcc_caffe.training.loop import _Loop

step = _Loop._step

def interrupted_step(loop):
    os.kill(os.getpid(), signal.SIGINT)
    return step(loop)

_Loop._step = interrupted_step
train.main()
"""


def test_a_run_that_ends_in_its_first_iteration_leaves_the_precision(drawn_set, tmp_path):
    """The snapshot is then still that of the iterations in the other precision."""
    words = [drawn_set, "--out", tmp_path / "run", *FAST, "--precision", "float32"]
    done = train(*words, "--iterations", 1)
    assert done.returncode == 0, done.stderr
    precision_file = tmp_path / "run/precision.txt"
    precision_file.write_text("bfloat16\n")
    words = [*words, "--resume", "auto", "--iterations", "2"]
    interrupt = functools.partial(run_code, INTERRUPTED)
    for resume, expected in ((interrupt, "bfloat16"), (train, "float32")):
        done = resume(*words)
        assert done.returncode == 0, done.stderr
        assert "precision is float32 from here on, it was bfloat16" in done.stderr
        assert precision_file.read_text() == f"{expected}\n"


@pytest.mark.parametrize(
    "earlier, options, expected",
    [
        ({}, ["--iterations", "8"], []),
        ({"max_iter": 8}, [], ["max_iter is 40000 from here on, it was 8"]),
        (
            {"base_lr": 0.0002, "lr_policy": "multistep", "stepvalue": [4, 5], "display": 1},
            ["--iterations", "8"],
            [
                "base_lr is 0.001 from here on, it was 0.0002",
                "lr_policy is step from here on, it was multistep",
                "stepvalue is [] from here on, it was [4, 5]",
            ],
        ),
        (
            {"lr_policy": "poly", "max_iter": 9},
            ["--iterations", "8", "--solver", "{run}/solver.prototxt"],
            ["max_iter is 8 from here on, it was 9"],
        ),
    ],
)
def test_a_resumed_run_says_what_is_other_in_its_solver(
    earlier, options, expected, finished, drawn_set, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("mcc_caffe.train.try_users_solver", lambda *_: None)
    run_folder = tmp_path / "run"
    shutil.copytree(finished, run_folder)
    solver = read_text("SolverParameter", run_folder / "solver.prototxt")
    solver.MergeFrom(type(solver)(**earlier))
    (run_folder / "solver.prototxt").write_text(str(solver))
    words = [str(drawn_set), "--out", str(run_folder), "--resume", "auto", "--batch-size", "2"]
    words += [option.format(run=run_folder) for option in options]
    prepare_run(parse_arguments(words))
    assert [text for text in caplog.messages if "from here on" in text] == expected


def test_a_file_in_the_place_of_the_runs_folder_is_named(drawn_set, tmp_path):
    (tmp_path / "run").write_text("notes")
    with pytest.raises(UserError, match=f"{tmp_path}/run is no folder: move it away"):
        prepare_run(parse_arguments([str(drawn_set), "--out", str(tmp_path / "run")]))
    assert (tmp_path / "run").read_text() == "notes"


def resume_with_changed_net(finished, run_folder, data, change):
    """Prepare a run that goes on with a finished one, whose net was another: `change` makes it."""
    shutil.copytree(finished, run_folder)
    net = read_text("NetParameter", run_folder / "train.prototxt")
    change(net, {layer.name: layer for layer in net.layer})
    (run_folder / "train.prototxt").write_text(str(net))
    words = [str(data), "--out", str(run_folder), "--resume", "auto", "--batch-size", "2"]
    prepare_run(parse_arguments([*words, "--workers", "0", "--iterations", "8"]))


def test_a_resumed_run_says_what_is_other_in_its_layers(finished, drawn_set, tmp_path, caplog):
    def change(net, layers):
        layers["conv6_2_CPM_loss_mask"].loss_weight[:] = [0.125]
        layers["conv1_1"].convolution_param.weight_filler.type = "gaussian"
        layers["relu_conv1_1"].relu_param.negative_slope = 0.25
        net.layer.add(name="silence", type="Silence")

    run_folder = tmp_path / "run"
    resume_with_changed_net(finished, run_folder, drawn_set, change)
    assert [text for text in caplog.messages if "from here on" in text] == [
        f"other from here on than in {run_folder}/train.prototxt: relu_param of relu_conv1_1, "
        "loss_weight of conv6_2_CPM_loss_mask, layer silence"
    ]


def test_a_resumed_run_says_what_is_other_in_what_its_layers_learn(
    finished, drawn_set, tmp_path, caplog
):
    def change(net, layers):
        layers["conv1_1"].param[0].decay_mult = 7
        layers["conv1_2"].param[0].lr_mult = 7
        layers["conv2_1"].param[0].name = "shared"
        layers["relu_conv1_1"].param.add(decay_mult=7)
        layers["relu_conv1_2"].python_param.param_str = "{}"

    run_folder = tmp_path / "run"
    resume_with_changed_net(finished, run_folder, drawn_set, change)
    assert [text for text in caplog.messages if "from here on" in text] == [
        "conv1_1, conv1_2 learn at other rates or decays from here on (--only-stages, or those in "
        "the net): a box head on an earlier trunk may not fit any more",
        f"other from here on than in {run_folder}/train.prototxt: param of relu_conv1_1, "
        "python_param of relu_conv1_2, param of conv2_1",
    ]


def test_a_run_is_not_gone_on_with_by_a_net_of_another_name(finished, drawn_set, tmp_path):
    run_folder, net = tmp_path / "run", tmp_path / "other.prototxt"
    shutil.copytree(finished, run_folder)
    text = (ROOT / "prototxt/mini/train.prototxt").read_text()
    net.write_text(text.replace("MCC_mini_train", "MCC_plain_train"))
    solver = (ROOT / "solver/mini/solver.prototxt").read_text()
    (tmp_path / "solver.prototxt").write_text(
        solver.replace("prototxt/mini/train.prototxt", str(net))
    )
    words = [str(drawn_set), "--out", str(run_folder), "--resume", "auto", "--iterations", "8"]
    words += ["--solver", str(tmp_path / "solver.prototxt")]
    before = files_of(run_folder)
    with pytest.raises(UserError, match="is of the net 'MCC_mini_train', the training's is 'MCC_p"):
        prepare_run(parse_arguments(words))
    assert files_of(run_folder) == before


def test_a_refused_resume_leaves_the_run_as_it_was(finished, drawn_set, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = files_of(folder)
    for stage in ("mask", "pose"):
        done = train(drawn_set, "--out", folder, "--resume", "auto", "--without", stage, *FAST)
        assert "does not fit the net" in refusal(done)
        assert files_of(folder) == before


def test_a_run_replaces_no_file_of_the_users(drawn_set, tmp_path):
    solver, text = tmp_path / "solver.prototxt", (ROOT / "solver/mini/solver.prototxt").read_text()
    log = tmp_path / "logs/log.jsonl"
    solver.write_text(text)
    log.parent.mkdir()
    log.write_text("notes of mine")
    for options in (("--solver", solver, "--out", tmp_path), ("--out", log.parent)):
        done = train(drawn_set, *options, "--iterations", 1, *FAST)
        assert "would be overwritten" in refusal(done)
    assert solver.read_text() == text and log.read_text() == "notes of mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "solver.prototxt"]
    assert [path.name for path in log.parent.iterdir()] == ["log.jsonl"]


def test_another_solver_type_goes_on_but_not_from_adams_history(finished, drawn_set, tmp_path):
    solver = tmp_path / "sgd.prototxt"
    text = (ROOT / "solver/mini/solver.prototxt").read_text()
    solver.write_text(
        re.sub("(?m)^momentum2.*\n", "", text.replace('"Adam"', '"Nesterov"')).replace(
            "base_lr: 0.001", "base_lr: 1e-5"
        )
    )
    done = train(drawn_set, "--solver", solver, "--out", tmp_path / "run", "--iterations", 1, *FAST)
    assert done.returncode == 0 and "Nesterov" in done.stderr, done.stderr
    state = finished / "snapshots/mcc_iter_3.solverstate"
    done = train(
        *(drawn_set, "--solver", solver, "--out", tmp_path / "other", "--iterations", 6),
        *("--resume", state, *FAST),
    )
    assert "history blobs" in refusal(done)


def test_a_mixture_trains_on_windows_and_in_other_colours(drawn_set, tmp_path):
    source = f"mix:{drawn_set}*0.5+synth:seed=0&size=64*0.5"
    options = ("--windows", "1.1,2.5", "--upright", "--colours", "--strong")
    done = train(source, *options, "--out", tmp_path, "--iterations", 2, *FAST)
    assert done.returncode == 0, done.stderr
    assert list(losses(tmp_path)) == [1, 2]
    config = loader_of(read_text("NetParameter", tmp_path / "train.prototxt"))
    assert config.source == source and config.upright and config.colours and config.strong
    assert (config.smallest_window, config.largest_window) == (1.1, 2.5)


def loader_of(net):
    """The settings of a net's data layer."""
    return LoaderConfig.from_json(find_data_layer(net).param_str)


@pytest.fixture
def solver_with_own_loader(tmp_path):
    """A function that writes a solver whose net has these settings of its data layer."""

    net_path, path = tmp_path / "own.prototxt", tmp_path / "solver.prototxt"

    def solver(**settings):
        net = read_text("NetParameter", ROOT / "prototxt/mini/train.prototxt")
        config = dataclasses.replace(loader_of(net), **settings)
        find_data_layer(net).param_str = config.to_json()
        net_path.write_text(str(net))
        text = (ROOT / "solver/mini/solver.prototxt").read_text()
        path.write_text(text.replace("prototxt/mini/train.prototxt", str(net_path)))
        return path

    return solver


WINDOWS = {"smallest_window": 1.1, "largest_window": 2.5}
OWN = {
    **WINDOWS,
    **dict.fromkeys(("upright", "colours", "strong"), True),
    **{"batch_size": 3, "input_size": 64, "workers": 5},
}


@pytest.mark.parametrize(
    "own, options, changed",
    [
        (OWN, [], {}),
        ({"augment": False}, [], {}),
        ({"augment": False}, ["--windows", "1.1,2.5"], {"augment": True, **WINDOWS}),
        ({"augment": False}, ["--colours"], {"augment": True, "colours": True}),
        ({"augment": False}, ["--strong"], {"augment": True, "strong": True}),
        (WINDOWS, ["--upright"], {"upright": True}),
        (WINDOWS | {"augment": False}, ["--upright"], {"augment": True, "upright": True}),
        (OWN, ["--no-augmentation"], {"augment": False}),
        (OWN, ["--workers", 0, "--batch-size", 2], {"workers": 0, "batch_size": 2}),
        (OWN, ["--windows", "1.2,2"], {"smallest_window": 1.2, "largest_window": 2.0}),
    ],
)
def test_what_no_option_names_is_the_nets_own(
    own, options, changed, solver_with_own_loader, drawn_set, tmp_path
):
    solver = solver_with_own_loader(**own)
    words = [str(drawn_set), "--solver", str(solver), "--out", str(tmp_path / "run")]
    loader = prepare_run(parse_arguments([*words, *map(str, options)])).loader
    assert {name: getattr(loader, name) for name in own | changed} == own | changed
    assert loader_of(read_text("NetParameter", tmp_path / "run/train.prototxt")) == loader


@pytest.mark.parametrize(
    "own, options, expected",
    [(5, [], 5), (5, ["--seed", "0"], 0), (-1, [], 0)],  # -1 is Caffe's word for any
)
def test_the_seed_of_the_samples_is_the_options_or_else_the_solvers(
    own, options, expected, solver_with_own_loader, drawn_set, tmp_path, monkeypatch
):
    monkeypatch.setattr("mcc_caffe.train.try_users_solver", lambda *_: None)
    solver = solver_with_own_loader()
    solver.write_text(solver.read_text().replace("random_seed: 0", f"random_seed: {own}"))
    words = [str(drawn_set), "--solver", str(solver), "--out", str(tmp_path / "run"), *options]
    assert prepare_run(parse_arguments(words)).loader.seed == expected
    used = read_text("SolverParameter", tmp_path / "run/solver.prototxt")
    assert used.random_seed == (0 if options else own)


def test_windows_may_all_have_the_side_of_the_hands_box():
    assert parse_arguments(["set", "--windows", "1,1"]).windows == (1.0, 1.0)


def test_quiet_says_nothing_but_the_result(drawn_set, tmp_path):
    done = train(drawn_set, "--quiet", "--out", tmp_path, "--iterations", 1, *FAST)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert done.stdout.startswith("finished: iteration 1 of 1, weights ")


@pytest.mark.parametrize("without", ["mask", "pose"])
def test_ablations_train(without, drawn_set, tmp_path):
    done = train(drawn_set, "--without", without, "--out", tmp_path, "--iterations", 2, *FAST)
    assert done.returncode == 0, done.stderr
    assert ("loss_mask" in log(tmp_path)[0]["losses"]) == (without == "pose")
    assert ("loss6" in log(tmp_path)[0]["losses"]) == (without == "mask")


def test_a_solver_of_another_variant_is_refused(drawn_set, tmp_path):
    solver = ROOT / "solver/paper/solver_release.prototxt"
    done = train(drawn_set, "--solver", solver, "--out", tmp_path / "run")
    assert (
        f"{solver} is for the variant paper, the training for mini: give --variant paper"
        in refusal(done)
    )
    assert not (tmp_path / "run").exists()


def test_a_variant_that_caffe_refuses_is_told_before_anything_is_written(
    drawn_set, tmp_path, monkeypatch
):
    net, solver = tmp_path / "train.prototxt", tmp_path / "solver.prototxt"
    text = (ROOT / "prototxt/mini/train.prototxt").read_text()
    net.write_text(text.replace("MCC_mini", "MCC_own").replace('"msra"', '"he"'))
    text = (ROOT / "solver/mini/solver.prototxt").read_text()
    solver.write_text(text.replace("prototxt/mini/train.prototxt", str(net)))
    monkeypatch.setitem(VARIANTS, "own", dataclasses.replace(MINI, name="own"))
    monkeypatch.setattr("mcc_caffe.training.run_net.require_shipped", lambda _: solver)
    words = [str(drawn_set), "--variant", "own", "--out", str(tmp_path / "run")]
    with pytest.raises(UserError, match="Caffe refuses it .*Unknown filler name: he"):
        prepare_run(parse_arguments(words))
    assert not (tmp_path / "run").exists()


def test_without_a_stage_by_a_solver_of_the_users(drawn_set, tmp_path):
    """The solver names the whole net; what --without leaves out is left out of it."""
    text = (ROOT / "solver/mini/solver.prototxt").read_text()
    solver = tmp_path / "solver.prototxt"
    solver.write_text(text)
    short = (drawn_set, "--iterations", 1, *FAST, "--solver", solver, "--without", "mask")
    done = train(*short, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "conv6_2_CPM" not in (tmp_path / "run/train.prototxt").read_text()
    assert "loss_mask" not in log(tmp_path / "run")[0]["losses"]
    own_net = tmp_path / "own.prototxt"
    shutil.copy(ROOT / "prototxt/mini/train.prototxt", own_net)
    solver.write_text(text.replace("prototxt/mini/train.prototxt", str(own_net)))
    done = train(*short, "--out", tmp_path / "other")
    assert f"names the net '{own_net}', and --without mask is for the nets of" in refusal(done)
    assert not (tmp_path / "other").exists()


def test_weights_load_by_name(finished, drawn_set, tmp_path):
    weights = finished / "snapshots/mcc_iter_6.caffemodel"
    done = train(
        *(drawn_set, "--without", "mask", "--weights", weights, "--out", tmp_path / "a"),
        *("--iterations", 1, "--quiet", *FAST),
    )
    assert "Mconv1_stage2 is [(32, 34, 7, 7)" in refusal(done, 3)
    done = train(
        *(drawn_set, "--without", "pose", "--weights", weights, "--out", tmp_path / "b"),
        *("--iterations", 1, *FAST),
    )
    assert done.returncode == 0 and "layers loaded by name; random start: none" in done.stderr


@pytest.fixture
def diverging_solver(tmp_path):
    """A solver after whose first step no loss is finite."""
    solver = tmp_path / "solver.prototxt"
    text = (ROOT / "solver/mini/solver.prototxt").read_text()
    solver.write_text(text.replace('"Adam"', '"SGD"').replace("base_lr: 0.001", "base_lr: 1e6"))
    return solver


def test_nan_stops_with_the_iteration_and_the_keys(diverging_solver, drawn_set, tmp_path):
    done = train(
        *(drawn_set, "--solver", diverging_solver, "--out", tmp_path / "run"),
        *("--iterations", 20, *FAST),
    )
    assert done.returncode == 5
    assert re.search(
        r"error: iteration \d+: the loss is .*nan.*, batch 0000\d+_drawn.*; "
        "there is no snapshot yet: lower base_lr and start again",
        done.stderr,
    )
    assert not snapshots.pairs(tmp_path / "run/snapshots")


def test_nan_names_a_snapshot_that_resume_takes(diverging_solver, drawn_set, tmp_path):
    done = train(
        *(drawn_set, "--solver", diverging_solver, "--out", tmp_path / "run"),
        *("--iterations", 20, "--snapshot", 1, *FAST),
    )
    assert done.returncode == 5
    named = re.search("the last snapshot is (.*): lower base_lr and resume from it", done.stderr)
    assert named
    assert snapshots.read_state(named[1]).message.iter == 1


@pytest.mark.parametrize("workers, words", [(0, ""), (1, "loader worker 0, ")])
@pytest.mark.parametrize("bad", [0, 2])
def test_an_unreadable_record_ends_the_run_after_a_snapshot(
    bad, workers, words, drawn_set, tmp_path
):
    source, folder = tmp_path / "set", tmp_path / "run"
    shutil.copytree(drawn_set, source)
    index = batch_indices(LoaderConfig(str(source), 1, 64, 1.0), 10, bad, 0, 1)[0]
    key = f"{index:08d}_drawn{index}.jpg"
    with lmdb.open(str(source / "images")) as database, database.begin(write=True) as transaction:
        transaction.put(key.encode(), b"not a Datum")
    command = (source, "--out", folder, "--batch-size", 1, "--input-size", 64, "--interval", 10)
    done = train(*command, "--workers", workers, "--iterations", 20)
    assert done.returncode == 4 and "Traceback" not in done.stderr
    reason = f"error: {words}iteration {bad}: {key}: the record is not a Caffe Datum"
    assert reason in done.stderr, done.stderr
    assert "mend them, or build the set again with --skip-bad" in done.stderr
    assert "--resume" not in done.stdout + done.stderr  # which would meet the same record
    assert [line["iteration"] for line in log(folder)] == [bad] * (bad > 0)
    snapshot = snapshots.newest(folder / "snapshots")
    assert snapshot.path.stem == f"mcc_iter_{bad}" if bad else snapshot is None


def test_gpus_are_refused_by_a_cpu_build_or_machine(drawn_set, tmp_path):
    if has_cuda() and 97 in gpu_ids():
        pytest.skip("this machine has a GPU 97")
    done = train(drawn_set, "--gpus", "0,97", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    line = refusal(done)
    assert any(
        words in line
        for words in (
            "built for the CPU only",
            "nvidia-smi lists no GPU on this machine",
            "GPU 97 does not exist",
        )
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{tmp}/none"], "none/images/data.mdb was not found"),
        (
            ["{set}", "--weights", "{tmp}/none.caffemodel"],
            "the weights file {tmp}/none.caffemodel was not found",
        ),
        (["{set}", "--weights", "{set}/images/data.mdb"], "is not a complete NetParameter file"),
        (["{set}", "--solver", "{tmp}/none"], "the solver {tmp}/none was not found"),
        (
            ["{set}", "--solver", "{root}/prototxt/mini/train.prototxt"],
            "is not a SolverParameter prototxt",
        ),
        (
            ["{set}", "--solver", "{tmp}/wrong.prototxt"],
            "the solver type 'Adamant' is none of Caffe's: SGD, Nesterov",
        ),
        (
            ["{set}", "--resume", "{tmp}/none.solverstate"],
            "the snapshot {tmp}/none.solverstate was not found",
        ),
        (["{set}", "--iterations", "0"], "error: argument --iterations: 0 is not above 0"),
        (["{set}", "--gpus", "zero"], "'zero' is no list of GPU ids"),
        (["mix:{set}"], "'{set}' in 'mix:{set}' is no source with a share above 0"),
        (["mix:{set}*-1"], "'{set}*-1' in 'mix:{set}*-1' is no source with a share above 0"),
        (["mix:{set}*0.5+{tmp}/none*0.5"], "none/images/data.mdb was not found"),
        (["{set}", "--windows", "2.5"], "'2.5' is no pair such as 1.1,2.5"),
        (["{set}", "--windows", "2.5,1.1"], "'2.5,1.1' is no pair such as 1.1,2.5"),
        (["{set}", "--windows", "1.1,inf"], "'1.1,inf' is no pair such as 1.1,2.5"),
        (
            ["{set}", "--colours", "--no-augmentation"],
            "--windows, --upright, --colours and --strong are augmentation: leave them or",
        ),
        (["{set}", "--strong", "--no-augmentation"], "leave them or --no-augmentation out"),
        (["{set}", "--upright"], "--upright turns windows: give --windows too"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, drawn_set, tmp_path, monkeypatch):
    monkeypatch.setattr("mcc_caffe.train.train", begin)  # what is not refused ends here
    paths = {"tmp": tmp_path, "set": drawn_set, "root": ROOT}
    (tmp_path / "wrong.prototxt").write_text('net: "prototxt/mini/train.prototxt" type: "Adamant"')
    words = [argument.format(**paths) for argument in arguments]
    assert message.format(**paths) in main_refusal(main, *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_only_a_run_that_is_not_refused_is_said_to_begin(drawn_set, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("mcc_caffe.train.train", begin)
    options = ("--resume", "auto", "--out", str(tmp_path / "run"))
    with caplog.at_level("INFO"):
        main_refusal(main, tmp_path / "none", *options)
        assert "the run begins" not in caplog.text
        with pytest.raises(Begun):
            main([str(drawn_set), *options])
        assert "the run begins" in caplog.text


def test_a_wrong_argument_gives_one_line(tmp_path):
    done = train("nowhere", "--iterations", 0, "--out", tmp_path / "run")
    assert "error: argument --iterations: 0 is not above 0" in refusal(done)


def test_a_run_is_not_overwritten(finished, drawn_set):
    done = train(drawn_set, "--out", finished, "--iterations", 3, *FAST)
    assert "holds a run, up to mcc_iter_6.solverstate" in refusal(done)
    done = train(drawn_set, "--out", finished, "--iterations", 6, "--resume", "auto", *FAST)
    assert "is at iteration 6 already" in refusal(done)


def test_snapshot_of_another_net_is_refused(finished, drawn_set, tmp_path):
    state = finished / "snapshots/mcc_iter_3.solverstate"
    done = train(
        *(drawn_set, "--without", "pose", "--resume", state, "--out", tmp_path),
        *("--iterations", 6, *FAST),
    )
    assert "resume with the variant and the ablation" in refusal(done)


def test_the_stock_caffe_tool_trains_the_same_net(caffe_tool, drawn_set, tmp_path):
    """`caffe train` takes our solver, net and layer; its embedded Python starts the workers."""
    net = (
        (ROOT / "prototxt/mini/train.prototxt")
        .read_text()
        .replace("data/lmdb/train", str(drawn_set))
    )
    (tmp_path / "train.prototxt").write_text(net.replace('batch_size\\": 13', 'batch_size\\": 2'))
    solver = (
        (ROOT / "solver/mini/solver.prototxt").read_text().replace("max_iter: 40000", "max_iter: 2")
    )
    solver = solver.replace(
        "prototxt/mini/train.prototxt", str(tmp_path / "train.prototxt")
    ).replace("runs/mini/snapshots", str(tmp_path))
    (tmp_path / "solver.prototxt").write_text(solver)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{importable_folder()}",
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = run_program(
        caffe_tool, "train", "-solver", tmp_path / "solver.prototxt", env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "mcc_iter_2.caffemodel").is_file()


def test_the_page_gives_the_stock_tool_a_folder_of_its_own(tmp_path):
    """Caffe aborts where the folder of the snapshots is not there."""
    page = (ROOT / "docs/training.md").read_text()
    before = page[: page.index("caffe train -solver runs/stock/solver.prototxt")]
    commands = re.findall(r"^    ((?:mkdir|sed) .*)$", before, re.MULTILINE)[-2:]
    (tmp_path / "solver").symlink_to(ROOT / "solver")
    run_program("bash", "-ec", "\n".join(commands), cwd=tmp_path)
    solver = read_text("SolverParameter", tmp_path / "runs/stock/solver.prototxt")
    assert solver.snapshot_prefix.startswith("runs/stock/")
    assert (tmp_path / solver.snapshot_prefix).parent.is_dir()


def start_training(*arguments, **options):
    """Start a training as a user would, in a process group of its own."""
    return start("mcc_caffe.train", *arguments, start_new_session=True, **options)


def test_two_trainings_in_one_folder_are_refused(drawn_set, tmp_path):
    folder = tmp_path / "run"
    first = start_training(drawn_set, "--out", folder, "--iterations", 500, *FAST)
    try:
        wait_for(lambda: (folder / "log.jsonl").read_text(), first)
        second = train(drawn_set, "--out", folder, "--iterations", 500, *FAST)
        line = refusal(second)
        assert f"process {first.pid} on " in line and "trains in it" in line
    finally:
        first.kill()
        first.communicate()
    # The lock dies with its process.
    done = train(drawn_set, "--out", folder, "--iterations", 1, *FAST)
    assert done.returncode == 0, done.stderr


def test_a_limit_on_the_size_of_files_is_told_before_the_first_iteration(drawn_set, tmp_path):
    options = ("--out", tmp_path, "--quiet", *FAST)
    command = [sys.executable, "-m", "mcc_caffe.train", drawn_set, *options]
    done = run_program("bash", "-c", 'ulimit -f 20000; exec "$@"', "bash", *command)
    assert "a file may have 19 MiB here" in refusal(done)
    assert not (tmp_path / "log.jsonl").exists()
