"""Solvers and nets on which Caffe aborts, or which train nothing, are refused in one line."""

import re

import numpy as np
import pytest

from mcc_caffe import train
from mcc_caffe.caffe_io.protobuf import messages, read_text, text_format
from mcc_caffe.core.errors import UserError
from mcc_caffe.training.prototxt_check import check_finite, check_solver
from tests.fuzz.mutations import mutate_bytes
from tests.support.commands import ROOT, refusal, run

SOLVER = ROOT / "solver/mini/solver.prototxt"


def changed(**fields):
    """Return the text of mini's solver with other fields; None leaves one out."""
    solver = read_text("SolverParameter", SOLVER)
    lines = [line for line in str(solver).splitlines() if line.split(":")[0] not in fields]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"lr_policy": '"often"'}, "the lr_policy 'often' is none of Caffe's: fixed, step"),
        ({"lr_policy": None}, "the lr_policy '' is none of Caffe's"),
        ({"stepsize": None}, "stepsize is 0, it must be above 0"),
        ({"stepsize": -5}, "stepsize is -5"),
        ({"gamma": None}, "gamma is 0, it must be above 0"),
        ({"lr_policy": '"exp"', "gamma": None}, "gamma is 0"),
        ({"lr_policy": '"inv"', "gamma": None}, "gamma is 0"),
        ({"lr_policy": '"multistep"', "gamma": None}, "gamma is 0"),
        ({"lr_policy": '"sigmoid"', "stepsize": None}, "stepsize is 0"),
        ({"regularization_type": '"L3"'}, "the regularization_type 'L3' is none"),
        ({"test_iter": 3}, "has test_iter, which this command does not take"),
        ({"test_net": '"x"'}, "has test_net"),
        ({"test_state": "{}"}, "has test_state"),
        ({"train_net": '"x"'}, "has train_net"),
        ({"net_param": "{}"}, "has net_param"),
        ({"weights": '"none.caffemodel"'}, "has weights.*--weights FILE"),
        ({"solver_type": "ADAM"}, "has solver_type"),
        ({"average_loss": 0}, "average_loss is 0"),
        ({"iter_size": 0}, "iter_size is 0"),
        ({"max_iter": 0}, "max_iter is 0"),
        ({"type": '"AdaGrad"'}, "AdaGrad takes no momentum, it is 0.9"),
        ({"type": '"RMSProp"'}, "RMSProp takes no momentum"),
        ({"type": '"RMSProp"', "momentum": None, "rms_decay": 1}, "rms_decay is 1"),
        ({"type": '"Adamant"'}, "the solver type 'Adamant' is none of Caffe's: SGD, Nesterov"),
        ({"snapshot_format": "HDF5"}, "snapshot_format is HDF5"),
        ({"base_lr": "nan"}, "base_lr is nan: give a finite number"),
        ({"base_lr": "inf"}, "base_lr is inf: give a finite number"),
        ({"base_lr": None}, "base_lr is 0, it must be above 0"),
        ({"base_lr": -1}, "base_lr is -1"),
        ({"momentum": "nan"}, "momentum is nan"),
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"weight_decay": "nan"}, "weight_decay is nan"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"clip_gradients": "nan"}, "clip_gradients is nan"),
        ({"snapshot": -1}, "snapshot is -1"),
    ],
)
def test_a_wrong_solver_is_refused(fields, words, tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text(changed(**fields))
    with pytest.raises(UserError, match=words) as caught:
        check_solver(path, read_text("SolverParameter", path))
    assert str(path) in str(caught.value)


def test_a_rate_that_falls_along_a_sigmoid_is_taken(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text(changed(lr_policy='"sigmoid"', gamma=-0.001))
    check_solver(path, read_text("SolverParameter", path))


@pytest.mark.parametrize("path", sorted(ROOT.glob("solver/*/*.prototxt")), ids=str)
def test_the_solvers_of_the_project_are_taken(path):
    check_solver(path, read_text("SolverParameter", path))


def test_numbers_of_a_net_are_finite(tmp_path):
    net = text_format.Parse(
        'layer { name: "a" param { lr_mult: 1 } param { lr_mult: nan } }',
        messages().NetParameter(),
    )
    with pytest.raises(UserError, match=r"layer.param.lr_mult is nan"):
        check_finite(tmp_path, net)


def replace_in_layer(name, old, new):
    """Return a change of a net's text in the layer of that name."""

    def change(text):
        start = text.index(f'name: "{name}"')
        changed = re.sub(old, new, text[start:], count=1)
        assert changed != text[start:]
        return text[:start] + changed

    return change


@pytest.mark.parametrize(
    "change, words",
    [
        (replace_in_layer("conv1_1", '"Convolution"', '"Convolutoin"'), "Unknown layer type"),
        (replace_in_layer("conv1_1", '"(msra|xavier)"', '"best"'), "Unknown filler name: best"),
        (replace_in_layer("conv1_1", 'bottom: "data"', 'bottom: "date"'), "date"),
        (replace_in_layer("conv1_1", "kernel_size: 3", "kernel_size: 0"), "Check failed"),
        (replace_in_layer("conv1_1", "kernel_size: 3", "kernel_size: 3 axis: 9"), "axis"),
        (
            replace_in_layer("data", "mcc_caffe.data_layer", "mcc_caffe.no_layer"),
            "mcc_caffe.no_layer",
        ),
        (replace_in_layer("data", "HandDataLayer", "FootDataLayer"), "FootDataLayer"),
        (replace_in_layer("data", 'top: "heatmaps"', 'top: "heat"'), "heatmaps"),
    ],
)
def test_a_net_that_caffe_aborts_on_is_refused_in_one_line(change, words, drawn_set, tmp_path):
    net, solver = tmp_path / "net.prototxt", tmp_path / "solver.prototxt"
    text = text_format.MessageToString(
        read_text("NetParameter", ROOT / "prototxt/mini/train.prototxt")
    )
    net.write_text(change(text))
    solver.write_text(changed(net=f'"{net}"'))
    out = tmp_path / "run"
    done = run("mcc_caffe.train", drawn_set, "--solver", solver, "--out", out, "--batch-size", 1)
    line = refusal(done)
    assert words in line and str(net) in line
    assert not out.exists()


@pytest.mark.parametrize("kind", ["solver", "net"])
def test_a_prototxt_that_is_not_utf_8_is_refused(kind, drawn_set, tmp_path):
    net, solver = tmp_path / "net.prototxt", tmp_path / "solver.prototxt"
    solver.write_text(changed(net=f'"{net}"'))
    (net if kind == "net" else solver).write_bytes(b'name: "\xff\xfe"')
    with pytest.raises(UserError, match=rf"{kind}.prototxt is not a \w+ prototxt: .*utf-8"):
        train.prepare_run(train.parse_arguments([str(drawn_set), "--solver", str(solver)]))


@pytest.mark.parametrize("name", ["", "none.prototxt", "."])
def test_a_net_that_is_not_there_is_named_with_its_solver(name, drawn_set, tmp_path):
    solver = tmp_path / "solver.prototxt"
    solver.write_text(changed(net=f'"{name}"'))
    with pytest.raises(UserError, match=f"solver.prototxt names the net '{name}', which was not"):
        train.prepare_run(train.parse_arguments([str(drawn_set), "--solver", str(solver)]))


@pytest.mark.parametrize(
    "fields, options, interval",
    [({}, [], 1000), ({"snapshot": 7}, [], 7), ({"snapshot": 7}, ["--snapshot", "5"], 5)],
)
def test_a_solver_without_snapshots_takes_those_of_the_variant(
    fields, options, interval, drawn_set, tmp_path, monkeypatch
):
    monkeypatch.setattr(train, "try_users_solver", lambda *_: None)
    solver = tmp_path / "solver.prototxt"
    solver.write_text(changed(**{"snapshot": 0, **fields}))
    words = [str(drawn_set), "--solver", str(solver), "--out", str(tmp_path / "run"), *options]
    assert train.prepare_run(train.parse_arguments(words)).snapshot_interval == interval


@pytest.mark.parametrize("folder", ["prototxt", "./prototxt", ROOT / "prototxt"], ids=str)
@pytest.mark.parametrize("without", [[], ["--without", "mask"]], ids=str)
def test_a_net_of_another_variant_is_known_by_its_name(folder, without, drawn_set, tmp_path):
    solver = tmp_path / "solver.prototxt"
    solver.write_text(changed(net=f'"{folder}/paper/train.prototxt"'))
    options = [str(drawn_set), "--solver", str(solver), "--out", str(tmp_path / "run"), *without]
    with pytest.raises(UserError, match="solver.prototxt is for the variant paper, the training"):
        train.prepare_run(train.parse_arguments(options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", ["-1", str(1 << 32), "x"])
def test_a_wrong_seed_is_refused(seed, capsys):
    with pytest.raises(SystemExit):
        train.parse_arguments(["set", "--seed", seed])
    assert "--seed" in capsys.readouterr().err


def test_a_thousand_mutations_of_a_solver_are_taken_or_refused(tmp_path):
    random = np.random.default_rng(0)
    path, content, refused = tmp_path / "solver.prototxt", SOLVER.read_bytes(), 0
    for _ in range(1000):
        mutated = mutate_bytes(content, random)
        path.write_bytes(mutated)
        try:
            check_solver(path, read_text("SolverParameter", path))
        except UserError:
            refused += 1
    assert 300 < refused < 1000
