"""The benchmark for GPUs without a GPU: its refusals, its nets, and its comparison on the CPU."""

import json
import os
import runpy
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest

from benchmarks import gpu, gpu_worker, nets
from mcc_caffe.caffe_io.pycaffe import gpu_ids
from mcc_caffe.core.errors import UserError
from mcc_caffe.paper import LAST_STAGE, MINI, stage_blob
from tests.support.builds import write_program
from tests.support.commands import refusal, run


def test_without_a_gpu_it_is_one_line(tmp_path):
    if gpu_ids():
        pytest.skip("this machine has a GPU")
    done = run("benchmarks.gpu", "--out", tmp_path / "out")
    line = refusal(done)
    assert line.startswith("error: GPU 0 was asked for, but ")
    assert "make caffe GPU=1" in line or "install NVIDIA's driver" in line
    assert done.stdout == "" and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "python, words",
    [
        ("/nowhere/python", "--torch /nowhere/python: No such file"),
        (
            [sys.executable, "-S"],
            "will not do .*No module named 'torch'.*PyTorch for CUDA, or leave it out",
        ),
    ],
)
def test_an_interpreter_without_torch_is_refused(python, words, tmp_path):
    if isinstance(python, list):
        script = tmp_path / "python"
        script.write_text(f'#!/bin/sh\nexec {" ".join(python)} "$@"\n')
        script.chmod(0o755)
        python = str(script)
    with pytest.raises(UserError, match=words):
        gpu.require_torch(python)


def test_the_net_fed_by_hand_is_the_train_net():
    train = nets.read_train_net("mini")
    net = nets.fed_by_hand(train, nets.random_batch("mini", 3))
    inputs = [layer for layer in net.layer if layer.type == "Input"]
    assert list(net.layer[len(inputs) :]) == list(train.layer[1:])
    assert {layer.top[0]: [*layer.input_param.shape[0].dim] for layer in inputs} == {
        "data": [3, 3, 128, 128],
        "mask_label": [3, 1, 16, 16],
        "heatmaps": [3, 22, 16, 16],
    }
    assert [layer.top[0] for layer in inputs] == list(train.layer[0].top)


def test_what_differs_most():
    expected = {"a": np.array([3.0, 4.0]), "b": np.array([1.0]), "c": np.zeros(2)}
    assert gpu_worker.compare(expected, expected)["error"] == 0
    arrays = {**expected, "a": np.array([3.0, 4.5]), "b": np.array([0.9])}
    assert gpu_worker.compare(arrays, expected) == {"blob": "a", "error": pytest.approx(0.1)}
    assert gpu_worker.compare({**arrays, "c": np.array([0, 1e-9])}, expected) == {
        "blob": "c",
        "error": float("inf"),
    }
    assert gpu_worker.compare({**arrays, "b": np.array([np.nan])}, expected) == {
        "blob": "b",
        "error": float("inf"),
    }


def test_the_cpu_agrees_with_itself_and_the_comparison_is_not_blind():
    values, gradients = gpu_worker.compute("mini", None)
    again, gradients_again = gpu_worker.compute("mini", None)
    assert (
        gpu_worker.compare(again, values)["error"] < 1e-6
        and gpu_worker.compare(gradients_again, gradients)["error"] < 1e-6
    )
    last = stage_blob(LAST_STAGE)
    assert all(
        np.abs(values[name]).max() > 1e-3 for name in ("conv1_1", "conv5_3_CPM", last)
    )  # nothing died
    assert all(
        np.abs(gradients[name]).max() > 0 for name in ("conv1_1/0", "conv1_1/1", f"{last}/0")
    )
    assert gpu_worker.compare(
        {**gradients, "conv1_1/0": gradients["conv1_1/0"] * 1.01}, gradients
    ) == {"blob": "conv1_1/0", "error": pytest.approx(0.01, rel=1e-3)}


def test_the_worker_describes_itself():
    done = run("benchmarks.gpu_worker", "--help")
    assert done.returncode == 0 and "benchmarks.gpu_worker training VARIANT GPU" in done.stdout
    done = run("benchmarks.gpu_worker", "training")
    assert done.returncode == 1 and "benchmarks.gpu_worker training VARIANT GPU" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("nothing", "mini", "cpu"),
        ("training", "huge", "cpu", "1", "1"),
        ("training", "mini", "gpu", "1", "1"),
        ("training", "mini", "cpu", "1", "two"),
        ("training", "mini", "cpu", "1"),
        ("agreement", "mini", "cpu", "1"),
    ],
)
def test_the_worker_describes_itself_where_the_arguments_do_not_fit(words):
    with pytest.raises(SystemExit) as stopped:
        gpu_worker.main(*words)
    assert stopped.value.code == gpu_worker.__doc__


def test_the_worker_refuses_a_gpu_that_caffe_cannot_use():
    done = run("benchmarks.gpu_worker", "training", "mini", 97, 1, 1)
    assert refusal(done, code=1).startswith("error: GPU 97 ")


def test_the_workers_figures_on_the_cpu():
    done = run("benchmarks.gpu_worker", "training", "mini", "cpu", "1", "1")
    figure = json.loads(done.stdout)
    assert figure["seconds"] > 0 and figure["mib"] is None
    done = run("benchmarks.gpu_worker", "inference", "mini", "cpu", "1", "1")
    figure = json.loads(done.stdout)
    assert 0 < figure["network"] < figure["total"] and figure["levels"] == 1


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Stand for the nvidia-smi of a machine whose GPU 2 has 1234 MiB in use."""
    text = '[ "$1 $2" = "--id=2 --query-gpu=memory.used" ] && echo 1234'
    write_program(tmp_path / "bin/nvidia-smi", text)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)


def test_the_memory_of_caffe_and_of_pytorch_is_what_nvidia_smi_says(
    nvidia_smi, tmp_path, monkeypatch, capsys
):
    """The tests need neither a GPU nor PyTorch: a stand-in takes its calls."""
    select_device = gpu_worker.select_device
    monkeypatch.setattr(gpu_worker, "require_gpus", lambda gpus: None)
    monkeypatch.setattr(gpu_worker, "select_device", lambda gpu: select_device(None))
    assert gpu_worker.training("mini", 2, 1, 1)["mib"] == 1234
    torch = MagicMock()
    torch.device.return_value.index = 2
    for name in ("torch", "benchmarks.peers.torch_net", "benchmarks.peers.torch_steps"):
        monkeypatch.setitem(sys.modules, name, torch)
    (tmp_path / "layers.json").write_text("[]")
    worker = runpy.run_module("benchmarks.peers.torch_gpu_training")
    worker["main"](str(tmp_path / "layers.json"), "cuda:2", "1", "1", "0")
    assert json.loads(capsys.readouterr().out)["mib"] == 1234


def test_the_table(monkeypatch, tmp_path, capsys):
    """A whole run, in which each figure is taken on the CPU or made to fail."""

    def on_cpu(python, module, job, variant, _gpu, *numbers, environment):
        if job == "training":
            return original(python, "no_such_module", environment=environment)
        return {
            "agreement": {
                way: {"blob": "conv1_1", "error": 2e-6} for way in ("forward", "backward")
            },
            "inference": {"total": 0.012, "network": 0.01, "levels": 19},
        }[job]

    original = gpu.ask
    monkeypatch.setattr(gpu, "ask", on_cpu)
    monkeypatch.setattr(
        gpu, "measure_with_loader", lambda source, card: {"seconds": 0.5, "wait": 0.125}
    )
    monkeypatch.setattr(gpu, "require_gpus", lambda ids: None)
    monkeypatch.setattr(gpu, "query_card", lambda card, facts: "a card")
    monkeypatch.setattr(gpu, "render_set", lambda folder: None)
    gpu.main(["--out", str(tmp_path)])
    table = (tmp_path / "gpu.md").read_text()
    assert table in capsys.readouterr().out and ", a card, " in table.splitlines()[0]
    for line in (
        "| GPU against CPU | mini | no TF32, 8 MiB "
        "| forward 2.0e-06 (conv1_1), backward 2.0e-06 (conv1_1) |",
        "| training with its data layer, batch 13 | paper | as it is "
        "| 0.500 s/iteration, 0.125 s of it waiting for data |",
        "| inference, full pyramid | paper | TF32, 64 MiB "
        "| 12.0 ms/image, 10.0 of it in the net, 19 levels |",
        "| training, batch 13 | paper | TF32, 512 MiB "
        f"| failed: {sys.executable}: No module named no_such_module |",
    ):
        assert line in table
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert len({(task, variant, setting) for task, variant, setting, _ in rows}) == len(rows)
    assert {variant for _, variant, _, _ in rows} == {"paper", MINI.name}


def test_settings():
    assert gpu.environment_for() == {"CAFFE_CUDNN_WORKSPACE_MIB": "8"}
    assert gpu.environment_for(64, tf32=False) == {
        "CAFFE_CUDNN_WORKSPACE_MIB": "64",
        "NVIDIA_TF32_OVERRIDE": "0",
    }
