"""The weights that a command takes where its user gives none."""

import pathlib

import pytest

from mcc_caffe.caffe_io import default_weights
from mcc_caffe.core.errors import UserError


def test_the_newest_weights_are_taken_without_their_solver_states(weights, tmp_path, monkeypatch):
    """Only a training needs the states, which are larger and often removed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default_weights, "shipped_weights", lambda variant: None)
    folder = pathlib.Path("runs/mini/snapshots")
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match="no weights: train first .* holds none"):
        default_weights.default_weights("mini")
    for iteration in (3, 20):
        (folder / f"mcc_iter_{iteration}.caffemodel").write_bytes(weights.read_bytes())
    (folder / "mcc_iter_3.solverstate").write_bytes(b"cut short")
    assert default_weights.default_weights("mini") == folder / "mcc_iter_20.caffemodel"
