"""Snapshots are complete, belong to one type of solver, and are checked before Caffe aborts."""

import sys

import numpy as np
import pytest

from mcc_caffe.caffe_io import snapshots
from mcc_caffe.caffe_io.protobuf import read_binary
from mcc_caffe.core.errors import UserError
from tests.support.snapshots import make_solver


@pytest.fixture
def folder(tmp_path):
    """A folder with snapshots of an SGD solver at the iterations 2 and 4."""
    folder = tmp_path / "snapshots"
    solver = make_solver(folder)
    for _ in range(2):
        solver.step(2)
        snapshots.save(solver, "SGD", folder)
    return folder


def test_a_restored_solver_goes_on_as_the_uninterrupted_one(folder, tmp_path):
    state = snapshots.newest(folder)
    assert state.path == folder / "mcc_iter_4.solverstate" and state.message.iter == 4
    uninterrupted, resumed = make_solver(tmp_path / "a/s"), make_solver(tmp_path / "b/s")
    snapshots.restore(resumed, "SGD", folder / "mcc_iter_2.solverstate")
    snapshots.restore(uninterrupted, "SGD", state.path)
    resumed.step(2)
    assert resumed.iter == 4
    for name, blobs in uninterrupted.net.params.items():
        for expected, blob in zip(blobs, resumed.net.params[name]):
            np.testing.assert_array_equal(blob.data, expected.data)


@pytest.mark.parametrize("suffix", ["caffemodel", "solverstate"])
@pytest.mark.parametrize("content", [b"", b"\x00", b"not protobuf at all"])
def test_an_empty_or_damaged_file_is_no_snapshot(suffix, content, folder, caplog):
    damaged = folder / f"mcc_iter_4.{suffix}"
    damaged.write_bytes(content)
    assert snapshots.newest(folder).path == folder / "mcc_iter_2.solverstate"
    assert str(damaged) in caplog.text


@pytest.mark.parametrize("suffix", ["caffemodel", "solverstate"])
def test_a_file_cut_anywhere_is_no_snapshot(suffix, folder):
    """Also where the cut falls between two fields, so that protobuf reads the rest."""
    path = folder / f"mcc_iter_4.{suffix}"
    content = path.read_bytes()
    # What follows is not needed: the layer of the loss, which has no weights; and what `save`
    # adds to a state, which says where the weights are and of which type the solver is.
    unneeded = b"\n\x04loss" if suffix == "caffemodel" else str(folder).encode() + b"/mcc"
    end = content.rindex(unneeded) - 10
    for length in range(end):
        path.write_bytes(content[:length])
        assert snapshots.newest(folder).path == folder / "mcc_iter_2.solverstate", length


def test_other_files_in_the_folder_are_no_snapshots(folder):
    for name in ("mcc_iter_abc", "mcc_iter_", "mcc_iter_-1", "mcc_iter_9²", f"m_iter_{'9' * 5000}"):
        name = name[:200]
        for suffix in ("solverstate", "caffemodel"):
            (folder / f"{name}.{suffix}").write_bytes(b"")
    assert snapshots.newest(folder).path == folder / "mcc_iter_4.solverstate"


@pytest.mark.parametrize(
    "written, resumed", [("SGD", "AdaGrad"), ("Adam", "AdaDelta"), ("SGD", "Nesterov")]
)
def test_a_solver_of_another_type_with_as_much_history_is_refused(written, resumed, tmp_path):
    solver = make_solver(tmp_path / "s", written)
    solver.step(1)
    snapshots.save(solver, written, tmp_path / "s")
    state = snapshots.newest(tmp_path / "s")
    message = f"solver type {written}, the solver has {resumed}"
    with pytest.raises(UserError, match=message):
        snapshots.check_type(state, resumed)
    with pytest.raises(UserError, match=message):
        snapshots.restore(make_solver(tmp_path / "other/s", resumed), resumed, state.path)


def test_a_snapshot_of_the_stock_caffe_names_no_type_and_is_taken(folder, tmp_path):
    state = folder / "mcc_iter_4.solverstate"
    message = read_binary("SolverState", state)
    message.DiscardUnknownFields()
    state.write_bytes(message.SerializeToString())
    assert snapshots.read_state(state).solver_type is None
    snapshots.restore(make_solver(tmp_path / "other/s"), "SGD", state)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: state.history[0].data.pop(), "has the shape"),
        (lambda state: state.history[0].shape.dim.append(1), "other shapes"),
        (lambda state: state.history[1].shape.ClearField("dim"), "other shapes"),
        (lambda state: state.history.pop(), "other shapes"),
        (lambda state: state.ClearField("history"), "no complete SolverState"),
        (lambda state: state.ClearField("iter"), "no complete SolverState"),
        (lambda state: state.ClearField("current_step"), "no complete SolverState"),
        (lambda state: setattr(state, "iter", -1), "is at iteration -1"),
        (lambda state: setattr(state, "current_step", -1), "and step -1"),
        (
            lambda state: state.history[1].data.__setitem__(0, float("nan")),
            "history blob 1 has values that are not finite",
        ),
        (
            lambda state: state.history[0].data.__setitem__(1, float("-inf")),
            "history blob 0 has values that are not finite",
        ),
    ],
)
def test_a_state_with_a_wrong_history_is_refused(change, words, folder, tmp_path):
    state = folder / "mcc_iter_4.solverstate"
    message = read_binary("SolverState", state)
    change(message)
    state.write_bytes(message.SerializeToString())
    with pytest.raises(UserError, match=words):
        snapshots.restore(make_solver(tmp_path / "other/s"), "SGD", state)
    assert snapshots.newest(folder).path == folder / "mcc_iter_2.solverstate"


def test_a_history_of_doubles_is_restored(folder, tmp_path):
    state = folder / "mcc_iter_4.solverstate"
    message = read_binary("SolverState", state)
    for blob in message.history:
        blob.double_data.extend(blob.data)
        blob.ClearField("data")
    state.write_bytes(message.SerializeToString())
    solver = make_solver(tmp_path / "other/s")
    snapshots.restore(solver, "SGD", state)
    assert solver.iter == 4


def test_a_limit_on_the_size_of_files_is_named_before_caffe_writes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots.resource, "getrlimit", lambda _: (64, 64))
    solver = make_solver(tmp_path / "other/s")
    message = "may have 0 MiB here and a snapshot may need 1: raise the limit .ulimit -f"
    with pytest.raises(UserError, match=message):
        snapshots.save(solver, "SGD", tmp_path / "other/s")


SHARED = """
layer { name: "x" type: "DummyData" top: "x" top: "y0" dummy_data_param {
    shape { dim: 2 dim: 3 } data_filler { type: "gaussian" std: 1 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" %s
    inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" %s
    inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "b" bottom: "y0" top: "loss" }
"""


@pytest.mark.parametrize(
    "parameters",
    [
        ('param { name: "weights" } param { name: "bias" }',) * 2,
        ('param { name: "weights" }',) * 2,
        ('param { name: "a" }', 'param { name: "b" } param { lr_mult: 2 }'),
    ],
)
@pytest.mark.parametrize("solver_type", ["SGD", "Adam"])
def test_layers_that_share_parameters_have_one_history(parameters, solver_type, tmp_path):
    solver = make_solver(tmp_path / "a/s", solver_type, SHARED % parameters)
    solver.step(2)
    snapshots.save(solver, solver_type, tmp_path / "a/s")
    state = snapshots.newest(tmp_path / "a/s").path
    assert state == tmp_path / "a/s/mcc_iter_2.solverstate"
    resumed = make_solver(tmp_path / "b/s", solver_type, SHARED % parameters)
    snapshots.restore(resumed, solver_type, state)
    assert resumed.iter == 2
    for name, blobs in solver.net.params.items():
        for expected, blob in zip(blobs, resumed.net.params[name]):
            np.testing.assert_array_equal(blob.data, expected.data)
    resumed.step(1)
    if "weights" in parameters[0]:  # Caffe would abort over the number of histories
        apart = make_solver(tmp_path / "c/s", solver_type, SHARED % ("", ""))
        with pytest.raises(UserError, match="does not fit the net"):
            snapshots.restore(apart, solver_type, state)


def test_the_type_is_read_with_protobuf_of_python_3_10(folder, monkeypatch):
    """Its messages return their unknown fields; those of a later protobuf only raise an error."""
    module = pytest.importorskip("google.protobuf.unknown_fields")
    written = snapshots.read_state(folder / "mcc_iter_4.solverstate").message

    class OldMessage:
        def UnknownFields(self):
            return module.UnknownFieldSet(written)

    monkeypatch.setitem(sys.modules, "google.protobuf.unknown_fields", None)
    assert snapshots._solver_type(OldMessage()) == "SGD"


def test_a_state_says_of_which_type_its_solver_was(folder):
    assert snapshots.read_state(folder / "mcc_iter_4.solverstate").solver_type == "SGD"


def test_the_newest_snapshot_is_that_of_the_highest_iteration(tmp_path):
    for iteration in (9, 10, 2):
        (tmp_path / f"mcc_iter_{iteration}.caffemodel").touch()
    names = [path.name for path in snapshots.weights_files(tmp_path)]
    assert names == [f"mcc_iter_{iteration}.caffemodel" for iteration in (10, 9, 2)]
